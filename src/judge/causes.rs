//! Finds the root cause among all components: which verdict explains which.
//!
//! The dependency order is: container runtime and kubelet below everything, etcd below kube-apiserver, kube-apiserver
//! below controller manager and scheduler. A full disk, a foreign process on the port, a certificate outside its
//! validity, an unreachable API server, changed key material, data that etcd cannot start over, an earlier sandbox that still runs, a
//! directory in the place of a file, and an attempt that the kubelet does not start are causes of any component they affect.

use super::local_etcd::uses_local_etcd;
use super::{addresses, attempts, containers_of, environment, host_path, kubelet_log, kubelet_way, second_sandbox};
use crate::model::config_files::{FileKind, FileState};
use crate::model::verdict::{Assessment, Cause, Judgement, Verdict};
use crate::model::{ClosureFile, ComponentId, EtcdStatus, Memory, Observation, Role};

/// Fills in the causes.
pub(super) fn explain(judgement: &mut Judgement, seen: &Observation, memory: &Memory) {
    let before = judgement.clone();
    for (id, assessment) in &mut judgement.components {
        if assessment.verdict() == Verdict::Healthy {
            continue;
        }
        let certificate = matches!(assessment.cause, Some(Cause::Certificate { .. }));
        if certificate && environment::brought_a_bad_certificate(id, seen, memory) {
            assessment.cause = None;
        }
        // A member whose address is gone is cut off from the others, which is not the cluster's fault.
        if matches!(assessment.cause, Some(Cause::Cluster { .. }))
            && let Some(cause) = addresses::cause(id, assessment.role, &before, seen, memory)
        {
            assessment.cause = Some(cause);
        }
        if assessment.cause.is_none() {
            assessment.cause = cause_of(id, assessment, &before, seen, memory);
        }
        // No cause that excuses a candidate: the etcd before it runs over the same data.
        assessment.evidence.extend(environment::members(id, assessment, seen, memory));
    }
}

fn cause_of(
    id: &ComponentId,
    assessment: &Assessment,
    all: &Judgement,
    seen: &Observation,
    memory: &Memory,
) -> Option<Cause> {
    addresses::cause(id, assessment.role, all, seen, memory)
        .or_else(|| dependency(id, assessment.role, all, seen, memory))
        .or_else(|| no_kubelet(assessment, seen))
        .or_else(|| kubelet_log::cause(id, assessment, seen, memory))
        .or_else(|| kubelet_way::cause(assessment, seen))
        .or_else(|| environment::disk(id, assessment, seen, memory))
        .or_else(|| environment::store(id, assessment, seen, memory))
        .or_else(|| host_path::cause(id, assessment, seen, memory))
        .or_else(|| second_sandbox::cause(id, assessment, seen))
        .or_else(|| taken_port(id, seen, memory))
        .or_else(|| environment::certificate(id, seen, memory))
        .or_else(|| environment::endpoint(id, all, seen, memory))
        .or_else(|| changed_keys(id, seen, memory))
        .or_else(|| attempts::cause(id, assessment, seen))
}

/// The component this one cannot work without, if that one is not healthy.
fn dependency(id: &ComponentId, role: Role, all: &Judgement, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let needed = role.depends_on()?;
    let (id, assessment) = all.components.iter().find(|(other, a)| a.role == needed && *other != id)?;
    if needed == Role::Etcd && !uses_local_etcd(seen, memory) {
        return None;
    }
    if assessment.verdict() == Verdict::Healthy {
        let detail =
            "the member of this node is a learner: it serves no linearizable reads until it is promoted".to_owned();
        return is_learner(id, seen).then_some(Cause::Cluster { detail });
    }
    // Of an alarm a dependent's failure is the same failure: what it writes is refused.
    if let Some(cause @ Cause::Alarm { .. }) = &assessment.cause {
        return Some(cause.clone());
    }
    Some(Cause::Component { id: id.clone(), verdict: assessment.verdict() })
}

pub(super) fn is_learner(id: &ComponentId, seen: &Observation) -> bool {
    seen.etcd.get(id).is_some_and(EtcdStatus::is_learner)
}

fn no_kubelet(assessment: &Assessment, seen: &Observation) -> Option<Cause> {
    let stopped = matches!(assessment.verdict(), Verdict::Down | Verdict::Starting);
    let crash_loop = kubelet_log::crash_loop(seen).filter(|_| stopped);
    if let Some(crash_loop) = crash_loop {
        return Some(Cause::Kubelet { detail: format!("{crash_loop}; next: {}", crash_loop.next_step) });
    }
    (stopped && seen.kubelet.process.is_none()).then(|| {
        let certificate = environment::kubelet_certificate(seen).map_or_else(String::new, |why| format!("; {why}"));
        Cause::Kubelet { detail: format!("no kubelet process runs on this node{certificate}") }
    })
}

/// A process that is none of this component's containers listens on a port that it needs.
fn taken_port(id: &ComponentId, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let standing = seen.manifests.files().filter_map(|file| file.content.as_ref().ok()).find(|m| m.id == *id);
    let ports = standing.map(|manifest| manifest.ports()).or_else(|| {
        let record = memory.components.get(id)?;
        Some(record.generations.get(&record.state.good()?)?.ports.clone())
    })?;
    let own = containers_of(seen, id);
    ports.into_iter().find_map(|port| {
        let listener = seen.node.listeners.get(&port)?;
        let foreign = match &listener.container {
            Some(container) => !own.contains(container) && !is_control_plane_of(id, seen, container),
            None => listener.pid.is_some(),
        };
        let pid = listener.pid.map_or_else(|| "unknown pid".to_owned(), |pid| format!("pid {pid}"));
        foreign.then(|| Cause::Port { port, holder: format!("{} ({pid})", listener.program) })
    })
}

/// A container the runtime does not list under this component may still be an older attempt of it; one that is listed
/// under another component is foreign.
fn is_control_plane_of(id: &ComponentId, seen: &Observation, container: &str) -> bool {
    let listed = seen.runtime.iter().flatten().find(|run| run.containers.iter().any(|c| c.id == container));
    listed.is_none_or(|run| run.component == *id)
}

/// Key material that is not what it was when the known-good generation was kept.
fn changed_keys(id: &ComponentId, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let record = memory.components.get(id)?;
    let good = record.generations.get(&record.state.good()?)?;
    let keys =
        good.closure.iter().filter(|f| matches!(f.state, FileState::Present { kind: FileKind::KeyMaterial, .. }));
    keys.filter_map(|kept| key_trouble(kept, seen.files.get(&kept.path)?)).next()
}

fn key_trouble(kept: &ClosureFile, stands: &FileState) -> Option<Cause> {
    let path = kept.path.display();
    let detail = match (&kept.state, stands) {
        (_, FileState::Missing) => format!("{path} is missing"),
        (_, FileState::Unreadable { reason }) => format!("{path} cannot be read: {reason}"),
        (FileState::Present { digest: was, .. }, FileState::Present { digest: is, .. }) if was != is => {
            format!("{path} is not the one the last known-good generation ran with")
        }
        _ => return None,
    };
    Some(Cause::KeyMaterial { detail })
}
