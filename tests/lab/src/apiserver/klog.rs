//! Lines on standard error in klog's form, so that what reads a container's log sees what it would see on a real node.

use jiff::Timestamp;

/// How bad a line is, by klog's letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `I`.
    Info,
    /// `W`.
    Warning,
    /// `E`.
    Error,
}

/// Writes one line: `I1122 20:04:39.123456       1 main.go:1] …`. `source` stands where Go has file and line.
pub fn log(level: Level, source: &str, message: &str) {
    let letter = match level {
        Level::Info => 'I',
        Level::Warning => 'W',
        Level::Error => 'E',
    };
    let now = Timestamp::now().strftime("%m%d %H:%M:%S%.6f");
    eprintln!("{letter}{now} {:>7} {source}] {message}", std::process::id());
}

/// The last line of a component that gives up, worded as component-base does; the caller leaves with 1.
pub fn command_failed(reason: &anyhow::Error) {
    log(Level::Error, "run.go:72", &format!("\"command failed\" err={:?}", format!("{reason:#}")));
}
