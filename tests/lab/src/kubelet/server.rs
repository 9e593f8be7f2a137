//! 10248 /healthz, and 10250 /pods behind a client certificate and a SubjectAccessReview.
//!
//! ```text
//!  certificate of the client CA? ──no──▶ 401
//!        │ yes: user = CN, groups = O
//!        ▼
//!  answer in the cache (5 min allowed, 30 s denied)? ──no──▶ ask the API server ──no answer──▶ 500 Authorization error
//!        │                                                        │
//!        ▼ allowed ─▶ 200        denied ─▶ 403 ◀──────────────────┘
//! ```
//!
//! So /pods goes dark with the API server, some minutes late, and at once after a restart of the kubelet.

use std::collections::HashMap;
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
use super::sync::Node;

/// How long an allowed answer is believed: `authorization.webhook.cacheAuthorizedTTL`.
const ALLOWED_FOR: Duration = Duration::from_secs(300);
/// How long a denied one: `cacheUnauthorizedTTL`.
const DENIED_FOR: Duration = Duration::from_secs(30);
/// How long the API server may take to answer a review.
const REVIEW: Duration = Duration::from_secs(10);
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
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("listening on {at} for /healthz"))?;
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
    if let Err(why) = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
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

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct User {
    name: String,
    groups: Vec<String>,
}

impl User {
    fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
        }
    }

    /// Common name and organisations of a verified certificate.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let mut groups: Vec<String> = subject
            .iter_organization()
            .filter_map(|one| Some(one.as_str().ok()?.to_owned()))
            .collect();
        groups.push("system:authenticated".into());
        Some(Self { name, groups })
    }
}

/// The server on 10250.
#[derive(Debug)]
struct Server {
    node: Arc<Node>,
    pods: PodSet,
    reviews: Mutex<HashMap<User, (bool, Instant)>>,
}

/// Serves /pods for ever.
///
/// # Errors
/// The address cannot be bound, or a certificate cannot be read.
pub async fn pods(at: SocketAddr, node: Arc<Node>, pods: PodSet) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(&node.settings)?));
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("listening on {at} for /pods"))?;
    let server = Arc::new(Server {
        node,
        pods,
        reviews: Mutex::default(),
    });
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
                let user = certificates.and_then(|chain| User::of(chain.first()?));
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
            (None, Anonymous::Allowed) => User::anonymous(),
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
            match self.review(&user, verb, subresource).await {
                Ok(true) => {}
                Ok(false) => {
                    let asked = if subresource == "proxy" {
                        "[proxy]".to_owned()
                    } else {
                        format!("[{subresource} proxy]")
                    };
                    let said = format!(
                        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)={asked})",
                        user.name
                    );
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

    async fn review(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, String> {
        let scale = self.node.settings.scale;
        let cached = self
            .reviews
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(user)
            .copied();
        if let Some((allowed, at)) = cached {
            let fresh = scale.of(if allowed { ALLOWED_FOR } else { DENIED_FOR });
            if at.elapsed() < fresh {
                return Ok(allowed);
            }
        }
        let Some(api) = self.node.mirrors.api() else {
            return Err("there is no API server to ask".into());
        };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name, "groups": user.groups,
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
                    "name": self.node.settings.node,
                },
            },
        });
        let deadline = scale.with_floor(REVIEW, Duration::from_secs(2));
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = api
            .call(Method::POST, path, Some(&review), deadline)
            .await
            .map_err(|why| why.to_string())?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool) == Some(true);
        self.reviews
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(user.clone(), (allowed, Instant::now()));
        Ok(allowed)
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
        let items = if items.is_empty() {
            Value::Null
        } else {
            Value::Array(items)
        };
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }
}
