//! The node's cgroups: one below each hierarchy's root, `lastgood-lab-ID`, with `init` in it for the node's services;
//! the kubelet puts its pods next to that.
//!
//! Works with version 1, version 2 and both at once, by reading the mount table.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// One node's cgroups in every hierarchy.
#[derive(Debug, Clone)]
pub struct Cgroups {
    name: String,
}

impl Cgroups {
    /// Those of the node with this id; nothing is made yet.
    pub fn named(id: &str) -> Self {
        Self { name: format!("lastgood-lab-{id}") }
    }

    /// The path inside each hierarchy, for example `/lastgood-lab-node-x`: the kubelet's cgroup root.
    pub fn parent(&self) -> String {
        format!("/{}", self.name)
    }

    /// Makes them and moves the calling process into `init`.
    ///
    /// # Errors
    /// When a hierarchy cannot be written: the lab needs root and a writable /sys/fs/cgroup.
    pub fn enter(&self) -> Result<()> {
        for hierarchy in hierarchies()? {
            let top = hierarchy.join(&self.name);
            let init = top.join("init");
            fs::create_dir_all(&init).with_context(|| {
                format!("cannot make {}; the lab needs root and a writable cgroup tree", init.display())
            })?;
            // A new cpuset holds no processor and takes no process until it is given some.
            for (parent, child) in [(&hierarchy, &top), (&top, &init)] {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let (from, to) = (parent.join(file), child.join(file));
                    if fs::read_to_string(&to).is_ok_and(|text| text.trim().is_empty())
                        && let Ok(text) = fs::read_to_string(&from)
                        && !text.trim().is_empty()
                    {
                        fs::write(&to, text.trim()).with_context(|| format!("cannot write {}", to.display()))?;
                    }
                }
            }
            let procs = init.join("cgroup.procs");
            fs::write(&procs, "0").with_context(|| format!("cannot enter {}", init.display()))?;
        }
        Ok(())
    }

    /// The directories of this node that exist now.
    pub fn left(&self) -> Vec<PathBuf> {
        hierarchies().unwrap_or_default().into_iter().map(|h| h.join(&self.name)).filter(|dir| dir.exists()).collect()
    }

    /// Removes them, inner ones first, once their processes are gone: a killed process leaves its cgroup a moment
    /// after it is dead, and the kernel has no event for version 1, so this asks again for up to 5 s.
    pub fn remove(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            for dir in self.left() {
                remove(&dir);
            }
            if self.left().is_empty() || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove(dir: &Path) {
    if let Ok(items) = fs::read_dir(dir) {
        for item in items.flatten().filter(|item| item.file_type().is_ok_and(|t| t.is_dir())) {
            remove(&item.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// Mount points of all cgroup hierarchies.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mounts").context("cannot read the mount table")?;
    Ok(parse(&table))
}

fn parse(mounts: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
            (kind == "cgroup" || kind == "cgroup2").then(|| PathBuf::from(point))
        })
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_of_a_hybrid_machine_is_found() {
        let table = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                     cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        let paths = [PathBuf::from("/sys/fs/cgroup/cpu"), PathBuf::from("/sys/fs/cgroup/unified")];
        assert_eq!(parse(table), paths);
    }
}
