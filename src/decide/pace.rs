//! When to pass again if no event wakes the agent.
//!
//! ```text
//!   Quiet      nothing is in progress                                    loop.interval
//!   Watchful   a candidate has not served yet, a file is being written      WATCHFUL
//!   Busy       a replacement is running, or kube-apiserver is stopped    loop.busy-interval
//! ```

use std::time::Duration;

use crate::model::component_state::Served;
use crate::model::lineage::{ApiStop, WrongData};
use crate::model::observation::{Observation, Settled};
use crate::model::{ComponentState, Memory};

/// Between two passes while something is about to be decided. Nothing announces that a container crashed; measured, a
/// candidate's second crash comes 0.5 s after its first, and looking every 2 s cost up to 2 s of an outage.
pub const WATCHFUL: Duration = Duration::from_millis(250);

/// See the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Nothing is under way.
    Quiet,
    /// Something is about to be decided.
    Watchful,
    /// Steps are being taken.
    Busy,
}

impl Pace {
    /// What the memory and the last look ask for.
    pub fn of(memory: &Memory, seen: &Observation) -> Self {
        let slots = || memory.components.values().map(|record| &record.state);
        if memory.stopped_apiserver.is_some() || slots().any(|slot| matches!(slot, ComponentState::Replacing(_))) {
            return Self::Busy;
        }
        // An answer that has to be confirmed, or a stop that has not been seen done.
        let leaving = |wrong: &WrongData| matches!(wrong.api, ApiStop::Stopped { out: false, .. });
        let doubted = memory.incarnations.values().any(|known| known.doubted.is_some());
        match &memory.wrong_data {
            None if doubted => return Self::Watchful,
            Some(wrong) if leaving(wrong) => return Self::Watchful,
            None | Some(_) => {}
        }
        let untried =
            |slot: &ComponentState| matches!(slot, ComponentState::Probation(trial) if trial.served == Served::NotYet);
        if slots().any(untried) || seen.manifests.files().any(|file| file.settled == Settled::NotYet) {
            return Self::Watchful;
        }
        Self::Quiet
    }
}
