//! What lies around the control plane breaks: it is named, with the next step, and nothing is rolled back for it.
//!
//! ```text
//!   a certificate ends, a disk fills, an address dies ─▶ named as the cause ─▶ mended by a person ─▶ as before
//! ```

use std::fs;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::pki::API_SERVER;
use serde_json::Value;

use crate::crashes::on_a_small_disk;
use crate::stage::{SOON, Stage};

const PKI: &str = "/etc/kubernetes/pki";

/// Has a component's process end; it may be between two lives already.
async fn crash(stage: &Stage, component: Component) -> Result<()> {
    let began = std::time::Instant::now();
    while let Err(error) = stage.node.tell(component.name(), "crash").await {
        ensure!(began.elapsed() < SOON, "{error:#}\n{}", stage.story());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

/// What `explain` says of a component.
async fn explained(stage: &Stage, component: Component) -> Result<Value> {
    let said = stage.node.lastgood(&["explain", component.name(), "-o", "json"]).await?.success()?;
    let all: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    Ok(all.get(0).cloned().unwrap_or(all))
}

/// Waits until a component is explained by something.
async fn explained_by(stage: &Stage, component: Component, words: &str) -> Result<()> {
    let began = std::time::Instant::now();
    loop {
        let last = explained(stage, component).await?;
        if last["cause"].as_str().is_some_and(|cause| cause.contains(words)) {
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "{component} is not explained by {words:?}: {last}\n{}", stage.story());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// That nothing was put back, taken out or restarted.
fn nothing_was_done(stage: &Stage) -> Result<()> {
    let story = stage.story();
    for deed in ["RollingBack", "is quarantined", "put generation", "took ", "stopped the", "kubelet is restarted"] {
        ensure!(!story.contains(deed), "{deed:?} was told:\n{story}");
    }
    Ok(())
}

#[tokio::test]
async fn n16_an_ended_serving_certificate_is_named_and_nothing_is_rolled_back() -> Result<()> {
    let stage = Stage::adopted().await?;
    let check = stage.node.lastgood(&["certs", "check"]).await?;
    ensure!(check.code == 0, "{}{}", check.stdout, check.stderr);
    for words in ["/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/scheduler.conf", "RESIDUAL TIME", "kubelet"] {
        ensure!(check.stdout.contains(words), "{words:?} is not in\n{}", check.stdout);
    }
    let manifests: Vec<String> = Component::ALL.iter().map(|c| stage.manifest(*c)).collect::<Result<_>>()?;
    let path = stage.node.path(PKI).join("apiserver.crt");
    let good = fs::read(&path)?;
    stage.node.end_certificate("apiserver")?;
    stage
        .told("the certificate /etc/kubernetes/pki/apiserver.crt (apiserver, used by kube-apiserver) ended at")
        .await?;
    stage.told("next: `kubeadm certs renew apiserver`, then restart kube-apiserver").await?;
    crash(&stage, Component::ApiServer).await?;
    explained_by(&stage, Component::ApiServer, "a certificate is out of its dates").await?;
    explained_by(&stage, Component::Scheduler, "kube-apiserver is ").await?;
    let check = stage.node.lastgood(&["certs", "check", "-o", "json"]).await?;
    ensure!(check.code == 5, "exit code {}: {}", check.code, check.stdout);
    let first: Value = serde_json::from_str(&check.stdout)?;
    ensure!(first["certificates"][0]["state"] == "ended", "{first}");

    fs::write(&path, good)?;
    crash(&stage, Component::ApiServer).await?;
    stage.all_serve().await?;
    nothing_was_done(&stage)?;
    let after: Vec<String> = Component::ALL.iter().map(|c| stage.manifest(*c)).collect::<Result<_>>()?;
    ensure!(after == manifests, "a manifest was changed");
    let said = stage.story().matches("used by kube-apiserver) ended at").count();
    ensure!(said == 1, "said {said} times:\n{}", stage.story());
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_full_disk_under_etcd_excuses_a_candidate_until_there_is_room_and_a_broken_manifest_is_put_back() -> Result<()>
{
    let mut stage = Stage::adopted().await?;
    let small = on_a_small_disk(&mut stage, "/var/lib/etcd", "300m").await?;
    let good = stage.manifest(Component::Etcd)?;
    small.fill()?;
    stage.told("no room is left on the disk of etcd's data (/var/lib/etcd)").await?;
    let bad = stage.add_flag(Component::Etcd, "--no-such-flag=1")?;
    stage.told("not held against it: a disk does not take what it writes: no room is left for etcd's data").await?;
    explained_by(&stage, Component::Etcd, "no room is left for etcd's data").await?;
    nothing_was_done(&stage)?;
    ensure!(stage.manifest(Component::Etcd)? == bad, "it was put back");
    // What the kubelet cannot read is put right all the same.
    stage.write(&Component::Etcd.file(), "a: [")?;
    stage.back(Component::Etcd, &good).await?;
    small.free()?;
    stage.all_serve().await?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    let ended = stage.the_same_after_a_restart().await;
    drop(small);
    ended
}

/// A floating address for the API server: one of those its certificate is for.
const FLOATING: &str = "10.96.0.1";

#[tokio::test]
async fn r17_a_floating_address_that_goes_is_told_from_the_api_server_that_serves() -> Result<()> {
    let mut node = Node::builder().scale(0.1).start().await?;
    node.up().await?;
    node.put_data("/lab/kept", "written before").await?;
    node.power_off();
    let everywhere = |text: &str| text.replacen("--bind-address=127.0.0.1", "--bind-address=0.0.0.0", 1);
    node.edit_manifest(&Component::ApiServer.file(), everywhere)?;
    let server = format!("https://{FLOATING}:6443");
    let kubeconfig = node.path("/etc/kubernetes/scheduler.conf");
    fs::write(&kubeconfig, fs::read_to_string(&kubeconfig)?.replace(API_SERVER, &server))?;
    node.power_on().await?;
    let mut stage = Stage { node };
    let address = format!("{FLOATING}/32");
    stage.node.exec(&["ip", "address", "add", &address, "dev", "lo"]).await?.success()?;
    stage.node.up().await?;
    stage.node.spawn_agent(QUICK).await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    ensure!(!stage.story().contains(&server), "asked although it is this node's own:\n{}", stage.story());

    stage.node.exec(&["ip", "address", "del", &address, "dev", "lo"]).await?.success()?;
    stage.told(&format!("{server}, the way of kube-scheduler to the API server, does not answer")).await?;
    // A process that has a connection may keep it; one that starts anew finds nobody.
    crash(&stage, Component::Scheduler).await?;
    stage.told("kube-scheduler: Down: waiting for its cause to pass: its way to the API server is broken").await?;
    ensure!(stage.component(Component::ApiServer).await?["verdict"] == "healthy", "{}", stage.status().await?);
    nothing_was_done(&stage)?;
    stage.node.exec(&["ip", "address", "add", &address, "dev", "lo"]).await?.success()?;
    stage.all_serve().await?;
    nothing_was_done(&stage)?;
    stage.the_same_after_a_restart().await
}
