//! Whether a disk, a database and a node are fit for etcd, line by line, compared with etcd's own documentation.
//!
//! ```text
//!   the member's own histograms ─┐
//!   test writes ─────────────────┤
//!   size, quota, growth ─────────┼──▶ a Line each: found, wanted, source, next ──▶ Sizing ──▶ text | JSON | YAML
//!   disk, pressure, processors ──┘
//! ```
//!
//! Pure, like the whole room. If the limit is inside a bucket of a histogram, the result is unknown.

mod lines;
#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::doctor::CheckResult;
use super::table;
use super::table::table;
use super::text::section;
use crate::config::duration::roughly;
use crate::model::environment::{Disk, Pressure};
use crate::model::etcd_history::Growth;
use crate::model::{ComponentId, EtcdStatus};
use crate::sys::fsync_bench::Measured;

/// The examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sizing {
    /// When it was made.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// The member; absent where the node has none.
    pub component: Option<ComponentId>,
    /// The directory whose file system counts.
    pub directory: String,
    /// The worst of all.
    pub verdict: CheckResult,
    /// The same as a sentence.
    pub sentence: String,
    /// Every line, the worst first.
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Line {
    /// What was looked at.
    pub subject: String,
    /// How it came out.
    pub verdict: CheckResult,
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// Who says so: where to read it.
    pub source: String,
    /// What mends it; absent where nothing has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// All that is examined.
#[derive(Clone, Debug)]
pub struct Examined<'e> {
    pub at: Timestamp,
    /// The node's name.
    pub node: &'e str,
    /// The member of this node.
    pub component: Option<&'e ComponentId>,
    /// The directory whose file system counts: etcd's log, or another one that was named.
    pub directory: String,
    /// What the member says; absent where there is none.
    pub status: Option<&'e EtcdStatus>,
    /// Bytes of the database file, where the member does not say it.
    pub db_bytes: Option<u64>,
    /// How it grew, as far as that was watched.
    pub growth: Option<Growth>,
    pub disk: Option<&'e Disk>,
    /// Whether the file system lies in memory alone.
    pub in_memory: bool,
    /// What tasks wait for.
    pub pressure: Pressure,
    /// Processors of the node.
    pub cores: Option<usize>,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// What was measured by writing; absent where nothing was.
    pub measured: Option<Measured>,
}

impl Sizing {
    pub fn new(examined: &Examined<'_>) -> Self {
        let mut all = lines::latencies(examined);
        all.extend(lines::database(examined));
        all.extend(lines::disk(examined));
        all.extend(lines::pressure(&examined.pressure));
        all.extend(lines::node(examined));
        all.sort_by_key(|line| std::cmp::Reverse(line.verdict));
        let verdict = all.iter().map(|line| line.verdict).max().unwrap_or(CheckResult::CannotTell);
        let named: Vec<&str> = all.iter().filter(|l| l.verdict == verdict).map(|l| l.subject.as_str()).collect();
        let named = named.join("; ");
        let sentence = match verdict {
            CheckResult::Ok => "fit for etcd".to_owned(),
            CheckResult::Warning => format!("fit for etcd, with little to spare: {named}"),
            CheckResult::CannotTell => format!("it is unknown whether it is fit for etcd: {named}"),
            CheckResult::Failed => format!("not fit for etcd: {named}"),
        };
        Self {
            at: examined.at,
            node: examined.node.to_owned(),
            component: examined.component.cloned(),
            directory: examined.directory.clone(),
            verdict,
            sentence,
            lines: all,
        }
    }

    /// Whether it is fit, as far as anybody can tell.
    pub fn is_well(&self) -> bool {
        self.verdict <= CheckResult::Warning
    }

    /// For people: the worst first, what mends it, who asks for it, and the verdict as the last line.
    pub fn text(&self) -> String {
        let mut table = table(&["VERDICT", "WHAT", "FOUND", "WANTED"]);
        for line in &self.lines {
            table.add_row([line.verdict.to_string(), line.subject.clone(), line.found.clone(), line.wanted.clone()]);
        }
        let mut out = table::lines(&table);
        let next = self.lines.iter().filter_map(|line| Some(format!("{}: {}", line.subject, line.next.as_ref()?)));
        section(&mut out, "Next steps", next);
        let mut sources: Vec<&str> = self.lines.iter().map(|line| line.source.as_str()).collect();
        sources.retain(|source| source.starts_with("https://"));
        sources.sort_unstable();
        sources.dedup();
        section(&mut out, "Sources", sources.into_iter().map(str::to_owned));
        let node = if self.node.is_empty() { "this node" } else { &self.node };
        out.push_str(&format!("\n{node}, {}: {}\n", self.directory, self.sentence));
        out
    }
}

/// That a measurement is about to be made beside an etcd that runs.
pub fn beside_a_running_etcd(writes: u32, longest: Duration) -> String {
    format!(
        "An etcd runs on this disk. Up to {writes} writes, each followed by fdatasync, for {} at most, compete with \
         its own: it may answer slower meanwhile, and on a slow disk lose its leadership for a moment.",
        roughly(longest)
    )
}
