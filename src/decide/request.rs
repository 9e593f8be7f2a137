//! The operator's requests. They take the same path as a timer wake-up, and are refused with a reason if they are not
//! possible.

use std::time::Duration;

use super::begin::Begin;
use super::disk_state::DiskState;
use super::draft::Draft;
use super::lookup::{known, stands, there_are};
use super::{begin, generations, inhibitors, newer_state, pin, quarantine, suspension_request, targets, wrong_data};
use crate::model::component_state::{Initiator, Purpose, Until};
use crate::model::event::EventKind;
use crate::model::generation::{Proof, Stored, Trust};
use crate::model::memory::Pause;
use crate::model::notice::Notice;
use crate::model::plan::Refusal;
use crate::model::{ComponentId, ComponentState, Request};

/// Grants or refuses.
pub(super) fn take(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    newer_state::refuse(draft)?;
    match request {
        Request::Rollback { component, to } => roll_back(draft, component, *to),
        Request::Pause { seconds, reason } => {
            pause(draft, Duration::from_secs(*seconds), reason);
            Ok(())
        }
        Request::Checkpoint { component, reason } => checkpoint(draft, component, reason),
        Request::Release { component, number } => release(draft, component, *number),
        Request::Pin { component, number, reason } => pin::pin(draft, component, *number, reason),
        Request::Unpin { component } => pin::unpin(draft, component),
        Request::Quarantine { component, number, reason } => quarantine::ask(draft, component, *number, reason),
        Request::Suspend { component, seconds, reason } => {
            suspension_request::ask(draft, component, Duration::from_secs(*seconds), reason)
        }
        Request::AcceptData { component } => wrong_data::accept(draft, component.as_ref()),
        Request::Resume { component } => resume(draft, component.as_ref()),
    }
}

fn roll_back(draft: &mut Draft<'_>, id: &ComponentId, to: Option<u32>) -> Result<(), Refusal> {
    known(draft, id)?;
    if let Some(hold) = inhibitors::of(draft).filter(|hold| !hold.yields_to_operator()) {
        return Err(Refusal::NotActing { why: hold.to_string() });
    }
    let Some(record) = draft.record(id) else { return Ok(()) };
    if let ComponentState::Replacing(rollback) = &record.state {
        return Err(Refusal::NotNow {
            component: id.clone(),
            state: record.state.to_string(),
            why: format!("it is already being rolled back to generation {}", rollback.to),
        });
    }
    let standing = DiskState::of(draft.scene.seen, id, record);
    let stands = stands(record, &standing);
    let target = match (to, record.pin()) {
        (Some(number), _) => number,
        (None, Some(pinned)) if stands == Some(pinned) => {
            let why = format!("generation {pinned} is pinned, and deployed; give another one with `--to`");
            return Err(Refusal::NoTarget { component: id.clone(), why });
        }
        (None, Some(pinned)) => pinned,
        (None, None) => {
            let mut good = record.known_good().filter(|generation| Some(generation.number) != stands);
            let Some(target) = good.next() else {
                let why = match stands {
                    Some(number) if record.known_good().any(|generation| generation.number == number) => {
                        format!("its only known-good generation is {number}, which is deployed")
                    }
                    _ => "no generation of it is known-good".to_owned(),
                };
                return Err(Refusal::NoTarget { component: id.clone(), why });
            };
            target.number
        }
    };
    let not_this = |why: String| Refusal::NotThisGeneration { component: id.clone(), number: target, why };
    let Some(generation) = record.generations.get(&target) else { return Err(not_this(there_are(record))) };
    if stands == Some(target) {
        return Err(not_this("it is deployed already".to_owned()));
    }
    if let Trust::Quarantined { why, .. } = &generation.trust {
        return Err(not_this(format!("it is quarantined: {why}")));
    }
    generations::ready_to_return(draft, generation).map_err(not_this)?;
    targets::data_allow(draft, record, generation, Initiator::Operator)
        .map_err(|barred| not_this(barred.to_string()))?;
    let in_place = !matches!(standing, DiskState::Here(_) | DiskState::Unsettled | DiskState::Claimed { .. });
    let why = "the operator asked for it".to_owned();
    draft.tell(
        id,
        EventKind::Request,
        Some(target),
        &format!("rollback to generation {target}"),
        "the operator asked for it",
    );
    let purpose = Purpose::RollBack { from: stands, initiator: Initiator::Operator };
    let begun = Begin { purpose, to: target, why, in_place };
    if begin::begin(draft, id, begun) {
        return Ok(());
    }
    let why = match draft.record(id).map(|record| &record.state) {
        Some(ComponentState::Held(held)) => held.why.clone(),
        _ => "it cannot be begun now".to_owned(),
    };
    Err(Refusal::NoTarget { component: id.clone(), why })
}

fn pause(draft: &mut Draft<'_>, length: Duration, reason: &str) {
    let until = draft.scene.tick.now.wall.saturating_add(length).unwrap_or(jiff::Timestamp::MAX);
    draft.memory.pause = Some(Pause { until, reason: reason.to_owned(), warned: false });
    draft.tell_node(EventKind::Request, &format!("paused until {until:.0}"), reason);
}

fn resume(draft: &mut Draft<'_>, component: Option<&ComponentId>) -> Result<(), Refusal> {
    if let Some(id) = component {
        known(draft, id)?;
        if wrong_data::release(draft, id) {
            return Ok(());
        }
        wrong_data::may_resume(draft, id)?;
    }
    // The operator ends the pause and asks for no more than that: a hold has its own reason.
    if component.is_none() && draft.memory.pause.take().is_some() {
        draft.tell_node(EventKind::Request, "resumed", "the operator ended the pause");
        return Ok(());
    }
    give_back(draft, component);
    let held: Vec<ComponentId> = draft
        .memory
        .components
        .iter()
        .filter(|(id, record)| component.is_none_or(|only| only == *id) && is_released_by_a_person(&record.state))
        .map(|(id, _)| id.clone())
        .filter(|id| wrong_data::may_resume(draft, id).is_ok())
        .collect();
    for id in held {
        look_anew(draft, &id);
    }
    Ok(())
}

/// What waits for the right data would be held again at once.
fn is_released_by_a_person(slot: &ComponentState) -> bool {
    matches!(slot, ComponentState::Held(held) if held.until != Until::RightData)
}

/// Gives back what was spent within the hour: an operator who fixes the cause first, as instructed, finds nothing held any more
/// that could be released.
fn give_back(draft: &mut Draft<'_>, component: Option<&ComponentId>) {
    if component.is_none() {
        draft.memory.kubelet_restarts.clear();
        draft.memory.runtime_restarts.clear();
    }
    for (_, record) in draft.memory.components.iter_mut().filter(|(id, _)| component.is_none_or(|only| only == *id)) {
        record.actions.clear();
    }
}

/// The operator vouches for what is deployed. It still has to be kept before it can replace anything.
fn checkpoint(draft: &mut Draft<'_>, id: &ComponentId, reason: &str) -> Result<(), Refusal> {
    known(draft, id)?;
    let Some(record) = draft.record(id) else { return Ok(()) };
    let not_now =
        |why: &str| Refusal::NotNow { component: id.clone(), state: record.state.to_string(), why: why.to_owned() };
    if matches!(record.state, ComponentState::Replacing(_)) {
        return Err(not_now("it is being replaced"));
    }
    if draft.memory.wrong_data.as_ref().is_some_and(|wrong| wrong.etcd == *id) {
        return Err(not_now(
            "it serves other data than those on record; `lastgood etcd accept-data` if they are right",
        ));
    }
    let DiskState::Here(file) = DiskState::of(draft.scene.seen, id, record) else {
        return Err(not_now("the manifest directory does not hold exactly one complete manifest of it"));
    };
    let not_kept = not_now("the deployed manifest is not stored yet; try again in a moment");
    let number = generations::register(draft, id, &file);
    let since = draft.scene.tick.now.wall;
    let generation = draft.record_mut(id).and_then(|record| record.generations.get_mut(&number?));
    let Some(generation) = generation.filter(|generation| generation.stored == Stored::Yes) else {
        return Err(not_kept);
    };
    let number = generation.number;
    generation.trust = Trust::KnownGood { proof: Proof::Asserted { reason: reason.to_owned() }, since };
    generation.rewritten = 0;
    draft.tell(
        id,
        EventKind::Request,
        Some(number),
        &format!("generation {number} is known-good"),
        "the operator says so",
    );
    draft.clear_notice(id, Notice::Unproven);
    draft.enter(id, ComponentState::Steady { good: number }, "the operator marked the deployed manifest as known-good");
    Ok(())
}

/// A quarantined generation becomes a candidate like any other.
fn release(draft: &mut Draft<'_>, id: &ComponentId, number: Option<u32>) -> Result<(), Refusal> {
    known(draft, id)?;
    let Some(record) = draft.record_mut(id) else { return Ok(()) };
    let state = record.state.to_string();
    let mut quarantined = record.generations.values_mut().rev();
    let found = quarantined
        .find(|g| matches!(g.trust, Trust::Quarantined { .. }) && number.is_none_or(|number| g.number == number));
    let Some(generation) = found else {
        return Err(match number {
            Some(number) => {
                let (asked, why) = ("released".to_owned(), "it is not quarantined".to_owned());
                Refusal::NotSo { component: id.clone(), number, asked, why }
            }
            None => Refusal::NotNow {
                component: id.clone(),
                state: state.clone(),
                why: "no generation of it is quarantined".to_owned(),
            },
        });
    };
    let number = generation.number;
    generation.trust = Trust::Candidate;
    generation.rewritten = 0;
    let to = format!("generation {number} may be tried again");
    draft.tell(id, EventKind::Request, Some(number), &to, "the operator released it from quarantine");
    Ok(())
}

/// A held component is looked at again: what is deployed decides where it goes, and its budget begins again.
fn look_anew(draft: &mut Draft<'_>, id: &ComponentId) {
    let Some(record) = draft.record_mut(id) else { return };
    record.actions.clear();
    for generation in record.generations.values_mut() {
        generation.rewritten = 0;
    }
    let good = record.state.good().or_else(|| Some(record.known_good().next()?.number));
    let over = match &record.state {
        ComponentState::Held(held) => held.over,
        _ => None,
    };
    let slot = match (good, over) {
        (Some(good), Some(over)) if over != good => {
            ComponentState::Probation(crate::model::component_state::Probation::begin(over, good))
        }
        (Some(good), _) => ComponentState::Steady { good },
        (None, over) => ComponentState::Adopting { candidate: over.unwrap_or(1), healthy: Duration::ZERO },
    };
    draft.enter(id, slot, "the operator released it");
}
