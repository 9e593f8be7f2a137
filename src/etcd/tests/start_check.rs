//! Data that real etcds refuse, and data that they take although a crash cut them off.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::member::Member;
use crate::etcd::raft_snapshot;
use crate::etcd::start_check;
use crate::etcd::wal::{self, Tail};
use crate::model::store_fault::{Database, FaultKind, StoreFault};

struct Stopped {
    dir: tempfile::TempDir,
    series: &'static str,
}

impl Stopped {
    /// Serves for a while, keeps its database, serves on until there is a newer raft snapshot, and stops.
    fn of(series: &'static str) -> Self {
        let stopped = Self { dir: tempfile::tempdir().unwrap(), series };
        let serve = |keys: std::ops::Range<u32>| {
            let member = Member::serving_with(series, &stopped.data(), &["--snapshot-count=20"]);
            keys.for_each(|key| drop(member.ctl(&["put", &format!("key {key}"), "value"])));
            // Its database is a tenth of a second behind.
            std::thread::sleep(std::time::Duration::from_millis(300));
        };
        serve(0..5);
        fs::copy(stopped.database(), stopped.old()).unwrap();
        serve(5..60);
        let newest = raft_snapshot::named(&stopped.data().join("member/snap"));
        assert!(newest.first().is_some_and(|(_, index, _)| *index > 20), "{newest:?}");
        stopped
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn database(&self) -> PathBuf {
        self.data().join("member/snap/db")
    }

    fn old(&self) -> PathBuf {
        self.dir.path().join("db.old")
    }

    fn wal(&self) -> PathBuf {
        wal::segments(&self.data().join("member/wal")).unwrap().pop().unwrap()
    }

    /// A copy of it that is changed.
    fn with(&self, change: impl FnOnce(&Self)) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap(), series: self.series };
        let out = std::process::Command::new("cp").arg("-a").arg(self.data()).arg(copy.data()).output().unwrap();
        assert!(out.status.success());
        fs::copy(self.old(), copy.old()).unwrap();
        change(&copy);
        copy
    }

    fn fault(&self) -> Option<StoreFault> {
        start_check::of(&self.data().join("member"), &self.data().join("member/wal"))
    }

    /// Its fault, and the last words of the etcd that refuses it.
    fn refused(&self) -> (StoreFault, String) {
        let fault = self.fault().expect("a fault");
        (fault, Member::refusing(self.series, &self.data()))
    }
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Where the last record of a segment ends.
fn end(path: &Path) -> u64 {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

/// Where a value is, in the middle of a segment. Four bytes that are changed there break a record's checksum; changed in
/// the length of a record, they would read as a write that a crash cut off.
fn value_in_the_middle(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let middle = end(path) as usize / 2;
    let found = bytes[middle..].windows(5).position(|window| window == b"value").unwrap();
    (middle + found) as u64
}

fn every_fault(series: &'static str) {
    let stopped = Stopped::of(series);
    assert_eq!(stopped.fault(), None);

    let (fault, said) = stopped.with(|data| assert!(fs::copy(data.old(), data.database()).unwrap() > 0)).refused();
    let FaultKind::SnapshotAhead { index, applied, .. } = fault.kind else { panic!("{fault:?}") };
    assert!(index > applied, "{index} {applied}");
    assert_eq!(fault.database, Database::Whole { revision: 6 });
    assert!(said.contains("failed to recover v3 backend from snapshot"), "{said}");

    let middle = value_in_the_middle(&stopped.wal());
    let (fault, said) = stopped.with(|data| write(&data.wal(), middle, &[0xff; 4])).refused();
    let FaultKind::WalDamaged { file, offset, .. } = fault.kind else { panic!("{fault:?}") };
    assert!(file.file_name() == stopped.wal().file_name() && offset <= middle, "{} {offset}", file.display());
    assert!(matches!(fault.database, Database::Whole { revision } if revision > 50));
    assert!(!said.is_empty());

    let (fault, said) = stopped.with(|data| write(&data.database(), 0, &[0; 8192])).refused();
    assert_eq!(fault.kind, FaultKind::DatabaseDamaged);
    assert!(said.contains("invalid database") || said.contains("panic"), "{said}");

    let (fault, said) = stopped.with(|data| fs::remove_file(data.database()).unwrap()).refused();
    assert_eq!(fault.kind, FaultKind::DatabaseMissing);
    assert!(said.contains("failed to recover v3 backend from snapshot"), "{said}");

    // A crash in the middle of a write: etcd truncates it.
    let cut = |data: &Stopped| write(&data.wal(), end(&data.wal()) - 6, &[0; 6]);
    let cut = stopped.with(cut);
    let torn = wal::read(&cut.data().join("member/wal"), |_| {});
    if torn.is_ok_and(|wal| matches!(wal.tail, Tail::Torn { .. })) {
        assert_eq!(cut.fault(), None);
        drop(Member::serving(series, &cut.data()));
    }

    // Zeroes in the middle read as a torn end: what follows is lost, and the database has it.
    let zeroes = stopped.with(|data| write(&data.wal(), middle / 512 * 512, &[0; 1024]));
    let kind = zeroes.fault().map(|fault| fault.kind);
    assert!(
        matches!(kind, Some(FaultKind::WalBehind { .. } | FaultKind::WalIncomplete { .. })),
        "{kind:?}, and etcd says {}",
        Member::refusing(series, &zeroes.data())
    );

    // All of the WAL is there, so that etcd begins with its first entry.
    let no_snapshot = stopped.with(|data| {
        let all = raft_snapshot::named(&data.data().join("member/snap"));
        all.into_iter().for_each(|(_, _, path)| fs::remove_file(path).unwrap());
    });
    assert_eq!(no_snapshot.fault(), None);
    drop(Member::serving(series, &no_snapshot.data()));
}

#[test]
fn what_an_etcd_3_4_refuses_is_found_before_it_starts() {
    every_fault("3.4");
}

#[test]
fn what_an_etcd_3_5_refuses_is_found_before_it_starts() {
    every_fault("3.5");
}
