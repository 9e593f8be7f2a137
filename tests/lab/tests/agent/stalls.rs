//! Stalls: no file changes and no process ends, ports accept connections, and there is no answer.
//!
//! ```text
//!   SIGSTOP / hang ─▶ two probes unanswered ─▶ stall.after ─▶ its container stopped ─▶ the kubelet starts another
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::containers::Life;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::changes::quick;
use crate::stage::{SOON, Stage};

impl Stage {
    /// Sends a signal to a component's process, whatever its container.
    pub(crate) async fn signal(&self, component: Component, signal: &str) -> Result<()> {
        let line = format!("^{} ", component.name());
        self.node.exec(&["pkill", &format!("-{signal}"), "-f", &line]).await?.success().map(drop)
    }

    /// The container that runs now.
    pub(crate) async fn running(&self, component: Component) -> Result<Option<String>> {
        let all = self.node.containers(component).await?;
        Ok(all.into_iter().rev().find(|c| c.state == Life::Running).map(|c| c.id))
    }

    /// Waits until another container of a component runs, and serves.
    pub(crate) async fn runs_anew(&self, component: Component, before: &Option<String>) -> Result<()> {
        let began = Instant::now();
        loop {
            let runs = self.running(component).await.unwrap_or_default();
            if runs.is_some() && runs != *before {
                break;
            }
            ensure!(began.elapsed() < SOON, "{component} was not started anew:\n{}", self.story());
            sleep(Duration::from_millis(100)).await;
        }
        self.node.await_serving(component, SOON).await.map(drop).with_context(|| self.story())
    }
}

#[tokio::test]
async fn n3_n4_a_hung_process_is_restarted_and_nobody_else_is() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    // A moment in which nothing answers is no stall.
    stage.signal(Component::Scheduler, "STOP").await?;
    sleep(Duration::from_secs(2)).await;
    stage.signal(Component::Scheduler, "CONT").await?;
    stage.node.await_serving(Component::Scheduler, SOON).await?;
    ensure!(stage.times_told("restarting its container") == 0, "restarted for a moment:\n{}", stage.story());

    let mut restarts = 0;
    for component in [Component::Scheduler, Component::ControllerManager, Component::ApiServer, Component::Etcd] {
        let before = stage.running(component).await?;
        let told = format!("{component}: restarting its container");
        let already = stage.times_told(&told);
        stage.signal(component, "STOP").await?;
        stage.told_times(&told, already + 1).await?;
        stage.runs_anew(component, &before).await?;
        stage.all_serve().await?;
        restarts += 1;
        let all = stage.times_told("restarting its container");
        ensure!(all == restarts, "{all} restarts for {restarts} hung processes:\n{}", stage.story());
    }
    ensure!(stage.times_told("RollingBack") == 0, "nothing was changed:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_hung_kubelet_and_a_hung_runtime_are_restarted_and_the_pods_run_on() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    let mut before = Vec::new();
    for component in [Component::Etcd, Component::ApiServer] {
        before.push((component, stage.running(component).await?));
    }
    stage.node.kubelet().signal(Signal::SIGSTOP).await?;
    stage.told("the kubelet is restarted").await?;
    stage.told("restarted the kubelet: /lab/bin/lab restart kubelet").await?;
    stage.node.containerd().signal(Signal::SIGSTOP).await?;
    stage.told("the container runtime is restarted").await?;
    stage.told("restarted the container runtime: /lab/bin/lab restart containerd").await?;
    stage.all_serve().await?;
    for (component, container) in before {
        let began = Instant::now();
        // containerd looks for its containers again after its start.
        while stage.running(component).await.unwrap_or_default() != container {
            ensure!(began.elapsed() < SOON, "{component} did not run on:\n{}", stage.story());
            sleep(Duration::from_millis(100)).await;
        }
    }
    ensure!(stage.times_told("restarting its container") == 0, "{}", stage.story());
    // What they do works again.
    let good = stage.manifest(Component::Scheduler)?;
    stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    stage.rolled_back(Component::Scheduler, 2, (&good, 1)).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn who_answers_and_does_nothing_is_restarted() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    // Healthy by its own word, and its lease stands still.
    let scheduler = Component::Scheduler;
    let before = stage.running(scheduler).await?;
    stage.node.tell("kube-scheduler", "freeze-lease").await?;
    stage.told("kube-scheduler: restarting its container").await?;
    stage.told("it holds its lease and has not renewed it").await?;
    stage.runs_anew(scheduler, &before).await?;

    // Ready by its own word, and no read through it is answered.
    let api = Component::ApiServer;
    let before = stage.running(api).await?;
    stage.node.tell("kube-apiserver", "hang-requests").await?;
    stage.told("kube-apiserver: restarting its container").await?;
    stage.told("although etcd answers with its quorum").await?;
    stage.runs_anew(api, &before).await?;
    stage.all_serve().await?;
    for whose in ["etcd", "kube-controller-manager"] {
        let told = stage.times_told(&format!("{whose}: restarting its container"));
        ensure!(told == 0, "{whose} did nothing wrong:\n{}", stage.story());
    }
    stage.the_same_after_a_restart().await
}
