//! What one pass reads of the disk: manifests, the configuration files they name, and who of them was set aside. It keeps
//! what it needs from pass to pass, on the blocking pool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::closure::{self, Closures, Scope};
use super::directory::{Hold, Looker, Quiet};
use super::wake::Watches;
use super::{Remembered, kubeadm};
use crate::config::Settings;
use crate::model::observation::{Directory, ManifestFile, SetAside};
use crate::model::{FileState, Moment};

/// What looking at files needs from one pass to the next.
#[derive(Debug)]
pub(super) struct Disk {
    manifests: Looker,
    inactive: Looker,
    closures: Closures,
    watches: Watches,
}

/// What files a pass looks at.
pub(super) struct Files {
    pub(super) manifests: Directory,
    pub(super) inactive: BTreeMap<String, Arc<ManifestFile>>,
    pub(super) files: BTreeMap<PathBuf, FileState>,
    pub(super) keys_changed: BTreeMap<PathBuf, Timestamp>,
    pub(super) set_aside: BTreeMap<String, Vec<SetAside>>,
    pub(super) watching: Result<(), String>,
}

impl Disk {
    pub(super) fn new(watches: Watches) -> Self {
        Self {
            manifests: Looker::new(Hold::Yes),
            inactive: Looker::new(Hold::No),
            closures: Closures::default(),
            watches,
        }
    }

    pub(super) fn look(&mut self, settings: &Settings, dir: &Path, at: Moment, remembered: &Remembered) -> Files {
        let paths = &settings.paths;
        let data_dirs = remembered.data_dirs.keys().cloned();
        let own = [dir.to_owned(), paths.inactive_manifests.clone(), paths.staging.clone(), paths.state.clone()];
        let scope = Scope { root: paths.kubernetes.clone(), excluded: own.into_iter().chain(data_dirs).collect() };
        let quiet = Quiet { now: at, quiet: settings.policy.debounce };
        self.closures.begin();
        let manifests = self.manifests.look(dir, &mut self.closures, &scope, quiet);
        let inactive = self.inactive.look(&paths.inactive_manifests, &mut self.closures, &scope, quiet);
        let inactive = match inactive {
            Directory::Present { files, .. } => files,
            Directory::Missing { .. } | Directory::Unreadable(_) => BTreeMap::new(),
        };
        // What exists in a closure is known already, and there with what its manifest says of it.
        let mut files: BTreeMap<PathBuf, FileState> = manifests
            .files()
            .flat_map(|file| &file.closure)
            .map(|file| (file.path.clone(), file.state.clone()))
            .collect();
        for (path, hint) in &remembered.files {
            if !files.contains_key(path) {
                files.insert(path.clone(), self.closures.one(path, *hint));
            }
        }
        let keys_changed = closure::keys_changed(&files);
        let mut dirs: BTreeSet<PathBuf> = files.keys().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        dirs.extend([dir.to_owned(), paths.inactive_manifests.clone()]);
        dirs.extend(dir.parent().map(Path::to_owned));
        let watching = self.watches.watch(&dirs);
        let absent = remembered.names.iter().filter(|name| manifests.file(name).is_none());
        let set_aside = kubeadm::set_aside(&paths.kubernetes, absent.map(String::as_str));
        Files { manifests, inactive, files, keys_changed, set_aside, watching }
    }
}
