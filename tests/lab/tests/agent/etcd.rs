//! etcd's manifest breaks while the API server runs: kube-apiserver is stopped first, or the kubelet hangs on etcd's
//! mirror pod.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::{Node, Writing};
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(20);

/// What the API server answers when etcd does not, and the kubelet notes: each of these has cost its time-out.
const HUNG: &str = "Timeout: request did not complete";

/// A node with this etcd that the agent has adopted.
pub(crate) async fn adopted(version: EtcdVersion, config: &str) -> Result<Stage> {
    if version == EtcdVersion::V35 {
        return Stage::with(config).await;
    }
    let node = Node::builder().scale(0.1).etcd(version).start().await?;
    node.up().await?;
    node.put_data("/lab/kept", "written before").await?;
    let mut stage = Stage { node };
    stage.node.spawn_agent(config).await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await.context("it was not adopted")?;
    }
    Ok(stage)
}

/// Where something was told first.
fn place(story: &str, words: &str) -> Result<usize> {
    story.find(words).with_context(|| format!("{words:?} was not told:\n{story}"))
}

/// What is reported of the API server first.
const STOPPED: &str = "stopped before etcd is replaced";

/// Waits until the API server is stopped for a broken etcd, and sees everything come back in the right order.
pub(crate) async fn comes_back_behind_a_stopped_api_server(stage: &Stage, good: &str) -> Result<()> {
    let api = stage.manifest(Component::ApiServer)?;
    stage.told(STOPPED).await?;
    let stopped = Instant::now();
    let said_before = stage.node.kubelet().log().len();
    stage.back(Component::Etcd, good).await?;
    let written = stopped.elapsed();
    stage.node.await_serving(Component::Etcd, SOON).await.with_context(|| stage.story())?;
    let serving = stopped.elapsed();
    stage.back(Component::ApiServer, &api).await?;
    stage.all_serve().await?;
    println!("etcd's manifest {written:?} after the stop, etcd {serving:?}, everything {:?}", stopped.elapsed());
    stage.told("started again after etcd").await?;
    let said = stage.node.kubelet().log();
    let hung: Vec<&str> = said[said_before..].lines().filter(|line| line.contains(HUNG)).collect();
    ensure!(hung.is_empty(), "the kubelet hung on a mirror pod although no API server ran: {hung:?}");
    let story = stage.story();
    let order = [
        place(&story, STOPPED)?,
        place(&story, "took kube-apiserver.yaml out")?,
        place(&story, "put generation 1 of etcd in place")?,
        place(&story, "put generation 1 of kube-apiserver in place")?,
        place(&story, "started again after etcd")?,
    ];
    ensure!(order.is_sorted(), "not in the order of dependence {order:?}:\n{story}");
    stage.steady_on(Component::Etcd, 1).await?;
    stage.steady_on(Component::ApiServer, 1).await
}

async fn an_unknown_flag(version: EtcdVersion) -> Result<()> {
    let stage = adopted(version, QUICK).await?;
    let good = stage.manifest(Component::Etcd)?;
    stage.add_flag(Component::Etcd, "--no-such-flag=1")?;
    comes_back_behind_a_stopped_api_server(&stage, &good).await?;
    stage.told("generation 2 is quarantined").await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n1_an_unknown_flag_of_etcd_3_5_is_undone_behind_a_stopped_api_server() -> Result<()> {
    an_unknown_flag(EtcdVersion::V35).await
}

#[tokio::test]
async fn n1_an_unknown_flag_of_etcd_3_4_is_undone_behind_a_stopped_api_server() -> Result<()> {
    an_unknown_flag(EtcdVersion::V34).await
}

async fn a_missing_image(version: EtcdVersion) -> Result<()> {
    let stage = adopted(version, QUICK).await?;
    let good = stage.manifest(Component::Etcd)?;
    let image = good.lines().find(|line| line.trim_start().starts_with("image:")).context("etcd has no image")?;
    let other = format!("{image}-missing");
    stage.node.edit_manifest(&Component::Etcd.file(), |text| text.replacen(image, &other, 1))?;
    comes_back_behind_a_stopped_api_server(&stage, &good).await?;
    let story = stage.story();
    ensure!(!story.contains("is quarantined"), "a missing image is no fault of its own:\n{story}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_etcd_3_5_whose_image_is_missing_is_undone_and_not_quarantined() -> Result<()> {
    a_missing_image(EtcdVersion::V35).await
}

#[tokio::test]
async fn an_etcd_3_4_whose_image_is_missing_is_undone_and_not_quarantined() -> Result<()> {
    a_missing_image(EtcdVersion::V34).await
}

#[tokio::test]
async fn q1_a_rollback_never_changes_which_data_is_served() -> Result<()> {
    // What served last is another data directory, by a person's word, and what broke is a change on top of it.
    let stage = Stage::with(&QUICK.replace("soak = \"10s\"", "soak = \"10m\"")).await?;
    let file = Component::Etcd.file();
    let good = stage.manifest(Component::Etcd)?;
    stage.node.lastgood(&["pause", "--for", "10m"]).await?.success()?;
    stage.node.edit_manifest(&file, |text| text.replace("/var/lib/etcd", "/var/lib/other"))?;
    let held =
        |c: &serde_json::Value| c["generation"] == 2 && c["verdict"].to_string().to_lowercase().contains("healthy");
    stage.until(Component::Etcd, "serving over another data directory", held).await?;
    stage.told("lastgood stops nothing: paused").await?;
    stage.node.lastgood(&["etcd", "accept-data", "--yes"]).await?.success()?;
    stage.node.lastgood(&["resume"]).await?.success()?;
    stage.told("every component of this node has been restarted since").await?;
    stage.until(Component::Etcd, "serving over the accepted directory", held).await?;
    let before = stage.node.exec(&["find", "/var/lib/etcd/member", "-printf", "%p %s %T@\n"]).await?.success()?;
    stage.node.edit_manifest(&file, |text| text.replacen("- etcd\n", "- etcd\n    - --no-such-flag=1\n", 1))?;
    stage.in_state(Component::Etcd, "Held").await?;
    stage.told("a rollback would change which data is served").await?;
    let after = stage.node.exec(&["find", "/var/lib/etcd/member", "-printf", "%p %s %T@\n"]).await?.success()?;
    ensure!(before == after, "the data that lay aside was touched:\n{before}\n{after}");
    ensure!(stage.manifest(Component::Etcd)?.contains("--no-such-flag"), "it acted although it was held");
    // The person decides.
    stage.node.write_manifest(&file, &good, Writing::Atomic)?;
    let began = Instant::now();
    while !stage.status().await?["wrong_data"].is_object() {
        ensure!(began.elapsed() < SOON, "the other data are not noticed:\n{}", stage.story());
        sleep(LOOK).await;
    }
    stage.node.lastgood(&["etcd", "accept-data", "--yes"]).await?.success()?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q11_a_stopped_api_server_is_put_back_at_its_deadline_whatever_becomes_of_etcd() -> Result<()> {
    let stage = Stage::with(&QUICK.replace("[rollback]\n", "[rollback]\napiserver-max-downtime = \"6s\"\n")).await?;
    let (good, api) = (stage.manifest(Component::Etcd)?, stage.manifest(Component::ApiServer)?);
    stage.add_flag(Component::Etcd, "--no-such-flag=1")?;
    stage.told("took etcd.yaml out").await?;
    let began = Instant::now();
    while stage.node.containers(Component::Etcd).await?.iter().any(|c| c.state == Life::Running)
        && !stage.manifest(Component::Etcd).is_ok_and(|text| text == good)
    {
        ensure!(began.elapsed() < SOON, "etcd does not go:\n{}", stage.story());
        sleep(LOOK).await;
    }
    stage.node.tell("kubelet", "ignore-manifests on").await?;
    stage.back(Component::ApiServer, &api).await?;
    ensure!(stage.node.serving(Component::Etcd).await.is_err(), "etcd serves: nothing was shown");
    stage.told("started again after etcd").await?;
    stage.node.tell("kubelet", "ignore-manifests off").await?;
    stage.back(Component::Etcd, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}
