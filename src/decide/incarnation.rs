//! What an etcd of this node serves beside the record, and what is done where somebody restored an earlier state, by
//! whatever tool.
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
//!                     an older process: stop its container, once ─▶ a younger one serves ─▶ the next
//! ```
//!
//! Another member ID in the same cluster, at no lower revision, is a member that was removed and joined again: a notice,
//! and nobody's cache of the cluster is wrong.
//!
//! A process that started when the old data had gone has read only the new. Where the old etcd was seen to be away, that
//! is since then; else since the etcd that runs now started. Where other masters exist (Q10) nobody is restarted: whether
//! they would serve meanwhile cannot be asked yet.

use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use super::lineage::{self, Data};
use super::{rollback, wrong_data};
use crate::model::etcd::{Agreed, EtcdStatus, Incarnation, WentBack};
use crate::model::etcd_data::{KubeSystem, StoreIdentity};
use crate::model::event::EventKind;
use crate::model::observation::ContainerState;
use crate::model::policy::WentBackAction;
use crate::model::{ComponentId, Role, Slot, Step, Verdict};

/// Grace for a container whose generation is not known: the kubelet's default.
const GRACE: Duration = Duration::from_secs(30);
/// The runtime's clock may be read this many seconds after ours.
const AHEAD: i64 = 2;
/// So many rounds that say the same are as good as two answers seen one after the other.
const CONFIRMED: u32 = 2;
/// Said once, from and to.
const WENT_BACK: &str = "went-back";
/// Why nothing is done about it at the moment.
const WAITS: &str = "went-back-waits";

/// What is known of an etcd's data in this pass: what may be concluded from its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It serves the data on record, or there is no record yet.
    OnRecord,
    /// The process that runs has not said yet what it serves.
    NotTold,
    /// It serves others, by one answer or by several.
    Others,
}

/// Compares what every etcd of this node serves with the record. Before anything follows from its health.
pub(super) fn look(draft: &mut Draft<'_>) {
    let etcds: Vec<ComponentId> =
        draft.memory.components.iter().filter(|(_, r)| r.role == Role::Etcd).map(|(id, _)| id.clone()).collect();
    for id in &etcds {
        let trust = remember(draft, id);
        draft.data.insert(id.clone(), trust);
    }
}

/// Goes on with what an earlier pass began.
pub(super) fn follow(draft: &mut Draft<'_>) {
    advance(draft);
}

fn remember(draft: &mut Draft<'_>, id: &ComponentId) -> Trust {
    let now = draft.scene.tick.now.wall;
    if !rollback::runs(draft, id)
        && let Some(known) = draft.memory.incarnations.get_mut(id)
    {
        known.away_since.get_or_insert(now);
    }
    let known = draft.memory.incarnations.get(id).cloned();
    let wrong = draft.memory.wrong_data.as_ref().is_some_and(|wrong| wrong.etcd == *id);
    let untold = match (&known, wrong) {
        (None, _) => Trust::OnRecord,
        (Some(known), false) if known.doubted.is_some() => Trust::Others,
        (Some(_), _) => Trust::NotTold,
    };
    let Some(status) = draft.scene.seen.etcd.get(id).filter(|status| is_of_what_runs(draft, id, status.at)) else {
        return untold;
    };
    let Some(agreed) = status.agreed else {
        // Without a quorum it may learn nothing new, and what it had applied stays applied.
        if let Some((known, own)) = draft.memory.incarnations.get_mut(id).zip(status.own.as_ref())
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
        return Trust::OnRecord;
    };
    let (kept, seen) = wrong_data::directories(draft, id);
    let data = lineage::compare(&known, &fresh, &kept, &seen);
    if matches!(data, Data::OnRecord | Data::Exchanged) {
        let was = known.to_string();
        goes_on(draft, id, &known, fresh);
        if data == Data::Exchanged {
            let what = format!("a newer copy of its data is in the place of the one at {was}");
            draft.tell(id, EventKind::Notice, None, &what, "what read from the older one is restarted");
            restart_dependents(draft, id, what);
        }
        return Trust::OnRecord;
    }
    match known.doubted {
        Some(at) if at == status.at => return Trust::Others,
        None if status.repeated < CONFIRMED => {
            let known = Incarnation { doubted: Some(status.at), ..known };
            draft.memory.incarnations.insert(id.clone(), known);
            return Trust::Others;
        }
        None | Some(_) => {}
    }
    match data {
        Data::OnRecord | Data::Exchanged => Trust::OnRecord,
        Data::Restored => {
            restored(draft, id, &known, fresh);
            Trust::OnRecord
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

/// What an etcd serves by its latest answer, where it agreed on a read.
pub(super) fn fresh(draft: &Draft<'_>, id: &ComponentId) -> Option<Incarnation> {
    let status = draft.scene.seen.etcd.get(id)?;
    let fresh = incarnation(status, status.agreed?, draft.scene.tick.now.wall);
    Some(Incarnation { store: store_of(&fresh), ..fresh })
}

/// The record follows what is served.
fn goes_on(draft: &mut Draft<'_>, id: &ComponentId, known: &Incarnation, fresh: Incarnation) {
    if known.member != fresh.member {
        let text = format!("it serves as member {:x} now, and was member {:x} before", fresh.member, known.member);
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

/// A store that no API server has used yet identifies no cluster.
fn store_of(fresh: &Incarnation) -> Option<StoreIdentity> {
    fresh.store.clone().filter(|store| store.namespace != KubeSystem::Absent)
}

fn incarnation(status: &EtcdStatus, agreed: Agreed, now: Timestamp) -> Incarnation {
    let own = status.own.as_ref().filter(|own| (own.cluster, own.member) == (agreed.cluster, agreed.member));
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

/// An earlier state was restored: what it was, is, and who has to be restarted for it.
fn restored(draft: &mut Draft<'_>, id: &ComponentId, known: &Incarnation, fresh: Incarnation) {
    let started = running(draft, id).map(|(_, started)| started).max();
    let since = known.away_since.or(started).unwrap_or(fresh.at);
    let what = format!("it went back from {known} (seen {:.0}) to {fresh}", known.at);
    wrong_data::over(draft, id);
    let left = dependents(draft, id);
    draft.notice(id, WENT_BACK, format!("{what}: an earlier state was restored; {KUBELETS}"));
    draft.memory.went_back = Some(WentBack { etcd: id.clone(), since, what, left, stopping: None });
    let store = store_of(&fresh);
    draft.memory.incarnations.insert(id.clone(), Incarnation { store, ..fresh });
    wrong_data::note_cluster(draft);
}

/// Kubelets keep what they ran as well, and none but this node's can be reached from here.
const KUBELETS: &str =
    "kubelets may go on running pods that are gone from it: on every node `systemctl restart kubelet`";

/// Has everything restarted, in order, that read from an etcd before it came to serve what it serves now.
pub(super) fn restart_dependents(draft: &mut Draft<'_>, id: &ComponentId, what: String) {
    let started = running(draft, id).map(|(_, started)| started).max();
    let since = started.unwrap_or(draft.scene.tick.now.wall);
    let left = dependents(draft, id);
    draft.memory.went_back = Some(WentBack { etcd: id.clone(), since, what, left, stopping: None });
}

/// The containers of a component that run, and since when.
pub(super) fn running(draft: &Draft<'_>, id: &ComponentId) -> impl Iterator<Item = (String, Timestamp)> {
    let containers = rollback::runs_of(draft, id).flat_map(|run| &run.containers);
    containers.filter_map(|container| match container.state {
        ContainerState::Running { started } => Some((container.id.clone(), started)),
        _ => None,
    })
}

/// Who may remember the old world, in the order in which they are started anew.
fn dependents(draft: &Draft<'_>, etcd: &ComponentId) -> Vec<ComponentId> {
    let components = &draft.memory.components;
    let newest = |id: &ComponentId| {
        let record = components.get(id)?;
        let stands = record.stands.as_ref().and_then(|stands| record.by_digest(stands.digest));
        stands.or_else(|| record.generations.values().next_back())
    };
    let ports = newest(etcd).map(|generation| generation.ports.clone()).unwrap_or_default();
    let elsewhere = |id: &ComponentId| {
        newest(id).is_some_and(|api| api.data.is_some() && !rollback::reads_from(api.data.as_ref(), &ports))
    };
    let mut left: Vec<(Role, ComponentId)> = components
        .iter()
        .filter(|(_, record)| record.role.depends_on().is_some())
        .map(|(id, record)| (record.role, id.clone()))
        .collect();
    if left.iter().any(|(role, id)| *role == Role::ApiServer && elsewhere(id)) {
        return Vec::new();
    }
    left.sort();
    left.into_iter().map(|(_, id)| id).collect()
}

/// How one of them stands.
enum Standing {
    /// It serves, or will, from a process that never saw the old world.
    Fresh,
    /// It is waited for: why, where that is worth saying.
    Awaited(Option<String>),
    /// This container of it is older.
    Old(String),
}

fn advance(draft: &mut Draft<'_>) {
    let Some(mut back) = draft.memory.went_back.take() else { return };
    let etcd = back.etcd.clone();
    while let Some(id) = back.left.first().cloned() {
        match standing(draft, &back, &id) {
            Standing::Fresh => {
                back.left.remove(0);
                back.stopping = None;
                continue;
            }
            Standing::Awaited(why) => draft.notice_if(&etcd, WAITS, why),
            Standing::Old(container) => match may_stop(draft, &back, &id) {
                Ok(()) => {
                    draft.clear_notice(&etcd, WAITS);
                    stop(draft, &mut back, &id, container);
                }
                Err(why) => draft.notice(&etcd, WAITS, why),
            },
        }
        draft.memory.went_back = Some(back);
        return;
    }
    draft.clear_notice(&etcd, WENT_BACK);
    draft.clear_notice(&etcd, WAITS);
    draft.tell(&etcd, EventKind::Notice, None, "nobody on this node remembers the state before any more", &back.what);
}

fn standing(draft: &Draft<'_>, back: &WentBack, id: &ComponentId) -> Standing {
    let Some(record) = draft.record(id) else { return Standing::Fresh };
    if draft.scene.seen.runtime.is_err() {
        return Standing::Awaited(None);
    }
    if let Some((container, _)) = running(draft, id).find(|(_, started)| *started < back.since) {
        return Standing::Old(container);
    }
    // One that is away starts anew whenever it comes back.
    if matches!(record.slot, Slot::Missing { .. }) {
        return Standing::Fresh;
    }
    let serving = draft.assessment(id).is_some_and(|a| a.serving && a.verdict == Verdict::Healthy);
    if serving && running(draft, id).next().is_some() { Standing::Fresh } else { Standing::Awaited(None) }
}

/// Whether an older process may be stopped now, or why not.
fn may_stop(draft: &Draft<'_>, back: &WentBack, id: &ComponentId) -> Result<(), String> {
    let by_hand = || {
        let names: Vec<String> = back.left.iter().map(ToString::to_string).collect();
        format!("restart what remembers the state before, one after the other: {}", names.join(", then "))
    };
    if draft.scene.policy.went_back == WentBackAction::Report {
        return Err(format!("{} (etcd.revisions-went-back = \"report\")", by_hand()));
    }
    let status = draft.scene.seen.etcd.get(&back.etcd);
    let Some(members) = status.and_then(|status| status.members.as_ref()) else {
        return Err(format!("waiting for etcd before {id} is started anew"));
    };
    if members.len() > 1 {
        let others = members.len() - 1;
        return Err(format!("{}; it is not done here, since {others} other members serve other masters", by_hand()));
    }
    if let Some(hold) = &draft.hold {
        return Err(format!("{id} remembers the state before and is not started anew: {hold}"));
    }
    if !draft.assessment(&back.etcd).is_some_and(|assessment| assessment.serving) {
        return Err(format!("waiting for etcd before {id} is started anew"));
    }
    let parked = draft.memory.parked.as_ref().is_some_and(|parked| parked.component == *id);
    match draft.record(id).map(|record| &record.slot) {
        Some(Slot::Steady { .. } | Slot::Adopting { .. } | Slot::Unread { .. }) if !parked => Ok(()),
        // A stop of ours must not count as a crash of a candidate.
        Some(slot) => Err(format!("{id} remembers the state before, and is {slot}: it is started anew after that")),
        None => Err(format!("{id} is not known any more")),
    }
}

fn stop(draft: &mut Draft<'_>, back: &mut WentBack, id: &ComponentId, container: String) {
    if back.stopping.as_ref() != Some(&container) {
        if !draft.spend(id) {
            let why = format!("{id} remembers the state before; its actions of this hour are spent, so it waits");
            return draft.notice(&back.etcd, WAITS, why);
        }
        back.stopping = Some(container.clone());
        draft.tell(id, EventKind::Notice, None, "it is started anew: it remembers a state of etcd that is gone", "");
    }
    let stands = draft.record(id).and_then(|record| record.by_digest(record.stands.as_ref()?.digest));
    let grace = stands.map_or(GRACE, |generation| generation.termination_grace);
    draft.want(Step::StopContainer { component: id.clone(), container, grace });
}
