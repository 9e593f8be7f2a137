//! `lastgood rollback` and `quarantine`: shows the plan, carries it out, and follows it until the component serves.

use std::io::Write as _;

use tokio::sync::mpsc;

use super::{ConfirmArgs, Exit, Failure, out};
use crate::config::Settings;
use crate::control::Execution;
use crate::model::{ComponentId, Event, Request};
use crate::ops::backend::Backend;
use crate::ops::follow::{follow, outcome, tell, until};
use crate::report::{Format, Planned};

/// Asks for what puts another generation of this component in place, or may.
pub(super) async fn replace(
    settings: &Settings,
    component: ComponentId,
    request: Request,
    care: ConfirmArgs,
) -> Result<Exit, Failure> {
    let mut backend = Backend::open(settings).await?;
    let planned = backend.perform(request.clone(), Execution::DryRun, &mut tell).await?;
    if care.dry_run {
        return out::text(&care.output.print(&planned, |planned| show(&component, planned))?);
    }
    if care.output != Format::Text {
        return Err(Failure { exit: Exit::Usage, sentence: "-o goes with --dry-run".to_owned() });
    }
    out::text(&show(&component, &planned))?;
    // Nothing is taken down, so there is nothing to agree to, and nothing to follow.
    if !planned.replaces() {
        return backend.perform(request, Execution::ForReal, &mut tell).await.map(|_| Exit::Ok);
    }
    if !care.yes && !agreed()? {
        return Err(Failure { exit: Exit::Refused, sentence: "nothing was changed".to_owned() });
    }
    // Followed before it is asked for, so that the first event is not missed.
    let events = match &backend {
        Backend::Running(_) => Some(follow(settings, &component).await?),
        Backend::Stopped(_) => None,
    };
    backend.perform(request, Execution::ForReal, &mut tell).await?;
    match events {
        Some(events) => until_serving(&mut backend, &component, events).await,
        None => out::text(&format!("{component} serves\n")),
    }
}

fn show(component: &ComponentId, planned: &Planned) -> String {
    format!("{component}:\n{}", planned.text())
}

/// Asks the operator. Without one, nothing is done.
pub(super) fn agreed() -> Result<bool, Failure> {
    if !crate::journal::watched_by_a_person() {
        let sentence = "there is no terminal for the confirmation: give --yes to skip it".to_owned();
        return Err(Failure { exit: Exit::Refused, sentence });
    }
    eprint!("Proceed? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Shows progress until the component is where it should be.
async fn until_serving(
    backend: &mut Backend,
    component: &ComponentId,
    mut events: mpsc::Receiver<Event>,
) -> Result<Exit, Failure> {
    let found = until(backend, component, &mut events, outcome).await?;
    let generation = found.generation.map_or(String::new(), |number| format!(" generation {number}"));
    out::text(&format!("{component} serves{generation}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Answer, Asked, Call, Listener, serve};
    use crate::model::event::EventKind;
    use crate::report::status;
    use tokio::sync::broadcast;

    /// The status of a node with one component, in these states by turns.
    fn status(state: &str, rest: &str) -> status::Status {
        serde_json::from_str(&format!(
            r#"{{"at":"2026-11-22T20:00:00Z","node":"n","overall":"changing","sentence":"","agent":{{"process":
            {{"is":"running","pid":1,"since":"2026-11-22T20:00:00Z"}},"version":"0"}},"mode":"act","pause":null,"holds":[],
            "notices":[],"last":[],"components":[{{"component":"etcd","role":"etcd","verdict":"healthy","since":null,
            "state":"{state}","proof":"known-good","generation":1,"known_good":1,"note":"","next":""{rest}}}]}}"#
        ))
        .unwrap()
    }

    /// An agent that puts etcd back in two looks, and then says `last`. Needs root, as the socket does.
    async fn follow_an_agent(last: status::Status) -> Option<Result<Exit, Failure>> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.paths.run = dir.path().to_owned();
        let (tx, mut questions) = mpsc::channel::<Asked>(4);
        let (events, _) = broadcast::channel(4);
        tokio::spawn(serve(Listener::bind(&settings).await.unwrap(), tx, events.clone()));
        tokio::spawn(async move {
            let under_way = r#","replacement":{"from":2,"to":1,"why":"asked","stage":"awaiting-serving"}"#;
            let mut looks = 0;
            while let Some(asked) = questions.recv().await {
                let answer = match asked.ask {
                    Call::Do { request, how } => {
                        let away_seconds = Some((2, 20));
                        let planned = Planned { request, steps: Vec::new(), effects: Vec::new(), away_seconds };
                        if how == Execution::DryRun { Answer::Planned(planned) } else { Answer::Accepted(planned) }
                    }
                    _ if looks < 2 => Answer::Status(Box::new(status("RollingBack", under_way))),
                    _ => Answer::Status(Box::new(last.clone())),
                };
                looks += 1;
                let _ = events.send(Event {
                    at: jiff::Timestamp::UNIX_EPOCH,
                    kind: EventKind::Action,
                    component: Some("etcd".parse().unwrap()),
                    generation: Some(1),
                    from: None,
                    to: "put generation 1 in place".to_owned(),
                    because: "asked".to_owned(),
                });
                let _ = asked.reply.send(answer);
            }
        });
        let care = ConfirmArgs { dry_run: false, yes: true, output: Format::Text };
        let etcd: ComponentId = "etcd".parse().unwrap();
        let request = Request::Rollback { component: etcd.clone(), to: None };
        Some(replace(&settings, etcd, request, care).await)
    }

    #[tokio::test]
    async fn it_is_followed_until_it_serves() {
        if let Some(exit) = follow_an_agent(status("Steady", "")).await {
            assert_eq!(exit.unwrap(), Exit::Ok);
        }
    }

    #[tokio::test]
    async fn or_says_why_not() {
        let held = r#","held":{"why":"it crashed as well","next_step":"look at its log"}"#;
        if let Some(exit) = follow_an_agent(status("Held", held)).await {
            let failure = exit.unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert_eq!(failure.sentence, "etcd is held: it crashed as well; next step: look at its log");
        }
    }
}
