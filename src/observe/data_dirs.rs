//! etcd's data directories, as they are on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::file::{self, Stamp};
use crate::etcd::versions;
use crate::model::DataVersion;
use crate::model::observation::{DataDir, LockState};
use crate::sys::clock;

/// How many files below `member` are looked at for the newest change: snapshots and WAL files are a dozen.
const MAX_MEMBER_FILES: usize = 1000;

/// The data directories that are looked at, and what was read of their databases as long as those stay as they were.
#[derive(Debug, Default)]
pub(super) struct DataDirs {
    known: BTreeMap<PathBuf, (Stamp, DataVersion)>,
}

impl DataDirs {
    /// Looks at each of them.
    pub(super) fn look(&mut self, paths: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, DataDir> {
        self.known.retain(|path, _| paths.contains(path));
        paths.iter().map(|path| (path.clone(), self.one(path))).collect()
    }

    fn one(&mut self, path: &Path) -> DataDir {
        let member = path.join("member");
        let Ok(meta) = fs::metadata(&member) else {
            let versions = DataVersion::Unknown { why: format!("{} does not exist", member.display()) };
            return DataDir {
                member: None,
                changed: None,
                lock: LockState::CannotTell,
                versions,
                ..DataDir::default()
            };
        };
        let mut changed = None;
        let mut left = MAX_MEMBER_FILES;
        newest(&member, 2, &mut left, &mut changed);
        let database = member.join("snap/db");
        let versions = self.versions(path, &database);
        let member = Some((meta.dev(), meta.ino()));
        DataDir { member, changed, lock: lock(&database), versions, ..DataDir::default() }
    }

    /// Some pages of the database, and those only where it has changed. A live etcd changes it all the time.
    fn versions(&mut self, path: &Path, database: &Path) -> DataVersion {
        let now = clock::now().wall;
        let stamp = match file::stat(database) {
            Ok(stamp) => stamp,
            Err(fault) => return DataVersion::Unknown { why: format!("{} {fault}", database.display()) },
        };
        if let Some((known, versions)) = self.known.get(path)
            && *known == stamp
        {
            return versions.clone();
        }
        let versions = versions::hint(path);
        if stamp.is_settled(now) {
            self.known.insert(path.to_owned(), (stamp, versions.clone()));
        } else {
            self.known.remove(path);
        }
        versions
    }
}

fn newest(dir: &Path, depth: usize, left: &mut usize, changed: &mut Option<Timestamp>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth > 0 {
            newest(&entry.path(), depth - 1, left, changed);
        } else if meta.is_file() {
            *changed = (*changed).max(Some(Stamp::of(&meta).changed()));
        }
    }
}

/// Whether somebody holds the lock on a bbolt database. Asked with a shared lock that is given back at once; bbolt itself
/// waits for such a moment without a word.
fn lock(database: &Path) -> LockState {
    let regular = fs::symlink_metadata(database).is_ok_and(|meta| meta.is_file());
    let Some(file) = regular.then(|| fs::File::open(database).ok()).flatten() else {
        return LockState::CannotTell;
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_given_back) => LockState::Free,
        Err((_, Errno::EWOULDBLOCK)) => LockState::Held,
        Err(_) => LockState::CannotTell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(dir: &Path) -> DataDir {
        DataDirs::default().one(dir)
    }

    #[test]
    fn a_data_directory_tells_its_incarnation_and_its_lock() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etcd");
        assert_eq!(look(&dir).member, None);
        fs::create_dir_all(dir.join("member/snap")).unwrap();
        fs::create_dir_all(dir.join("member/wal")).unwrap();
        let empty = look(&dir);
        assert_eq!((empty.changed, empty.lock), (None, LockState::CannotTell));
        let db = dir.join("member/snap/db");
        fs::write(&db, "x").unwrap();
        assert_eq!(look(&dir).lock, LockState::Free);
        let held = Flock::lock(fs::File::open(&db).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(look(&dir).lock, LockState::Held);
        drop(held);
        let seen = look(&dir);
        assert_eq!(seen.lock, LockState::Free);
        assert!(seen.changed.is_some());
        fs::rename(dir.join("member"), dir.join("aside")).unwrap();
        fs::create_dir(dir.join("member")).unwrap();
        assert_ne!(look(&dir).member, seen.member, "another incarnation");
    }
}
