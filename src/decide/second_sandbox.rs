//! Stops the earlier of two sandboxes of a candidate. The kubelet was to end it and has not, and the candidate cannot start next
//! to it.
//!
//! ```text
//!   the earlier sandbox is the cause, and the candidate's own is no longer new
//!      │  held, budget of the hour spent, other masters do not suffice (Q10) ─▶ reported, and left
//!      ▼
//!   the earlier sandbox is stopped ──▶ the kubelet's next attempt of the candidate can start
//! ```

use std::time::Duration;

use super::draft::Draft;
use super::{peer_quorum, pods};
use crate::model::event::EventKind;
use crate::model::notice::Notice;
use crate::model::observation::PodRun;
use crate::model::verdict::{Assessment, Cause};
use crate::model::{ComponentId, ComponentState, Step};

/// A kubelet that was away while a manifest changed runs both pods for a second or two (measured).
const OVERLAP: Duration = Duration::from_secs(10);

/// One pass, of every component.
pub(super) fn step(draft: &mut Draft<'_>) {
    let ids: Vec<ComponentId> = draft.memory.components.keys().cloned().collect();
    for id in ids {
        match earlier(draft, &id) {
            Some((sandbox, assessment)) if draft.hold.is_none() => stop(draft, &id, sandbox, assessment),
            // What holds everything is reported for itself.
            Some(_) => {}
            None => draft.clear_notice(&id, Notice::SecondSandbox),
        }
    }
}

/// The earlier sandbox, where it is the cause that a candidate does not start.
fn earlier<'a>(draft: &Draft<'a>, id: &ComponentId) -> Option<(&'a str, &'a Assessment)> {
    let assessment = draft.assessment(id)?;
    let Some(Cause::SecondSandbox { sandbox, .. }) = &assessment.cause else { return None };
    let record = draft.record(id).filter(|record| matches!(record.state, ComponentState::Probation(_)))?;
    let deployed = record.pod_deployed?;
    let now = draft.scene.tick.now.wall;
    let age = |run: &PodRun| Duration::try_from(now.duration_since(run.created)).unwrap_or_default();
    let newer = |run: &PodRun| run.sandbox != *sandbox && run.created >= deployed && age(run) >= OVERLAP;
    let is_earlier = pods::runs_of(draft, id).any(|run| run.sandbox == *sandbox && run.created < deployed);
    (is_earlier && pods::runs_of(draft, id).any(newer)).then_some((sandbox.as_str(), assessment))
}

fn stop(draft: &mut Draft<'_>, id: &ComponentId, sandbox: &str, assessment: &Assessment) {
    let is_known = draft.record(id).is_some_and(|record| record.assists.sandbox.as_deref() == Some(sandbox));
    let unproven = peer_quorum::suffice(draft, id, assessment).err();
    let limit = draft.scene.policy.actions_per_hour;
    // A stop that failed is tried again, and is the same action.
    let spent = || format!("the limit of {limit} actions per hour is reached");
    let why_not = unproven.or_else(|| (!is_known && !draft.spend(id)).then(spent));
    draft.notice_if(
        id,
        Notice::SecondSandbox,
        why_not.as_ref().map(|why| format!("lastgood does not stop the earlier of its two sandboxes: {why}")),
    );
    if why_not.is_some() {
        return;
    }
    if !is_known {
        if let Some(record) = draft.record_mut(id) {
            record.assists.sandbox = Some(sandbox.to_owned());
        }
        let because = assessment.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        draft.tell(id, EventKind::State, None, "stopping its earlier sandbox", &because);
    }
    draft.want(Step::StopSandbox { component: id.clone(), sandbox: sandbox.to_owned() });
}
