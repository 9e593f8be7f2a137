//! The files of a bundle next to its snapshot: their names, their size, and their removal.

use std::io;
use std::path::{Path, PathBuf};

use super::{KEYS, MANIFEST, NODE, beside};
use crate::snapshots::Name;
use crate::sys::files;

/// What the files of a snapshot's bundle are called, the manifest first; none where its own name is none of a snapshot.
pub fn paths(snapshot: &Path) -> impl Iterator<Item = PathBuf> {
    [MANIFEST, KEYS, NODE].into_iter().filter_map(move |ending| beside(snapshot, ending))
}

/// Removes a snapshot's bundle, its manifest first: what is left in between is a part that nothing lists.
pub(in crate::snapshots) fn remove(snapshot: &Path) -> io::Result<()> {
    paths(snapshot).map(|path| files::remove(&path)).fold(Ok(()), io::Result::and)
}

/// Bytes of a snapshot's bundle on the disk.
pub(in crate::snapshots) fn bytes_beside(snapshot: &Path) -> u64 {
    paths(snapshot).filter_map(|path| files::standing(&path).ok().flatten()).map(|metadata| metadata.len()).sum()
}

/// Removes what a crash left in a directory whose lock is held: parts without their snapshot, or without their manifest.
pub(in crate::snapshots) fn sweep(dir: &Path) {
    let gone = |path: &Path| matches!(files::standing(path), Ok(None));
    for name in files::names(dir).unwrap_or_default() {
        let ending = [MANIFEST, KEYS, NODE].into_iter().find(|ending| name.ends_with(ending));
        let Some(stem) = ending.and_then(|ending| name.strip_suffix(ending)?.strip_suffix('.')) else { continue };
        let snapshot = format!("{stem}.db");
        // The operator's own are theirs.
        if snapshot.parse::<Name>().is_ok()
            && (gone(&dir.join(snapshot)) || gone(&dir.join(format!("{stem}.{MANIFEST}"))))
        {
            let _ = std::fs::remove_file(dir.join(&name));
        }
    }
}
