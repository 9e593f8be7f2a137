//! For tests: kills a piece of work, or makes its disk fail, at every system call it makes.
//!
//! A child process (the test binary again) does the work under strace, which kills it at the N-th call of a kind or
//! makes that call fail. N grows until the work ends before that call.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::files;

/// Of each kind, so many calls are always met: most of what moves a file is among them.
const FIRST: usize = 4;
/// And of the rest, one in so many.
const STRIDE: usize = 4;

/// Which call of a kind is met next, until there are no more of them: the first ones, then some. With
/// `LASTGOOD_EVERY_POINT=1`, which a run over night sets, every one.
pub(crate) fn points() -> impl Iterator<Item = usize> {
    let every = every_point();
    (1..).filter(move |n| every || *n <= FIRST || n % STRIDE == 0)
}

/// How many points there must be for a test to mean anything: of all, or of those that are met.
pub(crate) fn at_least(all: usize, met: usize) -> usize {
    if every_point() { all } else { met }
}

fn every_point() -> bool {
    env::var_os("LASTGOOD_EVERY_POINT").is_some()
}

/// In the child: ready to be traced; goes on when told.
pub(crate) fn ready() {
    std::io::stderr().write_all(b"ready\n").unwrap();
    let _ = std::io::stdin().read(&mut [0]).unwrap();
}

/// Runs a test of this binary as the child, with two words in its environment and a fault injected. True if the fault was
/// met by the child itself: strace counts for each thread and process by itself, and what its own children meet is not
/// counted.
pub(crate) fn run(test: &str, what: (&str, &str), root: (&str, &Path), fault: &str) -> bool {
    let mut child: Child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(what.0, what.1)
        .env(root.0, root.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "ready"), "the child did not start");
    let call = fault.split(':').next().unwrap();
    let log = root.1.join("strace.log");
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

/// Runs a test on a file system of its own, which only its thread and those it starts see, and which ends with it.
pub(crate) fn on_a_tmpfs(size: &str, test: impl FnOnce(&Path) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let (path, options) = (dir.path().to_owned(), format!("size={size}"));
    let own = thread::spawn(move || {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).expect("this test mounts a file system and needs root");
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        test(&path);
    });
    if let Err(panic) = own.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Fills the disk but for some pages.
pub(crate) fn fill(filler: &Path, pages: u64) {
    let mut file = fs::File::create(filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(pages * 4096) / 4096 * 4096).unwrap();
}
