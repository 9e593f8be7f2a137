//! Asking the components' health endpoints, as their probes do: a certificate is shown, the server's is not checked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dial::Network;
use crate::any_server::AnyServer;
use crate::manifests::{Health, Transport};

/// How long one question may take. Longer than a healthy answer on a busy machine, shorter than a test's patience.
const DEADLINE: Duration = Duration::from_secs(3);

/// A status code and a body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// GET on 127.0.0.1 of the node, with the certificate `client` (path without its ending) where TLS asks for one.
///
/// # Errors
/// When no answer comes within 3 s, with the reason.
pub async fn get(network: &Network, health: &Health, client: &Path) -> Result<Answer> {
    let exchange = async {
        let stream = network.connect(health.port, DEADLINE).await?;
        match health.transport {
            Transport::Plain => request(stream, health).await,
            Transport::Tls => {
                let name = ServerName::try_from("localhost").context("localhost is a name")?;
                let stream = TlsConnector::from(Arc::new(tls(client)?)).connect(name, stream).await;
                request(stream.context("the TLS handshake failed")?, health).await
            }
        }
    };
    match timeout(DEADLINE, exchange).await {
        Ok(answer) => answer,
        Err(_) => bail!("{} on port {} gave no answer within {DEADLINE:?}", health.path, health.port),
    }
}

async fn request(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, health: &Health) -> Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(health.path).header("host", "127.0.0.1").body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
    .await;
    driver.abort();
    answer
}

fn tls(client: &Path) -> Result<ClientConfig> {
    let provider = aws_lc_rs::default_provider();
    let anybody = AnyServer(provider.signature_verification_algorithms);
    let (cert, key) = (client.with_extension("crt"), client.with_extension("key"));
    let cert = CertificateDer::from_pem_file(&cert).with_context(|| format!("cannot read {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("cannot read {}", key.display()))?;
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_client_auth_cert(vec![cert], key)?)
}
