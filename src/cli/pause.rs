//! `lastgood pause`, `resume` and the other requests that complete immediately.

use std::time::Duration;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::control::Execution;
use crate::model::{ComponentId, Request};
use crate::ops::backend::Backend;

pub(super) async fn pause(
    settings: &Settings,
    length: Duration,
    reason: String,
    how: Execution,
) -> Result<Exit, Failure> {
    let seconds = length.as_secs();
    if seconds == 0 {
        return Err(Failure { exit: Exit::Usage, sentence: "a pause lasts at least a second".to_owned() });
    }
    perform(settings, Request::Pause { seconds, reason }, how).await
}

pub(super) async fn resume(
    settings: &Settings,
    component: Option<ComponentId>,
    how: Execution,
) -> Result<Exit, Failure> {
    perform(settings, Request::Resume { component }, how).await
}

/// Asks for a change that is done at once, and prints what it comes to.
pub(super) async fn perform(settings: &Settings, request: Request, how: Execution) -> Result<Exit, Failure> {
    let mut backend = Backend::open(settings).await?;
    let planned = backend.perform(request, how, &mut |_| {}).await?;
    let prefix = if how == Execution::DryRun { "would: " } else { "" };
    out::text(&planned.effects.iter().map(|effect| format!("{prefix}{effect}\n")).collect::<String>())
}
