//! A manifest that decodes, and that the kubelet's validation refuses (Q16).

use super::world::{API, FILE, World, back_to_good, id, manifest};
use crate::model::ComponentState;
use crate::model::notice::Notice;

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
