//! The sync loop: one task that hears of everything and tells the workers.
//!
//! ```text
//!   manifest directory ─┐
//!   retries, 1 s ───────┤                 ┌─▶ pod worker (one task per UID)
//!   runtime events ─────┼──▶ sync loop ───┤
//!   probes' results ────┤                 └─▶ mirror pods of removed pods: HERE, while everything else waits
//!   mirror pods ────────┤
//!   housekeeping, 2 s ──┘   (only once the sources are ready)
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::control::{self, Switches};
use super::manifest::{FullName, Uid};
use super::mirror::{Hung, Mirrors};
use super::options::Settings;
use super::pleg::{self, Event};
use super::podset::PodSet;
use super::probes::Probes;
use super::runtime::Runtime;
use super::server::{self, Pulse};
use super::store::Delta;
use super::sync::Node;
use super::worker::{Intent, RuntimePod, Stage, Subject};
use super::workers::PodWorkers;
use super::{gc, lease, source};

/// How often due retries are looked for.
const SYNC_TICK: Duration = Duration::from_secs(1);
/// `housekeepingPeriod`.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT. The containers go on.
///
/// # Errors
/// What keeps a kubelet from starting: no runtime, an unusable kubeconfig, a port in use.
pub async fn run(settings: Settings) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let sync_loop = start(settings).await?;
    tokio::select! {
        never = sync_loop.run() => match never {},
        _ = terminate.recv() => info!("SIGTERM: the kubelet ends, the containers go on"),
        _ = interrupt.recv() => info!("SIGINT: the kubelet ends, the containers go on"),
    }
    Ok(())
}

/// The loop's ears.
struct SyncLoop {
    node: Arc<Node>,
    workers: PodWorkers,
    pods: PodSet,
    pulse: Pulse,
    config: mpsc::UnboundedReceiver<Delta>,
    events: mpsc::UnboundedReceiver<Event>,
    probes: mpsc::UnboundedReceiver<Uid>,
    mirrors: mpsc::UnboundedReceiver<FullName>,
    file_source_seen: bool,
}

async fn start(settings: Settings) -> Result<SyncLoop> {
    info!(node = settings.node, scale = settings.scale.factor(), "kubelet stand-in starts");
    let runtime = Runtime::new(&settings.runtime_socket)?;
    let socket = settings.runtime_socket.display();
    let version = runtime.version().await;
    let version =
        version.map_err(|why| anyhow::anyhow!("validate CRI v1 runtime API for {socket}: {}", why.message()))?;
    info!(runtime = version, %socket, "container runtime");

    let mirrors = Arc::new(Mirrors::new(settings.kubeconfig.as_deref(), &settings.node, settings.scale)?);
    let switches = Switches::default();
    if let Err(why) = control::listen(switches.clone()) {
        warn!(why = format!("{why:#}"), "no control socket");
    }
    let (probed, probe_results) = mpsc::unbounded_channel();
    let probes = Probes::new(probed, runtime.clone(), settings.node_ip.to_string(), settings.scale)?;
    let (cache, events) = pleg::start(runtime.clone(), settings.scale);
    let node = Arc::new(Node::new(settings.clone(), runtime, cache, Arc::clone(&mirrors), Arc::new(probes)));
    let workers = PodWorkers::new(Arc::clone(&node));
    let pods = PodSet::default();
    let pulse: Pulse = Arc::new(Mutex::new(Instant::now()));

    if let Some(at) = settings.healthz {
        server::healthz(at, Arc::clone(&pulse), switches.health.subscribe(), &settings).await?;
    }
    if let Some(at) = settings.server {
        server::pods(at, Arc::clone(&node), pods.clone()).await?;
    }
    let (delta, config) = mpsc::unbounded_channel();
    tokio::spawn(source::follow(settings.clone(), switches.attention.subscribe(), delta));
    let (mirrored, mirror_changes) = mpsc::unbounded_channel();
    let follower = Arc::clone(&mirrors);
    tokio::spawn(async move { follower.follow(mirrored).await });
    tokio::spawn(lease::keep(mirrors, settings.node.clone(), settings.scale));
    tokio::spawn(gc::run(Arc::clone(&node), workers.clone()));
    info!("Starting kubelet main sync loop");
    Ok(SyncLoop {
        node,
        workers,
        pods,
        pulse,
        config,
        events,
        probes: probe_results,
        mirrors: mirror_changes,
        file_source_seen: false,
    })
}

impl SyncLoop {
    async fn run(mut self) -> std::convert::Infallible {
        let scale = self.node.settings.scale;
        let mut sync = tokio::time::interval(scale.of(SYNC_TICK));
        let mut housekeeping = tokio::time::interval(scale.of(HOUSEKEEPING));
        sync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            tokio::select! {
                Some(delta) = self.config.recv() => self.config_changed(delta),
                Some(event) = self.events.recv() => self.runtime_changed(event).await,
                Some(uid) = self.probes.recv() => self.sync_pod(&uid, "probe"),
                Some(name) = self.mirrors.recv() => self.mirror_changed(&name),
                _ = sync.tick() => {
                    for uid in self.workers.due() {
                        self.sync_pod(&uid, "retry");
                    }
                }
                _ = housekeeping.tick() => {
                    if self.housekeeping().await == Hung::Yes {
                        // What waited meanwhile comes first.
                        housekeeping.reset();
                    }
                }
            }
        }
    }

    fn sources_ready(&self) -> bool {
        self.file_source_seen && self.node.mirrors.source_seen()
    }

    fn config_changed(&mut self, delta: Delta) {
        self.file_source_seen = true;
        for pod in delta.removed {
            info!(pod = %pod.full_name, uid = %pod.uid, "SyncLoop REMOVE source=file");
            self.pods.remove(&pod.uid);
            if !self.sources_ready() {
                let why = "skipping delete because sources aren't ready yet";
                warn!(pod = %pod.full_name, uid = %pod.uid, why, "Failed to delete pod");
                continue;
            }
            self.workers.update(Subject::Static(pod), Intent::Kill);
        }
        for pod in delta.added {
            info!(pod = %pod.full_name, uid = %pod.uid, "SyncLoop ADD source=file");
            self.pods.put(pod.clone());
            self.workers.update(Subject::Static(pod), Intent::Create);
        }
        for pod in delta.updated {
            info!(pod = %pod.full_name, uid = %pod.uid, "SyncLoop UPDATE source=file");
            self.pods.put(pod.clone());
            self.workers.update(Subject::Static(pod), Intent::Update);
        }
    }

    async fn runtime_changed(&mut self, event: Event) {
        self.sync_pod(&event.uid, "PLEG");
        if !event.died.is_empty() {
            info!(uid = %event.uid, died = ?event.died, "SyncLoop (PLEG): ContainerDied");
            gc::after_death(&self.node, &self.workers, &event.uid, &event.died).await;
        }
    }

    fn sync_pod(&self, uid: &Uid, because: &str) {
        if let Some(pod) = self.pods.get(uid) {
            tracing::debug!(pod = %pod.full_name, %uid, because, "SyncLoop SYNC");
            self.workers.update(Subject::Static(pod), Intent::Sync);
        }
    }

    fn mirror_changed(&self, name: &FullName) {
        for pod in self.pods.all().into_iter().filter(|pod| pod.full_name == *name) {
            self.workers.update(Subject::Static(pod), Intent::Update);
        }
    }

    /// Cleans up after pods that are gone. A mirror pod's deletion that hangs holds the whole loop, and was measured to be
    /// tried twice in a row before a waiting manifest was looked at: the next round is due when the first one ends.
    async fn housekeeping(&mut self) -> Hung {
        if !self.sources_ready() {
            return Hung::No;
        }
        let hung = self.cleanups().await;
        if hung == Hung::Yes {
            error!("housekeeping took long: a mirror pod could not be deleted");
            self.cleanups().await;
        }
        hung
    }

    async fn cleanups(&mut self) -> Hung {
        let desired = self.pods.uids();
        let known = self.workers.sync_known(&desired);
        let runtime = self.node.cache.all();
        self.node.statuses.retain(|uid| desired.contains(uid) || known.contains_key(uid));
        self.node.probes.retain(|id| runtime.values().any(|pod| pod.containers.iter().any(|one| one.id == id)));
        for (uid, state) in runtime.iter().filter(|(_, state)| state.is_running()) {
            match known.get(uid).map(|known| known.stage) {
                Some(Stage::Running | Stage::Terminating) => {}
                Some(Stage::Terminated | Stage::Finished) => {}
                None if desired.contains(uid) => {}
                None => {
                    let pod = RuntimePod { uid: uid.clone(), full_name: state.full_name.clone() };
                    self.workers.update(Subject::Runtime(pod), Intent::Kill);
                }
            }
        }
        let names = self.pods.names();
        let workers = self.workers.clone();
        let hung = self.node.mirrors.delete_orphans(|name| names.contains(name) || workers.is_terminating(name)).await;
        for pod in self.pods.all().into_iter().filter(|pod| !known.contains_key(&pod.uid)) {
            info!(pod = %pod.full_name, uid = %pod.uid, "Pod will be restarted: it came back while it went down");
            self.workers.update(Subject::Static(pod), Intent::Create);
        }
        self.node.collect_back_offs();
        hung
    }
}
