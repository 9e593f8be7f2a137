//! Faults of the environment: reported once, with the next step, and never a reason to change the node.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{Up, World, id, manifest};
use crate::model::environment::{Accepts, Certificate, ClockJump, Disk, DiskUse, Endpoint, Location, Stall, User};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::observation::{NextManifests, Renamed};
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::store_fault::{Database, FaultKind, StoreFault};
use crate::model::verdict::Cause;
use crate::model::{ComponentState, Digest, Reading, Trust};

const API: &str = "kube-apiserver";
const FILE: &str = "kube-apiserver.yaml";
const CRT: &str = "/etc/kubernetes/pki/apiserver.crt";
const DAY: i64 = 24 * 3600;

/// An API server with the flag of its certificate, known-good.
fn with_certificate(extra: &str) -> String {
    manifest(API, extra)
        .replace("spec: {", "spec: {volumes: [{name: k, hostPath: {path: /etc/kubernetes/pki}}], ")
        .replace("containers: [{", "containers: [{volumeMounts: [{name: k, mountPath: /etc/kubernetes/pki}], ")
        .replace(&format!("command: [{API}, "), &format!("command: [{API}, '--tls-cert-file={CRT}', "))
}

fn adopted() -> World {
    let mut world = World::new();
    let text = with_certificate("");
    world.files.get_mut(FILE).unwrap().0.clone_from(&text);
    world.pods.get_mut(&id(API)).unwrap().text = text;
    world.run(90);
    assert!(matches!(world.state(API), ComponentState::Steady { good: 1 }), "{}", world.state(API));
    world.events.clear();
    world.steps.clear();
    world
}

/// A certificate of a year that ends so many seconds from now.
fn ending(world: &World, path: &str, seconds: i64) -> Certificate {
    let now = world.moment().wall.as_second();
    Certificate {
        path: path.into(),
        named: [path.into()].into(),
        users: [User::Component(id(API))].into(),
        subject: API.into(),
        issuer: "kubernetes".into(),
        not_before: now + seconds - 365 * DAY,
        not_after: now + seconds,
        authority: false,
        fingerprint: Digest::of(path.as_bytes()),
    }
}

fn told(world: &World, words: &str) -> usize {
    world.events.iter().filter(|event| event.to_string().contains(words)).count()
}

#[test]
fn r15_a_certificate_is_told_of_once_at_each_threshold_and_after_its_end_with_the_next_step() {
    let mut world = adopted();
    for (seconds, words) in [
        (31 * DAY, None),
        (29 * DAY, Some("ends within 30 days")),
        (13 * DAY, Some("ends within 14 days")),
        (6 * DAY, Some("ends within 7 days")),
        (DAY / 2, Some("ends within a day")),
        (-1, Some("ended at")),
    ] {
        world.events.clear();
        world.around.certificates = vec![ending(&world, CRT, seconds)];
        world.run(60);
        assert_eq!(world.events.len(), usize::from(words.is_some()), "{seconds} s to go: {}", world.story());
        let step = words.is_none() || world.says("`kubeadm certs renew apiserver`, then restart kube-apiserver");
        assert!(step && words.is_none_or(|words| world.says(words)), "{seconds} s to go: {}", world.story());
    }
    world.events.clear();
    world.restart_agent();
    world.run(60);
    assert_eq!(told(&world, "ended at"), 0, "a restart is no news: {}", world.story());
    world.around.certificates = vec![ending(&world, CRT, 300 * DAY)];
    world.run(5);
    assert!(!world.memory.notices.keys().any(|about| matches!(about, NodeNotice::Certificate(_))), "renewed");
    world.assert_untouched();
}

#[test]
fn a_certificate_whose_day_has_not_come_asks_for_the_clock() {
    let mut world = adopted();
    world.around.certificates = vec![ending(&world, CRT, 400 * DAY)];
    world.run(5);
    assert!(world.says("is not valid before") && world.says("whether the clock of this node is right"));
    world.around.clock_jump = Some(ClockJump { seconds: -7200 });
    world.run(60);
    assert_eq!(told(&world, "the clock jumped back by 7200 s"), 1, "{}", world.story());
    world.assert_untouched();
}

#[test]
fn n16_nothing_is_rolled_back_for_an_expired_certificate_and_a_renewed_one_ends_the_truce() {
    let mut world = adopted();
    world.around.certificates = vec![ending(&world, CRT, -1)];
    world.write(FILE, &with_certificate("--crash"));
    world.run(1200);
    world.assert_untouched();
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}", world.state(API));
    assert_eq!(world.crashes(API), Some(0), "{}", world.story());
    world.around.certificates = vec![ending(&world, CRT, 300 * DAY)];
    world
        .until(400, "known-good back", |w| matches!(w.state(API), ComponentState::Steady { good: 1 }) && w.serves(API));
}

#[test]
fn n16_without_a_change_an_expired_certificate_is_named_and_nothing_loops() {
    let mut world = adopted();
    world.around.certificates = vec![ending(&world, CRT, -1)];
    let pod = world.pods.get_mut(&id(API)).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, u64::MAX);
    world.run(1200);
    world.assert_untouched();
    assert!(
        world.says("waiting until its cause is gone: a certificate is expired or not yet valid"),
        "{}",
        world.story()
    );
}

#[test]
fn n16_an_expired_certificate_that_a_candidate_brought_is_its_own_fault() {
    let mut world = adopted();
    let other = "/etc/kubernetes/pki/other.crt";
    world.around.certificates = vec![ending(&world, CRT, 300 * DAY), ending(&world, other, -1)];
    world.write(FILE, &with_certificate("--crash").replace(CRT, other));
    world.run(2);
    world
        .until(120, "known-good back", |w| matches!(w.state(API), ComponentState::Steady { good: 1 }) && w.serves(API));
    assert!(matches!(world.generation(API, 2).trust, Trust::Quarantined { .. }), "{}", world.story());
}

fn disk(what: DiskUse, path: &str, free: u64) -> Disk {
    let holds = [(what, path.into())].into();
    Disk { holds, size: 100 << 30, available: free, free, inodes: 1000, inodes_free: 1000, read_only: false }
}

#[test]
fn a_full_disk_is_no_fault_of_a_candidate_and_a_broken_manifest_is_put_back_all_the_same() {
    let mut world = World::adopted();
    world.around.disks = vec![disk(DiskUse::Etcd, "/var/lib/etcd", 1000)];
    world.write("etcd.yaml", &manifest("etcd", "--crash"));
    world.run(1200);
    world.assert_untouched();
    assert_eq!(world.crashes("etcd"), Some(0), "{}", world.story());
    assert!(world.says("no space is left on the disk of etcd's data (/var/lib/etcd)"), "{}", world.story());
    world.write("etcd.yaml", "a: [");
    world.run(2);
    world
        .until(300, "etcd back", |w| matches!(w.state("etcd"), ComponentState::Steady { good: 1 }) && w.serves("etcd"));
}

/// What no etcd can start over: its WAL ends too early.
fn fault() -> StoreFault {
    StoreFault {
        kind: FaultKind::WalIncomplete { what: "the entries 3 to 4 are missing".to_owned() },
        path: "/var/lib/etcd/member/snap/db".into(),
        database: Database::Whole { revision: 42 },
        others: 0,
    }
}

#[test]
fn q12_data_that_no_etcd_starts_over_are_no_fault_of_a_candidate_and_nothing_is_stopped_for_them() {
    let mut world = World::adopted();
    world.around.store_faults = [("/var/lib/etcd".into(), fault())].into();
    world.write("etcd.yaml", &manifest("etcd", "--crash"));
    world.run(1200);
    world.assert_untouched();
    assert!(world.says("not held against it: etcd cannot start over its data"), "{}", world.story());
    assert!(!matches!(world.generation("etcd", 2).trust, Trust::Quarantined { .. }), "{}", world.story());
}

#[test]
fn an_etcd_that_cannot_start_over_its_data_is_told_of_with_the_next_step_as_soon_as_they_were_read() {
    let mut world = World::adopted();
    let notice = |world: &World| world.memory.components[&id("etcd")].notices.get(&Notice::Unhealthy).cloned();
    world.pods.get_mut(&id("etcd")).unwrap().text = manifest("etcd", "--crash");
    world.pods.get_mut(&id("etcd")).unwrap().up = Up::Exited;
    world.until(60, "its trouble is told", |w| notice(w).is_some());
    assert!(!notice(&world).unwrap().contains("--skip-hash-check"));
    world.around.store_faults = [("/var/lib/etcd".into(), fault())].into();
    world.until(60, "the cause is told", |w| notice(w).is_some_and(|text| text.contains("--skip-hash-check")));
    world.run(600);
    world.assert_untouched();
    assert_eq!(world.events.iter().filter(|event| event.to.contains("--skip-hash-check")).count(), 1, "said once");
}

#[test]
fn a_disk_on_the_edge_is_told_of_once() {
    const GIB: u64 = 1 << 30;
    let mut world = World::adopted();
    for round in 0..20 {
        let free = if round % 2 == 0 { 9 * GIB } else { 11 * GIB };
        world.around.disks = vec![disk(DiskUse::Kubelet, "/var/lib/kubelet", free)];
        world.run(5);
    }
    assert_eq!(told(&world, "little space"), 1, "{}", world.story());
    world.around.disks = vec![Disk { inodes_free: 10, ..disk(DiskUse::Kubelet, "/var/lib/kubelet", 50 * GIB) }];
    world.run(5);
    assert!(world.says("few inodes"), "{}", world.story());
    world.around.disks.clear();
    world.run(5);
    assert_eq!(world.memory.notices.len(), 1, "what could not be asked is not over");
    world.around.disks = vec![disk(DiskUse::Kubelet, "/var/lib/kubelet", 50 * GIB)];
    world.run(5);
    assert_eq!(world.memory.notices.len(), 0);
    world.assert_untouched();
}

#[test]
fn pressure_is_told_of_once_while_it_lasts() {
    let mut world = World::adopted();
    let stalled = |full_60| Some(Stall { full_60, ..Stall::default() });
    for full in [12.0, 7.0, 30.0, 6.0] {
        world.around.pressure.memory = stalled(full);
        world.around.pressure.io = stalled(full);
        world.run(5);
    }
    assert_eq!(told(&world, "waits for memory"), 1, "{}", world.story());
    assert_eq!(told(&world, "waits for its disks"), 0, "disks are given more: {}", world.story());
    world.around.pressure.memory = stalled(1.0);
    world.run(5);
    assert_eq!(world.memory.notices.len(), 0);
    world.assert_untouched();
}

#[test]
fn r17_a_dead_balancer_is_told_from_a_dead_api_server() {
    let mut world = World::adopted();
    let endpoint = |bad_for, words: &str| Endpoint {
        server: "https://lb:6443".into(),
        used: [
            (User::Component(id("kube-scheduler")), "/etc/kubernetes/scheduler.conf".into()),
            (User::Kubelet, "/etc/kubernetes/kubelet.conf".into()),
        ]
        .into(),
        place: Location::Elsewhere,
        accepts: Accepts::No,
        reading: Reading::Bad(Symptom::new(SymptomKind::Refused, words)),
        at: Duration::ZERO,
        bad_for: Duration::from_secs(bad_for),
    };
    world.around.endpoints = vec![endpoint(2, "refused")];
    world.run(5);
    assert_eq!(told(&world, "https://lb:6443"), 0, "one bad answer is none");
    for words in ["refused", "timed out", "refused"] {
        world.around.endpoints = vec![endpoint(60, words)];
        world.run(5);
    }
    let words = "https://lb:6443, the API server address of kube-scheduler, kubelet, does not answer: it refuses connections (refused)";
    assert_eq!(told(&world, words), 1, "{}", world.story());
    let pod = world.pods.get_mut(&id("kube-scheduler")).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, u64::MAX);
    world.run(600);
    assert!(world.noticed("kube-scheduler", Notice::Unhealthy), "{}", world.story());
    let cause = &world.judged.components[&id("kube-scheduler")].cause;
    assert!(matches!(cause, Some(Cause::Endpoint { .. })), "{cause:?}");
    let shown = |world: &World| world.memory.notices.keys().any(|about| matches!(about, NodeNotice::Endpoint(_)));
    assert!(shown(&world));
    let api = world.pods.get_mut(&id(API)).unwrap();
    (api.up, api.next_start) = (Up::Exited, u64::MAX);
    world.run(5);
    assert!(!shown(&world), "without the API server of this node it is no news of the balancer's");
    world.pods.get_mut(&id(API)).unwrap().next_start = 0;
    world.run(30);
    assert!(shown(&world));
    world.around.endpoints.clear();
    world.pods.get_mut(&id("kube-scheduler")).unwrap().next_start = 0;
    world.run(5);
    assert!(!shown(&world));
    world.assert_untouched();
}

#[test]
fn q17_what_a_kubelet_finds_at_its_next_start_is_reported_before_it() {
    let mut world = World::adopted();
    let renamed = Renamed { now: "m9".into(), by: "the host name".into(), joined: "master-1".into() };
    let next = NextManifests { dir: "/etc/kubernetes/other".into(), named_by: "/var/lib/kubelet/config.yaml".into() };
    world.around.renamed = Some(renamed);
    world.around.next_manifests = Some(next);
    world.run(3);
    for about in [NodeNotice::NodeName, NodeNotice::StaticPodPath] {
        assert!(world.memory.notices.contains_key(&about), "{about}: {:?}", world.memory.notices);
    }
    (world.around.renamed, world.around.next_manifests) = (None, None);
    world.run(3);
    assert_eq!(world.memory.notices, BTreeMap::new());
    world.assert_untouched();
}
