//! The node itself: it comes up, keeps what was written over a power cut, and leaves nothing behind.

use std::time::{Duration, Instant};

use anyhow::Result;
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::{AtBoot, Node};

#[tokio::test]
async fn a_node_boots_and_answers() -> Result<()> {
    let began = Instant::now();
    let node = Node::builder()
        .components(&[Component::Etcd])
        .etcd(EtcdVersion::V34)
        .kubelet(AtBoot::Absent)
        .start()
        .await?;
    eprintln!("booted after {:?}", began.elapsed());
    let out = node
        .exec(&[
            "sh",
            "-c",
            "hostname; ls /; cat /proc/1/comm; ip addr; ls -la /etc /lab; ps ax",
        ])
        .await?;
    eprintln!("{out:?}");
    for _ in 0..50 {
        if node.runtime().await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("containerd after {:?}", began.elapsed());
    eprintln!("{:?}", node.sandboxes().await);
    let out = node.exec(&["ctr", "-n", "k8s.io", "images", "ls"]).await?;
    eprintln!("{}", out.stdout);
    eprintln!("{}", node.containerd().log().lines().last().unwrap_or_default());
    let t = Instant::now();
    drop(node);
    eprintln!("dropped in {:?}", t.elapsed());
    Ok(())
}
