//! With a real S3 server: what is uploaded, what is not and why, and which objects are trusted.

pub(crate) mod server;
mod store;
mod uploads;

use std::path::Path;

use jiff::Timestamp;

use super::send::Parcel;
use super::store::Remote;
use super::trouble::Trouble;
use crate::config::Settings;
use crate::etcd::snapshot::{Contents, TRAILER};
use crate::model::Digest;
use crate::snapshots::{Directory, Found, Name, Origin, Proof};

/// More than two parts of an upload, and no whole number of them.
const LARGE: usize = 11_000_000;

fn name(second: i64, revision: i64) -> Name {
    Name { at: Timestamp::from_second(second).unwrap(), cluster: 7, revision, origin: Origin::Stream }
}

fn proof_of(name: Name, body: &[u8]) -> Proof {
    Proof {
        file: name.to_string(),
        name,
        bytes: body.len() as u64 + TRAILER,
        sha256: Digest::of(body),
        member: Some(1),
        etcd: Some("3.5.16".into()),
        term: Some(2),
        raft_index: Some(3),
        keys: 4,
        verified: Timestamp::UNIX_EPOCH,
        by: "test".into(),
        found: Some(Found {
            checksum: String::from("0123456789abcdef0123456789abcdef").try_into().unwrap(),
            whole: Digest::of(body),
            contents: Contents::default(),
        }),
    }
}

/// Puts a snapshot, as far as this room looks at one, into the directory of these settings.
fn keep(settings: &Settings, name: Name, size: usize) -> Proof {
    let locked = Directory::at(&settings.snapshot_dir()).lock().unwrap();
    // No two stretches of it alike.
    let body: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let proof = proof_of(name, &body);
    let staging = locked.stage().unwrap();
    std::fs::write(staging.path(), [body.as_slice(), proof.sha256.as_bytes()].concat()).unwrap();
    locked.put(staging, &proof).unwrap();
    proof
}

fn parcel(settings: &Settings, proof: &Proof) -> Parcel {
    Parcel::of(&settings.snapshot_dir(), proof.clone()).unwrap()
}

fn open(settings: &Settings) -> Remote {
    let place = settings.snapshots.remote.url.as_ref().unwrap().parse().unwrap();
    Remote::open(&settings.snapshots.remote, &place).unwrap()
}

/// The names of all that is there.
async fn names(remote: &Remote) -> Vec<String> {
    remote.names().await.unwrap()
}

impl Remote {
    /// For tests elsewhere, which have no other hand on a store.
    pub(crate) async fn names(&self) -> Result<Vec<String>, Trouble> {
        Ok(self.objects().await?.into_iter().map(|(name, _)| name).collect())
    }

    /// The same: puts something there behind everybody's back.
    pub(crate) async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), Trouble> {
        self.put_bytes(name, bytes).await
    }
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    assert!(Path::new(home.path()).is_absolute());
    home
}
