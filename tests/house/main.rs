//! House rules that a machine can check: every module says what room it is, versions and lists agree, no path of anybody's
//! machine is in the tree. layers.rs: rooms import from lower layers. rules.rs: every rule has its tests. docs.rs: commands in
//! documents exist. words.rs: texts are in plain English. protoc.rs: a build needs no protoc. formats.rs: fields of files change
//! with their version.

mod docs;
mod formats;
mod graph;
mod layers;
mod protoc;
mod rules;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the tree with its name relative to the root; what is built and what git keeps is left out.
fn files() -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("the tree can be listed").flatten() {
            let name = directory.join(entry.file_name());
            let skipped = [".git", "target"].iter().any(|skipped| name == Path::new(skipped));
            match entry.file_type().expect("a file has a type") {
                _ if skipped => {}
                kind if kind.is_dir() => directories.push(name),
                kind if kind.is_file() => found.push(name.to_str().expect("names are UTF-8").to_owned()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|name| name.ends_with(".rs")).map(|name| {
        let text = read(&name);
        (name, text)
    })
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect(name)
}

fn manifest(name: &str) -> toml::Table {
    read(name).parse().expect(name)
}

#[test]
fn every_module_opens_with_what_room_it_is() {
    let mute: Vec<_> = rust_files().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name).collect();
    assert!(mute.is_empty(), "without a //! line at the top: {mute:?}");
}

/// The core asks no clock, no file and no process by itself.
#[test]
fn judge_and_decide_are_pure() {
    let world = ["std::fs", "std::process", "std::net", "std::env", "tokio", "Timestamp::now", "Instant", "SystemTime"];
    let mut wrong = Vec::new();
    for (name, text) in rust_files().filter(|(name, _)| {
        (name.starts_with("src/judge/") || name.starts_with("src/decide/")) && !name.contains("tests")
    }) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let touched = world.iter().filter(|word| code.contains(*word)).map(|word| format!("{name}: {word}"));
        wrong.extend(touched);
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn no_path_of_anybodys_machine_is_in_the_tree() {
    // In pieces, as this file is in the tree.
    let words = [["/wo", "rk/"].concat(), ["/ho", "me/"].concat(), ["/Use", "rs/"].concat()];
    let mut wrong = Vec::new();
    for name in files() {
        let Ok(text) = fs::read_to_string(root().join(&name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                wrong.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn versions_and_licences_agree() {
    let (agent, lab) = (manifest("Cargo.toml"), manifest("tests/lab/Cargo.toml"));
    assert_eq!(agent["package"]["version"], lab["package"]["version"]);
    assert_eq!(agent["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    let licence = agent["workspace"]["package"]["license"].as_str().expect("a licence");
    assert!(read("LICENSE").contains("Version 2.0, January 2004"), "LICENSE is Apache's");
    assert!(read("packaging/copyright").contains(&format!("License: {licence}")), "packaging/copyright says {licence}");
    let allowed = manifest("deny.toml");
    let allowed = allowed["licenses"]["allow"].as_array().expect("a list");
    assert!(allowed.iter().any(|allowed| allowed.as_str() == Some(licence)), "deny.toml allows our own licence");
}

/// What the lab takes of the agent's source.
const SHARED: &str = "src/cri/v1.rs";

/// A dependency that nothing names is only compiled.
#[test]
fn every_dependency_is_used() {
    for (manifest_name, sources) in [("Cargo.toml", "src/"), ("tests/lab/Cargo.toml", "tests/lab/")] {
        let manifest = manifest(manifest_name);
        let code: String = rust_files()
            .filter(|(name, _)| {
                let is_agents = sources == "src/" && !name.starts_with("tests/lab/");
                name.starts_with(sources) || is_agents || name == SHARED
            })
            .map(|(_, text)| text)
            .collect();
        let tables = ["dependencies", "dev-dependencies"];
        let named = tables.iter().filter_map(|table| manifest.get(*table)?.as_table()).flat_map(toml::Table::keys);
        let unused: Vec<_> = named
            .filter(|name| {
                let path = name.replace('-', "_");
                // A path, a derive or macro that was brought in by name, or a whole crate.
                !["::", ";", " as "].iter().any(|after| code.contains(&format!("{path}{after}")))
            })
            .collect();
        assert!(unused.is_empty(), "{manifest_name}: {unused:?} are named and not used");
    }
}

#[test]
fn what_the_package_installs_is_in_the_tree_or_generated() {
    let manifest = manifest("Cargo.toml");
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut places = Vec::new();
    for asset in deb["assets"].as_array().expect("a list") {
        let (from, to) = (asset[0].as_str().expect("a path"), asset[1].as_str().expect("a path"));
        assert!(from.starts_with("target/") || root().join(from).is_file(), "{from} does not exist");
        assert!(!places.contains(&to), "{to} is installed twice");
        places.push(to);
    }
    for kept in deb["conf-files"].as_array().expect("a list").iter().filter_map(toml::Value::as_str) {
        assert!(places.contains(&kept.trim_start_matches('/')), "{kept} is a conffile that nothing installs");
    }
    let units = [read("systemd/lastgood.service"), read("systemd/lastgood-gate.service")].concat();
    for program in units.lines().filter_map(|line| line.strip_prefix("Exec")).filter_map(|line| line.split_once('=')) {
        let program = program.1.split_whitespace().next().unwrap_or_default().trim_start_matches('-');
        assert!(places.contains(&program.trim_start_matches('/')), "a unit runs {program}, which nothing installs");
    }
}

/// More would be a fault of the tests, and no list of exceptions.
const FLAKY: usize = 5;

#[test]
fn a_test_that_may_need_another_try_exists_and_has_its_reason() {
    let list = read("tests/flaky.txt");
    let entries: Vec<_> = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect();
    assert!(entries.len() <= FLAKY, "{} tests may need another try, and {FLAKY} are the most", entries.len());
    let code: String = rust_files().filter(|(name, _)| name.starts_with("tests/lab/")).map(|(_, text)| text).collect();
    for entry in entries {
        let (test, reason) = entry.split_once(' ').unwrap_or((entry, ""));
        let name = test.rsplit("::").next().unwrap_or(test);
        assert!(test == "tests/systemd" || code.contains(&format!("fn {name}(")), "{test} does not exist");
        assert!(!reason.trim().is_empty(), "{test} has no reason");
    }
}

#[test]
fn scripts_parse_and_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    for name in files() {
        let Ok(text) = fs::read_to_string(root().join(&name)) else { continue };
        let Some(shell) = text.strip_prefix("#!").and_then(|text| text.lines().next()) else { continue };
        let shell = if shell.ends_with("bash") { "bash" } else { "sh" };
        let parsed = Command::new(shell).arg("-n").arg(root().join(&name)).output().expect("a shell");
        assert!(parsed.status.success(), "{name}: {}", String::from_utf8_lossy(&parsed.stderr));
        // dpkg-deb sets the modes of the maintainer scripts.
        let mode = fs::metadata(root().join(&name)).expect("it was read").permissions().mode();
        assert!(mode & 0o111 != 0 || name.starts_with("packaging/debian/"), "{name} cannot be run: chmod +x");
    }
}
