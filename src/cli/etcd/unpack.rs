//! `lastgood etcd snapshot unpack`: writes the bundle of a snapshot below a directory. Needs no agent, and of the
//! configuration only the snapshot directory and the credentials of the object store.

use std::path::PathBuf;

use clap::Args;

use super::remote::{self, Where};
use crate::cli::{Exit, Failure, out};
use crate::config::Settings;
use crate::ops::etcd::snapshot_ref;
use crate::report::{Format, Unpacked};
use crate::snapshots::bundle::{Fault, open, open_fetched, place, stands};

/// What to unpack, and where to.
#[derive(Debug, Args)]
pub struct UnpackArgs {
    /// Snapshot whose bundle is unpacked: a name that `list` prints, a file, `latest` (the newest verified one with a bundle),
    /// or a URL (of a prefix: the newest such one there)
    #[arg(value_name = "NAME|FILE|URL|latest")]
    pub(super) snapshot: PathBuf,
    /// Empty directory; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub(super) to: PathBuf,
    /// age identity file, as `age-keygen` writes it, that decrypts the keys
    #[arg(long, value_name = "FILE")]
    pub(super) identity: Option<PathBuf>,
    /// Print what would be written and exit
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
}

pub(super) async fn unpack(settings: &Settings, args: &UnpackArgs) -> Result<Exit, Failure> {
    let (snapshot, contents) = match Where::of(&args.snapshot)? {
        Where::ObjectUrl(place) => {
            let (called, bundle, parts) = remote::bundle(settings, &place).await?;
            (called.into(), open_fetched(bundle, &parts, args.identity.as_deref())?)
        }
        Where::File(named) => {
            let snapshot = snapshot_ref::file(settings, &named, "verified snapshot with a bundle", |snapshot| {
                stands(&snapshot.path)
            })?;
            let contents = open(&snapshot, args.identity.as_deref())?;
            (snapshot, contents)
        }
    };
    let dir = std::path::absolute(&args.to)?;
    let unpacked = Unpacked::new(&snapshot, &contents, &dir)?;
    if !args.dry_run {
        place(&contents, &dir)?;
    }
    out::text(&args.output.print(&unpacked, Unpacked::text)?)
}

/// What is damaged is unhealthy; what is not there, or cannot be done with what is, is refused.
impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = match &fault {
            Fault::Damaged(_) => Exit::Unwell,
            Fault::Denied(_) => Exit::Unreachable,
            Fault::None(_) | Fault::Refused(_) => Exit::Refused,
        };
        Self { exit, sentence: fault.to_string() }
    }
}
