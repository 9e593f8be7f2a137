//! Who answers a command: the agent, where one runs, or else what it left on disk.

use jiff::Timestamp;

use super::Failure;
use super::offline::Offline;
use crate::config::Settings;
use crate::control::{Answer, Ask, Client, How, Reach};
use crate::model::plan::Refusal;
use crate::model::{ComponentId, Event, Request};
use crate::report::{Agent, Explanation, Material, Planned, Process, Status};

/// Whether something is done.
impl From<bool> for How {
    /// From `--dry-run`.
    fn from(dry_run: bool) -> Self {
        if dry_run { Self::DryRun } else { Self::ForReal }
    }
}

/// How many events an explanation shows.
const EVENTS_EXPLAINED: usize = 10;
/// How many events of note a status shows.
const EVENTS_OF_STATUS: usize = 5;

/// Who answers.
pub(super) enum Backend {
    /// The agent.
    Running(Client),
    /// What it left on disk; a change takes its lock and runs the same decision in this process.
    Stopped(Box<Offline>),
}

impl Backend {
    /// Finds out who answers.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        Ok(match Client::connect(settings).await? {
            Reach::Running(client) => Self::Running(client),
            Reach::Stopped => Self::Stopped(Box::new(Offline::open(settings)?)),
        })
    }

    /// The status.
    pub(super) async fn status(&mut self) -> Result<Status, Failure> {
        match self {
            Self::Running(client) => match client.ask(&Ask::Status).await? {
                Answer::Status(status) => Ok(*status),
                other => Err(unexpected(other)),
            },
            Self::Stopped(offline) => {
                let last = offline.of_note(EVENTS_OF_STATUS)?;
                offline.with_material(&last, Status::new)
            }
        }
    }

    /// The explanations of one component, or of all.
    pub(super) async fn explain(&mut self, component: Option<&ComponentId>) -> Result<Vec<Explanation>, Failure> {
        match self {
            Self::Running(client) => match client.ask(&Ask::Explain { component: component.cloned() }).await? {
                Answer::Explanations(explanations) => Ok(explanations),
                other => Err(unexpected(other)),
            },
            Self::Stopped(offline) => {
                let mut explanations = Vec::new();
                for id in offline.components(component)? {
                    let events = offline.events(Some(&id), EVENTS_EXPLAINED)?;
                    explanations.extend(offline.with_material(&[], |m| Explanation::new(m, &id, events))?);
                }
                Ok(explanations)
            }
        }
    }

    /// Asks for a change, or for its plan. With the agent stopped this returns when it is done, and `tell` hears the events;
    /// with the agent running it returns when it is under way.
    pub(super) async fn perform(
        &mut self,
        request: Request,
        how: How,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Planned, Failure> {
        match self {
            Self::Running(client) => match client.ask(&Ask::Do { request, how }).await? {
                Answer::Planned(planned) | Answer::Accepted(planned) => Ok(planned),
                other => Err(unexpected(other)),
            },
            Self::Stopped(offline) => offline.perform(request, how, tell).await,
        }
    }
}

/// An answer that is none to what was asked, as a failure.
pub(super) fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Refused(refusal) => refusal.into(),
        Answer::Failed(sentence) => Failure::unreachable(sentence),
        other => Failure::failed(format!("the agent answered something else: {other:?}")),
    }
}

impl Offline {
    /// Makes a report of what is on disk.
    fn with_material<T>(&self, last: &[Event], report: impl FnOnce(Material<'_>) -> T) -> Result<T, Failure> {
        let memory = self.memory()?;
        let agent = Agent { process: Process::Stopped, version: env!("CARGO_PKG_VERSION").to_owned() };
        Ok(report(Material {
            now: Timestamp::now(),
            memory: &memory,
            judgement: None,
            agent: &agent,
            policy: &self.settings().policy,
            holds: &[],
            last,
        }))
    }

    /// The components in question: the one that was asked for, which must exist, or all.
    pub(super) fn components(&self, asked: Option<&ComponentId>) -> Result<Vec<ComponentId>, Failure> {
        let known: Vec<ComponentId> = self.memory()?.components.into_keys().collect();
        match asked {
            None => Ok(known),
            Some(asked) if known.contains(asked) => Ok(vec![asked.clone()]),
            Some(asked) => Err(Refusal::no_such_component(asked, known.iter()).into()),
        }
    }
}
