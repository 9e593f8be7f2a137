//! What is wrong with etcd's data: an etcd cannot start over them, one of the next minor version could not, or one would
//! found a cluster if they went missing.

use super::{Check, CheckResult, Examined};
use crate::model::{Manifest, Role, member_conflict};

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
    faults.chain(conflicts).chain(founders(examined)).collect()
}

/// A manifest of one of several members by which etcd founds a cluster over an empty directory. kubeadm's manifest of the
/// first master founds one with the IDs of the old one.
fn founders(examined: &Examined<'_>) -> Vec<Check> {
    let deployed = examined.seen.manifests.files().filter_map(|file| Some((&file.name, file.content.as_ref().ok()?)));
    let of_etcd = deployed.filter(|(_, manifest)| manifest.role == Role::Etcd);
    let check = |(file, manifest): (&String, &Manifest)| {
        let members = examined.seen.etcd.get(&manifest.id)?.members.as_ref()?.len();
        let joins_only = manifest.flag("initial-cluster-state").is_some_and(|state| state == "existing");
        (members > 1 && !joins_only).then(|| {
            let detail = format!(
                "etcd is one of {members} members, and its manifest lets it found a second cluster if its data directory is \
                 empty or not mounted"
            );
            let next = "add --initial-cluster-state=existing to its command, one master after the other; for kubeadm's \
                        upgrades also to etcd.local.extraArgs of the ClusterConfiguration";
            Check::bad(format!("{file} of several members"), CheckResult::Warning, detail, next)
        })
    };
    of_etcd.filter_map(check).collect()
}
