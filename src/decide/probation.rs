//! The probation of a candidate.
//!
//! ```text
//!   rolled back by           crashes ≥ n            of a process that had loaded it, its dependencies healthy
//!                            one crash              that no other attempt could avoid (judge/own_fault.rs)
//!                            progress deadline      it never served; not shorter than its startup probe allows
//!                            relapse                it served and was then unhealthy for longer than the grace
//!                            harm                   a dependent became unhealthy and nothing else explains it (Q13, judge/blame.rs)
//!                            the kubelet's report   its image cannot be pulled, or its sandbox waits too long for it
//!   known-good by            the soak               healthy all the time
//! ```
//!
//! Time that a dependency explains counts for neither. Unknown stops all counters, and so does maintenance of etcd for etcd
//! and what depends on it.

use std::sync::Arc;
use std::time::Duration;

use super::begin::Begin;
use super::draft::Draft;
use super::{begin, change_set, generations, inhibitors, kubelet, pods, refused, targets};
use crate::model::component_state::{Probation, Served, Until};
use crate::model::event::EventKind;
use crate::model::generation::Trust;
use crate::model::notice::Notice;
use crate::model::observation::{ImagePresence, ManifestFile, SandboxState};
use crate::model::verdict::{Assessment, Cause, Crash, OwnFault, Reads};
use crate::model::{ComponentId, ComponentState, Step, Verdict};

/// Whose fault a failure is. Only its own quarantines a generation (Q12).
enum Fault {
    Own(String),
    /// The kubelet's own log says that it does not take the manifest.
    Refused(String),
    Foreign(String),
}

/// What the kubelet says when an image cannot be had: it has tried, and failed, at least once before.
const IMAGE_REASONS: [&str; 3] = ["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

/// One pass of a trial.
pub(super) fn step(draft: &mut Draft<'_>, id: &ComponentId, mut trial: Probation, file: &Arc<ManifestFile>) {
    if inhibitors::is_maintained(draft, id) {
        return;
    }
    let standing = draft.record(id).and_then(|r| r.generations.get(&trial.candidate)).map(|g| g.trust.clone());
    if let Some(Trust::Quarantined { why, .. }) = standing {
        return revert_quarantined(draft, id, trial.candidate, &why);
    }
    // Known before the kubelet ends the pod that runs.
    if let Some(why) = refused::by_the_kubelet(draft, file) {
        return fail(draft, id, &trial, Fault::Refused(why));
    }
    let Some(assessment) = draft.assessment(id) else { return };
    let absent = absent_image(draft, id, file);
    if assessment.verdict() == Verdict::Unknown {
        return;
    }
    let credit = draft.credit();
    trial.imageless = match &absent {
        Some(_) if waits_in_its_sandbox(draft, id) => trial.imageless + credit,
        _ => Duration::ZERO,
    };
    let word = absent.and_then(|image| image_trouble(draft, id, &trial, &image, assessment));
    let excuse = assessment.cause.as_ref().filter(|cause| excuses(draft, id, &trial, cause));
    if assessment.serving && assessment.reads == Reads::All {
        trial.served = Served::Yes;
    }
    // Also of one that is back before the next look: Healthy outlasts it, the count does not forget it.
    let crashes = assessment.crash.as_ref().filter(|_| excuse.is_none()).map_or(0, Crash::own);
    if crashes > 0 {
        trial.crashes += crashes;
        trial.healthy = Duration::ZERO;
    }
    if assessment.verdict() == Verdict::Healthy && assessment.reads == Reads::All {
        // Without what it depends on, it can do nothing that would prove it, however well it looks.
        trial.healthy += if change_set::depends_on_the_unwell(draft, id) { Duration::ZERO } else { credit };
        trial.failing = Duration::ZERO;
        trial.unstarted = Duration::ZERO;
        trial.harm = harm(&trial, draft, assessment);
    } else if excuse.is_none() {
        trial.healthy = Duration::ZERO;
        trial.age += credit;
        match trial.served {
            Served::Yes => trial.failing += credit,
            Served::NotYet => {}
        }
        trial.unstarted = match assessment.reads {
            Reads::Nothing | Reads::Other { .. } => trial.unstarted + credit,
            Reads::All | Reads::CannotTell { .. } => Duration::ZERO,
        };
    }
    if let Some(crash) = &assessment.crash {
        tell_crash(draft, id, &trial, crash, excuse);
    }
    let fault = fault(draft, id, &trial, assessment, word);
    let soak = draft.scene.policy.candidate_soak;
    if let Some(record) = draft.record_mut(id) {
        record.state = ComponentState::Probation(trial.clone());
    }
    match fault {
        Some(fault) => fail(draft, id, &trial, fault),
        None if trial.healthy >= soak && assessment.serving => {
            generations::prove(draft, id, trial.candidate, trial.healthy)
        }
        None => restart_unresponsive_kubelet(draft, id, trial),
    }
}

/// An image of the candidate that is not on this node.
fn absent_image(draft: &mut Draft<'_>, id: &ComponentId, file: &ManifestFile) -> Option<String> {
    let images = file.content.as_ref().ok()?.images();
    let seen = &draft.scene.seen.images;
    let absent = images.into_iter().find(|image| seen.get(image) == Some(&ImagePresence::Absent));
    let notice = absent.as_ref().map(|image| format!("image {image} is not on this node; the kubelet has to pull it"));
    draft.notice_if(id, Notice::CandidateImage, notice);
    absent
}

/// Whether the kubelet has made the candidate's sandbox and no container in it yet.
fn waits_in_its_sandbox(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let since = draft.record(id).and_then(|record| record.deployed.as_ref()).map(|stands| stands.changed);
    let newest = pods::runs_of(draft, id).max_by_key(|run| run.created);
    since.zip(newest).is_some_and(|(since, run)| {
        run.created >= since && run.ready == SandboxState::Ready && run.containers.is_empty()
    })
}

/// Why the candidate is given up for its image: the kubelet has said that it cannot have it, or has been at it for too
/// long. Its word is soon had, but not of an API server or an etcd: whether we may ask it, it asks the API server.
fn image_trouble(
    draft: &Draft<'_>,
    id: &ComponentId,
    trial: &Probation,
    image: &str,
    assessment: &Assessment,
) -> Option<String> {
    let waiting = draft.scene.seen.kubelet.waiting.get(id);
    let about_it = |reason: &str| IMAGE_REASONS.contains(&reason);
    if let Some(waiting) = waiting.filter(|w| assessment.uid.as_ref() == Some(&w.uid) && about_it(&w.reason)) {
        return Some(format!("its image {image} cannot be pulled: {}: {}", waiting.reason, waiting.message));
    }
    let seconds = trial.imageless.as_secs();
    (trial.imageless >= draft.scene.policy.image_grace).then(|| {
        format!(
            "its image {image} was not pulled within {seconds} s after its sandbox started; `crictl pull {image}` \
             first, then write the manifest again"
        )
    })
}

/// Whether a cause is outside of the candidate, so that nothing counts against it.
fn excuses(draft: &Draft<'_>, id: &ComponentId, trial: &Probation, cause: &Cause) -> bool {
    match cause {
        Cause::Component { .. } | Cause::Runtime { .. } | Cause::Kubelet { .. } | Cause::Cluster { .. } => true,
        Cause::Sandbox { .. } | Cause::Data(_) => true,
        Cause::Certificate { .. } | Cause::Alarm { .. } | Cause::Disk { .. } | Cause::Endpoint { .. } => true,
        Cause::Address { .. } | Cause::SecondSandbox { .. } => true,
        // A rollback makes another pod, which has no back-off to wait for.
        Cause::HostPath { .. } | Cause::NoAttempt { .. } => false,
        // A port that the known-good generation does not need is the candidate's own choice.
        Cause::Port { port, .. } => {
            let good = draft.record(id).and_then(|record| record.generations.get(&trial.good));
            good.is_some_and(|good| good.ports.contains(port))
        }
        // Going back cannot bring keys back, but the change on trial may well be what they do not fit.
        Cause::KeyMaterial { .. } => false,
    }
}

/// How long a dependent has done badly under this candidate; a crash of one counts a third of what
/// decides, so that controller manager and scheduler, crashing once each over one hiccup, condemn nobody. It adds up: a
/// dependent that crashes over and over answers for a while after each start.
fn harm(trial: &Probation, draft: &Draft<'_>, assessment: &Assessment) -> Duration {
    let Some(harmed) = assessment.breaks_dependent() else { return trial.harm };
    let crashed = draft.scene.judged.components.get(harmed).is_some_and(|a| a.crash.is_some());
    trial.harm + if crashed { draft.scene.policy.unhealthy_grace / 3 } else { draft.credit() }
}

fn tell_crash(draft: &mut Draft<'_>, id: &ComponentId, trial: &Probation, crash: &Crash, excuse: Option<&Cause>) {
    let code = crash.code.map_or("; its exit code is unknown".to_owned(), |code| format!(" with exit code {code}"));
    let counted = match excuse {
        Some(cause) => format!("not held against it: {cause}"),
        None if crash.proves.is_some() => "one is enough: no other attempt ends differently".to_owned(),
        None if crash.lost_its_lease() => "not held against it: it lost its lease".to_owned(),
        None => format!("crash {} of the {} that cause a rollback", trial.crashes, draft.scene.policy.max_crashes),
    };
    let to = format!("generation {} crashed{code} ({counted})", trial.candidate);
    let because = match crash.log_tail.as_deref().map(str::trim) {
        Some(words) => format!("its log ends with: {words}"),
        None => String::new(),
    };
    draft.tell(id, EventKind::Notice, Some(trial.candidate), &to, &because);
}

/// What, if anything, is decided against it now.
fn fault(
    draft: &Draft<'_>,
    id: &ComponentId,
    trial: &Probation,
    assessment: &Assessment,
    image: Option<String>,
) -> Option<Fault> {
    let policy = draft.scene.policy;
    let of_manifest = assessment.cause.iter().filter(|cause| cause.is_of_the_manifest()).map(ToString::to_string);
    let evidence = assessment.evidence.iter().cloned().chain(of_manifest).collect::<Vec<_>>().join("; ");
    if let Some(why) = image {
        return Some(Fault::Foreign(why));
    }
    if let Some(proven) = proven(assessment) {
        return Some(Fault::Own(format!("it crashed, and {proven}, which no other attempt changes: {evidence}")));
    }
    if trial.crashes >= policy.max_crashes {
        let why = format!("it crashed {} times with its dependencies healthy: {evidence}", trial.crashes);
        return Some(if foreign_port(assessment) { Fault::Foreign(why) } else { Fault::Own(why) });
    }
    if trial.failing >= policy.unhealthy_grace {
        return Some(Fault::Own(format!(
            "it served, then was unhealthy for {} s: {evidence}",
            trial.failing.as_secs()
        )));
    }
    if trial.harm >= policy.unhealthy_grace {
        let harmed = assessment.breaks_dependent().map(ToString::to_string).unwrap_or_default();
        return Some(Fault::Own(format!("{harmed} became unhealthy after this change, and has not changed itself")));
    }
    let deadline = policy.deadline_of(draft.record(id).and_then(|record| record.generations.get(&trial.candidate)));
    if trial.served == Served::NotYet && trial.age >= deadline {
        let why = format!("it did not serve within {} s: {evidence}", deadline.as_secs());
        let absent = draft.record(id).is_some_and(|record| record.notices.contains_key(&Notice::CandidateImage));
        let unstarted = matches!(assessment.reads, Reads::Nothing | Reads::Other { .. });
        let no_attempt = matches!(assessment.cause, Some(Cause::NoAttempt { .. }));
        return Some(if absent || unstarted || no_attempt || foreign_port(assessment) {
            Fault::Foreign(why)
        } else {
            Fault::Own(why)
        });
    }
    None
}

/// What one crash of this pass proves, where nothing else explains it.
fn proven(assessment: &Assessment) -> Option<OwnFault> {
    let explained = assessment.cause.as_ref().is_some_and(|cause| !cause.is_of_the_manifest());
    assessment.crash.as_ref().filter(|_| !explained && !assessment.address_in_use)?.proves
}

/// Whether the crash is about a port that somebody else holds: that lapses when they go.
fn foreign_port(assessment: &Assessment) -> bool {
    assessment.address_in_use || matches!(assessment.cause, Some(Cause::Port { .. }))
}

/// Gives a candidate up.
fn fail(draft: &mut Draft<'_>, id: &ComponentId, trial: &Probation, fault: Fault) {
    let (why, own, in_place) = match fault {
        Fault::Own(why) => (why, true, false),
        // The pod of the known-good generation runs on until the kubelet's next scan.
        Fault::Refused(why) => (why, true, true),
        Fault::Foreign(why) => (why, false, false),
    };
    if trial.age >= draft.scene.policy.max_change_age {
        let (back, _) = targets::aim(draft, id, trial.good, Some(trial.candidate));
        let next = format!("`lastgood rollback {id}` rolls back to generation {back}");
        let why = format!("{why}; the change is too old for an automatic rollback");
        return draft.hold_back(id, Some(trial.candidate), why, next, Until::Person);
    }
    let begin = Begin { in_place, ..Begin::roll_back(trial.candidate, trial.good, why.clone()) };
    let begun = begin::begin(draft, id, begin);
    if own && begun {
        quarantine(draft, id, trial.candidate, &why);
    }
}

/// A candidate's etcd serves other data than those on record: that is its own fault.
pub(super) fn fail_for_its_data(draft: &mut Draft<'_>, id: &ComponentId, trial: &Probation, why: String) {
    fail(draft, id, trial, Fault::Own(why));
}

/// A quarantined generation is deployed again: it goes at once.
pub(super) fn revert_quarantined(draft: &mut Draft<'_>, id: &ComponentId, number: u32, why: &str) {
    let Some(good) = draft.record(id).and_then(|record| record.state.good()) else { return };
    let why =
        format!("generation {number} is quarantined ({why}); `lastgood release {id} {number}` permits another trial");
    begin::begin(draft, id, Begin::roll_back(number, good, why));
}

fn quarantine(draft: &mut Draft<'_>, id: &ComponentId, number: u32, why: &str) {
    if draft.record(id).is_some_and(|record| record.pin() == Some(number)) {
        let text = format!(
            "pinned generation {number} failed a trial ({why}) and stays known-good, as the operator pinned it"
        );
        return draft.tell(id, EventKind::Notice, Some(number), &text, "`lastgood unpin` removes the pin");
    }
    let since = draft.scene.tick.now.wall;
    let Some(generation) = draft.record_mut(id).and_then(|record| record.generations.get_mut(&number)) else { return };
    generation.trust = Trust::Quarantined { why: why.to_owned(), since };
    draft.tell(id, EventKind::Generation, Some(number), &format!("generation {number} is quarantined"), why);
}

/// A kubelet that started without an API server starts no changed pod: it waits behind the old one for ever. One
/// restart cures it, for the operator's candidate as for a generation of ours.
fn restart_unresponsive_kubelet(draft: &mut Draft<'_>, id: &ComponentId, mut trial: Probation) {
    let reacts = kubelet::has_reacted(draft, id) || kubelet::has_made_its_container(draft, id);
    if trial.unstarted < kubelet::patience(draft) || reacts || draft.hold.is_some() {
        return;
    }
    let old: Vec<Step> =
        pods::ready_sandboxes(draft, id).map(|sandbox| Step::StopSandbox { component: id.clone(), sandbox }).collect();
    // The last one of the hour belongs to what is put back if this trial fails: whatever keeps the candidate's sandbox
    // from being made may not be deafness, and a kubelet restarted without an API server surely is deaf afterwards.
    if !kubelet::may_restart_kubelet(draft)
        || draft.memory.kubelet_restarts.len() + 1 >= draft.scene.policy.kubelet_restarts_per_hour
    {
        return;
    }
    trial.unstarted = Duration::ZERO;
    if let Some(record) = draft.record_mut(id) {
        record.state = ComponentState::Probation(trial);
    }
    draft.plan.extend(old);
    kubelet::restart_kubelet(draft, id, "it does not start the changed pod");
}
