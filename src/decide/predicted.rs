//! A deployed manifest that the kubelet's validation is expected to refuse. It is reported while no pod of it runs, and
//! nothing follows from it: the kubelet decides (Q16). What it does not start is rolled back as any candidate is.

use super::draft::Draft;
use super::{in_order, pods};
use crate::model::ComponentId;
use crate::model::notice::Notice;

pub(super) fn tell(draft: &mut Draft<'_>) {
    for id in in_order(&draft.memory) {
        let text = text(draft, &id);
        draft.notice_if(&id, Notice::PredictedRefusal, text);
    }
}

fn text(draft: &Draft<'_>, id: &ComponentId) -> Option<String> {
    let record = draft.record(id)?;
    let file = draft.scene.seen.manifests.file(record.file_name()?)?;
    let manifest = file.content.as_ref().ok()?;
    let mut expected = manifest.refusals();
    let first = expected.next()?;
    let more = match expected.count() {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    // What the kubelet has started it has accepted, this time or before.
    let runs = pods::runs_of(draft, id).any(|run| run.created >= file.changed);
    let ran = record.known_good().any(|generation| generation.pod_digest == manifest.digest);
    if runs || ran {
        return None;
    }
    Some(format!(
        "the kubelet is expected to refuse {}: {first}{more}; it ends the pod then at its next scan, within 20 s, and starts \
         none; lastgood goes by what the kubelet does; next: correct the field, or see `journalctl -u kubelet | grep \
         'Could not process manifest file'`",
        file.name
    ))
}
