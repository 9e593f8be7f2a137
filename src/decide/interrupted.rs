//! Completes a kubeadm upgrade that was interrupted between its two renames: the power failed, or kubeadm was killed,
//! after it had moved the old manifest to its backup directory and before it moved the new one into place.
//!
//! ```text
//!   manifests/X ──1──▶ tmp/kubeadm-backup-manifests-DATE/X        tmp/kubeadm-upgraded-manifests…/X ──2──▶ manifests/X
//!                    ╰──────── here no manifest is deployed, no pod starts ────────╯
//! ```
//!
//! A manifest that the operator moved away stays away (Q3), so an absent manifest returns only if it was seen to be
//! deleted. This one was not moved by the operator: it is in the one directory into which only kubeadm moves manifests.
//! So it is the only other absent manifest that returns, after the same announced grace, if all of this holds:
//!
//! - the deployed generation was known-good: a candidate that kubeadm replaced has no evidence;
//! - the backup has exactly its bytes, and was moved there after this generation was deployed. A backup that an earlier
//!   upgrade left may contain what lastgood or the operator has deployed again since; such a backup is older than the
//!   deployment;
//! - kubeadm no longer runs (the inhibitor of Q6 stops the clock of the grace), the node is still a master (`kubeadm
//!   reset` deletes manifests and leaves no backup), and etcd's data are the ones it left, and not in use.
//!
//! That kubeadm was running when the power failed is no proof by itself: an interrupted reset has deleted the manifests
//! and not yet the PKI, and the manifests it deleted must not return.
//!
//! The old manifest returns, not the new one that is ready in kubeadm's directory: the operator may give this upgrade
//! up, and the next `kubeadm upgrade` needs a manifest to replace. The old one is no newer than its API server, in
//! whatever order the components are upgraded.

use std::time::Duration;

use super::draft::Draft;
use super::{Inhibitor, targets};
use crate::model::ComponentId;
use crate::model::notice::Notice;
use crate::model::observation::SetAside;

/// Where kubeadm keeps what was deployed of a component, if it was the known-good generation and nothing is deployed
/// now.
pub(super) fn set_aside<'a>(draft: &Draft<'a>, id: &ComponentId) -> Option<&'a SetAside> {
    let record = draft.record(id)?;
    let good = record.generations.get(&record.state.good()?)?;
    let stood = record.deployed.as_ref().filter(|stands| stands.digest == good.digest)?;
    let kept = draft.scene.seen.node.set_aside.get(&good.file_name)?;
    kept.iter().find(|kept| kept.digest == good.raw_digest && kept.changed >= stood.changed)
}

/// Says what will come of it; while kubeadm works nothing does, and it may still put the other one in.
pub(super) fn tell(draft: &mut Draft<'_>, id: &ComponentId, good: u32, grace: Duration) {
    let kept = set_aside(draft, id).filter(|_| !matches!(draft.hold, Some(Inhibitor::Kubeadm { .. })));
    let text = kept.map(|kept| {
        format!(
            "an upgrade ended after kubeadm had moved its manifest to {} and before it put another in place; lastgood \
             deploys generation {} again in {} s unless `lastgood pause` prevents it",
            kept.path.display(),
            targets::aim(draft, id, good, None).0,
            grace.as_secs()
        )
    });
    draft.notice_if(id, Notice::Interrupted, text);
}

/// It is no longer absent, or about to come back.
pub(super) fn over(draft: &mut Draft<'_>, id: &ComponentId) {
    draft.clear_notice(id, Notice::Interrupted);
}
