//! The masters of the cluster, as `lastgood status --cluster` prints them: one row for each member of etcd, by what the agent
//! next to it reported.

use super::table::{lines, table};
use super::text::section;
use crate::config::duration::roughly;
use crate::model::clock::between;
use crate::model::peer::{Peer, PeerReport, Peers};

impl Peers {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("etcd cluster {}: {} members; {self}\n\n", self.cluster, self.members.len());
        let mut table = table(&[
            "MEMBER",
            "ADDRESS",
            "AGENT",
            "LASTGOOD",
            "NODE",
            "ETCD",
            "REVISION",
            "API SERVER",
            "ANSWERED",
            "CLOCK",
        ]);
        for peer in &self.members {
            table.add_row(self.row(peer));
        }
        out.push_str(&lines(&table));
        let silent = self.members.iter().filter_map(|peer| {
            let trouble = peer.trouble.as_ref()?;
            Some(format!("{}: {}{}", peer.name, trouble.detail, next(trouble.kind.next_step(self.port))))
        });
        section(&mut out, "No answer", silent);
        let own = self.not_answering.iter().map(|why| format!("this agent does not answer the others: {why}"));
        section(&mut out, "Notices", own.chain(self.members.iter().flat_map(notices)));
        out
    }

    fn row(&self, peer: &Peer) -> [String; 10] {
        let dash = || "-".to_owned();
        let report = peer.report.as_ref();
        let of = |value: fn(&PeerReport) -> Option<String>| report.and_then(value).unwrap_or_else(dash);
        let agent = match &peer.trouble {
            Some(trouble) => trouble.kind.word(),
            None if peer.local => "this node",
            None => "answers",
        };
        let etcd = |report: &PeerReport| {
            let etcd = &report.etcd;
            let word = match (etcd.barred, etcd.serves, etcd.learner) {
                (Some(true), _, _) => "barred",
                (_, true, _) => "serves",
                (_, false, Some(true)) => "learner",
                (_, false, _) => "does not serve",
            };
            Some(word.to_owned())
        };
        let revision = |report: &PeerReport| {
            let record = report.etcd.record.map(|record| record.revision);
            Some(report.etcd.revision.or(record)?.to_string())
        };
        let api = |report: &PeerReport| {
            report.api_server_serves.map(|serves| if serves { "serves" } else { "does not serve" }.to_owned())
        };
        [
            peer.name.clone(),
            peer.address.clone(),
            agent.to_owned(),
            of(|report| Some(report.version.clone())),
            of(|report| Some(report.overall?.to_string())),
            of(etcd),
            of(revision),
            of(api),
            peer.answered.map_or_else(dash, |at| format!("{} ago", roughly(between(at, self.at)))),
            peer.clock_difference().unwrap_or_else(dash),
        ]
    }
}

fn next(step: Option<String>) -> String {
    step.map_or_else(String::new, |step| format!("\n    next step: {step}"))
}

/// What a row has no room for.
fn notices(peer: &Peer) -> Vec<String> {
    let Some(report) = &peer.report else { return Vec::new() };
    let why_not = report.etcd.why_not.as_ref().map(|why| format!("etcd does not serve: {why}"));
    let barred = report.etcd.barred_because.as_ref().filter(|_| report.etcd.barred == Some(true));
    let barred = barred.map(|why| format!("its data directory is barred: {why}"));
    let inhibitors = report.inhibitors.iter().map(|why| format!("its agent changes nothing: {why}"));
    let certificate = peer.certificate.clone();
    let all = why_not.into_iter().chain(barred).chain(inhibitors).chain(certificate);
    all.map(|text| format!("{}: {text}", peer.name)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Paint, golden};
    use super::*;
    use crate::model::peer::{PeerRecord, PeerTrouble, PeerTroubleKind};
    use crate::peer::tests::peers;

    /// One master answers, one has stopped to, and one never did.
    pub(in crate::report) fn sample() -> Peers {
        let mut peers = peers();
        let mut fourth = peers.members[2].clone();
        fourth.name = "m4".to_owned();
        fourth.address = "10.0.0.4".to_owned();
        (fourth.report, fourth.answered, fourth.clock_ahead_millis) = (None, None, None);
        fourth.trouble =
            Some(PeerTrouble { kind: PeerTroubleKind::Refused, detail: "10.0.0.4:2384: nothing listens there".into() });
        let third = &mut peers.members[2];
        third.trouble = Some(PeerTrouble {
            kind: PeerTroubleKind::TimedOut,
            detail: "10.0.0.3:2384 did not accept the connection in time".into(),
        });
        third.clock_ahead_millis = Some(61_500);
        if let Some(report) = &mut third.report {
            report.inhibitors = vec!["paused until 1970-01-01T01:00:00Z: work".to_owned()];
            (report.etcd.serves, report.etcd.why_not) = (false, Some("it has no leader".to_owned()));
            report.etcd.revision = None;
            let at = jiff::Timestamp::UNIX_EPOCH;
            report.etcd.record =
                Some(PeerRecord { at, term: 3, raft_index: 880, revision: 740, highest_revision: 754 });
            report.api_server_serves = Some(false);
        }
        peers.members.push(fourth);
        peers.at = jiff::Timestamp::from_second(75).unwrap_or_default();
        peers
    }

    #[test]
    fn status_has_a_line_for_the_other_masters_only_where_there_are_any() {
        let mut status = super::super::testing::Scene::new().status();
        assert!(!status.text(Paint::Plain).contains("other masters"));
        for (peers, well) in [(peers(), true), (sample(), false)] {
            status.peers = Some(peers);
            let text = status.text(Paint::Plain);
            let line = text.lines().find(|line| line.starts_with("other masters: ")).unwrap();
            assert_eq!(line.contains("`lastgood status --cluster`"), !well, "{line}");
        }
    }

    #[test]
    fn each_member_has_a_row_and_what_is_wrong_has_its_next_step() {
        golden::same("status-cluster", &sample().text());
    }
}
