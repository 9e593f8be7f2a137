//! The raft snapshot next to the database (`.snap`), from which an etcd up to 3.6 learns its peers.
//!
//! ```text
//!   crc of the rest │ data: the old store as JSON │ metadata: conf state, index n, term 1
//! ```
//!
//! An etcd 3.5 takes the members from the old store (`api/v2store`), so it is written here as that etcd's own restore
//! writes it: the members, the events that created them in a ring of 1,000, and empty statistics.

use super::cluster::{NewCluster, NewMember};
use super::encode::{bytes, number, string, strings};
use super::wal_writer;

/// How many events the old store keeps.
const RING: usize = 1000;
/// A node that never expires.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Its name: term and index.
pub(super) fn file_name(cluster: &NewCluster) -> String {
    format!("{:016x}-{:016x}.snap", wal_writer::TERM, cluster.size())
}

/// The whole file.
pub(super) fn file(cluster: &NewCluster) -> Vec<u8> {
    let mut metadata = Vec::new();
    bytes(&mut metadata, 1, &wal_writer::conf_state(cluster));
    number(&mut metadata, 2, cluster.size());
    number(&mut metadata, 3, wal_writer::TERM);
    let mut snapshot = Vec::new();
    bytes(&mut snapshot, 1, store(cluster).as_bytes());
    bytes(&mut snapshot, 2, &metadata);
    let mut file = Vec::new();
    number(&mut file, 1, u64::from(crc32c::crc32c(&snapshot)));
    bytes(&mut file, 2, &snapshot);
    file
}

/// The old store as JSON.
fn store(cluster: &NewCluster) -> String {
    // Each with the index of the entry that added it; Go writes a map's keys in order.
    let numbered: Vec<(&NewMember, u64)> = cluster.members.iter().zip(1..).collect();
    let mut by_text: Vec<(String, &NewMember, u64)> =
        numbered.iter().map(|(member, index)| (format!("{:x}", member.id), *member, *index)).collect();
    by_text.sort_by(|one, other| one.0.cmp(&other.0));
    let members: Vec<String> = by_text
        .iter()
        .map(|(id, member, index)| {
            let path = format!("/0/members/{id}");
            let leaf = node(&format!("{path}/raftAttributes"), *index, &attributes(member), "null");
            format!("\"{id}\":{}", node(&path, *index, "", &format!("{{\"raftAttributes\":{leaf}}}")))
        })
        .collect();
    let members = node("/0/members", 1, "", &format!("{{{}}}", members.join(",")));
    let zero = node("/0", 0, "", &format!("{{\"members\":{members}}}"));
    let one = node("/1", 0, "", "{}");
    let root = node("/", 0, "", &format!("{{\"0\":{zero},\"1\":{one}}}"));
    let size = numbered.len();
    let mut events: Vec<String> = numbered.iter().map(|(member, index)| event(member, *index)).collect();
    events.resize(RING.max(size), "null".to_owned());
    let none: Vec<String> = [
        "getsSuccess",
        "getsFail",
        "setsSuccess",
        "setsFail",
        "deleteSuccess",
        "deleteFail",
        "updateSuccess",
        "updateFail",
        "createSuccess",
        "createFail",
        "compareAndSwapSuccess",
        "compareAndSwapFail",
        "compareAndDeleteSuccess",
        "compareAndDeleteFail",
        "expireCount",
        "watchers",
    ]
    .into_iter()
    .map(|name| format!("\"{name}\":{}", if name == "createSuccess" { size } else { 0 }))
    .collect();
    format!(
        "{{\"Root\":{root},\"WatcherHub\":{{\"EventHistory\":{{\"Queue\":{{\"Events\":[{}],\"Size\":{size},\"Front\":0,\
         \"Back\":{size},\"Capacity\":{RING}}},\"StartIndex\":1,\"LastIndex\":{size}}}}},\"CurrentIndex\":{size},\
         \"Stats\":{{{}}},\"CurrentVersion\":2}}",
        events.join(","),
        none.join(",")
    )
}

fn node(path: &str, index: u64, value: &str, children: &str) -> String {
    let mut quoted = String::new();
    string(&mut quoted, value);
    format!(
        "{{\"Path\":\"{path}\",\"CreatedIndex\":{index},\"ModifiedIndex\":{index},\"ExpireTime\":\"{NEVER}\",\"Value\":\
         {quoted},\"Children\":{children}}}"
    )
}

fn event(member: &NewMember, index: u64) -> String {
    let mut value = String::new();
    string(&mut value, &attributes(member));
    format!(
        "{{\"action\":\"create\",\"node\":{{\"key\":\"/0/members/{:x}/raftAttributes\",\"value\":{value},\
         \"modifiedIndex\":{index},\"createdIndex\":{index}}}}}",
        member.id
    )
}

fn attributes(member: &NewMember) -> String {
    let mut attributes = "{\"peerURLs\":".to_owned();
    strings(&mut attributes, &member.peer_urls);
    attributes.push('}');
    attributes
}
