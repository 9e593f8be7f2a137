//! The pods of a component as the runtime reports them.

use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use crate::model::manifest::DataIdentity;
use crate::model::observation::{ContainerState, SandboxState};
use crate::model::{ComponentId, Step};

/// The grace a container gets that is taken out and serves nobody.
pub(super) const HASTENED_GRACE: Duration = Duration::from_secs(2);

/// Stops the containers of a pod that is taken out and serves nobody: its own grace helps nobody either.
pub(super) fn hasten(draft: &mut Draft<'_>, id: &ComponentId) {
    let running: Vec<String> = runs_of(draft, id)
        .flat_map(|run| &run.containers)
        .filter(|container| matches!(container.state, ContainerState::Running { .. }))
        .map(|container| container.id.clone())
        .collect();
    for container in running {
        draft.want(Step::StopContainer { component: id.clone(), container, grace: HASTENED_GRACE });
    }
}

/// The sandboxes of a component.
pub(super) fn runs_of<'a>(
    draft: &Draft<'a>,
    id: &ComponentId,
) -> impl Iterator<Item = &'a crate::model::observation::PodRun> + use<'a> {
    let id = id.clone();
    draft.scene.seen.runtime.iter().flatten().filter(move |run| run.component == id)
}

/// The ready sandboxes of a component.
pub(super) fn ready_sandboxes<'a>(draft: &Draft<'a>, id: &ComponentId) -> impl Iterator<Item = String> + use<'a> {
    runs_of(draft, id).filter(|run| run.ready == SandboxState::Ready).map(|run| run.sandbox.clone())
}

/// Whether anything of a component still runs. A runtime that cannot be asked may well run it.
pub(super) fn runs(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let alive = |state: &ContainerState| matches!(state, ContainerState::Running { .. } | ContainerState::Unknown);
    draft.scene.seen.runtime.is_err()
        || runs_of(draft, id).any(|run| {
            run.ready == SandboxState::Ready || run.containers.iter().any(|container| alive(&container.state))
        })
}

/// Whether an API server's generation reads from an etcd that listens on these ports of this node.
pub(super) fn reads_from(data: Option<&DataIdentity>, ports: &std::collections::BTreeSet<u16>) -> bool {
    let Some(DataIdentity::ApiServer { servers, .. }) = data else { return false };
    servers.iter().filter_map(|url| url.rsplit_once(':')?.1.parse().ok()).any(|port| ports.contains(&port))
}

/// Whether an API server's generation reads only from an etcd that listens on these ports of this node.
pub(super) fn reads_only_from(
    draft: &Draft<'_>,
    data: Option<&DataIdentity>,
    ports: &std::collections::BTreeSet<u16>,
) -> bool {
    let Some(DataIdentity::ApiServer { servers, .. }) = data else { return false };
    let is_here = |url: &String| {
        let port = url.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        draft.scene.seen.node.addresses.is_here(url) && port.is_some_and(|port| ports.contains(&port))
    };
    !servers.is_empty() && servers.iter().all(is_here)
}

/// The containers of a component that run, and since when.
pub(super) fn running(draft: &Draft<'_>, id: &ComponentId) -> impl Iterator<Item = (String, Timestamp)> {
    let containers = runs_of(draft, id).flat_map(|run| &run.containers);
    containers.filter_map(|container| match container.state {
        ContainerState::Running { started } => Some((container.id.clone(), started)),
        _ => None,
    })
}
