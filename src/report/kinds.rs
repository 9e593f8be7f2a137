//! The kinds of document: one line for each value that a command prints for machines.

#[cfg(test)]
mod promise;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod valid;

use super::certificates::Certificates;
use super::{
    Doctor, EtcdPlan, EtcdView, Explanation, History, ManifestCheck, Planned, Sizing, Snapshot, SnapshotList,
    SnapshotRow, Status, Unpacked,
};
use crate::config::show::Configuration;
use crate::etcd::restore;
use crate::model::document::{Document, List};
use crate::model::hook::Message;
use crate::model::peer::{PeerReport, Peers};

/// Gives each type its kind, and the tests the schema of each: a kind without a schema does not compile.
macro_rules! kinds {
    ($($kind:literal: $type:ty,)+) => {
        $(impl Document for $type {
            const KIND: &'static str = $kind;
        })+

        /// Every kind, with what makes its schema.
        #[cfg(test)]
        const ALL: &[(&str, fn() -> serde_json::Value)] = &[$(($kind, schemas::of::<$type>)),+];
    };
}

kinds! {
    "Status": Status,
    "HistoryList": List<History>,
    "ExplanationList": List<Explanation>,
    "Plan": Planned,
    "Certificates": Certificates,
    "Configuration": Configuration,
    "Doctor": Doctor,
    "ManifestCheckList": List<ManifestCheck>,
    "EtcdStatus": EtcdView,
    "EtcdSizing": Sizing,
    "EtcdMaintenancePlan": EtcdPlan,
    "Snapshot": SnapshotRow,
    "SnapshotList": SnapshotList,
    "SnapshotContents": Snapshot,
    "Unpacked": Unpacked,
    "Notification": Message,
    "PeerReport": PeerReport,
    "ClusterStatus": Peers,
    "RestorePlan": restore::Plan,
    "Restored": restore::Restored,
}
