//! The situations that matter, each made of the good node by one change: the printers' texts of all of them are golden files,
//! and their values are held against the schemas.

use std::time::Duration;

use jiff::Timestamp;

use super::input::Process;
use super::testing::{Scene, at, digest, event, generation, good, id, kubeadm, remote, rollback, snapshots};
use crate::model::component_state::{Held, Probation, Purpose, Replacement, Stage, Until};
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::lineage::{ApiStop, WrongData, WrongDataKind};
use crate::model::memory::{Deployed, Pause, Pin};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::observation::Gone;
use crate::model::policy::Mode;
use crate::model::store_fault::{Database, FaultKind, StoreFault};
use crate::model::verdict::{Cause, CrashLoop, Health, ProcessActivity, Reads, Stall};
use crate::model::{ComponentState, Trust, Verdict};

/// A situation: its name, the component it is about, and what makes it.
pub(super) type Situation = (&'static str, &'static str, fn(&mut Scene));

const API: &str = "kube-apiserver";
const SCHEDULER: &str = "kube-scheduler";

pub(super) const ALL: &[Situation] = &[
    ("all is well", "etcd", |_| {}),
    ("adopted after its soak", "etcd", |s| adopting(s, "etcd")),
    ("adopting, and the process has not read what is deployed", API, |s| {
        adopting(s, API);
        s.assessment(API).reads =
            Reads::Other { why: "the process is older than /etc/kubernetes/audit.yaml".to_owned() };
    }),
    ("adopting, and it cannot be told what the process has read", API, |s| {
        adopting(s, API);
        s.assessment(API).reads = Reads::CannotTell { why: "its container cannot be seen".to_owned() };
    }),
    ("adopting, and it fails", SCHEDULER, |s| {
        adopting(s, SCHEDULER);
        bad(s, SCHEDULER, Verdict::Failing, "healthz answered 500");
    }),
    ("a candidate that waits for etcd", API, |s| {
        let mut probation = s.candidate(API);
        (probation.age, probation.crashes) = (Duration::from_secs(100), 1);
        s.record(API).state = ComponentState::Probation(probation);
        bad(s, API, Verdict::Failing, "livez answered 500");
        s.assessment(API).cause = Some(Cause::Component { id: id("etcd"), verdict: Verdict::Down });
        bad(s, "etcd", Verdict::Down, "its container exited with code 1");
    }),
    ("etcd cannot start over its data", "etcd", |s| {
        bad(s, "etcd", Verdict::Down, "its container exited with code 2");
        let fault = StoreFault {
            kind: FaultKind::SnapshotAhead {
                snapshot: "/var/lib/etcd/member/snap/0000000000000002-00000000000013ba.snap".into(),
                index: 5050,
                applied: 4700,
            },
            path: "/var/lib/etcd/member/snap/db".into(),
            database: Database::Whole { revision: 4321 },
            others: 0,
        };
        s.assessment("etcd").cause = Some(Cause::Data(Box::new(fault)));
        s.features.snapshots = Some(snapshots());
    }),
    ("a candidate that has served for a minute", "etcd", |s| {
        let mut probation = s.candidate("etcd");
        probation.healthy = Duration::from_secs(60);
        s.record("etcd").state = ComponentState::Probation(probation);
    }),
    ("a candidate that breaks a dependent", API, |s| {
        let probation = s.candidate(API);
        s.record(API).state = ComponentState::Probation(probation);
        s.assessment(API).health = Health::Healthy { breaks_dependent: Some(id(SCHEDULER)) };
    }),
    ("files that the process has not read", API, |s| {
        s.candidate(API);
        s.record(API).state = ComponentState::Unread { candidate: 2, good: 1, age: Duration::from_secs(5) };
    }),
    ("a rollback", API, |s| {
        s.candidate(API);
        s.record(API).state = ComponentState::Replacing(rollback(Stage::awaiting_serving()));
        bad(s, API, Verdict::Down, "its container exited with code 1");
        s.last.push(event(
            EventKind::State,
            API,
            Some("Probation(generation 2)"),
            "RollingBack(to generation 1)",
            "2 crashes",
        ));
    }),
    ("a restore", "etcd", |s| {
        let purpose = Purpose::Suspend { longest: Duration::from_secs(3600) };
        s.record("etcd").state = ComponentState::Replacing(Replacement { purpose, ..rollback(Stage::Suspended) });
        bad(s, "etcd", Verdict::Down, "no container of it runs");
    }),
    ("deleted", SCHEDULER, |s| missing(s, SCHEDULER, Gone::Deleted)),
    ("two deleted at once", SCHEDULER, |s| {
        missing(s, SCHEDULER, Gone::Deleted);
        missing(s, "etcd", Gone::Deleted);
    }),
    ("deleted while paused", SCHEDULER, |s| {
        missing(s, SCHEDULER, Gone::Deleted);
        paused(s);
    }),
    ("moved to a place that is known", "etcd", |s| {
        missing(s, "etcd", Gone::Moved { to: Some("/root/etcd.yaml".into()) })
    }),
    ("moved out of sight", "etcd", |s| missing(s, "etcd", Gone::Moved { to: None })),
    ("gone while nobody watched", "etcd", |s| missing(s, "etcd", Gone::Unwitnessed)),
    ("moved by an upgrade that was cut short", "etcd", |s| {
        missing(s, "etcd", Gone::Moved { to: None });
        s.record("etcd").notices.insert(Notice::Interrupted, "kubeadm had moved it".to_owned());
    }),
    ("stalled", "etcd", stalled),
    ("stalled while kubeadm works", "etcd", |s| {
        stalled(s);
        s.inhibitors.push(kubeadm());
    }),
    ("stalled and left to the kubelet", "etcd", |s| {
        stalled(s);
        s.record("etcd").notices.insert(Notice::StallLeft, "it is stalled and is not restarted: …".to_owned());
    }),
    ("failing with nothing to roll back", SCHEDULER, |s| bad(s, SCHEDULER, Verdict::Failing, "healthz answered 500")),
    ("unknown", SCHEDULER, |s| bad(s, SCHEDULER, Verdict::Unknown, "its container cannot be seen")),
    ("held", API, held),
    ("held, paused, and kubeadm at work", API, |s| {
        held(s);
        paused(s);
        s.inhibitors.push(kubeadm());
        s.record("etcd").notices.insert(Notice::Image, "image etcd:3.6 is not on the node".to_owned());
        s.memory.notices.insert(NodeNotice::Directory, "/etc/kubernetes/manifests/a.bak is taken for a pod".to_owned());
        s.last.push(event(
            EventKind::Action,
            API,
            None,
            "put generation 1 in place as kube-apiserver.yaml",
            "2 crashes",
        ));
    }),
    ("a manifest that lastgood cannot read", API, |s| {
        s.record(API).notices.insert(Notice::Undecodable, "kube-apiserver.yaml cannot be read".to_owned());
    }),
    ("a quarantined generation", API, |s| {
        let why = "2 crashes: unknown flag".to_owned();
        let quarantined = Trust::Quarantined { why: why.clone(), since: at("20:05:00") };
        s.record(API).generations.insert(2, generation(API, 2, quarantined));
        s.last.push(event(EventKind::Generation, API, Some("candidate"), "quarantined", &why));
    }),
    ("a pinned generation", "etcd", pinned),
    ("the pinned generation itself on trial", "etcd", |s| {
        pinned(s);
        s.record("etcd").state = ComponentState::Probation(Probation::begin(1, 2));
    }),
    ("etcd serves an empty store", API, |s| {
        let api = ApiStop::Stopped { component: id(API), generation: 1, out: true, since: at("20:09:00") };
        s.memory.wrong_data = Some(wrong_data(api));
    }),
    ("observe mode", "etcd", |s| {
        s.policy.mode = Mode::Observe;
        s.inhibitors.push(Inhibitor::Observe);
    }),
    ("the kubelet ends at its start", "kube-scheduler", |s| {
        let crash_loop = CrashLoop {
            times: 7,
            since: Some(at("20:08:00")),
            status: Some("1/FAILURE".to_owned()),
            reason: Some("failed to parse kubelet flag: unknown flag: --network-plugin".to_owned()),
            changed: Some(("/var/lib/kubelet/kubeadm-flags.env".into(), at("20:07:58"))),
            next_step:
                "remove --network-plugin from /var/lib/kubelet/kubeadm-flags.env, then `systemctl restart kubelet`"
                    .to_owned(),
        };
        s.judgement.kubelet.verdict = Verdict::Down;
        s.judgement.kubelet.next_step = Some(crash_loop.next_step.clone());
        s.judgement.kubelet.crash_loop = Some(crash_loop);
    }),
    ("no agent", "etcd", |s| s.agent.process = Process::Stopped),
    ("snapshots here and in object storage", "etcd", |s| {
        s.features.snapshots = Some(crate::model::Snapshots { remote: Some(remote()), ..snapshots() });
    }),
    ("no snapshot yet", "etcd", |s| {
        s.features.snapshots = Some(crate::model::Snapshots { newest: None, failed: None, ..snapshots() });
    }),
    ("no component is known", "etcd", |s| s.memory.components.clear()),
];

/// Every situation with its name and component.
pub(super) fn scenes() -> impl Iterator<Item = (&'static str, &'static str, Scene)> {
    ALL.iter().map(|(name, component, change)| {
        let mut scene = Scene::new();
        change(&mut scene);
        (*name, *component, scene)
    })
}

/// The one of this name.
pub(super) fn scene(name: &str) -> Scene {
    let found = scenes().find(|(called, ..)| *called == name);
    found.unwrap_or_else(|| panic!("no situation is called {name:?}")).2
}

fn bad(scene: &mut Scene, name: &str, verdict: Verdict, evidence: &str) {
    let assessment = scene.assessment(name);
    (assessment.health, assessment.since, assessment.evidence) =
        (verdict.into(), at("20:09:00"), vec![evidence.to_owned()]);
}

fn adopting(scene: &mut Scene, name: &str) {
    scene.record(name).state = ComponentState::Adopting { candidate: 1, healthy: Duration::from_secs(37) };
    scene.record(name).generations.insert(1, generation(name, 1, Trust::Candidate));
}

fn missing(scene: &mut Scene, name: &str, how: Gone) {
    scene.record(name).state =
        ComponentState::Missing { good: 1, how, since: Timestamp::UNIX_EPOCH, age: Duration::from_secs(20) };
}

fn stalled(scene: &mut Scene) {
    bad(scene, "etcd", Verdict::Stalled, "it took the connection and did not answer within 2 s");
    let process = Stall { container: "c1".to_owned(), at: ProcessActivity::Stopped };
    scene.assessment("etcd").health = Health::Stalled { process: Some(process) };
}

fn held(scene: &mut Scene) {
    scene.record(API).state = ComponentState::Held(Held {
        over: Some(1),
        good: Some(1),
        why: "4 actions within the hour did not help".to_owned(),
        next_step: "look at `crictl logs`, then `lastgood resume kube-apiserver`".to_owned(),
        until: Until::Person,
    });
}

fn paused(scene: &mut Scene) {
    let (until, reason) = (at("20:35:30"), "upgrade".to_owned());
    scene.memory.pause = Some(Pause { until, reason: reason.clone(), warned: false });
    scene.inhibitors.push(Inhibitor::Paused { until, reason });
}

fn pinned(scene: &mut Scene) {
    let record = scene.record("etcd");
    record.generations.insert(2, generation("etcd", 2, good()));
    record.state = ComponentState::Steady { good: 2 };
    record.deployed = Some(Deployed { digest: digest("etcd", 2), changed: at("20:08:00") });
    record.pinned = Some(Pin { generation: 1, reason: "audited".to_owned(), since: at("20:09:00") });
}

fn wrong_data(api: ApiStop) -> WrongData {
    let serves = r#"{"cluster":1,"member":2,"revision":3,"term":2,"at":"2026-11-22T20:08:00Z","version":"3.5.9"}"#;
    WrongData {
        etcd: id("etcd"),
        kind: WrongDataKind::Empty,
        since: at("20:08:00"),
        serves: serde_json::from_str(serves).unwrap(),
        api,
    }
}
