//! Files that real etcds wrote, compared with what these etcds report.

use std::fs;
use std::ops::ControlFlow;

use super::member::Member;
use super::snapshot;
use crate::etcd::bbolt::Database;
use crate::etcd::wal::{self, Tail};
use crate::etcd::{backend, versions};
use crate::model::DataVersion;
use crate::model::etcd_guard::may_open;
use crate::model::versions::Versions;

fn of_cluster(minor: u32) -> DataVersion {
    DataVersion::Known(Versions { cluster: Some((3, minor)), ..Versions::default() })
}

fn what_is_read_is_what_it_says(series: &'static str, minor: u32) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let member = Member::serving(series, &data);
    let database = data.join("member/snap/db");
    for key in 0..30 {
        member.ctl(&["put", &format!("/key/{key:02}"), &"x".repeat(100 * key)]);
        // Whatever it does to it meanwhile.
        for _ in 0..20 {
            backend::read(&database).unwrap();
        }
    }
    // Over several pages each.
    member.ctl(&["put", "/large/1", &"y".repeat(100_000)]);
    member.ctl(&["put", "/large/2", &"z".repeat(100_000)]);
    member.ctl(&["del", "/key/07"]);
    let status = member.json(&["endpoint", "status"]);
    let status = &status[0]["Status"];
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let revision = status["header"]["revision"].as_i64().unwrap();
    member.ctl(&["compact", &(revision - 5).to_string()]);
    let members = member.json(&["member", "list"]);
    assert_eq!(versions::hint(&data), of_cluster(minor), "while it lives");
    // Its database is a tenth of a second behind.
    while backend::read(&database).unwrap().compacted.finished.is_none_or(|done| done.main != revision - 5) {
        std::thread::yield_now();
    }
    drop(member);

    let read = backend::read(&database).unwrap();
    assert_eq!(read.revision.map(|revision| revision.main), Some(revision));
    assert_eq!(read.head.cluster_version, Some(format!("3.{minor}.0")));
    assert_eq!(read.head.storage_version, None);
    assert!(read.consistent_index.unwrap() >= number(&status["raftIndex"]));
    assert_eq!(read.term, (minor >= 5).then(|| number(&status["raftTerm"])));
    let [stands] = read.members.as_slice() else { panic!("{:?}", read.members) };
    let says = &members["members"][0];
    assert_eq!((stands.id, stands.name.as_str()), (number(&says["ID"]), "m0"));
    assert_eq!(stands.peer_urls, [says["peerURLs"][0].as_str().unwrap()]);
    // An etcd 3.5 keeps them in its old store alone.
    let clients = [says["clientURLs"][0].as_str().unwrap()];
    assert_eq!(stands.client_urls, if minor >= 5 { &[][..] } else { &clients[..] });
    assert!(read.removed.is_empty() && read.alarms.is_empty());

    let mut entries = 0;
    let log = wal::read(&data.join("member/wal"), |_| entries += 1).unwrap();
    assert_eq!((log.node_id, log.cluster_id), (stands.id, number(&status["header"]["cluster_id"])));
    let (term, index) = log.last_entry.unwrap();
    assert_eq!(log.hard_state.unwrap().term, term);
    assert!(index >= read.consistent_index.unwrap() && entries as u64 >= index, "{log:?}");
    assert_eq!((log.last_snapshot, log.tail), (Some((0, 0)), Tail::Whole));
    assert_eq!(versions::at_rest(&data, None), of_cluster(minor));
}

#[test]
fn what_is_read_of_an_etcd_3_4_is_what_it_says() {
    what_is_read_is_what_it_says("3.4", 4);
}

#[test]
fn what_is_read_of_an_etcd_3_5_is_what_it_says() {
    what_is_read_is_what_it_says("3.5", 5);
}

#[test]
fn r9_an_older_etcd_that_is_refused_here_refuses_the_data_itself() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let member = Member::serving("3.4", &data);
    // Its database is a tenth of a second behind.
    while versions::hint(&data) != of_cluster(4) {
        std::thread::yield_now();
    }
    drop(member);
    assert_eq!(may_open(Some((3, 5)), &versions::at_rest(&data, None)), Ok(()));
    let database = data.join("member/snap/db");
    let before = fs::read(&database).unwrap();
    drop(Member::serving("3.5", &data));
    let after = versions::at_rest(&data, None);
    assert_eq!(after, of_cluster(5));
    assert!(may_open(Some((3, 4)), &after).is_err());
    let said = Member::refusing("3.4", &data);
    assert!(said.contains("invalid downgrade"), "{said}");

    // A power cut may lose what the database was told last, never what the log was.
    fs::write(&database, before).unwrap();
    assert_eq!(versions::hint(&data), of_cluster(4));
    assert_eq!(versions::at_rest(&data, None), of_cluster(5), "the log tells");
    // A log that is separate tells as much, and one that does not lie where it should tells nothing.
    let (log, apart) = (data.join("member/wal"), dir.path().join("apart"));
    fs::rename(&log, &apart).unwrap();
    assert_eq!(versions::at_rest(&data, Some(&apart)), of_cluster(5), "wherever it lies");
    assert!(matches!(versions::at_rest(&data, Some(&log)), DataVersion::Unknown { .. }));
    fs::rename(&apart, &log).unwrap();
    let said = Member::refusing("3.4", &data);
    assert!(said.contains("invalid downgrade"), "{said}");
}

#[test]
fn a_snapshot_of_an_etcd_3_6_is_read_with_its_storage_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(dir.path());
    let read = backend::read(&path).unwrap();
    assert_eq!(read.revision.unwrap().main, 754);
    assert_eq!(read.head.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!(read.head.cluster_version.as_deref(), Some("3.6.0"));
    let [member] = read.members.as_slice() else { panic!("{:?}", read.members) };
    assert_eq!((member.id, member.name.as_str()), (758_659_209_188_475_983, "vm"));
    assert_eq!(
        (&member.peer_urls[..], &member.client_urls[..]),
        (&["https://127.0.0.1:2380".to_owned()][..], &["https://127.0.0.1:2379".to_owned()][..])
    );
    let db = Database::open(&path).unwrap();
    let mut revisions = 0;
    db.walk(b"key", |_, _| -> ControlFlow<()> {
        revisions += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(revisions >= 311, "{revisions}: etcdutl counts 311 live keys");
    assert_eq!(db.get(b"meta", b"no-such-key").unwrap(), None);
    assert_eq!(db.get(b"no-such-bucket", b"term").unwrap(), None);
    // Each key is found again from the root.
    let mut keys = Vec::new();
    db.walk(b"key", |key, value| -> ControlFlow<()> {
        keys.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    for (key, value) in &keys {
        assert_eq!(db.get(b"key", key).unwrap().as_ref(), Some(value));
    }
    assert_eq!(db.last(b"key").unwrap().as_ref(), keys.last());
}
