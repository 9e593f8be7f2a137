//! The directories that a replacement needs: whether they are writable, have space, and are on one mount for a rename.
//! Checked without writing.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::config::Settings;
use crate::sys::files;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirAccess {
    pub path: PathBuf,
    /// Whether it can be written, or made where it is missing; why not.
    pub writable: Result<(), String>,
    /// Bytes left for anybody, on its file system.
    pub bytes: Option<u64>,
    /// Inodes left for anybody; absent where the file system makes them as it goes.
    pub inodes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// The manifest directory.
    pub manifests: DirAccess,
    /// Files on their way.
    pub staging: DirAccess,
    pub inactive: DirAccess,
    /// Generations, memory and history.
    pub state: DirAccess,
    /// Whether a rename leads from staging into the manifest directory; why not.
    pub renames: Result<(), String>,
    /// The program that restarts the kubelet, found and executable; why not.
    pub restart: Result<PathBuf, String>,
}

/// Looks at them below `root`: `/`, or the root of the agent's process, whose mounts may be others than ours (systemd's
/// sandbox makes some read-only).
pub fn places(root: &Path, settings: &Settings, manifests: &Path) -> Directories {
    let paths = &settings.paths;
    Directories {
        manifests: place(root, manifests),
        staging: place(root, &paths.staging),
        inactive: place(root, &paths.inactive_manifests),
        state: place(root, &paths.state),
        renames: renames(root, &paths.staging, manifests),
        restart: program(root, settings.policy.kubelet_restart.first().map_or("", String::as_str)),
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What exists of a path: itself, or the directory it would be made in.
fn there(root: &Path, path: &Path) -> (PathBuf, PathBuf) {
    let mut found = path;
    while !below(root, found).exists()
        && let Some(parent) = found.parent()
    {
        found = parent;
    }
    (below(root, found), found.to_owned())
}

fn place(root: &Path, path: &Path) -> DirAccess {
    let (real, named) = there(root, path);
    // Root's rights do not reach into a read-only mount or an immutable directory, and the kernel says so here.
    let writable = access(&real, AccessFlags::W_OK | AccessFlags::X_OK);
    let writable = match real.is_dir() {
        true => writable.map_err(|error| format!("{} cannot be written: {}", named.display(), error.desc())),
        false => Err(format!("{} is no directory", named.display())),
    };
    let room = statvfs(&real).ok();
    let bytes = room.as_ref().map(|room| room.blocks_available().saturating_mul(room.fragment_size()));
    let inodes = room.filter(|room| room.files() > 0).map(|room| room.files_available());
    DirAccess { path: path.to_owned(), writable, bytes, inodes }
}

fn renames(root: &Path, staging: &Path, manifests: &Path) -> Result<(), String> {
    let mount = |path: &Path| files::mount_of(&there(root, path).0).map_err(|error| error.to_string());
    if mount(staging)? == mount(manifests)? {
        return Ok(());
    }
    Err(format!("{} is not on the file system and mount of {}", staging.display(), manifests.display()))
}

/// A program, by its path or from the places systemd looks in.
fn program(root: &Path, name: &str) -> Result<PathBuf, String> {
    const SEARCHED: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    if name.is_empty() {
        return Err("no command is configured (kubelet.restart)".to_owned());
    }
    let candidates: Vec<PathBuf> = match name.contains('/') {
        true => vec![name.into()],
        false => SEARCHED.iter().map(|dir| Path::new(dir).join(name)).collect(),
    };
    let runs = |path: &&PathBuf| {
        let real = below(root, path);
        real.is_file() && access(&real, AccessFlags::X_OK).is_ok()
    };
    let found = candidates.iter().find(runs).cloned();
    found.ok_or_else(|| format!("{name} is not found, or cannot be executed"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn settings(root: &Path) -> Settings {
        let mut settings = Settings::default();
        settings.paths.staging = root.join("kubernetes/.lastgood");
        settings.paths.inactive_manifests = root.join("kubernetes/inactive-manifests");
        settings.paths.state = root.join("state");
        settings.policy.kubelet_restart = vec!["sh".to_owned()];
        settings
    }

    #[test]
    fn what_is_missing_is_looked_at_where_it_would_be_made() {
        let root = tempfile::tempdir().unwrap();
        let manifests = root.path().join("kubernetes/manifests");
        fs::create_dir_all(&manifests).unwrap();
        let found = places(Path::new("/"), &settings(root.path()), &manifests);
        assert_eq!((&found.renames, &found.staging.writable), (&Ok(()), &Ok(())), "{found:?}");
        assert_eq!(found.state.writable, Ok(()));
        assert!(found.state.bytes.is_some());
        assert!(found.restart.as_ref().is_ok_and(|path| path.ends_with("sh")), "{found:?}");
        assert!(!root.path().join("state").exists(), "something was made");
    }

    #[test]
    fn what_would_fail_is_named() {
        let root = tempfile::tempdir().unwrap();
        let manifests = root.path().join("manifests");
        fs::create_dir(&manifests).unwrap();
        let mut settings = settings(root.path());
        settings.paths.staging = "/dev/shm/lastgood-staging".into();
        settings.paths.state = root.path().join("file/state");
        fs::write(root.path().join("file"), "").unwrap();
        settings.policy.kubelet_restart = vec!["/nonexistent/systemctl".to_owned()];
        let found = places(Path::new("/"), &settings, &manifests);
        assert!(found.renames.unwrap_err().contains("/dev/shm/lastgood-staging is not on the file system"));
        assert!(found.state.writable.unwrap_err().contains("file is no directory"));
        assert!(found.restart.unwrap_err().contains("/nonexistent/systemctl is not found"));
    }

    #[test]
    fn a_read_only_mount_is_not_writable_to_root_either() {
        let root = tempfile::tempdir().unwrap();
        let read_only = root.path().join("read-only");
        fs::create_dir(&read_only).unwrap();
        // A mount of this thread alone; who may not make one cannot try this.
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return;
        }
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        mount(Some("none"), &read_only, Some("tmpfs"), MsFlags::MS_RDONLY, nothing).unwrap();
        let mut settings = settings(root.path());
        settings.paths.state = read_only.join("state");
        let found = places(Path::new("/"), &settings, root.path());
        let why = found.state.writable.unwrap_err();
        assert!(why.contains("read-only cannot be written: Read-only file system"), "{why}");
        assert_eq!(found.manifests.writable, Ok(()));
    }

    #[test]
    fn another_root_is_another_place() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/kubernetes/manifests")).unwrap();
        let found = places(root.path(), &Settings::default(), Path::new("/etc/kubernetes/manifests"));
        assert_eq!(found.manifests.writable, Ok(()));
        assert_eq!(found.manifests.path, Path::new("/etc/kubernetes/manifests"));
        assert!(found.restart.is_err(), "systemctl is not below the other root");
    }
}
