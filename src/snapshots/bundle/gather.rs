//! Collects the content of a bundle: known-good state from the record, everything else from the node.
//!
//! | what                                                      | from                   | part                                |
//! |-----------------------------------------------------------|------------------------|-------------------------------------|
//! | manifests and their configuration files                   | known-good generations | the plain part, unless it is secret |
//! | the kubelet's configuration and arguments                 | the node               | the plain part, unless it is secret |
//! | lastgood's configuration                                  | the node               | the plain part, unless it is secret |
//! | files that a generation has only the fingerprint of       | the node               | the encrypted part                  |
//! | the PKI directory, kubeconfigs, the kubelet's credentials | the node               | the encrypted part                  |
//!
//! A file is classified by its content, as everywhere (Q4). Key material is only in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::manifest::Component;
use super::tar::{self, Entry};
use crate::config::Settings;
use crate::model::config_files::MAX_FILE_BYTES;
use crate::model::etcd_history::EtcdHistory;
use crate::model::{ComponentId, FileKind, FileState, Generation};
use crate::observe;
use crate::record::{self, Store};
use crate::sys::{files, label};

/// The most bytes of either kind; beyond that a file is left out, and named.
const MOST: u64 = 16 << 20;
/// How deep the PKI directory is looked through: pki/etcd is one.
const DEPTH: usize = 2;

/// Where the operator gives the kubelet arguments of their own: what kubeadm's drop-in reads of the packages of Debian
/// and of Fedora (`EnvironmentFile=-…`).
const KUBELET_EXTRA_ARGS: [&str; 2] = ["/etc/default/kubelet", "/etc/sysconfig/kubelet"];

#[derive(Debug)]
pub struct Gathered {
    /// The node's name.
    pub(super) node: String,
    /// What is known of its clusters.
    pub(in crate::snapshots) known: EtcdHistory,
    /// The components whose manifests are there.
    pub(super) components: BTreeMap<ComponentId, Component>,
    /// Manifests and configuration.
    pub(super) plain: Files,
    pub(super) keys: Files,
    /// The SELinux labels of these files, as the node has them.
    pub(super) labels: BTreeMap<PathBuf, String>,
    /// What is not there and should be known.
    pub(super) left_out: Vec<String>,
}

/// Files of one kind.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) entries: Vec<Entry>,
    bytes: u64,
}

impl Files {
    fn has(&self, path: &Path) -> bool {
        self.entries.iter().any(|entry| entry.path == path)
    }

    fn add(&mut self, entry: Entry) -> Result<(), String> {
        tar::fits(&entry)?;
        let bytes = self.bytes.saturating_add(entry.bytes.len() as u64);
        if self.entries.len() == tar::MAX_FILES || bytes > MOST {
            return Err("is larger than a bundle permits".to_owned());
        }
        self.bytes = bytes;
        self.entries.push(entry);
        Ok(())
    }
}

/// Gathers it. Needs no lock and no agent: the record is read as status reads it.
///
/// # Errors
/// A sentence, where there is no record at all.
pub fn gather(settings: &Settings) -> Result<Gathered, String> {
    let (machine, found) = observe::find(settings);
    let store = Store::open(settings).map_err(|error| error.to_string())?;
    let (memory, _) = store.load_memory(&machine);
    let (known, _) = record::last_known(settings);
    let mut gathered = Gathered {
        node: machine.node_name,
        known,
        components: BTreeMap::new(),
        plain: Files::default(),
        keys: Files::default(),
        labels: BTreeMap::new(),
        left_out: Vec::new(),
    };
    let mut keys = BTreeSet::new();
    for (id, record) in &memory.components {
        let aimed = record.goes_back_to().and_then(|number| record.generations.get(&number));
        let aimed = aimed.filter(|generation| generation.trust.is_known_good());
        match aimed.or_else(|| record.known_good().next()) {
            Some(generation) => {
                gathered.generation(&store, &found.manifests.value, id, generation);
                keys.extend(keys_of(generation));
            }
            None => gathered.left_out.push(format!("{id}: no generation of it is known-good yet")),
        }
    }
    if memory.components.is_empty() {
        gathered.left_out.push("no manifest is known-good yet: no agent has run on this node".to_owned());
    }
    // Without our own, a node that comes back names no recipients, and its next snapshots carry no keys.
    for path in found.kubelet_files.iter().chain(&settings.files).chain(&settings.snapshots.remote.ca_file) {
        gathered.off_the_node(path, Wanted::Plainly);
    }
    for path in KUBELET_EXTRA_ARGS.map(Path::new).into_iter().filter(|path| path.exists()) {
        gathered.off_the_node(path, Wanted::Plainly);
    }
    keys.extend(settings.snapshots.remote.credentials_file.clone());
    for path in keys {
        gathered.off_the_node(&path, Wanted::Sealed);
    }
    let root = &settings.paths.kubernetes;
    let credentials = settings.kubelet.config.with_file_name("pki").join("kubelet-client-current.pem");
    let beyond = [settings.kubelet.kubeconfig.clone(), credentials].into_iter().filter(|path| path.exists());
    for path in beyond.chain(kubeconfigs(root)).chain(regular_files(&root.join("pki"), DEPTH)) {
        gathered.off_the_node(&path, Wanted::Sealed);
    }
    gathered.labels();
    Ok(gathered)
}

/// What of a generation is recorded by fingerprint, or with a key embedded.
fn keys_of(generation: &Generation) -> impl Iterator<Item = PathBuf> {
    let secret = |state: &FileState| {
        matches!(state, FileState::Present { kind: FileKind::Kubeconfig { .. } | FileKind::KeyMaterial, .. })
    };
    generation.closure.iter().filter(move |file| secret(&file.state)).map(|file| file.path.clone())
}

/// The kubeconfigs of people and components: no manifest names an administrator's.
fn kubeconfigs(root: &Path) -> Vec<PathBuf> {
    let names = files::names(root).unwrap_or_default().into_iter().filter(|name| name.ends_with(".conf"));
    names.map(|name| root.join(name)).filter(|path| path.is_file()).collect()
}

fn regular_files(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in files::names(dir).unwrap_or_default().into_iter().map(|name| dir.join(name)).take(2 * tar::MAX_FILES) {
        if path.is_file() {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            found.extend(regular_files(&path, depth - 1));
        }
    }
    found
}

/// Where a file of the node is to go, unless it is secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Plainly,
    Sealed,
}

impl Gathered {
    /// Looks at the label of each file on the node. One that is not there any more has none.
    fn labels(&mut self) {
        let paths = self.plain.entries.iter().chain(&self.keys.entries).map(|entry| &entry.path);
        self.labels = paths.filter_map(|path| Some((path.clone(), label::of(path)?))).collect();
    }

    /// A generation's manifest and configuration, as they were kept.
    fn generation(&mut self, store: &Store, manifests: &Path, id: &ComponentId, generation: &Generation) {
        let manifest = manifests.join(&generation.file_name);
        let number = generation.number;
        let kept = store.manifest(id, number).and_then(|bytes| Ok((bytes, store.manifest_attributes(id, number)?)));
        match kept {
            Ok((bytes, attributes)) => {
                let (mode, uid, gid) = (attributes.mode, attributes.uid, attributes.gid);
                self.take(Entry { path: manifest.clone(), mode, uid, gid, bytes }, Wanted::Plainly);
                let component = Component {
                    manifest,
                    generation: number,
                    minor: generation.minor,
                    images: generation.images.clone(),
                };
                self.components.insert(id.clone(), component);
            }
            Err(error) => self.left_out.push(format!("{id}: its known-good manifest cannot be read: {error}")),
        }
        let config = |state: &FileState| matches!(state, FileState::Present { kind: FileKind::Config, .. });
        for file in generation.closure.iter().filter(|file| config(&file.state)) {
            match store.file(id, number, &file.path) {
                Ok(kept) => self.kept(id, &file.path, kept),
                Err(error) => self.left_out.push(error.to_string()),
            }
        }
    }

    /// One kept file. Several components may mount the same one, and have been proven with different versions of it.
    fn kept(&mut self, id: &ComponentId, path: &Path, kept: record::KeptFile) {
        let entry = Entry { path: path.to_owned(), mode: kept.mode, uid: kept.uid, gid: kept.gid, bytes: kept.bytes };
        let Some(before) = self.plain.entries.iter_mut().find(|entry| entry.path == path) else {
            return self.take(entry, Wanted::Plainly);
        };
        if before.bytes != entry.bytes {
            let stands = files::read_bounded(path, MAX_FILE_BYTES).is_ok_and(|bytes| bytes == entry.bytes);
            if stands {
                *before = entry;
            }
            let which = if stands { "this component's, which is on the node," } else { "another's" };
            let sentence = format!("{}: {which} is in the bundle; {id} and another differ in it", path.display());
            self.left_out.push(sentence);
        }
    }

    /// A file as it is now. Twice asked for, it is there once.
    fn off_the_node(&mut self, path: &Path, wanted: Wanted) {
        if self.plain.has(path) || self.keys.has(path) {
            return;
        }
        let read = files::read_bounded(path, MAX_FILE_BYTES).and_then(|bytes| {
            let metadata = fs::metadata(path).map_err(files::named("look at", path))?;
            Ok((bytes, metadata))
        });
        match read {
            Ok((bytes, metadata)) => {
                let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
                self.take(Entry { path: path.to_owned(), mode, uid, gid, bytes }, wanted);
            }
            Err(error) => self.left_out.push(error.to_string()),
        }
    }

    fn take(&mut self, entry: Entry, wanted: Wanted) {
        let plain = wanted == Wanted::Plainly && !observe::is_secret(&entry.path, &entry.bytes);
        let path = entry.path.clone();
        let files = if plain { &mut self.plain } else { &mut self.keys };
        if let Err(why) = files.add(entry) {
            self.left_out.push(format!("{} {why}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn nothing() -> Gathered {
        Gathered {
            node: "m0".into(),
            known: EtcdHistory::default(),
            components: BTreeMap::new(),
            plain: Files::default(),
            keys: Files::default(),
            labels: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn the_labels_are_those_of_the_files_on_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let [labelled, plain] = ["labelled", "plain"].map(|name| dir.path().join(name));
        [&labelled, &plain].iter().for_each(|path| fs::write(path, "x").unwrap());
        // On a machine without a policy, root may set any; elsewhere there is nothing to be gathered.
        let text = "system_u:object_r:etc_t:s0";
        let _ = label::set(&labelled, text);
        let before = [label::of(&labelled), label::of(&plain)];
        let mut gathered = nothing();
        for path in [&labelled, &plain, &dir.path().join("gone")] {
            gathered.take(entry(path.to_str().unwrap(), "x"), Wanted::Plainly);
        }
        gathered.labels();
        assert_eq!(gathered.labels.get(&labelled), before[0].as_ref());
        assert_eq!(gathered.labels.get(&plain), before[1].as_ref());
        assert!(gathered.labels.len() <= 2);
    }

    fn entry(path: &str, text: &str) -> Entry {
        Entry { path: path.into(), mode: 0o600, uid: 0, gid: 0, bytes: text.into() }
    }

    fn paths(files: &Files) -> Vec<&str> {
        files.entries.iter().map(|entry| entry.path.to_str().unwrap()).collect()
    }

    #[test]
    fn q4_what_is_secret_goes_with_the_keys_whatever_it_is_called() {
        let mut gathered = nothing();
        gathered.take(entry("/etc/kubernetes/audit.yaml", "kind: Policy\n"), Wanted::Plainly);
        gathered.take(entry("/etc/kubernetes/enc.yaml", "kind: EncryptionConfiguration\n"), Wanted::Plainly);
        gathered.take(
            entry("/etc/kubernetes/manifests/x.yaml", "kind: Pod\n# -----BEGIN PRIVATE KEY-----\n"),
            Wanted::Plainly,
        );
        gathered.take(entry("/etc/kubernetes/admin.conf", "kind: Config\nclusters: []\nusers: []\n"), Wanted::Plainly);
        gathered.take(entry("/etc/kubernetes/harmless", "a: 1\n"), Wanted::Sealed);
        assert_eq!(paths(&gathered.plain), ["/etc/kubernetes/audit.yaml"]);
        assert_eq!(gathered.keys.entries.len(), 4);
        assert!(gathered.left_out.is_empty());
    }

    #[test]
    fn what_is_too_much_or_does_not_fit_is_left_out_and_named() {
        let mut gathered = nothing();
        gathered.take(entry(&format!("/{}", "n".repeat(200)), ""), Wanted::Plainly);
        gathered.take(entry("/big", &"x".repeat(usize::try_from(MOST).unwrap() + 1)), Wanted::Sealed);
        gathered.take(entry("/small", "x"), Wanted::Sealed);
        gathered.off_the_node(Path::new("/nonexistent/file"), Wanted::Sealed);
        assert_eq!(paths(&gathered.keys), ["/small"]);
        assert_eq!(gathered.left_out.len(), 3, "{:?}", gathered.left_out);
    }

    #[test]
    fn our_own_configuration_travels_and_what_it_keeps_secret_with_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut settings = Settings::default();
        settings.paths.state = at("state");
        settings.paths.kubernetes = at("kubernetes");
        settings.kubelet.config = at("kubelet/config.yaml");
        settings.kubelet.kubeconfig = at("kubernetes/kubelet.conf");
        settings.files = vec![at("config.toml")];
        settings.snapshots.remote.credentials_file = Some(at("credentials"));
        fs::write(at("config.toml"), "[snapshots]\nrecipients = [\"age1\"]\n").unwrap();
        fs::write(at("credentials"), "secret-access-key = x\n").unwrap();
        let gathered = gather(&settings).unwrap();
        assert!(gathered.plain.has(&at("config.toml")), "{gathered:?}");
        assert!(gathered.keys.has(&at("credentials")) && !gathered.plain.has(&at("credentials")), "{gathered:?}");
    }

    #[test]
    fn of_two_versions_of_a_file_the_one_that_stands_is_taken_and_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared.yaml");
        fs::write(&path, "b: 2\n").unwrap();
        let kept = |text: &str| record::KeptFile {
            bytes: text.into(),
            state: FileState::Present { kind: FileKind::Config, digest: Digest::of(b""), mode: 0o600, uid: 0, gid: 0 },
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        let mut gathered = nothing();
        for text in ["a: 1\n", "b: 2\n", "b: 2\n"] {
            gathered.kept(&ComponentId::system("etcd"), &path, kept(text));
        }
        assert_eq!(gathered.plain.entries.len(), 1);
        assert_eq!(gathered.plain.entries[0].bytes, b"b: 2\n");
        assert_eq!(gathered.left_out.len(), 1, "{:?}", gathered.left_out);
    }
}
