//! Restarts the kubelet or the container runtime with the configured commands: the last resort against a stalled one,
//! and against a kubelet that started without an API server and waits for it indefinitely.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Outcome, StepExecutor, StepResult, refuse};
use crate::model::Observation;

/// How much of the command's last words is held, in bytes.
const LAST_WORDS: usize = 4096;
/// After the command has ended, how long its last words are waited for: something it started may hold the pipe open.
const AFTER_END: Duration = Duration::from_millis(200);

impl StepExecutor {
    pub(super) async fn restart_kubelet(&self, observation: &Observation) -> StepResult {
        if let Some(changed) = observation.kubelet.process.as_ref().and_then(|kubelet| kubelet.changed_since.as_ref()) {
            return refuse(format!(
                "the kubelet is not restarted: {} changed since it started, and a restart would load the change",
                changed.display()
            ));
        }
        let restart = &self.settings.policy.kubelet_restart;
        let command = restart.join(" ");
        Ok(match run(restart, self.settings.kubelet.restart_timeout).await {
            Ok(()) => Outcome::Done(format!("restarted the kubelet: {command}")),
            Err(why) => Outcome::Failed(format!("{command} failed: {why}")),
        })
    }

    pub(super) async fn restart_runtime(&self) -> StepResult {
        let restart = &self.settings.policy.runtime_restart;
        let command = restart.join(" ");
        Ok(match run(restart, self.settings.runtime.restart_timeout).await {
            Ok(()) => Outcome::Done(format!("restarted the container runtime: {command}")),
            Err(why) => Outcome::Failed(format!("{command} failed: {why}")),
        })
    }
}

/// Runs a command to its end, or ends it and all it started at the deadline.
async fn run(line: &[String], limit: Duration) -> Result<(), String> {
    let (program, arguments) =
        line.split_first().ok_or("no command is configured (kubelet.restart, runtime.restart)")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(|error| error.to_string())?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let words = Arc::new(Mutex::new(Vec::new()));
    let reader = child.stderr.take().map(|stderr| tokio::spawn(tail(stderr, Arc::clone(&words))));
    let ended = timeout(limit, child.wait()).await;
    if ended.is_err() {
        if let Some(group) = group {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = child.kill().await;
    }
    if let Some(mut reader) = reader
        && timeout(AFTER_END, &mut reader).await.is_err()
    {
        reader.abort();
    }
    let last = last_line(&words.lock().unwrap_or_else(PoisonError::into_inner));
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{status}{last}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not exit within {} s and was killed{last}", limit.as_secs_f32())),
    }
}

/// Reads to the end and holds the last of it.
async fn tail(mut from: impl AsyncRead + Unpin, words: Arc<Mutex<Vec<u8>>>) {
    let mut block = [0; 1024];
    while let Ok(size @ 1..) = from.read(&mut block).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&block[..size]);
        let surplus = words.len().saturating_sub(LAST_WORDS);
        words.drain(..surplus);
    }
}

/// `: "the last line"`, if there is one.
fn last_line(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map_or(String::new(), |line| format!(": {line}"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(String::from).into()
    }

    #[tokio::test]
    async fn a_failed_restart_tells_its_last_words() {
        let command = sh("echo first >&2; echo 'Unit kubelet.service not found.' >&2; exit 5");
        let failed = run(&command, Duration::from_secs(5));
        assert_eq!(failed.await.unwrap_err(), "exit status: 5: Unit kubelet.service not found.");
        let missing = run(&["/nonexistent/systemctl".to_owned()], Duration::from_secs(5)).await;
        assert!(missing.unwrap_err().contains("No such file"));
        assert!(run(&[], Duration::from_secs(5)).await.unwrap_err().contains("kubelet.restart"));
    }

    #[tokio::test]
    async fn a_restart_that_hangs_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; echo waiting >&2; wait", pid.display());
        let began = Instant::now();
        let failed = run(&sh(&script), Duration::from_millis(300)).await.unwrap_err();
        assert!(failed.contains("did not exit within 0.3 s and was killed: waiting"), "{failed}");
        assert!(began.elapsed() < Duration::from_secs(5));
        let child: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while lives() {
            assert!(began.elapsed() < Duration::from_secs(5), "its child lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_it_leaves_running_does_not_hold_it_up() {
        let began = Instant::now();
        run(&sh("sleep 3 & exit 0"), Duration::from_secs(20)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
