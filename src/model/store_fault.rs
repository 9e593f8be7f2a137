//! Faults of etcd's data at rest that keep an etcd from starting, found without etcd, and the ways out of them.
//!
//! ```text
//!   *.snap (raft index S) ─┐   S > consistent index, no S.snap.db    etcd panics: failed to recover v3 backend from snapshot
//!   WAL (records, entries) ┼─▶ no record of S, a gap, a bad CRC      etcd exits: wal: snapshot not found, crc mismatch …
//!   db (consistent index) ─┘   no meta page, a damaged page          etcd panics: invalid database, freepages …
//! ```
//!
//! A restart changes none of them, and no manifest caused them.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::kubelet_probe::KUBEADM_ETCDCTL;

/// What keeps etcd from starting over its data, and what the data are still good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFault {
    pub kind: FaultKind,
    /// `member/snap/db` on the host.
    pub path: PathBuf,
    pub database: Database,
    /// How many other members the database names.
    pub others: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FaultKind {
    /// The newest `*.snap` that the WAL knows is newer than the database.
    SnapshotAhead {
        snapshot: PathBuf,
        /// The raft index of the snapshot.
        index: u64,
        /// Up to where the database holds what the WAL asked for.
        applied: u64,
    },
    /// A record of the WAL is damaged, and not merely cut off by a crash.
    WalDamaged { file: PathBuf, offset: u64, what: String },
    /// The WAL lacks what etcd would need of it.
    WalIncomplete { what: String },
    /// The WAL ends before what the database holds already: zeroes in its middle read as its end.
    WalBehind { last: u64, applied: u64 },
    /// The database is damaged.
    DatabaseDamaged,
    /// The database is not there.
    DatabaseMissing,
    /// lastgood keeps every etcd from starting over it.
    Barred { why: String },
}

/// What can be read of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Database {
    /// Every page was read.
    Whole {
        revision: i64,
    },
    /// It is large: its meta pages and its smaller buckets were read.
    Readable {
        revision: i64,
    },
    Damaged {
        why: String,
    },
    Missing,
}

impl Database {
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Whole { revision } | Self::Readable { revision } => Some(*revision),
            Self::Damaged { .. } | Self::Missing => None,
        }
    }
}

impl StoreFault {
    /// Whether etcd refuses to start over the data; over the others it starts, and damages them further.
    pub fn prevents_start(&self) -> bool {
        !matches!(self.kind, FaultKind::WalBehind { .. })
    }

    /// The ways out, the one that loses the least first. `latest`: revision and time of the newest verified snapshot.
    pub fn ways(&self, latest: Option<(i64, Timestamp)>) -> Vec<String> {
        if let FaultKind::Barred { .. } = self.kind {
            let undo = "`lastgood etcd unbar`, when the disk is mounted, the data are restored, or etcd may start without them";
            return vec![undo.to_owned()];
        }
        let mut ways = Vec::new();
        if self.others > 0 {
            let dir = self.member_dir();
            ways.push(format!(
                "if the other members serve, which loses nothing: on one of their nodes, `E=\"{KUBEADM_ETCDCTL}\"`, `$E \
                 member remove` for this member and `$E member add` with its peer URL; here, move {dir} away and set \
                 --initial-cluster-state=existing"
            ));
        }
        let stopped = if self.others > 0 { ", with every member stopped (see lastgood-restore(7))" } else { "" };
        if let Some(revision) = self.database.revision() {
            let path = self.path.display();
            ways.push(format!(
                "`lastgood etcd restore --from {path} --skip-hash-check` (revision {revision}; the last entries of the WAL \
                 are lost){stopped}"
            ));
        }
        ways.push(match latest {
            Some((revision, at)) => format!(
                "`lastgood etcd restore --from latest` (revision {revision}, taken {at:.0}; what was written since is \
                 lost){stopped}"
            ),
            None => format!(
                "`lastgood etcd restore --from FILE` with a snapshot; `lastgood etcd snapshot list` shows those of this \
                 node{stopped}"
            ),
        });
        ways
    }

    fn member_dir(&self) -> String {
        let member = self.path.parent().and_then(|snap| snap.parent());
        member.map_or_else(|| "member".to_owned(), |member| member.display().to_string())
    }
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::SnapshotAhead { snapshot, index, applied } => write!(
                f,
                "{} is of entry {index}, and the database holds only what was written up to entry {applied}: etcd cannot \
                 open them together (\"failed to recover v3 backend from snapshot\")",
                snapshot.display()
            )?,
            FaultKind::WalDamaged { file, offset, what } => {
                write!(
                    f,
                    "the WAL is damaged: {} at byte {offset}: {what}; etcd does not read past it",
                    file.display()
                )?;
            }
            FaultKind::WalIncomplete { what } => write!(f, "the WAL is incomplete: {what}")?,
            FaultKind::WalBehind { last, applied } => write!(
                f,
                "the WAL ends with entry {last}, and the database holds what was written up to entry {applied}: an etcd that \
                 starts over them accepts every write up to entry {applied} and skips it"
            )?,
            FaultKind::DatabaseDamaged => f.write_str("etcd cannot open its database")?,
            FaultKind::Barred { why } => write!(f, "lastgood bars etcd from {}: {why}", self.member_dir())?,
            FaultKind::DatabaseMissing => write!(f, "{} is missing, and the WAL is there", self.path.display())?,
        }
        match &self.database {
            Database::Whole { revision } => write!(f, "; the database is whole at revision {revision}"),
            Database::Readable { revision } => write!(f, "; the database is readable at revision {revision}"),
            Database::Damaged { why } => write!(f, "; the database is damaged: {why}"),
            Database::Missing => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_that_loses_the_least_comes_first_and_a_damaged_database_is_no_way() {
        let fault = |database, others| StoreFault {
            kind: FaultKind::WalIncomplete { what: "x".to_owned() },
            path: "/var/lib/etcd/member/snap/db".into(),
            database,
            others,
        };
        let whole = Database::Whole { revision: 42 };
        let latest = Some((40, Timestamp::UNIX_EPOCH));
        let damaged = || Database::Damaged { why: "page 7".to_owned() };
        for (situation, fault, latest, expected) in [
            ("alone", fault(whole.clone(), 0), latest, &["snap/db --skip-hash-check", "--from latest"][..]),
            ("no snapshot", fault(whole.clone(), 0), None, &["snap/db --skip-hash-check", "--from FILE"]),
            ("damaged", fault(damaged(), 0), latest, &["--from latest"]),
            ("damaged, no snapshot", fault(damaged(), 0), None, &["snapshot list"]),
            ("others", fault(whole, 2), latest, &["member remove", "snap/db --skip-hash-check", "--from latest"]),
        ] {
            let ways = fault.ways(latest);
            assert_eq!(ways.len(), expected.len(), "{situation}: {ways:?}");
            assert!(ways.iter().zip(expected).all(|(way, word)| way.contains(word)), "{situation}: {ways:?}");
        }
    }
}
