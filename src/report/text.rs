//! The text printers, and the choice between text, JSON and YAML.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::doctor::Check;
use super::input::Process;
use super::table::{lines, table};
use super::{Doctor, Explanation, GenerationRow, History, Status};
use crate::config::duration::roughly;
use crate::model::Event;
use crate::model::clock::between;
use crate::model::document::{Document, Versioned};
use crate::model::overall::Overall;
use crate::model::policy::Mode;

/// How a value is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
    /// For machines, and for people who read YAML.
    Yaml,
}

impl Format {
    /// Prints a value: as a document for machines, by `text` for people. Ends with a line break.
    ///
    /// # Errors
    /// When the value cannot be put into the format.
    pub fn print<T: Document>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<String> {
        let mut out = match self {
            Self::Text => text(value),
            Self::Json => serde_json::to_string_pretty(&Versioned::from(value))?,
            Self::Yaml => serde_yaml::to_string(&Versioned::from(value))?,
        };
        if !out.ends_with('\n') {
            out.push('\n');
        }
        Ok(out)
    }
}

/// Whether the output is a terminal that shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// It is not, or they are not wanted.
    Plain,
    /// It is.
    Colours,
}

impl Paint {
    /// Colours for a terminal, unless `NO_COLOR` is set.
    pub fn for_stdout() -> Self {
        use std::io::IsTerminal as _;
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Self::Colours
        } else {
            Self::Plain
        }
    }

    fn overall(self, overall: Overall) -> String {
        let colour = match overall {
            Overall::Good => 32,
            Overall::Changing | Overall::Unknown => 33,
            Overall::Ailing | Overall::Held => 31,
        };
        match self {
            Self::Plain => overall.to_string(),
            Self::Colours => format!("\x1b[1;{colour}m{overall}\x1b[0m"),
        }
    }
}

impl Status {
    /// The status for people.
    pub fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        let node = if self.node.is_empty() { "this node" } else { &self.node };
        let _ = writeln!(out, "{node}: {}: {}", paint.overall(self.overall), self.sentence);
        let _ = match &self.agent.process {
            Process::Running { pid, since } => {
                let does = if self.mode == Mode::Observe { "observes only (mode = \"observe\")" } else { "acts" };
                let since = roughly(between(*since, self.at));
                writeln!(out, "agent: lastgood {} {does}; pid {pid}, up {since}", self.agent.version)
            }
            Process::Stopped => writeln!(out, "agent: does not run; `systemctl start lastgood` starts it"),
        };
        if let Some(pause) = &self.pause {
            let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
            let left = roughly(Duration::from_secs(pause.seconds_left));
            let _ = writeln!(out, "paused: {left} to go, until {:.0}{reason}", pause.until);
        }
        for hold in &self.holds {
            let _ = writeln!(out, "not acting: {hold}");
        }
        if let Some(snapshots) = &self.snapshots {
            let _ = writeln!(out, "snapshots: {snapshots}");
            if let Some(remote) = &snapshots.remote {
                let _ = writeln!(out, "remote snapshots: {remote}");
            }
        }
        if let Some(peers) = &self.peers {
            let more = if peers.is_well() { "" } else { "; `lastgood status --cluster` shows each" };
            let _ = writeln!(out, "other masters: {peers}{more}");
        }
        if !self.components.is_empty() {
            let mut table = table(&["COMPONENT", "VERDICT", "FOR", "STATE", "GENERATION", "KNOWN-GOOD", "NOTE"]);
            for c in &self.components {
                let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
                table.add_row([
                    c.component.to_string(),
                    c.verdict.to_string(),
                    c.since.map_or("-".to_owned(), |since| roughly(between(since, self.at))),
                    c.state.to_string(),
                    number(c.generation),
                    // Where a trial or a rollback goes elsewhere than to the pin, it is the number that counts.
                    match &c.pinned {
                        Some(pin) if c.known_good == Some(pin.generation) => format!("{} (pinned)", pin.generation),
                        _ => number(c.known_good),
                    },
                    // The whole sentence stands below.
                    if c.held.is_some() { "held".to_owned() } else { c.note.clone() },
                ]);
            }
            for service in &self.services {
                table.add_row([
                    service.component.name().to_owned(),
                    service.verdict.to_string(),
                    roughly(Duration::from_secs(service.seconds)),
                    "-".to_owned(),
                    "-".to_owned(),
                    "-".to_owned(),
                    service.note.clone(),
                ]);
            }
            let _ = write!(out, "\n{}", lines(&table));
        }
        let held: Vec<_> = self.components.iter().filter_map(|c| Some((&c.component, c.held.as_ref()?))).collect();
        section(
            &mut out,
            "Held",
            held.iter().map(|(id, held)| format!("{id}: {}\n    next step: {}", held.why, held.next_step)),
        );
        section(
            &mut out,
            "Notices",
            self.notices.iter().map(|notice| match &notice.component {
                Some(component) => format!("{component}: {}", notice.text),
                None => notice.text.clone(),
            }),
        );
        section(&mut out, "Recent events", self.last.iter().map(event));
        out
    }
}

impl Explanation {
    /// The explanation for people.
    pub fn text(&self, now: Timestamp) -> String {
        let mut out = String::new();
        let since = self.since.map_or(String::new(), |since| format!(" for {}", roughly(between(since, now))));
        let _ = writeln!(out, "{}: {}{since}; {}", self.component, self.verdict, self.state);
        let _ = writeln!(out, "  next: {}", self.next);
        if let Some(pinned) = &self.pinned {
            let _ = writeln!(out, "  pinned: {pinned}");
        }
        if let Some(cause) = &self.cause {
            let _ = writeln!(out, "  explained by: {cause}");
        }
        if let Some(reads) = &self.reads {
            let _ = writeln!(out, "  process: {reads}");
        }
        if let Some(breaks_dependent) = &self.breaks_dependent {
            let _ = writeln!(
                out,
                "  breaks: {breaks_dependent} became unhealthy since this change, and has not changed itself"
            );
        }
        section(&mut out, "Evidence", self.evidence.iter().cloned());
        section(&mut out, "Notices", self.notices.iter().cloned());
        if !self.generations.is_empty() {
            let _ = write!(out, "\n{}", generations(&self.generations));
        }
        section(&mut out, "Recent events", self.events.iter().map(event));
        out
    }
}

impl History {
    /// The history for people.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.component);
        out.push_str(&generations(&self.generations));
        section(&mut out, "Events", self.events.iter().map(event));
        out
    }
}

impl Doctor {
    /// The examination for people: the worst first, what mends it, and the verdict as the last line.
    pub fn text(&self) -> String {
        let mut out = checks(&self.checks);
        let node = if self.node.is_empty() { "this node" } else { &self.node };
        let _ = writeln!(out, "\n{node}: {}", self.sentence);
        out
    }
}

/// Checks for people, and what mends them.
pub(super) fn checks(checks: &[Check]) -> String {
    let mut table = table(&["VERDICT", "CHECK", "FOUND"]);
    for check in checks {
        table.add_row([check.verdict.to_string(), check.subject.clone(), check.detail.clone()]);
    }
    let mut out = lines(&table);
    let fixes = checks.iter().filter_map(|check| Some(format!("{}: {}", check.subject, check.fix.as_ref()?)));
    section(&mut out, "Next steps", fixes);
    out
}

fn generations(rows: &[GenerationRow]) -> String {
    if rows.is_empty() {
        return "no generation is known\n".to_owned();
    }
    let mut table = table(&["GENERATION", "STANDING", "NOW", "FIRST SEEN", "IMAGE", "WHY"]);
    for row in rows {
        table.add_row([
            row.number.to_string(),
            if row.pinned { format!("{}, pinned", row.standing) } else { row.standing.to_string() },
            row.place.to_string(),
            format!("{:.0}", row.first_seen),
            row.images.join(" "),
            row.why.clone(),
        ]);
    }
    lines(&table)
}

/// An event as one line, with its time.
pub fn event(event: &Event) -> String {
    format!("{:.0} {event}", event.at)
}

pub(super) fn section(out: &mut String, title: &str, entries: impl Iterator<Item = String>) {
    let mut entries = entries.peekable();
    if entries.peek().is_some() {
        let _ = writeln!(out, "\n{title}:");
        entries.for_each(|entry| {
            let _ = writeln!(out, "  {entry}");
        });
    }
}
