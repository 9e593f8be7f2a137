//! A node on which everything is as it should be, and what each thing that is not comes to.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::testing::{
    AUDIT, CONFIG, POD, Scene, bundled, certificate, file, id, kubeconfig, now, present, snapshots, with_newest,
};
use super::{Check, CheckResult, Doctor};
use crate::config::OldName;
use crate::model::certificate_use::{KubeletCertificate, OlderInUse};
use crate::model::component_state::{Held, Until};
use crate::model::config_files::FileKind;
use crate::model::environment::Accepts;
use crate::model::format::NewerFile;
use crate::model::kubelet_probe::{AnswersUs, FailingProbe};
use crate::model::member_conflict::{ConflictKind, MemberConflict};
use crate::model::memory::{Pause, Pin};
use crate::model::observation::{BusyKind, BusyProcess, Directory, ImagePresence, ManifestFile};
use crate::model::policy::Mode;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::sandbox_setup::{CgroupDriver, ResolvConf, SandboxSetup};
use crate::model::store_fault::{Database, FaultKind, StoreFault};
use crate::model::{ComponentState, Reading, Trust};
use crate::report::etcd::tests::three;
use crate::report::{Format, Process, golden};

#[test]
fn a_node_on_which_a_recovery_would_succeed() {
    let doctor = Scene::new().examine();
    assert_eq!((doctor.is_well(), doctor.verdict), (true, CheckResult::Ok));
    golden::same("doctor", &doctor.text());
}

/// A situation, what makes it, the check that says so, and how it comes out. What it says is in tests/golden.
type Row = (&'static str, fn(&mut Scene), &'static str, CheckResult);

const NODE: &[Row] = &[
    ("the agent is stopped", |s| s.agent = Ok(Process::Stopped), "agent", CheckResult::Warning),
    ("the agent does not answer", |s| s.agent = Err("silent".into()), "agent", CheckResult::Failed),
    (
        "a key with an old name",
        |s| {
            let file = "/etc/lastgood/config.toml".into();
            s.old_names.push(OldName { file, line: 3, old: "candidate.quiet", new: "candidate.debounce" });
        },
        "configuration",
        CheckResult::Warning,
    ),
    ("observe mode", |s| s.policy.mode = Mode::Observe, "acting", CheckResult::Warning),
    (
        "paused",
        |s| {
            let until = now() + Duration::from_secs(60);
            s.memory.pause = Some(Pause { until, reason: String::new(), warned: false });
        },
        "acting",
        CheckResult::Warning,
    ),
    (
        "kubeadm at work",
        |s| s.seen.node.busy.push(BusyProcess { pid: 9, command: "kubeadm upgrade".into(), kind: BusyKind::Kubeadm }),
        "acting",
        CheckResult::Warning,
    ),
    (
        "data that no etcd starts over",
        |s| {
            let fault = StoreFault {
                kind: FaultKind::WalIncomplete { what: "the entries 3 to 4 are missing".into() },
                path: "/var/lib/etcd/member/snap/db".into(),
                database: Database::Whole { revision: 42 },
                others: 0,
            };
            s.seen.node.store_faults = [("/var/lib/etcd".into(), fault)].into();
        },
        "etcd data in /var/lib/etcd",
        CheckResult::Failed,
    ),
    (
        "members that an etcd 3.6 would take for learners",
        |s| {
            let learner = |name: &str, id: &str| MemberConflict {
                id: id.into(),
                name: name.into(),
                url: "https://10.0.0.2:2380".into(),
                kind: ConflictKind::LearnerInDatabase,
            };
            let conflicts = vec![learner("m2", "b2"), learner("m3", "c3")];
            s.seen.node.member_conflicts = [("/var/lib/etcd".into(), conflicts)].into();
        },
        "etcd members in /var/lib/etcd",
        CheckResult::Warning,
    ),
    (
        "one of three etcd members whose manifest founds a cluster",
        |s| {
            let text = "--- {apiVersion: v1, kind: Pod, metadata: {name: etcd, namespace: kube-system}, \
                        spec: {containers: [{name: etcd, image: 'etcd:v1', command: [etcd]}]}}";
            let Directory::Present { files, .. } = &mut s.seen.manifests else { panic!("no directory") };
            let file = Arc::new(ManifestFile { name: "etcd.yaml".to_owned(), ..(*file(text)).clone() });
            files.insert("etcd.yaml".to_owned(), file);
            s.seen.etcd = [("kube-system/etcd".parse().unwrap(), three())].into();
        },
        "etcd.yaml of several members",
        CheckResult::Warning,
    ),
    ("no certificate", |s| s.seen.node.certificates.clear(), "certificates", CheckResult::CannotTell),
    (
        "a certificate that ends soon",
        |s| s.seen.node.certificates = vec![certificate(365), certificate(5)],
        "certificates",
        CheckResult::Warning,
    ),
    (
        "a certificate that has ended",
        |s| s.seen.node.certificates = vec![certificate(-1)],
        "certificates",
        CheckResult::Failed,
    ),
    (
        "a process that has an older certificate",
        |s| {
            s.seen.node.older_in_use = vec![OlderInUse {
                component: id(),
                path: "/etc/kubernetes/scheduler.conf".into(),
                renewed: now(),
                started: now() - Duration::from_secs(3600),
                ends: None,
            }];
        },
        "certificates in use",
        CheckResult::Warning,
    ),
    (
        "a kubelet's certificate that is no link",
        |s| {
            let path = "/var/lib/kubelet/pki/kubelet-client-current.pem".into();
            s.seen.node.kubelet_certificate = Some(KubeletCertificate::NoLink { path, rotated: None });
        },
        "certificates in use",
        CheckResult::Warning,
    ),
    (
        "a kubelet's certificate that has ended",
        |s| {
            let path = "/var/lib/kubelet/pki/kubelet-client-current.pem".into();
            s.seen.node.certificates = vec![crate::model::environment::Certificate { path, ..certificate(-1) }];
        },
        "certificates",
        CheckResult::Failed,
    ),
    (
        "an address that is on no interface",
        |s| s.seen.node.addresses = super::testing::without_address(),
        "addresses",
        CheckResult::Failed,
    ),
    (
        "a kubelet whose way a pod of this node raises",
        |s| s.seen.node.addresses = super::testing::with_vip(true),
        "way to the API server",
        CheckResult::Warning,
    ),
    (
        "a virtual IP that nobody raised",
        |s| {
            s.seen.node.addresses = super::testing::with_vip(false);
            s.seen.node.endpoints = vec![super::testing::dead_endpoint(Accepts::No)];
        },
        "way to the API server",
        CheckResult::Warning,
    ),
    (
        "a balancer that takes connections and does not answer",
        |s| s.seen.node.endpoints = vec![super::testing::dead_endpoint(Accepts::Yes)],
        "way to the API server",
        CheckResult::Warning,
    ),
    (
        "files of a newer lastgood",
        |s| {
            let path = "/var/lib/lastgood/memory.json".into();
            s.seen.node.newer_state = vec![NewerFile { path, version: 9, known: 2 }];
        },
        "acting",
        CheckResult::Failed,
    ),
    ("a read-only /etc", |s| s.seen.node.read_only = Some("/etc is".into()), "acting", CheckResult::Failed),
    (
        "no master any more",
        |s| s.seen.node.master.missing.push("/etc/kubernetes/kubelet.conf".into()),
        "master",
        CheckResult::Warning,
    ),
    ("a full state disk", |s| s.places.state.bytes = Some(100 << 10), "state directory", CheckResult::Failed),
    ("no inodes", |s| s.places.staging.inodes = Some(3), "staging", CheckResult::Failed),
    ("inodes as needed", |s| s.places.staging.inodes = None, "staging", CheckResult::Ok),
    ("a disk that cannot be asked", |s| s.places.staging.bytes = None, "staging", CheckResult::CannotTell),
    (
        "a manifest directory that cannot be written",
        |s| s.places.manifests.writable = Err("no".into()),
        "manifest directory",
        CheckResult::Failed,
    ),
    (
        "no manifest directory",
        |s| s.seen.manifests = Directory::Missing { gone: BTreeMap::new() },
        "manifests",
        CheckResult::Failed,
    ),
    (
        "an unreadable manifest directory",
        |s| s.seen.manifests = Directory::Unreadable("EIO".into()),
        "manifests",
        CheckResult::Failed,
    ),
    ("staging elsewhere", |s| s.places.renames = Err("not there".into()), "rename", CheckResult::Failed),
    ("a clock set back", |s| s.now = "2026-11-22T18:00:00Z".parse().unwrap(), "clock", CheckResult::Warning),
    (
        "a silent runtime",
        |s| s.seen.runtime = Err(Symptom::new(SymptomKind::Refused, "refused")),
        "container runtime",
        CheckResult::Failed,
    ),
    ("no kubelet", |s| s.seen.kubelet.process = None, "kubelet", CheckResult::Failed),
    (
        "an unwell kubelet",
        |s| s.seen.kubelet.healthz = Reading::Bad(Symptom::new(SymptomKind::Unhealthy, "500")),
        "kubelet health",
        CheckResult::Failed,
    ),
    (
        "a kubelet that is slow to answer",
        |s| s.seen.kubelet.healthz = Reading::CannotTell(Symptom::new(SymptomKind::TimedOut, "no answer")),
        "kubelet health",
        CheckResult::CannotTell,
    ),
    (
        "a kubelet without a health port",
        |s| s.seen.kubelet.healthz = Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, "switched off")),
        "kubelet health",
        CheckResult::Warning,
    ),
    (
        "a kubelet that was replaced under itself",
        |s| s.seen.kubelet.process.as_mut().unwrap().changed_since = Some("/usr/bin/kubelet".into()),
        "kubelet unchanged",
        CheckResult::Warning,
    ),
    ("no restart command", |s| s.places.restart = Err("x".into()), "kubelet restart", CheckResult::Failed),
    (
        "the kubelet's restarts are spent",
        |s| s.memory.kubelet_restarts = VecDeque::from([Duration::ZERO; 2]),
        "kubelet restarts left",
        CheckResult::Warning,
    ),
];

const COMPONENT: &[Row] = &[
    ("nothing is known", |s| s.memory.components.clear(), "components", CheckResult::Failed),
    (
        "nothing is known-good",
        |s| {
            s.record().state = ComponentState::Adopting { candidate: 1, healthy: Duration::ZERO };
            s.record().generations.get_mut(&1).unwrap().trust = Trust::Candidate;
        },
        "kube-scheduler: known-good",
        CheckResult::Failed,
    ),
    (
        "a pinned generation",
        |s| s.record().pinned = Some(Pin { generation: 1, reason: String::new(), since: now() }),
        "kube-scheduler: known-good",
        CheckResult::Ok,
    ),
    (
        "held",
        |s| {
            let next_step = "look at it".to_owned();
            s.record().state = ComponentState::Held(Held {
                over: None,
                good: Some(1),
                why: "spent".into(),
                next_step,
                until: Until::Person,
            });
        },
        "kube-scheduler: held",
        CheckResult::Failed,
    ),
    (
        "a liveness probe that fails while the process answers",
        |s| {
            let probe = FailingProbe {
                field: "livenessProbe",
                target: "https://127.0.0.1:10259/livez".to_owned(),
                path: "/livez".to_owned(),
                why: "it answers after 1500 ms, and the probe waits 1 s".to_owned(),
                period: Duration::from_secs(10),
                threshold: 8,
                failing_for: Duration::from_secs(60),
                answers_us: AnswersUs::Yes,
            };
            s.seen.node.failing_probes = [(id(), probe)].into();
        },
        "kube-scheduler: kubelet's probe",
        CheckResult::Warning,
    ),
    (
        "damaged bytes",
        |s| drop(s.store.insert((id(), 1), Err("manifest is damaged".into()))),
        "kube-scheduler: kept",
        CheckResult::Failed,
    ),
    ("bytes nobody read", |s| s.store.clear(), "kube-scheduler: kept", CheckResult::CannotTell),
    (
        "nothing in inactive-manifests",
        |s| s.seen.inactive.clear(),
        "kube-scheduler: inactive-manifests",
        CheckResult::Warning,
    ),
    (
        "an edited inactive manifest",
        |s| drop(s.seen.inactive.insert("kube-scheduler.yaml".into(), file(&POD.replace("v1'", "v2'")))),
        "kube-scheduler: inactive-manifests",
        CheckResult::Warning,
    ),
    (
        "an image that is gone",
        |s| drop(s.seen.images.insert("scheduler:v1".into(), ImagePresence::Absent)),
        "kube-scheduler: images",
        CheckResult::Failed,
    ),
    (
        "an image that could not be asked for",
        |s| s.seen.images.clear(),
        "kube-scheduler: images",
        CheckResult::CannotTell,
    ),
    (
        "a changed file that can be put back",
        |s| s.stands(AUDIT, present(FileKind::Config, "another")),
        "kube-scheduler: files",
        CheckResult::Ok,
    ),
    (
        "a key in the place of a file",
        |s| s.stands(AUDIT, present(FileKind::KeyMaterial, "key")),
        "kube-scheduler: files",
        CheckResult::Failed,
    ),
    (
        "another kubeconfig that works",
        |s| s.stands(CONFIG, kubeconfig("theirs", now().as_second() + 60)),
        "kube-scheduler: files",
        CheckResult::Failed,
    ),
    (
        "a kept kubeconfig that has ended",
        |s| s.now = now() + Duration::from_secs(7200),
        "kube-scheduler: files",
        CheckResult::Warning,
    ),
    (
        "a spent budget",
        |s| s.record().actions = VecDeque::from([Duration::ZERO; 4]),
        "kube-scheduler: actions left",
        CheckResult::Failed,
    ),
];

/// The check of this subject.
fn check(scene: &Scene, subject: &str) -> Option<Check> {
    scene.examine().checks.into_iter().find(|check| check.subject == subject)
}

#[test]
fn each_thing_that_is_not_as_it_should_be_is_found_and_said_how_to_mend() {
    let mut told = String::new();
    for (situation, change, subject, mark) in NODE.iter().chain(COMPONENT) {
        let mut scene = Scene::new();
        change(&mut scene);
        let doctor = scene.examine();
        let check = doctor.checks.iter().find(|check| check.subject == *subject);
        let check = check.unwrap_or_else(|| panic!("{situation}: {:?}", doctor.checks));
        assert_eq!(check.verdict, *mark, "{situation}: {check:?}");
        assert_eq!(check.fix.is_some(), *mark != CheckResult::Ok, "{situation}: {check:?}");
        assert_eq!(doctor.verdict, *mark, "{situation}: nothing else is wrong: {}", doctor.text());
        assert_eq!(doctor.is_well(), *mark <= CheckResult::Warning, "{situation}");
        let fix = check.fix.as_ref().map_or(String::new(), |fix| format!("\n    {fix}"));
        let _ = writeln!(told, "{situation}\n  {} {}: {}{fix}", check.verdict, check.subject, check.detail);
    }
    golden::same("doctor-findings", &told);
}

#[test]
fn the_worst_comes_first_and_the_verdict_last() {
    let mut scene = Scene::new();
    scene.agent = Ok(Process::Stopped);
    scene.seen.images.clear();
    assert_eq!(scene.examine().verdict, CheckResult::CannotTell);
    let unclear = scene.examine().text();
    scene.places.renames = Err("staging is elsewhere".to_owned());
    let doctor = scene.examine();
    let marks: Vec<CheckResult> = doctor.checks.iter().map(|check| check.verdict).take(4).collect();
    assert_eq!(marks, [CheckResult::Failed, CheckResult::CannotTell, CheckResult::Warning, CheckResult::Ok]);
    let last = doctor.text();
    assert!(last.ends_with(&format!("{}\n", doctor.sentence)), "{last}");
    golden::same("doctor-unwell", &format!("{unclear}\n####\n\n{last}"));
}

#[test]
fn machines_get_the_same_value_and_it_comes_back() {
    let doctor = Scene::new().examine();
    let json = Format::Json.print(&doctor, Doctor::text).unwrap();
    assert_eq!(serde_json::from_str::<Doctor>(&json).unwrap(), doctor);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["kind"], "Doctor");
    assert_eq!((&value["verdict"], &value["checks"][0]["subject"]), (&"ok".into(), &"agent".into()));
    assert!(value["checks"][0].get("fix").is_none());
}

#[test]
fn a_restore_that_was_broken_off_is_told_and_one_that_is_under_way_is_not() {
    let mut scene = Scene::new();
    scene.unfinished = vec!["/var/lib/etcd/.lastgood-restore-0123".into()];
    let found = check(&scene, "restore of etcd").unwrap();
    assert!(found.verdict == CheckResult::Failed && !scene.examine().is_well(), "{found:?}");
    let (pid, command) = (7, "lastgood etcd restore".to_owned());
    scene.seen.node.busy = vec![BusyProcess { pid, command, kind: BusyKind::Restore }];
    assert_eq!(check(&scene, "restore of etcd"), None);
}

#[test]
fn a_recent_verified_snapshot_is_asked_for_where_the_node_has_an_etcd() {
    let mut scene = Scene::new();
    assert_eq!(check(&scene, "snapshot of etcd"), None, "no etcd of its own");
    scene.snapshots = Some(snapshots());
    let none = check(&scene, "snapshot of etcd").unwrap();
    assert_eq!(none.verdict, CheckResult::Warning);
    assert_eq!(none.fix.as_deref(), Some("`lastgood etcd snapshot save`"));
    for (minutes, mark) in [(20, CheckResult::Ok), (62, CheckResult::Warning)] {
        scene.snapshots = Some(with_newest(now() - Duration::from_secs(minutes * 60), bundled(true)));
        let found = check(&scene, "snapshot of etcd").unwrap();
        assert_eq!(found.verdict, mark, "{found:?}");
        assert!(scene.examine().is_well(), "it is no reason to fail");
    }
}

#[test]
fn snapshots_that_are_to_be_in_object_storage_are_looked_for_there_as_well() {
    use crate::model::snapshot::{Failing, Remote, Sent};
    let mut scene = Scene::new();
    let ago = |minutes: u64| now() - Duration::from_secs(minutes * 60);
    let kept = with_newest(ago(10), bundled(true));
    scene.snapshots = Some(kept.clone());
    let subject = "snapshot in object storage";
    assert_eq!(check(&scene, subject), None, "none are sent there");
    let sent = |at| Some(Sent { file: "a.db".into(), at, revision: 7, bytes: 1, verified: at });
    let failing = |at| Some(Failing { since: at, at, times: 4, why: "SlowDown".into() });
    let mut told = String::new();
    for (situation, there, fails, mark) in [
        ("as new as here", sent(ago(10)), None, CheckResult::Ok),
        ("the same, and the last tries failed", sent(ago(10)), failing(ago(5)), CheckResult::Ok),
        ("behind", sent(ago(200)), failing(ago(190)), CheckResult::Warning),
        ("none", None, None, CheckResult::Warning),
    ] {
        let remote = Remote { newest: there, failing: fails, ..Remote::unseen("s3://backups".into()) };
        scene.snapshots = Some(crate::model::Snapshots { remote: Some(remote), ..kept.clone() });
        let found = check(&scene, subject).unwrap();
        assert_eq!(found.verdict, mark, "{situation}: {found:?}");
        let _ = writeln!(told, "{situation}\n  {}: {}", found.verdict, found.detail);
    }
    golden::same("doctor-object-storage", &told);
}

#[test]
fn what_a_bare_machine_would_lack_is_said() {
    let mut scene = Scene::new();
    let mut told = String::new();
    for (bundle, mark, mended) in [
        (bundled(true), CheckResult::Ok, false),
        // A choice, and so no warning.
        (bundled(false), CheckResult::Ok, true),
        (Err("a.bundle.json is damaged".into()), CheckResult::Warning, true),
    ] {
        scene.snapshots = Some(with_newest(now(), bundle));
        assert!(scene.examine().is_well(), "it is no reason to fail");
        let found = check(&scene, "bundle of the snapshot").unwrap();
        assert_eq!((found.verdict, found.fix.is_some()), (mark, mended), "{found:?}");
        let _ = writeln!(told, "{}: {}\n  {}", found.verdict, found.detail, found.fix.unwrap_or_default());
    }
    golden::same("doctor-bundle", &told);
}

#[test]
fn b05_b09_what_the_next_sandbox_lacks_is_found_before_it_is_needed() {
    let setup = |change: fn(&mut SandboxSetup)| {
        let mut setup = SandboxSetup {
            image: Some("pause:3.10".to_owned()),
            runtime_cgroups: Some(CgroupDriver::Systemd),
            kubelet_cgroups: Some((CgroupDriver::Systemd, "/var/lib/kubelet/config.yaml".into())),
            resolv_conf: Some(ResolvConf {
                path: "/etc/resolv.conf".into(),
                named_by: CONFIG.to_owned(),
                exists: true,
            }),
            cri_disabled: None,
        };
        change(&mut setup);
        setup
    };
    type Case = (&'static str, fn(&mut SandboxSetup), bool, CheckResult);
    let cases: [Case; 5] = [
        ("sandbox image", |_| {}, true, CheckResult::Ok),
        ("sandbox image", |_| {}, false, CheckResult::Warning),
        ("resolvConf", |setup| setup.resolv_conf.as_mut().unwrap().exists = false, true, CheckResult::Failed),
        ("cgroup driver", |_| {}, true, CheckResult::Ok),
        ("cgroup driver", |setup| setup.runtime_cgroups = Some(CgroupDriver::Cgroupfs), true, CheckResult::Failed),
    ];
    for (subject, change, has_image, expected) in cases {
        let mut scene = Scene::new();
        scene.seen.node.sandboxes = setup(change);
        let image = if has_image { ImagePresence::Present { id: "1".to_owned() } } else { ImagePresence::Absent };
        scene.seen.images.insert("pause:3.10".to_owned(), image);
        let doctor = scene.examine();
        let check = doctor.checks.iter().find(|check| check.subject == subject).unwrap();
        assert_eq!(check.verdict, expected, "{check:?}");
    }
}
