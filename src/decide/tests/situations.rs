//! Situations named as sentences, each with what must come of it.

use std::time::Duration;

use super::super::Pace;
use super::world::{FOUR, Up, World, id, manifest};
use crate::model::observation::{BusyKind, BusyProcess, Gone, Listener};
use crate::model::plan::Refusal;
use crate::model::policy::Mode;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::Pursuit;
use crate::model::{Request, Slot, Standing, Step};

const API: &str = "kube-apiserver";
const FILE: &str = "kube-apiserver.yaml";

/// Known-good serves; asked only after the fault has been noticed, or it would hold from the start.
fn back_to_good(world: &World, name: &str) -> bool {
    matches!(world.slot(name), Slot::Steady { good: 1 }) && world.serves(name)
}

#[test]
fn a_healthy_node_is_adopted_after_the_first_soak_and_only_published() {
    let mut world = World::new();
    world.run(50);
    assert!(matches!(world.slot("etcd"), Slot::Adopting { .. }), "too early");
    world.run(40);
    for name in FOUR {
        assert!(matches!(world.slot(name), Slot::Steady { good: 1 }), "{name}: {}", world.slot(name));
        assert_eq!(world.inactive[&format!("{name}.yaml")], manifest(name, ""), "byte for byte");
    }
    world.assert_untouched();
}

#[test]
fn nothing_is_told_while_nothing_changes() {
    let mut world = World::adopted();
    world.run(600);
    assert_eq!(world.events, [], "{}", world.story());
    assert!(world.steps.is_empty(), "{:?}", world.steps);
}

#[test]
fn q5_what_stands_beside_an_older_process_is_unproven() {
    let mut world = World::new();
    for (_, changed) in world.files.values_mut() {
        *changed = jiff::Timestamp::from_second(1_800_000_400).unwrap();
    }
    world.run(600);
    assert!(matches!(world.slot(API), Slot::Adopting { .. }));
    assert!(world.says("unproven: the process started"), "{}", world.story());
}

#[test]
fn n1_a_candidate_that_crashes_is_rolled_back_and_quarantined_and_reverted_when_written_again() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    let took = world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(took < 40, "two crashes decide, not a deadline: {took} s");
    assert!(matches!(world.generation(API, 2).standing, Standing::Quarantined { .. }));
    assert!(world.says("unknown flag"), "the reason is told: {}", world.story());
    world.write(FILE, &manifest(API, "--crash"));
    world.run(1);
    assert!(!world.files.contains_key(FILE) || world.files[FILE].0 == manifest(API, ""), "reverted at once");
    world.until(40, "known-good back again", |w| back_to_good(w, API));
}

#[test]
fn a_candidate_that_is_merely_not_ready_gets_its_deadline() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--unready"));
    world.run(280);
    assert!(matches!(world.slot(API), Slot::Probation(_)), "{}", world.story());
    world.until(90, "known-good back", |w| back_to_good(w, API));
}

#[test]
fn livez_that_answers_before_readyz_was_asked_does_not_make_an_unready_candidate_one_that_served() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--unready-unasked"));
    world.run(280);
    assert!(matches!(world.slot(API), Slot::Probation(_)), "{}", world.story());
    world.until(90, "known-good back", |w| back_to_good(w, API));
    assert!(world.says("it did not serve within"), "{}", world.story());
}

#[test]
fn q13_an_etcd_that_lets_nobody_in_is_not_unknown_but_failed() {
    let mut world = World::adopted();
    world.write("etcd.yaml", &manifest("etcd", "--shut-out"));
    world.run(2);
    world.until(420, "given up", |w| matches!(w.generation("etcd", 2).standing, Standing::Quarantined { .. }));
    world.until(120, "known-good back", |w| back_to_good(w, "etcd"));
    assert!(world.says("does not take our certificate"), "{}", world.story());
}

#[test]
fn q13_dependents_that_crash_again_and_again_under_a_healthy_candidate_count_against_it() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--refuse"));
    world.until(300, "known-good back", |w| w.says("does badly since it changed"));
    world.until(60, "known-good back", |w| back_to_good(w, API));
    assert!(matches!(world.generation(API, 2).standing, Standing::Quarantined { .. }));
    world.until(600, "its dependent too", |w| w.serves("kube-controller-manager"));
    assert!(matches!(world.slot("kube-controller-manager"), Slot::Steady { good: 1 }), "{}", world.story());
}

#[test]
fn n2_a_candidate_that_serves_and_turns_bad_within_the_soak_is_rolled_back() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--sour=180"));
    world.run(2);
    world.until(300, "known-good back", |w| back_to_good(w, API));
    assert!(world.says("it served, then turned bad"), "{}", world.story());
}

#[test]
fn a_good_candidate_becomes_known_good_after_its_soak() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
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
    match world.slot(API) {
        Slot::Probation(trial) => assert_eq!((trial.crashes, trial.age), (0, Duration::ZERO), "{}", world.story()),
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
    match world.slot("kube-scheduler") {
        Slot::Probation(trial) => assert_eq!(trial.crashes, 0, "{}", world.story()),
        other => panic!("{other}\n{}", world.story()),
    }
    assert!(world.says("not held against it: it lost its lease"), "{}", world.story());
    world.until(400, "steady on 2", |w| matches!(w.slot("kube-scheduler"), Slot::Steady { good: 2 }));
    // One that loses it for good does not serve, whatever it says.
    world.write("kube-scheduler.yaml", &manifest("kube-scheduler", "--v=4"));
    world.run(30);
    let pod = world.pods.get_mut(&id("kube-scheduler")).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, u64::MAX);
    world.until(400, "back on 2", |w| matches!(w.slot("kube-scheduler"), Slot::Steady { good: 2 }));
}

#[test]
fn controller_manager_and_scheduler_die_with_the_api_server_and_nothing_is_done_about_them() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    world.until(60, "known-good back", |w| back_to_good(w, API));
    for name in ["kube-controller-manager", "kube-scheduler"] {
        assert!(matches!(world.slot(name), Slot::Steady { good: 1 }));
        assert!(!world.steps.iter().any(|s| s.component() == Some(&id(name)) && s.touches_node()));
    }
}

#[test]
fn a_broken_file_is_put_right_before_the_next_scan() {
    for broken in
        ["", "a: [", "kind: Deployment", "\0\0\0", "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver}"]
    {
        let mut world = World::adopted();
        world.write(FILE, broken);
        world.run(1);
        assert_eq!(world.files[FILE].0, manifest(API, ""), "{broken:?} stands\n{}", world.story());
        world.until(30, "steady", |w| back_to_good(w, API));
    }
}

#[test]
fn a_file_still_being_written_is_left_alone() {
    let mut world = World::adopted();
    world.write(FILE, "apiVers");
    world.unsettled.insert(FILE.to_owned());
    world.run(5);
    world.assert_untouched();
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
    assert_eq!(pace(&world), Pace::Watchful, "a candidate that has not served: {}", world.slot(API));
    world.write(FILE, &manifest(API, "--crash"));
    world.until(60, "going back", |w| matches!(w.slot(API), Slot::RollingBack(_)));
    assert_eq!(pace(&world), Pace::Busy, "a replacement");
    world.until(60, "known-good back", |w| back_to_good(w, API));
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(30);
    assert_eq!(pace(&world), Pace::Quiet, "a candidate that serves soaks at leisure: {}", world.slot(API));
}

#[test]
fn a_backup_file_that_takes_the_pod_over_is_moved_out_and_the_pod_comes_back() {
    for name in ["kube-apiserver.yaml~", "a.yaml", "kube-apiserver.yaml.bak"] {
        let mut world = World::adopted();
        world.write(name, &manifest(API, "--v=9"));
        world.run(2);
        assert!(!world.files.contains_key(name), "{name} stands\n{}", world.story());
        world.until(60, "steady", |w| back_to_good(w, API));
        assert!(world.says(name), "it is named: {}", world.story());
    }
}

#[test]
fn an_intruder_is_only_named_when_configured_so() {
    let mut world = World::adopted();
    world.policy.intruders = crate::model::policy::Intruders::Report;
    world.write("z.yaml", &manifest(API, "--v=9"));
    world.run(60);
    world.assert_untouched();
    assert!(world.says("z.yaml"));
}

#[test]
fn t4_a_deleted_manifest_comes_back_after_the_announced_grace() {
    let mut world = World::adopted();
    world.remove(FILE, Gone::Deleted);
    world.run(50);
    assert!(world.says("comes back in 60 s"), "{}", world.story());
    assert!(!world.files.contains_key(FILE), "too early");
    world.until(40, "back", |w| back_to_good(w, API));
}

#[test]
fn q3_what_was_moved_away_or_went_unwitnessed_stays_away() {
    for how in
        [Gone::Moved { to: Some("/root/kube-apiserver.yaml".into()) }, Gone::Moved { to: None }, Gone::Unwitnessed]
    {
        let mut world = World::adopted();
        world.remove(FILE, how);
        world.run(1500);
        world.assert_untouched();
        assert!(matches!(world.slot(API), Slot::Missing { .. }));
    }
}

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
fn q14_what_was_deleted_in_a_gap_that_nobody_watched_stays_away() {
    let mut world = World::adopted();
    world.remove(FILE, Gone::Deleted);
    // The agent was stopped, or the machine slept: longer than the longest gap between two passes.
    world.seconds += 300;
    world.run(1500);
    world.assert_untouched();
    assert!(world.says("went while nobody watched"), "{}", world.story());
}

#[test]
fn q3_all_four_deleted_wait_longer_and_a_reset_is_left_alone() {
    let mut world = World::adopted();
    for name in FOUR {
        world.remove(&format!("{name}.yaml"), Gone::Deleted);
    }
    world.run(500);
    world.assert_untouched();
    world.until(200, "all back", |w| FOUR.iter().all(|name| back_to_good(w, name)));

    let mut world = World::adopted();
    world.missing_signs.push("/etc/kubernetes/kubelet.conf".into());
    for name in FOUR {
        world.remove(&format!("{name}.yaml"), Gone::Deleted);
    }
    world.run(2000);
    world.assert_untouched();
    assert!(matches!(world.slot("etcd"), Slot::Held(_)));
}

#[test]
fn q3_a_deleted_etcd_stays_away_while_its_data_is_worked_on() {
    let mut world = World::adopted();
    world.remove("etcd.yaml", Gone::Deleted);
    world.run(300);
    world.data_changed = world.seconds;
    world.run(900);
    world.assert_untouched();
    assert!(world.says("after etcd had stopped"), "{}", world.story());
}

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
    assert!(world.says("the pause ends in"));
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
    assert!(world.says("would go back to generation 1"), "{}", world.story());
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
fn a_broken_etcd_is_replaced_with_the_api_server_parked_first() {
    let mut world = World::adopted();
    world.write("etcd.yaml", &manifest("etcd", "--crash"));
    world.run(2);
    world.until(120, "both serve", |w| back_to_good(w, "etcd") && w.serves(API) && w.memory.parked.is_none());
    let out = world.steps.iter().position(|s| matches!(s, Step::TakeOut { file_name, .. } if file_name == FILE));
    let etcd =
        world.steps.iter().position(|s| matches!(s, Step::TakeOut { file_name, .. } if file_name == "etcd.yaml"));
    assert!(out.is_some() && out < etcd, "kube-apiserver goes first: {:?}", world.steps);
    assert!(matches!(world.slot(API), Slot::Steady { good: 1 }), "{}", world.story());
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
fn q14_a_candidate_keeps_its_remaining_time_over_a_restart_and_gaps_earn_nothing() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--unready"));
    world.run(200);
    let Slot::Probation(before) = world.slot(API).clone() else { panic!("{}", world.slot(API)) };
    world.restart_agent();
    world.seconds += 5000;
    world.run(3);
    let Slot::Probation(after) = world.slot(API).clone() else { panic!("{}", world.slot(API)) };
    assert!(after.age >= before.age && after.age <= before.age + Duration::from_secs(3), "{before:?} {after:?}");
}

#[test]
fn q1_a_rollback_never_changes_which_data_is_served() {
    let mut world = World::adopted();
    let other = manifest("etcd", "--sour=100").replace("/var/lib/etcd", "/var/lib/etcd-restored");
    world.write("etcd.yaml", &other);
    world.run(400);
    world.assert_untouched();
    assert!(matches!(world.slot("etcd"), Slot::Held(_)), "{}", world.story());
    assert!(world.says("which data is served"), "{}", world.story());
}

#[test]
fn q9_what_breaks_without_a_change_is_not_rolled_back() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
    // The same process goes bad an hour later.
    let pod = world.pods.get_mut(&id(API)).unwrap();
    pod.up = Up::Exited;
    pod.next_start = u64::MAX;
    world.run(900);
    world.assert_untouched();
    assert!(world.says("nothing of it changed"), "{}", world.story());
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
    assert!(matches!(world.slot(API), Slot::Held(_)), "{}", world.story());
    world.assert_untouched();
}

#[test]
fn n15_a_known_good_image_that_is_gone_is_said_before_the_outage() {
    let mut world = World::adopted();
    world.absent_images.insert("kube-scheduler:v1.34.2".to_owned());
    world.pods.clear();
    world.pass(None);
    assert!(world.says("could not be put back: its image kube-scheduler:v1.34.2"), "{}", world.story());
}

/// The kubelet's word cannot be had (its /pods go dark with the API server): the sandbox that waits is evidence enough.
#[test]
fn an_image_that_does_not_come_is_given_up_long_before_the_deadline_and_not_held_against_the_manifest() {
    let mut world = World::adopted();
    world.absent_images.insert("kube-apiserver:v9".to_owned());
    world.write(FILE, &manifest(API, "").replace("kube-apiserver:v1.34.2", "kube-apiserver:v9"));
    world.run(12 + 55);
    assert!(matches!(world.slot(API), Slot::Probation(_)), "it may still come: {}", world.story());
    world.until(30, "known-good back", |w| back_to_good(w, API));
    assert!(world.says("did not come to this node within 60 s"), "{}", world.story());
    assert!(!matches!(world.generation(API, 2).standing, Standing::Quarantined { .. }), "{}", world.story());
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
    assert!(world.says("port 6443 is held by nc"), "{}", world.story());
}

#[test]
fn n23_never_9_a_flapping_fault_meets_bounded_actions_and_then_a_hold_over_restarts_too() {
    let mut world = World::adopted();
    for round in 0..360 {
        world.write(FILE, if round % 2 == 0 { "" } else { "a: [" });
        if round % 7 == 0 {
            world.restart_agent();
        }
        world.run(10);
    }
    let puts = world.steps.iter().filter(|step| matches!(step, Step::PutIn { .. })).count();
    assert!(puts <= world.policy.actions_per_hour + 1, "{puts} writes in an hour");
    assert!(matches!(world.slot(API), Slot::Held(_)), "{}", world.slot(API));
    world.write(FILE, &manifest(API, ""));
    world.ask(&Request::Resume { component: Some(id(API)) }).unwrap();
    world.until(30, "steady", |w| back_to_good(w, API));
}

#[test]
fn n23_what_was_put_back_and_cannot_serve_yet_is_not_fought_over() {
    // etcd hangs in a way that is left to the kubelet: the API server that is put back waits for it, for as long as it takes.
    let deeds = |world: &World| {
        let deed = |step: &&Step| matches!(step, Step::PutIn { .. } | Step::MoveOut { .. });
        world.steps.iter().filter(deed).count()
    };
    type Breaks = fn(&mut World);
    let breakages: [(&str, Breaks); 2] = [
        ("torn", |world| world.write(FILE, "a: [")),
        ("claimed", |world| world.write("kube-apiserver.yaml.bak", &manifest(API, "--v=9"))),
    ];
    for (what, breaks) in breakages {
        let mut world = World::adopted();
        world.hung.insert("etcd".to_owned(), Pursuit::Busy);
        world.run(30);
        for _ in 0..360 {
            breaks(&mut world);
            world.run(10);
        }
        // Each that is moved out may be followed by one put in.
        let (deeds, most) = (deeds(&world), 2 * world.policy.actions_per_hour);
        assert!(deeds <= most, "{what}: {deeds} deeds in an hour\n{}", world.story());
        assert!(matches!(world.slot(API), Slot::Held(_)), "{what}: {}\n{}", world.slot(API), world.story());
        world.hung.clear();
        world.files.remove("kube-apiserver.yaml.bak");
        world.write(FILE, &manifest(API, ""));
        world.ask(&Request::Resume { component: Some(id(API)) }).unwrap();
        world.until(300, "steady", |w| back_to_good(w, API) && w.serves(API));
    }
}

#[test]
fn t21_q3_what_was_put_back_and_went_or_broke_while_paused_is_left() {
    for (what, breaks) in [("torn", true), ("deleted", false)] {
        let mut world = World::adopted();
        world.hung.insert("etcd".to_owned(), Pursuit::Busy);
        world.run(30);
        world.write(FILE, "a: [");
        world.until(30, "put back", |w| w.files[FILE].0 == manifest(API, ""));
        world.run(2);
        assert!(matches!(world.slot(API), Slot::RollingBack(_)), "{what}: it serves: nothing was shown");
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

#[test]
fn a_budget_is_given_back_to_who_mends_first_and_resumes_then_and_not_to_who_ends_a_pause() {
    let spent = || {
        let mut world = World::adopted();
        for _ in 0..world.policy.actions_per_hour + 1 {
            world.write(FILE, "a: [");
            world.run(20);
        }
        assert!(matches!(world.slot(API), Slot::Held(_)), "{}", world.slot(API));
        world.write(FILE, &manifest(API, ""));
        world.until(30, "steady", |w| back_to_good(w, API));
        world
    };
    for component in [Some(id(API)), None] {
        let mut world = spent();
        world.ask(&Request::Resume { component }).unwrap();
        world.write(FILE, "a: [");
        world.until(30, "put right again", |w| back_to_good(w, API));
    }
    let mut world = spent();
    world.ask(&Request::Pause { seconds: 900, reason: String::new() }).unwrap();
    world.ask(&Request::Resume { component: None }).unwrap();
    world.write(FILE, "a: [");
    world.run(20);
    assert!(matches!(world.slot(API), Slot::Held(_)), "{}", world.slot(API));
}

#[test]
fn n9_a_write_that_fails_is_wanted_again() {
    let mut world = World::adopted();
    world.hands_fail = true;
    world.write(FILE, "");
    world.run(30);
    assert_eq!(world.files[FILE].0, "");
    world.hands_fail = false;
    world.until(60, "steady", |w| back_to_good(w, API));
}

#[test]
fn n12_a_hand_edited_inactive_manifest_is_kept_and_offered() {
    let mut world = World::adopted();
    world.inactive.insert(FILE.to_owned(), manifest(API, "--v=7"));
    world.run(30);
    assert_eq!(world.inactive[FILE], manifest(API, "--v=7"), "not overwritten");
    assert!(world.says("lastgood rollback kube-apiserver --to 2"), "{}", world.story());
    world.ask(&Request::Rollback { component: id(API), to: Some(2) }).unwrap();
    world.until(400, "proven", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
}

#[test]
fn never_6_a_person_who_puts_another_file_in_during_a_rollback_is_not_fought() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    world.until(60, "rolling back", |w| matches!(w.slot(API), Slot::RollingBack(_)));
    world.write(FILE, &manifest(API, "--v=5"));
    world.run(20);
    assert_eq!(world.files[FILE].0, manifest(API, "--v=5"), "{}", world.story());
    assert!(matches!(world.slot(API), Slot::Probation(_)), "{}\n{}", world.slot(API), world.story());
}

#[test]
fn requests_that_cannot_be_are_refused_with_a_reason() {
    let mut world = World::adopted();
    let ask = |world: &mut World, name: &str, to| world.ask(&Request::Rollback { component: id(name), to });
    assert!(matches!(ask(&mut world, "nobody", None), Err(Refusal::NoSuchComponent { .. })));
    assert!(matches!(ask(&mut world, API, None), Err(Refusal::NoTarget { .. })));
    assert!(matches!(ask(&mut world, API, Some(1)), Err(Refusal::NotThisGeneration { .. })));
    assert!(matches!(ask(&mut world, API, Some(9)), Err(Refusal::NotThisGeneration { .. })));
    world.assert_untouched();
}

#[test]
fn an_operators_rollback_goes_through_while_paused() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
    world.ask(&Request::Pause { seconds: 1800, reason: String::new() }).unwrap();
    world.ask(&Request::Rollback { component: id(API), to: None }).unwrap();
    assert!(matches!(world.slot(API), Slot::RollingBack(_)), "under way at once: {}", world.slot(API));
    world.until(60, "on 1", |w| matches!(w.slot(API), Slot::Steady { good: 1 }));
    assert!(!world.says("by somebody else"), "{}", world.story());
}

#[test]
fn a_person_may_vouch_for_what_is_unproven() {
    let mut world = World::new();
    for (_, changed) in world.files.values_mut() {
        *changed = jiff::Timestamp::from_second(1_800_000_400).unwrap();
    }
    world.run(5);
    world.ask(&Request::Checkpoint { component: id(API), reason: "I wrote it".to_owned() }).unwrap();
    assert!(matches!(world.slot(API), Slot::Steady { good: 1 }), "{}", world.story());
    world.write(FILE, "");
    world.run(2);
    assert_eq!(world.files[FILE].0, manifest(API, ""), "what was vouched for is put back");
}

#[test]
fn a_released_generation_gets_another_trial() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    world.until(60, "known-good back", |w| back_to_good(w, API));
    let none = world.ask(&Request::Release { component: id(API), number: Some(1) });
    assert!(matches!(none, Err(Refusal::NotSo { .. })), "{none:?}");
    world.ask(&Request::Release { component: id(API), number: None }).unwrap();
    world.write(FILE, &manifest(API, "--crash"));
    world.run(2);
    assert!(matches!(world.slot(API), Slot::Probation(_)), "{}\n{}", world.slot(API), world.story());
}

#[test]
fn q12_what_a_person_vouches_for_is_not_quarantined_any_more() {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    let poison = manifest(API, "--sour=60");
    for _ in 0..4 {
        world.write(FILE, &poison);
        world.run(2);
        world.until(400, "back, or held", |w| back_to_good(w, API) || matches!(w.slot(API), Slot::Held(_)));
    }
    assert!(matches!(world.slot(API), Slot::Held(_)), "{}", world.story());
    world.ask(&Request::Checkpoint { component: id(API), reason: String::new() }).unwrap();
    assert!(matches!(world.slot(API), Slot::Steady { good: 2 }), "{}", world.story());
    assert_eq!(world.generation(API, 2).rewritten, 0, "what was counted against it");
    // And it is what comes back over a broken file.
    world.write(FILE, "");
    world.run(2);
    assert_eq!(world.files[FILE].0, poison);
}

fn pin(number: Option<u32>) -> Request {
    Request::Pin { component: id(API), number, reason: "audited".to_owned() }
}

fn quarantine(number: Option<u32>) -> Request {
    Request::Quarantine { component: id(API), number, reason: "it leaks".to_owned() }
}

/// Generations 1 and 2 are known-good, and 2 stands.
fn with_two() -> World {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
    world.run(2);
    world
}

#[test]
fn a_pinned_generation_is_where_a_failed_change_goes_back_to_and_what_cp_finds() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    world.run(1);
    assert_eq!(world.inactive[FILE], manifest(API, ""), "inactive-manifests holds the pinned one");
    assert!(matches!(world.slot(API), Slot::Steady { good: 2 }), "what stands stays: {}", world.slot(API));
    world.write(FILE, &manifest(API, "--crash"));
    world.until(90, "the pinned one serves", |w| back_to_good(w, API));
    // And over a file without a pod.
    world.write(FILE, "");
    world.run(2);
    assert_eq!(world.files[FILE].0, manifest(API, ""));
    world.until(60, "the pinned one serves", |w| back_to_good(w, API));
    assert!(world.says("generation 1 is pinned, because a person says so: audited"), "{}", world.story());
}

#[test]
fn what_proves_itself_beside_a_pinned_generation_is_known_good_and_no_more() {
    let mut world = World::adopted();
    world.ask(&pin(None)).unwrap();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
    world.run(2);
    assert!(world.generation(API, 2).standing.is_known_good());
    assert_eq!(world.inactive[FILE], manifest(API, ""), "it took the pinned one's place");
    world.ask(&Request::Unpin { component: id(API) }).unwrap();
    world.run(2);
    assert_eq!(world.inactive[FILE], manifest(API, "--v=3"));
    world.write(FILE, "");
    world.run(2);
    assert_eq!(world.files[FILE].0, manifest(API, "--v=3"));
    let again = world.ask(&Request::Unpin { component: id(API) });
    assert!(matches!(again, Err(Refusal::NotNow { .. })), "{again:?}");
}

#[test]
fn a_deleted_manifest_comes_back_as_the_pinned_generation() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    world.remove(FILE, Gone::Deleted);
    world.run(2);
    assert!(world.says("generation 1 comes back in 60 s"), "{}", world.story());
    world.until(100, "back", |w| back_to_good(w, API));
}

#[test]
fn an_intruder_is_moved_out_from_beside_what_stands_whatever_is_pinned() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    world.write("kube-apiserver.yaml.bak", &manifest(API, "--v=9"));
    world.until(90, "moved out", |w| {
        w.files.len() == FOUR.len() && matches!(w.slot(API), Slot::Steady { good: 2 }) && w.serves(API)
    });
    assert_eq!(world.files[FILE].0, manifest(API, "--v=3"), "{}", world.story());
}

#[test]
fn where_only_an_intruder_still_holds_the_pod_the_pinned_generation_takes_its_place() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    world.write(FILE, "a: [");
    world.write("kube-apiserver.yaml.bak", &manifest(API, "--v=9"));
    world.run(2);
    world.until(90, "the pinned one serves", |w| back_to_good(w, API) && w.files.len() == FOUR.len());
}

#[test]
fn never_4_a_pinned_generation_is_never_forgotten() {
    let mut world = World::adopted();
    world.ask(&pin(Some(1))).unwrap();
    for round in 2..12 {
        world.write(FILE, &manifest(API, &format!("--v={round}")));
        world.until(400, "proven", |w| matches!(w.slot(API), Slot::Steady { good } if *good == round));
    }
    assert!(world.store.contains_key(&(id(API), 1)), "{}", world.story());
    assert!(!world.store.contains_key(&(id(API), 2)), "nothing was forgotten at all");
    world.write(FILE, "");
    world.until(60, "the pinned one serves", |w| back_to_good(w, API));
}

#[test]
fn a_pinned_generation_that_cannot_be_had_is_passed_over_with_a_word() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "--v=3").replace("v1.34.2", "v1.34.3"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
    world.ask(&pin(Some(1))).unwrap();
    world.absent_images.insert("kube-apiserver:v1.34.2".to_owned());
    world.write(FILE, &manifest(API, "--crash").replace("v1.34.2", "v1.34.3"));
    world.run(2);
    world.until(90, "generation 2 serves", |w| matches!(w.slot(API), Slot::Steady { good: 2 }) && w.serves(API));
    assert!(world.says("generation 1 is pinned, but is not gone back to: its image"), "{}", world.story());
}

#[test]
fn q1_a_pin_does_not_change_which_data_is_served() {
    let mut world = World::adopted();
    world.ask(&Request::Pin { component: id("etcd"), number: None, reason: String::new() }).unwrap();
    let other = |flag| manifest("etcd", flag).replace("/var/lib/etcd", "/var/lib/etcd-restored");
    world.write("etcd.yaml", &other("--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.slot("etcd"), Slot::Steady { good: 2 }));
    world.write("etcd.yaml", &other("--crash"));
    world.run(2);
    world.until(120, "on 2", |w| matches!(w.slot("etcd"), Slot::Steady { good: 2 }) && w.serves("etcd"));
    assert!(world.says("generation 1 is pinned, but is not gone back to: going back would change which data"));
}

#[test]
fn a_pinned_generation_that_fails_a_trial_makes_room_and_stays_known_good() {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    world.write(FILE, &manifest(API, "--sour=320"));
    world.until(400, "steady on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
    world.ask(&pin(Some(2))).unwrap();
    world.write(FILE, &manifest(API, "--v=4"));
    world.until(400, "steady on 3", |w| matches!(w.slot(API), Slot::Steady { good: 3 }));
    // The pinned one is put in by hand, and turns bad before this trial is over.
    world.policy.candidate_soak = Duration::from_secs(1000);
    world.write(FILE, &manifest(API, "--sour=320"));
    world.run(2);
    world.until(500, "3 serves again", |w| matches!(w.slot(API), Slot::Steady { good: 3 }) && w.serves(API));
    assert!(world.says("is pinned, but is not gone back to: it is what failed"), "{}", world.story());
    assert!(world.generation(API, 2).standing.is_known_good(), "{}", world.story());
}

#[test]
fn a_person_goes_back_to_the_pinned_generation_unless_they_name_another() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    let back = |to| Request::Rollback { component: id(API), to };
    world.ask(&back(None)).unwrap();
    world.until(60, "on 1", |w| back_to_good(w, API));
    let stands = world.ask(&back(None));
    assert!(matches!(&stands, Err(Refusal::NoTarget { why, .. }) if why.contains("pinned")), "{stands:?}");
    world.ask(&back(Some(2))).unwrap();
    world.until(60, "on 2", |w| matches!(w.slot(API), Slot::Steady { good: 2 }) && w.serves(API));
}

#[test]
fn a_quarantined_generation_that_stands_goes_at_once_also_while_paused() {
    let mut world = with_two();
    world.ask(&Request::Pause { seconds: 1800, reason: String::new() }).unwrap();
    world.ask(&quarantine(None)).unwrap();
    assert!(matches!(world.slot(API), Slot::RollingBack(_)), "{}", world.slot(API));
    world.until(60, "on 1", |w| back_to_good(w, API));
    assert!(world.says("generation 2 is quarantined, because a person says so: it leaks"), "{}", world.story());
    assert_eq!(world.inactive[FILE], manifest(API, ""), "the quarantined one is no offer: {}", world.story());
    world.ask(&Request::Resume { component: None }).unwrap();
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(2);
    world.until(60, "reverted", |w| back_to_good(w, API));
    world.ask(&Request::Release { component: id(API), number: None }).unwrap();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "proven", |w| matches!(w.slot(API), Slot::Steady { good: 2 }));
}

#[test]
fn a_candidate_on_trial_is_quarantined_and_one_that_does_not_stand_only_marked() {
    let mut world = with_two();
    world.write(FILE, &manifest(API, "--v=4"));
    world.run(20);
    world.ask(&quarantine(Some(2))).unwrap();
    match world.slot(API) {
        Slot::Probation(trial) => assert_eq!((trial.candidate, trial.good), (3, 1)),
        other => panic!("{other}\n{}", world.story()),
    }
    world.ask(&quarantine(None)).unwrap();
    world.until(60, "on 1", |w| back_to_good(w, API));
    assert!(matches!(world.generation(API, 3).standing, Standing::Quarantined { .. }));
}

#[test]
fn a_persons_word_on_a_generation_is_refused_where_it_would_leave_nothing() {
    let mut world = World::new();
    world.run(5);
    let refused = world.ask(&pin(None));
    assert!(matches!(&refused, Err(Refusal::NoTarget { why, .. }) if why.contains("checkpoint")), "{refused:?}");
    let refused = world.ask(&quarantine(None));
    assert!(matches!(&refused, Err(Refusal::NotSo { why, .. }) if why.contains("nothing of it")), "{refused:?}");

    let mut world = World::adopted();
    let refused = world.ask(&quarantine(None));
    assert!(matches!(&refused, Err(Refusal::NotSo { why, .. }) if why.contains("last known-good")), "{refused:?}");
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(3);
    let refused = world.ask(&pin(Some(2)));
    assert!(matches!(&refused, Err(Refusal::NotSo { why, .. }) if why.contains("checkpoint")), "{refused:?}");
    for request in [pin(Some(9)), quarantine(Some(9))] {
        let refused = world.ask(&request);
        assert!(matches!(&refused, Err(Refusal::NotSo { why, .. }) if why.contains("there are 1, 2")), "{refused:?}");
    }
    world.ask(&pin(None)).unwrap();
    let refused = world.ask(&quarantine(Some(1)));
    assert!(matches!(&refused, Err(Refusal::NotSo { why, .. }) if why.contains("unpin")), "{refused:?}");
    world.assert_untouched();
}

#[test]
fn q6_what_stands_is_not_reverted_for_a_person_while_kubeadm_works() {
    let mut world = with_two();
    world.steps.clear();
    world.busy.push(BusyProcess { pid: 9, command: "kubeadm upgrade apply".to_owned(), kind: BusyKind::Kubeadm });
    let refused = world.ask(&quarantine(None));
    assert!(matches!(refused, Err(Refusal::NotActing { .. })), "{refused:?}");
    assert!(world.generation(API, 2).standing.is_known_good(), "what is refused has not happened");
    world.assert_untouched();
}

#[test]
fn what_cannot_be_reverted_is_not_quarantined_either() {
    let mut world = with_two();
    world.absent_images.insert("kube-apiserver:v1.34.2".to_owned());
    world.steps.clear();
    let refused = world.ask(&quarantine(None));
    assert!(matches!(&refused, Err(Refusal::NoTarget { why, .. }) if why.contains("image")), "{refused:?}");
    assert!(world.generation(API, 2).standing.is_known_good());
    world.assert_untouched();
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
    assert!(matches!(world.slot("kube-scheduler"), Slot::RollingBack(_)), "{}", world.story());
    world.write(FILE, &manifest("kube-scheduler", ""));
    world.seconds += 20;
    world.restart_agent();
    world.until(60, "back", |w| back_to_good(w, "kube-scheduler"));
}

/// Whether this step stops a container of that component.
fn stops(step: &Step, name: &str) -> bool {
    matches!(step, Step::StopContainer { component, .. } if *component == id(name))
}

#[test]
fn a_process_that_stands_still_is_restarted_once_and_its_dependents_are_not() {
    for (at, name) in [(Pursuit::Stopped, API), (Pursuit::Idle, API), (Pursuit::Idle, "etcd")] {
        let mut world = World::adopted();
        world.hung.insert(name.to_owned(), at);
        world.until(30, "serves again", |w| w.steps.iter().any(|step| stops(step, name)) && w.serves(name));
        world.run(120);
        let stopped = world.steps.iter().filter(|step| step.touches_node()).count();
        assert_eq!(stopped, 1, "{name}, {at:?}: {:?}\n{}", world.steps, world.story());
        assert!(world.says("restarting its container"), "{}", world.story());
        assert!(matches!(world.slot(name), Slot::Steady { good: 1 }), "{}", world.slot(name));
    }
}

#[test]
fn q8_what_works_at_something_or_waits_for_its_disk_is_left_to_the_kubelet() {
    for at in [Pursuit::Busy, Pursuit::WaitsForDisk, Pursuit::Unseen] {
        let mut world = World::adopted();
        world.hung.insert("etcd".to_owned(), at);
        world.run(300);
        world.assert_untouched();
        assert!(at == Pursuit::WaitsForDisk || world.says("left to the kubelet's own probes"), "{}", world.story());
    }
}

#[test]
fn q8_an_api_server_that_hangs_on_a_hung_etcd_is_not_the_one_that_is_restarted() {
    let mut world = World::adopted();
    // etcd works at something, so nothing is done about it; nor about whoever waits for it.
    world.hung.insert("etcd".to_owned(), Pursuit::Busy);
    world.hung.insert(API.to_owned(), Pursuit::Idle);
    world.run(300);
    world.assert_untouched();
}

#[test]
fn a_process_that_stands_still_again_and_again_is_held_until_a_person_resumes() {
    let mut world = World::adopted();
    let hang = |world: &mut World| world.hung.insert("kube-scheduler".to_owned(), Pursuit::Idle);
    for _ in 0..world.policy.actions_per_hour + 1 {
        hang(&mut world);
        world.run(60);
    }
    let stopped = world.steps.iter().filter(|step| stops(step, "kube-scheduler")).count();
    assert_eq!(stopped, world.policy.actions_per_hour, "{}", world.story());
    assert!(matches!(world.slot("kube-scheduler"), Slot::Held(_)), "{}", world.story());
    world.ask(&Request::Resume { component: None }).unwrap();
    world.until(60, "serves again", |w| w.serves("kube-scheduler"));
}

#[test]
fn a_stop_that_fails_is_tried_again_and_spends_nothing() {
    let mut world = World::adopted();
    world.hands_fail = true;
    world.hung.insert("kube-scheduler".to_owned(), Pursuit::Stopped);
    world.run(120);
    world.hands_fail = false;
    world.until(60, "serves again", |w| w.serves("kube-scheduler"));
    assert!(matches!(world.slot("kube-scheduler"), Slot::Steady { .. }), "{}", world.story());
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
            world.hung.insert(name.to_owned(), Pursuit::Idle);
            world.run(120);
        }
        let restarts = world.steps.iter().filter(|step| is_restart(step)).count();
        let others = world.steps.iter().filter(|step| step.touches_node() && !is_restart(step)).count();
        assert_eq!((restarts, others), (budget, 0), "{name}: {:?}\n{}", world.steps, world.story());
        assert!(world.says("is not restarted") && world.says("within the hour"), "{name}: {}", world.story());
        assert!(world.says("`lastgood resume` lets it be done again"), "{name}: {}", world.story());
        // A person gives the budget back.
        world.ask(&Request::Resume { component: None }).unwrap();
        world.until(60, "restarted again", |w| w.steps.iter().filter(|step| is_restart(step)).count() > budget);
        let command =
            if name == "kubelet" { "`/usr/sbin/service kubelet restart` does it" } else { "`rc-service crio restart`" };
        assert!(world.says(command), "{name}: as it is configured: {}", world.story());
    }
    let mut world = World::adopted();
    world.hung.insert("containerd".to_owned(), Pursuit::Busy);
    world.run(300);
    world.assert_untouched();
}

#[test]
fn t21_nothing_that_stands_still_is_restarted_while_paused() {
    let mut world = World::adopted();
    world.ask(&Request::Pause { seconds: 3600, reason: String::new() }).unwrap();
    for name in [API, "kubelet", "containerd"] {
        world.hung.insert(name.to_owned(), Pursuit::Stopped);
        world.run(60);
        world.assert_untouched();
        world.hung.clear();
    }
    assert!(world.says("it stands still and is not restarted: paused until"), "{}", world.story());
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
        assert!(matches!(world.slot("etcd"), Slot::Held(_)), "data {situation}: {}", world.slot("etcd"));
        world.assert_untouched();
        assert!(world.says("/var/lib/etcd"), "data {situation}: {}", world.story());
        let asked = world.ask(&Request::Rollback { component: id("etcd"), to: Some(1) });
        if member.is_none() {
            assert!(matches!(asked, Err(Refusal::NotThisGeneration { .. })), "data {situation}: {asked:?}");
            continue;
        }
        // A person says that they are the right ones.
        assert!(asked.is_ok(), "data {situation}: {asked:?}");
        world.until(120, "known-good back", |w| back_to_good(w, "etcd"));
    }
}

#[test]
fn t10_a_control_plane_that_hung_and_goes_on_is_not_started_a_second_time() {
    let mut world = World::adopted();
    // Both hang; before anything is decided they go on, as a machine that was suspended does.
    world.hung.insert("etcd".to_owned(), Pursuit::Stopped);
    world.hung.insert(API.to_owned(), Pursuit::Stopped);
    world.run(4);
    world.hung.clear();
    world.run(120);
    world.assert_untouched();
    // etcd is the root; what hung on it goes on with it, and only one process of each ran at any time.
    world.hung.insert("etcd".to_owned(), Pursuit::Stopped);
    world.hung.insert(API.to_owned(), Pursuit::Stopped);
    world.until(40, "etcd is stopped", |w| w.steps.iter().any(|step| stops(step, "etcd")));
    world.hung.clear();
    world.run(300);
    let deeds = world.steps.iter().filter(|step| step.touches_node()).count();
    assert_eq!(deeds, 1, "{:?}\n{}", world.steps, world.story());
}
