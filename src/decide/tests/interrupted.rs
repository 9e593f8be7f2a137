//! Q3, Q6, N20: the power goes, or kubeadm is killed, between the two renames by which it replaces a manifest.

use super::upgrades::{
    API, MANAGER, SCHEDULER, assert_none_is_newer_than_its_api_server, etcd, kubeadm, next, of_cluster,
};
use super::world::{FOUR, World, id, manifest};
use crate::model::notice::Notice;
use crate::model::{ComponentState, Request, Step};

fn upgraded(name: &str) -> String {
    if name == "etcd" { etcd("3.5.16-0", "") } else { next(name, "") }
}

/// kubeadm has upgraded those before this one, each of which serves, and moved this one's manifest away.
fn between_its_renames(name: &str) -> World {
    let mut world = World::adopted_with(&etcd("3.4.23-0", ""), of_cluster(4));
    world.busy.push(kubeadm());
    for before in FOUR.into_iter().take_while(|before| *before != name) {
        world.write(&format!("{before}.yaml"), &upgraded(before));
        world.run(60);
        world.data = of_cluster(5);
    }
    world.kubeadm_takes(&format!("{name}.yaml"));
    world
}

fn missing(world: &World, name: &str) -> bool {
    matches!(world.state(name), ComponentState::Missing { .. }) && !world.files.contains_key(&format!("{name}.yaml"))
}

fn put_in(world: &World) -> Vec<&Step> {
    world.steps.iter().filter(|step| matches!(step, Step::PutIn { .. })).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The power goes before a pass has seen the empty slot.
    CutUnseen,
    /// The power goes when it was seen.
    CutSeen,
    /// kubeadm is killed, and the node runs on.
    Killed,
}

#[test]
fn n20_a_manifest_that_kubeadm_had_moved_away_comes_back_after_the_announced_grace() {
    for name in FOUR {
        for end in [End::CutUnseen, End::CutSeen, End::Killed] {
            let what = format!("{name}, {end:?}");
            let mut world = between_its_renames(name);
            world.run(if end == End::CutUnseen { 0 } else { 3 });
            assert!(
                !world.says("deploys generation"),
                "{what}: kubeadm may still put the other one in\n{}",
                world.story()
            );
            world.busy.clear();
            if end != End::Killed {
                world.power_cut();
            }
            let grace = world.policy.deleted_grace.as_secs();
            world.run(grace - 2);
            assert!(missing(&world, name), "{what}: within its grace\n{}", world.story());
            let told = format!("lastgood deploys generation 1 again in {grace} s unless `lastgood pause` prevents it");
            assert!(world.says(&told), "{what}: not announced\n{}", world.story());
            let all =
                |w: &World| FOUR.iter().all(|n| matches!(w.state(n), ComponentState::Steady { .. }) && w.serves(n));
            world.until(900, &what, all);
            assert_eq!(world.state(name), &ComponentState::Steady { good: 1 }, "{what}\n{}", world.story());
            for before in FOUR.into_iter().take_while(|before| *before != name) {
                assert_eq!(
                    world.state(before),
                    &ComponentState::Steady { good: 2 },
                    "{what}: {before}\n{}",
                    world.story()
                );
            }
            assert_none_is_newer_than_its_api_server(&world);
            assert_eq!(put_in(&world).len(), 1, "{what}: {:?}\n{}", world.steps, world.story());
            assert!(world.memory.components[&id(name)].notices.is_empty(), "{what}: {:?}", world.memory.components);
        }
    }
}

#[test]
fn an_upgrade_that_goes_on_leaves_no_trace_of_the_moment_between_its_renames() {
    let mut world = between_its_renames(API);
    world.run(3);
    world.write("kube-apiserver.yaml", &upgraded(API));
    world.run(60);
    world.busy.clear();
    world.until(600, "the new one is known-good", |w| w.state(API) == &ComponentState::Steady { good: 2 });
    assert!(put_in(&world).is_empty() && !world.says("deploys generation"), "{}", world.story());
}

#[test]
fn q3_what_kubeadm_may_not_have_moved_away_in_this_upgrade_stays_away() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 5] = [
        ("nothing is kept, as of a reset that is cut short", |w| w.set_aside.clear()),
        ("what is kept is of an earlier upgrade", |w| {
            let kept = &mut w.set_aside.get_mut("kube-scheduler.yaml").unwrap()[0];
            kept.changed = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        }),
        ("what is kept is something else", |w| {
            let kept = &mut w.set_aside.get_mut("kube-scheduler.yaml").unwrap()[0];
            kept.digest = crate::model::Digest::of(b"something else");
        }),
        ("kubeadm works again", |w| w.busy.push(kubeadm())),
        ("the node is no longer a master", |w| w.missing_signs.push("/etc/kubernetes/pki/ca.crt".into())),
    ];
    for (what, change) in changes {
        let mut world = between_its_renames(SCHEDULER);
        world.busy.clear();
        change(&mut world);
        world.power_cut();
        world.run(300);
        assert!(!world.files.contains_key("kube-scheduler.yaml"), "{what}: it came back\n{}", world.story());
        assert!(put_in(&world).is_empty(), "{what}: {:?}", world.steps);
    }
}

#[test]
fn q3_a_candidate_that_kubeadm_had_moved_away_vouches_for_nothing() {
    let mut world = World::adopted();
    world.write("kube-scheduler.yaml", &manifest(SCHEDULER, "--v=3"));
    world.run(20);
    assert!(matches!(world.state(SCHEDULER), ComponentState::Probation(_)), "{}", world.state(SCHEDULER));
    world.kubeadm_takes("kube-scheduler.yaml");
    world.power_cut();
    world.run(300);
    assert!(missing(&world, SCHEDULER), "{}", world.story());
    world.assert_untouched();
}

#[test]
fn q3_an_etcd_that_kubeadm_had_moved_away_comes_back_only_over_the_data_that_it_left() {
    let mut world = between_its_renames("etcd");
    world.busy.clear();
    world.power_cut();
    world.run(10);
    world.data_changed = world.seconds + 100;
    world.run(300);
    assert!(missing(&world, "etcd") && world.noticed("etcd", Notice::EtcdStays), "{}", world.story());
    let asked = world.ask(&Request::Rollback { component: id("etcd"), to: None });
    assert_eq!(asked, Ok(()), "the operator says so");
    world.until(300, "it serves", |w| w.state("etcd") == &ComponentState::Steady { good: 1 } && w.serves("etcd"));
    assert!(
        world.memory.components[&id("etcd")].notices.is_empty(),
        "{:?}",
        world.memory.components[&id("etcd")].notices
    );
}

#[test]
fn paused_it_stays_away_and_a_person_may_put_in_what_they_like() {
    let mut world = between_its_renames(MANAGER);
    world.busy.clear();
    world.power_cut();
    world.run(10);
    assert_eq!(world.ask(&Request::Pause { seconds: 3600, reason: String::new() }), Ok(()));
    world.run(300);
    assert!(missing(&world, MANAGER), "{}", world.story());
    world.write("kube-controller-manager.yaml", &upgraded(MANAGER));
    assert_eq!(world.ask(&Request::Resume { component: None }), Ok(()));
    world.until(900, "theirs is known-good", |w| {
        w.state(MANAGER) == &ComponentState::Steady { good: 2 } && w.serves(MANAGER)
    });
    assert!(put_in(&world).is_empty(), "{}", world.story());
}
