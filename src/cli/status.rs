//! `lastgood status`.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::peer::Peers;
use crate::ops::backend::Backend;
use crate::report::{Format, Paint, Process, Status};

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

/// The masters of the cluster.
pub(super) async fn cluster(settings: &Settings, output: Format) -> Result<Exit, Failure> {
    let status = Backend::open(settings).await?.status().await?;
    let Some(peers) = status.peers else {
        let why = match status.agent.process {
            Process::Stopped => {
                "the agent does not run, and it is the agent that asks the others: `systemctl start lastgood`"
            }
            _ if settings.peers.port == 0 => "the agents do not ask each other: peers.port is 0 in the configuration",
            _ => "etcd of this node has no other member that is known: `lastgood status` shows this node",
        };
        return Err(Failure::unreachable(why.to_owned()));
    };
    out::text(&output.print(&peers, Peers::text)?)?;
    Ok(if peers.is_well() { Exit::Ok } else { Exit::Unwell })
}

fn content(status: &Status) -> String {
    let mut status = status.clone();
    status.at = jiff::Timestamp::UNIX_EPOCH;
    status.figures = None;
    // How long ago another master answered is no change either; who answers is.
    let peers = status.peers.take().map(|peers| peers.to_string());
    let content = serde_json::to_string(&status).unwrap_or_default();
    format!("{content}{}", peers.unwrap_or_default())
}
