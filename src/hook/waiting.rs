//! What waits for the operator: decided from what a pass judged and remembers.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::clock::between;
use crate::model::component::HostService;
use crate::model::hook::Matter;
use crate::model::notice::Notice;
use crate::model::verdict::ServiceState;
use crate::model::{ComponentId, ComponentState, Judgement, Memory, Verdict};

/// One matter that waits for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub matter: Matter,
    /// Since when; nothing where that is not remembered.
    pub since: Option<Timestamp>,
    /// What is wrong, as a sentence.
    pub message: String,
    pub next_step: String,
}

/// What a pass found, for the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What waits: one matter for a component, the gravest.
    pub waiting: BTreeMap<ComponentId, Waiting>,
    /// What is healthy. A component that is in neither, a candidate on probation for example, settles nothing.
    pub healthy: Vec<ComponentId>,
    /// Every component that exists.
    pub all: Vec<ComponentId>,
}

impl Found {
    pub(super) fn of(judged: &Judgement, memory: &Memory, now: Timestamp, unhealthy_after: Duration) -> Self {
        let mut found = Self::default();
        for id in memory.components.keys() {
            let waiting = wrong_data(memory, id)
                .or_else(|| held(memory, id))
                .or_else(|| unhealthy(judged, memory, id, now, unhealthy_after));
            found.add(id.clone(), waiting, judged.verdict(id));
        }
        for (service, state) in
            [(HostService::Kubelet, &judged.kubelet), (HostService::ContainerRuntime, &judged.runtime)]
        {
            let waiting = unhealthy_service(service, state, memory, now, unhealthy_after);
            found.add(service.into(), waiting, state.verdict);
        }
        found
    }

    fn add(&mut self, id: ComponentId, waiting: Option<Waiting>, verdict: Verdict) {
        self.all.push(id.clone());
        match waiting {
            Some(waiting) => drop(self.waiting.insert(id, waiting)),
            None if verdict == Verdict::Healthy => self.healthy.push(id),
            None => {}
        }
    }
}

fn wrong_data(memory: &Memory, id: &ComponentId) -> Option<Waiting> {
    let wrong = memory.wrong_data.as_ref().filter(|wrong| wrong.etcd == *id)?;
    let said = memory.components.get(id).and_then(|record| record.notices.get(&Notice::WrongData));
    let message = said.cloned().unwrap_or_else(|| format!("{id} serves {} data", wrong.kind.word()));
    Some(Waiting { matter: Matter::WrongData, since: Some(wrong.since), message, next_step: explain(id) })
}

fn held(memory: &Memory, id: &ComponentId) -> Option<Waiting> {
    let ComponentState::Held(held) = &memory.components.get(id)?.state else { return None };
    let (message, next_step) = (held.why.clone(), held.next_step.clone());
    Some(Waiting { matter: Matter::Held, since: None, message, next_step })
}

/// A person who paused lastgood is at the machine, and knows.
fn is_attended(memory: &Memory) -> bool {
    memory.pause.is_some()
}

fn is_bad(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Failing | Verdict::Stalled | Verdict::Down)
}

fn unhealthy(
    judged: &Judgement,
    memory: &Memory,
    id: &ComponentId,
    now: Timestamp,
    after: Duration,
) -> Option<Waiting> {
    let assessment = judged.components.get(id)?;
    let verdict = assessment.verdict();
    let since = assessment.since;
    if is_attended(memory) || !is_bad(verdict) || between(since, now) < after {
        return None;
    }
    let because = match &assessment.cause {
        Some(cause) => cause.to_string(),
        None => assessment.evidence.first().cloned().unwrap_or_default(),
    };
    let message = format!("{id} is {verdict}: {because}");
    Some(Waiting { matter: Matter::Unhealthy, since: Some(since), message, next_step: explain(id) })
}

fn unhealthy_service(
    service: HostService,
    state: &ServiceState,
    memory: &Memory,
    now: Timestamp,
    after: Duration,
) -> Option<Waiting> {
    let lasts = state.crash_loop.is_some() || state.watched >= after;
    if is_attended(memory) || !is_bad(state.verdict) || !lasts {
        return None;
    }
    let id = ComponentId::from(service);
    let because = match state.crash_loop.as_ref().and_then(|crash_loop| crash_loop.reason.clone()) {
        Some(reason) => format!("it exits again and again: {reason}"),
        None => state.evidence.clone(),
    };
    let since = now.checked_sub(state.watched).ok();
    let next_step = state.next_step.clone().unwrap_or_else(|| "`lastgood status`".to_owned());
    Some(Waiting {
        matter: Matter::Unhealthy,
        since,
        message: format!("{id} is {}: {because}", state.verdict),
        next_step,
    })
}

fn explain(id: &ComponentId) -> String {
    format!("`lastgood explain {id}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::component_state::{Held, Until};
    use crate::model::memory::{Pause, Record};
    use crate::model::verdict::{CrashLoop, Reads};
    use crate::model::{Assessment, Role};

    const AFTER: Duration = Duration::from_secs(300);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(verdict: Verdict, since: i64) -> (Judgement, Memory) {
        let etcd = ComponentId::system("etcd");
        let assessment = Assessment {
            role: Role::Etcd,
            health: verdict.into(),
            since: at(since),
            watched: Duration::ZERO,
            serving: false,
            evidence: vec!["it does not answer".to_owned()],
            cause: None,
            crash: None,
            uid: None,
            reads: Reads::All,
            address_in_use: false,
            delay: None,
        };
        let record = Record::new(Role::Etcd, ComponentState::Steady { good: 1 });
        let judged = Judgement { components: [(etcd.clone(), assessment)].into(), ..Judgement::default() };
        (judged, Memory { components: [(etcd, record)].into(), ..Memory::default() })
    }

    fn matter(judged: &Judgement, memory: &Memory, id: &ComponentId) -> Option<Matter> {
        Found::of(judged, memory, at(1000), AFTER).waiting.get(id).map(|waiting| waiting.matter)
    }

    #[test]
    fn what_is_unhealthy_for_long_waits_for_a_person_unless_one_is_there() {
        let etcd = ComponentId::system("etcd");
        for (verdict, since, waits) in [
            (Verdict::Healthy, 0, false),
            (Verdict::Unknown, 0, false),
            (Verdict::Starting, 0, false),
            (Verdict::Down, 701, false),
            (Verdict::Down, 700, true),
            (Verdict::Stalled, 0, true),
            (Verdict::Failing, 0, true),
        ] {
            let (judged, mut memory) = node(verdict, since);
            assert_eq!(matter(&judged, &memory, &etcd).is_some(), waits, "{verdict} since {since}");
            memory.pause = Some(Pause { until: at(2000), reason: String::new(), warned: false });
            assert_eq!(matter(&judged, &memory, &etcd), None, "{verdict} while paused");
        }
    }

    #[test]
    fn what_is_held_waits_at_once_also_during_a_pause() {
        let etcd = ComponentId::system("etcd");
        let (judged, mut memory) = node(Verdict::Down, 999);
        let held = Held {
            over: None,
            good: None,
            why: "no image".to_owned(),
            next_step: "load it".to_owned(),
            until: Until::Person,
        };
        memory.components.get_mut(&etcd).unwrap().state = ComponentState::Held(held);
        assert_eq!(matter(&judged, &memory, &etcd), Some(Matter::Held));
        memory.pause = Some(Pause { until: at(2000), reason: String::new(), warned: false });
        assert_eq!(matter(&judged, &memory, &etcd), Some(Matter::Held));
    }

    #[test]
    fn a_service_waits_when_its_process_exits_again_and_again_or_it_is_unwell_for_long() {
        let kubelet = ComponentId::from(HostService::Kubelet);
        let (mut judged, memory) = node(Verdict::Healthy, 0);
        judged.kubelet.verdict = Verdict::Down;
        judged.kubelet.watched = AFTER - Duration::from_secs(1);
        assert_eq!(matter(&judged, &memory, &kubelet), None);
        judged.kubelet.crash_loop = Some(CrashLoop {
            times: 3,
            since: None,
            status: None,
            reason: None,
            changed: None,
            next_step: String::new(),
        });
        assert_eq!(matter(&judged, &memory, &kubelet), Some(Matter::Unhealthy));
        judged.kubelet.crash_loop = None;
        judged.kubelet.watched = AFTER;
        assert_eq!(matter(&judged, &memory, &kubelet), Some(Matter::Unhealthy));
    }
}
