//! Certificates that are valid on disk, and are not in use as they should be.

use super::world::{World, id};
use crate::model::Digest;
use crate::model::certificate_use::{KubeletCertificate, OlderInUse};
use crate::model::environment::{Certificate, User};
use crate::model::notice::{NodeNotice, Notice};

const SCHEDULER: &str = "kube-scheduler";
const LINK: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

fn certificate(world: &World, path: &str, user: User, seconds: i64) -> Certificate {
    let now = world.moment().wall.as_second();
    Certificate {
        path: path.into(),
        named: [path.into()].into(),
        users: [user].into(),
        subject: "system:node:vm".into(),
        issuer: "kubernetes".into(),
        not_before: now - 365 * 86400,
        not_after: now + seconds,
        authority: false,
        fingerprint: Digest::of(path.as_bytes()),
    }
}

#[test]
fn q17_a_process_that_has_an_older_certificate_is_reported_once_and_not_restarted() {
    let mut world = World::adopted();
    let conf = "/etc/kubernetes/scheduler.conf";
    world.around.certificates = vec![certificate(&world, conf, User::Component(id(SCHEDULER)), 300 * 86400)];
    world.around.older_in_use = vec![OlderInUse {
        component: id(SCHEDULER),
        path: conf.into(),
        renewed: world.moment().wall,
        started: world.wall_at(300),
        ends: Some(world.moment().wall.as_second() + 86400),
    }];
    world.run(60);
    assert_eq!(world.events.len(), 1, "once: {}", world.story());
    let shown = |world: &World| world.memory.components[&id(SCHEDULER)].notices.get(&Notice::OlderCertificate).cloned();
    let text = shown(&world).unwrap();
    assert!(text.contains(conf) && text.contains("crictl ps -q --name kube-scheduler"), "{text}");
    world.around.certificates.clear();
    world.run(5);
    assert!(shown(&world).is_some(), "what could not be read is not over");
    world.around.certificates = vec![certificate(&world, conf, User::Component(id(SCHEDULER)), 300 * 86400)];
    world.around.older_in_use.clear();
    world.run(5);
    assert_eq!(shown(&world), None, "restarted");
    world.assert_untouched();
}

#[test]
fn q17_a_kubelet_whose_certificate_cannot_be_rotated_or_has_ended_gets_the_steps() {
    let mut world = World::adopted();
    world.around.certificates = vec![certificate(&world, LINK, User::Kubelet, 300 * 86400)];
    let rotated = Some("/var/lib/kubelet/pki/kubelet-client-2026-01-31-10-11-12.pem".into());
    world.around.kubelet_certificate = Some(KubeletCertificate::NoLink { path: LINK.into(), rotated });
    world.run(60);
    assert_eq!(world.events.len(), 1, "once: {}", world.story());
    assert!(world.says("`ln -sfn /var/lib/kubelet/pki/kubelet-client-2026-01-31-10-11-12.pem"), "{}", world.story());
    world.around.kubelet_certificate = None;
    world.memory.machine.node_name = "master-1".to_owned();
    for path in [LINK, "/etc/kubernetes/kubelet.conf"] {
        world.around.certificates = vec![certificate(&world, path, User::Kubelet, -1)];
        world.events.clear();
        world.run(5);
        assert!(world.says("--client-name system:node:master-1"), "{path}: {}", world.story());
    }
    assert!(!world.memory.notices.contains_key(&NodeNotice::KubeletCertificate));
    world.assert_untouched();
}
