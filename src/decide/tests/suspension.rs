//! etcd's manifest is out while its data are restored: granted, kube-apiserver stopped for it, ended, and never left
//! so.

use super::world::{API, FILE, World, id, manifest};
use crate::model::component_state::Stage;
use crate::model::observation::{BusyKind, BusyProcess};
use crate::model::plan::Refusal;
use crate::model::{ComponentState, Request, Step};

const ETCD: &str = "etcd.yaml";
const LONGEST: u64 = 1800;

fn restoring(world: &mut World) {
    let command = "lastgood etcd restore --from latest".to_owned();
    world.busy = vec![BusyProcess { pid: 77, command, kind: BusyKind::Restore }];
}

fn ask(world: &mut World, name: &str) -> Result<(), Refusal> {
    let reason = "its data are restored".to_owned();
    world.ask(&Request::Suspend { component: id(name), seconds: LONGEST, reason })
}

fn suspended(world: &World) -> bool {
    matches!(world.state("etcd"), ComponentState::Replacing(r) if r.stage == Stage::Suspended)
}

fn all_back(world: &World) -> bool {
    matches!(world.state("etcd"), ComponentState::Steady { good: 1 })
        && world.serves("etcd")
        && world.serves(API)
        && world.memory.stopped_apiserver.is_none()
}

/// A node whose slots are empty for a restore.
fn emptied() -> World {
    let mut world = World::adopted();
    restoring(&mut world);
    ask(&mut world, "etcd").unwrap();
    world.until(120, "suspended", suspended);
    world
}

#[test]
fn the_api_server_goes_first_and_both_come_back_when_the_restore_ends() {
    let mut world = emptied();
    let out =
        |file: &str| world.steps.iter().position(|s| matches!(s, Step::TakeOut { file_name, .. } if file_name == file));
    assert!(out(FILE).is_some() && out(FILE) < out(ETCD), "{:?}", world.steps);
    assert!(!world.pods.contains_key(&id("etcd")) && !world.pods.contains_key(&id(API)), "both have ended");
    world.run(600);
    assert!(
        suspended(&world) && !world.files.contains_key(ETCD) && !world.files.contains_key(FILE),
        "{}",
        world.story()
    );
    assert!(world.state("etcd").to_string().starts_with("Suspended"), "{}", world.state("etcd"));
    world.busy.clear();
    world.until(120, "both serve", all_back);
    assert_eq!(world.files[ETCD].0, manifest("etcd", ""));
    let etcd = world.steps.iter().position(|s| matches!(s, Step::PutIn { file_name, .. } if file_name == ETCD));
    let api = world.steps.iter().position(|s| matches!(s, Step::PutIn { file_name, .. } if file_name == FILE));
    assert!(etcd.is_some() && etcd < api, "etcd first: {:?}", world.steps);
    assert!(
        world.memory.components[&id("etcd")].actions.is_empty(),
        "what the operator asked for is none of the agent's actions"
    );
}

#[test]
fn an_agent_that_starts_anew_in_the_middle_goes_on_waiting() {
    let mut world = emptied();
    world.restart_agent();
    world.run(30);
    assert!(suspended(&world), "{}", world.state("etcd"));
    world.busy.clear();
    world.until(120, "both serve", all_back);
}

#[test]
fn a_restore_that_never_ends_is_told_and_the_slot_is_to_be_filled() {
    let mut world = emptied();
    world.run(LONGEST + 5);
    assert!(world.says("the restore (pid 77) has not ended"), "{}", world.story());
    assert!(world.steps.iter().any(|s| matches!(s, Step::PutIn { file_name, .. } if file_name == ETCD)));
}

#[test]
fn a_kubelet_that_ends_no_pod_has_it_stopped_for_it() {
    let mut world = World::adopted();
    world.power_cut();
    world.hung.insert(API.to_owned(), crate::model::verdict::ProcessActivity::Idle);
    world.run(3);
    assert!(!world.kubelet_heard, "no API server has served");
    restoring(&mut world);
    ask(&mut world, "etcd").unwrap();
    world.until(120, "suspended", suspended);
    let stopped = |s: &Step| matches!(s, Step::StopSandbox { component, .. } if *component == id("etcd"));
    assert!(world.steps.iter().any(stopped), "{:?}", world.steps);
    world.hung.clear();
    world.busy.clear();
    world.until(300, "both serve", all_back);
}

#[test]
fn a_file_that_a_person_puts_in_meanwhile_is_theirs() {
    let mut world = emptied();
    world.write(ETCD, &manifest("etcd", "--v=2"));
    world.run(30);
    assert!(!suspended(&world), "{}", world.state("etcd"));
    assert_eq!(world.files[ETCD].0, manifest("etcd", "--v=2"));
}

#[test]
fn what_cannot_be_emptied_is_refused_with_a_reason() {
    let mut world = World::adopted();
    let not_now = |answer: Result<(), Refusal>| matches!(answer, Err(Refusal::NotNow { .. }));
    assert!(not_now(ask(&mut world, "etcd")), "no restore of its data is running");
    restoring(&mut world);
    assert!(matches!(ask(&mut world, "nobody"), Err(Refusal::NoSuchComponent { .. })));
    assert!(not_now(ask(&mut world, API)), "only etcd's manifest is taken out");
    world.busy.push(BusyProcess { pid: 8, command: "kubeadm upgrade apply".to_owned(), kind: BusyKind::Kubeadm });
    assert!(matches!(ask(&mut world, "etcd"), Err(Refusal::NotActing { .. })));
    world.busy.pop();
    world.write(ETCD, "");
    world.pass();
    assert!(not_now(ask(&mut world, "etcd")), "it is being replaced: {}", world.state("etcd"));
    let mut world = emptied();
    assert!(not_now(ask(&mut world, "etcd")), "it is being replaced");
    world.run(1);
    assert!(suspended(&world));
}

#[test]
fn a_pause_does_not_bind_the_person_who_restores() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 7200, reason: "restore".to_owned() }).unwrap();
    restoring(&mut world);
    ask(&mut world, "etcd").unwrap();
    world.until(120, "suspended", suspended);
    world.busy.clear();
    world.until(120, "both serve", all_back);
    assert!(world.memory.pause.is_some());
    assert!(world.memory.components[&id("etcd")].state == ComponentState::Steady { good: 1 });
}
