//! The configuration files of a manifest: the files below the Kubernetes directory that its flags, its mounts, and the
//! files that those name bring in, with their state.
//!
//! ```text
//!   flags of the main container ─┐  through its hostPath mounts
//!   hostPath volumes, two deep ──┼──▶ paths on the host, below the Kubernetes directory ──▶ stat, read, classify
//!   what those files name ───────┘  one level
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::content::{self, Content, Hint};
use super::credentials;
use super::file::{self, Fault, Stamp};
use crate::model::config_files::{KubeconfigHealth, MAX_FILE_BYTES, MAX_FILES};
use crate::model::manifest::DataIdentity;
use crate::model::{ClosureFile, FileKind, FileState, Manifest};

/// How deep a mounted directory is looked through: /etc/kubernetes/pki has one more, pki/etcd.
const DEPTH: usize = 2;

/// Where files of a closure may be.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) root: PathBuf,
    /// And not below any of these.
    pub(super) excluded: Vec<PathBuf>,
}

impl Scope {
    fn admits(&self, path: &Path) -> bool {
        path != self.root && path.starts_with(&self.root) && !self.excluded.iter().any(|not| path.starts_with(not))
    }
}

/// One file of a closure, and when it changed.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    pub(super) file: ClosureFile,
    /// When, if it is there.
    pub(super) changed: Option<Timestamp>,
}

/// Files already read, by path and hint; each is checked by its stamp at every look.
#[derive(Debug, Default)]
pub(super) struct Closures {
    known: HashMap<(PathBuf, Hint), Known>,
    look: u64,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    content: Content,
    look: u64,
}

enum Deployed {
    Read(Box<(Stamp, Content)>),
    Missing,
    Directory,
    Unreadable(String),
}

impl Closures {
    /// Begins a look; what two looks did not ask for is forgotten.
    pub(super) fn begin(&mut self) {
        let last = self.look;
        self.known.retain(|_, known| known.look == last);
        self.look += 1;
    }

    /// The closure of a manifest, as it is.
    pub(super) fn of(&mut self, manifest: &Manifest, scope: &Scope) -> Vec<Looked> {
        let mut scope = scope.clone();
        if let Some(DataIdentity::Etcd { data_dir, wal_dir }) = manifest.data_identity() {
            scope.excluded.push(data_dir);
            scope.excluded.extend(wal_dir);
        }
        let scope = &scope;
        let mut named = Named::default();
        for (flag, values) in manifest.flags() {
            let hint = Hint::of_flag(&flag);
            for word in values.iter().flat_map(|value| value.split([',', ':', '='])) {
                if let Some(host) = word.starts_with('/').then(|| manifest.host_path(Path::new(word))).flatten() {
                    named.add(&host, hint, scope);
                }
            }
        }
        for volume in manifest.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            if let Some(host) = &volume.host_path {
                enumerate(Path::new(&host.path), DEPTH, scope, &mut named);
            }
        }
        let mut looked: BTreeMap<PathBuf, Looked> = BTreeMap::new();
        let mut next = Named::default();
        for (path, hint) in &named.paths {
            let stands = self.stands(path, *hint);
            if let Deployed::Read(read) = &stands {
                for name in &read.1.names {
                    if let Some(host) = resolve(name, path, manifest) {
                        next.add(&host, Hint::None, scope);
                    }
                }
            }
            looked.extend(self.show(path, stands, Some(manifest)).map(|shown| (path.clone(), shown)));
        }
        for (path, hint) in next.paths {
            if looked.len() < MAX_FILES && !looked.contains_key(&path) {
                let stands = self.stands(&path, hint);
                looked.extend(self.show(&path, stands, Some(manifest)).map(|shown| (path, shown)));
            }
        }
        looked.into_values().collect()
    }

    /// How one file of an earlier generation exists now.
    pub(super) fn one(&mut self, path: &Path, hint: Hint) -> FileState {
        match self.stands(path, hint) {
            Deployed::Directory => FileState::Unreadable { reason: format!("{} is a directory", path.display()) },
            stands => self.show(path, stands, None).map_or(FileState::Missing, |looked| looked.file.state),
        }
    }

    fn stands(&mut self, path: &Path, hint: Hint) -> Deployed {
        let look = self.look;
        let key = (path.to_owned(), hint);
        let stamp = match file::stat(path) {
            Ok(stamp) => stamp,
            Err(fault) => return unread(path, &fault),
        };
        if let Some(known) = self.known.get_mut(&key).filter(|known| known.stamp == stamp) {
            known.look = look;
            return Deployed::Read(Box::new((stamp, known.content.clone())));
        }
        match file::read(path, MAX_FILE_BYTES) {
            Ok((bytes, stamp)) => {
                let content = content::classify(path, &bytes, hint);
                if stamp.is_settled(Timestamp::now()) {
                    self.known.insert(key, Known { stamp: stamp.clone(), content: content.clone(), look });
                } else {
                    self.known.remove(&key);
                }
                Deployed::Read(Box::new((stamp, content)))
            }
            Err(fault) => unread(path, &fault),
        }
    }

    fn show(&mut self, path: &Path, stands: Deployed, manifest: Option<&Manifest>) -> Option<Looked> {
        let (state, changed) = match stands {
            Deployed::Directory => return None,
            Deployed::Missing => (FileState::Missing, None),
            Deployed::Unreadable(reason) => (FileState::Unreadable { reason }, None),
            Deployed::Read(read) => {
                let (stamp, content) = *read;
                let kind = match &content.pair {
                    Some(pair) => content::with_health(content.kind, pair_health(pair, path, manifest)),
                    None => content.kind,
                };
                let state = FileState::Present {
                    kind,
                    digest: content.digest,
                    mode: stamp.mode,
                    uid: stamp.uid,
                    gid: stamp.gid,
                };
                (state, Some(stamp.changed()))
            }
        };
        Some(Looked { file: ClosureFile { path: path.to_owned(), state }, changed })
    }
}

fn unread(path: &Path, fault: &Fault) -> Deployed {
    match fault {
        Fault::Missing => Deployed::Missing,
        Fault::Directory => Deployed::Directory,
        other => Deployed::Unreadable(format!("{} {other}", path.display())),
    }
}

/// Paths of a closure, each with the weightiest hint any flag gave; no more than [`MAX_FILES`].
#[derive(Default)]
struct Named {
    paths: BTreeMap<PathBuf, Hint>,
}

impl Named {
    fn add(&mut self, path: &Path, hint: Hint, scope: &Scope) {
        let path = normal(path);
        if !scope.admits(&path) {
            return;
        }
        if let Some(known) = self.paths.get_mut(&path) {
            *known = hint.max(*known);
        } else if self.paths.len() < MAX_FILES {
            self.paths.insert(path, hint);
        }
    }
}

/// Without `.` and `..`, by the text alone: a link's target is another file's business.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// The regular files at and below a mounted path, in the order of their names.
fn enumerate(path: &Path, depth: usize, scope: &Scope, named: &mut Named) {
    let path = normal(path);
    // A mount of the root itself, or of what is above it, is looked through as far as it is in scope.
    let within = path == scope.root || scope.admits(&path);
    let Ok(meta) = fs::metadata(&path) else { return };
    if !within {
        return;
    }
    if meta.is_file() {
        named.add(&path, Hint::None, scope);
    } else if meta.is_dir() && depth > 0 {
        let Ok(entries) = fs::read_dir(&path) else { return };
        let mut paths: Vec<PathBuf> = entries.flatten().take(4 * MAX_FILES).map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            enumerate(&path, depth - 1, scope, named);
        }
    }
}

/// Where a path in a configuration file is on the host: an absolute one is the container's, a relative one
/// counts from the file.
fn resolve(name: &str, from: &Path, manifest: &Manifest) -> Option<PathBuf> {
    let name = Path::new(name);
    if name.is_absolute() { manifest.host_path(name) } else { Some(from.parent()?.join(name)) }
}

/// Whether the certificate and key a kubeconfig names by path fit. What is not on the host is unknown, and is left to
/// the program that reads it.
fn pair_health(pair: &(String, String), from: &Path, manifest: Option<&Manifest>) -> KubeconfigHealth {
    let works = KubeconfigHealth::Works { not_after: None };
    let place = |name: &str| match manifest {
        Some(manifest) => resolve(name, from, manifest),
        None => from.parent().map(|dir| dir.join(name)),
    };
    let (Some(certificate), Some(key)) = (place(&pair.0), place(&pair.1)) else {
        return works;
    };
    let read = |path: &Path| {
        file::read(path, MAX_FILE_BYTES).map(|(bytes, _)| bytes).map_err(|fault| format!("{} {fault}", path.display()))
    };
    let fits = read(&certificate)
        .and_then(|certificate| Ok((certificate, read(&key)?)))
        .and_then(|(certificate, key)| credentials::pair(&certificate, &key));
    match fits {
        Ok((_, dates)) => KubeconfigHealth::Works { not_after: Some(dates.not_after) },
        Err(reason) => KubeconfigHealth::Cannot { reason },
    }
}

/// When the key material among these files changed last. Asked after they were read, so that what changes in between is
/// younger than it was read, never older.
pub(super) fn keys_changed(files: &BTreeMap<PathBuf, FileState>) -> BTreeMap<PathBuf, Timestamp> {
    let is_key = |state: &FileState| matches!(state, FileState::Present { kind: FileKind::KeyMaterial, .. });
    let keys = files.iter().filter(|(_, state)| is_key(state));
    keys.filter_map(|(path, _)| Some((path.clone(), file::changed(path)?))).collect()
}

/// The hint a recorded file gives to whoever looks at it again.
pub(super) fn hint_of(recorded: &ClosureFile) -> Hint {
    match &recorded.state {
        FileState::Present { kind: FileKind::Kubeconfig { .. }, .. } => Hint::Kubeconfig,
        FileState::Present { kind: FileKind::KeyMaterial, .. } => Hint::Secret,
        _ => Hint::None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::config_files::{KubeconfigHealth, generation_digest};
    use crate::observe::testing::Pki;

    struct Node {
        root: tempfile::TempDir,
        closures: Closures,
    }

    impl Node {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for dir in ["pki/etcd/deep/er", "manifests", "inactive-manifests", "etcd-data"] {
                fs::create_dir_all(root.path().join(dir)).unwrap();
            }
            Self { root, closures: Closures::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        /// An API server's manifest with these flags, and its files at the same paths as on the host but for /conf.
        fn manifest(&self, flags: &[String], mounts: &[(&str, &str)]) -> Manifest {
            let root = self.root.path();
            let volumes: Vec<_> = mounts
                .iter()
                .enumerate()
                .map(|(n, (host, _))| serde_json::json!({"name": format!("v{n}"), "hostPath": {"path": root.join(host)}}))
                .collect();
            let mounted: Vec<_> = mounts
                .iter()
                .enumerate()
                .map(|(n, (_, inside))| serde_json::json!({"name": format!("v{n}"), "mountPath": inside}))
                .collect();
            let mut command = vec!["kube-apiserver".to_owned()];
            command.extend_from_slice(flags);
            let pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kube-apiserver", "namespace": "kube-system"},
                "spec": {"volumes": volumes, "containers": [{"name": "a", "image": "i", "command": command, "volumeMounts": mounted}]}
            });
            Manifest::parse(pod.to_string().into_bytes().into()).unwrap()
        }

        fn look(&mut self, manifest: &Manifest) -> BTreeMap<String, FileState> {
            let excluded = ["manifests", "inactive-manifests", "etcd-data"].map(|name| self.path(name)).into();
            let scope = Scope { root: self.root.path().to_owned(), excluded };
            self.closures.begin();
            let looked = self.closures.of(manifest, &scope);
            let name = |path: &Path| path.strip_prefix(self.root.path()).unwrap().display().to_string();
            looked.into_iter().map(|looked| (name(&looked.file.path), looked.file.state)).collect()
        }
    }

    fn kind(state: &FileState) -> &FileKind {
        match state {
            FileState::Present { kind, .. } => kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_mounts_and_what_they_name_make_the_closure_and_nothing_else_does() {
        let mut node = Node::new();
        node.write("audit.yaml", "kind: Policy\n");
        node.write("admission.yaml", "kind: AdmissionConfiguration\nplugins:\n- {name: E, path: event.yaml}\n- {name: I, configuration: {kubeConfigFile: /conf/gone.conf}}\n");
        node.write("event.yaml", "kind: Configuration\n");
        node.write("unmounted.yaml", "a: 1\n");
        node.write("pki/sa.key", "-----BEGIN PRIVATE KEY-----\n");
        node.write("pki/etcd/ca.crt", "-----BEGIN CERTIFICATE-----\n");
        node.write("pki/etcd/deep/too.crt", "x");
        node.write("manifests/etcd.yaml", "x");
        let flags = [
            "--audit-policy-file=/conf/audit.yaml",
            "--admission-control-config-file=/conf/admission.yaml",
            "--authentication-config=/conf/not-there.yaml",
            "--tls-cert-file=/pki/apiserver.crt",
            "--service-account-key-file=/pki/sa.pub,/pki/sa.key",
            "--allow-these=/conf/../../../etc/passwd",
            "--in-the-image=/usr/share/x.yaml",
            "--in-the-directory=/conf/manifests/etcd.yaml",
        ]
        .map(String::from);
        // The root itself is mounted: it is looked through, but for what is not configuration.
        let manifest = node.manifest(&flags, &[("pki", "/pki"), ("", "/conf")]);
        let seen = node.look(&manifest);
        let names: Vec<&str> = seen.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "admission.yaml",
                "audit.yaml",
                "event.yaml",
                "gone.conf",
                "not-there.yaml",
                "pki/apiserver.crt",
                "pki/etcd/ca.crt",
                "pki/sa.key",
                "pki/sa.pub",
                "unmounted.yaml"
            ]
        );
        assert_eq!(kind(&seen["audit.yaml"]), &FileKind::Config);
        assert_eq!(kind(&seen["event.yaml"]), &FileKind::Config, "named by a configuration file, relative to it");
        assert_eq!(seen["gone.conf"], FileState::Missing, "named by a configuration file, and not there");
        assert_eq!(seen["not-there.yaml"], FileState::Missing);
        assert_eq!(kind(&seen["pki/sa.key"]), &FileKind::KeyMaterial);

        let only_audit = node.manifest(&flags[..1], &[("audit.yaml", "/conf/audit.yaml")]);
        assert_eq!(node.look(&only_audit).into_keys().collect::<Vec<_>>(), ["audit.yaml"]);
    }

    #[test]
    fn a_changed_file_is_another_generation_and_a_renewed_key_is_not() {
        let mut node = Node::new();
        node.write("audit.yaml", "kind: Policy\n");
        node.write("pki/sa.key", "-----BEGIN PRIVATE KEY-----\nA\n");
        let manifest = node.manifest(&["--audit-policy-file=/c/audit.yaml".into()], &[("", "/c")]);
        let digest = |node: &mut Node| {
            let scope = Scope { root: node.root.path().to_owned(), excluded: Vec::new() };
            let files: Vec<_> = node.closures.of(&manifest, &scope).into_iter().map(|looked| looked.file).collect();
            generation_digest(manifest.digest, &files)
        };
        let first = digest(&mut node);
        node.write("pki/sa.key", "-----BEGIN PRIVATE KEY-----\nB\n");
        assert_eq!(digest(&mut node), first);
        node.write("audit.yaml", "kind: Policz\n");
        assert_ne!(digest(&mut node), first, "the same size within the same tick");
        node.write("audit.yaml", "kind: Policy\n");
        assert_eq!(digest(&mut node), first);
        fs::remove_file(node.path("audit.yaml")).unwrap();
        assert_ne!(digest(&mut node), first);
    }

    #[test]
    fn odd_files_are_named_and_do_not_hang() {
        let mut node = Node::new();
        nix::unistd::mkfifo(&node.path("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::File::create(node.path("huge.yaml")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        fs::create_dir(node.path("dir.yaml")).unwrap();
        let flags = ["--a=/c/fifo.yaml", "--b=/c/huge.yaml", "--c=/c/dir.yaml"].map(String::from);
        let seen = node.look(&node.manifest(&flags, &[("", "/c")]));
        assert!(matches!(seen["fifo.yaml"], FileState::Unreadable { .. }));
        assert!(matches!(seen["huge.yaml"], FileState::Unreadable { .. }));
        assert_eq!(seen.get("dir.yaml"), None, "a directory is looked through, not read");
    }

    #[test]
    fn a_crowded_directory_is_bounded_and_flags_come_first() {
        let mut node = Node::new();
        for n in 0..(MAX_FILES + 50) {
            node.write(&format!("f{n:04}"), "x");
        }
        node.write("zz.yaml", "x");
        let manifest = node.manifest(&["--config=/c/zz.yaml".into()], &[("", "/c")]);
        let seen = node.look(&manifest);
        assert_eq!(seen.len(), MAX_FILES);
        assert!(seen.contains_key("zz.yaml"));
    }

    #[test]
    fn a_kubeconfig_that_names_its_key_by_path_is_checked_against_that_file() {
        let mut node = Node::new();
        let pki = Pki::new(node.root.path());
        pki.sign("one", "ca", 5);
        pki.sign("two", "ca", 5);
        node.write("kube.conf", "kind: Config\nclusters: [{name: k, cluster: {server: 'https://h'}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\nusers: [{name: u, user: {client-certificate: /c/one.crt, client-key: one.key}}]\n");
        let manifest = node.manifest(&["--kubeconfig=/c/kube.conf".into()], &[("", "/c")]);
        let works = |state: &FileState| match kind(state) {
            FileKind::Kubeconfig { works, .. } => works.clone(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(works(&node.look(&manifest)["kube.conf"]), KubeconfigHealth::Works { not_after: Some(_) }));
        fs::copy(node.path("two.key"), node.path("one.key")).unwrap();
        assert!(matches!(works(&node.look(&manifest)["kube.conf"]), KubeconfigHealth::Cannot { .. }));
        node.write("kube.conf", "");
        assert!(
            matches!(works(&node.look(&manifest)["kube.conf"]), KubeconfigHealth::Cannot { .. }),
            "emptied, and still a kubeconfig"
        );
    }
}
