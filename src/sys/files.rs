//! File operations that are atomic across a crash, a full disk or a power cut, and reads that no kind of file can
//! block.
//!
//! ```text
//!   write_new ── temp file, attributes, bytes, fsync ──▶ put ── rename ──▶ fsync of both directories
//!     (any failure removes the temp file: the old file remains)   (any failure after: the new file is in place)
//! ```
//!
//! Every error is a sentence that names the path; its [`io::ErrorKind`] is kept, so that a caller can distinguish a
//! full disk from a missing file.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use tempfile::NamedTempFile;

/// How our temp files begin: with a dot, which the kubelet skips, so that one left in a watched directory by mistake
/// would still be no pod.
pub const TEMP_PREFIX: &str = ".lastgood-";

/// Wraps an error in a sentence: `cannot VERB PATH: cause`.
pub fn named(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {verb} {}: {error}", path.display()))
}

/// An error of ours about a path.
pub fn fault(kind: io::ErrorKind, path: &Path, sentence: &str) -> io::Error {
    io::Error::new(kind, format!("{} {sentence}", path.display()))
}

/// What a file is besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The file whose extended attributes (SELinux label, ACL) are taken over, if any.
    pub extended_from: Option<PathBuf>,
}

impl Attributes {
    /// As kubeadm writes a manifest: 0600, our own user and group.
    pub fn private() -> Self {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Self { mode: 0o600, uid, gid, extended_from: None }
    }

    /// Those of the regular file that exists at a path, extended ones included; none if there is no regular file.
    ///
    /// # Errors
    /// When the path cannot be looked at for another reason than that nothing is there.
    pub fn of_standing(path: &Path) -> io::Result<Option<Self>> {
        Ok(standing(path)?.filter(Metadata::is_file).map(|metadata| Self {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            extended_from: Some(path.to_owned()),
        }))
    }
}

/// What is at a path itself, links not followed; `None` if there is nothing.
///
/// # Errors
/// When it is unknown.
pub fn standing(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named("look at", path)(error)),
    }
}

/// Makes a directory's entries last.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn fsync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(named("sync directory", dir))
}

/// Makes a directory if it is missing; never its parents. What is there must be a directory, not a link to one: our own
/// directories hold secrets.
///
/// # Errors
/// When it cannot be made, or something else exists there.
pub fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    match standing(dir)? {
        Some(metadata) if metadata.is_dir() => return Ok(()),
        Some(_) => return Err(fault(io::ErrorKind::NotADirectory, dir, "is in the way: a directory is needed there")),
        None => {}
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(named("make directory", dir))?,
    }
    // The umask had its say in the mode above.
    fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(named("set the mode of", dir))?;
    parent(dir).map_or(Ok(()), fsync_dir)
}

/// The directory that a path is an entry of; `.` for a bare name.
pub fn dir_of(path: &Path) -> &Path {
    parent(path).unwrap_or(Path::new("."))
}

/// A path's directory.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

/// Reads a regular file, links followed, up to `max` bytes, without ever blocking on a fifo or a device.
///
/// # Errors
/// When it is no regular file ([`io::ErrorKind::InvalidInput`]), is larger ([`io::ErrorKind::FileTooLarge`]), or cannot
/// be read.
pub fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // Opening a device can do something by itself (a tape rewinds), so the kind is asked before; the second look, at
    // what was really opened, is the one that counts.
    let kind = fs::metadata(path).map_err(named("read", path))?;
    refuse_special(path, &kind)?;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(named("read", path))?;
    let metadata = file.metadata().map_err(named("read", path))?;
    refuse_special(path, &metadata)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(named("read", path))?;
    if bytes.len() as u64 > max {
        return Err(fault(io::ErrorKind::FileTooLarge, path, &format!("is larger than {max} bytes")));
    }
    Ok(bytes)
}

fn refuse_special(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = kind_of(metadata);
    Err(fault(io::ErrorKind::InvalidInput, path, &format!("is a {what}, not a regular file")))
}

/// What an entry is, for people.
pub fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "regular file",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symbolic link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "device",
    }
}

/// An empty file of ours in a directory, private, of a name that begins so; gone again unless it is kept.
///
/// # Errors
/// When it cannot be made: by the directory, without its name, which is another one each time: the same trouble reads the
/// same.
pub fn temp_in(dir: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(prefix).tempfile_in(dir).map_err(|error| {
        let said = error.to_string();
        // tempfile's own words, behind the system's.
        let said = said.split_once(" at path ").map_or(said.as_str(), |(said, _)| said);
        fault(error.kind(), dir, &format!("takes no new file: {said}"))
    })
}

/// Writes a temp file whole, with its attributes, and syncs it. It is gone again unless it is [`put`].
///
/// # Errors
/// When any of that fails; nothing is left behind then.
pub fn write_new(dir: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<NamedTempFile> {
    let verb = "write a file in";
    let mut temp = temp_in(dir, TEMP_PREFIX)?;
    if let Some(from) = &attributes.extended_from {
        copy_extended(from, temp.path());
    }
    let file = temp.as_file_mut();
    file.write_all(bytes).map_err(named(verb, dir))?;
    let now = file.metadata().map_err(named(verb, dir))?;
    if (now.uid(), now.gid()) != (attributes.uid, attributes.gid) {
        std::os::unix::fs::fchown(&*file, Some(attributes.uid), Some(attributes.gid))
            .map_err(named("set the owner of a file in", dir))?;
    }
    // After the owner: chown clears bits of the mode.
    file.set_permissions(Permissions::from_mode(attributes.mode & 0o7777))
        .map_err(named("set the mode of a file in", dir))?;
    file.sync_all().map_err(named("sync a file in", dir))?;
    Ok(temp)
}

/// Takes over the extended attributes of a file, as far as they can be: an SELinux label or an ACL that cannot be
/// copied is no reason to leave a control plane down.
///
/// By coreutils, before the bytes are written (it takes the time stamps over as well): neither std nor nix knows
/// `getxattr`, and this program has no unsafe code of its own.
fn copy_extended(from: &Path, to: &Path) {
    let copy = Command::new("cp")
        .args(["--attributes-only", "--no-dereference", "--preserve=all", "--"])
        .args([from, to])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !copy.is_ok_and(|status| status.success()) {
        tracing::debug!(from = %from.display(), "extended attributes were not taken over");
    }
}

/// Puts a written file in place by one rename and makes both directories last.
///
/// # Errors
/// When the rename fails: the old file remains. Or when a directory cannot be synced: the new file is in place, and may
/// be the old one again after a power cut.
pub fn put(temp: NamedTempFile, target: &Path) -> io::Result<()> {
    let from = temp.path().to_owned();
    let put = temp.persist(target).map_err(|error| error.error);
    // By the directory: the name is another one each time, and the same trouble would read like a new one.
    put.map_err(|error| rename_failed(&dir_of(&from).join(format!("{TEMP_PREFIX}…")), target, error))?;
    fsync_both(&from, target)
}

/// Replaces a file's bytes: [`write_new`] in `temp_dir`, which must be on the target's file system, then [`put`].
///
/// # Errors
/// As those two.
pub fn replace(temp_dir: &Path, target: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    put(write_new(temp_dir, bytes, attributes)?, target)
}

/// Whether a write changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Changed,
    /// The same bytes existed there already; nothing was written.
    AlreadySo,
}

/// [`replace`], unless a regular file with the same bytes exists there.
///
/// # Errors
/// As [`replace`]. A file that cannot be read is simply replaced.
pub fn write_if_different(
    temp_dir: &Path,
    target: &Path,
    bytes: &[u8],
    attributes: &Attributes,
) -> io::Result<Written> {
    let regular = standing(target)?.is_some_and(|metadata| metadata.is_file());
    if regular && read_bounded(target, bytes.len() as u64).is_ok_and(|standing| standing == bytes) {
        return Ok(Written::AlreadySo);
    }
    replace(temp_dir, target, bytes, attributes)?;
    Ok(Written::Changed)
}

/// Moves by rename, over whatever file exists there, and makes both directories last.
///
/// # Errors
/// When the rename or a sync fails.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|error| rename_failed(from, to, error))?;
    fsync_both(from, to)
}

/// Moves by rename, unless something exists there ([`io::ErrorKind::AlreadyExists`]), and makes both directories last.
///
/// # Errors
/// When something exists there, or the rename or a sync fails.
pub fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE);
    match renamed {
        Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {
            // A file system without the flag (NFS): a hard link refuses what exists just as well.
            fs::hard_link(from, to).map_err(|error| rename_failed(from, to, error))?;
            fs::remove_file(from).map_err(named("remove", from))?;
        }
        other => other.map_err(|errno| rename_failed(from, to, errno.into()))?,
    }
    fsync_both(from, to)
}

/// Gives what is at `from` a second name, links not followed, and makes it last: what is renamed over afterwards is
/// kept.
///
/// # Errors
/// When the link cannot be made or synced.
pub fn link_aside(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot keep {} as {}: {error}", from.display(), to.display()))
    })?;
    parent(to).map_or(Ok(()), fsync_dir)
}

fn rename_failed(from: &Path, to: &Path, error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::CrossesDevices => "; both must be on one file system and one mount",
        _ => "",
    };
    let sentence = format!("cannot rename {} to {}: {error}{advice}", from.display(), to.display());
    io::Error::new(error.kind(), sentence)
}

fn fsync_both(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (parent(from), parent(to));
    target.map_or(Ok(()), fsync_dir)?;
    if source != target { source.map_or(Ok(()), fsync_dir) } else { Ok(()) }
}

/// Removes a file if it is there, and makes it last.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed.map_err(named("remove", path))?;
            parent(path).map_or(Ok(()), fsync_dir)
        }
    }
}

/// The mount a directory is on. Two directories of one device can still be of two mounts (bind mounts, as systemd makes
/// them of every `ReadWritePaths=`), and no rename crosses mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    device: u64,
    /// Its ID in `/proc/self/mountinfo`, from `/proc/self/fdinfo`; absent where that cannot be read.
    pub id: Option<u64>,
}

/// The mount of a directory.
///
/// # Errors
/// When it cannot be opened.
pub fn mount_of(dir: &Path) -> io::Result<Mount> {
    use std::os::fd::AsRawFd as _;
    let open = File::open(dir).map_err(named("open", dir))?;
    let device = open.metadata().map_err(named("look at", dir))?.dev();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", open.as_raw_fd())).unwrap_or_default();
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    Ok(Mount { device, id })
}

/// Whether another file system, or another part of one, is mounted at a directory.
///
/// # Errors
/// When it or its parent cannot be opened.
pub fn is_mount_point(dir: &Path) -> io::Result<bool> {
    Ok(mount_of(dir)? != mount_of(dir_of(dir))?)
}

/// The names in a directory; empty where it does not exist.
///
/// # Errors
/// When it cannot be read.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(named("read directory", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is none of ours.
        if let Ok(name) = entry.map_err(named("read directory", dir))?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a text can be the name of an entry in a directory, and nothing more: no way out of it, and not hidden.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_does_not_hang_the_reader_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("kube-apiserver.yaml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = read_bounded(&fifo, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("kube-apiserver.yaml is a fifo"), "{error}");
    }

    /// A reporter that compares sentences tells a trouble once.
    #[test]
    fn the_same_trouble_reads_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let said = |error: io::Error| error.to_string();
        let missing = dir.path().join("missing");
        let new = || said(write_new(&missing, b"x", &Attributes::private()).unwrap_err());
        assert_eq!(new(), new());
        assert!(new().contains("missing takes no new file: No such file or directory"), "{}", new());
        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        let put = || said(replace(dir.path(), &target, b"x", &Attributes::private()).unwrap_err());
        assert_eq!(put(), put());
        assert!(put().contains("/.lastgood-… to ") && put().contains("target: Is a directory"), "{}", put());
    }

    #[test]
    fn a_bound_is_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(Path::new("/dev/zero"), 4).is_err());
    }

    #[test]
    fn attributes_go_with_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::write(&old, "old").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
        let root = nix::unistd::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&old, Some(1234), Some(4321)).unwrap();
        }
        let labelled = Command::new("setfattr").args(["-n", "user.label", "-v", "x"]).arg(&old).status().unwrap();
        replace(dir.path(), &new, b"new", &Attributes::of_standing(&old).unwrap().unwrap()).unwrap();
        let metadata = fs::metadata(&new).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        if root {
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
        }
        assert_eq!(fs::read(&new).unwrap(), b"new");
        // A file system need not have such attributes.
        if labelled.success() {
            let seen = Command::new("getfattr").args(["-n", "user.label"]).arg(&new).output().unwrap();
            assert!(String::from_utf8_lossy(&seen.stdout).contains("user.label=\"x\""));
        }
        assert_eq!(names(dir.path()).unwrap(), ["new", "old"], "a temp file was left");
    }

    #[test]
    fn what_stands_is_not_moved_over() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        assert_eq!(rename_noreplace(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&b).unwrap();
        rename_noreplace(&a, &b).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"a");
    }

    #[test]
    fn the_same_bytes_are_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let write = |bytes| write_if_different(dir.path(), &path, bytes, &Attributes::private()).unwrap();
        assert_eq!(write(b"one"), Written::Changed);
        let inode = fs::metadata(&path).unwrap().ino();
        assert_eq!(write(b"one"), Written::AlreadySo);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert_eq!(write(b"on"), Written::Changed);
    }

    #[test]
    fn a_link_where_a_directory_is_needed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("staging");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(make_dir(&link, 0o700).unwrap_err().to_string().contains("in the way"));
    }
}
