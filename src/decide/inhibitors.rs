//! The current inhibitors (model::inhibitor): reports when one begins or ends, and removes an expired pause.

use std::time::Duration;

use super::draft::Draft;
use crate::model::component_state::Initiator;
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::notice::NodeNotice;
use crate::model::observation::BusyKind;
use crate::model::{ComponentId, Role};

/// A pause is said to end soon this long before it does.
const WARN_BEFORE: Duration = Duration::from_secs(5 * 60);

/// The strongest reason at present.
pub(super) fn of(draft: &Draft<'_>) -> Option<Inhibitor> {
    let node = &draft.scene.seen.node;
    Inhibitor::all(node, draft.scene.policy.mode, draft.memory.pause.as_ref()).into_iter().next()
}

/// Ends a pause that is over; says when it is about to be.
pub(super) fn expire_pause(draft: &mut Draft<'_>) {
    if !draft.scene.seen.node.newer_state.is_empty() {
        // Nothing acts again, and the memory is as the newer lastgood left it.
        return;
    }
    let now = draft.scene.tick.now.wall;
    let Some(pause) = &mut draft.memory.pause else { return };
    let left = Duration::try_from(pause.until.duration_since(now)).unwrap_or(Duration::ZERO);
    if left.is_zero() {
        draft.memory.pause = None;
        draft.tell_node(EventKind::Agent, "acting again", "the pause has ended");
    } else if left <= WARN_BEFORE && !pause.warned {
        pause.warned = true;
        let text = format!("the pause ends in {} s", left.as_secs());
        draft.tell_node(EventKind::Notice, &text, "it was not renewed; `lastgood pause` renews it");
    }
}

/// Says when a hold begins and ends.
pub(super) fn tell(draft: &mut Draft<'_>, hold: Option<&Inhibitor>) {
    match hold {
        // It ends with the command, and the agent that starts next has nothing to take back.
        Some(Inhibitor::NoAgent) => {}
        Some(hold) => draft.node_notice(NodeNotice::Inhibitor, format!("observing only: {hold}")),
        None => {
            if draft.memory.notices.remove(&NodeNotice::Inhibitor).is_some() {
                draft.tell_node(EventKind::Agent, "acting again", "no inhibitor is left");
            }
        }
    }
}

/// What keeps a replacement from beginning.
pub(super) fn held(hold: Option<&Inhibitor>, initiator: Initiator) -> Option<&Inhibitor> {
    hold.filter(|hold| initiator == Initiator::Agent || !hold.yields_to_operator())
}

/// Whether etcd may give no answers because it is maintained, and this component is etcd or depends on it. What it shows
/// meanwhile says nothing about its generation. Another inhibitor may be the strongest at the same time.
pub(super) fn is_maintained(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let maintained = draft.scene.seen.node.busy.iter().any(|process| process.kind == BusyKind::EtcdMaintenance);
    let role = draft.record(id).map(|record| record.role);
    maintained && std::iter::successors(role, |role| role.depends_on()).any(|role| role == Role::Etcd)
}
