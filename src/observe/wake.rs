//! Wake-ups: something may have changed. A wake-up is a hint, never a fact; the pass that follows reads the node
//! itself.
//!
//! It watches the manifest directory, its parent (the directory itself may be replaced, and a watch follows the old
//! inode), inactive-manifests, and the directories of the configuration files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::Instant;

/// An editor's write is several events, some milliseconds apart; the kubelet acts on the first within 20 ms, so there is
/// nothing to win by being quicker, and a half-written file to misread.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Whether one of the watches fired.
#[derive(Debug)]
pub(super) struct Wake {
    fired: Arc<Notify>,
    /// Set once something fired, until the wake was delivered: a caller may drop the future in between.
    pending: Option<Instant>,
}

/// The watches. Setting them touches the disk, so they live where blocking is allowed.
#[derive(Debug)]
pub(super) struct Watches {
    watcher: Option<RecommendedWatcher>,
    fired: Arc<Notify>,
    /// The directories watched, by the inode they had.
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Wake {
    /// Nothing watched yet.
    pub(super) fn new() -> (Self, Watches) {
        let fired = Arc::new(Notify::new());
        let watches = Watches { watcher: None, fired: Arc::clone(&fired), watched: BTreeMap::new() };
        (Self { fired, pending: None }, watches)
    }

    /// What fires it, for those who watch something else than files.
    pub(super) fn fires(&self) -> Arc<Notify> {
        Arc::clone(&self.fired)
    }

    /// Waits until something fired and the burst is over. Cancel-safe.
    pub(super) async fn woken(&mut self) {
        let until = match self.pending {
            Some(until) => until,
            None => {
                self.fired.notified().await;
                *self.pending.insert(Instant::now() + DEBOUNCE)
            }
        };
        tokio::time::sleep_until(until).await;
        self.pending = None;
        // The rest of the burst is the same wake: taking its permit lets it go.
        let rest = self.fired.notified();
        tokio::pin!(rest);
        rest.as_mut().enable();
    }
}

impl Watches {
    /// Watches these directories and no others. What cannot be watched is tried again next time.
    ///
    /// # Errors
    /// A sentence, when something that is there cannot be watched: the system's limit on inotify is reached.
    pub(super) fn watch(&mut self, dirs: &BTreeSet<PathBuf>) -> Result<(), String> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                let fired = Arc::clone(&self.fired);
                let made = notify::recommended_watcher(move |event: notify::Result<Event>| {
                    if event.as_ref().map_or(true, counts) {
                        fired.notify_one();
                    }
                });
                let made = made.map_err(|error| format!("no inotify: {error}; only the timer wakes lastgood"))?;
                none.insert(made)
            }
        };
        let gone: Vec<PathBuf> = self.watched.keys().filter(|dir| !dirs.contains(*dir)).cloned().collect();
        for dir in gone {
            self.watched.remove(&dir);
            // The watch of a directory that is gone went with it.
            let _ = watcher.unwatch(&dir);
        }
        for dir in dirs {
            let inode = fs::metadata(dir).ok().filter(fs::Metadata::is_dir).map(|meta| (meta.dev(), meta.ino()));
            if self.watched.get(dir) == inode.as_ref() {
                continue;
            }
            if self.watched.remove(dir).is_some() {
                let _ = watcher.unwatch(dir);
            }
            if let Some(inode) = inode {
                let sentence =
                    |error| format!("{} cannot be watched: {error}; only the timer wakes lastgood", dir.display());
                watcher.watch(dir, RecursiveMode::NonRecursive).map_err(sentence)?;
                self.watched.insert(dir.clone(), inode);
                // Whatever happened in it before the watch existed was not heard.
                self.fired.notify_one();
            }
        }
        Ok(())
    }
}

/// Reading a file is no change of it, and we read all the time.
fn counts(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fires(wake: &mut Wake) -> bool {
        tokio::time::timeout(Duration::from_millis(300), wake.woken()).await.is_ok()
    }

    #[tokio::test]
    async fn a_change_wakes_and_our_own_reading_does_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("manifests");
        fs::create_dir(&dir).unwrap();
        let (mut wake, mut watches) = Wake::new();
        let dirs: BTreeSet<PathBuf> = [dir.clone(), root.path().to_owned()].into();
        watches.watch(&dirs).unwrap();
        assert!(fires(&mut wake).await, "once for whatever came before the watch");
        assert!(!fires(&mut wake).await, "nothing happened");

        fs::write(dir.join("etcd.yaml"), "a").unwrap();
        assert!(fires(&mut wake).await, "a write");
        fs::read(dir.join("etcd.yaml")).unwrap();
        fs::read_dir(&dir).unwrap().count();
        watches.watch(&dirs).unwrap();
        assert!(!fires(&mut wake).await, "our own reading");

        let staged = root.path().join("staged");
        fs::write(&staged, "b").unwrap();
        assert!(fires(&mut wake).await, "beside it");
        fs::rename(&staged, dir.join("etcd.yaml")).unwrap();
        assert!(fires(&mut wake).await, "a rename from elsewhere");
    }

    #[tokio::test]
    async fn a_directory_that_was_replaced_is_watched_anew() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("manifests");
        fs::create_dir(&dir).unwrap();
        let (mut wake, mut watches) = Wake::new();
        let dirs: BTreeSet<PathBuf> = [dir.clone(), root.path().to_owned()].into();
        watches.watch(&dirs).unwrap();
        fires(&mut wake).await;
        fs::rename(&dir, root.path().join("aside")).unwrap();
        assert!(fires(&mut wake).await, "it went");
        watches.watch(&dirs).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(fires(&mut wake).await, "it came");
        watches.watch(&dirs).unwrap();
        assert!(fires(&mut wake).await, "for whatever came before the watch");
        fs::write(dir.join("etcd.yaml"), "a").unwrap();
        assert!(fires(&mut wake).await, "a write in the new one");
    }

    #[tokio::test]
    async fn a_wake_whose_future_was_dropped_is_delivered_later() {
        let (mut wake, watches) = Wake::new();
        watches.fired.notify_one();
        let cut = tokio::time::timeout(DEBOUNCE / 10, wake.woken()).await;
        assert!(cut.is_err(), "dropped while it waited for the burst to end");
        assert!(fires(&mut wake).await);
    }
}
