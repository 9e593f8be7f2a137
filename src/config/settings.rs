//! The validated settings, as the rest of the program uses them. Every default is a named constant with its reason,
//! here or in [`crate::model::policy`].

use std::path::PathBuf;
use std::time::Duration;

use crate::model::Policy;

/// Where kubeadm keeps everything.
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// Where a person finds the last known-good manifests.
pub const INACTIVE_DIR: &str = "/etc/kubernetes/inactive-manifests";
/// Files on their way in or out: on the manifest directory's file system, beside it, so that a rename is enough and the
/// kubelet does not look.
pub const STAGING_DIR: &str = "/etc/kubernetes/.lastgood";
/// Generations, memory and history.
pub const STATE_DIR: &str = "/var/lib/lastgood";
pub const RUN_DIR: &str = "/run/lastgood";
/// Where kubeadm puts the kubelet's configuration.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// The last minutes of the kubelet's log, each line with its time. A kubelet that ends at its start writes some ten lines, one
/// that cannot make a sandbox a few a second.
const KUBELET_LOG: [&str; 7] =
    ["journalctl", "--unit=kubelet", "--since=-10min", "--lines=500", "--output=short-unix", "--no-pager", "--quiet"];
/// The kubelet's credentials, and one of the signs of a master.
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// A restart that takes longer than this has failed.
pub const KUBELET_RESTART_TIMEOUT: Duration = Duration::from_secs(60);
/// A runtime that answers later than this cannot tell.
pub const RUNTIME_TIMEOUT: Duration = Duration::from_secs(5);
/// A restart that takes longer than this has failed. With the kubelet's in the same pass it stays below the watchdog of our
/// own unit.
pub const RUNTIME_RESTART_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two questions to one component.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// A component that answers later than this has not answered: etcd's own /readyz takes 7 s to say no, but a process that
/// lives answers its liveness in milliseconds.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two passes when nothing wakes the agent.
pub const PASS_INTERVAL: Duration = Duration::from_secs(2);
/// Between two passes while a replacement is under way.
pub const BUSY_INTERVAL: Duration = Duration::from_millis(100);
/// A longer gap between two passes was not watched (Q14).
pub const LONGEST_GAP: Duration = Duration::from_secs(10);

/// Between two snapshots of etcd's data: what a lost disk costs.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The newest ones, whatever their hour: two hours of them.
pub const SNAPSHOTS_LAST: usize = 4;
/// One an hour for a day.
pub const SNAPSHOTS_HOURLY: usize = 24;
/// One a day for a week: an outage over a long weekend is looked into on its fourth day.
pub const SNAPSHOTS_DAILY: usize = 7;
/// One a week for a month.
pub const SNAPSHOTS_WEEKLY: usize = 4;
/// Of all of them: the 35 that are kept at most, of a database of 280 MB.
pub const SNAPSHOTS_TOTAL: u64 = 10_000_000_000;
/// A stream of a snapshot has no deadline of its own: an etcd that stops in the middle would hold it for ever. etcd reads
/// 32 KiB for each message, and a disk that needs longer than this for them does not come back.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(30);
/// A whole snapshot: 8 GB, etcd's largest quota, at 5 MB/s.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Between two writes of the metrics: what Prometheus scrapes is rarely younger (its scrape_interval is 1 m by default, 15 s
/// in its own example), and a verdict that changes is written at once.
pub const METRICS_INTERVAL: Duration = Duration::from_secs(15);
/// A page or a mail over a network that is slow, as it is in an outage.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// What lastgood cures is cured sooner; kubeadm itself waits for 4 min for a control plane.
pub const NOTIFY_UNHEALTHY_AFTER: Duration = Duration::from_secs(5 * 60);
/// An object store that says nothing for this long has hung. A part of 5 MiB has to get there in it: 90 KB/s.
pub const REMOTE_STALL: Duration = Duration::from_secs(60);
/// A snapshot on its way there, and back to be compared: 8 GB at 5 MB/s, twice.
pub const REMOTE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Where the agents of the masters ask each other: next to etcd's own 2379 to 2382, and assigned to nobody on a master.
pub const PEERS_PORT: u16 = 2384;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Thresholds and choices.
    pub policy: Policy,
    /// Where things are.
    pub paths: Paths,
    /// The container runtime.
    pub runtime: Runtime,
    pub kubelet: Kubelet,
    pub probes: Probes,
    /// Its table is `loop`, which is a keyword of Rust.
    pub agent_loop: Loop,
    /// The snapshots of etcd's data.
    pub snapshots: Snapshots,
    pub metrics: Metrics,
    pub notify: Notify,
    pub peers: Peers,
    /// The node's name; found as the kubelet finds it when absent.
    pub node_name: Option<String>,
    /// The files that all of this was read from, in order.
    pub files: Vec<PathBuf>,
}

/// Whom lastgood notifies when something waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The command; empty where nobody is notified.
    pub command: Vec<String>,
    /// For one run of it.
    pub timeout: Duration,
    /// What is unhealthy for so long waits for a person.
    pub unhealthy_after: Duration,
}

/// The agents of the other masters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The TCP port on which they ask each other; zero where they do not.
    pub port: u16,
}

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The kubelet's static pod directory; read from the kubelet's configuration when absent.
    pub manifests: Option<PathBuf>,
    /// The last known-good manifests, for people.
    pub inactive_manifests: PathBuf,
    /// Files on their way in or out.
    pub staging: PathBuf,
    /// The directory whose files may belong to a closure.
    pub kubernetes: PathBuf,
    /// Generations, memory and history.
    pub state: PathBuf,
    /// The socket's directory.
    pub run: PathBuf,
}

/// The container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `unix://…`; the kubelet's when absent.
    pub endpoint: Option<String>,
    /// For one call.
    pub timeout: Duration,
    /// For the command that restarts it, which the policy names.
    pub restart_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// Its `--config`.
    pub config: PathBuf,
    /// Its `--kubeconfig`.
    pub kubeconfig: PathBuf,
    /// Its health URL; from its configuration when absent.
    pub healthz: Option<String>,
    /// For the command that restarts it, which the policy names.
    pub restart_timeout: Duration,
    /// The command that prints the last minutes of its log.
    pub log: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// Between two questions to one component.
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Between two passes when nothing wakes the agent.
    pub interval: Duration,
    /// Between two passes while a replacement is under way.
    pub busy_interval: Duration,
    /// A longer gap between two passes earns nothing.
    pub longest_gap: Duration,
}

/// The snapshots of etcd's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Whether the agent takes them.
    pub enabled: bool,
    pub interval: Duration,
    /// Where they are kept; below the state directory when absent.
    pub directory: Option<PathBuf>,
    /// The newest ones.
    pub keep_last: usize,
    /// One for each of so many hours.
    pub keep_hourly: usize,
    /// One for each of so many days.
    pub keep_daily: usize,
    /// One for each of so many weeks.
    pub keep_weekly: usize,
    /// Bytes of all of them.
    pub max_total: u64,
    /// To whom key material is encrypted: age's public keys. None: no key leaves its place.
    pub recipients: Vec<String>,
    /// For the next part of a stream.
    pub stall_timeout: Duration,
    /// For a whole snapshot.
    pub timeout: Duration,
    /// Where else they go.
    pub remote: Remote,
}

/// Object storage that snapshots are sent to. What opens it is not here: it lies in a file of its own, or in the
/// environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `s3://bucket/prefix`, `gs://…`, `az://…`; nowhere when absent.
    pub url: Option<String>,
    /// The store's own address, where it is none of the provider's.
    pub endpoint: Option<String>,
    /// The region that S3 signatures are made for.
    pub region: Option<String>,
    /// The bucket is in the path, not in the host's name.
    pub path_style: bool,
    /// The authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Lines `key = value`.
    pub credentials_file: Option<PathBuf>,
    pub allow_http: bool,
    /// The newest ones.
    pub keep_last: usize,
    /// One for each of so many hours.
    pub keep_hourly: usize,
    /// One for each of so many days.
    pub keep_daily: usize,
    /// One for each of so many weeks.
    pub keep_weekly: usize,
    /// For the next word of the store.
    pub stall_timeout: Duration,
    /// For a whole snapshot, there and back.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The file they are written to; none when absent.
    pub textfile: Option<PathBuf>,
    /// Between two writes of it.
    pub interval: Duration,
}

impl Settings {
    /// Where the snapshots are kept.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.snapshots.directory.clone().unwrap_or_else(|| self.paths.state.join("snapshots"))
    }

    /// What whoever restores etcd's data holds meanwhile. It lies beside what fills emptied slots, which goes by it
    /// without any other memory.
    pub fn restore_lock(&self) -> PathBuf {
        self.paths.staging.join("restore.lock")
    }

    /// What a defragmentation of this node's etcd excludes, and a snapshot of it shares. It holds the mark of a
    /// defragmentation that may still be under way in etcd.
    pub fn defrag_lock(&self) -> PathBuf {
        self.paths.staging.join("defrag.lock")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            paths: Paths {
                manifests: None,
                inactive_manifests: INACTIVE_DIR.into(),
                staging: STAGING_DIR.into(),
                kubernetes: KUBERNETES_DIR.into(),
                state: STATE_DIR.into(),
                run: RUN_DIR.into(),
            },
            runtime: Runtime { endpoint: None, timeout: RUNTIME_TIMEOUT, restart_timeout: RUNTIME_RESTART_TIMEOUT },
            kubelet: Kubelet {
                config: KUBELET_CONFIG.into(),
                kubeconfig: KUBELET_KUBECONFIG.into(),
                healthz: None,
                restart_timeout: KUBELET_RESTART_TIMEOUT,
                log: KUBELET_LOG.map(String::from).into(),
            },
            probes: Probes { interval: PROBE_INTERVAL, timeout: PROBE_TIMEOUT },
            agent_loop: Loop { interval: PASS_INTERVAL, busy_interval: BUSY_INTERVAL, longest_gap: LONGEST_GAP },
            snapshots: Snapshots {
                enabled: true,
                interval: SNAPSHOT_INTERVAL,
                directory: None,
                keep_last: SNAPSHOTS_LAST,
                keep_hourly: SNAPSHOTS_HOURLY,
                keep_daily: SNAPSHOTS_DAILY,
                keep_weekly: SNAPSHOTS_WEEKLY,
                max_total: SNAPSHOTS_TOTAL,
                recipients: Vec::new(),
                stall_timeout: SNAPSHOT_STALL,
                timeout: SNAPSHOT_TIMEOUT,
                remote: Remote {
                    url: None,
                    endpoint: None,
                    region: None,
                    path_style: true,
                    ca_file: None,
                    credentials_file: None,
                    allow_http: false,
                    keep_last: SNAPSHOTS_LAST,
                    keep_hourly: SNAPSHOTS_HOURLY,
                    keep_daily: SNAPSHOTS_DAILY,
                    keep_weekly: SNAPSHOTS_WEEKLY,
                    stall_timeout: REMOTE_STALL,
                    timeout: REMOTE_TIMEOUT,
                },
            },
            metrics: Metrics { textfile: None, interval: METRICS_INTERVAL },
            notify: Notify { command: Vec::new(), timeout: NOTIFY_TIMEOUT, unhealthy_after: NOTIFY_UNHEALTHY_AFTER },
            peers: Peers { port: PEERS_PORT },
            node_name: None,
            files: Vec::new(),
        }
    }
}
