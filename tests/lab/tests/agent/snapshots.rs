//! Snapshots of etcd's data: taken by the agent with only an interval configured, verified, pruned, shown; and taken by
//! the operator at the same time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::demo::QUICK;
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

/// Between two looks at what nothing announces.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
const DIR: &str = "/var/lib/lastgood/snapshots";

/// The snapshots, as `list` has them.
pub(crate) async fn listed(node: &Node) -> Result<Vec<Value>> {
    let said = node.lastgood(&["etcd", "snapshot", "list", "-o", "json"]).await?;
    let list: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{}{}", said.stdout, said.stderr))?;
    Ok(list["snapshots"].as_array().cloned().unwrap_or_default())
}

/// Waits until something holds of the list.
async fn until(stage: &Stage, what: &str, holds: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let began = Instant::now();
    loop {
        let all = listed(&stage.node).await?;
        if holds(&all) {
            return Ok(all);
        }
        ensure!(began.elapsed() < SOON, "not within {SOON:?}: {what}: {all:?}\n{}", stage.story());
        sleep(LOOK).await;
    }
}

pub(crate) fn path(snapshot: &Value) -> String {
    snapshot["path"].as_str().unwrap_or_default().to_owned()
}

/// Makes a pair, as a person does on another machine: its identity in a file. Returns the recipient.
pub(crate) fn identity(file: &Path) -> Result<String> {
    let made =
        std::process::Command::new("age-keygen").arg("-o").arg(file).output().context("age-keygen: package age")?;
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    said.split_whitespace().last().map(str::to_owned).context("age-keygen names no public key")
}

#[tokio::test]
async fn snapshots_are_taken_by_the_clock_proven_kept_by_the_rules_and_shown() -> Result<()> {
    let rules = "\n[snapshots]\ninterval = \"4s\"\nkeep-last = 2\nkeep-hourly = 0\nkeep-daily = 0\nkeep-weekly = 0\n";
    let stage = Stage::with(&format!("{QUICK}{rules}")).await?;
    stage.told("taken and verified").await?;
    // A person's own, beside it: into the same directory, and into a file.
    let by_hand = stage.node.lastgood(&["etcd", "snapshot", "save", "-o", "json"]).await?;
    ensure!(by_hand.code == 0, "{}{}", by_hand.stdout, by_hand.stderr);
    let by_hand: Value = serde_json::from_str(&by_hand.stdout)?;
    ensure!(by_hand["origin"] == "stream" && by_hand["verified"].is_string(), "{by_hand}");
    let file = stage.node.lastgood(&["etcd", "snapshot", "save", "/root/mine.db"]).await?;
    ensure!(file.code == 0 && file.stdout.contains("verified"), "{}{}", file.stdout, file.stderr);
    let verified = stage.node.lastgood(&["etcd", "snapshot", "verify", "/root/mine.db"]).await?;
    ensure!(verified.code == 0, "{}{}", verified.stdout, verified.stderr);
    let over = stage.node.lastgood(&["etcd", "snapshot", "save", "/root/mine.db"]).await?;
    ensure!(over.code == 3 && over.stderr.contains("exists there"), "{}: {}", over.code, over.stderr);

    // The rules hold: never more than two once the agent has pruned, every one of them verified, and newer ones come.
    stage.told("pruned").await?;
    let two = until(&stage, "two are kept", |all| all.len() == 2).await?;
    ensure!(two.iter().all(|snapshot| snapshot["verified"].is_string()), "{two:?}");
    let first = path(&two[0]);
    until(&stage, "the oldest goes", |all| all.iter().all(|snapshot| path(snapshot) != first)).await?;

    let status = stage.status().await?;
    let newest = &status["snapshots"]["newest"];
    ensure!(newest["revision"].as_i64().is_some_and(|revision| revision > 0), "{}", status["snapshots"]);
    ensure!(newest["age_seconds"].as_u64().is_some_and(|age| age < 60), "{}", status["snapshots"]);
    let text = stage.node.lastgood(&["status"]).await?.stdout;
    ensure!(text.contains("snapshots: newest ") && text.contains(", verified"), "{text}");
    let doctor = stage.node.lastgood(&["doctor"]).await?.stdout;
    let line = doctor.lines().find(|line| line.contains("snapshot of etcd")).context("doctor says nothing of it")?;
    ensure!(line.starts_with("ok "), "{doctor}");

    // Root alone reads them, and what a restore will want to know is written down.
    let mode = |path: &str| -> Result<u32> { Ok(fs::metadata(stage.node.path(path))?.permissions().mode() & 0o7777) };
    ensure!(mode(DIR)? == 0o700, "{:o}", mode(DIR)?);
    for entry in fs::read_dir(stage.node.path(DIR))? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{:?}: {mode:o}", entry.file_name());
    }
    let known = fs::read_to_string(stage.node.path("/var/lib/lastgood/known.json"))?;
    ensure!(known.contains("\"highest_revision\":") && known.contains("https://"), "{known}");

    // An unverified one is told of, shown, and left alone.
    let foreign = format!("{DIR}/20200101T000000Z-00000000000000aa-r5.db");
    fs::write(stage.node.path(&foreign), "torn")?;
    let list = until(&stage, "the foreign one is shown", |all| all.len() >= 3).await?;
    let shown = list.iter().find(|snapshot| path(snapshot).ends_with("-r5.db")).context("it is not listed")?;
    ensure!(shown["verified"].is_null(), "{shown}");
    stage.told("is not verified: it has no verification record").await?;
    ensure!(stage.node.path(&foreign).exists(), "it was pruned");
    fs::remove_file(stage.node.path(&foreign))?;

    // They outlive the agent, and go on after it.
    let before = path(listed(&stage.node).await?.last().context("none is left")?);
    stage.node.agent().restart().await?;
    let revision = |all: &[Value]| all.last().and_then(|snapshot| snapshot["revision"].as_i64()).unwrap_or_default();
    let kept = listed(&stage.node).await?;
    ensure!(kept.iter().any(|snapshot| path(snapshot) == before), "{before} is gone: {kept:?}");
    until(&stage, "a newer one after the restart", |all| revision(all) > revision(&kept)).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_node_whose_etcd_is_stopped_is_copied_on_request_and_labelled_so() -> Result<()> {
    let stage = Stage::with(&format!("{QUICK}\n[snapshots]\nenabled = false\n")).await?;
    let pause = stage.node.lastgood(&["pause", "--for", "10m"]).await?;
    ensure!(pause.code == 0, "{}", pause.stderr);
    let aside = stage.node.path("/root/etcd.yaml");
    fs::rename(stage.node.path("/etc/kubernetes/manifests").join(Component::Etcd.file()), &aside)?;
    let began = Instant::now();
    let saved = loop {
        let saved = stage.node.lastgood(&["etcd", "snapshot", "save", "--from-data-dir", "/var/lib/etcd"]).await?;
        if saved.code == 0 {
            break saved;
        }
        ensure!(saved.code == 3 && saved.stderr.contains("a running etcd uses it"), "{}: {}", saved.code, saved.stderr);
        ensure!(began.elapsed() < SOON, "etcd does not end: {}", saved.stderr);
        sleep(LOOK).await;
    };
    ensure!(saved.stdout.contains(".raw.db") && saved.stdout.contains("a raw copy"), "{}", saved.stdout);
    let list = listed(&stage.node).await?;
    ensure!(list.len() == 1 && list[0]["origin"] == "data directory", "{list:?}");
    fs::rename(&aside, stage.node.path("/etc/kubernetes/manifests").join(Component::Etcd.file()))?;
    ensure!(stage.node.lastgood(&["resume"]).await?.code == 0, "resume");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn what_a_bare_machine_needs_travels_with_a_snapshot_and_keys_only_encrypted() -> Result<()> {
    let home = tempfile::tempdir()?;
    let key = home.path().join("key.txt");
    let recipient = identity(&key)?;
    let config = format!("{QUICK}\n[snapshots]\nenabled = false\nrecipients = [\"{recipient}\"]\n");
    let stage = Stage::with(&config).await?;
    let node = &stage.node;
    let run = async |words: &[&str]| -> Result<String> {
        let said = node.lastgood(&[&["etcd", "snapshot"], words].concat()).await?;
        ensure!(said.code == 0, "{words:?}: {}{}", said.stdout, said.stderr);
        Ok(said.stdout)
    };
    run(&["save"]).await?;
    let saved = path(listed(node).await?.last().context("none is listed")?);
    let doctor = node.lastgood(&["doctor"]).await?.stdout;
    let line =
        doctor.lines().find(|line| line.contains("bundle of the snapshot")).context("doctor says nothing of it")?;
    ensure!(line.starts_with("ok ") && line.contains("4 manifests") && line.contains("encrypted"), "{doctor}");
    ensure!(run(&["verify", &saved]).await?.contains("so is its bundle"), "verify");
    let shown = run(&["show", &saved]).await?;
    ensure!(shown.contains(&recipient) && shown.contains("/etc/kubernetes/pki/ca.key"), "{shown}");

    // No key lies plainly among the files that travel.
    let secret = fs::read(node.path("/etc/kubernetes/pki/ca.key"))?;
    let part = &secret[secret.len() / 2..secret.len() / 2 + 24];
    for entry in fs::read_dir(node.path(DIR))? {
        let entry = entry?;
        let found = fs::read(entry.path())?.windows(part.len()).any(|window| window == part);
        ensure!(!found, "a key lies in {:?}", entry.file_name());
        ensure!(entry.metadata()?.permissions().mode() & 0o777 == 0o600, "{:?}", entry.file_name());
    }

    // Without the identity there are no keys; with it everything is there, byte for byte.
    let dry = run(&["unpack", "latest", "--to", "/root/dry", "--dry-run"]).await?;
    ensure!(dry.contains("--identity FILE opens them") && !node.path("/root/dry").exists(), "{dry}");
    fs::copy(&key, node.path("/root/key.txt"))?;
    run(&["unpack", "latest", "--to", "/root/node", "--identity", "/root/key.txt"]).await?;
    let mut wanted: Vec<String> = Component::ALL
        .iter()
        .map(|component| format!("/etc/kubernetes/manifests/{}", component.file()))
        .chain(["/var/lib/kubelet/config.yaml", "/etc/kubernetes/kubelet.conf"].map(str::to_owned))
        .collect();
    for dir in ["/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd", "/etc/kubernetes"] {
        for entry in fs::read_dir(node.path(dir))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_wanted = entry.file_type()?.is_file() && (dir.contains("pki") || name.ends_with(".conf"));
            wanted.extend(is_wanted.then(|| format!("{dir}/{name}")));
        }
    }
    ensure!(wanted.len() > 20, "a node has more than {wanted:?}");
    for path in &wanted {
        let unpacked = node.path(format!("/root/node{path}"));
        ensure!(fs::read(&unpacked).with_context(|| path.clone())? == fs::read(node.path(path))?, "{path} differs");
        let mode = |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
        ensure!(mode(&unpacked)? == mode(&node.path(path))?, "{path}: {:o}", mode(&unpacked)?);
    }
    let again = node.lastgood(&["etcd", "snapshot", "unpack", "latest", "--to", "/root/node"]).await?;
    ensure!(again.code == 3 && again.stderr.contains("is not empty"), "{}: {}", again.code, again.stderr);

    // Beside a file that a person names as well, where that is asked for.
    run(&["save", "/root/mine.db", "--bundle"]).await?;
    ensure!(run(&["verify", "/root/mine.db"]).await?.contains("so is its bundle"), "verify");
    run(&["unpack", "/root/mine.db", "--to", "/root/mine", "--identity", "/root/key.txt"]).await?;
    let key = fs::read(node.path("/root/mine/etc/kubernetes/pki/ca.key"))?;
    ensure!(key == secret, "it is another key");
    let beside = node.lastgood(&["etcd", "snapshot", "save", "/root/mine.raw.db", "--bundle"]).await?;
    ensure!(beside.code == 0, "{}{}", beside.stdout, beside.stderr);
    fs::remove_file(node.path("/root/mine.raw.db"))?;
    let beside = node.lastgood(&["etcd", "snapshot", "save", "/root/mine.raw.db", "--bundle"]).await?;
    ensure!(beside.code == 3 && beside.stderr.contains("mine.raw.bundle.json"), "{}: {}", beside.code, beside.stderr);
    let nameless = node.lastgood(&["etcd", "snapshot", "save", "/root/other", "--bundle"]).await?;
    ensure!(nameless.code == 3 && nameless.stderr.contains("ends in .db"), "{}", nameless.stderr);

    // A part that was touched is named, and the data are as good as they were.
    let torn = saved.replace(".db", ".node.tar");
    fs::write(node.path(&torn), "torn")?;
    let verified = node.lastgood(&["etcd", "snapshot", "verify", &saved]).await?;
    ensure!(verified.code == 5 && verified.stderr.contains(".node.tar has 4 bytes"), "{}", verified.stderr);
    ensure!(listed(node).await?.iter().all(|snapshot| snapshot["verified"].is_string()), "it is proven no more");
    stage.the_same_after_a_restart().await
}
