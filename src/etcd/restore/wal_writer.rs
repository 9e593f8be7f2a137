//! Writes the WAL of a new member, which contains only the agreement on its peers (`server/storage/wal` in
//! go.etcd.io/etcd; read by [`crate::etcd::wal`]):
//!
//! ```text
//!   crc 0 │ metadata │ snapshot 0 │ n × entry: add this member │ hard state: commit n │ snapshot n
//! ```
//!
//! etcd preallocates 64 MB for a segment; it accepts a shorter one and allocates what it needs itself.

use super::cluster::{NewCluster, NewMember};
use super::encode::{bytes, number, string, strings};

/// The name of the first segment: its sequence and its first index.
pub(super) const FILE_NAME: &str = "0000000000000000-0000000000000000.wal";
/// The term in which all of it happened.
pub(super) const TERM: u64 = 1;

const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const CRC: u64 = 4;
const SNAPSHOT: u64 = 5;

/// The whole segment.
pub(super) fn segment(cluster: &NewCluster) -> Vec<u8> {
    let mut log = Log::default();
    log.record(CRC, None);
    log.record(METADATA, Some(&message(&[(1, cluster.me), (2, cluster.id)])));
    log.record(SNAPSHOT, Some(&message(&[(1, 0), (2, 0)])));
    for (member, index) in cluster.members.iter().zip(1..) {
        log.record(ENTRY, Some(&entry(member, index)));
    }
    // The vote is for the member of the least ID.
    let vote = cluster.ids().next().unwrap_or_default();
    log.record(STATE, Some(&message(&[(1, TERM), (2, vote), (3, cluster.size())])));
    let mut snapshot = message(&[(1, cluster.size()), (2, TERM)]);
    bytes(&mut snapshot, 3, &conf_state(cluster));
    log.record(SNAPSHOT, Some(&snapshot));
    log.bytes
}

/// `raftpb.ConfState`: 1 the voters, each its own field; 5 auto_leave.
pub(super) fn conf_state(cluster: &NewCluster) -> Vec<u8> {
    let mut state = Vec::new();
    cluster.ids().for_each(|id| number(&mut state, 1, id));
    number(&mut state, 5, 0);
    state
}

/// `raftpb.Entry` of type 1 with a `raftpb.ConfChange` that adds a voter.
fn entry(member: &NewMember, index: u64) -> Vec<u8> {
    let mut change = message(&[(1, 0), (2, 0), (3, member.id)]);
    bytes(&mut change, 4, json(member).as_bytes());
    let mut entry = message(&[(1, 1), (2, TERM), (3, index)]);
    bytes(&mut entry, 4, &change);
    entry
}

/// A member as the log and the database keep it (`membership.Member`).
pub(super) fn json(member: &NewMember) -> String {
    let mut json = format!("{{\"id\":{},\"peerURLs\":", member.id);
    strings(&mut json, &member.peer_urls);
    if !member.name.is_empty() {
        json.push_str(",\"name\":");
        string(&mut json, &member.name);
    }
    json.push('}');
    json
}

fn message(fields: &[(u64, u64)]) -> Vec<u8> {
    let mut message = Vec::new();
    fields.iter().for_each(|(field, value)| number(&mut message, *field, *value));
    message
}

/// Frames, with the checksum so far.
#[derive(Default)]
struct Log {
    crc: u32,
    bytes: Vec<u8>,
}

impl Log {
    fn record(&mut self, kind: u64, data: Option<&[u8]>) {
        self.crc = crc32c::crc32c_append(self.crc, data.unwrap_or_default());
        let mut record = message(&[(1, kind), (2, u64::from(self.crc))]);
        if let Some(data) = data {
            bytes(&mut record, 3, data);
        }
        let padding = record.len().next_multiple_of(8) - record.len();
        let top = if padding > 0 { 0x80 | padding as u64 } else { 0 };
        self.bytes.extend((record.len() as u64 | top << 56).to_le_bytes());
        self.bytes.extend(record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}
