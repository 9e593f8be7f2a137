//! The policy: every threshold that judge and decide use, set by the operator or by default, each with its reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Generation;

/// First adoption wants this much health: long enough for a kubeadm pod to fail its liveness probe twice.
pub const ADOPTION_SOAK: Duration = Duration::from_secs(60);
/// A candidate is proven after this much health: a slow poison (a leak, a cache, a lease) shows within minutes.
pub const CANDIDATE_SOAK: Duration = Duration::from_secs(300);
/// From the change to the first healthy moment. A kubelet delays a change for 15 s and kubeadm's startup probe allows
/// 250 s; never less than the pod's own startup budget.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(300);
/// A candidate whose sandbox exists this long with its image not on the node is given up, where the kubelet's own word
/// cannot be had: its /pods go dark with the API server. Longer than its first back-off between two pulls (10 s, then
/// 20 s), and enough for a control-plane image of 30 MB over 5 Mbit/s.
pub const IMAGE_GRACE: Duration = Duration::from_secs(60);
/// A candidate that served and turned bad is given this long to recover by itself: two periods of kubeadm's liveness
/// probe and then some.
pub const UNHEALTHY_GRACE: Duration = Duration::from_secs(30);
/// This many crashes with healthy dependencies decide. One may be a lost race for a port; two are a habit.
pub const MAX_CRASHES: u32 = 2;
/// Generations kept per component, known-good ones last to go.
pub const KEEP_GENERATIONS: usize = 5;
/// Actions an hour and component, then Held.
pub const ACTIONS_PER_HOUR: usize = 4;
/// Restarts of the kubelet an hour.
pub const KUBELET_RESTARTS_PER_HOUR: usize = 2;
/// How the kubelet is restarted.
pub const KUBELET_RESTART: [&str; 3] = ["systemctl", "restart", "kubelet"];
/// How the runtime is restarted: kubeadm's usual one.
pub const RUNTIME_RESTART: [&str; 3] = ["systemctl", "restart", "containerd"];
/// Restarts of the container runtime an hour: what one does not cure, a second does not.
pub const RUNTIME_RESTARTS_PER_HOUR: usize = 1;
/// A process that was found to be stalled is given this much longer, unless a signal stopped it. With two questions of
/// 5 s each that found it, it is stopped some 20 s after it hung; a kubelet with kubeadm's probes takes 115 s and more.
pub const STALL_AFTER: Duration = Duration::from_secs(5);
/// A lease that is not renewed for this long while others are: controller manager and scheduler give theirs up after 10 s
/// and end themselves after 15 s, their own health check fails 20 s after that; a kubelet renews every 10 s.
pub const LEASE_STILL: Duration = Duration::from_secs(60);
/// A deleted manifest comes back after this long, announced at once.
pub const DELETED_GRACE: Duration = Duration::from_secs(60);
/// Several deleted at once look like a decision of somebody: wait longer. etcd's, alone or not, waits as long.
pub const ALL_DELETED_GRACE: Duration = Duration::from_secs(600);
/// A file that changed within this time may still be in writing. The kubelet drops the pod of a broken file at its next
/// 20 s scan (3.8 s after the write in one measured run), so this must stay well below.
pub const DEBOUNCE: Duration = Duration::from_secs(1);
/// Outages that are nobody's fault are shortened: each act stops or removes only what serves nobody any more.
pub const ASSIST: bool = true;
/// Earlier generations answer only a change seen this lately (Q9).
pub const MAX_CHANGE_AGE: Duration = Duration::from_secs(24 * 3600);
/// After a sandbox is gone the kubelet needs a moment for its own bookkeeping: written at once, the pod was still delayed
/// for 13.5 s; written a second later it started after 0.6 s.
pub const SETTLE: Duration = Duration::from_secs(1);
/// Beyond a pod's termination grace, how long its sandbox may take to go before the good file is written anyway.
pub const STOP_MARGIN: Duration = Duration::from_secs(15);
/// How long a pod that is taken out and serves nobody is left to end by itself before its container is stopped.
pub const FORCE_STOP_AFTER: Duration = Duration::from_secs(5);
/// A kubelet that has not started a pod this long after its manifest was put in place does not listen: it needs 15 s for
/// a changed one, and 47 s for etcd while the API server hangs on it.
pub const KUBELET_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that kube-apiserver is stopped around an etcd change.
pub const APISERVER_MAX_DOWNTIME: Duration = Duration::from_secs(180);
/// A pause without a length.
pub const PAUSE: Duration = Duration::from_secs(30 * 60);
/// The same quarantined content written again this often: Held (Q12).
pub const MAX_REWRITES: u32 = 3;

/// Whether the agent acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Mode {
    Act,
    /// It watches, keeps and tells, and changes nothing.
    Observe,
}

/// What is done about a second file of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// It is moved out of the directory, kept and recorded.
    MoveOut,
    /// It is named, no more.
    Report,
}

/// What is done where the revisions of etcd regressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionRegression {
    /// What remembers the old world is started again, one after the other.
    Restart,
    /// It is reported, no more.
    Report,
}

/// All of it. Durations are watched time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether the agent acts.
    pub mode: Mode,
    /// See [`ASSIST`].
    pub assist: bool,
    /// See [`ADOPTION_SOAK`].
    pub adoption_soak: Duration,
    /// See [`CANDIDATE_SOAK`].
    pub candidate_soak: Duration,
    /// See [`PROGRESS_DEADLINE`].
    pub progress_deadline: Duration,
    /// See [`IMAGE_GRACE`].
    pub image_grace: Duration,
    /// See [`UNHEALTHY_GRACE`].
    pub unhealthy_grace: Duration,
    /// See [`MAX_CRASHES`].
    pub max_crashes: u32,
    /// See [`KEEP_GENERATIONS`].
    pub keep_generations: usize,
    /// See [`ACTIONS_PER_HOUR`].
    pub actions_per_hour: usize,
    /// See [`KUBELET_RESTARTS_PER_HOUR`].
    pub kubelet_restarts_per_hour: usize,
    /// See [`RUNTIME_RESTARTS_PER_HOUR`].
    pub runtime_restarts_per_hour: usize,
    /// The command that restarts the kubelet, told to people where the agent may not run it.
    pub kubelet_restart: Vec<String>,
    /// The same for the container runtime.
    pub runtime_restart: Vec<String>,
    /// See [`STALL_AFTER`].
    pub stall_after: Duration,
    /// See [`LEASE_STILL`].
    pub lease_still: Duration,
    /// See [`DELETED_GRACE`].
    pub deleted_grace: Duration,
    /// See [`ALL_DELETED_GRACE`].
    pub all_deleted_grace: Duration,
    /// See [`DEBOUNCE`].
    pub debounce: Duration,
    /// See [`MAX_CHANGE_AGE`].
    pub max_change_age: Duration,
    /// See [`SETTLE`].
    pub settle: Duration,
    /// See [`STOP_MARGIN`].
    pub stop_margin: Duration,
    /// See [`FORCE_STOP_AFTER`].
    pub force_stop_after: Duration,
    /// See [`KUBELET_TIMEOUT`].
    pub kubelet_timeout: Duration,
    /// See [`APISERVER_MAX_DOWNTIME`].
    pub apiserver_max_downtime: Duration,
    /// See [`MAX_REWRITES`].
    pub max_rewrites: u32,
    /// What is done about a second file of one pod.
    pub duplicates: Duplicates,
    /// What is done where the revisions of etcd regressed.
    pub on_revision_regression: RevisionRegression,
}

impl Policy {
    /// How long a generation may take to become healthy: [`Policy::progress_deadline`], and never less than its own startup budget.
    pub fn deadline_of(&self, generation: Option<&Generation>) -> Duration {
        self.progress_deadline.max(generation.map_or(Duration::ZERO, |generation| generation.startup_budget))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Act,
            assist: ASSIST,
            adoption_soak: ADOPTION_SOAK,
            candidate_soak: CANDIDATE_SOAK,
            progress_deadline: PROGRESS_DEADLINE,
            image_grace: IMAGE_GRACE,
            unhealthy_grace: UNHEALTHY_GRACE,
            max_crashes: MAX_CRASHES,
            keep_generations: KEEP_GENERATIONS,
            actions_per_hour: ACTIONS_PER_HOUR,
            kubelet_restarts_per_hour: KUBELET_RESTARTS_PER_HOUR,
            runtime_restarts_per_hour: RUNTIME_RESTARTS_PER_HOUR,
            kubelet_restart: KUBELET_RESTART.map(String::from).into(),
            runtime_restart: RUNTIME_RESTART.map(String::from).into(),
            stall_after: STALL_AFTER,
            lease_still: LEASE_STILL,
            deleted_grace: DELETED_GRACE,
            all_deleted_grace: ALL_DELETED_GRACE,
            debounce: DEBOUNCE,
            max_change_age: MAX_CHANGE_AGE,
            settle: SETTLE,
            stop_margin: STOP_MARGIN,
            force_stop_after: FORCE_STOP_AFTER,
            kubelet_timeout: KUBELET_TIMEOUT,
            apiserver_max_downtime: APISERVER_MAX_DOWNTIME,
            max_rewrites: MAX_REWRITES,
            duplicates: Duplicates::MoveOut,
            on_revision_regression: RevisionRegression::Restart,
        }
    }
}
