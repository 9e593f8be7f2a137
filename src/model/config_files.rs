//! The configuration files of a manifest: the files below the Kubernetes directory that its flags and mounts bring into
//! the pod.
//!
//! Configuration files belong to a generation and are rolled back with it. Key material is not (Q4): a file is
//! classified by its content, not by its name.

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
    /// A kubeconfig: put back only where the one that is deployed cannot work, and the kept one can (Q4).
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
    Cannot { reason: String },
}

/// What is at a closure's path.
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
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// Named, and not there.
    Missing,
    /// There, and not to be read as a file: a reason.
    Unreadable { reason: String },
}

/// One file of a closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosureFile {
    /// Its path on the host.
    pub path: PathBuf,
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

/// Whether what is deployed may give way to what was kept, at this second since the epoch (Q4).
///
/// # Errors
/// Why not, as a sentence.
///
/// | kept          | stands                                 | may                                    |
/// |---------------|----------------------------------------|----------------------------------------|
/// | key material  | anything                               | no                                     |
/// | anything      | key material                           | no                                     |
/// | configuration | configuration, nothing, no file        | yes                                    |
/// | configuration | a kubeconfig that works                | no: it would be lost                   |
/// | kubeconfig    | nothing, no file, no kubeconfig        | if it works and its certificate is valid |
/// | kubeconfig    | one that cannot work                   | the same                               |
/// | kubeconfig    | one that works, the same credentials   | the same                               |
/// | kubeconfig    | one that works, other credentials      | no                                     |
pub fn may_replace(now: &FileState, kept: &FileState, second: i64) -> Result<(), String> {
    let FileState::Present { kind: kept, .. } = kept else {
        return Err("no copy of it was kept".to_owned());
    };
    let standing = match now {
        FileState::Present { kind, .. } => Some(kind),
        FileState::Missing | FileState::Unreadable { .. } => None,
    };
    if matches!(standing, Some(FileKind::KeyMaterial)) {
        return Err("the present file is key material, which is never overwritten".to_owned());
    }
    match kept {
        FileKind::KeyMaterial => Err("key material is never restored".to_owned()),
        FileKind::Config => match standing {
            Some(FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. }) => {
                Err("the present file is a kubeconfig that works".to_owned())
            }
            _ => Ok(()),
        },
        FileKind::Kubeconfig { works: KubeconfigHealth::Cannot { reason }, .. } => {
            Err(format!("the kept kubeconfig cannot work: {reason}"))
        }
        FileKind::Kubeconfig { works: KubeconfigHealth::Works { not_after }, credentials } => {
            if let Some(end) = not_after.filter(|end| *end <= second) {
                let end = jiff::Timestamp::from_second(end).map_or(end.to_string(), |end| end.to_string());
                return Err(format!("the kept kubeconfig's certificate ended at {end}"));
            }
            match standing {
                // The same key and certificate, so neither is older.
                Some(FileKind::Kubeconfig { credentials: standing, .. }) if standing == credentials => Ok(()),
                Some(FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. }) => {
                    Err("the present kubeconfig works, and has other credentials".to_owned())
                }
                _ => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    const NOW: i64 = 1_000;

    fn present(kind: FileKind) -> FileState {
        FileState::Present { kind, digest: Digest::of(b"x"), mode: 0o600, uid: 0, gid: 0 }
    }

    fn works(credentials: &str, not_after: Option<i64>) -> FileState {
        let works = KubeconfigHealth::Works { not_after };
        present(FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) })
    }

    fn cannot(credentials: &str) -> FileState {
        let works = KubeconfigHealth::Cannot { reason: "its key does not fit".into() };
        present(FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) })
    }

    #[test]
    fn q4_what_may_be_put_back_over_what() {
        let config = || present(FileKind::Config);
        let keys = || present(FileKind::KeyMaterial);
        let unreadable = || FileState::Unreadable { reason: "is a directory".into() };
        let rows: [(&str, FileState, FileState, bool); 15] = [
            ("configuration over configuration", config(), config(), true),
            ("configuration where nothing is", FileState::Missing, config(), true),
            ("configuration over what is no file", unreadable(), config(), true),
            ("configuration over a key", keys(), config(), false),
            ("configuration over a kubeconfig that works", works("a", None), config(), false),
            ("a key over a key", keys(), keys(), false),
            ("a key where nothing is", FileState::Missing, keys(), false),
            ("a kubeconfig over one that cannot work", cannot("b"), works("a", Some(NOW + 1)), true),
            ("a kubeconfig over what is none", config(), works("a", Some(NOW + 1)), true),
            ("a kubeconfig where nothing is", FileState::Missing, works("a", None), true),
            ("an expired kubeconfig over one that cannot work", cannot("b"), works("a", Some(NOW)), false),
            ("a kubeconfig over a working one with other credentials", works("b", None), works("a", None), false),
            ("a kubeconfig over a working one with the same credentials", works("a", None), works("a", None), true),
            ("a kubeconfig that cannot work over another such", cannot("b"), cannot("a"), false),
            ("a kubeconfig over a key", keys(), works("a", None), false),
        ];
        for (situation, standing, kept, may) in rows {
            let answer = may_replace(&standing, &kept, NOW);
            assert_eq!(answer.is_ok(), may, "{situation}: {answer:?}");
        }
    }
}
