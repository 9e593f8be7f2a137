//! Decides whether an unhealthy dependent is evidence against the component it depends on (Q13).
//!
//! ```text
//!   Failing, or an exit whose end was seen         evidence, unless one of these explains it:
//!     a stall                  Stalled, whatever its activity, and every later state of a container that was stopped or hung
//!     a signal                 exit code 137, 143 or 0 (it was asked to end), OOMKilled
//!     an unknown end           it was restarted between two passes
//!     a cause                  its disk, port, certificate, key, the kubelet … (causes.rs, surroundings.rs)
//!     an older episode         it was unhealthy before the dependency's generation was deployed (back-off)
//!     a change                 it changed itself since then, or is on trial
//!   Down, Starting                                 no evidence: its container waits in back-off
//! ```
//!
//! A dependency that is unhealthy itself, or became healthy only now, is judged by its own state, not by its
//! dependents.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{causes, environment};
use crate::model::observation::{ContainerRun, ContainerState, PodRun, ProcessState};
use crate::model::verdict::{Assessment, Cause, Crash, Health, Judgement, Verdict};
use crate::model::{ComponentId, ComponentState, Memory, Observation, Tick};

/// After a dependency has become healthy, a dependent's trouble counts against it only this much later: until then it may
/// be the tail of the outage before.
const AFTERMATH: Duration = Duration::from_secs(20);

/// Healthy for this long, a dependent has recovered: a pod in a crash loop answers for a moment after each start, and one
/// that goes on after a stop loses its lease (15 s) and exits within seconds.
const RECOVERED: Duration = Duration::from_secs(60);

/// The exit codes of SIGKILL and SIGTERM; and of a scheduler that handles SIGTERM ("asked to terminate").
const ENDED_BY_A_SIGNAL: [i32; 3] = [137, 143, 0];

/// What is remembered of a component, to tell evidence from coincidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The container that was seen stopped or hung, until another one runs or it has recovered.
    hung: Option<Attempt>,
    /// Whether its container was seen to end in this pass, neither by a signal nor after it had hung.
    failed: bool,
    /// Since when it has been unhealthy while nothing beneath it was.
    unwell: Option<Timestamp>,
    /// How long it has been healthy since, in watched time.
    well: Duration,
    /// Whether it was looked at before.
    met: bool,
}

/// One start of a pod's main container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    uid: String,
    number: u32,
}

impl Past {
    /// Takes in what was seen of its container.
    pub(super) fn look(
        &mut self,
        verdict: Verdict,
        container: Option<(&PodRun, &ContainerRun)>,
        crash: Option<&Crash>,
    ) {
        self.failed = false;
        let Some((run, container)) = container else { return };
        let attempt = Attempt { uid: run.uid.clone(), number: container.attempt };
        self.hung.take_if(|hung| *hung != attempt);
        match &container.state {
            ContainerState::Exited { code, reason, .. } => {
                let signal = ENDED_BY_A_SIGNAL.contains(code) || reason == "OOMKilled";
                self.failed = crash.is_some() && !signal && self.hung.is_none();
            }
            ContainerState::Running { .. } => {
                let stopped = container.work.is_some_and(|work| work.state == ProcessState::Stopped);
                if stopped || verdict == Verdict::Stalled {
                    self.hung = Some(attempt);
                    self.well = Duration::ZERO;
                }
            }
            ContainerState::Created | ContainerState::Unknown => {}
        }
    }

    /// Follows how long it has been unhealthy. What it depends on makes no separate episode.
    fn follow(&mut self, tick: Tick, assessment: &Assessment, before: Option<(Verdict, Timestamp)>) {
        let first = !std::mem::replace(&mut self.met, true);
        if let Some((_, since)) = before.filter(|(verdict, _)| first && is_unwell(*verdict)) {
            self.unwell = Some(since);
        }
        if is_unwell(assessment.verdict()) || assessment.crash.is_some() {
            self.well = Duration::ZERO;
            if self.unwell.is_none() && !assessment.cause.as_ref().is_some_and(lies_beneath) {
                self.unwell = Some(tick.now.wall);
            }
        } else if assessment.verdict() == Verdict::Healthy {
            self.well += tick.credit;
            if self.well >= RECOVERED {
                (self.unwell, self.hung) = (None, None);
            }
        }
    }
}

fn is_unwell(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Healthy | Verdict::Unknown)
}

/// Whether a cause is what a component depends on, or what runs it.
fn lies_beneath(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Component { .. }
            | Cause::Runtime { .. }
            | Cause::Kubelet { .. }
            | Cause::Cluster { .. }
            | Cause::Alarm { .. }
            | Cause::Address { .. }
    )
}

/// Fills in who is harmed by whom. The causes are known by now.
pub(super) fn tell(
    judgement: &mut Judgement,
    tick: Tick,
    seen: &Observation,
    memory: &Memory,
    pasts: &mut BTreeMap<ComponentId, super::Past>,
) {
    for (id, assessment) in &judgement.components {
        let Some(past) = pasts.get_mut(id) else { continue };
        let before = memory.components.get(id).and_then(|record| record.verdict);
        past.blame.follow(tick, assessment, before);
    }
    let all = judgement.clone();
    for (id, assessment) in &mut judgement.components {
        if let Health::Healthy { breaks_dependent } = &mut assessment.health
            && let Some(own) = all.components.get(id)
        {
            *breaks_dependent = harmed_by(id, own, &all, seen, memory, pasts);
        }
    }
}

/// A dependent that turned bad although nothing explains it but this component's change, while this one is healthy (Q13).
fn harmed_by(
    id: &ComponentId,
    own: &Assessment,
    all: &Judgement,
    seen: &Observation,
    memory: &Memory,
    pasts: &BTreeMap<ComponentId, super::Past>,
) -> Option<ComponentId> {
    if own.watched < AFTERMATH || causes::is_learner(id, seen) {
        return None;
    }
    let since = deployed(id, memory);
    let dependents = all.components.iter().filter(|(other, a)| *other != id && a.role.depends_on() == Some(own.role));
    dependents
        .filter(|(other, a)| pasts.get(*other).is_some_and(|past| does_badly(a, &past.blame)))
        .filter(|(_, a)| !has_a_cause(a))
        .filter(|(other, _)| {
            let unwell = pasts.get(*other).and_then(|past| past.blame.unwell);
            !is_before(unwell, since) && is_unchanged(other, since, memory)
        })
        .map(|(other, _)| other)
        .find(|other| !environment::not_harmed(other, all, seen, memory))
        .cloned()
}

/// A container that was stopped or hung is no evidence, whatever becomes of it.
fn does_badly(assessment: &Assessment, past: &Past) -> bool {
    past.failed || assessment.verdict() == Verdict::Failing && past.hung.is_none()
}

/// A dead way to the API server may be the candidate's doing: `environment::not_harmed` tells.
fn has_a_cause(assessment: &Assessment) -> bool {
    assessment.cause.as_ref().is_some_and(|cause| !matches!(cause, Cause::Endpoint { .. }))
}

/// Whether nothing of it has changed since then.
fn is_unchanged(id: &ComponentId, since: Option<Timestamp>, memory: &Memory) -> bool {
    let steady = matches!(memory.components.get(id).map(|record| &record.state), Some(ComponentState::Steady { .. }));
    steady && !is_before(since, deployed(id, memory))
}

fn is_before(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one < other)
}

/// When the generation that is deployed came to be: a file that is moved in keeps its older time.
fn deployed(id: &ComponentId, memory: &Memory) -> Option<Timestamp> {
    let record = memory.components.get(id)?;
    let stands = record.deployed.as_ref()?;
    let first_seen = record.by_digest(stands.digest).map(|generation| generation.first_seen);
    Some(first_seen.map_or(stands.changed, |first_seen| first_seen.max(stands.changed)))
}
