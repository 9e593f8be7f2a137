//! Stops containers and sandboxes, and removes exited containers, through CRI v1, after checking that they belong to the
//! intended component.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Outcome, StepExecutor, StepResult};
use crate::cri::v1::runtime_service_client::RuntimeServiceClient;
use crate::cri::v1::{
    ContainerState, ContainerStatusRequest, ListContainersRequest, PodSandboxState, PodSandboxStatusRequest,
    RemoveContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use crate::model::ComponentId;
use crate::model::host_path::Mounted;

/// The kubelet's labels on everything it starts (`pkg/kubelet/types/labels.go`).
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Stopping a sandbox kills what still runs in it, then unmounts and takes the network down: longer than a question.
const SANDBOX_MARGIN: Duration = Duration::from_secs(10);

/// Why a call came to nothing: a sentence.
type Failure = String;

impl StepExecutor {
    pub(super) async fn stop_container(&self, component: &ComponentId, id: &str, grace: Duration) -> StepResult {
        let stopped = self.try_stop_container(component, id, grace).await;
        Ok(stopped.unwrap_or_else(|why| Outcome::Failed(format!("cannot stop container {id} of {component}: {why}"))))
    }

    async fn try_stop_container(&self, component: &ComponentId, id: &str, grace: Duration) -> Result<Outcome, Failure> {
        let mut runtime = self.connect().await?;
        let limit = self.settings.runtime.timeout;
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = match within(limit, runtime.container_status(request)).await? {
            Ok(answer) => answer.into_inner().status.ok_or("the runtime answered without a status")?,
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Outcome::AlreadyDone(format!("container {id} of {component} is gone already")));
            }
            Err(status) => return Err(sentence(&status)),
        };
        if let Some(other) = stranger(component, &status.labels) {
            return Ok(Outcome::Refused(format!(
                "container {id} is not stopped: it is of {other}, not of {component}"
            )));
        }
        if status.state() == ContainerState::ContainerExited {
            return Ok(Outcome::AlreadyDone(format!("container {id} of {component} has already exited")));
        }
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds };
        match within(grace.saturating_add(limit), runtime.stop_container(request)).await? {
            Ok(_) => Ok(Outcome::Done(format!("stopped container {id} of {component}"))),
            Err(status) if status.code() == Code::NotFound => {
                Ok(Outcome::AlreadyDone(format!("container {id} of {component} is gone already")))
            }
            Err(status) => Err(sentence(&status)),
        }
    }

    pub(super) async fn remove_container(&self, component: &ComponentId, id: &str) -> StepResult {
        let removed = self.try_remove_container(component, id).await;
        Ok(removed.unwrap_or_else(|why| Outcome::Failed(format!("cannot remove container {id} of {component}: {why}"))))
    }

    async fn try_remove_container(&self, component: &ComponentId, id: &str) -> Result<Outcome, Failure> {
        let gone = || Ok(Outcome::AlreadyDone(format!("container {id} of {component} is gone already")));
        let mut runtime = self.connect().await?;
        let limit = self.settings.runtime.timeout;
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = match within(limit, runtime.container_status(request)).await? {
            Ok(answer) => answer.into_inner().status.ok_or("the runtime answered without a status")?,
            Err(status) if status.code() == Code::NotFound => return gone(),
            Err(status) => return Err(sentence(&status)),
        };
        if let Some(other) = stranger(component, &status.labels) {
            return Ok(Outcome::Refused(format!(
                "container {id} is not removed: it is of {other}, not of {component}"
            )));
        }
        // The runtime would stop one that runs, and remove it (Q15).
        if status.state() != ContainerState::ContainerExited {
            return Ok(Outcome::Refused(format!("container {id} of {component} is not removed: it has not exited")));
        }
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        match within(limit, runtime.remove_container(request)).await? {
            Ok(_) => Ok(Outcome::Done(format!("removed exited container {id} of {component}"))),
            Err(status) if status.code() == Code::NotFound => gone(),
            Err(status) => Err(sentence(&status)),
        }
    }

    pub(super) async fn stop_sandbox(&self, component: &ComponentId, id: &str) -> StepResult {
        let stopped = self.try_stop_sandbox(component, id).await;
        Ok(stopped.unwrap_or_else(|why| Outcome::Failed(format!("cannot stop sandbox {id} of {component}: {why}"))))
    }

    async fn try_stop_sandbox(&self, component: &ComponentId, id: &str) -> Result<Outcome, Failure> {
        let mut runtime = self.connect().await?;
        let limit = self.settings.runtime.timeout;
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = match within(limit, runtime.pod_sandbox_status(request)).await? {
            Ok(answer) => answer.into_inner().status.ok_or("the runtime answered without a status")?,
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Outcome::AlreadyDone(format!("sandbox {id} of {component} is gone already")));
            }
            Err(status) => return Err(sentence(&status)),
        };
        if let Some(other) = stranger(component, &status.labels) {
            return Ok(Outcome::Refused(format!("sandbox {id} is not stopped: it is of {other}, not of {component}")));
        }
        if status.state() == PodSandboxState::SandboxNotready {
            return Ok(Outcome::AlreadyDone(format!("sandbox {id} of {component} is stopped already")));
        }
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        match within(limit.saturating_add(SANDBOX_MARGIN), runtime.stop_pod_sandbox(request)).await? {
            Ok(_) => Ok(Outcome::Done(format!("stopped sandbox {id} of {component}"))),
            Err(status) if status.code() == Code::NotFound => {
                Ok(Outcome::AlreadyDone(format!("sandbox {id} of {component} is gone already")))
            }
            Err(status) => Err(sentence(&status)),
        }
    }

    /// A container that has not ended and that has this directory of the host, or something of it. A node has many containers,
    /// and a pass waits for this: all questions together get the time of one slow answer.
    pub(super) async fn user_of(&self, path: &Path) -> Result<Option<String>, Failure> {
        let limit = self.settings.runtime.timeout;
        let asked = timeout(limit, self.ask_user_of(path)).await;
        asked.unwrap_or_else(|_| Err(format!("the runtime did not name all mounts within {} s", limit.as_secs_f32())))
    }

    async fn ask_user_of(&self, path: &Path) -> Result<Option<String>, Failure> {
        let mut runtime = self.connect().await?;
        let limit = self.settings.runtime.timeout;
        let request = ListContainersRequest { filter: None };
        let listed = within(limit, runtime.list_containers(request)).await?.map_err(|status| sentence(&status))?;
        for container in listed.into_inner().containers {
            if container.state() == ContainerState::ContainerExited {
                continue;
            }
            let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            let status = match within(limit, runtime.container_status(request)).await? {
                Ok(answer) => answer.into_inner().status.ok_or("the runtime answered without a status")?,
                Err(status) if status.code() == Code::NotFound => continue,
                Err(status) => return Err(sentence(&status)),
            };
            let mut mounts = status
                .mounts
                .iter()
                .map(|mount| Mounted { path: Path::new(&mount.host_path), read_only: mount.readonly });
            if mounts.any(|mount| mount.holds(path)) {
                return Ok(Some(container.id));
            }
        }
        Ok(None)
    }

    async fn connect(&self) -> Result<RuntimeServiceClient<Channel>, Failure> {
        let endpoint = self.environment.runtime.as_ref().ok_or("no container runtime is known (runtime.endpoint)")?;
        // tonic knows `unix:`; a bare path is what the kubelet takes as well.
        let address = if endpoint.starts_with('/') { format!("unix://{endpoint}") } else { endpoint.clone() };
        let unreachable = |why: String| format!("the container runtime at {endpoint} does not answer: {why}");
        let target = Endpoint::from_shared(address).map_err(|error| unreachable(error.to_string()))?;
        let channel = match timeout(self.settings.runtime.timeout, target.connect()).await {
            Ok(connected) => connected.map_err(|error| unreachable(with_cause(&error)))?,
            Err(_) => return Err(unreachable("no connection in time".to_owned())),
        };
        Ok(RuntimeServiceClient::new(channel))
    }
}

/// A call with a deadline.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<Result<T, Status>, Failure> {
    timeout(limit, call).await.map_err(|_| format!("the runtime did not answer within {} s", limit.as_secs_f32()))
}

fn sentence(status: &Status) -> String {
    format!("the runtime answered {:?}: {}", status.code(), status.message())
}

/// An error with what caused it: tonic's own sentence is only "transport error".
fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), with_cause)
}

/// Whose these labels say it is, if not the component's: the kubelet names a static pod `NAME-NODE`.
fn stranger(component: &ComponentId, labels: &HashMap<String, String>) -> Option<String> {
    let label = |key: &str| labels.get(key).map_or("nobody", String::as_str);
    let (namespace, name) = (label(POD_NAMESPACE), label(POD_NAME));
    let node = name.strip_prefix(component.name()).and_then(|rest| rest.strip_prefix('-'));
    (Some(namespace) != component.namespace() || node.is_none_or(str::is_empty)).then(|| format!("{namespace}/{name}"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::convert::Infallible;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::header::{HeaderMap, HeaderValue};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::UnixListener;

    use prost::Message as _;

    use super::*;
    use crate::act::Environment;
    use crate::config::Settings;
    use crate::cri::v1;
    use crate::model::host_path::AbsentPaths;
    use crate::model::memory::Record;
    use crate::model::{ComponentState, Digest, FileState, Memory, Role};

    /// What the stand-in says to a method: a message, a gRPC status, or nothing at all.
    #[derive(Clone)]
    enum Answer {
        Message(Vec<u8>),
        Late(Duration, Vec<u8>),
        Status(u32, &'static str),
        Silence,
    }

    /// A runtime on a socket that answers as instructed, and the methods it was asked.
    struct Runtime {
        dir: tempfile::TempDir,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Runtime {
        fn saying(answers: &[(&'static str, Answer)]) -> Self {
            let runtime = Self { dir: tempfile::tempdir().unwrap(), asked: Arc::default() };
            listen(&runtime.socket(), answers, &runtime.asked);
            runtime
        }

        fn socket(&self) -> PathBuf {
            self.dir.path().join("cri.sock")
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }

        fn hands(&self) -> StepExecutor {
            hands(&self.socket())
        }
    }

    fn listen(socket: &Path, answers: &[(&'static str, Answer)], asked: &Arc<Mutex<Vec<String>>>) {
        let listener = UnixListener::bind(socket).unwrap();
        let (answers, asked): (BTreeMap<_, _>, _) = (answers.iter().cloned().collect(), Arc::clone(asked));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, asked) = (answers.clone(), Arc::clone(&asked));
                let service = service_fn(move |request: Request<Incoming>| {
                    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
                    asked.lock().unwrap().push(method.clone());
                    answer(answers.get(method.as_str()).cloned().unwrap())
                });
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
            }
        });
    }

    /// A runtime without containers at a socket.
    pub(in crate::act) fn without_containers(socket: &Path) {
        listen(socket, &[listed(ContainerState::ContainerRunning, 0)], &Arc::default());
    }

    fn hands(socket: &Path) -> StepExecutor {
        let mut settings = Settings::default();
        settings.runtime.timeout = Duration::from_millis(300);
        let look = Arc::new(|_: &crate::model::ClosureFile| FileState::Missing);
        let runtime = Some(format!("unix://{}", socket.display()));
        StepExecutor::new(&settings, Environment { manifests: "/nonexistent".into(), runtime, look })
    }

    async fn answer(
        answer: Answer,
    ) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
        if let Answer::Late(time, _) = &answer {
            tokio::time::sleep(*time).await;
        }
        let response = Response::builder().header("content-type", "application/grpc");
        let trailers = |code: u32, message: &'static str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(code));
            trailers.insert("grpc-message", HeaderValue::from_static(message));
            async move { Some(Ok(trailers)) }
        };
        let (bytes, code, message) = match answer {
            Answer::Silence => std::future::pending().await,
            Answer::Status(code, message) => (Vec::new(), code, message),
            Answer::Message(bytes) | Answer::Late(_, bytes) => {
                let mut frame = vec![0];
                frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                frame.extend(bytes);
                (frame, 0, "")
            }
        };
        Ok(response.body(Full::new(Bytes::from(bytes)).with_trailers(trailers(code, message)).boxed()).unwrap())
    }

    /// A protobuf field with a length.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length > 127 {
            field.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend(bytes);
        field
    }

    /// A status response: of a container its labels are field 12, of a sandbox field 7; the state is field 3 of both.
    fn status(labels: u8, state: u8, pod: &str) -> Answer {
        let label =
            |key: &str, value: &str| field(labels, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let labels = [label(POD_NAME, pod), label(POD_NAMESPACE, "kube-system")].concat();
        Answer::Message(field(1, &[vec![3 << 3, state], labels].concat()))
    }

    fn container(state: ContainerState, pod: &str) -> (&'static str, Answer) {
        ("ContainerStatus", status(12, state as u8, pod))
    }

    fn sandbox(state: PodSandboxState, pod: &str) -> (&'static str, Answer) {
        ("PodSandboxStatus", status(7, state as u8, pod))
    }

    fn etcd() -> ComponentId {
        ComponentId::system("etcd")
    }

    const GRACE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_running_container_is_stopped_and_one_that_ended_is_left() {
        let stop = ("StopContainer", Answer::Message(Vec::new()));
        let running = Runtime::saying(&[container(ContainerState::ContainerRunning, "etcd-n1"), stop.clone()]);
        let outcome = running.hands().stop_container(&etcd(), "77e1", GRACE).await.unwrap();
        assert_eq!(outcome, Outcome::Done("stopped container 77e1 of etcd".into()));
        assert_eq!(running.asked(), ["ContainerStatus", "StopContainer"]);
        let ended = Runtime::saying(&[container(ContainerState::ContainerExited, "etcd-n1"), stop]);
        let outcome = ended.hands().stop_container(&etcd(), "77e1", GRACE).await.unwrap();
        assert!(matches!(outcome, Outcome::AlreadyDone(_)), "{outcome:?}");
        assert_eq!(ended.asked(), ["ContainerStatus"]);
    }

    #[tokio::test]
    async fn only_an_exited_container_of_the_component_is_removed() {
        let rows = [
            (ContainerState::ContainerExited, "etcd-n1", true),
            (ContainerState::ContainerRunning, "etcd-n1", false),
            (ContainerState::ContainerUnknown, "etcd-n1", false),
            (ContainerState::ContainerExited, "etcdadm-n1", false),
        ];
        for (state, pod, removed) in rows {
            let runtime = Runtime::saying(&[container(state, pod), ("RemoveContainer", Answer::Message(Vec::new()))]);
            let outcome = runtime.hands().remove_container(&etcd(), "77e1").await.unwrap();
            assert_eq!(matches!(outcome, Outcome::Done(_)), removed, "{state:?} {pod}: {outcome:?}");
            assert_eq!(matches!(outcome, Outcome::Refused(_)), !removed, "{state:?} {pod}: {outcome:?}");
            assert_eq!(runtime.asked().contains(&"RemoveContainer".to_owned()), removed, "{state:?} {pod}");
        }
        let gone = Runtime::saying(&[("ContainerStatus", Answer::Status(5, "not found"))]);
        let outcome = gone.hands().remove_container(&etcd(), "77e1").await.unwrap();
        assert!(matches!(outcome, Outcome::AlreadyDone(_)), "{outcome:?}");
    }

    /// So many containers of any pod.
    fn listed(state: ContainerState, count: usize) -> (&'static str, Answer) {
        let container = v1::Container { id: "77e1".into(), state: state as i32, ..Default::default() };
        let listed = v1::ListContainersResponse { containers: vec![container; count] };
        ("ListContainers", Answer::Message(listed.encode_to_vec()))
    }

    /// A runtime with one container of any pod, which mounts this path.
    fn mounting(state: ContainerState, path: &Path, read_only: bool) -> Runtime {
        let mount = v1::Mount { host_path: path.display().to_string(), readonly: read_only, ..Default::default() };
        let status = v1::ContainerStatus { mounts: vec![mount], ..Default::default() };
        let status = v1::ContainerStatusResponse { status: Some(status), ..Default::default() };
        Runtime::saying(&[listed(state, 1), ("ContainerStatus", Answer::Message(status.encode_to_vec()))])
    }

    /// The memory of an etcd whose second generation found that path absent.
    fn absent(path: &Path) -> Memory {
        let record = Record {
            absent_paths: Some(AbsentPaths {
                generation: 2,
                pod: Digest::of(b"pod"),
                paths: [path.to_owned()].into(),
                used: BTreeSet::new(),
            }),
            ..Record::new(Role::Etcd, ComponentState::Steady { good: 1 })
        };
        Memory { components: [(etcd(), record)].into(), ..Memory::default() }
    }

    #[tokio::test]
    async fn a_directory_is_removed_only_if_it_was_absent_and_is_empty_and_nobody_uses_it() {
        use ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in
            ["made", "used", "created", "below", "known", "full", "full/inner", "above", "above/read", "above/written"]
        {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink(path("known"), path("link")).unwrap();
        let elsewhere = path("elsewhere");
        // The path, what a container of this state mounts (read-only where it is called `read`), what the memory knows to have
        // been absent, and whether it goes.
        let rows = [
            ("made", ContainerRunning, elsewhere.clone(), "made", true),
            ("used", ContainerRunning, path("used"), "used", false),
            ("created", ContainerCreated, path("created"), "created", false),
            ("below", ContainerRunning, path("below/inner"), "below", false),
            ("above/written", ContainerRunning, path("above"), "above/written", false),
            ("above/read", ContainerRunning, path("above"), "above/read", true),
            ("known", ContainerRunning, elsewhere.clone(), "another", false),
            ("full", ContainerRunning, elsewhere.clone(), "full", false),
            ("file", ContainerRunning, elsewhere.clone(), "file", false),
            ("link", ContainerRunning, elsewhere.clone(), "link", false),
            ("used", ContainerExited, path("used"), "used", true),
        ];
        for (name, state, mounted, known, goes) in rows {
            let hands = mounting(state, &mounted, name.ends_with("/read"));
            let outcome = hands.hands().remove_directory(&etcd(), 2, &path(name), &absent(&path(known))).await.unwrap();
            assert_eq!(matches!(outcome, Outcome::Done(_)), goes, "{name}: {outcome:?}");
            assert_eq!(matches!(outcome, Outcome::Refused(_)), !goes, "{name}: {outcome:?}");
            assert_eq!(path(name).exists(), !goes, "{name}");
        }
        let runtime = mounting(ContainerRunning, &elsewhere, false);
        let again = runtime.hands().remove_directory(&etcd(), 2, &path("made"), &absent(&path("made"))).await.unwrap();
        assert!(matches!(again, Outcome::AlreadyDone(_)), "{again:?}");
        let proc = Path::new("/proc");
        let mount = runtime.hands().remove_directory(&etcd(), 2, proc, &absent(proc)).await.unwrap();
        assert!(matches!(mount, Outcome::Refused(_)), "{mount:?}");
        let known = path("known");
        let other = runtime.hands().remove_directory(&etcd(), 1, &known, &absent(&known)).await.unwrap();
        assert!(matches!(other, Outcome::Refused(_)), "another generation: {other:?}");
        let silent = Runtime::saying(&[("ListContainers", Answer::Silence)]);
        let unknown = silent.hands().remove_directory(&etcd(), 2, &known, &absent(&known)).await.unwrap();
        assert!(matches!(unknown, Outcome::Failed(_)), "{unknown:?}");
        assert!(known.exists(), "what cannot be asked keeps it");
    }

    #[tokio::test]
    async fn the_mounts_of_many_containers_are_asked_for_no_longer_than_one_slow_answer_takes() {
        let dir = tempfile::tempdir().unwrap();
        let status = v1::ContainerStatusResponse { status: Some(v1::ContainerStatus::default()), ..Default::default() };
        let late = Answer::Late(Duration::from_millis(100), status.encode_to_vec());
        let slow = Runtime::saying(&[listed(ContainerState::ContainerRunning, 40), ("ContainerStatus", late)]);
        let began = Instant::now();
        let outcome = slow.hands().remove_directory(&etcd(), 2, dir.path(), &absent(dir.path())).await.unwrap();
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(dir.path().exists());
    }

    #[tokio::test]
    async fn what_is_gone_is_stopped() {
        let gone = Answer::Status(5, "not found");
        let runtime = Runtime::saying(&[("ContainerStatus", gone.clone()), ("PodSandboxStatus", gone)]);
        let container = runtime.hands().stop_container(&etcd(), "77e1", GRACE).await.unwrap();
        let sandbox = runtime.hands().stop_sandbox(&etcd(), "0af2").await.unwrap();
        assert!(
            matches!((&container, &sandbox), (Outcome::AlreadyDone(_), Outcome::AlreadyDone(_))),
            "{container:?} {sandbox:?}"
        );
    }

    #[tokio::test]
    async fn another_components_container_is_not_stopped() {
        let runtime = Runtime::saying(&[
            container(ContainerState::ContainerRunning, "kube-apiserver-n1"),
            sandbox(PodSandboxState::SandboxReady, "etcdadm-n1"),
        ]);
        let refused = runtime.hands().stop_container(&etcd(), "77e1", GRACE).await.unwrap();
        assert!(matches!(&refused, Outcome::Refused(why) if why.contains("kube-apiserver-n1")), "{refused:?}");
        let refused = runtime.hands().stop_sandbox(&etcd(), "0af2").await.unwrap();
        assert!(matches!(&refused, Outcome::Refused(why) if why.contains("etcdadm-n1")), "{refused:?}");
        assert_eq!(runtime.asked(), ["ContainerStatus", "PodSandboxStatus"]);
    }

    #[tokio::test]
    async fn a_sandbox_is_stopped_once() {
        let stop = ("StopPodSandbox", Answer::Message(Vec::new()));
        let runtime = Runtime::saying(&[sandbox(PodSandboxState::SandboxReady, "etcd-n1"), stop]);
        let outcome = runtime.hands().stop_sandbox(&etcd(), "0af2").await.unwrap();
        assert_eq!(outcome, Outcome::Done("stopped sandbox 0af2 of etcd".into()));
        let runtime = Runtime::saying(&[sandbox(PodSandboxState::SandboxNotready, "etcd-n1")]);
        let outcome = runtime.hands().stop_sandbox(&etcd(), "0af2").await.unwrap();
        assert!(matches!(outcome, Outcome::AlreadyDone(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_runtime_that_hangs_or_is_not_there_fails_in_time_and_says_so() {
        let hangs = Runtime::saying(&[("ContainerStatus", Answer::Silence)]);
        let slow = Runtime::saying(&[
            container(ContainerState::ContainerRunning, "etcd-n1"),
            ("StopContainer", Answer::Silence),
        ]);
        let began = Instant::now();
        for (hands, word) in [
            (hangs.hands(), "did not answer within 0.3 s"),
            (slow.hands(), "did not answer within 0.4 s"),
            (hands(Path::new("/nonexistent/cri.sock")), "No such file"),
        ] {
            let outcome = hands.stop_container(&etcd(), "77e1", GRACE).await.unwrap();
            assert!(matches!(&outcome, Outcome::Failed(why) if why.contains(word)), "{outcome:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
