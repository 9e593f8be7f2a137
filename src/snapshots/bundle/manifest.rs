//! `NAME.bundle.json`: the parts of a bundle, and the snapshot it belongs to.
//!
//! The names of the parts are not trusted but compared with the names that a snapshot of that name can have, so that
//! none leads out of the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::tar::Entry;
use super::{KEYS, MANIFEST, MAX_MANIFEST, MAX_PART, NODE, beside, stem, tar};
use crate::model::etcd::Member;
use crate::model::snapshot::Bundled;
use crate::model::{ComponentId, Digest, Format, lift};
use crate::observe;
use crate::record::envelope;
use crate::sys::{files, label};

/// The format. One of a newer version is not understood by this program, and stays.
const FORMAT: Format = Format {
    key: "bundle",
    versions: &[
        "what a bundle consists of; of key files: sha256",
        "of key files: public in the place of sha256",
        "SELinux labels (labels)",
    ],
    lift: lift::nothing,
};

/// What a bundle consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bundle {
    /// Every part, the data first.
    pub parts: Vec<Part>,
    /// The node it was taken on.
    pub node: String,
    /// The cluster's ID.
    pub cluster: u64,
    /// The members of the cluster, as they were listed last; none where they never were.
    pub members: Vec<Member>,
    /// The highest MVCC revision that any cluster of this node was ever seen to serve.
    pub highest_revision: i64,
    /// The etcd that sent the data, such as `3.5.16`; absent for a copy.
    pub etcd: Option<String>,
    /// The components whose manifests are in it.
    pub components: BTreeMap<ComponentId, Component>,
    /// The files of configuration in it.
    pub configuration: Vec<PathBuf>,
    /// The key material of the node at that time, whether it is in it or not.
    pub keys: Vec<Fingerprint>,
    /// The SELinux labels of the files in it, where the node had any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<PathBuf, String>,
    /// To whom the key material is encrypted: public keys. None: it is not in the bundle.
    pub recipients: Vec<String>,
    /// What is not in it and should be known: a sentence each.
    pub left_out: Vec<String>,
    /// When it was made.
    pub made: Timestamp,
    /// By which version of lastgood.
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Part {
    /// Its name, in the directory of the manifest.
    pub name: String,
    /// Bytes of it.
    pub bytes: u64,
    /// Of all of them.
    pub sha256: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Component {
    /// Where its manifest lay.
    pub manifest: PathBuf,
    /// Which generation it is.
    pub generation: u32,
    /// The minor version that its image names.
    pub minor: Option<(u32, u32)>,
    /// The images it needs.
    pub images: BTreeSet<String>,
}

/// One file of key material.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fingerprint {
    pub path: PathBuf,
    /// SHA-256 of what is public of it: the DER of its certificates and public keys, of a private key that of its
    /// public one (`openssl pkey -pubout -outform DER | sha256sum`). Absent where nothing is: a manifest is in plain
    /// sight, and a password or a token could be guessed from its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Digest>,
    /// Of all of it, in a bundle of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

impl Fingerprint {
    /// Of a file.
    pub(super) fn of(entry: &Entry) -> Self {
        Self { path: entry.path.clone(), public: observe::public_fingerprint(&entry.bytes), sha256: None }
    }

    /// Whether a file is the one that was listed, as far as it says.
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let of_all = self.sha256.is_none_or(|sha256| sha256 == Digest::of(&entry.bytes));
        let public = self.public.is_none_or(|public| Some(public) == observe::public_fingerprint(&entry.bytes));
        self.path == entry.path && public && of_all
    }
}

/// Why there is no bundle to be had: a sentence that names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{} has no bundle ({MANIFEST})", .0.display())]
    None(PathBuf),
    /// It is damaged, or not one.
    #[error("{0}")]
    Damaged(String),
    /// It may not be read.
    #[error("{0}")]
    Denied(String),
    /// What is asked for cannot be done with it.
    #[error("{0}")]
    Refused(String),
}

impl Bundle {
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        let bytes = envelope::wrap(&FORMAT, self).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_MANIFEST { Err("lists too many parts".to_owned()) } else { Ok(bytes) }
    }

    /// Reads it from its text. `snapshot`: the name of the file it has to be about.
    ///
    /// # Errors
    /// A clause: what is wrong with it.
    pub fn decode(bytes: &[u8], snapshot: &str) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(format!("is larger than {MAX_MANIFEST} bytes"));
        }
        let bundle: Self = envelope::decode(&FORMAT, bytes).map_err(|fault| fault.to_string())?;
        bundle.fits(snapshot)?;
        Ok(bundle)
    }

    /// The bundle next to a snapshot: its manifest alone is read.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn read(snapshot: &Path) -> Result<Self, Fault> {
        let none = || Fault::None(snapshot.to_owned());
        let path = beside(snapshot, MANIFEST).ok_or_else(none)?;
        let file = snapshot.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = files::read_bounded(&path, MAX_MANIFEST).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => none(),
            std::io::ErrorKind::PermissionDenied => Fault::Denied(format!("{error}: use sudo")),
            _ => Fault::Damaged(error.to_string()),
        })?;
        Self::decode(&bytes, &file).map_err(|why| Fault::Damaged(format!("{} {why}", path.display())))
    }

    /// Whether it can be the bundle of a snapshot of that name.
    fn fits(&self, snapshot: &str) -> Result<(), String> {
        let stem = stem(snapshot).ok_or("names no snapshot")?;
        let first = self.parts.first().ok_or("lists no part")?;
        if first.name != snapshot {
            let words = "give every file of a snapshot the name it had";
            return Err(format!("is about {:?}, not {snapshot}: {words}", first.name));
        }
        let mut seen = BTreeSet::new();
        for part in &self.parts {
            if !seen.insert(part.name.as_str()) {
                return Err(format!("lists {:?} twice", part.name));
            }
            let known = [NODE, KEYS].iter().any(|ending| part.name == format!("{stem}.{ending}"));
            if part.name != snapshot && !known {
                return Err(format!("lists {:?}, which is no part of a snapshot of that name", part.name));
            }
            if known && part.bytes > MAX_PART {
                return Err(format!("lists {} with {} bytes: a part has {MAX_PART} at most", part.name, part.bytes));
            }
        }
        if self.part(NODE).is_none() {
            return Err(format!("does not list {stem}.{NODE}"));
        }
        if self.part(KEYS).is_some() == self.recipients.is_empty() {
            return Err("does not name the recipients of its keys".to_owned());
        }
        if let Some((path, _)) = self.labels.iter().find(|(_, label)| !label::is_label(label)) {
            return Err(format!("gives {} an SELinux label that is none", path.display()));
        }
        let labels = self.labels.len() > 2 * tar::MAX_FILES;
        if labels || self.keys.len() > tar::MAX_FILES || self.configuration.len() > tar::MAX_FILES {
            return Err("lists too many files".to_owned());
        }
        let own = [&self.node, &self.by].into_iter().chain(&self.etcd).chain(&self.recipients).chain(&self.left_out);
        let members = self.members.iter().flat_map(|m| m.peer_urls.iter().chain(&m.client_urls).chain([&m.name]));
        let images = self.components.values().flat_map(|component| &component.images);
        let paths = self.keys.iter().map(|key| &key.path).chain(&self.configuration).chain(self.labels.keys());
        let mut paths = paths.chain(self.components.values().map(|component| &component.manifest));
        // All of them are shown on terminals.
        let mut texts = own.chain(members).chain(images);
        let hostile = |text: &str| text.chars().any(char::is_control);
        if texts.any(|text| hostile(text)) || paths.any(|path| hostile(&path.to_string_lossy())) {
            return Err("contains control characters".to_owned());
        }
        Ok(())
    }

    /// The part with this ending.
    fn part(&self, ending: &str) -> Option<&Part> {
        self.parts.iter().skip(1).find(|part| part.name.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.')))
    }

    /// Files of the node.
    pub(super) fn node_part(&self) -> Option<&Part> {
        self.part(NODE)
    }

    /// Keys of the node, encrypted; absent where there was nobody to encrypt them to.
    pub fn keys_part(&self) -> Option<&Part> {
        self.part(KEYS)
    }

    /// In a few words.
    fn briefly(&self) -> String {
        let count = |n: usize, one: &str, more: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {more}") };
        let manifests = count(self.components.len(), "manifest", "manifests");
        let files = count(self.configuration.len(), "file of configuration", "files of configuration");
        let keys = match self.keys_part() {
            Some(_) => format!("{} encrypted", count(self.keys.len(), "key file,", "key files,")),
            None => "no keys".to_owned(),
        };
        format!("{manifests}, {files}, {keys}")
    }
}

impl From<Bundle> for Bundled {
    fn from(bundle: Bundle) -> Self {
        Self { briefly: bundle.briefly(), keys: bundle.keys_part().is_some(), left_out: bundle.left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_of_every_version_is_read() {
        let key = |public, sha256| Fingerprint { path: "/etc/kubernetes/pki/ca.key".into(), public, sha256 };
        let bundle = |key, labels| Bundle {
            parts: vec![Part { name: "part".to_owned(), bytes: 1, sha256: Digest::of(b"part") }],
            node: "m1".to_owned(),
            cluster: 7,
            members: Vec::new(),
            highest_revision: 100,
            etcd: Some("3.5.16".to_owned()),
            components: BTreeMap::from([(
                ComponentId::system("etcd"),
                Component {
                    manifest: "/etc/kubernetes/manifests/etcd.yaml".into(),
                    generation: 2,
                    minor: Some((3, 5)),
                    images: BTreeSet::from(["etcd".to_owned()]),
                },
            )]),
            configuration: vec!["/etc/kubernetes/audit.yaml".into()],
            keys: vec![key],
            labels,
            recipients: vec!["age1".to_owned()],
            left_out: vec!["nothing".to_owned()],
            made: Timestamp::UNIX_EPOCH,
            by: "lastgood 0.1.0".to_owned(),
        };
        envelope::golden(&FORMAT, (1, ""), &bundle(key(None, Some(Digest::of(b"key"))), BTreeMap::new()));
        envelope::golden(&FORMAT, (2, ""), &bundle(key(Some(Digest::of(b"public")), None), BTreeMap::new()));
        let label = ("/etc/kubernetes/audit.yaml".into(), "system_u:object_r:etc_t:s0".to_owned());
        let labelled = bundle(key(Some(Digest::of(b"public")), None), BTreeMap::from([label]));
        envelope::golden(&FORMAT, (3, ""), &labelled);
    }
}
