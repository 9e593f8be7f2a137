//! Detects a state that only costs time: it ends by itself, later than it could.
//!
//! ```text
//!   kube-apiserver terminates, its manifest replaced     its port was seen open, and refuses connections for 2 s
//!   a container waits in back-off                        its process ended in an outage of its dependency, or had started
//!                                                        in it, and the dependency has served for 10 s since
//! ```
//!
//! kube-apiserver closes its port after its preStop hook and after `--shutdown-delay-duration`: through both of them it
//! serves, so a port that refuses says that both are over. What it still waits for then are clients that hold
//! connections open (up to its termination grace, 30 s; measured).
//!
//! Time is observed time (Q14). Nothing of it survives a restart of the agent: then the kubelet's own way remains.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::local_etcd::uses_local_etcd;
use crate::model::observation::{ContainerRun, ContainerState};
use crate::model::reading::SymptomKind;
use crate::model::verdict::{Assessment, Delay, Judgement, Verdict};
use crate::model::{ComponentId, Memory, Observation, Probe, Reading, Role, Tick};

/// A port that refuses for this long is closed: the kernel refuses for a moment also where a backlog is full.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// A back-off is worth ending when it has lasted this long: the first one of the kubelet's takes 10 s.
const WAITED_FOR: Duration = Duration::from_secs(10);

/// A dependency that has served for this long is back.
const SERVED_FOR: Duration = Duration::from_secs(10);

/// What is remembered of one component.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The container whose port was seen open, and by which question: another manifest may name another port.
    open: Option<(String, String)>,
    /// When it refused first, how long it has done so in watched time, and the answer that said it last.
    refused: Option<Refused>,
    /// The container that exited, how long it has been seen so, and when its process had started.
    exited: Option<Exited>,
    /// How long it has served without a break.
    served: Duration,
    /// Since when it has not served, and whether that is an outage: one bad answer is none.
    gone: Option<Timestamp>,
    away: bool,
    /// Its last outage, while it serves: from when to when.
    outage: Option<(Timestamp, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    first: Duration,
    last: Duration,
    lasted: Duration,
}

#[derive(Clone, Debug)]
struct Exited {
    container: String,
    started: Timestamp,
    finished: Timestamp,
    log_tail: Option<String>,
    lasted: Duration,
}

impl Past {
    /// Whether the process of this container, which runs and which the kubelet is about to replace, has closed its port.
    /// Called in every pass: the port of a process that is not to be replaced is seen to be open.
    pub(super) fn port_closed(
        &mut self,
        tick: Tick,
        replaced: Option<&ContainerRun>,
        live: Option<&Probe>,
    ) -> Option<Delay> {
        let refuses =
            live.filter(|live| matches!(&live.reading, Reading::Bad(why) if why.kind == SymptomKind::Refused));
        let (Some(container), Some(live)) = (replaced, refuses) else {
            self.refused = None;
            return None;
        };
        let is_open = |(open, target): &(String, String)| *open == container.id && *target == live.target;
        if !self.open.as_ref().is_some_and(is_open) {
            return None;
        }
        let refused = match self.refused {
            Some(known) => Refused { last: live.at, lasted: known.lasted + tick.credit, ..known },
            None => Refused { first: live.at, last: live.at, lasted: Duration::ZERO },
        };
        self.refused = Some(refused);
        // One answer is one sample, however often it is looked at.
        (refused.lasted >= REFUSED_FOR && refused.first < refused.last)
            .then(|| Delay::PortClosed { container: container.id.clone(), lasted: refused.lasted })
    }

    /// Takes in how it does and what its container is at.
    pub(super) fn look(
        &mut self,
        tick: Tick,
        verdict: Verdict,
        serving: bool,
        container: Option<&ContainerRun>,
        live: Option<&Probe>,
    ) {
        if let Some((container, live)) = container.zip(live).filter(|_| serving) {
            self.open = Some((container.id.clone(), live.target.clone()));
        }
        if serving {
            self.served += tick.credit;
            if let Some(gone) = self.gone.take()
                && std::mem::take(&mut self.away)
            {
                (self.served, self.outage) = (Duration::ZERO, Some((gone, tick.now.wall)));
            }
        } else {
            self.served = Duration::ZERO;
            self.gone.get_or_insert(tick.now.wall);
            self.away |= !matches!(verdict, Verdict::Healthy | Verdict::Unknown);
        }
        let known = self.exited.take();
        let Some(ContainerRun { id, log_tail, state, .. }) = container else { return };
        let ContainerState::Exited { started, finished, reason, .. } = state else { return };
        if reason == "OOMKilled" {
            return;
        }
        self.exited = Some(match known.filter(|known| known.container == *id) {
            Some(known) => Exited { lasted: known.lasted + tick.credit, ..known },
            None => Exited {
                container: id.clone(),
                started: *started,
                finished: *finished,
                log_tail: log_tail.clone(),
                lasted: Duration::ZERO,
            },
        });
    }
}

/// Fills in which back-offs are left over from an outage. The causes are known by now.
pub(super) fn tell(
    judgement: &mut Judgement,
    seen: &Observation,
    memory: &Memory,
    pasts: &BTreeMap<ComponentId, super::Past>,
) {
    let all = judgement.clone();
    for (id, assessment) in &mut judgement.components {
        if assessment.delay.is_none() {
            assessment.delay = back_off(id, assessment, &all, seen, memory, pasts);
        }
    }
}

fn back_off(
    id: &ComponentId,
    assessment: &Assessment,
    all: &Judgement,
    seen: &Observation,
    memory: &Memory,
    pasts: &BTreeMap<ComponentId, super::Past>,
) -> Option<Delay> {
    let exited = pasts.get(id)?.delay.exited.as_ref()?;
    if assessment.verdict() != Verdict::Down || assessment.cause.is_some() || exited.lasted < WAITED_FOR {
        return None;
    }
    let needed = assessment.role.depends_on()?;
    let (dependency, it) = all.components.iter().find(|(other, a)| a.role == needed && *other != id)?;
    let past = &pasts.get(dependency)?.delay;
    let is_back = it.verdict() == Verdict::Healthy && past.served >= SERVED_FOR;
    let (gone, back) = past.outage.filter(|_| is_back)?;
    let local = needed != Role::Etcd || uses_local_etcd(seen, memory);
    (local && exited.started < back && exited.finished >= gone).then(|| Delay::BackOff {
        container: exited.container.clone(),
        lasted: exited.lasted,
        dependency: dependency.clone(),
        log_tail: exited.log_tail.clone(),
    })
}
