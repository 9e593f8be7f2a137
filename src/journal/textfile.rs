//! The metrics as a file for the textfile collector of Prometheus' node_exporter, which reads `*.prom` in one
//! directory. lastgood opens no network port for metrics.
//!
//! ```text
//!   a pass ─ due, or a verdict changed ─▶ page ─▶ temp file next to it ─▶ rename    (in a thread; never two at once)
//! ```
//!
//! A reader sees the old page or the new one, never a partial one. The file is not fsynced, to spare etcd's disk: after
//! a power cut the next pass writes it again.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::config::Settings;
use crate::sys::files::{TEMP_PREFIX, dir_of, named, temp_in};

/// For the last page when the agent stops.
const LAST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Textfile {
    path: PathBuf,
    interval: Duration,
    written: Option<Instant>,
    /// What was significant in the page that was written last.
    told: String,
    writing: Option<JoinHandle<io::Result<()>>>,
    trouble: Option<String>,
}

impl Textfile {
    /// As configured; nothing where it is not wanted.
    pub fn wanted(settings: &Settings) -> Option<Self> {
        let path = settings.metrics.textfile.clone()?;
        let interval = settings.metrics.interval;
        Some(Self { path, interval, written: None, told: String::new(), writing: None, trouble: None })
    }

    /// Has the page written where that is due: the interval has passed, or `of_note` is another one than before. Returns a
    /// trouble of the write before, where it is news.
    pub async fn keep(&mut self, of_note: &str, page: impl FnOnce() -> String) -> Option<String> {
        let news = self.ended().await;
        let due = self.written.is_none_or(|at| at.elapsed() >= self.interval) || self.told != of_note;
        if due && self.writing.is_none() {
            self.written = Some(Instant::now());
            of_note.clone_into(&mut self.told);
            let (path, page) = (self.path.clone(), page());
            self.writing = Some(tokio::task::spawn_blocking(move || write(&path, &page)));
        }
        news
    }

    /// How the last write ended, where it has.
    async fn ended(&mut self) -> Option<String> {
        let ended = self.writing.take_if(|writing| writing.is_finished())?.await;
        let trouble = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(format!("writing {} was cut short: {error}", self.path.display())),
        };
        let news = trouble.clone().filter(|_| trouble != self.trouble);
        self.trouble = trouble;
        news
    }

    /// Writes a last page.
    pub async fn end(mut self, page: String) {
        if let Some(before) = self.writing.take() {
            let _ = timeout(LAST, before).await;
        }
        let path = self.path.clone();
        let _ = timeout(LAST, tokio::task::spawn_blocking(move || write(&path, &page))).await;
    }
}

/// Everybody may read it: there is no secret in it, and node_exporter is not root.
fn write(path: &Path, page: &str) -> io::Result<()> {
    let dir = dir_of(path);
    let mut temp = temp_in(dir, TEMP_PREFIX)?;
    temp.write_all(page.as_bytes()).map_err(named("write a file in", dir))?;
    temp.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(named("set the mode of a file in", dir))?;
    temp.persist(path).map_err(|error| named("put in place", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(file: &mut Textfile, of_note: &str, page: &str) -> Option<String> {
        let news = file.keep(of_note, || page.to_owned()).await;
        while file.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            tokio::task::yield_now().await;
        }
        news
    }

    #[tokio::test]
    async fn it_is_written_whole_when_due_or_when_something_changed_and_a_trouble_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        assert!(Textfile::wanted(&settings).is_none(), "off by default");
        let path = dir.path().join("sub/lastgood.prom");
        settings.metrics.textfile = Some(path.clone());
        let mut file = Textfile::wanted(&settings).unwrap();
        assert_eq!(written(&mut file, "well", "1\n").await, None);
        let trouble = written(&mut file, "ill", "2\n").await.unwrap();
        assert!(trouble.contains("sub"), "{trouble}");
        assert_eq!(written(&mut file, "worse", "3\n").await, None, "told once");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        written(&mut file, "well", "4\n").await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4\n");
        written(&mut file, "well", "5\n").await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4\n", "neither due nor another verdict");
        file.interval = Duration::ZERO;
        written(&mut file, "well", "6\n").await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "6\n");
        file.end("7\n".to_owned()).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(crate::sys::files::names(&dir.path().join("sub")).unwrap(), ["lastgood.prom"]);
    }
}
