//! For tests of other rooms: the recorded snapshot, and a data directory restored from it.

use std::path::{Path, PathBuf};

use super::restore::testing as restoring;
use super::restore::{Fault, Node, RestoreOptions, Restored};

/// The snapshot of a cluster of one member, `vm`, at revision 754.
pub(crate) fn snapshot(dir: &Path) -> PathBuf {
    super::tests::snapshot(dir)
}

/// Restoring a snapshot into a directory, as this cluster's first member.
pub(crate) fn ask(from: &Path, data_dir: &Path, cluster: &str) -> RestoreOptions {
    restoring::ask(from, data_dir, cluster)
}

/// All of it, without the operator in between.
pub(crate) fn restore(ask: &RestoreOptions) -> Result<Restored, Fault> {
    restoring::restore(ask, &Node::default())
}

/// The recorded snapshot as it would be with encryption at rest: its Secrets begin as `aescbc` values of this key.
pub(crate) fn encrypted(dir: &Path, key: &str) -> PathBuf {
    let path = snapshot(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() - 32;
    let prefix = format!("k8s:enc:aescbc:v1:{key}:");
    let name = b"/registry/secrets/";
    let found: Vec<usize> =
        bytes.windows(name.len()).enumerate().filter(|(_, at)| at == name).map(|(at, _)| at).collect();
    for at in found {
        let value = bytes[at..size].windows(4).take(300).position(|window| window == b"k8s\0");
        if let Some(value) = value.map(|value| at + value) {
            bytes[value..value + prefix.len()].copy_from_slice(prefix.as_bytes());
        }
    }
    let sha256: [u8; 32] =
        sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &bytes[..size])).into();
    bytes[size..].copy_from_slice(&sha256);
    let path = dir.join("encrypted.db");
    std::fs::write(&path, bytes).unwrap();
    path
}
