//! A cluster of three masters on the loopback: certificates of one CA, addresses 127.0.0.1 to 127.0.0.3.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::report;
use crate::model::etcd::Member;
use crate::model::memory::Machine;
use crate::model::policy::Mode;
use crate::model::{ComponentId, Manifest, Symptom};
use crate::observe::testing::Pki;
use crate::observe::{KnownAddresses, PeerAnswer, PeerSecurity, Peering, ask_peer};
use crate::peer::master::Master;
use crate::peer::report::Reporter;
use crate::peer::server::{self, REPORT, Shared};

pub(super) const CLUSTER: u64 = 0xc1;
pub(super) const BOTH: &str = "extendedKeyUsage=serverAuth,clientAuth\n";

/// The member of this number.
pub(super) fn member(number: u8) -> Member {
    Member {
        id: number.into(),
        name: format!("m{number}"),
        peer_urls: vec![format!("https://127.0.0.{number}:2380")],
        client_urls: Vec::new(),
        learner: false,
    }
}

pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) pki: Pki,
    pub(super) port: u16,
}

impl Lab {
    /// With a peer certificate for each member.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        for number in 1..=3 {
            pki.sign_with(&format!("m{number}"), "ca", 5, &format!("subjectAltName=IP:127.0.0.{number}\n{BOTH}"));
        }
        // One that is free at every address of the loopback.
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        Self { dir, pki, port }
    }

    /// How an etcd with these certificates meets its peers.
    pub(super) fn peering(&self, number: u8, certificate: &str, more: &str) -> Peering {
        let path = |name: String| self.pki.path(&name).display().to_string();
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, namespace: kube-system}}\nspec: {{containers: [{{name: etcd, \
             image: i, command: [etcd, '--listen-peer-urls=https://127.0.0.{number}:2380', '--peer-cert-file={}', \
             '--peer-key-file={}', '--peer-trusted-ca-file={}'{more}]}}]}}",
            path(format!("{certificate}.crt")),
            path(format!("{certificate}.key")),
            path("ca.crt".to_owned())
        );
        Peering::of(&Manifest::parse(text.as_bytes().into()).unwrap())
    }

    pub(super) fn security(&self, certificate: &str) -> PeerSecurity {
        self.peering(1, certificate, "").security.unwrap()
    }

    pub(super) fn master(&self, number: u8, more: &str) -> Master {
        Master {
            etcd: ComponentId::system("etcd"),
            cluster: CLUSTER,
            own: number.into(),
            members: [1, 2, 3].map(member).into(),
            peering: self.peering(number, &format!("m{number}"), more),
        }
    }

    /// Starts the server of a master.
    pub(super) fn serve(&self, master: Master) -> Serving {
        let machine = Machine { machine_id: "id".into(), node_name: format!("master-{}", master.own) };
        let reporter = Reporter::new(&machine, Mode::Act);
        reporter.note_found(report("", CLUSTER, master.own).etcd, None, Vec::new());
        let shared = Arc::new(Shared::new(reporter));
        let (masters, changes) = watch::channel(Some(master));
        let mut task = JoinSet::new();
        task.spawn(server::serve(Arc::clone(&shared), self.port, changes));
        Serving { shared, masters, _task: task }
    }

    /// Asks the server of the first master with this certificate, until it listens.
    pub(super) async fn ask(&self, certificate: &str, path: &str) -> Result<PeerAnswer, Symptom> {
        let security = self.security(certificate);
        self.listens(1).await;
        let within = std::time::Duration::from_secs(10);
        ask_peer(&security, &KnownAddresses::default(), ("127.0.0.1", self.port), path, 65536, within).await
    }

    pub(super) async fn reports_to(&self, certificate: &str) -> bool {
        self.ask(certificate, REPORT).await.is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until somebody listens at the address of a master.
    pub(super) async fn listens(&self, number: u8) {
        for _ in 0..500 {
            if TcpStream::connect(self.at(number)).await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("nobody listens at {}", self.at(number));
    }

    pub(super) fn at(&self, number: u8) -> SocketAddr {
        ([127, 0, 0, number], self.port).into()
    }

    /// A connection from another address of the loopback.
    pub(super) async fn from(&self, source: IpAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.connect(self.at(1)).await
    }

    /// A connection to the first master, as the second one.
    pub(super) async fn tls(&self, source: IpAddr) -> TlsStream<TcpStream> {
        self.listens(1).await;
        let read = |name: &str| self.pki.read(name);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&read("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let chain = vec![CertificateDer::from_pem_slice(&read("m2.crt")).unwrap()];
        let config =
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&read("m2.key")).unwrap()).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.from(source).await.unwrap()).await.unwrap()
    }
}

pub(super) struct Serving {
    pub(super) shared: Arc<Shared>,
    pub(super) masters: watch::Sender<Option<Master>>,
    _task: JoinSet<()>,
}
