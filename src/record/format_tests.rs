//! Files of every version that was ever written: each is read, and what is written now is the same to the byte.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::envelope::{Fault, encode, golden};
use super::generations::{CONTENTS, Contents, DESCRIBED, Described, Entry, KeptManifest};
use super::tests::{changed_memory, full_memory, generation, good, guard, kept, machine, pinned_memory, served, time};
use super::{Published, PublishedFile, etcd_history_file, history, memory_file, published};
use crate::model::component_state::{KubeletRestarted, Method, Purpose, Replacement, SeenInPlace, Stage, Startup};
use crate::model::etcd::Member;
use crate::model::etcd_data::{AtRest, ClusterFiles, DataDir, LockState, Mount, WalOrigin};
use crate::model::etcd_history::{ClusterHistory, EtcdHistory, Size};
use crate::model::event::EventKind;
use crate::model::host_path::AbsentPaths;
use crate::model::lift::tests::earlier_memory;
use crate::model::lineage::{ApiStop, WentBack, WrongData, WrongDataKind};
use crate::model::manifest::DataIdentity;
use crate::model::memory::{Assists, FORMAT, Record, Unstarted};
use crate::model::versions::Versions;
use crate::model::{
    ComponentId, ComponentState, DataVersion, Digest, Event, FileKind, FileState, Generation, Memory, Trust, memory,
};

/// What version 2 lists, with a value each.
fn version_2_memory() -> Memory {
    let (etcd, at) = (ComponentId::system("etcd"), time("2026-11-22T18:40:00Z"));
    let mut memory = pinned_memory();
    memory.change_set = changed_memory().change_set;
    memory.incarnations.insert(etcd.clone(), served(at));
    memory.cluster = Some(ClusterFiles { ca: Some(Digest::of(b"ca")), kubelet: Some(Digest::of(b"kubelet")) });
    memory.rebuilt = Some("`kubeadm reset` ran".into());
    memory.wrong_data = Some(WrongData {
        etcd: etcd.clone(),
        kind: WrongDataKind::Empty,
        since: at,
        serves: served(at),
        api: ApiStop::Stopped { component: etcd.clone(), generation: 1, out: true, since: at },
    });
    memory.went_back = Some(WentBack {
        etcd,
        since: at,
        what: "it went back".into(),
        left: vec![ComponentId::system("kube-scheduler")],
        stopping: Some("c1".into()),
    });
    for record in memory.components.values_mut() {
        record.unstarted = Some(Unstarted { file: Digest::of(b"unread"), age: Duration::from_secs(2) });
        record.data_dir = Some(("/var/lib/etcd".into(), data_dir(at)));
        match &mut record.state {
            ComponentState::Probation(probation) => probation.imageless = Duration::from_secs(5),
            ComponentState::Replacing(replacement) if replacement.stage == Stage::Settling => {
                replacement.purpose = Purpose::Suspend { longest: Duration::from_secs(60) };
            }
            _ => {}
        }
        if let Some(generation) = record.generations.get_mut(&2) {
            generation.data = Some(etcd_data());
        }
    }
    memory
}

/// The same, with every purpose of a replacement, the stages that have something in them, and every assist.
fn current_memory() -> Memory {
    let mut memory = version_2_memory();
    let mut record = memory.components[&ComponentId::system("steady")].clone();
    record.assists = Assists {
        stopped: Some("77e1b0".into()),
        api_stopped_for: record.deployed.clone(),
        sandbox: Some("0af2c4".into()),
        no_attempt: Some("77e1b1".into()),
        back_off: Some(Duration::from_secs(6)),
        done: [Duration::from_secs(7)].into(),
    };
    record.pod_deployed = record.deployed.as_ref().map(|deployed| deployed.changed);
    record.absent_paths = Some(AbsentPaths {
        generation: 4,
        pod: Digest::of(b"pod"),
        paths: BTreeSet::from([PathBuf::from("/etc/kubernetes/audit.yaml")]),
        used: BTreeSet::from([PathBuf::from("/etc/kubernetes/audit")]),
    });
    let startup = Startup { crashes: 1, seen_in_place: SeenInPlace::Yes, duplicates: vec!["etcd.yaml~".into()] };
    let suspend = || Purpose::Suspend { longest: Duration::from_secs(60) };
    let rows = [
        ("missing", Purpose::RestoreMissing, Stage::StoppingOld(startup.clone())),
        ("suspended", suspend(), Stage::Suspended),
        ("unread", Purpose::roll_back(None), Stage::TakingOut),
        (
            "waiting",
            Purpose::roll_back(Some(4)),
            Stage::AwaitingServing { startup, kubelet_restarted: KubeletRestarted::Yes },
        ),
    ];
    for (name, purpose, stage) in rows {
        let replacement =
            Replacement { method: Method::Rename, stage, ..Replacement::new(purpose, 1, "it crashed twice") };
        let record = Record { state: ComponentState::Replacing(replacement), ..record.clone() };
        memory.components.insert(ComponentId::system(format!("replacing-{name}")), record);
    }
    memory
}

fn data_dir(at: Timestamp) -> DataDir {
    DataDir {
        member: Some((2049, 131_074)),
        changed: Some(at),
        lock: LockState::Free,
        versions: DataVersion::Known(Versions { cluster: Some((3, 6)), storage: Some((3, 6)), downgrade: None }),
        origin: WalOrigin::Restored { fingerprint: Some(7) },
        at_rest: Some(AtRest { revision: 40_000, raft_index: 90_000 }),
        mount: Some(Mount { point: "/var/lib/etcd".into(), source: "/dev/sdb1".into(), kind: "ext4".into() }),
    }
}

fn etcd_data() -> DataIdentity {
    DataIdentity::Etcd { data_dir: "/var/lib/etcd".into(), wal_dir: Some("/var/lib/wal".into()) }
}

#[test]
fn the_memory_of_every_version_is_read() {
    // While the number was 1, fields were added: three formats under one number.
    golden(&memory::FORMAT, (1, ""), &full_memory());
    golden(&memory::FORMAT, (1, "-pinned"), &pinned_memory());
    golden(&memory::FORMAT, (1, "-change-set"), &changed_memory());
    golden(&memory::FORMAT, (2, ""), &version_2_memory());
    golden(&memory::FORMAT, (3, ""), &current_memory());
}

#[test]
fn what_is_held_of_a_generation_is_read_in_every_version() {
    let described = |generation| Described { machine: machine(), component: ComponentId::system("etcd"), generation };
    golden(&DESCRIBED, (1, ""), &described(generation(3, good())));
    let current = Generation { data: Some(etcd_data()), ..generation(3, good()) };
    golden(&DESCRIBED, (2, ""), &described(current.clone()));
    golden(&DESCRIBED, (3, ""), &described(current));
    let state = FileState::Present { kind: FileKind::Config, digest: Digest::of(b"file"), mode: 0o644, uid: 1, gid: 2 };
    let contents = Contents {
        manifest: KeptManifest { digest: Digest::of(b"manifest"), mode: 0o600, uid: 3, gid: 4 },
        files: vec![Entry { path: "/etc/kubernetes/audit.yaml".into(), bytes: Digest::of(b"file"), state }],
    };
    golden(&CONTENTS, (1, ""), &contents);
}

#[test]
fn what_is_known_of_etcd_and_what_was_published_is_read_in_every_version() {
    let member = Member {
        id: 1,
        name: "m1".into(),
        peer_urls: vec!["https://10.0.0.1:2380".into()],
        client_urls: vec!["https://10.0.0.1:2379".into()],
        learner: false,
    };
    let world = ClusterHistory {
        cluster: u64::MAX,
        member: 1,
        members: vec![member],
        term: 2,
        raft_index: 3,
        revision: 4,
        highest_revision: 5,
        at: time("2026-11-22T18:40:00Z"),
        version: "3.5.16".into(),
        sizes: vec![Size { at: Timestamp::UNIX_EPOCH, bytes: 6 }],
    };
    golden(&etcd_history_file::FORMAT, (1, ""), &EtcdHistory { worlds: vec![world] });
    let file = PublishedFile { component: ComponentId::system("etcd"), digest: Digest::of(b"etcd") };
    golden(&published::FORMAT, (1, ""), &Published::from([("etcd.yaml".to_owned(), file)]));
}

#[test]
fn a_line_of_the_history_is_read_in_every_version() {
    let event = Event {
        at: time("2026-11-22T18:40:00Z"),
        kind: EventKind::State,
        component: Some(ComponentId::system("etcd")),
        generation: Some(2),
        from: Some("Steady(generation 1)".into()),
        to: "Probation(generation 2)".into(),
        because: "its manifest changed".into(),
    };
    let (_dir, guard) = guard();
    guard.append([&event]).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/event-v1.json");
    let line = std::fs::read(guard.path().join("history.jsonl")).unwrap();
    if std::env::var_os("LASTGOOD_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &line).unwrap();
    }
    assert_eq!(String::from_utf8(std::fs::read(path).unwrap()).unwrap(), String::from_utf8(line).unwrap());
    assert_eq!(guard.history(None, 9).events, [event]);
    assert_eq!(history::FORMAT.version(), 1, "the fixture is of version 1");
}

#[test]
fn a_field_that_is_not_of_this_version_is_damage_and_one_of_an_earlier_version_is_passed_over() {
    let mut body = serde_json::to_value(full_memory()).unwrap();
    body["components"]["steady"]["state"]["surprise"] = 1.into();
    let current = encode(FORMAT.version(), "memory", &body).unwrap();
    assert!(matches!(memory_file::decode(&current), Err(Fault::Damaged(why)) if why.contains("surprise")));
    let mut body = of_version("memory-v1.json");
    body["components"]["steady"]["slot"]["surprise"] = 1.into();
    let earlier = encode(1, "memory", &body).unwrap();
    assert_eq!(memory_file::decode(&earlier).unwrap(), full_memory(), "what a later version dropped");
}

/// The body of a fixture.
fn of_version(file: &str) -> serde_json::Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(file);
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["memory"].clone()
}

#[test]
fn q11_a_memory_of_an_earlier_version_in_the_middle_of_a_replacement_goes_on_in_it() {
    let fixtures = [(1, "memory-v1.json", full_memory()), (2, "memory-v2.json", version_2_memory())];
    for (version, file, expected) in fixtures {
        let earlier = of_version(file);
        let slots = earlier["components"].as_object().unwrap().iter().map(|(name, record)| (name, &record["slot"]));
        let slots: Vec<_> = slots.filter(|(_, slot)| slot["state"] == "rolling-back").collect();
        assert_eq!(slots.len(), 5);
        for (name, slot) in slots {
            let (_dir, guard) = guard();
            let mut memory = kept(&guard, "etcd", &[(1, good()), (2, Trust::Candidate)]);
            memory.stopped_apiserver = expected.stopped_apiserver.clone();
            let mut body = earlier_memory(&memory, slot);
            // As the first files of version 1 were.
            body.as_object_mut().unwrap().remove("runtime_restarts").unwrap();
            let path = guard.path().join("memory.json");
            std::fs::write(&path, encode(version, "memory", &body).unwrap()).unwrap();
            let state = expected.components[&ComponentId::system(name)].state.clone();
            memory.components.get_mut(&ComponentId::system("etcd")).unwrap().state = state;
            let (loaded, findings) = guard.load_memory(&machine());
            assert_eq!((&loaded, findings), (&memory, vec![]), "{slot}");
            guard.save_memory(&loaded).unwrap();
            let saved = std::fs::read(&path).unwrap();
            assert_eq!(saved, memory_file::encode(&memory).unwrap(), "lifted by the first save");
        }
    }
}
