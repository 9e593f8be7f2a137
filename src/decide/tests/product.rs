//! Every state with every standing, verdict, cause, inhibitor and request: 13 × 8 × 6 × 2 × 3 × 8 decisions, each
//! checked against the allowed next states and against what must never follow.

use std::time::Duration;

use super::world::{World, id, manifest};
use crate::decide::{Scene, decide};
use crate::model::observation::{BusyKind, BusyProcess, Gone};
use crate::model::slot::*;
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

const SHOWS: [Shows; 8] = [
    Shows::Good,
    Shows::Candidate,
    Shows::Stranger,
    Shows::Quarantined,
    Shows::Broken,
    Shows::Deleted,
    Shows::Claimed,
    Shows::Unsettled,
];
const VERDICTS: [Verdict; 6] =
    [Verdict::Healthy, Verdict::Starting, Verdict::Failing, Verdict::Stalled, Verdict::Down, Verdict::Unknown];
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holds {
    Nothing,
    Pause,
    Kubeadm,
}

fn slots() -> Vec<Slot> {
    let rollback = |stage| {
        Slot::RollingBack(Rollback {
            from: Some(2),
            to: 1,
            why: "it crashed".to_owned(),
            wish: Wish::Ours,
            way: Way::TwoSteps,
            intruders: Vec::new(),
            stage,
            in_stage: Duration::ZERO,
            crashes: 0,
            nudged: Nudged::NotYet,
            stood: Stood::NotYet,
            vacated: None,
        })
    };
    let missing =
        |how| Slot::Missing { good: 1, how, since: jiff::Timestamp::UNIX_EPOCH, age: Duration::from_secs(900) };
    vec![
        Slot::Adopting { candidate: 2, healthy: Duration::ZERO },
        Slot::Steady { good: 1 },
        Slot::Unread { candidate: 2, good: 1, age: Duration::ZERO },
        Slot::Probation(Probation::begin(2, 1)),
        Slot::Probation(Probation { crashes: 1, served: Served::Yes, ..Probation::begin(2, 1) }),
        missing(Gone::Deleted),
        missing(Gone::Unwitnessed),
        rollback(Stage::Parking),
        rollback(Stage::TakingOut),
        rollback(Stage::AwaitingGone),
        rollback(Stage::PuttingIn),
        rollback(Stage::AwaitingServing),
        Slot::Held(Held {
            over: Some(2),
            good: Some(1),
            why: "spent".to_owned(),
            next_step: "look".to_owned(),
            until: Until::Person,
        }),
    ]
}

/// Where a state may lead in one pass without anybody asking. The same place is always allowed.
fn allowed(from: &Slot, shows: Shows) -> &'static [&'static str] {
    match (from, shows) {
        (Slot::Adopting { .. }, _) => &[],
        (_, Shows::Unsettled) => match from {
            Slot::RollingBack(_) => &["Steady", "Probation"],
            _ => &[],
        },
        (Slot::Steady { .. }, Shows::Candidate | Shows::Stranger) => &["Probation", "Unread"],
        (Slot::Steady { .. } | Slot::Unread { .. } | Slot::Probation(_), Shows::Quarantined) => {
            &["Probation", "RollingBack", "Held"]
        }
        (Slot::Steady { .. } | Slot::Unread { .. } | Slot::Probation(_), Shows::Broken | Shows::Claimed) => {
            &["RollingBack", "Held"]
        }
        (Slot::Steady { .. } | Slot::Unread { .. } | Slot::Probation(_), Shows::Deleted) => &["Missing"],
        (Slot::Unread { .. }, Shows::Good) => &["Steady"],
        (Slot::Unread { .. }, _) => &["Probation", "Unread"],
        (Slot::Probation(_), Shows::Good) => &["Steady"],
        (Slot::Probation(_), Shows::Candidate) => &["RollingBack", "Steady", "Held"],
        (Slot::Probation(_), _) => &["Probation"],
        (Slot::Missing { .. }, Shows::Good) => &["Steady"],
        (Slot::Missing { .. }, Shows::Candidate | Shows::Stranger) => &["Probation", "Unread"],
        (Slot::Missing { .. }, _) => &["RollingBack", "Probation", "Held"],
        (Slot::RollingBack(_), _) => &["Steady", "Probation", "Unread", "Held"],
        (Slot::Held(_), Shows::Good) => &["Steady"],
        (Slot::Held(_), Shows::Stranger | Shows::Quarantined) => &["Probation", "Unread", "RollingBack", "Held"],
        (Slot::Held(_), Shows::Claimed) => &["RollingBack"],
        (Slot::Held(_), _) => &[],
        (Slot::Steady { .. }, Shows::Good) => &[],
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
    quarantined.standing = Standing::Quarantined { why: "it crashed".to_owned(), since: jiff::Timestamp::UNIX_EPOCH };
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
        verdict,
        since: jiff::Timestamp::UNIX_EPOCH,
        watched: Duration::ZERO,
        serving: verdict == Verdict::Healthy,
        evidence: vec!["as it was told".to_owned()],
        cause: (explained && verdict != Verdict::Healthy).then_some(cause),
        crash: None,
        uid: Some("uid".to_owned()),
        reads: if matches!(verdict, Verdict::Down) { Reads::Nothing } else { Reads::All },
        harms: None,
        address_in_use: false,
        standstill: None,
    }
}

#[test]
fn every_state_leads_only_where_it_may() {
    let requests = [
        None,
        Some(Request::Rollback { component: id(NAME), to: None }),
        Some(Request::Pause { seconds: 60, reason: String::new() }),
        Some(Request::Resume { component: None }),
        Some(Request::Pin { component: id(NAME), number: None, reason: String::new() }),
        Some(Request::Unpin { component: id(NAME) }),
        Some(Request::Quarantine { component: id(NAME), number: None, reason: String::new() }),
        Some(Request::Quarantine { component: id(NAME), number: Some(2), reason: String::new() }),
    ];
    let mut decisions = 0;
    for shows in SHOWS {
        let mut world = prepared();
        show(&mut world, shows);
        let tick = Tick { now: world.moment(), credit: Duration::from_secs(1) };
        for holds in [Holds::Nothing, Holds::Pause, Holds::Kubeadm] {
            world.busy = match holds {
                Holds::Kubeadm => {
                    vec![BusyProcess { pid: 9, command: "kubeadm upgrade".to_owned(), kind: BusyKind::Kubeadm }]
                }
                _ => Vec::new(),
            };
            let seen = world.observe(world.moment());
            for slot in slots() {
                let mut memory = world.memory.clone();
                memory.components.get_mut(&id(NAME)).unwrap().slot = slot.clone();
                memory.pause = (holds == Holds::Pause).then(|| memory::Pause {
                    until: tick.now.wall + Duration::from_secs(3600),
                    reason: String::new(),
                    warned: true,
                });
                for verdict in VERDICTS {
                    for explained in [false, true] {
                        for request in &requests {
                            let mut judged = Judgement::default();
                            judged.components.insert(id(NAME), assessment(verdict, explained));
                            let scene = Scene { tick, seen: &seen, judged: &judged, policy: &world.policy };
                            let (decision, answer) = decide(scene, &memory, request.as_ref());
                            decisions += 1;
                            let case = format!(
                                "{slot} shows {shows:?}, {verdict} explained={explained}, {holds:?}, {request:?}"
                            );
                            check(&case, &slot, shows, verdict, holds, request.as_ref(), &decision, answer);
                        }
                    }
                }
            }
        }
    }
    assert_eq!(decisions, 13 * 8 * 6 * 2 * 3 * 8);
}

#[expect(clippy::too_many_arguments, reason = "one row of the product")]
fn check(
    case: &str,
    from: &Slot,
    shows: Shows,
    verdict: Verdict,
    holds: Holds,
    request: Option<&Request>,
    decision: &Decision,
    answer: Option<Result<(), plan::Refusal>>,
) {
    let touching: Vec<String> = decision
        .plan
        .iter()
        .filter(|s| s.touches_node() && s.component() == Some(&id(NAME)))
        .map(ToString::to_string)
        .collect();
    let Some(record) = decision.memory.components.get(&id(NAME)) else {
        assert!(matches!(from, Slot::Adopting { .. }), "{case}: forgotten");
        return;
    };
    let to = record.slot.word();
    assert_eq!(request.is_some(), answer.is_some(), "{case}: a request is answered");
    let asked = matches!(request, Some(Request::Rollback { .. } | Request::Resume { .. } | Request::Quarantine { .. }));
    if !asked {
        assert!(to == from.word() || allowed(from, shows).contains(&to), "{case}: leads to {to}");
    }
    // A slot that may be empty is filled whatever holds us; nothing else moves then.
    let may_be_empty = matches!(from, Slot::RollingBack(r) if r.stage > Stage::TakingOut);
    let operator =
        matches!((request, &answer), (Some(Request::Rollback { .. } | Request::Quarantine { .. }), Some(Ok(()))));
    // Generation 1 is the only known-good one.
    let known_good: Vec<u32> = record.known_good().map(|generation| generation.number).collect();
    let proven = shows == Shows::Candidate && verdict == Verdict::Healthy;
    assert!(known_good.contains(&1) && (known_good == [1] || proven), "{case}: known-good are {known_good:?}");
    match (request, &answer) {
        (Some(Request::Pin { .. }), Some(Ok(()))) => assert_eq!(record.pin(), Some(1), "{case}"),
        (Some(Request::Pin { .. } | Request::Unpin { .. }), Some(Err(_))) if from.good().is_some() => {
            assert!(matches!(request, Some(Request::Unpin { .. })), "{case}: refused");
        }
        (Some(Request::Quarantine { number: Some(2), .. }), Some(Ok(()))) => {
            assert!(matches!(record.generations[&2].standing, Standing::Quarantined { .. }), "{case}");
            assert!(!matches!(&record.slot, Slot::Steady { good: 2 }), "{case}: steady on what is quarantined");
        }
        (Some(Request::Quarantine { .. }), Some(Err(_))) => {
            let stands = matches!(record.generations[&2].standing, Standing::Quarantined { .. });
            assert!(!stands || allowed(from, shows).contains(&"RollingBack"), "{case}: refused, and done");
        }
        _ => {}
    }
    let resumed = matches!(request, Some(Request::Resume { .. }));
    if holds == Holds::Kubeadm || holds == Holds::Pause && !operator && !resumed {
        assert!(touching.is_empty() || may_be_empty, "{case}: {touching:?} while held");
    }
    if matches!(request, Some(Request::Pause { .. })) {
        assert!(touching.is_empty() || may_be_empty, "{case}: {touching:?} although paused just now");
    }
    // Unknown moves nothing but what a file alone decides.
    let file_decides = matches!(shows, Shows::Broken | Shows::Claimed | Shows::Deleted | Shows::Quarantined);
    let under_way = matches!(from, Slot::RollingBack(_));
    if verdict == Verdict::Unknown && !file_decides && !under_way && !operator {
        assert!(touching.is_empty(), "{case}: {touching:?} on Unknown");
    }
    // Nothing of an adopting component is ever touched: nothing is proven.
    if matches!(from, Slot::Adopting { .. }) && !operator {
        assert!(touching.is_empty(), "{case}: {touching:?} for something unproven");
    }
    if shows == Shows::Unsettled && !under_way && !operator {
        assert!(touching.is_empty(), "{case}: {touching:?} while a file is being written");
    }
}
