//! Whether the kubelet and lastgood mean the same by healthy: a container that the kubelet ends again and again cannot be
//! recovered.

use super::{Check, CheckResult, Examined};
use crate::model::kubelet_probe::AnswersUs;

/// One check for each probe that fails while the process answers; nothing where none does.
pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    let failing = examined.seen.node.failing_probes.iter().filter(|(_, probe)| probe.answers_us == AnswersUs::Yes);
    let check = failing.map(|(id, probe)| {
        let record = examined.memory.components.get(id);
        let file = record.and_then(|record| record.file_name()).unwrap_or("its manifest");
        Check::bad(format!("{id}: kubelet's probe"), CheckResult::Warning, probe.sentence(), probe.next(file))
    });
    check.collect()
}
