//! Renewed keys and certificates. After a renewal, what a healthy process has loaded is the new normal (Q4).
//!
//! ```text
//!   remembered of a key file            on disk          the process
//!   ────────────────────────────────    ─────────────    ───────────────────────────────────────────────────
//!   another fingerprint                 key material     serves, is healthy, started after the change ─▶ updated
//!   another fingerprint                 key material     is older, is not healthy, does not run ─▶ unchanged: a later
//!                                                        failure may be caused by these keys
//!   any                                 nothing          ─▶ unchanged: the file is missing
//! ```
//!
//! Only fingerprints of key material are remembered. No generation is identified by it, and none has a copy: so only
//! the memory is updated, and with it the description that is stored next to each generation.

use jiff::Timestamp;

use super::draft::Draft;
use super::pods;
use crate::model::event::EventKind;
use crate::model::observation::{ContainerState, PodRun, SandboxState};
use crate::model::{ComponentId, FileKind, FileState, Verdict};

/// Has what is remembered of the key files of a component follow what its healthy process has loaded.
pub(super) fn follow(draft: &mut Draft<'_>, id: &ComponentId) {
    let well = draft.assessment(id).is_some_and(|a| a.serving && a.verdict() == Verdict::Healthy);
    let Some(started) = well.then(|| started(draft, id)).flatten() else { return };
    let seen = draft.scene.seen;
    let loaded = |path: &std::path::PathBuf| seen.keys_changed.get(path).is_some_and(|changed| *changed < started);
    let Some(record) = draft.record_mut(id) else { return };
    let mut followed = std::collections::BTreeSet::new();
    let kept = record.generations.values_mut().flat_map(|generation| &mut generation.closure);
    for kept in kept.filter(|kept| is_key(&kept.state)) {
        let Some(stands) = seen.files.get(&kept.path).filter(|stands| is_key(stands) && **stands != kept.state) else {
            continue;
        };
        if loaded(&kept.path) {
            kept.state = stands.clone();
            followed.insert(kept.path.display().to_string());
        }
    }
    if !followed.is_empty() {
        let files = followed.into_iter().collect::<Vec<_>>().join(", ");
        let to = format!("renewed keys or certificates are in use: {files}");
        let because = format!("a process that started {started}, after they changed, is healthy with them");
        draft.tell(id, EventKind::Notice, None, &to, &because);
    }
}

fn is_key(state: &FileState) -> bool {
    matches!(state, FileState::Present { kind: FileKind::KeyMaterial, .. })
}

/// When the first of the processes that run in the newest sandbox of a component was started.
fn started(draft: &Draft<'_>, id: &ComponentId) -> Option<Timestamp> {
    let ready = pods::runs_of(draft, id).filter(|run| run.ready == SandboxState::Ready);
    let newest: &PodRun = ready.max_by_key(|run| run.created)?;
    let running = newest.containers.iter().filter_map(|container| match container.state {
        ContainerState::Running { started } => Some(started),
        _ => None,
    });
    running.min()
}
