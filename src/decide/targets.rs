//! Which generation may be a rollback target (Q1, Q2, R9).

use super::draft::Draft;
use super::generations;
use crate::model::component_state::{Initiator, Replacement};
use crate::model::etcd_guard::{self, Barred};
use crate::model::generation::Generation;
use crate::model::manifest::DataIdentity;
use crate::model::memory::Record;
use crate::model::{ComponentId, DataVersion};

/// Where to roll back to instead of `otherwise`: to the pinned generation, if there is one and nothing forbids it; why
/// it is passed over if something does.
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
    (
        otherwise,
        Some(format!("generation {number} is pinned, but is no rollback target: {why}; {otherwise} is used instead")),
    )
}

/// Whether a generation that nobody named may be rolled back to and could be right now; the reason if not.
pub(super) fn may_return(draft: &Draft<'_>, record: &Record, generation: &Generation) -> Result<(), String> {
    if !generation.trust.is_known_good() {
        return Err(format!("it is {}", generation.trust.word()));
    }
    if other_data(record, generation) {
        return Err(OTHER_DATA.to_owned());
    }
    data_allow(draft, record, generation, Initiator::Agent).map_err(|barred| barred.to_string())?;
    generations::ready_to_return(draft, generation)
}

/// Q1, as a sentence.
pub(super) const OTHER_DATA: &str = "a rollback would change which data is served";

/// Q1: which data is served is never changed by a rollback of ours.
pub(super) fn other_data(record: &Record, generation: &Generation) -> bool {
    let served = record.last_served.and_then(|number| record.generations.get(&number));
    served.is_some_and(|served| served.data != generation.data)
}

/// Whether an etcd's generation may be put over the data as they were seen in this pass (Q2, R9); every other may.
pub(super) fn data_allow(
    draft: &Draft<'_>,
    record: &Record,
    target: &Generation,
    initiator: Initiator,
) -> Result<(), Barred> {
    own_data(draft, record, target, initiator)?;
    etcd_guard::may_return(record, target, &data_of(draft, target))
}

/// Q2: no step of ours starts etcd on an empty, unmounted or foreign directory: on an empty one it would begin its own
/// cluster, as kubeadm's flags have it. The operator says when other data are the right ones. Only the inode of
/// `member` is compared: the number of its device may be another one after a boot.
pub(super) fn own_data(
    draft: &Draft<'_>,
    record: &Record,
    target: &Generation,
    initiator: Initiator,
) -> Result<(), Barred> {
    let Some(DataIdentity::Etcd { data_dir, .. }) = &target.data else { return Ok(()) };
    let Some(stands) = draft.scene.seen.node.data_dirs.get(data_dir) else { return Ok(()) };
    let served = record.data_dir.as_ref().filter(|(path, _)| path == data_dir).and_then(|(_, kept)| kept.member);
    let inode = |member: Option<(u64, u64)>| member.map(|(_, inode)| inode);
    let what = match (inode(served), inode(stands.member)) {
        (_, None) => "holds no data of etcd",
        (Some(served), Some(stands)) if served != stands && initiator == Initiator::Agent => {
            "does not hold the data that etcd served here"
        }
        (None | Some(_), Some(_)) => return Ok(()),
    };
    Err(Barred {
        why: format!("{} {what}: its disk may not be mounted, or somebody restored the data", data_dir.display()),
        next_step: if stands.member.is_some() {
            format!("look at {}; if it is right, `lastgood rollback`", data_dir.display())
        } else {
            format!("look at {}; if it is right, deploy the manifest by hand", data_dir.display())
        },
    })
}

/// The data that a generation serves, as they were seen in this pass.
pub(super) fn data_of(draft: &Draft<'_>, target: &Generation) -> DataVersion {
    let Some(DataIdentity::Etcd { data_dir, .. }) = &target.data else { return DataVersion::unnamed() };
    let seen = draft.scene.seen.node.data_dirs.get(data_dir).map(|seen| seen.versions.clone());
    seen.unwrap_or_else(|| DataVersion::Unknown { why: format!("{} was not seen", data_dir.display()) })
}

/// The known-good generation to fall back to.
pub(super) fn fallback(draft: &Draft<'_>, id: &ComponentId, r: &Replacement) -> u32 {
    let record = draft.record(id);
    let good = record.and_then(|record| {
        let to = record.generations.get(&r.to).filter(|g| g.trust.is_known_good());
        to.or_else(|| record.known_good().next()).map(|g| g.number)
    });
    good.unwrap_or(r.to)
}
