//! Snapshots of real etcds, and of failures at every point.

mod crashes;
pub(crate) mod real;
mod verify;

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;

use super::save::take_here;
use super::{Directory, Origin};
use crate::etcd::snapshot::{RawCopy, verify};
use crate::sys::files;

/// A real snapshot of an etcd 3.6, unpacked.
fn fixture() -> Vec<u8> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd/snapshot-3.6.db.gz");
    let out = Command::new("gzip").arg("-dc").arg(&packed).output().unwrap();
    assert!(out.status.success(), "gzip: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Takes it, at that second, into a directory of snapshots.
pub(crate) fn keep(dir: &Path, origin: Origin, at: i64) -> PathBuf {
    let bytes = fixture();
    let bytes = if origin == Origin::Stream { bytes.as_slice() } else { &bytes[..bytes.len() - 32] };
    let locked = Directory::at(dir).lock().unwrap();
    let at = Timestamp::from_second(at).unwrap();
    take_here(dir, origin, at, bytes).unwrap().keep(&locked).unwrap()
}

/// The daily check of the one that is due.
pub(crate) async fn check_one(dir: &Path, now: Timestamp) {
    let mut failed = super::check_task::Failed::default();
    super::check_task::one(dir, now, std::time::Duration::ZERO, &mut failed).await.unwrap();
}

/// The names in a directory, without the lock and what was going on there.
fn names(dir: &Path) -> Vec<String> {
    let mut names = files::names(dir).unwrap();
    names.retain(|name| !name.starts_with('.'));
    names
}

/// Everything in the directory that calls itself verified is whole, and everything that is not verified is none of ours.
fn assert_honest(dir: &Path, situation: &str) {
    for snapshot in Directory::at(dir).list().unwrap() {
        match &snapshot.proof {
            Ok(_) => drop(
                verify(&snapshot.path, RawCopy::Refuse, &mut |_, _| ())
                    .unwrap_or_else(|error| panic!("{situation}: {error}")),
            ),
            Err(why) => panic!("{situation}: {} stands and is not verified: {why}", snapshot.name),
        }
    }
}
