//! What /pods says of a pod: the runtime's last look, the probes' results and the reasons of failed starts, in the words
//! of the v1 API.
//!
//! A status is made at the *beginning* of a pod's sync from what was seen before it, so it trails the runtime by up to a
//! second, and a pod that is parked has none but "Pending".

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::manifest::{FullName, StaticPod, Uid};
use super::options::Settings;
use super::pleg::{PodState, Readiness};
use super::probes::Probes;
use super::spec::RESTART_COUNT;
use crate::cri::{ContainerState as Cri, ContainerStatus as CriStatus};

/// Why a container is not running, as its last start ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// `CrashLoopBackOff`, `ErrImagePull`, `ImagePullBackOff`, `CreateContainerError` …
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

/// The statuses by pod, the reasons by container.
#[derive(Debug, Default)]
pub struct Statuses {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    statuses: HashMap<Uid, PodStatus>,
    reasons: HashMap<(Uid, String), Reason>,
    // A pod inherits the start time of the previous pod of its name.
    start_times: HashMap<FullName, Time>,
}

impl Statuses {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status as last made.
    #[must_use]
    pub fn get(&self, uid: &Uid) -> Option<PodStatus> {
        self.inner().statuses.get(uid).cloned()
    }

    /// Records a status; conditions that did not change keep their time.
    pub fn set(&self, pod: &StaticPod, mut status: PodStatus) {
        let mut inner = self.inner();
        let start = inner.start_times.entry(pod.full_name.clone()).or_insert_with(now).clone();
        let before = inner.statuses.remove(&pod.uid);
        for condition in status.conditions.iter_mut().flatten() {
            let old = before.as_ref().and_then(|old| old.conditions.as_ref());
            let same = old
                .and_then(|old| old.iter().find(|one| one.type_ == condition.type_ && one.status == condition.status));
            let at = match (same, condition.type_.as_str()) {
                (Some(same), _) => same.last_transition_time.clone(),
                (None, "Initialized" | "PodScheduled") => Some(start.clone()),
                (None, _) => Some(now()),
            };
            condition.last_transition_time = at;
        }
        status.start_time = Some(start);
        inner.statuses.insert(pod.uid.clone(), status);
    }

    /// Records how the start of a container ended.
    pub fn set_reason(&self, uid: &Uid, container: &str, reason: Option<Reason>) {
        let key = (uid.clone(), container.to_owned());
        match reason {
            Some(reason) => self.inner().reasons.insert(key, reason),
            None => self.inner().reasons.remove(&key),
        };
    }

    fn reason(&self, uid: &Uid, container: &str) -> Option<Reason> {
        self.inner().reasons.get(&(uid.clone(), container.to_owned())).cloned()
    }

    /// Forgets pods that nobody knows any more.
    pub fn retain(&self, known: impl Fn(&Uid) -> bool) {
        let mut inner = self.inner();
        inner.statuses.retain(|uid, _| known(uid));
        inner.reasons.retain(|(uid, _), _| known(uid));
    }
}

/// The status of `pod` by what `state` shows.
#[must_use]
pub fn generate(
    pod: &StaticPod,
    state: Option<&PodState>,
    statuses: &Statuses,
    probes: &Probes,
    settings: &Settings,
) -> PodStatus {
    let spec = pod.spec();
    let containers: Vec<ContainerStatus> =
        spec.containers.iter().map(|one| container_status(pod, one, state, statuses, probes)).collect();
    let ready = containers.iter().all(|one| one.ready);
    let unready: Vec<&str> = containers.iter().filter(|one| !one.ready).map(|one| one.name.as_str()).collect();
    let sandboxed =
        state.is_some_and(|state| state.sandboxes.first().is_some_and(|sandbox| sandbox.readiness == Readiness::Ready));
    let condition = |kind: &str, met: bool| PodCondition {
        type_: kind.into(),
        status: if met { "True" } else { "False" }.into(),
        ..PodCondition::default()
    };
    let not_ready = |mut condition: PodCondition| {
        if condition.status == "False" {
            condition.reason = Some("ContainersNotReady".into());
            condition.message = Some(format!("containers with unready status: [{}]", unready.join(" ")));
        }
        condition
    };
    let ip = settings.node_ip.to_string();
    let on_host = spec.host_network == Some(true);
    PodStatus {
        phase: Some(phase(spec.restart_policy.as_deref().unwrap_or("Always"), &containers).into()),
        conditions: Some(vec![
            condition("PodReadyToStartContainers", sandboxed),
            condition("Initialized", true),
            not_ready(condition("Ready", ready)),
            not_ready(condition("ContainersReady", ready)),
            condition("PodScheduled", true),
        ]),
        host_ip: Some(ip.clone()),
        host_ips: Some(vec![HostIP { ip: ip.clone() }]),
        pod_ip: on_host.then(|| ip.clone()),
        pod_ips: on_host.then(|| vec![PodIP { ip }]),
        container_statuses: Some(containers),
        qos_class: Some("Burstable".into()),
        ..PodStatus::default()
    }
}

/// The phase, by the containers' states.
fn phase(restart_policy: &str, containers: &[ContainerStatus]) -> &'static str {
    let mut waiting = 0;
    let mut running = 0;
    let mut exits = Vec::new();
    for container in containers {
        let state = container.state.as_ref();
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        match (state.and_then(|state| state.running.as_ref()), state.and_then(|state| state.terminated.as_ref()), last)
        {
            (Some(_), _, _) => running += 1,
            (None, Some(exit), _) | (None, None, Some(exit)) => exits.push(exit.exit_code),
            (None, None, None) => waiting += 1,
        }
    }
    match (waiting, running, restart_policy) {
        (1.., _, _) => "Pending",
        (0, 1.., _) | (0, 0, "Always") => "Running",
        _ if exits.iter().all(|code| *code == 0) => "Succeeded",
        (_, _, "Never") => "Failed",
        _ => "Running",
    }
}

fn container_status(
    pod: &StaticPod,
    container: &Container,
    state: Option<&PodState>,
    statuses: &Statuses,
    probes: &Probes,
) -> ContainerStatus {
    let mut seen = state.into_iter().flat_map(|state| state.of_name(&container.name));
    let newest = seen.next();
    let previous = seen.find(|one| one.state() == Cri::ContainerExited);
    let mut now = newest.map_or_else(|| waiting("ContainerCreating", None), shown_state);
    let mut last = previous.map(shown_state).unwrap_or_default();
    let running = newest.filter(|one| one.state() == Cri::ContainerRunning);
    if running.is_none()
        && let Some(why) = statuses.reason(&pod.uid, &container.name)
    {
        if now.terminated.is_some() {
            last = now;
        }
        now = waiting(why.reason, Some(why.message));
    }
    let started = running.is_some_and(|one| probes.is_started(one, container));
    let ready = started && running.is_some_and(|one| probes.is_ready(&one.id, container));
    ContainerStatus {
        name: container.name.clone(),
        state: Some(now),
        last_state: Some(last),
        ready,
        started: Some(started),
        restart_count: newest.map_or(0, |one| i32::try_from(restart_count(one)).unwrap_or(i32::MAX)),
        image: container.image.clone().unwrap_or_default(),
        image_id: newest.map(|one| one.image_ref.clone()).unwrap_or_default(),
        container_id: newest.map(|one| format!("containerd://{}", one.id)),
        ..ContainerStatus::default()
    }
}

/// How often the container was started before, from its annotation.
#[must_use]
pub fn restart_count(container: &CriStatus) -> u32 {
    container.annotations.get(RESTART_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..ContainerState::default()
    }
}

fn shown_state(container: &CriStatus) -> ContainerState {
    match container.state() {
        Cri::ContainerRunning => ContainerState {
            running: Some(ContainerStateRunning { started_at: at(container.started_at) }),
            ..ContainerState::default()
        },
        Cri::ContainerExited => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: container.exit_code,
                reason: Some(container.reason.clone()),
                message: (!container.message.is_empty()).then(|| container.message.clone()),
                started_at: at(container.started_at),
                finished_at: at(container.finished_at),
                container_id: Some(format!("containerd://{}", container.id)),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
        Cri::ContainerCreated | Cri::ContainerUnknown => waiting("ContainerCreating", None),
    }
}

/// Nanoseconds since 1970 as the API shows them, in whole seconds.
fn at(nanos: i64) -> Option<Time> {
    (nanos > 0).then(|| Timestamp::from_second(nanos / 1_000_000_000).ok().map(Time)).flatten()
}

fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: ContainerState, last: ContainerState) -> ContainerStatus {
        ContainerStatus { state: Some(state), last_state: Some(last), ..ContainerStatus::default() }
    }

    fn exited(code: i32) -> ContainerState {
        ContainerState {
            terminated: Some(ContainerStateTerminated { exit_code: code, ..ContainerStateTerminated::default() }),
            ..ContainerState::default()
        }
    }

    fn running() -> ContainerState {
        ContainerState { running: Some(ContainerStateRunning::default()), ..ContainerState::default() }
    }

    #[test]
    fn the_phase_of_a_pod_in_each_situation() {
        let none = ContainerState::default;
        let creating = || container(waiting("ContainerCreating", None), none());
        let looping = || container(waiting("CrashLoopBackOff", None), exited(1));
        for (policy, containers, expected) in [
            ("Always", vec![creating()], "Pending"),
            ("Always", vec![container(running(), none())], "Running"),
            ("Always", vec![container(running(), none()), creating()], "Pending"),
            ("Always", vec![looping()], "Running"),
            ("Always", vec![container(exited(1), none())], "Running"),
            ("Never", vec![container(exited(0), none())], "Succeeded"),
            ("Never", vec![container(exited(1), none())], "Failed"),
            ("OnFailure", vec![container(exited(1), none())], "Running"),
        ] {
            assert_eq!(phase(policy, &containers), expected, "{policy} {containers:?}");
        }
    }
}
