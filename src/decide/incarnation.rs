//! Compares what this node's etcd serves with the data on record, and reacts when somebody restored an earlier state,
//! with any tool.
//!
//! ```text
//!              the data on record (lineage.rs)
//!        ┌──────┐
//!        ▼      │    an answer of other data              another such answer
//!     Known(highest) ───────────▶ Doubted ──┬─────────────────────────────▶ wrong_data.rs: Empty, Foreign, Older, Unclear
//!        ▲                           │      └─▶ Restored: one notice, from and to
//!        └───────────────────────────┘                     │
//!          the next answer is of the data on record         ▼
//!                     for kube-apiserver, controller manager, scheduler, in this order:
//!                     a process older than the restore: stop its container, once ─▶ a newer one serves ─▶ the next
//! ```
//!
//! Another member ID in the same cluster, at no lower revision, is a member that was removed and joined again: this is
//! only a notice, since no cache is wrong.
//!
//! A process that started after the old data were gone has read only the new data. The old data are gone since the old
//! etcd was seen stopped, or else since the present etcd started. Where other masters exist (Q10), nothing is
//! restarted: whether they would serve meanwhile is not asked here (peer_quorum.rs asks it for a stall).

use std::time::Duration;

use jiff::Timestamp;

use super::draft::{DataTrust, Draft};
use super::etcd_answer::{incarnation, store_of};
use super::lineage::{self, Data};
use super::pods::running;
use super::restarts::{dependents, restart_dependents};
use super::{pods, wrong_data};
use crate::model::event::EventKind;
use crate::model::lineage::{Incarnation, WentBack};
use crate::model::notice::Notice;
use crate::model::{ComponentId, Role};

/// The runtime's clock may be read this many seconds after ours.
const AHEAD: i64 = 2;
/// So many rounds that say the same are as good as two answers seen one after the other.
const CONFIRMED: u32 = 2;
/// Compares what every etcd of this node serves with the record. Before anything follows from its health.
pub(super) fn look(draft: &mut Draft<'_>) {
    let etcds: Vec<ComponentId> =
        draft.memory.components.iter().filter(|(_, r)| r.role == Role::Etcd).map(|(id, _)| id.clone()).collect();
    for id in &etcds {
        let trust = remember(draft, id);
        draft.data.insert(id.clone(), trust);
    }
}

fn remember(draft: &mut Draft<'_>, id: &ComponentId) -> DataTrust {
    let now = draft.scene.tick.now.wall;
    if !pods::runs(draft, id)
        && let Some(known) = draft.memory.incarnations.get_mut(id)
    {
        known.away_since.get_or_insert(now);
    }
    let known = draft.memory.incarnations.get(id).cloned();
    let wrong = draft.memory.wrong_data.as_ref().is_some_and(|wrong| wrong.etcd == *id);
    let untold = match (&known, wrong) {
        (None, _) => DataTrust::OnRecord,
        (Some(known), false) if known.doubted.is_some() => DataTrust::Others,
        (Some(_), _) => DataTrust::NotTold,
    };
    let Some(status) = draft.scene.seen.etcd.get(id).filter(|status| is_of_what_runs(draft, id, status.at)) else {
        return untold;
    };
    let Ok(agreed) = status.agreed else {
        // Without a quorum it may learn nothing new, and what it had applied stays applied.
        if let Some((known, own)) = draft.memory.incarnations.get_mut(id).zip(status.own.as_ref().ok())
            && !wrong
            && (known.cluster, known.member) == (own.cluster, own.member)
            && own.revision > known.revision
        {
            (known.revision, known.at) = (own.revision, now);
        }
        return untold;
    };
    let fresh = incarnation(status, agreed, now);
    let Some(known) = known else {
        let store = store_of(&fresh);
        draft.memory.incarnations.insert(id.clone(), Incarnation { store, ..fresh });
        wrong_data::note_cluster(draft);
        return DataTrust::OnRecord;
    };
    let (kept, seen) = wrong_data::directories(draft, id);
    let data = lineage::compare(&known, &fresh, &kept, &seen);
    if matches!(data, Data::OnRecord | Data::Exchanged) {
        let was = known.to_string();
        goes_on(draft, id, &known, fresh);
        if data == Data::Exchanged {
            let what = format!("a newer copy of its data is in the place of the one at {was}");
            draft.tell(id, EventKind::Notice, None, &what, "lastgood restarts what has cached the older one");
            restart_dependents(draft, id, what);
        }
        return DataTrust::OnRecord;
    }
    match known.doubted {
        Some(at) if at == status.at => return DataTrust::Others,
        None if status.repeated < CONFIRMED => {
            let known = Incarnation { doubted: Some(status.at), ..known };
            draft.memory.incarnations.insert(id.clone(), known);
            return DataTrust::Others;
        }
        None | Some(_) => {}
    }
    match data {
        Data::OnRecord | Data::Exchanged => DataTrust::OnRecord,
        Data::Restored => {
            restored(draft, id, &known, fresh);
            DataTrust::OnRecord
        }
        Data::Wrong(kind) => wrong_data::found(draft, id, kind, fresh),
    }
}

/// Whether an answer is of the process that runs now, and not of the one before it.
fn is_of_what_runs(draft: &Draft<'_>, id: &ComponentId, answered: Duration) -> bool {
    let now = draft.scene.tick.now;
    let ago = now.boot.saturating_sub(answered);
    let at = now.wall.saturating_sub(ago).unwrap_or(now.wall);
    // One that seems to start later than now is older than a clock that was set back since.
    let ahead = |started: &Timestamp| started.duration_since(now.wall).as_secs() > AHEAD;
    let started = running(draft, id).map(|(_, started)| started).max().filter(|started| !ahead(started));
    started.is_none_or(|started| at >= started)
}

/// The record follows what is served.
fn goes_on(draft: &mut Draft<'_>, id: &ComponentId, known: &Incarnation, fresh: Incarnation) {
    if known.member != fresh.member {
        let text = format!("it serves as member {:x}, and was member {:x} before", fresh.member, known.member);
        draft.tell(id, EventKind::Notice, None, &text, "it was removed from the cluster and has joined it again");
    }
    wrong_data::over(draft, id);
    let grew = fresh.revision > known.revision || fresh.term > known.term;
    let known = Incarnation {
        revision: fresh.revision.max(known.revision),
        term: fresh.term.max(known.term),
        raft_index: fresh.raft_index.max(known.raft_index),
        at: if grew { fresh.at } else { known.at },
        members: if fresh.members > 0 { fresh.members } else { known.members },
        store: store_of(&fresh).or_else(|| known.store.clone()),
        ..fresh
    };
    draft.memory.incarnations.insert(id.clone(), known);
    wrong_data::note_cluster(draft);
}

/// An earlier state was restored: what it was, is, and who has to be restarted for it.
fn restored(draft: &mut Draft<'_>, id: &ComponentId, known: &Incarnation, fresh: Incarnation) {
    let started = running(draft, id).map(|(_, started)| started).max();
    let since = known.away_since.or(started).unwrap_or(fresh.at);
    let what = format!("its data regressed from {known} (seen {:.0}) to {fresh}", known.at);
    wrong_data::over(draft, id);
    let left = dependents(draft, id);
    draft.notice(id, Notice::RevisionRegression, format!("{what}: an earlier state was restored; {KUBELETS}"));
    draft.memory.went_back = Some(WentBack { etcd: id.clone(), since, what, left, stopping: None });
    let store = store_of(&fresh);
    draft.memory.incarnations.insert(id.clone(), Incarnation { store, ..fresh });
    wrong_data::note_cluster(draft);
}

/// Kubelets and kube-proxy keep what they heard as well, and those of other nodes cannot be reached from here. Their watches
/// go on from a revision that the restored store has not reached yet (kubernetes/kubernetes issues 131115 and 107457).
const KUBELETS: &str = "the kubelets and kube-proxy watch from a revision that is gone: pods that are not in the restored \
                        state may run on, and Services may lack endpoints; next, after the components of this node have \
                        been restarted: on every node `systemctl restart kubelet`, and once `kubectl -n kube-system \
                        rollout restart daemonset kube-proxy`";
