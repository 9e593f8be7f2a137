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
use super::{Log, apart};
use crate::sys::files::{self, Attributes};

/// Its name until the exchange.
pub(super) const STAGED: &str = "restored.json";
/// How its name begins.
pub(super) const PREFIX: &str = ".lastgood-restored-";

/// The version of a record.
const VERSION: u32 = 1;

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
        version: VERSION,
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
    let stands = !apart::standing(&log.dir)?.is_empty();
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
