//! The executor is killed, and its disk fails, at every system call it makes. Afterwards the old manifest or the new
//! one is deployed, whole; between the two steps of a replacement none is, and the new one is in staging.
//!
//! A child process (this test binary again, [`the_child`]) does the work: [`crate::sys::crash`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nix::mount::{MsFlags, mount};

use super::runtime::tests::without_containers;
use super::tests::{BAD, GOOD, Node, manifest};
use super::*;
use crate::model::Memory;
use crate::model::notice::NodeNotice;
use crate::record::Store;
use crate::sys::crash::{self, fill, on_a_tmpfs};
use crate::sys::files;

const WORK: &str = "LASTGOOD_CRASH_WORK";
const ROOT: &str = "LASTGOOD_CRASH_ROOT";

/// What the child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    TwoSteps,
    InPlace,
    SaveMemory,
    Withhold,
    SetMemoryAside,
    RemoveDirectories,
}

impl Work {
    fn of(word: &str) -> Self {
        let all = [Self::TwoSteps, Self::InPlace, Self::SaveMemory, Self::Withhold];
        let mut all = all.into_iter().chain([Self::SetMemoryAside, Self::RemoveDirectories]);
        all.find(|work| format!("{work:?}") == word).unwrap()
    }
}

fn memory(node: &Node, note: &str) -> Memory {
    let notices = [(NodeNotice::Clock, note.repeat(2000))].into();
    Memory { notices, ..node.memory.clone() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn work(node: &Node, guard: &Guard, work: Work) -> Vec<Outcome> {
    match work {
        Work::TwoSteps => {
            vec![node.take(guard, &node.take_out()).await, node.take(guard, &node.put_in()).await]
        }
        Work::InPlace => vec![node.take(guard, &node.put_in()).await],
        Work::SaveMemory => {
            let saved = guard.save_memory(&memory(node, "new")).map(|_| Outcome::Done(String::new()));
            vec![saved.unwrap_or_else(|error| Outcome::Failed(error.to_string()))]
        }
        Work::Withhold => vec![node.take(guard, &node.withhold()).await],
        Work::SetMemoryAside => vec![node.take(guard, &Step::SetMemoryAside).await],
        Work::RemoveDirectories => {
            let socket = node.socket();
            files::remove(&socket).unwrap();
            without_containers(&socket);
            let mut outcomes = Vec::new();
            for path in node.made() {
                outcomes.push(node.take(guard, &node.remove_directory(path)).await);
            }
            outcomes
        }
    }
}

/// Does the work that its environment names. It is no separate test.
#[test]
#[ignore = "run by the tests below"]
fn the_child() {
    let (Ok(what), Some(root)) = (env::var(WORK), env::var_os(ROOT)) else { return };
    let node = Node::at(Path::new(&root));
    let runtime = runtime();
    let guard = node.guard();
    crash::ready();
    runtime.block_on(work(&node, &guard, Work::of(&what)));
    // At once: what the test harness still writes is not ours to break.
    std::process::exit(0);
}

/// Runs the child with a fault injected; true if it was met.
fn run(work: Work, root: &Path, fault: &str) -> bool {
    crash::run("act::crash_tests::the_child", (WORK, &format!("{work:?}")), (ROOT, root), fault)
}

/// A directory with a node on it as it is before the work, to be copied.
fn template(root: &Path) -> PathBuf {
    let template = root.join("template");
    fs::create_dir(&template).unwrap();
    let (node, guard) = runtime().block_on(Node::with_a_bad_manifest(&template));
    guard.save_memory(&memory(&node, "older")).unwrap();
    guard.save_memory(&memory(&node, "old")).unwrap();
    fs::create_dir_all(&node.made()[0]).unwrap();
    template
}

/// The old manifest or the new one, whole, and nothing else in the directory.
fn assert_whole(node: &Node, situation: &str) {
    let standing = node.deployed().unwrap_or_else(|| panic!("{situation}: no manifest stands"));
    assert!(standing == manifest(GOOD) || standing == manifest(BAD), "{situation}: the manifest is torn");
    assert_eq!(files::names(&node.manifests()).unwrap(), ["kube-apiserver.yaml"], "{situation}");
}

/// The failed manifest is deployed and whole, or it is out and the known-good one is kept where no start of the agent puts
/// it in.
fn check_withheld(node: &Node, situation: &str) {
    let is_safe = |when: &str| match node.deployed() {
        Some(deployed) => assert_eq!(deployed, manifest(BAD), "{situation}, {when}: the manifest is torn"),
        None => {
            let withheld = node.settings.paths.staging.join("withheld/kube-apiserver.yaml");
            assert_eq!(fs::read_to_string(withheld).unwrap(), manifest(GOOD), "{situation}, {when}: it is lost");
            let staged = node.settings.paths.staging.join("slots/kube-apiserver.yaml");
            assert!(!staged.exists(), "{situation}, {when}: a start of the agent would put it in");
        }
    };
    is_safe("after the fault");
    let deployed = node.deployed();
    finish_interrupted(&node.settings);
    assert_eq!(node.deployed(), deployed, "{situation}: a start of the agent changed what is deployed");
    let outcomes = runtime().block_on(super::crash_tests::work(node, &node.guard(), Work::Withhold));
    assert!(matches!(&outcomes[..], [Outcome::Done(_) | Outcome::AlreadyDone(_)]), "{situation}: {outcomes:?}");
    assert_eq!(node.deployed(), None, "{situation}");
    is_safe("when repeated");
    assert_eq!(finish_interrupted(&node.settings), Vec::<String>::new(), "{situation}");
}

/// The generations are in their place or set aside, whole; what is deployed is untouched.
fn check_set_aside(node: &Node, situation: &str) {
    let state = &node.settings.paths.state;
    let kept = || {
        let aside = state.join("aside");
        let names = files::names(&aside).unwrap_or_default();
        let moved = names.iter().filter(|name| name.ends_with(".generations")).map(|name| aside.join(name));
        let roots: Vec<_> = moved.chain([state.join("generations")]).filter(|root| root.exists()).collect();
        assert_eq!(roots.len(), 1, "{situation}: {roots:?}");
        let manifest = roots[0].join("kube-system_kube-apiserver/1/manifest");
        fs::read_to_string(&manifest).unwrap_or_else(|error| panic!("{situation}: {}: {error}", manifest.display()))
    };
    assert_eq!(kept(), manifest(GOOD), "{situation}");
    let outcomes = runtime().block_on(work(node, &node.guard(), Work::SetMemoryAside));
    assert!(matches!(&outcomes[..], [Outcome::Done(_) | Outcome::AlreadyDone(_)]), "{situation}: {outcomes:?}");
    assert_eq!(kept(), manifest(GOOD), "{situation}");
    assert!(!state.join("generations").exists(), "{situation}");
    assert_eq!(node.deployed().unwrap(), manifest(BAD), "{situation}");
}

/// What is left is whole, and the next run finishes it: the memory knows the directories until the rollback is over.
fn check_removed(node: &Node, situation: &str) {
    let exists = || node.made().map(|path| path.is_dir());
    assert_ne!(exists(), [true, false], "{situation}");
    let outcomes = runtime().block_on(super::crash_tests::work(node, &node.guard(), Work::RemoveDirectories));
    let is_over = |outcome: &Outcome| matches!(outcome, Outcome::Done(_) | Outcome::AlreadyDone(_));
    assert!(outcomes.len() == 2 && outcomes.iter().all(is_over), "{situation}: {outcomes:?}");
    assert_eq!(exists(), [false, false], "{situation}");
    assert_eq!(node.deployed().unwrap(), manifest(BAD), "{situation}");
}

fn check(work: Work, node: &Node, situation: &str) {
    match work {
        Work::RemoveDirectories => return check_removed(node, situation),
        Work::Withhold => return check_withheld(node, situation),
        Work::SetMemoryAside => return check_set_aside(node, situation),
        Work::TwoSteps | Work::InPlace | Work::SaveMemory => {}
    }
    if work == Work::SaveMemory {
        let (found, findings) = node.guard().load_memory(&node.memory.machine);
        let note = found
            .notices
            .get(&NodeNotice::Clock)
            .map(|note| note.trim_end_matches("new").trim_end_matches("old").is_empty());
        assert_eq!((note, findings), (Some(true), vec![]), "{situation}: the memory is lost");
        return;
    }
    if node.deployed().is_none() {
        let staged = node.settings.paths.staging.join("slots/kube-apiserver.yaml");
        assert_eq!(fs::read_to_string(staged).unwrap(), manifest(GOOD), "{situation}: an empty slot without successor");
    }
    finish_interrupted(&node.settings);
    assert_whole(node, situation);
    // The next run finishes it.
    let guard = node.guard();
    let outcomes = runtime().block_on(super::crash_tests::work(node, &guard, work));
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Done(_))), "{situation}: {outcomes:?}");
    assert_eq!(node.deployed().unwrap(), manifest(GOOD), "{situation}");
}

/// Meets every call of these kinds with a fault, one at a time, and tells how many there were.
fn at_every(works: &[Work], calls: &[&str], fault: &str) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let template = template(dir.path());
    let mut points = 0;
    for work in works {
        for call in calls {
            for n in crash::points() {
                let root = dir.path().join("run");
                let copied = Command::new("cp").arg("-a").args([&template, &root]).status().unwrap();
                assert!(copied.success());
                let met = run(*work, &root, &format!("{call}:{fault}:when={n}"));
                if met {
                    points += 1;
                    check(*work, &Node::at(&root), &format!("{work:?}, {fault} at {call} {n}"));
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
fn a_directory_that_was_made_for_a_candidate_goes_wherever_the_agent_is_killed() {
    let works = [Work::RemoveDirectories];
    let calls = ["rmdir", "unlinkat", "fsync", "openat"];
    let points = at_every(&works, &calls, "signal=KILL") + at_every(&works, &["rmdir", "fsync"], "error=EIO");
    println!("killed or failed at {points} points");
    assert!(points >= 8, "only {points} points: is the work still done by these calls?");
}

const MANIFESTS: [Work; 2] = [Work::TwoSteps, Work::InPlace];

#[test]
fn never_1_q11_killed_at_every_rename_link_and_sync_no_manifest_is_lost_or_torn() {
    let calls = ["rename", "renameat", "renameat2", "linkat", "unlink", "unlinkat", "fsync", "fchmod"];
    let points = at_every(&MANIFESTS, &calls, "signal=KILL");
    println!("killed at {points} points");
    assert!(points >= 20, "only {points} points: is the work still done by these calls?");
}

#[test]
fn never_1_q11_killed_at_every_open_and_write_no_manifest_is_lost_or_torn() {
    let points = at_every(&MANIFESTS, &["openat", "write", "mkdir", "symlink"], "signal=KILL");
    println!("killed at {points} points");
    assert!(points >= 20, "only {points} points: is the work still done by these calls?");
}

#[test]
fn never_1_a_disk_that_fails_at_any_call_leaves_the_old_manifest_or_the_new_one() {
    let calls = ["rename", "renameat", "renameat2", "linkat", "fsync", "write"];
    let points = at_every(&MANIFESTS, &calls, "error=EIO") + at_every(&MANIFESTS, &["openat"], "error=ENOSPC");
    println!("failed at {points} points");
    assert!(points >= 20, "only {points} points");
}

#[test]
fn a_memory_is_the_old_one_or_the_new_one_wherever_the_agent_is_killed() {
    let calls = ["rename", "renameat", "renameat2", "linkat", "unlink", "fsync", "write", "openat"];
    let points = at_every(&[Work::SaveMemory], &calls, "signal=KILL");
    println!("killed at {points} points");
    assert!(points >= 8, "only {points} points");
}

#[test]
fn never_1_q11_what_is_withheld_or_set_aside_is_lost_at_no_call() {
    let works = [Work::Withhold, Work::SetMemoryAside];
    let calls =
        ["rename", "renameat", "renameat2", "linkat", "unlink", "unlinkat", "fsync", "openat", "write", "mkdir"];
    let points = at_every(&works, &calls, "signal=KILL") + at_every(&works, &calls, "error=EIO");
    println!("killed or failed at {points} points");
    assert!(points >= 40, "only {points} points: is the work still done by these calls?");
}

#[test]
fn never_1_a_full_disk_leaves_the_old_manifest_or_the_new_one_whatever_room_is_left() {
    on_a_tmpfs("600k", |root| {
        // A manifest takes three pages; so from none to more than enough.
        for pages in 0..16 {
            for work in MANIFESTS {
                let home = root.join("node");
                fs::create_dir(&home).unwrap();
                let (node, guard) = runtime().block_on(Node::with_a_bad_manifest(&home));
                guard.save_memory(&memory(&node, "old")).unwrap();
                let filler = root.join("filler");
                fill(&filler, pages);
                let outcomes = runtime().block_on(super::crash_tests::work(&node, &guard, work));
                let situation = format!("{work:?} with {pages} pages left: {outcomes:?}");
                if pages == 0 {
                    assert!(
                        matches!(&outcomes[0], Outcome::Failed(why) if why.contains("No space left")),
                        "{situation}"
                    );
                }
                let saved = guard.save_memory(&memory(&node, "new"));
                let (found, findings) = guard.load_memory(&node.memory.machine);
                let expected = if saved.is_ok() { "new" } else { "old" };
                assert_eq!((found, findings), (memory(&node, expected), vec![]), "{situation}");
                finish_interrupted(&node.settings);
                assert_whole(&node, &situation);
                fs::remove_file(&filler).unwrap();
                drop(guard);
                fs::remove_dir_all(&home).unwrap();
            }
        }
    });
}

#[test]
fn t7_on_a_full_disk_the_agent_starts_and_its_history_stays_readable() {
    on_a_tmpfs("600k", |root| {
        let (node, guard) = runtime().block_on(Node::with_a_bad_manifest(root));
        let event = |to: &str| crate::model::Event {
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: crate::model::event::EventKind::Agent,
            component: None,
            generation: None,
            from: None,
            to: to.repeat(1000),
            because: String::new(),
        };
        guard.append([&event("started")]).unwrap();
        fill(&root.join("filler"), 0);
        let failed = (0..10).find_map(|_| guard.append([&event("full")]).err()).unwrap();
        assert!(failed.to_string().contains("history.jsonl: No space left"), "{failed}");
        drop(guard);
        let guard = node.guard();
        guard.load_memory(&node.memory.machine);
        let history = guard.history(None, 100);
        assert_eq!((&history.events[0], history.damage), (&event("started"), vec![]));
        fs::remove_file(root.join("filler")).unwrap();
        guard.append([&event("room")]).unwrap();
        assert_eq!(guard.history(None, 1).events, [event("room")]);
    });
}

#[test]
fn on_a_read_only_disk_the_agent_starts_and_says_so_at_every_step() {
    on_a_tmpfs("2m", |root| {
        let (node, guard) = runtime().block_on(Node::with_a_bad_manifest(root));
        guard.save_memory(&memory(&node, "old")).unwrap();
        drop(guard);
        let none = None::<&str>;
        mount(none, root, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
        let guard = Store::open(&node.settings).unwrap().lock().unwrap();
        assert_eq!(guard.load_memory(&node.memory.machine), (memory(&node, "old"), vec![]));
        let outcomes = runtime().block_on(super::crash_tests::work(&node, &guard, Work::TwoSteps));
        assert!(
            outcomes.iter().all(|o| matches!(o, Outcome::Failed(why) if why.contains("Read-only file system"))),
            "{outcomes:?}"
        );
        assert!(guard.save_memory(&memory(&node, "new")).is_err());
        assert_eq!(node.deployed().unwrap(), manifest(BAD));
        assert_eq!(finish_interrupted(&node.settings), Vec::<String>::new());
    });
}
