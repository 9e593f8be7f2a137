//! From the bytes of a file to the pod the kubelet runs: decode, default, name, identify, validate.
//!
//! ```text
//! bytes ─▶ first YAML document ─▶ v1 Pod ─▶ defaults ─▶ UID ─▶ name-<node>, annotations, toleration ─▶ validation
//! ```
//!
//! The UID hashes the *decoded, defaulted* pod, the node and the file's path: a comment or other white space gives the
//! same pod, another file name gives another one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, PodSpec, PodStatus, Probe, Toleration};
use serde::Deserialize;

use super::refusals::{api_reference, validate};

/// `kubernetes.io/config.hash`: the UID, under which the CRI and the API server can be matched.
pub const HASH: &str = "kubernetes.io/config.hash";
/// `kubernetes.io/config.source`: `file` for a static pod.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// `kubernetes.io/config.seen`: when this kubelet first saw this pod.
pub const SEEN: &str = "kubernetes.io/config.seen";
/// `kubernetes.io/config.mirror`: on mirror pods, the hash of the static pod they show.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The largest manifest the kubelet reads: `maxConfigLength` of pkg/kubelet/config.
pub const MAX_BYTES: u64 = 10 << 20;

/// The identity of a pod: 32 hexadecimal digits, or what the manifest itself names in metadata.uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `namespace/name`, the name with the node's appended: what two generations of a static pod share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullName {
    /// The namespace, never empty.
    pub namespace: String,
    /// The pod's name, `-<node>` included.
    pub name: String,
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A static pod ready to be run. Cheap to clone: workers, probes and status all hold one.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticPod {
    /// Its identity.
    pub uid: Uid,
    /// Its name, which outlives the identity.
    pub full_name: FullName,
    /// The defaulted object, as /pods and the mirror pod show it (status not filled in).
    pub pod: std::sync::Arc<Pod>,
}

impl StaticPod {
    /// The spec; an empty one for a pod that was not validated, which `decode` never returns.
    #[must_use]
    pub fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    /// Seconds between SIGTERM and SIGKILL.
    #[must_use]
    pub fn grace_seconds(&self) -> i64 {
        self.spec().termination_grace_period_seconds.unwrap_or(30).max(1)
    }

    /// The pod with `kubernetes.io/config.seen` set to `when`.
    #[must_use]
    pub fn seen_at(mut self, when: &str) -> Self {
        let mut pod = (*self.pod).clone();
        pod.metadata.annotations.get_or_insert_default().insert(SEEN.into(), when.into());
        self.pod = std::sync::Arc::new(pod);
        self
    }
}

/// The pod that the kubelet of `node` makes of the bytes of `path`.
///
/// # Errors
/// The kubelet's reason for not taking them: no YAML, not a v1 Pod, or an invalid one.
pub fn decode(bytes: &[u8], path: &Path, node: &str) -> Result<StaticPod, String> {
    let undecodable = |why| format!("{}: couldn't parse as pod({why}), please check config file", path.display());
    let mut pod = parse(bytes).map_err(undecodable)?;
    default_pod(&mut pod);
    validate(&pod).map_err(|why| format!("invalid pod: [{}]", why.join(", ")))?;
    if let Some(what) = api_reference(&pod) {
        return Err(format!("static pods may not reference {what}"));
    }

    let uid = match pod.metadata.uid.as_deref() {
        Some(fixed) if !fixed.is_empty() => Uid(fixed.to_owned()),
        _ => hash(&pod, path, node),
    };
    let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), node.to_lowercase());
    let namespace = match pod.metadata.namespace.as_deref() {
        None | Some("") => "default".to_owned(),
        Some(given) => given.to_owned(),
    };
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace = Some(namespace.clone());
    pod.metadata.uid = Some(uid.0.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH.into(), uid.0.clone());
    annotations.insert(SOURCE.into(), "file".into());
    if let Some(spec) = pod.spec.as_mut() {
        spec.node_name = Some(node.to_owned());
        tolerate_no_execute(spec);
    }
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
    Ok(StaticPod { uid, full_name: FullName { namespace, name }, pod: std::sync::Arc::new(pod) })
}

/// The first YAML document as a v1 Pod, or the JSON. Documents after the first are ignored, as the kubelet does; so is what
/// is no text there, since its reader has stopped before it.
fn parse(bytes: &[u8]) -> Result<Pod, String> {
    let text = decoded(bytes)?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|why| why.to_string());
    }
    let text = &yaml_1_1(&text);
    let Some(first) = serde_yaml::Deserializer::from_str(text).next() else {
        return Err("Object 'Kind' is missing in 'null'".into());
    };
    let value = serde_yaml::Value::deserialize(first).map_err(|why| format!("yaml: {why}"))?;
    let field = |name: &str| value.get(name).and_then(serde_yaml::Value::as_str).unwrap_or_default().to_owned();
    match (field("apiVersion").as_str(), field("kind").as_str()) {
        (_, "") => return Err("Object 'Kind' is missing".into()),
        ("v1", "Pod") => {}
        (version, kind) => return Err(format!("invalid pod: {version:?} {kind:?} is not a v1 Pod")),
    }
    serde_yaml::from_value(value).map_err(|why| why.to_string())
}

/// The text of the first document, in UTF-8 or by a byte order mark in UTF-16.
fn decoded(bytes: &[u8]) -> Result<String, String> {
    let utf16 = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).map_err(|why| format!("yaml: {why}"))
    };
    match bytes {
        [0xff, 0xfe, ..] => return utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => return utf16(u16::from_be_bytes),
        _ => {}
    }
    let is_text = |line: &[u8]| !line.is_empty() && !line.starts_with(b"#") && line != b"---";
    let mark =
        |at: &usize| bytes[*at..].starts_with(b"\n---\n") && bytes[..*at].split(|byte| *byte == b'\n').any(is_text);
    let end = (1..bytes.len()).find(mark).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|why| format!("yaml: invalid UTF-8: {why}"))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned() + "\n")
}

/// The text with the booleans and the octal numbers of YAML 1.1 as those of 1.2: the kubelet's YAML (sigs.k8s.io/yaml) takes a
/// plain `yes` or `off` for a boolean, whatever the field; where that is one of text, the pod is refused. Only what ends a line of block
/// style is looked at, which is all that a manifest of the lab has.
fn yaml_1_1(text: &str) -> String {
    const TRUE: [&str; 8] = ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"];
    const FALSE: [&str; 8] = ["n", "N", "no", "No", "NO", "off", "Off", "OFF"];
    let line = |line: &str| {
        let plain = line.split(" #").next().unwrap_or(line).trim_end();
        let word = plain.rsplit([' ', '\t']).next().unwrap_or_default();
        let before = plain.strip_suffix(word).unwrap_or_default().trim_end();
        if !(before.ends_with(':') || before.ends_with('-')) {
            return line.to_owned();
        }
        let is = |words: &[&str]| words.contains(&word);
        let octal = word.strip_prefix('0').and_then(|digits| u64::from_str_radix(digits, 8).ok());
        let meant = if is(&TRUE) {
            "true".to_owned()
        } else if is(&FALSE) {
            "false".to_owned()
        } else if let Some(number) = octal {
            number.to_string()
        } else {
            return line.to_owned();
        };
        format!("{before} {meant}")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// What the API machinery fills in while decoding; the UID is taken after it, so that a default written out is no
/// change.
fn default_pod(pod: &mut Pod) {
    let Some(spec) = pod.spec.as_mut() else { return };
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
    spec.security_context.get_or_insert_default();
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        default_container(container, host_network);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(host_path) = volume.host_path.as_mut() {
            host_path.type_.get_or_insert_default();
        }
    }
}

fn default_container(container: &mut Container, host_network: bool) {
    let policy = if always_pulled(container.image.as_deref().unwrap_or_default()) { "Always" } else { "IfNotPresent" };
    container.image_pull_policy.get_or_insert_with(|| policy.into());
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    container.termination_message_policy.get_or_insert_with(|| "File".into());
    container.resources.get_or_insert_default();
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
        if host_network {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    for probe in [&mut container.startup_probe, &mut container.liveness_probe, &mut container.readiness_probe]
        .into_iter()
        .flatten()
    {
        default_probe(probe);
    }
}

fn default_probe(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(HTTPGetAction { path, scheme, .. }) = probe.http_get.as_mut() {
        path.get_or_insert_with(|| "/".into());
        scheme.get_or_insert_with(|| "HTTP".into());
    }
}

/// Whether an image without a tag, or tagged latest, is pulled at every start by default.
fn always_pulled(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn tolerate_no_execute(spec: &mut PodSpec) {
    let wanted =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&wanted) {
        tolerations.push(wanted);
    }
}

/// FNV-1a of 128 bits over node, path and the pod with sorted keys.
fn hash(pod: &Pod, path: &Path, node: &str) -> Uid {
    let mut state = Fnv128::new();
    state.write(format!("host:{node}").as_bytes());
    state.write(format!("file:{}", path.display()).as_bytes());
    // serde_json's own maps keep the order of the struct's fields and the k8s types use BTreeMap, so this is stable.
    state.write(serde_json::to_string(pod).unwrap_or_default().as_bytes());
    Uid(format!("{:032x}", state.0))
}

/// The FNV-1a hash with 128 bits: offset basis and prime are the published ones.
struct Fnv128(u128);

impl Fnv128 {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

/// FNV-1a with 32 bits, as eight hexadecimal digits: the container hash of the CRI annotations.
#[must_use]
pub fn fnv32a(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

/// The hash that decides whether a container must be replaced within the same pod: since Kubernetes 1.31 only its name
/// and image count (two API servers with different flags carry the same hash in the recorded samples).
#[must_use]
pub fn container_hash(container: &Container) -> String {
    let picked: BTreeMap<&str, &str> =
        BTreeMap::from([("name", container.name.as_str()), ("image", container.image.as_deref().unwrap_or_default())]);
    fnv32a(serde_json::to_string(&picked).unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: 'x:1'}\n";

    fn pod(text: &str) -> Result<StaticPod, String> {
        decode(text.as_bytes(), Path::new("/m/p.yaml"), "Node1")
    }

    #[test]
    fn comments_whitespace_defaults_and_json_do_not_make_another_pod() {
        let plain = pod(POD).expect("valid");
        let commented = format!("# a note\n{POD}# more\n---\nkind: Other\n");
        let defaulted = POD.replace("spec:\n", "spec:\n  restartPolicy: Always\n");
        let json = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"},"spec":{"containers":[{"image":"x:1","name":"c"}]}}"#;
        for same in [commented.as_str(), defaulted.as_str(), json] {
            assert_eq!(pod(same).expect("valid").uid, plain.uid, "{same}");
        }
    }

    #[test]
    fn the_path_the_node_and_the_content_make_another_pod() {
        let plain = pod(POD).expect("valid");
        let elsewhere = decode(POD.as_bytes(), Path::new("/m/q.yaml"), "Node1").expect("valid");
        let other_node = decode(POD.as_bytes(), Path::new("/m/p.yaml"), "Node2").expect("valid");
        let changed = pod(&POD.replace("x:1", "x:2")).expect("valid");
        for other in [elsewhere, other_node, changed] {
            assert_ne!(other.uid, plain.uid);
        }
    }

    #[test]
    fn name_namespace_annotations_and_toleration_are_those_of_a_static_pod() {
        let plain = pod(POD).expect("valid");
        assert_eq!(plain.full_name, FullName { namespace: "default".into(), name: "p-node1".into() });
        assert_eq!(plain.uid.0.len(), 32);
        let annotations = plain.pod.metadata.annotations.clone().expect("annotated");
        assert_eq!(annotations.get(HASH), Some(&plain.uid.0));
        assert_eq!(annotations.get(SOURCE).map(String::as_str), Some("file"));
        assert_eq!(plain.spec().node_name.as_deref(), Some("Node1"));
        assert_eq!(plain.spec().tolerations.as_ref().map(Vec::len), Some(1));
        assert_eq!(plain.grace_seconds(), 30);
    }

    #[test]
    fn a_uid_written_in_the_manifest_is_kept() {
        let fixed = pod(&POD.replace("{name: p}", "{name: p, uid: fixed}")).expect("valid");
        assert_eq!(fixed.uid, Uid("fixed".into()));
    }

    #[test]
    fn what_is_not_a_valid_pod_is_refused_with_the_kubelets_reason() {
        for (text, reason) in [
            ("", "couldn't parse as pod"),
            ("# nothing\n", "couldn't parse as pod"),
            ("a: [\n", "couldn't parse as pod"),
            ("apiVersion: v1\nkind: ConfigMap\n", "is not a v1 Pod"),
            ("just text", "couldn't parse as pod"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n",
                "spec.containers: Required value",
            ),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n", "spec.containers: Required value"),
            (&POD.replace("name: p", "name: P_"), "metadata.name"),
            (&POD.replace(", image: 'x:1'", ""), "image: Required value"),
            (&POD.replace("image: 'x:1'", "image: 'x:1', volumeMounts: [{name: v, mountPath: /v}]"), "Not found"),
            (&POD.replace("image: 'x:1'", "image: [1]"), "couldn't parse as pod"),
        ] {
            let why = pod(text).expect_err(text);
            assert!(why.contains(reason), "{text:?} gave {why:?}, not {reason:?}");
        }
    }

    #[test]
    fn a_boolean_of_yaml_1_1_is_one_and_no_text() {
        let plain = |word: &str| POD.replace("spec:\n", &format!("spec:\n  hostNetwork: {word}\n"));
        let same = pod(&plain("true")).expect("valid");
        for word in ["yes", "Yes", "on", "YES  # as Ansible writes it"] {
            assert_eq!(pod(&plain(word)).expect("valid").uid, same.uid, "{word}");
        }
        assert_ne!(pod(&plain("off")).expect("valid").uid, same.uid);
        assert!(pod(&plain("'yes'")).is_err(), "in quotes it is text");
        let grace =
            |number: &str| pod(&POD.replace("spec:\n", &format!("spec:\n  terminationGracePeriodSeconds: {number}\n")));
        assert_eq!(grace("010").expect("valid").grace_seconds(), 8, "an octal number");
        let container = "  - name: c\n    image: x:1\n    env:\n    - name: A\n      value: WORD\n";
        let value = |word: &str| {
            let head = POD.split("  - {").next().expect("a head");
            pod(&format!("{head}{}", container.replace("WORD", word)))
        };
        assert!(value("yes").expect_err("a boolean").contains("couldn't parse as pod"));
        value("'yes'").expect("text");
        value("yesterday").expect("text");
    }

    #[test]
    fn the_container_hash_counts_name_and_image_only() {
        let plain = pod(POD).expect("valid");
        let flags = pod(&POD.replace("image: 'x:1'", "image: 'x:1', command: [a]")).expect("valid");
        let image = pod(&POD.replace("x:1", "x:2")).expect("valid");
        let of = |pod: &StaticPod| container_hash(&pod.spec().containers[0]);
        assert_eq!(of(&plain), of(&flags));
        assert_ne!(of(&plain), of(&image));
        assert_eq!(fnv32a(b"a"), "e40c292c");
    }

    #[test]
    fn an_image_without_tag_is_always_pulled() {
        assert!(always_pulled("registry:5000/a"));
        assert!(always_pulled("a:latest"));
        assert!(!always_pulled("registry:5000/a:1"));
        assert!(!always_pulled("a@sha256:00"));
    }
}
