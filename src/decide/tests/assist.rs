//! Outages that are nobody's fault: what is shortened, and what is left to the kubelet.

use super::world::{API, FILE, Up, World, id, manifest, member};
use crate::model::environment::{Accepts, Endpoint, Location, User};
use crate::model::notice::Notice;
use crate::model::policy::Mode;
use crate::model::{Reading, Step};

const KCM: &str = "kube-controller-manager";

/// What is different about a situation.
type Prepare = fn(&mut World);

/// How often a container of a component was stopped, or removed.
fn acts(world: &World, kind: &str, name: &str) -> usize {
    world.steps.iter().filter(|step| step.kind() == kind && step.component() == Some(&id(name))).count()
}

/// A change of kube-apiserver whose old process runs on for 30 s.
fn change(prepare: Prepare) -> World {
    let mut world = World::adopted();
    world.lingers = 30;
    prepare(&mut world);
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(25);
    world
}

#[test]
fn a_replaced_api_server_that_has_closed_its_port_is_stopped_once_and_nothing_else_is() {
    let rows: [(&str, Prepare, usize); 7] = [
        ("closed its port", |_| (), 1),
        (
            "where other masters exist: that process has ended its service by itself",
            |w| {
                w.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
            },
            1,
        ),
        ("ends by itself at once", |w| w.lingers = 1, 0),
        ("assist = false", |w| w.policy.assist = false, 0),
        (
            "kubeadm is at work",
            |w| {
                w.busy.push(crate::model::observation::BusyProcess {
                    kind: crate::model::observation::BusyKind::Kubeadm,
                    pid: 9,
                    command: "kubeadm upgrade".to_owned(),
                });
            },
            0,
        ),
        (
            "as often as the limit allows in this hour",
            |w| {
                let limit = w.policy.actions_per_hour;
                let record = w.memory.components.get_mut(&id(API)).unwrap();
                record.assists.done = vec![std::time::Duration::ZERO; limit].into();
            },
            0,
        ),
        (
            "the actions of the hour are used up, which are counted apart",
            |w| {
                let limit = w.policy.actions_per_hour;
                let record = w.memory.components.get_mut(&id(API)).unwrap();
                record.actions = vec![std::time::Duration::ZERO; limit].into();
            },
            1,
        ),
    ];
    for (situation, prepare, stopped) in rows {
        let world = change(prepare);
        assert_eq!(acts(&world, "stop-container", API), stopped, "{situation}: {}", world.story());
        let stops = |step: &Step| matches!(step, Step::StopContainer { .. }) && step.component() != Some(&id(API));
        assert!(!world.steps.iter().any(stops), "{situation}: {}", world.story());
        assert!(!world.noticed(API, Notice::WouldAssist), "{situation}: {}", world.story());
        let grace = |step: &Step| matches!(step, Step::StopContainer { grace, .. } if !grace.is_zero());
        assert!(!world.steps.iter().any(grace), "{situation}: it is killed at once");
    }
    let observed = change(|w| w.policy.mode = Mode::Observe);
    observed.assert_untouched();
    assert!(observed.noticed(API, Notice::WouldAssist), "{}", observed.story());
}

#[test]
fn an_api_server_that_is_stopped_after_its_change_serves_sooner_and_loses_no_trial() {
    let mut world = World::adopted();
    world.lingers = 30;
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(2);
    let took = world.until(60, "serves again", |w| w.serves(API));
    assert!(took < 20, "{took} s: {}", world.story());
    assert_eq!(world.crashes(API), Some(0), "{}", world.story());
}

#[test]
fn never_5_one_refused_connection_and_a_port_that_was_never_open_stop_nothing() {
    // Its old process is found to refuse: whether it ever served is unknown.
    let mut world = World::adopted();
    world.lingers = 30;
    world.write(FILE, &manifest(API, "--v=3"));
    world.seconds += 1;
    world.kubelet();
    world.restart_agent();
    world.run(20);
    assert_eq!(acts(&world, "stop-container", API), 0, "{}", world.story());
    // It ends within two seconds of the first refusal.
    let mut world = World::adopted();
    world.lingers = 2;
    world.write(FILE, &manifest(API, "--v=3"));
    world.run(20);
    assert_eq!(acts(&world, "stop-container", API), 0, "{}", world.story());
}

/// A change of etcd below an API server that runs on without it.
fn change_of_etcd(prepare: Prepare) -> World {
    let mut world = World::new();
    let text = manifest(API, "--outlive");
    world.files.get_mut(FILE).unwrap().0 = text.clone();
    world.pods.get_mut(&id(API)).unwrap().text = text;
    world.run(90);
    world.steps.clear();
    world.events.clear();
    prepare(&mut world);
    world.run(2);
    world.write("etcd.yaml", &manifest("etcd", "--v=3"));
    world.run(11);
    world
}

fn kubelet_asks(world: &mut World, place: Location) {
    world.around.endpoints = vec![Endpoint {
        server: "https://192.0.2.9:6443".to_owned(),
        used: [(User::Kubelet, "/etc/kubernetes/kubelet.conf".into())].into(),
        place,
        accepts: Accepts::Yes,
        reading: Reading::Good,
        at: std::time::Duration::ZERO,
        bad_for: std::time::Duration::ZERO,
    }];
}

#[test]
fn q2_q10_the_api_server_is_stopped_once_around_a_change_of_the_only_etcd() {
    let rows: [(&str, Prepare, usize); 5] = [
        ("the only member", |_| (), 1),
        (
            "three members",
            |w| {
                w.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
            },
            0,
        ),
        ("the kubelet asks another API server", |w| kubelet_asks(w, Location::Elsewhere), 0),
        ("the kubelet asks an address of this node", |w| kubelet_asks(w, Location::Here), 1),
        ("assist = false", |w| w.policy.assist = false, 0),
    ];
    for (situation, prepare, stopped) in rows {
        let mut world = change_of_etcd(prepare);
        assert_eq!(acts(&world, "stop-container", API), stopped, "{situation}: {}", world.story());
        assert_eq!(acts(&world, "stop-container", "etcd"), 0, "never an etcd");
        world.restart_agent();
        world.run(60);
        assert_eq!(acts(&world, "stop-container", API), stopped, "{situation}, once: {}", world.story());
    }
}

#[test]
fn an_etcd_that_crashes_or_an_api_server_that_reads_elsewhere_stops_no_api_server() {
    let world = change_of_etcd(|w| {
        let pod = w.pods.get_mut(&id("etcd")).unwrap();
        (pod.up, pod.next_start) = (Up::Exited, w.seconds + 60);
        w.run(20);
    });
    let before = world.steps.iter().filter(|step| step.touches_node()).count();
    assert!(before <= 1, "only for the change: {:?}", world.steps);
    let mut world = World::new();
    let text = manifest(API, "--outlive").replace("127.0.0.1:2379", "192.0.2.9:2379");
    world.files.get_mut(FILE).unwrap().0 = text.clone();
    world.pods.get_mut(&id(API)).unwrap().text = text;
    world.run(90);
    world.steps.clear();
    world.write("etcd.yaml", &manifest("etcd", "--v=3"));
    world.run(11);
    assert_eq!(acts(&world, "stop-container", API), 0, "{}", world.story());
}

/// The API server is away for a minute, and what depends on it restarts meanwhile with longer and longer waits.
fn outage(world: &mut World) {
    let back = world.seconds + 60;
    let pod = world.pods.get_mut(&id(API)).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, back);
    // As often as the kubelet has restarted it by then.
    world.pods.get_mut(&id(KCM)).unwrap().attempt = 3;
    world.run(62);
}

/// How long the controller manager is away after such an outage, and what was removed meanwhile.
fn after_outage(prepare: Prepare) -> (u64, usize, World) {
    let mut world = World::adopted();
    prepare(&mut world);
    outage(&mut world);
    let back = world.seconds + 80;
    let pod = world.pods.get_mut(&id(KCM)).unwrap();
    assert_ne!(pod.up, Up::Running, "its back-off is longer than the outage");
    pod.next_start = back;
    let took = world.until(120, "it runs again", |w| w.pods[&id(KCM)].up == Up::Running);
    (took, acts(&world, "remove-container", KCM), world)
}

#[test]
fn a_back_off_from_an_outage_that_is_over_is_ended_once() {
    let (took, removed, mut world) = after_outage(|_| ());
    assert!(took <= 20 && removed == 1, "{took} s: {}", world.story());
    assert!(world.says("its log ends with"), "the log goes with the container: {}", world.story());
    world.run(90);
    outage(&mut world);
    world.run(80);
    assert_eq!(acts(&world, "remove-container", KCM), 1, "once in ten minutes: {}", world.story());

    let (took, removed, world) = after_outage(|w| w.policy.assist = false);
    assert!(took > 60 && removed == 0, "{took} s: {}", world.story());
    let (_, removed, world) = after_outage(|w| w.policy.mode = Mode::Observe);
    assert!(removed == 0 && world.noticed(KCM, Notice::WouldAssist), "{}", world.story());
}

#[test]
fn q12_a_back_off_that_a_component_earned_by_itself_is_left() {
    // Its API server served all the time.
    let mut world = World::adopted();
    let crash = |world: &mut World, wait: u64| {
        let now = world.moment().wall;
        let back = world.seconds + wait;
        let pod = world.pods.get_mut(&id(KCM)).unwrap();
        (pod.up, pod.next_start, pod.ended) = (Up::Exited, back, Some(now));
    };
    crash(&mut world, 60);
    world.run(50);
    assert_eq!(acts(&world, "remove-container", KCM), 0, "{}", world.story());
    // It ran again after the outage, and then crashed.
    let mut world = World::adopted();
    outage(&mut world);
    world.until(90, "it runs again", |w| w.pods[&id(KCM)].up == Up::Running);
    let removed = acts(&world, "remove-container", KCM);
    world.run(5);
    world.memory.components.get_mut(&id(KCM)).unwrap().assists = Default::default();
    crash(&mut world, 60);
    world.run(50);
    assert_eq!(acts(&world, "remove-container", KCM), removed, "{}", world.story());
}
