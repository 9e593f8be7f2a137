//! Whatever the bytes of a database, a log or a bundle are, reading them ends, in a value or in an error that names the place.
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

/// A manifest that is believed.
fn manifest() -> serde_json::Value {
    let digest = "ab".repeat(32);
    let part = |ending: &str| {
        let name = format!("{}{ending}", targets::SNAPSHOT.trim_end_matches("db"));
        serde_json::json!({"name": name, "bytes": 4096, "sha256": digest})
    };
    let id = u64::MAX;
    serde_json::json!({
        "parts": [part("db"), part("node.tar"), part("keys.tar.age")],
        "node": "m0", "cluster": id, "highest_revision": 100, "etcd": "3.5.16",
        "members": [{"id": id, "name": "m0", "peer_urls": ["https://10.0.0.1:2380"], "client_urls": [], "learner": false}],
        "components": {"etcd": {"manifest": "/etc/kubernetes/manifests/etcd.yaml", "generation": 2, "minor": [3, 5],
                                "images": ["etcd:3.5.16-0"]}},
        "configuration": ["/etc/kubernetes/audit.yaml"],
        "keys": [{"path": "/etc/kubernetes/pki/ca.key", "sha256": digest}],
        "recipients": ["age1"], "left_out": [], "made": "2026-11-26T15:20:30Z", "by": "lastgood 0.1.0",
    })
}

/// Changes some value anywhere in it: away, twice, another, one of another kind.
fn distort(value: &mut serde_json::Value, random: &mut Random) {
    use serde_json::Value;
    let deeper = random.below(5) > 0;
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len() as u64) as usize).expect("below its length").clone();
            match random.below(8) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}x"), Value::Null)),
                _ => distort(&mut map[&key], random),
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = random.below(list.len() as u64) as usize;
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => list.swap(0, at),
                _ => distort(&mut list[at], random),
            }
        }
        Value::String(text) if deeper => match random.below(6) {
            0 => text.insert_str(0, "../"),
            1 => text.insert(0, '/'),
            2 => text.push('\u{1b}'),
            3 => drop(text.pop()),
            4 => *text = text.replace("node", "keys"),
            _ => text.clear(),
        },
        other => {
            *other = match random.below(4) {
                0 => Value::Null,
                1 => Value::from(random.number()),
                2 => Value::from(-1),
                _ => Value::String("x".repeat(random.below(40) as usize)),
            }
        }
    }
}

#[test]
fn a_manifest_of_a_bundle_names_its_own_parts_or_is_refused() {
    targets::manifest(manifest().to_string().as_bytes()).expect("the seed");
    let seed = manifest().to_string();
    let digest = lastgood::model::Digest::of(seed.as_bytes());
    let text = format!("{{\"version\":1,\"checksum\":\"{digest}\",\"bundle\":{seed}}}\n");
    lastgood::snapshots::bundle::Bundle::decode(text.as_bytes(), targets::SNAPSHOT).expect("the seed is believed");
    run("manifest", |random| {
        let mut value = manifest();
        (0..random.below(4)).for_each(|_| distort(&mut value, random));
        let mut body = value.to_string().into_bytes();
        for _ in 0..random.below(3) {
            let at = random.below(body.len() as u64) as usize;
            match random.below(3) {
                0 => body[at] ^= 1 << random.below(8),
                1 => body.truncate(at.max(1)),
                _ => body.insert(at, random.next() as u8),
            }
        }
        let read = std::panic::catch_unwind(|| targets::manifest(&body));
        assert!(matches!(read, Ok(Ok(()))), "{read:?} of {}", String::from_utf8_lossy(&body));
    });
}

/// An archive of anything with the right checksums: otherwise none would be looked into.
fn archive(random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 10] =
        ["etc/a", "etc/b", "etc/a/b", "/etc/a", "../a", "a/../b", "etc//a", ".", "", "var/lib/kubelet/config.yaml"];
    let mut archive = Vec::new();
    for _ in 0..random.below(5) {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        // Mostly good ones: a file is to be followed by another.
        let name = if random.below(3) == 0 { NAMES[random.below(10) as usize] } else { "" };
        let plain = format!("etc/{}", random.below(30));
        put(0, if name.is_empty() { plain.as_bytes() } else { name.as_bytes() });
        let length = random.below(1500);
        let size = if random.below(8) == 0 { random.number() & 0o77_777_777_777 } else { length };
        for (at, width, number) in [(100, 7, random.number() & 0o7_777_777), (108, 7, 0), (116, 7, 0), (124, 11, size)]
        {
            put(at, format!("{number:0width$o}").as_bytes());
        }
        put(136, b"00000000000");
        put(156, if random.below(10) == 0 { b"2" } else { b"0" });
        put(257, b"ustar\x0000");
        if random.below(4) == 0 {
            put(345, NAMES[random.below(10) as usize].as_bytes());
        }
        if random.below(6) == 0 {
            let at = random.below(512) as usize;
            put(at, &[random.next() as u8]);
        }
        put(148, b"        ");
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.resize(archive.len() + (length as usize).next_multiple_of(512), random.next() as u8);
    }
    archive.resize(archive.len() + 1024, 0);
    match random.below(6) {
        0 => archive.truncate(random.below(archive.len() as u64) as usize),
        1 => {
            let at = random.below(archive.len() as u64) as usize;
            archive[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    archive
}

#[test]
fn an_archive_is_read_into_its_own_directory_or_the_place_is_named() {
    let mut read_whole = 0;
    run("archive", |random| {
        let archive = archive(random);
        let read = std::panic::catch_unwind(|| targets::archive(&archive));
        assert!(matches!(read, Ok(Ok(()))), "{read:?} of {archive:02x?}");
        read_whole += u64::from(lastgood::snapshots::bundle::tar::read(&archive).is_ok_and(|files| files.len() > 1));
    });
    assert!(read_whole > 0, "none was one: nothing beyond the first header was looked at");
}
