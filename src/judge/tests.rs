//! Situations of one component and of several, each with the expected verdict and cause.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::model::component::HostService;
use crate::model::config_files::generation_digest;
use crate::model::environment::{Accepts, Certificate, Disk, DiskUse, Endpoint, Location, User};
use crate::model::etcd::{Alarm, AlarmKind, Member, MemberStatus, Metrics, SLOW_FSYNC};
use crate::model::generation::Stored;
use crate::model::member_conflict::{ConflictKind, MemberConflict};
use crate::model::memory::Record;
use crate::model::observation::*;
use crate::model::reading::{Probe, Question, Symptom, SymptomKind};
use crate::model::store_fault::{Database, FaultKind, StoreFault};
use crate::model::verdict::{Assessment, Cause, Health, ProcessActivity, Reads};
use crate::model::{
    ClosureFile, ComponentState, Digest, EtcdStatus, FileKind, FileState, Generation, Lease, LeaseLook, Manifest,
    Moment, Reading, Role, Trust,
};

const NOW: i64 = 1_800_000_000;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn manifest(name: &str) -> String {
    format!(
        "--- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: kube-system}}, spec: {{hostNetwork: true, containers: \
         [{{name: {name}, image: i, command: [{name}, --secure-port=1000, '--etcd-servers=https://127.0.0.1:2379', \
         '--listen-client-urls=https://127.0.0.1:2379'], startupProbe: {{failureThreshold: 24, periodSeconds: 10}}}}]}}}}"
    )
}

fn file(name: &str, changed: i64) -> ManifestFile {
    let parsed = Manifest::parse(manifest(name).as_bytes().into()).unwrap();
    let digest = generation_digest(parsed.digest, &[]);
    let name = format!("{name}.yaml");
    ManifestFile {
        name,
        content: Ok(parsed),
        closure: vec![],
        digest,
        changed: at(changed),
        uid: 0,
        settled: Settled::Yes,
    }
}

/// Manifests changed an hour ago; nothing else is seen yet.
pub(super) fn nothing_runs(names: &[&str]) -> Observation {
    let files = names.iter().map(|name| (format!("{name}.yaml"), Arc::new(file(name, -3600)))).collect();
    Observation {
        at: Moment { wall: at(0), boot: Duration::from_secs(10_000) },
        manifests: Directory::Present { files, gone: BTreeMap::new() },
        inactive: BTreeMap::new(),
        files: BTreeMap::new(),
        keys_changed: BTreeMap::new(),
        runtime: Ok(vec![]),
        runtime_work: None,
        probes: BTreeMap::new(),
        leases: BTreeMap::new(),
        etcd: BTreeMap::new(),
        growth: BTreeMap::new(),
        notices: Vec::new(),
        images: BTreeMap::new(),
        kubelet: Kubelet {
            process: Some(KubeletProcess {
                pid: 1,
                started: Duration::ZERO,
                changed_since: None,
                heard_api: HeardApi::Yes,
                state: ProcessState::Runs,
            }),
            healthz: Reading::Good,
            answered: Duration::ZERO,
            waiting: BTreeMap::new(),
            log: None,
            changed: None,
        },
        node: Node::default(),
    }
}

fn container(seen: &mut Observation, name: &str, state: ContainerState) {
    let run = PodRun {
        component: ComponentId::system(name),
        uid: "uid".to_owned(),
        sandbox: "sandbox".to_owned(),
        created: at(-3000),
        ready: SandboxState::Ready,
        containers: vec![ContainerRun {
            id: format!("{name}-0"),
            name: name.to_owned(),
            attempt: 0,
            image: "i".to_owned(),
            image_id: String::new(),
            state,
            command_line: None,
            log_tail: None,
            work: None,
        }],
    };
    seen.runtime.as_mut().unwrap().push(run);
}

pub(super) fn running(seen: &mut Observation, name: &str, since: i64) {
    container(seen, name, ContainerState::Running { started: at(since) });
}

fn answers(seen: &mut Observation, name: &str, questions: &[(Question, Reading)]) {
    let probes = questions.iter().map(|(question, reading)| Probe {
        question: *question,
        target: format!("{question:?}"),
        reading: reading.clone(),
        at: seen.at.boot,
        took: Duration::ZERO,
    });
    seen.probes.insert(ComponentId::system(name), probes.collect());
}

fn bad(kind: SymptomKind) -> Reading {
    Reading::Bad(Symptom::new(kind, "as it was told"))
}

fn cannot(kind: SymptomKind) -> Reading {
    Reading::CannotTell(Symptom::new(kind, "as it was told"))
}

/// Judges the same picture for some passes, two seconds apart, each with a new answer.
fn passes(seen: &Observation, memory: &Memory, history: History, passes: u64) -> (Judgement, History) {
    let mut history = history;
    let mut judgement = Judgement::default();
    for pass in 0..passes {
        let mut seen = seen.clone();
        let later = Duration::from_secs(2 * pass);
        seen.at.boot += later;
        seen.probes.values_mut().flatten().for_each(|probe| probe.at += later);
        let tick = Tick { now: seen.at, credit: Duration::from_secs(2) };
        (judgement, history) = judge(tick, &seen, memory, history, &Policy::default());
    }
    (judgement, history)
}

pub(super) fn judged(seen: &Observation, name: &str) -> Assessment {
    let (judgement, _) = passes(seen, &Memory::default(), History::default(), 3);
    judgement.components[&ComponentId::system(name)].clone()
}

#[test]
fn what_a_running_containers_answers_mean() {
    use Question::{AsDependent, Live, Quorum, Ready};
    use SymptomKind::{ClusterWide, NoMeans, Refused, TimedOut, Unauthorized, Unhealthy};
    const OLD: i64 = -2000;
    const YOUNG: i64 = -100;
    let good = || Reading::Good;
    type Row = (&'static str, i64, Vec<(Question, Reading)>, Verdict, bool);
    let rows: [Row; 14] = [
        ("answers live and ready", OLD, vec![(Live, good()), (Ready, good())], Verdict::Healthy, true),
        (
            "is alive and not ready, past its start-up",
            OLD,
            vec![(Live, good()), (Ready, bad(Unhealthy))],
            Verdict::Failing,
            false,
        ),
        (
            "is alive and not ready, within its start-up",
            YOUNG,
            vec![(Live, good()), (Ready, bad(Unhealthy))],
            Verdict::Starting,
            false,
        ),
        ("refuses connections, within its start-up", YOUNG, vec![(Live, bad(Refused))], Verdict::Starting, false),
        ("refuses connections, past its start-up", OLD, vec![(Live, bad(Refused))], Verdict::Failing, false),
        ("takes connections and answers nobody", OLD, vec![(Live, bad(TimedOut))], Verdict::Stalled, false),
        ("answers 500", OLD, vec![(Live, bad(Unhealthy))], Verdict::Failing, false),
        (
            "n6: answers 401: alive, and no more can be told",
            OLD,
            vec![(Live, cannot(Unauthorized))],
            Verdict::Unknown,
            false,
        ),
        ("cannot be asked at all and runs", OLD, vec![(Live, cannot(NoMeans))], Verdict::Healthy, true),
        ("cannot be asked at all and has just started", -5, vec![(Live, cannot(NoMeans))], Verdict::Starting, false),
        ("was not asked yet", OLD, vec![], Verdict::Starting, false),
        (
            "answers itself while the cluster does not",
            OLD,
            vec![(Live, good()), (Quorum, bad(ClusterWide))],
            Verdict::Failing,
            false,
        ),
        (
            "q13: does not serve its dependents",
            OLD,
            vec![(Live, good()), (AsDependent, bad(Refused))],
            Verdict::Failing,
            false,
        ),
        (
            "answers, its quorum not asked",
            OLD,
            vec![(Live, good()), (Quorum, cannot(TimedOut))],
            Verdict::Healthy,
            true,
        ),
    ];
    for (situation, since, questions, verdict, serving) in rows {
        let mut seen = nothing_runs(&["etcd"]);
        running(&mut seen, "etcd", since);
        answers(&mut seen, "etcd", &questions);
        let found = judged(&seen, "etcd");
        assert_eq!(
            (found.verdict(), found.serving),
            (verdict, serving),
            "a process that {situation}: {:?}",
            found.evidence
        );
    }
}

#[test]
fn what_is_there_without_a_running_container() {
    let exited =
        |code| ContainerState::Exited { started: at(-2000), finished: at(-1), code, reason: "Error".to_owned() };
    let rows: [(&str, Option<ContainerState>, Verdict); 5] = [
        ("no pod", None, Verdict::Down),
        ("a container that exited", Some(exited(1)), Verdict::Down),
        ("a container that ended well", Some(exited(0)), Verdict::Down),
        ("a container not started yet", Some(ContainerState::Created), Verdict::Starting),
        ("a container the runtime cannot tell about", Some(ContainerState::Unknown), Verdict::Unknown),
    ];
    for (situation, state, verdict) in rows {
        let mut seen = nothing_runs(&["etcd"]);
        if let Some(state) = state {
            container(&mut seen, "etcd", state);
        }
        assert_eq!(judged(&seen, "etcd").verdict(), verdict, "{situation}");
    }
}

#[test]
fn one_bad_answer_does_not_unmake_healthy_and_two_do() {
    let mut seen = nothing_runs(&["etcd"]);
    running(&mut seen, "etcd", -2000);
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good)]);
    let (_, history) = passes(&seen, &Memory::default(), History::default(), 3);
    seen.at.boot += Duration::from_secs(100);
    answers(&mut seen, "etcd", &[(Question::Live, bad(SymptomKind::Refused))]);
    let id = ComponentId::system("etcd");
    let (once, _) = passes(&seen, &Memory::default(), history.clone(), 1);
    assert_eq!(once.verdict(&id), Verdict::Healthy);
    let (twice, _) = passes(&seen, &Memory::default(), history, 2);
    assert_eq!(twice.verdict(&id), Verdict::Failing);
}

#[test]
fn an_answer_given_before_the_process_started_says_nothing_of_it() {
    let mut seen = nothing_runs(&["etcd"]);
    running(&mut seen, "etcd", -10);
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good)]);
    seen.probes.values_mut().flatten().for_each(|probe| probe.at -= Duration::from_secs(20));
    let tick = Tick { now: seen.at, credit: Duration::ZERO };
    let (judgement, _) = judge(tick, &seen, &Memory::default(), History::default(), &Policy::default());
    assert_eq!(judgement.verdict(&ComponentId::system("etcd")), Verdict::Starting);
}

#[test]
fn n5_without_a_runtime_everything_is_unknown_though_it_answers() {
    let mut seen = nothing_runs(&["etcd"]);
    seen.runtime = Err(Symptom::new(SymptomKind::Refused, "connection refused"));
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good)]);
    let found = judged(&seen, "etcd");
    assert_eq!(found.verdict(), Verdict::Unknown);
    assert!(matches!(found.cause, Some(Cause::Runtime { .. })));
}

#[test]
fn what_lies_beneath_explains_what_lies_above() {
    let mut seen = nothing_runs(&["etcd", "kube-apiserver", "kube-scheduler"]);
    for name in ["kube-apiserver", "kube-scheduler"] {
        running(&mut seen, name, -2000);
        answers(&mut seen, name, &[(Question::Live, bad(SymptomKind::Unhealthy))]);
    }
    let cause_of = |seen: &Observation, name: &str| judged(seen, name).cause;
    let waits_for = |cause: Option<Cause>| match cause {
        Some(Cause::Component { id, .. }) => id.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(waits_for(cause_of(&seen, "kube-apiserver")), "etcd");
    assert_eq!(waits_for(cause_of(&seen, "kube-scheduler")), "kube-apiserver");
    running(&mut seen, "etcd", -2000);
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good)]);
    assert_eq!(cause_of(&seen, "kube-apiserver"), None, "a healthy etcd explains nothing");
    seen.kubelet.process = None;
    seen.runtime.as_mut().unwrap().retain(|run| run.component.name() == "etcd");
    assert!(matches!(cause_of(&seen, "kube-apiserver"), Some(Cause::Kubelet { .. })));
}

#[test]
fn n18_a_foreign_listener_explains_only_whom_it_hits() {
    let mut seen = nothing_runs(&["kube-apiserver"]);
    let foreign = Listener { pid: Some(7), program: "nc".to_owned(), container: None };
    seen.node.listeners.insert(1000, foreign);
    assert!(matches!(judged(&seen, "kube-apiserver").cause, Some(Cause::Port { port: 1000, .. })));
    let own =
        Listener { pid: Some(8), program: "kube-apiserver".to_owned(), container: Some("kube-apiserver-0".to_owned()) };
    seen.node.listeners.insert(1000, own);
    running(&mut seen, "kube-apiserver", -2000);
    answers(&mut seen, "kube-apiserver", &[(Question::Live, bad(SymptomKind::Unhealthy))]);
    assert_eq!(judged(&seen, "kube-apiserver").cause, None);
}

#[test]
fn q5_a_process_has_read_only_what_stood_before_it_started() {
    let rows: [(&str, i64, &str, Option<&str>, bool); 5] = [
        ("started after its files changed", -3000, "i", Some("etcd"), true),
        ("started before", -4000, "i", Some("etcd"), false),
        ("runs another image", -3000, "j", Some("etcd"), false),
        ("runs another command line", -3000, "i", Some("sh"), false),
        ("runs a command line that cannot be read", -3000, "i", None, true),
    ];
    for (situation, started, image, program, reads) in rows {
        let mut seen = nothing_runs(&["etcd"]);
        running(&mut seen, "etcd", started);
        seen.images.insert("i".to_owned(), ImagePresence::Present { id: "sha256:i".to_owned() });
        let wanted = Manifest::parse(manifest("etcd").as_bytes().into()).unwrap().command_line().unwrap();
        for container in seen.runtime.iter_mut().flatten().flat_map(|run| &mut run.containers) {
            container.image = image.to_owned();
            container.image_id = format!("sha256:{image}");
            container.command_line =
                program.map(|program| [program.to_owned()].into_iter().chain(wanted.iter().skip(1).cloned()).collect());
        }
        assert_eq!(judged(&seen, "etcd").reads == Reads::All, reads, "a process that {situation}");
    }
}

#[test]
fn what_started_before_the_clock_was_set_back_is_judged_all_the_same() {
    for (since, verdict) in [(1, Verdict::Starting), (3600, Verdict::Stalled)] {
        let mut seen = nothing_runs(&["kube-scheduler"]);
        running(&mut seen, "kube-scheduler", since);
        answers(&mut seen, "kube-scheduler", &[(Question::Live, bad(SymptomKind::TimedOut))]);
        assert_eq!(judged(&seen, "kube-scheduler").verdict(), verdict, "started {since} s after now");
    }
}

#[test]
fn only_exits_seen_to_happen_of_what_stands_are_crashes() {
    let id = ComponentId::system("etcd");
    let exited = |started| ContainerState::Exited {
        started: at(started),
        finished: at(-1),
        code: 1,
        reason: "Error".to_owned(),
    };
    // What was deployed before we looked is not held against it.
    let mut seen = nothing_runs(&["etcd"]);
    container(&mut seen, "etcd", exited(-2000));
    let (first, history) = passes(&seen, &Memory::default(), History::default(), 1);
    assert_eq!(first.components[&id].crash, None, "at first sight");
    // One more attempt is.
    seen.runtime.as_mut().unwrap()[0].containers[0].attempt = 1;
    let (next, history) = passes(&seen, &Memory::default(), history, 1);
    assert_eq!(next.components[&id].crash.as_ref().map(|crash| crash.count), Some(1));
    // The same exit is not counted twice.
    let (again, history) = passes(&seen, &Memory::default(), history, 2);
    assert_eq!(again.components[&id].crash, None);
    // Nor is that of a process older than what is deployed now.
    let run = &mut seen.runtime.as_mut().unwrap()[0];
    run.containers[0].attempt = 2;
    run.containers[0].state = exited(-9000);
    let (older, _) = passes(&seen, &Memory::default(), history, 1);
    assert_eq!(older.components[&id].crash, None, "of an older process");
    assert_eq!(older.components[&id].role, Role::Etcd);
}

#[test]
fn what_a_returning_pod_counted_in_earlier_sandboxes_is_no_crash_of_this_one() {
    let id = ComponentId::system("etcd");
    // Some pass saw nothing of it: the manifest was another.
    let mut seen = nothing_runs(&["etcd"]);
    let (_, history) = passes(&seen, &Memory::default(), History::default(), 1);
    container(&mut seen, "etcd", ContainerState::Running { started: at(-1) });
    let run = &mut seen.runtime.as_mut().unwrap()[0];
    run.created = at(-1);
    run.containers[0].attempt = 5;
    let (first, history) = passes(&seen, &Memory::default(), history, 1);
    assert_eq!(first.components[&id].crash, None, "the fifth start of the pod, the first of this sandbox");
    let exited = ContainerState::Exited { started: at(-1), finished: at(-1), code: 1, reason: "Error".to_owned() };
    seen.runtime.as_mut().unwrap()[0].containers[0].state = exited;
    let (next, _) = passes(&seen, &Memory::default(), history, 1);
    assert_eq!(next.components[&id].crash.as_ref().map(|crash| crash.count), Some(1), "its own end is one");
}

#[test]
fn crashes_are_counted_on_after_the_exited_container_was_removed() {
    let id = ComponentId::system("etcd");
    let mut seen = nothing_runs(&["etcd"]);
    container(&mut seen, "etcd", ContainerState::Running { started: at(-1) });
    seen.runtime.as_mut().unwrap()[0].containers[0].attempt = 5;
    let (_, history) = passes(&seen, &Memory::default(), History::default(), 1);
    // Attempts begin at 0 again; that one was seen to run, this one to have ended between two looks.
    for (attempt, exited, count) in [(0, false, None), (0, true, Some(1)), (1, true, Some(2))] {
        let mut seen = seen.clone();
        let exit = ContainerState::Exited { started: at(-1), finished: at(-1), code: 1, reason: "Error".to_owned() };
        let run = &mut seen.runtime.as_mut().unwrap()[0].containers[0];
        run.attempt = attempt;
        run.state = if exited { exit } else { ContainerState::Running { started: at(-1) } };
        let (first, history) = passes(&seen, &Memory::default(), history.clone(), 1);
        let crashes = |judged: &Judgement| judged.components[&id].crash.as_ref().map(|crash| crash.count);
        assert_eq!(crashes(&first), count, "attempt {attempt}, exited: {exited}");
        let (again, _) = passes(&seen, &Memory::default(), history, 1);
        assert_eq!(crashes(&again), None, "attempt {attempt}: not twice");
    }
}

#[test]
fn q4_changed_key_material_is_diagnosed_by_name() {
    let key = |digest: &[u8]| FileState::Present {
        kind: FileKind::KeyMaterial,
        digest: Digest::of(digest),
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    let path = "/etc/kubernetes/pki/sa.key";
    let closure = vec![ClosureFile { path: path.into(), state: key(b"kept") }];
    let (id, record) = known_good("kube-apiserver", closure);
    let memory = Memory { components: [(id.clone(), record)].into(), ..Memory::default() };
    let rows = [
        ("as it was", key(b"kept"), None),
        ("another one", key(b"other"), Some("is not the one")),
        ("gone", FileState::Missing, Some("is missing")),
    ];
    for (situation, stands, word) in rows {
        let mut seen = nothing_runs(&["kube-apiserver"]);
        seen.files.insert(path.into(), stands);
        let (judgement, _) = passes(&seen, &memory, History::default(), 2);
        let cause = judgement.components[&id].cause.as_ref().map(ToString::to_string);
        match word {
            None => assert_eq!(cause, None, "a key that is {situation}"),
            Some(word) => {
                let cause = cause.unwrap_or_default();
                assert!(cause.contains(path) && cause.contains(word), "a key that is {situation}: {cause}");
            }
        }
    }
}

/// What a generation of this component's manifest is known by, with this closure.
fn known_good(name: &str, closure: Vec<ClosureFile>) -> (ComponentId, Record) {
    let file = file(name, -3600);
    let parsed = file.content.as_ref().unwrap();
    let good = Generation {
        number: 1,
        digest: file.digest,
        pod_digest: parsed.digest,
        raw_digest: file.digest,
        startup_budget: Duration::ZERO,
        termination_grace: Duration::ZERO,
        file_name: file.name.clone(),
        closure,
        images: parsed.images(),
        ports: parsed.ports(),
        data: parsed.data_identity(),
        minor: None,
        first_seen: at(-3600),
        served: None,
        rewritten: 0,
        trust: Trust::Candidate,
        stored: Stored::Yes,
    };
    let record = Record {
        generations: [(1, good)].into(),
        next_number: 2,
        ..Record::new(parsed.role, ComponentState::Steady { good: 1 })
    };
    (parsed.id.clone(), record)
}

fn certificate(path: &str, user: User, from: i64, to: i64) -> Certificate {
    Certificate {
        path: path.into(),
        named: [path.into()].into(),
        users: [user].into(),
        subject: "kube-scheduler".into(),
        issuer: "kubernetes".into(),
        not_before: NOW + from,
        not_after: NOW + to,
        authority: false,
        fingerprint: Digest::of(path.as_bytes()),
    }
}

#[test]
fn n16_a_certificate_out_of_its_dates_explains_whoever_goes_by_it() {
    let scheduler = || User::Component(ComponentId::system("kube-scheduler"));
    let conf = "/etc/kubernetes/scheduler.conf";
    let rows = [
        ("that has ended", conf, scheduler(), -900, -1, Some("scheduler.conf (kube-scheduler) ended at ")),
        ("that is not valid yet", conf, scheduler(), 60, 900, Some("is not valid before ")),
        ("that is valid", conf, scheduler(), -900, 60, None),
        ("of the kubelet's", conf, User::Kubelet, -900, -1, None),
        ("that its known-good generation does not go by", "/new.crt", scheduler(), -900, -1, None),
    ];
    let kept = ClosureFile { path: conf.into(), state: FileState::Missing };
    // Its manifest changed since, so that only the closure tells what the known-good generation goes by.
    let (id, mut record) = known_good("kube-scheduler", vec![kept]);
    record.generations.get_mut(&1).unwrap().pod_digest = Digest::of(b"another");
    let memory = Memory { components: [(id.clone(), record)].into(), ..Memory::default() };
    for (situation, path, user, from, to, word) in rows {
        let mut seen = nothing_runs(&["kube-scheduler"]);
        seen.node.certificates = vec![certificate(path, user, from, to)];
        let (judgement, _) = passes(&seen, &memory, History::default(), 2);
        match (word, &judgement.components[&id].cause) {
            (None, cause) => assert_eq!(*cause, None, "a certificate {situation}"),
            (Some(word), Some(cause @ Cause::Certificate { .. })) => {
                assert!(cause.to_string().contains(word), "a certificate {situation}: {cause}");
            }
            (Some(_), other) => panic!("a certificate {situation}: {other:?}"),
        }
    }
    let mut seen = nothing_runs(&["kube-scheduler"]);
    seen.kubelet.process = None;
    seen.node.certificates = vec![certificate("/kubelet.pem", User::Kubelet, -900, -1)];
    let words = judged(&seen, "kube-scheduler").cause.map(|cause| cause.to_string()).unwrap_or_default();
    assert!(words.contains("no kubelet process runs") && words.contains("/kubelet.pem"), "{words}");
}

#[test]
fn n16_a_serving_certificate_that_a_candidate_brought_is_no_excuse() {
    let (id, mut record) = known_good("kube-apiserver", Vec::new());
    record.generations.get_mut(&1).unwrap().pod_digest = Digest::of(b"another");
    record.state = ComponentState::Probation(crate::model::component_state::Probation::begin(2, 1));
    let mut seen = nothing_runs(&["kube-apiserver"]);
    running(&mut seen, "kube-apiserver", -2000);
    answers(
        &mut seen,
        "kube-apiserver",
        &[(Question::Live, Reading::Good), (Question::Ready, bad(SymptomKind::CertificateDates))],
    );
    let user = User::Component(id.clone());
    seen.node.certificates = vec![certificate("/brought.crt", user, -900, -1)];
    let cause = |record: &Record| {
        let memory = Memory { components: [(id.clone(), record.clone())].into(), ..Memory::default() };
        passes(&seen, &memory, History::default(), 2).0.components[&id].cause.clone()
    };
    assert_eq!(cause(&record), None, "the candidate's own");
    let kept = ClosureFile { path: "/brought.crt".into(), state: FileState::Missing };
    record.generations.get_mut(&1).unwrap().closure.push(kept);
    assert!(matches!(cause(&record), Some(Cause::Certificate { .. })), "the known-good generation has it too");
}

fn disk(what: DiskUse, path: &str, free: u64) -> Disk {
    let (size, inodes) = (100 << 30, 1000);
    let holds = [(what, path.into())].into();
    Disk { holds, size, available: free, free, inodes, inodes_free: inodes, read_only: false }
}

#[test]
fn data_that_no_etcd_starts_over_explain_an_etcd_that_has_ended() {
    let with_data = manifest("etcd").replace("[etcd, ", "[etcd, --data-dir=/data, ");
    let etcd = Manifest::parse(with_data.as_bytes().into()).unwrap();
    let fault = |path: &str| StoreFault {
        kind: FaultKind::WalIncomplete { what: "the entries 3 to 4 are missing".to_owned() },
        path: format!("{path}/member/snap/db").into(),
        database: Database::Whole { revision: 42 },
        others: 0,
    };
    for (situation, path, name, runs, explains) in [
        ("its own data", "/data", "etcd", false, true),
        ("other data", "/other", "etcd", false, false),
        ("it is not etcd", "/data", "kube-scheduler", false, false),
        ("it serves nevertheless", "/data", "etcd", true, false),
    ] {
        let mut seen = nothing_runs(&["kube-scheduler"]);
        if let Directory::Present { files, .. } = &mut seen.manifests {
            let file = ManifestFile { content: Ok(etcd.clone()), ..file("etcd", -3600) };
            files.insert("etcd.yaml".into(), Arc::new(file));
        }
        if runs {
            running(&mut seen, "etcd", -2000);
            answers(&mut seen, "etcd", &[(Question::Live, Reading::Good)]);
        }
        seen.node.store_faults = [(path.into(), fault(path))].into();
        let cause = judged(&seen, name).cause;
        assert_eq!(matches!(cause, Some(Cause::Data(_))), explains, "{name}, {situation}: {cause:?}");
    }
}

#[test]
fn members_that_an_etcd_3_6_takes_for_learners_are_evidence_against_it_and_no_excuse() {
    let conflict = |name: &str| MemberConflict {
        id: "b2".to_owned(),
        name: name.to_owned(),
        url: "https://h:2380".to_owned(),
        kind: ConflictKind::LearnerInDatabase,
    };
    for (situation, image, path, named) in [
        ("3.6", "etcd:3.6.4-0", "/data", true),
        ("3.5", "etcd:3.5.19-0", "/data", false),
        ("other data", "etcd:3.6.4-0", "/other", false),
    ] {
        let mut seen = nothing_runs(&[]);
        let text = manifest("etcd")
            .replace("[etcd, ", "[etcd, --data-dir=/data, ")
            .replace("image: i,", &format!("image: 'registry.k8s.io/{image}',"));
        let etcd = Manifest::parse(text.as_bytes().into()).unwrap();
        assert!(etcd.minor_version().is_some(), "{text}");
        if let Directory::Present { files, .. } = &mut seen.manifests {
            let file = ManifestFile { content: Ok(etcd), ..file("etcd", -3600) };
            files.insert("etcd.yaml".into(), Arc::new(file));
        }
        seen.node.member_conflicts = [(path.into(), vec![conflict("m2"), conflict("m3")])].into();
        let assessment = judged(&seen, "etcd");
        assert_eq!(assessment.cause, None, "{situation}");
        assert_eq!(assessment.evidence.iter().any(|line| line.contains("member m2")), named, "{situation}");
    }
}

#[test]
fn a_full_disk_explains_only_whom_it_hits() {
    let with_data = manifest("etcd").replace("[etcd, ", "[etcd, --data-dir=/data, ");
    let etcd = Manifest::parse(with_data.as_bytes().into()).unwrap();
    let plenty = 50 << 30;
    let read_only = Disk { read_only: true, ..disk(DiskUse::Etcd, "/data", plenty) };
    let rows = [
        ("etcd's own disk is full", "etcd", disk(DiskUse::Etcd, "/data", 1000), true),
        ("etcd's own disk is read-only", "etcd", read_only, true),
        (
            "etcd's own disk has no inodes",
            "etcd",
            Disk { inodes_free: 0, ..disk(DiskUse::Etcd, "/data", plenty) },
            true,
        ),
        ("etcd's own disk has room", "etcd", disk(DiskUse::Etcd, "/data", plenty), false),
        ("the disk of other data is full", "etcd", disk(DiskUse::Etcd, "/other", 1000), false),
        ("etcd's disk is full", "kube-scheduler", disk(DiskUse::Etcd, "/data", 1000), false),
        ("the runtime's disk is full", "kube-scheduler", disk(DiskUse::Runtime, "/var/lib/containerd", 1000), true),
        ("our own disk is full", "kube-scheduler", disk(DiskUse::State, "/var/lib/lastgood", 1000), false),
    ];
    for (situation, name, disk, explains) in rows {
        let mut seen = nothing_runs(&["kube-scheduler"]);
        if let Directory::Present { files, .. } = &mut seen.manifests {
            let file = ManifestFile { content: Ok(etcd.clone()), ..file("etcd", -3600) };
            files.insert("etcd.yaml".into(), Arc::new(file));
        }
        seen.node.disks = vec![disk];
        let cause = judged(&seen, name).cause;
        assert_eq!(matches!(cause, Some(Cause::Disk { .. })), explains, "{name}, when {situation}: {cause:?}");
    }
}

#[test]
fn r17_a_dead_way_to_the_api_server_explains_whoever_goes_that_way_while_the_local_one_serves() {
    let conf = "/etc/kubernetes/scheduler.conf";
    let kubeconfig = |server: &str| FileState::Present {
        kind: FileKind::Kubeconfig {
            works: crate::model::config_files::KubeconfigHealth::Works { not_after: None },
            credentials: Digest::of(b"c"),
        },
        digest: Digest::of(server.as_bytes()),
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    let kept = ClosureFile { path: conf.into(), state: kubeconfig("vip") };
    let (id, record) = known_good("kube-scheduler", vec![kept]);
    let memory = Memory { components: [(id.clone(), record)].into(), ..Memory::default() };
    let rows = [
        ("does not answer", bad(SymptomKind::TimedOut), "vip", true, true),
        ("answers", Reading::Good, "vip", true, false),
        ("cannot be told about", cannot(SymptomKind::Unauthorized), "vip", true, false),
        ("is dead, on a node without an API server", bad(SymptomKind::TimedOut), "vip", false, false),
        ("is dead, and a candidate brought it", bad(SymptomKind::Refused), "elsewhere", true, false),
    ];
    for (situation, reading, stands, serves, explains) in rows {
        let mut seen = nothing_runs(if serves { &["kube-apiserver", "kube-scheduler"] } else { &["kube-scheduler"] });
        if serves {
            running(&mut seen, "kube-apiserver", -2000);
            answers(&mut seen, "kube-apiserver", &[(Question::Live, Reading::Good)]);
        }
        seen.files.insert(conf.into(), kubeconfig(stands));
        seen.node.endpoints = vec![Endpoint {
            server: "https://vip:6443".into(),
            used: [(User::Component(id.clone()), conf.into())].into(),
            place: Location::Elsewhere,
            accepts: Accepts::No,
            reading,
            at: Duration::ZERO,
            bad_for: Duration::from_secs(60),
        }];
        let (judgement, _) = passes(&seen, &memory, History::default(), 3);
        let cause = &judgement.components[&id].cause;
        assert_eq!(matches!(cause, Some(Cause::Endpoint { .. })), explains, "an address that {situation}: {cause:?}");
    }
}

#[test]
fn q17_a_kubelet_that_waits_at_a_silent_balancer_explains_what_has_no_pod() {
    use Accepts::{No, Yes};
    use SymptomKind::{Refused, TimedOut};
    // When the kubelet started, when the last sandbox was made, how its way to the API server fails, and whether that
    // explains etcd, which has no pod.
    let rows = [
        ("it waits", 9_900, None, (TimedOut, Yes), true),
        ("it started before its last sandbox", 9_900, Some(-50), (TimedOut, Yes), false),
        ("its last sandbox is older", 9_900, Some(-150), (TimedOut, Yes), true),
        ("it started long ago", 9_000, None, (TimedOut, Yes), false),
        ("the address cannot be reached", 9_900, None, (TimedOut, No), false),
        ("the address refuses", 9_900, None, (Refused, No), false),
    ];
    for (situation, started, sandbox, (kind, accepts), explains) in rows {
        let mut seen = nothing_runs(&["etcd", "kube-scheduler"]);
        seen.kubelet.process.as_mut().unwrap().started = Duration::from_secs(started);
        if let Some(second) = sandbox {
            running(&mut seen, "kube-scheduler", second);
            let run = &mut seen.runtime.as_mut().unwrap()[0];
            run.created = at(second);
        }
        seen.node.endpoints = vec![Endpoint {
            server: "https://127.0.0.1:9443".into(),
            used: [(User::Kubelet, "/etc/kubernetes/kubelet.conf".into())].into(),
            place: Location::Here,
            accepts,
            reading: bad(kind),
            at: Duration::ZERO,
            bad_for: Duration::from_secs(60),
        }];
        let cause = judged(&seen, "etcd").cause;
        assert_eq!(matches!(cause, Some(Cause::Kubelet { .. })), explains, "{situation}: {cause:?}");
    }
}

#[test]
fn q13_a_dependent_whose_trouble_comes_from_around_it_is_not_harmed() {
    let conf = "/etc/kubernetes/scheduler.conf";
    let kept = ClosureFile { path: conf.into(), state: FileState::Missing };
    let (scheduler, record) = known_good("kube-scheduler", vec![kept]);
    let (api, api_record) = known_good("kube-apiserver", Vec::new());
    let mut seen = nothing_runs(&["kube-apiserver", "kube-scheduler"]);
    for (name, answer) in [("kube-apiserver", Reading::Good), ("kube-scheduler", bad(SymptomKind::Refused))] {
        running(&mut seen, name, -2000);
        answers(&mut seen, name, &[(Question::Live, answer)]);
    }
    let harmed = |seen: &Observation, ports: &[u16]| {
        let mut api_record = api_record.clone();
        api_record.generations.get_mut(&1).unwrap().ports = ports.iter().copied().collect();
        let components = [(api.clone(), api_record), (scheduler.clone(), record.clone())].into();
        let memory = Memory { components, ..Memory::default() };
        passes(seen, &memory, History::default(), 20).0.components[&api].breaks_dependent().cloned()
    };
    assert_eq!(harmed(&seen, &[1000]), Some(scheduler.clone()));
    let user = User::Component(scheduler.clone());
    let endpoint = |place| Endpoint {
        server: "https://vip:6443".into(),
        used: [(user.clone(), conf.into())].into(),
        place,
        accepts: Accepts::No,
        reading: bad(SymptomKind::Refused),
        at: Duration::ZERO,
        bad_for: Duration::from_secs(60),
    };
    seen.node.endpoints = vec![endpoint(Location::Elsewhere)];
    assert_eq!(harmed(&seen, &[1000]), None, "a balancer elsewhere died");
    assert_eq!(harmed(&seen, &[6443]), Some(scheduler.clone()), "the candidate left the port the balancer looks for");
    seen.node.endpoints = vec![endpoint(Location::Here)];
    assert_eq!(harmed(&seen, &[1000]), Some(scheduler.clone()), "an address of this node may be the candidate's doing");
    seen.node.endpoints.clear();
    seen.node.certificates = vec![certificate(conf, user.clone(), -900, -1)];
    assert_eq!(harmed(&seen, &[1000]), None, "its own certificate ended");
}

/// The second in which the API server's present generation is deployed.
const DEPLOYED: i64 = 0;

/// The scheduler as it is in this second, in a look at a node whose API server is well.
fn scheduler(seen: &mut Observation) -> &mut ContainerRun {
    let run = seen.runtime.as_mut().unwrap().iter_mut().find(|run| run.component.name() == "kube-scheduler");
    &mut run.unwrap().containers[0]
}

fn says(seen: &mut Observation, reading: Reading) {
    answers(seen, "kube-scheduler", &[(Question::Live, reading)]);
}

fn fails(seen: &mut Observation) {
    says(seen, bad(SymptomKind::Unhealthy));
}

fn hangs(seen: &mut Observation) {
    says(seen, bad(SymptomKind::TimedOut));
}

fn is_stopped(seen: &mut Observation) {
    let (cpu, at) = (Duration::ZERO, seen.at.boot);
    scheduler(seen).work = Some(Work { state: ProcessState::Stopped, cpu, io: 0, at });
}

/// Its container of that attempt has exited.
fn exits(seen: &mut Observation, attempt: u32, started: i64, code: i32, reason: &str) {
    fails(seen);
    let finished = seen.at.wall;
    let container = scheduler(seen);
    container.attempt = attempt;
    container.state = ContainerState::Exited { started: at(started), finished, code, reason: reason.to_owned() };
}

/// Its container of that attempt runs and answers.
fn runs_again(seen: &mut Observation, attempt: u32, started: i64) {
    let container = scheduler(seen);
    container.attempt = attempt;
    container.state = ContainerState::Running { started: at(started) };
}

/// From that second on it exits, waits for ten seconds, and runs for ten.
fn exits_again_and_again(seen: &mut Observation, second: i64, from: i64, code: i32, reason: &str) {
    let Ok(since) = u32::try_from(second - from) else { return };
    let (cycle, waits) = (since / 20, since % 20 < 10);
    let started = from + 20 * i64::from(cycle) - 10;
    if waits {
        exits(seen, cycle, started, code, reason);
    } else {
        runs_again(seen, cycle + 1, started + 20);
    }
}

fn key(digest: &[u8]) -> FileState {
    FileState::Present { kind: FileKind::KeyMaterial, digest: Digest::of(digest), mode: 0o600, uid: 0, gid: 0 }
}

fn another_key(seen: &mut Observation) {
    seen.files.insert("/scheduler.key".into(), key(b"another"));
}

/// In how many passes, a second apart, a scheduler whose manifest changed in that second is evidence against the API server.
fn evidence(changed: i64, scene: impl Fn(&mut Observation, i64)) -> usize {
    let kept = ClosureFile { path: "/scheduler.key".into(), state: key(b"kept") };
    let (api, mut api_record) = known_good("kube-apiserver", Vec::new());
    let (id, mut record) = known_good("kube-scheduler", vec![kept]);
    let stands = |record: &Record, changed| {
        let digest = record.digest_of(record.generations[&1].pod_digest, &[]);
        Some(crate::model::memory::Deployed { digest, changed: at(changed) })
    };
    (api_record.deployed, record.deployed) = (stands(&api_record, DEPLOYED), stands(&record, changed));
    let memory = Memory { components: [(api.clone(), api_record), (id, record)].into(), ..Memory::default() };
    let idle = nothing_runs(&["kube-apiserver", "kube-scheduler"]);
    let (mut history, mut count) = (History::default(), 0);
    for second in -100..160 {
        let mut seen = idle.clone();
        let boot = Duration::from_secs(10_000_u64.saturating_add_signed(second));
        seen.at = Moment { wall: at(second), boot };
        seen.files.insert("/scheduler.key".into(), key(b"kept"));
        for name in ["kube-apiserver", "kube-scheduler"] {
            running(&mut seen, name, -2000);
            answers(&mut seen, name, &[(Question::Live, Reading::Good)]);
        }
        scene(&mut seen, second);
        let tick = Tick { now: seen.at, credit: Duration::from_secs(1) };
        let (judgement, known) = judge(tick, &seen, &memory, history, &Policy::default());
        history = known;
        count += usize::from(judgement.components[&api].breaks_dependent().is_some());
    }
    count
}

#[test]
fn q13_what_is_evidence_against_a_dependency_and_what_is_not() {
    const LONG_AGO: i64 = -3600;
    type Scene = fn(&mut Observation, i64);
    let rows: [(&str, i64, Scene, bool); 24] = [
        ("is well", LONG_AGO, |_, _| {}, false),
        (
            "fails",
            LONG_AGO,
            |seen, s| {
                if s >= 40 {
                    fails(seen)
                }
            },
            true,
        ),
        (
            "hangs",
            LONG_AGO,
            |seen, s| {
                if s >= 40 {
                    hangs(seen)
                }
            },
            false,
        ),
        (
            "was stopped by a signal, for a moment only, and fails when it goes on",
            LONG_AGO,
            |seen, s| match s {
                40..42 => is_stopped(seen),
                42.. => fails(seen),
                _ => {}
            },
            false,
        ),
        (
            "hung, and fails when it goes on",
            LONG_AGO,
            |seen, s| match s {
                40..60 => hangs(seen),
                60.. => fails(seen),
                _ => {}
            },
            false,
        ),
        (
            "hung, was well for more than a minute, and fails",
            LONG_AGO,
            |seen, s| match s {
                10..20 => hangs(seen),
                100.. => fails(seen),
                _ => {}
            },
            true,
        ),
        (
            "fails since before the change",
            LONG_AGO,
            |seen, s| {
                if s >= -30 {
                    fails(seen)
                }
            },
            false,
        ),
        (
            "failed before, and answered for less than a minute since",
            LONG_AGO,
            |seen, s| {
                if (-40..-5).contains(&s) || s >= 40 {
                    fails(seen)
                }
            },
            false,
        ),
        (
            "failed before, and was well for more than a minute since",
            LONG_AGO,
            |seen, s| {
                if (-90..-40).contains(&s) || s >= 40 {
                    fails(seen)
                }
            },
            true,
        ),
        (
            "changed since, and fails",
            10,
            |seen, s| {
                if s >= 40 {
                    fails(seen)
                }
            },
            false,
        ),
        (
            "has another key, and fails",
            LONG_AGO,
            |seen, s| {
                if s >= 40 {
                    another_key(seen);
                    fails(seen);
                }
            },
            false,
        ),
        ("exits again and again", LONG_AGO, |seen, s| exits_again_and_again(seen, s, 40, 1, "Error"), true),
        (
            "loses its lease again and again",
            LONG_AGO,
            |seen, s| {
                exits_again_and_again(seen, s, 40, 1, "Error");
                scheduler(seen).log_tail = Some("leaderelection lost".to_owned());
            },
            true,
        ),
        ("is killed again and again", LONG_AGO, |seen, s| exits_again_and_again(seen, s, 40, 137, "Error"), false),
        ("is ended by SIGTERM", LONG_AGO, |seen, s| exits_again_and_again(seen, s, 40, 143, "Error"), false),
        ("ends as it was asked to", LONG_AGO, |seen, s| exits_again_and_again(seen, s, 40, 0, "Completed"), false),
        ("has no memory left", LONG_AGO, |seen, s| exits_again_and_again(seen, s, 40, 1, "OOMKilled"), false),
        (
            "exits again and again since before the change",
            LONG_AGO,
            |seen, s| exits_again_and_again(seen, s, -70, 1, "Error"),
            false,
        ),
        ("changed since, and exits", 10, |seen, s| exits_again_and_again(seen, s, 40, 1, "Error"), false),
        (
            "has another key, and exits",
            LONG_AGO,
            |seen, s| {
                if s >= 40 {
                    another_key(seen);
                }
                exits_again_and_again(seen, s, 40, 1, "Error");
            },
            false,
        ),
        (
            "was stopped by a signal, and exits when it goes on",
            LONG_AGO,
            |seen, s| match s {
                40..45 => is_stopped(seen),
                45..50 => exits(seen, 0, -2000, 1, "Error"),
                50.. => runs_again(seen, 1, 50),
                _ => {}
            },
            false,
        ),
        (
            "hung, and was restarted between two looks",
            LONG_AGO,
            |seen, s| match s {
                40..60 => hangs(seen),
                60.. => runs_again(seen, 1, 60),
                _ => {}
            },
            false,
        ),
        (
            "was restarted between two looks, and nobody saw how it ended",
            LONG_AGO,
            |seen, s| {
                if s >= 40 {
                    runs_again(seen, 1, 40)
                }
            },
            false,
        ),
        (
            "hung and exited, and whose successor exits as well",
            LONG_AGO,
            |seen, s| match s {
                40..60 => hangs(seen),
                60..65 => exits(seen, 0, -2000, 1, "Error"),
                65..90 => runs_again(seen, 1, 65),
                90.. => exits(seen, 1, 65, 1, "Error"),
                _ => {}
            },
            true,
        ),
    ];
    let wrong: Vec<&str> = rows
        .into_iter()
        .filter(|(_, changed, scene, is)| (evidence(*changed, scene) > 0) != *is)
        .map(|row| row.0)
        .collect();
    assert_eq!(wrong, [] as [&str; 0], "a dependent that …");
    let back_off = evidence(LONG_AGO, |seen, s| {
        if s >= 40 {
            exits(seen, 0, -2000, 1, "Error")
        }
    });
    assert_eq!(back_off, 1, "it waits in back-off after one exit");
}

#[test]
fn q13_a_dependent_that_was_unwell_before_the_agent_started_is_no_evidence() {
    let fails_from = |from: i64, verdict| {
        let (api, mut api_record) = known_good("kube-apiserver", Vec::new());
        let (id, mut record) = known_good("kube-scheduler", Vec::new());
        let digest = api_record.digest_of(api_record.generations[&1].pod_digest, &[]);
        api_record.deployed = Some(crate::model::memory::Deployed { digest, changed: at(-60) });
        record.verdict = Some((verdict, at(from)));
        let memory = Memory { components: [(api.clone(), api_record), (id, record)].into(), ..Memory::default() };
        let mut seen = nothing_runs(&["kube-apiserver", "kube-scheduler"]);
        running(&mut seen, "kube-apiserver", -2000);
        answers(&mut seen, "kube-apiserver", &[(Question::Live, Reading::Good)]);
        running(&mut seen, "kube-scheduler", -2000);
        fails(&mut seen);
        passes(&seen, &memory, History::default(), 20).0.components[&api].breaks_dependent().is_some()
    };
    assert!(!fails_from(-90, Verdict::Down), "it was down before the change");
    assert!(fails_from(-30, Verdict::Down), "it was well when it changed");
    assert!(fails_from(-90, Verdict::Healthy), "it was well until now");
}

const LEASE_STILL: u64 = 60;

/// A node whose controller manager, scheduler and kubelet answer, each with a lease it holds.
fn leaseholders() -> Observation {
    let mut seen = nothing_runs(&["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]);
    seen.node.host = "m1".to_owned();
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        running(&mut seen, name, -2000);
        let questions = [(Question::Live, Reading::Good), (Question::Quorum, Reading::Good)];
        answers(&mut seen, name, if name == "etcd" { &questions } else { &questions[..1] });
    }
    for (name, holder) in [("kube-controller-manager", "m1_a"), ("kube-scheduler", "m1_b"), ("kubelet", "m1")] {
        let lease = Lease { holder: Some(holder.to_owned()), renewed: Some("0".to_owned()), ..Lease::default() };
        let id = match name {
            "kubelet" => HostService::Kubelet.into(),
            name => ComponentId::system(name),
        };
        seen.leases.insert(id, LeaseLook { said: Ok(lease), at: seen.at.boot });
    }
    seen
}

/// Passes a second apart, in which the leases of these names are renewed and the others are not.
pub(super) fn leases(
    seen: &Observation,
    moving: &[&str],
    seconds: u64,
    change: impl Fn(&mut Observation, u64),
) -> Judgement {
    let (mut history, mut judgement) = (History::default(), Judgement::default());
    for second in 0..seconds {
        let mut seen = seen.clone();
        let later = Duration::from_secs(second);
        seen.at.boot += later;
        seen.kubelet.answered = seen.at.boot;
        seen.probes.values_mut().flatten().for_each(|probe| probe.at += later);
        for (id, look) in &mut seen.leases {
            look.at = seen.at.boot;
            if let Ok(lease) = &mut look.said
                && moving.contains(&id.name())
            {
                lease.renewed = Some(second.to_string());
            }
        }
        change(&mut seen, second);
        let tick = Tick { now: seen.at, credit: Duration::from_secs(1) };
        (judgement, history) = judge(tick, &seen, &Memory::default(), history, &Policy::default());
    }
    judgement
}

fn stalled(judgement: &Judgement) -> Vec<String> {
    let stalled = judgement.components.iter().filter(|(_, a)| a.verdict() == Verdict::Stalled && a.cause.is_none());
    let mut names: Vec<String> = stalled.map(|(id, _)| id.name().to_owned()).collect();
    names.extend((judgement.kubelet.verdict == Verdict::Stalled).then(|| "kubelet".to_owned()));
    names
}

#[test]
fn who_answers_and_leaves_its_lease_alone_stands_still() {
    let (controllers, scheduler, kubelet) = ("kube-controller-manager", "kube-scheduler", "kubelet");
    let long = LEASE_STILL + 10;
    let seen = leaseholders();
    let nothing = |_: &mut Observation, _: u64| {};
    let rows: [(&str, &[&str], u64, &[&str]); 6] = [
        ("all are renewed", &[controllers, scheduler, kubelet], long, &[]),
        ("the scheduler's is not, for a moment", &[controllers, kubelet], LEASE_STILL - 10, &[]),
        ("the scheduler's is not", &[controllers, kubelet], long, &[scheduler]),
        ("two are not", &[kubelet], long, &[controllers, scheduler]),
        ("the node's is not", &[controllers, scheduler], long, &[kubelet]),
        ("none is: nobody can write, and no restart here cures that", &[], long, &[]),
    ];
    for (situation, moving, seconds, expected) in rows {
        assert_eq!(stalled(&leases(&seen, moving, seconds, nothing)), expected, "{situation}");
    }
    let judgement = leases(&seen, &[controllers, kubelet], long, nothing);
    let found = &judgement.components[&ComponentId::system(scheduler)];
    assert!(found.evidence[0].contains("it holds its lease and has not renewed it"), "{:?}", found.evidence);
    assert_eq!(
        found.stall().map(|s| (s.container.as_str(), s.at)),
        Some(("kube-scheduler-0", ProcessActivity::Nothing))
    );
}

#[test]
fn who_waits_for_a_lease_is_left_to_wait_for_as_long_as_the_lease_lasts() {
    let (controllers, kubelet) = ("kube-controller-manager", "kubelet");
    let scheduler = ComponentId::system("kube-scheduler");
    let mut seen = leaseholders();
    let held =
        Lease { holder: Some("m2_c".to_owned()), lasts: Some(Duration::from_secs(90)), renewed: Some("0".to_owned()) };
    seen.leases.insert(scheduler.clone(), LeaseLook { said: Ok(held), at: seen.at.boot });
    let nothing = |_: &mut Observation, _: u64| {};
    // Two minutes: ninety seconds, and a third of it for its next look.
    for (seconds, expected) in [(115, &[] as &[&str]), (125, &["kube-scheduler"])] {
        assert_eq!(stalled(&leases(&seen, &[controllers, kubelet], seconds, nothing)), expected, "{seconds}");
    }
}

#[test]
fn a_kubelet_is_not_to_blame_for_the_ended_certificate_of_its_api_server() {
    let seen = leaseholders();
    let ended = |seen: &mut Observation, _: u64| {
        let at = seen.at.boot;
        answers(seen, "kube-apiserver", &[(Question::Live, bad(SymptomKind::CertificateDates))]);
        seen.probes.get_mut(&ComponentId::system("kube-apiserver")).unwrap().iter_mut().for_each(|probe| probe.at = at);
    };
    let moving = ["kube-controller-manager", "kube-scheduler"];
    assert_eq!(stalled(&leases(&seen, &moving, LEASE_STILL * 2, ended)), [] as [&str; 0]);
}

#[test]
fn a_kubelet_that_was_just_restarted_is_not_judged_by_its_lease() {
    const PAUSE: u64 = 90;
    let mut seen = leaseholders();
    let node = seen.leases.get_mut(&ComponentId::from(HostService::Kubelet)).unwrap().said.as_mut().unwrap();
    (node.holder, node.lasts) = (None, Some(Duration::from_secs(PAUSE)));
    let others = ["kube-controller-manager", "kube-scheduler"];
    let restarted = |seen: &mut Observation, second: u64, at: u64| {
        if second >= at {
            let process = seen.kubelet.process.as_mut().unwrap();
            (process.pid, process.started) = (2, Duration::from_secs(10_000 + at));
        }
    };
    let rows: [(&str, u64, u64, &[&str]); 4] = [
        ("was not restarted", 70, 1000, &["kubelet"]),
        ("was restarted", 72, 70, &[]),
        ("was restarted, and its lease could not have ended yet", 70 + PAUSE - 10, 70, &[]),
        ("was restarted longer ago than its lease lasts", 70 + PAUSE + 5, 70, &["kubelet"]),
    ];
    for (situation, seconds, at, expected) in rows {
        let found = leases(&seen, &others, seconds, |seen, second| restarted(seen, second, at));
        assert_eq!(stalled(&found), expected, "a kubelet that {situation}");
    }
    // The API server says nothing of the lease any more.
    let unread = |seen: &mut Observation, second: u64| {
        restarted(seen, second, 70);
        if second >= 70 {
            let said = Err(Symptom::new(SymptomKind::TimedOut, "no answer"));
            seen.leases.insert(ComponentId::from(HostService::Kubelet), LeaseLook { said, at: seen.at.boot });
        }
    };
    for seconds in [72, 300] {
        assert_eq!(stalled(&leases(&seen, &others, seconds, unread)), [] as [&str; 0], "after {seconds} s");
    }
    // Nobody can write, and a new process is no renewal.
    let nobody = leases(&seen, &[], 105, |seen, second| restarted(seen, second, 100));
    assert_eq!(stalled(&nobody), [] as [&str; 0], "a restart renews no lease");
}

#[test]
fn what_a_kubelet_said_before_its_restart_is_not_held_against_the_next() {
    let silent = |seen: &mut Observation, second: u64| {
        seen.kubelet.healthz = bad(SymptomKind::TimedOut);
        if second >= 10 {
            let process = seen.kubelet.process.as_mut().unwrap();
            (process.pid, process.started) = (2, Duration::from_secs(10_010));
            seen.kubelet.answered = Duration::from_secs(10_000 + second.min(14) - 5);
        }
    };
    let kubelet = |seconds| leases(&nothing_runs(&["etcd"]), &[], seconds, silent).kubelet;
    assert_eq!(kubelet(10).verdict, Verdict::Stalled);
    assert_eq!(kubelet(20).verdict, Verdict::Unknown, "the answer is its predecessor's");
    let asked = |seen: &mut Observation, second: u64| {
        silent(seen, second);
        seen.kubelet.answered = seen.at.boot;
    };
    let next = leases(&nothing_runs(&["etcd"]), &[], 14, asked).kubelet;
    assert_eq!((next.verdict, next.watched), (Verdict::Stalled, Duration::from_secs(2)), "its patience begins again");
}

#[test]
fn a_lease_that_cannot_be_read_or_has_a_new_holder_says_nothing() {
    let (controllers, kubelet) = ("kube-controller-manager", "kubelet");
    let scheduler = ComponentId::system("kube-scheduler");
    let long = LEASE_STILL * 3;
    let seen = leaseholders();
    let unread = |seen: &mut Observation, _: u64| {
        let said = Err(Symptom::new(SymptomKind::Unauthorized, "403"));
        seen.leases.insert(scheduler.clone(), LeaseLook { said, at: seen.at.boot });
    };
    assert_eq!(stalled(&leases(&seen, &[controllers, kubelet], long, unread)), [] as [&str; 0], "not for our eyes");
    // A process that was restarted is given the whole time, and one that is not the first of its kind begins again.
    let restarted = |seen: &mut Observation, second: u64| {
        for run in seen.runtime.iter_mut().flatten().filter(|run| run.component == scheduler) {
            run.containers[0].id = format!("kube-scheduler-{}", second / (LEASE_STILL - 10));
        }
    };
    assert_eq!(stalled(&leases(&seen, &[controllers, kubelet], long, restarted)), [] as [&str; 0], "another process");
    // Somebody elsewhere holds it and does nothing: ours ought to have taken it over.
    let elsewhere = |seen: &mut Observation, _: u64| {
        let lease = Lease { holder: Some("m2_c".to_owned()), renewed: Some("0".to_owned()), ..Lease::default() };
        seen.leases.insert(scheduler.clone(), LeaseLook { said: Ok(lease), at: seen.at.boot });
    };
    let judgement = leases(&seen, &[controllers, kubelet], LEASE_STILL + 10, elsewhere);
    let evidence = &judgement.components[&scheduler].evidence;
    assert!(evidence[0].contains("held by m2_c") && evidence[0].contains("does not take it over"), "{evidence:?}");
}

#[test]
fn an_api_server_that_answers_its_health_checks_and_no_read_stands_still_while_etcd_answers() {
    let seen = leaseholders();
    let hang = |seen: &mut Observation, _: u64| {
        for look in seen.leases.values_mut() {
            look.said = Err(Symptom::new(SymptomKind::TimedOut, "accepted the request and did not answer in time"));
        }
    };
    assert_eq!(stalled(&leases(&seen, &[], LEASE_STILL - 10, hang)), [] as [&str; 0], "for a moment");
    assert_eq!(stalled(&leases(&seen, &[], LEASE_STILL + 10, hang)), ["kube-apiserver"]);
    let and_etcd = |seen: &mut Observation, second: u64| {
        hang(seen, second);
        let quorum = seen.probes.get_mut(&ComponentId::system("etcd")).unwrap().iter_mut();
        quorum.filter(|p| p.question == Question::Quorum).for_each(|p| p.reading = bad(SymptomKind::ClusterWide));
    };
    assert_eq!(stalled(&leases(&seen, &[], LEASE_STILL * 3, and_etcd)), [] as [&str; 0], "etcd's own trouble");
}

/// A look at the kubelet or the runtime, a second apart.
pub(super) fn service(change: impl Fn(&mut Observation, u64), seconds: u64) -> (Verdict, Verdict) {
    let judgement = leases(&nothing_runs(&["etcd"]), &[], seconds, change);
    (judgement.kubelet.verdict, judgement.runtime.verdict)
}

#[test]
fn a_kubelet_or_runtime_is_ill_after_two_samples_and_not_for_being_busy_or_gone() {
    use ProcessState::{Runs, Stopped};
    let silent = || Symptom::new(SymptomKind::TimedOut, "did not answer in time");
    let healthz = |kind| {
        move |seen: &mut Observation, _: u64| {
            seen.kubelet.healthz = Reading::Bad(Symptom::new(kind, "as it was told"));
        }
    };
    assert_eq!(service(|_, _| {}, 3), (Verdict::Healthy, Verdict::Healthy));
    assert_eq!(service(healthz(SymptomKind::TimedOut), 1).0, Verdict::Unknown, "one sample");
    assert_eq!(service(healthz(SymptomKind::TimedOut), 2).0, Verdict::Stalled);
    let one_answer = |seen: &mut Observation, _: u64| {
        seen.kubelet.healthz = Reading::Bad(silent());
        seen.kubelet.answered = Duration::from_secs(10_000);
    };
    assert_eq!(service(one_answer, 30).0, Verdict::Unknown, "one answer, looked at thirty times");
    assert_eq!(service(healthz(SymptomKind::Unhealthy), 2).0, Verdict::Failing);
    assert_eq!(service(healthz(SymptomKind::Refused), 9).0, Verdict::Unknown, "it may only just have started");
    assert_eq!(service(|seen, _| seen.kubelet.process = None, 9).0, Verdict::Down);
    let stopped = |seen: &mut Observation, _: u64| seen.kubelet.process.as_mut().unwrap().state = Stopped;
    assert_eq!(service(stopped, 2).0, Verdict::Stalled, "whatever it answered before");

    let runtime = |state, busy: bool| {
        move |seen: &mut Observation, second: u64| {
            seen.runtime = Err(silent());
            let cpu = Duration::from_secs(if busy { second } else { 1 });
            seen.runtime_work = Some(Work { state, cpu, io: 0, at: seen.at.boot });
        }
    };
    assert_eq!(service(runtime(Stopped, false), 1).1, Verdict::Unknown, "one sample");
    assert_eq!(service(runtime(Stopped, false), 2).1, Verdict::Stalled);
    assert_eq!(service(runtime(Runs, false), 5).1, Verdict::Stalled);
    assert_eq!(service(runtime(Runs, true), 30).1, Verdict::Unknown, "it unpacks an image, say");
    let gone = |seen: &mut Observation, _: u64| seen.runtime = Err(Symptom::new(SymptomKind::Broken, "no such file"));
    assert_eq!(service(gone, 9).1, Verdict::Down);
}

/// etcd runs and has answered for itself; the other members as instructed.
fn member_says(change: impl FnOnce(&mut EtcdStatus)) -> Observation {
    let mut seen = nothing_runs(&["etcd"]);
    running(&mut seen, "etcd", -3000);
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good), (Question::Ready, Reading::Good)]);
    let own = MemberStatus {
        version: "3.5.16".to_owned(),
        cluster: 7,
        member: 1,
        leader: Some(1),
        term: 3,
        raft_index: 50,
        applied_index: Some(50),
        revision: 40,
        db_size: Some(30 << 20),
        db_in_use: None,
        quota: None,
        learner: false,
        alarms: vec![],
        errors: vec![],
    };
    let member = |id: u64| Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![],
        client_urls: vec![format!("https://m{id}")],
        learner: false,
    };
    let mut status = EtcdStatus {
        target: "etcd".to_owned(),
        at: seen.at.boot,
        own: Ok(own),
        members: Some(vec![member(1), member(2), member(3)]),
        ..EtcdStatus::default()
    };
    change(&mut status);
    seen.etcd.insert(ComponentId::system("etcd"), status);
    seen
}

#[test]
fn a_member_with_an_alarm_fails_whoever_raised_it_and_its_probes_are_content() {
    for (kind, member, words) in
        [(AlarmKind::NoSpace, 1, "NOSPACE, raised by this member"), (AlarmKind::Corrupt, 3, "CORRUPT, raised for m3")]
    {
        let seen = member_says(|status| status.own.as_mut().unwrap().alarms = vec![Alarm { member, kind }]);
        let assessment = judged(&seen, "etcd");
        assert_eq!(assessment.verdict(), Verdict::Failing, "{:?}", assessment.evidence);
        assert!(assessment.serving, "it reads");
        assert!(matches!(&assessment.cause, Some(Cause::Alarm { detail }) if detail.starts_with(words)));
        assert!(assessment.evidence[0].contains(words), "{:?}", assessment.evidence);
    }
}

#[test]
fn one_answer_with_an_alarm_is_not_enough() {
    let (_, history) = passes(&member_says(|_| {}), &Memory::default(), History::default(), 3);
    let seen = member_says(|status| {
        status.own.as_mut().unwrap().alarms = vec![Alarm { member: 1, kind: AlarmKind::NoSpace }];
    });
    let etcd = ComponentId::system("etcd");
    let mut seen = seen;
    seen.at.boot += Duration::from_secs(20);
    seen.etcd.get_mut(&etcd).unwrap().at = seen.at.boot;
    seen.probes.values_mut().flatten().for_each(|probe| probe.at += Duration::from_secs(20));
    let (judgement, _) = passes(&seen, &Memory::default(), history.clone(), 1);
    assert_eq!(judgement.verdict(&etcd), Verdict::Healthy);
    let (judgement, _) = passes(&seen, &Memory::default(), history, 2);
    assert_eq!(judgement.verdict(&etcd), Verdict::Failing);
}

#[test]
fn n21_a_member_without_a_leader_names_the_cluster_and_who_does_not_answer() {
    let mut seen = member_says(|status| {
        status.own.as_mut().unwrap().leader = None;
        for id in [2, 3] {
            status.others.insert(id, Err(Symptom::new(SymptomKind::TimedOut, "no answer")));
        }
    });
    // etcd's own /readyz takes longer to say no than we wait.
    let answered = [(Question::Live, Reading::Good), (Question::Ready, bad(SymptomKind::TimedOut))];
    answers(&mut seen, "etcd", &answered);
    let assessment = judged(&seen, "etcd");
    assert_eq!(assessment.verdict(), Verdict::Failing);
    let Some(Cause::Cluster { detail }) = &assessment.cause else { panic!("{:?}", assessment.cause) };
    assert!(detail.contains("knows no leader") && detail.contains("2 of 3 members do not answer: m2"), "{detail}");
}

/// It has started, and takes no questions before it has a leader; the others say this of themselves.
fn started_alone(leaderless: u64, change: impl FnOnce(&mut EtcdStatus)) -> Observation {
    let mut seen = member_says(|status| {
        status.own = Err(Symptom::new(SymptomKind::TimedOut, "accepted the connection and did not finish"));
        let leaderless_for = Duration::from_secs(leaderless);
        status.metrics = Some(Metrics { has_leader: Some(false), leaderless_for, ..Metrics::default() });
        change(status);
    });
    seen.runtime.as_mut().unwrap().clear();
    running(&mut seen, "etcd", -20);
    answers(&mut seen, "etcd", &[(Question::Live, bad(SymptomKind::TimedOut))]);
    seen
}

#[test]
fn n21_a_member_that_starts_without_a_quorum_names_the_cluster_at_once() {
    let silent = |status: &mut EtcdStatus| {
        for id in [2, 3] {
            status.others.insert(id, Err(Symptom::new(SymptomKind::TimedOut, "no answer")));
        }
    };
    let assessment = judged(&started_alone(6, silent), "etcd");
    assert_eq!(assessment.verdict(), Verdict::Starting, "it has its startup budget");
    let Some(Cause::Cluster { detail }) = &assessment.cause else { panic!("{:?}", assessment.cause) };
    assert!(detail.contains("finds no leader") && detail.contains("2 of 3 members do not answer"), "{detail}");
    assert_eq!(judged(&started_alone(2, silent), "etcd").cause, None, "an election takes its time");
}

#[test]
fn a_member_without_a_leader_is_electing_one_before_it_is_said_to_have_none() {
    for (up_for, named) in [(1, false), (20, true)] {
        let mut seen = member_says(|status| status.own.as_mut().unwrap().leader = None);
        seen.runtime.as_mut().unwrap().clear();
        running(&mut seen, "etcd", -up_for);
        let quorum = (Question::Quorum, bad(SymptomKind::ClusterWide));
        answers(&mut seen, "etcd", &[(Question::Live, Reading::Good), quorum]);
        let assessment = judged(&seen, "etcd");
        assert_eq!(assessment.verdict(), Verdict::Starting);
        assert_eq!(matches!(assessment.cause, Some(Cause::Cluster { .. })), named, "{:?}", assessment.cause);
    }
}

#[test]
fn a_member_that_is_cut_off_from_a_cluster_that_serves_does_not_name_the_cluster() {
    let agreed = |id| crate::model::etcd::Agreed { cluster: 7, member: id, term: 3, revision: 40 };
    let cut_off = |kind: Option<SymptomKind>, voters: &[u64]| {
        let seen = started_alone(60, |status| {
            status.elsewhere = Some(voters.iter().map(|id| (*id, agreed(*id))).collect());
            status.peers_refuse = kind.map(|kind| (2, Symptom::new(kind, "UnknownCA"))).into_iter().collect();
        });
        judged(&seen, "etcd").cause
    };
    assert_eq!(cut_off(None, &[2, 3]), None, "whatever it is, it is of this member");
    assert!(
        matches!(cut_off(Some(SymptomKind::Tls), &[2, 3]), Some(Cause::KeyMaterial { detail }) if detail.contains("m2"))
    );
    assert!(matches!(cut_off(Some(SymptomKind::CertificateDates), &[2, 3]), Some(Cause::Certificate { .. })));
    assert!(matches!(cut_off(None, &[2]), Some(Cause::Cluster { .. })), "one of three is no quorum");
}

#[test]
fn whoever_reads_from_a_learner_waits_for_its_promotion() {
    let mut seen = member_says(|status| status.own.as_mut().unwrap().learner = true);
    if let Directory::Present { files, .. } = &mut seen.manifests {
        files.insert("kube-apiserver.yaml".into(), Arc::new(file("kube-apiserver", -3600)));
    }
    running(&mut seen, "kube-apiserver", -3000);
    answers(&mut seen, "kube-apiserver", &[(Question::Live, bad(SymptomKind::Unhealthy))]);
    let (id, record) = known_good("kube-apiserver", Vec::new());
    let memory = Memory { components: [(id.clone(), record)].into(), ..Memory::default() };
    let (judgement, _) = passes(&seen, &memory, History::default(), 30);
    let cause = judgement.components[&id].cause.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("is a learner"), "{cause}");
    let etcd = &judgement.components[&ComponentId::system("etcd")];
    assert_eq!(etcd.health, Health::Healthy { breaks_dependent: None });
    seen.etcd.get_mut(&ComponentId::system("etcd")).unwrap().own.as_mut().unwrap().learner = false;
    let (judgement, _) = passes(&seen, &memory, History::default(), 30);
    assert_eq!(judgement.components[&id].cause, None);
}

#[test]
fn a_learner_is_alive_and_owes_no_linearizable_read() {
    let learner = |status: &mut EtcdStatus| {
        status.own.as_mut().unwrap().learner = true;
        status.members = None;
    };
    let mut seen = member_says(learner);
    let answered = [
        (Question::Live, Reading::Good),
        (Question::Ready, bad(SymptomKind::Unhealthy)),
        (Question::Quorum, cannot(SymptomKind::NoMeans)),
    ];
    answers(&mut seen, "etcd", &answered);
    let assessment = judged(&seen, "etcd");
    assert_eq!((assessment.verdict(), assessment.cause), (Verdict::Healthy, None));
    assert!(assessment.evidence.iter().any(|line| line.contains("learner")), "{:?}", assessment.evidence);
    answers(&mut seen, "etcd", &[(Question::Live, bad(SymptomKind::TimedOut))]);
    assert_eq!(judged(&seen, "etcd").verdict(), Verdict::Stalled, "one that hangs is none");
}

#[test]
fn a_member_without_others_is_not_left_alone_by_them() {
    let mut seen =
        member_says(|status| status.members = status.members.take().map(|all| all.into_iter().take(1).collect()));
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good), (Question::Quorum, bad(SymptomKind::ClusterWide))]);
    let Some(Cause::Cluster { detail }) = judged(&seen, "etcd").cause else { panic!("no cause") };
    assert!(detail.contains("the only one"), "{detail}");
}

#[test]
fn a_slow_disk_is_evidence_and_explains_only_what_is_wrong() {
    let slow = |status: &mut EtcdStatus| {
        status.metrics = Some(Metrics { fsync: vec![SLOW_FSYNC * 2, SLOW_FSYNC, SLOW_FSYNC], ..Metrics::default() });
    };
    let mut seen = member_says(slow);
    let assessment = judged(&seen, "etcd");
    assert_eq!((assessment.verdict(), assessment.cause), (Verdict::Healthy, None));
    assert!(assessment.evidence.iter().any(|line| line.contains("above 512 ms")), "{:?}", assessment.evidence);
    answers(&mut seen, "etcd", &[(Question::Live, bad(SymptomKind::TimedOut))]);
    assert!(matches!(judged(&seen, "etcd").cause, Some(Cause::Disk { .. })));
    answers(&mut seen, "etcd", &[(Question::Live, Reading::Good), (Question::Quorum, bad(SymptomKind::ClusterWide))]);
    assert!(matches!(judged(&seen, "etcd").cause, Some(Cause::Disk { .. })), "it writes its log too slowly to agree");
    seen.etcd.values_mut().for_each(|status| status.own.as_mut().unwrap().leader = None);
    assert!(matches!(judged(&seen, "etcd").cause, Some(Cause::Cluster { .. })), "without a leader it is not the disk");
    let two = member_says(|status| {
        let fsync = vec![SLOW_FSYNC, Duration::ZERO, SLOW_FSYNC];
        status.metrics = Some(Metrics { fsync, ..Metrics::default() });
    });
    assert!(!judged(&two, "etcd").evidence.iter().any(|line| line.contains("slow")), "one good scrape between");
}

#[test]
fn certificates_that_do_not_fit_are_named_in_either_direction() {
    let mut seen = member_says(|_| {});
    for answered in [
        [(Question::Live, Reading::Good), (Question::AsDependent, bad(SymptomKind::Tls))],
        [(Question::Live, cannot(SymptomKind::Tls)), (Question::AsDependent, bad(SymptomKind::Tls))],
    ] {
        answers(&mut seen, "etcd", &answered);
        let assessment = judged(&seen, "etcd");
        assert_eq!(assessment.verdict(), Verdict::Failing);
        assert!(matches!(assessment.cause, Some(Cause::KeyMaterial { .. })), "{:?}", assessment.cause);
    }
}

#[test]
fn what_a_process_before_this_one_said_is_not_held_against_it() {
    let mut seen = member_says(|status| {
        status.own.as_mut().unwrap().alarms = vec![Alarm { member: 1, kind: AlarmKind::NoSpace }];
    });
    seen.etcd.get_mut(&ComponentId::system("etcd")).unwrap().at = seen.at.boot - Duration::from_secs(3600);
    assert_eq!(judged(&seen, "etcd").verdict(), Verdict::Healthy);
}
