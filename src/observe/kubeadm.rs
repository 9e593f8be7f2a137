//! The backups that kubeadm keeps of the manifests it replaces.
//!
//! `kubeadm upgrade` moves each old manifest to `/etc/kubernetes/tmp/kubeadm-backup-manifests-DATE/` by one rename, and
//! then the new one into place by another (`cmd/kubeadm/app/phases/upgrade/staticpods.go`, `upgradeComponent`;
//! `CreateTimestampDirForKubeadm` creates the directories). The backup remains there afterwards. In older versions the
//! name ends in a random number.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::file;
use crate::model::Digest;
use crate::model::manifest::MAX_BYTES;
use crate::model::observation::SetAside;

/// What the names of its backup directories begin with.
const BACKUPS: &str = "kubeadm-backup-manifests";

/// The most backup directories that are looked into, the latest first: one is left by each upgrade, and what is looked for
/// was moved a moment ago.
const MAX_DIRS: usize = 32;

/// What kubeadm keeps under these names. Costs nothing while there are none: they are those that ought to stand and do not.
pub(super) fn set_aside<'a>(
    kubernetes: &Path,
    names: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, Vec<SetAside>> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return BTreeMap::new();
    }
    let dirs = backups(&kubernetes.join("tmp"));
    let kept = |name: &str| -> Vec<SetAside> { dirs.iter().filter_map(|dir| look(dir.join(name))).collect() };
    names.into_iter().map(|name| (name.to_owned(), kept(name))).filter(|(_, kept)| !kept.is_empty()).collect()
}

/// A directory that cannot be read holds nothing that could be relied on.
fn backups(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(BACKUPS));
    let mut dirs: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
    dirs.sort_unstable_by(|a, b| b.cmp(a));
    dirs.truncate(MAX_DIRS);
    dirs
}

fn look(path: PathBuf) -> Option<SetAside> {
    let (bytes, stamp) = file::read(&path, MAX_BYTES).ok()?;
    Some(SetAside { path, digest: Digest::of(&bytes), changed: stamp.changed() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn what_kubeadm_moved_aside_is_found_with_the_time_of_the_move() {
        let root = tempfile::tempdir().unwrap();
        let (manifests, tmp) = (root.path().join("manifests"), root.path().join("tmp"));
        let found = || set_aside(root.path(), ["etcd.yaml", "kube-scheduler.yaml"].into_iter());
        assert!(found().is_empty(), "there is no such directory");
        let backup = tmp.join("kubeadm-backup-manifests-2026-11-26-12-00-01");
        for dir in [&manifests, &backup, &tmp.join("kubeadm-upgraded-manifests42")] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(tmp.join("kubeadm-upgraded-manifests42/etcd.yaml"), "new").unwrap();
        assert!(found().is_empty(), "what is to come is no backup");
        fs::write(manifests.join("etcd.yaml"), "old").unwrap();
        let before = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::open(manifests.join("etcd.yaml")).unwrap().set_modified(before).unwrap();
        fs::rename(manifests.join("etcd.yaml"), backup.join("etcd.yaml")).unwrap();
        let kept = &found()["etcd.yaml"];
        assert_eq!(kept.len(), 1);
        assert_eq!((&kept[0].path, kept[0].digest), (&backup.join("etcd.yaml"), Digest::of(b"old")));
        let age = clock::now().wall.as_second() - kept[0].changed.as_second();
        assert!(age < 600, "{age} s ago: the time of what was written, not of the move");
        assert!(!found().contains_key("kube-scheduler.yaml"));
        assert!(set_aside(root.path(), std::iter::empty()).is_empty());
    }
}
