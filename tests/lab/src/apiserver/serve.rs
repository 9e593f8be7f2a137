//! The HTTPS side that all stand-ins share: listener, TLS, connections, and what the fault switch does to them.
//!
//! ```text
//!  bind ──▶ accept ──▶ handshake (10 s) ──▶ requests … ──▶ closed by the client, by `refuse`, or at the end
//!             │ hang: left to the kernel's backlog; requests on open connections wait
//!             │ refuse: listener and connections closed, bound again afterwards
//!             ▼ stop: listener closed; drained when the last connection is gone
//! ```

use std::{convert::Infallible, io::ErrorKind, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Bytes, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::control::{Faults, Reach, Requests};

/// A peer that does not finish its handshake in this time is dropped.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// As the real API server: etcd's limit on a request is about this.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// How often a port that is still held by somebody is asked for again after `refuse`.
const REBIND_RETRY: Duration = Duration::from_millis(100);

/// One request, read completely.
#[derive(Debug, Clone)]
pub struct Call {
    /// The verb on the wire.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    query: Vec<(String, String)>,
    /// Whether an `Authorization` header was sent.
    pub authorization: Option<String>,
    /// The certificates the client showed, its own first; empty without any.
    pub certificates: Arc<Vec<CertificateDer<'static>>>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A plain GET of a path with an optional query, by nobody in particular.
    #[must_use]
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: Method::GET,
            path: path.to_owned(),
            query: parse_query(query),
            authorization: None,
            certificates: Arc::default(),
            body: Bytes::new(),
        }
    }

    /// Every value of one query parameter, in order.
    pub fn query<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn parse_query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (percent_decoded(key), percent_decoded(value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A text, as the health endpoints give it.
    #[must_use]
    pub fn text(status: StatusCode, text: String) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.into_bytes() }
    }

    /// An object.
    #[must_use]
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: format!("{value}\n").into_bytes() }
    }
}

/// What answers the requests.
pub type Answerer = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// Binds the port.
///
/// # Errors
/// The real programs' sentence, `bind: address already in use` among them.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|why| {
        let reason = match why.kind() {
            ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
            ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
            ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
            _ => format!("bind: {why}"),
        };
        anyhow!("failed to create listener: failed to listen on {address}: listen tcp {address}: {reason}")
    })
}

/// A server that runs; [`Serving::stop`] ends it.
#[derive(Debug)]
pub struct Serving {
    stop: watch::Sender<bool>,
    gone: mpsc::Receiver<Infallible>,
}

impl Serving {
    /// Closes the listener and waits for the open connections, at most `drain`. Requests on them are still answered.
    pub async fn stop(mut self, drain: Duration) {
        self.stop.send_replace(true);
        // Every task holds a sender; the channel closes with the last of them.
        drop(timeout(drain, self.gone.recv()).await);
    }
}

/// Serves on a bound port until it is stopped, under the given faults.
pub fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    faults: watch::Receiver<Faults>,
    answer: Answerer,
) -> Serving {
    let (stop, stopped) = watch::channel(false);
    let (here, gone) = mpsc::channel(1);
    let port = Port { tls: TlsAcceptor::from(tls), faults, answer, _here: here };
    tokio::spawn(accept(listener, port, stopped));
    Serving { stop, gone }
}

#[derive(Clone)]
struct Port {
    tls: TlsAcceptor,
    faults: watch::Receiver<Faults>,
    answer: Answerer,
    /// Held, never used: as long as one stands, somebody is connected.
    _here: mpsc::Sender<Infallible>,
}

async fn accept(listener: TcpListener, mut port: Port, mut stopped: watch::Receiver<bool>) {
    let address = listener.local_addr();
    let mut listener = Some(listener);
    loop {
        let reach = port.faults.borrow_and_update().reach;
        if reach == Reach::Refusing {
            listener = None;
        } else if listener.is_none() {
            let Ok(address) = address else { return };
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(_) => sleep(REBIND_RETRY).await,
            }
            continue;
        }
        let incoming = async {
            match (&listener, reach) {
                (Some(listener), Reach::Open) => listener.accept().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = incoming => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, port.clone()));
                }
                // Out of descriptors or memory: try again when something has been given back.
                Err(_) => sleep(REBIND_RETRY).await,
            },
            changed = port.faults.changed() => if changed.is_err() { return },
            // The guard must not live on into the other branches' waits.
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => return,
        }
    }
}

async fn connection(stream: TcpStream, port: Port) {
    drop(stream.set_nodelay(true));
    let Ok(Ok(stream)) = timeout(HANDSHAKE_DEADLINE, port.tls.accept(stream)).await else {
        return;
    };
    let shown = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    let certificates = Arc::new(shown.into_iter().map(CertificateDer::into_owned).collect::<Vec<_>>());
    let mut refusing = port.faults.clone();
    let service = service_fn(|request| {
        let (port, certificates) = (port.clone(), Arc::clone(&certificates));
        async move { Ok::<_, Infallible>(respond(request, certificates, port).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Idle connections stay: what keeps one open is what holds up a drain.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a client leaves is its own affair.
        _ = served => {}
        _ = refusing.wait_for(|faults| faults.reach == Reach::Refusing) => {}
    }
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    certificates: Arc<Vec<CertificateDer<'static>>>,
    mut port: Port,
) -> Response<Full<Bytes>> {
    let slow = match port.faults.wait_for(|faults| faults.reach != Reach::Hanging).await {
        Ok(faults) => faults.slow,
        Err(_) => Duration::ZERO,
    };
    sleep(slow).await;
    if request.uri().path().starts_with("/api") {
        drop(port.faults.wait_for(|faults| faults.requests == Requests::Answered).await);
    }
    let (parts, body) = request.into_parts();
    let reply = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => {
            let call = Call {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parse_query(parts.uri.query().unwrap_or_default()),
                authorization: parts
                    .headers
                    .get(header::AUTHORIZATION)
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
                certificates,
                body: body.to_bytes(),
            };
            (port.answer)(call).await
        }
        Err(why) => Reply::text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body cannot be read: {why}\n")),
    };
    // An answer that is on its way when the process hangs does not arrive either.
    drop(port.faults.wait_for(|faults| faults.reach != Reach::Hanging).await);
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(reply.content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_repeat() {
        let call = Call::get("/api/v1/pods?fieldSelector=spec.nodeName%3Dm1&exclude=a&exclude=b+c&verbose");
        assert_eq!(call.path, "/api/v1/pods");
        assert_eq!(call.query("fieldSelector").collect::<Vec<_>>(), ["spec.nodeName=m1"]);
        assert_eq!(call.query("exclude").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(call.query("verbose").collect::<Vec<_>>(), [""]);
        assert_eq!(percent_decoded("100%"), "100%");
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported_as_the_real_one_does() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let address = first.local_addr().expect("bound");
        let why = bind(address).await.expect_err("taken").to_string();
        assert_eq!(
            why,
            format!(
                "failed to create listener: failed to listen on {address}: listen tcp {address}: bind: address already \
                 in use"
            )
        );
    }
}
