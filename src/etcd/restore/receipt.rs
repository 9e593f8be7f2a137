//! The receipt of a restore, kept next to the data: from which file, to which revision, as which cluster.
//!
//! ```text
//!   .lastgood-restore-ID/restored.json ──after the exchange──▶ .lastgood-restored-TIME.json
//! ```
//!
//! The old data stay exactly as they were, so the receipt is not inside of them. Its name begins with a dot, so that
//! etcd and other tools ignore it.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::intent::Restored;
use super::layout::stamped;
use super::plan::Planned;
use super::{Log, separate_wal};
use crate::etcd::snapshot::EncryptedBy;
use crate::model::{Format, lift};
use crate::sys::files::{self, Attributes};

/// Its name until the exchange.
pub(super) const STAGED: &str = "restored.json";
/// How its name begins.
pub(super) const PREFIX: &str = ".lastgood-restored-";

/// A record is some hundred bytes, and the names of keys.
const MAX_BYTES: u64 = 1 << 20;

/// The format of a record. Of its fields lastgood reads one: which values the API server could not decrypt.
pub(super) const FORMAT: Format = Format {
    key: "restored",
    versions: &[
        "what was restored, when and by which lastgood",
        "of what was restored: bump, log",
        "what the API server lacked the keys of (unreadable)",
    ],
    lift: lift::nothing,
};

#[derive(Serialize)]
struct Record<'r> {
    version: u32,
    /// When it was exchanged.
    at: Timestamp,
    /// The version of the lastgood that did.
    by: &'static str,
    /// The snapshot's file.
    from: &'r Path,
    /// The snapshot's newest revision.
    revision: i64,
    /// In hex, as etcd writes it.
    cluster_id: String,
    member_id: String,
    /// The values whose keys the API server lacked, where the operator accepted that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<EncryptedBy>,
    #[serde(flatten)]
    restored: Restored,
}

/// Writes it into the directory of what was built.
pub(super) fn stage(root: &Path, planned: &Planned, restored: &Restored) -> io::Result<()> {
    let plan = &planned.plan;
    let record = Record {
        version: FORMAT.version(),
        at: Timestamp::now(),
        by: env!("CARGO_PKG_VERSION"),
        from: &plan.snapshot.file,
        revision: plan.snapshot.revision,
        cluster_id: format!("{:x}", plan.cluster.id),
        member_id: format!("{:x}", plan.cluster.me),
        unreadable: planned.unreadable.clone(),
        restored: Restored { log: restored.log.clone().map(keeps).transpose()?, ..restored.clone() },
    };
    let bytes = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
    files::replace(root, &root.join(STAGED), &bytes, &Attributes::private())
}

/// The newest restore into a data directory: when, and which values the API server lacked the keys of. Nothing where no record
/// tells.
pub fn accepted(data_dir: &Path) -> Option<(Timestamp, Vec<EncryptedBy>)> {
    #[derive(Deserialize)]
    struct Accepted {
        at: Timestamp,
        #[serde(default)]
        unreadable: Vec<EncryptedBy>,
    }
    let names = files::names(data_dir).ok()?.into_iter().filter(|name| name.starts_with(PREFIX));
    let read = |name: String| {
        let bytes = files::read_bounded(&data_dir.join(name), MAX_BYTES).ok()?;
        serde_json::from_slice::<Accepted>(&bytes).ok()
    };
    let newest = names.filter_map(read).max_by_key(|record| record.at)?;
    Some((newest.at, newest.unreadable))
}

/// It has a name for the old data even where nothing did.
fn keeps(log: Log) -> io::Result<Log> {
    let stands = !separate_wal::standing(&log.dir)?.is_empty();
    Ok(Log { aside: log.aside.filter(|_| stands), ..log })
}

/// Puts it next to the data. Done already, it does nothing.
pub(super) fn put(root: &Path, data_dir: &Path) -> io::Result<()> {
    let staged = root.join(STAGED);
    if files::standing(&staged)?.is_none() {
        return Ok(());
    }
    files::rename_noreplace(&staged, &data_dir.join(stamped(data_dir, PREFIX, ".json")?))
}

#[cfg(test)]
mod tests {
    use super::super::format_tests::golden;
    use super::*;
    use crate::model::Digest;

    #[test]
    fn a_record_is_written_as_its_version_is() {
        let log = Log { dir: "/var/lib/wal".into(), aside: None };
        let by = EncryptedBy {
            provider: "aescbc".to_owned(),
            version: "v1".to_owned(),
            key: "key1".to_owned(),
            values: [("secrets".to_owned(), 4)].into(),
        };
        let rows =
            [(1, None, None, vec![]), (2, Some(5), Some(log.clone()), vec![]), (3, Some(5), Some(log), vec![by])];
        for (version, bump, log, unreadable) in rows {
            let restored = Restored {
                snapshot: Digest::of(b"snapshot"),
                name: "m1".to_owned(),
                cluster: "m1=https://10.0.0.1:2380".to_owned(),
                token: "token".to_owned(),
                moved_to: Some(1_000_000_000),
                bump,
                aside: Some("member.before-restore-20261122T183000Z".to_owned()),
                log,
            };
            let record = Record {
                version,
                at: Timestamp::UNIX_EPOCH,
                by: "0.1.0",
                from: Path::new("/root/snapshot.db"),
                revision: 4,
                cluster_id: "7".to_owned(),
                member_id: "8".to_owned(),
                unreadable,
                restored,
            };
            let now = serde_json::to_string_pretty(&record).unwrap();
            assert_eq!(golden(&format!("restored-v{version}.json"), now.as_bytes()), now);
        }
        assert_eq!(FORMAT.version(), 3, "every version has a record here");
    }
}
