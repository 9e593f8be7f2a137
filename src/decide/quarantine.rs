//! Quarantine by the operator: marks a generation as bad; if it is deployed, a known-good one replaces it immediately.
//!
//! ```text
//!   refused    the last known-good generation, a pinned one, one that is being deployed
//!   deployed   begins a rollback in the operator's name (a pause does not prevent it), to a permitted target (Q1, R9)
//!   else       only marked: later rollbacks choose another known-good generation
//! ```

use super::begin::Begin;
use super::disk_state::DiskState;
use super::draft::Draft;
use super::lookup::{known, said, stands, there_are};
use super::{begin, inhibitors, targets};
use crate::model::component_state::{Initiator, Purpose};
use crate::model::event::EventKind;
use crate::model::generation::{Generation, Trust};
use crate::model::memory::Record;
use crate::model::plan::Refusal;
use crate::model::{ComponentId, ComponentState};

/// Grants or refuses.
pub(super) fn ask(draft: &mut Draft<'_>, id: &ComponentId, number: Option<u32>, reason: &str) -> Result<(), Refusal> {
    let record = known(draft, id)?;
    let not_now = |why: String| Refusal::NotNow { component: id.clone(), state: record.state.to_string(), why };
    let stands = stands(record, &DiskState::of(draft.scene.seen, id, record));
    let Some(number) = number.or(stands) else {
        return Err(not_now("it is unknown which generation is deployed; give its number".to_owned()));
    };
    let not = |why: String| Refusal::NotSo { component: id.clone(), number, asked: "quarantined".to_owned(), why };
    let Some(generation) = record.generations.get(&number) else { return Err(not(there_are(record))) };
    if let Trust::Quarantined { why, .. } = &generation.trust {
        return Err(not(format!("it is already: {why}")));
    }
    if record.pin() == Some(number) {
        return Err(not(format!("it is pinned; `lastgood unpin {id}` removes the pin")));
    }
    let Some(successor) = heirs(record, number).next().map(|successor| successor.number) else {
        return Err(not(if generation.trust.is_known_good() {
            "it is the last known-good generation, and nothing could take its place".to_owned()
        } else {
            "it has no known-good generation, so nothing could take its place".to_owned()
        }));
    };
    match &record.state {
        ComponentState::Replacing(rollback) if rollback.to == number => {
            return Err(not_now("it is being rolled back to this generation".to_owned()));
        }
        ComponentState::Replacing(_) => {}
        _ if stands == Some(number) => return revert(draft, id, number, reason),
        _ => {}
    }
    mark(draft, id, number, reason);
    if let Some(record) = draft.record_mut(id) {
        let slot = std::mem::replace(&mut record.state, ComponentState::Steady { good: successor });
        record.state = without(slot, number, successor);
    }
    Ok(())
}

/// Who could take a generation's place: the pinned one, the one the slot falls back to, then the newest.
fn heirs(record: &Record, number: u32) -> impl Iterator<Item = &Generation> {
    let first =
        [record.pin(), record.state.good()].into_iter().flatten().filter_map(|number| record.generations.get(&number));
    let good = first.filter(|generation| generation.trust.is_known_good()).chain(record.known_good());
    good.filter(move |generation| generation.number != number)
}

/// What is deployed goes, and a known-good one comes.
fn revert(draft: &mut Draft<'_>, id: &ComponentId, number: u32, reason: &str) -> Result<(), Refusal> {
    if let Some(hold) = inhibitors::of(draft).filter(|hold| !hold.yields_to_operator()) {
        return Err(Refusal::NotActing { why: hold.to_string() });
    }
    let record = known(draft, id)?;
    let no_target = |why: String| Refusal::NoTarget { component: id.clone(), why };
    let mut refused = None;
    let mut to = None;
    for successor in heirs(record, number) {
        match targets::may_return(draft, record, successor) {
            Ok(()) => {
                to = Some(successor.number);
                break;
            }
            Err(why) => refused = refused.or(Some(format!("generation {}: {why}", successor.number))),
        }
    }
    let Some(to) = to else { return Err(no_target(refused.unwrap_or_default())) };
    let (memory, events, plan) = (draft.memory.clone(), draft.events.len(), draft.plan.len());
    mark(draft, id, number, reason);
    let why = format!("generation {number} is quarantined ({})", said(reason));
    let purpose = Purpose::RollBack { from: Some(number), initiator: Initiator::Operator };
    let begin = Begin { purpose, to, why, in_place: false };
    if begin::begin(draft, id, begin) {
        return Ok(());
    }
    let why = match draft.record(id).map(|record| &record.state) {
        Some(ComponentState::Held(held)) => held.why.clone(),
        _ => "the rollback cannot begin now".to_owned(),
    };
    // What is refused has not happened.
    draft.memory = memory;
    draft.events.truncate(events);
    draft.plan.truncate(plan);
    Err(no_target(why))
}

fn mark(draft: &mut Draft<'_>, id: &ComponentId, number: u32, reason: &str) {
    let since = draft.scene.tick.now.wall;
    let Some(generation) = draft.record_mut(id).and_then(|record| record.generations.get_mut(&number)) else { return };
    generation.trust = Trust::Quarantined { why: said(reason), since };
    let to = format!("generation {number} is quarantined");
    draft.tell(id, EventKind::Request, Some(number), &to, &said(reason));
}

/// A slot that falls back to the successor where it fell back to what is quarantined now.
fn without(mut slot: ComponentState, number: u32, successor: u32) -> ComponentState {
    let good = match &mut slot {
        ComponentState::Steady { good }
        | ComponentState::Unread { good, .. }
        | ComponentState::Missing { good, .. } => Some(good),
        ComponentState::Probation(trial) => Some(&mut trial.good),
        ComponentState::Held(held) => held.good.as_mut(),
        ComponentState::Adopting { .. } | ComponentState::Replacing(_) => None,
    };
    if let Some(good) = good.filter(|good| **good == number) {
        *good = successor;
    }
    // A candidate that is the successor is known-good already.
    match slot {
        ComponentState::Probation(trial) if trial.candidate == successor && trial.good == successor => {
            ComponentState::Steady { good: successor }
        }
        ComponentState::Unread { candidate, good, .. } if candidate == successor && good == successor => {
            ComponentState::Steady { good: successor }
        }
        slot => slot,
    }
}
