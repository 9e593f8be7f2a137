//! Diagnostics of the program and its libraries, one line each, written to the same sinks as events.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::journald::Priority;
use super::{VOICE, Voice, say};

/// Prints every event that the filter lets through.
pub(super) struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let line = format!("{}{}", text.message, text.fields);
        let meta = event.metadata();
        match VOICE.get() {
            Some(Voice::Journald(journald)) => {
                let priority = match *meta.level() {
                    Level::ERROR => Priority::Error,
                    Level::WARN => Priority::Warning,
                    Level::INFO => Priority::Info,
                    Level::DEBUG | Level::TRACE => Priority::Debug,
                };
                journald.send(priority, &line, &[("TARGET", meta.target().to_owned())]);
            }
            _ => say(&format!("{:.0} {} {}: {line}", Timestamp::now(), meta.level(), meta.target())),
        }
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
