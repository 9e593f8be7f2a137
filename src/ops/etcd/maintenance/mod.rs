//! `lastgood etcd compact`, `defrag` and `disarm`: what makes an etcd writable again whose database reached its quota.
//!
//! ```text
//!   look: every member ─▶ rules: a plan, or a refusal ─▶ the operator agrees ─▶ lock ─▶ look again, the same rules ─▶ run
//!                                                                (defrag: no snapshot, its turn)
//! ```
//!
//! `defrag` takes one member at a time, the leader last, and each has to answer a linearizable read before the next one
//! (Q10). The lock is this node's alone: what happens on another master is seen in that its member does not answer. A
//! member answers nothing while it is defragmented, so the agent must not take it for a stalled one: while the lock is
//! held, and while the mark of a defragmentation counts, an inhibitor is in force.

mod look;
mod rules;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use look::{Cluster, Here, look};
pub(crate) use rules::{Targets, Unchecked, compact, defrag, disarm};
pub(crate) use run::{Interrupt, run_compact, run_defrag, run_disarm, turn};

use crate::config::{Settings, duration};
use crate::ops::etcd::suspension::busy;
use crate::ops::failure::Failure;
use crate::sys::lock_file::{self, LockError, LockFile};
use crate::sys::shared_lock::{self, Excluding, Mark};
use crate::sys::{clock, files};

/// Takes the lock that every command holds which works on etcd's data. It names this process, by which the agent knows
/// that nothing is to be done about etcd.
pub(crate) fn lock(settings: &Settings) -> Result<Option<LockFile>, Failure> {
    if !staged(settings)? {
        return Ok(None);
    }
    match LockFile::take_named(&settings.restore_lock()) {
        Ok(lock) => Ok(Some(lock)),
        Err(held @ LockError::Held { .. }) => Err(busy(&held)),
        Err(LockError::Io(error)) => Err(error.into()),
    }
}

/// Refuses where another process works on etcd's data. What the operator is asked would be refused afterwards.
pub(crate) fn unlocked(settings: &Settings) -> Result<(), Failure> {
    let path = settings.restore_lock();
    match lock_file::holder(&path) {
        Some(pid) if pid != std::process::id().cast_signed() => Err(busy(&LockError::Held { pid: Some(pid), path })),
        _ => Ok(()),
    }
}

/// Why the etcd of this node may give no answer although it is well: an earlier defragmentation.
pub(crate) fn under_way(settings: &Settings) -> Option<String> {
    let mark = Mark::read(&settings.defrag_lock())?;
    let left = duration::roughly(mark.until.saturating_sub(clock::since_boot()));
    Some(format!(
        "a defragmentation that an earlier command (pid {}) began may still be under way, for {left} at the most",
        mark.pid
    ))
}

/// Keeps snapshots of this node's etcd away from a defragmentation: etcd answers nothing until one that it is sending is
/// complete (snapshots/apart.rs).
pub(crate) fn apart(settings: &Settings) -> Result<Option<Excluding>, Failure> {
    if !staged(settings)? {
        return Ok(None);
    }
    let excluding = shared_lock::exclude(&settings.defrag_lock())?.ok_or_else(|| {
        Failure::refused(
            "refused: a snapshot of the etcd of this node is being taken, and etcd would answer nothing until it is \
             complete; next: run it again when `lastgood status` shows the snapshot, or `lastgood etcd snapshot save` has ended"
                .to_owned(),
        )
    })?;
    Ok(Some(excluding))
}

/// Makes the directory of the locks. Not where nothing of Kubernetes is here, and no agent either.
fn staged(settings: &Settings) -> Result<bool, Failure> {
    let staging = &settings.paths.staging;
    let is_here = staging.parent().is_some_and(|dir| dir.is_dir());
    if is_here {
        files::make_dir(staging, 0o700)?;
    }
    Ok(is_here)
}
