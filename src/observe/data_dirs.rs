//! etcd's data directories on disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::file::{self, Stamp};
use super::file_cache::Kept;
use super::mounts::Mounts;
use crate::etcd::raft_snapshot::{self, RaftSnapshot};
use crate::etcd::{at_rest, bar, member_check, origin, start_check, versions, wal};
use crate::model::DataVersion;
use crate::model::etcd_data::{AtRest, DataDir, LockState, WalOrigin};
use crate::model::member_conflict::MemberConflict;
use crate::model::store_fault::StoreFault;
use crate::sys::clock;

/// How many files below `member` are looked at for the newest change: snapshots and WAL files are a dozen.
const MAX_MEMBER_FILES: usize = 1000;

/// How long nothing of the data has changed before all of it is read: etcd may only be restarting.
const REST: Duration = Duration::from_secs(3);

/// Data directories, each with the directory of its WAL where a manifest puts that elsewhere (`--wal-dir`).
pub(super) type DataPaths = BTreeMap<PathBuf, Option<PathBuf>>;

/// The data directories that are looked at, and what was read of each.
#[derive(Debug, Default)]
pub(super) struct DataDirs {
    known: BTreeMap<PathBuf, Known>,
    faults: BTreeMap<PathBuf, StoreFault>,
    conflicts: BTreeMap<PathBuf, Vec<MemberConflict>>,
}

/// What was read of a data directory: of the database some pages, which a live etcd changes all the time; of the WAL the head
/// of its first segment, or all of its last one.
#[derive(Debug, Default)]
struct Known {
    versions: Kept<DataVersion>,
    origin: Kept<WalOrigin>,
    at_rest: Kept<Option<AtRest>>,
    /// Of all of the WAL and of the database, while no etcd has them.
    fault: Kept<Option<StoreFault>>,
    snapshot: Kept<Option<RaftSnapshot>>,
    conflicts: Kept<Vec<MemberConflict>>,
}

impl DataDirs {
    /// Looks at each of them.
    pub(super) fn look(&mut self, paths: &DataPaths, mounts: &Mounts) -> BTreeMap<PathBuf, DataDir> {
        self.known.retain(|path, _| paths.contains_key(path));
        self.faults.clear();
        self.conflicts.clear();
        let mut one = |path: &PathBuf, wal: Option<&Path>| {
            let known = self.known.entry(path.clone()).or_default();
            let seen = known.look(path, wal);
            let fault = known.fault(path, wal, seen.lock, REST);
            self.faults.extend(fault.map(|fault| (path.clone(), fault)));
            let conflicts = Some(known.conflicts(path)).filter(|conflicts| !conflicts.is_empty());
            self.conflicts.extend(conflicts.map(|conflicts| (path.clone(), conflicts)));
            DataDir { mount: mounts.of(path), ..seen }
        };
        paths.iter().map(|(path, wal)| (path.clone(), one(path, wal.as_deref()))).collect()
    }

    /// The members that the database and raft disagree about.
    pub(super) fn conflicts(&self) -> BTreeMap<PathBuf, Vec<MemberConflict>> {
        self.conflicts.clone()
    }

    /// What keeps an etcd from starting over those that were looked at.
    pub(super) fn faults(&self) -> BTreeMap<PathBuf, StoreFault> {
        self.faults.clone()
    }
}

impl Known {
    fn look(&mut self, path: &Path, wal: Option<&Path>) -> DataDir {
        let member = path.join("member");
        let segments = wal::segments(&wal.map_or_else(|| member.join("wal"), Path::to_owned));
        let origin = match &segments {
            Ok(segments) => self.origin(segments),
            Err(fault) => WalOrigin::Unknown { why: fault.to_string() },
        };
        let Ok(meta) = fs::metadata(&member) else {
            let versions = DataVersion::Unknown { why: format!("{} does not exist", member.display()) };
            return DataDir { versions, origin, ..DataDir::default() };
        };
        let mut changed = None;
        let mut left = MAX_MEMBER_FILES;
        newest(&member, 2, &mut left, &mut changed);
        let database = member.join("snap/db");
        let lock = lock(&database);
        let at_rest = match (lock, &segments) {
            (LockState::Free, Ok(segments)) => self.at_rest(&database, segments),
            _ => None,
        };
        let versions = self.versions(path, &database);
        DataDir { member: Some((meta.dev(), meta.ino())), changed, lock, versions, origin, at_rest, mount: None }
    }

    /// What keeps an etcd from starting over these data. All of the WAL is read for it, once: not while an etcd has the data,
    /// and not in the moment between two of its processes.
    fn fault(&mut self, path: &Path, wal: Option<&Path>, lock: LockState, rest: Duration) -> Option<StoreFault> {
        let member = path.join("member");
        let wal_dir = wal.map_or_else(|| member.join("wal"), Path::to_owned);
        let snap = member.join("snap");
        let database = snap.join("db");
        let is_free = lock == LockState::Free || (snap.is_dir() && !database.exists());
        let segments = match wal::segments(&wal_dir) {
            _ if is_free && bar::reason(&member).is_some() => return start_check::of(&member, &wal_dir),
            Ok(segments) if is_free => segments,
            // One is missing between two others.
            Err(wal::Fault::Corrupt { .. }) if is_free => Vec::new(),
            _ => return None,
        };
        let snapshots = raft_snapshot::named(&snap).into_iter().map(|(_, _, path)| path);
        let read = segments.into_iter().chain(snapshots).chain([database]);
        let stamps: Vec<Stamp> = read.filter_map(|path| file::stat(&path).ok()).collect();
        let newest = stamps.iter().map(Stamp::changed).max()?;
        let rested = Duration::try_from(clock::now().wall.duration_since(newest)).is_ok_and(|age| age >= rest);
        rested.then(|| self.fault.get(stamps, || start_check::of(&member, &wal_dir))).flatten()
    }

    /// The members that the database and raft disagree about: some pages of the one, and the newest raft snapshot.
    fn conflicts(&mut self, path: &Path) -> Vec<MemberConflict> {
        let snap = path.join("member/snap");
        let newest = raft_snapshot::named(&snap).into_iter().next();
        let stamp = newest.and_then(|(_, _, path)| file::stat(&path).ok());
        let snapshot = match stamp.clone() {
            Some(stamp) => self.snapshot.get(vec![stamp], || member_check::newest(&snap)),
            None => None,
        };
        let Ok(database) = file::stat(&snap.join("db")) else { return Vec::new() };
        let stamps = stamp.into_iter().chain([database]).collect();
        self.conflicts.get(stamps, || member_check::of(&snap, snapshot.as_ref()).unwrap_or_default())
    }

    fn versions(&mut self, path: &Path, database: &Path) -> DataVersion {
        match file::stat(database) {
            Ok(stamp) => self.versions.get(vec![stamp], || versions::hint(path)),
            Err(fault) => DataVersion::Unknown { why: format!("{} {fault}", database.display()) },
        }
    }

    fn origin(&mut self, segments: &[PathBuf]) -> WalOrigin {
        let Some(first) = segments.first() else { return WalOrigin::default() };
        match file::stat(first) {
            Ok(stamp) => self.origin.get(vec![stamp], || origin::of(first)),
            Err(fault) => WalOrigin::Unknown { why: format!("{} {fault}", first.display()) },
        }
    }

    /// What was written a moment ago may be written again: an etcd that is about to start holds no lock yet, and one that was
    /// killed may have its last bytes written by the kernel.
    fn at_rest(&mut self, database: &Path, segments: &[PathBuf]) -> Option<AtRest> {
        let now = clock::now().wall;
        let stamps = vec![file::stat(database).ok()?, file::stat(segments.last()?).ok()?];
        let settled = stamps.iter().all(|stamp| stamp.is_settled(now));
        settled.then(|| self.at_rest.get(stamps, || at_rest::of(database, segments))).flatten()
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
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::etcd::testing::{ask, restore, snapshot};
    use crate::model::store_fault::FaultKind;

    fn look(dir: &Path) -> DataDir {
        Known::default().look(dir, None)
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

    #[test]
    fn what_data_hold_is_told_while_nobody_has_them_and_they_are_at_rest() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("etcd");
        restore(&ask(&snapshot(root.path()), &data, "vm=https://127.0.0.1:2380")).unwrap();
        let (db, log) = (data.join("member/snap/db"), data.join("member/wal"));
        let written = |at| fs::File::options().write(true).open(&db).unwrap().set_modified(at).unwrap();
        written(SystemTime::now() + Duration::from_secs(3600));
        assert_eq!(look(&data).at_rest, None, "it has not settled");
        written(SystemTime::now());
        std::thread::sleep(Duration::from_millis(150));
        let mut known = Known::default();
        let seen = known.look(&data, None);
        let rest = seen.at_rest.unwrap();
        assert!(rest.revision > 754 && rest.raft_index == 1, "{rest:?}");
        assert_eq!(seen.origin, WalOrigin::Restored { fingerprint: None });
        let held = Flock::lock(fs::File::open(&db).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(known.look(&data, None).at_rest, None, "an etcd has them");
        drop(held);
        assert_eq!(known.look(&data, None).at_rest, Some(rest));

        // The WAL elsewhere.
        let apart = root.path().join("apart");
        fs::rename(&log, &apart).unwrap();
        let lost = known.look(&data, None);
        assert!(lost.origin.is_unknown() && lost.at_rest.is_none(), "{lost:?}");
        let found = known.look(&data, Some(&apart));
        assert_eq!((found.origin, found.at_rest), (seen.origin, Some(rest)));

        // Looked at again where it changed.
        let segment = wal::segments(&apart).unwrap().remove(0);
        fs::write(&segment, "no WAL").unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let broken = known.look(&data, Some(&apart));
        assert!(broken.origin.is_unknown() && broken.at_rest.is_none(), "{broken:?}");
    }

    #[test]
    fn what_keeps_an_etcd_from_starting_is_looked_for_once_while_none_has_the_data() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("etcd");
        restore(&ask(&snapshot(root.path()), &data, "vm=https://127.0.0.1:2380")).unwrap();
        let db = data.join("member/snap/db");
        let mut known = Known::default();
        let mut fault = |lock| known.fault(&data, None, lock, Duration::ZERO).map(|fault| fault.kind);
        assert_eq!(fault(LockState::Free), None);
        let bytes = fs::read(&db).unwrap();
        fs::write(&db, vec![0; bytes.len()]).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(fault(LockState::Held), None, "an etcd has them");
        assert_eq!(fault(LockState::Free), Some(FaultKind::DatabaseDamaged));
        // By size and time it is the same file.
        let times = fs::metadata(&db).unwrap().modified().unwrap();
        fs::remove_file(&db).unwrap();
        assert_eq!(fault(LockState::CannotTell), Some(FaultKind::DatabaseMissing));
        fs::write(&db, &bytes).unwrap();
        fs::File::options().write(true).open(&db).unwrap().set_modified(times).unwrap();
        assert_eq!(fault(LockState::Free), None, "whole again");
        assert_eq!(Known::default().fault(&data, None, LockState::Free, Duration::from_secs(60)), None, "just written");
    }

    #[test]
    fn each_directory_has_its_mount_whether_it_is_there_or_not() {
        let root = tempfile::tempdir().unwrap();
        let mounts = Mounts::read();
        let paths = [(root.path().join("not/yet"), None), ("/proc/1".into(), None)].into();
        let seen = DataDirs::default().look(&paths, &mounts);
        assert_eq!(seen[&root.path().join("not/yet")].mount, mounts.of(root.path()));
        assert_eq!(seen[Path::new("/proc/1")].mount.as_ref().unwrap().kind, "proc");
    }
}
