//! A replacement, stage by stage, and what it must never cause.

use std::time::Duration;

use super::world::{API, FILE, World, back_to_good, id, manifest};
use crate::model::component_state::Stage;
use crate::model::observation::{BusyKind, BusyProcess};
use crate::model::plan::Refusal;
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Request, Step};

#[test]
fn that_a_kubelet_has_heard_from_an_api_server_is_noted_as_soon_as_it_must_have() {
    let mut world = World::adopted();
    let noted = |world: &World| world.memory.api_served.as_ref().expect("it serves").at;
    let before = noted(&world);
    world.until(20, "a new note", |world| noted(world) > before);
    // A kubelet that started 3 s before that note: two more seconds, and it has heard.
    world.kubelet_started = noted(&world).as_secs() - 3;
    world.run(4);
    let must_have = Duration::from_secs(world.kubelet_started + 5);
    assert!(noted(&world) >= must_have, "{:?}, {must_have:?}", noted(&world));
}

#[test]
fn a_broken_etcd_is_replaced_with_the_api_server_stopped_first() {
    let mut world = World::adopted();
    world.write("etcd.yaml", &manifest("etcd", "--crash"));
    world.run(2);
    world
        .until(120, "both serve", |w| back_to_good(w, "etcd") && w.serves(API) && w.memory.stopped_apiserver.is_none());
    let out = world.steps.iter().position(|s| matches!(s, Step::TakeOut { file_name, .. } if file_name == FILE));
    let etcd =
        world.steps.iter().position(|s| matches!(s, Step::TakeOut { file_name, .. } if file_name == "etcd.yaml"));
    assert!(out.is_some() && out < etcd, "kube-apiserver goes first: {:?}", world.steps);
    assert!(matches!(world.state(API), ComponentState::Steady { good: 1 }), "{}", world.story());
}

#[test]
fn a_node_that_starts_with_a_bad_manifest_gets_one_kubelet_restart() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.power_cut();
    world.until(120, "back", |w| back_to_good(w, API));
    let restarts = world.steps.iter().filter(|step| matches!(step, Step::RestartKubelet)).count();
    assert_eq!(restarts, 1, "{}", world.story());
}

#[test]
fn q1_a_rollback_never_changes_which_data_is_served() {
    let mut world = World::adopted();
    let other = manifest("etcd", "--sour=100").replace("/var/lib/etcd", "/var/lib/etcd-restored");
    world.write("etcd.yaml", &other);
    world.run(400);
    world.assert_untouched();
    assert!(matches!(world.state("etcd"), ComponentState::Held(_)), "{}", world.story());
    assert!(world.says("which data is served"), "{}", world.story());
}

#[test]
fn q2_no_etcd_is_put_over_an_empty_unmounted_or_foreign_directory() {
    let rows = [
        ("as it was", Some((1, 2)), true),
        ("on a disk with another number since the boot", Some((9, 2)), true),
        ("empty, or not mounted", None, false),
        ("another one", Some((1, 77)), false),
    ];
    for (situation, member, goes_back) in rows {
        let mut world = World::adopted();
        world.write("etcd.yaml", &manifest("etcd", "--crash"));
        world.data_member = member;
        world.run(2);
        if goes_back {
            world.until(120, "known-good back", |w| back_to_good(w, "etcd"));
            continue;
        }
        world.run(300);
        assert!(matches!(world.state("etcd"), ComponentState::Held(_)), "data {situation}: {}", world.state("etcd"));
        world.assert_untouched();
        assert!(world.says("/var/lib/etcd"), "data {situation}: {}", world.story());
        let asked = world.ask(&Request::Rollback { component: id("etcd"), to: Some(1) });
        if member.is_none() {
            assert!(matches!(asked, Err(Refusal::NotThisGeneration { .. })), "data {situation}: {asked:?}");
            continue;
        }
        // The operator says that they are the right ones.
        assert!(asked.is_ok(), "data {situation}: {asked:?}");
        world.until(120, "known-good back", |w| back_to_good(w, "etcd"));
    }
}

/// The agent ends while a slot is empty; whoever fills it from staging (ExecStopPost, the next start) does not write the
/// memory, and the pod runs before the agent looks again.
#[test]
fn q11_a_slot_that_was_filled_while_the_agent_was_away_ends_the_rollback() {
    const FILE: &str = "kube-scheduler.yaml";
    let mut world = World::adopted();
    world.write(FILE, &manifest("kube-scheduler", "--crash"));
    world.until(60, "taken out", |w| !w.files.contains_key(FILE));
    world.run(1);
    assert!(matches!(world.state("kube-scheduler"), ComponentState::Replacing(_)), "{}", world.story());
    world.write(FILE, &manifest("kube-scheduler", ""));
    world.seconds += 20;
    world.restart_agent();
    world.until(60, "back", |w| back_to_good(w, "kube-scheduler"));
}

#[test]
fn never_6_a_person_who_puts_another_file_in_during_a_rollback_is_not_fought() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    world.until(60, "rolling back", |w| matches!(w.state(API), ComponentState::Replacing(_)));
    world.write(FILE, &manifest(API, "--v=5"));
    world.run(20);
    assert_eq!(world.files[FILE].0, manifest(API, "--v=5"), "{}", world.story());
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}\n{}", world.state(API), world.story());
}

#[test]
fn an_api_server_that_was_put_back_is_not_given_up_because_etcd_is_maintained() {
    for maintained in [true, false] {
        let mut world = World::adopted();
        world.write(FILE, &manifest(API, "--crash"));
        world.until(60, "put back", |w| match w.state(API) {
            ComponentState::Replacing(r) => matches!(r.stage, Stage::AwaitingServing { .. }),
            _ => false,
        });
        if maintained {
            let command = "lastgood etcd defrag".to_owned();
            world.busy = vec![BusyProcess { pid: 9, command, kind: BusyKind::EtcdMaintenance }];
        }
        world.hung.insert(API.to_owned(), ProcessActivity::Idle);
        world.run(700);
        assert_eq!(matches!(world.state(API), ComponentState::Held(_)), !maintained, "{}", world.story());
    }
}
