//! Where a command gets its answer: from the agent if one runs, or else from the state on disk.
//!
//! ```text
//!   socket answers ──────────────────────────────────────────▶ Running
//!      │ no                           ┌── socket answers ──▶ Running
//!      ├─ an agent holds the lock ── waits for it to start ── not in time ──▶ warning, Stopped
//!      └─ nobody does, or a command ──▶ Stopped
//! ```

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::offline::Offline;
use crate::config::Settings;
use crate::control::{Answer, Call, Client, Execution, Reach};
use crate::model::inhibitor::Inhibitor;
use crate::model::observation::Node;
use crate::model::plan::Refusal;
use crate::model::policy::Mode;
use crate::model::{ComponentId, Event, Request};
use crate::report::{Agent, Explanation, Planned, Process, ReportInput, Status};

/// Whether something is done.
impl From<bool> for Execution {
    /// From `--dry-run`.
    fn from(dry_run: bool) -> Self {
        if dry_run { Self::DryRun } else { Self::ForReal }
    }
}

/// How many events an explanation shows.
const EVENTS_EXPLAINED: usize = 10;
/// How many significant events a status shows.
const EVENTS_OF_STATUS: usize = 5;

/// From the lock, which an agent takes first, to its socket: the first look at a node, of which the disks and the runtime
/// take the longest.
const START: Duration = Duration::from_secs(10);
/// Between two looks for the socket of an agent that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) enum Backend {
    Running(Client),
    /// What it left on disk; a change takes its lock and runs the same decision in this process.
    Stopped(Box<Offline>),
}

impl Backend {
    /// Finds out who answers.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Failure> {
        if let Reach::Running(client) = Client::connect(settings).await? {
            return Ok(Self::Running(client));
        }
        let deadline = Instant::now() + START;
        while let Some(pid) = Offline::agent(settings) {
            sleep(LOOK_AGAIN).await;
            if let Reach::Running(client) = Client::connect(settings).await? {
                return Ok(Self::Running(client));
            }
            if Instant::now() >= deadline {
                let waited = START.as_secs();
                eprintln!("an agent (pid {pid}) holds the lock, and has not answered within {waited} s");
                break;
            }
        }
        Ok(Self::Stopped(Box::new(Offline::open(settings)?)))
    }

    pub(crate) async fn status(&mut self) -> Result<Status, Failure> {
        match self {
            Self::Running(client) => match client.ask(&Call::Status).await? {
                Answer::Status(status) => Ok(*status),
                other => Err(unexpected(other)),
            },
            Self::Stopped(offline) => {
                let last = offline.of_note(EVENTS_OF_STATUS);
                offline.with_material(&last, Status::new)
            }
        }
    }

    /// The explanations of one component, or of all.
    pub(crate) async fn explain(&mut self, component: Option<&ComponentId>) -> Result<Vec<Explanation>, Failure> {
        match self {
            Self::Running(client) => match client.ask(&Call::Explain { component: component.cloned() }).await? {
                Answer::Explanations(explanations) => Ok(explanations),
                other => Err(unexpected(other)),
            },
            Self::Stopped(offline) => {
                let events = |id: &ComponentId| offline.events(Some(id), EVENTS_EXPLAINED);
                Ok(offline.with_material(&[], |material| Explanation::of(material, component, events))??)
            }
        }
    }

    /// Asks for a change, or for its plan. With the agent stopped this returns when it is done, and `tell` hears the events;
    /// with the agent running it returns when it is under way.
    pub(crate) async fn perform(
        &mut self,
        request: Request,
        how: Execution,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Planned, Failure> {
        match self {
            Self::Running(client) => match client.ask(&Call::Do { request, how }).await? {
                Answer::Planned(planned) | Answer::Accepted(planned) => Ok(planned),
                other => Err(unexpected(other)),
            },
            Self::Stopped(offline) => offline.perform(request, how, tell).await,
        }
    }
}

/// An answer that is none to what was asked, as a failure.
pub(crate) fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Refused(refusal) => refusal.into(),
        Answer::Failed(sentence) => Failure::unreachable(sentence),
        other => Failure::failed(format!("the agent gave an unexpected answer: {other:?}")),
    }
}

impl Offline {
    /// Makes a report of what is on disk.
    fn with_material<T>(&self, last: &[Event], report: impl FnOnce(ReportInput<'_>) -> T) -> Result<T, Failure> {
        let memory = self.memory()?;
        let node = Node { newer_state: self.newer_state(&memory), ..Node::default() };
        // Of the reasons that are on disk: an agent that starts has this one.
        let newer = Inhibitor::all(&node, Mode::Act, None);
        let agent = Agent { process: Process::Stopped, version: env!("CARGO_PKG_VERSION").to_owned() };
        Ok(report(ReportInput {
            now: Timestamp::now(),
            memory: &memory,
            judgement: None,
            agent: &agent,
            policy: &self.settings().policy,
            inhibitors: &newer,
            features: &self.features(&memory),
            figures: None,
            last,
        }))
    }

    /// The components in question: the one that was asked for, which must exist, or all.
    pub(crate) fn components(&self, asked: Option<&ComponentId>) -> Result<Vec<ComponentId>, Failure> {
        let known: Vec<ComponentId> = self.memory()?.components.into_keys().collect();
        match asked {
            None => Ok(known),
            Some(asked) if known.contains(asked) => Ok(vec![asked.clone()]),
            Some(asked) => Err(Refusal::no_such_component(asked, known.iter()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::control::socket_path;

    struct Holder {
        child: Child,
        dir: tempfile::TempDir,
        settings: Settings,
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// A process that has the lock file open, under this name.
    fn holder(word: &str) -> Holder {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.paths.state = dir.path().to_owned();
        settings.paths.run = dir.path().to_owned();
        let lock = dir.path().join("lock");
        let script = format!("exec 9<>{0}; echo $$ >{0}; read -r _", lock.display());
        let mut holder = Command::new("sh");
        let child = holder.args(["-c", &script, "lastgood", word]).stdin(Stdio::piped()).spawn().unwrap();
        while std::fs::read_to_string(&lock).is_ok_and(|pid| pid.is_empty()) || !lock.exists() {
            std::thread::yield_now();
        }
        Holder { child, dir, settings }
    }

    #[tokio::test]
    async fn an_agent_that_is_starting_is_waited_for() {
        let agent = holder("run");
        let socket = socket_path(&agent.settings);
        let listens = async {
            // It has been asked without success once when this runs.
            sleep(LOOK_AGAIN * 2).await;
            tokio::net::UnixListener::bind(socket).unwrap()
        };
        let (backend, _listener) = tokio::join!(Backend::open(&agent.settings), listens);
        assert!(matches!(backend.unwrap(), Backend::Running(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_never_answers_is_waited_for_so_long_and_a_command_not_at_all() {
        let (agent, command) = (holder("run"), holder("rollback"));
        for (holder, waited) in [(&agent, START), (&command, Duration::ZERO)] {
            let began = Instant::now();
            let backend = Backend::open(&holder.settings).await.unwrap();
            assert!(matches!(backend, Backend::Stopped(_)));
            assert_eq!(began.elapsed().as_secs(), waited.as_secs(), "{}", holder.dir.path().display());
        }
    }
}
