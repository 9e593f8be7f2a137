//! The container runtime: the few CRI calls the kubelet needs, each with a deadline.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::cri::image_service_client::ImageServiceClient;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::cri::{
    Container, ContainerConfig, ContainerStatus, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest,
    ImageSpec, ImageStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxConfig,
    PullImageRequest, RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopContainerRequest, StopPodSandboxRequest, VersionRequest,
};

/// `runtimeRequestTimeout` of the kubelet's configuration.
const REQUEST: Duration = Duration::from_secs(120);
/// A look should be quick; a runtime that hangs here hangs everywhere.
const LOOK: Duration = Duration::from_secs(10);

/// A handle on the runtime; cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    containers: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("the container runtime did not answer within {deadline:?}"))),
    }
}

impl Runtime {
    /// A handle on the runtime behind `socket`; connects when first used, and again when the runtime was restarted.
    ///
    /// # Errors
    /// A path that cannot be made an endpoint of.
    pub fn new(socket: &Path) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))
            .with_context(|| format!("{} is no socket path", socket.display()))?;
        let channel = endpoint.connect_lazy();
        Ok(Self {
            containers: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(16 << 20),
            images: ImageServiceClient::new(channel),
        })
    }

    /// Name and version of the runtime.
    ///
    /// # Errors
    /// No runtime, or none that speaks CRI v1.
    pub async fn version(&self) -> Result<String, Status> {
        let mut client = self.containers.clone();
        let answer = within(LOOK, client.version(VersionRequest { version: "v1".into() })).await?;
        Ok(format!("{} {}", answer.runtime_name, answer.runtime_version))
    }

    /// All sandboxes.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn sandboxes(&self) -> Result<Vec<PodSandbox>, Status> {
        let mut client = self.containers.clone();
        Ok(within(LOOK, client.list_pod_sandbox(ListPodSandboxRequest { filter: None })).await?.items)
    }

    /// All containers.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn containers(&self) -> Result<Vec<Container>, Status> {
        let mut client = self.containers.clone();
        Ok(within(LOOK, client.list_containers(ListContainersRequest { filter: None })).await?.containers)
    }

    /// One container in detail; none if it is gone.
    ///
    /// # Errors
    /// What the runtime says, but for "not found".
    pub async fn container_status(&self, id: &str) -> Result<Option<ContainerStatus>, Status> {
        let mut client = self.containers.clone();
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        match within(LOOK, client.container_status(request)).await {
            Ok(answer) => Ok(answer.status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Creates and starts a sandbox; its ID.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn run_sandbox(&self, config: PodSandboxConfig) -> Result<String, Status> {
        let mut client = self.containers.clone();
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(within(REQUEST * 2, client.run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    /// Stops a sandbox and whatever still runs in it, by SIGKILL.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let mut client = self.containers.clone();
        within(REQUEST, client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.into() })).await.map(drop)
    }

    /// Forgets a stopped sandbox.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let mut client = self.containers.clone();
        within(REQUEST, client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.into() }))
            .await
            .map(drop)
    }

    /// Creates a container; its ID.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn create(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String, Status> {
        let mut client = self.containers.clone();
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(within(REQUEST, client.create_container(request)).await?.container_id)
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn start(&self, id: &str) -> Result<(), Status> {
        let mut client = self.containers.clone();
        within(REQUEST, client.start_container(StartContainerRequest { container_id: id.into() })).await.map(drop)
    }

    /// SIGTERM, then SIGKILL after `grace` (whole seconds; zero kills at once).
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), Status> {
        let mut client = self.containers.clone();
        let timeout = i64::try_from(grace.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.into(), timeout };
        within(REQUEST + grace, client.stop_container(request)).await.map(drop)
    }

    /// Forgets an exited container.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove(&self, id: &str) -> Result<(), Status> {
        let mut client = self.containers.clone();
        within(REQUEST, client.remove_container(RemoveContainerRequest { container_id: id.into() })).await.map(drop)
    }

    /// Runs a command in a container; its exit code.
    ///
    /// # Errors
    /// What the runtime says, a time-out included.
    pub async fn exec(&self, id: &str, command: Vec<String>, deadline: Duration) -> Result<i32, Status> {
        let mut client = self.containers.clone();
        let timeout = i64::try_from(deadline.as_secs_f64().ceil() as u64).unwrap_or(1);
        let request = ExecSyncRequest { container_id: id.into(), cmd: command, timeout };
        Ok(within(deadline + Duration::from_secs(2), client.exec_sync(request)).await?.exit_code)
    }

    /// The reference of an image, if it is on the node.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn image(&self, name: &str) -> Result<Option<String>, Status> {
        let mut client = self.images.clone();
        let request = ImageStatusRequest { image: Some(image_spec(name)), verbose: false };
        Ok(within(LOOK, client.image_status(request)).await?.image.map(|image| image.id))
    }

    /// Fetches an image from its registry; its reference.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn pull(&self, name: &str) -> Result<String, Status> {
        let mut client = self.images.clone();
        let request = PullImageRequest { image: Some(image_spec(name)), auth: None, sandbox_config: None };
        Ok(within(REQUEST, client.pull_image(request)).await?.image_ref)
    }
}

/// An image by the name the manifest gives it.
#[must_use]
pub fn image_spec(name: &str) -> ImageSpec {
    ImageSpec {
        image: name.into(),
        annotations: HashMap::new(),
        user_specified_image: name.into(),
        runtime_handler: String::new(),
    }
}
