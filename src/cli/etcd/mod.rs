//! `lastgood etcd`: the member of this node, and etcd's files. A command that reads a named file needs neither agent
//! nor configuration.

mod accept;
mod bundle;
mod list;
mod maintenance;
mod remote;
mod restore;
mod save;
mod sizing;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod unbar;
mod unpack;

use clap::Subcommand;

pub use maintenance::{CompactArgs, DefragArgs};
pub use restore::RestoreArgs;
pub use sizing::SizingArgs;
pub use snapshot::SnapshotCommand;
use unbar::UnbarArgs;

use super::{ConfirmArgs, Exit, Failure};
use crate::config::Settings;
use crate::report::Format;

/// What can be done about etcd.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// Show the member of this node and its cluster: versions, leader, sizes, alarms, latencies; needs neither agent
    /// nor quorum; exit code 5 when the member is unhealthy or does not answer
    #[command(after_help = "EXAMPLES\n  lastgood etcd status\n  lastgood etcd status -o json")]
    Status {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Compare disk, database and node with etcd's hardware guidance, line by line; exit code 5 when one does not fit. Writes
    /// nothing unless --write-test is given
    #[command(after_help = "EXAMPLES\n  lastgood etcd sizing\n  lastgood etcd sizing --write-test")]
    Sizing(SizingArgs),
    /// Take, list, verify, prune and unpack snapshots of etcd
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Accept the data that etcd serves as the right ones, although they differ from the data on record; prints the plan and
    /// asks first. Then lastgood starts kube-apiserver again and restarts the components that read the other data
    #[command(after_help = "EXAMPLES\n  lastgood etcd accept-data --dry-run\n  lastgood etcd accept-data")]
    AcceptData(ConfirmArgs),
    /// Remove etcd's history up to a revision, which frees space inside its database; prints the plan and asks first
    ///
    /// Under a NOSPACE alarm: 1. `lastgood etcd compact`, 2. `lastgood etcd defrag` on one master after the other, 3. `lastgood
    /// etcd disarm`.
    #[command(
        after_help = "EXAMPLES\n  lastgood etcd compact --dry-run\n  lastgood etcd compact\n  lastgood etcd compact --revision 123456"
    )]
    Compact(CompactArgs),
    /// Defragment the database of the member of this node, which returns unused space to the disk; prints the plan and asks
    /// first. The member answers nothing meanwhile
    ///
    /// A single member is defragmented too: the API is away meanwhile. Of two members the other one has to answer, and of
    /// three or more a quorum of the others. Refused without room for a second database, where the kubelet would end etcd in
    /// the middle, while a snapshot is being taken, and during a trial of etcd. Run it on one master after the other; with
    /// --cluster the leader is the last one.
    #[command(
        after_help = "EXAMPLES\n  lastgood etcd defrag --dry-run\n  lastgood etcd defrag\n  lastgood etcd defrag --cluster --accept-unchecked"
    )]
    Defrag(DefragArgs),
    /// Disarm etcd's NOSPACE alarm, so that etcd accepts writes again; prints the alarms and the plan, and asks first
    ///
    /// Refused while a database is at its quota, and always for CORRUPT.
    #[command(after_help = "EXAMPLES\n  lastgood etcd disarm --dry-run\n  lastgood etcd disarm")]
    Disarm(ConfirmArgs),
    /// Let etcd start over its data directory again, after lastgood barred it; prints the plan and asks first
    ///
    /// A barred directory has a text in the place of its database, which says why. The data, if there were any, come back.
    #[command(after_help = "EXAMPLES\n  lastgood etcd unbar --dry-run\n  lastgood etcd unbar --data-dir /var/lib/etcd")]
    Unbar(UnbarArgs),
    /// Restore etcd's data directory from a snapshot; prints the plan and asks first; the old data are kept
    #[command(
        after_help = "EXAMPLES\n  lastgood etcd restore --from latest --dry-run\n  lastgood etcd restore --from /backup/etcd.db\n  lastgood etcd restore --from s3://backups/etcd"
    )]
    Restore(Box<RestoreArgs>),
}

/// Carries a command out that needs nothing but its arguments.
pub(super) fn offline(command: &EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Snapshot(command) => snapshot::offline(command),
        EtcdCommand::Status { .. }
        | EtcdCommand::Sizing(_)
        | EtcdCommand::AcceptData(_)
        | EtcdCommand::Compact(_)
        | EtcdCommand::Defrag(_)
        | EtcdCommand::Disarm(_)
        | EtcdCommand::Unbar(_)
        | EtcdCommand::Restore(_) => Err(Failure::failed("this command needs the configuration".to_owned())),
    }
}

/// Carries a command out.
pub(super) async fn etcd(settings: &Settings, command: EtcdCommand) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Status { output } => status::status(settings, output).await,
        EtcdCommand::Sizing(args) => sizing::sizing(settings, args).await,
        EtcdCommand::Snapshot(command) => snapshot::snapshot(settings, command).await,
        EtcdCommand::AcceptData(care) => accept::accept(settings, care).await,
        EtcdCommand::Compact(args) => maintenance::compact(settings, args).await,
        EtcdCommand::Defrag(args) => maintenance::defrag(settings, args).await,
        EtcdCommand::Disarm(care) => maintenance::disarm(settings, care).await,
        EtcdCommand::Unbar(args) => unbar::unbar(settings, args),
        EtcdCommand::Restore(mut args) => {
            // What is fetched is here as long as it is being restored.
            let fetched = match remote::Where::of(args.from())? {
                remote::Where::ObjectUrl(place) => Some(remote::fetch(settings, &place, args.trust()).await?),
                remote::Where::File(_) => None,
            };
            let Some(fetched) = &fetched else { return restore::restore(settings, &args).await };
            args.take_from(fetched);
            restore::restore(settings, &args).await.map_err(|failure| failure.called(fetched.path(), &fetched.from))
        }
    }
}
