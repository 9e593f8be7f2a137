//! A downgrade: state directories that a newer lastgood left.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::envelope::{encode, of_the_future};
use super::generations::{CONTENTS, DESCRIBED, Described};
use super::tests::{changed_memory, full_memory, good, guard, kept, machine, pinned_memory};
use super::{Capturing, Guard, Published, Store, etcd_history_file, history, published};
use crate::model::etcd_history::EtcdHistory;
use crate::model::event::EventKind;
use crate::model::memory::FORMAT;
use crate::model::observation::{ManifestFile, Settled};
use crate::model::{
    ComponentId, ComponentState, Digest, Event, FileFault, Format, Manifest, Memory, NewerFile, Trust, generation,
};
use crate::sys::files::Attributes;

/// Every file below a directory but the lock, with its bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else if entry.file_name() != "lock" {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A state directory whose memory a newer lastgood saved, with the lock taken again.
fn downgraded(memory: impl FnOnce(&Guard) -> Memory, inside: &str) -> (tempfile::TempDir, Guard, Memory) {
    let (dir, first) = guard();
    let memory = memory(&first);
    fs::write(first.path().join("memory.json"), of_the_future(&FORMAT, &memory, inside)).unwrap();
    drop(first);
    let guard = Store::at(&state(&dir)).unwrap().lock().unwrap();
    (dir, guard, memory)
}

/// Where the guard of such a directory has its state.
fn state(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("state")
}

fn rolling() -> ComponentState {
    full_memory().components[&ComponentId::system("rolling-two-steps")].state.clone()
}

fn event() -> Event {
    Event::new(jiff::Timestamp::UNIX_EPOCH, EventKind::Notice, None, "something", "")
}

#[test]
fn a_newer_memory_is_read_as_far_as_it_is_understood_and_stays() {
    let rolling_etcd = |guard: &Guard| {
        let mut memory = kept(guard, "etcd", &[(1, good()), (2, Trust::Candidate)]);
        memory.components.get_mut(&ComponentId::system("etcd")).unwrap().state = rolling();
        memory
    };
    let (dir, guard, memory) = downgraded(rolling_etcd, "/components/etcd/state");
    let before = tree(&state(&dir));
    let (loaded, findings) = guard.load_memory(&machine());
    assert_eq!(loaded, memory, "with the rollback that is under way");
    let newer = NewerFile { path: state(&dir).join("memory.json"), version: 4, known: 3 };
    assert_eq!(guard.newer_state(&loaded), std::slice::from_ref(&newer));
    assert_eq!(findings.iter().map(|finding| &finding.path).collect::<Vec<_>>(), [&newer.path]);
    assert_eq!(Store::load_memory(&guard, &machine()).0, memory, "without the lock as well");
    assert_eq!(tree(&state(&dir)), before);
}

#[test]
fn what_is_not_understood_of_a_newer_memory_costs_itself_only() {
    let (dir, guard, memory) = downgraded(|_| pinned_memory(), "/components/steady");
    let mut body = serde_json::to_value(&memory).unwrap();
    body["components"]["probation"]["state"]["state"] = "of-the-future".into();
    body["components"]["not/a/name"] = json!({});
    body["pause"] = json!("for ever");
    fs::write(state(&dir).join("memory.json"), encode(4, "memory", &body).unwrap()).unwrap();
    let (loaded, _) = guard.load_memory(&machine());
    let mut understood = memory.clone();
    understood.components.remove(&ComponentId::system("probation")).unwrap();
    understood.pause = None;
    // Their bytes are not in this store.
    for record in loaded.components.keys() {
        assert!(understood.components.contains_key(record), "{record}");
    }
    assert_eq!(loaded.components.len(), understood.components.len());
    assert_eq!((loaded.pause, loaded.stopped_apiserver), (None, understood.stopped_apiserver));
}

#[test]
fn a_newer_memory_that_is_wrapped_in_another_way_stays_and_the_generations_tell_what_was_proven() {
    let (dir, guard, _) = downgraded(|guard| kept(guard, "etcd", &[(1, good())]), "");
    drop(guard);
    fs::write(state(&dir).join("memory.json"), r#"{"version":4,"sum":"x","pages":[]}"#).unwrap();
    fs::write(state(&dir).join("memory.json.old"), "{").unwrap();
    let guard = Store::at(&state(&dir)).unwrap().lock().unwrap();
    let before = tree(&state(&dir));
    let (loaded, _) = guard.load_memory(&machine());
    assert_eq!(loaded.components[&ComponentId::system("etcd")].state, ComponentState::Steady { good: 1 });
    assert_eq!(tree(&state(&dir)), before, "what is damaged beside it stays as well");
}

#[test]
fn nothing_is_written_beside_or_over_the_files_of_a_newer_lastgood() {
    let (dir, guard, memory) = downgraded(|guard| kept(guard, "etcd", &[(1, good())]), "");
    let run = tempfile::tempdir().unwrap();
    let (id, number) = (ComponentId::system("etcd"), 1);
    let held = memory.components[&id].generations[&number].clone();
    let before = tree(&state(&dir));
    let another = generation::Generation { number: 2, closure: Vec::new(), ..held.clone() };
    let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: c, image: c}]}\n";
    let file = ManifestFile {
        name: "etcd.yaml".into(),
        content: Manifest::parse(text.as_slice().into()).map_err(|fault: FileFault| fault),
        closure: Vec::new(),
        digest: held.digest,
        changed: jiff::Timestamp::UNIX_EPOCH,
        uid: 0,
        settled: Settled::Yes,
    };
    let capturing = Capturing {
        component: &id,
        generation: &another,
        file: &file,
        attributes: Attributes::private(),
        machine: &machine(),
    };
    let refused: [(&str, io::Result<()>); 9] = [
        ("save_memory", guard.save_memory(&changed_memory()).map(drop)),
        ("save_published", guard.save_published(&Published::new())),
        ("save_known", guard.save_known(&EtcdHistory::default()).map(drop)),
        ("show_known", guard.show_known(run.path(), &EtcdHistory::default()).map(drop)),
        ("capture", guard.capture(&capturing).map(drop)),
        ("describe", guard.describe(&machine(), &id, &held).map(drop)),
        ("forget", guard.forget(&id, number).map(drop)),
        ("set_generations_aside", guard.set_generations_aside().map(drop)),
        ("set_aside", guard.set_aside(&state(&dir).join("memory.json")).map(drop)),
    ];
    for (what, result) in refused {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{what}: {error}");
        assert!(error.to_string().contains("memory.json"), "{what}: {error}");
    }
    assert_eq!(tree(&state(&dir)), before);
    assert_eq!(tree(run.path()), BTreeMap::new());
    // What a crash left half made may be the newer program's.
    fs::create_dir(state(&dir).join("tmp")).unwrap();
    fs::write(state(&dir).join("tmp/.lastgood-1"), "half").unwrap();
    drop(guard);
    let guard = Store::at(&state(&dir)).unwrap().lock().unwrap();
    assert!(state(&dir).join("tmp/.lastgood-1").exists());
    // The history is not newer: new events go there.
    guard.append([&event()]).unwrap();
    assert_eq!(guard.history(None, 9).events, [event()]);
}

/// A file of a newer lastgood, by its place in the state directory.
type Newer = (&'static str, Format, fn(&Guard) -> Vec<u8>);

#[test]
fn every_file_of_a_newer_lastgood_is_found() {
    let memory = |_: &Guard| of_the_future(&FORMAT, &full_memory(), "");
    let described = |guard: &Guard| {
        let memory = kept(guard, "etcd", &[(7, good())]);
        let generation = memory.components[&ComponentId::system("etcd")].generations[&7].clone();
        let described = Described { machine: machine(), component: ComponentId::system("etcd"), generation };
        of_the_future(&DESCRIBED, &described, "/generation")
    };
    let contents = |guard: &Guard| {
        kept(guard, "etcd", &[(7, good())]);
        let text = fs::read_to_string(guard.path().join("generations/kube-system_etcd/7/contents.json")).unwrap();
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        of_the_future(&CONTENTS, &body["contents"], "/manifest")
    };
    let rows: [Newer; 6] = [
        ("memory.json", FORMAT, memory),
        ("memory.json.old", FORMAT, memory),
        ("known.json", etcd_history_file::FORMAT, |_| {
            of_the_future(&etcd_history_file::FORMAT, &EtcdHistory::default(), "")
        }),
        ("published.json", published::FORMAT, |_| of_the_future(&published::FORMAT, &Published::new(), "")),
        ("generations/kube-system_etcd/7/generation.json", DESCRIBED, described),
        ("generations/kube-system_etcd/7/contents.json", CONTENTS, contents),
    ];
    for (name, format, make) in rows {
        let (dir, first) = guard();
        let bytes = make(&first);
        let path = first.path().join(name);
        fs::write(&path, &bytes).unwrap();
        drop(first);
        let guard = Store::at(&state(&dir)).unwrap().lock().unwrap();
        let newer = NewerFile { path: path.clone(), version: u64::from(format.version()) + 1, known: format.version() };
        assert_eq!(guard.newer_state(&Memory::default()), [newer], "{name}");
        let _ = guard.load_memory(&machine());
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        assert!(!state(&dir).join("aside").exists(), "{name}");
        if name.starts_with("generations") {
            assert!(guard.manifest(&ComponentId::system("etcd"), 7).is_ok(), "{name}: it can be put back");
        }
    }
}

#[test]
fn the_copy_of_the_run_directory_and_a_restore_that_broke_off_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = crate::config::Settings::default();
    settings.paths.state = dir.path().join("state");
    settings.paths.run = dir.path().join("run");
    fs::create_dir(&settings.paths.run).unwrap();
    let copy = settings.paths.run.join("known.json");
    fs::write(&copy, of_the_future(&etcd_history_file::FORMAT, &EtcdHistory::default(), "")).unwrap();
    let data = dir.path().join("etcd");
    let intent = data.join(".lastgood-restore-1/intent.json");
    fs::create_dir_all(intent.parent().unwrap()).unwrap();
    fs::write(&intent, r#"{"version":9}"#).unwrap();
    let mut memory = full_memory();
    memory.components.values_mut().for_each(|record| record.data_dir = Some((data.clone(), Default::default())));
    let store = Store::open(&settings).unwrap();
    let found: Vec<PathBuf> = store.newer_state(&memory).into_iter().map(|newer| newer.path).collect();
    assert_eq!(found, [copy, intent]);
}

#[test]
fn a_newer_history_is_read_and_nothing_is_appended() {
    let (dir, first) = guard();
    first.append([&event()]).unwrap();
    let path = first.path().join("history.jsonl");
    let line = fs::read_to_string(&path).unwrap();
    let newer = line.replacen('{', r#"{"version":2,"#, 1);
    let unknown = "{\"version\":3,\"of the future\":1}\n";
    fs::write(&path, [line.as_str(), &newer, unknown].concat()).unwrap();
    let before = fs::read(&path).unwrap();
    drop(first);
    let guard = Store::at(&state(&dir)).unwrap().lock().unwrap();
    let read = guard.history(None, 9);
    assert_eq!((read.events.len(), read.damage.len()), (2, 1), "{:?}", read.damage);
    guard.append([&event()]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(
        guard.newer_state(&Memory::default()),
        [NewerFile { path, version: 3, known: history::FORMAT.version() }]
    );
}

#[test]
fn a_version_that_no_lastgood_writes_is_damage_and_set_aside() {
    let good = String::from_utf8(super::memory_file::encode(&full_memory()).unwrap()).unwrap();
    let version = |version: &str| good.replacen("\"version\":3", &format!("\"version\":{version}"), 1);
    let rows = [version("0"), version("4000000000"), version("\"4\""), good.replacen("\"version\":3,", "", 1)];
    for text in rows {
        let (_dir, guard) = guard();
        fs::write(guard.path().join("memory.json"), &text).unwrap();
        let (loaded, _) = guard.load_memory(&machine());
        assert_eq!(loaded.components, BTreeMap::new());
        assert_eq!(guard.newer_state(&loaded), []);
        let aside: Vec<_> = tree(&guard.path().join("aside")).into_values().collect();
        assert_eq!(aside, [text.into_bytes()]);
        guard.save_memory(&full_memory()).unwrap();
    }
}

#[test]
fn a_newer_memory_of_another_machine_stays_unused() {
    let (dir, guard, _) = downgraded(|guard| kept(guard, "etcd", &[(1, good())]), "");
    let another = crate::model::memory::Machine { machine_id: Digest::of(b"another").to_string(), ..machine() };
    let before = tree(&state(&dir));
    assert_eq!(guard.load_memory(&another).0.components, BTreeMap::new());
    assert_eq!(tree(&state(&dir)), before);
}
