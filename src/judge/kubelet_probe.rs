//! A liveness probe that fails while the process answers lastgood is evidence, and no verdict: the process is as healthy
//! as it answers, and the kubelet ends it nevertheless.

use std::time::Duration;

use crate::model::kubelet_probe::{AnswersUs, FailingProbe};
use crate::model::observation::ContainerState;
use crate::model::{ComponentId, Judgement, Observation};

/// A process has run for this long, and its probe failed for as long, before the two are compared: the answer before may be of
/// the process before.
const SETTLED: Duration = Duration::from_secs(10);

/// Adds to the evidence what the kubelet holds against a process that answers.
pub(super) fn tell(judgement: &mut Judgement, seen: &Observation) {
    let disagree = |probe: &FailingProbe| probe.answers_us == AnswersUs::Yes && probe.failing_for >= SETTLED;
    for (id, probe) in seen.node.failing_probes.iter().filter(|(_, probe)| disagree(probe)) {
        if !has_run_for(SETTLED, id, seen) {
            continue;
        }
        if let Some(assessment) = judgement.components.get_mut(id) {
            assessment.evidence.push(probe.sentence());
        }
    }
}

fn has_run_for(least: Duration, id: &ComponentId, seen: &Observation) -> bool {
    let containers = seen.runtime.iter().flatten().filter(|run| run.component == *id).flat_map(|run| &run.containers);
    let mut ages = containers.filter_map(|container| match &container.state {
        ContainerState::Running { started } => Duration::try_from(seen.at.wall.duration_since(*started)).ok(),
        _ => None,
    });
    ages.any(|age| age >= least)
}
