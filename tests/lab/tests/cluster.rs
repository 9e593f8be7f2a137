//! The whole control plane on a node: it comes up, keeps its data over a power cut, and reacts to its manifests.

mod traces;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::{Node, Writing};
use traces::Traces;

#[tokio::test]
async fn etcd_alone_comes_up_and_keeps_its_data_over_a_power_cut_in_both_versions() -> Result<()> {
    for version in EtcdVersion::ALL {
        let mut node = Node::builder().etcd(version).components(&[Component::Etcd]).start().await?;
        node.up().await?;
        node.put_data("/lab/key", "written").await?;
        assert_eq!(node.get_data("/lab/key").await?.as_deref(), Some("written"));
        assert_eq!(node.get_data("/lab/other").await?, None);
        node.reboot().await?;
        node.up().await?;
        assert_eq!(node.get_data("/lab/key").await?.as_deref(), Some("written"), "etcd {}", version.series());
    }
    Ok(())
}

#[tokio::test]
async fn the_control_plane_comes_up_true_to_life_and_leaves_nothing_behind() -> Result<()> {
    let began = Instant::now();
    let node = Node::builder().scale(1.0).start().await?;
    node.up().await?;
    eprintln!("true to life, all serves after {:.1} s", began.elapsed().as_secs_f64());
    let traces = Traces::of(&node);
    drop(node);
    traces.check()
}

#[tokio::test]
async fn the_control_plane_comes_up_and_its_leases_move() -> Result<()> {
    let began = Instant::now();
    let node = Node::builder().start().await?;
    eprintln!("started after {:.1} s", began.elapsed().as_secs_f64());
    for component in Component::ALL {
        node.await_serving(component, node.within(Duration::from_secs(120))).await?;
        eprintln!("{component} serves after {:.1} s", began.elapsed().as_secs_f64());
    }
    for component in Component::ALL {
        let containers = node.containers(component).await?;
        let running: Vec<_> = containers.iter().filter(|c| c.state == Life::Running).collect();
        assert_eq!(running.len(), 1, "{component}: {containers:?}");
        assert_eq!(running[0].image, node.cluster().image(component));
    }
    for holder in ["kube-controller-manager", "kube-scheduler"] {
        let key = format!("/registry/leases/kube-system/{holder}");
        let before = node.get_data(&key).await?.with_context(|| format!("{key} is not there"))?;
        let deadline = Instant::now() + node.within(Duration::from_secs(10));
        while node.get_data(&key).await?.as_ref() == Some(&before) {
            ensure!(Instant::now() < deadline, "the lease of {holder} stands still");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_power_cut_with_everything_running_comes_back_with_the_data() -> Result<()> {
    let mut node = Node::builder().start().await?;
    node.up().await?;
    node.put_data("/lab/key", "written").await?;
    let began = Instant::now();
    node.reboot().await?;
    node.up().await?;
    eprintln!("serving {:.1} s after the power cut", began.elapsed().as_secs_f64());
    assert_eq!(node.get_data("/lab/key").await?.as_deref(), Some("written"));
    Ok(())
}

#[tokio::test]
async fn an_unknown_flag_crashes_the_pod_and_the_good_manifest_brings_it_back() -> Result<()> {
    let node = Node::builder().start().await?;
    node.up().await?;
    let good = node.manifest_text("kube-scheduler.yaml")?;
    node.edit_manifest("kube-scheduler.yaml", |text| {
        text.replacen("- kube-scheduler\n", "- kube-scheduler\n    - --no-such-flag=1\n", 1)
    })?;
    let deadline = Instant::now() + node.within(Duration::from_secs(60));
    loop {
        let containers = node.containers(Component::Scheduler).await?;
        if containers.iter().any(|c| matches!(c.state, Life::Exited { code } if code != 0) && c.attempt > 0) {
            break;
        }
        ensure!(Instant::now() < deadline, "no crash loop: {containers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(node.serving(Component::Scheduler).await.is_err(), "it serves with a flag that it does not know");
    node.write_manifest("kube-scheduler.yaml", &good, Writing::Atomic)?;
    node.await_serving(Component::Scheduler, node.within(Duration::from_secs(60))).await?;
    Ok(())
}

#[tokio::test]
async fn a_told_fault_is_seen_from_outside_and_taken_back() -> Result<()> {
    let node = Node::builder().start().await?;
    node.up().await?;
    node.tell("kube-apiserver", "fail readyz etcd").await?;
    let said = node.serving(Component::ApiServer).await.expect_err("not ready").to_string();
    assert!(said.contains("500") && said.contains("etcd"), "{said}");
    node.tell("kube-apiserver", "ok").await?;
    node.serving(Component::ApiServer).await?;
    node.tell("kubelet", "status").await?;
    // The same by the node's own command line.
    node.exec(&["lab", "tell", "kube-apiserver", "fail", "readyz", "etcd"]).await?.success()?;
    assert!(node.serving(Component::ApiServer).await.is_err());
    Ok(())
}

#[tokio::test]
async fn the_kubelet_is_restarted_from_inside_and_leaves_containers_alone() -> Result<()> {
    let node = Node::builder().start().await?;
    node.up().await?;
    let before = node.kubelet().pid().await?;
    let running = node.containers(Component::Etcd).await?;
    node.exec(&["lab", "restart", "kubelet"]).await?.success()?;
    assert_ne!(node.kubelet().pid().await?, before);
    node.up().await?;
    assert_eq!(node.containers(Component::Etcd).await?, running);
    Ok(())
}
