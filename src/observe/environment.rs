//! The paths and addresses of this node: from the running kubelet, then its files, then kubeadm's defaults. A setting
//! overrides all of these.
//!
//! ```text
//!   settings ▶ flags of the running kubelet ▶ its --config and --config-dir ▶ kubeadm-flags.env ▶ well-known places
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{credentials, file};
use crate::config::settings::{KUBELET_CONFIG, Settings};
use crate::model::observation::NextManifests;
use crate::model::sandbox_setup::CgroupDriver;
use crate::sys::proc::{self, Process};

/// Where kubeadm has the static pods.
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Where RKE2 has them.
const RKE2_MANIFESTS: &str = "/var/lib/rancher/rke2/agent/pod-manifests";
/// k3s runs its control plane within one process.
const K3S_SERVER: &str = "/var/lib/rancher/k3s/server";
/// The sockets runtimes use when nobody says otherwise, the most common first.
const SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/run/cri-dockerd.sock",
];
/// The kubelet's own health port.
const HEALTHZ: &str = "http://127.0.0.1:10248/healthz";
/// The kubelet's own port.
const KUBELET_PORT: u16 = 10250;
/// A kubelet configuration is a few kilobytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "source", content = "what")]
pub enum Source {
    /// The settings of this program.
    Settings,
    /// A flag of the running kubelet, or of the one that ran last.
    KubeletFlag(String),
    /// A file of the kubelet's.
    File(PathBuf),
    /// The machine's host name, as the kubelet takes it.
    HostName,
    /// Where it usually is; nothing said so.
    WellKnown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("settings"),
            Self::KubeletFlag(flag) => write!(f, "the kubelet's --{flag}"),
            Self::File(path) => path.display().fmt(f),
            Self::HostName => f.write_str("the host name"),
            Self::WellKnown => f.write_str("the usual place"),
        }
    }
}

/// A value, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found<T> {
    pub value: T,
    pub from: Source,
}

/// What kind of Kubernetes this is, as far as it changes what may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// kubeadm, or made by hand in the same way.
    Kubeadm,
    /// RKE2 writes its manifests itself, at every start.
    Rke2,
    /// k3s has no static pods.
    K3s,
}

/// What was found on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// The directory of the static pods.
    pub manifests: Found<PathBuf>,
    /// The runtime's socket; absent when none was found yet.
    pub runtime: Option<Found<String>>,
    /// The node's name, which the kubelet appends to the names of its static pods.
    pub node_name: Found<String>,
    /// The kubelet's configuration file.
    pub kubelet_config: Found<PathBuf>,
    /// The kubelet's health URL; absent where it is switched off.
    pub kubelet_healthz: Option<Found<String>>,
    /// The kubelet's own address, which serves /pods.
    pub kubelet_address: String,
    /// What kind of Kubernetes this is.
    pub distribution: Distribution,
    /// The kubelet's files whose change a restart would bring in: its configuration, drop-ins and environment.
    pub kubelet_files: Vec<PathBuf>,
    /// How the kubelet names cgroups; `systemd` where kubeadm writes its configuration.
    pub kubelet_cgroups: Option<Found<CgroupDriver>>,
    /// The file that the kubelet makes each sandbox's resolv.conf from; absent where it takes none.
    pub resolv_conf: Option<Found<PathBuf>>,
    /// The static pod directory from the kubelet's next start on, where that is another one.
    pub next_manifests: Option<NextManifests>,
    /// Whether changes of the manifest directory wake the agent; a sentence when they do not, and only the timer does.
    pub watching: Result<(), String>,
}

/// A file written within this time before the start was written for it.
const SLACK: Duration = Duration::from_secs(1);

/// The words of the kubelet that ran last, kept while none runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    words: Vec<String>,
    environment: Option<(PathBuf, Vec<String>)>,
    /// When the kubelet that runs started, by the wall clock.
    started: Option<Timestamp>,
    /// The static pod directory that it was started with, and what named it.
    manifests: Option<Found<PathBuf>>,
}

impl Flags {
    /// Takes over the flags of a kubelet that runs, and when it started.
    pub(super) fn take(&mut self, kubelet: Option<&Process>, started: Option<Timestamp>) {
        if let Some(kubelet) = kubelet {
            self.words.clone_from(&kubelet.args);
        }
        self.started = started;
    }

    /// Whether a file changed after the kubelet that runs had started, so that it has not read it.
    fn is_unread(&self, path: &Path) -> bool {
        let changed = || file::stat(path).ok().map(|stamp| stamp.changed());
        self.started
            .zip(changed())
            .is_some_and(|(started, changed)| changed > started.checked_add(SLACK).unwrap_or(started))
    }

    fn get(&self, name: &str) -> Option<Found<String>> {
        let flag = proc::flag(&self.words, name).map(|value| (value, Source::KubeletFlag(name.to_owned())));
        let kept = || {
            let (path, words) = self.environment.as_ref()?;
            Some((proc::flag(words, name)?, Source::File(path.clone())))
        };
        let (value, from) = flag.or_else(kept).filter(|(value, _)| !value.is_empty())?;
        Some(Found { value, from })
    }
}

/// The kubelet's configuration: its file and its drop-ins, the later winning.
#[derive(Debug, Default)]
struct KubeletConfig {
    layers: Vec<(PathBuf, Value)>,
}

impl KubeletConfig {
    fn read(config: &Path, drop_ins: Option<&Path>) -> Self {
        let mut paths = vec![config.to_owned()];
        if let Some(Ok(entries)) = drop_ins.map(fs::read_dir) {
            let mut more: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            more.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
            more.sort();
            paths.extend(more);
        }
        let parsed = paths.into_iter().filter_map(|path| {
            let (bytes, _) = file::read(&path, MAX_CONFIG).ok()?;
            Some((path, serde_yaml::from_slice(&bytes).ok()?))
        });
        Self { layers: parsed.collect() }
    }

    fn get(&self, key: &str) -> Option<(&Value, Source)> {
        let (path, value) = self.layers.iter().rev().find_map(|(path, layer)| Some((path, layer.get(key)?)))?;
        Some((value, Source::File(path.clone())))
    }

    fn text(&self, key: &str) -> Option<Found<String>> {
        let (value, from) = self.get(key)?;
        let value = value.as_str().filter(|text| !text.is_empty())?.to_owned();
        Some(Found { value, from })
    }

    fn port(&self, key: &str) -> Option<Found<u16>> {
        let (value, from) = self.get(key)?;
        Some(Found { value: u16::try_from(value.as_u64()?).ok()?, from })
    }
}

/// Looks around. Nothing that is missing is an error: the next look may find it.
pub(super) fn find(settings: &Settings, flags: &mut Flags) -> Environment {
    let environment = settings.kubelet.config.with_file_name("kubeadm-flags.env");
    flags.environment = file::read(&environment, MAX_CONFIG)
        .ok()
        .map(|(bytes, _)| (environment.clone(), words_of_environment(&String::from_utf8_lossy(&bytes))));
    let kubelet_config = kubelet_config(settings, flags);
    let drop_ins = flags.get("config-dir").map(|dir| PathBuf::from(dir.value));
    let config = KubeletConfig::read(&kubelet_config.value, drop_ins.as_deref());
    let mut kubelet_files: Vec<PathBuf> = config.layers.iter().map(|(path, _)| path.clone()).collect();
    kubelet_files.extend(flags.environment.as_ref().map(|(path, _)| path.clone()));
    let (manifests, next_manifests) = manifests(settings, flags, &config);
    let distribution = if manifests.value.starts_with("/var/lib/rancher/rke2") {
        Distribution::Rke2
    } else if manifests.from == Source::WellKnown && !manifests.value.exists() && Path::new(K3S_SERVER).is_dir() {
        Distribution::K3s
    } else {
        Distribution::Kubeadm
    };
    Environment {
        runtime: runtime(settings, flags, &config),
        node_name: node_name(settings, flags),
        kubelet_healthz: healthz(settings, flags, &config),
        kubelet_address: kubelet_address(flags, &config),
        manifests,
        kubelet_config,
        distribution,
        kubelet_files,
        kubelet_cgroups: cgroups(flags, &config),
        resolv_conf: resolv_conf(flags, &config),
        next_manifests,
        watching: Ok(()),
    }
}

/// Only what is written somewhere: the default has changed from release to release.
fn cgroups(flags: &Flags, config: &KubeletConfig) -> Option<Found<CgroupDriver>> {
    let said = flags.get("cgroup-driver").or_else(|| config.text("cgroupDriver"))?;
    let value = match said.value.as_str() {
        "systemd" => CgroupDriver::Systemd,
        "cgroupfs" => CgroupDriver::Cgroupfs,
        _ => return None,
    };
    Some(Found { value, from: said.from })
}

fn resolv_conf(flags: &Flags, config: &KubeletConfig) -> Option<Found<PathBuf>> {
    let said = flags.get("resolv-conf").or_else(|| config.text("resolvConf"))?;
    said.value.starts_with('/').then(|| Found { value: said.value.into(), from: said.from })
}

/// A path other than the default was meant; the default gives way to what the running kubelet says.
fn kubelet_config(settings: &Settings, flags: &Flags) -> Found<PathBuf> {
    let set = settings.kubelet.config.clone();
    if set != Path::new(KUBELET_CONFIG) {
        return Found { value: set, from: Source::Settings };
    }
    match flags.get("config").filter(|flag| flag.value.starts_with('/')) {
        Some(flag) => Found { value: flag.value.into(), from: flag.from },
        None => Found { value: set, from: Source::WellKnown },
    }
}

/// The directory that the running kubelet reads, and the one that it will read after its next start, where that is another one.
fn manifests(
    settings: &Settings,
    flags: &mut Flags,
    config: &KubeletConfig,
) -> (Found<PathBuf>, Option<NextManifests>) {
    let said = configured_manifests(settings, flags, config);
    let unread = match &said.from {
        Source::File(path) if flags.is_unread(path) => Some(path.clone()),
        _ => None,
    };
    let Some(named_by) = unread else {
        flags.manifests = Some(said.clone());
        return (said, None);
    };
    // Before this run of the agent, nobody saw what the kubelet was started with: where manifests are tells.
    let before =
        flags.manifests.clone().unwrap_or_else(|| match is_empty(&said.value) && !is_empty(Path::new(MANIFESTS)) {
            true => Found { value: MANIFESTS.into(), from: Source::WellKnown },
            false => said.clone(),
        });
    let next = (before.value != said.value).then_some(NextManifests { dir: said.value, named_by });
    (before, next)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

fn configured_manifests(settings: &Settings, flags: &Flags, config: &KubeletConfig) -> Found<PathBuf> {
    if let Some(value) = settings.paths.manifests.clone() {
        return Found { value, from: Source::Settings };
    }
    let said = flags.get("pod-manifest-path").or_else(|| config.text("staticPodPath"));
    if let Some(said) = said.filter(|said| said.value.starts_with('/')) {
        return Found { value: said.value.into(), from: said.from };
    }
    let rke2 = Path::new(RKE2_MANIFESTS);
    let value = if rke2.is_dir() && !Path::new(MANIFESTS).is_dir() { rke2 } else { Path::new(MANIFESTS) };
    Found { value: value.to_owned(), from: Source::WellKnown }
}

fn runtime(settings: &Settings, flags: &Flags, config: &KubeletConfig) -> Option<Found<String>> {
    let set = settings.runtime.endpoint.clone().map(|value| Found { value, from: Source::Settings });
    let said = || flags.get("container-runtime-endpoint").or_else(|| config.text("containerRuntimeEndpoint"));
    let known = || {
        let socket = SOCKETS.iter().find(|socket| Path::new(socket).exists())?;
        Some(Found { value: format!("unix://{socket}"), from: Source::WellKnown })
    };
    set.or_else(said).or_else(known)
}

/// As the kubelet does it (`pkg/util/node`): the host name, trimmed and in lower case, unless overridden. Before any
/// kubelet was seen to run, its certificate says under which name it joined: a flag in its unit is not known then, and
/// memory is bound to the name.
fn node_name(settings: &Settings, flags: &Flags) -> Found<String> {
    if let Some(value) = settings.node_name.clone() {
        return Found { value, from: Source::Settings };
    }
    let joined = || if flags.words.is_empty() { joined_as(&settings.kubelet.config) } else { None };
    let found = flags.get("hostname-override").or_else(joined).unwrap_or_else(|| {
        let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        Found { value: name.unwrap_or_default(), from: Source::HostName }
    });
    Found { value: found.value.trim().to_ascii_lowercase(), from: found.from }
}

/// The addresses that a flag of the kubelet gives this node, and the file or program that says so.
pub(super) fn node_ip(flags: &Flags) -> Option<(String, PathBuf)> {
    let found = flags.get("node-ip")?;
    let from = match found.from {
        Source::File(path) => path,
        _ => PathBuf::from("kubelet"),
    };
    Some((found.value, from))
}

/// The name in the kubelet's client certificate, `system:node:NAME`, which is next to its configuration.
fn joined_as(config: &Path) -> Option<Found<String>> {
    let path = config.with_file_name("pki").join("kubelet-client-current.pem");
    let (pem, _) = file::read(&path, MAX_CONFIG).ok()?;
    let name = credentials::common_name(credentials::certificates(&pem).ok()?.first()?)?;
    let value = name.strip_prefix("system:node:")?.to_owned();
    Some(Found { value, from: Source::File(path) })
}

fn healthz(settings: &Settings, flags: &Flags, config: &KubeletConfig) -> Option<Found<String>> {
    if let Some(value) = settings.kubelet.healthz.clone() {
        return Some(Found { value, from: Source::Settings });
    }
    let flag = |name: &str| flags.get(name).and_then(|f| Some(Found { value: f.value.parse().ok()?, from: f.from }));
    let port = flag("healthz-port").or_else(|| config.port("healthzPort"));
    let address = flags.get("healthz-bind-address").or_else(|| config.text("healthzBindAddress"));
    if port.as_ref().is_some_and(|port| port.value == 0) {
        return None;
    }
    if port.is_none() && address.is_none() {
        return Some(Found { value: HEALTHZ.to_owned(), from: Source::WellKnown });
    }
    let from = port.as_ref().map(|port| port.from.clone()).or(address.as_ref().map(|address| address.from.clone()));
    let port = port.map_or(10248, |port| port.value);
    let host = reachable(address.as_ref().map_or("127.0.0.1", |address| &address.value));
    Some(Found { value: format!("http://{host}:{port}/healthz"), from: from.unwrap_or(Source::WellKnown) })
}

fn kubelet_address(flags: &Flags, config: &KubeletConfig) -> String {
    let port = flags.get("port").and_then(|port| port.value.parse().ok());
    let port = port.or_else(|| config.port("port").map(|port| port.value)).unwrap_or(KUBELET_PORT);
    let address = flags.get("address").or_else(|| config.text("address"));
    format!("{}:{port}", reachable(address.as_ref().map_or("127.0.0.1", |address| &address.value)))
}

/// The address under which what is bound to `bound` is reached from this node, as it is in a URL.
pub(super) fn reachable(bound: &str) -> String {
    match bound.trim_matches(['[', ']']) {
        "" | "0.0.0.0" | "localhost" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        other => other.to_owned(),
    }
}

/// `KUBELET_KUBEADM_ARGS="--a=b --c=d"`.
fn words_of_environment(text: &str) -> Vec<String> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("KUBELET_KUBEADM_ARGS="));
    values
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .map(|word| word.trim_matches(['"', '\'']).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::Pki;

    struct Lab {
        root: tempfile::TempDir,
        settings: Settings,
        flags: Flags,
    }

    impl Lab {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let mut settings = Settings::default();
            settings.kubelet.config = root.path().join("config.yaml");
            Self { root, settings, flags: Flags::default() }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.root.path().join(name), text).unwrap();
        }

        fn find(&mut self) -> Environment {
            find(&self.settings, &mut self.flags)
        }
    }

    #[test]
    fn each_source_gives_way_to_the_one_before_it() {
        let mut lab = Lab::new();
        let bare = lab.find();
        assert_eq!(bare.manifests, Found { value: MANIFESTS.into(), from: Source::WellKnown });
        assert_eq!(bare.kubelet_healthz.unwrap().value, HEALTHZ);
        assert_eq!(bare.node_name.from, Source::HostName);
        assert_eq!(bare.kubelet_address, "127.0.0.1:10250");

        lab.write(
            "kubeadm-flags.env",
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///env.sock --hostname-override=M1\"\n",
        );
        lab.write("config.yaml", "kind: KubeletConfiguration\nstaticPodPath: /from/config\nhealthzPort: 0\nport: 11250\ncontainerRuntimeEndpoint: \"\"\n");
        let found = lab.find();
        assert_eq!(found.manifests.value, Path::new("/from/config"));
        assert_eq!(found.kubelet_healthz, None, "switched off");
        assert_eq!(found.runtime.unwrap().value, "unix:///env.sock");
        assert_eq!(found.node_name.value, "m1");
        assert_eq!(found.kubelet_address, "127.0.0.1:11250");
        assert_eq!(found.kubelet_files.len(), 2);

        fs::create_dir(lab.root.path().join("d")).unwrap();
        lab.write("d/10.conf", "healthzPort: 1\nhealthzBindAddress: 0.0.0.0\n");
        lab.write("d/20.conf", "healthzPort: 2\n");
        lab.write("d/30.yaml", "healthzPort: 3\n");
        let args = ["kubelet", "--container-runtime-endpoint", "unix:///flag.sock", "--config-dir"].map(String::from);
        let args = args.into_iter().chain([lab.root.path().join("d").display().to_string()]).collect();
        lab.flags.take(Some(&Process { pid: 1, uid: 0, args }), None);
        lab.flags.take(None, None);
        let found = lab.find();
        assert_eq!(found.kubelet_healthz.unwrap().value, "http://127.0.0.1:2/healthz", "the last drop-in");
        let runtime = found.runtime.unwrap();
        assert_eq!(runtime.value, "unix:///flag.sock", "remembered while no kubelet runs");
        assert_eq!(runtime.from, Source::KubeletFlag("container-runtime-endpoint".into()));

        lab.settings.paths.manifests = Some("/set".into());
        lab.settings.node_name = Some("named".into());
        lab.settings.runtime.endpoint = Some("unix:///set.sock".into());
        let found = lab.find();
        assert_eq!(found.manifests, Found { value: "/set".into(), from: Source::Settings });
        assert_eq!(found.node_name.value, "named");
        assert_eq!(found.runtime.unwrap().value, "unix:///set.sock");
    }

    #[test]
    fn before_a_kubelet_was_seen_its_certificate_tells_the_name() {
        let mut lab = Lab::new();
        let pki = lab.root.path().join("pki");
        fs::create_dir(&pki).unwrap();
        let made = Pki::new(&pki);
        made.authority("system:node:m7");
        fs::rename(made.path("system:node:m7.crt"), made.path("kubelet-client-current.pem")).unwrap();
        assert_eq!(lab.find().node_name.value, "m7");
        lab.flags.take(Some(&Process { pid: 1, uid: 0, args: vec!["kubelet".into()] }), None);
        assert_eq!(lab.find().node_name.from, Source::HostName, "a kubelet that runs goes by the host name");
    }

    /// B02's kind: an edited static pod path counts from the kubelet's next start on.
    #[test]
    fn a_running_kubelet_reads_the_directory_that_it_was_started_with() {
        let mut lab = Lab::new();
        let kubelet = Process { pid: 1, uid: 0, args: vec!["kubelet".into()] };
        let config = lab.root.path().join("config.yaml");
        lab.write("config.yaml", "staticPodPath: /first\n");
        let changed = file::stat(&config).unwrap().changed();
        lab.flags.take(Some(&kubelet), Some(changed + Duration::from_secs(5)));
        assert_eq!(lab.find().next_manifests, None);
        // The file is the same, and the kubelet an older one: as if it had changed since.
        lab.write("config.yaml", "staticPodPath: /second\n");
        lab.flags.take(Some(&kubelet), Some(changed - Duration::from_secs(60)));
        let found = lab.find();
        assert_eq!(found.manifests.value, Path::new("/first"));
        assert_eq!(found.next_manifests, Some(NextManifests { dir: "/second".into(), named_by: config }));
        // It starts again.
        lab.flags.take(Some(&kubelet), Some(changed + Duration::from_secs(60)));
        let found = lab.find();
        assert_eq!((found.manifests.value.as_path(), found.next_manifests), (Path::new("/second"), None));
    }

    #[test]
    fn a_broken_configuration_is_no_reason_to_stop_looking() {
        let mut lab = Lab::new();
        lab.write("config.yaml", "staticPodPath: [");
        assert_eq!(lab.find().manifests.from, Source::WellKnown);
        lab.write("config.yaml", "staticPodPath: relative\nhealthzPort: 99999\n");
        assert_eq!(lab.find().manifests.from, Source::WellKnown);
    }

    #[test]
    fn what_is_bound_to_everything_is_reached_on_loopback() {
        for (bound, reached) in [
            ("", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("[fd00::1]", "[fd00::1]"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(reachable(bound), reached);
        }
    }
}
