//! Stops kube-apiserver around a change of etcd. The kubelet deletes etcd's outdated mirror pod through the API server
//! before it starts the new one; with etcd down that call blocks for 34 s. Without an API server it fails at once, so
//! 47 s become seconds. kube-apiserver is deployed again after a deadline, whatever happens to etcd.

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::Draft;
use super::{generations, pods, withheld};
use crate::model::component_state::Stage;
use crate::model::event::EventKind;
use crate::model::generation::Stored;
use crate::model::memory::Parked;
use crate::model::{ComponentId, ComponentState, Role, Step};

/// How far a parking is.
pub(super) enum Parking {
    /// It is out, or there is nobody to park.
    Done,
    /// It is on its way out.
    UnderWay,
}

/// The API server that would have to be parked before this component is touched: it is deployed, it runs, it is kept,
/// and it reads from this etcd.
pub(super) fn whom(draft: &Draft<'_>, id: &ComponentId) -> Option<(ComponentId, u32)> {
    let etcd = draft.record(id).filter(|record| record.role == Role::Etcd)?;
    let ports = &etcd.generations.get(&etcd.state.good()?)?.ports;
    let (api, record) = draft.memory.components.iter().find(|(_, record)| record.role == Role::ApiServer)?;
    let busy = matches!(record.state, ComponentState::RollingBack(_) | ComponentState::Missing { .. });
    if busy || withheld::is_withheld(draft, api) || !pods::runs(draft, api) {
        return None;
    }
    let DiskState::Here(file) = DiskState::of(draft.scene.seen, api, record) else { return None };
    let digest = super::disk_state::digest(record, file.content.as_ref().ok()?, &file);
    let generation = record.by_digest(digest).filter(|generation| generation.stored == Stored::Yes)?;
    pods::reads_from(generation.data.as_ref(), ports).then(|| (api.clone(), generation.number))
}

/// Takes the API server out and waits for its pod to end.
pub(super) fn park(draft: &mut Draft<'_>, id: &ComponentId, waited: Duration) -> Parking {
    if let Some(leaves) = withheld::api_leaves(draft) {
        let overdue = waited >= draft.scene.policy.stop_margin;
        return if leaves && !overdue { Parking::UnderWay } else { Parking::Done };
    }
    let Some(parked) = draft.memory.parked.clone() else {
        let Some((api, number)) = whom(draft, id) else { return Parking::Done };
        draft.memory.parked =
            Some(Parked { component: api.clone(), generation: number, for_component: id.clone(), age: Duration::ZERO });
        draft.tell(
            &api,
            EventKind::State,
            Some(number),
            "parked",
            "etcd is replaced, and kube-apiserver would block the kubelet meanwhile",
        );
        take_out(draft, &api, number);
        return Parking::UnderWay;
    };
    let Some(generation) = generation(draft, &parked) else { return Parking::Done };
    if draft.scene.seen.manifests.file(&generation.file_name).is_some() {
        take_out(draft, &parked.component, parked.generation);
        return Parking::UnderWay;
    }
    let overdue = waited >= generation.termination_grace + draft.scene.policy.stop_margin;
    if !pods::runs(draft, &parked.component) || overdue {
        return Parking::Done;
    }
    if waited >= draft.scene.policy.force_stop_after {
        pods::hasten(draft, &parked.component);
    }
    Parking::UnderWay
}

fn generation(draft: &Draft<'_>, parked: &Parked) -> Option<crate::model::Generation> {
    draft.record(&parked.component)?.generations.get(&parked.generation).cloned()
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

/// Puts a parked API server back: when etcd serves, when nothing is being done about etcd any more, or when it has been
/// away for long enough.
pub(super) fn release(draft: &mut Draft<'_>) {
    let Some(parked) = draft.memory.parked.clone() else { return };
    let longest = draft.record(&parked.for_component).and_then(|record| match &record.state {
        ComponentState::RollingBack(rollback) if rollback.stage <= Stage::AwaitingServing => {
            let vacated = rollback.vacated.as_ref().map_or(Duration::ZERO, |vacated| vacated.longest);
            Some(draft.scene.policy.apiserver_max_downtime + vacated)
        }
        _ => None,
    });
    if longest.is_some_and(|longest| parked.age < longest) {
        return;
    }
    let Some(generation) = generation(draft, &parked) else {
        draft.memory.parked = None;
        return;
    };
    if draft.scene.seen.manifests.file(&generation.file_name).is_some() {
        draft.memory.parked = None;
        let because =
            format!("it was stopped for {} s around the change of {}", parked.age.as_secs(), parked.for_component);
        draft.tell(&parked.component, EventKind::State, Some(parked.generation), "started again after etcd", &because);
        return;
    }
    let files = generations::restore_files(draft, &parked.component, &generation);
    draft.plan.extend(files);
    draft.want(Step::PutIn {
        component: parked.component.clone(),
        number: parked.generation,
        file_name: generation.file_name.clone(),
    });
}
