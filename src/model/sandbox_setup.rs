//! What every sandbox of a pod needs from the node, as the runtime and the kubelet are configured. Where it is missing, the
//! containers that run go on, and the first one that has to be made again does not start.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// As it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSetup {
    /// The image of sandboxes, by the runtime's word; unknown where it does not say.
    pub image: Option<String>,
    /// How the runtime names cgroups; unknown also where the kubelet asks it, and goes by its answer.
    pub runtime_cgroups: Option<CgroupDriver>,
    /// How the kubelet names them, and the file that says so.
    pub kubelet_cgroups: Option<(CgroupDriver, PathBuf)>,
    /// The file that the kubelet makes each sandbox's resolv.conf from.
    pub resolv_conf: Option<ResolvConf>,
    /// The line of containerd's configuration that switches its CRI off.
    pub cri_disabled: Option<CriDisabled>,
}

/// How cgroups are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        })
    }
}

/// The kubelet's resolvConf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub path: PathBuf,
    /// The file that names it.
    pub named_by: String,
    pub exists: bool,
}

/// Where containerd's configuration switches its CRI off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriDisabled {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    pub text: String,
}

impl SandboxSetup {
    /// Both drivers, and the file that names the kubelet's, where they are known and differ.
    pub fn cgroup_mismatch(&self) -> Option<(CgroupDriver, CgroupDriver, &PathBuf)> {
        let (kubelet, file) = self.kubelet_cgroups.as_ref()?;
        let runtime = self.runtime_cgroups?;
        (*kubelet != runtime).then_some((*kubelet, runtime, file))
    }

    /// The kubelet's resolvConf, where it is named and does not exist.
    pub fn missing_resolv_conf(&self) -> Option<&ResolvConf> {
        self.resolv_conf.as_ref().filter(|file| !file.exists)
    }
}
