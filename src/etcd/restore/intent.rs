//! What a restore is doing, in `intent.json`: written and synced before each step, and read when an interrupted restore
//! is found.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use super::plan::Planned;
use super::separate_wal::Log;
use crate::model::{Digest, Format, lift};
use crate::sys::files;

pub(super) const INTENT: &str = "intent.json";

/// An intent is a few hundred bytes, and the members' names and URLs.
pub(super) const MAX_INTENT: u64 = 1 << 20;

/// The format of the intent.
pub(super) const FORMAT: Format = Format {
    key: "intent",
    versions: &[
        "the step, and what is restored; files of this version may have what version 2 lists, and may lack it",
        "the database as it was built; of what is restored: bump, log",
    ],
    lift: lift::nothing,
};

/// What is being done, as it is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    pub(super) version: u32,
    pub(super) step: Step,
    pub(super) restored: Restored,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(super) enum Step {
    /// What is next to the intent may be anything between nothing and a whole member.
    Building,
    /// It is whole, and replaces the present data.
    Swapping {
        /// The inode of what was built.
        built: u64,
        /// Its database; nothing in an intent that was written before there was this.
        #[serde(default)]
        database: Option<AsBuilt>,
    },
}

/// A database that nobody wrote since it was built: an etcd writes it as soon as it has opened it. Its device is not looked
/// at, which may have another number after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AsBuilt {
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl AsBuilt {
    pub(super) fn of(member: &Path) -> io::Result<Option<Self>> {
        let found = files::standing(&member.join("snap/db"))?;
        Ok(found.map(|file| Self { inode: file.ino(), bytes: file.len(), modified: (file.mtime(), file.mtime_nsec()) }))
    }
}

/// A data directory that was made of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Restored {
    /// The SHA-256 of the database it was made of.
    pub snapshot: Digest,
    /// The member's name.
    pub name: String,
    /// The cluster, as `--initial-cluster`.
    pub cluster: String,
    /// The token its IDs are made with.
    pub token: String,
    /// The revision that was moved to, if any.
    pub moved_to: Option<i64>,
    /// `--bump-revision`, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bump: Option<u64>,
    /// The name, in the data directory, of what was there before.
    pub aside: Option<String>,
    /// Its log, where that is separate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
}

/// How a restore that was interrupted came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It had not come to the exchange: what was built is removed, the old data remain.
    Undone,
    /// It had: it is completed.
    Completed(Restored),
    /// The same, and its database was written since, or nothing tells: it may be anything now.
    Overtaken(Restored),
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let completed = "an interrupted restore that was almost done is completed";
        match self {
            Self::Undone => f.write_str("an interrupted restore is undone: the data are as before"),
            Self::Completed(_) => f.write_str(completed),
            Self::Overtaken(_) => write!(f, "{completed}; its database is not known to be as it was built"),
        }
    }
}

impl Intent {
    pub(super) fn building(planned: &Planned) -> Self {
        let plan = &planned.plan;
        let me = plan.cluster.members.iter().find(|member| member.id == plan.cluster.me);
        let restored = Restored {
            snapshot: plan.snapshot.sha256,
            name: me.map(|me| me.name.clone()).unwrap_or_default(),
            cluster: plan.cluster.initial(),
            token: plan.cluster.token.clone(),
            moved_to: plan.revisions.moved_to,
            bump: planned.bump,
            aside: None,
            log: plan.wal_dir.clone().map(|dir| Log { dir, aside: None }),
        };
        Self { version: FORMAT.version(), step: Step::Building, restored }
    }
}

impl Restored {
    /// Whether this is what is planned once more: of the same snapshot for the same cluster, with its log in the same
    /// place; whatever its token is, and how far its revisions moved, where neither was asked for.
    pub fn is(&self, planned: &Planned) -> bool {
        let other = Intent::building(planned).restored;
        let token = planned.token_is_ours || self.token == other.token;
        let moved = planned.moves_freely || self.moved_to == other.moved_to;
        self.same() == other.same() && token && moved
    }

    /// What the operator asks for again.
    fn same(&self) -> (Digest, &str, &str, Option<u64>, Option<&Path>) {
        let log = self.log.as_ref().map(|log| log.dir.as_path());
        (self.snapshot, &self.name, &self.cluster, self.bump, log)
    }
}
