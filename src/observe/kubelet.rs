//! The kubelet from outside: its process, files that changed since it started, and what it reports that it waits for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::environment::{Environment, Found, Source};
use super::file;
use super::probes::connect::Address;
use super::probes::http::{self, Get};
use super::probes::security::{Identity, Security, Trust};
use super::tempo::Tempo;
use crate::model::observation::{HeardApi, KubeletProcess, Waiting};
use crate::model::{ComponentId, Moment};
use crate::sys::proc::{self, BinaryOnDisk, Process};

/// Between two questions for /pods: the answer of a full node is a megabyte.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// The same while all is well: nobody waits then, and the end of the calm asks at once. An answer counts for longer.
const ASK_CALMLY: Duration = Duration::from_secs(15);
/// For one of them.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// A file written within this time before the start was written for it: process start times are in hundredths, file times
/// in ticks of the kernel.
const SLACK: Duration = Duration::from_secs(1);
/// The largest answer to /pods that is taken: 250 pods of 40 kB.
const MAX_PODS: usize = 16 << 20;
/// What the kubelet says of containers that are simply on their way.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// The kubelet among all processes: root's, in our PID namespace, and with the `--config` we were told of, if we were.
pub(super) fn find<'a>(processes: &'a [Process], config: &Found<PathBuf>) -> Option<&'a Process> {
    let mut kubelets: Vec<&Process> = processes
        .iter()
        .filter(|process| process.uid == 0 && process.program() == "kubelet" && proc::in_our_namespace(process.pid))
        .collect();
    if config.from == Source::Settings {
        kubelets.retain(|kubelet| kubelet.flag("config").is_some_and(|said| Path::new(&said) == config.value));
    }
    // The oldest: what the operator or a test started next to it came later.
    kubelets.into_iter().min_by_key(|kubelet| proc::started(kubelet.pid))
}

/// When its process started, by the wall clock of now.
pub(super) fn started_at(kubelet: &Process, now: Moment) -> Option<Timestamp> {
    let started = proc::started(kubelet.pid)?;
    Some(now.wall.checked_sub(now.boot.saturating_sub(started)).unwrap_or(now.wall))
}

/// What can be said of its process. `from_api` is when the newest ready pod that an API server gave was created.
pub(super) fn describe(
    kubelet: &Process,
    environment: &Environment,
    now: Moment,
    from_api: Option<Timestamp>,
) -> Option<KubeletProcess> {
    let started = proc::started(kubelet.pid)?;
    let on_wall = now.wall.checked_sub(now.boot.saturating_sub(started)).unwrap_or(now.wall);
    let heard = from_api.is_some_and(|created| created > on_wall);
    Some(KubeletProcess {
        pid: kubelet.pid,
        started,
        changed_since: changed_since(kubelet, environment, on_wall),
        heard_api: if heard { HeardApi::Yes } else { HeardApi::CannotTell },
        state: proc::process_state(kubelet.pid)?,
    })
}

/// The file that changed last among its configuration and its flags.
pub(super) fn newest_change(environment: &Environment) -> Option<(PathBuf, Timestamp)> {
    let changed = |path: &PathBuf| Some((path.clone(), file::stat(path).ok()?.changed()));
    environment.kubelet_files.iter().filter_map(changed).max_by_key(|(_, at)| *at)
}

fn changed_since(kubelet: &Process, environment: &Environment, started: Timestamp) -> Option<PathBuf> {
    if let Some((binary, BinaryOnDisk::Another)) = proc::binary(kubelet.pid) {
        return Some(binary);
    }
    let newer = |path: &&PathBuf| {
        let changed = file::stat(path).ok().map(|stamp| stamp.changed());
        changed.is_some_and(|changed| changed > started.checked_add(SLACK).unwrap_or(started))
    };
    environment.kubelet_files.iter().find(newer).cloned()
}

/// How /pods is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodsAsk {
    /// `host:port`.
    pub(super) address: String,
    /// With which certificate: the API server's own for kubelets.
    pub(super) identity: Identity,
    /// The node's name.
    pub(super) node: String,
}

/// When it said it, and what.
type Said = (Instant, BTreeMap<ComponentId, Waiting>);

/// A task that asks the kubelet for /pods, and what it said last.
#[derive(Debug)]
pub(super) struct Pods {
    tempo: Tempo,
    asked: Option<PodsAsk>,
    said: Arc<Mutex<Option<Said>>>,
    task: JoinSet<()>,
}

impl Pods {
    /// Nothing asked yet.
    pub(super) fn new(tempo: Tempo) -> Self {
        Self { tempo, asked: None, said: Arc::default(), task: JoinSet::new() }
    }

    /// Asks this way from now on; absent when there is no way.
    pub(super) fn plan(&mut self, ask: Option<PodsAsk>) {
        if self.asked == ask {
            return;
        }
        self.task = JoinSet::new();
        self.said = Arc::default();
        self.asked.clone_from(&ask);
        let Some(ask) = ask else { return };
        let (said, tempo) = (Arc::clone(&self.said), self.tempo.clone());
        self.task.spawn(async move {
            loop {
                let began = Instant::now();
                let answer = waiting(&ask).await.map(|waiting| (Instant::now(), waiting));
                *said.lock().unwrap_or_else(PoisonError::into_inner) = answer;
                tempo.rest_for(began, ASK_EVERY, ASK_CALMLY).await;
            }
        });
    }

    /// What it waits with, as far as it said so lately.
    pub(super) fn waiting(&self) -> BTreeMap<ComponentId, Waiting> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let young = said.as_ref().filter(|(at, _)| at.elapsed() < 2 * (ASK_EVERY + ASK_TIMEOUT));
        young.map(|(_, waiting)| waiting.clone()).unwrap_or_default()
    }
}

/// Absent where it does not answer or may not answer us: it asks the API server whether it may.
async fn waiting(ask: &PodsAsk) -> Option<BTreeMap<ComponentId, Waiting>> {
    let (host, port) = ask.address.rsplit_once(':')?;
    let get = Get {
        address: Address { host: host.to_owned(), port: port.parse().ok()? },
        security: Security::Tls { identities: vec![ask.identity.clone()], trust: Trust::Anyone },
        path: "/pods".to_owned(),
        headers: Vec::new(),
        max_body: MAX_PODS,
    };
    let answer = http::get(&get, Instant::now() + ASK_TIMEOUT).await.ok().filter(|answer| answer.status == 200)?;
    let node = ask.node.clone();
    tokio::task::spawn_blocking(move || parse(&answer.body, &node)).await.ok().flatten()
}

#[derive(Deserialize)]
struct PodList {
    // A kubelet that has just started answers null.
    items: Option<Vec<Pod>>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: State,
}

#[derive(Default, Deserialize)]
struct State {
    waiting: Option<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

fn parse(body: &[u8], node: &str) -> Option<BTreeMap<ComponentId, Waiting>> {
    let list: PodList = serde_json::from_slice(body).ok()?;
    let pods = list.items.unwrap_or_default().into_iter();
    Some(pods.filter_map(|pod| waiting_of(pod, node)).collect())
}

fn waiting_of(pod: Pod, node: &str) -> Option<(ComponentId, Waiting)> {
    let annotation = |key: &str| pod.metadata.annotations.get(key);
    if annotation("kubernetes.io/config.source")? != "file" {
        return None;
    }
    let uid = annotation("kubernetes.io/config.hash")?.clone();
    let name = pod.metadata.name.strip_suffix(node)?.strip_suffix('-')?;
    let containers = pod.status.init_container_statuses.into_iter().chain(pod.status.container_statuses);
    let mut reasons = containers.filter_map(|container| container.state.waiting);
    let reason = reasons.find(|waiting| !ON_ITS_WAY.contains(&waiting.reason.as_str()))?;
    let waiting = Waiting { uid, reason: reason.reason, message: reason.message };
    Some((ComponentId::new(pod.metadata.namespace, name), waiting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::fixture;

    #[test]
    fn what_the_kubelet_waits_with_is_read_off_its_pods() {
        let healthy = parse(&fixture("kubelet/pods.json"), "vm").unwrap();
        assert_eq!(healthy, BTreeMap::new());
        assert_eq!(parse(b"{\"items\": null}", "vm"), Some(BTreeMap::new()), "a kubelet that has just started");
        assert_eq!(parse(b"Authorization error", "vm"), None);

        let pod = String::from_utf8(fixture("kubelet/kubelet-pod-apiserver-crashloop.json")).unwrap();
        let list = format!("{{\"kind\": \"PodList\", \"items\": [{pod}]}}");
        let waiting = parse(list.as_bytes(), "vm").unwrap();
        let api = &waiting[&ComponentId::system("kube-apiserver")];
        assert_eq!((api.uid.as_str(), api.reason.as_str()), ("ccf6c4036cc7b73f038caef698a734f5", "CrashLoopBackOff"));
        assert!(api.message.starts_with("back-off 10s"));
        let on_its_way = list.replace("CrashLoopBackOff", "ContainerCreating");
        assert_eq!(parse(on_its_way.as_bytes(), "vm"), Some(BTreeMap::new()));
        assert_eq!(parse(list.as_bytes(), "other"), Some(BTreeMap::new()), "another node's name");
    }

    fn process(args: &[&str], uid: u32) -> Process {
        let pid = i32::try_from(std::process::id()).unwrap();
        Process { pid, uid, args: args.iter().map(|word| (*word).to_owned()).collect() }
    }

    #[test]
    fn the_kubelet_that_is_meant_is_found() {
        let usual = Found { value: PathBuf::from("/var/lib/kubelet/config.yaml"), from: Source::WellKnown };
        let set = Found { value: PathBuf::from("/lab/config.yaml"), from: Source::Settings };
        let lab = process(&["/opt/kubelet", "--config", "/lab/config.yaml"], 0);
        let other = process(&["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml"], 0);
        assert_eq!(find(&[other.clone(), lab.clone()], &set), Some(&lab));
        assert_eq!(find(std::slice::from_ref(&other), &set), None);
        assert_eq!(find(std::slice::from_ref(&other), &usual), Some(&other));
        assert_eq!(
            find(
                &[process(&["kubelet"], 1000), process(&["kubelet-proxy"], 0), process(&["vi", "kubelet"], 0)],
                &usual
            ),
            None
        );
    }
}
