//! Removes a directory that the runtime made for a pod that is rolled back: by rmdir(2), which refuses whatever is not empty.

use std::fs;
use std::io;
use std::path::Path;

use super::{Outcome, StepExecutor, StepResult, refuse};
use crate::model::{ComponentId, Memory, host_path};
use crate::sys::files;

impl StepExecutor {
    pub(super) async fn remove_directory(
        &self,
        component: &ComponentId,
        number: u32,
        path: &Path,
        memory: &Memory,
    ) -> StepResult {
        let shown = path.display();
        let absent = memory.components.get(component).and_then(|record| record.absent_paths.as_ref());
        let was_absent = absent.is_some_and(|absent| absent.generation == number && absent.paths.contains(path));
        if !was_absent || !host_path::is_plain(path) {
            return refuse(format!(
                "{shown} is not removed: the memory does not say that it was absent before generation {number} of {component}"
            ));
        }
        match files::standing(path)? {
            None => return Ok(Outcome::AlreadyDone(format!("{shown} does not exist any more"))),
            Some(found) if !found.is_dir() => {
                return refuse(format!("{shown} is not removed: it is {}", files::kind_of(&found)));
            }
            Some(_) => {}
        }
        if files::is_mount_point(path)? {
            return refuse(format!("{shown} is not removed: it is a mount point"));
        }
        // Last before the act: a container that was started meanwhile has it mounted.
        match self.user_of(path).await {
            Ok(None) => {}
            Ok(Some(container)) => return refuse(format!("{shown} is not removed: container {container} mounts it")),
            Err(why) => {
                return Ok(Outcome::Failed(format!(
                    "{shown} is not removed: whether a container uses it is unknown: {why}"
                )));
            }
        }
        match fs::remove_dir(path) {
            Ok(()) => {
                files::fsync_dir(files::dir_of(path))?;
                Ok(Outcome::Done(format!(
                    "removed the empty directory {shown}, made for generation {number} of {component}"
                )))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Outcome::AlreadyDone(format!("{shown} does not exist any more")))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => {
                refuse(format!("{shown} is not removed: {error}"))
            }
            Err(error) => Err(files::named("remove directory", path)(error)),
        }
    }
}
