//! Verifies a snapshot.
//!
//! ```text
//!   FILE ─┬─ in the order of its bytes, bytes.rs ──▶ SHA-256 ───┬──▶ Verified
//!         └─ in the order of its keys ──▶ pages, contents ──────┘
//! ```
//!
//! Neither path waits for the other; each mostly reads what the other has brought into the page cache. SHA-256 takes
//! the longest and cannot be parallelised: it has one CPU, and everything else runs concurrently. The file is not
//! mapped: a file that is truncated meanwhile would end the process by SIGBUS.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::bytes::{Hashed, SECTOR, TRAILER, hash};
use super::contents::{Contents, Gathering};
use super::mistaken::{Against, Mistaken, mistaken};
use crate::etcd::bbolt::{Database, Fault};
use crate::model::Digest;

/// Between two looks whether the walk has ended, where the hash came first.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What to do with a database that carries no SHA-256 of itself: a copy of `member/snap/db`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawCopy {
    /// Reject it: a damaged value looks like any other.
    Refuse,
    /// Take it, if everything else is whole (`--skip-hash-check`).
    Allow,
}

/// A snapshot that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Of the database in bytes, its trailer not counted.
    pub size: u64,
    /// Of the database, its trailer not counted.
    pub sha256: Digest,
    /// Of all of the file.
    pub whole: Digest,
    /// What it says of itself.
    pub trailer: Trailer,
    pub contents: Contents,
}

impl Verified {
    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        match self.trailer {
            Trailer::Matches { .. } => self.size + TRAILER,
            Trailer::Absent => self.size,
        }
    }
}

/// The SHA-256 behind the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// It is there, and fits.
    Matches { sha256: Digest },
    /// There is none: a raw copy.
    Absent,
}

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// It cannot be read, or a page of it is not as it must be.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It has no SHA-256 behind it.
    #[error(
        "{} carries no SHA-256 behind its {size} bytes: it is a copy of a database file, or lost its last 32 bytes; \
         --skip-hash-check accepts it",
        path.display()
    )]
    NoTrailer { path: PathBuf, size: u64 },
    /// What is behind it is not its SHA-256.
    #[error("{}: its SHA-256 is {is}, but it ends with {says}: it was damaged after it was made, in a value that no \
             other check covers", path.display())]
    Trailer {
        path: PathBuf,
        /// What it ends with.
        says: Digest,
        /// What its bytes make.
        is: Digest,
    },
    /// It is a database, and not one of etcd's.
    #[error("{} is no database of etcd's: {what}", path.display())]
    Foreign { path: PathBuf, what: String },
    /// It is something else than a snapshot, or more, or less.
    #[error(transparent)]
    Mistaken(#[from] Mistaken),
}

/// Verifies a snapshot: its trailer, its pages, what it holds. `progress` receives how many bytes of how many are done.
/// Takes less than 64 MiB, whatever the size.
///
/// # Errors
/// [`Rejected`] names the file, the page, and what is wrong with it; or what the file is instead.
pub fn verify(path: &Path, trust: RawCopy, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, Rejected> {
    let mut verified = whole(path, trust, progress).map_err(|rejected| {
        let against = match &rejected {
            Rejected::Fault(Fault::Moving { .. }) => None,
            Rejected::Fault(Fault::Io { .. }) => path.is_dir().then_some(Against::Meta),
            Rejected::Fault(Fault::NoMeta { .. }) => Some(Against::Meta),
            Rejected::Fault(Fault::Page { .. }) => Some(Against::Page),
            _ => Some(Against::Rest),
        };
        against.and_then(|against| mistaken(path, against)).map_or(rejected, Rejected::Mistaken)
    })?;
    // It is accepted without its SHA-256, and may have one nevertheless.
    if verified.trailer == Trailer::Absent && !verified.size.is_multiple_of(SECTOR) {
        verified.contents.remarks.extend(mistaken(path, Against::Rest).map(|mistaken| mistaken.to_string()));
    }
    Ok(verified)
}

fn whole(path: &Path, trust: RawCopy, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, Rejected> {
    let db = Database::open(path)?;
    // Said before anything else: what is cut off has lost its SHA-256 as well.
    db.reaches()?;
    let length = db.file().metadata().map_err(|error| Fault::Io { path: path.to_owned(), error })?.len();
    let trailed = length % SECTOR == TRAILER;
    if !trailed && trust == RawCopy::Refuse {
        return Err(Rejected::NoTrailer { path: path.to_owned(), size: length });
    }
    let size = if trailed { length - TRAILER } else { length };
    let (seen, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // The bytes in their order, and the pages in theirs: neither waits for the other.
    let (hashed, walked) = thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let (db, seen, stop) = (&db, &seen, &stop);
        let walk = thread::Builder::new().name("pages".to_owned()).spawn_scoped(scope, move || {
            let walked = contents(db, path, &mut |bytes| seen.store(bytes, Ordering::Relaxed));
            stop.store(walked.is_err(), Ordering::Relaxed);
            let _ = tell.send(walked);
        });
        if let Err(error) = walk {
            return (
                Err(Fault::Io { path: path.to_owned(), error }),
                Err(Fault::Moving { path: path.to_owned() }.into()),
            );
        }
        let half = |hashed: u64| (hashed + seen.load(Ordering::Relaxed).min(size)) / 2;
        let hashed = hash(db, path, size, stop, &mut |done| progress(half(done), size));
        let walked = loop {
            match told.recv_timeout(LOOK_AGAIN) {
                Ok(walked) => break walked,
                Err(RecvTimeoutError::Timeout) => progress(half(size), size),
                // It has panicked: the scope ends with that.
                Err(RecvTimeoutError::Disconnected) => break Err(Fault::Moving { path: path.to_owned() }.into()),
            }
        };
        (hashed, walked)
    });
    // What is written meanwhile may look damaged, or whole.
    if !db.is_current() {
        return Err(Fault::Moving { path: path.to_owned() }.into());
    }
    // A page that is not as it must be says more than a sum.
    let (contents, Hashed { sha256, says, whole }) = match (walked, hashed) {
        (walked, Ok(hashed)) => (walked?, hashed),
        (Err(rejected @ Rejected::Fault(Fault::Page { .. })), Err(_)) => return Err(rejected),
        (_, Err(fault)) => return Err(fault.into()),
    };
    progress(size, size);
    let trailer = match says.filter(|_| trailed) {
        None => Trailer::Absent,
        Some(says) if says == sha256 => Trailer::Matches { sha256 },
        Some(says) => return Err(Rejected::Trailer { path: path.to_owned(), says, is: sha256 }),
    };
    Ok(Verified { size, sha256, whole, trailer, contents })
}

/// Reads a database page by page, without its SHA-256: nobody said what that of one that was built a moment ago is to be,
/// and that of one that is written is taken meanwhile. `progress` as that of [`verify`].
///
/// # Errors
/// As [`verify`]'s.
pub fn reread(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Contents, Rejected> {
    let db = Database::open(path)?;
    let all = db.meta().high_water.saturating_mul(u64::from(db.meta().page_size));
    let read = contents(&db, path, &mut |bytes| progress(bytes.min(all), all));
    if !db.is_current() {
        return Err(Fault::Moving { path: path.to_owned() }.into());
    }
    progress(all, all);
    read
}

fn contents(db: &Database, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Contents, Rejected> {
    let mut gathering = Gathering::before(db)?;
    let pages = db.check(&mut gathering, progress)?;
    let contents = gathering.done().map_err(|what| Rejected::Foreign { path: path.to_owned(), what })?;
    let page_size = db.meta().page_size;
    Ok(Contents { page_size, in_use: pages.used * u64::from(page_size), ..contents })
}
