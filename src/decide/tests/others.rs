//! A component of this master is stalled and other masters exist: it is stopped only if they prove that they serve
//! (Q10).

use std::time::Duration;

use super::world::{World, member};
use crate::model::environment::{Endpoint, Location};
use crate::model::etcd::Agreed;
use crate::model::notice::Notice;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::ProcessActivity;
use crate::model::{Reading, Step};

const API: &str = "kube-apiserver";

fn stops(step: &Step, name: &str) -> bool {
    matches!(step, Step::StopContainer { component, .. } if component.name() == name)
}

/// Three members, of which ours hangs; these others read with a quorum meanwhile.
fn ours_hangs(own: u64, members: &[u64], well: &[u64]) -> World {
    let mut world = World::adopted();
    let all: Vec<_> = members.iter().map(|id| member(*id)).collect();
    world.etcd_says(|status| {
        status.members = Some(all.clone());
        status.own.as_mut().unwrap().member = own;
        status.agreed.as_mut().unwrap().member = own;
    });
    world.run(5);
    world.hung.insert("etcd".to_owned(), ProcessActivity::Stopped);
    world.etcd_says(|status| {
        status.members_elsewhere = Some(all.clone());
        let agreed = |id| Agreed { cluster: 0xc1, member: id, term: 5, revision: 1000 };
        status.elsewhere = (!well.is_empty()).then(|| well.iter().map(|id| (*id, agreed(*id))).collect());
    });
    world
}

#[test]
fn q10_a_hung_etcd_is_stopped_where_the_others_prove_that_they_do_without_it_and_in_its_turn() {
    /// Our ID, all, those that agree; and what comes of it.
    type Row = (&'static str, u64, &'static [u64], &'static [u64], Result<(), &'static str>);
    let rows: [Row; 7] = [
        ("all others agree", 1, &[1, 2, 3], &[2, 3], Ok(())),
        (
            "one of them is down as well",
            1,
            &[1, 2, 3],
            &[2],
            Err("1 of the other members have a quorum of 2 without it (not m3"),
        ),
        ("nobody says anything", 1, &[1, 2, 3], &[], Err("it is unknown whether the other masters suffice without it")),
        ("one of four is down, and comes first", 3, &[1, 2, 3, 4, 5], &[1, 4, 5], Err("it is the turn of m2")),
        ("one of four is down, and comes later", 1, &[1, 2, 3, 4, 5], &[2, 3, 4], Ok(())),
        ("two of four are down", 1, &[1, 2, 3, 4, 5], &[2, 3], Err("2 of the other members have a quorum of 3")),
        ("of two members the other is well", 1, &[1, 2], &[2], Err("1 of the other members have a quorum of 2")),
    ];
    for (situation, own, members, well, expected) in rows {
        let mut world = ours_hangs(own, members, well);
        world.run(300);
        match expected {
            Ok(()) => {
                let stopped = world.steps.iter().filter(|step| stops(step, "etcd")).count();
                assert_eq!(stopped, 1, "{situation}: {}", world.story());
            }
            Err(words) => {
                world.assert_untouched();
                assert!(world.says(words) && world.says("left to the kubelet"), "{situation}: {}", world.story());
            }
        }
    }
    // What others of another cluster agree upon is no proof.
    let mut world = ours_hangs(1, &[1, 2, 3], &[2, 3]);
    world.etcd_says(|status| {
        status.elsewhere.iter_mut().flat_map(|all| all.values_mut()).for_each(|agreed| agreed.cluster = 0xbad)
    });
    world.run(300);
    world.assert_untouched();
}

#[test]
fn q10_a_hung_api_server_is_stopped_where_an_address_elsewhere_answers_meanwhile() {
    let rows = [
        ("elsewhere, and answers", Location::Elsewhere, true, true, true),
        ("elsewhere, and has answered before it hung", Location::Elsewhere, true, false, false),
        ("elsewhere, and answers badly", Location::Elsewhere, false, true, false),
        ("of this node", Location::Here, true, true, false),
    ];
    for (situation, place, good, now, stopped) in rows {
        let mut world = World::adopted();
        world.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
        world.run(5);
        let symptom = || Symptom::new(SymptomKind::Refused, "refused");
        world.around.endpoints = vec![Endpoint {
            server: "https://lb:6443".into(),
            used: Default::default(),
            place,
            accepts: crate::model::environment::Accepts::No,
            reading: if good { Reading::Good } else { Reading::Bad(symptom()) },
            at: Duration::from_secs(world.seconds + if now { 40 } else { 0 }),
            bad_for: Duration::ZERO,
        }];
        world.hung.insert(API.to_owned(), ProcessActivity::Stopped);
        world.run(300);
        let count = world.steps.iter().filter(|step| stops(step, API)).count();
        assert_eq!(count, usize::from(stopped), "an address {situation}: {}", world.story());
        if !stopped {
            assert!(world.noticed(API, Notice::StallLeft), "{situation}: {}", world.story());
        }
    }
}

#[test]
fn q10_whoever_does_not_know_whether_other_masters_exist_leaves_it_to_the_kubelet() {
    let mut world = World::adopted();
    world.etcd.clear();
    world.memory.incarnations.clear();
    world.hung.insert(API.to_owned(), ProcessActivity::Stopped);
    world.run(300);
    world.assert_untouched();
    assert!(world.noticed(API, Notice::StallLeft), "{}", world.story());
}
