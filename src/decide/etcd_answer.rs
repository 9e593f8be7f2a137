//! What etcd serves, according to its latest answer.

use jiff::Timestamp;

use super::draft::Draft;
use crate::model::ComponentId;
use crate::model::etcd::{Agreed, EtcdStatus};
use crate::model::etcd_data::{KubeSystem, StoreIdentity};
use crate::model::lineage::Incarnation;

/// What an etcd serves by its latest answer, where it agreed on a read.
pub(super) fn fresh(draft: &Draft<'_>, id: &ComponentId) -> Option<Incarnation> {
    let status = draft.scene.seen.etcd.get(id)?;
    let fresh = incarnation(status, *status.agreed.as_ref().ok()?, draft.scene.tick.now.wall);
    Some(Incarnation { store: store_of(&fresh), ..fresh })
}

/// A store that no API server has used yet identifies no cluster.
pub(super) fn store_of(fresh: &Incarnation) -> Option<StoreIdentity> {
    fresh.store.clone().filter(|store| store.namespace != KubeSystem::Absent)
}

pub(super) fn incarnation(status: &EtcdStatus, agreed: Agreed, now: Timestamp) -> Incarnation {
    let own = status.own.as_ref().ok().filter(|own| (own.cluster, own.member) == (agreed.cluster, agreed.member));
    Incarnation {
        cluster: agreed.cluster,
        member: agreed.member,
        revision: own.map_or(agreed.revision, |own| own.revision.max(agreed.revision)),
        term: agreed.term,
        at: now,
        version: status.own.as_ref().map(|own| own.version.clone()).unwrap_or_default(),
        raft_index: own.map_or(0, |own| own.raft_index),
        store: status.store.clone(),
        members: status.members.as_ref().map_or(0, Vec::len),
        away_since: None,
        doubted: None,
    }
}
