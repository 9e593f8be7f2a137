//! A liveness probe of the kubelet that fails while the process answers lastgood.

use std::time::Duration;

use super::world::{API, Up, World, id};
use crate::model::kubelet_probe::{AnswersUs, FailingProbe};
use crate::model::notice::Notice;

fn failing(seconds: u64, answers_us: AnswersUs) -> FailingProbe {
    FailingProbe {
        field: "livenessProbe",
        target: "https://192.0.2.10:6443/livez".to_owned(),
        path: "/livez".to_owned(),
        why: "it answers 401 or 403, and the kubelet comes without credentials".to_owned(),
        period: Duration::from_secs(10),
        threshold: 8,
        failing_for: Duration::from_secs(seconds),
        answers_us,
    }
}

#[test]
fn q17_a_probe_that_ends_a_healthy_container_is_reported_once_and_until_it_succeeds() {
    let mut world = World::adopted();
    let shown = |world: &World| world.memory.components[&id(API)].notices.contains_key(&Notice::KubeletProbe);
    let rows = [
        ("it failed once", failing(5, AnswersUs::Yes), false),
        ("the process answers nobody", failing(60, AnswersUs::No), false),
        ("it fails while the process answers", failing(60, AnswersUs::Yes), true),
        ("the kubelet has ended it", failing(90, AnswersUs::No), true),
    ];
    for (situation, probe, reported) in rows {
        world.around.failing_probes = [(id(API), probe)].into();
        world.run(5);
        assert_eq!(shown(&world), reported, "{situation}: {}", world.story());
    }
    assert_eq!(world.events.len(), 1, "once: {}", world.story());
    assert!(world.says("kube-apiserver.yaml"), "{}", world.story());
    let says =
        |world: &World| world.judged.components[&id(API)].evidence.iter().any(|line| line.contains("livenessProbe"));
    assert!(!says(&world), "what does not answer has no evidence of its health");
    world.around.failing_probes = [(id(API), failing(100, AnswersUs::Yes))].into();
    world.run(5);
    assert!(says(&world) && world.serves(API));
    world.around.failing_probes.clear();
    world.run(5);
    assert!(!shown(&world));
    world.assert_untouched();
}

#[test]
fn q17_the_probe_that_counts_an_alarm_comes_before_the_steps_against_the_alarm() {
    let mut world = World::adopted();
    let why =
        "http://127.0.0.1:2381/health answered 503: {\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}".to_owned();
    let probe = FailingProbe { path: "/health".to_owned(), why, ..failing(60, AnswersUs::Yes) };
    world.around.failing_probes = [(id("etcd"), probe)].into();
    super::members::alarm(&mut world, crate::model::etcd::AlarmKind::NoSpace, 1);
    world.run(5);
    let text = &world.memory.components[&id("etcd")].notices[&Notice::EtcdNoSpace];
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(at("/health?exclude=NOSPACE&serializable=true") < at("etcd compact"), "{text}");
    assert!(at("etcd compact") < at("etcd defrag") && at("etcd defrag") < at("etcd disarm"), "{text}");
    let pod = world.pods.get_mut(&id("etcd")).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, world.seconds + 20);
    world.run(60);
    world.assert_untouched();
}
