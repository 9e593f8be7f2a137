//! Notices about a liveness probe that fails while the process answers lastgood. The manifest is the operator's: nothing
//! is changed in it.

use std::time::Duration;

use super::draft::Draft;
use crate::model::ComponentId;
use crate::model::kubelet_probe::AnswersUs;
use crate::model::notice::Notice;

/// One failure is no news; the kubelet waits for several as well.
const FAILING: Duration = Duration::from_secs(15);

/// One notice for each component, until its probe succeeds. While the container is down, nothing is known.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let failing = &draft.scene.seen.node.failing_probes;
    let known: Vec<ComponentId> = draft.memory.components.keys().cloned().collect();
    for id in known {
        let Some(probe) = failing.get(&id) else {
            draft.clear_notice(&id, Notice::KubeletProbe);
            continue;
        };
        let shown = draft.record(&id).is_some_and(|record| record.notices.contains_key(&Notice::KubeletProbe));
        if shown || probe.answers_us == AnswersUs::No || probe.failing_for < FAILING {
            continue;
        }
        let file = draft.record(&id).and_then(|record| record.file_name()).unwrap_or("its manifest").to_owned();
        let text = format!("{}; next: {}", probe.sentence(), probe.next(&file));
        draft.notice(&id, Notice::KubeletProbe, text);
    }
}
