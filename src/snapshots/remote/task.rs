//! The task that uploads snapshots. It never holds up the keeper's task. It does one unit of work at a time, each with
//! a deadline.
//!
//! ```text
//!   a snapshot was taken, or an interval has passed ─▶ round: list there ─▶ abort what an earlier process left unfinished
//!                                                                        ─▶ the newest local one is missing? upload it
//!                                                                        ─▶ prune there (only if nothing failed)
//!   round failed ─▶ back-off: a minute, two, four … an interval; one message until the reason changes
//! ```
//!
//! After an outage only the newest snapshot is uploaded. Older ones are not made up for: they exist locally, and are
//! worth little in object storage next to the newest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::list::{Proofs, SnapshotList, Stored};
use super::prune::{own_clusters, surplus};
use super::seen;
use super::send::{Parcel, quietly};
use super::store::Remote;
use super::trouble::Trouble;
use super::{aside, unfinished};
use crate::config::duration::roughly;
use crate::config::object_url::ObjectUrl;
use crate::config::{Settings, size};
use crate::feature::Inbox;
use crate::model::event::EventKind;
use crate::model::snapshot::{self, Failing, Sent};
use crate::model::{ComponentId, Event};
use crate::snapshots::retention::Rules;
use crate::snapshots::task_input::TaskInput;
use crate::snapshots::{Directory, schedule};
use crate::sys::clock;

#[derive(Debug)]
pub struct UploadTask {
    known: Arc<Mutex<snapshot::Remote>>,
    kept: Arc<Notify>,
    /// Ends with this value; what was on its way is visible to nobody.
    _task: JoinSet<()>,
}

impl UploadTask {
    /// Starts it, where snapshots are to be sent anywhere.
    pub(in crate::snapshots) fn start(
        settings: &Settings,
        wanted: watch::Receiver<TaskInput>,
        tell: Inbox,
    ) -> Option<Self> {
        let place = seen::place(settings)?;
        let known = Arc::new(Mutex::new(seen::seen(settings)?));
        let kept = Arc::new(Notify::new());
        let work = Work {
            settings: settings.clone(),
            dir: settings.snapshot_dir(),
            place,
            wanted,
            tell,
            known: Arc::clone(&known),
            kept: Arc::clone(&kept),
            proofs: Proofs::default(),
            told: None,
        };
        let mut task = JoinSet::new();
        task.spawn(work.go_on());
        Some(Self { known, kept, _task: task })
    }

    /// Tells it that there is something new here.
    pub(in crate::snapshots) fn kept(&self) -> Arc<Notify> {
        Arc::clone(&self.kept)
    }

    /// What was seen there last.
    pub fn known(&self) -> snapshot::Remote {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Work {
    settings: Settings,
    dir: PathBuf,
    place: ObjectUrl,
    wanted: watch::Receiver<TaskInput>,
    tell: Inbox,
    known: Arc<Mutex<snapshot::Remote>>,
    kept: Arc<Notify>,
    proofs: Proofs,
    /// The failure that was told last.
    told: Option<String>,
}

/// Something that is to be reported: what, and why.
type Told = (EventKind, String, String);

impl Work {
    async fn go_on(mut self) {
        let interval = self.settings.snapshots.interval;
        // A restart does not hurry a store that failed a moment ago.
        sleep(self.left()).await;
        loop {
            let mut told = Vec::new();
            match self.round(&mut told).await {
                Ok(()) => {
                    self.told = None;
                    self.note(|known| known.failing = None).await;
                }
                Err(trouble) => self.fail(trouble.to_string(), &mut told).await,
            }
            for (kind, to, because) in told {
                self.tell(kind, &to, &because).await;
            }
            match self.left() {
                Duration::ZERO => drop(timeout(interval, self.kept.notified()).await),
                left => sleep(left).await,
            }
        }
    }

    /// How long the store is still left alone.
    fn left(&self) -> Duration {
        let failing = self.known.lock().unwrap_or_else(PoisonError::into_inner).failing.clone();
        let Some(failing) = failing else { return Duration::ZERO };
        let rest = schedule::back_off(self.settings.snapshots.interval, failing.times);
        let passed = clock::now().wall.duration_since(failing.at);
        // A clock that was set back does not put it off for longer.
        rest.saturating_sub(passed.try_into().unwrap_or_default())
    }

    async fn round(&mut self, told: &mut Vec<Told>) -> Result<(), Trouble> {
        let remote = Remote::open(&self.settings.snapshots.remote, &self.place)?.recording(&self.dir);
        let mut list = remote.list(&mut self.proofs).await?;
        // An earlier process may have ended in the middle; what it left is in nobody's way, and is tried again.
        match unfinished::abort(&self.settings.snapshots.remote, &self.dir).await {
            Ok(aborted) => told.extend(aborted.into_iter().map(|object| {
                let to = format!("an unfinished upload of {object} is aborted");
                (EventKind::Snapshot, to, "the process that began it has ended".to_owned())
            })),
            Err(trouble) => tracing::debug!(%trouble, "an unfinished upload stays"),
        }
        let dir = self.dir.clone();
        let settings = self.settings.clone();
        let looked = move || {
            let here = Directory::at(&dir).list()?;
            let clusters = own_clusters(&settings, &here);
            Ok((here, clusters))
        };
        let (here, clusters) = aside(looked).await?;
        let newest = here.iter().rev().find_map(|snapshot| snapshot.proof.as_ref().ok());
        let ours = newest.map(|proof| proof.name.cluster);
        self.look(&list, ours).await;
        if let Some(proof) = newest {
            let parcel = Parcel::of(&self.dir, proof.clone())?;
            if !parcel.is_in(list.get(parcel.name())) {
                let began = clock::since_boot();
                let sent = remote.send(&parcel, list.get(parcel.name()), &quietly()).await;
                if sent.is_err() && !parcel.database.exists() {
                    // Pruned here meanwhile: a newer one is there, or soon will be.
                    return Ok(());
                }
                sent?;
                let took = roughly(clock::since_boot().saturating_sub(began));
                let (file, size) = (&parcel.proof.file, size::roughly(parcel.proof.bytes));
                let to = format!("snapshot {file} is in {}: {size}, read back and compared, in {took}", self.place);
                told.push((EventKind::Snapshot, to, "it was the newest one that was missing there".to_owned()));
                list = remote.list(&mut self.proofs).await?;
                self.look(&list, ours).await;
            }
        }
        remote.sweep(&list).await?;
        let rules = Rules::from(&self.settings.snapshots.remote);
        for (stored, why) in surplus(&list, &clusters, &rules, clock::now().wall) {
            remote.remove(&stored).await?;
            let to = format!("snapshot {} pruned in {}", stored.name, self.place);
            told.push((EventKind::Snapshot, to, why.to_string()));
            list.stored.retain(|other| other.name != stored.name);
        }
        self.look(&list, ours).await;
        Ok(())
    }

    /// What a listing says, for those who ask. `ours`: the cluster that counts.
    async fn look(&self, list: &SnapshotList, ours: Option<u64>) {
        let of_ours = |stored: &&Stored| ours.is_none_or(|ours| stored.name.cluster == ours);
        let newest = list.stored.iter().rev().filter(of_ours).find_map(|stored| {
            let proof = stored.proof.as_ref().ok()?;
            Some(Sent {
                file: proof.file.clone(),
                at: stored.name.at,
                revision: stored.name.revision,
                bytes: stored.bytes,
                verified: proof.verified,
            })
        });
        let unverified = list.stored.iter().filter(of_ours);
        let unverified = unverified.filter_map(|s| Some((s.name.to_string(), s.proof.as_ref().err()?.clone())));
        let unverified = unverified.collect();
        let verified = list.stored.iter().filter(of_ours).filter(|stored| stored.proof.is_ok()).count();
        self.note(|known| {
            (known.newest, known.verified, known.unverified) = (newest, verified, unverified);
            known.looked = Some(clock::now().wall);
        })
        .await;
    }

    /// The same reason is reported once, however often it is met.
    async fn fail(&mut self, why: String, told: &mut Vec<Told>) {
        let now = clock::now().wall;
        let mut times = 1;
        self.note(|known| {
            let (since, before) = known.failing.as_ref().map_or((now, 0), |failing| (failing.since, failing.times));
            times = before.saturating_add(1);
            known.failing = Some(Failing { since, at: now, times, why: why.clone() });
        })
        .await;
        if self.told.as_ref() != Some(&why) {
            let again = roughly(schedule::back_off(self.settings.snapshots.interval, times));
            let to = format!("the newest snapshot cannot be uploaded to {}: {why}", self.place);
            told.push((
                EventKind::Failure,
                to,
                format!("lastgood tries again after {again}; snapshots on this node continue"),
            ));
            self.told = Some(why);
        }
    }

    /// Changes what is known, and writes it down.
    async fn note(&self, change: impl FnOnce(&mut snapshot::Remote)) {
        let known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let before = known.clone();
            change(&mut known);
            if *known == before {
                return;
            }
            known.clone()
        };
        let dir = self.dir.clone();
        if let Err(error) = aside(move || seen::write(&dir, &known)).await {
            // It is known here nevertheless; only a restart would not know.
            tracing::debug!(%error, "the state of object storage cannot be saved");
        }
    }

    async fn tell(&self, kind: EventKind, to: &str, because: &str) {
        let component: Option<ComponentId> = self.wanted.borrow().member.as_ref().map(|m| m.component.clone());
        // Nobody listens any more where the agent ends.
        let _ = self.tell.send(Event::new(clock::now().wall, kind, component.as_ref(), to, because)).await;
    }
}
