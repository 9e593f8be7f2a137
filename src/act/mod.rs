//! The hands: the only code that changes the node. One step in, one [`Outcome`] out, each safe to repeat.
//!
//! ```text
//!   Step ──▶ look again (Q15) ──▶ deed ──▶ Done        what was done
//!                 │                  │     Nothing     it was so already
//!                 ▼                  ▼     Failed      why not; the next pass wants it again
//!              Refused: the node is not as decide saw it, the next pass looks again
//! ```
//!
//! Manifests come and go by rename, from and to the staging directory beside them ([`staging`]); a slot that is emptied
//! has its successor lying there first, and [`finish_interrupted`] fills it whatever became of the agent (Q11).

mod closure;
mod kubelet;
mod manifests;
mod publish;
mod runtime;
mod slots;
mod staging;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Settings;
use crate::model::{FileState, Memory, Observation, Step};
use crate::record::Guard;

pub use slots::{fill_slots, finish_interrupted};

/// How a step went. Each carries a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was done.
    Done(String),
    /// It was so already.
    Nothing(String),
    /// The node is not as decide saw it (Q15): nothing was done.
    Refused(String),
    /// It was tried and did not come about.
    Failed(String),
}

/// How act looks at a file of a closure again: with the eyes of observe, so that both mean the same by "key material".
pub type Look = Arc<dyn Fn(&Path) -> FileState + Send + Sync>;

/// What was found out about the node that the settings may leave open.
#[derive(Clone)]
pub struct Surroundings {
    /// The directory the kubelet reads static pods from.
    pub manifests: PathBuf,
    /// The container runtime's socket, `unix:///…`, if there is one.
    pub runtime: Option<String>,
    /// How to look at a file of a closure.
    pub look: Look,
}

/// The hands.
#[derive(Debug)]
pub struct Hands {
    settings: Settings,
    surroundings: Surroundings,
}

impl Hands {
    /// Hands for this node. Nothing is touched yet.
    pub fn new(settings: &Settings, surroundings: Surroundings) -> Self {
        Self { settings: settings.clone(), surroundings }
    }

    /// Takes one step.
    ///
    /// File work is done on the calling thread: it is small, and nothing else may happen before it is done. What waits
    /// for others (runtime, kubelet) is awaited, with a deadline.
    pub async fn take(&mut self, guard: &Guard, step: &Step, memory: &Memory, observation: &Observation) -> Outcome {
        let _ = (guard, memory, observation);
        Outcome::Failed(format!("cannot {step} yet"))
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifests, runtime, look: _ } = self;
        f.debug_struct("Surroundings").field("manifests", manifests).field("runtime", runtime).finish_non_exhaustive()
    }
}
