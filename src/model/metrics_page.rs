//! A page of metrics in Prometheus' text format (version 0.0.4), while it is written.

use std::fmt::Write as _;

/// The kinds of metric.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Gauge,
    Counter,
}

/// One series: its labels and its value.
pub type Series<'s> = (Vec<(&'s str, String)>, String);

/// A page being written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    pub fn into_text(self) -> String {
        self.0
    }

    /// A metric with all its series; nothing where it has none.
    pub fn metric<'s>(&mut self, name: &str, kind: Kind, help: &str, series: impl IntoIterator<Item = Series<'s>>) {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = writeln!(self.0, "# HELP lastgood_{name} {help}\n# TYPE lastgood_{name} {kind}");
        for (labels, value) in series {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "lastgood_{name}{labels} {value}");
        }
    }

    /// A metric with one series without labels.
    pub fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl ToString) {
        self.metric(name, kind, help, [(Vec::new(), value.to_string())]);
    }
}

/// As it stands between the quotes of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A Boolean as a value.
pub fn yes(is: bool) -> String {
    u8::from(is).to_string()
}

/// A time as a value, in seconds since 1970.
pub fn seconds(at: jiff::Timestamp) -> String {
    format!("{:.3}", std::time::Duration::try_from(at.as_duration()).unwrap_or_default().as_secs_f64())
}
