//! Builds a data directory from a snapshot, by this binary alone: no etcdutl, no image, no running etcd.
//!
//! ```text
//!   Ask ─plan()▶ Planned ─build()▶ Built ─check()▶ Checked ─swap()▶ Restored
//!    │             │ shown first      │               │ read again       │ by one rename; the old data are kept
//!    └─ Refused    └ nothing changed  └ next to the   └ as if another    └ under a name that is reported
//!                                       old data        program built it
//! ```
//!
//! Each step consumes the last, so that none is left out. On disk, below the data directory (a mount point cannot be
//! renamed, its entries can):
//!
//! ```text
//!   member                            what etcd opens
//!   .lastgood-restore-ID/intent.json  the current step, written before it is taken         exchange.rs
//!   .lastgood-restore-ID/member       the new data; after the exchange, the old ones
//!   member.before-restore-TIME        the old data; lastgood never removes them
//!   .lastgood-restored-TIME.json      what was restored, when, by which program; lastgood never removes it     receipt.rs
//! ```
//!
//! A separate WAL (`--wal-dir`) has the same entries in its directory: separate_wal.rs.
//!
//! A restore that is killed at any point is ended by [`finish`]: before the exchange it is undone, after it completed.

mod block_pipe;
mod build;
mod cluster;
#[cfg(test)]
mod crash_tests;
mod encode;
mod exchange;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod golden_tests;
mod intent;
mod layout;
mod plan;
mod precheck;
mod raft_snapshot;
#[cfg(test)]
mod real_tests;
mod receipt;
mod revisions;
mod separate_wal;
mod staging;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod transform;
mod wal_writer;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::backend::Member;
use super::bbolt;
use super::encryption::Encryption;
use super::snapshot::data_dir::Unfit;
use super::snapshot::{RawCopy, Rejected};
use crate::model::manifest::RunsAs;
use crate::model::versions::Minor;

pub use super::restore::intent::{Finished, Restored};
pub use super::restore::staging::{newer, unfinished};
pub use build::{Built, Checked};
pub use cluster::{NewCluster, NewMember, NoCluster};
pub use exchange::finish;
pub use plan::{Plan, Planned};
pub use receipt::accepted;
pub use separate_wal::Log;

/// What the operator asks for. What is absent comes from the etcd manifest of the node, where there is one.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    pub from: PathBuf,
    /// Whether it may lack its SHA-256 (`--skip-hash-check`).
    pub raw_copy: RawCopy,
    /// `--name`.
    pub name: Option<String>,
    /// `--initial-cluster`.
    pub initial_cluster: Option<String>,
    /// `--initial-cluster-token`; a random one when absent.
    pub token: Option<String>,
    /// `--initial-advertise-peer-urls`.
    pub advertised: Option<String>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--wal-dir`: where its log goes, where that is to lie apart.
    pub wal_dir: Option<PathBuf>,
    /// `--bump-revision`: how far revisions move forward.
    pub bump: Option<u64>,
    /// `--replace`: the existing data in the data directory may be put aside.
    pub replace: bool,
    /// `--stopped`: the other members that the operator says are stopped, by name or ID.
    pub stopped: Vec<String>,
    /// `--etcd-version`: the etcd that will open it.
    pub etcd_version: Option<Minor>,
    /// `--accept-unreadable`.
    pub unreadable: Unreadable,
}

/// What to do with values that the API server of this node cannot decrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Refuse,
    Accept,
}

/// What is known of the node it is asked on.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The etcd of its manifest.
    pub etcd: Option<OfManifest>,
    /// The highest revision that was ever seen of this node's etcd.
    pub recorded: Option<Recorded>,
    /// What its API server decrypts with.
    pub encryption: Encryption,
}

/// What an etcd manifest says, as far as a restore needs it. Paths are those of the host.
#[derive(Clone, Debug, Default)]
pub struct OfManifest {
    pub file: PathBuf,
    /// `--name`.
    pub name: Option<String>,
    /// `--initial-advertise-peer-urls`.
    pub advertised: Option<String>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--wal-dir`, where it has one.
    pub wal_dir: Option<PathBuf>,
    /// The etcd in its image.
    pub version: Option<Minor>,
    /// The user and group that it runs as.
    pub runs_as: RunsAs,
    /// Why it may be started at any moment, where it may be. A lock on the database does not keep it away: it would wait
    /// for the lock on the file that is put aside, and then write there.
    pub startable: Option<String>,
}

/// What was seen of an etcd while it served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The highest revision.
    pub revision: i64,
    /// When that was.
    pub at: Timestamp,
    /// The members of its cluster, as it listed them last; none where it never did.
    pub members: Vec<Member>,
}

/// Why it is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It must not be; nothing was changed.
    #[error("{why}; next: {next}")]
    Refused {
        why: String,
        /// What the operator can do.
        next: String,
    },
    /// The snapshot is not taken; nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// What was built is not as it must be; the old data remain.
    #[error("the restored data are rejected, and the existing data are unchanged: {0}")]
    Unfit(#[from] Box<Unfit>),
    /// The snapshot cannot be read to its end; the old data remain.
    #[error(transparent)]
    Read(#[from] bbolt::Fault),
    /// The system's word, with the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Fault {
    fn refused(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), next: next.into() }
    }
}
