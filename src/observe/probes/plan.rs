//! Which probes a component gets, derived from its manifest: its own probes first, since the kubelet uses them, then
//! its flags, then the default port of its role.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe as PodProbe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::connect::Address;
use super::etcd::EtcdEndpoint;
use super::http::{Expect, Get, MAX_BODY};
use super::scrape::MAX_PAGE;
use super::security::{Identity, Security, Trust};
use super::url::Url;
use super::{member, store};
use crate::model::environment::Location;
use crate::model::reading::Question;
use crate::model::{ComponentId, Manifest, Role};
use crate::observe::environment::reachable;

/// One question and how it is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct ProbeSpec {
    pub(in crate::observe) question: Question,
    pub(in crate::observe) how: ProbeKind,
}

/// How a question is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) enum ProbeKind {
    /// By a GET.
    Http {
        get: Get,
        /// What the right answer looks like.
        expect: Expect,
        /// What is done where the answer says too little.
        more: Fallback,
    },
    /// By a serializable read.
    EtcdAlone(EtcdEndpoint),
    /// By a linearizable read.
    EtcdQuorum(EtcdEndpoint),
    /// By a serializable read, in each of the ways its dependents have.
    EtcdAsDependent(Vec<EtcdEndpoint>),
    Tcp(Address),
    /// Not at all: a sentence.
    NoMeans(String),
}

/// What is done where an answer says too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observe) enum Fallback {
    /// `?verbose` names the checks that failed; and whom a certificate does not let in may come without.
    Kubernetes,
    Nothing,
}

/// The manifests questions are read off.
#[derive(Clone, Debug, Default)]
pub(in crate::observe) struct Manifests<'a> {
    /// What exists, or what existed last, by component.
    pub(in crate::observe) standing: BTreeMap<ComponentId, &'a Manifest>,
    /// Known-good ones, next to what exists: a dependent's mistake must not look like its dependency's.
    pub(in crate::observe) proven: Vec<&'a Manifest>,
}

impl Manifests<'_> {
    fn api_servers(&self) -> impl Iterator<Item = &Manifest> {
        let all = self.standing.values().chain(&self.proven).copied();
        all.filter(|manifest| manifest.role == Role::ApiServer)
    }
}

/// Every component's questions. One that cannot be asked anything has that for an answer.
pub(in crate::observe) fn plan(manifests: &Manifests<'_>, kubernetes: &Path) -> BTreeMap<ComponentId, Vec<ProbeSpec>> {
    let asks = |manifest: &Manifest| {
        let mut asks = match manifest.role {
            Role::Etcd => etcd(manifest, manifests, kubernetes),
            Role::ApiServer => api_server(manifest),
            Role::ControllerManager => serving(manifest, 10257, &[]),
            Role::Scheduler => serving(manifest, 10259, &[]),
            Role::Other => other(manifest),
        };
        if asks.is_empty() {
            let why = format!("the manifest of {} names no probe that can be asked from outside its pod", manifest.id);
            asks.push(ProbeSpec { question: Question::Live, how: ProbeKind::NoMeans(why) });
        }
        asks
    };
    manifests.standing.iter().map(|(id, manifest)| (id.clone(), asks(manifest))).collect()
}

/// A path that a flag names, on the host.
pub(super) fn flag_path(manifest: &Manifest, flag: &str) -> Option<PathBuf> {
    let inside = PathBuf::from(manifest.flag(flag)?);
    Some(manifest.host_path(&inside).unwrap_or(inside))
}

pub(super) fn flag_identity(manifest: &Manifest, certificate: &str, key: &str) -> Option<Identity> {
    Some(Identity { certificate: flag_path(manifest, certificate)?, key: flag_path(manifest, key)? })
}

/// The certificate with which an API server comes to kubelets, and we to it and to the kubelet.
pub(in crate::observe) fn kubelet_client(manifest: &Manifest) -> Option<Identity> {
    flag_identity(manifest, "kubelet-client-certificate", "kubelet-client-key")
}

fn api_server(manifest: &Manifest) -> Vec<ProbeSpec> {
    let identities: Vec<Identity> = kubelet_client(manifest).into_iter().collect();
    serving_at(manifest, 6443, &identities, ["/livez", "/readyz"])
}

fn serving(manifest: &Manifest, port: u16, identities: &[Identity]) -> Vec<ProbeSpec> {
    serving_at(manifest, port, identities, ["/healthz", "/healthz"])
}

/// A component of Kubernetes' own: at the address and the paths its probes name, or its flags, or the usual ones.
fn serving_at(manifest: &Manifest, port: u16, identities: &[Identity], paths: [&str; 2]) -> Vec<ProbeSpec> {
    let container = manifest.main_container();
    let own = |probe: Option<&PodProbe>| probe.and_then(|probe| Http::of(probe, container?));
    let live = own(container.and_then(|c| c.liveness_probe.as_ref()))
        .or_else(|| own(container.and_then(|c| c.startup_probe.as_ref())));
    let ready = own(container.and_then(|c| c.readiness_probe.as_ref()));
    let bound = manifest.flag("bind-address").map_or("127.0.0.1".to_owned(), |bound| reachable(&bound));
    let flagged = manifest.flag("secure-port").and_then(|port| port.parse().ok()).unwrap_or(port);
    let ask = |question, own: Option<&Http>, path: &str| {
        let host = own.and_then(|own| own.host.clone()).map_or_else(|| bound.clone(), |host| reachable(&host));
        let https = own.is_none_or(|own| own.https);
        let security = if https {
            Security::Tls { identities: identities.to_vec(), trust: Trust::Anyone }
        } else {
            Security::Plain
        };
        let get = Get {
            address: Address { host, port: own.map_or(flagged, |own| own.port) },
            security,
            path: own.map_or(path, |own| &own.path).to_owned(),
            headers: own.map(|own| own.headers.clone()).unwrap_or_default(),
            max_body: MAX_BODY,
        };
        ProbeSpec { question, how: ProbeKind::Http { get, expect: Expect::Ok, more: Fallback::Kubernetes } }
    };
    let same_place = live.as_ref().map(|live| Http { path: paths[1].to_owned(), ..live.clone() });
    vec![
        ask(Question::Live, live.as_ref(), paths[0]),
        ask(Question::Ready, ready.as_ref().or(same_place.as_ref()), paths[1]),
    ]
}

/// What an httpGet probe says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Http {
    host: Option<String>,
    port: u16,
    path: String,
    https: bool,
    headers: Vec<(String, String)>,
}

impl Http {
    fn of(probe: &PodProbe, container: &Container) -> Option<Self> {
        let get = probe.http_get.as_ref()?;
        let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
        let path = get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        Some(Self {
            host: get.host.clone().filter(|host| !host.is_empty()),
            port: number(&get.port, container)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            https: get.scheme.as_deref() == Some("HTTPS"),
            headers: headers.collect(),
        })
    }

    fn get(&self) -> Get {
        let security =
            if self.https { Security::Tls { identities: Vec::new(), trust: Trust::Anyone } } else { Security::Plain };
        Get {
            address: Address { host: reachable(self.host.as_deref().unwrap_or_default()), port: self.port },
            security,
            path: self.path.clone(),
            headers: self.headers.clone(),
            max_body: MAX_BODY,
        }
    }
}

fn number(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            let number = named.and_then(|port| u16::try_from(port.container_port).ok());
            number.or_else(|| name.parse().ok())
        }
    }
}

/// Any other pod: what its containers' own probes ask, where they can be asked from the host.
fn other(manifest: &Manifest) -> Vec<ProbeSpec> {
    let Some(spec) = manifest.pod.spec.as_ref().filter(|spec| spec.host_network == Some(true)) else {
        return Vec::new();
    };
    let mut asks = Vec::new();
    for container in &spec.containers {
        let live = container.liveness_probe.as_ref().or(container.startup_probe.as_ref());
        asks.extend(live.and_then(|probe| from_outside(Question::Live, probe, container)));
        let ready = container.readiness_probe.as_ref();
        asks.extend(ready.and_then(|probe| from_outside(Question::Ready, probe, container)));
    }
    asks
}

fn from_outside(question: Question, probe: &PodProbe, container: &Container) -> Option<ProbeSpec> {
    if let Some(http) = Http::of(probe, container) {
        let how = ProbeKind::Http { get: http.get(), expect: Expect::Success, more: Fallback::Nothing };
        return Some(ProbeSpec { question, how });
    }
    let (host, port) = match (&probe.tcp_socket, &probe.grpc) {
        (Some(tcp), _) => (tcp.host.clone().unwrap_or_default(), number(&tcp.port, container)?),
        (None, Some(grpc)) => (String::new(), u16::try_from(grpc.port).ok()?),
        (None, None) => return None,
    };
    Some(ProbeSpec { question, how: ProbeKind::Tcp(Address { host: reachable(&host), port }) })
}

/// What every etcd of this node is asked about itself and its cluster.
pub(in crate::observe) fn members(
    manifests: &Manifests<'_>,
    kubernetes: &Path,
) -> BTreeMap<ComponentId, member::MemberQuestion> {
    let etcds = manifests.standing.iter().filter(|(_, manifest)| manifest.role == Role::Etcd);
    // What is deployed counts before what is known to be good.
    let flag = manifests.api_servers().next().map(|api| api.flag("etcd-prefix"));
    let prefix = store::prefix(flag.flatten().as_deref());
    let ask = |manifest: &Manifest| {
        let way = etcd_way(manifest, manifests, kubernetes)?;
        let metrics = metrics_of(manifest, &way);
        Some(member::MemberQuestion { way, metrics, peer: peer_security(manifest), prefix: prefix.clone() })
    };
    etcds.filter_map(|(id, manifest)| Some((id.clone(), ask(manifest)?))).collect()
}

/// Its metrics listener, or where it listens for clients: it has them there, too.
fn metrics_of(manifest: &Manifest, way: &EtcdEndpoint) -> Get {
    let urls = manifest.flag("listen-metrics-urls").unwrap_or_default();
    let listener = urls.split(',').filter_map(Url::parse).find(|url| !url.https);
    let (address, security) = match listener {
        Some(url) => (url.address, Security::Plain),
        None => (way.address.clone(), way.security.clone()),
    };
    Get { address, security, path: "/metrics".to_owned(), headers: Vec::new(), max_body: MAX_PAGE }
}

/// As what an etcd comes to its peers, and whom it takes there.
fn peer_security(manifest: &Manifest) -> Security {
    let Some(identity) = flag_identity(manifest, "peer-cert-file", "peer-key-file") else { return Security::Plain };
    let trust = flag_path(manifest, "peer-trusted-ca-file").map_or(Trust::Anyone, Trust::Authority);
    Security::Tls { identities: vec![identity], trust }
}

/// The way to an etcd of this node.
fn etcd_way(manifest: &Manifest, manifests: &Manifests<'_>, kubernetes: &Path) -> Option<EtcdEndpoint> {
    let urls = manifest.flag("listen-client-urls").unwrap_or_else(|| "http://127.0.0.1:2379".to_owned());
    let urls: Vec<Url> = urls.split(',').filter_map(Url::parse).collect();
    let url = urls.iter().find(|url| url.is_loopback()).or(urls.first())?;
    let security = if url.https {
        Security::Tls { identities: etcd_identities(manifest, manifests, kubernetes), trust: Trust::Anyone }
    } else {
        Security::Plain
    };
    Some(EtcdEndpoint { address: url.address.clone(), security })
}

fn etcd(manifest: &Manifest, manifests: &Manifests<'_>, kubernetes: &Path) -> Vec<ProbeSpec> {
    let mut asks = Vec::new();
    if let Some(way) = etcd_way(manifest, manifests, kubernetes) {
        asks.push(ProbeSpec { question: Question::Live, how: ProbeKind::EtcdAlone(way.clone()) });
        asks.push(ProbeSpec { question: Question::Quorum, how: ProbeKind::EtcdQuorum(way) });
    }
    asks.extend(etcd_ready(manifest).map(|get| ProbeSpec {
        question: Question::Ready,
        how: ProbeKind::Http { get, expect: Expect::EtcdHealth, more: Fallback::Nothing },
    }));
    let mut ways: Vec<EtcdEndpoint> = Vec::new();
    for way in manifests.api_servers().flat_map(dependent_ways) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    if !ways.is_empty() {
        asks.push(ProbeSpec { question: Question::AsDependent, how: ProbeKind::EtcdAsDependent(ways) });
    }
    asks
}

/// Its own readiness probe, or liveness probe, or what its metrics listener answers.
fn etcd_ready(manifest: &Manifest) -> Option<Get> {
    let container = manifest.main_container()?;
    let probes = [&container.readiness_probe, &container.liveness_probe, &container.startup_probe];
    if let Some(http) = probes.into_iter().flatten().find_map(|probe| Http::of(probe, container)) {
        return Some(http.get());
    }
    let urls = manifest.flag("listen-metrics-urls")?;
    let url = urls.split(',').filter_map(Url::parse).find(|url| !url.https)?;
    let path = "/health?serializable=true".to_owned();
    Some(Get { address: url.address, security: Security::Plain, path, headers: Vec::new(), max_body: MAX_BODY })
}

/// As whom etcd can be asked: as the API server, as its own health check, or as itself.
fn etcd_identities(manifest: &Manifest, manifests: &Manifests<'_>, kubernetes: &Path) -> Vec<Identity> {
    let mut identities: Vec<Identity> =
        manifests.api_servers().filter_map(|api| flag_identity(api, "etcd-certfile", "etcd-keyfile")).collect();
    let pki = kubernetes.join("pki/etcd");
    let check = |end: &str| pki.join(format!("healthcheck-client.{end}"));
    identities.push(Identity { certificate: check("crt"), key: check("key") });
    identities.extend(flag_identity(manifest, "cert-file", "key-file"));
    identities.dedup();
    identities
}

/// How an API server reaches the etcd of this node. Another machine's is not asked.
fn dependent_ways(api_server: &Manifest) -> Vec<EtcdEndpoint> {
    let servers = api_server.flag("etcd-servers").unwrap_or_default();
    let identities: Vec<Identity> = flag_identity(api_server, "etcd-certfile", "etcd-keyfile").into_iter().collect();
    let authority = flag_path(api_server, "etcd-cafile");
    let local = servers.split(',').filter_map(Url::parse).filter(Url::is_of_this_node);
    local
        .map(|url| {
            let trust = authority.clone().map_or(Trust::Anyone, Trust::Authority);
            let security =
                if url.https { Security::Tls { identities: identities.clone(), trust } } else { Security::Plain };
            EtcdEndpoint { address: url.address, security }
        })
        .collect()
}

/// A GET of a URL that a setting or the kubelet's configuration gives.
pub(in crate::observe) fn get_of_url(url: &str) -> Option<Get> {
    let parsed = Url::parse(url)?;
    let (_, rest) = url.trim().split_once("://")?;
    let path = rest.find('/').map_or("/", |at| &rest[at..]).to_owned();
    let security =
        if parsed.https { Security::Tls { identities: Vec::new(), trust: Trust::Anyone } } else { Security::Plain };
    Some(Get { address: parsed.address, security, path, headers: Vec::new(), max_body: MAX_BODY })
}

/// How an address that a kubeconfig names for the API server is asked, and where it is; absent where it is the API server
/// of this node, which listens on these ports, or no address at all.
pub(in crate::observe) fn endpoint(server: &str, own: &BTreeSet<u16>) -> Option<(ProbeSpec, Location)> {
    let url = Url::parse(server)?;
    let place = if url.is_of_this_node() { Location::Here } else { Location::Elsewhere };
    // A load balancer of this node listens on its own port.
    if place == Location::Here && (own.is_empty() || own.contains(&url.address.port)) {
        return None;
    }
    let mut get = get_of_url(server)?;
    get.path = format!("{}/livez", get.path.trim_end_matches('/'));
    let how = ProbeKind::Http { get, expect: Expect::Ok, more: Fallback::Kubernetes };
    Some((ProbeSpec { question: Question::Live, how }, place))
}

/// A liveness probe, as the kubelet puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct KubeletProbe {
    /// The field of the container that has it.
    pub(in crate::observe) field: &'static str,
    pub(in crate::observe) ask: ProbeSpec,
    /// The path of its GET; empty where it only connects.
    pub(in crate::observe) path: String,
    pub(in crate::observe) period: Duration,
    pub(in crate::observe) threshold: u32,
    pub(in crate::observe) timeout: Duration,
}

/// The liveness probe of a component of the control plane, or its startup probe where it has no other. What any other
/// pod is asked is the kubelet's own probe already.
pub(in crate::observe) fn as_the_kubelet(manifest: &Manifest) -> Option<KubeletProbe> {
    let on_host = manifest.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    if manifest.role == Role::Other || !on_host {
        return None;
    }
    let container = manifest.main_container()?;
    let (field, probe) = match (&container.liveness_probe, &container.startup_probe) {
        (Some(live), _) => ("livenessProbe", live),
        (None, Some(start)) => ("startupProbe", start),
        (None, None) => return None,
    };
    // The kubelet's defaults, where the manifest is silent.
    let number = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
    };
    let seconds = |value, default| Duration::from_secs(number(value, default).into());
    Some(KubeletProbe {
        field,
        ask: from_outside(Question::Live, probe, container)?,
        path: Http::of(probe, container).map(|http| http.path).unwrap_or_default(),
        period: seconds(probe.period_seconds, 10),
        threshold: number(probe.failure_threshold, 3),
        timeout: seconds(probe.timeout_seconds, 1),
    })
}

/// Whether the place that is asked takes connections at all.
pub(in crate::observe) fn connection(ask: &ProbeSpec) -> Option<ProbeSpec> {
    let ProbeKind::Http { get, .. } = &ask.how else { return None };
    Some(ProbeSpec { question: Question::Live, how: ProbeKind::Tcp(get.address.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::fixture;

    fn manifest(name: &str) -> Manifest {
        Manifest::parse(fixture(&format!("manifests/{name}.yaml")).into()).unwrap()
    }

    fn edited(name: &str, edits: &[(&str, &str)]) -> Manifest {
        let mut text = String::from_utf8(fixture(&format!("manifests/{name}.yaml"))).unwrap();
        for (from, to) in edits {
            assert!(text.contains(from), "{name} says nothing of {from}");
            text = text.replace(from, to);
        }
        Manifest::parse(text.into_bytes().into()).unwrap()
    }

    fn told(manifests: &[&Manifest], proven: &[&Manifest], of: &str) -> Vec<String> {
        let standing = manifests.iter().map(|manifest| (manifest.id.clone(), *manifest)).collect();
        let all = Manifests { standing, proven: proven.to_vec() };
        let plan = plan(&all, Path::new("/etc/kubernetes"));
        plan[&ComponentId::system(of)].iter().map(|ask| format!("{:?} {}", ask.question, ask.how)).collect()
    }

    #[test]
    fn a_kubeadm_node_is_asked_where_its_own_probes_ask() {
        let all = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"].map(manifest);
        let all: Vec<&Manifest> = all.iter().collect();
        assert_eq!(
            told(&all, &[], "kube-apiserver"),
            ["Live https://127.0.0.1:6443/livez", "Ready https://127.0.0.1:6443/readyz"]
        );
        assert_eq!(
            told(&all, &[], "etcd"),
            [
                "Live https://127.0.0.1:2379",
                "Quorum https://127.0.0.1:2379",
                "Ready http://127.0.0.1:2381/readyz",
                "AsDependent https://127.0.0.1:2379"
            ]
        );
        assert_eq!(
            told(&all, &[], "kube-scheduler"),
            ["Live https://127.0.0.1:10259/livez", "Ready https://127.0.0.1:10259/readyz"]
        );
        assert_eq!(told(&all, &[], "kube-controller-manager")[0].split("//").nth(1), Some("127.0.0.1:10257/healthz"));
        assert_eq!(kubelet_client(all[1]).unwrap().key, Path::new("/etc/kubernetes/pki/apiserver-kubelet-client.key"));
    }

    #[test]
    fn the_store_is_asked_for_under_the_prefix_of_its_api_server() {
        let (etcd, api) = (manifest("etcd"), manifest("kube-apiserver"));
        let elsewhere =
            edited("kube-apiserver", &[("--etcd-servers", "--etcd-prefix=elsewhere/\n    - --etcd-servers")]);
        let prefix = |standing: &[&Manifest], proven: &[&Manifest]| {
            let standing = standing.iter().map(|manifest| (manifest.id.clone(), *manifest)).collect();
            let all = Manifests { standing, proven: proven.to_vec() };
            members(&all, Path::new("/etc/kubernetes"))[&etcd.id].prefix.clone()
        };
        assert_eq!(prefix(&[&etcd], &[]), "/registry");
        assert_eq!(prefix(&[&etcd, &api], &[]), "/registry");
        assert_eq!(prefix(&[&etcd], &[&elsewhere]), "/elsewhere", "a known-good one");
        assert_eq!(prefix(&[&etcd, &elsewhere], &[&api]), "/elsewhere", "the deployed one");
        assert_eq!(prefix(&[&etcd, &api], &[&elsewhere]), "/registry", "which names none");
    }

    #[test]
    fn as_a_dependent_means_with_its_credentials_and_verified() {
        let (etcd, api) = (manifest("etcd"), manifest("kube-apiserver"));
        let manifests =
            Manifests { standing: [(etcd.id.clone(), &etcd), (api.id.clone(), &api)].into(), proven: vec![&api] };
        let plan = plan(&manifests, Path::new("/etc/kubernetes"));
        let asks = &plan[&etcd.id];
        match &asks.iter().find(|ask| ask.question == Question::AsDependent).unwrap().how {
            ProbeKind::EtcdAsDependent(ways) => {
                assert_eq!(ways.len(), 1, "what stands and what is proven say the same");
                assert_eq!(
                    ways[0].security,
                    Security::Tls {
                        identities: vec![Identity {
                            certificate: "/etc/kubernetes/pki/apiserver-etcd-client.crt".into(),
                            key: "/etc/kubernetes/pki/apiserver-etcd-client.key".into()
                        }],
                        trust: Trust::Authority("/etc/kubernetes/pki/etcd/ca.crt".into())
                    }
                );
            }
            other => panic!("{other:?}"),
        }
        match &asks[0].how {
            ProbeKind::EtcdAlone(EtcdEndpoint {
                security: Security::Tls { identities, trust: Trust::Anyone }, ..
            }) => {
                assert_eq!(identities.len(), 3, "the API server's, the health check's, its own");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dependents_mistake_is_asked_beside_what_is_proven() {
        let (etcd, proven) = (manifest("etcd"), manifest("kube-apiserver"));
        let wrong =
            edited("kube-apiserver", &[("etcd-servers=https://127.0.0.1:2379", "etcd-servers=https://127.0.0.1:9999")]);
        let standing = Manifests {
            standing: [(etcd.id.clone(), &etcd), (wrong.id.clone(), &wrong)].into(),
            proven: vec![&proven],
        };
        let plan = plan(&standing, Path::new("/etc/kubernetes"));
        let ways = plan[&etcd.id].iter().find_map(|ask| match &ask.how {
            ProbeKind::EtcdAsDependent(ways) => Some(ways.len()),
            _ => None,
        });
        assert_eq!(ways, Some(2));
        let elsewhere = edited(
            "kube-apiserver",
            &[("etcd-servers=https://127.0.0.1:2379", "etcd-servers=https://192.0.2.77:2379")],
        );
        assert!(
            !told(&[&etcd, &elsewhere], &[], "etcd").iter().any(|ask| ask.starts_with("AsDependent")),
            "another machine's"
        );
    }

    #[test]
    fn without_probes_the_flags_say_where() {
        let bare = edited(
            "kube-scheduler",
            &[
                ("livenessProbe:", "x-live:"),
                ("readinessProbe:", "x-ready:"),
                ("startupProbe:", "x-start:"),
                ("--bind-address=127.0.0.1", "--bind-address=0.0.0.0\n    - --secure-port=11259"),
            ],
        );
        assert_eq!(
            told(&[&bare], &[], "kube-scheduler"),
            ["Live https://127.0.0.1:11259/healthz", "Ready https://127.0.0.1:11259/healthz"]
        );
        let etcd = edited(
            "etcd",
            &[
                ("livenessProbe:", "x-live:"),
                ("readinessProbe:", "x-ready:"),
                ("startupProbe:", "x-start:"),
                (
                    "--listen-client-urls=https://127.0.0.1:2379",
                    "--listen-client-urls=https://192.0.2.2:2379,https://[::1]:2379",
                ),
            ],
        );
        assert_eq!(
            told(&[&etcd], &[], "etcd"),
            [
                "Live https://[::1]:2379",
                "Quorum https://[::1]:2379",
                "Ready http://127.0.0.1:2381/health?serializable=true"
            ]
        );
    }

    #[test]
    fn any_other_pod_is_asked_what_it_declares_if_it_can_be_reached() {
        let pod = |network: &str, probe: &str| {
            let text = format!(
                "--- {{apiVersion: v1, kind: Pod, metadata: {{name: vip, namespace: kube-system}}, spec: {{{network} containers: [\
                 {{name: a, image: i, ports: [{{name: web, containerPort: 8080}}], {probe}}}]}}}}"
            );
            Manifest::parse(text.into_bytes().into()).unwrap()
        };
        let host = "hostNetwork: true,";
        let told = |manifest: Manifest| told(&[&manifest], &[], "vip");
        assert_eq!(
            told(pod(host, "livenessProbe: {httpGet: {port: web, path: healthy}}")),
            ["Live http://127.0.0.1:8080/healthy"]
        );
        assert_eq!(told(pod(host, "readinessProbe: {tcpSocket: {port: 6443}}")), ["Ready tcp://127.0.0.1:6443"]);
        assert_eq!(told(pod(host, "startupProbe: {grpc: {port: 9000}}")), ["Live tcp://127.0.0.1:9000"]);
        for unasked in [
            pod(host, ""),
            pod("", "livenessProbe: {tcpSocket: {port: 1}}"),
            pod(host, "livenessProbe: {exec: {command: [a]}}"),
        ] {
            assert_eq!(told(unasked), ["Live nothing to ask"]);
        }
    }

    #[test]
    fn urls_of_flags_are_read() {
        let url = |text: &str| Url::parse(text).map(|url| (url.https, url.address.to_string()));
        assert_eq!(url(" https://127.0.0.1:2379/ "), Some((true, "127.0.0.1:2379".into())));
        assert_eq!(url("http://[::1]"), Some((false, "[::1]:80".into())));
        assert_eq!(url("http://0.0.0.0:2381"), Some((false, "127.0.0.1:2381".into())));
        assert_eq!(url("unix:///run/x"), None);
        assert_eq!(url("2379"), None);
        let get = get_of_url("http://localhost:10248/healthz").unwrap();
        assert_eq!(get.to_string(), "http://127.0.0.1:10248/healthz");
    }
}
