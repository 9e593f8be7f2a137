//! What exists at the hostPath sources of the deployed manifests, as far as they are made where they are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::Manifest;
use crate::model::host_path::{self, PathState};
use crate::sys::files;

/// Which paths are looked at, and how closely.
#[derive(Debug, Default)]
pub(super) struct Paths(BTreeMap<PathBuf, Depth>);

/// How closely a directory is looked at. It may be another machine's, and large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Whether it exists.
    Exists,
    /// Whether it is empty as well.
    Content,
}

impl Paths {
    /// The sources of these manifests, and the paths that were absent before. Content matters where a file belongs, and where
    /// a directory may have been made since.
    pub(super) fn of<'m>(deployed: impl Iterator<Item = &'m Manifest>, before: &BTreeSet<PathBuf>) -> Self {
        let sources = deployed.flat_map(host_path::sources).map(|source| {
            let is_file = source.files.iter().any(|(_, file)| *file == source.path);
            (source.path, if is_file { Depth::Content } else { Depth::Exists })
        });
        let mut paths = Self::default();
        for (path, depth) in sources.chain(before.iter().map(|path| (path.clone(), Depth::Content))) {
            let known = paths.0.entry(path).or_insert(depth);
            *known = depth.max(*known);
        }
        paths
    }

    /// Looks at each, and at those directories above it that are absent.
    pub(super) fn look(&self) -> BTreeMap<PathBuf, PathState> {
        let mut seen = BTreeMap::new();
        for path in self.0.keys() {
            for path in path.ancestors() {
                let depth = self.0.get(path).copied().unwrap_or(Depth::Exists);
                if *seen.entry(path.to_owned()).or_insert_with(|| at(path, depth)) != PathState::Absent {
                    break;
                }
            }
        }
        seen
    }
}

fn at(path: &Path, depth: Depth) -> PathState {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => PathState::Absent,
        Ok(meta) if meta.is_dir() => match depth {
            Depth::Content if is_empty(path).unwrap_or(false) => PathState::EmptyDirectory,
            Depth::Content | Depth::Exists => PathState::UsedDirectory,
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
            assert_eq!(at(&path(name), Depth::Content), state, "{name}");
        }
        assert_eq!(at(Path::new("/proc"), Depth::Content), UsedDirectory, "a mount point");
    }

    #[test]
    fn what_is_above_an_absent_path_is_looked_at_as_far_as_it_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let seen = Paths::of([].into_iter(), &BTreeSet::from([path("a/b")])).look();
        let expected = [(path("a/b"), Absent), (path("a"), Absent), (dir.path().to_owned(), UsedDirectory)];
        assert_eq!(seen, BTreeMap::from(expected));
    }

    #[test]
    fn a_directory_is_read_only_where_a_file_belongs_or_where_it_was_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["data", "audit.yaml", "was-absent"] {
            fs::create_dir(path(name)).unwrap();
        }
        let volume = |name: &str| format!("{{name: {name}, hostPath: {{path: {}}}}}", path(name).display());
        let text = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: etcd, namespace: kube-system}}, spec: {{volumes: [{}, {}, {}], \
             containers: [{{name: etcd, image: i, command: [etcd, --config-file=/audit.yaml], volumeMounts: [{{name: \
             audit.yaml, mountPath: /audit.yaml}}, {{name: data, mountPath: /data}}]}}]}}}}",
            volume("data"),
            volume("audit.yaml"),
            volume("was-absent")
        );
        let manifest = Manifest::parse(text.as_bytes().into()).unwrap();
        let seen = Paths::of([&manifest].into_iter(), &BTreeSet::from([path("was-absent")])).look();
        let expected =
            [(path("data"), UsedDirectory), (path("audit.yaml"), EmptyDirectory), (path("was-absent"), EmptyDirectory)];
        assert_eq!(seen, BTreeMap::from(expected));
    }
}
