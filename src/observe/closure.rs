//! The closure of a manifest: which files below the Kubernetes directory its flags, its mounts, and the configuration
//! those bring in, name; and how they stand.
//!
//! ```text
//!   flags of the main container ─┐  through its hostPath mounts
//!   hostPath volumes, two deep ──┼──▶ paths on the host, below the Kubernetes directory ──▶ stat, read, told apart
//!   what those files name ───────┘  one level
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::content::{self, Content, Hint};
use super::credentials;
use super::file::{self, Fault, Stamp};
use crate::model::closure::{KubeconfigHealth, MAX_FILE_BYTES, MAX_FILES};
use crate::model::manifest::DataIdentity;
use crate::model::{ClosureFile, FileKind, FileState, Manifest};

/// How deep a mounted directory is looked through: /etc/kubernetes/pki has one more, pki/etcd.
const DEPTH: usize = 2;

/// Where files of a closure may lie.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// Below this.
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
    /// The file.
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

enum Stands {
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

    /// The closure of a manifest, as it stands.
    pub(super) fn of(&mut self, manifest: &Manifest, scope: &Scope) -> Vec<Looked> {
        let mut scope = scope.clone();
        if let Some(DataIdentity::Etcd { data_dir }) = manifest.data_identity() {
            scope.excluded.push(data_dir);
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
            if let Stands::Read(read) = &stands {
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

    /// How one file of an earlier generation stands now.
    pub(super) fn one(&mut self, path: &Path, hint: Hint) -> FileState {
        match self.stands(path, hint) {
            Stands::Directory => FileState::Unreadable { reason: format!("{} is a directory", path.display()) },
            stands => self.show(path, stands, None).map_or(FileState::Missing, |looked| looked.file.state),
        }
    }

    fn stands(&mut self, path: &Path, hint: Hint) -> Stands {
        let look = self.look;
        let key = (path.to_owned(), hint);
        let stamp = match file::stat(path) {
            Ok(stamp) => stamp,
            Err(fault) => return unread(path, &fault),
        };
        if let Some(known) = self.known.get_mut(&key).filter(|known| known.stamp == stamp) {
            known.look = look;
            return Stands::Read(Box::new((stamp, known.content.clone())));
        }
        match file::read(path, MAX_FILE_BYTES) {
            Ok((bytes, stamp)) => {
                let content = content::classify(path, &bytes, hint);
                if stamp.is_settled(Timestamp::now()) {
                    self.known.insert(key, Known { stamp: stamp.clone(), content: content.clone(), look });
                } else {
                    self.known.remove(&key);
                }
                Stands::Read(Box::new((stamp, content)))
            }
            Err(fault) => unread(path, &fault),
        }
    }

    fn show(&mut self, path: &Path, stands: Stands, manifest: Option<&Manifest>) -> Option<Looked> {
        let (state, changed) = match stands {
            Stands::Directory => return None,
            Stands::Missing => (FileState::Missing, None),
            Stands::Unreadable(reason) => (FileState::Unreadable { reason }, None),
            Stands::Read(read) => {
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

fn unread(path: &Path, fault: &Fault) -> Stands {
    match fault {
        Fault::Missing => Stands::Missing,
        Fault::Directory => Stands::Directory,
        other => Stands::Unreadable(format!("{} {other}", path.display())),
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
    // A mount of the root itself, or of what lies above it, is looked through as far as it is in scope.
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

/// Where a path that stands in a file of a closure lies on the host: an absolute one is the container's, a relative one
/// counts from the file.
fn resolve(name: &str, from: &Path, manifest: &Manifest) -> Option<PathBuf> {
    let name = Path::new(name);
    if name.is_absolute() { manifest.host_path(name) } else { Some(from.parent()?.join(name)) }
}

/// Whether the certificate and key a kubeconfig names by path fit. What is not on the host cannot be told, and is left to
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

/// The hint a recorded file gives to whoever looks at it again.
pub(super) fn hint_of(recorded: &ClosureFile) -> Hint {
    match &recorded.state {
        FileState::Present { kind: FileKind::Kubeconfig { .. }, .. } => Hint::Kubeconfig,
        FileState::Present { kind: FileKind::KeyMaterial, .. } => Hint::Secret,
        _ => Hint::None,
    }
}
