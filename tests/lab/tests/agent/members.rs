//! The data of etcd: its cluster, its alarms, and a lineage that somebody restored.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::Node;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::members::OTHERS;
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

const LOOK: Duration = Duration::from_millis(100);

/// A node whose agent has adopted it after something was made of it.
pub(crate) async fn adopted_with(node: Node, config: &str) -> Result<Stage> {
    node.put_data("/lab/kept", "written before").await?;
    let mut stage = Stage { node };
    stage.node.spawn_agent(config).await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await.context("it was not adopted")?;
    }
    Ok(stage)
}

/// The same on a node whose etcd is one of three members.
pub(crate) async fn one_of_three(version: EtcdVersion, config: &str) -> Result<Stage> {
    let node = Node::builder().scale(0.1).etcd(version).start().await?;
    node.up().await?;
    node.join_members().await?;
    node.up().await?;
    adopted_with(node, config).await
}

impl Stage {
    pub(crate) async fn explained(&self, component: Component) -> Result<Value> {
        let said = self.node.lastgood(&["explain", component.name(), "-o", "json"]).await?;
        let said: Value = serde_json::from_str(&said.stdout).with_context(|| format!("explain: {said:?}"))?;
        Ok(said["items"][0].clone())
    }

    /// Waits until the explanation of etcd says something.
    pub(crate) async fn etcd_explained(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        loop {
            let said = self.explained(Component::Etcd).await?;
            if holds(&said) {
                return Ok(said);
            }
            ensure!(began.elapsed() < SOON, "not within {SOON:?}: {what}: {said:#}\n{}", self.story());
            sleep(LOOK).await;
        }
    }

    /// What the agent did to the node so far.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let deeds = [
            ": put generation",
            ": took ",
            ": stopped container",
            ": stopped sandbox",
            ": moved ",
            "kubelet is restarted",
        ];
        let story = self.story();
        story.lines().filter(|line| deeds.iter().any(|deed| line.contains(deed))).map(str::to_owned).collect()
    }

    /// The container of a component that runs: its ID, attempt, and when it was made.
    pub(crate) async fn runs(&self, component: Component) -> Result<(String, u32, i64)> {
        let all = self.node.containers(component).await?;
        let running = all.iter().rev().find(|c| c.state == Life::Running);
        running.map(|c| (c.id.clone(), c.attempt, c.created_at)).with_context(|| format!("{component} does not run"))
    }
}

pub(crate) fn says(said: &Value, words: &str) -> bool {
    said.to_string().contains(words)
}

async fn a_cluster_of_three(version: EtcdVersion) -> Result<()> {
    let stage = one_of_three(version, QUICK).await?;
    let well = |said: &Value| {
        said["verdict"] == "healthy"
            && said["etcd"]["others"].as_object().is_some_and(|others| {
                others.len() == 2 && others.values().all(|other| other["answer"]["version"].is_string())
            })
    };
    let said = stage.etcd_explained("all three known", well).await?;
    let own = said["etcd"]["own"]["answer"]["member"].clone();
    ensure!(said["etcd"]["members"].as_array().is_some_and(|all| all.len() == 3), "{said:#}");
    ensure!(said["etcd"]["metrics"]["has_leader"] == true, "{said:#}");

    // T23: the local member is killed, and comes back in place by the kubelet alone.
    let (_, attempt, _) = stage.runs(Component::Etcd).await?;
    stage.node.sh("kill -9 $(pgrep -f -- '[-]-data-dir=/var/lib/etcd( |$)')").await?;
    let again = |said: &Value| well(said) && said["etcd"]["own"]["answer"]["member"] == own;
    let began = Instant::now();
    while !stage.runs(Component::Etcd).await.is_ok_and(|(_, now, _)| now > attempt) {
        ensure!(began.elapsed() < SOON, "the kubelet did not restart it:\n{}", stage.node.kubelet().log());
        sleep(LOOK).await;
    }
    // A write is agreed upon by the new process; and the agent has to have seen it serve: Healthy outlasts a short absence.
    stage.node.put_data("/lab/again", "written after the kill").await?;
    let seen = |said: &Value| said["etcd"]["at"]["secs"].as_u64().unwrap_or(0);
    let since = seen(&stage.etcd_explained("the same member again", again).await?);
    stage.etcd_explained("seen to serve again", |said| again(said) && seen(said) >= since + 3).await?;
    stage.all_serve().await?;
    ensure!(stage.deeds().is_empty(), "{:?}", stage.deeds());

    // N21: our member is cut off. It has no leader, and its process is fine.
    let (before, manifests) = (stage.runs(Component::Etcd).await?, stage.names()?);
    stage.node.link_to_members("down").await?;
    // The cause is known a moment before one more bad answer makes it a verdict.
    let cut = |said: &Value| {
        said["verdict"] == "failing"
            && says(&said["cause"], "the etcd cluster does not serve")
            && says(said, "knows no leader")
            && says(said, "2 of 3 members do not answer")
    };
    stage.etcd_explained("cut off", cut).await?;
    stage.told("nothing is restarted or rolled back for that").await?;
    ensure!(stage.runs(Component::Etcd).await? == before, "its process was touched");
    stage.node.link_to_members("up").await?;
    stage.etcd_explained("joined again", again).await?;
    stage.all_serve().await?;

    // No quorum: both others hang. The API server waits for it.
    for number in OTHERS {
        stage.node.signal_member(number, "STOP").await?;
    }
    stage.etcd_explained("without its quorum", |said| says(&said["cause"], "the etcd cluster does not serve")).await?;
    let waits = |c: &Value| c["verdict"] != "healthy" && says(c, "etcd");
    stage.until(Component::ApiServer, "waiting for etcd", waits).await?;
    ensure!(stage.runs(Component::Etcd).await? == before, "its process was touched");
    for number in OTHERS {
        stage.node.signal_member(number, "CONT").await?;
    }
    stage.etcd_explained("agreed again", again).await?;
    stage.all_serve().await?;

    // One other dead is no fault here, once the two have a leader again, and how it is cannot be told.
    stage.node.kill_member(3).await?;
    let one_gone = |said: &Value| said["verdict"] == "healthy" && says(&said["evidence"], "cannot tell how m3");
    stage.etcd_explained("one gone", one_gone).await?;
    ensure!(stage.deeds().is_empty() && stage.names()? == manifests, "{:?}", stage.deeds());
    ensure!(!stage.story().contains("data regressed"), "{}", stage.story());
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn t23_n21_a_cluster_of_three_is_told_apart_and_nothing_is_done_about_it() -> Result<()> {
    a_cluster_of_three(EtcdVersion::V35).await
}

#[tokio::test]
async fn t23_n21_so_is_one_of_etcd_3_4() -> Result<()> {
    a_cluster_of_three(EtcdVersion::V34).await
}

#[tokio::test]
async fn a_restored_world_is_noticed_once_and_n17_a_full_database_is_no_reason_to_roll_back() -> Result<()> {
    let node = Node::builder().scale(0.1).start().await?;
    node.edit_manifest(&Component::Etcd.file(), |text| {
        text.replacen("- etcd\n", "- etcd\n    - --quota-backend-bytes=20000000\n", 1)
    })?;
    node.up().await?;
    let stage = adopted_with(node, QUICK).await?;

    // Somebody restores a snapshot, with etcd's own tool, while the API server stays.
    stage.node.etcdctl(&["snapshot", "save", "/root/saved.db"]).await?;
    for number in 0..40 {
        stage.node.put_data("/lab/later", &number.to_string()).await?;
    }
    let said = stage.etcd_explained("known", |said| said["etcd"]["own"]["answer"]["revision"].is_i64()).await?;
    let high = said["etcd"]["own"]["answer"]["revision"].as_i64().unwrap_or_default();
    stage.etcd_explained("higher", |said| said["etcd"]["agreed"]["answer"]["revision"].as_i64() > Some(high)).await?;
    let file = stage.node.manifest_path(&Component::Etcd.file());
    let aside = stage.node.path("/root/etcd.yaml");
    std::fs::rename(&file, &aside)?;
    let began = Instant::now();
    while stage.runs(Component::Etcd).await.is_ok() {
        ensure!(began.elapsed() < SOON, "etcd does not go");
        sleep(LOOK).await;
    }
    stage
        .node
        .sh("set -e; mv /var/lib/etcd/member /root/member.before; /lab/etcd/etcdutl snapshot restore /root/saved.db \
             --data-dir=/var/lib/restored --name=master-1 --initial-cluster=master-1=https://127.0.0.1:2380 \
             --initial-advertise-peer-urls=https://127.0.0.1:2380; mv /var/lib/restored/member /var/lib/etcd/member")
        .await?;
    let restored = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    std::fs::rename(&aside, &file)?;
    stage.told("data regressed from revision").await?;
    stage.told("every component of this node has been restarted since").await?;
    stage.all_serve().await?;
    for component in &Component::ALL[1..] {
        let (_, _, made) = stage.runs(*component).await?;
        ensure!(made > restored, "{component} is older than the restore:\n{}", stage.story());
    }
    ensure!(stage.node.get_data("/lab/later").await?.is_none(), "this is not the restored world");
    ensure!(stage.node.get_data("/lab/kept").await?.as_deref() == Some("written before"), "the data are gone");
    let before = stage.runs(Component::ApiServer).await?;
    stage.node.agent().restart().await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.etcd_explained("heard again", |said| said["etcd"]["own"]["answer"]["revision"].is_i64()).await?;
    for component in &Component::ALL[1..] {
        let told = format!("{component}: it is restarted: it cached");
        let count = stage.story().matches(&told).count();
        ensure!(count <= 1, "{component} was started anew {count} times:\n{}", stage.story());
    }
    ensure!(stage.runs(Component::ApiServer).await? == before, "the API server was restarted once more");

    // N17: the database is full.
    stage
        .node
        .sh("i=0; while [ $i -lt 40 ]; do head -c 1000000 /dev/zero | tr '\\0' x | /lab/etcd/etcdctl \
             --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
             --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key \
             put /lab/fill || exit 0; i=$((i+1)); done; exit 1")
        .await?;
    let full = |said: &Value| said["verdict"] == "failing" && says(&said["cause"], "NOSPACE");
    stage.etcd_explained("full", full).await?;
    stage.told("no restart or rollback cures that").await?;
    let good = stage.manifest(Component::ApiServer)?;
    stage.add_flag(Component::ApiServer, "--no-such-flag=1")?;
    stage.told("not held against it: etcd raised an alarm: NOSPACE").await?;
    let deeds = stage.deeds();
    ensure!(!deeds.iter().any(|deed| deed.contains("put generation")), "it was rolled back: {deeds:?}");
    // A person makes room.
    let early = stage.node.lastgood(&["etcd", "disarm", "--yes"]).await?;
    ensure!(early.code == 3, "it is disarmed over a full database: {early:?}");
    for command in ["compact", "defrag", "disarm"] {
        stage.node.lastgood(&["etcd", command, "--yes"]).await?.success()?;
    }
    stage.back(Component::ApiServer, &good).await?;
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}
