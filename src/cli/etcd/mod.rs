//! `lastgood etcd`: etcd's own files, by people. What reads a file that is named needs neither agent nor configuration.

mod progress;
mod remote;
mod restore;
mod save;
mod shelf;
mod snapshot;

use clap::Subcommand;

pub use restore::RestoreArgs;
pub use snapshot::SnapshotCommand;

use super::{Exit, Failure};
use crate::config::Settings;

/// What can be done about etcd.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// Snapshots of etcd
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Make a data directory of a snapshot: the plan first; what stands there is kept
    Restore(Box<RestoreArgs>),
}

/// Carries a command out that needs nothing but its arguments.
pub(super) fn offline(command: &EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Snapshot(command) => snapshot::offline(command),
        EtcdCommand::Restore(_) => Err(Failure::failed("this command needs the configuration".to_owned())),
    }
}

/// Carries a command out.
pub(super) async fn etcd(settings: &Settings, command: EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Snapshot(command) => snapshot::snapshot(settings, command).await,
        EtcdCommand::Restore(mut args) => {
            // What is fetched lies here as long as it is being restored.
            let fetched = match remote::Where::of(args.from())? {
                remote::Where::Place(place) => Some(remote::fetch(settings, &place).await?),
                remote::Where::File(_) => None,
            };
            if let Some(fetched) = &fetched {
                args.take_from(fetched.path());
            }
            restore::restore(settings, &args)
        }
    }
}
