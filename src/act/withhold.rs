//! Keeps kube-apiserver's manifest out of the manifest directory until another decision deploys it.
//!
//! ```text
//!   .lastgood/withheld/NAME   the generation to deploy later, synced before the manifest is removed
//!   .lastgood/slots/NAME      removed: every start of the agent would deploy it from there
//! ```
//!
//! No code reads `withheld/`. It is for the operator, if the state directory is lost or the package is removed.

use super::manifests::{attributes, stage_at};
use super::staging::Why;
use super::{Outcome, StepExecutor, StepResult, refuse};
use crate::model::{ComponentId, Observation};
use crate::record::Store;
use crate::sys::files;

impl StepExecutor {
    pub(super) fn withhold(
        &mut self,
        store: &Store,
        component: &ComponentId,
        number: u32,
        file_name: &str,
        observation: &Observation,
    ) -> StepResult {
        let path = self.manifest(file_name)?;
        let deployed = match self.look_again(file_name, observation) {
            Err(changed) => return refuse(changed),
            Ok(deployed) => deployed,
        };
        let bytes = store.manifest(component, number)?;
        let staging = self.staging()?;
        let attributes = attributes(&path, store, component, number)?;
        let kept = staging.withheld().join(file_name);
        stage_at(&staging, &kept, &bytes, &attributes)?;
        files::remove(&staging.slot(file_name))?;
        if deployed.is_none() {
            return Ok(Outcome::AlreadyDone(format!("{file_name} is out already; it is kept as {}", kept.display())));
        }
        staging.move_aside(&path, Why::TakenOut)?;
        self.emptied(file_name, observation);
        Ok(Outcome::Done(format!("took {file_name} out; it is kept as {} until it is put back", kept.display())))
    }
}
