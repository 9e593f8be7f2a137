//! Transforms the buckets of a snapshot into those of a new cluster.
//!
//! ```text
//!   key              unchanged; after it, if revisions are bumped, the new highest revision
//!   meta             consistent_index n, term 1, confState of the new voters; scheduledCompactRev if revisions are bumped
//!   members          the new ones, exactly            members_removed, alarm    empty
//!   cluster          without downgrade                all others                unchanged
//! ```
//!
//! The new highest revision is an entry with an empty value, as `etcdutl --bump-revision` writes it: a key without a
//! name, which no client can request. If a compaction is scheduled at it, etcd compacts up to there at its start, and a
//! watch from an older revision is answered as compacted.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

use super::cluster::NewCluster;
use super::wal_writer;
use crate::etcd::bbolt::writer::{BucketWriter, Writer};
use crate::etcd::bbolt::{Database, Fault};

/// What is changed in a bucket: keys with a new value, or gone.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Why it was not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Read(#[from] Fault),
    /// What is written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Copies all buckets. `moved_to` is the revision that is written behind the last one, if any.
pub(super) fn copy<W: Write>(
    from: &Database,
    to: &mut Writer<W>,
    cluster: &NewCluster,
    moved_to: Option<i64>,
) -> Result<(), Broken> {
    let mut changes = changes(cluster, moved_to);
    let mut names = from.buckets()?;
    // An etcd makes what is missing, but not what belongs in there.
    names.extend(changes.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    for name in names {
        let changes = changes.remove(&name).unwrap_or_default();
        let mut bucket = to.bucket(&name);
        if !matches!(name.as_slice(), b"members" | b"members_removed" | b"alarm") {
            one(from, &name, changes, &mut bucket)?;
        } else {
            put_all(changes, &mut bucket)?;
        }
        bucket.finish()?;
    }
    Ok(())
}

/// Copies a bucket in order, its changes among its keys.
fn one<W: Write>(
    from: &Database,
    name: &[u8],
    mut changes: Changes,
    to: &mut BucketWriter<'_, W>,
) -> Result<(), Broken> {
    let mut take = |key: &[u8], value: &[u8]| -> io::Result<()> {
        while let Some(change) = changes.first_entry().filter(|change| change.key().as_slice() < key) {
            let (key, value) = change.remove_entry();
            value.map_or(Ok(()), |value| to.put(&key, &value))?;
        }
        match changes.remove(key) {
            Some(Some(changed)) => to.put(key, &changed),
            Some(None) => Ok(()),
            None => to.put(key, value),
        }
    };
    let broke = from.walk(name, |key, value| match take(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    })?;
    if let Some(error) = broke {
        return Err(error.into());
    }
    Ok(put_all(changes, to)?)
}

fn put_all<W: Write>(changes: Changes, to: &mut BucketWriter<'_, W>) -> io::Result<()> {
    let new = changes.into_iter().filter_map(|(key, value)| Some((key, value?)));
    new.into_iter().try_for_each(|(key, value)| to.put(&key, &value))
}

/// What is changed, by bucket.
fn changes(cluster: &NewCluster, moved_to: Option<i64>) -> BTreeMap<Vec<u8>, Changes> {
    let mut meta = Changes::from([
        (b"consistent_index".to_vec(), Some(cluster.size().to_be_bytes().to_vec())),
        (b"term".to_vec(), Some(wal_writer::TERM.to_be_bytes().to_vec())),
        (b"confState".to_vec(), Some(conf_state(cluster).into_bytes())),
    ]);
    let mut key = Changes::new();
    if let Some(main) = moved_to {
        let revision = revision(main);
        meta.insert(b"scheduledCompactRev".to_vec(), Some(revision.clone()));
        key.insert(revision, Some(Vec::new()));
    }
    let member = |member: &super::NewMember| {
        (format!("{:x}", member.id).into_bytes(), Some(wal_writer::json(member).into_bytes()))
    };
    BTreeMap::from([
        (b"key".to_vec(), key),
        (b"meta".to_vec(), meta),
        (b"members".to_vec(), cluster.members.iter().map(member).collect()),
        (b"members_removed".to_vec(), Changes::new()),
        (b"cluster".to_vec(), Changes::from([(b"downgrade".to_vec(), None)])),
    ])
}

/// `raftpb.ConfState` as JSON.
fn conf_state(cluster: &NewCluster) -> String {
    let voters: Vec<String> = cluster.ids().map(|id| id.to_string()).collect();
    format!("{{\"voters\":[{}],\"auto_leave\":false}}", voters.join(","))
}

/// A revision of the bucket `key`, the first of its transaction.
fn revision(main: i64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &0i64.to_be_bytes()].concat()
}
