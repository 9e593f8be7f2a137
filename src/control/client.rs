//! The client side of the control socket, for the command line.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::protocol::{Answer, Call, MAX_ANSWER_BYTES, read_answer, write_ask};
use super::server::ANSWER_DEADLINE;
use super::socket_path;
use crate::config::Settings;

/// For the connection, and for a question to be taken.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A little longer than the server's own, so that its sentence is heard.
const DEADLINE: Duration = ANSWER_DEADLINE.saturating_add(Duration::from_secs(10));

/// Whether an agent was reached.
#[derive(Debug)]
pub enum Reach {
    Running(Client),
    /// None does: the socket is absent, or nobody is behind it.
    Stopped,
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("{} is for root alone: use sudo", .0.display())]
    NotRoot(PathBuf),
    /// It does not answer, or not in a way that can be understood.
    #[error("the agent at {} cannot be reached: {why}", path.display())]
    Silent { path: PathBuf, why: String },
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects to the agent with these settings.
    ///
    /// # Errors
    /// When it is unknown whether one runs, or it may not be asked.
    pub async fn connect(settings: &Settings) -> Result<Reach, Unreachable> {
        let path = socket_path(settings);
        match timeout(CONNECT_DEADLINE, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => Ok(Reach::Running(Self { stream: BufReader::new(stream), path })),
            Ok(Err(error)) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Reach::Stopped),
                io::ErrorKind::PermissionDenied => Err(Unreachable::NotRoot(path)),
                _ => Err(Unreachable::Silent { path, why: error.to_string() }),
            },
            Err(_) => Err(Unreachable::Silent { path, why: "it accepts no connection".to_owned() }),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When no answer comes, or none that can be understood.
    pub async fn ask(&mut self, ask: &Call) -> Result<Answer, Unreachable> {
        let line = write_ask(ask).map_err(|error| self.silent(error))?;
        match timeout(CONNECT_DEADLINE, self.stream.write_all(&line)).await {
            // The server may have said why it closes before it read anything; the answer below tells.
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return Err(self.silent(error)),
            Err(_) => return Err(self.silent("it does not accept the request")),
        }
        let answer = timeout(DEADLINE, self.next()).await.map_err(|_| self.silent("no answer came in time"))?;
        answer?.ok_or_else(|| self.silent("it closed the connection without an answer"))
    }

    /// The next answer of a connection that follows; absent when the agent closed it. Waits as long as it takes: the caller
    /// has the deadline.
    ///
    /// # Errors
    /// When the connection breaks, or what comes cannot be understood.
    pub async fn next(&mut self) -> Result<Option<Answer>, Unreachable> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_ANSWER_BYTES as u64).read_until(b'\n', &mut line).await;
        read.map_err(|error| self.silent(error))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(self.silent("its answer ended early"));
        }
        read_answer(&line).map(Some).map_err(|error| self.silent(error))
    }

    fn silent(&self, why: impl ToString) -> Unreachable {
        Unreachable::Silent { path: self.path.clone(), why: why.to_string() }
    }
}
