//! Time as an argument: the clocks at the beginning of a pass, and how much time was observed since the last one.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One look at both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The wall clock: for people and for comparing with what files and containers carry. It may jump.
    pub wall: Timestamp,
    /// `CLOCK_BOOTTIME`: since the machine started, suspend included. It never jumps, and starts again at a boot.
    pub boot: Duration,
}

/// A pass's place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When this pass began.
    pub now: Moment,
    /// How much watched time passed since the last pass; zero at the first pass and after a gap, so that suspend, a
    /// stopped agent and a jumped clock add nothing to any soak, deadline or budget (Q14).
    pub credit: Duration,
}

impl Tick {
    /// The tick that follows `last`; a gap longer than `longest_gap` was not watched and earns nothing.
    pub fn after(last: Option<Moment>, now: Moment, longest_gap: Duration) -> Self {
        let credit = last
            .and_then(|last| now.boot.checked_sub(last.boot))
            .filter(|gap| *gap <= longest_gap)
            .unwrap_or(Duration::ZERO);
        Self { now, credit }
    }
}

/// The time from one moment to another; none when they are the other way round.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u64) -> Moment {
        Moment { wall: Timestamp::UNIX_EPOCH, boot: Duration::from_secs(boot) }
    }

    #[test]
    fn only_watched_time_is_credited() {
        let gap = Duration::from_secs(10);
        assert_eq!(Tick::after(None, at(5), gap).credit, Duration::ZERO, "the first pass");
        assert_eq!(Tick::after(Some(at(5)), at(7), gap).credit, Duration::from_secs(2), "an ordinary pass");
        assert_eq!(Tick::after(Some(at(5)), at(500), gap).credit, Duration::ZERO, "a suspended machine");
        assert_eq!(Tick::after(Some(at(500)), at(3), gap).credit, Duration::ZERO, "a clock that started anew");
    }
}
