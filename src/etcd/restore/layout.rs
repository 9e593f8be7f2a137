//! Names, owners and identities of the files that a restore creates and finds.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::Fault;
use crate::sys::files;

/// The name under which the previous contents of a directory are kept there.
pub(super) fn free_name(dir: &Path, what: &str) -> io::Result<String> {
    stamped(dir, &format!("{what}.before-restore-"), "")
}

/// A name that nothing has in a directory, with the time in it.
pub(super) fn stamped(dir: &Path, before: &str, after: &str) -> io::Result<String> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let mut name = format!("{before}{stamp}{after}");
    let mut number = 1;
    while files::standing(&dir.join(&name))?.is_some() {
        number += 1;
        name = format!("{before}{stamp}-{number}{after}");
    }
    Ok(name)
}

/// A random text, as the kernel makes it.
pub(super) fn random() -> io::Result<String> {
    let bytes = files::read_bounded(Path::new("/proc/sys/kernel/random/uuid"), 64)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The owner of the new files: the owner of the previous ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    pub(super) fn dir(self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIR_MODE).create(path).map_err(files::named("make directory", path))?;
        self.own(path)
    }

    pub(super) fn file(self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(FILE_MODE).open(path);
        let file = file.map_err(files::named("make", path))?;
        self.own(path)?;
        Ok(file)
    }

    pub(super) fn whole(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file(path)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(files::named("write", path))
    }

    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        if (self.uid, self.gid) == (uid, gid) {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)).map_err(files::named("set the owner of", path))
    }
}

/// A file, and that it was not written since.
pub(super) type Stamp = (u64, u64, u64, i64, i64);

pub(super) fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let meta = std::fs::metadata(path).map_err(files::named("look at", path))?;
    Ok((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

pub(super) fn not_empty(dir: &Path, name: &str) -> Fault {
    Fault::refused(
        format!("{} is not empty: {name} is in it", dir.display()),
        "to replace it, add --replace; it is kept under another name",
    )
}

/// Moves a directory to where nothing exists, and makes that last.
pub(super) fn move_dir(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            if files::standing(to)?.is_some() {
                return Err(files::fault(io::ErrorKind::AlreadyExists, to, "exists already"));
            }
            return files::rename(from, to);
        }
        moved => moved.map_err(|errno| {
            let sentence = format!("cannot rename {} to {}: {errno}", from.display(), to.display());
            io::Error::new(io::Error::from(errno).kind(), sentence)
        })?,
    }
    for dir in [to.parent(), from.parent()].into_iter().flatten() {
        files::fsync_dir(dir)?;
    }
    Ok(())
}

pub(super) fn inode(path: &Path) -> io::Result<Option<u64>> {
    Ok(files::standing(path)?.map(|metadata| metadata.ino()))
}

/// As etcd makes its directories and its files.
pub(super) const DIR_MODE: u32 = 0o700;

pub(super) const FILE_MODE: u32 = 0o600;
