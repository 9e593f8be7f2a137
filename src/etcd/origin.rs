//! Whether a restore or an etcd began a WAL. Read from the head of its first segment.
//!
//! ```text
//!   a restore    crc │ metadata │ snapshot 0 │ n × conf change 1…n of term 1 │ hard state: term 1, a vote, commit n │ snapshot n of term 1
//!   founded      crc │ metadata │ snapshot 0 │ n × conf change 1…n of term 1 │ hard state: term 1, no vote, commit n │ …
//!   joined       crc │ metadata │ snapshot 0 │ hard state of a later term …
//! ```
//!
//! A founder may write a snapshot record of index n and term 1, too (three members and `--snapshot-count=1`), so the
//! vote decides as well: an etcd votes for itself in term 2 at the earliest, and a restore writes a vote in term 1.
//!
//! The head never changes while the WAL grows, so the result holds until etcd purges the first segment.

use std::path::Path;

use super::proto::NoMessage;
use super::wal::{self, Fault, Next, Record, Segment};
use crate::model::etcd_data::WalOrigin;

/// The bytes of the first segment that are read: what decides is below one KiB for each member, and the entries behind it are
/// the first that API servers write, a few KiB each.
const MAX_HEAD: u64 = 1 << 20;
/// The fingerprint is taken after so many entries with a request. Each carries a request ID made of the member and the
/// milliseconds of its start, so one would do; the first two are etcd's own (its name, the cluster version), and with
/// four, requests of clients are among them.
const ENTRIES: u64 = 4;

/// How far the records so far are those of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// No record but the one that opens a segment.
    Nothing,
    Metadata,
    /// The empty snapshot, and so many conf changes.
    Changes(u64),
    /// The hard state of a restore behind so many conf changes.
    Voted(u64),
    Restored,
    Began,
}

impl Head {
    /// With the next record; nothing where no log begins like that.
    fn then(self, kind: u64, numbers: [u64; 3]) -> Option<Self> {
        Some(match (self, kind, numbers) {
            (Self::Nothing, 4, _) => Self::Nothing,
            (Self::Nothing, 1, _) => Self::Metadata,
            (Self::Nothing, ..) => return None,
            (Self::Metadata, 5, [0, 0, _]) => Self::Changes(0),
            (Self::Changes(n), 2, [1, 1, index]) if n.checked_add(1) == Some(index) => Self::Changes(index),
            (Self::Changes(n), 3, [1, vote, commit]) if n > 0 && vote != 0 && commit == n => Self::Voted(n),
            // Index first, then term.
            (Self::Voted(n), 5, [index, 1, _]) if index == n => Self::Restored,
            (Self::Restored, ..) => Self::Restored,
            _ => Self::Began,
        })
    }

    fn is_decided(self) -> bool {
        matches!(self, Self::Restored | Self::Began)
    }
}

/// Of a WAL, by the first segment that is left of it: some KiB of that.
pub fn of(first: &Path) -> WalOrigin {
    read(first).unwrap_or_else(|why| WalOrigin::Unknown { why })
}

fn read(first: &Path) -> Result<WalOrigin, String> {
    let told = |fault: Fault| fault.to_string();
    if first.file_name().and_then(|name| wal::sequence(name.to_str()?)) != Some(0) {
        return Err(format!("etcd has purged the first segment of its WAL, {} is the oldest", first.display()));
    }
    let mut segment = Segment::open(first.to_owned(), true).map_err(told)?.only(MAX_HEAD);
    let (mut head, mut entries, mut crc) = (Head::Nothing, Entries::default(), 0);
    let ended = loop {
        match segment.next(crc).map_err(told) {
            Ok(Next::Record(record)) => {
                crc = record.crc;
                match record.message() {
                    Ok((numbers, data)) if head.is_decided() => entries.take(&record, numbers, data),
                    Ok((numbers, data)) => {
                        head =
                            head.then(record.kind, numbers).ok_or_else(|| told(segment.corrupt(NO_LOG.to_owned())))?;
                        entries.take(&record, numbers, data);
                    }
                    Err(NoMessage) => break told(segment.corrupt("a record that cannot be decoded".to_owned())),
                }
                segment.advance();
            }
            Ok(Next::End | Next::Torn) => break "its WAL ends before it tells".to_owned(),
            // What is written at this moment can look damaged: what was read before it was not.
            Err(why) => break why,
        }
        if head.is_decided() && entries.fingerprint.is_some() {
            break String::new();
        }
    };
    let fingerprint = entries.fingerprint;
    match head {
        Head::Restored => Ok(WalOrigin::Restored { fingerprint }),
        Head::Began => Ok(WalOrigin::Began { fingerprint }),
        _ => Err(ended),
    }
}

const NO_LOG: &str = "a WAL begins with its metadata";

/// The entries with a request, counted.
#[derive(Default)]
struct Entries {
    seen: u64,
    /// The index of the last that counts, and the checksum behind it, until it is committed.
    last: Option<(u64, u32)>,
    fingerprint: Option<u32>,
}

impl Entries {
    /// An entry that is not committed may be lost by a power cut, and another one written in its place.
    fn take(&mut self, record: &Record, numbers: [u64; 3], data: &[u8]) {
        match (record.kind, numbers, self.last) {
            (2, [0, _, index], None) if !data.is_empty() => {
                self.seen += 1;
                self.last = (self.seen == ENTRIES).then_some((index, record.crc));
            }
            (3, [_, _, commit], Some((index, crc))) if commit >= index => {
                self.fingerprint.get_or_insert(crc);
            }
            _ => {}
        }
    }
}
