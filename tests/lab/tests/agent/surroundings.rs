//! Faults of the environment: each is named, with the next step, and nothing is rolled back for it.
//!
//! ```text
//!   a certificate ends, a disk fills, an address dies ─▶ named as the cause ─▶ fixed by the operator ─▶ as before
//! ```

use std::fs;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::spec::{Request, Restart, Service};
use lastgood_lab::node::supervisor;
use lastgood_lab::pki::API_SERVER;
use nix::mount::MsFlags;
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
    Ok(all["items"][0].clone())
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
    for deed in ["RollingBack", "is quarantined", "put generation", ": took ", "stopped the", "kubelet is restarted"] {
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
    explained_by(&stage, Component::ApiServer, "a certificate is expired or not yet valid").await?;
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
    stage.told("no space is left on the disk of etcd's data (/var/lib/etcd)").await?;
    let bad = stage.add_flag(Component::Etcd, "--no-such-flag=1")?;
    stage.told("not held against it: a disk does not accept its writes: no space is left for etcd's data").await?;
    explained_by(&stage, Component::Etcd, "no space is left for etcd's data").await?;
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
    stage.told(&format!("{server}, the API server address of kube-scheduler, does not answer")).await?;
    // A process that has a connection may keep it; one that starts anew finds nobody.
    crash(&stage, Component::Scheduler).await?;
    stage.told("kube-scheduler: Down: waiting until its cause is gone: it cannot reach the API server").await?;
    ensure!(stage.component(Component::ApiServer).await?["verdict"] == "healthy", "{}", stage.status().await?);
    nothing_was_done(&stage)?;
    stage.node.exec(&["ip", "address", "add", &address, "dev", "lo"]).await?.success()?;
    stage.all_serve().await?;
    nothing_was_done(&stage)?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn without_inodes_under_etcd_a_candidate_is_excused_until_there_are_some() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    let small = on_a_small_disk(&mut stage, "/var/lib/etcd", "400m,nr_inodes=400").await?;
    let good = stage.manifest(Component::Etcd)?;
    small.take_inodes()?;
    stage.told("no inodes are left on the disk of etcd's data (/var/lib/etcd)").await?;
    stage.told("next: find what made so many small files and remove them").await?;
    let bad = stage.add_flag(Component::Etcd, "--no-such-flag=1")?;
    // An etcd that ends gives back the inode of the segment it allotted ahead.
    let taken = async {
        while small.take_inodes().is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let excused = "not held against it: a disk does not accept its writes: no inodes are left for etcd's data";
    tokio::select! {
        told = stage.told(excused) => told?,
        () = taken => anyhow::bail!("the inodes cannot be taken"),
    }
    nothing_was_done(&stage)?;
    ensure!(stage.manifest(Component::Etcd)? == bad, "it was put back");
    // With inodes again its own fault counts.
    small.free_inodes()?;
    stage.back(Component::Etcd, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    let ended = stage.the_same_after_a_restart().await;
    drop(small);
    ended
}

#[tokio::test]
async fn a_read_only_disk_under_etcd_is_named_and_nothing_is_rolled_back_for_it() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    let small = on_a_small_disk(&mut stage, "/var/lib/etcd", "300m").await?;
    let manifests: Vec<String> = Component::ALL.iter().map(|c| stage.manifest(*c)).collect::<Result<_>>()?;
    // As the kernel does it after an error of the disk, but it asks first: nobody may be writing.
    let began = std::time::Instant::now();
    loop {
        let killed = stage.node.sh("kill -9 $(pgrep -f -- '[-]-data-dir=/var/lib/etcd( |$)')").await;
        let mut remounted = small.access(MsFlags::MS_RDONLY);
        for _ in 0..100 {
            if remounted.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            remounted = small.access(MsFlags::MS_RDONLY);
        }
        if remounted.is_ok() {
            break;
        }
        ensure!(began.elapsed() < SOON, "{killed:?}, {remounted:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    stage.told("the file system of etcd's data (/var/lib/etcd) is read-only").await?;
    stage.told("next: see in `dmesg` whether its disk failed, then check and remount it").await?;
    explained_by(&stage, Component::Etcd, "etcd's data (/var/lib/etcd) is on a read-only file system").await?;
    explained_by(&stage, Component::ApiServer, "etcd is ").await?;
    // A change beside it is not held to account for that.
    let good = stage.manifest(Component::ApiServer)?;
    stage.add_flag(Component::ApiServer, "--v=3")?;
    stage.in_state(Component::ApiServer, "Probation").await?;
    // Longer than what condemns a candidate of its own fault.
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    nothing_was_done(&stage)?;
    small.access(MsFlags::empty())?;
    stage.all_serve().await?;
    stage.steady_on(Component::ApiServer, 2).await?;
    nothing_was_done(&stage)?;
    ensure!(stage.manifest(Component::ApiServer)? != good, "the change was undone");
    ensure!(stage.manifest(Component::Etcd)? == manifests[0], "etcd's manifest was changed");
    let ended = stage.the_same_after_a_restart().await;
    drop(small);
    ended
}

#[tokio::test]
async fn pressure_is_told_with_who_to_look_for_and_is_over_when_it_is() -> Result<()> {
    let stage = Stage::adopted().await?;
    // The kernel's own figures cannot be had to order on a machine that others use: laid over what the agent reads.
    let page = |full: &str| {
        format!(
            "some avg10={full} avg60={full} avg300=0.00 total=1\nfull avg10={full} avg60={full} avg300=0.00 total=1\n"
        )
    };
    let lay = async |of: &str, full: &str| {
        let inside = format!("/run/pressure-{of}");
        fs::write(stage.node.path(&inside), page(full))?;
        let over = format!("mountpoint -q /proc/pressure/{of} || mount --bind {inside} /proc/pressure/{of}");
        stage.node.sh(&over).await
    };
    for (of, full, words) in [
        (
            "memory",
            "25.00",
            "the machine waits for memory: for more than 10 % of the last minute every task was \
                             stalled",
        ),
        (
            "io",
            "80.00",
            "the machine waits for its disks: for more than 50 % of the last minute every task was stalled",
        ),
    ] {
        lay(of, full).await?;
        stage.told(words).await?;
        let notice = |status: &Value| status.to_string().contains(words);
        ensure!(notice(&stage.status().await?), "{}", stage.status().await?);
        lay(of, "0.00").await?;
        let began = std::time::Instant::now();
        while notice(&stage.status().await?) {
            ensure!(began.elapsed() < SOON, "{words:?} is not over:\n{}", stage.story());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        ensure!(stage.times_told(words) == 1, "{}", stage.story());
    }
    stage.told("`systemd-cgtop -m`").await?;
    nothing_was_done(&stage)?;
    stage.the_same_after_a_restart().await
}

/// Has the agent go by a clock of its own, which reads its offset in seconds from this file of the node. The machine's is
/// everybody's, and stays.
const OFFSET: &str = "/run/clock-offset";

async fn with_a_clock_of_its_own(stage: &Stage) -> Result<()> {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .map(|dir| format!("{dir}/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .context("no libfaketimeMT.so.1 (package libfaketime)")?;
    fs::write(stage.node.path(OFFSET), "+0")?;
    let pid = stage.node.agent().pid().await?;
    let socket = std::path::PathBuf::from(format!("/proc/{pid}/root/run/lab/init.sock"));
    // Only the wall clock: what time is watched goes by the boot clock, which does not jump.
    let env = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", OFFSET),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    let service = Service {
        name: "lastgood".to_owned(),
        argv: vec!["/lab/bin/lastgood".to_owned(), "run".to_owned()],
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        restart: Restart::Never,
        after: None,
    };
    supervisor::ask(&socket, &Request::Define(service)).await?;
    stage.node.agent().restart().await
}

#[tokio::test]
async fn a_clock_that_jumps_is_told_and_a_candidates_time_does_not_jump_with_it() -> Result<()> {
    let stage = Stage::adopted().await?;
    with_a_clock_of_its_own(&stage).await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    // A candidate that does not serve, with half a minute to become healthy, and a day in which it counts as a change.
    let good = stage.manifest(Component::Scheduler)?;
    stage.add_flag(Component::Scheduler, "--v=3")?;
    stage.in_state(Component::Scheduler, "Probation").await?;
    fs::write(stage.node.path(OFFSET), "+7200")?;
    stage.told("the clock jumped forward by 7").await?;
    stage.told("next: see what set it (`timedatectl`, `chronyc tracking`)").await?;
    ensure!(stage.state(Component::Scheduler).await? == "probation", "{}", stage.status().await?);
    stage.steady_on(Component::Scheduler, 2).await?;
    fs::write(stage.node.path(OFFSET), "+0")?;
    stage.told("the clock jumped back by 7").await?;
    ensure!(stage.manifest(Component::Scheduler)? != good, "it was put back");
    nothing_was_done(&stage)?;
    stage.all_serve().await?;
    for component in [Component::Etcd, Component::ApiServer, Component::ControllerManager] {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}
