//! The one word for a node as a whole.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The node as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Overall {
    /// Everything is healthy and stands on known-good generations.
    Good,
    /// Everything is healthy or coming up; something is not proven yet.
    Changing,
    /// It cannot be told.
    Unknown,
    /// Something is not healthy.
    Ailing,
    /// Something waits for a person.
    Held,
}

impl fmt::Display for Overall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "Good",
            Self::Changing => "Changing",
            Self::Unknown => "Unknown",
            Self::Ailing => "Ailing",
            Self::Held => "Held",
        })
    }
}
