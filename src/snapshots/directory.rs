//! The directory of snapshots: its content, additions and removals. One process changes it at a time.
//!
//! ```text
//!   DIR/.lock                       flock: the agent, or a `save` or `prune` command
//!   DIR/NAME.db.proof.json          written first ┐ a proof without its snapshot is removed
//!   DIR/NAME.db                     renamed last  ┘ a snapshot without its proof is not verified
//!   DIR/NAME.node.tar, …            then its bundle, whose manifest is the last of all (see `bundle`)
//!   DIR/.lastgood-snapshot-…        a file being written
//!   DIR/.upload-…                   an upload that is under way, or was interrupted (remote/unfinished.rs)
//!   DIR/.checks.json                the daily checks (checks.rs)
//! ```
//!
//! Files under other names belong to the operator and are not touched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;

use super::checks::Checks;
use super::proof::{self, Proof};
use super::retention::{self, Held, Rules, Why};
use super::staging::{self, Staging};
use super::{Name, Snapshot, bundle};
use crate::sys::files;

/// Only root reads it: a snapshot holds every secret of the cluster.
pub(super) const DIR_MODE: u32 = 0o700;

/// A directory of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

/// It, to be changed by this process alone. Ends when this is dropped.
#[derive(Debug)]
pub struct Locked {
    directory: Directory,
    _lock: Flock<File>,
}

/// Why a directory was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process changes it at this moment.
    #[error("another lastgood is taking or pruning snapshots in {}", .0.display())]
    Busy(PathBuf),
    /// It cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What goes, or went.
#[derive(Clone, Debug)]
pub struct Pruned {
    pub snapshot: Snapshot,
    pub why: Why,
}

impl Directory {
    /// The directory at this path. Nothing is made.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The snapshots in it, the newest last; none where it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self) -> io::Result<Vec<Snapshot>> {
        let mut found = Vec::new();
        let checks = Checks::read(&self.path);
        for file in files::names(&self.path)? {
            let Ok(name) = file.parse::<Name>() else { continue };
            let path = self.path.join(&file);
            // One that went meanwhile is not there.
            let Some(metadata) = files::standing(&path)? else { continue };
            let proof = match metadata.is_file() {
                true => Proof::read(&path, metadata.len()),
                false => Err(format!("it is a {}", files::kind_of(&metadata))),
            };
            let checked = checks.of(&file, &metadata).cloned();
            let damaged = checked.as_ref().and_then(|found| Some((found.at, found.damaged.as_ref()?)));
            let proof = match (proof, damaged) {
                (Ok(_), Some((at, why))) => Err(format!("{why} (daily check of {at:.0})")),
                (proof, _) => proof,
            };
            found.push(Snapshot { path, name, bytes: metadata.len(), proof, checked });
        }
        found.sort_by_key(|snapshot| snapshot.name);
        Ok(found)
    }

    /// Makes it where it is missing, locks it, and removes what a crash left half done.
    ///
    /// # Errors
    /// [`LockError::Busy`] where another process has it.
    pub fn lock(&self) -> Result<Locked, LockError> {
        if files::standing(&self.path)?.is_none() {
            fs::create_dir_all(&self.path).map_err(files::named("make the directory", &self.path))?;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(DIR_MODE))
                .map_err(files::named("set the mode of", &self.path))?;
            files::fsync_dir(files::dir_of(&self.path))?;
        }
        let path = self.path.join(".lock");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(files::named("open the lock", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => LockError::Busy(self.path.clone()),
            errno => files::named("lock", &path)(errno.into()).into(),
        })?;
        let locked = Locked { directory: self.clone(), _lock: lock };
        locked.sweep();
        Ok(locked)
    }

    /// Bytes left to us on its file system, or on that of the directory it will be made in.
    ///
    /// # Errors
    /// When that is unknown.
    pub fn room(&self) -> io::Result<u64> {
        room(&self.path)
    }
}

/// Bytes left on the file system of a path, or of the nearest directory above it that exists.
pub(super) fn room(path: &Path) -> io::Result<u64> {
    let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let room = statvfs(there).map_err(|errno| files::named("determine the free space of", there)(errno.into()))?;
    Ok(room.blocks_available().saturating_mul(room.fragment_size()))
}

impl Locked {
    /// Where it is.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    #[cfg(test)]
    pub(super) fn stage(&self) -> io::Result<Staging> {
        Staging::create(&self.directory.path)
    }

    /// Puts a proven snapshot in. When this returns, it is there to stay.
    pub(super) fn put(&self, staging: Staging, proof: &Proof) -> io::Result<PathBuf> {
        let target = self.directory.path.join(&proof.file);
        if files::standing(&target)?.is_some() {
            return Err(files::fault(io::ErrorKind::AlreadyExists, &target, "exists already"));
        }
        proof.write(&target)?;
        staging.put(&target).inspect_err(|_| {
            // Where it exists nevertheless, only the directory's sync failed: it is whole, and its proof is true.
            if matches!(files::standing(&target), Ok(None)) {
                let _ = fs::remove_file(proof::path_of(&target));
            }
        })?;
        Ok(target)
    }

    /// What the rules do not keep.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn surplus(&self, rules: &Rules, now: Timestamp) -> io::Result<Vec<Pruned>> {
        surplus(&self.directory, rules, now)
    }

    /// Removes one of ours, its bundle and its proof after it: what is left in between is of nothing, and swept.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, snapshot: &Snapshot) -> io::Result<()> {
        files::remove(&snapshot.path)?;
        bundle::remove(&snapshot.path)?;
        files::remove(&proof::path_of(&snapshot.path))
    }

    fn sweep(&self) {
        staging::sweep(&self.directory.path);
        for name in files::names(&self.directory.path).unwrap_or_default() {
            let Some(of) = name.strip_suffix(proof::ENDING) else { continue };
            let orphan = matches!(files::standing(&self.directory.path.join(of)), Ok(None));
            if orphan && of.parse::<Name>().is_ok() {
                let _ = fs::remove_file(self.directory.path.join(&name));
            }
        }
        bundle::sweep(&self.directory.path);
        // The temp files of proofs and bundles: nobody else writes here while we hold the lock. Those of snapshots have a lock each.
        let names = files::names(&self.directory.path).unwrap_or_default();
        let ours = |name: &&String| name.starts_with(files::TEMP_PREFIX) && !name.starts_with(staging::PREFIX);
        for name in names.iter().filter(ours) {
            let _ = fs::remove_file(self.directory.path.join(name));
        }
    }
}

/// What the rules do not keep, looked at without the lock.
///
/// # Errors
/// When the directory cannot be read.
pub fn surplus(directory: &Directory, rules: &Rules, now: Timestamp) -> io::Result<Vec<Pruned>> {
    let all = directory.list()?;
    let held: Vec<Held> = all.iter().map(Snapshot::held).collect();
    let gone = retention::surplus(&held, rules, now).into_iter();
    Ok(gone.filter_map(|(at, why)| Some(Pruned { snapshot: all.get(at)?.clone(), why })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::snapshot::TRAILER;
    use crate::model::Digest;
    use crate::snapshots::Origin;

    const RULES: Rules = Rules { last: 1, hourly: 0, daily: 0, weekly: 0, total: u64::MAX };

    fn name(second: i64, revision: i64) -> Name {
        Name { at: Timestamp::from_second(second).unwrap(), cluster: 7, revision, origin: Origin::Stream }
    }

    fn put(locked: &Locked, name: Name, body: &[u8]) -> PathBuf {
        let staging = locked.stage().unwrap();
        let sha256 = Digest::of(body);
        fs::write(staging.path(), [body, sha256.as_bytes()].concat()).unwrap();
        let proof = Proof {
            file: name.to_string(),
            name,
            bytes: body.len() as u64 + TRAILER,
            sha256,
            member: Some(1),
            etcd: Some("3.5.16".into()),
            term: Some(2),
            raft_index: Some(3),
            keys: 4,
            verified: Timestamp::UNIX_EPOCH,
            by: "test".into(),
            found: None,
        };
        locked.put(staging, &proof).unwrap()
    }

    fn verified(directory: &Directory) -> Vec<bool> {
        directory.list().unwrap().iter().map(|snapshot| snapshot.proof.is_ok()).collect()
    }

    #[test]
    fn what_was_put_in_is_verified_until_it_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(&dir.path().join("snapshots"));
        assert!(directory.list().unwrap().is_empty(), "there is none yet");
        let locked = directory.lock().unwrap();
        let path = put(&locked, name(100, 5), b"database");
        assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(verified(&directory), [true]);

        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(verified(&directory), [false], "torn");
        let mut foreign = whole.clone();
        foreign[whole.len() - 3] ^= 1;
        fs::write(&path, foreign).unwrap();
        assert_eq!(verified(&directory), [false], "of the same length");
        fs::write(&path, &whole).unwrap();
        assert_eq!(verified(&directory), [true]);
        let proof = proof::path_of(&path);
        let text = fs::read_to_string(&proof).unwrap();
        fs::write(&proof, text.replacen("\"keys\":4", "\"keys\":5", 1)).unwrap();
        assert_eq!(verified(&directory), [false], "a proof that was edited");
        fs::write(&proof, &text).unwrap();
        let other = directory.path().join(name(101, 6).to_string());
        fs::copy(&path, &other).unwrap();
        fs::copy(&proof, proof::path_of(&other)).unwrap();
        assert_eq!(verified(&directory), [true, false], "a proof of another file");
        fs::remove_file(&proof).unwrap();
        assert_eq!(verified(&directory), [false, false]);
    }

    #[test]
    fn one_process_changes_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let locked = directory.lock().unwrap();
        assert!(matches!(directory.lock(), Err(LockError::Busy(_))));
        drop(locked);
        directory.lock().unwrap();
    }

    #[test]
    fn what_a_crash_left_is_swept_and_what_a_person_left_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let theirs = ["mine.db", "mine.db.proof.json", "notes.txt"];
        for name in theirs {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::write(dir.path().join(format!("{}.proof.json", name(1, 1))), "x").unwrap();
        fs::write(dir.path().join(".lastgood-snapshot-abc"), "x").unwrap();
        fs::write(dir.path().join(".lastgood-abc"), "x").unwrap();
        let locked = directory.lock().unwrap();
        let mut left = files::names(dir.path()).unwrap();
        left.retain(|name| name != ".lock");
        assert_eq!(left, theirs);
        drop(locked);
    }

    #[test]
    fn pruning_goes_by_the_rules_and_takes_the_proof_along() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let locked = directory.lock().unwrap();
        for at in 1..4 {
            put(&locked, name(at * 1000, at), b"database");
        }
        let gone = locked.surplus(&RULES, Timestamp::now()).unwrap();
        assert_eq!(gone.iter().map(|gone| gone.snapshot.name.revision).collect::<Vec<_>>(), [1, 2]);
        for gone in gone {
            locked.remove(&gone.snapshot).unwrap();
        }
        let left = files::names(dir.path()).unwrap();
        let last = name(3000, 3).to_string();
        assert_eq!(left, [".lock".to_owned(), last.clone(), format!("{last}.proof.json")]);
    }
}
