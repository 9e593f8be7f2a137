//! The history of a component: its generations, and the decisions about them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::memory::Record;
use crate::model::{ComponentId, Event, Generation, Memory, Proof, Standing};

/// One component's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub component: ComponentId,
    /// Its generations, the newest first.
    pub generations: Vec<GenerationRow>,
    /// What happened, the newest last.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRow {
    pub number: u32,
    /// `candidate`, `known-good` or `quarantined`.
    pub standing: String,
    /// Where it is now: `deployed`, `rollback target`, or nothing.
    pub place: String,
    /// Whether a person fixed it as the one to go back to.
    #[serde(default)]
    pub pinned: bool,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it first served.
    pub served: Option<Timestamp>,
    /// What proved it, or why it failed.
    pub why: String,
    /// The images it needs.
    pub images: Vec<String>,
    /// Its file in the manifest directory.
    pub file_name: String,
    /// Of what it holds.
    pub digest: String,
}

impl GenerationRow {
    fn new(record: &Record, generation: &Generation) -> Self {
        let number = generation.number;
        let place = match (stands(record) == Some(number), record.goes_back_to() == Some(number)) {
            (true, _) => "deployed",
            (false, true) => "rollback target",
            (false, false) => "",
        };
        let why = match &generation.standing {
            Standing::Candidate => String::new(),
            Standing::KnownGood { proof: Proof::Soak { seconds, evidence }, .. } => {
                format!("{seconds} s of health: {evidence}")
            }
            Standing::KnownGood { proof: Proof::Asserted { reason }, .. } if reason.is_empty() => {
                "asserted by the operator".to_owned()
            }
            Standing::KnownGood { proof: Proof::Asserted { reason }, .. } => {
                format!("asserted by the operator: {reason}")
            }
            Standing::Quarantined { why, .. } => why.clone(),
        };
        Self {
            number,
            standing: generation.standing.word().to_owned(),
            place: place.to_owned(),
            pinned: record.pin() == Some(number),
            first_seen: generation.first_seen,
            served: generation.served,
            why,
            images: generation.images.iter().cloned().collect(),
            file_name: generation.file_name.clone(),
            digest: generation.digest.to_string(),
        }
    }
}

/// The rows of a record, the newest first.
pub(super) fn rows(record: &Record) -> Vec<GenerationRow> {
    record.generations.values().rev().map(|generation| GenerationRow::new(record, generation)).collect()
}

impl History {
    /// The history of one component, from the memory and the events that the log holds of it.
    pub fn new(memory: &Memory, component: &ComponentId, events: Vec<Event>) -> Self {
        let generations = memory.components.get(component).map(rows).unwrap_or_default();
        Self { component: component.clone(), generations, events }
    }
}

/// The generation that stands.
pub(super) fn stands(record: &Record) -> Option<u32> {
    record.by_digest(record.stands.as_ref()?.digest).map(|generation| generation.number)
}
