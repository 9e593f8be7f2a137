//! Comparison with `etcdutl snapshot restore` 3.5, run here: IDs, WAL and snapshot byte for byte, the database by its
//! content.

use std::fs;

use super::cluster::NewCluster;
use super::testing::{VM, ask, dump, etcdutl, restore, snapshot};
use super::{Node, raft_snapshot, wal_writer};

/// What etcdutl writes for a cluster is what is written here. An etcd that is handed either cannot tell them apart.
fn the_same_as_etcdutl(initial: &str, name: &str, token: &str) {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let theirs = dir.path().join("theirs");
    let cluster = NewCluster::new(initial, token, name, None).unwrap();
    let me = cluster.members.iter().find(|member| member.id == cluster.me).unwrap();
    etcdutl(&[
        "snapshot",
        "restore",
        from.to_str().unwrap(),
        &format!("--data-dir={}", theirs.display()),
        &format!("--name={name}"),
        &format!("--initial-cluster={initial}"),
        &format!("--initial-cluster-token={token}"),
        &format!("--initial-advertise-peer-urls={}", me.peer_urls.join(",")),
        "--bump-revision=1000",
        "--mark-compacted",
    ]);
    let read = |path: &str| fs::read(theirs.join("member").join(path)).unwrap();
    let log = read(&format!("wal/{}", wal_writer::FILE_NAME));
    let ours = wal_writer::segment(&cluster);
    assert!(log.starts_with(&ours), "{initial}: the log differs");
    assert!(log[ours.len()..].iter().all(|byte| *byte == 0), "{initial}: etcdutl wrote more");
    assert!(
        raft_snapshot::file(&cluster) == read(&format!("snap/{}", raft_snapshot::file_name(&cluster))),
        "{initial}: .snap differs"
    );

    let mut ask = ask(&from, &dir.path().join("ours"), initial);
    ask.name = Some(name.to_owned());
    ask.token = Some(token.to_owned());
    ask.bump = Some(1000);
    restore(&ask, &Node::default()).unwrap();
    let ours = dir.path().join("ours/member/snap/db");
    let (mut left, mut right) = (dump(&theirs.join("member/snap/db")), dump(&ours));
    // The one thing etcdutl leaves stale.
    for dump in [&mut left, &mut right] {
        dump.get_mut("meta").unwrap().retain(|(key, _)| key != b"confState");
    }
    assert!(left == right, "{initial}: the databases differ");
    // bbolt's own check, by etcdutl's: it fails for a page that nobody names, or two do.
    etcdutl(&["snapshot", "status", ours.to_str().unwrap()]);
}

#[test]
fn one_member_is_written_as_etcdutl_writes_it() {
    the_same_as_etcdutl(VM, "vm", "etcd-cluster");
}

#[test]
fn two_members_with_odd_names_are_written_as_etcdutl_writes_them() {
    the_same_as_etcdutl("héron <&> \"1\"\u{2028}\t=http://10.0.0.1:2380,b=http://[::1]:2380", "b", "ütoken");
}

#[test]
fn three_members_with_several_urls_are_written_as_etcdutl_writes_them() {
    let initial = "a=https://10.0.0.9:2380,a=http://10.0.0.1:2380,b=https://b.example:2380,c=https://c.example:1";
    the_same_as_etcdutl(initial, "a", "t");
}

#[test]
fn five_members_are_written_as_etcdutl_writes_them() {
    let initial: Vec<String> = (0..5).map(|n| format!("m{n}=https://10.0.0.{n}:2380")).collect();
    the_same_as_etcdutl(&initial.join(","), "m3", "lastgood");
}
