//! Output of the running agent: one line per state change, nothing while nothing changes.
//!
//! ```text
//!   Event ──tell──▶ under systemd:  journald's own protocol, structured fields, MESSAGE_ID per kind
//!                   otherwise:      one line on stderr
//!   tracing ──────▶ the same two ways (diagnostics; warnings and worse unless -v)
//!   state ─────────▶ sd_notify: READY, STATUS, WATCHDOG, STOPPING
//!   figures ───────▶ a file for Prometheus' node_exporter, where one is configured
//! ```
//!
//! Output never blocks and never fails: a line that the journal does not accept is counted, and the next accepted line
//! reports the count. The history contains every event as well.

pub mod ids;
mod journald;
mod lines;
pub mod systemd;
pub mod textfile;

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::model::Event;
use crate::model::event::EventKind;
use journald::{Journald, Priority};

/// Where lines go; set once by [`start`].
static VOICE: OnceLock<Voice> = OnceLock::new();

/// Where lines go.
#[derive(Debug)]
enum Voice {
    Stderr,
    Journald(Journald),
}

/// How much of the diagnostics is reported, besides events, which always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    Normal,
    /// Also what the agent does (`-v`).
    More,
    /// Everything (`-vv`).
    All,
}

impl Verbosity {
    /// From the number of `-v`.
    pub fn from_count(count: u8) -> Self {
        match count {
            0 => Self::Normal,
            1 => Self::More,
            _ => Self::All,
        }
    }
}

/// Chooses where lines go, once, at the start: journald when stderr is its stream, stderr otherwise. `LASTGOOD_LOG` takes
/// tracing's filter directives and wins over `verbosity`.
pub fn start(verbosity: Verbosity) {
    let voice =
        if journald::is_stderr() { Journald::connect().map_or(Voice::Stderr, Voice::Journald) } else { Voice::Stderr };
    if VOICE.set(voice).is_err() {
        return;
    }
    let level = match verbosity {
        Verbosity::Normal => LevelFilter::WARN,
        Verbosity::More => LevelFilter::INFO,
        Verbosity::All => LevelFilter::DEBUG,
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("LASTGOOD_LOG")
        .from_env_lossy();
    // A second start in one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(lines::Lines).try_init();
}

/// Tells an event. Before [`start`] it goes to stderr.
pub fn tell(event: &Event) {
    match VOICE.get() {
        Some(Voice::Journald(journald)) => journald.send(priority(event.kind), &event.to_string(), &fields(event)),
        _ => say(&human(event)),
    }
}

/// Records in the journal what a command did that no agent sees. The operator reads the command's own output.
pub fn record(event: &Event) {
    if let Ok(journald) = Journald::connect() {
        journald.send(priority(event.kind), &event.to_string(), &fields(event));
    }
}

/// Tells why the program ends: to journald as an error, to the operator with the program's name before it.
pub fn complain(sentence: &str) {
    match VOICE.get() {
        Some(Voice::Journald(journald)) => journald.send(Priority::Error, sentence, &[]),
        _ => say(&format!("lastgood: {sentence}")),
    }
}

/// The line on stderr.
pub fn human(event: &Event) -> String {
    format!("{:.0} {event}", event.at)
}

/// The structured fields of an event, besides MESSAGE and PRIORITY.
pub fn fields(event: &Event) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("MESSAGE_ID", ids::of(event.kind).to_owned()),
        ("KIND", ids::word(event.kind).to_owned()),
        ("TO", event.to.clone()),
        ("REASON", event.because.clone()),
    ];
    if let Some(component) = &event.component {
        fields.push(("COMPONENT", component.to_string()));
    }
    if let Some(generation) = event.generation {
        fields.push(("GENERATION", generation.to_string()));
    }
    if let Some(from) = &event.from {
        fields.push(("FROM", from.clone()));
    }
    match event.kind {
        EventKind::Verdict => fields.push(("VERDICT", event.to.clone())),
        EventKind::Action | EventKind::Failure => fields.push(("ACTION", event.to.clone())),
        _ => {}
    }
    fields
}

/// syslog's priority for a kind of event.
fn priority(kind: EventKind) -> Priority {
    match kind {
        EventKind::Failure => Priority::Error,
        EventKind::Notice => Priority::Warning,
        EventKind::State | EventKind::Action | EventKind::Request => Priority::Notice,
        EventKind::Agent | EventKind::Verdict | EventKind::Generation | EventKind::Snapshot => Priority::Info,
    }
}

/// One line on stderr. A sentence with a line break in it stays one line.
pub(crate) fn say(line: &str) {
    let line = if line.contains('\n') { line.replace('\n', " ") } else { line.to_owned() };
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to be told that stderr is gone.
    let _ = writeln!(stderr, "{line}");
}

/// Whether the operator looks on.
pub fn watched_by_a_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ComponentId;

    fn sample(kind: EventKind) -> Event {
        Event {
            at: "2026-11-22T20:00:00.123Z".parse().unwrap(),
            kind,
            component: Some(ComponentId::system("kube-apiserver")),
            generation: Some(2),
            from: Some("Steady(generation 1)".to_owned()),
            to: "Probation(generation 2)".to_owned(),
            because: "the manifest changed".to_owned(),
        }
    }

    #[test]
    fn a_change_is_one_line_with_from_to_and_because() {
        assert_eq!(
            human(&sample(EventKind::State)),
            "2026-11-22T20:00:00Z kube-apiserver: Steady(generation 1) -> Probation(generation 2), because the manifest \
             changed"
        );
    }

    #[test]
    fn the_fields_are_structured_and_well_formed() {
        let fields = fields(&sample(EventKind::Verdict));
        for (name, value) in [
            ("COMPONENT", "kube-apiserver"),
            ("GENERATION", "2"),
            ("FROM", "Steady(generation 1)"),
            ("VERDICT", "Probation(generation 2)"),
            ("REASON", "the manifest changed"),
            ("KIND", "verdict"),
        ] {
            assert!(fields.iter().any(|(n, v)| *n == name && v == value), "{name} in {fields:?}");
        }
        // journald drops a field whose name does not look like this.
        assert!(fields.iter().all(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')));
    }
}
