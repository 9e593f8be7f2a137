//! Golden texts of the most important situations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::input::{Agent, Process, ReportInput};
use super::status::{Overall, ProofView, Status};
use super::{Explanation, Format, History, Paint, Planned, systemd_line};
use crate::model::event::EventKind;
use crate::model::format::NewerFile;
use crate::model::generation::Stored;
use crate::model::inhibitor::Inhibitor;
use crate::model::memory::{Pause, Pin, Record, Stands};
use crate::model::notice::{NodeNotice, Notice};
use crate::model::observation::Gone;
use crate::model::slot::{Held, Nudged, Probation, Rollback, Stage, Stood, Until, Way, Wish};
use crate::model::verdict::{Cause, Pursuit, Reads, Standstill};
use crate::model::{
    Assessment, ComponentId, Decision, Digest, Event, Generation, Judgement, Memory, Policy, Proof, Request, Role,
    Slot, Standing, Verdict,
};

fn at(time: &str) -> Timestamp {
    format!("2026-11-22T{time}Z").parse().unwrap()
}

fn now() -> Timestamp {
    at("20:10:00")
}

fn id(name: &str) -> ComponentId {
    ComponentId::system(name)
}

fn generation(name: &str, number: u32, standing: Standing) -> Generation {
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
        standing,
        stored: Stored::Yes,
    }
}

fn digest(name: &str, number: u32) -> Digest {
    Digest::of(format!("{name} {number}").as_bytes())
}

fn good() -> Standing {
    let proof = Proof::Soak { seconds: 60, evidence: "livez answered".to_owned() };
    Standing::KnownGood { proof, since: at("20:01:00") }
}

fn kubeadm() -> Inhibitor {
    Inhibitor::Kubeadm { pid: 77, command: "kubeadm upgrade apply".to_owned() }
}

struct Scene {
    memory: Memory,
    judgement: Judgement,
    policy: Policy,
    agent: Agent,
    inhibitors: Vec<Inhibitor>,
    snapshots: Option<crate::model::Snapshots>,
    last: Vec<Event>,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            memory: Memory::default(),
            judgement: Judgement::default(),
            policy: Policy::default(),
            agent: Agent { process: Process::Running { pid: 812, since: at("20:00:00") }, version: "0.1.0".to_owned() },
            inhibitors: Vec::new(),
            snapshots: None,
            last: Vec::new(),
        };
        scene.memory.machine.node_name = "master-1".to_owned();
        // Not in the order of dependence, which the printers have to find.
        scene.add("kube-scheduler", Role::Scheduler);
        scene.add("kube-apiserver", Role::ApiServer);
        scene.add("etcd", Role::Etcd);
        scene
    }

    fn add(&mut self, name: &str, role: Role) {
        let record = Record {
            stands: Some(Stands { digest: digest(name, 1), changed: at("19:00:00") }),
            generations: BTreeMap::from([(1, generation(name, 1, good()))]),
            next_number: 2,
            last_served: Some(1),
            verdict: Some((Verdict::Healthy, at("20:00:10"))),
            ..Record::new(role, Slot::Steady { good: 1 })
        };
        self.memory.components.insert(id(name), record);
        let assessment = Assessment {
            role,
            verdict: Verdict::Healthy,
            since: at("20:00:10"),
            watched: Duration::from_secs(590),
            serving: true,
            evidence: vec!["livez answered within 3 ms".to_owned()],
            cause: None,
            crash: None,
            uid: Some("abc".to_owned()),
            reads: Reads::All,
            harms: None,
            address_in_use: false,
            standstill: None,
        };
        self.judgement.components.insert(id(name), assessment);
    }

    fn record(&mut self, name: &str) -> &mut Record {
        self.memory.components.get_mut(&id(name)).unwrap()
    }

    fn assessment(&mut self, name: &str) -> &mut Assessment {
        self.judgement.components.get_mut(&id(name)).unwrap()
    }

    /// A candidate stands.
    fn candidate(&mut self, name: &str) -> Probation {
        let record = self.record(name);
        record.generations.insert(2, generation(name, 2, Standing::Candidate));
        record.stands = Some(Stands { digest: digest(name, 2), changed: at("20:08:00") });
        Probation::begin(2, 1)
    }

    fn material(&self) -> ReportInput<'_> {
        ReportInput {
            now: now(),
            memory: &self.memory,
            judgement: matches!(self.agent.process, Process::Running { .. }).then_some(&self.judgement),
            agent: &self.agent,
            policy: &self.policy,
            inhibitors: &self.inhibitors,
            snapshots: self.snapshots.as_ref(),
            figures: None,
            last: &self.last,
        }
    }

    fn status(&self) -> Status {
        Status::new(self.material())
    }

    fn text(&self) -> String {
        self.status().text(Paint::Plain)
    }

    fn next(&self, name: &str) -> String {
        Explanation::new(self.material(), &id(name), Vec::new()).unwrap().next
    }

    fn note(&self, name: &str) -> String {
        self.status().components.into_iter().find(|c| c.component == id(name)).unwrap().note
    }
}

#[test]
fn a_good_node() {
    let scene = Scene::new();
    assert_eq!(
        scene.text(),
        "\
master-1: Good: 3 components are healthy and known-good
agent: lastgood 0.1.0 acts; pid 812, up 10m

COMPONENT       VERDICT  FOR    STATE   GENERATION  KNOWN-GOOD  NOTE
etcd            Healthy  9m50s  Steady  1           1
kube-apiserver  Healthy  9m50s  Steady  1           1
kube-scheduler  Healthy  9m50s  Steady  1           1
"
    );
    assert!(scene.status().is_well());
    assert_eq!(systemd_line(&scene.status()), "3 components are healthy and known-good");
}

#[test]
fn a_candidate_on_probation_that_waits_for_etcd() {
    let mut scene = Scene::new();
    let mut probation = scene.candidate("kube-apiserver");
    probation.age = Duration::from_secs(100);
    probation.crashes = 1;
    scene.record("kube-apiserver").slot = Slot::Probation(probation);
    let cause = Cause::Component { id: id("etcd"), verdict: Verdict::Down };
    let assessment = scene.assessment("kube-apiserver");
    (assessment.verdict, assessment.cause, assessment.since) = (Verdict::Failing, Some(cause), at("20:09:00"));
    let assessment = scene.assessment("etcd");
    (assessment.verdict, assessment.since) = (Verdict::Down, at("20:08:50"));
    assessment.evidence = vec!["its container exited with code 1".to_owned()];
    assert_eq!(
        scene.text(),
        "\
master-1: Ailing: not healthy: etcd, kube-apiserver
agent: lastgood 0.1.0 acts; pid 812, up 10m

COMPONENT       VERDICT  FOR    STATE      GENERATION  KNOWN-GOOD  NOTE
etcd            Down     1m10s  Steady     1           1           its container exited with code 1
kube-apiserver  Failing  1m     Probation  2           1           \
on probation: 3m20s left to become healthy, 1 crash; waiting: etcd is Down
kube-scheduler  Healthy  9m50s  Steady     1           1
"
    );
    assert_eq!(
        scene.next("kube-apiserver"),
        "generation 2 becomes known-good after another 5m of health; generation 1 is deployed when it is not healthy \
         within 3m20s, or after 2 crashes by its own fault. Its faults do not count while etcd is Down."
    );
    assert_eq!(
        systemd_line(&scene.status()),
        "not healthy: etcd, kube-apiserver (1 of 3 healthy); kube-apiserver: generation 2 on probation"
    );
    assert!(!scene.status().is_well());
}

#[test]
fn what_hangs_is_restarted_by_us_and_by_the_kubelet_where_we_leave_it() {
    let mut scene = Scene::new();
    let assessment = scene.assessment("etcd");
    assessment.verdict = Verdict::Stalled;
    assessment.standstill = Some(Standstill { container: "c1".to_owned(), at: Pursuit::Stopped });
    let ours = "its container is stopped when it has been stalled for 5s, and the kubelet starts another; it has not \
                changed, so generation 1 stays";
    assert_eq!(scene.next("etcd"), ours);
    scene.inhibitors.push(kubeadm());
    let held = "kubeadm is running (pid 77: kubeadm upgrade apply); next: wait until it ends";
    assert_eq!(scene.next("etcd"), format!("nothing: {held}. Otherwise: {ours}"));
    scene.record("etcd").notices.insert(Notice::StallLeft, "it is stalled and is not restarted: …".to_owned());
    assert!(scene.next("etcd").starts_with("the kubelet restarts it"), "{}", scene.next("etcd"));
}

#[test]
fn the_restarts_of_what_runs_the_components_are_told_with_what_is_left_of_them() {
    let mut scene = Scene::new();
    scene.policy.kubelet_restarts_per_hour = 3;
    scene.policy.runtime_restarts_per_hour = 1;
    scene.memory.kubelet_restarts = [Duration::ZERO].into();
    scene.memory.runtime_restarts = [Duration::ZERO, Duration::ZERO].into();
    let restarts = scene.status().restarts;
    assert_eq!((restarts.kubelet.spent, restarts.kubelet.left), (1, 2));
    assert_eq!((restarts.runtime.spent, restarts.runtime.left), (2, 0), "a limit that was lowered meanwhile");
}

#[test]
fn held_with_its_next_step_paused_and_with_actions_and_notices() {
    let mut scene = Scene::new();
    scene.record("kube-apiserver").slot = Slot::Held(Held {
        over: Some(1),
        good: Some(1),
        why: "4 actions per hour did not help".to_owned(),
        next_step: "look at `crictl logs`, then `lastgood resume kube-apiserver`".to_owned(),
        until: Until::Person,
    });
    scene.record("etcd").notices.insert(Notice::Image, "image etcd:3.6 is not on the node".to_owned());
    scene.memory.notices.insert(NodeNotice::Directory, "/etc/kubernetes/manifests/a.bak is taken for a pod".to_owned());
    scene.memory.pause = Some(Pause { until: at("20:35:30"), reason: "upgrade".to_owned(), warned: false });
    scene.inhibitors.push(kubeadm());
    scene.last.push(Event {
        at: at("20:05:00"),
        kind: EventKind::Action,
        component: Some(id("kube-apiserver")),
        generation: Some(1),
        from: None,
        to: "put generation 1 in place as kube-apiserver.yaml".to_owned(),
        because: "generation 2 crashed 2 times".to_owned(),
    });
    assert_eq!(
        scene.text(),
        "\
master-1: Held: waiting for the operator: kube-apiserver
agent: lastgood 0.1.0 acts; pid 812, up 10m
paused: 25m30s to go, until 2026-11-22T20:35:30Z: upgrade
not acting: kubeadm is running (pid 77: kubeadm upgrade apply)

COMPONENT       VERDICT  FOR    STATE   GENERATION  KNOWN-GOOD  NOTE
etcd            Healthy  9m50s  Steady  1           1           image etcd:3.6 is not on the node
kube-apiserver  Healthy  9m50s  Held    1           1           held
kube-scheduler  Healthy  9m50s  Steady  1           1

Held:
  kube-apiserver: 4 actions per hour did not help
    next step: look at `crictl logs`, then `lastgood resume kube-apiserver`

Notices:
  /etc/kubernetes/manifests/a.bak is taken for a pod
  etcd: image etcd:3.6 is not on the node

Lately:
  2026-11-22T20:05:00Z kube-apiserver: put generation 1 in place as kube-apiserver.yaml, because generation 2 crashed 2 \
times
"
    );
}

#[test]
fn adopted_unproven_and_broken_are_told_apart() {
    let mut scene = Scene::new();
    for name in ["etcd", "kube-apiserver", "kube-scheduler"] {
        scene.record(name).slot = Slot::Adopting { candidate: 1, healthy: Duration::from_secs(37) };
        scene.record(name).generations.insert(1, generation(name, 1, Standing::Candidate));
    }
    scene.assessment("kube-apiserver").reads =
        Reads::Other { why: "the process is older than /etc/kubernetes/audit.yaml".to_owned() };
    let scheduler = scene.assessment("kube-scheduler");
    scheduler.verdict = Verdict::Failing;
    scheduler.evidence = vec!["healthz answered 500".to_owned()];
    assert_eq!(scene.note("etcd"), "adopted after another 23s of health");
    assert_eq!(scene.note("kube-apiserver"), "unproven: the process is older than /etc/kubernetes/audit.yaml");
    assert_eq!(scene.note("kube-scheduler"), "broken, and no known-good generation yet: healthz answered 500");
    let proofs: Vec<ProofView> = scene.status().components.iter().map(|c| c.proof).collect();
    assert_eq!(proofs, [ProofView::OnTrial, ProofView::Unproven, ProofView::OnTrial]);
    assert_eq!(scene.status().overall, Overall::Ailing);
    assert!(scene.status().components.iter().all(|c| c.known_good.is_none()));
}

#[test]
fn what_is_missing_says_whether_it_comes_back() {
    let mut scene = Scene::new();
    let missing = |how| Slot::Missing { good: 1, how, since: Timestamp::UNIX_EPOCH, age: Duration::from_secs(20) };
    scene.record("kube-scheduler").slot = missing(Gone::Deleted);
    assert_eq!(scene.note("kube-scheduler"), "deleted; deployed again in 40s");
    scene.record("etcd").slot = missing(Gone::Deleted);
    assert_eq!(scene.note("kube-scheduler"), "deleted; deployed again in 9m40s", "two at once");
    scene.record("etcd").slot = missing(Gone::Moved { to: Some("/root/etcd.yaml".into()) });
    assert_eq!(scene.note("etcd"), "moved to /root/etcd.yaml; left alone");
    scene.record("etcd").slot = missing(Gone::Moved { to: None });
    assert_eq!(scene.note("etcd"), "moved out of sight, to another mount; left alone");
    assert!(scene.next("etcd").starts_with("nothing: it was moved out of sight, to another mount; "));
    scene.record("kube-scheduler").slot = Slot::Steady { good: 1 };
    let text = "kubeadm had moved it".to_owned();
    scene.record("etcd").notices.insert(Notice::Interrupted, text);
    assert_eq!(scene.note("etcd"), "an upgrade was interrupted while it was absent; deployed again in 40s");
    assert!(scene.next("etcd").contains("is deployed in 40s; `lastgood pause` prevents"), "{}", scene.next("etcd"));
    scene.record("kube-scheduler").slot = missing(Gone::Deleted);
    scene.inhibitors.push(Inhibitor::Paused { until: at("21:00:00"), reason: String::new() });
    assert!(
        scene.next("kube-scheduler").starts_with(
            "nothing: paused until 2026-11-22T21:00:00Z; next: `lastgood resume` ends the pause. Otherwise: generation \
             1 is deployed in"
        ),
        "{}",
        scene.next("kube-scheduler")
    );
}

#[test]
fn without_an_agent_it_is_what_was_known_last() {
    let mut scene = Scene::new();
    scene.agent.process = Process::Stopped;
    let text = scene.text();
    assert!(text.starts_with("master-1: Unknown: the agent does not run; this is its last known state\n"), "{text}");
    assert!(text.contains("etcd            Healthy  9m50s  Steady"), "{text}");
    assert!(!scene.status().is_well());
}

#[test]
fn machines_get_the_same_value_and_it_comes_back() {
    let mut scene = Scene::new();
    let mut probation = scene.candidate("etcd");
    probation.healthy = Duration::from_secs(60);
    scene.record("etcd").slot = Slot::Probation(probation);
    let status = scene.status();
    let json = Format::Json.print(&status, |_| String::new()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["components"][0]["component"], "etcd");
    assert_eq!(value["components"][0]["trial"]["soak_seconds"], 300);
    assert_eq!(value["components"][0]["trial"]["healthy_seconds"], 60);
    assert_eq!(value["overall"], "changing");
    let yaml = Format::Yaml.print(&status, |_| String::new()).unwrap();
    assert_eq!(serde_yaml::from_str::<Status>(&yaml).unwrap(), status);
}

#[test]
fn colours_are_for_terminals_alone() {
    let status = Scene::new().status();
    assert!(!status.text(Paint::Plain).contains('\x1b'));
    assert!(status.text(Paint::Colours).contains("\x1b[1;32mGood\x1b[0m"));
}

#[test]
fn explain_and_history_show_the_evidence() {
    let mut scene = Scene::new();
    let quarantined = Standing::Quarantined { why: "2 crashes: unknown flag".to_owned(), since: at("20:05:00") };
    scene.record("kube-apiserver").generations.insert(2, generation("kube-apiserver", 2, quarantined));
    let event = Event {
        at: at("20:05:00"),
        kind: EventKind::Generation,
        component: Some(id("kube-apiserver")),
        generation: Some(2),
        from: Some("candidate".to_owned()),
        to: "quarantined".to_owned(),
        because: "2 crashes: unknown flag".to_owned(),
    };
    let explanation = Explanation::new(scene.material(), &id("kube-apiserver"), vec![event.clone()]).unwrap();
    assert_eq!(
        explanation.text(now()),
        "\
kube-apiserver: Healthy for 9m50s; Steady(generation 1)
  next: nothing: it is healthy and known-good
  process: the process has loaded the deployed manifest and its files

Evidence:
  livez answered within 3 ms

GENERATION  STANDING     NOW       FIRST SEEN            IMAGE                                   WHY
2           quarantined            2026-11-22T20:00:00Z  registry.k8s.io/kube-apiserver:v1.36.2  2 crashes: unknown flag
1           known-good   deployed  2026-11-22T20:00:00Z  registry.k8s.io/kube-apiserver:v1.36.1  60 s of health: livez answered

Lately:
  2026-11-22T20:05:00Z kube-apiserver: candidate -> quarantined, because 2 crashes: unknown flag
"
    );
    let history = History::new(&scene.memory, &id("kube-apiserver"), vec![event]);
    assert!(history.text().contains("\nDecided:\n  2026-11-22T20:05:00Z kube-apiserver: candidate -> quarantined"));
    assert_eq!(Explanation::new(scene.material(), &id("nobody"), Vec::new()), None);
}

#[test]
fn a_plan_shows_steps_effects_and_how_long_it_is_away() {
    let mut scene = Scene::new();
    let before = scene.memory.clone();
    scene.candidate("etcd");
    scene.record("etcd").slot = Slot::RollingBack(Rollback {
        from: Some(2),
        to: 1,
        why: "asked for".to_owned(),
        wish: Wish::Operator,
        way: Way::InPlace,
        intruders: vec!["etcd.yaml.bak".to_owned()],
        stage: Stage::Parking,
        in_stage: Duration::ZERO,
        crashes: 0,
        nudged: Nudged::NotYet,
        stood: Stood::NotYet,
        vacated: None,
    });
    let decision = Decision { memory: scene.memory.clone(), plan: Vec::new(), events: Vec::new() };
    let request = Request::Rollback { component: id("etcd"), to: None };
    let planned = Planned::new(&request, &before, &decision);
    assert_eq!(
        planned.text(),
        "  1. take kube-apiserver's manifest out and wait for its pod to end
  2. move etcd.yaml.bak out of the manifest directory
  3. put generation 1 in place as etcd.yaml, by one rename
  4. wait for etcd to serve
  5. put kube-apiserver's manifest back
  etcd's pod is stopped and started again from generation 1 in place of generation 2.
  etcd is stopped for about 13 to 35 s.
  kube-apiserver is stopped until etcd serves again.
  kube-controller-manager and kube-scheduler restart with it.
"
    );
    assert_eq!(planned.away_seconds, Some((13, 35)));
    let pause = Request::Pause { seconds: 5400, reason: String::new() };
    let planned = Planned::new(&pause, &before, &decision);
    assert_eq!(planned.text(), "  lastgood continues to observe and changes nothing for 1h30m.\n");
}

#[test]
fn a_pinned_generation_is_shown_wherever_generations_are() {
    let mut scene = Scene::new();
    let record = scene.record("etcd");
    record.generations.insert(2, generation("etcd", 2, good()));
    record.slot = Slot::Steady { good: 2 };
    record.stands = Some(Stands { digest: digest("etcd", 2), changed: at("20:08:00") });
    record.pinned = Some(Pin { generation: 1, reason: "audited".to_owned(), since: at("20:09:00") });
    assert!(
        scene.text().contains("etcd            Healthy  9m50s  Steady  2           1 (pinned)\n"),
        "{}",
        scene.text()
    );
    let explanation = Explanation::new(scene.material(), &id("etcd"), Vec::new()).unwrap();
    let text = explanation.text(now());
    for line in [
        "next: nothing: it is healthy and known-good; a failed change is rolled back to generation 1, which is pinned\n",
        "pinned: generation 1, by the operator, since 2026-11-22T20:09:00Z: audited\n",
        "\n1           known-good, pinned  rollback target",
        "\n2           known-good          deployed",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let json = serde_json::to_value(scene.status()).unwrap();
    assert_eq!(json["components"][0]["pinned"]["generation"], 1);
    assert_eq!(json["components"][0]["known_good"], 1);
    assert!(json["components"][1].get("pinned").is_none());
    // The pinned one is itself on probation: the other one is the rollback target.
    scene.record("etcd").slot = Slot::Probation(Probation::begin(1, 2));
    assert!(scene.next("etcd").contains("generation 2 is deployed"), "{}", scene.next("etcd"));
}

#[test]
fn a_plan_for_a_persons_word_on_a_generation() {
    let mut scene = Scene::new();
    let before = scene.memory.clone();
    scene.record("etcd").pinned = Some(Pin { generation: 1, reason: String::new(), since: now() });
    let pinned = scene.memory.clone();
    let planned = |request: Request, before: &Memory, after: &Memory| {
        let decision = Decision { memory: after.clone(), plan: Vec::new(), events: Vec::new() };
        Planned::new(&request, before, &decision)
    };
    let pin = Request::Pin { component: id("etcd"), number: None, reason: String::new() };
    assert_eq!(
        planned(pin, &before, &pinned).text(),
        "  a failed change of etcd is rolled back to generation 1, until `lastgood unpin etcd`.
  generation 1 is never removed, and inactive-manifests contains it.
"
    );
    let unpin = Request::Unpin { component: id("etcd") };
    assert_eq!(
        planned(unpin, &pinned, &before).text(),
        "  a failed change of etcd is rolled back to generation 1, and later to the newest known-good one.\n"
    );
    let checkpoint = Request::Checkpoint { component: id("etcd"), reason: String::new() };
    assert!(
        planned(checkpoint, &pinned, &pinned).text().contains("still rolled back to generation 1, which is pinned")
    );

    scene.candidate("etcd");
    let before = scene.memory.clone();
    let why = "the operator says so".to_owned();
    scene.record("etcd").generations.insert(2, generation("etcd", 2, Standing::Quarantined { why, since: now() }));
    let quarantine = Request::Quarantine { component: id("etcd"), number: None, reason: String::new() };
    let marked = planned(quarantine.clone(), &before, &scene.memory);
    assert!(!marked.replaces());
    let told = "generation 2 of etcd is quarantined: it is rolled back immediately if it is deployed again, until \
                `lastgood release etcd`";
    assert_eq!(marked.text(), format!("  {told}.\n"));
    scene.record("etcd").slot = Slot::RollingBack(Rollback {
        from: Some(2),
        to: 1,
        why: "asked for".to_owned(),
        wish: Wish::Operator,
        way: Way::InPlace,
        intruders: Vec::new(),
        stage: Stage::PuttingIn,
        in_stage: Duration::ZERO,
        crashes: 0,
        nudged: Nudged::NotYet,
        stood: Stood::NotYet,
        vacated: None,
    });
    let reverted = planned(quarantine, &before, &scene.memory);
    assert!(reverted.replaces());
    assert!(reverted.text().contains(told), "{}", reverted.text());
    assert!(reverted.text().contains("from generation 1 in place of generation 2"), "{}", reverted.text());
}

#[test]
fn the_systemd_line_is_one_line_without_a_clock() {
    let mut scene = Scene::new();
    let mut probation = scene.candidate("etcd");
    scene.record("etcd").slot = Slot::Probation(probation.clone());
    let first = systemd_line(&scene.status());
    probation.age = Duration::from_secs(5);
    scene.record("etcd").slot = Slot::Probation(probation);
    assert_eq!(first, systemd_line(&scene.status()), "it would be sent at every pass");
    scene.inhibitors.push(Inhibitor::ReadOnly { why: "read-only\nfile system".to_owned() });
    assert!(!systemd_line(&scene.status()).contains('\n'));
}

#[test]
fn a_newer_lastgoods_file_is_named_wherever_a_person_looks_and_counted_for_a_machine() {
    let mut scene = Scene::new();
    let file = NewerFile { path: "/var/lib/lastgood/memory.json".into(), version: 9, known: 2 };
    scene.inhibitors.push(Inhibitor::NewerState { files: vec![file.clone()] });
    let status = scene.status();
    assert_eq!((status.overall, status.is_well()), (Overall::Held, false));
    assert_eq!(status.holds.len(), 1);
    let shown = file.to_string();
    assert!(["/var/lib/lastgood/memory.json", "9", "2"].iter().all(|part| shown.contains(part)), "{shown}");
    for said in [scene.text(), systemd_line(&status)] {
        assert!(said.contains(&shown), "{said}");
    }
    assert!(status.metrics().contains("\nlastgood_holds 1\n"));
}

#[test]
fn the_status_shows_the_newest_snapshot() {
    use crate::model::snapshot::{Failed, Newest};
    let mut scene = Scene::new();
    assert_eq!(scene.status().snapshots, None, "no etcd of its own");
    let at = now() - Duration::from_secs(720);
    let kept = crate::model::Snapshots {
        enabled: true,
        interval: Duration::from_secs(1800),
        directory: "/var/lib/lastgood/snapshots".into(),
        newest: Some(Newest {
            file: "a.db".into(),
            at,
            revision: 123,
            bytes: 5 << 20,
            verified: at,
            bundle: Err("none".into()),
        }),
        verified: 14,
        bytes: 70 << 20,
        unverified: vec![("b.db".into(), "it is torn".into())],
        failed: Some(Failed { at, times: 1, why: "no room".into() }),
        since: at,
        unreadable: None,
        remote: None,
    };
    scene.snapshots = Some(kept);
    let text = scene.text();
    let line = "snapshots: newest 12m old, revision 123, verified; 14 kept, 70 MiB; 1 not verified; the last attempt \
                failed: no room\n";
    assert!(text.contains(line), "{text}");
    let json = serde_json::to_value(scene.status()).unwrap();
    assert_eq!(json["snapshots"]["newest"]["age_seconds"], 720);
    assert_eq!(json["snapshots"]["newest"]["revision"], 123);
    assert_eq!(json["snapshots"]["late"], false);
    scene.snapshots.as_mut().unwrap().newest = None;
    assert!(scene.text().contains("snapshots: none is verified yet"));
    assert!(!scene.text().contains("remote snapshots"));
    let failing = crate::model::snapshot::Failing { since: at, at, times: 2, why: "SlowDown".into() };
    let newest =
        Some(crate::model::snapshot::Sent { file: "a.db".into(), at, revision: 120, bytes: 5 << 20, verified: at });
    let remote = crate::model::snapshot::Remote::unseen("s3://backups".into());
    let remote = crate::model::snapshot::Remote { newest, verified: 3, failing: Some(failing), ..remote };
    scene.snapshots.as_mut().unwrap().remote = Some(remote);
    let line = format!(
        "remote snapshots: s3://backups: newest 12m old, revision 120; 3 verified; failing since {at:.0}: SlowDown\n"
    );
    assert!(scene.text().contains(&line), "{}", scene.text());
    let json = serde_json::to_value(scene.status()).unwrap();
    assert_eq!(json["snapshots"]["remote"]["behind"], false);
}
