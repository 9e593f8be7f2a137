//! A small client of the API server: one connection, kept open between requests, a deadline on every request.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;

use super::kubeconfig::Kubeconfig;

type Connection = http1::SendRequest<Full<Bytes>>;

/// The client.
pub struct ApiClient {
    config: Kubeconfig,
    connector: TlsConnector,
    connection: Mutex<Option<Connection>>,
}

/// Status and body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What a Status body says, or the code.
    #[must_use]
    pub fn message(&self) -> String {
        self.json()["message"].as_str().map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

impl ApiClient {
    /// A client that connects at its first request.
    #[must_use]
    pub fn new(config: Kubeconfig) -> Self {
        let connector = TlsConnector::from(Arc::new(config.tls.clone()));
        Self { config, connector, connection: Mutex::new(None) }
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Nobody answered within `deadline`, or the connection broke. The next request makes a new one.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Answer> {
        let url = format!("{method} https://{}:{}{path}", self.config.host, self.config.port);
        timeout(deadline, self.exchange(method, path, body))
            .await
            .map_err(|_| anyhow!("{url}: context deadline exceeded"))?
            .with_context(|| url)
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        // Taken out, so that an exchange that is cut off in the middle leaves no half-used connection behind.
        let kept = self.connection.lock().await.take();
        let mut connection = match kept {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.config.host, self.config.port))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(bytes))?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes().to_vec();
        *self.connection.lock().await = Some(connection);
        Ok(Answer { status, body })
    }

    async fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect((self.config.host.as_str(), self.config.port))
            .await
            .with_context(|| format!("dial tcp {}:{}", self.config.host, self.config.port))?;
        tcp.set_nodelay(true)?;
        let tls = self.connector.connect(self.config.name.clone(), tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        // Ends with the connection; its errors reach us through the request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
