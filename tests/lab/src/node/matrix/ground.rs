//! What a node is before the fault, and the fault itself.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::faults::Breakage;
use crate::manifests::Component;
use crate::node::etcd_data::Disk;
use crate::node::members::OTHERS;
use crate::node::place::write;
use crate::node::small_disk::SmallDisk;
use crate::node::{Node, Writing};

/// Long enough for anything that comes at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(240);

const AUDIT_FILE: &str = "/etc/kubernetes/audit/policy.yaml";
const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n";

/// A command line that talks to etcd from a shell in the node.
const ETCDCTL: &str = "/lab/etcd/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
                       --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt \
                       --key=/etc/kubernetes/pki/etcd/healthcheck-client.key";

/// What a node is before the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// As kubeadm leaves it.
    Plain,
    /// Its API server has an audit policy.
    Audited,
    /// Its etcd is one of three members.
    Members,
    /// Its etcd may hold 20 MB.
    SmallQuota,
    /// Its etcd's data lie on a disk of 300 MB.
    SmallDisk,
    /// Its etcd's data are on a separate disk, which /etc/fstab names.
    OwnDisk,
}

/// A node to break. The disk is unmounted before the node's directory goes.
#[derive(Debug)]
pub(super) struct Site {
    small: Option<SmallDisk>,
    /// The node.
    pub node: Node,
}

/// When the fault was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the wall clock, as the agent's events are.
    pub at: Timestamp,
    /// By the clock that only goes forward.
    pub began: Instant,
}

impl Moment {
    fn now() -> Self {
        Self { at: Timestamp::now(), began: Instant::now() }
    }
}

impl Site {
    /// A node that serves, true to life.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn new(ground: Ground) -> Result<Self> {
        let mut node = Node::builder().scale(1.0).start().await?;
        let mut small = None;
        match ground {
            Ground::Plain | Ground::Members | Ground::SmallDisk | Ground::OwnDisk => {}
            Ground::Audited => {
                let file = node.path(AUDIT_FILE);
                fs::create_dir_all(file.parent().context("a file has a directory")?)?;
                write(&file, AUDIT)?;
                node.edit_manifest(&Component::ApiServer.file(), audited)?;
            }
            Ground::SmallQuota => {
                node.edit_manifest(&Component::Etcd.file(), |text| with_flag(text, Component::Etcd, QUOTA))?;
            }
        }
        node.up().await?;
        match ground {
            Ground::Members => {
                node.join_members().await?;
                node.up().await?;
            }
            Ground::SmallDisk => {
                node.power_off();
                small = Some(SmallDisk::over(&node, "/var/lib/etcd", "300m")?);
                node.power_on().await?;
                node.up().await?;
            }
            Ground::OwnDisk => {
                node.power_off();
                node.put_etcd_on_a_disk().await?;
                node.power_on().await?;
                node.up().await?;
            }
            Ground::Plain | Ground::Audited | Ground::SmallQuota => {}
        }
        Ok(Self { small, node })
    }

    /// Brings the fault about. What has to be done before the fault is over when its moment begins.
    ///
    /// # Errors
    /// When it cannot be brought about.
    pub(super) async fn break_it(&mut self, breakage: Breakage) -> Result<Moment> {
        let node = &mut self.node;
        match breakage {
            Breakage::Flag(component) => {
                let now = Moment::now();
                node.edit_manifest(&component.file(), |text| with_flag(text, component, UNKNOWN))?;
                Ok(now)
            }
            Breakage::GoodFlag(component) => {
                let now = Moment::now();
                node.edit_manifest(&component.file(), |text| with_flag(text, component, GOOD))?;
                Ok(now)
            }
            Breakage::Image(component) => {
                let release = node.cluster().kubernetes.clone();
                let now = Moment::now();
                node.edit_manifest(&component.file(), |text| text.replacen(&release, "v0.0.0-none", 1))?;
                Ok(now)
            }
            Breakage::Empty(component) => {
                let now = Moment::now();
                node.write_manifest(&component.file(), "", Writing::Plain)?;
                Ok(now)
            }
            Breakage::Delete(component) => {
                let now = Moment::now();
                node.remove_manifest(&component.file())?;
                Ok(now)
            }
            Breakage::Copy(component) => {
                let older = with_flag(&node.manifest_text(&component.file())?, component, "--v=3");
                let now = Moment::now();
                node.write_manifest(&format!("{}.bak", component.file()), &older, Writing::Plain)?;
                Ok(now)
            }
            Breakage::Audit => {
                let now = Moment::now();
                write(&node.path(AUDIT_FILE), &AUDIT.replace("Metadata", "Everything"))?;
                node.tell(Component::ApiServer.name(), "crash").await?;
                Ok(now)
            }
            Breakage::Stop(component) => {
                let now = Moment::now();
                node.exec(&["pkill", "-STOP", "-f", &format!("^{} ", component.name())]).await?.success()?;
                Ok(now)
            }
            Breakage::StopKubelet => {
                let now = Moment::now();
                node.kubelet().signal(Signal::SIGSTOP).await?;
                Ok(now)
            }
            Breakage::StopRuntime => {
                let now = Moment::now();
                node.containerd().signal(Signal::SIGSTOP).await?;
                Ok(now)
            }
            Breakage::Tell(component, what) => {
                let now = Moment::now();
                node.tell(component.name(), what).await?;
                Ok(now)
            }
            Breakage::StopMembers => {
                let now = Moment::now();
                for number in OTHERS {
                    node.signal_member(number, "STOP").await?;
                }
                Ok(now)
            }
            Breakage::WriteFull => {
                node.sh(&fill(10)).await.context("full too early")?;
                let now = Moment::now();
                let filled = node.sh(&fill(30)).await;
                ensure!(filled.is_err(), "etcd took more than its quota");
                Ok(now)
            }
            Breakage::FillDisk => {
                let small = self.small.as_ref().context("this ground has no small disk")?;
                let now = Moment::now();
                small.fill()?;
                Ok(now)
            }
            Breakage::EndCertificate => {
                let now = Moment::now();
                node.end_certificate("apiserver")?;
                node.tell(Component::ApiServer.name(), "crash").await?;
                Ok(now)
            }
            Breakage::Boot(component) => {
                node.power_off();
                node.edit_manifest(&component.file(), |text| with_flag(text, component, UNKNOWN))?;
                let now = Moment::now();
                node.power_on().await?;
                Ok(now)
            }
            Breakage::Restore => restore(node).await,
            Breakage::LoseDisk => {
                node.power_off();
                node.etcd_disk_at_boot(Disk::Missing)?;
                let now = Moment::now();
                node.power_on().await?;
                Ok(now)
            }
        }
    }
}

const UNKNOWN: &str = "--no-such-flag=1";
/// etcd's default, written down.
const GOOD: &str = "--heartbeat-interval=100";
const QUOTA: &str = "--quota-backend-bytes=20000000";

fn with_flag(manifest: &str, component: Component, flag: &str) -> String {
    let command = format!("- {component}\n");
    manifest.replacen(&command, &format!("{command}    - {flag}\n"), 1)
}

fn audited(manifest: &str) -> String {
    let mount = format!("    volumeMounts:\n    - mountPath: {AUDIT_FILE}\n      name: audit\n      readOnly: true\n");
    let volume = format!("  volumes:\n  - hostPath:\n      path: {AUDIT_FILE}\n      type: File\n    name: audit\n");
    with_flag(manifest, Component::ApiServer, &format!("--audit-policy-file={AUDIT_FILE}"))
        .replacen("    volumeMounts:\n", &mount, 1)
        .replacen("  volumes:\n", &volume, 1)
}

/// Shell words that write so many megabytes, and fail when etcd takes no more.
fn fill(megabytes: u32) -> String {
    format!(
        "i=0; while [ $i -lt {megabytes} ]; do head -c 1000000 /dev/zero | tr '\\0' x | {ETCDCTL} put /lab/fill-$i \
         >/dev/null || exit 1; i=$((i+1)); done"
    )
}

/// A person with etcd's own tool: snapshot, more writes, etcd's manifest out, the older data in, the manifest back.
async fn restore(node: &Node) -> Result<Moment> {
    node.etcdctl(&["snapshot", "save", "/root/saved.db"]).await?;
    for number in 0..40 {
        node.put_data("/lab/later", &number.to_string()).await?;
    }
    // The agent looks at the revision every few seconds; the later ones are the world that is lost.
    sleep(Duration::from_secs(15)).await;
    node.take_out(Component::Etcd).await?;
    node.restore_etcd_data("/root/saved.db", "before").await?;
    let now = Moment::now();
    node.put_back(Component::Etcd)?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;
    use crate::manifests::{Cluster, EtcdVersion};

    #[test]
    fn an_audited_api_server_is_a_pod_that_mounts_what_its_flag_names() {
        let cluster = Cluster {
            node: "master-1".to_owned(),
            etcd: EtcdVersion::V35,
            etcd_release: "3.5.9".to_owned(),
            kubernetes: images::KUBERNETES.to_owned(),
        };
        let text = audited(&cluster.manifest(Component::ApiServer));
        let pod: k8s_openapi::api::core::v1::Pod = serde_yaml::from_str(&text).expect("a pod");
        let container = &pod.spec.expect("a spec").containers[0];
        let command = container.command.clone().unwrap_or_default();
        assert!(command.iter().any(|word| word == &format!("--audit-policy-file={AUDIT_FILE}")), "{command:?}");
        assert!(container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == AUDIT_FILE));
    }
}
