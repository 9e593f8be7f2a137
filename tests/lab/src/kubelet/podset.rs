//! The pods that are wanted now, by UID: the desired state that the sync loop writes and everybody else reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::manifest::{FullName, StaticPod, Uid};

/// A shared set; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PodSet(Arc<Mutex<BTreeMap<Uid, StaticPod>>>);

impl PodSet {
    fn inner(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uid, StaticPod>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a pod, or replaces the one of the same UID.
    pub fn put(&self, pod: StaticPod) {
        self.inner().insert(pod.uid.clone(), pod);
    }

    /// Takes a pod out.
    pub fn remove(&self, uid: &Uid) {
        self.inner().remove(uid);
    }

    /// The pod of this UID.
    #[must_use]
    pub fn get(&self, uid: &Uid) -> Option<StaticPod> {
        self.inner().get(uid).cloned()
    }

    /// All pods, by name.
    #[must_use]
    pub fn all(&self) -> Vec<StaticPod> {
        let mut pods: Vec<StaticPod> = self.inner().values().cloned().collect();
        pods.sort_by(|a, b| a.full_name.cmp(&b.full_name));
        pods
    }

    /// All UIDs.
    #[must_use]
    pub fn uids(&self) -> BTreeSet<Uid> {
        self.inner().keys().cloned().collect()
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> BTreeSet<FullName> {
        self.inner().values().map(|pod| pod.full_name.clone()).collect()
    }
}
