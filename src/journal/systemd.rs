//! sd_notify: READY once, STATUS only when it changes, WATCHDOG after each finished pass, STOPPING.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells systemd how the service does. Does nothing when systemd did not start it as a notifying service.
#[derive(Debug)]
pub struct Notifier {
    status: Option<String>,
    watchdog: Option<Duration>,
}

impl Default for Notifier {
    fn default() -> Self {
        Self { status: None, watchdog: sd_notify::watchdog_enabled() }
    }
}

impl Notifier {
    /// The service is up: its first pass is done, or it can say why that does not end.
    pub fn ready(&mut self, status: &str) {
        self.status = Some(status.to_owned());
        notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The line `systemctl status` shows; sent only when it differs from the last.
    pub fn status(&mut self, status: &str) {
        if self.status.as_deref() != Some(status) {
            self.status = Some(status.to_owned());
            notify(&[NotifyState::Status(&one_line(status))]);
        }
    }

    /// A pass was finished: the watchdog is fed by nothing else, so that an agent that hangs is restarted.
    pub fn pass_finished(&self) {
        if self.watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// How long a pass may take before systemd restarts the service, where it watches.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service goes down, by request.
    pub fn stopping(&mut self, status: &str) {
        notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }
}

/// The protocol is one assignment a line: a line break in a sentence would begin another.
fn one_line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}

/// A service manager that is unknown is no reason to stop working.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not notified");
    }
}
