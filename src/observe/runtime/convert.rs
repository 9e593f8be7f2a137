//! Converts the runtime's answers to model types. The only I/O is for a container's command line and the end of its
//! log.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::log;
use crate::cri::v1 as cri;
use crate::model::observation::{ContainerRun, ContainerState, PodRun, SandboxState, Work};
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
    /// Of its first process, if it runs in our PID namespace.
    pid: Option<i32>,
    log: PathBuf,
    command_line: Option<Vec<String>>,
    log_tail: Option<String>,
}

/// Whose pod a sandbox is: of a static pod of this node, that is, one that a file gave, under the name the kubelet made of
/// the manifest's and the node's. The node may have had another name when the pod was made.
pub(super) fn component_of(sandbox: &cri::PodSandbox, nodes: &[String]) -> Option<ComponentId> {
    if sandbox.annotations.get(SOURCE).map(String::as_str) != Some("file") {
        return None;
    }
    let of_node = |node: &String| sandbox.labels.get(POD_NAME)?.strip_suffix(node.as_str())?.strip_suffix('-');
    let name = nodes.iter().find_map(of_node)?;
    let namespace = sandbox.labels.get(POD_NAMESPACE)?;
    (component::is_dns_name(name) && component::is_dns_name(namespace)).then(|| ComponentId::new(namespace, name))
}

/// The latest attempt of every container of static pods of this node.
pub(super) fn latest_containers(
    sandboxes: &[cri::PodSandbox],
    containers: Vec<cri::Container>,
    nodes: &[String],
) -> Vec<Latest> {
    let mut latest: BTreeMap<(String, String), (u32, i64, Latest)> = BTreeMap::new();
    for container in containers {
        let ours = |s: &&cri::PodSandbox| s.id == container.pod_sandbox_id && component_of(s, nodes).is_some();
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
        // The listing and this answer may be on either side of a change; the next listing will then differ.
        listed: if status.state == listed { listed } else { -1 },
        state,
        id: status.id,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        pid: answer.info.get("info").and_then(|info| pid_of(info)),
        log: status.log_path.into(),
        command_line: None,
        log_tail: None,
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
                self.pid = self.pid.filter(ours);
                let line = self.pid.and_then(proc::command_line);
                self.command_line = line.filter(|line| !is_launcher(line));
            }
            ContainerState::Exited { .. } => self.log_tail = log::log_tail(&self.log),
            ContainerState::Created | ContainerState::Unknown => {}
        }
        self
    }

    /// Where its log is.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The process that is to be looked at in each pass, while it runs.
    pub(super) fn process(&self) -> Option<i32> {
        matches!(self.state, ContainerState::Running { .. }).then_some(self.pid).flatten()
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
    work: &HashMap<String, Work>,
    nodes: &[String],
) -> Seen {
    let mut pods: Vec<PodRun> = sandboxes
        .iter()
        .filter_map(|sandbox| {
            Some(PodRun {
                component: component_of(sandbox, nodes)?,
                uid: sandbox.labels.get(POD_UID)?.clone(),
                sandbox: sandbox.id.clone(),
                created: clock::of_nanoseconds(sandbox.created_at),
                ready: state_of(sandbox),
                containers: latest
                    .iter()
                    .filter(|container| container.sandbox == sandbox.id)
                    .filter_map(|container| {
                        let work = work.get(&container.id).copied();
                        Some(ContainerRun { work, ..run_of(container, details.get(&container.id)?) })
                    })
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
        log_tail: details.log_tail.clone(),
        work: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::observe::testing::fixture;

    fn json(name: &str) -> Value {
        serde_json::from_slice(&fixture(&format!("cri/{name}"))).unwrap()
    }

    fn text(value: &Value, key: &str) -> String {
        value[key].as_str().unwrap_or_default().to_owned()
    }

    fn map(value: &Value) -> HashMap<String, String> {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn sandboxes() -> Vec<cri::PodSandbox> {
        let all = json("pods.json")["items"].as_array().unwrap().clone();
        all.iter()
            .map(|item| cri::PodSandbox {
                id: text(item, "id"),
                state: cri::PodSandboxState::from_str_name(&text(item, "state")).unwrap() as i32,
                created_at: text(item, "createdAt").parse().unwrap(),
                labels: map(&item["labels"]),
                annotations: map(&item["annotations"]),
                ..cri::PodSandbox::default()
            })
            .collect()
    }

    fn containers(name: &str) -> Vec<cri::Container> {
        let all = json(name)["containers"].as_array().unwrap().clone();
        all.iter()
            .map(|item| cri::Container {
                id: text(item, "id"),
                pod_sandbox_id: text(item, "podSandboxId"),
                metadata: Some(cri::ContainerMetadata {
                    name: text(&item["metadata"], "name"),
                    attempt: item["metadata"]["attempt"].as_u64().unwrap() as u32,
                }),
                image: Some(cri::ImageSpec {
                    image: text(&item["image"], "image"),
                    user_specified_image: text(&item["image"], "userSpecifiedImage"),
                    ..cri::ImageSpec::default()
                }),
                image_ref: text(item, "imageRef"),
                state: cri::ContainerState::from_str_name(&text(item, "state")).unwrap() as i32,
                created_at: text(item, "createdAt").parse().unwrap(),
                labels: map(&item["labels"]),
                ..cri::Container::default()
            })
            .collect()
    }

    fn crashed() -> cri::ContainerStatusResponse {
        let status = &json("cri-inspect-apiserver-crashloop.json")["status"];
        let number = |key: &str| text(status, key).parse().unwrap();
        cri::ContainerStatusResponse {
            status: Some(cri::ContainerStatus {
                id: text(status, "id"),
                state: cri::ContainerState::from_str_name(&text(status, "state")).unwrap() as i32,
                started_at: number("startedAt"),
                finished_at: number("finishedAt"),
                exit_code: status["exitCode"].as_i64().unwrap() as i32,
                reason: text(status, "reason"),
                image: Some(cri::ImageSpec { image: text(&status["image"], "image"), ..cri::ImageSpec::default() }),
                log_path: text(status, "logPath"),
                ..cri::ContainerStatus::default()
            }),
            info: [("info".to_owned(), "{\"sandboxID\":\"x\",\"pid\":4711}".to_owned())].into(),
        }
    }

    #[test]
    fn the_four_of_a_kubeadm_node_are_seen_with_their_containers() {
        let sandboxes = sandboxes();
        let latest = latest_containers(&sandboxes, containers("containers.json"), &["vm".to_owned()]);
        let running = |container: &Latest| {
            let status = cri::ContainerStatus {
                id: container.id.clone(),
                state: container.state,
                started_at: 1,
                ..Default::default()
            };
            let answer = cri::ContainerStatusResponse { status: Some(status), info: HashMap::new() };
            (container.id.clone(), details_of(answer, container.state).unwrap())
        };
        let details = latest.iter().map(running).collect();
        let seen = assemble(&sandboxes, &latest, &details, &HashMap::new(), &["vm".to_owned()]);
        let names: Vec<String> = seen.pods.iter().map(|pod| pod.component.to_string()).collect();
        assert_eq!(names, ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]);
        let etcd = &seen.pods[0];
        assert_eq!(etcd.uid, "9567c9afacbff3dd18c9ae8e153d59ae");
        assert_eq!(etcd.ready, SandboxState::Ready);
        assert_eq!(etcd.created.as_nanosecond(), 1_795_377_876_225_404_212);
        assert_eq!(etcd.containers[0].image, "registry.k8s.io/etcd:3.6.13-0", "as the manifest named it");
        assert!(matches!(etcd.containers[0].state, ContainerState::Running { .. }));
        assert_eq!(seen.newest_from_api, None);

        assert_eq!(
            assemble(&sandboxes, &latest, &details, &HashMap::new(), &["other".to_owned()]).pods,
            [],
            "another node's name"
        );
        let both = ["renamed".to_owned(), "vm".to_owned()];
        let pods = assemble(&sandboxes, &latest, &details, &HashMap::new(), &both).pods;
        assert_eq!(pods, seen.pods, "the node was renamed, and its pods have the name from before");
        let mut from_api = sandboxes.clone();
        from_api[1].annotations.insert(SOURCE.into(), "api".into());
        let seen = assemble(&from_api, &latest, &details, &HashMap::new(), &["vm".to_owned()]);
        assert_eq!(seen.pods.len(), 3, "what an API server gave is no static pod");
        assert_eq!(seen.newest_from_api, Some(clock::of_nanoseconds(from_api[1].created_at)));
    }

    #[test]
    fn of_each_container_only_the_latest_attempt_counts() {
        let mut sandboxes = sandboxes();
        let containers = containers("cri-ps-crashloop.json");
        let scheduler = containers.iter().find(|c| c.metadata.as_ref().unwrap().name == "kube-scheduler").unwrap();
        sandboxes[3].id.clone_from(&scheduler.pod_sandbox_id);
        let latest = latest_containers(&sandboxes, containers, &["vm".to_owned()]);
        assert_eq!(latest.len(), 1, "the others' sandboxes are not there");
        assert_eq!((latest[0].name.as_str(), latest[0].attempt), ("kube-scheduler", 4));
    }

    /// The recorded answers of a node, and a later sandbox of a changed etcd, as another pod has it: its ID, UID, hash, time and
    /// containers. A runtime lists the newest first.
    #[test]
    fn two_sandboxes_of_one_pod_are_both_seen_with_the_containers_of_each() {
        let mut sandboxes = sandboxes();
        let mut containers = containers("containers.json");
        let at = sandboxes.iter().position(|s| s.labels["io.kubernetes.pod.name"] == "etcd-vm").unwrap();
        let earlier = sandboxes[at].clone();
        let mut later = earlier.clone();
        (later.id, later.created_at) = ("later".into(), earlier.created_at + 30_000_000_000);
        later.labels.insert(POD_UID.into(), "0a1b".into());
        later.annotations.insert("kubernetes.io/config.hash".into(), "0a1b".into());
        sandboxes.insert(0, later);
        let running = containers.iter().find(|c| c.pod_sandbox_id == earlier.id).unwrap().clone();
        for attempt in [1, 2] {
            let mut crashed = running.clone();
            (crashed.id, crashed.pod_sandbox_id) = (format!("crashed-{attempt}"), "later".into());
            crashed.metadata.as_mut().unwrap().attempt = attempt;
            crashed.labels.insert(POD_UID.into(), "0a1b".into());
            crashed.created_at += 40_000_000_000;
            crashed.state = cri::ContainerState::ContainerExited as i32;
            containers.insert(0, crashed);
        }
        let latest = latest_containers(&sandboxes, containers, &["vm".to_owned()]);
        let details = latest.iter().map(|container| {
            let status = cri::ContainerStatus {
                id: container.id.clone(),
                state: container.state,
                started_at: 1,
                finished_at: 2,
                ..Default::default()
            };
            let answer = cri::ContainerStatusResponse { status: Some(status), info: HashMap::new() };
            (container.id.clone(), details_of(answer, container.state).unwrap())
        });
        let seen = assemble(&sandboxes, &latest, &details.collect(), &HashMap::new(), &["vm".to_owned()]);
        let etcds: Vec<_> = seen.pods.iter().filter(|pod| pod.component.name() == "etcd").collect();
        let [first, second] = &etcds[..] else { panic!("{etcds:?}") };
        let identity = |pod: &PodRun| (pod.sandbox.clone(), pod.uid.clone(), pod.ready);
        let uid = earlier.labels[POD_UID].clone();
        assert_eq!(identity(first), (earlier.id.clone(), uid, SandboxState::Ready), "the earlier first");
        assert_eq!(identity(second), ("later".to_owned(), "0a1b".to_owned(), SandboxState::Ready));
        assert!(first.created < second.created);
        let containers = |pod: &PodRun| pod.containers.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
        assert_eq!((containers(first), containers(second)), (vec![running.id], vec!["crashed-2".to_owned()]));
        assert!(matches!(first.containers[0].state, ContainerState::Running { .. }));
        assert!(matches!(second.containers[0].state, ContainerState::Exited { .. }));
    }

    #[test]
    fn a_crash_is_told_with_its_code_and_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut answer = crashed();
        let log = dir.path().join("1.log");
        std::fs::write(&log, "2026-11-22T19:33:50Z stderr F Error: unknown flag: --no-such-flag\n").unwrap();
        if let Some(status) = &mut answer.status {
            status.log_path = log.display().to_string();
        }
        let exited = cri::ContainerState::ContainerExited as i32;
        let details = details_of(answer.clone(), exited).unwrap().with_traces();
        assert_eq!((details.pid, details.listed), (Some(4711), exited));
        assert_eq!(details.log_tail.as_deref(), Some("Error: unknown flag: --no-such-flag"));
        match &details.state {
            ContainerState::Exited { started, finished, code, reason } => {
                assert_eq!((*code, reason.as_str()), (1, "Error"));
                assert!(started < finished);
            }
            other => panic!("{other:?}"),
        }
        assert!(details.is_final());
        let running = cri::ContainerState::ContainerRunning as i32;
        assert_ne!(
            details_of(answer, running).unwrap().listed,
            running,
            "it changed since it was listed, and is asked again"
        );
    }

    #[test]
    fn a_command_line_is_only_read_of_a_process_that_is_in_the_container() {
        let mut answer = crashed();
        if let Some(status) = &mut answer.status {
            status.state = cri::ContainerState::ContainerRunning as i32;
        }
        answer.info = [("info".to_owned(), format!("{{\"pid\":{}}}", std::process::id()))].into();
        let details = details_of(answer, 1).unwrap().with_traces();
        assert_eq!(details.command_line, None, "that number is us");
        assert!(is_launcher(&["runc".into(), "init".into()]));
        assert!(!is_launcher(&["kube-apiserver".into(), "--a".into()]));
        assert_eq!(pid_of("no json"), None);
        assert_eq!(pid_of("{\"pid\": 0}"), None);
    }
}
