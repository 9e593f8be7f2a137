//! The cache: artifacts that are made once and used by every node (etcd's binaries, images, certificates).
//!
//! An entry is a directory that is complete or absent: it is built next to its place under an exclusive lock, then
//! renamed. A user of an entry holds a shared lock on it, so that removing old entries cannot remove one from under a
//! starting node.
//!
//! ```text
//! target/lab/cache/                 or $LASTGOOD_LAB_CACHE; `tests/install` uses the same rule
//! ├── etcd/3.5/etcd …               unpacked by tests/install
//! ├── pki-master-1/                 an entry
//! └── pki-master-1.lock             its lock
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

/// Where entries live.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// An entry in use: it stays as long as this value lives.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    _shared: Flock<File>,
}

impl Entry {
    /// The directory of the entry.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Cache {
    /// The cache that `$LASTGOOD_LAB_CACHE` names, else `lab/cache` in the build's target directory.
    ///
    /// # Errors
    /// When the target directory cannot be told, or the cache cannot be made.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os("LASTGOOD_LAB_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => target_dir()?.join("lab/cache"),
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make the lab's cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// A path inside the cache that somebody else fills (`tests/install`).
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The entry `name`, built by `make` into an empty directory if there is none, or if it is older than `max_age`.
    ///
    /// # Errors
    /// When building fails (nothing is left behind then) or the cache cannot be written.
    pub fn entry(&self, name: &str, max_age: Duration, make: impl Fn(&Path) -> Result<()>) -> Result<Entry> {
        let path = self.root.join(name);
        loop {
            let shared = self.lock(name, FlockArg::LockShared)?;
            if is_fresh(&path, max_age) {
                return Ok(Entry { path, _shared: shared });
            }
            drop(shared);
            let exclusive = self.lock(name, FlockArg::LockExclusive)?;
            if !is_fresh(&path, max_age) {
                let work = self.root.join(format!("{name}.new"));
                remove_tree(&work)?;
                fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
                make(&work).with_context(|| format!("cannot make {} for the lab's cache", path.display()))?;
                remove_tree(&path)?;
                fs::rename(&work, &path).with_context(|| format!("cannot move {} into place", path.display()))?;
            }
            drop(exclusive);
        }
    }

    /// Removes the entries named `prefix…` that nobody uses, except `keep`.
    pub fn prune(&self, prefix: &str, keep: &str) {
        let Ok(dir) = fs::read_dir(&self.root) else { return };
        for item in dir.flatten() {
            let name = item.file_name().to_string_lossy().into_owned();
            let Some(entry) = name.strip_suffix(".lock") else {
                continue;
            };
            if !entry.starts_with(prefix) || entry == keep {
                continue;
            }
            let Ok(file) = File::open(item.path()) else { continue };
            if let Ok(_alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                let _ = remove_tree(&self.root.join(entry));
                let _ = fs::remove_file(item.path());
            }
        }
    }

    fn lock(&self, name: &str, how: FlockArg) -> Result<Flock<File>> {
        let path = self.root.join(format!("{name}.lock"));
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            let lock =
                Flock::lock(file, how).map_err(|(_, errno)| anyhow!("cannot lock {}: {errno}", path.display()))?;
            // Somebody may have pruned the lock file between open and lock: then ours guards nothing.
            if same_file(&lock, &path) {
                return Ok(lock);
            }
        }
    }
}

/// The build's target directory, found from the running binary: `target/debug/lab`, `target/debug/deps/node-…`.
///
/// # Errors
/// When the running binary is in no such place.
pub fn target_dir() -> Result<PathBuf> {
    let binaries = binaries_dir()?;
    binaries.parent().map(Path::to_path_buf).context("the build's binaries lie at the root directory")
}

/// Where this build's binaries are (`lab`, `kubelet`, `lastgood` …): `$LASTGOOD_LAB_BIN`, else where we run from.
///
/// # Errors
/// When the running binary's path cannot be read.
pub fn binaries_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("LASTGOOD_LAB_BIN") {
        return Ok(PathBuf::from(dir));
    }
    let me = std::env::current_exe().context("cannot tell which binary is running")?;
    let dir = me.parent().context("the running binary has no directory")?;
    let up = if dir.ends_with("deps") || dir.ends_with("examples") { dir.parent() } else { Some(dir) };
    up.map(Path::to_path_buf).with_context(|| format!("{} is in no build directory", me.display()))
}

/// Removes a directory with everything in it; that it is not there is fine.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn is_fresh(path: &Path, max_age: Duration) -> bool {
    let Ok(made) = fs::metadata(path).and_then(|m| m.modified()) else {
        return false;
    };
    // A clock that went backwards makes the entry look newer, which is fine.
    SystemTime::now().duration_since(made).is_ok_and(|age| age < max_age) || made > SystemTime::now()
}

fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().expect("a temp directory");
        let cache = Cache { root: dir.path().to_path_buf() };
        (dir, cache)
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn an_entry_is_made_once_and_again_when_it_is_old() {
        let (_dir, cache) = cache();
        let made = std::cell::Cell::new(0);
        let make = |to: &Path| {
            made.set(made.get() + 1);
            fs::write(to.join("x"), "x").context("write")
        };
        drop(cache.entry("pki", LONG, make).expect("made"));
        drop(cache.entry("pki", LONG, make).expect("found"));
        assert_eq!(made.get(), 1);
        let old = SystemTime::now() - LONG * 2;
        File::open(cache.path("pki")).and_then(|f| f.set_modified(old)).expect("aged");
        drop(cache.entry("pki", LONG, make).expect("made again"));
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn a_failed_build_leaves_no_entry() {
        let (_dir, cache) = cache();
        let failed = cache.entry("pki", LONG, |to| {
            fs::write(to.join("half"), "x")?;
            anyhow::bail!("no more")
        });
        assert!(failed.is_err());
        assert!(!cache.path("pki").exists());
    }

    #[test]
    fn what_is_in_use_is_not_pruned() {
        let (_dir, cache) = cache();
        let used = cache.entry("store-a", LONG, |_| Ok(())).expect("a");
        drop(cache.entry("store-b", LONG, |_| Ok(())).expect("b"));
        drop(cache.entry("store-c", LONG, |_| Ok(())).expect("c"));
        cache.prune("store-", "store-c");
        assert!(used.path().exists() && cache.path("store-c").exists());
        assert!(!cache.path("store-b").exists());
    }
}
