//! What the operator is notified of, and what is known of the command that notifies them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::component::ComponentId;

/// Why something waits for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Matter {
    /// etcd serves other data than the data on record.
    WrongData,
    /// lastgood takes no further action on the component until the operator decides.
    Held,
    /// The component has not been healthy for a while, whatever lastgood did.
    Unhealthy,
    /// Nothing: the operator tries the command.
    Test,
}

impl fmt::Display for Matter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongData => "wrong-data",
            Self::Held => "held",
            Self::Unhealthy => "unhealthy",
            Self::Test => "test",
        })
    }
}

/// Whether something begins to wait for the operator, or does no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Turn {
    Begins,
    /// The component is healthy again, or gone.
    Ends,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begins => "begins",
            Self::Ends => "ends",
        })
    }
}

/// What the command gets as its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Message {
    /// The node's name.
    pub node: String,
    /// Whether it begins or ends.
    pub turn: Turn,
    pub matter: Matter,
    /// The component, `host:kubelet` or `host:runtime`; absent for a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentId>,
    /// Since when it waits.
    pub since: Timestamp,
    /// What is wrong, as a sentence.
    pub message: String,
    /// What the operator can do.
    pub next_step: String,
}

/// What is known of the command, for doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookView {
    /// The program that it names.
    pub program: String,
    /// Why it cannot be run, where that can be seen.
    pub unusable: Option<String>,
    /// Messages that wait for it.
    pub waiting: usize,
    /// Why its last run failed; nothing after one that succeeded.
    pub failed: Option<String>,
}
