//! The hands: what a worker does in one round.
//!
//! ```text
//!  Sync:      status ─▶ mirror pod ─▶ volumes ─▶ probes ─▶ sandbox ─▶ kill what must go ─▶ start what must run
//!  Terminate: status ─▶ probes off ─▶ containers: SIGTERM, grace, SIGKILL ─▶ sandboxes
//!  Conclude:  nothing but the wait for a newer look, which the caller did
//! ```
//!
//! The order is the outage: the mirror pod's call comes before the sandbox, the image is looked for after it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Container, Probe};
use tracing::{error, info, warn};

use super::backoff::BackOff;
use super::manifest::{StaticPod, container_hash};
use super::mirror::Mirrors;
use super::options::Settings;
use super::pleg::{Cache, PodState, Readiness, Sandbox};
use super::probes::{Kind, Probes, Verdict};
use super::runtime::Runtime;
use super::spec;
use super::status::{self, Reason, Statuses, restart_count};
use super::worker::{Outcome, RuntimePod, Work};
use crate::cri::{ContainerState, ContainerStatus};

/// Everything that the rooms share.
#[derive(Debug)]
pub struct Node {
    /// The settings.
    pub settings: Settings,
    /// The container runtime.
    pub runtime: Runtime,
    /// Its last look.
    pub cache: Arc<Cache>,
    /// The API server.
    pub mirrors: Arc<Mirrors>,
    /// The probes.
    pub probes: Arc<Probes>,
    /// What /pods shows.
    pub statuses: Statuses,
    restarts: Mutex<BackOff>,
    pulls: Mutex<BackOff>,
}

/// What has to be done to a pod's sandbox and containers.
#[derive(Debug)]
struct Actions<'a> {
    sandbox: SandboxAction,
    kill: Vec<(&'a Container, String, Duration, String)>,
    start: Vec<&'a Container>,
}

#[derive(Debug)]
enum SandboxAction {
    Keep(Sandbox),
    Make { attempt: u32 },
}

impl Node {
    /// The shared things, with nothing backed off yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        runtime: Runtime,
        cache: Arc<Cache>,
        mirrors: Arc<Mirrors>,
        probes: Arc<Probes>,
    ) -> Self {
        let scale = settings.scale;
        Self {
            settings,
            runtime,
            cache,
            mirrors,
            probes,
            statuses: Statuses::default(),
            restarts: Mutex::new(BackOff::new(scale)),
            pulls: Mutex::new(BackOff::new(scale)),
        }
    }

    /// One round of work on what `state` last showed.
    pub async fn work(&self, work: &Work, state: Option<Arc<PodState>>) -> Outcome {
        let result = match work {
            Work::Sync(pod) => return self.sync(pod, state.as_deref()).await,
            Work::Terminate(pod) => self.terminate(pod, state.as_deref()).await,
            Work::TerminateRuntime(pod) => self.terminate_runtime(pod).await,
            Work::Conclude(pod) => {
                info!(pod = %pod.full_name, uid = %pod.uid, "Pod is complete and the worker can now stop");
                Ok(())
            }
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(why) => {
                error!(why, "Error syncing pod, skipping");
                Outcome::Failed
            }
        }
    }

    async fn sync(&self, pod: &StaticPod, state: Option<&PodState>) -> Outcome {
        let status = status::generate(pod, state, &self.statuses, &self.probes, &self.settings);
        let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.statuses.set(pod, status);
        if over {
            return Outcome::Completed;
        }
        self.mirrors.reconcile(pod).await;
        let result = async {
            self.prepare_files(pod).map_err(|why| format!("making the pod's directories: {why}"))?;
            super::volumes::mount(pod, self.settings.scale).await?;
            self.probes.add(pod, &self.cache);
            self.sync_runtime(pod, state).await
        };
        match result.await {
            Ok(()) => Outcome::Done,
            Err(why) => {
                error!(pod = %pod.full_name, uid = %pod.uid, why, "Error syncing pod, skipping");
                Outcome::Failed
            }
        }
    }

    fn prepare_files(&self, pod: &StaticPod) -> std::io::Result<()> {
        let own = spec::pod_directory(pod, &self.settings);
        std::fs::create_dir_all(&own)?;
        let hosts = std::fs::read("/etc/hosts").unwrap_or_default();
        std::fs::write(own.join("etc-hosts"), hosts)
    }

    async fn sync_runtime(&self, pod: &StaticPod, state: Option<&PodState>) -> Result<(), String> {
        let actions = self.actions(pod, state);
        let sandbox_config;
        let sandbox = match actions.sandbox {
            SandboxAction::Keep(sandbox) => {
                sandbox_config = spec::sandbox(pod, sandbox.attempt, &self.settings);
                sandbox.id
            }
            SandboxAction::Make { attempt } => {
                if let Some(state) = state.filter(|state| state.is_running()) {
                    self.kill(state, Some(pod)).await?;
                }
                sandbox_config = spec::sandbox(pod, attempt, &self.settings);
                let logs = spec::log_directory(pod, &self.settings);
                std::fs::create_dir_all(&logs).map_err(|why| format!("{}: {why}", logs.display()))?;
                let id = self.runtime.run_sandbox(sandbox_config.clone()).await;
                let id = id.map_err(|why| format!("failed to \"CreatePodSandbox\": {}", why.message()))?;
                info!(pod = %pod.full_name, uid = %pod.uid, sandbox = id, attempt, "Created PodSandbox for pod");
                id
            }
        };
        for (container, id, grace, why) in &actions.kill {
            info!(pod = %pod.full_name, container = container.name, why, "Killing container with a grace period");
            self.runtime
                .stop(id, *grace)
                .await
                .map_err(|why| format!("stopping {}: {}", container.name, why.message()))?;
        }
        let mut failed = Vec::new();
        for container in actions.start {
            let result = self.start(pod, container, state, &sandbox, &sandbox_config).await;
            if let Err(reason) = &result {
                warn!(
                    pod = %pod.full_name, uid = %pod.uid, container = container.name, reason = reason.reason,
                    message = reason.message, "Container not started"
                );
                failed.push(format!("failed to \"StartContainer\" for {:?} with {}", container.name, reason.reason));
            }
            self.statuses.set_reason(&pod.uid, &container.name, result.err());
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
    }

    fn actions<'a>(&self, pod: &'a StaticPod, state: Option<&PodState>) -> Actions<'a> {
        let spec = pod.spec();
        let newest = state.and_then(|state| state.sandboxes.first());
        let policy = spec.restart_policy.as_deref().unwrap_or("Always");
        let sandbox = match newest {
            Some(sandbox) if sandbox.readiness == Readiness::Ready => SandboxAction::Keep(sandbox.clone()),
            other => SandboxAction::Make { attempt: other.map_or(0, |old| old.attempt + 1) },
        };
        let mut actions = Actions { sandbox, kill: Vec::new(), start: Vec::new() };
        for container in &spec.containers {
            let status = state.and_then(|state| state.container(&container.name));
            let Some(status) = status else {
                actions.start.push(container);
                continue;
            };
            if status.state() != ContainerState::ContainerRunning {
                if policy == "Always" || (policy == "OnFailure" && status.exit_code != 0) {
                    actions.start.push(container);
                }
                continue;
            }
            if matches!(actions.sandbox, SandboxAction::Make { .. }) {
                actions.start.push(container);
                continue;
            }
            if let Some((grace, why)) = self.must_go(pod, container, status) {
                actions.kill.push((container, status.id.clone(), grace, why));
                if policy != "Never" {
                    actions.start.push(container);
                }
            }
        }
        actions
    }

    /// Why a running container is replaced, and how long it may take to end.
    fn must_go(&self, pod: &StaticPod, container: &Container, status: &ContainerStatus) -> Option<(Duration, String)> {
        let own_grace = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
        let failed = |kind| self.probes.verdict(&status.id, kind) == Some(Verdict::Failure);
        if status.annotations.get(spec::CONTAINER_HASH).is_some_and(|hash| *hash != container_hash(container)) {
            return Some((self.grace(pod.grace_seconds()), "definition changed".into()));
        }
        for (kind, probe, word) in [
            (Kind::Liveness, &container.liveness_probe, "liveness"),
            (Kind::Startup, &container.startup_probe, "startup"),
        ] {
            if failed(kind) {
                let grace = own_grace(probe).unwrap_or_else(|| pod.grace_seconds());
                return Some((self.grace(grace), format!("failed {word} probe, will be restarted")));
            }
        }
        None
    }

    /// A grace period as this run keeps it; the CRI counts whole seconds.
    fn grace(&self, seconds: i64) -> Duration {
        let true_to_life = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        self.settings.scale.with_floor(true_to_life, Duration::from_secs(1))
    }

    async fn start(
        &self,
        pod: &StaticPod,
        container: &Container,
        state: Option<&PodState>,
        sandbox: &str,
        sandbox_config: &crate::cri::PodSandboxConfig,
    ) -> Result<(), Reason> {
        self.check_back_off(pod, container, state)?;
        let image = self.image(pod, container).await?;
        let restarts = match state.and_then(|state| state.container(&container.name)) {
            Some(status) => restart_count(status) + 1,
            None => restarts_by_logs(&spec::log_directory(pod, &self.settings).join(&container.name)),
        };
        let logs = spec::log_directory(pod, &self.settings).join(&container.name);
        let config = std::fs::create_dir_all(&logs)
            .map_err(|why| format!("{}: {why}", logs.display()))
            .and_then(|()| spec::container(pod, container, restarts, &image, &self.settings))
            .map_err(|message| Reason { reason: "CreateContainerConfigError", message })?;
        let failure =
            |reason: &'static str| move |why: tonic::Status| Reason { reason, message: why.message().to_owned() };
        let id = self
            .runtime
            .create(sandbox, config, sandbox_config.clone())
            .await
            .map_err(failure("CreateContainerError"))?;
        self.runtime.start(&id).await.map_err(failure("RunContainerError"))?;
        info!(
            pod = %pod.full_name, uid = %pod.uid, container = container.name, id, restart_count = restarts,
            "Started container"
        );
        Ok(())
    }

    fn check_back_off(&self, pod: &StaticPod, container: &Container, state: Option<&PodState>) -> Result<(), Reason> {
        let exited = state.and_then(|state| {
            state.of_name(&container.name).find(|one| one.state() == ContainerState::ContainerExited)
        });
        let Some(exited) = exited else { return Ok(()) };
        let key = format!("{}_{}_{}_{}", pod.full_name, pod.uid, container.name, container_hash(container));
        let now = Instant::now();
        let finished = instant_of(exited.finished_at, now);
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = restarts.waiting(&key, finished, now) {
            let message = format!(
                "back-off {} restarting failed container={} pod={}_{}({})",
                go_format(wait),
                container.name,
                pod.full_name.name,
                pod.full_name.namespace,
                pod.uid
            );
            return Err(Reason { reason: "CrashLoopBackOff", message });
        }
        restarts.next(&key, finished, now);
        Ok(())
    }

    async fn image(&self, pod: &StaticPod, container: &Container) -> Result<String, Reason> {
        let name = container.image.clone().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let present = self.runtime.image(&name).await.map_err(|why| Reason {
            reason: "ImageInspectError",
            message: format!("Failed to inspect image {name:?}: {}", why.message()),
        })?;
        match (present, policy) {
            (Some(reference), "IfNotPresent" | "Never") => return Ok(reference),
            (None, "Never") => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                return Err(Reason { reason: "ErrImageNeverPull", message });
            }
            _ => {}
        }
        let key = format!("{}_{name}", pod.uid);
        let waiting =
            self.pulls.lock().unwrap_or_else(PoisonError::into_inner).waiting_since_update(&key, Instant::now());
        if waiting.is_some() {
            return Err(Reason { reason: "ImagePullBackOff", message: format!("Back-off pulling image {name:?}") });
        }
        info!(pod = %pod.full_name, image = name, "Pulling image");
        match self.runtime.pull(&name).await {
            Ok(reference) => Ok(reference),
            Err(why) => {
                let now = Instant::now();
                self.pulls.lock().unwrap_or_else(PoisonError::into_inner).next(&key, now, now);
                Err(Reason { reason: "ErrImagePull", message: why.message().to_owned() })
            }
        }
    }

    async fn terminate(&self, pod: &StaticPod, state: Option<&PodState>) -> Result<(), String> {
        let status = status::generate(pod, state, &self.statuses, &self.probes, &self.settings);
        self.statuses.set(pod, status);
        self.probes.remove(&pod.uid);
        if let Some(state) = state {
            info!(pod = %pod.full_name, uid = %pod.uid, "Killing pod: SIGTERM, grace period, SIGKILL");
            self.kill(state, Some(pod)).await?;
        }
        // The look may be older than the last start: what it did not show must not be left running.
        let left = self.runtime.containers().await.map_err(|why| why.message().to_owned())?;
        let alive = left.iter().any(|one| {
            one.state() == ContainerState::ContainerRunning && one.labels.get(super::pleg::POD_UID) == Some(&pod.uid.0)
        });
        if alive {
            return Err(format!("detected running containers after a successful KillPod of {}", pod.full_name));
        }
        info!(pod = %pod.full_name, uid = %pod.uid, "Pod terminated all containers successfully");
        Ok(())
    }

    /// Orphans get no grace: measured, exit code 137 at once.
    async fn terminate_runtime(&self, pod: &RuntimePod) -> Result<(), String> {
        info!(pod = %pod.full_name, uid = %pod.uid, "Pod is orphaned and must be torn down");
        match self.cache.get(&pod.uid) {
            Some(state) => self.kill(&state, None).await,
            None => Ok(()),
        }
    }

    /// Stops all containers side by side, then the sandboxes.
    async fn kill(&self, state: &PodState, pod: Option<&StaticPod>) -> Result<(), String> {
        let grace = pod.map_or(Duration::ZERO, |pod| self.grace(pod.grace_seconds()));
        let running = state.containers.iter().filter(|one| one.state() == ContainerState::ContainerRunning);
        let mut stops = tokio::task::JoinSet::new();
        for container in running {
            let (runtime, id) = (self.runtime.clone(), container.id.clone());
            stops.spawn(async move { runtime.stop(&id, grace).await });
        }
        while let Some(stopped) = stops.join_next().await {
            match stopped {
                Ok(Ok(())) => {}
                Ok(Err(why)) if why.code() == tonic::Code::NotFound => {}
                Ok(Err(why)) => return Err(format!("failed to \"KillContainer\": {}", why.message())),
                Err(why) => return Err(format!("failed to \"KillContainer\": {why}")),
            }
        }
        for sandbox in state.sandboxes.iter().filter(|sandbox| sandbox.readiness == Readiness::Ready) {
            match self.runtime.stop_sandbox(&sandbox.id).await {
                Err(why) if why.code() != tonic::Code::NotFound => {
                    return Err(format!("failed to \"KillPodSandbox\": {}", why.message()));
                }
                _ => info!(pod = %state.full_name, sandbox = sandbox.id, "Stopped PodSandbox"),
            }
        }
        Ok(())
    }

    /// Forgets back-offs that nobody will ask for.
    pub fn collect_back_offs(&self) {
        for back_off in [&self.restarts, &self.pulls] {
            back_off.lock().unwrap_or_else(PoisonError::into_inner).collect_garbage(Instant::now());
        }
    }
}

/// After a reboot the runtime has forgotten its containers; the logs tell how many there were.
fn restarts_by_logs(dir: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let number = |name: &str| name.split('.').next().and_then(|number| number.parse::<u32>().ok());
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| number(&name)).max().map_or(0, |last| last + 1)
}

/// The moment of a wall-clock time, as far as it can be told now.
fn instant_of(nanos: i64, now: Instant) -> Instant {
    let then = UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    let age = SystemTime::now().duration_since(then).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// A wait as Go prints it: `10s`, `1m20s`, `5m0s`.
fn go_format(wait: Duration) -> String {
    match (wait.as_secs() / 60, wait.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_printed_as_go_does() {
        for (wait, text) in [(10, "10s"), (40, "40s"), (80, "1m20s"), (300, "5m0s")] {
            assert_eq!(go_format(Duration::from_secs(wait)), text);
        }
    }

    #[test]
    fn the_logs_of_earlier_containers_carry_the_restart_count_over_a_reboot() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(restarts_by_logs(&dir.path().join("none")), 0);
        for name in ["0.log", "3.log", "3.log.20260101-000000", "note"] {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        assert_eq!(restarts_by_logs(dir.path()), 4);
    }
}
