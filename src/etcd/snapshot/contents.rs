//! Collects and checks the content of a snapshot while its pages are walked in order.
//!
//! ```text
//!   key        revisions ascend; each value decodes, and has the revision of its key
//!   meta …     lengths; JSON and messages decode; a member's ID matches its key
//!   unknown    buckets and keys of a later etcd are counted and reported
//! ```
//!
//! No keys are kept in memory. The number of live keys follows from sums: every life of a key begins with version 1 or,
//! if that is compacted away, has one remaining revision at or below the compaction; and it ends in a tombstone.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use serde::{Deserialize, Serialize};

use super::encrypted::{Encrypted, EncryptedBy};
use crate::etcd::backend::{Alarm, Compacted, Head, Member, Revision, alarm, big_endian};
use crate::etcd::bbolt::{Database, Fault, Visitor};
use crate::etcd::key_value::KeyValue;
use crate::etcd::proto::{NoMessage, Value, fields};

/// What etcd keeps (`server/storage/schema`).
const KNOWN: [&str; 10] =
    ["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"];
/// Without these an etcd's database is none; each etcd makes them at its first start.
const NEEDED: [&str; 2] = ["key", "meta"];
/// Leases that are held in memory, to be compared with those that keys name: about 16 MiB.
const MAX_LEASES: usize = 500_000;
/// Keys that name a lease that is not there, held in memory until a later revision of the key: about 3 MiB.
const MAX_ORPHANS: usize = 100_000;
/// Of each list: a cluster has a handful of members.
const MAX_LISTED: usize = 1000;
/// Members and versions are small; what is larger is not held.
const MAX_TEXT: usize = 64 << 10;
/// `clusterVersion` and the like.
const MAX_VERSION: usize = 64;

pub(super) struct Gathering {
    contents: Contents,
    bucket: Bucket,
    last: Option<Revision>,
    lives: Lives,
    leases: Leases,
    encrypted: Encrypted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Key,
    Meta,
    Cluster,
    Lease,
    Members,
    Removed,
    Alarm,
    Auth,
    /// Messages whose first field is the name they are under.
    Named,
    Unknown,
}

/// The sums that the number of living keys follows from.
struct Lives {
    /// Up to where each key is kept once, and only if it lives.
    compacted: i64,
    begun: u64,
    ended: u64,
}

/// Leases that keys name and that are not there.
struct Leases {
    there: HashSet<i64>,
    /// Whether there are more than were held.
    all: bool,
    /// By the key's hash: the lease it names.
    orphans: HashMap<u64, i64>,
    hasher: RandomState,
}

impl Gathering {
    /// Reads ahead what the keys are compared with: the leases, and how far they were compacted.
    pub(super) fn before(db: &Database) -> Result<Self, Fault> {
        let mut there = HashSet::new();
        let mut all = true;
        db.walk(b"lease", |key, _| {
            there.extend(lease_id(key));
            all = there.len() < MAX_LEASES;
            if all { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
        })?;
        let mark = |key: &[u8]| db.get(b"meta", key).map(|value| value.as_deref().and_then(Revision::of));
        let compacted = Compacted { scheduled: mark(b"scheduledCompactRev")?, finished: mark(b"finishedCompactRev")? };
        let lives = Lives { compacted: compacted.finished.map_or(0, |revision| revision.main), begun: 0, ended: 0 };
        Ok(Self {
            contents: Contents { compacted, ..Contents::default() },
            bucket: Bucket::Unknown,
            last: None,
            lives,
            leases: Leases { there, all, orphans: HashMap::new(), hasher: RandomState::new() },
            encrypted: Encrypted::new(),
        })
    }

    /// All of it, or which bucket is missing.
    pub(super) fn done(mut self) -> Result<Contents, String> {
        let contents = &mut self.contents;
        for needed in NEEDED {
            if !contents.buckets.iter().any(|bucket| bucket.name == needed) {
                return Err(format!("it has no bucket {needed:?}"));
            }
        }
        contents.revision = self.last;
        if !self.encrypted.is_exact {
            contents
                .remarks
                .push("more encrypted values than are compared: earlier revisions count as well".to_owned());
        }
        contents.encrypted = Some(self.encrypted.counted());
        contents.total_keys = contents.buckets.iter().map(|bucket| bucket.keys).sum();
        // A compaction that was asked for and has not ended may have taken some away already.
        if contents.compacted.scheduled <= contents.compacted.finished {
            contents.live_keys = self.lives.begun.checked_sub(self.lives.ended);
        } else if let Some(scheduled) = contents.compacted.scheduled {
            contents.remarks.push(format!("etcd still has to do a compaction up to revision {}", scheduled.main));
        }
        match self.leases.orphans.len() {
            _ if !self.leases.all => {
                contents.remarks.push(format!("more than {MAX_LEASES} leases: they were not compared with the keys"));
            }
            0 => {}
            many => {
                let more = if many >= MAX_ORPHANS { " or more" } else { "" };
                let one = self.leases.orphans.values().min().copied().unwrap_or_default();
                contents.remarks.push(format!(
                    "{many}{more} keys name a lease that does not exist, such as {one:x}: they never expire"
                ));
            }
        }
        Ok(self.contents)
    }

    fn remark(&mut self, remark: String) {
        if self.contents.remarks.len() < MAX_LISTED {
            self.contents.remarks.push(remark);
        }
    }

    fn revision(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let Some(revision) = Revision::of(key).filter(|revision| revision.main > 0 && revision.sub >= 0) else {
            return Err(format!("the key {} is no revision", hex(key)));
        };
        // A put and a tombstone of one revision lie side by side in the order of bytes.
        if self.last.is_some_and(|last| last >= revision) {
            return Err(format!("revision {}.{} does not follow the one before it", revision.main, revision.sub));
        }
        self.last = Some(revision);
        let at = || format!("revision {}.{}", revision.main, revision.sub);
        let Some(read) = KeyValue::decode(value) else { return Err(format!("{}: its value does not decode", at())) };
        if key.len() == 18 {
            self.lives.ended += u64::from(revision.main > self.lives.compacted);
            self.encrypted.gone(read.key);
        } else if value.is_empty() {
            // What `etcdutl snapshot restore --bump-revision` writes.
            return Ok(());
        } else {
            if read.mod_revision != revision.main {
                return Err(format!("{}: its value says that it is of revision {}", at(), read.mod_revision));
            }
            if read.version < 1 || read.create_revision < 1 || read.create_revision > read.mod_revision {
                return Err(format!(
                    "{}: its value says version {}, created at revision {}",
                    at(),
                    read.version,
                    read.create_revision
                ));
            }
            self.lives.begun += u64::from(revision.main <= self.lives.compacted || read.version == 1);
            self.encrypted.value(read.key, read.value);
        }
        if read.key.is_empty() {
            return Err(format!("{}: its value names no key", at()));
        }
        self.leases.named(&read);
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let contents = &mut self.contents;
        match key {
            b"consistent_index" => contents.consistent_index = Some(number("consistent_index", value)?),
            b"term" => contents.term = Some(number("term", value)?),
            b"scheduledCompactRev" | b"finishedCompactRev" if Revision::of(value).is_none() => {
                return Err(format!("{} is {}, no revision", lossy(key), hex(value)));
            }
            b"storageVersion" => contents.versions.storage_version = Some(version("storageVersion", value)?),
            b"confState" => json::<serde_json::Value>("confState", value).map(|_| ())?,
            b"scheduledCompactRev" | b"finishedCompactRev" => {}
            other => {
                let remark = format!("meta contains {:?}, which is unknown to lastgood", lossy(other));
                self.remark(remark);
            }
        }
        self.contents.versions.consistent_index = self.contents.consistent_index;
        Ok(())
    }

    fn member(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let id = member_id(key)?;
        let member: Member = json(&format!("member {id:x}"), value)?;
        if member.id != id {
            return Err(format!("member {:x} is stored under the ID {id:x}", member.id));
        }
        if self.contents.members.len() == MAX_LISTED {
            return Err(format!("more than {MAX_LISTED} members"));
        }
        self.contents.members.push(member);
        Ok(())
    }
}

impl Visitor for Gathering {
    fn bucket(&mut self, name: &[u8]) -> Result<(), String> {
        self.bucket = match name {
            b"key" => Bucket::Key,
            b"meta" => Bucket::Meta,
            b"cluster" => Bucket::Cluster,
            b"lease" => Bucket::Lease,
            b"members" => Bucket::Members,
            b"members_removed" => Bucket::Removed,
            b"alarm" => Bucket::Alarm,
            b"auth" => Bucket::Auth,
            b"authUsers" | b"authRoles" => Bucket::Named,
            _ => Bucket::Unknown,
        };
        let contents = &mut self.contents;
        contents.hash = crc32c::crc32c_append(contents.hash, name);
        let name = lossy(name);
        if !KNOWN.contains(&name.as_str()) {
            contents
                .remarks
                .push(format!("the bucket {name:?} is unknown to lastgood: it was checked, but not interpreted"));
        }
        contents.buckets.push(Tally { name, ..Tally::default() });
        Ok(())
    }

    fn item(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let contents = &mut self.contents;
        contents.hash = crc32c::crc32c_append(crc32c::crc32c_append(contents.hash, key), value);
        if let Some(tally) = contents.buckets.last_mut() {
            tally.keys += 1;
            tally.bytes += (key.len() + value.len()) as u64;
        }
        match self.bucket {
            Bucket::Key => self.revision(key, value)?,
            Bucket::Meta => self.meta(key, value)?,
            Bucket::Cluster => match key {
                b"clusterVersion" => contents.versions.cluster_version = Some(version("clusterVersion", value)?),
                b"downgrade" => contents.versions.downgrade = Some(json("downgrade", value)?),
                other => {
                    let remark = format!("cluster contains {:?}, which is unknown to lastgood", lossy(other));
                    self.remark(remark);
                }
            },
            Bucket::Lease => {
                let id = lease_id(key).ok_or_else(|| format!("the key {} is no lease", hex(key)))?;
                let (_, says) = message(value, 1).ok_or_else(|| format!("lease {id:x} does not decode"))?;
                if says != id.cast_unsigned() {
                    return Err(format!("lease {says:x} is stored under the ID {id:x}"));
                }
                contents.leases += 1;
            }
            Bucket::Members => self.member(key, value)?,
            Bucket::Removed => {
                let id = member_id(key)?;
                if contents.removed.len() < MAX_LISTED {
                    contents.removed.push(id);
                }
            }
            Bucket::Alarm => {
                let raised: Alarm = alarm(key).ok_or_else(|| format!("the alarm {} does not decode", hex(key)))?;
                if contents.alarms.len() < MAX_LISTED {
                    contents.alarms.push(raised);
                }
            }
            Bucket::Auth => match (key, value) {
                (b"authEnabled", [enabled]) => contents.auth_enabled = *enabled == 1,
                (b"authEnabled", _) => return Err(format!("authEnabled is {}, not one byte", hex(value))),
                (b"authRevision", _) => number("authRevision", value).map(|_| ())?,
                _ => {}
            },
            Bucket::Named => {
                let (name, _) = message(value, 1).ok_or_else(|| format!("{:?} does not decode", lossy(key)))?;
                if name != key {
                    return Err(format!("{:?} is stored under the name {:?}", lossy(name), lossy(key)));
                }
            }
            Bucket::Unknown => {}
        }
        Ok(())
    }
}

impl Leases {
    /// Only the newest revision of a key counts, and revisions ascend.
    fn named(&mut self, read: &KeyValue<'_>) {
        let missing = read.lease != 0 && !self.there.contains(&read.lease);
        if !self.all || (self.orphans.is_empty() && !missing) {
            return;
        }
        let hash = self.hasher.hash_one(read.key);
        if !missing {
            self.orphans.remove(&hash);
        } else if self.orphans.len() < MAX_ORPHANS {
            self.orphans.insert(hash, read.lease);
        }
    }
}

fn lease_id(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.try_into().ok()?))
}

fn member_id(key: &[u8]) -> Result<u64, String> {
    let id = std::str::from_utf8(key).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    id.ok_or_else(|| format!("the key {:?} is no member's ID", lossy(key)))
}

fn number(name: &str, value: &[u8]) -> Result<u64, String> {
    big_endian(value.to_vec()).ok_or_else(|| format!("{name} is {}, not eight bytes", hex(value)))
}

fn version(name: &str, value: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MAX_VERSION);
    let whole = text.filter(|text| text.splitn(3, '.').filter(|part| !part.is_empty()).count() == 3);
    whole.map(ToOwned::to_owned).ok_or_else(|| format!("{name} is {:?}, no version", lossy(value)))
}

fn json<T: serde::de::DeserializeOwned>(name: &str, value: &[u8]) -> Result<T, String> {
    if value.len() > MAX_TEXT {
        return Err(format!("{name} has {} bytes, more than is read ({MAX_TEXT})", value.len()));
    }
    serde_json::from_slice(value).map_err(|error| format!("{name} does not decode: {error}"))
}

/// The bytes and the number of one field of a message, whichever it is.
fn message(value: &[u8], wanted: u64) -> Option<(&[u8], u64)> {
    let mut found: (&[u8], u64) = (&[], 0);
    for field in fields(value) {
        match field.map_err(|NoMessage| ()).ok()? {
            (number, Value::Bytes(bytes)) if number == wanted => found.0 = bytes,
            (number, Value::Number(value)) if number == wanted => found.1 = value,
            _ => {}
        }
    }
    Some(found)
}

/// Of what may be anything: as text, and not all of it.
fn lossy(bytes: &[u8]) -> String {
    let shown = bytes.get(..MAX_VERSION).unwrap_or(bytes);
    String::from_utf8_lossy(shown).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.get(..MAX_VERSION).unwrap_or(bytes);
    let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    if digits.is_empty() { "empty".to_owned() } else { digits }
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// CRC-32C over the names of all buckets, their keys and values, as `etcdutl snapshot status` shows it.
    pub hash: u32,
    /// The keys of all buckets, every revision counted: `totalKey` of `etcdutl` up to 3.5.
    pub total_keys: u64,
    /// The keys that a client would find; nothing where a compaction was under way, which leaves that open.
    pub live_keys: Option<u64>,
    /// The buckets, in their order.
    pub buckets: Vec<Tally>,
    /// The newest revision; nothing where nothing was ever written.
    pub revision: Option<Revision>,
    /// Up to where a compaction was asked for, and done.
    pub compacted: Compacted,
    /// How many leases there are.
    pub leases: u64,
    pub members: Vec<Member>,
    /// The IDs of members that were removed.
    pub removed: Vec<u64>,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// The versions, and a downgrade.
    pub versions: Head,
    /// The last entry of the log whose effect is in here.
    pub consistent_index: Option<u64>,
    /// The term of that entry; from 3.5 on.
    pub term: Option<u64>,
    /// Whether clients have to say who they are.
    pub auth_enabled: bool,
    /// With which keys the API server encrypted how many values; nothing where they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<Vec<EncryptedBy>>,
    /// Bytes of a page.
    pub page_size: u32,
    /// Bytes of the pages that something names, the metas and the freelist among them: what is left after a
    /// defragmentation, more or less.
    pub in_use: u64,
    /// What does not make it unfit, and should be known.
    pub remarks: Vec<String>,
}

/// A bucket and how much is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Its name; as text, whatever it is.
    pub name: String,
    /// How many keys.
    pub keys: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
}
