//! The node's directory: everything that a node has on disk, in one place that can be removed.
//!
//! ```text
//! target/lab/nodes/node-AbC123/     or below $LASTGOOD_LAB_NODES
//! ├── lock          held by the process that runs the node; if it is free, the next start removes the directory
//! ├── spec.json     the node that `lab init` sets up
//! ├── boot_id       a new one for each boot
//! ├── root/{etc,var,run,tmp,root}   the writable parts of the node's file system
//! └── mnt/          where the node's root is put together; empty seen from outside
//! ```

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use super::cache::{remove_tree, target_dir};
use super::cgroup::Cgroups;

/// Prefix of a node's directory and of its cgroups.
const PREFIX: &str = "node-";

/// A node's directory; dropping it removes it.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
    _lock: Flock<File>,
}

/// Parts of the machine's /etc that a shell and its tools want; the rest stays outside, a node is no copy of its host.
const FROM_ETC: [&str; 14] = [
    "alternatives",
    "bash.bashrc",
    "debian_version",
    "group",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "profile",
    "protocols",
];

impl Place {
    /// A new directory with an empty node in it, after sweeping what dead ones left.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(node: &str) -> Result<Self> {
        let nodes = match std::env::var_os("LASTGOOD_LAB_NODES") {
            Some(dir) => PathBuf::from(dir),
            None => target_dir()?.join("lab/nodes"),
        };
        fs::create_dir_all(&nodes).with_context(|| format!("cannot make {}", nodes.display()))?;
        // One sweeper or maker at a time: a directory is unlocked for a moment after it is made.
        let gate = nodes.join("lock");
        let gate = File::create(&gate).with_context(|| format!("cannot make {}", gate.display()))?;
        let _gate = Flock::lock(gate, FlockArg::LockExclusive)
            .map_err(|(_, e)| anyhow!("cannot lock {}: {e}", nodes.display()))?;
        sweep(&nodes);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&nodes)
            .with_context(|| format!("cannot make a directory in {}", nodes.display()))?;
        let lock = File::create(dir.path().join("lock")).context("cannot make the node's lock")?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| anyhow!("node lock: {e}"))?;
        let place = Self { dir, _lock: lock };
        place.populate(node)?;
        Ok(place)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory's own name, which no other node of this machine has.
    pub fn id(&self) -> String {
        self.dir().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where a path of the node (below /etc, /var, /run, /tmp or /root) is on this machine.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.dir().join("root").join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// What a power cut leaves of /run and /tmp: nothing. Also gives the next boot its boot id.
    ///
    /// # Errors
    /// When they cannot be cleared.
    pub fn new_boot(&self) -> Result<()> {
        for dir in ["/run", "/tmp"] {
            remove_tree(&self.path(dir))?;
            fs::create_dir_all(self.path(dir)).with_context(|| format!("cannot make the node's {dir}"))?;
        }
        fs::create_dir_all(self.path("/run/lock")).context("cannot make the node's /run/lock")?;
        mode(&self.path("/tmp"), 0o1777)?;
        write(&self.dir().join("boot_id"), &random_uuid()?)
    }

    fn populate(&self, node: &str) -> Result<()> {
        fs::create_dir(self.dir().join("mnt")).context("cannot make the node's mount point")?;
        for dir in [
            "/etc/ca-certificates",
            "/etc/containerd",
            "/etc/lastgood/config.d",
            "/etc/ssl/certs",
            "/root",
            "/var/cache",
            "/var/lib/containerd",
            "/var/log/pods",
            "/var/tmp",
        ] {
            fs::create_dir_all(self.path(dir)).with_context(|| format!("cannot make the node's {dir}"))?;
        }
        mode(&self.path("/var/tmp"), 0o1777)?;
        symlink("/run", self.path("/var/run")).context("cannot link the node's /var/run")?;
        let present = FROM_ETC.iter().map(|name| Path::new("/etc").join(name)).filter(|path| path.exists());
        copy(present, &self.path("/etc"), Links::Copied)?;
        write(&self.path("/etc/hostname"), &format!("{node}\n"))?;
        write(&self.path("/etc/hosts"), &format!("127.0.0.1 localhost {node}\n::1 localhost ip6-localhost\n"))?;
        // Nobody listens there: a question for a name fails at once, as it should on a node without DNS.
        write(&self.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n")?;
        write(&self.path("/etc/machine-id"), &format!("{}\n", random_uuid()?.trim().replace('-', "")))?;
        self.new_boot()
    }
}

/// What becomes of regular files in [`copy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Each is copied.
    Copied,
    /// Each is another name of the same file, where source and target share a file system.
    Hard,
}

/// `cp -a` of files and trees into a directory: it keeps modes, owners, links and holes, which std's copy does not.
///
/// # Errors
/// When cp says so.
pub fn copy(what: impl Iterator<Item = PathBuf>, into: &Path, links: Links) -> Result<()> {
    let what: Vec<_> = what.collect();
    if what.is_empty() {
        return Ok(());
    }
    let run = |flags: &str| {
        std::process::Command::new("cp").arg(flags).args(["--target-directory"]).arg(into).args(&what).output()
    };
    let mut done = run(if links == Links::Hard { "-al" } else { "-a" }).context("cannot run cp")?;
    if !done.status.success() && links == Links::Hard {
        done = run("-a").context("cannot run cp")?;
    }
    if !done.status.success() {
        return Err(anyhow!("cp into {}: {}", into.display(), String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(())
}

/// Writes a small file.
///
/// # Errors
/// With the path, when it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

fn random_uuid() -> Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot read a random uuid from the kernel")
}

/// Removes nodes whose process is gone without having cleaned up (SIGKILL to a test, a full disk).
fn sweep(nodes: &Path) {
    let Ok(items) = fs::read_dir(nodes) else { return };
    for item in items.flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(item.path().join("lock")) else {
            let _ = fs::remove_dir_all(item.path());
            continue;
        };
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            Cgroups::named(&name).remove();
            let _ = fs::remove_dir_all(item.path());
        }
    }
}
