//! etcd serves other data than before: its disk is not mounted, its path is mistyped, an older copy takes its place, another
//! cluster is made of the node.
//!
//! ```text
//!   the disk is missing at a boot ─▶ held, the API server stopped ─ kill, fill-slots ─▶ the same ─ mount ─▶ as before
//!   an older copy                 ─▶ held, the API server stopped ─ accept-data ─▶ served ─ a real restore ─▶ followed
//!   the path is mistyped          ─▶ the candidate fails, the recorded directory comes back
//!   kubeadm reset and init        ─▶ adopted as a new node, nothing stopped
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lastgood_lab::manifests::Component::{self, ApiServer, ControllerManager, Etcd, Scheduler};
use lastgood_lab::node::Node;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::etcd_data::{Disk, Hand};
use serde_json::Value;
use tokio::time::sleep;

use crate::changes::quick;
use crate::snapshots::{listed, path};
use crate::stage::{SOON, Stage};

const LOOK: Duration = Duration::from_millis(100);
const REGISTRY: &str = "/registry";
/// What an etcd that founded a store is found to serve, before and after an API server has used it.
const NEW: [&str; 2] = ["empty", "foreign"];

/// Runs something while neither the API server nor etcd runs. The API server's manifest comes back with etcd's.
async fn meanwhile(node: &Node, work: impl AsyncFnOnce(&Node) -> Result<()>) -> Result<()> {
    node.take_out(ApiServer).await?;
    node.take_out(Etcd).await?;
    work(node).await?;
    node.put_back(Etcd)?;
    node.await_serving(Etcd, SOON).await?;
    node.put_back(ApiServer)
}

/// The UID of kube-system in the store that is served.
async fn uid(node: &Node) -> Result<String> {
    node.kube_system_uid(REGISTRY).await?.context("no API server has used this store")
}

/// Waits until the status says of etcd's data what it should.
async fn says(stage: &Stage, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let began = Instant::now();
    loop {
        let status = stage.status().await;
        match status {
            Ok(status) if holds(&status["wrong_data"]) => return Ok(status),
            _ if began.elapsed() < SOON => sleep(LOOK).await,
            last => anyhow::bail!("not within {SOON:?}: {what}\n{last:?}\n{}", stage.story()),
        }
    }
}

/// Waits until the API server is stopped for data of this kind, and looks at what that means.
async fn is_stopped_for(stage: &Stage, kinds: &[&str]) -> Result<()> {
    let node = &stage.node;
    let is_one = |wrong: &Value| wrong["kind"].as_str().is_some_and(|kind| kinds.contains(&kind));
    says(stage, &kinds.join(" or "), |wrong| is_one(wrong) && wrong["api_stopped"] == true).await?;
    stage.in_state(Etcd, "Held").await?;
    let began = Instant::now();
    while node.containers(ApiServer).await?.iter().any(|container| container.state == Life::Running) {
        ensure!(began.elapsed() < SOON, "the API server runs on:\n{}", stage.story());
        sleep(LOOK).await;
    }
    ensure!(!stage.names()?.contains(&ApiServer.file()), "its manifest is back:\n{}", stage.story());
    ensure!(node.path("/etc/kubernetes/.lastgood/withheld").join(ApiServer.file()).exists());
    let said = node.lastgood(&["status"]).await?;
    ensure!(said.code == 5 && kinds.iter().any(|kind| said.stdout.contains(kind)), "{}: {}", said.code, said.stdout);
    Ok(())
}

async fn is_over(stage: &Stage) -> Result<()> {
    says(stage, "the data on record are served", Value::is_null).await?;
    stage.all_serve().await?;
    stage.told("every component of this node has been restarted since").await?;
    for component in Component::ALL {
        stage.in_state(component, "Steady").await?;
    }
    Ok(())
}

async fn made(stage: &Stage, component: Component) -> Result<i64> {
    let all = stage.node.containers(component).await?;
    all.iter().rev().find(|c| c.state == Life::Running).map(|c| c.created_at).with_context(|| format!("no {component}"))
}

#[tokio::test]
async fn q1_a_disk_that_is_not_mounted_and_an_older_copy_are_held_and_nothing_is_lost() -> Result<()> {
    let mut stage = Stage::with(&quick(&[])).await?;
    meanwhile(&stage.node, async |node| {
        node.copy_etcd_data("early").await?;
        node.put_etcd_on_a_disk().await
    })
    .await?;
    stage.all_serve().await?;
    let own = uid(&stage.node).await?;
    stage.node.put_data("/lab/late", "1").await?;
    stage.node.etcdctl(&["snapshot", "save", "/root/late.db"]).await?;
    stage.in_state(ApiServer, "Steady").await?;
    stage.node.lastgood(&["etcd", "snapshot", "save"]).await?.success()?;
    let kept = listed(&stage.node).await?;
    let newest = path(kept.first().context("no snapshot is listed")?);

    // A: it is missing at a boot, and etcd founds an empty store with the same IDs.
    stage.node.etcd_disk_at_boot(Disk::Missing)?;
    stage.node.reboot().await?;
    is_stopped_for(&stage, &NEW).await?;
    ensure!(
        stage.times_told("restarting its container") == 0 && stage.times_told("data regressed from") == 0,
        "{}",
        stage.story()
    );
    // Kept over a kill, and by whoever fills slots.
    stage.node.agent().kill().await?;
    let filled = stage.node.lastgood(&["fill-slots"]).await?;
    ensure!(!stage.names()?.contains(&ApiServer.file()), "{}{}", filled.stdout, filled.stderr);
    stage.node.agent().restart().await?;
    is_stopped_for(&stage, &NEW).await?;
    let refused = stage.node.lastgood(&["etcd", "snapshot", "save"]).await?;
    ensure!(refused.code != 0, "a snapshot of the wrong store counts: {}", refused.stdout);
    // Retention removed nothing for it, and the newest snapshot is still one of the right data.
    let paths = |all: &[Value]| all.iter().map(path).collect::<Vec<_>>();
    let now = listed(&stage.node).await?;
    ensure!(paths(&now) == paths(&kept), "{kept:?}, and now {now:?}\n{}", stage.story());
    let planned = stage.node.lastgood(&["etcd", "restore", "--from", "latest", "--dry-run"]).await?;
    ensure!(planned.stdout.contains(&newest), "not of {newest}: {}{}", planned.stdout, planned.stderr);
    // The person mounts it, and does nothing else.
    stage.node.mount_etcd_disk().await?;
    is_over(&stage).await?;
    ensure!(uid(&stage.node).await? == own && stage.node.get_data("/lab/late").await?.is_some(), "{}", stage.story());
    let etcd = made(&stage, Etcd).await?;
    for component in [ApiServer, ControllerManager, Scheduler] {
        ensure!(made(&stage, component).await? > etcd, "{component} has read the wrong data:\n{}", stage.story());
    }

    // B: an older copy.
    meanwhile(&stage.node, async |node| node.bring_back_etcd_data("early", "late").await).await?;
    is_stopped_for(&stage, &["older"]).await?;
    let plan = stage.node.lastgood(&["etcd", "accept-data", "--dry-run"]).await?.success()?;
    ensure!(plan.contains("kube-apiserver"), "{plan}");
    is_stopped_for(&stage, &["older"]).await?;
    stage.node.lastgood(&["etcd", "accept-data", "--yes"]).await?.success()?;
    is_over(&stage).await?;
    ensure!(stage.node.get_data("/lab/late").await?.is_none(), "these are not the older data");

    // C: a real restore by etcd's own tool is followed as ever.
    let before = stage.times_told("an earlier state was restored");
    meanwhile(&stage.node, async |node| node.restore_etcd_data("/root/late.db", "older").await).await?;
    let began = Instant::now();
    while stage.times_told("an earlier state was restored") == before {
        ensure!(began.elapsed() < SOON, "the restore is not followed:\n{}", stage.story());
        sleep(LOOK).await;
    }
    is_over(&stage).await?;
    ensure!(stage.node.get_data("/lab/late").await?.is_some(), "{}", stage.story());
    let left = listed(&stage.node).await?;
    ensure!(kept.iter().all(|before| left.iter().any(|now| path(now) == path(before))), "{kept:?} {left:?}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q1_a_mistyped_path_goes_back_and_a_new_cluster_is_adopted() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    let own = uid(&stage.node).await?;
    let right = stage.node.mistype_etcd_path("/var/lib/etcd-new")?;
    stage.back(Etcd, &right).await?;
    is_over(&stage).await?;
    ensure!(uid(&stage.node).await? == own, "{}", stage.story());
    ensure!(stage.times_told("is quarantined") == 1, "{}", stage.story());

    stage.node.kubeadm_reset_and_init(Hand::Kubeadm).await?;
    stage.told("the memory is set aside").await?;
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    ensure!(uid(&stage.node).await? != own, "the cluster is the same");
    let status = stage.status().await?;
    ensure!(status["wrong_data"].is_null(), "{status}");
    ensure!(stage.times_told("stopped until etcd serves") <= 1, "the new cluster's was stopped:\n{}", stage.story());
    stage.node.put_data("/lab/kept", "written before").await?;
    stage.the_same_after_a_restart().await
}
