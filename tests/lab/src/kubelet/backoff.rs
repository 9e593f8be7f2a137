//! How long a failed container (or a failed pull) waits before it is tried again: nothing the first time, then 10, 20,
//! 40 … 300 s, per key. Pure; `now` is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::scale::Scale;

/// First wait: `backOffPeriod` of the kubelet.
const INITIAL: Duration = Duration::from_secs(10);
/// Longest wait: `MaxContainerBackOff`.
const MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Entry {
    wait: Duration,
    updated: Instant,
}

/// The waits by key.
#[derive(Debug)]
pub struct BackOff {
    entries: HashMap<String, Entry>,
    scale: Scale,
}

impl BackOff {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(scale: Scale) -> Self {
        Self { entries: HashMap::new(), scale }
    }

    /// The wait (true to life, for messages) that is still running at `now` for what failed at `since`.
    #[must_use]
    pub fn waiting(&self, key: &str, since: Instant, now: Instant) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        let fresh = !self.expired(entry, since);
        (fresh && now.saturating_duration_since(since) < self.scale.of(entry.wait)).then_some(entry.wait)
    }

    /// The wait counted from the last failure itself, as for image pulls.
    #[must_use]
    pub fn waiting_since_update(&self, key: &str, now: Instant) -> Option<Duration> {
        let updated = self.entries.get(key)?.updated;
        self.waiting(key, updated, now)
    }

    /// Another try follows a failure at `failed`: the next wait is twice as long, or starts anew after a long peace.
    pub fn next(&mut self, key: &str, failed: Instant, now: Instant) {
        let wait = match self.entries.get(key) {
            Some(entry) if !self.expired(entry, failed) => (entry.wait * 2).min(MAX),
            _ => INITIAL,
        };
        self.entries.insert(key.to_owned(), Entry { wait, updated: now });
    }

    /// Drops what nobody will ask about again.
    pub fn collect_garbage(&mut self, now: Instant) {
        let limit = self.scale.of(MAX * 2);
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.updated) <= limit);
    }

    fn expired(&self, entry: &Entry, event: Instant) -> bool {
        event.saturating_duration_since(entry.updated) > self.scale.of(MAX * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_first_restart_is_at_once_then_ten_twenty_forty_up_to_three_hundred() {
        let mut back_off = BackOff::new(Scale::TRUE_TO_LIFE);
        let mut now = Instant::now();
        assert_eq!(back_off.waiting("c", now, now), None, "the first restart does not wait");
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            back_off.next("c", now, now);
            assert_eq!(back_off.waiting("c", now, now), Some(seconds(wait)));
            assert_eq!(back_off.waiting("c", now, now + seconds(wait - 1)), Some(seconds(wait)));
            now += seconds(wait);
            assert_eq!(back_off.waiting("c", now - seconds(wait), now), None);
        }
    }

    #[test]
    fn ten_minutes_of_peace_are_forgiven_and_another_key_is_another_matter() {
        let mut back_off = BackOff::new(Scale::TRUE_TO_LIFE);
        let start = Instant::now();
        back_off.next("c", start, start);
        back_off.next("c", start, start);
        let later = start + seconds(601);
        back_off.next("c", later, later);
        assert_eq!(back_off.waiting("c", later, later), Some(seconds(10)));
        assert_eq!(back_off.waiting("d", later, later), None);
        back_off.collect_garbage(later + seconds(601));
        assert_eq!(back_off.waiting("c", later, later), None);
    }

    #[test]
    fn the_scale_compresses_the_wait_but_not_what_is_said_of_it() {
        let mut back_off = BackOff::new(Scale::new(0.1).expect("valid"));
        let start = Instant::now();
        back_off.next("c", start, start);
        assert_eq!(back_off.waiting_since_update("c", start + Duration::from_millis(900)), Some(seconds(10)));
        assert_eq!(back_off.waiting_since_update("c", start + Duration::from_millis(1001)), None);
    }
}
