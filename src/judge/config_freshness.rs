//! Whether the running process has loaded the deployed configuration (Q5): evidence counts only for what the process
//! has read.

use jiff::Timestamp;

use crate::model::observation::{ContainerRun, ContainerState, ImagePresence, ManifestFile, PodRun};
use crate::model::verdict::Reads;
use crate::model::{ComponentState, Manifest, Memory, Observation, Role};

/// The container that makes the pod what it is.
pub(super) fn main_container<'a>(run: &'a PodRun, manifest: Option<&Manifest>) -> Option<&'a ContainerRun> {
    let name = manifest.and_then(Manifest::main_container).map(|container| container.name.as_str());
    run.containers.iter().find(|c| Some(c.name.as_str()) == name).or_else(|| match name {
        Some(_) => None,
        None => run.containers.first(),
    })
}

/// When what is deployed now came to stand: as first noticed, where it was noticed before.
pub(super) fn standing_since(now: Timestamp, memory: &Memory, manifest: &Manifest, file: &ManifestFile) -> Timestamp {
    memory.components.get(&manifest.id).map_or(file.changed, |record| {
        record.standing_since(record.digest_of(manifest.digest, &file.closure), file.changed, now)
    })
}

/// When a container's process started, if it ever did.
pub(super) fn started(container: &ContainerRun) -> Option<Timestamp> {
    match container.state {
        ContainerState::Running { started } | ContainerState::Exited { started, .. } => Some(started),
        ContainerState::Created | ContainerState::Unknown => None,
    }
}

/// Whether this pod can be one of what is deployed. Another decoded pod has another UID, so its sandbox is made after
/// the manifest came to stand: an older pod that is restarted once more in between is not it. A changed file alone lets
/// the sandbox be.
pub(super) fn may_be_of(memory: &Memory, manifest: &Manifest, since: Timestamp, run: &PodRun) -> bool {
    let before = memory.components.get(&manifest.id).and_then(|record| {
        let number = match &record.state {
            ComponentState::Replacing(replacement) => replacement.from(),
            slot => slot.good(),
        };
        record.generations.get(&number?)
    });
    before.is_none_or(|before| before.pod_digest == manifest.digest) || run.created >= since
}

/// Whether this container's process is one of what is deployed.
pub(super) fn reads(seen: &Observation, manifest: &Manifest, since: Timestamp, container: &ContainerRun) -> Reads {
    let other = |why: String| Reads::Other { why };
    let Some(started) = started(container) else { return Reads::Nothing };
    if started < since {
        return other(format!("the process started {started:.0}, before its files changed {since:.0}"));
    }
    let wanted = manifest.main_container().and_then(|c| c.image.clone()).unwrap_or_default();
    if container.image != wanted {
        match seen.images.get(&wanted) {
            Some(ImagePresence::Present { id }) if *id == container.image_id => {}
            Some(_) => return other(format!("it runs image {}, the manifest names {wanted}", container.image)),
            None => {
                return Reads::CannotTell { why: format!("image {wanted} cannot be compared with the running one") };
            }
        }
    }
    // A program of the pod's own choosing may replace itself (a shell that execs); the four do not.
    if manifest.role != Role::Other {
        let wanted = manifest.command_line().filter(|line| !line.iter().any(|word| word.contains("$(")));
        if let (Some(wanted), Some(runs)) = (wanted, &container.command_line)
            && wanted != *runs
        {
            return other("the command line of the running process differs from the manifest".to_owned());
        }
    }
    Reads::All
}
