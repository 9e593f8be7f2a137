//! What is wrong with a file in the manifest directory that holds no pod.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kubelet_yaml::Undecodable;

/// The largest manifest the kubelet reads (`maxConfigLength` in its `pkg/kubelet/config/file.go`), in bytes.
pub const MAX_BYTES: u64 = 10 << 20;

/// Why a file in the manifest directory holds no pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fault")]
pub enum FileFault {
    /// No bytes, or nothing but white space and comments.
    Empty,
    /// Larger than the kubelet reads.
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
    },
    /// Neither YAML nor JSON.
    NotYaml {
        /// The parser's sentence, with line and column.
        error: String,
    },
    /// Parses, and is something else than a v1 Pod.
    NotAPod {
        /// What it says it is.
        kind: String,
    },
    /// A document that the kubelet's decoder refuses: a value of another type than its field, a key that is none.
    Undecodable {
        /// Which field, and why.
        error: String,
    },
    /// A Pod that, as far as we can tell, the kubelet refuses.
    InvalidPod {
        /// Which field, and why.
        error: String,
    },
    /// A directory; the kubelet does not enter it.
    Directory,
    /// A symbolic link that leads nowhere.
    DanglingLink {
        /// Where it points.
        target: String,
    },
    /// A fifo, socket or device.
    Special { kind: String },
    /// It could not be read.
    Unreadable {
        /// The system's word.
        error: String,
    },
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLarge { bytes } => write!(f, "is {bytes} bytes, more than the kubelet reads ({MAX_BYTES})"),
            Self::NotYaml { error } => write!(f, "is neither YAML nor JSON: {error}"),
            Self::NotAPod { kind } => write!(f, "is {kind}, not a v1 Pod"),
            Self::Undecodable { error } => write!(f, "does not decode to a Pod: {error}"),
            Self::InvalidPod { error } => write!(f, "is not a valid Pod: {error}"),
            Self::Directory => f.write_str("is a directory"),
            Self::DanglingLink { target } => write!(f, "is a symbolic link to {target}, which does not exist"),
            Self::Special { kind } => write!(f, "is a {kind}, not a regular file"),
            Self::Unreadable { error } => write!(f, "cannot be read: {error}"),
        }
    }
}

impl FileFault {
    /// Whether the kubelet may run a pod from such a file nevertheless (Q16). What no YAML parser finds a document in, and
    /// what its decoder cannot put into the fields of a Pod, it does not run: we read both as it does
    /// (`model/kubelet_yaml`). What is only no Pod by our own rules may be one to it.
    pub fn kubelet_may_run(&self) -> bool {
        match self {
            Self::NotAPod { .. } | Self::InvalidPod { .. } => true,
            Self::Empty | Self::TooLarge { .. } | Self::NotYaml { .. } | Self::Undecodable { .. } => false,
            Self::Directory | Self::DanglingLink { .. } | Self::Special { .. } | Self::Unreadable { .. } => false,
        }
    }
}

impl From<Undecodable> for FileFault {
    fn from(error: Undecodable) -> Self {
        match error {
            Undecodable::Syntax(error) => Self::NotYaml { error },
            Undecodable::Refused(error) => Self::Undecodable { error },
            Undecodable::Beyond(error) => Self::InvalidPod { error },
        }
    }
}
