//! A restore by one command on a node whose etcd is deployed: with the agent running or stopped, with an etcd that
//! serves or is beyond repair, and killed in the middle.
//!
//! ```text
//!   snapshot ─ writes ─ restore ─▶ kube-apiserver and etcd stopped ─▶ exchanged ─▶ etcd, kube-apiserver ─▶ a write, a read
//!                          └ killed: the old data, or the restored ones, whole either way
//! ```

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::demo::QUICK;
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

const LATEST: [&str; 5] = ["etcd", "restore", "--from", "latest", "--yes"];
const DATA: &str = "/var/lib/etcd";

/// A node with a snapshot, and writes that came after it.
async fn later() -> Result<(Stage, i64)> {
    // The snapshots of its own clock would be later ones.
    let stage = Stage::with(&format!("{QUICK}\n[snapshots]\nenabled = false\n")).await?;
    let saved = stage.node.lastgood(&["etcd", "snapshot", "save"]).await?;
    ensure!(saved.code == 0, "{}{}", saved.stdout, saved.stderr);
    for number in 0..20 {
        stage.node.put_data("/lab/later", &number.to_string()).await?;
    }
    let high = revision(&stage).await?;
    stage
        .etcd_explained("all seen", |said| said["etcd"]["agreed"]["answer"]["revision"].as_i64() >= Some(high))
        .await?;
    Ok((stage, high))
}

async fn revision(stage: &Stage) -> Result<i64> {
    let read = stage.node.etcdctl(&["get", "/lab/kept", "--write-out=json"]).await?;
    let read: Value = serde_json::from_str(&read)?;
    read["header"]["revision"].as_i64().context("no revision")
}

/// What stands is of the snapshot, and goes on above all that was ever served.
async fn is_restored(stage: &Stage, high: i64) -> Result<()> {
    stage.all_serve().await?;
    ensure!(stage.node.get_data("/lab/later").await?.is_none(), "this is not the restored world");
    ensure!(stage.node.get_data("/lab/kept").await?.as_deref() == Some("written before"), "it is damaged");
    let now = revision(stage).await?;
    ensure!(now > high, "revision {now} after {high}");
    ensure!(kept(stage)?.len() == 1, "what stood is kept: {:?}", kept(stage)?);
    let recorded = names(stage)?.into_iter().filter(|name| name.starts_with(".lastgood-restored-"));
    ensure!(recorded.count() == 1, "it is not recorded once: {:?}", names(stage)?);
    Ok(())
}

fn names(stage: &Stage) -> Result<Vec<String>> {
    let entries = fs::read_dir(stage.node.path(DATA))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// What earlier restores put aside.
fn kept(stage: &Stage) -> Result<Vec<String>> {
    Ok(names(stage)?.into_iter().filter(|name| name.starts_with("member.before-restore-")).collect())
}

/// Nothing of a restore lies about, and every component stands on what it stood on.
async fn whole_again(stage: Stage, good: &[(Component, String)]) -> Result<()> {
    for (component, text) in good {
        stage.back(*component, text).await?;
        stage.steady_on(*component, 1).await?;
    }
    let left: Vec<String> = names(&stage)?.into_iter().filter(|name| name.starts_with(".lastgood-restore-")).collect();
    ensure!(left.is_empty(), "left over: {left:?}");
    ensure!(stage.times_told("RollingBack") == 0, "nothing was rolled back:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

fn manifests(stage: &Stage) -> Result<Vec<(Component, String)>> {
    Component::ALL.into_iter().map(|component| Ok((component, stage.manifest(component)?))).collect()
}

#[tokio::test]
async fn one_command_restores_a_node_of_one_member_and_proves_that_it_serves() -> Result<()> {
    let (stage, high) = later().await?;
    let good = manifests(&stage)?;
    // The plan first, with every step, and nothing is done.
    let planned = stage.node.lastgood(&["etcd", "restore", "--from", "latest", "--dry-run"]).await?;
    ensure!(planned.code == 0, "{}{}", planned.stdout, planned.stderr);
    let steps = ["take kube-apiserver's manifest out", "take etcd.yaml out", "restore the data", "put etcd.yaml back"];
    let mut rest = planned.stdout.as_str();
    for step in steps {
        let at =
            rest.find(step).with_context(|| format!("{step:?} is not in order in the plan: {}", planned.stdout))?;
        rest = &rest[at..];
    }
    ensure!(stage.deeds().is_empty() && manifests(&stage)? == good, "a dry run did something: {:?}", stage.deeds());

    let said = stage.node.lastgood(&LATEST).await?;
    ensure!(said.code == 0, "exit code {}: {}{}\n{}", said.code, said.stdout, said.stderr, stage.story());
    ensure!(said.stdout.contains("its etcd serves: a write was read back at revision"), "{}", said.stdout);
    is_restored(&stage, high).await?;
    // kube-apiserver first out and last in, and who remembers the world before starts anew.
    let story = stage.story();
    let at = |words: &str| story.find(words).with_context(|| format!("not told: {words}\n{story}"));
    ensure!(at("kube-apiserver: stopped before etcd is replaced")? < at("took etcd.yaml out")?, "{story}");
    ensure!(at("of etcd in place")? < at("of kube-apiserver in place")?, "{story}");
    stage.told("every component of this node has been restarted since").await?;
    whole_again(stage, &good).await
}

#[tokio::test]
async fn with_the_agent_stopped_and_an_etcd_that_is_beyond_help_it_is_the_same_command() -> Result<()> {
    let (stage, high) = later().await?;
    let good = manifests(&stage)?;
    stage.node.agent().stop().await?;
    // Its database is damaged, and it ends whenever it is started.
    stage
        .node
        .exec(&[
            "sh",
            "-c",
            "dd if=/dev/zero of=/var/lib/etcd/member/snap/db bs=4096 count=4 conv=notrunc && { pkill -9 -x etcd || true; }",
        ])
        .await?
        .success()?;
    let said = stage.node.lastgood(&LATEST).await?;
    ensure!(said.code == 0, "exit code {}: {}{}", said.code, said.stdout, said.stderr);
    ensure!(said.stderr.contains("took etcd.yaml out"), "what is done is told: {}", said.stderr);
    is_restored(&stage, high).await?;
    stage.node.agent().start().await?;
    whole_again(stage, &good).await
}

/// Runs it once more: it proves that its etcd serves. What it tells meanwhile.
async fn the_same_command(stage: &Stage) -> Result<String> {
    let said = stage.node.lastgood(&LATEST).await?;
    ensure!(said.code == 0, "exit code {}: {}{}", said.code, said.stdout, said.stderr);
    let serves = "its etcd serves: a write was read back at revision";
    ensure!(said.stdout.contains(serves), "{}{}", said.stdout, said.stderr);
    Ok(said.stderr)
}

/// Runs the command until etcd's slot is empty, and kills it.
async fn killed_with_an_empty_slot(stage: &Stage) -> Result<()> {
    let manifest = stage.node.path("/etc/kubernetes/manifests/etcd.yaml");
    let restore = stage.node.lastgood(&LATEST);
    let kill = async {
        let began = Instant::now();
        while manifest.exists() {
            ensure!(began.elapsed() < SOON, "etcd's slot is not emptied within {SOON:?}");
            sleep(Duration::from_millis(10)).await;
        }
        stage.node.exec(&["pkill", "-9", "-f", "^/lab/bin/lastgood.* etcd restore"]).await?;
        anyhow::Ok(())
    };
    let (said, killed) = tokio::join!(restore, kill);
    killed?;
    ensure!(said.map_or(true, |said| said.code != 0), "it was not killed");
    ensure!(!manifest.exists(), "somebody has put it back");
    Ok(())
}

#[tokio::test]
async fn killed_without_an_agent_the_same_command_fills_the_slot_and_proves_that_it_serves() -> Result<()> {
    let (stage, high) = later().await?;
    let good = manifests(&stage)?;
    stage.node.agent().stop().await?;
    killed_with_an_empty_slot(&stage).await?;
    the_same_command(&stage).await?;
    is_restored(&stage, high).await?;
    stage.node.agent().start().await?;
    whole_again(stage, &good).await
}

/// Runs the command until what stood is exchanged, and kills it: that is what the second fsync of the data directory is for;
/// the first is for the directory in which it builds.
async fn killed_when_exchanged(stage: &Stage) -> Result<()> {
    let strace = ["strace", "-f", "-o", "/dev/null", "-P", DATA, "-e", "trace=fsync", "-e"];
    let command = [&strace[..], &["inject=fsync:signal=KILL:when=2", "/lab/bin/lastgood"], &LATEST].concat();
    let said = stage.node.exec(&command).await?;
    ensure!(said.code != 0, "it was not killed: {}{}", said.stdout, said.stderr);
    let left = names(stage)?.into_iter().filter(|name| name.starts_with(".lastgood-restore-"));
    ensure!(left.count() == 1 && kept(stage)?.is_empty(), "not in the middle of it: {:?}", names(stage)?);
    Ok(())
}

#[tokio::test]
async fn killed_when_all_but_done_the_same_command_completes_it_and_proves_that_it_serves() -> Result<()> {
    let (stage, high) = later().await?;
    let good = manifests(&stage)?;
    stage.node.agent().stop().await?;
    killed_when_exchanged(&stage).await?;
    let told = the_same_command(&stage).await?;
    ensure!(told.contains("this restore is already done, and nothing was written since"), "{told}");
    is_restored(&stage, high).await?;
    stage.node.agent().start().await?;
    whole_again(stage, &good).await
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_one_whole_world_and_the_slot_is_filled_again() -> Result<()> {
    for slot in ["Suspended", "suspended"] {
        let (stage, _) = later().await?;
        let good = manifests(&stage)?;
        let restore = stage.node.lastgood(&LATEST);
        let kill = async {
            let began = Instant::now();
            loop {
                let etcd = stage.component(Component::Etcd).await?;
                if etcd["state"] == slot || etcd["replacement"]["stage"] == slot {
                    break;
                }
                ensure!(began.elapsed() < SOON, "not within {SOON:?}: {slot}: {etcd}\n{}", stage.story());
                sleep(Duration::from_millis(10)).await;
            }
            stage.node.exec(&["pkill", "-9", "-f", "^/lab/bin/lastgood.* etcd restore"]).await?;
            anyhow::Ok(())
        };
        let (said, killed) = tokio::join!(restore, kill);
        killed?;
        let code = said.map(|said| said.code);
        println!("killed at {slot}: {code:?}");
        stage.all_serve().await?;
        // Whichever of the two it is, it is whole, and the other is kept or was never made.
        let later = stage.node.get_data("/lab/later").await?;
        ensure!(later.is_some() == kept(&stage)?.is_empty(), "{later:?}, {:?}", kept(&stage)?);
        whole_again(stage, &good).await?;
    }
    Ok(())
}
