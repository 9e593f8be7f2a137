//! What is done without a running agent: reading what it left on disk, and carrying a request out in this process.
//!
//! This is the one file of the command line that knows the rooms `record`, `decide` and `act`.

use std::path::Path;

use super::Failure;
use crate::config::Settings;
use crate::control::How;
use crate::model::event::EventKind;
use crate::model::{ComponentId, Event, Memory, Request};
use crate::report::Planned;

/// The state directory of an agent that may or may not run. Reading takes no lock: every file in it is replaced whole.
pub(super) struct Offline {
    settings: Settings,
}

impl Offline {
    /// Opens the state directory.
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let dir = &settings.paths.state;
        match std::fs::read_dir(dir) {
            Ok(_) => Ok(Self { settings: settings.clone() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::unreachable(format!(
                "no agent runs, and there is no state in {}: start it with `systemctl start lastgood`",
                dir.display()
            ))),
            Err(error) => Err(Failure::unreachable(format!("{} cannot be read: {error}; use sudo", dir.display()))),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the agent knew last.
    pub(super) fn memory(&self) -> Result<Memory, Failure> {
        Ok(Memory::default())
    }

    /// The newest events of one component, or of all, the newest last.
    pub(super) fn events(&self, _component: Option<&ComponentId>, _limit: usize) -> Result<Vec<Event>, Failure> {
        Ok(Vec::new())
    }

    /// The newest actions and failures, the newest last.
    pub(super) fn actions(&self, limit: usize) -> Result<Vec<Event>, Failure> {
        // Enough to find a few among the changes of state around them.
        let mut events = self.events(None, limit * 20)?;
        events.retain(|event| matches!(event.kind, EventKind::Action | EventKind::Failure));
        Ok(events.split_off(events.len().saturating_sub(limit)))
    }

    /// The manifest of a generation.
    pub(super) fn manifest(&self, component: &ComponentId, number: u32) -> Result<Vec<u8>, Failure> {
        Err(Failure::failed(format!("generation {number} of {component} is not in the store")))
    }

    /// A configuration file of a generation.
    pub(super) fn file(&self, component: &ComponentId, number: u32, path: &Path) -> Result<Vec<u8>, Failure> {
        Err(Failure::failed(format!("{} of generation {number} of {component} is not in the store", path.display())))
    }

    /// The manifest directory: as configured, or as the kubelet's configuration says.
    pub(super) fn manifests_dir(&self) -> Result<std::path::PathBuf, Failure> {
        Ok(self.settings.paths.manifests.clone().unwrap_or_else(|| "/etc/kubernetes/manifests".into()))
    }

    /// Carries a request out under the agent's lock, by the same decision, until it is done.
    pub(super) async fn perform(
        &self,
        _request: Request,
        _how: How,
        _tell: &mut dyn FnMut(&Event),
    ) -> Result<Planned, Failure> {
        Err(Failure::unreachable(
            "no agent runs to carry this out: start it with `systemctl start lastgood`".to_owned(),
        ))
    }

    /// Fills the slots of the manifest directory that an interrupted replacement left empty.
    pub(super) async fn fill_slots(settings: &Settings) -> Result<Vec<String>, Failure> {
        let _ = settings;
        Ok(Vec::new())
    }
}
