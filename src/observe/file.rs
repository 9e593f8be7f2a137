//! Reads one file safely: it may be a fifo without a writer, a device, a gigabyte, or a dangling link.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::libc;

use crate::model::FileFault;
use crate::sys::clock;

/// A file that changed this short a time before it was read may change again within the same tick of the file system's
/// clock, and look the same: it is read again.
const RACY: Duration = Duration::from_millis(100);

/// What tells one version of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Stamp {
    /// Of what stat(2) said.
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        }
    }

    /// The later of mtime and ctime: a copied time stamp does not lie about the second.
    pub(super) fn changed(&self) -> Timestamp {
        clock::of_stat(self.mtime.0, self.mtime.1).max(clock::of_stat(self.ctime.0, self.ctime.1))
    }

    /// Whether what was read at `read` may be kept as long as the stamp stays.
    pub(super) fn is_settled(&self, read: Timestamp) -> bool {
        let age = read.duration_since(self.changed());
        Duration::try_from(age).is_ok_and(|age| age > RACY)
    }
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing of that name, or a link to nothing.
    Missing,
    Directory,
    /// A fifo, socket or device.
    Special(&'static str),
    /// Larger than allowed, in bytes.
    TooLarge(u64),
    /// The system's word.
    Failed(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Failed(error),
        }
    }
}

impl Fault {
    /// The same, of a file that is to hold a manifest.
    pub(super) fn of_manifest(self, path: &Path) -> FileFault {
        match self {
            Self::Missing => match fs::read_link(path) {
                Ok(target) => FileFault::DanglingLink { target: target.display().to_string() },
                Err(_) => FileFault::Unreadable { error: "it does not exist".to_owned() },
            },
            Self::Directory => FileFault::Directory,
            Self::Special(kind) => FileFault::Special { kind: kind.to_owned() },
            Self::TooLarge(bytes) => FileFault::TooLarge { bytes },
            Self::Failed(error) => FileFault::Unreadable { error: error.to_string() },
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Directory => f.write_str("is a directory"),
            Self::Special(kind) => write!(f, "is a {kind}, not a regular file"),
            Self::TooLarge(bytes) => write!(f, "is {bytes} bytes, more than is read"),
            Self::Failed(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

/// What is at a path, links followed, without opening it.
pub(super) fn stat(path: &Path) -> Result<Stamp, Fault> {
    let meta = fs::metadata(path)?;
    regular(&meta)?;
    Ok(Stamp::of(&meta))
}

/// When what a path leads to changed last: the file, or a link on the way to it. Nothing if there is no file.
pub(super) fn changed(path: &Path) -> Option<Timestamp> {
    let own = stat(path).ok()?.changed();
    let on_the_way = path.ancestors().filter_map(|path| fs::symlink_metadata(path).ok());
    let links = on_the_way.filter(Metadata::is_symlink).map(|link| Stamp::of(&link).changed());
    Some(links.fold(own, Timestamp::max))
}

fn regular(meta: &Metadata) -> Result<(), Fault> {
    let kind = meta.file_type();
    if kind.is_file() {
        Ok(())
    } else if kind.is_dir() {
        Err(Fault::Directory)
    } else if kind.is_fifo() {
        Err(Fault::Special("fifo"))
    } else if kind.is_socket() {
        Err(Fault::Special("socket"))
    } else {
        Err(Fault::Special("device"))
    }
}

/// Reads a regular file of at most `max` bytes. Never waits for a writer, never opens a device.
pub(super) fn read(path: &Path, max: u64) -> Result<(Vec<u8>, Stamp), Fault> {
    stat(path)?;
    // Non-blocking nevertheless: a fifo may have taken the file's place since.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    regular(&meta)?;
    if meta.len() > max {
        return Err(Fault::TooLarge(meta.len()));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(Fault::TooLarge(bytes.len() as u64));
    }
    Ok((bytes, Stamp::of(&meta)))
}

/// The last `max` bytes of a regular file.
pub(super) fn tail(path: &Path, max: u64) -> Result<Vec<u8>, Fault> {
    use std::io::{Seek, SeekFrom};
    stat(path)?;
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A descriptor that only knows what the file is: it keeps no reader's rights and blocks on nothing.
pub(super) fn hold(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}
