//! The pod workers' book-keeping: who may start, who must wait, who is being killed. Pure; `now` is an argument, and
//! the shell (`workers.rs`) runs one task per UID on what this says.
//!
//! ```text
//!             name taken: parked, retried after 10 s × (1..1.5)
//!              ┌────┐
//!              │    ▼
//!  create ──▶ Running(not started) ──▶ Running(started) ──kill──▶ Terminating ──containers gone──▶ Terminated
//!              │ kill                     │  ▲ sync, update                                          │ seen by PLEG
//!              ▼                          └──┘                                                       ▼
//!             Finished ◀─────────────────────────────────────────────────────────────────────────── Finished
//!                                           create of the same UID meanwhile: restart wanted, at the next housekeeping
//! ```
//!
//! Only one UID of a full name is ever started; the others queue in the order in which they came. A parked pod looks
//! again only when its retry is due, not when the name becomes free: this is the measured 10 to 15 s.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::manifest::{FullName, StaticPod, Uid};
use super::scale::Scale;

/// Wait after a refused start or a failed sync, and the spread on it: `backOffPeriod`, `workerBackOffPeriodJitterFactor`.
const RETRY: Duration = Duration::from_secs(10);
/// Wait after a sync that went well: `syncFrequency` of the kubelet's configuration.
const RESYNC: Duration = Duration::from_secs(60);
/// Both waits are stretched by up to half.
const SPREAD: f64 = 0.5;

/// Why a worker is told of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It is new in the set.
    Create,
    /// Its content or its mirror pod changed.
    Update,
    /// A retry is due, or its containers changed.
    Sync,
    /// It left the set.
    Kill,
}

/// A pod of which only the runtime knows: left over from before the kubelet's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePod {
    /// Its identity, from the sandbox's labels.
    pub uid: Uid,
    /// Its name, from the sandbox's labels.
    pub full_name: FullName,
}

/// What an update is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A pod of the manifest directory.
    Static(StaticPod),
    /// An orphan of the runtime; it can only be killed.
    Runtime(RuntimePod),
}

impl Subject {
    /// The identity.
    #[must_use]
    pub fn uid(&self) -> &Uid {
        match self {
            Self::Static(pod) => &pod.uid,
            Self::Runtime(pod) => &pod.uid,
        }
    }

    fn full_name(&self) -> &FullName {
        match self {
            Self::Static(pod) => &pod.full_name,
            Self::Runtime(pod) => &pod.full_name,
        }
    }
}

/// Where a pod is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Wanted; its containers are started and restarted.
    Running,
    /// To be killed; no container is started any more.
    Terminating,
    /// Its containers are gone; the book-keeping is not.
    Terminated,
    /// Its worker is gone; the UID is remembered until housekeeping.
    Finished,
}

/// One round of work for a worker's task.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Make the runtime look like the pod.
    Sync(StaticPod),
    /// Stop its containers and sandboxes with its own grace period.
    Terminate(StaticPod),
    /// Stop an orphan's containers at once.
    TerminateRuntime(RuntimePod),
    /// Finish the book-keeping.
    Conclude(StaticPod),
}

/// What a worker's task may do now.
#[derive(Debug, PartialEq)]
pub enum Begin {
    /// This.
    Run(Work),
    /// Nothing: another UID of this name is started, or first in the queue. The retry is queued.
    Parked(FullName),
    /// Nothing was pending.
    Idle,
    /// End: the pod was killed before it was ever started.
    Exit,
}

/// How a round of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// Well, and the pod has run to its end by itself (restartPolicy other than Always).
    Completed,
    /// With an error: tried again after the retry wait.
    Failed,
    /// Interrupted because the pod is to be killed; that update is pending.
    Cancelled,
}

/// What the shell must do after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Nothing.
    None,
    /// Start this UID's task, and wake it.
    Spawn,
    /// Wake it.
    Notify,
    /// Wake it, after interrupting what it does.
    Interrupt,
}

/// Whether a worker's task goes on after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Wait for the next wake.
    Wait,
    /// There is pending work: go on at once.
    Again,
    /// End.
    Exit,
}

#[derive(Debug)]
struct Status {
    full_name: FullName,
    stage: Stage,
    started: Option<Instant>,
    observed_runtime: bool,
    // Housekeeping found it unwanted (or it is an orphan): its exited containers may be removed.
    deleted: bool,
    pending: Option<Subject>,
    active: Option<Subject>,
    restart_requested: bool,
}

/// What housekeeping learns of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Where the pod is.
    pub stage: Stage,
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    statuses: HashMap<Uid, Status>,
    tasks: BTreeSet<Uid>,
    started: HashMap<FullName, Uid>,
    waiting: HashMap<FullName, Vec<Uid>>,
    queue: BTreeMap<Uid, Instant>,
    // Before the first housekeeping, a pod without a worker may yet be wanted.
    synced: bool,
    scale: Scale,
}

impl Workers {
    /// None yet.
    #[must_use]
    pub fn new(scale: Scale) -> Self {
        Self {
            statuses: HashMap::new(),
            tasks: BTreeSet::new(),
            started: HashMap::new(),
            waiting: HashMap::new(),
            queue: BTreeMap::new(),
            synced: false,
            scale,
        }
    }

    /// Tells the worker of `subject` about it.
    pub fn update(&mut self, subject: Subject, intent: Intent) -> Wake {
        let uid = subject.uid().clone();
        let first_time = !self.statuses.contains_key(&uid);
        let status = self.statuses.entry(uid.clone()).or_insert_with(|| Status {
            full_name: subject.full_name().clone(),
            stage: Stage::Running,
            started: None,
            observed_runtime: false,
            deleted: false,
            pending: None,
            active: None,
            restart_requested: false,
        });
        // An orphan's kill uses the manifest, where one is known after all.
        let subject = match subject {
            Subject::Runtime(pod) => {
                status.observed_runtime = true;
                status.deleted = true;
                let mut known = [&status.pending, &status.active].into_iter().flatten();
                let known = known.find(|known| matches!(known, Subject::Static(_))).cloned();
                known.unwrap_or(Subject::Runtime(pod))
            }
            fixed @ Subject::Static(_) => fixed,
        };
        if !first_time && status.stage != Stage::Running && intent == Intent::Create {
            status.restart_requested = true;
            return Wake::None;
        }
        if status.stage == Stage::Finished {
            return Wake::None;
        }
        let mut became_terminating = false;
        if status.stage == Stage::Running && intent == Intent::Kill {
            status.stage = Stage::Terminating;
            became_terminating = true;
        }
        if status.stage == Stage::Terminated && matches!(subject, Subject::Runtime(_)) {
            return Wake::None;
        }
        let is_static = matches!(subject, Subject::Static(_));
        status.pending = Some(subject);
        if self.tasks.insert(uid.clone()) {
            if is_static {
                self.waiting.entry(status.full_name.clone()).or_default().push(uid);
            }
            return Wake::Spawn;
        }
        if became_terminating { Wake::Interrupt } else { Wake::Notify }
    }

    /// What the task of `uid` may do; consumes the pending update unless the pod is parked.
    pub fn begin(&mut self, uid: &Uid, now: Instant) -> Begin {
        let Some(status) = self.statuses.get_mut(uid) else {
            return Begin::Exit;
        };
        let Some(update) = status.pending.take() else {
            return Begin::Idle;
        };
        let (stage, full_name) = (status.stage, status.full_name.clone());
        if status.started.is_some() {
            status.active = Some(update.clone());
            return Begin::Run(work(stage, update));
        }
        let pod = match update {
            Subject::Runtime(pod) => {
                status.active = Some(Subject::Runtime(pod.clone()));
                return Begin::Run(Work::TerminateRuntime(pod));
            }
            Subject::Static(pod) => pod,
        };
        if stage != Stage::Running {
            if status.observed_runtime {
                status.active = Some(Subject::Static(pod.clone()));
                return Begin::Run(work(stage, Subject::Static(pod)));
            }
            self.end_task(uid, Stage::Finished);
            return Begin::Exit;
        }
        if !self.may_start(&full_name, uid) {
            let retry = self.scale.jittered(RETRY, SPREAD);
            self.queue.insert(uid.clone(), now + retry);
            if let Some(status) = self.statuses.get_mut(uid) {
                status.pending = Some(Subject::Static(pod));
            }
            return Begin::Parked(full_name);
        }
        if let Some(status) = self.statuses.get_mut(uid) {
            status.started = Some(now);
            status.active = Some(Subject::Static(pod.clone()));
        }
        Begin::Run(Work::Sync(pod))
    }

    /// Whether no other UID of this name is started and this one is the first that still wants to.
    fn may_start(&mut self, name: &FullName, uid: &Uid) -> bool {
        if let Some(started) = self.started.get(name) {
            return started == uid;
        }
        let queue = self.waiting.remove(name).unwrap_or_default();
        let alive =
            |candidate: &&Uid| self.statuses.get(candidate).is_some_and(|status| status.stage == Stage::Running);
        let first = queue.iter().find(alive).cloned();
        if first.as_ref().is_some_and(|first| first != uid) {
            let rest = queue.into_iter().skip_while(|waiting| Some(waiting) != first.as_ref()).collect();
            self.waiting.insert(name.clone(), rest);
            return false;
        }
        let rest: Vec<Uid> = queue.into_iter().skip_while(|waiting| waiting != uid).skip(1).collect();
        if !rest.is_empty() {
            self.waiting.insert(name.clone(), rest);
        }
        self.started.insert(name.clone(), uid.clone());
        true
    }

    /// Records how `done` ended, and says whether the task goes on.
    pub fn finish(&mut self, uid: &Uid, done: &Work, outcome: Outcome, now: Instant) -> After {
        let retry = self.scale.jittered(RETRY, SPREAD);
        let resync = self.scale.jittered(RESYNC, SPREAD);
        let Some(status) = self.statuses.get_mut(uid) else {
            return After::Exit;
        };
        let mut wait = resync;
        match (outcome, done) {
            (Outcome::Cancelled, _) => wait = retry,
            (Outcome::Failed, _) => wait = retry,
            (_, Work::Conclude(_)) => {
                self.end_task(uid, Stage::Finished);
                return After::Exit;
            }
            (_, Work::TerminateRuntime(_)) => {
                self.end_task(uid, Stage::Finished);
                self.statuses.remove(uid);
                return After::Exit;
            }
            (_, Work::Terminate(_)) => {
                status.stage = Stage::Terminated;
                wait = Duration::ZERO;
            }
            (Outcome::Completed, Work::Sync(_)) => {
                status.stage = status.stage.max(Stage::Terminating);
                wait = Duration::ZERO;
            }
            (Outcome::Done, Work::Sync(_)) => {}
        }
        self.queue.insert(uid.clone(), now + wait);
        if wait.is_zero() && status.pending.is_none() {
            status.pending = status.active.clone();
        }
        if status.pending.is_some() { After::Again } else { After::Wait }
    }

    /// Housekeeping: forgets what is finished and not wanted, sends down what is not wanted, and tells what is known.
    /// The second value names the workers to wake.
    pub fn sync_known(&mut self, desired: &BTreeSet<Uid>) -> (HashMap<Uid, Known>, Vec<Uid>) {
        self.synced = true;
        let mut known = HashMap::new();
        let mut wake = Vec::new();
        let uids: Vec<Uid> = self.statuses.keys().cloned().collect();
        for uid in uids {
            let orphan = !desired.contains(&uid);
            let Some(status) = self.statuses.get_mut(&uid) else {
                continue;
            };
            if status.restart_requested || orphan {
                let never_began = orphan && status.started.is_none() && !status.observed_runtime;
                if status.stage == Stage::Finished || never_began {
                    self.end_task(&uid, Stage::Finished);
                    self.statuses.remove(&uid);
                    // A task that is still there finds no status any more and ends.
                    wake.push(uid);
                    continue;
                }
                if orphan {
                    status.deleted = true;
                    status.stage = status.stage.max(Stage::Terminating);
                    if status.pending.is_none() {
                        status.pending = status.active.clone();
                    }
                    wake.push(uid.clone());
                }
            }
            known.insert(uid, Known { stage: status.stage });
        }
        (known, wake)
    }

    /// The UIDs whose retry or resync is due; each is given once.
    pub fn due(&mut self, now: Instant) -> Vec<Uid> {
        let due: Vec<Uid> = self.queue.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| uid.clone()).collect();
        for uid in &due {
            self.queue.remove(uid);
        }
        due
    }

    /// Where this UID is, if a worker knows it.
    #[must_use]
    pub fn stage(&self, uid: &Uid) -> Option<Stage> {
        self.statuses.get(uid).map(|status| status.stage)
    }

    /// Whether all exited containers of this UID may be removed, the newest included.
    #[must_use]
    pub fn may_remove_content(&self, uid: &Uid) -> bool {
        match self.statuses.get(uid) {
            Some(status) => status.deleted && status.stage >= Stage::Terminated,
            None => self.synced,
        }
    }

    /// Whether nothing of this UID runs, nor will: its logs may be removed.
    #[must_use]
    pub fn is_over(&self, uid: &Uid) -> bool {
        self.statuses.get(uid).map_or(self.synced, |status| status.stage >= Stage::Terminated)
    }

    /// Whether the pod that was started under this name is on its way down: its mirror pod is left alone until then.
    #[must_use]
    pub fn is_terminating(&self, name: &FullName) -> bool {
        let stage = self.started.get(name).and_then(|uid| self.stage(uid));
        matches!(stage, Some(Stage::Terminating))
    }

    fn end_task(&mut self, uid: &Uid, stage: Stage) {
        self.tasks.remove(uid);
        let Some(status) = self.statuses.get_mut(uid) else {
            return;
        };
        status.stage = stage;
        if self.started.get(&status.full_name) == Some(uid) {
            self.started.remove(&status.full_name);
        }
    }
}

fn work(stage: Stage, subject: Subject) -> Work {
    match (stage, subject) {
        (_, Subject::Runtime(pod)) => Work::TerminateRuntime(pod),
        (Stage::Running, Subject::Static(pod)) => Work::Sync(pod),
        (Stage::Terminating, Subject::Static(pod)) => Work::Terminate(pod),
        (Stage::Terminated | Stage::Finished, Subject::Static(pod)) => Work::Conclude(pod),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::manifest::decode;

    struct World {
        workers: Workers,
        now: Instant,
    }

    fn pod(image: &str) -> StaticPod {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
        );
        decode(text.as_bytes(), std::path::Path::new("/m/p.yaml"), "n").expect("valid")
    }

    impl World {
        fn new() -> Self {
            Self { workers: Workers::new(Scale::TRUE_TO_LIFE), now: Instant::now() }
        }

        fn tell(&mut self, pod: &StaticPod, intent: Intent) -> Wake {
            self.workers.update(Subject::Static(pod.clone()), intent)
        }

        fn begin(&mut self, pod: &StaticPod) -> Begin {
            self.workers.begin(&pod.uid, self.now)
        }

        fn finish(&mut self, pod: &StaticPod, work: &Work) -> After {
            self.workers.finish(&pod.uid, work, Outcome::Done, self.now)
        }

        /// A pod that was created, started and synced once.
        fn run(&mut self, pod: &StaticPod) {
            assert_eq!(self.tell(pod, Intent::Create), Wake::Spawn);
            let work = Work::Sync(pod.clone());
            assert_eq!(self.begin(pod), Begin::Run(work.clone()));
            assert_eq!(self.finish(pod, &work), After::Wait);
        }

        /// Kills a running pod up to the moment in which its containers are gone.
        fn terminate(&mut self, pod: &StaticPod) {
            assert_eq!(self.tell(pod, Intent::Kill), Wake::Interrupt);
            let work = Work::Terminate(pod.clone());
            assert_eq!(self.begin(pod), Begin::Run(work.clone()));
            assert_eq!(self.finish(pod, &work), After::Again);
        }

        fn conclude(&mut self, pod: &StaticPod) {
            let work = Work::Conclude(pod.clone());
            assert_eq!(self.begin(pod), Begin::Run(work.clone()));
            assert_eq!(self.finish(pod, &work), After::Exit);
        }

        fn due_after(&mut self, wait: f64) -> Vec<Uid> {
            self.workers.due(self.now + Duration::from_secs_f64(wait))
        }
    }

    #[test]
    fn the_replacement_of_a_changed_pod_is_parked_ten_to_fifteen_seconds_even_if_the_old_one_is_gone_at_once() {
        let (mut world, old, new) = (World::new(), pod("x:1"), pod("x:2"));
        world.run(&old);
        world.tell(&old, Intent::Kill);
        world.tell(&new, Intent::Create);
        assert!(matches!(world.begin(&new), Begin::Parked(_)));
        let work = Work::Terminate(old.clone());
        assert_eq!(world.begin(&old), Begin::Run(work.clone()));
        world.finish(&old, &work);
        world.conclude(&old);
        assert!(!world.due_after(9.9).contains(&new.uid), "nobody looks before ten seconds");
        assert!(world.due_after(15.0).contains(&new.uid), "after fifteen somebody has");
        assert_eq!(world.tell(&new, Intent::Sync), Wake::Notify);
        assert_eq!(world.begin(&new), Begin::Run(Work::Sync(new)));
    }

    #[test]
    fn a_second_change_while_the_first_is_parked_starts_at_once_and_the_first_never() {
        let (mut world, old, first, second) = (World::new(), pod("x:1"), pod("x:2"), pod("x:3"));
        world.run(&old);
        world.terminate(&old);
        world.tell(&first, Intent::Create);
        assert!(matches!(world.begin(&first), Begin::Parked(_)));
        world.conclude(&old);
        assert_eq!(world.tell(&first, Intent::Kill), Wake::Interrupt);
        world.tell(&second, Intent::Create);
        assert_eq!(world.begin(&second), Begin::Run(Work::Sync(second)));
        assert_eq!(world.begin(&first), Begin::Exit);
    }

    #[test]
    fn written_before_the_bookkeeping_is_done_it_is_parked_and_after_it_starts_at_once() {
        for (concluded, parked) in [(false, true), (true, false)] {
            let (mut world, old, new) = (World::new(), pod("x:1"), pod("x:2"));
            world.run(&old);
            world.terminate(&old);
            if concluded {
                world.conclude(&old);
            }
            world.tell(&new, Intent::Create);
            assert_eq!(matches!(world.begin(&new), Begin::Parked(_)), parked, "concluded: {concluded}");
        }
    }

    #[test]
    fn the_same_uid_put_back_while_it_goes_down_waits_for_housekeeping() {
        let (mut world, old) = (World::new(), pod("x:1"));
        world.run(&old);
        world.terminate(&old);
        assert_eq!(world.tell(&old, Intent::Create), Wake::None);
        let desired = BTreeSet::from([old.uid.clone()]);
        assert!(world.workers.sync_known(&desired).0.contains_key(&old.uid), "it is not finished yet");
        world.conclude(&old);
        assert_eq!(world.tell(&old, Intent::Sync), Wake::None, "nothing but housekeeping revives it");
        assert!(!world.workers.sync_known(&desired).0.contains_key(&old.uid));
        world.run(&old);
    }

    #[test]
    fn an_old_pod_that_nobody_may_kill_holds_its_name_for_ever() {
        // The deadlock: deletions are skipped while the API source was not seen, so the old UID is never told.
        let (mut world, old, new) = (World::new(), pod("x:1"), pod("x:2"));
        world.run(&old);
        world.tell(&new, Intent::Create);
        for _ in 0..100 {
            assert!(matches!(world.begin(&new), Begin::Parked(_)));
            world.now += Duration::from_secs(15);
            assert!(world.workers.due(world.now).contains(&new.uid));
            world.tell(&new, Intent::Sync);
        }
        // Housekeeping, once the sources are ready, sends it down.
        let (_, wake) = world.workers.sync_known(&BTreeSet::from([new.uid.clone()]));
        assert_eq!(wake, std::slice::from_ref(&old.uid));
        let work = Work::Terminate(old.clone());
        assert_eq!(world.begin(&old), Begin::Run(work.clone()));
        world.finish(&old, &work);
        world.conclude(&old);
        assert_eq!(world.begin(&new), Begin::Run(Work::Sync(new)));
    }

    #[test]
    fn an_orphan_of_the_runtime_is_killed_beside_the_new_pod_which_does_not_wait_for_it() {
        let (mut world, new) = (World::new(), pod("x:2"));
        world.run(&new);
        let orphan = RuntimePod { uid: Uid("old".into()), full_name: new.full_name.clone() };
        let work = Work::TerminateRuntime(orphan.clone());
        assert_eq!(world.workers.update(Subject::Runtime(orphan.clone()), Intent::Kill), Wake::Spawn);
        assert_eq!(world.workers.begin(&orphan.uid, world.now), Begin::Run(work.clone()));
        assert_eq!(world.workers.finish(&orphan.uid, &work, Outcome::Done, world.now), After::Exit);
        assert_eq!(world.workers.stage(&orphan.uid), None);
    }

    #[test]
    fn a_failed_sync_is_tried_again_after_ten_to_fifteen_seconds_and_a_good_one_after_a_minute() {
        for (outcome, early, late) in [(Outcome::Failed, 9.9, 15.0), (Outcome::Done, 59.9, 90.0)] {
            let (mut world, pod) = (World::new(), pod("x:1"));
            world.tell(&pod, Intent::Create);
            world.begin(&pod);
            world.workers.finish(&pod.uid, &Work::Sync(pod.clone()), outcome, world.now);
            assert!(world.due_after(early).is_empty(), "{outcome:?}");
            assert_eq!(world.due_after(late), std::slice::from_ref(&pod.uid), "{outcome:?}");
        }
    }

    #[test]
    fn a_pod_that_leaves_before_it_was_started_is_forgotten_without_a_kill() {
        let (mut world, old, new) = (World::new(), pod("x:1"), pod("x:2"));
        world.run(&old);
        world.tell(&new, Intent::Create);
        world.begin(&new);
        let (known, wake) = world.workers.sync_known(&BTreeSet::from([old.uid.clone()]));
        assert_eq!(known.len(), 1);
        assert_eq!(wake, std::slice::from_ref(&new.uid));
        assert_eq!(world.begin(&new), Begin::Exit);
    }

    #[test]
    fn an_update_while_a_sync_runs_is_done_right_after_it() {
        let (mut world, pod) = (World::new(), pod("x:1"));
        world.tell(&pod, Intent::Create);
        world.begin(&pod);
        assert_eq!(world.tell(&pod, Intent::Sync), Wake::Notify);
        assert_eq!(world.finish(&pod, &Work::Sync(pod.clone())), After::Again);
    }
}
