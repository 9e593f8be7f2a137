//! `lastgood etcd`: the member of this node, and etcd's own files, by people. What reads a file that is named needs neither
//! agent nor configuration.

mod accept;
mod bundle;
mod kept;
mod node;
mod progress;
mod remote;
mod restore;
mod save;
mod serves;
mod shelf;
mod sizing;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod unpack;
mod vacancy;

use clap::Subcommand;

pub use restore::RestoreArgs;
pub use sizing::SizingArgs;
pub use snapshot::SnapshotCommand;

use super::{Care, Exit, Failure};
use crate::config::Settings;
use crate::report::Format;

/// What can be done about etcd.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// The member of this node as it is, and its cluster: versions, leader, sizes, alarms, latencies; works without the agent
    /// and without a quorum; exit code 5 when the member is unwell, or cannot be told
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Whether disk, database and node are fit for etcd, line by line against its own hardware guidance; exit code 5 when
    /// not, or not to be told. Writes nothing unless --write-test is given
    Sizing(SizingArgs),
    /// Snapshots of etcd
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Say that the data which etcd serves are right, although they are not the data on record: the plan first. What is
    /// served becomes the record, a stopped kube-apiserver is put back, and what read from the old data is restarted
    AcceptData(Care),
    /// Make a data directory of a snapshot: the plan first; what stands there is kept
    Restore(Box<RestoreArgs>),
}

/// Carries a command out that needs nothing but its arguments.
pub(super) fn offline(command: &EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Snapshot(command) => snapshot::offline(command),
        EtcdCommand::Status { .. } | EtcdCommand::Sizing(_) | EtcdCommand::AcceptData(_) | EtcdCommand::Restore(_) => {
            Err(Failure::failed("this command needs the configuration".to_owned()))
        }
    }
}

/// Carries a command out.
pub(super) async fn etcd(settings: &Settings, command: EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Status { output } => status::status(settings, output).await,
        EtcdCommand::Sizing(args) => sizing::sizing(settings, args).await,
        EtcdCommand::Snapshot(command) => snapshot::snapshot(settings, command).await,
        EtcdCommand::AcceptData(care) => accept::accept(settings, care).await,
        EtcdCommand::Restore(mut args) => {
            // What is fetched lies here as long as it is being restored.
            let fetched = match remote::Where::of(args.from())? {
                remote::Where::Place(place) => Some(remote::fetch(settings, &place, args.trust()).await?),
                remote::Where::File(_) => None,
            };
            let Some(fetched) = &fetched else { return restore::restore(settings, &args).await };
            args.take_from(fetched);
            restore::restore(settings, &args).await.map_err(|failure| failure.called(fetched.path(), &fetched.from))
        }
    }
}
