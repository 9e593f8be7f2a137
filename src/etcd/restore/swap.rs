//! The exchange of what stands for what was built, and what to do where it was broken off.
//!
//! ```text
//!   (nothing) ─▶ building ──────────────▶ swapping ──exchange──▶ what stood is moved aside ─▶ (nothing)
//!                  │                         │                        │
//!   killed:        └─ removed: as it was     └─ not exchanged yet:    └─ completed
//!                                               removed, as it was
//! ```
//!
//! The step stands in `intent.json`, written and synced before it is taken. Which side of the exchange it is on is told by
//! the inode of the directory that was built, which no rename changes. Where the file system cannot exchange (NFS), what
//! stands is renamed aside first, and between the two renames no `member` stands: then it is completed. A log that lies
//! apart (`--wal-dir`) follows the exchange, and is completed with it: apart.rs.
//!
//! Whoever works at one of these directories holds a lock on it. One that is locked was not broken off: it is left alone.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};

use super::Fault;
use super::apart::{self, Log};
use super::build::Checked;
use super::plan::Planned;
use super::record;
use crate::model::Digest;
use crate::sys::files::{self, Attributes};

/// How a directory of ours below a data directory begins.
const PREFIX: &str = ".lastgood-restore-";
const INTENT: &str = "intent.json";
/// An intent is a few hundred bytes, and the members' names and URLs.
const MAX_INTENT: u64 = 1 << 20;
/// The version of the intent.
const VERSION: u32 = 1;
/// Whoever looks for what was broken off may hold a new directory for a moment; it does not come again and again.
const TRIES: usize = 10;

/// What is being done, as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    version: u32,
    step: Step,
    restored: Restored,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum Step {
    /// What lies beside the intent may be anything between nothing and a whole member.
    Building,
    /// It is whole, and takes the place of what stands.
    Swapping {
        /// The inode of what was built.
        built: u64,
        /// Its database; nothing in an intent that was written before there was this.
        #[serde(default)]
        database: Option<AsBuilt>,
    },
}

/// A database that nobody wrote since it was built: an etcd writes it as soon as it has opened it. Its device is not looked
/// at, which may have another number after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AsBuilt {
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl AsBuilt {
    fn of(member: &Path) -> io::Result<Option<Self>> {
        let found = files::standing(&member.join("snap/db"))?;
        Ok(found.map(|file| Self { inode: file.ino(), bytes: file.len(), modified: (file.mtime(), file.mtime_nsec()) }))
    }
}

/// A data directory that was made of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The SHA-256 of the database it was made of.
    pub snapshot: Digest,
    /// The member's name.
    pub name: String,
    /// The cluster, as `--initial-cluster`.
    pub cluster: String,
    /// The token its IDs are made with.
    pub token: String,
    /// The revision that was moved to, if any.
    pub moved_to: Option<i64>,
    /// `--bump-revision`, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bump: Option<u64>,
    /// The name, in the data directory, of what stood there before.
    pub aside: Option<String>,
    /// Its log, where that lies apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
}

/// How a restore that was broken off came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It had not come to the exchange: what was built is removed, what stood stands.
    Undone,
    /// It had: it is completed.
    Completed(Restored),
    /// The same, and its database was written since, or nothing tells: it may be anything now.
    Overtaken(Restored),
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let completed = "a restore that was broken off when it was all but done is completed";
        match self {
            Self::Undone => f.write_str("a restore that was broken off is undone: what stood stands"),
            Self::Completed(_) => f.write_str(completed),
            Self::Overtaken(_) => write!(f, "{completed}; its database is not known to be as it was built"),
        }
    }
}

impl Intent {
    pub(super) fn building(planned: &Planned) -> Self {
        let plan = &planned.plan;
        let me = plan.cluster.members.iter().find(|member| member.id == plan.cluster.me);
        let restored = Restored {
            snapshot: plan.snapshot.sha256,
            name: me.map(|me| me.name.clone()).unwrap_or_default(),
            cluster: plan.cluster.initial(),
            token: plan.cluster.token.clone(),
            moved_to: plan.revisions.moved_to,
            bump: planned.bump,
            aside: None,
            log: plan.wal_dir.clone().map(|dir| Log { dir, aside: None }),
        };
        Self { version: VERSION, step: Step::Building, restored }
    }
}

impl Restored {
    /// Whether this is what is planned once more: of the same snapshot for the same cluster, with its log in the same
    /// place; whatever its token is, and how far its revisions moved, where neither was asked for.
    pub fn is(&self, planned: &Planned) -> bool {
        let other = Intent::building(planned).restored;
        let token = planned.token_is_ours || self.token == other.token;
        let moved = planned.moves_freely || self.moved_to == other.moved_to;
        self.same() == other.same() && token && moved
    }

    /// What a person asks for again.
    fn same(&self) -> (Digest, &str, &str, Option<u64>, Option<&Path>) {
        let log = self.log.as_ref().map(|log| log.dir.as_path());
        (self.snapshot, &self.name, &self.cluster, self.bump, log)
    }
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
        Err(files::fault(io::ErrorKind::Other, data_dir, "is swept all the time: nothing can be built in it"))
    }

    /// Takes one in hand; nothing where another process has it, or has removed it.
    fn take(data_dir: &Path, root: PathBuf) -> io::Result<Option<Self>> {
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

    /// It, as a data directory: what is built lies below.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Its name: a log that lies apart is built under the same.
    pub(super) fn name(&self) -> &str {
        self.root.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(super) fn member(&self) -> PathBuf {
        self.root.join("member")
    }

    fn write(&self, intent: &Intent) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(intent).map_err(io::Error::other)?;
        files::replace(&self.root, &self.root.join(INTENT), &bytes, &Attributes::private())
    }

    fn read(&self) -> Result<Option<Intent>, Fault> {
        let path = self.root.join(INTENT);
        if files::standing(&path)?.is_none() {
            return Ok(None);
        }
        let intent: Intent = serde_json::from_slice(&files::read_bounded(&path, MAX_INTENT)?)
            .map_err(|error| self.by_hand(&format!("its {INTENT} cannot be read: {error}")))?;
        if intent.version != VERSION {
            return Err(
                self.by_hand(&format!("its {INTENT} is of version {}, this one writes {VERSION}", intent.version))
            );
        }
        Ok(Some(intent))
    }

    fn by_hand(&self, why: &str) -> Fault {
        Fault::refused(
            format!("{} is left of a restore that was broken off, and {why}", self.root.display()),
            "look which of its `member` and the one beside it is the right one, put that one in place, and move the \
             directory away; nothing was touched",
        )
    }

    /// Removes what was built; the log, too, where it lies apart.
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
    fn close(&self) -> io::Result<()> {
        for name in files::names(&self.root)? {
            if [INTENT, record::STAGED].contains(&name.as_str()) || name.starts_with(files::TEMP_PREFIX) {
                files::remove(&self.root.join(name))?;
            }
        }
        fs::remove_dir(&self.root).map_err(files::named("remove directory", &self.root))?;
        files::fsync_dir(&self.data_dir)
    }

    /// Has the log follow, moves what stood and the record to where they are kept, and ends.
    fn complete(&self, restored: Restored) -> Result<Restored, Fault> {
        if let Some(log) = &restored.log {
            log.exchange(self.name(), &self.data_dir.join("member"))?;
        }
        let old = self.member();
        if let Some(aside) = &restored.aside
            && files::standing(&old)?.is_some()
        {
            move_dir(&old, &self.data_dir.join(aside))?;
        }
        record::put(&self.root, &self.data_dir)?;
        self.close()?;
        Ok(Restored { log: restored.log.map(Log::kept), ..restored })
    }
}

impl Checked {
    /// Removes it again, as it must not take the place of what stands: why.
    pub fn given_up(self, why: &str) -> Fault {
        // What cannot be removed now is removed by the next run.
        let _ = self.staging.discard(self.planned.log().as_ref());
        Fault::refused(why, "take its manifest out of the manifest directory first")
    }

    /// Puts it in the place of what stands, which is kept.
    ///
    /// # Errors
    /// What failed. Before the exchange, what stood stands. After it, what was built does, and the next run completes the
    /// rest.
    pub fn swap(self) -> Result<Restored, Fault> {
        let Self { planned, staging, idle: _until_the_end } = self;
        let swapped = swap(&planned, &staging);
        if swapped.is_err() && inode(&staging.member())?.is_some() {
            // Either side of it is known, so it is brought to its end here and now, if it can be.
            if let Ok(Finished::Completed(restored)) = one(&planned.data_dir, &staging) {
                return Ok(restored);
            }
        }
        swapped
    }
}

fn swap(planned: &Planned, staging: &Staging) -> Result<Restored, Fault> {
    let (stands, built) = (planned.data_dir.join("member"), staging.member());
    let mut intent = Intent::building(planned);
    let Some(inode) = inode(&built)? else {
        return Err(files::fault(io::ErrorKind::NotFound, &built, "is gone: nothing was exchanged").into());
    };
    intent.step = Step::Swapping { built: inode, database: AsBuilt::of(&built)? };
    let aside = match files::standing(&stands)? {
        Some(_) => Some(free_name(&planned.data_dir, "member")?),
        None => None,
    };
    intent.restored.aside.clone_from(&aside);
    if let Some(log) = intent.restored.log.take() {
        apart::hide(&built, planned.owner)?;
        intent.restored.log = Some(log.keeping()?);
    }
    // A disk that is full says so before anything is exchanged.
    record::stage(staging.root(), planned, &intent.restored)?;
    staging.write(&intent)?;
    match aside {
        None => move_dir(&built, &stands)?,
        Some(aside) => match exchange(&built, &stands) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                move_dir(&stands, &planned.data_dir.join(aside))?;
                move_dir(&built, &stands)?;
            }
            Err(errno) => {
                let sentence = format!("cannot exchange {} and {}: {errno}", built.display(), stands.display());
                return Err(io::Error::new(io::Error::from(errno).kind(), sentence).into());
            }
            Ok(()) => {
                files::fsync_dir(&planned.data_dir)?;
                files::fsync_dir(staging.root())?;
            }
        },
    }
    staging.complete(intent.restored)
}

fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

/// Moves a directory to where nothing stands, and makes that last.
fn move_dir(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            if files::standing(to)?.is_some() {
                return Err(files::fault(io::ErrorKind::AlreadyExists, to, "stands already"));
            }
            return files::rename(from, to);
        }
        moved => moved.map_err(|errno| {
            let sentence = format!("cannot rename {} to {}: {errno}", from.display(), to.display());
            io::Error::new(io::Error::from(errno).kind(), sentence)
        })?,
    }
    for dir in [to.parent(), from.parent()].into_iter().flatten() {
        files::fsync_dir(dir)?;
    }
    Ok(())
}

/// Under which name what stands in a directory is kept there.
pub(super) fn free_name(dir: &Path, what: &str) -> io::Result<String> {
    stamped(dir, &format!("{what}.before-restore-"), "")
}

/// A name that nothing has in a directory, with the time in it.
pub(super) fn stamped(dir: &Path, before: &str, after: &str) -> io::Result<String> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let mut name = format!("{before}{stamp}{after}");
    let mut number = 1;
    while files::standing(&dir.join(&name))?.is_some() {
        number += 1;
        name = format!("{before}{stamp}-{number}{after}");
    }
    Ok(name)
}

/// The directories of ours below a data directory: of restores that were broken off, or of one that is under way.
///
/// # Errors
/// When it cannot be read.
pub fn unfinished(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = files::names(data_dir)?.into_iter();
    Ok(names.filter(|name| name.starts_with(PREFIX)).map(|name| data_dir.join(name)).collect())
}

/// Brings every restore that was broken off below this data directory to an end.
///
/// # Errors
/// [`Fault::Refused`] where one is under way, or what is left cannot be understood: nothing is touched then.
/// [`Fault::Io`] where it cannot be brought to an end; the next run tries again.
pub fn finish(data_dir: &Path) -> Result<Vec<Finished>, Fault> {
    left(data_dir, unfinished(data_dir)?)?.iter().map(|staging| one(data_dir, staging)).collect()
}

/// All of these directories, in our hands: what they are of was broken off.
fn left(data_dir: &Path, roots: Vec<PathBuf>) -> Result<Vec<Staging>, Fault> {
    let mut left = Vec::new();
    for root in roots {
        match Staging::take(data_dir, root.clone())? {
            Some(staging) => left.push(staging),
            // It has come to its end since it was looked for.
            None if files::standing(&root)?.is_none() => {}
            None => {
                let why =
                    format!("another restore into {} is under way: it holds {}", data_dir.display(), root.display());
                return Err(Fault::refused(why, "wait for it"));
            }
        }
    }
    Ok(left)
}

fn one(data_dir: &Path, staging: &Staging) -> Result<Finished, Fault> {
    let stands = data_dir.join("member");
    let Some(intent) = staging.read()? else {
        // Made, and killed before the intent was written; or everything is done but removing it.
        staging.close().map_err(|error| staging.by_hand(&format!("it has no {INTENT}: {error}")))?;
        return Ok(Finished::Undone);
    };
    let log = intent.restored.log.clone();
    let Step::Swapping { built, database } = intent.step else {
        staging.discard(log.as_ref())?;
        return Ok(Finished::Undone);
    };
    let (at_member, at_staging) = (inode(&stands)?, inode(&staging.member())?);
    if at_member == Some(built) {
        let restored = staging.complete(intent.restored)?;
        let untouched = database.is_some() && AsBuilt::of(&stands)? == database;
        return Ok(if untouched { Finished::Completed(restored) } else { Finished::Overtaken(restored) });
    }
    if at_staging != Some(built) {
        return Err(staging.by_hand("what was built for it is neither there nor in place"));
    }
    let aside = intent.restored.aside.as_ref().map(|aside| data_dir.join(aside));
    let between = at_member.is_none() && aside.is_some_and(|aside| aside.exists());
    if between {
        move_dir(&staging.member(), &stands)?;
        return staging.complete(intent.restored).map(Finished::Completed);
    }
    staging.discard(log.as_ref())?;
    Ok(Finished::Undone)
}

fn inode(path: &Path) -> io::Result<Option<u64>> {
    Ok(files::standing(path)?.map(|metadata| metadata.ino()))
}

/// A random text, as the kernel makes it.
pub(super) fn random() -> io::Result<String> {
    let bytes = files::read_bounded(Path::new("/proc/sys/kernel/random/uuid"), 64)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
