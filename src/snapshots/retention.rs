//! Which snapshots to remove. Pure; by the values in their names, never by the order of the names.
//!
//! ```text
//!   per lineage            keep the newest n, at least one, and the newest of each of the last n hours, days, weeks that have one
//!   in total               above the limit the oldest are removed, even those that the rules keep
//!   never                  the newest verified one of the newest lineage, and the newest verified one of all
//!   left alone             unverified ones, for the operator to inspect; and those with a time in the future
//! ```
//!
//! A lineage is one cluster ID while its revisions grow. A restore begins another: the snapshots before it are all that
//! contains the writes it gave up, so they do not compete with the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Name;
use crate::config::settings;

/// A clock that is ahead by this much is not out of step, it is wrong.
const AHEAD: Duration = Duration::from_secs(24 * 3600);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// The epoch was a Thursday: weeks begin on Monday.
const TO_MONDAY: i64 = 3 * DAY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The newest ones.
    pub last: usize,
    /// One for each of so many hours.
    pub hourly: usize,
    /// One for each of so many days.
    pub daily: usize,
    /// One for each of so many weeks.
    pub weekly: usize,
    /// Bytes of all together.
    pub total: u64,
}

impl From<&settings::Snapshots> for Rules {
    fn from(settings: &settings::Snapshots) -> Self {
        Self {
            last: settings.keep_last,
            hourly: settings.keep_hourly,
            daily: settings.keep_daily,
            weekly: settings.keep_weekly,
            total: settings.max_total,
        }
    }
}

/// A snapshot, as far as the rules go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What its name says.
    pub name: Name,
    /// Bytes it takes.
    pub bytes: u64,
    /// Whether it is proven.
    pub verified: bool,
}

/// Why one goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule keeps it.
    Unkept,
    /// All together take more than they may.
    Total,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unkept => "newer ones are kept in its place",
            Self::Total => "all together take more than snapshots.max-total",
        })
    }
}

/// Which of these go, by their place in the list, and why: the order in which they go.
pub fn surplus(held: &[Held], rules: &Rules, now: Timestamp) -> Vec<(usize, Why)> {
    let mut order: Vec<usize> = (0..held.len()).filter(|at| held.get(*at).is_some_and(|h| ruled(h, now))).collect();
    let key = |at: &usize| held.get(*at).map(|h| (h.name.at, h.name.revision));
    order.sort_by_key(key);
    let lineages = lineages(held, &order);
    let mut kept = BTreeSet::new();
    for lineage in &lineages {
        kept.extend(by_rules(held, lineage, rules));
    }
    // Not even the total.
    let sacred: BTreeSet<usize> =
        order.last().into_iter().chain(lineages.last().and_then(|l| l.last())).copied().collect();

    let mut gone: Vec<(usize, Why)> =
        order.iter().filter(|at| !kept.contains(at)).map(|at| (*at, Why::Unkept)).collect();
    let bytes = |at: &usize| held.get(*at).map_or(0, |h| h.bytes);
    let unkept: u64 = gone.iter().fold(0, |sum, (at, _)| sum.saturating_add(bytes(at)));
    let all = held.iter().fold(0_u64, |sum, h| sum.saturating_add(h.bytes));
    let mut left = all.saturating_sub(unkept);
    for at in order.iter().filter(|at| kept.contains(at) && !sacred.contains(at)) {
        if left <= rules.total {
            break;
        }
        left = left.saturating_sub(bytes(at));
        gone.push((*at, Why::Total));
    }
    gone
}

/// Whether the rules say anything of it.
fn ruled(held: &Held, now: Timestamp) -> bool {
    held.verified && held.name.at.duration_since(now) <= AHEAD.try_into().unwrap_or_default()
}

/// The lineages of these, which are in the order of time; the one with the newest snapshot last.
fn lineages(held: &[Held], order: &[usize]) -> Vec<Vec<usize>> {
    let mut lineages: Vec<Vec<usize>> = Vec::new();
    // By cluster, which of them goes on, and how far it has come.
    let mut open: BTreeMap<u64, (usize, i64)> = BTreeMap::new();
    for at in order {
        let Some(name) = held.get(*at).map(|h| h.name) else { continue };
        let goes_on =
            open.get(&name.cluster).filter(|(_, revision)| *revision <= name.revision).map(|(which, _)| *which);
        let which = goes_on.unwrap_or(lineages.len());
        match lineages.get_mut(which) {
            Some(lineage) => lineage.push(*at),
            None => lineages.push(vec![*at]),
        }
        open.insert(name.cluster, (which, name.revision));
    }
    lineages.sort_by_key(|lineage| lineage.last().and_then(|at| order.iter().position(|o| o == at)));
    lineages
}

/// What the rules keep of one lineage, which is in the order of time.
fn by_rules(held: &[Held], lineage: &[usize], rules: &Rules) -> BTreeSet<usize> {
    let mut kept: BTreeSet<usize> = lineage.iter().rev().take(rules.last.max(1)).copied().collect();
    for (count, length, shift) in [(rules.hourly, HOUR, 0), (rules.daily, DAY, 0), (rules.weekly, WEEK, TO_MONDAY)] {
        let mut seen = BTreeSet::new();
        for at in lineage.iter().rev() {
            let Some(second) = held.get(*at).map(|h| h.name.at.as_second()) else { continue };
            let period = second.saturating_add(shift).div_euclid(length);
            if seen.len() < count && seen.insert(period) {
                kept.insert(*at);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::Origin;
    use proptest::prelude::*;

    const RULES: Rules = Rules { last: 2, hourly: 3, daily: 2, weekly: 2, total: u64::MAX };

    fn held(at: &str, revision: i64) -> Held {
        let name = Name { at: at.parse().unwrap(), cluster: 1, revision, origin: Origin::Stream };
        Held { name, bytes: 10, verified: true }
    }

    fn now() -> Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    /// What stays, by revision.
    fn stays(all: &[Held], rules: &Rules) -> Vec<i64> {
        let gone: BTreeSet<usize> = surplus(all, rules, now()).into_iter().map(|(at, _)| at).collect();
        let mut stays: Vec<i64> =
            all.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, held)| held.name.revision).collect();
        stays.sort_unstable();
        stays
    }

    #[test]
    fn the_newest_of_each_hour_day_and_week_stay() {
        let all = [
            held("2026-11-26T11:50:00Z", 100),
            held("2026-11-26T11:20:00Z", 99),
            held("2026-11-26T11:10:00Z", 98),
            held("2026-11-26T10:50:00Z", 97),
            held("2026-11-26T10:20:00Z", 96),
            held("2026-11-26T09:00:00Z", 95),
            held("2026-11-26T08:00:00Z", 94),
            held("2026-11-25T23:00:00Z", 90),
            held("2026-11-25T22:00:00Z", 89),
            // The Sunday before: another week.
            held("2026-11-22T23:00:00Z", 80),
            held("2026-11-20T23:00:00Z", 70),
        ];
        assert_eq!(stays(&all, &RULES), [80, 90, 95, 97, 99, 100]);
    }

    #[test]
    fn a_restored_cluster_begins_anew_and_the_lineage_before_it_stays_by_its_own_rules() {
        let rules = Rules { last: 1, hourly: 0, daily: 0, weekly: 0, total: u64::MAX };
        let mut all = vec![held("2026-11-26T09:00:00Z", 100), held("2026-11-26T09:30:00Z", 110)];
        // Regressed, under the same ID; then under another.
        all.extend([held("2026-11-26T10:00:00Z", 50), held("2026-11-26T10:30:00Z", 60)]);
        let mut other = held("2026-11-26T11:00:00Z", 2_000);
        other.name.cluster = 2;
        all.push(other);
        assert_eq!(stays(&all, &rules), [60, 110, 2_000]);
    }

    #[test]
    fn rules_that_keep_nothing_keep_the_newest_of_each_lineage() {
        let nothing = Rules { last: 0, hourly: 0, daily: 0, weekly: 0, total: u64::MAX };
        let mut all = vec![held("2026-11-26T09:00:00Z", 100), held("2026-11-26T09:30:00Z", 110)];
        all.extend([held("2026-11-26T10:00:00Z", 50), held("2026-11-26T10:30:00Z", 60)]);
        assert_eq!(stays(&all, &nothing), [60, 110]);
        all[3].verified = false;
        assert_eq!(stays(&all, &nothing), [50, 60, 110], "60 is not proven: 50 is the last of its lineage");
    }

    #[test]
    fn beyond_the_total_the_oldest_go_and_the_last_verified_never() {
        let all = [held("2026-11-26T09:00:00Z", 1), held("2026-11-26T10:00:00Z", 2), held("2026-11-26T11:00:00Z", 3)];
        let rules = |total| Rules { last: 9, total, ..RULES };
        assert_eq!(stays(&all, &rules(30)), [1, 2, 3]);
        assert_eq!(stays(&all, &rules(25)), [2, 3]);
        assert_eq!(stays(&all, &rules(0)), [3]);
        let mut damaged = all;
        damaged[2].verified = false;
        assert_eq!(stays(&damaged, &rules(0)), [2, 3], "the newest is not proven: the one before it is the last");
    }

    #[test]
    fn what_claims_to_be_of_the_future_is_left_alone_and_counts_for_nothing() {
        let all = [held("2030-01-01T00:00:00Z", 5), held("2026-11-26T11:00:00Z", 4)];
        let rules = Rules { last: 1, hourly: 0, daily: 0, weekly: 0, total: 0 };
        assert_eq!(stays(&all, &rules), [4, 5]);
    }

    prop_compose! {
        fn any_held()(
            hours in -48_i64..24 * 60, cluster in 0_u64..3, revision in 0_i64..50, bytes in 0_u64..100, verified: bool,
        ) -> Held {
            let at = Timestamp::from_second(now().as_second() - hours * 1800).unwrap();
            Held { name: Name { at, cluster, revision, origin: Origin::Stream }, bytes, verified }
        }
    }

    prop_compose! {
        fn any_rules()(
            last in 0_usize..4, hourly in 0_usize..5, daily in 0_usize..5, weekly in 0_usize..5, total in 0_u64..2000,
        ) -> Rules {
            Rules { last, hourly, daily, weekly, total }
        }
    }

    proptest! {
        #[test]
        fn the_newest_verified_is_never_given_up(all in prop::collection::vec(any_held(), 0..60), rules in any_rules()) {
            let gone: BTreeSet<usize> = surplus(&all, &rules, now()).into_iter().map(|(at, _)| at).collect();
            let newest = (0..all.len())
                .filter(|at| all[*at].verified && all[*at].name.at.duration_since(now()).as_hours() <= 24)
                .max_by_key(|at| (all[*at].name.at, all[*at].name.revision));
            let equals = |at: usize| (0..all.len()).any(|o| !gone.contains(&o) && all[o].verified
                && (all[o].name.at, all[o].name.revision) == (all[at].name.at, all[at].name.revision));
            prop_assert!(newest.is_none_or(equals));
        }

        #[test]
        fn no_rule_gives_up_the_newest_verified_of_a_lineage(
            all in prop::collection::vec(any_held(), 0..60), rules in any_rules(),
        ) {
            let mut order: Vec<usize> = (0..all.len()).filter(|at| ruled(&all[*at], now())).collect();
            order.sort_by_key(|at| (all[*at].name.at, all[*at].name.revision));
            let unkept: BTreeSet<usize> = surplus(&all, &rules, now())
                .into_iter().filter(|(_, why)| *why == Why::Unkept).map(|(at, _)| at).collect();
            for lineage in lineages(&all, &order) {
                prop_assert!(!unkept.contains(lineage.last().unwrap()));
            }
        }

        #[test]
        fn what_is_not_verified_is_never_given_up(
            all in prop::collection::vec(any_held(), 0..60), rules in any_rules(),
        ) {
            prop_assert!(surplus(&all, &rules, now()).iter().all(|(at, _)| all[*at].verified));
        }

        #[test]
        fn nothing_goes_twice_and_a_second_time_nothing_goes(
            all in prop::collection::vec(any_held(), 0..60), rules in any_rules(),
        ) {
            let gone = surplus(&all, &rules, now());
            let set: BTreeSet<usize> = gone.iter().map(|(at, _)| *at).collect();
            prop_assert_eq!(set.len(), gone.len());
            let left: Vec<Held> =
                all.iter().enumerate().filter(|(at, _)| !set.contains(at)).map(|(_, held)| *held).collect();
            // What stays of a lineage may hang together with another one once those between them are gone.
            let again = surplus(&left, &rules, now());
            prop_assert!(again.len() <= left.len().saturating_sub(usize::from(left.iter().any(|h| h.verified))));
        }

        #[test]
        fn the_total_is_kept_to_but_for_what_must_stay(
            all in prop::collection::vec(any_held(), 0..60), rules in any_rules(),
        ) {
            let gone: BTreeSet<usize> = surplus(&all, &rules, now()).into_iter().map(|(at, _)| at).collect();
            let stays: Vec<&Held> =
                all.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, held)| held).collect();
            let total: u64 = stays.iter().map(|held| held.bytes).sum();
            let ruled = stays.iter().filter(|held| ruled(held, now())).count();
            prop_assert!(total <= rules.total || ruled <= 2);
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(
            mut all in prop::collection::vec(any_held(), 0..40), rules in any_rules(), turn in 0_usize..40,
        ) {
            all.sort_by_key(|held| held.name);
            all.dedup_by_key(|held| (held.name.at, held.name.revision));
            let names = |all: &[Held]| -> BTreeSet<Name> {
                surplus(all, &rules, now()).into_iter().map(|(at, _)| all[at].name).collect()
            };
            let before = names(&all);
            let turn = turn % all.len().max(1);
            all.rotate_left(turn);
            prop_assert_eq!(names(&all), before);
        }
    }
}
