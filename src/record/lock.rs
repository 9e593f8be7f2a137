//! The lock: only one lastgood at a time writes to the state directory.

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::{DIR_MODE, Store};
use crate::model::NewerFile;
use crate::sys::files;
use crate::sys::lock_file::{self, LockError, LockFile};

/// The store, locked: all writing goes through here. The lock ends when this is dropped.
#[derive(Debug)]
pub struct Guard {
    store: Store,
    /// The files that a newer lastgood wrote: while there are any, nothing is written.
    newer: Vec<NewerFile>,
    _lock: LockFile,
}

impl Deref for Guard {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Store {
    /// The process that holds the lock.
    pub fn holder(&self) -> Option<i32> {
        lock_file::holder(&self.state.join("lock"))
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
        let lock = LockFile::take(&state.join("lock"))?;
        let guard = Guard { store: self.clone(), newer: self.newer(), _lock: lock };
        if guard.newer.is_empty() {
            guard.tidy();
        }
        Ok(guard)
    }
}

impl Guard {
    /// The files of the state directory that a newer lastgood wrote, as they were when the lock was taken.
    pub(super) fn newer_files(&self) -> &[NewerFile] {
        &self.newer
    }

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
