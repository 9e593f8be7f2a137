//! Snapshots of real etcds 3.4 and 3.5, with mutual TLS: taken, verified, compared with etcdctl's results; without a
//! quorum; of a member that stalls in the middle; onto a disk that is too small, or fills up meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::save::{Doing, Fault, Limits, Progress, from_data_dir, from_member, quietly};
use super::super::task::SnapshotTask;
use super::super::{Directory, Origin};
use super::{assert_honest, names};
use crate::config::Settings;
use crate::etcd::snapshot::{RawCopy, Trailer, verify};
use crate::feature::inbox;
use crate::model::event::EventKind;
use crate::model::memory::Machine;
use crate::observe::testing::{Pki, etcd_binary, newest_etcd};
use crate::observe::{EtcdEndpoint, Feed, LocalMember};
use crate::snapshots::task_input::TaskInput;
use crate::sys::crash::{fill, on_a_tmpfs};

pub(crate) const LIMITS: Limits = Limits { stall: Duration::from_secs(10), all: Duration::from_secs(120) };
/// A machine that is busy with other tests takes its time.
const SOON: Duration = Duration::from_secs(60);

/// A cluster on loopback ports. Its processes end with this value.
pub(crate) struct Cluster {
    series: &'static str,
    home: tempfile::TempDir,
    pki: Pki,
    members: Vec<Member>,
}

struct Member {
    child: Child,
    port: u16,
    data_dir: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    pub(crate) fn start(series: &'static str, size: usize) -> Self {
        Self::start_with(series, size, &[])
    }

    /// With more flags for every member.
    pub(crate) fn start_with(series: &'static str, size: usize, flags: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let pki = Pki::new(home.path());
        pki.sign("server", "ca", 5);
        pki.sign("client", "ca", 5);
        let path = |name: &str| pki.path(name).display().to_string();
        let ports: Vec<(u16, u16)> = (0..size).map(|_| (free_port(), free_port())).collect();
        let peer = |port: u16| format!("https://127.0.0.1:{port}");
        let cluster: Vec<String> = ports.iter().enumerate().map(|(n, (_, p))| format!("m{n}={}", peer(*p))).collect();
        let member = |n: usize| {
            let (port, peer_port) = ports[n];
            let client = format!("https://127.0.0.1:{port}");
            let data_dir = home.path().join(format!("m{n}"));
            let child = Command::new(etcd_binary(series, "etcd"))
                .args([format!("--name=m{n}"), format!("--data-dir={}", data_dir.display())])
                .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
                .args([format!("--listen-peer-urls={}", peer(peer_port))])
                .args([format!("--initial-advertise-peer-urls={}", peer(peer_port))])
                .args([format!("--initial-cluster={}", cluster.join(","))])
                .args([format!("--cert-file={}", path("server.crt")), format!("--key-file={}", path("server.key"))])
                .args([format!("--trusted-ca-file={}", path("ca.crt")), "--client-cert-auth=true".into()])
                .args([
                    format!("--peer-cert-file={}", path("server.crt")),
                    format!("--peer-key-file={}", path("server.key")),
                ])
                .args([format!("--peer-trusted-ca-file={}", path("ca.crt")), "--peer-client-cert-auth=true".into()])
                .arg("--log-level=error")
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            Member { child, port, data_dir }
        };
        let members = (0..size).map(member).collect();
        let cluster = Self { series, home, pki, members };
        let began = Instant::now();
        while !cluster.etcdctl(&["put", "first", "key"]).0 {
            assert!(began.elapsed() < SOON, "etcd does not serve: {}", cluster.etcdctl(&["put", "first", "key"]).1);
        }
        cluster
    }

    fn ctl(&self) -> Command {
        let mut ctl = Command::new(etcd_binary(self.series, "etcdctl"));
        let path = |name: &str| self.pki.path(name).display().to_string();
        ctl.env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=https://127.0.0.1:{}", self.members[0].port))
            .args([format!("--cacert={}", path("ca.crt"))])
            .args([format!("--cert={}", path("client.crt")), format!("--key={}", path("client.key"))]);
        ctl
    }

    fn etcdctl(&self, args: &[&str]) -> (bool, String) {
        let out = self.ctl().args(args).output().unwrap();
        (
            out.status.success(),
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
        )
    }

    /// Values of a megabyte, so many of them.
    pub(crate) fn grow(&self, megabytes: usize) {
        let value = vec![b'x'; 1_000_000];
        for n in 0..megabytes {
            let mut put = self
                .ctl()
                .args(["put", &format!("large/{n}")])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut put.stdin.take().unwrap(), &value).unwrap();
            assert!(put.wait().unwrap().success());
        }
    }

    pub(crate) fn way(&self) -> EtcdEndpoint {
        self.pki.way(self.members[0].port, "client")
    }

    /// The manifest that a member would have as a static pod.
    pub(crate) fn manifest(&self, number: usize) -> String {
        let path = |name: &str| self.pki.path(name).display().to_string();
        let (member, home) = (&self.members[number], self.home.path().display());
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, namespace: kube-system}}\nspec:\n  hostNetwork: true\n  \
             containers:\n  - name: etcd\n    image: etcd\n    command: [etcd, --name=m{number}, '--data-dir={}', \
             '--listen-client-urls=https://127.0.0.1:{}', '--cert-file={}', '--key-file={}', '--trusted-ca-file={}']\n    \
             volumeMounts: [{{name: home, mountPath: '{home}'}}]\n  volumes: [{{name: home, hostPath: {{path: '{home}'}}}}]\n",
            member.data_dir.display(),
            member.port,
            path("server.crt"),
            path("server.key"),
            path("ca.crt")
        )
    }

    fn signal(&self, signal: Signal) {
        self.signal_member(0, signal);
    }

    pub(crate) fn signal_member(&self, number: usize, signal: Signal) {
        kill(Pid::from_raw(self.members[number].child.id() as i32), signal).unwrap();
    }

    /// Ends the first member by its own will, so that its last words are in the database. Where its data lie.
    pub(crate) fn stop(&mut self) -> PathBuf {
        self.signal(Signal::SIGTERM);
        self.members[0].child.wait().unwrap();
        self.members[0].data_dir.clone()
    }

    /// What the member itself says its revision is, whether it has a quorum or not.
    async fn revision(&self) -> i64 {
        Feed::open(&self.way(), LIMITS.stall).await.unwrap().0.revision
    }
}

async fn saved_and_verified(series: &'static str) {
    let cluster = Cluster::start(series, 1);
    cluster.grow(3);
    for n in 0..20 {
        assert!(cluster.etcdctl(&["put", &format!("/registry/pods/{n}"), "value"]).0);
    }
    let directory = Directory::at(&cluster.home.path().join("snapshots"));
    let locked = directory.lock().unwrap();
    let revision = cluster.revision().await;
    let taken = from_member(&cluster.way(), LIMITS, directory.path(), &quietly()).await.unwrap();
    assert_eq!(names(directory.path()), Vec::<String>::new(), "unproven, it has no name");
    let proven = taken.prove(&quietly()).await.unwrap();
    let proof = proven.proof().clone();
    let path = proven.keep(&locked).unwrap();
    drop(locked);
    assert_eq!((proof.name.revision, proof.name.origin), (revision, Origin::Stream));
    let version = std::fs::read_to_string(etcd_binary(series, "version")).unwrap();
    assert_eq!(proof.etcd.as_deref(), Some(version.trim()), "{proof:?}");
    assert_honest(directory.path(), series);
    let listed = directory.list().unwrap();
    assert_eq!(listed[0].proof.as_ref(), Ok(&proof));
    let whole = verify(&path, RawCopy::Refuse, &mut |_, _| ()).unwrap();
    assert_eq!(whole.trailer, Trailer::Matches { sha256: proof.sha256 });
    // What etcd's own tool says of the same file.
    let (well, status) = cluster.etcdctl(&["snapshot", "status", &path.display().to_string(), "-w", "json"]);
    assert!(well, "{status}");
    let json = status.lines().find(|line| line.starts_with('{')).unwrap();
    let status: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(status["revision"], revision);
    assert_eq!(status["totalKey"], whole.contents.total_keys);

    // As the operator names it; and never over what exists.
    let mine = cluster.home.path().join("mine.db");
    let again = async || {
        from_member(&cluster.way(), LIMITS, cluster.home.path(), &quietly())
            .await
            .unwrap()
            .prove(&quietly())
            .await
            .unwrap()
    };
    again().await.keep_as(&mine).unwrap().unwrap();
    verify(&mine, RawCopy::Refuse, &mut |_, _| ()).unwrap();
    let error = again().await.keep_as(&mine).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let left: Vec<String> = crate::sys::files::names(cluster.home.path()).unwrap();
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
}

#[tokio::test]
async fn a_snapshot_of_etcd_3_5_is_taken_whole() {
    saved_and_verified("3.5").await;
}

#[tokio::test]
async fn a_snapshot_of_the_newest_etcd_is_taken_whole() {
    if let Some(newest) = newest_etcd() {
        saved_and_verified(newest).await;
    }
}

#[tokio::test]
async fn a_snapshot_of_etcd_3_4_is_taken_whole() {
    saved_and_verified("3.4").await;
}

async fn without_a_quorum(series: &'static str) {
    let mut cluster = Cluster::start(series, 3);
    let revision = cluster.revision().await;
    cluster.members.truncate(1);
    let began = Instant::now();
    while cluster.etcdctl(&["put", "a", "b", "--command-timeout=2s"]).0 {
        assert!(began.elapsed() < SOON, "it still has a quorum");
    }
    let dir = cluster.home.path();
    let proven = from_member(&cluster.way(), LIMITS, dir, &quietly()).await.unwrap().prove(&quietly()).await.unwrap();
    assert!(proven.proof().name.revision >= revision);
    assert!(proven.proof().raft_index.is_some());
}

#[tokio::test]
async fn a_member_of_3_5_that_lost_its_quorum_gives_its_snapshot() {
    without_a_quorum("3.5").await;
}

#[tokio::test]
async fn a_member_of_3_4_that_lost_its_quorum_gives_its_snapshot() {
    without_a_quorum("3.4").await;
}

async fn hangs_in_the_middle(series: &'static str) {
    let cluster = Cluster::start(series, 1);
    // More than all the buffers on the way hold.
    cluster.grow(30);
    let pid = Pid::from_raw(cluster.members[0].child.id() as i32);
    let stopped = Arc::new(AtomicBool::new(false));
    let stops: Progress = {
        let stopped = Arc::clone(&stopped);
        Arc::new(move |doing, _, _| {
            if doing == Doing::Receiving && !stopped.swap(true, Ordering::SeqCst) {
                kill(pid, Signal::SIGSTOP).unwrap();
            }
        })
    };
    let dir = cluster.home.path().join("snapshots");
    fs::create_dir(&dir).unwrap();
    let limits = Limits { stall: Duration::from_secs(2), ..LIMITS };
    let fault = from_member(&cluster.way(), limits, &dir, &stops).await.unwrap_err();
    assert!(
        matches!(&fault, Fault::Member(why) if why.contains("has sent no part of its snapshot for 2 s")),
        "{fault}"
    );
    assert!(stopped.load(Ordering::SeqCst));
    assert_eq!(crate::sys::files::names(&dir).unwrap(), Vec::<String>::new(), "nothing is left of it");
    // One that hangs before it says anything.
    let fault = from_member(&cluster.way(), limits, &dir, &quietly()).await.unwrap_err();
    assert!(matches!(fault, Fault::Member(_)), "{fault}");
    cluster.signal(Signal::SIGCONT);
    from_member(&cluster.way(), LIMITS, &dir, &quietly()).await.unwrap();
}

#[tokio::test]
async fn an_etcd_3_5_that_hangs_in_the_middle_of_a_stream_is_given_up() {
    hangs_in_the_middle("3.5").await;
}

#[tokio::test]
async fn an_etcd_3_4_that_hangs_in_the_middle_of_a_stream_is_given_up() {
    hangs_in_the_middle("3.4").await;
}

#[tokio::test]
async fn one_that_ends_in_the_middle_of_a_stream_leaves_nothing() {
    let cluster = Cluster::start("3.5", 1);
    cluster.grow(30);
    let pid = Pid::from_raw(cluster.members[0].child.id() as i32);
    let kills: Progress = Arc::new(move |_, _, _| {
        let _ = kill(pid, Signal::SIGKILL);
    });
    let dir = cluster.home.path().join("snapshots");
    fs::create_dir(&dir).unwrap();
    let fault = from_member(&cluster.way(), LIMITS, &dir, &kills).await.unwrap_err();
    assert!(matches!(&fault, Fault::Member(why) if why.contains("ended early")), "{fault}");
    assert_eq!(crate::sys::files::names(&dir).unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stopped_member_is_copied_and_a_running_one_is_not() {
    let mut cluster = Cluster::start("3.5", 1);
    let revision = cluster.revision().await;
    let (dir, data_dir) = (cluster.home.path().join("snapshots"), cluster.members[0].data_dir.clone());
    let log = data_dir.join("member/wal");
    let locked = Directory::at(&dir).lock().unwrap();
    let fault = from_data_dir(&data_dir, &log, &dir, &quietly()).await.unwrap_err();
    assert!(matches!(fault, Fault::InUse(_)), "{fault}");
    cluster.stop();
    let proven = from_data_dir(&data_dir, &log, &dir, &quietly()).await.unwrap().prove(&quietly()).await.unwrap();
    let proof = proven.proof().clone();
    assert_eq!((proof.name.origin, proof.name.revision), (Origin::DataDir, revision));
    assert!(proof.name.cluster != 0 && proof.member.is_some() && proof.raft_index.is_some(), "{proof:?}");
    let path = proven.keep(&locked).unwrap();
    assert!(path.display().to_string().ends_with(".raw.db"));
    assert!(Directory::at(&dir).list().unwrap()[0].proof.is_ok());
    verify(&path, RawCopy::Refuse, &mut |_, _| ()).unwrap_err();
    verify(&path, RawCopy::Allow, &mut |_, _| ()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_storage_that_hangs_delays_no_snapshot_here() {
    let cluster = Cluster::start("3.5", 1);
    // Takes every connection, and says nothing on it.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::default();
    settings.snapshots.directory = Some(cluster.home.path().join("snapshots"));
    settings.snapshots.interval = Duration::from_secs(2);
    let remote = &mut settings.snapshots.remote;
    remote.url = Some("s3://backups/etcd".into());
    remote.endpoint = Some(format!("http://{}", hung.local_addr().unwrap()));
    remote.allow_http = true;
    let credentials = cluster.home.path().join("credentials");
    fs::write(&credentials, "access-key-id = a\nsecret-access-key = b\n").unwrap();
    fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    remote.credentials_file = Some(credentials);
    // No deadline of its own ends it before the test.
    (remote.stall_timeout, remote.timeout) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let (tell, mut told) = inbox();
    let keeper = SnapshotTask::start(&settings, &Machine::default(), tell);
    let component = "kube-system/etcd".parse().unwrap();
    let member = LocalMember { component, way: cluster.way(), data_dir: None, peering: None };
    keeper.want(TaskInput { member: Some(member), answers: true, work_ahead: None });
    // Two intervals: nothing is kept before etcd has answered once more from the data on record.
    let early = tokio::time::timeout(Duration::from_secs(4), told.recv()).await;
    assert!(early.is_err() && keeper.known().unwrap().1.verified == 0, "{early:?}");
    keeper.confirm(Duration::MAX);
    for taken in 1..=3 {
        let event = tokio::time::timeout(SOON, told.recv()).await.expect("one is taken in time").unwrap();
        assert_eq!(event.kind, EventKind::Snapshot, "{event}");
        assert!(event.to.contains("taken and verified"), "{taken}: {event}");
    }
    hung.set_nonblocking(true).unwrap();
    hung.accept().expect("the store was asked meanwhile");
    let known = keeper.known().unwrap().1;
    assert!(known.verified >= 2);
    assert_eq!(known.remote.unwrap().looked, None, "and has not answered");
}

#[test]
fn a_disk_that_is_too_small_is_refused_and_one_that_fills_up_meanwhile_costs_a_try() {
    let cluster = Cluster::start("3.5", 1);
    cluster.grow(12);
    on_a_tmpfs("96m", move |disk| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = disk.join("snapshots");
        let locked = Directory::at(&dir).lock().unwrap();
        runtime.block_on(async {
            let proven =
                from_member(&cluster.way(), LIMITS, &dir, &quietly()).await.unwrap().prove(&quietly()).await.unwrap();
            proven.keep(&locked).unwrap();
            let (filler, full) = (disk.join("filler"), AtomicBool::new(false));
            let fills: Progress = Arc::new(move |_, _, _| {
                if !full.swap(true, Ordering::SeqCst) {
                    fill(&filler, 0);
                }
            });
            let fault = from_member(&cluster.way(), LIMITS, &dir, &fills).await.unwrap_err();
            assert!(matches!(&fault, Fault::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull), "{fault}");
            let fault = from_member(&cluster.way(), LIMITS, &dir, &quietly()).await.unwrap_err();
            assert!(matches!(fault, Fault::NoRoom { .. }), "{fault}");
        });
        assert_honest(&dir, "full");
        assert_eq!(names(&dir).len(), 2, "the one before is there, with its proof");
        let stale: Vec<String> = crate::sys::files::names(Path::new(&dir)).unwrap();
        assert_eq!(stale.len(), 3, "{stale:?}");
    });
}
