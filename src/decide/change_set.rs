//! The change set: components that changed together. They are judged together: if one of them is rolled back and serves
//! again, the probations of those that depend on it begin again.
//!
//! ```text
//!   etcd, kube-apiserver, controller manager, scheduler change,
//!   each within JOINS of the one before it                        ──▶ members of one set
//!
//!   the candidate of etcd or kube-apiserver fails ──▶ rolled back ──▶ serves ──▶ each member on probation that depends on it:
//!                                                                                its probation begins again
//! ```
//!
//! Components that are then newer than their API server are handled in newer_than_api.rs.

use std::time::Duration;

use super::Inhibitor;
use super::draft::Draft;
use crate::model::component_state::{Initiator, Probation, Purpose};
use crate::model::event::EventKind;
use crate::model::memory::ChangeSet;
use crate::model::{ComponentId, ComponentState, Role, Verdict};

/// How long after a change another one still belongs to it. kubeadm changes one component after the other, and waits
/// before the next: 5 min for the kubelet to have taken the manifest up and as long for the pod to be ready
/// (its `timeouts.upgradeManifests`), after etcd's 10 rounds of 15 s more.
const JOINS: Duration = Duration::from_secs(15 * 60);

/// Lets the time pass in which another component joins. A pause, or kubeadm at work, stops it: what is deployed
/// afterwards is judged as one.
pub(super) fn grow_older(draft: &mut Draft<'_>) {
    if matches!(draft.hold, Some(Inhibitor::Kubeadm { .. } | Inhibitor::Paused { .. })) {
        return;
    }
    let credit = draft.credit();
    if let Some(set) = draft.memory.change_set.as_mut().filter(|set| set.age < JOINS) {
        set.age += credit;
    }
}

/// A component has changed to another generation.
pub(super) fn join(draft: &mut Draft<'_>, id: &ComponentId, number: u32) {
    let Some(role) = draft.record(id).map(|record| record.role) else { return };
    let set = draft.memory.change_set.get_or_insert_default();
    if set.age >= JOINS {
        *set = ChangeSet::default();
    }
    set.age = Duration::ZERO;
    if set.undone.contains(id) {
        // Somebody wrote again what we had put back. Of what others depend on, that is another try of the whole; of the
        // others it is the operator's word, and they are not fought.
        if !matches!(role, Role::Etcd | Role::ApiServer) {
            set.members.remove(id);
            return;
        }
        let undone = std::mem::take(&mut set.undone);
        set.members.retain(|member, _| !undone.contains(member));
    }
    set.members.insert(id.clone(), number);
}

/// A replacement has begun: if the agent rolls back what the component changed to, that part of the set is undone.
pub(super) fn begun(draft: &mut Draft<'_>, id: &ComponentId, purpose: &Purpose) {
    let Some(set) = &mut draft.memory.change_set else { return };
    if let Purpose::RollBack { from: Some(from), initiator: Initiator::Agent } = purpose
        && set.members.get(id) == Some(from)
    {
        set.undone.insert(id.clone());
    }
}

/// A component of the set was put back and serves: what was counted while it did not says nothing of those that depend on
/// it, nor does the time that the kubelet still backs off from starting them.
pub(super) fn serves_again(draft: &mut Draft<'_>, id: &ComponentId, to: u32) {
    let Some(set) = draft.memory.change_set.clone().filter(|set| set.undone.contains(id)) else { return };
    let Some((role, minor)) = draft.record(id).and_then(|r| Some((r.role, r.generations.get(&to)?.minor))) else {
        return;
    };
    for (member, number) in &set.members {
        let Some(record) = draft.record_mut(member) else { continue };
        // What is newer than its API server now is not tried any longer.
        let newer = role == Role::ApiServer && record.generations.get(number).is_some_and(|g| g.minor > minor);
        let ComponentState::Probation(trial) = &mut record.state else { continue };
        if record.role.depends_on() != Some(role) || trial.candidate != *number || newer {
            continue;
        }
        *trial = Probation::begin(*number, trial.good);
        let because = format!("it changed together with {id}, which serves again, with generation {to}");
        draft.tell(
            member,
            EventKind::Notice,
            Some(*number),
            &format!("the probation of generation {number} begins again"),
            &because,
        );
    }
}

/// Whether a component's health says little at present: the one that it depends on is not healthy.
pub(super) fn depends_on_the_unwell(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let needed = draft.record(id).and_then(|record| record.role.depends_on());
    let judged = &draft.scene.judged.components;
    judged.iter().any(|(other, a)| other != id && Some(a.role) == needed && a.verdict() != Verdict::Healthy)
}
