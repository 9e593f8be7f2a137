//! Heads of WALs: of etcds that founded a store, of restores by etcd's tools and by lastgood, torn, and forged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::log::{Writer, write};
use super::member::{Member, program};
use crate::etcd::testing::{ask, restore};
use crate::etcd::{at_rest, backend, origin, wal};
use crate::model::etcd_data::{AtRest, WalOrigin};

/// So many conf changes of term 1, and what a restore or a founder puts behind them.
fn head(changes: u8, vote: u8, snapshot: Option<(u8, u8)>) -> Writer {
    let mut writer = Writer::segment(0);
    writer.record(5, Some(&[0x08, 0, 0x10, 0]));
    for index in 1..=changes {
        writer.record(2, Some(&[0x08, 1, 0x10, 1, 0x18, index, 0x22, 1, b'c']));
    }
    writer.record(3, Some(&[0x08, 1, 0x10, vote, 0x18, changes]));
    if let Some((index, term)) = snapshot {
        writer.record(5, Some(&[0x08, index, 0x10, term]));
    }
    writer
}

fn commit(writer: &mut Writer, index: u8) {
    writer.record(3, Some(&[0x08, 2, 0x10, 7, 0x18, index]));
}

fn of(bytes: &[u8]) -> WalOrigin {
    let dir = tempfile::tempdir().unwrap();
    origin::of(&write(dir.path(), 0, bytes))
}

fn word(origin: &WalOrigin) -> &'static str {
    match origin {
        WalOrigin::Began { .. } => "began",
        WalOrigin::Restored { .. } => "restored",
        WalOrigin::Unknown { .. } => "unknown",
    }
}

#[test]
fn a_restore_is_recognized_by_the_records_that_it_writes_and_by_nothing_else() {
    let joined = {
        let mut writer = Writer::segment(0);
        writer.record(5, Some(&[0x08, 0, 0x10, 0]));
        writer.record(3, Some(&[0x08, 9, 0x10, 0, 0x18, 50]));
        writer.record(5, Some(&[0x08, 50, 0x10, 9]));
        writer
    };
    let later = {
        let mut writer = head(3, 0, None);
        writer.entry(2, 4, b"");
        writer.record(5, Some(&[0x08, 3, 0x10, 1]));
        writer
    };
    for (situation, writer, expected) in [
        ("restored to one", head(1, 7, Some((1, 1))), "restored"),
        ("restored to three", head(3, 7, Some((3, 1))), "restored"),
        ("founded", head(3, 0, None), "began"),
        ("founded by three with --snapshot-count=1", head(3, 0, Some((3, 1))), "began"),
        ("of another index than the members", head(3, 7, Some((2, 1))), "began"),
        ("of a later term", head(3, 7, Some((3, 2))), "began"),
        ("of no member", head(0, 7, Some((0, 1))), "began"),
        ("joined", joined, "began"),
        ("a snapshot that comes later", later, "began"),
        ("a restore that is being written", head(3, 7, None), "unknown"),
        ("nothing yet", Writer::segment(0), "unknown"),
        ("no record", Writer::default(), "unknown"),
    ] {
        let mut bytes = writer.bytes;
        assert_eq!(word(&of(&bytes)), expected, "{situation}");
        bytes.extend([0; 4096]);
        assert_eq!(word(&of(&bytes)), expected, "{situation}, allotted ahead");
    }
}

#[test]
fn entries_are_a_fingerprint_once_there_are_enough_of_them_and_they_are_committed() {
    let mut writer = head(1, 7, Some((1, 1)));
    let none = WalOrigin::Restored { fingerprint: None };
    // Of an election, and of the membership: they carry no ID of a request.
    writer.entry(2, 2, b"");
    writer.record(2, Some(&[0x08, 1, 0x10, 2, 0x18, 3, 0x22, 1, b'c']));
    for index in 4..=7 {
        assert_eq!(of(&writer.bytes), none, "before entry {index}");
        writer.entry(2, index, format!("request {index}").as_bytes());
    }
    let after = writer.crc;
    commit(&mut writer, 6);
    assert_eq!(of(&writer.bytes), none, "the fourth is not committed");
    commit(&mut writer, 7);
    let told = WalOrigin::Restored { fingerprint: Some(after) };
    assert_eq!(of(&writer.bytes), told);
    for index in 8..100 {
        writer.entry(2, index, &[index; 50]);
        commit(&mut writer, index);
    }
    assert_eq!(of(&writer.bytes), told, "whatever is written later");
    // Damage behind it is not of the head.
    let end = writer.bytes.len() - 30;
    writer.bytes[end] ^= 1;
    assert_eq!(of(&writer.bytes), told);
}

#[test]
fn a_head_that_is_cut_or_damaged_anywhere_gives_the_same_answer_or_none() {
    let mut writer = head(3, 7, Some((3, 1)));
    let decided = writer.bytes.len();
    for index in 4..=8 {
        writer.entry(2, index, b"request");
        commit(&mut writer, index);
    }
    let whole = writer.bytes;
    for length in 0..=whole.len() {
        let cut = of(&whole[..length]);
        assert_eq!(word(&cut), if length < decided { "unknown" } else { "restored" }, "cut after {length} bytes");
    }
    let print = of(&whole).fingerprint();
    assert!(print.is_some());
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x04;
        let seen = of(&flipped);
        // No checksum covers a record's type, nor a byte of padding.
        let is_type = (0..whole.len()).filter(|frame| frame % 8 == 0).any(|frame| at == frame + 9);
        assert!(is_type || seen.fingerprint().is_none() || seen.fingerprint() == print, "byte {at}: {seen:?}");
        assert!(is_type || word(&seen) != "began", "byte {at}: {seen:?}");
    }
}

#[test]
fn any_file_ends_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let why = |first: &Path| match origin::of(first) {
        WalOrigin::Unknown { why } => why,
        told => panic!("{told:?}"),
    };
    let whole = head(1, 7, Some((1, 1))).bytes;
    assert!(why(&write(dir.path(), 5, &whole)).contains("purged"));
    let first = write(dir.path(), 0, &[0xff; 4096]);
    assert!(!why(&first).is_empty());
    let mut stranger = Writer::default();
    stranger.record(3, Some(&[0x08, 1]));
    fs::write(&first, stranger.bytes).unwrap();
    assert!(why(&first).contains("metadata"));
    // Whatever its length says, a head is read as far as a head goes.
    let mut long = whole;
    long.extend((u64::MAX >> 8).to_le_bytes());
    fs::write(&first, &long).unwrap();
    fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(1 << 40).unwrap();
    let began = Instant::now();
    assert_eq!(origin::of(&first), WalOrigin::Restored { fingerprint: None });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    fs::remove_file(&first).unwrap();
    assert!(why(&first).contains("cannot read"));
    nix::unistd::mkfifo(&first, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(why(&first).contains("not a regular file"));
}

fn first(data: &Path) -> PathBuf {
    segments(data).remove(0)
}

fn segments(data: &Path) -> Vec<PathBuf> {
    wal::segments(&data.join("member/wal")).unwrap()
}

fn rest(data: &Path) -> AtRest {
    at_rest::of(&data.join("member/snap/db"), &segments(data)).unwrap()
}

/// Serves and is written to as long as its head has too few entries to be known again by.
fn served(series: &'static str, data: &Path) -> WalOrigin {
    let member = Member::serving(series, data);
    for key in 0..5 {
        member.ctl(&["put", &format!("/key/{key}"), "x"]);
    }
    origin::of(&first(data))
}

/// By etcd's own tool of this series.
fn restored_by(tool: &Path, snapshot: &Path, data: &Path) {
    let out = Command::new(tool)
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "restore", snapshot.to_str().unwrap(), "--name=m0"])
        .args(["--initial-cluster=m0=http://127.0.0.1:1", "--initial-advertise-peer-urls=http://127.0.0.1:1"])
        .arg(format!("--data-dir={}", data.display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn what_its_wal_tells(series: &'static str, tool: &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (founded, snapshot) = (at("founded"), at("snapshot.db"));
    let member = Member::serving(series, &founded);
    assert_eq!(word(&origin::of(&first(&founded))), "began");
    for key in 0..5 {
        member.ctl(&["put", &format!("/key/{key}"), "x"]);
    }
    let began = origin::of(&first(&founded));
    assert!(matches!(began, WalOrigin::Began { fingerprint: Some(_) }), "{began:?}");
    member.ctl(&["snapshot", "save", snapshot.to_str().unwrap()]);
    how_far_it_has_come(member, &founded);
    assert_eq!(origin::of(&first(&founded)), began, "stopped");

    let restores = [at("one"), at("two"), at("ours")];
    for data in &restores[..2] {
        restored_by(&program(series, tool), &snapshot, data);
    }
    let mut ours = ask(&snapshot, &restores[2], "m0=http://127.0.0.1:1");
    ours.stopped = vec!["m0".to_owned()];
    restore(&ours).unwrap();
    let mut prints = vec![began.fingerprint().unwrap()];
    for data in &restores {
        assert_eq!(origin::of(&first(data)), WalOrigin::Restored { fingerprint: None }, "{}", data.display());
        assert_eq!(rest(data).raft_index, 1);
        let told = served(series, data);
        assert_eq!(word(&told), "restored", "{}", data.display());
        prints.push(told.fingerprint().unwrap());
        // An older copy of it comes from the same restore, however far it has gone on.
        let copy = data.with_extension("copy");
        assert!(Command::new("cp").arg("-a").arg(data).arg(&copy).status().unwrap().success());
        assert_eq!(served(series, data), told, "started again");
        assert_eq!(origin::of(&first(&copy)), told, "a copy");
    }
    for (at, print) in prints.iter().enumerate() {
        assert!(!prints[at + 1..].contains(print), "two restores of one snapshot look alike: {prints:?}");
    }
}

/// At rest it is as far as it says while it lives.
fn how_far_it_has_come(member: Member, data: &Path) {
    let status = member.json(&["endpoint", "status"]);
    let status = &status[0]["Status"];
    let (revision, index) = (status["header"]["revision"].as_i64().unwrap(), status["raftIndex"].as_u64().unwrap());
    let database = data.join("member/snap/db");
    let until = Instant::now() + Duration::from_secs(30);
    while backend::read(&database).unwrap().revision.is_none_or(|read| read.main != revision) {
        assert!(Instant::now() < until, "its database never had revision {revision}");
        std::thread::yield_now();
    }
    drop(member);
    let rest = rest(data);
    assert_eq!(rest.revision, revision);
    assert!(rest.raft_index >= index, "{rest:?}: it had committed {index}");
}

#[test]
fn what_the_wal_of_an_etcd_3_4_tells() {
    what_its_wal_tells("3.4", "etcdctl");
}

#[test]
fn what_the_wal_of_an_etcd_3_5_tells() {
    what_its_wal_tells("3.5", "etcdutl");
}

#[test]
fn what_cannot_be_read_of_data_at_rest_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let database = super::snapshot(dir.path());
    assert_eq!(at_rest::of(&database, &[]), None, "no WAL");
    let mut one = head(1, 7, Some((1, 1)));
    let first = write(dir.path(), 0, &one.bytes);
    let read = at_rest::of(&database, std::slice::from_ref(&first)).unwrap();
    assert_eq!(read.revision, 754);
    let applied = backend::read(&database).unwrap().consistent_index.unwrap();
    assert_eq!(read.raft_index, applied, "the database has more than the WAL says");
    // The last segment alone tells, and what is cut off at its end is nothing.
    one.bytes.truncate(17);
    write(dir.path(), 0, &one.bytes);
    let mut two = Writer::segment(77);
    two.record(3, Some(&[0x08, 9, 0x10, 7, 0x18, 0xff, 0xff, 0x7f]));
    two.entry(9, 9, &[b'x'; 300]);
    let torn = two.bytes.len() - 20;
    let both = [first, write(dir.path(), 1, &two.bytes[..torn])];
    assert_eq!(at_rest::of(&database, &both).unwrap().raft_index, 0x1f_ffff);
    two.bytes[torn - 10] ^= 1;
    fs::write(&both[1], &two.bytes).unwrap();
    assert_eq!(at_rest::of(&database, &both), None, "damaged");
    // A segment that was cut off before its hard state leaves the word to the one before it, where that is whole.
    write(dir.path(), 0, &head(1, 7, Some((1, 1))).bytes);
    fs::write(&both[1], &two.bytes[..20]).unwrap();
    assert_eq!(at_rest::of(&database, &both).unwrap().raft_index, applied);
    fs::write(&database, "barred").unwrap();
    assert_eq!(at_rest::of(&database, &both), None, "no database");
}
