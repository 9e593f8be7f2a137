//! An attempt that never comes: a container has exited, its back-off is over, and the kubelet starts no other.
//!
//! ```text
//!   the kubelet                 the back-off of the exited container     then
//!   down, or in a crash loop    any                                      nothing here: that is the cause (causes.rs)
//!   names a fault of the pod    any                                      nothing here: that is the cause (kubelet_log.rs)
//!   runs, and says nothing      not over                                 nothing: it waits
//!   any                         any, of a pod with another restartPolicy     nothing: none is due
//!                               than Always
//!   runs, and says nothing      over for a while                         named
//!   runs, and says nothing      counted from an end that is in future    named: the clock was set back, and the kubelet
//!                                                                        waits until it has caught up
//! ```

use std::time::Duration;

use jiff::Timestamp;

use super::kubelet_log;
use crate::model::observation::{ContainerRun, ContainerState, SandboxState};
use crate::model::verdict::{Assessment, Cause, Verdict};
use crate::model::{ComponentId, Observation};

/// The kubelet's back-off: none after the first exit, then doubled with each attempt, up to a limit.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// How much later than its back-off an attempt may come: the kubelet looks at a pod again within a minute and some jitter, and
/// where it asks an API server that does not answer, each question takes it 34 s (measured).
const LATE: Duration = Duration::from_secs(150);

/// An end that is further ahead of now was written by a clock that has been set back since.
const AHEAD: Duration = Duration::from_secs(5);
/// For how long that is watched first: the clock may be set once more.
const WATCHED: Duration = Duration::from_secs(30);

/// How long the kubelet waits after the exit of that attempt.
fn back_off(attempt: u32) -> Duration {
    let doubled = |times: u32| 1_u32.checked_shl(times).and_then(|factor| FIRST.checked_mul(factor));
    attempt.checked_sub(1).map_or(Duration::ZERO, |times| doubled(times).map_or(LONGEST, |wait| wait.min(LONGEST)))
}

pub(super) fn cause(id: &ComponentId, assessment: &Assessment, seen: &Observation) -> Option<Cause> {
    let runs = seen.runtime.iter().flatten().filter(|run| run.component == *id && run.ready == SandboxState::Ready);
    let run = runs.max_by_key(|run| run.created)?;
    // All of them have ended: one that runs, or is about to, is the attempt that is waited for.
    let ended = |container: &&ContainerRun| matches!(container.state, ContainerState::Exited { .. });
    let waits = !run.containers.is_empty() && run.containers.iter().all(|container| ended(&container));
    let speaks = seen.kubelet.process.is_none() || kubelet_log::pod_fault(id, seen).is_some();
    // Another policy leaves a container that has ended as it is.
    let mut manifests = seen.manifests.files().filter_map(|file| file.content.as_ref().ok());
    let is_due = manifests.any(|manifest| manifest.id == *id && manifest.restarts_always());
    if assessment.verdict() != Verdict::Down || !waits || speaks || !is_due {
        return None;
    }
    let forward = seen.node.clock_jump.as_ref().is_some_and(|jump| jump.seconds > 0);
    let container = run.containers.iter().max_by_key(|container| container.attempt)?;
    overdue(container, seen.at.wall, assessment.watched, forward)
}

/// The cause, of a container that has ended, at this time, after it has been down for so long in watched time.
fn overdue(container: &ContainerRun, now: Timestamp, down: Duration, clock_went_forward: bool) -> Option<Cause> {
    let ContainerState::Exited { finished, .. } = container.state else { return None };
    let wait = back_off(container.attempt);
    let due = finished.checked_add(wait).ok()?;
    let id = container.id.get(..13).unwrap_or(&container.id);
    let next_step = format!("`systemctl restart kubelet`, or `crictl rm {id}`, which ends the back-off");
    let named = |detail| Cause::NoAttempt { container: container.id.clone(), due, detail, next_step };
    if now.checked_add(AHEAD).is_ok_and(|soon| soon < finished) {
        let detail = format!(
            "its last attempt ended at {finished:.0}, which is in the future: the clock was set back, and the kubelet starts \
             the next attempt when the clock reaches {due:.0}"
        );
        return (container.attempt > 0 && down >= WATCHED).then(|| named(detail));
    }
    let late = Duration::try_from(now.duration_since(due)).unwrap_or_default();
    // A clock that was set forward makes every back-off look over; watched time does not.
    if late < LATE || down < wait + LATE || clock_went_forward {
        return None;
    }
    let detail = format!(
        "the kubelet has started no attempt after attempt {}, which ended at {finished:.0}, although its back-off of {} s was \
         over at {due:.0}",
        container.attempt,
        wait.as_secs()
    );
    Some(named(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_missed_only_when_its_back_off_is_over_by_the_clock_and_in_watched_time() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let ended = |attempt| ContainerRun {
            id: "c0ffee0123456789".to_owned(),
            name: "etcd".to_owned(),
            attempt,
            image: "i".to_owned(),
            image_id: String::new(),
            state: ContainerState::Exited { started: at(-1), finished: at(0), code: 1, reason: "Error".to_owned() },
            command_line: None,
            log_tail: None,
            work: None,
        };
        // Attempt, seconds since its end by the clock, seconds down in watched time, a clock set forward, and when it was due.
        let rows = [
            ("in back-off", 3, 39, 500, false, None),
            ("the back-off just over", 3, 41, 500, false, None),
            ("over, and the kubelet still has its time", 3, 189, 500, false, None),
            ("long over", 3, 191, 500, false, Some(40)),
            ("the first exit has no back-off", 0, 151, 151, false, Some(0)),
            ("the longest back-off", 9, 449, 9_000, false, None),
            ("the longest back-off, long over", 9, 451, 9_000, false, Some(300)),
            ("any attempt has one", u32::MAX, 451, 9_000, false, Some(300)),
            ("long over by the clock alone", 3, 3_600, 60, false, None),
            ("the clock was set forward", 3, 3_600, 500, true, None),
            ("the clock was set back", 3, -3_600, 30, false, Some(40)),
            ("set back a moment ago", 3, -3_600, 29, false, None),
            ("set back, and no back-off to wait for", 0, -3_600, 500, false, None),
            ("a moment ahead", 3, -4, 500, false, None),
        ];
        for (situation, attempt, since, down, forward, expected) in rows {
            let cause = overdue(&ended(attempt), at(since), Duration::from_secs(down), forward);
            let due = cause.as_ref().map(|cause| match cause {
                Cause::NoAttempt { due, .. } => *due,
                other => panic!("{other}"),
            });
            assert_eq!(due, expected.map(|second: i64| at(second)), "{situation}: {cause:?}");
        }
    }

    #[test]
    fn the_back_off_doubles_from_the_second_exit() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 5, 6, 40].map(|attempt| back_off(attempt).as_secs()).into();
        assert_eq!(seconds, [0, 10, 20, 40, 160, 300, 300]);
    }
}
