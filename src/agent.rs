//! The agent: observe, judge, decide, act and record in a loop. One task changes the node; the timer, inotify and
//! operators' requests all come through [`Agent::pass`].
//!
//! ```text
//!   pass:  observe ─▶ judge ─▶ decide ─▶ save the memory (the intent) ─▶ take each step ─▶ save ─▶ report
//!                                                   │ cannot be saved
//!                                                   └▶ no step is taken that could be left half done
//! ```
//!
//! Where a newer lastgood left its files, nothing is saved (inhibitor `NewerState`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::features::{KEYS, checks, look};
pub use self::planner::Planner;
use crate::act::{self, Outcome, StepExecutor};
use crate::config::Settings;
use crate::decide::{self, Pace, Scene};
use crate::feature::{PassEnd, View};
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::observation::{BusyKind, BusyProcess};
use crate::model::overall::Overall;
use crate::model::plan::Refusal;
use crate::model::{ComponentId, Decision, Event, Judgement, Memory, Moment, NewerFile, Observation, Request, Step};
use crate::observe::{self, Environment, Observer};
use crate::record::{Guard, LockError, Store};
use crate::report::Counters;
use crate::sys;

mod calm;
mod etcd_history;
mod executor;
mod features;
mod planner;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod version_tests;
mod watch;

use calm::Calm;
use etcd_history::EtcdHistoryWriter;
use executor::Executor;
use features::Features;
use planner::plan_on;
use watch::Watch;

/// How long a memory that only grew older may stay unsaved: what a kill costs of a soak.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one runs, or the lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state directory cannot be used.
    #[error("{0}")]
    State(#[from] std::io::Error),
}

/// What was decided about a request.
#[derive(Debug)]
pub struct Decided {
    /// The memory before.
    pub before: Memory,
    pub decision: Decision,
    pub granted: Result<(), Refusal>,
}

/// What a pass came to, with what deciding answered besides.
struct Passed<A> {
    events: Vec<Event>,
    /// The memory before.
    before: Memory,
    decision: Decision,
    answer: A,
}

impl Passed<Result<(), Refusal>> {
    fn about_request(self) -> (Vec<Event>, Decided) {
        let Self { events, before, decision, answer: granted } = self;
        (events, Decided { before, decision, granted })
    }
}

pub struct Agent {
    settings: Settings,
    observer: Observer,
    guard: Guard,
    hands: Box<dyn Executor>,
    /// What the hands were made for: a runtime may appear after us.
    found: Environment,
    memory: Memory,
    saved: Saved,
    /// What a newer lastgood left here: the memory is not saved then.
    newer: Vec<NewerFile>,
    /// Whether this is a command that carries out one request because no agent runs.
    no_agent: bool,
    watch: Watch,
    judgement: Option<Judgement>,
    /// Why the last pass changed nothing.
    inhibitors: Vec<Inhibitor>,
    /// What the last pass left under way.
    pace: Pace,
    /// Whether all has been well for so long that there is no hurry.
    calm: Calm,
    /// Failures told, by what they are about, so that the same one is reported once and not ten times a second.
    failures: BTreeMap<Trouble, String>,
    /// What the last pass said of renewed kubeconfigs.
    renewals: Vec<String>,
    /// What a restore will want to know of etcd.
    knowing: EtcdHistoryWriter,
    /// The features; a command that makes a pass has none.
    features: Features,
    /// What it counts.
    figures: Counters,
}

/// What a failure is about. Each is reported on its own: two that come together must not take turns in being news.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// The memory cannot be saved.
    Memory,
    /// The history cannot be written.
    History,
    /// What a restore will want to know cannot be written down.
    EtcdHistory,
    /// A step of a component, or of nobody, did not succeed.
    Step(Option<ComponentId>),
}

impl Trouble {
    fn component(&self) -> Option<&ComponentId> {
        match self {
            Self::Memory | Self::History | Self::EtcdHistory => None,
            Self::Step(whose) => whose.as_ref(),
        }
    }
}

/// The memory as it is on disk.
struct Saved {
    memory: Memory,
    at: Duration,
    trouble: Option<String>,
}

/// A plan is for who only asks: what the request itself has running by the time it is made for real is supposed. A restore
/// holds its lock then, and a dry run of it takes none.
fn suppose(request: &Request, seen: &mut Observation) {
    let busy = &mut seen.node.busy;
    if matches!(request, Request::Suspend { .. }) && busy.iter().all(|process| process.kind != BusyKind::Restore) {
        let pid = std::process::id().try_into().unwrap_or_default();
        busy.push(BusyProcess { pid, command: "lastgood etcd restore".to_owned(), kind: BusyKind::Restore });
    }
}

impl Agent {
    /// Takes the lock, finishes what an earlier run left half done, reads the memory, and looks around. What was found
    /// about the state on disk is reported by the first pass.
    ///
    /// # Errors
    /// Only where another agent runs or the state directory cannot be used at all. A broken node is no error: it is what
    /// the agent is for.
    pub async fn start(settings: &Settings) -> Result<(Self, Vec<Event>), StartError> {
        let guard = Store::open(settings)?.lock()?;
        let now = sys::clock::now();
        let mut observer = Observer::start(settings).await;
        let mut events = Vec::new();
        for sentence in act::finish_interrupted(settings) {
            events.push(Event::new(
                now.wall,
                EventKind::Action,
                None,
                &sentence,
                "an earlier run was interrupted in the middle of it",
            ));
        }
        let machine = observer.machine();
        let (mut memory, findings) = guard.load_memory(&machine);
        memory.machine = machine;
        let knowing = EtcdHistoryWriter::of(settings);
        let saved_memory = memory.clone();
        knowing.recall(&mut memory);
        for finding in findings {
            events.push(Event::new(now.wall, EventKind::Agent, None, finding.to_string(), ""));
        }
        // A first look brings the probes under way, so that the first judged pass has answers.
        let _ = observer.observe(&memory).await;
        let found = observer.environment();
        let hands = Box::new(StepExecutor::new(settings, hands_of(&found)));
        let newer = guard.newer_state(&memory);
        let trouble = newer.first().map(ToString::to_string);
        let saved = Saved { memory: saved_memory, at: now.boot, trouble };
        let agent = Self {
            settings: settings.clone(),
            observer,
            guard,
            hands,
            found,
            memory,
            saved,
            newer,
            no_agent: false,
            watch: Watch::default(),
            judgement: None,
            inhibitors: Vec::new(),
            pace: Pace::Quiet,
            calm: Calm::default(),
            failures: BTreeMap::new(),
            renewals: Vec::new(),
            knowing,
            features: Features::none(),
            figures: Counters::default(),
        };
        Ok((agent, events))
    }

    /// For a command where no agent runs: what was asked for is done, and of what else is amiss nothing is begun.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start_for_request(settings: &Settings) -> Result<(Self, Vec<Event>), StartError> {
        let (agent, events) = Self::start(settings).await?;
        Ok((Self { no_agent: true, ..agent }, events))
    }

    /// One round.
    pub async fn pass(&mut self) -> Vec<Event> {
        self.pass_with(|scene, memory| (decide::decide(scene, memory), ())).await.events
    }

    /// One round that decides a request as well, under the same rules.
    pub async fn pass_request(&mut self, request: &Request) -> (Vec<Event>, Decided) {
        let passed = self.pass_with(|scene, memory| decide::decide_request(scene, memory, request)).await;
        passed.about_request()
    }

    async fn pass_with<A>(&mut self, decide: impl FnOnce(Scene<'_>, &Memory) -> (Decision, A)) -> Passed<A> {
        let began = sys::clock::since_boot();
        let seen = self.observer.observe(&self.memory).await;
        let at = seen.at.wall;
        let found = self.observer.environment();
        if found != self.found {
            self.hands = Box::new(StepExecutor::new(&self.settings, hands_of(&found)));
            self.found = found;
        }
        let passed = self.pass_on(seen, decide).await;
        self.figures.passed(at, sys::clock::since_boot().saturating_sub(began));
        passed
    }

    /// A round on what was seen.
    async fn pass_on<A>(
        &mut self,
        mut seen: Observation,
        decide: impl FnOnce(Scene<'_>, &Memory) -> (Decision, A),
    ) -> Passed<A> {
        seen.notices = self.features.notices(seen.at.wall);
        seen.node.newer_state.clone_from(&self.newer);
        seen.node.no_agent = self.no_agent;
        seen.growth = self.knowing.note(&seen);
        let (tick, judged) = self.watch.judge(&seen, &self.memory, &self.settings);
        let scene = Scene { tick, seen: &seen, judged: &judged, policy: &self.settings.policy };
        let (decision, answer) = decide(scene, &self.memory);
        let before = std::mem::replace(&mut self.memory, decision.memory.clone());
        self.inhibitors = Inhibitor::all(&seen.node, self.settings.policy.mode, self.memory.pause.as_ref());
        let mut events = decision.events.clone();

        let pressing = !decision.plan.is_empty() || !decision.events.is_empty();
        self.save(seen.at, pressing, &mut events);
        self.write_down(seen.at, decision.plan.iter().any(Step::touches_node), &mut events);
        self.act(&seen, &decision, &mut events).await;
        if !decision.plan.is_empty() {
            self.save(seen.at, true, &mut events);
        }
        let renewed = self.guard.refresh_kubeconfigs(&self.memory, &seen);
        // What was renewed is reported as it happens; what could not be kept would be reported again at every pass.
        for sentence in renewed.iter().filter(|sentence| !self.renewals.contains(*sentence)) {
            events.push(Event::new(seen.at.wall, EventKind::Notice, None, sentence, ""));
        }
        self.renewals = renewed;
        match self.guard.append(&events) {
            Ok(()) if events.is_empty() => {}
            Ok(()) => drop(self.failures.remove(&Trouble::History)),
            Err(error) => {
                let sentence = format!("the history cannot be written: {error}");
                self.fail(seen.at, Trouble::History, sentence, &mut events);
            }
        }
        let members = self.observer.etcd_members();
        let member = members.first();
        self.features.after_pass(PassEnd {
            seen: &seen,
            judged: &judged,
            memory: &self.memory,
            inhibitors: &self.inhibitors,
            known: self.knowing.known(),
            member,
        });
        self.pace = Pace::of(&self.memory, &seen);
        let is_well = self.failures.is_empty() && calm::is_well(self.pace, &seen, &judged, &self.memory);
        self.calm.note(is_well, seen.at.boot);
        self.observer.set_calm(self.calm.is_calm());
        self.figures.etcd =
            seen.etcd.iter().map(|(id, said)| (id.clone(), (said, seen.growth.get(id)).into())).collect();
        self.judgement = Some(judged);
        Passed { events, before, decision, answer }
    }

    /// What would be decided about a request, without doing anything.
    pub async fn plan(&mut self, request: &Request) -> Decided {
        let mut seen = self.observer.observe(&self.memory).await;
        seen.node.newer_state.clone_from(&self.newer);
        seen.node.no_agent = self.no_agent;
        plan_on(seen, &self.memory, &self.watch, &self.settings.policy, request)
    }

    /// Takes the steps, in order. A step that fails ends what is done for its component in this pass.
    async fn act(&mut self, seen: &Observation, decision: &Decision, events: &mut Vec<Event>) {
        let mut ended: BTreeSet<Option<ComponentId>> = BTreeSet::new();
        let mut well: BTreeSet<Option<ComponentId>> = BTreeSet::new();
        for step in &decision.plan {
            let whose = step.component().cloned();
            if ended.contains(&whose) || (self.saved.trouble.is_some() && step.needs_intent()) {
                continue;
            }
            let outcome = self.hands.take(&self.guard, step, &self.memory, seen).await;
            match outcome {
                Outcome::Done(sentence) => {
                    decide::concluded(&mut self.memory, step);
                    // What is kept and published is our own bookkeeping; whoever asks what was done means the node.
                    let kind = if step.touches_node() { EventKind::Action } else { EventKind::Generation };
                    self.figures.done(step);
                    events.push(Event::new(sys::clock::now().wall, kind, whose.as_ref(), &sentence, ""));
                    well.insert(whose);
                }
                Outcome::AlreadyDone(_) => {
                    decide::concluded(&mut self.memory, step);
                    well.insert(whose);
                }
                Outcome::Refused(sentence) | Outcome::Failed(sentence) => {
                    let sentence = format!("could not {step}: {sentence}");
                    self.figures.failed(step);
                    self.fail(seen.at, Trouble::Step(whose.clone()), sentence, events);
                    well.remove(&whose);
                    ended.insert(whose);
                }
            }
        }
        for whose in well {
            self.failures.remove(&Trouble::Step(whose));
        }
    }

    /// Tells a failure, unless it is the one that was told last.
    fn fail(&mut self, now: Moment, trouble: Trouble, sentence: String, events: &mut Vec<Event>) {
        if self.failures.get(&trouble) != Some(&sentence) {
            let because = "lastgood tries again in the next pass";
            events.push(Event::new(now.wall, EventKind::Failure, trouble.component(), &sentence, because));
            self.failures.insert(trouble, sentence);
        }
    }

    /// Has the memory on disk if something happened, or if it has grown older for a while.
    fn save(&mut self, now: Moment, pressing: bool, events: &mut Vec<Event>) {
        if !self.newer.is_empty() {
            return;
        }
        let due = now.boot.saturating_sub(self.saved.at) >= SAVE_EVERY || now.boot < self.saved.at;
        if !(pressing || due || self.saved.trouble.is_some()) || !differs(&self.memory, &self.saved.memory, pressing) {
            return;
        }
        let result = self.guard.save_memory(&self.memory).map(drop);
        let result = result.and_then(|()| if pressing { self.guard.describe_all(&self.memory) } else { Ok(()) });
        match result {
            Ok(()) => {
                self.saved = Saved { memory: self.memory.clone(), at: now.boot, trouble: None };
                self.failures.remove(&Trouble::Memory);
            }
            Err(error) => {
                let sentence = format!(
                    "the memory cannot be saved, so lastgood starts no action that it might leave half done: {error}"
                );
                self.saved.trouble = Some(sentence.clone());
                self.fail(now, Trouble::Memory, sentence, events);
            }
        }
    }

    /// Has what a restore will want to know written down, where that is due, or something is about to be changed.
    fn write_down(&mut self, now: Moment, pressing: bool, events: &mut Vec<Event>) {
        if !self.newer.is_empty() {
            return;
        }
        match self.knowing.write(&self.guard, now, pressing) {
            Ok(()) => drop(self.failures.remove(&Trouble::EtcdHistory)),
            Err(error) => {
                let sentence = format!("the facts that a restore of etcd needs cannot be saved: {error}");
                self.fail(now, Trouble::EtcdHistory, sentence, events);
            }
        }
    }

    /// Starts the features of the table.
    pub fn start_features(&mut self) {
        self.features = Features::start(&self.settings, &self.memory.machine);
    }

    /// Resolves when something may have changed, or a feature reports something: with that. Cancel-safe.
    pub async fn woken_or_told(&mut self) -> Option<Event> {
        tokio::select! {
            () = self.observer.woken() => None,
            event = self.features.next() => Some(event),
        }
    }

    /// Hands the features how the node as a whole is.
    pub fn after_status(&mut self, overall: Overall, sentence: &str) {
        self.features.after_status(overall, sentence);
    }

    /// What reports show of the features.
    pub fn features(&self) -> View {
        self.features.view()
    }

    /// How long to wait for the next pass when nothing wakes the agent.
    pub fn rest(&self) -> Duration {
        let passes = &self.settings.agent_loop;
        match self.pace {
            // What fails is not hammered on.
            Pace::Watchful | Pace::Busy if !self.failures.is_empty() => passes.interval,
            Pace::Quiet => self.calm.rest(passes),
            Pace::Watchful => decide::WATCHFUL.clamp(passes.busy_interval, passes.interval),
            Pace::Busy => passes.busy_interval,
        }
    }

    /// Resolves when something may have changed.
    pub async fn woken(&mut self) {
        self.observer.woken().await;
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What was counted since it started.
    pub fn figures(&self) -> &Counters {
        &self.figures
    }

    /// What the last pass meant.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.judgement.as_ref()
    }

    /// Why nothing is changed at present, as the last pass found it.
    pub fn inhibitors(&self) -> &[Inhibitor] {
        &self.inhibitors
    }

    /// What was found of the node.
    pub fn environment(&self) -> Environment {
        self.observer.environment()
    }

    /// What the history holds.
    pub fn store(&self) -> &Store {
        &self.guard
    }

    /// Writes an event that no pass made into the history.
    pub fn remember(&mut self, event: &Event) {
        // A history that cannot be written is reported by the next pass.
        let _ = self.guard.append([event]);
    }

    /// Saves what only grew older since the last time, for a stop.
    pub fn settle(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let now = sys::clock::now();
        self.save(now, true, &mut events);
        self.write_down(now, true, &mut events);
        events
    }
}

/// Whether a memory is worth writing: a note that the API server served a moment ago alone is not, nor that etcd wrote.
fn differs(now: &Memory, saved: &Memory, pressing: bool) -> bool {
    if pressing {
        return now != saved;
    }
    let without = |memory: &Memory| Memory { api_served: None, incarnations: BTreeMap::new(), ..memory.clone() };
    let worlds = |memory: &Memory| memory.incarnations.keys().cloned().collect::<Vec<_>>();
    let moved = now.incarnations.iter().zip(&saved.incarnations).any(|((_, now), (_, was))| now.is_worth_saving(was));
    moved || worlds(now) != worlds(saved) || without(now) != without(saved)
}

/// What the hands need to know of the node.
fn hands_of(found: &Environment) -> act::Environment {
    act::Environment {
        manifests: found.manifests.value.clone(),
        runtime: found.runtime.as_ref().map(|runtime| runtime.value.clone()),
        look: Arc::new(observe::look_at),
    }
}
