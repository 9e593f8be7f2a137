//! `lastgood etcd snapshot unpack`: what travels with a snapshot, below a directory. Needs no agent and no configuration but
//! the place of the snapshots, and of object storage what opens it.

use std::path::PathBuf;

use clap::Args;

use super::kept;
use super::remote::{self, Where};
use crate::cli::{Exit, Failure, out};
use crate::config::Settings;
use crate::report::{Format, Unpacked};
use crate::snapshots::bundle::{Fault, open, open_fetched, place, stands};

/// What to unpack, and where to.
#[derive(Debug, Args)]
pub struct UnpackArgs {
    /// The snapshot that it travels with: its name among those that are kept, a file, or `latest`: the newest verified one
    /// that has a bundle; or in object storage: s3://…/NAME.db, or a prefix, and the newest such one there is meant
    #[arg(value_name = "NAME|FILE|URL|latest")]
    pub(super) snapshot: PathBuf,
    /// A directory, made where it is missing, which has to be empty
    #[arg(long, value_name = "DIR")]
    pub(super) to: PathBuf,
    /// An identity of age's, as `age-keygen` writes it: opens the keys
    #[arg(long, value_name = "FILE")]
    pub(super) identity: Option<PathBuf>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
}

pub(super) async fn unpack(settings: &Settings, args: &UnpackArgs) -> Result<Exit, Failure> {
    let (snapshot, contents) = match Where::of(&args.snapshot)? {
        Where::Place(place) => {
            let (called, bundle, parts) = remote::bundle(settings, &place).await?;
            (called.into(), open_fetched(bundle, &parts, args.identity.as_deref())?)
        }
        Where::File(named) => {
            let snapshot =
                kept::file(settings, &named, "verified snapshot with a bundle", |snapshot| stands(&snapshot.path))?;
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

/// What is damaged is unwell; what is not there, or cannot be done with what is, is refused.
impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = match &fault {
            Fault::Damaged(_) => Exit::Unwell,
            Fault::None(_) | Fault::Refused(_) => Exit::Refused,
        };
        Self { exit, sentence: fault.to_string() }
    }
}
