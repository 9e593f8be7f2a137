//! The staging directory: on the mount of the manifest directory, so that a rename suffices, and outside it, so that
//! the kubelet does not start a pod from a file in transit.
//!
//! ```text
//!  /etc/kubernetes/.lastgood        0700
//!    manifests ─▶ /etc/kubernetes/manifests     the directory that the staged files belong to (Q11)
//!    slots/NAME                     the synced successor of a manifest that was taken out
//!    withheld/NAME                  manifests that stay out until another decision deploys them
//!    replaced/NAME.TIME.WHY         manifests that were taken out or overwritten; bounded
//!    tmp/                           files being written
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::sys::files;

/// Manifests and kubeconfigs are in here.
const DIR_MODE: u32 = 0o700;
/// What is kept of one file: as many as a day of bad luck brings (four actions an hour and component are the most).
const KEEP_PER_NAME: usize = 20;
/// What is kept in all, in bytes: five of the largest files a kubelet reads, twice over.
const KEEP_BYTES: u64 = 100 << 20;
/// The longest part of a file's own name in the name it is kept under: a file name has 255 bytes at most, and the time,
/// the reason and a number follow.
const LONGEST_NAME: usize = 200;

/// The staging directory, made and checked.
#[derive(Clone, Debug)]
pub(super) struct Staging {
    root: PathBuf,
}

/// Why a file is in replaced/.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Another took its place.
    Replaced,
    /// Its slot was emptied for a successor.
    TakenOut,
    /// It claimed another's pod.
    MovedOut,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::TakenOut => "taken-out",
            Self::MovedOut => "moved-out",
        }
    }
}

impl Staging {
    /// The directory as it is, made by an earlier run or not at all.
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Makes what is missing, and checks that files can be renamed from here into the manifest directory.
    ///
    /// # Errors
    /// When something cannot be made, or it is on another mount.
    pub(super) fn prepare(root: &Path, manifests: &Path) -> io::Result<Self> {
        let staging = Self::at(root);
        files::make_dir(root, DIR_MODE)?;
        for dir in [staging.slots(), staging.withheld(), staging.replaced(), staging.tmp()] {
            files::make_dir(&dir, DIR_MODE)?;
        }
        let there = match files::standing(manifests)? {
            Some(_) => manifests,
            // Where it is missing, it would be made in its parent.
            None => manifests.parent().unwrap_or(manifests),
        };
        if files::mount_of(root)? != files::mount_of(there)? {
            let sentence = format!(
                "is not on the file system and mount of {}, so a rename cannot reach it; set paths.staging to a \
                 directory next to it",
                there.display()
            );
            return Err(files::fault(io::ErrorKind::CrossesDevices, root, &sentence));
        }
        staging.remember(manifests)?;
        Ok(staging)
    }

    /// Writes down where the slots are.
    fn remember(&self, manifests: &Path) -> io::Result<()> {
        let link = self.link();
        if fs::read_link(&link).is_ok_and(|target| target == manifests) {
            return Ok(());
        }
        let new = self.tmp().join("manifests");
        files::remove(&new)?;
        std::os::unix::fs::symlink(manifests, &new).map_err(files::named("make the link", &new))?;
        files::rename(&new, &link)
    }

    fn link(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// The manifest directory the slots belong to, if it was written down.
    pub(super) fn manifests(&self) -> Option<PathBuf> {
        fs::read_link(self.link()).ok()
    }

    pub(super) fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }

    pub(super) fn slot(&self, name: &str) -> PathBuf {
        self.slots().join(name)
    }

    /// Manifests that stay out until another decision puts them in ([`super::withhold`]).
    pub(super) fn withheld(&self) -> PathBuf {
        self.root.join("withheld")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn replaced(&self) -> PathBuf {
        self.root.join("replaced")
    }

    /// A directory for temp files that can be renamed to a target in `dir`: ours, or `dir` itself, where a temp file's
    /// name begins with a dot.
    pub(super) fn tmp_for(&self, dir: &Path) -> io::Result<PathBuf> {
        let tmp = self.tmp();
        Ok(if files::mount_of(&tmp)? == files::mount_of(dir)? { tmp } else { dir.to_owned() })
    }

    /// Removes what a crash left in tmp/.
    pub(super) fn tidy(&self) {
        for name in files::names(&self.tmp()).unwrap_or_default() {
            let _ = fs::remove_file(self.tmp().join(name));
        }
    }

    /// Moves what is at a path to replaced/, whatever it is, and says under which name it is kept.
    pub(super) fn move_aside(&self, path: &Path, why: Why) -> io::Result<PathBuf> {
        self.keep(path, why, files::rename_noreplace)
    }

    /// Keeps what is at a path in replaced/ as well, and leaves it where it is; not for directories.
    pub(super) fn link_aside(&self, path: &Path, why: Why) -> io::Result<PathBuf> {
        self.keep(path, why, files::link_aside)
    }

    /// Lets go whoever waits for somebody to write into a fifo that was kept: a kubelet that opened one it found among its
    /// manifests reads nothing else ever after, also when the fifo is gone from there.
    fn release_readers(kept: &Path) {
        use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
        if fs::symlink_metadata(kept).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            // Without a reader there is nobody to let go, and the open fails.
            let _ = fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(kept);
        }
    }

    fn keep(&self, path: &Path, why: Why, how: fn(&Path, &Path) -> io::Result<()>) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = cut(&name);
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string();
        let mut attempt = 0;
        let to = loop {
            let number = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let to = self.replaced().join(format!("{name}.{stamp}{number}.{}", why.word()));
            match how(path, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
                kept => break kept.map(|()| to)?,
            }
        };
        Self::release_readers(&to);
        self.prune(&to);
        Ok(to)
    }

    /// What was taken out for a successor and is kept, the newest first: each with the name it had.
    pub(super) fn taken_out(&self) -> Vec<(String, PathBuf)> {
        let replaced = self.replaced();
        let entries = files::names(&replaced).unwrap_or_default();
        let taken_out = entries.iter().filter(|entry| entry.rsplit('.').next() == Some(Why::TakenOut.word()));
        let mut kept: Vec<Kept> = taken_out.filter_map(|entry| Kept::of(&replaced, entry)).collect();
        kept.sort_by(|a, b| b.stamp.cmp(&a.stamp));
        kept.into_iter().map(|kept| (kept.name, kept.path)).collect()
    }

    /// Removes the oldest of what is kept, beyond the bounds; never what was just kept. What cannot be removed stays.
    fn prune(&self, newest: &Path) {
        let replaced = self.replaced();
        let mut kept: Vec<Kept> =
            files::names(&replaced).unwrap_or_default().iter().filter_map(|name| Kept::of(&replaced, name)).collect();
        kept.sort_by(|a, b| b.stamp.cmp(&a.stamp));
        let (mut per_name, mut bytes) = (BTreeMap::<String, usize>::new(), 0);
        for kept in kept {
            let count = per_name.entry(kept.name).or_default();
            *count += 1;
            bytes += size(&kept.path);
            if (*count > KEEP_PER_NAME || bytes > KEEP_BYTES) && kept.path != newest {
                let directory = fs::symlink_metadata(&kept.path).is_ok_and(|metadata| metadata.is_dir());
                let _ = if directory { fs::remove_dir_all(&kept.path) } else { fs::remove_file(&kept.path) };
            }
        }
    }
}

/// A name, cut to [`LONGEST_NAME`] bytes between two characters.
fn cut(name: &str) -> &str {
    let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    &name[..end]
}

/// One entry of replaced/.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    name: String,
    stamp: String,
}

impl Kept {
    /// `NAME.TIME.WHY`; anything else was put there by somebody else and is left alone.
    fn of(dir: &Path, entry: &str) -> Option<Self> {
        let mut parts = entry.rsplitn(3, '.');
        let (_why, stamp, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { path: dir.join(entry), name: name.to_owned(), stamp: stamp.to_owned() })
    }
}

/// The bytes an entry takes, links not followed.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    files::names(path).unwrap_or_default().iter().map(|name| size(&path.join(name))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging() -> (tempfile::TempDir, Staging) {
        let dir = tempfile::tempdir().unwrap();
        let manifests = dir.path().join("manifests");
        fs::create_dir(&manifests).unwrap();
        let staging = Staging::prepare(&dir.path().join(".lastgood"), &manifests).unwrap();
        (dir, staging)
    }

    #[test]
    fn what_was_replaced_is_kept_up_to_a_number_the_oldest_go_first() {
        let (dir, staging) = staging();
        let file = dir.path().join("manifests/etcd.yaml");
        for round in 0..KEEP_PER_NAME + 3 {
            fs::write(&file, round.to_string()).unwrap();
            staging.move_aside(&file, Why::Replaced).unwrap();
            assert!(!file.exists());
        }
        let names = files::names(&staging.replaced()).unwrap();
        assert_eq!(names.len(), KEEP_PER_NAME);
        let oldest = fs::read_to_string(staging.replaced().join(&names[0])).unwrap();
        assert!(oldest.parse::<usize>().unwrap() > 0, "the oldest is still there");
        assert!(
            names.iter().any(|n| fs::read_to_string(staging.replaced().join(n)).unwrap() == "22"),
            "the newest is gone"
        );
    }

    #[test]
    fn what_was_replaced_is_kept_up_to_a_size_but_the_newest_always() {
        let (dir, staging) = staging();
        let file = dir.path().join("manifests/etcd.yaml");
        let mut last = PathBuf::new();
        for size in [60 << 20, 60 << 20, 200 << 20] {
            // A hole: it takes no room on the disk, and counts as what it claims to be.
            fs::File::create(&file).unwrap().set_len(size).unwrap();
            last = staging.move_aside(&file, Why::Replaced).unwrap();
        }
        assert_eq!(files::names(&staging.replaced()).unwrap().len(), 1);
        assert!(last.exists());
    }

    #[test]
    fn a_staging_directory_on_another_file_system_is_named_as_the_mistake() {
        let (dir, _) = staging();
        let elsewhere = Path::new("/dev/shm").join(format!("lastgood-test-{}", std::process::id()));
        let refused = Staging::prepare(&elsewhere, &dir.path().join("manifests")).unwrap_err().to_string();
        fs::remove_dir_all(&elsewhere).unwrap();
        assert!(refused.contains("paths.staging"), "{refused}");
    }

    #[test]
    fn a_long_name_is_kept_under_a_shorter_one() {
        let (dir, staging) = staging();
        let file = dir.path().join("manifests").join("ä".repeat(120));
        fs::write(&file, "x").unwrap();
        assert!(staging.move_aside(&file, Why::MovedOut).unwrap().exists());
    }

    #[test]
    fn whoever_waits_for_a_fifo_is_let_go_when_it_is_moved_aside() {
        let (dir, staging) = staging();
        let fifo = dir.path().join("manifests/etcd.yaml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let reader = {
            let fifo = fifo.clone();
            std::thread::spawn(move || {
                tell.send(nix::unistd::gettid()).unwrap();
                fs::read(fifo)
            })
        };
        // It hangs in its open when it sleeps.
        let stat = format!("/proc/self/task/{}/stat", told.recv().unwrap());
        while !fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        staging.move_aside(&fifo, Why::Replaced).unwrap();
        assert!(matches!(reader.join().unwrap(), Ok(read) if read.is_empty()));
    }
}
