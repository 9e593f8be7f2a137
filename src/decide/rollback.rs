//! A replacement under way, stage by stage. No stage waits: each pass looks how far it is, and every stage has a time
//! after which the good file is written anyway.
//!
//! ```text
//!   Parking ─▶ TakingOut ─▶ AwaitingGone ─▶ Settling ─▶ PuttingIn ─▶ AwaitingServing ─▶ Steady | Probation
//!  (etcd only)    │ in place                                ▲   │            │  ▲
//!                 └────────────────────────────────────────-┘   └ StoppingOld ─▶ Nudging (a deaf kubelet, once)
//! ```
//!
//! From TakingOut on the slot may be empty, so what follows is done whatever holds us back (Q11). Between Settling and
//! PuttingIn a restore may have it empty for as long as it works (vacancy.rs).

use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use super::incarnation::Trust;
use super::parking::{self, Parking};
use super::standing::{self, Restorable, Standing};
use super::{change_set, generations, services, steady, undecoded, vacancy, wrong_data};
use crate::model::event::EventKind;
use crate::model::generation::{Generation, Stored};
use crate::model::manifest::DataIdentity;
use crate::model::memory::Record;
use crate::model::observation::{ContainerState, HeardApi, SandboxState};
use crate::model::slot::{Nudged, Probation, Rollback, Stage, Stood, Until, Way, Wish};
use crate::model::verdict::{Crash, Reads, Verdict};
use crate::model::versions::{self, Barred};
use crate::model::{ComponentId, DataVersion, Role, Slot, Step};

/// What a rollback is begun with.
pub(super) struct Begin {
    /// The generation that stands and failed, if one does.
    pub(super) from: Option<u32>,
    /// Where to go, if that one is ready; another known-good one otherwise.
    pub(super) to: u32,
    pub(super) why: String,
    pub(super) wish: Wish,
    pub(super) intruders: Vec<String>,
    /// Whether a mere write is enough: nothing runs that would have to go first.
    pub(super) in_place: bool,
}

/// The grace a container gets that is taken out and serves nobody.
const HASTENED_GRACE: Duration = Duration::from_secs(2);

/// The least time a kubelet must have had with a serving API server to have heard from it.
pub(super) const HEARD_AFTER: Duration = Duration::from_secs(5);

/// Begins a rollback, or says why not. True if it has begun.
pub(super) fn begin(draft: &mut Draft<'_>, id: &ComponentId, begin: Begin) -> bool {
    let begin = aimed(draft, id, begin);
    if let Some(hold) = steady::held(draft.hold.as_ref(), begin.wish) {
        let text = format!("would go back to generation {}, because {}; not done: {hold}", begin.to, begin.why);
        if draft.record(id).is_some_and(|record| !record.notices.contains_key("would")) {
            draft.notice(id, "would", text);
        }
        return false;
    }
    draft.clear_notice(id, "would");
    let target = match target(draft, id, &begin) {
        Ok(target) => target,
        Err((why, next, until)) => {
            draft.hold_back(id, begin.from, format!("{}; {why}", begin.why), next, until);
            return false;
        }
    };
    if let Some(why) = beyond_us(draft, id, &begin, target) {
        let next = format!("put it right by hand, then `lastgood resume {id}`");
        draft.hold_back(id, begin.from, format!("{}; {why}", begin.why), next, Until::Person);
        return false;
    }
    if begin.wish == Wish::Ours && !draft.spend(id) {
        let limit = draft.scene.policy.actions_per_hour;
        let why = format!("{}; but {limit} actions within the hour are the limit", begin.why);
        let next = format!("look at `lastgood explain {id}`, mend the cause, then `lastgood resume {id}`");
        draft.hold_back(id, begin.from, why, next, Until::Person);
        return false;
    }
    let way = way(draft, id, &begin, target);
    let stage = match way {
        Way::TwoSteps if parks(draft, id) => Stage::Parking,
        Way::TwoSteps => Stage::TakingOut,
        Way::InPlace if parks(draft, id) && !begin.in_place => Stage::Parking,
        Way::InPlace | Way::Restart => Stage::PuttingIn,
    };
    let rollback = Rollback {
        from: begin.from,
        to: target,
        why: begin.why.clone(),
        wish: begin.wish,
        way,
        intruders: begin.intruders,
        stage,
        in_stage: Duration::ZERO,
        crashes: 0,
        nudged: Nudged::NotYet,
        stood: Stood::NotYet,
        vacated: None,
    };
    start(draft, id, rollback);
    true
}

/// Enters it, and takes the first step.
pub(super) fn start(draft: &mut Draft<'_>, id: &ComponentId, rollback: Rollback) {
    let why = rollback.why.clone();
    draft.enter(id, Slot::RollingBack(rollback.clone()), &why);
    draft.begun.insert(id.clone());
    if rollback.vacated.is_none() {
        change_set::begun(draft, id, &rollback);
    }
    // The first deed belongs to this very pass: a broken file has seconds until the kubelet's next scan.
    let standing = draft.record(id).map(|record| Standing::of(draft.scene.seen, id, record));
    if let Some(standing) = standing {
        advance(draft, id, rollback, standing);
    }
}

/// Our own rollbacks go to the pinned generation. A person has named theirs, and where intruders are moved out it is
/// what stood beside them that stays.
fn aimed(draft: &mut Draft<'_>, id: &ComponentId, begin: Begin) -> Begin {
    if begin.wish == Wish::Operator || !begin.intruders.is_empty() {
        return begin;
    }
    let (to, passed_over) = aim(draft, id, begin.to, begin.from);
    draft.notice_if(id, "pin", passed_over);
    Begin { to, ..begin }
}

/// Where to go back to instead of `otherwise`: to the pinned generation, if there is one and nothing forbids it; why it is
/// passed over if something does.
pub(super) fn aim(draft: &Draft<'_>, id: &ComponentId, otherwise: u32, from: Option<u32>) -> (u32, Option<String>) {
    let pinned = draft.record(id).and_then(|record| Some((record, record.generations.get(&record.pin()?)?)));
    let Some((record, pinned)) = pinned.filter(|(_, pinned)| pinned.number != otherwise) else {
        return (otherwise, None);
    };
    let number = pinned.number;
    let why = if from == Some(number) {
        "it is what failed".to_owned()
    } else {
        match may_return(draft, record, pinned) {
            Ok(()) => return (number, None),
            Err(why) => why,
        }
    };
    (otherwise, Some(format!("generation {number} is pinned, but is not gone back to: {why}; {otherwise} is instead")))
}

/// Whether a generation that nobody named may be gone back to and could be right now; the reason if not.
pub(super) fn may_return(draft: &Draft<'_>, record: &Record, generation: &Generation) -> Result<(), String> {
    if !generation.standing.is_known_good() {
        return Err(format!("it is {}", generation.standing.word()));
    }
    if other_data(record, generation) {
        return Err(OTHER_DATA.to_owned());
    }
    data_allow(draft, record, generation, Wish::Ours).map_err(|barred| barred.to_string())?;
    generations::ready_to_return(draft, generation)
}

/// Q1, as a sentence.
const OTHER_DATA: &str = "going back would change which data is served";

/// Q1: which data is served is never changed by a rollback of ours.
fn other_data(record: &Record, generation: &Generation) -> bool {
    let served = record.last_served.and_then(|number| record.generations.get(&number));
    served.is_some_and(|served| served.data != generation.data)
}

/// Which generation to go back to.
fn target(draft: &Draft<'_>, id: &ComponentId, begin: &Begin) -> Result<u32, (String, String, Until)> {
    let none = |why: &str, next: String| Err((why.to_owned(), next, Until::Person));
    let Some(record) = draft.record(id) else { return none("it is not known", "nothing".to_owned()) };
    let Some(wanted) = record.generations.get(&begin.to) else {
        return none("nothing proven is left to go back to", "put a good manifest in place".to_owned());
    };
    if begin.wish == Wish::Ours && other_data(record, wanted) {
        let next =
            format!("if generation {}'s data is the right one: `lastgood rollback {id} --to {}`", begin.to, begin.to);
        return none(OTHER_DATA, next);
    }
    // R9: an older etcd over data that a newer one has moved on.
    if let Err(barred) = data_allow(draft, record, wanted, begin.wish) {
        return none(&barred.why, barred.next_step);
    }
    let mut candidates: Vec<&Generation> = vec![wanted];
    if begin.wish == Wish::Ours {
        let others = record.known_good().filter(|g| g.number != begin.to && Some(g.number) != begin.from);
        let same = others.filter(|g| g.minor == wanted.minor && !other_data(record, g));
        candidates.extend(same.filter(|g| data_allow(draft, record, g, begin.wish).is_ok()));
    }
    // Where no pod stands in the file there is nothing to lose, and no image to wait for.
    if begin.in_place && wanted.stored == Stored::Yes {
        return Ok(wanted.number);
    }
    match candidates.iter().find(|generation| generations::ready_to_return(draft, generation).is_ok()) {
        Some(generation) => Ok(generation.number),
        None => {
            let why = generations::ready_to_return(draft, wanted).err().unwrap_or_default();
            let images: Vec<String> = wanted.images.iter().cloned().collect();
            let next = format!("bring it (`crictl pull {}`); the rollback follows by itself", images.join(" "));
            Err((format!("generation {} cannot be put back: {why}", begin.to), next, Until::Images(images)))
        }
    }
}

/// Whether an etcd's generation may be put over the data as they were seen in this pass (Q2, R9); every other may.
pub(super) fn data_allow(draft: &Draft<'_>, record: &Record, target: &Generation, wish: Wish) -> Result<(), Barred> {
    own_data(draft, record, target, wish)?;
    versions::may_return(record, target, &data_of(draft, target))
}

/// Q2: no step of ours starts etcd on an empty, unmounted or foreign directory: on an empty one it would begin a cluster of
/// its own, as kubeadm's flags have it. A person says when other data are the right ones. Only the inode of `member` is
/// compared: the number of its device may be another one after a boot.
fn own_data(draft: &Draft<'_>, record: &Record, target: &Generation, wish: Wish) -> Result<(), Barred> {
    let Some(DataIdentity::Etcd { data_dir, .. }) = &target.data else { return Ok(()) };
    let Some(stands) = draft.scene.seen.node.data_dirs.get(data_dir) else { return Ok(()) };
    let served = record.data_dir.as_ref().filter(|(path, _)| path == data_dir).and_then(|(_, kept)| kept.member);
    let inode = |member: Option<(u64, u64)>| member.map(|(_, inode)| inode);
    let what = match (inode(served), inode(stands.member)) {
        (_, None) => "holds no data of etcd",
        (Some(served), Some(stands)) if served != stands && wish == Wish::Ours => {
            "does not hold the data that etcd served here"
        }
        (None | Some(_), Some(_)) => return Ok(()),
    };
    Err(Barred {
        why: format!("{} {what}: its disk may not be mounted, or somebody restored it", data_dir.display()),
        next_step: if stands.member.is_some() {
            format!("see what lies in {}; if it is right, `lastgood rollback` of it", data_dir.display())
        } else {
            format!("see what lies in {}; if it is right, put the manifest in by hand", data_dir.display())
        },
    })
}

/// The data that a generation serves, as they were seen in this pass.
fn data_of(draft: &Draft<'_>, target: &Generation) -> DataVersion {
    let Some(DataIdentity::Etcd { data_dir, .. }) = &target.data else { return DataVersion::unnamed() };
    let seen = draft.scene.seen.node.data_dirs.get(data_dir).map(|seen| seen.versions.clone());
    seen.unwrap_or_else(|| DataVersion::Unknown { why: format!("{} was not seen", data_dir.display()) })
}

/// Why going back would change nothing: the only difference is in files that are not ours to put back (Q4).
fn beyond_us(draft: &Draft<'_>, id: &ComponentId, begin: &Begin, target: u32) -> Option<String> {
    let record = draft.record(id)?;
    let (from, to) = (record.generations.get(&begin.from?)?, record.generations.get(&target)?);
    if from.pod_digest != to.pod_digest {
        return None;
    }
    let mut refused = None;
    for (path, restorable) in standing::files_to_restore(draft.scene.seen, to) {
        match restorable {
            Restorable::Yes => return None,
            Restorable::No(why) => refused = Some(format!("{} cannot be put back: {why}", path.display())),
            Restorable::Stands => {}
        }
    }
    refused
}

/// How it is to be done.
fn way(draft: &Draft<'_>, id: &ComponentId, begin: &Begin, target: u32) -> Way {
    let serving = draft.assessment(id).is_some_and(|assessment| assessment.serving);
    if begin.in_place || draft.scene.seen.kubelet.process.is_none() {
        return Way::InPlace;
    }
    if !begin.intruders.is_empty() {
        return Way::TwoSteps;
    }
    if !kubelet_hears(draft) {
        return Way::Restart;
    }
    // Which etcd may open the data is only certain when the other one writes them no longer (Q15).
    let followed = draft.record(id).and_then(|record| Some((record, record.generations.get(&target)?)));
    let looks_again = followed.is_some_and(|(record, target)| versions::follows_another(record, target));
    if serving && !looks_again { Way::InPlace } else { Way::TwoSteps }
}

fn parks(draft: &Draft<'_>, id: &ComponentId) -> bool {
    parking::whom(draft, id).is_some() || wrong_data::api_leaves(draft) == Some(true)
}

/// Whether the kubelet has heard from an API server since its start. One that has not deletes no pod, so that a changed
/// one waits for ever; one of which nothing is known is taken to be such a one while no API server serves.
pub(super) fn kubelet_hears(draft: &Draft<'_>) -> bool {
    let Some(process) = &draft.scene.seen.kubelet.process else { return false };
    let boot = &draft.scene.seen.node.boot_id;
    let served = draft.memory.api_served.as_ref().filter(|served| served.boot_id == *boot);
    process.heard_api == HeardApi::Yes || served.is_some_and(|served| served.at >= process.started + HEARD_AFTER)
}

/// One pass of a rollback.
pub(super) fn advance(draft: &mut Draft<'_>, id: &ComponentId, mut r: Rollback, standing: Standing) {
    if r.stage <= Stage::TakingOut && steady::held(draft.hold.as_ref(), r.wish).is_some() {
        return;
    }
    let Some(to) = draft.record(id).and_then(|record| record.generations.get(&r.to)).cloned() else {
        let next = "put a good manifest in place by hand".to_owned();
        return draft.hold_back(id, r.from, format!("generation {} is gone", r.to), next, Until::Person);
    };
    if let Some(barred) = barred(draft, id, &r, &to, &standing) {
        return turn_back(draft, id, r, &standing, barred);
    }
    if let Some(number) = intervened(draft, id, &r, &to, &standing) {
        let Standing::Here(file) = standing else { return };
        let back = Slot::Steady { good: fallback(draft, id, &r) };
        draft.enter(id, back, &format!("generation {number} was put in place by somebody else"));
        return steady::here(draft, id, &file);
    }
    if let Standing::Broken(file, fault) = &standing
        && undecoded::is_anothers(draft, id, &r, file, fault)
    {
        let back = Slot::Steady { good: fallback(draft, id, &r) };
        draft.enter(id, back, &format!("{}, which lastgood cannot read, was put in place by somebody else", file.name));
        return undecoded::step(draft, id, file, fault);
    }
    let explained = draft.assessment(id).is_some_and(|a| a.cause.is_some() || a.verdict == Verdict::Unknown);
    if r.stage < Stage::AwaitingServing || !explained {
        r.in_stage += draft.credit();
    }
    if matches!(r.stage, Stage::AwaitingGone | Stage::Settling | Stage::Vacant) && filled(&r, &to, &standing) {
        go(&mut r, Stage::AwaitingServing);
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
                let due = r.in_stage >= policy.after_gone + policy.gone_margin;
                if due || !runs(draft, id) && r.in_stage >= policy.after_gone {
                    let next = if r.vacated.is_some() { Stage::Vacant } else { Stage::PuttingIn };
                    go(&mut r, next);
                }
            }
            Stage::Vacant => vacancy::look(draft, id, &mut r),
            Stage::PuttingIn => put_in(draft, id, &mut r, &to),
            Stage::StoppingOld => stop_old(draft, id, &mut r),
            Stage::Nudging => nudge(draft, id, &mut r, &to, &standing),
            Stage::AwaitingServing => return await_serving(draft, id, r, &to, &standing),
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
        && matches!(record.slot, Slot::RollingBack(_))
    {
        record.slot = Slot::RollingBack(r);
    }
}

/// Whether the emptied slot holds the good file already: whoever came after an interrupted run filled it from staging
/// (Q11), and that writes no memory. Where intruders were moved out, the good file may have stood beside them all along.
fn filled(r: &Rollback, to: &Generation, standing: &Standing) -> bool {
    let Standing::Here(file) = standing else { return false };
    let good = file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest);
    good && file.name == to.file_name && r.intruders.is_empty()
}

/// Why what is to be put back must not be after all: the data were moved on since it was decided (R9). Once it stands, it
/// is too late to ask; and data that cannot be read at this moment are asked again by act, before the deed.
fn barred(draft: &Draft<'_>, id: &ComponentId, r: &Rollback, to: &Generation, standing: &Standing) -> Option<Barred> {
    let stands = match standing {
        Standing::Here(file) => file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest),
        // Nothing is decided about a file that is being written.
        Standing::Unsettled => true,
        Standing::Claimed { .. } | Standing::Broken(..) | Standing::Absent(_) => false,
    };
    let record = draft.record(id).filter(|_| !stands)?;
    let data = data_of(draft, to);
    // What was wanted in and does not stand, while a pod of it does, was refused by act.
    let refused = r.stage == Stage::AwaitingServing && matches!(standing, Standing::Here(_));
    versions::may_return(record, to, &data).err().filter(|_| refused || !data.is_unknown())
}

/// Gives a rollback up. Where its slot was emptied already, what stood there comes back first: a slot is never left empty.
fn turn_back(draft: &mut Draft<'_>, id: &ComponentId, r: Rollback, standing: &Standing, barred: Barred) {
    let stood = r.from.and_then(|from| draft.record(id)?.generations.get(&from)).cloned();
    if let (Standing::Absent(_), Some(stood)) = (standing, stood.filter(|stood| stood.stored == Stored::Yes)) {
        return want_in(draft, id, &stood);
    }
    let why = format!("{}; {}", r.why, barred.why);
    // What was to be put back is known-good all the same; it only may not open these data.
    draft.enter(id, Slot::Steady { good: fallback(draft, id, &r) }, &barred.why);
    draft.hold_back(id, r.from, why, barred.next_step, Until::Person);
}

pub(super) fn go(r: &mut Rollback, stage: Stage) {
    r.stage = stage;
    r.in_stage = Duration::ZERO;
}

/// A file that is neither what failed nor what is put back: a person was here, and their file is a candidate like any
/// other (Never 6).
fn intervened(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    r: &Rollback,
    to: &Generation,
    standing: &Standing,
) -> Option<u32> {
    let Standing::Here(file) = standing else { return None };
    if r.intruders.contains(&file.name) {
        return None;
    }
    let pod = file.content.as_ref().ok()?.digest;
    if pod == to.pod_digest {
        return None;
    }
    let number = generations::register(draft, id, file)?;
    // What failed still stands, or stands again, until it has been taken out.
    (Some(number) != r.from || r.stage > Stage::PuttingIn && r.stage != Stage::StoppingOld).then_some(number)
}

/// The known-good generation to fall back to.
fn fallback(draft: &Draft<'_>, id: &ComponentId, r: &Rollback) -> u32 {
    let record = draft.record(id);
    let good = record.and_then(|record| {
        let to = record.generations.get(&r.to).filter(|g| g.standing.is_known_good());
        to.or_else(|| record.known_good().next()).map(|g| g.number)
    });
    good.unwrap_or(r.to)
}

fn park(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback) {
    let next = if r.way == Way::InPlace { Stage::PuttingIn } else { Stage::TakingOut };
    match parking::park(draft, id, r.in_stage) {
        Parking::Done => go(r, next),
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
        return go(r, Stage::AwaitingGone);
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
        return go(r, Stage::Settling);
    }
    if r.vacated.is_some() {
        return vacancy::await_gone(draft, id, r, to);
    }
    if r.in_stage >= to.termination_grace + draft.scene.policy.gone_margin {
        // It should have gone. The good file is written anyway: an empty slot helps nobody.
        return go(r, Stage::PuttingIn);
    }
    let etcd = draft.record(id).is_some_and(|record| record.role == Role::Etcd);
    if r.in_stage >= draft.scene.policy.hasten_after && !etcd && r.wish == Wish::Ours {
        hasten(draft, id);
    }
}

/// Stops the containers of a pod that is taken out and serves nobody: its own grace helps nobody either.
pub(super) fn hasten(draft: &mut Draft<'_>, id: &ComponentId) {
    let running: Vec<String> = runs_of(draft, id)
        .flat_map(|run| &run.containers)
        .filter(|container| matches!(container.state, ContainerState::Running { .. }))
        .map(|container| container.id.clone())
        .collect();
    for container in running {
        draft.want(Step::StopContainer { component: id.clone(), container, grace: HASTENED_GRACE });
    }
}

fn put_in(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation) {
    want_in(draft, id, to);
    go(r, if r.way == Way::Restart { Stage::StoppingOld } else { Stage::AwaitingServing });
}

/// The files first: a pod that starts before them would read the wrong ones.
fn want_in(draft: &mut Draft<'_>, id: &ComponentId, to: &Generation) {
    let files = generations::restore_files(draft, id, to);
    draft.plan.extend(files);
    draft.want(Step::PutIn { component: id.clone(), number: to.number, file_name: to.file_name.clone() });
}

fn stop_old(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback) {
    let old: Vec<String> = ready_sandboxes(draft, id).collect();
    if old.is_empty() || r.in_stage >= draft.scene.policy.gone_margin {
        return go(r, Stage::Nudging);
    }
    for sandbox in old {
        draft.want(Step::StopSandbox { component: id.clone(), sandbox });
    }
}

/// A kubelet that was restarted since the good file was put in has read it. One that was restarted shortly before is given
/// its time first, and may start the pod by itself meanwhile.
fn nudge(draft: &mut Draft<'_>, id: &ComponentId, r: &mut Rollback, to: &Generation, standing: &Standing) {
    let since = match standing {
        Standing::Here(file) if file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest) => file.changed,
        // It is wanted again where it is not there.
        _ => draft.scene.tick.now.wall,
    };
    let settles = services::kubelet_settles(draft);
    let started = settles && runs_of(draft, id).any(|run| run.created >= since);
    let done = kubelet_started_since(draft, since) || started;
    if settles && !done {
        return;
    }
    r.nudged = Nudged::Yes;
    if done {
        return go(r, Stage::AwaitingServing);
    }
    if may_restart_kubelet(draft) {
        restart_kubelet(draft, id, "it does not start the pod that was put back");
    } else {
        let text = format!(
            "the kubelet does not start what was put back, and must not be restarted by us now: `{}` does it",
            draft.scene.policy.kubelet_restart.join(" ")
        );
        draft.notice(id, "deaf-kubelet", text);
    }
    go(r, Stage::AwaitingServing);
}

/// Whether the kubelet's process started after that.
fn kubelet_started_since(draft: &Draft<'_>, since: Timestamp) -> bool {
    let now = draft.scene.tick.now;
    let process = draft.scene.seen.kubelet.process.as_ref();
    let started = process.and_then(|process| now.wall.checked_sub(now.boot.saturating_sub(process.started)).ok());
    started.is_some_and(|started| started > since)
}

/// How long a kubelet may take to start what stands before it is taken to be deaf. One that has heard from an API server
/// gets longer: a freshly started one hears of it up to a minute after it came back.
pub(super) fn patience(draft: &Draft<'_>) -> Duration {
    let appear = draft.scene.policy.appear;
    if kubelet_hears(draft) { appear * 2 } else { appear }
}

/// Whether the kubelet has made a sandbox since what stands came to stand: then it is not deaf, whatever its container
/// waits for (an image on its way, say).
pub(super) fn has_reacted(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let since = draft.record(id).and_then(|record| record.stands.as_ref()).map(|stands| stands.changed);
    since.is_some_and(|since| runs_of(draft, id).any(|run| run.created >= since))
}

/// Whether the kubelet may be restarted: within its budget, not before its last restart took effect, and only if the restart
/// brings nothing new in (Q15).
pub(super) fn may_restart_kubelet(draft: &Draft<'_>) -> bool {
    let unchanged = draft.scene.seen.kubelet.process.as_ref().is_none_or(|process| process.changed_since.is_none());
    unchanged
        && !services::kubelet_settles(draft)
        && draft.memory.kubelet_restarts.len() < draft.scene.policy.kubelet_restarts_per_hour
}

/// Has the kubelet restarted; who asks has seen that it may be.
pub(super) fn restart_kubelet(draft: &mut Draft<'_>, id: &ComponentId, why: &str) {
    draft.memory.kubelet_restarts.push_back(Duration::ZERO);
    draft.tell(id, EventKind::Notice, None, "the kubelet is restarted", why);
    draft.want(Step::RestartKubelet);
}

fn await_serving(draft: &mut Draft<'_>, id: &ComponentId, mut r: Rollback, to: &Generation, standing: &Standing) {
    let policy = draft.scene.policy;
    let good_stands = match standing {
        Standing::Here(file) => {
            generations::register(draft, id, file);
            if file.content.as_ref().is_ok_and(|pod| pod.digest == to.pod_digest) {
                r.stood = Stood::Yes;
            }
            true
        }
        Standing::Unsettled => true,
        Standing::Claimed { .. } | Standing::Broken(..) | Standing::Absent(_) => false,
    };
    if !good_stands {
        // It stood, and somebody broke it, took it away or put another beside it: that is a deed of its own, and meets the
        // budget, the hold and the grace that it would meet at any other time.
        if r.stood == Stood::Yes {
            let because = format!("what was put back ({}) was changed by somebody else before it served", r.why);
            draft.enter(id, Slot::Steady { good: fallback(draft, id, &r) }, &because);
            return steady::step(draft, id);
        }
        // A failed write is wanted again.
        if let Standing::Claimed { intruders, .. } = standing {
            r.intruders = intruders.iter().map(|file| file.name.clone()).collect();
            for file_name in r.intruders.clone() {
                draft.want(Step::MoveOut { component: id.clone(), file_name });
            }
        } else {
            want_in(draft, id, to);
        }
    }
    let Some(assessment) = draft.assessment(id) else { return };
    if assessment.cause.is_none() {
        r.crashes += assessment.crash.as_ref().map_or(0, Crash::own);
    }
    // Where only files were put back under a process that served all along, nothing starts anew to read them: waiting for
    // that would end in stopping what serves (Q8).
    let failed = r.from.and_then(|from| draft.record(id)?.generations.get(&from));
    let only_files = r.way == Way::InPlace && failed.is_some_and(|failed| failed.pod_digest == to.pod_digest);
    let reads = only_files || matches!(assessment.reads, Reads::All | Reads::CannotTell { .. });
    if good_stands && assessment.serving && reads && serves_its_data(draft, id, &r) {
        return finish(draft, id, &r);
    }
    if good_stands && assessment.serving && wrong_data::hold_replaced(draft, id, &r) {
        return;
    }
    let deadline = policy.deadline_of(Some(to));
    if r.crashes >= policy.crashes || r.in_stage >= deadline {
        let evidence = assessment.evidence.join("; ");
        let why = format!("generation {} was put back ({}) and does not serve either: {evidence}", r.to, r.why);
        let next = format!("`lastgood explain {id}`; earlier generations: `lastgood history {id}`");
        return draft.hold_back(id, Some(r.to), why, next, Until::Person);
    }
    let unstarted = matches!(assessment.reads, Reads::Nothing | Reads::Other { .. }) && assessment.crash.is_none();
    if unstarted && r.in_stage >= patience(draft) && r.nudged == Nudged::NotYet && !has_reacted(draft, id) {
        go(&mut r, Stage::StoppingOld);
    }
    if let Some(record) = draft.record_mut(id) {
        record.slot = Slot::RollingBack(r);
    }
}

/// For how long a replacement of etcd waits for its word on which data it serves.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// Whether what was put back serves the data on record, as far as it has said so.
fn serves_its_data(draft: &mut Draft<'_>, id: &ComponentId, r: &Rollback) -> bool {
    match draft.trust(id) {
        Trust::OnRecord => true,
        Trust::NotTold => r.in_stage >= SAYS_WITHIN,
        Trust::Others => false,
    }
}

/// The good pod serves.
fn finish(draft: &mut Draft<'_>, id: &ComponentId, r: &Rollback) {
    draft.clear_notice(id, "deaf-kubelet");
    if draft.record(id).is_some_and(|record| record.pin() == Some(r.to)) {
        draft.clear_notice(id, "pin");
    }
    let because = match r.vacated {
        Some(_) => format!("generation {} serves again; it was away for a while: {}", r.to, r.why),
        None => format!("generation {} serves again; it was put back because {}", r.to, r.why),
    };
    let known_good =
        draft.record(id).and_then(|rec| rec.generations.get(&r.to)).is_some_and(|g| g.standing.is_known_good());
    let slot = if known_good {
        Slot::Steady { good: r.to }
    } else {
        Slot::Probation(Probation::begin(r.to, fallback(draft, id, r)))
    };
    draft.enter(id, slot, &because);
    change_set::serves_again(draft, id, r.to);
}

/// The sandboxes of a component.
pub(super) fn runs_of<'a>(
    draft: &Draft<'a>,
    id: &ComponentId,
) -> impl Iterator<Item = &'a crate::model::observation::PodRun> + use<'a> {
    let id = id.clone();
    draft.scene.seen.runtime.iter().flatten().filter(move |run| run.component == id)
}

/// The ready sandboxes of a component.
pub(super) fn ready_sandboxes<'a>(draft: &Draft<'a>, id: &ComponentId) -> impl Iterator<Item = String> + use<'a> {
    runs_of(draft, id).filter(|run| run.ready == SandboxState::Ready).map(|run| run.sandbox.clone())
}

/// Whether anything of a component still runs. A runtime that cannot be asked may well run it.
pub(super) fn runs(draft: &Draft<'_>, id: &ComponentId) -> bool {
    let alive = |state: &ContainerState| matches!(state, ContainerState::Running { .. } | ContainerState::Unknown);
    draft.scene.seen.runtime.is_err()
        || runs_of(draft, id).any(|run| {
            run.ready == SandboxState::Ready || run.containers.iter().any(|container| alive(&container.state))
        })
}

/// Whether an API server's generation reads from an etcd that listens on these ports of this node.
pub(super) fn reads_from(data: Option<&DataIdentity>, ports: &std::collections::BTreeSet<u16>) -> bool {
    let Some(DataIdentity::ApiServer { servers, .. }) = data else { return false };
    servers.iter().filter_map(|url| url.rsplit_once(':')?.1.parse().ok()).any(|port| ports.contains(&port))
}
