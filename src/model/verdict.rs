//! Verdicts: one per component, with its evidence and the cause that explains it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::component::HostService;
use super::store_fault::StoreFault;
use super::{ComponentId, EtcdStatus, Role};

/// How a component does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Verdict {
    /// It runs and serves.
    Healthy,
    /// It runs and may still be coming up.
    Starting,
    /// It runs and does not serve.
    Failing,
    /// It runs, takes connections, and answers nobody.
    Stalled,
    /// It does not run.
    Down,
    /// It is unknown. Nothing follows from it.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "Healthy",
            Self::Starting => "Starting",
            Self::Failing => "Failing",
            Self::Stalled => "Stalled",
            Self::Down => "Down",
            Self::Unknown => "Unknown",
        })
    }
}

/// Why a symptom is not this component's fault: what is beneath it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum Cause {
    /// Another component of this node that this one cannot work without.
    Component {
        id: ComponentId,
        /// How that one does.
        verdict: Verdict,
    },
    /// The container runtime does not answer.
    Runtime { detail: String },
    /// The kubelet does not run, so nothing is started or stopped.
    Kubelet { detail: String },
    /// The kubelet cannot make the pod's sandbox, or its container, for a reason outside of the pod.
    Sandbox {
        detail: String,
        /// What the operator can do.
        next_step: String,
    },
    /// A foreign process holds a port this component needs.
    Port {
        port: u16,
        /// Who holds it.
        holder: String,
    },
    /// The cluster as a whole: no leader, no quorum.
    Cluster { detail: String },
    /// A certificate is out of its dates.
    Certificate { detail: String },
    /// A disk it writes to has no room, is read-only, or does not answer: what waits for it cannot be stopped, nor
    /// would it do better again.
    Disk { detail: String },
    /// Key material changed or is missing: never rolled back, so the operator has to look (Q4).
    KeyMaterial {
        /// Which file, and what is wrong with it.
        detail: String,
    },
    /// etcd raised an alarm, NOSPACE or CORRUPT: what is written fails, whoever writes it.
    Alarm {
        /// Which, who raised it, and what that means.
        detail: String,
    },
    /// The address its kubeconfig names for the API server does not answer, while the API server of this node serves.
    Endpoint { detail: String },
    /// An address that its flags bind, or those of what it depends on, is on no interface of this node.
    Address {
        /// Which one, what names it, which addresses the node has, and the next step.
        detail: String,
    },
    /// A directory exists, made when its container started, where its manifest names a file that did not exist.
    HostPath {
        path: PathBuf,
        /// Which flag or volume names it, and what happened.
        detail: String,
        /// What the operator can do.
        next_step: String,
    },
    /// Two sandboxes of it run: the earlier one keeps what the later one needs.
    SecondSandbox {
        /// The earlier one.
        sandbox: String,
        detail: String,
        /// What the operator can do.
        next_step: String,
    },
    /// The kubelet does not start another attempt, although its back-off is over.
    NoAttempt {
        /// The container that has ended.
        container: String,
        /// When its back-off was over.
        due: Timestamp,
        detail: String,
        /// What the operator can do.
        next_step: String,
    },
    /// etcd cannot start over its data, whatever its manifest says.
    Data(Box<StoreFault>),
}

impl Cause {
    /// Whether the manifest itself is at fault, so that waiting explains nothing and a rollback helps.
    pub fn is_of_the_manifest(&self) -> bool {
        matches!(self, Self::HostPath { .. })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component { id, verdict } => write!(f, "{id} is {verdict}"),
            Self::Runtime { detail } => write!(f, "the container runtime does not answer: {detail}"),
            Self::Kubelet { detail } => write!(f, "the kubelet does not work: {detail}"),
            Self::Sandbox { detail, next_step }
            | Self::HostPath { detail, next_step, .. }
            | Self::SecondSandbox { detail, next_step, .. }
            | Self::NoAttempt { detail, next_step, .. } => write!(f, "{detail}; next: {next_step}"),
            Self::Port { port, holder } => write!(f, "port {port} is held by {holder}"),
            Self::Cluster { detail } => write!(f, "the etcd cluster does not serve: {detail}"),
            Self::Certificate { detail } => write!(f, "a certificate is expired or not yet valid: {detail}"),
            Self::KeyMaterial { detail } => write!(f, "key material does not fit: {detail}"),
            Self::Alarm { detail } => write!(f, "etcd raised an alarm: {detail}"),
            Self::Disk { detail } => write!(f, "a disk does not accept its writes: {detail}"),
            Self::Endpoint { detail } => write!(f, "it cannot reach the API server: {detail}"),
            Self::Address { detail } => f.write_str(detail),
            Self::Data(fault) => write!(f, "etcd cannot start over its data: {fault}"),
        }
    }
}

/// Whether the running process is one of the deployed generation in the manifest directory (Q5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reads")]
pub enum Reads {
    /// It started after every file of the closure changed, with the manifest's command line and image.
    All,
    /// It is an older process, or another one; why.
    Other {
        why: String,
    },
    /// It is unknown; why.
    CannotTell {
        why: String,
    },
    Nothing,
}

/// One exit of a component's container that was not seen before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// The pod's UID.
    pub uid: String,
    /// The exit code of the last one; unknown where it was restarted between two looks.
    pub code: Option<i32>,
    /// How many exits these were.
    pub count: u32,
    /// When what ended had begun: its process; where that is not known any more, its sandbox.
    pub began: Timestamp,
    /// The last words of the container's log, where they could be read.
    pub log_tail: Option<String>,
    /// What its process found wrong with its own configuration, right after its start: another attempt ends the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proves: Option<OwnFault>,
}

/// What a process says is wrong with what its manifest gives it, so that no other attempt ends differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnFault {
    /// A flag that it does not know, or one without its value.
    Flag,
    /// A value that a flag does not take.
    Value,
    /// A word that is no flag.
    Argument,
    /// A configuration that it cannot decode, or that contradicts itself.
    Configuration,
    /// A file that a flag names and that does not exist or does not hold what it should.
    File,
}

impl fmt::Display for OwnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "its process does not know one of its flags",
            Self::Value => "its process refuses the value of a flag",
            Self::Argument => "its process refuses an argument that is no flag",
            Self::Configuration => "its process refuses its configuration",
            Self::File => "its process cannot use a file that a flag names",
        })
    }
}

/// What about the present state of a component only costs time: lastgood can end it sooner than the kubelet does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "delay")]
pub enum Delay {
    /// A process of an earlier manifest runs on, and has closed the port that it had open.
    PortClosed {
        container: String,
        /// For how long it has refused connections, in watched time.
        lasted: Duration,
    },
    /// Its container waits in back-off for an outage of its dependency that is over.
    BackOff {
        container: String,
        /// For how long it has been seen to wait, in watched time.
        lasted: Duration,
        /// Which component was away.
        dependency: ComponentId,
        /// The last words of its log: they go with the container.
        log_tail: Option<String>,
    },
}

impl Crash {
    /// Whether it ended because it could not renew its lease in time: controller manager and scheduler end themselves
    /// then. An API server that was slow for ten seconds is enough for that, and may answer every probe of ours.
    pub fn lost_its_lease(&self) -> bool {
        // "leaderelection lost" (both), "lost lease" (kube-scheduler's error behind it).
        let words = self.log_tail.as_deref().unwrap_or_default().to_lowercase();
        words.contains("leaderelection lost") || words.contains("lost lease")
    }

    /// How many of these exits are its own doing. One that lost its lease is judged by whether it comes back.
    pub fn own(&self) -> u32 {
        if self.lost_its_lease() { self.count.saturating_sub(1) } else { self.count }
    }
}

/// A process that runs and does not get on: which, and what it is at instead. What may be done about it goes by that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Its container: stopped, the kubelet starts it again.
    pub container: String,
    /// What it is at.
    pub at: ProcessActivity,
}

/// What a process that does not answer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessActivity {
    /// It was stopped by a signal.
    Stopped,
    /// It takes no processor time and touches no disk.
    Idle,
    /// It works at something.
    Busy,
    /// It answers, and does none of its work.
    Nothing,
    /// A thread of it waits for its disk.
    WaitsForDisk,
    /// It cannot be seen.
    Unseen,
}

impl fmt::Display for ProcessActivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "its process is stopped by a signal",
            Self::Idle => "its process takes no processor time and touches no disk",
            Self::Busy => "its process is busy",
            Self::Nothing => "its process answers but makes no progress",
            Self::WaitsForDisk => "its process waits for its disk",
            Self::Unseen => "the activity of its process is unknown",
        })
    }
}

/// The kubelet, or the container runtime, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    pub verdict: Verdict,
    /// How long it has done so, in watched time.
    pub watched: Duration,
    /// The evidence of the verdict.
    pub evidence: String,
    /// What the operator can do, where the evidence says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Its process ends again and again right after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_loop: Option<CrashLoop>,
}

impl Default for ServiceState {
    fn default() -> Self {
        Self {
            verdict: Verdict::Unknown,
            watched: Duration::ZERO,
            evidence: String::new(),
            next_step: None,
            crash_loop: None,
        }
    }
}

/// A service whose process ends again and again right after its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashLoop {
    /// How often in the last minutes.
    pub times: u32,
    /// The first of these times.
    pub since: Option<Timestamp>,
    /// The exit status of the last one, as the service manager writes it.
    pub status: Option<String>,
    /// What its log gives as the reason.
    pub reason: Option<String>,
    /// The file of its configuration that changed last, and when.
    pub changed: Option<(PathBuf, Timestamp)>,
    /// What the operator can do.
    pub next_step: String,
}

impl fmt::Display for CrashLoop {
    /// Without what differs from one end to the next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its process exits again and again")?;
        if let Some(status) = &self.status {
            write!(f, " (exit status {status})")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        if let Some((path, at)) = &self.changed {
            write!(f, "; {} changed at {at:.0}", path.display())?;
        }
        Ok(())
    }
}

/// One component, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// What it is to the others.
    pub role: Role,
    pub health: Health,
    /// Since when it does so, for people.
    pub since: Timestamp,
    /// How long it has done so, in watched time.
    pub watched: Duration,
    /// Whether it answered at this very pass: serving is less than Healthy, which wants more than one good answer.
    pub serving: bool,
    /// The evidence of the verdict.
    pub evidence: Vec<String>,
    /// What explains it, if it is not its own doing.
    pub cause: Option<Cause>,
    /// Exits first seen at this pass of a process that had read what is deployed now.
    pub crash: Option<Crash>,
    /// The UID of the newest pod of this component, if one exists.
    pub uid: Option<String>,
    /// Whether the process that was looked at has read what is deployed in the directory (Q5).
    pub reads: Reads,
    /// Whether its container ended because an address that it listens on was taken.
    #[serde(default)]
    pub address_in_use: bool,
    /// What only costs time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
}

impl Assessment {
    pub fn verdict(&self) -> Verdict {
        self.health.verdict()
    }

    /// A dependent that is unhealthy although it did not change (Q13): only of one that is healthy itself.
    pub fn breaks_dependent(&self) -> Option<&ComponentId> {
        match &self.health {
            Health::Healthy { breaks_dependent } => breaks_dependent.as_ref(),
            _ => None,
        }
    }

    /// The process that is stalled.
    pub fn stall(&self) -> Option<&Stall> {
        match &self.health {
            Health::Stalled { process } => process.as_ref(),
            _ => None,
        }
    }
}

/// A verdict, with what is known under it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Health {
    Healthy {
        /// A dependent that is unhealthy although it did not change (Q13).
        breaks_dependent: Option<ComponentId>,
    },
    Starting,
    Failing,
    Stalled {
        /// Absent where its container is unknown.
        process: Option<Stall>,
    },
    Down,
    Unknown,
}

impl Health {
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Healthy { .. } => Verdict::Healthy,
            Self::Starting => Verdict::Starting,
            Self::Failing => Verdict::Failing,
            Self::Stalled { .. } => Verdict::Stalled,
            Self::Down => Verdict::Down,
            Self::Unknown => Verdict::Unknown,
        }
    }
}

impl From<Verdict> for Health {
    /// With nothing known besides.
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Healthy => Self::Healthy { breaks_dependent: None },
            Verdict::Starting => Self::Starting,
            Verdict::Failing => Self::Failing,
            Verdict::Stalled => Self::Stalled { process: None },
            Verdict::Down => Self::Down,
            Verdict::Unknown => Self::Unknown,
        }
    }
}

/// What one pass means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Every component of the manifest directory and of the memory.
    pub components: BTreeMap<ComponentId, Assessment>,
    pub kubelet: ServiceState,
    /// The container runtime.
    pub runtime: ServiceState,
    /// What each etcd member said of itself, next to the sentences made of it.
    #[serde(default)]
    pub etcd: BTreeMap<ComponentId, EtcdStatus>,
}

impl Judgement {
    /// How a component does; Unknown where it was not judged.
    pub fn verdict(&self, id: &ComponentId) -> Verdict {
        self.components.get(id).map_or(Verdict::Unknown, Assessment::verdict)
    }

    /// How a service of the host does.
    pub fn service(&self, service: HostService) -> &ServiceState {
        match service {
            HostService::Kubelet => &self.kubelet,
            HostService::ContainerRuntime => &self.runtime,
        }
    }
}
