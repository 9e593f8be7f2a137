//! A static pod manifest, parsed as the kubelet parses it (`pkg/kubelet/config/file.go`, `common.go`): the first
//! document, YAML 1.1 or JSON (`model/kubelet_yaml`), whatever the file's extension.
//!
//! Two files define the same pod if they decode to the same value: the kubelet derives the UID from the decoded pod, so
//! comments and white space cause no restart. [`Manifest::digest`] follows this, but covers the whole decoded document,
//! so that a field newer than this program still counts as a change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::component::is_dns_name;
pub use super::file_fault::MAX_BYTES;
use super::predictions::predict;
use super::{ComponentId, Digest, FileFault, Prediction, Role, kubelet_yaml};

/// The namespace of a static pod that names none (`pkg/kubelet/config/common.go`).
const DEFAULT_NAMESPACE: &str = "default";

/// What the kubelet allows a pod for termination when the manifest does not say: 30 s.
const DEFAULT_TERMINATION_GRACE: Duration = Duration::from_secs(30);

/// Which data a generation serves. A rollback never changes it (Q1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "serves")]
pub enum DataIdentity {
    /// An etcd member's data directory on the host.
    Etcd {
        /// The host path behind `--data-dir`.
        data_dir: PathBuf,
        /// The host path behind `--wal-dir`, where its log is separate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wal_dir: Option<PathBuf>,
    },
    /// What an API server reads and writes.
    ApiServer {
        /// `--etcd-servers`.
        servers: BTreeSet<String>,
        /// `--etcd-prefix`; `/registry` when absent.
        prefix: String,
    },
}

/// The user and group that the main container's process runs as, where the manifest says (`runAsUser`, `runAsGroup`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunsAs {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

/// A manifest that decodes to a pod.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Whose manifest it is.
    pub id: ComponentId,
    /// What the component is to the others.
    pub role: Role,
    /// The decoded pod.
    pub pod: Pod,
    /// Of the decoded document: equal for bytes that decode to the same pod.
    pub digest: Digest,
    /// What the kubelet is expected to refuse of it. It is reported, and no reason to undo anything (Q16).
    pub predicted: Vec<Prediction>,
    /// The file, byte for byte: what is kept and what is put back.
    pub raw: Arc<[u8]>,
}

impl Manifest {
    /// Decodes what a file holds.
    ///
    /// # Errors
    /// The fault says what the operator would have to fix. It means that *we* cannot read the file; whether a pod may
    /// run from it nevertheless, [`FileFault::kubelet_may_run`] tells.
    pub fn parse(raw: Arc<[u8]>) -> Result<Self, FileFault> {
        if raw.len() as u64 > MAX_BYTES {
            return Err(FileFault::TooLarge { bytes: raw.len() as u64 });
        }
        let document = kubelet_yaml::to_json(&raw)?;
        let (version, kind) = match &document {
            Value::Null => return Err(FileFault::Empty),
            Value::Object(top) => kubelet_yaml::group_version_kind(top)?,
            other => return Err(FileFault::NotAPod { kind: format!("a plain {}", json_kind(other)) }),
        };
        if (version.as_str(), kind.as_str()) != ("v1", "Pod") {
            let kind = match (version.as_str(), kind.as_str()) {
                ("", "") => "an object without apiVersion and kind".to_owned(),
                ("", kind) => format!("a {kind} without apiVersion"),
                (version, "") => format!("an object of apiVersion {version} without kind"),
                (version, kind) => format!("{version}/{kind}"),
            };
            return Err(FileFault::NotAPod { kind });
        }
        let pod = kubelet_yaml::fit(&document)?;
        let document = canonical(document);
        let id = validate(&pod).map_err(|error| FileFault::InvalidPod { error })?;
        let digest = Digest::of(document.to_string().as_bytes());
        let role = main_program(&pod).and_then(|program| Role::of_program(&program)).unwrap_or(Role::Other);
        let predicted = predict(&pod);
        Ok(Self { id, role, pod, digest, predicted, raw })
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// The container that makes this pod what it is: the one whose program gives the role, or else the first.
    pub fn main_container(&self) -> Option<&Container> {
        let containers = &self.spec()?.containers;
        containers.iter().find(|c| program(c).and_then(|p| Role::of_program(&p)).is_some()).or(containers.first())
    }

    /// The user and group of the main container: its own security context takes precedence over the pod's.
    pub fn runs_as(&self) -> RunsAs {
        let pod = self.spec().and_then(|spec| spec.security_context.as_ref());
        let own = self.main_container().and_then(|container| container.security_context.as_ref());
        let id = |own: Option<i64>, pod: Option<i64>| own.or(pod).and_then(|id| u32::try_from(id).ok());
        RunsAs {
            user: id(own.and_then(|own| own.run_as_user), pod.and_then(|pod| pod.run_as_user)),
            group: id(own.and_then(|own| own.run_as_group), pod.and_then(|pod| pod.run_as_group)),
        }
    }

    /// The command line the main container is started with: `command` and `args`, where the manifest gives a command.
    pub fn command_line(&self) -> Option<Vec<String>> {
        let container = self.main_container()?;
        let mut line = container.command.clone().filter(|command| !command.is_empty())?;
        line.extend(container.args.iter().flatten().cloned());
        Some(line)
    }

    /// The flags of the main container, as `--name=value`, `--name value` or a bare `--name` gives them.
    pub fn flags(&self) -> BTreeMap<String, Vec<String>> {
        let Some(container) = self.main_container() else {
            return BTreeMap::new();
        };
        let words: Vec<&String> = container.command.iter().flatten().chain(container.args.iter().flatten()).collect();
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (at, word) in words.iter().enumerate() {
            let Some(flag) = word.strip_prefix("--") else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (
                    flag,
                    words.get(at + 1).filter(|next| !next.starts_with('-')).map_or(String::new(), |v| (*v).clone()),
                ),
            };
            flags.entry(name.to_owned()).or_default().push(value);
        }
        flags
    }

    /// The last value of one flag, which is the one that counts for a flag that is given twice.
    pub fn flag(&self, name: &str) -> Option<String> {
        self.flags().remove(name)?.pop()
    }

    /// Every image the pod needs, init containers included.
    pub fn images(&self) -> BTreeSet<String> {
        let Some(spec) = self.spec() else {
            return BTreeSet::new();
        };
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers).filter_map(|c| c.image.clone()).collect()
    }

    /// The host directories and files mounted into the main container: (path in the container, path on the host),
    /// the deepest mount first.
    pub fn host_mounts(&self) -> Vec<(PathBuf, PathBuf)> {
        let (Some(spec), Some(container)) = (self.spec(), self.main_container()) else {
            return Vec::new();
        };
        let host: BTreeMap<&str, &str> = spec
            .volumes
            .iter()
            .flatten()
            .filter_map(|volume| Some((volume.name.as_str(), volume.host_path.as_ref()?.path.as_str())))
            .collect();
        let mut mounts: Vec<_> = container
            .volume_mounts
            .iter()
            .flatten()
            .filter_map(|mount| {
                let path = Path::new(*host.get(mount.name.as_str())?);
                let path = mount.sub_path.as_ref().map_or_else(|| path.to_owned(), |sub| path.join(sub));
                Some((PathBuf::from(&mount.mount_path), path))
            })
            .collect();
        mounts.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.components().count()));
        mounts
    }

    /// Where a path of the main container is on the host, if a hostPath volume brings it in.
    pub fn host_path(&self, inside: &Path) -> Option<PathBuf> {
        self.host_mounts().into_iter().find_map(|(mount, host)| {
            let rest = inside.strip_prefix(&mount).ok()?;
            Some(if rest.as_os_str().is_empty() { host } else { host.join(rest) })
        })
    }

    /// Whether the kubelet starts a container again however it ended: `restartPolicy`.
    pub fn restarts_always(&self) -> bool {
        let policy = self.spec().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
        policy.is_empty() || policy == "Always"
    }

    /// How long the pod may take to end after its file is gone: `terminationGracePeriodSeconds`.
    pub fn termination_grace(&self) -> Duration {
        let seconds = self.spec().and_then(|spec| spec.termination_grace_period_seconds);
        seconds.and_then(|s| u64::try_from(s).ok()).map_or(DEFAULT_TERMINATION_GRACE, Duration::from_secs)
    }

    /// The time the startup probe gives the main container to come up: `initialDelaySeconds` and `failureThreshold`
    /// periods, with the kubelet's defaults (0, 3, 10 s) where the manifest is silent. Zero without such a probe.
    pub fn startup_budget(&self) -> Duration {
        let Some(probe) = self.main_container().and_then(|c| c.startup_probe.as_ref()) else {
            return Duration::ZERO;
        };
        let seconds = |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
        let periods = seconds(probe.failure_threshold, 3) * seconds(probe.period_seconds, 10);
        Duration::from_secs(seconds(probe.initial_delay_seconds, 0) + periods)
    }

    /// Which data this manifest serves, for the two components that serve any.
    pub fn data_identity(&self) -> Option<DataIdentity> {
        match self.role {
            Role::Etcd => {
                let on_host = |inside: PathBuf| self.host_path(&inside).unwrap_or(inside);
                let wal_dir = self.flag("wal-dir").filter(|dir| !dir.is_empty());
                Some(DataIdentity::Etcd {
                    data_dir: on_host(self.flag("data-dir")?.into()),
                    wal_dir: wal_dir.map(|dir| on_host(dir.into())),
                })
            }
            Role::ApiServer => Some(DataIdentity::ApiServer {
                servers: self
                    .flag("etcd-servers")?
                    .split(',')
                    .map(|s| s.trim().trim_end_matches('/').to_owned())
                    .collect(),
                prefix: self.flag("etcd-prefix").unwrap_or_else(|| "/registry".to_owned()),
            }),
            _ => None,
        }
    }

    /// The TCP ports the pod listens on: what its flags name, what kubeadm's components listen on when their flags are
    /// silent, and the declared container ports. Only ports of the host's network count.
    pub fn ports(&self) -> BTreeSet<u16> {
        let Some(spec) = self.spec() else {
            return BTreeSet::new();
        };
        if spec.host_network != Some(true) {
            return BTreeSet::new();
        }
        let flags = self.flags();
        let of_flag = |name: &str, default: u16| {
            let given = flags.get(name).and_then(|values| values.last()).and_then(|port| port.parse().ok());
            given.unwrap_or(default)
        };
        let mut ports: BTreeSet<u16> = match self.role {
            Role::ApiServer => [of_flag("secure-port", 6443)].into(),
            Role::ControllerManager => [of_flag("secure-port", 10257)].into(),
            Role::Scheduler => [of_flag("secure-port", 10259)].into(),
            Role::Etcd => ["listen-client-urls", "listen-peer-urls", "listen-metrics-urls"]
                .iter()
                .filter_map(|flag| flags.get(*flag))
                .flatten()
                .flat_map(|urls| urls.split(','))
                .filter_map(|url| url.trim().rsplit_once(':')?.1.trim_end_matches('/').parse().ok())
                .collect(),
            Role::Other => BTreeSet::new(),
        };
        if self.role == Role::Other {
            let declared = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
            ports.extend(declared.filter_map(|port| u16::try_from(port.container_port).ok()));
        }
        ports
    }

    /// The minor version the main container's image tag names: `v1.34.2` gives (1, 34).
    pub fn minor_version(&self) -> Option<(u32, u32)> {
        let image = self.main_container()?.image.as_ref()?;
        let tag = image.split('@').next()?.rsplit_once(':')?.1;
        let mut numbers = tag.trim_start_matches('v').split(['.', '-']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

fn program(container: &Container) -> Option<String> {
    container.command.as_ref()?.first().cloned()
}

fn main_program(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let known = containers.iter().filter_map(program).find(|p| Role::of_program(p).is_some());
    // A manifest without a command leaves the program to its image; the pod's own name is the next best word for it.
    known.or_else(|| containers.iter().all(|c| program(c).is_none()).then(|| pod.metadata.name.clone())?)
}

/// The kubelet's rules for a static pod, as far as a pod that breaks them is dropped at its next scan.
fn validate(pod: &Pod) -> Result<ComponentId, String> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if !is_dns_name(&name) {
        return Err(format!("metadata.name: {name:?} is not a DNS name"));
    }
    let namespace =
        pod.metadata.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    if !is_dns_name(&namespace) {
        return Err(format!("metadata.namespace: {namespace:?} is not a DNS name"));
    }
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let volumes: BTreeSet<&str> =
        pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).map(|volume| volume.name.as_str()).collect();
    if containers.is_empty() {
        return Err("spec.containers: at least one is required".to_owned());
    }
    for (at, container) in containers.iter().enumerate() {
        if container.name.is_empty() {
            return Err(format!("spec.containers[{at}].name: required"));
        }
        if container.image.as_ref().is_none_or(|image| image.trim().is_empty()) {
            return Err(format!("spec.containers[{at}].image: required"));
        }
        // A manifest that was cut within its volumes, which kubeadm writes last. The kubelet takes it for no pod at all.
        let mut mounts = container.volume_mounts.iter().flatten();
        if let Some(mount) = mounts.find(|mount| !volumes.contains(mount.name.as_str())) {
            return Err(format!("spec.containers[{at}].volumeMounts: there is no volume {:?}", mount.name));
        }
    }
    Ok(ComponentId::new(namespace, name))
}

/// The document without what decodes to nothing: nulls, and the status, which the kubelet overwrites.
fn canonical(document: Value) -> Value {
    let mut document = without_nulls(document);
    if let Some(top) = document.as_object_mut() {
        top.remove("status");
    }
    document
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "list",
        Value::String(_) => "text",
        _ => "value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETCD: &str = r"
apiVersion: v1
kind: Pod
metadata:
  name: etcd
  namespace: kube-system
spec:
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.5.16-0
    command: [etcd, --data-dir=/var/lib/etcd, --name, m1]
    startupProbe: {initialDelaySeconds: 10, failureThreshold: 24, periodSeconds: 10}
    volumeMounts:
    - {name: data, mountPath: /var/lib/etcd}
  volumes:
  - name: data
    hostPath: {path: /srv/etcd, type: DirectoryOrCreate}
status: {}
";

    fn parse(text: &str) -> Result<Manifest, FileFault> {
        Manifest::parse(text.as_bytes().into())
    }

    #[test]
    fn a_container_runs_as_its_own_security_context_says_and_otherwise_as_the_pod_s() {
        let pod = "  securityContext: {runAsUser: 2001, runAsGroup: 2002}\n  containers:\n";
        let rootless = ETCD.replace("  containers:\n", pod);
        let runs_as = |text: &str| parse(text).unwrap().runs_as();
        assert_eq!(runs_as(&rootless), RunsAs { user: Some(2001), group: Some(2002) });
        let own = rootless.replace("    image:", "    securityContext: {runAsUser: 3001}\n    image:");
        assert_eq!(runs_as(&own), RunsAs { user: Some(3001), group: Some(2002) });
        let negative = rootless.replace("2001", "-1");
        assert_eq!(runs_as(&negative).user, None);
    }

    #[test]
    fn a_kubeadm_manifest_tells_all_we_ask() {
        let etcd = parse(ETCD).unwrap();
        assert_eq!(etcd.id, ComponentId::system("etcd"));
        assert_eq!(etcd.role, Role::Etcd);
        assert_eq!(etcd.flag("name").as_deref(), Some("m1"), "a flag and its value in two words");
        assert_eq!(etcd.host_path(Path::new("/var/lib/etcd/member")), Some("/srv/etcd/member".into()));
        assert_eq!(etcd.data_identity(), Some(DataIdentity::Etcd { data_dir: "/srv/etcd".into(), wal_dir: None }));
        let apart = parse(&ETCD.replace("--name, m1", "--wal-dir=/var/lib/etcd/log")).unwrap();
        let wal_dir = Some("/srv/etcd/log".into());
        assert_eq!(apart.data_identity(), Some(DataIdentity::Etcd { data_dir: "/srv/etcd".into(), wal_dir }));
        assert_eq!(etcd.startup_budget(), Duration::from_secs(250));
        assert_eq!(etcd.runs_as(), RunsAs::default());
        assert_eq!(etcd.termination_grace(), Duration::from_secs(30));
        assert_eq!(etcd.minor_version(), Some((3, 5)));
        let urls =
            ETCD.replace("--data-dir", "'--listen-client-urls=https://127.0.0.1:2379,https://[::1]:2389/', --data-dir");
        let on_host = urls.replace("spec:\n", "spec:\n  hostNetwork: true\n");
        assert_eq!(parse(&on_host).unwrap().ports(), [2379, 2389].into());
        assert_eq!(parse(&urls).unwrap().ports(), [].into(), "ports of the pod's own network");
    }

    #[test]
    fn only_what_decodes_differently_is_another_pod() {
        let etcd = parse(ETCD).unwrap().digest;
        let same = |text: &str, why: &str| assert_eq!(parse(text).unwrap().digest, etcd, "{why}");
        same(&format!("# a comment\n{ETCD}"), "a comment");
        same(&format!("{ETCD}---\n"), "a trailing document mark");
        same(&ETCD.replace("status: {}", "status: null"), "a status");
        let json = kubelet_yaml::to_json(ETCD.as_bytes()).unwrap();
        same(&serde_json::to_string_pretty(&json).unwrap(), "the same in JSON");
        assert_ne!(parse(&ETCD.replace("m1", "m2")).unwrap().digest, etcd, "a flag");
        let newer = ETCD.replace("  containers:", "  fieldOfTheFuture: true\n  containers:");
        assert_ne!(parse(&newer).unwrap().digest, etcd, "a field this program does not know");
    }

    #[test]
    fn what_is_no_pod_is_told_apart() {
        assert_eq!(parse("").unwrap_err(), FileFault::Empty);
        assert_eq!(parse("# nothing\n\n").unwrap_err(), FileFault::Empty);
        assert!(matches!(parse("a: [").unwrap_err(), FileFault::NotYaml { .. }));
        assert!(matches!(parse("\0\0\0\0").unwrap_err(), FileFault::NotYaml { .. }), "what a power cut leaves");
        assert!(matches!(parse("hello").unwrap_err(), FileFault::NotAPod { .. }));
        assert!(matches!(parse("kind: Deployment\napiVersion: apps/v1").unwrap_err(), FileFault::NotAPod { .. }));
        for (text, said) in
            [("a: b", ["apiVersion", "kind"]), ("kind: Pod", ["Pod", "apiVersion"]), ("apiVersion: v1", ["v1", "kind"])]
        {
            let FileFault::NotAPod { kind } = parse(text).unwrap_err() else { panic!("{text}") };
            assert!(said.iter().all(|word| kind.contains(word)), "{text}: {kind}");
        }
        for (cut, field) in
            [("  containers:", "containers"), ("  name: etcd", "metadata.name"), ("    image:", "image")]
        {
            let text = ETCD[..ETCD.find(cut).unwrap()].to_owned();
            match parse(&text) {
                Err(FileFault::InvalidPod { error }) => assert!(error.contains(field) || field == "image", "{error}"),
                other => panic!("cut before {cut:?}: {other:?}"),
            }
        }
        let text = &ETCD[..ETCD.find("  volumes:").unwrap()];
        match parse(text) {
            Err(FileFault::InvalidPod { error }) => assert!(error.contains("there is no volume"), "{error}"),
            other => panic!("cut within the volumes: {other:?}"),
        }
        let large = vec![b' '; MAX_BYTES as usize + 1];
        assert!(matches!(Manifest::parse(large.into()).unwrap_err(), FileFault::TooLarge { .. }));
    }

    #[test]
    fn digests_are_those_that_earlier_versions_stored() {
        let digest = |raw: &[u8]| Manifest::parse(raw.into()).unwrap().digest.short();
        assert_eq!(digest(ETCD.as_bytes()), "05fb8dd0fa4e");
        let kubeadm = |name: &str| {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cluster/manifests");
            digest(&std::fs::read(format!("{directory}/{name}.yaml")).unwrap())
        };
        assert_eq!(kubeadm("etcd"), "e1dd8907acfe");
        assert_eq!(kubeadm("kube-apiserver"), "e6c213a5efd3");
        assert_eq!(kubeadm("kube-controller-manager"), "2a30e51b94f6");
        assert_eq!(kubeadm("kube-scheduler"), "b453bbf36199");
    }

    #[test]
    fn q16_what_the_kubelet_decodes_decodes_and_what_no_kubelet_decodes_is_surely_not_run() {
        use Kubelet::{MayRun, Refuses, Takes};
        #[derive(Debug, PartialEq)]
        enum Kubelet {
            Takes,
            Refuses,
            MayRun,
        }
        let asked = |bytes: &[u8]| match Manifest::parse(bytes.into()) {
            Ok(_) => Takes,
            Err(fault) if fault.kubelet_may_run() => MayRun,
            Err(_) => Refuses,
        };
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let with = |from: &str, to: &str| ETCD.replace(from, to).into_bytes();
        let deep = format!("deep: {}{}\n{ETCD}", "[".repeat(300), "]".repeat(300));
        let flow = |open: &str| with("  containers:", &format!("  {open}\n  containers:"));
        let env = |value: &str| with("    command:", &format!("    env: [{{name: A, value: {value}}}]\n    command:"));
        let json = serde_json::to_string(&kubelet_yaml::to_json(ETCD.as_bytes()).unwrap()).unwrap();
        let rows: Vec<(&str, Vec<u8>, Kubelet)> = vec![
            ("a boolean of YAML 1.1", with("spec:\n", "spec:\n  hostNetwork: yes\n"), Takes),
            ("a boolean in quotes", with("spec:\n", "spec:\n  hostNetwork: 'on'\n"), Refuses),
            ("a boolean for a text", env("yes"), Refuses),
            ("a number for a text", env("5"), Refuses),
            ("a time for a text", env("2001-01-01"), Takes),
            ("base 60 for a text", env("1:30"), Takes),
            ("a tagged text", env("!!str yes"), Takes),
            ("an octal number", with("failureThreshold: 24", "failureThreshold: 024"), Takes),
            ("a number of base 60", with("initialDelaySeconds: 10", "initialDelaySeconds: 1:30"), Refuses),
            ("a number with underscores", with("failureThreshold: 24", "failureThreshold: 2_4"), Takes),
            ("a whole number with an exponent", with("failureThreshold: 24", "failureThreshold: 1e3"), Takes),
            ("a number with a fraction", with("failureThreshold: 24", "failureThreshold: 2.5"), Refuses),
            ("infinity, in a field that nobody reads", with("spec:\n", "spec:\n  future: .inf\n"), Refuses),
            ("a quantity that is a number", flow("resources: {limits: {cpu: 2, memory: 0.5}}"), Takes),
            ("a merge key", with("metadata:\n", "x: &l {a: b}\nmetadata:\n  labels: {<<: *l}\n"), Takes),
            ("a tag of one's own", with("kind: Pod", "kind: !pod Pod"), Takes),
            ("a binary value", with("name: etcd\n  namespace", "name: !!binary ZXRjZA==\n  namespace"), Takes),
            ("a key that is a list", with("spec:\n", "? [a]\n: b\nspec:\n"), Refuses),
            ("a key that is null", with("spec:\n", "~: b\nspec:\n"), Refuses),
            ("`Kind`, which is found in any case", with("kind: Pod", "Kind: Pod"), Takes),
            ("`Spec`, which is an unknown field", with("spec:\n", "Spec:\n"), MayRun),
            ("null in a list of text", with("command: [etcd,", "command: [etcd, ~,"), Takes),
            ("deeper than we go", deep.into_bytes(), MayRun),
            ("UTF-16 with a byte order mark", [vec![0xff, 0xfe], utf16(ETCD)].concat(), Takes),
            ("UTF-8 with a byte order mark", [b"\xef\xbb\xbf", ETCD.as_bytes()].concat(), Takes),
            ("UTF-32 with a byte order mark", [0, 0, 0xfe, 0xff, 0, 0, 0, b'a'].to_vec(), Refuses),
            ("bytes that are no text behind the first document", [ETCD.as_bytes(), b"---\n\xff"].concat(), MayRun),
            ("a second document that is none", [ETCD.as_bytes(), b"---\na: [\n"].concat(), Takes),
            ("lines that end as DOS has them", with("\n", "\r\n"), Takes),
            ("JSON", json.clone().into_bytes(), Takes),
            ("JSON with tabs", json.replace(',', ",\t").into_bytes(), Takes),
            ("YAML in braces, which the kubelet takes for JSON", b"{apiVersion: v1, kind: Pod}".to_vec(), Refuses),
            ("JSON and something behind it", format!("{json}\n---\n").into_bytes(), Refuses),
            ("no containers", b"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n".to_vec(), MayRun),
            ("another kind", b"apiVersion: apps/v1\nkind: Deployment\n".to_vec(), MayRun),
            ("a list of pods", b"apiVersion: v1\nkind: List\nitems: []\n".to_vec(), MayRun),
            ("UTF-16 without a byte order mark", utf16(ETCD), Refuses),
            ("bytes that are no text", [b"# \xff\n", ETCD.as_bytes()].concat(), Refuses),
            ("what a power cut leaves", vec![0; 4096], Refuses),
            ("nothing", Vec::new(), Refuses),
            ("an open list", flow("x: ["), Refuses),
            ("an open quote", flow("x: 'y"), Refuses),
            ("an alias without an anchor", flow("x: *y"), Refuses),
            ("a tab before a key", with("  containers:", "\tcontainers:"), Refuses),
            ("two colons", flow("x: y: z"), Refuses),
            ("an indentation that was not there before", with("  namespace", "   namespace"), Refuses),
        ];
        let wrong = |(_, bytes, expected): &&(&str, Vec<u8>, Kubelet)| asked(bytes) != *expected;
        let wrong: Vec<_> = rows
            .iter()
            .filter(wrong)
            .map(|(situation, bytes, _)| (situation, Manifest::parse(bytes[..].into())))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        let twice = with("spec:\n", "spec: {}\nspec:\n");
        assert!(
            Manifest::parse(twice.into()).is_ok(),
            "of a key that is given twice the last counts, as for the kubelet"
        );
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let named = |text: &str| match parse(text) {
            Err(FileFault::Undecodable { error }) => error.split_once(": ").map(|(path, _)| path.to_owned()),
            other => panic!("{other:?}"),
        };
        let env = ETCD.replace("    command:", "    env: [{name: B}, {name: A, value: yes}]\n    command:");
        assert_eq!(named(&env).as_deref(), Some("spec.containers[0].env[1].value"));
        let command = ETCD.replace("--name, m1", "on");
        assert_eq!(named(&command).as_deref(), Some("spec.containers[0].command[2]"));
        let label = ETCD.replace("  namespace:", "  labels: {tier: 5}\n  namespace:");
        assert_eq!(named(&label).as_deref(), Some("metadata.labels.tier"));
    }

    #[test]
    fn the_same_servers_in_another_order_are_the_same_data() {
        let api = |servers: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: kube-apiserver}}\nspec: {{containers: [{{name: a, image: i, \
                 command: [kube-apiserver, '--etcd-servers={servers}']}}]}}"
            );
            parse(&text).unwrap().data_identity()
        };
        assert_eq!(api("https://a:2379,https://b:2379"), api("https://b:2379/, https://a:2379"));
        assert_ne!(api("https://a:2379"), api("https://b:2379"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _ = Manifest::parse(bytes.into());
        }

        #[test]
        fn a_torn_manifest_is_never_a_panic(at in 0usize..700) {
            let _ = parse(&ETCD[..at.min(ETCD.len())]);
        }
    }
}
