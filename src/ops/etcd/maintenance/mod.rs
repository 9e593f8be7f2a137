//! `lastgood etcd compact`, `defrag` and `disarm`: what makes an etcd writable again whose database reached its quota.
//!
//! ```text
//!   look: every member ─▶ rules: a plan, or a refusal ─▶ the operator agrees ─▶ lock ─▶ look again, the same rules ─▶ run
//! ```
//!
//! `defrag` takes one member at a time, the leader last, and each has to answer a linearizable read before the next one
//! (Q10). A member answers nothing while it is defragmented, so the agent must not take it for a stalled one: while the
//! lock is held, an inhibitor is in force.

mod look;
mod rules;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use look::{Cluster, Here, look};
pub(crate) use rules::{Targets, Unchecked, compact, defrag, disarm};
pub(crate) use run::{Interrupt, run_compact, run_defrag, run_disarm};

use crate::config::Settings;
use crate::ops::etcd::suspension::busy;
use crate::ops::failure::Failure;
use crate::sys::files;
use crate::sys::lock_file::{LockError, LockFile};

/// Takes the lock that every command holds which works on etcd's data.
pub(crate) fn lock(settings: &Settings) -> Result<Option<LockFile>, Failure> {
    let staging = &settings.paths.staging;
    if !staging.parent().is_some_and(|dir| dir.is_dir()) {
        // Nothing of Kubernetes is here, and no agent either.
        return Ok(None);
    }
    files::make_dir(staging, 0o700)?;
    match LockFile::take(&settings.restore_lock()) {
        Ok(lock) => Ok(Some(lock)),
        Err(held @ LockError::Held { .. }) => Err(busy(&held)),
        Err(LockError::Io(error)) => Err(error.into()),
    }
}
