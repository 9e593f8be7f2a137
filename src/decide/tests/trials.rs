//! A candidate: its probation, what counts against it and what does not; and faults without a change.

use std::time::Duration;

use super::super::Pace;
use super::world::{API, FILE, FOUR, Up, World, back_to_good, id, manifest};
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, BusyProcess, Listener};
use crate::model::verdict::{Cause, ProcessActivity};
use crate::model::{ComponentState, Step, Trust};

#[test]
fn a_healthy_node_is_adopted_after_the_first_soak_and_only_published() {
    let mut world = World::new();
    world.run(50);
    assert!(matches!(world.state("etcd"), ComponentState::Adopting { .. }), "too early");
    world.run(40);
    for name in FOUR {
        assert!(matches!(world.state(name), ComponentState::Steady { good: 1 }), "{name}: {}", world.state(name));
        assert_eq!(world.inactive[&format!("{name}.yaml")], manifest(name, ""), "byte for byte");
    }
    world.assert_untouched();
}

#[test]
fn q5_what_stands_beside_an_older_process_is_unproven() {
    let mut world = World::new();
    for (_, changed) in world.files.values_mut() {
        *changed = jiff::Timestamp::from_second(1_800_000_400).unwrap();
    }
    world.run(600);
    assert!(matches!(world.state(API), ComponentState::Adopting { .. }));
    assert!(world.noticed(API, Notice::Unproven), "{}", world.story());
}

#[test]
fn n1_a_candidate_that_crashes_is_rolled_back_and_quarantined_and_reverted_when_written_again() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    let took = world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(took < 40, "two crashes decide, not a deadline: {took} s");
    assert!(matches!(world.generation(API, 2).trust, Trust::Quarantined { .. }));
    assert!(world.says("nil pointer dereference"), "the reason is told: {}", world.story());
    world.write(FILE, &manifest(API, "--crash"));
    world.run(1);
    assert!(!world.files.contains_key(FILE) || world.files[FILE].0 == manifest(API, ""), "reverted at once");
    world.until(40, "known-good back again", |w| back_to_good(w, API));
}

/// A member answers nothing while it is defragmented, and its dependents answer nothing without it.
#[test]
fn maintenance_of_etcd_stops_the_trials_of_etcd_and_of_what_depends_on_it() {
    for (name, file) in [("etcd", "etcd.yaml"), (API, FILE)] {
        for maintained in [true, false] {
            let mut world = World::adopted();
            world.policy.assist = false;
            world.write(file, &manifest(name, "--v=8"));
            world.until(60, "on probation and healthy", |w| match w.state(name) {
                ComponentState::Probation(trial) => trial.healthy > Duration::ZERO,
                _ => false,
            });
            if maintained {
                let command = "lastgood etcd defrag".to_owned();
                world.busy = vec![BusyProcess { pid: 9, command, kind: BusyKind::EtcdMaintenance }];
            }
            world.hung.insert(name.to_owned(), ProcessActivity::Idle);
            let before = world.state(name).clone();
            world.run(120);
            assert_eq!(*world.state(name) == before, maintained, "{name}: {}", world.story());
            world.hung.clear();
            world.busy.clear();
            world.run(400);
            assert_eq!(world.generation(name, 2).trust.is_known_good(), maintained, "{name}: {}", world.story());
        }
    }
}

#[test]
fn one_crash_decides_where_it_proves_that_no_other_attempt_ends_differently() {
    let crashes = |flag: &str, prepare: fn(&mut World)| {
        let mut world = World::adopted();
        prepare(&mut world);
        world.write(FILE, &manifest(API, flag));
        world.until(60, "its first crash", |w| w.events.iter().any(|event| event.to.contains("crashed")));
        (world.is_quarantined(API, 2), world)
    };
    let nothing: fn(&mut World) = |_| ();
    assert!(crashes("--crash=flag", nothing).0, "an unknown flag");
    assert!(!crashes("--crash", nothing).0, "a panic may be the first and last one");
    assert!(!crashes("--crash=port", nothing).0, "a port may be free the next time");
    let (_, mut world) = crashes("--crash=flag", |world| {
        world.pods.get_mut(&id("etcd")).unwrap().text = manifest("etcd", "--unready");
        world.write("etcd.yaml", &manifest("etcd", "--unready"));
    });
    world.run(60);
    assert_eq!(world.crashes(API), Some(0), "nothing is held against it without its etcd: {}", world.story());
}

#[test]
fn q12_a_candidate_whose_port_is_taken_is_rolled_back_and_not_quarantined() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash=port"));
    world.run(2);
    world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(matches!(world.generation(API, 2).trust, Trust::Candidate), "{}", world.story());
}

#[test]
fn a_candidate_that_is_merely_not_ready_gets_its_deadline() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--unready"));
    world.run(280);
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}", world.story());
    world.until(90, "known-good back", |w| back_to_good(w, API));
}

#[test]
fn livez_that_answers_before_readyz_was_asked_does_not_make_an_unready_candidate_one_that_served() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--unready-unasked"));
    world.run(280);
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}", world.story());
    world.until(90, "known-good back", |w| back_to_good(w, API));
    assert!(world.says("it did not serve within"), "{}", world.story());
}

#[test]
fn q13_an_etcd_that_lets_nobody_in_is_not_unknown_but_failed() {
    let mut world = World::adopted();
    world.write("etcd.yaml", &manifest("etcd", "--shut-out"));
    world.run(2);
    world.until(420, "given up", |w| matches!(w.generation("etcd", 2).trust, Trust::Quarantined { .. }));
    world.until(120, "known-good back", |w| back_to_good(w, "etcd"));
    assert!(world.says("rejects the client certificate"), "{}", world.story());
}

#[test]
fn q13_dependents_that_crash_again_and_again_under_a_healthy_candidate_count_against_it() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--refuse"));
    world.until(300, "known-good back", |w| w.entered(API, "RollingBack"));
    world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(matches!(world.generation(API, 2).trust, Trust::Quarantined { .. }));
    world.until(600, "its dependent too", |w| w.serves("kube-controller-manager"));
    assert!(matches!(world.state("kube-controller-manager"), ComponentState::Steady { good: 1 }), "{}", world.story());
}

#[test]
fn n2_a_candidate_that_serves_and_turns_bad_within_the_soak_is_rolled_back() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--sour=180"));
    world.run(2);
    world.until(300, "known-good back", |w| back_to_good(w, API));
    assert!(world.says("it served, then was unhealthy"), "{}", world.story());
}

#[test]
fn a_good_candidate_becomes_known_good_after_its_soak() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.run(2);
    assert_eq!(world.inactive[FILE], manifest(API, "--v=3"));
    world.assert_untouched();
}

#[test]
fn a_dead_etcd_is_not_held_against_a_new_api_server() {
    let mut world = World::adopted();
    world.pods.get_mut(&id("etcd")).unwrap().text.push_str(" # --crash");
    world.files.get_mut("etcd.yaml").unwrap().0.push_str(" # --crash");
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(200);
    match world.state(API) {
        ComponentState::Probation(trial) => {
            assert_eq!((trial.crashes, trial.age), (0, Duration::ZERO), "{}", world.story())
        }
        other => panic!("{other}\n{}", world.story()),
    }
}

#[test]
fn a_candidate_without_a_sandbox_leaves_the_last_kubelet_restart_to_what_is_put_back() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--no-sandbox"));
    world.run(2);
    world.until(700, "known-good back", |w| back_to_good(w, API));
    let restarts = world.steps.iter().filter(|step| matches!(step, Step::RestartKubelet)).count();
    assert!(restarts <= 2, "{}", world.story());
}

#[test]
fn a_candidate_that_loses_its_lease_and_comes_back_has_not_failed() {
    let mut world = World::adopted();
    world.write("kube-scheduler.yaml", &manifest("kube-scheduler", "--v=3"));
    world.run(30);
    for _ in 0..3 {
        let comes_back = world.seconds + 2;
        let pod = world.pods.get_mut(&id("kube-scheduler")).unwrap();
        (pod.up, pod.next_start) = (Up::Exited, comes_back);
        world.run(20);
    }
    match world.state("kube-scheduler") {
        ComponentState::Probation(trial) => assert_eq!(trial.crashes, 0, "{}", world.story()),
        other => panic!("{other}\n{}", world.story()),
    }
    world.until(400, "steady on 2", |w| matches!(w.state("kube-scheduler"), ComponentState::Steady { good: 2 }));
    // One that loses it for good does not serve, whatever it says.
    world.write("kube-scheduler.yaml", &manifest("kube-scheduler", "--v=4"));
    world.run(30);
    let pod = world.pods.get_mut(&id("kube-scheduler")).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, u64::MAX);
    world.until(400, "back on 2", |w| matches!(w.state("kube-scheduler"), ComponentState::Steady { good: 2 }));
}

#[test]
fn controller_manager_and_scheduler_die_with_the_api_server_and_nothing_is_done_about_them() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    world.until(60, "known-good back", |w| back_to_good(w, API));
    for name in ["kube-controller-manager", "kube-scheduler"] {
        assert!(matches!(world.state(name), ComponentState::Steady { good: 1 }));
        assert!(!world.steps.iter().any(|s| s.component() == Some(&id(name)) && s.touches_node()));
    }
}

#[test]
fn nothing_is_told_while_nothing_changes() {
    let mut world = World::adopted();
    world.run(600);
    assert_eq!(world.events, [], "{}", world.story());
    assert!(world.steps.is_empty(), "{:?}", world.steps);
}

#[test]
fn the_next_look_comes_soon_while_something_is_about_to_be_decided() {
    let pace = |world: &World| Pace::of(&world.memory, &world.observe(world.moment()));
    let mut world = World::adopted();
    assert_eq!(pace(&world), Pace::Quiet);
    world.write(FILE, "apiVers");
    world.unsettled.insert(FILE.to_owned());
    world.run(1);
    assert_eq!(pace(&world), Pace::Watchful, "a file in writing");
    world.unsettled.clear();
    world.write(FILE, &manifest(API, "--unready"));
    world.run(3);
    assert_eq!(pace(&world), Pace::Watchful, "a candidate that has not served: {}", world.state(API));
    world.write(FILE, &manifest(API, "--crash"));
    world.until(60, "going back", |w| matches!(w.state(API), ComponentState::Replacing(_)));
    assert_eq!(pace(&world), Pace::Busy, "a replacement");
    world.until(60, "known-good back", |w| back_to_good(w, API));
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(30);
    assert_eq!(pace(&world), Pace::Quiet, "a candidate that serves soaks at leisure: {}", world.state(API));
}

#[test]
fn q14_a_candidate_keeps_its_remaining_time_over_a_restart_and_gaps_earn_nothing() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--unready"));
    world.run(200);
    let ComponentState::Probation(before) = world.state(API).clone() else { panic!("{}", world.state(API)) };
    world.restart_agent();
    world.seconds += 5000;
    world.run(3);
    let ComponentState::Probation(after) = world.state(API).clone() else { panic!("{}", world.state(API)) };
    assert!(after.age >= before.age && after.age <= before.age + Duration::from_secs(3), "{before:?} {after:?}");
}

#[test]
fn q9_what_breaks_without_a_change_is_not_rolled_back() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    // The same process goes bad an hour later.
    let pod = world.pods.get_mut(&id(API)).unwrap();
    pod.up = Up::Exited;
    pod.next_start = u64::MAX;
    world.run(900);
    // The kubelet starts it no more, which is worth one restart of the kubelet (attempts.rs) and no rollback.
    let restart = world.steps.iter().position(|step| matches!(step, Step::RestartKubelet));
    world.steps.remove(restart.unwrap());
    world.assert_untouched();
    assert!(world.noticed(API, Notice::Unhealthy), "{}", world.story());
}

#[test]
fn q12_the_same_quarantined_content_written_three_times_is_held() {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    world.until(60, "back", |w| back_to_good(w, API));
    for _ in 0..2 {
        world.write(FILE, &manifest(API, "--crash"));
        world.run(2);
        world.until(60, "back", |w| back_to_good(w, API));
    }
    world.steps.clear();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(300);
    assert!(matches!(world.state(API), ComponentState::Held(_)), "{}", world.story());
    world.assert_untouched();
}

/// The kubelet's word cannot be had (its /pods go dark with the API server): the sandbox that waits is evidence enough.
#[test]
fn an_image_that_does_not_come_is_given_up_long_before_the_deadline_and_not_held_against_the_manifest() {
    let mut world = World::adopted();
    world.absent_images.insert("kube-apiserver:v9".to_owned());
    world.write(FILE, &manifest(API, "").replace("kube-apiserver:v1.34.2", "kube-apiserver:v9"));
    world.run(12 + 55);
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "it may still come: {}", world.story());
    world.until(30, "known-good back", |w| back_to_good(w, API));
    assert!(world.noticed(API, Notice::CandidateImage), "{}", world.story());
    assert!(!matches!(world.generation(API, 2).trust, Trust::Quarantined { .. }), "{}", world.story());
}

#[test]
fn n18_a_foreign_process_on_the_port_is_diagnosed_and_nothing_thrashes() {
    let mut world = World::adopted();
    let nc = Listener { pid: Some(99), program: "nc".to_owned(), container: None };
    world.listeners.insert(6443, nc);
    let pod = world.pods.get_mut(&id(API)).unwrap();
    pod.up = Up::Exited;
    pod.next_start = u64::MAX;
    world.run(600);
    world.assert_untouched();
    let cause = &world.judged.components[&id(API)].cause;
    assert!(matches!(cause, Some(Cause::Port { port: 6443, .. })), "{cause:?}");
}
