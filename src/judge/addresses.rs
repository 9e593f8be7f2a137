//! An address that no interface of this node has is the cause of every component that cannot listen there, that the
//! kubelet cannot probe there, or that depends on such a component. An address that only a candidate names is the
//! candidate's own fault: its known-good generation does not need it (Q12).

use super::local_etcd::uses_local_etcd;
use crate::model::addresses::{Missing, named};
use crate::model::verdict::{Cause, Judgement, Verdict};
use crate::model::{ComponentId, ComponentState, Manifest, Memory, Observation, Role};

/// The missing address that explains an unhealthy component: its own, or that of what it depends on.
pub(super) fn cause(
    id: &ComponentId,
    role: Role,
    all: &Judgement,
    seen: &Observation,
    memory: &Memory,
) -> Option<Cause> {
    let addresses = &seen.node.addresses;
    if addresses.missing.is_empty() {
        return None;
    }
    let (mut id, mut role) = (id, role);
    loop {
        let of_it = addresses.missing.iter().filter(|missing| missing.binds(id));
        if let Some(missing) = of_it.into_iter().find(|missing| !brought(id, missing, seen, memory)) {
            let detail = format!("{}; next: {}", addresses.sentence(missing), addresses.next(missing));
            return Some(Cause::Address { detail });
        }
        let needed = role.depends_on()?;
        if needed == Role::Etcd && !uses_local_etcd(seen, memory) {
            return None;
        }
        let (beneath, assessment) = all.components.iter().find(|(other, a)| a.role == needed && *other != id)?;
        if assessment.verdict() == Verdict::Healthy {
            return None;
        }
        (id, role) = (beneath, needed);
    }
}

/// Whether a candidate names the address and the known-good generation does not. Where the known-good manifest is not
/// at hand, that is unknown, and the candidate is not blamed.
fn brought(id: &ComponentId, missing: &Missing, seen: &Observation, memory: &Memory) -> bool {
    let Some(record) = memory.components.get(id) else { return false };
    let ComponentState::Probation(trial) = &record.state else { return false };
    let Some(good) = record.generations.get(&trial.good) else { return false };
    let kept = seen.inactive.values().filter_map(|file| file.content.as_ref().ok());
    let names_it = |manifest: &Manifest| named(manifest).iter().any(|(other, _, _)| *other == missing.address);
    kept.into_iter().find(|manifest| manifest.digest == good.pod_digest).is_some_and(|good| !names_it(good))
}
