//! `lastgood run`: the service.

use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use super::{Exit, Failure};
use crate::config::Loaded;
use crate::control::{Answer, Ask, Asked, Listener, serve};
use crate::journal::{self, systemd::Notifier};
use crate::model::event::EventKind;
use crate::model::{Event, Memory};
use crate::report::{Agent, Material, Process, Status, systemd_line};

/// Events that a client that follows may lag behind.
const EVENTS_KEPT: usize = 256;
/// Questions that wait for the agent.
const QUESTIONS: usize = 16;

pub(super) async fn run(loaded: Loaded) -> Result<Exit, Failure> {
    let settings = loaded.settings;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = Listener::bind(&settings).await?;
    let (tx, mut questions) = mpsc::channel::<Asked>(QUESTIONS);
    let (events, _) = broadcast::channel(EVENTS_KEPT);
    let mut server = tokio::spawn(serve(listener, tx, events.clone()));

    let mut notifier = Notifier::default();
    let memory = Memory::default();
    let agent = Agent {
        process: Process::Running { pid: std::process::id(), since: Timestamp::now() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let status = || {
        Status::new(Material {
            now: Timestamp::now(),
            memory: &memory,
            judgement: None,
            agent: &agent,
            policy: &settings.policy,
            holds: &[],
            last: &[],
        })
    };
    tell(&events, &format!("started, version {}", agent.version), "");
    notifier.ready(&systemd_line(&status()));
    let mut pass = tokio::time::interval(settings.passes.interval);
    let why = loop {
        tokio::select! {
            _ = pass.tick() => {
                notifier.status(&systemd_line(&status()));
                notifier.pass_finished();
            }
            Some(asked) = questions.recv() => {
                let answer = match asked.ask {
                    Ask::Status => Answer::Status(Box::new(status())),
                    Ask::Explain { .. } => Answer::Explanations(Vec::new()),
                    Ask::Do { .. } | Ask::Follow { .. } => Answer::Failed("nothing can be done yet".to_owned()),
                };
                let _ = asked.reply.send(answer);
            }
            _ = terminate.recv() => break "it was told to stop",
            _ = interrupt.recv() => break "it was interrupted",
            ended = &mut server => {
                let why = match ended {
                    Ok(Err(error)) => error.to_string(),
                    Ok(Ok(())) => "nobody answers".to_owned(),
                    Err(error) => error.to_string(),
                };
                return Err(Failure::failed(format!("the control socket ended: {why}")));
            }
        }
    };
    notifier.stopping("stopping");
    tell(&events, "stopped", why);
    // The server ends when nobody takes its questions; its file goes with it.
    drop(questions);
    let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    Ok(Exit::Ok)
}

/// Tells what happens to the agent itself.
fn tell(events: &broadcast::Sender<Event>, to: &str, because: &str) {
    let event = Event {
        at: Timestamp::now(),
        kind: EventKind::Agent,
        component: None,
        generation: None,
        from: None,
        to: to.to_owned(),
        because: because.to_owned(),
    };
    journal::tell(&event);
    // Nobody may follow.
    let _ = events.send(event);
}
