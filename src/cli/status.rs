//! `lastgood status`.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::ops::backend::Backend;
use crate::report::{Format, Paint, Status};

/// Between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether it is shown once, or whenever it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Once,
    Changes,
}

impl From<bool> for Watch {
    fn from(watch: bool) -> Self {
        if watch { Self::Changes } else { Self::Once }
    }
}

pub(super) async fn status(settings: &Settings, watch: Watch, output: Format) -> Result<Exit, Failure> {
    let mut backend = Backend::open(settings).await?;
    let mut shown = String::new();
    loop {
        let status = backend.status().await?;
        let printed = output.print(&status, |status| status.text(Paint::for_stdout()))?;
        if watch == Watch::Once {
            out::text(&printed)?;
            return Ok(if status.is_well() { Exit::Ok } else { Exit::Unwell });
        }
        // The time of the status itself is no change, and what is counted changes all the time.
        let content = content(&status);
        if content != shown {
            let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            out::text(&format!("{clear}{printed}"))?;
            shown = content;
        }
        tokio::time::sleep(INTERVAL).await;
        // The agent may have been started, stopped or replaced meanwhile.
        backend = Backend::open(settings).await?;
    }
}

fn content(status: &Status) -> String {
    let mut status = status.clone();
    status.at = jiff::Timestamp::UNIX_EPOCH;
    status.figures = None;
    serde_json::to_string(&status).unwrap_or_default()
}
