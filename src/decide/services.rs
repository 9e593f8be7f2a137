//! Restarts a stalled kubelet or container runtime with the configured commands. Neither restart touches a running
//! container.
//!
//! ```text
//!   Stalled for stall.after, or a kubelet that reports itself unhealthy for a minute
//!      │  held, budget of the hour spent, a kubelet whose files changed since it started (Q15) ─▶ reported, with the command
//!      │  restarted less than its pause ago ─▶ left alone until then
//!      ▼
//!   restarted once. `lastgood resume` gives the budget back
//! ```
//!
//! A restart takes effect before another one follows: a kubelet has until its lease could end, no matter who
//! restarted it and why; the runtime has a minute.
//!
//! A service that does not run at all is left to its service manager: the operator may have stopped it. It is reported, and
//! one that ends again and again at its start is reported with the reason that its log gives.

use std::time::Duration;

use super::draft::Draft;
use super::kubelet::kubelet_settles;
use crate::model::component::HostService;
use crate::model::event::EventKind;
use crate::model::notice::NodeNotice;
use crate::model::verdict::ServiceState;
use crate::model::{Step, Verdict};

/// A kubelet whose own health check fails (its sync loop has not turned for two minutes and more) is given this long.
const UNWELL: Duration = Duration::from_secs(60);

/// A container runtime is left alone this long after its restart: it loads all of its containers before it answers, and a
/// disk that is slow enough to have stalled it is no faster then.
const RUNTIME_PAUSE: Duration = Duration::from_secs(60);

/// A service that is away for longer than a restart takes is reported.
const DOWN_FOR: Duration = Duration::from_secs(20);

/// Who gives the budget back.
const RESUME: &str = "`lastgood resume` permits it again";

pub(super) fn step(draft: &mut Draft<'_>) {
    kubelet(draft);
    runtime(draft);
}

/// Whether it has been stalled for long enough; sets and clears what is to be known of it.
fn is_due(draft: &mut Draft<'_>, service: HostService, state: &ServiceState) -> bool {
    if is_down(draft, service, state) {
        return false;
    }
    let (patience, word) = match state.verdict {
        Verdict::Stalled => (draft.scene.policy.stall_after, "is stalled"),
        Verdict::Failing => (UNWELL, "reports itself unhealthy"),
        _ => {
            draft.clear_node_notice(&NodeNotice::Service(service));
            draft.clear_node_notice(&NodeNotice::ServiceLeft(service));
            return false;
        }
    };
    // The evidence changes from look to look; that the service is stalled is said once.
    let about = NodeNotice::Service(service);
    if !draft.memory.notices.contains_key(&about) {
        draft.node_notice(about, format!("{service} {word}: {}", state.evidence));
    }
    state.watched >= patience
}

/// Whether it does not run. That is reported, with the reason and the way out, and nothing is restarted: the operator may have
/// stopped it, and what ends at its start ends again.
fn is_down(draft: &mut Draft<'_>, service: HostService, state: &ServiceState) -> bool {
    if state.verdict != Verdict::Down {
        return false;
    }
    draft.clear_node_notice(&NodeNotice::ServiceLeft(service));
    let about = NodeNotice::Service(service);
    // The words of a refused connection change; that the service does not run is said once.
    let is_known = draft.memory.notices.contains_key(&about);
    let text = match &state.crash_loop {
        Some(crash_loop) => format!("{service} does not run: {crash_loop}; next: {}", crash_loop.next_step),
        None if is_known || state.watched < DOWN_FOR => return true,
        None => {
            let next = state.next_step.as_deref().unwrap_or(service.look());
            format!("{service} does not run: {}; next: {next}", state.evidence)
        }
    };
    draft.node_notice(about, text);
    true
}

fn leave(draft: &mut Draft<'_>, service: HostService, why: &str, command: &[String]) {
    let command = command.join(" ");
    let text = format!("{service} is not restarted: {why}; `{command}` does it");
    draft.node_notice(NodeNotice::ServiceLeft(service), text);
}

fn kubelet(draft: &mut Draft<'_>) {
    let policy = draft.scene.policy;
    let (service, command) = (HostService::Kubelet, &policy.kubelet_restart);
    let state = draft.scene.judged.kubelet.clone();
    if !is_due(draft, service, &state) || kubelet_settles(draft) {
        return;
    }
    if let Some(hold) = draft.hold.as_ref().map(ToString::to_string) {
        return leave(draft, service, &hold, command);
    }
    let process = draft.scene.seen.kubelet.process.as_ref();
    if let Some(changed) = process.and_then(|process| process.changed_since.as_ref()) {
        let why = format!("{} changed since it started, and a restart would load the change", changed.display());
        return leave(draft, service, &why, command);
    }
    let limit = draft.scene.policy.kubelet_restarts_per_hour;
    if draft.memory.kubelet_restarts.len() >= limit {
        let why = format!("the limit of {limit} restarts per hour is reached ({RESUME})");
        return leave(draft, service, &why, command);
    }
    draft.memory.kubelet_restarts.push_back(Duration::ZERO);
    draft.tell_node(EventKind::State, "the kubelet is restarted", &state.evidence);
    draft.want(Step::RestartKubelet);
}

fn runtime(draft: &mut Draft<'_>) {
    let policy = draft.scene.policy;
    let (service, command) = (HostService::ContainerRuntime, &policy.runtime_restart);
    let state = draft.scene.judged.runtime.clone();
    let settles = draft.memory.runtime_restarts.iter().any(|age| *age < RUNTIME_PAUSE);
    if !is_due(draft, service, &state) || settles {
        return;
    }
    if let Some(hold) = draft.hold.as_ref().map(ToString::to_string) {
        return leave(draft, service, &hold, command);
    }
    let limit = draft.scene.policy.runtime_restarts_per_hour;
    if draft.memory.runtime_restarts.len() >= limit {
        let why = format!("the limit of {limit} restarts per hour is reached ({RESUME})");
        return leave(draft, service, &why, command);
    }
    draft.memory.runtime_restarts.push_back(Duration::ZERO);
    draft.tell_node(EventKind::State, "the container runtime is restarted", &state.evidence);
    draft.want(Step::RestartRuntime);
}
