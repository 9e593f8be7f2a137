//! For tests: a child process that is killed, or whose disk fails, at its N-th call of a kind. It is this test binary again,
//! under strace.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::files;

/// Of the child: it is ready to be traced, and goes on when told.
pub(crate) fn ready() {
    std::io::stderr().write_all(b"ready\n").unwrap();
    let _ = std::io::stdin().read(&mut [0]).unwrap();
}

/// Runs a child, an ignored test of this binary that calls [`ready`], with these variables and a fault injected, such as
/// `fsync:signal=KILL:when=3`. True if the fault was met by the child itself: strace counts for each thread and process by
/// itself, and what a program that it calls meets is not counted. A log is kept in `dir`.
pub(crate) fn met(child: &str, vars: &[(&str, &OsStr)], dir: &Path, fault: &str) -> bool {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture", "--test-threads=1"])
        .envs(vars.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "ready"), "the child did not start");
    let call = fault.split(':').next().unwrap();
    let log = dir.join("strace.log");
    let mut strace = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&log)
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={fault}"), "-p", &child.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need strace: apt-get install strace");
    let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
    let attached = said.by_ref().any(|line| line.is_ok_and(|line| line.contains("attached")));
    assert!(attached, "strace cannot trace the child");
    let threads = files::names(Path::new(&format!("/proc/{}/task", child.id()))).unwrap();
    drop(child.stdin.take());
    thread::spawn(move || said.for_each(drop));
    let status = child.wait().unwrap();
    strace.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "the child failed: {:?}", lines.collect::<Vec<_>>());
    let own = |line: &str| threads.iter().any(|thread| line.split(' ').next() == Some(thread));
    let met = |line: &str| line.contains("(INJECTED)") && own(line);
    status.code().is_none() || fs::read_to_string(log).unwrap().lines().any(met)
}
