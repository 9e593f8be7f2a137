//! The directory in which a member is built, below its data directory. The process that works in it locks it and
//! removes it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::Deserialize;

use super::intent::{FORMAT, INTENT, Intent, MAX_INTENT, Restored};
use super::layout::{inode, move_dir, random};
use super::separate_wal::Log;
use super::{Fault, receipt};
use crate::model::NewerFile;
use crate::sys::files::{self, Attributes};

/// How a directory of ours below a data directory begins.
pub(super) const PREFIX: &str = ".lastgood-restore-";

/// A search for interrupted work may hold a new directory for a moment; that does not happen repeatedly.
const TRIES: usize = 10;

/// Of an intent of another version nothing else is looked at.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// Our directory below a data directory, which nobody else works at while this is there.
#[derive(Debug)]
pub(super) struct Staging {
    data_dir: PathBuf,
    root: PathBuf,
    /// On the directory; nothing where its file system locks none.
    _lock: Option<Flock<File>>,
}

impl Staging {
    /// Makes it, the intent in it.
    pub(super) fn new(data_dir: &Path, intent: &Intent) -> io::Result<Self> {
        for _ in 0..TRIES {
            let id: String = random()?.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
            let root = data_dir.join(format!("{PREFIX}{id}"));
            files::make_dir(&root, 0o700)?;
            // Between its making and its locking it may have been taken for one that is left.
            let Some(staging) = Self::take(data_dir, root)? else { continue };
            if let Err(error) = staging.write(intent) {
                let _ = fs::remove_dir(&staging.root);
                return Err(error);
            }
            return Ok(staging);
        }
        Err(files::fault(
            io::ErrorKind::Other,
            data_dir,
            "is emptied repeatedly by another process: nothing can be built in it",
        ))
    }

    /// Takes one in hand; nothing where another process has it, or has removed it.
    pub(super) fn take(data_dir: &Path, root: PathBuf) -> io::Result<Option<Self>> {
        let only_a_directory = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let dir = match OpenOptions::new().read(true).custom_flags(only_a_directory).open(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(files::named("open directory", &root))?,
        };
        let opened = dir.metadata().map_err(files::named("look at", &root))?.ino();
        let lock = match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(lock),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            // NFS locks only what is open for writing, and no directory is.
            Err(_) => None,
        };
        let there = inode(&root)? == Some(opened);
        Ok(there.then(|| Self { data_dir: data_dir.to_owned(), root, _lock: lock }))
    }

    /// Nobody else builds below this data directory. Two that began at once may both be refused.
    pub(super) fn alone(&self) -> Result<(), Fault> {
        let mut others = unfinished(&self.data_dir)?;
        others.retain(|root| *root != self.root);
        left(&self.data_dir, others).map(drop)
    }

    /// It, as a data directory: what is built is below.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Its name: a log that is separate is built under the same.
    pub(super) fn name(&self) -> &str {
        self.root.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(super) fn member(&self) -> PathBuf {
        self.root.join("member")
    }

    pub(super) fn write(&self, intent: &Intent) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(intent).map_err(io::Error::other)?;
        files::replace(&self.root, &self.root.join(INTENT), &bytes, &Attributes::private())
    }

    pub(super) fn read(&self) -> Result<Option<Intent>, Fault> {
        let path = self.root.join(INTENT);
        if files::standing(&path)?.is_none() {
            return Ok(None);
        }
        let bytes = files::read_bounded(&path, MAX_INTENT)?;
        let cannot = |error| self.by_hand(&format!("its {INTENT} cannot be read: {error}"));
        let Version { version } = serde_json::from_slice(&bytes).map_err(cannot)?;
        if FORMAT.is_newer(version) {
            let newer = NewerFile { path, version, known: FORMAT.version() };
            return Err(Fault::refused(
                format!("{} is left of an interrupted restore: {newer}", self.root.display()),
                "finish it with the lastgood that began it, or a newer one: `lastgood etcd restore` there; nothing was changed",
            ));
        }
        if !(1..=u64::from(FORMAT.version())).contains(&version) {
            return Err(self.by_hand(&format!("its {INTENT} is of version {version}, which no lastgood writes")));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(cannot)
    }

    pub(super) fn by_hand(&self, why: &str) -> Fault {
        Fault::refused(
            format!("{} is left of an interrupted restore, and {why}", self.root.display()),
            "find out which `member` is right, the one in it or the one next to it, put it in place, and move the \
             directory away; nothing was changed",
        )
    }

    /// Removes what was built; the log, too, where it is separate.
    pub(super) fn discard(&self, log: Option<&Log>) -> io::Result<()> {
        if let Some(log) = log {
            log.discard(self.name())?;
        }
        let member = self.member();
        if files::standing(&member)?.is_some() {
            fs::remove_dir_all(&member).map_err(files::named("remove", &member))?;
        }
        self.close()
    }

    /// Removes the directory, which holds nothing but the intent and a record; it fails where it holds more.
    pub(super) fn close(&self) -> io::Result<()> {
        for name in files::names(&self.root)? {
            if [INTENT, receipt::STAGED].contains(&name.as_str()) || name.starts_with(files::TEMP_PREFIX) {
                files::remove(&self.root.join(name))?;
            }
        }
        fs::remove_dir(&self.root).map_err(files::named("remove directory", &self.root))?;
        files::fsync_dir(&self.data_dir)
    }

    /// Has the log follow, moves the old data and the record to where they are kept, and ends.
    pub(super) fn complete(&self, restored: Restored) -> Result<Restored, Fault> {
        if let Some(log) = &restored.log {
            log.exchange(self.name(), &self.data_dir.join("member"))?;
        }
        let old = self.member();
        if let Some(aside) = &restored.aside
            && files::standing(&old)?.is_some()
        {
            move_dir(&old, &self.data_dir.join(aside))?;
        }
        receipt::put(&self.root, &self.data_dir)?;
        self.close()?;
        Ok(Restored { log: restored.log.map(Log::kept), ..restored })
    }
}

/// The directories of ours below a data directory: of restores that were interrupted, or of one that is under way.
///
/// # Errors
/// When it cannot be read.
pub fn unfinished(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = files::names(data_dir)?.into_iter();
    Ok(names.filter(|name| name.starts_with(PREFIX)).map(|name| data_dir.join(name)).collect())
}

/// The intents below a data directory that a newer lastgood wrote: it was interrupted, and this program cannot complete it.
pub fn newer(data_dir: &Path) -> Vec<NewerFile> {
    let version = |path: &Path| {
        let bytes = files::read_bounded(path, MAX_INTENT).ok()?;
        serde_json::from_slice(&bytes)
            .ok()
            .map(|Version { version }| version)
            .filter(|version| FORMAT.is_newer(*version))
    };
    let intents = unfinished(data_dir).unwrap_or_default().into_iter().map(|root| root.join(INTENT));
    intents.filter_map(|path| Some(NewerFile { version: version(&path)?, path, known: FORMAT.version() })).collect()
}

/// All of these directories, in our hands: what they are of was interrupted.
pub(super) fn left(data_dir: &Path, roots: Vec<PathBuf>) -> Result<Vec<Staging>, Fault> {
    let mut left = Vec::new();
    for root in roots {
        match Staging::take(data_dir, root.clone())? {
            Some(staging) => left.push(staging),
            // It has come to its end since it was looked for.
            None if files::standing(&root)?.is_none() => {}
            None => {
                let why =
                    format!("another restore into {} is running: it holds {}", data_dir.display(), root.display());
                return Err(Fault::refused(why, "wait for it"));
            }
        }
    }
    Ok(left)
}
