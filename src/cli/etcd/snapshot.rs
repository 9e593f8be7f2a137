//! `lastgood etcd snapshot`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::progress::Progress;
use crate::cli::{Exit, Failure, out};
use crate::etcd::bbolt::Fault;
use crate::etcd::snapshot::{RawCopy, Rejected, Verified, verify};
use crate::report::{Format, Snapshot};

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Whether a snapshot is whole: its SHA-256, every page, what it holds; exit code 5 when it is not, 3 when it carries
    /// no SHA-256
    Verify {
        /// The snapshot, as etcdctl, etcdutl or lastgood saved it
        file: PathBuf,
        /// Take a file without a SHA-256 at its end, such as a copy of member/snap/db: a damaged value cannot be told there
        #[arg(long)]
        skip_hash_check: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// What a snapshot holds: revisions, buckets, members, versions, alarms; with or without a SHA-256 at its end
    Show {
        /// The snapshot, or a copy of member/snap/db
        file: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Carries a command out that needs nothing but its arguments.
pub(super) fn offline(command: &SnapshotCommand) -> Result<Exit, Failure> {
    match command {
        SnapshotCommand::Verify { file, skip_hash_check, output } => {
            let trust = if *skip_hash_check { RawCopy::Allow } else { RawCopy::Refuse };
            out::text(&output.print(&verified(file, trust)?, Snapshot::verdict)?)
        }
        SnapshotCommand::Show { file, output } => {
            out::text(&output.print(&verified(file, RawCopy::Allow)?, Snapshot::text)?)
        }
    }
}

fn verified(file: &Path, trust: RawCopy) -> Result<Snapshot, Failure> {
    let mut progress = Progress::new("verifying");
    let Verified { size, sha256, trailer, contents } = verify(file, trust, &mut |done, of| progress.at(done, of))?;
    Ok(Snapshot::new(file, size, sha256, trailer, contents))
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
