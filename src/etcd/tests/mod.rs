//! The etcd room, with files that real etcds wrote and with malicious files.

mod bar;
mod built;
mod hostile;
mod learners;
mod log;
mod matrix;
mod member;
mod mistaken;
mod origin;
mod real;
mod start_check;
mod verify;
mod victim;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A snapshot that an etcd 3.6.13 made of a small cluster, unpacked into a directory.
pub(super) fn snapshot(dir: &Path) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd/snapshot-3.6.db.gz");
    let out = Command::new("gzip").arg("-dc").arg(&packed).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let path = dir.join("snapshot.db");
    std::fs::write(&path, out.stdout).unwrap();
    path
}
