//! The metrics of snapshots.

use super::view::{RemoteView, SnapshotsView};
use crate::model::metrics_page::{Kind, Page, seconds, yes};

/// Writes them.
pub fn metrics(snapshots: &SnapshotsView, page: &mut Page) {
    page.one("snapshots_enabled", Kind::Gauge, "Whether the agent takes snapshots of etcd.", yes(snapshots.enabled));
    if let Some(newest) = &snapshots.newest {
        page.one(
            "snapshot_newest_verified_timestamp_seconds",
            Kind::Gauge,
            "When the newest verified snapshot was taken.",
            seconds(newest.at),
        );
        page.one(
            "snapshot_newest_verified_bytes",
            Kind::Gauge,
            "The size of the newest verified snapshot.",
            newest.bytes,
        );
        page.one(
            "snapshot_newest_verified_revision",
            Kind::Gauge,
            "The newest revision in the newest verified snapshot.",
            newest.revision,
        );
    }
    page.one("snapshot_late", Kind::Gauge, "Whether the newest verified snapshot is too old.", yes(snapshots.late));
    page.one("snapshots_verified", Kind::Gauge, "Number of verified snapshots.", snapshots.verified);
    page.one("snapshots_unverified", Kind::Gauge, "Number of unverified snapshots.", snapshots.unverified.len());
    page.one(
        "snapshots_damaged",
        Kind::Gauge,
        "Number of snapshots that the daily check found damaged.",
        snapshots.damaged.len(),
    );
    if let Some(checked) = snapshots.checked {
        page.one(
            "snapshots_oldest_check_timestamp_seconds",
            Kind::Gauge,
            "When the verified snapshot was read that waits longest for its daily check.",
            seconds(checked),
        );
    }
    page.one(
        "etcd_values_undecryptable",
        Kind::Gauge,
        "Number of values in etcd that a restore put there and the API server of this node lacks the keys of.",
        snapshots.undecryptable.as_ref().map_or(0, |values| values.values),
    );
    page.one("snapshots_bytes", Kind::Gauge, "The size of all snapshots.", snapshots.bytes);
    page.one(
        "snapshot_failing",
        Kind::Gauge,
        "Whether the last attempt to take a snapshot failed.",
        yes(snapshots.failed.is_some()),
    );
    if let Some(remote) = &snapshots.remote {
        elsewhere(page, remote);
    }
}

/// The snapshots in object storage.
fn elsewhere(page: &mut Page, remote: &RemoteView) {
    if let Some(newest) = &remote.newest {
        page.one(
            "snapshot_remote_newest_verified_timestamp_seconds",
            Kind::Gauge,
            "When the newest verified snapshot in object storage was taken.",
            seconds(newest.at),
        );
    }
    page.one(
        "snapshot_remote_behind",
        Kind::Gauge,
        "Whether the newest verified snapshot in object storage is too old.",
        yes(remote.behind),
    );
    page.one(
        "snapshots_remote_verified",
        Kind::Gauge,
        "Number of verified snapshots in object storage.",
        remote.verified,
    );
    page.one(
        "snapshots_remote_unverified",
        Kind::Gauge,
        "Number of unverified snapshots in object storage.",
        remote.unverified.len(),
    );
    page.one("snapshot_remote_failing", Kind::Gauge, "Whether the last upload failed.", yes(remote.failed.is_some()));
}
