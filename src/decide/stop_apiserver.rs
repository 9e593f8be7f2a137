//! Stops kube-apiserver around a change of etcd. The kubelet deletes etcd's outdated mirror pod through the API server
//! before it starts the new one; with etcd down that call blocks for 34 s. Without an API server it fails at once, so
//! 47 s become seconds. kube-apiserver is deployed again after a deadline, whatever happens to etcd.

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::Draft;
use super::{generations, pods, withheld};
use crate::model::event::EventKind;
use crate::model::generation::Stored;
use crate::model::memory::ApiServerStopped;
use crate::model::{ComponentId, ComponentState, Role, Step};

/// How far it is.
pub(super) enum Progress {
    /// It is out, or there is none to stop.
    Done,
    /// It is on its way out.
    UnderWay,
}

/// The API server that would have to be stopped before this component is touched: it is deployed, it runs, it is stored,
/// and it reads from this etcd.
pub(super) fn api_of(draft: &Draft<'_>, id: &ComponentId) -> Option<(ComponentId, u32)> {
    let etcd = draft.record(id).filter(|record| record.role == Role::Etcd)?;
    let ports = &etcd.generations.get(&etcd.state.good()?)?.ports;
    let (api, record) = draft.memory.components.iter().find(|(_, record)| record.role == Role::ApiServer)?;
    let busy = matches!(record.state, ComponentState::Replacing(_) | ComponentState::Missing { .. });
    if busy || withheld::is_withheld(draft, api) || !pods::runs(draft, api) {
        return None;
    }
    let DiskState::Here(file) = DiskState::of(draft.scene.seen, api, record) else { return None };
    let digest = super::disk_state::digest(record, file.content.as_ref().ok()?, &file);
    let generation = record.by_digest(digest).filter(|generation| generation.stored == Stored::Yes)?;
    pods::reads_from(generation.data.as_ref(), ports).then(|| (api.clone(), generation.number))
}

/// Takes the API server out and waits for its pod to end.
pub(super) fn stop(draft: &mut Draft<'_>, id: &ComponentId, waited: Duration) -> Progress {
    if let Some(leaves) = withheld::api_leaves(draft) {
        let overdue = waited >= draft.scene.policy.stop_margin;
        return if leaves && !overdue { Progress::UnderWay } else { Progress::Done };
    }
    let Some(stopped) = draft.memory.stopped_apiserver.clone() else {
        let Some((api, number)) = api_of(draft, id) else { return Progress::Done };
        draft.memory.stopped_apiserver = Some(ApiServerStopped {
            component: api.clone(),
            generation: number,
            for_component: id.clone(),
            age: Duration::ZERO,
        });
        draft.tell(
            &api,
            EventKind::State,
            Some(number),
            "stopped before etcd is replaced",
            "without etcd, kube-apiserver would block the kubelet",
        );
        take_out(draft, &api, number);
        return Progress::UnderWay;
    };
    let Some(generation) = generation(draft, &stopped) else { return Progress::Done };
    if draft.scene.seen.manifests.file(&generation.file_name).is_some() {
        take_out(draft, &stopped.component, stopped.generation);
        return Progress::UnderWay;
    }
    let overdue = waited >= generation.termination_grace + draft.scene.policy.stop_margin;
    if !pods::runs(draft, &stopped.component) || overdue {
        return Progress::Done;
    }
    if waited >= draft.scene.policy.force_stop_after {
        pods::hasten(draft, &stopped.component);
    }
    Progress::UnderWay
}

fn generation(draft: &Draft<'_>, stopped: &ApiServerStopped) -> Option<crate::model::Generation> {
    draft.record(&stopped.component)?.generations.get(&stopped.generation).cloned()
}

fn take_out(draft: &mut Draft<'_>, api: &ComponentId, number: u32) {
    let name = draft.record(api).and_then(|record| record.generations.get(&number)).map(|g| g.file_name.clone());
    let Some(file_name) = name else { return };
    draft.want(Step::TakeOut {
        component: api.clone(),
        file_name: file_name.clone(),
        successor: number,
        successor_name: file_name,
    });
}

/// Puts a stopped API server back: when etcd serves, when nothing is being done about etcd any more, or when it has been
/// away for long enough.
pub(super) fn release(draft: &mut Draft<'_>) {
    let Some(stopped) = draft.memory.stopped_apiserver.clone() else { return };
    let longest = draft.record(&stopped.for_component).and_then(|record| match &record.state {
        ComponentState::Replacing(replacement) => {
            Some(draft.scene.policy.apiserver_max_downtime + replacement.suspended_for().unwrap_or_default())
        }
        _ => None,
    });
    if longest.is_some_and(|longest| stopped.age < longest) {
        return;
    }
    let Some(generation) = generation(draft, &stopped) else {
        draft.memory.stopped_apiserver = None;
        return;
    };
    if draft.scene.seen.manifests.file(&generation.file_name).is_some() {
        draft.memory.stopped_apiserver = None;
        let because =
            format!("it was stopped for {} s around the change of {}", stopped.age.as_secs(), stopped.for_component);
        draft.tell(
            &stopped.component,
            EventKind::State,
            Some(stopped.generation),
            "started again after etcd",
            &because,
        );
        return;
    }
    let files = generations::restore_files(draft, &stopped.component, &generation);
    draft.plan.extend(files);
    draft.want(Step::PutIn {
        component: stopped.component.clone(),
        number: stopped.generation,
        file_name: generation.file_name.clone(),
    });
}
