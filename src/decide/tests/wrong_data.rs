//! Q1: an etcd that serves other data than those on record: what is held, what is stopped, and how it ends.

use std::path::PathBuf;

use super::members::{heard, stopped};
use super::world::{API, FILE, FOUR, Up, World, began, id, manifest, member, restored, store};
use crate::model::component_state::Until;
use crate::model::etcd_data::{AtRest, ClusterFiles, DataDir, KubeSystem, StoreIdentity};
use crate::model::lineage::{ApiStop, WrongDataKind};
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, BusyProcess, Gone};
use crate::model::policy::Mode;
use crate::model::{ComponentState, Digest, Request, Step, Trust};

const DIR: &str = "/var/lib/etcd";
const OTHER: &str = "/var/lib/etcd-new";

fn empty() -> Option<StoreIdentity> {
    Some(StoreIdentity { prefix: "/registry".to_owned(), namespace: KubeSystem::Absent })
}

/// etcd's process is another one since now.
fn restart_etcd(world: &mut World) {
    let now = world.moment().wall;
    if let Some(pod) = world.pods.get_mut(&id("etcd")) {
        (pod.attempt, pod.started, pod.up) = (pod.attempt + 1, now, Up::Running);
    }
    world.seconds += 1;
}

/// etcd starts on a directory that holds something else.
pub(super) fn serves(world: &mut World, kind: WrongDataKind) {
    restart_etcd(world);
    says(world, kind);
}

/// What it says from its next answer on.
fn says(world: &mut World, kind: WrongDataKind) {
    world.origin = began(if kind == WrongDataKind::Older { 1 } else { 9 });
    world.data_member = Some((9, 9));
    world.etcd_says(|status| {
        let (own, agreed) = (status.own.as_mut().unwrap(), status.agreed.as_mut().unwrap());
        (own.revision, own.raft_index, own.term, agreed.revision, agreed.term) = (3, 8, 2, 3, 2);
        match kind {
            WrongDataKind::Empty => status.store = empty(),
            WrongDataKind::Foreign => status.store = store("x"),
            WrongDataKind::Older | WrongDataKind::Unclear => {}
        }
    });
    if kind == WrongDataKind::Unclear {
        world.origin = Default::default();
    }
}

/// It starts on the data on record.
pub(super) fn serves_the_record(world: &mut World) {
    restart_etcd(world);
    world.origin = began(1);
    world.data_member = Some((1, 2));
    world.etcd_says(|status| {
        let (own, agreed) = (status.own.as_mut().unwrap(), status.agreed.as_mut().unwrap());
        (own.revision, own.raft_index, own.term, agreed.revision, agreed.term) = (1000, 2004, 6, 1000, 6);
        status.store = store("u");
    });
}

fn api_stop(world: &World) -> Option<&ApiStop> {
    world.memory.wrong_data.as_ref().map(|wrong| &wrong.api)
}

fn is_stopped(world: &World) -> bool {
    matches!(api_stop(world), Some(ApiStop::Stopped { .. }))
}

fn waits_for_the_right_data(world: &World) -> bool {
    matches!(world.state("etcd"), ComponentState::Held(held) if held.until == Until::RightData)
}

#[test]
fn q1_wrong_data_are_held_and_the_api_server_is_stopped_within_two_answers() {
    for kind in [WrongDataKind::Empty, WrongDataKind::Foreign, WrongDataKind::Older] {
        let mut world = heard();
        let record = world.memory.incarnations[&id("etcd")].clone();
        serves(&mut world, kind);
        let took = world.until(10, "the API server stopped", is_stopped);
        assert!(took <= 2, "{kind:?}: {took} answers\n{}", world.story());
        assert_eq!(world.memory.wrong_data.as_ref().unwrap().kind, kind);
        world.run(120);
        assert!(waits_for_the_right_data(&world), "{kind:?}: {}", world.state("etcd"));
        assert!(!world.files.contains_key(FILE) && !world.serves(API), "{kind:?}: {}", world.story());
        // Nothing else was touched, nothing is proven, and the record is what it was.
        assert!(stopped(&world).iter().all(|name| name == API), "{kind:?}: {:?}", world.steps);
        assert!(!world.steps.iter().any(|step| matches!(step, Step::PutIn { .. } | Step::RestartKubelet)));
        let now = &world.memory.incarnations[&id("etcd")];
        assert_eq!((now.revision, &now.store, now.raft_index), (record.revision, &record.store, record.raft_index));
        assert_eq!(world.memory.components[&id("etcd")].data_dir.as_ref().unwrap().1.member, Some((1, 2)));
        assert_eq!(world.memory.went_back, None);
    }
}

#[test]
fn never_5_one_answer_of_other_data_or_of_the_process_before_stops_nobody() {
    let mut world = heard();
    serves(&mut world, WrongDataKind::Empty);
    world.etcd_answered = Some(world.seconds + 1);
    world.run(5);
    assert!(world.memory.wrong_data.is_none(), "one answer, looked at five times: {}", world.story());
    world.assert_untouched();
    // Nor does the doubt let anything be recorded.
    assert_eq!(world.memory.components[&id("etcd")].data_dir.as_ref().unwrap().1.member, Some((1, 2)));
    world.etcd_answered = None;
    serves_the_record(&mut world);
    world.run(60);
    world.assert_untouched();
    // An answer of the process before says nothing of the one that runs.
    serves(&mut world, WrongDataKind::Empty);
    world.etcd_answered = Some(world.seconds - 30);
    world.run(5);
    assert!(world.memory.wrong_data.is_none(), "{}", world.story());
}

/// A member's status and its agreed read are asked concurrently, and writes go on between the two.
#[test]
fn never_5_an_agreed_read_that_is_a_moment_older_than_the_status_beside_it_is_no_other_data() {
    let mut world = heard();
    world.etcd_says(|status| {
        status.repeated = 9;
        (status.own.as_mut().unwrap().revision, status.agreed.as_mut().unwrap().revision) = (1010, 1009);
    });
    world.etcd_answered = Some(world.seconds + 1);
    world.run(10);
    assert!(world.memory.wrong_data.is_none(), "{}", world.story());
    assert_eq!(world.memory.incarnations[&id("etcd")].doubted, None);
    world.assert_untouched();
}

#[test]
fn q1_what_cannot_be_told_is_held_and_stops_nobody() {
    let mut world = heard();
    serves(&mut world, WrongDataKind::Unclear);
    world.run(60);
    assert!(waits_for_the_right_data(&world), "{}", world.state("etcd"));
    assert_eq!(api_stop(&world), Some(&ApiStop::NotStopped));
    world.assert_untouched();
}

#[test]
fn q10_where_other_masters_serve_nobody_is_stopped() {
    let mut world = World::adopted();
    world.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
    world.run(5);
    serves(&mut world, WrongDataKind::Empty);
    world.run(60);
    assert!(waits_for_the_right_data(&world), "{}", world.state("etcd"));
    world.assert_untouched();
    // Also where it founded a cluster of one: the record has three.
    world.etcd_says(|status| status.members = Some(vec![member(1)]));
    world.run(60);
    world.assert_untouched();
}

#[test]
fn a_pause_observe_mode_and_kubeadm_hold_it_and_it_is_said() {
    type Inhibitor = fn(&mut World);
    let holds: [(Inhibitor, Inhibitor); 3] = [
        (
            |world| world.ask(&Request::Pause { seconds: 900, reason: String::new() }).unwrap(),
            |world| world.ask(&Request::Resume { component: None }).unwrap(),
        ),
        (|world| world.policy.mode = Mode::Observe, |world| world.policy.mode = Mode::Act),
        (|world| world.busy = vec![kubeadm("kubeadm upgrade apply v1.35.0")], |world| world.busy.clear()),
    ];
    for (hold, release) in holds {
        let mut world = heard();
        hold(&mut world);
        serves(&mut world, WrongDataKind::Empty);
        world.run(30);
        assert_eq!(api_stop(&world), Some(&ApiStop::NotStopped), "{}", world.story());
        world.assert_untouched();
        let notices = &world.memory.components[&id("etcd")].notices;
        assert!(notices.contains_key(&Notice::WrongData), "{notices:?}");
        release(&mut world);
        world.run(3);
        assert!(is_stopped(&world), "{}", world.story());
    }
}

fn kubeadm(command: &str) -> BusyProcess {
    BusyProcess { pid: 4711, command: command.to_owned(), kind: BusyKind::Kubeadm }
}

#[test]
fn when_the_right_data_return_the_api_server_is_put_back_and_the_others_restart_behind_it() {
    let mut world = heard();
    serves(&mut world, WrongDataKind::Empty);
    world.until(10, "stopped", is_stopped);
    // Over a restart of the agent, and for as long as it takes.
    world.restart_agent();
    world.run(2000);
    assert!(is_stopped(&world) && !world.files.contains_key(FILE), "{}", world.story());
    // The controller manager and the scheduler of this small world end with the API server; here they have outlived it.
    for name in &FOUR[2..] {
        world.pods.get_mut(&id(name)).unwrap().up = Up::Running;
    }
    world.steps.clear();
    serves_the_record(&mut world);
    world.until(120, "everything over", |world| {
        world.memory.wrong_data.is_none()
            && world.memory.went_back.is_none()
            && world.memory.stopped_apiserver.is_none()
    });
    assert!(world.files.contains_key(FILE) && world.serves(API), "{}", world.story());
    assert!(
        FOUR.iter().all(|name| matches!(world.state(name), ComponentState::Steady { good: 1 })),
        "{}",
        world.story()
    );
    let puts = world.steps.iter().filter(|step| matches!(step, Step::PutIn { .. })).count();
    assert_eq!(puts, 1, "{:?}", world.steps);
    let began = world.pods[&id("etcd")].started;
    for name in &FOUR[1..] {
        assert!(world.pods[&id(name)].started >= began, "{name} still has what it read before\n{}", world.story());
    }
}

/// etcd.yaml names another directory, which is empty, and the kubelet runs it.
fn mistyped(world: &mut World) {
    let text = manifest("etcd", "").replace(DIR, OTHER);
    world.write("etcd.yaml", &text);
    world.dirs.insert(OTHER.into(), DataDir { member: Some((1, 77)), origin: began(9), ..DataDir::default() });
    says(world, WrongDataKind::Empty);
    world.until(30, "the candidate runs", |world| world.pods[&id("etcd")].text.contains(OTHER) && world.serves("etcd"));
}

fn at_rest(world: &mut World, revision: i64, raft_index: u64) {
    let rest = Some(AtRest { revision, raft_index });
    let dir = DataDir { member: Some((1, 2)), origin: began(1), at_rest: rest, ..DataDir::default() };
    world.dirs.insert(DIR.into(), DataDir { versions: world.data.clone(), ..dir });
}

#[test]
fn q1_a_candidate_on_an_empty_directory_fails_and_the_recorded_one_comes_back() {
    let mut world = heard();
    at_rest(&mut world, 1000, 1500);
    mistyped(&mut world);
    world.until(10, "the way back", |world| matches!(world.state("etcd"), ComponentState::Replacing(_)));
    assert!(is_stopped(&world), "{}", world.story());
    assert!(matches!(world.generation("etcd", 2).trust, Trust::Quarantined { .. }));
    world.until(30, "the good one runs", |world| !world.pods[&id("etcd")].text.contains(OTHER) && world.serves("etcd"));
    serves_the_record(&mut world);
    world.until(120, "all well", |world| {
        FOUR.iter().all(|name| matches!(world.state(name), ComponentState::Steady { good: 1 }) && world.serves(name))
            && world.memory.went_back.is_none()
    });
    assert!(world.memory.wrong_data.is_none() && world.memory.stopped_apiserver.is_none());
}

#[test]
fn q1_a_recorded_directory_that_is_older_or_another_is_not_gone_back_to() {
    for (situation, revision, raft_index, member) in [("older", 400, 900, (1, 2)), ("another", 1000, 2000, (1, 3))] {
        let mut world = heard();
        at_rest(&mut world, revision, raft_index);
        mistyped(&mut world);
        world.dirs.get_mut(&PathBuf::from(DIR)).unwrap().member = Some(member);
        world.run(30);
        assert!(waits_for_the_right_data(&world), "{situation}: {}\n{}", world.state("etcd"), world.story());
        assert!(is_stopped(&world), "{situation}");
        assert!(world.files["etcd.yaml"].0.contains(OTHER), "{situation}");
    }
}

#[test]
fn q1_a_path_that_a_person_corrects_ends_it() {
    let mut world = heard();
    world.policy.mode = Mode::Observe;
    mistyped(&mut world);
    world.run(30);
    world.policy.mode = Mode::Act;
    world.write("etcd.yaml", &manifest("etcd", ""));
    world.run(20);
    serves_the_record(&mut world);
    world.until(150, "all well", |world| {
        FOUR.iter().all(|name| matches!(world.state(name), ComponentState::Steady { good: 1 }) && world.serves(name))
            && world.memory.went_back.is_none()
            && world.memory.wrong_data.is_none()
    });
}

#[test]
fn q1_etcd_is_restarted_when_the_recorded_directory_is_back_under_its_path() {
    let mut world = heard();
    serves(&mut world, WrongDataKind::Empty);
    world.run(30);
    assert!(!stopped(&world).contains(&"etcd".to_owned()));
    // The person mounts it; the etcd that runs does not see that.
    at_rest(&mut world, 1000, 1500);
    world.until(5, "etcd restarted", |world| stopped(world).contains(&"etcd".to_owned()));
    // Its next process uses it.
    world.dirs.clear();
    serves_the_record(&mut world);
    world.until(60, "over", |world| world.memory.wrong_data.is_none() && world.memory.went_back.is_none());
    let stops = stopped(&world).iter().filter(|name| *name == "etcd").count();
    assert_eq!(stops, 1, "{}", world.story());
}

#[test]
fn never_6_a_person_puts_the_api_server_back_or_resumes_it_and_it_runs() {
    for by_hand in [true, false] {
        let mut world = heard();
        serves(&mut world, WrongDataKind::Empty);
        world.until(10, "stopped", is_stopped);
        world.run(10);
        let refused = world.ask(&Request::Resume { component: Some(id("etcd")) });
        assert!(refused.is_err() && waits_for_the_right_data(&world), "{refused:?}");
        if by_hand {
            world.write(FILE, &manifest(API, ""));
        } else {
            world.ask(&Request::Resume { component: Some(id(API)) }).unwrap();
        }
        world.run(60);
        assert_eq!(api_stop(&world), Some(&ApiStop::Released), "{}", world.story());
        assert!(world.serves(API), "{}", world.story());
        assert!(waits_for_the_right_data(&world), "{}", world.state("etcd"));
        world.run(600);
        assert!(world.serves(API), "it is not stopped again: {}", world.story());
        // It read from the wrong data: restarted when the right ones are back.
        world.steps.clear();
        serves_the_record(&mut world);
        world.until(200, "over", |world| world.memory.went_back.is_none() && world.memory.wrong_data.is_none());
        assert!(stopped(&world).contains(&API.to_owned()), "{}", world.story());
    }
}

#[test]
fn data_that_a_person_accepts_are_the_new_record() {
    let mut world = heard();
    assert!(world.ask(&Request::AcceptData { component: None }).is_err(), "there is nothing to accept");
    serves(&mut world, WrongDataKind::Foreign);
    world.until(10, "stopped", is_stopped);
    world.run(10);
    world.ask(&Request::AcceptData { component: None }).unwrap();
    world.until(200, "all well", |world| {
        FOUR.iter().all(|name| matches!(world.state(name), ComponentState::Steady { good: 1 }) && world.serves(name))
            && world.memory.went_back.is_none()
    });
    assert!(world.memory.wrong_data.is_none());
    assert_eq!(world.memory.incarnations[&id("etcd")].store, store("x"));
    assert_eq!(world.memory.components[&id("etcd")].data_dir.as_ref().unwrap().1.member, Some((9, 9)));
    world.steps.clear();
    world.run(300);
    world.assert_untouched();
}

#[test]
fn a_real_restore_by_another_tool_ends_wrong_data_too() {
    let mut world = heard();
    serves(&mut world, WrongDataKind::Empty);
    world.until(10, "stopped", is_stopped);
    restart_etcd(&mut world);
    world.origin = restored(5);
    world.etcd_says(|status| {
        let (own, agreed) = (status.own.as_mut().unwrap(), status.agreed.as_mut().unwrap());
        (own.revision, own.raft_index, agreed.revision) = (900, 12, 900);
        status.store = store("u");
    });
    world.until(200, "all well", |world| {
        FOUR.iter().all(|name| world.serves(name))
            && world.memory.went_back.is_none()
            && world.memory.wrong_data.is_none()
    });
    assert_eq!(world.memory.incarnations[&id("etcd")].revision, 900);
}

/// The operator makes another cluster of this node; what comes back serves another store.
fn rebuilt(world: &mut World) {
    for name in FOUR {
        world.write(&format!("{name}.yaml"), &manifest(name, "--v=2"));
    }
    says(world, WrongDataKind::Foreign);
    world.run(120);
}

#[test]
fn q3_another_cluster_that_a_person_made_is_adopted_and_nothing_is_stopped() {
    let files =
        |ca: &str| ClusterFiles { ca: Some(Digest::of(ca.as_bytes())), kubelet: Some(Digest::of(ca.as_bytes())) };
    type Sign = fn(&mut World);
    let signs: [(&str, bool, Sign); 7] = [
        ("kubeadm reset ran", true, |world| {
            world.busy = vec![kubeadm("/usr/bin/kubeadm --v=5 reset -f")];
            world.run(2);
            world.busy.clear();
        }),
        ("kubeadm init ran", true, |world| {
            world.busy = vec![kubeadm("kubeadm init --config x")];
            world.run(2);
            world.busy.clear();
        }),
        ("a phase of init ran", false, |world| {
            world.busy = vec![kubeadm("kubeadm init phase certs all")];
            world.run(2);
            world.busy.clear();
        }),
        ("an upgrade ran", false, |world| {
            world.busy = vec![kubeadm("kubeadm upgrade node")];
            world.run(2);
            world.busy.clear();
        }),
        ("the CA is another one", true, |world| {
            world.around.cluster.ca = Some(Digest::of(b"another"));
        }),
        ("all manifests were deleted", true, |world| {
            for name in FOUR {
                world.remove(&format!("{name}.yaml"), Gone::Deleted);
                world.pods.remove(&id(name));
            }
            world.run(5);
        }),
        ("all manifests were moved away for a while", false, |world| {
            for name in FOUR {
                world.remove(&format!("{name}.yaml"), Gone::Moved { to: Some("/root/x".into()) });
                world.pods.remove(&id(name));
            }
            world.run(5);
        }),
    ];
    for (situation, another, sign) in signs {
        let mut world = World::adopted();
        world.around.cluster = files("ours");
        world.run(5);
        assert_eq!(world.memory.cluster, Some(files("ours")), "{situation}");
        sign(&mut world);
        world.steps.clear();
        rebuilt(&mut world);
        let aside = world.steps.iter().any(|step| matches!(step, Step::SetMemoryAside));
        assert_eq!(aside, another, "{situation}: {}", world.story());
        if another {
            assert_eq!(world.memory.wrong_data, None, "{situation}");
            world.assert_untouched();
            assert_eq!(world.memory.incarnations[&id("etcd")].store, store("x"), "{situation}");
            assert!(
                FOUR.iter().all(|name| matches!(world.state(name), ComponentState::Steady { good: 1 })),
                "{}",
                world.story()
            );
        } else {
            assert!(is_stopped(&world), "{situation}: {}", world.story());
        }
    }
}

#[test]
fn a_node_without_a_record_is_adopted_whatever_it_serves() {
    let mut world = World::new();
    world.etcd_says(|status| status.store = empty());
    world.run(90);
    assert!(matches!(world.state("etcd"), ComponentState::Steady { good: 1 }), "{}", world.story());
    // Its first API server makes the namespace.
    world.etcd_says(|status| status.store = store("new"));
    world.run(60);
    world.assert_untouched();
    assert_eq!(world.memory.incarnations[&id("etcd")].store, store("new"));
}

#[test]
fn a_kubelet_that_hears_no_api_server_is_restarted_so_that_the_stop_lasts() {
    let mut world = heard();
    world.kubelet_heard = false;
    world.kubelet_started = world.seconds;
    world.memory.api_served = None;
    serves(&mut world, WrongDataKind::Empty);
    world.until(10, "stopped", is_stopped);
    world.kubelet_heard = false;
    world.memory.api_served = None;
    world.run(30);
    assert!(!world.serves(API), "{}", world.story());
    assert!(world.memory.kubelet_restarts.len() <= 1, "{}", world.story());
}

#[test]
fn an_etcd_that_was_put_back_onto_wrong_data_does_not_serve_again() {
    let mut world = heard();
    world.write("etcd.yaml", &manifest("etcd", "--crash"));
    world.until(300, "going back", |world| matches!(world.state("etcd"), ComponentState::Replacing(_)));
    world.until(60, "the good one runs", |world| world.serves("etcd"));
    serves(&mut world, WrongDataKind::Empty);
    world.run(60);
    assert!(waits_for_the_right_data(&world), "{}\n{}", world.state("etcd"), world.story());
    assert!(is_stopped(&world) && !world.serves(API), "{}", world.story());
    assert_eq!(world.memory.stopped_apiserver, None);
}
