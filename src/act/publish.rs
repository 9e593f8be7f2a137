//! inactive-manifests: the last known-good manifest of each component, byte for byte and under its name in the manifest
//! directory, so that `cp` alone can restore it.
//!
//! A file that the operator changed there is an offer to lastgood, and is not overwritten.

use std::io;
use std::path::Path;

use super::staging::Why;
use super::{Outcome, StepExecutor, StepResult, refuse};
use crate::model::manifest::MAX_BYTES;
use crate::model::{ComponentId, Digest};
use crate::record::{Guard, Published, PublishedFile};
use crate::sys::files::{self, Attributes};

const DIR_MODE: u32 = 0o700;

impl StepExecutor {
    /// Sets aside what is kept of a cluster that this node belonged to before: the generations, the memory before this
    /// one, and what was published of them.
    pub(super) fn set_memory_aside(&self, guard: &Guard) -> StepResult {
        let dir = &self.settings.paths.inactive_manifests;
        let (published, _) = guard.published();
        let staging = self.staging()?;
        for (name, file) in published.iter().filter(|(name, _)| files::is_plain_name(name)) {
            let path = dir.join(name);
            // What the operator wrote there is theirs.
            let ours = files::read_bounded(&path, MAX_BYTES).is_ok_and(|bytes| Digest::of(&bytes) == file.digest);
            if ours && files::mount_of(dir)? == files::mount_of(&staging.replaced())? {
                staging.move_aside(&path, Why::Replaced)?;
            } else if ours {
                files::remove(&path)?;
            }
        }
        guard.save_published(&Published::new())?;
        let kept = guard.set_generations_aside()?;
        let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
        Ok(match kept.is_empty() {
            true => Outcome::AlreadyDone("there were no generations to set aside".to_owned()),
            false => Outcome::Done(format!("set the generations and the memory aside: {}", kept.join(", "))),
        })
    }

    pub(super) fn publish(&self, guard: &Guard, component: &ComponentId, number: u32, file_name: &str) -> StepResult {
        let dir = &self.settings.paths.inactive_manifests;
        let path = dir.join(file_name);
        if !files::is_plain_name(file_name) {
            return Err(files::fault(io::ErrorKind::InvalidInput, &path, "is not the name of a manifest"));
        }
        let bytes = guard.manifest(component, number)?;
        files::make_dir(dir, DIR_MODE)?;
        let (mut published, _) = guard.published();
        let ours = |path: &Path, known: Option<&PublishedFile>| -> io::Result<Option<Digest>> {
            let digest = Digest::of(&files::read_bounded(path, MAX_BYTES)?);
            let written = known.is_some_and(|file| file.digest == digest);
            let numbers = guard.numbers(component);
            let kept = || numbers.iter().any(|n| guard.manifest_digest(component, *n).is_ok_and(|kept| kept == digest));
            Ok((written || kept()).then_some(digest))
        };
        let digest = Digest::of(&bytes);
        let mut so_already = false;
        match files::standing(&path)? {
            None => {}
            Some(metadata) if !metadata.is_file() => {
                let what = files::kind_of(&metadata);
                return refuse(format!("{} is a {what}; it is left as it is", path.display()));
            }
            Some(_) => match ours(&path, published.get(file_name)) {
                Ok(Some(standing)) => so_already = standing == digest,
                Ok(None) => {
                    return refuse(format!(
                        "{} was changed by hand and is left as it is; move it away, and lastgood writes generation \
                         {number} of {component} there",
                        path.display()
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return refuse(format!("{} was changed by hand ({error}); it is left as it is", path.display()));
                }
                Err(error) => return Err(error),
            },
        }
        if !so_already {
            let temp_dir = self.staging()?.tmp_for(dir)?;
            files::replace(&temp_dir, &path, &bytes, &Attributes::private())?;
        }
        // Its older names, unless the operator has made one of them theirs.
        let mut removed = Vec::new();
        let older: Vec<String> = published
            .iter()
            .filter(|(name, file)| file.component == *component && name.as_str() != file_name)
            .map(|(name, _)| name.clone())
            .collect();
        for name in older {
            let old = dir.join(&name);
            if files::is_plain_name(&name) && ours(&old, published.get(&name)).is_ok_and(|found| found.is_some()) {
                files::remove(&old)?;
                removed.push(name.clone());
            }
            published.remove(&name);
        }
        published.insert(file_name.to_owned(), PublishedFile { component: component.clone(), digest });
        guard.save_published(&published)?;
        let also = if removed.is_empty() { String::new() } else { format!(", and removed {}", removed.join(", ")) };
        let sentence = format!("{} holds generation {number} of {component}{also}", path.display());
        Ok(if so_already && also.is_empty() { Outcome::AlreadyDone(sentence) } else { Outcome::Done(sentence) })
    }
}
