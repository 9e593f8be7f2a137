//! Who is hurt: clients outside the node's control plane that ask for what it is there for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::election::kubeconfig::Kubeconfig;
use crate::manifests::{Component, Health, Transport};
use crate::node::containers::Life;
use crate::node::{Node, health};

/// No answer within this is none: longer than a busy machine takes for a good one.
const DEADLINE: Duration = Duration::from_secs(3);

/// A lease is renewed every 2 s; two renewals may be missed on a busy machine.
const STILL: Duration = Duration::from_secs(6);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// A write through the API server, whose certificate must be good.
    Write,
    /// That the lease of this component moves.
    Lease(Component),
    /// The kubelet's list of its pods.
    Kubelet,
    /// The runtime's list of its sandboxes.
    Runtime,
    /// A read through the API server, from the cluster that was there before the fault.
    Same,
    /// A write through an API server, and that it, the controller manager and the scheduler are younger than the fault.
    Fresh,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write => f.write_str("a write through the API server"),
            Self::Lease(component) => write!(f, "the lease of {component}"),
            Self::Kubelet => f.write_str("the kubelet's /pods"),
            Self::Runtime => f.write_str("the runtime's sandboxes"),
            Self::Same => f.write_str("the cluster from before"),
            Self::Fresh => f.write_str("processes that remember nothing from before"),
        }
    }
}

/// A client at work.
#[derive(Debug)]
pub(super) struct Asking {
    client: Client,
    admin: Kubeconfig,
    writes: u32,
    lease: Option<(String, Instant)>,
    /// The UID of kube-system as it was at first.
    cluster: Option<String>,
    /// When the fault was, in nanoseconds since 1970.
    fault: i64,
}

impl Asking {
    /// One that trusts the node's authority, as an administrator.
    ///
    /// # Errors
    /// When the administrator's kubeconfig cannot be read.
    pub(super) fn new(node: &Node, client: Client) -> Result<Self> {
        let admin = Kubeconfig::load(&node.path("/etc/kubernetes/admin.conf"))?;
        Ok(Self { client, admin, writes: 0, lease: None, cluster: None, fault: 0 })
    }

    /// Tells it when the fault was.
    pub(super) fn fault_at(&mut self, nanoseconds: i64) {
        self.fault = nanoseconds;
    }

    /// Asks once.
    ///
    /// # Errors
    /// When it is not served: why.
    pub(super) async fn ask(&mut self, node: &Node) -> Result<()> {
        let client = self.client;
        match timeout(DEADLINE, self.once(node)).await {
            Ok(served) => served,
            Err(_) => bail!("{client}: no answer within {DEADLINE:?}"),
        }
    }

    async fn once(&mut self, node: &Node) -> Result<()> {
        match self.client {
            Client::Write => self.write(node).await,
            Client::Lease(component) => self.lease(node, component).await,
            Client::Kubelet => {
                let pods = Health { port: 10250, path: "/pods", transport: Transport::Tls };
                let pair = node.path("/etc/kubernetes/pki/apiserver-kubelet-client");
                let answer = health::get(&node.running()?.network, &pods, &pair).await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
                Ok(())
            }
            Client::Runtime => node.sandboxes().await.map(drop),
            Client::Same => self.same(node).await,
            Client::Fresh => {
                for component in [Component::ApiServer, Component::ControllerManager, Component::Scheduler] {
                    let all = node.containers(component).await?;
                    let running = all.iter().rev().find(|container| container.state == Life::Running);
                    let made = running.with_context(|| format!("{component} does not run"))?.created_at;
                    ensure!(made > self.fault, "{component} is older than the fault");
                    node.serving(component).await?;
                }
                self.write(node).await
            }
        }
    }

    async fn write(&mut self, node: &Node) -> Result<()> {
        self.writes += 1;
        let name = format!("matrix-{}-{}", self.fault, self.writes);
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        let (status, body) = self.api(node, Method::POST, "/api/v1/namespaces/default/configmaps", object).await?;
        ensure!(status == StatusCode::CREATED, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    async fn lease(&mut self, node: &Node, component: Component) -> Result<()> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{component}");
        let (status, body) = self.api(node, Method::GET, &path, Value::Null).await?;
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        let lease: Value = serde_json::from_slice(&body).context("a lease")?;
        let renewed = lease["spec"]["renewTime"].as_str().context("never renewed")?;
        if self.lease.as_ref().is_none_or(|(known, _)| known != renewed) {
            self.lease = Some((renewed.to_owned(), Instant::now()));
        }
        let still = self.lease.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
        ensure!(still < STILL, "not renewed for {still:?}");
        Ok(())
    }

    async fn same(&mut self, node: &Node) -> Result<()> {
        let (status, body) = self.api(node, Method::GET, "/api/v1/namespaces/kube-system", Value::Null).await?;
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        let namespace: Value = serde_json::from_slice(&body).context("a namespace")?;
        let uid = namespace["metadata"]["uid"].as_str().context("without a UID")?;
        let known = self.cluster.get_or_insert_with(|| uid.to_owned());
        ensure!(known == uid, "another cluster: kube-system is {uid} and was {known}");
        Ok(())
    }

    /// A connection for each request: one that was made before the fault would tell less.
    async fn api(&self, node: &Node, method: Method, path: &str, body: Value) -> Result<(StatusCode, Bytes)> {
        let stream = node.running()?.network.connect(self.admin.port, DEADLINE).await?;
        let connector = TlsConnector::from(Arc::new(self.admin.tls.clone()));
        let stream = connector.connect(self.admin.name.clone(), stream).await.context("the TLS handshake failed")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        let request = request.header("content-type", "application/json").body(Full::new(body))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        }
        .await;
        driver.abort();
        answer
    }
}
