//! Turns an observation into verdicts. Pure: the clock, the observation and the history are arguments.
//!
//! ```text
//!   for each component          component_health.rs         its container and its probes  ─▶ verdict, with hysteresis both ways
//!                               etcd.rs          the status an etcd member reports
//!   for all of them together    causes.rs        a fault below explains one above; only the root cause is acted on
//!                               environment.rs   certificates, disks, access to the API server
//!                               addresses.rs     addresses that no interface has
//!                               kubelet_probe.rs a liveness probe that fails while the process answers
//!                               kubelet_way.rs   a kubelet that waits for an API server
//!                               attempts.rs      an attempt that never comes
//!                               second_sandbox.rs   an earlier sandbox that still runs
//!                               host_path.rs     a directory where the manifest names a file
//!   for a candidate             blame.rs         whether an unhealthy dependent is evidence against it
//!                               own_fault.rs     whether one crash proves that no other attempt ends differently
//!   for nobody's fault          delay.rs         whether waiting longer only costs time
//!   for those that answer       progress.rs      whether they make progress: leases, linearizable reads
//!   below the components        services.rs      the kubelet and the container runtime
//!                               kubelet_log.rs   what the kubelet's own log explains
//! ```
//!
//! A cluster-wide symptom is never a local fault, "cannot tell" changes nothing, and a process that answers 401 is
//! alive.

mod addresses;
mod attempts;
mod blame;
mod causes;
mod component_health;
mod config_freshness;
mod delay;
mod environment;
mod etcd;
mod finding;
mod host_path;
mod kubelet_log;
mod kubelet_probe;
mod kubelet_way;
mod local_etcd;
mod own_fault;
mod process_activity;
mod progress;
mod second_sandbox;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use kubelet_log::crash_loop;

use crate::model::component::HostService;
use crate::model::observation::{Directory, ManifestFile};
use crate::model::verdict::Cause;
use crate::model::{ComponentId, Judgement, Memory, Observation, Policy, Role, Tick, Verdict};

/// What judging remembers from pass to pass. It is not kept over a restart: every streak begins again.
#[derive(Clone, Debug, Default)]
pub struct History {
    components: BTreeMap<ComponentId, Past>,
    progress: progress::Past,
    kubelet: services::Past,
    runtime: services::Past,
}

/// One component's past.
#[derive(Clone, Debug)]
struct Past {
    verdict: Verdict,
    since: Timestamp,
    watched: Duration,
    /// Distinct good and bad answers in a row.
    good: u32,
    bad: u32,
    /// When the last answer that was counted came, on the boot clock.
    answered: Option<Duration>,
    /// Whether the process that runs now has ever served.
    served_by: Option<String>,
    /// Exits counted so far, by pod UID.
    exits: BTreeMap<String, u32>,
    /// Its process, since it was first seen to be stalled.
    stood_still: process_activity::Watched,
    /// What tells whether its trouble is evidence against what it depends on.
    blame: blame::Past,
    /// What tells whether its state only costs time.
    delay: delay::Past,
}

/// Judges one look at the node.
pub fn judge(
    tick: Tick,
    seen: &Observation,
    memory: &Memory,
    mut history: History,
    policy: &Policy,
) -> (Judgement, History) {
    let mut judgement = Judgement { etcd: seen.etcd.clone(), ..Judgement::default() };
    let subjects = subjects(seen, memory);
    let roles: Vec<(ComponentId, Role)> =
        subjects.iter().map(|(id, file)| (id.clone(), component_health::role(memory, id, file.as_deref()))).collect();
    let stuck = progress::look(tick, seen, &roles, policy, &mut history.progress);
    for (id, file) in subjects {
        let past = history.components.remove(&id);
        let undecoded = if file.is_none() { undecoded(seen, memory, &id) } else { None };
        let stuck = stuck.get(&id).map(String::as_str).filter(|_| undecoded.is_none());
        let subject = component_health::Subject { id: &id, file: file.as_deref(), undecoded, stuck };
        let (assessment, past) = component_health::assess(tick, seen, memory, subject, past);
        judgement.components.insert(id.clone(), assessment);
        history.components.insert(id, past);
    }
    history.components.retain(|id, _| judgement.components.contains_key(id));
    causes::explain(&mut judgement, seen, memory);
    kubelet_probe::tell(&mut judgement, seen);
    blame::tell(&mut judgement, tick, seen, memory, &mut history.components);
    delay::tell(&mut judgement, seen, memory, &history.components);
    // Nobody who verifies it can renew a lease through an API server whose certificate has ended; no restart cures that.
    let ended = roles.iter().filter(|(_, role)| *role == Role::ApiServer).any(|(id, _)| {
        let assessment = judgement.components.get(id);
        assessment.is_some_and(|assessment| matches!(assessment.cause, Some(Cause::Certificate { .. })))
    });
    let kubelet = stuck.get(&ComponentId::from(HostService::Kubelet)).filter(|_| !ended);
    judgement.kubelet = services::kubelet(tick, seen, kubelet, &mut history.kubelet);
    judgement.runtime = services::runtime(tick, seen, &mut history.runtime);
    (judgement, history)
}

/// Every component of the directory and of the memory, with the file that holds it: the one under the name it is known
/// by where several claim it.
fn subjects(seen: &Observation, memory: &Memory) -> BTreeMap<ComponentId, Option<Arc<ManifestFile>>> {
    let mut subjects: BTreeMap<ComponentId, Option<Arc<ManifestFile>>> =
        memory.components.keys().map(|id| (id.clone(), None)).collect();
    if let Directory::Present { files, .. } = &seen.manifests {
        for file in files.values() {
            let Ok(manifest) = &file.content else { continue };
            let known_as = memory.components.get(&manifest.id).and_then(|record| record.file_name());
            let entry = subjects.entry(manifest.id.clone()).or_default();
            if entry.is_none() || known_as == Some(file.name.as_str()) {
                *entry = Some(Arc::clone(file));
            }
        }
    }
    subjects
}

/// The file of a component that does not decode for us, and that the kubelet may run a pod of nevertheless (Q16).
fn undecoded<'a>(seen: &'a Observation, memory: &Memory, id: &ComponentId) -> Option<&'a ManifestFile> {
    let file = seen.manifests.file(memory.components.get(id)?.file_name()?)?;
    file.content.as_ref().err().filter(|fault| fault.kubelet_may_run()).map(|_| file.as_ref())
}

/// The names of what runs on a port legitimately: the IDs of a component's containers.
fn containers_of(seen: &Observation, id: &ComponentId) -> BTreeSet<String> {
    let runs = seen.runtime.iter().flatten().filter(|run| run.component == *id);
    runs.flat_map(|run| run.containers.iter().map(|container| container.id.clone())).collect()
}

#[cfg(test)]
mod kubelet_tests;
#[cfg(test)]
mod tests;
