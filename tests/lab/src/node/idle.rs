//! What the agent costs while all is well: processor time, memory, bytes written, and on request its system calls.
//!
//! ```text
//!   a node with N static pods ──▶ all known-good ──▶ settle ──▶ /proc at the begin and at the end ──▶ one row
//!                                                                                   └ calls: strace, afterwards
//! ```
//!
//! The node has realistic times, so the leases move as on a real one, and the agent its default configuration. What is
//! counted is the processor time of its process, which another load on the machine changes little; wall time decides
//! nothing here.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Node, Writing};
use crate::images::PAUSE;
use crate::manifests::Component;

/// The agent's configuration: the defaults.
const CONFIG: &str = "";

/// Long enough for an adoption of everything on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(420);

/// Between two looks at the status.
const LOOK: Duration = Duration::from_secs(2);

/// The calls that are counted.
const CALLS: &str =
    "connect,openat,statx,newfstatat,fsync,fdatasync,rename,renameat,renameat2,read,write,sendto,recvfrom";

/// What is measured.
#[derive(Debug, Args)]
pub struct Options {
    /// Static pods of the node: the four components of the control plane, and pods that only sleep
    #[arg(long, value_delimiter = ',', default_value = "4,40")]
    pods: Vec<usize>,
    /// How long is measured, in minutes or seconds: 10m, 90s
    #[arg(long = "for", default_value = "10m", value_parser = duration)]
    length: Duration,
    /// How long all has been well before
    #[arg(long, default_value = "3m", value_parser = duration)]
    settle: Duration,
    /// Count system calls for this long afterwards, by strace
    #[arg(long, value_parser = duration)]
    calls: Option<Duration>,
    /// What of the calls strace wrote is kept here, a file for each node
    #[arg(long, requires = "calls")]
    keep: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| format!("{text} is no duration such as 10m or 90s"))?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(format!("{text} is no duration such as 10m or 90s")),
    }
}

/// What the kernel counts of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// Processor time, of user and kernel.
    ticks: u64,
    written: u64,
    /// In kB: all, and what of it is its own and no file's.
    resident: u64,
    own: u64,
    threads: u64,
}

impl Counted {
    fn of(pid: i32) -> Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{pid}/{name}")).with_context(|| format!("/proc/{pid}/{name}"))
        };
        let stat = read("stat")?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("no stat")?.1.split_whitespace().collect();
        // Fields 14 and 15 of proc(5), of which the first here is 3.
        let ticks = |at: usize| fields.get(at - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let status = read("status")?;
        let io = read("io")?;
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            ticks: ticks(14) + ticks(15),
            written: number(&io, "write_bytes"),
            resident: number(&status, "VmRSS"),
            own: number(&status, "RssAnon"),
            threads: number(&status, "Threads"),
        })
    }
}

/// One row of the table.
struct Cost {
    pods: usize,
    took: Duration,
    before: Counted,
    after: Counted,
    calls: Vec<(String, usize)>,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        let seconds = (self.after.ticks - self.before.ticks) as f64 / hz;
        let share = 100.0 * seconds / self.took.as_secs_f64();
        let written = (self.after.written - self.before.written) as f64 / 1024.0;
        let hourly = written * 3600.0 / self.took.as_secs_f64();
        let mib = |kb: u64| kb as f64 / 1024.0;
        write!(
            f,
            "| {} | {:.2} % | {:.1} MiB | {:.1} MiB | {} | {hourly:.0} KiB | {} s |",
            self.pods,
            share,
            mib(self.after.resident),
            mib(self.after.own),
            self.after.threads,
            self.took.as_secs()
        )
    }
}

/// Measures a node of each size, all at a time, and prints a row of each.
///
/// # Errors
/// When a node does not come up, or the agent does not call everything known-good.
pub async fn idle(options: &Options) -> Result<()> {
    let mut running = JoinSet::new();
    for pods in options.pods.clone() {
        ensure!(pods >= Component::ALL.len(), "a node has {} static pods at least", Component::ALL.len());
        let (length, settle, calls, keep) = (options.length, options.settle, options.calls, options.keep.clone());
        running.spawn(async move { cost(pods, length, settle, calls, keep).await });
    }
    let mut costs = Vec::new();
    while let Some(ended) = running.join_next().await {
        costs.push(ended.context("a node was cut short")??);
    }
    costs.sort_by_key(|cost| cost.pods);
    println!("| static pods | of a core | VmRSS | RssAnon | threads | written in an hour | measured for |");
    println!("|---|---|---|---|---|---|---|");
    costs.iter().for_each(|cost| println!("{cost}"));
    for cost in costs.iter().filter(|cost| !cost.calls.is_empty()) {
        println!("\nsystem calls in {} s with {} pods:", options.calls.unwrap_or_default().as_secs(), cost.pods);
        cost.calls.iter().for_each(|(call, count)| println!("  {count:7}  {call}"));
    }
    Ok(())
}

async fn cost(
    pods: usize,
    length: Duration,
    settle: Duration,
    calls: Option<Duration>,
    keep: Option<PathBuf>,
) -> Result<Cost> {
    let mut node = Node::builder().scale(1.0).start().await?;
    node.up().await?;
    for number in Component::ALL.len()..pods {
        node.write_manifest(&format!("sleeper-{number}.yaml"), &sleeper(number), Writing::Atomic)?;
    }
    node.spawn_agent(CONFIG).await?;
    all_good(&node, pods).await?;
    sleep(settle).await;
    all_good(&node, pods).await?;
    let pid = node.agent().pid().await?;
    let (began, before) = (Instant::now(), Counted::of(pid)?);
    sleep(length).await;
    let (took, after) = (began.elapsed(), Counted::of(pid)?);
    all_good(&node, pods).await?;
    let calls = match calls {
        Some(length) => traced(pid, length, keep.map(|dir| dir.join(format!("calls-{pods}.strace")))).await?,
        None => Vec::new(),
    };
    Ok(Cost { pods, took, before, after, calls })
}

/// A static pod that only sleeps.
fn sleeper(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sleeper-{number}, namespace: kube-system}}\n\
         spec:\n  hostNetwork: true\n  containers:\n  - {{name: sleeper, image: '{PAUSE}'}}\n"
    )
}

/// Waits until the status calls all of them known-good.
async fn all_good(node: &Node, pods: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let said = node.lastgood(&["status", "-o", "json"]).await?;
        let status: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let components = status["components"].as_array().map_or(0, Vec::len);
        if status["overall"] == "good" && components >= pods {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("not all known-good after {PATIENCE:?}: {components} components, {said:?}");
        }
        sleep(LOOK).await;
    }
}

/// What strace sees of its calls, the most frequent first. Names below /proc are counted apart.
async fn traced(pid: i32, length: Duration, keep: Option<PathBuf>) -> Result<Vec<(String, usize)>> {
    let dir = tempfile::tempdir().context("a directory for strace")?;
    let file = keep.unwrap_or_else(|| dir.path().join("calls"));
    let seconds = length.as_secs().to_string();
    let mut strace = Command::new("timeout");
    strace.args(["--signal=INT", &seconds, "strace", "-f", "-qq", "-e"]).arg(format!("trace={CALLS}"));
    strace.arg("-o").arg(&file).args(["-p", &pid.to_string()]);
    strace.status().await.context("cannot run strace (package strace)")?;
    let text = fs::read_to_string(&file).with_context(|| format!("strace left no {}", file.display()))?;
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for line in text.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, rest)) = call.trim_start().split_once('(') else { continue };
        // The second half of a call that another thread interrupted.
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        let place = if name == "openat" && rest.contains("\"/proc") { " of /proc" } else { "" };
        *counts.entry(format!("{name}{place}")).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_counts_what_this_process_uses() {
        let counted = Counted::of(i32::try_from(std::process::id()).expect("a number")).expect("it lives");
        assert!(counted.resident > 0 && counted.own > 0 && counted.threads > 0, "{counted:?}");
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert!(duration("ten").is_err() && duration("").is_err());
    }
}
