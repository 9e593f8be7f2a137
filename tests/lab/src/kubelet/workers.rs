//! The shell around the pod workers: one task per UID, woken by what `worker.rs` says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tracing::{debug, info};

use super::manifest::{FullName, Uid};
use super::sync::Node;
use super::worker::{After, Begin, Intent, Known, Outcome, Subject, Wake, Work, Workers};

/// A task's two bells.
#[derive(Debug, Default)]
struct Bells {
    wake: Notify,
    interrupt: Notify,
}

/// All pod workers.
#[derive(Debug, Clone)]
pub struct PodWorkers {
    node: Arc<Node>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    workers: Workers,
    bells: HashMap<Uid, Arc<Bells>>,
}

impl PodWorkers {
    /// None yet.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let workers = Workers::new(node.settings.scale);
        Self { node, inner: Arc::new(Mutex::new(Inner { workers, bells: HashMap::new() })) }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the worker of `subject`.
    pub fn update(&self, subject: Subject, intent: Intent) {
        let uid = subject.uid().clone();
        debug!(%uid, ?intent, "Notifying pod of pending update");
        let mut inner = self.inner();
        match inner.workers.update(subject, intent) {
            Wake::None => {}
            Wake::Spawn => {
                let bells = Arc::new(Bells::default());
                bells.wake.notify_one();
                inner.bells.insert(uid.clone(), Arc::clone(&bells));
                tokio::spawn(self.clone().run(uid, bells));
            }
            Wake::Notify => inner.ring(&uid),
            Wake::Interrupt => {
                if let Some(bells) = inner.bells.get(&uid) {
                    bells.interrupt.notify_one();
                }
                inner.ring(&uid);
            }
        }
    }

    /// See [`Workers::sync_known`].
    pub fn sync_known(&self, desired: &BTreeSet<Uid>) -> HashMap<Uid, Known> {
        let mut inner = self.inner();
        let (known, wake) = inner.workers.sync_known(desired);
        for uid in wake {
            inner.ring(&uid);
        }
        known
    }

    /// See [`Workers::due`].
    #[must_use]
    pub fn due(&self) -> Vec<Uid> {
        self.inner().workers.due(Instant::now())
    }

    /// See [`Workers::is_terminating`].
    #[must_use]
    pub fn is_terminating(&self, name: &FullName) -> bool {
        self.inner().workers.is_terminating(name)
    }

    /// See [`Workers::may_remove_content`].
    #[must_use]
    pub fn may_remove_content(&self, uid: &Uid) -> bool {
        self.inner().workers.may_remove_content(uid)
    }

    /// See [`Workers::is_over`].
    #[must_use]
    pub fn is_over(&self, uid: &Uid) -> bool {
        self.inner().workers.is_over(uid)
    }

    async fn run(self, uid: Uid, bells: Arc<Bells>) {
        let mut last_sync = None;
        loop {
            bells.wake.notified().await;
            loop {
                let begin = {
                    let mut inner = self.inner();
                    // Another task may have been started for this UID after housekeeping forgot the pod.
                    if inner.bells.get(&uid).is_none_or(|current| !Arc::ptr_eq(current, &bells)) {
                        return;
                    }
                    inner.workers.begin(&uid, Instant::now())
                };
                let work = match begin {
                    Begin::Run(work) => work,
                    Begin::Parked(name) => {
                        info!(pod = %name, %uid, "Pod cannot start yet: another pod of this name is known; parked");
                        break;
                    }
                    Begin::Idle => break,
                    Begin::Exit => {
                        self.forget(&uid, &bells);
                        return;
                    }
                };
                let outcome = self.round(&uid, &work, last_sync, &bells).await;
                last_sync = Some(Instant::now());
                let after = self.inner().workers.finish(&uid, &work, outcome, Instant::now());
                match after {
                    After::Again => {}
                    After::Wait => break,
                    After::Exit => {
                        self.forget(&uid, &bells);
                        return;
                    }
                }
            }
        }
    }

    async fn round(&self, uid: &Uid, work: &Work, last_sync: Option<Instant>, bells: &Bells) -> Outcome {
        let round = async {
            let state = match work {
                Work::TerminateRuntime(_) => None,
                _ => self.node.cache.newer_than(uid, last_sync).await,
            };
            self.node.work(work, state).await
        };
        if !matches!(work, Work::Sync(_)) {
            return round.await;
        }
        tokio::select! {
            outcome = round => outcome,
            () = bells.interrupt.notified() => Outcome::Cancelled,
        }
    }

    fn forget(&self, uid: &Uid, bells: &Arc<Bells>) {
        let mut inner = self.inner();
        if inner.bells.get(uid).is_some_and(|current| Arc::ptr_eq(current, bells)) {
            inner.bells.remove(uid);
        }
    }
}

impl Inner {
    fn ring(&self, uid: &Uid) {
        if let Some(bells) = self.bells.get(uid) {
            bells.wake.notify_one();
        }
    }
}
