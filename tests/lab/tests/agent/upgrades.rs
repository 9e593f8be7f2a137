//! Upgrades by kubeadm, whole and interrupted by a power cut (Q6, N20).
//!
//! kubeadm first writes all new manifests into a separate directory. Then, one component after the other (etcd,
//! kube-apiserver, kube-controller-manager, kube-scheduler): it renews its certificates, moves the old manifest into a
//! backup directory and the new one into place, and waits for the new pod. Its directories below /etc/kubernetes/tmp
//! remain.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lastgood_lab::images::KUBERNETES_MINOR;
use lastgood_lab::manifests::{Cluster, Component, EtcdVersion};
use lastgood_lab::node::demo::QUICK;

use crate::absence::Busy;
use crate::closures::renewed;
use crate::etcd::adopted;
use crate::stage::Stage;
use crate::versions::upgraded;

/// kubeadm in the middle of `upgrade apply`.
struct Kubeadm {
    process: Busy,
    /// Where the new manifests lie, and where the old ones go.
    new: PathBuf,
    backup: PathBuf,
}

impl Kubeadm {
    /// Up to the first component: its directories are there, the new manifests in one of them. `broken` is a flag that the
    /// new API server does not know.
    async fn begin(stage: &Stage, round: u32, broken: Option<&str>) -> Result<Self> {
        let process = Busy::start(&stage.node, "kubeadm", &format!("upgrade apply {KUBERNETES_MINOR}")).await?;
        stage.told("kubeadm is running").await?;
        let dir = |what: &str| -> Result<PathBuf> {
            let dir = stage.node.path(format!("/etc/kubernetes/tmp/kubeadm-{what}-2026-11-26-12-00-0{round}"));
            fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
            Ok(dir)
        };
        let (new, backup, etcd) = (dir("upgraded-manifests")?, dir("backup-manifests")?, dir("backup-etcd")?);
        let data = stage.node.path("/var/lib/etcd");
        let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(etcd).status()?;
        ensure!(copied.success(), "cp -a {} failed", data.display());
        let cluster = Cluster { kubernetes: KUBERNETES_MINOR.to_owned(), ..stage.node.cluster().clone() };
        for component in Component::ALL {
            let mut text = match component {
                Component::Etcd => upgraded(stage)?,
                other => cluster.manifest(other),
            };
            if let (Component::ApiServer, Some(flag)) = (component, broken) {
                text = text.replacen("- kube-apiserver\n", &format!("- kube-apiserver\n    - {flag}\n"), 1);
            }
            fs::write(new.join(component.file()), text)?;
        }
        Ok(Self { process, new, backup })
    }

    /// One component, without the wait.
    fn move_in(&self, stage: &Stage, component: Component) -> Result<()> {
        self.take(stage, component)?;
        let stands = stage.node.manifest_path(&component.file());
        fs::rename(self.new.join(component.file()), &stands).context("the new manifest")
    }

    /// The first half of that: the old manifest is away, and the new one not yet in its place.
    fn take(&self, stage: &Stage, component: Component) -> Result<()> {
        if component == Component::ControllerManager {
            let config = "/etc/kubernetes/controller-manager.conf";
            let text = renewed(stage, config)?;
            fs::write(stage.node.path(config), text).context(config)?;
        }
        let stands = stage.node.manifest_path(&component.file());
        fs::rename(&stands, self.backup.join(component.file())).context("the old manifest")
    }
}

/// Waits until the new generation serves, as kubeadm does.
async fn new_one_serves(stage: &Stage, component: Component) -> Result<()> {
    let holds =
        |c: &serde_json::Value| c["generation"] == 2 && c["verdict"].to_string().to_lowercase().contains("healthy");
    stage.until(component, "the new one serves", holds).await.map(drop)
}

#[tokio::test]
async fn q6_an_upgrade_by_kubeadm_that_is_well_becomes_known_good_as_a_whole() -> Result<()> {
    let stage = adopted(EtcdVersion::V34, QUICK).await?;
    let kubeadm = Kubeadm::begin(&stage, 1, None).await?;
    for component in Component::ALL {
        kubeadm.move_in(&stage, component)?;
        new_one_serves(&stage, component).await?;
    }
    kubeadm.process.end()?;
    stage.told("acting again").await?;
    for component in Component::ALL {
        stage.steady_on(component, 2).await?;
    }
    let story = stage.story();
    ensure!(!story.contains("RollingBack") && !story.contains("newer than"), "something was undone:\n{story}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n20_an_upgrade_that_a_power_cut_ends_is_undone_where_it_is_bad_and_kept_where_it_serves() -> Result<()> {
    // Each power cut costs a restart of the kubelet, and these are three within minutes.
    let mut stage =
        adopted(EtcdVersion::V34, &format!("{QUICK}[limits]\nactions-per-hour = 20\nkubelet-restarts-per-hour = 9\n"))
            .await?;
    let old: Vec<String> = Component::ALL.iter().map(|component| stage.manifest(*component)).collect::<Result<_>>()?;
    let names = stage.names()?;
    // How far kubeadm comes before the power goes.
    for (round, last) in [(1, Component::ApiServer), (2, Component::ControllerManager), (3, Component::Scheduler)] {
        let kubeadm = Kubeadm::begin(&stage, round, Some(&format!("--no-such-flag={round}"))).await?;
        for component in Component::ALL.into_iter().take_while(|component| *component <= last) {
            // etcd was upgraded in the first round, and kubeadm does not touch what is up to date.
            if component == Component::Etcd {
                if round > 1 {
                    continue;
                }
                kubeadm.move_in(&stage, component)?;
                new_one_serves(&stage, component).await?;
            } else {
                kubeadm.move_in(&stage, component)?;
            }
        }
        stage.node.reboot().await?;
        for (component, old) in Component::ALL.into_iter().zip(&old).skip(1) {
            stage.back(component, old).await.with_context(|| format!("cut after {last}"))?;
        }
        stage.all_serve().await.with_context(|| format!("cut after {last}"))?;
        stage.steady_on(Component::Etcd, 2).await?;
        for component in [Component::ApiServer, Component::ControllerManager, Component::Scheduler] {
            stage.steady_on(component, 1).await?;
        }
        ensure!(stage.names()? == names, "cut after {last}: {:?}", stage.names()?);
        let data = stage.node.get_data("/lab/kept").await?;
        ensure!(data.as_deref() == Some("written before"), "cut after {last}: the data is {data:?}");
    }
    let story = stage.story();
    ensure!(!story.contains("-> Held"), "something is held:\n{story}");
    ensure!(story.contains("no component is left newer than its API server"), "the reason was not told:\n{story}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n20_a_power_cut_between_kubeadms_two_renames_brings_the_old_manifest_back_after_its_grace() -> Result<()> {
    let mut stage =
        adopted(EtcdVersion::V34, &format!("{QUICK}[limits]\nactions-per-hour = 20\nkubelet-restarts-per-hour = 9\n"))
            .await?;
    let old: Vec<String> = Component::ALL.iter().map(|component| stage.manifest(*component)).collect::<Result<_>>()?;
    let names = stage.names()?;
    for (round, away) in (1..).zip(Component::ALL) {
        let kubeadm = Kubeadm::begin(&stage, round, None).await?;
        // What is up to date by an earlier round kubeadm leaves as it is.
        for done in Component::ALL.into_iter().take_while(|done| *done < away) {
            if stage.component(done).await?["generation"] == 1 {
                kubeadm.move_in(&stage, done)?;
                new_one_serves(&stage, done).await?;
            }
        }
        kubeadm.take(&stage, away)?;
        // Every other time the agent has seen the empty slot before the power goes.
        if round % 2 == 0 {
            stage.in_state(away, "missing").await?;
        }
        let before = stage.story().len();
        stage.node.reboot().await?;
        stage.back(away, &old[round as usize - 1]).await.with_context(|| format!("{away} was away"))?;
        let story = stage.story();
        ensure!(
            story[before..].contains("lastgood deploys generation 1 again in 6 s unless"),
            "{away}: unannounced:\n{story}"
        );
        stage.all_serve().await.with_context(|| format!("{away} was away"))?;
        stage.steady_on(away, 1).await?;
        for done in Component::ALL.into_iter().take_while(|done| *done < away) {
            stage.steady_on(done, 2).await?;
        }
        ensure!(stage.names()? == names, "{away} was away: {:?}", stage.names()?);
        let data = stage.node.get_data("/lab/kept").await?;
        ensure!(data.as_deref() == Some("written before"), "{away} was away: the data is {data:?}");
    }
    // And kubeadm alone is killed; the node runs on.
    let kubeadm = Kubeadm::begin(&stage, 5, None).await?;
    kubeadm.take(&stage, Component::Scheduler)?;
    stage.in_state(Component::Scheduler, "missing").await?;
    kubeadm.process.end()?;
    stage.back(Component::Scheduler, &old[3]).await.context("kubeadm was killed")?;
    stage.steady_on(Component::Scheduler, 1).await?;
    let story = stage.story();
    ensure!(!story.contains("-> Held"), "something is held:\n{story}");
    stage.the_same_after_a_restart().await
}
