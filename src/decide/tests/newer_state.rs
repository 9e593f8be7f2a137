//! A newer lastgood's files are here: what is out comes back, and nothing else is done or remembered.

use super::world::{API, FILE, World, back_to_good, id, manifest};
use crate::model::memory::Record;
use crate::model::observation::Gone;
use crate::model::plan::Refusal;
use crate::model::{ComponentId, ComponentState, Generation, NewerFile, Request, Step};

fn downgraded(world: &mut World) {
    world.around.newer_state = vec![NewerFile { path: "/var/lib/lastgood/memory.json".into(), version: 9, known: 2 }];
}

/// What is remembered of each component, without events and verdicts.
fn remembered(world: &World) -> Vec<(ComponentId, ComponentState, Vec<Generation>, Option<u32>)> {
    let of = |record: &Record| record.generations.values().cloned().collect();
    world
        .memory
        .components
        .iter()
        .map(|(id, record)| (id.clone(), record.state.clone(), of(record), record.pin()))
        .collect()
}

#[test]
fn nothing_is_rolled_back_kept_proven_or_quarantined() {
    let mut world = World::adopted();
    downgraded(&mut world);
    let before = remembered(&world);
    let store = world.store.clone();
    world.write(FILE, &manifest(API, "--crash"));
    world.remove("kube-scheduler.yaml", Gone::Deleted);
    world.run(900);
    world.assert_untouched();
    assert_eq!(remembered(&world), before);
    assert_eq!(world.store, store);
    assert!(!world.steps.iter().any(|step| !step.touches_node()), "{:?}", world.steps);
    world.around.newer_state.clear();
    world.until(300, "both back", |w| back_to_good(w, API) && back_to_good(w, "kube-scheduler"));
}

#[test]
fn q11_a_manifest_that_was_taken_out_comes_back_beside_newer_state() {
    for restarted in [false, true] {
        let mut world = World::adopted();
        world.write(FILE, &manifest(API, "--crash"));
        let out = |world: &World| {
            let waits = matches!(world.state(API), ComponentState::Replacing(r) if !r.stage.is_first_step());
            waits && !world.files.contains_key(FILE)
        };
        world.until(120, "it is out", out);
        world.steps.clear();
        downgraded(&mut world);
        if restarted {
            world.restart_agent();
        }
        world.until(60, "it is back", |w| w.files.get(FILE).is_some_and(|(text, _)| *text == manifest(API, "")));
        world.run(60);
        let kinds: Vec<&str> = world.steps.iter().map(Step::kind).collect();
        assert!(kinds.iter().all(|kind| ["put-in", "restore-file"].contains(kind)), "{kinds:?}");
        let quarantined = matches!(world.generation(API, 2).trust, crate::model::Trust::Quarantined { .. });
        assert!(quarantined, "as it was before");
    }
}

/// One request of each kind; a new kind does not compile until it is here.
fn every_request() -> Vec<Request> {
    let (component, reason) = (id(API), String::new());
    let mut all = vec![Request::Rollback { component: component.clone(), to: None }];
    loop {
        let (component, reason) = (component.clone(), reason.clone());
        all.push(match all.last() {
            Some(Request::Rollback { .. }) => Request::Pause { seconds: 60, reason },
            Some(Request::Pause { .. }) => Request::Checkpoint { component, reason },
            Some(Request::Checkpoint { .. }) => Request::Release { component, number: None },
            Some(Request::Release { .. }) => Request::Pin { component, number: None, reason },
            Some(Request::Pin { .. }) => Request::Unpin { component },
            Some(Request::Unpin { .. }) => Request::Quarantine { component, number: None, reason },
            Some(Request::Quarantine { .. }) => Request::Suspend { component: id("etcd"), seconds: 60, reason },
            Some(Request::Suspend { .. }) => Request::AcceptData { component: None },
            Some(Request::AcceptData { .. }) => Request::Resume { component: None },
            Some(Request::Resume { .. }) | None => return all,
        });
    }
}

#[test]
fn every_request_is_refused_with_the_next_step() {
    let mut world = World::adopted();
    downgraded(&mut world);
    let before = remembered(&world);
    for request in every_request() {
        match world.ask(&request) {
            Err(Refusal::NotActing { why }) => assert!(why.contains("/var/lib/lastgood/memory.json"), "{why}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert_eq!((remembered(&world), &world.memory.pause), (before, &None));
    world.assert_untouched();
}

#[test]
fn a_pause_that_ends_meanwhile_is_not_called_acting_again() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 60, reason: String::new() }).unwrap();
    downgraded(&mut world);
    world.events.clear();
    world.run(120);
    assert!(world.memory.pause.is_some());
    assert!(!world.events.iter().any(|event| event.to == "acting again"), "{}", world.story());
}
