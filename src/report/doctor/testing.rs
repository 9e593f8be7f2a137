//! A node on which everything is as a recovery needs it, to be changed by each test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Doctor, Examined};
use crate::config::OldName;
use crate::feature::View;
use crate::model::addresses::{AddressUse, Addresses, Held, Missing, Naming, Raised};
use crate::model::config_files::{FileKind, KubeconfigHealth};
use crate::model::environment::{Accepts, Certificate, Endpoint, Location, User};
use crate::model::generation::Stored;
use crate::model::memory::Record;
use crate::model::observation::{
    Directory, HeardApi, ImagePresence, Kubelet, KubeletProcess, ManifestFile, Node, Settled,
};
use crate::model::reading::SymptomKind;
use crate::model::snapshot::{Bundled, Newest};
use crate::model::{
    ClosureFile, ComponentId, ComponentState, Digest, FileState, Generation, Manifest, Memory, Moment, Observation,
    Policy, Proof, Reading, Role, Snapshots, Symptom, Trust,
};
use crate::observe::{DirAccess, Directories, Distribution, Environment, Found, Source};
use crate::report::Process;

pub(in crate::report) const POD: &str = "--- {apiVersion: v1, kind: Pod, metadata: {name: kube-scheduler, namespace: kube-system}, \
                   spec: {containers: [{name: s, image: 'scheduler:v1', command: [kube-scheduler]}]}}";
pub(in crate::report) const AUDIT: &str = "/etc/kubernetes/audit.yaml";
pub(in crate::report) const CONFIG: &str = "/etc/kubernetes/scheduler.conf";

pub(in crate::report) fn now() -> Timestamp {
    "2026-11-22T20:10:00Z".parse().unwrap()
}

pub(in crate::report) fn id() -> ComponentId {
    ComponentId::system("kube-scheduler")
}

pub(in crate::report) fn file(text: &str) -> Arc<ManifestFile> {
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

pub(in crate::report) fn present(kind: FileKind, of: &str) -> FileState {
    FileState::Present { kind, digest: Digest::of(of.as_bytes()), mode: 0o600, uid: 0, gid: 0 }
}

pub(in crate::report) fn kubeconfig(credentials: &str, not_after: i64) -> FileState {
    let works = KubeconfigHealth::Works { not_after: Some(not_after) };
    present(FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) }, credentials)
}

pub(in crate::report) fn place(path: &str) -> DirAccess {
    DirAccess { path: path.into(), writable: Ok(()), bytes: Some(900 << 20), inodes: Some(10_000) }
}

pub(in crate::report) struct Scene {
    pub(in crate::report) seen: Observation,
    pub(in crate::report) memory: Memory,
    pub(in crate::report) policy: Policy,
    pub(in crate::report) old_names: Vec<OldName>,
    pub(in crate::report) found: Environment,
    pub(in crate::report) places: Directories,
    pub(in crate::report) store: BTreeMap<(ComponentId, u32), Result<(), String>>,
    pub(in crate::report) snapshots: Option<Snapshots>,
    pub(in crate::report) unfinished: Vec<PathBuf>,
    pub(in crate::report) agent: Result<Process, String>,
    pub(in crate::report) now: Timestamp,
}

impl Scene {
    pub(in crate::report) fn new() -> Self {
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
            trust: Trust::KnownGood { proof, since: "2026-11-22T19:01:00Z".parse().unwrap() },
            stored: Stored::Yes,
        };
        let record = Record {
            generations: BTreeMap::from([(1, generation)]),
            next_number: 2,
            last_served: Some(1),
            ..Record::new(Role::Scheduler, ComponentState::Steady { good: 1 })
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
                log: None,
                changed: None,
            },
            node: Node { certificates: vec![certificate(365)], ..Node::default() },
        };
        let known = |path: &str| Found { value: PathBuf::from(path), from: Source::WellKnown };
        Self {
            seen,
            memory,
            policy: Policy::default(),
            old_names: Vec::new(),
            found: Environment {
                manifests: known("/etc/kubernetes/manifests"),
                runtime: None,
                node_name: Found { value: "master-1".to_owned(), from: Source::HostName },
                kubelet_config: known("/var/lib/kubelet/config.yaml"),
                kubelet_healthz: None,
                kubelet_address: String::new(),
                distribution: Distribution::Kubeadm,
                kubelet_files: Vec::new(),
                kubelet_cgroups: None,
                resolv_conf: None,
                next_manifests: None,
                watching: Ok(()),
            },
            places: Directories {
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

    pub(in crate::report) fn record(&mut self) -> &mut Record {
        self.memory.components.get_mut(&id()).unwrap()
    }

    pub(in crate::report) fn stands(&mut self, path: &str, state: FileState) {
        self.seen.files.insert(path.into(), state);
    }

    pub(in crate::report) fn examine(&self) -> Doctor {
        Doctor::new(Examined {
            now: self.now,
            seen: &self.seen,
            memory: &self.memory,
            policy: &self.policy,
            old_names: &self.old_names,
            found: &self.found,
            places: &self.places,
            store: &self.store,
            features: &self.snapshots.as_ref().map_or_else(Vec::new, |of| {
                crate::agent::checks(&View { snapshots: Some(of.clone()), ..View::default() }, self.now)
            }),
            unfinished: &self.unfinished,
            agent: &self.agent,
            status: None,
        })
    }
}

/// A certificate that ends in so many days.
pub(in crate::report) fn certificate(days: i64) -> Certificate {
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

pub(in crate::report) fn bundled(keys: bool) -> Result<Bundled, String> {
    Ok(Bundled { briefly: "4 manifests".into(), keys, left_out: Vec::new() })
}

/// Snapshots of this node, kept where they are by default; none is taken yet.
pub(in crate::report) fn snapshots() -> Snapshots {
    Snapshots {
        enabled: true,
        interval: Duration::from_secs(1800),
        directory: "/var/lib/lastgood/snapshots".into(),
        newest: None,
        verified: 0,
        bytes: 0,
        unverified: Vec::new(),
        damaged: Vec::new(),
        checked: None,
        undecryptable: None,
        failed: None,
        since: now(),
        unreadable: None,
        remote: None,
    }
}

/// The same with a newest one.
pub(in crate::report) fn with_newest(at: Timestamp, bundle: Result<Bundled, String>) -> Snapshots {
    let newest = Newest { file: "a.db".into(), at, revision: 7, bytes: 1, verified: at, bundle };
    Snapshots { newest: Some(newest), verified: 1, bytes: 1, ..snapshots() }
}

/// A node that has lost the address at which its API server is probed.
pub(in crate::report) fn without_address() -> Addresses {
    let naming = |file: &str, flag: &str| Naming {
        file: file.into(),
        flag: flag.to_owned(),
        user: User::Kubelet,
        how: AddressUse::Bound,
    };
    let missing = Missing {
        address: IpAddr::from([192, 0, 2, 10]),
        named: [
            naming("kube-apiserver.yaml", "--advertise-address"),
            naming("etcd.yaml", "--listen-client-urls"),
            naming("etcd.yaml", "--listen-peer-urls"),
        ]
        .into(),
        certificates: 4,
        place: Some(("eth0".to_owned(), 24)),
        gone_for: Duration::from_secs(60),
    };
    let held = Held { address: IpAddr::from([10, 99, 0, 7]), prefix: 24, device: "eth0".to_owned() };
    Addresses { held: vec![held], missing: vec![missing], ..Addresses::default() }
}

fn used_by_the_kubelet() -> BTreeSet<(User, PathBuf)> {
    [(User::Kubelet, "/etc/kubernetes/kubelet.conf".into())].into()
}

/// A node on which kube-vip raises the address in kubelet.conf, or has not raised it.
pub(in crate::report) fn with_vip(here: bool) -> Addresses {
    let raised = Raised {
        server: "https://10.88.0.9:6443".to_owned(),
        address: IpAddr::from([10, 88, 0, 9]),
        used: used_by_the_kubelet(),
        by: ComponentId::system("kube-vip"),
        here,
        words: (!here)
            .then(|| "error retrieving lease: Get \"https://10.88.0.9:6443\": dial tcp: i/o timeout".to_owned()),
    };
    let held = Held { address: IpAddr::from([10, 88, 0, 7]), prefix: 24, device: "eth0".to_owned() };
    let api_server = Some("https://10.88.0.7:6443".to_owned());
    Addresses { held: vec![held], raised: vec![raised], api_server, ..Addresses::default() }
}

/// The kubelet's way to the API server, which times out.
pub(in crate::report) fn dead_endpoint(accepts: Accepts) -> Endpoint {
    Endpoint {
        server: "https://10.88.0.9:6443".to_owned(),
        used: used_by_the_kubelet(),
        place: Location::Elsewhere,
        accepts,
        reading: Reading::Bad(Symptom::new(SymptomKind::TimedOut, "no answer")),
        at: Duration::ZERO,
        bad_for: Duration::from_secs(60),
    }
}
