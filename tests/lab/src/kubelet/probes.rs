//! Startup, liveness and readiness probes, one task each.
//!
//! ```text
//!   each period: container new? ─▶ start over
//!                not running / within the initial delay / startup not over ─▶ nothing
//!                ask ─▶ same answer n times in a row ─▶ result ─▶ the sync loop is notified
//!   a failed startup or liveness probe stays so until the container is a new one
//! ```
//!
//! The period counts from when the pod's sync began, not from the container's start; with initialDelaySeconds equal to
//! periodSeconds the first question therefore falls just short of the delay, and "ready" comes one period later: the
//! measured 10 to 20 s between start and ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, HeaderName, USER_AGENT};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::http::{self, Target};
use super::manifest::{StaticPod, Uid};
use super::pleg::Cache;
use super::runtime::Runtime;
use super::scale::{Scale, unit_random};
use crate::cri::{ContainerState, ContainerStatus};

/// The longest TLS handshake of a probe: the transport's own limit, below kubeadm's 15 s of timeoutSeconds. A stopped
/// API server is therefore found hung in 80 s and a stopped etcd (plain HTTP) in 120 s.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A compressed probe still leaves the asked process this much time to answer on a busy machine.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A compressed probe is not asked more often than this.
const SHORTEST_PERIOD: Duration = Duration::from_millis(250);

/// Which of a container's three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Holds the others back until it succeeded.
    Startup,
    /// Its failure kills the container.
    Liveness,
    /// Its result is shown.
    Readiness,
}

/// A probe's standing answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good often enough in a row.
    Success,
    /// Bad often enough in a row.
    Failure,
}

/// What the probes found, by container ID.
#[derive(Debug)]
pub struct Probes {
    results: Mutex<HashMap<(String, Kind), Verdict>>,
    workers: Mutex<HashMap<(Uid, String, Kind), AbortHandle>>,
    changed: mpsc::UnboundedSender<Uid>,
    runtime: Runtime,
    tls: Arc<ClientConfig>,
    host: String,
    scale: Scale,
    kubelet_started: SystemTime,
}

impl Probes {
    /// No probe yet. `changed` is told of the pods whose results change; `host` is the address of pods on the host.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(
        changed: mpsc::UnboundedSender<Uid>,
        runtime: Runtime,
        host: String,
        scale: Scale,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            results: Mutex::default(),
            workers: Mutex::default(),
            changed,
            runtime,
            tls: http::unverified_tls()?,
            host,
            scale,
            kubelet_started: SystemTime::now(),
        })
    }

    /// The standing answer of one probe of one container.
    #[must_use]
    pub fn verdict(&self, container_id: &str, kind: Kind) -> Option<Verdict> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.get(&(container_id.to_owned(), kind)).copied()
    }

    /// Whether the container counts as started. One that ran before this kubelet did is taken for started until its
    /// probe says otherwise: measured, all pods were ready 1.5 s after the kubelet's restart, far below a period of 10 s.
    #[must_use]
    pub fn is_started(&self, status: &ContainerStatus, container: &Container) -> bool {
        container.startup_probe.is_none()
            || match self.verdict(&status.id, Kind::Startup) {
                Some(verdict) => verdict == Verdict::Success,
                None => started_at(status) < self.kubelet_started,
            }
    }

    /// Whether the container counts as ready, given that it is started.
    #[must_use]
    pub fn is_ready(&self, container_id: &str, container: &Container) -> bool {
        container.readiness_probe.is_none() || self.verdict(container_id, Kind::Readiness) == Some(Verdict::Success)
    }

    /// Starts the probes of `pod` that are not running yet.
    pub fn add(self: &Arc<Self>, pod: &StaticPod, cache: &Arc<Cache>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for container in &pod.spec().containers {
            for (kind, probe) in [
                (Kind::Startup, &container.startup_probe),
                (Kind::Liveness, &container.liveness_probe),
                (Kind::Readiness, &container.readiness_probe),
            ] {
                let Some(probe) = probe.clone() else { continue };
                let key = (pod.uid.clone(), container.name.clone(), kind);
                workers.entry(key).or_insert_with(|| {
                    let worker = Worker {
                        probes: Arc::clone(self),
                        cache: Arc::clone(cache),
                        pod: pod.clone(),
                        container: container.clone(),
                        kind,
                        probe,
                        run: Run::default(),
                    };
                    tokio::spawn(worker.run()).abort_handle()
                });
            }
        }
    }

    /// Stops the probes of a pod that goes down. Readiness goes on while it terminates, in the real one; nobody looks.
    pub fn remove(&self, uid: &Uid) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|(of, _, _), task| {
            if of == uid {
                task.abort();
            }
            of != uid
        });
    }

    /// Forgets the results of containers that are gone.
    pub fn retain(&self, alive: impl Fn(&str) -> bool) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _), _| alive(id));
    }

    fn set(&self, uid: &Uid, container_id: &str, kind: Kind, verdict: Option<Verdict>) {
        let key = (container_id.to_owned(), kind);
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match verdict {
            Some(verdict) => results.insert(key, verdict),
            None => results.remove(&key),
        };
        if before != verdict {
            let _ = self.changed.send(uid.clone());
        }
    }

    fn period(&self, probe: &Probe) -> Duration {
        self.scale.with_floor(seconds(probe.period_seconds, 10), SHORTEST_PERIOD)
    }

    /// Asks once.
    async fn ask(&self, pod: &StaticPod, container: &Container, id: &str, probe: &Probe) -> Result<(), String> {
        let timeout = self.scale.with_floor(seconds(probe.timeout_seconds, 1), SHORTEST_TIMEOUT);
        if let Some(get) = &probe.http_get {
            return self.http_get(container, get, timeout).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = port_number(container, &tcp.port)?;
            let host = tcp.host.clone().unwrap_or_else(|| self.host.clone());
            return match tokio::time::timeout(timeout, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(why)) => Err(why.to_string()),
                Err(_) => Err("i/o timeout".into()),
            };
        }
        if let Some(exec) = &probe.exec {
            return match self.runtime.exec(id, exec.command.clone().unwrap_or_default(), timeout).await {
                Ok(0) => Ok(()),
                Ok(code) => Err(format!("the command exited with {code}")),
                Err(why) => Err(why.message().to_owned()),
            };
        }
        warn!(pod = %pod.full_name, container = container.name, "the lab's kubelet knows no gRPC probes; taken for good");
        Ok(())
    }

    async fn http_get(&self, container: &Container, get: &HTTPGetAction, timeout: Duration) -> Result<(), String> {
        let port = port_number(container, &get.port)?;
        let host = get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| self.host.clone());
        let handshake = self.scale.with_floor(HANDSHAKE, SHORTEST_TIMEOUT);
        let tls = match get.scheme.as_deref() {
            Some("HTTPS") => Some((Arc::clone(&self.tls), handshake)),
            _ => None,
        };
        let mut path = get.path.clone().unwrap_or_default();
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        let mut request = Request::get(path)
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, "kube-probe/lab")
            .header(ACCEPT, "*/*");
        for header in get.http_headers.iter().flatten() {
            if let Ok(name) = HeaderName::try_from(header.name.as_str()) {
                request = request.header(name, &header.value);
            }
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|why| why.to_string())?;
        let answer =
            http::send(&Target { host, port, tls }, request, timeout).await.map_err(|why| format!("{why:#}"))?;
        match answer.status.as_u16() {
            200..400 => Ok(()),
            code => Err(format!("HTTP probe failed with statuscode: {code}")),
        }
    }
}

fn started_at(status: &ContainerStatus) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(status.started_at).unwrap_or(0))
}

fn seconds(given: Option<i32>, usual: u64) -> Duration {
    Duration::from_secs(given.and_then(|given| u64::try_from(given).ok()).unwrap_or(usual))
}

/// A port by number, or by the name the container gives it.
fn port_number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => text.parse().ok().or_else(|| {
            let named = |port: &&k8s_openapi::api::core::v1::ContainerPort| port.name.as_deref() == Some(text);
            container.ports.iter().flatten().find(named).map(|port| port.container_port)
        }),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
}

/// Equal answers in a row, and whether the probe holds still.
#[derive(Debug, Default)]
struct Run {
    container_id: String,
    last: Option<Verdict>,
    times: i32,
    held: bool,
}

impl Run {
    /// Counts an answer; the verdict once it was given often enough in a row.
    fn count(&mut self, answer: Verdict, probe: &Probe) -> Option<Verdict> {
        if self.last == Some(answer) {
            self.times = self.times.saturating_add(1);
        } else {
            self.last = Some(answer);
            self.times = 1;
        }
        let needed = match answer {
            Verdict::Success => probe.success_threshold.unwrap_or(1),
            Verdict::Failure => probe.failure_threshold.unwrap_or(3),
        };
        (self.times >= needed).then_some(answer)
    }
}

struct Worker {
    probes: Arc<Probes>,
    cache: Arc<Cache>,
    pod: StaticPod,
    container: Container,
    kind: Kind,
    probe: Probe,
    run: Run,
}

impl Worker {
    async fn run(mut self) {
        let period = self.probes.period(&self.probe);
        if self.probes.kubelet_started.elapsed().is_ok_and(|age| age < period) {
            // After a restart of the kubelet not all probes ask in the same moment.
            tokio::time::sleep(period.mul_f64(unit_random())).await;
        }
        let mut ticks = tokio::time::interval(period);
        // As Go's ticker: a question that took longer than the period is followed by the next at once.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.round().await;
        }
    }

    async fn round(&mut self) {
        let Some(state) = self.cache.get(&self.pod.uid) else {
            return;
        };
        let Some(status) = state.container(&self.container.name) else {
            return;
        };
        if status.id != self.run.container_id {
            self.begin(status);
        }
        if self.run.held || status.state() != ContainerState::ContainerRunning {
            return;
        }
        let delay = self.probes.scale.of(seconds(self.probe.initial_delay_seconds, 0));
        if started_at(status).elapsed().unwrap_or_default() < delay {
            return;
        }
        let started = self.probes.is_started(status, &self.container);
        if started == (self.kind == Kind::Startup) {
            return;
        }
        let answer = match self.probes.ask(&self.pod, &self.container, &status.id, &self.probe).await {
            Ok(()) => Verdict::Success,
            Err(why) => {
                // Once per change: a readiness probe that fails asks every second.
                if self.run.last != Some(Verdict::Failure) {
                    info!(
                        pod = %self.pod.full_name, container = self.container.name, probe = ?self.kind, why,
                        "Probe failed"
                    );
                }
                Verdict::Failure
            }
        };
        let Some(verdict) = self.run.count(answer, &self.probe) else {
            return;
        };
        if verdict == Verdict::Failure && self.kind != Kind::Readiness {
            self.run.held = true;
        }
        self.probes.set(&self.pod.uid, &status.id, self.kind, Some(verdict));
    }

    /// Another container than before: nothing is known of it.
    fn begin(&mut self, status: &ContainerStatus) {
        self.run = Run { container_id: status.id.clone(), ..Run::default() };
        self.probes.set(&self.pod.uid, &status.id, self.kind, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ContainerPort;

    #[test]
    fn a_verdict_needs_the_same_answer_often_enough_in_a_row() {
        let probe = Probe { success_threshold: Some(1), failure_threshold: Some(3), ..Probe::default() };
        let mut run = Run::default();
        let answers = [
            Verdict::Failure,
            Verdict::Failure,
            Verdict::Success,
            Verdict::Failure,
            Verdict::Failure,
            Verdict::Failure,
        ];
        let verdicts: Vec<_> = answers.iter().map(|answer| run.count(*answer, &probe)).collect();
        assert_eq!(verdicts, [None, None, Some(Verdict::Success), None, None, Some(Verdict::Failure)]);
    }

    #[test]
    fn a_port_may_be_given_by_its_name() {
        let ports =
            vec![ContainerPort { name: Some("probe-port".into()), container_port: 6443, ..ContainerPort::default() }];
        let container = Container { ports: Some(ports), ..Container::default() };
        assert_eq!(port_number(&container, &IntOrString::String("probe-port".into())), Ok(6443));
        assert_eq!(port_number(&container, &IntOrString::String("2381".into())), Ok(2381));
        assert_eq!(port_number(&container, &IntOrString::Int(80)), Ok(80));
        assert!(port_number(&container, &IntOrString::String("other".into())).is_err());
    }
}
