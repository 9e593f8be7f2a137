//! A real etcd of either series, as `tests/install` unpacks them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A start, an election and four seconds until the version is looked at, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A running member, killed with this value.
pub(super) struct Member {
    child: Child,
    port: u16,
    series: &'static str,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of a series from the lab's cache.
pub(super) fn program(series: &str, name: &str) -> PathBuf {
    let cache = std::env::var_os("LASTGOOD_LAB_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let me = std::env::current_exe().unwrap();
        let target = me.ancestors().find(|dir| dir.join("debug").is_dir() || dir.join("release").is_dir());
        target.unwrap().join("lab/cache")
    });
    let program = cache.join("etcd").join(series).join(name);
    assert!(program.exists(), "{} is missing: run tests/install", program.display());
    program
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn command(series: &str, data_dir: &Path, port: u16) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new(program(series, "etcd"));
    command
        .args(["--name=m0", "--logger=zap", "--initial-advertise-peer-urls=http://127.0.0.1:1"])
        .args([format!("--data-dir={}", data_dir.display()), format!("--listen-client-urls={client}")])
        .args([format!("--advertise-client-urls={client}"), format!("--listen-peer-urls={peer}")])
        .arg("--initial-cluster=m0=http://127.0.0.1:1");
    command
}

impl Member {
    /// Starts one over a data directory, and waits until the cluster is of its version.
    pub(super) fn serving(series: &'static str, data_dir: &Path) -> Self {
        Self::serving_with(series, data_dir, &[])
    }

    /// The same with further flags.
    pub(super) fn serving_with(series: &'static str, data_dir: &Path, flags: &[&str]) -> Self {
        let port = free_port();
        let mut command = command(series, data_dir, port);
        let child = command.args(flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let member = Self { child, port, series };
        let until = Instant::now() + SOON;
        let raised = || {
            let out = Command::new("curl").args(["-sf", &format!("http://127.0.0.1:{port}/version")]).output().unwrap();
            let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
            said["etcdcluster"].as_str().is_some_and(|version| version.starts_with(series))
        };
        while !raised() {
            assert!(Instant::now() < until, "etcd {series} did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        member
    }

    /// What it says at its end over data it does not take.
    pub(super) fn refusing(series: &str, data_dir: &Path) -> String {
        let mut child =
            command(series, data_dir, free_port()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let until = Instant::now() + SOON;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > until {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn ctl(&self, args: &[&str]) -> Output {
        let out = Command::new(program(self.series, "etcdctl"))
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=http://127.0.0.1:{}", self.port))
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out
    }

    pub(super) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["-w", "json"]).collect();
        serde_json::from_slice(&self.ctl(&args).stdout).unwrap()
    }
}
