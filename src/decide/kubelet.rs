//! What the kubelet is expected to do, and when it may be restarted.

use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use super::pods::runs_of;
use crate::model::event::EventKind;
use crate::model::observation::HeardApi;
use crate::model::{ComponentId, Memory, Step};

/// The least time a kubelet must have had with a serving API server to have heard from it.
pub(super) const HEARD_AFTER: Duration = Duration::from_secs(5);

/// Whether the kubelet has heard from an API server since its start. One that has not deletes no pod, so that a changed
/// one waits for ever; one of which nothing is known is taken to be such a one while no API server serves.
pub(super) fn kubelet_hears(draft: &Draft<'_>) -> bool {
    let Some(process) = &draft.scene.seen.kubelet.process else { return false };
    let boot = &draft.scene.seen.node.boot_id;
    let served = draft.memory.api_served.as_ref().filter(|served| served.boot_id == *boot);
    process.heard_api == HeardApi::Yes || served.is_some_and(|served| served.at >= process.started + HEARD_AFTER)
}

/// Whether the kubelet's process started after that.
pub(super) fn kubelet_started_since(draft: &Draft<'_>, since: Timestamp) -> bool {
    let now = draft.scene.tick.now;
    let process = draft.scene.seen.kubelet.process.as_ref();
    let started = process.and_then(|process| now.wall.checked_sub(now.boot.saturating_sub(process.started)).ok());
    started.is_some_and(|started| started > since)
}

/// How long a kubelet may take to start the deployed manifest before it counts as unresponsive. One that has heard from an API server
/// gets longer: a freshly started one hears of it up to a minute after it came back.
pub(super) fn patience(draft: &Draft<'_>) -> Duration {
    let appear = draft.scene.policy.kubelet_timeout;
    if kubelet_hears(draft) { appear * 2 } else { appear }
}

/// Whether the kubelet has made a sandbox since the manifest was deployed: then it does respond, whatever its container
/// waits for (an image on its way, say).
pub(super) fn has_reacted(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let since = draft.record(id).and_then(|record| record.deployed.as_ref()).map(|stands| stands.changed);
    since.is_some_and(|since| runs_of(draft, id).any(|run| run.created >= since))
}

/// Whether the kubelet has made a container for the deployed pod, since that pod came. A configuration file that changed
/// later makes no other pod, and the kubelet has nothing to react to.
pub(super) fn has_made_its_container(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let since = draft.record(id).and_then(|record| record.pod_deployed);
    since.is_some_and(|since| runs_of(draft, id).any(|run| run.created >= since && !run.containers.is_empty()))
}

/// Whether the kubelet may be restarted: within its budget, not before its last restart took effect, and only if the restart
/// brings nothing new in (Q15).
pub(super) fn may_restart_kubelet(draft: &Draft<'_>) -> bool {
    let unchanged = draft.scene.seen.kubelet.process.as_ref().is_none_or(|process| process.changed_since.is_none());
    unchanged
        && !kubelet_settles(draft)
        && draft.memory.kubelet_restarts.len() < draft.scene.policy.kubelet_restarts_per_hour
}

/// Has the kubelet restarted; who asks has seen that it may be.
pub(super) fn restart_kubelet(draft: &mut Draft<'_>, id: &ComponentId, why: &str) {
    draft.memory.kubelet_restarts.push_back(Duration::ZERO);
    draft.tell(id, EventKind::Notice, None, "the kubelet is restarted", why);
    draft.want(Step::RestartKubelet);
}

/// Whether the kubelet was restarted so lately that the restart has not had its time yet: by us, for whatever reason, or by
/// somebody else. A kubelet of a boot in which no API server has served yet is deaf already, and gains nothing by waiting.
pub(super) fn kubelet_settles(draft: &Draft<'_>) -> bool {
    let seen = draft.scene.seen;
    let pause = seen.kubelet_pause();
    let Memory { kubelet_restarts, api_served, .. } = &draft.memory;
    let served = api_served.as_ref().is_some_and(|served| served.boot_id == seen.node.boot_id);
    // Our own ages grow in watched time only, and `resume` drops them: the start of the process outlasts both.
    let restarted = served || !kubelet_restarts.is_empty();
    kubelet_restarts.iter().any(|age| *age < pause) || restarted && seen.kubelet_is_young()
}
