//! Snapshots of real etcds, and what becomes of them when everything fails.

mod crashes;
pub(crate) mod real;
mod verify;

use std::path::Path;
use std::process::Command;

use crate::etcd::snapshot::{RawCopy, verify};
use crate::sys::files;

/// A real snapshot of an etcd 3.6, unpacked.
fn fixture() -> Vec<u8> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd/snapshot-3.6.db.gz");
    let out = Command::new("gzip").arg("-dc").arg(&packed).output().unwrap();
    assert!(out.status.success(), "gzip: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// The names in a directory, without the lock and what was going on there.
fn names(dir: &Path) -> Vec<String> {
    let mut names = files::names(dir).unwrap();
    names.retain(|name| !name.starts_with('.'));
    names
}

/// Everything in the directory that calls itself verified is whole, and everything that is not verified is none of ours.
fn assert_honest(dir: &Path, situation: &str) {
    for snapshot in super::Directory::at(dir).list().unwrap() {
        match &snapshot.proof {
            Ok(_) => drop(
                verify(&snapshot.path, RawCopy::Refuse, &mut |_, _| ())
                    .unwrap_or_else(|error| panic!("{situation}: {error}")),
            ),
            Err(why) => panic!("{situation}: {} stands and is not verified: {why}", snapshot.name),
        }
    }
}
