//! What the kubelet's log explains: a kubelet that ends again and again, and pods that it cannot run.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{at, judged, nothing_runs, running, service};
use crate::model::kubelet_log::{ExitKind, ExitReason, KubeletExit, KubeletLog, PodFault, PodFaultKind};
use crate::model::verdict::Cause;
use crate::model::{ComponentId, Observation, Verdict};

fn exits(seconds: &[i64]) -> KubeletLog {
    let exits = seconds.iter().map(|second| KubeletExit { at: Some(at(*second)), status: "1/FAILURE".to_owned() });
    let reason = ExitReason { kind: ExitKind::Swap, line: "running with swap on is not supported".to_owned() };
    KubeletLog { exits: exits.collect(), reason: Some(reason), ..KubeletLog::default() }
}

fn says(seen: &mut Observation, log: KubeletLog) {
    seen.kubelet.log = Some(Ok(Arc::new(log)));
}

/// How old the kubelet's process is, in seconds; none without a process.
fn is_up(seen: &mut Observation, age: Option<u64>) {
    match (age, &mut seen.kubelet.process) {
        (Some(age), Some(process)) => process.started = seen.at.boot.saturating_sub(Duration::from_secs(age)),
        (_, process) => *process = None,
    }
}

#[test]
fn b02_a_kubelet_that_ends_again_and_again_does_not_run_whether_its_process_is_there_or_not() {
    let cases: [(&str, &[i64], Option<u64>, bool); 6] = [
        ("between two starts", &[-25, -14, -3], None, true),
        ("just started again", &[-25, -14, -3], Some(2), true),
        ("it has stayed", &[-60, -49, -38], Some(37), false),
        ("two ends are no loop", &[-14, -3], None, false),
        ("an hour ago", &[-3650, -3640, -3630], Some(2), false),
        ("no end at all", &[], Some(2), false),
    ];
    for (what, ends, age, is_loop) in cases {
        let scene = |seen: &mut Observation, _: u64| {
            is_up(seen, age);
            let now = seen.at.wall;
            let mut log = exits(ends);
            for exit in &mut log.exits {
                exit.at = exit.at.map(|ended| now + at(0).duration_until(ended));
            }
            says(seen, log);
        };
        let judgement = super::tests::leases(&nothing_runs(&["etcd"]), &[], 3, scene);
        assert_eq!(judgement.kubelet.crash_loop.is_some(), is_loop, "{what}: {:?}", judgement.kubelet);
        if is_loop {
            assert_eq!(judgement.kubelet.verdict, Verdict::Down, "{what}");
            let cause = &judgement.components[&ComponentId::system("etcd")].cause;
            assert!(matches!(cause, Some(Cause::Kubelet { .. })), "{what}: {cause:?}");
        }
    }
}

#[test]
fn b02_without_a_log_its_starts_alone_tell() {
    let restarts = |every: u64| {
        move |seen: &mut Observation, second: u64| {
            if let Some(process) = &mut seen.kubelet.process {
                process.started = seen.at.boot.saturating_sub(Duration::from_secs(second % every));
                process.pid = i32::try_from(second / every).unwrap();
            }
        }
    };
    assert_eq!(service(restarts(11), 60).0, Verdict::Down);
    assert_ne!(service(restarts(70), 240).0, Verdict::Down, "a person who restarts it");
}

#[test]
fn b05_a_pod_without_a_sandbox_has_the_kubelets_own_reason_as_its_cause() {
    let image = PodFaultKind::SandboxImage { image: "registry.k8s.io/pause:3.10".to_owned() };
    let fault =
        |kind: &PodFaultKind, second| PodFault { kind: kind.clone(), detail: "x".to_owned(), at: Some(at(second)) };
    let mount = PodFaultKind::HostPathType { path: "/etc/kubernetes/audit.yaml".into() };
    let cases = [
        ("it cannot pull the pause image", fault(&image, -20), false, true),
        ("that was long ago", fault(&image, -400), false, false),
        ("it runs", fault(&image, -20), true, false),
        ("the manifest's own mistake", fault(&mount, -20), false, false),
    ];
    for (what, fault, runs, is_cause) in cases {
        let mut seen = nothing_runs(&["kube-scheduler"]);
        if runs {
            running(&mut seen, "kube-scheduler", -300);
        }
        says(
            &mut seen,
            KubeletLog { pods: [(ComponentId::system("kube-scheduler"), fault)].into(), ..KubeletLog::default() },
        );
        let cause = judged(&seen, "kube-scheduler").cause;
        assert_eq!(matches!(cause, Some(Cause::Sandbox { .. })), is_cause, "{what}: {cause:?}");
        let mounts = what == "the manifest's own mistake";
        assert_eq!(matches!(cause, Some(Cause::HostPath { .. })), mounts, "{what}: {cause:?}");
    }
}
