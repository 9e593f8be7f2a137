//! What this kubelet refuses of a pod that decodes. It has its own short list, written from the API server's validation
//! (`pkg/apis/core/validation`) apart from the one in lastgood, so that a mistake in either shows in a test.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The part of the API server's validation that a hand-edited manifest meets.
pub(super) fn validate(pod: &Pod) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    if !is_dns_name(pod.metadata.name.as_deref().unwrap_or_default(), 253) {
        faults.push("metadata.name: Invalid value: must be a lowercase RFC 1123 subdomain".to_owned());
    }
    if pod.metadata.namespace.as_deref().is_some_and(|given| !given.is_empty() && !is_dns_name(given, 63)) {
        faults.push("metadata.namespace: Invalid value: must be a lowercase RFC 1123 label".to_owned());
    }
    let Some(spec) = pod.spec.as_ref() else {
        faults.push("spec.containers: Required value".into());
        return Err(faults);
    };
    if spec.containers.is_empty() {
        faults.push("spec.containers: Required value".into());
    }
    let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        if volumes[..at].contains(&volume.name.as_str()) {
            faults.push(format!("spec.volumes[{at}].name: Duplicate value: {:?}", volume.name));
        }
        let kind = volume.host_path.as_ref().and_then(|host| host.type_.as_deref()).unwrap_or_default();
        if !HOST_PATH_TYPES.contains(&kind) {
            let listed = HOST_PATH_TYPES.map(|kind| format!("{kind:?}")).join(", ");
            let path = format!("spec.volumes[{at}].hostPath.type");
            faults.push(format!("{path}: Unsupported value: {kind:?}: supported values: {listed}"));
        }
        if volume.host_path.as_ref().is_some_and(|host| host.path.is_empty()) {
            faults.push(format!("spec.volumes[{at}].hostPath.path: Required value"));
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (at, container) in spec.containers.iter().enumerate() {
        validate_container(container, &format!("spec.containers[{at}]"), &volumes, &mut faults);
        if names.contains(&container.name.as_str()) {
            faults.push(format!("spec.containers[{at}].name: Duplicate value: {:?}", container.name));
        }
        names.push(&container.name);
    }
    if !matches!(spec.restart_policy.as_deref(), Some("Always" | "OnFailure" | "Never")) {
        let given = spec.restart_policy.as_deref().unwrap_or_default();
        let listed = r#"supported values: "Always", "OnFailure", "Never""#;
        faults.push(format!("spec.restartPolicy: Unsupported value: {given:?}: {listed}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn validate_container(container: &Container, at: &str, volumes: &[&str], faults: &mut Vec<String>) {
    if !is_dns_name(&container.name, 63) {
        faults.push(format!("{at}.name: Required value"));
    }
    if container.image.as_deref().unwrap_or_default().trim().is_empty() {
        faults.push(format!("{at}.image: Required value"));
    }
    if !matches!(container.image_pull_policy.as_deref(), Some("Always" | "IfNotPresent" | "Never")) {
        faults.push(format!("{at}.imagePullPolicy: Unsupported value"));
    }
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        if !volumes.contains(&mount.name.as_str()) {
            faults.push(format!("{at}.volumeMounts[{index}].name: Not found: {:?}", mount.name));
        }
        let earlier = container.volume_mounts.iter().flatten().take(index);
        if earlier.clone().any(|other| other.mount_path == mount.mount_path) {
            let path = format!("{at}.volumeMounts[{index}].mountPath");
            faults.push(format!("{path}: Invalid value: {:?}: must be unique", mount.mount_path));
        }
        if mount.mount_path.is_empty() {
            faults.push(format!("{at}.volumeMounts[{index}].mountPath: Required value"));
        }
    }
    if let Some((asked, most)) = container.resources.as_ref().and_then(cpu)
        && asked > most
    {
        let path = format!("{at}.resources.requests");
        faults.push(format!("{path}: Invalid value: \"{asked}m\": must be less than or equal to cpu limit of {most}m"));
    }
    for (what, probe) in [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ] {
        let Some(probe) = probe else { continue };
        let handlers = usize::from(probe.http_get.is_some())
            + usize::from(probe.tcp_socket.is_some())
            + usize::from(probe.exec.is_some())
            + usize::from(probe.grpc.is_some());
        if handlers != 1 {
            faults.push(format!("{at}.{what}: exactly one handler is required"));
        }
        let port = probe.http_get.as_ref().map(|get| &get.port).or(probe.tcp_socket.as_ref().map(|tcp| &tcp.port));
        if let Some(IntOrString::Int(number)) = port
            && !(1..=65535).contains(number)
        {
            faults.push(format!("{at}.{what}: port {number} must be between 1 and 65535"));
        }
    }
}

fn is_dns_name(name: &str, longest: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.len() <= longest
        && name.chars().all(inner)
        && name.starts_with(edge)
        && name.ends_with(edge)
}

/// What of the processor is asked for, and the most of it, in thousandths, where both are given so.
fn cpu(resources: &ResourceRequirements) -> Option<(u64, u64)> {
    let thousandths = |text: &str| match text.strip_suffix('m') {
        Some(number) => number.parse().ok(),
        None => text.parse::<u64>().ok().map(|whole| whole * 1000),
    };
    let of = |list: &Option<std::collections::BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        thousandths(&list.as_ref()?.get("cpu")?.0)
    };
    Some((of(&resources.requests)?, of(&resources.limits)?))
}

/// The object of the API server that a pod names, which a static pod may not (the gate PreventStaticPodAPIReferences).
pub(super) fn api_reference(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let sources = || spec.containers.iter().flat_map(|container| container.env.iter().flatten());
    let from = || sources().filter_map(|variable| variable.value_from.as_ref());
    if from().any(|from| from.secret_key_ref.is_some()) {
        return Some("secrets");
    }
    if from().any(|from| from.config_map_key_ref.is_some()) {
        return Some("configmaps");
    }
    spec.volumes.iter().flatten().find_map(|volume| {
        if volume.config_map.is_some() {
            return Some("configmaps (via configmap volumes)");
        }
        if volume.secret.is_some() {
            return Some("secrets (via secret volumes)");
        }
        volume.persistent_volume_claim.is_some().then_some("persistentvolumeclaims")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_manifest_of_the_field_is_refused_in_the_kubelets_words() {
        let spec = |more: &str, container: &str, volume: &str| {
            let text = format!(
                "{{metadata: {{name: p}}, spec: {{restartPolicy: Always, {more} containers: [{{name: c, image: i, imagePullPolicy: \
                 Never, volumeMounts: [{{name: v, mountPath: /x}}], {container}}}], volumes: [{{name: v, hostPath: {{path: /x, \
                 {volume}}}}}]}}}}"
            );
            let value: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
            serde_json::from_value::<Pod>(value).expect("a pod")
        };
        assert_eq!(validate(&spec("", "", "")), Ok(()));
        for (pod, expected) in [
            (
                spec("", "volumeMounts: [{name: v, mountPath: /x}, {name: v, mountPath: /x}]", ""),
                "volumeMounts[1].mountPath",
            ),
            (spec("", "resources: {requests: {cpu: '2'}, limits: {cpu: 900m}}", ""), "cpu limit of 900m"),
            (spec("", "", "type: Fil"), "hostPath.type: Unsupported value: \"Fil\""),
        ] {
            let faults = validate(&pod).expect_err(expected);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
        }
        let named = spec("", "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]", "");
        assert_eq!((validate(&named), api_reference(&named)), (Ok(()), Some("secrets")));
    }
}
