//! The operator's requests: granted, refused, remembered.

use std::time::Duration;

use super::world::{API, FILE, FOUR, World, back_to_good, id, manifest};
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, BusyProcess, Gone};
use crate::model::plan::Refusal;
use crate::model::{ComponentState, Request, Trust};

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
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.ask(&Request::Pause { seconds: 1800, reason: String::new() }).unwrap();
    world.ask(&Request::Rollback { component: id(API), to: None }).unwrap();
    assert!(matches!(world.state(API), ComponentState::Replacing(_)), "under way at once: {}", world.state(API));
    world.until(60, "on 1", |w| matches!(w.state(API), ComponentState::Steady { good: 1 }));
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
    assert!(matches!(world.state(API), ComponentState::Steady { good: 1 }), "{}", world.story());
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
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}\n{}", world.state(API), world.story());
}

#[test]
fn q12_what_a_person_vouches_for_is_not_quarantined_any_more() {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    let poison = manifest(API, "--sour=60");
    for _ in 0..4 {
        world.write(FILE, &poison);
        world.run(2);
        world.until(400, "back, or held", |w| back_to_good(w, API) || matches!(w.state(API), ComponentState::Held(_)));
    }
    assert!(matches!(world.state(API), ComponentState::Held(_)), "{}", world.story());
    world.ask(&Request::Checkpoint { component: id(API), reason: String::new() }).unwrap();
    assert!(matches!(world.state(API), ComponentState::Steady { good: 2 }), "{}", world.story());
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

/// Generations 1 and 2 are known-good, and 2 is deployed.
fn with_two() -> World {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.run(2);
    world
}

#[test]
fn a_pinned_generation_is_where_a_failed_change_goes_back_to_and_what_cp_finds() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    world.run(1);
    assert_eq!(world.inactive[FILE], manifest(API, ""), "inactive-manifests holds the pinned one");
    assert!(
        matches!(world.state(API), ComponentState::Steady { good: 2 }),
        "the deployed manifest stays: {}",
        world.state(API)
    );
    world.write(FILE, &manifest(API, "--crash"));
    world.until(90, "the pinned one serves", |w| back_to_good(w, API));
    // And over a file without a pod.
    world.write(FILE, "");
    world.run(2);
    assert_eq!(world.files[FILE].0, manifest(API, ""));
    world.until(60, "the pinned one serves", |w| back_to_good(w, API));
    assert!(world.says("generation 1 is pinned, because the operator says so: audited"), "{}", world.story());
}

#[test]
fn what_proves_itself_beside_a_pinned_generation_is_known_good_and_no_more() {
    let mut world = World::adopted();
    world.ask(&pin(None)).unwrap();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.run(2);
    assert!(world.generation(API, 2).trust.is_known_good());
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
    assert!(world.says("deploys generation 1 again in 60 s"), "{}", world.story());
    world.until(100, "back", |w| back_to_good(w, API));
}

#[test]
fn a_duplicate_is_moved_out_from_beside_what_stands_whatever_is_pinned() {
    let mut world = with_two();
    world.ask(&pin(Some(1))).unwrap();
    world.write("kube-apiserver.yaml.bak", &manifest(API, "--v=9"));
    world.until(90, "moved out", |w| {
        w.files.len() == FOUR.len() && matches!(w.state(API), ComponentState::Steady { good: 2 }) && w.serves(API)
    });
    assert_eq!(world.files[FILE].0, manifest(API, "--v=3"), "{}", world.story());
}

#[test]
fn where_only_a_duplicate_still_holds_the_pod_the_pinned_generation_takes_its_place() {
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
        world.until(400, "proven", |w| matches!(w.state(API), ComponentState::Steady { good } if *good == round));
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
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.ask(&pin(Some(1))).unwrap();
    world.absent_images.insert("kube-apiserver:v1.34.2".to_owned());
    world.write(FILE, &manifest(API, "--crash").replace("v1.34.2", "v1.34.3"));
    world.run(2);
    world.until(90, "generation 2 serves", |w| {
        matches!(w.state(API), ComponentState::Steady { good: 2 }) && w.serves(API)
    });
    assert!(world.noticed(API, Notice::PinPassedOver), "{}", world.story());
}

#[test]
fn q1_a_pin_does_not_change_which_data_is_served() {
    let mut world = World::adopted();
    world.ask(&Request::Pin { component: id("etcd"), number: None, reason: String::new() }).unwrap();
    let other = |flag| manifest("etcd", flag).replace("/var/lib/etcd", "/var/lib/etcd-restored");
    world.write("etcd.yaml", &other("--v=3"));
    world.until(400, "steady on 2", |w| matches!(w.state("etcd"), ComponentState::Steady { good: 2 }));
    world.write("etcd.yaml", &other("--crash"));
    world.run(2);
    world.until(120, "on 2", |w| matches!(w.state("etcd"), ComponentState::Steady { good: 2 }) && w.serves("etcd"));
    assert!(world.noticed("etcd", Notice::PinPassedOver));
}

#[test]
fn a_pinned_generation_that_fails_a_trial_makes_room_and_stays_known_good() {
    let mut world = World::adopted();
    world.policy.actions_per_hour = 100;
    world.write(FILE, &manifest(API, "--sour=320"));
    world.until(400, "steady on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
    world.ask(&pin(Some(2))).unwrap();
    world.write(FILE, &manifest(API, "--v=4"));
    world.until(400, "steady on 3", |w| matches!(w.state(API), ComponentState::Steady { good: 3 }));
    // The pinned one is put in by hand, and turns bad before this trial is over.
    world.policy.candidate_soak = Duration::from_secs(1000);
    world.write(FILE, &manifest(API, "--sour=320"));
    world.run(2);
    world.until(500, "3 serves again", |w| matches!(w.state(API), ComponentState::Steady { good: 3 }) && w.serves(API));
    assert!(world.noticed(API, Notice::PinPassedOver), "{}", world.story());
    assert!(world.generation(API, 2).trust.is_known_good(), "{}", world.story());
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
    world.until(60, "on 2", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }) && w.serves(API));
}

#[test]
fn a_quarantined_generation_that_stands_goes_at_once_also_while_paused() {
    let mut world = with_two();
    world.ask(&Request::Pause { seconds: 1800, reason: String::new() }).unwrap();
    world.ask(&quarantine(None)).unwrap();
    assert!(matches!(world.state(API), ComponentState::Replacing(_)), "{}", world.state(API));
    world.until(60, "on 1", |w| back_to_good(w, API));
    assert!(world.says("generation 2 is quarantined, because the operator says so: it leaks"), "{}", world.story());
    assert_eq!(world.inactive[FILE], manifest(API, ""), "the quarantined one is no offer: {}", world.story());
    world.ask(&Request::Resume { component: None }).unwrap();
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(2);
    world.until(60, "reverted", |w| back_to_good(w, API));
    world.ask(&Request::Release { component: id(API), number: None }).unwrap();
    world.write(FILE, &manifest(API, "--v=3"));
    world.until(400, "proven", |w| matches!(w.state(API), ComponentState::Steady { good: 2 }));
}

#[test]
fn a_candidate_on_trial_is_quarantined_and_one_that_does_not_stand_only_marked() {
    let mut world = with_two();
    world.write(FILE, &manifest(API, "--v=4"));
    world.run(20);
    world.ask(&quarantine(Some(2))).unwrap();
    match world.state(API) {
        ComponentState::Probation(trial) => assert_eq!((trial.candidate, trial.good), (3, 1)),
        other => panic!("{other}\n{}", world.story()),
    }
    world.ask(&quarantine(None)).unwrap();
    world.until(60, "on 1", |w| back_to_good(w, API));
    assert!(matches!(world.generation(API, 3).trust, Trust::Quarantined { .. }));
}

#[test]
fn a_persons_word_on_a_generation_is_refused_where_it_would_leave_nothing() {
    let mut world = World::new();
    world.run(5);
    let refused = world.ask(&pin(None));
    assert!(matches!(&refused, Err(Refusal::NoTarget { why, .. }) if why.contains("checkpoint")), "{refused:?}");
    let refused = world.ask(&quarantine(None));
    assert!(
        matches!(&refused, Err(Refusal::NotSo { why, .. }) if why.contains("no known-good generation")),
        "{refused:?}"
    );

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
    assert!(world.generation(API, 2).trust.is_known_good(), "what is refused has not happened");
    world.assert_untouched();
}

#[test]
fn what_cannot_be_reverted_is_not_quarantined_either() {
    let mut world = with_two();
    world.absent_images.insert("kube-apiserver:v1.34.2".to_owned());
    world.steps.clear();
    let refused = world.ask(&quarantine(None));
    assert!(matches!(&refused, Err(Refusal::NoTarget { why, .. }) if why.contains("image")), "{refused:?}");
    assert!(world.generation(API, 2).trust.is_known_good());
    world.assert_untouched();
}

#[test]
fn a_budget_is_given_back_to_who_mends_first_and_resumes_then_and_not_to_who_ends_a_pause() {
    let spent = || {
        let mut world = World::adopted();
        for _ in 0..world.policy.actions_per_hour + 1 {
            world.write(FILE, "a: [");
            world.run(20);
        }
        assert!(matches!(world.state(API), ComponentState::Held(_)), "{}", world.state(API));
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
    assert!(matches!(world.state(API), ComponentState::Held(_)), "{}", world.state(API));
}
