//! The runtime's answers, turned into our nouns. No I/O but for a container's command line and the end of its log.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_cri::v1::{self as cri};

use super::log;
use crate::model::observation::{ContainerRun, ContainerState, PodRun, SandboxState};
use crate::model::{ComponentId, component};
use crate::sys::{clock, proc};

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const SOURCE: &str = "kubernetes.io/config.source";

/// What the runtime knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::observe) struct Seen {
    /// The static pods of this node.
    pub(in crate::observe) pods: Vec<PodRun>,
    /// When the newest ready pod that came from an API server was created.
    pub(in crate::observe) newest_from_api: Option<Timestamp>,
}

/// The latest attempt of one container, as it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Latest {
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) image: String,
    pub(super) image_id: String,
    pub(super) state: i32,
}

/// What only ContainerStatus tells.
#[derive(Clone, Debug)]
pub(super) struct Details {
    /// The state as it was listed when this was asked.
    pub(super) listed: i32,
    pub(super) state: ContainerState,
    id: String,
    image: String,
    pid: Option<i32>,
    log: PathBuf,
    command_line: Option<Vec<String>>,
    last_words: Option<String>,
}

/// Whose pod a sandbox is: of a static pod of this node, that is, one that a file gave, under the name the kubelet made of
/// the manifest's and the node's.
pub(super) fn component_of(sandbox: &cri::PodSandbox, node: &str) -> Option<ComponentId> {
    if sandbox.annotations.get(SOURCE).map(String::as_str) != Some("file") {
        return None;
    }
    let name = sandbox.labels.get(POD_NAME)?.strip_suffix(node)?.strip_suffix('-')?;
    let namespace = sandbox.labels.get(POD_NAMESPACE)?;
    (component::is_dns_name(name) && component::is_dns_name(namespace)).then(|| ComponentId::new(namespace, name))
}

/// The latest attempt of every container of static pods of this node.
pub(super) fn latest_containers(
    sandboxes: &[cri::PodSandbox],
    containers: Vec<cri::Container>,
    node: &str,
) -> Vec<Latest> {
    let mut latest: BTreeMap<(String, String), (u32, i64, Latest)> = BTreeMap::new();
    for container in containers {
        let ours = |s: &&cri::PodSandbox| s.id == container.pod_sandbox_id && component_of(s, node).is_some();
        if sandboxes.iter().find(ours).is_none() {
            continue;
        }
        let (name, attempt) = match (&container.metadata, container.labels.get(CONTAINER_NAME)) {
            (Some(metadata), _) => (metadata.name.clone(), metadata.attempt),
            (None, Some(name)) => (name.clone(), 0),
            (None, None) => continue,
        };
        let image = container.image.unwrap_or_default();
        let named = if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image };
        let key = (container.pod_sandbox_id.clone(), name.clone());
        let order = (attempt, container.created_at);
        if latest.get(&key).is_none_or(|(attempt, created, _)| order > (*attempt, *created)) {
            let found = Latest {
                id: container.id,
                sandbox: container.pod_sandbox_id,
                name,
                attempt,
                image: named,
                image_id: container.image_ref,
                state: container.state,
            };
            latest.insert(key, (order.0, order.1, found));
        }
    }
    latest.into_values().map(|(_, _, latest)| latest).collect()
}

/// What a container's status tells.
pub(super) fn details_of(answer: cri::ContainerStatusResponse, listed: i32) -> Option<Details> {
    let status = answer.status?;
    let started = clock::of_nanoseconds(status.started_at);
    let state = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(cri::ContainerState::ContainerRunning) => ContainerState::Running { started },
        Ok(cri::ContainerState::ContainerExited) => ContainerState::Exited {
            started,
            finished: clock::of_nanoseconds(status.finished_at),
            code: status.exit_code,
            reason: status.reason,
        },
        Ok(cri::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    };
    Some(Details {
        // The listing and this answer may lie on either side of a change; the next listing will then differ.
        listed: if status.state == listed { listed } else { -1 },
        state,
        id: status.id,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        pid: answer.info.get("info").and_then(|info| pid_of(info)),
        log: status.log_path.into(),
        command_line: None,
        last_words: None,
    })
}

/// containerd and CRI-O both put a JSON document with a `pid` under `info`.
fn pid_of(info: &str) -> Option<i32> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    i32::try_from(info.get("pid")?.as_i64()?).ok().filter(|pid| *pid > 0)
}

impl Details {
    /// Adds what the process and the log tell. Blocks.
    pub(super) fn with_traces(mut self) -> Self {
        match &self.state {
            ContainerState::Running { .. } => {
                // In another PID namespace the number is another process; its control group tells.
                let ours = |pid: &i32| proc::container_of(*pid).is_some_and(|container| container == self.id);
                let line = self.pid.filter(ours).and_then(proc::command_line);
                self.command_line = line.filter(|line| !is_launcher(line));
            }
            ContainerState::Exited { .. } => self.last_words = log::last_words(&self.log),
            ContainerState::Created | ContainerState::Unknown => {}
        }
        self
    }
}

/// Between its start and its exec a container's process is the runtime's own.
fn is_launcher(line: &[String]) -> bool {
    matches!(line, [program, word, ..] if (program.ends_with("runc") || program.ends_with("crun")) && word == "init")
}

/// Puts pods and containers together.
pub(super) fn assemble(
    sandboxes: &[cri::PodSandbox],
    latest: &[Latest],
    details: &HashMap<String, Details>,
    node: &str,
) -> Seen {
    let mut pods: Vec<PodRun> = sandboxes
        .iter()
        .filter_map(|sandbox| {
            Some(PodRun {
                component: component_of(sandbox, node)?,
                uid: sandbox.labels.get(POD_UID)?.clone(),
                sandbox: sandbox.id.clone(),
                created: clock::of_nanoseconds(sandbox.created_at),
                ready: state_of(sandbox),
                containers: latest
                    .iter()
                    .filter(|container| container.sandbox == sandbox.id)
                    .filter_map(|container| run_of(container, details.get(&container.id)?).into())
                    .collect(),
            })
        })
        .collect();
    pods.sort_by(|a, b| (&a.component, a.created).cmp(&(&b.component, b.created)));
    let from_api = |sandbox: &&cri::PodSandbox| {
        sandbox.annotations.get(SOURCE).map(String::as_str) == Some("api") && state_of(sandbox) == SandboxState::Ready
    };
    let newest = sandboxes.iter().filter(from_api).map(|sandbox| sandbox.created_at).max();
    Seen { pods, newest_from_api: newest.map(clock::of_nanoseconds) }
}

fn state_of(sandbox: &cri::PodSandbox) -> SandboxState {
    match cri::PodSandboxState::try_from(sandbox.state) {
        Ok(cri::PodSandboxState::SandboxReady) => SandboxState::Ready,
        _ => SandboxState::NotReady,
    }
}

fn run_of(container: &Latest, details: &Details) -> ContainerRun {
    // The listing has the name the manifest used, where the runtime keeps it; the status has a tag; the rest is a digest.
    let named = !container.image.is_empty() && !container.image.starts_with("sha256:");
    let image = if named || details.image.is_empty() { &container.image } else { &details.image };
    ContainerRun {
        id: container.id.clone(),
        name: container.name.clone(),
        attempt: container.attempt,
        image: image.clone(),
        image_id: container.image_id.clone(),
        state: details.state.clone(),
        command_line: details.command_line.clone(),
        last_words: details.last_words.clone(),
    }
}
