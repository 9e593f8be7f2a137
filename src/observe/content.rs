//! Classifies a file by its content (Q4): configuration, a kubeconfig, or key material.
//!
//! A wrong classification as key material costs a rollback that leaves one file alone; the opposite error stores a copy
//! of a secret, or rolls back to an old key. So one indication makes a file secret: its bytes, the flag that names it,
//! or a file extension that only keys and certificates have.

use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use super::kubeconfig::{self, Kubeconfig};
use crate::model::config_files::KubeconfigHealth;
use crate::model::{Digest, FileKind};

/// What a flag says about the file it names, the weightier last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hint {
    None,
    /// It is a kubeconfig, or was meant to be one.
    Kubeconfig,
    /// It holds keys, certificates or tokens, or was meant to.
    Secret,
}

impl Hint {
    /// By the name of the flag.
    pub(super) fn of_flag(name: &str) -> Self {
        const SECRET: [&str; 9] = [
            "cert-file",
            "certfile",
            "key-file",
            "keyfile",
            "ca-file",
            "cafile",
            "client-certificate",
            "client-key",
            "auth-file",
        ];
        let names_keys = SECRET.iter().any(|end| name.ends_with(end));
        if names_keys || name.ends_with("encryption-provider-config") || name.ends_with("tls-sni-cert-key") {
            Self::Secret
        } else if name.ends_with("kubeconfig") {
            Self::Kubeconfig
        } else {
            Self::None
        }
    }
}

/// A file's content, distinguished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// What it is to us.
    pub(super) kind: FileKind,
    /// Of what makes it this version.
    pub(super) digest: Digest,
    /// The certificate and key a kubeconfig names by path.
    pub(super) pair: Option<(String, String)>,
    /// Paths it names in turn.
    pub(super) names: Vec<String>,
}

/// Tells what these bytes are.
pub(super) fn classify(path: &Path, bytes: &[u8], hint: Hint) -> Content {
    let secret = || Content { kind: FileKind::KeyMaterial, digest: Digest::of(bytes), pair: None, names: Vec::new() };
    if hint == Hint::Secret || has_secret_ending(path) {
        return secret();
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let documents = text.map(documents).unwrap_or_default();
    let first = documents.first();
    if first.is_some_and(kubeconfig::is_one) || hint == Hint::Kubeconfig {
        let Kubeconfig { works, credentials, digest, pair, names } = kubeconfig::read(bytes, first);
        return Content { kind: FileKind::Kubeconfig { works, credentials }, digest, pair, names };
    }
    let Some(text) = text else {
        return secret();
    };
    if looks_secret(text, &documents) {
        return secret();
    }
    let mut names = Vec::new();
    documents.iter().for_each(|document| paths_in(document, "", &mut names));
    Content { kind: FileKind::Config, digest: Digest::of(bytes), pair: None, names }
}

/// A kubeconfig's health, once the pair it names by path was looked at.
pub(super) fn with_health(kind: FileKind, works: KubeconfigHealth) -> FileKind {
    match kind {
        FileKind::Kubeconfig { credentials, .. } => FileKind::Kubeconfig { works, credentials },
        other => other,
    }
}

/// Every document of a YAML or JSON text, up to the first that does not parse.
fn documents(text: &str) -> Vec<Value> {
    let parsed = serde_yaml::Deserializer::from_str(text).map_while(|document| Value::deserialize(document).ok());
    parsed.take(64).collect()
}

fn has_secret_ending(path: &Path) -> bool {
    const ENDINGS: [&str; 9] = ["key", "crt", "cer", "pem", "p12", "pfx", "jks", "csr", "pub"];
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

fn looks_secret(text: &str, documents: &[Value]) -> bool {
    const KINDS: [&str; 4] = ["EncryptionConfiguration", "EncryptionConfig", "Secret", "SecretList"];
    let of_kind =
        |document: &Value| document.get("kind").and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind));
    text.contains("-----BEGIN ")
        || documents.iter().any(of_kind)
        // A torn encryption configuration parses no more, and its keys are still in it.
        || text.lines().any(|line| KINDS.iter().any(|kind| says(line, "kind") == Some(kind)))
        || text.lines().any(names_a_secret)
        || text.split(|c: char| c.is_whitespace() || "\"',=".contains(c)).any(is_jwt)
        || is_token_table(text, documents)
}

/// What a line of YAML or INI gives a key.
fn says<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let line = line.trim().trim_start_matches("- ").trim_start_matches(['"', '\'']);
    let rest = line.get(..key.len()).filter(|start| start.eq_ignore_ascii_case(key)).map(|_| &line[key.len()..])?;
    let value = rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix([':', '='])?;
    Some(value.trim().trim_matches(['"', '\'', ',']))
}

fn names_a_secret(line: &str) -> bool {
    const KEYS: [&str; 10] = [
        "password",
        "passwd",
        "token",
        "secret",
        "client-secret",
        "clientSecret",
        "api-key",
        "apiKey",
        "access-key",
        "secret-key",
    ];
    // A mapping or list under such a key is structure, not a secret; so is a placeholder of nothing.
    KEYS.iter()
        .any(|key| says(line, key).is_some_and(|value| !value.is_empty() && !value.starts_with(['[', '{', '|', '>'])))
        || says(line, "secret").is_some_and(|value| value.starts_with(['|', '>']))
}

fn is_jwt(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let base64url =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b));
    word.len() > 40 && word.starts_with("eyJ") && parts.len() == 3 && parts.iter().all(base64url)
}

/// `token,user,uid[,"groups"]` on every line, as the token file of an API server has it.
fn is_token_table(text: &str, documents: &[Value]) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let structured = documents.first().is_some_and(|document| document.is_object() || document.is_array());
    !structured && !lines.is_empty() && lines.iter().all(|line| line.split(',').count() >= 3 && !line.starts_with('#'))
}

/// Absolute paths anywhere, and relative ones under keys that hold paths (`path` of an AdmissionConfiguration,
/// `kubeConfigFile` of a webhook plugin).
fn paths_in(value: &Value, key: &str, found: &mut Vec<String>) {
    let lower = key.to_ascii_lowercase();
    match value {
        Value::String(text) if text.starts_with('/') => found.push(text.clone()),
        Value::String(text) if (lower == "path" || lower.ends_with("file")) && !text.is_empty() => {
            found.push(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| paths_in(item, key, found)),
        Value::Object(map) => map.iter().for_each(|(key, item)| paths_in(item, key, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, text: impl AsRef<[u8]>, hint: Hint) -> FileKind {
        classify(Path::new(name), text.as_ref(), hint).kind
    }

    #[test]
    fn what_is_secret_is_told_by_what_stands_in_it() {
        let jwt = "eyJhbGciOiJSUzI1NiIsImtpZCI6IkEifQ.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ";
        let secrets: [(&str, Vec<u8>); 13] = [
            ("a key", "-----BEGIN RSA PRIVATE KEY-----\nMII\n".into()),
            ("a certificate behind a comment", "# ours\n-----BEGIN CERTIFICATE-----\nMII\n".into()),
            ("a public service-account key", "-----BEGIN PUBLIC KEY-----\nMII\n".into()),
            (
                "encryption",
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: []\n".into(),
            ),
            ("encryption, torn", "kind: \"EncryptionConfiguration\"\nresources: [\n - a: {".into()),
            ("encryption, old", "kind: EncryptionConfig\n".into()),
            ("encryption in JSON", "{\"kind\": \"EncryptionConfiguration\"}".into()),
            ("a Secret, second in its file", "kind: ConfigMap\n---\nkind: Secret\ndata: {}\n".into()),
            ("a token", format!("{jwt}\n").into()),
            ("a token in a file of others", format!("bearer: \"{jwt}\"\n").into()),
            ("a token table", "31ada4fd-adec,alice,1001,\"system:masters\"\nabc,bob,1002\n".into()),
            ("a password", "[Global]\nuser = x\npassword = hunter2\n".into()),
            ("no text", vec![0x30, 0x82, 0x01, 0xff, 0xfe]),
        ];
        for (why, bytes) in secrets {
            assert_eq!(kind("config", bytes, Hint::None), FileKind::KeyMaterial, "{why}");
        }
        assert_eq!(kind("sa.key", "", Hint::None), FileKind::KeyMaterial, "a key that was emptied is no configuration");
        assert_eq!(kind("x", "", Hint::of_flag("tls-private-key-file")), FileKind::KeyMaterial);
        assert_eq!(kind("x", "a: 1", Hint::of_flag("encryption-provider-config")), FileKind::KeyMaterial);
        assert_eq!(kind("x", "t,u,1", Hint::of_flag("token-auth-file")), FileKind::KeyMaterial);
    }

    #[test]
    fn configuration_is_configuration_even_when_it_is_broken() {
        let audit = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  resources:\n  - group: \"\"\n    resources: [\"secrets\", \"configmaps\"]\n";
        assert_eq!(kind("audit.yaml", audit, Hint::None), FileKind::Config);
        assert_eq!(kind("audit.yaml", "rules: [", Hint::None), FileKind::Config);
        assert_eq!(kind("audit.yaml", "", Hint::None), FileKind::Config);
        assert_eq!(kind("audit.yaml", audit, Hint::of_flag("audit-policy-file")), FileKind::Config);
    }

    #[test]
    fn what_a_file_names_in_turn_is_found() {
        let admission = "kind: AdmissionConfiguration\nplugins:\n- name: EventRateLimit\n  path: eventconfig.yaml\n\
                         - name: ImagePolicyWebhook\n  configuration:\n    imagePolicy: {kubeConfigFile: /etc/kubernetes/image.conf, allowTTL: 50}\n";
        let content = classify(Path::new("admission.yaml"), admission.as_bytes(), Hint::None);
        assert_eq!(content.names, ["eventconfig.yaml", "/etc/kubernetes/image.conf"]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            for hint in [Hint::None, Hint::Kubeconfig, Hint::Secret] {
                classify(Path::new("x"), &bytes, hint);
            }
        }

        #[test]
        fn no_line_makes_it_panic(text in "[-\"' a-zäß:=]{0,40}") {
            classify(Path::new("x"), text.as_bytes(), Hint::None);
        }
    }
}
