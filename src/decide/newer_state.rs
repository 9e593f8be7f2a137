//! While a newer lastgood's files are here (`Inhibitor::NewerState`): the manifest that was taken out comes back (Q11), and
//! nothing else is done or remembered. Status, journal and metrics report as at any other time.
//!
//! The memory is what this program understands of the newer one. It is not saved, so only what needs no intent is wanted.

use super::draft::Draft;
use super::withheld::withheld;
use super::{Inhibitor, environment, in_order, incarnation, inhibitors, look, members, stop_apiserver};
use crate::model::ComponentState;
use crate::model::observation::Directory;
use crate::model::plan::Refusal;

/// The inhibitor, while it is in force.
fn in_force(draft: &Draft<'_>) -> Option<Inhibitor> {
    inhibitors::of(draft).filter(|hold| matches!(hold, Inhibitor::NewerState { .. }))
}

/// Nothing that a person asks for can be remembered.
pub(super) fn refuse(draft: &Draft<'_>) -> Result<(), Refusal> {
    match in_force(draft) {
        None => Ok(()),
        Some(hold) => Err(Refusal::NotActing { why: format!("{hold}; next: {}", hold.next_step()) }),
    }
}

/// The whole pass, where the inhibitor is in force; false where it is not.
pub(super) fn pass(draft: &mut Draft<'_>) -> bool {
    if in_force(draft).is_none() {
        return false;
    }
    environment::tell(draft);
    if !matches!(draft.scene.seen.manifests, Directory::Unreadable(_)) {
        come_back(draft);
        members::tell(draft);
    }
    draft.tell_verdicts();
    draft.plan.retain(|step| step.touches_node() && !step.needs_intent());
    true
}

fn come_back(draft: &mut Draft<'_>) {
    if withheld(&draft.memory).is_some() {
        // What it waits for is that etcd serves the right data.
        incarnation::look(draft);
    }
    for id in in_order(&draft.memory) {
        if matches!(draft.record(&id).map(|record| &record.state), Some(ComponentState::Replacing(_))) {
            look(draft, &id);
        }
    }
    stop_apiserver::release(draft);
}
