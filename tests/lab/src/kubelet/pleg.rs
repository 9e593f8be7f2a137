//! The pod lifecycle event generator: lists the runtime once a second, remembers what it saw, and says what changed.
//!
//! ```text
//!  every second: sandboxes + containers ─▶ compare ─▶ details of changed pods ─▶ cache (with a time) ─▶ events
//! ```
//!
//! A worker that goes from one phase to the next waits for a look newer than its last round (`newer_than`): this is the
//! book-keeping of just under a second after a pod's sandbox is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::manifest::{FullName, Uid};
use super::runtime::Runtime;
use super::scale::Scale;
use crate::cri::{ContainerState, ContainerStatus, PodSandboxState};

/// `genericPlegRelistPeriod`.
const RELIST: Duration = Duration::from_secs(1);

/// Label of sandboxes and containers: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label of containers: the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Whether a sandbox's processes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Its pause process runs.
    Ready,
    /// It exited or was stopped.
    NotReady,
}

/// One sandbox of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// The runtime's ID.
    pub id: String,
    /// How often a sandbox was made for this UID before.
    pub attempt: u32,
    /// Whether it is up.
    pub readiness: Readiness,
    /// Nanoseconds since 1970.
    pub created_at: i64,
}

/// What the runtime knew of one pod at a look.
#[derive(Debug, Clone, PartialEq)]
pub struct PodState {
    /// The pod's name.
    pub full_name: FullName,
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first, all names mixed.
    pub containers: Vec<ContainerStatus>,
}

impl PodState {
    /// The newest container of this name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.of_name(name).next()
    }

    /// All containers of this name, newest first.
    pub fn of_name(&self, name: &str) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(move |one| one.metadata.as_ref().is_some_and(|meta| meta.name == name))
    }

    /// Whether anything of it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.sandboxes.iter().any(|sandbox| sandbox.readiness == Readiness::Ready)
            || self.containers.iter().any(|one| one.state() == ContainerState::ContainerRunning)
    }
}

/// A change that the sync loop should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The pod.
    pub uid: Uid,
    /// The containers that exited since the last look.
    pub died: Vec<String>,
}

/// The last look at every pod.
#[derive(Debug)]
pub struct Cache {
    pods: Mutex<BTreeMap<Uid, Arc<PodState>>>,
    looked: watch::Sender<Option<Instant>>,
}

impl Cache {
    fn new() -> Self {
        Self { pods: Mutex::new(BTreeMap::new()), looked: watch::Sender::new(None) }
    }

    /// The pod as last seen.
    #[must_use]
    pub fn get(&self, uid: &Uid) -> Option<Arc<PodState>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Every pod as last seen.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Uid, Arc<PodState>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pod as seen by a look that began after `moment`; waits for one.
    pub async fn newer_than(&self, uid: &Uid, moment: Option<Instant>) -> Option<Arc<PodState>> {
        let mut looked = self.looked.subscribe();
        // The sender lives as long as the cache, so this cannot fail.
        let _ = looked.wait_for(|last| last.is_some_and(|last| moment.is_none_or(|moment| last > moment))).await;
        self.get(uid)
    }
}

/// Starts looking; the first look follows at once.
#[must_use]
pub fn start(runtime: Runtime, scale: Scale) -> (Arc<Cache>, mpsc::UnboundedReceiver<Event>) {
    let cache = Arc::new(Cache::new());
    let (events, receiver) = mpsc::unbounded_channel();
    let seen = Arc::clone(&cache);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(scale.of(RELIST));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let began = Instant::now();
            match relist(&runtime, &seen).await {
                Ok(changes) => {
                    seen.looked.send_replace(Some(began));
                    for change in changes {
                        debug!(uid = %change.uid, died = ?change.died, "PLEG event");
                        let _ = events.send(change);
                    }
                }
                Err(why) => warn!(%why, "GenericPLEG: Unable to retrieve pods"),
            }
        }
    });
    (cache, receiver)
}

async fn relist(runtime: &Runtime, cache: &Cache) -> Result<Vec<Event>, tonic::Status> {
    let sandboxes = runtime.sandboxes().await?;
    let containers = runtime.containers().await?;
    let before = cache.all();

    let mut found: BTreeMap<Uid, PodState> = BTreeMap::new();
    for sandbox in sandboxes {
        let Some((uid, full_name)) = identity(&sandbox.labels) else {
            continue;
        };
        let readiness = match sandbox.state() {
            PodSandboxState::SandboxReady => Readiness::Ready,
            PodSandboxState::SandboxNotready => Readiness::NotReady,
        };
        let attempt = sandbox.metadata.map_or(0, |meta| meta.attempt);
        let pod = entry(&mut found, uid, full_name);
        pod.sandboxes.push(Sandbox { id: sandbox.id, attempt, readiness, created_at: sandbox.created_at });
    }
    for container in containers {
        let Some((uid, full_name)) = identity(&container.labels) else {
            continue;
        };
        let known = before.get(&uid).and_then(|pod| pod.containers.iter().find(|one| one.id == container.id));
        let status = match known {
            Some(known) if known.state == container.state => Some(known.clone()),
            _ => runtime.container_status(&container.id).await?,
        };
        let pod = entry(&mut found, uid, full_name);
        pod.containers.extend(status);
    }
    for pod in found.values_mut() {
        pod.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
        pod.containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    }

    let changes = changes(&before, &found);
    let mut pods = cache.pods.lock().unwrap_or_else(PoisonError::into_inner);
    *pods = found
        .into_iter()
        .map(|(uid, pod)| match before.get(&uid) {
            Some(same) if **same == pod => (uid, Arc::clone(same)),
            _ => (uid, Arc::new(pod)),
        })
        .collect();
    Ok(changes)
}

fn entry(found: &mut BTreeMap<Uid, PodState>, uid: Uid, full_name: FullName) -> &mut PodState {
    found.entry(uid).or_insert_with(|| PodState { full_name, sandboxes: Vec::new(), containers: Vec::new() })
}

/// UID and name from the labels; what carries none was not made by a kubelet.
fn identity(labels: &HashMap<String, String>) -> Option<(Uid, FullName)> {
    let full_name = FullName { namespace: labels.get(POD_NAMESPACE)?.clone(), name: labels.get(POD_NAME)?.clone() };
    Some((Uid(labels.get(POD_UID)?.clone()), full_name))
}

fn changes(before: &BTreeMap<Uid, Arc<PodState>>, now: &BTreeMap<Uid, PodState>) -> Vec<Event> {
    let mut events = Vec::new();
    for (uid, pod) in now {
        let old = before.get(uid);
        if old.is_some_and(|old| **old == *pod) {
            continue;
        }
        let exited = |state: ContainerState| state == ContainerState::ContainerExited;
        let was_exited =
            |id: &str| old.is_some_and(|old| old.containers.iter().any(|one| one.id == id && exited(one.state())));
        let died = pod.containers.iter().filter(|one| exited(one.state()) && !was_exited(&one.id));
        events.push(Event { uid: uid.clone(), died: died.map(|one| one.id.clone()).collect() });
    }
    for (uid, _) in before.iter().filter(|(uid, _)| !now.contains_key(uid)) {
        events.push(Event { uid: uid.clone(), died: Vec::new() });
    }
    events
}
