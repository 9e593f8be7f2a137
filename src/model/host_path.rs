//! The hostPath sources that are made as an empty directory where nothing exists.
//!
//! ```text
//!   volume without a type, path absent          the container runtime makes a directory before it starts the container
//!   mount with a subPath, absent in its volume   the kubelet makes a directory before it asks for the container
//! ```
//!
//! A volume with a type is another matter: the kubelet checks it first, and starts no pod that does not pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Digest, Manifest};

/// What exists at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    Absent,
    EmptyDirectory,
    /// A directory with something in it, one that is a mount point, or one that was not read.
    UsedDirectory,
    /// A file, a socket, a device; or a path that cannot be read.
    Other,
}

/// A path on the host that a pod mounts and that is made as a directory where it is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSource {
    pub path: PathBuf,
    /// The name of its volume.
    pub volume: String,
    /// Where the main container has it, if the main container mounts it.
    pub inside: Option<PathBuf>,
    /// The flags that name a file in it or at it, with the file's path on the host.
    pub files: Vec<(String, PathBuf)>,
}

/// The paths that were absent when a manifest was first seen in place, so that what exists there later was made for its pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentPaths {
    pub generation: u32,
    /// The digest of its pod.
    pub pod: Digest,
    /// The sources, and those directories above them that were absent as well.
    pub paths: BTreeSet<PathBuf>,
    /// Those that have been in use since: they hold something, or are no directory. They are never removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub used: BTreeSet<PathBuf>,
}

/// The hostPath sources of a manifest that are made where they are absent.
pub fn sources(manifest: &Manifest) -> Vec<HostSource> {
    let Some(spec) = manifest.pod.spec.as_ref() else { return Vec::new() };
    let mounts = manifest.main_container().into_iter().flat_map(|container| container.volume_mounts.iter().flatten());
    let mounts: Vec<_> = mounts.collect();
    let mut found: Vec<HostSource> = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        let Some(host) = &volume.host_path else { continue };
        let path = PathBuf::from(&host.path);
        let of_volume = || mounts.iter().filter(|mount| mount.name == volume.name);
        if host.type_.as_deref().unwrap_or_default().is_empty() {
            let whole = of_volume().find(|mount| mount.sub_path.as_deref().unwrap_or_default().is_empty());
            let inside = whole.map(|mount| PathBuf::from(&mount.mount_path));
            found.push(HostSource { path: path.clone(), volume: volume.name.clone(), inside, files: Vec::new() });
        }
        for mount in of_volume() {
            if let Some(sub) = mount.sub_path.as_deref().filter(|sub| !sub.is_empty()) {
                let inside = Some(PathBuf::from(&mount.mount_path));
                found.push(HostSource { path: path.join(sub), volume: volume.name.clone(), inside, files: Vec::new() });
            }
        }
    }
    found.retain(|source| is_plain(&source.path));
    for (flag, values) in manifest.flags().into_iter().filter(|(flag, _)| names_a_file(flag)) {
        for word in values.iter().flat_map(|value| value.split(',')).filter(|word| word.starts_with('/')) {
            let Some(file) = manifest.host_path(Path::new(word)) else { continue };
            // The source that is nearest to the file is the one that brings it in.
            let nearest = found.iter_mut().filter(|source| file.starts_with(&source.path));
            if let Some(source) = nearest.max_by_key(|source| source.path.components().count()) {
                source.files.push((format!("--{flag}"), file));
            }
        }
    }
    found
}

/// A path on the host that a container has mounted.
#[derive(Clone, Copy, Debug)]
pub struct Mounted<'p> {
    pub path: &'p Path,
    pub read_only: bool,
}

impl Mounted<'_> {
    /// Whether a directory belongs to the container: it is mounted, what is below it is, or the container can make files in it.
    pub fn holds(self, directory: &Path) -> bool {
        self.path.starts_with(directory) || !self.read_only && directory.starts_with(self.path)
    }
}

/// Whether a container of the manifest has that directory, by any of its volumes.
pub fn is_mounted(manifest: &Manifest, directory: &Path) -> bool {
    let Some(spec) = manifest.pod.spec.as_ref() else { return false };
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| Some((&volume.name, volume.host_path.as_ref()?)));
    let mut of_volumes = volumes.map(|(name, host)| {
        let whole = Path::new(&host.path);
        // The kubelet looks at a volume also where no container mounts it.
        let named = Mounted { path: whole, read_only: true };
        let mounts = containers().flat_map(|container| container.volume_mounts.iter().flatten());
        let mut of_mounts = mounts.filter(|mount| mount.name == *name).map(|mount| {
            // What a subPathExpr comes to, only the kubelet knows: any of the volume.
            let path = mount.sub_path.as_ref().map_or_else(|| whole.to_owned(), |sub| whole.join(sub));
            Mounted { path: &path, read_only: mount.read_only == Some(true) }.holds(directory)
        });
        named.holds(directory) || of_mounts.any(|holds| holds)
    });
    of_volumes.any(|holds| holds)
}

/// Whether a flag with this name takes the path of a file that has to exist. What a component writes (its audit log) it makes
/// by itself, and a directory is no file.
fn names_a_file(flag: &str) -> bool {
    const READ: [&str; 5] = ["file", "config", "kubeconfig", "client-certificate", "client-key"];
    const WRITTEN: [&str; 3] = ["log-file", "dir", "log-path"];
    READ.iter().any(|end| flag.ends_with(end)) && !WRITTEN.iter().any(|end| flag.ends_with(end))
}

/// An absolute path without `.` and `..`, other than the root.
pub fn is_plain(path: &Path) -> bool {
    use std::path::Component::{Normal, RootDir};
    path.is_absolute() && path.parent().is_some() && path.components().all(|part| matches!(part, RootDir | Normal(_)))
}

impl AbsentPaths {
    /// Those of a manifest's sources that are absent now, with the absent directories above them.
    pub fn of(generation: u32, manifest: &Manifest, seen: &BTreeMap<PathBuf, PathState>) -> Option<Self> {
        let absent = |path: &Path| seen.get(path) == Some(&PathState::Absent);
        let sources: Vec<PathBuf> = sources(manifest).into_iter().map(|source| source.path).collect();
        let paths: BTreeSet<PathBuf> = sources
            .iter()
            .flat_map(|path| path.ancestors().take_while(|path| absent(path)))
            .map(Path::to_owned)
            .collect();
        (!paths.is_empty()).then_some(Self { generation, pod: manifest.digest, paths, used: BTreeSet::new() })
    }

    /// Sets apart what is in use by now: that holds something, or is no directory. What is left has stayed as it was made.
    pub fn set_used_apart(&mut self, seen: &BTreeMap<PathBuf, PathState>) {
        let holds_another = |path: &Path| self.paths.iter().any(|other| other != path && other.starts_with(path));
        let is_used = |path: &&PathBuf| match seen.get(*path) {
            Some(PathState::Other) => true,
            Some(PathState::UsedDirectory) => !holds_another(path),
            Some(PathState::Absent | PathState::EmptyDirectory) | None => false,
        };
        let used: BTreeSet<PathBuf> = self.paths.iter().filter(is_used).cloned().collect();
        self.paths.retain(|path| !used.contains(path));
        self.used.extend(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(volumes: &str, mounts: &str, flags: &str) -> Manifest {
        let text = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: kube-apiserver, namespace: kube-system}}, spec: {{volumes: \
             [{volumes}], containers: [{{name: kube-apiserver, image: i, command: [kube-apiserver, {flags}], volumeMounts: \
             [{mounts}]}}]}}}}"
        );
        Manifest::parse(text.as_bytes().into()).unwrap()
    }

    #[test]
    fn the_sources_that_are_made_and_the_files_that_flags_name_in_them() {
        let audit = "--audit-policy-file=/etc/kubernetes/audit.yaml";
        let at = |path: &str| format!("{{name: v, hostPath: {{path: {path}}}}}");
        let typed = |path: &str, kind: &str| format!("{{name: v, hostPath: {{path: {path}, type: {kind:?}}}}}");
        let mount = |path: &str| format!("{{name: v, mountPath: {path}}}");
        let sub = "{name: v, mountPath: /etc/kubernetes/audit.yaml, subPath: a/policy.yaml}".to_owned();
        let none: &[(&str, &[&str])] = &[];
        let file = "/etc/kubernetes/audit.yaml";
        type Row<'r> = (&'r str, String, String, &'r str, &'r [(&'r str, &'r [&'r str])]);
        let rows: [Row<'_>; 9] = [
            ("a file, no type", at(file), mount(file), audit, &[(file, &[file])]),
            ("an empty type", typed(file, ""), mount(file), audit, &[(file, &[file])]),
            ("type File", typed(file, "File"), mount(file), audit, none),
            ("under another path", at("/srv/p"), mount(file), audit, &[("/srv/p", &["/srv/p"])]),
            (
                "the directory of the file",
                at("/srv/d"),
                mount("/etc/kubernetes"),
                audit,
                &[("/srv/d", &["/srv/d/audit.yaml"])],
            ),
            (
                "a subPath",
                typed("/srv/d", "Directory"),
                sub,
                audit,
                &[("/srv/d/a/policy.yaml", &["/srv/d/a/policy.yaml"])],
            ),
            (
                "a log that it writes",
                at("/srv/log"),
                mount("/log"),
                "--audit-log-path=/log/audit.log",
                &[("/srv/log", &[])],
            ),
            ("a directory", at("/srv/c"), mount("/c"), "--cert-dir=/c", &[("/srv/c", &[])]),
            ("a path with ..", at("/srv/../etc"), mount("/c"), audit, none),
        ];
        for (situation, volumes, mounts, flags, expected) in rows {
            let found = sources(&manifest(&volumes, &mounts, flags));
            let found: Vec<(String, Vec<String>)> = found
                .iter()
                .map(|s| {
                    (s.path.display().to_string(), s.files.iter().map(|(_, file)| file.display().to_string()).collect())
                })
                .collect();
            let expected: Vec<(String, Vec<String>)> = expected
                .iter()
                .map(|(path, files)| ((*path).to_owned(), files.iter().map(|file| (*file).to_owned()).collect()))
                .collect();
            assert_eq!(found, expected, "{situation}");
        }
    }

    #[test]
    fn a_directory_is_mounted_where_a_container_has_it_or_something_of_it_or_can_make_files_in_it() {
        let rows = [
            ("the path itself", "/srv/d", "{name: v, mountPath: /d}", true),
            ("the path itself, read-only", "/srv/d", "{name: v, mountPath: /d, readOnly: true}", true),
            ("a path below", "/srv/d/deeper", "{name: v, mountPath: /d, readOnly: true}", true),
            ("a path above", "/srv", "{name: v, mountPath: /d}", true),
            ("a path above, read-only", "/srv", "{name: v, mountPath: /d, readOnly: true}", false),
            ("a volume of it that nobody mounts", "/srv/d", "{name: other, mountPath: /d}", true),
            ("a volume above that nobody mounts", "/srv", "{name: other, mountPath: /d}", false),
            ("its subPath", "/srv", "{name: v, mountPath: /d, readOnly: true, subPath: d}", true),
            ("a subPath below", "/srv", "{name: v, mountPath: /d, readOnly: true, subPath: d/deeper}", true),
            ("another subPath", "/srv", "{name: v, mountPath: /d, subPath: e}", false),
            ("a subPath that only the kubelet knows", "/srv", "{name: v, mountPath: /d, subPathExpr: $(A)}", true),
            ("a name that begins alike", "/srv/d2", "{name: v, mountPath: /d}", false),
        ];
        for (situation, path, mount, mounted) in rows {
            let volumes = format!("{{name: v, hostPath: {{path: {path}, type: Directory}}}}, {{name: other}}");
            let manifest = manifest(&volumes, mount, "--x");
            assert_eq!(is_mounted(&manifest, Path::new("/srv/d")), mounted, "{situation}");
        }
    }

    #[test]
    fn what_was_absent_is_kept_with_the_directories_above_it_until_it_is_used() {
        use PathState::{Absent, EmptyDirectory, Other, UsedDirectory};
        let manifest = manifest("{name: v, hostPath: {path: /srv/a/b}}", "{name: v, mountPath: /b}", "--x=/b/c");
        let seen = |srv, a, b| BTreeMap::from([("/srv".into(), srv), ("/srv/a".into(), a), ("/srv/a/b".into(), b)]);
        let paths = |absent: &AbsentPaths| absent.paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        let absent = AbsentPaths::of(2, &manifest, &seen(UsedDirectory, Absent, Absent)).unwrap();
        assert_eq!(paths(&absent), ["/srv/a", "/srv/a/b"]);
        assert_eq!(AbsentPaths::of(2, &manifest, &seen(UsedDirectory, UsedDirectory, EmptyDirectory)), None);
        assert_eq!(
            AbsentPaths::of(2, &manifest, &BTreeMap::new()),
            None,
            "what was not looked at is not known to be absent"
        );
        let rows: [(PathState, PathState, &[&str]); 5] = [
            (UsedDirectory, EmptyDirectory, &["/srv/a", "/srv/a/b"]),
            (EmptyDirectory, Absent, &["/srv/a", "/srv/a/b"]),
            (UsedDirectory, Other, &["/srv/a"]),
            (UsedDirectory, UsedDirectory, &["/srv/a"]),
            (Other, Absent, &["/srv/a/b"]),
        ];
        for (a, b, left) in rows {
            let mut absent = absent.clone();
            absent.set_used_apart(&seen(UsedDirectory, a, b));
            assert_eq!(paths(&absent), left, "{a:?} {b:?}");
        }
    }
}
