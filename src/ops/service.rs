//! `lastgood run`: the service. One task runs the passes; timer, inotify, signals and requests only wake it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until};

use super::failure::{Exit, Failure};
use crate::agent::{Agent, Decided};
use crate::config::Loaded;
use crate::control::{Answer, Asked, Call, Execution, Listener, serve};
use crate::journal::{self, systemd::Notifier, textfile::Textfile};
use crate::model::event::EventKind;
use crate::model::{Event, Policy};
use crate::report::{self, Explanation, Planned, Process, ReportInput, Status, is_of_note, systemd_line};
use crate::sys::clock;

/// Events that a client that follows may lag behind.
const EVENTS_KEPT: usize = 256;
/// Questions that wait for the agent.
const QUESTIONS: usize = 16;
/// Events an explanation shows.
const EVENTS_EXPLAINED: usize = 10;
/// Significant events a status shows.
const SHOWN: usize = 5;

pub(crate) async fn run(loaded: Loaded) -> Result<Exit, Failure> {
    let settings = loaded.settings;
    for old in &loaded.old_names {
        tracing::warn!("{old}; lastgood takes both, and {} renames it", old.next_step());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (mut agent, found) = Agent::start(&settings).await.map_err(|error| Failure::failed(error.to_string()))?;
    agent.start_features();
    let listener = Listener::bind(&settings).await?;
    let (tx, mut questions) = mpsc::channel::<Asked>(QUESTIONS);
    let (events, _) = broadcast::channel(EVENTS_KEPT);
    let mut server = tokio::spawn(serve(listener, tx, events.clone()));

    let about = report::Agent {
        process: Process::Running { pid: std::process::id(), since: Timestamp::now() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut service = Service { agent, about, policy: settings.policy.clone(), events, last: Vec::new() };
    // A restart is no reason to forget what was done an hour ago.
    let mut before = service.agent.store().history(None, SHOWN * 20).events;
    before.retain(is_of_note);
    service.last = before.split_off(before.len().saturating_sub(SHOWN));
    let started = format!("started, version {}", service.about.version);
    let place = service.agent.environment();
    let because = format!("it observes {} ({})", place.manifests.value.display(), place.manifests.from);
    service.tell([happened(&started, &because)], Keep::InHistory);
    service.tell(found, Keep::InHistory);

    let mut notifier = Notifier::default();
    let mut textfile = Textfile::wanted(&settings);
    let mut ready = false;
    let why = loop {
        let events = service.agent.pass().await;
        service.tell(events, Keep::IsKept);
        let status = service.status();
        service.agent.after_status(status.overall, &status.sentence);
        let line = systemd_line(&status);
        if let Some(textfile) = &mut textfile {
            let trouble = textfile.keep(&line, || status.metrics()).await;
            let told = trouble
                .map(|why| Event::new(clock::now().wall, EventKind::Failure, None, unwritten(&why), WRITTEN_AGAIN));
            service.tell(told, Keep::InHistory);
        }
        if ready {
            notifier.status(&line);
        } else {
            notifier.ready(&line);
            ready = true;
        }
        notifier.pass_finished();
        let next = Instant::now() + service.agent.rest();
        let end = tokio::select! {
            () = sleep_until(next) => None,
            woken = service.agent.woken_or_told() => {
                service.tell(woken, Keep::InHistory);
                None
            }
            Some(asked) = questions.recv() => {
                service.answer(asked).await;
                None
            }
            _ = terminate.recv() => Some("it received SIGTERM"),
            _ = interrupt.recv() => Some("it was interrupted"),
            ended = &mut server => {
                let why = match ended {
                    Ok(Err(error)) => error.to_string(),
                    Ok(Ok(())) => "no answer".to_owned(),
                    Err(error) => error.to_string(),
                };
                return Err(Failure::failed(format!("the control socket ended: {why}")));
            }
        };
        if let Some(why) = end {
            break why;
        }
    };
    notifier.stopping("stopping");
    let settled = service.agent.settle();
    service.tell(settled, Keep::InHistory);
    service.tell([happened("stopped", why)], Keep::InHistory);
    if let Some(textfile) = textfile {
        service.about.process = Process::Stopped;
        textfile.end(service.status().metrics()).await;
    }
    // The server ends when nobody takes its questions; its file goes with it.
    drop(questions);
    let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    Ok(Exit::Ok)
}

fn unwritten(why: &str) -> String {
    format!("the metrics cannot be written: {why}; next: see whether the directory of metrics.textfile exists")
}

const WRITTEN_AGAIN: &str = "lastgood writes them again when they are due";

/// The agent with its listeners.
struct Service {
    agent: Agent,
    about: report::Agent,
    policy: Policy,
    events: broadcast::Sender<Event>,
    /// The latest significant events, for the status.
    last: Vec<Event>,
}

/// Whether an event still has to go into the history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// The pass that made it has written it there.
    IsKept,
    InHistory,
}

impl Service {
    fn tell(&mut self, events: impl IntoIterator<Item = Event>, keep: Keep) {
        for event in events {
            journal::tell(&event);
            if keep == Keep::InHistory {
                self.agent.remember(&event);
            }
            if is_of_note(&event) {
                self.last.push(event.clone());
                let over = self.last.len().saturating_sub(SHOWN);
                self.last.drain(..over);
            }
            // Nobody may follow.
            let _ = self.events.send(event);
        }
    }

    async fn answer(&mut self, asked: Asked) {
        let answer = match asked.ask {
            Call::Status => Answer::Status(Box::new(self.status())),
            Call::Explain { component } => self.explain(component.as_ref()),
            Call::Do { request, how: Execution::DryRun } => {
                let Decided { before, decision, granted } = self.agent.plan(&request).await;
                match granted {
                    Ok(()) => Answer::Planned(Planned::new(&request, &before, &decision)),
                    Err(refusal) => Answer::Refused(refusal),
                }
            }
            Call::Do { request, how: Execution::ForReal } => {
                let (events, Decided { before, decision, granted }) = self.agent.pass_request(&request).await;
                self.tell(events, Keep::IsKept);
                match granted {
                    Ok(()) => Answer::Accepted(Planned::new(&request, &before, &decision)),
                    Err(refusal) => Answer::Refused(refusal),
                }
            }
            Call::Follow { .. } => Answer::Failed("events are followed through the socket's own server".to_owned()),
        };
        // A client that has gone away is no error.
        let _ = asked.reply.send(answer);
    }

    fn status(&self) -> Status {
        self.report(Status::new)
    }

    fn explain(&self, component: Option<&crate::model::ComponentId>) -> Answer {
        let events = |id: &crate::model::ComponentId| self.agent.store().history(Some(id), EVENTS_EXPLAINED).events;
        match self.report(|material| Explanation::of(material, component, events)) {
            Ok(explanations) => Answer::Explanations(explanations),
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn report<T>(&self, make: impl FnOnce(ReportInput<'_>) -> T) -> T {
        let features = self.agent.features();
        make(ReportInput {
            now: Timestamp::now(),
            memory: self.agent.memory(),
            judgement: self.agent.judgement(),
            agent: &self.about,
            policy: &self.policy,
            inhibitors: self.agent.inhibitors(),
            features: &features,
            figures: matches!(self.about.process, Process::Running { .. }).then(|| self.agent.figures()),
            last: &self.last,
        })
    }
}

/// Something that happened to the agent itself.
fn happened(to: &str, because: &str) -> Event {
    Event::new(clock::now().wall, EventKind::Agent, None, to, because)
}
