//! The mounts: `/proc/self/mountinfo` (proc_pid_mountinfo(5)), read once per pass.
//!
//! ```text
//!   36 35     98:0   /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!   id parent device root  point options               type source    options of the file system itself
//! ```
//!
//! systemd makes each writable directory of a sandbox a mount (`ReadWritePaths=`): the same files at the same path.
//! Such a mount does not count, so that the agent in its sandbox and a command outside of it get the same result.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::model::etcd_data::Mount;
use crate::sys::files;

const MOUNTS: &str = "/proc/self/mountinfo";

/// Every mount that we see, in the order in which the kernel lists them.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Line>);

#[derive(Debug)]
struct Line {
    id: u64,
    /// The mount that it is mounted on.
    parent: u64,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    device: (u64, u64),
    mount: Mount,
    /// Whether the file system itself is read-only. What a mount of it says is true of us, whom a sandbox may keep from
    /// writing, and not of etcd.
    read_only: bool,
}

impl Mounts {
    /// As they are now; none where they cannot be read.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read(MOUNTS).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(Line::parse).collect())
    }

    /// The mount that holds a directory, or would hold it once it is made. The kernel says which one that is: a path alone does
    /// not tell where one mount hides another.
    pub(super) fn of(&self, dir: &Path) -> Option<Mount> {
        let there = dir.ancestors().find(|path| path.is_dir())?;
        self.by_id(files::mount_of(there).ok()?.id?)
    }

    fn by_id(&self, id: u64) -> Option<Mount> {
        let line = |id: u64| self.0.iter().find(|line| line.id == id);
        let mut found = line(id)?;
        // A mount has fewer ancestors than there are mounts, whatever the text says.
        for _ in 0..self.0.len() {
            match line(found.parent).filter(|parent| found.repeats(parent)) {
                Some(parent) => found = parent,
                None => break,
            }
        }
        Some(found.mount.clone())
    }

    /// The devices whose file system is read-only.
    pub(super) fn read_only_devices(&self) -> BTreeSet<(u64, u64)> {
        self.0.iter().filter(|line| line.read_only).map(|line| line.device).collect()
    }
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        // One space each: a source may be empty.
        let mut words = line.split(|byte| *byte == b' ');
        let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
        let id = number(words.next()?)?;
        let parent = number(words.next()?)?;
        let device = words.next()?;
        let colon = device.iter().position(|byte| *byte == b':')?;
        let device = (number(device.get(..colon)?)?, number(device.get(colon + 1..)?)?);
        let path = |word| PathBuf::from(OsString::from_vec(unescaped(word)));
        let (root, point) = (path(words.next()?), path(words.next()?));
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let text = |word| String::from_utf8_lossy(&unescaped(word)).into_owned();
        let (kind, source, options) = (text(words.next()?), text(words.next()?), words.next()?);
        let read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
        Some(Self { id, parent, root, device, mount: Mount { point, source, kind }, read_only })
    }

    /// Whether it shows the very files that are there without it.
    fn repeats(&self, parent: &Self) -> bool {
        let below = self.mount.point.strip_prefix(&parent.mount.point);
        self.id != parent.id
            && self.device == parent.device
            && below.is_ok_and(|below| parent.root.join(below) == self.root)
    }
}

/// The kernel writes a space, a tab, a newline, a backslash and a `#` as a backslash and three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut left = word;
    while let Some((first, rest)) = left.split_first() {
        left = rest;
        let digits = rest.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = rest.get(3..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn mount(point: &str, source: &str, kind: &str) -> Mount {
        Mount { point: point.into(), source: source.to_owned(), kind: kind.to_owned() }
    }

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let text = "22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                    36 35 98:0 /mnt1 /srv/a\\040b\\134c ro,noatime master:1 propagate_from:2 - ext3 /dev/my\\040disk rw,errors=continue\n\
                    nonsense\n1 2 3 - 4 5 ro\n\n\
                    37 35 0:50 / /x rw -  rw\n\
                    40 35 0:51 / /none rw - tmpfs  rw\n";
        let mounts = Mounts::parse(text.as_bytes());
        let read: Vec<_> = mounts.0.iter().map(|line| (line.id, line.device, line.mount.clone())).collect();
        assert_eq!(
            read,
            [
                (22, (0, 21), mount("/sys", "sysfs", "sysfs")),
                (36, (98, 0), mount("/srv/a b\\c", "/dev/my disk", "ext3")),
                (40, (0, 51), mount("/none", "", "tmpfs")),
            ]
        );
        assert_eq!(unescaped(b"\\0401\\9\\777\\04"), b" 1\\9\\777\\04");
    }

    #[test]
    fn a_file_system_that_is_read_only_is_told_from_one_that_we_may_not_write() {
        let text = "36 35 98:0 /mnt1 /mnt2 ro,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    37 35 98:1 / /var rw,noatime shared:1 - ext4 /dev/sdb ro,errors=remount-ro\nnonsense\n1 2 3 - 4 5 ro\n";
        assert_eq!(Mounts::parse(text.as_bytes()).read_only_devices(), [(98, 1)].into());
    }

    #[test]
    fn the_mount_of_a_directory_is_the_one_that_findmnt_finds() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = Mounts::read();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        for path in [dir.path(), Path::new("/proc"), Path::new("/proc/sys/kernel"), Path::new("/"), &link] {
            let out =
                Command::new("findmnt").args(["-n", "-r", "-v", "-o", "TARGET,SOURCE,FSTYPE", "-T"]).arg(path).output();
            let out = String::from_utf8(out.unwrap().stdout).unwrap();
            let mut says = out.lines().last().unwrap().split(' ');
            let mut next = || says.next().unwrap();
            assert_eq!(mounts.of(path), Some(mount(next(), next(), next())), "{}", path.display());
        }
        assert_eq!(mounts.of(&dir.path().join("not/yet")), mounts.of(dir.path()));
        assert_eq!(Mounts::parse(b"").of(dir.path()), None);
    }

    #[test]
    fn a_mount_that_shows_the_same_files_at_the_same_place_does_not_count() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    2 1 8:1 /var/lib/etcd /var/lib/etcd rw - ext4 /dev/sda1 rw\n\
                    3 2 8:1 /var/lib/etcd /var/lib/etcd rw - ext4 /dev/sda1 rw\n\
                    4 1 8:1 /other /srv/etcd rw - ext4 /dev/sda1 rw\n\
                    5 1 8:17 / /mnt/etcd rw - ext4 /dev/sdb1 rw\n\
                    6 5 8:17 / /mnt/etcd rw - ext4 /dev/sdb1 rw\n\
                    7 5 8:17 /data /mnt/etcd/data rw - ext4 /dev/sdb1 rw\n\
                    8 9 8:33 / /loop rw - ext4 /dev/sdc1 rw\n9 8 8:33 / /loop rw - ext4 /dev/sdc1 rw\n";
        let mounts = Mounts::parse(text.as_bytes());
        let point = |id| mounts.by_id(id).unwrap().point.display().to_string();
        for (id, expected) in [
            (1, "/"),
            (2, "/"),
            (3, "/"),
            (4, "/srv/etcd"),
            (5, "/mnt/etcd"),
            (6, "/mnt/etcd"),
            (7, "/mnt/etcd"),
            (8, "/loop"),
        ] {
            assert_eq!(point(id), expected, "mount {id}");
        }
        assert_eq!(mounts.by_id(10), None);
    }

    /// In a separate mount namespace, where the system allows that: two mounts at one point, and a directory below a mount
    /// that another one hides.
    #[test]
    fn of_mounts_that_lie_on_each_other_the_upper_one_counts() {
        let script = "set -e; cd \"$1\"; mkdir a; mount -t tmpfs lower a; mkdir a/b; mount -t tmpfs hidden a/b; \
                      mount -t tmpfs upper a; mkdir a/b; cat /proc/self/mountinfo; exec 3<a/b; cat /proc/self/fdinfo/3";
        let dir = tempfile::tempdir().unwrap();
        let out = Command::new("unshare").args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).output().unwrap();
        if !out.status.success() {
            println!("no mount namespace here: {}", String::from_utf8_lossy(&out.stderr));
            return;
        }
        let said = String::from_utf8(out.stdout).unwrap();
        let id = said.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok()).unwrap();
        let mounts = Mounts::parse(said.as_bytes());
        assert_eq!(mounts.by_id(id).unwrap().source, "upper");
        assert!(mounts.0.iter().any(|line| line.mount.source == "hidden"), "which is the longer path");
    }
}
