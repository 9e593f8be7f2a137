//! What the kubelet's log means: the ends of its process with the reason, and what keeps it from running pods.
//!
//! The texts are the kubelet's (`cmd/kubelet/app/server.go`, `pkg/kubelet/cm`, `pkg/kubelet/pod_workers.go`), containerd's and
//! CRI-O's, as releases from 1.24 to 1.36 write them.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::klog::{Entry, Line};
use super::refused::refused;
use crate::model::ComponentId;
use crate::model::kubelet_log::{
    ExitKind, ExitReason, KubeletExit, KubeletLog, PodFault, PodFaultKind, RefusedManifest,
};

/// The longest text that is quoted, in bytes.
const QUOTED: usize = 400;

/// Reads the log of the kubelet's unit. `node` is the node's name, which the names of static pods end with.
pub(super) fn understand(text: &str, node: &str) -> KubeletLog {
    let mut log = KubeletLog::default();
    let mut said: Option<ExitReason> = None;
    for line in text.lines().map(Line::read) {
        if let Some(status) = exit_status(line.text) {
            log.exits.push(KubeletExit { at: line.at, status });
            if let Some(reason) = said.take() {
                log.reason = Some(reason);
            }
            continue;
        }
        if line.program.is_some_and(|program| program.starts_with("systemd")) {
            continue;
        }
        let entry = Entry::read(line.text);
        if let Some(reason) = reason(line.text, entry.as_ref()) {
            said = Some(better(said, reason));
        }
        let Some(entry) = entry.filter(|entry| entry.severity == 'E') else { continue };
        if let Some((path, why)) = refused(&entry) {
            log.refused.insert(path, RefusedManifest { why, at: line.at });
        }
        if let Some((id, fault)) = pod_fault(&entry, line.at, node) {
            log.pods.insert(id, fault);
        }
    }
    // A log without a service manager's lines: the last word of a process that may have ended.
    log.reason = log.reason.or(said);
    log
}

/// `kubelet.service: Main process exited, code=exited, status=1/FAILURE`.
fn exit_status(text: &str) -> Option<String> {
    let (unit, rest) = text.split_once(": Main process exited, code=")?;
    let status = rest.split_once("status=")?.1;
    unit.ends_with(".service").then(|| status.trim().to_owned())
}

/// Of two lines of one process the one whose kind is known, else the later one.
fn better(before: Option<ExitReason>, now: ExitReason) -> ExitReason {
    match before {
        Some(before) if before.kind != ExitKind::Other && now.kind == ExitKind::Other => before,
        _ => now,
    }
}

/// What a line gives as the reason for an end.
fn reason(text: &str, entry: Option<&Entry>) -> Option<ExitReason> {
    let fatal = |entry: &Entry| {
        entry.severity == 'F'
            || matches!(entry.message.as_str(), "command failed" | "Failed to start ContainerManager")
            || entry.severity == 'E' && entry.message.starts_with("Failed to parse kubelet flag")
    };
    let line = match entry {
        Some(entry) if fatal(entry) => entry.value("err").map_or_else(|| entry.message.clone(), str::to_owned),
        Some(_) => return None,
        None if ["Error: ", "error: ", "panic: "].iter().any(|start| text.starts_with(start)) => text.to_owned(),
        None => return None,
    };
    Some(ExitReason { kind: kind(&line), line: shortened(&line) })
}

fn kind(line: &str) -> ExitKind {
    let lower = line.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().all(|word| lower.contains(word));
    if lower.contains("unknown flag: ") || lower.contains("unknown shorthand flag") {
        return ExitKind::Flag(word_with(line, "--"));
    }
    if says(&["invalid argument", "flag"]) {
        return ExitKind::Flag(word_with(line, "--"));
    }
    if says(&["swap on is not supported"]) {
        return ExitKind::Swap;
    }
    if says(&["could not restore state from checkpoint"]) || says(&["checkpoint file", "before restarting kubelet"]) {
        let file = quoted_path(line).unwrap_or_else(|| PathBuf::from("/var/lib/kubelet/cpu_manager_state"));
        return ExitKind::Checkpoint(file);
    }
    if says(&["not run on a host using cgroup v1"]) {
        return ExitKind::CgroupV1;
    }
    if says(&["failed to load kubelet config file"])
        || says(&["strict decoding error"])
        || says(&["failed to validate kubelet configuration"])
        || says(&["failed to merge kubelet configs"])
        || says(&["invalid configuration"])
    {
        return ExitKind::Config(path_after(line, "path: "));
    }
    if says(&["bootstrap kubeconfig"]) || says(&["client certificate", "expired"]) || says(&["unable to load client"]) {
        return ExitKind::Credentials;
    }
    if says(&["validate service connection"])
        || says(&["unknown service runtime.v1"])
        || says(&["container runtime", "sock"])
    {
        return ExitKind::Runtime;
    }
    if says(&["address already in use"]) {
        return ExitKind::Port;
    }
    ExitKind::Other
}

/// `"Error syncing pod, skipping" err="failed to \"CreatePodSandbox\" for \"etcd-vm_kube-system(…)\" with
/// CreatePodSandboxError: …" pod="kube-system/etcd-vm"`.
fn pod_fault(entry: &Entry, at: Option<Timestamp>, node: &str) -> Option<(ComponentId, PodFault)> {
    let (namespace, name) = entry.value("pod")?.split_once('/')?;
    let name = name.strip_suffix(node)?.strip_suffix('-')?;
    let err = entry.value("err")?;
    // What passes by itself, or is no more than the pace of restarts.
    if err.contains("CrashLoopBackOff") || err.contains("ImagePullBackOff") || err.contains("context canceled") {
        return None;
    }
    let kind = pod_fault_kind(&entry.message, err)?;
    let fault = PodFault { kind, detail: innermost(err), at };
    Some((ComponentId::new(namespace.to_owned(), name), fault))
}

fn pod_fault_kind(message: &str, err: &str) -> Option<PodFaultKind> {
    let sandbox = err.contains("CreatePodSandbox")
        || err.contains("create sandbox for pod")
        || message.contains("CreatePodSandbox")
        || message.contains("Failed to create sandbox");
    if let Some(image) = err.split("failed to get sandbox image ").nth(1).and_then(first_quoted) {
        return Some(PodFaultKind::SandboxImage { image });
    }
    if sandbox && err.contains("initializing source docker://") {
        let image = err.split("docker://").nth(1)?.split([':', ' ']).next()?;
        return Some(PodFaultKind::SandboxImage { image: image.to_owned() });
    }
    if err.contains("slice:prefix:name") || err.contains("cgroupsPath") && err.contains("systemd") {
        return Some(PodFaultKind::CgroupDriver);
    }
    if err.contains("is reserved for") || err.contains("name is reserved") {
        return Some(PodFaultKind::NameReserved);
    }
    if let Some(rest) = err.split("hostPath type check failed: ").nth(1) {
        let path = rest.split(" is not").next().unwrap_or(rest).trim();
        return Some(PodFaultKind::HostPathType { path: PathBuf::from(path) });
    }
    // The kubelet writes the resolv.conf of each sandbox from its own.
    if (sandbox || err.contains("GeneratePodSandboxConfig") || err.contains("resolv"))
        && let Some(path) = missing_file(err)
        && (path.ends_with("resolv.conf") || err.contains("DNS") || err.contains("resolvConf"))
    {
        return Some(PodFaultKind::ResolvConf { path });
    }
    if sandbox || err.contains("GeneratePodSandboxConfig") {
        return Some(PodFaultKind::Sandbox);
    }
    let container =
        ["CreateContainerError", "CreateContainerConfigError", "RunContainerError", "StartError", "PreStartHookError"];
    container.iter().any(|word| err.contains(word)).then_some(PodFaultKind::Container)
}

/// `open /run/no/resolv.conf: no such file or directory`.
fn missing_file(err: &str) -> Option<PathBuf> {
    let (before, _) = err.split_once(": no such file or directory")?;
    let path = before.rsplit([' ', '"']).next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The error within the errors: what comes after the last `desc = `, or after the kind.
fn innermost(err: &str) -> String {
    let inner = err.rsplit("desc = ").next().unwrap_or(err);
    let inner = inner.split_once("Error: ").map_or(inner, |(_, rest)| rest);
    shortened(inner.trim_matches(['"', '\\', ' ']))
}

/// A word that begins like that, without what ends a sentence.
fn word_with(line: &str, start: &str) -> Option<String> {
    let word = line.split_whitespace().find_map(|word| word.find(start).map(|at| &word[at..]))?;
    Some(word.trim_matches(['"', '\'', '`', ',', ':', ';', ')']).to_owned())
}

fn quoted_path(line: &str) -> Option<PathBuf> {
    let plain = line.replace("\\\"", "\"");
    let found = plain.split('"').find(|part| part.starts_with('/') && !part.contains(' '));
    found.map(PathBuf::from)
}

fn path_after(line: &str, start: &str) -> Option<PathBuf> {
    let rest = line.split_once(start)?.1;
    let path = rest.split([',', ' ', '"']).next()?;
    Path::new(path).is_absolute().then(|| PathBuf::from(path))
}

fn first_quoted(text: &str) -> Option<String> {
    let rest = text.trim_start_matches('\\').strip_prefix('"')?;
    let end = rest.find(['"', '\\'])?;
    Some(rest[..end].to_owned())
}

fn shortened(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default().trim();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "E1130 19:20:00.500000     812 ";

    #[test]
    fn each_reason_for_an_end_is_of_its_kind() {
        let failed = |err: &str| format!("{HEAD}run.go:72] \"command failed\" err=\"{err}\"");
        let checkpoint = "start cpu manager error: could not restore state from checkpoint: configured policy \\\"none\\\" differs from \
                          state checkpoint policy \\\"static\\\", please drain this node and delete the CPU manager checkpoint file \
                          \\\"/var/lib/kubelet/cpu_manager_state\\\" before restarting Kubelet";
        let cases = [
            (failed("failed to parse kubelet flag: unknown flag: --network-plugin"), ExitKind::Flag(Some("--network-plugin".into()))),
            ("Error: failed to parse kubelet flag: unknown flag: --container-runtime".into(), ExitKind::Flag(Some("--container-runtime".into()))),
            (failed("failed to run Kubelet: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false. /proc/swaps contained: [Filename]"), ExitKind::Swap),
            ("F0522 04:19:16.8 1287 server.go:262] failed to run Kubelet: Running with swap on is not supported, please disable swap!".into(), ExitKind::Swap),
            (format!("{HEAD}kubelet.go:1392] \"Failed to start ContainerManager\" err=\"{checkpoint}\""), ExitKind::Checkpoint("/var/lib/kubelet/cpu_manager_state".into())),
            ("Error: failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported".into(), ExitKind::CgroupV1),
            (failed("failed to load kubelet config file, path: /var/lib/kubelet/config.yaml, error: failed to decode, error: strict decoding error: unknown field \\\"failSwapon\\\""), ExitKind::Config(Some("/var/lib/kubelet/config.yaml".into()))),
            (failed("failed to run Kubelet: unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory"), ExitKind::Credentials),
            (failed("failed to run Kubelet: validate service connection: validate CRI v1 runtime API for endpoint \\\"unix:///run/containerd/containerd.sock\\\": rpc error: code = Unimplemented"), ExitKind::Runtime),
            (failed("something new"), ExitKind::Other),
        ];
        for (line, kind) in cases {
            let log = understand(&format!("{line}\n"), "vm");
            assert_eq!(log.reason.map(|reason| reason.kind), Some(kind), "{line}");
        }
        for ordinary in [
            "I1130 19:20:00.5 1 a.go:1] \"x\" err=\"unknown flag: --x\"",
            "hello",
            "E1130 19:20:00.5 1 a.go:1] \"Error\" err=\"x\"",
        ] {
            assert_eq!(understand(ordinary, "vm").reason, None, "{ordinary}");
        }
    }

    #[test]
    fn ends_are_counted_and_the_last_reason_is_that_of_the_last_end() {
        let mut text = String::new();
        for n in 0..4 {
            text += &format!(
                "179598000{n}.000001 vm kubelet[{n}]: {HEAD}run.go:72] \"command failed\" err=\"failed to parse kubelet flag: unknown flag: --x{n}\"\n\
                 179598000{n}.000002 vm systemd[1]: kubelet.service: Main process exited, code=exited, status=1/FAILURE\n\
                 179598000{n}.000003 vm systemd[1]: kubelet.service: Failed with result 'exit-code'.\n"
            );
        }
        let log = understand(&text, "vm");
        assert_eq!(log.exits.len(), 4);
        assert_eq!(log.exits[3].status, "1/FAILURE");
        assert_eq!(log.reason.as_ref().unwrap().kind, ExitKind::Flag(Some("--x3".into())));
        let soon = Timestamp::from_second(1_795_980_020).unwrap();
        assert_eq!(log.crash_loop(soon).map(<[_]>::len), Some(4));
        assert_eq!(log.crash_loop(Timestamp::from_second(1_795_980_999).unwrap()), None, "long ago");
        assert_eq!(KubeletLog { exits: log.exits[..2].to_vec(), ..log }.crash_loop(soon), None, "two are no loop");
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_of_its_kind() {
        let syncing = |err: &str| {
            let err = err.replace('\\', "\\\\").replace('"', "\\\"");
            format!(
                "{HEAD}pod_workers.go:1301] \"Error syncing pod, skipping\" err=\"{err}\" pod=\"kube-system/etcd-vm\" podUID=\"7\""
            )
        };
        let sandbox = |desc: &str| {
            syncing(&format!(
                "failed to \"CreatePodSandbox\" for \"etcd-vm_kube-system(7)\" with CreatePodSandboxError: \"Failed to create sandbox for \
                 pod \\\"etcd-vm_kube-system(7)\\\": rpc error: code = Unknown desc = {desc}\""
            ))
        };
        let cases = [
            (
                sandbox("failed to get sandbox image \\\"registry.k8s.io/pause:3.10\\\": failed to pull image"),
                Some(PodFaultKind::SandboxImage { image: "registry.k8s.io/pause:3.10".into() }),
            ),
            (
                sandbox(
                    "failed to create containerd task: expected cgroupsPath to be of format \\\"slice:prefix:name\\\" for systemd cgroups, got \\\"/kubepods/burstable\\\" instead: unknown",
                ),
                Some(PodFaultKind::CgroupDriver),
            ),
            (
                sandbox(
                    "failed to reserve sandbox name \\\"etcd-vm_kube-system_7_0\\\": name \\\"etcd-vm_kube-system_7_0\\\" is reserved for \\\"abc\\\"",
                ),
                Some(PodFaultKind::NameReserved),
            ),
            (sandbox("no space left on device"), Some(PodFaultKind::Sandbox)),
            (
                syncing(
                    "failed to \"CreatePodSandbox\" for \"etcd-vm_kube-system(7)\" with CreatePodSandboxError: \"Failed to generate sandbox config for pod \\\"etcd-vm_kube-system(7)\\\": open /run/no/resolv.conf: no such file or directory\"",
                ),
                Some(PodFaultKind::ResolvConf { path: "/run/no/resolv.conf".into() }),
            ),
            (
                syncing(
                    "failed to \"StartContainer\" for \"etcd\" with CreateContainerError: \"failed to reserve container name \\\"etcd_7_3\\\": name is reserved for \\\"abc\\\"\"",
                ),
                Some(PodFaultKind::NameReserved),
            ),
            (
                syncing("failed to \"StartContainer\" for \"etcd\" with RunContainerError: \"x\""),
                Some(PodFaultKind::Container),
            ),
            (
                syncing("failed to \"StartContainer\" for \"etcd\" with CrashLoopBackOff: \"back-off 10s restarting\""),
                None,
            ),
            (
                syncing(
                    "unmounted volumes=[audit], hostPath type check failed: /etc/kubernetes/audit.yaml is not a file",
                ),
                Some(PodFaultKind::HostPathType { path: "/etc/kubernetes/audit.yaml".into() }),
            ),
            (syncing("network is not ready"), None),
        ];
        for (line, kind) in cases {
            let found = understand(&line, "vm").pods.remove(&ComponentId::system("etcd"));
            assert_eq!(found.map(|fault| fault.kind), kind, "{line}");
            assert!(understand(&line, "other").pods.is_empty(), "another node's name");
        }
    }

    #[test]
    fn any_text_is_taken() {
        for text in [
            "",
            "\n\n",
            "E1130 x] \"",
            "1.2 a b: c",
            "E1130 1 a] \"m\" err=\"\\",
            "é1130 ] x",
            "9999999999999.1 h p[1]: x",
        ] {
            let _ = understand(text, "");
        }
    }
}
