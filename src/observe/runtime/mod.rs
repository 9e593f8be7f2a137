//! Queries the container runtime through CRI v1: the static pods of this node, the state of their containers, and the
//! images.
//!
//! An error anywhere fails the whole answer: half a list would make pods look absent.

mod convert;
mod log;
pub(super) mod setup;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

pub(super) use self::convert::Seen;
use self::convert::{Details, Latest, assemble, details_of, latest_containers};
use self::setup::RuntimeSetup;
use crate::cri::v1::image_service_client::ImageServiceClient;
use crate::cri::v1::runtime_service_client::RuntimeServiceClient;
use crate::cri::v1::{
    self as cri, ContainerStatusRequest, ImageSpec, ImageStatusRequest, ListContainersRequest, ListPodSandboxRequest,
};
use crate::model::observation::{ContainerState, ImagePresence, PodRun, Work};
use crate::model::reading::SymptomKind;
use crate::model::{ComponentId, Symptom};
use crate::sys::{clock, proc};

/// The kubelet's own limit for answers of the runtime (`pkg/kubelet/cri/remote`, 16 MiB).
const MAX_ANSWER: usize = 16 << 20;
/// Its configuration is asked for this often.
const SETUP_AGE: Duration = Duration::from_secs(60);
/// An image comes or goes with a pull or the kubelet's garbage collection, both matters of minutes.
const IMAGE_AGE: Duration = Duration::from_secs(10);
/// The same, where it was not there: the operator may be loading it while we wait for it.
const ABSENT_IMAGE_AGE: Duration = Duration::from_secs(2);
/// A process may still be the runtime's launcher this shortly after its start, and a log still on its way to the disk
/// this shortly after the end: what is read then is read again.
const YOUNG: Duration = Duration::from_secs(3);

/// A log is read for a sentence only: a disk that hangs must not hold up a pass.
const LOG_DEADLINE: Duration = Duration::from_millis(500);

/// The channel to the runtime, and what is known of containers and images from earlier answers.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    channel: Option<(String, Channel)>,
    containers: HashMap<String, Details>,
    images: Arc<Mutex<BTreeMap<String, (Duration, ImagePresence)>>>,
    /// What it said of its sandboxes, and when.
    setup: Option<(Duration, RuntimeSetup)>,
}

/// What one look asks for.
pub(super) struct Wanted<'a> {
    /// `unix://…`, or why there is none.
    pub(super) endpoint: Result<&'a str, String>,
    /// The names that the node has and had.
    pub(super) nodes: &'a [String],
    /// References of images.
    pub(super) images: BTreeSet<String>,
    /// For all of it.
    pub(super) deadline: Duration,
}

impl Runtime {
    /// Asks for pods and images at the same time.
    pub(super) async fn look(
        &mut self,
        wanted: Wanted<'_>,
    ) -> (Result<Seen, Symptom>, BTreeMap<String, ImagePresence>) {
        let channel = match wanted.endpoint.and_then(|endpoint| self.channel(endpoint)) {
            Ok(channel) => channel,
            Err(sentence) => return (Err(Symptom::new(SymptomKind::NoMeans, sentence)), BTreeMap::new()),
        };
        let images = images(channel.clone(), Arc::clone(&self.images), wanted.images, wanted.deadline);
        let pods = timeout(wanted.deadline, self.pods(channel, wanted.nodes));
        let (pods, images) = tokio::join!(pods, images);
        let pods = match pods {
            Ok(pods) => pods.map_err(|sentence| Symptom::new(SymptomKind::Broken, sentence)),
            Err(_) => {
                let words = format!("the container runtime did not answer within {} s", wanted.deadline.as_secs_f32());
                Err(Symptom::new(SymptomKind::TimedOut, words))
            }
        };
        if let Some((_, channel)) = self.channel.clone().filter(|_| pods.is_ok()) {
            self.ask_for_setup(channel, wanted.deadline).await;
        }
        if pods.is_err() {
            self.setup = None;
            // A connection that failed once may never answer again; a new one costs nothing.
            self.channel = None;
        }
        (pods, images)
    }

    /// Its configuration changes with a restart at most.
    async fn ask_for_setup(&mut self, channel: Channel, deadline: Duration) {
        let now = clock::since_boot();
        if self.setup.as_ref().is_none_or(|(at, _)| now.saturating_sub(*at) > SETUP_AGE) {
            self.setup = setup::ask(channel, deadline).await.map(|setup| (now, setup));
        }
    }

    /// Whether it did not answer at the last look.
    pub(super) fn is_silent(&self) -> bool {
        self.channel.is_none()
    }

    /// What it said of its sandboxes, as far as it did.
    pub(super) fn setup(&self) -> RuntimeSetup {
        self.setup.as_ref().map(|(_, setup)| setup.clone()).unwrap_or_default()
    }

    /// The last words of a component's log, while it runs or after its end.
    pub(super) async fn last_words(&self, pods: &[PodRun], component: &ComponentId) -> Option<String> {
        let newest = pods.iter().filter(|pod| pod.component == *component).max_by_key(|pod| pod.created)?;
        let path = newest.containers.iter().find_map(|container| self.containers.get(&container.id))?.log().to_owned();
        let read = tokio::task::spawn_blocking(move || log::log_tail(&path));
        timeout(LOG_DEADLINE, read).await.ok()?.ok()?
    }

    fn channel(&mut self, endpoint: &str) -> Result<Channel, String> {
        if let Some((known, channel)) = &self.channel
            && known == endpoint
        {
            return Ok(channel.clone());
        }
        let channel = connect(endpoint)?;
        self.channel = Some((endpoint.to_owned(), channel.clone()));
        Ok(channel)
    }

    async fn pods(&mut self, channel: Channel, nodes: &[String]) -> Result<Seen, String> {
        let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let mut other = client.clone();
        let (sandboxes, containers) = tokio::join!(
            client.list_pod_sandbox(ListPodSandboxRequest::default()),
            other.list_containers(ListContainersRequest::default())
        );
        let sandboxes = sandboxes.map_err(|status| refused("ListPodSandbox", &status))?.into_inner().items;
        let containers = containers.map_err(|status| refused("ListContainers", &status))?.into_inner().containers;
        let latest = latest_containers(&sandboxes, containers, nodes);
        self.containers.retain(|id, _| latest.iter().any(|container| container.id == *id));
        self.learn(&client, &latest).await?;
        let work = self.watch().await;
        Ok(assemble(&sandboxes, &latest, &self.containers, &work, nodes))
    }

    /// Looks at what every running container's process is at. What cannot be seen is left out.
    async fn watch(&self) -> HashMap<String, Work> {
        let running = self.containers.iter().filter_map(|(id, details)| Some((id.clone(), details.process()?)));
        let running: Vec<(String, i32)> = running.collect();
        let look = move || running.into_iter().filter_map(|(id, pid)| Some((id, proc::work(pid)?))).collect();
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Asks for the details of every container whose state is not the one known.
    async fn learn(&mut self, client: &RuntimeServiceClient<Channel>, latest: &[Latest]) -> Result<(), String> {
        let mut asked = JoinSet::new();
        for container in latest {
            let known = self.containers.get(&container.id);
            if known.is_some_and(|known| known.listed == container.state && known.is_final()) {
                continue;
            }
            let (id, listed, mut client) = (container.id.clone(), container.state, client.clone());
            asked.spawn(async move {
                let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
                let answer = client.container_status(request).await.map(tonic::Response::into_inner);
                (id, listed, answer)
            });
        }
        while let Some(joined) = asked.join_next().await {
            let (id, listed, answer) = joined.map_err(|error| format!("ContainerStatus was not called: {error}"))?;
            match answer {
                Ok(answer) => {
                    if let Some(details) = details_of(answer, listed) {
                        let details = tokio::task::spawn_blocking(move || details.with_traces()).await;
                        self.containers
                            .insert(id, details.map_err(|error| format!("a container was not read: {error}"))?);
                    }
                }
                // It was removed since it was listed.
                Err(status) if status.code() == Code::NotFound => {
                    self.containers.remove(&id);
                }
                Err(status) => return Err(refused("ContainerStatus", &status)),
            }
        }
        Ok(())
    }
}

impl Details {
    /// Whether nothing more will come to be known while the state stays.
    fn is_final(&self) -> bool {
        let now = clock::now().wall;
        let older = |than: jiff::Timestamp| Duration::try_from(now.duration_since(than)).is_ok_and(|age| age > YOUNG);
        match &self.state {
            ContainerState::Created | ContainerState::Unknown => false,
            ContainerState::Running { started } => older(*started),
            ContainerState::Exited { finished, .. } => older(*finished),
        }
    }
}

/// A channel that connects when it is first used.
fn connect(endpoint: &str) -> Result<Channel, String> {
    let path = socket_path(endpoint).ok_or_else(|| {
        format!("the runtime's endpoint {endpoint:?} is no unix socket; set runtime.endpoint to unix:///…")
    })?;
    // The address is never used: the connector knows where to go.
    let channel = Endpoint::from_static("http://runtime").connect_with_connector_lazy(service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }));
    Ok(channel)
}

fn socket_path(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    Path::new(path).is_absolute().then(|| path.into())
}

/// A status as a sentence. The transport's own words come last and say the most.
fn refused(call: &str, status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    match status.code() {
        Code::Unimplemented => format!("the container runtime has no {call} of CRI v1: {words}"),
        _ => format!("the container runtime refused {call}: {words}"),
    }
}

/// Which of these images are on the node; from memory where the answer is young.
async fn images(
    channel: Channel,
    known: Arc<Mutex<BTreeMap<String, (Duration, ImagePresence)>>>,
    wanted: BTreeSet<String>,
    deadline: Duration,
) -> BTreeMap<String, ImagePresence> {
    let now = clock::since_boot();
    let mut known = known.lock().await;
    known.retain(|reference, (at, presence)| {
        let age = if *presence == ImagePresence::Absent { ABSENT_IMAGE_AGE } else { IMAGE_AGE };
        wanted.contains(reference) && now.saturating_sub(*at) < age
    });
    let client = ImageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let mut asked = JoinSet::new();
    for reference in wanted.into_iter().filter(|reference| !known.contains_key(reference)) {
        let mut client = client.clone();
        asked.spawn(async move {
            let image = Some(ImageSpec { image: reference.clone(), ..ImageSpec::default() });
            let answer = client.image_status(ImageStatusRequest { image, verbose: false }).await;
            (reference, answer)
        });
    }
    // What is not answered in time is not in the map: unknown, not absent. Dropping the set ends the questions.
    let _ = timeout(deadline, async {
        while let Some(Ok((reference, answer))) = asked.join_next().await {
            if let Ok(answer) = answer {
                known.insert(reference, (now, presence(answer.into_inner())));
            }
        }
    })
    .await;
    known.iter().map(|(reference, (_, presence))| (reference.clone(), presence.clone())).collect()
}

fn presence(answer: cri::ImageStatusResponse) -> ImagePresence {
    answer.image.map_or(ImagePresence::Absent, |image| ImagePresence::Present { id: image.id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(endpoint: &'a str, deadline: Duration) -> Wanted<'a> {
        Wanted { endpoint: Ok(endpoint), nodes: &[], images: ["i:1".to_owned()].into(), deadline }
    }

    #[tokio::test]
    async fn a_runtime_that_is_not_there_or_does_not_answer_is_an_error_and_soon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let endpoint = format!("unix://{}", path.display());
        let mut runtime = Runtime::default();
        let (pods, images) = runtime.look(wanted(&endpoint, Duration::from_secs(5))).await;
        let symptom = pods.unwrap_err();
        assert!(symptom.detail.contains("No such file"), "{symptom}");
        assert_ne!(symptom.kind, SymptomKind::TimedOut, "it is not there, which is no silence");
        assert!(images.is_empty(), "unknown, not absent");

        // Takes connections and says nothing: a stopped containerd.
        let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for _ in 0..2 {
            let began = std::time::Instant::now();
            let (pods, _) = runtime.look(wanted(&endpoint, Duration::from_millis(200))).await;
            assert_eq!(pods.unwrap_err().kind, SymptomKind::TimedOut);
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }
        let (pods, _) = runtime.look(wanted("tcp://1.2.3.4:5", Duration::from_secs(5))).await;
        assert!(pods.unwrap_err().detail.contains("no unix socket"));
    }
}
