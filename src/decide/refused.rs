//! What the kubelet itself says it refuses (Q16). Its line comes with the write, before it ends the pod at its next scan: a
//! rollback then costs no moment of service.

use std::time::Duration;

use super::draft::Draft;
use super::pods;
use crate::model::ComponentId;
use crate::model::memory::Deployed;
use crate::model::observation::ManifestFile;

/// Why the kubelet refuses what is in a file now, by its own log line about that file since the file changed. A line without a
/// time may be about an earlier content, and proves nothing.
pub(super) fn by_the_kubelet(draft: &Draft<'_>, file: &ManifestFile) -> Option<String> {
    let refused = &draft.scene.seen.kubelet.log()?.refused;
    let of_file = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name == file.name.as_str());
    let (_, line) =
        refused.iter().find(|(path, line)| of_file(path) && line.at.is_some_and(|at| at >= file.changed))?;
    Some(format!("the kubelet refuses it: {}", line.why))
}

/// The kubelet has not taken the candidate: the process that runs is of the generation before, and that one has been deployed
/// since before the process started (Q5). Otherwise its manifest, put back, would count as a change that no process has read,
/// and a kubelet that has nothing to do as one that does not respond.
pub(super) fn keep_what_runs(draft: &mut Draft<'_>, id: &ComponentId, good: u32) {
    let started = pods::running(draft, id).map(|(_, started)| started).min();
    let Some(changed) = started.and_then(|started| started.checked_sub(Duration::from_secs(1)).ok()) else { return };
    let Some(record) = draft.record_mut(id) else { return };
    if let Some(digest) = record.generations.get(&good).map(|generation| generation.digest) {
        record.deployed = Some(Deployed { digest, changed });
    }
}
