//! Manifests are deleted, moved away, reset: what comes back, and what stays away (Q3, Q6).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::demo::QUICK;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

/// A deleted manifest's grace in these tests.
const GRACE: Duration = Duration::from_secs(3);

/// The same of several, and of etcd's.
const LONG_GRACE: Duration = Duration::from_secs(8);

/// A demonstration's waits with these two graces, and room for breaking one component often.
async fn stage() -> Result<Stage> {
    let quick = QUICK
        .replace("deleted-grace = \"6s\"\nall-", "deleted-grace = \"3s\"\nall-")
        .replace("all-deleted-grace = \"20s\"", "all-deleted-grace = \"8s\"");
    ensure!(quick.contains("\ndeleted-grace = \"3s\"\nall-deleted-grace = \"8s\""), "other graces:\n{quick}");
    Stage::with(&format!("{quick}[limits]\nactions-per-hour = 20\n")).await
}

/// Waits for two passes in which something could have been done and was not: each grace once more, and a bit.
async fn nothing_happens(stage: &Stage, absent: &[Component]) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < LONG_GRACE + Duration::from_secs(1) {
        for component in absent {
            ensure!(stage.manifest(*component).is_err(), "{component} came back:\n{}", stage.story());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A program of root's under a name, which works until the test lets it end.
pub(crate) struct Busy {
    flag: std::path::PathBuf,
}

impl Busy {
    /// Starts it; it is at work when this returns.
    pub(crate) async fn start(node: &Node, name: &str, words: &str) -> Result<Self> {
        let script = node.path("/root").join(name);
        fs::write(&script, "#!/bin/sh\nwhile [ -e /root/busy ]; do sleep 0.1; done\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let flag = node.path("/root/busy");
        fs::write(&flag, "")?;
        let line = format!("/root/{name} {words} </dev/null >/dev/null 2>&1 &");
        node.exec(&["/bin/sh", "-c", &line]).await?.success()?;
        Ok(Self { flag })
    }

    /// Has it end.
    pub(crate) fn end(self) -> Result<()> {
        fs::remove_file(&self.flag).context("it has ended before")
    }
}

impl Stage {
    /// Runs the command line, which must succeed.
    async fn by_hand(&self, words: &[&str]) -> Result<String> {
        let said = self.node.lastgood(words).await?;
        ensure!(said.code == 0, "{words:?}: exit code {}: {}{}\n{}", said.code, said.stdout, said.stderr, self.story());
        Ok(said.stdout)
    }

    async fn missing(&self, component: Component) -> Result<()> {
        self.in_state(component, "missing").await.map(drop)
    }
}

#[tokio::test]
async fn t4_a_deleted_api_server_comes_back_after_the_announced_grace_and_serves() -> Result<()> {
    let stage = stage().await?;
    let good = stage.manifest(Component::ApiServer)?;
    for round in ["deleted", "deleted and killed"] {
        stage.node.remove_manifest(&Component::ApiServer.file())?;
        let deleted = Instant::now();
        if round != "deleted" {
            stage.node.exec(&["/bin/sh", "-c", "kill -9 $(pidof kube-apiserver)"]).await?.success()?;
        }
        stage
            .told(
                "its manifest was deleted; lastgood deploys generation 1 again in 3 s unless `lastgood pause` \
                    prevents it",
            )
            .await?;
        stage.back(Component::ApiServer, &good).await?;
        ensure!(deleted.elapsed() >= GRACE, "{round}: back after {:?}, before the grace", deleted.elapsed());
        stage.node.await_serving(Component::ApiServer, SOON).await.with_context(|| stage.story())?;
        eprintln!("{round}: serves after {:?}", deleted.elapsed());
        stage.steady_on(Component::ApiServer, 1).await?;
        stage.all_serve().await?;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q3_all_four_deleted_or_their_directory_come_back_after_the_longer_grace() -> Result<()> {
    let stage = stage().await?;
    let good: Vec<_> = Component::ALL.iter().map(|c| Ok((*c, stage.manifest(*c)?))).collect::<Result<_>>()?;
    for (component, _) in &good {
        stage.node.remove_manifest(&component.file())?;
    }
    let deleted = Instant::now();
    for (component, text) in &good {
        stage.back(*component, text).await?;
        ensure!(deleted.elapsed() >= LONG_GRACE, "{component}: back after {:?}", deleted.elapsed());
    }
    for (component, _) in &good {
        stage.steady_on(*component, 1).await?;
    }
    stage.all_serve().await?;
    eprintln!("all four: serve after {:?}", deleted.elapsed());

    // The whole directory, and somebody makes it anew. The kubelet's watch is on the old one: its scans have to do.
    let dir = stage.node.path("/etc/kubernetes/manifests");
    fs::remove_dir_all(&dir)?;
    fs::create_dir(&dir)?;
    let deleted = Instant::now();
    for (component, text) in &good {
        stage.back(*component, text).await?;
        ensure!(deleted.elapsed() >= LONG_GRACE, "{component}: back after {:?}", deleted.elapsed());
    }
    for (component, _) in &good {
        stage.steady_on(*component, 1).await?;
    }
    stage.all_serve().await?;
    eprintln!("directory: serve after {:?}", deleted.elapsed());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q3_what_a_person_moved_away_stays_away_until_they_want_it_back() -> Result<()> {
    let stage = stage().await?;
    let kubernetes = stage.node.path("/etc/kubernetes");
    let manifests = kubernetes.join("manifests");
    let (scheduler, manager) = (Component::Scheduler, Component::ControllerManager);
    let good = [stage.manifest(scheduler)?, stage.manifest(manager)?];
    fs::create_dir(stage.node.path("/etc/away"))?;
    fs::rename(manifests.join(scheduler.file()), kubernetes.join("scheduler.off"))?;
    fs::rename(manifests.join(manager.file()), stage.node.path("/etc/away/manager.yaml"))?;
    stage.told("its manifest was moved to /etc/kubernetes/scheduler.off; it stays away").await?;
    stage.told("its manifest was moved to /etc/away/manager.yaml; it stays away").await?;
    nothing_happens(&stage, &[scheduler, manager]).await?;
    stage.node.agent().restart().await?;
    stage.missing(scheduler).await?;
    nothing_happens(&stage, &[scheduler, manager]).await?;
    // By request, and by the hand that took it.
    stage.by_hand(&["rollback", "kube-scheduler", "--yes"]).await?;
    fs::rename(stage.node.path("/etc/away/manager.yaml"), manifests.join(manager.file()))?;
    for (component, good) in [scheduler, manager].into_iter().zip(&good) {
        stage.back(component, good).await?;
        stage.steady_on(component, 1).await?;
    }
    stage.all_serve().await?;

    // The directory as a whole.
    let away = kubernetes.join("manifests.off");
    fs::rename(&manifests, &away)?;
    stage.told("its manifest was moved to /etc/kubernetes/manifests.off/etcd.yaml").await?;
    for component in Component::ALL {
        stage.missing(component).await?;
    }
    nothing_happens(&stage, &Component::ALL).await?;
    ensure!(!manifests.exists(), "the directory was made anew");
    stage.by_hand(&["rollback", "etcd", "--yes"]).await?;
    stage.by_hand(&["rollback", "kube-apiserver", "--yes"]).await?;
    for component in [scheduler, manager] {
        fs::rename(away.join(component.file()), manifests.join(component.file()))?;
    }
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

/// What `kubeadm reset` removes, in its order: `cleanup-node` of cmd/phases/reset stops the kubelet, then empties the
/// manifest directory, the etcd data and the PKI, then removes the kubeconfigs.
const RESET: &str = "#!/bin/sh
cd /etc/kubernetes || exit 1
rm -rf manifests/*
sleep 1
rm -rf /var/lib/etcd/* pki/*
sleep 1
rm -f admin.conf super-admin.conf kubelet.conf bootstrap-kubelet.conf controller-manager.conf scheduler.conf
";

#[tokio::test]
async fn q3_a_reset_node_is_left_alone() -> Result<()> {
    let stage = stage().await?;
    // Under another name than kubeadm's, as a person's own script has it: nothing but what is gone tells.
    for name in ["clean-up", "kubeadm"] {
        fs::write(stage.node.path("/root").join(name), RESET)?;
        fs::set_permissions(stage.node.path("/root").join(name), fs::Permissions::from_mode(0o755))?;
    }
    stage.node.kubelet().stop().await?;
    stage.node.exec(&["/root/kubeadm", "reset", "--force"]).await?.success()?;
    for component in Component::ALL {
        let held = stage.in_state(component, "held").await?;
        ensure!(held["note"].as_str().unwrap_or_default().contains("no longer a master"), "{held}");
        ensure!(held["next"].as_str().unwrap_or_default().contains("lastgood rollback"), "{held}");
    }
    nothing_happens(&stage, &Component::ALL).await?;
    stage.node.agent().restart().await?;
    for component in Component::ALL {
        stage.in_state(component, "held").await?;
    }
    nothing_happens(&stage, &Component::ALL).await?;
    ensure!(stage.names()?.is_empty(), "{:?}", stage.names()?);
    ensure!(fs::read_dir(stage.node.path("/etc/kubernetes/pki"))?.next().is_none(), "something came back into pki");
    Ok(())
}

#[tokio::test]
async fn t21_q6_paused_or_while_kubeadm_works_nothing_is_healed_and_afterwards_it_is() -> Result<()> {
    let stage = stage().await?;
    let (scheduler, manager) = (Component::Scheduler, Component::ControllerManager);
    let (good_scheduler, good_manager) = (stage.manifest(scheduler)?, stage.manifest(manager)?);
    // T21: deleted and broken while paused.
    stage.by_hand(&["pause", "--for", "10m", "--reason", "changing disks"]).await?;
    stage.node.remove_manifest(&scheduler.file())?;
    stage.write(&manager.file(), "no: [manifest\n")?;
    stage.missing(scheduler).await?;
    stage.told("would roll back to generation 1").await?;
    nothing_happens(&stage, &[scheduler]).await?;
    ensure!(stage.manifest(manager)? == "no: [manifest\n", "healed while paused");
    stage.node.agent().restart().await?;
    nothing_happens(&stage, &[scheduler]).await?;
    let status = stage.status().await?;
    ensure!(status["pause"]["reason"] == "changing disks", "{status}");
    let resumed = Instant::now();
    stage.by_hand(&["resume"]).await?;
    stage.back(manager, &good_manager).await?;
    stage.back(scheduler, &good_scheduler).await?;
    ensure!(resumed.elapsed() >= GRACE / 2, "back {:?} after the pause: not its grace", resumed.elapsed());
    for component in [scheduler, manager] {
        stage.steady_on(component, 1).await?;
    }
    stage.all_serve().await?;

    // Q6: the same while kubeadm of root works; a plan it only shows is no work.
    let plan = Busy::start(&stage.node, "kubeadm", "upgrade plan").await?;
    stage.node.remove_manifest(&scheduler.file())?;
    stage.back(scheduler, &good_scheduler).await?;
    plan.end()?;
    stage.steady_on(scheduler, 1).await?;
    let upgrade = Busy::start(&stage.node, "kubeadm", "upgrade apply v1.99.0").await?;
    stage.told("kubeadm is running").await?;
    stage.node.remove_manifest(&scheduler.file())?;
    let bad = stage.add_flag(manager, "--no-such-flag=1")?;
    stage.missing(scheduler).await?;
    stage.told("inhibited: kubeadm is running").await?;
    nothing_happens(&stage, &[scheduler]).await?;
    ensure!(stage.manifest(manager)? == bad, "rolled back under kubeadm");
    let refused = stage.node.lastgood(&["rollback", "kube-scheduler", "--yes"]).await?;
    ensure!(refused.code != 0 && refused.stderr.contains("kubeadm is running"), "{refused:?}");
    upgrade.end()?;
    stage.told("acting again").await?;
    stage.back(scheduler, &good_scheduler).await?;
    stage.back(manager, &good_manager).await?;
    for component in [scheduler, manager] {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

/// Makes the directory another one with the same content: what a restore leaves.
fn replace_member(etcd: &Path) -> Result<()> {
    let (member, aside) = (etcd.join("member"), etcd.join("member.aside"));
    fs::rename(&member, &aside)?;
    let copied = std::process::Command::new("cp").arg("-a").arg(&aside).arg(&member).status()?;
    ensure!(copied.success(), "cp -a of the data failed");
    fs::remove_dir_all(&aside)?;
    Ok(())
}

#[tokio::test]
async fn q3_a_deleted_etcd_comes_back_last_and_only_over_the_data_it_left() -> Result<()> {
    let stage = stage().await?;
    let good = stage.manifest(Component::Etcd)?;
    // Nothing but the file is gone.
    stage.node.remove_manifest(&Component::Etcd.file())?;
    let deleted = Instant::now();
    stage.told("its manifest was deleted; lastgood deploys generation 1 again in 8 s").await?;
    stage.back(Component::Etcd, &good).await?;
    ensure!(deleted.elapsed() >= LONG_GRACE, "back after {:?}", deleted.elapsed());
    stage.steady_on(Component::Etcd, 1).await?;
    stage.all_serve().await?;

    // Somebody works on the data.
    let tool = Busy::start(&stage.node, "etcdutl", "snapshot restore /root/backup.db").await?;
    stage.node.remove_manifest(&Component::Etcd.file())?;
    stage.told("etcdutl snapshot restore /root/backup.db is running").await?;
    nothing_happens(&stage, &[Component::Etcd]).await?;
    tool.end()?;
    stage.back(Component::Etcd, &good).await?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.all_serve().await?;

    // Other data lies there: a person says when.
    stage.node.remove_manifest(&Component::Etcd.file())?;
    let began = Instant::now();
    while stage.node.exec(&["pidof", "etcd"]).await?.code == 0 {
        ensure!(began.elapsed() < SOON, "etcd does not end");
        sleep(Duration::from_millis(50)).await;
    }
    replace_member(&stage.node.path("/var/lib/etcd"))?;
    stage.told("is not the directory it served from").await?;
    nothing_happens(&stage, &[Component::Etcd]).await?;
    stage.node.agent().restart().await?;
    nothing_happens(&stage, &[Component::Etcd]).await?;
    stage.by_hand(&["rollback", "etcd", "--yes"]).await?;
    stage.back(Component::Etcd, &good).await?;
    stage.steady_on(Component::Etcd, 1).await?;
    stage.the_same_after_a_restart().await
}
