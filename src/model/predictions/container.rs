//! The containers of a pod, init containers included.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, ExecAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Found, Kubelets, values};

pub(super) fn all(found: &mut Found, spec: &PodSpec) {
    let volumes: BTreeSet<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    let on_host = spec.host_network == Some(true);
    let mut names = BTreeSet::new();
    for (at, container) in spec.containers.iter().enumerate() {
        let path = format!("spec.containers[{at}]");
        common(found, &path, container, &volumes);
        name(found, &path, container, &mut names);
        lively(found, &path, container);
    }
    host_ports(found, "spec.containers", &spec.containers, on_host);
    for (at, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = format!("spec.initContainers[{at}]");
        common(found, &path, container, &volumes);
        found.one_of(&format!("{path}.restartPolicy"), container.restart_policy.as_deref(), &["Always"]);
        name(found, &path, container, &mut names);
        host_ports(found, "spec.initContainers", std::slice::from_ref(container), on_host);
        if container.restart_policy.as_deref() == Some("Always") {
            lively(found, &path, container);
            continue;
        }
        for (field, given) in [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if given {
                let why = "may not be set for init containers without restartPolicy=Always";
                found.forbidden(&format!("{path}.{field}"), why);
            }
        }
    }
    if on_host {
        for (at, container) in spec.containers.iter().enumerate() {
            for (index, port) in container.ports.iter().flatten().enumerate() {
                // By default it is the container's port.
                if let Some(host) = port.host_port.filter(|host| *host != 0 && *host != port.container_port) {
                    let path = format!("spec.containers[{at}].ports[{index}].hostPort");
                    found.invalid(&path, host, "must match `containerPort` when `hostNetwork` is true");
                }
            }
        }
    }
}

fn name<'c>(found: &mut Found, path: &str, container: &'c Container, names: &mut BTreeSet<&'c str>) {
    if !container.name.is_empty() && !names.insert(&container.name) {
        found.duplicate(&format!("{path}.name"), &container.name);
    }
}

fn common(found: &mut Found, path: &str, container: &Container, volumes: &BTreeSet<&str>) {
    let field = |name: &str| format!("{path}.{name}");
    if container.name.is_empty() {
        found.required(&field("name"));
    } else {
        found.all(&field("name"), &container.name, values::dns_label(&container.name));
    }
    match container.image.as_deref().unwrap_or_default() {
        "" => found.required(&field("image")),
        image if image.trim() != image => {
            found.invalid(&field("image"), image, "must not have leading or trailing whitespace");
        }
        _ => {}
    }
    let given = |value: &'_ Option<String>| value.clone().filter(|value| !value.is_empty());
    let policy = given(&container.termination_message_policy);
    found.one_of(&field("terminationMessagePolicy"), policy.as_deref(), &["File", "FallbackToLogsOnError"]);
    ports(found, &field("ports"), container);
    environment(found, path, container);
    mounts(found, &field("volumeMounts"), container, volumes);
    let pull = given(&container.image_pull_policy);
    found.one_of(&field("imagePullPolicy"), pull.as_deref(), &["Always", "IfNotPresent", "Never"]);
    if let Some(needs) = &container.resources {
        resources(found, &field("resources"), needs);
    }
    if let Some(context) = &container.security_context {
        security(found, &field("securityContext"), context);
    }
}

fn ports(found: &mut Found, path: &str, container: &Container) {
    let mut names = BTreeSet::new();
    for (at, port) in container.ports.iter().flatten().enumerate() {
        let path = format!("{path}[{at}]");
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let faults = values::port_name(name);
            if faults.is_empty() && !names.insert(name) {
                found.duplicate(&format!("{path}.name"), name);
            }
            found.all(&format!("{path}.name"), name, faults);
        }
        if port.container_port == 0 {
            found.required(&format!("{path}.containerPort"));
        } else {
            found.range(&format!("{path}.containerPort"), Some(port.container_port.into()), 1, 65535);
        }
        let host = port.host_port.filter(|host| *host != 0);
        found.range(&format!("{path}.hostPort"), host.map(i64::from), 1, 65535);
        let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty());
        found.one_of(&format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
}

/// Two containers on one port of the host. On the host's network every port is one of the host's.
fn host_ports(found: &mut Found, path: &str, containers: &[Container], on_host: bool) {
    let mut taken = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let host = match port.host_port {
                None | Some(0) if on_host => port.container_port,
                given => given.unwrap_or(0),
            };
            let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
            let claim = format!("{protocol}/{}/{host}", port.host_ip.as_deref().unwrap_or_default());
            if host != 0 && !taken.insert(claim.clone()) {
                found.duplicate(&format!("{path}[{at}].ports[{index}].hostPort"), &claim);
            }
        }
    }
}

fn environment(found: &mut Found, path: &str, container: &Container) {
    for (at, variable) in container.env.iter().flatten().enumerate() {
        let path = format!("{path}.env[{at}]");
        if variable.name.is_empty() {
            found.required(&format!("{path}.name"));
        } else {
            env_name(found, &format!("{path}.name"), &variable.name);
        }
        value_from(found, &format!("{path}.valueFrom"), variable);
    }
    for (at, source) in container.env_from.iter().flatten().enumerate() {
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            env_name(found, &format!("{path}.envFrom[{at}].prefix"), prefix);
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                found.invalid(&format!("{path}.envFrom"), "", "must specify one of: `configMapRef` or `secretRef`");
            }
            (Some(_), Some(_)) => {
                let why = "may not have more than one field specified at a time";
                found.invalid(&format!("{path}.envFrom"), "", why);
            }
            _ => {}
        }
    }
}

fn env_name(found: &mut Found, path: &str, name: &str) {
    if let Some(why) = values::env_name(name) {
        found.invalid(path, name, why);
    } else if let Some(why) = values::strict_env_name(name) {
        found.only(Kubelets::Before(32), path, format!("Invalid value: {name:?}: {why}"));
    }
}

fn value_from(found: &mut Found, path: &str, variable: &EnvVar) {
    let Some(from) = &variable.value_from else { return };
    let given = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    let count = given.into_iter().filter(|given| *given).count();
    if count == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        found.invalid(path, "", why);
    } else if variable.value.as_ref().is_some_and(|value| !value.is_empty()) {
        found.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        found.invalid(path, "", "may not have more than one field specified at a time");
    }
    if let Some(field) = &from.field_ref {
        const FIELDS: [&str; 9] = [
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
            "spec.nodeName",
            "spec.serviceAccountName",
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        let name = field.field_path.as_str();
        let path = format!("{path}.fieldRef.fieldPath");
        let of_a_map = name.starts_with("metadata.labels['") || name.starts_with("metadata.annotations['");
        if name.is_empty() {
            found.required(&path);
        } else if !FIELDS.contains(&name) && !of_a_map {
            let why = format!("error converting fieldPath: field label not supported: {name}");
            found.invalid(&path, name, &why);
        }
    }
}

fn mounts(found: &mut Found, path: &str, container: &Container, volumes: &BTreeSet<&str>) {
    let mut points = BTreeSet::new();
    for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let of = |field: &str| format!("{path}[{at}].{field}");
        if mount.name.is_empty() {
            found.required(&of("name"));
        }
        if !volumes.contains(mount.name.as_str()) {
            found.add(&of("name"), format!("Not found: {:?}", mount.name));
        }
        if mount.mount_path.is_empty() {
            found.required(&of("mountPath"));
        }
        if !points.insert(mount.mount_path.as_str()) {
            found.invalid(&of("mountPath"), &mount.mount_path, "must be unique");
        }
        // Of these the kubelet names the list, and no mount.
        found.descending(&format!("{path}.subPath"), mount.sub_path.as_deref());
        found.descending(&format!("{path}.subPathExpr"), mount.sub_path_expr.as_deref());
        propagation(found, &format!("{path}.mountPropagation"), mount, container);
    }
}

fn propagation(found: &mut Found, path: &str, mount: &VolumeMount, container: &Container) {
    let mode = mount.mount_propagation.as_deref();
    found.one_of(path, mode, &["Bidirectional", "HostToContainer", "None"]);
    let privileged = container.security_context.as_ref().and_then(|context| context.privileged) == Some(true);
    if mode == Some("Bidirectional") && !privileged {
        found.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn resources(found: &mut Found, path: &str, needs: &ResourceRequirements) {
    for (kind, list) in [("limits", &needs.limits), ("requests", &needs.requests)] {
        for (name, quantity) in list.iter().flatten() {
            let path = format!("{path}.{kind}[{name}]");
            found.all(&path, name, values::qualified_name(name));
            let known =
                matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if !known && !name.contains('/') {
                found.invalid(&path, name, "must be a standard resource for containers");
            }
            match values::quantity(&quantity.0) {
                Ok(value) if value < 0 => found.invalid(&path, &quantity.0, "must be greater than or equal to 0"),
                Ok(_) => {}
                Err(why) => found.invalid(&path, &quantity.0, why),
            }
        }
    }
    for (name, request) in needs.requests.iter().flatten() {
        let Some(limit) = needs.limits.as_ref().and_then(|limits| limits.get(name)) else { continue };
        if let (Ok(asked), Ok(most)) = (values::quantity(&request.0), values::quantity(&limit.0))
            && asked > most
        {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            found.invalid(&format!("{path}.requests"), &request.0, &why);
        }
    }
}

fn security(found: &mut Found, path: &str, context: &SecurityContext) {
    let most = i64::from(i32::MAX);
    found.range(&format!("{path}.runAsUser"), context.run_as_user, 0, most);
    found.range(&format!("{path}.runAsGroup"), context.run_as_group, 0, most);
    found.one_of(&format!("{path}.procMount"), context.proc_mount.as_deref(), &["Default", "Unmasked"]);
    seccomp(found, &format!("{path}.seccompProfile"), context.seccomp_profile.as_ref());
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            found.add(path, why.to_owned());
        }
        let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
        if added.clone().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why =
                "Invalid value: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            found.add(path, why.to_owned());
        }
    }
}

pub(super) fn seccomp(found: &mut Found, path: &str, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let file = profile.localhost_profile.as_deref();
    match profile.type_.as_str() {
        "" => {
            found.add(&format!("{path}.type"), "Required value: type is required when seccompProfile is set".to_owned())
        }
        "Localhost" if file.is_none() => {
            let why = "Required value: must be set when seccomp type is Localhost";
            found.add(&format!("{path}.localhostProfile"), why.to_owned());
        }
        "Localhost" => found.descending(&format!("{path}.localhostProfile"), file),
        kind => {
            found.one_of(&format!("{path}.type"), Some(kind), &["Localhost", "RuntimeDefault", "Unconfined"]);
            if let Some(file) = file {
                found.invalid(
                    &format!("{path}.localhostProfile"),
                    file,
                    "can only be set when seccomp type is Localhost",
                );
            }
        }
    }
}

/// What only a container that goes on running may have.
fn lively(found: &mut Found, path: &str, container: &Container) {
    if let Some(lifecycle) = &container.lifecycle {
        for (name, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(handler) = handler {
                hook(found, &format!("{path}.lifecycle.{name}"), handler);
            }
        }
    }
    for (name, given) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        if let Some(given) = given {
            probe(found, &format!("{path}.{name}"), given, name == "readinessProbe");
        }
    }
}

fn hook(found: &mut Found, path: &str, handler: &LifecycleHandler) {
    let ways = Ways {
        exec: handler.exec.as_ref(),
        http: handler.http_get.as_ref(),
        tcp: handler.tcp_socket.as_ref(),
        other: handler.sleep.as_ref().map(|_| ("sleep", None)),
    };
    one_way(found, path, &ways);
}

fn probe(found: &mut Found, path: &str, probe: &Probe, readiness: bool) {
    let ways = Ways {
        exec: probe.exec.as_ref(),
        http: probe.http_get.as_ref(),
        tcp: probe.tcp_socket.as_ref(),
        other: probe.grpc.as_ref().map(|grpc| ("grpc", Some(grpc.port))),
    };
    one_way(found, path, &ways);
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        found.not_negative(&format!("{path}.{name}"), value.map(i64::from));
    }
    if let Some(grace) = probe.termination_grace_period_seconds {
        let path = format!("{path}.terminationGracePeriodSeconds");
        if grace <= 0 {
            found.invalid(&path, grace, "must be greater than 0");
        }
        if readiness {
            found.invalid(&path, grace, "must not be set for readinessProbes");
        }
    }
    // 0 is 1 by default.
    if let Some(times) = probe.success_threshold.filter(|times| !readiness && !matches!(times, 0 | 1)) {
        found.invalid(&format!("{path}.successThreshold"), times, "must be 1");
    }
}

/// The handlers of a probe or a hook, of which there has to be one.
struct Ways<'h> {
    exec: Option<&'h ExecAction>,
    http: Option<&'h HTTPGetAction>,
    tcp: Option<&'h TCPSocketAction>,
    other: Option<(&'static str, Option<i32>)>,
}

fn one_way(found: &mut Found, path: &str, ways: &Ways<'_>) {
    let given = [
        ways.exec.map(|_| "exec"),
        ways.http.map(|_| "httpGet"),
        ways.tcp.map(|_| "tcpSocket"),
        ways.other.map(|(name, _)| name),
    ];
    let mut given = given.into_iter().flatten();
    let Some(first) = given.next() else {
        return found.add(path, "Required value: must specify a handler type".to_owned());
    };
    for second in given {
        found.forbidden(&format!("{path}.{second}"), "may not specify more than 1 handler type");
    }
    let path = format!("{path}.{first}");
    match (ways.exec, ways.http, ways.tcp, ways.other) {
        (Some(exec), ..) if exec.command.iter().flatten().next().is_none() => {
            found.required(&format!("{path}.command"))
        }
        (Some(_), ..) => {}
        (_, Some(http), ..) => {
            port(found, &format!("{path}.port"), &http.port);
            let scheme = http.scheme.as_deref().filter(|scheme| !scheme.is_empty());
            found.one_of(&format!("{path}.scheme"), scheme, &["HTTP", "HTTPS"]);
        }
        (.., Some(tcp), _) => port(found, &format!("{path}.port"), &tcp.port),
        (.., Some((_, Some(number)))) => found.range(&format!("{path}.port"), Some(number.into()), 1, 65535),
        _ => {}
    }
}

fn port(found: &mut Found, path: &str, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => found.range(path, Some((*number).into()), 1, 65535),
        IntOrString::String(name) => found.all(path, name, values::port_name(name)),
    }
}
