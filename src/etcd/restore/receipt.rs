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
use serde::Serialize;

use super::intent::Restored;
use super::layout::stamped;
use super::plan::Planned;
use super::{Log, separate_wal};
use crate::model::{Format, lift};
use crate::sys::files::{self, Attributes};

/// Its name until the exchange.
pub(super) const STAGED: &str = "restored.json";
/// How its name begins.
pub(super) const PREFIX: &str = ".lastgood-restored-";

/// The format of a record. Nothing reads one but a person.
pub(super) const FORMAT: Format = Format {
    key: "restored",
    versions: &["what was restored, when and by which lastgood", "of what was restored: bump, log"],
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
        restored: Restored { log: restored.log.clone().map(keeps).transpose()?, ..restored.clone() },
    };
    let bytes = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
    files::replace(root, &root.join(STAGED), &bytes, &Attributes::private())
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
        for (version, bump, log) in [(1, None, None), (2, Some(5), Some(log))] {
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
                restored,
            };
            let now = serde_json::to_string_pretty(&record).unwrap();
            assert_eq!(golden(&format!("restored-v{version}.json"), now.as_bytes()), now);
        }
        assert_eq!(FORMAT.version(), 2, "every version has a record here");
    }
}
