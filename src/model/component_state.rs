//! The state machine of a component. Data are inside the state they belong to.
//!
//! ```text
//!            first sight                     healthy for the soak, by a process that read it
//!   Adopting ───────────────────────────────────────────────────────▶ Steady(good) ◀──────────────┐
//!                                                                      │   │   ▲                   │
//!             a configuration file changed under a running process     │   │   │ healthy for       │
//!                                   ┌────────────────────── Unread ◀───┘   │   │ the soak          │
//!                                   │ a process reads it                   │   │                   │
//!                                   ▼              manifest changed        │   │                   │
//!                               Probation(candidate, good, …) ◀────────────┘───┘                   │
//!                                   │ crashes, deadline, relapse; no dependency explains it       │
//!                                   ▼                                                             │
//!        Missing ── grace ──▶ Replacing(purpose, to, stage) ── serving ───────────────────────────┘
//!                                   │ budget, no target, known-good fails too
//!                                   ▼
//!                               Held(why, next step): until `resume`, or another manifest
//! ```
//!
//! Replacing also moves duplicates out, returns a missing manifest, and suspends etcd during a restore of its data. The
//! operator reads "RollingBack", and "Suspended" during a restore. Every duration here is observed time (Q14). `good` is the
//! generation that was deployed before; if the operator pinned another one, a roll back deploys that one instead
//! (`memory::Record::goes_back_to`).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::observation::Gone;

/// A component's place in the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ComponentState {
    /// Nothing is known-good yet; what is deployed is watched for the first soak.
    Adopting {
        /// The deployed generation.
        candidate: u32,
        /// Health so far.
        healthy: Duration,
    },
    /// What is deployed is known-good.
    Steady { good: u32 },
    /// A configuration file changed under a process that has not read it: nothing is proven or disproven yet.
    Unread {
        /// The deployed generation.
        candidate: u32,
        /// The one that runs.
        good: u32,
        /// How long ago it changed.
        age: Duration,
    },
    /// A candidate runs.
    Probation(Probation),
    /// A manifest is being put in place.
    Replacing(Replacement),
    /// The manifest is gone.
    Missing {
        /// What would come back.
        good: u32,
        how: Gone,
        /// Since when, by the wall clock.
        since: Timestamp,
        /// For how long, in watched time in which the agent was free to act.
        age: Duration,
    },
    /// Nothing is done until the operator does something.
    Held(Held),
}

/// A candidate's trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// The generation on trial.
    pub candidate: u32,
    /// The known-good one that was deployed before.
    pub good: u32,
    /// Since the change, less the time a dependency explains.
    pub age: Duration,
    /// Health so far; begins again when it ends early.
    pub healthy: Duration,
    /// How long it has been bad after it had served.
    pub failing: Duration,
    /// Crashes that no dependency explains.
    pub crashes: u32,
    /// Whether it ever served.
    pub served: Served,
    /// How long a dependent has done badly since (Q13).
    pub harm: Duration,
    /// How long the kubelet has not started it at all.
    pub unstarted: Duration,
    /// How long its sandbox has existed without a container while its image was not on the node.
    #[serde(default)]
    pub imageless: Duration,
}

/// Whether a candidate ever answered as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Served {
    Yes,
    NotYet,
}

impl Probation {
    /// A trial that begins now.
    pub fn begin(candidate: u32, good: u32) -> Self {
        Self {
            candidate,
            good,
            age: Duration::ZERO,
            healthy: Duration::ZERO,
            failing: Duration::ZERO,
            crashes: 0,
            served: Served::NotYet,
            harm: Duration::ZERO,
            unstarted: Duration::ZERO,
            imageless: Duration::ZERO,
        }
    }
}

/// A manifest that is being put in place of what is deployed, or of nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    pub purpose: Purpose,
    /// The generation that is deployed at the end.
    pub to: u32,
    /// The evidence, as a sentence.
    pub why: String,
    /// How it is done.
    pub method: Method,
    /// How far it is.
    pub stage: Stage,
    /// How long it has been in this stage.
    pub in_stage: Duration,
}

/// What a replacement is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "purpose")]
pub enum Purpose {
    /// An earlier generation replaces what is deployed.
    RollBack {
        /// What was deployed: absent when nothing that decodes to a pod was.
        from: Option<u32>,
        initiator: Initiator,
    },
    /// What is deployed stays, and other files that define the same pod are moved out.
    MoveOutDuplicates {
        /// Their names.
        files: Vec<String>,
    },
    /// A manifest that went missing returns.
    RestoreMissing,
    /// The operator restores the data: what is deployed leaves meanwhile, and returns.
    Suspend {
        /// The longest that the manifest is out, whatever becomes of the restore (Q11).
        longest: Duration,
    },
}

impl Replacement {
    /// One that begins by removing what is deployed.
    pub fn new(purpose: Purpose, to: u32, why: impl Into<String>) -> Self {
        let (method, stage) = (Method::RemoveThenAdd, Stage::TakingOut);
        Self { purpose, to, why: why.into(), method, stage, in_stage: Duration::ZERO }
    }

    /// Goes on to a stage, whose time begins now.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.in_stage = Duration::ZERO;
    }

    /// The generation that was deployed, if there was one and it leaves.
    pub fn from(&self) -> Option<u32> {
        match self.purpose {
            Purpose::RollBack { from, .. } => from,
            Purpose::Suspend { .. } => Some(self.to),
            Purpose::MoveOutDuplicates { .. } | Purpose::RestoreMissing => None,
        }
    }

    pub fn initiator(&self) -> Initiator {
        self.purpose.initiator()
    }

    /// The other files that define the pod: those it is about, or those that appeared meanwhile.
    pub fn duplicates(&self) -> &[String] {
        match (self.stage.startup(), &self.purpose) {
            (Some(Startup { duplicates, .. }), _) if !duplicates.is_empty() => duplicates,
            (_, Purpose::MoveOutDuplicates { files }) => files,
            (_, Purpose::RollBack { .. } | Purpose::RestoreMissing | Purpose::Suspend { .. }) => &[],
        }
    }

    /// For how long the manifest may be out at the operator's request.
    pub fn suspended_for(&self) -> Option<Duration> {
        match self.purpose {
            Purpose::Suspend { longest } => Some(longest),
            Purpose::RollBack { .. } | Purpose::MoveOutDuplicates { .. } | Purpose::RestoreMissing => None,
        }
    }
}

impl Purpose {
    /// A roll back that the agent decided on.
    pub fn roll_back(from: Option<u32>) -> Self {
        Self::RollBack { from, initiator: Initiator::Agent }
    }

    pub fn initiator(&self) -> Initiator {
        match self {
            Self::RollBack { initiator, .. } => *initiator,
            Self::MoveOutDuplicates { .. } | Self::RestoreMissing => Initiator::Agent,
            Self::Suspend { .. } => Initiator::Operator,
        }
    }
}

/// Who decided on a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initiator {
    /// The agent itself.
    Agent,
    /// The operator, by a request.
    Operator,
}

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// By one rename: the kubelet delays a changed pod for 10 to 15 s, one that is unchanged or gone not at all.
    Rename,
    /// Out, sandbox gone, a second more, in: 0.6 s from the write, for a pod that serves nobody anyway.
    RemoveThenAdd,
    /// By one rename, old sandbox stopped through CRI, kubelet restarted: for a kubelet that started without an API
    /// server.
    RenameAndRestartKubelet,
}

/// How far a replacement is, in the order of the stages. Which of them it passes depends on the method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// kube-apiserver is taken out before etcd is touched, and its pod is awaited to end.
    StoppingApiServer,
    /// The failed file, or duplicates, are to leave the directory.
    TakingOut,
    /// They have left; the sandbox is to go.
    AwaitingGone,
    /// It has gone; the kubelet needs a moment for its bookkeeping.
    Settling,
    /// The manifest is out, and the operator's restore goes on.
    Suspended,
    /// The good file is to be put in.
    PuttingIn,
    /// It is deployed; the old sandbox is stopped through CRI.
    StoppingOld(Startup),
    /// The kubelet is restarted.
    RestartingKubelet(Startup),
    /// The good pod is to serve.
    AwaitingServing { startup: Startup, kubelet_restarted: KubeletRestarted },
}

/// What was seen of a generation since it was put in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup {
    /// Crashes that no dependency explains.
    pub crashes: u32,
    pub seen_in_place: SeenInPlace,
    /// Other files that define the pod, found where it was to be and moved out.
    pub duplicates: Vec<String>,
}

impl Stage {
    /// The good pod is to serve, and nothing was seen of it yet.
    pub fn awaiting_serving() -> Self {
        Self::AwaitingServing { startup: Startup::default(), kubelet_restarted: KubeletRestarted::NotYet }
    }

    /// Whether nothing of the component was touched before this stage.
    pub fn is_first_step(&self) -> bool {
        matches!(self, Self::StoppingApiServer | Self::TakingOut)
    }

    /// Whether the manifest may be out of the directory.
    pub fn may_be_out(&self) -> bool {
        match self {
            Self::TakingOut | Self::AwaitingGone | Self::Settling | Self::Suspended | Self::PuttingIn => true,
            Self::StoppingApiServer => false,
            Self::StoppingOld(_) | Self::RestartingKubelet(_) | Self::AwaitingServing { .. } => false,
        }
    }

    /// What was seen since the good file was put in, in the stages after that.
    pub fn startup(&self) -> Option<&Startup> {
        match self {
            Self::StoppingOld(startup) | Self::RestartingKubelet(startup) => Some(startup),
            Self::AwaitingServing { startup, .. } => Some(startup),
            Self::StoppingApiServer | Self::TakingOut | Self::AwaitingGone => None,
            Self::Settling | Self::Suspended | Self::PuttingIn => None,
        }
    }
}

/// Whether the good file has been in its place, seen there or put there by a step that succeeded: what becomes of it
/// afterwards is somebody else's action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenInPlace {
    Yes,
    /// Not since it was to be put in.
    #[default]
    NotYet,
}

/// Whether the kubelet was restarted for this replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeletRestarted {
    /// Once, which is enough.
    Yes,
    NotYet,
}

/// Why nothing is done any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What is deployed, if a pod does: another one releases.
    pub over: Option<u32>,
    /// The known-good generation, if there is one.
    pub good: Option<u32>,
    /// The evidence, as a sentence.
    pub why: String,
    /// What the operator should do.
    pub next_step: String,
    /// What lifts it besides the operator.
    pub until: Until,
}

/// What releases a held component besides `resume` and a changed manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "until", content = "what")]
pub enum Until {
    Person,
    /// These images being on the node.
    Images(Vec<String>),
    /// etcd serving the data on record.
    RightData,
}

impl ComponentState {
    /// The known-good generation this slot falls back to, if it has one.
    pub fn good(&self) -> Option<u32> {
        match self {
            Self::Adopting { .. } => None,
            Self::Steady { good } | Self::Unread { good, .. } | Self::Missing { good, .. } => Some(*good),
            Self::Probation(probation) => Some(probation.good),
            Self::Replacing(replacement) => Some(replacement.to),
            Self::Held(held) => held.good,
        }
    }

    /// The word for tables and the journal.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Adopting { .. } => "Adopting",
            Self::Steady { .. } => "Steady",
            Self::Unread { .. } => "Unread",
            Self::Probation(_) => "Probation",
            Self::Replacing(replacement) if replacement.suspended_for().is_some() => "Suspended",
            Self::Replacing(_) => "RollingBack",
            Self::Missing { .. } => "Missing",
            Self::Held(_) => "Held",
        }
    }
}

impl fmt::Display for ComponentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopting { candidate, .. } => write!(f, "Adopting(generation {candidate})"),
            Self::Steady { good } => write!(f, "Steady(generation {good})"),
            Self::Unread { candidate, .. } => write!(f, "Unread(generation {candidate})"),
            Self::Probation(p) => write!(f, "Probation(generation {})", p.candidate),
            Self::Replacing(r) if r.suspended_for().is_some() => write!(f, "Suspended(generation {} comes back)", r.to),
            Self::Replacing(r) => write!(f, "RollingBack(to generation {})", r.to),
            Self::Missing { .. } => f.write_str("Missing"),
            Self::Held(_) => f.write_str("Held"),
        }
    }
}
