//! 10248 /healthz, and 10250 /pods behind a client certificate and a SubjectAccessReview.
//!
//! ```text
//!  certificate of the client CA? ──no──▶ 401
//!        │ yes: user = CN, groups = O
//!        ▼
//!  review.rs: allowed ─▶ 200      denied ─▶ 403      nobody to ask ─▶ 500 Authorization error
//! ```
//!
//! So /pods goes dark with the API server, some minutes late, and at once after a restart of the kubelet.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::options::{Anonymous, AuthorizationMode, Settings};
use super::podset::PodSet;
use super::review::{Question, Reviews, Ruling, User};
use super::sync::Node;

/// How long a client may take to make its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What /healthz says; a test's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// By what the sync loop does.
    Honest,
    /// 500.
    Failing,
    /// No answer.
    Hanging,
}

/// Tells whether the sync loop goes round.
pub type Pulse = Arc<Mutex<Instant>>;

/// The sync loop may rest this long before /healthz fails: twice the resync period.
const PULSE_LIMIT: Duration = Duration::from_secs(120);

/// Serves /healthz for ever.
///
/// # Errors
/// The address cannot be bound.
pub async fn healthz(at: SocketAddr, pulse: Pulse, health: watch::Receiver<Health>, settings: &Settings) -> Result<()> {
    let listener = TcpListener::bind(at).await.with_context(|| format!("listening on {at} for /healthz"))?;
    let limit = settings.scale.with_floor(PULSE_LIMIT, Duration::from_secs(10));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let (pulse, health) = (Arc::clone(&pulse), health.clone());
            tokio::spawn(serve(stream, move |request: Request<Incoming>| {
                let (pulse, health) = (Arc::clone(&pulse), health.clone());
                async move {
                    let health = *health.borrow();
                    if health == Health::Hanging {
                        std::future::pending::<()>().await;
                    }
                    let rest = pulse.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                    match request.uri().path() {
                        "/healthz" if health == Health::Honest && rest < limit => text(StatusCode::OK, "ok"),
                        "/healthz" => text(
                            StatusCode::INTERNAL_SERVER_ERROR,
                            "[-]syncloop failed: reason withheld\nhealthz check failed\n",
                        ),
                        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                    }
                }
            }));
        }
    });
    Ok(())
}

async fn serve<S, F, A>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    if let Err(why) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        debug!(%why, "a connection ended early");
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    }
    response
}

fn anonymous() -> User {
    User { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()] }
}

/// Common name and organisations of a verified certificate.
fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organisations = subject.iter_organization().filter_map(|one| Some(one.as_str().ok()?.to_owned()));
    let groups = organisations.chain(["system:authenticated".to_owned()]).collect();
    Some(User { name, groups })
}

/// The server on 10250.
#[derive(Debug)]
struct Server {
    node: Arc<Node>,
    pods: PodSet,
    reviews: Reviews,
}

/// Serves /pods for ever.
///
/// # Errors
/// The address cannot be bound, or a certificate cannot be read.
pub async fn pods(at: SocketAddr, node: Arc<Node>, pods: PodSet) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(&node.settings)?));
    let listener = TcpListener::bind(at).await.with_context(|| format!("listening on {at} for /pods"))?;
    let reviews = Reviews::new(Arc::clone(&node.mirrors), node.settings.node.clone(), node.settings.scale);
    let server = Arc::new(Server { node, pods, reviews });
    info!(%at, "Started to listen");
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let (acceptor, server) = (acceptor.clone(), Arc::clone(&server));
            tokio::spawn(async move {
                let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
                    return;
                };
                let certificates = stream.get_ref().1.peer_certificates();
                let user = certificates.and_then(|chain| user_of(chain.first()?));
                serve(stream, move |request: Request<Incoming>| {
                    let (server, user) = (Arc::clone(&server), user.clone());
                    async move { server.answer(request, user).await }
                })
                .await;
            });
        }
    });
    Ok(())
}

fn tls(settings: &Settings) -> Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in
                CertificateDer::pem_file_iter(path).with_context(|| format!("reading {}", path.display()))?
            {
                roots.add(certificate.with_context(|| format!("reading {}", path.display()))?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
    };
    let (chain, key) = match &settings.tls {
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.certificate)
                .and_then(Iterator::collect)
                .with_context(|| format!("reading {}", files.certificate.display()))?;
            let key =
                PrivateKeyDer::from_pem_file(&files.key).with_context(|| format!("reading {}", files.key.display()))?;
            (chain, key)
        }
        None => {
            let names = vec![settings.node.clone(), settings.node_ip.to_string()];
            let own = rcgen::generate_simple_self_signed(names).context("making a self-signed certificate")?;
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
            (vec![own.cert.der().clone()], key)
        }
    };
    Ok(builder.with_single_cert(chain, key)?)
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, user: Option<User>) -> Response<Full<Bytes>> {
        let user = match (user, self.node.settings.anonymous) {
            (Some(user), _) => user,
            (None, Anonymous::Allowed) => anonymous(),
            (None, Anonymous::Refused) => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        };
        let subresource = match request.uri().path() {
            "/pods" | "/pods/" => "pods",
            "/healthz" => "healthz",
            _ => "proxy",
        };
        let verb = match *request.method() {
            Method::POST => "create",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => "get",
        };
        if self.node.settings.authorization == AuthorizationMode::Webhook {
            let question = Question { user: user.clone(), verb, subresource };
            match self.reviews.rule(&question).await {
                Ok(Ruling::Allowed) => {}
                Ok(Ruling::Denied) => {
                    let asked =
                        if subresource == "proxy" { "[proxy]".to_owned() } else { format!("[{subresource} proxy]") };
                    let said =
                        format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)={asked})", user.name);
                    return text(StatusCode::FORBIDDEN, said);
                }
                Err(why) => {
                    let said = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        user.name
                    );
                    error!(why, "{said}");
                    return text(StatusCode::INTERNAL_SERVER_ERROR, said);
                }
            }
        }
        match subresource {
            "pods" => respond(StatusCode::OK, "application/json", self.list().to_string()),
            "healthz" => text(StatusCode::OK, "ok"),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    /// The pods of the manifest directory with their statuses; `null`, not `[]`, when there are none.
    fn list(&self) -> Value {
        let items: Vec<Value> = self
            .pods
            .all()
            .into_iter()
            .map(|pod| {
                let mut shown = (*pod.pod).clone();
                if let Some(status) = self.node.statuses.get(&pod.uid) {
                    shown.status = Some(status);
                }
                let mut shown = serde_json::to_value(shown).unwrap_or_default();
                if let Some(fields) = shown.as_object_mut() {
                    fields.remove("apiVersion");
                    fields.remove("kind");
                }
                shown
            })
            .collect();
        let items = if items.is_empty() { Value::Null } else { Value::Array(items) };
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }
}
