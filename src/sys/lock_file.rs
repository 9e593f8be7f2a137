//! A lock file that names its holder. It is an flock, so it ends with the process that holds it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::files;

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
    _lock: Flock<File>,
}

impl LockFile {
    /// Takes the lock, without waiting. Its directory must be there; the file stays when the lock ends.
    ///
    /// # Errors
    /// When another holds it, or the file can be neither made nor opened.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        let open = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        // flock asks for no right to write: a lock file on a disk that went read-only still locks.
        let file = open.or_else(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            _ => Err(error),
        });
        let file = file.map_err(files::named("open the lock", path))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let text = fs::read_to_string(path).unwrap_or_default();
                return Err(LockError::Held { pid: text.trim().parse().ok(), path: path.to_owned() });
            }
            Err((_, errno)) => return Err(files::named("lock", path)(errno.into()).into()),
        };
        // Only for who asks who holds it; a full disk must not matter.
        let _ = lock.set_len(0).and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        Ok(Self { _lock: lock })
    }
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
