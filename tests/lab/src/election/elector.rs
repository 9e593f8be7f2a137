//! Leader election as client-go does it, without its I/O: what to write, given the lease as it was read and the time.
//!
//! ```text
//!             lease free, ours, or unchanged for lease duration: written
//!  Standby ──────────────────────────────────────────────────────────────▶ Leading { tried_since }
//!     ▲ somebody else's, and it moves: wait                                   │ every retry: written again
//!     └───────────────────────────────────                                    │ not written for the renew deadline
//!                                                                             ▼
//!                                                                     lost: the process exits
//! ```
//! A standby judges the holder by its own clock only: by how long it has seen the lease unchanged, never by
//! the time written in it.

use std::time::Duration;

use tokio::time::Instant;

use serde::{Deserialize, Serialize};

/// The three times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// How long a lease that stands still keeps others away (15 s).
    pub lease: Duration,
    /// How long a leader tries to renew before it gives up (10 s).
    pub renew_deadline: Duration,
    /// Between two tries (2 s).
    pub retry: Duration,
}

impl Timings {
    /// client-go's defaults.
    pub const DEFAULT: Self =
        Self { lease: Duration::from_secs(15), renew_deadline: Duration::from_secs(10), retry: Duration::from_secs(2) };
}

/// A Lease's spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Who holds it; empty when it was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// For how long, in seconds.
    pub lease_duration_seconds: i64,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<String>,
    /// Last renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<String>,
    /// How often it changed hands.
    pub lease_transitions: i64,
}

/// What to do about the lease now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// It does not exist: create it.
    Create(Record),
    /// Write this, against the version that was read.
    Update(Record),
    /// Somebody else's.
    Wait,
}

/// Leading or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Somebody else may be leading.
    Standby,
    /// Ours.
    Leading {
        /// The first try to renew after the last success; the renew deadline runs from here.
        tried_since: Option<Instant>,
    },
}

/// One candidate.
#[derive(Debug, Clone)]
pub struct Elector {
    identity: String,
    timings: Timings,
    role: Role,
    seen: Option<(Record, Instant)>,
}

impl Elector {
    /// A candidate that has seen nothing yet.
    #[must_use]
    pub fn new(identity: String, timings: Timings) -> Self {
        Self { identity, timings, role: Role::Standby, seen: None }
    }

    /// Leading or not.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A round begins: the renew deadline runs from the first round after a success.
    pub fn begin(&mut self, now: Instant) {
        if let Role::Leading { tried_since: tried_since @ None } = &mut self.role {
            *tried_since = Some(now);
        }
    }

    /// What to write, given the lease as read just now (`None`: there is none). `wall` is the time to write into it.
    #[must_use]
    pub fn intend(&mut self, now: Instant, wall: &str, found: Option<&Record>) -> Intent {
        let mut next = Record {
            holder_identity: Some(self.identity.clone()),
            // The API knows whole seconds only; compressed times are rounded up, so no lease looks expired too early.
            lease_duration_seconds: self.timings.lease.as_secs_f64().ceil() as i64,
            acquire_time: Some(wall.to_owned()),
            renew_time: Some(wall.to_owned()),
            lease_transitions: 0,
        };
        let Some(found) = found else {
            return Intent::Create(next);
        };
        if self.seen.as_ref().is_none_or(|(record, _)| record != found) {
            self.seen = Some((found.clone(), now));
        }
        let still_since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let holder = found.holder_identity.as_deref().unwrap_or_default();
        if holder == self.identity {
            next.acquire_time.clone_from(&found.acquire_time);
            next.lease_transitions = found.lease_transitions;
            return Intent::Update(next);
        }
        if !holder.is_empty() && now < still_since + self.timings.lease {
            return Intent::Wait;
        }
        next.lease_transitions = found.lease_transitions + 1;
        Intent::Update(next)
    }

    /// The write succeeded.
    pub fn held(&mut self, now: Instant, written: Record) {
        self.seen = Some((written, now));
        self.role = Role::Leading { tried_since: None };
    }

    /// When leading and not renewed: the moment at which it is lost.
    #[must_use]
    pub fn lost_at(&self) -> Option<Instant> {
        match self.role {
            Role::Leading { tried_since: Some(since) } => Some(since + self.timings.renew_deadline),
            _ => None,
        }
    }

    /// What to write to give the lease back, or `None` when it is not ours.
    #[must_use]
    pub fn release(&self, wall: &str) -> Option<Record> {
        let (record, _) = self.seen.as_ref().filter(|_| matches!(self.role, Role::Leading { .. }))?;
        Some(Record {
            holder_identity: Some(String::new()),
            lease_duration_seconds: 1,
            acquire_time: Some(wall.to_owned()),
            renew_time: Some(wall.to_owned()),
            lease_transitions: record.lease_transitions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> Elector {
        Elector::new(name.to_owned(), Timings::DEFAULT)
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn written(intent: Intent) -> Record {
        match intent {
            Intent::Create(record) | Intent::Update(record) => record,
            Intent::Wait => Record::default(),
        }
    }

    #[test]
    fn a_lease_that_is_not_there_is_made() {
        let (mut a, now) = (candidate("a"), Instant::now());
        let intent = a.intend(now, "t0", None);
        assert!(matches!(&intent, Intent::Create(record) if record.lease_duration_seconds == 15));
        a.held(now, written(intent));
        assert_eq!(a.role(), Role::Leading { tried_since: None });
    }

    #[test]
    fn a_renewal_keeps_since_when_and_how_often() {
        let (mut a, now) = (candidate("a"), Instant::now());
        let first = written(a.intend(now, "t0", None));
        a.held(now, first.clone());
        let next = written(a.intend(now + seconds(2), "t2", Some(&first)));
        assert_eq!((next.acquire_time.as_deref(), next.renew_time.as_deref()), (Some("t0"), Some("t2")));
        assert_eq!(next.lease_transitions, 0);
    }

    #[test]
    fn a_standby_takes_over_only_after_the_lease_stood_still_before_its_own_eyes() {
        let (mut b, start) = (candidate("b"), Instant::now());
        let mut theirs = Record { holder_identity: Some("a".into()), lease_transitions: 4, ..Record::default() };
        theirs.renew_time = Some("1999".into());
        // However old the time in it is.
        assert_eq!(b.intend(start, "t", Some(&theirs)), Intent::Wait);
        assert_eq!(b.intend(start + seconds(14), "t", Some(&theirs)), Intent::Wait);
        // It moved: the wait begins again.
        theirs.renew_time = Some("2000".into());
        assert_eq!(b.intend(start + seconds(15), "t", Some(&theirs)), Intent::Wait);
        assert_eq!(b.intend(start + seconds(29), "t", Some(&theirs)), Intent::Wait);
        let taken = b.intend(start + seconds(30), "t30", Some(&theirs));
        assert!(matches!(&taken, Intent::Update(record) if record.lease_transitions == 5), "{taken:?}");
    }

    #[test]
    fn a_lease_given_back_is_taken_at_once() {
        let (mut a, mut b, now) = (candidate("a"), candidate("b"), Instant::now());
        let first = written(a.intend(now, "t0", None));
        a.held(now, first);
        let given = a.release("t1").expect("ours");
        assert!(matches!(b.intend(now, "t1", Some(&given)), Intent::Update(record) if record.lease_transitions == 1));
        assert_eq!(b.release("t1"), None);
    }

    #[test]
    fn the_renew_deadline_runs_from_the_first_try_after_a_success() {
        let (mut a, start) = (candidate("a"), Instant::now());
        a.begin(start);
        assert_eq!(a.lost_at(), None, "a standby has nothing to lose");
        let first = written(a.intend(start, "t0", None));
        a.held(start, first.clone());
        assert_eq!(a.lost_at(), None);
        a.begin(start + seconds(2));
        a.begin(start + seconds(4));
        assert_eq!(a.lost_at(), Some(start + seconds(12)));
        a.held(start + seconds(6), first);
        assert_eq!(a.lost_at(), None);
    }
}
