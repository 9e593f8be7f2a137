//! A directory of manifests, read as the kubelet reads it (`pkg/kubelet/config/file.go`): every name that does not
//! begin with a dot, whatever its extension.
//!
//! ```text
//!   names ──stat──▶ same stat as before? ──yes──▶ the cached result
//!                          │ no
//!                          ▼
//!                   read, parse, hold a descriptor ──▶ when the name disappears: deleted, or moved where?
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
use crate::model::config_files::generation_digest;
use crate::model::manifest::MAX_BYTES;
use crate::model::observation::{Directory, Gone, ManifestFile, Settled};
use crate::model::{Digest, FileFault, Manifest, Moment};

/// The most entries that are looked at. The kubelet has no limit; a directory with more holds no manifests of people.
const MAX_ENTRIES: usize = 1000;

/// The most descriptors held: a master has four manifests and a few more, a service may hold 1024 descriptors.
const MAX_HELD: usize = 128;

/// Whether descriptors are held, so that it is known how a file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Yes,
    No,
}

/// What is known of one directory from earlier looks.
#[derive(Debug)]
pub(super) struct Looker {
    entries: BTreeMap<String, Entry>,
    gone: BTreeMap<String, Gone>,
    hold: Hold,
}

/// How what a file holds was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// With the name: how long it has existed before, only its time stamps tell.
    First,
    /// In place of something else: it is newer than the look before, whatever its time stamps say. They are not to be
    /// believed in the middle of a write: those read before the bytes are of the file before, and some file systems cut a
    /// file first and stamp it afterwards.
    Changed,
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
    sight: Sight,
    shown: Option<Arc<ManifestFile>>,
}

/// How long a file must have existed unchanged.
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
        self.visit(&names, closures, scope, quiet)
    }

    /// Looks at what was listed. What went since then is gone in this very look: a pass that saw it neither here nor
    /// gone would take it for something that went unwatched.
    fn visit(
        &mut self,
        names: &BTreeMap<String, PathBuf>,
        closures: &mut Closures,
        scope: &Scope,
        quiet: Quiet,
    ) -> Directory {
        let mut files = BTreeMap::new();
        for (name, path) in names {
            match self.look_at(name, path, closures, scope, quiet) {
                Some(shown) => {
                    self.gone.remove(name);
                    files.insert(name.clone(), shown);
                }
                None => self.settle(name),
            }
        }
        Directory::Present { files, gone: self.gone.clone() }
    }

    /// Settles the fate of whatever existed here and is not among these names.
    fn note_gone(&mut self, names: &BTreeMap<String, PathBuf>) {
        let left: Vec<String> = self.entries.keys().filter(|name| !names.contains_key(*name)).cloned().collect();
        for name in left {
            self.settle(&name);
        }
    }

    /// Settles the fate of one that is gone.
    fn settle(&mut self, name: &str) {
        if let Some((held, path)) = self.entries.remove(name).and_then(|entry| entry.held) {
            self.gone.insert(name.to_owned(), fate(&held, &path));
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
            // It went between the listing and now.
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
            let fresh = self.read(path, stamp, quiet);
            // It went while it was read: that is no file without a pod, which would be put right at once.
            if fresh.content.is_err()
                && matches!(fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
            {
                return None;
            }
            let old = self.entries.remove(name);
            // The same bytes again are the same file, whether they were read again for caution or written again.
            let (since, sight, shown) = match &old {
                Some(old) if old.bytes == fresh.bytes => (old.since, old.sight, old.shown.clone()),
                Some(_) => (fresh.since, Sight::Changed, None),
                None => (fresh.since, Sight::First, None),
            };
            let held = self.rehold(old.and_then(|old| old.held), path);
            self.entries.insert(name.to_owned(), Entry { held, since, sight, shown, ..fresh });
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
        let settled = settled(changed, entry.since, entry.sight, quiet);
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

    fn read(&self, path: &Path, stamp: Result<Stamp, Fault>, quiet: Quiet) -> Entry {
        let entry = |stamp, bytes, content| Entry {
            stamp,
            content,
            bytes,
            held: None,
            since: quiet.now.boot,
            sight: Sight::First,
            shown: None,
        };
        let fault = |fault: FileFault| entry(None, Digest::of(fault.to_string().as_bytes()), Err(fault));
        match stamp.and_then(|_| file::read(path, MAX_BYTES)) {
            Ok((raw, stamp)) => {
                let stamp = stamp.is_settled(quiet.now.wall).then_some(stamp);
                entry(stamp, Digest::of(&raw), Manifest::parse(raw.into()))
            }
            Err(why) => fault(why.of_manifest(path)),
        }
    }

    /// A descriptor of the file that exists now; the one that is held already, if that is it.
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
        // Where it really is, links resolved: that is what the kernel will tell of it later.
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
    let named = || fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let it_is = |to: &Path| fs::metadata(to).is_ok_and(|there| (there.dev(), there.ino()) == (meta.dev(), meta.ino()));
    match named() {
        // Another name of it lives on elsewhere; this one was unlinked.
        Ok(to) if to.to_string_lossy().ends_with(" (deleted)") => Gone::Deleted,
        // A link to it went, and it stays where it was.
        Ok(to) if to == stood => Gone::Deleted,
        Ok(to) if it_is(&to) => Gone::Moved { to: Some(to) },
        // It was moved on while we looked; or the descriptor is of a mount that the file has left, for which the kernel
        // says "/" or a path that starts in the middle: not what any path of ours leads to.
        Ok(_) => Gone::Moved { to: named().ok().filter(|to| it_is(to)) },
        Err(_) => Gone::Unwitnessed,
    }
}

fn newest(own: Timestamp, looked: &[Looked]) -> Timestamp {
    let files = looked.iter().filter(|looked| looked.file.identifies()).filter_map(|looked| looked.changed);
    files.fold(own, Timestamp::max)
}

/// By either clock: the wall clock tells of changes before our first look, the boot clock does not jump.
fn settled(changed: Timestamp, since: Duration, sight: Sight, quiet: Quiet) -> Settled {
    let by_wall = sight == Sight::First
        && Duration::try_from(quiet.now.wall.duration_since(changed)).is_ok_and(|age| age >= quiet.quiet);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::sys::clock::now;

    struct Bench {
        root: tempfile::TempDir,
        dir: PathBuf,
        looker: Looker,
        closures: Closures,
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("manifests");
            fs::create_dir(&dir).unwrap();
            Self { root, dir, looker: Looker::new(Hold::Yes), closures: Closures::default() }
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            fs::write(self.dir.join(name), text).unwrap();
        }

        fn look_at(&mut self, now: Moment) -> Directory {
            let scope = Scope { root: self.root.path().to_owned(), excluded: vec![self.dir.clone()] };
            self.closures.begin();
            self.looker.look(&self.dir, &mut self.closures, &scope, Quiet { now, quiet: Duration::from_secs(1) })
        }

        fn look(&mut self) -> Directory {
            self.look_at(now())
        }

        fn fault(&mut self, name: &str) -> FileFault {
            self.look().file(name).unwrap_or_else(|| panic!("{name} was not seen")).content.clone().unwrap_err()
        }
    }

    fn pod(name: &str, word: &str) -> String {
        format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: kube-system}}, \
             spec: {{containers: [{{name: a, image: i, command: [run, '{word}']}}]}}}}"
        )
    }

    #[test]
    fn whatever_stands_there_is_told_apart_and_nothing_blocks() {
        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        bench.write("a.yaml.bak", pod("a", "y"));
        bench.write(".hidden.yaml", pod("h", "x"));
        bench.write("empty", "");
        bench.write("torn", &pod("a", "x")[..60]);
        bench.write("README.txt", "hello");
        bench.write("nul", [0; 512]);
        fs::create_dir(bench.dir.join("sub")).unwrap();
        symlink("/nowhere/at/all", bench.dir.join("dangling")).unwrap();
        symlink("loop", bench.dir.join("loop")).unwrap();
        symlink(bench.dir.join("a.yaml"), bench.dir.join("link")).unwrap();
        mkfifo(&bench.dir.join("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(bench.dir.join("socket")).unwrap();
        // Sparse: it takes no room, and reading it would take a while.
        fs::File::create(bench.dir.join("huge")).unwrap().set_len(20 << 20).unwrap();

        let seen = bench.look();
        let names: Vec<&str> = seen.files().map(|file| file.name.as_str()).collect();
        assert!(!names.contains(&".hidden.yaml"));
        assert_eq!(names.len(), 13, "{names:?}");
        for name in ["a.yaml", "a.yaml.bak", "link"] {
            assert!(seen.file(name).unwrap().content.is_ok(), "{name} is a manifest to the kubelet");
        }
        assert_eq!(bench.fault("empty"), FileFault::Empty);
        assert!(matches!(bench.fault("torn"), FileFault::NotYaml { .. }));
        assert!(matches!(bench.fault("README.txt"), FileFault::NotAPod { .. }));
        assert!(matches!(bench.fault("nul"), FileFault::NotYaml { .. }));
        assert_eq!(bench.fault("sub"), FileFault::Directory);
        assert_eq!(bench.fault("dangling"), FileFault::DanglingLink { target: "/nowhere/at/all".into() });
        assert!(matches!(bench.fault("loop"), FileFault::Unreadable { .. }), "{:?}", bench.fault("loop"));
        assert_eq!(bench.fault("fifo"), FileFault::Special { kind: "fifo".into() });
        assert_eq!(bench.fault("socket"), FileFault::Special { kind: "socket".into() });
        assert_eq!(bench.fault("huge"), FileFault::TooLarge { bytes: 20 << 20 });
    }

    #[test]
    fn a_second_look_at_the_same_files_parses_nothing() {
        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        let later = |ms: u64| {
            let now = now();
            Moment { wall: now.wall + Duration::from_millis(ms), boot: now.boot + Duration::from_millis(ms) }
        };
        let first = Arc::clone(bench.look_at(later(2000)).file("a.yaml").unwrap());
        assert!(Arc::ptr_eq(&first, bench.look_at(later(2100)).file("a.yaml").unwrap()));
        bench.write("a.yaml", pod("a", "z"));
        let changed = Arc::clone(bench.look().file("a.yaml").unwrap());
        assert_ne!(first.digest, changed.digest, "the same size, another content");
        assert!(changed.changed > first.changed);
    }

    #[test]
    fn a_write_within_the_same_tick_is_not_missed() {
        let mut bench = Bench::new();
        for round in 0..50 {
            bench.write("a.yaml", pod("a", &format!("word{:02}", round)));
            let seen = bench.look();
            let line = seen.file("a.yaml").unwrap().content.as_ref().unwrap().command_line().unwrap();
            assert_eq!(line[1], format!("word{round:02}"));
        }
    }

    #[test]
    fn a_file_is_settled_after_the_quiet_time_by_either_clock() {
        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        let start = now();
        let settled = |bench: &mut Bench, boot: u64, wall: i64| {
            let wall = start.wall + jiff::SignedDuration::from_millis(wall);
            let at = Moment { wall, boot: start.boot + Duration::from_millis(boot) };
            bench.look_at(at).file("a.yaml").unwrap().settled
        };
        assert_eq!(settled(&mut bench, 0, 10), Settled::NotYet, "just written");
        assert_eq!(settled(&mut bench, 500, -3_600_000), Settled::NotYet, "the wall clock jumped back");
        assert_eq!(settled(&mut bench, 1100, -3_600_000), Settled::Yes, "and does not hold it up for ever");
        bench.write("a.yaml", pod("a", "y"));
        assert_eq!(settled(&mut bench, 1200, -3_600_000), Settled::NotYet, "written again");
        assert_eq!(
            settled(&mut Bench { looker: Looker::new(Hold::Yes), ..bench }, 1300, 5000),
            Settled::Yes,
            "an old file at first sight"
        );
    }

    #[test]
    fn how_a_file_went_is_known() {
        let mut bench = Bench::new();
        for name in ["deleted", "moved", "hidden", "replaced", "back"] {
            bench.write(name, pod(name, "x"));
        }
        bench.look();
        let aside = bench.root.path().join("aside");
        fs::remove_file(bench.dir.join("deleted")).unwrap();
        fs::rename(bench.dir.join("moved"), &aside).unwrap();
        fs::rename(bench.dir.join("hidden"), bench.dir.join(".hidden")).unwrap();
        let staged = bench.root.path().join("staged");
        fs::write(&staged, pod("replaced", "y")).unwrap();
        fs::rename(&staged, bench.dir.join("replaced")).unwrap();
        fs::rename(bench.dir.join("back"), bench.root.path().join("back")).unwrap();
        let seen = bench.look();
        assert_eq!(seen.fate("deleted"), Gone::Deleted);
        assert_eq!(seen.fate("moved"), Gone::Moved { to: Some(aside.clone()) });
        assert_eq!(seen.fate("hidden"), Gone::Moved { to: Some(bench.dir.join(".hidden")) });
        assert!(seen.file("replaced").is_some());
        assert_eq!(seen.fate("never-seen"), Gone::Unwitnessed);
        fs::rename(bench.root.path().join("back"), bench.dir.join("back")).unwrap();
        fs::remove_file(&aside).unwrap();
        fs::remove_file(bench.dir.join("replaced")).unwrap();
        let seen = bench.look();
        assert!(seen.file("back").is_some());
        assert_eq!(seen.fate("back"), Gone::Unwitnessed, "it stands, and has no fate");
        assert_eq!(seen.fate("moved"), Gone::Moved { to: Some(aside) }, "what was decided stays");
        assert_eq!(seen.fate("replaced"), Gone::Deleted, "the one that replaced it was held too");
    }

    #[test]
    fn what_leaves_our_mount_is_moved_out_of_sight_and_not_to_the_root() {
        use nix::fcntl::renameat;
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};

        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        // As another process sees them: one mount.
        let (outside, inside) = (File::open(bench.root.path()).unwrap(), File::open(&bench.dir).unwrap());
        // As systemd's sandbox makes it: the directory is its own mount. Of this thread alone; who may not make one
        // cannot try this.
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return;
        }
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        mount(Some(&bench.dir), &bench.dir, nothing, MsFlags::MS_BIND, nothing).unwrap();
        bench.look();
        renameat(&inside, "a.yaml", &outside, "aside").unwrap();
        assert_eq!(bench.look().fate("a.yaml"), Gone::Moved { to: None });
    }

    #[test]
    fn a_file_that_is_being_written_is_never_one_that_has_been_broken_for_long() {
        const QUIET: Duration = Duration::from_millis(40);
        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        let path = bench.dir.join("a.yaml");
        // Truncated and written, as an editor does, after it has existed for long enough to be settled.
        let writer = std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            for round in 0..25 {
                std::thread::sleep(QUIET + QUIET / 4);
                let began = std::time::Instant::now();
                fs::write(&path, pod("a", &round.to_string())).unwrap();
                slowest = slowest.max(began.elapsed());
            }
            slowest
        });
        let scope = Scope { root: bench.root.path().to_owned(), excluded: vec![bench.dir.clone()] };
        let mut broken = Vec::new();
        while !writer.is_finished() {
            bench.closures.begin();
            let quiet = Quiet { now: now(), quiet: QUIET };
            let seen = bench.looker.look(&bench.dir, &mut bench.closures, &scope, quiet);
            let settled = seen.files().filter(|file| file.content.is_err() && file.settled == Settled::Yes);
            broken.extend(settled.cloned());
        }
        // On a machine so busy that a write takes as long as a file must stand, nothing can be said.
        if writer.join().unwrap() < QUIET / 2 {
            assert!(broken.is_empty(), "{:?}", broken[0].content);
        }
    }

    #[test]
    fn what_goes_between_the_listing_and_the_look_is_gone_in_the_same_look() {
        let mut bench = Bench::new();
        bench.write("deleted", pod("deleted", "x"));
        bench.write("moved", pod("moved", "x"));
        bench.look();
        let listed = names(&bench.dir).unwrap();
        fs::remove_file(bench.dir.join("deleted")).unwrap();
        let aside = bench.root.path().join("aside");
        fs::rename(bench.dir.join("moved"), &aside).unwrap();
        let scope = Scope { root: bench.root.path().to_owned(), excluded: vec![bench.dir.clone()] };
        let quiet = Quiet { now: now(), quiet: Duration::from_secs(1) };
        bench.closures.begin();
        let seen = bench.looker.visit(&listed, &mut bench.closures, &scope, quiet);
        assert_eq!(seen.files().count(), 0);
        assert_eq!(seen.fate("deleted"), Gone::Deleted);
        assert_eq!(seen.fate("moved"), Gone::Moved { to: Some(aside) });
    }

    #[test]
    fn a_hard_link_elsewhere_does_not_make_a_deleted_file_a_moved_one() {
        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        fs::hard_link(bench.dir.join("a.yaml"), bench.root.path().join("backup")).unwrap();
        bench.look();
        fs::remove_file(bench.dir.join("a.yaml")).unwrap();
        assert_eq!(bench.look().fate("a.yaml"), Gone::Deleted);
    }

    #[test]
    fn a_directory_that_is_gone_is_missing_and_one_that_is_no_directory_is_unreadable() {
        let mut bench = Bench::new();
        bench.write("a.yaml", pod("a", "x"));
        bench.look();
        fs::remove_dir_all(&bench.dir).unwrap();
        let seen = bench.look();
        assert!(matches!(seen, Directory::Missing { .. }));
        assert_eq!(seen.fate("a.yaml"), Gone::Deleted);
        fs::write(&bench.dir, "").unwrap();
        assert!(matches!(bench.look(), Directory::Unreadable(_)));
        fs::remove_file(&bench.dir).unwrap();
        fs::create_dir(&bench.dir).unwrap();
        bench.write("a.yaml", pod("a", "x"));
        assert!(bench.look().file("a.yaml").is_some());
    }
}
