//! A real S3 server (moto: it checks signatures and supports multipart and paged listings), behind a proxy that can
//! drop, stall or corrupt an upload, corrupt downloads, or speak TLS.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::config::Settings;
use crate::observe::testing::installed;

/// What it says of itself.
#[derive(Debug, Deserialize)]
struct Told {
    port: u16,
    access_key: String,
    secret: String,
}

/// The server. It ends with this value.
pub(crate) struct Server {
    child: Child,
    _input: Option<ChildStdin>,
    pub(crate) port: u16,
    pub(crate) access_key: String,
    pub(crate) secret: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3/server.py");
        let mut child = Command::new(installed("moto/bin/python"))
            .arg(script)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Told { port, access_key, secret } = serde_json::from_str(&line).expect("the server tells its port");
        Self { _input: child.stdin.take(), child, port, access_key, secret }
    }

    /// At once, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Settings that go there by a port, with a directory of snapshots of their own.
    pub(crate) fn settings(&self, home: &Path, port: u16) -> Settings {
        let mut settings = Settings::default();
        settings.snapshots.directory = Some(home.join("snapshots"));
        settings.snapshots.interval = std::time::Duration::from_secs(30);
        let remote = &mut settings.snapshots.remote;
        remote.url = Some("s3://backups/etcd".into());
        remote.endpoint = Some(format!("http://127.0.0.1:{port}"));
        remote.allow_http = true;
        remote.credentials_file = Some(home.join("credentials"));
        self.opens_by(home, &self.secret);
        settings
    }

    /// Writes the file of credentials, with this secret.
    pub(crate) fn opens_by(&self, home: &Path, secret: &str) {
        let text = format!("access-key-id = {}\nsecret-access-key = {secret}\n", self.access_key);
        let file = home.join("credentials");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The state of the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    Open,
    /// Connections break, and new ones with them.
    Shut,
    /// Connections are taken, and nothing moves.
    Hung,
    /// The middle of every large answer is changed.
    Garbling,
    /// The end of every answer that holds this is.
    GarblingWhere(&'static str),
    /// What is put under a name that holds this gets no further, and its connection breaks when this ends.
    HoldingBack(&'static str),
}

/// The door. It is open until it is told otherwise.
pub(crate) struct Door {
    pub(crate) port: u16,
    state: Arc<State>,
    _task: JoinSet<()>,
}

struct State {
    stands: watch::Sender<Stands>,
    /// Bytes that went in, and the number of them at which it shuts.
    passed: AtomicU64,
    shut_at: AtomicU64,
    held_back: Notify,
}

impl Door {
    pub(crate) async fn to(port: u16) -> Self {
        Self::make(port, None).await
    }

    pub(crate) async fn with_tls(port: u16, acceptor: TlsAcceptor) -> Self {
        Self::make(port, Some(acceptor)).await
    }

    async fn make(to: u16, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            stands: watch::Sender::new(Stands::Open),
            passed: AtomicU64::new(0),
            shut_at: AtomicU64::new(u64::MAX),
            held_back: Notify::new(),
        });
        let mut task = JoinSet::new();
        let of = Arc::clone(&state);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, acceptor) = (Arc::clone(&of), acceptor.clone());
                connections.spawn(async move {
                    let mut stands = state.stands.subscribe();
                    if *stands.borrow() == Stands::Shut {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let through = async {
                        match acceptor {
                            Some(acceptor) => {
                                let Ok(stream) = acceptor.accept(stream).await else { return };
                                state.pass(stream, server).await;
                            }
                            None => state.pass(stream, server).await,
                        }
                    };
                    tokio::select! {
                        () = through => {}
                        _ = stands.wait_for(|stands| *stands == Stands::Shut) => {}
                    }
                });
            }
        });
        Self { port, state, _task: task }
    }

    pub(crate) fn set(&self, stands: Stands) {
        self.state.shut_at.store(u64::MAX, Ordering::SeqCst);
        self.state.stands.send_replace(stands);
    }

    /// After so many more bytes.
    pub(crate) fn shut_after(&self, bytes: u64) {
        self.state.shut_at.store(self.passed() + bytes, Ordering::SeqCst);
    }

    pub(crate) fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// When something is held back.
    pub(crate) async fn holds_back(&self) {
        self.state.held_back.notified().await;
    }

    /// In this state.
    pub(crate) async fn stands(&self, wanted: Stands) {
        self.state.stands.subscribe().wait_for(|stands| *stands == wanted).await.unwrap();
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|at| at == text.as_bytes())
}

impl State {
    async fn pass<S: AsyncRead + AsyncWrite>(&self, client: S, server: TcpStream) {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_server, mut to_server) = server.into_split();
        let there = async {
            let mut bytes = vec![0; 16 << 10];
            loop {
                let Ok(count @ 1..) = from_client.read(&mut bytes).await else { return };
                self.moving().await;
                let stands = *self.stands.borrow();
                if let Stands::HoldingBack(text) = stands
                    && bytes[..count].starts_with(b"PUT ")
                    && holds(&bytes[..count], text)
                {
                    self.held_back.notify_one();
                    let _ = self.stands.subscribe().wait_for(|now| *now != stands).await;
                    return;
                }
                let passed = self.passed.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
                if passed >= self.shut_at.load(Ordering::SeqCst) {
                    self.stands.send_replace(Stands::Shut);
                    return;
                }
                if to_server.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        let back = async {
            let mut bytes = vec![0; 16 << 10];
            loop {
                let Ok(count @ 1..) = from_server.read(&mut bytes).await else { return };
                self.moving().await;
                let garbling = match *self.stands.borrow() {
                    Stands::Garbling => count > 8 << 10,
                    Stands::GarblingWhere(text) => holds(&bytes[..count], text),
                    Stands::Open | Stands::Shut | Stands::Hung | Stands::HoldingBack(_) => false,
                };
                if garbling {
                    bytes[count - 1] ^= 1;
                }
                if to_client.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = there => {}
            () = back => {}
        }
    }

    async fn moving(&self) {
        let _ = self.stands.subscribe().wait_for(|stands| *stands != Stands::Hung).await;
    }
}
