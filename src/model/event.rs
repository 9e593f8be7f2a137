//! Events: one per state change, for the journal and the history.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ComponentId;

/// One line of the history, and one of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    pub at: Timestamp,
    /// What kind: the journal's MESSAGE_ID goes by it.
    pub kind: EventKind,
    /// About whom; absent for the node as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentId>,
    /// Which generation it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The state left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The state entered, or what was done.
    pub to: String,
    /// Why: a sentence.
    pub because: String,
}

/// The kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum EventKind {
    /// The agent started, stopped, or found something about itself.
    Agent,
    /// A component's verdict changed.
    Verdict,
    /// A component's place in the state machine changed.
    State,
    /// A generation was seen first, proven or quarantined.
    Generation,
    /// A step was taken.
    Action,
    /// A step failed.
    Failure,
    /// Something the operator should know, that nothing is done about.
    Notice,
    /// The operator asked for something.
    Request,
    /// A snapshot of etcd's data was taken or pruned.
    Snapshot,
}

impl Event {
    /// An event about the node as a whole, or about a component.
    pub fn new(
        at: Timestamp,
        kind: EventKind,
        component: Option<&ComponentId>,
        to: impl Into<String>,
        because: impl Into<String>,
    ) -> Self {
        let (to, because) = (to.into(), because.into());
        Self { at, kind, component: component.cloned(), generation: None, from: None, to, because }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(component) = &self.component {
            write!(f, "{component}: ")?;
        }
        if let Some(from) = &self.from {
            write!(f, "{from} -> ")?;
        }
        f.write_str(&self.to)?;
        if !self.because.is_empty() {
            write!(f, ", because {}", self.because)?;
        }
        Ok(())
    }
}
