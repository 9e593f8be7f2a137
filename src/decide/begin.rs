//! Begins a replacement: whether it may begin, by which generation, and by which method.

use super::disk_state::{self, Restorable};
use super::draft::Draft;
use super::kubelet::kubelet_hears;
use super::stop_apiserver;
use super::targets::{OTHER_DATA, aim, data_allow, other_data};
use super::{change_set, generations, inhibitors, withheld};
use crate::model::component_state::{Initiator, Method, Purpose, Replacement, Stage, Until};
use crate::model::etcd_guard;
use crate::model::generation::{Generation, Stored};
use crate::model::notice::Notice;
use crate::model::{ComponentId, ComponentState};

/// What a replacement is begun with.
pub(super) struct Begin {
    pub(super) purpose: Purpose,
    /// Where to go, if that one is ready; another known-good one otherwise.
    pub(super) to: u32,
    pub(super) why: String,
    /// Whether a mere write is enough: nothing runs that would have to go first.
    pub(super) in_place: bool,
}

impl Begin {
    /// A roll back of a deployed generation that the agent decided on.
    pub(super) fn roll_back(from: u32, to: u32, why: String) -> Self {
        Self { purpose: Purpose::roll_back(Some(from)), to, why, in_place: false }
    }

    /// The deployed generation that failed, if there is one.
    fn from(&self) -> Option<u32> {
        match self.purpose {
            Purpose::RollBack { from, .. } => from,
            Purpose::MoveOutDuplicates { .. } | Purpose::RestoreMissing | Purpose::Suspend { .. } => None,
        }
    }

    fn is_by_agent(&self) -> bool {
        self.purpose.initiator() == Initiator::Agent
    }
}

/// Begins a replacement, or says why not. True if it has begun.
pub(super) fn begin(draft: &mut Draft<'_>, id: &ComponentId, begin: Begin) -> bool {
    let begin = aimed(draft, id, begin);
    if let Some(hold) = inhibitors::held(draft.hold.as_ref(), begin.purpose.initiator()) {
        let text = format!("would roll back to generation {}, because {}; inhibited: {hold}", begin.to, begin.why);
        if draft.record(id).is_some_and(|record| !record.notices.contains_key(&Notice::WouldAct)) {
            draft.notice(id, Notice::WouldAct, text);
        }
        return false;
    }
    draft.clear_notice(id, Notice::WouldAct);
    let target = match target(draft, id, &begin) {
        Ok(target) => target,
        Err((why, next, until)) => {
            draft.hold_back(id, begin.from(), format!("{}; {why}", begin.why), next, until);
            return false;
        }
    };
    if let Some(why) = beyond_us(draft, id, &begin, target) {
        let next = format!("fix it by hand, then `lastgood resume {id}`");
        draft.hold_back(id, begin.from(), format!("{}; {why}", begin.why), next, Until::Person);
        return false;
    }
    if begin.is_by_agent() && !draft.spend(id) {
        let limit = draft.scene.policy.actions_per_hour;
        let why = format!("{}; the limit of {limit} actions per hour is reached", begin.why);
        let next = format!("see `lastgood explain {id}`, fix the cause, then `lastgood resume {id}`");
        draft.hold_back(id, begin.from(), why, next, Until::Person);
        return false;
    }
    let method = method(draft, id, &begin, target);
    let stage = match method {
        Method::RemoveThenAdd if stops_apiserver(draft, id) => Stage::StoppingApiServer,
        Method::RemoveThenAdd => Stage::TakingOut,
        Method::Rename if stops_apiserver(draft, id) && !begin.in_place => Stage::StoppingApiServer,
        Method::Rename | Method::RenameAndRestartKubelet => Stage::PuttingIn,
    };
    start(draft, id, Replacement { method, stage, ..Replacement::new(begin.purpose, target, begin.why) });
    true
}

/// Enters it. The loop of this pass takes its first step.
pub(super) fn start(draft: &mut Draft<'_>, id: &ComponentId, replacement: Replacement) {
    let why = replacement.why.clone();
    change_set::begun(draft, id, &replacement.purpose);
    draft.enter(id, ComponentState::Replacing(replacement), &why);
    draft.begun.insert(id.clone());
    // The first step belongs to this very pass: a broken file has seconds until the kubelet's next scan.
    draft.started.push(id.clone());
}

/// The agent's own replacements go to the pinned generation. The operator has named theirs, and where duplicates are moved
/// out it is what was deployed next to them that stays.
pub(super) fn aimed(draft: &mut Draft<'_>, id: &ComponentId, begin: Begin) -> Begin {
    if !begin.is_by_agent() || matches!(begin.purpose, Purpose::MoveOutDuplicates { .. }) {
        return begin;
    }
    let (to, passed_over) = aim(draft, id, begin.to, begin.from());
    draft.notice_if(id, Notice::PinPassedOver, passed_over);
    Begin { to, ..begin }
}

/// Which generation to roll back to.
pub(super) fn target(draft: &Draft<'_>, id: &ComponentId, begin: &Begin) -> Result<u32, (String, String, Until)> {
    let none = |why: &str, next: String| Err((why.to_owned(), next, Until::Person));
    let Some(record) = draft.record(id) else { return none("it is not known", "nothing".to_owned()) };
    let Some(wanted) = record.generations.get(&begin.to) else {
        return none("no known-good generation is left to roll back to", "put a good manifest in place".to_owned());
    };
    if begin.is_by_agent() && other_data(record, wanted) {
        let next =
            format!("if generation {}'s data is the right one: `lastgood rollback {id} --to {}`", begin.to, begin.to);
        return none(OTHER_DATA, next);
    }
    // R9: an older etcd over data that a newer one has moved on.
    if let Err(barred) = data_allow(draft, record, wanted, begin.purpose.initiator()) {
        return none(&barred.why, barred.next_step);
    }
    let mut candidates: Vec<&Generation> = vec![wanted];
    if begin.is_by_agent() {
        let others = record.known_good().filter(|g| g.number != begin.to && Some(g.number) != begin.from());
        let same = others.filter(|g| g.minor == wanted.minor && !other_data(record, g));
        candidates.extend(same.filter(|g| data_allow(draft, record, g, begin.purpose.initiator()).is_ok()));
    }
    // If there is no pod in the file there is nothing to lose, and no image to wait for.
    if begin.in_place && wanted.stored == Stored::Yes {
        return Ok(wanted.number);
    }
    match candidates.iter().find(|generation| generations::ready_to_return(draft, generation).is_ok()) {
        Some(generation) => Ok(generation.number),
        None => {
            let why = generations::ready_to_return(draft, wanted).err().unwrap_or_default();
            let images: Vec<String> = wanted.images.iter().cloned().collect();
            let next = format!("bring it (`crictl pull {}`); the rollback follows by itself", images.join(" "));
            Err((format!("generation {} cannot be deployed: {why}", begin.to), next, Until::Images(images)))
        }
    }
}

/// Why going back would change nothing: the only difference is in files that are not ours to put back (Q4).
pub(super) fn beyond_us(draft: &Draft<'_>, id: &ComponentId, begin: &Begin, target: u32) -> Option<String> {
    let record = draft.record(id)?;
    let (from, to) = (record.generations.get(&begin.from()?)?, record.generations.get(&target)?);
    if from.pod_digest != to.pod_digest {
        return None;
    }
    let mut refused = None;
    for (path, restorable) in disk_state::files_to_restore(draft.scene.seen, to) {
        match restorable {
            Restorable::Yes => return None,
            Restorable::No(why) => refused = Some(format!("{} cannot be put back: {why}", path.display())),
            Restorable::Unchanged => {}
        }
    }
    refused
}

/// How it is to be done.
pub(super) fn method(draft: &Draft<'_>, id: &ComponentId, begin: &Begin, target: u32) -> Method {
    let serving = draft.assessment(id).is_some_and(|assessment| assessment.serving);
    if begin.in_place || draft.scene.seen.kubelet.process.is_none() {
        return Method::Rename;
    }
    if matches!(begin.purpose, Purpose::MoveOutDuplicates { .. }) {
        return Method::RemoveThenAdd;
    }
    if !kubelet_hears(draft) {
        return Method::RenameAndRestartKubelet;
    }
    // Which etcd may open the data is only certain when the other one writes them no longer (Q15).
    let followed = draft.record(id).and_then(|record| Some((record, record.generations.get(&target)?)));
    let looks_again = followed.is_some_and(|(record, target)| etcd_guard::follows_another(record, target));
    if serving && !looks_again { Method::Rename } else { Method::RemoveThenAdd }
}

pub(super) fn stops_apiserver(draft: &Draft<'_>, id: &ComponentId) -> bool {
    stop_apiserver::api_of(draft, id).is_some() || withheld::api_leaves(draft) == Some(true)
}
