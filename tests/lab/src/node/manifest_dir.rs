//! The manifest directory of a node in the hand of a test.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;

use super::Node;
use super::place::write;

/// How a manifest gets into the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// Truncate and write, as an editor or `cp` may do.
    Plain,
    /// Write beside the directory and rename, as kubeadm does.
    Atomic,
}

impl Node {
    /// Where a manifest lies on this machine; `name` is a file name.
    pub fn manifest_path(&self, name: &str) -> PathBuf {
        self.path("/etc/kubernetes/manifests").join(name)
    }

    /// Writes a file into the manifest directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, name: &str, text: &str, how: Writing) -> Result<()> {
        let path = self.manifest_path(name);
        match how {
            Writing::Plain => write(&path, text),
            Writing::Atomic => {
                let staged = self.path("/etc/kubernetes").join(format!(".{name}.lab"));
                write(&staged, text)?;
                fs::rename(&staged, &path).with_context(|| format!("cannot move {} into place", path.display()))
            }
        }
    }

    /// Removes a file from the manifest directory.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_manifest(&self, name: &str) -> Result<()> {
        let path = self.manifest_path(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// What a manifest says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest_text(&self, name: &str) -> Result<String> {
        let path = self.manifest_path(name);
        // A fifo that stands there for a moment must not be waited for.
        let open = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let text = open.and_then(std::io::read_to_string);
        text.with_context(|| format!("cannot read {}", path.display()))
    }

    /// Changes a manifest and puts it in place atomically; returns the new text.
    ///
    /// # Errors
    /// When the change changes nothing (a test that edits what is not there tests nothing), or on read or write.
    pub fn edit_manifest(&self, name: &str, change: impl FnOnce(&str) -> String) -> Result<String> {
        let before = self.manifest_text(name)?;
        let after = change(&before);
        if after == before {
            bail!("the edit of {name} changes nothing:\n{before}");
        }
        self.write_manifest(name, &after, Writing::Atomic)?;
        Ok(after)
    }
}
