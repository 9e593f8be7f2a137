//! Progress of a long operation: one rewritten line on a terminal, nothing otherwise.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two updates: the operator reads no faster.
const INTERVAL: Duration = Duration::from_millis(200);

/// The line. It is wiped at the end.
pub(crate) struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Of something that is being done, such as `verifying`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, shown: None, terminal: io::stderr().is_terminal() }
    }

    /// So many bytes of so many are done.
    pub(crate) fn at(&mut self, done: u64, of: u64) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL) {
            let percent = done.saturating_mul(100).checked_div(of).unwrap_or(100);
            let _ = write!(io::stderr(), "\r\x1b[K{} {percent} % of {} MiB", self.what, of >> 20);
            self.shown = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
