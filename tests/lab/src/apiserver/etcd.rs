//! The way to etcd: a connection with a deadline in every step, and the few operations the API server needs.
//!
//! The client crate leaves the TLS handshake without a deadline, so a stopped etcd would hang it for ever; we dial
//! ourselves. Certificates are read at each dial, so a renewed one is used without a restart, as with the real program.
//!
//! As the real client does, an operation that finds nobody goes on trying until its caller's deadline: with etcd gone a
//! write hangs its 34 s and a read its 60 s instead of failing at once.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use etcd_client::{
    Channel, Client, Compare, CompareOp, Error as EtcdError, GetOptions, KvClient, SortOrder, SortTarget, Txn, TxnOp,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::control::scaled;

/// For TCP and for the handshake, each.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);
/// Between two tries while nobody answers.
const RETRY: Duration = Duration::from_millis(100);
/// The real storage factory's keep-alive.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// One `--etcd-servers` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
}

impl Server {
    /// Reads `http(s)://host:port`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str) -> Result<Self> {
        let (transport, rest) = match url.split_once("://") {
            Some(("https", rest)) => (Transport::Tls, rest),
            Some(("http", rest)) => (Transport::Plain, rest),
            _ => bail!("parse \"{url}\": an etcd server is given as http(s)://host:port"),
        };
        let authority = rest.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').with_context(|| format!("address {authority}: missing port"))?;
        let port = port.parse().with_context(|| format!("address {authority}: `{port}` is no port"))?;
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, transport })
    }
}

/// Where etcd is and how to show who we are.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// All servers; the first that answers is used.
    pub servers: Vec<Server>,
    /// `--etcd-cafile`.
    pub ca: Option<PathBuf>,
    /// `--etcd-certfile` and `--etcd-keyfile`.
    pub identity: Option<(PathBuf, PathBuf)>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Dialer {
    async fn dial(&self) -> io::Result<TokioIo<Box<dyn Stream>>> {
        let mut last = io::Error::other("no etcd server is configured");
        for server in &self.servers {
            match self.dial_one(server).await {
                Ok(stream) => return Ok(TokioIo::new(stream)),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn dial_one(&self, server: &Server) -> io::Result<Box<dyn Stream>> {
        let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} took longer than 2 s"));
        let tcp = timeout(DIAL_DEADLINE, TcpStream::connect((server.host.as_str(), server.port)))
            .await
            .map_err(|_| late("connecting"))??;
        tcp.set_nodelay(true)?;
        if server.transport == Transport::Plain {
            return Ok(Box::new(tcp));
        }
        let config = self.tls().map_err(io::Error::other)?;
        let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
        let tls = timeout(DIAL_DEADLINE, TlsConnector::from(Arc::new(config)).connect(name, tcp))
            .await
            .map_err(|_| late("the TLS handshake"))??;
        Ok(Box::new(tls))
    }

    fn tls(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca {
            for certificate in CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())? {
                roots.add(certificate?)?;
            }
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate)
                    .with_context(|| certificate.display().to_string())?
                    .collect::<Result<Vec<_>, _>>()?;
                let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Why an operation on etcd did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered in time.
    Deadline,
    /// etcd answered that it cannot: no leader, no space …
    Answered(String),
}

/// A value and the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The key.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
    /// What the API calls resourceVersion.
    pub revision: i64,
}

/// What a conditional write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Done, at this revision.
    At(i64),
    /// Somebody else changed the key in between.
    Raced,
}

/// The store. Every read is linearizable.
#[derive(Clone)]
pub struct Store {
    client: KvClient,
}

impl Store {
    /// A store that dials when it is first used.
    ///
    /// # Errors
    /// The channel cannot be made; etcd itself is not asked.
    pub async fn new(dialer: Dialer) -> Result<Self> {
        let dialer = Arc::new(dialer);
        let channel = Endpoint::from_static("http://etcd")
            .http2_keep_alive_interval(scaled(KEEPALIVE.0))
            .keep_alive_timeout(scaled(KEEPALIVE.1))
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let dialer = Arc::clone(&dialer);
                async move { dialer.dial().await }
            }));
        let client = Client::from_channel(Channel::Tonic(channel), None).await?;
        Ok(Self { client: client.kv_client() })
    }

    /// One linearizable read of a key that need not exist, tried once.
    ///
    /// # Errors
    /// Why it did not come back.
    pub async fn probe(&self, key: &str, wait: Duration) -> Result<(), String> {
        let mut client = self.client.clone();
        match timeout(wait, client.get(key, None)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) => Err(words(&why)),
            Err(_) => Err("error getting data from etcd: context deadline exceeded".to_owned()),
        }
    }

    /// Reads one key.
    ///
    /// # Errors
    /// Nobody answered in time, or etcd said no.
    pub async fn get(&self, key: &str, deadline: Instant) -> Result<Option<Stored>, Failure> {
        let answer = self
            .persist(deadline, |mut client| {
                let key = key.to_owned();
                async move { client.get(key, None).await }
            })
            .await?;
        Ok(answer.kvs().first().map(stored))
    }

    /// Reads everything below a prefix, in the order of keys, and the store's revision.
    ///
    /// # Errors
    /// Nobody answered in time, or etcd said no.
    pub async fn list(&self, prefix: &str, deadline: Instant) -> Result<(Vec<Stored>, i64), Failure> {
        let answer = self
            .persist(deadline, |mut client| {
                let prefix = prefix.to_owned();
                let options = GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Ascend);
                async move { client.get(prefix, Some(options)).await }
            })
            .await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok((answer.kvs().iter().map(stored).collect(), revision))
    }

    /// Writes a key if it is still at `expected` (0: absent).
    ///
    /// # Errors
    /// Nobody answered in time, or etcd said no.
    pub async fn put(&self, key: &str, value: &[u8], expected: i64, deadline: Instant) -> Result<Written, Failure> {
        self.change(key, expected, TxnOp::put(key, value, None), deadline).await
    }

    /// Deletes a key if it is still at `expected`.
    ///
    /// # Errors
    /// Nobody answered in time, or etcd said no.
    pub async fn delete(&self, key: &str, expected: i64, deadline: Instant) -> Result<Written, Failure> {
        self.change(key, expected, TxnOp::delete(key, None), deadline).await
    }

    async fn change(&self, key: &str, expected: i64, op: TxnOp, deadline: Instant) -> Result<Written, Failure> {
        let txn = Txn::new().when([Compare::mod_revision(key, CompareOp::Equal, expected)]).and_then([op]);
        let answer = self
            .persist(deadline, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(if answer.succeeded() { Written::At(revision) } else { Written::Raced })
    }

    /// Tries until etcd answers or the deadline is reached. Repeating a write is safe: it names the revision it expects.
    async fn persist<T, F, Fut>(&self, deadline: Instant, operation: F) -> Result<T, Failure>
    where
        F: Fn(KvClient) -> Fut,
        Fut: Future<Output = Result<T, EtcdError>>,
    {
        loop {
            match timeout_at(deadline, operation(self.client.clone())).await {
                Err(_) => return Err(Failure::Deadline),
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(why)) if answered(&why) => return Err(Failure::Answered(words(&why))),
                Ok(Err(_)) if Instant::now() + RETRY >= deadline => return Err(Failure::Deadline),
                Ok(Err(_)) => sleep(RETRY).await,
            }
        }
    }
}

fn stored(pair: &etcd_client::KeyValue) -> Stored {
    Stored {
        key: String::from_utf8_lossy(pair.key()).into_owned(),
        value: pair.value().to_vec(),
        revision: pair.mod_revision(),
    }
}

/// Whether the error is etcd's own answer rather than a broken connection.
fn answered(why: &EtcdError) -> bool {
    matches!(why, EtcdError::GRpcStatus(status) if status.message().starts_with("etcdserver:"))
}

fn words(why: &EtcdError) -> String {
    match why {
        EtcdError::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls_read_as_the_flag_gives_them() {
        let server = Server::parse("https://[::1]:2379/").expect("a URL");
        assert_eq!((server.host.as_str(), server.port, server.transport), ("::1", 2379, Transport::Tls));
        for wrong in ["127.0.0.1:2379", "ftp://a:1", "https://a", "https://a:b"] {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_closed_is_tried_until_the_deadline() {
        let dialer = Dialer {
            servers: vec![Server { host: "127.0.0.1".into(), port: 1, transport: Transport::Plain }],
            ca: None,
            identity: None,
        };
        let store = Store::new(dialer).await.expect("lazy");
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(300);
        assert_eq!(store.get("/registry/x", deadline).await, Err(Failure::Deadline));
        assert!(begun.elapsed() >= Duration::from_millis(190) && begun.elapsed() < Duration::from_secs(2));
        assert!(store.probe("/registry/health", Duration::from_secs(1)).await.is_err());
    }
}
