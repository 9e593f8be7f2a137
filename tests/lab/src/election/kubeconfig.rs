//! A kubeconfig as kubeadm writes it: one current context, certificates embedded or in files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde::Deserialize;

use crate::apiserver::files::read;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    kind: Option<String>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
}

/// Where the API server is, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// The host to connect to.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// The name its certificate must carry.
    pub name: ServerName<'static>,
    /// TLS with its authority and our certificate.
    pub tls: ClientConfig,
}

impl Kubeconfig {
    /// Reads the current context of a file. Relative paths in it start where it lies.
    ///
    /// # Errors
    /// It cannot be read, does not parse, lacks a part, or key and certificate cannot be used together.
    pub fn load(path: &Path) -> Result<Self> {
        let place = || format!("error loading config file \"{}\"", path.display());
        let bytes = read(path)?;
        let document: Document = serde_yaml::from_slice(&bytes).with_context(place)?;
        if document.kind.as_deref().is_some_and(|kind| kind != "Config") {
            bail!("{}: no kind \"{}\" is registered", place(), document.kind.unwrap_or_default());
        }
        let invalid = || "invalid configuration: no configuration has been provided";
        let wanted = &document.current_context;
        let context = document.contexts.iter().find(|context| context.name == *wanted).ok_or_else(|| {
            let why = if wanted.is_empty() {
                invalid().to_owned()
            } else {
                format!("context was not found for specified context: {wanted}")
            };
            anyhow!("{}: {why}", place())
        })?;
        let cluster = document.clusters.iter().find(|cluster| cluster.name == context.context.cluster);
        let cluster = &cluster
            .ok_or_else(|| anyhow!("{}: cluster \"{}\" does not exist", place(), context.context.cluster))?
            .cluster;
        let user = document.users.iter().find(|user| user.name == context.context.user);
        let user =
            &user.ok_or_else(|| anyhow!("{}: auth info \"{}\" does not exist", place(), context.context.user))?.user;

        let server = cluster.server.as_deref().unwrap_or_default();
        let (host, port) = authority(server).with_context(place)?;
        let base = path.parent().unwrap_or(Path::new("/"));
        let material = |data: &Option<String>, file: &Option<PathBuf>, what: &str| -> Result<Option<Vec<u8>>> {
            match (data, file) {
                (Some(data), _) => {
                    let bytes = STANDARD.decode(data.trim());
                    Ok(Some(bytes.with_context(|| format!("{}: {what}-data is not base64", place()))?))
                }
                (None, Some(file)) => {
                    let bytes = read(&base.join(file));
                    Ok(Some(bytes.with_context(|| format!("invalid configuration: unable to read {what}"))?))
                }
                (None, None) => Ok(None),
            }
        };
        let authority =
            material(&cluster.certificate_authority_data, &cluster.certificate_authority, "certificate-authority")?;
        let certificate = material(&user.client_certificate_data, &user.client_certificate, "client-certificate")?;
        let key = material(&user.client_key_data, &user.client_key, "client-key")?;

        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authority.as_deref().unwrap_or_default()) {
            roots.add(authority.with_context(place)?).with_context(place)?;
        }
        if roots.is_empty() {
            bail!("{}: unable to load root certificates: unable to parse bytes as PEM block", place());
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
                let chain =
                    chain.map_err(|_| anyhow!("{}: tls: failed to find any PEM data in certificate input", place()))?;
                let key = PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|_| anyhow!("{}: tls: failed to find any PEM data in key input", place()))?;
                builder.with_client_auth_cert(chain, key).map_err(|why| match why {
                    rustls::Error::InconsistentKeys(_) => {
                        anyhow!("{}: tls: private key does not match public key", place())
                    }
                    other => anyhow!("{}: tls: {other}", place()),
                })?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => bail!("{}: client-certificate and client-key must be specified together", place()),
        };
        let name = cluster.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(name).with_context(place)?;
        Ok(Self { host, port, name, tls })
    }
}

/// Host and port of `https://host[:port]`.
fn authority(server: &str) -> Result<(String, u16)> {
    let rest = server
        .strip_prefix("https://")
        .ok_or_else(|| anyhow!("server \"{server}\" is no URL of an API server: https://host:port is expected"))?;
    let rest = rest.split('/').next().unwrap_or_default();
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().with_context(|| format!("server \"{server}\": `{port}` is no port"))?)
        }
        _ => (rest, 443),
    };
    if host.is_empty() {
        bail!("server \"{server}\" has no host");
    }
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(certificate: &str, key: &str, change: (&str, &str)) -> String {
        let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a@k\ncontexts:\n- name: a@k\n  context: {{cluster: k, user: \
             a}}\nclusters:\n- name: k\n  cluster:\n    server: https://127.0.0.1:6443\n    \
             certificate-authority-data: {certificate}\nusers:\n- name: a\n  user:\n    client-certificate-data: \
             {certificate}\n    client-key-data: {key}\n"
        )
        .replace(change.0, change.1)
    }

    #[test]
    fn embedded_and_linked_material_are_the_same_and_mistakes_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("controller-manager.conf");
        let mine = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("generated");
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).expect("generated");
        let (certificate, key) = (mine.cert.pem(), mine.signing_key.serialize_pem());
        let load = |text: String| {
            fs::write(&path, text).expect("written");
            Kubeconfig::load(&path).map(|config| (config.host, config.port)).map_err(|why| format!("{why:#}"))
        };
        let here = Ok(("127.0.0.1".to_owned(), 6443));
        assert_eq!(load(config(&certificate, &key, ("", ""))), here);
        fs::write(dir.path().join("a.key"), &key).expect("written");
        let embedded = format!("client-key-data: {}", STANDARD.encode(&key));
        assert_eq!(load(config(&certificate, &key, (&embedded, "client-key: a.key"))), here);
        for (text, part) in [
            (
                config(&certificate, &other.signing_key.serialize_pem(), ("", "")),
                "private key does not match public key",
            ),
            (config(&certificate, &key, ("current-context: a@k", "current-context: b@k")), "context was not found"),
            (config(&certificate, &key, ("https://", "htp:/")), "is no URL of an API server"),
            (config(&certificate, &key, (&embedded, "client-key: b.key")), "b.key: no such file or directory"),
            (config(&certificate, &key, ("clusters:", "cluster:")), "cluster \"k\" does not exist"),
            ("{".to_owned(), "error loading config file"),
        ] {
            let why = load(text).expect_err(part);
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_server_url_has_a_host_and_perhaps_a_port() {
        assert_eq!(authority("https://[::1]:6443").expect("a URL"), ("::1".to_owned(), 6443));
        assert_eq!(authority("https://api.example/").expect("a URL"), ("api.example".to_owned(), 443));
        assert!(authority("https://:6443").is_err());
    }
}
