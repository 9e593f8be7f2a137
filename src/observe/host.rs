//! The health of the machine: disk space, pressure, and whether its clock jumped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{major, minor};
use nix::sys::statvfs::statvfs;

use super::mounts::Mounts;
use crate::model::Moment;
use crate::model::environment::{ClockJump, Disk, DiskUse, Pressure, Stall};

/// Where the kernel tells of waiting tasks.
const PRESSURE: &str = "/proc/pressure";
/// Where containerd keeps images and containers, by default (`root` in its configuration).
const CONTAINERD: &str = "/var/lib/containerd";
/// Where CRI-O does (containers/storage).
const CRIO: &str = "/var/lib/containers/storage";

/// A step of the clock, as opposed to being slewed (at most 0.5 ms a second): three seconds cost a lease its renewal
/// where two machines disagree by that, and no reading of two clocks is ever that far apart.
const JUMP: Duration = Duration::from_secs(3);
/// How long a jump is shown.
const RECENT: Duration = Duration::from_secs(600);

/// The file system behind one directory of etcd's.
pub fn disk_of(dir: &Path) -> Option<Disk> {
    disks(&[(DiskUse::Etcd, dir.to_owned())].into(), &Mounts::read()).pop()
}

/// The file systems behind these paths, each once. What cannot be asked is left out.
pub(super) fn disks(paths: &BTreeSet<(DiskUse, PathBuf)>, mounts: &Mounts) -> Vec<Disk> {
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    let read_only = mounts.read_only_devices();
    for (what, path) in paths {
        // A directory that does not exist yet is where its parent is.
        let Some(there) = path.ancestors().find(|path| path.exists()) else { continue };
        let (Ok(meta), Ok(stat)) = (fs::metadata(there), statvfs(there)) else { continue };
        let unit = stat.fragment_size();
        let bytes = |blocks: u64| blocks.saturating_mul(unit);
        if stat.blocks() == 0 {
            continue;
        }
        let disk = disks.entry(meta.dev()).or_insert_with(|| Disk {
            holds: BTreeSet::new(),
            size: bytes(stat.blocks()),
            available: bytes(stat.blocks_available()),
            free: bytes(stat.blocks_free()),
            inodes: stat.files(),
            inodes_free: stat.files_free(),
            read_only: read_only.contains(&(major(meta.dev()), minor(meta.dev()))),
        });
        disk.holds.insert((*what, path.clone()));
    }
    disks.into_values().collect()
}

/// Where the runtime behind this endpoint keeps its images, if it is where it usually does.
pub(super) fn runtime_root(endpoint: &str) -> Option<PathBuf> {
    let root = if endpoint.contains("crio") { CRIO } else { CONTAINERD };
    Some(PathBuf::from(root)).filter(|root| root.is_dir())
}

/// Bytes of memory that the kernel has for everybody (`MemTotal` of proc_meminfo(5)).
pub fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    kilobytes.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What tasks wait for, as the kernel tells it now.
pub(super) fn pressure() -> Pressure {
    let of = |name: &str| stall(&fs::read_to_string(Path::new(PRESSURE).join(name)).ok()?);
    Pressure { cpu: of("cpu"), io: of("io"), memory: of("memory") }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full` (Documentation/accounting/psi.rst).
fn stall(text: &str) -> Option<Stall> {
    let average = |line: &str, name: &str| {
        let mut words = text.lines().find(|l| l.starts_with(line))?.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Some(Stall {
        some_10: average("some", "avg10")?,
        some_60: average("some", "avg60")?,
        full_10: average("full", "avg10").unwrap_or_default(),
        full_60: average("full", "avg60").unwrap_or_default(),
    })
}

/// The wall clock against the boot clock, from look to look.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<Moment>,
    jump: Option<(ClockJump, Duration)>,
}

impl Clock {
    /// The last jump, while it is recent.
    pub(super) fn look(&mut self, now: Moment) -> Option<ClockJump> {
        if let Some(last) = self.last.replace(now) {
            let wall = now.wall.duration_since(last.wall).as_millis();
            let boot = i128::try_from(now.boot.saturating_sub(last.boot).as_millis()).unwrap_or_default();
            let jumped = wall - boot;
            if jumped.unsigned_abs() > JUMP.as_millis() {
                let seconds = i64::try_from(jumped / 1000).unwrap_or_default();
                self.jump = Some((ClockJump { seconds }, now.boot));
            }
        }
        self.jump.filter(|(_, at)| now.boot.saturating_sub(*at) < RECENT).map(|(jump, _)| jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn paths_on_one_file_system_are_one_disk_and_what_is_not_there_yet_counts_for_where_it_would_be() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let paths = [(DiskUse::State, at("not/yet")), (DiskUse::Manifests, root.path().to_owned())].into();
        let disks = disks(&paths, &Mounts::read());
        assert_eq!(disks.len(), 1, "{disks:?}");
        let disk = &disks[0];
        assert_eq!(disk.holds, paths);
        assert!(disk.size >= disk.free && disk.free >= disk.available, "{disk:?}");
        let said = statvfs(root.path()).unwrap();
        assert_eq!(disk.size, said.blocks() * said.fragment_size());
        assert!(!disk.read_only);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory().unwrap() > 1 << 20);
    }

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=1.53 avg60=0.87 avg300=0.73 total=165286640\nfull avg10=1.20 avg60=0.50 avg300=0.1 total=1\n";
        let read = stall(text).unwrap();
        assert_eq!(read, Stall { some_10: 1.53, some_60: 0.87, full_10: 1.2, full_60: 0.5 });
        let old = stall("some avg10=0.10 avg60=0.20 avg300=0.30 total=4\n").unwrap();
        assert_eq!(old.full_60, 0.0, "a kernel without `full` of the cpu");
        assert_eq!(stall(""), None);
        assert_eq!(stall("some avg10=x"), None);
    }

    #[test]
    fn a_step_of_the_clock_is_told_from_a_suspended_machine() {
        let at = |wall: i64, boot: u64| Moment {
            wall: Timestamp::from_second(1_800_000_000 + wall).unwrap(),
            boot: Duration::from_secs(boot),
        };
        let mut clock = Clock::default();
        assert_eq!(clock.look(at(0, 100)), None, "nothing to compare with");
        assert_eq!(clock.look(at(2, 102)), None);
        assert_eq!(clock.look(at(7202, 7302)), None, "both clocks went on while it slept");
        assert_eq!(clock.look(at(7204, 7303)), None, "a second is no jump");
        assert_eq!(clock.look(at(3605, 7304)), Some(ClockJump { seconds: -3600 }));
        assert_eq!(clock.look(at(3607, 7306)), Some(ClockJump { seconds: -3600 }), "shown for a while");
        assert_eq!(clock.look(at(4400, 8099)), None, "and not for ever");
    }
}
