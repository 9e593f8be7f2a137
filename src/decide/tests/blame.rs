//! A dependent becomes unhealthy while its API server is on probation: when it counts against the API server (Q13).

use super::world::{API, FILE, Up, World, back_to_good, id, manifest};
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Step, Trust};

const CONTROLLERS: &str = "kube-controller-manager";

/// Its container exits with that code, and runs again after ten seconds.
fn exit(world: &mut World, code: i32) {
    world.exit_codes.insert(id(CONTROLLERS), code);
    let back = world.seconds + 10;
    let pod = world.pods.get_mut(&id(CONTROLLERS)).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, back);
}

/// A good candidate soaks, and its dependent has one trouble after the other.
fn soak(trouble: impl Fn(&mut World)) -> World {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(60, "the candidate serves", |w| w.pods[&id(API)].text.contains("--v=3") && w.serves(API));
    world.run(40);
    for _ in 0..4 {
        trouble(&mut world);
        world.run(50);
    }
    world.until(400, "known-good", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world
}

#[test]
fn q13_a_dependent_that_is_stopped_hung_or_killed_is_not_held_against_a_good_candidate() {
    type Trouble = fn(&mut World);
    let rows: [(&str, Trouble); 4] = [
        ("is stopped by a signal, and its container is stopped by us", |w| {
            w.hung.insert(CONTROLLERS.to_owned(), ProcessActivity::Stopped);
        }),
        ("is stopped by a signal, and exits when it goes on", |w| {
            w.hung.insert(CONTROLLERS.to_owned(), ProcessActivity::Stopped);
            w.run(1);
            w.hung.clear();
            exit(w, 1);
        }),
        ("works at something and answers nobody until the kubelet kills it", |w| {
            w.hung.insert(CONTROLLERS.to_owned(), ProcessActivity::Busy);
            w.run(40);
            w.hung.clear();
            exit(w, 137);
        }),
        ("is killed", |w| exit(w, 137)),
    ];
    for (situation, trouble) in rows {
        let world = soak(trouble);
        let touched = |step: &Step| step.component() == Some(&id(API)) && step.touches_node();
        assert!(!world.steps.iter().any(touched), "a dependent that {situation}: {}", world.story());
        let generations = world.memory.components.values().flat_map(|record| record.generations.values());
        let quarantined = generations.filter(|one| matches!(one.trust, Trust::Quarantined { .. })).count();
        assert_eq!(quarantined, 0, "a dependent that {situation}: {}", world.story());
    }
}

#[test]
fn q13_a_crash_loop_that_began_before_the_change_is_not_held_against_it() {
    let mut world = World::adopted();
    let crash = |world: &mut World| {
        exit(world, 1);
        world.run(30);
    };
    crash(&mut world);
    world.write(FILE, &manifest(API, "--v=3"));
    for _ in 0..14 {
        crash(&mut world);
    }
    assert!(matches!(world.state(API), ComponentState::Steady { good: 2 }), "{}\n{}", world.state(API), world.story());
}

#[test]
fn q13_a_harmful_candidate_goes_whatever_else_happens_to_its_dependents() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--refuse"));
    world.run(20);
    world.hung.insert("kube-scheduler".to_owned(), ProcessActivity::Stopped);
    world.until(300, "given up", |w| w.entered(API, "RollingBack"));
    world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(matches!(world.generation(API, 2).trust, Trust::Quarantined { .. }), "{}", world.story());
}
