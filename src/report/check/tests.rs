//! Situations of a node, and what is found of a manifest there.

use std::collections::BTreeMap;

use super::*;
use crate::model::Digest;
use crate::model::environment::{Certificate, User};
use crate::model::observation::Listener;

const API: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver, namespace: kube-system}
spec:
  hostNetwork: true
  containers:
  - name: kube-apiserver
    image: api:v1.36.0
    command: [kube-apiserver, --secure-port=6443, --tls-cert-file=/pki/a.crt, --audit-policy-file=/audit/p.yaml]
    volumeMounts: [{name: pki, mountPath: /pki}, {name: audit, mountPath: /audit/p.yaml}]
  volumes:
  - {name: pki, hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}}
  - {name: audit, hostPath: {path: /etc/kubernetes/p.yaml, type: File}}
";

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes().into()).unwrap()
}

fn now() -> Timestamp {
    "2026-11-29T10:00:00Z".parse().unwrap()
}

/// A node on which the manifest starts.
fn fine() -> Preflight {
    let present = ImagePresence::Present { id: "sha256:1".into() };
    let certificate = Certificate {
        path: "/etc/kubernetes/pki/a.crt".into(),
        named: ["/etc/kubernetes/pki/a.crt".into()].into(),
        users: [User::Component(ComponentId::system("kube-apiserver"))].into(),
        subject: "kube-apiserver".into(),
        issuer: "kubernetes".into(),
        not_before: now().as_second() - 1000,
        not_after: now().as_second() + 300 * 24 * 3600,
        authority: false,
        fingerprint: Digest::of(b"a"),
    };
    let own = Listener { pid: Some(7), program: "kube-apiserver".into(), container: Some("c1".into()) };
    Preflight {
        runtime: Ok(()),
        images: [("api:v1.36.0".to_owned(), present)].into(),
        own_containers: ["c1".to_owned()].into(),
        listeners: [(6443, own)].into(),
        volumes: vec![PathKind::Directory, PathKind::File],
        unreadable: BTreeMap::new(),
        certificates: vec![certificate],
        mismatched: BTreeMap::new(),
    }
}

fn check(text: &str, change: impl FnOnce(&mut Preflight)) -> ManifestCheck {
    let mut found = fine();
    change(&mut found);
    ManifestCheck::of_manifest("a.yaml", &manifest(text), &found, now())
}

/// A list with one that can be deployed, and one that holds no pod.
pub(in crate::report) fn sample() -> List<ManifestCheck> {
    let fault = Manifest::parse(b"a: [".as_slice().into()).unwrap_err();
    List { items: vec![check(API, |_| {}), ManifestCheck::of_fault("-", &fault)] }
}

#[test]
fn what_keeps_a_pod_from_starting_is_found_before_it_is_deployed() {
    use CheckResult::{CannotTell, Failed, Ok, Warning};
    type Change = fn(&mut Preflight);
    let nothing: Change = |_| {};
    let without_type = API.replace(", type: File", "");
    let directory = API
        .replace("path: /etc/kubernetes/p.yaml, type: File", "path: /srv/audit")
        .replace("mountPath: /audit/p.yaml", "mountPath: /audit");
    let rows: Vec<(&str, String, Change, CheckResult, &str)> = vec![
        ("fine", API.to_owned(), nothing, Ok, ""),
        (
            "two mounts",
            API.replace("volumeMounts: [", "volumeMounts: [{name: pki, mountPath: /pki}, "),
            nothing,
            Failed,
            "validation",
        ),
        (
            "a Secret",
            API.replace("spec:\n", "spec:\n  imagePullSecrets: [{name: a}]\n"),
            nothing,
            Warning,
            "validation",
        ),
        ("a misspelt field", API.replace("hostNetwork", "hostnetwork"), nothing, Warning, "fields"),
        (
            "no image",
            API.to_owned(),
            |found| drop(found.images.insert("api:v1.36.0".into(), ImagePresence::Absent)),
            Failed,
            "image",
        ),
        (
            "no runtime",
            API.to_owned(),
            |found| {
                found.runtime = Err("gone".into());
                found.images.clear();
                found.own_containers.clear();
            },
            CannotTell,
            "image port",
        ),
        ("a port of another's", API.to_owned(), |found| found.own_containers.clear(), Failed, "port"),
        ("a free port", API.to_owned(), |found| found.listeners.clear(), Ok, ""),
        ("a missing file", API.to_owned(), |found| found.volumes[1] = PathKind::Missing, Failed, "volumes"),
        ("a directory for a file", API.to_owned(), |found| found.volumes[1] = PathKind::Directory, Failed, "volumes"),
        ("a file of no type", without_type, |found| found.volumes[1] = PathKind::Missing, Failed, "volumes"),
        ("a directory of no type", directory, |found| found.volumes[1] = PathKind::Missing, Warning, "volumes"),
        ("a directory to be made", API.to_owned(), |found| found.volumes[0] = PathKind::Missing, Ok, ""),
        (
            "an unreadable file",
            API.to_owned(),
            |found| {
                found.unreadable.insert("/etc/kubernetes/pki/a.crt".into(), "does not exist".into());
            },
            Failed,
            "files",
        ),
        ("a file that no mount brings in", API.replace("=/audit/p.yaml", "=/other/p.yaml"), nothing, Warning, "files"),
        (
            "an ended certificate",
            API.to_owned(),
            |found| found.certificates[0].not_after = now().as_second() - 1,
            Failed,
            "certificates",
        ),
        (
            "the key of another",
            API.to_owned(),
            |found| {
                found.mismatched.insert("/etc/kubernetes/pki/a.crt".into(), "with its key: they differ".into());
            },
            Failed,
            "certificates",
        ),
    ];
    for (situation, text, change, verdict, subjects) in rows {
        let checked = check(&text, change);
        let bad = checked.checks.iter().filter(|check| check.verdict != Ok).map(|check| check.subject.as_str());
        assert_eq!((checked.verdict, bad.collect::<Vec<_>>().join(" ")), (verdict, subjects.to_owned()), "{situation}");
        assert_eq!(checked.is_well(), verdict <= Warning, "{situation}");
        assert!(checked.checks.iter().all(|check| (check.verdict == Ok) == check.fix.is_none()), "{situation}");
    }
}

#[test]
fn a_file_that_holds_no_pod_has_no_component() {
    let fault = Manifest::parse(b"a: [".as_slice().into()).unwrap_err();
    let checked = ManifestCheck::of_fault("-", &fault);
    assert_eq!((checked.component.clone(), checked.verdict, checked.is_well()), (None, CheckResult::Failed, false));
    assert!(checked.sentence.contains("the manifest"), "{}", checked.sentence);
}
