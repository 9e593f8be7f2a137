//! An attempt that the kubelet does not start, although the back-off of its container is over.

use std::sync::Arc;

use super::world::{API, FILE, Up, World, id};
use crate::model::kubelet_log::{KubeletLog, PodFault, PodFaultKind};
use crate::model::observation::{BusyKind, BusyProcess};
use crate::model::verdict::Cause;
use crate::model::{ComponentState, Step};

fn restarts(world: &World) -> usize {
    world.steps.iter().filter(|step| matches!(step, Step::RestartKubelet)).count()
}

/// The container of a known-good API server ends, and the kubelet starts no other.
fn forgotten() -> World {
    let mut world = World::adopted();
    end(&mut world);
    world
}

fn end(world: &mut World) {
    world.policy.assist = false;
    let now = world.wall_at(world.seconds);
    let pod = world.pods.get_mut(&id(API)).unwrap();
    (pod.up, pod.ended, pod.next_start) = (Up::Exited, Some(now), u64::MAX);
}

fn is_missed(world: &World) -> bool {
    matches!(world.judged.components[&id(API)].cause, Some(Cause::NoAttempt { .. }))
}

#[test]
fn the_kubelet_is_restarted_once_and_only_where_that_helps() {
    let mut world = forgotten();
    world.run(140);
    assert!(!is_missed(&world) && restarts(&world) == 0, "too early: {}", world.story());
    world.until(30, "it is named", is_missed);
    world.run(2);
    assert_eq!(restarts(&world), 1, "{}", world.story());
    world.run(600);
    assert_eq!(restarts(&world), 1, "what one restart does not cure, another does not: {}", world.story());
    assert!(is_missed(&world));
    world.run(4_000);
    assert_eq!(restarts(&world), 1, "nor after an hour, while it is the same container: {}", world.story());
    // Another container is another matter.
    let now = world.wall_at(world.seconds);
    let pod = world.pods.get_mut(&id(API)).unwrap();
    (pod.attempt, pod.started, pod.ended) = (1, now, Some(now));
    world.until(200, "another restart", |w| restarts(w) == 2);

    let reserved = PodFault { kind: PodFaultKind::NameReserved, detail: "x".to_owned(), at: None };
    let log = KubeletLog { pods: [(id(API), reserved)].into(), ..KubeletLog::default() };
    let mut world = forgotten();
    world.kubelet_log = Some(Ok(Arc::new(log)));
    world.run(300);
    let cause = world.judged.components[&id(API)].cause.clone();
    assert!(matches!(cause, Some(Cause::Sandbox { .. })), "a reserved name is named: {cause:?}");
    assert_eq!(restarts(&world), 0, "a restart frees no name: {}", world.story());

    let mut world = World::new();
    let pod = world.pods.get_mut(&id(API)).unwrap();
    pod.text = pod.text.replace("hostNetwork", "restartPolicy: Never, hostNetwork");
    world.files.get_mut(FILE).unwrap().0.clone_from(&pod.text);
    world.run(90);
    assert!(matches!(world.state(API), ComponentState::Steady { .. }), "{}", world.story());
    end(&mut world);
    world.run(300);
    assert!(!is_missed(&world), "no attempt is due by its restartPolicy: {}", world.story());
    assert_eq!(restarts(&world), 0, "{}", world.story());

    let mut world = forgotten();
    let command = "kubeadm upgrade apply".to_owned();
    world.busy = vec![BusyProcess { kind: BusyKind::Kubeadm, pid: 77, command }];
    world.run(300);
    assert_eq!(restarts(&world), 0, "kubeadm runs: {}", world.story());
}
