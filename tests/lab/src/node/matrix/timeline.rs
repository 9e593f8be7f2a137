//! What an outside client saw since the fault: when it was served last, and since when it is served again.
//!
//! ```text
//!   fault ── good ── bad ─── good ─ bad ──── good ─────────── held
//!                                            ▲ serving: the first good answer after the last bad one
//! ```

use std::time::Duration;

/// Served for this long without a break, it counts as served: a component that crashes again has no more than moments.
pub(super) const HELD: Duration = Duration::from_secs(10);

/// The answers so far, by the time since the fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    broken: Option<Duration>,
    good_since: Option<Duration>,
    last: Duration,
}

impl Timeline {
    /// Takes one answer.
    pub(super) fn saw(&mut self, at: Duration, served: bool) {
        self.last = at;
        match served {
            true => drop(self.good_since.get_or_insert(at)),
            false => {
                self.good_since = None;
                self.broken.get_or_insert(at);
            }
        }
    }

    /// When it was refused first.
    pub(super) fn broken(&self) -> Option<Duration> {
        self.broken
    }

    /// When it was served again, if that has held.
    pub(super) fn serving(&self) -> Option<Duration> {
        self.broken?;
        self.good_since.filter(|since| self.last.saturating_sub(*since) >= HELD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(answers: &[(u64, bool)]) -> Timeline {
        let mut timeline = Timeline::default();
        answers.iter().for_each(|(at, served)| timeline.saw(Duration::from_secs(*at), *served));
        timeline
    }

    #[test]
    fn served_again_is_the_first_good_answer_after_the_last_bad_one() {
        let seen = seen(&[(0, true), (3, false), (9, true), (11, false), (14, true), (24, true)]);
        assert_eq!((seen.broken(), seen.serving()), (Some(Duration::from_secs(3)), Some(Duration::from_secs(14))));
    }

    #[test]
    fn a_moment_of_service_between_two_crashes_is_none() {
        assert_eq!(seen(&[(0, false), (9, true), (18, true)]).serving(), None);
    }

    #[test]
    fn who_was_never_refused_is_not_served_again() {
        let seen = seen(&[(0, true), (60, true)]);
        assert_eq!((seen.broken(), seen.serving()), (None, None));
    }
}
