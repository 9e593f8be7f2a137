//! Restarts the kubelet or the container runtime with the configured commands: the last resort against a stalled one,
//! and against a kubelet that started without an API server and waits for it indefinitely.

use super::{Outcome, StepExecutor, StepResult, refuse};
use crate::model::Observation;
use crate::sys::command::{self, Input};

impl StepExecutor {
    pub(super) async fn restart_kubelet(&self, observation: &Observation) -> StepResult {
        if let Some(changed) = observation.kubelet.process.as_ref().and_then(|kubelet| kubelet.changed_since.as_ref()) {
            return refuse(format!(
                "the kubelet is not restarted: {} changed since it started, and a restart would load the change",
                changed.display()
            ));
        }
        let restart = &self.settings.policy.kubelet_restart;
        let shown = restart.join(" ");
        Ok(match command::run(restart, self.settings.kubelet.restart_timeout, Input::default()).await {
            Ok(()) => Outcome::Done(format!("restarted the kubelet: {shown}")),
            Err(why) => Outcome::Failed(format!("{shown} failed: {why}")),
        })
    }

    pub(super) async fn restart_runtime(&self) -> StepResult {
        let restart = &self.settings.policy.runtime_restart;
        let shown = restart.join(" ");
        Ok(match command::run(restart, self.settings.runtime.restart_timeout, Input::default()).await {
            Ok(()) => Outcome::Done(format!("restarted the container runtime: {shown}")),
            Err(why) => Outcome::Failed(format!("{shown} failed: {why}")),
        })
    }
}
