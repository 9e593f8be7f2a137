//! The node's file system, assembled in its own mount namespace.
//!
//! ```text
//! /usr /bin /lib …      the machine's, read-only: the lab never writes to its host
//! /etc /var /run /tmp /root    the node's own, from its directory
//! /dev /sys             the machine's
//! /proc                 the node's, with its own boot ID
//! /lab/bin, /lab/etcd   the build's binaries and etcd's tools, read-only
//! ```
//!
//! Then the mounts of /etc/fstab, if the node has one.
//!
//! None of it is visible outside, and all of it is gone with the node's last process.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::spec::{Spec, environment};

/// Writable parts, each a directory of the node's own.
const OWN: [&str; 5] = ["etc", "var", "run", "tmp", "root"];

/// Builds the root and makes it ours. The caller stands in fresh mount and pid namespaces with private propagation.
///
/// # Errors
/// When a mount fails, with both paths.
pub(super) fn enter(spec: &Spec) -> Result<()> {
    let new = spec.dir.join("mnt");
    mount(Some("tmpfs"), &new, Some("tmpfs"), MsFlags::empty(), Some("size=16m,mode=755"))
        .with_context(|| format!("cannot mount a tmpfs on {}", new.display()))?;
    for item in fs::read_dir("/").context("cannot list /")?.flatten() {
        let name = item.file_name();
        let text = name.to_string_lossy();
        // What a program needs to run; nothing of anybody's data.
        if !matches!(&*text, "usr" | "bin" | "sbin") && !text.starts_with("lib") {
            continue;
        }
        let to = new.join(&name);
        if let Ok(target) = fs::read_link(item.path()) {
            symlink(&target, &to).with_context(|| format!("cannot link {}", to.display()))?;
        } else if item.path().is_dir() {
            bind(&item.path(), &to, Access::Read)?;
        }
    }
    for name in ["dev", "sys"] {
        bind(&Path::new("/").join(name), &new.join(name), Access::Write)?;
    }
    for name in OWN {
        bind(&spec.dir.join("root").join(name), &new.join(name), Access::Write)?;
    }
    bind(&spec.binaries, &new.join("lab/bin"), Access::Read)?;
    bind(&spec.etcd_tools, &new.join("lab/etcd"), Access::Read)?;

    let proc = new.join("proc");
    make_dir(&proc)?;
    mount(Some("proc"), &proc, Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, None::<&str>)
        .context("cannot mount the node's /proc")?;
    let boot_id = proc.join("sys/kernel/random/boot_id");
    mount(Some(&spec.dir.join("boot_id")), &boot_id, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("cannot give the node its boot id")?;

    // `pivot_root(".", ".")` stacks the old root on the new one, so it needs no directory to go to (pivot_root(2)).
    chdir(&new).with_context(|| format!("cannot enter {}", new.display()))?;
    pivot_root(".", ".").context("cannot make the node's root the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the machine's root")?;
    chdir("/").context("cannot enter /")?;
    mount_all()
}

/// Mounts what the node's own /etc/fstab names, as a booting machine does before anything else starts. What is missing is
/// said and left out, as with `nofail`: a node whose disk is lost boots all the same.
fn mount_all() -> Result<()> {
    if !Path::new("/etc/fstab").exists() {
        return Ok(());
    }
    let done = Command::new("mount").arg("-a").envs(environment()).output().context("cannot run mount")?;
    if !done.status.success() {
        eprintln!("mount -a: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// Whether a bind mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn bind(from: &Path, to: &Path, access: Access) -> Result<()> {
    make_dir(to)?;
    let what = || format!("cannot bind {} to {}", from.display(), to.display());
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).with_context(what)?;
    if access == Access::Read {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, to, None::<&str>, flags, None::<&str>).with_context(what)?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}
