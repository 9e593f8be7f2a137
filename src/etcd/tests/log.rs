//! WALs made by the tests, to be truncated and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::etcd::wal::{self, Fault, HardState, Tail, Wal};

/// Writes segments as etcd does.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) crc: u32,
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// A segment of some member, which carries the checksum of the one before it on.
    pub(super) fn segment(before: u32) -> Self {
        let mut writer = Self { crc: before, bytes: Vec::new() };
        writer.record(4, None);
        writer.record(1, Some(&[0x08, 7, 0x10, 9]));
        writer
    }

    pub(super) fn record(&mut self, kind: u8, data: Option<&[u8]>) {
        if let Some(data) = data {
            self.crc = crc32c::crc32c_append(self.crc, data);
        }
        let mut record = vec![0x08, kind, 0x10];
        let mut crc = self.crc;
        while crc >= 0x80 {
            record.push(crc as u8 | 0x80);
            crc >>= 7;
        }
        record.push(crc as u8);
        if let Some(data) = data {
            record.push(0x1a);
            let mut length = data.len();
            while length >= 0x80 {
                record.push(length as u8 | 0x80);
                length >>= 7;
            }
            record.push(length as u8);
            record.extend(data);
        }
        let padding = (8 - record.len() % 8) % 8;
        let top = if padding > 0 { 0x80 | padding as u64 } else { 0 };
        self.bytes.extend((record.len() as u64 | top << 56).to_le_bytes());
        self.bytes.extend(record);
        self.bytes.extend(vec![0; padding]);
    }

    pub(super) fn entry(&mut self, term: u8, index: u8, data: &[u8]) {
        let mut entry = vec![0x08, 0, 0x10, term, 0x18, index, 0x22];
        let mut length = data.len();
        while length >= 0x80 {
            entry.push(length as u8 | 0x80);
            length >>= 7;
        }
        entry.push(length as u8);
        entry.extend(data);
        self.record(2, Some(&entry));
    }
}

pub(super) fn write(dir: &Path, sequence: u64, bytes: &[u8]) -> PathBuf {
    let path = dir.join(format!("{sequence:016x}-{:016x}.wal", sequence * 3));
    fs::write(&path, bytes).unwrap();
    path
}

fn read(dir: &Path) -> Result<(Wal, Vec<u64>), Fault> {
    let mut indexes = Vec::new();
    wal::read(dir, |entry| indexes.push(entry.index)).map(|wal| (wal, indexes))
}

fn first() -> Writer {
    let mut first = Writer::segment(0);
    first.record(5, Some(&[0x08, 0, 0x10, 0]));
    first.entry(1, 1, b"one");
    first.record(3, Some(&[0x08, 1, 0x10, 7, 0x18, 1]));
    first
}

#[test]
fn segments_are_read_in_order_and_their_checksums_are_chained() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = first();
    let mut two = Writer::segment(one.crc);
    two.entry(2, 2, &[b'x'; 700]);
    two.record(3, Some(&[0x08, 2, 0x10, 7, 0x18, 2]));
    two.record(5, Some(&[0x08, 2, 0x10, 2]));
    // Allotted ahead.
    one.bytes.extend([0; 4096]);
    two.bytes.extend([0; 4096]);
    write(dir.path(), 0, &one.bytes);
    write(dir.path(), 1, &two.bytes);
    fs::write(dir.path().join("1.tmp"), "the next one").unwrap();
    let (wal, indexes) = read(dir.path()).unwrap();
    assert_eq!(indexes, [1, 2]);
    let expected = Wal {
        node_id: 7,
        cluster_id: 9,
        hard_state: Some(HardState { term: 2, vote: 7, commit: 2 }),
        last_entry: Some((2, 2)),
        last_snapshot: Some((2, 2)),
        snapshots: vec![(0, 0), (2, 2)],
        gaps: vec![],
        tail: Tail::Whole,
    };
    assert_eq!(wal, expected);

    // The first was purged: what is left begins with the checksum of what is gone.
    fs::remove_file(dir.path().join("0000000000000000-0000000000000000.wal")).unwrap();
    assert_eq!(read(dir.path()).unwrap().1, [2]);

    let stranger = Writer::segment(1234);
    write(dir.path(), 0, &first().bytes);
    write(dir.path(), 1, &stranger.bytes);
    assert!(read(dir.path()).unwrap_err().to_string().contains("at byte 0: its checksum"), "of another log");
    write(dir.path(), 3, &two.bytes);
    assert!(read(dir.path()).unwrap_err().to_string().contains("the segments between are missing"));
}

#[test]
fn a_log_that_is_cut_anywhere_is_torn_and_keeps_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let whole = first().bytes;
    for length in 0..whole.len() {
        let path = write(dir.path(), 0, &whole[..length]);
        let (wal, indexes) = read(dir.path()).unwrap();
        assert!(indexes.len() <= 1);
        if let Tail::Torn { segment, offset } = wal.tail {
            assert_eq!(segment, path);
            assert!(offset as usize <= length && offset % 8 == 0);
        } else {
            let boundary = (0..=length).rev().find(|at| at % 8 == 0).unwrap();
            assert_eq!(length, boundary, "cut within a frame, and not seen");
        }
    }
    // The same in a segment that another one follows is corruption.
    write(dir.path(), 0, &whole[..whole.len() - 3]);
    write(dir.path(), 1, &Writer::segment(first().crc).bytes);
    assert!(read(dir.path()).unwrap_err().to_string().contains("not the last segment"));
}

#[test]
fn a_sector_that_was_never_written_is_a_torn_tail_and_a_flipped_bit_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = first();
    let frame = writer.bytes.len();
    writer.entry(1, 2, &[b'x'; 1500]);
    let mut torn = writer.bytes.clone();
    torn[1024..1536].fill(0);
    write(dir.path(), 0, &torn);
    let (wal, indexes) = read(dir.path()).unwrap();
    assert_eq!(indexes, [1]);
    assert!(matches!(wal.tail, Tail::Torn { offset, .. } if offset == frame as u64), "{wal:?}");

    let whole = first().bytes;
    // A record's type is in no checksum: its second byte, behind the frame's length.
    let mut types = Vec::new();
    let mut frame = 0;
    while frame < whole.len() {
        types.push(frame + 9);
        let word = u64::from_le_bytes(whole[frame..frame + 8].try_into().unwrap());
        frame += 8 + ((word & 0xffff) as usize).next_multiple_of(8);
    }
    for at in (0..whole.len()).filter(|at| !types.contains(at)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x01;
        write(dir.path(), 0, &flipped);
        match read(dir.path()) {
            // What the first record says of the checksum is only told by the second.
            Err(Fault::Corrupt { offset, .. }) => assert!(offset as usize <= at.max(16), "byte {at}: {offset}"),
            Err(other) => panic!("byte {at}: {other}"),
            // A length that reaches beyond the end, a length of nothing, or a byte of padding.
            Ok((wal, _)) => {
                let padding = wal == read_of(&dir, &whole);
                let word = matches!(wal.tail, Tail::Torn { .. });
                assert!(padding || word, "byte {at} was flipped, and nobody saw it: {wal:?}");
            }
        }
    }
}

fn read_of(dir: &tempfile::TempDir, bytes: &[u8]) -> Wal {
    write(dir.path(), 0, bytes);
    read(dir.path()).unwrap().0
}

#[test]
fn lengths_that_cannot_be_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = first().bytes;
    bytes.extend((u64::MAX >> 8).to_le_bytes());
    bytes.extend([1; 64]);
    write(dir.path(), 0, &bytes);
    assert!(matches!(read(dir.path()).unwrap().0.tail, Tail::Torn { .. }));
    fs::File::create(dir.path().join("big")).unwrap();
    let path = dir.path().join("0000000000000000-0000000000000000.wal");
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
    let mut huge = first().bytes;
    huge.extend((1u64 << 39).to_le_bytes());
    let file =
        fs::OpenOptions::new().write(true).open(dir.path().join("0000000000000000-0000000000000000.wal")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &huge, 0).unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("more than is read"));
    assert!(matches!(read(&dir.path().join("none")), Err(Fault::Io { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(read(empty.path()), Err(Fault::Empty { .. })));
}
