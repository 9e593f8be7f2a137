//! A snapshot, or a part of its bundle, while it is written: a private file next to its target, locked by its writer,
//! and removed with it.
//!
//! ```text
//!   create ─▶ lock ─▶ write ─▶ fsync ─▶ verify ─▶ rename to its name, unless that name exists
//!      │ any failure: removed        killed: its lock is free, and the next run removes it
//! ```
//!
//! Its name begins with a dot and is not a snapshot's name, so a partial file never looks like a snapshot.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::NamedTempFile;

use crate::sys::files;

/// How the names of these files begin.
pub(super) const PREFIX: &str = ".lastgood-snapshot-";
/// A sweeper may hold a new file's lock for a moment; it does not come again and again.
const TRIES: usize = 10;

/// One such file.
#[derive(Debug)]
pub(super) struct Staging {
    temp: NamedTempFile,
    /// Of another descriptor of the same file: it ends with our process at the latest.
    _lock: Flock<File>,
}

impl Staging {
    /// Makes one in a directory, and removes those there whose writer is gone.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        sweep(dir);
        let verb = "make a file for a snapshot in";
        for _ in 0..TRIES {
            // Private from the beginning: tempfile makes it 0600.
            let temp = files::temp_in(dir, PREFIX)?;
            let file = temp.reopen().map_err(files::named(verb, dir))?;
            // Between its making and its locking a sweeper may have taken it for a stale one.
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                && lock.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
            {
                return Ok(Self { temp, _lock: lock });
            }
        }
        Err(files::fault(
            io::ErrorKind::Other,
            dir,
            "is emptied repeatedly by another process: no snapshot can be written there",
        ))
    }

    /// Makes one of these bytes, which are on the disk when this returns.
    pub(super) fn of(dir: &Path, bytes: &[u8]) -> io::Result<Self> {
        let staging = Self::create(dir)?;
        let mut file = staging.writer()?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(files::named("write a file in", dir))?;
        Ok(staging)
    }

    pub(super) fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Another descriptor of it, to write through.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.temp.as_file().try_clone().map_err(files::named("write", self.path()))
    }

    /// Gives it its name, unless something exists there, and makes that last.
    pub(super) fn put(self, target: &Path) -> io::Result<()> {
        let from = self.temp.path().to_owned();
        files::rename_noreplace(&from, target)?;
        // It is gone from where it was: there is nothing left to remove.
        let _ = self.temp.into_temp_path().keep();
        Ok(())
    }

    /// The same, over what is there.
    pub(super) fn put_over(self, target: &Path) -> io::Result<()> {
        files::rename(self.temp.path(), target)?;
        let _ = self.temp.into_temp_path().keep();
        Ok(())
    }
}

/// Removes what writers left that are gone. What cannot be removed is in nobody's way.
pub(super) fn sweep(dir: &Path) {
    for name in files::names(dir).unwrap_or_default().iter().filter(|name| name.starts_with(PREFIX)) {
        let path: PathBuf = dir.join(name);
        let regular = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let Some(file) = regular.then(|| File::open(&path).ok()).flatten() else { continue };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_lock) => drop(fs::remove_file(&path)),
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, errno)) => tracing::debug!(path = %path.display(), %errno, "a stale file was not removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_writer_left_goes_and_what_one_writes_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("{PREFIX}stale")), "half").unwrap();
        fs::write(dir.path().join("mine.db"), "x").unwrap();
        let writing = Staging::create(dir.path()).unwrap();
        assert_eq!(fs::metadata(writing.path()).unwrap().mode() & 0o777, 0o600);
        sweep(dir.path());
        let name = writing.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(files::names(dir.path()).unwrap(), [name, "mine.db".to_owned()]);
        drop(writing);
        assert_eq!(files::names(dir.path()).unwrap(), ["mine.db"]);
    }

    #[test]
    fn what_stands_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.db");
        fs::write(&target, "older").unwrap();
        let error = Staging::create(dir.path()).unwrap().put(&target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "older");
        assert_eq!(files::names(dir.path()).unwrap(), ["a.db"]);
    }
}
