//! Decides what to do. Pure: one judgement, one memory and at most one request give one decision.
//!
//! ```text
//!   the pass         mod.rs: the one loop    draft.rs: the decision being made    pace.rs: when to pass again
//!   a state          steady.rs (Adopting, Steady, Unread, Missing, Held)    probation.rs: a candidate
//!                    undecoded.rs: a file that lastgood cannot decode       renewal.rs: renewed keys that are loaded
//!   a replacement    begin.rs: whether, by which, by which method    replacement.rs: stage by stage    targets.rs: rollback targets
//!                    stop_apiserver.rs: around a change of etcd      suspension.rs: of etcd during a restore of its data
//!   an upgrade       change_set.rs: what changed together    newer_than_api.rs: none newer than its API server
//!                    interrupted.rs: an upgrade that ended with a manifest missing
//!   a stall          stall.rs: of a component    services.rs: of kubelet and runtime    peer_quorum.rs: whether other masters serve
//!   an outage        assist.rs: what is nobody's fault is shortened    attempts.rs: an attempt that the kubelet does not start
//!                    second_sandbox.rs: the earlier of two sandboxes of a candidate
//!   etcd's data      incarnation.rs: what is served, remembered    lineage.rs: whether it is the data on record
//!                    wrong_data.rs: it is not    withheld.rs: kube-apiserver is stopped for it    etcd_answer.rs: the latest answer
//!                    restarts.rs: restarts what has cached other data
//!   a request        request.rs, pin.rs, quarantine.rs, suspension_request.rs
//!   notices          members.rs: of etcd    environment.rs: of the node    features.rs    inhibitors.rs: why nothing is changed
//!                    predicted.rs: what the kubelet is expected to refuse
//!   a downgrade      newer_state.rs: the state of a newer lastgood stays unchanged
//!   leaves           disk_state.rs: what the directory contains    pods.rs    kubelet.rs    lookup.rs
//!                    generations.rs: stored, proven, published, removed
//!                    host_paths.rs: the directories that were made for a candidate
//! ```
//!
//! Level-triggered: every pass compares the wanted state with the observed one, so a failed step is wanted again in the
//! next pass. The memory in the decision is the intent; it is saved before the first step is taken.

mod addresses;
mod assist;
mod attempts;
mod begin;
mod certificate_use;
mod change_set;
mod disk_state;
mod draft;
mod endpoints;
mod environment;
mod etcd_answer;
mod features;
mod generations;
mod host_paths;
mod incarnation;
mod inhibitors;
mod interrupted;
mod kubelet;
mod kubelet_probe;
mod lineage;
mod lookup;
mod members;
mod newer_state;
mod newer_than_api;
mod pace;
mod peer_quorum;
mod pin;
mod pods;
mod predicted;
mod probation;
mod quarantine;
mod refused;
mod renewal;
mod replacement;
mod request;
mod restarts;
mod second_sandbox;
mod services;
mod stall;
mod steady;
mod stop_apiserver;
mod suspension;
mod suspension_request;
mod targets;
mod undecoded;
mod withheld;
mod wrong_data;

pub use crate::model::inhibitor::Inhibitor;
pub use pace::{Pace, WATCHFUL};

use std::time::Duration;

use draft::Draft;
use replacement::Flow;

use crate::model::component_state::{SeenInPlace, Stage};
use crate::model::generation::Stored;
use crate::model::memory::ApiServed;
use crate::model::notice::NodeNotice;
use crate::model::observation::Directory;
use crate::model::plan::Refusal;
use crate::model::{
    ComponentId, ComponentState, Decision, Judgement, Memory, Observation, Policy, Request, Role, Step, Tick,
};

/// What a pass has to go by.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// When it is.
    pub tick: Tick,
    /// What was seen.
    pub seen: &'a Observation,
    /// What it means.
    pub judged: &'a Judgement,
    /// What the operator chose.
    pub policy: &'a Policy,
}

/// Decides a pass.
pub fn decide(scene: Scene<'_>, memory: &Memory) -> Decision {
    pass(scene, memory, |_| ()).0
}

/// Decides a pass that has a request, which is granted, or refused with a reason.
pub fn decide_request(scene: Scene<'_>, memory: &Memory, request: &Request) -> (Decision, Result<(), Refusal>) {
    pass(scene, memory, |draft| request::take(draft, request))
}

/// The one loop. The request comes before all else, so that its first step belongs to this pass.
fn pass<A>(scene: Scene<'_>, memory: &Memory, request: impl FnOnce(&mut Draft<'_>) -> A) -> (Decision, A) {
    let mut draft = Draft::new(scene, memory.clone());
    draft.memory.grow_older(scene.tick.credit);
    inhibitors::expire_pause(&mut draft);
    let answer = request(&mut draft);
    go_on(&mut draft);
    let hold = inhibitors::of(&draft);
    inhibitors::tell(&mut draft, hold.as_ref());
    draft.hold = hold;
    if newer_state::pass(&mut draft) {
        return (draft.finish(), answer);
    }
    change_set::grow_older(&mut draft);
    environment::tell(&mut draft);
    remember_api(&mut draft);

    // A directory that cannot be read says nothing about anybody.
    if let Directory::Unreadable(error) = &scene.seen.manifests {
        draft.node_notice(
            NodeNotice::Directory,
            format!("the manifest directory cannot be read, so lastgood does nothing: {error}"),
        );
    } else {
        draft.clear_node_notice(&NodeNotice::Directory);
        generations::meet(&mut draft);
        wrong_data::watch(&mut draft);
        incarnation::look(&mut draft);
        wrong_data::step(&mut draft);
        for id in in_order(&draft.memory) {
            renewal::follow(&mut draft, &id);
            if !draft.begun.contains(&id) {
                look(&mut draft, &id);
            }
        }
        newer_than_api::step(&mut draft);
        go_on(&mut draft);
        stop_apiserver::release(&mut draft);
        members::tell(&mut draft);
        features::tell(&mut draft);
        predicted::tell(&mut draft);
        restarts::follow(&mut draft);
        assist::step(&mut draft);
        second_sandbox::step(&mut draft);
        attempts::step(&mut draft);
        wrong_data::tell(&mut draft);
    }
    services::step(&mut draft);
    draft.tell_verdicts();
    generations::publish(&mut draft);
    generations::forget(&mut draft);
    (draft.finish(), answer)
}

/// How often one component is looked at in one pass: a rollback that ends because the operator deployed something else,
/// and one that what they deployed begins, with one to spare.
const LOOKS: usize = 3;

/// Takes one component through this pass, with the first step of what begins in it.
fn look(draft: &mut Draft<'_>, id: &ComponentId) {
    for _ in 0..LOOKS {
        let flow = steady::step(draft, id);
        if flow == Flow::Done && !draft.started.contains(id) {
            break;
        }
        draft.started.retain(|started| started != id);
    }
    go_on(draft);
}

/// The first step of every rollback that has begun.
fn go_on(draft: &mut Draft<'_>) {
    for id in std::mem::take(&mut draft.started) {
        look(draft, &id);
    }
}

/// Folds in that a step succeeded, where the memory has to know.
pub fn concluded(memory: &mut Memory, step: &Step) {
    match step {
        Step::Capture { component, number, .. } => {
            let record = memory.components.get_mut(component);
            if let Some(generation) = record.and_then(|record| record.generations.get_mut(number)) {
                generation.stored = Stored::Yes;
            }
        }
        // A file that is taken away before the next pass has seen it is taken away all the same: the replacement must not put
        // it back outside of the limit of actions.
        Step::PutIn { component, number, .. } => {
            if let Some(record) = memory.components.get_mut(component)
                && let ComponentState::Replacing(replacement) = &mut record.state
                && replacement.to == *number
                && let Stage::StoppingOld(startup) | Stage::AwaitingServing { startup, .. } = &mut replacement.stage
            {
                startup.seen_in_place = SeenInPlace::Yes;
            }
        }
        _ => {}
    }
}

/// Whether an etcd of this node was last found to serve the data on record.
pub fn serves_the_record(memory: &Memory, etcd: &ComponentId) -> bool {
    let doubted = memory.incarnations.get(etcd).is_some_and(|known| known.doubted.is_some());
    !doubted && memory.wrong_data.as_ref().is_none_or(|wrong| wrong.etcd != *etcd)
}

/// The components in the order of dependence: whoever is needed first is decided first.
fn in_order(memory: &Memory) -> Vec<ComponentId> {
    let mut ids: Vec<(Role, ComponentId)> = memory.components.iter().map(|(id, r)| (r.role, id.clone())).collect();
    ids.sort();
    ids.into_iter().map(|(_, id)| id).collect()
}

/// How often the memory notes that the API server serves: often enough to tell for a kubelet that was restarted lately,
/// seldom enough not to write a file at every pass.
const API_SERVED_EVERY: Duration = Duration::from_secs(10);

/// Remembers that the API server served: whether a kubelet has heard from one since its start hangs on it.
fn remember_api(draft: &mut Draft<'_>) {
    let serving = draft.scene.judged.components.values().any(|a| a.role == Role::ApiServer && a.serving);
    let (boot, now) = (&draft.scene.seen.node.boot_id, draft.scene.tick.now.boot);
    // A note from before the kubelet could have heard says nothing of it; the first one that does is not put off.
    let kubelet = draft.scene.seen.kubelet.process.as_ref();
    let tells = kubelet.map(|process| process.started + kubelet::HEARD_AFTER).filter(|tells| *tells <= now);
    let fresh = draft.memory.api_served.as_ref().is_some_and(|s| {
        s.boot_id == *boot && now < s.at + API_SERVED_EVERY && tells.is_none_or(|tells| s.at >= tells)
    });
    if serving && !fresh {
        draft.memory.api_served =
            Some(ApiServed { boot_id: draft.scene.seen.node.boot_id.clone(), at: draft.scene.tick.now.boot });
    }
}

#[cfg(test)]
pub(crate) mod tests;
