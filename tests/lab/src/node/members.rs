//! Two more members of the node's etcd cluster, each in a network namespace of its own, with certificates of the node's
//! own authority.
//!
//! ```text
//!   node's network                        m2's                m3's
//!   10.77.0.1 on bridge etcd0 ─── veth ─── 10.77.0.2    veth ─── 10.77.0.3
//!   etcd of the node (static pod)          etcd              etcd
//! ```
//!
//! They are processes of the node's process namespace, and their namespaces are mounted in it: when the node goes, they
//! go, and nothing has to be cleaned up.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::place::write;
use super::{LOOK_AGAIN, Node};
use crate::manifests::Component;
use crate::pki::{Authority, San, Usage};

/// How long a cluster may take to take a member in: it elects, and the member catches up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The members beside the node's own, by the last part of their address.
pub const OTHERS: [u8; 2] = [2, 3];

fn address(number: u8) -> String {
    format!("10.77.0.{number}")
}

impl Node {
    /// Makes the node's etcd, a cluster of one, one of three. Returns when all three serve.
    ///
    /// # Errors
    /// When a member does not join.
    pub async fn join_members(&self) -> Result<()> {
        self.sh("set -e; ip link add etcd0 type bridge; ip addr add 10.77.0.1/24 dev etcd0; ip link set etcd0 up")
            .await?;
        for number in OTHERS {
            self.sh(&format!(
                "set -e; ip netns add m{number}; ip link add m{number}h type veth peer name eth0 netns m{number}; \
                 ip link set m{number}h master etcd0 up; ip -n m{number} link set lo up; \
                 ip -n m{number} addr add {address}/24 dev eth0; ip -n m{number} link set eth0 up",
                address = address(number)
            ))
            .await?;
        }
        let authority = Authority::load(&self.path("/etc/kubernetes/pki/etcd/ca"))?;
        for number in [1].iter().chain(&OTHERS) {
            let ip: IpAddr = address(*number).parse().context("an address")?;
            let sans = [San::Name("localhost"), San::Address(ip), San::Address(IpAddr::from([127, 0, 0, 1]))];
            let pair = authority.leaf(&format!("m{number}"), None, Usage::Both, &sans)?;
            let base = if *number == 1 {
                "/etc/kubernetes/pki/etcd/peer".to_owned()
            } else {
                format!("/var/lib/m{number}-pki")
            };
            write(&self.path(format!("{base}.crt")), &pair.cert)?;
            write(&self.path(format!("{base}.key")), &pair.key)?;
        }
        let listen = "--listen-peer-urls=https://127.0.0.1:2380";
        self.edit_manifest(&Component::Etcd.file(), |text| {
            text.replace(listen, &format!("{listen},https://10.77.0.1:2380"))
        })?;
        let own = self.until_known("its own ID", |node| async move { node.member_id(node.name()).await }).await?;
        self.until_known("listening for its peers", |node| async move {
            node.sh("ss -Htln | grep -q 10.77.0.1:2380").await
        })
        .await?;
        self.etcdctl(&["member", "update", &own, "--peer-urls=https://10.77.0.1:2380"]).await?;
        let mut cluster = format!("{}=https://10.77.0.1:2380", self.name());
        for number in OTHERS {
            let (name, peer) = (format!("m{number}"), format!("https://{}:2380", address(number)));
            let urls = format!("--peer-urls={peer}");
            self.until_known("another member", |node| {
                let (name, urls) = (name.clone(), urls.clone());
                async move { node.etcdctl(&["member", "add", &name, &urls]).await.map(drop) }
            })
            .await?;
            cluster.push_str(&format!(",{name}={peer}"));
            self.start_member(number, &cluster).await?;
            self.until_known("it serves", |node| async move { node.member_serves(number).await }).await?;
        }
        Ok(())
    }

    /// Kills a member at once. [`Node::start_member`] brings it back.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_member(&self, number: u8) -> Result<()> {
        self.signal_member(number, "KILL").await
    }

    /// Stops a member as a debugger would (`STOP`), or lets it go on (`CONT`).
    ///
    /// # Errors
    /// When it does not run.
    pub async fn signal_member(&self, number: u8, signal: &str) -> Result<()> {
        self.sh(&format!("kill -{signal} $(cat /run/m{number}.pid)")).await
    }

    /// Cuts the node off from the other members (`down`), or joins them again (`up`).
    ///
    /// # Errors
    /// When the link cannot be changed.
    pub async fn link_to_members(&self, way: &str) -> Result<()> {
        self.sh(&format!("ip link set etcd0 {way}")).await
    }

    /// Starts a member over the data it has.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_member(&self, number: u8, cluster: &str) -> Result<()> {
        let (address, pki) = (address(number), format!("/var/lib/m{number}-pki"));
        let ca = "/etc/kubernetes/pki/etcd/ca.crt";
        self.sh(&format!(
            "nsenter --net=/run/netns/m{number} /lab/etcd/etcd --name=m{number} --data-dir=/var/lib/m{number} \
             --listen-peer-urls=https://{address}:2380 --initial-advertise-peer-urls=https://{address}:2380 \
             --listen-client-urls=https://{address}:2379 --advertise-client-urls=https://{address}:2379 \
             --cert-file={pki}.crt --key-file={pki}.key --trusted-ca-file={ca} --client-cert-auth \
             --peer-cert-file={pki}.crt --peer-key-file={pki}.key --peer-trusted-ca-file={ca} --peer-client-cert-auth \
             --initial-cluster={cluster} --initial-cluster-state=existing </dev/null >>/var/log/m{number}.log 2>&1 & \
             echo $! >/run/m{number}.pid"
        ))
        .await
    }

    async fn member_serves(&self, number: u8) -> Result<()> {
        let endpoint = format!("--endpoints=https://{}:2379", address(number));
        self.etcdctl(&[&endpoint, "endpoint", "health"]).await.map(drop).with_context(|| {
            let log = fs::read_to_string(self.path(format!("/var/log/m{number}.log"))).unwrap_or_default();
            log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
        })
    }

    /// The ID of a member, as etcdctl takes it.
    ///
    /// # Errors
    /// When etcd does not answer, or has none of that name.
    pub async fn member_id(&self, name: &str) -> Result<String> {
        let listed = self.etcdctl(&["member", "list"]).await?;
        let line = listed.lines().find(|line| line.split(", ").nth(2) == Some(name));
        let id = line.and_then(|line| line.split(", ").next());
        id.map(str::to_owned).with_context(|| format!("no member {name} in {listed}"))
    }

    /// Runs a shell's words in the node; they must succeed.
    ///
    /// # Errors
    /// When they do not: what was said.
    pub async fn sh(&self, words: &str) -> Result<()> {
        self.exec(&["sh", "-c", words]).await?.success().with_context(|| words.to_owned()).map(drop)
    }

    async fn until_known<'n, T, F>(&'n self, what: &str, ask: impl Fn(&'n Self) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let began = Instant::now();
        loop {
            match ask(self).await {
                Ok(known) => return Ok(known),
                Err(error) if began.elapsed() > PATIENCE => {
                    return Err(error.context(format!("{}: not within {PATIENCE:?}: {what}", self.name())));
                }
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }
}
