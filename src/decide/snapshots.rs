//! Notices about snapshots that the operator has to act on, each reported once, with the next step. The agent takes and
//! prunes snapshots on a schedule; nothing here waits for that.

use super::draft::Draft;
use super::members::once;
use crate::model::snapshot::Snapshots;
use crate::model::{ComponentId, Role};

/// Tells what there is to be reported.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let Some(snapshots) = draft.scene.seen.snapshots.clone() else { return };
    let etcd = draft.memory.components.iter().find(|(_, record)| record.role == Role::Etcd);
    let Some(id): Option<ComponentId> = etcd.map(|(id, _)| id.clone()) else { return };
    let old = late(draft, &snapshots);
    once(draft, &id, "snapshot-old", old);
    once(draft, &id, "snapshot-unverified", unverified(&snapshots));
    let behind = behind(draft, &snapshots);
    once(draft, &id, "snapshot-remote-behind", behind);
}

fn late(draft: &Draft<'_>, snapshots: &Snapshots) -> Option<String> {
    snapshots.is_late(draft.scene.tick.now.wall).then_some(())?;
    let minutes = snapshots.longest().as_secs() / 60;
    let newest = match &snapshots.newest {
        Some(newest) => format!("the newest is of {:.0}, revision {}", newest.at, newest.revision),
        None => "there is no snapshot".to_owned(),
    };
    let why = match (&snapshots.failed, &snapshots.unreadable) {
        (_, Some(why)) => format!("; {why}"),
        (Some(failed), None) => format!("; the last attempt failed: {}", failed.why),
        (None, None) => String::new(),
    };
    Some(format!(
        "no verified snapshot of etcd's data of the last {minutes} minutes: {newest}{why}; what was written since \
         would be lost with the data; next: `lastgood etcd snapshot save` takes one, or says why it cannot"
    ))
}

fn behind(draft: &Draft<'_>, snapshots: &Snapshots) -> Option<String> {
    snapshots.is_behind(draft.scene.tick.now.wall).then_some(())?;
    let remote = snapshots.remote.as_ref()?;
    let url = &remote.url;
    let newest = match &remote.newest {
        Some(newest) => format!("the newest verified one there is of {:.0}, revision {}", newest.at, newest.revision),
        None => "no verified one is known to be there".to_owned(),
    };
    let why = match &remote.failing {
        Some(failing) => format!("; uploads have failed since {:.0}: {}", failing.since, failing.why),
        None => String::new(),
    };
    Some(format!(
        "the snapshots in {url} are behind those on this node: {newest}{why}; with this node's disk they would be \
         lost; next: `lastgood etcd snapshot list --remote` says why"
    ))
}

fn unverified(snapshots: &Snapshots) -> Option<String> {
    let (file, why) = snapshots.unverified.first()?;
    let more = snapshots.unverified.len() - 1;
    let more = if more == 0 { String::new() } else { format!(", and {more} more like it") };
    let dir = &snapshots.directory;
    Some(format!(
        "{dir}/{file} is not verified: {why}{more}; a restore does not take it by itself, and it is not pruned; next: \
         `lastgood etcd snapshot verify {dir}/{file}`, then move it elsewhere or delete it"
    ))
}
