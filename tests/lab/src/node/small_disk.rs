//! A small file system over a directory of a node, from outside, so that both see it; gone when dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Node;

/// The file that takes the room.
const FILLER: &str = ".filler";

/// A mounted one.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Over a directory of a node that is powered off, with what the directory holds; `size` as mount takes it (`300m`).
    ///
    /// # Errors
    /// When it cannot be mounted or does not hold what is there.
    pub fn over(node: &Node, inside: &str, size: &str) -> Result<Self> {
        let (path, held) = (node.path(inside), node.dir().join("held"));
        let copy = |from: &Path, to: &Path| -> Result<()> {
            let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status()?;
            ensure!(done.success(), "cannot copy {} to {}", from.display(), to.display());
            Ok(())
        };
        let _ = fs::remove_dir_all(&held);
        fs::create_dir(&held).with_context(|| held.display().to_string())?;
        copy(&path, &held)?;
        let options = format!("size={size},mode=755");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("cannot mount on {}", path.display()))?;
        let small = Self(path);
        copy(&held, &small.0)?;
        Ok(small)
    }

    /// Takes all the room there is.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn fill(&self) -> Result<()> {
        let mut block = 1 << 16;
        let path = self.0.join(FILLER);
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        while block > 0 {
            match file.write(&vec![b'x'; block]) {
                Ok(1..) => {}
                _ => block /= 2,
            }
        }
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join(FILLER))?)
    }

    /// Takes all the inodes there are; once more, those that were given back meanwhile.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn take_inodes(&self) -> Result<()> {
        let dir = self.0.join(FILLER);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let mut number = fs::read_dir(&dir)?.count();
        while File::create(dir.join(number.to_string())).is_ok() {
            number += 1;
        }
        Ok(())
    }

    /// Gives them back.
    ///
    /// # Errors
    /// When they were not taken.
    pub fn free_inodes(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.0.join(FILLER))?)
    }

    /// Mounts it anew with other flags, such as read-only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn access(&self, flags: MsFlags) -> Result<()> {
        Ok(mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>)?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
