//! What the agent reported during a run, and which part of it goes into the table.
//!
//! Its history has every line of its journal with the time to the millisecond; its explanation is requested during the
//! run. This module selects the sentences for verdict, cause and action; it adds none.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifests::Component;

/// One line of its history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Event {
    /// Seconds since the fault.
    pub after: f64,
    /// `verdict`, `state`, `generation`, `action`, `failure`, `notice`, `request` or `agent`.
    pub kind: String,
    /// About whom; none for the node.
    pub component: Option<String>,
    /// The state left.
    pub from: Option<String>,
    /// The state entered, or what was done.
    pub to: String,
    /// Why.
    pub because: String,
}

/// How it explained the component that the fault hit, or the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Explained {
    /// Seconds since the fault.
    pub after: f64,
    /// The verdict's word.
    pub verdict: String,
    /// What lies beneath.
    pub cause: Option<String>,
    /// Its state, in words.
    pub state: String,
    /// What comes next.
    pub next: String,
    /// What a person should know.
    pub notices: Vec<String>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, component, from, to, because, .. } = self;
        write!(f, "{kind}: ")?;
        component.iter().try_for_each(|component| write!(f, "{component}: "))?;
        from.iter().try_for_each(|from| write!(f, "{from} -> "))?;
        f.write_str(to)?;
        if because.is_empty() { Ok(()) } else { write!(f, ", because {because}") }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, cause, state, next, notices, .. } = self;
        write!(f, "{verdict}; {}; {state}; {next}; {notices:?}", cause.as_deref().unwrap_or("no cause"))
    }
}

impl Explained {
    /// From `explain COMPONENT -o json`, or from `status -o json` where the fault hits no component.
    pub(super) fn new(after: f64, said: &Value) -> Self {
        let said = said.pointer("/items/0").unwrap_or(said);
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let notices = said["notices"].as_array().into_iter().flatten();
        let notice = |notice: &Value| notice.as_str().or(notice["text"].as_str()).unwrap_or_default().to_owned();
        Self {
            after,
            verdict: text("verdict"),
            cause: said["cause"].as_str().map(str::to_owned),
            state: said["state"].as_str().or(said["sentence"].as_str()).unwrap_or_default().to_owned(),
            next: text("next"),
            notices: notices.map(notice).collect(),
        }
    }

    /// Whether it says the same as another.
    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.verdict, &self.cause, &self.notices) == (&other.verdict, &other.cause, &other.notices)
    }
}

/// The agent's history since a moment.
///
/// # Errors
/// When it cannot be read.
pub(super) fn history(path: &Path, since: Timestamp) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| event(line, since)).filter(|event| event.after >= 0.0).collect())
}

fn event(line: &str, since: Timestamp) -> Option<Event> {
    let line: Value = serde_json::from_str(line).ok()?;
    let event = &line["event"];
    let at: Timestamp = event["at"].as_str()?.parse().ok()?;
    let text = |key: &str| event[key].as_str().map(str::to_owned);
    let component = text("component").map(|id| id.rsplit('/').next().unwrap_or_default().to_owned());
    Some(Event {
        after: at.duration_since(since).as_secs_f64(),
        kind: text("kind")?,
        component,
        from: text("from"),
        to: text("to")?,
        because: text("because").unwrap_or_default(),
    })
}

/// What of a run goes into the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Its verdicts on what the fault hit until it did something, in the order it came to them.
    pub verdict: String,
    /// What it named as the cause.
    pub cause: String,
    /// What it did.
    pub action: String,
    /// When it first told of the fault, in seconds after it.
    pub detected: Option<f64>,
    /// When it first told the cause.
    pub explained: Option<f64>,
}

impl Told {
    /// Of what was told about a component, or about the node.
    pub(super) fn new(subject: Option<Component>, events: &[Event], explained: &[Explained]) -> Self {
        let hit = |event: &&Event| match &event.component {
            Some(component) => subject.is_some_and(|subject| subject.name() == component),
            None => true,
        };
        let ours: Vec<&Event> = events.iter().filter(hit).filter(|event| tells_of_a_fault(event)).collect();
        let deeds = events.iter().filter(|event| event.kind == "action");
        let deed = deeds.clone().map(|event| event.after).next().unwrap_or(f64::INFINITY);
        let (cause, since) = cause(&ours, explained, deed);
        let mut actions: Vec<&str> = Vec::new();
        for event in deeds {
            if !actions.contains(&event.to.as_str()) {
                actions.push(&event.to);
            }
        }
        let action = match (actions.is_empty(), ours.is_empty()) {
            (false, _) => actions.join("; "),
            (true, false) => "told".to_owned(),
            (true, true) => "-".to_owned(),
        };
        let detected = ours.first().map(|event| event.after);
        Self { verdict: verdicts(&ours, deed), cause, action, detected, explained: since }
    }
}

/// The words of verdicts and of states that are as good as one, until the first deed.
fn verdicts(ours: &[&Event], deed: f64) -> String {
    let mut words: Vec<&str> = Vec::new();
    for event in ours.iter().filter(|event| event.after <= deed) {
        let word = event.to.split(['(', ' ']).next().unwrap_or_default();
        let counts = event.kind == "verdict" || (event.kind == "state" && ["Missing", "Held"].contains(&word));
        if counts && !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "-".to_owned() } else { words.join(", then ") }
}

/// What it named as the cause, and when it first said so: why a generation was given up, else what lies beneath, else why
/// it left its known-good state, else what the first verdict stands on, else the first that it had to tell.
fn cause(ours: &[&Event], explained: &[Explained], deed: f64) -> (String, Option<f64>) {
    let why = |kind: &str, words: &[&str]| {
        let fits = |event: &&&Event| {
            let said = words.is_empty() || words.iter().any(|word| event.to.starts_with(word));
            event.kind == kind && said && !event.because.is_empty()
        };
        ours.iter().find(fits).map(|event| event.because.clone())
    };
    let beneath = || explained.iter().rev().filter(|explained| explained.after <= deed).find_map(|e| e.cause.clone());
    let first = || ours.first().map(|event| event.to.clone());
    let cause = why("generation", &[])
        .or_else(beneath)
        .or_else(|| why("state", &["RollingBack", "Missing", "Held"]))
        .or_else(|| why("verdict", &[]))
        .or_else(|| why("state", &[]))
        .or_else(first);
    let Some(cause) = cause else { return ("-".to_owned(), None) };
    let lines = ours.iter().filter(|event| event.because.contains(&cause) || event.to.contains(&cause));
    let line = lines.map(|event| event.after).next();
    let shown = explained.iter().find(|explained| explained.cause.as_ref() == Some(&cause)).map(|e| e.after);
    let since = [line, shown].into_iter().flatten().reduce(f64::min);
    (cause, since)
}

/// Whether a line names something as wrong: a verdict that is not good, a state that is none of health, a generation
/// given up, a notice, a deed. That a manifest has changed is no fault yet.
fn tells_of_a_fault(event: &Event) -> bool {
    let any = |words: &[&str]| words.iter().any(|word| event.to.contains(word));
    match event.kind.as_str() {
        "verdict" => any(&["Failing", "Stalled", "Down", "Unknown"]),
        "state" => any(&["-> RollingBack", "RollingBack(", "Held", "Missing", "restart"]),
        "generation" => any(&["quarantined"]),
        "notice" | "action" | "failure" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(after: f64, kind: &str, component: &str, to: &str, because: &str) -> Event {
        let component = (!component.is_empty()).then(|| component.to_owned());
        Event { after, kind: kind.to_owned(), component, from: None, to: to.to_owned(), because: because.to_owned() }
    }

    fn explained(after: f64, cause: &str) -> Explained {
        Explained { after, cause: Some(cause.to_owned()), ..Explained::default() }
    }

    #[test]
    fn a_rolled_back_candidate_is_told_by_its_crashes_and_not_by_what_they_did_to_others() {
        let events = [
            event(0.5, "state", "kube-apiserver", "Probation(generation 2)", "kube-apiserver.yaml changed"),
            event(0.6, "generation", "kube-apiserver", "kept kube-apiserver.yaml as generation 2", ""),
            event(1.0, "verdict", "etcd", "Failing", "not asked about"),
            event(3.0, "verdict", "kube-apiserver", "Failing", "nothing listens there"),
            event(30.4, "verdict", "kube-apiserver", "Down", "its container exited"),
            event(42.8, "state", "kube-apiserver", "RollingBack(to generation 1)", "it crashed 2 times"),
            event(42.8, "generation", "kube-apiserver", "generation 2 is quarantined", "it crashed 2 times"),
            event(43.2, "action", "kube-apiserver", "took kube-apiserver.yaml out", ""),
            event(45.0, "verdict", "kube-apiserver", "Unknown", "of later"),
            event(45.9, "action", "kube-apiserver", "put generation 1 in place", ""),
            event(46.9, "action", "kube-apiserver", "put generation 1 in place", ""),
        ];
        let told = Told::new(Some(Component::ApiServer), &events, &[]);
        assert_eq!(told.verdict, "Failing, then Down");
        assert_eq!(told.cause, "it crashed 2 times");
        assert_eq!(told.action, "took kube-apiserver.yaml out; put generation 1 in place");
        assert_eq!((told.detected, told.explained), (Some(3.0), Some(42.8)));
    }

    #[test]
    fn what_nothing_is_done_about_is_told_with_the_cause_that_stood_at_the_end() {
        let events = [event(8.3, "verdict", "etcd", "Failing", "no agreement")];
        let said = [explained(6.3, "no agreement"), explained(12.7, "no leader")];
        let told = Told::new(Some(Component::Etcd), &events, &said);
        assert_eq!(
            (told.verdict.as_str(), told.cause.as_str(), told.action.as_str()),
            ("Failing", "no leader", "told")
        );
        assert_eq!((told.detected, told.explained), (Some(8.3), Some(12.7)));
    }

    #[test]
    fn nothing_told_is_shown_as_nothing() {
        let told = Told::new(Some(Component::Etcd), &[], &[]);
        assert_eq!((told.verdict.as_str(), told.cause.as_str(), told.action.as_str()), ("-", "-", "-"));
        assert_eq!((told.detected, told.explained), (None, None));
    }

    #[test]
    fn the_kubelet_is_no_component_and_what_is_told_of_the_node_is_told_of_it() {
        let events = [
            event(2.1, "notice", "", "the kubelet is stalled: it does not answer", ""),
            event(9.0, "notice", "kube-scheduler", "Unknown", ""),
            event(16.0, "state", "", "the kubelet is restarted", "it does not answer"),
            event(17.0, "action", "", "restarted the kubelet: systemctl restart kubelet", ""),
        ];
        let told = Told::new(None, &events, &[]);
        assert_eq!((told.verdict.as_str(), told.cause.as_str()), ("-", "it does not answer"));
        assert_eq!((told.detected, told.explained), (Some(2.1), Some(2.1)));
    }

    #[test]
    fn a_process_that_hangs_is_named_by_its_verdict_before_it_is_restarted() {
        let events = [
            event(
                8.3,
                "notice",
                "etcd",
                "Stalled: it does not answer; it did not change, so there is nothing to roll back",
                "",
            ),
            event(8.3, "verdict", "etcd", "Stalled", "its process is stopped by a signal"),
            event(15.0, "state", "etcd", "restarting its container", "it has been stalled for 6 s"),
            event(17.4, "action", "etcd", "stopped container c1 of etcd", ""),
            event(17.5, "verdict", "etcd", "Down", "its container exited with code 137"),
        ];
        let told = Told::new(Some(Component::Etcd), &events, &[explained(20.0, "of later")]);
        assert_eq!((told.verdict.as_str(), told.cause.as_str()), ("Stalled", "its process is stopped by a signal"));
        assert_eq!((told.detected, told.explained), (Some(8.3), Some(8.3)));
    }

    #[test]
    fn a_line_of_the_history_is_read_with_the_time_since_the_fault() {
        let line = r#"{"sum":"00000000","event":{"at":"2026-11-26T10:00:02.5Z","kind":"verdict","component":"kube-system/etcd",
            "from":"Healthy","to":"Stalled","because":"silence"}}"#;
        let read = super::event(line, "2026-11-26T10:00:00Z".parse().expect("a time")).expect("an event");
        assert_eq!(
            read,
            Event { from: Some("Healthy".to_owned()), ..event(2.5, "verdict", "etcd", "Stalled", "silence") }
        );
        assert_eq!(super::event("torn", Timestamp::UNIX_EPOCH), None);
    }
}
