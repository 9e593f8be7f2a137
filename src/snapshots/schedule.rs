//! When a snapshot is due. Pure.
//!
//! ```text
//!   wall clock  ──┬─────────────┬─────────────┬──▶      one slot per interval, its offset from the machine ID:
//!                 phase         phase         phase      three masters do not start together
//!   none, or the newest too old ─▶ at the next tenth of a slot
//!   failed n times              ─▶ not before interval/30 · 2ⁿ⁻¹ since the last try, at most an interval
//! ```
//!
//! The wall clock is used, since the name of a snapshot contains its time. A newest snapshot with a time in the future
//! is ignored: the clock was set back, and a snapshot is due.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::Digest;

/// An overdue snapshot is made up for within this part of an interval.
const PARTS: u32 = 10;
/// The first back-off after a failure is this part of an interval: a minute of half an hour.
const BACK_OFF: u32 = 30;
/// More doublings than this change nothing.
const MOST_DOUBLINGS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// When the newest verified snapshot was taken.
    pub newest: Option<Timestamp>,
    /// When it was last tried without success, and how often in a row.
    pub failed: Option<(Timestamp, u32)>,
    /// Since when there has been something to take one of.
    pub since: Timestamp,
}

/// When the next one is due: at this moment, or in the past.
pub fn due(known: &Known, interval: Duration, machine: &str, now: Timestamp) -> Timestamp {
    let newest = known.newest.filter(|newest| *newest <= now);
    let late = newest.is_none_or(|newest| elapsed(newest, now) > interval * 2);
    let slot = if late { interval / PARTS } else { interval };
    let from = match newest {
        Some(newest) if !late => newest,
        _ => known.since.min(now),
    };
    let due = next_slot(from, slot, machine);
    match known.failed {
        Some((at, times)) if at <= now => due.max(plus(at, back_off(interval, times))),
        _ => due,
    }
}

/// How long it is left alone after so many failures in a row.
pub fn back_off(interval: Duration, times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(MOST_DOUBLINGS);
    (interval / BACK_OFF).saturating_mul(1 << doublings).min(interval)
}

/// The first moment after `from` that is this machine's. In whole seconds, as names have them: a snapshot that is taken
/// within its second must not leave that very second due.
fn next_slot(from: Timestamp, slot: Duration, machine: &str) -> Timestamp {
    let slot = i64::try_from(slot.as_secs()).unwrap_or(i64::MAX).max(1);
    let from = from.as_second();
    let into = from.saturating_sub(phase(machine, slot)).rem_euclid(slot);
    Timestamp::from_second(from.saturating_add(slot - into)).unwrap_or(Timestamp::MAX)
}

/// This machine's place in a slot, in seconds.
fn phase(machine: &str, slot: i64) -> i64 {
    let digest = Digest::of(machine.as_bytes());
    let first = digest.as_bytes().iter().take(7).fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    first.rem_euclid(slot)
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

fn plus(at: Timestamp, length: Duration) -> Timestamp {
    at.checked_add(length).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF_HOUR: Duration = Duration::from_secs(1800);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn known(newest: Option<i64>) -> Known {
        Known { newest: newest.map(at), failed: None, since: at(0) }
    }

    #[test]
    fn the_first_comes_soon_and_the_next_an_interval_later_at_most() {
        let first = due(&known(None), HALF_HOUR, "a", at(0));
        assert!(first > at(0) && first <= at(180), "{first}");
        let next = due(&known(Some(200)), HALF_HOUR, "a", at(201));
        assert!(next > at(200) && next <= at(200 + 1800), "{next}");
        let after = due(&Known { newest: Some(next), ..known(None) }, HALF_HOUR, "a", next);
        assert_eq!(after.duration_since(next).as_secs(), 1800, "from then on one in each interval");
    }

    #[test]
    fn one_that_is_taken_within_its_second_is_not_due_again() {
        let first = due(&known(Some(0)), HALF_HOUR, "a", at(1));
        let begun = Timestamp::from_millisecond(first.as_millisecond() + 700).unwrap();
        let taken = Known { newest: Some(first), ..known(None) };
        assert!(due(&taken, HALF_HOUR, "a", begun) > begun);
    }

    #[test]
    fn masters_do_not_start_together() {
        // A hundred of them, over eighteen parts of a hundred seconds each: none of those has a quarter of them.
        let dues = (0..100).map(|n| due(&known(Some(0)), HALF_HOUR, &format!("machine {n}"), at(1)));
        let mut parts = [0; 18];
        for due in dues {
            parts[usize::try_from(due.duration_since(at(1)).as_secs() / 100).unwrap()] += 1;
        }
        assert!(parts.iter().all(|part| *part < 25), "{parts:?}");
    }

    #[test]
    fn a_failure_is_not_hammered_on_and_an_interval_is_the_longest() {
        let lengths: Vec<u64> = (1..8).map(|times| back_off(HALF_HOUR, times).as_secs()).collect();
        assert_eq!(lengths, [60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(back_off(HALF_HOUR, u32::MAX), HALF_HOUR);
        let failed = Known { failed: Some((at(500), 3)), ..known(None) };
        assert_eq!(due(&failed, HALF_HOUR, "a", at(501)), at(740));
    }

    #[test]
    fn a_snapshot_of_the_future_says_nothing() {
        let due = due(&known(Some(100_000)), HALF_HOUR, "a", at(500));
        assert!(due <= at(500), "{due}");
    }

    proptest! {
        #[test]
        fn none_is_ever_put_off_for_more_than_two_intervals(
            newest in prop::option::of(-100_000_i64..100_000), failed in prop::option::of((-1000_i64..2000, 0_u32..50)),
            interval in 1_u64..100_000, now in 0_i64..10_000,
        ) {
            let interval = Duration::from_secs(interval);
            let known = Known { newest: newest.map(at), failed: failed.map(|(t, n)| (at(t), n)), since: at(0) };
            let due = due(&known, interval, "m", at(now));
            let latest = at(now).checked_add(interval).unwrap();
            prop_assert!(due <= latest, "{due} is later than {latest}");
        }
    }
}
