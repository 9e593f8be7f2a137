//! Keeps etcd's manifest out while its data are restored: a replacement by the deployed generation, with a pause in the
//! middle.
//!
//! ```text
//!   StoppingApiServer ─▶ TakingOut ─▶ AwaitingGone ─▶ Settling ─▶ Suspended ─▶ PuttingIn ─▶ AwaitingServing ─▶ Steady
//!                                         │ does not end:            │  the restore ends, with any result,    | Probation
//!                                         │ stopped through CRI      │  or the maximum is over
//!                                         └ still running ───────────┴──▶
//! ```
//!
//! Whether the restore is still running is known from its lock, not from messages: a process that is killed releases it
//! as well. While the lock is held, act deploys no etcd, so that none ever starts over data in the middle of an
//! exchange.

use std::time::Duration;

use super::draft::Draft;
use super::{kubelet, pods};
use crate::model::component_state::{Replacement, Stage};
use crate::model::event::EventKind;
use crate::model::observation::BusyKind;
use crate::model::{ComponentId, Generation, Step};

/// The process that restores, while there is one.
pub(super) fn restores(draft: &Draft<'_>) -> Option<i32> {
    let busy = &draft.scene.seen.node.busy;
    busy.iter().find(|process| process.kind == BusyKind::Restore).map(|process| process.pid)
}

/// Waits for the pod's end. A kubelet that has not heard from an API server since its start ends no pod, and one that
/// hangs does not either: then it is stopped through CRI, after the grace that is its own.
pub(super) fn await_gone(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement, to: &Generation) -> Option<Stage> {
    let patience = match kubelet::kubelet_hears(draft) {
        true => to.termination_grace + draft.scene.policy.stop_margin,
        false => Duration::ZERO,
    };
    if r.in_stage >= patience + to.termination_grace + draft.scene.policy.stop_margin {
        let because = "it is deployed again as it was, and nothing was restored";
        draft.tell(id, EventKind::Notice, Some(r.to), "its pod does not end", because);
        return Some(Stage::PuttingIn);
    }
    if r.in_stage >= patience {
        let old: Vec<String> = pods::ready_sandboxes(draft, id).collect();
        for sandbox in old {
            draft.want(Step::StopSandbox { component: id.clone(), sandbox });
        }
    }
    None
}

/// Whether the pause is over.
pub(super) fn look(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement) -> Option<Stage> {
    let longest = r.suspended_for().unwrap_or_default();
    match restores(draft) {
        Some(_) if r.in_stage < longest => None,
        Some(pid) => {
            let text = format!(
                "it was stopped for {} s, the maximum; the restore (pid {pid}) has not ended",
                longest.as_secs()
            );
            draft.tell(id, EventKind::Notice, Some(r.to), &text, "");
            Some(Stage::PuttingIn)
        }
        None => Some(Stage::PuttingIn),
    }
}
