//! The configuration documents that flags point to: audit policy, admission, encryption and the rest of them.
//!
//! They are read strictly, as the real program does where a wrong document must not be taken for a harmless one.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_yaml::Value;

use super::files::read;

/// Reads the document and checks apiVersion (one of `versions`, without the group) and kind.
fn load<T: DeserializeOwned>(path: &Path, group: &str, versions: &[&str], kind: &str) -> Result<T> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| anyhow!("{}: not UTF-8", path.display()))?;
    let document: Value = serde_yaml::from_str(text).map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let said = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, given) = (said("apiVersion"), said("kind"));
    if !versions.iter().any(|known| version == format!("{group}/{known}")) || given != kind {
        bail!("{}: no kind \"{given}\" is registered for version \"{version}\" in scheme", path.display());
    }
    serde_yaml::from_value(document).map_err(|why| anyhow!("{}: {why}", path.display()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuditPolicy {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Option<Value>,
    #[serde(default)]
    rules: Vec<AuditRule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuditRule {
    level: String,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(rename = "users")]
    _users: Option<Vec<String>>,
    #[serde(rename = "userGroups")]
    _user_groups: Option<Vec<String>>,
    #[serde(rename = "verbs")]
    _verbs: Option<Vec<String>>,
    #[serde(rename = "resources")]
    _resources: Option<Vec<AuditResources>>,
    #[serde(rename = "namespaces")]
    _namespaces: Option<Vec<String>>,
    #[serde(rename = "nonResourceURLs")]
    _non_resource_urls: Option<Vec<String>>,
    #[serde(rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuditResources {
    #[serde(rename = "group")]
    _group: Option<String>,
    #[serde(rename = "resources")]
    _resources: Option<Vec<String>>,
    #[serde(rename = "resourceNames")]
    _resource_names: Option<Vec<String>>,
}

/// `--audit-policy-file`.
pub fn audit_policy(path: &Path) -> Result<()> {
    let policy: AuditPolicy = load(path, "audit.k8s.io", &["v1"], "Policy").context("loading audit policy file")?;
    if policy.rules.is_empty() {
        bail!("loading audit policy file: loaded illegal policy with 0 rules from file {}", path.display());
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        if !matches!(rule.level.as_str(), "None" | "Metadata" | "Request" | "RequestResponse") {
            bail!(
                "loading audit policy file: {}: rules[{index}].level: Unsupported value: \"{}\": supported values: \
                 \"Metadata\", \"None\", \"Request\", \"RequestResponse\"",
                path.display(),
                rule.level
            );
        }
        for stage in rule.omit_stages.iter().chain(&policy.omit_stages) {
            if !matches!(stage.as_str(), "RequestReceived" | "ResponseStarted" | "ResponseComplete" | "Panic") {
                bail!("loading audit policy file: {}: omitStages: Invalid value: \"{stage}\"", path.display());
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admission {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    plugins: Vec<AdmissionPlugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdmissionPlugin {
    name: String,
    path: Option<String>,
    #[serde(rename = "configuration")]
    _configuration: Option<Value>,
}

/// `--admission-control-config-file`, and the files its plugins name (relative to it).
pub fn admission(path: &Path) -> Result<()> {
    let said = "failed to read plugin config: unable to read admission control configuration";
    let admission: Admission =
        load(path, "apiserver.config.k8s.io", &["v1"], "AdmissionConfiguration").context(said)?;
    for plugin in &admission.plugins {
        if let Some(file) = plugin.path.as_deref().filter(|file| !file.is_empty()) {
            let file = path.parent().unwrap_or(Path::new("/")).join(file);
            let bytes = read(&file).with_context(|| format!("{said}: plugin {}", plugin.name))?;
            let text = String::from_utf8_lossy(&bytes);
            let parsed: Result<Value, _> = serde_yaml::from_str(&text);
            parsed.map_err(|why| anyhow!("{said}: plugin {}: {}: {why}", plugin.name, file.display()))?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encryption {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    resources: Vec<EncryptedResources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncryptedResources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Value>,
    kms: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

/// `--encryption-provider-config`. Nothing is encrypted; the document alone is checked.
pub fn encryption(path: &Path) -> Result<()> {
    let said = || format!("error while parsing file: encryption provider configuration file {}", path.display());
    let versions = ["v1"];
    let encryption: Encryption =
        load(path, "apiserver.config.k8s.io", &versions, "EncryptionConfiguration").with_context(said)?;
    if encryption.resources.is_empty() {
        bail!("{}: resources: Required value: at least one resource configuration is required", said());
    }
    for group in &encryption.resources {
        if group.resources.is_empty() || group.providers.is_empty() {
            bail!("{}: resources: Required value: resources and providers are both required", said());
        }
        for provider in &group.providers {
            let keyed = [
                (&provider.aescbc, "aescbc", &[16, 24, 32][..]),
                (&provider.aesgcm, "aesgcm", &[16, 24, 32][..]),
                (&provider.secretbox, "secretbox", &[32][..]),
            ];
            let given = keyed.iter().filter(|(keys, _, _)| keys.is_some()).count();
            if given + usize::from(provider.identity.is_some()) + usize::from(provider.kms.is_some()) > 1 {
                bail!("{}: providers: Invalid value: more than one provider specified in a single element", said());
            }
            for (keys, kind, lengths) in keyed {
                for key in keys.iter().flat_map(|keys| &keys.keys) {
                    let bytes = STANDARD
                        .decode(&key.secret)
                        .map_err(|_| anyhow!("{}: {kind} key {}: secret must be base64 encoded", said(), key.name))?;
                    if !lengths.contains(&bytes.len()) {
                        bail!(
                            "{}: {kind} key {}: secret is not of the expected length, got {}, expected one of {lengths:?}",
                            said(),
                            key.name,
                            bytes.len()
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// `--authentication-config`.
pub fn authentication(path: &Path) -> Result<()> {
    let versions = ["v1", "v1beta1", "v1alpha1"];
    load::<Value>(path, "apiserver.config.k8s.io", &versions, "AuthenticationConfiguration").map(drop)
}

/// `--authorization-config`.
pub fn authorization(path: &Path) -> Result<()> {
    let versions = ["v1", "v1beta1", "v1alpha1"];
    let document: Value = load(path, "apiserver.config.k8s.io", &versions, "AuthorizationConfiguration")?;
    match document.get("authorizers").and_then(Value::as_sequence) {
        Some(authorizers) if !authorizers.is_empty() => Ok(()),
        _ => bail!("{}: authorizers: Required value: at least one authorization mode must be defined", path.display()),
    }
}

/// `--egress-selector-config-file`.
pub fn egress_selector(path: &Path) -> Result<()> {
    let versions = ["v1beta1", "v1alpha1"];
    load::<Value>(path, "apiserver.k8s.io", &versions, "EgressSelectorConfiguration").map(drop)
}

/// `--tracing-config-file`.
pub fn tracing(path: &Path) -> Result<()> {
    let versions = ["v1", "v1beta1", "v1alpha1"];
    load::<Value>(path, "apiserver.config.k8s.io", &versions, "TracingConfiguration").map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn told(check: fn(&Path) -> Result<()>, text: &str) -> Result<(), String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        check(file.path()).map_err(|why| format!("{why:#}"))
    }

    #[test]
    fn an_audit_policy_needs_its_version_a_rule_and_known_levels() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        assert_eq!(told(audit_policy, &format!("{head}rules:\n- level: Metadata\n")), Ok(()));
        for (text, part) in [
            (format!("{head}rules: []\n"), "loaded illegal policy with 0 rules"),
            (format!("{head}rules:\n- level: Metdata\n"), "rules[0].level: Unsupported value"),
            (format!("{head}rules:\n- level: Metadata\n  usrs: [a]\n"), "unknown field `usrs`"),
            ("apiVersion: audit.k8s.io/v2\nkind: Policy\n".to_owned(), "no kind \"Policy\" is registered"),
            ("rules: [\n".to_owned(), "loading audit policy file"),
            (String::new(), "no kind \"\" is registered"),
        ] {
            let why = told(audit_policy, &text).expect_err(part);
            assert!(why.contains(part), "{why}");
        }
        let why = format!("{:#}", audit_policy(Path::new("/no/such")).expect_err("missing"));
        assert!(why.contains("open /no/such: no such file or directory"), "{why}");
    }

    #[test]
    fn an_admission_configuration_brings_its_files() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
        assert_eq!(told(admission, &format!("{head}plugins:\n- name: PodSecurity\n  configuration: {{}}\n")), Ok(()));
        let why = told(admission, &format!("{head}plugins:\n- name: EventRateLimit\n  path: nosuch.yaml\n"))
            .expect_err("its file is missing");
        assert!(why.contains("plugin EventRateLimit") && why.contains("nosuch.yaml"), "{why}");
    }

    #[test]
    fn an_encryption_key_must_be_one() {
        let document = |secret: &str| {
            format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: \
                 [secrets]\n  providers:\n  - aescbc:\n      keys:\n      - name: k1\n        secret: {secret}\n  - \
                 identity: {{}}\n"
            )
        };
        assert_eq!(told(encryption, &document("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")), Ok(()));
        assert!(told(encryption, &document("AAAA")).expect_err("short").contains("expected length, got 3"));
        assert!(told(encryption, &document("'%%'")).expect_err("no base64").contains("base64"));
    }
}
