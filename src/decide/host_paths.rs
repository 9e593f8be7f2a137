//! The directories that the runtime makes where a candidate mounts what does not exist: they belong to the candidate.
//!
//! ```text
//!   another pod is deployed    which of its hostPath sources are absent is noted, before its container starts
//!   a directory appears there  the generation stays the same (model/memory.rs), and the cause is named (judge/host_path.rs)
//!   the pod is rolled back     the directory is removed, if it is empty, and nothing uses it
//! ```
//!
//! What exists when a manifest is first seen in place is never removed, and neither is anything that was in use since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::pods::runs_of;
use crate::model::component_state::Replacement;
use crate::model::host_path::{self, AbsentPaths, PathState};
use crate::model::memory::Record;
use crate::model::observation::SandboxState;
use crate::model::{ComponentId, ComponentState, Manifest, Step};

/// Notes what is absent of what a manifest mounts, if its pod is another than before. While a candidate is rolled back, what
/// was made for it is remembered.
pub(super) fn note(record: &mut Record, manifest: &Manifest, another_pod: bool, seen: &BTreeMap<PathBuf, PathState>) {
    if let Some(absent) = &mut record.absent_paths {
        absent.set_used_apart(seen);
    }
    let rolled_back = match &record.state {
        ComponentState::Replacing(replacement) => replacement.from(),
        _ => None,
    };
    let known = record.absent_paths.as_ref();
    let of_failed = known.is_some_and(|absent| Some(absent.generation) == rolled_back && absent.pod != manifest.digest);
    if of_failed {
        return;
    }
    if another_pod {
        // Its number is not known yet.
        record.absent_paths = AbsentPaths::of(0, manifest, seen);
    } else {
        record.absent_paths = record.absent_paths.take().filter(|absent| absent.pod == manifest.digest);
    }
}

/// Notes which generation they are of.
pub(super) fn number(record: &mut Record, manifest: &Manifest, number: u32) {
    if let Some(absent) = record.absent_paths.as_mut().filter(|absent| absent.pod == manifest.digest) {
        absent.generation = number;
    }
}

/// Has the directories removed that were made for the generation that a rollback replaces. The good manifest is in place.
pub(super) fn remove(draft: &mut Draft<'_>, id: &ComponentId, rollback: &Replacement) {
    let Some(record) = draft.record(id) else { return };
    let absent = record.absent_paths.as_ref().filter(|absent| Some(absent.generation) == rollback.from());
    let (Some(absent), Some(deployed)) = (absent, &record.deployed) else { return };
    // The kubelet may start the failed pod once more until its sandbox is gone.
    let gone = draft.scene.seen.runtime.is_ok()
        && runs_of(draft, id).all(|run| run.ready == SandboxState::NotReady || run.created >= deployed.changed);
    if draft.hold.is_some() || !gone {
        return;
    }
    let seen = draft.scene.seen;
    let steps: Vec<Step> = absent
        .paths
        .iter()
        // The deepest first: a directory is removed when what was made in it is gone.
        .rev()
        .filter(|path| seen.node.host_paths.get(*path) == Some(&PathState::EmptyDirectory) && !is_mounted(draft, path))
        .map(|path| Step::RemoveDirectory { component: id.clone(), number: absent.generation, path: path.clone() })
        .collect();
    draft.plan.extend(steps);
}

/// Whether a deployed manifest mounts that path, or something of it.
fn is_mounted(draft: &Draft<'_>, path: &Path) -> bool {
    let mut manifests = draft.scene.seen.manifests.files().filter_map(|file| file.content.as_ref().ok());
    manifests.any(|manifest| host_path::is_mounted(manifest, path))
}
