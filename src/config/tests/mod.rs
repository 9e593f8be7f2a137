//! Keys under their old names: read as under the new ones.

mod migrate;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::migrate as migration;
use super::renamed::RENAMED;
use super::{Loaded, Mistake, OldName, Origin, Settings, load, load_leniently};
use crate::agent::KEYS;

/// Every key that has an old name, none with its default, as a person wrote them.
const OLD: &str = r#"# Master 1 has slow disks.
mode = "observe"

[candidate]
soak = "2m"
quiet = "2s"   # NFS
change-memory = "12h"
  relapse = "40s"
crashes = 3
deadline = '8m'
#rewrites = 9
rewrites = 4

# How manifests come back.
[restore] # all of it
deleted-grace = "2m"
all-deleted-grace = "20m"
after-gone = "3s"
#gone-margin = "15s"
gone-margin = "20s"
hasten-after = "6s"
# not [restore] parking = "x"
appear = "90s"
parking = "4m"

[intruders]
action = "report"
[etcd]
revisions-went-back = "report"
[kubelet]
restart = [
    "systemctl", # passes.interval = "1s"
    "restart", "restore.appear",
]
[passes]
interval = "3s"
busy-interval = "200ms"
longest-gap = "12s"
"#;

/// The same with the new names, and not a byte besides.
const NEW: &str = r#"# Master 1 has slow disks.
mode = "observe"

[candidate]
soak = "2m"
debounce = "2s"   # NFS
max-change-age = "12h"
  unhealthy-grace = "40s"
max-crashes = 3
progress-deadline = '8m'
#max-rewrites = 9
max-rewrites = 4

# How manifests come back.
[rollback] # all of it
deleted-grace = "2m"
all-deleted-grace = "20m"
settle = "3s"
#stop-margin = "15s"
stop-margin = "20s"
force-stop-after = "6s"
# not [restore] parking = "x"
kubelet-timeout = "90s"
apiserver-max-downtime = "4m"

[duplicates]
action = "report"
[etcd]
on-revision-regression = "report"
[kubelet]
restart = [
    "systemctl", # passes.interval = "1s"
    "restart", "restore.appear",
]
[loop]
interval = "3s"
busy-interval = "200ms"
longest-gap = "12s"
"#;

/// A directory with these files in it.
fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config.d")).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn first(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("config.toml")
}

/// What a text says as the only file, and its mistakes.
fn alone(text: &str) -> (Loaded, Vec<Mistake>) {
    let dir = dir(&[("config.toml", text)]);
    let (mut loaded, mistakes) = load_leniently(Some(&first(&dir)), KEYS);
    loaded.settings.files.clear();
    (loaded, mistakes.0)
}

fn settings(text: &str) -> Settings {
    let (loaded, mistakes) = alone(text);
    assert_eq!(mistakes, [], "{text}");
    loaded.settings
}

#[test]
fn a_file_with_old_names_says_the_same_as_one_with_the_new() {
    let (old, mistakes) = alone(OLD);
    assert_eq!(mistakes, []);
    assert_eq!(old.settings, settings(NEW));
    assert_eq!(alone(NEW).0.old_names, []);
    let found: Vec<(&str, &str)> = old.old_names.iter().map(|old| (old.old, old.new)).collect();
    assert_eq!(BTreeSet::from_iter(found.clone()), BTreeSet::from_iter(RENAMED.iter().copied()), "a key lacks in OLD");
    assert_eq!(found.len(), RENAMED.len());
    assert!(old.old_names.is_sorted_by_key(|old| old.line), "{:?}", old.old_names);
    for (name, new) in RENAMED {
        let key = KEYS.named(new).unwrap();
        let value = key.print(&old.settings).unwrap();
        assert_ne!(key.print(&Settings::default()), Some(value.clone()), "{new} has its default in OLD");
        let (one, mistakes) = alone(&format!("mode = \"act\"\n{name} = {value}\n"));
        let told = one.old_name(new).map(|told| (told.line, told.old, told.new));
        assert_eq!((told, one.old_names.len()), (Some((2, *name, *new)), 1));
        assert_eq!(key.print(&one.settings), Some(value.clone()), "{name}");
        let (same, others) = alone(&format!("mode = \"act\"\n{new} = {value}\n"));
        assert_eq!((one.settings, mistakes.len()), (same.settings, others.len()), "{name}");
    }
}

#[test]
fn a_mistake_in_a_value_is_told_under_the_name_that_is_written() {
    let (loaded, mistakes) = alone("[restore]\nappear = \"0s\"\n");
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    assert_eq!((mistake.line, mistake.key.as_deref()), (Some(2), Some("restore.appear")));
    assert_eq!(loaded.old_names.len(), 1);
    // An old name in a table that has its new one is no key, and the right one is known.
    let (_, mistakes) = alone("[rollback]\nappear = \"1m\"\n");
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    assert_eq!(mistake.key.as_deref(), Some("rollback.appear"));
    assert!(mistake.what.contains("rollback.kubelet-timeout"), "{mistake}");
}

#[test]
fn both_names_in_one_file_are_a_mistake_with_both_places() {
    let texts = [
        ("[candidate]\nquiet = \"2s\"\ndebounce = \"3s\"\n", 2, 3, "candidate.quiet"),
        ("[candidate]\ndebounce = \"3s\"\n\nquiet = \"2s\"\n", 4, 2, "candidate.quiet"),
        ("[rollback]\nsettle = \"3s\"\n[restore]\nafter-gone = \"2s\"\n", 4, 2, "restore.after-gone"),
        ("[restore]\nafter-gone = \"2s\"\n[rollback]\nsettle = \"3s\"\n", 2, 4, "restore.after-gone"),
    ];
    for (text, line, other, key) in texts {
        let dir = dir(&[("config.toml", text)]);
        let also = Origin { file: first(&dir), line: other };
        let (loaded, mistakes) = load_leniently(Some(&first(&dir)), KEYS);
        for mistakes in [mistakes, migration::plan(&[first(&dir)], KEYS).unwrap_err()] {
            let [mistake] = mistakes.0.as_slice() else { panic!("{text}: {mistakes}") };
            assert_eq!((mistake.line, mistake.key.as_deref()), (Some(line), Some(key)), "{text}");
            assert_eq!(mistake.also.as_ref(), Some(&also), "{text}");
            assert!(mistake.what.contains(&also.to_string()), "{mistake}");
        }
        let (debounce, settle) = (loaded.settings.policy.debounce, loaded.settings.policy.settle);
        assert!(debounce.as_secs() == 3 || settle.as_secs() == 3, "the new name holds meanwhile: {text}");
        assert_eq!(fs::read_to_string(first(&dir)).unwrap(), text);
    }
}

#[test]
fn of_two_files_the_later_wins_whatever_the_names() {
    let (old, new) = ("candidate.quiet = \"2s\"\n", "candidate.debounce = \"3s\"\n");
    for (a, b, seconds, is_old) in [(old, new, 3, false), (new, old, 2, true)] {
        let dir = dir(&[("config.toml", a), ("config.d/a.toml", b)]);
        let loaded = load(Some(&first(&dir)), KEYS).unwrap();
        assert_eq!(loaded.settings.policy.debounce.as_secs(), seconds);
        assert_eq!(loaded.old_names.len(), 1);
        assert_eq!(loaded.old_name("candidate.debounce").is_some(), is_old);
    }
}

/// What people see of a warning names both names, the place and the command.
#[test]
fn a_warning_names_the_file_the_names_and_the_command() {
    let old = OldName {
        file: Path::new("/etc/x.toml").into(),
        line: 7,
        old: "restore.appear",
        new: "rollback.kubelet-timeout",
    };
    for part in ["/etc/x.toml:7", old.old, old.new] {
        assert!(old.to_string().contains(part), "{old}");
    }
    assert!(old.next_step().contains("config migrate /etc/x.toml"));
}

proptest! {
    #[test]
    fn a_warning_has_the_place_of_its_name(before in "(\n|# x\n){0,5}") {
        let (loaded, _) = alone(&format!("{before}[restore]\n{before}appear = \"2m\"\n"));
        let lines = before.matches('\n').count();
        let told: Vec<usize> = loaded.old_names.iter().map(|OldName { line, .. }| *line).collect();
        prop_assert_eq!(told, [2 * lines + 2]);
    }
}

#[test]
fn a_port_is_a_number_that_a_port_has_and_zero_is_none() {
    for (given, port) in [("1", 1), ("2385", 2385), ("65535", 65535), ("0", 0)] {
        assert_eq!(settings(&format!("[peers]\nport = {given}\n")).peers.port, port, "{given}");
    }
    for given in ["65536", "-1", "\"2384\"", "2384.5", "99999999999999999999"] {
        let (loaded, mistakes) = alone(&format!("[peers]\nport = {given}\n"));
        let [mistake] = mistakes.as_slice() else { panic!("{given}: {mistakes:?}") };
        assert_eq!(mistake.key.as_deref(), Some("peers.port"), "{given}");
        assert_eq!(loaded.settings.peers, Settings::default().peers, "{given}");
    }
}
