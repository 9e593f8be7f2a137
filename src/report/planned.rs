//! What a request would do, shown before it is done: the steps, the effect on the pod, and the downtime.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::model::component_state::{Method, Replacement, Stage};
use crate::model::lineage::ApiStop;
use crate::model::memory::Record;
use crate::model::{
    ComponentId, ComponentState, Decision, FileKind, FileState, Generation, Memory, Request, Role, Trust,
};

/// A plan for a person to agree to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Planned {
    /// What was asked for.
    pub request: Request,
    /// What will be done, in order.
    pub steps: Vec<String>,
    /// What that means for the pods.
    pub effects: Vec<String>,
    /// How long the component is away, from and to, in seconds; absent when it is not.
    pub away_seconds: Option<(u64, u64)>,
}

/// How long a component is away, in seconds, from the first step to serving again. Measured on a real kubelet: an
/// change by one rename is delayed for 10 to 15 s; kube-apiserver takes up to 30 s to end and etcd's replacement waits for its
/// mirror pod; out, gone, a second more and in takes about 2 s beside the component's own start.
const fn away(role: Role, method: Method) -> (u64, u64) {
    match (method, role) {
        (Method::Rename, Role::Etcd) => (47, 60),
        (Method::Rename, Role::ApiServer) => (37, 61),
        (Method::Rename, _) => (13, 35),
        (Method::RemoveThenAdd, Role::Etcd) => (3, 15),
        (Method::RemoveThenAdd, Role::ApiServer) => (5, 45),
        (Method::RemoveThenAdd, _) => (2, 20),
        (Method::RenameAndRestartKubelet, Role::ApiServer) => (10, 60),
        (Method::RenameAndRestartKubelet, _) => (5, 30),
    }
}

impl Planned {
    /// Describes what a decision that a request led to will do. The first pass's steps are in the decision; the later
    /// ones follow from the way the replacement takes.
    pub fn new(request: &Request, before: &Memory, decision: &Decision) -> Self {
        let mut planned = Self { request: request.clone(), steps: Vec::new(), effects: Vec::new(), away_seconds: None };
        let after = |component| decision.memory.components.get(component).or_else(|| before.components.get(component));
        match request {
            Request::Rollback { component, .. } => match after(component).map(|record| (record, &record.state)) {
                Some((record, ComponentState::Replacing(replacement))) => planned.replaced(component, record, replacement),
                Some((_, slot)) => planned.effects.push(format!("{component} is {slot}: nothing to do")),
                None => planned.effects.push(format!("{component} is not known: nothing to do")),
            },
            Request::Suspend { component, seconds, .. } => {
                if let Some((record, ComponentState::Replacing(replacement))) = after(component).map(|record| (record, &record.state)) {
                    planned.suspended(component, record, replacement, *seconds);
                }
            }
            Request::Pause { seconds, .. } => {
                let length = crate::config::duration::roughly(std::time::Duration::from_secs(*seconds));
                planned.effects.push(format!("lastgood changes nothing for {length}, and goes on to observe"));
            }
            Request::Checkpoint { component, .. } => planned.effects.push(match after(component).and_then(Record::pin) {
                None => format!(
                    "the deployed generation of {component} is known-good from now on, and failed changes are rolled back to it"
                ),
                Some(pinned) => format!(
                    "the deployed generation of {component} is known-good from now on; a failed change is still rolled back to generation {pinned}, which is pinned"
                ),
            }),
            Request::Pin { component, .. } => {
                let number = after(component).and_then(Record::pin).unwrap_or_default();
                planned.effects.push(format!(
                    "a failed change of {component} is rolled back to generation {number}, until `lastgood unpin {component}`"
                ));
                planned.effects.push(format!("generation {number} is never removed, and inactive-manifests contains it"));
            }
            Request::Unpin { component } => {
                let back = after(component).and_then(Record::goes_back_to).unwrap_or_default();
                planned.effects.push(format!(
                    "a failed change of {component} is rolled back to generation {back}, and later to the newest known-good one"
                ));
            }
            Request::Quarantine { component, number, .. } => {
                let quarantined = after(component).and_then(|after| {
                    number.or_else(|| newly_quarantined(before.components.get(component), after))
                });
                planned.effects.push(format!(
                    "generation {} of {component} is quarantined: it is rolled back immediately if it is deployed \
                     again, until `lastgood release {component}`",
                    quarantined.unwrap_or_default()
                ));
                if let Some((record, ComponentState::Replacing(replacement))) = after(component).map(|record| (record, &record.state))
                    && replacement.from() == quarantined
                    && before.components.get(component).is_none_or(|before| before.state != record.state)
                {
                    planned.replaced(component, record, replacement);
                }
            }
            Request::Release { component, number } => {
                let which =
                    number.map_or("its newest quarantined generation".to_owned(), |n| format!("generation {n}"));
                planned.effects.push(format!("{component}: {which} may be tried again"));
            }
            Request::AcceptData { component } => planned.accepted(component.as_ref(), before),
            Request::Resume { .. } => planned.resumed(before, &decision.memory),
        }
        if planned.steps.is_empty() {
            planned.steps = decision.plan.iter().map(ToString::to_string).collect();
        }
        planned
    }

    /// Whether something is taken down for it.
    pub fn replaces(&self) -> bool {
        self.away_seconds.is_some()
    }

    /// The pause that ends, what is released, and what stays held.
    fn resumed(&mut self, before: &Memory, after: &Memory) {
        let held =
            |memory: &Memory, id| matches!(memory.components.get(id)?.state, ComponentState::Held(_)).then_some(());
        let paused = before.pause.is_some() && after.pause.is_none();
        if paused {
            self.effects.push("the pause ends, and lastgood acts again".to_owned());
        }
        for (id, record) in &before.components {
            let ComponentState::Held(hold) = &record.state else { continue };
            self.effects.push(match held(after, id) {
                None => format!("{id} is released; it was held: {}", hold.why),
                Some(()) => format!("{id} stays held: {}; next step: {}", hold.why, hold.next_step),
            });
        }
        if self.effects.is_empty() {
            self.effects
                .push("lastgood is not paused and nothing is held; it counts its actions from zero again".to_owned());
        }
    }

    fn accepted(&mut self, component: Option<&ComponentId>, before: &Memory) {
        let wrong = before.wrong_data.as_ref().filter(|wrong| component.is_none_or(|only| *only == wrong.etcd));
        let Some(wrong) = wrong else {
            return self.effects.push("etcd serves the data on record: nothing to do".to_owned());
        };
        let etcd = &wrong.etcd;
        self.effects.push(format!("the data that {etcd} serves become the data on record: {}", wrong.serves));
        if let Some(known) = before.incarnations.get(etcd) {
            self.effects
                .push(format!("lastgood no longer waits for the data it served before: {known}, seen {:.0}", known.at));
        }
        match &wrong.api {
            ApiStop::Stopped { component, generation, .. } => {
                self.steps.push(format!("put generation {generation} of {component} back, and wait for it to serve"));
                self.effects.push(
                    "kubelets that list their pods from these data delete every pod that is not in them".to_owned(),
                );
            }
            ApiStop::NotStopped | ApiStop::Released => {}
        }
        self.steps.push("restart kube-controller-manager and kube-scheduler, one after the other".to_owned());
    }

    fn replaced(&mut self, component: &ComponentId, record: &Record, replacement: &Replacement) {
        let from = replacement.from().and_then(|number| record.generations.get(&number));
        let to = record.generations.get(&replacement.to);
        self.replacement(component.to_string(), record.role, replacement, from, to);
    }

    fn suspended(&mut self, component: &ComponentId, record: &Record, replacement: &Replacement, seconds: u64) {
        let file = record.generations.get(&replacement.to).map_or("its manifest", |to| to.file_name.as_str());
        let stops_apiserver = replacement.stage == Stage::StoppingApiServer;
        if stops_apiserver {
            self.steps.push("take kube-apiserver's manifest out and wait for its pod to end".to_owned());
        }
        self.steps.push(format!("take {file} out, and wait for its pod to end"));
        self.steps.push("restore the data".to_owned());
        self.steps.push(format!("put {file} back, and wait for {component} to serve"));
        if stops_apiserver {
            self.steps.push("put kube-apiserver's manifest back".to_owned());
        }
        let longest = crate::config::duration::roughly(std::time::Duration::from_secs(seconds));
        self.effects.push(format!("the control plane of this node is stopped meanwhile, for at most {longest}"));
        self.effects.push("kube-controller-manager and kube-scheduler are restarted after it".to_owned());
    }

    fn replacement(
        &mut self,
        component: String,
        role: Role,
        replacement: &Replacement,
        from: Option<&Generation>,
        to: Option<&Generation>,
    ) {
        let number = replacement.to;
        let file = to.map_or("its manifest", |to| to.file_name.as_str());
        let stops_apiserver = replacement.stage == Stage::StoppingApiServer;
        if stops_apiserver {
            self.steps.push("take kube-apiserver's manifest out and wait for its pod to end".to_owned());
        }
        for duplicate in replacement.duplicates() {
            self.steps.push(format!("move {duplicate} out of the manifest directory"));
        }
        for path in restored(from, to) {
            self.steps.push(format!("put {path} of generation {number} back"));
        }
        match replacement.method {
            Method::Rename => self.steps.push(format!("put generation {number} in place as {file}, by one rename")),
            Method::RemoveThenAdd => {
                self.steps.push(format!("take {file} out, generation {number} staged in its place"));
                self.steps.push("wait for the old pod to end, and a second more".to_owned());
                self.steps.push(format!("put generation {number} in as {file}"));
            }
            Method::RenameAndRestartKubelet => {
                self.steps.push(format!("put generation {number} in place as {file}, by one rename"));
                self.steps.push("stop the old sandbox, and restart the kubelet once".to_owned());
            }
        }
        self.steps.push(format!("wait for {component} to serve"));
        if stops_apiserver {
            self.steps.push("put kube-apiserver's manifest back".to_owned());
        }
        // With no API server to ask, the kubelet's calls about etcd's mirror pod fail at once instead of hanging for 34 s.
        let (least, most) =
            if stops_apiserver { away(Role::Other, replacement.method) } else { away(role, replacement.method) };
        self.away_seconds = Some((least, most));
        let mut effect = format!("{component}'s pod is stopped and started again from generation {number}");
        if let Some(from) = replacement.from() {
            let _ = write!(effect, " in place of generation {from}");
        }
        self.effects.push(effect);
        self.effects.push(format!("{component} is stopped for about {least} to {most} s"));
        if stops_apiserver {
            self.effects.push("kube-apiserver is stopped until etcd serves again".to_owned());
        }
        if role == Role::ApiServer || stops_apiserver {
            self.effects.push("kube-controller-manager and kube-scheduler restart with it".to_owned());
        }
    }

    pub fn text(&self) -> String {
        steps_and_effects(&self.steps, &self.effects)
    }
}

/// A plan as text: numbered steps, then what they mean.
pub(super) fn steps_and_effects(steps: &[String], effects: &[String]) -> String {
    let mut out = String::new();
    for (at, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", at + 1);
    }
    for effect in effects {
        let _ = writeln!(out, "  {effect}.");
    }
    out
}

/// The generation that a decision quarantined.
fn newly_quarantined(before: Option<&Record>, after: &Record) -> Option<u32> {
    let is = |generation: &&Generation| matches!(generation.trust, Trust::Quarantined { .. });
    let was = |number| before.and_then(|before| before.generations.get(&number)).is_some_and(|was| is(&was));
    after.generations.values().filter(is).map(|generation| generation.number).find(|number| !was(*number))
}

/// The configuration files that differ between two generations and come back with the second.
fn restored(from: Option<&Generation>, to: Option<&Generation>) -> Vec<String> {
    let (Some(from), Some(to)) = (from, to) else { return Vec::new() };
    let comes_back = |state: &FileState| {
        matches!(state, FileState::Present { kind: FileKind::Config | FileKind::Kubeconfig { .. }, .. })
    };
    let differs = |path, state| from.closure.iter().any(|file| &file.path == path && &file.state != state);
    to.closure
        .iter()
        .filter(|file| comes_back(&file.state) && differs(&file.path, &file.state))
        .map(|file| file.path.display().to_string())
        .collect()
}
