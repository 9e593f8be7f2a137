//! `config migrate`: every layout that people write, and what is none of ours.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::super::Mistake;
use super::super::migrate::{self, Kind};
use super::super::rewrite::rewrite;
use super::{NEW, OLD, alone, dir, first};
use crate::agent::KEYS;

/// What `config migrate` makes of a text.
fn migrated(text: &str) -> Result<String, Vec<Mistake>> {
    let dir = dir(&[("config.toml", text)]);
    migrate::plan(&[first(&dir)], KEYS).map(|plans| plans.into_iter().map(|plan| plan.after).collect()).map_err(|m| m.0)
}

#[test]
fn migrate_renames_and_changes_nothing_else() {
    assert_eq!(migrated(OLD).unwrap(), NEW);
    let rewritten = rewrite(OLD);
    let kinds = |kind| rewritten.changes.iter().filter(|change| change.kind == kind).count();
    // Of the 18 keys, three keep their name in [loop], two in [rollback], and one in [duplicates].
    assert_eq!((kinds(Kind::Table), kinds(Kind::Key), kinds(Kind::CommentedOut)), (3, 12, 2), "{rewritten:?}");
    let quiet = rewritten.changes.iter().find(|change| change.old == "candidate.quiet").unwrap();
    assert_eq!((quiet.line, quiet.new.as_str()), (6, "candidate.debounce"));
    for done in [NEW, "", "nothing of ours = 1", &crate::config::example(KEYS)] {
        assert_eq!(rewrite(done).changes, [], "{done}");
        assert_eq!(rewrite(done).text, done);
    }
}

/// What people may have written, and what becomes of it.
const LAYOUTS: &[(&str, &str)] = &[
    (
        "restore.appear = \"2m\"\nrestore.parking = \"4m\"",
        "rollback.kubelet-timeout = \"2m\"\nrollback.apiserver-max-downtime = \"4m\"",
    ),
    ("restore . 'appear'=\"2m\" # x\nmode=\"act\"\n", "rollback . kubelet-timeout=\"2m\" # x\nmode=\"act\"\n"),
    (
        "restore.appear = \"2m\"\nmode = \"act\"\nrestore.settle = 3\n",
        "rollback.kubelet-timeout = \"2m\"\nmode = \"act\"\nrollback.settle = 3\n",
    ),
    (
        "restore = { appear = \"2m\", deleted-grace = \"2m\" }\n",
        "rollback = { kubelet-timeout = \"2m\", deleted-grace = \"2m\" }\n",
    ),
    ("[ \"restore\" ]\n\"appear\" = \"2m\"\n", "[ rollback ]\nkubelet-timeout = \"2m\"\n"),
    ("[restore]\r\nappear = \"2m\"\r\n", "[rollback]\r\nkubelet-timeout = \"2m\"\r\n"),
    ("\u{feff}[restore]\nappear = \"2m\"\n", "\u{feff}[rollback]\nkubelet-timeout = \"2m\"\n"),
    ("[restore]\n#appear = \"1m\"\n# appear = \"1m\"\n", "[rollback]\n#kubelet-timeout = \"1m\"\n# appear = \"1m\"\n"),
    ("[candidate]\nsoak = \"1m\" #quiet = \"3s\"\n", "[candidate]\nsoak = \"1m\" #quiet = \"3s\"\n"),
    (
        "[restore]\nmine = 1\n[restore.deep]\nappear = \"ä\"\n",
        "[rollback]\nmine = 1\n[rollback.deep]\nappear = \"ä\"\n",
    ),
    ("[[loop]]\n[[restore]]\nappear = 3\n[[loop]]\n", "[[loop]]\n[[restore]]\nappear = 3\n[[loop]]\n"),
    ("[passes]\n[probes]\n[intruders]", "[loop]\n[probes]\n[duplicates]"),
    // Under both names: the keys come together where the first table is.
    (
        "[rollback]\nsettle = \"2s\"\n\n# ours\n[restore] # old\nappear = \"2m\"\n# last\n\n[stall]\nafter = \"6s\"\n",
        "[rollback]\nsettle = \"2s\"\n# old\nkubelet-timeout = \"2m\"\n\n# ours\n# last\n\n[stall]\nafter = \"6s\"\n",
    ),
    (
        "[restore]\nappear = \"2m\"\n[stall]\n[rollback]\n# why\nsettle = \"2s\"",
        "[rollback]\nkubelet-timeout = \"2m\"\n# why\nsettle = \"2s\"\n[stall]\n",
    ),
    ("[loop]\r\n[passes]\r\ninterval = \"3s\"", "[loop]\r\ninterval = \"3s\"\r\n"),
];

#[test]
fn every_layout_stays_as_it_is() {
    for (before, after) in LAYOUTS {
        assert_eq!(migrated(before).as_deref(), Ok(*after), "{before}");
        assert_eq!(migrated(after).as_deref(), Ok(*after), "again: {before}");
    }
}

#[test]
fn a_file_that_cannot_be_renamed_in_place_is_left_to_a_person_with_its_line() {
    let texts = [
        ("mode = \"act\"\n[restore]\nappear = \"2m", 3),
        ("rollback.settle = \"2s\"\n[restore]\nappear = \"2m\"\n", 3),
        ("rollback = { settle = \"2s\" }\n[restore]\nappear = \"2m\"\n", 3),
        ("\"candidate.quiet\" = \"2s\"\n", 1),
        ("[restore]\nappear = \"2m\"\n[restore]\n", 3),
    ];
    for (text, line) in texts {
        let mistakes = migrated(text).unwrap_err();
        assert_eq!(mistakes.first().and_then(|mistake| mistake.line), Some(line), "{text}: {mistakes:?}");
    }
}

#[test]
fn what_is_no_configuration_of_ours_is_named_and_left_alone() {
    let dir = dir(&[("others.toml", "[restore]\n"), ("large.toml", "#")]);
    let path = |name: &str| dir.path().join(name);
    fs::set_permissions(path("others.toml"), Permissions::from_mode(0o666)).unwrap();
    fs::File::options().append(true).open(path("large.toml")).unwrap().set_len(2 << 20).unwrap();
    fs::write(path("binary.toml"), [0xff, 0xfe]).unwrap();
    nix::unistd::mkfifo(&path("fifo.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    for name in ["others.toml", "large.toml", "binary.toml", "fifo.toml", "config.d", "missing.toml"] {
        let mistakes = migrate::plan(&[path(name)], KEYS).unwrap_err();
        assert_eq!(mistakes.0.iter().map(|mistake| mistake.file.clone()).collect::<Vec<_>>(), [path(name)]);
    }
    // One that cannot be rewritten keeps the others from a write: a person sees all of it first.
    let right = first(&dir);
    fs::write(&right, OLD).unwrap();
    assert!(migrate::plan(&[right.clone(), path("binary.toml")], KEYS).is_err());
    assert_eq!(fs::read_to_string(right).unwrap(), OLD);
}

#[test]
fn the_files_of_a_configuration_are_found_as_the_loader_finds_them() {
    let dir =
        dir(&[("config.d/b.toml", OLD), ("config.d/a.toml", NEW), ("config.d/.c.toml", OLD), ("config.d/d", OLD)]);
    let files = migrate::files(Some(&first(&dir))).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["config.toml", "config.d/a.toml", "config.d/b.toml"]);
    fs::write(first(&dir), OLD).unwrap();
    let plans = migrate::plan(&files, KEYS).unwrap();
    assert_eq!(plans.iter().map(|plan| plan.changes.is_empty()).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_file_is_replaced_whole_with_its_mode_and_through_its_link() {
    let dir = dir(&[("real.toml", OLD)]);
    let (real, link) = (dir.path().join("real.toml"), first(&dir));
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink("real.toml", &link).unwrap();
    let plan = migrate::plan(std::slice::from_ref(&link), KEYS).unwrap().remove(0);
    let inode = fs::metadata(&real).unwrap().ino();
    plan.apply().unwrap();
    let meta = fs::metadata(&real).unwrap();
    assert_eq!((fs::read_to_string(&real).unwrap().as_str(), meta.mode() & 0o7777), (NEW, 0o640));
    assert_ne!(meta.ino(), inode, "it was written in place");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let left: BTreeSet<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.d", "config.toml", "real.toml"].map(Into::into).into());
    // The plan is of the bytes that were read.
    fs::write(&real, "mode = \"act\"\n").unwrap();
    assert!(plan.apply().is_err());
    assert_eq!(fs::read_to_string(&real).unwrap(), "mode = \"act\"\n");
}

#[test]
fn nesting_without_end_is_no_end_of_the_stack() {
    for open in ["[", "{a=", "[{a="] {
        let text = format!("restore.appear = {}", open.repeat(100_000));
        rewrite(&text);
        assert!(migrated(&text).is_err());
    }
}

/// Parts of configurations, whole and broken.
const PARTS: &str = "[restore]|[rollback]|[ 'passes' ]|[[loop]]|[candidate]|appear|settle|quiet|debounce|restore|passes|.| = |=|\
                     \"2s\"|'2s'|3|{|}|[|]|,|\n|\n|\r\n| |#|#appear = 1|# ä|\"\"\"|'''|\\|\u{feff}|\0|interval = \"3s\"|\
                     after-gone = \"3s\"\n";

fn soup() -> impl Strategy<Value = String> {
    let parts: Vec<&str> = PARTS.split('|').collect();
    prop::collection::vec(prop::sample::select(parts), 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_panics_and_none_changes_its_meaning(text in prop_oneof![soup(), ".{0,200}"]) {
        let once = rewrite(&text).text;
        if let Ok(after) = migrated(&text) {
            prop_assert_eq!(&after, &once);
            prop_assert_eq!(alone(&after).0.settings, alone(&text).0.settings);
            prop_assert_eq!(rewrite(&after).text, after);
        }
    }
}
