//! The stored snapshots, as `etcd snapshot list`, `save` and `prune` print them.

use std::fmt::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{lines, table};
use crate::config::duration::roughly;
use crate::config::size;
use crate::snapshots::Origin;

/// Where the bytes of a snapshot come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum OriginView {
    /// A running member sent them, with their SHA-256.
    #[serde(rename = "stream")]
    Stream,
    /// They are a copy of a database file: without a SHA-256, and without the newest entries of the WAL.
    #[serde(rename = "data directory")]
    DataDir,
}

impl From<Origin> for OriginView {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Stream => Self::Stream,
            Origin::DataDir => Self::DataDir,
        }
    }
}

impl fmt::Display for OriginView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SnapshotRow {
    pub path: String,
    /// When it was taken.
    pub at: Timestamp,
    /// How long ago that is.
    pub age_seconds: u64,
    /// The newest MVCC revision in it.
    pub revision: i64,
    /// The cluster's ID in hex.
    pub cluster: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Where its bytes come from.
    pub origin: OriginView,
    /// When it was verified; absent where it is not.
    pub verified: Option<Timestamp>,
    /// Why it is not verified, or why it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A list of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SnapshotList {
    /// Where they lie.
    pub directory: String,
    /// The newest last.
    pub snapshots: Vec<SnapshotRow>,
}

impl SnapshotList {
    pub fn new(directory: String, snapshots: Vec<SnapshotRow>) -> Self {
        Self { directory, snapshots }
    }

    pub fn text(&self) -> String {
        if self.snapshots.is_empty() {
            return format!("no snapshots in {}\n", self.directory);
        }
        let mut table = table(&["AGE", "REVISION", "SIZE", "CLUSTER", "ORIGIN", "VERIFIED", "FILE"]);
        for row in &self.snapshots {
            table.add_row([
                roughly(Duration::from_secs(row.age_seconds)),
                row.revision.to_string(),
                size::roughly(row.bytes),
                row.cluster.clone(),
                row.origin.to_string(),
                if row.verified.is_some() { "yes" } else { "no" }.to_owned(),
                row.path.rsplit('/').next().unwrap_or(&row.path).to_owned(),
            ]);
        }
        let mut out = lines(&table);
        let _ = writeln!(out, "in {}", self.directory);
        for (row, why) in self.snapshots.iter().filter_map(|row| Some((row, row.why.as_ref()?))) {
            let _ = writeln!(out, "{}: {why}", row.path.rsplit('/').next().unwrap_or(&row.path));
        }
        out
    }
}
