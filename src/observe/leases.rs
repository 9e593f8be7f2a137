//! The leases that show progress of controller manager, scheduler and kubelet. They are read from this node's own API
//! server, with the credentials of the holder. Such a read of one object needs etcd's quorum, so it tests the API
//! server too: one that answers its health checks from memory cannot answer it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::probes::http::{self, Get, MAX_BODY};
use super::probes::plan::{ProbeKind, ProbeSpec};
use super::probes::security::{Identity, Security, Trust};
use super::tempo::{Purpose, Tempo};
use crate::config::settings;
use crate::model::component::HostService;
use crate::model::reading::{Question, SymptomKind};
use crate::model::{ComponentId, Lease, LeaseLook, Manifest, Reading, Role, Symptom};
use crate::sys::clock;

/// The namespace of the nodes' leases.
const NODE_LEASES: &str = "kube-node-lease";

/// The component the node's own lease is filed under.
pub(super) fn kubelet() -> ComponentId {
    ComponentId::from(HostService::Kubelet)
}

/// Which leases are to be read, and how: through the API server of this node, where there is one.
pub(super) fn plan<'a>(
    manifests: impl Iterator<Item = &'a Manifest>,
    asks: &BTreeMap<ComponentId, Vec<ProbeSpec>>,
    node: &str,
    kubelet_kubeconfig: &Path,
) -> BTreeMap<ComponentId, Get> {
    let mut api = None;
    let mut leases = BTreeMap::new();
    for manifest in manifests {
        match manifest.role {
            Role::ApiServer => api = asks.get(&manifest.id).and_then(|asks| asks.iter().find_map(live)),
            Role::ControllerManager => drop(lease_of(manifest, "kube-controller-manager", &mut leases)),
            Role::Scheduler => drop(lease_of(manifest, "kube-scheduler", &mut leases)),
            Role::Etcd | Role::Other => {}
        }
    }
    let Some(api) = api else { return BTreeMap::new() };
    let of_node = (NODE_LEASES.to_owned(), node.to_owned(), Identity::of_kubeconfig(kubelet_kubeconfig.to_owned()));
    leases.insert(kubelet(), of_node);
    let get = |(namespace, name, identity): (String, String, Identity)| Get {
        address: api.address.clone(),
        security: Security::Tls { identities: vec![identity], trust: Trust::Anyone },
        path: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"),
        headers: Vec::new(),
        max_body: MAX_BODY,
    };
    leases.into_iter().map(|(id, lease)| (id, get(lease))).collect()
}

fn live(ask: &ProbeSpec) -> Option<&Get> {
    match &ask.how {
        ProbeKind::Http { get, .. } if ask.question == Question::Live => Some(get),
        _ => None,
    }
}

type Wanted = BTreeMap<ComponentId, (String, String, Identity)>;

/// Under which name its flags have it keep its lease, and as whom it comes.
fn lease_of(manifest: &Manifest, name: &str, leases: &mut Wanted) -> Option<()> {
    let flag = |flag: &str| manifest.flag(flag).filter(|value| !value.is_empty());
    if flag("leader-elect").as_deref() == Some("false") {
        return None;
    }
    let inside = PathBuf::from(flag("kubeconfig")?);
    let identity = Identity::of_kubeconfig(manifest.host_path(&inside).unwrap_or(inside));
    let namespace = flag("leader-elect-resource-namespace").unwrap_or_else(|| "kube-system".to_owned());
    let name = flag("leader-elect-resource-name").unwrap_or_else(|| name.to_owned());
    leases.insert(manifest.id.clone(), (namespace, name, identity));
    Some(())
}

/// The tasks that ask, and what they were told last.
#[derive(Debug)]
pub(super) struct Leases {
    settings: settings::Probes,
    tempo: Tempo,
    asked: BTreeMap<ComponentId, Asked>,
}

#[derive(Debug)]
struct Asked {
    get: Get,
    said: Arc<Mutex<Option<LeaseLook>>>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Leases {
    /// Nothing asked yet.
    pub(super) fn new(settings: settings::Probes, tempo: Tempo) -> Self {
        Self { settings, tempo, asked: BTreeMap::new() }
    }

    /// Reads these from now on, and no others.
    pub(super) fn plan(&mut self, wanted: BTreeMap<ComponentId, Get>) {
        self.asked.retain(|id, asked| wanted.get(id) == Some(&asked.get));
        for (id, get) in wanted {
            let (settings, tempo) = (self.settings.clone(), self.tempo.clone());
            self.asked.entry(id).or_insert_with(|| {
                let said = Arc::default();
                let mut task = JoinSet::new();
                task.spawn(keep_asking(get.clone(), Arc::clone(&said), settings, tempo));
                Asked { get, said, _task: task }
            });
        }
    }

    /// What was said last.
    pub(super) fn looks(&self) -> BTreeMap<ComponentId, LeaseLook> {
        let said = |asked: &Asked| asked.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.asked.iter().filter_map(|(id, asked)| Some((id.clone(), said(asked)?))).collect()
    }
}

async fn keep_asking(get: Get, said: Arc<Mutex<Option<LeaseLook>>>, settings: settings::Probes, tempo: Tempo) {
    loop {
        let began = Instant::now();
        let answer = ask(&get, began + settings.timeout).await;
        let failed = answer.is_err();
        let look = LeaseLook { said: answer, at: clock::since_boot() };
        let before = said.lock().unwrap_or_else(PoisonError::into_inner).replace(look);
        if failed && before.is_some_and(|before| before.said.is_ok()) {
            tempo.raise();
        }
        tempo.rest(began, Purpose::Other, &settings).await;
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    holder_identity: Option<String>,
    renew_time: Option<String>,
    lease_duration_seconds: Option<u32>,
}

async fn ask(get: &Get, deadline: Instant) -> Result<Lease, Symptom> {
    let answer = http::get(get, deadline).await.map_err(|reading| match reading {
        Reading::Bad(symptom) | Reading::CannotTell(symptom) => symptom,
        Reading::Good => Symptom::new(SymptomKind::NoMeans, "no answer"),
    })?;
    let kind = match answer.status {
        200 => {
            let document: Document = serde_json::from_slice(&answer.body)
                .map_err(|error| Symptom::new(SymptomKind::WrongBody, format!("{get}: {error}")))?;
            let holder = document.spec.holder_identity.filter(|holder| !holder.is_empty());
            let lasts = document.spec.lease_duration_seconds.map(|seconds| Duration::from_secs(seconds.into()));
            return Ok(Lease { holder, lasts, renewed: document.spec.renew_time });
        }
        // Nobody has ever held it.
        404 => return Ok(Lease::default()),
        401 | 403 => SymptomKind::Unauthorized,
        500.. => SymptomKind::Unhealthy,
        _ => SymptomKind::WrongBody,
    };
    Err(Symptom::new(kind, format!("{get} answers {}", answer.status)))
}

#[cfg(test)]
mod tests {
    use super::super::probes::plan::{self, Manifests};
    use super::*;
    use crate::observe::testing::{Canned, Pki, Server, fixture};

    fn manifest(name: &str) -> Manifest {
        Manifest::parse(fixture(&format!("manifests/{name}.yaml")).into()).unwrap()
    }

    #[test]
    fn a_kubeadm_node_has_three_leases_to_read() {
        let all = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"].map(manifest);
        let standing = all.iter().map(|manifest| (manifest.id.clone(), manifest)).collect();
        let asks = plan::plan(&Manifests { standing, proven: Vec::new() }, Path::new("/etc/kubernetes"));
        let gets = plan(all.iter(), &asks, "vm", Path::new("/etc/kubernetes/kubelet.conf"));
        let shown: Vec<String> = gets.iter().map(|(id, get)| format!("{id}: {get}")).collect();
        let leases = "https://127.0.0.1:6443/apis/coordination.k8s.io/v1/namespaces";
        assert_eq!(
            shown,
            [
                format!("kube-controller-manager: {leases}/kube-system/leases/kube-controller-manager"),
                format!("kube-scheduler: {leases}/kube-system/leases/kube-scheduler"),
                format!("host:kubelet: {leases}/kube-node-lease/leases/vm"),
            ]
        );
        let api = all.iter().filter(|manifest| manifest.role != Role::ApiServer);
        assert!(plan(api, &asks, "vm", Path::new("/x")).is_empty(), "no API server of this node to ask");
    }

    fn answers(path: &str) -> Canned {
        match path {
            "/held" => (
                200,
                r#"{"kind": "Lease", "spec": {"holderIdentity": "vm_1", "leaseDurationSeconds": 15,
                "renewTime": "2026-01-02T03:04:05Z"}}"#,
            ),
            "/free" => (200, r#"{"kind": "Lease", "spec": {"holderIdentity": ""}}"#),
            "/html" => (200, "<html>"),
            "/forbidden" => (403, "Forbidden"),
            "/timeout" => (504, "etcdserver: request timed out"),
            _ => (404, "not found"),
        }
    }

    #[tokio::test]
    async fn a_lease_is_read_as_the_user_of_a_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("server", "ca", 5);
        pki.sign("client", "ca", 5);
        let server = Server::start(Some(pki.server("server", Some("ca"))), answers).await;
        let path = dir.path().join("scheduler.conf");
        let users = format!(
            "client-certificate: {}\n    client-key: {}\n",
            pki.path("client.crt").display(),
            pki.path("client.key").display()
        );
        let config = format!(
            "kind: Config\ncontexts:\n- name: c\n  context: {{user: u}}\ncurrent-context: c\nusers:\n- name: u\n  user:\n    {users}"
        );
        std::fs::write(&path, config).unwrap();
        let ask_at = async |at: &str| {
            let get = Get {
                address: super::super::probes::connect::Address { host: "127.0.0.1".into(), port: server.port },
                security: Security::Tls {
                    identities: vec![Identity::of_kubeconfig(path.clone())],
                    trust: Trust::Anyone,
                },
                path: at.to_owned(),
                headers: Vec::new(),
                max_body: MAX_BODY,
            };
            ask(&get, Instant::now() + Duration::from_secs(5)).await
        };
        let held = ask_at("/held").await.unwrap();
        assert!(held.is_held_by("vm") && held.renewed.is_some(), "{held:?}");
        assert_eq!(held.lasts, Some(Duration::from_secs(15)));
        assert_eq!(ask_at("/free").await.unwrap(), Lease::default());
        assert_eq!(ask_at("/none").await.unwrap(), Lease::default());
        assert_eq!(ask_at("/html").await.unwrap_err().kind, SymptomKind::WrongBody);
        assert_eq!(ask_at("/forbidden").await.unwrap_err().kind, SymptomKind::Unauthorized);
        assert_eq!(ask_at("/timeout").await.unwrap_err().kind, SymptomKind::Unhealthy);
    }
}
