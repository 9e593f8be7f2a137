//! The loop itself: what it does when a save, a step or a request fails. The node is one of values
//! (`decide::tests::world`); the state directory is a real one, and what the agent keeps for itself is really kept.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::*;
use crate::decide::tests::world::{API, FILE, FOUR, World, id, manifest};
use crate::model::ComponentState;
use crate::model::notice::NodeNotice;
use crate::model::observation::{BusyKind, BusyProcess};

const SCHEDULER: &str = "kube-scheduler";
/// Longer than the first soak.
const ADOPTION: u32 = 90;
/// Longer than any trial that crashes.
const TRIAL: u32 = 300;

/// Which steps do not come about.
type Fails = fn(&Step) -> bool;

/// The node, and what was done to it.
struct Site {
    world: World,
    tried: Vec<Step>,
    /// What leaves a hole, and whether the state that wants it was on disk when it was begun.
    intents: Vec<(Step, bool)>,
    fails: Fails,
}

/// Hands on that node; the files of the agent itself are left to the real ones.
struct Stub {
    site: Arc<Mutex<Site>>,
    own: StepExecutor,
}

impl Executor for Stub {
    fn take<'a>(
        &'a mut self,
        guard: &'a Guard,
        step: &'a Step,
        memory: &'a Memory,
        seen: &'a Observation,
    ) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + 'a>> {
        Box::pin(async move {
            let fails = {
                let mut site = locked(&self.site);
                site.tried.push(step.clone());
                if step.needs_intent() {
                    let on_disk = guard.load_memory(&memory.machine).0;
                    site.intents.push((step.clone(), slot_of(&on_disk, step) == slot_of(memory, step)));
                }
                (site.fails)(step)
            };
            if fails {
                return Outcome::Failed("as it was told".to_owned());
            }
            locked(&self.site).world.take(step);
            match step.touches_node() {
                true => Outcome::Done(step.to_string()),
                false => self.own.take(guard, step, memory, seen).await,
            }
        })
    }
}

fn slot_of<'a>(memory: &'a Memory, step: &Step) -> Option<&'a ComponentState> {
    memory.components.get(step.component()?).map(|record| &record.state)
}

fn locked(site: &Mutex<Site>) -> MutexGuard<'_, Site> {
    site.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An agent at work on the node of values.
struct Bench {
    agent: Agent,
    site: Arc<Mutex<Site>>,
    settings: Settings,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// On a node that it has not adopted yet.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let below = |name: &str| -> PathBuf { dir.path().join(name) };
        let mut settings = Settings::default();
        settings.paths.manifests = Some(below("kubernetes/manifests"));
        settings.paths.inactive_manifests = below("kubernetes/inactive-manifests");
        settings.paths.staging = below("kubernetes/.lastgood");
        settings.paths.kubernetes = below("kubernetes");
        settings.paths.state = below("state");
        settings.paths.run = below("run");
        std::fs::create_dir_all(below("kubernetes/manifests")).unwrap();
        std::fs::create_dir_all(below("run")).unwrap();
        let (mut agent, told) = Agent::start(&settings).await.unwrap();
        assert!(told.is_empty(), "{told:?}");
        let site = Site { world: World::new(), tried: Vec::new(), intents: Vec::new(), fails: |_| false };
        let site = Arc::new(Mutex::new(site));
        let own = StepExecutor::new(&settings, hands_of(&agent.found));
        agent.hands = Box::new(Stub { site: Arc::clone(&site), own });
        Self { agent, site, settings, _dir: dir }
    }

    /// The same after the first soak.
    async fn adopted() -> Self {
        let mut bench = Self::new().await;
        bench.run(ADOPTION).await;
        for name in FOUR {
            assert!(matches!(bench.state(name), ComponentState::Steady { .. }), "{name}: {}", bench.state(name));
        }
        bench.site().tried.clear();
        bench
    }

    fn site(&self) -> MutexGuard<'_, Site> {
        locked(&self.site)
    }

    fn state(&self, name: &str) -> &ComponentState {
        &self.agent.memory.components[&id(name)].state
    }

    /// A second goes by, and the agent passes.
    async fn pass(&mut self) -> Vec<Event> {
        let seen = self.observe();
        self.agent.pass_on(seen, |scene, memory| (decide::decide(scene, memory), ())).await.events
    }

    /// The same, with a request.
    async fn pass_request(&mut self, request: &Request) -> Decided {
        let seen = self.observe();
        let decide = |scene: Scene<'_>, memory: &Memory| decide::decide_request(scene, memory, request);
        self.agent.pass_on(seen, decide).await.about_request().1
    }

    fn observe(&self) -> Observation {
        {
            let mut site = self.site();
            let world = &mut site.world;
            world.seconds += 1;
            world.kubelet();
            // The node shows the files and images that the agent remembers.
            world.memory = self.agent.memory.clone();
            world.observe(world.moment())
        }
    }

    /// So many seconds. What was told.
    async fn run(&mut self, seconds: u32) -> Vec<Event> {
        let mut told = Vec::new();
        for _ in 0..seconds {
            told.extend(self.pass().await);
        }
        told
    }

    /// Passes until something holds. What was told.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Vec<Event> {
        let mut told = Vec::new();
        for _ in 0..TRIAL {
            if holds(self) {
                return told;
            }
            told.extend(self.pass().await);
        }
        panic!("not within {TRIAL} s: {what}\n{told:#?}");
    }

    fn replaces(&self) -> bool {
        matches!(self.state(API), ComponentState::Replacing(_))
    }

    fn is_back(&self) -> bool {
        matches!(self.state(API), ComponentState::Steady { good: 1 }) && self.site().world.serves(API)
    }

    /// The steps on the node that were tried so far.
    fn touched(&self) -> Vec<Step> {
        self.site().tried.iter().filter(|step| step.touches_node()).cloned().collect()
    }

    /// A person deploys a manifest that crashes.
    fn deploy_a_crash(&self) {
        self.site().world.write(FILE, &manifest(API, "--crash"));
    }

    /// What the disk says that the agent knows.
    fn on_disk(&self) -> Memory {
        self.agent.store().load_memory(&self.agent.memory.machine).0
    }
}

fn failures(told: &[Event]) -> usize {
    told.iter().filter(|event| event.kind == EventKind::Failure).count()
}

#[tokio::test]
async fn a_memory_that_cannot_be_saved_keeps_it_from_what_leaves_a_hole_and_from_nothing_else() {
    let mut bench = Bench::adopted().await;
    // What is saved by a rename onto it is refused by a directory in its place.
    let memory = bench.settings.paths.state.join("memory.json");
    std::fs::remove_file(&memory).unwrap();
    std::fs::create_dir_all(memory.join("in-the-way")).unwrap();
    bench.deploy_a_crash();
    let mut told = bench.until("it is to be replaced", Bench::replaces).await;
    told.extend(bench.run(30).await);
    let holes: Vec<_> = bench.site().tried.iter().filter(|step| step.needs_intent()).cloned().collect();
    assert!(holes.is_empty(), "without a saved memory: {holes:?}");
    assert!(
        bench.site().tried.iter().any(|step| matches!(step, Step::Capture { .. })),
        "generation 2 is kept all the same"
    );
    assert_eq!(failures(&told), 1, "once, and not at every pass: {told:#?}");
    assert!(bench.agent.saved.trouble.is_some());

    std::fs::remove_dir_all(&memory).unwrap();
    bench.until("replaced when it can be saved", Bench::is_back).await;
    assert!(bench.touched().iter().any(Step::needs_intent));
    assert_eq!(bench.on_disk(), bench.agent.memory, "and what was done is on disk");
}

#[tokio::test]
async fn what_leaves_a_hole_is_on_disk_before_it_is_begun() {
    let mut bench = Bench::adopted().await;
    bench.deploy_a_crash();
    bench.until("it is to be replaced", Bench::replaces).await;
    bench.until("replaced", Bench::is_back).await;
    let site = bench.site();
    assert!(!site.intents.is_empty());
    assert!(site.intents.iter().all(|(_, saved)| *saved), "{:?}", site.intents);
}

#[tokio::test]
async fn a_step_that_failed_is_wanted_again_and_told_once() {
    let mut bench = Bench::adopted().await;
    bench.site().fails = Step::touches_node;
    bench.deploy_a_crash();
    let mut told = bench.until("something is tried", |bench| !bench.touched().is_empty()).await;
    told.extend(bench.run(10).await);
    let tried: Vec<String> = bench.touched().iter().map(ToString::to_string).collect();
    assert!(tried.len() > 5 && tried.iter().all(|step| *step == tried[0]), "the same at every pass: {tried:?}");
    assert_eq!(failures(&told), 1, "{told:#?}");
    assert_eq!(bench.agent.rest(), bench.settings.agent_loop.interval, "what fails is not hammered on");

    bench.site().fails = |_| false;
    bench.until("it comes about", Bench::is_back).await;
    assert!(bench.agent.failures.is_empty());
}

#[tokio::test]
async fn a_step_that_failed_ends_the_work_on_its_component_in_this_pass() {
    let mut bench = Bench::adopted().await;
    bench.site().fails = |step| matches!(step, Step::MoveOut { .. });
    for (file, of) in [("y.yaml", API), ("z.yaml", API), ("x.yaml", SCHEDULER)] {
        bench.site().world.write(file, &manifest(of, "--v=8"));
    }
    let moved_out = |bench: &Bench, name: &str| {
        let of = |step: &&Step| matches!(step, Step::MoveOut { component, .. } if *component == id(name));
        bench.site().tried.iter().filter(of).count()
    };
    bench.until("both are to be rid of them", |b| moved_out(b, API) > 0 && moved_out(b, SCHEDULER) > 0).await;
    for _ in 0..5 {
        bench.site().tried.clear();
        bench.pass().await;
        assert_eq!((moved_out(&bench, API), moved_out(&bench, SCHEDULER)), (1, 1), "{:?}", bench.touched());
    }
    bench.site().fails = |_| false;
    bench.site().tried.clear();
    bench.pass().await;
    assert_eq!((moved_out(&bench, API), moved_out(&bench, SCHEDULER)), (2, 1), "{:?}", bench.touched());
}

#[tokio::test]
async fn a_request_is_answered_by_the_pass_that_has_it_and_by_no_other() {
    let mut bench = Bench::adopted().await;
    let pause = Request::Pause { seconds: 600, reason: "maintenance".to_owned() };
    let Decided { before, decision, granted } = bench.pass_request(&pause).await;
    assert_eq!((before.pause.is_none(), decision.memory.pause.is_some(), granted), (true, true, Ok(())));
    bench.pass().await;
    assert_eq!(bench.on_disk().pause, bench.agent.memory.pause, "a pause outlives the agent");
    assert!(matches!(bench.agent.inhibitors(), [Inhibitor::Paused { .. }]));

    let nothing_to_go_to = Request::Rollback { component: id(API), to: None };
    let refused = bench.pass_request(&nothing_to_go_to).await.granted;
    assert!(matches!(refused, Err(Refusal::NoTarget { .. })), "{refused:?}");
    bench.run(5).await;
    assert!(bench.touched().is_empty(), "{:?}", bench.touched());
}

#[tokio::test]
async fn a_plan_changes_nothing() {
    let mut bench = Bench::adopted().await;
    let before = bench.agent.memory.clone();
    // Through the observer: what this machine shows is none of the node's.
    let quarantine = Request::Pause { seconds: 600, reason: String::new() };
    let Decided { decision, granted, .. } = bench.agent.plan(&quarantine).await;
    assert_eq!(granted, Ok(()));
    assert!(decision.memory.pause.is_some());
    assert_eq!(bench.agent.memory, before);
    assert_eq!(bench.on_disk().pause, None);
}

#[tokio::test]
async fn a_suspension_is_planned_without_the_restore_that_asks_and_done_only_for_one_that_runs() {
    let mut bench = Bench::adopted().await;
    let suspend = Request::Suspend { component: id("etcd"), seconds: 60, reason: "its data are restored".to_owned() };
    let mut seen = bench.observe();
    suppose(&Request::Resume { component: None }, &mut seen);
    assert!(seen.node.busy.is_empty());
    for _ in 0..2 {
        suppose(&suspend, &mut seen);
        assert_eq!(seen.node.busy.iter().map(|process| process.kind).collect::<Vec<_>>(), [BusyKind::Restore]);
    }
    let granted = bench.pass_request(&suspend).await.granted;
    assert!(matches!(granted, Err(Refusal::NotNow { .. })), "{granted:?}");
    assert!(matches!(bench.state("etcd"), ComponentState::Steady { .. }), "{}", bench.state("etcd"));
}

#[tokio::test]
async fn an_inhibitor_keeps_it_from_the_node_until_it_ends() {
    let mut bench = Bench::adopted().await;
    let command = "kubeadm upgrade node".to_owned();
    bench.site().world.busy = vec![BusyProcess { pid: 9, command: command.clone(), kind: BusyKind::Kubeadm }];
    bench.deploy_a_crash();
    bench.run(TRIAL).await;
    assert!(bench.touched().is_empty(), "{:?}", bench.touched());
    assert_eq!(bench.agent.inhibitors(), [Inhibitor::Kubeadm { pid: 9, command }]);

    bench.site().world.busy.clear();
    bench.until("it acts again", Bench::replaces).await;
    bench.until("replaced", Bench::is_back).await;
    assert!(bench.agent.inhibitors().is_empty());
}

#[tokio::test]
async fn a_stop_saves_what_only_grew_older_and_gives_the_lock_back() {
    let mut bench = Bench::adopted().await;
    bench.site().world.write(FILE, &manifest(API, "--v=3"));
    bench.run(40).await;
    assert!(matches!(bench.state(API), ComponentState::Probation(_)), "{}", bench.state(API));
    assert_ne!(bench.on_disk(), bench.agent.memory, "a soak that goes on is not written at every pass");
    assert!(bench.agent.settle().is_empty());
    assert_eq!(bench.on_disk(), bench.agent.memory);

    let Bench { agent, settings, _dir, .. } = bench;
    assert!(matches!(Agent::start(&settings).await, Err(StartError::Lock(_))), "one agent at a time");
    let known = agent.memory.clone();
    drop(agent);
    let (next, told) = Agent::start(&settings).await.unwrap();
    assert_eq!((next.memory, told), (known, Vec::new()), "and the next one goes on from there");
}

#[tokio::test]
async fn a_command_without_an_agent_does_what_was_asked_for_and_nothing_else() {
    let mut bench = Bench::adopted().await;
    bench.agent.no_agent = true;
    bench.deploy_a_crash();
    bench.run(TRIAL).await;
    assert!(bench.touched().is_empty(), "{:?}", bench.touched());
    assert_eq!(bench.agent.inhibitors(), [Inhibitor::NoAgent]);

    let rollback = Request::Rollback { component: id(API), to: Some(1) };
    assert_eq!(bench.pass_request(&rollback).await.granted, Ok(()));
    bench.run(TRIAL).await;
    assert!(matches!(bench.state(API), ComponentState::Steady { good: 1 }), "{}", bench.state(API));
    assert!(!bench.touched().is_empty());
    assert!(!bench.agent.memory.notices.contains_key(&NodeNotice::Inhibitor), "it ends with the command");
}
