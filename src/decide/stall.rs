//! Stops a stalled process long before the kubelet's own probes would, so that the kubelet starts another.
//!
//! ```text
//!   Stalled, and no dependency explains it
//!      │  its activity     busy, waits for its disk, unknown ─▶ left to the kubelet's probes, and reported
//!      ▼  stopped by a signal, which only another signal ends ────────────┐
//!      ▼  idle                                                            │
//!   given stall.after to recover                                          │
//!      │ ◀────────────────────────────────────────────────────────────────┘
//!      │  held, no kubelet to start it, budget spent, other masters (Q10) ─▶ reported
//!      ▼
//!   its container is stopped ──▶ the kubelet starts another ──▶ judged like any process
//! ```
//!
//! Only a process that fails its liveness probe is stopped (Q8). It waits if a dependency is unhealthy or has not
//! answered in this moment: a stalled etcd is detected a little later than the API server that stalls because of it.
//! Where other masters exist, etcd and the API server are stopped only on proof that the others suffice (peer_quorum.rs).

use std::time::Duration;

use super::draft::Draft;
use super::peer_quorum;
use crate::model::component_state::Until;
use crate::model::event::EventKind;
use crate::model::memory::Restart;
use crate::model::notice::Notice;
use crate::model::verdict::{Assessment, ProcessActivity, Stall};
use crate::model::{ComponentId, Step, Verdict};

/// Between SIGTERM and SIGKILL, for what hangs and may still hear. What is stopped by a signal cannot, and gets none: the
/// wait would come on top of the 15 s for which its successor has to leave the lease to it.
const GRACE: Duration = Duration::from_secs(2);

/// A container that still runs this long after it received a signal to stop is reported again.
const AGAIN: Duration = Duration::from_secs(15);

/// One pass of a component that is based on its known-good generation.
pub(super) fn step(draft: &mut Draft<'_>, id: &ComponentId) {
    let Some(assessment) = draft.assessment(id) else { return };
    let Some(stall) = assessment.stall() else {
        draft.clear_notice(id, Notice::StallLeft);
        if let Some(record) = draft.record_mut(id) {
            record.restart = None;
        }
        return;
    };
    if assessment.cause.is_some() || !dependency_answers(draft, assessment) {
        return;
    }
    if stall.at != ProcessActivity::Stopped && assessment.watched < draft.scene.policy.stall_after {
        return;
    }
    let why_not = why_not(draft, stall).or_else(|| peer_quorum::suffice(draft, id, assessment).err().map(left));
    draft.notice_if(
        id,
        Notice::StallLeft,
        why_not.as_ref().map(|why| format!("it is stalled and is not restarted: {why}")),
    );
    if why_not.is_none() {
        restart(draft, id, stall, assessment);
    }
}

/// Whether the component it cannot work without answered at this very pass.
fn dependency_answers(draft: &Draft<'_>, assessment: &Assessment) -> bool {
    let Some(needed) = assessment.role.depends_on() else { return true };
    let mut needed = draft.scene.judged.components.values().filter(|other| other.role == needed);
    // None here: it runs on another machine, and says nothing of this one.
    needed.next().is_none_or(|other| other.serving)
}

/// Who acts instead.
fn left(why: String) -> String {
    format!("{why}, so it is left to the kubelet's own probes")
}

fn why_not(draft: &Draft<'_>, stall: &Stall) -> Option<String> {
    match stall.at {
        ProcessActivity::Stopped | ProcessActivity::Idle | ProcessActivity::Nothing => {}
        ProcessActivity::Busy | ProcessActivity::WaitsForDisk | ProcessActivity::Unseen => {
            return Some(left(stall.at.to_string()));
        }
    }
    if let Some(hold) = &draft.hold {
        return Some(hold.to_string());
    }
    match draft.scene.judged.kubelet.verdict {
        Verdict::Down => Some("no kubelet runs to start it again".to_owned()),
        Verdict::Stalled => Some("the kubelet, which would start it again, is stalled itself".to_owned()),
        _ => None,
    }
}

fn restart(draft: &mut Draft<'_>, id: &ComponentId, stall: &Stall, assessment: &Assessment) {
    let credit = draft.credit();
    let Some(record) = draft.record_mut(id) else { return };
    let known = record.restart.take().filter(|restart| restart.container == stall.container);
    let told_before = known.is_some();
    if let Some(restart) = known {
        let age = restart.age + credit;
        if age < AGAIN {
            record.restart = Some(Restart { age, ..restart });
            return;
        }
    } else if !draft.spend(id) {
        let limit = draft.scene.policy.actions_per_hour;
        let why = format!("it is stalled again, and the limit of {limit} actions per hour is reached");
        let next = format!("see `lastgood explain {id}`, fix the cause, then `lastgood resume {id}`");
        // Over what is deployed: another manifest would be another matter.
        let stands = draft.record(id).and_then(|record| record.state.good());
        return draft.hold_back(id, stands, why, next, Until::Person);
    }
    if let Some(record) = draft.record_mut(id) {
        record.restart = Some(Restart { container: stall.container.clone(), age: Duration::ZERO });
    }
    if !told_before {
        let seconds = assessment.watched.as_secs();
        let since =
            if seconds > 0 { format!("it has been stalled for {seconds} s") } else { "it is stalled".to_owned() };
        let because = format!("{since}, and {}: {}", stall.at, assessment.evidence.first().map_or("", String::as_str));
        draft.tell(id, EventKind::State, None, "restarting its container", &because);
    }
    let grace = if stall.at == ProcessActivity::Stopped { Duration::ZERO } else { GRACE };
    draft.want(Step::StopContainer { component: id.clone(), container: stall.container.clone(), grace });
}
