//! The executor: the only code of a pass that changes the node (a restore of etcd is in `etcd/restore`). One step in, one [`Outcome`] out, each safe to repeat.
//!
//! ```text
//!   Step ──▶ check again (Q15) ──▶ action ──▶ Done        what was done
//!                 │                     │     Nothing     nothing was to do
//!                 ▼                     ▼     Failed      why not; the next pass tries again
//!              Refused: the node is not as decide saw it, the next pass observes it again
//! ```
//!
//! Manifests come and go by rename, from and to the staging directory ([`staging`]). Before a manifest is taken out,
//! its successor is in staging, and [`finish_interrupted`] deploys that one whatever happens to the agent (Q11).

mod closure;
#[cfg(test)]
mod crash_tests;
mod data;
mod directory;
mod manifests;
mod publish;
mod runtime;
mod services;
mod slots;
mod staging;
#[cfg(test)]
mod tests;
mod withhold;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Settings;
use crate::model::observation::ManifestFile;
use crate::model::{ClosureFile, ComponentId, FileState, Memory, Moment, Observation, Step};
use crate::record::{Captured, Capturing, Guard};
use crate::sys::files::{Attributes, Written};

use manifests::{PutIn, TakeOut};

pub use slots::{fill_slots, finish_interrupted};

/// How a step went. Each carries a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was done.
    Done(String),
    /// It was so already.
    AlreadyDone(String),
    /// The node is not as decide saw it (Q15): nothing was done.
    Refused(String),
    /// It was tried and did not succeed.
    Failed(String),
}

/// How act looks at a file of a closure again: with the eyes of observe, so that both mean the same by "key material".
pub type Look = Arc<dyn Fn(&ClosureFile) -> FileState + Send + Sync>;

/// What was found out about the node that the settings may leave open.
#[derive(Clone)]
pub struct Environment {
    /// The directory the kubelet reads static pods from.
    pub manifests: PathBuf,
    /// The container runtime's socket, `unix:///…`, if there is one.
    pub runtime: Option<String>,
    /// How to look at a file of a closure.
    pub look: Look,
}

#[derive(Debug)]
pub struct StepExecutor {
    settings: Settings,
    environment: Environment,
    /// The files we took out since the observation of that moment was made: it still shows them.
    emptied: Option<(Moment, BTreeSet<String>)>,
}

/// How an action went: an error is an [`Outcome::Failed`].
type StepResult = io::Result<Outcome>;

fn refuse(sentence: String) -> StepResult {
    Ok(Outcome::Refused(sentence))
}

impl StepExecutor {
    /// Hands for this node. Nothing is touched yet.
    pub fn new(settings: &Settings, environment: Environment) -> Self {
        Self { settings: settings.clone(), environment, emptied: None }
    }

    /// Takes one step. The memory is the one that was saved as the intent, the observation the one it was decided by.
    ///
    /// File work is done on the calling thread: it is small, and nothing else may happen before it is done. What waits
    /// for others (runtime, kubelet) is awaited, with a deadline.
    pub async fn take(&mut self, guard: &Guard, step: &Step, memory: &Memory, observation: &Observation) -> Outcome {
        let deed = match step {
            Step::Capture { component, number, file } => self.capture(guard, component, *number, file, memory),
            Step::Publish { component, number, file_name } => self.publish(guard, component, *number, file_name),
            Step::TakeOut { component, file_name, successor, successor_name } => {
                let what = TakeOut { component, file_name, successor: *successor, successor_name };
                self.take_out(guard, &what, memory, observation)
            }
            Step::Withhold { component, number, file_name } => {
                self.withhold(guard, component, *number, file_name, observation)
            }
            Step::PutIn { component, number, file_name } => {
                let what = PutIn { component, number: *number, file_name };
                self.put_in(guard, &what, memory, observation)
            }
            Step::RestoreFile { component, number, path } => {
                self.restore_file(guard, component, *number, path, observation)
            }
            Step::RemoveDirectory { component, number, path } => {
                self.remove_directory(component, *number, path, memory).await
            }
            Step::MoveOut { component, file_name } => self.move_out(component, file_name, observation),
            Step::StopContainer { component, container, grace } => {
                self.stop_container(component, container, *grace).await
            }
            Step::RemoveContainer { component, container } => self.remove_container(component, container).await,
            Step::StopSandbox { component, sandbox } => self.stop_sandbox(component, sandbox).await,
            Step::SetMemoryAside => self.set_memory_aside(guard),
            Step::RestartKubelet => self.restart_kubelet(observation).await,
            Step::RestartRuntime => self.restart_runtime().await,
            Step::Forget { component, number } => forget(guard, component, *number),
        };
        deed.unwrap_or_else(|error| Outcome::Failed(error.to_string()))
    }

    fn capture(
        &self,
        guard: &Guard,
        component: &ComponentId,
        number: u32,
        file: &ManifestFile,
        memory: &Memory,
    ) -> StepResult {
        let generation = memory.components.get(component).and_then(|record| record.generations.get(&number));
        let Some(generation) = generation else {
            return refuse(format!("generation {number} of {component} is not in the memory, so it is not stored"));
        };
        let attributes = Attributes::of_standing(&self.manifest(&file.name)?)?.unwrap_or_else(Attributes::private);
        let captured =
            guard.capture(&Capturing { component, generation, file, attributes, machine: &memory.machine })?;
        Ok(match captured {
            Captured::Now => Outcome::Done(format!("stored {} as generation {number} of {component}", file.name)),
            Captured::Already => Outcome::AlreadyDone(format!("generation {number} of {component} is stored already")),
        })
    }

    /// Remembers that we emptied this slot, for the rest of this observation.
    fn emptied(&mut self, name: &str, observation: &Observation) {
        match &mut self.emptied {
            Some((at, names)) if *at == observation.at => {
                names.insert(name.to_owned());
            }
            _ => self.emptied = Some((observation.at, BTreeSet::from([name.to_owned()]))),
        }
    }

    fn was_emptied(&self, name: &str, observation: &Observation) -> bool {
        self.emptied.as_ref().is_some_and(|(at, names)| *at == observation.at && names.contains(name))
    }
}

fn forget(guard: &Guard, component: &ComponentId, number: u32) -> StepResult {
    Ok(match guard.forget(component, number)? {
        Written::Changed => Outcome::Done(format!("removed generation {number} of {component}")),
        Written::AlreadySo => Outcome::AlreadyDone(format!("generation {number} of {component} is removed already")),
    })
}

impl Outcome {
    pub fn sentence(&self) -> &str {
        match self {
            Self::Done(sentence) | Self::AlreadyDone(sentence) | Self::Refused(sentence) | Self::Failed(sentence) => {
                sentence
            }
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifests, runtime, look: _ } = self;
        f.debug_struct("Surroundings").field("manifests", manifests).field("runtime", runtime).finish_non_exhaustive()
    }
}
