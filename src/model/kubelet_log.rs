//! What the kubelet says of itself in its log, as far as it explains why it, or one of its pods, does not run.
//!
//! The log is read only while something is wrong, and only its last minutes. What is in here is evidence of the kubelet's
//! own (Q16): where it differs from what lastgood predicts, it is right.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::ComponentId;

/// The last minutes of the kubelet's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeletLog {
    /// The ends of its process, the latest last.
    pub exits: Vec<KubeletExit>,
    /// What the process that ended last gave as the reason, where it gave one.
    pub reason: Option<ExitReason>,
    /// What keeps it from running a pod, by component: the latest word on each.
    pub pods: BTreeMap<ComponentId, PodFault>,
    /// Manifests that it refuses, by path: the latest word on each.
    pub refused: BTreeMap<PathBuf, RefusedManifest>,
}

/// One end of the kubelet's process, as its service manager reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletExit {
    /// When it ended; unknown where the log has no times.
    pub at: Option<Timestamp>,
    /// `1`, `2/INVALIDARGUMENT`, `9/KILL`: the service manager's word.
    pub status: String,
}

/// Why the kubelet's process ended, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReason {
    pub kind: ExitKind,
    /// The line that says so, without the logger's header.
    pub line: String,
}

/// The kinds of reasons that a kubelet ends for right after its start, each with another way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// A flag that it does not know, or whose value it does not take: the flag.
    Flag(Option<String>),
    /// A field of its configuration file that it does not know, or whose value it does not take: the file.
    Config(Option<PathBuf>),
    /// Swap is on.
    Swap,
    /// A checkpoint of the CPU or memory manager was made under another policy: the file.
    Checkpoint(PathBuf),
    /// The host runs cgroup v1.
    CgroupV1,
    /// Its client certificate has ended, or its kubeconfig cannot be used.
    Credentials,
    /// The container runtime's socket does not answer as a CRI.
    Runtime,
    /// A port that it listens on is taken.
    Port,
    /// Something else.
    Other,
}

impl ExitKind {
    /// What the operator can do: a command or a file. `changed` is the file of the kubelet's that changed last.
    pub fn next_step(&self, changed: Option<&PathBuf>) -> String {
        let file = |given: Option<&PathBuf>| match given.or(changed) {
            Some(path) => path.display().to_string(),
            None => "its flags and its configuration".to_owned(),
        };
        match self {
            Self::Flag(Some(flag)) => format!("remove {flag} from {}, then `systemctl restart kubelet`", file(None)),
            Self::Flag(None) => format!("correct the flags in {}, then `systemctl restart kubelet`", file(None)),
            Self::Config(path) => format!("correct {}, then `systemctl restart kubelet`", file(path.as_ref())),
            Self::Swap => "`swapoff -a`, and remove the line of the swap from /etc/fstab".to_owned(),
            Self::Checkpoint(path) => format!("`rm {}`, then `systemctl restart kubelet`", path.display()),
            Self::CgroupV1 => "boot with systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false in the \
                               kubelet's configuration"
                .to_owned(),
            Self::Credentials => "`lastgood certs check` shows the kubelet's certificate; kubeadm makes another \
                                  kubelet.conf: `kubeadm init phase kubeconfig kubelet`"
                .to_owned(),
            Self::Runtime => "`systemctl status containerd` (or crio), and `crictl info`".to_owned(),
            Self::Port => "`ss -ltnp` shows who holds the port".to_owned(),
            Self::Other => "`journalctl -u kubelet -n 50`".to_owned(),
        }
    }
}

/// Why the kubelet does not run a pod, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFault {
    pub kind: PodFaultKind,
    /// The error, without the words around it.
    pub detail: String,
    /// When it said so last; unknown where the log has no times.
    pub at: Option<Timestamp>,
}

/// What a pod lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodFaultKind {
    /// The runtime has no image for the sandbox, and cannot pull it.
    SandboxImage { image: String },
    /// The kubelet's resolvConf does not exist.
    ResolvConf { path: PathBuf },
    /// The kubelet and the runtime name cgroups in different ways.
    CgroupDriver,
    /// The runtime still holds the name of an earlier sandbox or container.
    NameReserved,
    /// No sandbox for another reason.
    Sandbox,
    /// A hostPath is not of the type that the manifest names.
    HostPathType { path: PathBuf },
    /// The container cannot be made or started.
    Container,
}

impl PodFaultKind {
    /// Whether the node is at fault, and another generation of the pod would fare no better.
    pub fn is_of_the_node(&self) -> bool {
        match self {
            Self::SandboxImage { .. } | Self::ResolvConf { .. } | Self::CgroupDriver => true,
            Self::NameReserved | Self::Sandbox => true,
            Self::HostPathType { .. } | Self::Container => false,
        }
    }

    /// What the operator can do.
    pub fn next_step(&self) -> String {
        match self {
            Self::SandboxImage { image } => format!("`crictl pull {image}`, or import it with `ctr -n k8s.io images import FILE`"),
            Self::ResolvConf { path } => format!(
                "create {}, or name another file as resolvConf in the kubelet's configuration, then `systemctl restart kubelet`",
                path.display()
            ),
            Self::CgroupDriver => "set SystemdCgroup = true for runc in containerd's configuration (cgroup_manager in CRI-O's) as \
                                   cgroupDriver in the kubelet's configuration says, then `systemctl restart containerd kubelet`"
                .to_owned(),
            Self::NameReserved => "`crictl ps -a` shows the container that holds the name; `crictl rm ID` frees it, a restart of \
                                   the runtime as well"
                .to_owned(),
            Self::HostPathType { path } => format!("`ls -ld {}`", path.display()),
            Self::Sandbox | Self::Container => "`journalctl -u kubelet -n 50`".to_owned(),
        }
    }
}

impl fmt::Display for PodFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PodFaultKind::SandboxImage { image } => {
                write!(f, "the kubelet cannot make its sandbox: image {image} is not on this node and cannot be pulled")
            }
            PodFaultKind::ResolvConf { path } => {
                write!(f, "the kubelet cannot make its sandbox: {}, its resolvConf, does not exist", path.display())
            }
            PodFaultKind::CgroupDriver => {
                f.write_str("the kubelet cannot make its sandbox: the kubelet and the container runtime use different cgroup drivers")
            }
            PodFaultKind::NameReserved => write!(f, "the container runtime holds the name of an earlier attempt: {}", self.detail),
            PodFaultKind::Sandbox => write!(f, "the kubelet cannot make its sandbox: {}", self.detail),
            PodFaultKind::HostPathType { path } => {
                write!(f, "the kubelet does not mount {}: {}", path.display(), self.detail)
            }
            PodFaultKind::Container => write!(f, "the kubelet cannot start its container: {}", self.detail),
        }
    }
}

/// A manifest that the kubelet refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedManifest {
    /// Its error.
    pub why: String,
    /// When it said so last; unknown where the log has no times.
    pub at: Option<Timestamp>,
}

/// So many ends of the kubelet's process are a crash loop …
const LOOP: usize = 3;
/// … where no more time than this is between the first and the last of them. systemd starts kubeadm's kubelet 10 s after its
/// end.
const LOOP_WITHIN: Duration = Duration::from_secs(5 * 60);

impl KubeletLog {
    /// The ends of the last minutes, where they are a crash loop.
    pub fn crash_loop(&self, now: Timestamp) -> Option<&[KubeletExit]> {
        let recent = |exit: &KubeletExit| {
            exit.at.is_none_or(|at| Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < LOOP_WITHIN))
        };
        let first = self.exits.iter().position(recent)?;
        let exits = &self.exits[first..];
        (exits.len() >= LOOP).then_some(exits)
    }
}
