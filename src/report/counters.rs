//! Counters of the running agent, for the status and the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::etcd_history::Growth;
use crate::model::{ComponentId, EtcdStatus, Step};

/// Since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counters {
    pub passes: u64,
    /// When the last one began.
    pub last_pass: Option<Timestamp>,
    /// How long it took, in microseconds.
    pub last_pass_micros: u64,
    /// Steps that changed the node, by kind.
    pub done: BTreeMap<String, u64>,
    /// Steps that were to, and did not come about.
    pub failed: BTreeMap<String, u64>,
    /// What the etcds of this node said last.
    pub etcd: BTreeMap<ComponentId, EtcdCounters>,
}

/// What an etcd said last, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdCounters {
    /// Whether it said anything of itself.
    pub answers: bool,
    /// Whether a linearizable read through it succeeded.
    pub quorum: bool,
    /// Whether it knows a leader; absent where nobody told.
    pub has_leader: Option<bool>,
    /// Members of its cluster; absent where they were not listed.
    pub members: Option<usize>,
    /// Bytes of the database.
    pub db_bytes: Option<u64>,
    /// Bytes of it in use.
    pub db_in_use_bytes: Option<u64>,
    /// Bytes it may have.
    pub quota_bytes: Option<u64>,
    /// In which time it reaches its quota at the rate of the last hours; absent where it does not grow.
    pub quota_reached_in_seconds: Option<u64>,
    /// The alarms that are raised, by kind.
    pub alarms: BTreeSet<String>,
}

impl Counters {
    /// A pass came to its end.
    pub fn passed(&mut self, began: Timestamp, took: Duration) {
        self.passes += 1;
        self.last_pass = Some(began);
        self.last_pass_micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    /// A step was taken.
    pub fn done(&mut self, step: &Step) {
        if step.touches_node() {
            *self.done.entry(step.kind().to_owned()).or_default() += 1;
        }
    }

    /// A step did not come about.
    pub fn failed(&mut self, step: &Step) {
        if step.touches_node() {
            *self.failed.entry(step.kind().to_owned()).or_default() += 1;
        }
    }
}

impl From<(&EtcdStatus, Option<&Growth>)> for EtcdCounters {
    fn from((said, growth): (&EtcdStatus, Option<&Growth>)) -> Self {
        let own = said.own.as_ref().ok();
        let led = own.map(|own| own.leader.is_some());
        let quota = said.quota();
        Self {
            answers: own.is_some(),
            quorum: said.agreed.is_ok(),
            has_leader: led.or_else(|| said.metrics.as_ref()?.has_leader),
            members: said.members.as_ref().map(Vec::len),
            db_bytes: own.and_then(|own| own.db_size),
            db_in_use_bytes: own.and_then(|own| own.db_in_use),
            quota_bytes: quota,
            quota_reached_in_seconds: growth.zip(quota).and_then(|(g, quota)| Some(g.reaches(quota)?.as_secs())),
            alarms: own.iter().flat_map(|own| &own.alarms).map(|alarm| alarm.kind.to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::{Agreed, Alarm, AlarmKind, Member, MemberStatus, Metrics};

    #[test]
    fn only_what_changes_the_node_is_counted() {
        let component = ComponentId::system("etcd");
        let put = Step::PutIn { component: component.clone(), number: 1, file_name: "etcd.yaml".into() };
        let forget = Step::Forget { component, number: 1 };
        let mut figures = Counters::default();
        for step in [&put, &put, &forget, &Step::RestartKubelet] {
            figures.done(step);
        }
        figures.failed(&put);
        assert_eq!(figures.done, [("put-in".to_owned(), 2), ("restart-kubelet".to_owned(), 1)].into());
        assert_eq!(figures.failed, [("put-in".to_owned(), 1)].into());
        assert!(figures.done.keys().all(|kind| Step::KINDS_ON_NODE.contains(&kind.as_str())));
    }

    #[test]
    fn what_an_etcd_said_is_what_its_figures_tell() {
        assert_eq!(EtcdCounters::from((&EtcdStatus::default(), None)), EtcdCounters::default(), "nothing is known");
        let alarm = |member, kind| Alarm { member, kind };
        let own = MemberStatus {
            version: "3.5.16".into(),
            cluster: 1,
            member: 2,
            leader: None,
            term: 3,
            raft_index: 4,
            applied_index: Some(5),
            revision: 6,
            db_size: Some(1000),
            db_in_use: Some(700),
            quota: None,
            learner: false,
            // One of them of another member: nothing is written there all the same.
            alarms: vec![alarm(9, AlarmKind::NoSpace), alarm(2, AlarmKind::NoSpace), alarm(2, AlarmKind::Corrupt)],
            errors: Vec::new(),
        };
        let member = Member { id: 2, name: "m".into(), peer_urls: Vec::new(), client_urls: Vec::new(), learner: false };
        let metrics = Metrics { quota: Some(2000), has_leader: Some(true), ..Metrics::default() };
        let mut said = EtcdStatus {
            own: Ok(own),
            members: Some(vec![member.clone(), member]),
            metrics: Some(metrics),
            ..EtcdStatus::default()
        };
        let growth = Growth { from: 500, to: 1000, over: Duration::from_secs(50) };
        let wanted = EtcdCounters {
            answers: true,
            quorum: false,
            has_leader: Some(false),
            members: Some(2),
            db_bytes: Some(1000),
            db_in_use_bytes: Some(700),
            quota_bytes: Some(2000),
            quota_reached_in_seconds: Some(100),
            alarms: [AlarmKind::NoSpace.to_string(), AlarmKind::Corrupt.to_string()].into(),
        };
        assert_eq!(EtcdCounters::from((&said, Some(&growth))), wanted);
        said.agreed = Ok(Agreed { cluster: 1, member: 2, term: 3, revision: 7 });
        said.own = EtcdStatus::default().own;
        let silent = EtcdCounters::from((&said, Some(&growth)));
        assert!(!silent.answers && silent.quorum && silent.alarms.is_empty(), "{silent:?}");
        assert_eq!(silent.has_leader, Some(true), "its metrics tell");
    }
}
