//! The agent's task for snapshots. It runs concurrently with the passes; neither waits for the other.
//!
//! ```text
//!   a pass ──TaskInput (which member, does it answer, is work pending)──▶ keeper
//!   keeper: sleep until one is due ─▶ take ─▶ prove ─▶ keep ─▶ bundle ─▶ prune by the rules ─▶ read the directory again
//!      │ taken, pruned, failed: events ──▶ journal, history         └─▶ Snapshots, for pass, status and doctor
//!      └ another lastgood holds the lock: retry soon
//! ```
//!
//! Another task ([`remote::task`](super::remote::task)) uploads the snapshots to object storage; this one only notifies
//! it, also of a snapshot that the operator saved, within seconds.
//!
//! If etcd does not answer, no snapshot is requested: its probes report that already, and the pass reports that the
//! newest snapshot is old. Before blocking on a disk, a thread hands its other work to the runtime (`block_in_place`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use super::check_task::CheckTask;
use super::directory::{Directory, LockError, Locked};
use super::notices::notices;
use super::remote::UploadTask;
use super::retention::Rules;
use super::save::{self, Limits, from_member, quietly};
use super::task_input::TaskInput;
use super::{apart, bundle, look, schedule};
use super::{doctor, settings};
use crate::config::duration::roughly;
use crate::config::{Settings, size};
use crate::feature::{Feature, Inbox, PassEnd, Registration, View};
use crate::model::event::EventKind;
use crate::model::memory::Machine;
use crate::model::notice::FeatureNotice;
use crate::model::snapshot::{Bundled, Failed};
use crate::model::{ComponentId, Event, Role, Snapshots};
use crate::observe::LocalMember;
use crate::sys::clock;

/// The directory is looked at this often: the operator may have put something there, or taken it away.
const LOOK: Duration = Duration::from_secs(60);
/// And this soon after names came or went there.
const GLANCE: Duration = Duration::from_secs(5);
/// While another lastgood is at the directory, or etcd is being defragmented.
const BUSY: Duration = Duration::from_secs(5);
/// Before work on the node, one younger than this is new enough.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// A member answers every two seconds; a pass takes its answer a moment later.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);
/// Snapshots, in the agent's table of features.
pub const REGISTRATION: Registration = Registration {
    name: "snapshots",
    keys: settings::KEYS,
    start: |settings, machine, inbox| Box::new(SnapshotTask::start(settings, machine, inbox)),
    look: |settings, memory, view| {
        let has_etcd = memory.components.values().any(|record| record.role == Role::Etcd);
        view.snapshots = has_etcd.then(|| look(settings, Timestamp::now()));
    },
    doctor: |view, now| view.snapshots.as_ref().map_or_else(Vec::new, |snapshots| doctor::checks(snapshots, now)),
};

#[derive(Debug)]
pub(super) struct SnapshotTask {
    wanted: watch::Sender<TaskInput>,
    confirmed: watch::Sender<Duration>,
    known: Arc<Mutex<Snapshots>>,
    /// Nothing where snapshots are sent nowhere.
    uploader: Option<UploadTask>,
    _checks: CheckTask,
    /// Ends with this value; what it was writing is removed, or swept by the next one.
    _task: JoinSet<()>,
}

impl SnapshotTask {
    /// Hands it what the last pass found.
    pub(super) fn want(&self, wanted: TaskInput) {
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// Hands it when the member's last answer from the data on record came, on the boot clock.
    pub(super) fn confirm(&self, answered: Duration) {
        self.confirmed.send_if_modified(|before| std::mem::replace(before, answered) != answered);
    }

    pub(super) fn start(settings: &Settings, machine: &Machine, tell: Inbox) -> Self {
        let (wanted, wants) = watch::channel(TaskInput::default());
        let (confirmed, confirms) = watch::channel(Duration::ZERO);
        let since = clock::now().wall;
        let known = Arc::new(Mutex::new(look(settings, since)));
        let uploader = UploadTask::start(settings, wants.clone(), tell.clone());
        let checks = CheckTask::start(settings.snapshot_dir(), wants.clone(), tell.clone());
        let work = Work {
            settings: settings.clone(),
            machine: machine.machine_id.clone(),
            since,
            wants,
            confirms,
            tell,
            known: Arc::clone(&known),
            failed: None,
            unbundled: None,
            hurried: None,
            kept: uploader.as_ref().map(UploadTask::kept),
            looked: None,
        };
        let mut task = JoinSet::new();
        task.spawn(work.go_on());
        Self { wanted, confirmed, known, uploader, _checks: checks, _task: task }
    }

    /// The etcd of this node and its snapshots; nothing if it runs no etcd.
    pub(super) fn known(&self) -> Option<(ComponentId, Snapshots)> {
        let etcd = self.wanted.borrow().member.as_ref()?.component.clone();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some((etcd, Snapshots { remote: self.uploader.as_ref().map(UploadTask::known), ..known }))
    }
}

impl Feature for SnapshotTask {
    fn after_pass(&mut self, pass: PassEnd<'_>) {
        let (wanted, answered) = TaskInput::of(pass);
        if let Some(answered) = answered {
            self.confirm(answered);
        }
        self.want(wanted);
    }

    fn notices(&self, now: Timestamp) -> Vec<FeatureNotice> {
        self.known().map_or_else(Vec::new, |(etcd, snapshots)| notices(&snapshots, &etcd, now))
    }

    fn show(&self, view: &mut View) {
        view.snapshots = self.known().map(|(_, snapshots)| snapshots);
    }
}

struct Work {
    settings: Settings,
    machine: String,
    since: Timestamp,
    wants: watch::Receiver<TaskInput>,
    /// When the member last answered from the data on record.
    confirms: watch::Receiver<Duration>,
    tell: Inbox,
    known: Arc<Mutex<Snapshots>>,
    failed: Option<Failed>,
    /// Why the last snapshot has no bundle, where it has none.
    unbundled: Option<String>,
    /// The work ahead that one was taken for.
    hurried: Option<String>,
    /// Whom to tell that the newest is another one.
    kept: Option<Arc<Notify>>,
    /// When it was last looked whether the directory is another one, and when names had come or gone there then.
    looked: Option<(Duration, Option<SystemTime>)>,
}

/// When names came or went in the directory last; nothing where that is unknown.
fn changed(settings: &Settings) -> Option<SystemTime> {
    std::fs::metadata(settings.snapshot_dir()).and_then(|metadata| metadata.modified()).ok()
}

/// How a try ended.
enum Tried {
    Done,
    Busy,
}

impl Work {
    async fn go_on(mut self) {
        loop {
            let wanted = self.wants.borrow_and_update().clone();
            let now = clock::now().wall;
            let mut rest = GLANCE;
            if wanted.work_ahead.is_none() {
                self.hurried = None;
            }
            if let (true, true, Some(member)) = (self.settings.snapshots.enabled, wanted.answers, &wanted.member) {
                let hurry = self.hurry(&wanted, now);
                let due = self.due(now);
                if hurry.is_some() || due <= now {
                    let why = hurry.clone().unwrap_or_else(|| "it was due".to_owned());
                    match self.take(member, &why).await {
                        Tried::Done => self.hurried = hurry.or(self.hurried.take()),
                        Tried::Busy => sleep(BUSY).await,
                    }
                    continue;
                }
                rest = rest.min(due.duration_since(now).try_into().unwrap_or_default());
            }
            // At least a moment, whatever the clock says.
            match timeout(rest.max(Duration::from_millis(50)), self.wants.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) if self.has_changed() => self.look_anew().await,
                Err(_) => {}
            }
        }
    }

    /// Whether names came or went in the directory since it was looked at, or that is long ago.
    fn has_changed(&mut self) -> bool {
        let (now, changed) = (clock::since_boot(), changed(&self.settings));
        let due = self.looked.is_none_or(|(at, was)| changed != was || now.saturating_sub(at) >= LOOK);
        if due {
            self.looked = Some((now, changed));
        }
        due
    }

    fn due(&self, now: Timestamp) -> Timestamp {
        let newest = self.known.lock().unwrap_or_else(PoisonError::into_inner).newest.as_ref().map(|newest| newest.at);
        let failed = self.failed.as_ref().map(|failed| (failed.at, failed.times));
        let known = schedule::Known { newest, failed, since: self.since };
        schedule::due(&known, self.settings.snapshots.interval, &self.machine, now)
    }

    /// Work ahead that nothing was taken for yet, and nothing new enough is there.
    fn hurry(&self, wanted: &TaskInput, now: Timestamp) -> Option<String> {
        let work = wanted.work_ahead.clone().filter(|work| self.hurried.as_ref() != Some(work))?;
        let age = self.known.lock().unwrap_or_else(PoisonError::into_inner).age(now);
        (age.is_none_or(|age| age > FRESH) && self.failed.is_none()).then_some(work)
    }

    async fn take(&mut self, member: &LocalMember, why: &str) -> Tried {
        let directory = Directory::at(&self.settings.snapshot_dir());
        let began = clock::since_boot();
        let Ok(apart) = block_in_place(|| apart(&self.settings)) else { return Tried::Busy };
        let locked = match block_in_place(|| directory.lock()) {
            Ok(locked) => locked,
            Err(LockError::Busy(_)) => return Tried::Busy,
            Err(LockError::Io(error)) => {
                self.fail(member, error.to_string()).await;
                return Tried::Done;
            }
        };
        let limits = Limits::from(&self.settings.snapshots);
        let kept = async {
            let taken = from_member(&member.way, limits, directory.path(), &quietly()).await?;
            drop(apart);
            let proven = taken.prove(&quietly()).await?;
            let (proof, remarks) = (proven.proof().clone(), proven.remarks().join("; "));
            let sha256 = proven.sha256();
            self.confirmed(clock::since_boot()).await?;
            block_in_place(|| proven.keep(&locked))?;
            let bundle = block_in_place(|| bundle::add(&self.settings, &locked, &proof, sha256));
            Ok::<_, save::Fault>((proof, remarks, bundle))
        };
        match kept.await {
            Ok((proof, remarks, bundle)) => {
                let took = roughly(clock::since_boot().saturating_sub(began));
                let size = size::roughly(proof.bytes);
                let remarks = if remarks.is_empty() { remarks } else { format!("; {remarks}") };
                let revision = proof.name.revision;
                let with = bundle.as_ref().map(|bundle| format!("; with {}", Bundled::from(bundle.clone()).briefly));
                let to = format!(
                    "snapshot {} taken and verified: revision {revision}, {size}, in {took}{}{remarks}",
                    proof.file,
                    with.unwrap_or_default()
                );
                self.failed = None;
                self.tell(EventKind::Snapshot, member, &to, why).await;
                self.unbundled(member, bundle.err()).await;
            }
            Err(fault) => self.fail(member, fault.to_string()).await,
        }
        // Nothing goes where nothing came: on a full disk the old ones are the ones that count.
        if self.failed.is_none() {
            for (kind, to, why) in block_in_place(|| self.prune(&locked)) {
                self.tell(kind, member, &to, &why).await;
            }
        }
        drop(locked);
        self.look_anew().await;
        Tried::Done
    }

    /// Waits for an answer of the member that came after its data were read, and was from the data on record: an etcd that
    /// has just started on others is found out by its first answers.
    async fn confirmed(&mut self, read: Duration) -> Result<(), save::Fault> {
        match timeout(CONFIRMED_WITHIN, self.confirms.wait_for(|answered| *answered >= read)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(save::Fault::Unconfirmed),
        }
    }

    /// Removes what the rules do not keep, and says what went, and why.
    fn prune(&self, locked: &Locked) -> Vec<(EventKind, String, String)> {
        let failed = |error: std::io::Error| {
            (EventKind::Failure, error.to_string(), "the retention rules removed snapshots".to_owned())
        };
        let surplus = match locked.surplus(&Rules::from(&self.settings.snapshots), clock::now().wall) {
            Ok(surplus) => surplus,
            Err(error) => return vec![failed(error)],
        };
        let gone = surplus.into_iter().map(|gone| match locked.remove(&gone.snapshot) {
            Ok(()) => (EventKind::Snapshot, format!("snapshot {} pruned", gone.snapshot.name), gone.why.to_string()),
            Err(error) => failed(error),
        });
        gone.collect()
    }

    /// A snapshot is as good without its bundle; the reason is told when it is another one than before.
    async fn unbundled(&mut self, member: &LocalMember, why: Option<String>) {
        if let Some(why) = why.as_ref().filter(|why| self.unbundled.as_ref() != Some(why)) {
            let to = format!("the snapshot has no bundle: {why}");
            self.tell(EventKind::Notice, member, &to, "lastgood tries again with the next one").await;
        }
        self.unbundled = why;
    }

    /// The same reason is reported once, however often it is met.
    async fn fail(&mut self, member: &LocalMember, why: String) {
        let before = self.failed.take();
        let times = before.as_ref().map_or(1, |failed| failed.times.saturating_add(1));
        if before.is_none_or(|before| before.why != why) {
            let again = roughly(schedule::back_off(self.settings.snapshots.interval, times));
            let to = format!("no snapshot of etcd's data could be taken: {why}");
            let because = format!("lastgood tries again after {again}");
            self.tell(EventKind::Failure, member, &to, &because).await;
        }
        self.failed = Some(Failed { at: clock::now().wall, times, why });
    }

    async fn look_anew(&self) {
        let (settings, since) = (self.settings.clone(), self.since);
        let Ok(mut known) = tokio::task::spawn_blocking(move || look(&settings, since)).await else { return };
        known.failed.clone_from(&self.failed);
        let newest = known.newest.clone();
        let before = std::mem::replace(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner), known);
        // The agent or the operator took it; a bundle that came to it later goes there as well.
        if let Some(kept) = self.kept.as_ref().filter(|_| newest.is_some() && newest != before.newest) {
            kept.notify_one();
        }
    }

    async fn tell(&self, kind: EventKind, member: &LocalMember, to: &str, because: &str) {
        // Nobody listens any more where the agent ends.
        let _ = self.tell.send(Event::new(clock::now().wall, kind, Some(&member.component), to, because)).await;
    }
}
