//! R9: no etcd is deployed over data that it cannot open. A node whose etcd is 3.4, and later versions.

use super::world::{World, id, manifest};
use crate::model::component_state::Stage;
use crate::model::plan::Refusal;
use crate::model::versions::Versions;
use crate::model::{ComponentState, DataVersion, Request, Step, Trust};

const FILE: &str = "etcd.yaml";

fn etcd(tag: &str, extra: &str) -> String {
    manifest("etcd", extra).replace("etcd:v1.34.2", &format!("etcd:{tag}"))
}

fn of_cluster(minor: u32) -> DataVersion {
    DataVersion::Known(Versions { cluster: Some((3, minor)), ..Versions::default() })
}

fn unreadable() -> DataVersion {
    DataVersion::Unknown { why: "/var/lib/etcd/member/snap/db: page 7: it is empty".to_owned() }
}

fn adopted() -> World {
    World::adopted_with(&etcd("3.4.23-0", ""), of_cluster(4))
}

fn held_with(world: &World, words: &str) {
    let ComponentState::Held(held) = world.state("etcd") else { panic!("{}\n{}", world.state("etcd"), world.story()) };
    assert!(held.why.contains(words), "{}", held.why);
    assert_eq!(held.good, Some(1));
    assert!(!held.next_step.is_empty());
}

fn back_to_3_4(world: &World) -> bool {
    matches!(world.state("etcd"), ComponentState::Steady { good: 1 }) && world.serves("etcd")
}

#[test]
fn r9_an_upgrade_that_raised_the_version_and_then_broke_is_held() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", "--sour=100"));
    world.run(20);
    world.data = of_cluster(5);
    world.run(400);
    held_with(&world, "etcd 3.4 does not open data of cluster version 3.5");
    assert!(world.says("it served, then was unhealthy"), "why it wanted to is told, too: {}", world.story());
    assert_eq!(world.files[FILE].0, etcd("3.5.16-0", "--sour=100"));
    world.assert_untouched();
    // The operator fixes it: the newer one is a candidate like any other.
    world.write(FILE, &etcd("3.5.16-0", "--v=1"));
    world.until(400, "steady", |w| matches!(w.state("etcd"), ComponentState::Steady { good: 3 }));
}

#[test]
fn r9_an_upgrade_that_never_came_up_is_undone() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", "--crash"));
    world.run(2);
    world.until(120, "back on 3.4", back_to_3_4);
    assert!(matches!(world.generation("etcd", 2).trust, Trust::Quarantined { .. }));
}

#[test]
fn r9_an_upgrade_that_served_and_raised_nothing_is_undone() {
    // The other members are 3.4 still, so the cluster is.
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", "--sour=100"));
    world.run(120);
    world.until(200, "back on 3.4", back_to_3_4);
}

#[test]
fn r9_an_upgrade_that_nobody_saw_serve_may_have_raised_the_version_all_the_same() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", "--shut-out"));
    world.run(20);
    world.data = of_cluster(5);
    world.run(500);
    held_with(&world, "etcd 3.4 does not open data of cluster version 3.5");
    world.assert_untouched();
}

#[test]
fn r9_data_that_cannot_be_read_are_not_given_to_an_older_etcd() {
    let mut world = adopted();
    world.data = unreadable();
    world.write(FILE, &etcd("3.5.16-0", "--crash"));
    world.run(200);
    held_with(&world, "it is unknown whether etcd 3.4 can open the data: /var/lib/etcd/member/snap/db: page 7");
    world.assert_untouched();
}

#[test]
fn r9_data_whose_place_nobody_names_are_not_given_to_an_older_etcd() {
    let anywhere = |text: String| text.replace("--data-dir=/var/lib/etcd", "--config-file=/etc/etcd.yaml");
    let mut world = World::adopted_with(&anywhere(etcd("3.4.23-0", "")), of_cluster(4));
    world.write(FILE, &anywhere(etcd("3.5.16-0", "--crash")));
    world.run(200);
    held_with(&world, "the manifest does not name the data directory");
    world.write(FILE, &anywhere(etcd("3.4.27-0", "--crash")));
    world.until(200, "back on 3.4", back_to_3_4);
}

#[test]
fn r9_what_act_refused_by_data_that_cannot_be_read_is_held() {
    let mut world = adopted();
    let newer = etcd("3.5.16-0", "--crash");
    world.write(FILE, &newer);
    world.until(
        120,
        "put in",
        |w| matches!(w.state("etcd"), ComponentState::Replacing(r) if matches!(r.stage, Stage::AwaitingServing { .. })),
    );
    // It put back what was deployed, instead.
    world.data = unreadable();
    world.write(FILE, &newer);
    world.run(2);
    held_with(&world, "it is unknown whether");
    assert!(!world.says("by somebody else"), "{}", world.story());
}

#[test]
fn r9_data_that_cannot_be_read_are_no_reason_where_no_newer_etcd_ran() {
    let mut world = adopted();
    world.data = unreadable();
    world.write(FILE, &etcd("3.4.27-0", "--crash"));
    world.run(2);
    world.until(120, "back on 3.4", back_to_3_4);
}

#[test]
fn r9_the_same_image_is_put_back_whatever_it_is_called() {
    for tag in ["latest", "1.2-ours"] {
        let mut world = World::adopted_with(&etcd(tag, ""), of_cluster(5));
        world.write(FILE, &etcd(tag, "--crash"));
        world.run(2);
        world.until(120, "back", back_to_3_4);
    }
    let mut world = World::adopted_with(&etcd("latest", ""), of_cluster(4));
    world.write(FILE, &etcd("3.5.16-0", "--crash"));
    world.run(200);
    held_with(&world, "its image does not name etcd's version");
}

#[test]
fn r9_what_ran_in_between_counts_although_the_image_is_the_same_again() {
    let mut world = adopted();
    // The operator tried 3.5, it raised the version, and they returned with a mistake.
    world.write(FILE, &etcd("3.5.16-0", "--shut-out"));
    world.run(20);
    world.data = of_cluster(5);
    world.write(FILE, &etcd("3.4.23-0", "--crash"));
    world.run(200);
    held_with(&world, "etcd 3.4 does not open data of cluster version 3.5");
    world.assert_untouched();
}

#[test]
fn r9_a_version_that_is_raised_while_the_older_etcd_is_on_its_way_turns_the_rollback_back() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", "--crash"));
    world.until(120, "taken out", |w| !w.files.contains_key(FILE));
    world.data = of_cluster(5);
    world.until(20, "held", |w| matches!(w.state("etcd"), ComponentState::Held(_)));
    held_with(&world, "etcd 3.4 does not open data of cluster version 3.5");
    assert_eq!(world.files[FILE].0, etcd("3.5.16-0", "--crash"), "a slot is never left empty");
    let put_in = |step: &&Step| matches!(step, Step::PutIn { component, number: 1, .. } if *component == id("etcd"));
    assert_eq!(world.steps.iter().filter(put_in).count(), 0, "{:?}", world.steps);
    world.until(60, "the API server is back", |w| {
        w.memory.stopped_apiserver.is_none() && w.files.contains_key("kube-apiserver.yaml")
    });
}

#[test]
fn r9_data_that_cannot_be_read_for_a_moment_turn_no_rollback_back() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", "--crash"));
    world.until(120, "taken out", |w| !w.files.contains_key(FILE));
    world.data = unreadable();
    world.run(1);
    world.data = of_cluster(4);
    world.until(60, "back on 3.4", back_to_3_4);
}

#[test]
fn r9_a_request_for_an_etcd_that_is_older_than_its_data_is_refused_and_changes_nothing() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", ""));
    world.run(20);
    world.data = of_cluster(5);
    world.until(400, "steady on 2", |w| matches!(w.state("etcd"), ComponentState::Steady { good: 2 }));
    for to in [Some(1), None] {
        let refused = world.ask(&Request::Rollback { component: id("etcd"), to }).unwrap_err();
        let Refusal::NotThisGeneration { number: 1, why, .. } = &refused else { panic!("{refused:?}") };
        assert!(why.contains("etcd 3.4 does not open data of cluster version 3.5"), "{why}");
    }
    assert!(matches!(world.state("etcd"), ComponentState::Steady { good: 2 }), "{}", world.state("etcd"));
    world.assert_untouched();
}

#[test]
fn r9_a_request_for_an_older_etcd_that_may_open_the_data_is_granted_and_stops_the_newer_one_first() {
    let mut world = adopted();
    world.write(FILE, &etcd("3.5.16-0", ""));
    world.until(400, "steady on 2", |w| matches!(w.state("etcd"), ComponentState::Steady { good: 2 }));
    world.ask(&Request::Rollback { component: id("etcd"), to: Some(1) }).unwrap();
    world.until(90, "back on 3.4", back_to_3_4);
    let out = world.steps.iter().position(|s| matches!(s, Step::TakeOut { file_name, .. } if file_name == FILE));
    assert!(out.is_some(), "the data are looked at again when nobody writes them: {:?}", world.steps);
}
