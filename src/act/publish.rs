//! inactive-manifests: the last known-good manifest of each component, for a person with nothing but `cp`. Byte for byte,
//! under the file name it has in the manifest directory.
//!
//! What a person wrote there is an offer to us, and is not overwritten.

use std::io;
use std::path::Path;

use super::{Deed, Hands, Outcome, refuse};
use crate::model::manifest::MAX_BYTES;
use crate::model::{ComponentId, Digest};
use crate::record::{Guard, PublishedFile};
use crate::sys::files::{self, Attributes};

const DIR_MODE: u32 = 0o700;

impl Hands {
    pub(super) fn publish(&self, guard: &Guard, component: &ComponentId, number: u32, file_name: &str) -> Deed {
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
                        "{} was changed by hand and is left as it is; move it away to have generation {number} of \
                         {component} there",
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
        // Its older names, unless a person has made one of them theirs.
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
        Ok(if so_already && also.is_empty() { Outcome::Nothing(sentence) } else { Outcome::Done(sentence) })
    }
}
