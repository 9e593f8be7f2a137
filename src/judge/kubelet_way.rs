//! A kubelet that started a short while ago and whose way to the API server accepts connections without an answer: its
//! calls hang, and the static pods come late or not at all. That explains a component without a pod.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::Observation;
use crate::model::environment::{Trouble, User};
use crate::model::verdict::{Assessment, Cause, Verdict};

/// The kubelet stops waiting for its first list of nodes and pods some minutes after its start. What it has not started
/// by then has another reason.
const WAITS: Duration = Duration::from_secs(600);
/// One slow answer is none.
const SILENT: Duration = Duration::from_secs(10);

pub(super) fn cause(assessment: &Assessment, seen: &Observation) -> Option<Cause> {
    if assessment.verdict() != Verdict::Down || assessment.uid.is_some() {
        return None;
    }
    let started = seen.kubelet.process.as_ref()?.started;
    let age = seen.at.boot.saturating_sub(started);
    let since = seen.at.wall.checked_sub(age).ok()?;
    // Once it has made a sandbox, it does not wait any more.
    let made_one = |since: Timestamp| seen.runtime.iter().flatten().any(|run| run.created >= since);
    if age > WAITS || made_one(since) {
        return None;
    }
    let silent = seen.node.endpoints.iter().find(|endpoint| {
        let kubelets = endpoint.used.iter().any(|(user, _)| *user == User::Kubelet);
        kubelets && endpoint.bad_for >= SILENT && endpoint.trouble() == Some(Trouble::Silent)
    })?;
    Some(Cause::Kubelet { detail: seen.node.addresses.silent_for_the_kubelet(silent) })
}
