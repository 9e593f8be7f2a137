//! Verifies a snapshot: one that was verified when it was saved is identified by its checksum; any other is read
//! completely.
//!
//! ```text
//!   a proof next to it, of this format's version ──▶ checksum of every byte ──equal──▶ the earlier result
//!            │ none, or of another version                  │ different
//!            └──────────────────────────────────────────────┴──▶ etcd::snapshot::verify: SHA-256, every page; the fault and its place
//! ```
//!
//! The same bytes give the same result, so a restore does not wait for a SHA-256. It is valid whichever build of lastgood
//! found it, and the reader is shown which one: after an upgrade every snapshot would otherwise be read again in the middle of
//! a recovery. A verification that finds more gets a new version of the format, and the results before it are not reused.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::Timestamp;

use super::checksum;
use super::proof::{self, Found, Proof};
use crate::etcd::snapshot::{self, RawCopy, Rejected, TRAILER, Trailer, Verified};

/// Of the mode of a file: its group or everybody may write it.
const WRITTEN_BY_OTHERS: u32 = 0o022;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As far as is needed: by its proof, where it has one that holds.
    AsNeeded,
    /// All of it, whatever was found before.
    Whole,
}

/// By what it is known to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Every byte is as it was when it was read whole.
    Checksum(Earlier),
    /// It was read whole now.
    Reading,
}

/// The verification that a snapshot is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub at: Timestamp,
    /// The version and build of lastgood that read it.
    pub by: String,
}

/// Verifies a snapshot. `progress` receives how many bytes of how many are done; it may begin again.
///
/// # Errors
/// As [`snapshot::verify`]'s.
pub fn verify(
    path: &Path,
    trust: RawCopy,
    depth: Depth,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Verified, By), Rejected> {
    let known = match depth {
        Depth::AsNeeded => Known::of(path),
        Depth::Whole => None,
    };
    // A raw copy is taken for no more than it is, whatever was found.
    let Some(known) = known.filter(|known| known.trailer != Trailer::Absent || trust == RawCopy::Allow) else {
        return Ok((snapshot::verify(path, trust, progress)?, By::Reading));
    };
    let same = known.is_it_still(path, progress);
    if matches!(same, Ok(true)) {
        let earlier = Earlier { at: known.proof.verified, by: known.proof.by.clone() };
        return Ok((known.verified(), By::Checksum(earlier)));
    }
    // What cannot be read is reported by a full read, as is what is damaged.
    let mut verified = snapshot::verify(path, trust, progress)?;
    if same.is_ok() && verified.whole == known.found.whole {
        verified
            .contents
            .remarks
            .push("two reads returned different bytes: the memory or the disk of this machine is faulty".to_owned());
    }
    Ok((verified, By::Reading))
}

/// What is known of a snapshot by its proof.
struct Known {
    proof: Proof,
    found: Found,
    trailer: Trailer,
}

impl Known {
    /// Nothing where there is no proof, or one of another version, or one that somebody else could have written.
    fn of(path: &Path) -> Option<Self> {
        let snapshot = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        let proof = std::fs::metadata(proof::path_of(path)).ok()?;
        // Who may write the one but not the other could have it say anything.
        let owners = [0, nix::unistd::geteuid().as_raw(), snapshot.uid()];
        if !proof.is_file() || !owners.contains(&proof.uid()) || proof.mode() & WRITTEN_BY_OTHERS != 0 {
            return None;
        }
        // What is shown on a terminal is text.
        let is_text = |proof: &Proof| !proof.by.chars().any(char::is_control);
        let mut proof = Proof::read(path, snapshot.len()).ok().filter(is_text)?;
        // One of an earlier version of the format says nothing of what is encrypted.
        let found = proof.found.take().filter(|found| found.contents.encrypted.is_some())?;
        let trailer = match proof.trailer() {
            Some(_) => Trailer::Matches { sha256: proof.sha256 },
            None => Trailer::Absent,
        };
        Some(Self { proof, found, trailer })
    }

    /// Whether all bytes are those that were verified. An error where they are written meanwhile.
    fn is_it_still(&self, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> io::Result<bool> {
        let file = File::open(path)?;
        let written = || file.metadata().map(|metadata| (metadata.len(), metadata.ctime(), metadata.ctime_nsec()));
        let before = written()?;
        let bytes = self.proof.bytes;
        let checksum = checksum::of(&file, bytes, &mut |done| progress(done, bytes))?;
        progress(bytes, bytes);
        if before.0 != bytes || written()? != before {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(checksum == self.found.checksum)
    }

    fn verified(&self) -> Verified {
        let behind = if self.trailer == Trailer::Absent { 0 } else { TRAILER };
        Verified {
            size: self.proof.bytes.saturating_sub(behind),
            sha256: self.proof.sha256,
            whole: self.found.whole,
            trailer: self.trailer,
            contents: self.found.contents.clone(),
        }
    }
}
