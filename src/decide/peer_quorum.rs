//! Whether the other masters serve while a component of this one is stopped (Q10).
//!
//! ```text
//!   a single master ──────────────────────────────────────────▶ there are no others: yes
//!   etcd        linearizable reads of the other voters, in ────▶ they are a quorum without this member,
//!               the round in which this member gave no answer     and no member of a lower ID waits for its turn
//!   API server  an address of a kubeconfig, elsewhere ─────────▶ it answers while this node's API server does not
//!   none of these ─────────────────────────────────────────────▶ no: reported, and left to the kubelet
//! ```
//!
//! An address elsewhere is proof of an API server: it is not this node's, and it answered a health probe after this
//! node's API server had stopped answering. Which of several stalled API servers is restarted first does not matter:
//! none of them serves clients, and one that serves was seen.

use super::draft::Draft;
use crate::model::environment::Location;
use crate::model::verdict::Assessment;
use crate::model::{ComponentId, Reading, Role};

/// Whether this one may be stopped for the others' sake.
///
/// # Errors
/// Why not, as a clause.
pub(super) fn suffice(draft: &Draft<'_>, id: &ComponentId, assessment: &Assessment) -> Result<(), String> {
    if !matches!(assessment.role, Role::Etcd | Role::ApiServer) {
        return Ok(());
    }
    match draft.memory.incarnations.values().map(|known| known.members).max().unwrap_or(0) {
        1 => Ok(()),
        0 => Err("it is unknown whether other masters exist".to_owned()),
        members => {
            let proven = match assessment.role {
                Role::Etcd => members_agree(draft, id),
                _ => another_api_server_answers(draft, assessment),
            };
            proven.map_err(|why| format!("etcd has {members} members, and {why}"))
        }
    }
}

fn members_agree(draft: &Draft<'_>, id: &ComponentId) -> Result<(), String> {
    let unknown = || "it is unknown whether the other masters suffice without it".to_owned();
    let known = draft.memory.incarnations.get(id).ok_or_else(unknown)?;
    // What they said while this one answered says nothing of the time without it.
    let status = draft.scene.seen.etcd.get(id).filter(|status| status.own.is_err()).ok_or_else(unknown)?;
    let others = status.without(known.member, known.cluster).ok_or_else(unknown)?;
    let name = |id: &u64| status.name_of(*id);
    if !others.suffices() {
        let ill: Vec<String> = others.ill.iter().map(name).collect();
        return Err(format!(
            "{} of the other members have a quorum of {} without it (not {})",
            others.well.len(),
            others.quorum,
            if ill.is_empty() { "any more".to_owned() } else { ill.join(", ") }
        ));
    }
    match others.ill.iter().find(|other| **other < known.member) {
        Some(first) => Err(format!("it is the turn of {} first", name(first))),
        None => Ok(()),
    }
}

fn another_api_server_answers(draft: &Draft<'_>, assessment: &Assessment) -> Result<(), String> {
    let since = draft.scene.tick.now.boot.saturating_sub(assessment.watched);
    let mut elsewhere = draft.scene.seen.node.endpoints.iter().filter(|endpoint| endpoint.place == Location::Elsewhere);
    match elsewhere.any(|endpoint| endpoint.reading == Reading::Good && endpoint.at >= since) {
        true => Ok(()),
        false => Err("no address of a kubeconfig shows that the API server of another master answers".to_owned()),
    }
}
