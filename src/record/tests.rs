//! State directories as crashes, operators and other machines leave them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::component_state::{
    Held, Initiator, Method, Probation, Purpose, Replacement, Served, Stage, Startup, Until,
};
use crate::model::config_files::KubeconfigHealth;
use crate::model::etcd_data::{ClusterFiles, DataDir, KubeSystem, LockState, StoreIdentity};
use crate::model::generation::Stored;
use crate::model::lineage::{ApiStop, Incarnation, WentBack, WrongData, WrongDataKind};
use crate::model::manifest::DataIdentity;
use crate::model::memory::{
    ApiServed, ApiServerStopped, Assists, ChangeSet, Deployed, Machine, Pause, Pin, Record, Restart,
};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::observation::{Gone, ManifestFile, Settled};
use crate::model::{
    ClosureFile, ComponentId, ComponentState, Digest, FileKind, FileState, Generation, Manifest, Memory, Proof, Role,
    Trust, Verdict,
};
use crate::sys::files::{Attributes, Written};

pub(super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn machine() -> Machine {
    Machine { machine_id: "9f3c5b0d7a1e4c2f8b6d0e9a7c5b3d1f".into(), node_name: "master-1".into() }
}

pub(super) fn generation(number: u32, trust: Trust) -> Generation {
    let present = |kind, mode| FileState::Present { kind, digest: Digest::of(b"file"), mode, uid: 0, gid: 0 };
    let kubeconfig = |works| FileKind::Kubeconfig { works, credentials: Digest::of(b"credentials") };
    let works = KubeconfigHealth::Works { not_after: Some(1_795_000_000) };
    let cannot = KubeconfigHealth::Cannot { reason: "its key does not fit its certificate".into() };
    let file = |name: &str, state| ClosureFile { path: Path::new("/etc/kubernetes").join(name), state };
    Generation {
        raw_digest: Digest::of(b"raw"),
        startup_budget: Duration::from_secs(250),
        termination_grace: Duration::from_secs(30),
        number,
        digest: Digest::of(&number.to_be_bytes()),
        pod_digest: Digest::of(b"pod"),
        file_name: "kube-apiserver.yaml".into(),
        closure: vec![
            file("audit.yaml", present(FileKind::Config, 0o644)),
            file("admin.conf", present(kubeconfig(works), 0o600)),
            file("scheduler.conf", present(kubeconfig(cannot), 0o600)),
            file("pki/sa.key", present(FileKind::KeyMaterial, 0o600)),
            file("webhook.conf", FileState::Missing),
            file("admission", FileState::Unreadable { reason: "is a directory".into() }),
        ],
        images: BTreeSet::from(["registry.k8s.io/kube-apiserver:v1.34.2".into()]),
        ports: BTreeSet::from([6443]),
        data: Some(DataIdentity::ApiServer {
            servers: BTreeSet::from(["https://127.0.0.1:2379".into()]),
            prefix: "/registry".into(),
        }),
        minor: Some((1, 34)),
        first_seen: time("2026-11-22T18:30:00Z"),
        served: Some(time("2026-11-22T18:31:00.5Z")),
        rewritten: 1,
        trust,
        stored: Stored::Yes,
    }
}

/// A memory with something in every field, and a component in every state.
pub(super) fn full_memory() -> Memory {
    let seconds = Duration::from_secs;
    let since = time("2026-11-22T18:36:00Z");
    let generations: BTreeMap<u32, Generation> = [
        generation(
            1,
            Trust::KnownGood {
                proof: Proof::Soak { seconds: 300, evidence: "pod 0af2, container 77e1, livez answered".into() },
                since,
            },
        ),
        generation(2, Trust::KnownGood { proof: Proof::Asserted { reason: "checked by hand".into() }, since }),
        generation(3, Trust::Quarantined { why: "it crashed twice: unknown flag".into(), since }),
        generation(4, Trust::Candidate),
    ]
    .map(|generation| (generation.number, generation))
    .into();
    let probation = Probation {
        age: seconds(40),
        healthy: Duration::from_millis(1500),
        failing: seconds(2),
        crashes: 1,
        served: Served::Yes,
        harm: seconds(3),
        unstarted: seconds(4),
        ..Probation::begin(4, 1)
    };
    let replacing = |purpose, method, stage| {
        let in_stage = seconds(5);
        ComponentState::Replacing(Replacement {
            method,
            stage,
            in_stage,
            ..Replacement::new(purpose, 1, "it crashed twice")
        })
    };
    let (agents, operators) = (Initiator::Agent, Initiator::Operator);
    let from_3 = |initiator| Purpose::RollBack { from: Some(3), initiator };
    let duplicates = Purpose::MoveOutDuplicates { files: vec!["kube-apiserver.yaml~".into()] };
    let restarting = Stage::RestartingKubelet(Startup::default());
    let held = |until| {
        ComponentState::Held(Held {
            over: Some(4),
            good: Some(1),
            why: "the budget of 4 actions an hour is spent".into(),
            next_step: "look at it, then: lastgood resume kube-apiserver".into(),
            until,
        })
    };
    let slots: Vec<(&str, ComponentState)> = vec![
        ("adopting", ComponentState::Adopting { candidate: 4, healthy: seconds(12) }),
        ("held-images", held(Until::Images(vec!["registry.k8s.io/etcd:3.6.5-0".into()]))),
        ("held-person", held(Until::Person)),
        (
            "missing-deleted",
            ComponentState::Missing { good: 1, how: Gone::Deleted, since: Timestamp::UNIX_EPOCH, age: seconds(6) },
        ),
        (
            "missing-moved",
            ComponentState::Missing {
                good: 1,
                how: Gone::Moved { to: Some("/root/x.yaml".into()) },
                since: Timestamp::UNIX_EPOCH,
                age: seconds(7),
            },
        ),
        (
            "missing-unwitnessed",
            ComponentState::Missing {
                good: 1,
                how: Gone::Unwitnessed,
                since: Timestamp::UNIX_EPOCH,
                age: Duration::ZERO,
            },
        ),
        ("probation", ComponentState::Probation(probation)),
        ("rolling-in-place", replacing(from_3(agents), Method::Rename, Stage::PuttingIn)),
        ("rolling-parking", replacing(from_3(operators), Method::RemoveThenAdd, Stage::StoppingApiServer)),
        ("rolling-restart", replacing(duplicates, Method::RenameAndRestartKubelet, restarting)),
        ("rolling-two-steps", replacing(from_3(agents), Method::RemoveThenAdd, Stage::AwaitingGone)),
        ("rolling-settling", replacing(from_3(agents), Method::RemoveThenAdd, Stage::Settling)),
        ("steady", ComponentState::Steady { good: 1 }),
        ("unread", ComponentState::Unread { candidate: 4, good: 1, age: seconds(8) }),
    ];
    let record = |slot| Record {
        role: Role::ApiServer,
        deployed: Some(Deployed { digest: Digest::of(b"stands"), changed: since }),
        generations: if matches!(slot, ComponentState::Steady { .. }) { generations.clone() } else { BTreeMap::new() },
        state: slot,
        next_number: 5,
        last_served: Some(1),
        actions: VecDeque::from([seconds(600), seconds(60)]),
        notices: BTreeMap::from([(Notice::Image, "the image of generation 1 is not on this node".into())]),
        verdict: Some((Verdict::Healthy, since)),
        data_dir: Some((
            PathBuf::from("/var/lib/etcd"),
            DataDir {
                member: Some((2049, 131_074)),
                changed: Some(since),
                lock: LockState::Held,
                ..DataDir::default()
            },
        )),
        restart: Some(Restart { container: "77e1b0".into(), age: seconds(3) }),
        pinned: None,
        unstarted: None,
        assists: Assists::default(),
        pod_deployed: None,
        absent_paths: None,
    };
    Memory {
        machine: machine(),
        components: slots.into_iter().map(|(name, slot)| (ComponentId::system(name), record(slot))).collect(),
        pause: Some(Pause { until: since, reason: "moving racks".into(), warned: false }),
        wrong_data: None,
        cluster: None,
        rebuilt: None,
        stopped_apiserver: Some(ApiServerStopped {
            component: ComponentId::system("kube-apiserver"),
            generation: 1,
            for_component: ComponentId::system("etcd"),
            age: seconds(9),
        }),
        kubelet_restarts: VecDeque::from([seconds(1200)]),
        runtime_restarts: VecDeque::from([seconds(30)]),
        api_served: Some(ApiServed { boot_id: "6a1d".into(), at: seconds(3600) }),
        notices: BTreeMap::from([(NodeNotice::Directory, "two files hold one pod".into())]),
        incarnations: BTreeMap::new(),
        went_back: None,
        change_set: None,
    }
}

/// The same memory with a pinned generation.
pub(super) fn pinned_memory() -> Memory {
    let mut memory = full_memory();
    let pin = Pin { generation: 1, reason: "audited".into(), since: time("2026-11-22T18:40:00Z") };
    if let Some(record) = memory.components.get_mut(&ComponentId::system("steady")) {
        record.pinned = Some(pin);
    }
    memory
}

/// A small memory with components that changed together.
pub(super) fn changed_memory() -> Memory {
    let (api, manager) = (ComponentId::system("kube-apiserver"), ComponentId::system("kube-controller-manager"));
    let set = ChangeSet {
        age: Duration::from_secs(90),
        members: BTreeMap::from([(api.clone(), 2), (manager, 3)]),
        undone: BTreeSet::from([api]),
    };
    Memory { machine: machine(), change_set: Some(set), ..Memory::default() }
}

pub(super) fn guard() -> (tempfile::TempDir, Guard) {
    let dir = tempfile::tempdir().unwrap();
    let guard = Store::at(&dir.path().join("state")).unwrap().lock().unwrap();
    (dir, guard)
}

/// A memory whose one component has these generations on disk: (number, standing).
pub(super) fn kept(guard: &Guard, name: &str, generations: &[(u32, Trust)]) -> Memory {
    let id = ComponentId::system(name);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: kube-system}}\n\
         spec: {{containers: [{{name: c, image: c, command: [{name}]}}]}}\n"
    );
    let manifest = Manifest::parse(text.into_bytes().into()).unwrap();
    let mut records = BTreeMap::new();
    for (number, standing) in generations {
        let generation = Generation { closure: Vec::new(), ..generation(*number, standing.clone()) };
        let file = ManifestFile {
            name: generation.file_name.clone(),
            content: Ok(manifest.clone()),
            closure: Vec::new(),
            digest: generation.digest,
            changed: Timestamp::UNIX_EPOCH,
            uid: 0,
            settled: Settled::Yes,
        };
        let what = Capturing {
            component: &id,
            generation: &generation,
            file: &file,
            attributes: Attributes::private(),
            machine: &machine(),
        };
        assert_eq!(guard.capture(&what).unwrap(), Captured::Now);
        assert_eq!(guard.capture(&what).unwrap(), Captured::Already);
        records.insert(*number, generation);
    }
    let next_number = records.keys().max().map_or(1, |n| n + 1);
    let record = Record {
        role: Role::Etcd,
        state: ComponentState::Steady { good: 1 },
        deployed: None,
        generations: records,
        next_number,
        last_served: Some(1),
        actions: VecDeque::new(),
        notices: BTreeMap::new(),
        verdict: None,
        data_dir: None,
        restart: None,
        pinned: None,
        unstarted: None,
        assists: Assists::default(),
        pod_deployed: None,
        absent_paths: None,
    };
    Memory { machine: machine(), components: BTreeMap::from([(id, record)]), ..Memory::default() }
}

pub(super) fn good() -> Trust {
    let proof = Proof::Soak { seconds: 60, evidence: "healthy".into() };
    Trust::KnownGood { proof, since: Timestamp::UNIX_EPOCH }
}

fn aside(guard: &Guard) -> Vec<String> {
    files::names(&guard.path().join("aside")).unwrap()
}

#[test]
fn the_golden_memory_has_every_state() {
    let words: BTreeSet<_> = full_memory().components.values().map(|record| record.state.word()).collect();
    let all = ["Adopting", "Held", "Missing", "Probation", "RollingBack", "Steady", "Unread"];
    assert_eq!(words, BTreeSet::from(all));
}

#[test]
fn a_first_start_has_an_empty_memory_of_this_machine_and_nothing_to_tell() {
    let (_dir, guard) = guard();
    let (memory, findings) = guard.load_memory(&machine());
    assert_eq!(memory, Memory { machine: machine(), ..Memory::default() });
    assert_eq!(findings, []);
}

#[test]
fn a_memory_is_saved_once_and_comes_back() {
    let (_dir, guard) = guard();
    let memory = kept(&guard, "etcd", &[(1, good())]);
    assert_eq!(guard.save_memory(&memory).unwrap(), Written::Changed);
    assert_eq!(guard.save_memory(&memory).unwrap(), Written::AlreadySo);
    assert_eq!(guard.load_memory(&machine()), (memory, vec![]));
}

pub(super) fn served(at: Timestamp) -> Incarnation {
    Incarnation {
        cluster: u64::MAX,
        member: 2,
        revision: 40_000,
        term: 7,
        at,
        version: "3.5.16".into(),
        raft_index: 90_000,
        store: Some(StoreIdentity {
            prefix: "/registry".into(),
            namespace: KubeSystem::Present { uid: Some("u".into()), created: 7 },
        }),
        members: 3,
        away_since: Some(at),
        doubted: Some(Duration::from_secs(9)),
    }
}

#[test]
fn the_worlds_of_etcd_and_what_is_left_to_start_anew_come_back() {
    let (_dir, guard) = guard();
    let (etcd, at) = (ComponentId::system("etcd"), Timestamp::UNIX_EPOCH);
    let mut memory = kept(&guard, "etcd", &[(1, good())]);
    let world = served(at);
    memory.incarnations.insert(etcd.clone(), world);
    memory.wrong_data = Some(WrongData {
        etcd: etcd.clone(),
        kind: WrongDataKind::Empty,
        since: at,
        serves: served(at),
        api: ApiStop::Stopped { component: etcd.clone(), generation: 1, out: true, since: at },
    });
    memory.cluster = Some(ClusterFiles { ca: Some(Digest::of(b"ca")), kubelet: None });
    memory.rebuilt = Some("`kubeadm reset` ran".into());
    memory.went_back = Some(WentBack {
        etcd,
        since: at,
        what: "it went back".into(),
        left: vec![ComponentId::system("kube-scheduler")],
        stopping: Some("c1".into()),
    });
    guard.save_memory(&memory).unwrap();
    assert_eq!(guard.load_memory(&machine()), (memory, vec![]));
}

#[test]
fn a_reader_without_the_lock_moves_nothing() {
    let (_dir, guard) = guard();
    fs::write(guard.path().join("memory.json"), "{").unwrap();
    let (_, findings) = Store::load_memory(&guard, &machine());
    assert!(findings[0].sentence.contains("the lock is not held"), "{findings:?}");
    assert!(guard.path().join("memory.json").exists());
}

#[test]
fn one_damaged_copy_costs_one_save() {
    let (_dir, guard) = guard();
    let older = kept(&guard, "etcd", &[(1, good())]);
    guard.save_memory(&older).unwrap();
    let mut newer = older.clone();
    newer.notices.insert(NodeNotice::Clock, "b".into());
    guard.save_memory(&newer).unwrap();
    fs::write(guard.path().join("memory.json"), "").unwrap();
    let (memory, findings) = guard.load_memory(&machine());
    assert_eq!(memory, older);
    assert!(findings[0].sentence.contains("is damaged: it is empty; it is kept as"), "{findings:?}");
    assert_eq!(aside(&guard).len(), 1);
    guard.save_memory(&newer).unwrap();
    assert_eq!(guard.load_memory(&machine()), (newer, vec![]));
}

#[test]
fn a_lost_memory_is_rebuilt_from_the_generations_with_their_proofs() {
    let (_dir, guard) = guard();
    let quarantined = Trust::Quarantined { why: "crashed".into(), since: Timestamp::UNIX_EPOCH };
    let known = kept(&guard, "etcd", &[(1, good()), (2, good()), (3, quarantined), (4, Trust::Candidate)]);
    guard.save_memory(&known).unwrap();
    guard.save_memory(&Memory { notices: BTreeMap::from([(NodeNotice::Clock, "b".into())]), ..known.clone() }).unwrap();
    for name in ["memory.json", "memory.json.old"] {
        fs::write(guard.path().join(name), vec![0; 512]).unwrap();
    }
    let (memory, findings) = guard.load_memory(&machine());
    let record = &memory.components[&ComponentId::system("etcd")];
    assert_eq!(record.state, ComponentState::Steady { good: 2 });
    assert_eq!(record.role, Role::Etcd);
    assert_eq!(record.generations, known.components[&ComponentId::system("etcd")].generations);
    assert_eq!(record.next_number, 5);
    assert!(
        findings.iter().any(|f| f.sentence.contains("rebuilt from the generations of 1 components")),
        "{findings:?}"
    );
    assert_eq!(aside(&guard).len(), 2);
}

#[test]
fn what_is_held_of_a_generation_is_kept_beside_it_as_it_changes() {
    let (_dir, guard) = guard();
    let mut memory = kept(&guard, "etcd", &[(1, Trust::Candidate)]);
    guard.describe_all(&memory).unwrap();
    let id = ComponentId::system("etcd");
    memory.components.get_mut(&id).unwrap().generations.get_mut(&1).unwrap().trust = good();
    guard.describe_all(&memory).unwrap();
    let rebuilt = guard.load_memory(&machine()).0;
    assert_eq!(rebuilt.components[&id].state, ComponentState::Steady { good: 1 });
    let missing = generation(7, good());
    assert_eq!(guard.describe(&machine(), &id, &missing).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_component_without_anything_proven_is_adopted_anew() {
    let (_dir, guard) = guard();
    kept(&guard, "etcd", &[(3, Trust::Candidate)]);
    let (memory, _) = guard.load_memory(&machine());
    let record = &memory.components[&ComponentId::system("etcd")];
    assert_eq!(record.state, ComponentState::Adopting { candidate: 3, healthy: Duration::ZERO });
}

#[test]
fn q7_the_state_of_another_machine_is_set_aside_unused() {
    let (_dir, guard) = guard();
    let copied = Machine { machine_id: "another".into(), ..machine() };
    guard.save_memory(&kept(&guard, "etcd", &[(1, good())])).unwrap();
    let (memory, findings) = guard.load_memory(&copied);
    assert_eq!(memory, Memory { machine: copied.clone(), ..Memory::default() });
    assert!(findings[0].sentence.contains("another machine (master-1"), "{findings:?}");
    assert_eq!(aside(&guard).len(), 2, "the memory and the generation");
    assert_eq!(guard.load_memory(&copied).1, [], "told once");
}

#[test]
fn q7_another_host_name_is_no_other_machine() {
    let (_dir, guard) = guard();
    let renamed = Machine { node_name: "another".into(), ..machine() };
    let before = kept(&guard, "etcd", &[(1, good())]);
    guard.save_memory(&before).unwrap();
    assert_eq!(guard.load_memory(&renamed), (Memory { machine: renamed, ..before }, vec![]));
    assert_eq!(aside(&guard).len(), 0);
    // Without IDs the name decides.
    let nameless = |name: &str| Machine { machine_id: String::new(), node_name: name.to_owned() };
    assert!(nameless("a").is(&nameless("a")) && !nameless("a").is(&nameless("b")));
}

#[test]
fn whatever_stands_in_the_place_of_the_memory_the_agent_starts() {
    type Make = fn(&Path);
    let rows: [(&str, Make); 4] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a fifo", |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("a link into nowhere", |path| std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap()),
        ("noise", |path| fs::write(path, (0..=255).cycle().take(5000).collect::<Vec<u8>>()).unwrap()),
    ];
    for (what, make) in rows {
        let (_dir, guard) = guard();
        make(&guard.path().join("memory.json"));
        let (memory, _) = guard.load_memory(&machine());
        assert_eq!(memory.components, BTreeMap::new(), "{what}");
        assert_eq!(guard.save_memory(&full_memory()).unwrap(), Written::Changed, "{what}");
        assert_eq!(memory_file::decode(&fs::read(guard.path().join("memory.json")).unwrap()).unwrap(), full_memory());
    }
}

#[test]
fn a_generation_whose_bytes_are_damaged_is_not_used_and_its_number_not_used_again() {
    let (_dir, guard) = guard();
    let memory = kept(&guard, "etcd", &[(1, good()), (2, good())]);
    guard.save_memory(&memory).unwrap();
    let id = ComponentId::system("etcd");
    fs::write(guard.generation_dir(&id, 2).join("manifest"), "half").unwrap();
    let (loaded, findings) = guard.load_memory(&machine());
    let record = &loaded.components[&id];
    assert_eq!(record.generations[&1].stored, Stored::Yes);
    assert_eq!(record.generations[&2].stored, Stored::Pending, "it cannot be put back");
    assert_eq!(record.next_number, 3);
    assert!(findings.iter().any(|f| f.sentence.contains("2/manifest is damaged")), "{findings:?}");
    assert!(findings.iter().any(|f| f.sentence.contains("its bytes are lost")), "{findings:?}");
    assert_eq!(guard.numbers(&id), [1]);
    let error = guard.manifest(&id, 2).unwrap_err().to_string();
    assert!(error.contains("generations/kube-system_etcd/2/contents.json"), "{error}");
}

#[test]
fn a_generation_is_whole_or_it_is_said_what_is_missing() {
    let (_dir, guard) = guard();
    let id = ComponentId::system("etcd");
    let memory = kept(&guard, "etcd", &[(1, good())]);
    let mut known = memory.components[&id].generations[&1].clone();
    known.raw_digest = guard.manifest_digest(&id, 1).unwrap();
    guard.whole(&id, &known).unwrap();
    let other = Generation { raw_digest: Digest::of(b"other"), ..known.clone() };
    assert!(guard.whole(&id, &other).unwrap_err().to_string().contains("differs from the memory"));
    let more = Generation { closure: generation(1, good()).closure, ..known.clone() };
    let missing = guard.whole(&id, &more).unwrap_err().to_string();
    assert!(missing.contains("does not contain /etc/kubernetes/audit.yaml"), "{missing}");
    fs::write(guard.generation_dir(&id, 1).join("manifest"), "half").unwrap();
    assert!(guard.whole(&id, &known).unwrap_err().to_string().contains("manifest is damaged"));
    assert!(guard.whole(&id, &Generation { number: 7, ..known }).is_err(), "there is none");
}

#[test]
fn a_component_that_the_memory_has_given_up_is_not_brought_back_by_its_bytes() {
    let (_dir, guard) = guard();
    let mut memory = kept(&guard, "etcd", &[(1, good())]);
    memory.components.clear();
    guard.save_memory(&memory).unwrap();
    assert_eq!(guard.load_memory(&machine()), (memory, vec![]));
}

#[test]
fn a_number_in_use_by_something_else_is_set_aside_and_not_overwritten() {
    let (_dir, guard) = guard();
    let id = ComponentId::system("etcd");
    let squatter = guard.generation_dir(&id, 1);
    fs::create_dir_all(&squatter).unwrap();
    fs::write(squatter.join("mine"), "x").unwrap();
    kept(&guard, "etcd", &[(1, good())]);
    assert!(guard.manifest(&id, 1).is_ok());
    assert_eq!(aside(&guard).len(), 1);
}

fn encoded() -> Vec<u8> {
    memory_file::encode(&full_memory()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A hostile memory file is the memory that was saved, the one before it, or what the generations tell; never half
    /// of anything, and never a panic.
    #[test]
    fn a_hostile_memory_is_never_half_read(
        cut in 0..encoded().len(),
        flips in prop::collection::vec((0..encoded().len(), 0_u8..8), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = encoded();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        let mut torn = bytes[..cut].to_vec();
        torn.extend(&tail);
        for hostile in [bytes, torn] {
            match memory_file::decode(&hostile) {
                Ok(memory) => prop_assert_eq!(memory, full_memory()),
                Err(fault) => prop_assert!(!fault.to_string().is_empty()),
            }
        }
    }

    /// The same for a history: what is read was written.
    #[test]
    fn a_hostile_history_shows_only_what_was_told(
        flips in prop::collection::vec((0_usize..2000, 0_u8..8), 1..6),
        cut in 0_usize..2000,
    ) {
        let (_dir, guard) = guard();
        let event = |n: u32| crate::model::Event {
            at: Timestamp::UNIX_EPOCH,
            kind: crate::model::event::EventKind::Notice,
            component: None,
            generation: Some(n),
            from: None,
            to: format!("event {n}"),
            because: String::new(),
        };
        let told: Vec<_> = (0..12).map(event).collect();
        guard.append(&told).unwrap();
        let path = guard.path().join("history.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        bytes.truncate(cut.max(1));
        fs::write(&path, bytes).unwrap();
        let history = guard.history(None, 100);
        prop_assert!(history.events.iter().all(|event| told.contains(event)));
        guard.append([&event(99)]).unwrap();
        prop_assert_eq!(guard.history(None, 1).events, vec![event(99)]);
    }
}
