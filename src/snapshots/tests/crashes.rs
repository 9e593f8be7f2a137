//! A save and a prune are killed, and the disk fails, at every system call they make. Afterwards every verified
//! snapshot exists, every file with a snapshot's name is complete, a bundle is complete or absent, and the next run
//! reaches the same end.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;

use super::super::retention::Rules;
use super::super::save::{Fault, take_here};
use super::super::{Directory, Locked, Origin, Proof, bundle};
use super::{assert_honest, fixture};
use crate::sys::{crash, files};

const WORK: &str = "LASTGOOD_SNAPSHOT_WORK";
const ROOT: &str = "LASTGOOD_SNAPSHOT_ROOT";

/// Of four, the newest two stay.
const RULES: Rules = Rules { last: 2, hourly: 0, daily: 0, weekly: 0, total: u64::MAX };
/// When the three that stand at the beginning were taken, and the one that is saved.
const TAKEN: [i64; 3] = [1_800_000_000, 1_800_000_100, 1_800_000_200];
const NEXT: i64 = 1_800_000_300;

/// Somebody's: nobody has to open it.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// What the child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Takes one into the directory.
    Save,
    /// Copies a member's database into the directory.
    SaveRaw,
    /// Takes one into a file that the operator named.
    SaveAs,
    /// The same with its bundle next to it.
    SaveWithBundle,
    /// Removes what the rules do not keep.
    Prune,
}

const ALL: [Work; 5] = [Work::Save, Work::SaveRaw, Work::SaveAs, Work::SaveWithBundle, Work::Prune];

fn file(root: &Path) -> PathBuf {
    root.join("elsewhere/mine.db")
}

fn dir(root: &Path) -> PathBuf {
    root.join("snapshots")
}

fn lock(root: &Path) -> Result<Locked, Fault> {
    Directory::at(&dir(root)).lock().map_err(|error| Fault::Member(error.to_string()))
}

fn save(root: &Path, origin: Origin, at: i64, bytes: &[u8]) -> Result<(), Fault> {
    let locked = lock(root)?;
    let at = Timestamp::from_second(at).unwrap();
    let proven = take_here(locked.directory().path(), origin, at, bytes)?;
    let (proof, sha256) = (proven.proof().clone(), proven.sha256());
    let snapshot = proven.keep(&locked)?;
    // Without one it is as good.
    let _ = bundle::make(&snapshot, &proof, sha256, bundle::tests::gathered(), &[RECIPIENT.to_owned()], at);
    Ok(())
}

/// The work, all of it in this thread; an error where the disk failed.
fn work(work: Work, root: &Path, bytes: &[u8]) -> Result<(), Fault> {
    match work {
        Work::Save => save(root, Origin::Stream, NEXT, bytes),
        Work::SaveRaw => save(root, Origin::DataDir, NEXT, &bytes[..bytes.len() - 32]),
        Work::SaveAs => {
            let file = file(root);
            let at = Timestamp::from_second(NEXT).unwrap();
            take_here(files::dir_of(&file), Origin::Stream, at, bytes)?.keep_as(&file).map(drop).map_err(Fault::Disk)
        }
        Work::SaveWithBundle => {
            let file = file(root);
            let at = Timestamp::from_second(NEXT).unwrap();
            let dir = files::dir_of(&file);
            let proven = take_here(dir, Origin::Stream, at, bytes)?;
            let proof = Proof { file: "mine.db".into(), ..proven.proof().clone() };
            let recipients = [RECIPIENT.to_owned()];
            let staged = bundle::staged(dir, &proof, proven.sha256(), bundle::tests::gathered(), &recipients, at);
            let _ = proven.keep_as(&file)?;
            // Without one it is as good.
            let _ = staged.and_then(|staged| staged.put(dir));
            Ok(())
        }
        Work::Prune => {
            let locked = lock(root)?;
            for gone in locked.surplus(&RULES, Timestamp::from_second(NEXT).unwrap())? {
                locked.remove(&gone.snapshot)?;
            }
            Ok(())
        }
    }
}

/// Does the work that its environment names. It is no separate test.
#[test]
#[ignore = "run by the tests below"]
fn the_child() {
    let (Ok(what), Some(root)) = (env::var(WORK), env::var_os(ROOT)) else { return };
    let what = ALL.into_iter().find(|work| format!("{work:?}") == what).unwrap();
    let bytes = fixture();
    crash::ready();
    let _ = work(what, Path::new(&root), &bytes);
    // At once: what the test harness still writes is not ours to break.
    std::process::exit(0);
}

fn template(root: &Path, bytes: &[u8]) -> PathBuf {
    let template = root.join("template");
    fs::create_dir_all(template.join("elsewhere")).unwrap();
    for at in TAKEN {
        save(&template, Origin::Stream, at, bytes).unwrap();
    }
    template
}

fn verified(root: &Path) -> BTreeSet<i64> {
    let all = Directory::at(&dir(root)).list().unwrap();
    all.iter().filter(|snapshot| snapshot.proof.is_ok()).map(|snapshot| snapshot.name.at.as_second()).collect()
}

fn check(what: Work, root: &Path, bytes: &[u8], situation: &str) {
    // As it was left, before anybody tidies up.
    if what != Work::SaveRaw {
        assert_honest(&dir(root), situation);
    }
    let must: BTreeSet<i64> = match what {
        Work::Prune => TAKEN[1..].iter().copied().collect(),
        _ => TAKEN.into(),
    };
    assert!(verified(root).is_superset(&must), "{situation}: a verified snapshot is lost: {:?}", verified(root));
    let mine = file(root);
    if mine.exists() {
        assert!(fs::read(&mine).unwrap() == bytes, "{situation}: what a person finds is torn");
    }
    // The next run comes to the same end.
    match work(what, root, bytes) {
        Ok(()) => {}
        Err(Fault::Disk(error)) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => panic!("{situation}, again: {error}"),
    }
    let all = Directory::at(&dir(root));
    drop(all.lock().unwrap());
    let mut expected: BTreeSet<i64> = must;
    if matches!(what, Work::Save | Work::SaveRaw) {
        expected.insert(NEXT);
    }
    assert_eq!(verified(root), expected, "{situation}");
    // Those that existed before keep their bundles; the one that was saved has all of its own or nothing.
    let mut with_bundle = 0;
    for snapshot in all.list().unwrap() {
        match bundle::tests::as_it_was(&snapshot.path) {
            Ok(_) => with_bundle += 1,
            Err(bundle::Fault::None(_)) if snapshot.name.at.as_second() == NEXT => {}
            Err(fault) => panic!("{situation}: {fault}"),
        }
    }
    let left = files::names(&dir(root)).unwrap();
    let whole = 1 + 2 * expected.len() + 3 * with_bundle;
    assert_eq!(left.len(), whole, "{situation}: something was left behind: {left:?}");
    let elsewhere = but_the_proof(files::names(&root.join("elsewhere")).unwrap(), root);
    match what {
        Work::SaveAs => assert_eq!(elsewhere, ["mine.db"], "{situation}"),
        // All of the bundle or none that could be taken for one. A part that nothing lists is all that a kill may leave of it,
        // and a disk that fails leaves not even that.
        Work::SaveWithBundle => {
            let all = ["mine.bundle.json", "mine.db", "mine.keys.tar.age", "mine.node.tar"];
            match bundle::tests::as_it_was(&mine) {
                Ok(_) => assert_eq!(elsewhere, all, "{situation}"),
                Err(bundle::Fault::None(_)) if situation.contains("KILL") => {
                    assert!(
                        elsewhere.iter().all(|name| all[1..].contains(&name.as_str())),
                        "{situation}: {elsewhere:?}"
                    );
                }
                Err(bundle::Fault::None(_)) => assert_eq!(elsewhere, ["mine.db"], "{situation}"),
                Err(fault) => panic!("{situation}: {fault}"),
            }
        }
        _ => assert_eq!(elsewhere, Vec::<String>::new(), "{situation}"),
    }
}

/// What is left where the operator's file was to be, but its proof, which holds where it exists. Interrupted between
/// the two, the snapshot is as good without one.
fn but_the_proof(mut left: Vec<String>, root: &Path) -> Vec<String> {
    if let Some(at) = left.iter().position(|name| name == "mine.db.proof.json") {
        left.remove(at);
        let mine = file(root);
        Proof::read(&mine, fs::metadata(&mine).unwrap().len()).unwrap();
    }
    left
}

/// Meets every call of these kinds with a fault, one at a time, and tells how many there were.
fn at_every(calls: &[&str], fault: &str) -> usize {
    let home = tempfile::tempdir().unwrap();
    let bytes = fixture();
    let template = template(home.path(), &bytes);
    let mut points = 0;
    for what in ALL {
        for call in calls {
            for n in crash::points() {
                let root = home.path().join("run");
                let copied = Command::new("cp").arg("-a").args([&template, &root]).status().unwrap();
                assert!(copied.success());
                let child = "snapshots::tests::crashes::the_child";
                let met =
                    crash::run(child, (WORK, &format!("{what:?}")), (ROOT, &root), &format!("{call}:{fault}:when={n}"));
                if met {
                    points += 1;
                    check(what, &root, &bytes, &format!("{what:?}, {fault} at {call} {n}"));
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
fn killed_at_every_rename_unlink_and_sync_nothing_verified_is_lost_and_nothing_half_looks_whole() {
    let points = at_every(
        &["rename", "renameat", "renameat2", "unlink", "unlinkat", "fsync", "fdatasync", "fchmod", "flock"],
        "signal=KILL",
    );
    println!("killed at {points} points");
    assert!(points >= 30, "only {points} points: is the work still done by these calls?");
}

#[test]
fn killed_at_every_open_and_write_nothing_verified_is_lost_and_nothing_half_looks_whole() {
    let points = at_every(&["openat", "write"], "signal=KILL");
    println!("killed at {points} points");
    assert!(points >= 40, "only {points} points: is the work still done by these calls?");
}

#[test]
fn a_disk_that_fails_once_at_any_call_costs_a_try_and_no_snapshot() {
    let points = at_every(&["rename", "renameat2", "unlink", "fsync", "fdatasync", "write"], "error=EIO");
    println!("failed with EIO at {points} points");
    assert!(points >= 30, "only {points} points");
}

#[test]
fn a_disk_that_is_full_once_at_any_call_costs_a_try_and_no_snapshot() {
    let points = at_every(&["openat", "rename", "renameat2", "fsync", "fdatasync", "write"], "error=ENOSPC");
    println!("failed with ENOSPC at {points} points");
    assert!(points >= 40, "only {points} points");
}
