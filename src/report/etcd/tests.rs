//! A view of three members, one of them stalled, with fewer and fewer answers.

use super::*;
use crate::model::etcd::{Agreed, Alarm, AlarmKind, Metrics};
use crate::model::reading::SymptomKind;
use crate::report::golden;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn member(id: u64, name: &str) -> Member {
    let url = |port| vec![format!("https://10.0.0.{id}:{port}")];
    Member { id, name: name.into(), peer_urls: url(2380), client_urls: url(2379), learner: false }
}

fn says(id: u64) -> MemberStatus {
    MemberStatus {
        version: "3.5.16".into(),
        cluster: 0xc1,
        member: id,
        leader: Some(1),
        term: 4,
        raft_index: 120,
        applied_index: Some(119),
        revision: 90,
        db_size: Some(40 << 20),
        db_in_use: Some(10 << 20),
        quota: None,
        learner: false,
        alarms: Vec::new(),
        errors: Vec::new(),
    }
}

fn word(verdict: Verdict) -> Word {
    let evidence = vec!["it says so".to_owned()];
    Word { verdict, since: Some(at(-7200)), by: Judge::Agent, evidence, cause: None, notices: Vec::new() }
}

/// Three members: the first leads, the second answers, the third hangs.
pub(in crate::report) fn three() -> EtcdStatus {
    let hung = Symptom::new(SymptomKind::TimedOut, "10.0.0.3:2379 accepted the connection and did not answer");
    let every = Latency {
        count: 5000,
        p50: Within { above: Duration::ZERO, at_most: Some(Duration::from_millis(1)) },
        p99: Within { above: Duration::from_millis(4), at_most: Some(Duration::from_millis(8)) },
    };
    EtcdStatus {
        target: "https://127.0.0.1:2379".into(),
        own: Ok(says(1)),
        agreed: Ok(Agreed { cluster: 0xc1, member: 1, term: 4, revision: 91 }),
        members: Some(vec![member(3, "m3"), member(2, "m2"), member(1, "m1")]),
        others: [(2, Ok(says(2))), (3, Err(hung))].into(),
        metrics: Some(Metrics {
            every_fsync: Some(every),
            quota: Some(2 << 30),
            leader_changes: Some(2),
            fsync: vec![Duration::from_millis(16)],
            ..Metrics::default()
        }),
        ..EtcdStatus::default()
    }
}

fn view(status: &EtcdStatus, known: Option<(u64, &[Member])>) -> EtcdView {
    let component = ComponentId::system("etcd");
    let growth = Some(Growth { from: 20 << 20, to: 40 << 20, over: Duration::from_secs(36000) });
    let word = word(Verdict::Healthy);
    EtcdView::new(Looked { at: at(0), node: "m1", component: &component, word, status, known, growth, conflicts: &[] })
}

/// The same without a quorum, where the second raised an alarm.
fn without_a_quorum() -> EtcdStatus {
    let mut status = three();
    let why = Symptom::new(SymptomKind::TimedOut, "127.0.0.1:2379 did not agree on a read in time");
    status.agreed = Err(why);
    let own = status.own.as_mut().unwrap();
    own.leader = None;
    own.alarms = vec![Alarm { member: 2, kind: AlarmKind::NoSpace }];
    status
}

/// A member that refuses to be asked.
fn refused() -> EtcdStatus {
    let refused = Symptom::new(SymptomKind::Refused, "127.0.0.1:2379 refused the connection");
    EtcdStatus { target: "t".into(), own: Err(refused.clone()), agreed: Err(refused), ..EtcdStatus::default() }
}

/// Views of all of them.
pub(in crate::report) fn samples() -> [EtcdView; 3] {
    [three(), without_a_quorum(), refused()].map(|status| view(&status, Some((1, &[member(1, "m1"), member(2, "m2")]))))
}

#[test]
fn the_texts_of_etcd_status() {
    let texts: Vec<String> = samples().iter().map(EtcdView::text).collect();
    golden::same("etcd-status", &texts.join("\n####\n\n"));
}

#[test]
fn every_member_has_a_row_and_one_that_hangs_has_its_reason() {
    let view = view(&three(), None);
    let rows: Vec<_> = view.members.iter().map(|row| (row.name.as_str(), row.own, row.role)).collect();
    let (leader, follower) = (Some(MemberRole::Leader), Some(MemberRole::Follower));
    assert_eq!(rows, [("m1", true, leader), ("m2", false, follower), ("m3", false, None)]);
    assert!(view.members[2].silent.as_ref().unwrap().contains("did not answer"), "{:?}", view.members[2]);
    assert_eq!(view.quorum, Quorum::Agreed { revision: 91 });
    assert_eq!((view.cluster.as_deref(), view.quota), (Some("c1"), Some(2 << 30)));
    assert_eq!(view.growth.as_ref().unwrap().reaches_quota_in_seconds, Some(2008 * 1800));
    let json = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<EtcdView>(&json).unwrap(), view);
}

#[test]
fn without_a_quorum_the_rest_is_told_all_the_same() {
    let view = view(&without_a_quorum(), None);
    assert!(matches!(&view.quorum, Quorum::NotAgreed { why } if why.contains("did not agree")));
    let own = &view.members[0];
    assert_eq!(own.role, Some(MemberRole::NoLeader));
    assert_eq!(own.says.as_ref().unwrap().alarms, ["NOSPACE of m2 (https://10.0.0.2:2379)"]);
}

#[test]
fn a_member_that_says_nothing_is_a_row_too_and_the_others_are_those_known_before() {
    let status = refused();
    let alone = view(&status, None);
    assert_eq!(alone.members.len(), 1);
    assert!(alone.members[0].own && alone.members[0].silent.as_ref().unwrap().contains("refused"));
    assert_eq!((alone.cluster, alone.fsync), (None, None));

    let before = [member(1, "m1"), member(2, "m2")];
    let known = view(&status, Some((2, &before)));
    let rows: Vec<_> = known.members.iter().map(|row| (row.name.as_str(), row.own)).collect();
    assert_eq!(rows, [("m2", true), ("m1", false)]);
    assert!(known.members.iter().all(|row| row.silent.is_some()));
}

#[test]
fn a_learner_is_called_one_and_what_is_unwell_is_not_well() {
    let mut status = three();
    status.own.as_mut().unwrap().learner = true;
    assert_eq!(view(&status, None).members[0].role, Some(MemberRole::Learner));
    let mut view = view(&status, None);
    for (verdict, by, well) in [
        (Verdict::Healthy, Judge::Agent, true),
        (Verdict::Healthy, Judge::Command, true),
        (Verdict::Starting, Judge::Agent, true),
        (Verdict::Starting, Judge::Command, false),
        (Verdict::Failing, Judge::Agent, false),
        (Verdict::Unknown, Judge::Agent, false),
    ] {
        (view.word.verdict, view.word.by) = (verdict, by);
        assert_eq!(view.is_well(), well, "{verdict} by {by:?}");
    }
}
