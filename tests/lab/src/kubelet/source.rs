//! The file source: inotify at once, a full scan every 20 s, both into `store.rs`.
//!
//! One task reads, so a file whose opening blocks (a fifo) makes the source deaf, events and scans alike, until somebody
//! opens its other end: true to the real one, which opens what an event names without looking at its type. The watch is
//! set once; when the directory is replaced, only the scan notices what is in the new one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use notify::event::{ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::manifest::{MAX_BYTES, StaticPod, decode};
use super::options::Settings;
use super::store::{Announced, Delta, Store};

/// Time between two tries to watch a directory that is not there.
const RETRY_WATCH: Duration = Duration::from_secs(1);

/// Whether the directory counts; a test's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// As it should.
    Attentive,
    /// Events and scans are skipped, as if the source hung.
    Ignoring,
}

/// What an inotify event means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Written(PathBuf),
    Gone(PathBuf),
}

/// Follows the directory for ever; sends what changes. The first message comes with the first scan, even if it is empty:
/// it makes the file source seen.
pub async fn follow(settings: Settings, attention: watch::Receiver<Attention>, out: mpsc::UnboundedSender<Delta>) {
    let Some(dir) = settings.static_pod_path.clone() else {
        info!("no staticPodPath is configured: no static pods");
        let _ = out.send(Delta::default());
        return std::future::pending().await;
    };
    let (events, mut changes) = mpsc::unbounded_channel();
    let watched = dir.clone();
    let retry = settings.scale.of(RETRY_WATCH);
    tokio::spawn(async move {
        // Dropping the watcher ends the watch, so it is kept for as long as this task lives.
        let _watcher = loop {
            match watch_directory(&watched, events.clone()) {
                Ok(watcher) => break watcher,
                Err(why) => warn!(why = format!("{why:#}"), "Unable to watch config path, ignoring"),
            }
            tokio::time::sleep(retry).await;
        };
        std::future::pending::<()>().await;
    });
    let mut source =
        Source { dir, node: settings.node.clone(), store: Store::default(), announced: Announced::default(), out };
    let mut scans = tokio::time::interval(settings.scale.of(settings.file_check));
    scans.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = scans.tick() => {
                if *attention.borrow() == Attention::Attentive {
                    source.scan().await;
                }
            }
            Some(change) = changes.recv() => {
                if *attention.borrow() == Attention::Attentive {
                    source.consume(change).await;
                }
            }
        }
    }
}

fn watch_directory(dir: &Path, events: mpsc::UnboundedSender<Change>) -> Result<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| match event {
        Ok(event) => {
            for change in meaning(&event) {
                let _ = events.send(change);
            }
        }
        Err(why) => error!(%why, "error while watching the manifest directory"),
    };
    let mut watcher = notify::recommended_watcher(handler).context("unable to create inotify")?;
    watcher.watch(dir, RecursiveMode::NonRecursive).with_context(|| format!("watching {}", dir.display()))?;
    Ok(watcher)
}

/// What the kubelet's inotify mask would have shown of an event; names with a leading dot are nothing.
fn meaning(event: &notify::Event) -> Vec<Change> {
    let change: fn(PathBuf) -> Change = match event.kind {
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_) | ModifyKind::Any) => {
            Change::Written
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Change::Written,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Change::Gone,
        _ => return Vec::new(),
    };
    event.paths.iter().filter(|path| !is_hidden(path)).cloned().map(change).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

struct Source {
    dir: PathBuf,
    node: String,
    store: Store,
    announced: Announced,
    out: mpsc::UnboundedSender<Delta>,
}

impl Source {
    fn announce(&mut self, set: Vec<StaticPod>) {
        let delta = self.announced.replace(set, &Timestamp::now().to_string());
        let _ = self.out.send(delta);
    }

    async fn consume(&mut self, change: Change) {
        match change {
            Change::Written(path) => match read(path.clone(), self.node.clone()).await {
                Ok(pod) => {
                    let set = self.store.file_changed(&path, pod);
                    self.announce(set);
                }
                Err(why) => {
                    let why = format!("can't process config file {:?}: {why}", path.display().to_string());
                    klog(128, "Unable to process watch event", &why, None);
                }
            },
            Change::Gone(path) => match self.store.file_gone(&path) {
                Ok(Some(set)) => self.announce(set),
                Ok(None) => {}
                Err(why) => error!(path = %path.display(), why, "error while processing event"),
            },
        }
    }

    async fn scan(&mut self) {
        let set = match list(&self.dir) {
            Ok(None) => {
                error!(path = %self.dir.display(), "Unable to read config path: path does not exist, ignoring");
                Vec::new()
            }
            Ok(Some(files)) => {
                let mut found = Vec::new();
                for path in files {
                    match read(path.clone(), self.node.clone()).await {
                        Ok(pod) => found.push((path, pod)),
                        Err(why) => klog(187, "Could not process manifest file", &why, Some(&path)),
                    }
                }
                self.store.scanned(found)
            }
            Err(why) => {
                error!(path = %self.dir.display(), %why, "Unable to read config path");
                return;
            }
        };
        self.announce(set);
    }
}

/// The regular files of the directory by name, links followed; none: there is no directory.
fn list(dir: &Path) -> std::io::Result<Option<Vec<PathBuf>>> {
    let meta = match std::fs::metadata(dir) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if meta.is_file() {
        return Ok(Some(vec![dir.to_owned()]));
    }
    let mut paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    paths.retain(|path| match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => true,
        Ok(meta) if meta.is_dir() => {
            error!(path = %path.display(), "Provided manifest path is a directory, not recursing into manifest path");
            false
        }
        Ok(_) => {
            error!(path = %path.display(), "Manifest path is not a directory or file");
            false
        }
        Err(why) => {
            error!(path = %path.display(), %why, "Could not get metadata");
            false
        }
    });
    Ok(Some(paths))
}

/// An error as klog writes it: lastgood reads these lines.
fn klog(line: u32, message: &str, why: &str, path: Option<&Path>) {
    let at = Timestamp::now().strftime("%m%d %H:%M:%S%.6f");
    let path = path.map_or(String::new(), |path| format!(" path={:?}", path.display().to_string()));
    eprintln!("E{at} {:>7} file.go:{line}] {message:?} err={why:?}{path}", std::process::id());
}

/// Reads and decodes one file, on a thread of its own: opening a fifo blocks.
async fn read(path: PathBuf, node: String) -> Result<StaticPod, String> {
    let task = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        let failed = |why: std::io::Error| why.to_string();
        let file = std::fs::File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err("the read limit is reached".into());
        }
        decode(&bytes, &path, &node)
    });
    task.await.unwrap_or_else(|why| Err(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: 'x:1'}}]}}\n"
        )
    }

    struct Directory {
        dir: tempfile::TempDir,
        source: Source,
        out: mpsc::UnboundedReceiver<Delta>,
    }

    impl Directory {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let (sender, out) = mpsc::unbounded_channel();
            let source = Source {
                dir: dir.path().join("manifests"),
                node: "n".into(),
                store: Store::default(),
                announced: Announced::default(),
                out: sender,
            };
            std::fs::create_dir(&source.dir).expect("made");
            Self { dir, source, out }
        }

        fn write(&self, file: &str, content: &str) -> PathBuf {
            let path = self.source.dir.join(file);
            std::fs::write(&path, content).expect("written");
            path
        }

        /// Scans, and names the pods that came and went.
        async fn scan(&mut self) -> (Vec<String>, Vec<String>) {
            self.source.scan().await;
            self.told()
        }

        fn told(&mut self) -> (Vec<String>, Vec<String>) {
            let delta = self.out.try_recv().expect("a set was announced");
            let names = |pods: Vec<StaticPod>| pods.into_iter().map(|pod| pod.full_name.name).collect();
            (names(delta.added), names(delta.removed))
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn every_regular_file_without_a_leading_dot_is_a_manifest_and_links_are_followed() {
        let mut dir = Directory::new();
        dir.write("a.yaml", &manifest("a"));
        dir.write("b.yaml~", &manifest("b"));
        dir.write("c", &manifest("c"));
        dir.write(".d.yaml", &manifest("d"));
        dir.write("README.txt", "read me");
        std::fs::write(dir.dir.path().join("e"), manifest("e")).expect("written");
        std::os::unix::fs::symlink(dir.dir.path().join("e"), dir.source.dir.join("e.yaml")).expect("linked");
        std::os::unix::fs::symlink("nowhere", dir.source.dir.join("dangling.yaml")).expect("linked");
        std::fs::create_dir(dir.source.dir.join("sub")).expect("made");
        std::fs::write(dir.source.dir.join("sub/f.yaml"), manifest("f")).expect("written");
        nix::unistd::mkfifo(&dir.source.dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(dir.scan().await.0, names(&["a-n", "b-n", "c-n", "e-n"]));
    }

    #[tokio::test]
    async fn an_event_about_a_broken_file_leaves_the_pod_and_the_next_scan_drops_it() {
        for broken in ["", "a: [", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n"] {
            let mut dir = Directory::new();
            dir.write("other.yaml", &manifest("other"));
            let path = dir.write("p.yaml", &manifest("p"));
            assert_eq!(dir.scan().await.0, names(&["other-n", "p-n"]));
            std::fs::write(&path, broken).expect("written");
            dir.source.consume(Change::Written(path)).await;
            assert!(dir.out.try_recv().is_err(), "nothing is announced for {broken:?}");
            assert_eq!(dir.scan().await, (vec![], names(&["p-n"])), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_directory_is_an_empty_set() {
        let mut dir = Directory::new();
        dir.write("p.yaml", &manifest("p"));
        dir.scan().await;
        std::fs::rename(&dir.source.dir, dir.dir.path().join("away")).expect("moved");
        assert_eq!(dir.scan().await, (vec![], names(&["p-n"])));
    }

    #[tokio::test]
    async fn more_than_ten_megabytes_are_not_read() {
        let mut dir = Directory::new();
        let size = usize::try_from(MAX_BYTES).expect("fits");
        dir.write("big.yaml", &format!("{}#{}\n", manifest("big"), "x".repeat(size)));
        dir.write("p.yaml", &manifest("p"));
        assert_eq!(dir.scan().await.0, names(&["p-n"]));
    }

    #[test]
    fn events_mean_what_the_kubelets_mask_shows() {
        let path = PathBuf::from("/m/p.yaml");
        let event = |kind, path: &str| meaning(&notify::Event::new(kind).add_path(PathBuf::from(path)));
        let to = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let from = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        assert_eq!(event(to, "/m/p.yaml"), [Change::Written(path.clone())]);
        assert_eq!(event(from, "/m/p.yaml"), [Change::Gone(path)]);
        assert!(event(to, "/m/.p.yaml.swp").is_empty());
        assert!(event(EventKind::Modify(ModifyKind::Name(RenameMode::Both)), "/m/p.yaml").is_empty());
        assert!(event(EventKind::Access(notify::event::AccessKind::Any), "/m/p.yaml").is_empty());
    }
}
