//! The contents of the manifest directory and of inactive-manifests: broken files, duplicates, none.

use super::world::{API, FILE, FOUR, World, back_to_good, id, manifest};
use crate::model::notice::Notice;
use crate::model::observation::Gone;
use crate::model::verdict::ProcessActivity;
use crate::model::{ComponentState, Request, Step};

#[test]
fn a_broken_file_is_put_right_before_the_next_scan() {
    for broken in ["", "# nothing", "a: [", "\0\0\0", "apiVersion: v1\nkind: Pod\nmetadata: {name: "] {
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
fn a_duplicate_is_only_named_when_configured_so() {
    let mut world = World::adopted();
    world.policy.duplicates = crate::model::policy::Duplicates::Report;
    world.write("z.yaml", &manifest(API, "--v=9"));
    world.run(60);
    world.assert_untouched();
    assert!(world.noticed(API, Notice::Duplicate));
}

#[test]
fn t4_a_deleted_manifest_comes_back_after_the_announced_grace() {
    let mut world = World::adopted();
    world.remove(FILE, Gone::Deleted);
    world.run(50);
    let announced = matches!(world.state(API), ComponentState::Missing { how: Gone::Deleted, .. });
    assert!(announced, "{}", world.story());
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
        assert!(matches!(world.state(API), ComponentState::Missing { .. }));
    }
}

#[test]
fn q14_what_was_deleted_in_a_gap_that_nobody_watched_stays_away() {
    let mut world = World::adopted();
    world.remove(FILE, Gone::Deleted);
    // The agent was stopped, or the machine slept: longer than the longest gap between two passes.
    world.seconds += 300;
    world.run(1500);
    world.assert_untouched();
    let unwitnessed = matches!(world.state(API), ComponentState::Missing { how: Gone::Unwitnessed, .. });
    assert!(unwitnessed, "{}", world.story());
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
    assert!(matches!(world.state("etcd"), ComponentState::Held(_)));
}

#[test]
fn q3_a_deleted_etcd_stays_away_while_its_data_is_worked_on() {
    let mut world = World::adopted();
    world.remove("etcd.yaml", Gone::Deleted);
    world.run(300);
    world.data_changed = world.seconds;
    world.run(900);
    world.assert_untouched();
    assert!(world.noticed("etcd", Notice::EtcdStays), "{}", world.story());
}

#[test]
fn n15_a_known_good_image_that_is_gone_is_said_before_the_outage() {
    let mut world = World::adopted();
    world.absent_images.insert("kube-scheduler:v1.34.2".to_owned());
    world.pods.clear();
    world.pass();
    assert!(world.noticed("kube-scheduler", Notice::Image), "{}", world.story());
}

#[test]
fn n12_a_hand_edited_inactive_manifest_is_kept_and_offered() {
    let mut world = World::adopted();
    world.inactive.insert(FILE.to_owned(), manifest(API, "--v=7"));
    world.run(30);
    assert_eq!(world.inactive[FILE], manifest(API, "--v=7"), "not overwritten");
    assert!(world.noticed(API, Notice::Unpublished), "{}", world.story());
    world.ask(&Request::Rollback { component: id(API), to: Some(2) }).unwrap();
    world.until(400, "proven", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
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
    assert!(matches!(world.state(API), ComponentState::Held(_)), "{}", world.state(API));
    world.write(FILE, &manifest(API, ""));
    world.ask(&Request::Resume { component: Some(id(API)) }).unwrap();
    world.until(30, "steady", |w| back_to_good(w, API));
}

#[test]
fn n23_a_file_that_is_emptied_again_before_the_next_pass_meets_the_same_limit() {
    let mut world = World::adopted();
    world.write(FILE, "");
    let mut puts = 0;
    for _ in 0..600 {
        world.run(1);
        let now = world.steps.iter().filter(|step| matches!(step, Step::PutIn { .. })).count();
        if now > puts {
            // No pass has seen the file that was put in.
            world.write(FILE, "");
        }
        puts = now;
    }
    assert!(puts <= world.policy.actions_per_hour, "{puts} writes in ten minutes\n{}", world.story());
    assert!(matches!(world.state(API), ComponentState::Held(_)), "{}\n{}", world.state(API), world.story());
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
        world.hung.insert("etcd".to_owned(), ProcessActivity::Busy);
        world.run(30);
        for _ in 0..360 {
            breaks(&mut world);
            world.run(10);
        }
        // Each that is moved out may be followed by one put in.
        let (deeds, most) = (deeds(&world), 2 * world.policy.actions_per_hour);
        assert!(deeds <= most, "{what}: {deeds} deeds in an hour\n{}", world.story());
        assert!(matches!(world.state(API), ComponentState::Held(_)), "{what}: {}\n{}", world.state(API), world.story());
        world.hung.clear();
        world.files.remove("kube-apiserver.yaml.bak");
        world.write(FILE, &manifest(API, ""));
        world.ask(&Request::Resume { component: Some(id(API)) }).unwrap();
        world.until(300, "steady", |w| back_to_good(w, API) && w.serves(API));
    }
}
