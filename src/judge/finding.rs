//! What one pass finds about a component, before the streaks of earlier passes are applied.

use std::time::Duration;

use crate::model::Verdict;
use crate::model::verdict::Cause;

/// The raw finding of one pass, before hysteresis.
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) serving: bool,
    pub(super) evidence: Vec<String>,
    pub(super) cause: Option<Cause>,
    /// Whether a new answer came for the streaks, and of which sort.
    pub(super) answer: Option<(Duration, Answer)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    Bad,
}

impl Finding {
    pub(super) fn plain(verdict: Verdict, evidence: impl Into<String>) -> Self {
        Self { verdict, serving: false, evidence: vec![evidence.into()], cause: None, answer: None }
    }
}
