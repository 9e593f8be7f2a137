//! Answers the agents of the other masters: `GET /v1/report` over TLS with etcd's peer certificates, at the addresses where
//! etcd listens for its peers.
//!
//! ```text
//!   accept ─▶ a slot ─▶ handshake (verifier) ─▶ one request ─▶ 200, 404, 405
//!              none: closed   └── 5 s ──┘  └── 5 s, 8 KiB ──┘
//! ```

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::master::Master;
use super::report::Reporter;
use super::server_tls::{ServerTls, Wanted};
use super::slots::Slots;
use super::verifier::Allowed;
use crate::model::document::Versioned;

/// Where a report is.
pub(super) const REPORT: &str = "/v1/report";
/// For the handshake, and for the request with its answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// Of a request with its headers.
const MAX_REQUEST: usize = 8 << 10;
/// Before a port that is taken, or an address that is not there, is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// What lasts for so long is reported.
const LASTING: Duration = Duration::from_secs(30);
/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// What the server shares with the rest of the feature.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) reporter: Reporter,
    tls: ServerTls,
    slots: Slots,
    /// Why it does not answer, and since when.
    trouble: Mutex<Option<(Instant, String)>>,
}

impl Shared {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { reporter, tls: ServerTls::default(), slots: Slots::default(), trouble: Mutex::default() }
    }

    /// Why it does not answer; nothing where it does.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, why)| why.clone())
    }

    /// The same where it is so for a while: at boot an address of etcd's may come late.
    pub(super) fn lasting_trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().filter(|(since, _)| since.elapsed() >= LASTING).map(|(_, why)| why.clone())
    }

    fn note(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let since = trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *trouble = why.map(|why| (since, why));
    }
}

/// Where it listens, or why it does not.
type Place = Result<BTreeSet<IpAddr>, String>;

fn place_of(master: &Master) -> Place {
    master.peering.security.as_ref().map(|_| master.peering.listens.clone()).map_err(Clone::clone)
}

/// Serves until nobody hands it masters any more.
pub(super) async fn serve(shared: Arc<Shared>, port: u16, mut masters: watch::Receiver<Option<Master>>) {
    let mut accepting = JoinSet::new();
    loop {
        let current = masters.clone();
        let place = masters.borrow_and_update().as_ref().map(place_of);
        let served = async {
            let bound = match &place {
                None => {
                    shared.note(None);
                    return std::future::pending().await;
                }
                Some(Ok(listens)) => bind(listens, port).await,
                Some(Err(why)) => Err(why.clone()),
            };
            match bound {
                Ok(listeners) => accept_all(&shared, listeners, &current, &mut accepting).await,
                Err(why) => {
                    shared.note(Some(why));
                    sleep(RETRY).await;
                }
            }
        };
        // A change of the members or of certificates changes only who may ask, which each connection looks up.
        let another = |now: &Option<Master>| now.as_ref().map(place_of) != place;
        let goes_on = tokio::select! {
            changed = masters.wait_for(another) => changed.is_ok(),
            () = served => true,
        };
        // The port is free again when this returns.
        accepting.shutdown().await;
        if !goes_on {
            return;
        }
    }
}

/// # Errors
/// A sentence: which address cannot be bound, and why.
async fn bind(listens: &BTreeSet<IpAddr>, port: u16) -> Result<Vec<TcpListener>, String> {
    if listens.is_empty() {
        return Err("--listen-peer-urls of etcd names no address".to_owned());
    }
    let mut listeners = Vec::new();
    for ip in listens {
        let address = SocketAddr::from((*ip, port));
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.map_err(|error| format!("{address} cannot be listened on: {error}"))?);
    }
    Ok(listeners)
}

/// Accepts at every address, until one of them fails for good.
async fn accept_all(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    masters: &watch::Receiver<Option<Master>>,
    accepting: &mut JoinSet<io::Error>,
) {
    shared.note(None);
    // What cannot be read is known before anybody asks.
    let _ = config(shared, masters).await;
    for listener in listeners {
        accepting.spawn(accept(Arc::clone(shared), listener, masters.clone()));
    }
    if let Some(Ok(error)) = accepting.join_next().await {
        shared.note(Some(format!("the port of the agents accepts no connection: {error}")));
        sleep(PAUSE).await;
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, masters: watch::Receiver<Option<Master>>) -> io::Error {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of descriptors or memory, or a client that is gone: each passes.
            Err(error) if matches!(error.raw_os_error(), Some(23 | 24 | 12 | 105)) => {
                sleep(PAUSE).await;
                continue;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => return error,
        };
        let from = from.ip().to_canonical();
        let is_member = masters.borrow().as_ref().is_some_and(|master| master.hosts().contains(&from.to_string()));
        let Some(slot) = shared.slots.take(from, is_member) else { continue };
        let (shared, masters) = (Arc::clone(&shared), masters.clone());
        connections.spawn(async move {
            let _slot = slot;
            if let Err(why) = connection(&shared, stream, &masters).await {
                tracing::debug!(%from, %why, "a connection of another master ended");
            }
        });
    }
}

/// TLS as it is wanted now.
async fn config(
    shared: &Shared,
    masters: &watch::Receiver<Option<Master>>,
) -> Result<Arc<rustls::ServerConfig>, String> {
    let master = masters.borrow().clone().ok_or("etcd has no other member any more")?;
    let security = master.peering.security.clone()?;
    let allowed = Allowed::of(&master, &security);
    let config = shared.tls.config(&Wanted { security, allowed }).await;
    shared.note(config.as_ref().err().cloned());
    config
}

async fn connection(
    shared: &Shared,
    stream: TcpStream,
    masters: &watch::Receiver<Option<Master>>,
) -> Result<(), String> {
    let handshake = async {
        let config = config(shared, masters).await?;
        TlsAcceptor::from(config).accept(stream).await.map_err(|error| format!("the TLS handshake failed: {error}"))
    };
    let stream = timeout(DEADLINE, handshake).await.map_err(|_| "the TLS handshake took too long")??;
    let service = service_fn(|request| answer(&shared.reporter, request));
    let mut http = http1::Builder::new();
    let serving = http.keep_alive(false).max_buf_size(MAX_REQUEST).serve_connection(TokioIo::new(stream), service);
    let served = timeout(DEADLINE, serving).await.map_err(|_| "the request took too long")?;
    served.map_err(|error| error.to_string())
}

async fn answer(reporter: &Reporter, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, serde_json::Error> {
    let mut response = Response::new(Full::default());
    match (request.method(), request.uri().path()) {
        (&Method::GET, REPORT) => match reporter.report().await {
            Some(report) => {
                let body = serde_json::to_vec(&Versioned::from(&report))?;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                *response.body_mut() = Full::from(body);
            }
            None => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        },
        (_, REPORT) => {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::memory::Machine;
    use crate::model::policy::Mode;

    #[tokio::test(start_paused = true)]
    async fn what_keeps_it_from_answering_is_reported_when_it_lasts() {
        let shared = Shared::new(Reporter::new(&Machine::default(), Mode::Act));
        let taken = || Some("the port is taken".to_owned());
        shared.note(taken());
        tokio::time::advance(LASTING / 2).await;
        shared.note(Some("the address is not there".to_owned()));
        assert_eq!((shared.trouble().is_some(), shared.lasting_trouble()), (true, None));
        tokio::time::advance(LASTING / 2).await;
        assert!(shared.lasting_trouble().is_some(), "for one reason or another");
        shared.note(None);
        shared.note(taken());
        assert_eq!(shared.lasting_trouble(), None, "it answered meanwhile");
    }
}
