//! Asking the node's supervisor, from outside (through the node's directory) or from inside.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::spec::{Reply, Request, State};

/// Longer than any request may take: a stop has its own grace, and SIGKILL ten seconds after it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends one request to the supervisor that listens on `socket`.
///
/// # Errors
/// When it cannot be reached, does not answer in time, or refuses.
pub async fn ask(socket: &Path, request: &Request) -> Result<BTreeMap<String, State>> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("the node's supervisor does not listen on {}", socket.display()))?;
        let line = serde_json::to_string(request)? + "\n";
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        if answer.is_empty() {
            bail!("the node's supervisor went away while it was asked");
        }
        match serde_json::from_str(&answer).with_context(|| format!("the supervisor said {answer:?}"))? {
            Reply::Done(states) => Ok(states),
            Reply::Refused(why) => bail!(why),
        }
    };
    match timeout(DEADLINE, exchange).await {
        Ok(done) => done,
        Err(_) => bail!("the node's supervisor did not answer {request:?} within {DEADLINE:?}"),
    }
}
