//! A manifest that decodes, and that the kubelet's validation refuses (Q16).

use std::sync::Arc;

use super::world::{API, FILE, World, back_to_good, id, manifest, only_the_kubelet_reads};
use crate::model::kubelet_log::{KubeletLog, RefusedManifest};
use crate::model::notice::Notice;
use crate::model::{ComponentState, Step};

fn notice(world: &World) -> Option<String> {
    world.memory.components[&id(API)].notices.get(&Notice::PredictedRefusal).cloned()
}

#[test]
fn q16_what_is_expected_to_be_refused_is_told_at_once_and_undone_only_like_any_other_candidate() {
    let mut world = World::adopted();
    world.write(FILE, &manifest(API, "").replace("spec: {", "spec: {restartPolicy: Sometimes, "));
    world.run(3);
    let told = notice(&world).unwrap();
    for words in [FILE, "spec.restartPolicy: Unsupported value: \"Sometimes\"", "next: "] {
        assert!(told.contains(words), "{words:?} is not in {told:?}");
    }
    world.assert_untouched();
    assert!(!matches!(world.state(API), ComponentState::Replacing(_)), "{}", world.story());
    world.until(900, "back", |w| back_to_good(w, API));
    world.run(2);
    assert_eq!(notice(&world), None, "{}", world.story());
}

#[test]
fn what_the_kubelet_runs_is_not_told_to_be_refused() {
    let mut world = World::adopted();
    let text = manifest(API, "");
    world.write(FILE, &text);
    world.run(60);
    assert_eq!(notice(&world), None);
}

/// The kubelet's line about a file, written this many seconds ago.
fn refuses(world: &mut World, name: &str, seconds_ago: u64) {
    let at = world.wall_at(world.seconds - seconds_ago);
    let path = format!("/etc/kubernetes/manifests/{name}").into();
    let line = RefusedManifest { why: "spec.restartPolicy: Unsupported value".to_owned(), at: Some(at) };
    let log = KubeletLog { refused: [(path, line)].into(), ..KubeletLog::default() };
    world.kubelet_log = Some(Ok(Arc::new(log)));
}

#[test]
fn q16_what_the_kubelets_own_line_refuses_goes_at_once_and_in_place() {
    let bad = manifest(API, "").replace("spec: {", "spec: {restartPolicy: Sometimes, ");
    let cannot_read = only_the_kubelet_reads(API, "");
    for text in [bad, cannot_read] {
        let mut world = World::adopted();
        world.write(FILE, &text);
        world.run(2);
        refuses(&mut world, FILE, 0);
        world.until(6, "back", |w| w.files.get(FILE).is_some_and(|(text, _)| *text == manifest(API, "")));
        let stopped = world.steps.iter().any(|step| matches!(step, Step::StopContainer { .. } | Step::TakeOut { .. }));
        assert!(!stopped, "{:?}", world.steps);
        world.until(600, "known-good", |w| back_to_good(w, API));
    }
}

#[test]
fn q16_a_line_about_an_earlier_write_or_another_file_proves_nothing() {
    for (name, seconds_ago) in [(FILE, 60), ("kube-scheduler.yaml", 0)] {
        let mut world = World::adopted();
        world.write(FILE, &manifest(API, "--v=3"));
        world.run(2);
        refuses(&mut world, name, seconds_ago);
        world.run(20);
        assert!(!matches!(world.state(API), ComponentState::Replacing(_)), "{name}: {}", world.story());
    }
}
