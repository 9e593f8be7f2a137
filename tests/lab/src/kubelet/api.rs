//! The kubelet's client of the API server: a kubeconfig, a client certificate, JSON. Certificates are read for each
//! request, since they may be renewed meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;

use super::http::{self, Answer, Target};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    cluster: Cluster,
    #[serde(default)]
    user: User,
    #[serde(default)]
    context: Context_,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context_ {
    cluster: String,
    user: String,
}

/// A client of one API server.
#[derive(Debug)]
pub struct ApiServer {
    kubeconfig: PathBuf,
}

/// How a request failed.
#[derive(Debug)]
pub enum ApiError {
    /// The server answered, but not with success.
    Status(StatusCode, String),
    /// No answer: refused, reset, timed out.
    Unreachable(anyhow::Error),
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status, said) => write!(f, "the server answered {status}: {said}"),
            Self::Unreachable(why) => write!(f, "{why:#}"),
        }
    }
}

impl ApiServer {
    /// A client as `kubeconfig` describes it.
    ///
    /// # Errors
    /// A file that is missing or cannot be used: the real kubelet does not start without it either.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let api = Self { kubeconfig: kubeconfig.to_owned() };
        api.read().map(|_| api)
    }

    /// Sends JSON, gets JSON.
    ///
    /// # Errors
    /// Anything but a success status within `deadline`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Value, ApiError> {
        let answer = self.exchange(method, path, body, deadline).await.map_err(ApiError::Unreachable)?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
            return Err(ApiError::Status(answer.status, said));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|why| ApiError::Unreachable(anyhow!("the answer to {path} is not JSON: {why}")))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>, deadline: Duration) -> Result<Answer> {
        let (target, token) = self.read()?;
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{}:{}", target.host, target.port))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        http::send(&target, request.body(Full::new(Bytes::from(bytes)))?, deadline).await
    }

    fn read(&self) -> Result<(Target, Option<String>)> {
        let path = &self.kubeconfig;
        let text = std::fs::read_to_string(path).with_context(|| format!("reading kubeconfig {}", path.display()))?;
        parse(&text, path.parent().unwrap_or(Path::new("/"))).with_context(|| format!("kubeconfig {}", path.display()))
    }
}

fn parse(text: &str, base: &Path) -> Result<(Target, Option<String>)> {
    let config: Kubeconfig = serde_yaml::from_str(text)?;
    let named = |list: &'static str, all: Vec<Named>, name: &str| {
        all.into_iter().find(|one| one.name == name).ok_or_else(|| anyhow!("has no entry {name:?} in {list}"))
    };
    let context = named("contexts", config.contexts, &config.current_context)?.context;
    let cluster = named("clusters", config.clusters, &context.cluster)?.cluster;
    let user = named("users", config.users, &context.user)?.user;

    let Some((host, port)) = cluster.server.strip_prefix("https://").map(|rest| split_host(rest.trim_end_matches('/')))
    else {
        bail!("server {:?} is not an https URL", cluster.server);
    };
    let mut roots = RootCertStore::empty();
    let authority = material(cluster.certificate_authority_data, cluster.certificate_authority, base)?;
    for certificate in CertificateDer::pem_slice_iter(&authority.unwrap_or_default()) {
        roots.add(certificate.context("certificate-authority")?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let certificate = material(user.client_certificate_data, user.client_certificate, base)?;
    let key = material(user.client_key_data, user.client_key, base)?;
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
            let key = PrivateKeyDer::from_pem_slice(&key).context("client-key")?;
            builder.with_client_auth_cert(chain.context("client-certificate")?, key)?
        }
        _ => builder.with_no_client_auth(),
    };
    let target = Target { host, port, tls: Some((Arc::new(tls), Duration::from_secs(10))) };
    Ok((target, user.token))
}

fn split_host(authority: &str) -> (String, u16) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or(443)),
        _ => (authority, 443),
    };
    (host.trim_matches(['[', ']']).to_owned(), port)
}

fn material(data: Option<String>, file: Option<PathBuf>, base: &Path) -> Result<Option<Vec<u8>>> {
    if let Some(data) = data {
        return Ok(Some(base64::engine::general_purpose::STANDARD.decode(data.trim()).context("base64 data")?));
    }
    let Some(file) = file else { return Ok(None) };
    let file = base.join(file);
    std::fs::read(&file).map(Some).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_the_current_context_is_found() {
        let text = "current-context: b\nclusters:\n- {name: x, cluster: {server: 'https://10.0.0.1:6443'}}\n\
                    - {name: y, cluster: {server: 'https://[::1]/'}}\nusers:\n- {name: u, user: {token: t}}\ncontexts:\n\
                    - {name: a, context: {cluster: x, user: u}}\n- {name: b, context: {cluster: y, user: u}}\n";
        let (target, token) = parse(text, Path::new("/")).expect("valid");
        assert_eq!((target.host.as_str(), target.port, token.as_deref()), ("::1", 443, Some("t")));
        let (target, _) =
            parse(&text.replace("current-context: b", "current-context: a"), Path::new("/")).expect("valid");
        assert_eq!((target.host.as_str(), target.port), ("10.0.0.1", 6443));
        let why = parse(&text.replace("current-context: b", "current-context: c"), Path::new("/")).expect_err("no c");
        assert!(why.to_string().contains("\"c\" in contexts"), "{why}");
    }
}
