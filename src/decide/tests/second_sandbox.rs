//! The kubelet has made the sandbox of a candidate, and the earlier one still runs.

use std::time::Duration;

use super::world::{API, World, id, manifest, member};
use crate::model::environment::{Accepts, Endpoint, Location};
use crate::model::etcd::Agreed;
use crate::model::notice::Notice;
use crate::model::observation::{ContainerRun, ContainerState, PodRun, SandboxState};
use crate::model::{Reading, Step};

/// A candidate of that component, next to the sandbox of the pod before.
fn candidate(world: &mut World, name: &str) {
    let earlier = PodRun {
        component: id(name),
        uid: "earlier".to_owned(),
        sandbox: "earlier-sandbox".to_owned(),
        created: world.wall_at(300),
        ready: SandboxState::Ready,
        containers: vec![ContainerRun {
            id: "earlier-container".to_owned(),
            name: name.to_owned(),
            attempt: 0,
            image: "i".to_owned(),
            image_id: String::new(),
            state: ContainerState::Running { started: world.wall_at(300) },
            command_line: None,
            log_tail: None,
            work: None,
        }],
    };
    world.write(&format!("{name}.yaml"), &manifest(name, "--crash=port"));
    world.forgotten.push(earlier);
}

fn stops(world: &World) -> usize {
    let stop = |step: &&Step| matches!(step, Step::StopSandbox { sandbox, .. } if sandbox == "earlier-sandbox");
    world.steps.iter().filter(stop).count()
}

fn spent(world: &World, name: &str) -> usize {
    world.memory.components[&id(name)].actions.len()
}

#[test]
fn an_earlier_sandbox_that_still_runs_is_stopped_and_the_candidate_stays_on_trial() {
    let mut world = World::adopted();
    candidate(&mut world, API);
    let took = world.until(120, "the earlier sandbox is stopped", |w| w.forgotten.is_empty());
    assert!(took > 12 + 10, "not in the moment in which both run anyway: {took} s");
    assert_eq!(world.crashes(API), Some(0), "nothing counts against it: {}", world.story());
    assert_eq!((stops(&world), spent(&world, API)), (1, 1), "{}", world.story());
    assert!(!world.is_quarantined(API, 2) && world.entered(API, "Probation"), "{}", world.story());
}

#[test]
fn a_stop_of_it_takes_one_action_of_the_hour_and_none_is_left_where_they_are_used_up() {
    let mut world = World::adopted();
    candidate(&mut world, API);
    world.hands_fail = true;
    world.run(60);
    world.hands_fail = false;
    world.until(5, "the earlier sandbox is stopped", |w| w.forgotten.is_empty());
    assert_eq!(spent(&world, API), 1, "one that failed is the same action: {}", world.story());

    let mut world = World::adopted();
    candidate(&mut world, API);
    world.policy.actions_per_hour = 0;
    world.run(120);
    assert_eq!(stops(&world), 0, "{}", world.story());
    assert!(world.noticed(API, Notice::SecondSandbox), "{}", world.story());
    world.forgotten.clear();
    world.run(1);
    let notices = &world.memory.components[&id(API)].notices;
    assert!(!notices.contains_key(&Notice::SecondSandbox), "{notices:?}");
}

#[test]
fn q10_an_earlier_sandbox_is_stopped_only_where_the_others_suffice_without_it() {
    let masters = |world: &mut World| {
        world.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
        world.run(5);
    };
    let agreed = |id| Agreed { cluster: 0xc1, member: id, term: 5, revision: 1000 };
    let elsewhere = |world: &mut World, well: &[u64]| {
        world.etcd_says(|status| {
            status.members_elsewhere = Some(vec![member(1), member(2), member(3)]);
            status.elsewhere = Some(well.iter().map(|id| (*id, agreed(*id))).collect());
        })
    };
    let rows = [
        ("etcd", "two others are a quorum", true),
        ("etcd", "one other is none", false),
        (API, "another address answers", true),
        (API, "no other address", false),
    ];
    for (name, situation, stopped) in rows {
        let mut world = World::adopted();
        masters(&mut world);
        candidate(&mut world, name);
        match (name, stopped) {
            ("etcd", _) => elsewhere(&mut world, if stopped { &[2, 3] } else { &[2] }),
            (_, true) => world.around.endpoints.push(Endpoint {
                server: "https://lb:6443".into(),
                used: Default::default(),
                place: Location::Elsewhere,
                accepts: Accepts::No,
                reading: Reading::Good,
                at: Duration::from_secs(world.seconds + 120),
                bad_for: Duration::ZERO,
            }),
            _ => {}
        }
        world.run(120);
        assert_eq!(stops(&world), usize::from(stopped), "{name}, {situation}: {}", world.story());
        assert_eq!(world.noticed(name, Notice::SecondSandbox), !stopped, "{name}, {situation}: {}", world.story());
    }
}
