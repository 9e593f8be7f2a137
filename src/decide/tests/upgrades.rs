//! Q6: upgrades, whole and interrupted: kubeadm's sequence (etcd, kube-apiserver, controller manager, scheduler), with
//! one bad component or a power cut in between.

use super::world::{FOUR, World, id, manifest};
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, BusyProcess};
use crate::model::versions::Versions;
use crate::model::{ComponentState, DataVersion, Request, Step, Trust};

pub(super) const API: &str = "kube-apiserver";
pub(super) const MANAGER: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";

/// The minor version after the one that the node was adopted with.
pub(super) fn next(name: &str, flag: &str) -> String {
    manifest(name, flag).replace("v1.34.2", "v1.35.0")
}

/// etcd's versions are of its own.
pub(super) fn etcd(tag: &str, flag: &str) -> String {
    manifest("etcd", flag).replace("etcd:v1.34.2", &format!("etcd:{tag}"))
}

pub(super) fn of_cluster(minor: u32) -> DataVersion {
    DataVersion::Known(Versions { cluster: Some((3, minor)), ..Versions::default() })
}

fn write(world: &mut World, name: &str, text: &str) {
    world.write(&format!("{name}.yaml"), text);
}

fn on(world: &World, name: &str, number: u32) -> bool {
    matches!(world.state(name), ComponentState::Steady { good } if *good == number) && world.serves(name)
}

pub(super) fn kubeadm() -> BusyProcess {
    BusyProcess { pid: 9, command: "kubeadm upgrade apply v1.35.0".to_owned(), kind: BusyKind::Kubeadm }
}

/// The minor version of a component's manifest, as its image says.
fn minor(world: &World, name: &str) -> u32 {
    if world.files[&format!("{name}.yaml")].0.contains(":v1.35.") { 35 } else { 34 }
}

pub(super) fn assert_none_is_newer_than_its_api_server(world: &World) {
    for name in [MANAGER, SCHEDULER] {
        assert!(minor(world, name) <= minor(world, API), "{name} is newer\n{}", world.story());
    }
}

/// Where a component's older generation was put in first.
fn put_in(world: &World, name: &str) -> Option<usize> {
    world.steps.iter().position(|step| matches!(step, Step::PutIn { component, .. } if *component == id(name)))
}

/// Everything but etcd, of the next minor version; the API server turns bad after 100 s.
fn upgraded_with_an_api_server_that_turns_bad() -> World {
    let mut world = World::adopted();
    write(&mut world, API, &next(API, "--sour=100"));
    world.run(20);
    write(&mut world, MANAGER, &next(MANAGER, ""));
    world.run(20);
    write(&mut world, SCHEDULER, &next(SCHEDULER, ""));
    world
}

#[test]
fn q6_an_upgrade_that_is_well_becomes_known_good_as_a_whole() {
    let mut world = World::adopted_with(&etcd("3.4.23-0", ""), of_cluster(4));
    world.busy.push(kubeadm());
    for (name, text) in
        [("etcd", etcd("3.5.16-0", ""))].into_iter().chain([API, MANAGER, SCHEDULER].map(|n| (n, next(n, ""))))
    {
        write(&mut world, name, &text);
        world.run(60);
    }
    world.data = of_cluster(5);
    world.busy.clear();
    world.until(600, "all new", |w| FOUR.iter().all(|name| on(w, name, 2)));
    world.run(60);
    world.assert_untouched();
    let newer = FOUR.iter().any(|name| world.noticed(name, Notice::NewerThanApi));
    assert!(!newer, "{}", world.story());
}

#[test]
fn q6_candidates_that_are_newer_than_the_api_server_that_was_put_back_go_back_too_and_after_it() {
    let mut world = upgraded_with_an_api_server_that_turns_bad();
    world.until(400, "all old", |w| {
        w.entered(API, "RollingBack") && [API, MANAGER, SCHEDULER].iter().all(|name| on(w, name, 1))
    });
    assert!(put_in(&world, API) < put_in(&world, MANAGER) && put_in(&world, MANAGER).is_some(), "{:?}", world.steps);
    assert!(matches!(world.generation(API, 2).trust, Trust::Quarantined { .. }));
    for name in [MANAGER, SCHEDULER] {
        assert!(matches!(world.generation(name, 2).trust, Trust::Candidate), "the fault is not its own");
    }
    let why = "generation 2 is of 1.35, and kube-apiserver was rolled back to generation 1, of 1.34";
    let told = world.events.iter().filter(|event| event.component == Some(id(MANAGER)) && event.because.contains(why));
    assert!(told.count() > 0, "{}", world.story());
    world.steps.clear();
    world.run(900);
    world.assert_untouched();
}

#[test]
fn q6_what_became_known_good_before_its_api_server_failed_goes_back_too() {
    let mut world = World::adopted();
    write(&mut world, API, &next(API, "--sour=400"));
    write(&mut world, MANAGER, &next(MANAGER, ""));
    world.run(250);
    // It was not ready for a moment, which its dependents did not notice.
    let ComponentState::Probation(trial) = &mut world.memory.components.get_mut(&id(API)).unwrap().state else {
        panic!()
    };
    trial.healthy = std::time::Duration::ZERO;
    world.until(150, "known-good", |w| on(w, MANAGER, 2));
    assert!(world.state(API).to_string().contains("Probation"), "{}", world.story());
    world.until(400, "both old", |w| on(w, API, 1) && on(w, MANAGER, 1));
    assert!(world.generation(MANAGER, 2).trust.is_known_good(), "it stays what it has proven to be");
    world.run(10);
    assert_eq!(
        world.inactive["kube-controller-manager.yaml"],
        manifest(MANAGER, ""),
        "what `cp` finds is not newer either"
    );
}

#[test]
fn only_what_is_newer_than_its_api_server_goes_back_with_it() {
    // A patch release of one, nothing but a flag of the other.
    let mut world = World::adopted();
    write(&mut world, API, &next(API, "--crash"));
    write(&mut world, MANAGER, &manifest(MANAGER, "").replace("v1.34.2", "v1.34.3"));
    write(&mut world, SCHEDULER, &manifest(SCHEDULER, "--v=3"));
    world.until(900, "judged", |w| on(w, API, 1) && on(w, MANAGER, 2) && on(w, SCHEDULER, 2));
    assert!(world.says("the probation of generation 2 begins again"), "{}", world.story());
    assert_eq!((put_in(&world, MANAGER), put_in(&world, SCHEDULER)), (None, None), "{}", world.story());
}

#[test]
fn q6_where_nothing_older_can_be_put_back_it_is_told_and_left_until_it_can() {
    let mut world = upgraded_with_an_api_server_that_turns_bad();
    world.absent_images.insert("kube-scheduler:v1.34.2".to_owned());
    world.until(400, "the others are old", |w| w.entered(API, "RollingBack") && on(w, API, 1) && on(w, MANAGER, 1));
    world.run(400);
    assert!(on(&world, SCHEDULER, 2), "{}\n{}", world.state(SCHEDULER), world.story());
    assert!(
        world
            .says("newer than kube-apiserver, which is of 1.34, and stays: generation 1 cannot be deployed: its image")
    );
    assert!(world.says("`lastgood rollback kube-scheduler --to 1`"), "{}", world.story());
    world.absent_images.clear();
    world.until(60, "the scheduler too", |w| on(w, SCHEDULER, 1));
}

#[test]
fn what_is_newer_than_its_api_server_from_the_first_is_told_and_left() {
    let mut world = World::new();
    let newer = next(SCHEDULER, "");
    world.files.get_mut("kube-scheduler.yaml").unwrap().0 = newer.clone();
    world.pods.get_mut(&id(SCHEDULER)).unwrap().text = newer;
    world.run(600);
    world.assert_untouched();
    assert!(world.noticed(SCHEDULER, Notice::NewerThanApi), "{}", world.story());
    write(&mut world, API, &next(API, ""));
    world.run(10);
    assert!(!world.memory.components[&id(SCHEDULER)].notices.contains_key(&Notice::NewerThanApi), "{}", world.story());
}

#[test]
fn what_changed_long_before_the_api_server_is_no_part_of_its_upgrade() {
    let mut world = World::adopted();
    write(&mut world, MANAGER, &next(MANAGER, ""));
    world.run(16 * 60);
    write(&mut world, API, &next(API, "--crash"));
    world.run(2);
    world.until(120, "the API server is old", |w| on(w, API, 1));
    world.run(400);
    assert!(on(&world, MANAGER, 2), "{}", world.story());
    assert!(world.says("and stays: it did not change together with its API server"), "{}", world.story());
}

#[test]
fn q6_what_is_written_one_after_the_other_while_kubeadm_works_is_one_change_however_long_it_takes() {
    let mut world = World::adopted();
    world.busy.push(kubeadm());
    write(&mut world, API, &next(API, "--unready"));
    world.run(30 * 60);
    write(&mut world, MANAGER, &next(MANAGER, ""));
    world.run(60);
    world.assert_untouched();
    world.busy.clear();
    world.until(200, "both old", |w| on(w, API, 1) && on(w, MANAGER, 1));
}

#[test]
fn q6_nothing_goes_back_with_the_api_server_while_paused_or_while_kubeadm_works() {
    for kubeadm_works in [false, true] {
        let mut world = upgraded_with_an_api_server_that_turns_bad();
        world.until(400, "the API server is old", |w| {
            w.entered(API, "RollingBack")
                && w.files.get("kube-apiserver.yaml").is_some_and(|(text, _)| *text == manifest(API, ""))
        });
        if kubeadm_works {
            world.busy.push(kubeadm());
        } else {
            world.ask(&Request::Pause { seconds: 3600, reason: String::new() }).unwrap();
        }
        world.run(600);
        assert_eq!((put_in(&world, MANAGER), put_in(&world, SCHEDULER)), (None, None), "{}", world.story());
        world.busy.clear();
        world.ask(&Request::Resume { component: None }).unwrap();
        world.until(120, "all old", |w| [API, MANAGER, SCHEDULER].iter().all(|name| on(w, name, 1)));
    }
}

#[test]
fn a_person_who_writes_it_again_pinned_it_or_vouched_for_it_is_not_fought() {
    let mut world = upgraded_with_an_api_server_that_turns_bad();
    world.until(400, "all old", |w| {
        w.entered(API, "RollingBack") && [API, MANAGER, SCHEDULER].iter().all(|name| on(w, name, 1))
    });
    write(&mut world, MANAGER, &next(MANAGER, ""));
    world.until(400, "known-good", |w| on(w, MANAGER, 2));
    assert!(world.says("somebody wrote it again"), "{}", world.story());

    let mut world = upgraded_with_an_api_server_that_turns_bad();
    world.run(2);
    world.ask(&Request::Checkpoint { component: id(MANAGER), reason: String::new() }).unwrap();
    world.ask(&Request::Checkpoint { component: id(SCHEDULER), reason: String::new() }).unwrap();
    world.ask(&Request::Pin { component: id(SCHEDULER), number: None, reason: String::new() }).unwrap();
    world.run(600);
    assert!(on(&world, API, 1) && on(&world, MANAGER, 2) && on(&world, SCHEDULER, 2), "{}", world.story());
    assert!(
        world.says("and stays: the operator marked it as known-good")
            && world.says("and stays: the operator pinned it"),
        "{}",
        world.story()
    );
}

#[test]
fn who_goes_back_with_the_api_server_alone_by_hand_is_told_and_not_followed() {
    let mut world = World::adopted();
    for name in [API, MANAGER, SCHEDULER] {
        write(&mut world, name, &next(name, ""));
    }
    world.until(600, "all new", |w| [API, MANAGER, SCHEDULER].iter().all(|name| on(w, name, 2)));
    world.ask(&Request::Rollback { component: id(API), to: None }).unwrap();
    world.until(60, "the API server is old", |w| on(w, API, 1));
    world.run(400);
    assert!(on(&world, MANAGER, 2) && on(&world, SCHEDULER, 2), "{}", world.story());
    assert!(world.noticed(MANAGER, Notice::NewerThanApi), "{}", world.story());
}

#[test]
fn q6_an_upgrade_that_is_tried_again_and_fails_again_goes_back_again() {
    let mut world = upgraded_with_an_api_server_that_turns_bad();
    world.until(400, "all old", |w| {
        w.entered(API, "RollingBack") && [API, MANAGER, SCHEDULER].iter().all(|name| on(w, name, 1))
    });
    world.events.clear();
    for (name, flag) in [(API, "--sour=90"), (MANAGER, ""), (SCHEDULER, "")] {
        write(&mut world, name, &next(name, flag));
        world.run(20);
    }
    world.until(400, "all old", |w| {
        w.entered(API, "RollingBack") && [API, MANAGER, SCHEDULER].iter().all(|name| on(w, name, 1))
    });
}

#[test]
fn r9_an_etcd_that_serves_stays_when_only_the_api_server_that_came_with_it_is_bad() {
    let mut world = World::adopted_with(&etcd("3.4.23-0", ""), of_cluster(4));
    write(&mut world, "etcd", &etcd("3.5.16-0", ""));
    world.run(30);
    world.data = of_cluster(5);
    write(&mut world, API, &next(API, "--crash"));
    world.run(2);
    world.until(700, "the new etcd, the old API server", |w| on(w, "etcd", 2) && on(w, API, 1));
    assert_eq!(put_in(&world, "etcd"), None, "{:?}", world.steps);
    assert!(!FOUR.iter().any(|name| world.entered(name, "Held")), "{}", world.story());
}

#[test]
fn an_api_server_that_came_with_a_bad_etcd_gets_a_fresh_trial_when_etcd_is_back() {
    for flag in ["--crash", "--sour=60"] {
        let mut world = World::adopted_with(&etcd("3.4.23-0", ""), of_cluster(4));
        write(&mut world, "etcd", &etcd("3.5.16-0", flag));
        write(&mut world, API, &next(API, ""));
        world.run(20);
        write(&mut world, MANAGER, &next(MANAGER, ""));
        world.until(400, "the old etcd", |w| w.is_quarantined("etcd", 2) && on(w, "etcd", 1));
        match world.state(API) {
            ComponentState::Probation(trial) => {
                assert_eq!((trial.candidate, trial.crashes), (2, 0), "{}", world.story())
            }
            other => panic!("{other}\n{}", world.story()),
        }
        let words = "it changed together with etcd, which serves again, with generation 1";
        assert!(world.says(words), "{}", world.story());
        world.until(900, "the new ones prove themselves", |w| on(w, API, 2) && on(w, MANAGER, 2));
    }
}

#[test]
fn health_without_an_api_server_proves_nothing() {
    let mut world = World::adopted();
    world.policy.candidate_soak = std::time::Duration::from_secs(60);
    write(&mut world, API, &next(API, "--unready"));
    write(&mut world, SCHEDULER, &manifest(SCHEDULER, "--outlive"));
    world.run(250);
    assert!(matches!(world.state(SCHEDULER), ComponentState::Probation(_)), "{}", world.story());
    world
        .until(300, "the API server is old, the scheduler has proven itself", |w| on(w, API, 1) && on(w, SCHEDULER, 2));
}

/// What is bad about an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Nothing,
    Etcd,
    ApiCrashes,
    ApiSours,
    Manager,
}

impl Bad {
    fn text(self, name: &str) -> String {
        let flag = match (self, name) {
            (Self::Etcd, "etcd") | (Self::ApiCrashes, API) | (Self::Manager, MANAGER) => "--crash",
            (Self::ApiSours, API) => "--sour=40",
            _ => "",
        };
        if name == "etcd" { etcd("3.5.16-0", flag) } else { next(name, flag) }
    }
}

/// The power goes after each step of kubeadm's, soon or late: everything is old, or new where that is well.
#[test]
fn n20_an_upgrade_that_a_power_cut_ends_leaves_old_or_new_and_nothing_newer_than_its_api_server() {
    let all = [Bad::Nothing, Bad::Etcd, Bad::ApiCrashes, Bad::ApiSours, Bad::Manager];
    for bad in all {
        for steps in 1..=FOUR.len() {
            for wait in [1, 45] {
                let what = format!("{bad:?}, after step {steps} and {wait} s");
                let mut world = World::adopted_with(&etcd("3.4.23-0", ""), of_cluster(4));
                // Shorter than the default, so that all of them together do not take minutes; longer than it takes to turn bad.
                world.policy.candidate_soak = std::time::Duration::from_secs(100);
                world.busy.push(kubeadm());
                for (step, name) in FOUR.iter().take(steps).enumerate() {
                    write(&mut world, name, &bad.text(name));
                    world.run(if step + 1 == steps { wait } else { 45 });
                    if world.serves("etcd") && world.pods[&id("etcd")].text.contains(":3.5") {
                        world.data = of_cluster(5);
                    }
                }
                // kubeadm is dead; what it left in /etc/kubernetes/tmp nobody looks at.
                world.busy.clear();
                world.power_cut();
                let settled = |w: &World| {
                    FOUR.iter().all(|name| matches!(w.state(name), ComponentState::Steady { .. }) && w.serves(name))
                };
                world.until(900, &what, settled);
                world.run(20);
                for name in FOUR {
                    let good = match world.state(name) {
                        ComponentState::Steady { good } => *good,
                        other => panic!("{what}: {name}: {other}\n{}", world.story()),
                    };
                    assert!(world.serves(name), "{what}: {name} does not serve\n{}", world.story());
                    let text = &world.files[&format!("{name}.yaml")].0;
                    let new = *text == bad.text(name);
                    assert!(
                        new || world.generation(name, 1).pod_digest
                            == world.file(name, text, jiff::Timestamp::UNIX_EPOCH).content.unwrap().digest,
                        "{what}: {name}"
                    );
                    assert_eq!(good, if new { 2 } else { 1 }, "{what}: {name}\n{}", world.story());
                }
                assert_none_is_newer_than_its_api_server(&world);
                let expected = |name: &str, step: usize| {
                    steps >= step
                        && match bad {
                            Bad::Nothing => true,
                            Bad::Etcd => name != "etcd",
                            Bad::ApiCrashes | Bad::ApiSours => name == "etcd",
                            Bad::Manager => name != MANAGER,
                        }
                };
                for (step, name) in FOUR.iter().enumerate() {
                    let new = world.files[&format!("{name}.yaml")].0 == bad.text(name);
                    assert_eq!(new, expected(name, step + 1), "{what}: {name}\n{}", world.story());
                }
                assert!(!FOUR.iter().any(|name| world.entered(name, "Held")), "{what}\n{}", world.story());
            }
        }
    }
}
