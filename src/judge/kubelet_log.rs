//! What the kubelet's own log explains (Q16): that the kubelet ends again and again, and what keeps it from running a pod.

use std::time::Duration;

use crate::model::kubelet_log::{ExitKind, PodFault, PodFaultKind};
use crate::model::observation::{ContainerState, PodRun};
use crate::model::verdict::{Assessment, Cause, CrashLoop, Verdict};
use crate::model::{ComponentId, ComponentState, Memory, Observation};

/// The kubelet tries a pod again within a minute and some jitter: a word that is older than this no longer holds.
const HOLDS: Duration = Duration::from_secs(150);

/// Whether the kubelet's process ends again and again right after its start, by the service manager's lines in its log.
pub fn crash_loop(seen: &Observation) -> Option<CrashLoop> {
    let log = seen.kubelet.log()?;
    let exits = log.crash_loop(seen.at.wall)?;
    let last = exits.last()?;
    let running = seen.kubelet.process.as_ref().map(|process| seen.at.boot.saturating_sub(process.started));
    // It has run for longer than the crashes are apart: this one stays.
    if running.is_some_and(|age| age > RUNS) {
        return None;
    }
    let changed = seen.kubelet.changed.as_ref();
    let kind = log.reason.as_ref().map_or(&ExitKind::Other, |reason| &reason.kind);
    Some(CrashLoop {
        times: u32::try_from(exits.len()).unwrap_or(u32::MAX),
        since: exits.first().and_then(|exit| exit.at),
        status: Some(last.status.clone()),
        reason: log.reason.as_ref().map(|reason| reason.line.clone()),
        changed: changed.filter(|_| matches!(kind, ExitKind::Flag(_) | ExitKind::Config(_) | ExitKind::Other)).cloned(),
        next_step: kind.next_step(changed.map(|(path, _)| path)),
    })
}

/// A kubelet that has run for this long has passed what ends it at its start.
pub(super) const RUNS: Duration = Duration::from_secs(30);

/// What keeps the kubelet from running a component's pod: where the node is at fault, or a path that the pod mounts. What else
/// is wrong with the pod is a candidate's own fault, and none of a pod that is known-good.
pub(super) fn cause(id: &ComponentId, assessment: &Assessment, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let proven = memory.components.get(id).is_some_and(|record| matches!(record.state, ComponentState::Steady { .. }));
    let fault = pod_fault(id, seen)?;
    let (detail, next_step) = (fault.to_string(), fault.kind.next_step());
    let cause = match &fault.kind {
        PodFaultKind::HostPathType { path } => Cause::HostPath { path: path.clone(), detail, next_step },
        kind if proven || kind.is_of_the_node() => Cause::Sandbox { detail, next_step },
        _ => return None,
    };
    let stopped = matches!(assessment.verdict(), Verdict::Down | Verdict::Starting);
    let running = |run: &PodRun| run.containers.iter().any(|c| matches!(c.state, ContainerState::Running { .. }));
    let runs = seen.runtime.iter().flatten().any(|run| run.component == *id && running(run));
    (stopped && !runs).then_some(cause)
}

/// What the kubelet said lately that keeps it from running a component's pod.
pub(super) fn pod_fault<'a>(id: &ComponentId, seen: &'a Observation) -> Option<&'a PodFault> {
    let fault = seen.kubelet.log()?.pods.get(id)?;
    let age = |at| Duration::try_from(seen.at.wall.duration_since(at)).unwrap_or_default();
    fault.at.is_none_or(|at| age(at) < HOLDS).then_some(fault)
}
