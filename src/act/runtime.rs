//! Stopping containers and sandboxes through CRI v1. What is stopped is asked about first: it must be of the component
//! it is stopped for.

use std::collections::HashMap;
use std::time::Duration;

use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerState, ContainerStatusRequest, PodSandboxState, PodSandboxStatusRequest, StopContainerRequest,
    StopPodSandboxRequest,
};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Deed, Hands, Outcome};
use crate::model::ComponentId;

/// The kubelet's labels on everything it starts (`pkg/kubelet/types/labels.go`).
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Stopping a sandbox kills what still runs in it, then unmounts and takes the network down: longer than a question.
const SANDBOX_MARGIN: Duration = Duration::from_secs(10);

/// Why a call came to nothing: a sentence.
type Failure = String;

impl Hands {
    pub(super) async fn stop_container(&self, component: &ComponentId, id: &str, grace: Duration) -> Deed {
        let stopped = self.try_stop_container(component, id, grace).await;
        Ok(stopped.unwrap_or_else(|why| Outcome::Failed(format!("cannot stop container {id} of {component}: {why}"))))
    }

    async fn try_stop_container(&self, component: &ComponentId, id: &str, grace: Duration) -> Result<Outcome, Failure> {
        let mut runtime = self.connect().await?;
        let limit = self.settings.runtime.timeout;
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = match within(limit, runtime.container_status(request)).await? {
            Ok(answer) => answer.into_inner().status.ok_or("the runtime answered without a status")?,
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Outcome::Nothing(format!("container {id} of {component} is gone already")));
            }
            Err(status) => return Err(sentence(&status)),
        };
        if let Some(other) = stranger(component, &status.labels) {
            return Ok(Outcome::Refused(format!(
                "container {id} is not stopped: it is of {other}, not of {component}"
            )));
        }
        if status.state() == ContainerState::ContainerExited {
            return Ok(Outcome::Nothing(format!("container {id} of {component} has ended already")));
        }
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds };
        match within(grace.saturating_add(limit), runtime.stop_container(request)).await? {
            Ok(_) => Ok(Outcome::Done(format!("stopped container {id} of {component}"))),
            Err(status) if status.code() == Code::NotFound => {
                Ok(Outcome::Nothing(format!("container {id} of {component} is gone already")))
            }
            Err(status) => Err(sentence(&status)),
        }
    }

    pub(super) async fn stop_sandbox(&self, component: &ComponentId, id: &str) -> Deed {
        let stopped = self.try_stop_sandbox(component, id).await;
        Ok(stopped.unwrap_or_else(|why| Outcome::Failed(format!("cannot stop sandbox {id} of {component}: {why}"))))
    }

    async fn try_stop_sandbox(&self, component: &ComponentId, id: &str) -> Result<Outcome, Failure> {
        let mut runtime = self.connect().await?;
        let limit = self.settings.runtime.timeout;
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = match within(limit, runtime.pod_sandbox_status(request)).await? {
            Ok(answer) => answer.into_inner().status.ok_or("the runtime answered without a status")?,
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Outcome::Nothing(format!("sandbox {id} of {component} is gone already")));
            }
            Err(status) => return Err(sentence(&status)),
        };
        if let Some(other) = stranger(component, &status.labels) {
            return Ok(Outcome::Refused(format!("sandbox {id} is not stopped: it is of {other}, not of {component}")));
        }
        if status.state() == PodSandboxState::SandboxNotready {
            return Ok(Outcome::Nothing(format!("sandbox {id} of {component} is stopped already")));
        }
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        match within(limit.saturating_add(SANDBOX_MARGIN), runtime.stop_pod_sandbox(request)).await? {
            Ok(_) => Ok(Outcome::Done(format!("stopped sandbox {id} of {component}"))),
            Err(status) if status.code() == Code::NotFound => {
                Ok(Outcome::Nothing(format!("sandbox {id} of {component} is gone already")))
            }
            Err(status) => Err(sentence(&status)),
        }
    }

    async fn connect(&self) -> Result<RuntimeServiceClient<Channel>, Failure> {
        let endpoint = self.surroundings.runtime.as_ref().ok_or("no container runtime is known (runtime.endpoint)")?;
        // tonic knows `unix:`; a bare path is what the kubelet takes as well.
        let address = if endpoint.starts_with('/') { format!("unix://{endpoint}") } else { endpoint.clone() };
        let unreachable = |why: String| format!("the container runtime at {endpoint} does not answer: {why}");
        let target = Endpoint::from_shared(address).map_err(|error| unreachable(error.to_string()))?;
        let channel = match timeout(self.settings.runtime.timeout, target.connect()).await {
            Ok(connected) => connected.map_err(|error| unreachable(with_cause(&error)))?,
            Err(_) => return Err(unreachable("no connection in time".to_owned())),
        };
        Ok(RuntimeServiceClient::new(channel))
    }
}

/// A call with a deadline.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<Result<T, Status>, Failure> {
    timeout(limit, call).await.map_err(|_| format!("the runtime did not answer within {} s", limit.as_secs_f32()))
}

fn sentence(status: &Status) -> String {
    format!("the runtime says {:?}: {}", status.code(), status.message())
}

/// An error with what caused it: tonic's own sentence is only "transport error".
fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), with_cause)
}

/// Whose these labels say it is, if not the component's: the kubelet names a static pod `NAME-NODE`.
fn stranger(component: &ComponentId, labels: &HashMap<String, String>) -> Option<String> {
    let label = |key: &str| labels.get(key).map_or("nobody", String::as_str);
    let (namespace, name) = (label(POD_NAMESPACE), label(POD_NAME));
    let node = name.strip_prefix(&component.name).and_then(|rest| rest.strip_prefix('-'));
    (namespace != component.namespace || node.is_none_or(str::is_empty)).then(|| format!("{namespace}/{name}"))
}
