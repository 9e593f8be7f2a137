//! The file source's memory: which pods the directory is held to contain. Pure; the watcher feeds it.
//!
//! ```text
//!  inotify event ─▶ file_changed / file_gone ─┐
//!                                             ├─▶ the set, one pod per full name ─▶ what changed since the last set
//!  full scan ─────▶ scanned ──────────────────┘
//! ```
//!
//! Several quirks follow from this shape and are kept on purpose: between scans the newest event wins a name, at a scan
//! the alphabetically last file; deleting one of two files with the same name removes the pod although the other file
//! still names it; a file that became invalid drops its pod only at the next scan; and a scan that finds no valid
//! file at all announces an empty set but leaves the memory as it was, so that the next event brings the old pods back.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::manifest::{FullName, StaticPod, Uid};

/// What a new set means for the pods that run, in the order in which the kubelet hands it on.
#[derive(Debug, Default, PartialEq)]
pub struct Delta {
    /// Pods that are not in the set any more.
    pub removed: Vec<StaticPod>,
    /// Pods that were not in the set before.
    pub added: Vec<StaticPod>,
    /// Pods whose identity stayed (it is written in the manifest) while the content changed.
    pub updated: Vec<StaticPod>,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.updated.is_empty()
    }
}

/// The set, and which file last stood for which name.
#[derive(Debug, Default)]
pub struct Store {
    pods: BTreeMap<FullName, StaticPod>,
    files: HashMap<PathBuf, FullName>,
}

impl Store {
    /// An inotify event showed this file with this pod. Returns the set to announce.
    pub fn file_changed(&mut self, path: &Path, pod: StaticPod) -> Vec<StaticPod> {
        self.files.insert(path.to_owned(), pod.full_name.clone());
        self.pods.insert(pod.full_name.clone(), pod);
        self.set()
    }

    /// An inotify event said this file is gone. Returns the set to announce, if the file stood for a pod.
    ///
    /// # Errors
    /// The kubelet's complaint when the name was already taken away by another file's deletion.
    pub fn file_gone(&mut self, path: &Path) -> Result<Option<Vec<StaticPod>>, String> {
        let Some(name) = self.files.get(path) else {
            return Ok(None);
        };
        if self.pods.remove(name).is_none() {
            return Err(format!("the pod with key {name} doesn't exist in cache"));
        }
        self.files.remove(path);
        Ok(Some(self.set()))
    }

    /// A full scan read these files, in alphabetical order. Returns the set to announce.
    pub fn scanned(&mut self, found: Vec<(PathBuf, StaticPod)>) -> Vec<StaticPod> {
        if found.is_empty() {
            return Vec::new();
        }
        self.pods.clear();
        for (path, pod) in found {
            self.files.insert(path, pod.full_name.clone());
            self.pods.insert(pod.full_name.clone(), pod);
        }
        self.set()
    }

    fn set(&self) -> Vec<StaticPod> {
        self.pods.values().cloned().collect()
    }
}

/// The sets as they were announced: turns the next one into removals, additions and updates.
#[derive(Debug, Default)]
pub struct Announced {
    pods: BTreeMap<Uid, StaticPod>,
}

impl Announced {
    /// What `set` changes. Pods seen for the first time get `seen` as their `kubernetes.io/config.seen`.
    pub fn replace(&mut self, set: Vec<StaticPod>, seen: &str) -> Delta {
        let mut before = std::mem::take(&mut self.pods);
        let mut delta = Delta::default();
        for pod in set {
            match before.remove(&pod.uid) {
                None => {
                    let pod = pod.seen_at(seen);
                    delta.added.push(pod.clone());
                    self.pods.insert(pod.uid.clone(), pod);
                }
                Some(old) => {
                    let seen_then =
                        old.pod.metadata.annotations.as_ref().and_then(|all| all.get(super::manifest::SEEN));
                    let pod = pod.seen_at(seen_then.map_or(seen, String::as_str));
                    if pod != old {
                        delta.updated.push(pod.clone());
                    }
                    self.pods.insert(pod.uid.clone(), pod);
                }
            }
        }
        delta.removed = before.into_values().collect();
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::manifest::decode;

    fn pod(file: &str, name: &str, image: &str) -> (PathBuf, StaticPod) {
        let path = PathBuf::from("/m").join(file);
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
        );
        let pod = decode(text.as_bytes(), &path, "n").expect("valid");
        (path, pod)
    }

    fn uids(set: &[StaticPod]) -> Vec<&Uid> {
        set.iter().map(|pod| &pod.uid).collect()
    }

    #[test]
    fn between_scans_the_newest_event_wins_and_at_a_scan_the_last_file() {
        let (a_path, a) = pod("a.yaml", "p", "x:1");
        let (p_path, p) = pod("p.yaml", "p", "x:2");
        let mut store = Store::default();
        store.scanned(vec![(p_path.clone(), p.clone())]);
        assert_eq!(uids(&store.file_changed(&a_path, a.clone())), [&a.uid]);
        assert_eq!(uids(&store.scanned(vec![(a_path, a), (p_path, p.clone())])), [&p.uid]);
    }

    #[test]
    fn deleting_one_of_two_files_removes_the_only_pod_until_the_next_scan() {
        let (p_path, p) = pod("p.yaml", "p", "x:1");
        let (z_path, z) = pod("z.yaml", "p", "x:2");
        let mut store = Store::default();
        store.scanned(vec![(p_path.clone(), p.clone())]);
        store.file_changed(&z_path, z);
        assert_eq!(store.file_gone(&z_path).expect("known"), Some(vec![]));
        assert!(store.file_gone(&p_path).is_err(), "its name was removed with the other file");
        assert_eq!(uids(&store.scanned(vec![(p_path, p.clone())])), [&p.uid]);
    }

    #[test]
    fn a_file_that_never_was_a_pod_changes_nothing_when_it_goes() {
        assert_eq!(Store::default().file_gone(Path::new("/m/README.txt")).expect("no complaint"), None);
    }

    #[test]
    fn a_scan_without_a_valid_file_empties_the_set_but_an_event_brings_the_old_pods_back() {
        let (p_path, p) = pod("p.yaml", "p", "x:1");
        let (q_path, q) = pod("q.yaml", "q", "x:1");
        let mut store = Store::default();
        store.scanned(vec![(p_path, p.clone())]);
        assert!(store.scanned(vec![]).is_empty());
        assert_eq!(uids(&store.file_changed(&q_path, q.clone())), [&p.uid, &q.uid]);
    }

    #[test]
    fn a_changed_pod_is_a_removal_and_an_addition_and_the_same_pod_is_nothing() {
        let (_, old) = pod("p.yaml", "p", "x:1");
        let (_, new) = pod("p.yaml", "p", "x:2");
        let mut announced = Announced::default();
        let first = announced.replace(vec![old.clone()], "t1");
        assert_eq!((uids(&first.added), first.removed.len()), (vec![&old.uid], 0));
        assert!(announced.replace(vec![old.clone()], "t2").is_empty(), "seen is not a change");
        let change = announced.replace(vec![new.clone()], "t3");
        assert_eq!((uids(&change.removed), uids(&change.added)), (vec![&old.uid], vec![&new.uid]));
    }

    #[test]
    fn a_fixed_uid_makes_a_change_an_update() {
        let fixed = |image: &str| {
            let mut fixed = pod("p.yaml", "p", image).1;
            fixed.uid = Uid("fixed".into());
            fixed
        };
        let mut announced = Announced::default();
        announced.replace(vec![fixed("x:1")], "t1");
        let change = announced.replace(vec![fixed("x:2")], "t2");
        assert_eq!((change.updated.len(), change.removed.len(), change.added.len()), (1, 0, 0));
    }
}
