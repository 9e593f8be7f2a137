//! etcd's /metrics, two scrapes at a time: the disk latency between them.
//!
//! Only the needed metrics are parsed; a line that cannot be parsed is ignored.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::etcd::{Latency, Metrics, Within};

/// So many figures are kept: a few more than it takes to call a disk slow.
const KEPT: usize = 5;

/// A page of etcd's metrics is some 150 kB; a page may be this long.
pub(in crate::observe) const MAX_PAGE: usize = 2 << 20;

/// A histogram: its counts, by the upper bound of each bucket in microseconds; `u64::MAX` is without a bound.
type Histogram = BTreeMap<u64, u64>;

/// What one scrape has to remember for the next.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    fsync: Series,
    commit: Series,
    /// Since when it has known no leader.
    leaderless: Option<Instant>,
}

#[derive(Debug, Default)]
struct Series {
    before: Option<Histogram>,
    figures: VecDeque<Duration>,
}

impl Scrapes {
    /// Reads a page.
    pub(super) fn take(&mut self, page: &str) -> Metrics {
        self.fsync.take(histogram(page, "etcd_disk_wal_fsync_duration_seconds"));
        self.commit.take(histogram(page, "etcd_disk_backend_commit_duration_seconds"));
        let count = |name| plain(page, name).filter(|value| *value >= 0.0).map(|value| value as u64);
        let has_leader = count("etcd_server_has_leader").map(|has| has != 0);
        self.leaderless = (has_leader == Some(false)).then(|| self.leaderless.unwrap_or_else(Instant::now));
        Metrics {
            fsync: self.fsync.figures.iter().copied().collect(),
            commit: self.commit.figures.iter().copied().collect(),
            every_fsync: self.fsync.every(),
            every_commit: self.commit.every(),
            leader_changes: count("etcd_server_leader_changes_seen_total"),
            proposals_pending: count("etcd_server_proposals_pending"),
            has_leader,
            leaderless_for: self.leaderless.map_or(Duration::ZERO, |since| since.elapsed()),
            quota: count("etcd_server_quota_backend_bytes"),
        }
    }
}

impl Series {
    fn take(&mut self, now: Histogram) {
        let before = self.before.replace(now);
        let (Some(before), Some(now)) = (before, self.before.as_ref()) else { return };
        // Counts that went down are those of a process that started again.
        if let Some(figure) = above(&before, now) {
            self.figures.push_back(figure);
            if self.figures.len() > KEPT {
                self.figures.pop_front();
            }
        }
    }
}

impl Series {
    /// What the last scrape counted in all.
    fn every(&self) -> Option<Latency> {
        let histogram = self.before.as_ref()?;
        let count = histogram.values().max().copied().filter(|count| *count > 0)?;
        let within = |percent: u64| {
            let wanted = count - count.saturating_mul(100 - percent) / 100;
            let bound = |bound: u64| (bound != u64::MAX).then(|| Duration::from_micros(bound));
            let at = histogram.iter().find(|(_, below)| **below >= wanted).map(|(bound, _)| *bound)?;
            let above = histogram.range(..at).next_back().and_then(|(below, _)| bound(*below)).unwrap_or_default();
            Some(Within { above, at_most: bound(at) })
        };
        Some(Latency { count, p50: within(50)?, p99: within(99)? })
    }
}

/// What the 99th percentile of what came between two scrapes is above: the lower bound of its bucket, since what is
/// called slow ought to be. Absent where nothing came.
fn above(before: &Histogram, now: &Histogram) -> Option<Duration> {
    let since: Option<Vec<(u64, u64)>> = now
        .iter()
        .map(|(bound, count)| Some((*bound, count.checked_sub(before.get(bound).copied().unwrap_or(0))?)))
        .collect();
    let since = since?;
    let all = since.last()?.1;
    if all == 0 {
        return None;
    }
    let wanted = all - all / 100;
    let mut lower = 0;
    for (bound, count) in since {
        if count >= wanted {
            break;
        }
        lower = bound;
    }
    Some(Duration::from_micros(lower))
}

fn histogram(page: &str, name: &str) -> Histogram {
    let prefix = format!("{name}_bucket{{");
    let bucket = |line: &str| {
        let (labels, count) = line.strip_prefix(&prefix)?.rsplit_once("} ")?;
        let bound = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))?;
        let bound = match bound {
            "+Inf" => u64::MAX,
            seconds => (seconds.parse::<f64>().ok().filter(|s| (0.0..1e6).contains(s))? * 1e6).round() as u64,
        };
        Some((bound, count.trim().parse::<f64>().ok().filter(|count| *count >= 0.0)? as u64))
    };
    page.lines().filter_map(bucket).collect()
}

fn plain(page: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    page.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::SLOW_FSYNC;

    /// As etcd prints it, with `slow` of `all` syncs between 0.512 s and 1.024 s.
    fn page(all: u64, slow: u64) -> String {
        let fast = all - slow;
        format!(
            "# HELP etcd_server_has_leader Whether or not a leader exists.\netcd_server_has_leader 1\n\
             etcd_server_leader_changes_seen_total 3\netcd_server_quota_backend_bytes 2.147483648e+09\n\
             etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.001\"}} {fast}\n\
             etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.512\"}} {fast}\n\
             etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"1.024\"}} {all}\n\
             etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"+Inf\"}} {all}\n\
             etcd_disk_wal_fsync_duration_seconds_sum 1.5\netcd_disk_wal_fsync_duration_seconds_count {all}\n"
        )
    }

    #[test]
    fn what_came_between_two_scrapes_counts_and_nothing_before() {
        let mut scrapes = Scrapes::default();
        let first = scrapes.take(&page(1000, 900));
        assert!(first.fsync.is_empty(), "one scrape alone says nothing of now: {first:?}");
        assert_eq!((first.has_leader, first.leader_changes, first.quota), (Some(true), Some(3), Some(2 << 30)));
        assert_eq!(first.proposals_pending, None, "absent is not nought");
        assert_eq!(scrapes.take(&page(1200, 900)).fsync, [Duration::ZERO], "all fast since");
        assert_eq!(scrapes.take(&page(1200, 900)).fsync, [Duration::ZERO], "nothing came");
        assert_eq!(scrapes.take(&page(1210, 905)).fsync, [Duration::ZERO, SLOW_FSYNC]);
        assert_eq!(scrapes.take(&page(5, 0)).fsync.len(), 2, "a process that started anew");
    }

    #[test]
    fn all_that_one_scrape_counted_lies_in_its_buckets() {
        let mut scrapes = Scrapes::default();
        let at = |above, at_most: Option<u64>| Within {
            above: Duration::from_millis(above),
            at_most: at_most.map(Duration::from_millis),
        };
        let every = scrapes.take(&page(1000, 20)).every_fsync.unwrap();
        assert_eq!(every, Latency { count: 1000, p50: at(0, Some(1)), p99: at(512, Some(1024)) });
        assert_eq!(every.p99.to_string(), "at most 1024 ms");
        assert_eq!(scrapes.take(&page(1000, 10)).every_fsync.unwrap().p99, at(0, Some(1)), "ten in a thousand");
        assert_eq!(scrapes.take(&page(0, 0)).every_fsync, None, "nothing was counted");
        let beyond = "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0\n\
                      etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 3\n";
        assert_eq!(scrapes.take(beyond).every_fsync.unwrap().p50, at(8192, None));
        assert_eq!(at(8192, None).to_string(), "above 8192 ms");
    }

    #[test]
    fn one_slow_sync_in_a_thousand_is_not_the_percentile() {
        let mut scrapes = Scrapes::default();
        scrapes.take(&page(0, 0));
        assert_eq!(scrapes.take(&page(1000, 1)).fsync, [Duration::ZERO]);
        assert_eq!(scrapes.take(&page(1050, 2)).fsync[1], SLOW_FSYNC, "one in fifty is");
    }

    #[test]
    fn a_page_of_anything_is_read_without_harm() {
        for page in ["", "{", "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"x\"} y", "etcd_server_has_leader NaN"] {
            assert!(Scrapes::default().take(page).fsync.is_empty());
        }
    }
}
