//! One HTTP/1.1 request over one fresh connection, plain or TLS, within a deadline. Probes, the API server's client and
//! nothing else use it; a pooled connection would hide exactly the faults this lab is about.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::any_server::AnyServer;

/// The largest answer that is read: /pods of a small node and pod lists stay far below.
const MAX_ANSWER: usize = 16 << 20;

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS, if any, with the longest time a handshake may take.
    pub tls: Option<(Arc<ClientConfig>, Duration)>,
}

/// Status and body.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

/// Sends `request` (its URI is the path) and reads the whole answer.
///
/// # Errors
/// Refused, reset, handshake, malformed, or not answered within `deadline`; the sentence says which.
pub async fn send(target: &Target, request: Request<Full<Bytes>>, deadline: Duration) -> Result<Answer> {
    match tokio::time::timeout(deadline, exchange(target, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(anyhow!("{}:{} did not answer within {deadline:?}", target.host, target.port)),
    }
}

async fn exchange(target: &Target, request: Request<Full<Bytes>>) -> Result<Answer> {
    let name = format!("{}:{}", target.host, target.port);
    let tcp = match target.host.parse() {
        Ok(ip) => TcpStream::connect(SocketAddr::new(ip, target.port)).await,
        Err(_) => TcpStream::connect(name.as_str()).await,
    }
    .with_context(|| format!("dial tcp {name}"))?;
    let Some((config, handshake)) = &target.tls else {
        return talk(tcp, request).await.with_context(|| format!("talking to {name}"));
    };
    let server = ServerName::try_from(target.host.clone()).with_context(|| format!("{name} is no server name"))?;
    let connect = TlsConnector::from(Arc::clone(config)).connect(server, tcp);
    let tls = tokio::time::timeout(*handshake, connect)
        .await
        .map_err(|_| anyhow!("TLS handshake with {name} timed out"))?
        .with_context(|| format!("TLS handshake with {name}"))?;
    talk(tls, request).await.with_context(|| format!("talking to {name}"))
}

async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection only moves while it is polled; it ends with the exchange, also with an abandoned one.
    let driver = async {
        let _ = connection.await;
        std::future::pending::<Result<Answer>>().await
    };
    let dialogue = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|why| anyhow!("{why}"))?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::select! { answer = dialogue => answer, never = driver => never }
}

/// TLS without a look at the server's certificate.
///
/// # Errors
/// If the crypto provider lacks the default protocol versions.
pub fn unverified_tls() -> Result<Arc<ClientConfig>> {
    let provider = aws_lc_rs::default_provider();
    let verifier = AnyServer(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}
