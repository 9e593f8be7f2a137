//! The fault matrix: what the agent reports and does about each fault and how long that takes, compared with the
//! kubelet alone.
//!
//! ```text
//!   faults ─▶ run (one node, one fault, with or without the agent) ─▶ raw, one JSON object a line
//!                │ clients: which are affected, seen from outside              │
//!                │ told: the agent's history and explanations                  ▼
//!                └ calm: whether the machine let us measure                  table ─▶ tests/results/faults.md, between its markers
//! ```
//!
//! The node has realistic times and the agent its default configuration. No cell about the agent is written here:
//! verdict, cause and action are what it reported during the run. A later session on a fault replaces an earlier one.

mod calm;
mod clients;
mod faults;
mod ground;
mod person;
mod raw;
mod run;
mod table;
mod timeline;
mod told;

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use tokio::task::JoinSet;

use faults::{FAULTS, Fault};
use raw::{Doer, Run};

/// How often a run is tried again where the machine was too busy to measure.
const TRIES: usize = 3;

/// What is measured and where it goes.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these faults; all without
    #[arg(value_name = "FAULT")]
    faults: Vec<String>,
    /// Rounds of each
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Nodes at a time
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// Only with the agent, with the kubelet alone, or with a person at the first crash
    #[arg(long, value_name = "lastgood|kubelet|person")]
    only: Option<Doer>,
    /// Where every run is appended, one JSON object a line
    #[arg(long, default_value = "target/matrix.jsonl")]
    raw: PathBuf,
    /// The file whose table is replaced
    #[arg(long, default_value = "tests/results/faults.md")]
    readme: PathBuf,
    /// Measure nothing, write the table from what was measured
    #[arg(long)]
    table: bool,
    /// Name the faults
    #[arg(long)]
    list: bool,
}

/// Measures what is asked for and writes the table.
///
/// # Errors
/// When a fault is unknown, a node does not come up, or a file cannot be written. What was measured before is kept.
pub async fn matrix(options: &Options) -> Result<()> {
    if options.list {
        FAULTS.iter().for_each(|fault| println!("{:22} {}", fault.name, fault.title));
        return Ok(());
    }
    if !options.table {
        measure(options).await?;
    }
    let runs = raw::latest(&raw::read(&options.raw)?);
    let text = fs::read_to_string(&options.readme);
    let text = text.with_context(|| format!("cannot read {}", options.readme.display()))?;
    print!("{}", table::table(&runs, ""));
    fs::write(&options.readme, table::put(&text, &runs)?)
        .with_context(|| format!("cannot write {}", options.readme.display()))
}

async fn measure(options: &Options) -> Result<()> {
    let session = Timestamp::now();
    let doers: Vec<Doer> =
        options.only.map_or_else(|| vec![Doer::Lastgood, Doer::Kubelet, Doer::Person], |only| vec![only]);
    let mut waiting = VecDeque::new();
    for fault in chosen(&options.faults)? {
        for doer in doers.iter().filter(|doer| **doer != Doer::Person || person::can_help(fault)) {
            waiting.extend((0..options.rounds).map(|_| (fault, *doer, 1)));
        }
    }
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        while running.len() < options.at_once.max(1)
            && let Some((fault, doer, tried)) = waiting.pop_front()
        {
            running.spawn(async move { (fault, doer, tried, run::run(fault, doer).await) });
        }
        let Some(ended) = running.join_next().await else { break };
        let (fault, doer, tried, ended) = ended.context("a run was cut short")?;
        match ended {
            Ok(done) => {
                let done = Run { session, at_once: options.at_once, ..done };
                eprintln!("{done}");
                raw::keep(&options.raw, &done)?;
                if done.calm.disturbed() && tried < TRIES {
                    eprintln!("{}, {doer}: disturbed, again", fault.name);
                    waiting.push_back((fault, doer, tried + 1));
                }
            }
            Err(error) if tried < TRIES => {
                eprintln!("{}, {doer}: {error:#}; again", fault.name);
                waiting.push_back((fault, doer, tried + 1));
            }
            Err(error) => failed.push(format!("{}, {doer}: {error:#}", fault.name)),
        }
    }
    if !failed.is_empty() {
        bail!("not measured:\n{}", failed.join("\n"));
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Fault>> {
    if names.is_empty() {
        return Ok(FAULTS.iter().collect());
    }
    let known = || FAULTS.map(|fault| fault.name).join(", ");
    let find = |name: &String| {
        FAULTS
            .iter()
            .find(|fault| fault.name == name)
            .with_context(|| format!("no fault {name}; there are {}", known()))
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_chosen_by_its_name_and_a_wrong_name_is_told_with_the_right_ones() {
        assert_eq!(chosen(&[]).expect("all").len(), FAULTS.len());
        let one = chosen(&["nospace".to_owned()]).expect("known");
        assert_eq!(one.iter().map(|fault| fault.name).collect::<Vec<_>>(), ["nospace"]);
        let said = chosen(&["no-space".to_owned()]).expect_err("unknown").to_string();
        assert!(said.contains("no fault no-space") && said.contains("nospace"), "{said}");
    }

    #[test]
    fn no_two_faults_share_a_name() {
        let mut names = FAULTS.map(|fault| fault.name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAULTS.len());
    }
}
