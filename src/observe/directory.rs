//! A directory of manifests, read as the kubelet reads it (`pkg/kubelet/config/file.go`): every name that does not begin
//! with a dot, whatever its ending.
//!
//! ```text
//!   names ──stat──▶ same stamp as before? ──yes──▶ what was parsed then
//!                          │ no
//!                          ▼
//!                   read, parse, hold a descriptor ──▶ when the name goes: deleted, or moved where?
//! ```
//!
//! A pass over an unchanged directory costs one stat per file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::closure::{Closures, Looked, Scope};
use super::file::{self, Fault, Stamp};
use crate::model::closure::generation_digest;
use crate::model::manifest::MAX_BYTES;
use crate::model::observation::{Directory, Gone, ManifestFile, Settled};
use crate::model::{Digest, FileFault, Manifest, Moment};

/// The most entries that are looked at. The kubelet has no limit; a directory with more holds no manifests of people.
const MAX_ENTRIES: usize = 1000;

/// The most descriptors held: a master has four manifests and a few more, a service may hold 1024 descriptors.
const MAX_HELD: usize = 128;

/// Whether descriptors are held, so that it can be told how a file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// They are.
    Yes,
    /// Not here.
    No,
}

/// What is known of one directory from earlier looks.
#[derive(Debug)]
pub(super) struct Looker {
    entries: BTreeMap<String, Entry>,
    gone: BTreeMap<String, Gone>,
    hold: Hold,
}

#[derive(Debug)]
struct Entry {
    /// Absent for what is no regular file, and for what has to be read again.
    stamp: Option<Stamp>,
    content: Result<Manifest, FileFault>,
    bytes: Digest,
    held: Option<(File, PathBuf)>,
    /// Since when it is as it is, on the boot clock.
    since: Duration,
    shown: Option<Arc<ManifestFile>>,
}

/// How long a file must have stood unchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    /// When this look began.
    pub(super) now: Moment,
    /// The quiet time.
    pub(super) quiet: Duration,
}

impl Looker {
    /// Nothing known yet.
    pub(super) fn new(hold: Hold) -> Self {
        Self { entries: BTreeMap::new(), gone: BTreeMap::new(), hold }
    }

    /// Reads the directory.
    pub(super) fn look(&mut self, dir: &Path, closures: &mut Closures, scope: &Scope, quiet: Quiet) -> Directory {
        let names = match names(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.note_gone(&BTreeMap::new());
                return Directory::Missing { gone: self.gone.clone() };
            }
            Err(error) => return Directory::Unreadable(format!("{} cannot be read: {error}", dir.display())),
        };
        self.note_gone(&names);
        let mut files = BTreeMap::new();
        for (name, path) in &names {
            if let Some(shown) = self.look_at(name, path, closures, scope, quiet) {
                self.gone.remove(name);
                files.insert(name.clone(), shown);
            }
        }
        Directory::Present { files, gone: self.gone.clone() }
    }

    /// Settles the fate of whatever stood here and is not among these names.
    fn note_gone(&mut self, names: &BTreeMap<String, PathBuf>) {
        let left: Vec<String> = self.entries.keys().filter(|name| !names.contains_key(*name)).cloned().collect();
        for name in left {
            let entry = self.entries.remove(&name);
            if let Some((held, path)) = entry.and_then(|entry| entry.held) {
                self.gone.insert(name, fate(&held, &path));
            }
        }
    }

    fn look_at(
        &mut self,
        name: &str,
        path: &Path,
        closures: &mut Closures,
        scope: &Scope,
        quiet: Quiet,
    ) -> Option<Arc<ManifestFile>> {
        // Of the name itself: a link is changed by pointing it elsewhere.
        let link = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            // It went between the listing and now: the next look will settle its fate.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let fault = FileFault::Unreadable { error: error.to_string() };
                return Some(Arc::new(faulty(name, fault, quiet.now.wall, 0)));
            }
        };
        let stamp = file::stat(path);
        let known = self
            .entries
            .get(name)
            .is_some_and(|entry| entry.stamp.is_some() && entry.stamp == stamp.as_ref().ok().cloned());
        if !known {
            let fresh = self.read(path, stamp, &link, quiet);
            let old = self.entries.remove(name);
            // The same bytes again are the same file, whether they were read again for caution or written again.
            let (since, shown) = match &old {
                Some(old) if old.bytes == fresh.bytes => (old.since, old.shown.clone()),
                _ => (fresh.since, None),
            };
            let held = self.rehold(old.and_then(|old| old.held), path);
            self.entries.insert(name.to_owned(), Entry { held, since, shown, ..fresh });
        }
        let entry = self.entries.get_mut(name)?;
        let own = Stamp::of(&link).changed();
        let own = entry.stamp.as_ref().map_or(own, |stamp| stamp.changed().max(own));
        let looked = match &entry.content {
            Ok(manifest) => closures.of(manifest, scope),
            Err(_) => Vec::new(),
        };
        let changed = newest(own, &looked);
        let closure: Vec<_> = looked.into_iter().map(|looked| looked.file).collect();
        let digest = match &entry.content {
            Ok(manifest) => generation_digest(manifest.digest, &closure),
            Err(_) => entry.bytes,
        };
        let same = entry
            .shown
            .as_ref()
            .is_some_and(|shown| shown.digest == digest && shown.changed == changed && shown.closure == closure);
        if !same && entry.shown.is_some() {
            entry.since = quiet.now.boot;
        }
        let settled = settled(changed, entry.since, quiet);
        match &entry.shown {
            Some(shown) if same && shown.settled == settled => Some(Arc::clone(shown)),
            _ => {
                let shown = Arc::new(ManifestFile {
                    name: name.to_owned(),
                    content: entry.content.clone(),
                    closure,
                    digest,
                    changed,
                    uid: link.uid(),
                    settled,
                });
                entry.shown = Some(Arc::clone(&shown));
                Some(shown)
            }
        }
    }

    fn read(&self, path: &Path, stamp: Result<Stamp, Fault>, link: &fs::Metadata, quiet: Quiet) -> Entry {
        let entry =
            |stamp, bytes, content| Entry { stamp, content, bytes, held: None, since: quiet.now.boot, shown: None };
        let fault = |fault: FileFault| entry(None, Digest::of(fault.to_string().as_bytes()), Err(fault));
        match stamp.and_then(|_| file::read(path, MAX_BYTES)) {
            Ok((raw, stamp)) => {
                let stamp = stamp.is_settled(quiet.now.wall).then_some(stamp);
                entry(stamp, Digest::of(&raw), Manifest::parse(raw.into()))
            }
            Err(Fault::Missing) if link.file_type().is_symlink() => {
                let target = fs::read_link(path).unwrap_or_default();
                fault(FileFault::DanglingLink { target: target.display().to_string() })
            }
            Err(Fault::Missing) => fault(FileFault::Unreadable { error: "it went while it was read".to_owned() }),
            Err(Fault::Directory) => fault(FileFault::Directory),
            Err(Fault::Special(kind)) => fault(FileFault::Special { kind: kind.to_owned() }),
            Err(Fault::TooLarge(bytes)) => fault(FileFault::TooLarge { bytes }),
            Err(Fault::Failed(error)) => fault(FileFault::Unreadable { error: error.to_string() }),
        }
    }

    /// A descriptor of the file that stands now; the one that is held already, if that is it.
    fn rehold(&self, held: Option<(File, PathBuf)>, path: &Path) -> Option<(File, PathBuf)> {
        if self.hold == Hold::No {
            return None;
        }
        let now = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        if let Some((file, path)) = held
            && file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (now.dev(), now.ino()))
        {
            return Some((file, path));
        }
        let count = self.entries.values().filter(|entry| entry.held.is_some()).count();
        if count >= MAX_HELD {
            return None;
        }
        // Where it really lies, links resolved: that is what the kernel will tell of it later.
        let real = fs::canonicalize(path).ok()?;
        Some((file::hold(&real).ok()?, real))
    }
}

/// The names the kubelet looks at, with their paths.
fn names(dir: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && names.len() < MAX_ENTRIES {
            names.insert(name, entry.path());
        }
    }
    Ok(names)
}

/// What became of a file whose name is gone.
fn fate(held: &File, stood: &Path) -> Gone {
    let Ok(meta) = held.metadata() else {
        return Gone::Unwitnessed;
    };
    if meta.nlink() == 0 {
        return Gone::Deleted;
    }
    match fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())) {
        // Another name of it lives on elsewhere; this one was unlinked.
        Ok(to) if to.to_string_lossy().ends_with(" (deleted)") => Gone::Deleted,
        // A link to it went, and it stays where it was.
        Ok(to) if to == stood => Gone::Deleted,
        Ok(to) => Gone::Moved { to },
        Err(_) => Gone::Unwitnessed,
    }
}

fn newest(own: Timestamp, looked: &[Looked]) -> Timestamp {
    let files = looked.iter().filter(|looked| looked.file.identifies()).filter_map(|looked| looked.changed);
    files.fold(own, Timestamp::max)
}

/// By either clock: the wall clock tells of changes before our first look, the boot clock does not jump.
fn settled(changed: Timestamp, since: Duration, quiet: Quiet) -> Settled {
    let by_wall = Duration::try_from(quiet.now.wall.duration_since(changed)).is_ok_and(|age| age >= quiet.quiet);
    let by_boot = quiet.now.boot.saturating_sub(since) >= quiet.quiet;
    if by_wall || by_boot { Settled::Yes } else { Settled::NotYet }
}

fn faulty(name: &str, fault: FileFault, changed: Timestamp, uid: u32) -> ManifestFile {
    ManifestFile {
        name: name.to_owned(),
        digest: Digest::of(fault.to_string().as_bytes()),
        content: Err(fault),
        closure: Vec::new(),
        changed,
        uid,
        settled: Settled::NotYet,
    }
}
