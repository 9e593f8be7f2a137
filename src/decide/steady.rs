//! What one pass changes for a component that is not being replaced.

use std::sync::Arc;
use std::time::Duration;

use super::begin::Begin;
use super::disk_state::DiskState;
use super::draft::{DataTrust, Draft};
use super::generations::prove;
use super::replacement::Flow;
use super::{
    begin, change_set, generations, interrupted, probation, refused, replacement, stall, targets, undecoded, withheld,
    wrong_data,
};
use crate::model::component_state::{Probation, Purpose, Until};
use crate::model::etcd_data::{DataDir, LockState};
use crate::model::event::EventKind;
use crate::model::generation::Trust;
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, Gone, ImagePresence, ManifestFile, whither};
use crate::model::policy::Duplicates;
use crate::model::verdict::{Cause, Reads};
use crate::model::{ComponentId, ComponentState, Role, Step, Verdict};

/// After the end of its termination grace, how much later a stopping etcd may still touch its data directory.
const LAST_TOUCH: Duration = Duration::from_secs(5);

/// Takes one component through this pass.
pub(super) fn step(draft: &mut Draft<'_>, id: &ComponentId) -> Flow {
    // kube-apiserver, taken out by us around an etcd change, is nobody's loss.
    if draft.memory.stopped_apiserver.as_ref().is_some_and(|stopped| stopped.component == *id)
        || withheld::is_withheld(draft, id)
    {
        return Flow::Done;
    }
    let Some(record) = draft.record(id) else { return Flow::Done };
    let standing = DiskState::of(draft.scene.seen, id, record);
    let slot = record.state.clone();
    if matches!(slot, ComponentState::Replacing(_)) || !matches!(standing, DiskState::Absent(_)) {
        draft.clear_notice(id, Notice::EtcdStays);
        interrupted::over(draft, id);
    }
    if let ComponentState::Replacing(replacement) = slot {
        return replacement::advance(draft, id, replacement, &standing);
    }
    if !matches!(standing, DiskState::Claimed { .. }) {
        draft.clear_notice(id, Notice::Duplicate);
    }
    // While a file is being written, what was deployed before is the last that is known.
    let decoded = !matches!(standing, DiskState::Broken(..) | DiskState::Unsettled);
    match standing {
        DiskState::Unsettled => {}
        DiskState::Here(file) => here(draft, id, &file),
        DiskState::Broken(file, fault) => undecoded::step(draft, id, &file, &fault),
        DiskState::Claimed { rightful, duplicates } => claimed(draft, id, rightful, &duplicates),
        DiskState::Absent(how) => absent(draft, id, how),
    }
    // Last: what follows from a file that decodes again depends on that.
    if decoded {
        draft.clear_notice(id, Notice::Undecodable);
        if let Some(record) = draft.record_mut(id) {
            record.unstarted = None;
        }
    }
    Flow::Done
}

/// One file holds the component.
fn here(draft: &mut Draft<'_>, id: &ComponentId, file: &Arc<ManifestFile>) {
    let Some(number) = generations::register(draft, id, file) else { return };
    if wrong_data::step_etcd(draft, id, file) {
        return;
    }
    note_service(draft, id, number);
    let Some(slot) = draft.record(id).map(|record| record.state.clone()) else { return };
    match slot {
        ComponentState::Adopting { candidate, healthy } => adopt(draft, id, number, candidate, healthy),
        ComponentState::Steady { good } if number == good => ailing(draft, id),
        ComponentState::Steady { good } => changed(draft, id, number, good, file),
        ComponentState::Unread { good, .. } if number == good => {
            draft.enter(id, ComponentState::Steady { good }, "the files are as they were");
        }
        ComponentState::Unread { candidate, good, age } if number == candidate => {
            unread(draft, id, candidate, good, age, file)
        }
        ComponentState::Unread { good, .. } => changed(draft, id, number, good, file),
        ComponentState::Probation(p) if number == p.candidate => probation::step(draft, id, p, file),
        ComponentState::Probation(p) if number == p.good => {
            draft.enter(id, ComponentState::Steady { good: p.good }, "somebody put the known-good manifest back");
        }
        ComponentState::Probation(p) => changed(draft, id, number, p.good, file),
        ComponentState::Missing { good, .. } if number == good => {
            draft.enter(id, ComponentState::Steady { good }, "its manifest is back")
        }
        ComponentState::Missing { good, .. } => changed(draft, id, number, good, file),
        ComponentState::Held(held) if held.over != Some(number) => match held.good {
            Some(good) if good == number => {
                draft.enter(id, ComponentState::Steady { good }, "the known-good manifest is deployed again")
            }
            Some(good) => changed(draft, id, number, good, file),
            None => draft.enter(
                id,
                ComponentState::Adopting { candidate: number, healthy: Duration::ZERO },
                "another manifest is deployed",
            ),
        },
        ComponentState::Held(held) => {
            if let (Until::Images(images), Some(good)) = (&held.until, held.good) {
                let seen = &draft.scene.seen.images;
                if images.iter().all(|image| matches!(seen.get(image), Some(ImagePresence::Present { .. }))) {
                    let trial = ComponentState::Probation(Probation::begin(number, good));
                    draft.enter(id, trial, "the images it waited for are on the node");
                }
            }
        }
        ComponentState::Replacing(_) => {}
    }
}

/// Remembers what served last, and over which data.
fn note_service(draft: &mut Draft<'_>, id: &ComponentId, number: u32) {
    let now = draft.scene.tick.now.wall;
    let Some(assessment) = draft.assessment(id) else { return };
    if !(assessment.serving && assessment.reads == Reads::All) || draft.trust(id) != DataTrust::OnRecord {
        return;
    }
    let data_dirs = &draft.scene.seen.node.data_dirs;
    let Some(record) = draft.memory.components.get_mut(id) else { return };
    record.last_served = Some(number);
    let Some(generation) = record.generations.get_mut(&number) else { return };
    generation.served.get_or_insert(now);
    if let Some(crate::model::manifest::DataIdentity::Etcd { data_dir, .. }) = &generation.data {
        let seen = data_dirs.get(data_dir).filter(|dir| dir.member.is_some());
        record.data_dir = seen.map(|dir| {
            let identity = DataDir { changed: None, lock: LockState::CannotTell, at_rest: None, ..dir.clone() };
            (data_dir.clone(), identity)
        });
    }
}

/// Nothing is proven yet.
fn adopt(draft: &mut Draft<'_>, id: &ComponentId, number: u32, candidate: u32, healthy: Duration) {
    if number != candidate {
        let slot = ComponentState::Adopting { candidate: number, healthy: Duration::ZERO };
        return draft.enter(id, slot, "its manifest changed before it was proven");
    }
    let Some(assessment) = draft.assessment(id) else { return };
    let healthy = match (assessment.verdict(), &assessment.reads) {
        (Verdict::Healthy, Reads::All) => healthy + draft.credit(),
        (Verdict::Healthy | Verdict::Unknown, _) => healthy,
        _ => Duration::ZERO,
    };
    let unproven = match (&assessment.verdict(), &assessment.reads) {
        (Verdict::Healthy, Reads::Other { why } | Reads::CannotTell { why }) => {
            Some(format!("unproven: {why}; it is no rollback target until its process restarts"))
        }
        _ => None,
    };
    draft.notice_if(id, Notice::Unproven, unproven);
    if let Some(record) = draft.record_mut(id) {
        record.state = ComponentState::Adopting { candidate, healthy };
    }
    // Healthy outlasts one bad answer; a proof does not rest on one.
    if healthy >= draft.scene.policy.adoption_soak && assessment.serving {
        prove(draft, id, candidate, healthy);
    }
}

/// What is deployed is known-good. Where it is unhealthy nevertheless, nothing changed, so nothing is rolled back (Q9).
fn ailing(draft: &mut Draft<'_>, id: &ComponentId) {
    let Some(assessment) = draft.assessment(id) else { return };
    let text = match assessment.verdict() {
        Verdict::Healthy | Verdict::Unknown | Verdict::Starting => None,
        verdict => Some(match &assessment.cause {
            Some(cause @ Cause::Data(fault)) => {
                let way = fault.ways(None).into_iter().next().unwrap_or_default();
                format!("{verdict}: {cause}; nothing is restarted or rolled back for that; next: {way}")
            }
            Some(cause) => format!("{verdict}: waiting until its cause is gone: {cause}"),
            None => format!(
                "{verdict}: {}; it did not change, so there is nothing to roll back",
                assessment.evidence.first().map_or("", String::as_str)
            ),
        }),
    };
    // The evidence's words change from crash to crash; that it ails is said once, and `explain` has the words.
    let before = draft.record(id).and_then(|record| record.notices.get(&Notice::Unhealthy).cloned());
    // The data are read some seconds after etcd has ended, and that nothing but the operator helps is said then.
    let is_data = matches!(assessment.cause, Some(Cause::Data(_)));
    let known = before.is_some_and(|before| !is_data || text.as_ref() == Some(&before));
    match (text, known) {
        (Some(text), false) => draft.notice(id, Notice::Unhealthy, text),
        (None, _) => draft.clear_notice(id, Notice::Unhealthy),
        (Some(_), true) => {}
    }
    stall::step(draft, id);
}

/// Another generation is deployed than the known-good one.
fn changed(draft: &mut Draft<'_>, id: &ComponentId, number: u32, good: u32, file: &Arc<ManifestFile>) {
    change_set::join(draft, id, number);
    let rewrites = draft.scene.policy.max_rewrites;
    let older_process = draft.assessment(id).is_some_and(|a| matches!(a.reads, Reads::Other { .. }));
    let Some(record) = draft.memory.components.get_mut(id) else { return };
    let same_pod = record.generations.get(&good).zip(record.generations.get(&number));
    let only_files = same_pod.is_some_and(|(good, other)| good.pod_digest == other.pod_digest);
    let undecoded = record.notices.contains_key(&Notice::Undecodable);
    let Some(generation) = record.generations.get_mut(&number) else { return };
    if let Trust::Quarantined { why, .. } = &generation.trust {
        let why = why.clone();
        generation.rewritten += 1;
        if generation.rewritten >= rewrites {
            let text = format!(
                "{} was written again {} times (by uid {}) although generation {number} is quarantined: {why}",
                file.name, generation.rewritten, file.uid
            );
            let next =
                format!("stop the program that writes it; `lastgood rollback {id}` puts the known-good one back");
            return draft.hold_back(id, Some(number), text, next, Until::Person);
        }
        let trial = ComponentState::Probation(Probation::begin(number, good));
        let because = format!("quarantined generation {number} is deployed again in {}", file.name);
        draft.enter(id, trial, &because);
        return probation::revert_quarantined(draft, id, number, &why);
    }
    if only_files && older_process {
        let slot = ComponentState::Unread { candidate: number, good, age: Duration::ZERO };
        let because = "a configuration file changed; the running process has not read it";
        return draft.enter(id, slot, because);
    }
    if undecoded && older_process {
        // To the kubelet it may be the pod that runs: then it starts no other, and is not deaf (undecoded.rs).
        let slot = ComponentState::Unread { candidate: number, good, age: Duration::ZERO };
        let because = "the previous file could not be read, so it is unknown whether the running process is of it";
        return draft.enter(id, slot, because);
    }
    let because = format!("{} changed: generation {number} is on probation", file.name);
    draft.enter(id, ComponentState::Probation(Probation::begin(number, good)), &because);
}

/// A changed configuration file that no process has read proves nothing.
fn unread(draft: &mut Draft<'_>, id: &ComponentId, candidate: u32, good: u32, age: Duration, file: &ManifestFile) {
    let credit = draft.credit();
    let read = draft.assessment(id).is_some_and(|a| a.reads == Reads::All || a.crash.is_some());
    if refused::by_the_kubelet(draft, file).is_some() {
        let trial = ComponentState::Probation(Probation::begin(candidate, good));
        return draft.enter(id, trial, "the kubelet has read the manifest, and refuses it");
    }
    if read {
        let trial = Probation { age: Duration::ZERO, ..Probation::begin(candidate, good) };
        let crashes = draft.assessment(id).and_then(|a| a.crash.as_ref()).map_or(0, |crash| crash.count);
        let trial = Probation { crashes, ..trial };
        return draft.enter(id, ComponentState::Probation(trial), "a process started that reads the changed files");
    }
    if undecoded::is_the_same_pod(draft, id, candidate, good, age) {
        let trial = ComponentState::Probation(Probation::begin(candidate, good));
        return draft.enter(id, trial, "the kubelet left its pod running, so the pod is of the deployed manifest");
    }
    if let Some(record) = draft.record_mut(id) {
        record.state = ComponentState::Unread { candidate, good, age: age + credit };
    }
}

/// A second file claims the pod.
fn claimed(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    rightful: Option<Arc<ManifestFile>>,
    duplicates: &[Arc<ManifestFile>],
) {
    let names: Vec<String> = duplicates.iter().map(|file| file.name.clone()).collect();
    let listed = names.join(", ");
    let named = draft.record(id).and_then(|record| draft.scene.seen.manifests.file(record.file_name()?));
    // The file under the component's own name may be the pod's nevertheless, and would go with the duplicate.
    if let Some((named, fault)) = named.and_then(|file| Some((file, file.content.as_ref().err()?)))
        && fault.kubelet_may_run()
    {
        let text = format!(
            "{listed} in the manifest directory defines the pod of {id}, and so may {}, which lastgood cannot read (it \
             {fault}); lastgood moves neither; next: keep one of them",
            named.name
        );
        return draft.notice(id, Notice::Duplicate, text);
    }
    let known = draft.record(id).and_then(|record| record.state.good());
    let known = known.map(|good| targets::aim(draft, id, good, None).0);
    let stood = rightful.as_ref().and_then(|file| generations::register(draft, id, file));
    let stored = |number: &u32| {
        let generation = draft.record(id).and_then(|record| record.generations.get(number));
        generation.is_some_and(|g| g.stored == crate::model::generation::Stored::Yes)
    };
    let Some(to) = stood.filter(stored).or(known).filter(|_| known.is_some()) else {
        let text = format!("{listed}: another file defines the same pod; keep one of them in the manifest directory");
        return draft.notice(id, Notice::Duplicate, text);
    };
    let text = format!("{listed} in the manifest directory claims the pod of {id}; the kubelet runs what it read last");
    draft.notice(id, Notice::Duplicate, text);
    if draft.scene.policy.duplicates == Duplicates::Report {
        return;
    }
    let why = format!("{listed} claims its pod");
    let purpose = Purpose::MoveOutDuplicates { files: names };
    begin::begin(draft, id, Begin { purpose, to, why, in_place: false });
}

/// No file holds it.
fn absent(draft: &mut Draft<'_>, id: &ComponentId, how: Gone) {
    let Some(slot) = draft.record(id).map(|record| record.state.clone()) else { return };
    match slot {
        ComponentState::Adopting { .. } => let_go(draft, id),
        ComponentState::Missing { good, how, since, age } => missing(draft, id, good, how, since, age),
        ComponentState::Held(_) | ComponentState::Replacing(_) => {}
        ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Probation(_) => {
            let Some(good) = slot.good() else { return };
            // Q14: a file that went in a gap that nobody watched (we were stopped, the machine suspended) went unwitnessed,
            // whatever its inode tells afterwards.
            let how = if how == Gone::Deleted && draft.credit().is_zero() { Gone::Unwitnessed } else { how };
            let grace = grace(draft, id).as_secs();
            let back = targets::aim(draft, id, good, None).0;
            let because = match &how {
                Gone::Moved { .. } | Gone::Unwitnessed if interrupted::set_aside(draft, id).is_some() => {
                    "kubeadm moved its manifest to its backups to replace it".to_owned()
                }
                Gone::Deleted => format!(
                    "its manifest was deleted; lastgood deploys generation {back} again in {grace} s unless `lastgood \
                     pause` prevents it"
                ),
                Gone::Moved { to } => {
                    format!("its manifest was {}; it stays away until it is put back", whither(to.as_deref()))
                }
                Gone::Unwitnessed => {
                    format!(
                        "its manifest was removed while lastgood did not run; `lastgood rollback {id}` deploys \
                         generation {back}"
                    )
                }
            };
            let since = draft.scene.tick.now.wall;
            draft.enter(id, ComponentState::Missing { good, how, since, age: Duration::ZERO }, &because);
        }
    }
}

/// A component that went before anything of it was proven is not missed.
fn let_go(draft: &mut Draft<'_>, id: &ComponentId) {
    let known_good = draft.record(id).is_some_and(|record| record.known_good().next().is_some());
    if known_good {
        return;
    }
    draft.tell(id, EventKind::State, None, "gone", "its manifest was removed before it had proven itself");
    if let Some(record) = draft.memory.components.remove(id) {
        for number in record.generations.into_keys() {
            draft.want(Step::Forget { component: id.clone(), number });
        }
    }
}

/// How long a deleted manifest stays away before it comes back.
fn grace(draft: &Draft<'_>, id: &ComponentId) -> Duration {
    let policy = draft.scene.policy;
    let stopped = draft.memory.stopped_apiserver.as_ref().map(|stopped| &stopped.component);
    let gone = draft.memory.components.iter().filter(|(other, record)| {
        Some(*other) != stopped
            && !withheld::is_withheld(draft, other)
            && (matches!(record.state, ComponentState::Missing { .. })
                || matches!(DiskState::of(draft.scene.seen, other, record), DiskState::Absent(_))
                    && !matches!(record.state, ComponentState::Replacing(_) | ComponentState::Held(_)))
    });
    let several = gone.count() > 1;
    // A deletion of etcd's may be a move to another file system, by whoever is about to restore it; kubeadm's is none.
    let is_etcd = draft.record(id).is_some_and(|record| record.role == Role::Etcd);
    let is_etcd = is_etcd && interrupted::set_aside(draft, id).is_none();
    if several || is_etcd { policy.all_deleted_grace.max(policy.deleted_grace) } else { policy.deleted_grace }
}

fn missing(draft: &mut Draft<'_>, id: &ComponentId, good: u32, how: Gone, since: jiff::Timestamp, age: Duration) {
    let cut_short = how != Gone::Deleted && interrupted::set_aside(draft, id).is_some();
    if how != Gone::Deleted && !cut_short {
        return interrupted::over(draft, id);
    }
    if let Some(sign) = draft.scene.seen.node.master.missing.first() {
        let why = format!("its manifest and {} are gone: this node is no longer a master", sign.display());
        let next = format!("if this was not intended, bring {} back, then `lastgood rollback {id}`", sign.display());
        return draft.hold_back(id, None, why, next, Until::Person);
    }
    // A pause, or kubeadm at work, stops the clock: whoever holds us gets the whole grace afterwards.
    let age = if draft.hold.is_some() { age } else { age + draft.credit() };
    let grace = grace(draft, id);
    if let Some(record) = draft.record_mut(id) {
        record.state = ComponentState::Missing { good, how, since, age };
    }
    if cut_short {
        interrupted::tell(draft, id, good, grace);
    }
    if age < grace {
        return;
    }
    let blocked = etcd_must_stay_away(draft, id, since);
    draft.notice_if(id, Notice::EtcdStays, blocked.clone());
    if blocked.is_some() {
        return;
    }
    interrupted::over(draft, id);
    let went = if cut_short { "moved to kubeadm's backups" } else { "deleted" };
    let why = format!("its manifest was {went} {} s ago and nobody put it back", age.as_secs());
    begin::begin(draft, id, Begin { purpose: Purpose::RestoreMissing, to: good, why, in_place: true });
}

/// Why a deleted etcd must not come back by itself (Q3): a restore may be under way over its data.
fn etcd_must_stay_away(draft: &Draft<'_>, id: &ComponentId, since: jiff::Timestamp) -> Option<String> {
    let record = draft.record(id).filter(|record| record.role == Role::Etcd)?;
    let node = &draft.scene.seen.node;
    let stays = |why: String| Some(format!("{why}: `lastgood rollback {id}` deploys it again if that is right"));
    if let Some(tool) = node.busy.iter().find(|process| process.kind == BusyKind::EtcdTool) {
        return stays(format!("{} is running (pid {})", tool.command, tool.pid));
    }
    let Some((path, kept)) = &record.data_dir else {
        return stays("it is unknown which data directory it served from".to_owned());
    };
    let Some(stands) = node.data_dirs.get(path) else {
        return stays(format!("its data directory {} cannot be seen", path.display()));
    };
    if stands.member != kept.member {
        return stays(format!("{} is not the directory it served from", path.display()));
    }
    if stands.lock != LockState::Free {
        return stays(format!("the database in {} is in use or cannot be read", path.display()));
    }
    let grace = record
        .state
        .good()
        .and_then(|good| record.generations.get(&good))
        .map_or(Duration::ZERO, |g| g.termination_grace);
    let last_touch = since + (grace + LAST_TOUCH);
    match stands.changed {
        Some(changed) if changed <= last_touch => None,
        Some(changed) => stays(format!("{} was changed {changed}, after etcd had stopped", path.display())),
        None => stays(format!("it is unknown when {} was last changed", path.display())),
    }
}
