//! How long a crash lasts: with the agent, and with the fastest possible operator.
//!
//! ```text
//!   bad file written ──▶ old pod ends ──▶ candidate crashes ──▶ good file back ──▶ serving
//!   t = 0                                     │                    ▲
//!                                             └ agent: its rules ──┤
//!                                             └ operator: at once ─┘ one rename at the first exit, no thinking, no typing
//! ```
//!
//! Each round has a fresh node with realistic times; first the scheduler is broken and then the API server, each with
//! an unknown flag. Several rounds run concurrently: nearly all of the time is waiting.

use std::collections::VecDeque;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::containers::Life;
use super::{Node, Writing, demo};
use crate::manifests::Component;

/// Between two looks: what a figure may be too large by.
const LOOK: Duration = Duration::from_millis(20);

/// Long enough for anything that recovers at all.
const LIMIT: Duration = Duration::from_secs(300);

/// The agent's configuration: all defaults but the first adoption, which is no part of what is measured.
const CONFIG: &str = "[adoption]\nsoak = \"5s\"\n";

/// What is broken on each node, in this order: the scheduler disturbs nobody.
const BROKEN: [Component; 2] = [Component::Scheduler, Component::ApiServer];

/// Who puts the good file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doer {
    Agent,
    /// A loop that knows what is going to happen.
    Person,
}

impl fmt::Display for Doer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Person => "person",
        })
    }
}

/// What one round came to.
struct Measured {
    component: Component,
    doer: Doer,
    /// From the bad file to the good one.
    back: Duration,
    /// From the bad file to the first good answer after that.
    serving: Duration,
    /// What the agent told of it, with the time since the bad file.
    told: Vec<(f64, String)>,
}

/// Plays `rounds` rounds of everything, `at_once` nodes at a time; prints the table, and appends every figure to `raw`.
///
/// # Errors
/// When a node does not come up, or does not recover.
pub async fn bench(rounds: usize, at_once: usize, raw: &Path) -> Result<()> {
    let mut waiting: VecDeque<Doer> = (0..rounds).flat_map(|_| [Doer::Agent, Doer::Person]).collect();
    let mut running = JoinSet::new();
    let mut measured = Vec::new();
    loop {
        while running.len() < at_once.max(1)
            && let Some(doer) = waiting.pop_front()
        {
            running.spawn(round(doer));
        }
        let Some(ended) = running.join_next().await else { break };
        for one in ended.context("a round was cut short")?? {
            eprintln!("{one}");
            keep(raw, &one)?;
            measured.push(one);
        }
    }
    print!("{}", table(&measured));
    Ok(())
}

/// One node with one doer.
async fn round(doer: Doer) -> Result<Vec<Measured>> {
    let mut node = Node::builder().scale(1.0).start().await?;
    node.up().await?;
    if doer == Doer::Agent {
        node.spawn_agent(CONFIG).await?;
        demo::await_steady(&node, LIMIT).await?;
    }
    let mut all = Vec::new();
    for component in BROKEN {
        all.push(breakage(&node, component, doer).await.with_context(|| format!("{component}, {doer}"))?);
        for component in Component::ALL {
            node.await_serving(component, LIMIT).await?;
        }
    }
    Ok(all)
}

async fn breakage(node: &Node, component: Component, doer: Doer) -> Result<Measured> {
    let file = component.file();
    let good = node.manifest_text(&file)?;
    let before: Vec<String> = node.containers(component).await?.into_iter().map(|c| c.pod_uid).collect();
    let (written, began) = (Timestamp::now(), Instant::now());
    let command = format!("- {component}\n");
    node.edit_manifest(&file, |text| text.replacen(&command, &format!("{command}    - --no-such-flag=1\n"), 1))?;
    match doer {
        Doer::Agent => {
            while !node.manifest_text(&file).is_ok_and(|text| text == good) {
                ensure!(began.elapsed() < LIMIT, "{file} did not come back:\n{}", node.agent().log());
                sleep(LOOK).await;
            }
        }
        Doer::Person => {
            first_exit(node, component, &before, began).await?;
            node.write_manifest(&file, &good, Writing::Atomic)?;
        }
    }
    let back = began.elapsed();
    // The candidate never serves, and what served before it is gone.
    while node.serving(component).await.is_err() {
        ensure!(began.elapsed() < LIMIT, "{component} does not serve:\n{}", node.kubelet().log());
        sleep(LOOK).await;
    }
    let serving = began.elapsed();
    let told = if doer == Doer::Agent { told(node, component, written).await? } else { Vec::new() };
    Ok(Measured { component, doer, back, serving, told })
}

/// Waits for the first exit of a container that was not there before.
async fn first_exit(node: &Node, component: Component, before: &[String], began: Instant) -> Result<()> {
    let mut runtime = node.runtime().await?;
    loop {
        let found = runtime.containers(component.name()).await?;
        if found.iter().any(|c| !before.contains(&c.pod_uid) && matches!(c.state, Life::Exited { .. })) {
            return Ok(());
        }
        if began.elapsed() > LIMIT {
            bail!("{component} did not crash");
        }
        sleep(LOOK).await;
    }
}

/// What the agent told of a component since, once it calls it steady.
async fn told(node: &Node, component: Component, since: Timestamp) -> Result<Vec<(f64, String)>> {
    demo::await_steady(node, LIMIT).await?;
    let said = node.lastgood(&["history", component.name(), "-n", "100", "-o", "json"]).await?.success()?;
    let history: Value = serde_json::from_str(&said).context("a history")?;
    let events = history["items"][0]["events"].as_array().cloned().unwrap_or_default();
    let told = events.iter().filter_map(|event| {
        let at: Timestamp = event["at"].as_str()?.parse().ok()?;
        let from = event["from"].as_str().map(|from| format!("{from} -> ")).unwrap_or_default();
        Some((at.duration_since(since).as_secs_f64(), format!("{from}{}", event["to"].as_str()?)))
    });
    Ok(told.filter(|(after, _)| *after >= 0.0).collect())
}

fn keep(path: &Path, one: &Measured) -> Result<()> {
    let line = json!({
        "at": Timestamp::now().to_string(),
        "component": one.component.name(),
        "doer": one.doer.to_string(),
        "back_seconds": one.back.as_secs_f64(),
        "serving_seconds": one.serving.as_secs_f64(),
        "told": one.told,
    });
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { component, doer, back, serving, .. } = self;
        write!(f, "{component} {doer}: back {:.1} s, serving {:.1} s", back.as_secs_f64(), serving.as_secs_f64())?;
        self.told.iter().try_for_each(|(after, what)| write!(f, "\n    {after:6.2} s  {what}"))
    }
}

/// The table of tests/results/crash.md.
fn table(measured: &[Measured]) -> String {
    let mut out = String::from(
        "| An unknown flag in | who puts the good file back | bad file → good file: median (worst) | → serving: median \
         (worst) | rounds |\n|---|---|---|---|---|\n",
    );
    for component in BROKEN.iter().rev() {
        for doer in [Doer::Agent, Doer::Person] {
            let of = |what: fn(&Measured) -> Duration| {
                let all = measured.iter().filter(|one| one.component == *component && one.doer == doer);
                let mut seconds: Vec<f64> = all.map(|one| what(one).as_secs_f64()).collect();
                seconds.sort_by(f64::total_cmp);
                seconds
            };
            let (back, serving) = (of(|one| one.back), of(|one| one.serving));
            let who = match doer {
                Doer::Agent => "lastgood",
                Doer::Person => "a person, at the first crash",
            };
            let rounds = serving.len();
            out += &format!("| {component} | {who} | {} | {} | {rounds} |\n", cell(&back), cell(&serving));
        }
    }
    out
}

/// Median and worst of figures in order.
fn cell(sorted: &[f64]) -> String {
    match (sorted.len(), sorted.last()) {
        (len, Some(worst)) => {
            let median = f64::midpoint(sorted[(len - 1) / 2], sorted[len / 2]);
            format!("{median:.1} s ({worst:.1} s)")
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_of_figures_lies_between_two() {
        assert_eq!(cell(&[1.0, 2.0, 4.0, 9.0]), "3.0 s (9.0 s)");
        assert_eq!(cell(&[1.0, 2.0, 9.0]), "2.0 s (9.0 s)");
        assert_eq!(cell(&[]), "-");
    }
}
