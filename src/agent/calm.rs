//! Whether all has been well for so long that the node is asked calmly, and passes come more slowly.
//!
//! One answer, file or verdict that is not as it ought to be ends the calm, and the minutes begin again.

use std::time::Duration;

use crate::config::settings;
use crate::decide::Pace;
use crate::model::reading::SymptomKind;
use crate::model::{ComponentState, Judgement, Memory, Observation, Reading, Verdict};

/// All is well for this long first: what starts, and what was changed by hand, shows its faults within the first minutes.
const AFTER: Duration = Duration::from_secs(120);

/// Between two passes of a calm. What a pass alone would see is a container without probes that ended: it is seen some seconds
/// later. A changed file, a bad answer and a request wake the agent at once, calm or not.
const INTERVAL: Duration = Duration::from_secs(5);

/// Since when all has been well, on the boot clock.
#[derive(Debug, Default)]
pub(super) struct Calm {
    well_since: Option<Duration>,
    is_calm: bool,
}

impl Calm {
    /// Takes in what a pass found.
    pub(super) fn note(&mut self, is_well: bool, now: Duration) {
        self.well_since = is_well.then(|| self.well_since.unwrap_or(now));
        self.is_calm = self.well_since.is_some_and(|since| now.saturating_sub(since) >= AFTER);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.is_calm
    }

    /// How long to wait for the next pass where nothing is under way. Two passes are never so far apart that the time between
    /// them is not watched (Q14).
    pub(super) fn rest(&self, passes: &settings::Loop) -> Duration {
        match self.is_calm {
            true => INTERVAL.min(passes.longest_gap / 2).max(passes.interval),
            false => passes.interval,
        }
    }
}

/// Whether nothing is under way, everything is proven and answers, and nothing was seen that has to be seen again.
pub(super) fn is_well(pace: Pace, seen: &Observation, judged: &Judgement, memory: &Memory) -> bool {
    let steady = |state: &ComponentState| matches!(state, ComponentState::Steady { .. });
    let good = |reading: &Reading| match reading {
        Reading::Good => true,
        // What cannot be asked at all cannot turn bad either.
        Reading::CannotTell(symptom) => symptom.kind == SymptomKind::NoMeans,
        Reading::Bad(_) => false,
    };
    let healthy = |verdict: Verdict| verdict == Verdict::Healthy;
    pace == Pace::Quiet
        && memory.change_set.is_none()
        && memory.wrong_data.is_none()
        && memory.components.values().all(|record| steady(&record.state))
        && judged.components.values().all(|assessment| healthy(assessment.verdict()))
        && healthy(judged.kubelet.verdict)
        && healthy(judged.runtime.verdict)
        && seen.runtime.is_ok()
        && seen.node.busy.is_empty()
        && seen.probes.values().flatten().all(|probe| good(&probe.reading))
        && seen.leases.values().all(|look| look.said.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calm_begins_after_minutes_and_ends_at_once() {
        let passes = |longest_gap| settings::Loop {
            interval: Duration::from_secs(2),
            busy_interval: Duration::from_millis(100),
            longest_gap: Duration::from_secs(longest_gap),
        };
        let mut calm = Calm::default();
        let rests = |calm: &Calm| calm.rest(&passes(10)).as_secs();
        for (second, is_well, rest) in [
            (100, true, 2),
            (219, true, 2),
            (220, true, 5),
            (225, true, 5),
            (226, false, 2),
            (228, true, 2),
            (347, true, 2),
            (348, true, 5),
        ] {
            calm.note(is_well, Duration::from_secs(second));
            assert_eq!(rests(&calm), rest, "at {second} s");
        }
        assert_eq!(calm.rest(&passes(6)).as_secs(), 3, "q14: a gap that is not watched would earn nothing");
        assert_eq!(calm.rest(&passes(3)).as_secs(), 2, "never quicker than the interval");
    }
}
