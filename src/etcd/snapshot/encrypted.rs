//! Counts the values that the API server encrypted, by provider and key, while the keys are walked in the order of their
//! revisions. Only the newest value of a key counts.
//!
//! ```text
//!   k8s:enc:PROVIDER:VERSION:KEY:ciphertext      `k8s:enc:aescbc:v1:key1:…`, `k8s:enc:kms:v2:NAME:…`
//!   /registry/RESOURCE/…                         `secrets`
//!   /registry/GROUP/RESOURCE/…                   `widgets.example.org`: a group has a dot in its name
//! ```
//!
//! A Secret that is not encrypted counts for the provider `identity`: a configuration without that one cannot read it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use serde::{Deserialize, Serialize};

/// What an encrypted value begins with.
const PREFIX: &[u8] = b"k8s:enc:";
/// The provider that encrypts nothing.
pub const IDENTITY: &str = "identity";
/// The kind whose plain values count as well.
const SECRETS: &str = "secrets";
/// The keys whose newest value is remembered: about 20 MiB.
const MAX_KEYS: usize = 500_000;
/// Combinations of provider, key and kind; real clusters have a handful.
const MAX_GROUPS: usize = 200;
/// Of a name that is kept.
const MAX_NAME: usize = 64;

/// The values that are encrypted with one key of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EncryptedBy {
    /// `aescbc`, `aesgcm`, `secretbox`, `kms`; `identity` for Secrets that are not encrypted.
    pub provider: String,
    /// `v1`; of kms also `v2`. Empty for `identity`.
    pub version: String,
    /// The name of the key; of kms that of the plugin. Empty for `identity`.
    pub key: String,
    /// How many values, by resource.
    pub values: BTreeMap<String, u64>,
}

#[derive(PartialEq, Eq)]
struct Group {
    provider: String,
    version: String,
    key: String,
    kind: String,
}

pub(super) struct Encrypted {
    groups: Vec<(Group, u64)>,
    /// By the key's hash: the group of its newest value.
    newest: HashMap<u64, usize>,
    hasher: RandomState,
    /// Whether there are more keys than are remembered.
    pub(super) is_exact: bool,
}

impl Encrypted {
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), newest: HashMap::new(), hasher: RandomState::new(), is_exact: true }
    }

    /// A key is written.
    pub(super) fn value(&mut self, key: &[u8], value: &[u8]) {
        let kind = kind(key);
        match prefix(value) {
            Some([provider, version, name]) => self.is_of([provider, version, name, &kind], key),
            None if kind == SECRETS => self.is_of([IDENTITY, "", "", &kind], key),
            None => self.forget(&kind, key),
        }
    }

    /// A key is deleted.
    pub(super) fn gone(&mut self, key: &[u8]) {
        self.forget(&kind(key), key);
    }

    fn forget(&mut self, kind: &str, key: &[u8]) {
        // Nearly all keys are of a kind that is never encrypted.
        if self.groups.iter().any(|(group, _)| group.kind == kind)
            && let Some(before) = self.newest.remove(&self.hasher.hash_one(key))
        {
            self.add(before, -1);
        }
    }

    fn is_of(&mut self, names: [&str; 4], key: &[u8]) {
        let group = self.group(names);
        let hash = self.hasher.hash_one(key);
        if self.newest.len() < MAX_KEYS || self.newest.contains_key(&hash) {
            if let Some(before) = self.newest.insert(hash, group) {
                self.add(before, -1);
            }
        } else {
            self.is_exact = false;
        }
        self.add(group, 1);
    }

    fn add(&mut self, group: usize, values: i64) {
        if let Some((_, count)) = self.groups.get_mut(group) {
            *count = count.saturating_add_signed(values);
        }
    }

    fn group(&mut self, names: [&str; 4]) -> usize {
        let is = |group: &Group| [&group.provider, &group.version, &group.key, &group.kind] == names;
        if let Some(at) = self.groups.iter().position(|(group, _)| is(group)) {
            return at;
        }
        let [provider, version, key, kind] = match self.groups.len() {
            0..MAX_GROUPS => names,
            MAX_GROUPS => ["other", "", "", "others"],
            _ => return MAX_GROUPS,
        }
        .map(str::to_owned);
        self.groups.push((Group { provider, version, key, kind }, 0));
        self.groups.len() - 1
    }

    /// What was counted, in the order of the names.
    pub(super) fn counted(self) -> Vec<EncryptedBy> {
        let mut all: BTreeMap<(String, String, String), BTreeMap<String, u64>> = BTreeMap::new();
        for (Group { provider, version, key, kind }, count) in self.groups {
            if count > 0 {
                all.entry((provider, version, key)).or_default().insert(kind, count);
            }
        }
        let one = |((provider, version, key), values)| EncryptedBy { provider, version, key, values };
        all.into_iter().map(one).collect()
    }
}

/// Provider, version and key of an encrypted value.
fn prefix(value: &[u8]) -> Option<[&str; 3]> {
    let rest = value.strip_prefix(PREFIX)?;
    let mut parts = rest.splitn(4, |byte| *byte == b':').map(name);
    Some([parts.next()?, parts.next()?, parts.next()?])
}

/// A name that may be anything: empty where it is none.
fn name(bytes: &[u8]) -> &str {
    let text = bytes.get(..bytes.len().min(MAX_NAME)).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.filter(|text| !text.chars().any(char::is_control)).unwrap_or_default()
}

/// The resource of a key of the API server's, as an EncryptionConfiguration names it.
fn kind(key: &[u8]) -> String {
    let mut parts = key.split(|byte| *byte == b'/').map(name).skip(2);
    let first = parts.next().unwrap_or_default();
    match parts.next().filter(|_| first.contains('.')) {
        Some(resource) => format!("{resource}.{first}"),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(changes: &[(&str, Option<&str>)]) -> Vec<(String, Vec<(String, u64)>)> {
        let mut encrypted = Encrypted::new();
        for (key, value) in changes {
            match value {
                Some(value) => encrypted.value(key.as_bytes(), value.as_bytes()),
                None => encrypted.gone(key.as_bytes()),
            }
        }
        let name = |by: &EncryptedBy| format!("{} {} {}", by.provider, by.version, by.key);
        encrypted.counted().into_iter().map(|by| (name(&by), by.values.into_iter().collect())).collect()
    }

    #[test]
    fn the_newest_value_of_each_key_counts() {
        let (one, two) = (Some("k8s:enc:aescbc:v1:key1:x"), Some("k8s:enc:aescbc:v1:key2:x"));
        let kms = Some("k8s:enc:kms:v2:vault:\n\x05");
        let plain = Some("k8s\0\n");
        let expected = |by: &str, kind: &str, values| (by.to_owned(), vec![(kind.to_owned(), values)]);
        for (situation, changes, counts) in [
            ("nothing", vec![], vec![]),
            ("none encrypted", vec![("/registry/pods/a/b", plain)], vec![]),
            ("plain Secrets", vec![("/registry/secrets/a/b", plain)], vec![expected("identity  ", "secrets", 1)]),
            (
                "two",
                vec![("/registry/secrets/a/b", one), ("/registry/secrets/a/c", one)],
                vec![expected("aescbc v1 key1", "secrets", 2)],
            ),
            (
                "rotated",
                vec![("/registry/secrets/a/b", one), ("/registry/secrets/a/b", two)],
                vec![expected("aescbc v1 key2", "secrets", 1)],
            ),
            ("deleted", vec![("/registry/secrets/a/b", one), ("/registry/secrets/a/b", None)], vec![]),
            ("decrypted", vec![("/registry/configmaps/a/b", one), ("/registry/configmaps/a/b", plain)], vec![]),
            (
                "a custom resource",
                vec![("/registry/example.org/widgets/a/b", kms)],
                vec![expected("kms v2 vault", "widgets.example.org", 1)],
            ),
            ("no name", vec![("/registry/secrets/a/b", Some("k8s:enc:"))], vec![expected("identity  ", "secrets", 1)]),
        ] {
            assert_eq!(counted(&changes), counts, "{situation}");
        }
    }

    #[test]
    fn more_names_than_any_cluster_has_are_counted_together() {
        let mut encrypted = Encrypted::new();
        for at in 0..1000 {
            encrypted.value(format!("/registry/secrets/a/{at}").as_bytes(), format!("k8s:enc:x:v1:{at}:").as_bytes());
        }
        let counted = encrypted.counted();
        assert_eq!(counted.len(), MAX_GROUPS + 1);
        assert_eq!(counted.iter().flat_map(|by| by.values.values()).sum::<u64>(), 1000);
    }
}
