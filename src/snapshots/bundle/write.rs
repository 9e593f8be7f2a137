//! Writes and removes a bundle on disk: all parts are written under temporary names; then the parts are renamed, and
//! the manifest last; on removal the manifest goes first. Plain keys are never written.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::gather::{Gathered, gather};
use super::manifest::{Bundle, Fingerprint, Part};
use super::{KEYS, MANIFEST, NODE, seal, stem, tar};
use crate::config::Settings;
use crate::model::Digest;
use crate::snapshots::staging::Staging;
use crate::snapshots::{Locked, Proof};
use crate::sys::{clock, files};

/// A bundle that is on the disk without names yet. Dropped, nothing is left of it.
#[derive(Debug)]
pub struct Staged {
    bundle: Bundle,
    /// What each is to be called, the manifest last.
    files: Vec<(String, Staging)>,
}

/// Gathers a bundle and writes it into a directory, nameless. `proof`: of the snapshot that it travels with, under the name
/// that it has or is about to have; `sha256`: of the whole file.
///
/// # Errors
/// A sentence; nothing is left of it then.
pub fn stage(settings: &Settings, dir: &Path, proof: &Proof, sha256: Digest) -> Result<Staged, String> {
    staged(dir, proof, sha256, gather(settings)?, &settings.snapshots.recipients, clock::now().wall)
}

/// Puts a bundle next to a snapshot that is in its place already. `sha256`: of the whole file.
///
/// # Errors
/// A sentence; the snapshot is as good as it was, and nothing half is left.
pub fn add(settings: &Settings, locked: &Locked, proof: &Proof, sha256: Digest) -> Result<Bundle, String> {
    let dir = locked.directory().path();
    stage(settings, dir, proof, sha256)?.put(dir)
}

/// Makes one of what was gathered.
#[cfg(test)]
pub(in crate::snapshots) fn make(
    snapshot: &Path,
    proof: &Proof,
    sha256: Digest,
    gathered: Gathered,
    recipients: &[String],
    now: Timestamp,
) -> Result<Bundle, String> {
    let dir = files::dir_of(snapshot);
    staged(dir, proof, sha256, gathered, recipients, now)?.put(dir)
}

/// Writes what was gathered.
pub(in crate::snapshots) fn staged(
    dir: &Path,
    proof: &Proof,
    sha256: Digest,
    gathered: Gathered,
    recipients: &[String],
    now: Timestamp,
) -> Result<Staged, String> {
    let Gathered { node, known, components, plain, keys, labels, left_out } = gathered;
    let time = u64::try_from(now.as_second()).unwrap_or_default();
    let name = stem(&proof.file).ok_or_else(|| format!("{} does not end in .db, as a snapshot does", proof.file))?;
    let mut parts = vec![Part { name: proof.file.clone(), bytes: proof.bytes, sha256 }];
    let mut files = Vec::new();
    let mut write = |ending: &str, bytes: &[u8]| {
        let name = format!("{name}.{ending}");
        files.push((name.clone(), Staging::of(dir, bytes).map_err(|error| error.to_string())?));
        Ok::<_, String>(Part { name, bytes: bytes.len() as u64, sha256: Digest::of(bytes) })
    };
    parts.push(write(NODE, &tar::write(&plain.entries, time)?)?);
    if !recipients.is_empty() {
        parts.push(write(KEYS, &seal::seal(&tar::write(&keys.entries, time)?, recipients)?)?);
    }
    let manifests: Vec<_> = components.values().map(|component| component.manifest.clone()).collect();
    let paths = plain.entries.iter().map(|entry| entry.path.clone());
    let bundle = Bundle {
        parts,
        node,
        cluster: proof.name.cluster,
        members: known.of(proof.name.cluster).map(|world| world.members.clone()).unwrap_or_default(),
        highest_revision: known.highest_revision().unwrap_or_default().max(proof.name.revision),
        etcd: proof.etcd.clone(),
        configuration: paths.filter(|path| !manifests.contains(path)).collect(),
        components,
        keys: keys.entries.iter().map(Fingerprint::of).collect(),
        labels,
        recipients: recipients.to_vec(),
        left_out,
        made: now,
        by: concat!("lastgood ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    write(MANIFEST, &bundle.encode()?)?;
    Ok(Staged { bundle, files })
}

impl Staged {
    /// What it consists of.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What each of its files is to be called, and where it is as long as this value lives; the manifest last.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        self.files.iter().map(|(name, staging)| (name.clone(), staging.path().to_owned())).collect()
    }

    /// Gives all of it its names in the directory that it was written into, where nothing exists under any of them.
    ///
    /// # Errors
    /// A sentence; nothing of it is left then.
    pub fn put(self, dir: &Path) -> Result<Bundle, String> {
        let mut stand = Vec::new();
        for (name, staging) in self.files {
            let target = dir.join(name);
            let put = staging.put(&target);
            // What was there before is not ours. With any other fault it may be ours that exists.
            if put.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::AlreadyExists) {
                stand.push(target);
            }
            if let Err(error) = put {
                // Best done now: on a full disk the half of a bundle is in the way.
                stand.iter().rev().for_each(|path| drop(files::remove(path)));
                return Err(error.to_string());
            }
        }
        Ok(self.bundle)
    }
}
