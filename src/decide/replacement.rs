//! A running replacement, stage by stage. No stage blocks: each pass checks the progress, and every stage has a
//! deadline after which the known-good file is deployed anyway.
//!
//! ```text
//!   StoppingApiServer ─▶ TakingOut ─▶ AwaitingGone ─▶ Settling ─▶ PuttingIn ─▶ AwaitingServing ─▶ Steady | Probation
//!      (etcd only)          │ by one rename                           ▲  │              │  ▲
//!                           └─────────────────────────────────────────┘  └ StoppingOld ─▶ RestartingKubelet (once)
//! ```
//!
//! From TakingOut on the manifest may be missing, so the rest is done whatever inhibitor appears (Q11). Between
//! Settling and PuttingIn a restore may keep the manifest out for as long as it works (suspension.rs).

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::{DataTrust, Draft};
use super::kubelet::{has_reacted, kubelet_started_since, may_restart_kubelet, patience, restart_kubelet};
use super::pods::{hasten, ready_sandboxes, runs, runs_of};
use super::stop_apiserver::{self, Progress};
use super::targets::{data_of, fallback};
use super::{change_set, generations, host_paths, inhibitors, kubelet, refused, suspension, undecoded, wrong_data};
use crate::model::component_state::{
    Initiator, KubeletRestarted, Method, Probation, Replacement, SeenInPlace, Stage, Startup, Until,
};
use crate::model::etcd_guard::{self, Barred};
use crate::model::generation::{Generation, Stored};
use crate::model::notice::Notice;
use crate::model::verdict::{Assessment, Cause, Crash, Reads, Verdict};
use crate::model::{ComponentId, ComponentState, Role, Step};

/// Whether there is more to see of a component in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Done,
    /// Its state has another meaning for what is deployed: it is looked at as in a new pass.
    LookAgain,
}

/// One pass of a replacement. One that ended because of what somebody else deployed leaves the component to be looked at
/// again.
pub(super) fn advance(draft: &mut Draft<'_>, id: &ComponentId, mut r: Replacement, standing: &DiskState) -> Flow {
    if r.stage.is_first_step() && inhibitors::held(draft.hold.as_ref(), r.initiator()).is_some() {
        return Flow::Done;
    }
    let Some(to) = draft.record(id).and_then(|record| record.generations.get(&r.to)).cloned() else {
        let next = "put a good manifest in place by hand".to_owned();
        draft.hold_back(id, r.from(), format!("generation {} is gone", r.to), next, Until::Person);
        return Flow::Done;
    };
    if let Some(barred) = barred(draft, id, &r, &to, standing) {
        turn_back(draft, id, r, standing, barred);
        return Flow::Done;
    }
    if let Some(number) = intervened(draft, id, &r, &to, standing) {
        let back = ComponentState::Steady { good: fallback(draft, id, &r) };
        draft.enter(id, back, &format!("generation {number} was put in place by somebody else"));
        return Flow::LookAgain;
    }
    if let DiskState::Broken(file, fault) = standing
        && undecoded::is_anothers(draft, id, &r, file, fault)
    {
        let back = ComponentState::Steady { good: fallback(draft, id, &r) };
        draft.enter(id, back, &format!("{}, which lastgood cannot read, was put in place by somebody else", file.name));
        return Flow::LookAgain;
    }
    let excused = |a: &Assessment| a.cause.as_ref().is_some_and(|cause| !cause.is_of_the_manifest());
    let explained = draft.assessment(id).is_some_and(|a| excused(a) || a.verdict() == Verdict::Unknown)
        || inhibitors::is_maintained(draft, id);
    if !matches!(r.stage, Stage::AwaitingServing { .. }) || !explained {
        r.in_stage += draft.credit();
    }
    if matches!(r.stage, Stage::AwaitingGone | Stage::Settling | Stage::Suspended) && filled(&r, &to, standing) {
        r.enter(Stage::awaiting_serving());
    }
    loop {
        let next = match &r.stage {
            Stage::StoppingApiServer => stop_apiserver(draft, id, &r),
            Stage::TakingOut => take_out(draft, id, &r, &to),
            Stage::AwaitingGone => await_gone(draft, id, &r, &to),
            Stage::Settling => settle(draft, id, &r),
            Stage::Suspended => suspension::look(draft, id, &r),
            Stage::PuttingIn => Some(put_in(draft, id, &r, &to)),
            Stage::StoppingOld(startup) => stop_old(draft, id, &r, startup),
            Stage::RestartingKubelet(startup) => restart_unresponsive(draft, id, startup, &to, standing),
            Stage::AwaitingServing { startup, kubelet_restarted } => {
                let waiting = (startup.clone(), *kubelet_restarted);
                return await_serving(draft, id, &r, waiting, &to, standing);
            }
        };
        let Some(next) = next else { break };
        let written = r.stage == Stage::PuttingIn;
        r.enter(next);
        // What follows a written file is looked at when it has been seen in its place.
        if written {
            break;
        }
    }
    keep(draft, id, r);
    Flow::Done
}

/// Remembers how far it is, unless it ended.
fn keep(draft: &mut Draft<'_>, id: &ComponentId, r: Replacement) {
    if let Some(record) = draft.record_mut(id)
        && matches!(record.state, ComponentState::Replacing(_))
    {
        record.state = ComponentState::Replacing(r);
    }
}

/// Whether the emptied slot holds the good file already: whoever came after an interrupted run filled it from staging
/// (Q11), and that writes no memory. Where duplicates were moved out, the good file may have been deployed next to them
/// all along.
fn filled(r: &Replacement, to: &Generation, standing: &DiskState) -> bool {
    let DiskState::Here(file) = standing else { return false };
    let good = file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest);
    good && file.name == to.file_name && r.duplicates().is_empty()
}

/// Why what is to be put back must not be after all: the data were moved on since it was decided (R9). Once it is
/// deployed, it is too late to ask; and data that cannot be read at this moment are asked again by act, before the
/// action.
fn barred(
    draft: &Draft<'_>,
    id: &ComponentId,
    r: &Replacement,
    to: &Generation,
    standing: &DiskState,
) -> Option<Barred> {
    let stands = match standing {
        DiskState::Here(file) => file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest),
        // Nothing is decided about a file that is being written.
        DiskState::Unsettled => true,
        DiskState::Claimed { .. } | DiskState::Broken(..) | DiskState::Absent(_) => false,
    };
    let record = draft.record(id).filter(|_| !stands)?;
    let data = data_of(draft, to);
    // What was wanted in and is not deployed, while another pod of it is, was refused by act.
    let refused = matches!(r.stage, Stage::AwaitingServing { .. }) && matches!(standing, DiskState::Here(_));
    etcd_guard::may_return(record, to, &data).err().filter(|_| refused || !data.is_unknown())
}

/// Gives a replacement up. Where its slot was emptied already, what was there comes back first: a slot is never left
/// empty.
fn turn_back(draft: &mut Draft<'_>, id: &ComponentId, r: Replacement, standing: &DiskState, barred: Barred) {
    let before = r.from().and_then(|from| draft.record(id)?.generations.get(&from)).cloned();
    if let (DiskState::Absent(_), Some(before)) = (standing, before.filter(|before| before.stored == Stored::Yes)) {
        return want_in(draft, id, &before);
    }
    let why = format!("{}; {}", r.why, barred.why);
    // What was to be put back is known-good nevertheless; it only may not open these data.
    draft.enter(id, ComponentState::Steady { good: fallback(draft, id, &r) }, &barred.why);
    draft.hold_back(id, r.from(), why, barred.next_step, Until::Person);
}

/// A file that is neither what failed nor what is put back: the operator was here, and their file is a candidate like
/// any other (Never 6).
fn intervened(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    r: &Replacement,
    to: &Generation,
    standing: &DiskState,
) -> Option<u32> {
    let DiskState::Here(file) = standing else { return None };
    if r.duplicates().contains(&file.name) {
        return None;
    }
    let pod = file.content.as_ref().ok()?.digest;
    if pod == to.pod_digest {
        return None;
    }
    let number = generations::register(draft, id, file)?;
    // What failed is still deployed, or is deployed again, until it has been taken out.
    let gone = matches!(r.stage, Stage::RestartingKubelet(_) | Stage::AwaitingServing { .. });
    (Some(number) != r.from() || gone).then_some(number)
}

fn stop_apiserver(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement) -> Option<Stage> {
    let next = if r.method == Method::Rename { Stage::PuttingIn } else { Stage::TakingOut };
    match stop_apiserver::stop(draft, id, r.in_stage) {
        Progress::Done => Some(next),
        Progress::UnderWay => None,
    }
}

fn take_out(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement, to: &Generation) -> Option<Stage> {
    let files = &draft.scene.seen.manifests;
    let moves_duplicates = !r.duplicates().is_empty();
    let duplicates: Vec<String> = r.duplicates().iter().filter(|name| files.file(name).is_some()).cloned().collect();
    let own = files.file(&to.file_name).is_some() && !moves_duplicates;
    // What failed may have another name than what it replaces.
    let failed = r.from().and_then(|from| draft.record(id)?.generations.get(&from)).map(|from| from.file_name.clone());
    let failed = failed.filter(|name| *name != to.file_name && files.file(name).is_some() && !moves_duplicates);
    if duplicates.is_empty() && !own && failed.is_none() {
        return Some(Stage::AwaitingGone);
    }
    for file_name in duplicates {
        draft.want(Step::MoveOut { component: id.clone(), file_name });
    }
    for file_name in own.then(|| to.file_name.clone()).into_iter().chain(failed) {
        draft.want(Step::TakeOut {
            component: id.clone(),
            file_name,
            successor: r.to,
            successor_name: to.file_name.clone(),
        });
    }
    None
}

fn await_gone(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement, to: &Generation) -> Option<Stage> {
    if !runs(draft, id) {
        return Some(Stage::Settling);
    }
    if r.suspended_for().is_some() {
        return suspension::await_gone(draft, id, r, to);
    }
    if r.in_stage >= to.termination_grace + draft.scene.policy.stop_margin {
        // It should have gone. The good file is written anyway: an empty slot helps nobody.
        return Some(Stage::PuttingIn);
    }
    let etcd = draft.record(id).is_some_and(|record| record.role == Role::Etcd);
    if r.in_stage >= draft.scene.policy.force_stop_after && !etcd && r.initiator() == Initiator::Agent {
        hasten(draft, id);
    }
    None
}

fn settle(draft: &Draft<'_>, id: &ComponentId, r: &Replacement) -> Option<Stage> {
    let policy = draft.scene.policy;
    // Something may have started meanwhile, which is no reason to leave the slot empty.
    let due = r.in_stage >= policy.settle + policy.stop_margin;
    let settled = due || !runs(draft, id) && r.in_stage >= policy.settle;
    settled.then_some(if r.suspended_for().is_some() { Stage::Suspended } else { Stage::PuttingIn })
}

fn put_in(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement, to: &Generation) -> Stage {
    want_in(draft, id, to);
    match r.method {
        Method::RenameAndRestartKubelet => Stage::StoppingOld(Startup::default()),
        Method::Rename | Method::RemoveThenAdd => Stage::awaiting_serving(),
    }
}

/// The files first: a pod that starts before them would read the wrong ones.
fn want_in(draft: &mut Draft<'_>, id: &ComponentId, to: &Generation) {
    let files = generations::restore_files(draft, id, to);
    draft.plan.extend(files);
    draft.want(Step::PutIn { component: id.clone(), number: to.number, file_name: to.file_name.clone() });
}

fn stop_old(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement, startup: &Startup) -> Option<Stage> {
    let old: Vec<String> = ready_sandboxes(draft, id).collect();
    if old.is_empty() || r.in_stage >= draft.scene.policy.stop_margin {
        return Some(Stage::RestartingKubelet(startup.clone()));
    }
    for sandbox in old {
        draft.want(Step::StopSandbox { component: id.clone(), sandbox });
    }
    None
}

/// Restarts a kubelet that starts nothing. One that was restarted since the good file was put in has read it. One that was
/// restarted shortly before is given its time first, and may start the pod by itself meanwhile.
fn restart_unresponsive(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    startup: &Startup,
    to: &Generation,
    standing: &DiskState,
) -> Option<Stage> {
    let since = match standing {
        DiskState::Here(file) if file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest) => file.changed,
        // It is wanted again where it is not there.
        _ => draft.scene.tick.now.wall,
    };
    let settles = kubelet::kubelet_settles(draft);
    let started = settles && runs_of(draft, id).any(|run| run.created >= since);
    let done = kubelet_started_since(draft, since) || started;
    if settles && !done {
        return None;
    }
    let next = Stage::AwaitingServing { startup: startup.clone(), kubelet_restarted: KubeletRestarted::Yes };
    if done {
        return Some(next);
    }
    if may_restart_kubelet(draft) {
        restart_kubelet(draft, id, "it does not start the pod of the deployed manifest");
    } else {
        let text = format!(
            "the kubelet does not start the pod of the deployed manifest, and lastgood must not restart it now: `{}` \
             does it",
            draft.scene.policy.kubelet_restart.join(" ")
        );
        draft.notice(id, Notice::KubeletUnresponsive, text);
    }
    Some(next)
}

fn await_serving(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    r: &Replacement,
    waiting: (Startup, KubeletRestarted),
    to: &Generation,
    standing: &DiskState,
) -> Flow {
    let policy = draft.scene.policy;
    let (mut startup, kubelet_restarted) = waiting;
    let good_stands = match standing {
        DiskState::Here(file) => {
            generations::register(draft, id, file);
            if file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest) {
                startup.seen_in_place = SeenInPlace::Yes;
                host_paths::remove(draft, id, r);
            }
            true
        }
        DiskState::Unsettled => true,
        DiskState::Claimed { .. } | DiskState::Broken(..) | DiskState::Absent(_) => false,
    };
    if !good_stands {
        // It was deployed, and somebody broke it, took it away or put another next to it: that is its own action, and
        // meets the budget, the hold and the grace that it would meet at any other time.
        if startup.seen_in_place == SeenInPlace::Yes {
            let because = format!("generation {} was deployed, and somebody changed it before it served", r.to);
            draft.enter(id, ComponentState::Steady { good: fallback(draft, id, r) }, &because);
            return Flow::LookAgain;
        }
        // A failed write is wanted again.
        if let DiskState::Claimed { duplicates, .. } = standing {
            startup.duplicates = duplicates.iter().map(|file| file.name.clone()).collect();
            for file_name in startup.duplicates.clone() {
                draft.want(Step::MoveOut { component: id.clone(), file_name });
            }
        } else {
            want_in(draft, id, to);
        }
    }
    let Some(assessment) = draft.assessment(id) else { return Flow::Done };
    if assessment.cause.as_ref().is_none_or(Cause::is_of_the_manifest) && !inhibitors::is_maintained(draft, id) {
        startup.crashes += assessment.crash.as_ref().filter(|crash| is_of(crash, standing)).map_or(0, Crash::own);
    }
    // Where only files were put back under a process that served all along, nothing starts again to read them: waiting
    // for that would end in stopping what serves (Q8).
    let failed = r.from().and_then(|from| draft.record(id)?.generations.get(&from));
    let only_files = r.method == Method::Rename && failed.is_some_and(|failed| failed.pod_digest == to.pod_digest);
    let untouched = failed.is_some_and(|failed| refused::runs_the_one_before(draft, id, failed));
    let reads = only_files || untouched || matches!(assessment.reads, Reads::All | Reads::CannotTell { .. });
    if good_stands && assessment.serving && reads && serves_its_data(draft, id, r) {
        finish(draft, id, r);
        return Flow::Done;
    }
    if good_stands && assessment.serving && wrong_data::hold_replaced(draft, id, r) {
        return Flow::Done;
    }
    let deadline = policy.deadline_of(Some(to));
    if startup.crashes >= policy.max_crashes || r.in_stage >= deadline {
        let evidence = assessment.evidence.join("; ");
        let why = format!("generation {} was deployed and does not serve either: {evidence}", r.to);
        let next = format!("`lastgood explain {id}`; earlier generations: `lastgood history {id}`");
        draft.hold_back(id, Some(r.to), why, next, Until::Person);
        return Flow::Done;
    }
    let unstarted = matches!(assessment.reads, Reads::Nothing | Reads::Other { .. }) && assessment.crash.is_none();
    let unresponsive = unstarted && r.in_stage >= patience(draft) && !has_reacted(draft, id);
    let mut next = r.clone();
    if unresponsive && kubelet_restarted == KubeletRestarted::NotYet {
        next.enter(Stage::StoppingOld(startup));
    } else {
        next.stage = Stage::AwaitingServing { startup, kubelet_restarted };
    }
    keep(draft, id, next);
    Flow::Done
}

/// Whether a crash counts against what was put back. A process that began before the file was there was ended by the
/// kubelet, for the file that was there in between: the pod and its UID may be the same as before.
fn is_of(crash: &Crash, standing: &DiskState) -> bool {
    matches!(standing, DiskState::Here(file) if crash.began >= file.changed)
}

/// For how long a replacement of etcd waits for its word on which data it serves.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// Whether what was put back serves the data on record, as far as it has said so.
fn serves_its_data(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement) -> bool {
    match draft.trust(id) {
        DataTrust::OnRecord => true,
        DataTrust::NotTold => r.in_stage >= SAYS_WITHIN,
        DataTrust::Others => false,
    }
}

/// The good pod serves.
fn finish(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement) {
    draft.clear_notice(id, Notice::KubeletUnresponsive);
    if draft.record(id).is_some_and(|record| record.pin() == Some(r.to)) {
        draft.clear_notice(id, Notice::PinPassedOver);
    }
    let because = match r.suspended_for() {
        Some(_) => format!("generation {} serves again; it was stopped for a while: {}", r.to, r.why),
        None => format!("generation {} serves again; it was rolled back because {}", r.to, r.why),
    };
    let known_good =
        draft.record(id).and_then(|rec| rec.generations.get(&r.to)).is_some_and(|g| g.trust.is_known_good());
    let slot = if known_good {
        ComponentState::Steady { good: r.to }
    } else {
        ComponentState::Probation(Probation::begin(r.to, fallback(draft, id, r)))
    };
    draft.enter(id, slot, &because);
    change_set::serves_again(draft, id, r.to);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::model::observation::{Gone, ManifestFile, Settled};
    use crate::model::{Digest, Manifest};

    #[test]
    fn an_exit_of_a_process_from_before_the_put_back_is_no_crash_of_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let file = ManifestFile {
            name: "etcd.yaml".to_owned(),
            digest: Digest::of(b""),
            content: Manifest::parse(Arc::from(&b""[..])),
            closure: Vec::new(),
            changed: at(100),
            uid: 0,
            settled: Settled::Yes,
        };
        let crash = |second| Crash {
            uid: String::new(),
            code: Some(0),
            count: 1,
            began: at(second),
            log_tail: None,
            proves: None,
        };
        let here = DiskState::Here(Arc::new(file));
        assert_eq!([99, 100, 101].map(|second| is_of(&crash(second), &here)), [false, true, true]);
        assert!(!is_of(&crash(101), &DiskState::Absent(Gone::Deleted)));
    }
}
