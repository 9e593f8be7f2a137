//! What the kubelet itself says it refuses (Q16). Its line comes with the write, before it ends the pod at its next scan: a
//! rollback then costs no moment of service.

use super::draft::Draft;
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
