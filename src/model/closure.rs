//! The closure of a manifest: the files below the Kubernetes directory that its flags and mounts bring into the pod.
//!
//! Configuration belongs to a generation and comes back with it. Key material never does (Q4): what a file is, is
//! judged by what stands in it, not by its name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Digest;

/// The largest configuration file that is kept with a generation, in bytes: an audit policy of a thousand rules is a
/// tenth of it.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The most files one closure may have; what a larger directory holds beyond that is not a hand-written configuration.
pub const MAX_FILES: usize = 128;

/// What a file is to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FileKind {
    /// Kept with the generation, put back with it.
    Config,
    /// A kubeconfig: put back only where the one that stands cannot work, and the kept one can (Q4).
    Kubeconfig {
        /// Whether it could work at all.
        works: KubeconfigHealth,
        /// Of its client certificate and key: a kept one with the same may be put back without changing any key.
        credentials: Digest,
    },
    /// Keys, certificates, tokens, encryption configuration: recorded by fingerprint, never kept, never put back.
    KeyMaterial,
}

/// Whether a kubeconfig can work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "health")]
pub enum KubeconfigHealth {
    /// It parses, and its key fits its certificate, where it embeds them.
    Works {
        /// The client certificate's not-after, seconds since the epoch; absent where it embeds none.
        not_after: Option<i64>,
    },
    /// It cannot work, and why.
    Cannot {
        /// A sentence.
        reason: String,
    },
}

/// What stands at a closure's path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum FileState {
    /// A file, read.
    Present {
        /// What it is to us.
        #[serde(flatten)]
        kind: FileKind,
        /// Of what makes it this version: the bytes of a configuration file; of a kubeconfig that works, all but its
        /// credentials (a renewed certificate is no change); the fingerprint of key material.
        digest: Digest,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Named, and not there.
    Missing,
    /// There, and not to be read as a file: a reason.
    Unreadable {
        /// A sentence.
        reason: String,
    },
}

/// One file of a closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosureFile {
    /// Its path on the host.
    pub path: PathBuf,
    /// What stands there.
    pub state: FileState,
}

impl ClosureFile {
    /// Whether this file takes part in a generation's identity: key material does not, it is never rolled back.
    pub fn identifies(&self) -> bool {
        !matches!(self.state, FileState::Present { kind: FileKind::KeyMaterial, .. })
    }
}

/// The digest that names a generation: the decoded pod and every file of its closure that identifies it.
pub fn generation_digest(pod: Digest, closure: &[ClosureFile]) -> Digest {
    let mut parts: Vec<Vec<u8>> = vec![pod.as_bytes().to_vec()];
    for file in closure.iter().filter(|file| file.identifies()) {
        parts.push(file.path.as_os_str().as_encoded_bytes().to_vec());
        parts.push(match &file.state {
            FileState::Present { digest, .. } => digest.as_bytes().to_vec(),
            FileState::Missing => b"missing".to_vec(),
            FileState::Unreadable { .. } => b"unreadable".to_vec(),
        });
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}
