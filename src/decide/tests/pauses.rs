//! After a restart of the kubelet or the runtime nothing restarts it again before the restart has taken effect.

use super::world::{API, FILE, MOVES, World, back_to_good, id, manifest};
use crate::model::component::HostService;
use crate::model::component_state::{KubeletRestarted, Replacement, Stage};
use crate::model::notice::Notice;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Lease, Step};

/// For how long a kubelet is left alone: its lease says nothing else.
const PAUSE: u64 = 40;

/// In which seconds such a step was taken, looking every second for so long.
fn when(world: &mut World, seconds: u64, is: impl Fn(&Step) -> bool, mut each: impl FnMut(&mut World)) -> Vec<u64> {
    let mut taken = Vec::new();
    for _ in 0..seconds {
        let before = world.steps.len();
        world.run(1);
        taken.extend(world.steps[before..].iter().filter(|step| is(step)).map(|_| world.seconds));
        each(world);
    }
    taken
}

fn restarts_kubelet(step: &Step) -> bool {
    matches!(step, Step::RestartKubelet)
}

/// Whether each came at least so long after the one before, and hardly later.
fn are_apart(taken: &[u64], pause: u64) -> bool {
    taken.windows(2).all(|pair| (pause..pause + 20).contains(&(pair[1] - pair[0])))
}

#[test]
fn a_node_lease_that_nobody_holds_costs_one_restart_within_its_duration() {
    for unread in [false, true] {
        let mut world = World::adopted();
        (world.policy.kubelet_restarts_per_hour, world.policy.lease_still) = (10, std::time::Duration::from_secs(6));
        let lease = |holder: Option<&str>, renewed: &str| {
            let (holder, renewed) = (holder.map(str::to_owned), Some(renewed.to_owned()));
            Ok(Lease { holder, renewed, ..Lease::default() })
        };
        world.leases.insert(id("kube-scheduler"), lease(Some("master-1_a"), MOVES));
        world.leases.insert(HostService::Kubelet.into(), lease(None, "0"));
        world.until(60, "restarted", |w| w.steps.iter().any(restarts_kubelet));
        if unread {
            let said = Err(Symptom::new(SymptomKind::TimedOut, "no answer"));
            world.leases.insert(HostService::Kubelet.into(), said);
        }
        let first = world.seconds;
        let again = when(&mut world, 130, restarts_kubelet, |_| {});
        let taken: Vec<u64> = std::iter::once(first).chain(again).collect();
        let expected = if unread { 1 } else { 3 };
        assert!(are_apart(&taken, PAUSE) && taken.len() == expected, "{taken:?}\n{}", world.story());
        assert_eq!(world.memory.kubelet_restarts.len(), expected, "the budget is spent on these alone");
    }
}

#[test]
fn a_kubelet_or_runtime_that_hangs_again_at_once_is_restarted_after_its_pause_only() {
    let runtime = |step: &Step| matches!(step, Step::RestartRuntime);
    type Row = (&'static str, ProcessActivity, fn(&Step) -> bool, u64);
    let rows: [Row; 3] = [
        ("kubelet", ProcessActivity::Stopped, restarts_kubelet, PAUSE),
        ("kubelet", ProcessActivity::Idle, restarts_kubelet, PAUSE),
        ("containerd", ProcessActivity::Idle, runtime, 60),
    ];
    for (name, at, is, pause) in rows {
        let mut world = World::adopted();
        (world.policy.kubelet_restarts_per_hour, world.policy.runtime_restarts_per_hour) = (10, 10);
        let hang = |world: &mut World| {
            world.hung.insert(name.to_owned(), at);
        };
        let begun = world.seconds;
        hang(&mut world);
        let taken = when(&mut world, 150, is, hang);
        assert!(taken[0] - begun < 15, "promptly: {begun} {taken:?}");
        assert!(are_apart(&taken, pause) && taken.len() >= 3, "{name}, {at:?}: {taken:?}\n{}", world.story());
    }
}

#[test]
fn a_kubelet_that_a_person_restarted_has_its_time_also_when_the_budget_was_given_back() {
    let mut world = World::adopted();
    world.run(20);
    let restarted = world.seconds;
    world.kubelet_started = restarted;
    world.hung.insert("kubelet".to_owned(), ProcessActivity::Idle);
    let taken = when(&mut world, 60, restarts_kubelet, |_| {});
    assert!(taken.len() == 1 && taken[0] >= restarted + PAUSE, "{restarted} {taken:?}");
}

#[test]
fn two_components_that_a_kubelet_does_not_start_are_one_restart() {
    let mut world = World::adopted();
    world.policy.kubelet_restarts_per_hour = 10;
    for name in ["kube-controller-manager", "kube-scheduler"] {
        world.write(&format!("{name}.yaml"), &manifest(name, "--no-sandbox"));
        world.run(1);
    }
    world.until(200, "restarted", |w| w.steps.iter().any(restarts_kubelet));
    assert_eq!(when(&mut world, PAUSE - 1, restarts_kubelet, |_| {}), [] as [u64; 0], "{}", world.story());
}

/// A rollback whose kubelet was restarted by the operator shortly before and starts nothing: the stage waits.
fn waits_for_the_kubelet() -> (World, u64) {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.until(60, "it crashed", |w| w.crashes(API) == Some(1));
    let restarted = world.seconds;
    (world.kubelet_started, world.kubelet_heard) = (restarted, false);
    world.until(60, "put in", |w| matches!(w.state(API), ComponentState::Replacing(r) if r.stage.startup().is_some()));
    world.hung.insert("kubelet".to_owned(), ProcessActivity::Idle);
    world.run(5);
    match world.state(API) {
        ComponentState::Replacing(r) => {
            assert!(matches!(r.stage, Stage::RestartingKubelet(_)), "{}", world.story());
        }
        other => panic!("{other}\n{}", world.story()),
    }
    assert!(world.seconds < restarted + PAUSE, "it took too long to get here");
    (world, restarted)
}

#[test]
fn a_rollback_waits_for_a_kubelet_that_was_restarted_shortly_before_and_restarts_it_then() {
    let (mut world, restarted) = waits_for_the_kubelet();
    let taken = when(&mut world, 60, restarts_kubelet, |_| {});
    assert!(taken.len() == 1 && taken[0] >= restarted + PAUSE, "{restarted} {taken:?}\n{}", world.story());
    assert!(!world.noticed(API, Notice::KubeletUnresponsive), "{}", world.story());
    world.until(60, "known-good back", |w| back_to_good(w, API));
}

#[test]
fn a_kubelet_that_was_restarted_after_the_good_file_was_put_in_is_not_restarted_for_it() {
    let (mut world, _) = waits_for_the_kubelet();
    world.restart_kubelet();
    let restarted = |state: ComponentState| match state {
        ComponentState::Replacing(Replacement { stage: Stage::AwaitingServing { kubelet_restarted, .. }, .. }) => {
            kubelet_restarted == KubeletRestarted::Yes
        }
        _ => false,
    };
    world.run(1);
    assert!(restarted(world.state(API).clone()), "{}", world.story());
    assert!(!world.steps.iter().any(restarts_kubelet), "{}", world.story());
    world.hung.clear();
    world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(!world.steps.iter().any(restarts_kubelet), "{}", world.story());
}

#[test]
fn a_pod_that_the_kubelet_starts_while_a_rollback_waits_needs_no_restart() {
    let (mut world, _) = waits_for_the_kubelet();
    world.hung.clear();
    world.pods.remove(&id(API));
    world.until(10, "known-good back", |w| back_to_good(w, API));
    world.run(60);
    assert!(!world.steps.iter().any(restarts_kubelet), "{}", world.story());
}
