//! What the operator has to know about the agents of other masters, with the next step.

use std::collections::BTreeSet;

use crate::model::ComponentId;
use crate::model::notice::{FeatureNotice, Notice};
use crate::model::peer::{Peer, Peers};

/// Every subject, with its sentence where something is wrong. `silent` are those that answered before, and `unanswered` is
/// why this agent has not answered the others for a while.
pub(super) fn notices(
    peers: &Peers,
    silent: &BTreeSet<u64>,
    unanswered: Option<&str>,
    etcd: &ComponentId,
) -> Vec<FeatureNotice> {
    let about = |about, text| FeatureNotice { component: etcd.clone(), about, text };
    vec![about(Notice::PeersSilent, missing(peers, silent)), about(Notice::PeersUnanswered, unanswered.map(mute))]
}

fn missing(peers: &Peers, silent: &BTreeSet<u64>) -> Option<String> {
    let one = |peer: &Peer| {
        let trouble = peer.trouble.as_ref()?;
        let next = trouble.kind.next_step(peers.port).map_or_else(String::new, |next| format!("; next: {next}"));
        Some(format!("{} at {}: {}{next}", peer.name, peer.address, trouble.detail))
    };
    let named = peers.others().filter(|peer| silent.contains(&peer.id.0)).filter_map(one);
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| format!("agents that answered before do not answer any more: {}", named.join("; ")))
}

fn mute(why: &str) -> String {
    format!("this agent does not answer those of the other masters: {why}; next: {NEXT}")
}

/// What helps against each reason why this agent does not answer.
pub(super) const NEXT: &str = "where the port is taken, `ss -ltnp` names the process, and peers.port moves the agents of all masters; etcd needs https:// \
     in --listen-peer-urls, --peer-cert-file, --peer-key-file and --peer-trusted-ca-file; peers.port = 0 turns reports off";

#[cfg(test)]
mod tests {
    use super::super::tests::peers;
    use super::*;
    use crate::model::peer::{PeerTrouble, PeerTroubleKind};

    #[test]
    fn only_an_agent_that_answered_before_is_missed_and_a_port_that_is_taken_is_named() {
        let etcd = ComponentId::system("etcd");
        let subjects = |peers: &Peers, silent: &[u64], why: Option<&str>| -> Vec<Notice> {
            let all = notices(peers, &silent.iter().copied().collect(), why, &etcd);
            assert_eq!(all.len(), 2, "a subject without a sentence takes the notice back");
            all.into_iter().filter(|notice| notice.text.is_some()).map(|notice| notice.about).collect()
        };
        let mut some = peers();
        assert_eq!(subjects(&some, &[], None), []);
        some.members[1].trouble =
            Some(PeerTrouble { kind: PeerTroubleKind::Refused, detail: "nothing listens".into() });
        assert_eq!(subjects(&some, &[], None), [], "it never answered, or not for long");
        assert_eq!(subjects(&some, &[2], None), [Notice::PeersSilent]);
        assert_eq!(subjects(&some, &[], Some("10.0.0.1:2384 cannot be listened on")), [Notice::PeersUnanswered]);
    }
}
