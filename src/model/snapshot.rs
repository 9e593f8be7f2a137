//! What is known of the snapshots that are kept of this node's etcd.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// So many intervals may pass without a new one before it is said: one of them may fail, and be made up for.
pub const TOO_OLD: u32 = 2;
/// And as long as one may take.
pub const GRACE: Duration = Duration::from_secs(60);

/// The snapshots of this node's etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// Whether the agent takes them.
    pub enabled: bool,
    /// Between two.
    pub interval: Duration,
    /// Where they are kept.
    pub directory: String,
    /// The newest that is verified.
    pub newest: Option<Newest>,
    /// How many are verified.
    pub verified: usize,
    /// Bytes of all that lie there.
    pub bytes: u64,
    /// Those that are not verified: the file's name, and why.
    pub unverified: Vec<(String, String)>,
    /// The last try, where it was in vain.
    pub failed: Option<Failed>,
    /// Since when it has been looked after; what is older than that is nobody's fault.
    pub since: Timestamp,
    /// Why the directory cannot be read, where it cannot.
    pub unreadable: Option<String>,
}

/// The newest snapshot that is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// The file's name.
    pub file: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The newest MVCC revision in it.
    pub revision: i64,
    /// Bytes of it.
    pub bytes: u64,
    /// When it was verified.
    pub verified: Timestamp,
    /// What travels with it; a sentence where nothing does.
    pub bundle: Result<Bundled, String>,
}

/// What travels with a snapshot besides etcd's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// In a few words.
    pub briefly: String,
    /// Whether keys are in it, encrypted.
    pub keys: bool,
    /// What is left out of it: a sentence each.
    pub left_out: Vec<String>,
}

/// Tries in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// When the last one was.
    pub at: Timestamp,
    /// How many in a row.
    pub times: u32,
    /// Why: a sentence.
    pub why: String,
}

impl Snapshots {
    /// How old the newest verified one may become.
    pub fn longest(&self) -> Duration {
        self.interval.saturating_mul(TOO_OLD).saturating_add(GRACE)
    }

    /// How old the newest verified one is; of the future counts as new.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.newest.as_ref().map(|newest| now.duration_since(newest.at).try_into().unwrap_or_default())
    }

    /// Whether there should be a newer one by now.
    pub fn is_late(&self, now: Timestamp) -> bool {
        let since: Duration = now.duration_since(self.since).try_into().unwrap_or_default();
        self.enabled && self.age(now).is_none_or(|age| age > self.longest()) && since > self.longest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_late_when_two_intervals_have_passed_under_our_eyes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let newest = |second| {
            Some(Newest {
                file: "a".into(),
                at: at(second),
                revision: 1,
                bytes: 1,
                verified: at(second),
                bundle: Err("none".into()),
            })
        };
        let mut snapshots = Snapshots {
            enabled: true,
            interval: Duration::from_secs(1800),
            directory: "/var/lib/lastgood/snapshots".into(),
            newest: None,
            verified: 0,
            bytes: 0,
            unverified: Vec::new(),
            failed: None,
            since: at(10_000),
            unreadable: None,
        };
        assert!(!snapshots.is_late(at(13_600)), "it has had no time yet");
        assert!(snapshots.is_late(at(13_700)));
        snapshots.newest = newest(10_100);
        assert!(!snapshots.is_late(at(13_700)));
        assert!(snapshots.is_late(at(13_800)));
        snapshots.newest = newest(1_000_000);
        assert!(!snapshots.is_late(at(13_800)), "the clock was set back: that is told elsewhere");
        snapshots.newest = None;
        snapshots.enabled = false;
        assert!(!snapshots.is_late(at(100_000)), "nobody wants one");
    }
}
