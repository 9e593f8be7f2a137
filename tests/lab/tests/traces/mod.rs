//! What a node could leave on this machine, for the tests that look.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use lastgood_lab::node::Node;
use lastgood_lab::node::cgroup::Cgroups;

/// Where to look.
pub(crate) struct Traces {
    dir: PathBuf,
    pub(crate) cgroups: Cgroups,
}

impl Traces {
    /// Of a node that still runs.
    pub(crate) fn of(node: &Node) -> Self {
        Self::at(node.dir())
    }

    /// Of the node in this directory.
    pub(crate) fn at(dir: &Path) -> Self {
        let id = dir.file_name().unwrap_or_default().to_string_lossy();
        Self { dir: dir.to_path_buf(), cgroups: Cgroups::named(&id) }
    }

    /// Fails if anything of it is left: directory, cgroups, mounts, processes.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.dir.exists(), "{} is left", self.dir.display());
        ensure!(self.cgroups.left().is_empty(), "cgroups are left: {:?}", self.cgroups.left());
        let name = self.dir.to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        ensure!(!mounts.contains(&name), "mounts are left:\n{mounts}");
        for item in std::fs::read_dir("/proc")?.flatten() {
            // A process of the node is in its cgroup or names its directory; either would show here.
            let of = |file: &str| std::fs::read(item.path().join(file)).unwrap_or_default();
            let said = [of("cmdline"), of("cgroup"), of("mountinfo")].concat();
            let said = String::from_utf8_lossy(&said);
            ensure!(!said.contains(&name) && !said.contains(&self.cgroups.parent()), "a process is left: {said}");
        }
        Ok(())
    }
}
