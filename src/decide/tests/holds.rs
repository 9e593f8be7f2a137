//! Inhibitors: a pause, a running kubeadm, observe mode, a runtime that does not answer.

use super::world::{API, FILE, World, back_to_good, id, manifest};
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, BusyProcess, Gone};
use crate::model::plan::Refusal;
use crate::model::policy::Mode;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Request};

#[test]
fn t21_paused_means_paused() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 1800, reason: "upgrade".to_owned() }).unwrap();
    world.remove("kube-scheduler.yaml", Gone::Deleted);
    world.write(FILE, &manifest(API, "--crash"));
    world.run(900);
    world.assert_untouched();
    world.ask(&Request::Resume { component: None }).unwrap();
    world.until(200, "both back", |w| back_to_good(w, API) && back_to_good(w, "kube-scheduler"));
}

#[test]
fn a_pause_ends_by_itself_after_a_warning() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 600, reason: String::new() }).unwrap();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(590);
    world.assert_untouched();
    assert!(world.memory.pause.as_ref().is_some_and(|pause| pause.warned), "{}", world.story());
    world.until(120, "back", |w| back_to_good(w, API));
}

#[test]
fn q6_while_kubeadm_works_we_watch() {
    let mut world = World::adopted();
    world.busy.push(BusyProcess { pid: 9, command: "kubeadm upgrade apply".to_owned(), kind: BusyKind::Kubeadm });
    world.write(FILE, &manifest(API, "--crash"));
    world.run(120);
    world.assert_untouched();
    let refused = world.ask(&Request::Rollback { component: id(API), to: None });
    assert!(matches!(refused, Err(Refusal::NotActing { .. })), "{refused:?}");
    world.busy.clear();
    world.until(120, "back", |w| back_to_good(w, API));
}

#[test]
fn observe_mode_keeps_and_tells_and_touches_nothing() {
    let mut world = World::adopted();
    world.policy.mode = Mode::Observe;
    world.write(FILE, &manifest(API, "--crash"));
    world.run(600);
    world.assert_untouched();
    assert!(world.noticed(API, Notice::WouldAct), "{}", world.story());
}

#[test]
fn n5_a_runtime_that_does_not_answer_moves_nothing() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.runtime_dead = Some(Symptom::new(SymptomKind::Refused, "connection refused"));
    world.run(1200);
    world.assert_untouched();
    world.runtime_dead = None;
    world.until(120, "back", |w| back_to_good(w, API));
}

#[test]
fn t21_q3_what_was_put_back_and_went_or_broke_while_paused_is_left() {
    for (what, breaks) in [("torn", true), ("deleted", false)] {
        let mut world = World::adopted();
        world.hung.insert("etcd".to_owned(), ProcessActivity::Busy);
        world.run(30);
        world.write(FILE, "a: [");
        world.until(30, "put back", |w| w.files[FILE].0 == manifest(API, ""));
        world.run(2);
        assert!(matches!(world.state(API), ComponentState::Replacing(_)), "{what}: it serves: nothing was shown");
        world.ask(&Request::Pause { seconds: 3600, reason: String::new() }).unwrap();
        world.steps.clear();
        if breaks {
            world.write(FILE, "a: [");
        } else {
            world.remove(FILE, Gone::Deleted);
        }
        world.run(120);
        world.assert_untouched();
        world.ask(&Request::Resume { component: None }).unwrap();
        world.hung.clear();
        world.until(300, "steady", |w| back_to_good(w, API) && w.serves(API));
    }
}
