//! What the node's container runtime says, over CRI, as `crictl ps -a` would show it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::cri::{
    ContainerState, ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxState,
    RemovePodSandboxRequest, StopPodSandboxRequest,
};

/// containerd answers from memory; a longer wait means that it hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// A container of a static pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The pod's UID, which is the manifest's hash (`kubernetes.io/config.hash`).
    pub pod_uid: String,
    /// Which start of it this is, from 0.
    pub attempt: u32,
    /// How it stands.
    pub state: Life,
    /// The image's name as the manifest has it.
    pub image: String,
    /// When it was made, in nanoseconds since 1970.
    pub created_at: i64,
}

/// How a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Over.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// containerd does not know.
    Unknown,
}

/// A pod sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// The pod's name, node included, for example `etcd-master-1`.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// Whether it stands.
    pub ready: bool,
    /// When it was made, in nanoseconds since 1970.
    pub created_at: i64,
}

/// A connection to the runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    client: RuntimeServiceClient<Channel>,
}

impl Runtime {
    /// Connects to a CRI socket.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_path_buf();
        // The address is never used: the connector knows the way.
        let endpoint = Endpoint::from_static("http://runtime").timeout(DEADLINE).connect_timeout(DEADLINE);
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = match timeout(DEADLINE, endpoint.connect_with_connector(connector)).await {
            Ok(channel) => channel.with_context(|| format!("the runtime at {} does not answer", socket.display()))?,
            Err(_) => bail!("the runtime at {} does not answer within {DEADLINE:?}", socket.display()),
        };
        Ok(Self { client: RuntimeServiceClient::new(channel) })
    }

    /// Containers by the name that the manifest gives them, oldest first.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn containers(&mut self, name: &str) -> Result<Vec<Container>> {
        let listed = self.client.list_containers(ListContainersRequest { filter: None }).await?.into_inner().containers;
        let mut found = Vec::new();
        for item in listed {
            if item.labels.get("io.kubernetes.container.name").map(String::as_str) != Some(name) {
                continue;
            }
            let request = ContainerStatusRequest { container_id: item.id.clone(), verbose: false };
            // It may be removed between list and look.
            let Ok(status) = self.client.container_status(request).await else {
                continue;
            };
            let Some(status) = status.into_inner().status else {
                continue;
            };
            found.push(Container {
                id: item.id,
                pod_uid: item.labels.get("io.kubernetes.pod.uid").cloned().unwrap_or_default(),
                attempt: item.metadata.map(|m| m.attempt).unwrap_or_default(),
                state: match ContainerState::try_from(status.state) {
                    Ok(ContainerState::ContainerCreated) => Life::Created,
                    Ok(ContainerState::ContainerRunning) => Life::Running,
                    Ok(ContainerState::ContainerExited) => Life::Exited { code: status.exit_code },
                    _ => Life::Unknown,
                },
                image: status.image.map(|image| image.image).unwrap_or_default(),
                created_at: item.created_at,
            });
        }
        found.sort_by_key(|container| container.created_at);
        Ok(found)
    }

    /// Every container there is with the name its manifest gives it, and whether it runs: one question, whatever the number.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn names(&mut self) -> Result<Vec<(String, String, bool)>> {
        let listed = self.client.list_containers(ListContainersRequest { filter: None }).await?.into_inner().containers;
        let runs = |state: i32| state == ContainerState::ContainerRunning as i32;
        let name =
            |labels: &std::collections::HashMap<String, String>| labels.get("io.kubernetes.container.name").cloned();
        Ok(listed.into_iter().filter_map(|c| Some((c.id, name(&c.labels)?, runs(c.state)))).collect())
    }

    /// All sandboxes, oldest first.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn sandboxes(&mut self) -> Result<Vec<Sandbox>> {
        let listed = self.client.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await?.into_inner().items;
        let mut found: Vec<_> = listed
            .into_iter()
            .map(|item| {
                let metadata = item.metadata.unwrap_or_default();
                Sandbox {
                    id: item.id,
                    pod: metadata.name,
                    uid: metadata.uid,
                    ready: item.state == PodSandboxState::SandboxReady as i32,
                    created_at: item.created_at,
                }
            })
            .collect();
        found.sort_by_key(|sandbox| sandbox.created_at);
        Ok(found)
    }

    /// Stops and removes every sandbox with its containers, as `kubeadm reset` does.
    ///
    /// # Errors
    /// When the runtime does not answer, or cannot.
    pub async fn remove_sandboxes(&mut self) -> Result<()> {
        for Sandbox { id: pod_sandbox_id, pod, .. } in self.sandboxes().await? {
            let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
            self.client.stop_pod_sandbox(stop).await.with_context(|| format!("cannot stop the sandbox of {pod}"))?;
            let remove = RemovePodSandboxRequest { pod_sandbox_id };
            self.client
                .remove_pod_sandbox(remove)
                .await
                .with_context(|| format!("cannot remove the sandbox of {pod}"))?;
        }
        Ok(())
    }
}
