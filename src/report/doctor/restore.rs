//! Whether a restore of etcd was interrupted.

use super::{Check, CheckResult, Examined};
use crate::model::observation::BusyKind;

/// A restore that nobody carries on with. Its etcd may not be able to start meanwhile, or serves what it did before.
pub(super) fn checks(examined: &Examined<'_>) -> Option<Check> {
    let under_way = examined.seen.node.busy.iter().any(|process| process.kind == BusyKind::Restore);
    let left = examined.unfinished.first().filter(|_| !under_way)?;
    let detail = format!("{} is left of an interrupted restore", left.display());
    Some(Check::bad(
        "restore of etcd",
        CheckResult::Failed,
        detail,
        "run the same `lastgood etcd restore` again: it completes or undoes it, and reports which",
    ))
}
