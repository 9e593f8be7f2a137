//! A liveness probe that fails while the process answers lastgood is evidence, and no verdict: the process is as healthy
//! as it answers, and the kubelet ends it nevertheless.

use crate::model::kubelet_probe::AnswersUs;
use crate::model::{Judgement, Observation};

/// Adds to the evidence what the kubelet holds against a process that answers.
pub(super) fn tell(judgement: &mut Judgement, seen: &Observation) {
    for (id, probe) in seen.node.failing_probes.iter().filter(|(_, probe)| probe.answers_us == AnswersUs::Yes) {
        if let Some(assessment) = judgement.components.get_mut(id) {
            assessment.evidence.push(probe.sentence());
        }
    }
}
