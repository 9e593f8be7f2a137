//! `lastgood etcd snapshot`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::bundle::but;
use super::remote::{self, Where};
use super::save::With;
use super::unpack::UnpackArgs;
use crate::cli::{ConfirmArgs, Exit, Failure, out};
use crate::config::Settings;
use crate::config::object_url::ObjectUrl;
use crate::etcd::bbolt::Fault;
use crate::etcd::snapshot::{RawCopy, Rejected, Verified};
use crate::ops::etcd::snapshot_ref::{self, trust};
use crate::ops::progress::Progress;
use crate::report::{Format, Snapshot};
use crate::snapshots::bundle::{self, Bundle};
use crate::snapshots::{Depth, verify};

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take a snapshot of the member on this node and verify it; needs neither a quorum nor an API server
    #[command(
        after_help = "EXAMPLES\n  lastgood etcd snapshot save\n  lastgood etcd snapshot save /backup/etcd.db --bundle\n  lastgood etcd snapshot save s3://backups/etcd"
    )]
    Save {
        /// New file, or a place in object storage (s3://bucket/prefix, s3://…/NAME.db) [default: a new name in the snapshot
        /// directory]
        #[arg(value_name = "FILE|URL")]
        file: Option<PathBuf>,
        /// Also write the bundle next to FILE; the snapshot directory and object storage always get it
        #[arg(long, requires = "file")]
        bundle: bool,
        /// Copy the database of a stopped member instead; the copy carries no SHA-256 and lacks the newest WAL entries
        #[arg(long, value_name = "DIR")]
        from_data_dir: Option<PathBuf>,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// List the snapshots: age, revision, size, cluster, verified or not
    #[command(after_help = "EXAMPLES\n  lastgood etcd snapshot list\n  lastgood etcd snapshot list --remote")]
    List {
        /// Place in object storage to list instead
        #[arg(value_name = "URL", conflicts_with = "remote")]
        place: Option<PathBuf>,
        /// List object storage (snapshots.remote.url)
        #[arg(long)]
        remote: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Remove snapshots by the retention rules (snapshots.keep-…, snapshots.max-total); never the newest verified one
    #[command(
        after_help = "EXAMPLES\n  lastgood etcd snapshot prune --dry-run\n  lastgood etcd snapshot prune --remote"
    )]
    Prune {
        /// Prune object storage, by snapshots.remote.keep-…: the snapshots of this node's clusters
        #[arg(long)]
        remote: bool,
        /// ID of the cluster to prune there instead, as `list --remote` prints it; may be repeated
        #[arg(long, value_name = "ID", requires = "remote", value_parser = cluster)]
        cluster: Vec<u64>,
        /// How to go about it.
        #[command(flatten)]
        care: ConfirmArgs,
    },
    /// Unpack the bundle of a snapshot below a directory: manifests, configuration, and keys if an identity decrypts them
    #[command(after_help = "EXAMPLES\n  lastgood etcd snapshot unpack etcd.db --to /root/node --identity key.txt")]
    Unpack(UnpackArgs),
    /// Verify a snapshot: SHA-256, every page, its contents, its bundle; exit code 5 when it is damaged, 3 when it carries no
    /// SHA-256
    #[command(
        after_help = "EXAMPLES\n  lastgood etcd snapshot verify latest\n  lastgood etcd snapshot verify /backup/etcd.db --full"
    )]
    Verify {
        /// Snapshot saved by etcdctl, etcdutl or lastgood: a file, a name that `list` prints, `latest`, or a URL (of a prefix:
        /// the newest verified one there)
        #[arg(value_name = "FILE|NAME|URL|latest")]
        file: PathBuf,
        /// Accept a file without a SHA-256 at its end, such as a copy of member/snap/db; damaged values cannot be detected
        #[arg(long)]
        skip_hash_check: bool,
        /// Verify SHA-256 and every page again, even if a valid verification record exists
        #[arg(long)]
        full: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Print the contents of a snapshot: revisions, buckets, members, versions, alarms, and its bundle
    #[command(after_help = "EXAMPLES\n  lastgood etcd snapshot show latest")]
    Show {
        /// Snapshot, or a copy of member/snap/db: a file, a name that `list` prints, or `latest`
        #[arg(value_name = "FILE|NAME|latest")]
        file: PathBuf,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

impl SnapshotCommand {
    /// Whether it is about a file alone, on whatever machine.
    pub(in crate::cli) fn is_offline(&self) -> bool {
        match self {
            Self::Verify { file, .. } | Self::Show { file, .. } => {
                !file.to_str().is_some_and(ObjectUrl::is_meant) && !snapshot_ref::is_meant(file)
            }
            _ => false,
        }
    }
}

/// A cluster's ID, as it is shown.
fn cluster(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|error| format!("not the ID of a cluster: {error}"))
}

/// Carries a command out that needs nothing but its arguments.
pub(super) fn offline(command: &SnapshotCommand) -> Result<Exit, Failure> {
    match command {
        SnapshotCommand::Verify { file, skip_hash_check, full, output } => {
            let depth = if *full { Depth::Whole } else { Depth::AsNeeded };
            let (verified, snapshot) = verified(file, trust(*skip_hash_check), depth)?;
            let bundle = match bundle::verify(file, &verified) {
                Ok(bundle) => Some(bundle),
                Err(bundle::Fault::None(_)) => None,
                Err(fault) => return but(&snapshot, &fault, *output),
            };
            out::text(&output.print(&snapshot.with(bundle), Snapshot::verdict)?)
        }
        SnapshotCommand::Show { file, output } => {
            let (_, snapshot) = verified(file, RawCopy::Allow, Depth::AsNeeded)?;
            let (bundle, torn) = match Bundle::read(file) {
                Ok(bundle) => (Some(bundle), None),
                Err(bundle::Fault::None(_)) => (None, None),
                Err(fault) => (None, Some(fault.to_string())),
            };
            torn.iter().for_each(|why| eprintln!("{why}"));
            out::text(&output.print(&snapshot.with(bundle), Snapshot::text)?)
        }
        _ => Err(Failure::failed("this command needs the configuration".to_owned())),
    }
}

/// Carries a command out.
pub(super) async fn snapshot(settings: &Settings, command: SnapshotCommand) -> Result<Exit, Failure> {
    match command {
        SnapshotCommand::Save { file, bundle, from_data_dir, output } => {
            let with = if bundle { With::Bundle } else { With::FileAlone };
            super::save::save(settings, file, with, from_data_dir, output).await
        }
        SnapshotCommand::List { place: None, remote: false, output } => super::list::list(settings, output),
        SnapshotCommand::List { place, remote: _, output } => {
            let place = match place.map(|place| Where::of(&place)).transpose()? {
                Some(Where::ObjectUrl(place)) => place,
                Some(Where::File(file)) => return Err(Failure::failed(format!("{}: no URL", file.display()))),
                None => remote::configured(settings)?,
            };
            remote::list(settings, &place, output).await
        }
        SnapshotCommand::Prune { remote: true, cluster, care } => {
            remote::prune(settings, cluster.into_iter().collect(), care).await
        }
        SnapshotCommand::Prune { remote: false, cluster: _, care } => super::list::prune(settings, care),
        SnapshotCommand::Verify { ref file, skip_hash_check, full, output } => match Where::of(file)? {
            Where::ObjectUrl(place) => remote::verified(settings, &place, trust(skip_hash_check), output).await,
            Where::File(named) => {
                let file = snapshot_ref::trusted(settings, &named, trust(skip_hash_check))?;
                offline(&SnapshotCommand::Verify { file, skip_hash_check, full, output })
            }
        },
        SnapshotCommand::Unpack(args) => super::unpack::unpack(settings, &args).await,
        SnapshotCommand::Show { file, output } => {
            let file = snapshot_ref::trusted(settings, &file, RawCopy::Allow)?;
            offline(&SnapshotCommand::Show { file, output })
        }
    }
}

fn verified(file: &Path, trust: RawCopy, depth: Depth) -> Result<(Verified, Snapshot), Failure> {
    let mut progress = Progress::new("verifying");
    let (verified, by) = verify(file, trust, depth, &mut |done, of| progress.at(done, of))?;
    let snapshot = Snapshot::new(file, verified.clone(), by);
    Ok((verified, snapshot))
}

/// What is damaged is unhealthy; what lacks its proof is refused; what cannot be read at all has failed.
impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        let exit = match &rejected {
            Rejected::Fault(Fault::Io { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Self::unreachable(format!("{rejected}: use sudo"));
            }
            Rejected::Fault(Fault::Io { .. } | Fault::Moving { .. }) => Exit::Failed,
            Rejected::NoTrailer { .. } => Exit::Refused,
            Rejected::Fault(_) | Rejected::Trailer { .. } | Rejected::Foreign { .. } | Rejected::Mistaken(_) => {
                Exit::Unwell
            }
        };
        Self { exit, sentence: rejected.to_string() }
    }
}
