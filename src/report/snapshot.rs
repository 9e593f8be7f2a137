//! A verified snapshot, as `etcd snapshot verify` and `show` print it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::table::{lines, table};
use crate::etcd::backend::{Alarm, Revision};
use crate::etcd::encryption::called;
use crate::etcd::snapshot::{EncryptedBy, Trailer, Verified};
use crate::model::Digest;
use crate::model::snapshot::Bundled;
use crate::snapshots::bundle::Bundle;
use crate::snapshots::{By, this_build};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    pub file: PathBuf,
    /// When it was read whole, where every byte is as it was then; absent where it was read whole just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchanged_since: Option<Timestamp>,
    /// The version and build of lastgood that read it whole then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// Of the database in bytes, its trailer not counted.
    pub size: u64,
    /// Of the pages that are in use, in bytes.
    pub in_use: u64,
    /// Of one page, in bytes.
    pub page_size: u32,
    /// Of the database.
    pub sha256: Digest,
    /// Whether the file says so itself: `false` for a copy of a database.
    pub has_trailer: bool,
    /// As `etcdutl snapshot status` shows it.
    pub hash: u32,
    /// The newest revision; absent where nothing was ever written.
    pub revision: Option<i64>,
    /// Up to where old revisions are given up.
    pub compacted: Option<i64>,
    /// Every revision of every key, and what etcd keeps beside them.
    pub total_keys: u64,
    /// What a client would find; absent where that cannot be told.
    pub live_keys: Option<u64>,
    /// How many leases.
    pub leases: u64,
    /// The last entry of the log whose effect is in here.
    pub consistent_index: Option<u64>,
    pub term: Option<u64>,
    /// `3.5.0`.
    pub cluster_version: Option<String>,
    /// `3.6.0`; from 3.6 on.
    pub storage_version: Option<String>,
    /// Where a downgrade under way goes to.
    pub downgrade_to: Option<String>,
    /// Whether clients have to say who they are.
    pub auth_enabled: bool,
    /// With which keys the API server encrypted the newest value of how many keys; `identity`: Secrets that are not
    /// encrypted.
    pub encrypted: Vec<EncryptedBy>,
    pub members: Vec<Member>,
    /// Members that were removed, by ID in hex.
    pub removed: Vec<String>,
    /// Alarms, as `NOSPACE of MEMBER`.
    pub alarms: Vec<String>,
    pub buckets: Vec<Bucket>,
    /// What does not make it unfit, and should be known.
    pub remarks: Vec<String>,
    /// What travels with it; absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Member {
    /// In hex, as etcdctl prints it.
    pub id: String,
    /// Empty until it has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

/// A bucket and how much is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bucket {
    pub name: String,
    /// How many keys.
    pub keys: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
}

impl Snapshot {
    /// Of what was verified.
    pub fn new(file: &Path, verified: Verified, by: By) -> Self {
        let (unchanged_since, verified_by) = match by {
            By::Checksum(earlier) => (Some(earlier.at), Some(earlier.by)),
            By::Reading => (None, None),
        };
        let Verified { size, sha256, whole: _, trailer, contents } = verified;
        let main = |revision: Revision| revision.main;
        let downgrade = contents.versions.downgrade.filter(|downgrade| downgrade.enabled);
        let member = |member: crate::etcd::backend::Member| Member {
            id: format!("{:x}", member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
        };
        let bucket =
            |tally: crate::etcd::snapshot::Tally| Bucket { name: tally.name, keys: tally.keys, bytes: tally.bytes };
        Self {
            file: file.to_owned(),
            unchanged_since,
            verified_by,
            size,
            in_use: contents.in_use,
            page_size: contents.page_size,
            sha256,
            has_trailer: trailer != Trailer::Absent,
            hash: contents.hash,
            revision: contents.revision.map(main),
            compacted: contents.compacted.finished.or(contents.compacted.scheduled).map(main),
            total_keys: contents.total_keys,
            live_keys: contents.live_keys,
            leases: contents.leases,
            consistent_index: contents.consistent_index,
            term: contents.term,
            cluster_version: contents.versions.cluster_version,
            storage_version: contents.versions.storage_version,
            downgrade_to: downgrade.map(|downgrade| downgrade.target_version),
            auth_enabled: contents.auth_enabled,
            encrypted: contents.encrypted.unwrap_or_default(),
            members: contents.members.into_iter().map(member).collect(),
            removed: contents.removed.iter().map(|id| format!("{id:x}")).collect(),
            alarms: contents.alarms.into_iter().map(alarm).collect(),
            buckets: contents.buckets.into_iter().map(bucket).collect(),
            remarks: contents.remarks,
            bundle: None,
        }
    }

    /// The same with what travels with it.
    #[must_use]
    pub fn with(self, bundle: Option<Bundle>) -> Self {
        Self { bundle, ..self }
    }

    /// That it is whole, in a few lines.
    pub fn verdict(&self) -> String {
        let mut out = format!("{} is whole", self.file.display());
        if let Some(then) = self.unchanged_since {
            let _ = write!(out, ": it has the checksum of its full verification at {then:.0}{}", self.another_build());
        }
        if !self.has_trailer {
            out.push_str(", except for values that only a SHA-256 covers: it carries none");
        }
        if let Some(bundle) = &self.bundle {
            let _ = write!(out, "; so is its bundle: {}", Bundled::from(bundle.clone()).briefly);
        }
        out.push('\n');
        self.brief(&mut out);
        self.to_be_known(&mut out);
        out
    }

    /// All there is to say of it.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.file.display());
        self.brief(&mut out);
        let mut members = table(&["MEMBER", "NAME", "PEER URLS", "LEARNER"]);
        for member in &self.members {
            let learner = if member.is_learner { "yes" } else { "no" };
            members.add_row([&member.id, &member.name, &member.peer_urls.join(", "), learner]);
        }
        let mut buckets = table(&["BUCKET", "KEYS", "BYTES"]);
        for bucket in &self.buckets {
            buckets.add_row([bucket.name.clone(), bucket.keys.to_string(), bucket.bytes.to_string()]);
        }
        let _ = write!(out, "\n{}\n{}", lines(&members), lines(&buckets));
        if !self.encrypted.is_empty() {
            let mut keys = table(&["ENCRYPTED BY", "VALUES", "RESOURCES"]);
            for by in &self.encrypted {
                let all: u64 = by.values.values().sum();
                let each: Vec<String> = by.values.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
                keys.add_row([called(by), all.to_string(), each.join(", ")]);
            }
            let _ = write!(out, "\n{}", lines(&keys));
        }
        if !self.removed.is_empty() {
            let _ = writeln!(out, "\nremoved members: {}", self.removed.join(", "));
        }
        if let Some(bundle) = &self.bundle {
            let _ = write!(out, "\n{}", super::bundle::text(bundle));
        }
        self.to_be_known(&mut out);
        out
    }

    /// Which other build verified it, where one did.
    fn another_build(&self) -> String {
        let other = self.verified_by.as_ref().filter(|by| **by != this_build());
        other.map_or(String::new(), |by| {
            format!(" by {by} (another build than this {}; its verification record is valid)", this_build())
        })
    }

    fn brief(&self, out: &mut String) {
        let number = |number: Option<i64>| number.map_or("none".to_owned(), |number| number.to_string());
        let unsigned = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
        let text = |text: &Option<String>| text.clone().unwrap_or("none".to_owned());
        let live = self.live_keys.map_or("unknown".to_owned(), |keys| keys.to_string());
        let verified = match (&self.unchanged_since, &self.verified_by) {
            (Some(then), Some(by)) if !self.another_build().is_empty() => {
                format!(
                    "{then:.0} by {by}, another build than this one; the record is valid, and the bytes are unchanged"
                )
            }
            (Some(then), Some(by)) => format!("{then:.0} by {by}; the bytes are unchanged"),
            _ => format!("now, completely, by {}", this_build()),
        };
        let mut table = table(&["", ""]);
        for (name, value) in [
            ("verified", verified),
            ("size", format!("{} bytes, {} of them in use", self.size, self.in_use)),
            ("sha256", self.sha256.to_string()),
            ("hash", format!("{:x} (as etcdutl snapshot status shows it)", self.hash)),
            ("revision", format!("{}, compacted up to {}", number(self.revision), number(self.compacted))),
            ("keys", format!("{} in all revisions, live: {live}; {} leases", self.total_keys, self.leases)),
            ("applied", format!("index {}, term {}", unsigned(self.consistent_index), unsigned(self.term))),
            ("versions", format!("cluster {}, storage {}", text(&self.cluster_version), text(&self.storage_version))),
            ("members", self.members.iter().map(|member| member.name.clone()).collect::<Vec<_>>().join(", ")),
        ] {
            table.add_row([name.to_owned(), value]);
        }
        // The first line is the empty header.
        out.extend(lines(&table).lines().skip(1).map(|line| format!("  {line}\n")));
    }

    fn to_be_known(&self, out: &mut String) {
        let downgrade = self.downgrade_to.iter().map(|target| format!("a downgrade to {target} is under way"));
        let alarms = self.alarms.iter().map(|alarm| format!("alarm {alarm}"));
        let known: Vec<String> = alarms.chain(downgrade).chain(self.remarks.iter().cloned()).collect();
        if !known.is_empty() {
            let _ = writeln!(out, "\nNotices:\n  {}", known.join("\n  "));
        }
    }
}

/// `etcdserverpb.AlarmType`.
fn alarm(alarm: Alarm) -> String {
    let kind = match alarm.kind {
        1 => "NOSPACE".to_owned(),
        2 => "CORRUPT".to_owned(),
        other => format!("of kind {other}"),
    };
    format!("{kind} of {:x}", alarm.member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::snapshot::{RawCopy, verify};
    use crate::etcd::testing::snapshot;
    use crate::snapshots::Earlier;

    #[test]
    fn a_record_of_another_build_is_shown_as_such_and_as_valid() {
        let dir = tempfile::tempdir().unwrap();
        let file = snapshot(dir.path());
        let verified = verify(&file, RawCopy::Refuse, &mut |_, _| {}).unwrap();
        let of = |by: String| {
            let earlier = Earlier { at: Timestamp::UNIX_EPOCH, by };
            Snapshot::new(&file, verified.clone(), By::Checksum(earlier))
        };
        let (own, other) = (of(this_build()), of("lastgood 0.0.1 (commit 0123abc)".to_owned()));
        assert_eq!((own.another_build().as_str(), own.verified_by.clone()), ("", Some(this_build())));
        assert!(own.text().contains(&this_build()) && !own.text().contains("another build"));
        for shown in [other.text(), other.verdict()] {
            assert!(shown.contains("lastgood 0.0.1 (commit 0123abc)") && shown.contains("another build"), "{shown}");
        }
    }
}
