//! An upgrade that ended between its two renames: kubeadm had moved the old manifest to its backup directory and not yet
//! the new one into place when the power went, or when it was killed itself.
//!
//! ```text
//!   manifests/X ──1──▶ tmp/kubeadm-backup-manifests-DATE/X        tmp/kubeadm-upgraded-manifests…/X ──2──▶ manifests/X
//!                    ╰──────── here the slot is empty, and no pod starts ────────╯
//! ```
//!
//! What a person took away stays away (Q3), so a manifest that went comes back only where somebody deleted it in our sight.
//! This one was not taken away by a person: it is in the one place into which nobody but kubeadm moves manifests, and no
//! person is at its other end who would put something in its stead. So it is the one absent manifest besides a deleted one
//! that comes back, after the same announced grace, if all of this holds:
//!
//! - what stood last was known-good: a candidate that kubeadm replaced has nothing to say for itself;
//! - the backup holds exactly its bytes, and was moved there after it had come to stand. A backup that an upgrade of last
//!   year left behind holds what we, or a person, may have put back since: that one is older than what stood;
//! - kubeadm is at work no longer (the hold of Q6 stops the clock of the grace), the node is still a master (`kubeadm
//!   reset` deletes and leaves no backup), and of etcd the data are those that it left, used by nobody.
//!
//! That kubeadm was at work when the power went proves nothing by itself: a reset that is cut short has deleted the
//! manifests and not yet the PKI, and what it deleted must not come back.
//!
//! It is the old one that comes back, and not the new one that lies ready: that one may be of an upgrade a person gives up
//! now, and is theirs to bring; the next `kubeadm upgrade` finds a manifest to replace, without which it fails. The old one
//! is no newer than its API server, in whatever order they are upgraded. No component is left away for it.

use std::time::Duration;

use super::draft::Draft;
use super::{Inhibitor, targets};
use crate::model::ComponentId;
use crate::model::notice::Notice;
use crate::model::observation::SetAside;

/// Where kubeadm keeps what stood of a component, if it was the known-good generation and nothing stands now.
pub(super) fn set_aside<'a>(draft: &Draft<'a>, id: &ComponentId) -> Option<&'a SetAside> {
    let record = draft.record(id)?;
    let good = record.generations.get(&record.slot.good()?)?;
    let stood = record.stands.as_ref().filter(|stands| stands.digest == good.digest)?;
    let kept = draft.scene.seen.node.set_aside.get(&good.file_name)?;
    kept.iter().find(|kept| kept.digest == good.raw_digest && kept.changed >= stood.changed)
}

/// Says what will come of it; while kubeadm works nothing does, and it may still put the other one in.
pub(super) fn tell(draft: &mut Draft<'_>, id: &ComponentId, good: u32, grace: Duration) {
    let kept = set_aside(draft, id).filter(|_| !matches!(draft.hold, Some(Inhibitor::Kubeadm { .. })));
    let text = kept.map(|kept| {
        format!(
            "an upgrade ended after kubeadm had moved its manifest to {} and before another was in place; generation {} \
             comes back in {} s unless `lastgood pause` holds it",
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
