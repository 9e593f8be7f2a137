//! A kubeconfig: whether it can work, and which parts are configuration and which are credentials (Q4).
//!
//! It checks clientcmd's rules whose violation stops a program at its start: the file parses, its current context names
//! an existing cluster with a server and an existing user, embedded data decode, and the key matches the certificate.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::credentials;
use crate::model::Digest;
use crate::model::config_files::KubeconfigHealth;

/// What a kubeconfig says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kubeconfig {
    /// Whether it can work, as far as the file alone tells.
    pub(super) works: KubeconfigHealth,
    /// Of its users.
    pub(super) credentials: Digest,
    /// Of all but what its users hold; of the bytes where it cannot work.
    pub(super) digest: Digest,
    /// The certificate and the key it names by path instead of embedding them.
    pub(super) pair: Option<(String, String)>,
    /// Every file it names.
    pub(super) names: Vec<String>,
}

/// Whether a document is a kubeconfig at all.
pub(super) fn is_one(document: &Value) -> bool {
    let kind = document.get("kind").and_then(Value::as_str);
    let has = |key: &str| document.get(key).is_some_and(Value::is_array);
    kind == Some("Config") && (has("clusters") || has("users") || has("contexts"))
}

/// Reads one that its flag or its content calls a kubeconfig.
pub(super) fn read(bytes: &[u8], document: Option<&Value>) -> Kubeconfig {
    let users = document.and_then(|document| document.get("users"));
    let credentials = users.map_or_else(|| Digest::of(bytes), |users| Digest::of(users.to_string().as_bytes()));
    let checked = match document {
        None => Err("it does not parse".to_owned()),
        Some(document) if !document.is_object() => Err("it is empty, or not a mapping".to_owned()),
        Some(document) => check(document),
    };
    let names = document.map(file_names).unwrap_or_default();
    match (checked, document) {
        (Ok(found), Some(document)) => Kubeconfig {
            works: KubeconfigHealth::Works { not_after: found.not_after },
            credentials,
            digest: Digest::of(without_credentials(document).to_string().as_bytes()),
            pair: found.pair,
            names,
        },
        (Err(reason), _) => cannot(reason, credentials, bytes, names),
        (Ok(_), None) => cannot("it does not parse".to_owned(), credentials, bytes, names),
    }
}

/// With what its user comes to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// With a certificate and a key that it embeds, in PEM.
    Embedded(Vec<u8>, Vec<u8>),
    /// With a certificate and a key that are in files.
    Files(PathBuf, PathBuf),
}

/// Its user's certificate and key.
///
/// # Errors
/// A sentence, where there are none: it may come with a token, or by a plugin.
pub(super) fn client(bytes: &[u8]) -> Result<Client, String> {
    let document: Value = serde_yaml::from_slice(bytes).map_err(|error| format!("is no kubeconfig: {error}"))?;
    let none = || "names no client certificate".to_owned();
    let current = text(&document, "current-context").ok_or_else(none)?;
    let user = named(&document, "contexts", "context", current).and_then(|context| text(context, "user"));
    let user = named(&document, "users", "user", user.ok_or_else(none)?).ok_or_else(none)?;
    if let (Some(certificate), Some(key)) = (text(user, "client-certificate-data"), text(user, "client-key-data")) {
        let certificate = decode(certificate, "client-certificate-data")?;
        return Ok(Client::Embedded(certificate, decode(key, "client-key-data")?));
    }
    match (text(user, "client-certificate"), text(user, "client-key")) {
        (Some(certificate), Some(key)) => Ok(Client::Files(certificate.into(), key.into())),
        _ => Err(none()),
    }
}

fn cannot(reason: String, credentials: Digest, bytes: &[u8], names: Vec<String>) -> Kubeconfig {
    Kubeconfig { works: KubeconfigHealth::Cannot { reason }, credentials, digest: Digest::of(bytes), pair: None, names }
}

struct Found {
    not_after: Option<i64>,
    pair: Option<(String, String)>,
}

fn check(document: &Value) -> Result<Found, String> {
    if let Some(kind) = document.get("kind").and_then(Value::as_str).filter(|kind| *kind != "Config") {
        return Err(format!("it is a {kind}, not a kubeconfig"));
    }
    let current = text(document, "current-context").ok_or("it names no current-context")?;
    let context = named(document, "contexts", "context", current)
        .ok_or_else(|| format!("its current-context {current:?} does not exist"))?;
    let cluster = text(context, "cluster").ok_or_else(|| format!("context {current:?} names no cluster"))?;
    let cluster = named(document, "clusters", "cluster", cluster)
        .ok_or_else(|| format!("its cluster {cluster:?} does not exist"))?;
    text(cluster, "server").ok_or("its cluster has no server")?;
    if let Some(ca) = text(cluster, "certificate-authority-data") {
        credentials::certificates(&decode(ca, "certificate-authority-data")?)
            .map_err(|error| format!("certificate-authority-data {error}"))?;
    }
    let Some(user) = text(context, "user") else {
        return Ok(Found { not_after: None, pair: None });
    };
    let user = named(document, "users", "user", user).ok_or_else(|| format!("its user {user:?} does not exist"))?;
    client_pair(user)
}

/// Embedded data win over paths, as in clientcmd.
fn client_pair(user: &Value) -> Result<Found, String> {
    let certificate = text(user, "client-certificate-data");
    let key = text(user, "client-key-data");
    match (certificate, key, text(user, "client-certificate"), text(user, "client-key")) {
        (Some(certificate), Some(key), ..) => {
            let certificate = decode(certificate, "client-certificate-data")?;
            let (_, dates) = credentials::pair(&certificate, &decode(key, "client-key-data")?)?;
            Ok(Found { not_after: Some(dates.not_after), pair: None })
        }
        (Some(_), None, _, None) => Err("it has a client certificate and no key".to_owned()),
        (None, Some(_), None, _) => Err("it has a client key and no certificate".to_owned()),
        (None, None, Some(certificate), Some(key)) => {
            Ok(Found { not_after: None, pair: Some((certificate.to_owned(), key.to_owned())) })
        }
        _ => Ok(Found { not_after: None, pair: None }),
    }
}

/// What of a kubeconfig its current context leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The URL of the API server.
    pub(super) server: Option<String>,
    /// The PEM of the certificates it embeds: the authority's, the client's.
    pub(super) embedded: Vec<Vec<u8>>,
    /// The paths of those it names instead.
    pub(super) names: Vec<String>,
}

/// Where a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Embedded: its PEM.
    Embedded(Vec<u8>),
    /// In a file of this name.
    File(String),
}

impl Source {
    /// What a cluster or a user says of one of its certificates. Embedded data win over paths.
    fn of(body: &Value, field: &str) -> Option<Self> {
        let embedded = text(body, &format!("{field}-data")).and_then(|data| decode(data, field).ok());
        embedded.map(Self::Embedded).or_else(|| Some(Self::File(text(body, field)?.to_owned())))
    }
}

/// The cluster and, where there is one, the user of the current context; absent where it leads to no cluster.
fn current(document: &Value) -> Option<(&Value, Option<&Value>)> {
    let context = named(document, "contexts", "context", text(document, "current-context")?)?;
    let cluster = named(document, "clusters", "cluster", text(context, "cluster")?)?;
    Some((cluster, text(context, "user").and_then(|user| named(document, "users", "user", user))))
}

/// The authority that the current context trusts.
pub(super) fn authority(document: &Value) -> Option<Source> {
    Source::of(current(document)?.0, AUTHORITY)
}

const AUTHORITY: &str = "certificate-authority";

/// The parts of the current context; absent where it leads to no cluster.
pub(super) fn parts(document: &Value) -> Option<Parts> {
    let (cluster, user) = current(document)?;
    let mut parts = Parts { server: text(cluster, "server").map(str::to_owned), ..Parts::default() };
    let client = user.and_then(|user| Source::of(user, "client-certificate"));
    for source in Source::of(cluster, AUTHORITY).into_iter().chain(client) {
        match source {
            Source::Embedded(pem) => parts.embedded.push(pem),
            Source::File(path) => parts.names.push(path),
        }
    }
    Some(parts)
}

fn decode(text: &str, field: &str) -> Result<Vec<u8>, String> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).map_err(|error| format!("{field} is not base64: {error}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The body of the entry of that name in one of the three lists.
fn named<'a>(document: &'a Value, list: &str, body: &str, name: &str) -> Option<&'a Value> {
    let entries = document.get(list)?.as_array()?;
    entries.iter().find(|entry| text(entry, "name") == Some(name))?.get(body)
}

/// Everything but what the users hold: a renewed certificate is no change of configuration.
fn without_credentials(document: &Value) -> Value {
    let mut document = document.clone();
    for user in document.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(user) = user.as_object_mut() {
            user.remove("user");
        }
    }
    document
}

fn file_names(document: &Value) -> Vec<String> {
    let bodies = |list: &str, body: &'static str| {
        let entries = document.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        entries.into_iter().filter_map(move |entry| entry.get(body).cloned())
    };
    let mut names = Vec::new();
    for body in bodies("clusters", "cluster").chain(bodies("users", "user")) {
        for key in ["certificate-authority", "client-certificate", "client-key", "tokenFile"] {
            names.extend(text(&body, key).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::Pki;

    fn with(certificate: &[u8], key: &[u8], server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: kubernetes\n  cluster: {{server: '{server}'}}\ncontexts:\n\
             - name: c\n  context: {{cluster: kubernetes, user: u}}\ncurrent-context: c\nusers:\n- name: u\n  user:\n\
             \x20   client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(certificate),
            STANDARD.encode(key)
        )
    }

    fn read_text(text: &str) -> Kubeconfig {
        let document: Option<Value> = serde_yaml::from_str(text).ok();
        read(text.as_bytes(), document.as_ref())
    }

    fn reason(text: &str) -> String {
        match read_text(text).works {
            KubeconfigHealth::Cannot { reason } => reason,
            works => panic!("{works:?}: {text}"),
        }
    }

    #[test]
    fn a_key_that_does_not_fit_its_certificate_cannot_work() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("one", "ca", 5);
        pki.sign("two", "ca", 5);
        let server = "https://127.0.0.1:6443";
        let good = with(&pki.read("one.crt"), &pki.read("one.key"), server);
        match read_text(&good).works {
            KubeconfigHealth::Works { not_after: Some(at) } => {
                let left = at - jiff::Timestamp::now().as_second();
                assert!((4 * 86400..6 * 86400).contains(&left), "{left}");
            }
            other => panic!("{other:?}"),
        }
        let mixed = with(&pki.read("one.crt"), &pki.read("two.key"), server);
        assert_eq!(reason(&mixed), "the client key does not match the client certificate");
        assert!(reason(&with(b"nonsense", &pki.read("one.key"), server)).contains("certificate"));
        assert!(reason(&good[..good.len() - 200]).contains("key"), "torn within the key");

        let renewed = with(&pki.read("two.crt"), &pki.read("two.key"), server);
        assert_eq!(read_text(&renewed).digest, read_text(&good).digest, "a renewed certificate is no change");
        assert_ne!(read_text(&renewed).credentials, read_text(&good).credentials);
        let elsewhere = with(&pki.read("one.crt"), &pki.read("one.key"), "https://10.0.0.9:6443");
        assert_ne!(read_text(&elsewhere).digest, read_text(&good).digest, "another server is one");
    }

    #[test]
    fn what_a_program_would_stop_at_is_named() {
        let good = "kind: Config\nclusters:\n- name: k\n  cluster: {server: 'https://h'}\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n\
                    current-context: c\nusers:\n- name: u\n  user: {token: t}\n";
        assert_eq!(read_text(good).works, KubeconfigHealth::Works { not_after: None });
        for (from, to, word) in [
            ("current-context: c", "current-context: d", "does not exist"),
            ("current-context: c", "", "no current-context"),
            ("{server: 'https://h'}", "{}", "no server"),
            ("{server: 'https://h'}", "{server: h, certificate-authority-data: '!'}", "base64"),
            ("- name: u\n", "- name: v\n", "does not exist"),
            ("{token: t}", "{client-key-data: aGVsbG8=}", "no certificate"),
            ("kind: Config", "kind: Pod", "Pod"),
            ("kind: Config", "kind: [", "does not parse"),
        ] {
            let found = reason(&good.replace(from, to));
            assert!(found.contains(word), "{found:?} says nothing of {word:?}");
        }
        assert!(reason("").contains("empty"));
    }
}
