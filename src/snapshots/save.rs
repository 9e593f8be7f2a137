//! Saves one snapshot. Each step is a value that the next one consumes, so none can be left out.
//!
//! ```text
//!   from_member ──▶ Taken ──prove──▶ Proven ──▶ keep (in the snapshot directory, with its proof)
//!   from_data_dir ┘   bytes on disk    whole  └▶ keep_as (under the given file name, its proof next to it)
//! ```
//!
//! If a value is dropped at any step, its files are removed. A separate thread with idle I/O priority writes and reads
//! the disk.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::directory::{self, Locked};
use super::proof::{self, Found, Proof, this_build};
use super::staging::Staging;
use super::writer::{Writer, Written};
use super::{Name, Origin};
use crate::config::settings;
use crate::config::size::roughly;
use crate::etcd::snapshot::{TRAILER, reread};
use crate::etcd::wal;
use crate::model::Digest;
use crate::observe::{EtcdEndpoint, Feed};
use crate::sys::clock;
use crate::sys::files;
use crate::sys::io_priority::yield_the_disk;

/// Parts that wait for the disk: 8 MiB of etcd's 32 KiB, about as many as come while it syncs.
const QUEUE: usize = 256;
/// What is copied at once from a data directory.
const PIECE: usize = 1 << 20;

/// What a snapshot in the making is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its bytes come.
    Receiving,
    /// They are read again.
    Verifying,
}

/// Receives what is done, and how many bytes of how many.
pub type Progress = Arc<dyn Fn(Doing, u64, u64) + Send + Sync>;

pub fn quietly() -> Progress {
    Arc::new(|_, _, _| {})
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the next part of a stream.
    pub stall: Duration,
    /// For all of it.
    pub all: Duration,
}

impl From<&settings::Snapshots> for Limits {
    fn from(settings: &settings::Snapshots) -> Self {
        Self { stall: settings.stall_timeout, all: settings.timeout }
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It would fill the disk.
    #[error(
        "a database of {} needs {} of free space in {}, two and a half times its size, and there are {}: free space, \
         or set snapshots.directory to another disk; nothing was pruned for it",
        roughly(*database), roughly(*needed), dir.display(), roughly(*left)
    )]
    NoRoom {
        dir: PathBuf,
        /// Bytes of the database.
        database: u64,
        /// Bytes that are wanted.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The member does not send it: a sentence.
    #[error("{0}")]
    Member(String),
    /// etcd did not confirm afterwards that it serves the data on record.
    #[error(
        "etcd has not answered from the data on record since the snapshot was taken, so it does not count (see `lastgood \
         status`)"
    )]
    Unconfirmed,
    /// It took too long.
    #[error("the snapshot was not complete within {} s (snapshots.timeout)", .0.as_secs())]
    TooLong(Duration),
    /// What came is not what was sent.
    #[error("the data of {0} do not match the SHA-256 that it sent")]
    Garbled(String),
    /// An etcd runs over the data directory.
    #[error("{} is locked: a running etcd uses it; without --from-data-dir the snapshot is taken from that etcd", .0.display())]
    InUse(PathBuf),
    /// It was written, and is not whole: a sentence.
    #[error("it is damaged: {0}")]
    NotWhole(String),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// What is known of where the bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    origin: Origin,
    at: Timestamp,
    cluster: u64,
    member: Option<u64>,
    etcd: Option<String>,
    term: Option<u64>,
    raft_index: Option<u64>,
}

/// Bytes that are on the disk, unproven.
#[derive(Debug)]
pub struct Taken {
    staging: Staging,
    source: Source,
    written: Written,
}

/// A snapshot that is whole, without a place yet.
#[derive(Debug)]
pub struct Proven {
    staging: Staging,
    proof: Proof,
    whole: Digest,
    remarks: Vec<String>,
}

/// Takes it from a running member, into a directory. It need not have a quorum.
///
/// # Errors
/// [`Fault`]; nothing is left behind then.
pub async fn from_member(way: &EtcdEndpoint, limits: Limits, dir: &Path, progress: &Progress) -> Result<Taken, Fault> {
    let deadline = Instant::now() + limits.all;
    let at = clock::now().wall;
    let (status, mut feed) = Feed::open(way, limits.stall).await.map_err(Fault::Member)?;
    let database = status.db_size.unwrap_or_default();
    room(dir, database)?;
    let staging = Staging::create(dir)?;
    let (parts, written) = writing(&staging, TRAILER)?;
    let mut done = 0;
    loop {
        let Ok(part) = timeout_at(deadline, feed.next()).await else { return Err(Fault::TooLong(limits.all)) };
        let Some(part) = part.map_err(Fault::Member)? else { break };
        done += part.bytes.len() as u64;
        progress(Doing::Receiving, done, done.saturating_add(part.remaining));
        // Its end, with the reason, is met below.
        match timeout(limits.stall, parts.send(part.bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break,
            Err(_) => {
                let words = format!("has accepted no write for {} s", limits.stall.as_secs_f32());
                return Err(files::fault(io::ErrorKind::TimedOut, dir, &words).into());
            }
        }
    }
    drop(parts);
    let written = match timeout_at(deadline, written).await {
        Ok(written) => written.map_err(|_| io::Error::other("the writer thread has ended"))??,
        Err(_) => return Err(Fault::TooLong(limits.all)),
    };
    if written.sum.last != written.sum.sha256.as_bytes() {
        return Err(Fault::Garbled(way.to_string()));
    }
    let source = Source {
        origin: Origin::Stream,
        at,
        cluster: status.cluster,
        member: Some(status.member),
        etcd: Some(status.version),
        term: Some(status.term),
        raft_index: Some(status.raft_index),
    };
    Ok(Taken { staging, source, written })
}

/// Copies it from the data directory of a member that does not run. Its lock is held meanwhile, as bbolt holds it. What
/// its log says beyond the database, which etcd writes within a tenth of a second, is not in the copy; it tells whose the
/// data are.
///
/// # Errors
/// [`Fault`]; nothing is left behind then.
pub async fn from_data_dir(data_dir: &Path, log: &Path, dir: &Path, progress: &Progress) -> Result<Taken, Fault> {
    let database = data_dir.join("member/snap/db");
    let named = |verb| files::named(verb, &database);
    let file = File::open(&database).map_err(named("read"))?;
    let metadata = file.metadata().map_err(named("look at"))?;
    if !metadata.is_file() {
        return Err(files::fault(io::ErrorKind::InvalidInput, &database, "is no regular file").into());
    }
    let file = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Fault::InUse(database.clone()),
        errno => Fault::Disk(named("lock")(errno.into())),
    })?;
    room(dir, metadata.len())?;
    let wal = wal::read(log, |_| {}).ok();
    let staging = Staging::create(dir)?;
    let (parts, written) = writing(&staging, TRAILER)?;
    let (progress, path) = (Arc::clone(progress), database.clone());
    aside(move || -> io::Result<()> {
        let mut file = file;
        let mut piece = vec![0; PIECE];
        let mut done = 0;
        loop {
            let read = file.read(&mut piece).map_err(files::named("read", &path))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            done += read as u64;
            progress(Doing::Receiving, done, metadata.len());
            if parts.blocking_send(bytes.to_vec()).is_err() {
                return Ok(());
            }
        }
    })
    .await??;
    let written = written.await.map_err(|_| io::Error::other("the writer thread has ended"))??;
    let changed = std::fs::metadata(&database).and_then(|metadata| metadata.modified()).ok();
    let source = Source {
        origin: Origin::DataDir,
        // As old as what is in it.
        at: changed.and_then(|changed| Timestamp::try_from(changed).ok()).unwrap_or_else(|| clock::now().wall),
        cluster: wal.as_ref().map_or(0, |wal| wal.cluster_id),
        member: wal.as_ref().map(|wal| wal.node_id),
        etcd: None,
        term: wal.as_ref().and_then(|wal| Some(wal.hard_state?.term)),
        raft_index: wal.as_ref().and_then(|wal| Some(wal.last_entry?.1)),
    };
    Ok(Taken { staging, source, written })
}

/// Refuses where it would come close to filling the disk: the copy, another next to it before retention lets one go,
/// and what etcd itself grows by meanwhile.
fn room(dir: &Path, database: u64) -> Result<(), Fault> {
    let (needed, left) = (database.saturating_mul(5) / 2, directory::room(dir)?);
    if left < needed {
        return Err(Fault::NoRoom { dir: dir.to_owned(), database, needed, left });
    }
    Ok(())
}

/// A thread that writes what it is sent, and what it wrote when nothing comes any more.
pub(super) type Writing = (mpsc::Sender<Vec<u8>>, oneshot::Receiver<io::Result<Written>>);

/// So many of the last bytes are kept apart in its sum.
pub(super) fn writing(staging: &Staging, hold: u64) -> io::Result<Writing> {
    let (parts, mut taken) = mpsc::channel::<Vec<u8>>(QUEUE);
    let mut writer = Writer::new(staging.writer()?, staging.path(), hold);
    let written = spawn(move || {
        while let Some(part) = taken.blocking_recv() {
            writer.push(&part)?;
        }
        writer.finish()
    })?;
    Ok((parts, written))
}

/// Work in its own thread, which comes last at the disk.
pub(super) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<oneshot::Receiver<T>> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
        yield_the_disk();
        // Whoever asked may have gone.
        let _ = tell.send(work());
    })?;
    Ok(told)
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn(work)?.await.map_err(|_| io::Error::other("a thread ended before its work was done"))
}

impl Taken {
    /// Reads all of it again, page by page. Its SHA-256 was taken of what is in the file while that was written.
    ///
    /// # Errors
    /// [`Fault::NotWhole`]; nothing is left behind then.
    pub async fn prove(self, progress: &Progress) -> Result<Proven, Fault> {
        let progress = Arc::clone(progress);
        aside(move || self.proven(&|done, of| progress(Doing::Verifying, done, of))).await?
    }

    fn proven(self, progress: &dyn Fn(u64, u64)) -> Result<Proven, Fault> {
        let Self { staging, source, written: Written { sum, whole, checksum } } = self;
        let sha256 = match source.origin {
            Origin::Stream if sum.last == sum.sha256.as_bytes() => sum.sha256,
            Origin::Stream => return Err(Fault::NotWhole("it does not match its SHA-256".to_owned())),
            Origin::DataDir => whole,
        };
        let contents = reread(staging.path(), &mut |done, of| progress(done, of));
        let contents = contents.map_err(|rejected| Fault::NotWhole(rejected.to_string()))?;
        let remarks = contents.remarks.clone();
        let name = Name {
            at: Timestamp::from_second(source.at.as_second()).unwrap_or(source.at),
            cluster: source.cluster,
            revision: contents.revision.map_or(0, |revision| revision.main),
            origin: source.origin,
        };
        let proof = Proof {
            file: name.to_string(),
            name,
            bytes: sum.bytes,
            sha256,
            member: source.member,
            etcd: source.etcd,
            term: source.term.or(contents.term),
            raft_index: source.raft_index.or(contents.consistent_index),
            keys: contents.live_keys.unwrap_or(contents.total_keys),
            verified: clock::now().wall,
            by: this_build(),
            found: Some(Found { checksum, whole, contents }),
        };
        Ok(Proven { staging, proof: proof.bounded(), whole, remarks })
    }
}

impl Proven {
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Where its bytes lie.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// SHA-256 of the whole file, what etcd puts behind the database included.
    pub fn sha256(&self) -> Digest {
        self.whole
    }

    /// What does not make it unfit, and should be known.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Puts it into the directory of snapshots, with its proof.
    ///
    /// # Errors
    /// When it cannot be put there, or one of the same name exists there.
    pub fn keep(self, directory: &Locked) -> io::Result<PathBuf> {
        directory.put(self.staging, &self.proof)
    }

    /// Gives it the name that the operator wanted, if nothing exists there, and puts its proof next to it. One that is
    /// left there of an earlier file of that name goes. Inside, why it exists without a proof, where it does: it is as
    /// good, and has to be read whole each time.
    ///
    /// # Errors
    /// When it cannot be put there.
    pub fn keep_as(self, file: &Path) -> io::Result<Result<(), io::Error>> {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let proof = Proof { file: name, ..self.proof };
        // Written before anything has a name: what can go wrong has by then.
        let staged = Staging::of(files::dir_of(file), &proof.encode()?)?;
        self.staging.put(file)?;
        Ok(staged.put_over(&proof::path_of(file)))
    }
}

/// The same steps, all of them in this thread: the bytes are there already.
#[cfg(test)]
pub(super) fn take_here(dir: &Path, origin: Origin, at: Timestamp, bytes: &[u8]) -> Result<Proven, Fault> {
    let staging = Staging::create(dir)?;
    let mut writer = Writer::new(staging.writer()?, staging.path(), TRAILER);
    for part in bytes.chunks(32 << 10) {
        writer.push(part)?;
    }
    let written = writer.finish()?;
    let source = Source { origin, at, cluster: 7, member: Some(1), etcd: None, term: None, raft_index: None };
    Taken { staging, source, written }.proven(&|_, _| ())
}
