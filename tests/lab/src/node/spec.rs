//! What the harness tells the node's first process: its description, and requests to the supervisor, one JSON value
//! per line and direction.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Description of a node, written as `spec.json` before each boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Host name, for example `master-1`.
    pub name: String,
    /// The node's directory on this machine.
    pub dir: PathBuf,
    /// The directory's name, which the cgroups share.
    pub id: String,
    /// The build's binaries, seen as /lab/bin.
    pub binaries: PathBuf,
    /// etcd's own tools, seen as /lab/etcd.
    pub etcd_tools: PathBuf,
    /// What the supervisor knows.
    pub services: Vec<Service>,
    /// Names of those to start at boot, all at once.
    pub at_boot: Vec<String>,
}

/// A long-running process of the node, as a systemd unit would describe it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// `containerd`, `kubelet`, `lastgood`.
    pub name: String,
    /// Program and arguments, as paths inside the node.
    pub argv: Vec<String>,
    /// Environment beyond [`environment`].
    pub env: BTreeMap<String, String>,
    /// What happens when it exits unasked.
    pub restart: Restart,
    /// A CRI socket that is given the time to answer first, at boot.
    pub after: Option<PathBuf>,
}

/// systemd's `Restart=` and `RestartSec=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// It stays away.
    Never,
    /// It is started again after so many milliseconds.
    Always {
        /// The wait.
        after_ms: u64,
    },
}

/// A request to the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Adds a service or replaces its description; a running process stays as it is.
    Define(Service),
    /// Starts it; that it runs already is fine.
    Start(String),
    /// SIGTERM, and SIGKILL after `grace_ms`; answers when it is gone.
    Stop {
        /// Which.
        service: String,
        /// Milliseconds until SIGKILL; 0 means SIGKILL at once.
        grace_ms: u64,
    },
    /// Any other signal by number.
    Signal {
        /// Which.
        service: String,
        /// For example 19 for SIGSTOP.
        signal: i32,
    },
    /// Only asks.
    Status,
}

/// The supervisor's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Done; how every service stands now.
    Done(BTreeMap<String, State>),
    /// Not done, in a sentence.
    Refused(String),
}

/// How a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Never started, or stopped by request.
    Stopped,
    /// Runs.
    Running {
        /// Process id inside the node.
        pid: i32,
    },
    /// Exited unasked.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
    },
}

/// The supervisor's socket, inside the node.
pub const SOCKET: &str = "/run/lab/init.sock";
/// The container runtime's socket, inside the node.
pub const RUNTIME: &str = "/run/containerd/containerd.sock";

/// Where a service's sd_notify messages go, inside the node.
pub fn notify_socket(service: &str) -> String {
    format!("/run/lab/{service}.notify")
}

/// What a service told its manager: one line per message, `;` between its assignments, over all its starts.
pub fn notified(service: &str) -> String {
    format!("/var/log/lab/{service}.notify")
}

/// The log of a service inside the node: its stdout and stderr, over all its starts.
pub fn log(service: &str) -> String {
    format!("/var/log/lab/{service}.log")
}

/// The environment of everything in the node: what a service manager would give, nothing of ours.
pub fn environment() -> [(&'static str, &'static str); 5] {
    [
        ("PATH", "/lab/bin:/lab/etcd:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("RUST_BACKTRACE", "1"),
        ("CONTAINER_RUNTIME_ENDPOINT", "unix:///run/containerd/containerd.sock"),
    ]
}
