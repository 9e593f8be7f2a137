//! Notices about certificates that are valid and not in use as they should be: a process that has an older one in memory,
//! and a kubelet whose rotation cannot replace its own. Nothing is restarted for it before the older one ends.

use super::draft::Draft;
use crate::model::ComponentId;
use crate::model::notice::{NodeNotice, Notice};

/// One notice for each component, and one for the kubelet.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let node = &draft.scene.seen.node;
    // Nothing was read yet: that is no reason to take back what was reported.
    if node.certificates.is_empty() {
        return;
    }
    let known: Vec<ComponentId> = draft.memory.components.keys().cloned().collect();
    for id in known {
        let older = node.older_in_use.iter().filter(|older| older.component == id).map(|older| older.finding());
        let older: Vec<_> = older.collect();
        let details: Vec<&str> = older.iter().map(|finding| finding.detail.as_str()).collect();
        let text = older.first().map(|first| format!("{}; next: {}", details.join("; "), first.next));
        draft.notice_if(&id, Notice::OlderCertificate, text);
    }
    match node.kubelet_certificate.as_ref().map(|kubelet| kubelet.finding()) {
        Some(finding) => {
            let text = format!("{}; next: {}", finding.detail, finding.next);
            draft.node_notice(NodeNotice::KubeletCertificate, text);
        }
        None => draft.clear_node_notice(&NodeNotice::KubeletCertificate),
    }
}
