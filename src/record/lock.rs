//! The lock: one lastgood at a time writes here. It is an flock, so it ends with its holder, however that one ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{DIR_MODE, Store};
use crate::sys::files;

/// Why the lock was not taken.
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

/// The store, locked: all writing goes through here. The lock ends when this is dropped.
#[derive(Debug)]
pub struct Guard {
    store: Store,
    _lock: Flock<File>,
}

impl Deref for Guard {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Store {
    /// The process that has the lock file open, as the file names it: whoever holds the lock does. Asking for the lock
    /// itself would keep an agent that starts at this moment from getting it.
    pub fn holder(&self) -> Option<i32> {
        let path = self.state.join("lock");
        let lock = fs::metadata(&path).ok()?;
        let pid: i32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        // By what it is and not by its path, which may be another one in the holder's mounts.
        let same = |entry: fs::DirEntry| {
            fs::metadata(entry.path()).is_ok_and(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
        };
        open.any(same).then_some(pid)
    }

    /// Takes the lock, without waiting, and tidies up what a crash left half written.
    ///
    /// Makes the state directory where it is missing. A full or read-only disk is no reason to fail if the lock file
    /// exists: the agent has to start on it, and say so.
    ///
    /// # Errors
    /// When another process holds it, or the state directory cannot be made or opened.
    pub fn lock(&self) -> Result<Guard, LockError> {
        let state = &self.state;
        if files::standing(state)?.is_none() {
            fs::create_dir_all(state).map_err(files::named("make the state directory", state))?;
            fs::set_permissions(state, fs::Permissions::from_mode(DIR_MODE))
                .map_err(files::named("set the mode of", state))?;
        }
        let path = state.join("lock");
        let mut options = OpenOptions::new();
        let open = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        // flock asks for no right to write: a lock file on a disk that went read-only still locks.
        let file = open.or_else(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
            _ => Err(error),
        });
        let file = file.map_err(files::named("open the lock", &path))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let text = fs::read_to_string(&path).unwrap_or_default();
                return Err(LockError::Held { pid: text.trim().parse().ok(), path });
            }
            Err((_, errno)) => return Err(files::named("lock", &path)(errno.into()).into()),
        };
        // Only for the sentence above; a full disk must not matter.
        let _ = lock.set_len(0).and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        let guard = Guard { store: self.clone(), _lock: lock };
        guard.tidy();
        Ok(guard)
    }
}

impl Guard {
    /// Removes what a crash left half made. What cannot be removed now is in nobody's way.
    fn tidy(&self) {
        for name in files::names(&self.tmp()).unwrap_or_default() {
            let path = self.tmp().join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        self.tidy_generations();
    }

    /// The directory for temp files, made if need be.
    pub(super) fn make_tmp(&self) -> io::Result<PathBuf> {
        let tmp = self.tmp();
        files::make_dir(&tmp, DIR_MODE)?;
        Ok(tmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("state")).unwrap();
        let guard = store.lock().unwrap();
        let refused = store.lock().unwrap_err();
        assert!(matches!(&refused, LockError::Held { pid: Some(pid), .. } if *pid == std::process::id().cast_signed()));
        assert!(refused.to_string().contains(&format!("another lastgood (pid {}) is running", std::process::id())));
        assert_eq!(store.holder(), Some(std::process::id().cast_signed()));
        drop(guard);
        assert_eq!(store.holder(), None, "its number still stands in the file");
        store.lock().unwrap();
    }

    #[test]
    fn the_state_directory_is_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("var/lib/lastgood")).unwrap();
        let _guard = store.lock().unwrap();
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o7777, DIR_MODE);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        fs::write(dir.path().join("tmp/.lastgood-1234"), "half").unwrap();
        let _guard = store.lock().unwrap();
        assert!(!dir.path().join("tmp/.lastgood-1234").exists());
    }
}
