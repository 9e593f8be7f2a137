//! One read from etcd: serializable, which this member answers alone, or linearizable, which needs the quorum.
//!
//! lastgood makes the connection, TLS included, and then hands it to the client: the client's own connector gives the
//! handshake no deadline, and a stopped etcd, whose kernel still accepts connections, would block it forever.

use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use etcd_client::{Channel, Client, Error, GetOptions};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use super::connect::{self, Address, Trail};
use super::security::Security;
use crate::model::etcd::Agreed;
use crate::model::reading::SymptomKind;
use crate::model::{Reading, Symptom};

/// The key etcd's own health check reads. That it is not there is an answer too.
const KEY: &str = "health";

/// One way to an etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdEndpoint {
    /// Where it listens for clients.
    pub(in crate::observe) address: Address,
    /// With which credentials, and whom we take.
    pub(in crate::observe) security: Security,
}

impl fmt::Display for EtcdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.security.scheme(), self.address)
    }
}

/// A client on one connection.
pub(super) struct Etcd<'a> {
    way: &'a EtcdEndpoint,
    client: Client,
    trail: Trail,
}

/// Which of the two reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// From this process' own store.
    Serializable,
    /// Agreed upon with the quorum.
    Linearizable,
}

impl<'a> Etcd<'a> {
    /// Connects within the deadline.
    pub(super) async fn connect(way: &'a EtcdEndpoint, deadline: Instant) -> Result<Self, Reading> {
        let connection = connect::connect(&way.address, &way.security, b"h2", deadline).await?;
        let stream = Arc::new(Mutex::new(Some(connection.stream)));
        let once = service_fn(move |_: Uri| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(stream.map(TokioIo::new).ok_or_else(|| io::Error::other("the connection was lost")))
        });
        let trail = connection.trail;
        let open = async {
            let channel = Endpoint::from_static("http://etcd").connect_with_connector(once).await;
            let channel = channel.map_err(|error| connect::broken(&error, &way.address, &trail))?;
            Client::from_channel(Channel::Tonic(channel), None).await.map_err(|error| meaning(way, error, &trail))
        };
        match timeout_at(deadline, open).await {
            Ok(client) => Ok(Self { client: client?, way, trail }),
            Err(_) => Err(connect::timed_out(&way.address, "accepted the connection and did not speak HTTP/2 in time")),
        }
    }

    pub(super) fn way(&self) -> &EtcdEndpoint {
        self.way
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What an error of a call means.
    pub(super) fn meaning(&self, error: Error) -> Reading {
        meaning(self.way, error, &self.trail)
    }

    /// Where a linearizable read finds the cluster: its header holds for the moment in which the quorum agreed.
    pub(super) async fn agreed(&self, deadline: Instant) -> Result<Agreed, Reading> {
        let mut client = self.client.kv_client();
        let response = match timeout_at(deadline, client.get(KEY, Some(GetOptions::new().with_count_only()))).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.meaning(error)),
            Err(_) => return Err(connect::timed_out(&self.way.address, "did not agree on a read in time")),
        };
        let Some(header) = response.header() else {
            let words = format!("{} answered a read without a header", self.way);
            return Err(Reading::Bad(Symptom::new(SymptomKind::WrongBody, words)));
        };
        Ok(Agreed {
            cluster: header.cluster_id(),
            member: header.member_id(),
            term: header.raft_term(),
            revision: header.revision(),
        })
    }

    /// Reads once, within the deadline.
    pub(super) async fn read(&self, read: Read, deadline: Instant) -> Reading {
        let options = match read {
            Read::Serializable => GetOptions::new().with_serializable().with_count_only(),
            Read::Linearizable => GetOptions::new().with_count_only(),
        };
        let mut client = self.client.kv_client();
        match timeout_at(deadline, client.get(KEY, Some(options))).await {
            Ok(Ok(_)) => Reading::Good,
            Ok(Err(error)) => meaning(self.way, error, &self.trail),
            Err(_) => connect::timed_out(&self.way.address, "accepted a read and did not answer it in time"),
        }
    }
}

/// Reads from its own store.
pub(super) async fn live(way: &EtcdEndpoint, deadline: Instant) -> Reading {
    match Etcd::connect(way, deadline).await {
        Ok(etcd) => etcd.read(Read::Serializable, deadline).await,
        Err(reading) => reading,
    }
}

/// Reads with the quorum. That fails for the cluster's sake, unless this very process does not answer by itself.
pub(super) async fn quorum(way: &EtcdEndpoint, deadline: Instant) -> Reading {
    let etcd = match Etcd::connect(way, deadline).await {
        Ok(etcd) => etcd,
        Err(reading) => return untold(way, &reading),
    };
    let (alone, agreed) =
        tokio::join!(etcd.read(Read::Serializable, deadline), etcd.read(Read::Linearizable, deadline));
    match (alone, agreed) {
        (_, Reading::Good) => Reading::Good,
        (Reading::Good, Reading::Bad(symptom)) => {
            let words = format!("it answers serializable reads, but not linearizable ones: {symptom}");
            Reading::Bad(Symptom::new(SymptomKind::ClusterWide, words))
        }
        (Reading::Good, agreed) => agreed,
        (alone, _) => untold(way, &alone),
    }
}

fn untold(way: &EtcdEndpoint, alone: &Reading) -> Reading {
    let symptom = alone.symptom().cloned();
    let symptom = symptom.unwrap_or_else(|| Symptom::new(SymptomKind::NoMeans, format!("{way} was not probed")));
    Reading::CannotTell(symptom)
}

/// Reads as a dependent would: by any of the ways its dependents have (Q13). One that works is enough, since the others
/// may be the dependent's own mistake.
pub(super) async fn as_dependent(ways: &[EtcdEndpoint], deadline: Instant) -> Reading {
    let mut first = None;
    for way in ways {
        match live(way, deadline).await {
            Reading::Good => return Reading::Good,
            reading => first = first.or(Some(reading)),
        }
    }
    match first {
        // To a dependent, not being taken is not being served.
        Some(Reading::CannotTell(symptom)) if symptom.kind != SymptomKind::NoMeans => Reading::Bad(symptom),
        Some(reading) => reading,
        None => Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, "no dependent names an address")),
    }
}

fn meaning(way: &EtcdEndpoint, error: Error, trail: &Trail) -> Reading {
    match error {
        Error::GRpcStatus(status) => of_status(way, &status, trail),
        Error::TransportError(error) => connect::broken(&error, &way.address, trail),
        error => Reading::Bad(Symptom::new(SymptomKind::Broken, format!("{way}: {error}"))),
    }
}

fn of_status(way: &EtcdEndpoint, status: &Status, trail: &Trail) -> Reading {
    // A status with a cause was made on our side, of a transport that broke.
    if let Some(cause) = std::error::Error::source(status) {
        return connect::broken(cause, &way.address, trail);
    }
    let words = format!("{way} answered a read with {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            Reading::CannotTell(Symptom::new(SymptomKind::Unauthorized, words))
        }
        // A learner serves no linearizable reads, and is well.
        _ if status.message().contains("learner") => Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, words)),
        Code::Unimplemented => Reading::Bad(Symptom::new(SymptomKind::WrongBody, words)),
        _ => Reading::Bad(Symptom::new(SymptomKind::Unhealthy, words)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;
    use crate::observe::probes::security::{Identity, Trust};
    use crate::observe::testing::{Pki, etcd_binary};

    const TIMEOUT: Duration = Duration::from_millis(1500);

    /// A real etcd on free loopback ports, killed with this value.
    struct Member {
        child: Child,
        port: u16,
        _dir: tempfile::TempDir,
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

    impl Member {
        fn start(scheme: &str, flags: &[String]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (port, peer) = (free_port(), free_port());
            let client = format!("{scheme}://127.0.0.1:{port}");
            let cluster = format!("m0=http://127.0.0.1:{peer}");
            let child = Command::new(etcd_binary("3.5", "etcd"))
                .args(["--name=m0", "--log-level=error"])
                .arg(format!("--data-dir={}", dir.path().join("data").display()))
                .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
                .args([
                    format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                    format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                ])
                .arg(format!("--initial-cluster={cluster}"))
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            Self { child, port, _dir: dir }
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        }

        /// Returns once no thread of it runs any more.
        async fn stop(&self) {
            self.signal(Signal::SIGSTOP);
            let threads = format!("/proc/{}/task", self.child.id());
            let runs = || {
                let states = std::fs::read_dir(&threads).unwrap().flatten();
                let mut states = states.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
                states.any(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T'))
            };
            while runs() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }

        fn way(&self, security: Security) -> EtcdEndpoint {
            EtcdEndpoint { address: Address { host: "127.0.0.1".into(), port: self.port }, security }
        }
    }

    fn soon() -> Instant {
        Instant::now() + TIMEOUT
    }

    /// Answers alone and with its quorum: a fresh member elects itself first.
    async fn serving(way: &EtcdEndpoint) {
        let until = Instant::now() + Duration::from_secs(20);
        while live(way, soon()).await != Reading::Good || quorum(way, soon()).await != Reading::Good {
            assert!(Instant::now() < until, "etcd did not come up: {:?}", live(way, soon()).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn kind(reading: &Reading) -> (bool, SymptomKind) {
        match reading {
            Reading::Good => panic!("good"),
            Reading::Bad(symptom) => (true, symptom.kind),
            Reading::CannotTell(symptom) => (false, symptom.kind),
        }
    }

    #[tokio::test]
    async fn a_stopped_etcd_times_out_every_time_and_answers_when_it_goes_on() {
        let member = Member::start("http", &[]);
        let way = member.way(Security::Plain);
        serving(&way).await;
        member.stop().await;
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(kind(&live(&way, soon()).await), (true, SymptomKind::TimedOut));
            assert_eq!(kind(&quorum(&way, soon()).await), (false, SymptomKind::TimedOut), "of itself it says nothing");
            assert!(began.elapsed() < 2 * TIMEOUT + Duration::from_millis(500), "{:?}", began.elapsed());
        }
        member.signal(Signal::SIGCONT);
        serving(&way).await;
        drop(member);
        assert_eq!(kind(&live(&way, soon()).await), (true, SymptomKind::Refused));
    }

    #[tokio::test]
    async fn a_member_without_its_quorum_is_well_by_itself() {
        // It was a cluster of one that had served, and then lost its quorum to a member that never came.
        let member = Member::start("http", &[]);
        let way = member.way(Security::Plain);
        serving(&way).await;
        let etcdctl = etcd_binary("3.5", "etcdctl");
        let added = Command::new(etcdctl)
            .env("ETCDCTL_API", "3")
            .args([
                format!("--endpoints=http://127.0.0.1:{}", member.port),
                "member".into(),
                "add".into(),
                "ghost".into(),
            ])
            .arg(format!("--peer-urls=http://127.0.0.1:{}", free_port()))
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let until = Instant::now() + Duration::from_secs(15);
        let reading = loop {
            let reading = quorum(&way, soon()).await;
            if reading != Reading::Good {
                break reading;
            }
            assert!(Instant::now() < until, "it never lost its quorum");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(kind(&reading), (true, SymptomKind::ClusterWide), "{reading:?}");
        assert_eq!(live(&way, soon()).await, Reading::Good);
    }

    #[tokio::test]
    async fn one_look_tells_the_member_and_of_one_that_is_gone_what_the_others_say() {
        use crate::model::etcd::Member as Listed;
        use crate::observe::probes::http::Get;
        use crate::observe::probes::member::{MemberQuestion, at_once};

        let ask = |port: u16| {
            let address = Address { host: "127.0.0.1".into(), port };
            let metrics = Get {
                address: address.clone(),
                security: Security::Plain,
                path: "/metrics".into(),
                headers: Vec::new(),
                max_body: 1 << 20,
            };
            let way = EtcdEndpoint { address, security: Security::Plain };
            MemberQuestion { way, metrics, peer: Security::Plain, prefix: "/registry".into() }
        };
        let listed = |id: u64, port: u16| Listed {
            id,
            name: format!("m{id}"),
            peer_urls: Vec::new(),
            client_urls: vec![format!("http://127.0.0.1:{port}")],
            learner: false,
        };
        let member = Member::start("http", &[]);
        serving(&member.way(Security::Plain)).await;
        let status = at_once(&ask(member.port), None, TIMEOUT).await;
        let own = status.own.as_ref().unwrap();
        assert!(own.version.starts_with("3.5.") && own.leader == Some(own.member), "{own:?}");
        assert_eq!(status.agreed.as_ref().map(|agreed| agreed.member), Ok(own.member));
        let every = status.metrics.as_ref().unwrap().every_fsync.unwrap();
        assert!(every.count > 0 && every.p50.at_most <= every.p99.at_most, "{every:?}");

        // A process that is stopped: the kernel takes its connections.
        let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let known = vec![listed(1, free_port()), listed(2, member.port), listed(3, hung.local_addr().unwrap().port())];
        let away = ask(free_port());
        let gone = at_once(&away, Some((1, known)), TIMEOUT);
        let gone = tokio::time::timeout(20 * TIMEOUT, gone).await.expect("it hangs with a member that does");
        assert_eq!(gone.own.as_ref().map_err(|symptom| symptom.kind), Err(SymptomKind::Refused));
        assert!(gone.others[&2].is_ok(), "{gone:?}");
        assert_eq!(gone.others[&3].as_ref().unwrap_err().kind, SymptomKind::TimedOut);
        assert!(!gone.others.contains_key(&1), "its own is no other");
        assert!(gone.elsewhere.unwrap().contains_key(&2), "and it has a quorum of its own");
    }

    #[tokio::test]
    async fn a_store_tells_whose_it_is_while_its_member_has_a_quorum() {
        use std::collections::BTreeSet;

        use crate::config::settings::Probes;
        use crate::model::ComponentId;
        use crate::model::etcd_data::KubeSystem;
        use crate::observe::probes::http::Get;
        use crate::observe::probes::member::{MemberQuestion, Members, look};

        let member = Member::start("http", &[]);
        let way = member.way(Security::Plain);
        serving(&way).await;
        let seen =
            async |prefix: &str| look(&way, prefix, soon()).await.store.map(|store| (store.prefix, store.namespace));
        let put = |args: &[&str]| {
            let mut etcdctl = Command::new(etcd_binary("3.5", "etcdctl"));
            etcdctl.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://127.0.0.1:{}", member.port));
            let out = etcdctl.args(args).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        };
        assert_eq!(seen("/registry").await, Some(("/registry".into(), KubeSystem::Absent)));
        put(&["put", "/registry/namespaces/kube-system-2", "{}"]);
        assert_eq!(seen("/registry").await, Some(("/registry".into(), KubeSystem::Absent)), "another namespace");
        let namespace = r#"{"kind":"Namespace","metadata":{"name":"kube-system","uid":"u-1"}}"#;
        put(&["put", "/registry/namespaces/kube-system", namespace]);
        let present = |uid: Option<&str>| KubeSystem::Present { uid: uid.map(str::to_owned), created: 3 };
        assert_eq!(seen("/registry").await, Some(("/registry".into(), present(Some("u-1")))));
        assert_eq!(seen("/other").await, Some(("/other".into(), KubeSystem::Absent)));
        put(&["put", "/registry/namespaces/kube-system", "k8s:enc:secretbox:v1:key:x"]);
        assert_eq!(seen("/registry").await, Some(("/registry".into(), present(None))), "encrypted");
        // A first answer is confirmed at once, however long an interval is.
        let metrics = Get {
            address: way.address.clone(),
            security: Security::Plain,
            path: "/metrics".into(),
            headers: Vec::new(),
            max_body: 1 << 20,
        };
        let ask = MemberQuestion { way: way.clone(), metrics, peer: Security::Plain, prefix: "/registry".into() };
        let id = ComponentId::system("etcd");
        let news = Arc::new(tokio::sync::Notify::new());
        let settings = Probes { interval: Duration::from_secs(3600), timeout: TIMEOUT };
        let mut members =
            Members::new(settings, Arc::clone(&news), crate::observe::tempo::Tempo::new(Arc::clone(&news)));
        members.plan([(id.clone(), ask)].into());
        let mut answers = BTreeSet::new();
        for _ in 0..2 {
            let told = tokio::time::timeout(Duration::from_secs(20), news.notified()).await;
            told.expect("an answer that nobody hears of");
            answers.extend(members.answers().remove(&id).map(|status| status.at));
        }
        assert_eq!(answers.len(), 2, "each is seen");
        // Its quorum is gone with a member that never comes.
        put(&["member", "add", "ghost", "--peer-urls=http://127.0.0.1:9"]);
        let until = Instant::now() + Duration::from_secs(15);
        while seen("/registry").await.is_some() {
            assert!(Instant::now() < until, "it never lost its quorum");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        member.stop().await;
        assert_eq!(seen("/registry").await, None);
    }

    fn mutual(pki: &Pki, certificate: &str) -> Vec<String> {
        let path = |name: &str| pki.path(name).display().to_string();
        vec![
            format!("--cert-file={}", path(&format!("{certificate}.crt"))),
            format!("--key-file={}", path(&format!("{certificate}.key"))),
            format!("--trusted-ca-file={}", path("ca.crt")),
            "--client-cert-auth=true".into(),
        ]
    }

    #[tokio::test]
    async fn mutual_tls_is_looked_at_with_the_dependents_eyes() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        for name in ["server", "client"] {
            pki.sign(name, "ca", 5);
        }
        pki.authority("other");
        pki.sign("stranger", "other", 5);
        pki.sign("expired", "ca", -1);
        let member = Member::start("https", &mutual(&pki, "server"));
        let way = |identities: Vec<Identity>, trust: Trust| member.way(Security::Tls { identities, trust });
        let authority = |name: &str| Trust::Authority(pki.path(name));
        serving(&way(vec![pki.identity("client")], Trust::Anyone)).await;

        let good = way(vec![pki.identity("client")], authority("ca.crt"));
        assert_eq!(as_dependent(std::slice::from_ref(&good), soon()).await, Reading::Good);
        let mistrusting = way(vec![pki.identity("client")], authority("other.crt"));
        assert_eq!(kind(&as_dependent(std::slice::from_ref(&mistrusting), soon()).await), (true, SymptomKind::Tls));
        assert_eq!(as_dependent(&[mistrusting, good], soon()).await, Reading::Good, "one way that works is enough");

        let stranger = way(vec![pki.identity("stranger")], authority("ca.crt"));
        assert_eq!(kind(&live(&stranger, soon()).await), (false, SymptomKind::Tls), "whoever refuses us lives");
        assert_eq!(
            kind(&as_dependent(&[stranger], soon()).await),
            (true, SymptomKind::Tls),
            "to a dependent it does not serve"
        );
        let late = way(vec![pki.identity("expired")], authority("ca.crt"));
        assert_eq!(kind(&as_dependent(&[late], soon()).await), (true, SymptomKind::CertificateDates));
        let keyless = Identity { certificate: pki.path("client.crt"), key: Path::new("/nowhere.key").into() };
        assert_eq!(
            kind(&as_dependent(&[way(vec![keyless], authority("ca.crt"))], soon()).await),
            (false, SymptomKind::NoMeans)
        );
        assert!(kind(&live(&member.way(Security::Plain), soon()).await).0);

        member.stop().await;
        let began = Instant::now();
        let stopped = live(&way(vec![pki.identity("client")], Trust::Anyone), soon()).await;
        assert_eq!(kind(&stopped), (true, SymptomKind::TimedOut), "the handshake has a deadline too");
        assert!(began.elapsed() < TIMEOUT + Duration::from_millis(500), "{:?}", began.elapsed());
        member.signal(Signal::SIGCONT);
    }
}
