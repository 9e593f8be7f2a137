//! The node starts: containerd, kubelet and agent together, no API server yet, no registry, no name server.
//!
//! A kubelet that starts without an API server kills no static pod until one has answered, so it starts no changed one
//! either: a good manifest that is put back waits behind the bad one for ever, and one restart of the kubelet cures it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::{Node, Writing};
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(50);

/// What the kubelet's log begins each start with.
const KUBELET_STARTS: &str = "kubelet stand-in starts";

/// The manifest with a flag that its program does not know.
fn with_unknown_flag(text: &str, component: Component) -> String {
    let command = format!("- {component}\n");
    text.replacen(&command, &format!("{command}    - --no-such-flag=1\n"), 1)
}

/// Writes that in the place of what stands, and returns what stood.
fn break_manifest(stage: &Stage, component: Component) -> Result<String> {
    let good = stage.manifest(component)?;
    stage.node.write_manifest(&component.file(), &with_unknown_flag(&good, component), Writing::Atomic)?;
    Ok(good)
}

fn kubelet_starts(stage: &Stage) -> usize {
    stage.node.kubelet().log().matches(KUBELET_STARTS).count()
}

fn told_times(stage: &Stage, words: &str) -> usize {
    stage.story().matches(words).count()
}

/// Waits until a container of the component has crashed.
async fn crashed(stage: &Stage, component: Component) -> Result<()> {
    let began = Instant::now();
    loop {
        // The runtime itself may only just be starting.
        let all = stage.node.containers(component).await.unwrap_or_default();
        // What the power cut ended is shown with 255; a program that refuses its flags exits with 1.
        if all.iter().any(|c| c.state == Life::Exited { code: 1 }) {
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "{component} did not crash: {all:?}");
        sleep(LOOK).await;
    }
}

/// Sees everything recover with exactly one restart of the kubelet since there were so many starts.
async fn recovers_with_one_kubelet_restart(stage: &Stage, starts: usize) -> Result<()> {
    stage.all_serve().await?;
    stage.told("the kubelet is restarted").await?;
    ensure!(told_times(stage, "the kubelet is restarted") == 1, "not one restart:\n{}", stage.story());
    ensure!(kubelet_starts(stage) == starts + 1, "{} starts of the kubelet, {starts} before", kubelet_starts(stage));
    Ok(())
}

#[tokio::test]
async fn a_bad_manifest_written_just_before_the_power_cut_is_undone_with_one_kubelet_restart() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    let good = break_manifest(&stage, Component::ApiServer)?;
    let starts = kubelet_starts(&stage);
    stage.node.reboot().await?;
    stage.back(Component::ApiServer, &good).await?;
    recovers_with_one_kubelet_restart(&stage, starts + 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_bad_manifest_written_while_the_power_was_off_is_undone_with_one_kubelet_restart() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    stage.node.power_off();
    let good = break_manifest(&stage, Component::ApiServer)?;
    let starts = kubelet_starts(&stage);
    stage.node.power_on().await?;
    stage.back(Component::ApiServer, &good).await?;
    recovers_with_one_kubelet_restart(&stage, starts + 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_bad_etcd_manifest_at_boot_is_undone() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    stage.node.power_off();
    let good = break_manifest(&stage, Component::Etcd)?;
    stage.node.power_on().await?;
    stage.back(Component::Etcd, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_agent_that_starts_after_the_kubelet_finds_the_deadlock_all_the_same() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    stage.node.power_off();
    let good = break_manifest(&stage, Component::ApiServer)?;
    let starts = kubelet_starts(&stage);
    stage.node.power_on().await?;
    stage.node.agent().kill().await?;
    crashed(&stage, Component::ApiServer).await?;
    stage.node.agent().start().await?;
    stage.back(Component::ApiServer, &good).await?;
    recovers_with_one_kubelet_restart(&stage, starts + 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_persons_own_cure_written_into_the_deadlock_gets_the_kubelet_restarted_too() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    let file = Component::ApiServer.file();
    stage.node.power_off();
    let good = break_manifest(&stage, Component::ApiServer)?;
    let starts = kubelet_starts(&stage);
    stage.node.power_on().await?;
    stage.node.agent().kill().await?;
    crashed(&stage, Component::ApiServer).await?;
    let cure = good.replacen("- kube-apiserver\n", "- kube-apiserver\n    - --v=2\n", 1);
    stage.node.write_manifest(&file, &cure, Writing::Atomic)?;
    stage.node.agent().start().await?;
    recovers_with_one_kubelet_restart(&stage, starts + 1).await?;
    let found = stage.in_state(Component::ApiServer, "Steady").await?;
    ensure!(stage.manifest(Component::ApiServer)? == cure, "a person's cure was undone: {found}\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q15_a_kubelet_whose_configuration_changed_since_it_started_is_not_restarted() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    stage.node.power_off();
    let good = break_manifest(&stage, Component::ApiServer)?;
    let starts = kubelet_starts(&stage);
    stage.node.power_on().await?;
    stage.node.agent().kill().await?;
    crashed(&stage, Component::ApiServer).await?;
    // A second and more after its start: what is written within it counts as written for it.
    sleep(Duration::from_millis(1500)).await;
    let config = stage.node.path("/var/lib/kubelet/config.yaml");
    let text = std::fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    std::fs::write(&config, format!("{text}# changed by a person\n"))?;
    stage.node.agent().start().await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.told("lab restart kubelet` does it").await?;
    ensure!(kubelet_starts(&stage) == starts + 1, "the kubelet was restarted");
    ensure!(told_times(&stage, "the kubelet is restarted") == 0, "it was to be restarted:\n{}", stage.story());
    // The person does it.
    stage.node.kubelet().restart().await?;
    stage.all_serve().await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_candidate_is_still_on_probation_after_a_reboot_with_the_time_that_was_left() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    // While its predecessor ends and it is parked its age grows, and nothing is decided.
    stage.add_flag(Component::ApiServer, "--v=3")?;
    stage.in_state(Component::ApiServer, "Probation").await?;
    let age = |stage: &Stage| -> Result<f64> {
        let path = stage.node.path("/var/lib/lastgood/memory.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let all: serde_json::Value = serde_json::from_str(&text)?;
        let found = find(&all, "candidate").context("no candidate in the memory")?;
        let age = &found["age"];
        let nanos = age["nanos"].as_f64().unwrap_or_default();
        Ok(age["secs"].as_f64().or(age.as_f64()).unwrap_or_default() + nanos / 1e9)
    };
    // A stop has the memory saved as it is.
    sleep(Duration::from_millis(1200)).await;
    stage.node.agent().stop().await?;
    let before = age(&stage)?;
    ensure!(before > 0.5, "its trial has not begun: {before}");
    stage.node.reboot().await?;
    let found = stage.in_state(Component::ApiServer, "Probation").await?;
    ensure!(found["generation"] == 2, "{found}");
    stage.node.agent().stop().await?;
    let after = age(&stage)?;
    ensure!(after >= before, "the reboot gave it a new trial: {before} s before, {after} s after");
    stage.node.agent().start().await?;
    stage.steady_on(Component::ApiServer, 2).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
#[ignore = "minutes long: true to life, with the agent's own defaults"]
async fn true_to_life_a_bad_manifest_at_boot() -> Result<()> {
    let mut node = Node::builder().scale(1.0).start().await?;
    node.up().await?;
    node.spawn_agent("[adoption]\nsoak = \"10s\"\n").await?;
    let mut stage = Stage { node };
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.node.power_off();
    break_manifest(&stage, Component::ApiServer)?;
    let power = Instant::now();
    stage.node.power_on().await?;
    println!("booted {:?}", power.elapsed());
    let limit = Duration::from_secs(300);
    for (what, words) in [
        ("two crashes have decided", "-> RollingBack"),
        ("the good file is in place", "put generation 1 of kube-apiserver in place"),
        ("the kubelet is restarted", "restarted the kubelet"),
    ] {
        while !stage.story().contains(words) {
            ensure!(power.elapsed() < limit, "{what}: not told\n{}", stage.story());
            sleep(LOOK).await;
        }
        println!("{what} {:?}", power.elapsed());
    }
    for component in Component::ALL {
        stage.node.await_serving(component, limit).await.with_context(|| stage.story())?;
        println!("{component} serves {:?}", power.elapsed());
    }
    println!("{}", stage.story());
    Ok(())
}

/// The first object that has such a key, at any depth.
fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(map) if map.contains_key(key) => Some(value),
        serde_json::Value::Object(map) => map.values().find_map(|inner| find(inner, key)),
        serde_json::Value::Array(all) => all.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}
