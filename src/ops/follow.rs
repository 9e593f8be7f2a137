//! A component that is followed while the agent replaces or suspends it: its events, and a look at its state in between.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::backend::{Backend, unexpected};
use super::failure::Failure;
use crate::config::Settings;
use crate::control::{Answer, Call, Client, Reach};
use crate::model::{ComponentId, Event};
use crate::report::{status, text};

/// How long progress is followed. The agent has its own deadlines and continues; the operator need not wait longer.
const FOLLOW: Duration = Duration::from_secs(600);
/// Between two looks at the component while it is followed; events come at once.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn tell(event: &Event) {
    eprintln!("{}", text::event(event));
}

/// The component's events, from now on.
pub(crate) async fn follow(settings: &Settings, component: &ComponentId) -> Result<mpsc::Receiver<Event>, Failure> {
    let Reach::Running(mut client) = Client::connect(settings).await? else {
        return Err(Failure::unreachable("the agent has stopped: nothing was changed".to_owned()));
    };
    match client.ask(&Call::Follow { component: Some(component.clone()) }).await? {
        Answer::Following => {}
        other => return Err(unexpected(other)),
    }
    let (tx, rx) = mpsc::channel(64);
    // Its own task: reading a line must not be interrupted in its middle.
    tokio::spawn(async move {
        while let Ok(Some(answer)) = client.next().await {
            if let Answer::Event(event) = answer
                && tx.send(event).await.is_err()
            {
                return;
            }
        }
    });
    Ok(rx)
}

/// Shows progress until the component is somewhere.
pub(crate) async fn until(
    backend: &mut Backend,
    component: &ComponentId,
    events: &mut mpsc::Receiver<Event>,
    outcome: fn(&status::Component) -> Outcome,
) -> Result<status::Component, Failure> {
    let deadline = Instant::now() + FOLLOW;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stage = String::new();
    while let Ok(event) = timeout_at(deadline, next(events, &mut look)).await {
        if let Some(event) = event {
            tell(&event);
            continue;
        }
        let status = backend.status().await?;
        let found = status.components.into_iter().find(|found| &found.component == component);
        let Some(found) = found else {
            return Err(Failure::failed(format!("{component} is no longer known to the agent")));
        };
        match outcome(&found) {
            Outcome::UnderWay(now) if now != stage => {
                eprintln!("{now}");
                stage = now;
            }
            Outcome::UnderWay(_) => {}
            Outcome::There => {
                // What was told between the last event and this look.
                while let Ok(event) = events.try_recv() {
                    tell(&event);
                }
                return Ok(found);
            }
            Outcome::Failed(why) => return Err(Failure::failed(why)),
        }
    }
    Err(Failure::failed(format!(
        "{component} is not deployed after {} s; the agent continues: `lastgood status --watch` shows its progress",
        FOLLOW.as_secs()
    )))
}

/// The next event, or none when it is time to look.
async fn next(events: &mut mpsc::Receiver<Event>, look: &mut tokio::time::Interval) -> Option<Event> {
    tokio::select! {
        // A closed channel is quiet: the looks go on without it.
        Some(event) = events.recv() => Some(event),
        _ = look.tick() => None,
    }
}

/// How far a component is on its way.
pub(crate) enum Outcome {
    /// On it, in words.
    UnderWay(String),
    /// At its end.
    There,
    /// It will not come there.
    Failed(String),
}

/// Whether a replacement is over.
pub(crate) fn outcome(component: &status::Component) -> Outcome {
    let id = &component.component;
    if let Some(held) = &component.held {
        return Outcome::Failed(format!("{id} is held: {}; next step: {}", held.why, held.next_step));
    }
    match &component.replacement {
        Some(replacement) => Outcome::UnderWay(format!("{id}: {}", replacement.stage)),
        None => Outcome::There,
    }
}
