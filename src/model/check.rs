//! What doctor and other examinations find: one thing that was looked at, how it came out, and what fixes it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one check came out, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum CheckResult {
    /// As it should be.
    Ok,
    /// A recovery would succeed, and something should be known or mended all the same.
    Warning,
    /// It could not be looked at.
    CannotTell,
    /// A recovery would not succeed.
    Failed,
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::CannotTell => "unknown",
            Self::Failed => "failed",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// What was looked at.
    pub subject: String,
    /// How it came out.
    pub verdict: CheckResult,
    pub detail: String,
    /// What mends it; absent where nothing has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: CheckResult::Ok, detail: detail.into(), fix: None }
    }

    pub fn bad(
        subject: impl Into<String>,
        verdict: CheckResult,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { subject: subject.into(), verdict, detail: detail.into(), fix: Some(fix.into()) }
    }
}
