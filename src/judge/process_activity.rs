//! Classifies the activity of an unresponsive process (stopped, idle, busy, waiting for its disk) from CPU and I/O
//! deltas.

use std::time::Duration;

use crate::model::observation::{ProcessState, Work};
use crate::model::verdict::ProcessActivity;

/// A process that takes less than a fiftieth of one processor is idle: a Go program that hangs still wakes up for its
/// timers and for our questions.
const IDLE_SHARE: u32 = 50;

/// What a process is at is told over at least this long.
const LEAST_WATCH: Duration = Duration::from_secs(2);

/// A process that is watched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    since: Option<Work>,
}

impl Watched {
    /// What it is at now.
    pub(super) fn at(&mut self, now: Option<Work>) -> ProcessActivity {
        let Some(now) = now else { return ProcessActivity::Unseen };
        // Counters that regressed are another process'.
        let since = self.since.filter(|since| since.cpu <= now.cpu && since.io <= now.io).unwrap_or(now);
        self.since = Some(since);
        match now.state {
            ProcessState::Stopped => ProcessActivity::Stopped,
            ProcessState::WaitsForDisk => ProcessActivity::WaitsForDisk,
            ProcessState::AtWork => ProcessActivity::Busy,
            ProcessState::Runs => {
                let span = now.at.saturating_sub(since.at);
                let idle = now.cpu.saturating_sub(since.cpu) * IDLE_SHARE <= span && now.io == since.io;
                if span >= LEAST_WATCH && idle { ProcessActivity::Idle } else { ProcessActivity::Busy }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_works_is_told_from_one_that_hangs() {
        let work = |state, cpu: u64, io, at| {
            Some(Work { state, cpu: Duration::from_millis(cpu), io, at: Duration::from_secs(at) })
        };
        use ProcessState::{AtWork, Runs, Stopped, WaitsForDisk};
        let rows = [
            ("takes no time", work(Runs, 1000, 7, 10), ProcessActivity::Idle),
            ("wakes up for its timers", work(Runs, 1150, 7, 10), ProcessActivity::Idle),
            ("takes time", work(Runs, 3000, 7, 10), ProcessActivity::Busy),
            ("waits for its turn on a processor", work(AtWork, 1000, 7, 10), ProcessActivity::Busy),
            ("writes", work(Runs, 1000, 4103, 10), ProcessActivity::Busy),
            ("was seen for a moment only", work(Runs, 1000, 7, 1), ProcessActivity::Busy),
            ("is another one by now", work(Runs, 10, 7, 10), ProcessActivity::Busy),
            ("is stopped", work(Stopped, 1000, 7, 1), ProcessActivity::Stopped),
            ("waits for its disk", work(WaitsForDisk, 1000, 7, 1), ProcessActivity::WaitsForDisk),
            ("cannot be seen", None, ProcessActivity::Unseen),
        ];
        for (situation, now, expected) in rows {
            let mut watched = Watched::default();
            watched.at(work(Runs, 1000, 7, 0));
            assert_eq!(watched.at(now), expected, "a process that {situation}");
        }
    }
}
