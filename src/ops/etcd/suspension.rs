//! A restore while etcd's manifest is deployed: the agent, or the same decision in this process if none runs, takes out
//! etcd's manifest and kube-apiserver's, and deploys them again when the data are in place.
//!
//! ```text
//!   lock ─▶ request the suspension ─▶ both pods have ended ─▶ build, check, exchange ─▶ lock released
//!                                                                                        │
//!             a write, a linearizable read ◀─ kube-apiserver serves ◀─ etcd serves ◀─────┘
//! ```
//!
//! The manifest stays out while the lock is held: a process that dies releases it, and the agent deploys the manifest
//! again.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::node::comes_back;
use super::serves;
use crate::config::Settings;
use crate::control::Execution;
use crate::model::{ComponentId, Event, Request, Role, Verdict};
use crate::ops::backend::Backend;
use crate::ops::failure::{Exit, Failure};
use crate::ops::follow::{Outcome, follow, outcome, tell, until};
use crate::ops::offline::Offline;
use crate::report::status;
use crate::sys::files;
use crate::sys::lock_file::{self, LockError, LockFile};

/// The longest the slot stays empty. What is verified before is built, read again and exchanged meanwhile: minutes, even
/// for eight gigabytes on a slow disk.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// kube-apiserver, from its manifest to its first good answer.
const SERVES: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);

/// Keeps every other restore, and every start of etcd by a lastgood, away. Nothing where no lastgood has been here, and
/// none could start one; nor for a dry run, which changes nothing and waits for nobody.
pub(crate) fn lock(settings: &Settings, dry_run: bool) -> Result<Lock<'_>, Failure> {
    let staging = &settings.paths.staging;
    if dry_run || !staging.parent().is_some_and(|dir| dir.is_dir()) {
        return Ok(Lock { settings, held: None, dry_run });
    }
    files::make_dir(staging, 0o700)?;
    match LockFile::take(&settings.restore_lock()) {
        Ok(lock) => Ok(Lock { settings, held: Some(lock), dry_run }),
        Err(held @ LockError::Held { .. }) => Err(busy(&held)),
        Err(LockError::Io(error)) => Err(error.into()),
    }
}

/// The restore that is under way on this node, for a plan.
pub(crate) fn under_way(settings: &Settings) -> Option<String> {
    let pid = lock_file::holder(&settings.restore_lock())?;
    Some(format!("another restore (pid {pid}): without --dry-run, lastgood refuses this one until the other ends"))
}

pub(crate) fn busy(held: &LockError) -> Failure {
    Failure { exit: Exit::Refused, sentence: format!("refused: {held}; next: wait until it ends") }
}

/// Gives the lock back, and proves that an etcd serves whose slot was empty when the restore began, as an earlier one
/// that was killed leaves it. Nothing where nobody puts its manifest back but the operator.
pub(crate) async fn back(
    settings: &Settings,
    lock: Lock<'_>,
    etcd: Option<ComponentId>,
) -> Result<Option<i64>, Failure> {
    drop(lock);
    let Some(component) = etcd else { return Ok(None) };
    match Backend::open(settings).await {
        Ok(mut backend @ Backend::Running(_)) => {
            let status = backend.status().await?;
            let found = status.components.into_iter().find(|found| found.component == component);
            if found.is_some_and(|found| found.replacement.is_some()) {
                let events = Some(follow(settings, &component).await?);
                Suspension { settings, component, backend, events, steps: Vec::new() }.fill().await?;
            }
        }
        // With the lock the slots were filled; what is under way about them is not over.
        Ok(Backend::Stopped(offline)) if comes_back(settings) => offline.carry_on(&component, &mut tell).await?,
        // Nothing is known of this node: there is nothing to carry on.
        Ok(Backend::Stopped(_)) | Err(_) => {}
    }
    match comes_back(settings) {
        true => Ok(Some(serves::proven(settings).await?)),
        false => Ok(None),
    }
}

/// The lock of a restore. Where no agent runs that would notice its end (it may have been stopped meanwhile, and leaves a
/// slot empty that a restore works behind), what was emptied is filled here (Q11), however the restore ends.
pub(crate) struct Lock<'a> {
    settings: &'a Settings,
    held: Option<LockFile>,
    /// A dry run changes nothing.
    dry_run: bool,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.held = None;
        if !self.dry_run && Offline::agent(self.settings).is_none() {
            Offline::fill_slots(self.settings).iter().for_each(|filled| eprintln!("{filled}"));
        }
    }
}

/// An etcd whose manifest is to be out.
pub(crate) struct Suspension<'a> {
    settings: &'a Settings,
    component: ComponentId,
    backend: Backend,
    events: Option<mpsc::Receiver<Event>>,
    /// What will be done, step by step.
    pub(crate) steps: Vec<String>,
}

impl<'a> Suspension<'a> {
    /// What emptying it takes. For real, the lock must be held.
    pub(crate) async fn plan(settings: &'a Settings, component: ComponentId, how: Execution) -> Result<Self, Failure> {
        let mut backend = Backend::open(settings).await?;
        if let (Execution::DryRun, Backend::Stopped(_)) = (how, &backend) {
            // The decision in this process takes the agent's lock.
            let steps = vec![format!(
                "no agent runs: lastgood takes the manifest of {component} and that of kube-apiserver out, restores the data, \
                 and deploys both again"
            )];
            return Ok(Self { settings, component, backend, events: None, steps });
        }
        let planned = backend.perform(request(&component), Execution::DryRun, &mut tell).await?;
        Ok(Self { settings, component, backend, events: None, steps: planned.steps })
    }

    /// Has it emptied, and waits until its pod has ended.
    pub(crate) async fn empty(&mut self) -> Result<(), Failure> {
        if let Backend::Running(_) = &self.backend {
            self.events = Some(follow(self.settings, &self.component).await?);
        }
        self.backend.perform(request(&self.component), Execution::ForReal, &mut tell).await?;
        if let Some(events) = &mut self.events {
            until(&mut self.backend, &self.component, events, suspended).await?;
        }
        Ok(())
    }

    /// Waits until etcd and its API server serve again. The lock must have been given back.
    pub(crate) async fn fill(&mut self) -> Result<(), Failure> {
        match (&self.backend, &mut self.events) {
            (Backend::Stopped(offline), _) => offline.carry_on(&self.component, &mut tell).await,
            (Backend::Running(_), Some(events)) => {
                until(&mut self.backend, &self.component, events, outcome).await?;
                self.apiserver().await
            }
            (Backend::Running(_), None) => Ok(()),
        }
    }

    /// A write and a read.
    pub(crate) async fn prove(&self) -> Result<i64, Failure> {
        serves::proven(self.settings).await
    }

    async fn apiserver(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + SERVES;
        loop {
            let status = self.backend.status().await?;
            let api = status.components.into_iter().find(|component| component.role == Role::ApiServer);
            let Some(api) = api.filter(|api| api.verdict != Verdict::Healthy) else { return Ok(()) };
            if Instant::now() >= deadline {
                let (who, note) = (&api.component, &api.note);
                return Err(Failure::failed(format!(
                    "etcd serves the restored data; {who} does not serve after {} s: {note}; next: `lastgood explain \
                     {who}`",
                    SERVES.as_secs()
                )));
            }
            sleep(LOOK).await;
        }
    }
}

fn request(component: &ComponentId) -> Request {
    Request::Suspend {
        component: component.clone(),
        seconds: LONGEST.as_secs(),
        reason: "its data are restored".to_owned(),
    }
}

fn suspended(component: &status::Component) -> Outcome {
    match (&component.replacement, outcome(component)) {
        (Some(replacement), _) if replacement.suspended => Outcome::There,
        (_, Outcome::There) => Outcome::Failed(format!(
            "{} was deployed again before the restore began: nothing was restored",
            component.component
        )),
        (_, other) => other,
    }
}
