//! What the manifest directory contains for one component.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::config_files::{self, FileKind, FileState};
use crate::model::memory::Record;
use crate::model::observation::{Gone, ManifestFile, Observation, Settled};
use crate::model::{ComponentId, Digest, FileFault, Generation, Manifest};

/// One of five.
pub(super) enum DiskState {
    /// One file holds it.
    Here(Arc<ManifestFile>),
    /// Several files claim its pod: the kubelet runs whichever it read last.
    Claimed {
        /// The file under the name it is known by.
        rightful: Option<Arc<ManifestFile>>,
        duplicates: Vec<Arc<ManifestFile>>,
    },
    /// Its file holds no pod that we could read.
    Broken(Arc<ManifestFile>, FileFault),
    /// Its file is gone.
    Absent(Gone),
    /// Something about it is being written at this moment.
    Unsettled,
}

impl DiskState {
    pub(super) fn of(seen: &Observation, id: &ComponentId, record: &Record) -> Self {
        let claims = |file: &&Arc<ManifestFile>| file.content.as_ref().is_ok_and(|manifest| manifest.id == *id);
        let claimants: Vec<_> = seen.manifests.files().filter(claims).cloned().collect();
        let named = record.file_name().and_then(|name| seen.manifests.file(name));
        let involved = claimants.iter().chain(named);
        if involved.clone().any(|file| file.settled == Settled::NotYet) {
            return Self::Unsettled;
        }
        match (claimants.as_slice(), named) {
            ([], Some(file)) => match &file.content {
                Err(fault) => Self::Broken(Arc::clone(file), fault.clone()),
                // The name now holds somebody else's pod: this one's is gone.
                Ok(_) => Self::Absent(Gone::Deleted),
            },
            ([], None) => Self::Absent(record.file_name().map_or(Gone::Unwitnessed, |name| seen.manifests.fate(name))),
            // The file known by name is broken and another claims the pod: a rename in the making, or a duplicate.
            ([one], Some(file)) if one.name != file.name && file.content.is_err() => {
                Self::Claimed { rightful: None, duplicates: vec![Arc::clone(one)] }
            }
            ([one], _) => Self::Here(Arc::clone(one)),
            (several, _) => {
                let (rightful, duplicates): (Vec<_>, Vec<_>) =
                    several.iter().cloned().partition(|file| Some(file.name.as_str()) == record.file_name());
                Self::Claimed { rightful: rightful.into_iter().next(), duplicates }
            }
        }
    }
}

/// The digest that names what a file holds, for this component.
pub(super) fn digest(record: &Record, manifest: &Manifest, file: &ManifestFile) -> Digest {
    record.digest_of(manifest.digest, &file.closure)
}

/// Whether a generation can be had back over what is in one of its files.
pub(super) enum Restorable {
    /// It is deployed as it was.
    Unchanged,
    /// It can be put back.
    Yes,
    /// It differs, and is not ours to put back: why.
    No(String),
}

/// What would have to be done about each file of a generation.
pub(super) fn files_to_restore(
    seen: &Observation,
    generation: &Generation,
) -> impl Iterator<Item = (PathBuf, Restorable)> {
    generation.closure.iter().map(|kept| {
        let stands = seen.files.get(&kept.path).unwrap_or(&FileState::Missing);
        (kept.path.clone(), restorable(&kept.state, stands, seen.at.wall.as_second()))
    })
}

fn restorable(kept: &FileState, stands: &FileState, now: i64) -> Restorable {
    let FileState::Present { kind, digest, .. } = kept else { return Restorable::Unchanged };
    let same = matches!(stands, FileState::Present { digest: standing, .. } if standing == digest);
    // What changed among the keys is diagnosed by judge; it is no part of a generation.
    if same || *kind == FileKind::KeyMaterial {
        return Restorable::Unchanged;
    }
    config_files::may_replace(stands, kept, now).map_or_else(Restorable::No, |()| Restorable::Yes)
}
