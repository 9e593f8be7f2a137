//! A node of three components on which everything is well, to be changed by each test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::input::{Agent, Process, ReportInput};
use super::status::{Component, Status};
use super::{Explanation, Planned};
use crate::feature::View;
use crate::model::component_state::{Initiator, Method, Probation, Purpose, Replacement, Stage};
use crate::model::event::EventKind;
use crate::model::generation::Stored;
use crate::model::inhibitor::Inhibitor;
use crate::model::memory::{Deployed, Record};
use crate::model::snapshot::{Failed, Failing, Newest, Remote, Sent};
use crate::model::verdict::{Reads, ServiceState};
use crate::model::{
    Assessment, ComponentId, ComponentState, Decision, Digest, Event, Generation, Judgement, Memory, Policy, Proof,
    Request, Role, Snapshots, Trust, Verdict,
};

pub(super) fn at(time: &str) -> Timestamp {
    format!("2026-11-22T{time}Z").parse().unwrap()
}

pub(super) fn now() -> Timestamp {
    at("20:10:00")
}

pub(super) fn id(name: &str) -> ComponentId {
    ComponentId::system(name)
}

pub(super) fn generation(name: &str, number: u32, trust: Trust) -> Generation {
    Generation {
        raw_digest: Digest::of(b"raw"),
        startup_budget: Duration::from_secs(250),
        termination_grace: Duration::from_secs(30),
        number,
        digest: digest(name, number),
        pod_digest: digest(name, number),
        file_name: format!("{name}.yaml"),
        closure: Vec::new(),
        images: BTreeSet::from([format!("registry.k8s.io/{name}:v1.36.{number}")]),
        ports: BTreeSet::new(),
        data: None,
        minor: None,
        first_seen: at("20:00:00"),
        served: Some(at("20:00:10")),
        rewritten: 0,
        trust,
        stored: Stored::Yes,
    }
}

pub(super) fn digest(name: &str, number: u32) -> Digest {
    Digest::of(format!("{name} {number}").as_bytes())
}

pub(super) fn good() -> Trust {
    let proof = Proof::Soak { seconds: 60, evidence: "livez answered".to_owned() };
    Trust::KnownGood { proof, since: at("20:01:00") }
}

pub(super) fn kubeadm() -> Inhibitor {
    Inhibitor::Kubeadm { pid: 77, command: "kubeadm upgrade apply".to_owned() }
}

pub(super) struct Scene {
    pub(super) memory: Memory,
    pub(super) judgement: Judgement,
    pub(super) policy: Policy,
    pub(super) agent: Agent,
    pub(super) inhibitors: Vec<Inhibitor>,
    pub(super) features: View,
    pub(super) last: Vec<Event>,
}

fn well() -> ServiceState {
    let watched = std::time::Duration::from_secs(590);
    ServiceState {
        verdict: Verdict::Healthy,
        watched,
        evidence: "it answers".to_owned(),
        next_step: None,
        crash_loop: None,
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut scene = Self {
            memory: Memory::default(),
            judgement: Judgement { kubelet: well(), runtime: well(), ..Judgement::default() },
            policy: Policy::default(),
            agent: Agent { process: Process::Running { pid: 812, since: at("20:00:00") }, version: "0.1.0".to_owned() },
            inhibitors: Vec::new(),
            features: View::default(),
            last: Vec::new(),
        };
        scene.memory.machine.node_name = "master-1".to_owned();
        // Not in the order of dependence, which the printers have to find.
        scene.add("kube-scheduler", Role::Scheduler);
        scene.add("kube-apiserver", Role::ApiServer);
        scene.add("etcd", Role::Etcd);
        scene
    }

    pub(super) fn add(&mut self, name: &str, role: Role) {
        let record = Record {
            deployed: Some(Deployed { digest: digest(name, 1), changed: at("19:00:00") }),
            generations: BTreeMap::from([(1, generation(name, 1, good()))]),
            next_number: 2,
            last_served: Some(1),
            verdict: Some((Verdict::Healthy, at("20:00:10"))),
            ..Record::new(role, ComponentState::Steady { good: 1 })
        };
        self.memory.components.insert(id(name), record);
        let assessment = Assessment {
            role,
            health: Verdict::Healthy.into(),
            since: at("20:00:10"),
            watched: Duration::from_secs(590),
            serving: true,
            evidence: vec!["livez answered within 3 ms".to_owned()],
            cause: None,
            crash: None,
            uid: Some("abc".to_owned()),
            reads: Reads::All,
            address_in_use: false,
            delay: None,
        };
        self.judgement.components.insert(id(name), assessment);
    }

    pub(super) fn record(&mut self, name: &str) -> &mut Record {
        self.memory.components.get_mut(&id(name)).unwrap()
    }

    pub(super) fn assessment(&mut self, name: &str) -> &mut Assessment {
        self.judgement.components.get_mut(&id(name)).unwrap()
    }

    /// A candidate stands.
    pub(super) fn candidate(&mut self, name: &str) -> Probation {
        let record = self.record(name);
        record.generations.insert(2, generation(name, 2, Trust::Candidate));
        record.deployed = Some(Deployed { digest: digest(name, 2), changed: at("20:08:00") });
        Probation::begin(2, 1)
    }

    pub(super) fn material(&self) -> ReportInput<'_> {
        ReportInput {
            now: now(),
            memory: &self.memory,
            judgement: matches!(self.agent.process, Process::Running { .. }).then_some(&self.judgement),
            agent: &self.agent,
            policy: &self.policy,
            inhibitors: &self.inhibitors,
            features: &self.features,
            figures: None,
            last: &self.last,
        }
    }

    pub(super) fn status(&self) -> Status {
        Status::new(self.material())
    }

    pub(super) fn component(&self, name: &str) -> Component {
        self.status().components.into_iter().find(|c| c.component == id(name)).unwrap()
    }

    pub(super) fn explanation(&self, name: &str) -> Explanation {
        Explanation::new(self.material(), &id(name), self.last.clone()).unwrap()
    }
}

/// A replacement of generation 2 by generation 1.
pub(super) fn rollback(stage: Stage) -> Replacement {
    let purpose = Purpose::RollBack { from: Some(2), initiator: Initiator::Operator };
    Replacement { method: Method::Rename, stage, ..Replacement::new(purpose, 1, "asked for") }
}

/// What a request comes to that leads from one memory to another.
pub(super) fn planned(request: &Request, before: &Memory, after: &Memory) -> Planned {
    Planned::new(request, before, &Decision { memory: after.clone(), plan: Vec::new(), events: Vec::new() })
}

/// An event of a component.
pub(super) fn event(kind: EventKind, component: &str, from: Option<&str>, to: &str, because: &str) -> Event {
    let from = from.map(str::to_owned);
    Event { from, ..Event::new(at("20:05:00"), kind, Some(&id(component)), to, because) }
}

/// Snapshots of this node, the newest of them twelve minutes old; one is not verified, and the last try failed.
pub(super) fn snapshots() -> Snapshots {
    let at = now() - Duration::from_secs(720);
    let (file, bytes, bundle) = ("a.db".to_owned(), 5 << 20, Err("none".to_owned()));
    Snapshots {
        enabled: true,
        interval: Duration::from_secs(1800),
        directory: "/var/lib/lastgood/snapshots".into(),
        newest: Some(Newest { file, at, revision: 123, bytes, verified: at, bundle }),
        verified: 14,
        bytes: 70 << 20,
        unverified: vec![("b.db".into(), "it is torn".into())],
        damaged: Vec::new(),
        checked: None,
        undecryptable: None,
        failed: Some(Failed { at, times: 1, why: "no room".into() }),
        since: at,
        unreadable: None,
        remote: None,
    }
}

/// The same in object storage, where nothing gets any more.
pub(super) fn remote() -> Remote {
    let at = now() - Duration::from_secs(720);
    let newest = Some(Sent { file: "a.db".into(), at, revision: 120, bytes: 5 << 20, verified: at });
    let failing = Some(Failing { since: at, at, times: 2, why: "SlowDown".into() });
    Remote { newest, verified: 3, failing, ..Remote::unseen("s3://backups".into()) }
}
