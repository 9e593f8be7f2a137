//! Two more members of the node's etcd cluster, each in its own network namespace, with certificates of the node's CA.
//!
//! ```text
//!   node's network                        m2's                m3's
//!   10.77.0.1 on bridge etcd0 ─── veth ─── 10.77.0.2    veth ─── 10.77.0.3
//!   etcd of the node (static pod)          etcd              etcd
//! ```
//!
//! They are processes of the node's process namespace, and their namespaces are mounted in it: they end with the node,
//! and nothing has to be cleaned up.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::cache::Cache;
use super::place::write;
use super::{LOOK_AGAIN, Node};
use crate::manifests::{Component, EtcdVersion};
use crate::pki::{Authority, Pair, San, Usage};

/// How long a cluster may take to take a member in: it elects, and the member catches up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The members beside the node's own, by the last part of their address.
pub const OTHERS: [u8; 2] = [2, 3];

fn address(number: u8) -> String {
    format!("10.77.0.{number}")
}

/// etcdctl's flag that asks this member instead of the node's own.
pub fn endpoint(number: u8) -> String {
    format!("--endpoints=https://{}:2379", address(number))
}

/// A peer's certificate and key; 1 is the node's own.
///
/// # Errors
/// When the key cannot be made.
pub fn peer_pair(authority: &Authority, number: u8) -> Result<Pair> {
    let ip: IpAddr = address(number).parse().context("an address")?;
    let sans = [San::Name("localhost"), San::Address(ip), San::Address(IpAddr::from([127, 0, 0, 1]))];
    authority.leaf(&format!("m{number}"), None, Usage::Both, &sans)
}

/// A line of the member list, as `--initial-cluster` has it; none of a member that never started.
fn named_url(line: &str) -> Option<String> {
    let mut fields = line.split(", ").skip(2);
    let (name, peer) = (fields.next()?, fields.next()?);
    (!name.is_empty()).then(|| format!("{name}={peer}"))
}

/// As what a member joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// With a vote.
    Voter,
    /// Without one, until it is promoted.
    Learner,
}

impl Node {
    /// Makes the node's etcd, a cluster of one, one of three. Returns when all three serve.
    ///
    /// # Errors
    /// When a member does not join.
    pub async fn join_members(&self) -> Result<()> {
        self.make_room_for_members().await?;
        for number in OTHERS {
            self.join_member(number, Joins::Voter).await?;
        }
        Ok(())
    }

    /// Networks and certificates for more members, and an address of the node's own that they can reach.
    ///
    /// # Errors
    /// When one of them cannot be made, or etcd does not take its new address.
    pub async fn make_room_for_members(&self) -> Result<()> {
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
            let base = if *number == 1 {
                "/etc/kubernetes/pki/etcd/peer".to_owned()
            } else {
                format!("/var/lib/m{number}-pki")
            };
            let pair = peer_pair(&authority, *number)?;
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
        self.etcdctl(&["member", "update", &own, "--peer-urls=https://10.77.0.1:2380"]).await.map(drop)
    }

    /// Adds one member to the cluster and starts it. Returns when it serves, or, as a learner, when it answers.
    ///
    /// # Errors
    /// When it does not join.
    pub async fn join_member(&self, number: u8, joins: Joins) -> Result<()> {
        let (name, peer) = (format!("m{number}"), format!("https://{}:2380", address(number)));
        let listed = self.until_known("its members", |node| async move { node.etcdctl(&["member", "list"]).await });
        let mut cluster: Vec<String> = listed.await?.lines().filter_map(named_url).collect();
        let urls = format!("--peer-urls={peer}");
        self.until_known("another member", |node| {
            let (name, urls) = (name.clone(), urls.clone());
            async move {
                let mut command = vec!["member", "add", &name, &urls];
                command.extend((joins == Joins::Learner).then_some("--learner"));
                node.etcdctl(&command).await.map(drop)
            }
        })
        .await?;
        cluster.push(format!("{name}={peer}"));
        self.start_member(number, &cluster.join(",")).await?;
        let asked = if joins == Joins::Learner { "status" } else { "health" };
        self.until_known("it serves", |node| async move { node.member_answers(number, asked).await }).await
    }

    /// Ends a member and starts it again, as another version of etcd.
    ///
    /// # Errors
    /// When it does not serve afterwards.
    pub async fn change_member(&self, number: u8, version: EtcdVersion) -> Result<()> {
        let from = Cache::open()?.path("etcd").join(version.series()).join("etcd");
        let to = self.path(format!("/var/lib/m{number}.etcd"));
        self.sh(&format!(
            "pid=$(cat /run/m{number}.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
        ))
        .await?;
        fs::copy(&from, &to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
        // It has its data, and with them its cluster.
        self.start_member(number, &format!("m{number}=https://{}:2380", address(number))).await?;
        self.until_known("it serves", |node| async move { node.member_answers(number, "health").await }).await
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
            "etcd=/lab/etcd/etcd; [ -x /var/lib/m{number}.etcd ] && etcd=/var/lib/m{number}.etcd; \
             nsenter --net=/run/netns/m{number} $etcd --name=m{number} --data-dir=/var/lib/m{number} \
             --listen-peer-urls=https://{address}:2380 --initial-advertise-peer-urls=https://{address}:2380 \
             --listen-client-urls=https://{address}:2379 --advertise-client-urls=https://{address}:2379 \
             --cert-file={pki}.crt --key-file={pki}.key --trusted-ca-file={ca} --client-cert-auth \
             --peer-cert-file={pki}.crt --peer-key-file={pki}.key --peer-trusted-ca-file={ca} --peer-client-cert-auth \
             --initial-cluster={cluster} --initial-cluster-state=existing </dev/null >>/var/log/m{number}.log 2>&1 & \
             echo $! >/run/m{number}.pid"
        ))
        .await
    }

    /// Asks a member for its `health`, which takes a quorum, or for its `status`, which does not.
    async fn member_answers(&self, number: u8, what: &str) -> Result<()> {
        self.etcdctl(&[&endpoint(number), "endpoint", what]).await.map(drop).with_context(|| {
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
