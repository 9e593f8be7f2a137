//! What is refused and why, what is lost and kept, and what a restore must never get wrong.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::testing::{VM, ask, dump, names, read, refused, restore, snapshot};
use super::{Fault, Finished, NewCluster, Node, OfManifest, Recorded, Unreadable, finish, transform};
use crate::etcd::backend::{self, Member};
use crate::etcd::bbolt::Database;
use crate::etcd::bbolt::writer::Writer;
use crate::etcd::encryption::{Configuration, Encryption};
use crate::etcd::snapshot::{RawCopy, Rejected, data_dir};
use crate::etcd::wal;
use crate::model::NewerFile;
use crate::model::manifest::RunsAs;
use crate::sys::files::{self, Attributes};

/// A data directory of this member, made by us.
fn restored(dir: &Path, cluster: &str) -> std::path::PathBuf {
    let from = snapshot(dir);
    let data = dir.join("data");
    restore(&ask(&from, &data, cluster), &Node::default()).unwrap();
    data
}

fn a_manifest(data: &Path) -> Node {
    let etcd = OfManifest {
        file: "/etc/kubernetes/manifests/etcd.yaml".into(),
        name: Some("vm".to_owned()),
        advertised: Some("https://127.0.0.1:2380".to_owned()),
        data_dir: Some(data.to_owned()),
        wal_dir: None,
        version: Some((3, 6)),
        runs_as: RunsAs::default(),
        startable: None,
    };
    Node { etcd: Some(etcd), ..Node::default() }
}

/// Asked with nothing but the file.
fn bare(from: &Path) -> super::RestoreOptions {
    let mut ask = ask(from, Path::new(""), VM);
    (ask.data_dir, ask.name, ask.initial_cluster, ask.stopped) = (None, None, None, Vec::new());
    ask
}

#[test]
fn a_manifest_tells_all_that_is_needed_and_what_stood_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = restored(dir.path(), VM);
    fs::write(data.join("member/mark"), "old").unwrap();
    let from = snapshot(dir.path());
    let restored = restore(&bare(&from), &a_manifest(&data)).unwrap();
    let kept = data.join(restored.aside.as_ref().unwrap());
    assert_eq!(fs::read_to_string(kept.join("mark")).unwrap(), "old");
    assert!(!data.join("member/mark").exists());
    let (left, records) = names(&data);
    assert_eq!((left, records), (vec!["member".to_owned(), restored.aside.clone().unwrap()], 2));
    let records = files::names(&data).unwrap().into_iter().filter(|name| name.starts_with(".lastgood-restored-"));
    let read = |name: String| serde_json::from_slice::<serde_json::Value>(&fs::read(data.join(name)).unwrap()).unwrap();
    let record = records.map(read).find(|record| record["aside"] == *restored.aside.as_ref().unwrap()).unwrap();
    assert_eq!((&record["from"], &record["revision"]), (&from.to_str().unwrap().into(), &754.into()));
    assert_eq!(
        (&record["snapshot"], &record["token"]),
        (&restored.snapshot.to_string().into(), &restored.token.clone().into())
    );
    assert_eq!((&record["moved_to"], &record["by"]), (&restored.moved_to.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(record["cluster_id"], format!("{:x}", cluster_of(&data.join("member/wal"))));
    let read = backend::read(&data.join("member/snap/db")).unwrap();
    assert_eq!(read.revision.unwrap().main, restored.moved_to.unwrap());
    assert_eq!((read.consistent_index, read.term), (Some(1), Some(1)));
    // What was restored first is the old data: its revisions were moved already.
    assert!(restored.moved_to.unwrap() >= 754 + 2 * super::revisions::UNSEEN, "{restored:?}");
    assert_eq!(finish(&data).unwrap(), []);
}

#[test]
fn beside_what_the_manifest_names_the_members_of_the_snapshot_are_a_warning_and_those_of_the_old_data_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let (own, trial) = (dir.path().join("own"), dir.path().join("trial"));
    let m1 = Member { id: 7, name: "m1".to_owned(), peer_urls: vec!["https://i:1".to_owned()], ..Member::default() };
    let seen = Recorded { revision: 5000, at: jiff::Timestamp::UNIX_EPOCH, members: vec![m1] };
    let node = Node { recorded: Some(seen), ..a_manifest(&own) };
    let cluster = "test=http://127.0.0.1:12380";
    let test = || super::RestoreOptions { stopped: Vec::new(), ..ask(&from, &trial, cluster) };
    let warnings = |ask: &super::RestoreOptions| {
        let afterwards = ask.plan(&node, read).unwrap().plan.afterwards;
        afterwards.into_iter().filter(|then| then.contains("for a trial")).collect::<Vec<_>>()
    };
    let [warning] = &warnings(&test())[..] else { panic!("no warning") };
    assert!(warning.contains("vm (") && warning.contains("m1 (7, https://i:1)"), "{warning}");
    let stopped = vec!["vm".to_owned(), "m1".to_owned()];
    assert_eq!(warnings(&super::RestoreOptions { stopped, ..test() }), [""; 0]);
    // The directory that the manifest names, or a flag left out: nothing is a trial.
    refused(&super::RestoreOptions { data_dir: Some(own.clone()), ..test() }, &node);
    refused(&super::RestoreOptions { data_dir: None, ..test() }, &node);
    // Nor is it where no manifest says that the node's own data are elsewhere: no manifest, or one without --data-dir.
    let mut nameless = node.clone();
    nameless.etcd.as_mut().unwrap().data_dir = None;
    let without = Node { etcd: None, ..node.clone() };
    for (situation, node) in [("no manifest", &without), ("no --data-dir in it", &nameless)] {
        let why = refused(&test(), node);
        assert!(why.contains("vm (") && why.contains("m1 (7, https://i:1)"), "{situation}: {why}");
        let stopped = vec!["vm".to_owned(), "m1".to_owned()];
        super::RestoreOptions { stopped, ..test() }.plan(node, read).unwrap();
    }
    // What is already in the directory is of a cluster that may run.
    restore(&test(), &node).unwrap();
    let replace = super::RestoreOptions { replace: true, ..test() };
    assert_eq!(warnings(&replace).len(), 1, "the same member");
    let another = super::RestoreOptions {
        name: Some("other".to_owned()),
        initial_cluster: Some("other=http://127.0.0.1:22380".to_owned()),
        ..replace
    };
    assert!(refused(&another, &node).contains("name other members: test ("));
}

#[test]
fn data_that_nothing_was_before_belong_to_whom_the_manifest_runs_etcd_as() {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let (data, given, other) = (dir.path().join("data"), dir.path().join("given"), dir.path().join("other"));
    let runs_as = RunsAs { user: Some(2001), group: Some(2002) };
    let node = |data: &Path| {
        let node = a_manifest(data);
        Node { etcd: node.etcd.map(|etcd| OfManifest { runs_as, ..etcd }), ..node }
    };
    let owners = |data: &Path| {
        let owner = |path: &str| fs::metadata(data.join(path)).map(|found| (found.uid(), found.gid())).unwrap();
        ["", "member", "member/snap/db", "member/wal"].map(owner)
    };
    restore(&bare(&from), &node(&data)).unwrap();
    assert_eq!(owners(&data), [(2001, 2002); 4]);
    // A directory that exists keeps its owner, and gives it to what is put into it.
    fs::create_dir(&given).unwrap();
    restore(&bare(&from), &node(&given)).unwrap();
    let own = Attributes::private();
    assert_eq!(owners(&given), [(own.uid, own.gid); 4]);
    // The manifest says nothing of a directory that it does not name.
    restore(&ask(&from, &other, VM), &node(&data)).unwrap();
    assert_eq!(owners(&other), [(own.uid, own.gid); 4]);
}

#[test]
fn each_reason_not_to_is_told_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let data = dir.path().join("data");
    let none = Node::default();
    let says = |ask: &super::RestoreOptions, node: &Node, words: &str| {
        let said = refused(ask, node);
        assert!(said.contains(words), "{said}, not {words}");
        assert!(!data.exists() || files::names(&data).unwrap().iter().all(|name| !name.starts_with('.')), "{said}");
    };
    let good = || ask(&from, &data, VM);
    says(&bare(&from), &none, "no etcd manifest is on this node; next: give --name, --initial-cluster");
    says(&super::RestoreOptions { name: None, ..good() }, &none, "which member");
    says(&super::RestoreOptions { initial_cluster: None, ..good() }, &none, "at which URL the peers reach this member");
    says(
        &super::RestoreOptions { name: Some("m7".to_owned()), ..good() },
        &none,
        "--name m7 is not in --initial-cluster",
    );
    says(
        &super::RestoreOptions { advertised: Some("https://h:1".to_owned()), ..good() },
        &none,
        "is not what --initial-cluster says",
    );
    says(
        &super::RestoreOptions { data_dir: Some("/no/such/place".into()), ..good() },
        &none,
        "/no/such does not exist",
    );
    // R9.
    says(
        &super::RestoreOptions { etcd_version: Some((3, 5)), ..good() },
        &none,
        "etcd 3.5 cannot open data of storage version 3.6",
    );
    // Revisions.
    says(&super::RestoreOptions { bump: Some(u64::MAX), ..good() }, &none, "cannot be moved so far");
    let seen = Recorded { revision: 5000, at: jiff::Timestamp::UNIX_EPOCH, members: Vec::new() };
    let node = Node { recorded: Some(seen.clone()), ..Node::default() };
    says(&super::RestoreOptions { bump: Some(10), ..good() }, &node, "revision 5000 was already given out");
    // Q2.
    let three = "m0=https://h:1,m1=https://i:1,m2=https://j:1";
    let advertised = Some("https://h:1".to_owned());
    let unknown =
        || super::RestoreOptions { stopped: Vec::new(), advertised: advertised.clone(), ..ask(&from, &data, three) };
    says(&unknown(), &a_manifest(&data), "name other members: vm (");
    let m1 = Member { id: 7, name: "m1".to_owned(), peer_urls: vec!["https://i:1".to_owned()], ..Member::default() };
    let node = Node { recorded: Some(Recorded { members: vec![m1], ..seen }), ..a_manifest(&data) };
    says(&bare(&from), &node, "memory name other members: m1 (7, https://i:1)");
    // The agreement of several.
    says(
        &super::RestoreOptions { token: Some("t".to_owned()), ..ask(&from, &data, three) },
        &none,
        "give --bump-revision as well",
    );
    let token = Some("lastgood-000000000000-1000000754-0123456789abcdef".to_owned());
    says(
        &super::RestoreOptions { token, ..ask(&from, &data, three) },
        &none,
        "restore every member from the same file",
    );
    // The existing data.
    fs::create_dir(&data).unwrap();
    fs::write(data.join("precious"), "x").unwrap();
    says(&good(), &none, "is not empty: precious is in it; next: to replace it, add --replace");
    fs::remove_file(data.join("precious")).unwrap();
    let apart = |dir: &str| super::RestoreOptions { wal_dir: Some(dir.into()), ..good() };
    says(&apart(data.join("member/log").to_str().unwrap()), &none, "which is exchanged as a whole");
    says(&apart("/fast/wal"), &none, "/fast does not exist");
    says(&apart(from.to_str().unwrap()), &none, "is a regular file, no directory");
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    fs::write(log.join("0.tmp"), "x").unwrap();
    says(&apart(log.to_str().unwrap()), &none, "is not empty: 0.tmp is in it");
    // The snapshot itself.
    let whole = fs::read(&from).unwrap();
    fs::write(&from, &whole[..whole.len() - 32]).unwrap();
    let fault = good().plan(&none, read).unwrap_err();
    assert!(matches!(fault, Fault::Rejected(Rejected::NoTrailer { .. })), "{fault}");
    let raw = super::RestoreOptions { raw_copy: RawCopy::Allow, ..good() };
    let plan = raw.plan(&none, read).unwrap().plan;
    assert!(plan.text().contains("carries no SHA-256"), "{}", plan.text());
    let mut flipped = whole;
    flipped[100_000] ^= 1;
    fs::write(&from, flipped).unwrap();
    assert!(matches!(good().plan(&none, read).unwrap_err(), Fault::Rejected(_)));
}

#[test]
fn a_data_directory_that_is_in_use_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let data = restored(dir.path(), VM);
    let from = snapshot(dir.path());
    let ask = super::RestoreOptions { replace: true, ..ask(&from, &data, VM) };
    let database = data.join("member/snap/db");
    let before = fs::read(&database).unwrap();
    let held = Flock::lock(fs::File::open(&database).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
    let planned = ask.plan(&Node::default(), read).unwrap();
    assert!(planned.plan.text().contains("stop etcd: "), "{}", planned.plan.text());
    let fault = planned.build(&mut |_, _| {}).unwrap_err();
    assert!(fault.to_string().contains("its database is locked"), "{fault}");
    drop(held);
    // Another process has it open, with or without a lock.
    let mut reader = std::process::Command::new("tail")
        .arg("-f")
        .arg(&database)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !fs::read_dir(format!("/proc/{}/fd", reader.id()))
        .unwrap()
        .flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == database))
    {
        std::thread::yield_now();
    }
    let mut node = a_manifest(&data);
    node.etcd.as_mut().unwrap().startable = Some("its manifest stands".to_owned());
    let fault = ask.plan(&node, read).unwrap().build(&mut |_, _| {}).unwrap_err();
    assert!(fault.to_string().contains("its manifest stands"), "{fault}");
    let busy = ask.plan(&Node::default(), read).unwrap().plan.in_use;
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(busy.unwrap().contains(&format!("process {} has its database open", reader.id())));
    assert_eq!(fs::read(&database).unwrap(), before);
    assert_eq!(names(&data).0, ["member"]);
}

#[test]
fn what_another_builds_is_left_alone_and_nobody_builds_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let data = dir.path().join("data");
    let quiet = &mut |_, _| {};
    let planned = || ask(&from, &data, VM).plan(&Node::default(), read).unwrap();
    // Nobody was there when both were planned.
    let (second, third) = (planned(), planned());
    let built = planned().build(quiet).unwrap();
    let under_way = format!("another restore into {} is running", data.display());
    for fault in [finish(&data).unwrap_err(), second.build(quiet).unwrap_err()] {
        assert!(matches!(fault, Fault::Refused { .. }) && fault.to_string().contains(&under_way), "{fault}");
        assert!(fault.to_string().ends_with("next: wait for it"), "{fault}");
        assert_eq!(files::names(&data).unwrap().len(), 1, "nothing but what is built");
    }
    let checked = built.check(quiet).unwrap();
    finish(&data).unwrap_err();
    checked.swap().unwrap();
    assert_eq!(finish(&data).unwrap(), []);
    // What was put there since may not be put aside: nobody said so.
    let fault = third.build(quiet).unwrap_err();
    assert!(fault.to_string().contains("is not empty: member is in it"), "{fault}");
    assert_eq!(names(&data), (vec!["member".to_owned()], 1));
    backend::read(&data.join("member/snap/db")).unwrap();
}

#[test]
fn a_log_on_the_same_disk_takes_room_beside_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let asked = ask(&from, &dir.path().join("data"), VM);
    let needed = |wal_dir: Option<std::path::PathBuf>| {
        let plan = super::RestoreOptions { wal_dir, ..asked.clone() }.plan(&Node::default(), read).unwrap().plan;
        plan.room.needed - plan.snapshot.size
    };
    assert_eq!((needed(None), needed(Some(dir.path().join("log")))), (128_000_000, 128_000_000));
    // On one of its own it takes nothing of the data's.
    let of = |path: &Path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap());
    let memory = Path::new("/dev/shm");
    assert_ne!(of(memory), of(dir.path()), "this test needs a second file system");
    assert_eq!(needed(Some(memory.join("lastgood-no-such-log"))), 0);
}

#[test]
fn members_are_restored_alike_by_the_token_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(dir.path());
    let three = "m0=https://h:1,m1=https://i:1,m2=https://j:1";
    // The second saw a later revision, and moves as far as the first.
    let first = ask(&from, &dir.path().join("m0"), three);
    let first = restore(&first, &Node::default()).unwrap();
    let mut second = ask(&from, &dir.path().join("m1"), three);
    (second.name, second.token) = (Some("m1".to_owned()), Some(first.token.clone()));
    let seen = Recorded { revision: 900, at: jiff::Timestamp::UNIX_EPOCH, members: Vec::new() };
    let second = restore(&second, &Node { recorded: Some(seen), ..Node::default() }).unwrap();
    assert_eq!((first.moved_to, &first.token), (second.moved_to, &second.token));
    let database = |name: &str| fs::read(dir.path().join(name).join("member/snap/db")).unwrap();
    assert!(database("m0") == database("m1"));
}

#[test]
fn leases_are_kept_and_what_would_hinder_the_new_cluster_is_cleared_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let whole = snapshot(dir.path());
    // As an etcd leaves it that ran out of room in the middle of a downgrade, with a learner.
    let hindered = dir.path().join("hindered.db");
    let from = Database::open(&whole).unwrap();
    let mut to = Writer::new(Vec::new(), 4096).unwrap();
    let learner = br#"{"id":7,"peerURLs":["http://l:1"],"isLearner":true,"name":"lea"}"#;
    for (name, items) in dump(&whole) {
        let mut items = items;
        match name.as_str() {
            "alarm" => items.push((vec![0x08, 7, 0x10, 1], Vec::new())),
            "cluster" => items.push((b"downgrade".to_vec(), br#"{"target-version":"3.5.0","enabled":true}"#.to_vec())),
            "lease" => items.insert(0, (7i64.to_be_bytes().to_vec(), vec![0x08, 7, 0x10, 60])),
            "members" => items.push((b"7".to_vec(), learner.to_vec())),
            "members_removed" => items.push((b"9".to_vec(), b"removed".to_vec())),
            _ => {}
        }
        items.sort();
        let mut bucket = to.bucket(name.as_bytes());
        items.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
        bucket.finish().unwrap();
    }
    write(to, &hindered);
    drop(from);
    let data = dir.path().join("data");
    let mut ask = super::RestoreOptions { raw_copy: RawCopy::Allow, ..ask(&hindered, &data, VM) };
    assert!(refused(&ask, &a_manifest(&data)).contains("name other members: lea (7, http://l:1)"));
    ask.stopped.push("lea".to_owned());
    let plan = ask.plan(&Node::default(), read).unwrap().plan.text();
    for words in [
        "the alarm NOSPACE of member 7 is cleared",
        "the downgrade to 3.5.0 is cancelled",
        "learner lea (7",
        "leases are kept",
    ] {
        assert!(plan.contains(words), "{words} in\n{plan}");
    }
    restore(&ask, &Node::default()).unwrap();
    let read = dump(&data.join("member/snap/db"));
    assert_eq!((read["alarm"].len(), read["members_removed"].len(), read["members"].len()), (0, 0, 1));
    assert_eq!(read["cluster"].iter().map(|(key, _)| key.as_slice()).collect::<Vec<_>>(), [b"clusterVersion"]);
    assert!(read["lease"] == dump(&hindered)["lease"] && !read["lease"].is_empty());
    let voters = format!(
        "{{\"voters\":[{}],\"auto_leave\":false}}",
        u64::from_str_radix(std::str::from_utf8(&read["members"][0].0).unwrap(), 16).unwrap()
    );
    assert!(read["meta"].contains(&(b"confState".to_vec(), voters.into_bytes())));
}

/// Whose log is in a directory.
fn cluster_of(log: &Path) -> u64 {
    wal::read(log, |_| {}).unwrap().cluster_id
}

#[test]
fn a_log_that_lies_apart_is_exchanged_with_its_data_and_the_old_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (from, data, log) = (snapshot(dir.path()), dir.path().join("data"), dir.path().join("log"));
    let mut node = a_manifest(&data);
    node.etcd.as_mut().unwrap().wal_dir = Some(log.clone());
    let first = restore(&bare(&from), &node).unwrap();
    assert_eq!(first.log.unwrap().aside, None);
    assert_eq!(files::names(&log).unwrap(), ["0000000000000000-0000000000000000.wal"]);
    assert!(!data.join("member/wal").exists(), "an etcd with --wal-dir has none there");
    let old = cluster_of(&log);
    fs::write(log.join("0.tmp"), "allotted").unwrap();
    fs::write(log.join("notes"), "a person's").unwrap();

    let plan = bare(&from).plan(&node, read).unwrap().plan;
    assert!(plan.text().contains(&format!("into {}; an existing WAL", log.display())), "{}", plan.text());
    let second = restore(&bare(&from), &node).unwrap();
    let kept = second.log.unwrap().aside.unwrap();
    assert!(cluster_of(&log.join(&kept)) == old && cluster_of(&log) != old);
    assert_eq!(
        files::names(&log.join(&kept)).unwrap(),
        ["0.tmp", "0000000000000000-0000000000000000.wal"],
        "all of the old log"
    );
    let mut names = files::names(&log).unwrap();
    names.sort();
    assert_eq!(names, ["0000000000000000-0000000000000000.wal", "notes", &kept], "and nothing else");
    data_dir::check(&data, &log, &members(&data), &mut |_, _| {}).unwrap();
    assert_eq!(files::names(&data.join("member/snap")).unwrap().len(), 2, "a database and a .snap");
}

#[test]
fn a_log_whose_disk_is_gone_in_the_middle_of_it_leaves_a_database_that_no_etcd_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (from, data, log) = (snapshot(dir.path()), dir.path().join("data"), dir.path().join("log"));
    let asked = super::RestoreOptions { wal_dir: Some(log.clone()), replace: true, ..ask(&from, &data, VM) };
    restore(&asked, &Node::default()).unwrap();
    let quiet = &mut |_, _| {};
    let checked = asked.plan(&Node::default(), read).unwrap().build(quiet).unwrap().check(quiet).unwrap();
    let elsewhere = dir.path().join("unmounted");
    fs::rename(&log, &elsewhere).unwrap();
    fs::create_dir(&log).unwrap();
    let said = checked.swap().unwrap_err().to_string();
    assert!(said.contains("is gone: the data have no WAL"), "{said}");
    assert!(backend::read(&data.join("member/snap/db")).is_err());
    assert!(finish(&data).is_err(), "it is not there yet");
    fs::remove_dir(&log).unwrap();
    fs::rename(&elsewhere, &log).unwrap();
    assert!(matches!(finish(&data).unwrap().as_slice(), [Finished::Completed(_)]));
    data_dir::check(&data, &log, &members(&data), quiet).unwrap();
}

#[test]
fn v7_a_consistent_index_of_before_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let data = restored(dir.path(), VM);
    let intended = members(&data);
    data_dir::check(&data, &data.join("member/wal"), &intended, &mut |_, _| {}).unwrap();
    // The raw copy of a database as an etcd 3.4's tools leave it: everything right but the index.
    let database = data.join("member/snap/db");
    let right = dump(&database);
    let mut to = Writer::new(Vec::new(), 4096).unwrap();
    for (name, items) in right {
        let mut bucket = to.bucket(name.as_bytes());
        for (key, value) in items {
            let stale = if key == b"consistent_index" { 27u64.to_be_bytes().to_vec() } else { value };
            bucket.put(&key, &stale).unwrap();
        }
        bucket.finish().unwrap();
    }
    write(to, &database);
    let said = data_dir::check(&data, &data.join("member/wal"), &intended, &mut |_, _| {}).unwrap_err().to_string();
    assert!(said.contains("consistent index of its database is 27"), "{said}");
}

#[test]
fn v8_members_of_before_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let data = restored(dir.path(), VM);
    let intended = members(&data);
    // The log is of the new cluster, the members of another one.
    let other = NewCluster::new(VM, "another token", "vm", None).unwrap();
    let from = Database::open(&dir.path().join("snapshot.db")).unwrap();
    let mut to = Writer::new(Vec::new(), 4096).unwrap();
    transform::copy(&from, &mut to, &other, None).unwrap();
    write(to, &data.join("member/snap/db"));
    let said = data_dir::check(&data, &data.join("member/wal"), &intended, &mut |_, _| {}).unwrap_err().to_string();
    assert!(said.contains("are intended"), "{said}");
}

/// The whole of what was written, into a file.
fn write(database: Writer<Vec<u8>>, path: &Path) {
    let (mut bytes, metas) = database.finish().unwrap();
    bytes[..metas.len()].copy_from_slice(&metas);
    fs::write(path, bytes).unwrap();
}

fn members(data: &Path) -> Vec<Member> {
    backend::read(&data.join("member/snap/db")).unwrap().members
}

#[test]
fn what_is_left_and_cannot_be_understood_is_left_to_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let data = restored(dir.path(), VM);
    let left = data.join(".lastgood-restore-0123");
    fs::create_dir_all(left.join("member")).unwrap();
    let says = |words: &str| {
        let said = finish(&data).unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("nothing was changed"), "{said}");
        assert!(left.join("member").exists() && data.join("member/snap/db").exists());
    };
    says("it has no intent.json");
    fs::write(left.join("intent.json"), "{").unwrap();
    says("its intent.json cannot be read");
    let intent = r#"{"version":1,"step":{"is":"swapping","built":1},"restored":{"snapshot":"SHA","name":"vm","cluster":"c",
        "token":"t","moved-to":null,"moved_to":null,"aside":null}}"#;
    let intent = intent.replace("SHA", &"0".repeat(64)).replace("\"moved-to\":null,", "");
    fs::write(left.join("intent.json"), &intent).unwrap();
    says("neither in it nor in place");
    for version in ["0", "99999"] {
        fs::write(left.join("intent.json"), intent.replace("\"version\":1", &format!("\"version\":{version}")))
            .unwrap();
        says(&format!("is of version {version}"));
        assert_eq!(super::newer(&data), []);
    }
    let path = left.join("intent.json");
    fs::write(&path, r#"{"version":9,"step":{"is":"of the future"}}"#).unwrap();
    says("format 9 of a newer lastgood");
    assert_eq!(super::newer(&data), [NewerFile { path, version: 9, known: 2 }]);
    // What is empty is ours, and nothing.
    fs::remove_dir_all(&left).unwrap();
    fs::create_dir(&left).unwrap();
    assert_eq!(finish(&data).unwrap(), [Finished::Undone]);
    assert_eq!(names(&data).0, ["member"]);
}

#[test]
fn q4_values_of_a_key_that_the_node_lacks_are_named_and_restored_only_when_that_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let data = restored(dir.path(), VM);
    let from = crate::etcd::testing::encrypted(dir.path(), "key1");
    let plain = read(&snapshot(dir.path()), RawCopy::Refuse).unwrap().contents.encrypted.unwrap();
    let contents = read(&from, RawCopy::Refuse).unwrap().contents;
    let [by] = contents.encrypted.as_deref().unwrap() else { panic!("{:?}", contents.encrypted) };
    assert_eq!((by.provider.as_str(), by.key.as_str()), ("aescbc", "key1"));
    assert_eq!(by.values, plain[0].values, "all of its Secrets");
    let file = PathBuf::from("/etc/kubernetes/enc.yaml");
    let of = |key: &str| {
        let text =
            format!("resources: [{{resources: [secrets], providers: [{{aescbc: {{keys: [{{name: {key}}}]}}}}]}}]");
        let configuration = Configuration::parse(&text).unwrap();
        Node { encryption: Encryption::Configured { file: file.clone(), configuration }, ..a_manifest(&data) }
    };
    let ask = bare(&from);
    assert!(ask.plan(&of("key1"), read).is_ok());
    let refused = refused(&ask, &of("key2"));
    assert!(refused.contains("aescbc key1") && refused.contains("/etc/kubernetes/enc.yaml"), "{refused}");
    let lost = |ask: &super::RestoreOptions, node| ask.plan(node, read).unwrap().plan.lost;
    let accepted = super::RestoreOptions { unreadable: Unreadable::Accept, ..ask.clone() };
    assert_eq!(lost(&accepted, &of("key2")).len(), lost(&ask, &of("key1")).len() + 1);
    // It is recorded with the data, and a later restore with the keys takes that back.
    restore(&accepted, &of("key2")).unwrap();
    let keys = || super::accepted(&data).unwrap().1.into_iter().map(|by| by.key).collect::<Vec<_>>();
    assert_eq!(keys(), ["key1"]);
    restore(&ask, &of("key1")).unwrap();
    assert_eq!(keys(), [""; 0]);

    let none = Encryption::NotConfigured { manifest: "/etc/kubernetes/manifests/kube-apiserver.yaml".into() };
    let none = Node { encryption: none, ..a_manifest(&data) };
    assert!(matches!(ask.plan(&none, read), Err(Fault::Refused { .. })));
    assert!(bare(&snapshot(dir.path())).plan(&none, read).is_ok(), "nothing of it is encrypted");
    // Of a machine without an API server only the operator knows.
    let afterwards = |from: &Path| bare(from).plan(&a_manifest(&data), read).unwrap().plan.afterwards;
    assert_eq!(afterwards(&from).len(), afterwards(&snapshot(dir.path())).len() + 1);
}
