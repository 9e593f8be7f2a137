//! The status of etcd and of its cluster, the sizing of disk and database, and the metrics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::members::OTHERS;
use serde_json::Value;
use tokio::time::sleep;

use crate::members::one_of_three;
use crate::stage::{SOON, Stage};

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(100);

/// What a command says as JSON, and its exit code.
async fn said(stage: &Stage, command: &[&str]) -> Result<(i32, Value)> {
    let said = stage.node.lastgood(command).await?;
    let value = serde_json::from_str(&said.stdout).with_context(|| format!("{command:?}: {said:?}"))?;
    Ok((said.code, value))
}

/// The row of a member.
fn row<'v>(view: &'v Value, name: &str) -> Result<&'v Value> {
    let rows = view["members"].as_array().context("no members")?;
    rows.iter().find(|row| row["name"] == name).with_context(|| format!("no {name} in {view:#}"))
}

const STATUS: [&str; 4] = ["etcd", "status", "-o", "json"];

#[tokio::test]
async fn etcd_status_tells_a_cluster_whoever_hangs_and_whether_or_not_the_agent_runs() -> Result<()> {
    let stage = one_of_three(EtcdVersion::V35, QUICK).await?;
    let (code, view) = said(&stage, &STATUS).await?;
    ensure!(code == 0 && view["word"]["verdict"] == "healthy" && view["word"]["by"] == "agent", "{code}: {view:#}");
    ensure!(view["quorum"]["is"] == "agreed" && view["quorum"]["revision"].as_i64() > Some(1), "{view:#}");
    let own = row(&view, stage.node.name())?;
    ensure!(own["own"] == true && own["says"]["version"].as_str().is_some_and(|v| v.starts_with("3.5.")), "{view:#}");
    ensure!(own["says"]["db_bytes"].as_u64() > Some(0) && view["quota"].as_u64() > Some(0), "{view:#}");
    let roles = |role: &str| {
        let rows = view["members"].as_array().into_iter().flatten();
        rows.filter(|row| row["role"] == role).count()
    };
    ensure!((roles("leader"), roles("follower")) == (1, 2), "{view:#}");
    ensure!(view["fsync"]["count"].as_u64() > Some(0) && view["commit"]["count"].as_u64() > Some(0), "{view:#}");

    // One that hangs is a row with its reason.
    stage.node.signal_member(3, "STOP").await?;
    let (code, view) = said(&stage, &STATUS).await?;
    let hung = row(&view, "m3")?;
    ensure!(code == 0 && hung["says"].is_null() && hung["silent"].is_string(), "{code}: {view:#}");
    ensure!(row(&view, "m2")?["says"]["term"].is_u64() && view["quorum"]["is"] == "agreed", "{view:#}");
    let text = stage.node.lastgood(&["etcd", "status"]).await?.stdout;
    ensure!(text.contains("Unknown:\n  m3: ") && text.contains("does not answer"), "{text}");

    // Without a quorum, and without an agent.
    stage.node.agent().stop().await?;
    stage.node.signal_member(2, "STOP").await?;
    let (code, view) = said(&stage, &STATUS).await?;
    ensure!(code == 5 && view["quorum"]["is"] == "not-agreed" && view["word"]["by"] == "command", "{code}: {view:#}");
    ensure!(row(&view, stage.node.name())?["says"]["revision"].as_i64() > Some(1), "{view:#}");
    for name in ["m2", "m3"] {
        ensure!(row(&view, name)?["silent"].is_string(), "{view:#}");
    }
    for number in OTHERS {
        stage.node.signal_member(number, "CONT").await?;
    }
    stage.node.agent().start().await?;
    stage.all_serve().await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn etcd_sizing_measures_only_when_asked_leaves_nothing_and_names_a_disk_that_will_not_do() -> Result<()> {
    let stage = Stage::adopted().await?;
    let line = |view: &Value, subject: &str| {
        let lines = view["lines"].as_array().into_iter().flatten();
        lines.clone().find(|line| line["subject"] == subject).cloned().unwrap_or_default()
    };
    let listed = || -> Result<Vec<String>> {
        let entries = std::fs::read_dir(stage.node.path("/var/lib/etcd"))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    // What it finds of a machine under tests is not for this test to say; that it says it is.
    let (_, view) = said(&stage, &["etcd", "sizing", "-o", "json"]).await?;
    let own = line(&view, "etcd's WAL fsync");
    ensure!(own["found"].as_str().is_some_and(|found| found.contains("since etcd started")), "{view:#}");
    for subject in ["database", "quota", "free space", "processors", "memory"] {
        ensure!(line(&view, subject)["source"].is_string(), "{subject}: {view:#}");
    }
    ensure!(line(&view, "fdatasync, measured").is_null(), "it wrote without being asked: {view:#}");

    // Nobody is there to agree.
    let refused = stage.node.lastgood(&["etcd", "sizing", "--write-test"]).await?;
    ensure!(refused.code == 3 && refused.stderr.contains("An etcd runs on this disk"), "{refused:?}");
    let test = ["etcd", "sizing", "--write-test", "--writes", "200", "--yes", "-o", "json"];
    let (_, view) = said(&stage, &test).await?;
    let measured = line(&view, "fdatasync, measured");
    ensure!(measured["found"].as_str().is_some_and(|f| f.contains(" writes of 2300 bytes")), "{view:#}");
    ensure!(line(&view, "sequential writes, measured")["verdict"].is_string(), "{view:#}");
    ensure!(listed()? == ["member"], "{:?}", listed()?);

    // Interrupted, it leaves nothing either.
    let interrupted = stage
        .node
        .exec(&[
            "timeout",
            "--signal=INT",
            "3",
            "/lab/bin/lastgood",
            "etcd",
            "sizing",
            "--write-test",
            "--writes",
            "10000",
            "-y",
        ])
        .await?;
    ensure!(listed()? == ["member"], "{:?} after {interrupted:?}", listed()?);

    // A disk that is full, one that is read-only, one that is none.
    stage
        .node
        .sh("set -e; mkdir /tmp/small /tmp/fixed; mount -t tmpfs -o size=1m small /tmp/small; \
             mount -t tmpfs -o ro fixed /tmp/fixed")
        .await?;
    let on = |dir| ["etcd", "sizing", "--write-test", "--dir", dir];
    let full = stage.node.lastgood(&on("/tmp/small")).await?;
    ensure!(full.code == 3 && full.stderr.contains("/tmp/small has 1 MiB of free space"), "{full:?}");
    stage.node.sh("mount -o remount,size=1g,ro /tmp/fixed").await?;
    let fixed = stage.node.lastgood(&on("/tmp/fixed")).await?;
    ensure!(fixed.code == 1 && fixed.stderr.contains("/tmp/fixed/.lastgood-sizing: Read-only"), "{fixed:?}");
    stage.node.sh("mount -o remount,size=1g /tmp/small").await?;
    let memory = stage.node.lastgood(&on("/tmp/small")).await?;
    ensure!(memory.code == 5 && memory.stdout.contains("a file system in memory"), "{memory:?}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn metrics_are_what_the_status_says_in_a_file_and_on_request() -> Result<()> {
    let textfile = "\n[metrics]\ntextfile = \"/var/lib/textfile/lastgood.prom\"\ninterval = \"1s\"\n";
    let stage = Stage::with(&format!("{QUICK}{textfile}")).await?;
    let file = || std::fs::read_to_string(stage.node.path("/var/lib/textfile/lastgood.prom")).unwrap_or_default();
    let until = async |what: &str, holds: &dyn Fn(&str) -> bool| -> Result<String> {
        let began = Instant::now();
        loop {
            let page = file();
            if holds(&page) {
                return Ok(page);
            }
            ensure!(began.elapsed() < SOON, "not within {SOON:?}: {what}:\n{page}\n{}", stage.story());
            sleep(LOOK).await;
        }
    };
    // The directory is made by whoever installs node_exporter.
    stage.told("the metrics cannot be written").await?;
    std::fs::create_dir(stage.node.path("/var/lib/textfile"))?;
    let healthy = "lastgood_component_verdict{component=\"etcd\",verdict=\"healthy\"} 1\n";
    let page = until("the page", &|page| page.contains(healthy)).await?;
    for series in [
        "lastgood_agent_running 1\n",
        "lastgood_component_generation{component=\"kube-apiserver\"} 1\n",
        "lastgood_component_known_good_generation{component=\"kube-apiserver\"} 1\n",
        "lastgood_etcd_up{component=\"etcd\"} 1\n",
        "lastgood_etcd_has_leader{component=\"etcd\"} 1\n",
        "lastgood_etcd_database_bytes{component=\"etcd\"} ",
        "lastgood_etcd_database_quota_bytes{component=\"etcd\"} ",
        "lastgood_etcd_alarm{component=\"etcd\",alarm=\"NOSPACE\"} 0\n",
        "lastgood_actions_total{action=\"put-in\"} 0\n",
        "lastgood_last_pass_duration_seconds ",
    ] {
        ensure!(page.contains(series), "no {series:?} in\n{page}");
    }
    let asked = stage.node.lastgood(&["metrics"]).await?.success()?;
    let names = |page: &str| -> Vec<String> {
        page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).map(str::to_owned).collect()
    };
    ensure!(names(&asked) == names(&file()), "{asked}\n{}", file());

    // A rollback is counted.
    let good = stage.manifest(Component::Scheduler)?;
    stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    stage.back(Component::Scheduler, &good).await?;
    until("the rollback is counted", &|page| page.contains("lastgood_actions_total{action=\"put-in\"} 1\n")).await?;
    // Told to stop, it says so last.
    stage.node.agent().stop().await?;
    ensure!(file().contains("lastgood_agent_running 0\n"), "{}", file());
    stage.node.agent().start().await?;
    stage.the_same_after_a_restart().await
}
