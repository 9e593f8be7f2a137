//! The decision that is being made: the memory to save, and the steps and events so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Inhibitor, Scene};
use crate::model::component_state::{Held, Until};
use crate::model::event::EventKind;
use crate::model::memory::Record;
use crate::model::notice::{NodeNotice, Notice};
use crate::model::verdict::Assessment;
use crate::model::{ComponentId, ComponentState, Decision, Event, Memory, Step};

pub(super) struct Draft<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) memory: Memory,
    pub(super) hold: Option<Inhibitor>,
    pub(super) plan: Vec<Step>,
    pub(super) events: Vec<Event>,
    /// Whose replacement began in this pass: what it wants has not been done yet, so that looking at the directory once
    /// more would take what still represents somebody's intervention.
    pub(super) begun: BTreeSet<ComponentId>,
    /// Components whose rollback has begun and has not taken its first step yet.
    pub(super) started: Vec<ComponentId>,
    /// What each etcd of this node was found to serve in this pass.
    pub(super) data: BTreeMap<ComponentId, DataTrust>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(scene: Scene<'a>, memory: Memory) -> Self {
        Self {
            scene,
            memory,
            hold: None,
            plan: Vec::new(),
            events: Vec::new(),
            begun: BTreeSet::new(),
            started: Vec::new(),
            data: BTreeMap::new(),
        }
    }

    pub(super) fn finish(self) -> Decision {
        Decision { memory: self.memory, plan: self.plan, events: self.events }
    }

    /// The watched time of this pass.
    pub(super) fn credit(&self) -> Duration {
        self.scene.tick.credit
    }

    pub(super) fn record(&self, id: &ComponentId) -> Option<&Record> {
        self.memory.components.get(id)
    }

    pub(super) fn record_mut(&mut self, id: &ComponentId) -> Option<&mut Record> {
        self.memory.components.get_mut(id)
    }

    pub(super) fn assessment(&self, id: &ComponentId) -> Option<&'a Assessment> {
        self.scene.judged.components.get(id)
    }

    /// What may be concluded from the health of a component: of anything but an etcd, whatever it answers.
    pub(super) fn trust(&self, id: &ComponentId) -> DataTrust {
        self.data.get(id).copied().unwrap_or(DataTrust::OnRecord)
    }

    pub(super) fn want(&mut self, step: Step) {
        self.plan.push(step);
    }

    /// Tells something about one component.
    pub(super) fn tell(&mut self, id: &ComponentId, kind: EventKind, generation: Option<u32>, to: &str, because: &str) {
        let event = Event::new(self.scene.tick.now.wall, kind, Some(id), to, because);
        self.events.push(Event { generation, ..event });
    }

    /// Tells something about the node.
    pub(super) fn tell_node(&mut self, kind: EventKind, to: &str, because: &str) {
        self.events.push(Event::new(self.scene.tick.now.wall, kind, None, to, because));
    }

    /// Moves a component to another place in the state machine, and says so if the place has another name or meaning.
    pub(super) fn enter(&mut self, id: &ComponentId, slot: ComponentState, because: &str) {
        let at = self.scene.tick.now.wall;
        let Some(record) = self.memory.components.get_mut(id) else { return };
        let (from, to) = (record.state.to_string(), slot.to_string());
        let generation = match &slot {
            ComponentState::Adopting { candidate, .. } | ComponentState::Unread { candidate, .. } => Some(*candidate),
            ComponentState::Probation(probation) => Some(probation.candidate),
            other => other.good(),
        };
        record.state = slot;
        if from != to {
            let event = Event::new(at, EventKind::State, Some(id), to, because);
            self.events.push(Event { generation, from: Some(from), ..event });
        }
    }

    /// Stops doing anything about a component until the operator does.
    pub(super) fn hold_back(
        &mut self,
        id: &ComponentId,
        over: Option<u32>,
        why: String,
        next_step: String,
        until: Until,
    ) {
        let good =
            self.record(id).and_then(|record| record.state.good().or_else(|| Some(record.known_good().next()?.number)));
        let because = format!("{why}; next: {next_step}");
        self.enter(id, ComponentState::Held(Held { over, good, why, next_step, until }), &because);
    }

    /// Has something to be known about a component: told once, shown while it lasts.
    pub(super) fn notice(&mut self, id: &ComponentId, about: Notice, text: String) {
        let Some(record) = self.memory.components.get_mut(id) else { return };
        if record.notices.insert(about, text.clone()).as_ref() != Some(&text) {
            self.tell(id, EventKind::Notice, None, &text, "");
        }
    }

    pub(super) fn clear_notice(&mut self, id: &ComponentId, about: Notice) {
        if let Some(record) = self.memory.components.get_mut(id) {
            record.notices.remove(&about);
        }
    }

    /// Sets or clears a notice.
    pub(super) fn notice_if(&mut self, id: &ComponentId, about: Notice, text: Option<String>) {
        match text {
            Some(text) => self.notice(id, about, text),
            None => self.clear_notice(id, about),
        }
    }

    /// Has something to be known about the node.
    pub(super) fn node_notice(&mut self, about: NodeNotice, text: String) {
        if self.memory.notices.insert(about, text.clone()).as_ref() != Some(&text) {
            self.tell_node(EventKind::Notice, &text, "");
        }
    }

    /// Replaces the notices about the node that `of_kind` selects by these.
    pub(super) fn keep_node_notices(
        &mut self,
        of_kind: fn(&NodeNotice) -> bool,
        notices: BTreeMap<NodeNotice, String>,
    ) {
        self.memory.notices.retain(|about, _| !of_kind(about) || notices.contains_key(about));
        for (about, text) in notices {
            self.node_notice(about, text);
        }
    }

    pub(super) fn clear_node_notice(&mut self, about: &NodeNotice) {
        self.memory.notices.remove(about);
    }

    /// Takes one action from a component's budget for the hour; false when it is spent.
    pub(super) fn spend(&mut self, id: &ComponentId) -> bool {
        let limit = self.scene.policy.actions_per_hour;
        let Some(record) = self.memory.components.get_mut(id) else { return false };
        if record.actions.len() >= limit {
            return false;
        }
        record.actions.push_back(Duration::ZERO);
        true
    }

    /// Says each change of a verdict once.
    pub(super) fn tell_verdicts(&mut self) {
        let at = self.scene.tick.now.wall;
        for (id, assessment) in &self.scene.judged.components {
            let Some(record) = self.memory.components.get_mut(id) else { continue };
            let before = record.verdict.map(|(verdict, _)| verdict);
            if before == Some(assessment.verdict()) {
                continue;
            }
            record.verdict = Some((assessment.verdict(), assessment.since));
            let cause = assessment.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
            let because = format!("{}{cause}", assessment.evidence.join("; "));
            let event = Event::new(at, EventKind::Verdict, Some(id), assessment.verdict().to_string(), because);
            self.events.push(Event { from: before.map(|verdict| verdict.to_string()), ..event });
        }
    }
}

/// What is known of an etcd's data in this pass: what may be concluded from its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataTrust {
    /// It serves the data on record, or there is no record yet.
    OnRecord,
    /// The process that runs has not said yet what it serves.
    NotTold,
    /// It serves others, by one answer or by several.
    Others,
}
