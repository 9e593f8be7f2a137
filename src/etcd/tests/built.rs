//! Data directories that etcd's own tools built from a snapshot, and wrong ways to build one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::member::{Member, program};
use crate::etcd::backend;
use crate::etcd::snapshot::data_dir::{Checked, Unfit, check};

struct Restored {
    dir: tempfile::TempDir,
    /// Where the member that was saved kept its own.
    lived: PathBuf,
}

impl Restored {
    /// Saves a member of a series and restores it with the tool of that series, to a cluster of three.
    fn with(series: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lived = dir.path().join("lived");
        let member = Member::serving(series, &lived);
        for key in 0..20 {
            member.ctl(&["put", &format!("key {key}"), "value"]);
        }
        let snapshot = dir.path().join("snapshot.db");
        member.ctl(&["snapshot", "save", snapshot.to_str().unwrap()]);
        // Its database is a tenth of a second behind, and gets there while it lives.
        while backend::read(&lived.join("member/snap/db")).unwrap().revision.is_none_or(|at| at.main < 21) {
            std::thread::yield_now();
        }
        drop(member);
        let restored = Self { dir, lived };
        let tool = program(series, if series == "3.4" { "etcdctl" } else { "etcdutl" });
        let out = Command::new(tool)
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore", "--name=a", "--initial-cluster-token=fresh"])
            .args(["--initial-cluster=a=http://a:2380,b=http://b:2380,c=http://c:2380"])
            .args(["--initial-advertise-peer-urls=http://a:2380", "--data-dir"])
            .args([&restored.data(), &snapshot])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        restored
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("built")
    }

    fn database(&self) -> PathBuf {
        self.data().join("member/snap/db")
    }
}

/// The three, as the tool computed their IDs.
fn three(database: &Path) -> Vec<backend::Member> {
    let members = backend::read(database).unwrap().members;
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    members
}

fn checked(data: &Path, intended: &[backend::Member]) -> Result<Checked, Unfit> {
    check(data, &data.join("member/wal"), intended, &mut |_, _| {})
}

#[test]
fn what_etcdutl_builds_is_fit_for_its_members_and_for_no_others() {
    let restored = Restored::with("3.5");
    let mut intended = three(&restored.database());
    let built = checked(&restored.data(), &intended).unwrap();
    assert_eq!(built.contents.consistent_index, Some(3));
    assert_eq!(built.wal.hard_state.map(|state| (state.term, state.commit)), Some((1, 3)));
    assert!(intended.iter().any(|member| member.id == built.wal.node_id && member.name == "a"));

    intended[1].peer_urls = vec!["http://elsewhere:2380".to_owned()];
    let said = checked(&restored.data(), &intended).unwrap_err().to_string();
    assert!(said.contains("its members are") && said.contains("http://elsewhere:2380"), "{said}");
    let said = checked(&restored.data(), &intended[..1]).unwrap_err().to_string();
    assert!(said.contains("its members are"), "{said}");
}

/// A copy of a database whose index was not set back: etcd takes writes and skips them.
#[test]
fn v7_a_database_that_is_ahead_of_its_log_is_unfit() {
    let restored = Restored::with("3.5");
    let intended = three(&restored.database());
    fs::copy(restored.lived.join("member/snap/db"), restored.database()).unwrap();
    let said = checked(&restored.data(), &intended).unwrap_err().to_string();
    assert!(said.contains("the consistent index of its database is") && said.contains("committed up to 3"), "{said}");
}

/// What an etcdctl 3.4 restores keeps the members that were: a 3.6 waits for them for ever.
#[test]
fn v8_a_database_that_remembers_the_old_members_is_unfit() {
    let restored = Restored::with("3.4");
    let member = |name: &str| backend::Member { name: name.to_owned(), ..backend::Member::default() };
    let intended = ["a", "b", "c"].map(member);
    let said = checked(&restored.data(), &intended).unwrap_err().to_string();
    assert!(said.contains("its members are") && said.contains("\"m0\""), "{said}");
}

#[test]
fn a_log_that_is_damaged_cut_off_or_of_another_member_is_unfit() {
    let restored = Restored::with("3.5");
    let intended = three(&restored.database());
    let wal = restored.data().join("member/wal/0000000000000000-0000000000000000.wal");
    let whole = fs::read(&wal).unwrap();
    let mut broken = whole.clone();
    broken[100] ^= 1;
    fs::write(&wal, &broken).unwrap();
    let said = checked(&restored.data(), &intended).unwrap_err();
    assert!(matches!(said, Unfit::Log(_)), "{said}");
    // Its records take some hundred bytes.
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(&wal, &whole[..end - 100]).unwrap();
    let said = checked(&restored.data(), &intended).unwrap_err().to_string();
    assert!(said.contains("ends within a record") || said.contains("no hard state"), "{said}");
    fs::write(&wal, &whole).unwrap();
    assert!(checked(&restored.data(), &intended).is_ok(), "whole again");
    fs::write(restored.database(), b"").unwrap();
    let said = checked(&restored.data(), &intended).unwrap_err().to_string();
    assert!(said.contains("is no bbolt database"), "{said}");
}
