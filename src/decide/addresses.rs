//! Notices about the addresses of this node. An address that manifests name and no interface has is reported as soon as
//! it is gone, while the processes that listen there still run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::draft::Draft;
use crate::model::notice::NodeNotice;

/// A network service that restarts takes its addresses away for a moment.
const GONE: Duration = Duration::from_secs(5);

/// Keeps one notice for each missing address.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let addresses = &draft.scene.seen.node.addresses;
    let mut notices = BTreeMap::new();
    for missing in &addresses.missing {
        let about = NodeNotice::Address(missing.address);
        let shown = draft.memory.notices.get(&about).cloned();
        if shown.is_none() && missing.gone_for < GONE {
            continue;
        }
        let text = format!(
            "{}: what listens there fails at its next start; next: {}",
            addresses.sentence(missing),
            addresses.next(missing)
        );
        notices.insert(about, text);
    }
    draft.keep_node_notices(|about| matches!(about, NodeNotice::Address(_)), notices);
}
