//! Whether the API server can decrypt what a snapshot holds: the providers and keys of its EncryptionConfiguration, by name
//! alone (Q4), and the values that need others.
//!
//! ```text
//!   resources:                      the first entry that names a resource decides for it
//!   - resources: [secrets, "*.*"]   secrets, widgets.example.org, *.apps, *. (the core group), *.*
//!     providers:
//!     - aescbc: {keys: [{name: key1, secret: …}]}      aesgcm and secretbox alike
//!     - kms: {apiVersion: v2, name: vault, …}
//!     - identity: {}                what is not encrypted
//! ```

use std::path::PathBuf;

use serde::Deserialize;

use super::snapshot::{EncryptedBy, IDENTITY};

/// What the API server of this node decrypts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// No manifest of kube-apiserver is on this node.
    #[default]
    NoApiServer,
    /// Its manifest names no EncryptionConfiguration.
    NotConfigured {
        manifest: PathBuf,
    },
    /// It names one that cannot be read.
    Unreadable {
        file: PathBuf,
        why: String,
    },
    Configured {
        file: PathBuf,
        configuration: Configuration,
    },
}

/// The names of providers and keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Configuration {
    resources: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Entry {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Provider {
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    kms: Option<Kms>,
    identity: Option<Identity>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Keys {
    keys: Vec<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kms {
    api_version: Option<String>,
    name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Identity {}

impl Configuration {
    /// Of a file's text.
    ///
    /// # Errors
    /// Where it does not parse, with the place and nothing of the text: a secret may be there.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_yaml::from_str(text).map_err(|error| match error.location() {
            Some(at) => format!("it is no EncryptionConfiguration (line {}, column {})", at.line(), at.column()),
            None => "it is no EncryptionConfiguration".to_owned(),
        })
    }

    /// Whether values of a resource can be read that are encrypted so.
    fn reads(&self, kind: &str, by: &EncryptedBy) -> bool {
        let entry = self.resources.iter().find(|entry| entry.resources.iter().any(|pattern| covers(pattern, kind)));
        match entry {
            Some(entry) => entry.providers.iter().any(|provider| provider.reads(by)),
            None => by.provider == IDENTITY,
        }
    }
}

fn covers(pattern: &str, kind: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some("*") => true,
        Some(group) => kind.split_once('.').map_or("", |(_, group)| group) == group,
        None => pattern == kind,
    }
}

impl Provider {
    fn reads(&self, by: &EncryptedBy) -> bool {
        // A name with a colon is not told from what follows it.
        let is = |name: &str| name == by.key || name.split(':').next() == Some(&by.key);
        let of = |keys: &Option<Keys>| keys.as_ref().is_some_and(|keys| keys.keys.iter().any(|key| is(&key.name)));
        match by.provider.as_str() {
            "aescbc" => of(&self.aescbc),
            "aesgcm" => of(&self.aesgcm),
            "secretbox" => of(&self.secretbox),
            "kms" => self
                .kms
                .as_ref()
                .is_some_and(|kms| is(&kms.name) && kms.api_version.as_deref().unwrap_or("v1") == by.version),
            IDENTITY => self.identity.is_some(),
            _ => false,
        }
    }
}

/// What a restore on this node means for the values of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// The API server of this node cannot read these: a sentence each.
    pub unreadable: Vec<String>,
    /// The same values, by their keys.
    pub lacking: Vec<EncryptedBy>,
    /// What should be known otherwise: a sentence each.
    pub remarks: Vec<String>,
}

/// Compares the values of a snapshot with what the API server of this node decrypts with.
pub fn compare(encrypted: &[EncryptedBy], node: &Encryption) -> Readable {
    let mut found = Readable { lacking: lacking(encrypted, node), ..Readable::default() };
    let is_plain = |by: &&EncryptedBy| by.provider == IDENTITY;
    let mut ciphers = encrypted.iter().filter(|by| !is_plain(by)).peekable();
    match node {
        _ if encrypted.is_empty() => {}
        Encryption::NoApiServer if ciphers.peek().is_some() => found.remarks.push(format!(
            "{}; no kube-apiserver manifest is on this node, so no EncryptionConfiguration is configured here that could be \
             compared: the API server that reads this etcd needs the same keys",
            listed(ciphers)
        )),
        Encryption::NotConfigured { manifest } if ciphers.peek().is_some() => found.unreadable.extend(ciphers.map(|by| {
            let manifest = manifest.display();
            let sum = sum(by, |_| true);
            format!(
                "{sum} with {}, and {manifest} configures no EncryptionConfiguration (--encryption-provider-config): they \
                 will be unreadable",
                called(by)
            )
        })),
        Encryption::Unreadable { file, why } => found.unreadable.extend(ciphers.map(|by| {
            let file = file.display();
            format!("{} with {}, and whether {file} has it is unknown: {why}", sum(by, |_| true), called(by))
        })),
        Encryption::Configured { file, configuration } => {
            for by in encrypted {
                let reads = |kind: &String| configuration.reads(kind, by);
                let file = file.display();
                if by.values.keys().any(|kind| !reads(kind)) {
                    let sum = sum(by, |kind| !reads(kind));
                    found.unreadable.push(match by.provider == IDENTITY {
                        true => format!("{sum}, and {file} has no provider identity for them: they will be unreadable"),
                        false => {
                            format!("{sum} with {}, which {file} does not have for them: they will be unreadable", called(by))
                        }
                    });
                } else if by.provider == "kms" {
                    found.remarks.push(format!(
                        "{} with {}: its plugin must still have the key that it had then",
                        sum(by, |_| true),
                        called(by)
                    ));
                }
            }
        }
        Encryption::NoApiServer | Encryption::NotConfigured { .. } => {}
    }
    found
}

/// What the API server of this node does not decrypt, as far as is known.
fn lacking(encrypted: &[EncryptedBy], node: &Encryption) -> Vec<EncryptedBy> {
    let reads = |kind: &String, by: &EncryptedBy| match node {
        Encryption::NoApiServer => true,
        Encryption::NotConfigured { .. } | Encryption::Unreadable { .. } => by.provider == IDENTITY,
        Encryption::Configured { configuration, .. } => configuration.reads(kind, by),
    };
    let left = encrypted.iter().map(|by| {
        let values = by.values.iter().filter(|(kind, _)| !reads(kind, by));
        EncryptedBy { values: values.map(|(kind, count)| (kind.clone(), *count)).collect(), ..by.clone() }
    });
    left.filter(|by| !by.values.is_empty()).collect()
}

/// Values in a few words: `4 values (secrets) are encrypted with aescbc key1`.
pub fn described(by: &EncryptedBy) -> String {
    let with = if by.provider == IDENTITY { String::new() } else { format!(" with {}", called(by)) };
    format!("{}{with}", sum(by, |_| true))
}

fn listed<'a>(encrypted: impl Iterator<Item = &'a EncryptedBy>) -> String {
    let all: Vec<String> = encrypted.map(|by| format!("{} with {}", sum(by, |_| true), called(by))).collect();
    all.join("; ")
}

/// `aescbc key1`, `kms v2 vault`
pub fn called(by: &EncryptedBy) -> String {
    match by.provider.as_str() {
        IDENTITY => IDENTITY.to_owned(),
        "kms" => format!("kms {} {}", by.version, by.key),
        provider => format!("{provider} {}", by.key),
    }
}

/// `412 values (secrets 400, configmaps 12) are encrypted`
fn sum(by: &EncryptedBy, of: impl Fn(&String) -> bool) -> String {
    let values: Vec<(&String, &u64)> = by.values.iter().filter(|(kind, _)| of(kind)).collect();
    let all: u64 = values.iter().map(|(_, count)| *count).sum();
    let kinds = match values.as_slice() {
        [(kind, _)] => (*kind).clone(),
        several => several.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", "),
    };
    let (noun, verb) = if all == 1 { ("value", "is") } else { ("values", "are") };
    let not = if by.provider == IDENTITY { "not " } else { "" };
    format!("{all} {noun} ({kinds}) {verb} {not}encrypted")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, widgets.example.org]
  providers:
  - aescbc: {keys: [{name: key2, secret: c2VjcmV0IGlzIHNlY3VyZQ==}, {name: key1, secret: dGhpcyBpcyBwYXNzd29yZA==}]}
  - kms: {apiVersion: v2, name: vault, endpoint: unix:///tmp/s.sock}
  - identity: {}
- resources: ['*.apps']
  providers: [{secretbox: {keys: [{name: box, secret: x}]}}]
- resources: [configmaps, '*.*']
  providers: [{kms: {name: old}}]
";

    fn by(provider: &str, version: &str, key: &str, values: &[(&str, u64)]) -> EncryptedBy {
        let values = values.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        EncryptedBy { provider: provider.to_owned(), version: version.to_owned(), key: key.to_owned(), values }
    }

    #[test]
    fn each_kind_is_read_by_the_providers_of_the_first_entry_that_names_it() {
        let configuration = Configuration::parse(FILE).unwrap();
        for (provider, version, key, kind, expected) in [
            ("aescbc", "v1", "key1", "secrets", true),
            ("aescbc", "v1", "key2", "widgets.example.org", true),
            ("aescbc", "v1", "key3", "secrets", false),
            ("aesgcm", "v1", "key1", "secrets", false),
            ("aescbc", "v1", "key1", "configmaps", false),
            ("kms", "v2", "vault", "secrets", true),
            ("kms", "v1", "vault", "secrets", false),
            ("kms", "v1", "old", "configmaps", true),
            ("kms", "v1", "old", "pods", true),
            ("secretbox", "v1", "box", "deployments.apps", true),
            ("secretbox", "v1", "box", "secrets", false),
            ("identity", "", "", "secrets", true),
            ("identity", "", "", "configmaps", false),
            ("later", "v1", "key1", "secrets", false),
        ] {
            assert_eq!(
                configuration.reads(kind, &by(provider, version, key, &[])),
                expected,
                "{provider} {key} {kind}"
            );
        }
        assert!(Configuration::default().reads("secrets", &by("identity", "", "", &[])), "no entry names it");
        assert!(!Configuration::default().reads("secrets", &by("aescbc", "v1", "key1", &[])));
    }

    #[test]
    fn a_restore_onto_other_keys_says_which_values_are_lost() {
        let file = PathBuf::from("/etc/kubernetes/enc.yaml");
        let configured =
            Encryption::Configured { file: file.clone(), configuration: Configuration::parse(FILE).unwrap() };
        let manifest = PathBuf::from("/etc/kubernetes/manifests/kube-apiserver.yaml");
        let none = Encryption::NotConfigured { manifest };
        let torn = Encryption::Unreadable { file, why: "it does not exist".to_owned() };
        let fits = [by("aescbc", "v1", "key1", &[("secrets", 412)])];
        let other = [by("aescbc", "v1", "key9", &[("configmaps", 1), ("secrets", 411)]), fits[0].clone()];
        let kms = [by("kms", "v2", "vault", &[("secrets", 1)])];
        let plain = [by(IDENTITY, "", "", &[("secrets", 3)])];
        for (situation, values, node, unreadable, remarks) in [
            ("nothing", &[][..], &none, 0, 0),
            ("the key is there", &fits, &configured, 0, 0),
            ("one is not", &other, &configured, 1, 0),
            ("not configured", &other, &none, 2, 0),
            ("the file is gone", &fits, &torn, 1, 0),
            ("another machine", &other, &Encryption::NoApiServer, 0, 1),
            ("a plugin", &kms, &configured, 0, 1),
            ("not encrypted, not configured", &plain, &none, 0, 0),
            ("not encrypted, identity among the providers", &plain, &configured, 0, 0),
            ("not encrypted, the file is gone", &plain, &torn, 0, 0),
        ] {
            let found = compare(values, node);
            assert_eq!((found.unreadable.len(), found.remarks.len()), (unreadable, remarks), "{situation}: {found:?}");
            assert_eq!(found.lacking.len(), unreadable, "{situation}: {found:?}");
        }
        let said = compare(&other, &configured).unreadable.remove(0);
        assert_eq!(
            said,
            "412 values (configmaps 1, secrets 411) are encrypted with aescbc key9, which /etc/kubernetes/enc.yaml does \
             not have for them: they will be unreadable"
        );
        let strict = "resources: [{resources: [secrets], providers: [{aescbc: {keys: [{name: a}]}}]}]";
        let strict = Encryption::Configured { file: "/e".into(), configuration: Configuration::parse(strict).unwrap() };
        assert_eq!(compare(&plain, &strict).unreadable.len(), 1, "no identity");
    }

    #[test]
    fn no_secret_is_told_of_a_file_that_does_not_parse() {
        for text in [
            "resources: c2VjcmV0",
            "resources: [{providers: [{aescbc: {keys: c2VjcmV0}}]}]",
            "resources: [{providers: [{aescbc: {keys: [{name: {c2VjcmV0: 1}}]}}]}]",
            "a: [c2VjcmV0",
        ] {
            let said = Configuration::parse(text).unwrap_err();
            assert!(!said.contains("c2VjcmV0"), "{said}");
        }
    }
}
