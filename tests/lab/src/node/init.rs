//! The node's first process: makes the node, then supervises containerd, kubelet and agent, and reaps orphans.
//!
//! ```text
//!            Start                    exits unasked
//! Stopped ──────────▶ Running(pid) ──────────────────▶ Exited(code) ──▶ Running, after the service's wait, if it is
//!    ▲                    │                                              one that comes back
//!    └──── Stop: TERM, ───┘
//!          then KILL
//! ```
//!
//! It ends when its standard input does, that is when the harness is gone in whatever way; the kernel then kills all
//! that runs in the node. `kill -9` of it is the node's power cut.
//!
//! Plain threads and `waitpid(-1)`: a runtime that waits for its own children only would leave the orphans that
//! containerd's shims are, and one that waits for all would take them from each other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};

use super::cgroup::Cgroups;
use super::containers::Runtime;
use super::root;
use super::spec::{Reply, Request, Restart, SOCKET, Service, Spec, State, environment, log, notified, notify_socket};

/// What it prints when the node's supervisor listens; the end of its output instead means that it failed.
pub const READY: &str = "ready";

/// Makes the node that `dir` describes out of the namespaces we stand in, and never returns while it lives.
///
/// # Errors
/// When the node cannot be made.
pub fn run(dir: &Path) -> Result<()> {
    let path = dir.join("spec.json");
    let spec = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec: Spec = serde_json::from_slice(&spec).with_context(|| format!("cannot understand {}", path.display()))?;
    Cgroups::named(&spec.id).enter()?;
    sethostname(&spec.name).context("cannot set the host name")?;
    root::enter(&spec)?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).envs(environment()).output();
    let up = up.context("cannot run ip (package iproute2)")?;
    if !up.status.success() {
        bail!("cannot bring lo up: {}", String::from_utf8_lossy(&up.stderr).trim());
    }
    for dir in ["/run/lab", "/var/log/lab"] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {dir}"))?;
    }

    let listener = UnixListener::bind(SOCKET).with_context(|| format!("cannot listen on {SOCKET}"))?;
    let supervisor = Arc::new(Supervisor::default());
    for service in spec.services {
        supervisor.define(service)?;
    }
    for name in spec.at_boot {
        let starter = Arc::clone(&supervisor);
        thread::spawn(move || {
            if let Err(e) = starter.start_at_boot(&name) {
                eprintln!("{name} cannot be started: {e:#}");
            }
        });
    }
    thread::spawn(end_with_input);
    let served = Arc::clone(&supervisor);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = Arc::clone(&served);
            thread::spawn(move || {
                // Whoever asked and went away has no use for the error.
                let _ = serve(&served, &stream);
            });
        }
    });
    println!("{READY}");
    supervisor.reap()
}

/// Reads until the harness is gone.
fn end_with_input() {
    let mut nothing = [0; 64];
    while matches!(std::io::stdin().read(&mut nothing), Ok(read) if read > 0) {}
    std::process::exit(0);
}

async fn answering(socket: &Path) {
    loop {
        if let Ok(mut runtime) = Runtime::connect(socket).await
            && runtime.sandboxes().await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn serve(supervisor: &Arc<Supervisor>, stream: &UnixStream) -> Result<()> {
    let mut out = stream;
    for line in BufReader::new(stream).lines() {
        let reply = match serde_json::from_str(&line?) {
            Ok(request) => match supervisor.answer(request) {
                Ok(()) => Reply::Done(supervisor.lock().iter().map(|(n, u)| (n.clone(), u.state)).collect()),
                Err(e) => Reply::Refused(format!("{e:#}")),
            },
            Err(e) => Reply::Refused(format!("not a request: {e}")),
        };
        out.write_all((serde_json::to_string(&reply)? + "\n").as_bytes())?;
    }
    Ok(())
}

struct Unit {
    service: Service,
    state: State,
    /// Starts so far: tells a planned restart that it came too late.
    starts: u64,
    wanted: Wanted,
}

/// What the operator last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Running,
    Stopped,
}

impl Unit {
    fn new(service: Service) -> Self {
        Self { service, state: State::Stopped, starts: 0, wanted: Wanted::Stopped }
    }
}

type Units = BTreeMap<String, Unit>;

#[derive(Default)]
struct Supervisor {
    units: Mutex<Units>,
    changed: Condvar,
}

impl Supervisor {
    fn lock(&self) -> MutexGuard<'_, Units> {
        // A panic in one request must not end the node.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(self: &Arc<Self>, request: Request) -> Result<()> {
        match request {
            Request::Status => Ok(()),
            Request::Define(service) => self.define(service),
            Request::Start(name) => self.start(&name),
            Request::Stop { service, grace_ms } => self.stop(&service, Duration::from_millis(grace_ms)),
            Request::Signal { service, signal } => {
                let signal = Signal::try_from(signal).with_context(|| format!("{signal} is no signal"))?;
                match self.lock().get(&service).map(|unit| unit.state) {
                    Some(State::Running { pid }) => Ok(kill(Pid::from_raw(pid), signal)?),
                    Some(_) => bail!("{service} does not run"),
                    None => bail!("there is no service {service}"),
                }
            }
        }
    }

    fn define(&self, service: Service) -> Result<()> {
        let name = service.name.clone();
        if let Some(unit) = self.lock().get_mut(&name) {
            unit.service = service;
            return Ok(());
        }
        let path = notify_socket(&name);
        let socket = UnixDatagram::bind(&path).with_context(|| format!("cannot listen on {path}"))?;
        self.lock().insert(name.clone(), Unit::new(service));
        thread::spawn(move || Self::note(&name, &socket));
        Ok(())
    }

    /// Keeps what a service tells its manager.
    fn note(name: &str, socket: &UnixDatagram) {
        let mut message = vec![0; 4096];
        while let Ok(size) = socket.recv(&mut message) {
            let text = String::from_utf8_lossy(&message[..size]).trim().replace('\n', ";");
            if let Ok(mut file) = File::options().create(true).append(true).open(notified(name)) {
                let _ = writeln!(file, "{text}");
            }
        }
    }

    /// Everything starts at once but for what needs the runtime: a real kubelet takes longer to look for it than
    /// containerd to be there, ours would be too early each time and lose its ten seconds. containerd says READY=1
    /// before CRI answers, so it is CRI that is asked.
    fn start_at_boot(self: &Arc<Self>, name: &str) -> Result<()> {
        let after = self.lock().get(name).and_then(|unit| unit.service.after.clone());
        if let Some(socket) = after {
            const PATIENCE: Duration = Duration::from_secs(5);
            let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // Too late is the kubelet's own affair: it says so and comes back.
            let _ = waiting.block_on(async { tokio::time::timeout(PATIENCE, answering(&socket)).await });
        }
        self.start(name)
    }

    fn start(self: &Arc<Self>, name: &str) -> Result<()> {
        let mut units = self.lock();
        let unit = units.get_mut(name).with_context(|| format!("there is no service {name}"))?;
        unit.wanted = Wanted::Running;
        if let State::Running { .. } = unit.state {
            return Ok(());
        }
        let path = log(name);
        let out =
            File::options().create(true).append(true).open(&path).with_context(|| format!("cannot open {path}"))?;
        let (program, args) = unit.service.argv.split_first().with_context(|| format!("{name} has no command"))?;
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(environment())
            .env("NOTIFY_SOCKET", notify_socket(name))
            .envs(&unit.service.env)
            .stdin(Stdio::null())
            .stdout(out.try_clone().with_context(|| format!("cannot open {path}"))?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        unit.starts += 1;
        unit.state = State::Running { pid: i32::try_from(child.id())? };
        self.changed.notify_all();
        Ok(())
    }

    fn stop(&self, name: &str, grace: Duration) -> Result<()> {
        let mut units = self.lock();
        let unit = units.get_mut(name).with_context(|| format!("there is no service {name}"))?;
        unit.wanted = Wanted::Stopped;
        let State::Running { pid } = unit.state else {
            unit.state = State::Stopped;
            return Ok(());
        };
        let start = unit.starts;
        let gone =
            |units: &Units| !units.get(name).is_some_and(|u| u.starts == start && u.state == State::Running { pid });
        if !grace.is_zero() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            // As systemd does it: what a signal has stopped could not end otherwise.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            units = self.wait(units, grace, gone);
        }
        if !gone(&units) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            units = self.wait(units, Duration::from_secs(10), gone);
        }
        if gone(&units) { Ok(()) } else { bail!("{name} (pid {pid}) survived SIGKILL for 10 s: stuck in the kernel?") }
    }

    fn wait<'a>(
        &self,
        units: MutexGuard<'a, Units>,
        limit: Duration,
        done: impl Fn(&Units) -> bool,
    ) -> MutexGuard<'a, Units> {
        let waited = self.changed.wait_timeout_while(units, limit, |units| !done(units));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Collects whatever dies, for ever.
    fn reap(self: &Arc<Self>) -> ! {
        loop {
            let (pid, code) = match waitpid(Pid::from_raw(-1), None) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Err(Errno::ECHILD) => {
                    // Nothing to wait for until something is started: orphans only come from what we started.
                    let units = self.lock();
                    let running = |units: &Units| units.values().any(|u| matches!(u.state, State::Running { .. }));
                    drop(self.wait(units, Duration::from_secs(1), running));
                    continue;
                }
                _ => continue,
            };
            // A service is entered as running before its lock is free, so its end is never seen before its start.
            let mut units = self.lock();
            let Some((name, unit)) = units.iter_mut().find(|(_, u)| u.state == State::Running { pid: pid.as_raw() })
            else {
                continue;
            };
            unit.state = match unit.wanted {
                Wanted::Stopped => State::Stopped,
                Wanted::Running => State::Exited { code },
            };
            if let (Wanted::Running, Restart::Always { after_ms }) = (unit.wanted, unit.service.restart) {
                self.restart_later(name.clone(), unit.starts, Duration::from_millis(after_ms));
            }
            self.changed.notify_all();
        }
    }

    fn restart_later(self: &Arc<Self>, name: String, starts: u64, after: Duration) {
        let me = Arc::clone(self);
        thread::spawn(move || {
            let due = Instant::now() + after;
            let mut units = me.lock();
            // Somebody may start or stop it meanwhile; then this one has nothing left to do.
            let ours =
                |units: &Units| units.get(&name).is_some_and(|u| u.starts == starts && u.wanted == Wanted::Running);
            while ours(&units) && Instant::now() < due {
                units = me.wait(units, due - Instant::now(), |units| !ours(units));
            }
            let still = ours(&units);
            drop(units);
            if still && let Err(e) = me.start(&name) {
                eprintln!("{name} cannot be restarted: {e:#}");
            }
        });
    }
}
