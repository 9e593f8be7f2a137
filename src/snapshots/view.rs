//! The section of status on snapshots.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::duration::roughly;
use crate::config::size;
use crate::model::Snapshots;
use crate::model::clock::between;
use crate::model::snapshot::{Newest, Sent};

/// A status's word on snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SnapshotsView {
    /// Whether the agent takes them.
    pub enabled: bool,
    /// Where they are kept.
    pub directory: String,
    /// The newest that is verified.
    pub newest: Option<NewestView>,
    /// Whether there should be a newer one by now.
    pub late: bool,
    /// How many are verified.
    pub verified: usize,
    /// Files that are not verified.
    pub unverified: Vec<String>,
    /// Files that were verified, and whose bytes differ now: the daily check found it.
    #[serde(default)]
    pub damaged: Vec<String>,
    /// Of those that are verified, when the one was last read that waits longest for its check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// Values in etcd that the API server of this node lacks the keys of; absent where it has all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecryptable: Option<UndecryptableView>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Why the last try failed, where it did.
    pub failed: Option<String>,
    /// Those in object storage; absent where none are sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteView>,
}

/// Values in etcd that a restore put there, and that the API server cannot decrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UndecryptableView {
    /// When the restore put them there.
    pub since: Timestamp,
    pub values: u64,
    /// The keys that are missing: provider and name.
    pub keys: Vec<String>,
}

/// The snapshots in object storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemoteView {
    pub url: String,
    /// The newest that is verified there, of this cluster.
    pub newest: Option<NewestView>,
    /// Whether there should be a newer one by now.
    pub behind: bool,
    /// How many are verified.
    pub verified: usize,
    /// Objects that are not verified.
    pub unverified: Vec<String>,
    /// When it was looked at last.
    pub looked: Option<Timestamp>,
    /// Since when nothing gets there, where that is so.
    pub failing_since: Option<Timestamp>,
    pub failed: Option<String>,
}

/// The newest snapshot that is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewestView {
    /// The file's name.
    pub file: String,
    /// When it was taken.
    pub at: Timestamp,
    /// How long ago that is.
    pub age_seconds: u64,
    /// The newest MVCC revision in it.
    pub revision: i64,
    /// Bytes of it.
    pub bytes: u64,
    /// When it was verified.
    pub verified: Timestamp,
}

impl NewestView {
    fn new(newest: &Newest, now: Timestamp) -> Self {
        Self {
            file: newest.file.clone(),
            at: newest.at,
            age_seconds: between(newest.at, now).as_secs(),
            revision: newest.revision,
            bytes: newest.bytes,
            verified: newest.verified,
        }
    }

    fn of_sent(sent: &Sent, now: Timestamp) -> Self {
        Self {
            file: sent.file.clone(),
            at: sent.at,
            age_seconds: between(sent.at, now).as_secs(),
            revision: sent.revision,
            bytes: sent.bytes,
            verified: sent.verified,
        }
    }
}

impl fmt::Display for RemoteView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.url)?;
        let behind = if self.behind { ", behind" } else { "" };
        match &self.newest {
            Some(newest) => {
                let age = roughly(Duration::from_secs(newest.age_seconds));
                write!(f, "newest {age} old{behind}, revision {}; {} verified", newest.revision, self.verified)?;
            }
            None => write!(f, "none is verified there yet{behind}")?,
        }
        if !self.unverified.is_empty() {
            write!(f, "; {} not verified", self.unverified.len())?;
        }
        match (self.failing_since, &self.failed) {
            (Some(since), Some(why)) => write!(f, "; failing since {since:.0}: {why}"),
            _ => Ok(()),
        }
    }
}

impl SnapshotsView {
    /// As of now.
    pub fn new(snapshots: &Snapshots, now: Timestamp) -> Self {
        let newest = snapshots.newest.as_ref().map(|newest| NewestView::new(newest, now));
        let remote = snapshots.remote.as_ref().map(|remote| RemoteView {
            url: remote.url.clone(),
            newest: remote.newest.as_ref().map(|sent| NewestView::of_sent(sent, now)),
            behind: snapshots.is_behind(now),
            verified: remote.verified,
            unverified: remote.unverified.iter().map(|(name, _)| name.clone()).collect(),
            looked: remote.looked,
            failing_since: remote.failing.as_ref().map(|failing| failing.since),
            failed: remote.failing.as_ref().map(|failing| failing.why.clone()),
        });
        Self {
            enabled: snapshots.enabled,
            directory: snapshots.directory.clone(),
            newest,
            late: snapshots.is_late(now),
            verified: snapshots.verified,
            unverified: snapshots.unverified.iter().map(|(file, _)| file.clone()).collect(),
            damaged: snapshots.damaged.iter().map(|(file, _)| file.clone()).collect(),
            checked: snapshots.checked,
            undecryptable: snapshots.undecryptable.as_ref().map(|values| UndecryptableView {
                since: values.since,
                values: values.values,
                keys: values.keys.clone(),
            }),
            bytes: snapshots.bytes,
            failed: snapshots.failed.as_ref().map(|failed| failed.why.clone()).or(snapshots.unreadable.clone()),
            remote,
        }
    }
}

impl fmt::Display for SnapshotsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.newest {
            Some(newest) => {
                let (age, late) =
                    (roughly(Duration::from_secs(newest.age_seconds)), if self.late { ", too old" } else { "" });
                write!(f, "newest {age} old{late}, revision {}, verified", newest.revision)?;
                write!(f, "; {} kept, {}", self.verified, size::roughly(self.bytes))?;
            }
            None => f.write_str("none is verified yet")?,
        }
        if !self.damaged.is_empty() {
            write!(f, "; {} damaged", self.damaged.len())?;
        }
        if !self.unverified.is_empty() {
            write!(f, "; {} not verified", self.unverified.len())?;
        }
        if let Some(why) = &self.failed {
            write!(f, "; the last attempt failed: {why}")?;
        }
        if self.enabled { Ok(()) } else { f.write_str("; the agent takes none (snapshots.enabled = false)") }
    }
}
