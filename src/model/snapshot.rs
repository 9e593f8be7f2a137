//! What the agent knows about the snapshots of this node's etcd.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// So many intervals may pass without a new one before it is said: one of them may fail, and be made up for.
pub const TOO_OLD: u32 = 2;
/// So many may pass before it is said that object storage is behind: a snapshot gets there after it is here.
pub const BEHIND: u32 = 3;
/// And as long as one may take.
pub const GRACE: Duration = Duration::from_secs(60);

/// The snapshots of this node's etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// Whether the agent takes them.
    pub enabled: bool,
    pub interval: Duration,
    /// Where they are kept.
    pub directory: String,
    /// The newest that is verified.
    pub newest: Option<Newest>,
    /// How many are verified.
    pub verified: usize,
    /// Bytes of all that are there.
    pub bytes: u64,
    /// Those that are not verified: the file's name, and why.
    pub unverified: Vec<(String, String)>,
    /// Those that were verified, and whose bytes the daily check found to differ: the file's name, and what was found.
    #[serde(default)]
    pub damaged: Vec<(String, String)>,
    /// Of those that are verified, when the one was last read that waits longest for its check.
    #[serde(default)]
    pub checked: Option<Timestamp>,
    /// What an accepted restore put there and this node's API server cannot decrypt.
    #[serde(default)]
    pub undecryptable: Option<Undecryptable>,
    /// The last try, where it failed.
    pub failed: Option<Failed>,
    /// Since when it has been looked after; what is older than that is nobody's fault.
    pub since: Timestamp,
    /// Why the directory cannot be read, where it cannot.
    pub unreadable: Option<String>,
    /// What is known of those in object storage; nothing where none are sent there.
    #[serde(default)]
    pub remote: Option<Remote>,
}

/// Values in etcd that were encrypted with keys that this node's API server lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecryptable {
    /// When the restore put them there.
    pub since: Timestamp,
    pub values: u64,
    /// The keys: `aescbc key1`.
    pub keys: Vec<String>,
    /// How many values are encrypted with which key: a clause each.
    pub what: Vec<String>,
    /// What makes them readable: a clause.
    pub next: String,
}

/// The snapshots in object storage, as they were seen there last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Where: `s3://bucket/prefix`.
    pub url: String,
    /// The newest that is verified there, of this node's cluster.
    pub newest: Option<Sent>,
    /// How many of that cluster are verified there.
    pub verified: usize,
    /// Those that are not, by name, and why.
    pub unverified: Vec<(String, String)>,
    /// When it was looked at last.
    pub looked: Option<Timestamp>,
    /// Since when nothing gets there any more, where that is so.
    pub failing: Option<Failing>,
}

/// A verified snapshot in object storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub file: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The newest MVCC revision in it.
    pub revision: i64,
    /// Bytes of it.
    pub bytes: u64,
    /// When it was verified.
    pub verified: Timestamp,
}

/// Failed tries, one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first of them was.
    pub since: Timestamp,
    /// When the last one was.
    pub at: Timestamp,
    pub times: u32,
    /// Why the last one failed: a sentence.
    pub why: String,
}

impl Remote {
    /// A place of which nothing is known yet.
    pub fn unseen(url: String) -> Self {
        Self { url, newest: None, verified: 0, unverified: Vec::new(), looked: None, failing: None }
    }
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

/// Failed tries.
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

    /// How old the newest one in object storage may become.
    pub fn longest_remote(&self) -> Duration {
        self.interval.saturating_mul(BEHIND).saturating_add(GRACE)
    }

    /// Whether object storage lacks what it should have by now. Where there is nothing newer here either, that is what
    /// is to be reported, and not this. Other masters may send theirs to the same place: that ours do not get there
    /// counts by itself.
    pub fn is_behind(&self, now: Timestamp) -> bool {
        let Some(remote) = &self.remote else { return false };
        let longer = |since: Timestamp| {
            let passed: Duration = now.duration_since(since).try_into().unwrap_or_default();
            passed > self.longest_remote()
        };
        let here = self.newest.as_ref().map(|newest| newest.at);
        let there = remote.newest.as_ref().map(|newest| newest.at);
        let lacks = here > there && there.is_none_or(longer) && longer(self.since);
        lacks || remote.failing.as_ref().is_some_and(|failing| longer(failing.since))
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
            damaged: Vec::new(),
            checked: None,
            undecryptable: None,
            failed: None,
            since: at(10_000),
            unreadable: None,
            remote: None,
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

    #[test]
    fn object_storage_is_behind_when_three_intervals_have_passed_and_there_is_something_to_send() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let newest = |second| {
            let bundle = Err("none".to_owned());
            Some(Newest { file: "a".into(), at: at(second), revision: 1, bytes: 1, verified: at(second), bundle })
        };
        let sent = |second| Sent { file: "a".into(), at: at(second), revision: 1, bytes: 1, verified: at(second) };
        let mut snapshots = Snapshots {
            enabled: true,
            interval: Duration::from_secs(1800),
            directory: "/var/lib/lastgood/snapshots".into(),
            newest: newest(19_000),
            verified: 1,
            bytes: 1,
            unverified: Vec::new(),
            damaged: Vec::new(),
            checked: None,
            undecryptable: None,
            failed: None,
            since: at(10_000),
            unreadable: None,
            remote: None,
        };
        assert!(!snapshots.is_behind(at(1_000_000)), "none are sent anywhere");
        let of = |second: Option<i64>, failing: Option<i64>| {
            Some(Remote {
                newest: second.map(sent),
                failing: failing.map(|since| Failing { since: at(since), at: at(since), times: 1, why: "w".into() }),
                ..Remote::unseen("s3://b".into())
            })
        };
        snapshots.remote = of(Some(13_000), None);
        assert!(!snapshots.is_behind(at(18_400)));
        assert!(snapshots.is_behind(at(18_500)));
        snapshots.remote = of(Some(19_000), None);
        assert!(!snapshots.is_behind(at(100_000)), "nothing newer is here: that is told as such");
        snapshots.remote = of(Some(19_000), Some(20_000));
        assert!(!snapshots.is_behind(at(25_400)), "another master's may be there");
        assert!(snapshots.is_behind(at(25_500)), "ours do not get there");
        snapshots.remote = of(None, None);
        assert!(!snapshots.is_behind(at(15_400)), "it has had no time yet");
        assert!(snapshots.is_behind(at(15_500)));
    }
}
