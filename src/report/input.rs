//! The input of every report: the memory, the last judgement, the agent and the inhibitors.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use crate::feature::View;
use crate::model::inhibitor::Inhibitor;
use crate::model::{Event, Judgement, Memory, Policy};

/// All that reports are made of.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'m> {
    /// Now, by the wall clock.
    pub now: Timestamp,
    pub memory: &'m Memory,
    /// What the last pass meant; absent when no agent runs.
    pub judgement: Option<&'m Judgement>,
    pub agent: &'m Agent,
    pub policy: &'m Policy,
    /// What keeps the agent from acting at present, the strongest first; of a stopped agent what is on disk.
    pub inhibitors: &'m [Inhibitor],
    /// What the features have to show.
    pub features: &'m View,
    /// What the agent counted; absent when none runs.
    pub figures: Option<&'m Counters>,
    /// The latest events of note, the newest last.
    pub last: &'m [Event],
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Agent {
    /// Whether it runs.
    pub process: Process,
    pub version: String,
}

/// The agent's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Process {
    Running {
        /// Its process ID.
        pid: u32,
        since: Timestamp,
    },
    /// It does not: what is shown is what it knew last.
    Stopped,
}
