//! One Kubernetes master, real parts in namespaces of its own: own root file system, processes, network, host name.
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
//! | `place` | the node's directory |
//! | `init`, `root`, `spec`, `control` | its first process, its file system, and how to talk to it |
//! | `cgroup` | its cgroups |
//! | `cache`, `store`, `kubeadm` | what it is furnished with |
//! | `service`, `journal`, `containers`, `health`, `dial` | what a test holds in hand |

pub mod cache;
pub mod cgroup;
pub mod containers;
pub mod control;
pub mod dial;
pub mod health;
pub mod init;
pub mod journal;
pub mod kubeadm;
pub mod place;
mod root;
pub mod service;
pub mod spec;
pub mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::images::{self, Image};
use crate::manifests::{Cluster, Component, EtcdVersion};
use crate::pki;
use cache::Cache;
use cgroup::Cgroups;
use containers::{Container, Runtime, Sandbox};
use dial::Network;
use place::{Links, Place, copy, write};
use service::Handle;
use spec::{Request, Restart, Service, Spec, State};

/// The agent's configuration that only the lab needs: how to restart a kubelet that no systemd runs. The key's name
/// is the agent's; this is the one place that knows it.
const AGENT_CONFIG: &str = "[kubelet]\nrestart_command = [\"/lab/bin/lab\", \"restart-kubelet\"]\n";

/// Certificates older than this are made anew; they are valid for a year.
const CERTIFICATES_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often a condition outside is looked at again where nothing announces it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How a node is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    scale: f64,
    etcd: EtcdVersion,
    components: Vec<Component>,
    kubelet: AtBoot,
}

/// Whether a service starts with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtBoot {
    /// It does.
    Started,
    /// Only when asked.
    Absent,
}

impl Builder {
    /// Factor on the kubelet's and the stand-ins' waits: 1 is true to life, 0.1 for tests (the default).
    #[must_use]
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// The series of etcd; 3.5 unless said otherwise.
    #[must_use]
    pub fn etcd(mut self, version: EtcdVersion) -> Self {
        self.etcd = version;
        self
    }

    /// The host name; `master-1` unless said otherwise.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Which components' manifests are there from the start; all unless said otherwise.
    #[must_use]
    pub fn components(mut self, components: &[Component]) -> Self {
        self.components = components.to_vec();
        self
    }

    /// Whether the kubelet starts with the node.
    #[must_use]
    pub fn kubelet(mut self, at_boot: AtBoot) -> Self {
        self.kubelet = at_boot;
        self
    }

    /// Makes the node and boots it; returns when its services are started, not when they serve ([`Node::up`]).
    ///
    /// # Errors
    /// When a tool or binary is missing, or the machine refuses a namespace, mount or cgroup.
    pub async fn start(self) -> Result<Node> {
        let node = spawn_blocking(move || self.make())
            .await
            .context("making the node was cut short")??;
        Ok(node)
    }

    fn make(self) -> Result<Node> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes namespaces, mounts and cgroups: run it as root");
        }
        let cache = Cache::open()?;
        let binaries = cache::binaries_dir()?;
        let tools = cache.path("etcd").join(self.etcd.series());
        let release = etcd_release(&cache, self.etcd)?;
        let place = Place::new(&self.name)?;

        let name = self.name.clone();
        let certificates = cache.entry(&format!("pki-{name}"), CERTIFICATES_FOR, |to| pki::write(to, &name))?;
        let files = fs::read_dir(certificates.path()).context("cannot list the certificates")?;
        copy(
            files.flatten().map(|file| file.path()),
            &place.path("/etc/kubernetes"),
            Links::Copied,
        )?;
        kubeadm::write_kubelet(&place.path("/"))?;
        store::furnish(&cache, &catalog(&cache, &binaries, &self.components)?, &place.path("/"))?;

        let cluster = Cluster {
            node: self.name,
            etcd: self.etcd,
            etcd_release: release,
            kubernetes: images::KUBERNETES.to_owned(),
        };
        for component in &self.components {
            let path = place.path("/etc/kubernetes/manifests").join(component.file());
            write(&path, &cluster.manifest(*component))?;
        }
        write(&place.path("/etc/lastgood/config.d/lab.toml"), AGENT_CONFIG)?;

        let cgroups = Cgroups::named(&place.id());
        let mut node = Node {
            running: None,
            place,
            cgroups,
            cluster,
            components: self.components,
            scale: self.scale,
            binaries,
            etcd_tools: tools,
            services: BTreeMap::new(),
        };
        node.describe_services(self.kubelet);
        node.running = Some(Running::begin(&node.spec()?)?);
        Ok(node)
    }
}

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
        f.debug_struct("Node")
            .field("name", &self.cluster.node)
            .field("dir", &self.place.dir())
            .finish_non_exhaustive()
    }
}

/// The node's processes.
struct Running {
    /// `unshare`, which ends when the node's last process has.
    outer: Child,
    /// The node's first process, by its number on this machine.
    init: i32,
    network: Network,
    /// Open for as long as the node is to live.
    _pipe: ChildStdin,
}

/// How a manifest gets into the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// Truncate and write, as an editor or `cp` may do.
    Plain,
    /// Write beside the directory and rename, as kubeadm does.
    Atomic,
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
        Builder {
            name: "master-1".to_owned(),
            scale: 0.1,
            etcd: EtcdVersion::V35,
            components: Component::ALL.to_vec(),
            kubelet: AtBoot::Started,
        }
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

    // ----- processes ----------------------------------------------------------------------------------------------

    /// The kubelet.
    pub fn kubelet(&self) -> Handle<'_> {
        Handle {
            node: self,
            name: "kubelet",
        }
    }

    /// containerd.
    pub fn containerd(&self) -> Handle<'_> {
        Handle {
            node: self,
            name: "containerd",
        }
    }

    /// The agent; [`Node::spawn_agent`] starts it first.
    pub fn agent(&self) -> Handle<'_> {
        Handle {
            node: self,
            name: "lastgood",
        }
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
        let code = out
            .status
            .code()
            .or_else(|| out.status.signal().map(|s| 128 + s))
            .unwrap_or(-1);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Output {
            code,
            stdout: text(&out.stdout),
            stderr: text(&out.stderr),
        })
    }

    /// The command line that runs `command` in the node, for those who want its terminal.
    ///
    /// # Errors
    /// When the node is down.
    pub fn enter(&self, command: &[&str]) -> Result<Command> {
        let init = self.running()?.init.to_string();
        let mut process = Command::new("nsenter");
        process
            .args(["-t", &init, "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"])
            .args(command);
        process.env_clear().envs(spec::environment());
        Ok(process)
    }

    /// Tells a stand-in's fault switch something, for example `tell("kube-apiserver", "hang")`.
    ///
    /// # Errors
    /// When it does not run, or did not understand.
    pub async fn tell(&self, process: &str, command: &str) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(5);
        let answer = self
            .running()?
            .network
            .say(&format!("lab/{process}"), command, LIMIT)
            .await?;
        if answer == "ok" || answer.starts_with("ok ") {
            return Ok(());
        }
        bail!("{process} did not take {command:?}: {answer:?}")
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
        let booted = spawn_blocking(move || Running::begin(&spec))
            .await
            .context("the boot was cut short")?;
        self.running = Some(booted?);
        Ok(())
    }

    // ----- manifests ----------------------------------------------------------------------------------------------

    /// Where a manifest lies on this machine; `name` is a file name.
    pub fn manifest_path(&self, name: &str) -> PathBuf {
        self.path("/etc/kubernetes/manifests").join(name)
    }

    /// Writes a file into the manifest directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, name: &str, text: &str, how: Writing) -> Result<()> {
        let path = self.manifest_path(name);
        match how {
            Writing::Plain => write(&path, text),
            Writing::Atomic => {
                let staged = self.path("/etc/kubernetes").join(format!(".{name}.lab"));
                write(&staged, text)?;
                fs::rename(&staged, &path).with_context(|| format!("cannot move {} into place", path.display()))
            }
        }
    }

    /// Removes a file from the manifest directory.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_manifest(&self, name: &str) -> Result<()> {
        let path = self.manifest_path(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// What a manifest says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest_text(&self, name: &str) -> Result<String> {
        let path = self.manifest_path(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Changes a manifest and puts it in place atomically; returns the new text.
    ///
    /// # Errors
    /// When the change changes nothing (a test that edits what is not there tests nothing), or on read or write.
    pub fn edit_manifest(&self, name: &str, change: impl FnOnce(&str) -> String) -> Result<String> {
        let before = self.manifest_text(name)?;
        let after = change(&before);
        if after == before {
            bail!("the edit of {name} changes nothing:\n{before}");
        }
        self.write_manifest(name, &after, Writing::Atomic)?;
        Ok(after)
    }

    // ----- what is seen -------------------------------------------------------------------------------------------

    /// Whether a component serves now.
    ///
    /// # Errors
    /// When it does not: the reason.
    pub async fn serving(&self, component: Component) -> Result<()> {
        let answer = self.health(component).await?;
        match answer.status {
            200 => Ok(()),
            status => bail!("{component} answers {status}: {}", answer.body.trim()),
        }
    }

    /// What a component's health endpoint answers now.
    ///
    /// # Errors
    /// When it gives no answer.
    pub async fn health(&self, component: Component) -> Result<health::Answer> {
        let client = self.path("/etc/kubernetes/pki/apiserver-kubelet-client");
        health::get(&self.running()?.network, &component.health(), &client).await
    }

    /// Waits until a component serves; returns how long that took.
    ///
    /// # Errors
    /// When it does not within `deadline`: the last reason, and the kubelet's last words.
    pub async fn await_serving(&self, component: Component, deadline: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let Err(why) = self.serving(component).await else {
                return Ok(began.elapsed());
            };
            if began.elapsed() > deadline {
                let said = self.kubelet().log();
                let lines: Vec<_> = said.lines().collect();
                let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                let why = why.context(format!("{component} does not serve after {deadline:?}"));
                return Err(why.context(format!("the kubelet's last lines:\n{tail}\n")));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The container runtime of the node.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn runtime(&self) -> Result<Runtime> {
        Runtime::connect(&self.inside("/run/containerd/containerd.sock")?).await
    }

    /// The containers of a component, oldest first, the dead ones too as far as they are kept.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn containers(&self, component: Component) -> Result<Vec<Container>> {
        self.runtime().await?.containers(component.name()).await
    }

    /// All sandboxes, oldest first.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn sandboxes(&self) -> Result<Vec<Sandbox>> {
        self.runtime().await?.sandboxes().await
    }

    /// A TCP connection to a port on the node's 127.0.0.1.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(&self, port: u16) -> Result<tokio::net::TcpStream> {
        self.running()?.network.connect(port, Duration::from_secs(5)).await
    }

    // ----- data ---------------------------------------------------------------------------------------------------

    /// Runs etcdctl with the health check's client certificate.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub async fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let mut command = vec![
            "/lab/etcd/etcdctl",
            "--endpoints=https://127.0.0.1:2379",
            "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
            "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
            "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
        ];
        command.extend(args);
        self.exec(&command)
            .await?
            .success()
            .with_context(|| format!("etcdctl {}", args.join(" ")))
    }

    /// Writes a key through the quorum.
    ///
    /// # Errors
    /// When etcd does not acknowledge it.
    pub async fn put_data(&self, key: &str, value: &str) -> Result<()> {
        self.etcdctl(&["put", key, value]).await.map(drop)
    }

    /// Reads a key through the quorum; none where there is no such key.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn get_data(&self, key: &str) -> Result<Option<String>> {
        let said = self.etcdctl(&["get", key, "--print-value-only"]).await?;
        Ok(said.strip_suffix('\n').map(str::to_owned))
    }

    // ----- inside -------------------------------------------------------------------------------------------------

    async fn ask(&self, request: &Request) -> Result<BTreeMap<String, State>> {
        control::ask(&self.inside(spec::SOCKET)?, request).await
    }

    /// A path of the node through its first process: short, whatever the directory's own depth, as sockets need it.
    fn inside(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.running()?.init)))
    }

    fn running(&self) -> Result<&Running> {
        self.running
            .as_ref()
            .with_context(|| format!("{} is powered off", self.cluster.node))
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
                let numbers = status
                    .lines()
                    .find_map(|line| line.strip_prefix("NSpid:"))
                    .unwrap_or_default();
                if numbers.split_whitespace().last() == Some(&pid.to_string()) {
                    return Ok(outside);
                }
            }
        }
        bail!("process {pid} of {} is gone", self.cluster.node)
    }

    fn describe_services(&mut self, kubelet: AtBoot) {
        let mut kubelet_command = kubeadm::kubelet_command();
        kubelet_command.push(format!("--lab-scale={}", self.scale));
        kubelet_command.push(format!("--lab-cgroup-parent={}", self.cgroups.parent()));
        let come_back = |seconds: f64| {
            let wait = Duration::from_secs_f64(seconds * self.scale);
            Restart::Always {
                after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            }
        };
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let service = |name: &str, argv: Vec<String>, env, restart| Service {
            name: name.to_owned(),
            argv,
            env,
            restart,
        };
        // RestartSec as in the packages' unit files: 5 s containerd, 10 s kubelet. The agent stays away until a test
        // starts it again: tests count its starts.
        let containerd = service("containerd", vec!["containerd".to_owned()], env(&[]), come_back(5.0));
        let kubelet_service = service("kubelet", kubelet_command, env(&[]), come_back(10.0));
        let agent = vec!["/lab/bin/lastgood".to_owned(), "run".to_owned()];
        let agent = service(
            "lastgood",
            agent,
            env(&[("NOTIFY_SOCKET", spec::NOTIFY)]),
            Restart::Never,
        );
        self.services.insert("containerd", (containerd, AtBoot::Started));
        self.services.insert("kubelet", (kubelet_service, kubelet));
        self.services.insert("lastgood", (agent, AtBoot::Absent));
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
            at_boot: self
                .services
                .iter()
                .filter(started)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        };
        write(
            &self.place.dir().join("spec.json"),
            &serde_json::to_string_pretty(&spec)?,
        )?;
        Ok(spec)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.power_off();
    }
}

impl Running {
    fn begin(spec: &Spec) -> Result<Self> {
        let lab = spec.binaries.join("lab");
        if !lab.exists() {
            bail!("{} is not built: run cargo build --workspace", lab.display());
        }
        let log_path = spec.dir.join("init.log");
        let log = fs::File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
        let mut outer = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "--propagation",
                "private",
            ])
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
            let init: i32 = children
                .trim()
                .parse()
                .with_context(|| format!("unshare has children {children:?}"))?;
            Ok((pipe, init, Network::of(init)?))
        })();
        match begun {
            Ok((pipe, init, network)) => Ok(Self {
                outer,
                init,
                network,
                _pipe: pipe,
            }),
            Err(e) => {
                let _ = outer.kill();
                let _ = outer.wait();
                Err(e)
            }
        }
    }

    /// Kills the node's first process, and with it all others, and waits until the last is gone.
    fn end(mut self) {
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

/// The release of an unpacked etcd series, for example `3.5.16`.
///
/// # Errors
/// When it is not unpacked.
pub fn etcd_release(cache: &Cache, series: EtcdVersion) -> Result<String> {
    let path = cache.path("etcd").join(series.series()).join("version");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} is missing: run tests/install", path.display()))?;
    Ok(text.trim().to_owned())
}

/// All images: both etcd series, and each Kubernetes component in two patch versions. Stand-ins that no component of
/// the node needs may be unbuilt.
fn catalog(cache: &Cache, binaries: &Path, needed: &[Component]) -> Result<Vec<Image>> {
    let mut all = vec![Image::pause(binaries.join("pause"))];
    for series in EtcdVersion::ALL {
        let dir = cache.path("etcd").join(series.series());
        all.push(Image::etcd(&etcd_release(cache, series)?, &dir));
    }
    for component in [Component::ApiServer, Component::ControllerManager, Component::Scheduler] {
        let binary = binaries.join(component.name());
        if binary.exists() || needed.contains(&component) {
            all.push(Image::kubernetes(component.name(), binary));
        }
    }
    Ok(all)
}
