//! Restarts the dependents of etcd, in order, after etcd began to serve other data than they have read.

use std::time::Duration;

use super::draft::Draft;
use super::pods;
use super::pods::running;
use crate::model::event::EventKind;
use crate::model::lineage::WentBack;
use crate::model::notice::Notice;
use crate::model::policy::RevisionRegression;
use crate::model::{ComponentId, ComponentState, Role, Step, Verdict};

/// Grace for a container whose generation is not known: the kubelet's default.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// What is left to the operator when the static pods are done.
const KUBELETS_ARE_LEFT: &str = "every component of this node has been restarted since; the kubelets and kube-proxy of \
                                 all nodes have not: `systemctl restart kubelet` on each of them";

/// Goes on with what an earlier pass began.
pub(super) fn follow(draft: &mut Draft<'_>) {
    advance(draft);
}

/// Has everything restarted, in order, that read from an etcd before it came to serve what it serves now.
pub(super) fn restart_dependents(draft: &mut Draft<'_>, id: &ComponentId, what: String) {
    let started = running(draft, id).map(|(_, started)| started).max();
    let since = started.unwrap_or(draft.scene.tick.now.wall);
    let left = dependents(draft, id);
    draft.memory.went_back = Some(WentBack { etcd: id.clone(), since, what, left, stopping: None });
}

/// The components that may have cached the earlier data, in the order in which they are restarted.
pub(super) fn dependents(draft: &Draft<'_>, etcd: &ComponentId) -> Vec<ComponentId> {
    let components = &draft.memory.components;
    let newest = |id: &ComponentId| {
        let record = components.get(id)?;
        let stands = record.deployed.as_ref().and_then(|stands| record.by_digest(stands.digest));
        stands.or_else(|| record.generations.values().next_back())
    };
    let ports = newest(etcd).map(|generation| generation.ports.clone()).unwrap_or_default();
    let elsewhere = |id: &ComponentId| {
        newest(id).is_some_and(|api| api.data.is_some() && !pods::reads_from(api.data.as_ref(), &ports))
    };
    let mut left: Vec<(Role, ComponentId)> = components
        .iter()
        .filter(|(_, record)| record.role.depends_on().is_some())
        .map(|(id, record)| (record.role, id.clone()))
        .collect();
    if left.iter().any(|(role, id)| *role == Role::ApiServer && elsewhere(id)) {
        return Vec::new();
    }
    left.sort();
    left.into_iter().map(|(_, id)| id).collect()
}

/// The state of one of them.
pub(super) enum RestartNeed {
    /// It serves, or will, from a process that never saw the old world.
    Fresh,
    /// It is waited for: why, where that is worth saying.
    Awaited(Option<String>),
    /// This container of it is older.
    Old(String),
}

pub(super) fn advance(draft: &mut Draft<'_>) {
    let Some(mut back) = draft.memory.went_back.take() else { return };
    let etcd = back.etcd.clone();
    while let Some(id) = back.left.first().cloned() {
        match standing(draft, &back, &id) {
            RestartNeed::Fresh => {
                back.left.remove(0);
                back.stopping = None;
                continue;
            }
            RestartNeed::Awaited(why) => draft.notice_if(&etcd, Notice::RestartsWait, why),
            RestartNeed::Old(container) => match may_stop(draft, &back, &id) {
                Ok(()) => {
                    draft.clear_notice(&etcd, Notice::RestartsWait);
                    stop(draft, &mut back, &id, container);
                }
                Err(why) => draft.notice(&etcd, Notice::RestartsWait, why),
            },
        }
        draft.memory.went_back = Some(back);
        return;
    }
    draft.clear_notice(&etcd, Notice::RevisionRegression);
    draft.clear_notice(&etcd, Notice::RestartsWait);
    draft.tell(&etcd, EventKind::Notice, None, KUBELETS_ARE_LEFT, &back.what);
}

pub(super) fn standing(draft: &Draft<'_>, back: &WentBack, id: &ComponentId) -> RestartNeed {
    let Some(record) = draft.record(id) else { return RestartNeed::Fresh };
    if draft.scene.seen.runtime.is_err() {
        return RestartNeed::Awaited(None);
    }
    if let Some((container, _)) = running(draft, id).find(|(_, started)| *started < back.since) {
        return RestartNeed::Old(container);
    }
    // A component that is away starts with the present data when it returns.
    if matches!(record.state, ComponentState::Missing { .. }) {
        return RestartNeed::Fresh;
    }
    let serving = draft.assessment(id).is_some_and(|a| a.serving && a.verdict() == Verdict::Healthy);
    if serving && running(draft, id).next().is_some() { RestartNeed::Fresh } else { RestartNeed::Awaited(None) }
}

/// Whether an older process may be stopped now, or why not.
pub(super) fn may_stop(draft: &Draft<'_>, back: &WentBack, id: &ComponentId) -> Result<(), String> {
    let by_hand = || {
        let names: Vec<String> = back.left.iter().map(ToString::to_string).collect();
        format!("restart the components that cached the earlier state, one after the other: {}", names.join(", then "))
    };
    if draft.scene.policy.on_revision_regression == RevisionRegression::Report {
        return Err(format!("{} (etcd.on-revision-regression = \"report\")", by_hand()));
    }
    let status = draft.scene.seen.etcd.get(&back.etcd);
    let Some(members) = status.and_then(|status| status.members.as_ref()) else {
        return Err(format!("waiting for etcd before {id} is restarted"));
    };
    if members.len() > 1 {
        let others = members.len() - 1;
        return Err(format!(
            "{}; lastgood does not do it here, since {others} other members serve other masters",
            by_hand()
        ));
    }
    if let Some(hold) = &draft.hold {
        return Err(format!("{id} cached the earlier state and is not restarted: {hold}"));
    }
    if !draft.assessment(&back.etcd).is_some_and(|assessment| assessment.serving) {
        return Err(format!("waiting for etcd before {id} is restarted"));
    }
    let stopped = draft.memory.stopped_apiserver.as_ref().is_some_and(|stopped| stopped.component == *id);
    match draft.record(id).map(|record| &record.state) {
        Some(ComponentState::Steady { .. } | ComponentState::Adopting { .. } | ComponentState::Unread { .. })
            if !stopped =>
        {
            Ok(())
        }
        // A stop of ours must not count as a crash of a candidate.
        Some(slot) => Err(format!("{id} cached the earlier state and is {slot}: it is restarted after that")),
        None => Err(format!("{id} is no longer known")),
    }
}

pub(super) fn stop(draft: &mut Draft<'_>, back: &mut WentBack, id: &ComponentId, container: String) {
    if back.stopping.as_ref() != Some(&container) {
        if !draft.spend(id) {
            let why = format!("{id} cached the earlier state; its actions of this hour are used up, so it waits");
            return draft.notice(&back.etcd, Notice::RestartsWait, why);
        }
        back.stopping = Some(container.clone());
        draft.tell(id, EventKind::Notice, None, "it is restarted: it cached a state of etcd that is gone", "");
    }
    let stands = draft.record(id).and_then(|record| record.by_digest(record.deployed.as_ref()?.digest));
    let grace = stands.map_or(GRACE, |generation| generation.termination_grace);
    draft.want(Step::StopContainer { component: id.clone(), container, grace });
}
