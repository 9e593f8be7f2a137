//! Reads the newest raft snapshot next to the database (`TERM-INDEX.snap`, `server/etcdserver/api/snap` in
//! go.etcd.io/etcd), which the WAL has a record of: an etcd up to 3.6 starts from it.
//!
//! ```text
//!   crc of the rest │ data: the store of version 2 as JSON, with the members │ metadata: conf state, index, term
//! ```
//!
//! A file that is damaged is passed over, as etcd does, which renames it `*.broken`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::proto::{NoMessage, Value, fields};
use crate::sys::files;

/// The store of version 2 of a Kubernetes cluster has some kilobytes a member, and a ring of 1,000 events.
const MAX_BYTES: u64 = 64 << 20;
/// etcd keeps five (`--max-snapshots`).
const MAX_FILES: usize = 100;

/// What such a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftSnapshot {
    pub path: PathBuf,
    pub term: u64,
    pub index: u64,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// The members of the store of version 2, and whether each is a learner there.
    pub members: Vec<(u64, bool)>,
    /// Their names, of those that have started.
    pub names: BTreeMap<u64, String>,
}

/// The newest whole one that is accepted, by term and index.
pub fn newest(dir: &Path, mut accept: impl FnMut(u64, u64) -> bool) -> Option<RaftSnapshot> {
    let named = named(dir).into_iter().filter(|(term, index, _)| accept(*term, *index));
    named.into_iter().find_map(|(_, _, path)| {
        let bytes = files::read_bounded(&path, MAX_BYTES).ok()?;
        decode(&bytes).map(|snapshot| RaftSnapshot { path, ..snapshot })
    })
}

/// The files by term and index, the newest first.
pub fn named(dir: &Path) -> Vec<(u64, u64, PathBuf)> {
    let mut found: Vec<(u64, u64, PathBuf)> = Vec::new();
    for name in files::names(dir).unwrap_or_default() {
        let number = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        let parts = name.strip_suffix(".snap").and_then(|stem| stem.split_once('-'));
        if let Some((term, index)) = parts.and_then(|(term, index)| Some((number(term)?, number(index)?))) {
            found.push((term, index, dir.join(&name)));
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    found.truncate(MAX_FILES);
    found
}

/// Of a file's bytes; nothing where they are not whole.
pub fn decode(file: &[u8]) -> Option<RaftSnapshot> {
    let (mut crc, mut data): (u64, &[u8]) = (0, &[]);
    for field in fields(file) {
        match field.map_err(|NoMessage| ()).ok()? {
            (1, Value::Number(number)) => crc = number,
            (2, Value::Bytes(bytes)) => data = bytes,
            _ => {}
        }
    }
    if data.is_empty() || u64::from(crc32c::crc32c(data)) != crc {
        return None;
    }
    let mut snapshot = RaftSnapshot::default();
    for field in fields(data) {
        match field.map_err(|NoMessage| ()).ok()? {
            (1, Value::Bytes(store)) => members(store, &mut snapshot),
            (2, Value::Bytes(metadata)) => metadata_of(metadata, &mut snapshot)?,
            _ => {}
        }
    }
    Some(snapshot)
}

fn metadata_of(message: &[u8], snapshot: &mut RaftSnapshot) -> Option<()> {
    for field in fields(message) {
        match field.map_err(|NoMessage| ()).ok()? {
            (1, Value::Bytes(state)) => {
                for field in fields(state) {
                    match field.map_err(|NoMessage| ()).ok()? {
                        (1, Value::Number(voter)) => snapshot.voters.push(voter),
                        (2, Value::Number(learner)) => snapshot.learners.push(learner),
                        _ => {}
                    }
                }
            }
            (2, Value::Number(index)) => snapshot.index = index,
            (3, Value::Number(term)) => snapshot.term = term,
            _ => {}
        }
    }
    Some(())
}

/// Of the store's JSON: `/0/members/ID/raftAttributes` and `attributes`, whose values are JSON in turn.
fn members(store: &[u8], snapshot: &mut RaftSnapshot) {
    let Ok(store) = serde_json::from_slice::<Json>(store) else { return };
    let all = store.pointer("/Root/Children/0/Children/members/Children").and_then(Json::as_object);
    for (id, node) in all.into_iter().flatten() {
        let value = |name: &str| {
            let text = node.pointer(&format!("/Children/{name}/Value"))?.as_str()?;
            serde_json::from_str::<Json>(text).ok()
        };
        let Ok(id) = u64::from_str_radix(id, 16) else { continue };
        if let Some(raft) = value("raftAttributes") {
            snapshot.members.push((id, raft.get("isLearner").and_then(Json::as_bool).unwrap_or_default()));
        }
        let name = value("attributes").and_then(|own| own.get("name")?.as_str().map(str::to_owned));
        snapshot.names.extend(name.map(|name| (id, name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::testing;

    #[test]
    fn what_a_restore_writes_is_read_and_what_is_damaged_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("etcd");
        testing::restore(&testing::ask(&testing::snapshot(root.path()), &data, "vm=https://127.0.0.1:2380")).unwrap();
        let snap = data.join("member/snap");
        let read = newest(&snap, |_, _| true).unwrap();
        assert_eq!((read.term, read.index), (1, 1));
        assert_eq!(read.members, [(read.voters[0], false)]);
        assert_eq!(newest(&snap, |_, index| index > 1), None, "none that the WAL knows");
        let mut bytes = std::fs::read(&read.path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(snap.join("0000000000000002-0000000000000009.snap"), &bytes).unwrap();
        assert_eq!(newest(&snap, |_, _| true), Some(read), "the newer one is damaged");
        assert_eq!(decode(b""), None);
    }
}
