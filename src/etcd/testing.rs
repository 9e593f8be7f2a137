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
