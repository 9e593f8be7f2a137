//! What doctor says of the agents of other masters: a recovery of several masters needs them, and the way between them.

use crate::model::check::{Check, CheckResult};
use crate::model::peer::{Peer, Peers};

/// One check for each agent, and one for this one.
pub(super) fn checks(peers: &Peers) -> Vec<Check> {
    let own = peers.not_answering.as_ref().map(|why| {
        let detail = format!("this agent does not answer the others: {why}");
        Check::bad("agents of the masters", CheckResult::Warning, detail, super::notices::NEXT)
    });
    own.into_iter().chain(peers.others().map(|peer| one(peer, peers.port))).collect()
}

fn one(peer: &Peer, port: u16) -> Check {
    let subject = format!("agent on {}", peer.name);
    let place = format!("{}:{port}", peer.address);
    let warning = |detail: String, fix: String| Check::bad(&subject, CheckResult::Warning, detail, fix);
    if let Some(trouble) = &peer.trouble {
        return match trouble.kind.next_step(port) {
            Some(fix) => warning(format!("{place} does not answer: {}", trouble.detail), fix),
            None => warning(trouble.detail.clone(), "try again in a few seconds".to_owned()),
        };
    }
    if let Some(certificate) = &peer.certificate {
        let fix = "`kubeadm certs renew etcd-peer` on that master, then restart its etcd";
        return warning(format!("{place} answers, but {certificate}"), fix.to_owned());
    }
    if let Some(difference) = peer.clock_difference() {
        let fix = "`chronyc tracking` or `timedatectl timesync-status` on both masters";
        return warning(format!("{place} answers, but its clock differs by {difference}"), fix.to_owned());
    }
    let version = peer.report.as_ref().map_or("", |report| report.version.as_str());
    Check::ok(subject, format!("lastgood {version} answers at {place}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::peers;
    use super::*;
    use crate::model::peer::{PeerTrouble, PeerTroubleKind};

    #[test]
    fn each_agent_has_a_check_with_its_fix() {
        let (ok, warning) = (CheckResult::Ok, CheckResult::Warning);
        let verdicts = |peers: &Peers| checks(peers).iter().map(|check| check.verdict).collect::<Vec<_>>();
        let mut some = peers();
        assert_eq!(verdicts(&some), [ok, ok], "the local one has none");
        let trouble = |kind| Some(PeerTrouble { kind, detail: "why".into() });
        some.members[1].trouble = trouble(PeerTroubleKind::TimedOut);
        some.members[2].clock_ahead_millis = Some(-3000);
        assert_eq!(verdicts(&some), [warning, warning]);
        assert_eq!(checks(&some)[0].fix.as_deref(), Some("open TCP 2384 between the masters"));
        some.members[1].trouble = trouble(PeerTroubleKind::NotAsked);
        some.members[2].certificate = Some("its certificate expired".into());
        some.not_answering = Some("the port is taken".into());
        assert_eq!(verdicts(&some), [warning, warning, warning]);
    }
}
