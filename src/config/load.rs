//! Reads the configuration files into fragments, and merges them in order into [`super::Settings`] with the origin of every
//! value.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use toml::de::{DeTable, DeValue};

use super::keys::{Key, Keys};
use super::loaded::{Loaded, Origin};
use super::renamed::{self, OldName, RENAMED};
use super::{Mistake, Mistakes, validate};

/// The first file, where `--config` names no other. Fragments lie beside it in `config.d`.
pub const DEFAULT_FILE: &str = "/etc/lastgood/config.toml";

/// A hand-written configuration is a few kilobytes; what is larger is something else.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Reads the configuration: `file` or [`DEFAULT_FILE`], then `config.d/*.toml` beside it in lexical order. A later value
/// wins. None of the files has to exist, except one that was asked for.
///
/// # Errors
/// Every mistake of every file.
pub fn load(file: Option<&Path>, keys: Keys) -> Result<Loaded, Mistakes> {
    let (loaded, mistakes) = load_leniently(file, keys);
    if mistakes.0.is_empty() { Ok(loaded) } else { Err(mistakes) }
}

/// Reads what can be understood, and names the rest: for filling empty slots (Q11), which has to work on the day somebody
/// broke the configuration as well.
pub fn load_leniently(file: Option<&Path>, keys: Keys) -> (Loaded, Mistakes) {
    let mut loaded = Loaded::new(keys);
    let mut mistakes = Vec::new();
    let first = file.unwrap_or(Path::new(DEFAULT_FILE));
    for path in candidates(first, &mut mistakes) {
        match read(&path) {
            Ok(text) => {
                merge(&path, &text, &mut loaded, &mut mistakes);
                loaded.settings.files.push(path);
            }
            Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::NotFound && path == first && file.is_none() => {}
            Err(Trouble::Io(error)) => mistakes.push(Mistake::unreadable(path, &error, "")),
            Err(Trouble::NotOurs(what)) => mistakes.push(Mistake::of_file(path, what)),
        }
    }
    validate::contradictions(&loaded, first, &mut mistakes);
    (loaded, Mistakes(mistakes))
}

/// The files to read, in order.
pub(super) fn candidates(first: &Path, mistakes: &mut Vec<Mistake>) -> Vec<PathBuf> {
    let mut files = vec![first.to_owned()];
    let dir = first.parent().unwrap_or(Path::new("/")).join("config.d");
    let entries = fs::read_dir(&dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    match entries {
        Ok(entries) => {
            let mut fragments: Vec<PathBuf> = entries;
            fragments.retain(|path| {
                path.extension().is_some_and(|ending| ending == "toml")
                    && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
            });
            fragments.sort();
            files.extend(fragments);
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => {
            mistakes.push(Mistake::unreadable(dir, &error, "; make it readable, or remove it"));
        }
    }
    files
}

pub(super) enum Trouble {
    Io(io::Error),
    NotOurs(String),
}

/// Reads one file. It names a command that root runs, so nobody else may be able to write it.
pub(super) fn read(path: &Path) -> Result<String, Trouble> {
    let meta = fs::metadata(path).map_err(Trouble::Io)?;
    if !meta.is_file() {
        return Err(Trouble::NotOurs("is not a regular file".to_owned()));
    }
    if meta.len() > MAX_BYTES {
        return Err(Trouble::NotOurs(format!("is {} bytes, more than a configuration has ({MAX_BYTES})", meta.len())));
    }
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != me {
        return Err(Trouble::NotOurs(format!("belongs to user {}: chown it to root", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(Trouble::NotOurs(format!("can be written by others (mode {mode:04o}): chmod go-w it")));
    }
    fs::read_to_string(path).map_err(Trouble::Io)
}

/// Puts one file's values over those of the files before it.
pub(super) fn merge(file: &Path, text: &str, loaded: &mut Loaded, mistakes: &mut Vec<Mistake>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let line = |at: usize| line_of(text, at);
    for error in errors {
        let what = format!("is not TOML: {}", error.message());
        let line = error.span().map(|span| line(span.start));
        mistakes.push(Mistake { line, ..Mistake::of_file(file.to_owned(), what) });
    }
    let before = loaded.old_names.len();
    let mut walk = Walk { file, line: &line, loaded, mistakes, given: BTreeMap::new() };
    walk.table("", table.get_ref());
    // A table is walked by name.
    loaded.old_names[before..].sort_by_key(|old| old.line);
}

/// The line of a place in a text, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A walk through the tables of one file.
struct Walk<'w> {
    file: &'w Path,
    line: &'w dyn Fn(usize) -> usize,
    loaded: &'w mut Loaded,
    mistakes: &'w mut Vec<Mistake>,
    /// The line of each key that this file gives, and the old name where it is under that.
    given: BTreeMap<&'static str, (usize, Option<&'static str>)>,
}

impl Walk<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let line = (self.line)(name.span().start);
            if let Some((key, old)) = renamed::resolve(self.loaded.keys, &path) {
                self.value(key, old, line, value.get_ref());
            } else if self.loaded.keys.has_table(&path) || renamed::new_table(&path).is_some() {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(&path, inner),
                    other => {
                        let what =
                            format!("is a table, not a single {}: write [{path}] and its keys", other.type_str());
                        self.wrong(line, path, what);
                    }
                }
            } else {
                let what = unknown(self.loaded.keys, &path, value.get_ref());
                self.wrong(line, path, what);
            }
        }
    }

    /// One key, under its name or its old one.
    fn value(&mut self, key: &'static Key, old: Option<&'static str>, line: usize, value: &DeValue<'_>) {
        self.loaded.old_names.extend(old.map(|old| OldName { file: self.file.to_owned(), line, old, new: key.name }));
        let other = self.given.insert(key.name, (line, old));
        if let Some(other) = other {
            self.twice(key, (line, old), other);
            if old.is_some() {
                return;
            }
        }
        match key.set(&mut self.loaded.settings, value) {
            Ok(()) => {
                self.loaded.origins.insert(key.name, Origin { file: self.file.to_owned(), line });
            }
            Err(what) => self.wrong(line, old.unwrap_or(key.name).to_owned(), what),
        }
    }

    /// One file that gives a key under both of its names contradicts itself. Of two files the later one wins, as ever.
    fn twice(&mut self, key: &Key, a: (usize, Option<&'static str>), b: (usize, Option<&'static str>)) {
        let ((line, old), (other, _)) = if a.1.is_some() { (a, b) } else { (b, a) };
        let also = Origin { file: self.file.to_owned(), line: other };
        let what = format!("is the old name of {}, which {also} sets as well: remove one of the two", key.name);
        self.mistakes.push(Mistake {
            line: Some(line),
            key: old.map(str::to_owned),
            also: Some(also),
            ..Mistake::of_file(self.file.to_owned(), what)
        });
    }

    fn wrong(&mut self, line: usize, key: String, what: String) {
        self.mistakes.push(Mistake {
            line: Some(line),
            key: Some(key),
            ..Mistake::of_file(self.file.to_owned(), what)
        });
    }
}

/// Says that there is no such key, and which was probably meant.
fn unknown(all: Keys, path: &str, value: &DeValue<'_>) -> String {
    let tidy = path.to_lowercase().replace('_', "-");
    let last = tidy.rsplit('.').next().unwrap_or(&tidy);
    if value.is_table() {
        let mut tables: Vec<&str> = all.iter().map(|key| key.split().0).filter(|table| !table.is_empty()).collect();
        tables.dedup();
        return match similar::get_close_matches(tidy.as_str(), &tables, 1, 0.6).first() {
            Some(meant) => format!("no such table; did you mean [{meant}]?"),
            None => format!("no such table; there are: {}", tables.join(", ")),
        };
    }
    // The right name in the wrong table is the commonest slip after a typing error. Old names are known as well: one may
    // be in a table that has its new name.
    let keys = || all.iter().map(|key| (key.name, key.name)).chain(RENAMED.iter().copied());
    let called = |is_meant: &dyn Fn(&str) -> bool| {
        let mut meant: Vec<&str> = keys().filter(|(written, _)| is_meant(written)).map(|(_, name)| name).collect();
        let mut seen = BTreeSet::new();
        meant.retain(|name| seen.insert(*name));
        meant
    };
    let leaf = |written: &str| written.rsplit('.').next() == Some(last);
    let mut meant = called(&leaf);
    if meant.is_empty() || meant.len() > 3 {
        let names: Vec<&str> = keys().map(|(written, _)| written).collect();
        let close = similar::get_close_matches(tidy.as_str(), &names, 1, 0.6);
        meant = called(&|written| close.contains(&written));
    }
    if meant.is_empty() {
        let names: Vec<&str> = all.iter().map(|key| key.split().1).collect();
        let close = similar::get_close_matches(last, &names, 1, 0.7);
        meant = all.iter().filter(|key| close.contains(&key.split().1)).map(|key| key.name).collect();
    }
    if meant.is_empty() {
        "no such key; `lastgood config show` lists them all".to_owned()
    } else {
        format!("no such key; did you mean {}?", meant.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::KEYS;
    use std::time::Duration;

    use crate::config::Settings;
    use crate::model::policy::{Duplicates, Mode};

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn load_in(dir: &tempfile::TempDir) -> Result<Loaded, Mistakes> {
        load(Some(&dir.path().join("config.toml")), KEYS)
    }

    fn mistakes_of(text: &str) -> Vec<String> {
        let dir = dir(&[("config.toml", text)]);
        let prefix = format!("{}/", dir.path().display());
        match load_in(&dir) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.0.iter().map(|m| m.to_string().replace(&prefix, "")).collect(),
        }
    }

    #[test]
    fn a_later_fragment_wins_and_every_value_knows_its_line() {
        let dir = dir(&[
            ("config.toml", "mode = \"observe\"\n[candidate]\nsoak = \"1m\"\nmax-crashes = 3\n"),
            ("config.d/20-b.toml", "candidate.soak = \"2m\"\n"),
            ("config.d/10-a.toml", "[candidate]\nsoak = \"3m\"\n[duplicates]\naction = \"report\"\n"),
            ("config.d/note.txt", "not toml"),
            ("config.d/.hidden.toml", "nonsense = 1"),
        ]);
        let loaded = load_in(&dir).unwrap();
        assert_eq!(loaded.settings.policy.mode, Mode::Observe);
        assert_eq!(loaded.settings.policy.candidate_soak, Duration::from_secs(120));
        assert_eq!(loaded.settings.policy.max_crashes, 3);
        assert_eq!(loaded.settings.policy.duplicates, Duplicates::Report);
        assert_eq!(loaded.origins["candidate.soak"], Origin { file: dir.path().join("config.d/20-b.toml"), line: 1 });
        assert_eq!(loaded.origins["candidate.max-crashes"].line, 4);
        assert!(!loaded.origins.contains_key("probes.timeout"));
        assert_eq!(loaded.settings.files.len(), 3);
    }

    #[test]
    fn every_mistake_of_every_file_is_told_at_once() {
        let dir = dir(&[
            (
                "config.toml",
                "mod = \"act\"\nmode = \"sleep\"\n[candidate]\nsoak = \"0s\"\nprogress-deadline = \"5 minutes\"\nmax-crashes = \"two\"\n\
                 change_memory = \"1h\"\n[paths]\nstate = \"var/lib\"\n[kubelet]\nrestart = []\n",
            ),
            (
                "config.d/a.toml",
                "[limits]\nactions-per-hour = 0\nactions-per-hour = 1\nsoak = \"1m\"\n[candidates]\nx = 1\n",
            ),
            ("config.d/b.toml", "probes = 3\n[rollback]\ndeleted-grace = 60\n"),
        ]);
        let told = load_in(&dir).unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "");
        for line in [
            "config.toml:1: mod: no such key; did you mean mode?",
            "config.toml:2: mode: \"sleep\" is no mode: write \"act\" or \"observe\"",
            "config.toml:4: candidate.soak: must be greater than zero",
            "config.toml:5: candidate.progress-deadline: \"5 minutes\" is not a duration: write it like \"500ms\"",
            "config.toml:6: candidate.max-crashes: is a string, but a whole number of at least 1 is wanted",
            "config.toml:7: candidate.change_memory: no such key; did you mean candidate.max-change-age?",
            "config.toml:9: paths.state: \"var/lib\" is a relative path: write it from / on",
            "config.toml:11: kubelet.restart: names no program",
            "config.d/a.toml:2: limits.actions-per-hour: is 0, but a whole number of at least 1 is wanted",
            "config.d/a.toml:3: is not TOML: duplicate key",
            "config.d/a.toml:4: limits.soak: no such key; did you mean adoption.soak or candidate.soak?",
            "config.d/a.toml:5: candidates: no such table; did you mean [candidate]?",
            "config.d/b.toml:1: probes: is a table, not a single integer: write [probes] and its keys",
            "config.d/b.toml:3: rollback.deleted-grace: is an integer, but a duration such as \"60s\" is wanted",
            "14 mistakes in the configuration",
        ] {
            assert!(told.lines().any(|told| told.starts_with(line)), "{line:?} is not told in:\n{told}");
        }
    }

    #[test]
    fn values_that_contradict_each_other_are_named_with_both_keys() {
        let told = mistakes_of(
            "[paths]\nmanifests = \"/etc/kubernetes/manifests\"\nstaging = \"/etc/kubernetes/manifests/.lastgood\"\n\
             inactive-manifests = \"/etc/kubernetes/manifests\"\n[loop]\nlongest-gap = \"1s\"\n\
             [rollback]\nall-deleted-grace = \"5s\"\n[candidate]\ndebounce = \"20s\"\n\
             [metrics]\ntextfile = \"/etc/kubernetes/manifests/lastgood.txt\"\n",
        );
        for (at, part) in [
            ("config.toml:3: paths.staging", "paths.manifests"),
            ("config.toml:4: paths.inactive-manifests", "paths.manifests"),
            ("config.toml:6: loop.longest-gap", "loop.interval"),
            ("config.toml:8: rollback.all-deleted-grace", "rollback.deleted-grace"),
            ("config.toml:10: candidate.debounce", "20 s"),
            ("config.toml:12: metrics.textfile", "paths.manifests"),
            ("config.toml:12: metrics.textfile", ".prom"),
        ] {
            assert!(told.iter().any(|told| told.starts_with(at) && told.contains(part)), "{at}, {part}: {told:#?}");
        }
        assert_eq!(told.len(), 7, "{told:#?}");
    }

    #[test]
    fn nothing_given_is_the_defaults_but_a_file_asked_for_must_be_there() {
        let dir = dir(&[]);
        let error = load_in(&dir).unwrap_err().to_string();
        assert!(error.contains("config.toml: cannot be read"), "{error}");
        let file = dir.path().join("config.toml");
        fs::write(&file, "").unwrap();
        assert_eq!(load_in(&dir).unwrap().settings, Settings { files: vec![file], ..Settings::default() });
    }

    #[test]
    fn what_is_right_beside_a_mistake_can_be_had() {
        let dir = dir(&[("config.toml", "mode = 3\n[paths]\nmanifests = \"/m\"\n")]);
        let (loaded, mistakes) = load_leniently(Some(&dir.path().join("config.toml")), KEYS);
        assert_eq!(mistakes.0.len(), 1);
        assert_eq!(loaded.settings.paths.manifests.as_deref(), Some(Path::new("/m")));
        assert_eq!(loaded.settings.policy.mode, Mode::Act);
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = dir(&[("config.toml", "")]);
        fs::set_permissions(dir.path().join("config.toml"), fs::Permissions::from_mode(0o666)).unwrap();
        let error = load_in(&dir).unwrap_err().to_string();
        assert!(error.contains("can be written by others (mode 0666)"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let mut loaded = Loaded::new(KEYS);
            merge(Path::new("x"), &text, &mut loaded, &mut Vec::new());
        }
    }
}
