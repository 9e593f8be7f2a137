//! The pause container: holds the pod's namespaces, sleeps until it gets a signal to end, reaps orphans as process 1.

use std::process::ExitCode;

use nix::{
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

fn main() -> ExitCode {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    if let Err(why) = signals.thread_block() {
        eprintln!("Error: signals cannot be blocked: {why}");
        return ExitCode::FAILURE;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("Error: waiting for signals failed: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
}

/// Collects every child that has ended: one SIGCHLD may stand for several.
fn reap() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
