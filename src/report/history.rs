//! The history of a component: its generations, and the decisions about them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::memory::Record;
use crate::model::{ComponentId, Event, Generation, Memory, Proof, Trust};

/// One component's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct History {
    pub component: ComponentId,
    /// Its generations, the newest first.
    pub generations: Vec<GenerationRow>,
    /// What happened, the newest last.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GenerationRow {
    pub number: u32,
    /// What is held of it.
    pub standing: StandingView,
    /// Where it is now.
    pub place: PlaceView,
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

/// What is held of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum StandingView {
    /// It is not proven yet.
    Candidate,
    /// It is proven by evidence, or marked good by a person.
    KnownGood,
    /// It failed by its own fault.
    Quarantined,
}

impl From<&Trust> for StandingView {
    fn from(standing: &Trust) -> Self {
        match standing {
            Trust::Candidate => Self::Candidate,
            Trust::KnownGood { .. } => Self::KnownGood,
            Trust::Quarantined { .. } => Self::Quarantined,
        }
    }
}

impl fmt::Display for StandingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Where a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum PlaceView {
    /// In the manifest directory.
    #[serde(rename = "deployed")]
    Deployed,
    /// In the store, and a failed change is rolled back to it.
    #[serde(rename = "rollback target")]
    RollbackTarget,
    /// In the store alone.
    #[serde(rename = "")]
    Stored,
}

impl fmt::Display for PlaceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl GenerationRow {
    fn new(record: &Record, generation: &Generation) -> Self {
        let number = generation.number;
        let place = match (stands(record) == Some(number), record.goes_back_to() == Some(number)) {
            (true, _) => PlaceView::Deployed,
            (false, true) => PlaceView::RollbackTarget,
            (false, false) => PlaceView::Stored,
        };
        let why = match &generation.trust {
            Trust::Candidate => String::new(),
            Trust::KnownGood { proof: Proof::Soak { seconds, evidence }, .. } => {
                format!("{seconds} s of health: {evidence}")
            }
            Trust::KnownGood { proof: Proof::Asserted { reason }, .. } if reason.is_empty() => {
                "asserted by the operator".to_owned()
            }
            Trust::KnownGood { proof: Proof::Asserted { reason }, .. } => {
                format!("asserted by the operator: {reason}")
            }
            Trust::Quarantined { why, .. } => why.clone(),
        };
        Self {
            number,
            standing: StandingView::from(&generation.trust),
            place,
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
    record.by_digest(record.deployed.as_ref()?.digest).map(|generation| generation.number)
}
