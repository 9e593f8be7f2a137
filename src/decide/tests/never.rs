//! What must never be, by its number, at every pass of random sequences of faults, requests and restarts.
//!
//! | Never | besides these |
//! |---|---|
//! | 1 | `never_1_…` of `act::crash_tests`; `power` on the lab |
//! | 2 | the lock: `a_second_agent_is_refused` on the lab |
//! | 3 | `q1_…`, `r9_…` |
//! | 4 | `never_4_a_pinned_generation_is_never_forgotten`; the last verified backup: where backups are |
//! | 5 | `n5_…`, `n21_…`, `q10_…` |
//! | 6 | `t21_…`, `q12_…`, `never_6_a_person_who_…` |
//! | 7 | `power` on the lab: loopback is all that a node has |
//! | 8 | `never_8_…` of `control::server`; `hands` on the lab |
//! | 9 | `n23_never_9_…` |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::sequences::{Deed, Passed, deed, play, with_cases};
use super::world::{FOUR, World, id, manifest};
use crate::model::component_state::Initiator;
use crate::model::lineage::WrongDataKind;
use crate::model::memory::Record;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentId, ComponentState, Memory, Step, Trust};

/// Sequences per promise, where PROPTEST_CASES says nothing.
const CASES: u32 = 12;

fn record<'a>(passed: &Passed<'a>, id: &ComponentId) -> &'a Record {
    &passed.world.memory.components[id]
}

/// The components whose replacement this pass began by itself, with what failed.
fn begun<'a>(passed: &Passed<'a>) -> Vec<(&'a ComponentId, Option<u32>)> {
    let components = passed.world.memory.components.iter();
    let ours = components.filter_map(|(id, record)| match &record.state {
        ComponentState::Replacing(r) if r.initiator() == Initiator::Agent => Some((id, r.from())),
        _ => None,
    });
    let before = |id: &ComponentId| passed.before.components.get(id).map(|record| &record.state);
    ours.filter(|(id, _)| !matches!(before(id), Some(ComponentState::Replacing(_)))).collect()
}

/// The generations of each component that the steps of one pass touch.
fn acted_upon(steps: &[Step]) -> BTreeMap<&ComponentId, BTreeSet<u32>> {
    let mut all: BTreeMap<&ComponentId, BTreeSet<u32>> = BTreeMap::new();
    for step in steps {
        let (component, number) = match step {
            Step::PutIn { component, number, .. } | Step::RestoreFile { component, number, .. } => (component, *number),
            Step::TakeOut { component, successor, .. } => (component, *successor),
            _ => continue,
        };
        all.entry(component).or_default().insert(number);
    }
    all
}

fn stopped(memory: &Memory) -> Option<u32> {
    memory.stopped_apiserver.as_ref().map(|stopped| stopped.generation)
}

fn quarantined(record: &Record, number: u32) -> bool {
    record.generations.get(&number).is_some_and(|g| matches!(g.trust, Trust::Quarantined { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..with_cases(CASES) })]

    #[test]
    fn never_2_two_generations_of_one_component_are_acted_upon_at_once(deeds in prop::collection::vec(deed(), 1..30)) {
        play(&mut World::adopted(), &deeds, |passed| {
            let story = || passed.world.story();
            for (component, numbers) in acted_upon(passed.steps) {
                let to = match &record(&passed, component).state {
                    ComponentState::Replacing(r) => r.to,
                    // The API server, which is stopped around a change of etcd, or comes back after it.
                    _ => stopped(passed.before).or(stopped(&passed.world.memory)).unwrap_or_default(),
                };
                assert_eq!(numbers, [to].into(), "{component}: {:?}\n{}", passed.steps, story());
            }
        });
    }

    #[test]
    fn never_3_another_state_is_served_by_our_own_wish(
        deeds in prop::collection::vec(prop_oneof![
            3 => deed().prop_filter("nobody asks for it", |deed| !matches!(deed, Deed::RollBack(_) | Deed::Quarantine(_))),
            1 => (0..2usize).prop_map(|who| {
                Deed::Write(who, ["--data-dir=/var/lib/other", "--etcd-prefix=/other"][who])
            }),
        ], 1..30)
    ) {
        play(&mut World::adopted(), &deeds, |passed| {
            for step in passed.steps {
                let Step::PutIn { component, number, .. } = step else { continue };
                // The API server that was stopped comes back as it was, whoever had put it there.
                if passed.before.stopped_apiserver.as_ref().is_some_and(|stopped| stopped.component == *component) {
                    continue;
                }
                let record = &passed.before.components[component];
                let data = |number: u32| record.generations.get(&number).and_then(|generation| generation.data.clone());
                let Some(served) = record.last_served else { continue };
                assert_eq!(data(*number), data(served), "{component}\n{}", passed.world.story());
            }
        });
    }

    #[test]
    fn never_3_q1_anything_is_restarted_onto_other_data_or_learnt_from_them(
        deeds in prop::collection::vec(prop_oneof![
            3 => prop::sample::select(vec![WrongDataKind::Empty, WrongDataKind::Foreign, WrongDataKind::Older])
                .prop_map(Deed::OtherData),
            2 => Just(Deed::RightData),
            1 => prop::sample::select(vec![Deed::Pause, Deed::Resume, Deed::KillAgent, Deed::RuntimeDies,
                Deed::RuntimeReturns, Deed::HandsFail, Deed::HandsWork]),
            4 => (1u64..60).prop_map(Deed::Wait),
        ], 1..25)
    ) {
        let (etcd, api) = (id("etcd"), id("kube-apiserver"));
        play(&mut World::adopted(), &deeds, |passed| {
            let (memory, story) = (&passed.world.memory, || passed.world.story());
            assert_eq!(memory.incarnations[&etcd].store, super::world::store("u"), "{}", story());
            assert_eq!(record(&passed, &etcd).data_dir.as_ref().unwrap().1.member, Some((1, 2)), "{}", story());
            if passed.before.wrong_data.is_none() || memory.wrong_data.is_none() {
                return;
            }
            for step in passed.steps.iter().filter(|step| step.touches_node()) {
                let stops_api = matches!(step, Step::Withhold { .. } | Step::StopContainer { .. } | Step::StopSandbox { .. })
                    && step.component() == Some(&api);
                assert!(stops_api || matches!(step, Step::RestartKubelet), "{step}\n{}", story());
            }
        });
    }

    #[test]
    fn never_4_the_last_known_good_generation_or_a_pinned_one_is_let_go(deeds in prop::collection::vec(deed(), 1..30)) {
        let mut world = World::adopted();
        // As few as there can be, so that some are let go all the time.
        world.policy.keep_generations = 0;
        play(&mut world, &deeds, |passed| {
            for name in FOUR {
                let (component, story) = (id(name), passed.world.story());
                let record = record(&passed, &component);
                let stored = |number: u32| passed.world.store.contains_key(&(component.clone(), number));
                let newest = record.known_good().next().map(|good| good.number);
                assert!(newest.is_some_and(stored), "{name}: nothing known-good is left\n{story}");
                assert!(record.state.good().is_none_or(stored), "{name}: falls back to nothing\n{story}");
                if let Some(pinned) = record.pin() {
                    let good = record.generations.get(&pinned).is_some_and(|pinned| pinned.trust.is_known_good());
                    assert!(good && stored(pinned), "{name}: the pinned one is gone\n{story}");
                }
            }
        });
    }

    #[test]
    fn never_5_something_is_begun_on_the_word_of_a_runtime_that_cannot_be_asked(
        deeds in prop::collection::vec(prop_oneof![4 => deed(), 1 => Just(Deed::RuntimeDies)], 1..30)
    ) {
        let mut world = World::adopted();
        // Little time is left to one that is unhealthy, so that what is not known would soon be held against it.
        (world.policy.unhealthy_grace, world.policy.progress_deadline) = (Duration::from_secs(5), Duration::from_secs(30));
        play(&mut world, &deeds, |passed| {
            if passed.world.runtime_dead.is_none() {
                return;
            }
            for (component, from) in begun(&passed) {
                // A file that holds no pod, or two that hold one, is read and not guessed; so is a quarantined manifest.
                let read = from.is_none_or(|from| quarantined(&passed.before.components[component], from));
                assert!(read, "{component}\n{}", passed.world.story());
            }
            let stops = |step: &&Step| matches!(step, Step::StopContainer { .. } | Step::RestartRuntime);
            assert!(passed.steps.iter().find(stops).is_none(), "{:?}\n{}", passed.steps, passed.world.story());
        });
    }

    #[test]
    fn never_6_something_is_begun_while_a_person_has_paused(deeds in prop::collection::vec(deed(), 1..30)) {
        play(&mut World::adopted(), &deeds, |passed| {
            if passed.before.pause.is_none() || passed.world.memory.pause.is_none() {
                return;
            }
            assert!(begun(&passed).is_empty(), "{}", passed.world.story());
            let stopped = passed.before.stopped_apiserver.is_some();
            for step in passed.steps.iter().filter(|step| step.touches_node()) {
                let Some(component) = step.component() else { continue };
                // What was under way is brought to its end: an empty slot helps nobody (Q11).
                let under_way = matches!(passed.before.components[component].state, ComponentState::Replacing(_));
                assert!(under_way || stopped, "moved while paused: {step}\n{}", passed.world.story());
            }
        });
    }
}

/// A fault that one look shows, and the next one does not any more.
type Glimpse = (&'static str, fn(&mut World, &str), fn(&mut World, &str));

#[test]
fn never_5_one_look_moves_nothing() {
    let glimpses: [Glimpse; 5] = [
        ("it answers nobody", |w, who| hang(w, who), |w, _| w.hung.clear()),
        ("its container is another one", |w, who| w.pods.get_mut(&id(who)).unwrap().attempt += 1, |_, _| {}),
        (
            "the runtime refuses",
            |w, _| w.runtime_dead = Some(Symptom::new(SymptomKind::Refused, "gone")),
            |w, _| w.runtime_dead = None,
        ),
        ("etcd knows no leader", |w, _| no_leader(w, true), |w, _| no_leader(w, false)),
        ("the kubelet does not answer", |w, _| hang(w, "kubelet"), |w, _| w.hung.clear()),
    ];
    for on_trial in [false, true] {
        for who in FOUR {
            let mut world = World::adopted();
            if on_trial {
                world.write(&format!("{who}.yaml"), &manifest(who, "--v=3"));
                world.run(40);
                assert!(matches!(world.state(who), ComponentState::Probation(_)), "{who}: {}", world.state(who));
            }
            // Hardly any time passes between what is seen and what is done (none is refused): only the number of looks.
            (world.policy.stall_after, world.policy.unhealthy_grace) = (Duration::ZERO, Duration::from_millis(1));
            for (what, begin, end) in &glimpses {
                begin(&mut world, who);
                world.seconds += 1;
                world.pass();
                end(&mut world, who);
                world.run(8);
                assert_eq!(world.touched(), 0, "{who}: {what}");
                let word = if on_trial { "Probation" } else { "Steady" };
                assert_eq!(world.state(who).word(), word, "{who}: {what}\n{}", world.story());
            }
        }
    }
}

fn hang(world: &mut World, who: &str) {
    world.hung.insert(who.to_owned(), ProcessActivity::Stopped);
}

fn no_leader(world: &mut World, lost: bool) {
    world.etcd_says(|status| {
        let Ok(own) = &mut status.own else { return };
        own.leader = if lost { None } else { Some(own.member) };
        status.agreed = if lost { crate::model::EtcdStatus::default().agreed } else { Ok(super::world::agreed()) };
    });
}
