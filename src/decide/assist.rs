//! Shortens outages that are nobody's fault (`assist`). Each act touches only what serves nobody any more, and is reported
//! once with its reason. A component gets as many of them per hour as other actions (`limits.actions-per-hour`); they are
//! counted apart, so that they take none from a rollback.
//!
//! ```text
//!   a manifest of kube-apiserver was replaced,        its container is stopped at once: the kubelet would wait for it for
//!   the old process has closed its port               the whole termination grace (30 s)
//!   the manifest of the only etcd was replaced,       kube-apiserver's container is stopped once: without etcd it would
//!   the old etcd has ended                            block the kubelet, which asks it before it starts the new etcd
//!                                                     (34 s for each question; a refused connection fails at once)
//!   a back-off from an outage of its dependency,      its exited container is removed: the kubelet takes the back-off from
//!   which is over                                     it, and starts another at once
//! ```
//!
//! Never an etcd. Where other masters exist, only a process that has closed its port by itself is stopped (Q10). Whatever
//! is not certain, or inhibited, leaves the kubelet's own way, which ends in the same state later.

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::Draft;
use super::{pods, withheld};
use crate::model::environment::{Location, User};
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::memory::{Assists, Deployed};
use crate::model::notice::Notice;
use crate::model::verdict::Delay;
use crate::model::{ComponentId, ComponentState, Role, Step, Verdict};

/// What is done, and why.
struct Assist {
    /// Of which component the container is.
    id: ComponentId,
    /// What is done, as in "stopping its old container".
    what: &'static str,
    why: String,
    step: Step,
    /// Notes that it was done, so that it is not done again.
    note: Noted,
}

/// What is remembered of an assist.
enum Noted {
    Stopped(String),
    /// With the etcd, and the change of its manifest.
    ApiStoppedFor(ComponentId, Deployed),
    BackOff,
}

/// Takes the first assist of each component in this pass.
pub(super) fn step(draft: &mut Draft<'_>) {
    let ids: Vec<ComponentId> = draft.memory.components.keys().cloned().collect();
    for id in ids {
        let assist = of(draft, &id).filter(|assist| is_free(draft, assist));
        match assist {
            Some(assist) => take(draft, assist),
            None => draft.clear_notice(&id, Notice::WouldAssist),
        }
    }
}

fn of(draft: &Draft<'_>, id: &ComponentId) -> Option<Assist> {
    if !draft.scene.policy.assist {
        return None;
    }
    match draft.assessment(id)?.delay.as_ref() {
        Some(Delay::PortClosed { container, lasted }) => port_closed(draft, id, container, *lasted),
        Some(Delay::BackOff { container, lasted, dependency, log_tail }) => {
            back_off(draft, id, container, *lasted, dependency, log_tail.as_deref())
        }
        None => around_etcd(draft, id),
    }
}

/// kube-apiserver terminates, and another of its manifests is deployed.
fn port_closed(draft: &Draft<'_>, id: &ComponentId, container: &str, lasted: Duration) -> Option<Assist> {
    let record = draft.record(id).filter(|record| record.role == Role::ApiServer)?;
    let replaced = match &record.state {
        ComponentState::Probation(_) => true,
        // A manifest that is out is another matter: replacement.rs stops what is left of its pod.
        ComponentState::Replacing(replacement) => !replacement.stage.may_be_out(),
        _ => false,
    };
    let runs = pods::running(draft, id).any(|(running, _)| running == container);
    let here = matches!(DiskState::of(draft.scene.seen, id, record), DiskState::Here(_));
    if !replaced || !runs || !here || record.assists.stopped.as_deref() == Some(container) {
        return None;
    }
    let why = format!(
        "its manifest was replaced, and its old process has refused connections for {} s and still runs: the kubelet \
         would wait for it to end before it starts the new one",
        lasted.as_secs()
    );
    Some(Assist {
        id: id.clone(),
        what: "stopping its old container",
        why,
        step: kill(id, container),
        note: Noted::Stopped(container.to_owned()),
    })
}

fn back_off(
    draft: &Draft<'_>,
    id: &ComponentId,
    container: &str,
    lasted: Duration,
    dependency: &ComponentId,
    log_tail: Option<&str>,
) -> Option<Assist> {
    let record = draft.record(id)?;
    if !matches!(record.state, ComponentState::Steady { .. }) || record.assists.back_off.is_some() {
        return None;
    }
    // What its log says goes with the container.
    let words = log_tail.map(|words| format!("; its log ends with: {}", words.trim())).unwrap_or_default();
    let why = format!(
        "its back-off ({} s so far) comes from an outage of {dependency}, which serves again{words}",
        lasted.as_secs()
    );
    Some(Assist {
        id: id.clone(),
        what: "removing its exited container, so that it starts now",
        why,
        step: Step::RemoveContainer { component: id.clone(), container: container.to_owned() },
        note: Noted::BackOff,
    })
}

/// The only etcd of the cluster has ended, and another of its manifests is deployed: kube-apiserver, which cannot serve
/// without it, is stopped.
fn around_etcd(draft: &Draft<'_>, api: &ComponentId) -> Option<Assist> {
    let record = draft.record(api).filter(|record| record.role == Role::ApiServer)?;
    // A stop of ours must not count as a crash of a candidate.
    if !matches!(record.state, ComponentState::Steady { .. }) {
        return None;
    }
    let mut etcds = draft.memory.components.iter().filter(|(_, record)| record.role == Role::Etcd);
    let (Some((etcd, of_etcd)), None) = (etcds.next(), etcds.next()) else { return None };
    let changed = of_etcd.deployed.as_ref()?;
    let trial = matches!(of_etcd.state, ComponentState::Probation(_) | ComponentState::Steady { .. });
    if !trial || of_etcd.assists.api_stopped_for.as_ref() == Some(changed) {
        return None;
    }
    // Membership by its data (Q2), and data that nobody doubts (Q1).
    let known = draft.memory.incarnations.get(etcd)?;
    if known.members != 1 || known.doubted.is_some() || draft.memory.wrong_data.is_some() {
        return None;
    }
    let DiskState::Here(file) = DiskState::of(draft.scene.seen, etcd, of_etcd) else { return None };
    let ports = file.content.as_ref().ok()?.ports();
    let stands = record.by_digest(record.deployed.as_ref()?.digest)?;
    if !pods::reads_only_from(draft, stands.data.as_ref(), &ports) || asks_elsewhere(draft) {
        return None;
    }
    // Every pod of etcd is gone or stopped, and is one from before the change.
    let started_before = |started: jiff::Timestamp| started < changed.changed;
    if pods::runs(draft, etcd) || !pods::runs_of(draft, etcd).all(|run| started_before(run.created)) {
        return None;
    }
    let (container, _) = pods::running(draft, api).find(|(_, started)| started_before(*started))?;
    let why = format!(
        "the manifest of {etcd}, the only member of its cluster, was replaced and its old process has ended: without \
         {etcd}, {api} would block the kubelet before it starts the new one"
    );
    Some(Assist {
        id: api.clone(),
        what: "stopping its container, for the change of etcd",
        why,
        step: kill(api, &container),
        note: Noted::ApiStoppedFor(etcd.clone(), changed.clone()),
    })
}

/// Whether the kubelet asks an API server that is not this node's.
fn asks_elsewhere(draft: &Draft<'_>) -> bool {
    let endpoints = &draft.scene.seen.node.endpoints;
    let of_kubelet = |user: &User| *user == User::Kubelet;
    endpoints.iter().any(|one| one.place == Location::Elsewhere && one.used.iter().any(|(user, _)| of_kubelet(user)))
}

/// Without grace: it serves nobody, and what it waits for is over when it ends.
fn kill(id: &ComponentId, container: &str) -> Step {
    Step::StopContainer { component: id.clone(), container: container.to_owned(), grace: Duration::ZERO }
}

/// Whether nothing else is being done about the component, and a kubelet is there to start it again.
fn is_free(draft: &Draft<'_>, assist: &Assist) -> bool {
    let id = &assist.id;
    let stopped = draft.memory.stopped_apiserver.as_ref().is_some_and(|stopped| stopped.component == *id);
    let touched = |step: &Step| step.touches_node() && step.component() == Some(id);
    let kubelet = !matches!(draft.scene.judged.kubelet.verdict, Verdict::Down | Verdict::Stalled)
        && draft.scene.seen.kubelet.process.is_some();
    kubelet && !stopped && !withheld::is_withheld(draft, id) && !draft.plan.iter().any(touched)
}

fn take(draft: &mut Draft<'_>, assist: Assist) {
    let Assist { id, what, why, step, note } = assist;
    if let Some(hold) = draft.hold.clone() {
        // kubeadm, or the operator who paused, is at work: what takes its time there is theirs.
        let shown = draft.record(&id).is_some_and(|record| record.notices.contains_key(&Notice::WouldAssist));
        if hold == Inhibitor::Observe && !shown {
            draft.notice(&id, Notice::WouldAssist, format!("would begin {what}, because {why}; inhibited: {hold}"));
        }
        return;
    }
    draft.clear_notice(&id, Notice::WouldAssist);
    let limit = draft.scene.policy.actions_per_hour;
    let Some(record) = draft.record_mut(&id).filter(|record| record.assists.done.len() < limit) else { return };
    record.assists.done.push_back(Duration::ZERO);
    let of_whom = if let Noted::ApiStoppedFor(etcd, _) = &note { etcd } else { &id };
    if let Some(record) = draft.memory.components.get_mut(of_whom) {
        let Assists { stopped, api_stopped_for, back_off, .. } = &mut record.assists;
        match note {
            Noted::Stopped(container) => *stopped = Some(container),
            Noted::ApiStoppedFor(_, change) => *api_stopped_for = Some(change),
            Noted::BackOff => *back_off = Some(Duration::ZERO),
        }
    }
    draft.tell(&id, EventKind::State, None, what, &why);
    draft.want(step);
}
