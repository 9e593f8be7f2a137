//! Reads the bytes of a file in order and computes their SHA-256: one thread reads, another hashes.
//!
//! Reading takes a third of the time of hashing, so the hash is the bottleneck.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{io, thread};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest as _, Sha256};

use crate::etcd::bbolt::{Database, Fault};
use crate::model::Digest;

/// What is read and hashed at once: far below what a processor's cache holds together with its other work, far above a
/// call's cost.
const PIECE: usize = 256 << 10;
/// One that is read, one that is hashed, and what is between them while one of the two has to wait for a processor.
const PIECES: usize = 8;

/// What a file's bytes make.
pub(super) struct Hashed {
    /// SHA-256 of the database.
    pub(super) sha256: Digest,
    /// What the 32 bytes behind it say, if they are there.
    pub(super) says: Option<Digest>,
    /// SHA-256 of both.
    pub(super) whole: Digest,
}

/// Reads and hashes so many bytes of a database, and what is behind them. Ends early, with anything, when it is asked
/// to stop.
pub(super) fn hash(
    db: &Database,
    path: &Path,
    size: u64,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Hashed, Fault> {
    let broken = |error| Fault::Io { path: path.to_owned(), error };
    // Only advice: on a file system that takes none, it is read nevertheless.
    let _ = posix_fadvise(db.file(), 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    let hasher: io::Result<Sha256> = thread::scope(|scope| {
        let (to_full, full) = channel();
        let (to_empty, empty) = channel();
        for _ in 0..PIECES {
            let _ = to_empty.send(Vec::new());
        }
        thread::Builder::new()
            .name("bytes".to_owned())
            .spawn_scoped(scope, move || read(db, size, stop, &empty, &to_full))?;
        let mut hasher = Sha256::new();
        let mut done = 0;
        for piece in full {
            let piece: Vec<u8> = piece?;
            hasher.update(&piece);
            done += piece.len() as u64;
            progress(done);
            // At the end nobody takes it.
            let _ = to_empty.send(piece);
        }
        Ok(hasher)
    });
    let hasher = hasher.map_err(broken)?;
    let mut says = [0; TRAILER as usize];
    let says = db.file().read_exact_at(&mut says, size).is_ok().then_some(says);
    let whole = says.map_or_else(|| hasher.clone(), |says| hasher.clone().chain_update(says));
    let [sha256, whole] = [hasher, whole].map(|hasher| Digest::from(<[u8; 32]>::from(hasher.finalize())));
    Ok(Hashed { sha256, says: says.map(Digest::from), whole })
}

/// Fills what is empty, in order, until all is read, or nobody wants it.
fn read(db: &Database, size: u64, stop: &AtomicBool, empty: &Receiver<Vec<u8>>, full: &Sender<io::Result<Vec<u8>>>) {
    let mut done = 0;
    while done < size && !stop.load(Ordering::Relaxed) {
        let Ok(mut piece) = empty.recv() else { return };
        // All are of one size, but the last one.
        piece.resize(usize::try_from(size - done).unwrap_or(PIECE).min(PIECE), 0);
        let read = db.file().read_exact_at(&mut piece, done);
        done += piece.len() as u64;
        let failed = read.is_err();
        if full.send(read.map(|()| piece)).is_err() || failed {
            return;
        }
    }
}

/// bbolt's least page: `etcdutl` tells by the rest of a division by it whether there is a trailer.
pub(super) const SECTOR: u64 = 512;
/// Bytes of the SHA-256 that etcd puts behind a database it sends.
pub const TRAILER: u64 = 32;
