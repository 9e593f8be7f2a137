//! Snapshots of etcd's data: taken, proven, kept, pruned; by the agent by its clock and by a person. None of it needs an
//! API server or a quorum.
//!
//! ```text
//!   a running member's stream ─┐                       ┌─ staging (beside the target, locked, private)
//!   a stopped member's files  ─┴──save──▶ write, hash ─┴─▶ fsync ─▶ verify whole ─▶ proof, rename ─▶ a snapshot
//!   schedule ──due──▶ keeper (the agent's task) ──save, prune──▶ directory ◀── retention: which of them go
//! ```

pub mod directory;
mod name;
mod proof;
pub mod retention;
pub mod schedule;
mod staging;

use std::path::PathBuf;

pub use directory::{Directory, Locked};
pub use name::{Name, NotAName, Origin};
pub use proof::Proof;

use retention::Held;

/// A snapshot in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// What its name says.
    pub name: Name,
    /// Bytes of the file.
    pub bytes: u64,
    /// What was found when it was verified; a sentence where it is not.
    pub proof: Result<Proof, String>,
}

impl Snapshot {
    fn held(&self) -> Held {
        Held { name: self.name, bytes: self.bytes, verified: self.proof.is_ok() }
    }
}
