//! `lastgood etcd`: etcd's own files, by people. What reads a file that is named needs neither agent nor configuration.

mod progress;
mod snapshot;

use clap::Subcommand;

pub use snapshot::SnapshotCommand;

use super::{Exit, Failure};

/// What can be done about etcd.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// Snapshots of etcd
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

/// Carries a command out that needs nothing but its arguments.
pub(super) fn offline(command: &EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Snapshot(command) => snapshot::offline(command),
    }
}
