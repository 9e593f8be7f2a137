//! etcd's slot, empty while a person restores its data: a replacement by what stands already, with a pause in the middle.
//!
//! ```text
//!   Parking ─▶ TakingOut ─▶ AwaitingGone ─▶ Settling ─▶ Vacant ─▶ PuttingIn ─▶ AwaitingServing ─▶ Steady | Probation
//!   kube-apiserver              │ does not end:          │  the restore ends, however it does,
//!                               │ stopped through CRI    │  or the longest is over
//!                               └ nor then ──────────────┴──▶
//! ```
//!
//! Whether the restore goes on is told by its lock, not by its word: a process that is killed gives it back as well. While
//! it is held, act puts no etcd in, so that none is ever started over data in the middle of an exchange.

use std::time::Duration;

use super::draft::Draft;
use super::standing::Standing;
use super::{Hold, parking, request, rollback};
use crate::model::event::EventKind;
use crate::model::generation::Stored;
use crate::model::observation::BusyKind;
use crate::model::plan::Refusal;
use crate::model::slot::{Nudged, Rollback, Stage, Stood, Vacated, Way, Wish};
use crate::model::{ComponentId, Generation, Role, Slot, Step};

/// Grants or refuses a person's wish to have a slot empty.
pub(super) fn ask(draft: &mut Draft<'_>, id: &ComponentId, longest: Duration, why: &str) -> Result<(), Refusal> {
    let record = request::known(draft, id)?;
    let state = record.slot.to_string();
    let not_now = |why: &str| Err(Refusal::NotNow { component: id.clone(), state, why: why.to_owned() });
    if record.role != Role::Etcd {
        return not_now("only etcd's manifest is taken out for a while; `lastgood pause`, and move it by hand");
    }
    if let Some(hold) = Hold::of(draft).filter(|hold| !hold.yields_to_operator()) {
        return Err(Refusal::NotActing { why: hold.to_string() });
    }
    if matches!(record.slot, Slot::RollingBack(_)) {
        return not_now("it is being replaced; when that is over, ask again");
    }
    let standing = Standing::of(draft.scene.seen, id, record);
    let number = request::stands(record, &standing);
    let kept = number.and_then(|number| record.generations.get(&number)).filter(|kept| kept.stored == Stored::Yes);
    let Some(to) = kept.map(|kept| kept.number) else {
        return not_now(
            "what stands of it is not one whole manifest that is kept, so it could not be brought back; `lastgood \
             rollback` of it, or move it out by hand",
        );
    };
    if restores(draft).is_none() {
        return not_now("nobody restores its data: `lastgood etcd restore` asks for this by itself");
    }
    let stage = if parking::whom(draft, id).is_some() { Stage::Parking } else { Stage::TakingOut };
    let vacated = Rollback {
        from: Some(to),
        to,
        why: why.to_owned(),
        wish: Wish::Operator,
        way: Way::TwoSteps,
        intruders: Vec::new(),
        stage,
        in_stage: Duration::ZERO,
        crashes: 0,
        nudged: Nudged::NotYet,
        stood: Stood::NotYet,
        vacated: Some(Vacated { longest }),
    };
    rollback::start(draft, id, vacated);
    Ok(())
}

/// The process that restores, while there is one.
fn restores(draft: &Draft<'_>) -> Option<i32> {
    let busy = &draft.scene.seen.node.busy;
    busy.iter().find(|process| process.kind == BusyKind::Restore).map(|process| process.pid)
}

/// Waits for the pod's end. A kubelet that has not heard from an API server since its start ends no pod, and one that
/// hangs does not either: then it is stopped through CRI, after the grace that is its own.
pub(super) fn await_gone(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation) {
    let patience = match rollback::kubelet_hears(draft) {
        true => to.termination_grace + draft.scene.policy.gone_margin,
        false => Duration::ZERO,
    };
    if r.in_stage >= patience + to.termination_grace + draft.scene.policy.gone_margin {
        let because = "it comes back as it was, and nothing is restored";
        draft.tell(id, EventKind::Notice, Some(r.to), "its pod does not end", because);
        return rollback::go(r, Stage::PuttingIn);
    }
    if r.in_stage >= patience {
        let old: Vec<String> = rollback::ready_sandboxes(draft, id).collect();
        for sandbox in old {
            draft.want(Step::StopSandbox { component: id.clone(), sandbox });
        }
    }
}

/// Whether the pause is over.
pub(super) fn look(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback) {
    let longest = r.vacated.as_ref().map_or(Duration::ZERO, |vacated| vacated.longest);
    match restores(draft) {
        Some(_) if r.in_stage < longest => {}
        Some(pid) => {
            let text =
                format!("it was away for {} s, the longest; the restore (pid {pid}) has not ended", longest.as_secs());
            draft.tell(id, EventKind::Notice, Some(r.to), &text, "");
            rollback::go(r, Stage::PuttingIn);
        }
        None => rollback::go(r, Stage::PuttingIn),
    }
}
