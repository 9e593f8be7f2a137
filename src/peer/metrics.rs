//! The metrics of the agents of other masters.

use crate::model::metrics_page::{Kind, Page, seconds, yes};
use crate::model::peer::{Peer, Peers};

/// Writes them.
pub fn metrics(peers: &Peers, page: &mut Page) {
    let named = |peer: &Peer| vec![("member", peer.name.clone())];
    page.one(
        "peers_answered",
        Kind::Gauge,
        "Whether this agent answers those of the other masters.",
        yes(peers.not_answering.is_none()),
    );
    page.metric(
        "peer_reachable",
        Kind::Gauge,
        "Whether the agent next to another member of etcd answers.",
        peers.others().map(|peer| (named(peer), yes(peer.answers()))),
    );
    page.metric(
        "peer_last_report_timestamp_seconds",
        Kind::Gauge,
        "When that agent answered last, by the clock of this node.",
        peers.others().filter_map(|peer| Some((named(peer), seconds(peer.answered?)))),
    );
    page.metric(
        "peer_clock_difference_seconds",
        Kind::Gauge,
        "How far the clock of that node is ahead of the one of this node.",
        peers.others().filter_map(|peer| Some((named(peer), difference(peer.clock_ahead_millis?)))),
    );
    page.metric(
        "peer_etcd_serving",
        Kind::Gauge,
        "Whether its etcd answered a linearizable read, by its last report.",
        peers.others().filter_map(|peer| Some((named(peer), yes(peer.report.as_ref()?.etcd.serves)))),
    );
    page.metric(
        "peer_info",
        Kind::Gauge,
        "The node and the version of lastgood next to that member, by its last report.",
        peers.others().filter_map(|peer| {
            let report = peer.report.as_ref()?;
            let labels =
                vec![("member", peer.name.clone()), ("node", report.node.clone()), ("version", report.version.clone())];
            Some((labels, yes(true)))
        }),
    );
}

fn difference(millis: i64) -> String {
    let (sign, millis) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
    format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::super::tests::peers;
    use super::*;

    #[test]
    fn each_member_on_another_node_has_its_series() {
        let mut some = peers();
        some.members[2].clock_ahead_millis = Some(-61_500);
        let mut page = Page::default();
        metrics(&some, &mut page);
        let page = page.into_text();
        for line in [
            "lastgood_peers_answered 1",
            "lastgood_peer_reachable{member=\"m2\"} 1",
            "lastgood_peer_clock_difference_seconds{member=\"m3\"} -61.500",
            "lastgood_peer_etcd_serving{member=\"m2\"} 1",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}\n{page}");
        }
        assert!(!page.contains("member=\"m1\""), "this node's member has other metrics");
        some.members[2].name = "m2".to_owned();
        some.tell_apart();
        let mut page = Page::default();
        metrics(&some, &mut page);
        let page = page.into_text();
        let series: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("lastgood_peer_reachable{")).collect();
        assert_eq!(series, ["member=\"m2 (2)\"} 1", "member=\"m2 (3)\"} 1"], "no series twice");
    }
}
