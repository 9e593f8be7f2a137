//! What the kubelet's validation refuses of a pod that decodes: a prediction of the kubelet's answer, in its words.
//!
//! ```text
//!   Pod ─┬─ mod.rs        metadata, volumes, what belongs to the pod
//!        ├─ container.rs  names, ports, environment, mounts, resources, probes, security      ──▶ [Prediction]
//!        └─ references.rs what only an API server could give, which a static pod may not name
//! ```
//!
//! The kubelet defaults a static pod, validates it as the API server does (`ValidatePodCreate` in
//! `pkg/apis/core/validation/validation.go`) and drops it at its next scan where that finds anything; no container and no
//! log tells of it. These are the rules for what kubeadm, kubespray and RKE2 write, not all of that file. A prediction is
//! reported and undoes nothing: the kubelet decides (Q16), and its journal says so (`model/kubelet_log`).

mod container;
mod references;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration, Volume};
use serde::{Deserialize, Serialize};

/// One thing that the kubelet refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// The field, as the kubelet writes it: `spec.containers[0].volumeMounts[14].mountPath`.
    pub path: String,
    /// Why, in the kubelet's words: `Invalid value: "/x": must be unique`.
    pub message: String,
    /// The kubelets that have this rule.
    pub kubelets: Kubelets,
}

/// Which kubelets have a rule, by their minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kubelets {
    /// Every one that we support.
    All,
    /// Those from 1.N on.
    From(u32),
    /// Those before 1.N.
    Before(u32),
}

impl Kubelets {
    /// Whether a kubelet has the rule; nothing where its version is unknown and matters.
    pub fn has(self, minor: Option<u32>) -> Option<bool> {
        match self {
            Self::All => Some(true),
            Self::From(first) => minor.map(|minor| minor >= first),
            Self::Before(first) => minor.map(|minor| minor < first),
        }
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        match self.kubelets {
            Kubelets::All => Ok(()),
            Kubelets::From(minor) => write!(f, " (a kubelet of 1.{minor} or newer)"),
            Kubelets::Before(minor) => write!(f, " (a kubelet before 1.{minor})"),
        }
    }
}

/// What is found, in the words of `field.Error`.
#[derive(Default)]
struct Found(Vec<Prediction>);

impl Found {
    fn add(&mut self, path: &str, message: String) {
        self.only(Kubelets::All, path, message);
    }

    fn only(&mut self, kubelets: Kubelets, path: &str, message: String) {
        self.0.push(Prediction { path: path.to_owned(), message, kubelets });
    }

    fn required(&mut self, path: &str) {
        self.add(path, "Required value".to_owned());
    }

    fn invalid(&mut self, path: &str, value: impl fmt::Debug, why: &str) {
        self.add(path, format!("Invalid value: {value:?}: {why}"));
    }

    fn duplicate(&mut self, path: &str, value: &str) {
        self.add(path, format!("Duplicate value: {value:?}"));
    }

    fn forbidden(&mut self, path: &str, why: &str) {
        self.add(path, format!("Forbidden: {why}"));
    }

    /// One word of a list, where one is given.
    fn one_of(&mut self, path: &str, value: Option<&str>, supported: &[&str]) {
        let Some(value) = value.filter(|value| !supported.contains(value)) else { return };
        let listed: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        self.add(path, format!("Unsupported value: {value:?}: supported values: {}", listed.join(", ")));
    }

    fn all(&mut self, path: &str, value: &str, faults: Vec<String>) {
        for why in faults {
            self.invalid(path, value, &why);
        }
    }

    fn range(&mut self, path: &str, value: Option<i64>, from: i64, to: i64) {
        if let Some(value) = value.filter(|value| !(from..=to).contains(value)) {
            self.invalid(path, value, &format!("must be between {from} and {to}, inclusive"));
        }
    }

    fn not_negative(&mut self, path: &str, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    /// A path below a volume: relative, and never upwards.
    fn descending(&mut self, path: &str, value: Option<&str>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        if value.starts_with('/') {
            self.invalid(path, value, "must be a relative path");
        }
        self.no_backsteps(path, value);
    }

    fn no_backsteps(&mut self, path: &str, value: &str) {
        if value.split('/').any(|part| part == "..") {
            self.invalid(path, value, "must not contain '..'");
        }
    }
}

/// What the kubelet is expected to refuse of a pod, in the order in which it says so.
pub fn predict(pod: &Pod) -> Vec<Prediction> {
    let mut found = Found::default();
    metadata(&mut found, pod);
    let Some(spec) = &pod.spec else { return found.0 };
    volumes(&mut found, spec);
    container::all(&mut found, spec);
    of_the_pod(&mut found, spec);
    references::all(&mut found, spec);
    found.0
}

/// The most that all annotations take together (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES: usize = 256 << 10;

fn metadata(found: &mut Found, pod: &Pod) {
    let meta = &pod.metadata;
    if let Some(namespace) = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        found.all("metadata.namespace", namespace, values::dns_label(namespace));
    }
    labels(found, "metadata.labels", meta.labels.iter().flatten());
    let annotations = meta.annotations.iter().flatten();
    for (key, _) in annotations.clone() {
        found.all("metadata.annotations", key, values::qualified_name(&key.to_lowercase()));
    }
    let bytes: usize = annotations.map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES {
        found.add("metadata.annotations", format!("Too long: may not be more than {ANNOTATIONS_BYTES} bytes"));
    }
}

fn labels<'l>(found: &mut Found, path: &str, labels: impl Iterator<Item = (&'l String, &'l String)>) {
    for (key, value) in labels {
        found.all(path, key, values::qualified_name(key));
        found.all(path, value, values::label_value(value));
    }
}

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

fn volumes(found: &mut Found, spec: &PodSpec) {
    let mut names = BTreeSet::new();
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{at}]");
        // One without any source is an emptyDir by default.
        for second in sources(volume).iter().skip(1) {
            found.forbidden(&format!("{path}.{second}"), "may not specify more than 1 volume type");
        }
        if let Some(host) = &volume.host_path {
            if host.path.is_empty() {
                found.required(&format!("{path}.hostPath.path"));
            } else {
                found.no_backsteps(&format!("{path}.hostPath.path"), &host.path);
                found.one_of(&format!("{path}.hostPath.type"), host.type_.as_deref(), &HOST_PATH_TYPES);
            }
        }
        for (kind, mode) in [
            ("secret", volume.secret.as_ref().and_then(|source| source.default_mode)),
            ("configMap", volume.config_map.as_ref().and_then(|source| source.default_mode)),
            ("downwardAPI", volume.downward_api.as_ref().and_then(|source| source.default_mode)),
            ("projected", volume.projected.as_ref().and_then(|source| source.default_mode)),
        ] {
            if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
                let why = "must be a number between 0 and 0777 (octal), both inclusive";
                found.invalid(&format!("{path}.{kind}.defaultMode"), mode, why);
            }
        }
        let name = format!("{path}.name");
        if volume.name.is_empty() {
            found.required(&name);
        } else {
            found.all(&name, &volume.name, values::dns_label(&volume.name));
            if !names.insert(&volume.name) {
                found.duplicate(&name, &volume.name);
            }
        }
    }
}

/// The names of the sources that a volume gives.
fn sources(volume: &Volume) -> Vec<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(volume) else { return Vec::new() };
    fields.into_iter().map(|(name, _)| name).filter(|name| name != "name").collect()
}

fn of_the_pod(found: &mut Found, spec: &PodSpec) {
    found.one_of("spec.restartPolicy", spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"]);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    found.one_of("spec.dnsPolicy", spec.dns_policy.as_deref(), &dns);
    labels(found, "spec.nodeSelector", spec.node_selector.iter().flatten());
    if spec.dns_policy.as_deref() == Some("None") {
        match &spec.dns_config {
            None => found
                .add("spec.dnsConfig", "Required value: must provide `dnsConfig` when `dnsPolicy` is None".to_owned()),
            Some(config) if config.nameservers.iter().flatten().next().is_none() => found.add(
                "spec.dnsConfig.nameservers",
                "Required value: must provide at least one DNS nameserver when `dnsPolicy` is None".to_owned(),
            ),
            Some(_) => {}
        }
    }
    if let Some(context) = &spec.security_context {
        let path = "spec.securityContext";
        let most = i64::from(i32::MAX);
        for (name, id) in
            [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)]
        {
            found.range(&format!("{path}.{name}"), id, 0, most);
        }
        for (at, group) in context.supplemental_groups.iter().flatten().enumerate() {
            found.range(&format!("{path}.supplementalGroups[{at}]"), Some(*group), 0, most);
        }
        container::seccomp(found, &format!("{path}.seccompProfile"), context.seccomp_profile.as_ref());
    }
    if spec.host_users == Some(false) && spec.host_network == Some(true) {
        found.forbidden("spec.hostNetwork", "when `pod.Spec.HostUsers` is false");
    }
    found.range("spec.activeDeadlineSeconds", spec.active_deadline_seconds, 1, i64::from(i32::MAX));
    for (path, label) in [("spec.hostname", &spec.hostname), ("spec.subdomain", &spec.subdomain)] {
        if let Some(label) = label.as_deref().filter(|label| !label.is_empty()) {
            found.all(path, label, values::dns_label(label));
        }
    }
    for (at, toleration) in spec.tolerations.iter().flatten().enumerate() {
        tolerates(found, &format!("spec.tolerations[{at}]"), toleration);
    }
    for (path, name) in [
        ("spec.priorityClassName", &spec.priority_class_name),
        ("spec.runtimeClassName", &spec.runtime_class_name),
        ("spec.nodeName", &spec.node_name),
        ("spec.serviceAccountName", &spec.service_account_name),
    ] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            found.all(path, name, values::dns_subdomain(name));
        }
    }
    if spec.ephemeral_containers.iter().flatten().next().is_some() {
        found.forbidden("spec.ephemeralContainers", "cannot be set on create");
    }
}

fn tolerates(found: &mut Found, path: &str, toleration: &Toleration) {
    let operator = toleration.operator.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if key.is_empty() && operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        found.invalid(&format!("{path}.operator"), operator, why);
    }
    if !key.is_empty() {
        found.all(&format!("{path}.key"), key, values::qualified_name(key));
    }
    let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
    if toleration.toleration_seconds.is_some() && effect != Some("NoExecute") {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        found.invalid(&format!("{path}.effect"), effect.unwrap_or_default(), why);
    }
    found.one_of(&format!("{path}.effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    // Lt and Gt came with 1.35.
    if !matches!(operator, "" | "Equal" | "Exists") {
        let message = format!("Unsupported value: {operator:?}: supported values: \"Equal\", \"Exists\"");
        let kubelets = if matches!(operator, "Lt" | "Gt") { Kubelets::Before(35) } else { Kubelets::All };
        found.only(kubelets, &format!("{path}.operator"), message);
    }
}
