//! Restarts the kubelet once where it starts no further attempt of a container whose back-off is over: its back-off is in its
//! own memory, and a restart begins without any.

use super::draft::Draft;
use super::kubelet;
use crate::model::memory::Record;
use crate::model::verdict::Cause;
use crate::model::{ComponentId, ComponentState, Verdict};

pub(super) fn step(draft: &mut Draft<'_>) {
    // Once for each container: what one restart does not cure, another does not. A candidate is rolled back, which makes
    // another pod.
    let missed = |(id, record): (&ComponentId, &Record)| {
        let steady = matches!(record.state, ComponentState::Steady { .. });
        let cause = draft.assessment(id).filter(|_| steady)?.cause.as_ref()?;
        let Cause::NoAttempt { container, .. } = cause else { return None };
        (record.assists.no_attempt.as_ref() != Some(container)).then(|| (id.clone(), container.clone()))
    };
    let Some((id, container)) = draft.memory.components.iter().find_map(missed) else { return };
    let answers = draft.scene.judged.kubelet.verdict == Verdict::Healthy;
    if draft.hold.is_some()
        || !answers
        || !draft.memory.kubelet_restarts.is_empty()
        || !kubelet::may_restart_kubelet(draft)
    {
        return;
    }
    if let Some(record) = draft.record_mut(&id) {
        record.assists.no_attempt = Some(container);
    }
    kubelet::restart_kubelet(
        draft,
        &id,
        "it starts no further attempt of the container, although the back-off is over",
    );
}
