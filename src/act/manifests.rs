//! Moves manifests in and out of the watched directory, by one rename each.
//!
//! ```text
//!   TakeOut   successor ──synced──▶ slots/NAME      manifests/NAME ──rename──▶ replaced/
//!   PutIn     deployed file ─link──▶ replaced/      slots/NAME or tmp/ ──rename──▶ manifests/NAME
//!   MoveOut                                         manifests/NAME ──rename──▶ replaced/
//! ```
//!
//! A crash, a full disk or a power cut between any two of these steps leaves the old file, the new one, or no file and
//! its successor, synced, in staging.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use super::staging::{Staging, Why};
use super::{Outcome, StepExecutor, StepResult, data, refuse};
use crate::model::manifest::MAX_BYTES;
use crate::model::observation::ImagePresence;
use crate::model::{ComponentId, Digest, Manifest, Memory, Observation};
use crate::record::Store;
use crate::sys::files::{self, Attributes};

/// kubeadm's mode for the directory (`WriteStaticPodToDisk` in its `util/staticpod`).
const MANIFESTS_MODE: u32 = 0o700;

/// How a slot is emptied and with what it will be filled.
#[derive(Debug)]
pub(super) struct TakeOut<'a> {
    pub(super) component: &'a ComponentId,
    pub(super) file_name: &'a str,
    pub(super) successor: u32,
    pub(super) successor_name: &'a str,
}

/// Which slot is filled and with what.
#[derive(Debug)]
pub(super) struct PutIn<'a> {
    pub(super) component: &'a ComponentId,
    pub(super) number: u32,
    pub(super) file_name: &'a str,
}

impl StepExecutor {
    pub(super) fn take_out(
        &mut self,
        store: &Store,
        what: &TakeOut<'_>,
        memory: &Memory,
        observation: &Observation,
    ) -> StepResult {
        let TakeOut { component, file_name, successor, successor_name } = *what;
        let path = self.manifest(file_name)?;
        self.manifest(successor_name)?;
        if let Some(image) = absent_image(component, successor, memory, observation) {
            return refuse(format!(
                "{file_name} stays: generation {successor} of {component} needs the image {image}, which is not on this node"
            ));
        }
        let standing = match self.look_again(file_name, observation) {
            Err(changed) => return refuse(changed),
            Ok(standing) => standing,
        };
        let bytes = store.manifest(component, successor)?;
        let staging = self.staging()?;
        let attributes = attributes(&path, store, component, successor)?;
        stage(&staging, successor_name, &bytes, &attributes)?;
        // It comes back by itself from now on.
        files::remove(&staging.withheld().join(successor_name))?;
        if standing.is_none() {
            return Ok(Outcome::AlreadyDone(format!("{file_name} is already out; generation {successor} is staged")));
        }
        let kept = staging.move_aside(&path, Why::TakenOut)?;
        self.emptied(file_name, observation);
        Ok(Outcome::Done(format!(
            "took {file_name} out, kept as {}; generation {successor} is staged for its place",
            kept.display()
        )))
    }

    pub(super) fn put_in(
        &mut self,
        store: &Store,
        what: &PutIn<'_>,
        memory: &Memory,
        observation: &Observation,
    ) -> StepResult {
        let PutIn { component, number, file_name } = *what;
        let path = self.manifest(file_name)?;
        let bytes = store.manifest(component, number)?;
        let standing = match self.look_again(file_name, observation) {
            Err(changed) => return refuse(changed),
            Ok(standing) => standing,
        };
        let staging = self.staging()?;
        let slot = staging.slot(file_name);
        let staged = holds(&slot, &bytes);
        let seen = observation.manifests.file(file_name).is_some();
        if standing.is_none() && seen && !staged && !self.was_emptied(file_name, observation) {
            return refuse(format!("{file_name} disappeared since it was checked"));
        }
        let generation = memory.components.get(component).and_then(|record| record.generations.get(&number));
        let settled = match data::settled(&self.settings, generation.and_then(|generation| generation.data.as_ref())) {
            Ok(told) => told,
            Err(why) => return refuse(why),
        };
        if let Err(barred) = data::may_be_put_in(component, number, memory) {
            let back = data::put_back(&staging, &self.environment.manifests, file_name, component)?;
            return refuse(format!("{}; {back}; next: {}", barred.why, barred.next_step));
        }
        files::make_dir(&self.environment.manifests, MANIFESTS_MODE)?;
        if !staged {
            // Whatever else lay there is not what fills this slot any more.
            files::remove(&slot)?;
        }
        let attributes = attributes(&path, store, component, number)?;
        let kept = match &standing {
            None => None,
            // The very same bytes are kept already: they are the generation's.
            Some(metadata) if metadata.is_file() && holds(&path, &bytes) => None,
            Some(metadata) if metadata.is_dir() => {
                // Nothing can be renamed over a directory, so for a moment the slot is empty.
                stage(&staging, file_name, &bytes, &attributes)?;
                Some(staging.move_aside(&path, Why::Replaced)?)
            }
            Some(_) => Some(staging.link_aside(&path, Why::Replaced)?),
        };
        if holds(&slot, &bytes) {
            files::rename(&slot, &path)?;
        } else {
            files::replace(&staging.tmp(), &path, &bytes, &attributes)?;
        }
        // What was withheld is back.
        files::remove(&staging.withheld().join(file_name))?;
        let kept = kept.map_or(String::new(), |kept| format!("; the previous content is kept as {}", kept.display()));
        let settled: String = settled.iter().map(|told| format!("; {told}")).collect();
        Ok(Outcome::Done(format!("put generation {number} of {component} in place as {file_name}{kept}{settled}")))
    }

    pub(super) fn move_out(
        &mut self,
        component: &ComponentId,
        file_name: &str,
        observation: &Observation,
    ) -> StepResult {
        let path = self.manifest(file_name)?;
        match self.look_again(file_name, observation) {
            Err(changed) => refuse(changed),
            Ok(None) => Ok(Outcome::AlreadyDone(format!("{file_name} is already gone"))),
            Ok(Some(_)) => {
                let kept = self.staging()?.move_aside(&path, Why::MovedOut)?;
                self.emptied(file_name, observation);
                Ok(Outcome::Done(format!(
                    "moved {file_name}, which claimed the pod of {component}, out; it is kept as {}",
                    kept.display()
                )))
            }
        }
    }

    /// The path of a manifest, if its name is one: from memory, so it is not believed to stay in its directory.
    pub(super) fn manifest(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.environment.manifests.join(name);
        if files::is_plain_name(name) {
            return Ok(path);
        }
        Err(files::fault(io::ErrorKind::InvalidInput, &path, "is not the name of a manifest"))
    }

    pub(super) fn staging(&self) -> io::Result<Staging> {
        Staging::prepare(&self.settings.paths.staging, &self.environment.manifests)
    }

    /// What is deployed under a name now, if it is still what was observed (Q15): what the operator has written since
    /// is a candidate like any other, to be looked at first.
    pub(super) fn look_again(&self, name: &str, observation: &Observation) -> Result<Option<Metadata>, String> {
        let path = self.environment.manifests.join(name);
        let now = files::standing(&path).map_err(|error| error.to_string())?;
        let (seen, now) = match (observation.manifests.file(name), now) {
            (_, None) => return Ok(None),
            (None, Some(_)) => return Err(format!("{} appeared since it was checked", path.display())),
            (Some(seen), Some(now)) => (seen, now),
        };
        let bytes = files::read_bounded(&path, MAX_BYTES);
        let same = match (&seen.content, bytes) {
            (Ok(manifest), Ok(bytes)) => *manifest.raw == *bytes,
            (Ok(_), Err(_)) => false,
            // A file without a pod may have become another broken one; not a pod, nor what the kubelet may take for one.
            (Err(_), Ok(bytes)) => {
                Digest::of(&bytes) == seen.digest
                    || Manifest::parse(bytes.into()).is_err_and(|fault| !fault.kubelet_may_run())
            }
            (Err(_), Err(_)) => true,
        };
        if same { Ok(Some(now)) } else { Err(format!("{} changed since it was checked", path.display())) }
    }
}

/// An image the successor needs and the node is known not to have (Q15).
fn absent_image<'a>(
    component: &ComponentId,
    number: u32,
    memory: &'a Memory,
    observation: &Observation,
) -> Option<&'a String> {
    let generation = memory.components.get(component)?.generations.get(&number)?;
    generation.images.iter().find(|image| observation.images.get(*image) == Some(&ImagePresence::Absent))
}

/// Mode, owner and extended attributes for a manifest: of the file it replaces, or else as it once was.
pub(super) fn attributes(path: &Path, store: &Store, component: &ComponentId, number: u32) -> io::Result<Attributes> {
    match Attributes::of_standing(path)? {
        Some(attributes) => Ok(attributes),
        None => Ok(store.manifest_attributes(component, number).unwrap_or_else(|_| Attributes::private())),
    }
}

/// Whether a regular file with these bytes exists there.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    files::standing(path).is_ok_and(|found| found.is_some_and(|metadata| metadata.is_file()))
        && files::read_bounded(path, MAX_BYTES).is_ok_and(|standing| standing == bytes)
}

/// Lays a successor into its slot, synced.
fn stage(staging: &Staging, name: &str, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    stage_at(staging, &staging.slot(name), bytes, attributes)
}

/// Has these bytes at a path of the staging directory, synced.
pub(super) fn stage_at(staging: &Staging, path: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    if holds(path, bytes) {
        // An earlier try may have ended before this.
        return files::fsync_dir(path.parent().unwrap_or(path));
    }
    files::replace(&staging.tmp(), path, bytes, attributes)
}
