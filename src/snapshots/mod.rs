//! Snapshots of etcd's data: taken, verified, stored, pruned; by the agent on a schedule and by the operator. None of
//! it needs an API server or a quorum.
//!
//! ```text
//!   a running member's stream ─┐                ┌─ staging (next to the target, locked, private)
//!   a stopped member's files  ─┴──save──▶ write ┴─▶ fsync ─▶ read back, hash ─▶ pages ─▶ proof, rename ─▶ a snapshot
//!                                                       bundle: what else a bare machine needs, stored next to it
//!   apart: not while etcd is defragmented
//!   the ones kept ──checks──▶ each compared with its checksum once a day, slowly; what differs is named and stays
//!   a snapshot ──verify──▶ identified by the checksum in its proof, or read completely
//!              ──remote──▶ object storage (concurrently: it may stall)
//!   schedule ──due──▶ task (of the agent) ──save, prune──▶ directory ◀── retention: which snapshots to remove
//! ```

mod apart;
pub mod bundle;
mod check_task;
mod checks;
mod checksum;
pub mod directory;
mod doctor;
mod metrics;
mod name;
mod notices;
mod proof;
pub mod remote;
pub mod retention;
pub mod save;
pub mod schedule;
mod settings;
mod staging;
mod tally;
pub mod task;
pub mod task_input;
#[cfg(test)]
pub(crate) mod tests;
mod unreadable;
mod verify;
pub mod view;
mod writer;

use std::path::PathBuf;

use jiff::Timestamp;

pub use apart::{Defragmented, apart};
pub use checksum::Checksum;
pub use directory::{Directory, Locked};
pub use metrics::metrics;
pub use name::{Name, NotAName, Origin};
pub use proof::{Found, Proof, in_the_way, this_build};
pub use task::REGISTRATION;
pub use verify::{By, Depth, Earlier, verify};

use bundle::Bundle;
use checks::CheckedFile;
use retention::Held;

use crate::config::Settings;
use crate::etcd::snapshot::EncryptedBy;
use crate::model::Snapshots;
use crate::model::snapshot::{Bundled, Newest};

/// A snapshot in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub path: PathBuf,
    /// What its name says.
    pub name: Name,
    /// Bytes of the file.
    pub bytes: u64,
    /// What was found when it was verified; a sentence where it is not, or where it was damaged since.
    pub proof: Result<Proof, String>,
    /// What the last daily check of this file found.
    pub(in crate::snapshots) checked: Option<CheckedFile>,
}

impl Snapshot {
    /// One that was just verified and kept.
    pub fn kept(path: PathBuf, proof: Proof) -> Self {
        Self { path, name: proof.name, bytes: proof.bytes, proof: Ok(proof), checked: None }
    }

    /// What the last daily check found wrong with it, if anything.
    pub fn damaged(&self) -> Option<&str> {
        self.checked.as_ref()?.damaged.as_deref()
    }

    fn held(&self) -> Held {
        let bytes = self.bytes.saturating_add(bundle::bytes_beside(&self.path));
        Held { name: self.name, bytes, verified: self.proof.is_ok() }
    }
}

/// What there is to know of the snapshots these settings keep, as they are there now. `since`: since when somebody has
/// looked after them.
pub fn look(settings: &Settings, since: Timestamp) -> Snapshots {
    let directory = settings.snapshot_dir();
    let (all, unreadable) = match Directory::at(&directory).list() {
        Ok(all) => (all, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let encrypted = |snapshot: &'_ Snapshot| -> Option<(Timestamp, Vec<EncryptedBy>)> {
        let contents = &snapshot.proof.as_ref().ok()?.found.as_ref()?.contents;
        Some((snapshot.name.at, contents.encrypted.clone()?))
    };
    let proven = |snapshot: &Snapshot| {
        let proof = snapshot.proof.as_ref().ok()?;
        Some(Newest {
            file: proof.file.clone(),
            at: snapshot.name.at,
            revision: snapshot.name.revision,
            bytes: snapshot.bytes,
            verified: proof.verified,
            bundle: Bundle::read(&snapshot.path).map(Bundled::from).map_err(|fault| fault.to_string()),
        })
    };
    let why_not = |snapshot: &Snapshot| Some((snapshot.name.to_string(), snapshot.proof.as_ref().err()?.clone()));
    let (damaged, unproven): (Vec<_>, Vec<_>) =
        all.iter().filter(|snapshot| snapshot.proof.is_err()).partition(|snapshot| snapshot.damaged().is_some());
    // One that was verified since was read completely then.
    let checked = |snapshot: &Snapshot| {
        let verified = snapshot.proof.as_ref().ok()?.verified;
        Some(snapshot.checked.as_ref().map_or(verified, |found| found.at.max(verified)))
    };
    Snapshots {
        enabled: settings.snapshots.enabled,
        interval: settings.snapshots.interval,
        directory: directory.display().to_string(),
        newest: all.iter().rev().find_map(proven),
        verified: all.iter().filter(|snapshot| snapshot.proof.is_ok()).count(),
        bytes: all.iter().fold(0, |sum, snapshot| sum.saturating_add(snapshot.bytes)),
        unverified: unproven.into_iter().filter_map(why_not).collect(),
        damaged: damaged.into_iter().filter_map(why_not).collect(),
        checked: all.iter().filter_map(checked).min(),
        undecryptable: unreadable::find(settings, all.iter().rev().find_map(encrypted)),
        failed: None,
        since,
        unreadable,
        remote: remote::seen(settings),
    }
}
