//! Restarts the kubelet once where it starts no further attempt of a container whose back-off is over: its back-off is in its
//! own memory, and a restart begins without any.

use super::draft::Draft;
use super::kubelet;
use crate::model::verdict::Cause;
use crate::model::{ComponentId, ComponentState, Verdict};

pub(super) fn step(draft: &mut Draft<'_>) {
    let missed = |id: &&ComponentId| {
        let steady = draft.record(id).is_some_and(|record| matches!(record.state, ComponentState::Steady { .. }));
        let cause = draft.assessment(id).and_then(|assessment| assessment.cause.as_ref());
        steady && matches!(cause, Some(Cause::NoAttempt { .. }))
    };
    let Some(id) = draft.memory.components.keys().find(missed).cloned() else { return };
    // Once: what one restart does not cure, another does not. A candidate is rolled back, which makes another pod.
    let answers = draft.scene.judged.kubelet.verdict == Verdict::Healthy;
    if draft.hold.is_some()
        || !answers
        || !draft.memory.kubelet_restarts.is_empty()
        || !kubelet::may_restart_kubelet(draft)
    {
        return;
    }
    kubelet::restart_kubelet(
        draft,
        &id,
        "it starts no further attempt of the container, although the back-off is over",
    );
}
