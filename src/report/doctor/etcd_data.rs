//! What is wrong with etcd's data themselves: an etcd cannot start over them, or one of the next minor version could not.

use super::{Check, CheckResult, Examined};
use crate::model::member_conflict;

pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    let node = &examined.seen.node;
    let newest = examined.status.and_then(|status| status.snapshots.as_ref()?.newest.as_ref());
    let faults = node.store_faults.iter().map(|(path, fault)| {
        let ways = fault.ways(newest.map(|newest| (newest.revision, newest.at)));
        let subject = format!("etcd data in {}", path.display());
        Check::bad(subject, CheckResult::Failed, fault.to_string(), ways.join("; or "))
    });
    let conflicts = node.member_conflicts.iter().filter_map(|(path, conflicts)| {
        let subject = format!("etcd members in {}", path.display());
        let lists = examined.seen.etcd.values().filter_map(|status| status.members.as_deref());
        let named = member_conflict::named(conflicts, lists.flatten().cloned().collect::<Vec<_>>().as_slice());
        let sentence = member_conflict::sentence(&named)?;
        Some(Check::bad(subject, CheckResult::Warning, sentence, member_conflict::NEXT))
    });
    faults.chain(conflicts).collect()
}
