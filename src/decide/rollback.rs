//! A running replacement, stage by stage. No stage blocks: each pass checks the progress, and every stage has a
//! deadline after which the known-good file is deployed anyway.
//!
//! ```text
//!   Parking ─▶ TakingOut ─▶ AwaitingGone ─▶ Settling ─▶ PuttingIn ─▶ AwaitingServing ─▶ Steady | Probation
//!  (etcd only)    │ in place                                ▲   │            │  ▲
//!                 └────────────────────────────────────────-┘   └ StoppingOld ─▶ Nudging (an unresponsive kubelet, once)
//! ```
//!
//! From TakingOut on the manifest may be missing, so the rest is done whatever inhibitor appears (Q11). Between
//! Settling and PuttingIn a restore may keep the manifest out for as long as it works (vacancy.rs).

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::{DataTrust, Draft};
use super::kubelet::{has_reacted, kubelet_started_since, may_restart_kubelet, patience, restart_kubelet};
use super::parking::{self, Parking};
use super::pods::{hasten, ready_sandboxes, runs, runs_of};
use super::targets::{data_of, fallback};
use super::{change_set, generations, inhibitors, kubelet, undecoded, vacancy, wrong_data};
use crate::model::component_state::{Nudged, Probation, Rollback, Stage, Stood, Until, Way, Wish};
use crate::model::etcd_guard::{self, Barred};
use crate::model::generation::{Generation, Stored};
use crate::model::notice::Notice;
use crate::model::verdict::{Crash, Reads, Verdict};
use crate::model::{ComponentId, ComponentState, Role, Step};

/// Whether there is more to see of a component in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Done,
    /// Its state has another meaning for what is deployed: it is looked at as in a new pass.
    LookAgain,
}

/// One pass of a rollback. A rollback that ended because of what somebody else deployed leaves the component to be looked
/// at again.
pub(super) fn advance(draft: &mut Draft<'_>, id: &ComponentId, mut r: Rollback, standing: &DiskState) -> Flow {
    if r.stage <= Stage::TakingOut && inhibitors::held(draft.hold.as_ref(), r.wish).is_some() {
        return Flow::Done;
    }
    let Some(to) = draft.record(id).and_then(|record| record.generations.get(&r.to)).cloned() else {
        let next = "put a good manifest in place by hand".to_owned();
        draft.hold_back(id, r.from, format!("generation {} is gone", r.to), next, Until::Person);
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
    let explained = draft.assessment(id).is_some_and(|a| a.cause.is_some() || a.verdict == Verdict::Unknown);
    if r.stage < Stage::AwaitingServing || !explained {
        r.in_stage += draft.credit();
    }
    if matches!(r.stage, Stage::AwaitingGone | Stage::Settling | Stage::Vacant) && filled(&r, &to, standing) {
        r.enter(Stage::AwaitingServing);
    }
    loop {
        let before = r.stage;
        match r.stage {
            Stage::Parking => park(draft, id, &mut r),
            Stage::TakingOut => take_out(draft, id, &mut r, &to),
            Stage::AwaitingGone => await_gone(draft, id, &mut r, &to),
            Stage::Settling => {
                let policy = draft.scene.policy;
                // Something may have started meanwhile, which is no reason to leave the slot empty.
                let due = r.in_stage >= policy.settle + policy.stop_margin;
                if due || !runs(draft, id) && r.in_stage >= policy.settle {
                    let next = if r.vacated.is_some() { Stage::Vacant } else { Stage::PuttingIn };
                    r.enter(next);
                }
            }
            Stage::Vacant => vacancy::look(draft, id, &mut r),
            Stage::PuttingIn => put_in(draft, id, &mut r, &to),
            Stage::StoppingOld => stop_old(draft, id, &mut r),
            Stage::Nudging => nudge(draft, id, &mut r, &to, standing),
            Stage::AwaitingServing => return await_serving(draft, id, r, &to, standing),
        }
        if r.stage == before {
            break;
        }
        // What follows a written file is looked at when it has been seen to stand.
        if before == Stage::PuttingIn {
            break;
        }
    }
    if let Some(record) = draft.record_mut(id)
        && matches!(record.state, ComponentState::RollingBack(_))
    {
        record.state = ComponentState::RollingBack(r);
    }
    Flow::Done
}

/// Whether the emptied slot holds the good file already: whoever came after an interrupted run filled it from staging
/// (Q11), and that writes no memory. Where intruders were moved out, the good file may have been deployed next to them
/// all along.
fn filled(r: &Rollback, to: &Generation, standing: &DiskState) -> bool {
    let DiskState::Here(file) = standing else { return false };
    let good = file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest);
    good && file.name == to.file_name && r.intruders.is_empty()
}

/// Why what is to be put back must not be after all: the data were moved on since it was decided (R9). Once it is
/// deployed, it is too late to ask; and data that cannot be read at this moment are asked again by act, before the
/// action.
fn barred(draft: &Draft<'_>, id: &ComponentId, r: &Rollback, to: &Generation, standing: &DiskState) -> Option<Barred> {
    let stands = match standing {
        DiskState::Here(file) => file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest),
        // Nothing is decided about a file that is being written.
        DiskState::Unsettled => true,
        DiskState::Claimed { .. } | DiskState::Broken(..) | DiskState::Absent(_) => false,
    };
    let record = draft.record(id).filter(|_| !stands)?;
    let data = data_of(draft, to);
    // What was wanted in and does not stand, while a pod of it does, was refused by act.
    let refused = r.stage == Stage::AwaitingServing && matches!(standing, DiskState::Here(_));
    etcd_guard::may_return(record, to, &data).err().filter(|_| refused || !data.is_unknown())
}

/// Gives a rollback up. Where its slot was emptied already, what was there comes back first: a slot is never left
/// empty.
fn turn_back(draft: &mut Draft<'_>, id: &ComponentId, r: Rollback, standing: &DiskState, barred: Barred) {
    let stood = r.from.and_then(|from| draft.record(id)?.generations.get(&from)).cloned();
    if let (DiskState::Absent(_), Some(stood)) = (standing, stood.filter(|stood| stood.stored == Stored::Yes)) {
        return want_in(draft, id, &stood);
    }
    let why = format!("{}; {}", r.why, barred.why);
    // What was to be put back is known-good nevertheless; it only may not open these data.
    draft.enter(id, ComponentState::Steady { good: fallback(draft, id, &r) }, &barred.why);
    draft.hold_back(id, r.from, why, barred.next_step, Until::Person);
}

/// A file that is neither what failed nor what is put back: the operator was here, and their file is a candidate like
/// any other (Never 6).
fn intervened(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    r: &Rollback,
    to: &Generation,
    standing: &DiskState,
) -> Option<u32> {
    let DiskState::Here(file) = standing else { return None };
    if r.intruders.contains(&file.name) {
        return None;
    }
    let pod = file.content.as_ref().ok()?.digest;
    if pod == to.pod_digest {
        return None;
    }
    let number = generations::register(draft, id, file)?;
    // What failed is still deployed, or is deployed again, until it has been taken out.
    (Some(number) != r.from || r.stage > Stage::PuttingIn && r.stage != Stage::StoppingOld).then_some(number)
}

fn park(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback) {
    let next = if r.way == Way::InPlace { Stage::PuttingIn } else { Stage::TakingOut };
    match parking::park(draft, id, r.in_stage) {
        Parking::Done => r.enter(next),
        Parking::UnderWay => {}
    }
}

fn take_out(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation) {
    let files = &draft.scene.seen.manifests;
    let intruders: Vec<String> = r.intruders.iter().filter(|name| files.file(name).is_some()).cloned().collect();
    let own = files.file(&to.file_name).is_some() && r.intruders.is_empty();
    // What failed may stand under another name than what it replaces.
    let failed = r.from.and_then(|from| draft.record(id)?.generations.get(&from)).map(|from| from.file_name.clone());
    let failed = failed.filter(|name| *name != to.file_name && files.file(name).is_some() && r.intruders.is_empty());
    if intruders.is_empty() && !own && failed.is_none() {
        return r.enter(Stage::AwaitingGone);
    }
    for file_name in intruders {
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
}

fn await_gone(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation) {
    if !runs(draft, id) {
        return r.enter(Stage::Settling);
    }
    if r.vacated.is_some() {
        return vacancy::await_gone(draft, id, r, to);
    }
    if r.in_stage >= to.termination_grace + draft.scene.policy.stop_margin {
        // It should have gone. The good file is written anyway: an empty slot helps nobody.
        return r.enter(Stage::PuttingIn);
    }
    let etcd = draft.record(id).is_some_and(|record| record.role == Role::Etcd);
    if r.in_stage >= draft.scene.policy.force_stop_after && !etcd && r.wish == Wish::Ours {
        hasten(draft, id);
    }
}

fn put_in(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation) {
    want_in(draft, id, to);
    r.enter(if r.way == Way::Restart { Stage::StoppingOld } else { Stage::AwaitingServing });
}

/// The files first: a pod that starts before them would read the wrong ones.
fn want_in(draft: &mut Draft<'_>, id: &ComponentId, to: &Generation) {
    let files = generations::restore_files(draft, id, to);
    draft.plan.extend(files);
    draft.want(Step::PutIn { component: id.clone(), number: to.number, file_name: to.file_name.clone() });
}

fn stop_old(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback) {
    let old: Vec<String> = ready_sandboxes(draft, id).collect();
    if old.is_empty() || r.in_stage >= draft.scene.policy.stop_margin {
        return r.enter(Stage::Nudging);
    }
    for sandbox in old {
        draft.want(Step::StopSandbox { component: id.clone(), sandbox });
    }
}

/// A kubelet that was restarted since the good file was put in has read it. One that was restarted shortly before is given
/// its time first, and may start the pod by itself meanwhile.
fn nudge(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation, standing: &DiskState) {
    let since = match standing {
        DiskState::Here(file) if file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest) => file.changed,
        // It is wanted again where it is not there.
        _ => draft.scene.tick.now.wall,
    };
    let settles = kubelet::kubelet_settles(draft);
    let started = settles && runs_of(draft, id).any(|run| run.created >= since);
    let done = kubelet_started_since(draft, since) || started;
    if settles && !done {
        return;
    }
    r.nudged = Nudged::Yes;
    if done {
        return r.enter(Stage::AwaitingServing);
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
    r.enter(Stage::AwaitingServing);
}

fn await_serving(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    mut r: Rollback,
    to: &Generation,
    standing: &DiskState,
) -> Flow {
    let policy = draft.scene.policy;
    let good_stands = match standing {
        DiskState::Here(file) => {
            generations::register(draft, id, file);
            if file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest) {
                r.stood = Stood::Yes;
            }
            true
        }
        DiskState::Unsettled => true,
        DiskState::Claimed { .. } | DiskState::Broken(..) | DiskState::Absent(_) => false,
    };
    if !good_stands {
        // It was deployed, and somebody broke it, took it away or put another next to it: that is its own action, and
        // meets the budget, the hold and the grace that it would meet at any other time.
        if r.stood == Stood::Yes {
            let because = format!("generation {} was deployed, and somebody changed it before it served", r.to);
            draft.enter(id, ComponentState::Steady { good: fallback(draft, id, &r) }, &because);
            return Flow::LookAgain;
        }
        // A failed write is wanted again.
        if let DiskState::Claimed { intruders, .. } = standing {
            r.intruders = intruders.iter().map(|file| file.name.clone()).collect();
            for file_name in r.intruders.clone() {
                draft.want(Step::MoveOut { component: id.clone(), file_name });
            }
        } else {
            want_in(draft, id, to);
        }
    }
    let Some(assessment) = draft.assessment(id) else { return Flow::Done };
    if assessment.cause.is_none() {
        r.crashes += assessment.crash.as_ref().map_or(0, Crash::own);
    }
    // Where only files were put back under a process that served all along, nothing starts again to read them: waiting
    // for that would end in stopping what serves (Q8).
    let failed = r.from.and_then(|from| draft.record(id)?.generations.get(&from));
    let only_files = r.way == Way::InPlace && failed.is_some_and(|failed| failed.pod_digest == to.pod_digest);
    let reads = only_files || matches!(assessment.reads, Reads::All | Reads::CannotTell { .. });
    if good_stands && assessment.serving && reads && serves_its_data(draft, id, &r) {
        finish(draft, id, &r);
        return Flow::Done;
    }
    if good_stands && assessment.serving && wrong_data::hold_replaced(draft, id, &r) {
        return Flow::Done;
    }
    let deadline = policy.deadline_of(Some(to));
    if r.crashes >= policy.max_crashes || r.in_stage >= deadline {
        let evidence = assessment.evidence.join("; ");
        let why = format!("generation {} was deployed and does not serve either: {evidence}", r.to);
        let next = format!("`lastgood explain {id}`; earlier generations: `lastgood history {id}`");
        draft.hold_back(id, Some(r.to), why, next, Until::Person);
        return Flow::Done;
    }
    let unstarted = matches!(assessment.reads, Reads::Nothing | Reads::Other { .. }) && assessment.crash.is_none();
    if unstarted && r.in_stage >= patience(draft) && r.nudged == Nudged::NotYet && !has_reacted(draft, id) {
        r.enter(Stage::StoppingOld);
    }
    if let Some(record) = draft.record_mut(id) {
        record.state = ComponentState::RollingBack(r);
    }
    Flow::Done
}

/// For how long a replacement of etcd waits for its word on which data it serves.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// Whether what was put back serves the data on record, as far as it has said so.
fn serves_its_data(draft: &mut Draft<'_>, id: &ComponentId, r: &Rollback) -> bool {
    match draft.trust(id) {
        DataTrust::OnRecord => true,
        DataTrust::NotTold => r.in_stage >= SAYS_WITHIN,
        DataTrust::Others => false,
    }
}

/// The good pod serves.
fn finish(draft: &mut Draft<'_>, id: &ComponentId, r: &Rollback) {
    draft.clear_notice(id, Notice::KubeletUnresponsive);
    if draft.record(id).is_some_and(|record| record.pin() == Some(r.to)) {
        draft.clear_notice(id, Notice::PinPassedOver);
    }
    let because = match r.vacated {
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
