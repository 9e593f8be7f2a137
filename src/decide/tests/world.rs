//! A simulated node. The command line of a pod says how it behaves: `--no-sandbox` (none can be created), `--crash` (it
//! panics; with `=port`, `=flag` or `=directory`, a port is taken, a flag is unknown, or the audit policy is a directory), `--unready`, `--unready-unasked` (the same, and
//! livez answers before readyz was probed), `--refuse` (its dependents crash on it, its own probes succeed), `--shut-out`
//! (its own readiness succeeds, and it accepts no client certificate), `--sour=N` (healthy for N seconds, then unhealthy),
//! `--outlive` (survives its dependency), `--data-dir=…`. A manifest with `x: {a: b:}` cannot be decoded by lastgood; the
//! kubelet accepts it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::{Scene, concluded, decide, decide_request};
use crate::judge::{History, judge};
use crate::model::config_files::generation_digest;
use crate::model::etcd::{Agreed, Member, MemberStatus};
use crate::model::etcd_data::{DataDir, LockState};
use crate::model::etcd_data::{KubeSystem, StoreIdentity, WalOrigin};
use crate::model::event::EventKind;
use crate::model::host_path::PathState;
use crate::model::kubelet_log::KubeletLog;
use crate::model::notice::{FeatureNotice, Notice};
use crate::model::observation::*;
use crate::model::plan::Refusal;
use crate::model::reading::{Probe, Question, Symptom, SymptomKind};
use crate::model::verdict::ProcessActivity;
use crate::model::versions::Versions;
use crate::model::*;

pub(super) struct Pod {
    pub(super) text: String,
    pub(super) file: String,
    /// When its sandbox was made: its containers start and end in it.
    pub(super) created: Timestamp,
    pub(super) started: Timestamp,
    pub(super) attempt: u32,
    pub(super) up: Up,
    pub(super) next_start: u64,
    /// When its container ended last.
    pub(super) ended: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Up {
    Parked,
    Running,
    Exited,
    /// Its sandbox is up, its image is not on the node.
    Imageless,
    /// Its exited container was removed.
    Removed,
    /// Its manifest was replaced: it has closed its port, and runs on until its grace is over.
    Terminating,
}

pub(crate) struct World {
    /// How the databases grew.
    pub(super) growth: BTreeMap<ComponentId, crate::model::etcd_history::Growth>,
    /// What the features report.
    pub(super) notices: Vec<FeatureNotice>,
    pub(crate) seconds: u64,
    pub(super) files: BTreeMap<String, (String, Timestamp)>,
    pub(super) gone: BTreeMap<String, Gone>,
    pub(super) pods: BTreeMap<ComponentId, Pod>,
    /// Sandboxes besides those: of pods that the kubelet has forgotten.
    pub(super) forgotten: Vec<PodRun>,
    pub(crate) memory: Memory,
    pub(super) history: History,
    /// What the last pass judged.
    pub(super) judged: Judgement,
    pub(super) policy: Policy,
    pub(super) store: BTreeMap<(ComponentId, u32), String>,
    pub(super) inactive: BTreeMap<String, String>,
    pub(super) events: Vec<Event>,
    noticed: BTreeSet<(ComponentId, Notice)>,
    pub(super) steps: Vec<Step>,
    pub(super) runtime_dead: Option<Symptom>,
    pub(crate) busy: Vec<BusyProcess>,
    /// What kubeadm keeps of what it moved out of the manifest directory.
    pub(super) set_aside: BTreeMap<String, Vec<SetAside>>,
    pub(super) missing_signs: Vec<std::path::PathBuf>,
    pub(super) absent_images: BTreeSet<String>,
    pub(super) unsettled: BTreeSet<String>,
    pub(super) last: Option<Moment>,
    pub(super) kubelet_started: u64,
    pub(super) kubelet_heard: bool,
    /// The kubelet's log.
    pub(super) kubelet_log: Option<Result<Arc<KubeletLog>, String>>,
    pub(super) hands_fail: bool,
    /// For how many seconds a replaced kube-apiserver runs on.
    pub(super) lingers: u64,
    /// Who answers nobody, by the name of the component, `kubelet` or `containerd`, and what the process is at.
    pub(super) hung: BTreeMap<String, ProcessActivity>,
    pub(super) listeners: BTreeMap<u16, Listener>,
    pub(super) data_changed: u64,
    /// Device and inode of etcd's `member` directory.
    pub(super) data_member: Option<(u64, u64)>,
    /// Certificates, disks, pressure, the clock and endpoints: the rest of it is made again at every look.
    pub(super) around: Node,
    pub(super) data: DataVersion,
    /// How the WAL in etcd's data directory begins.
    pub(super) origin: WalOrigin,
    /// Data directories next to it, or in its place.
    pub(super) dirs: BTreeMap<std::path::PathBuf, DataDir>,
    pub(super) etcd: BTreeMap<ComponentId, EtcdStatus>,
    /// When etcd answered last, where it gives no new answer at every pass.
    pub(super) etcd_answered: Option<u64>,
    /// The key files that every manifest mounts: what is in them, and when it changed.
    pub(super) keys: BTreeMap<PathBuf, (String, Timestamp)>,
    /// The leases that are looked at; one whose `renewed` is [`MOVES`] is renewed at every look.
    pub(super) leases: BTreeMap<ComponentId, Result<Lease, Symptom>>,
    /// With which code a component's container ends; 1 where nothing is said.
    pub(super) exit_codes: BTreeMap<ComponentId, i32>,
    parsed: RefCell<BTreeMap<String, Result<Manifest, FileFault>>>,
}

/// The manifest with a colon where only the kubelet's scanner takes one.
pub(super) fn only_the_kubelet_reads(name: &str, extra: &str) -> String {
    manifest(name, extra).replace("hostNetwork: true", "hostNetwork: true, x: {a: b:}")
}

/// What represents a lease that is renewed all the time.
pub(super) const MOVES: &str = "moves";

pub(crate) fn manifest(name: &str, extra: &str) -> String {
    let flags = match name {
        "etcd" => "--data-dir=/var/lib/etcd, '--listen-client-urls=https://127.0.0.1:2379'",
        "kube-apiserver" => "'--etcd-servers=https://127.0.0.1:2379', --secure-port=6443",
        _ => "--leader-elect=true",
    };
    let extra = if extra.is_empty() { String::new() } else { format!(", '{extra}'") };
    format!(
        "--- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: kube-system}}, spec: {{hostNetwork: true, \
         containers: [{{name: {name}, image: '{name}:v1.34.2', command: [{name}, {flags}{extra}]}}]}}}}"
    )
}

pub(crate) fn id(name: &str) -> ComponentId {
    ComponentId::system(name)
}

/// The one that is broken most often.
pub(crate) const API: &str = "kube-apiserver";
/// Its file.
pub(crate) const FILE: &str = "kube-apiserver.yaml";

pub(crate) const FOUR: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

impl World {
    /// A kubeadm node that has run for ten minutes, and an agent that has just been started.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            seconds: 1000,
            files: BTreeMap::new(),
            gone: BTreeMap::new(),
            pods: BTreeMap::new(),
            forgotten: Vec::new(),
            memory: Memory::default(),
            history: History::default(),
            judged: Judgement::default(),
            policy: Policy::default(),
            store: BTreeMap::new(),
            inactive: BTreeMap::new(),
            events: Vec::new(),
            noticed: BTreeSet::new(),
            steps: Vec::new(),
            runtime_dead: None,
            busy: Vec::new(),
            set_aside: BTreeMap::new(),
            missing_signs: Vec::new(),
            absent_images: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            last: None,
            kubelet_started: 100,
            kubelet_heard: true,
            kubelet_log: None,
            hands_fail: false,
            lingers: 0,
            hung: BTreeMap::new(),
            listeners: BTreeMap::new(),
            data_changed: 100,
            data_member: Some((1, 2)),
            around: Node::default(),
            data: DataVersion::Known(Versions { cluster: Some((1, 34)), ..Versions::default() }),
            origin: began(1),
            dirs: BTreeMap::new(),
            etcd: [(id("etcd"), single_member())].into(),
            growth: BTreeMap::new(),
            notices: Vec::new(),
            etcd_answered: None,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            exit_codes: BTreeMap::new(),
            parsed: RefCell::default(),
        };
        for name in FOUR {
            let text = manifest(name, "");
            let at = world.wall_at(200);
            world.files.insert(format!("{name}.yaml"), (text.clone(), at));
            let pod = Pod {
                text,
                file: format!("{name}.yaml"),
                created: world.wall_at(300),
                started: world.wall_at(300),
                attempt: 0,
                up: Up::Running,
                next_start: 0,
                ended: None,
            };
            world.pods.insert(id(name), pod);
        }
        world
    }

    /// The same after the first soak: everything is known-good.
    pub(super) fn adopted() -> Self {
        let mut world = Self::new();
        world.run(90);
        for name in FOUR {
            assert!(
                matches!(world.state(name), ComponentState::Steady { .. }),
                "{name} was not adopted: {}",
                world.state(name)
            );
        }
        world.events.clear();
        world.noticed.clear();
        world.steps.clear();
        world
    }

    /// The same with another etcd, whose image and data are of this version.
    pub(super) fn adopted_with(etcd: &str, data: DataVersion) -> Self {
        let mut world = Self::new();
        world.data = data;
        world.files.get_mut("etcd.yaml").unwrap().0 = etcd.to_owned();
        world.pods.get_mut(&id("etcd")).unwrap().text = etcd.to_owned();
        world.run(90);
        assert!(matches!(world.state("etcd"), ComponentState::Steady { good: 1 }), "{}", world.state("etcd"));
        world.events.clear();
        world.noticed.clear();
        world.steps.clear();
        world
    }

    pub(super) fn wall_at(&self, seconds: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds as i64).unwrap()
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { wall: self.wall_at(self.seconds), boot: Duration::from_secs(self.seconds) }
    }

    pub(super) fn state(&self, name: &str) -> &ComponentState {
        &self.memory.components[&id(name)].state
    }

    pub(super) fn generation(&self, name: &str, number: u32) -> &Generation {
        &self.memory.components[&id(name)].generations[&number]
    }

    /// The operator writes a file.
    pub(crate) fn write(&mut self, file: &str, text: &str) {
        let now = self.wall_at(self.seconds);
        self.files.insert(file.to_owned(), (text.to_owned(), now));
        self.gone.remove(file);
    }

    pub(super) fn remove(&mut self, file: &str, how: Gone) {
        self.files.remove(file);
        self.gone.insert(file.to_owned(), how);
    }

    /// kubeadm moves a file to its backups, the first half of replacing it; the second is [`World::write`].
    pub(super) fn kubeadm_takes(&mut self, file: &str) {
        let (text, _) = self.files.remove(file).unwrap();
        let path = std::path::PathBuf::from(format!("/etc/kubernetes/tmp/kubeadm-backup-manifests-1/{file}"));
        self.gone.insert(file.to_owned(), Gone::Moved { to: Some(path.clone()) });
        let kept = SetAside { path, digest: Digest::of(text.as_bytes()), changed: self.wall_at(self.seconds) };
        self.set_aside.insert(file.to_owned(), vec![kept]);
    }

    pub(super) fn says(&self, words: &str) -> bool {
        self.events.iter().any(|event| event.to_string().contains(words))
    }

    /// Whether a notice about a component was given, at any pass.
    pub(super) fn noticed(&self, name: &str, about: Notice) -> bool {
        self.noticed.contains(&(id(name), about))
    }

    /// Whether a component entered a state of this word.
    pub(super) fn entered(&self, name: &str, word: &str) -> bool {
        let entered = |event: &Event| event.kind == EventKind::State && event.to.starts_with(word);
        self.events.iter().any(|event| event.component == Some(id(name)) && entered(event))
    }

    pub(super) fn is_quarantined(&self, name: &str, number: u32) -> bool {
        matches!(self.generation(name, number).trust, Trust::Quarantined { .. })
    }

    /// The crashes that are counted against a candidate, while it is on trial.
    pub(super) fn crashes(&self, name: &str) -> Option<u32> {
        match self.state(name) {
            ComponentState::Probation(trial) => Some(trial.crashes),
            _ => None,
        }
    }

    pub(super) fn story(&self) -> String {
        self.events.iter().map(|event| format!("{event}\n")).collect()
    }

    /// etcd answers, at every pass until it is said otherwise.
    pub(super) fn etcd_says(&mut self, change: impl FnOnce(&mut EtcdStatus)) {
        let mut status = self.etcd.remove(&id("etcd")).unwrap_or_else(single_member);
        change(&mut status);
        self.etcd.insert(id("etcd"), status);
    }

    /// The steps that change what runs or is deployed. The end of a back-off (assist.rs) only comes sooner by a step.
    pub(super) fn touched(&self) -> usize {
        let ends_back_off = |step: &&Step| matches!(step, Step::RemoveContainer { .. });
        self.steps.iter().filter(|step| step.touches_node() && !ends_back_off(step)).count()
    }

    pub(super) fn assert_untouched(&self) {
        assert_eq!(self.touched(), 0, "something was changed: {:?}\n{}", self.steps, self.story());
    }

    /// Passes, one a second.
    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.seconds += 1;
            self.kubelet();
            self.pass();
        }
    }

    /// Passes until something holds, at most so long.
    pub(super) fn until(&mut self, most: u64, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        for second in 0..most {
            if holds(self) {
                return second;
            }
            self.run(1);
        }
        panic!("not within {most} s: {what}\n{}", self.story());
    }

    pub(super) fn ask(&mut self, request: &Request) -> Result<(), Refusal> {
        self.pass_with(|scene, memory| decide_request(scene, memory, request))
    }

    /// The agent is killed and starts again: what judging remembered is gone, the memory is not.
    pub(super) fn restart_agent(&mut self) {
        self.history = History::default();
        self.last = None;
        self.gone.clear();
    }

    /// Everything ends at once, and starts at once: containerd, kubelet and agent, no API server yet.
    pub(super) fn power_cut(&mut self) {
        self.seconds += 30;
        self.pods.clear();
        self.kubelet_started = self.seconds;
        self.kubelet_heard = false;
        // It was noted in another boot.
        self.memory.api_served = None;
        self.restart_agent();
    }

    pub(super) fn pass(&mut self) {
        self.pass_with(|scene, memory| (decide(scene, memory), ()));
    }

    fn pass_with<A>(&mut self, decide: impl FnOnce(Scene<'_>, &Memory) -> (Decision, A)) -> A {
        let now = self.moment();
        let tick = Tick::after(self.last.replace(now), now, Duration::from_secs(10));
        let seen = self.observe(now);
        let history = std::mem::take(&mut self.history);
        let (judged, history) = judge(tick, &seen, &self.memory, history, &self.policy);
        self.history = history;
        self.judged = judged.clone();
        let scene = Scene { tick, seen: &seen, judged: &judged, policy: &self.policy };
        let (decision, answer) = decide(scene, &self.memory);
        self.memory = decision.memory;
        self.events.extend(decision.events);
        let notices =
            self.memory.components.iter().flat_map(|(id, r)| r.notices.keys().map(|about| (id.clone(), *about)));
        self.noticed.extend(notices);
        for step in decision.plan {
            if self.hands_fail && step.touches_node() {
                break;
            }
            self.take(&step);
            concluded(&mut self.memory, &step);
            self.steps.push(step);
        }
        answer
    }

    pub(crate) fn take(&mut self, step: &Step) {
        let now = self.wall_at(self.seconds);
        match step {
            Step::Capture { component, number, file } => {
                let text = String::from_utf8(file.content.as_ref().unwrap().raw.to_vec()).unwrap();
                self.store.insert((component.clone(), *number), text);
            }
            Step::Publish { component, number, file_name } => {
                self.inactive.insert(file_name.clone(), self.store[&(component.clone(), *number)].clone());
            }
            Step::TakeOut { file_name, .. } | Step::Withhold { file_name, .. } | Step::MoveOut { file_name, .. } => {
                self.files.remove(file_name);
            }
            Step::PutIn { component, number, file_name } => {
                let text = self.store[&(component.clone(), *number)].clone();
                self.files.insert(file_name.clone(), (text, now));
            }
            Step::StopContainer { component, container, .. } => {
                self.hung.remove(component.name());
                let next_start = self.seconds + 1;
                if let Some(pod) = self.pods.get_mut(component)
                    && *container == container_id(pod)
                {
                    (pod.up, pod.next_start) = (Up::Exited, next_start);
                }
            }
            // The kubelet takes the back-off from the exited container that it finds, and counts its attempts.
            Step::RemoveContainer { component, container } => {
                let now = self.seconds;
                if let Some(pod) = self.pods.get_mut(component)
                    && *container == container_id(pod)
                {
                    (pod.up, pod.attempt, pod.next_start) = (Up::Removed, 0, now);
                }
            }
            Step::RestartRuntime => drop(self.hung.remove("containerd")),
            Step::StopSandbox { sandbox, .. } if self.forgotten.iter().any(|run| run.sandbox == *sandbox) => {
                self.forgotten.retain(|run| run.sandbox != *sandbox);
            }
            // A deaf kubelet keeps the old pod in its books, and starts no other in its place.
            Step::StopSandbox { component, .. } if !self.kubelet_heard => {
                self.pods.entry(component.clone()).and_modify(|pod| pod.up = Up::Parked);
            }
            Step::StopSandbox { component, .. } => {
                self.pods.remove(component);
            }
            Step::RestartKubelet => {
                self.hung.remove("kubelet");
                self.restart_kubelet();
            }
            Step::Forget { component, number } => {
                self.store.remove(&(component.clone(), *number));
            }
            Step::SetMemoryAside => {
                self.store.clear();
                self.inactive.clear();
            }
            Step::RemoveDirectory { path, .. } => {
                let before = self.around.host_paths.insert(path.clone(), PathState::Absent);
                assert_eq!(before, Some(PathState::EmptyDirectory), "{}", path.display());
            }
            Step::RestoreFile { .. } => {}
        }
    }

    /// It starts what is deployed, and has heard from no API server yet.
    pub(super) fn restart_kubelet(&mut self) {
        self.kubelet_started = self.seconds;
        self.kubelet_heard = false;
        self.pods.retain(|_, pod| self.files.get(&pod.file).is_some_and(|(text, _)| *text == pod.text));
    }

    fn work(&self, name: &str) -> Option<Work> {
        let (state, busy) = match self.hung.get(name) {
            Some(ProcessActivity::Unseen) => return None,
            Some(ProcessActivity::Stopped) => (ProcessState::Stopped, false),
            Some(ProcessActivity::WaitsForDisk) => (ProcessState::WaitsForDisk, false),
            Some(ProcessActivity::Idle) => (ProcessState::Runs, false),
            Some(ProcessActivity::Busy | ProcessActivity::Nothing) | None => (ProcessState::Runs, true),
        };
        let cpu = Duration::from_secs(if busy { self.seconds } else { 1 });
        Some(Work { state, cpu, io: 0, at: Duration::from_secs(self.seconds) })
    }

    /// One second of a kubelet: the last file by name wins, the old pod goes first, the new one is parked for 12 s
    /// unless nothing was deployed before.
    pub(crate) fn kubelet(&mut self) {
        if self.hung.contains_key("kubelet") || self.hung.contains_key("containerd") {
            return;
        }
        let now = self.wall_at(self.seconds);
        let mut wanted: BTreeMap<ComponentId, (String, String)> = BTreeMap::new();
        for (file, (text, _)) in &self.files {
            let text = text.replace(", x: {a: b:}", "");
            if let Ok(manifest) = self.parse(&text)
                && manifest.predicted.is_empty()
            {
                wanted.insert(manifest.id, (text, file.clone()));
            }
        }
        let api_up = self.serves("kube-apiserver");
        self.kubelet_heard |= api_up;
        let deaf = !self.kubelet_heard;
        if !deaf {
            self.pods.retain(|component, _| wanted.contains_key(component));
        }
        for (component, (text, file)) in wanted {
            let (seconds, lingers) = (self.seconds, self.lingers);
            match self.pods.get_mut(&component) {
                Some(pod) if pod.text == text && pod.file == file && text.contains("--no-sandbox") => {}
                Some(pod) if pod.text == text && pod.file == file => {
                    if pod.up != Up::Running && seconds >= pod.next_start {
                        match pod.up {
                            Up::Exited => pod.attempt += 1,
                            Up::Parked => pod.created = now,
                            _ => {}
                        }
                        pod.up = Up::Running;
                        pod.started = now;
                    }
                }
                Some(_) if deaf => {}
                Some(pod) if pod.up == Up::Terminating && seconds < pod.next_start => {}
                Some(pod) if pod.up == Up::Running && lingers > 0 && component.name() == API => {
                    (pod.up, pod.next_start) = (Up::Terminating, seconds + lingers);
                }
                Some(pod) => {
                    *pod = Pod {
                        text,
                        file,
                        created: now,
                        started: now,
                        attempt: 0,
                        up: Up::Parked,
                        next_start: seconds + 12,
                        ended: None,
                    };
                }
                None => {
                    let (created, started, up) = (now, now, Up::Running);
                    let pod = Pod { text, file, created, started, attempt: 0, up, next_start: 0, ended: None };
                    self.pods.insert(component, pod);
                }
            }
        }
        // The runtime makes a directory where a started pod mounts what does not exist.
        for (path, state) in &mut self.around.host_paths {
            let mounts = |pod: &Pod| pod.up != Up::Parked && pod.text.contains(&format!("path: {}", path.display()));
            if *state == PathState::Absent && self.pods.values().any(mounts) {
                *state = PathState::EmptyDirectory;
            }
        }
        let (etcd, api) = (self.serves("etcd"), self.serves("kube-apiserver"));
        let refused = self.pods.get(&id("kube-apiserver")).is_some_and(|pod| pod.text.contains("--refuse"));
        for (component, pod) in &mut self.pods {
            if pod.up != Up::Parked && self.absent_images.iter().any(|image| pod.text.contains(image.as_str())) {
                pod.up = Up::Imageless;
            }
            let dies = pod.text.contains("--crash")
                || component.name() == "kube-apiserver" && !etcd
                || component.name().starts_with("kube-c") && !api
                || component.name() == "kube-scheduler" && !api
                || component.name().starts_with("kube-c") && refused;
            if dies && pod.up == Up::Running && !pod.text.contains("--outlive") {
                (pod.up, pod.ended) = (Up::Exited, Some(now));
                pod.next_start = self.seconds + 10 * u64::from(pod.attempt.min(6));
            }
        }
    }

    pub(crate) fn serves(&self, name: &str) -> bool {
        if self.hung.contains_key(name) {
            return false;
        }
        let Some(pod) = self.pods.get(&id(name)) else { return false };
        pod.up == Up::Running
            && !pod.text.contains("--crash")
            && !pod.text.contains("--unready")
            && !pod.text.contains("--shut-out")
            && !self.sour(pod)
    }

    fn sour(&self, pod: &Pod) -> bool {
        let after = pod.text.split("--sour=").nth(1).and_then(|rest| rest.split('\'').next()?.parse::<i64>().ok());
        after.is_some_and(|after| self.wall_at(self.seconds).as_second() - pod.started.as_second() >= after)
    }

    pub(super) fn file(&self, name: &str, text: &str, changed: Timestamp) -> ManifestFile {
        let content = self.parse(text);
        let digest = content.as_ref().map_or(Digest::of(text.as_bytes()), |m| generation_digest(m.digest, &[]));
        let settled = if self.unsettled.contains(name) { Settled::NotYet } else { Settled::Yes };
        let key = |(path, (text, _)): (&PathBuf, &(String, Timestamp))| ClosureFile {
            path: path.clone(),
            state: Self::key_material(text),
        };
        let mut closure: Vec<_> = if content.is_ok() { self.keys.iter().map(key).collect() } else { Vec::new() };
        // What a flag names and does not exist; a directory is no file of a closure.
        let absent = self.around.host_paths.iter().filter(|(_, state)| **state == PathState::Absent);
        let named = absent.filter(|(path, _)| text.contains(&format!("-file={}", path.display())));
        closure.extend(named.map(|(path, _)| ClosureFile { path: path.clone(), state: FileState::Missing }));
        ManifestFile { name: name.to_owned(), content, closure, digest, changed, uid: 0, settled }
    }

    /// Parsed once: a sequence looks at the same few files thousands of times.
    fn parse(&self, text: &str) -> Result<Manifest, FileFault> {
        let mut parsed = self.parsed.borrow_mut();
        parsed.entry(text.to_owned()).or_insert_with(|| Manifest::parse(text.as_bytes().into())).clone()
    }

    fn key_material(text: &str) -> FileState {
        FileState::Present {
            kind: FileKind::KeyMaterial,
            digest: Digest::of(text.as_bytes()),
            mode: 0o600,
            uid: 0,
            gid: 0,
        }
    }

    /// Every key file that is deployed or is remembered.
    fn key_files(&self) -> BTreeMap<PathBuf, FileState> {
        let kept = self.memory.components.values().flat_map(|record| record.generations.values());
        let kept = kept.flat_map(|generation| &generation.closure).map(|file| (file.path.clone(), FileState::Missing));
        let stands = self.keys.iter().map(|(path, (text, _))| (path.clone(), Self::key_material(text)));
        kept.chain(stands).collect()
    }

    pub(crate) fn observe(&self, at: Moment) -> Observation {
        let entry = |name: &String, text: &String, changed| (name.clone(), Arc::new(self.file(name, text, changed)));
        let files: BTreeMap<_, _> = self.files.iter().map(|(name, (text, at))| entry(name, text, *at)).collect();
        let inactive = self.inactive.iter().map(|(name, text)| entry(name, text, Timestamp::UNIX_EPOCH)).collect();
        let runs = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.up != Up::Parked)
            .map(|(component, pod)| self.run_of(component, pod))
            .chain(self.forgotten.iter().cloned());
        let mut images: BTreeMap<String, ImagePresence> = BTreeMap::new();
        let parsed = files.values().filter_map(|f| f.content.as_ref().ok().map(Manifest::images)).flatten();
        let kept = self.memory.components.values().flat_map(|r| r.generations.values().flat_map(|g| g.images.clone()));
        for image in parsed.chain(kept) {
            let presence = if self.absent_images.contains(&image) {
                ImagePresence::Absent
            } else {
                ImagePresence::Present { id: format!("sha256:{image}") }
            };
            images.insert(image, presence);
        }
        let member = DataDir {
            member: self.data_member,
            changed: Some(self.wall_at(self.data_changed)),
            lock: LockState::Free,
            versions: self.data.clone(),
            origin: self.origin.clone(),
            ..DataDir::default()
        };
        let mut data_dirs = BTreeMap::from([(std::path::PathBuf::from("/var/lib/etcd"), member)]);
        data_dirs.extend(self.dirs.clone());
        Observation {
            at,
            manifests: Directory::Present { files, gone: self.gone.clone() },
            inactive,
            files: self.key_files(),
            keys_changed: self.keys.iter().map(|(path, (_, changed))| (path.clone(), *changed)).collect(),
            runtime: match (&self.runtime_dead, self.hung.contains_key("containerd")) {
                (Some(symptom), _) => Err(symptom.clone()),
                (None, true) => Err(Symptom::new(SymptomKind::TimedOut, "did not answer within 5 s")),
                (None, false) => Ok(runs.collect()),
            },
            runtime_work: self.work("containerd"),
            probes: self.pods.iter().map(|(component, pod)| (component.clone(), self.probes(component, pod))).collect(),
            leases: self.leases.iter().map(|(id, said)| (id.clone(), self.lease_look(said))).collect(),
            etcd: self.etcd_answers(),
            growth: self.growth.clone(),
            notices: self.notices.clone(),
            images,
            kubelet: Kubelet {
                process: Some(KubeletProcess {
                    pid: 7,
                    started: Duration::from_secs(self.kubelet_started),
                    changed_since: None,
                    heard_api: if self.kubelet_heard { HeardApi::Yes } else { HeardApi::CannotTell },
                    state: self.work("kubelet").map_or(ProcessState::Runs, |work| work.state),
                }),
                healthz: match self.hung.contains_key("kubelet") {
                    true => Reading::Bad(Symptom::new(SymptomKind::TimedOut, "did not answer in time")),
                    false => Reading::Good,
                },
                answered: Duration::from_secs(self.seconds),
                waiting: BTreeMap::new(),
                log: self.kubelet_log.clone(),
                changed: None,
            },
            node: Node {
                boot_id: "boot".to_owned(),
                host: "master-1".to_owned(),
                master: MasterSigns { missing: self.missing_signs.clone() },
                busy: self.busy.clone(),
                set_aside: self.set_aside.clone(),
                listeners: self.listeners.clone(),
                data_dirs,
                read_only: None,
                ..self.around.clone()
            },
        }
    }

    fn lease_look(&self, said: &Result<Lease, Symptom>) -> LeaseLook {
        let mut said = said.clone();
        if let Ok(lease) = &mut said
            && lease.renewed.as_deref() == Some(MOVES)
        {
            lease.renewed = Some(self.seconds.to_string());
        }
        LeaseLook { said, at: Duration::from_secs(self.seconds) }
    }

    fn etcd_answers(&self) -> BTreeMap<ComponentId, EtcdStatus> {
        let serves = self.serves("etcd");
        let mut answers = self.etcd.clone();
        for status in answers.values_mut() {
            status.at = Duration::from_secs(self.etcd_answered.unwrap_or(self.seconds));
            if !serves {
                let why = Symptom::new(SymptomKind::Refused, "nothing listens there");
                (status.own, status.agreed) = (Err(why.clone()), Err(why));
                (status.members, status.store) = (None, None);
            }
        }
        answers
    }

    fn run_of(&self, component: &ComponentId, pod: &Pod) -> PodRun {
        let uid = uid(pod);
        let state = match pod.up {
            Up::Running | Up::Terminating => ContainerState::Running { started: pod.started },
            _ => ContainerState::Exited {
                started: pod.started,
                finished: pod.ended.map_or(pod.started, |ended| ended.max(pod.started)),
                code: self.exit_codes.get(component).copied().unwrap_or(1),
                reason: "Error".to_owned(),
            },
        };
        let manifest = self.parse(&pod.text).unwrap();
        let container = ContainerRun {
            id: container_id(pod),
            name: component.name().to_owned(),
            attempt: pod.attempt,
            image: manifest.images().into_iter().next().unwrap(),
            image_id: String::new(),
            state,
            command_line: None,
            log_tail: Some(log_tail(pod).to_owned()),
            work: self.work(component.name()),
        };
        PodRun {
            component: component.clone(),
            uid,
            sandbox: format!("sandbox-of-{component}"),
            created: pod.created,
            ready: SandboxState::Ready,
            containers: if matches!(pod.up, Up::Imageless | Up::Removed) { Vec::new() } else { vec![container] },
        }
    }

    fn probes(&self, component: &ComponentId, pod: &Pod) -> Vec<Probe> {
        let dead = self.serves(component.name());
        let refused = Reading::Bad(Symptom::new(SymptomKind::Refused, "connection refused"));
        let not_ready = Reading::Bad(Symptom::new(SymptomKind::Unhealthy, "500"));
        let unasked = Reading::CannotTell(Symptom::new(SymptomKind::TimedOut, "first probe is not complete yet"));
        let young = self.wall_at(self.seconds).as_second() - pod.started.as_second() < 3;
        let silent =
            Reading::Bad(Symptom::new(SymptomKind::TimedOut, "accepted the request and did not answer in time"));
        let (live, ready) = match (pod.up, dead) {
            (Up::Running, false) if self.hung.contains_key(component.name()) => (silent.clone(), silent),
            (Up::Running, true) => (Reading::Good, Reading::Good),
            (Up::Running, false) if pod.text.contains("--unready-unasked") && young => (Reading::Good, unasked),
            (Up::Running, false) if pod.text.contains("--unready") => (Reading::Good, not_ready),
            _ => (refused.clone(), refused),
        };
        let probe = |question, reading| Probe {
            question,
            target: format!("https://127.0.0.1/{component}"),
            reading,
            at: Duration::from_secs(self.seconds),
            took: Duration::from_millis(2),
        };
        if pod.text.contains("--shut-out") && pod.up == Up::Running {
            let words = || Symptom::new(SymptomKind::Tls, "rejects the client certificate");
            return vec![
                probe(Question::Live, Reading::CannotTell(words())),
                probe(Question::Ready, Reading::Good),
                probe(Question::AsDependent, Reading::Bad(words())),
            ];
        }
        vec![probe(Question::Live, live), probe(Question::Ready, ready)]
    }
}

fn uid(pod: &Pod) -> String {
    format!("{}{}", Digest::of(pod.text.as_bytes()).short(), pod.file)
}

fn container_id(pod: &Pod) -> String {
    format!("{}-{}", uid(pod), pod.attempt)
}

/// What a container says before it ends: those that hold a lease end when they cannot renew it.
fn log_tail(pod: &Pod) -> &'static str {
    match pod.text.split("--crash").nth(1) {
        Some(rest) if rest.starts_with("=port") => "listen tcp 127.0.0.1:6443: bind: address already in use",
        Some(rest) if rest.starts_with("=directory") => {
            r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="loading audit policy file: failed to read file path \"/etc/kubernetes/audit.yaml\": read /etc/kubernetes/audit.yaml: is a directory""#
        }
        Some(rest) if rest.starts_with("=flag") => "Error: unknown flag: --crash",
        Some(_) => "panic: runtime error: invalid memory address or nil pointer dereference",
        None => "\"command failed\" err=\"leaderelection lost\"",
    }
}

/// A cluster of one, at revision 1000 in term 5.
fn single_member() -> EtcdStatus {
    EtcdStatus {
        target: "https://127.0.0.1:2379".to_owned(),
        at: Duration::ZERO,
        own: Ok(MemberStatus {
            version: "3.5.16".to_owned(),
            cluster: 0xc1,
            member: 1,
            leader: Some(1),
            term: 5,
            raft_index: 2000,
            applied_index: Some(2000),
            revision: 1000,
            db_size: Some(20 << 20),
            db_in_use: Some(10 << 20),
            quota: None,
            learner: false,
            alarms: Vec::new(),
            errors: Vec::new(),
        }),
        agreed: Ok(agreed()),
        store: store("u"),
        members: Some(vec![member(1)]),
        ..EtcdStatus::default()
    }
}

/// The store of the cluster whose namespace kube-system has this UID.
pub(super) fn store(uid: &str) -> Option<StoreIdentity> {
    let namespace = KubeSystem::Present { uid: Some(uid.to_owned()), created: 5 };
    Some(StoreIdentity { prefix: "/registry".to_owned(), namespace })
}

/// A WAL that an etcd began.
pub(super) fn began(fingerprint: u32) -> WalOrigin {
    WalOrigin::Began { fingerprint: Some(fingerprint) }
}

/// A WAL that a restore wrote.
pub(super) fn restored(fingerprint: u32) -> WalOrigin {
    WalOrigin::Restored { fingerprint: Some(fingerprint) }
}

/// What a linearizable read of it finds.
pub(super) fn agreed() -> Agreed {
    Agreed { cluster: 0xc1, member: 1, term: 5, revision: 1000 }
}

pub(super) fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("https://192.0.2.{id}:2380")],
        client_urls: vec![format!("https://192.0.2.{id}:2379")],
        learner: false,
    }
}

/// Known-good serves; asked only after the fault has been noticed, or it would hold from the start.
pub(super) fn back_to_good(world: &World, name: &str) -> bool {
    matches!(world.state(name), ComponentState::Steady { good: 1 }) && world.serves(name)
}
