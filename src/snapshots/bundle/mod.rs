//! The bundle: what a bare machine needs in addition to etcd's data, stored next to the snapshot.
//!
//! ```text
//!   NAME.db              the data, as etcd sent them: etcdctl, etcdutl and `lastgood etcd restore` need only this file
//!   NAME.node.tar        known-good manifests, the configuration they name, the kubelet's: with their paths on the node
//!   NAME.keys.tar.age    keys, certificates, kubeconfigs, tokens: encrypted to the operator's recipients, or absent (Q4)
//!   NAME.bundle.json     written last: every part with its size and SHA-256, and the facts about node and cluster
//!
//!   record, known, node ──gather──▶ Gathered ──seal, write──▶ parts ──▶ bundle.json
//!                                                              parts ──check, open──▶ files ──▶ unpack below a directory
//! ```
//!
//! A bundle belongs to its snapshot and never endangers it: a snapshot without a bundle, or with a torn one, is as good
//! as before. Parts without their snapshot, or without the manifest that lists them, are left over from a crash and are
//! removed.

mod files;
mod gather;
mod manifest;
mod open;
mod seal;
pub mod tar;
#[cfg(test)]
pub(crate) mod tests;
mod unpack;
mod write;

use std::path::{Path, PathBuf};

pub use super::bundle::files::paths;
pub(super) use super::bundle::files::{bytes_beside, remove, sweep};
pub use gather::{Gathered, gather};
pub use manifest::{Bundle, Component, Fault, Fingerprint, Part};
pub use open::{Contents, Keys, open, open_fetched, verify, verify_fetched};
pub use unpack::{place, target};
pub use write::{Staged, add, stage};
#[cfg(test)]
pub(super) use write::{make, staged};

/// The most bytes that a part besides the data may have: some fifty times those of a large node's configuration and keys.
/// Each is held in memory whole.
pub const MAX_PART: u64 = 32 << 20;

/// And its manifest: one of a thousand keys has a tenth of it.
pub(super) const MAX_MANIFEST: u64 = 1 << 20;

/// What follows the stem of a snapshot's name.
const NODE: &str = "node.tar";
const KEYS: &str = "keys.tar.age";
pub(super) const MANIFEST: &str = "bundle.json";

/// The name of a snapshot's file without its `.db`: what the names of its parts begin with.
fn stem(file: &str) -> Option<&str> {
    file.strip_suffix(".db").filter(|stem| !stem.is_empty())
}

/// The file of a snapshot's bundle with this ending.
fn beside(snapshot: &Path, ending: &str) -> Option<PathBuf> {
    let file = snapshot.file_name()?.to_str()?;
    Some(snapshot.with_file_name(format!("{}.{ending}", stem(file)?)))
}

/// Whether a bundle exists next to a snapshot: its manifest does, whatever it holds.
pub fn stands(snapshot: &Path) -> bool {
    beside(snapshot, MANIFEST).is_some_and(|path| path.symlink_metadata().is_ok())
}
