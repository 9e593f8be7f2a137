//! The versions of etcd's formats in a data directory, as `etcd/versions.rs` reads them from its files.

use serde::{Deserialize, Serialize};

/// Major and minor.
pub type Minor = (u32, u32);

/// What an etcd's files say of the versions they are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "data")]
pub enum DataVersion {
    Known(Versions),
    /// They could not be, or say nothing.
    Unknown {
        why: String,
    },
}

impl Default for DataVersion {
    fn default() -> Self {
        Self::Unknown { why: "it was not read".to_owned() }
    }
}

impl DataVersion {
    /// Of an etcd whose manifest does not say where its data lie (`--config-file`, the environment).
    pub fn unnamed() -> Self {
        Self::Unknown { why: "the manifest does not name the data directory (--data-dir)".to_owned() }
    }

    /// Whether nothing is known: then nothing is kept of it either.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// The versions in an etcd's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// What all members of the cluster were at least when its leader looked last. A single member's follows its binary
    /// within seconds.
    pub cluster: Option<Minor>,
    /// The layout of the database; written from 3.6 on.
    pub storage: Option<Minor>,
    /// Where to, while a downgrade is under way.
    pub downgrade: Option<Minor>,
}
