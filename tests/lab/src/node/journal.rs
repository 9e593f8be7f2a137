//! Reading a service's log as it grows: inotify says that there is more, the file says what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the first line there is.
    Start,
    /// With what is written from now on.
    Now,
}

/// A reader's place in a log.
pub struct Journal {
    path: PathBuf,
    offset: u64,
    /// Bytes of a line that is not whole yet, and lines not handed out yet.
    pending: Vec<u8>,
    wake: Arc<Notify>,
    _watcher: RecommendedWatcher,
}

impl Journal {
    /// Opens a log, which need not exist yet; its directory must.
    ///
    /// # Errors
    /// When its directory cannot be watched.
    pub fn open(path: &Path, from: From) -> Result<Self> {
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let mut watcher = notify::recommended_watcher(move |_| waker.notify_one()).context("cannot use inotify")?;
        let dir = path.parent().context("a log without a directory")?;
        watcher.watch(dir, RecursiveMode::NonRecursive).with_context(|| format!("cannot watch {}", dir.display()))?;
        let offset = match from {
            From::Start => 0,
            From::Now => std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default(),
        };
        Ok(Self { path: path.to_path_buf(), offset, pending: Vec::new(), wake, _watcher: watcher })
    }

    /// The next line, waited for until `deadline` has passed.
    ///
    /// # Errors
    /// When none comes in time or the file cannot be read.
    pub async fn next_line(&mut self, deadline: Duration) -> Result<String> {
        let until = Instant::now() + deadline;
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.read_more().await? {
                continue;
            }
            if timeout(until.saturating_duration_since(Instant::now()), self.wake.notified()).await.is_err() {
                bail!("no further line in {} within {deadline:?}", self.path.display());
            }
        }
    }

    /// The next line that contains `pattern`; the lines before it are passed over.
    ///
    /// # Errors
    /// When none comes within `deadline`; the last lines that did come are in the message.
    pub async fn wait_for_line(&mut self, pattern: &str, deadline: Duration) -> Result<String> {
        let until = Instant::now() + deadline;
        let mut seen: Vec<String> = Vec::new();
        loop {
            match self.next_line(until.saturating_duration_since(Instant::now())).await {
                Ok(line) if line.contains(pattern) => return Ok(line),
                Ok(line) => seen.push(line),
                Err(_) => {
                    let tail = seen.len().saturating_sub(20);
                    bail!(
                        "{pattern:?} did not appear in {} within {deadline:?}; the last lines were:\n{}",
                        self.path.display(),
                        seen[tail..].join("\n")
                    );
                }
            }
        }
    }

    /// Whole lines that are there already, without waiting.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn lines_so_far(&mut self) -> Result<Vec<String>> {
        while self.read_more().await? {}
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let whole: Vec<u8> = self.pending.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }

    async fn read_more(&mut self) -> Result<bool> {
        let mut file = match File::open(&self.path).await {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", self.path.display())),
        };
        file.seek(std::io::SeekFrom::Start(self.offset)).await?;
        let read = file.read_to_end(&mut self.pending).await?;
        self.offset += u64::try_from(read)?;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_line_is_handed_out_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a temp directory");
        let path = dir.path().join("x.log");
        let mut journal = Journal::open(&path, From::Start).expect("opened before it exists");
        let mut file = std::fs::File::create(&path).expect("made");
        write!(file, "one\ntw").expect("written");
        assert_eq!(journal.next_line(Duration::from_secs(5)).await.expect("a line"), "one");
        assert!(journal.next_line(Duration::from_millis(50)).await.is_err(), "half a line is none");
        let writer = tokio::task::spawn_blocking(move || writeln!(file, "o\nthree"));
        assert_eq!(journal.wait_for_line("thr", Duration::from_secs(5)).await.expect("a line"), "three");
        writer.await.expect("joined").expect("written");
        let said = journal.wait_for_line("four", Duration::from_millis(10)).await.expect_err("nothing").to_string();
        assert!(said.contains("\"four\" did not appear"), "{said}");
    }
}
