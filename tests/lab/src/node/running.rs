//! A node's processes: begun by `unshare`, ended all at once.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::dial::Network;
use super::init;
use super::spec::Spec;

/// The node's processes.
pub(super) struct Running {
    /// `unshare`, which ends when the node's last process has.
    outer: Child,
    /// The node's first process, by its number on this machine.
    pub(super) init: i32,
    pub(super) network: Network,
    /// Open for as long as the node is to live.
    _pipe: ChildStdin,
}

impl Running {
    pub(super) fn begin(spec: &Spec) -> Result<Self> {
        let lab = spec.binaries.join("lab");
        if !lab.exists() {
            bail!("{} is not built: run cargo build --workspace", lab.display());
        }
        let log_path = spec.dir.join("init.log");
        let log = fs::File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
        let mut outer = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--propagation", "private"])
            .args(new_clock())
            .arg(&lab)
            .arg("init")
            .arg(&spec.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot run unshare (package util-linux)")?;
        let (pipe, out) = (outer.stdin.take(), outer.stdout.take());
        let begun = (|| {
            let pipe = pipe.context("no pipe to the node")?;
            let mut ready = String::new();
            BufReader::new(out.context("no pipe from the node")?).read_line(&mut ready)?;
            if ready.trim() != init::READY {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                bail!("the node did not come up: {}", said.trim());
            }
            let children = format!("/proc/{0}/task/{0}/children", outer.id());
            let children = fs::read_to_string(&children).with_context(|| format!("cannot read {children}"))?;
            let init: i32 = children.trim().parse().with_context(|| format!("unshare has children {children:?}"))?;
            Ok((pipe, init, Network::of(init)?))
        })();
        match begun {
            Ok((pipe, init, network)) => Ok(Self { outer, init, network, _pipe: pipe }),
            Err(e) => {
                let _ = outer.kill();
                let _ = outer.wait();
                Err(e)
            }
        }
    }

    /// Kills the node's first process, and with it all others, and waits until the last is gone.
    pub(super) fn end(mut self) {
        let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        // `unshare` returns when its child is reaped, and a namespace's first process is reaped after all others.
        let deadline = Instant::now() + Duration::from_secs(15);
        while matches!(self.outer.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.outer.kill();
                let _ = self.outer.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Makes CLOCK_BOOTTIME and CLOCK_MONOTONIC of the node begin with its boot, as after a real one: what an agent
/// remembered by these clocks must not be mistaken for the same boot.
fn new_clock() -> Vec<String> {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: i64 = uptime.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    // A second is kept: a clock below zero is refused.
    let back = (1 - seconds).min(0);
    vec!["--time".to_owned(), format!("--boottime={back}"), format!("--monotonic={back}")]
}
