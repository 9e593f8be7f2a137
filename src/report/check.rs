//! A manifest before it is deployed, as `lastgood check` prints it: would the kubelet take it, and would its pod start on
//! this node?
//!
//! ```text
//!   the kubelet's decoder ─▶ its validation ─▶ image ─▶ ports ─▶ volumes ─▶ files of flags ─▶ certificates
//! ```
//!
//! The same values that the agent goes by. A prediction is no proof: the kubelet decides (Q16).

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::doctor::{Check, CheckResult};
use crate::model::document::List;
use crate::model::environment::{Validity, second};
use crate::model::observation::ImagePresence;
use crate::model::predictions::Kubelets;
use crate::model::preflight::{HostVolume, PathKind, Preflight, flag_files, host_volumes};
use crate::model::unknown_fields::unknown_fields;
use crate::model::{ComponentId, FileFault, Manifest};

/// One manifest, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ManifestCheck {
    /// The file, as it was named; `-` for standard input.
    pub file: String,
    /// Whose manifest it is; absent where it does not decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentId>,
    /// The worst of all.
    pub verdict: CheckResult,
    /// The same as a sentence.
    pub sentence: String,
    /// Every check, the worst first.
    pub checks: Vec<Check>,
}

impl ManifestCheck {
    /// Of a file that holds no pod.
    pub fn of_fault(file: &str, fault: &FileFault) -> Self {
        let (verdict, fix) = match fault {
            FileFault::Unreadable { .. } => (CheckResult::CannotTell, "`ls -l` shows it; run it as root"),
            FileFault::Undecodable { .. } => (
                CheckResult::Failed,
                "write the field as its type wants it: text in quotes (`\"yes\"`, `\"5\"`), numbers and booleans without",
            ),
            _ => (
                CheckResult::Failed,
                "correct it; `kubeadm init phase control-plane all --dry-run` prints those of kubeadm",
            ),
        };
        let check = Check::bad("manifest", verdict, format!("it {fault}"), fix);
        Self::new(file, None, vec![check])
    }

    /// Of one that decodes, on the node that was looked at.
    pub fn of_manifest(file: &str, manifest: &Manifest, found: &Preflight, now: Timestamp) -> Self {
        let mut checks = kubelet(manifest);
        checks.extend(images(manifest, found));
        checks.extend(ports(manifest, found));
        checks.extend(volumes(manifest, found));
        checks.extend(files(manifest, found));
        checks.extend(certificates(found, now));
        Self::new(file, Some(manifest.id.clone()), checks)
    }

    fn new(file: &str, component: Option<ComponentId>, mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(CheckResult::CannotTell);
        let name = if file == "-" { "the manifest" } else { file };
        let sentence = match verdict {
            CheckResult::Ok => {
                format!("{name} can be deployed: nothing was found that keeps its pod from starting here")
            }
            CheckResult::Warning => format!("{name} can be deployed; see the warnings"),
            CheckResult::CannotTell => format!("it is unknown whether the pod of {name} starts here"),
            CheckResult::Failed if component.is_none() => format!("the kubelet does not run {name}"),
            CheckResult::Failed => format!("the pod of {name} is not expected to start here"),
        };
        Self { file: file.to_owned(), component, verdict, sentence, checks }
    }

    /// Whether it can be deployed, as far as anybody can tell.
    pub fn is_well(&self) -> bool {
        self.verdict <= CheckResult::Warning
    }
}

/// All of them for people: a table each, and what was found as the last line.
pub fn text(checked: &List<ManifestCheck>) -> String {
    let one = |check: &ManifestCheck| format!("{}\n{}\n", super::text::checks(&check.checks), check.sentence);
    checked.items.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// What the kubelet makes of the text itself.
fn kubelet(manifest: &Manifest) -> Vec<Check> {
    let mut checks: Vec<Check> = manifest
        .refusals()
        .map(|prediction| {
            let (mark, who) = match prediction.kubelets {
                Kubelets::All => (CheckResult::Failed, "the kubelet is expected to refuse it"),
                Kubelets::From(_) | Kubelets::Before(_) => (CheckResult::Warning, "some kubelets refuse it"),
            };
            let fix = format!("correct {}; `kubelet --version` prints the version", prediction.path);
            Check::bad("validation", mark, format!("{who}: {prediction}"), fix)
        })
        .collect();
    let unknown = unknown_fields(manifest);
    if !unknown.is_empty() {
        let detail = format!("the kubelet ignores what it does not know: {}", unknown.join(", "));
        let fix = "compare the spelling, capitals included, with `kubectl explain pod.spec`";
        checks.push(Check::bad("fields", CheckResult::Warning, detail, fix));
    }
    if checks.is_empty() {
        checks.push(Check::ok("manifest", format!("the kubelet is expected to accept it as {}", manifest.id)));
    }
    checks
}

fn images(manifest: &Manifest, found: &Preflight) -> Vec<Check> {
    const SUBJECT: &str = "image";
    let judged = manifest.images().into_iter().map(|image| match (&found.runtime, found.images.get(&image)) {
        (_, Some(ImagePresence::Present { .. })) => Check::ok(SUBJECT, format!("{image} is on this node")),
        (_, Some(ImagePresence::Absent)) => {
            let detail = format!("{image} is not on this node: the kubelet ends the pod before it pulls it");
            Check::bad(SUBJECT, CheckResult::Failed, detail, format!("`crictl pull {image}`"))
        }
        (Err(why), None) => {
            let detail = format!("it is unknown whether {image} is on this node: {why}");
            Check::bad(SUBJECT, CheckResult::CannotTell, detail, "run it as root on the master, or see `crictl info`")
        }
        (Ok(()), None) => {
            let detail = format!("the container runtime did not say whether {image} is on this node");
            Check::bad(SUBJECT, CheckResult::CannotTell, detail, "try again, or see `crictl images`")
        }
    });
    judged.collect()
}

fn ports(manifest: &Manifest, found: &Preflight) -> Vec<Check> {
    const SUBJECT: &str = "port";
    let ports = manifest.ports();
    let mut checks = Vec::new();
    for port in &ports {
        let Some(listener) = found.listeners.get(port) else { continue };
        let own = listener.container.as_ref().is_some_and(|container| found.own_containers.contains(container));
        if own {
            continue;
        }
        let pid = listener.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        let who = format!("port {port} is held by {}{pid}", listener.program);
        checks.push(if listener.container.is_some() && found.runtime.is_err() {
            let detail = format!("{who}, and it is unknown whether that is the pod which this one replaces");
            Check::bad(SUBJECT, CheckResult::CannotTell, detail, "run it as root on the master, or see `crictl ps`")
        } else {
            let detail = format!("{who}, which is no container of {}", manifest.id);
            Check::bad(SUBJECT, CheckResult::Failed, detail, format!("`ss -ltnp 'sport = :{port}'`; end what holds it"))
        });
    }
    if checks.is_empty() && !ports.is_empty() {
        let listed: Vec<String> = ports.iter().map(u16::to_string).collect();
        let detail = format!("{}: free, or held by the pod that this one replaces", listed.join(", "));
        checks.push(Check::ok(SUBJECT, detail));
    }
    checks
}

fn volumes(manifest: &Manifest, found: &Preflight) -> Vec<Check> {
    let all = host_volumes(manifest);
    let mut checks: Vec<Check> =
        all.iter().zip(&found.volumes).filter_map(|(volume, kind)| of_volume(manifest, volume, kind)).collect();
    if checks.is_empty() && !all.is_empty() {
        checks.push(Check::ok("volumes", format!("{} on the host are as their types want them", all.len())));
    }
    checks
}

fn of_volume(manifest: &Manifest, volume: &HostVolume, kind: &PathKind) -> Option<Check> {
    let (path, name) = (volume.path.display(), &volume.name);
    let subject = "volumes";
    let check = |mark, detail: String, fix: String| Some(Check::bad(subject, mark, detail, fix));
    if let PathKind::Unknown(why) = kind {
        let detail = format!("it is unknown what {path} of volume {name} is: {why}");
        return check(CheckResult::CannotTell, detail, "run it as root".to_owned());
    }
    let fits = match volume.wants.as_str() {
        "Directory" | "DirectoryOrCreate" => matches!(kind, PathKind::Directory),
        "File" | "FileOrCreate" => matches!(kind, PathKind::File),
        "Socket" => matches!(kind, PathKind::Socket),
        "CharDevice" => matches!(kind, PathKind::CharDevice),
        "BlockDevice" => matches!(kind, PathKind::BlockDevice),
        _ => true,
    };
    match (volume.wants.as_str(), kind) {
        ("DirectoryOrCreate", PathKind::Missing) => None,
        ("FileOrCreate", PathKind::Missing) => {
            let detail = format!("{path} of volume {name} does not exist: the kubelet makes an empty file of it");
            check(CheckResult::Warning, detail, format!("write {path} first, if it must not be empty"))
        }
        ("", PathKind::Missing) => {
            let named = flag_files(manifest).iter().any(|file| file.host.as_deref() == Some(volume.path.as_path()));
            let mark =
                if named || looks_like_a_file(&volume.path) { CheckResult::Failed } else { CheckResult::Warning };
            let detail = format!(
                "{path} of volume {name} does not exist, and the volume has no type: the runtime makes a directory of it"
            );
            check(mark, detail, format!("create {path}, or give the volume `type: File` or `type: Directory`"))
        }
        (wants, PathKind::Missing) => {
            let detail =
                format!("{path} of volume {name} does not exist: with type {wants} the pod stays in ContainerCreating");
            check(CheckResult::Failed, detail, format!("create {path}"))
        }
        (wants, kind) if !fits => {
            let detail = format!("{path} of volume {name} is {}, and the type wants {wants}", words(kind));
            check(CheckResult::Failed, detail, format!("`ls -ld {path}`; correct the path or the type"))
        }
        _ => None,
    }
}

/// Whether a name is one of a file: `audit.yaml`.
fn looks_like_a_file(path: &Path) -> bool {
    const ENDS: [&str; 8] = ["yaml", "yml", "json", "conf", "crt", "key", "pem", "sock"];
    path.extension().is_some_and(|end| ENDS.iter().any(|one| end.eq_ignore_ascii_case(one)))
}

fn words(kind: &PathKind) -> &'static str {
    match kind {
        PathKind::Missing => "missing",
        PathKind::File => "a file",
        PathKind::Directory => "a directory",
        PathKind::Socket => "a socket",
        PathKind::CharDevice => "a character device",
        PathKind::BlockDevice => "a block device",
        PathKind::Fifo => "a fifo",
        PathKind::Unknown(_) => "unknown",
    }
}

fn files(manifest: &Manifest, found: &Preflight) -> Vec<Check> {
    const SUBJECT: &str = "files";
    let named = flag_files(manifest);
    let mut checks = Vec::new();
    for file in &named {
        let (flag, inside) = (&file.flag, file.inside.display());
        match &file.host {
            None => {
                let detail = format!("{flag} names {inside}, and no hostPath volume brings that into the container");
                let fix = format!("mount the file or its directory at {inside}");
                checks.push(Check::bad(SUBJECT, CheckResult::Warning, detail, fix));
            }
            Some(host) => {
                let Some(why) = found.unreadable.get(host) else { continue };
                let detail = format!("{flag} names {}, which {why}", host.display());
                checks.push(Check::bad(SUBJECT, CheckResult::Failed, detail, format!("`ls -l {}`", host.display())));
            }
        }
    }
    if checks.is_empty() && !named.is_empty() {
        let detail = match named.len() {
            1 => "the 1 file that its flags name can be read".to_owned(),
            count => format!("the {count} files that its flags name can be read"),
        };
        checks.push(Check::ok(SUBJECT, detail));
    }
    checks
}

fn certificates(found: &Preflight, now: Timestamp) -> Vec<Check> {
    const SUBJECT: &str = "certificates";
    const RENEW: &str = "`kubeadm certs renew` renews its own; `lastgood certs check` lists all";
    let mut checks = Vec::new();
    for certificate in &found.certificates {
        let path = certificate.path.display();
        let end = second(certificate.not_after);
        let (mark, detail) = match certificate.validity(now) {
            Validity::Valid => continue,
            Validity::Ending(days) => (CheckResult::Warning, format!("{path} ends within {days} days, at {end}")),
            Validity::Ended => (CheckResult::Failed, format!("{path} ended at {end}")),
            Validity::NotYet => {
                (CheckResult::Failed, format!("{path} is not valid before {}", second(certificate.not_before)))
            }
        };
        checks.push(Check::bad(SUBJECT, mark, detail, RENEW));
    }
    for (path, why) in &found.mismatched {
        let detail = format!("{} does not go {why}", path.display());
        let fix = "put the certificate and the key of one pair there; `kubeadm certs renew` makes both";
        checks.push(Check::bad(SUBJECT, CheckResult::Failed, detail, fix));
    }
    if checks.is_empty() && !found.certificates.is_empty() {
        let detail = format!("{} are valid, and those with a key fit it", found.certificates.len());
        checks.push(Check::ok(SUBJECT, detail));
    }
    checks
}

#[cfg(test)]
pub(super) mod tests;
