//! A lock file that names its holder. It is an flock, so it ends with the process that holds it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::files;

/// The largest process ID has seven digits (`PID_MAX_LIMIT`).
const WIDTH: usize = 10;

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error("another lastgood{} is running and holds {path}", of_pid(.pid))]
    Held {
        /// Who, if the file says so.
        pid: Option<i32>,
        /// The lock file.
        path: PathBuf,
    },
    /// It could not be asked for.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn of_pid(pid: &Option<i32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct LockFile {
    lock: Flock<File>,
}

impl LockFile {
    /// Takes the lock, without waiting. Its directory must be there; the file stays when the lock ends. The file names this
    /// process if it can be written: a full disk must not matter to who only asks who holds it.
    ///
    /// # Errors
    /// When another holds it, or the file can be neither made nor opened.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let lock = Self::unnamed(path)?;
        let _ = lock.name();
        Ok(lock)
    }

    /// The same, where others act by [`holder`]: a lock that does not name this process would not keep them away.
    ///
    /// # Errors
    /// Those of [`LockFile::take`], and when the file cannot be written.
    pub fn take_named(path: &Path) -> Result<Self, LockError> {
        let lock = Self::unnamed(path)?;
        lock.name().map_err(files::named("write", path))?;
        Ok(lock)
    }

    fn unnamed(path: &Path) -> Result<Self, LockError> {
        match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { lock }),
            Err((_, Errno::EWOULDBLOCK)) => {
                let text = fs::read_to_string(path).unwrap_or_default();
                Err(LockError::Held { pid: text.trim().parse().ok(), path: path.to_owned() })
            }
            Err((_, errno)) => Err(files::named("lock", path)(errno.into()).into()),
        }
    }

    /// Over the bytes of the holder before, which need no new block of a full disk; all names have one length.
    fn name(&self) -> io::Result<()> {
        let name = format!("{:>WIDTH$}\n", std::process::id());
        self.lock.write_all_at(name.as_bytes(), 0)?;
        self.lock.set_len(name.len() as u64)
    }
}

/// Opens a lock file, and makes it where it is missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    // flock asks for no right to write: a lock file on a disk that went read-only still locks.
    let file = open.or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        _ => Err(error),
    });
    file.map_err(files::named("open the lock", path))
}

/// The process that has a lock file open, as the file names it: whoever holds the lock does. Asking for the lock itself
/// would keep somebody who wants it at this moment from getting it.
pub fn holder(path: &Path) -> Option<i32> {
    let lock = fs::metadata(path).ok()?;
    let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    // By what it is and not by its path, which may be another one in the holder's mounts.
    let same = |entry: fs::DirEntry| {
        fs::metadata(entry.path()).is_ok_and(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
    };
    open.any(same).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_replaces_any_that_was_there_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let own = Some(std::process::id().cast_signed());
        for before in ["", "7\n", "4194304\n", "what somebody else has written here\n"] {
            fs::write(&path, before).unwrap();
            let lock = LockFile::take(&path).unwrap();
            assert_eq!(holder(&path), own, "{before:?}");
            assert_eq!(fs::metadata(&path).unwrap().len(), WIDTH as u64 + 1, "{before:?}");
            assert!(matches!(LockFile::take(&path), Err(LockError::Held { pid, .. }) if pid == own));
            drop(lock);
            assert_eq!(holder(&path), None);
        }
    }

    /// A device that is always full, in the place of a disk.
    #[test]
    fn a_lock_by_which_others_act_is_not_taken_without_its_name() {
        let full = Path::new("/dev/full");
        assert!(LockFile::take(full).is_ok());
        let Err(LockError::Io(error)) = LockFile::take_named(full) else { panic!("it was taken") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
