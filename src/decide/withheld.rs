//! Keeps kube-apiserver stopped while etcd serves wrong data (wrong_data.rs).

use super::draft::Draft;
use super::pods;
use crate::model::ComponentId;
use crate::model::lineage::ApiStop;
use crate::model::memory::Memory;

/// The component whose manifest is withheld.
pub(super) fn withheld(memory: &Memory) -> Option<&ComponentId> {
    match &memory.wrong_data.as_ref()?.api {
        ApiStop::Stopped { component, .. } => Some(component),
        ApiStop::NotStopped | ApiStop::Released => None,
    }
}

/// Whether kube-apiserver is still on its way out for this etcd: nothing of etcd is touched before.
pub(super) fn api_leaves(draft: &Draft<'_>) -> Option<bool> {
    let api = withheld(&draft.memory)?;
    Some(pods::runs(draft, api) && draft.scene.seen.runtime.is_ok())
}

/// Such an API server is stopped already when etcd is replaced.
pub(super) fn is_withheld(draft: &Draft<'_>, api: &ComponentId) -> bool {
    withheld(&draft.memory) == Some(api)
}
