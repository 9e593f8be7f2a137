//! Measures how long a disk takes to persist small writes, which is what etcd's WAL demands of it, with a test file.
//!
//! ```text
//!   DIR/.lastgood-sizing (locked while it is used) ─▶ a file, its space allocated ─▶ write, fdatasync, write, fdatasync …
//!      └── removed at the end, also after a failure; the next run removes what a killed run left
//! ```
//!
//! The file keeps its name while it is written: some file systems (btrfs) do no work for an fdatasync of an unlinked
//! file, so the usual trick of unlinking it at once would measure nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::sys::statvfs::statvfs;

use super::files::{fault, named, standing};

/// Bytes of one write: those of an etcd's log on average, as the fio recipe has them that etcd's hardware page refers to
/// (Olivi and Spreitzer, "Using Fio to Tell Whether Your Storage is Fast Enough for Etcd").
pub const WRITE_BYTES: usize = 2300;

/// What has to be left next to the file: etcd allots its next segment of the log whole (64 MB), and its database grows
/// by 16 MiB at a time. Twice of both.
const ROOM: u64 = 160 << 20;

const PLACE: &str = ".lastgood-sizing";
const FILE: &str = "writes";

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many writes.
    pub writes: u32,
    /// Or as many as there are in this time. The last one is waited for.
    pub longest: Duration,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How many writes.
    pub writes: u32,
    /// For all of them.
    pub took: Duration,
    /// Half of the fdatasyncs took no longer.
    pub p50: Duration,
    /// 99 in 100 of them took no longer.
    pub p99: Duration,
    pub max: Duration,
}

impl Measured {
    fn new(mut each: Vec<Duration>, took: Duration) -> Option<Self> {
        each.sort_unstable();
        // The nearest rank: the smallest that so many in a hundred do not exceed.
        let rank = |percent: usize| each.get((each.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        let writes = u32::try_from(each.len()).unwrap_or(u32::MAX);
        Some(Self { writes, took, p50: rank(50)?, p99: rank(99)?, max: *each.last()? })
    }

    /// Writes a second, one after the other.
    pub fn per_second(&self) -> f64 {
        f64::from(self.writes) / self.took.as_secs_f64().max(f64::EPSILON)
    }
}

/// Our place on the disk; gone with this value.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    fn make(in_dir: &Path) -> io::Result<Self> {
        let dir = in_dir.join(PLACE);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(named("make directory", &dir))?,
        }
        if !standing(&dir)?.is_some_and(|metadata| metadata.is_dir()) {
            return Err(fault(io::ErrorKind::NotADirectory, &dir, "is in the way: move it elsewhere"));
        }
        let open = File::open(&dir).map_err(named("open", &dir))?;
        let lock = Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => {
                fault(io::ErrorKind::ResourceBusy, &dir, "is in use: another lastgood measures this disk; try again")
            }
            errno => named("lock", &dir)(errno.into()),
        })?;
        let place = Self { dir, _lock: lock };
        super::files::remove(&place.dir.join(FILE))?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.dir.join(FILE));
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Writes and syncs, one after the other, in its own place in `dir`, until a limit or `stop`. Blocks.
///
/// # Errors
/// Names the path: what cannot be written there, or that there is too little room for it ([`io::ErrorKind::StorageFull`]),
/// or that it was stopped ([`io::ErrorKind::Interrupted`]). Nothing is left in any case.
pub fn measure(dir: &Path, limits: Limits, stop: &AtomicBool) -> io::Result<Measured> {
    let size = u64::from(limits.writes) * WRITE_BYTES as u64;
    let stat = statvfs(dir).map_err(|errno| named("look at", dir)(errno.into()))?;
    let free = stat.blocks_free().saturating_mul(stat.fragment_size());
    if free < size + ROOM {
        let sentence = format!(
            "has {} MiB of free space, and {} are required so that the measurement takes no space that etcd needs; next: free \
             space there",
            free >> 20,
            (size + ROOM) >> 20
        );
        return Err(fault(io::ErrorKind::StorageFull, dir, &sentence));
    }
    let place = Place::make(dir)?;
    let path = place.dir.join(FILE);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(named("make", &path))?;
    // As etcd allots its log, and fio its file: a sync of a file that grows costs more.
    match fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(size).unwrap_or(i64::MAX)) {
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
        Err(errno) => return Err(named("allocate", &path)(errno.into())),
    }
    file.sync_all().map_err(named("sync", &path))?;
    let bytes = noise();
    let mut each = Vec::with_capacity(limits.writes as usize);
    let began = Instant::now();
    while each.len() < limits.writes as usize && began.elapsed() < limits.longest {
        if stop.load(Ordering::Relaxed) {
            return Err(fault(io::ErrorKind::Interrupted, dir, "was not measured to the end"));
        }
        file.write_all(&bytes).map_err(named("write", &path))?;
        let asked = Instant::now();
        file.sync_data().map_err(named("sync", &path))?;
        each.push(asked.elapsed());
    }
    let measured = Measured::new(each, began.elapsed());
    measured.ok_or_else(|| fault(io::ErrorKind::TimedOut, dir, "completed no write in the given time"))
}

/// Bytes that no file system makes smaller.
fn noise() -> Vec<u8> {
    let mut state: u32 = 0x9e37_79b9;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        Some(state.to_le_bytes())
    };
    std::iter::from_fn(next).flatten().take(WRITE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Limits = Limits { writes: 20, longest: Duration::from_secs(60) };

    fn left(dir: &Path) -> Vec<String> {
        super::super::files::names(dir).unwrap()
    }

    #[test]
    fn every_write_is_counted_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measure(dir.path(), FEW, &AtomicBool::new(false)).unwrap();
        assert_eq!(measured.writes, 20);
        assert!(measured.p50 <= measured.p99 && measured.p99 <= measured.max && measured.max <= measured.took);
        assert!(measured.per_second() > 0.0);
        assert!(left(dir.path()).is_empty(), "{:?}", left(dir.path()));
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let each = (1..=200).rev().map(Duration::from_millis).collect();
        let measured = Measured::new(each, Duration::from_secs(2)).unwrap();
        let ms = Duration::from_millis;
        assert_eq!((measured.p50, measured.p99, measured.max), (ms(100), ms(198), ms(200)));
        assert_eq!(measured.per_second(), 100.0);
        assert_eq!(Measured::new(Vec::new(), ms(1)), None);
    }

    #[test]
    fn a_run_that_is_stopped_or_was_killed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = measure(dir.path(), FEW, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert!(left(dir.path()).is_empty());
        fs::create_dir(dir.path().join(PLACE)).unwrap();
        fs::write(dir.path().join(PLACE).join(FILE), "of a killed one").unwrap();
        measure(dir.path(), FEW, &AtomicBool::new(false)).unwrap();
        assert!(left(dir.path()).is_empty());
    }

    #[test]
    fn two_do_not_measure_each_other_and_what_stands_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let held = Place::make(dir.path()).unwrap();
        let error = measure(dir.path(), FEW, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        drop(held);
        std::os::unix::fs::symlink("/tmp", dir.path().join(PLACE)).unwrap();
        let error = measure(dir.path(), FEW, &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("is in the way"), "{error}");
        let error = measure(Path::new("/nowhere"), FEW, &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
        let huge = Limits { writes: u32::MAX, longest: Duration::ZERO };
        let error = measure(dir.path(), huge, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }
}
