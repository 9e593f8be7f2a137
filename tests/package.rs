//! The maintainer scripts of the package, run by the shell as dpkg runs them, in a directory in the place of the root.
//!
//! The booted machine (tests/systemd) has dpkg itself run them; here is every state that a node may be in.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

const STATE: &str = "var/lib/lastgood";
const STAGING: &str = "etc/kubernetes/.lastgood";

/// What a purge must leave as it was.
const KEPT: [&str; 11] = [
    "var/lib/lastgood/snapshots/etcd-20260101T000000Z.db",
    "var/lib/lastgood/snapshots/etcd-20260101T000000Z.db.proof.json",
    "var/lib/lastgood/known.json",
    "var/lib/lastgood/generations/kube-system_etcd/1/manifest",
    "var/lib/lastgood/aside/20260101T000000000000Z.memory.json",
    "var/lib/lastgood/history.jsonl",
    "var/lib/lastgood/etcd-data/member/snap/db",
    "etc/kubernetes/.lastgood/replaced/etcd.yaml.20260101T000000000000Z.replaced",
    "etc/kubernetes/.lastgood/slots/kube-apiserver.yaml",
    "etc/kubernetes/inactive-manifests/etcd.yaml",
    "var/lib/etcd/member.before-restore-20260101T000000Z/snap/db",
];

/// What a purge removes.
const WORTHLESS: [&str; 7] = [
    "var/lib/lastgood/lock",
    "var/lib/lastgood/memory.json",
    "var/lib/lastgood/memory.json.old",
    "var/lib/lastgood/published.json",
    "var/lib/lastgood/tmp/.lastgood-1",
    "run/lastgood/known.json",
    "etc/kubernetes/.lastgood/tmp/manifests",
];

/// The package has every schema, where the man page says.
#[test]
fn every_schema_is_in_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("read");
    let names = fs::read_dir(root.join("packaging/schemas")).expect("listed").flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    for name in &names {
        let asset = format!("[\"packaging/schemas/{name}\", \"usr/share/lastgood/schemas/{name}\", \"644\"]");
        assert!(manifest.contains(&asset), "package.metadata.deb.assets of Cargo.toml lacks {asset}");
    }
    assert_eq!(manifest.matches("[\"packaging/schemas/").count(), names.len(), "an asset without a file");
}

/// A root that dpkg installs into.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// One of a node that the agent has worked on.
    fn of_a_node() -> Self {
        let root = Self::new();
        KEPT.iter().chain(&WORTHLESS).for_each(|path| root.write(path));
        symlink("/etc/kubernetes/manifests", root.path(&format!("{STAGING}/manifests"))).expect("a link");
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(file, path).expect("written");
    }

    /// Runs postrm; what it printed.
    fn purge(&self) -> String {
        script("postrm", "purge").env("DPKG_ROOT", self.0.path()).said()
    }

    /// Every path below the root.
    fn all(&self) -> Vec<PathBuf> {
        let (mut all, mut directories) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("listed").flatten() {
                if entry.file_type().expect("a type").is_dir() {
                    directories.push(entry.path());
                }
                all.push(entry.path());
            }
        }
        all.sort();
        all
    }

    /// The paths that a text says to stay, each with the command that removes it; every one of them is there.
    fn told(&self, said: &str) -> Vec<(PathBuf, String)> {
        let mut told = Vec::new();
        for line in said.lines() {
            let line = line.strip_prefix("lastgood: ").expect("each line says who speaks");
            let Some((path, rest)) = line.split_once(" stays: ") else { continue };
            assert!(fs::symlink_metadata(path).is_ok(), "{path} is not there: {said}");
            let command = rest.split_once("; to remove it: ").map_or("", |(_, command)| command);
            told.push((PathBuf::from(path), command.to_owned()));
        }
        told
    }
}

/// A maintainer script with its argument.
fn script(name: &str, argument: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg(script_path(name)).arg(argument).env("LC_ALL", "C");
    command
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/debian").join(name)
}

trait Said {
    /// Runs it, successfully and without a complaint; what it printed.
    fn said(&mut self) -> String;
}

impl Said for Command {
    fn said(&mut self) -> String {
        let out = self.output().expect("it runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && stderr.is_empty(), "{}: {stdout}{stderr}", out.status);
        stdout.into_owned()
    }
}

#[test]
fn a_purge_keeps_and_names_what_a_person_may_need() {
    let root = Root::of_a_node();
    let said = root.purge();
    for path in KEPT {
        assert_eq!(fs::read_to_string(root.path(path)).ok().as_deref(), Some(path), "{said}");
    }
    for path in WORTHLESS {
        assert!(!root.path(path).exists(), "{path} is left: {said}");
    }
    assert!(!root.path("run/lastgood").exists() && !root.path("var/lib/lastgood/tmp").exists());
    let told = root.told(&said);
    for path in KEPT {
        let of = told.iter().filter(|(told, _)| root.path(path).starts_with(told)).count();
        assert_eq!(of, 1, "{path} is named {of} times: {said}");
    }
    // Once more, of all that is left.
    let left = root.all();
    assert_eq!(root.purge(), said);
    assert_eq!(root.all(), left);

    // What it says removes everything, and then there is nothing to say.
    for (_, command) in told {
        Command::new("sh").args(["-c", &command]).said();
    }
    assert_eq!(root.purge(), "");
    for path in [STATE, STAGING, "run/lastgood", "etc/kubernetes/inactive-manifests"] {
        assert!(!root.path(path).exists(), "{path} is left");
    }
}

#[test]
fn a_purge_of_nothing_says_nothing() {
    let root = Root::new();
    assert_eq!((root.purge(), root.all()), (String::new(), Vec::new()));
    // Of an agent that ran and kept nothing.
    root.write("var/lib/lastgood/lock");
    root.write("var/lib/lastgood/snapshots/.lock");
    fs::create_dir_all(root.path("var/lib/lastgood/aside")).expect("made");
    root.write("etc/lastgood/config.d/own.toml");
    assert_eq!(root.purge(), "");
    assert!(!root.path(STATE).exists());
    assert!(root.path("etc/lastgood/config.d/own.toml").exists(), "a person wrote it");
}

#[test]
fn a_removal_keeps_everything() {
    let root = Root::of_a_node();
    let before = root.all();
    for argument in ["remove", "upgrade", "failed-upgrade", "abort-install", "abort-upgrade", "disappear"] {
        assert_eq!(script("postrm", argument).env("DPKG_ROOT", root.0.path()).said(), "", "{argument}");
        assert_eq!(root.all(), before, "{argument}");
    }
}

#[test]
fn a_purge_follows_no_symlink() {
    let elsewhere = Root::new();
    ["state/memory.json", "state/tmp/x", "state/snapshots/a.db", "tmp/x", "memory", "run/x", "slots/x"]
        .iter()
        .for_each(|path| elsewhere.write(path));
    let before = elsewhere.all();

    let root = Root::new();
    fs::create_dir_all(root.path("var/lib")).expect("made");
    symlink(elsewhere.path("state"), root.path(STATE)).expect("a link");
    let said = root.purge();
    assert_eq!(elsewhere.all(), before, "{said}");
    assert!(said.contains(elsewhere.path("state").to_str().expect("UTF-8")), "where it is: {said}");

    let root = Root::new();
    for (target, link) in [
        ("tmp", "var/lib/lastgood/tmp"),
        ("memory", "var/lib/lastgood/memory.json"),
        ("state/snapshots", "var/lib/lastgood/snapshots"),
        ("run", "run/lastgood"),
        ("slots", "etc/kubernetes/.lastgood/slots"),
    ] {
        fs::create_dir_all(root.path(link).parent().expect("a directory")).expect("made");
        symlink(elsewhere.path(target), root.path(link)).expect("a link");
    }
    let said = root.purge();
    assert_eq!(elsewhere.all(), before, "{said}");
    let links = root.all().iter().filter(|path| path.is_symlink()).count();
    assert_eq!(links, 5, "a person's links stay: {said}");
}

#[test]
fn while_a_lastgood_runs_a_purge_removes_nothing() {
    for lock in
        ["var/lib/lastgood/lock", "etc/kubernetes/.lastgood/restore.lock", "etc/kubernetes/.lastgood/defrag.lock"]
    {
        let root = Root::of_a_node();
        root.write(lock);
        let before = root.all();
        let file = fs::File::open(root.path(lock)).expect("opened");
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).expect("locked");
        assert!(root.purge().contains("a lastgood still runs"), "{lock}");
        assert_eq!(root.all(), before, "{lock}");
        drop(held);
        root.purge();
        assert!(!root.path("var/lib/lastgood/memory.json").exists(), "{lock}");
    }
}

/// In a new mount namespace, as root of it.
#[test]
fn what_is_mounted_below_the_state_directory_stays() {
    let root = Root::of_a_node();
    let mounted = "set -e; cd \"$DPKG_ROOT/var/lib/lastgood\"; mount -t tmpfs none tmp; touch tmp/precious; sh \"$1\" purge; \
                   test -e tmp/precious; test ! -e memory.json; test -e snapshots/*.db";
    let over = "set -e; cd \"$DPKG_ROOT/var/lib\"; mount -t tmpfs none lastgood; mkdir lastgood/snapshots; \
                touch lastgood/memory.json lastgood/snapshots/a.db; sh \"$1\" purge; \
                test ! -e lastgood/memory.json; test -e lastgood/snapshots/a.db; rm -r lastgood/snapshots; sh \"$1\" purge";
    for (script, says) in [(mounted, "tmp stays: something may be mounted"), (over, "lastgood stays: it is empty")] {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(script_path("postrm"));
        let out = unshare.env("DPKG_ROOT", root.0.path()).output().expect("unshare (package util-linux)");
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && stdout.contains(says), "{}: {stdout}{stderr}", out.status);
    }
    for path in KEPT {
        assert!(root.path(path).exists(), "{path}");
    }
}

#[test]
fn a_name_with_a_quote_is_told_so_that_a_shell_reads_it_back() {
    let root = Root::new();
    root.write("var/lib/lastgood/it's mine $HOME/x");
    let told = root.told(&root.purge());
    assert_eq!(told.len(), 1, "{told:?}");
    Command::new("sh").args(["-c", &told[0].1]).said();
    root.purge();
    assert!(!root.path(STATE).exists());
}

/// A program that writes its name and arguments into a file.
fn recorder(root: &Root, name: &str, exit: u8) {
    let (bin, log) = (root.path("bin"), root.path("log"));
    fs::create_dir_all(&bin).expect("made");
    let text = format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\nexit {exit}\n", log.display());
    fs::write(bin.join(name), text).expect("written");
    fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[test]
fn a_removal_asks_the_program_what_it_keeps_out_and_an_upgrade_does_not() {
    for (argument, exit, asked) in [("remove", 0, 1), ("remove", 1, 1), ("upgrade", 0, 0), ("deconfigure", 0, 0)] {
        let root = Root::new();
        for name in ["lastgood", "systemctl"] {
            recorder(&root, name, exit);
        }
        let path = format!("{}:{}", root.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        script("prerm", argument).env("PATH", path).env_remove("DPKG_ROOT").said();
        let log = fs::read_to_string(root.path("log")).unwrap_or_default();
        let calls: Vec<&str> = log.lines().collect();
        assert_eq!(calls.iter().filter(|call| **call == "lastgood removal-notice").count(), asked, "{argument}: {log}");
        // On a machine with systemd: after the agent has ended.
        assert!(asked == 0 || calls.last() == Some(&"lastgood removal-notice"), "{log}");
    }
}
