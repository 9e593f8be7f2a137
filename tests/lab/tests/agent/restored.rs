//! etcd regresses to an earlier state under a running control plane: the components that cached the later state are
//! restarted, in order and once.
//!
//! ```text
//!   snapshot ─ writes ─ restore in place ─▶ notice ─▶ kube-apiserver ─▶ serves ─▶ controller manager ─▶ scheduler ─▶ over
//!                                             └ "report": only reported, and the operator restarts them
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::demo::QUICK;
use tokio::time::sleep;

use crate::changes::quick;
use crate::stage::{SOON, Stage};

const LOOK: Duration = Duration::from_millis(100);
/// Of a time in RFC 3339, to the second.
const SECONDS: usize = "2026-01-01T00:00:00".len();
const OVER: &str = "every component of this node has been restarted since";

/// Restores a snapshot from before some writes, so fast that whoever reads from etcd lives on. Returns the containers that
/// ran then.
async fn went_back(stage: &Stage) -> Result<Vec<(Component, Option<String>)>> {
    let node = &stage.node;
    node.etcdctl(&["snapshot", "save", "/root/saved.db"]).await?;
    node.sh("/lab/etcd/etcdutl snapshot restore /root/saved.db --data-dir=/var/lib/restored --name=master-1 \
         --initial-cluster=master-1=https://127.0.0.1:2380 --initial-advertise-peer-urls=https://127.0.0.1:2380")
        .await?;
    for number in 0..40 {
        node.put_data("/lab/later", &number.to_string()).await?;
    }
    // The agent has to have seen how far it had come.
    let listed = node.etcdctl(&["get", "/lab/later", "--write-out=json"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let high = listed["header"]["revision"].as_i64().context("no revision")?;
    stage
        .etcd_explained("all seen", |said| said["etcd"]["agreed"]["answer"]["revision"].as_i64() >= Some(high))
        .await?;
    let mut before = Vec::new();
    for component in &Component::ALL[1..] {
        before.push((*component, stage.running(*component).await?));
    }
    // Stopped before it is killed: one that the kubelet had started again by then would serve what is moved away.
    node.sh(
        "etcd=$(pgrep -f -- '[-]-data-dir=/var/lib/etcd( |$)'); kill -STOP $etcd && \
         mv /var/lib/etcd/member /root/member.before && mv /var/lib/restored/member /var/lib/etcd/member && kill -9 $etcd",
    )
    .await?;
    Ok(before)
}

/// When the container that runs now was made, in nanoseconds since the epoch.
async fn made(stage: &Stage, component: Component) -> Result<i64> {
    let all = stage.node.containers(component).await?;
    all.iter().rev().find(|c| c.state == Life::Running).map(|c| c.created_at).with_context(|| format!("no {component}"))
}

/// That each runs in another container than before, and nobody was stopped twice.
async fn each_started_anew_once(stage: &Stage, before: &[(Component, Option<String>)]) -> Result<()> {
    for (component, container) in before {
        let now = stage.running(*component).await?;
        ensure!(now.is_some() && now != *container, "{component} remembers the state before:\n{}", stage.story());
        let told = stage.times_told(&format!("{component}: it is restarted: it cached"));
        ensure!(told <= 1, "{component} was started anew {told} times:\n{}", stage.story());
    }
    ensure!(stage.times_told("data regressed from revision") >= 1, "{}", stage.story());
    ensure!(stage.times_told("RollingBack") == 0, "{}", stage.story());
    ensure!(stage.node.get_data("/lab/later").await?.is_none(), "this is not the restored world");
    Ok(())
}

#[tokio::test]
async fn what_remembers_a_later_state_is_started_anew_behind_its_api_server() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    let before = went_back(&stage).await?;
    stage.told("kube-apiserver: it is restarted: it cached a state of etcd that is gone").await?;
    stage.told(OVER).await?;
    stage.all_serve().await?;
    each_started_anew_once(&stage, &before).await?;
    // The API server first; the others only over one that served.
    let api = made(&stage, Component::ApiServer).await?;
    let story = stage.story();
    let at = |words: &str| story.find(words);
    for component in [Component::ControllerManager, Component::Scheduler] {
        ensure!(made(&stage, component).await? > api, "{component} is older than the API server:\n{story}");
        // By its own log, since an API server that is back between two looks is told nothing of.
        if let Some(told) =
            story.lines().find(|line| line.contains(&format!("{component}: it is restarted: it cached")))
        {
            let stopped = at("of kube-apiserver").context("its old container was stopped")?;
            ensure!(Some(stopped) < at(told), "{component} before the API server:\n{story}");
            let look =
                "grep -h 'Serving securely' /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log | sort";
            let served = stage.node.exec(&["sh", "-c", look]).await?.success()?;
            let served = served.lines().last().context("the API server's log says nothing")?;
            ensure!(served[..SECONDS] <= told[..SECONDS], "{component} before {served}:\n{story}");
        }
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_agent_that_is_killed_in_the_middle_goes_on_and_starts_nobody_anew_twice() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    let before = went_back(&stage).await?;
    stage.told("kube-apiserver: it is restarted: it cached").await?;
    stage.node.agent().restart().await?;
    stage.told(OVER).await?;
    stage.all_serve().await?;
    each_started_anew_once(&stage, &before).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_node_that_reboots_in_the_middle_has_forgotten_and_nobody_is_started_anew() -> Result<()> {
    let mut stage = Stage::with(&quick(&[])).await?;
    went_back(&stage).await?;
    stage.told("data regressed from revision").await?;
    stage.node.reboot().await?;
    stage.told(OVER).await?;
    stage.all_serve().await?;
    let mut after = Vec::new();
    for component in &Component::ALL[1..] {
        after.push((*component, stage.running(*component).await?));
    }
    // Some looks more, and the API server is the one of the boot.
    sleep(Duration::from_secs(5)).await;
    ensure!(stage.running(Component::ApiServer).await? == after[0].1, "{}", stage.story());
    ensure!(stage.times_told("RollingBack") == 0, "{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_state_that_went_back_is_only_told_where_a_person_wants_that() -> Result<()> {
    let stage = Stage::with(&format!("{QUICK}[etcd]\non-revision-regression = \"report\"\n")).await?;
    let before = went_back(&stage).await?;
    stage
        .told("restart the components that cached the earlier state, one after the other: kube-apiserver, then")
        .await?;
    stage.told("(etcd.on-revision-regression = \"report\")").await?;
    // Longer than it would take to begin.
    sleep(Duration::from_secs(5)).await;
    ensure!(stage.times_told("it is restarted: it cached") == 0, "{}", stage.story());
    let deeds = stage.deeds();
    ensure!(deeds.is_empty(), "{deeds:?}");
    // A person does it.
    for (component, container) in &before {
        let began = Instant::now();
        while stage.running(*component).await? == *container {
            let _ = stage.node.tell(component.name(), "crash").await;
            ensure!(began.elapsed() < SOON, "{component} does not end");
            sleep(LOOK).await;
        }
        stage.node.await_serving(*component, SOON).await?;
    }
    stage.told(OVER).await?;
    ensure!(stage.deeds().is_empty(), "{:?}", stage.deeds());
    stage.the_same_after_a_restart().await
}
