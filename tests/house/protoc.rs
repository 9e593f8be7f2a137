//! A build needs no protoc: what `.cargo/protoc` keeps is held against the .proto files of the etcd-client in Cargo.lock.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::root;

/// What the script runs; a machine has them all before it has protoc.
const TOOLS: [&str; 4] = ["sh", "cat", "grep", "sha256sum"];

/// Where cargo keeps the source of etcd-client.
fn etcd_client() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Packages of other platforms are not here.
    let platform = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let package = packages.iter().find(|package| package["name"] == "etcd-client").expect("we depend on it");
    Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a directory").to_owned()
}

/// The files that its build script asks about.
fn asked(package: &Path) -> Vec<String> {
    let script = fs::read_to_string(package.join("build.rs")).expect("it has a build script");
    let names = script.split('"').filter(|word| word.ends_with(".proto")).map(str::to_owned);
    names.collect()
}

/// Asks as prost-build does, on a machine without protoc, in the directory that holds `proto`.
fn ask(directory: &Path, asked: &[String], out: &Path) -> Output {
    let bin = tempfile::tempdir().expect("a directory");
    for tool in TOOLS {
        let path = env::var_os("PATH").expect("a PATH");
        let found = env::split_paths(&path).map(|dir| dir.join(tool)).find(|path| path.is_file()).expect(tool);
        symlink(found, bin.path().join(tool)).expect("a link");
    }
    Command::new(root().join(".cargo/protoc/protoc"))
        .args(["--include_imports", "--include_source_info", "-o"])
        .arg(out)
        .args(["-I", "proto"])
        .args(asked)
        .current_dir(directory)
        .env("PATH", bin.path())
        .output()
        .expect("it runs")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("it can be listed").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to) } else { fs::write(&to, fs::read(&from).expect("a file")).expect("a copy") }
    }
}

#[test]
fn etcd_client_is_built_without_protoc() {
    let package = etcd_client();
    let asked = asked(&package);
    assert!(!asked.is_empty());
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("set");
    let answer = ask(&package, &asked, &out);
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "after a new version of etcd-client, run .cargo/protoc/update: {said}");
    let kept = fs::read(root().join(".cargo/protoc/etcd-client.pb")).expect("it is kept");
    assert_eq!(fs::read(&out).expect("it was written"), kept);
}

#[test]
fn files_that_the_kept_answer_is_not_for_need_protoc() {
    let package = etcd_client();
    let asked = asked(&package);
    for (situation, change) in [
        ("an import differs", "proto/google/api/http.proto"),
        ("a file differs", asked[0].as_str()),
        ("another file is asked about", "proto/other.proto"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        copy(&package.join("proto"), &dir.path().join("proto"));
        let text = fs::read_to_string(dir.path().join(change)).unwrap_or_default();
        fs::write(dir.path().join(change), format!("{text}// another version\n")).expect("it can be written");
        let mut asked = asked.clone();
        if text.is_empty() {
            asked.push(change.to_owned());
        }
        let out = dir.path().join("set");
        let answer = ask(dir.path(), &asked, &out);
        assert!(!answer.status.success(), "{situation}");
        assert!(!out.exists(), "{situation}: answered");
        let said = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(said.lines().count(), 1, "{situation}: {said}");
        assert!(said.contains("protobuf-compiler"), "{situation}: says what to install: {said}");
    }
}
