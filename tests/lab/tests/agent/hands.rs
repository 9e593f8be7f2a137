//! The operator's commands, with the agent running and stopped.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::{Node, Output, Writing};
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

const SCHEDULER: Component = Component::Scheduler;

/// Runs a command line that must end with `code`, and gives back what it said.
async fn said(node: &Node, code: i32, line: &str) -> Result<Output> {
    let args: Vec<&str> = line.split(' ').collect();
    let out = node.lastgood(&args).await?;
    ensure!(out.code == code, "`lastgood {line}` ended with {}, not {code}:\n{}{}", out.code, out.stdout, out.stderr);
    Ok(out)
}

/// The same, whose standard output must hold all of these words.
async fn says(node: &Node, code: i32, line: &str, words: &[&str]) -> Result<String> {
    let out = said(node, code, line).await?;
    for word in words {
        ensure!(out.stdout.contains(word), "`lastgood {line}` does not say {word:?}:\n{}{}", out.stdout, out.stderr);
    }
    Ok(out.stdout)
}

/// The same for what is said on standard error.
async fn complains(node: &Node, code: i32, line: &str, words: &[&str]) -> Result<()> {
    let out = said(node, code, line).await?;
    for word in words {
        ensure!(out.stderr.contains(word), "`lastgood {line}` does not say {word:?}:\n{}", out.stderr);
    }
    Ok(())
}

/// A second known-good generation of the scheduler.
async fn second_generation(stage: &Stage) -> Result<(String, String)> {
    let first = stage.manifest(SCHEDULER)?;
    // Without elections: on a busy machine a lease of a second is lost now and then, which is no part of this.
    let elects = "- --leader-elect=true";
    let second =
        stage.node.edit_manifest(&SCHEDULER.file(), |text| text.replacen(elects, "- --leader-elect=false", 1))?;
    stage.steady_on(SCHEDULER, 2).await?;
    Ok((first, second))
}

/// What is only read, in the same words whether the agent runs or not.
async fn reading(node: &Node) -> Result<()> {
    let history = says(node, 0, "history kube-scheduler", &["GENERATION", "known-good", "deployed"]).await?;
    ensure!(history.lines().nth(1).is_some_and(|line| line.starts_with("GENERATION")), "{history}");
    says(node, 0, "history", &["etcd\n", "kube-apiserver\n", "kube-controller-manager\n", "kube-scheduler\n"]).await?;
    let json = said(node, 0, "history kube-scheduler -o json -n 3").await?.stdout;
    let json: Value = serde_json::from_str(&json).context("history as JSON")?;
    ensure!(json["items"][0]["events"].as_array().is_some_and(|events| events.len() == 3), "{json}");
    says(node, 0, "diff kube-scheduler 1 2", &["(generation 1)", "(generation 2)", "+    - --leader-elect=false"])
        .await?;
    says(node, 0, "diff kube-scheduler", &["do not differ"]).await?;
    says(node, 0, "explain kube-scheduler", &["next: ", "kube-scheduler: "]).await?;
    says(node, 0, "config show", &["[adoption]", "soak = \"6s\"  # /etc/lastgood/config.d/test.toml:"]).await?;
    says(node, 0, "config check", &["no mistake in", "/etc/lastgood/config.d/lab.toml"]).await?;
    says(node, 0, "completions bash", &["complete", "rollback"]).await?;
    complains(node, 3, "diff kube-scheduler 1 9", &["no generation 9; there are: 1, 2"]).await?;
    complains(node, 3, "explain kube-schedular", &["kube-schedular", "kube-scheduler"]).await?;
    complains(node, 2, "rollback", &["Usage"]).await?;
    Ok(())
}

#[tokio::test]
async fn never_8_a_person_reads_how_the_node_is_with_the_agent_running_and_stopped_and_only_root_does() -> Result<()> {
    let stage = Stage::adopted().await?;
    let node = &stage.node;
    second_generation(&stage).await?;

    says(node, 0, "status", &["master-1: Good: 4 components", "lastgood 0.1.0 acts", "kube-scheduler", "KNOWN-GOOD"])
        .await?;
    let json: Value = serde_json::from_str(&said(node, 0, "status -o json").await?.stdout).context("JSON")?;
    ensure!(json["overall"] == "good" && json["agent"]["process"]["is"] == "running", "{json}");
    says(node, 0, "status -o yaml", &["overall: good", "- component: etcd"]).await?;
    reading(node).await?;

    // Whoever is not root is told so, and nothing else.
    let lastgood = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/lab/bin/lastgood", "status"];
    let nobody = node.exec(&lastgood).await?;
    ensure!(nobody.code == 4 && nobody.stderr.contains("sudo"), "not root: {nobody:?}");

    // All mistakes at once, each with its place; and nothing that needs the configuration runs with a broken one.
    let broken = "[candidate]\nsoak = \"5 parsecs\"\ncrashs = 2\n[loop]\ninterval = \"0s\"\n";
    let fragment = node.path("/etc/lastgood/config.d/zz.toml");
    fs::write(&fragment, broken)?;
    for line in ["config check", "status"] {
        complains(node, 1, line, &["zz.toml:2", "5 parsecs", "zz.toml:3", "crashs", "zz.toml:5"]).await?;
    }
    // An old name is taken with a warning, and one command renames it and changes nothing else.
    fs::write(&fragment, "# ours\n[candidate]\nquiet = \"400ms\"\n")?;
    says(node, 0, "config check", &["zz.toml:3: candidate.quiet", "candidate.debounce", "config migrate"]).await?;
    says(node, 0, "config migrate --dry-run", &["-quiet = \"400ms\"", "+debounce = \"400ms\""]).await?;
    says(node, 0, "config migrate", &["line 3: candidate.quiet -> candidate.debounce"]).await?;
    let renamed = fs::read_to_string(&fragment)?;
    ensure!(renamed == "# ours\n[candidate]\ndebounce = \"400ms\"\n", "{renamed}");
    says(node, 0, "config migrate", &["no key with an old name in", "zz.toml"]).await?;
    fs::remove_file(&fragment)?;

    node.agent().stop().await?;
    says(node, 5, "status", &["Unknown: the agent does not run", "systemctl start lastgood"]).await?;
    reading(node).await?;
    node.agent().start().await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_person_rolls_back_with_the_agent_running_and_stopped() -> Result<()> {
    let stage = Stage::adopted().await?;
    let node = &stage.node;
    complains(node, 3, "rollback kube-scheduler --yes", &["its only known-good generation is 1, which is deployed"])
        .await?;
    let (first, second) = second_generation(&stage).await?;

    let plan = ["in place of generation 2", "stopped for about", "wait for kube-scheduler to serve"];
    says(node, 0, "rollback kube-scheduler --dry-run", &plan).await?;
    let json = said(node, 0, "rollback kube-scheduler --to 1 --dry-run -o json").await?.stdout;
    let json: Value = serde_json::from_str(&json).context("a plan as JSON")?;
    ensure!(json["steps"].as_array().is_some_and(|steps| steps.len() > 1) && json["away_seconds"].is_array(), "{json}");
    complains(node, 3, "rollback kube-scheduler", &["no terminal", "--yes"]).await?;
    ensure!(stage.manifest(SCHEDULER)? == second, "nothing was agreed to, and something was done");
    complains(node, 3, "rollback kube-scheduler --to 2 --yes", &["it is deployed already"]).await?;
    complains(node, 3, "rollback kube-scheduler --to 9 --yes", &["there is none; there are 1, 2"]).await?;
    complains(node, 3, "rollback nobody --yes", &["nobody", "kube-scheduler"]).await?;

    says(node, 0, "rollback kube-scheduler --yes", &["kube-scheduler serves generation 1"]).await?;
    node.serving(SCHEDULER).await.context("it was said to serve")?;
    ensure!(stage.manifest(SCHEDULER)? == first, "generation 1 does not stand");
    stage.steady_on(SCHEDULER, 1).await?;
    let asked = "rollback to generation 1, because the operator asked for it";
    says(node, 0, "explain kube-scheduler", &[asked, "put generation 1 of kube-scheduler in place"]).await?;

    node.agent().stop().await?;
    complains(node, 3, "rollback kube-scheduler --to 1 --yes", &["it is deployed already"]).await?;
    says(node, 0, "rollback kube-scheduler --to 2 --dry-run", &["in place of generation 1"]).await?;
    says(node, 0, "rollback kube-scheduler --to 2 --yes", &["kube-scheduler serves"]).await?;
    node.serving(SCHEDULER).await.context("it was said to serve, with the agent stopped")?;
    ensure!(stage.manifest(SCHEDULER)? == second, "generation 2 does not stand");
    node.agent().start().await?;
    stage.steady_on(SCHEDULER, 2).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn explain_answers_why_it_did_and_why_it_did_not() -> Result<()> {
    let stage = Stage::adopted().await?;
    let node = &stage.node;
    let good = stage.manifest(SCHEDULER)?;

    // Paused: it says what it would do, and does it when the pause ends.
    says(node, 0, "pause --for 20m --reason upgrade --dry-run", &["would: ", "20m"]).await?;
    says(node, 0, "pause --for 20m --reason upgrade", &["changes nothing for 20m"]).await?;
    says(node, 0, "status", &["paused: ", ": upgrade"]).await?;
    let bad = stage.add_flag(SCHEDULER, "--no-such-flag=1")?;
    stage.told("would roll back to generation 1").await?;
    let paused = ["nothing: paused until", ": upgrade;", "`lastgood resume` ends the pause", "unknown flag"];
    says(node, 0, "explain kube-scheduler", &paused).await?;
    ensure!(stage.manifest(SCHEDULER)? == bad, "paused, and something was changed");
    says(node, 0, "resume", &["acts again"]).await?;
    stage.back(SCHEDULER, &good).await?;
    stage.steady_on(SCHEDULER, 1).await?;
    let rolled_back = ["quarantined", "unknown flag: --no-such-flag", "put generation 1 of kube-scheduler in place"];
    says(node, 0, "explain kube-scheduler", &rolled_back).await?;
    says(node, 0, "status", &["put generation 1 of kube-scheduler in place"]).await?;

    // Written again by somebody who does not give up: held, with what to do.
    for _ in 0..2 {
        stage.write(&SCHEDULER.file(), &bad)?;
        stage.back(SCHEDULER, &good).await?;
        stage.steady_on(SCHEDULER, 1).await?;
    }
    stage.write(&SCHEDULER.file(), &bad)?;
    stage.in_state(SCHEDULER, "held").await?;
    says(node, 0, "explain kube-scheduler", &["next: the operator must act: ", "`lastgood rollback kube-scheduler`"])
        .await?;
    says(node, 5, "status", &["Held: waiting for the operator: kube-scheduler", "next step: "]).await?;
    stage.node.write_manifest(&SCHEDULER.file(), &good, Writing::Atomic)?;
    stage.steady_on(SCHEDULER, 1).await?;

    // A dependency is at fault: nothing is done to whoever waits for it.
    let (etcd, aside) = (node.manifest_path("etcd.yaml"), node.path("/etc/kubernetes/etcd.yaml.aside"));
    fs::rename(&etcd, &aside)?;
    stage.until(Component::Etcd, "missing", |c| c["state"] == "Missing").await?;
    says(node, 0, "explain etcd", &["moved it to /etc/kubernetes/etcd.yaml.aside", "`lastgood rollback"]).await?;
    let api = Component::ApiServer;
    stage.until(api, "not healthy", |c| c["verdict"] != "healthy" && c["note"].to_string().contains("etcd")).await?;
    says(node, 0, "explain kube-apiserver", &["explained by: etcd is ", "nothing here: it waits because etcd is "])
        .await?;
    fs::rename(&aside, &etcd)?;
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q5_what_no_process_has_read_is_called_unproven_and_says_what_would_prove_it() -> Result<()> {
    let mut node = Node::builder().scale(0.1).start().await?;
    node.up().await?;
    node.put_data("/lab/kept", "written before").await?;
    // Changed while no kubelet looked: what runs is the old manifest, what stands beside it nobody has tried.
    node.kubelet().stop().await?;
    let flag = |text: &str| text.replacen("- kube-scheduler\n", "- kube-scheduler\n    - --v=3\n", 1);
    node.edit_manifest(&SCHEDULER.file(), flag)?;
    node.spawn_agent(QUICK).await?;
    let stage = Stage { node };
    stage.steady_on(Component::ApiServer, 1).await?;
    let words = ["unproven: ", "becomes known-good once a process that has loaded it"];
    says(&stage.node, 0, "explain kube-scheduler", &words).await?;
    says(&stage.node, 0, "status", &["Changing: unproven: kube-scheduler"]).await?;
    complains(&stage.node, 3, "rollback kube-scheduler --yes", &["no generation of it is known-good"]).await?;
    stage.node.kubelet().start().await?;
    stage.steady_on(SCHEDULER, 1).await?;
    stage.the_same_after_a_restart().await
}

/// Waits until inactive-manifests holds this manifest of the scheduler: a file there that was written a moment ago is left
/// alone until it has settled.
async fn offers(stage: &Stage, text: &str) -> Result<()> {
    let path = stage.node.path("/etc/kubernetes/inactive-manifests/kube-scheduler.yaml");
    let began = Instant::now();
    while !fs::read_to_string(&path).is_ok_and(|found| found == text) {
        ensure!(began.elapsed() < SOON, "{} does not hold what it should:\n{}", path.display(), stage.story());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_person_pins_and_quarantines_with_the_agent_running_and_stopped() -> Result<()> {
    let stage = Stage::adopted().await?;
    let node = &stage.node;
    let (first, second) = second_generation(&stage).await?;
    offers(&stage, &second).await?;

    says(node, 0, "pin kube-scheduler 1 --dry-run", &["would: ", "is rolled back to generation 1"]).await?;
    complains(node, 3, "unpin kube-scheduler", &["no generation of it is pinned"]).await?;
    says(node, 0, "pin kube-scheduler 1 --reason audited", &["is rolled back to generation 1", "never removed"])
        .await?;
    offers(&stage, &first).await?;
    says(node, 0, "status", &["1 (pinned)"]).await?;
    says(node, 0, "history kube-scheduler", &["known-good, pinned"]).await?;
    says(node, 0, "explain kube-scheduler", &["pinned: generation 1, by the operator", ": audited"]).await?;
    complains(node, 3, "quarantine kube-scheduler 1 --yes", &["it is pinned", "`lastgood unpin kube-scheduler`"])
        .await?;
    // A failed change goes back to the pinned generation, and not to the one that stood before.
    stage.add_flag(SCHEDULER, "--no-such-flag=1")?;
    stage.back(SCHEDULER, &first).await?;
    stage.steady_on(SCHEDULER, 1).await?;
    node.agent().stop().await?;
    says(node, 0, "unpin kube-scheduler", &["is rolled back to generation 1, and later to the newest"]).await?;
    complains(node, 3, "unpin kube-scheduler", &["no generation of it is pinned"]).await?;
    node.agent().start().await?;
    stage.steady_on(SCHEDULER, 1).await?;

    says(node, 0, "rollback kube-scheduler --to 2 --yes", &["kube-scheduler serves generation 2"]).await?;
    let plan = ["generation 2 of kube-scheduler is quarantined", "in place of generation 2", "stopped for about"];
    says(node, 0, "quarantine kube-scheduler --dry-run", &plan).await?;
    complains(node, 3, "quarantine kube-scheduler", &["no terminal", "--yes"]).await?;
    ensure!(stage.manifest(SCHEDULER)? == second, "nothing was agreed to, and something was done");
    says(node, 0, "quarantine kube-scheduler --reason leaks --yes", &["kube-scheduler serves generation 1"]).await?;
    node.serving(SCHEDULER).await.context("it was said to serve")?;
    ensure!(stage.manifest(SCHEDULER)? == first, "generation 1 does not stand");
    offers(&stage, &first).await?;
    says(node, 0, "history kube-scheduler", &["quarantined", "the operator says so: leaks"]).await?;
    complains(node, 3, "quarantine kube-scheduler --yes", &["the last known-good generation"]).await?;

    node.agent().stop().await?;
    says(node, 0, "release kube-scheduler 2", &["may be tried again"]).await?;
    says(node, 0, "rollback kube-scheduler --to 2 --yes", &["kube-scheduler serves"]).await?;
    ensure!(stage.manifest(SCHEDULER)? == second, "generation 2 does not stand");
    says(node, 0, "quarantine kube-scheduler --yes", &["kube-scheduler serves"]).await?;
    ensure!(stage.manifest(SCHEDULER)? == first, "it was not reverted, with the agent stopped");
    node.agent().start().await?;
    stage.steady_on(SCHEDULER, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn doctor_tells_before_the_outage_whether_a_recovery_would_succeed() -> Result<()> {
    let stage = Stage::adopted().await?;
    let node = &stage.node;
    // Its data are in no snapshot yet, which a person sees to.
    says(node, 0, "doctor", &["warning", "no verified one is in", "`lastgood etcd snapshot save`"]).await?;
    says(node, 0, "etcd snapshot save", &["verified"]).await?;
    let well =
        ["master-1: a recovery would succeed right now", "generation 1 is stored without damage", "/healthz is ok"];
    says(node, 0, "doctor", &well).await?;
    let json: Value = serde_json::from_str(&said(node, 0, "doctor -o json").await?.stdout).context("JSON")?;
    ensure!(json["checks"].as_array().is_some_and(|checks| checks.iter().all(|c| c["verdict"] == "ok")), "{json}");

    // Damaged where nobody looks until it is needed; nothing is mended.
    let kept = node.path("/var/lib/lastgood/generations/kube-system_kube-scheduler/1/manifest");
    let bytes = fs::read(&kept)?;
    fs::write(&kept, "half")?;
    says(node, 5, "doctor", &["failed", "kube-scheduler: kept", "manifest is damaged", "would not succeed"]).await?;
    ensure!(fs::read(&kept)? == b"half", "doctor changed what it examined");
    fs::write(&kept, bytes)?;

    node.kubelet().stop().await?;
    says(node, 5, "doctor", &["`systemctl start kubelet`", "would not succeed right now: kubelet; "]).await?;
    node.kubelet().start().await?;
    let began = Instant::now();
    while node.lastgood(&["doctor"]).await?.code != 0 {
        ensure!(began.elapsed() < SOON, "not well again: {}", node.lastgood(&["doctor"]).await?.stdout);
    }
    says(node, 0, "pause --for 5m", &["changes nothing for 5m"]).await?;
    says(node, 0, "doctor", &["warning", "`lastgood resume` ends the pause", "there is 1 warning"]).await?;
    says(node, 0, "resume", &["acts again"]).await?;
    node.agent().stop().await?;
    says(node, 0, "doctor", &["it does not run", "`systemctl start lastgood`", "there is 1 warning"]).await?;
    node.agent().start().await?;
    stage.steady_on(SCHEDULER, 1).await?;
    stage.the_same_after_a_restart().await
}
