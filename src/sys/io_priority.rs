//! Idle I/O priority for a thread: its disk accesses come after those of every other process.

use std::process::{Command, Stdio};

/// Puts this thread into the idle class of the I/O scheduler. Not every scheduler knows classes (bfq and mq-deadline do),
/// and without `ionice` the thread stays where it is: it is a courtesy, and nothing hangs on it.
///
/// By util-linux: neither std nor nix knows `ioprio_set`, and this program has no unsafe code of its own.
pub fn yield_the_disk() {
    let set = Command::new("ionice")
        .args(["--class", "3", "--pid", &nix::unistd::gettid().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !set.is_ok_and(|status| status.success()) {
        tracing::debug!("this thread keeps its I/O priority: ioprio_set failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_that_asks_is_the_one_that_yields() {
        let class = |thread: nix::unistd::Pid| {
            let said = Command::new("ionice").args(["--pid", &thread.to_string()]).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let before = class(nix::unistd::gettid());
        let there = std::thread::spawn(move || {
            yield_the_disk();
            class(nix::unistd::gettid())
        });
        assert_eq!(there.join().unwrap().trim(), "idle");
        assert_eq!(class(nix::unistd::gettid()), before);
    }
}
