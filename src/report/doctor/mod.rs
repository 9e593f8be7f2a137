//! Would a recovery succeed right now? Checks every condition of a recovery before it is needed.
//!
//! ```text
//!   the agent's verdicts ───────────────────────────────────── Examined ──▶ now.rs          what is not healthy at present
//!   Observation, Memory, Policy, Places, the store re-read ───────┴───────▶ node.rs         agent, disks, runtime, kubelet, clock
//!                                                                         components.rs   generation, bytes, images, files, budget
//!                                                                         addresses.rs, certificates.rs, probes.rs, restore.rs; each
//!                                                                          feature its own
//!                                                                           └──▶ Checks, the worst first ──▶ text | JSON | YAML
//! ```
//!
//! Pure, like the whole room: the caller has made the observation. "Cannot tell" does not promise success.

mod addresses;
mod certificates;
mod components;
mod etcd_data;
mod node;
mod now;
mod probes;
mod restore;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use components::wanted;

use super::{Process, Status};
use crate::config::OldName;
pub use crate::model::check::{Check, CheckResult};
use crate::model::notice::Notice;
use crate::model::{ComponentId, ComponentState, Memory, Observation, Policy};
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
    /// What the features found.
    pub features: &'e [Check],
    /// What restores left below etcd's data directory, where they were broken off.
    pub unfinished: &'e [PathBuf],
    /// The agent; a sentence when one is there and does not answer.
    pub agent: &'e Result<Process, String>,
    /// What the agent says of the components and services; nothing where none runs.
    pub status: Option<&'e Status>,
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
        let mut checks = now::checks(&examined);
        let unwell: Vec<String> = checks.iter().map(|check| check.subject.clone()).collect();
        checks.extend(node::checks(&examined));
        checks.extend(components::checks(&examined));
        checks.extend(addresses::checks(&examined));
        checks.extend(certificates::checks(&examined));
        checks.extend(probes::checks(&examined));
        checks.extend(restore::checks(&examined));
        checks.extend(etcd_data::checks(&examined));
        checks.extend(examined.features.iter().cloned());
        checks.extend(wrong_data(examined.memory));
        checks.extend(predicted(examined.memory));
        checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(CheckResult::CannotTell);
        let sentence = sentence(&checks, &unwell);
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

/// What is wrong now, then whether a recovery would succeed.
fn sentence(checks: &[Check], unwell: &[String]) -> String {
    let others = || checks.iter().filter(|check| !unwell.contains(&check.subject));
    let named = |mark: CheckResult| -> String {
        let names: Vec<&str> =
            others().filter(|check| check.verdict == mark).map(|check| check.subject.as_str()).collect();
        names.join("; ")
    };
    let warnings = others().filter(|check| check.verdict == CheckResult::Warning).count();
    let verdict = others().map(|check| check.verdict).max().unwrap_or(CheckResult::CannotTell);
    let recovery = match verdict {
        CheckResult::Ok => "a recovery would succeed right now".to_owned(),
        CheckResult::Warning if warnings == 1 => "a recovery would succeed right now; there is 1 warning".to_owned(),
        CheckResult::Warning => format!("a recovery would succeed right now; there are {warnings} warnings"),
        CheckResult::CannotTell => format!("it is unknown whether a recovery would succeed: {}", named(verdict)),
        CheckResult::Failed => format!("a recovery would not succeed right now: {}", named(verdict)),
    };
    match unwell {
        [] => recovery,
        unwell => format!("not healthy now: {}; {recovery}", unwell.join(", ")),
    }
}
