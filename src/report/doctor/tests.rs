//! A node in perfect state, and the result of each deviation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Doctor, Examined, Mark};
use crate::config::OldName;
use crate::model::closure::{FileKind, KubeconfigHealth};
use crate::model::format::NewerFile;
use crate::model::generation::Stored;
use crate::model::memory::{Pause, Pin, Record};
use crate::model::observation::{
    BusyKind, BusyProcess, Directory, HeardApi, ImagePresence, Kubelet, KubeletProcess, ManifestFile, Node, Settled,
};
use crate::model::policy::Mode;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::slot::{Held, Until};
use crate::model::surroundings::{Certificate, User};
use crate::model::{
    ClosureFile, ComponentId, Digest, FileState, Generation, Manifest, Memory, Moment, Observation, Policy, Proof,
    Reading, Role, Slot, Standing,
};
use crate::observe::{Distribution, Found, Place, Places, Source, Surroundings};
use crate::report::{Format, Process};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: kube-scheduler, namespace: kube-system}, \
                   spec: {containers: [{name: s, image: 'scheduler:v1', command: [kube-scheduler]}]}}";
const AUDIT: &str = "/etc/kubernetes/audit.yaml";
const CONFIG: &str = "/etc/kubernetes/scheduler.conf";

fn now() -> Timestamp {
    "2026-11-22T20:10:00Z".parse().unwrap()
}

fn id() -> ComponentId {
    ComponentId::system("kube-scheduler")
}

fn file(text: &str) -> Arc<ManifestFile> {
    let content = Manifest::parse(text.as_bytes().into());
    Arc::new(ManifestFile {
        name: "kube-scheduler.yaml".to_owned(),
        digest: Digest::of(text.as_bytes()),
        content,
        closure: Vec::new(),
        changed: now(),
        uid: 0,
        settled: Settled::Yes,
    })
}

fn present(kind: FileKind, of: &str) -> FileState {
    FileState::Present { kind, digest: Digest::of(of.as_bytes()), mode: 0o600, uid: 0, gid: 0 }
}

fn kubeconfig(credentials: &str, not_after: i64) -> FileState {
    let works = KubeconfigHealth::Works { not_after: Some(not_after) };
    present(FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) }, credentials)
}

fn place(path: &str) -> Place {
    Place { path: path.into(), writable: Ok(()), bytes: Some(900 << 20), inodes: Some(10_000) }
}

struct Scene {
    seen: Observation,
    memory: Memory,
    policy: Policy,
    old_names: Vec<OldName>,
    found: Surroundings,
    places: Places,
    store: BTreeMap<(ComponentId, u32), Result<(), String>>,
    snapshots: Option<crate::model::Snapshots>,
    unfinished: Vec<PathBuf>,
    agent: Result<Process, String>,
    now: Timestamp,
}

impl Scene {
    fn new() -> Self {
        let later = now().as_second() + 3600;
        let closure = [(AUDIT, present(FileKind::Config, "audit")), (CONFIG, kubeconfig("mine", later))];
        let proof = Proof::Soak { seconds: 60, evidence: "healthz answered".to_owned() };
        let generation = Generation {
            number: 1,
            digest: Digest::of(POD.as_bytes()),
            pod_digest: Digest::of(POD.as_bytes()),
            raw_digest: Digest::of(POD.as_bytes()),
            startup_budget: Duration::ZERO,
            termination_grace: Duration::ZERO,
            file_name: "kube-scheduler.yaml".to_owned(),
            closure: closure
                .iter()
                .map(|(path, state)| ClosureFile { path: path.into(), state: state.clone() })
                .collect(),
            images: BTreeSet::from(["scheduler:v1".to_owned()]),
            ports: BTreeSet::new(),
            data: None,
            minor: None,
            first_seen: "2026-11-22T19:00:00Z".parse().unwrap(),
            served: None,
            rewritten: 0,
            standing: Standing::KnownGood { proof, since: "2026-11-22T19:01:00Z".parse().unwrap() },
            stored: Stored::Yes,
        };
        let record = Record {
            generations: BTreeMap::from([(1, generation)]),
            next_number: 2,
            last_served: Some(1),
            ..Record::new(Role::Scheduler, Slot::Steady { good: 1 })
        };
        let mut memory = Memory { components: BTreeMap::from([(id(), record)]), ..Memory::default() };
        memory.machine.node_name = "master-1".to_owned();
        let files = BTreeMap::from([("kube-scheduler.yaml".to_owned(), file(POD))]);
        let seen = Observation {
            at: Moment { wall: now(), boot: Duration::from_secs(5000) },
            manifests: Directory::Present { files: files.clone(), gone: BTreeMap::new() },
            inactive: files,
            files: closure.into_iter().map(|(path, state)| (PathBuf::from(path), state)).collect(),
            keys_changed: BTreeMap::new(),
            runtime: Ok(Vec::new()),
            runtime_work: None,
            probes: BTreeMap::new(),
            leases: BTreeMap::new(),
            etcd: BTreeMap::new(),
            growth: BTreeMap::new(),
            notices: Vec::new(),
            images: BTreeMap::from([("scheduler:v1".to_owned(), ImagePresence::Present { id: "x".to_owned() })]),
            kubelet: Kubelet {
                process: Some(KubeletProcess {
                    pid: 7,
                    started: Duration::from_secs(100),
                    changed_since: None,
                    heard_api: HeardApi::Yes,
                    state: crate::model::observation::ProcessState::Runs,
                }),
                healthz: Reading::Good,
                answered: Duration::ZERO,
                waiting: BTreeMap::new(),
            },
            node: Node { certificates: vec![certificate(365)], ..Node::default() },
        };
        let known = |path: &str| Found { value: PathBuf::from(path), from: Source::WellKnown };
        Self {
            seen,
            memory,
            policy: Policy::default(),
            old_names: Vec::new(),
            found: Surroundings {
                manifests: known("/etc/kubernetes/manifests"),
                runtime: None,
                node_name: Found { value: "master-1".to_owned(), from: Source::HostName },
                kubelet_config: known("/var/lib/kubelet/config.yaml"),
                kubelet_healthz: None,
                kubelet_address: String::new(),
                distribution: Distribution::Kubeadm,
                kubelet_files: Vec::new(),
                watching: Ok(()),
            },
            places: Places {
                manifests: place("/etc/kubernetes/manifests"),
                staging: place("/etc/kubernetes/.lastgood"),
                inactive: place("/etc/kubernetes/inactive-manifests"),
                state: place("/var/lib/lastgood"),
                renames: Ok(()),
                restart: Ok("/usr/bin/systemctl".into()),
            },
            store: BTreeMap::from([((id(), 1), Ok(()))]),
            snapshots: None,
            unfinished: Vec::new(),
            agent: Ok(Process::Running { pid: 812, since: now() }),
            now: now(),
        }
    }

    fn record(&mut self) -> &mut Record {
        self.memory.components.get_mut(&id()).unwrap()
    }

    fn stands(&mut self, path: &str, state: FileState) {
        self.seen.files.insert(path.into(), state);
    }

    fn examine(&self) -> Doctor {
        Doctor::new(Examined {
            now: self.now,
            seen: &self.seen,
            memory: &self.memory,
            policy: &self.policy,
            old_names: &self.old_names,
            found: &self.found,
            places: &self.places,
            store: &self.store,
            snapshots: self.snapshots.as_ref(),
            unfinished: &self.unfinished,
            agent: &self.agent,
        })
    }
}

#[test]
fn a_node_on_which_a_recovery_would_succeed() {
    let doctor = Scene::new().examine();
    assert!(doctor.is_well());
    assert_eq!(
        doctor.text(),
        "\
VERDICT  CHECK                               FOUND
ok       agent                               it runs (pid 812)
ok       acting                              nothing keeps lastgood from acting
ok       master                              the signs of a master are present
ok       state directory                     /var/lib/lastgood is writable and has 900 MiB left
ok       staging                             /etc/kubernetes/.lastgood is writable and has 900 MiB left
ok       manifest directory                  /etc/kubernetes/manifests is writable and has 900 MiB left
ok       manifests                           1 files are in /etc/kubernetes/manifests
ok       rename                              staging and manifests are on one mount
ok       clock                               2026-11-22T20:10:00Z
ok       container runtime                   it answers and runs 0 static pods
ok       kubelet                             it runs (pid 7)
ok       kubelet health                      /healthz is ok
ok       kubelet unchanged                   its binary and configuration are those it started with
ok       kubelet restart                     /usr/bin/systemctl exists
ok       kubelet restarts left               2 of 2 this hour
ok       kube-scheduler: known-good          generation 1, proven 2026-11-22T19:01:00Z by 60 s of health
ok       kube-scheduler: kept                generation 1 is stored without damage
ok       kube-scheduler: inactive-manifests  kube-scheduler.yaml is generation 1, byte for byte
ok       kube-scheduler: images              scheduler:v1
ok       kube-scheduler: files               its 2 files are present or can be restored
ok       kube-scheduler: actions left        4 of 4 this hour
ok       certificates                        1 are valid, and none ends within 30 days

master-1: a recovery would succeed right now
"
    );
}

/// A certificate that ends in so many days.
fn certificate(days: i64) -> Certificate {
    Certificate {
        path: "/etc/kubernetes/pki/apiserver.crt".into(),
        named: ["/etc/kubernetes/pki/apiserver.crt".into()].into(),
        users: [User::Kubelet].into(),
        subject: "kube-apiserver".into(),
        issuer: "kubernetes".into(),
        not_before: now().as_second() - 366 * 86400,
        not_after: now().as_second() + days * 86400,
        authority: false,
        fingerprint: Digest::of(b"c"),
    }
}

/// A situation, what makes it, the check that says so, how it comes out, and a word of what is found or mends it.
type Row = (&'static str, fn(&mut Scene), &'static str, Mark, &'static str);

const NODE: &[Row] = &[
    ("the agent is stopped", |s| s.agent = Ok(Process::Stopped), "agent", Mark::Warning, "systemctl start lastgood"),
    ("the agent does not answer", |s| s.agent = Err("silent".into()), "agent", Mark::Failed, "silent"),
    (
        "a key with an old name",
        |s| {
            let file = PathBuf::from("/etc/lastgood/config.toml");
            s.old_names.push(OldName { file, line: 3, old: "candidate.quiet", new: "candidate.debounce" });
        },
        "configuration",
        Mark::Warning,
        "lastgood config migrate /etc/lastgood/config.toml",
    ),
    ("observe mode", |s| s.policy.mode = Mode::Observe, "acting", Mark::Warning, "mode = \"act\""),
    (
        "paused",
        |s| {
            let until = now() + Duration::from_secs(60);
            s.memory.pause = Some(Pause { until, reason: String::new(), warned: false });
        },
        "acting",
        Mark::Warning,
        "lastgood resume",
    ),
    (
        "kubeadm at work",
        |s| s.seen.node.busy.push(BusyProcess { pid: 9, command: "kubeadm upgrade".into(), kind: BusyKind::Kubeadm }),
        "acting",
        Mark::Warning,
        "pid 9",
    ),
    ("no certificate", |s| s.seen.node.certificates.clear(), "certificates", Mark::CannotTell, "certs check"),
    (
        "a certificate that ends soon",
        |s| s.seen.node.certificates = vec![certificate(365), certificate(5)],
        "certificates",
        Mark::Warning,
        "ends within 7 days",
    ),
    (
        "a certificate that has ended",
        |s| s.seen.node.certificates = vec![certificate(-1)],
        "certificates",
        Mark::Failed,
        "kubeadm certs renew",
    ),
    (
        "files of a newer lastgood",
        |s| {
            let path = "/var/lib/lastgood/memory.json".into();
            s.seen.node.newer_state = vec![NewerFile { path, version: 9, known: 2 }];
        },
        "acting",
        Mark::Failed,
        "/var/lib/lastgood/memory.json has format 9",
    ),
    ("a read-only /etc", |s| s.seen.node.read_only = Some("/etc is".into()), "acting", Mark::Failed, "writable"),
    (
        "no longer a master",
        |s| s.seen.node.master.missing.push("/etc/kubernetes/kubelet.conf".into()),
        "master",
        Mark::Warning,
        "bring /etc/kubernetes/kubelet.conf back",
    ),
    (
        "a full state disk",
        |s| s.places.state.bytes = Some(100 << 10),
        "state directory",
        Mark::Failed,
        "100 KiB are left",
    ),
    ("no inodes", |s| s.places.staging.inodes = Some(3), "staging", Mark::Failed, "3 inodes are left"),
    ("inodes as needed", |s| s.places.staging.inodes = None, "staging", Mark::Ok, "900 MiB"),
    ("a disk that cannot be asked", |s| s.places.staging.bytes = None, "staging", Mark::CannotTell, "df /etc"),
    (
        "a manifest directory that cannot be written",
        |s| s.places.manifests.writable = Err("no".into()),
        "manifest directory",
        Mark::Failed,
        "a writable directory",
    ),
    (
        "no manifest directory",
        |s| s.seen.manifests = Directory::Missing { gone: BTreeMap::new() },
        "manifests",
        Mark::Failed,
        "does not exist",
    ),
    (
        "an unreadable manifest directory",
        |s| s.seen.manifests = Directory::Unreadable("EIO".into()),
        "manifests",
        Mark::Failed,
        "EIO",
    ),
    ("staging elsewhere", |s| s.places.renames = Err("not there".into()), "rename", Mark::Failed, "paths.staging"),
    ("a clock set back", |s| s.now = "2026-11-22T18:00:00Z".parse().unwrap(), "clock", Mark::Warning, "timedatectl"),
    (
        "a silent runtime",
        |s| s.seen.runtime = Err(Symptom::new(SymptomKind::Refused, "refused")),
        "container runtime",
        Mark::Failed,
        "refused",
    ),
    ("no kubelet", |s| s.seen.kubelet.process = None, "kubelet", Mark::Failed, "systemctl start kubelet"),
    (
        "an unwell kubelet",
        |s| s.seen.kubelet.healthz = Reading::Bad(Symptom::new(SymptomKind::Unhealthy, "500")),
        "kubelet health",
        Mark::Failed,
        "500",
    ),
    (
        "a kubelet that is slow to answer",
        |s| s.seen.kubelet.healthz = Reading::CannotTell(Symptom::new(SymptomKind::TimedOut, "no answer")),
        "kubelet health",
        Mark::CannotTell,
        "no answer",
    ),
    (
        "a kubelet without a health port",
        |s| s.seen.kubelet.healthz = Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, "switched off")),
        "kubelet health",
        Mark::Warning,
        "healthzPort",
    ),
    (
        "a kubelet that was replaced under itself",
        |s| s.seen.kubelet.process.as_mut().unwrap().changed_since = Some("/usr/bin/kubelet".into()),
        "kubelet unchanged",
        Mark::Warning,
        "/usr/bin/kubelet changed",
    ),
    ("no restart command", |s| s.places.restart = Err("x".into()), "kubelet restart", Mark::Failed, "kubelet.restart"),
    (
        "the kubelet's restarts are spent",
        |s| s.memory.kubelet_restarts = VecDeque::from([Duration::ZERO; 2]),
        "kubelet restarts left",
        Mark::Warning,
        "all 2",
    ),
];

const COMPONENT: &[Row] = &[
    ("nothing is known", |s| s.memory.components.clear(), "components", Mark::Failed, "systemctl start lastgood"),
    (
        "nothing is known-good",
        |s| {
            s.record().slot = Slot::Adopting { candidate: 1, healthy: Duration::ZERO };
            s.record().generations.get_mut(&1).unwrap().standing = Standing::Candidate;
        },
        "kube-scheduler: known-good",
        Mark::Failed,
        "lastgood checkpoint kube-scheduler",
    ),
    (
        "a pinned generation",
        |s| s.record().pinned = Some(Pin { generation: 1, reason: String::new(), since: now() }),
        "kube-scheduler: known-good",
        Mark::Ok,
        "generation 1, pinned, proven",
    ),
    (
        "held",
        |s| {
            let next_step = "look at it".to_owned();
            s.record().slot =
                Slot::Held(Held { over: None, good: Some(1), why: "spent".into(), next_step, until: Until::Person });
        },
        "kube-scheduler: held",
        Mark::Failed,
        "look at it",
    ),
    (
        "damaged bytes",
        |s| drop(s.store.insert((id(), 1), Err("manifest is damaged".into()))),
        "kube-scheduler: kept",
        Mark::Failed,
        "manifest is damaged",
    ),
    ("bytes nobody read", |s| s.store.clear(), "kube-scheduler: kept", Mark::CannotTell, "was not read"),
    (
        "nothing in inactive-manifests",
        |s| s.seen.inactive.clear(),
        "kube-scheduler: inactive-manifests",
        Mark::Warning,
        "/etc/kubernetes/inactive-manifests/kube-scheduler.yaml does not exist",
    ),
    (
        "an edited inactive manifest",
        |s| drop(s.seen.inactive.insert("kube-scheduler.yaml".into(), file(&POD.replace("v1'", "v2'")))),
        "kube-scheduler: inactive-manifests",
        Mark::Warning,
        "is not generation 1",
    ),
    (
        "an image that is gone",
        |s| drop(s.seen.images.insert("scheduler:v1".into(), ImagePresence::Absent)),
        "kube-scheduler: images",
        Mark::Failed,
        "crictl pull scheduler:v1",
    ),
    (
        "an image that could not be asked for",
        |s| s.seen.images.clear(),
        "kube-scheduler: images",
        Mark::CannotTell,
        "it is unknown whether",
    ),
    (
        "a changed file that can be put back",
        |s| s.stands(AUDIT, present(FileKind::Config, "another")),
        "kube-scheduler: files",
        Mark::Ok,
        "can be restored",
    ),
    (
        "a key in the place of a file",
        |s| s.stands(AUDIT, present(FileKind::KeyMaterial, "key")),
        "kube-scheduler: files",
        Mark::Failed,
        "audit.yaml differs from generation 1",
    ),
    (
        "another kubeconfig that works",
        |s| s.stands(CONFIG, kubeconfig("theirs", now().as_second() + 60)),
        "kube-scheduler: files",
        Mark::Failed,
        "other credentials",
    ),
    (
        "a kept kubeconfig that has ended",
        |s| s.now = now() + Duration::from_secs(7200),
        "kube-scheduler: files",
        Mark::Warning,
        "keep a copy of /etc/kubernetes/scheduler.conf",
    ),
    (
        "a spent budget",
        |s| s.record().actions = VecDeque::from([Duration::ZERO; 4]),
        "kube-scheduler: actions left",
        Mark::Failed,
        "would be held",
    ),
];

#[test]
fn each_thing_that_is_not_as_it_should_be_is_found_and_said_how_to_mend() {
    for (situation, change, subject, mark, words) in NODE.iter().chain(COMPONENT) {
        let mut scene = Scene::new();
        change(&mut scene);
        let doctor = scene.examine();
        let check = doctor.checks.iter().find(|check| check.subject == *subject);
        let check = check.unwrap_or_else(|| panic!("{situation}: {:?}", doctor.checks));
        assert_eq!(check.verdict, *mark, "{situation}: {check:?}");
        assert_eq!(check.fix.is_some(), *mark != Mark::Ok, "{situation}: {check:?}");
        let told = format!("{} {}", check.detail, check.fix.as_deref().unwrap_or_default());
        assert!(told.contains(words), "{situation}: {told}");
        assert_eq!(doctor.verdict, *mark, "{situation}: nothing else is wrong: {}", doctor.text());
        assert_eq!(doctor.is_well(), *mark <= Mark::Warning, "{situation}");
    }
}

#[test]
fn the_worst_comes_first_and_the_verdict_last() {
    let mut scene = Scene::new();
    scene.agent = Ok(Process::Stopped);
    scene.seen.images.clear();
    let told = scene.examine();
    assert_eq!(told.sentence, "it is unknown whether a recovery would succeed: kube-scheduler: images");
    scene.places.renames = Err("staging is elsewhere".to_owned());
    let doctor = scene.examine();
    let marks: Vec<Mark> = doctor.checks.iter().map(|check| check.verdict).take(4).collect();
    assert_eq!(marks, [Mark::Failed, Mark::CannotTell, Mark::Warning, Mark::Ok]);
    let text = doctor.text();
    assert!(text.ends_with("\nmaster-1: a recovery would not succeed right now: rename\n"), "{text}");
    assert!(text.contains("\nNext steps:\n  rename: set paths.staging"), "{text}");
    scene = Scene::new();
    scene.agent = Ok(Process::Stopped);
    assert_eq!(scene.examine().sentence, "a recovery would succeed right now; there is 1 warning");
}

#[test]
fn machines_get_the_same_value_and_it_comes_back() {
    let doctor = Scene::new().examine();
    let json = Format::Json.print(&doctor, Doctor::text).unwrap();
    assert_eq!(serde_json::from_str::<Doctor>(&json).unwrap(), doctor);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["verdict"], &value["checks"][0]["subject"]), (&"ok".into(), &"agent".into()));
    assert!(value["checks"][0].get("fix").is_none());
}

#[test]
fn a_restore_that_was_broken_off_is_told_and_one_that_is_under_way_is_not() {
    let mut scene = Scene::new();
    scene.unfinished = vec!["/var/lib/etcd/.lastgood-restore-0123".into()];
    let doctor = scene.examine();
    let check = doctor.checks.iter().find(|check| check.subject == "restore of etcd").unwrap();
    assert!(check.verdict == Mark::Failed && !doctor.is_well(), "{check:?}");
    assert!(check.detail.starts_with("/var/lib/etcd/.lastgood-restore-0123 is left"), "{check:?}");
    let (pid, command) = (7, "lastgood etcd restore".to_owned());
    scene.seen.node.busy = vec![BusyProcess { pid, command, kind: BusyKind::Restore }];
    assert!(scene.examine().checks.iter().all(|check| check.subject != "restore of etcd"));
}

#[test]
fn a_recent_verified_snapshot_is_asked_for_where_the_node_has_an_etcd() {
    let mut scene = Scene::new();
    let check = |scene: &Scene| {
        let checks = scene.examine().checks;
        checks.into_iter().find(|check| check.subject == "snapshot of etcd")
    };
    assert_eq!(check(&scene), None, "no etcd of its own");
    let mut kept = crate::model::Snapshots {
        enabled: true,
        interval: Duration::from_secs(1800),
        directory: "/var/lib/lastgood/snapshots".into(),
        newest: None,
        verified: 0,
        bytes: 0,
        unverified: Vec::new(),
        failed: None,
        since: now(),
        unreadable: None,
        remote: None,
    };
    scene.snapshots = Some(kept.clone());
    let none = check(&scene).unwrap();
    assert_eq!(none.verdict, Mark::Warning);
    assert_eq!(none.fix.as_deref(), Some("`lastgood etcd snapshot save`"));
    for (minutes, mark) in [(20, Mark::Ok), (62, Mark::Warning)] {
        let at = now() - Duration::from_secs(minutes * 60);
        let newest = crate::model::snapshot::Newest {
            file: "a.db".into(),
            at,
            revision: 7,
            bytes: 1,
            verified: at,
            bundle: bundled(true),
        };
        kept.newest = Some(newest);
        scene.snapshots = Some(kept.clone());
        let found = check(&scene).unwrap();
        assert_eq!(found.verdict, mark, "{found:?}");
        assert!(found.detail.contains("a.db is verified") && found.detail.contains("revision 7"), "{found:?}");
        assert!(scene.examine().is_well(), "it is no reason to fail");
    }
}

#[test]
fn snapshots_that_are_to_be_in_object_storage_are_looked_for_there_as_well() {
    use crate::model::snapshot::{Failing, Newest, Remote, Sent};
    let mut scene = Scene::new();
    let check = |scene: &Scene| {
        let checks = scene.examine().checks;
        checks.into_iter().find(|check| check.subject == "snapshot in object storage")
    };
    let ago = |minutes: u64| now() - Duration::from_secs(minutes * 60);
    let newest =
        |at| Some(Newest { file: "a.db".into(), at, revision: 7, bytes: 1, verified: at, bundle: bundled(true) });
    let mut kept = crate::model::Snapshots {
        enabled: true,
        interval: Duration::from_secs(1800),
        directory: "/var/lib/lastgood/snapshots".into(),
        newest: newest(ago(10)),
        verified: 1,
        bytes: 1,
        unverified: Vec::new(),
        failed: None,
        // As of a command: it has looked for no time at all.
        since: now(),
        unreadable: None,
        remote: None,
    };
    scene.snapshots = Some(kept.clone());
    assert_eq!(check(&scene), None, "none are sent there");
    let sent = |at| Some(Sent { file: "a.db".into(), at, revision: 7, bytes: 1, verified: at });
    let failing = |at| Some(Failing { since: at, at, times: 4, why: "SlowDown".into() });
    for (there, fails, mark, words) in [
        (sent(ago(10)), None, Mark::Ok, "a.db is verified in s3://backups, revision 7"),
        (sent(ago(10)), failing(ago(5)), Mark::Ok, "4 tries): SlowDown"),
        (sent(ago(200)), failing(ago(190)), Mark::Warning, "behind those on this node"),
        (None, None, Mark::Warning, "no verified one is known to be in s3://backups"),
    ] {
        kept.remote = Some(Remote { newest: there, failing: fails, ..Remote::unseen("s3://backups".into()) });
        scene.snapshots = Some(kept.clone());
        let found = check(&scene).unwrap();
        assert!(found.verdict == mark && found.detail.contains(words), "{words}: {found:?}");
    }
}

fn bundled(keys: bool) -> Result<crate::model::snapshot::Bundled, String> {
    Ok(crate::model::snapshot::Bundled { briefly: "4 manifests".into(), keys, left_out: Vec::new() })
}

#[test]
fn what_a_bare_machine_would_lack_is_said() {
    let at = now();
    let mut scene = Scene::new();
    let mut check = |bundle| {
        let newest =
            crate::model::snapshot::Newest { file: "a.db".into(), at, revision: 7, bytes: 1, verified: at, bundle };
        scene.snapshots = Some(crate::model::Snapshots {
            enabled: true,
            interval: Duration::from_secs(1800),
            directory: "/var/lib/lastgood/snapshots".into(),
            newest: Some(newest),
            verified: 1,
            bytes: 1,
            unverified: Vec::new(),
            failed: None,
            since: at,
            unreadable: None,
            remote: None,
        });
        let doctor = scene.examine();
        assert!(doctor.is_well(), "it is no reason to fail");
        doctor.checks.into_iter().find(|check| check.subject == "bundle of the snapshot").unwrap()
    };
    let whole = check(bundled(true));
    assert_eq!((whole.verdict, whole.fix), (Mark::Ok, None));
    let keyless = check(bundled(false));
    assert_eq!(keyless.verdict, Mark::Ok, "a choice");
    assert!(keyless.fix.is_some_and(|fix| fix.contains("it contains no keys") && fix.contains("snapshots.recipients")));
    let torn = check(Err("a.bundle.json is damaged".into()));
    assert_eq!(torn.verdict, Mark::Warning);
    assert!(torn.detail.contains("is damaged") && torn.fix.is_some());
}
