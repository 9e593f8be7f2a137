//! Every state with every standing, verdict, cause, inhibitor and request, each decision checked against the allowed next
//! states and against what must never follow.
//!
//! The lists are chains of matches without a wildcard: a new variant does not compile before it has its place in one.
//! Without a request every state is taken with all that may be in it (stages, methods, purposes); with one, a sample of each.

use std::collections::BTreeMap;
use std::iter::successors;
use std::time::Duration;

use super::world::{World, id, manifest};
use crate::decide::{Scene, decide, decide_request};
use crate::model::component_state::*;
use crate::model::format::NewerFile;
use crate::model::inhibitor::Inhibitor;
use crate::model::observation::{BusyKind, BusyProcess, Gone};
use crate::model::policy::Mode;
use crate::model::verdict::{Assessment, Cause, Reads};
use crate::model::*;

const NAME: &str = "kube-apiserver";
const FILE: &str = "kube-apiserver.yaml";

/// What the directory shows. Generation 1 is known-good, 2 a candidate that was seen before, 3 was never seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shows {
    Good,
    Candidate,
    Stranger,
    Quarantined,
    Broken,
    Deleted,
    Claimed,
    Unsettled,
}

/// All of a kind: the first, and what follows each.
fn every<T>(first: T, next: impl Fn(&T) -> Option<T>) -> Vec<T> {
    successors(Some(first), next).collect()
}

fn shows() -> Vec<Shows> {
    every(Shows::Good, |shows| match shows {
        Shows::Good => Some(Shows::Candidate),
        Shows::Candidate => Some(Shows::Stranger),
        Shows::Stranger => Some(Shows::Quarantined),
        Shows::Quarantined => Some(Shows::Broken),
        Shows::Broken => Some(Shows::Deleted),
        Shows::Deleted => Some(Shows::Claimed),
        Shows::Claimed => Some(Shows::Unsettled),
        Shows::Unsettled => None,
    })
}

fn verdicts() -> Vec<Verdict> {
    every(Verdict::Healthy, |verdict| match verdict {
        Verdict::Healthy => Some(Verdict::Starting),
        Verdict::Starting => Some(Verdict::Failing),
        Verdict::Failing => Some(Verdict::Stalled),
        Verdict::Stalled => Some(Verdict::Down),
        Verdict::Down => Some(Verdict::Unknown),
        Verdict::Unknown => None,
    })
}

/// What keeps lastgood from acting: nothing, then each by itself.
fn inhibitors(now: jiff::Timestamp) -> Vec<Option<Inhibitor>> {
    every(None, |inhibitor| match inhibitor {
        None => {
            let file = NewerFile { path: "/var/lib/lastgood/memory.json".into(), version: 9, known: 2 };
            Some(Some(Inhibitor::NewerState { files: vec![file] }))
        }
        Some(Inhibitor::NewerState { .. }) => {
            Some(Some(Inhibitor::ReadOnly { why: "read-only file system".to_owned() }))
        }
        Some(Inhibitor::ReadOnly { .. }) => {
            Some(Some(Inhibitor::Kubeadm { pid: 9, command: "kubeadm upgrade".to_owned() }))
        }
        Some(Inhibitor::Kubeadm { .. }) => {
            Some(Some(Inhibitor::EtcdMaintenance { pid: 9, command: "lastgood etcd defrag".to_owned() }))
        }
        Some(Inhibitor::EtcdMaintenance { .. }) => Some(Some(Inhibitor::Observe)),
        Some(Inhibitor::Observe) => {
            Some(Some(Inhibitor::Paused { until: now + Duration::from_secs(3600), reason: String::new() }))
        }
        Some(Inhibitor::Paused { .. }) => Some(Some(Inhibitor::NoAgent)),
        Some(Inhibitor::NoAgent) => None,
    })
}

fn stages() -> Vec<Stage> {
    every(Stage::StoppingApiServer, |stage| match stage {
        Stage::StoppingApiServer => Some(Stage::TakingOut),
        Stage::TakingOut => Some(Stage::AwaitingGone),
        Stage::AwaitingGone => Some(Stage::Settling),
        Stage::Settling => Some(Stage::Suspended),
        Stage::Suspended => Some(Stage::PuttingIn),
        Stage::PuttingIn => Some(Stage::StoppingOld(Startup::default())),
        Stage::StoppingOld(startup) => Some(Stage::RestartingKubelet(startup.clone())),
        Stage::RestartingKubelet(_) => Some(Stage::awaiting_serving()),
        Stage::AwaitingServing { .. } => None,
    })
}

fn methods() -> Vec<Method> {
    every(Method::Rename, |method| match method {
        Method::Rename => Some(Method::RemoveThenAdd),
        Method::RemoveThenAdd => Some(Method::RenameAndRestartKubelet),
        Method::RenameAndRestartKubelet => None,
    })
}

/// What a replacement by any method may be for, of generation 2 where one leaves.
fn purposes() -> Vec<Purpose> {
    let by = |initiator| Purpose::RollBack { from: Some(2), initiator };
    every(by(Initiator::Agent), |purpose| match purpose {
        Purpose::RollBack { initiator: Initiator::Agent, .. } => Some(by(Initiator::Operator)),
        Purpose::RollBack { initiator: Initiator::Operator, .. } => {
            Some(Purpose::MoveOutDuplicates { files: vec!["another.yaml".to_owned()] })
        }
        Purpose::MoveOutDuplicates { .. } => Some(Purpose::RestoreMissing),
        // Always by removing what is deployed, and listed with it.
        Purpose::RestoreMissing | Purpose::Suspend { .. } => None,
    })
}

fn gones() -> Vec<Gone> {
    every(Gone::Deleted, |gone| match gone {
        Gone::Deleted => Some(Gone::Moved { to: None }),
        Gone::Moved { .. } => Some(Gone::Unwitnessed),
        Gone::Unwitnessed => None,
    })
}

fn untils() -> Vec<Until> {
    every(Until::Person, |until| match until {
        Until::Person => Some(Until::Images(vec!["not-here:v1".to_owned()])),
        Until::Images(_) => Some(Until::RightData),
        Until::RightData => None,
    })
}

/// A replacement by generation 1.
fn replacing(purpose: Purpose, method: Method, stage: Stage) -> ComponentState {
    ComponentState::Replacing(Replacement { method, stage, ..Replacement::new(purpose, 1, "it crashed") })
}

fn missing(how: Gone) -> ComponentState {
    ComponentState::Missing { good: 1, how, since: jiff::Timestamp::UNIX_EPOCH, age: Duration::from_secs(900) }
}

fn held(until: Until) -> ComponentState {
    let (why, next_step) = ("spent".to_owned(), "look".to_owned());
    ComponentState::Held(Held { over: Some(2), good: Some(1), why, next_step, until })
}

/// One of each state.
fn samples() -> Vec<ComponentState> {
    every(ComponentState::Adopting { candidate: 2, healthy: Duration::ZERO }, |slot| match slot {
        ComponentState::Adopting { .. } => Some(ComponentState::Steady { good: 1 }),
        ComponentState::Steady { .. } => Some(ComponentState::Unread { candidate: 2, good: 1, age: Duration::ZERO }),
        ComponentState::Unread { .. } => Some(ComponentState::Probation(Probation::begin(2, 1))),
        ComponentState::Probation(_) => {
            Some(replacing(Purpose::roll_back(Some(2)), Method::RemoveThenAdd, Stage::StoppingApiServer))
        }
        ComponentState::Replacing(_) => Some(missing(Gone::Deleted)),
        ComponentState::Missing { .. } => Some(held(Until::Person)),
        ComponentState::Held(_) => None,
    })
}

/// A state with all that makes a difference in it.
fn variations(slot: ComponentState) -> Vec<ComponentState> {
    match slot {
        ComponentState::Adopting { .. } | ComponentState::Steady { .. } | ComponentState::Unread { .. } => vec![slot],
        ComponentState::Probation(new) => {
            let served = Probation { crashes: 1, served: Served::Yes, ..new.clone() };
            vec![ComponentState::Probation(new), ComponentState::Probation(served)]
        }
        ComponentState::Replacing(_) => {
            let mut all = Vec::new();
            for stage in stages() {
                for method in methods() {
                    all.extend(purposes().into_iter().map(|purpose| replacing(purpose, method, stage.clone())));
                }
                let suspend = Purpose::Suspend { longest: Duration::from_secs(1800) };
                all.push(replacing(suspend, Method::RemoveThenAdd, stage));
            }
            all
        }
        ComponentState::Missing { .. } => gones().into_iter().map(missing).collect(),
        ComponentState::Held(_) => untils().into_iter().map(held).collect(),
    }
}

/// The samples, with every stage of a replacement.
fn asked_about() -> Vec<ComponentState> {
    let staged = |slot: ComponentState| match slot {
        ComponentState::Replacing(r) => {
            stages().into_iter().map(|stage| ComponentState::Replacing(Replacement { stage, ..r.clone() })).collect()
        }
        other => vec![other],
    };
    samples().into_iter().flat_map(staged).collect()
}

/// Every request, and those with a number in it also without one.
fn requests() -> Vec<Request> {
    let component = id(NAME);
    let reason = String::new();
    let all = every(Request::Rollback { component: component.clone(), to: None }, |request| match request {
        Request::Rollback { .. } => Some(Request::Pause { seconds: 60, reason: reason.clone() }),
        Request::Pause { .. } => Some(Request::Checkpoint { component: component.clone(), reason: reason.clone() }),
        Request::Checkpoint { .. } => Some(Request::Release { component: component.clone(), number: None }),
        Request::Release { .. } => {
            Some(Request::Pin { component: component.clone(), number: None, reason: reason.clone() })
        }
        Request::Pin { .. } => Some(Request::Unpin { component: component.clone() }),
        Request::Unpin { .. } => {
            Some(Request::Quarantine { component: component.clone(), number: None, reason: reason.clone() })
        }
        Request::Quarantine { .. } => {
            Some(Request::Suspend { component: component.clone(), seconds: 1800, reason: reason.clone() })
        }
        Request::Suspend { .. } => Some(Request::AcceptData { component: None }),
        Request::AcceptData { .. } => Some(Request::Resume { component: None }),
        Request::Resume { .. } => None,
    });
    let more = [
        Request::Rollback { component: component.clone(), to: Some(1) },
        Request::Quarantine { component: component.clone(), number: Some(2), reason: String::new() },
        Request::Resume { component: Some(component) },
    ];
    all.into_iter().chain(more).collect()
}

/// Where a state may lead in one pass without anybody asking. The same place is always allowed.
fn allowed(from: &ComponentState, shows: Shows) -> &'static [&'static str] {
    match (from, shows) {
        (ComponentState::Adopting { .. }, _) => &[],
        (_, Shows::Unsettled) => match from {
            ComponentState::Replacing(_) => &["Steady", "Probation"],
            _ => &[],
        },
        (ComponentState::Steady { .. }, Shows::Candidate | Shows::Stranger) => &["Probation", "Unread"],
        (
            ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Probation(_),
            Shows::Quarantined,
        ) => &["Probation", "RollingBack", "Held"],
        (
            ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Probation(_),
            Shows::Broken | Shows::Claimed,
        ) => &["RollingBack", "Held"],
        (
            ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Probation(_),
            Shows::Deleted,
        ) => &["Missing"],
        (ComponentState::Unread { .. }, Shows::Good) => &["Steady"],
        (ComponentState::Unread { .. }, _) => &["Probation", "Unread"],
        (ComponentState::Probation(_), Shows::Good) => &["Steady"],
        (ComponentState::Probation(_), Shows::Candidate) => &["RollingBack", "Steady", "Held"],
        (ComponentState::Probation(_), _) => &["Probation"],
        (ComponentState::Missing { .. }, Shows::Good) => &["Steady"],
        (ComponentState::Missing { .. }, Shows::Candidate | Shows::Stranger) => &["Probation", "Unread"],
        (ComponentState::Missing { .. }, _) => &["RollingBack", "Probation", "Held"],
        // What was emptied for a restore becomes a replacement of what somebody deployed meanwhile.
        (ComponentState::Replacing(r), _) if r.suspended_for().is_some() => {
            &["Steady", "Probation", "Unread", "Held", "RollingBack"]
        }
        (ComponentState::Replacing(_), _) => &["Steady", "Probation", "Unread", "Held"],
        (ComponentState::Held(_), Shows::Good) => &["Steady"],
        (ComponentState::Held(_), Shows::Stranger | Shows::Quarantined) => {
            &["Probation", "Unread", "RollingBack", "Held"]
        }
        (ComponentState::Held(_), Shows::Claimed) => &["RollingBack"],
        (ComponentState::Held(_), _) => &[],
        (ComponentState::Steady { .. }, Shows::Good) => &[],
    }
}

/// A world whose memory knows generations 1 (good), 2 (candidate) and 3 (quarantined).
fn prepared() -> World {
    let mut world = World::adopted();
    world.write(FILE, &manifest(NAME, "--v=2"));
    world.run(2);
    world.write(FILE, &manifest(NAME, "--v=3"));
    world.run(2);
    let record = world.memory.components.get_mut(&id(NAME)).unwrap();
    let quarantined = record.generations.get_mut(&3).unwrap();
    quarantined.trust = Trust::Quarantined { why: "it crashed".to_owned(), since: jiff::Timestamp::UNIX_EPOCH };
    world
}

fn show(world: &mut World, shows: Shows) {
    world.unsettled.clear();
    match shows {
        Shows::Good => world.write(FILE, &manifest(NAME, "")),
        Shows::Candidate => world.write(FILE, &manifest(NAME, "--v=2")),
        Shows::Stranger => world.write(FILE, &manifest(NAME, "--v=8")),
        Shows::Quarantined => world.write(FILE, &manifest(NAME, "--v=3")),
        Shows::Broken => world.write(FILE, "a: ["),
        Shows::Deleted => world.remove(FILE, Gone::Deleted),
        Shows::Claimed => {
            world.write(FILE, &manifest(NAME, ""));
            world.write("z.yaml", &manifest(NAME, "--v=8"));
        }
        Shows::Unsettled => {
            world.write(FILE, "apiVers");
            world.unsettled.insert(FILE.to_owned());
        }
    }
}

fn assessment(verdict: Verdict, explained: bool) -> Assessment {
    let cause = Cause::Component { id: id("etcd"), verdict: Verdict::Down };
    Assessment {
        role: Role::ApiServer,
        health: verdict.into(),
        since: jiff::Timestamp::UNIX_EPOCH,
        watched: Duration::ZERO,
        serving: verdict == Verdict::Healthy,
        evidence: vec!["as it was told".to_owned()],
        cause: (explained && verdict != Verdict::Healthy).then_some(cause),
        crash: None,
        uid: Some("uid".to_owned()),
        reads: if matches!(verdict, Verdict::Down) { Reads::Nothing } else { Reads::All },
        address_in_use: false,
        delay: None,
    }
}

/// The node and the memory as an inhibitor needs them.
fn inhibit(world: &mut World, memory: &mut Memory, inhibitor: Option<&Inhibitor>) {
    world.busy.clear();
    world.policy.mode = Mode::Act;
    memory.pause = None;
    match inhibitor {
        // A look at the world is made without it: see `seen`.
        None | Some(Inhibitor::ReadOnly { .. } | Inhibitor::NewerState { .. } | Inhibitor::NoAgent) => {}
        Some(Inhibitor::Kubeadm { pid, command }) => {
            world.busy = vec![BusyProcess { pid: *pid, command: command.clone(), kind: BusyKind::Kubeadm }];
        }
        Some(Inhibitor::EtcdMaintenance { pid, command }) => {
            world.busy = vec![BusyProcess { pid: *pid, command: command.clone(), kind: BusyKind::EtcdMaintenance }];
        }
        Some(Inhibitor::Observe) => world.policy.mode = Mode::Observe,
        Some(Inhibitor::Paused { until, reason }) => {
            memory.pause = Some(memory::Pause { until: *until, reason: reason.clone(), warned: true });
        }
    }
}

/// One decision of the product.
struct Case<'a> {
    from: &'a ComponentState,
    shows: Shows,
    verdict: Verdict,
    explained: bool,
    inhibitor: Option<&'a Inhibitor>,
    request: Option<&'a Request>,
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, shows, verdict, explained, inhibitor, request } = self;
        let inhibitor = inhibitor.map(ToString::to_string);
        write!(f, "{from:?} shows {shows:?}, {verdict} explained={explained}, {inhibitor:?}, {request:?}")
    }
}

/// What the directory shows, and what keeps lastgood from acting.
struct Ground {
    world: World,
    seen: Observation,
    memory: Memory,
    shows: Shows,
    inhibitor: Option<Inhibitor>,
}

/// Every one of them.
fn grounds() -> Vec<Ground> {
    let mut all = Vec::new();
    for shows in shows() {
        let now = prepared().moment();
        for inhibitor in inhibitors(now.wall) {
            let mut world = prepared();
            show(&mut world, shows);
            let mut memory = world.memory.clone();
            inhibit(&mut world, &mut memory, inhibitor.as_ref());
            let mut seen = world.observe(world.moment());
            if let Some(Inhibitor::ReadOnly { why }) = &inhibitor {
                seen.node.read_only = Some(why.clone());
            }
            if let Some(Inhibitor::NewerState { files }) = &inhibitor {
                seen.node.newer_state.clone_from(files);
            }
            seen.node.no_agent = matches!(inhibitor, Some(Inhibitor::NoAgent));
            let found = Inhibitor::all(&seen.node, world.policy.mode, memory.pause.as_ref());
            assert_eq!(found, inhibitor.clone().into_iter().collect::<Vec<_>>(), "it is what it was to be");
            all.push(Ground { world, seen, memory, shows, inhibitor });
        }
    }
    all
}

/// Where decisions lead that may not lead there, with the first such case of each.
type Astray = BTreeMap<String, String>;

/// Decides on it with every verdict. Returns how often.
fn decide_on(
    ground: &Ground,
    slots: &[ComponentState],
    requests: &[Option<Request>],
    explained: &[bool],
    astray: &mut Astray,
) -> usize {
    let Ground { world, seen, memory, shows, inhibitor } = ground;
    let tick = Tick { now: world.moment(), credit: Duration::from_secs(1) };
    let mut memory = memory.clone();
    let mut decisions = 0;
    for from in slots {
        memory.components.get_mut(&id(NAME)).unwrap().state = from.clone();
        for verdict in verdicts() {
            for &explained in explained {
                let mut judged = Judgement::default();
                judged.components.insert(id(NAME), assessment(verdict, explained));
                for request in requests {
                    let scene = Scene { tick, seen, judged: &judged, policy: &world.policy };
                    let (decision, answer) = match request {
                        Some(request) => {
                            let (decision, granted) = decide_request(scene, &memory, request);
                            (decision, Some(granted))
                        }
                        None => (decide(scene, &memory), None),
                    };
                    let inhibitor = inhibitor.as_ref();
                    let case = Case { from, shows: *shows, verdict, explained, inhibitor, request: request.as_ref() };
                    check(&case, &decision, answer, astray);
                    decisions += 1;
                }
            }
        }
    }
    decisions
}

#[test]
fn every_state_leads_only_where_it_may() {
    let slots: Vec<_> = samples().into_iter().flat_map(variations).collect();
    let mut astray = Astray::new();
    let mut on = |ground| decide_on(ground, &slots, &[None], &[false, true], &mut astray);
    let decisions: usize = grounds().iter().map(&mut on).sum();
    assert!(astray.is_empty(), "{astray:#?}");
    assert_eq!(decisions, shows().len() * inhibitors(jiff::Timestamp::UNIX_EPOCH).len() * slots.len() * 6 * 2);
}

#[test]
fn every_request_leads_only_where_it_may() {
    let (slots, requests) = (asked_about(), requests().into_iter().map(Some).collect::<Vec<_>>());
    let mut astray = Astray::new();
    let mut on = |ground| decide_on(ground, &slots, &requests, &[false], &mut astray);
    let decisions: usize = grounds().iter().map(&mut on).sum();
    assert!(astray.is_empty(), "{astray:#?}");
    assert!(decisions >= shows().len() * slots.len() * requests.len() * 6, "{decisions}");
}

/// Where a granted request may lead besides.
fn wished(request: Option<&Request>, from: &ComponentState) -> &'static [&'static str] {
    match request {
        None | Some(Request::Pause { .. } | Request::Pin { .. } | Request::Unpin { .. }) => &[],
        // Only etcd's slot is emptied for a restore, and only etcd serves other data.
        Some(Request::Suspend { .. } | Request::AcceptData { .. }) => &[],
        Some(Request::Rollback { .. } | Request::Quarantine { .. }) => &["RollingBack", "Held", "Probation"],
        Some(Request::Checkpoint { .. }) => &["Steady"],
        Some(Request::Release { .. }) => &["Probation"],
        Some(Request::Resume { .. }) => match from {
            ComponentState::Held(_) => &["Steady", "Probation", "Unread", "Missing", "RollingBack", "Held"],
            _ => &[],
        },
    }
}

fn check(case: &Case<'_>, decision: &Decision, answer: Option<Result<(), plan::Refusal>>, astray: &mut Astray) {
    let Case { from, shows, verdict, explained: _, inhibitor, request } = *case;
    let touching: Vec<String> = decision
        .plan
        .iter()
        .filter(|s| s.touches_node() && s.component() == Some(&id(NAME)))
        .map(ToString::to_string)
        .collect();
    let Some(record) = decision.memory.components.get(&id(NAME)) else {
        assert!(matches!(from, ComponentState::Adopting { .. }), "{case}: forgotten");
        return;
    };
    let to = record.state.word();
    let granted = matches!(answer, Some(Ok(())));
    let wished = if granted { wished(request, from) } else { &[] };
    if to != from.word() && !allowed(from, shows).contains(&to) && !wished.contains(&to) {
        let way = format!("{} shows {shows:?}: leads to {to}", from.word());
        astray.entry(way).or_insert_with(|| format!("{case}, answered {answer:?}"));
    }
    // A slot that may be empty is filled whatever holds us; nothing else moves then.
    let may_be_empty = matches!(from, ComponentState::Replacing(r) if !r.stage.is_first_step());
    let asked = matches!(request, Some(Request::Rollback { .. } | Request::Quarantine { .. })) && granted;
    let persons = asked || matches!(from, ComponentState::Replacing(r) if r.initiator() == Initiator::Operator);
    // Generation 1 is the only known-good one.
    let known_good: Vec<u32> = record.known_good().map(|generation| generation.number).collect();
    let proven = shows == Shows::Candidate && verdict == Verdict::Healthy;
    let proven = proven || granted && matches!(request, Some(Request::Checkpoint { .. }));
    assert!(known_good.contains(&1) && (known_good == [1] || proven), "{case}: known-good are {known_good:?}");
    match (request, &answer) {
        (Some(Request::Pin { .. }), Some(Ok(()))) => assert_eq!(record.pin(), Some(1), "{case}"),
        (Some(_), Some(Err(_))) if matches!(inhibitor, Some(Inhibitor::NewerState { .. })) => {
            assert!(decision.plan.iter().all(|step| !step.needs_intent()), "{case}: nothing can be remembered");
        }
        (Some(Request::Pin { .. } | Request::Unpin { .. }), Some(Err(_))) if from.good().is_some() => {
            assert!(matches!(request, Some(Request::Unpin { .. })), "{case}: refused");
        }
        (Some(Request::Quarantine { number: Some(2), .. }), Some(Ok(()))) => {
            assert!(matches!(record.generations[&2].trust, Trust::Quarantined { .. }), "{case}");
            assert!(
                !matches!(&record.state, ComponentState::Steady { good: 2 }),
                "{case}: steady on what is quarantined"
            );
        }
        (Some(Request::Quarantine { .. }), Some(Err(_))) => {
            let stands = matches!(record.generations[&2].trust, Trust::Quarantined { .. });
            assert!(!stands || allowed(from, shows).contains(&"RollingBack"), "{case}: refused, and done");
        }
        (Some(Request::Release { .. }), Some(Ok(()))) => {
            let none = record.generations.values().all(|g| !matches!(g.trust, Trust::Quarantined { .. }));
            assert!(none, "{case}: released, and quarantined");
        }
        (Some(Request::Suspend { .. } | Request::AcceptData { .. }), answer) => {
            assert!(matches!(answer, Some(Err(_))), "{case}: granted for what is no etcd");
        }
        _ => {}
    }
    // kubeadm's work and a directory that cannot be written bind a person as well.
    let yields = inhibitor.is_some_and(Inhibitor::yields_to_operator);
    let resumed =
        matches!((request, inhibitor), (Some(Request::Resume { component: None }), Some(Inhibitor::Paused { .. })));
    if inhibitor.is_some() && !(yields && persons) && !resumed {
        assert!(touching.is_empty() || may_be_empty, "{case}: {touching:?} while held");
    }
    if matches!(request, Some(Request::Pause { .. })) && !persons {
        assert!(touching.is_empty() || may_be_empty, "{case}: {touching:?} although paused just now");
    }
    // Unknown moves nothing but what a file alone decides.
    let file_decides = matches!(shows, Shows::Broken | Shows::Claimed | Shows::Deleted | Shows::Quarantined);
    let under_way = matches!(from, ComponentState::Replacing(_));
    if verdict == Verdict::Unknown && !file_decides && !under_way && !asked {
        assert!(touching.is_empty(), "{case}: {touching:?} on Unknown");
    }
    // Nothing of an adopting component is ever touched: nothing is proven.
    if matches!(from, ComponentState::Adopting { .. }) && !asked {
        assert!(touching.is_empty(), "{case}: {touching:?} for something unproven");
    }
    if shows == Shows::Unsettled && !under_way && !asked {
        assert!(touching.is_empty(), "{case}: {touching:?} while a file is being written");
    }
}
