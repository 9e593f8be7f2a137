//! Exchanges the old data for the new ones, and recovers an interrupted exchange.
//!
//! ```text
//!   (nothing) ─▶ building ──────────────▶ swapping ──exchange──▶ the old data are moved aside ─▶ (nothing)
//!                  │                         │                        │
//!   killed:        └─ undone                 └─ before the exchange:  └─ completed
//!                                               undone
//! ```
//!
//! `intent.json` contains the step, written and synced before the step is taken. Whether the exchange happened is known
//! from the inode of the new directory, which no rename changes. If the file system cannot exchange (NFS), the old data
//! are renamed first, and between the two renames there is no `member`: then the exchange is completed. A separate WAL
//! (`--wal-dir`) follows the exchange and is completed with it: separate_wal.rs.
//!
//! A process that works in one of these directories holds a lock on it. A locked directory belongs to a running restore
//! and is left alone.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::build::Checked;
use super::intent::{AsBuilt, Finished, INTENT, Intent, Restored, Step};
use super::layout::{free_name, inode, move_dir};
use super::plan::Planned;
use super::staging::{Staging, left, unfinished};
use super::{Fault, receipt, separate_wal};
use crate::sys::files;

impl Checked {
    /// Removes it again, as it must not take the place of the existing data: why.
    pub fn given_up(self, why: &str) -> Fault {
        // What cannot be removed now is removed by the next run.
        let _ = self.staging.discard(self.planned.log().as_ref());
        Fault::refused(why, "take its manifest out of the manifest directory first")
    }

    /// Puts it in the place of the existing data, which are kept.
    ///
    /// # Errors
    /// What failed. Before the exchange, the old data remain. After it, what was built does, and the next run completes
    /// the rest.
    pub fn swap(self) -> Result<Restored, Fault> {
        let Self { planned, staging, idle: _until_the_end } = self;
        let swapped = swap(&planned, &staging);
        if swapped.is_err() && inode(&staging.member())?.is_some() {
            // Either side of it is known, so it is brought to its end here and now, if it can be.
            if let Ok(Finished::Completed(restored)) = one(&planned.data_dir, &staging) {
                return Ok(restored);
            }
        }
        swapped
    }
}

fn swap(planned: &Planned, staging: &Staging) -> Result<Restored, Fault> {
    let (stands, built) = (planned.data_dir.join("member"), staging.member());
    let mut intent = Intent::building(planned);
    let Some(inode) = inode(&built)? else {
        return Err(files::fault(io::ErrorKind::NotFound, &built, "is gone: nothing was exchanged").into());
    };
    intent.step = Step::Swapping { built: inode, database: AsBuilt::of(&built)? };
    let aside = match files::standing(&stands)? {
        Some(_) => Some(free_name(&planned.data_dir, "member")?),
        None => None,
    };
    intent.restored.aside.clone_from(&aside);
    if let Some(log) = intent.restored.log.take() {
        separate_wal::hide(&built, planned.owner)?;
        intent.restored.log = Some(log.keeping()?);
    }
    // A disk that is full says so before anything is exchanged.
    receipt::stage(staging.root(), planned, &intent.restored)?;
    staging.write(&intent)?;
    match aside {
        None => move_dir(&built, &stands)?,
        Some(aside) => match exchange(&built, &stands) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                move_dir(&stands, &planned.data_dir.join(aside))?;
                move_dir(&built, &stands)?;
            }
            Err(errno) => {
                let sentence = format!("cannot exchange {} and {}: {errno}", built.display(), stands.display());
                return Err(io::Error::new(io::Error::from(errno).kind(), sentence).into());
            }
            Ok(()) => {
                files::fsync_dir(&planned.data_dir)?;
                files::fsync_dir(staging.root())?;
            }
        },
    }
    staging.complete(intent.restored)
}

fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

/// Brings every restore that was interrupted below this data directory to an end.
///
/// # Errors
/// [`Fault::Refused`] where one is under way, or what is left cannot be understood: nothing is touched then.
/// [`Fault::Io`] where it cannot be brought to an end; the next run tries again.
pub fn finish(data_dir: &Path) -> Result<Vec<Finished>, Fault> {
    left(data_dir, unfinished(data_dir)?)?.iter().map(|staging| one(data_dir, staging)).collect()
}

fn one(data_dir: &Path, staging: &Staging) -> Result<Finished, Fault> {
    let stands = data_dir.join("member");
    let Some(intent) = staging.read()? else {
        // Made, and killed before the intent was written; or everything is done but removing it.
        staging.close().map_err(|error| staging.by_hand(&format!("it has no {INTENT}: {error}")))?;
        return Ok(Finished::Undone);
    };
    let log = intent.restored.log.clone();
    let Step::Swapping { built, database } = intent.step else {
        staging.discard(log.as_ref())?;
        return Ok(Finished::Undone);
    };
    let (at_member, at_staging) = (inode(&stands)?, inode(&staging.member())?);
    if at_member == Some(built) {
        let restored = staging.complete(intent.restored)?;
        let untouched = database.is_some() && AsBuilt::of(&stands)? == database;
        return Ok(if untouched { Finished::Completed(restored) } else { Finished::Overtaken(restored) });
    }
    if at_staging != Some(built) {
        return Err(staging.by_hand("the restored data are neither in it nor in place"));
    }
    let aside = intent.restored.aside.as_ref().map(|aside| data_dir.join(aside));
    let between = at_member.is_none() && aside.is_some_and(|aside| aside.exists());
    if between {
        move_dir(&staging.member(), &stands)?;
        return staging.complete(intent.restored).map(Finished::Completed);
    }
    staging.discard(log.as_ref())?;
    Ok(Finished::Undone)
}
