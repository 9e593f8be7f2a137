//! A restore is killed, and its disk fails, at every system call that changes anything. Afterwards the old member or
//! the new one is in place, whole; the old one is never lost; and a second run reaches the same end.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::testing::{VM, ask, names, read, restore, snapshot};
use super::{Finished, Node, RestoreOptions, finish};
use crate::etcd::backend;
use crate::etcd::snapshot::data_dir;
use crate::sys::{crash, files};

const WORK: &str = "LASTGOOD_RESTORE_WORK";
const ROOT: &str = "LASTGOOD_RESTORE_ROOT";
/// Where this directory exists, it keeps its log in it.
const LOG: &str = "log";
/// The calls by which files and directories change.
const CALLS: [&str; 11] =
    ["write", "pwrite64", "fsync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "fchmod"];

fn asked(root: &Path) -> RestoreOptions {
    let ask = ask(&root.join("snapshot.db"), &root.join("data"), VM);
    RestoreOptions { replace: true, token: Some("t".to_owned()), bump: Some(4_000_000_000), wal_dir: log(root), ..ask }
}

fn log(root: &Path) -> Option<PathBuf> {
    Some(root.join(LOG)).filter(|log| log.exists())
}

/// As the command does it: what was interrupted first.
fn run(root: &Path) -> Result<(), super::Fault> {
    let ask = asked(root);
    let finished = finish(&root.join("data"))?;
    let planned = ask.plan(&Node::default(), read)?;
    if finished.iter().any(|finished| matches!(finished, Finished::Completed(restored) if restored.is(&planned))) {
        return Ok(());
    }
    planned.build(&mut |_, _| {})?.check(&mut |_, _| {})?.swap().map(drop)
}

/// Restores. No test of its own.
#[test]
#[ignore = "run by the tests below"]
fn the_child() {
    let Some(root) = env::var_os(ROOT) else { return };
    crash::ready();
    let _ = run(Path::new(&root));
    std::process::exit(0);
}

/// Runs the child with a fault injected; true if it was met.
fn met(root: &Path, fault: &str) -> bool {
    crash::run("etcd::restore::crash_tests::the_child", (WORK, "restore"), (ROOT, root), fault)
}

/// A data directory that exists, marked, and another snapshot's way to it.
fn template(root: &Path, apart: bool) {
    fs::create_dir(root).unwrap();
    let from = snapshot(root);
    if apart {
        fs::create_dir(root.join(LOG)).unwrap();
    }
    restore(&RestoreOptions { wal_dir: log(root), ..ask(&from, &root.join("data"), VM) }, &Node::default()).unwrap();
    fs::write(root.join("data/member/mark"), "old").unwrap();
    if let Some(log) = log(root) {
        fs::write(log.join("0.tmp"), "old").unwrap();
    }
}

fn is_old(member: &Path) -> bool {
    fs::read_to_string(member.join("mark")).is_ok_and(|mark| mark == "old")
}

/// Whole: its database can be read to the end. The old one goes up to a billion, the new one to four.
fn revision(member: &Path) -> i64 {
    backend::read(&member.join("snap/db")).unwrap().revision.unwrap().main
}

fn check(root: &Path, situation: &str) {
    let data = root.join("data");
    let member = data.join("member");
    let between = !member.exists();
    // No etcd opens what represents a database until its log is there.
    let hidden = member.join("snap/db.lastgood").exists();
    if hidden {
        assert!(log(root).is_some() && backend::read(&member.join("snap/db")).is_err(), "{situation}: it is in sight");
    }
    if !between && !hidden {
        let whole = revision(&member);
        assert_eq!(is_old(&member), whole < 2_000_000_000, "{situation}: neither the old nor the new");
        fits(root, situation);
    }
    let kept = |data: &Path| {
        let names = fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
        let mut all: Vec<_> = names.filter(|path| path.is_dir()).collect();
        all.extend(all.clone().iter().map(|dir| dir.join("member")));
        all.iter().filter(|dir| is_old(dir)).count()
    };
    assert_eq!(kept(&data), 1, "{situation}: what stood is lost");
    run(root).unwrap_or_else(|fault| panic!("{situation}: {fault}"));
    assert!(revision(&member) > 4_000_000_000 && !is_old(&member), "{situation}: it does not come to its end");
    assert_eq!(kept(&data), 1, "{situation}: what stood is lost by the second run");
    fits(root, situation);
    if let Some(log) = log(root) {
        let names = files::names(&log).unwrap();
        let (asides, rest): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with("wal.before-restore-"));
        let whole =
            asides.iter().filter(|aside| files::names(&log.join(aside)).unwrap().starts_with(&["0.tmp".into()]));
        assert!(
            whole.count() == 1 && rest.len() == 1,
            "{situation}: {names:?}: the old log is lost, or something is left"
        );
    }
    let (names, records) = names(&data);
    assert!(
        names.iter().all(|name| name == "member" || name.starts_with("member.before-restore-")),
        "{situation}: {names:?}"
    );
    // The first restore put nothing aside.
    assert_eq!(records, names.len(), "{situation}: each restore is recorded, once: {names:?}");
}

/// The log is that of the database next to it.
fn fits(root: &Path, situation: &str) {
    let data = root.join("data");
    let members = backend::read(&data.join("member/snap/db")).unwrap().members;
    let log = log(root).unwrap_or_else(|| data.join("member/wal"));
    data_dir::check(&data, &log, &members, &mut |_, _| {}).unwrap_or_else(|unfit| panic!("{situation}: {unfit}"));
}

/// Meets every call of these kinds with a fault, one at a time, and tells how many there were.
fn at_every(apart: bool, calls: &[&str], faults: &[&str]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let template_dir = dir.path().join("template");
    template(&template_dir, apart);
    let mut points = 0;
    for fault in faults {
        for call in calls {
            for n in crash::points() {
                let root = dir.path().join("run");
                assert!(Command::new("cp").arg("-a").args([&template_dir, &root]).status().unwrap().success());
                let fault = format!("{call}:{fault}:when={n}");
                let met = met(&root, &fault);
                if met {
                    points += 1;
                    check(&root, &fault);
                }
                fs::remove_dir_all(&root).unwrap();
                if !met {
                    break;
                }
            }
        }
    }
    points
}

#[test]
fn killed_at_every_call_it_is_finished_or_undone_and_what_stood_is_kept() {
    let points = at_every(false, &CALLS, &["signal=KILL"]);
    println!("killed at {points} points");
    assert!(points >= crash::at_least(30, 20), "only {points} points: is the work still done by these calls?");
}

#[test]
fn killed_at_every_call_a_log_that_lies_apart_is_never_that_of_another_database() {
    let points = at_every(true, &CALLS, &["signal=KILL"]);
    println!("killed at {points} points");
    assert!(points >= crash::at_least(45, 30), "only {points} points: is the work still done by these calls?");
}

#[test]
fn a_disk_that_fails_at_any_call_leaves_the_old_member_or_the_new_one() {
    let points = at_every(true, &CALLS, &["error=EIO"]);
    println!("failed at {points} points");
    assert!(points >= crash::at_least(30, 25), "only {points} points");
}

#[test]
fn a_disk_that_is_full_at_any_call_leaves_the_old_member_or_the_new_one() {
    let points = at_every(true, &["write", "pwrite64", "fsync", "rename", "renameat2", "mkdir"], &["error=ENOSPC"]);
    println!("full at {points} points");
    assert!(points >= crash::at_least(25, 20), "only {points} points");
}

/// One that was killed when it was exchanged, and the old data are not moved aside yet.
fn all_but_done(root: &Path) {
    template(root, false);
    assert!(met(root, "renameat2:signal=KILL:when=2"));
    assert!(revision(&root.join("data/member")) > 4_000_000_000);
}

#[test]
fn what_is_completed_is_taken_for_what_is_asked_only_where_all_that_is_asked_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    all_but_done(&root);
    let [Finished::Completed(restored)] = &finish(&root.join("data")).unwrap()[..] else { panic!("not completed") };
    let same = |ask: &RestoreOptions| restored.is(&ask.plan(&Node::default(), read).unwrap());
    let asked = || asked(&root);
    assert!(same(&asked()) && same(&RestoreOptions { token: None, ..asked() }));
    for (what, other) in [
        ("a greater bump", RestoreOptions { bump: Some(5_000_000_000), ..asked() }),
        ("no move", RestoreOptions { bump: Some(0), ..asked() }),
        ("as far as it takes", RestoreOptions { bump: None, ..asked() }),
        ("a token", RestoreOptions { token: Some("u".to_owned()), ..asked() }),
        ("a log apart", RestoreOptions { wal_dir: Some(root.join("log")), ..asked() }),
        ("a cluster", RestoreOptions { initial_cluster: Some(format!("{VM},m1=https://h:1")), ..asked() }),
    ] {
        assert!(!same(&other), "{what} was not what was completed");
    }
}

#[test]
fn what_is_completed_and_was_written_since_is_restored_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    all_but_done(&root);
    let data = root.join("data");
    // As an etcd writes it that was started over it.
    let database = fs::OpenOptions::new().append(true).open(data.join("member/snap/db")).unwrap();
    std::io::Write::write_all(&mut &database, &[0; 4096]).unwrap();
    let written = fs::metadata(data.join("member/snap/db")).unwrap().len();
    run(&root).unwrap();
    assert_ne!(fs::metadata(data.join("member/snap/db")).unwrap().len(), written, "nothing was restored");
    let asides = files::names(&data).unwrap().into_iter().filter(|name| name.starts_with("member.before-restore-"));
    assert_eq!(asides.count(), 2, "what stood, and what was completed and written since");
}

#[test]
fn a_file_system_that_cannot_exchange_is_done_by_two_renames_and_a_crash_between_them_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    template(&root, false);
    // The second renameat2 of a run is the rename that follows what was not exchanged: nothing exists then.
    assert!(met(&root, "renameat2:error=EINVAL:when=1"));
    let data = root.join("data");
    assert!(revision(&data.join("member")) > 4_000_000_000);
    let aside = files::names(&data).unwrap().into_iter().find(|name| name.starts_with("member.before")).unwrap();
    assert!(is_old(&data.join(&aside)));
    // As a crash between the two leaves it.
    let staging = data.join(".lastgood-restore-0123");
    fs::create_dir(&staging).unwrap();
    fs::rename(data.join("member"), staging.join("member")).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(staging.join("member")).unwrap());
    let intent = format!(
        r#"{{"version":1,"step":{{"is":"swapping","built":{inode}}},"restored":{{"snapshot":"{}","name":"vm","cluster":"c",
        "token":"t","moved_to":null,"aside":"{aside}"}}}}"#,
        "0".repeat(64)
    );
    fs::write(staging.join("intent.json"), intent).unwrap();
    assert!(matches!(finish(&data).unwrap().as_slice(), [Finished::Completed(_)]));
    assert!(revision(&data.join("member")) > 4_000_000_000 && is_old(&data.join(&aside)));
    assert_eq!(names(&data).0.len(), 2);
}
