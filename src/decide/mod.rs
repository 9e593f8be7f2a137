//! What is to be done. Pure: one judgement, one memory and perhaps one request make one decision.
//!
//! ```text
//!   hold.rs        is there a reason to change nothing (pause, observe mode, kubeadm at work, a read-only /etc)
//!   request.rs     what a person asked for, granted or refused; pin.rs and quarantine.rs: their word on a generation
//!   standing.rs    what the directory says of a component: one file, a broken one, several, none
//!   steady.rs      Adopting, Steady, Unread, Missing, Held: what a look changes
//!   undecoded.rs   a file that does not decode for us: put right at once, or when the kubelet has not run it
//!   interrupted.rs an upgrade that ended while a manifest was away
//!   probation.rs   a candidate's trial, and what ends it
//!   change_set.rs  what changed together: undone as far as needed, no component newer than its API server
//!   rollback.rs    a replacement, stage by stage; parking.rs: kube-apiserver out of etcd's way
//!   vacancy.rs     the same with a pause in it, while a person restores etcd's data
//!   stall.rs       a process that stands still; services.rs: the same of the kubelet and the container runtime
//!   others.rs      whether the other masters carry on while one of this node is stopped
//!   surroundings.rs  certificates, disks, pressure, the clock, the way to the API server: told, no more
//!   members.rs     what etcd members say that a person has to know
//!   lineage.rs     whether what an etcd serves is the data on record
//!   incarnation.rs what etcd serves, remembered; after a restore, what read from it before is restarted
//!   wrong_data.rs  etcd serves other data: held, and kube-apiserver is stopped where nobody else serves
//!   pace.rs        how soon to look again
//!   renewal.rs     renewed keys and certificates that a healthy process has loaded
//!   generations.rs what is kept of what was seen, published, and forgotten
//! ```
//!
//! Level-triggered: every pass looks at the gap between wanted and seen, so that a step that failed is simply wanted
//! again. The memory in the decision is the intent; it is saved before the first step is taken.

mod change_set;
mod draft;
mod generations;
mod hold;
mod incarnation;
mod interrupted;
mod lineage;
mod members;
mod others;
mod pace;
mod parking;
mod pin;
mod probation;
mod quarantine;
mod renewal;
mod request;
mod rollback;
mod services;
mod snapshots;
mod stall;
mod standing;
mod steady;
mod surroundings;
mod undecoded;
mod vacancy;
mod wrong_data;

pub use hold::Hold;
pub use pace::{Pace, WATCHFUL};

use crate::model::generation::Stored;
use crate::model::memory::ApiServed;
use crate::model::observation::Directory;
use crate::model::plan::Refusal;
use crate::model::{ComponentId, Decision, Judgement, Memory, Observation, Policy, Request, Role, Step, Tick};
use draft::Draft;
use std::time::Duration;

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

/// Decides. A request is answered beside the decision: granted, or refused with a reason.
pub fn decide(scene: Scene<'_>, memory: &Memory, request: Option<&Request>) -> (Decision, Option<Result<(), Refusal>>) {
    let mut draft = Draft::new(scene, memory.clone());
    draft.memory.grow_older(scene.tick.credit);
    hold::expire_pause(&mut draft);
    let answer = request.map(|request| request::take(&mut draft, request));
    let hold = Hold::of(&draft);
    hold::tell(&mut draft, hold.as_ref());
    draft.hold = hold;
    change_set::grow_older(&mut draft);
    surroundings::tell(&mut draft);
    remember_api(&mut draft);

    // A directory that cannot be read says nothing about anybody.
    if let Directory::Unreadable(error) = &scene.seen.manifests {
        draft.node_notice("directory", format!("the manifest directory cannot be read, nothing is done: {error}"));
    } else {
        draft.clear_node_notice("directory");
        generations::meet(&mut draft);
        wrong_data::watch(&mut draft);
        incarnation::look(&mut draft);
        wrong_data::step(&mut draft);
        for id in in_order(&draft.memory) {
            renewal::follow(&mut draft, &id);
            if !draft.begun.contains(&id) {
                steady::step(&mut draft, &id);
            }
        }
        change_set::step(&mut draft);
        parking::release(&mut draft);
        members::tell(&mut draft);
        snapshots::tell(&mut draft);
        incarnation::follow(&mut draft);
        wrong_data::tell(&mut draft);
    }
    services::step(&mut draft);
    draft.tell_verdicts();
    generations::publish(&mut draft);
    generations::forget(&mut draft);
    (draft.finish(), answer)
}

/// Folds in that a step succeeded, where the memory has to know.
pub fn concluded(memory: &mut Memory, step: &Step) {
    if let Step::Capture { component, number, .. } = step
        && let Some(generation) =
            memory.components.get_mut(component).and_then(|record| record.generations.get_mut(number))
    {
        generation.stored = Stored::Yes;
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
    let tells = kubelet.map(|process| process.started + rollback::HEARD_AFTER).filter(|tells| *tells <= now);
    let fresh = draft.memory.api_served.as_ref().is_some_and(|s| {
        s.boot_id == *boot && now < s.at + API_SERVED_EVERY && tells.is_none_or(|tells| s.at >= tells)
    });
    if serving && !fresh {
        draft.memory.api_served =
            Some(ApiServed { boot_id: draft.scene.seen.node.boot_id.clone(), at: draft.scene.tick.now.boot });
    }
}

#[cfg(test)]
mod tests;
