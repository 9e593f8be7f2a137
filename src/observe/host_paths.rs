//! What exists at the hostPath sources of the deployed manifests, as far as they are made where they are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::host_path::{self, PathState};
use crate::model::observation::Directory;
use crate::sys::files;

/// Looks at the sources of every manifest of the directory, at those directories above them that are absent, and at the
/// paths that were absent before.
pub(super) fn look(manifests: &Directory, before: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, PathState> {
    let deployed = manifests.files().filter_map(|file| file.content.as_ref().ok());
    let sources = deployed.flat_map(host_path::sources).map(|source| source.path);
    let mut seen = BTreeMap::new();
    for path in sources.chain(before.iter().cloned()) {
        for path in path.ancestors() {
            let state = *seen.entry(path.to_owned()).or_insert_with(|| at(path));
            if state != PathState::Absent {
                break;
            }
        }
    }
    seen
}

fn at(path: &Path) -> PathState {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => PathState::Absent,
        Ok(meta) if meta.is_dir() => match is_empty(path) {
            Ok(true) => PathState::EmptyDirectory,
            _ => PathState::UsedDirectory,
        },
        // A link to a directory is a directory to the runtime, and was made by somebody else.
        Ok(meta) if meta.is_symlink() && path.is_dir() => PathState::UsedDirectory,
        _ => PathState::Other,
    }
}

/// Whether a directory holds nothing, and no other file system.
fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none() && !files::is_mount_point(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use PathState::{Absent, EmptyDirectory, Other, UsedDirectory};

    #[test]
    fn a_path_is_what_it_is_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["empty", "used/inner"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("file"), "x").unwrap();
        symlink(path("empty"), path("to-a-directory")).unwrap();
        symlink(path("nothing"), path("to-nothing")).unwrap();
        let rows = [
            ("empty", EmptyDirectory),
            ("used", UsedDirectory),
            ("file", Other),
            ("to-a-directory", UsedDirectory),
            ("to-nothing", Other),
            ("nothing", Absent),
            ("file/below", Other),
        ];
        for (name, state) in rows {
            assert_eq!(at(&path(name)), state, "{name}");
        }
        assert_eq!(at(Path::new("/proc")), UsedDirectory, "a mount point");
    }

    #[test]
    fn what_is_above_an_absent_path_is_looked_at_as_far_as_it_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let missing = Directory::Missing { gone: BTreeMap::new() };
        let seen = look(&missing, &BTreeSet::from([path("a/b")]));
        let expected = [(path("a/b"), Absent), (path("a"), Absent), (dir.path().to_owned(), EmptyDirectory)];
        assert_eq!(seen, BTreeMap::from(expected));
    }
}
