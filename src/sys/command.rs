//! Runs a configured command: to its end, or until its time-out, when it is killed with all that it started.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// How much of the command's last words is kept, in bytes.
const LAST_WORDS: usize = 4096;
/// After the command has ended, how long its last words are waited for: something it started may keep the pipe open.
const AFTER_END: Duration = Duration::from_millis(200);

/// What a command gets besides its arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'i> {
    /// Its standard input.
    pub stdin: &'i [u8],
    /// Variables, next to those of this process.
    pub environment: &'i [(&'i str, String)],
}

/// Runs a command: a program and its arguments.
///
/// # Errors
/// Why it did not succeed, as a sentence that ends with the last line of its standard error.
pub async fn run(line: &[String], limit: Duration, input: Input<'_>) -> Result<(), String> {
    let (program, arguments) = line.split_first().ok_or("no command is configured")?;
    let mut command = Command::new(program);
    let stdin = if input.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.args(arguments).envs(input.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(|error| error.to_string())?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let words = Arc::new(Mutex::new(Vec::new()));
    let reader = child.stderr.take().map(|stderr| tokio::spawn(tail(stderr, Arc::clone(&words))));
    let stdin = child.stdin.take();
    let fed_and_ended = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command that leaves some of it unread has seen enough of it.
                let _ = stdin.write_all(input.stdin).await;
            }
        };
        tokio::select! {
            ended = child.wait() => ended,
            () = feed => child.wait().await,
        }
    };
    let ended = timeout(limit, fed_and_ended).await;
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

/// Reads to the end and keeps the last of it.
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
    async fn a_command_that_fails_gives_its_last_line() {
        let command = sh("echo first >&2; echo 'Unit kubelet.service not found.' >&2; exit 5");
        let failed = run(&command, Duration::from_secs(5), Input::default());
        assert_eq!(failed.await.unwrap_err(), "exit status: 5: Unit kubelet.service not found.");
        let missing = run(&["/nonexistent/systemctl".to_owned()], Duration::from_secs(5), Input::default()).await;
        assert!(missing.unwrap_err().contains("No such file"));
        assert_eq!(run(&[], Duration::from_secs(5), Input::default()).await.unwrap_err(), "no command is configured");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; echo waiting >&2; wait", pid.display());
        let began = Instant::now();
        let failed = run(&sh(&script), Duration::from_millis(300), Input::default()).await.unwrap_err();
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
        run(&sh("sleep 3 & exit 0"), Duration::from_secs(20), Input::default()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn it_reads_its_input_to_the_end_and_may_leave_it_unread() {
        let dir = tempfile::tempdir().unwrap();
        let read = dir.path().join("read");
        let long = vec![b'x'; 1 << 20];
        let input = Input { stdin: &long, environment: &[] };
        run(&sh(&format!("cat > {}", read.display())), Duration::from_secs(20), input).await.unwrap();
        assert_eq!(std::fs::read(read).unwrap(), long);
        run(&sh("exit 0"), Duration::from_secs(20), input).await.unwrap();
        assert!(run(&sh("sleep 60"), Duration::from_millis(300), input).await.is_err());
    }
}
