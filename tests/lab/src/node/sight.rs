//! What can be seen of a node from outside: who serves, which containers there are, what etcd holds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use super::containers::{Container, Runtime, Sandbox};
use super::{LOOK_AGAIN, Node, health, spec};
use crate::manifests::Component;

impl Node {
    /// Whether a component serves now.
    ///
    /// # Errors
    /// When it does not: the reason.
    pub async fn serving(&self, component: Component) -> Result<()> {
        let answer = self.health(component).await?;
        match answer.status {
            200 => Ok(()),
            status => bail!("{component} answers {status}: {}", answer.body.trim()),
        }
    }

    /// What a component's health endpoint answers now.
    ///
    /// # Errors
    /// When it gives no answer.
    pub async fn health(&self, component: Component) -> Result<health::Answer> {
        let client = self.path("/etc/kubernetes/pki/apiserver-kubelet-client");
        health::get(&self.running()?.network, &component.health(), &client).await
    }

    /// Waits until a component serves; returns how long that took.
    ///
    /// # Errors
    /// When it does not within `deadline`: the last reason, and the kubelet's last words.
    pub async fn await_serving(&self, component: Component, deadline: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let Err(why) = self.serving(component).await else {
                return Ok(began.elapsed());
            };
            if began.elapsed() > deadline {
                let said = self.kubelet().log();
                let lines: Vec<_> = said.lines().collect();
                let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                let why = why.context(format!("{component} does not serve after {deadline:?}"));
                return Err(why.context(format!("the kubelet's last lines:\n{tail}\n")));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The container runtime of the node.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn runtime(&self) -> Result<Runtime> {
        Runtime::connect(&self.inside(spec::RUNTIME)?).await
    }

    /// The containers of a component, oldest first, the dead ones too as far as they are kept.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn containers(&self, component: Component) -> Result<Vec<Container>> {
        self.runtime().await?.containers(component.name()).await
    }

    /// All sandboxes, oldest first.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn sandboxes(&self) -> Result<Vec<Sandbox>> {
        self.runtime().await?.sandboxes().await
    }

    /// A TCP connection to a port on the node's 127.0.0.1.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(&self, port: u16) -> Result<tokio::net::TcpStream> {
        self.running()?.network.connect(port, Duration::from_secs(5)).await
    }

    /// Runs etcdctl with the health check's client certificate.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub async fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let mut command = vec![
            "/lab/etcd/etcdctl",
            "--endpoints=https://127.0.0.1:2379",
            "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
            "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
            "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
        ];
        command.extend(args);
        self.exec(&command).await?.success().with_context(|| format!("etcdctl {}", args.join(" ")))
    }

    /// Writes a key through the quorum.
    ///
    /// # Errors
    /// When etcd does not acknowledge it.
    pub async fn put_data(&self, key: &str, value: &str) -> Result<()> {
        self.etcdctl(&["put", key, value]).await.map(drop)
    }

    /// Reads a key through the quorum; none where there is no such key.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn get_data(&self, key: &str) -> Result<Option<String>> {
        let said = self.etcdctl(&["get", key, "--print-value-only"]).await?;
        Ok(said.strip_suffix('\n').map(str::to_owned))
    }
}
