//! Uploads one snapshot with its bundle.
//!
//! ```text
//!   NAME.db ─▶ read back, compare with the proof ─▶ each part ─▶ read back, compare ─▶ NAME.db.proof.json ─▶ read back
//!     └ exists already and matches: not uploaded again             └ belongs to another NAME.db: deleted first
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::list::Stored;
use super::store::Remote;
use super::trouble::Trouble;
use super::{belongs, list};
use crate::snapshots::Name;
use crate::snapshots::bundle::MANIFEST;
use crate::snapshots::proof::{ENDING, Proof};
use crate::snapshots::tally::Sum;
use crate::sys::files;

/// What is being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Sending,
    /// It is read back.
    Comparing,
}

/// Receives what is done, and how many bytes of how many.
pub type Progress = Arc<dyn Fn(Doing, u64, u64) + Send + Sync>;

pub fn quietly() -> Progress {
    Arc::new(|_, _, _| {})
}

/// What goes, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// What was proven of it; says what it is called.
    pub proof: Proof,
    pub database: PathBuf,
    /// What travels with it, and what each is called.
    pub parts: Vec<(String, PathBuf)>,
}

impl Parcel {
    /// A snapshot of a directory, with all that is there for it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of(dir: &Path, proof: Proof) -> io::Result<Self> {
        let (name, database) = (proof.name, dir.join(&proof.file));
        let own = [proof.file.clone(), format!("{}{ENDING}", proof.file)];
        let theirs = files::names(dir)?.into_iter().filter(|file| belongs(file, &name) && !own.contains(file));
        let parts = theirs.map(|file| (file.clone(), dir.join(file))).filter(|(_, path)| path.is_file());
        let mut parts: Vec<_> = parts.collect();
        // As on the disk: what lists the others comes after them.
        parts.sort_by_key(|(file, _)| file.ends_with(MANIFEST));
        Ok(Self { database, parts, proof })
    }

    /// Whether all of it is there, as far as a listing and a proof can tell.
    pub(super) fn is_in(&self, stored: Option<&Stored>) -> bool {
        let Some(stored) = stored else { return false };
        let there = |(name, path): &(String, PathBuf)| {
            let here = path.metadata().map(|metadata| metadata.len()).ok();
            here.is_none() || here == stored.files.get(name).copied()
        };
        stored.proof.as_ref() == Ok(&self.proof.clone().brief()) && self.parts.iter().all(there)
    }

    /// The names of all that it is there when it was sent, in the order in which it is to go: its proof last.
    pub fn names(&self) -> Vec<String> {
        let parts = self.parts.iter().map(|(name, _)| name.clone());
        [self.proof.file.clone()].into_iter().chain(parts).chain([format!("{}{ENDING}", self.proof.file)]).collect()
    }

    /// The name by which it is distinguished.
    pub fn name(&self) -> &Name {
        &self.proof.name
    }
}

impl Remote {
    /// Sends it, and has it back to be compared. `stored`: what is there of it.
    ///
    /// # Errors
    /// [`Trouble`]; what is there then does not count as verified.
    pub async fn send(&self, parcel: &Parcel, stored: Option<&Stored>, progress: &Progress) -> Result<(), Trouble> {
        let proof = &parcel.proof;
        let (file, proof_file) = (proof.file.as_str(), format!("{}{ENDING}", proof.file));
        let stands = |file: &str| stored.and_then(|stored| stored.files.get(file)).copied();
        let (hold, expected) = (proof.trailer().unwrap_or_default(), proof.sum());
        let stood = match stands(file) {
            Some(bytes) if bytes == expected.bytes => match self.compare(file, hold, &expected, progress).await {
                Ok(()) => true,
                Err(Trouble::Differs(_) | Trouble::Absent(_)) => false,
                Err(trouble) => return Err(trouble),
            },
            _ => false,
        };
        if !stood {
            if stands(&proof_file).is_some() {
                self.delete(&proof_file).await?;
            }
            let seen = |done| progress(Doing::Sending, done, expected.bytes);
            self.put(file, &parcel.database, hold, Some(&expected), &seen).await?;
            self.compare(file, hold, &expected, progress).await?;
        }
        for (name, path) in &parcel.parts {
            let sum = self.put(name, path, 0, None, &|_| ()).await?;
            self.compare(name, 0, &sum, progress).await?;
        }
        let text = proof.encode()?;
        self.put_bytes(&proof_file, text.clone()).await?;
        match self.read_all(&proof_file, text.len() as u64).await? == text {
            true => Ok(()),
            false => Err(self.differs(&proof_file)),
        }
    }

    /// Reads an object back, and compares it.
    async fn compare(&self, file: &str, hold: u64, expected: &Sum, progress: &Progress) -> Result<(), Trouble> {
        let sum = self.sum(file, hold, &|done, of| progress(Doing::Comparing, done, of)).await?;
        if sum == *expected { Ok(()) } else { Err(self.differs(file)) }
    }

    fn differs(&self, file: &str) -> Trouble {
        Trouble::Differs(format!("{}: the object store returns other data than lastgood uploaded", self.called(file)))
    }

    /// Removes all of a snapshot. Its proof goes last: what is left where that is interrupted is no snapshot, and known
    /// as remains by its proof.
    ///
    /// # Errors
    /// When the store does not do it.
    pub async fn remove(&self, stored: &Stored) -> Result<(), Trouble> {
        let (file, proof) = (stored.name.to_string(), format!("{}{ENDING}", stored.name));
        let rest = stored.files.keys().filter(|name| **name != file).cloned();
        self.remove_all([file.clone()].into_iter().chain(list::last(rest, &proof))).await
    }

    /// Removes what has these names, in this order. What is gone already is removed.
    ///
    /// # Errors
    /// When the store does not do it.
    pub async fn remove_all(&self, names: impl IntoIterator<Item = String>) -> Result<(), Trouble> {
        for name in names {
            self.delete(&name).await?;
        }
        Ok(())
    }
}
