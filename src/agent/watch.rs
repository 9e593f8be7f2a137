//! What one pass has to know of the passes before it: when the last one was, and what the verdicts were made of.

use std::time::Duration;

use crate::config::Settings;
use crate::judge::{self, History};
use crate::model::{Judgement, Memory, Moment, Observation, Policy, Tick};

#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<Moment>,
    history: History,
}

impl Watch {
    /// Judges what a pass saw.
    pub(super) fn judge(&mut self, seen: &Observation, memory: &Memory, settings: &Settings) -> (Tick, Judgement) {
        let tick = Tick::after(self.last, seen.at, settings.agent_loop.longest_gap);
        self.last = Some(seen.at);
        let history = std::mem::take(&mut self.history);
        let (judged, history) = judge::judge(tick, seen, memory, history, &settings.policy);
        self.history = history;
        (tick, judged)
    }

    /// The same for a plan, which is no pass: no time is credited, and nothing is remembered.
    pub(super) fn judge_once(&self, seen: &Observation, memory: &Memory, policy: &Policy) -> (Tick, Judgement) {
        let tick = Tick { now: seen.at, credit: Duration::ZERO };
        let (judged, _) = judge::judge(tick, seen, memory, self.history.clone(), policy);
        (tick, judged)
    }
}
