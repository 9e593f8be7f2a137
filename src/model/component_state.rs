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
//!        Missing ── grace ──▶ RollingBack(from, to, stage) ── serving ────────────────────────────┘
//!                                   │ budget, no target, known-good fails too
//!                                   ▼
//!                               Held(why, next step): until `resume`, or another manifest
//! ```
//!
//! A restore of etcd takes the path of RollingBack to the deployed generation, with a pause while the manifest is out:
//! Vacated. Every duration here is observed time (Q14). `good` is the generation that was deployed before; if the
//! operator pinned another one, a rollback deploys that one instead (`memory::Record::goes_back_to`).

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
    /// An earlier generation is being put in place of one that failed.
    RollingBack(Rollback),
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

/// A replacement under way. The stages are in order; which of them are passed depends on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// What was deployed: absent when nothing that decodes to a pod did.
    pub from: Option<u32>,
    /// What is put in its place.
    pub to: u32,
    /// The evidence, as a sentence.
    pub why: String,
    /// Whose wish it is.
    pub wish: Wish,
    /// How it is done.
    pub way: Way,
    /// Files of other names that claim the pod, moved out first.
    pub intruders: Vec<String>,
    /// How far it is.
    pub stage: Stage,
    /// How long it has been in this stage.
    pub in_stage: Duration,
    /// Crashes of the restored generation that no dependency explains.
    pub crashes: u32,
    /// Whether the kubelet was already nudged.
    pub nudged: Nudged,
    /// Whether what was put in has been seen to stand. Left out until then, so that a memory from before is read as it was.
    #[serde(default, skip_serializing_if = "Stood::is_not_yet")]
    pub stood: Stood,
    /// Where it is no replacement, and the slot is empty for a while because the operator needs it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacated: Option<Vacated>,
}

impl Rollback {
    /// lastgood's own replacement by a generation, for a reason: in two steps, from the first of them on.
    pub fn to(to: u32, why: impl Into<String>) -> Self {
        Self {
            from: None,
            to,
            why: why.into(),
            wish: Wish::Ours,
            way: Way::TwoSteps,
            intruders: Vec::new(),
            stage: Stage::TakingOut,
            in_stage: Duration::ZERO,
            crashes: 0,
            nudged: Nudged::NotYet,
            stood: Stood::NotYet,
            vacated: None,
        }
    }

    /// Goes on to a stage, whose time begins now.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.in_stage = Duration::ZERO;
    }
}

/// A slot that is empty for the operator's work on the data (a restore), and filled again after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vacated {
    /// The longest it stays empty, whatever becomes of the work (Q11).
    pub longest: Duration,
}

/// Who wants a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// The agent's own decision.
    Ours,
    /// The operator's request.
    Operator,
}

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// By one rename: the kubelet parks a changed pod for 10 to 15 s, one that is unchanged or gone not at all.
    InPlace,
    /// Out, sandbox gone, a second more, in: 0.6 s from the write, for a pod that serves nobody anyway.
    TwoSteps,
    /// In place, old sandbox stopped through CRI, kubelet restarted: for a kubelet that started without an API server.
    Restart,
}

/// How far a rollback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// kube-apiserver is taken out before etcd is touched, and its pod is awaited to end.
    Parking,
    /// The failed file, or intruders, are to leave the directory.
    TakingOut,
    /// They have left; the sandbox is to go.
    AwaitingGone,
    /// It has gone; the kubelet needs a moment for its bookkeeping.
    Settling,
    /// The slot is empty, and the operator's work goes on.
    Vacant,
    /// The good file is to be put in.
    PuttingIn,
    /// It is deployed; the old sandbox is stopped through CRI.
    StoppingOld,
    /// The kubelet is restarted.
    Nudging,
    /// The good pod is to serve.
    AwaitingServing,
}

/// Whether the good file has been seen in its place: what becomes of it afterwards is somebody else's action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stood {
    Yes,
    /// Not since it was to be put in.
    #[default]
    NotYet,
}

impl Stood {
    fn is_not_yet(&self) -> bool {
        *self == Self::NotYet
    }
}

/// Whether the kubelet was restarted for this rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nudged {
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
            Self::RollingBack(rollback) => Some(rollback.to),
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
            Self::RollingBack(Rollback { vacated: Some(_), .. }) => "Vacated",
            Self::RollingBack(_) => "RollingBack",
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
            Self::RollingBack(r) if r.vacated.is_some() => write!(f, "Vacated(generation {} comes back)", r.to),
            Self::RollingBack(r) => write!(f, "RollingBack(to generation {})", r.to),
            Self::Missing { .. } => f.write_str("Missing"),
            Self::Held(_) => f.write_str("Held"),
        }
    }
}
