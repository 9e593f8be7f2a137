//! The plan: steps in order, each safe to repeat. Also the requests that the operator can make.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observation::ManifestFile;
use super::{ComponentId, Event, Memory};

/// What follows from one pass.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The memory as it has to be on disk before the first step is taken: the intent.
    pub memory: Memory,
    /// The steps, in order. The first that fails ends the pass; the next pass wants it again.
    pub plan: Vec<Step>,
    /// What changed, to be reported.
    pub events: Vec<Event>,
}

/// One action. act takes it and says how it went.
#[derive(Clone, Debug)]
pub enum Step {
    /// Keep a generation: its manifest and the configuration files of its closure, as they were observed.
    Capture {
        component: ComponentId,
        /// Under which number.
        number: u32,
        /// The manifest as it was read, and its closure.
        file: Arc<ManifestFile>,
    },
    /// Have a known-good generation's manifest in inactive-manifests, under its own file name.
    Publish {
        component: ComponentId,
        number: u32,
        /// Its file name.
        file_name: String,
    },
    /// Take a file out of the manifest directory, its successor lying synced in staging before (Q11).
    TakeOut {
        component: ComponentId,
        file_name: String,
        /// The generation that will fill the slot.
        successor: u32,
        /// Under which name it will.
        successor_name: String,
    },
    /// Take kube-apiserver's manifest out and keep it out, the generation lying synced next to it: nothing but another
    /// decision puts it in.
    Withhold {
        component: ComponentId,
        /// Which generation comes back some time.
        number: u32,
        file_name: String,
    },
    /// Put a generation's manifest into the manifest directory by one rename. What is there is kept aside.
    PutIn {
        component: ComponentId,
        number: u32,
        /// Under which name.
        file_name: String,
    },
    /// Put back one configuration file of a generation's closure. What is there is kept aside.
    RestoreFile {
        component: ComponentId,
        /// Of which generation.
        number: u32,
        path: PathBuf,
    },
    /// Remove an empty directory that was made for the pod of a generation that failed, by rmdir(2).
    RemoveDirectory {
        component: ComponentId,
        /// The generation that it was made for.
        number: u32,
        path: PathBuf,
    },
    /// Move a file that claims another's pod out of the manifest directory, and keep it.
    MoveOut {
        /// Whose pod it claims.
        component: ComponentId,
        file_name: String,
    },
    /// Stop a container through CRI, with this much grace.
    StopContainer {
        component: ComponentId,
        /// The container's ID.
        container: String,
        /// Between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Remove an exited container through CRI: the kubelet takes a component's back-off from it, and starts another at once.
    RemoveContainer {
        component: ComponentId,
        /// The container's ID.
        container: String,
    },
    /// Stop a sandbox through CRI.
    StopSandbox {
        component: ComponentId,
        /// The sandbox's ID.
        sandbox: String,
    },
    /// Set aside the memory and the generations of a cluster that this node belonged to before.
    SetMemoryAside,
    /// Restart the kubelet by the configured command.
    RestartKubelet,
    /// Restart the container runtime by the configured command. Containers run on.
    RestartRuntime,
    /// Forget a generation's bytes: it is beyond what is kept.
    Forget { component: ComponentId, number: u32 },
}

impl Step {
    /// The kinds that change the node ([`Step::touches_node`]).
    pub const KINDS_ON_NODE: [&str; 11] = [
        "take-out",
        "withhold",
        "put-in",
        "restore-file",
        "remove-directory",
        "move-out",
        "stop-container",
        "remove-container",
        "stop-sandbox",
        "restart-kubelet",
        "restart-runtime",
    ];

    /// Its kind as one word, for whoever counts them.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Capture { .. } => "capture",
            Self::Publish { .. } => "publish",
            Self::TakeOut { .. } => "take-out",
            Self::Withhold { .. } => "withhold",
            Self::PutIn { .. } => "put-in",
            Self::RestoreFile { .. } => "restore-file",
            Self::RemoveDirectory { .. } => "remove-directory",
            Self::MoveOut { .. } => "move-out",
            Self::StopContainer { .. } => "stop-container",
            Self::RemoveContainer { .. } => "remove-container",
            Self::StopSandbox { .. } => "stop-sandbox",
            Self::SetMemoryAside => "set-memory-aside",
            Self::RestartKubelet => "restart-kubelet",
            Self::RestartRuntime => "restart-runtime",
            Self::Forget { .. } => "forget",
        }
    }

    /// Whether the step changes the node, and not only what is ours.
    pub fn touches_node(&self) -> bool {
        !matches!(self, Self::Capture { .. } | Self::Publish { .. } | Self::Forget { .. } | Self::SetMemoryAside)
    }

    /// Whether the step must not be taken unless the memory that wants it is on disk: one that leaves something undone
    /// behind it. A good file put in by one rename leaves nothing undone, and a full disk must not keep it away.
    pub fn needs_intent(&self) -> bool {
        self.touches_node() && !matches!(self, Self::PutIn { .. } | Self::RestoreFile { .. })
    }

    /// Whose step it is.
    pub fn component(&self) -> Option<&ComponentId> {
        match self {
            Self::Capture { component, .. }
            | Self::Publish { component, .. }
            | Self::TakeOut { component, .. }
            | Self::Withhold { component, .. }
            | Self::PutIn { component, .. }
            | Self::RestoreFile { component, .. }
            | Self::RemoveDirectory { component, .. }
            | Self::MoveOut { component, .. }
            | Self::StopContainer { component, .. }
            | Self::RemoveContainer { component, .. }
            | Self::StopSandbox { component, .. }
            | Self::Forget { component, .. } => Some(component),
            Self::SetMemoryAside | Self::RestartKubelet | Self::RestartRuntime => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture { number, file, .. } => write!(f, "keep {} as generation {number}", file.name),
            Self::Publish { number, file_name, .. } => {
                write!(f, "write generation {number} to inactive-manifests as {file_name}")
            }
            Self::TakeOut { file_name, successor, .. } => {
                write!(f, "take {file_name} out, generation {successor} staged in its place")
            }
            Self::Withhold { number, file_name, .. } => {
                write!(f, "take {file_name} out and keep it out, with generation {number} stored next to it")
            }
            Self::PutIn { number, file_name, .. } => write!(f, "put generation {number} in place as {file_name}"),
            Self::RestoreFile { number, path, .. } => {
                write!(f, "put {} of generation {number} back", path.display())
            }
            Self::RemoveDirectory { number, path, .. } => {
                write!(f, "remove the empty directory {}, made for generation {number}", path.display())
            }
            Self::MoveOut { file_name, .. } => write!(f, "move {file_name} out of the manifest directory"),
            Self::StopContainer { container, grace, .. } => {
                write!(f, "stop container {} within {} s", short(container), grace.as_secs())
            }
            Self::RemoveContainer { container, .. } => write!(f, "remove exited container {}", short(container)),
            Self::StopSandbox { sandbox, .. } => write!(f, "stop sandbox {}", short(sandbox)),
            Self::SetMemoryAside => f.write_str("set the memory and the generations aside"),
            Self::RestartKubelet => f.write_str("restart the kubelet"),
            Self::RestartRuntime => f.write_str("restart the container runtime"),
            Self::Forget { number, .. } => write!(f, "forget generation {number}"),
        }
    }
}

/// The first twelve characters of a runtime's ID, as crictl shows them.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// What the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Request {
    /// Put an earlier generation in place of what is deployed.
    Rollback {
        component: ComponentId,
        /// To which; the newest known-good one that does not stand, when absent.
        to: Option<u32>,
    },
    /// Stop acting, never observing, for a while.
    Pause {
        /// For how long, in seconds.
        seconds: u64,
        reason: String,
    },
    /// What is deployed is good: the operator says so, without a soak.
    Checkpoint {
        component: ComponentId,
        /// Why they think so.
        reason: String,
    },
    /// A quarantined generation may be tried again.
    Release {
        component: ComponentId,
        /// Which; the newest quarantined one, when absent.
        number: Option<u32>,
    },
    /// A rollback goes to this generation from now on, which is never forgotten.
    Pin {
        component: ComponentId,
        /// Which; what is deployed if that is known-good, else the newest known-good one, when absent.
        number: Option<u32>,
        reason: String,
    },
    /// A rollback goes to the newest known-good generation again.
    Unpin { component: ComponentId },
    /// A generation is bad: the operator says so. If it is deployed, it is reverted at once.
    Quarantine {
        component: ComponentId,
        /// Which; what is deployed, when absent.
        number: Option<u32>,
        /// Why they think so.
        reason: String,
    },
    /// Take etcd's manifest out, and kube-apiserver's, while a restore works on its data. What is deployed comes back
    /// when the process that restores ends, however it does.
    Suspend {
        component: ComponentId,
        /// The longest, in seconds.
        seconds: u64,
        reason: String,
    },
    /// The data that etcd serves are right, although they are not those on record.
    AcceptData {
        /// Whose; the etcd that serves wrong data, when absent.
        component: Option<ComponentId>,
    },
    /// Act again; releases what is held, one component or all.
    Resume { component: Option<ComponentId> },
}

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "refused")]
pub enum Refusal {
    /// No such component on this node.
    #[error("no component {asked} on this node; there are: {known}")]
    NoSuchComponent {
        /// What was asked for.
        asked: String,
        /// The names there are.
        known: String,
    },
    /// No such generation, or one that cannot be put back.
    #[error("{component} cannot be rolled back to generation {number}: {why}")]
    NotThisGeneration { component: ComponentId, number: u32, why: String },
    /// A generation that this cannot be said of.
    #[error("generation {number} of {component} cannot be {asked}: {why}")]
    NotSo {
        component: ComponentId,
        number: u32,
        /// What it was to become: pinned, quarantined, released.
        asked: String,
        why: String,
    },
    /// Nothing to roll back to.
    #[error("{component} has no generation to roll back to: {why}")]
    NoTarget { component: ComponentId, why: String },
    /// Not in this state.
    #[error("{component} is {state}: {why}")]
    NotNow {
        component: ComponentId,
        state: String,
        /// Why that excludes the request.
        why: String,
    },
    /// The agent does not act at present.
    #[error("lastgood does not act now: {why}")]
    NotActing { why: String },
}

impl Refusal {
    /// For a component that is not there, with the names of those that are.
    pub fn no_such_component<'a>(asked: &ComponentId, known: impl Iterator<Item = &'a ComponentId>) -> Self {
        let known: Vec<String> = known.map(ToString::to_string).collect();
        Self::NoSuchComponent { asked: asked.to_string(), known: known.join(", ") }
    }
}
