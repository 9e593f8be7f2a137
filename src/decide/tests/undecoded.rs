//! A manifest that lastgood cannot decode: the kubelet's reaction decides (Q16).

use super::world::{API, FILE, Pod, Up, World, back_to_good, id, manifest, only_the_kubelet_reads};
use crate::model::notice::Notice;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Request, Step, Verdict};

/// A Pod that every parser reads and the kubelet refuses.
const REFUSED: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, namespace: kube-system}\n";

fn stands(world: &World, text: &str) -> bool {
    world.files[FILE].0 == text
}

fn notice(world: &World, name: &str) -> Option<String> {
    world.memory.components[&id(name)].notices.get(&Notice::Undecodable).cloned()
}

#[test]
fn q16_nothing_is_undone_before_the_kubelet_has_shown_that_it_does_not_run_it() {
    type Happens = fn(&mut World);
    let runs_for_a_moment: Happens = |world| {
        world.run(12);
        let pod = |world: &World| Pod {
            text: manifest(API, ""),
            file: FILE.to_owned(),
            created: world.moment().wall,
            started: world.moment().wall,
            attempt: 0,
            up: Up::Running,
            next_start: 0,
            ended: None,
        };
        world.seconds += 1;
        world.pods.insert(id(API), pod(world));
        world.pass();
    };
    let silent: Happens = |world| {
        world.runtime_dead = Some(Symptom::new(SymptomKind::Refused, "gone"));
        world.run(120);
    };
    let unwatched: Happens = |world| {
        world.run(6);
        world.seconds += 300;
        world.restart_agent();
        world.pass();
    };
    let kubelet_restarts: Happens = |world| {
        world.run(15);
        world.kubelet_started = world.seconds;
    };
    let another: Happens = |world| {
        world.run(15);
        world.write(FILE, &format!("{REFUSED}# another\n"));
    };
    let (unread, nothing): (&str, Happens) = (&only_the_kubelet_reads(API, "--v=3"), |_| {});
    let value_yes = &manifest(API, "").replace("command:", "env: [{name: A, value: yes}], command:");
    let deployment = "apiVersion: apps/v1\nkind: Deployment\n";
    let rows: [(&str, &str, Happens, u64, bool); 21] = [
        ("empty", "", nothing, 1, true),
        ("torn", "a: [", nothing, 1, true),
        ("a boolean for a text", value_yes, nothing, 1, true),
        ("zeros", "\0\0\0\0", nothing, 1, true),
        ("unread by us, before its pod starts", unread, nothing, 11, false),
        ("unread by us, and its pod runs", unread, nothing, 600, false),
        ("no containers, 5 s", REFUSED, nothing, 5, false),
        ("no containers, 20 s", REFUSED, nothing, 20, false),
        ("no containers, after that", REFUSED, nothing, 22, true),
        ("another kind, 20 s", deployment, nothing, 20, false),
        ("another kind, after that", deployment, nothing, 22, true),
        ("no containers, a new sandbox at 12 s", REFUSED, runs_for_a_moment, 19, false),
        ("no containers, a new sandbox at 12 s that is long gone", REFUSED, runs_for_a_moment, 24, true),
        ("no containers, the runtime silent", REFUSED, silent, 0, false),
        ("no containers, a gap that nobody watched", REFUSED, unwatched, 12, false),
        ("no containers, after a gap that nobody watched", REFUSED, unwatched, 18, true),
        ("no containers, a kubelet that was restarted", REFUSED, kubelet_restarts, 15, false),
        ("no containers, a kubelet that was restarted long ago", REFUSED, kubelet_restarts, 22, true),
        ("no containers, written again as another", REFUSED, another, 15, false),
        ("no containers, written again as another long ago", REFUSED, another, 22, true),
        ("torn, the runtime silent", "a: [", silent, 0, true),
    ];
    for (situation, text, happens, seconds, undone) in rows {
        let mut world = World::adopted();
        world.write(FILE, text);
        happens(&mut world);
        world.run(seconds);
        assert_eq!(stands(&world, &manifest(API, "")), undone, "{situation}\n{}", world.story());
    }
}

#[test]
fn what_the_kubelet_runs_and_we_cannot_read_is_told_once_and_left_alone() {
    let mut world = World::adopted();
    world.write(FILE, &only_the_kubelet_reads(API, "--v=3"));
    world.run(300);
    world.assert_untouched();
    let told = notice(&world, API).unwrap();
    for words in [FILE, "unexpected ':'", "the kubelet runs a pod of it", "next: ", "lastgood diff kube-apiserver"] {
        assert!(told.contains(words), "{words:?} is not in {told:?}");
    }
    let times = |world: &World| world.events.iter().filter(|event| event.to_string().contains(&told)).count();
    assert_eq!(times(&world), 1, "{}", world.story());
    world.restart_agent();
    world.run(120);
    world.assert_untouched();
    assert_eq!((notice(&world, API), times(&world)), (Some(told.clone()), 1), "{}", world.story());

    // It is asked as the manifest before says: that it answers nobody there means nothing, and it is not restarted.
    world.hung.insert(API.to_owned(), ProcessActivity::Idle);
    world.run(120);
    world.assert_untouched();
    let (verdict, _) = world.memory.components[&id(API)].verdict.unwrap();
    assert_eq!(verdict, Verdict::Unknown, "{}", world.story());

    // It decodes again, and is another pod: a candidate like any other, and nothing lingers.
    world.hung.clear();
    world.write(FILE, &manifest(API, "--v=4"));
    world.run(1);
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}", world.story());
    assert_eq!((notice(&world, API), &world.memory.components[&id(API)].unstarted), (None, &None));
}

#[test]
fn what_decodes_again_and_is_the_pod_that_runs_is_proven_by_it() {
    let mut world = World::adopted();
    world.write(FILE, &only_the_kubelet_reads(API, "--v=3"));
    world.run(60);
    world.write(FILE, &manifest(API, "--v=3"));
    world.unsettled.insert(FILE.to_owned());
    world.run(1);
    world.unsettled.clear();
    world.run(30);
    assert!(matches!(world.state(API), ComponentState::Unread { candidate: 2, good: 1, .. }), "{}", world.story());
    assert_eq!((notice(&world, API), &world.memory.components[&id(API)].unstarted), (None, &None));
    world.until(600, "proven", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.assert_untouched();

    // A deaf kubelet lets a pod run on that is another one.
    let mut world = World::adopted();
    world.write(FILE, &only_the_kubelet_reads(API, "--v=3"));
    world.run(60);
    world.kubelet_started = world.seconds;
    world.kubelet_heard = false;
    world.memory.api_served = None;
    world.hung.insert(API.to_owned(), ProcessActivity::Busy);
    world.write(FILE, &manifest(API, "--v=4"));
    world.run(120);
    assert!(matches!(world.state(API), ComponentState::Unread { candidate: 2, good: 1, .. }), "{}", world.story());
}

#[test]
fn a_person_may_go_back_from_what_the_kubelet_runs() {
    let mut world = World::adopted();
    world.write(FILE, &only_the_kubelet_reads(API, "--v=3"));
    world.run(60);
    world.ask(&Request::Rollback { component: id(API), to: None }).unwrap();
    world.until(60, "steady", |w| back_to_good(w, API));
}

#[test]
fn a_pause_stops_neither_the_notice_nor_the_evidence() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 3600, reason: String::new() }).unwrap();
    world.write(FILE, REFUSED);
    world.run(60);
    world.assert_untouched();
    assert!(notice(&world, API).unwrap().contains("has started no pod of it for 20 s"), "{}", world.story());
    assert!(world.noticed(API, Notice::WouldAct), "{}", world.story());
    world.ask(&Request::Resume { component: None }).unwrap();
    world.run(1);
    assert!(stands(&world, &manifest(API, "")), "{}", world.story());
    world.until(60, "steady", |w| back_to_good(w, API));
}

#[test]
fn a_kubelet_that_may_hang_is_given_longer() {
    // It deletes the mirror pod of a changed etcd through an API server that hangs on that etcd.
    let mut world = World::adopted();
    world.write("etcd.yaml", &REFUSED.replace(API, "etcd"));
    world.run(55);
    world.assert_untouched();
    world.until(30, "back", |w| w.files["etcd.yaml"].0 == manifest("etcd", ""));
}

#[test]
fn what_somebody_writes_while_we_go_back_is_left_to_the_kubelet() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.until(300, "rolling back", |w| matches!(w.state(API), ComponentState::Replacing(_)));
    let text = only_the_kubelet_reads(API, "--v=3");
    world.write(FILE, &text);
    world.run(300);
    assert!(stands(&world, &text), "{}", world.story());
    assert!(world.says("was put in place by somebody else"), "{}", world.story());
}

#[test]
fn a_second_file_beside_one_that_we_cannot_read_is_only_told() {
    let mut world = World::adopted();
    world.write(FILE, &only_the_kubelet_reads(API, ""));
    world.run(30);
    world.write("kube-apiserver.yaml~", &manifest(API, "--v=9"));
    world.run(120);
    world.assert_untouched();
    assert!(world.noticed(API, Notice::Duplicate), "{}", world.story());
}

#[test]
fn a_write_that_fails_is_wanted_again_and_not_taken_for_somebody_elses_file() {
    let mut world = World::adopted();
    world.hands_fail = true;
    world.write(FILE, REFUSED);
    world.run(60);
    world.hands_fail = false;
    world.until(5, "put in", |w| stands(w, &manifest(API, "")));
    let begun = world.events.iter().filter(|event| event.to.starts_with("RollingBack")).count();
    assert_eq!(begun, 1, "{}", world.story());
    assert!(world.steps.iter().any(|step| matches!(step, Step::PutIn { .. })));
}
