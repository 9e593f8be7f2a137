//! Whatever the bytes of a database or of a log are, reading them ends, in a value or in an error that names the place.
//!
//! Real seeds and a mutator that knows the formats, for a bounded time: two seconds each, as one test among the others, or
//!
//! ```text
//!   LASTGOOD_FUZZ_SECONDS=3600 LASTGOOD_FUZZ_SEED=$RANDOM cargo test --release --test fuzz -- --nocapture
//! ```
//!
//! A failure prints the seed and the changes. The same targets, guided by coverage, are in `coverage/` for cargo-fuzz, which
//! needs a nightly compiler.

mod targets;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What may be held at once whatever is read: the largest page run or record, and as much again.
const MEMORY: u64 = 128 << 20;
const PAGE: u64 = 4096;

/// xorshift64*: any will do, as long as the same seed makes the same changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Numbers that mean something: small ones, ends of ranges, what lies near others.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4),
            1 => self.below(300),
            2 => u64::MAX - self.below(3),
            3 => 1 << self.below(64),
            4 => (1 << self.below(64)) - 1,
            _ => self.next(),
        }
    }
}

/// Runs until the time is over, and says how often.
fn run(what: &str, mut once: impl FnMut(&mut Random)) {
    let variable = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().expect(name));
    let seed = variable("LASTGOOD_FUZZ_SEED", 1).max(1);
    let until = Instant::now() + Duration::from_secs(variable("LASTGOOD_FUZZ_SECONDS", 2));
    let before = peak();
    let (mut random, mut cases) = (Random(seed), 0u64);
    // Some, however slow the machine is.
    while cases < 50 || Instant::now() < until {
        once(&mut random);
        cases += 1;
    }
    let took = peak().saturating_sub(before);
    println!("{what}: {cases} cases from seed {seed}, {} MiB", took >> 20);
    assert!(took < MEMORY, "{took} bytes at once");
}

/// Peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn seed() -> Vec<u8> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd/snapshot-3.6.db.gz");
    let out = Command::new("gzip").arg("-dc").arg(packed).output().expect("gzip");
    assert!(out.status.success());
    out.stdout
}

/// A meta whose checksum is right, whatever it says: nothing else would be looked at.
fn sealed(whole: &[u8], random: &mut Random) -> (u64, Vec<u8>) {
    let page = random.below(2) * PAGE;
    let mut meta = whole[page as usize + 16..page as usize + 80].to_vec();
    for _ in 0..=random.below(2) {
        // Page size, root, freelist, high-water mark, txid.
        let at = [8, 16, 32, 40, 48][random.below(5) as usize];
        let near = u64::from_le_bytes(meta[at..at + 8].try_into().expect("eight"))
            .wrapping_add(random.below(5))
            .wrapping_sub(2);
        let number = if random.below(2) == 0 { near } else { random.number() };
        let width = if at == 8 { 4 } else { 8 };
        meta[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    }
    let sum = meta[..56]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    meta[56..].copy_from_slice(&sum.to_le_bytes());
    (page + 16, meta)
}

/// A change of a few bytes: where, and to what.
fn change(whole: &[u8], random: &mut Random) -> (u64, Vec<u8>) {
    let pages = whole.len() as u64 / PAGE;
    let page = random.below(pages) * PAGE;
    match random.below(8) {
        0 => sealed(whole, random),
        // A header's id, flags, count, overflow.
        1 => {
            let (at, width) = [(0, 8), (8, 2), (10, 2), (12, 4)][random.below(4) as usize];
            (page + at, random.number().to_le_bytes()[..width].to_vec())
        }
        // An element's numbers; a branch's child.
        2..=4 => {
            let at = page + 16 + 16 * random.below(8) + 4 * random.below(4);
            let number = if random.below(2) == 0 { random.number() } else { random.below(pages) };
            let width = if random.below(3) == 0 { 8 } else { 4 };
            (at, number.to_le_bytes()[..width].to_vec())
        }
        // A whole page of another place.
        5 => {
            let from = random.below(pages) * PAGE;
            let mut copy = whole[from as usize..(from + PAGE) as usize].to_vec();
            copy[..8].copy_from_slice(&(page / PAGE).to_le_bytes());
            (page, copy)
        }
        _ => (random.below(whole.len() as u64 - 8), vec![random.next() as u8; 1 + random.below(3) as usize]),
    }
}

#[test]
fn a_database_is_whole_or_the_place_is_named() {
    let whole = seed();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    std::fs::write(&path, &whole).expect("room");
    let file = File::options().write(true).open(&path).expect("it is there");
    run("database", |random| {
        let changes: Vec<_> = (0..=random.below(4)).map(|_| change(&whole, random)).collect();
        for (at, bytes) in &changes {
            file.write_all_at(bytes, *at).expect("room");
        }
        let length = match random.below(6) {
            0 => random.below(whole.len() as u64),
            1 => whole.len() as u64 + random.below(1 << 20),
            2 => whole.len() as u64 - 32,
            _ => whole.len() as u64,
        };
        file.set_len(length).expect("room");
        let read = std::panic::catch_unwind(|| targets::database(&path));
        assert!(matches!(read, Ok(Ok(()))), "{read:?} of {changes:?}, {length} bytes");
        file.set_len(whole.len() as u64).expect("room");
        for (at, bytes) in &changes {
            let end = (*at as usize + bytes.len()).min(whole.len());
            file.write_all_at(&whole[*at as usize..end], *at).expect("room");
        }
        if length < whole.len() as u64 {
            file.write_all_at(&whole[length as usize..], length).expect("room");
        }
    });
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A segment of records with the right checksums, and of anything within them: otherwise none would be looked into.
fn segment(random: &mut Random, crc: &mut u32) -> Vec<u8> {
    let mut segment = Vec::new();
    for nth in 0..=random.below(12) {
        let kind = if nth == 0 { 4 } else { random.below(7) };
        let mut data = Vec::new();
        for field in 1..=random.below(5) {
            varint(&mut data, field << 3 | if field == 4 { 2 } else { 0 });
            if field == 4 {
                let length = random.below(600);
                varint(&mut data, length);
                data.extend((0..length).map(|_| random.next() as u8));
            } else {
                let number = random.number();
                varint(&mut data, number);
            }
        }
        if random.below(8) == 0 && !data.is_empty() {
            let at = random.below(data.len() as u64) as usize;
            data[at] = random.next() as u8;
        }
        let mut record = Vec::new();
        varint(&mut record, 1 << 3);
        varint(&mut record, kind);
        if kind != 4 {
            *crc = crc32c::crc32c_append(*crc, &data);
        }
        varint(&mut record, 2 << 3);
        varint(&mut record, u64::from(*crc));
        if kind != 4 {
            varint(&mut record, 3 << 3 | 2);
            varint(&mut record, data.len() as u64);
            record.extend(data);
        }
        let padding = (8 - record.len() % 8) % 8;
        let top = if padding > 0 { 0x80 | padding as u64 } else { 0 };
        segment.extend((record.len() as u64 | top << 56).to_le_bytes());
        segment.extend(record);
        segment.resize(segment.len() + padding, 0);
    }
    segment
}

#[test]
fn a_log_is_read_or_the_place_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0000000000000000-0000000000000000.wal");
    let next = dir.path().join("0000000000000001-0000000000000005.wal");
    run("log", |random| {
        let mut crc = 0;
        let mut first = segment(random, &mut crc);
        let second = segment(random, &mut crc);
        for _ in 0..random.below(3) {
            let at = random.below(first.len() as u64) as usize;
            match random.below(3) {
                // A length.
                0 => {
                    let (at, number) = (at & !7, random.number().to_le_bytes());
                    let end = first.len().min(at + 8);
                    first[at..end].copy_from_slice(&number[..end - at]);
                }
                1 => first[at] ^= 1 << random.below(8),
                _ => first.truncate(at.max(8)),
            }
        }
        std::fs::write(&path, &first).expect("room");
        std::fs::write(&next, &second).expect("room");
        if random.below(2) == 0 {
            std::fs::remove_file(&next).expect("it is there");
        }
        let read = std::panic::catch_unwind(|| targets::log(dir.path()));
        assert!(matches!(read, Ok(Ok(()))), "{read:?} of {first:02x?} and {second:02x?}");
    });
}
