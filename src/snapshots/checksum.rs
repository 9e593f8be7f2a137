//! A checksum that identifies a verified snapshot, and that several CPUs can compute in parallel.
//!
//! ```text
//!   file   │ 1 MiB │ 1 MiB │ 1 MiB │ …     each by the next free thread
//!             │       │       │
//!           XXH3    XXH3    XXH3           128 bits each
//!             └───────┴───────┴─── XXH3 ──▶ Checksum
//! ```
//!
//! It finds damage in a fraction of the time of a SHA-256, which is one chain from the first byte to the last (numbers:
//! tests/results/etcd-tools.md). It is not cryptographic, and need not be: an attacker who can write the snapshot can append
//! a new SHA-256 just as well; and a verification record alone is not trusted (verify.rs).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

/// What one thread reads and sums up at once.
const BLOCK: u64 = 1 << 20;
/// Each takes a block of memory, and a master has other work for its processors.
const MAX_THREADS: usize = 4;

/// A checksum, written in hex.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Checksum(u128);

/// Bytes as they come, one after another.
#[derive(Default)]
pub(super) struct Summing {
    /// Over the sums of the blocks that are full.
    all: XxHash3_128,
    block: XxHash3_128,
    /// Bytes in it.
    filled: u64,
}

impl Summing {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.block.write(now);
            self.filled += now.len() as u64;
            if self.filled == BLOCK {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.all.write(&std::mem::take(&mut self.block).finish_128().to_le_bytes());
        self.filled = 0;
    }

    pub(super) fn finish(mut self) -> Checksum {
        if self.filled > 0 {
            self.end_block();
        }
        Checksum(self.all.finish_128())
    }
}

/// The checksum of so many bytes of a file, by as many threads as there are processors. `progress` hears of bytes done.
///
/// # Errors
/// The system's word; the end of the file, where it comes too early.
pub(super) fn of(file: &File, bytes: u64, progress: &mut dyn FnMut(u64)) -> io::Result<Checksum> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let work = Work { file, bytes, next: AtomicU64::new(0), broken: AtomicBool::new(false) };
    let mut sums = thread::scope(|scope| {
        // One that cannot be had is done without.
        let more = || thread::Builder::new().name("checksum".to_owned()).spawn_scoped(scope, || work.take(&mut |_| ()));
        let others: Vec<_> = (1..threads).map_while(|_| more().ok()).collect();
        let mut sums = work.take(progress);
        for other in others {
            let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sums = sums.and_then(|sums| Ok([sums, theirs?].concat()));
        }
        sums
    })?;
    sums.sort_unstable_by_key(|(block, _)| *block);
    let mut all = XxHash3_128::new();
    sums.iter().for_each(|(_, sum)| all.write(&sum.to_le_bytes()));
    Ok(Checksum(all.finish_128()))
}

/// A file whose blocks are taken by whoever is free.
struct Work<'a> {
    file: &'a File,
    bytes: u64,
    next: AtomicU64,
    /// Somebody could not read it: nobody has to go on.
    broken: AtomicBool,
}

impl Work<'_> {
    /// Takes blocks until there are none; their sums by their numbers.
    fn take(&self, progress: &mut dyn FnMut(u64)) -> io::Result<Vec<(u64, u128)>> {
        let mut piece = vec![0; BLOCK as usize];
        let mut sums = Vec::new();
        while !self.broken.load(Ordering::Relaxed) {
            let block = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(left) = self.bytes.checked_sub(block.saturating_mul(BLOCK)).filter(|left| *left > 0) else {
                break;
            };
            progress(self.bytes - left);
            let piece = piece.get_mut(..left.min(BLOCK) as usize).unwrap_or_default();
            self.file
                .read_exact_at(piece, block * BLOCK)
                .inspect_err(|_| self.broken.store(true, Ordering::Relaxed))?;
            sums.push((block, XxHash3_128::oneshot(piece)));
        }
        Ok(sums)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| format!("{text:?} is no checksum: 32 hex digits were expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        file
    }

    /// No two blocks alike.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 15) as u8).collect()
    }

    fn in_parts(bytes: &[u8], cuts: &[usize]) -> Checksum {
        let mut summing = Summing::default();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).chain([0, bytes.len()]).collect();
        ends.sort_unstable();
        ends.windows(2).for_each(|ends| summing.push(&bytes[ends[0]..ends[1]]));
        summing.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_is_the_same_by_however_many_threads_and_in_whatever_parts(
            length in prop_oneof![Just(0), Just(BLOCK as usize), Just(3 * BLOCK as usize), 1..(4 * BLOCK as usize)],
            cuts in prop::collection::vec(0..(4 * BLOCK as usize), 0..6),
        ) {
            let bytes = bytes(length);
            let file = file_of(&bytes);
            prop_assert_eq!(of(&file, length as u64, &mut |_| ()).unwrap(), in_parts(&bytes, &cuts));
        }
    }

    #[test]
    fn every_flipped_bit_and_two_blocks_exchanged_are_found() {
        let whole = bytes(3 * BLOCK as usize + 7);
        let sum = in_parts(&whole, &[]);
        for at in [0, 1, BLOCK as usize - 1, BLOCK as usize, 2 * BLOCK as usize + 4711, whole.len() - 1] {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert_ne!(in_parts(&flipped, &[]), sum, "bit {bit} of byte {at}");
            }
        }
        let (first, second) = whole.split_at(BLOCK as usize);
        let exchanged = [&second[..BLOCK as usize], first, &second[BLOCK as usize..]].concat();
        assert_ne!(in_parts(&exchanged, &[]), sum);
        assert_ne!(of(&file_of(&exchanged), exchanged.len() as u64, &mut |_| ()).unwrap(), sum);
    }

    #[test]
    fn it_is_the_one_that_xxhash_itself_makes_of_these_blocks() {
        // By xxHash 0.8.4: XXH3_128bits of each, little-endian, one behind the other, and of these.
        assert_eq!(in_parts(&bytes(2 * BLOCK as usize + 5), &[]).to_string(), "9d72cf4bdf94327981fa2337c942b034");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error_and_no_checksum() {
        let error = of(&file_of(&bytes(5000)), 3 * BLOCK, &mut |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn it_is_written_in_hex_and_nothing_else_is_one() {
        let sum = in_parts(b"x", &[]);
        let text = serde_json::to_string(&sum).unwrap();
        assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), sum);
        for text in ["", "12", "+1234567890123456789012345678901", "zz345678901234567890123456789012"] {
            assert!(serde_json::from_str::<Checksum>(&format!("{text:?}")).is_err(), "{text}");
        }
    }
}
