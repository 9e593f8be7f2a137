//! etcd's data in the hand of a test: its disk is not mounted, its path is wrong, an older copy or a restore takes its place,
//! another cluster is made of the node.
//!
//! ```text
//!   /var/lib/etcd                 as kubeadm has it, or the mount point of ↓ (in /etc/fstab, mounted at each boot)
//!   /var/lib/lab/etcd.img         a separate file system: ext4 over a loop device, which the kernel frees with the node
//!   /var/lib/lab/data/NAME        a copy of `member`, or what was moved away for another
//!   /var/lib/lab/out/FILE         a manifest that was taken out
//! ```
//!
//! Mounts are made in the node's own mount namespace, which is private: the agent and containers that are started later
//! see them, a container that runs keeps what it was started with, as on a real node.
//!
//! What exchanges data expects that no etcd runs: [`Node::take_out`] first, or [`Node::power_off`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::cache::Cache;
use super::containers::Life;
use super::place::{Links, copy, mode, write};
use super::{LOOK_AGAIN, Node, kubeadm};
use crate::manifests::Component;
use crate::pki;

/// Where etcd keeps its data, as kubeadm has it.
pub const DATA: &str = "/var/lib/etcd";
const IMAGE: &str = "/var/lib/lab/etcd.img";
const SAVED: &str = "/var/lib/lab/data";
const OUT: &str = "/var/lib/lab/out";
/// What the next `kubeadm init` is to put in place of /etc/kubernetes.
const INIT: &str = "/var/lib/lab/init";
const FSTAB: &str = "/etc/fstab";
/// Of the disk: etcd preallocates 64 MB of log twice over.
const DISK: &str = "400M";
/// The longest that a component takes to end: etcd and the API server have 30 s each.
const PATIENCE: Duration = Duration::from_secs(90);
/// The second set of certificates of a node is kept as long as the first.
const CERTIFICATES_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether etcd's disk is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It is mounted.
    Mounted,
    /// It is not: its line of /etc/fstab is commented out.
    Missing,
}

/// How a person makes another cluster of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// By `kubeadm reset` and `kubeadm init`, whose processes are seen by that name while they work.
    Kubeadm,
    /// By a script of another name that does the same.
    Script,
}

impl Node {
    /// Moves a component's manifest out of the manifest directory, and waits until none of its containers runs.
    ///
    /// # Errors
    /// When there is none, or it does not end.
    pub async fn take_out(&self, component: Component) -> Result<()> {
        let (from, out) = (self.manifest_path(&component.file()), self.path(OUT));
        fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
        fs::rename(&from, out.join(component.file())).with_context(|| format!("cannot move {}", from.display()))?;
        let began = Instant::now();
        while self.containers(component).await?.iter().any(|container| container.state == Life::Running) {
            ensure!(began.elapsed() < PATIENCE, "{component} does not end within {PATIENCE:?}");
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Moves a manifest that [`Node::take_out`] moved out back in.
    ///
    /// # Errors
    /// When it was not taken out.
    pub fn put_back(&self, component: Component) -> Result<()> {
        let from = self.path(OUT).join(component.file());
        fs::rename(&from, self.manifest_path(&component.file()))
            .with_context(|| format!("cannot move {} back", from.display()))
    }

    /// Puts etcd's data on a separate disk, which is in /etc/fstab and holds what the directory held. The directory below
    /// the mount is left empty. A node that runs has it mounted now, one that is powered off at its boot.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub async fn put_etcd_on_a_disk(&self) -> Result<()> {
        let (data, image) = (self.path(DATA), self.path(IMAGE));
        let dir = image.parent().context("a file has a directory")?;
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let _ = fs::remove_file(&image);
        let mkfs = Command::new("mkfs.ext4").args(["-q", "-m", "0", "-d"]).arg(&data).arg(&image).arg(DISK).output();
        let made = mkfs.context("cannot run mkfs.ext4 (package e2fsprogs)")?;
        ensure!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr).trim());
        fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))?;
        fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
        mode(&data, 0o700)?;
        self.etcd_disk_at_boot(Disk::Mounted)?;
        match self.running {
            Some(_) => self.mount_etcd_disk().await,
            None => Ok(()),
        }
    }

    /// Whether [`Node::put_etcd_on_a_disk`]'s disk is mounted at the next boot.
    ///
    /// # Errors
    /// When /etc/fstab cannot be written.
    pub fn etcd_disk_at_boot(&self, disk: Disk) -> Result<()> {
        let off = if disk == Disk::Missing { "#" } else { "" };
        write(&self.path(FSTAB), &format!("{off}{IMAGE} {DATA} ext4 loop,nofail 0 2\n"))
    }

    /// Mounts that disk.
    ///
    /// # Errors
    /// When there is none, or mount refuses.
    pub async fn mount_etcd_disk(&self) -> Result<()> {
        self.sh(&format!("mount -o loop {IMAGE} {DATA} && chmod 700 {DATA}")).await
    }

    /// Mounts an empty tmpfs over etcd's data: `mount -t tmpfs none /var/lib/etcd`.
    ///
    /// # Errors
    /// When mount refuses.
    pub async fn mount_over_etcd(&self) -> Result<()> {
        self.sh(&format!("mount -t tmpfs -o mode=700 none {DATA}")).await
    }

    /// Unmounts what is mounted on etcd's data directory last: its disk, or what was mounted over it.
    ///
    /// # Errors
    /// When nothing is mounted there, or somebody still uses it after some seconds.
    pub async fn unmount_etcd(&self) -> Result<()> {
        // The agent may be reading there for a moment.
        let again = "i=0; until umount \"$0\"; do i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done";
        self.exec(&["sh", "-c", &format!("mountpoint -q \"$0\" || exit 2; {again}"), DATA]).await?.success().map(drop)
    }

    /// What is mounted on etcd's data directory, as the node sees it: source and type of the topmost mount.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub async fn etcd_mount(&self) -> Result<Option<(String, String)>> {
        let said = self.exec(&["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--mountpoint", DATA]).await?;
        let last = said.stdout.lines().last().unwrap_or_default();
        let mut words = last.split_whitespace().map(str::to_owned);
        Ok(words.next().zip(words.next()))
    }

    /// Copies etcd's data aside, under a name.
    ///
    /// # Errors
    /// When there are none, or the name is taken.
    pub async fn copy_etcd_data(&self, name: &str) -> Result<()> {
        self.sh(&format!("set -e; mkdir -p {SAVED}; test ! -e {SAVED}/{name}; cp -a {DATA}/member {SAVED}/{name}"))
            .await
    }

    /// Puts a copy of [`Node::copy_etcd_data`] in the place of etcd's data, as a copied backup or an older disk does. The copy
    /// stays; what was there is kept under the name `aside`.
    ///
    /// # Errors
    /// When there is no such copy, or `aside` is taken.
    pub async fn bring_back_etcd_data(&self, name: &str, aside: &str) -> Result<()> {
        self.empty_etcd_data(aside).await?;
        self.sh(&format!("cp -a {SAVED}/{name} {DATA}/member")).await
    }

    /// Takes etcd's data away, and keeps them under a name for [`Node::bring_back_etcd_data`]: the etcd that starts next
    /// founds a new store, with the same cluster and member ID.
    ///
    /// # Errors
    /// When there are none, or the name is taken.
    pub async fn empty_etcd_data(&self, aside: &str) -> Result<()> {
        self.sh(&format!("set -e; mkdir -p {SAVED}; test ! -e {SAVED}/{aside}; mv {DATA}/member {SAVED}/{aside}")).await
    }

    /// Restores a snapshot (a path in the node, of `etcdctl snapshot save`) in the place of etcd's data with etcd's own tool, as a
    /// person does. What was there is kept under the name `aside`. For a node that is its cluster's only member.
    ///
    /// # Errors
    /// When the tool refuses, or `aside` is taken.
    pub async fn restore_etcd_data(&self, snapshot: &str, aside: &str) -> Result<()> {
        let name = self.name();
        // 3.4 has no etcdutl.
        let restore = format!(
            "tool=/lab/etcd/etcdutl; [ -x $tool ] || tool=/lab/etcd/etcdctl; rm -rf {SAVED}/restoring; mkdir -p {SAVED}; \
             ETCDCTL_API=3 $tool snapshot restore {snapshot} --data-dir={SAVED}/restoring --name={name} \
             --initial-cluster={name}=https://127.0.0.1:2380 --initial-advertise-peer-urls=https://127.0.0.1:2380"
        );
        self.sh(&restore).await?;
        self.empty_etcd_data(aside).await?;
        self.sh(&format!("mv {SAVED}/restoring/member {DATA}/member && rmdir {SAVED}/restoring")).await
    }

    /// Mistypes the path of etcd's data in its manifest: `hostPath` names `path`, which the kubelet makes where it is missing.
    /// Returns the manifest that is right.
    ///
    /// # Errors
    /// When the manifest has no such volume.
    pub fn mistype_etcd_path(&self, path: &str) -> Result<String> {
        let right = self.manifest_text(&Component::Etcd.file())?;
        let (is, becomes) = (format!("path: {DATA}\n"), format!("path: {path}\n"));
        self.edit_manifest(&Component::Etcd.file(), |text| text.replacen(&is, &becomes, 1))?;
        Ok(right)
    }

    /// The UID of Namespace kube-system, as the store that etcd serves has it below a prefix (`/registry`): made by the first API
    /// server that used this store. Absent where none has.
    ///
    /// # Errors
    /// When etcd does not answer, or holds something else there.
    pub async fn kube_system_uid(&self, prefix: &str) -> Result<Option<String>> {
        let key = format!("{prefix}/namespaces/kube-system");
        let Some(text) = self.get_data(&key).await? else { return Ok(None) };
        let object: Value = serde_json::from_str(&text).with_context(|| format!("{key}: {text}"))?;
        match object["metadata"]["uid"].as_str() {
            Some(uid) => Ok(Some(uid.to_owned())),
            None => bail!("{key} has no UID: {text}"),
        }
    }

    /// What `kubeadm reset --force` and then `kubeadm init` do on a single master, without a wait for what comes up: the
    /// kubelet is stopped, all containers, manifests, certificates, kubeconfigs and etcd's data go; then there are a new
    /// authority with all its certificates and kubeconfigs, manifests as at first, and the kubelet is started. The cluster's
    /// and the member's ID are the same as before. A second call on a node of that name brings the same authorities.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn kubeadm_reset_and_init(&self, hand: Hand) -> Result<()> {
        self.prepare_init()?;
        self.kubelet().stop().await?;
        // First the manifests, as `cleanup-node` does; a kubelet that is stopped starts nothing of them.
        self.by(hand, "reset --force", "rm -rf manifests/*; sleep 1").await?;
        self.runtime().await?.remove_sandboxes().await?;
        let conf =
            "admin.conf super-admin.conf kubelet.conf bootstrap-kubelet.conf controller-manager.conf scheduler.conf";
        self.by(
            hand,
            "reset --force",
            &format!("rm -rf {DATA}/* pki/*; rm -f {conf}; rm -rf /var/lib/kubelet/pki; sleep 1"),
        )
        .await?;
        let init = format!(
            "cp -a {INIT}/pki/. pki/; cp -a {INIT}/*.conf .; mkdir -p manifests; sleep 0.5; \
             for file in etcd kube-apiserver kube-controller-manager kube-scheduler; do \
             [ ! -e {INIT}/manifests/$file.yaml ] || cp -a {INIT}/manifests/$file.yaml manifests/; done; sleep 1"
        );
        self.by(hand, "init", &init).await?;
        kubeadm::write_kubelet(&self.path("/"))?;
        self.kubelet().start().await
    }

    /// Lays out what `kubeadm init` will write.
    fn prepare_init(&self) -> Result<()> {
        let (init, name) = (self.path(INIT), self.name().to_owned());
        let _ = fs::remove_dir_all(&init);
        let manifests = init.join("manifests");
        fs::create_dir_all(&manifests).with_context(|| manifests.display().to_string())?;
        let again = Cache::open()?.entry(&format!("pki-again-{name}"), CERTIFICATES_FOR, |to| pki::write(to, &name))?;
        copy(entries(again.path())?.into_iter(), &init, Links::Copied)?;
        for component in &self.components {
            write(&manifests.join(component.file()), &self.cluster.manifest(*component))?;
        }
        Ok(())
    }

    /// Has a process of kubeadm's name, or of another, do something in /etc/kubernetes.
    async fn by(&self, hand: Hand, arguments: &str, words: &str) -> Result<()> {
        let name = if hand == Hand::Kubeadm { "kubeadm" } else { "set-up" };
        let script = self.path("/root").join(name);
        write(&script, &format!("#!/bin/sh\nset -e\ncd /etc/kubernetes\n{words}\n"))?;
        mode(&script, 0o755)?;
        self.sh(&format!("/root/{name} {arguments}")).await
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    Ok(listed.flatten().map(|item| item.path()).collect())
}
