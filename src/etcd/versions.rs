//! The versions that a data directory has, according to its files. [`crate::model::versions`] draws the conclusions.

use std::path::Path;

use super::{backend, raft_entries, wal};
use crate::model::DataVersion;
use crate::model::versions::{Minor, Versions};

/// From the database alone: some pages. While an etcd runs over it that is a hint: what it changed within the last tenth
/// of a second may only be in its log.
pub fn hint(data_dir: &Path) -> DataVersion {
    match backend::head(&database(data_dir)) {
        Ok(head) => of(&head, None),
        Err(fault) => DataVersion::Unknown { why: fault.to_string() },
    }
}

/// From the database and from the log behind it, for data that nobody writes any longer: an etcd that was killed may
/// have raised the cluster version in an entry whose effect never reached its database. Whoever opens the data replays
/// it. `wal_dir` is where the manifest says that the log is, if it says so (--wal-dir).
pub fn at_rest(data_dir: &Path, wal_dir: Option<&Path>) -> DataVersion {
    let head = match backend::head(&database(data_dir)) {
        Ok(head) => head,
        Err(fault) => return DataVersion::Unknown { why: fault.to_string() },
    };
    let dir = wal_dir.map_or_else(|| data_dir.join("member/wal"), Path::to_owned);
    if !dir.exists() && wal_dir.is_none() {
        // It is elsewhere (ETCD_WAL_DIR), and the database has all but the last moment of it.
        return of(&head, None);
    }
    let applied = head.consistent_index.unwrap_or_default();
    let mut set: Vec<(u64, String)> = Vec::new();
    let read = wal::read(&dir, |entry| {
        // An entry takes the place of the one that had its index, and of all after that one.
        set.retain(|(index, _)| *index < entry.index);
        if entry.kind == 0 && entry.index > applied {
            set.extend(raft_entries::cluster_version(entry.data).map(|version| (entry.index, version)));
        }
    });
    match read {
        Ok(_) => of(&head, set.pop().map(|(_, version)| version)),
        Err(fault) => DataVersion::Unknown { why: fault.to_string() },
    }
}

/// From what a snapshot says: there is no log behind it.
pub fn of_snapshot(head: &backend::Head) -> DataVersion {
    of(head, None)
}

fn database(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("member/snap/db")
}

/// A version that is there and cannot be read is not one that is missing.
fn of(head: &backend::Head, later: Option<String>) -> DataVersion {
    let read = |what: &str, text: Option<&String>| match text.map(|text| (minor(text), text)) {
        None => Ok(None),
        Some((Some(minor), _)) => Ok(Some(minor)),
        Some((None, text)) => Err(DataVersion::Unknown { why: format!("the {what} {text:?} is no version") }),
    };
    let downgrade =
        head.downgrade.as_ref().filter(|downgrade| downgrade.enabled && !downgrade.target_version.is_empty());
    let versions = || {
        Ok(Versions {
            cluster: read("cluster version", later.as_ref().or(head.cluster_version.as_ref()))?,
            storage: read("storage version", head.storage_version.as_ref())?,
            downgrade: read("target of a downgrade", downgrade.map(|downgrade| &downgrade.target_version))?,
        })
    };
    versions().map_or_else(|unknown| unknown, DataVersion::Known)
}

/// `3.5.0`, as etcd writes it.
fn minor(text: &str) -> Option<Minor> {
    let mut numbers = text.split('.');
    let minor = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(minor)
}
