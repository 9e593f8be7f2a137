//! The request to keep etcd's manifest out while its data are restored (suspension.rs carries it out).

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::Draft;
use super::{begin, inhibitors, lookup, stop_apiserver, suspension};
use crate::model::component_state::{Purpose, Replacement, Stage};
use crate::model::generation::Stored;
use crate::model::plan::Refusal;
use crate::model::{ComponentId, ComponentState, Role};

/// Grants or refuses it.
pub(super) fn ask(draft: &mut Draft<'_>, id: &ComponentId, longest: Duration, why: &str) -> Result<(), Refusal> {
    let record = lookup::known(draft, id)?;
    let state = record.state.to_string();
    let not_now = |why: &str| Err(Refusal::NotNow { component: id.clone(), state, why: why.to_owned() });
    if record.role != Role::Etcd {
        return not_now(
            "lastgood takes out only etcd's manifest for a while; `lastgood pause`, and move this one by \
                        hand",
        );
    }
    if let Some(hold) = inhibitors::of(draft).filter(|hold| !hold.yields_to_operator()) {
        return Err(Refusal::NotActing { why: hold.to_string() });
    }
    if matches!(record.state, ComponentState::Replacing(_)) {
        return not_now("it is being replaced; try again when this is done");
    }
    let standing = DiskState::of(draft.scene.seen, id, record);
    let number = lookup::stands(record, &standing);
    let kept = number.and_then(|number| record.generations.get(&number)).filter(|kept| kept.stored == Stored::Yes);
    let Some(to) = kept.map(|kept| kept.number) else {
        return not_now(
            "its deployed manifest is not one complete manifest that is stored, so it could not be put back; run `lastgood rollback`, or move it out by hand",
        );
    };
    if suspension::restores(draft).is_none() {
        return not_now("no restore of its data is running: `lastgood etcd restore` requests this itself");
    }
    let stage = if stop_apiserver::api_of(draft, id).is_some() { Stage::StoppingApiServer } else { Stage::TakingOut };
    let suspension = Replacement { stage, ..Replacement::new(Purpose::Suspend { longest }, to, why) };
    begin::start(draft, id, suspension);
    Ok(())
}
