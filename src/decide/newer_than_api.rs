//! No component is left newer than its API server (Q6): components that changed together with an API server that was
//! rolled back are rolled back too.
//!
//! ```text
//!   kube-apiserver's candidate fails ──▶ rolled back ──▶ serves ──▶ each member of the change set that is of a newer minor:
//!        on trial, or known-good by now                                  rolled back too, once, and not quarantined
//!        no target, pinned, marked known-good by the operator            stays, with a notice and the next step
//! ```
//!
//! etcd is not part of this: an API server of either version can read from it, and its own probation decides. A
//! component that is newer than its API server because the operator deployed it so (only the API server was rolled
//! back, or the upgrade went in another order) is reported and left.

use super::begin::Begin;
use super::disk_state::DiskState;
use super::draft::Draft;
use super::{Inhibitor, begin, in_order, lookup, targets};
use crate::model::generation::{Generation, Proof, Trust};
use crate::model::notice::Notice;
use crate::model::{ComponentId, ComponentState, Role};

/// The API server that is deployed.
pub(super) struct Api {
    id: ComponentId,
    number: u32,
    minor: (u32, u32),
    /// Whether it is deployed because we undid the newer one of the set, and serves.
    put_back: PutBack,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PutBack {
    /// It is the one, and it serves.
    Serves,
    /// It is the one; nothing is decided while it does not serve.
    NotServing,
    No,
}

/// Looks for components that are newer than their API server.
pub(super) fn step(draft: &mut Draft<'_>) {
    if matches!(draft.hold, Some(Inhibitor::Kubeadm { .. })) {
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
            draft.clear_notice(&id, Notice::NewerThanApi);
            continue;
        };
        match way_back(draft, &id, &stands, &api) {
            Ok(to) => undo(draft, &id, stands.number, minor, to, &api),
            Err(why) => tell(draft, &id, &stands, minor, &why, &api),
        }
    }
}

/// The generation of a component that is deployed and is not being replaced at this moment.
pub(super) fn stands(draft: &Draft<'_>, id: &ComponentId) -> Option<Generation> {
    let record = draft.record(id).filter(|record| !matches!(record.state, ComponentState::Replacing(_)))?;
    let number = lookup::stands(record, &DiskState::of(draft.scene.seen, id, record))?;
    record.generations.get(&number).cloned()
}

pub(super) fn api(draft: &Draft<'_>) -> Option<Api> {
    let (id, record) = draft.memory.components.iter().find(|(_, record)| record.role == Role::ApiServer)?;
    let stands = stands(draft, id)?;
    let minor = stands.minor?;
    let undone = draft.memory.change_set.as_ref().filter(|set| set.undone.contains(id));
    let failed = undone.and_then(|set| record.generations.get(set.members.get(id)?));
    let was_newer = failed.is_some_and(|failed| failed.minor.is_some_and(|failed| failed > minor));
    let settled = matches!(record.state, ComponentState::Steady { good } if good == stands.number);
    let serving = draft.assessment(id).is_some_and(|assessment| assessment.serving);
    let put_back = match (was_newer && settled, serving) {
        (true, true) => PutBack::Serves,
        (true, false) => PutBack::NotServing,
        (false, _) => PutBack::No,
    };
    Some(Api { id: id.clone(), number: stands.number, minor, put_back })
}

/// Where a component that is newer than its API server rolls back to by itself; why it does not.
pub(super) fn way_back(draft: &Draft<'_>, id: &ComponentId, stands: &Generation, api: &Api) -> Result<u32, String> {
    let said = |why: &str| Err(why.to_owned());
    let set = draft.memory.change_set.as_ref().filter(|_| api.put_back == PutBack::Serves);
    let (Some(record), Some(set)) = (draft.record(id), set) else {
        return said("no failed upgrade of its API server caused this");
    };
    if matches!(record.state, ComponentState::Held(_)) {
        return said("it is held");
    }
    if set.undone.contains(id) {
        return said("it was rolled back once, and somebody wrote it again");
    }
    if set.members.get(id) != Some(&stands.number) {
        return said("it did not change together with its API server");
    }
    if record.pin() == Some(stands.number) {
        return said("the operator pinned it");
    }
    if matches!(stands.trust, Trust::KnownGood { proof: Proof::Asserted { .. }, .. }) {
        return said("the operator marked it as known-good");
    }
    let fits = |g: &&Generation| g.number != stands.number && g.minor.is_some_and(|minor| minor <= api.minor);
    // What was deployed before it, then the newest.
    let before = record.state.good().and_then(|good| record.generations.get(&good));
    let before = before.filter(|before| before.trust.is_known_good());
    let mut refused = format!("none of its known-good generations is of {} or older", shown(api.minor));
    for older in before.into_iter().chain(record.known_good()).filter(fits) {
        if let Err(why) = targets::may_return(draft, record, older) {
            refused = format!("generation {} cannot be deployed: {why}", older.number);
            continue;
        }
        let (aimed, _) = targets::aim(draft, id, older.number, Some(stands.number));
        return match record.generations.get(&aimed).filter(fits) {
            Some(aimed) => Ok(aimed.number),
            None => Err(format!("generation {aimed} is pinned, and is not of {} or older either", shown(api.minor))),
        };
    }
    Err(refused)
}

/// Not quarantined: the fault is not its own.
pub(super) fn undo(draft: &mut Draft<'_>, id: &ComponentId, from: u32, minor: (u32, u32), to: u32, api: &Api) {
    draft.clear_notice(id, Notice::NewerThanApi);
    let why = format!(
        "generation {from} is of {}, and {} was rolled back to generation {}, of {}: no component is left newer than its API \
         server",
        shown(minor),
        api.id,
        api.number,
        shown(api.minor)
    );
    begin::begin(draft, id, Begin::roll_back(from, to, why));
}

pub(super) fn tell(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    stands: &Generation,
    minor: (u32, u32),
    why: &str,
    api: &Api,
) {
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
    draft.notice(id, Notice::NewerThanApi, text);
}

pub(super) fn shown((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}
