//! Reads etcd's write-ahead log from its first segment to its last record (`server/storage/wal` in go.etcd.io/etcd).
//!
//! ```text
//!   SEQUENCE-INDEX.wal   in order of the sequence, without a gap
//!   frame                u64: length in the low 56 bits, 0x80 | padding in the top byte; record; padding to 8 bytes
//!   record               1 type, 2 crc, 3 data; crc is CRC-32C over the data of all records so far
//!   types                1 metadata, 2 entry, 3 hard state, 4 crc (opens each segment), 5 snapshot
//! ```
//!
//! A length of 0, or the end of the file, ends a segment: etcd preallocates segments. A crash may tear the last record
//! of the last segment; etcd truncates it at its next start. Any other inconsistency is corruption.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use super::proto::{NoMessage, Value, fields};

/// The largest record that is read, in bytes. etcd refuses requests above 1.5 MB by default.
const MAX_RECORD: u64 = 64 << 20;
/// The most segments that are read: etcd keeps five (`--max-wals`), and more where it runs behind.
const MAX_SEGMENTS: usize = 10_000;
/// Snapshot records and gaps that are listed.
pub const MAX_LISTED: usize = 1000;
/// A disk writes whole sectors: a record of which one is all zeros was never written to its end.
const SECTOR: u64 = 512;
/// A frame's length word.
const WORD: u64 = 8;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system's word.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        error: io::Error,
    },
    /// There is no segment.
    #[error("{} contains no WAL segment", path.display())]
    Empty { path: PathBuf },
    /// A record that is damaged, and not merely cut off by a crash.
    #[error("{} at byte {offset}: {what}", path.display())]
    Corrupt {
        path: PathBuf,
        /// Where its frame begins.
        offset: u64,
        what: String,
    },
}

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wal {
    /// The member it belongs to.
    pub node_id: u64,
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// What raft last promised.
    pub hard_state: Option<HardState>,
    /// Term and index of the last entry. An entry of an index that was there before takes the place of that one and of all
    /// after it.
    pub last_entry: Option<(u64, u64)>,
    /// Term and index of the last snapshot record.
    pub last_snapshot: Option<(u64, u64)>,
    /// Term and index of all of them, the last [`MAX_LISTED`] of a log that has more.
    pub snapshots: Vec<(u64, u64)>,
    /// Where entries are missing: the last index before the gap, and the first after it.
    pub gaps: Vec<(u64, u64)>,
    /// How it ends.
    pub tail: Tail,
}

/// Raft's hard state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    /// Whom it voted for.
    pub vote: u64,
    /// The last entry it knows to be committed.
    pub commit: u64,
}

/// How a log ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// After a whole record.
    #[default]
    Whole,
    /// Within one: a crash cut it off.
    Torn {
        /// In which segment.
        segment: PathBuf,
        /// Where the whole records end.
        offset: u64,
    },
}

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// 0: a request; 1 and 2: a change of the membership.
    pub kind: u64,
    /// The term it was written in.
    pub term: u64,
    pub index: u64,
    /// What it asks for.
    pub data: &'a [u8],
}

/// Reads a log, and shows each entry as it comes.
///
/// # Errors
/// [`Fault::Corrupt`] names the segment and the byte at which its frame begins.
pub fn read(dir: &Path, mut show: impl FnMut(&Entry<'_>)) -> Result<Wal, Fault> {
    let segments = segments(dir)?;
    let mut wal = Wal::default();
    let mut crc = 0;
    let last = segments.len() - 1;
    for (at, path) in segments.into_iter().enumerate() {
        let mut segment = Segment::open(path, at == last)?;
        loop {
            match segment.next(crc)? {
                Next::Record(record) => {
                    crc = record.crc;
                    take(&mut wal, &record, &mut show).map_err(|NoMessage| {
                        segment.corrupt(format!("a record of type {} that cannot be decoded", record.kind))
                    })?;
                    segment.advance();
                }
                Next::End => break,
                Next::Torn => {
                    wal.tail = Tail::Torn { segment: segment.path, offset: segment.offset };
                    return Ok(wal);
                }
            }
        }
    }
    Ok(wal)
}

/// The segments in order.
///
/// # Errors
/// [`Fault::Empty`] where there is none, [`Fault::Corrupt`] where one is missing between two.
pub fn segments(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let broken = |error| Fault::Io { path: dir.to_owned(), error };
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir).map_err(broken)? {
        let path = entry.map_err(broken)?.path();
        if let Some(sequence) = path.file_name().and_then(|name| sequence(name.to_str()?)) {
            found.push((sequence, path));
        }
        if found.len() > MAX_SEGMENTS {
            return Err(broken(io::Error::other(format!("it has more than {MAX_SEGMENTS} segments"))));
        }
    }
    found.sort();
    for pair in found.windows(2) {
        if let [(before, _), (after, path)] = pair
            && before.checked_add(1) != Some(*after)
        {
            let what = format!("it follows segment {before:#x}, and the segments between are missing");
            return Err(Fault::Corrupt { path: path.clone(), offset: 0, what });
        }
    }
    if found.is_empty() {
        return Err(Fault::Empty { path: dir.to_owned() });
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// `0000000000000001-00000000000186a1.wal`
pub(super) fn sequence(name: &str) -> Option<u64> {
    let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
    let hexadecimal = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    hexadecimal(index)?;
    hexadecimal(sequence)
}

/// One record of a segment, its checksum compared.
pub(super) struct Record {
    pub(super) kind: u64,
    /// The running one, this record included.
    pub(super) crc: u32,
    data: Vec<u8>,
}

impl Record {
    /// What it holds: the numbers of its fields 1 to 3, and the bytes of field 4.
    pub(super) fn message(&self) -> Result<([u64; 3], &[u8]), NoMessage> {
        let (mut numbers, mut data): (_, &[u8]) = ([0; 3], &[]);
        for field in fields(&self.data) {
            match field? {
                (number @ 1..=3, Value::Number(value)) => {
                    if let Some(place) = usize::try_from(number - 1).ok().and_then(|at| numbers.get_mut(at)) {
                        *place = value;
                    }
                }
                (4, Value::Bytes(bytes)) => data = bytes,
                _ => {}
            }
        }
        Ok((numbers, data))
    }
}

/// What comes next in a segment.
pub(super) enum Next {
    Record(Record),
    End,
    Torn,
}

/// A segment, read frame by frame.
pub(super) struct Segment {
    path: PathBuf,
    reader: BufReader<File>,
    length: u64,
    /// Where the frame at hand begins.
    offset: u64,
    /// Its length, word and padding included.
    frame: u64,
    last: bool,
}

impl Segment {
    /// `last` says that no other one follows: what is cut off at its end is torn, and not corrupt.
    pub(super) fn open(path: PathBuf, last: bool) -> Result<Self, Fault> {
        // Non-blocking: a fifo may be there, which nobody writes to.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) if metadata.is_file() => {
                Ok(Self { path, reader: BufReader::new(file), length: metadata.len(), offset: 0, frame: 0, last })
            }
            Ok(_) => Err(Fault::Io { path, error: io::Error::other("it is not a regular file") }),
            Err(error) => Err(Fault::Io { path, error }),
        }
    }

    /// Takes no more than its first bytes for all of it.
    pub(super) fn only(self, bytes: u64) -> Self {
        Self { length: self.length.min(bytes), ..self }
    }

    /// Goes on to the next frame.
    pub(super) fn advance(&mut self) {
        self.offset += self.frame;
    }

    pub(super) fn corrupt(&self, what: String) -> Fault {
        Fault::Corrupt { path: self.path.clone(), offset: self.offset, what }
    }

    /// What is cut off in the middle: torn where nothing follows, corrupt where something does.
    fn cut(&self, what: &str) -> Result<Next, Fault> {
        if self.last { Ok(Next::Torn) } else { Err(self.corrupt(format!("{what}, and this is not the last segment"))) }
    }

    fn read(&mut self, length: u64) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let read = (&mut self.reader).take(length).read_to_end(&mut bytes);
        match read {
            Ok(read) => Ok((read as u64 == length).then_some(bytes)),
            Err(error) => Err(Fault::Io { path: self.path.clone(), error }),
        }
    }

    /// Reads the frame at hand; `crc` is the running checksum before it.
    pub(super) fn next(&mut self, crc: u32) -> Result<Next, Fault> {
        let left = self.length.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Next::End);
        }
        if left < WORD {
            return self.cut("its last frame has no whole length");
        }
        let mut word = [0; WORD as usize];
        match self.reader.read_exact(&mut word) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return self.cut("it ended while it was read");
            }
            Err(error) => return Err(Fault::Io { path: self.path.clone(), error }),
        }
        let word = u64::from_le_bytes(word);
        if word == 0 {
            return Ok(Next::End);
        }
        let length = word & ((1 << 56) - 1);
        let padding = if word >> 63 == 1 { word >> 56 & 0x7 } else { 0 };
        // An etcd 2 did not pad, and said nothing of it.
        if word >> 56 != 0 && (length + padding) % WORD != 0 {
            return Err(self.corrupt(format!("a record of {length} bytes that is padded with {padding}")));
        }
        if length + padding > left - WORD {
            return self.cut(&format!("a record of {length} bytes that reaches beyond its end"));
        }
        if length > MAX_RECORD {
            return Err(self.corrupt(format!("a record of {length} bytes, more than is read ({MAX_RECORD})")));
        }
        let Some(bytes) = self.read(length + padding)? else { return self.cut("it ended while it was read") };
        self.frame = WORD + length + padding;
        match parse(bytes.get(..length as usize).unwrap_or_default(), crc) {
            Ok(record) => Ok(Next::Record(record)),
            Err(_) if self.last && has_an_empty_sector(&bytes, self.offset + WORD) => Ok(Next::Torn),
            Err(what) => Err(self.corrupt(what)),
        }
    }
}

/// Whether one of the sectors that some bytes are on was never written (etcd's `isTornEntry`).
fn has_an_empty_sector(bytes: &[u8], offset: u64) -> bool {
    let first = (SECTOR - offset % SECTOR) as usize;
    let (first, rest) = bytes.split_at(first.min(bytes.len()));
    let mut sectors = std::iter::once(first).chain(rest.chunks(SECTOR as usize));
    sectors.any(|sector| !sector.is_empty() && sector.iter().all(|byte| *byte == 0))
}

fn parse(record: &[u8], crc: u32) -> Result<Record, String> {
    let (mut kind, mut says, mut data): (_, u64, &[u8]) = (0, 0, &[]);
    for field in fields(record) {
        match field.map_err(|NoMessage| "it is no record")? {
            (1, Value::Number(number)) => kind = number,
            (2, Value::Number(number)) => says = number,
            (3, Value::Bytes(bytes)) => data = bytes,
            _ => {}
        }
    }
    let says = u32::try_from(says).map_err(|_| format!("its checksum {says:#x} is none"))?;
    // The record that opens a segment carries the checksum on. In the first that is left there is none yet to compare.
    let expected = match kind {
        4 if crc == 0 => says,
        4 => crc,
        _ => crc32c::crc32c_append(crc, data),
    };
    if says != expected {
        return Err(format!("its checksum is {says:#010x}, and the records make {expected:#010x}"));
    }
    Ok(Record { kind, crc: says, data: data.to_vec() })
}

fn take(wal: &mut Wal, record: &Record, show: &mut impl FnMut(&Entry<'_>)) -> Result<(), NoMessage> {
    let ([one, two, three], data) = record.message()?;
    match record.kind {
        1 => (wal.node_id, wal.cluster_id) = (one, two),
        2 => {
            let before = wal.last_entry.map_or(0, |(_, index)| index);
            if three > before.saturating_add(1) && wal.gaps.len() < MAX_LISTED {
                wal.gaps.push((before, three));
            }
            wal.last_entry = Some((two, three));
            show(&Entry { kind: one, term: two, index: three, data });
        }
        3 => wal.hard_state = Some(HardState { term: one, vote: two, commit: three }),
        // Index first, then term.
        5 => {
            wal.last_snapshot = Some((two, one));
            if wal.snapshots.len() == MAX_LISTED {
                wal.snapshots.remove(0);
            }
            wal.snapshots.push((two, one));
        }
        4 => {}
        _ => return Err(NoMessage),
    }
    Ok(())
}
