//! The snapshots in object storage that this program understands. Objects under other names are ignored.

use std::collections::BTreeMap;

use object_store::ObjectMeta;

use super::store::Remote;
use super::trouble::Trouble;
use super::{belongs, stem};
use crate::etcd::snapshot::RawCopy;
use crate::snapshots::Name;
use crate::snapshots::proof::{ENDING, MAX_BYTES, Proof};
use crate::snapshots::retention::Held;

/// A snapshot there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What its name says.
    pub name: Name,
    /// Bytes of it.
    pub bytes: u64,
    /// What was found when it was verified, in brief; a sentence where it is not.
    pub proof: Result<Proof, String>,
    /// All that travels with it, itself and its proof included: bytes by name.
    pub files: BTreeMap<String, u64>,
}

impl Stored {
    pub(super) fn held(&self) -> Held {
        Held { name: self.name, bytes: self.bytes, verified: self.proof.is_ok() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotList {
    /// The snapshots, the newest last.
    pub stored: Vec<Stored>,
    /// What is left of snapshots whose removal was interrupted, each in the order in which it is to go.
    pub(super) remains: Vec<Vec<String>>,
}

/// Proofs that were read, by the objects they were read from: those are not asked for again and again.
#[derive(Debug, Default)]
pub struct Proofs(BTreeMap<String, (Versions, Result<Proof, String>)>);

/// Which versions of a snapshot and of its proof were looked at.
type Versions = [Option<(u64, Option<String>, i64)>; 2];

impl SnapshotList {
    /// The one of this name.
    pub fn get(&self, name: &Name) -> Option<&Stored> {
        self.stored.iter().find(|stored| stored.name == *name)
    }

    /// The newest that is verified, and taken where so much is trusted.
    pub fn newest(&self, trust: RawCopy) -> Option<&Stored> {
        self.stored.iter().rev().find(|stored| stored.proof.is_ok() && stored.name.suffices(trust))
    }
}

impl Remote {
    /// Looks at all of them.
    ///
    /// # Errors
    /// When the store cannot be asked; that one proof is bad is no error.
    pub async fn list(&self, proofs: &mut Proofs) -> Result<SnapshotList, Trouble> {
        let objects: BTreeMap<String, ObjectMeta> = self.objects().await?.into_iter().collect();
        let mut list = SnapshotList::default();
        let mut read = BTreeMap::new();
        for (file, meta) in &objects {
            if let Ok(name) = file.parse::<Name>() {
                let versions: Versions = [Some(meta), objects.get(&format!("{file}{ENDING}"))]
                    .map(|meta| meta.map(|m| (m.size, m.e_tag.clone(), m.last_modified.timestamp_micros())));
                let proof = match proofs.0.remove(file) {
                    Some((of, proof)) if of == versions => proof,
                    _ if versions.iter().any(Option::is_none) => Err("it has no verification record".to_owned()),
                    _ => self.proof(file, meta.size).await?,
                };
                read.insert(file.clone(), (versions, proof.clone()));
                list.stored.push(Stored { name, bytes: meta.size, proof, files: with(&objects, &name) });
            } else if let Some(name) = file.strip_suffix(ENDING).and_then(|of| of.parse::<Name>().ok())
                && !objects.contains_key(&name.to_string())
            {
                list.remains.push(last(with(&objects, &name).into_keys(), file));
            }
        }
        proofs.0 = read;
        list.stored.sort_by_key(|stored| stored.name);
        Ok(list)
    }

    /// The proof of a snapshot there, if it is one for the object that is there.
    async fn proof(&self, file: &str, bytes: u64) -> Result<Result<Proof, String>, Trouble> {
        let text = match self.read_all(&format!("{file}{ENDING}"), MAX_BYTES).await {
            Ok(text) => text,
            Err(Trouble::Differs(why) | Trouble::Absent(why)) => return Ok(Err(why)),
            Err(trouble) => return Err(trouble),
        };
        let proof = match Proof::decode(&text, file, bytes) {
            Ok(proof) => proof.brief(),
            Err(why) => return Ok(Err(why)),
        };
        let Some(count) = proof.trailer() else { return Ok(Ok(proof)) };
        match self.last(file, bytes, count).await {
            Ok(last) => Ok(proof.ends_in(&last).map(|()| proof)),
            Err(Trouble::Absent(why)) => Ok(Err(why)),
            Err(trouble) => Err(trouble),
        }
    }
}

/// What belongs to a snapshot, with its bytes.
fn with(objects: &BTreeMap<String, ObjectMeta>, name: &Name) -> BTreeMap<String, u64> {
    // All of their names begin alike, so they lie together.
    let stem = stem(name);
    let near = objects.range(stem.clone()..).take_while(|(file, _)| file.starts_with(&stem));
    let theirs = near.filter(|(file, _)| belongs(file, name));
    theirs.map(|(file, meta)| (file.clone(), meta.size)).collect()
}

/// These, with one of them at the end.
pub(super) fn last(files: impl Iterator<Item = String>, one: &str) -> Vec<String> {
    files.filter(|file| file != one).chain([one.to_owned()]).collect()
}
