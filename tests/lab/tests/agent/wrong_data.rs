//! etcd serves other data than before: another disk, a wrong path, an older copy, a new cluster. Without an agent so far: that
//! the means do what their names say, and the node comes up again.

use anyhow::{Context as _, Result, ensure};
use lastgood_lab::manifests::Component::{ApiServer, Etcd};
use lastgood_lab::node::Node;
use lastgood_lab::node::etcd_data::{Disk, Hand};

use crate::stage::SOON;

const REGISTRY: &str = "/registry";

/// Runs something while neither the API server nor etcd runs; both serve afterwards.
async fn meanwhile(node: &Node, work: impl AsyncFnOnce(&Node) -> Result<()>) -> Result<()> {
    node.take_out(ApiServer).await?;
    node.take_out(Etcd).await?;
    work(node).await?;
    node.put_back(Etcd)?;
    node.await_serving(Etcd, SOON).await?;
    node.put_back(ApiServer)?;
    node.await_serving(ApiServer, SOON).await.map(drop)
}

/// The UID of kube-system in the store that is served.
async fn uid(node: &Node) -> Result<String> {
    node.kube_system_uid(REGISTRY).await?.context("no API server has used this store")
}

#[tokio::test]
async fn other_data_than_before_can_be_played_in_every_way() -> Result<()> {
    let mut node = Node::builder().scale(0.1).components(&[Etcd, ApiServer]).start().await?;
    node.up().await?;
    let own = uid(&node).await?;
    node.put_data("/lab/early", "1").await?;
    node.etcdctl(&["snapshot", "save", "/root/early.db"]).await?;

    // A separate disk, with the same data; then an empty one over it.
    meanwhile(&node, async |node| {
        node.copy_etcd_data("early").await?;
        node.put_etcd_on_a_disk().await
    })
    .await?;
    let mount = node.etcd_mount().await?.context("nothing is mounted")?;
    ensure!(mount.0.starts_with("/dev/loop") && mount.1 == "ext4", "{mount:?}");
    ensure!(uid(&node).await? == own, "the data were to move along");
    node.put_data("/lab/late", "1").await?;
    meanwhile(&node, async |node| node.mount_over_etcd().await).await?;
    ensure!(node.etcd_mount().await?.is_some_and(|(_, kind)| kind == "tmpfs"), "{:?}", node.etcd_mount().await?);
    ensure!(uid(&node).await? != own && node.get_data("/lab/early").await?.is_none(), "the store is not another");

    // What is mounted over it goes; then the disk goes, at a boot, and comes back at the next.
    meanwhile(&node, async |node| node.unmount_etcd().await).await?;
    ensure!(uid(&node).await? == own, "the right store is not back");
    node.etcd_disk_at_boot(Disk::Missing)?;
    node.reboot().await?;
    node.up().await?;
    ensure!(node.etcd_mount().await?.is_none() && uid(&node).await? != own, "the disk was to be missing");
    node.etcd_disk_at_boot(Disk::Mounted)?;
    node.reboot().await?;
    node.up().await?;
    ensure!(uid(&node).await? == own && node.get_data("/lab/late").await?.is_some(), "the disk was to be back");

    // An older copy, a restore, nothing at all: the cluster is the same, or it is not.
    meanwhile(&node, async |node| node.bring_back_etcd_data("early", "late").await).await?;
    ensure!(uid(&node).await? == own && node.get_data("/lab/late").await?.is_none(), "no older copy");
    meanwhile(&node, async |node| node.restore_etcd_data("/root/early.db", "older").await).await?;
    ensure!(uid(&node).await? == own && node.get_data("/lab/early").await?.is_some(), "no restore");
    meanwhile(&node, async |node| node.empty_etcd_data("restored").await).await?;
    ensure!(uid(&node).await? != own && node.get_data("/lab/early").await?.is_none(), "not empty");
    Ok(())
}

#[tokio::test]
async fn a_store_of_another_prefix_and_a_new_cluster_can_be_played() -> Result<()> {
    let node = Node::builder().scale(0.1).components(&[Etcd, ApiServer]).start().await?;
    node.up().await?;
    let own = uid(&node).await?;

    node.edit_manifest(&ApiServer.file(), |text| {
        text.replacen("- kube-apiserver\n", "- kube-apiserver\n    - --etcd-prefix=/other\n", 1)
    })?;
    let began = std::time::Instant::now();
    while node.kube_system_uid("/other").await?.is_none() {
        ensure!(began.elapsed() < SOON, "the API server makes no namespace below its prefix");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    ensure!(
        node.kube_system_uid("/other").await?.as_ref() != Some(&own) && uid(&node).await? == own,
        "one UID for both"
    );

    let right = node.mistype_etcd_path("/var/lib/etcd-new")?;
    ensure!(right != node.manifest_text(&Etcd.file())?, "the manifest was to change");

    let ca = std::fs::read(node.path("/etc/kubernetes/pki/ca.crt"))?;
    node.kubeadm_reset_and_init(Hand::Kubeadm).await?;
    node.up().await?;
    ensure!(std::fs::read(node.path("/etc/kubernetes/pki/ca.crt"))? != ca, "the authority is the same");
    ensure!(node.manifest_text(&Etcd.file())? == right, "the manifests were to be as at first");
    ensure!(uid(&node).await? != own, "the cluster is the same");
    Ok(())
}
