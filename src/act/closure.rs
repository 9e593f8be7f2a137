//! Restores configuration files. The rules about key material (Q4) are enforced here a second time, against the file as
//! it is at this moment.

use std::fs;
use std::io;
use std::path::{Component, Path};

use super::staging::Why;
use super::{Outcome, StepExecutor, StepResult, refuse};
use crate::model::config_files::{self, MAX_FILE_BYTES};
use crate::model::{ClosureFile, ComponentId, Observation};
use crate::record::Store;
use crate::sys::files::{self, Attributes};

/// The mode of a directory that has to be made for a configuration file. The files guard themselves; a component that
/// runs as its own user must get to them.
const DIR_MODE: u32 = 0o755;

impl StepExecutor {
    pub(super) fn restore_file(
        &self,
        store: &Store,
        component: &ComponentId,
        number: u32,
        path: &Path,
        observation: &Observation,
    ) -> StepResult {
        let root = &self.settings.paths.kubernetes;
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain || !path.starts_with(root) {
            return refuse(format!(
                "{} is not below {}: lastgood writes nothing there",
                path.display(),
                root.display()
            ));
        }
        let kept = store.file(component, number, path)?;
        let now = (self.environment.look)(&ClosureFile { path: path.to_owned(), state: kept.state.clone() });
        if let Err(why) = config_files::may_replace(&now, &kept.state, observation.at.wall.as_second()) {
            return refuse(format!("{} of generation {number} is not restored: {why}", path.display()));
        }
        let standing = files::standing(path)?;
        let regular = standing.as_ref().is_some_and(fs::Metadata::is_file);
        let mut attributes = Attributes { mode: kept.mode, uid: kept.uid, gid: kept.gid, extended_from: None };
        if let Some(standing) = Attributes::of_standing(path)? {
            let same = (standing.mode, standing.uid, standing.gid) == (kept.mode, kept.uid, kept.gid);
            if same && files::read_bounded(path, MAX_FILE_BYTES).is_ok_and(|bytes| bytes == kept.bytes) {
                return Ok(Outcome::AlreadyDone(format!("{} is already as in generation {number}", path.display())));
            }
            attributes.extended_from = standing.extended_from;
        }
        let staging = self.staging()?;
        let dir = path.parent().unwrap_or(root);
        make_dirs(root, dir)?;
        let temp_dir = staging.tmp_for(dir)?;
        // Written first: on a full disk this fails before anything is touched.
        let new = files::write_new(&temp_dir, &kept.bytes, &attributes)?;
        let aside = match &standing {
            None => None,
            Some(metadata) if metadata.is_dir() => Some(staging.move_aside(path, Why::Replaced)?),
            Some(_) => match staging.link_aside(path, Why::Replaced) {
                // Another file system below /etc/kubernetes: no link leads out of it, so the bytes are copied.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices && regular => {
                    let bytes = files::read_bounded(path, MAX_FILE_BYTES)?;
                    let copy = files::write_new(&staging.tmp(), &bytes, &Attributes::private())?;
                    let name = path.file_name().unwrap_or_default();
                    let beside = staging.tmp().join(name);
                    files::put(copy, &beside)?;
                    Some(staging.move_aside(&beside, Why::Replaced)?)
                }
                linked => Some(linked?),
            },
        };
        files::put(new, path)?;
        let aside = aside.map_or(String::new(), |kept| format!("; the previous content is kept as {}", kept.display()));
        Ok(Outcome::Done(format!("restored {} of generation {number} of {component}{aside}", path.display())))
    }
}

/// Makes the directories from `root` down to `dir` that are missing. `root` itself is not made.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    let Ok(below) = dir.strip_prefix(root) else { return Ok(()) };
    let mut path = root.to_owned();
    for part in below {
        path.push(part);
        if !path.is_dir() {
            files::make_dir(&path, DIR_MODE)?;
        }
    }
    Ok(())
}
