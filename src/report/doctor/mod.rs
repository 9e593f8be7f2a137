//! Would a recovery succeed right now? Checks every condition of a recovery before it is needed.
//!
//! ```text
//!   Observation, Memory, Policy, Places, the store re-read ── Examined ──▶ node.rs         agent, disks, runtime, kubelet, clock
//!                                                                         components.rs   generation, bytes, images, files, budget
//!                                                                         certificates.rs, snapshots.rs
//!                                                                           └──▶ Checks, the worst first ──▶ text | JSON | YAML
//! ```
//!
//! Pure, like the whole room: the caller has made the observation. "Cannot tell" does not promise success.

mod certificates;
mod components;
mod node;
mod snapshots;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use components::wanted;

use super::Process;
use crate::config::OldName;
use crate::model::notice::Notice;
use crate::model::{ComponentId, ComponentState, Memory, Observation, Policy, Snapshots};
use crate::observe::{Directories, Environment};

/// All that is examined.
#[derive(Clone, Copy, Debug)]
pub struct Examined<'e> {
    /// Now, by the wall clock.
    pub now: Timestamp,
    /// One look at the node.
    pub seen: &'e Observation,
    pub memory: &'e Memory,
    pub policy: &'e Policy,
    /// The keys of the configuration that have an old name.
    pub old_names: &'e [OldName],
    /// What was found of the node.
    pub found: &'e Environment,
    /// The directories a replacement needs.
    pub places: &'e Directories,
    /// Of each generation that was read again: whether its bytes are whole, or why not.
    pub store: &'e BTreeMap<(ComponentId, u32), Result<(), String>>,
    /// The snapshots of this node's etcd; nothing if it runs no etcd.
    pub snapshots: Option<&'e Snapshots>,
    /// What restores left below etcd's data directory, where they were broken off.
    pub unfinished: &'e [PathBuf],
    /// The agent; a sentence when one is there and does not answer.
    pub agent: &'e Result<Process, String>,
}

/// How one check came out, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum CheckResult {
    /// As it should be.
    Ok,
    /// A recovery would succeed, and something should be known or mended all the same.
    Warning,
    /// It could not be looked at.
    CannotTell,
    /// A recovery would not succeed.
    Failed,
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::CannotTell => "unknown",
            Self::Failed => "failed",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// What was looked at.
    pub subject: String,
    /// How it came out.
    pub verdict: CheckResult,
    pub detail: String,
    /// What mends it; absent where nothing has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub(super) fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: CheckResult::Ok, detail: detail.into(), fix: None }
    }

    pub(super) fn bad(
        subject: impl Into<String>,
        verdict: CheckResult,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { subject: subject.into(), verdict, detail: detail.into(), fix: Some(fix.into()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Doctor {
    /// When it was made.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// The worst of all.
    pub verdict: CheckResult,
    /// The same as a sentence.
    pub sentence: String,
    /// Every check, the worst first, then in the order of dependence.
    pub checks: Vec<Check>,
}

impl Doctor {
    pub fn new(examined: Examined<'_>) -> Self {
        let mut checks = node::checks(&examined);
        checks.extend(components::checks(&examined));
        checks.extend(certificates::checks(&examined));
        checks.extend(snapshots::checks(&examined));
        checks.extend(wrong_data(examined.memory));
        checks.extend(predicted(examined.memory));
        checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(CheckResult::CannotTell);
        let sentence = sentence(&checks, verdict);
        let node = examined.memory.machine.node_name.clone();
        Self { at: examined.now, node, verdict, sentence, checks }
    }

    /// Whether a recovery would succeed, as far as anybody can tell.
    pub fn is_well(&self) -> bool {
        self.verdict <= CheckResult::Warning
    }
}

/// An etcd that serves other data than those on record: what its state says, or what is said of it.
fn wrong_data(memory: &Memory) -> Option<Check> {
    let wrong = memory.wrong_data.as_ref()?;
    let record = memory.components.get(&wrong.etcd)?;
    let (detail, fix) = match &record.state {
        ComponentState::Held(held) => (held.why.clone(), held.next_step.clone()),
        _ => {
            let told = record.notices.get(&Notice::WrongData).cloned().unwrap_or_default();
            (told, format!("see `lastgood explain {}`", wrong.etcd))
        }
    };
    Some(Check::bad(format!("{} data", wrong.etcd), CheckResult::Failed, detail, fix))
}

/// The manifests that the kubelet is expected to refuse.
fn predicted(memory: &Memory) -> Vec<Check> {
    let told = memory.components.iter().filter_map(|(id, record)| {
        let text = record.notices.get(&Notice::PredictedRefusal)?;
        let fix = format!("`lastgood explain {id}`; `lastgood check` with the file checks it again");
        Some(Check::bad(format!("{id}: manifest"), CheckResult::Warning, text, fix))
    });
    told.collect()
}

fn sentence(checks: &[Check], verdict: CheckResult) -> String {
    let named = |mark: CheckResult| -> String {
        let names: Vec<&str> =
            checks.iter().filter(|check| check.verdict == mark).map(|check| check.subject.as_str()).collect();
        names.join("; ")
    };
    let warnings = checks.iter().filter(|check| check.verdict == CheckResult::Warning).count();
    match verdict {
        CheckResult::Ok => "a recovery would succeed right now".to_owned(),
        CheckResult::Warning if warnings == 1 => "a recovery would succeed right now; there is 1 warning".to_owned(),
        CheckResult::Warning => format!("a recovery would succeed right now; there are {warnings} warnings"),
        CheckResult::CannotTell => format!("it is unknown whether a recovery would succeed: {}", named(verdict)),
        CheckResult::Failed => format!("a recovery would not succeed right now: {}", named(verdict)),
    }
}
