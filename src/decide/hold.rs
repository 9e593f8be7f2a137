//! Reasons to change nothing. Observing, keeping and telling go on under each of them.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::draft::Draft;
use crate::model::event::EventKind;
use crate::model::observation::BusyKind;
use crate::model::policy::Mode;

/// A pause is said to end soon this long before it does.
const WARN_BEFORE: Duration = Duration::from_secs(5 * 60);

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
    pub(super) fn of(draft: &Draft<'_>) -> Option<Self> {
        let node = &draft.scene.seen.node;
        if let Some(why) = &node.read_only {
            return Some(Self::ReadOnly { why: why.clone() });
        }
        if let Some(busy) = node.busy.iter().find(|process| process.kind == BusyKind::Kubeadm) {
            return Some(Self::Kubeadm { pid: busy.pid, command: busy.command.clone() });
        }
        if draft.scene.policy.mode == Mode::Observe {
            return Some(Self::Observe);
        }
        let pause = draft.memory.pause.as_ref()?;
        Some(Self::Paused { until: pause.until, reason: pause.reason.clone() })
    }

    /// Whether a person's own request is carried out all the same: their pause and their observe mode bind us, not them.
    pub(super) fn yields_to_operator(&self) -> bool {
        matches!(self, Self::Observe | Self::Paused { .. })
    }
}

/// Ends a pause that is over; says when it is about to be.
pub(super) fn expire_pause(draft: &mut Draft<'_>) {
    let now = draft.scene.tick.now.wall;
    let Some(pause) = &mut draft.memory.pause else { return };
    let left = Duration::try_from(pause.until.duration_since(now)).unwrap_or(Duration::ZERO);
    if left.is_zero() {
        draft.memory.pause = None;
        draft.tell_node(EventKind::Agent, "acting again", "the pause has ended");
    } else if left <= WARN_BEFORE && !pause.warned {
        pause.warned = true;
        let text = format!("the pause ends in {} s", left.as_secs());
        draft.tell_node(EventKind::Notice, &text, "it was not renewed; `lastgood pause` renews it");
    }
}

/// Says when a hold begins and ends.
pub(super) fn tell(draft: &mut Draft<'_>, hold: Option<&Hold>) {
    match hold {
        Some(hold) => draft.node_notice("hold", format!("watching only: {hold}")),
        None => {
            if draft.memory.notices.remove("hold").is_some() {
                draft.tell_node(EventKind::Agent, "acting again", "nothing holds it back any more");
            }
        }
    }
}
