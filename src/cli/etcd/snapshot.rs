//! `lastgood etcd snapshot`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::bundle::but;
use super::kept;
use super::kept::trust;
use super::progress::Progress;
use super::remote::{self, Where};
use super::save::With;
use super::unpack::UnpackArgs;
use crate::cli::{Care, Exit, Failure, out};
use crate::config::Settings;
use crate::config::place::Place;
use crate::etcd::bbolt::Fault;
use crate::etcd::snapshot::{RawCopy, Rejected, Verified};
use crate::report::{Format, Snapshot};
use crate::snapshots::bundle::{self, Bundle};
use crate::snapshots::{Depth, verify};

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take one from the member of this node, verify it whole, and keep it; needs no quorum and no API server
    Save {
        /// A file that does not exist yet, or a place in object storage (s3://bucket/prefix, s3://…/NAME.db); into the
        /// directory of snapshots, under a name of its own, when absent
        #[arg(value_name = "FILE|URL")]
        file: Option<PathBuf>,
        /// Beside FILE, write what a bare machine needs as well; in the directory and in object storage it always is
        #[arg(long, requires = "file")]
        bundle: bool,
        /// Copy the database of a member that does not run instead: no digest of its own, and without the last of its log
        #[arg(long, value_name = "DIR")]
        from_data_dir: Option<PathBuf>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// The snapshots that are kept: age, revision, size, cluster, verified or not
    List {
        /// Those of a place in object storage
        #[arg(value_name = "URL", conflicts_with = "remote")]
        place: Option<PathBuf>,
        /// Those in object storage (snapshots.remote.url)
        #[arg(long)]
        remote: bool,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Remove what the rules do not keep (snapshots.keep-…, snapshots.max-total); never the last that is verified
    Prune {
        /// In object storage, by snapshots.remote.keep-…: of this node's clusters, whether their snapshots lie on it or not
        #[arg(long)]
        remote: bool,
        /// Of this cluster there instead, as `list --remote` shows its ID; may be given again
        #[arg(long, value_name = "ID", requires = "remote", value_parser = cluster)]
        cluster: Vec<u64>,
        /// How to go about it.
        #[command(flatten)]
        care: Care,
    },
    /// Write what travels with a snapshot below a directory, as it lay on the node: manifests, configuration, and keys where
    /// an identity opens them
    Unpack(UnpackArgs),
    /// Whether a snapshot is whole: its SHA-256, every page, what it holds, every part of its bundle; exit code 5 when it is not, 3 when it carries
    /// no SHA-256
    Verify {
        /// The snapshot, as etcdctl, etcdutl or lastgood saved it: a file, the name of one that is kept, or `latest`; from object
        /// storage (s3://…/NAME.db, or a prefix: the newest there) it is fetched into a private file first, and compared with
        /// its proof, and its bundle is read there
        #[arg(value_name = "FILE|NAME|URL|latest")]
        file: PathBuf,
        /// Take a file without a SHA-256 at its end, such as a copy of member/snap/db: a damaged value cannot be told there
        #[arg(long)]
        skip_hash_check: bool,
        /// Read all of it, SHA-256 and every page, even where the checksum in its proof says that every byte is as it was when
        /// this lastgood did so
        #[arg(long)]
        full: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// What a snapshot holds: revisions, buckets, members, versions, alarms, and what travels with it; with or without a SHA-256 at its end
    Show {
        /// The snapshot, or a copy of member/snap/db: a file, the name of one that is kept, or `latest`
        #[arg(value_name = "FILE|NAME|latest")]
        file: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

impl SnapshotCommand {
    /// Whether it is about a file alone, on whatever machine.
    pub(in crate::cli) fn is_offline(&self) -> bool {
        match self {
            Self::Verify { file, .. } | Self::Show { file, .. } => {
                !file.to_str().is_some_and(Place::is_meant) && !kept::is_meant(file)
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
        SnapshotCommand::List { place: None, remote: false, output } => super::shelf::list(settings, output),
        SnapshotCommand::List { place, remote: _, output } => {
            let place = match place.map(|place| Where::of(&place)).transpose()? {
                Some(Where::Place(place)) => place,
                Some(Where::File(file)) => return Err(Failure::failed(format!("{}: no URL", file.display()))),
                None => remote::configured(settings)?,
            };
            remote::list(settings, &place, output).await
        }
        SnapshotCommand::Prune { remote: true, cluster, care } => {
            remote::prune(settings, cluster.into_iter().collect(), care).await
        }
        SnapshotCommand::Prune { remote: false, cluster: _, care } => super::shelf::prune(settings, care),
        SnapshotCommand::Verify { ref file, skip_hash_check, full, output } => match Where::of(file)? {
            Where::Place(place) => remote::verified(settings, &place, trust(skip_hash_check), output).await,
            Where::File(named) => {
                let file = kept::trusted(settings, &named, trust(skip_hash_check))?;
                offline(&SnapshotCommand::Verify { file, skip_hash_check, full, output })
            }
        },
        SnapshotCommand::Unpack(args) => super::unpack::unpack(settings, &args).await,
        SnapshotCommand::Show { file, output } => {
            let file = kept::trusted(settings, &file, RawCopy::Allow)?;
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

/// What is damaged is unwell; what lacks its proof is refused; what cannot be read at all has failed.
impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        let exit = match &rejected {
            Rejected::Fault(Fault::Io { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Self::unreachable(format!("{rejected}: use sudo"));
            }
            Rejected::Fault(Fault::Io { .. } | Fault::Moving { .. }) => Exit::Failed,
            Rejected::NoTrailer { .. } => Exit::Refused,
            Rejected::Fault(_) | Rejected::Trailer { .. } | Rejected::Foreign { .. } => Exit::Unwell,
        };
        Self { exit, sentence: rejected.to_string() }
    }
}
