//! Downloads a snapshot into a private local file and compares it with its verification record. The file is removed
//! with the value that owns it. The bundle is only held in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::list::{Proofs, Stored};
use super::store::Remote;
use super::trouble::Trouble;
use crate::etcd::snapshot::{RawCopy, TRAILER};
use crate::snapshots::bundle::{Bundle, MANIFEST, MAX_MANIFEST, MAX_PART};
use crate::snapshots::directory::{DIR_MODE, room};
use crate::snapshots::proof::{ENDING, MAX_BYTES, Proof};
use crate::snapshots::save::writing;
use crate::snapshots::staging::Staging;
use crate::sys::files;

/// A disk that takes nothing for this long does not come back.
const DISK: Duration = Duration::from_secs(60);

/// What the disk is given at once.
const PART: usize = 32 << 10;

/// A snapshot that was fetched.
#[derive(Debug)]
pub struct Fetched {
    staging: Staging,
    /// What was found when it was verified, and fits; absent where no proof is there: it has to speak for itself.
    pub proof: Option<Proof>,
    /// What it is called there, with its place.
    pub from: String,
}

impl Fetched {
    /// Where it is, as long as this value lives.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }
}

impl Remote {
    /// The name of the newest verified snapshot there that is taken where so much is trusted.
    ///
    /// # Errors
    /// [`Trouble::Absent`] where there is none.
    pub async fn newest(&self, trust: RawCopy) -> Result<String, Trouble> {
        let list = self.list(&mut Proofs::default()).await?;
        let newest = list.newest(trust).map(|stored| stored.name.to_string());
        newest.ok_or_else(|| {
            let raw = list.stored.iter().filter(|stored| stored.proof.is_ok()).count();
            let unproven = list.stored.len() - raw;
            let place = self.place();
            Trouble::Absent(match raw {
                0 => format!("{place} contains no verified snapshot ({unproven} unverified)"),
                _ => format!(
                    "{place} contains no verified snapshot that carries its SHA-256 ({raw} raw copies, which \
                     --skip-hash-check accepts, and {unproven} unverified)"
                ),
            })
        })
    }

    /// The name of the newest verified snapshot there that has a bundle.
    ///
    /// # Errors
    /// [`Trouble::Absent`] where there is none.
    pub async fn newest_with_bundle(&self) -> Result<String, Trouble> {
        let list = self.list(&mut Proofs::default()).await?;
        let has_one = |stored: &&Stored| stored.proof.is_ok() && stored.files.keys().any(|n| n.ends_with(MANIFEST));
        let newest = list.stored.iter().rev().find(has_one).map(|stored| stored.name.to_string());
        newest.ok_or_else(|| Trouble::Absent(format!("no verified snapshot in {} has a bundle", self.place())))
    }

    /// Fetches the bundle of the snapshot of this name: its manifest, and the bytes of its parts by their names, as they came:
    /// whoever opens it compares them.
    ///
    /// # Errors
    /// [`Trouble::Absent`] where it has none.
    pub async fn bundle(&self, name: &str) -> Result<(Bundle, BTreeMap<String, Vec<u8>>), Trouble> {
        let none = || Trouble::Absent(format!("{} has no bundle ({MANIFEST})", self.called(name)));
        let manifest = name.strip_suffix(".db").map(|stem| format!("{stem}.{MANIFEST}")).ok_or_else(none)?;
        let text = self.read_all(&manifest, MAX_MANIFEST).await.map_err(|trouble| match trouble {
            Trouble::Absent(_) => none(),
            trouble => trouble,
        })?;
        let bundle = Bundle::decode(&text, name);
        let bundle = bundle.map_err(|why| Trouble::Differs(format!("{} {why}", self.called(&manifest))))?;
        let mut parts = BTreeMap::new();
        // The first is the data.
        for part in bundle.parts.iter().skip(1) {
            match self.read_all(&part.name, MAX_PART).await {
                Ok(bytes) => drop(parts.insert(part.name.clone(), bytes)),
                // Of a bundle that is there something is missing: for whoever opens it to tell.
                Err(Trouble::Absent(_)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok((bundle, parts))
    }

    /// Fetches the snapshot of this name into a directory, which is made where it is missing.
    ///
    /// # Errors
    /// [`Trouble::Differs`] where it is not what was proven; nothing is left here then.
    pub async fn fetch(&self, name: &str, dir: &Path, seen: &(dyn Fn(u64, u64) + Sync)) -> Result<Fetched, Trouble> {
        let from = self.called(name);
        let mut pieces = self.read(name).await?;
        let size = pieces.size();
        let proof = match self.read_all(&format!("{name}{ENDING}"), MAX_BYTES).await {
            Ok(text) => {
                let proof = Proof::decode(&text, name, size);
                Some(proof.map_err(|why| Trouble::Differs(format!("{from} is not verified: {why}")))?)
            }
            Err(Trouble::Absent(_)) => None,
            Err(trouble) => return Err(trouble),
        };
        files::make_dir(dir, DIR_MODE)?;
        let (needed, left) = (size.saturating_add(size / 10), room(dir)?);
        if left < needed {
            return Err(Trouble::NoRoom { dir: dir.to_owned(), needed, left });
        }
        let staging = Staging::create(dir)?;
        let hold = proof.as_ref().map_or(TRAILER, |proof| proof.trailer().unwrap_or_default());
        let (parts, written) = writing(&staging, hold)?;
        let mut done = 0;
        'pieces: while let Some(piece) = pieces.next().await? {
            // In parts as small as a member sends them: those that wait for the disk are counted, and not weighed.
            for part in piece.chunks(PART) {
                match timeout(DISK, parts.send(part.to_vec())).await {
                    Ok(Ok(())) => {}
                    // Its end, with the reason, is met below.
                    Ok(Err(_)) => break 'pieces,
                    Err(_) => {
                        let words = format!("has accepted no write for {} s", DISK.as_secs());
                        return Err(files::fault(io::ErrorKind::TimedOut, dir, &words).into());
                    }
                }
            }
            done += piece.len() as u64;
            seen(done, size);
        }
        drop(parts);
        let written = written.await.map_err(|_| io::Error::other("the writer thread has ended"))??;
        if proof.as_ref().is_some_and(|proof| written.sum != proof.sum()) {
            return Err(Trouble::Differs(format!("{from}: the received data differ from the verified snapshot")));
        }
        Ok(Fetched { staging, proof, from })
    }
}
