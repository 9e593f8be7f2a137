//! A lock between work that may run several times at once and work that excludes it. The process that excludes it may leave a
//! mark: what it began and cannot interrupt goes on after the process has ended, until a time on the boot clock.
//!
//! ```text
//!   share ──▶ others share, nobody excludes        exclude ─▶ mark ─▶ unmark       killed in between: the mark counts
//! ```

use std::fmt;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{clock, files, lock_file, proc};

/// A mark is one line.
const MAX_BYTES: u64 = 4096;

/// What a process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The boot whose clock counts: after a reboot nothing of it is left.
    pub boot_id: String,
    pub pid: i32,
    /// When it began, on the boot clock.
    pub began: Duration,
    /// When it has ended at the latest, on the boot clock.
    pub until: Duration,
    /// The command line of the process.
    pub command: String,
}

impl Mark {
    /// Of this process: it begins now, and takes so long at the most.
    pub fn now(longest: Duration) -> Self {
        let (began, pid) = (clock::since_boot(), std::process::id().cast_signed());
        let command = proc::command_line(pid).unwrap_or_default().join(" ");
        Self { boot_id: proc::boot_id(), pid, began, until: began.saturating_add(longest), command }
    }

    /// The mark in a lock file, while it counts.
    pub fn read(path: &Path) -> Option<Self> {
        let bytes = files::read_bounded(path, MAX_BYTES).ok()?;
        let mark = Self::parse(&String::from_utf8(bytes).ok()?)?;
        (mark.boot_id == proc::boot_id() && clock::since_boot() < mark.until).then_some(mark)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix('\n')?.splitn(5, ' ');
        let boot_id = parts.next()?.to_owned();
        let pid = parts.next()?.parse().ok()?;
        let mut milliseconds = || Some(Duration::from_millis(parts.next()?.parse().ok()?));
        let (began, until) = (milliseconds()?, milliseconds()?);
        Some(Self { boot_id, pid, began, until, command: parts.next()?.to_owned() })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command: String = self.command.chars().filter(|c| !c.is_control()).take(200).collect();
        let (began, until) = (self.began.as_millis(), self.until.as_millis());
        writeln!(f, "{} {} {began} {until} {command}", self.boot_id, self.pid)
    }
}

/// Held by one of several.
#[derive(Debug)]
pub struct Shared {
    _lock: Flock<std::fs::File>,
}

/// Takes a share, without waiting. Nothing where the lock is excluded, or a mark counts.
///
/// # Errors
/// When the file can be neither made nor opened.
pub fn share(path: &Path) -> io::Result<Option<Shared>> {
    let lock = locked(path, FlockArg::LockSharedNonblock)?;
    Ok(lock.filter(|_| Mark::read(path).is_none()).map(|lock| Shared { _lock: lock }))
}

/// Held by one that excludes all others.
#[derive(Debug)]
pub struct Excluding {
    lock: Flock<std::fs::File>,
    path: PathBuf,
}

/// Excludes all others, without waiting. Nothing where somebody holds the lock.
///
/// # Errors
/// When the file can be neither made nor opened.
pub fn exclude(path: &Path) -> io::Result<Option<Excluding>> {
    let lock = locked(path, FlockArg::LockExclusiveNonblock)?;
    Ok(lock.map(|lock| Excluding { lock, path: path.to_owned() }))
}

impl Excluding {
    /// Leaves a mark of what begins now and takes so long at the most.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, longest: Duration) -> io::Result<()> {
        self.write(Mark::now(longest).to_string().as_bytes())
    }

    /// Takes the mark back: what was begun has ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn unmark(&self) -> io::Result<()> {
        self.write(b"")
    }

    /// In one write, and cut to its length afterwards: a full disk leaves the bytes before as they are.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let written = self.lock.write_all_at(bytes, 0).and_then(|()| self.lock.set_len(bytes.len() as u64));
        written.map_err(files::named("write", &self.path))
    }
}

fn locked(path: &Path, how: FlockArg) -> io::Result<Option<Flock<std::fs::File>>> {
    match Flock::lock(lock_file::open(path)?, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(files::named("lock", path)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_share_and_one_excludes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (one, two) = (share(&path).unwrap(), share(&path).unwrap());
        assert!(one.is_some() && two.is_some());
        assert!(exclude(&path).unwrap().is_none());
        drop((one, two));
        let excluding = exclude(&path).unwrap();
        assert!(excluding.is_some() && share(&path).unwrap().is_none() && exclude(&path).unwrap().is_none());
    }

    #[test]
    fn a_mark_outlives_its_process_until_its_time_or_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let excluding = exclude(&path).unwrap().unwrap();
        assert_eq!(Mark::read(&path), None);
        excluding.mark(Duration::from_secs(600)).unwrap();
        drop(excluding);
        let mark = Mark::read(&path).unwrap();
        assert_eq!((mark.pid, mark.until - mark.began), (std::process::id().cast_signed(), Duration::from_secs(600)));
        assert!(share(&path).unwrap().is_none(), "its work may still be under way");
        let excluding = exclude(&path).unwrap().expect("the next one looks at the work itself");
        excluding.unmark().unwrap();
        drop(excluding);
        assert!(Mark::read(&path).is_none() && share(&path).unwrap().is_some());
    }

    #[test]
    fn a_mark_that_is_over_torn_or_of_another_boot_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let now = Mark { command: "lastgood etcd defrag\nx".to_owned(), ..Mark::now(Duration::from_secs(60)) };
        let text = now.to_string();
        let rows: [(&str, String, bool); 6] = [
            ("whole", text.clone(), true),
            ("over", Mark { until: Duration::ZERO, ..now.clone() }.to_string(), false),
            ("of another boot", Mark { boot_id: "other".to_owned(), ..now }.to_string(), false),
            ("torn", text[..text.len() - 3].to_owned(), false),
            ("without a command", text.split(' ').take(4).collect::<Vec<_>>().join(" ") + "\n", false),
            ("empty", String::new(), false),
        ];
        for (name, text, counts) in rows {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Mark::read(&path).is_some(), counts, "{name}");
        }
    }
}
