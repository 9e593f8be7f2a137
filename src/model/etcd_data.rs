//! The identity of an etcd store, and the state of an etcd that serves the wrong one.
//!
//! Cluster ID and member ID are derived from URLs and a token, so an etcd that founds a new store in an empty directory
//! may have the same IDs as before. Three things distinguish the stores:
//!
//! ```text
//!   Namespace kube-system    its UID, made by the first API server that used the store: another UID is another cluster,
//!                            no such key is a store that no API server has ever used
//!   the head of the WAL      a restore writes one snapshot record of term 1 whose index is the number of members; an etcd
//!                            that founds a store, or joins one, does not
//!   revision, term, index    they only grow within one lineage
//! ```

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DataVersion;

/// The prefix of the API server's keys, unless `--etcd-prefix` names another.
pub const DEFAULT_PREFIX: &str = "/registry";

/// Which Kubernetes cluster a store belongs to, as read from the store itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreIdentity {
    /// The prefix under which the API server keeps its objects. Identities under two prefixes cannot be compared.
    pub prefix: String,
    /// What the store holds of the namespace that every cluster has.
    pub namespace: KubeSystem,
}

/// What a store holds of Namespace kube-system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kube-system")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum KubeSystem {
    /// No such key: no API server has ever written to this store.
    Absent,
    Present {
        /// Its UID; absent where the value cannot be read (encryption at rest of every resource).
        uid: Option<String>,
        /// The revision that created the key. A restore keeps it, a new cluster rarely repeats it.
        created: i64,
    },
}

impl StoreIdentity {
    /// Whether two stores are one cluster's; nothing where that is unknown.
    pub fn is_of(&self, other: &Self) -> Option<bool> {
        if self.prefix != other.prefix {
            return None;
        }
        match (&self.namespace, &other.namespace) {
            (KubeSystem::Absent, KubeSystem::Absent) => Some(true),
            (KubeSystem::Absent, KubeSystem::Present { .. }) | (KubeSystem::Present { .. }, KubeSystem::Absent) => {
                Some(false)
            }
            (KubeSystem::Present { uid: Some(a), .. }, KubeSystem::Present { uid: Some(b), .. }) => Some(a == b),
            (KubeSystem::Present { created: a, .. }, KubeSystem::Present { created: b, .. }) => Some(a == b),
        }
    }
}

/// How an etcd's WAL begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "origin")]
pub enum WalOrigin {
    /// As one that an etcd began: it founded the store, or joined a cluster.
    Began {
        /// Of its first entries, whichever wrote them ([`WalOrigin::fingerprint`]).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fingerprint: Option<u32>,
    },
    /// As one that a restore wrote.
    Restored {
        /// Of its first entries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fingerprint: Option<u32>,
    },
    /// It is unknown: the first segment was purged, or cannot be read.
    Unknown { why: String },
}

impl Default for WalOrigin {
    fn default() -> Self {
        Self::Unknown { why: "it was not read".to_owned() }
    }
}

impl WalOrigin {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// The running checksum after the WAL's first entries of the cluster's own making, which carry unique request IDs:
    /// two copies of one WAL have the same, two restores of one snapshot do not. Absent while there are too few entries.
    pub fn fingerprint(&self) -> Option<u32> {
        match self {
            Self::Began { fingerprint } | Self::Restored { fingerprint } => *fingerprint,
            Self::Unknown { .. } => None,
        }
    }
}

/// What a data directory holds that no etcd writes at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRest {
    /// The MVCC revision of its database.
    pub revision: i64,
    /// The last raft index that its WAL knows to be committed: what the database lacks of it, etcd replays.
    pub raft_index: u64,
}

/// The mount that holds a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// What: `/dev/sdb1`, `tmpfs`.
    pub source: String,
    /// The type of the file system.
    pub kind: String,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) at {}", self.source, self.kind, self.point.display())
    }
}

/// The cluster that this node's files make it a member of. `kubeadm reset` and `kubeadm init` make another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFiles {
    /// Of the public keys in `pki/ca.crt`.
    pub ca: Option<super::Digest>,
    /// Of the public keys of the authority that `kubelet.conf` trusts: the address in it may change within one cluster.
    pub kubelet: Option<super::Digest>,
}

impl ClusterFiles {
    /// Which of them names another cluster than before. A file that is missing, then or now, says nothing.
    pub fn other_than(&self, before: &Self) -> Option<&'static str> {
        let other = |now: &Option<super::Digest>, before: &Option<super::Digest>| {
            now.as_ref().zip(before.as_ref()).is_some_and(|(now, before)| now != before)
        };
        if other(&self.ca, &before.ca) {
            return Some("the cluster's CA (pki/ca.crt)");
        }
        other(&self.kubelet, &before.kubelet).then_some("the CA in kubelet.conf")
    }
}

/// An etcd data directory on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDir {
    /// Device and inode of `member`: another directory under the same name is another incarnation.
    pub member: Option<(u64, u64)>,
    /// The newest change among its files.
    pub changed: Option<Timestamp>,
    /// Whether a process holds the lock on its database.
    pub lock: LockState,
    /// The versions that its database names: a hint while an etcd writes it (R9).
    #[serde(default, skip_serializing_if = "DataVersion::is_unknown")]
    pub versions: DataVersion,
    /// How its WAL begins.
    #[serde(default, skip_serializing_if = "WalOrigin::is_unknown")]
    pub origin: WalOrigin,
    /// What it holds, while no etcd writes it and it is not what the etcd that runs was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_rest: Option<AtRest>,
    /// The mount it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
}

/// The lock etcd holds on its database while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockState {
    /// Nobody holds it.
    Free,
    Held,
    /// No database, or it could not be asked.
    #[default]
    CannotTell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cluster_is_told_from_another_by_its_namespace() {
        let of = |prefix: &str, namespace| StoreIdentity { prefix: prefix.to_owned(), namespace };
        let present = |uid: Option<&str>, created| KubeSystem::Present { uid: uid.map(str::to_owned), created };
        let known = of("/registry", present(Some("a"), 7));
        for (situation, other, expected) in [
            ("the same", of("/registry", present(Some("a"), 7)), Some(true)),
            ("the same, compacted and defragmented", of("/registry", present(Some("a"), 9)), Some(true)),
            ("another", of("/registry", present(Some("b"), 7)), Some(false)),
            ("empty", of("/registry", KubeSystem::Absent), Some(false)),
            ("encrypted, created at the same revision", of("/registry", present(None, 7)), Some(true)),
            ("encrypted, created at another revision", of("/registry", present(None, 8)), Some(false)),
            ("asked under another prefix", of("/other", KubeSystem::Absent), None),
        ] {
            assert_eq!(known.is_of(&other), expected, "{situation}");
            assert_eq!(other.is_of(&known), expected, "{situation}, the other way round");
        }
        let empty = of("/registry", KubeSystem::Absent);
        assert_eq!(empty.is_of(&empty), Some(true));
    }

    #[test]
    fn a_file_that_is_missing_names_no_other_cluster() {
        let files = |ca: Option<&str>, kubelet: Option<&str>| ClusterFiles {
            ca: ca.map(|ca| crate::model::Digest::of(ca.as_bytes())),
            kubelet: kubelet.map(|ca| crate::model::Digest::of(ca.as_bytes())),
        };
        let before = files(Some("ca"), Some("ca"));
        for (now, other) in [
            (files(Some("ca"), Some("ca")), false),
            (files(None, None), false),
            (files(None, Some("ca")), false),
            (files(Some("new"), Some("ca")), true),
            (files(Some("ca"), Some("new")), true),
        ] {
            assert_eq!(now.other_than(&before).is_some(), other, "{now:?}");
        }
        assert_eq!(files(Some("new"), None).other_than(&ClusterFiles::default()), None);
    }
}
