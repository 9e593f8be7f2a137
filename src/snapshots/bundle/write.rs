//! A bundle on its way to the disk, and off it: its parts first and its manifest last, each by one rename; and the manifest
//! first when it goes. Plain keys are never on their way.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::gather::{Gathered, gather};
use super::manifest::{Bundle, Fingerprint, Part};
use super::{KEYS, MANIFEST, NODE, beside, seal, stem, tar};
use crate::config::Settings;
use crate::model::Digest;
use crate::snapshots::{Locked, Name, Proof};
use crate::sys::clock;
use crate::sys::files::{self, Attributes};

/// Puts a bundle beside a snapshot that lies in its place already. `sha256`: of the whole file.
///
/// # Errors
/// A sentence; the snapshot is as good as it was, and nothing half is left.
pub fn add(settings: &Settings, locked: &Locked, proof: &Proof, sha256: Digest) -> Result<Bundle, String> {
    let gathered = gather(settings)?;
    let snapshot = locked.directory().path().join(&proof.file);
    make(&snapshot, proof, sha256, gathered, &settings.snapshots.recipients, clock::now().wall)
}

/// Makes one of what was gathered.
pub(in crate::snapshots) fn make(
    snapshot: &Path,
    proof: &Proof,
    sha256: Digest,
    gathered: Gathered,
    recipients: &[String],
    now: Timestamp,
) -> Result<Bundle, String> {
    let written = written(snapshot, proof, sha256, gathered, recipients, now);
    if written.is_err() {
        // Best done now: on a full disk the half of a bundle is in the way.
        let _ = remove(snapshot);
    }
    written
}

fn written(
    snapshot: &Path,
    proof: &Proof,
    sha256: Digest,
    gathered: Gathered,
    recipients: &[String],
    now: Timestamp,
) -> Result<Bundle, String> {
    let Gathered { node, known, components, plain, keys, left_out } = gathered;
    let time = u64::try_from(now.as_second()).unwrap_or_default();
    let name = stem(&proof.file).ok_or_else(|| format!("{} is no name of a snapshot", proof.file))?;
    let mut parts = vec![Part { name: proof.file.clone(), bytes: proof.bytes, sha256 }];
    let mut put = |ending: &str, bytes: &[u8]| {
        put(snapshot, ending, bytes)?;
        let (bytes, sha256) = (bytes.len() as u64, Digest::of(bytes));
        parts.push(Part { name: format!("{name}.{ending}"), bytes, sha256 });
        Ok::<_, String>(())
    };
    put(NODE, &tar::write(&plain.entries, time)?)?;
    if !recipients.is_empty() {
        put(KEYS, &seal::seal(&tar::write(&keys.entries, time)?, recipients)?)?;
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
        keys: keys
            .entries
            .iter()
            .map(|entry| Fingerprint { path: entry.path.clone(), sha256: Digest::of(&entry.bytes) })
            .collect(),
        recipients: recipients.to_vec(),
        left_out,
        made: now,
        by: concat!("lastgood ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    put_manifest(snapshot, &bundle)?;
    Ok(bundle)
}

fn put_manifest(snapshot: &Path, bundle: &Bundle) -> Result<(), String> {
    put(snapshot, MANIFEST, &bundle.encode()?)
}

/// One file, there to stay when this returns.
fn put(snapshot: &Path, ending: &str, bytes: &[u8]) -> Result<(), String> {
    let path = beside(snapshot, ending).ok_or_else(|| format!("{} is no snapshot", snapshot.display()))?;
    let replaced = files::replace(files::dir_of(&path), &path, bytes, &Attributes::private());
    replaced.map_err(|error| error.to_string())
}

/// Removes a snapshot's bundle, its manifest first: what is left in between is a part that nothing lists.
pub(in crate::snapshots) fn remove(snapshot: &Path) -> io::Result<()> {
    let each = [MANIFEST, KEYS, NODE].into_iter().filter_map(|ending| beside(snapshot, ending));
    each.map(|path| files::remove(&path)).fold(Ok(()), io::Result::and)
}

/// Bytes of a snapshot's bundle on the disk.
pub(in crate::snapshots) fn bytes_beside(snapshot: &Path) -> u64 {
    let each = [MANIFEST, KEYS, NODE].into_iter().filter_map(|ending| beside(snapshot, ending));
    each.filter_map(|path| files::standing(&path).ok().flatten()).map(|metadata| metadata.len()).sum()
}

/// Removes what a crash left in a directory whose lock is held: parts without their snapshot, or without their manifest.
pub(in crate::snapshots) fn sweep(dir: &Path) {
    let gone = |path: &Path| matches!(files::standing(path), Ok(None));
    for name in files::names(dir).unwrap_or_default() {
        let ending = [MANIFEST, KEYS, NODE].into_iter().find(|ending| name.ends_with(ending));
        let Some(stem) = ending.and_then(|ending| name.strip_suffix(ending)?.strip_suffix('.')) else { continue };
        let snapshot = format!("{stem}.db");
        // A person's own are theirs.
        if snapshot.parse::<Name>().is_ok()
            && (gone(&dir.join(snapshot)) || gone(&dir.join(format!("{stem}.{MANIFEST}"))))
        {
            let _ = std::fs::remove_file(dir.join(&name));
        }
    }
}
