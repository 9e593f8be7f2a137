//! One Kubernetes master, real parts in its own namespaces: root file system, processes, network, host name.
//!
//! ```text
//! this process ──── Node ─────────────────┐ holds: directory, pipe, network namespace
//!     │ spawns                            │
//!     ▼                                   ▼ asks over /run/lab/init.sock
//! unshare ──▶ lab init (pid 1 of the node) ──▶ containerd ──▶ runc: etcd, kube-apiserver, …
//!                                         ├──▶ kubelet (stand-in)
//!                                         └──▶ lastgood
//! ```
//!
//! Paths, ports and flags are those of a real master, so several nodes run side by side and nothing under test knows
//! that it is in a lab. Whatever way this process ends, the pipe to the node's first process closes and the node is
//! gone with all its mounts and processes; [`Node`] dropped also removes its directory and its cgroups, and the next
//! start sweeps what a killed test could not.
//!
//! | Module | What |
//! |---|---|
//! | `builder`, `place` | making it; its directory |
//! | `running`, `init`, `root`, `spec`, `supervisor` | its processes, its file system, and how to talk to it |
//! | `cgroup` | its cgroups |
//! | `furnish`, `cache`, `store`, `kubeadm` | what it is furnished with |
//! | `service`, `journal`, `manifest_dir`, `certificates`, `small_disk`, `etcd_data`, `members`, `sight`, `containers`, `health`, `dial` | what a test holds in hand |
//! | `shell`, `demo`, `bench`, `matrix`, `idle` | commands for people |

pub mod bench;
mod builder;
pub mod cache;
mod certificates;
pub mod cgroup;
pub mod containers;
pub mod demo;
pub mod dial;
pub mod etcd_data;
pub mod furnish;
pub mod health;
pub mod idle;
pub mod init;
pub mod journal;
pub mod kubeadm;
mod manifest_dir;
pub mod matrix;
pub mod members;
pub mod place;
mod root;
mod running;
pub mod service;
pub mod shell;
mod sight;
pub mod small_disk;
pub mod spec;
pub mod store;
pub mod supervisor;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::control;
use crate::manifests::{Cluster, Component};
pub use builder::{AtBoot, Builder};
use cgroup::Cgroups;
pub use manifest_dir::Writing;
use place::{Place, write};
use running::Running;
use service::Handle;
use spec::{Request, Service, Spec, State};

/// How often a condition outside is looked at again where nothing announces it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A node that runs.
pub struct Node {
    // Dropped by hand before the rest: processes first, then what they stood on.
    running: Option<Running>,
    place: Place,
    cgroups: Cgroups,
    cluster: Cluster,
    components: Vec<Component>,
    scale: f64,
    binaries: PathBuf,
    etcd_tools: PathBuf,
    /// Every service with whether it starts at the next boot.
    services: BTreeMap<&'static str, (Service, AtBoot)>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.cluster.node).field("dir", &self.place.dir()).finish_non_exhaustive()
    }
}

/// What a command in the node said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must have exited 0.
    ///
    /// # Errors
    /// When it did not, with what it said.
    pub fn success(self) -> Result<String> {
        match self.code {
            0 => Ok(self.stdout),
            code => bail!("exit code {code}: {}{}", self.stderr.trim(), self.stdout.trim()),
        }
    }
}

impl Node {
    /// A node to be: `master-1`, etcd 3.5, all components, waits at a tenth.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The host name.
    pub fn name(&self) -> &str {
        &self.cluster.node
    }

    /// Versions and images of the node's components.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A path of the node (below /etc, /var, /run, /tmp or /root) as it is on this machine.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.place.path(inside)
    }

    /// The node's directory on this machine.
    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// The node's cgroups.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// A wait of the real thing in the lab's time, with room for what does not shrink: starting containers on a busy
    /// machine.
    pub fn within(&self, real: Duration) -> Duration {
        real.mul_f64(self.scale) + Duration::from_secs(20)
    }

    /// Waits until every component of the node serves.
    ///
    /// # Errors
    /// When one does not in time: which, why, and what the kubelet said last.
    pub async fn up(&self) -> Result<()> {
        // A cold start takes a real node 8 to 14 s; a start-up probe allows 240 s.
        let deadline = self.within(Duration::from_secs(120));
        for component in &self.components {
            self.await_serving(*component, deadline).await?;
        }
        Ok(())
    }

    /// The kubelet.
    pub fn kubelet(&self) -> Handle<'_> {
        Handle { node: self, name: "kubelet" }
    }

    /// containerd.
    pub fn containerd(&self) -> Handle<'_> {
        Handle { node: self, name: "containerd" }
    }

    /// The agent; [`Node::spawn_agent`] starts it first.
    pub fn agent(&self) -> Handle<'_> {
        Handle { node: self, name: "lastgood" }
    }

    /// Starts the agent with a configuration of the test's own (TOML, may be empty) beside the lab's. From then on it
    /// also starts at every boot.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn spawn_agent(&mut self, config: &str) -> Result<Handle<'_>> {
        write(&self.path("/etc/lastgood/config.d/test.toml"), config)?;
        if let Some((_, at_boot)) = self.services.get_mut("lastgood") {
            *at_boot = AtBoot::Started;
        }
        let agent = self.agent();
        agent.start().await?;
        Ok(agent)
    }

    /// Runs the agent's command line in the node.
    ///
    /// # Errors
    /// When it cannot be run or takes more than a minute.
    pub async fn lastgood(&self, args: &[&str]) -> Result<Output> {
        let mut command = vec!["/lab/bin/lastgood"];
        command.extend(args);
        self.exec(&command).await
    }

    /// Runs a command in the node.
    ///
    /// # Errors
    /// When it cannot be run or takes more than a minute.
    pub async fn exec(&self, command: &[&str]) -> Result<Output> {
        const LIMIT: Duration = Duration::from_secs(60);
        let mut process = tokio::process::Command::from(self.enter(command)?);
        process.stdin(Stdio::null()).kill_on_drop(true);
        let out = match timeout(LIMIT, process.output()).await {
            Ok(out) => out.context("cannot run nsenter (package util-linux)")?,
            Err(_) => bail!("{command:?} did not end within {LIMIT:?}"),
        };
        use std::os::unix::process::ExitStatusExt;
        let code = out.status.code().or_else(|| out.status.signal().map(|s| 128 + s)).unwrap_or(-1);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Output { code, stdout: text(&out.stdout), stderr: text(&out.stderr) })
    }

    /// The command line that runs `command` in the node, for those who want its terminal.
    ///
    /// # Errors
    /// When the node is down.
    pub fn enter(&self, command: &[&str]) -> Result<Command> {
        let init = self.running()?.init.to_string();
        let mut process = Command::new("nsenter");
        process.args(["-t", &init, "-m", "-u", "-i", "-n", "-p", "-T", "-r", "-w", "--"]).args(command);
        process.env_clear().envs(spec::environment());
        Ok(process)
    }

    /// Tells a stand-in's fault switch something, for example `tell("kube-apiserver", "hang")`.
    ///
    /// # Errors
    /// When it does not run, or did not understand.
    pub async fn tell(&self, process: &str, command: &str) -> Result<()> {
        let network = format!("/proc/{}/ns/net", self.running()?.init);
        control::tell_in(Path::new(&network), process, command).await
    }

    /// A power cut and a new boot: every process is killed at once, /run and /tmp are gone, then containerd, kubelet
    /// and agent (if it was spawned) start together.
    ///
    /// # Errors
    /// When the node does not come back.
    pub async fn reboot(&mut self) -> Result<()> {
        self.power_off();
        self.power_on().await
    }

    /// Kills every process of the node at once; its disk stays.
    pub fn power_off(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
        self.cgroups.remove();
    }

    /// Boots a node that [`Node::power_off`] stopped. What lies on its disk may be changed in between.
    ///
    /// # Errors
    /// When it does not boot.
    pub async fn power_on(&mut self) -> Result<()> {
        self.place.new_boot()?;
        let spec = self.spec()?;
        let booted = spawn_blocking(move || Running::begin(&spec)).await.context("the boot was cut short")?;
        self.running = Some(booted?);
        Ok(())
    }

    async fn ask(&self, request: &Request) -> Result<BTreeMap<String, State>> {
        supervisor::ask(&self.inside(spec::SOCKET)?, request).await
    }

    /// A path of the node through its first process: short, whatever the directory's own depth, as sockets need it.
    fn inside(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.running()?.init)))
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().with_context(|| format!("{} is powered off", self.cluster.node))
    }

    /// The number on this machine of the process that has `pid` inside the node.
    fn outside_pid(&self, pid: i32) -> Result<i32> {
        let space =
            fs::read_link(format!("/proc/{}/ns/pid", self.running()?.init)).context("cannot read a namespace")?;
        for item in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
            let Ok(outside) = item.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            if fs::read_link(item.path().join("ns/pid")).is_ok_and(|ns| ns == space) {
                let status = fs::read_to_string(item.path().join("status")).unwrap_or_default();
                let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
                if numbers.split_whitespace().last() == Some(&pid.to_string()) {
                    return Ok(outside);
                }
            }
        }
        bail!("process {pid} of {} is gone", self.cluster.node)
    }

    /// Writes down what the next boot is to start.
    fn spec(&self) -> Result<Spec> {
        let started = |(_, (_, at_boot)): &(&&str, &(Service, AtBoot))| *at_boot == AtBoot::Started;
        let spec = Spec {
            name: self.cluster.node.clone(),
            dir: self.place.dir().to_path_buf(),
            id: self.place.id(),
            binaries: self.binaries.clone(),
            etcd_tools: self.etcd_tools.clone(),
            services: self.services.values().map(|(service, _)| service.clone()).collect(),
            at_boot: self.services.iter().filter(started).map(|(name, _)| (*name).to_owned()).collect(),
        };
        write(&self.place.dir().join("spec.json"), &serde_json::to_string_pretty(&spec)?)?;
        Ok(spec)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.power_off();
    }
}
