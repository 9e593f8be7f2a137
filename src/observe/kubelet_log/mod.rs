//! Reads the kubelet's log with the configured command (`journalctl`), only while something is wrong.
//!
//! ```text
//!   wanted ──▶ command ──at most 512 KiB, 3 s──▶ klog.rs: a line ──▶ words.rs, refused.rs: what it means ──▶ KubeletLog
//! ```
//!
//! A command that hangs is killed, and costs a pass nothing: it runs in a task.

mod klog;
mod refused;
mod words;

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::model::kubelet_log::KubeletLog;

/// Between two reads while it is wanted …
const EVERY: Duration = Duration::from_secs(2);
/// … so often; then what is wrong stays wrong, and nothing is in a hurry.
const OFTEN: u32 = 60;
/// Between two reads then.
const SELDOM: Duration = Duration::from_secs(15);
/// For one of them.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The most that is read, in bytes: some thousand lines.
const MOST: u64 = 512 << 10;

/// What the log says; why it cannot be read; nothing while nobody wants it.
type Said = Option<Result<Arc<KubeletLog>, String>>;

/// The task, and what it read last.
#[derive(Debug)]
pub(super) struct KubeletLogs {
    wanted: watch::Sender<Option<String>>,
    said: Arc<Mutex<Said>>,
    _task: JoinSet<()>,
}

impl KubeletLogs {
    /// Starts the task, which reads nothing yet. `news` wakes the agent when the log says something else than before.
    pub(super) fn new(command: Vec<String>, news: Arc<Notify>) -> Self {
        let (wanted, mut wants) = watch::channel(None::<String>);
        let said = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&said);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut reads = 0;
            loop {
                let node = wants.borrow_and_update().clone();
                let Some(node) = node else {
                    keep(&kept, None);
                    reads = 0;
                    if wants.changed().await.is_err() {
                        return;
                    }
                    continue;
                };
                let read = read(&command).await.map(|text| Arc::new(words::understand(&text, &node)));
                if keep(&kept, Some(read)) {
                    news.notify_one();
                }
                reads += 1;
                let pause = if reads < OFTEN { EVERY } else { SELDOM };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    ended = wants.changed() => if ended.is_err() { return },
                }
            }
        });
        Self { wanted, said, _task: task }
    }

    /// Whether the log is wanted from now on, and the node's name.
    pub(super) fn want(&self, node: Option<&str>) {
        self.wanted.send_if_modified(|before| {
            let changed = before.as_deref() != node;
            if changed {
                *before = node.map(str::to_owned);
            }
            changed
        });
    }

    /// What was read last.
    pub(super) fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps what was read, and says whether it differs from what was read before.
fn keep(kept: &Mutex<Said>, read: Said) -> bool {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let differs = *kept != read;
    *kept = read;
    differs
}

async fn read(command: &[String]) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("no command is configured (kubelet.log)")?;
    let shown = command.join(" ");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let mut out = Vec::new();
    let reading = async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MOST).read_to_end(&mut out).await?;
        }
        // What writes more than is read ends by its closed pipe.
        child.wait().await
    };
    match tokio::time::timeout(TIMEOUT, reading).await {
        Ok(Ok(status)) if status.success() || !out.is_empty() => Ok(String::from_utf8_lossy(&out).into_owned()),
        Ok(Ok(status)) => Err(format!("{shown}: {status}")),
        Ok(Err(error)) => Err(format!("{shown}: {error}")),
        Err(_) => Err(format!("{shown}: no answer within {} s", TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).into()
    }

    async fn said(logs: &KubeletLogs) -> Result<Arc<KubeletLog>, String> {
        loop {
            if let Some(said) = logs.said() {
                return said;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_is_read_while_it_is_wanted_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let script = format!("echo x >> {}; echo 'Error: unknown flag: --x'", ran.display());
        let logs = KubeletLogs::new(command(&script), Arc::new(Notify::new()));
        tokio::task::yield_now().await;
        assert!(!ran.exists(), "nobody wants it");
        logs.want(Some("vm"));
        assert!(said(&logs).await.unwrap().reason.is_some());
        logs.want(None);
        while logs.said().is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_hangs_or_never_ends_is_an_error_and_no_harm() {
        for (script, is_read) in [("exit 3", false), ("echo late; exit 1", true), ("yes", true)] {
            let logs = KubeletLogs::new(command(script), Arc::new(Notify::new()));
            logs.want(Some("vm"));
            assert_eq!(said(&logs).await.is_ok(), is_read, "{script}");
        }
        assert!(read(&[]).await.is_err());
        assert!(read(&["/no/such/program".to_owned()]).await.is_err());
        tokio::time::pause();
        assert!(read(&command("exec sleep 1000")).await.unwrap_err().contains("within"));
    }
}
