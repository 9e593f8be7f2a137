//! Detects a process that answers its probes but makes no progress.
//!
//! ```text
//!   a lease is held here, and not renewed          its holder is stalled behind its health check
//!   a lease is held elsewhere, and not renewed     the local candidate should take it over, and does not
//!   the node's lease is not renewed                the kubelet is stalled
//!   reads through the API server hang,             the API server is stalled
//!     while etcd answers the same
//!   no lease at all is renewed                     writes fail cluster-wide: a restart here would cure nothing
//! ```
//!
//! A process that waits for a lease must not be restarted before it could have taken the lease: the wait begins again
//! at each restart. A kubelet that has just started is not judged before its lease could have ended, no matter who
//! restarted it. No process is judged by a lease that its predecessor did not renew, also while the API server returns
//! no lease.
//!
//! A renewal is detected by a change of the written value, never by the timestamp in it. Time counts only while the API
//! server returns the lease.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::lease::LeaseLook;
use crate::model::observation::ContainerState;
use crate::model::reading::{Question, SymptomKind};
use crate::model::{ComponentId, Lease, Observation, Policy, Reading, Role, Tick};

/// Under which name the node's own lease is looked at.
const KUBELET: &str = "kubelet";
/// An answer that is older than this says nothing of now.
const FRESH: Duration = Duration::from_secs(20);

/// What is remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    leases: BTreeMap<ComponentId, Still>,
    /// How long reads through the API server have failed while etcd answered, and which container of it that was.
    reads: (Option<String>, Duration),
}

/// A lease that has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Still {
    lease: Lease,
    /// The process it ought to be renewed by.
    process: Option<String>,
    /// For how long that process has left it alone, in watched time.
    still: Duration,
    /// For how long nobody has renewed it.
    unchanged: Duration,
}

/// Who answers and does not get on, with the sentence for it.
pub(super) type Stuck = BTreeMap<ComponentId, String>;

/// Looks at the leases of this pass.
pub(super) fn look(
    tick: Tick,
    seen: &Observation,
    roles: &[(ComponentId, Role)],
    policy: &Policy,
    past: &mut Past,
) -> Stuck {
    past.leases.retain(|id, _| seen.leases.contains_key(id));
    for (id, look) in &seen.leases {
        if let Some(lease) = fresh(tick, look).and_then(|look| look.said.as_ref().ok()) {
            watch(past, id, lease, tick.credit);
        }
    }
    for (id, still) in &mut past.leases {
        let process = process(seen, id);
        if still.process != process {
            (still.process, still.still) = (process, Duration::ZERO);
        }
    }
    let patience = policy.lease_still;
    let moves = past.leases.values().any(|still| still.lease.renewed.is_some() && still.unchanged < patience / 2);
    let mut stuck = Stuck::new();
    // Nobody waits for a node's.
    let contested = |id: &ComponentId| id.name() != KUBELET;
    let patience_with =
        |id: &ComponentId, lease: &Lease| if contested(id) { patience.max(lease.is_taken_within()) } else { patience };
    let due = |(id, still): &(&ComponentId, &Still)| {
        still.still >= patience_with(id, &still.lease) && (contested(id) || !seen.kubelet_is_young())
    };
    for (id, still) in past.leases.iter().filter(|entry| moves && due(entry)) {
        let seconds = still.still.as_secs();
        let why = match &still.lease.holder {
            Some(_) if still.lease.is_held_by(&seen.node.host) => {
                format!("it holds its lease and has not renewed it for {seconds} s")
            }
            Some(holder) => format!(
                "its lease is held by {holder}, who has not renewed it for {seconds} s, and it does not take it over"
            ),
            None => format!("nobody has held its lease for {seconds} s, and it does not take it"),
        };
        stuck.insert(id.clone(), why);
    }
    stuck.extend(api_server(tick, seen, roles, patience, past));
    stuck
}

fn fresh(tick: Tick, look: &LeaseLook) -> Option<&LeaseLook> {
    (tick.now.boot.saturating_sub(look.at) <= FRESH).then_some(look)
}

/// Counts for how long a lease has been left alone.
fn watch(past: &mut Past, id: &ComponentId, lease: &Lease, credit: Duration) {
    match past.leases.get_mut(id) {
        Some(known) if known.lease == *lease => {
            known.still += credit;
            known.unchanged += credit;
        }
        Some(known) => {
            known.lease = lease.clone();
            (known.still, known.unchanged) = (Duration::ZERO, Duration::ZERO);
        }
        None => {
            let (lease, process, zero) = (lease.clone(), None, Duration::ZERO);
            past.leases.insert(id.clone(), Still { lease, process, still: zero, unchanged: zero });
        }
    }
}

/// Who ought to renew: a container that runs, or the kubelet's process.
fn process(seen: &Observation, id: &ComponentId) -> Option<String> {
    let runs = seen.runtime.iter().flatten().filter(|run| run.component == *id).flat_map(|run| &run.containers);
    let running = runs.filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let container = running.map(|container| container.id.clone()).next_back();
    container.or_else(|| {
        let kubelet = seen.kubelet.process.as_ref().filter(|_| id.name() == KUBELET)?;
        Some(format!("{} {:?}", kubelet.pid, kubelet.started))
    })
}

/// An API server whose reads hang or fail although etcd answers the same. One lease that may not be read says nothing.
fn api_server(
    tick: Tick,
    seen: &Observation,
    roles: &[(ComponentId, Role)],
    patience: Duration,
    past: &mut Past,
) -> Option<(ComponentId, String)> {
    let of = |role| roles.iter().find(|(_, other)| *other == role).map(|(id, _)| id);
    let api = of(Role::ApiServer)?;
    let looks: Vec<&LeaseLook> = seen.leases.values().filter_map(|look| fresh(tick, look)).collect();
    let failed = looks
        .iter()
        .filter_map(|look| look.said.as_ref().err())
        .find(|symptom| matches!(symptom.kind, SymptomKind::TimedOut | SymptomKind::Unhealthy));
    let answered = looks.iter().any(|look| look.said.is_ok());
    let etcd = of(Role::Etcd).and_then(|etcd| seen.probes.get(etcd)).into_iter().flatten();
    let mut quorum = etcd.filter(|probe| probe.question == Question::Quorum);
    let etcd_answers = quorum.next().is_some_and(|probe| probe.reading == Reading::Good);
    let container = process(seen, api);
    let Some(symptom) = failed.filter(|_| !answered && etcd_answers && container.is_some()) else {
        past.reads = (None, Duration::ZERO);
        return None;
    };
    let known = past.reads.0 == container;
    past.reads = (container, if known { past.reads.1 + tick.credit } else { Duration::ZERO });
    (past.reads.1 >= patience).then(|| {
        let why = format!(
            "reads through it have failed for {} s although etcd answers with its quorum: {symptom}",
            past.reads.1.as_secs()
        );
        (api.clone(), why)
    })
}
