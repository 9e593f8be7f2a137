//! One run: a node, one fault, and a client outside that is asked until it is served again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use super::calm;
use super::clients::Asking;
use super::faults::Fault;
use super::ground::{Moment, PATIENCE, Site};
use super::person::Person;
use super::raw::{Doer, Run, Serving};
use super::timeline::Timeline;
use super::told::{self, Explained};
use crate::node::{Node, demo};

/// Between two questions of the client: what a figure may be too large by.
const LOOK: Duration = Duration::from_millis(250);

/// Between two looks at the agent's explanation.
const EXPLAIN: Duration = Duration::from_secs(1);

/// What is not served again after this long is given up.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// Who is still served this long after the agent has told of the fault is not hurt by it.
const UNHURT: Duration = Duration::from_secs(60);

/// How long a node serves before a fault that no agent watches, as long as an adoption takes. A fault within the start-up
/// probe's time is another one: its budget is four minutes, and the liveness probe does not run yet.
const SETTLED: Duration = Duration::from_secs(60);

/// The agent's configuration: the defaults.
const CONFIG: &str = "";

/// Plays one fault on a fresh node.
///
/// # Errors
/// When the node does not come up, the agent does not adopt it, or the fault cannot be brought about.
pub(super) async fn run(fault: &'static Fault, doer: Doer) -> Result<Run> {
    let mut site = Site::new(fault.ground).await.context("the ground")?;
    match doer {
        Doer::Lastgood => {
            site.node.spawn_agent(CONFIG).await?;
            demo::await_steady(&site.node, PATIENCE).await?;
        }
        Doer::Kubelet | Doer::Person => sleep(SETTLED).await,
    }
    let mut client = Asking::new(&site.node, fault.client)?;
    served(&site.node, &mut client).await?;
    let mut person = (doer == Doer::Person).then(|| Person::beside(&site.node, fault)).transpose()?;
    let calm = calm::Watch::begin();
    let moment = site.break_it(fault.breakage).await.context("the fault")?;
    client.fault_at(i64::try_from(moment.at.as_nanosecond()).unwrap_or_default());
    let (serving, explained) = watch(&site.node, fault, doer, person.as_mut(), &mut client, moment).await;
    let calm = calm.end();
    let events = match doer {
        Doer::Lastgood => told::history(&site.node.path("/var/lib/lastgood/history.jsonl"), moment.at)?,
        Doer::Kubelet | Doer::Person => Vec::new(),
    };
    let of = of(&site.node).await?;
    Ok(Run {
        fault: fault.name.to_owned(),
        doer,
        session: Timestamp::UNIX_EPOCH,
        at: moment.at,
        at_once: 1,
        serving,
        events,
        explained,
        calm,
        of,
    })
}

/// Waits until the client is served, before anything is broken. What only the fault makes old is not asked for.
async fn served(node: &Node, client: &mut Asking) -> Result<()> {
    let began = Instant::now();
    while let Err(why) = client.ask(node).await {
        ensure!(began.elapsed() < PATIENCE, "it was not served before the fault: {why:#}");
        sleep(LOOK).await;
    }
    Ok(())
}

async fn watch(
    node: &Node,
    fault: &Fault,
    doer: Doer,
    mut person: Option<&mut Person>,
    client: &mut Asking,
    moment: Moment,
) -> (Serving, Vec<Explained>) {
    let mut timeline = Timeline::default();
    let mut explained: Vec<Explained> = Vec::new();
    let mut asked = Instant::now();
    let mut told = None;
    loop {
        if let Some(person) = &mut person {
            person.look(node, moment).await;
        }
        let served = client.ask(node).await.is_ok();
        let now = moment.began.elapsed();
        timeline.saw(now, served);
        if let Some(serving) = timeline.serving() {
            return (Serving::After(serving.as_secs_f64()), explained);
        }
        if timeline.broken().is_none() && told.is_some_and(|told| now > told + UNHURT) {
            return (Serving::Throughout(now.as_secs_f64()), explained);
        }
        if now > LIMIT {
            let serving = match timeline.broken() {
                Some(_) => Serving::NotWithin(LIMIT.as_secs_f64()),
                None => Serving::Throughout(LIMIT.as_secs_f64()),
            };
            return (serving, explained);
        }
        if doer == Doer::Lastgood && asked.elapsed() > EXPLAIN {
            asked = Instant::now();
            if let Ok(said) = explain(node, fault).await {
                let said = Explained::new(moment.began.elapsed().as_secs_f64(), &said);
                if explained.last().is_none_or(|last| !last.same(&said)) {
                    explained.push(said);
                }
            }
            let events = told::history(&node.path("/var/lib/lastgood/history.jsonl"), moment.at).unwrap_or_default();
            let detected = told::Told::new(fault.subject, &events, &[]).detected;
            told = detected.map(Duration::from_secs_f64);
        }
        sleep(LOOK).await;
    }
}

async fn explain(node: &Node, fault: &Fault) -> Result<Value> {
    let said = match fault.subject {
        Some(component) => node.lastgood(&["explain", component.name(), "-o", "json"]).await?,
        None => node.lastgood(&["status", "-o", "json"]).await?,
    };
    serde_json::from_str(&said.stdout).context("no explanation")
}

/// What was measured, with versions.
async fn of(node: &Node) -> Result<String> {
    let version = node.lastgood(&["--version"]).await?.success()?;
    let cluster = node.cluster();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = node.exec(&["containerd", "--version"]).await?.success()?;
    let runtime = runtime.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v').to_owned();
    Ok(format!(
        "{}, etcd {}, containerd {runtime}, stand-ins for kubelet and Kubernetes {}; {cores} cores, Linux {kernel}",
        version.trim(),
        cluster.etcd_release,
        cluster.kubernetes
    ))
}
