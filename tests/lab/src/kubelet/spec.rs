//! From a container of a manifest to what the CRI is asked for: labels, annotations, mounts, environment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};
use serde::Serialize;

use super::manifest::{StaticPod, Uid, container_hash};
use super::options::Settings;
use super::pleg::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::cri::{
    Capability, ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};

/// Annotation: how often the container was started before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: see [`container_hash`].
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// The environment variable that hands the lab's scale to what runs in the containers.
pub const LAB_SCALE: &str = "LAB_SCALE";

/// Paths hidden from, and read-only in, containers that are not privileged: the kubelet's defaults.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `/var/log/pods/NAMESPACE_NAME_UID`.
#[must_use]
pub fn log_directory(pod: &StaticPod, settings: &Settings) -> PathBuf {
    settings.pod_logs.join(format!("{}_{}_{}", pod.full_name.namespace, pod.full_name.name, pod.uid))
}

/// `/var/lib/kubelet/pods/UID`.
#[must_use]
pub fn pod_directory(pod: &StaticPod, settings: &Settings) -> PathBuf {
    settings.root_dir.join("pods").join(&pod.uid.0)
}

/// The sandbox of `pod`, for the `attempt`-th time.
#[must_use]
pub fn sandbox(pod: &StaticPod, attempt: u32, settings: &Settings) -> PodSandboxConfig {
    let spec = pod.spec();
    let mut labels: HashMap<String, String> = pod.pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_labels(pod));
    let hostname = if spec.host_network == Some(true) { String::new() } else { pod.full_name.name.clone() };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.full_name.name.clone(),
            uid: pod.uid.0.clone(),
            namespace: pod.full_name.namespace.clone(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(pod, settings).display().to_string(),
        labels,
        annotations: pod.pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_of(&pod.uid, settings).unwrap_or_default(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec)),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// The pod's cgroup below the lab's, as the cgroupfs driver names it; none leaves the choice to the runtime.
#[must_use]
pub fn cgroup_of(uid: &Uid, settings: &Settings) -> Option<String> {
    let parent = settings.cgroup_parent.as_ref()?;
    Some(format!("{}/kubepods/burstable/pod{uid}", parent.trim_end_matches('/')))
}

fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let mode =
        |host: Option<bool>, own: NamespaceMode| if host == Some(true) { NamespaceMode::Node } else { own } as i32;
    let shared = spec.share_process_namespace == Some(true);
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, if shared { NamespaceMode::Pod } else { NamespaceMode::Container }),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        ..NamespaceOption::default()
    }
}

fn pod_labels(pod: &StaticPod) -> [(String, String); 3] {
    [
        (POD_NAME.into(), pod.full_name.name.clone()),
        (POD_NAMESPACE.into(), pod.full_name.namespace.clone()),
        (POD_UID.into(), pod.uid.0.clone()),
    ]
}

/// `container` of `pod` after `restarts` earlier starts, with the image the runtime resolved.
///
/// # Errors
/// What makes a CreateContainerConfigError: an environment that cannot be built, own files that cannot be written.
pub fn container(
    pod: &StaticPod,
    container: &Container,
    restarts: u32,
    image_ref: &str,
    settings: &Settings,
) -> Result<ContainerConfig, String> {
    let envs = environment(pod, container, settings)?;
    let expand = |texts: &Option<Vec<String>>| -> Vec<String> {
        texts.iter().flatten().map(|text| expand(text, &envs)).collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    let mut annotations = HashMap::from([
        (CONTAINER_HASH.to_owned(), container_hash(container)),
        (RESTART_COUNT.to_owned(), restarts.to_string()),
        (
            "io.kubernetes.container.terminationMessagePath".to_owned(),
            container.termination_message_path.clone().unwrap_or_default(),
        ),
        (
            "io.kubernetes.container.terminationMessagePolicy".to_owned(),
            container.termination_message_policy.clone().unwrap_or_default(),
        ),
        ("io.kubernetes.pod.terminationGracePeriod".to_owned(), pod.grace_seconds().to_string()),
    ]);
    if let Some(ports) = ports(container) {
        annotations.insert("io.kubernetes.container.ports".into(), ports);
    }
    let mut labels: HashMap<String, String> = pod_labels(pod).into();
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    let image = container.image.clone().unwrap_or_default();
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: restarts }),
        image: Some(ImageSpec { image: image_ref.into(), user_specified_image: image, ..ImageSpec::default() }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts(pod, container, settings)?,
        envs: envs.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        labels,
        annotations,
        log_path: format!("{}/{restarts}.log", container.name),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(container)),
            security_context: Some(security(pod, container)),
        }),
        ..ContainerConfig::default()
    })
}

/// The ports as the annotation spells them, in the field order of the Go struct.
fn ports(container: &Container) -> Option<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Port<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        host_port: Option<i32>,
        container_port: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        protocol: Option<&'a str>,
    }
    let ports = container.ports.as_ref()?.iter().map(|port| Port {
        name: port.name.as_deref(),
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: port.protocol.as_deref(),
    });
    serde_json::to_string(&ports.collect::<Vec<_>>()).ok()
}

fn environment(pod: &StaticPod, container: &Container, settings: &Settings) -> Result<Vec<(String, String)>, String> {
    let mut envs: Vec<(String, String)> = Vec::new();
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let value = match (value, value_from) {
            (Some(value), _) => expand(value, &envs),
            (None, None) => String::new(),
            (None, Some(source)) => {
                let path = source.field_ref.as_ref().map(|field| field.field_path.as_str());
                match path {
                    Some("metadata.name") => pod.full_name.name.clone(),
                    Some("metadata.namespace") => pod.full_name.namespace.clone(),
                    Some("metadata.uid") => pod.uid.0.clone(),
                    Some("spec.nodeName") => settings.node.clone(),
                    Some("status.hostIP" | "status.podIP") => settings.node_ip.to_string(),
                    _ => {
                        return Err(format!("env {name}: the lab's kubelet does not know where its value comes from"));
                    }
                }
            }
        };
        envs.push((name.clone(), value));
    }
    if !envs.iter().any(|(name, _)| name == LAB_SCALE) {
        envs.push((LAB_SCALE.into(), settings.scale.factor().to_string()));
    }
    Ok(envs)
}

/// `$(NAME)` becomes the variable's value where there is one, `$$` a dollar sign.
fn expand(text: &str, envs: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        match name.and_then(|(name, after)| Some((envs.iter().rev().find(|(known, _)| known == name)?, after))) {
            Some(((_, value), after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

fn mounts(pod: &StaticPod, container: &Container, settings: &Settings) -> Result<Vec<Mount>, String> {
    let spec = pod.spec();
    let own = pod_directory(pod, settings);
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let Some(volume) = spec.volumes.iter().flatten().find(|volume| volume.name == wanted.name) else {
            continue;
        };
        let mut host_path = match (&volume.host_path, &volume.empty_dir) {
            (Some(source), _) => PathBuf::from(&source.path),
            (None, Some(_)) => {
                let dir = own.join("volumes/kubernetes.io~empty-dir").join(&volume.name);
                std::fs::create_dir_all(&dir).map_err(|why| format!("{}: {why}", dir.display()))?;
                dir
            }
            (None, None) => {
                return Err(format!("volume {}: the lab's kubelet knows hostPath and emptyDir", volume.name));
            }
        };
        if let Some(sub_path) = wanted.sub_path.as_deref().filter(|path| !path.is_empty()) {
            host_path.push(sub_path);
        }
        let propagation = match wanted.mount_propagation.as_deref() {
            Some("Bidirectional") => MountPropagation::PropagationBidirectional,
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
            _ => MountPropagation::PropagationPrivate,
        };
        mounts
            .push(Mount { propagation: propagation as i32, ..bind(&host_path, &wanted.mount_path, wanted.read_only) });
    }
    if !mounts.iter().any(|mount| mount.container_path == "/etc/hosts") {
        mounts.push(bind(&own.join("etc-hosts"), "/etc/hosts", None));
    }
    if let Some(message) = container.termination_message_path.as_deref().filter(|path| !path.is_empty()) {
        let dir = own.join("containers").join(&container.name);
        let file = dir.join(super::manifest::fnv32a(format!("{:?}", std::time::SystemTime::now()).as_bytes()));
        let write = || std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&file, ""));
        write().map_err(|why| format!("{}: {why}", file.display()))?;
        mounts.push(bind(&file, message, None));
    }
    Ok(mounts)
}

fn bind(host: &Path, inside: &str, read_only: Option<bool>) -> Mount {
    Mount {
        container_path: inside.to_owned(),
        host_path: host.display().to_string(),
        readonly: read_only == Some(true),
        ..Mount::default()
    }
}

/// Processor shares from the request; nothing else is limited in the lab.
fn resources(container: &Container) -> LinuxContainerResources {
    let requests = container.resources.as_ref().and_then(|all| all.requests.as_ref());
    let milli = requests.and_then(|all| milli_cpu(&all.get("cpu")?.0)).unwrap_or(0);
    LinuxContainerResources { cpu_period: 100_000, cpu_shares: (milli * 1024 / 1000).max(2), ..Default::default() }
}

fn milli_cpu(quantity: &str) -> Option<i64> {
    match quantity.strip_suffix('m') {
        Some(milli) => milli.parse().ok(),
        None => quantity.parse::<f64>().ok().map(|cores| (cores * 1000.0) as i64),
    }
}

fn security(pod: &StaticPod, container: &Container) -> LinuxContainerSecurityContext {
    let of_pod = pod.spec().security_context.as_ref();
    let own = container.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|pod| pod.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(of_pod.and_then(|pod| pod.run_as_group));
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let capabilities = own.and_then(|own| own.capabilities.clone()).unwrap_or_default();
    let list = |paths: &[&str]| {
        if privileged { Vec::new() } else { paths.iter().map(|&path| path.to_owned()).collect() }
    };
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            ..Capability::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod.spec())),
        run_as_user: user.map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        supplemental_groups: of_pod.and_then(|pod| pod.supplemental_groups.clone()).unwrap_or_default(),
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        masked_paths: list(&MASKED),
        readonly_paths: list(&READ_ONLY),
        ..LinuxContainerSecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::options::Flags;
    use clap::Parser;

    #[test]
    fn variables_are_expanded_as_the_kubelet_does() {
        let envs = vec![("A".to_owned(), "1".to_owned())];
        for (text, expanded) in
            [("--x=$(A)", "--x=1"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A ${A} $", "$A ${A} $"), ("$(A)$(A)", "11")]
        {
            assert_eq!(expand(text, &envs), expanded, "{text}");
        }
    }

    #[test]
    fn processor_requests_become_shares() {
        for (text, milli) in [("250m", Some(250)), ("1", Some(1000)), ("0.5", Some(500)), ("x", None)] {
            assert_eq!(milli_cpu(text), milli, "{text}");
        }
    }

    const KUBEADM: &str = "apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver, namespace: kube-system, labels: {component: kube-apiserver, tier: control-plane}}
spec:
  hostNetwork: true
  containers:
  - name: kube-apiserver
    image: registry.k8s.io/kube-apiserver:v1.36.2
    command: [kube-apiserver, --secure-port=6443]
    ports: [{containerPort: 6443, name: probe-port, protocol: TCP}]
    resources: {requests: {cpu: 250m}}
    volumeMounts: [{mountPath: /etc/kubernetes/pki, name: k8s-certs, readOnly: true}]
  volumes:
  - {hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}, name: k8s-certs}
";

    /// What the runtime of a real node was asked for (recorded by crictl inspect), asked for again.
    #[test]
    fn labels_annotations_and_log_path_are_those_of_a_recorded_api_server() {
        let root = tempfile::tempdir().expect("a directory");
        let root_dir = format!("--root-dir={}", root.path().display());
        let settings =
            Settings::load(Flags::parse_from(["kubelet", "--hostname-override=vm", &root_dir])).expect("valid");
        let path = Path::new("/etc/kubernetes/manifests/kube-apiserver.yaml");
        let pod = crate::kubelet::manifest::decode(KUBEADM.as_bytes(), path, "vm").expect("valid");
        let config = container(&pod, &pod.spec().containers[0], 1, "sha256:75c4", &settings).expect("valid");
        let uid = pod.uid.0.as_str();
        for (key, value) in [
            (CONTAINER_NAME, "kube-apiserver"),
            (POD_NAME, "kube-apiserver-vm"),
            (POD_NAMESPACE, "kube-system"),
            (POD_UID, uid),
        ] {
            assert_eq!(config.labels.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(config.labels.len(), 4);
        let ports = r#"[{"name":"probe-port","hostPort":6443,"containerPort":6443,"protocol":"TCP"}]"#;
        for (key, value) in [
            ("io.kubernetes.container.ports", ports),
            (RESTART_COUNT, "1"),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
            ("io.kubernetes.container.terminationMessagePolicy", "File"),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
        ] {
            assert_eq!(config.annotations.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(config.annotations.len(), 6, "and the container's hash");
        assert_eq!(config.log_path, "kube-apiserver/1.log");
        let shares = config.linux.and_then(|linux| linux.resources).map(|resources| resources.cpu_shares);
        assert_eq!(shares, Some(256));
        let mounted: Vec<&str> = config.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
        assert_eq!(mounted, ["/etc/kubernetes/pki", "/etc/hosts", "/dev/termination-log"]);

        let sandbox = sandbox(&pod, 2, &settings);
        assert_eq!(sandbox.log_directory, format!("/var/log/pods/kube-system_kube-apiserver-vm_{uid}"));
        assert_eq!(sandbox.labels.get("tier").map(String::as_str), Some("control-plane"));
        assert_eq!(sandbox.annotations.get("kubernetes.io/config.hash").map(String::as_str), Some(uid));
        let network = sandbox.linux.and_then(|linux| linux.security_context?.namespace_options).map(|all| all.network);
        assert_eq!(network, Some(NamespaceMode::Node as i32));
    }
}
