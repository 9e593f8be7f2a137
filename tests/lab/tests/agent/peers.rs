//! One etcd member among others: which faults are its own, which are the cluster's, and which are only reported.
//!
//! ```text
//!   ours stalls ─▶ the others agree without it ─▶ restarted      one of them is down as well ─▶ left, and reported
//!   no quorum at its start, certificates, a learner, an alarm, versions, a slow disk ─▶ named, reported, left ─▶ over
//! ```

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::members::{Joins, OTHERS, endpoint, peer_pair};
use lastgood_lab::node::{Node, Writing};
use lastgood_lab::pki::{Authority, Pair, San, Usage};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::changes::quick;
use crate::members::{adopted_with, one_of_three, says};
use crate::stage::{SOON, Stage};
use crate::versions::upgraded;

const LOOK: Duration = Duration::from_millis(100);
const PKI: &str = "/etc/kubernetes/pki";
const ETCD: Component = Component::Etcd;

fn is_well(said: &Value) -> bool {
    said["verdict"] == "healthy" && said["etcd"]["own"]["answer"]["version"].is_string()
}

impl Stage {
    /// Kills the node's etcd; its kubelet starts it again.
    async fn kill_etcd(&self) -> Result<()> {
        self.node.sh("kill -9 $(pgrep -f -- '[-]-data-dir=/var/lib/etcd( |$)')").await
    }

    /// That a fault is over: etcd is well, nothing of it is told any more, and everything serves.
    async fn etcd_is_well_again(&self) -> Result<()> {
        let over = |said: &Value| is_well(said) && said["notices"].as_array().is_some_and(Vec::is_empty);
        self.etcd_explained("well again, and nothing told", over).await?;
        self.all_serve().await
    }

    /// That nobody was restarted, put back or taken out by the agent.
    fn nobody_was_touched(&self) -> Result<()> {
        ensure!(self.deeds().is_empty(), "{:?}\n{}", self.deeds(), self.story());
        Ok(())
    }
}

#[tokio::test]
async fn q10_a_hung_member_is_restarted_while_the_others_suffice_and_is_left_when_they_do_not() -> Result<()> {
    let stage = one_of_three(EtcdVersion::V35, &quick(&[])).await?;
    let restarting = "etcd: restarting its container";
    let before = stage.running(ETCD).await?;
    stage.signal(ETCD, "STOP").await?;
    stage.told(restarting).await?;
    stage.runs_anew(ETCD, &before).await?;
    stage.etcd_is_well_again().await?;
    ensure!(stage.times_told("restarting its container") == 1, "{}", stage.story());

    // One of the others is down as well: without ours the cluster is no quorum, and what it would lose is not known.
    stage.node.kill_member(3).await?;
    stage.etcd_explained("m3 gone", |said| is_well(said) && says(&said["evidence"], "cannot tell how m3")).await?;
    let before = stage.running(ETCD).await?;
    stage.signal(ETCD, "STOP").await?;
    stage
        .told("it is stalled and is not restarted: etcd has 3 members, and 0 of the other members have a quorum of 2")
        .await?;
    stage.told("so it is left to the kubelet's own probes").await?;
    // Those find it by themselves.
    stage.runs_anew(ETCD, &before).await?;
    stage.all_serve().await?;
    ensure!(stage.times_told(restarting) == 1, "{}", stage.story());

    // Both others are away, and ours starts: it has no quorum to start with, and says so long before its budget is over.
    stage.node.signal_member(2, "STOP").await?;
    stage.kill_etcd().await?;
    let lonely = |said: &Value| {
        said["verdict"] == "starting"
            && says(&said["cause"], "the etcd cluster does not serve")
            && says(&said["cause"], "finds no leader")
    };
    stage.etcd_explained("named at its start", lonely).await?;
    stage.told("finds no leader; 2 of 3 members do not answer").await?;
    stage.node.signal_member(2, "CONT").await?;
    stage.etcd_explained("agreed again", is_well).await?;
    stage.all_serve().await?;
    ensure!(stage.times_told("restarting its container") == 1, "{}", stage.story());
    ensure!(stage.times_told("RollingBack") == 0, "{}", stage.story());
    stage.the_same_after_a_restart().await
}

/// Puts another pair in place of one; returns what lay there.
fn swap(stage: &Stage, base: &str, with: &Pair) -> Result<Pair> {
    let path = |end: &str| stage.node.path(format!("{base}.{end}"));
    let was = Pair { cert: fs::read_to_string(path("crt"))?, key: fs::read_to_string(path("key"))? };
    for (end, text) in [("crt", &with.cert), ("key", &with.key)] {
        // Whole at every moment: the two together may be a pair that does not fit for an instant, as with any tool.
        let aside = path(&format!("{end}.new"));
        fs::write(&aside, text)?;
        fs::rename(&aside, path(end))?;
    }
    Ok(was)
}

#[tokio::test]
async fn certificates_of_another_authority_are_named_for_peers_server_and_client() -> Result<()> {
    let stage = one_of_three(EtcdVersion::V35, QUICK).await?;
    let other = Authority::new("etcd-ca")?;
    let manifests = stage.names()?;

    // Peers: it is cut off from a cluster that serves.
    let base = format!("{PKI}/etcd/peer");
    let good = swap(&stage, &base, &peer_pair(&other, 1)?)?;
    stage.kill_etcd().await?;
    let cut_off = |said: &Value| {
        says(&said["cause"], "key material does not fit: with m")
            && says(&said["evidence"], "the other members agree without this one")
    };
    stage.etcd_explained("cut off", cut_off).await?;
    stage.told("see whether the CA of the other members signed --peer-cert-file").await?;
    stage.nobody_was_touched()?;
    swap(&stage, &base, &good)?;
    stage.etcd_is_well_again().await?;

    // The server's: whoever verifies does not get in, and etcd itself is fine.
    let names = [San::Name("localhost"), San::Address([127, 0, 0, 1].into())];
    let base = format!("{PKI}/etcd/server");
    let good = swap(&stage, &base, &other.leaf("etcd", None, Usage::Both, &names)?)?;
    let before = stage.runs(ETCD).await?;
    let untrusted = |said: &Value| {
        said["verdict"] == "failing"
            && says(&said["cause"], "key material")
            && says(&said["cause"], "invalid peer certificate")
    };
    stage.etcd_explained("the server's is not taken", untrusted).await?;
    stage.told("next: compare --cert-file and --peer-cert-file of etcd, and --etcd-certfile of the API server").await?;
    swap(&stage, &base, &good)?;
    stage.etcd_is_well_again().await?;

    // The client's.
    let base = format!("{PKI}/apiserver-etcd-client");
    let stranger = other.leaf("kube-apiserver-etcd-client", Some("system:masters"), Usage::Client, &[])?;
    let good = swap(&stage, &base, &stranger)?;
    let refused = |said: &Value| {
        said["verdict"] == "failing"
            && says(&said["cause"], "key material does not fit")
            && says(&said["cause"], "rejects the client certificate")
    };
    stage.etcd_explained("the client's is not taken", refused).await?;
    swap(&stage, &base, &good)?;
    stage.etcd_is_well_again().await?;

    ensure!(stage.runs(ETCD).await? == before, "etcd was restarted");
    stage.nobody_was_touched()?;
    ensure!(stage.names()? == manifests, "{:?}", stage.names()?);
    stage.the_same_after_a_restart().await
}

/// Raises or lowers an alarm as etcd's own check would; etcdctl cannot raise one.
async fn alarm(stage: &Stage, action: &str, member: u64) -> Result<()> {
    let body = serde_json::json!({ "action": action, "memberID": member.to_string(), "alarm": "CORRUPT" });
    let command = format!(
        "curl -sSf --cacert {PKI}/etcd/ca.crt --cert {PKI}/etcd/healthcheck-client.crt \
         --key {PKI}/etcd/healthcheck-client.key https://127.0.0.1:2379/v3/maintenance/alarm -d '{body}'"
    );
    stage.node.sh(&command).await
}

/// Every sync of a process takes this much longer, for as long as this lives.
async fn slow_down(stage: &Stage, delay: Duration) -> Result<Child> {
    let inside = stage.node.exec(&["pgrep", "-f", "--", "[-]-data-dir=/var/lib/etcd( |$)"]).await?.success()?;
    let inject = format!("inject=fdatasync,fsync:delay_exit={}", delay.as_micros());
    let command =
        ["strace", "-f", "-o", "/dev/null", "-p", inside.trim(), "-e", "trace=fdatasync,fsync", "-e", &inject];
    let mut strace = Command::from(stage.node.enter(&command)?);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    strace.spawn().context("cannot run strace in the node (package strace)")
}

/// Counters of a disk come only while somebody writes.
async fn keep_writing(stage: &Stage) {
    loop {
        let _ = stage.node.put_data("/lab/slow", "written").await;
        sleep(LOOK).await;
    }
}

/// A disk that is slow is told, look after look, and nothing comes of it.
async fn a_slow_disk_is_told(stage: &Stage) -> Result<()> {
    let mut slow = slow_down(stage, Duration::from_millis(1300)).await?;
    let writes = Instant::now();
    while !stage.story().contains("slow disk: the 99th percentile") {
        ensure!(writes.elapsed() < SOON, "not told:\n{}", stage.story());
        // Whoever writes has to wait for it; a heartbeat of a lease would do as well.
        let _ = stage.node.put_data("/lab/slow", "written slowly").await;
    }
    stage.etcd_explained("slow", |said| says(&said["evidence"], "slow disk")).await?;
    stage.told("give etcd a dedicated disk").await?;
    // Ended in the node: what brought it there is another process.
    stage.node.sh("pkill -x strace").await?;
    slow.wait().await?;
    tokio::select! {
        over = stage.etcd_is_well_again() => over?,
        () = keep_writing(stage) => {}
    }
    Ok(())
}

async fn what_a_member_says(version: EtcdVersion) -> Result<()> {
    let node = Node::builder().scale(0.1).etcd(version).start().await?;
    node.up().await?;
    node.make_room_for_members().await?;
    node.up().await?;
    let stage = adopted_with(node, QUICK).await?;
    let manifests = stage.names()?;

    // A learner beside it has no vote, and is no fault of anybody.
    stage.node.join_member(2, Joins::Learner).await?;
    let learns = |said: &Value| {
        is_well(said)
            && said["etcd"]["members"].as_array().is_some_and(|all| all.iter().any(|one| one["learner"] == true))
    };
    let said = stage.etcd_explained("a learner is known", learns).await?;
    let own = said["etcd"]["own"]["answer"]["member"].as_u64().context("no member ID")?;
    ensure!(said["cause"].is_null(), "{said:#}");
    // One that hangs changes nothing here.
    let before = stage.runs(ETCD).await?;
    stage.node.signal_member(2, "STOP").await?;
    stage.etcd_explained("it hangs", |said| is_well(said) && says(&said["evidence"], "cannot tell how m2")).await?;
    stage.node.signal_member(2, "CONT").await?;
    let learner = stage.node.member_id("m2").await?;
    stage.node.etcdctl(&["member", "remove", &learner]).await?;
    stage
        .etcd_explained("alone again", |said| said["etcd"]["members"].as_array().is_some_and(|all| all.len() == 1))
        .await?;

    // The /health of 3.4 asks the quorum whatever its caller wants: its kubelet restarts it over a slow disk before it has
    // told of that look after look.
    if version == EtcdVersion::V35 {
        a_slow_disk_is_told(&stage).await?;
    }

    // CORRUPT holds it for a person, and nothing else.
    alarm(&stage, "ACTIVATE", own).await?;
    let corrupt =
        |said: &Value| said["verdict"] == "failing" && says(&said["cause"], "CORRUPT, raised for this member");
    stage.etcd_explained("corrupt", corrupt).await?;
    stage.in_state(ETCD, "Held").await?;
    stage.told("endpoint hashkv --cluster").await?;
    alarm(&stage, "DEACTIVATE", own).await?;
    stage.etcd_explained("disarmed", |said| said["verdict"] == "healthy").await?;
    stage.node.lastgood(&["resume", "etcd"]).await?.success()?;
    stage.steady_on(ETCD, 1).await?;
    stage.etcd_is_well_again().await?;
    ensure!(stage.runs(ETCD).await? == before, "etcd was restarted");
    stage.nobody_was_touched()?;
    ensure!(stage.names()? == manifests, "{:?}", stage.names()?);
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_learner_a_slow_disk_and_corrupt_data_are_told_and_left() -> Result<()> {
    what_a_member_says(EtcdVersion::V35).await
}

#[tokio::test]
async fn so_they_are_of_etcd_3_4() -> Result<()> {
    what_a_member_says(EtcdVersion::V34).await
}

#[tokio::test]
async fn members_of_two_versions_are_told_until_the_upgrade_is_over() -> Result<()> {
    let stage = one_of_three(EtcdVersion::V34, QUICK).await?;
    let before = stage.runs(ETCD).await?;
    for number in OTHERS {
        stage.node.change_member(number, EtcdVersion::V35).await?;
    }
    stage.told("members of several versions: this one runs 3.4.").await?;
    stage.etcd_explained("the others are newer", |said| is_well(said) && says(&said["evidence"], "runs 3.5.")).await?;
    stage.nobody_was_touched()?;
    ensure!(stage.runs(ETCD).await? == before, "etcd was restarted");
    // A person ends it: the newer manifest, with what the cluster's own has.
    let listen = "--listen-peer-urls=https://127.0.0.1:2380";
    let newer = upgraded(&stage)?.replace(listen, &format!("{listen},https://10.77.0.1:2380"));
    stage.node.write_manifest(&ETCD.file(), &newer, Writing::Atomic)?;
    stage.steady_on(ETCD, 2).await?;
    stage.etcd_is_well_again().await?;
    stage.nobody_was_touched()?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_member_that_joins_anew_as_a_learner_is_waited_for_by_its_api_server() -> Result<()> {
    let stage = one_of_three(EtcdVersion::V35, QUICK).await?;
    let own = stage.node.member_id(stage.node.name()).await?;
    // A person replaces the member of this node, as `kubeadm join` makes one: without a vote first.
    let file = stage.node.manifest_path(&ETCD.file());
    let aside = stage.node.path("/root/etcd.yaml");
    fs::rename(&file, &aside)?;
    let began = Instant::now();
    while stage.running(ETCD).await?.is_some() {
        ensure!(began.elapsed() < SOON, "etcd does not go");
        sleep(LOOK).await;
    }
    let others = endpoint(2);
    stage.node.etcdctl(&[&others, "member", "remove", &own]).await?;
    let peer = "--peer-urls=https://10.77.0.1:2380";
    stage.node.etcdctl(&[&others, "member", "add", stage.node.name(), "--learner", peer]).await?;
    stage.node.sh("mv /var/lib/etcd/member /root/member.before").await?;
    let text = fs::read_to_string(&aside)?;
    let line = text.lines().find(|line| line.contains("--initial-cluster=")).context("no --initial-cluster")?;
    let all = format!(
        "    - --initial-cluster={}=https://10.77.0.1:2380,m2=https://10.77.0.2:2380,m3=https://10.77.0.3:2380\n    \
         - --initial-cluster-state=existing",
        stage.node.name()
    );
    stage.node.write_manifest(&ETCD.file(), &text.replace(line, &all), Writing::Atomic)?;
    let learns = |said: &Value| said["etcd"]["own"]["answer"]["learner"] == true && said["verdict"] == "healthy";
    stage.etcd_explained("a learner", learns).await?;
    // Its API server cannot read from it, and waits; for longer than what condemns a candidate.
    let waits = |c: &Value| c["verdict"] != "healthy" && says(c, "is a learner");
    stage.until(Component::ApiServer, "waits for the promotion", waits).await?;
    sleep(Duration::from_secs(8)).await;
    stage.nobody_was_touched()?;
    stage.etcd_explained("still a learner", learns).await?;
    let id =
        stage.etcd_explained("its ID", learns).await?["etcd"]["own"]["answer"]["member"].as_u64().context("no ID")?;
    stage.node.etcdctl(&[&others, "member", "promote", &format!("{id:x}")]).await?;
    stage.all_serve().await?;
    stage.steady_on(ETCD, 2).await?;
    stage.told(&format!("it serves as member {id:x}, and was member {own} before")).await?;
    stage.nobody_was_touched()?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_agent_answers_the_other_masters_and_says_that_none_is_installed_there() -> Result<()> {
    let stage = one_of_three(EtcdVersion::V35, QUICK).await?;
    let began = Instant::now();
    let shown = loop {
        let said = stage.node.lastgood(&["status", "--cluster", "-o", "json"]).await?;
        let shown: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let refused = |name: &str| {
            let members = shown["members"].as_array().into_iter().flatten();
            members.filter(|member| member["name"] == name).any(|member| member["trouble"]["kind"] == "refused")
        };
        if refused("m2") && refused("m3") {
            ensure!(said.code == 5, "{said:?}");
            break shown;
        }
        ensure!(began.elapsed() < SOON, "not within {SOON:?}: {said:?}\n{}", stage.story());
        sleep(LOOK).await;
    };
    ensure!(shown["not_answering"].is_null(), "{shown:#}");
    let own = shown["members"].as_array().into_iter().flatten().find(|member| member["local"] == true);
    let own = own.context("its own member")?;
    ensure!(own["report"]["etcd"]["serves"] == true && own["report"]["api_server_serves"] == true, "{own:#}");

    // From the network of another member, with that member's certificate and with none.
    let ask = "ip netns exec m2 curl --silent --show-error --max-time 5 --cacert /etc/kubernetes/pki/etcd/ca.crt";
    let at = "https://10.77.0.1:2384/v1/report";
    let as_peer = format!("{ask} --cert /var/lib/m2-pki.crt --key /var/lib/m2-pki.key {at}");
    let said = stage.node.exec(&["sh", "-c", &as_peer]).await?.success()?;
    let report: Value = serde_json::from_str(&said)?;
    ensure!(report["kind"] == "PeerReport" && report["etcd"]["member"] == own["id"], "{report:#}");
    ensure!(report["etcd"]["revision"].as_i64() > Some(0), "{report:#}");
    ensure!(stage.node.sh(&format!("{ask} {at}")).await.is_err(), "it answers a client without a certificate");
    stage.nobody_was_touched()
}
