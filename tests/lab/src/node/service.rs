//! A service of a node in the hand of a test: start, stop, kill, its process and its log.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Node;
use super::journal::{From, Journal};
use super::spec::{Request, State, log, notified};

/// One of the node's services.
#[derive(Debug, Clone, Copy)]
pub struct Handle<'a> {
    pub(super) node: &'a Node,
    pub(super) name: &'static str,
}

/// What systemd gives a unit by default before it kills, shortened: nothing in the lab needs 90 s.
const GRACE: Duration = Duration::from_secs(20);

impl Handle<'_> {
    /// Starts it; that it runs already is fine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&self) -> Result<()> {
        self.ask(Request::Start(self.name.to_owned())).await.map(drop)
    }

    /// SIGTERM, SIGKILL 20 s later; returns when it is gone. Containers keep running.
    ///
    /// # Errors
    /// When it survives even that.
    pub async fn stop(&self) -> Result<()> {
        let grace_ms = u64::try_from(GRACE.as_millis())?;
        self.ask(Request::Stop { service: self.name.to_owned(), grace_ms }).await.map(drop)
    }

    /// SIGKILL, and it stays away until it is started.
    ///
    /// # Errors
    /// When it survives that.
    pub async fn kill(&self) -> Result<()> {
        self.ask(Request::Stop { service: self.name.to_owned(), grace_ms: 0 }).await.map(drop)
    }

    /// Stop, then start.
    ///
    /// # Errors
    /// As both.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Sends a signal, for example SIGSTOP.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        self.ask(Request::Signal { service: self.name.to_owned(), signal: signal as i32 }).await.map(drop)
    }

    /// How it stands.
    ///
    /// # Errors
    /// When the supervisor does not answer or does not know it.
    pub async fn state(&self) -> Result<State> {
        self.ask(Request::Status).await
    }

    /// Its process id on this machine, for strace and signals from outside.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn pid(&self) -> Result<i32> {
        match self.state().await? {
            State::Running { pid } => self.node.outside_pid(pid),
            other => bail!("{} does not run: {other:?}", self.name),
        }
    }

    /// Follows its log: stdout and stderr over all its starts.
    ///
    /// # Errors
    /// When the log cannot be watched.
    pub fn journal(&self, from: From) -> Result<Journal> {
        Journal::open(&self.node.path(log(self.name)), from)
    }

    /// Follows what it tells its manager by sd_notify, one line per message: `READY=1;STATUS=…`.
    ///
    /// # Errors
    /// When that cannot be watched.
    pub fn notifications(&self, from: From) -> Result<Journal> {
        Journal::open(&self.node.path(notified(self.name)), from)
    }

    /// Its whole log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.node.path(log(self.name))).unwrap_or_default()
    }

    async fn ask(&self, request: Request) -> Result<State> {
        let states = self.node.ask(&request).await.with_context(|| format!("{} of {}", self.name, self.node.name()))?;
        states.get(self.name).copied().with_context(|| format!("the node has no service {}", self.name))
    }
}
