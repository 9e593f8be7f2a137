//! Addresses that go, and that candidates bring.

use std::time::Duration;

use super::world::{API, FOUR, Up, World, id, manifest};
use crate::model::addresses::{AddressUse, Addresses, Held, Missing, Naming, Raised};
use crate::model::environment::{Accepts, Endpoint, Location, Trouble, User};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::verdict::Cause;
use crate::model::{ComponentState, Reading, Trust};

const PEERS: &str = "--listen-peer-urls=https://192.0.2.10:2380";

/// No interface has this address, which this component's manifest binds.
fn missing(address: &str, component: &str, seconds: u64) -> Addresses {
    let naming = Naming {
        file: format!("{component}.yaml").into(),
        flag: "--listen-peer-urls".to_owned(),
        user: User::Component(id(component)),
        how: AddressUse::Bound,
    };
    let missing = Missing {
        address: address.parse().unwrap(),
        named: [naming].into(),
        certificates: 2,
        place: Some(("eth0".to_owned(), 24)),
        gone_for: Duration::from_secs(seconds),
    };
    let held = Held { address: "10.99.0.7".parse().unwrap(), prefix: 24, device: "eth0".to_owned() };
    Addresses { held: vec![held], missing: vec![missing], ..Addresses::default() }
}

/// A node whose etcd listens at 192.0.2.10.
fn adopted() -> World {
    let mut world = World::new();
    let text = manifest("etcd", PEERS);
    world.files.get_mut("etcd.yaml").unwrap().0.clone_from(&text);
    world.pods.get_mut(&id("etcd")).unwrap().text = text;
    world.run(90);
    assert!(matches!(world.state("etcd"), ComponentState::Steady { good: 1 }), "{}", world.state("etcd"));
    world.events.clear();
    world.steps.clear();
    world
}

fn ends(world: &mut World, name: &str) {
    let pod = world.pods.get_mut(&id(name)).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, u64::MAX);
}

fn address_of(world: &World, name: &str) -> bool {
    matches!(world.judged.components[&id(name)].cause, Some(Cause::Address { .. }))
}

#[test]
fn q17_an_address_is_reported_when_it_goes_and_is_the_cause_of_all_that_end_for_it() {
    let mut world = adopted();
    world.around.addresses = missing("192.0.2.10", "etcd", 1);
    world.run(1);
    let about = NodeNotice::Address("192.0.2.10".parse().unwrap());
    assert!(!world.memory.notices.contains_key(&about), "a network service may have been restarted");
    world.around.addresses = missing("192.0.2.10", "etcd", 60);
    world.run(5);
    let notices = world.events.len();
    assert_eq!(notices, 1, "once, while everything serves: {}", world.story());
    assert!(world.says("`ip addr add 192.0.2.10/24 dev eth0`"), "{}", world.story());
    assert!(FOUR.iter().all(|name| !address_of(&world, name)), "they are healthy");
    ends(&mut world, "etcd");
    world.run(900);
    for name in FOUR {
        assert!(address_of(&world, name), "{name}: {:?}", world.judged.components[&id(name)].cause);
    }
    world.assert_untouched();
    world.around.addresses.missing.clear();
    world.pods.get_mut(&id("etcd")).unwrap().next_start = 0;
    world.run(60);
    assert!(world.serves(API) && !world.memory.notices.contains_key(&about), "{}", world.story());
}

#[test]
fn q12_an_address_counts_against_the_candidate_that_brought_it_and_no_other() {
    // The candidate, the address that is missing, and whether the candidate is at fault.
    let rows = [
        (manifest("etcd", PEERS).replace("--data-dir", "--crash, --data-dir"), "192.0.2.10", false),
        (
            manifest("etcd", &PEERS.replace(".10:", ".11:")).replace("--data-dir", "--crash, --data-dir"),
            "192.0.2.11",
            true,
        ),
    ];
    for (candidate, address, at_fault) in rows {
        let mut world = adopted();
        world.around.addresses = missing(address, "etcd", 60);
        world.write("etcd.yaml", &candidate);
        world.run(600);
        let quarantined = world.memory.components[&id("etcd")]
            .generations
            .values()
            .any(|generation| matches!(generation.trust, Trust::Quarantined { .. }));
        assert_eq!(quarantined, at_fault, "{address}: {}", world.story());
        if !at_fault {
            world.assert_untouched();
            assert!(matches!(world.state("etcd"), ComponentState::Probation(_)), "{}", world.state("etcd"));
        }
    }
}

/// The way of the kubelet and of the scheduler to an API server, which has answered badly for a minute.
fn endpoint(kind: SymptomKind, accepts: Accepts) -> Endpoint {
    Endpoint {
        server: "https://10.88.0.9:6443".to_owned(),
        used: [(User::Kubelet, "/etc/kubernetes/kubelet.conf".into())].into(),
        place: Location::Elsewhere,
        accepts,
        reading: Reading::Bad(Symptom::new(kind, "no answer")),
        at: Duration::ZERO,
        bad_for: Duration::from_secs(60),
    }
}

#[test]
fn q17_a_balancer_that_is_silent_is_reported_also_while_no_api_server_serves() {
    use Accepts::{No, Yes};
    use SymptomKind::{Broken, Refused, TimedOut, WrongBody};
    // How it fails, what that is, and whether it is reported without an API server of this node.
    let rows = [
        (TimedOut, Yes, Trouble::Silent, true),
        (TimedOut, No, Trouble::Unreachable, false),
        (Broken, Yes, Trouble::Closes, false),
        (Broken, No, Trouble::Unreachable, false),
        (Refused, No, Trouble::Refuses, false),
        (WrongBody, Yes, Trouble::Wrong, false),
    ];
    let about = NodeNotice::Endpoint("https://10.88.0.9:6443".to_owned());
    for (kind, accepts, trouble, alone) in rows {
        assert_eq!(endpoint(kind, accepts).trouble(), Some(trouble));
        let mut world = World::adopted();
        ends(&mut world, API);
        world.run(30);
        world.events.clear();
        world.around.endpoints = vec![endpoint(kind, accepts)];
        world.around.addresses.api_server = Some("https://10.88.0.7:6443".to_owned());
        world.run(60);
        assert_eq!(world.memory.notices.contains_key(&about), alone, "{kind:?}, {accepts:?}: {}", world.story());
        assert_eq!(
            world.says("to https://10.88.0.7:6443, and `systemctl restart kubelet`"),
            alone,
            "{}",
            world.story()
        );
        world.pods.get_mut(&id(API)).unwrap().next_start = 0;
        world.run(60);
        let text = world.memory.notices[&about].clone();
        assert!(
            text.contains(&trouble.to_string()) && text.contains("while the API server of this node serves"),
            "{text}"
        );
        world.assert_untouched();
    }
}

#[test]
fn q17_a_virtual_ip_that_its_pod_has_not_raised_is_named_with_what_it_waits_for() {
    let rows = [
        (
            Some("dial tcp 10.88.0.9:6443: i/o timeout"),
            "waits for the very address",
            "`ip addr add 10.88.0.9/32 dev eth0`",
        ),
        (Some("leases is forbidden: User \"kubernetes-admin\""), "is denied the rights", "super-admin.conf"),
        (None, "has not raised it", "`ip addr add 10.88.0.9/32 dev eth0`"),
    ];
    for (words, how, next) in rows {
        let mut world = World::adopted();
        world.write("kube-vip.yaml", &manifest("kube-vip", ""));
        world.run(120);
        world.events.clear();
        world.steps.clear();
        let raised = |here| Raised {
            server: "https://10.88.0.9:6443".to_owned(),
            address: "10.88.0.9".parse().unwrap(),
            used: [(User::Kubelet, "/etc/kubernetes/kubelet.conf".into())].into(),
            by: id("kube-vip"),
            here,
            words: words.map(str::to_owned),
        };
        let held = Held { address: "10.88.0.7".parse().unwrap(), prefix: 24, device: "eth0".to_owned() };
        world.around.addresses = Addresses { held: vec![held], raised: vec![raised(false)], ..Addresses::default() };
        world.run(30);
        let shown =
            |world: &World| world.memory.components[&id("kube-vip")].notices.get(&Notice::AddressNotRaised).cloned();
        assert_eq!(shown(&world), None, "another master may hold it: it answers");
        world.around.endpoints = vec![endpoint(SymptomKind::TimedOut, Accepts::No)];
        world.run(30);
        let text = shown(&world).unwrap();
        assert!(text.contains(how) && text.contains(next), "{text}");
        assert!(world.memory.notices.values().any(|text| text.contains(next)), "{}", world.story());
        world.assert_untouched();
        world.around.addresses.raised = vec![raised(true)];
        world.around.endpoints.clear();
        world.run(5);
        assert_eq!(shown(&world), None);
    }
}
