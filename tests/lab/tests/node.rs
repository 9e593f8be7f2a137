//! The node itself: it starts, keeps data over a power cut, runs next to other nodes, and leaves nothing behind,
//! however it ends.

mod traces;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::journal::From;
use lastgood_lab::node::spec::State;
use lastgood_lab::node::{AtBoot, Node};
use traces::Traces;

/// A node without a kubelet: boots in a moment, and containerd alone is real enough to be left behind.
async fn bare() -> Result<Node> {
    Node::builder().components(&[]).kubelet(AtBoot::Absent).start().await
}

#[tokio::test]
async fn a_node_has_its_own_name_root_clock_and_network() -> Result<()> {
    let node = bare().await?;
    let inside = |command: &'static str| async {
        let said = node.exec(&["sh", "-c", command]).await?.success()?;
        anyhow::Ok(said.trim().to_owned())
    };
    assert_eq!(inside("hostname").await?, "master-1");
    assert_eq!(inside("getent hosts master-1").await?.split_whitespace().next(), Some("127.0.0.1"));
    assert_eq!(inside("cd /sys/class/net; ip -o link | wc -l").await?, "1", "only lo");
    let uptime: f64 = inside("cut -d' ' -f1 /proc/uptime").await?.parse()?;
    assert!(uptime < 30.0, "the boot clock starts with the boot, not at {uptime} s");
    assert_ne!(
        inside("cat /proc/sys/kernel/random/boot_id").await?,
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim()
    );
    assert!(
        inside("touch /usr/x 2>&1; true").await?.contains("Read-only"),
        "the host's programs are not ours to write"
    );
    inside("echo x > /etc/lastgood/x").await?;
    assert_eq!(std::fs::read_to_string(node.path("/etc/lastgood/x"))?, "x\n", "seen outside at once");
    Ok(())
}

#[tokio::test]
async fn every_image_of_kubeadm_is_there_and_no_registry_is_asked() -> Result<()> {
    let node = bare().await?;
    await_runtime(&node).await?;
    let images = node.exec(&["ctr", "-n", "k8s.io", "images", "ls", "-q"]).await?.success()?;
    for component in Component::ALL {
        let image = node.cluster().image(component);
        assert!(images.lines().any(|line| line == image), "{image} is not in\n{images}");
    }
    for other in ["etcd:3.4.", "etcd:3.5.", "pause:3.10.1", "kube-apiserver:v1.34.3", "kube-scheduler:v1.34.3"] {
        assert!(images.contains(other), "{other} is not in\n{images}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_node_leaves_nothing_behind() -> Result<()> {
    let node = bare().await?;
    await_runtime(&node).await?;
    let traces = Traces::of(&node);
    assert!(!traces.cgroups.left().is_empty(), "there was something to leave");
    drop(node);
    traces.check()
}

#[tokio::test]
async fn a_panicking_test_leaves_nothing_behind() -> Result<()> {
    let node = bare().await?;
    let traces = Traces::of(&node);
    let panicked = tokio::spawn(async move {
        let _held = node;
        std::panic::resume_unwind(Box::new("as a failed assertion would"));
    });
    assert!(panicked.await.is_err());
    traces.check()
}

#[tokio::test]
async fn what_a_killed_harness_leaves_is_swept_by_the_next_start() -> Result<()> {
    // `lab up` as the harness: its node ends with it, its directory and cgroups are the next one's to sweep.
    let lab = lastgood_lab::node::cache::binaries_dir()?.join("lab");
    let nodes = tempfile::tempdir()?;
    let mut harness = std::process::Command::new(&lab)
        .args(["up", "--no-agent", "--scale", "0.1"])
        .env("LASTGOOD_LAB_NODES", nodes.path())
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let stderr = harness.stderr.take().context("a pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut said)?;
    let left = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let traces = Traces::at(std::path::Path::new(&left));
    ensure!(!traces.cgroups.left().is_empty(), "no node came up: {said}");
    harness.kill()?;
    harness.wait()?;

    let swept = std::process::Command::new(&lab)
        .args(["up", "--no-agent", "--scale", "0.1"])
        .env("LASTGOOD_LAB_NODES", nodes.path())
        .stdin(std::process::Stdio::null())
        .output()?;
    ensure!(swept.status.success(), "{}", String::from_utf8_lossy(&swept.stderr));
    traces.check()?;
    let names: Vec<_> = std::fs::read_dir(nodes.path())?.flatten().map(|item| item.file_name()).collect();
    assert_eq!(names, ["lock"], "the second one is gone as well");
    Ok(())
}

#[tokio::test]
async fn services_are_started_stopped_and_come_back() -> Result<()> {
    let node = bare().await?;
    await_runtime(&node).await?;
    let containerd = node.containerd();
    let State::Running { pid } = containerd.state().await? else { anyhow::bail!("containerd does not run") };
    // Killed by somebody else it comes back by itself, as its unit file has it; told to stop it stays away.
    node.exec(&["kill", "-9", &pid.to_string()]).await?.success()?;
    let began = Instant::now();
    while !matches!(containerd.state().await?, State::Running { pid: new } if new != pid) {
        ensure!(began.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    containerd.stop().await?;
    assert_eq!(containerd.state().await?, State::Stopped);
    assert!(node.runtime().await.is_err());
    containerd.start().await?;
    await_runtime(&node).await?;
    let mut journal = containerd.journal(From::Start)?;
    for _boot in ["before it was killed", "after it was stopped"] {
        journal.wait_for_line("containerd successfully booted", Duration::from_secs(20)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_nodes_stand_side_by_side() -> Result<()> {
    let one = bare().await?;
    let two = Node::builder().name("master-2").components(&[]).kubelet(AtBoot::Absent).start().await?;
    await_runtime(&one).await?;
    await_runtime(&two).await?;
    let traces = Traces::of(&one);
    drop(one);
    traces.check()?;
    assert_eq!(two.exec(&["hostname"]).await?.success()?.trim(), "master-2");
    await_runtime(&two).await
}

#[tokio::test]
async fn a_power_cut_takes_run_and_leaves_the_disk() -> Result<()> {
    let mut node = bare().await?;
    await_runtime(&node).await?;
    node.exec(&[
        "sh",
        "-c",
        "echo kept > /var/lib/kept; echo lost > /run/lost; cat /proc/sys/kernel/random/boot_id > /var/lib/boot",
    ])
    .await?
    .success()?;
    node.reboot().await?;
    await_runtime(&node).await?;
    let said = node
        .exec(&[
            "sh",
            "-c",
            "cat /var/lib/kept; ls /run/lost 2>&1; cmp /var/lib/boot /proc/sys/kernel/random/boot_id 2>&1",
        ])
        .await?;
    assert!(said.stdout.starts_with("kept\n"), "{said:?}");
    assert!(said.stdout.contains("No such file") && said.stdout.contains("differ"), "{said:?}");
    Ok(())
}

/// containerd takes calls before its CRI part is ready for them: the answer to a real question decides.
async fn await_runtime(node: &Node) -> Result<()> {
    let began = Instant::now();
    while let Err(why) = node.sandboxes().await {
        ensure!(began.elapsed() < Duration::from_secs(20), "containerd does not answer: {why:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
