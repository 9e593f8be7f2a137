//! Notices about the addresses by which the clients of this node reach an API server.
//!
//! ```text
//!   the API server of this node   the address               reported
//!   ───────────────────────────   ───────────────────────   ───────────────────────────────────────────────────
//!   serves                        bad, however              yes: how, and what raises the address
//!   does not serve                silent, the kubelet's     yes: the kubelet waits, and may start no static pod
//!   does not serve                bad otherwise             no: without an API server that is no news
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::draft::Draft;
use crate::model::environment::{Endpoint, Trouble, User};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::{ComponentId, Role};

/// An endpoint that has answered badly for this long is reported: two rounds of a balancer's own health check, or the
/// moment a floating address takes to move.
const UNREACHABLE: Duration = Duration::from_secs(10);

/// Keeps one notice for each of them, and one for a pod that has not raised its address.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let serves = draft.scene.judged.components.values().any(|a| a.role == Role::ApiServer && a.serving);
    let node = &draft.scene.seen.node;
    let mut notices = BTreeMap::new();
    let mut waiting: BTreeMap<ComponentId, String> = BTreeMap::new();
    for endpoint in node.endpoints.iter().filter(|endpoint| endpoint.bad_for >= UNREACHABLE) {
        let Some(trouble) = endpoint.trouble() else { continue };
        let about = NodeNotice::Endpoint(endpoint.server.clone());
        let kubelets = endpoint.used.iter().any(|(user, _)| *user == User::Kubelet);
        let alone = node.addresses.silent_for_the_kubelet(endpoint);
        if !serves {
            if trouble == Trouble::Silent && kubelets {
                notices.insert(about, alone);
            }
            continue;
        }
        // Refused at one look and timed out at the next is the same news.
        let shown = draft.memory.notices.get(&about).filter(|shown| **shown != alone).cloned();
        notices.insert(about, shown.unwrap_or_else(|| sentence(draft, endpoint, trouble)));
        if let Some(raised) = node.addresses.unraised(&endpoint.server) {
            waiting.insert(raised.by.clone(), node.addresses.why_unraised(raised));
        }
    }
    draft.keep_node_notices(|about| matches!(about, NodeNotice::Endpoint(_)), notices);
    let known: Vec<ComponentId> = draft.memory.components.keys().cloned().collect();
    for id in known {
        let shown = draft.record(&id).and_then(|record| record.notices.get(&Notice::AddressNotRaised).cloned());
        let text = waiting.remove(&id).map(|text| shown.unwrap_or(text));
        draft.notice_if(&id, Notice::AddressNotRaised, text);
    }
}

fn sentence(draft: &Draft<'_>, endpoint: &Endpoint, trouble: Trouble) -> String {
    let addresses = &draft.scene.seen.node.addresses;
    let words = endpoint.reading.symptom().map_or_else(String::new, |symptom| format!(" ({symptom})"));
    let rest = match addresses.unraised(&endpoint.server) {
        Some(raised) => addresses.why_unraised(raised),
        None => "next: look at the load balancer or the floating address".to_owned(),
    };
    format!(
        "{}, the API server address of {}, {trouble}{words}, while the API server of this node serves; {rest}",
        endpoint.server,
        endpoint.users()
    )
}
