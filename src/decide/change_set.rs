//! What changed together is one change set: judged together, undone in the order of dependence, only as far as needed.
//! No component is left newer than its API server (Q6).
//!
//! ```text
//!   etcd, kube-apiserver, controller manager, scheduler change,
//!   each within JOINS of the one before it                        ──▶ members of one set
//!
//!   kube-apiserver's candidate fails ──▶ goes back ──▶ serves     ──▶ each member that is of a newer minor version now:
//!        on trial, or known-good by now                                 goes back too, once, and is not quarantined
//!        nothing to go back to, pinned, vouched for                     stays, and is told with the next step
//!
//!   etcd's candidate fails ──▶ goes back ──▶ serves               ──▶ each member on trial that depends on it:
//!        (the same for kube-apiserver's)                                its trial begins anew
//! ```
//!
//! An etcd's candidate that serves is no part of this: an API server of either version reads from it, and its own trial
//! decides. What is newer than its API server by somebody else's deed (a person went back with that alone, or upgraded in
//! another order) is theirs: told, and left.

use std::time::Duration;

use super::draft::Draft;
use super::rollback::{self, Begin};
use super::standing::Standing;
use super::{Hold, in_order, request};
use crate::model::event::EventKind;
use crate::model::generation::{Generation, Proof, Standing as Held};
use crate::model::memory::ChangeSet;
use crate::model::slot::{Probation, Rollback, Wish};
use crate::model::{ComponentId, Role, Slot, Verdict};

/// How long after a change another one still belongs to it. kubeadm changes one component after the other, and waits
/// before the next: 5 min for the kubelet to have taken the manifest up and as long for the pod to be ready
/// (its `timeouts.upgradeManifests`), after etcd's 10 rounds of 15 s more.
const JOINS: Duration = Duration::from_secs(15 * 60);

/// The key of the notice.
const NEWER: &str = "newer-than-api";

/// Lets the time pass in which another component joins. A pause, or kubeadm at work, stops it: what stands afterwards is
/// judged as one.
pub(super) fn grow_older(draft: &mut Draft<'_>) {
    if matches!(draft.hold, Some(Hold::Kubeadm { .. } | Hold::Paused { .. })) {
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
        // others it is a person's word, and they are not fought.
        if !matches!(role, Role::Etcd | Role::ApiServer) {
            set.members.remove(id);
            return;
        }
        let undone = std::mem::take(&mut set.undone);
        set.members.retain(|member, _| !undone.contains(member));
    }
    set.members.insert(id.clone(), number);
}

/// A replacement has begun: by our own wish, of what the component changed to, it undoes that part of the set.
pub(super) fn begun(draft: &mut Draft<'_>, id: &ComponentId, rollback: &Rollback) {
    let Some(set) = &mut draft.memory.change_set else { return };
    if rollback.wish == Wish::Ours && rollback.from.is_some() && set.members.get(id).copied() == rollback.from {
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
        let Slot::Probation(trial) = &mut record.slot else { continue };
        if record.role.depends_on() != Some(role) || trial.candidate != *number || newer {
            continue;
        }
        *trial = Probation::begin(*number, trial.good);
        let because = format!("it changed together with {id}, which serves again, with generation {to}");
        draft.tell(
            member,
            EventKind::Notice,
            Some(*number),
            &format!("the trial of generation {number} begins anew"),
            &because,
        );
    }
}

/// Whether a component's health says little at present: the one that it depends on is not healthy.
pub(super) fn depends_on_the_unwell(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let needed = draft.record(id).and_then(|record| record.role.depends_on());
    let judged = &draft.scene.judged.components;
    judged.iter().any(|(other, a)| other != id && Some(a.role) == needed && a.verdict != Verdict::Healthy)
}

/// The API server that stands.
struct Api {
    id: ComponentId,
    number: u32,
    minor: (u32, u32),
    /// Whether it stands because we undid the newer one of the set, and serves.
    put_back: PutBack,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PutBack {
    /// It is the one, and it serves.
    Serves,
    /// It is the one; nothing is decided while it does not serve.
    NotServing,
    /// It is not.
    No,
}

/// Looks for components that are newer than their API server.
pub(super) fn step(draft: &mut Draft<'_>) {
    if matches!(draft.hold, Some(Hold::Kubeadm { .. })) {
        return;
    }
    let Some(api) = api(draft) else { return };
    for id in in_order(&draft.memory) {
        let depends = draft.record(&id).is_some_and(|record| record.role.depends_on() == Some(Role::ApiServer));
        if !depends || draft.begun.contains(&id) || api.put_back == PutBack::NotServing {
            continue;
        }
        let Some(stands) = stands(draft, &id) else { continue };
        let Some(minor) = stands.minor.filter(|minor| *minor > api.minor) else {
            draft.clear_notice(&id, NEWER);
            continue;
        };
        match way_back(draft, &id, &stands, &api) {
            Ok(to) => undo(draft, &id, stands.number, minor, to, &api),
            Err(why) => tell(draft, &id, &stands, minor, &why, &api),
        }
    }
}

/// The generation of a component that stands and is not being replaced at this moment.
fn stands(draft: &Draft<'_>, id: &ComponentId) -> Option<Generation> {
    let record = draft.record(id).filter(|record| !matches!(record.slot, Slot::RollingBack(_)))?;
    let number = request::stands(record, &Standing::of(draft.scene.seen, id, record))?;
    record.generations.get(&number).cloned()
}

fn api(draft: &Draft<'_>) -> Option<Api> {
    let (id, record) = draft.memory.components.iter().find(|(_, record)| record.role == Role::ApiServer)?;
    let stands = stands(draft, id)?;
    let minor = stands.minor?;
    let undone = draft.memory.change_set.as_ref().filter(|set| set.undone.contains(id));
    let failed = undone.and_then(|set| record.generations.get(set.members.get(id)?));
    let was_newer = failed.is_some_and(|failed| failed.minor.is_some_and(|failed| failed > minor));
    let settled = matches!(record.slot, Slot::Steady { good } if good == stands.number);
    let serving = draft.assessment(id).is_some_and(|assessment| assessment.serving);
    let put_back = match (was_newer && settled, serving) {
        (true, true) => PutBack::Serves,
        (true, false) => PutBack::NotServing,
        (false, _) => PutBack::No,
    };
    Some(Api { id: id.clone(), number: stands.number, minor, put_back })
}

/// Where a component that is newer than its API server goes back to by itself; why it does not.
fn way_back(draft: &Draft<'_>, id: &ComponentId, stands: &Generation, api: &Api) -> Result<u32, String> {
    let said = |why: &str| Err(why.to_owned());
    let set = draft.memory.change_set.as_ref().filter(|_| api.put_back == PutBack::Serves);
    let (Some(record), Some(set)) = (draft.record(id), set) else {
        return said("no failed upgrade of its API server brought that about");
    };
    if matches!(record.slot, Slot::Held(_)) {
        return said("it is held");
    }
    if set.undone.contains(id) {
        return said("it was put back once, and somebody wrote it again");
    }
    if set.members.get(id) != Some(&stands.number) {
        return said("it did not change together with its API server");
    }
    if record.pin() == Some(stands.number) {
        return said("a person pinned it");
    }
    if matches!(stands.standing, Held::KnownGood { proof: Proof::Asserted { .. }, .. }) {
        return said("a person vouched for it");
    }
    let fits = |g: &&Generation| g.number != stands.number && g.minor.is_some_and(|minor| minor <= api.minor);
    // What stood before it, then the newest.
    let before = record.slot.good().and_then(|good| record.generations.get(&good));
    let before = before.filter(|before| before.standing.is_known_good());
    let mut refused = format!("none of its known-good generations is of {} or older", shown(api.minor));
    for older in before.into_iter().chain(record.known_good()).filter(fits) {
        if let Err(why) = rollback::may_return(draft, record, older) {
            refused = format!("generation {} cannot be put back: {why}", older.number);
            continue;
        }
        let (aimed, _) = rollback::aim(draft, id, older.number, Some(stands.number));
        return match record.generations.get(&aimed).filter(fits) {
            Some(aimed) => Ok(aimed.number),
            None => Err(format!("generation {aimed} is pinned, and not of {} or older either", shown(api.minor))),
        };
    }
    Err(refused)
}

/// Not quarantined: the fault is not its own.
fn undo(draft: &mut Draft<'_>, id: &ComponentId, from: u32, minor: (u32, u32), to: u32, api: &Api) {
    draft.clear_notice(id, NEWER);
    let why = format!(
        "generation {from} is of {}, and {} went back to generation {}, of {}: no component is left newer than its API \
         server",
        shown(minor),
        api.id,
        api.number,
        shown(api.minor)
    );
    let begin = Begin { from: Some(from), to, why, wish: Wish::Ours, intruders: Vec::new(), in_place: false };
    rollback::begin(draft, id, begin);
}

fn tell(draft: &mut Draft<'_>, id: &ComponentId, stands: &Generation, minor: (u32, u32), why: &str, api: &Api) {
    let older = draft.record(id).and_then(|record| {
        let fits = |g: &&Generation| g.number != stands.number && g.minor.is_some_and(|minor| minor <= api.minor);
        record.known_good().find(fits).map(|older| older.number)
    });
    let next = match older {
        Some(older) => format!("`lastgood rollback {id} --to {older}`, or bring {} to {}", api.id, shown(minor)),
        None => format!("put a manifest of {} in place, or bring {} to {}", shown(api.minor), api.id, shown(minor)),
    };
    let text = format!(
        "generation {} is of {}, newer than {}, which is of {}, and stays: {why}; next: {next}",
        stands.number,
        shown(minor),
        api.id,
        shown(api.minor)
    );
    draft.notice(id, NEWER, text);
}

fn shown((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}
