//! Whether an etcd can start over the data of a stopped one, in the order in which it would find out (`server/etcdserver` in
//! go.etcd.io/etcd, 3.4 to 3.6).
//!
//! ```text
//!   db          opened first                         no meta page, a damaged page: panic
//!   WAL         read from its first segment          a bad checksum, a missing segment: exit
//!   *.snap      the newest that the WAL has a committed record of
//!                 newer than the database, and no INDEX.snap.db: panic
//!   WAL again   the entries after it                 a gap, fewer than are committed: exit, or panic in raft
//! ```
//!
//! A record that a crash cut off is no damage: etcd truncates it.

use std::fs;
use std::io;
use std::path::Path;

use super::backend::{self, Backend};
use super::bar;
use super::bbolt;
use super::raft_snapshot::{self, RaftSnapshot};
use super::snapshot::reread;
use super::wal::{self, Wal};
use crate::model::store_fault::{Database, FaultKind, StoreFault};

/// A larger database is not read page by page: a pass of the agent waits for this.
const MAX_DATABASE: u64 = 256 << 20;
/// A WAL has five segments of 64 MB, and more where a follower is far behind.
const MAX_WAL: u64 = 1 << 30;
/// Where lastgood itself keeps the database away from an etcd, until the WAL is in place.
const BARRED: &str = "db.lastgood";

/// What was read of the data.
#[derive(Debug)]
struct Data {
    database: Database,
    /// Up to which entry the database holds what the WAL asked for.
    applied: u64,
    wal: Result<Wal, wal::Fault>,
    /// The first entry that the name of the first segment promises.
    begins: u64,
    /// The newest raft snapshot that the WAL has a committed record of.
    snapshot: Option<RaftSnapshot>,
    /// Whether the database that belongs to that snapshot is there, received from the leader and not yet in place.
    has_its_database: bool,
}

/// What would keep an etcd from starting; nothing where nothing is known to.
pub fn of(member: &Path, wal_dir: &Path) -> Option<StoreFault> {
    let snap = member.join("snap");
    let path = snap.join("db");
    if let Some(why) = bar::reason(member) {
        return Some(StoreFault { kind: FaultKind::Barred { why }, path, database: Database::Missing, others: 0 });
    }
    let segments = wal::segments(wal_dir).unwrap_or_default();
    let bytes: u64 = segments.iter().filter_map(|segment| fs::metadata(segment).ok()).map(|meta| meta.len()).sum();
    if bytes > MAX_WAL || snap.join(BARRED).exists() {
        return None;
    }
    let backend = backend::read(&path);
    let database = database(&path, &backend)?;
    let wal = wal::read(wal_dir, |_| {});
    let snapshot = wal.as_ref().ok().and_then(|wal| {
        let commit = wal.hard_state.map_or(0, |state| state.commit);
        raft_snapshot::newest(&snap, |term, index| index <= commit && wal.snapshots.contains(&(term, index)))
    });
    let received = snapshot.as_ref().map(|snapshot| snap.join(format!("{:016x}.snap.db", snapshot.index)));
    let backend = backend.unwrap_or_default();
    let data = Data {
        database,
        applied: backend.consistent_index.unwrap_or_default(),
        begins: segments.first().and_then(|first| first_entry(first)).unwrap_or_default(),
        wal,
        snapshot,
        has_its_database: received.is_some_and(|received| received.exists()),
    };
    let kind = fault(&data)?;
    Some(StoreFault { kind, path, database: data.database, others: backend.members.len().saturating_sub(1) })
}

/// Nothing where it cannot be told: somebody writes it, or the disk fails.
fn database(path: &Path, backend: &Result<Backend, bbolt::Fault>) -> Option<Database> {
    let damaged = |why: String| Some(Database::Damaged { why });
    let backend = match backend {
        Ok(backend) => backend,
        Err(bbolt::Fault::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Some(Database::Missing);
        }
        Err(bbolt::Fault::Io { .. } | bbolt::Fault::Moving { .. }) => return None,
        Err(fault) => return damaged(fault.to_string()),
    };
    let revision = super::at_rest::revision(backend);
    let opened = bbolt::Database::open(path).ok()?;
    if let Err(fault) = opened.reaches() {
        return damaged(fault.to_string());
    }
    let size = opened.meta().high_water.saturating_mul(u64::from(opened.meta().page_size));
    if size > MAX_DATABASE {
        return Some(Database::Readable { revision });
    }
    match reread(path, &mut |_, _| {}) {
        Ok(_) => Some(Database::Whole { revision }),
        Err(rejected) => damaged(rejected.to_string()),
    }
}

/// `SEQUENCE-INDEX.wal`
fn first_entry(segment: &Path) -> Option<u64> {
    let name = segment.file_name()?.to_str()?;
    let (_, index) = name.strip_suffix(".wal")?.split_once('-')?;
    u64::from_str_radix(index, 16).ok()
}

fn fault(data: &Data) -> Option<FaultKind> {
    match (&data.database, &data.wal) {
        // Without a WAL, etcd founds a new store: another matter.
        (_, Err(wal::Fault::Empty { .. } | wal::Fault::Io { .. })) => return None,
        (Database::Missing, _) => return Some(FaultKind::DatabaseMissing),
        (Database::Damaged { .. }, _) => return Some(FaultKind::DatabaseDamaged),
        (Database::Whole { .. } | Database::Readable { .. }, _) => {}
    }
    let wal = match &data.wal {
        Ok(wal) => wal,
        Err(wal::Fault::Corrupt { path, offset, what }) => {
            return Some(FaultKind::WalDamaged { file: path.clone(), offset: *offset, what: what.clone() });
        }
        Err(_) => return None,
    };
    let from = data.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    if let Some(snapshot) = data.snapshot.as_ref().filter(|_| from > data.applied && !data.has_its_database) {
        return Some(FaultKind::SnapshotAhead {
            snapshot: snapshot.path.clone(),
            index: snapshot.index,
            applied: data.applied,
        });
    }
    let last = wal.last_entry.map_or(0, |(_, index)| index).max(from);
    let behind = || (data.applied > last).then_some(FaultKind::WalBehind { last, applied: data.applied });
    incomplete(wal, from, data.begins).map(|what| FaultKind::WalIncomplete { what }).or_else(behind)
}

/// What the WAL lacks of what is read of it: what follows `from`.
fn incomplete(wal: &Wal, from: u64, begins: u64) -> Option<String> {
    if from == 0 && begins > 0 {
        return Some(format!(
            "its first segment begins with entry {begins}, and no *.snap is usable that etcd could start from"
        ));
    }
    if let Some((before, after)) = wal.gaps.iter().find(|(before, after)| *after > from.max(*before) + 1) {
        return Some(format!("the entries {} to {} are missing", from.max(*before) + 1, after - 1));
    }
    let last = wal.last_entry.map_or(0, |(_, index)| index).max(from);
    let commit = wal.hard_state.map_or(0, |state| state.commit);
    (commit > last).then(|| format!("it is committed up to entry {commit}, and its last entry is {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wal::HardState;

    fn data() -> Data {
        let snapshot =
            |index| RaftSnapshot { path: format!("{index}.snap").into(), index, term: 2, ..RaftSnapshot::default() };
        Data {
            database: Database::Whole { revision: 42 },
            applied: 120,
            wal: Ok(Wal {
                hard_state: Some(HardState { term: 2, vote: 1, commit: 119 }),
                last_entry: Some((2, 120)),
                ..Wal::default()
            }),
            begins: 50,
            snapshot: Some(snapshot(100)),
            has_its_database: false,
        }
    }

    fn with(change: impl FnOnce(&mut Data)) -> Option<&'static str> {
        let mut data = data();
        change(&mut data);
        fault(&data).map(|kind| match kind {
            FaultKind::SnapshotAhead { .. } => "ahead",
            FaultKind::WalDamaged { .. } => "damaged",
            FaultKind::WalIncomplete { .. } => "incomplete",
            FaultKind::WalBehind { .. } => "behind",
            FaultKind::DatabaseDamaged => "database",
            FaultKind::DatabaseMissing => "missing",
            FaultKind::Barred { .. } => "barred",
        })
    }

    fn wal(data: &mut Data) -> &mut Wal {
        data.wal.as_mut().unwrap()
    }

    #[test]
    fn what_etcd_would_refuse_is_found_in_the_order_in_which_etcd_finds_it() {
        let empty = || wal::Fault::Empty { path: "wal".into() };
        let corrupt = || wal::Fault::Corrupt { path: "1.wal".into(), offset: 8, what: "x".to_owned() };
        let torn = wal::Tail::Torn { segment: "1.wal".into(), offset: 8 };
        assert_eq!(with(|_| {}), None);
        assert_eq!(with(|data| data.applied = 100), None, "the database is as new as the snapshot");
        assert_eq!(with(|data| data.applied = 99), Some("ahead"));
        assert_eq!(with(|data| (data.applied, data.has_its_database) = (99, true)), None, "etcd puts it in place");
        assert_eq!(with(|data| (data.applied, data.snapshot) = (0, None)), Some("incomplete"), "nothing to start from");
        assert_eq!(with(|data| (data.snapshot, data.begins) = (None, 0)), None, "from the first entry");
        assert_eq!(with(|data| wal(data).tail = torn.clone()), None, "etcd truncates it");
        assert_eq!(with(|data| data.wal = Err(corrupt())), Some("damaged"));
        assert_eq!(with(|data| data.wal = Err(empty())), None, "it founds a new store");
        assert_eq!(with(|data| wal(data).gaps = vec![(0, 50), (70, 101)]), None, "before the snapshot");
        assert_eq!(with(|data| wal(data).gaps = vec![(70, 102)]), Some("incomplete"));
        assert_eq!(with(|data| wal(data).gaps = vec![(110, 113)]), Some("incomplete"));
        assert_eq!(
            with(|data| wal(data).last_entry = Some((2, 118))),
            Some("incomplete"),
            "committed entries are gone"
        );
        assert_eq!(with(|data| data.applied = 121), Some("behind"), "etcd would skip entry 121");
        assert_eq!(with(|data| data.database = Database::Missing), Some("missing"));
        let broken = || Database::Damaged { why: "x".to_owned() };
        assert_eq!(with(|data| data.database = broken()), Some("database"));
        let both = |data: &mut Data| (data.database, data.wal) = (broken(), Err(corrupt()));
        assert_eq!(with(both), Some("database"), "etcd opens it first");
    }
}
