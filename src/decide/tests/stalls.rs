//! A process, the kubelet or the runtime is stalled.

use std::sync::Arc;

use super::world::{API, World, id};
use crate::model::component::HostService;
use crate::model::kubelet_log::{ExitKind, ExitReason, KubeletExit, KubeletLog};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Request, Step};

/// Whether this step stops a container of that component.
fn stops(step: &Step, name: &str) -> bool {
    matches!(step, Step::StopContainer { component, .. } if *component == id(name))
}

#[test]
fn a_process_that_stands_still_is_restarted_once_and_its_dependents_are_not() {
    for (at, name) in [(ProcessActivity::Stopped, API), (ProcessActivity::Idle, API), (ProcessActivity::Idle, "etcd")] {
        let mut world = World::adopted();
        world.hung.insert(name.to_owned(), at);
        world.until(30, "serves again", |w| w.steps.iter().any(|step| stops(step, name)) && w.serves(name));
        world.run(120);
        let stopped = world.steps.iter().filter(|step| step.touches_node()).count();
        assert_eq!(stopped, 1, "{name}, {at:?}: {:?}\n{}", world.steps, world.story());
        assert!(world.says("restarting its container"), "{}", world.story());
        assert!(matches!(world.state(name), ComponentState::Steady { good: 1 }), "{}", world.state(name));
    }
}

#[test]
fn a_process_that_stands_still_again_and_again_is_held_until_a_person_resumes() {
    let mut world = World::adopted();
    let hang = |world: &mut World| world.hung.insert("kube-scheduler".to_owned(), ProcessActivity::Idle);
    for _ in 0..world.policy.actions_per_hour + 1 {
        hang(&mut world);
        world.run(60);
    }
    let stopped = world.steps.iter().filter(|step| stops(step, "kube-scheduler")).count();
    assert_eq!(stopped, world.policy.actions_per_hour, "{}", world.story());
    assert!(matches!(world.state("kube-scheduler"), ComponentState::Held(_)), "{}", world.story());
    world.ask(&Request::Resume { component: None }).unwrap();
    world.until(60, "serves again", |w| w.serves("kube-scheduler"));
}

#[test]
fn q8_what_works_at_something_or_waits_for_its_disk_is_left_to_the_kubelet() {
    for at in [ProcessActivity::Busy, ProcessActivity::WaitsForDisk, ProcessActivity::Unseen] {
        let mut world = World::adopted();
        world.hung.insert("etcd".to_owned(), at);
        world.run(300);
        world.assert_untouched();
        assert!(at == ProcessActivity::WaitsForDisk || world.noticed("etcd", Notice::StallLeft), "{}", world.story());
    }
}

#[test]
fn q8_an_api_server_that_hangs_on_a_hung_etcd_is_not_the_one_that_is_restarted() {
    let mut world = World::adopted();
    // etcd works at something, so nothing is done about it; nor about whoever waits for it.
    world.hung.insert("etcd".to_owned(), ProcessActivity::Busy);
    world.hung.insert(API.to_owned(), ProcessActivity::Idle);
    world.run(300);
    world.assert_untouched();
}

#[test]
fn a_stop_that_fails_is_tried_again_and_spends_nothing() {
    let mut world = World::adopted();
    world.hands_fail = true;
    world.hung.insert("kube-scheduler".to_owned(), ProcessActivity::Stopped);
    world.run(120);
    world.hands_fail = false;
    world.until(60, "serves again", |w| w.serves("kube-scheduler"));
    assert!(matches!(world.state("kube-scheduler"), ComponentState::Steady { .. }), "{}", world.story());
}

#[test]
fn a_kubelet_or_a_runtime_that_stands_still_is_restarted_within_its_budget() {
    for name in ["kubelet", "containerd"] {
        let is_restart = |step: &Step| match name {
            "kubelet" => matches!(step, Step::RestartKubelet),
            _ => matches!(step, Step::RestartRuntime),
        };
        let mut world = World::adopted();
        world.policy.kubelet_restart = vec!["/usr/sbin/service".into(), "kubelet".into(), "restart".into()];
        world.policy.runtime_restart = vec!["rc-service".into(), "crio".into(), "restart".into()];
        let budget = match name {
            "kubelet" => world.policy.kubelet_restarts_per_hour,
            _ => world.policy.runtime_restarts_per_hour,
        };
        for _ in 0..budget + 2 {
            world.hung.insert(name.to_owned(), ProcessActivity::Idle);
            world.run(120);
        }
        let restarts = world.steps.iter().filter(|step| is_restart(step)).count();
        let others = world.steps.iter().filter(|step| step.touches_node() && !is_restart(step)).count();
        assert_eq!((restarts, others), (budget, 0), "{name}: {:?}\n{}", world.steps, world.story());
        assert!(world.says("is not restarted") && world.says("per hour is reached"), "{name}: {}", world.story());
        assert!(world.says("`lastgood resume` permits it again"), "{name}: {}", world.story());
        // The operator gives the budget back.
        world.ask(&Request::Resume { component: None }).unwrap();
        world.until(60, "restarted again", |w| w.steps.iter().filter(|step| is_restart(step)).count() > budget);
        let command =
            if name == "kubelet" { "`/usr/sbin/service kubelet restart` does it" } else { "`rc-service crio restart`" };
        assert!(world.says(command), "{name}: as it is configured: {}", world.story());
    }
    let mut world = World::adopted();
    world.hung.insert("containerd".to_owned(), ProcessActivity::Busy);
    world.run(300);
    world.assert_untouched();
}

#[test]
fn t21_nothing_that_stands_still_is_restarted_while_paused() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 3600, reason: String::new() }).unwrap();
    for name in [API, "kubelet", "containerd"] {
        world.hung.insert(name.to_owned(), ProcessActivity::Stopped);
        world.run(60);
        world.assert_untouched();
        world.hung.clear();
    }
    assert!(world.noticed(API, Notice::StallLeft), "{}", world.story());
}

#[test]
fn t10_a_control_plane_that_hung_and_goes_on_is_not_started_a_second_time() {
    let mut world = World::adopted();
    // Both hang; before anything is decided they go on, as a machine that was suspended does. Who is stopped by a signal is
    // decided about when two questions went unanswered, who is merely idle some seconds later.
    for (at, seconds) in [(ProcessActivity::Stopped, 1), (ProcessActivity::Idle, 4)] {
        world.hung.insert("etcd".to_owned(), at);
        world.hung.insert(API.to_owned(), at);
        world.run(seconds);
        world.hung.clear();
        world.run(120);
        world.assert_untouched();
    }
    // etcd is the root; what hung on it goes on with it, and only one process of each ran at any time.
    world.hung.insert("etcd".to_owned(), ProcessActivity::Stopped);
    world.hung.insert(API.to_owned(), ProcessActivity::Stopped);
    world.until(40, "etcd is stopped", |w| w.steps.iter().any(|step| stops(step, "etcd")));
    world.hung.clear();
    world.run(300);
    assert_eq!(world.touched(), 1, "{:?}\n{}", world.steps, world.story());
}

#[test]
fn b02_a_kubelet_that_ends_at_its_start_is_reported_with_its_reason_and_condemns_nobody() {
    let mut world = World::adopted();
    let exit = || KubeletExit { at: None, status: "1/FAILURE".to_owned() };
    let reason = ExitReason { kind: ExitKind::Flag(Some("--x".to_owned())), line: "unknown flag: --x".to_owned() };
    let log = KubeletLog { exits: vec![exit(), exit(), exit()], reason: Some(reason), ..KubeletLog::default() };
    world.kubelet_started = world.seconds;
    world.kubelet_log = Some(Ok(Arc::new(log)));
    world.run(3);
    let about = NodeNotice::Service(HostService::Kubelet);
    assert!(world.memory.notices[&about].contains("unknown flag: --x"), "{:?}", world.memory.notices);
    world.kubelet_log = Some(Ok(Arc::new(KubeletLog::default())));
    world.kubelet_started = 100;
    world.run(3);
    assert!(!world.memory.notices.contains_key(&about), "{:?}", world.memory.notices);
    world.assert_untouched();
}
