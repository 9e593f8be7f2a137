//! Whether a snapshot is whole.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::etcd::backend::{self, Alarm, Compacted, Head, Member, Revision};
use crate::etcd::bbolt::{Database, Fault};
use crate::model::Digest;

/// A SHA-256.
const TRAILER: u64 = 32;
/// bbolt's least page: `etcdutl` tells by the rest of a division by it whether there is a trailer.
const SECTOR: u64 = 512;

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
    /// What it says of itself.
    pub trailer: Trailer,
    /// What it holds.
    pub contents: Contents,
}

/// The SHA-256 behind the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// It is there, and fits.
    Matches {
        /// It.
        sha256: Digest,
    },
    /// There is none: a raw copy.
    Absent,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// CRC-32C over the names of all buckets, their keys and values, as `etcdutl snapshot status` shows it.
    pub hash: u32,
    /// The keys of all buckets, every revision counted: `totalKey` of `etcdutl` up to 3.5.
    pub total_keys: u64,
    /// The keys that a client would find; nothing where a compaction was under way, which leaves that open.
    pub live_keys: Option<u64>,
    /// The buckets, in their order.
    pub buckets: Vec<Tally>,
    /// The newest revision; nothing where nothing was ever written.
    pub revision: Option<Revision>,
    /// Up to where a compaction was asked for, and done.
    pub compacted: Compacted,
    /// How many leases there are.
    pub leases: u64,
    /// The members.
    pub members: Vec<Member>,
    /// The IDs of members that were removed.
    pub removed: Vec<u64>,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// The versions, and a downgrade.
    pub versions: Head,
    /// The last entry of the log whose effect is in here.
    pub consistent_index: Option<u64>,
    /// The term of that entry; from 3.5 on.
    pub term: Option<u64>,
    /// Whether clients have to say who they are.
    pub auth_enabled: bool,
    /// Bytes of a page.
    pub page_size: u32,
    /// Bytes of the pages that something names, the metas and the freelist among them: what is left after a
    /// defragmentation, more or less.
    pub in_use: u64,
    /// What does not make it unfit, and should be known.
    pub remarks: Vec<String>,
}

/// A bucket and how much is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Its name; as text, whatever it is.
    pub name: String,
    /// How many keys.
    pub keys: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
}

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// It cannot be read, or a page of it is not as it must be.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It has no SHA-256 behind it.
    #[error(
        "{} carries no SHA-256: a copy of a database file, or cut off ({size} bytes); --skip-hash-check takes it as it is",
        path.display()
    )]
    NoTrailer {
        /// Which file.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// What is behind it is not its SHA-256.
    #[error("{}: its SHA-256 is {is}, and the one it ends with says {says}: it was damaged after it was made", path.display())]
    Trailer {
        /// Which file.
        path: PathBuf,
        /// What it ends with.
        says: Digest,
        /// What its bytes make.
        is: Digest,
    },
    /// It is a database, and not one of etcd's.
    #[error("{} is no database of etcd's: {what}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
}

/// Verifies a snapshot: its trailer, its pages, what it holds. `progress` is told how many bytes of how many are done.
///
/// # Errors
/// [`Rejected`] names the file, the page, and what is wrong with it.
pub fn verify(path: &Path, trust: RawCopy, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, Rejected> {
    let db = Database::open(path)?;
    let broken = |error| Fault::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    let trailed = length % SECTOR == TRAILER;
    if !trailed && trust == RawCopy::Refuse {
        return Err(Rejected::NoTrailer { path: path.to_owned(), size: length });
    }
    let size = if trailed { length - TRAILER } else { length };
    let mut reader = BufReader::new(file);
    let mut hasher = Sha256::new();
    let mut done = 0;
    let mut piece = vec![0; 1 << 20];
    while done < size {
        let most = usize::try_from(size - done).unwrap_or(usize::MAX).min(piece.len());
        let read = reader.read(&mut piece[..most]).map_err(broken)?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
        done += read as u64;
        progress(done, size);
    }
    let sha256 = Digest::from(<[u8; 32]>::from(hasher.finalize()));
    let mut trailer = Trailer::Absent;
    if trailed {
        let mut says = [0; TRAILER as usize];
        reader.read_exact(&mut says).map_err(broken)?;
        let says = Digest::from(says);
        if says != sha256 {
            return Err(Rejected::Trailer { path: path.to_owned(), says, is: sha256 });
        }
        trailer = Trailer::Matches { sha256 };
    }
    Ok(Verified { size, sha256, trailer, contents: contents(&db, path)? })
}

fn contents(db: &Database, path: &Path) -> Result<Contents, Rejected> {
    let read = backend::read(path)?;
    let mut contents = Contents {
        revision: read.revision,
        compacted: read.compacted,
        members: read.members,
        removed: read.removed,
        alarms: read.alarms,
        consistent_index: read.consistent_index,
        versions: read.head,
        term: read.term,
        page_size: db.meta().page_size,
        ..Contents::default()
    };
    let names =
        ["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"];
    for name in names.iter().filter(|name| matches!(db.bucket(name.as_bytes()), Ok(Some(_)))) {
        let mut tally = Tally { name: (*name).to_owned(), ..Tally::default() };
        contents.hash = crc32c::crc32c_append(contents.hash, name.as_bytes());
        db.walk(name.as_bytes(), |key, value| -> ControlFlow<()> {
            contents.hash = crc32c::crc32c_append(crc32c::crc32c_append(contents.hash, key), value);
            tally.keys += 1;
            tally.bytes += (key.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })?;
        contents.total_keys += tally.keys;
        contents.leases += if *name == "lease" { tally.keys } else { 0 };
        contents.buckets.push(tally);
    }
    Ok(contents)
}
