//! The verification record of a snapshot, next to it: `NAME.proof.json`.
//!
//! A snapshot counts as verified only if its record exists, is intact (it has its own checksum), names this file,
//! length and revision, and has the digest that the file ends with. So neither a torn file nor a foreign one under the
//! same name counts. A bit that flipped in the middle is not searched for each time: `lastgood etcd snapshot verify`
//! finds it, and so does a restore, by the checksum of all bytes in the record (verify.rs).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use super::tally::Sum;
use super::{Name, Origin};
use crate::etcd::snapshot::{Contents, TRAILER};
use crate::model::{Digest, Format, lift};
use crate::record::envelope;
use crate::sys::files::{self, Attributes};

/// The format. A file of a newer version proves nothing to this program, and stays.
const FORMAT: Format = Format {
    key: "proof",
    versions: &["what was verified", "what else was found (found)", "what is encrypted (found.contents.encrypted)"],
    lift: lift::nothing,
};
/// A proof is some thousand bytes.
pub(super) const MAX_BYTES: u64 = 1 << 16;
/// What follows the name of the snapshot.
pub(super) const ENDING: &str = ".proof.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The name it was given.
    pub file: String,
    /// What the name says.
    pub name: Name,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the database, without what etcd puts behind it.
    pub sha256: Digest,
    /// The ID of the member it comes from; absent where a copied database does not tell.
    pub member: Option<u64>,
    /// The etcd that sent it, such as `3.5.16`; absent for a copy.
    pub etcd: Option<String>,
    /// The raft term then; absent for a copy of a database older than etcd 3.5.
    pub term: Option<u64>,
    /// The raft index then.
    pub raft_index: Option<u64>,
    /// Keys of clients in it.
    pub keys: u64,
    /// When it was verified.
    pub verified: Timestamp,
    /// By which version and build of lastgood.
    pub by: String,
    /// What else was found; absent where that is more than any etcd has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// What a verification finds, and by what the bytes are known again that it was found in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Of all bytes of the file.
    pub checksum: Checksum,
    /// SHA-256 of all bytes of the file.
    pub whole: Digest,
    /// What the file holds.
    pub contents: Contents,
}

/// Where the proof of a snapshot exists.
pub(super) fn path_of(snapshot: &Path) -> PathBuf {
    let mut path = snapshot.as_os_str().to_owned();
    path.push(ENDING);
    path.into()
}

/// What exists where the proof of a file is to be put and is none of ours, if anything does.
///
/// # Errors
/// When it cannot be looked at.
pub fn in_the_way(snapshot: &Path) -> io::Result<Option<PathBuf>> {
    let path = path_of(snapshot);
    let Some(standing) = files::standing(&path)? else { return Ok(None) };
    let is_ours = || files::read_bounded(&path, MAX_BYTES).is_ok_and(|text| decode(&text).is_ok());
    Ok(Some(path.clone()).filter(|_| !standing.is_file() || !is_ours()))
}

fn decode(text: &[u8]) -> Result<Proof, envelope::Fault> {
    envelope::decode(&FORMAT, text)
}

/// This lastgood, in a proof: its version, and the commit that it was built from where the build names one (two builds of one
/// version are otherwise the same to a reader).
pub fn this_build() -> String {
    by(option_env!("LASTGOOD_COMMIT"))
}

fn by(commit: Option<&str>) -> String {
    let version = concat!("lastgood ", env!("CARGO_PKG_VERSION"));
    match commit.filter(|commit| !commit.is_empty()) {
        Some(commit) => format!("{version} (commit {commit})"),
        None => version.to_owned(),
    }
}

impl Proof {
    /// The same, so that it is read again whatever a hostile database holds: no longer than a proof may be.
    pub(super) fn bounded(self) -> Self {
        let fits = self.encode().is_ok_and(|text| text.len() as u64 <= MAX_BYTES);
        Self { found: self.found.filter(|_| fits), ..self }
    }

    /// The same without what else was found: as one of thousands is remembered.
    pub(super) fn brief(self) -> Self {
        Self { found: None, ..self }
    }

    /// Puts it next to the snapshot. On disk to stay when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, snapshot: &Path) -> io::Result<()> {
        let bytes = self.encode()?;
        let path = path_of(snapshot);
        let dir = files::dir_of(&path);
        files::replace(dir, &path, &bytes, &Attributes::private())
    }

    /// The proof of a snapshot, if it is one for the file that exists there.
    ///
    /// # Errors
    /// A sentence: why it is not verified.
    pub(super) fn read(snapshot: &Path, bytes: u64) -> Result<Self, String> {
        let path = path_of(snapshot);
        let text = files::read_bounded(&path, MAX_BYTES).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it has no verification record".to_owned(),
            _ => error.to_string(),
        })?;
        let file = snapshot.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let proof = Self::decode(&text, &file, bytes)?;
        if proof.trailer().is_some() {
            proof.ends_in(&trailer(snapshot, bytes)?)?;
        }
        Ok(proof)
    }

    /// As it is on the disk.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        envelope::wrap(&FORMAT, self)
    }

    /// The proof in a text, if it is one for a file of this name and length.
    pub(super) fn decode(text: &[u8], file: &str, bytes: u64) -> Result<Self, String> {
        let proof = decode(text).map_err(|fault| format!("its proof {fault}"))?;
        if proof.file != file {
            return Err(format!("its verification record is about {}", proof.file));
        }
        // Under such a name its revision and its time are gone by.
        if file.parse().is_ok_and(|name: Name| name != proof.name) {
            return Err(format!("its verification record is about a snapshot named {}", proof.name));
        }
        if proof.bytes != bytes {
            return Err(format!("it has {bytes} bytes, but had {} when it was verified", proof.bytes));
        }
        Ok(proof)
    }

    /// How many bytes at its end are a digest of those before them, where it has such.
    pub(super) fn trailer(&self) -> Option<u64> {
        (self.name.origin == Origin::Stream).then_some(TRAILER)
    }

    /// Whether its last bytes are the digest that was found.
    pub(super) fn ends_in(&self, last: &[u8]) -> Result<(), String> {
        match last == self.sha256.as_bytes() {
            true => Ok(()),
            false => Err("it does not end with the digest it had when it was verified".to_owned()),
        }
    }

    /// What its bytes come to.
    pub(super) fn sum(&self) -> Sum {
        let last = self.trailer().map(|_| self.sha256.as_bytes().to_vec()).unwrap_or_default();
        Sum { bytes: self.bytes, sha256: self.sha256, last }
    }
}

fn trailer(snapshot: &Path, bytes: u64) -> Result<[u8; TRAILER as usize], String> {
    let mut trailer = [0; TRAILER as usize];
    let at = bytes.checked_sub(TRAILER).ok_or("it is shorter than its digest")?;
    let read = File::open(snapshot).and_then(|file| file.read_exact_at(&mut trailer, at));
    read.map_err(|error| format!("{} cannot be read: {error}", snapshot.display()))?;
    Ok(trailer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::snapshot::EncryptedBy;
    use crate::etcd::snapshot::Tally;

    #[test]
    fn a_build_is_named_by_its_version_and_by_its_commit_where_there_is_one() {
        let version = concat!("lastgood ", env!("CARGO_PKG_VERSION"));
        assert_eq!([by(None), by(Some(""))], [version, version]);
        assert_eq!(by(Some("0123abc")), format!("{version} (commit 0123abc)"));
    }

    #[test]
    fn a_proof_of_every_version_is_read() {
        let name = Name { at: Timestamp::UNIX_EPOCH, cluster: 7, revision: 4, origin: Origin::Stream };
        let proof = |found| Proof {
            file: name.to_string(),
            name,
            bytes: 1,
            sha256: Digest::of(b"database"),
            member: Some(2),
            etcd: Some("3.5.16".to_owned()),
            term: Some(3),
            raft_index: Some(4),
            keys: 5,
            verified: Timestamp::UNIX_EPOCH,
            by: "lastgood 0.1.0".to_owned(),
            found,
        };
        let bucket = Tally { name: "key".to_owned(), keys: 5, bytes: 6 };
        let contents = Contents { live_keys: Some(5), buckets: vec![bucket], term: Some(3), ..Contents::default() };
        let checksum = serde_json::from_value("0123456789abcdef0123456789abcdef".into()).unwrap();
        envelope::golden(&FORMAT, (1, ""), &proof(None));
        let found = |contents| proof(Some(Found { checksum, whole: Digest::of(b"whole"), contents }));
        envelope::golden(&FORMAT, (2, ""), &found(contents.clone()));
        let by = EncryptedBy {
            provider: "aescbc".to_owned(),
            version: "v1".to_owned(),
            key: "key1".to_owned(),
            values: [("secrets".to_owned(), 4)].into(),
        };
        envelope::golden(&FORMAT, (3, ""), &found(Contents { encrypted: Some(vec![by]), ..contents }));
    }
}
