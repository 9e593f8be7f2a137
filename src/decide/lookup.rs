//! Looks up components and generations in the memory for a request, and refuses the request if there are none.

use super::disk_state::DiskState;
use super::draft::Draft;
use crate::model::ComponentId;
use crate::model::memory::Record;
use crate::model::plan::Refusal;

/// The record of a component that there is.
pub(super) fn known<'d>(draft: &'d Draft<'_>, id: &ComponentId) -> Result<&'d Record, Refusal> {
    draft.record(id).ok_or_else(|| Refusal::no_such_component(id, draft.memory.components.keys()))
}

/// The deployed generation, where exactly one file holds the component and what it holds is known.
pub(super) fn stands(record: &Record, standing: &DiskState) -> Option<u32> {
    let DiskState::Here(file) = standing else { return None };
    let manifest = file.content.as_ref().ok()?;
    record.by_digest(super::disk_state::digest(record, manifest, file)).map(|generation| generation.number)
}

/// The sentence for a number that no generation has.
pub(super) fn there_are(record: &Record) -> String {
    let numbers: Vec<String> = record.generations.keys().map(ToString::to_string).collect();
    format!("there is none; there are {}", numbers.join(", "))
}

/// The operator's word, with their reason where they gave one.
pub(super) fn said(reason: &str) -> String {
    if reason.is_empty() { "the operator says so".to_owned() } else { format!("the operator says so: {reason}") }
}
