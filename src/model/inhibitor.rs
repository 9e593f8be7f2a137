//! Reasons to change nothing on this node. lastgood observes, keeps and reports under each of them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memory::Pause;
use super::observation::{BusyKind, Node};
use super::policy::Mode;

/// Why nothing is changed at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "hold")]
pub enum Hold {
    /// `mode = "observe"`.
    Observe,
    /// A person paused.
    Paused {
        /// Until when.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// kubeadm of root is at work (Q6).
    Kubeadm {
        /// Its process ID.
        pid: i32,
        /// Its command line.
        command: String,
    },
    /// The manifest directory cannot be written.
    ReadOnly {
        /// The sentence.
        why: String,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observe => f.write_str("the configuration says mode = \"observe\""),
            Self::Paused { until, reason } if reason.is_empty() => write!(f, "paused until {until:.0}"),
            Self::Paused { until, reason } => write!(f, "paused until {until:.0}: {reason}"),
            Self::Kubeadm { pid, command } => write!(f, "kubeadm is at work (pid {pid}: {command})"),
            Self::ReadOnly { why } => write!(f, "the manifest directory cannot be written: {why}"),
        }
    }
}

impl Hold {
    /// The strongest reason there is.
    pub fn of(node: &Node, mode: Mode, pause: Option<&Pause>) -> Option<Self> {
        if let Some(why) = &node.read_only {
            return Some(Self::ReadOnly { why: why.clone() });
        }
        if let Some(busy) = node.busy.iter().find(|process| process.kind == BusyKind::Kubeadm) {
            return Some(Self::Kubeadm { pid: busy.pid, command: busy.command.clone() });
        }
        if mode == Mode::Observe {
            return Some(Self::Observe);
        }
        let pause = pause?;
        Some(Self::Paused { until: pause.until, reason: pause.reason.clone() })
    }

    /// Whether a person's own request is carried out all the same: their pause and their observe mode bind us, not them.
    pub fn yields_to_operator(&self) -> bool {
        matches!(self, Self::Observe | Self::Paused { .. })
    }
}
