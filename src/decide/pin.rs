//! The pin: the operator fixes the rollback target. While a generation is pinned, automatic rollbacks deploy it if they
//! may, it is never removed, and inactive-manifests contains it; a newer generation that proves itself becomes
//! known-good, not the target.

use super::disk_state::DiskState;
use super::draft::Draft;
use super::lookup::{known, said, stands, there_are};
use crate::model::ComponentId;
use crate::model::event::EventKind;
use crate::model::generation::Stored;
use crate::model::memory::Pin;
use crate::model::notice::Notice;
use crate::model::plan::Refusal;

/// Pins what is deployed if that is known-good, else the newest known-good generation, unless one is named.
pub(super) fn pin(draft: &mut Draft<'_>, id: &ComponentId, number: Option<u32>, reason: &str) -> Result<(), Refusal> {
    let record = known(draft, id)?;
    let standing = DiskState::of(draft.scene.seen, id, record);
    let stood = stands(record, &standing).and_then(|number| record.generations.get(&number));
    let good = stood.filter(|generation| generation.trust.is_known_good());
    let chosen = number.or_else(|| good.or_else(|| record.known_good().next()).map(|generation| generation.number));
    let Some(number) = chosen else {
        let why = format!(
            "it has no known-good generation yet; `lastgood checkpoint {id}` marks the deployed manifest as known-good"
        );
        return Err(Refusal::NoTarget { component: id.clone(), why });
    };
    let not = |why: String| Refusal::NotSo { component: id.clone(), number, asked: "pinned".to_owned(), why };
    let Some(generation) = record.generations.get(&number) else { return Err(not(there_are(record))) };
    if !generation.trust.is_known_good() {
        let word = generation.trust.word();
        return Err(not(format!(
            "it is {word}, not known-good; while it is deployed, `lastgood checkpoint {id}` marks it as known-good"
        )));
    }
    if generation.stored == Stored::Pending {
        return Err(not("its bytes are not in the store".to_owned()));
    }
    let before = record.pin().filter(|before| *before != number);
    let since = draft.scene.tick.now.wall;
    if let Some(record) = draft.record_mut(id) {
        record.pinned = Some(Pin { generation: number, reason: reason.to_owned(), since });
    }
    draft.clear_notice(id, Notice::PinPassedOver);
    let instead = before.map_or(String::new(), |before| format!(" in place of generation {before}"));
    draft.tell(id, EventKind::Request, Some(number), &format!("generation {number} is pinned{instead}"), &said(reason));
    Ok(())
}

/// Lets go of the pinned generation: it is one known-good generation among others again.
pub(super) fn unpin(draft: &mut Draft<'_>, id: &ComponentId) -> Result<(), Refusal> {
    let record = known(draft, id)?;
    let Some(number) = record.pin() else {
        let (state, why) = (record.state.to_string(), "no generation of it is pinned".to_owned());
        return Err(Refusal::NotNow { component: id.clone(), state, why });
    };
    if let Some(record) = draft.record_mut(id) {
        record.pinned = None;
    }
    draft.clear_notice(id, Notice::PinPassedOver);
    let to = format!("generation {number} is no longer pinned");
    draft.tell(id, EventKind::Request, Some(number), &to, "the operator asked for it");
    Ok(())
}
