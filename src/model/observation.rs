//! Everything that one pass observed, gathered before anything is judged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::certificate_use::{KubeletCertificate, OlderInUse};
use super::component::HostService;
use super::environment::{Certificate, ClockJump, Disk, Endpoint, Pressure};
use super::etcd_data::{ClusterFiles, DataDir};
use super::etcd_history::Growth;
use super::format::NewerFile;
use super::host_path::PathState;
use super::kubelet_log::KubeletLog;
use super::kubelet_probe::FailingProbe;
use super::lease::NODE_LEASE;
use super::member_conflict::MemberConflict;
use super::notice::FeatureNotice;
use super::sandbox_setup::SandboxSetup;
use super::store_fault::StoreFault;
use super::{
    ClosureFile, ComponentId, Digest, EtcdStatus, FileFault, FileState, LeaseLook, Manifest, Moment, Probe, Reading,
    Symptom,
};

/// One look at the node.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When the look began.
    pub at: Moment,
    /// The directory the kubelet reads static pods from.
    pub manifests: Directory,
    /// The files of inactive-manifests, by name.
    pub inactive: BTreeMap<String, Arc<ManifestFile>>,
    /// The files generations of the past brought with them, as they stand now.
    pub files: BTreeMap<PathBuf, FileState>,
    /// When the key material among them changed last (the later of mtime and ctime, of links as well): what a process
    /// started before has not loaded (Q5).
    pub keys_changed: BTreeMap<PathBuf, Timestamp>,
    /// The static pods the container runtime knows; why not, when it cannot be asked: one that takes the question and does
    /// not answer is another matter than one that is not there.
    pub runtime: Result<Vec<PodRun>, Symptom>,
    /// What the container runtime's own process is at, where it is known which one it is.
    pub runtime_work: Option<Work>,
    /// The latest answer to each question, by component.
    pub probes: BTreeMap<ComponentId, Vec<Probe>>,
    /// The latest look at the leases of controller manager and scheduler, and at the node's own under `kubelet`.
    pub leases: BTreeMap<ComponentId, LeaseLook>,
    /// What each etcd member said last about itself and its cluster.
    pub etcd: BTreeMap<ComponentId, EtcdStatus>,
    /// How their databases grew, where that has been watched for some hours.
    pub growth: BTreeMap<ComponentId, Growth>,
    /// What the features report.
    pub notices: Vec<FeatureNotice>,
    /// Whether an image is on the node, by reference; an image that could not be asked for is not in here.
    pub images: BTreeMap<String, ImagePresence>,
    pub kubelet: Kubelet,
    pub node: Node,
}

impl Observation {
    /// How long a kubelet is left alone after its start, on the boot clock: as long as its lease lasts, since before that
    /// nobody can tell whether it renews it; never less than the default, as a short lease makes no start faster.
    pub fn kubelet_pause(&self) -> Duration {
        let look = self.leases.get(&ComponentId::from(HostService::Kubelet));
        let lasts = look.and_then(|look| look.said.as_ref().ok()?.lasts);
        lasts.unwrap_or_default().max(NODE_LEASE)
    }

    /// Whether its process started less than that ago, by us or by the operator.
    pub fn kubelet_is_young(&self) -> bool {
        let started = self.kubelet.process.as_ref().map(|process| process.started);
        started.is_some_and(|started| self.at.boot.saturating_sub(started) < self.kubelet_pause())
    }
}

/// The manifest directory.
#[derive(Clone, Debug)]
pub enum Directory {
    Present {
        /// Every entry the kubelet would look at: names that do not begin with a dot.
        files: BTreeMap<String, Arc<ManifestFile>>,
        /// What became of files that existed there at an earlier look of this run and do not any more.
        gone: BTreeMap<String, Gone>,
    },
    /// It does not exist.
    Missing {
        /// What became of the files that existed there.
        gone: BTreeMap<String, Gone>,
    },
    /// It could not be read: a sentence.
    Unreadable(String),
}

impl Directory {
    /// The entry of that name.
    pub fn file(&self, name: &str) -> Option<&Arc<ManifestFile>> {
        match self {
            Self::Present { files, .. } => files.get(name),
            _ => None,
        }
    }

    pub fn files(&self) -> impl Iterator<Item = &Arc<ManifestFile>> {
        let files = match self {
            Self::Present { files, .. } => Some(files),
            _ => None,
        };
        files.into_iter().flat_map(BTreeMap::values)
    }

    /// What became of a file that is not there: known only if this run of the agent held it open.
    pub fn fate(&self, name: &str) -> Gone {
        match self {
            Self::Present { gone, .. } | Self::Missing { gone } => gone.get(name).cloned().unwrap_or(Gone::Unwitnessed),
            Self::Unreadable(_) => Gone::Unwitnessed,
        }
    }
}

/// How a file left the manifest directory. An open descriptor of it tells: its link count, and its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Gone {
    /// Its last link is gone. A move to another file system looks the same.
    Deleted,
    /// The operator moved it away.
    Moved {
        /// Where to; absent where that cannot be seen from here: another mount of our own mounts, though it is the same file
        /// system, so that no path of ours leads there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<PathBuf>,
    },
    /// It went while nobody watched: before this run of the agent (Q14: what is absent stays absent).
    Unwitnessed,
}

/// Where a file was moved, for a sentence: `moved to PATH`, or what can be said without one.
pub fn whither(to: Option<&std::path::Path>) -> String {
    to.map_or("moved out of sight, to another mount".to_owned(), |to| format!("moved to {}", to.display()))
}

/// One entry of a manifest directory.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    /// Its name in the directory.
    pub name: String,
    /// The pod it holds, or why it holds none.
    pub content: Result<Manifest, FileFault>,
    /// The closure of that pod.
    pub closure: Vec<ClosureFile>,
    /// Names the generation: the decoded pod and its closure. Of a file that holds no pod: of its bytes, as far as read.
    pub digest: Digest,
    /// The newest change (the later of mtime and ctime, so that a copied time stamp does not lie) among the manifest and
    /// the files of the closure that identify the generation.
    pub changed: Timestamp,
    /// Owner of the file, for naming who wrote it.
    pub uid: u32,
    /// Whether it has been deployed unchanged for the quiet time, or may still be in writing.
    pub settled: Settled,
}

/// Whether a file is done being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settled {
    /// Unchanged for the quiet time.
    Yes,
    /// Changed a moment ago.
    NotYet,
}

/// One sandbox of a static pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRun {
    /// Whose pod it is.
    pub component: ComponentId,
    /// `io.kubernetes.pod.uid`: for a static pod, the kubelet's hash of the decoded manifest and its path.
    pub uid: String,
    /// The sandbox's ID.
    pub sandbox: String,
    /// When it was created.
    pub created: Timestamp,
    /// Whether the runtime calls it ready. Ready is not serving.
    pub ready: SandboxState,
    /// Its containers, the latest attempt of each name.
    pub containers: Vec<ContainerRun>,
}

/// A sandbox's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// `SANDBOX_READY`.
    Ready,
    /// `SANDBOX_NOTREADY`: stopped, or broken.
    NotReady,
}

/// The latest attempt of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRun {
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// The attempt: how often it was restarted before.
    pub attempt: u32,
    /// The image as the manifest named it, or as the runtime resolved it.
    pub image: String,
    /// The image's ID in the runtime.
    pub image_id: String,
    pub state: ContainerState,
    /// The command line of its process, when it runs and can be read.
    pub command_line: Option<Vec<String>>,
    /// The last words of its log, when it has exited.
    pub log_tail: Option<String>,
    /// What its process was at, when it runs and can be seen.
    pub work: Option<Work>,
}

/// What a process was at when it was looked at. Between two looks it tells one that works from one that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The state of its threads.
    pub state: ProcessState,
    /// The processor time it has taken since its start.
    pub cpu: Duration,
    /// The bytes it has had read from and written to disks since its start.
    pub io: u64,
    /// When it was looked at, on the boot clock.
    pub at: Duration,
}

/// The state of a process' threads, as `/proc/PID/task/*/stat` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Each of them waits for something to do.
    Runs,
    /// One is on a processor, or waits for its turn on one (R): on a machine that is overloaded a process may get so little
    /// of one that it looks idle.
    AtWork,
    /// It was stopped by a signal or a tracer (T, t).
    Stopped,
    /// A thread is in uninterruptible sleep (D): it waits for a disk, and no signal ends that.
    WaitsForDisk,
}

/// A container's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, not started.
    Created,
    Running {
        started: Timestamp,
    },
    Exited {
        /// When it had started.
        started: Timestamp,
        /// When it ended.
        finished: Timestamp,
        /// Its exit code.
        code: i32,
        /// The runtime's word: Error, Completed, OOMKilled …
        reason: String,
    },
    /// The runtime does not know.
    Unknown,
}

/// Whether an image is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePresence {
    /// It is, under this ID.
    Present {
        /// The runtime's ID of it.
        id: String,
    },
    Absent,
}

/// The kubelet, from outside.
#[derive(Clone, Debug)]
pub struct Kubelet {
    /// Its process, if one runs.
    pub process: Option<KubeletProcess>,
    /// `/healthz` of its health port.
    pub healthz: Reading,
    /// When that was answered, on the boot clock: each answer is one sample, however often it is looked at.
    pub answered: Duration,
    /// What it says about containers it cannot start (`ErrImagePull`, `CreateContainerConfigError` …), by component:
    /// from its `/pods`, which goes dark with the API server.
    pub waiting: BTreeMap<ComponentId, Waiting>,
    /// The last minutes of its log, or why it cannot be read; nothing while nothing is wrong, as it is not read then.
    pub log: Option<Result<Arc<KubeletLog>, String>>,
    /// The file that changed last among its configuration and its flags, and when.
    pub changed: Option<(PathBuf, Timestamp)>,
}

impl Kubelet {
    /// Its log, where it was read.
    pub fn log(&self) -> Option<&KubeletLog> {
        self.log.as_ref()?.as_deref().ok()
    }
}

/// A container the kubelet waits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The pod's UID.
    pub uid: String,
    /// The kubelet's reason word.
    pub reason: String,
    pub message: String,
}

/// The kubelet's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletProcess {
    /// Its process ID.
    pub pid: i32,
    /// When it started, on the boot clock.
    pub started: Duration,
    /// What changed since then among its binary and configuration, if anything: a restart would bring that in (Q15).
    pub changed_since: Option<PathBuf>,
    /// Whether it is known to have heard from an API server since its start, by pods it runs that no file gave it.
    pub heard_api: HeardApi,
    /// The state of its threads.
    pub state: ProcessState,
}

/// Whether the kubelet has reached an API server since it started. Until then it deletes no pod, and a changed static
/// pod waits behind its old self for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeardApi {
    /// A pod that came from the API server was started since.
    Yes,
    CannotTell,
}

/// The machine around it all.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The host's name, which the holders of leases begin with.
    pub host: String,
    /// What is left that makes this node a master: present or missing (Q3).
    pub master: MasterSigns,
    /// Processes of root that must not be disturbed, by what they are (Q6, Q3).
    pub busy: Vec<BusyProcess>,
    /// Who listens on the ports that components need.
    pub listeners: BTreeMap<u16, Listener>,
    /// What kubeadm keeps of manifests that ought to stand and do not, by file name.
    pub set_aside: BTreeMap<String, Vec<SetAside>>,
    /// The etcd data directories that generations name, as they are on disk.
    pub data_dirs: BTreeMap<PathBuf, DataDir>,
    /// By data directory: what keeps an etcd from starting over it, where that is known and none runs.
    pub store_faults: BTreeMap<PathBuf, StoreFault>,
    /// By data directory: the members that its database and raft disagree about, where there are any.
    pub member_conflicts: BTreeMap<PathBuf, Vec<MemberConflict>>,
    /// Why the manifest directory cannot be written, when it cannot (a read-only /etc).
    pub read_only: Option<String>,
    /// The files of ours that a newer lastgood wrote.
    pub newer_state: Vec<NewerFile>,
    /// Whether a command makes this pass because no agent runs.
    pub no_agent: bool,
    /// Every certificate the control plane and the kubelet go by.
    pub certificates: Vec<Certificate>,
    /// The file systems that hold what is needed; empty when they could not be asked.
    pub disks: Vec<Disk>,
    /// What tasks wait for.
    pub pressure: Pressure,
    /// The last jump of the wall clock, while it is recent.
    pub clock_jump: Option<ClockJump>,
    /// The addresses other than this node's own API server that its kubeconfigs name.
    pub endpoints: Vec<Endpoint>,
    /// The processes that have an older certificate in memory than the one on disk.
    pub older_in_use: Vec<OlderInUse>,
    /// A client certificate of the kubelet that its rotation cannot replace.
    pub kubelet_certificate: Option<KubeletCertificate>,
    /// The kubelet's own probes that fail, by component.
    pub failing_probes: BTreeMap<ComponentId, FailingProbe>,
    /// The addresses of its interfaces, and those that its files name and no interface has.
    pub addresses: Addresses,
    /// The cluster that this node's files make it a member of.
    pub cluster: ClusterFiles,
    /// What every sandbox of a pod needs.
    pub sandboxes: SandboxSetup,
    /// The node goes by another name than the one it joined the cluster with.
    pub renamed: Option<Renamed>,
    /// What exists at the hostPath sources that are made where they are absent, and above those that are absent.
    pub host_paths: BTreeMap<PathBuf, PathState>,
    /// The static pod directory that the kubelet reads from its next start on, where that is another one than now.
    pub next_manifests: Option<NextManifests>,
}

/// A node whose name changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The name that a kubelet takes now.
    pub now: String,
    /// What says so: the host name, a flag.
    pub by: String,
    /// The name in the kubelet's client certificate.
    pub joined: String,
}

/// A static pod directory that the running kubelet does not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextManifests {
    /// The directory.
    pub dir: PathBuf,
    /// The file that names it, and that changed after the kubelet started.
    pub named_by: PathBuf,
}

/// What a master has that `kubeadm reset` takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterSigns {
    /// Paths that ought to be there and are not.
    pub missing: Vec<PathBuf>,
}

/// A process at work that we wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusyProcess {
    /// Its process ID.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    pub kind: BusyKind,
}

/// What kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyKind {
    /// `kubeadm upgrade|join|reset|init`: a hold on acting (Q6).
    Kubeadm,
    /// etcdctl or etcdutl: a hold on bringing etcd back (Q3).
    EtcdTool,
    /// `lastgood etcd restore`: etcd's slot stays empty until it ends.
    Restore,
    /// `lastgood etcd compact|defrag|disarm`: a hold on acting, since etcd does not answer while it is defragmented.
    EtcdMaintenance,
}

/// A manifest in one of kubeadm's backup directories: an upgrade moves the old file there before it moves the new one in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    pub path: PathBuf,
    /// Of its bytes.
    pub digest: Digest,
    /// The later of mtime and ctime: the second tells when it was moved there.
    pub changed: Timestamp,
}

/// Who listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its process ID, where it could be found.
    pub pid: Option<i32>,
    pub program: String,
    /// The ID of the container it runs in, if it runs in one.
    pub container: Option<String>,
}
