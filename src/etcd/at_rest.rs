//! How far the data in a directory have come: its revision, term and index, read while no etcd writes.

use std::path::{Path, PathBuf};

use super::backend::{self, Backend};
use super::wal::{Fault, HardState, Next, Segment};
use crate::model::etcd_data::AtRest;

/// Some pages of the database and the last of the WAL's segments. Nothing where either cannot be read.
pub fn of(database: &Path, segments: &[PathBuf]) -> Option<AtRest> {
    let backend = backend::read(database).ok()?;
    let committed = last_hard_state(segments).ok()??.commit;
    // A commit reaches the file with the next entry, so an etcd that was killed may have applied more than its WAL says.
    let raft_index = committed.max(backend.consistent_index.unwrap_or_default());
    Some(AtRest { revision: revision(&backend), raft_index })
}

/// As an etcd counts it that starts over it: a compaction may have taken the last change away, a tombstone; and a store in
/// which nothing was ever written is at revision 1.
pub(super) fn revision(backend: &Backend) -> i64 {
    let compacted = backend.compacted;
    let all = [backend.revision, compacted.scheduled, compacted.finished];
    all.into_iter().flatten().map(|revision| revision.main).max().unwrap_or_default().max(1)
}

/// What raft promised last. etcd begins each segment with its hard state, so this reads the last segment alone, and one before
/// it only where there is none.
fn last_hard_state(segments: &[PathBuf]) -> Result<Option<HardState>, Fault> {
    for (after, path) in segments.iter().rev().enumerate() {
        let state = hard_state(Segment::open(path.clone(), after == 0)?)?;
        if state.is_some() {
            return Ok(state);
        }
    }
    Ok(None)
}

fn hard_state(mut segment: Segment) -> Result<Option<HardState>, Fault> {
    let (mut state, mut crc) = (None, 0);
    loop {
        match segment.next(crc)? {
            Next::Record(record) => {
                crc = record.crc;
                if record.kind == 3 {
                    let undecodable = |_| segment.corrupt("a hard state that cannot be decoded".to_owned());
                    let ([term, vote, commit], _) = record.message().map_err(undecodable)?;
                    state = Some(HardState { term, vote, commit });
                }
                segment.advance();
            }
            Next::End | Next::Torn => return Ok(state),
        }
    }
}
