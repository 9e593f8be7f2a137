//! Inhibitors: reasons to change nothing on this node. lastgood observes, stores and reports under each of them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::NewerFile;
use super::memory::Pause;
use super::observation::{BusyKind, Node};
use super::policy::Mode;

/// Why nothing is changed at present. The order names the first of several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "hold")]
pub enum Inhibitor {
    /// A newer lastgood wrote files of ours: what this one would write has no place for all that they hold.
    NewerState {
        /// Which files.
        files: Vec<NewerFile>,
    },
    /// The manifest directory cannot be written.
    ReadOnly {
        /// What the kernel says.
        why: String,
    },
    /// kubeadm of root runs (Q6).
    Kubeadm {
        /// Its process ID.
        pid: i32,
        /// Its command line.
        command: String,
    },
    /// `lastgood etcd compact|defrag|disarm` runs: etcd does not answer meanwhile, and is well.
    EtcdMaintenance {
        /// Its process ID.
        pid: i32,
        /// Its command line.
        command: String,
    },
    /// `mode = "observe"`.
    Observe,
    /// The operator paused.
    Paused {
        /// Until when, by the wall clock.
        until: Timestamp,
        /// The reason that the person gave; may be empty.
        reason: String,
    },
    /// No agent runs: a command carries out what was asked for, and nothing else.
    NoAgent,
}

impl fmt::Display for Inhibitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerState { files } => newer_state(f, files),
            Self::ReadOnly { why } => write!(f, "the manifest directory cannot be written: {why}"),
            Self::Kubeadm { pid, command } => write!(f, "kubeadm is running (pid {pid}: {command})"),
            Self::EtcdMaintenance { pid, command } => write!(f, "etcd maintenance is running (pid {pid}: {command})"),
            Self::Observe => f.write_str("the configuration says mode = \"observe\""),
            Self::Paused { until, reason } if reason.is_empty() => write!(f, "paused until {until:.0}"),
            Self::Paused { until, reason } => write!(f, "paused until {until:.0}: {reason}"),
            Self::NoAgent => f.write_str("no agent runs on this node, so only what was asked for is done"),
        }
    }
}

/// The files that are named one by one; of the others there is a number.
const NAMED: usize = 3;

fn newer_state(f: &mut fmt::Formatter<'_>, files: &[NewerFile]) -> fmt::Result {
    for (number, file) in files.iter().take(NAMED).enumerate() {
        let between = if number == 0 { "" } else { "; " };
        write!(f, "{between}{file}")?;
    }
    match files.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => write!(f, "; and {more} more files"),
    }
}

impl Inhibitor {
    /// Every reason that is in force, the strongest first. The one place that finds them: decide acts by it, and status,
    /// explain and doctor report it.
    pub fn all(node: &Node, mode: Mode, pause: Option<&Pause>) -> Vec<Self> {
        let newer = (!node.newer_state.is_empty()).then(|| Self::NewerState { files: node.newer_state.clone() });
        let read_only = node.read_only.iter().map(|why| Self::ReadOnly { why: why.clone() });
        let kubeadm = node.busy.iter().filter(|process| process.kind == BusyKind::Kubeadm).take(1);
        let kubeadm = kubeadm.map(|busy| Self::Kubeadm { pid: busy.pid, command: busy.command.clone() });
        let maintenance = node.busy.iter().filter(|process| process.kind == BusyKind::EtcdMaintenance).take(1);
        let maintenance =
            maintenance.map(|busy| Self::EtcdMaintenance { pid: busy.pid, command: busy.command.clone() });
        let observe = (mode == Mode::Observe).then_some(Self::Observe);
        let paused = pause.map(|pause| Self::Paused { until: pause.until, reason: pause.reason.clone() });
        let no_agent = node.no_agent.then_some(Self::NoAgent);
        let others = kubeadm.chain(maintenance).chain(observe).chain(paused).chain(no_agent);
        newer.into_iter().chain(read_only).chain(others).collect()
    }

    /// How the operator ends it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::NewerState { .. } => {
                "install the lastgood that wrote them, or a newer one (`lastgood history` shows the versions that ran); or move \
                 these files to another directory, then `systemctl restart lastgood`"
            }
            Self::ReadOnly { .. } => "make it writable",
            Self::Kubeadm { .. } | Self::EtcdMaintenance { .. } => "wait until it ends",
            Self::Observe => "set mode = \"act\" in /etc/lastgood/config.toml; `lastgood rollback` works meanwhile",
            Self::Paused { .. } => "`lastgood resume` ends the pause",
            Self::NoAgent => "`systemctl start lastgood`",
        }
    }

    /// Whether the operator's own request is carried out nevertheless: their pause, their observe mode and their stop of
    /// the service bind us, not them.
    pub fn yields_to_operator(&self) -> bool {
        matches!(self, Self::Observe | Self::Paused { .. } | Self::NoAgent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::BusyProcess;

    fn newer(number: usize) -> NewerFile {
        NewerFile { path: format!("/var/lib/lastgood/{number}.json").into(), version: 9, known: 2 }
    }

    #[test]
    fn a_few_files_of_a_newer_lastgood_are_named_and_the_rest_is_counted() {
        let shown = |count| Inhibitor::NewerState { files: (1..=count).map(newer).collect() }.to_string();
        assert!(shown(1).contains(&newer(1).to_string()));
        let many = shown(NAMED + 2);
        assert!(many.contains(&newer(NAMED).to_string()), "{many}");
        assert!(!many.contains(&newer(NAMED + 1).to_string()) && many.ends_with("2 more files"), "{many}");
    }

    #[test]
    fn all_that_are_in_force_are_found_in_their_order() {
        let pause = Pause { until: Timestamp::UNIX_EPOCH, reason: "work".to_owned(), warned: false };
        let busy = |kind| BusyProcess { pid: 7, command: "kubeadm upgrade apply".to_owned(), kind };
        let node = Node {
            newer_state: vec![newer(1)],
            read_only: Some("EROFS".to_owned()),
            no_agent: true,
            busy: vec![
                busy(BusyKind::EtcdTool),
                busy(BusyKind::EtcdMaintenance),
                busy(BusyKind::Kubeadm),
                busy(BusyKind::Kubeadm),
            ],
            ..Node::default()
        };
        let all = Inhibitor::all(&node, Mode::Observe, Some(&pause));
        assert!(
            matches!(
                &all[..],
                [
                    Inhibitor::NewerState { .. },
                    Inhibitor::ReadOnly { .. },
                    Inhibitor::Kubeadm { pid: 7, .. },
                    Inhibitor::EtcdMaintenance { pid: 7, .. },
                    Inhibitor::Observe,
                    Inhibitor::Paused { .. },
                    Inhibitor::NoAgent
                ]
            ),
            "{all:?}"
        );
        assert!(all.is_sorted(), "the order of the kinds is the order of the list");
        assert_eq!(Inhibitor::all(&Node::default(), Mode::Act, None), []);
    }
}
