//! What the kubelet itself says it refuses (Q16). Its line comes with the write, before it ends the pod at its next scan: a
//! rollback then costs no moment of service.

use std::time::Duration;

use super::draft::Draft;
use super::pods;
use crate::model::observation::ManifestFile;
use crate::model::{ComponentId, Generation};

/// Why the kubelet refuses what is in a file now, by its own log line about that file since the file changed. A line without a
/// time may be about an earlier content, and proves nothing.
pub(super) fn by_the_kubelet(draft: &Draft<'_>, file: &ManifestFile) -> Option<String> {
    let refused = &draft.scene.seen.kubelet.log()?.refused;
    let of_file = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name == file.name.as_str());
    let (_, line) =
        refused.iter().find(|(path, line)| of_file(path) && line.at.is_some_and(|at| at >= file.changed))?;
    Some(format!("the kubelet refuses it: {}", line.why))
}

/// Whether the kubelet refused this generation of a file, and a pod from before it still runs: what is put back is what runs
/// (Q5), and waiting for another pod would end in stopping what serves (Q8).
pub(super) fn runs_the_one_before(draft: &Draft<'_>, id: &ComponentId, failed: &Generation) -> bool {
    let Some(log) = draft.scene.seen.kubelet.log() else { return false };
    let of_file = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name == failed.file_name.as_str());
    let since = failed.first_seen.checked_sub(Duration::from_secs(5)).unwrap_or(failed.first_seen);
    let refused = log.refused.iter().any(|(path, line)| of_file(path) && line.at.is_some_and(|at| at >= since));
    refused && pods::running(draft, id).next().is_some() && pods::runs_of(draft, id).all(|run| run.created < since)
}
