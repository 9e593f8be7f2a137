//! etcd 3.4 becomes 3.5 and fails: whether it may become 3.4 again is for its data to say.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lastgood_lab::manifests::{Cluster, Component, EtcdVersion};
use lastgood_lab::node::Writing;
use lastgood_lab::node::cache::Cache;
use lastgood_lab::node::demo::QUICK;
use tokio::time::sleep;

use crate::etcd::{adopted, comes_back_behind_a_stopped_api_server};
use crate::stage::{SOON, Stage};

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(50);

/// The same node's manifest of an etcd 3.5.
pub(crate) fn upgraded(stage: &Stage) -> Result<String> {
    let version = Cache::open()?.path("etcd/3.5/version");
    let release = fs::read_to_string(&version).with_context(|| version.display().to_string())?;
    let etcd_release = release.trim().to_owned();
    let cluster = Cluster { etcd: EtcdVersion::V35, etcd_release, ..stage.node.cluster().clone() };
    Ok(cluster.manifest(Component::Etcd))
}

fn with_a_bad_flag(manifest: &str) -> String {
    manifest.replacen("- etcd\n", "- etcd\n    - --no-such-flag=1\n", 1)
}

/// What etcd's containers have said so far.
fn said(stage: &Stage) -> Result<String> {
    let mut said = String::new();
    for pod in fs::read_dir(stage.node.path("/var/log/pods"))?.flatten() {
        if !pod.file_name().to_string_lossy().contains("etcd") {
            continue;
        }
        for log in fs::read_dir(pod.path().join("etcd")).into_iter().flatten().flatten() {
            said += &fs::read_to_string(log.path()).unwrap_or_default();
        }
    }
    Ok(said)
}

/// Waits until an etcd has raised the cluster's version to 3.5.
async fn raised(stage: &Stage) -> Result<()> {
    let began = Instant::now();
    let raised = |line: &str| line.contains("updated cluster version") && line.contains("\"to\":\"3.5\"");
    while !said(stage)?.lines().any(raised) {
        if began.elapsed() > SOON {
            bail!("the cluster's version was not raised:\n{}", stage.story());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

#[tokio::test]
async fn t22_r9_an_etcd_3_5_that_raised_the_version_and_broke_does_not_become_3_4_again() -> Result<()> {
    let stage = adopted(EtcdVersion::V34, &QUICK.replace("soak = \"10s\"", "soak = \"10m\"")).await?;
    let file = Component::Etcd.file();
    let newer = upgraded(&stage)?;
    stage.node.write_manifest(&file, &newer, Writing::Atomic)?;
    raised(&stage).await?;
    let serves =
        |c: &serde_json::Value| c["generation"] == 2 && c["verdict"].to_string().to_lowercase().contains("healthy");
    stage.until(Component::Etcd, "an etcd 3.5 that serves", serves).await?;

    let broken = with_a_bad_flag(&newer);
    stage.node.write_manifest(&file, &broken, Writing::Atomic)?;
    let held = stage.in_state(Component::Etcd, "Held").await?;
    stage.told("etcd 3.4 does not open data of cluster version 3.5").await?;
    let words = held.to_string();
    ensure!(words.contains("cluster version 3.5") && words.contains("etcd 3.4"), "both versions, and why: {words}");
    ensure!(stage.manifest(Component::Etcd)? == broken, "it acted although it was held");
    ensure!(!said(&stage)?.contains("cannot be downgraded"), "an etcd 3.4 was started over the data");

    // A person mends the newer one, and vouches for it.
    stage.node.write_manifest(&file, &newer, Writing::Atomic)?;
    stage.until(Component::Etcd, "the etcd 3.5 serves again", serves).await?;
    stage.all_serve().await?;
    let vouched = stage.node.lastgood(&["checkpoint", "etcd", "--reason", "mended"]).await?;
    ensure!(vouched.code == 0, "{}{}", vouched.stdout, vouched.stderr);
    stage.steady_on(Component::Etcd, 2).await?;
    // They may not have the older one either.
    let refused = stage.node.lastgood(&["rollback", "etcd", "--to", "1", "--yes"]).await?;
    let words = refused.stdout + &refused.stderr;
    ensure!(refused.code == 3 && words.contains("etcd 3.4 does not open data of cluster version 3.5"), "{words}");
    stage.steady_on(Component::Etcd, 2).await?;
    ensure!(stage.manifest(Component::Etcd)? == newer, "a refused request changed the manifest");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn t22_r9_an_etcd_3_5_that_never_came_up_becomes_3_4_again_over_the_same_data() -> Result<()> {
    let stage = adopted(EtcdVersion::V34, QUICK).await?;
    let good = stage.manifest(Component::Etcd)?;
    let broken = with_a_bad_flag(&upgraded(&stage)?);
    stage.node.write_manifest(&Component::Etcd.file(), &broken, Writing::Atomic)?;
    comes_back_behind_a_stopped_api_server(&stage, &good).await?;
    stage.told("generation 2 is quarantined").await?;
    stage.the_same_after_a_restart().await
}
