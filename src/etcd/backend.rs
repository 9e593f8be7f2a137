//! What etcd keeps in its database next to the keys of its clients (`server/storage/schema` in go.etcd.io/etcd).
//!
//! ```text
//!   key              main i64, '_', sub i64; 't' after a tombstone        revisions, in order
//!   meta             consistent_index, term (from 3.5), storageVersion (from 3.6), scheduledCompactRev, finishedCompactRev
//!   cluster          clusterVersion, downgrade (JSON)
//!   members          the ID in hex: JSON       members_removed     the ID in hex       alarm     a message as key
//! ```
//!
//! A database that a live etcd changes during the read is read again, a few times.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bbolt::{Database, Fault};
use super::proto::{Value, fields};

/// How often a database is read that is being written. etcd commits every 100 ms, and a read takes a fraction of one; but
/// a loaded machine may come between.
const TRIES: usize = 10;
/// Of each list: a cluster has a handful of members.
const MAX_LISTED: usize = 1000;

/// What a database says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    pub head: Head,
    /// The last entry of the log whose effect is in here.
    pub consistent_index: Option<u64>,
    /// The term of that entry; from 3.5 on.
    pub term: Option<u64>,
    pub members: Vec<Member>,
    /// The IDs of members that were removed.
    pub removed: Vec<u64>,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// The newest revision; nothing where nothing was ever written.
    pub revision: Option<Revision>,
    /// Up to where a compaction was asked for, and done.
    pub compacted: Compacted,
    /// The transaction of bbolt it was read in.
    pub txid: u64,
}

/// What a database says of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The cluster version, as text: `3.5.0`.
    pub cluster_version: Option<String>,
    /// The version of the database's layout; from 3.6 on.
    pub storage_version: Option<String>,
    /// A downgrade that is under way, or was.
    pub downgrade: Option<Downgrade>,
    /// The last entry of the log whose effect is in here.
    pub consistent_index: Option<u64>,
}

/// A downgrade of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Downgrade {
    /// Where to: `3.5.0`; empty where none is under way.
    pub target_version: String,
    /// Whether it is under way.
    pub enabled: bool,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Member {
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it; an etcd 3.5 does not keep that here.
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

/// A raised alarm: the member's ID, and 1 for no space, 2 for corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    pub member: u64,
    pub kind: u64,
}

/// A revision of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision {
    /// Of the transaction: what clients call the revision.
    pub main: i64,
    /// Of the change within it.
    pub sub: i64,
}

impl Revision {
    /// Of a key of the bucket `key`, or of a mark of compaction: 17 bytes, 18 with a tombstone's.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(i64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?));
        let whole = matches!(key.get(17..), Some([] | [b't'])) && key.get(8) == Some(&b'_');
        whole.then(|| Some(Self { main: number(0)?, sub: number(9)? })).flatten()
    }
}

/// How far old revisions were given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    pub scheduled: Option<Revision>,
    pub finished: Option<Revision>,
}

/// Reads all of it.
///
/// # Errors
/// As [`Database`]'s; [`Fault::Moving`] where it never existed still.
pub fn read(path: &Path) -> Result<Backend, Fault> {
    consistently(path, |db| {
        let number = |key: &str| db.get(b"meta", key.as_bytes()).map(|value| value.and_then(big_endian));
        let revision = |key: &str| db.get(b"meta", key.as_bytes()).map(|value| value.as_deref().and_then(Revision::of));
        let head = read_head(db)?;
        Ok(Backend {
            consistent_index: head.consistent_index,
            head,
            term: number("term")?,
            members: list(db, b"members", |_, value| serde_json::from_slice(value).ok())?,
            removed: list(db, b"members_removed", |key, _| {
                u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()
            })?,
            alarms: list(db, b"alarm", |key, _| alarm(key))?,
            revision: db.last(b"key")?.and_then(|(key, _)| Revision::of(&key)),
            compacted: Compacted {
                scheduled: revision("scheduledCompactRev")?,
                finished: revision("finishedCompactRev")?,
            },
            txid: db.meta().txid,
        })
    })
}

/// Reads its members, and raft's conf state as it is stored (from 3.5 on).
///
/// # Errors
/// As [`read`].
pub fn membership(path: &Path) -> Result<(Vec<Member>, Option<Vec<u8>>), Fault> {
    consistently(path, |db| {
        let members = list(db, b"members", |_, value| serde_json::from_slice(value).ok())?;
        Ok((members, db.get(b"meta", b"confState")?))
    })
}

/// Reads what it says of versions: some pages, however large it is.
///
/// # Errors
/// As [`read`].
pub fn head(path: &Path) -> Result<Head, Fault> {
    consistently(path, read_head)
}

fn read_head(db: &Database) -> Result<Head, Fault> {
    let text = |bucket: &str, key: &str| {
        let value = db.get(bucket.as_bytes(), key.as_bytes());
        value.map(|value| value.and_then(|value| String::from_utf8(value).ok()))
    };
    let downgrade = db.get(b"cluster", b"downgrade")?;
    Ok(Head {
        cluster_version: text("cluster", "clusterVersion")?,
        storage_version: text("meta", "storageVersion")?,
        downgrade: downgrade.and_then(|value| serde_json::from_slice(&value).ok()),
        consistent_index: db.get(b"meta", b"consistent_index")?.and_then(big_endian),
    })
}

/// Reads until one transaction was the newest from the beginning to the end. What looks damaged while it is written may
/// only be half written.
fn consistently<T>(path: &Path, read: impl Fn(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
    for _ in 0..TRIES {
        let db = Database::open(path)?;
        let value = read(&db);
        if db.is_current() {
            return value;
        }
    }
    Err(Fault::Moving { path: path.to_owned() })
}

fn list<T>(db: &Database, bucket: &[u8], of: impl Fn(&[u8], &[u8]) -> Option<T>) -> Result<Vec<T>, Fault> {
    let mut found = Vec::new();
    db.walk(bucket, |key, value| {
        found.extend(of(key, value));
        if found.len() < MAX_LISTED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

pub(super) fn big_endian(value: Vec<u8>) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// `etcdserverpb.AlarmMember`: 1 the member's ID, 2 the alarm.
pub(super) fn alarm(key: &[u8]) -> Option<Alarm> {
    let mut alarm = Alarm { member: 0, kind: 0 };
    for field in fields(key) {
        match field.ok()? {
            (1, Value::Number(member)) => alarm.member = member,
            (2, Value::Number(kind)) => alarm.kind = kind,
            _ => {}
        }
    }
    Some(alarm)
}
