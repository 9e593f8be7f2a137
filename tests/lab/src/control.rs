//! The lab's handle on its stand-ins: a fault switch inside each of them, and the factor on all of their waits.
//!
//! Each stand-in listens on the abstract socket `@lab/<process name>`, one line per command, `ok` or `error: …` per
//! answer. Abstract names belong to the network namespace, and control-plane pods share their node's (hostNetwork), so
//! a test in the node's namespace reaches them without a file in any container.
//!
//! ```text
//!            hang            nothing answers, the port still accepts, the lease is not renewed, SIGTERM is ignored
//!            refuse          the port is closed
//!  healthy ─ slow MILLIS  ─▶ every answer comes that much later         ── ok ──▶ healthy
//!            fail [livez|readyz|healthz] CHECK     the named check fails
//!            freeze-lease    healthy, but the lease is not renewed
//!            hang-requests   healthy, but no request for an object is answered
//!            crash [CODE], crash-after MILLIS      gone (2 unless said otherwise, as a Go panic)
//! ```
//! Faults add up until `ok`. A hung process is modelled on SIGSTOP: connections are taken by the kernel's backlog.

use std::{
    fs::File,
    io::{BufRead as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream},
    },
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};

use crate::apiserver::health::Check;

/// How long [`tell`] waits for an answer. The switch answers from memory; more than this is a dead process.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often an instance asks again for a name that its predecessor still holds.
const NAME_RETRY: Duration = Duration::from_millis(200);
/// What a Go program exits with after a panic.
const CRASH_CODE: i32 = 2;

/// The factor on every wait of the stand-ins, from `LAB_SCALE` (1 when unset or senseless).
#[must_use]
pub fn scale() -> f64 {
    static SCALE: OnceLock<f64> = OnceLock::new();
    *SCALE.get_or_init(|| {
        let given = std::env::var("LAB_SCALE").ok().and_then(|text| text.parse::<f64>().ok());
        given.filter(|factor| factor.is_finite() && *factor > 0.0 && *factor <= 1000.0).unwrap_or(1.0)
    })
}

/// A wait as the real program has it, in the lab's time.
#[must_use]
pub fn scaled(wait: Duration) -> Duration {
    wait.mul_f64(scale())
}

/// Whether the process can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// It answers.
    #[default]
    Open,
    /// The port accepts, nothing answers.
    Hanging,
    /// The port is closed.
    Refusing,
}

/// Whether the lease is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseFault {
    /// As it should be.
    #[default]
    Moving,
    /// The process looks healthy, but stops renewing without noticing.
    Frozen,
}

/// A health check that is told to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCheck {
    /// `livez`, `readyz` or `healthz`; on all of them when `None`.
    pub endpoint: Option<String>,
    /// The check's name, such as `etcd`.
    pub check: String,
}

/// All faults a process is under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Whether it can be reached.
    pub reach: Reach,
    /// Added to every answer.
    pub slow: Duration,
    /// Checks that fail.
    pub failing: Vec<FailedCheck>,
    /// Whether the lease is renewed.
    pub lease: LeaseFault,
    /// Whether requests for objects are answered.
    pub requests: Requests,
}

/// What becomes of requests for objects, health checks aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Requests {
    /// They are answered.
    #[default]
    Answered,
    /// They hang.
    Hanging,
}

impl Faults {
    /// Whether the named check of the named endpoint is told to fail.
    #[must_use]
    pub fn fails(&self, endpoint: &str, check: &str) -> bool {
        self.failing
            .iter()
            .any(|failed| failed.check == check && failed.endpoint.as_deref().is_none_or(|only| only == endpoint))
    }
}

/// One line to a stand-in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Hang,
    Refuse,
    Slow(Duration),
    Fail(FailedCheck),
    Crash { code: i32, after: Duration },
    FreezeLease,
    HangRequests,
    Ok,
}

impl Command {
    fn parse(line: &str) -> Result<Self> {
        let millis = |text: &str| {
            let number = text.parse().with_context(|| format!("`{text}` is not a number of milliseconds"))?;
            anyhow::Ok(Duration::from_millis(number))
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["hang"] => Command::Hang,
            ["refuse"] => Command::Refuse,
            ["slow", wait] => Command::Slow(millis(wait)?),
            ["fail", endpoint @ ("livez" | "readyz" | "healthz"), check] => {
                Command::Fail(FailedCheck { endpoint: Some((*endpoint).to_owned()), check: (*check).to_owned() })
            }
            ["fail", check] => Command::Fail(FailedCheck { endpoint: None, check: (*check).to_owned() }),
            ["crash"] => Command::Crash { code: CRASH_CODE, after: Duration::ZERO },
            ["crash", code] => {
                let code = code.parse().with_context(|| format!("`{code}` is not an exit code"))?;
                Command::Crash { code, after: Duration::ZERO }
            }
            ["crash-after", wait] => Command::Crash { code: CRASH_CODE, after: millis(wait)? },
            ["freeze-lease"] => Command::FreezeLease,
            ["hang-requests"] => Command::HangRequests,
            ["ok"] => Command::Ok,
            _ => bail!(
                "`{line}` is not a command; there are hang, refuse, slow MILLIS, fail [livez|readyz|healthz] CHECK, \
                 crash [CODE], crash-after MILLIS, freeze-lease, \
                 hang-requests, ok"
            ),
        })
    }

    fn apply(self, faults: &mut Faults) {
        match self {
            Command::Hang => faults.reach = Reach::Hanging,
            Command::Refuse => faults.reach = Reach::Refusing,
            Command::Slow(wait) => faults.slow = wait,
            Command::Fail(check) => faults.failing.push(check),
            Command::FreezeLease => faults.lease = LeaseFault::Frozen,
            Command::HangRequests => faults.requests = Requests::Hanging,
            Command::Ok => *faults = Faults::default(),
            Command::Crash { code, after } => {
                tokio::spawn(async move {
                    // The answer goes out first, so that whoever told us is not left with a broken socket.
                    sleep(after.max(Duration::from_millis(20))).await;
                    std::process::exit(code);
                });
            }
        }
    }
}

/// Starts the switch of this process and returns the faults as they change.
///
/// Where an earlier instance still holds the name (two of them run for a second after a kubelet start), it is asked for
/// again until it is free; the process serves meanwhile.
pub fn listen(process: &str) -> watch::Receiver<Faults> {
    let (sender, receiver) = watch::channel(Faults::default());
    let process = process.to_owned();
    tokio::spawn(async move {
        let listener = loop {
            match bind(&process) {
                Ok(listener) => break listener,
                Err(_) => sleep(NAME_RETRY).await,
            }
        };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(NAME_RETRY).await;
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                // A caller that goes away in the middle has said what it wanted, or nothing.
                drop(obey(stream, &sender).await);
            });
        }
    });
    receiver
}

async fn obey(mut stream: UnixStream, faults: &watch::Sender<Faults>) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match Command::parse(line.trim()) {
            Ok(command) => {
                faults.send_modify(|faults| command.apply(faults));
                "ok\n".to_owned()
            }
            Err(why) => format!("error: {why:#}\n"),
        };
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// Lets the checks fail that the switch names, whatever they found themselves.
pub fn apply_failures(faults: &watch::Receiver<Faults>, endpoint: &str, checks: &mut [Check]) {
    let faults = faults.borrow();
    for check in checks.iter_mut().filter(|check| faults.fails(endpoint, &check.name)) {
        check.result = Err("told to fail".to_owned());
    }
}

/// Returns when the process is told to end (SIGTERM, SIGINT). A hung process does not hear it until it hangs no more.
///
/// # Errors
/// The signals cannot be listened to.
pub async fn terminated(faults: &mut watch::Receiver<Faults>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened to")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened to")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The switch cannot go away before the process does.
    drop(faults.wait_for(|faults| faults.reach != Reach::Hanging).await);
    Ok(())
}

fn address(process: &str) -> Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("lab/{process}")).with_context(|| format!("`{process}` is no process name"))
}

fn bind(process: &str) -> Result<UnixListener> {
    let listener = StdListener::bind_addr(&address(process)?)?;
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// Tells a stand-in in this network namespace something, and returns when it has obeyed.
///
/// # Errors
/// No such process listens, it did not understand, or it did not answer within 5 s.
pub async fn tell(process: &str, command: &str) -> Result<()> {
    let stream = StdStream::connect_addr(&address(process)?)
        .with_context(|| format!("no stand-in listens on @lab/{process} in this network namespace"))?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let exchange = async {
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(&mut stream).read_line(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(ANSWER_DEADLINE, exchange)
        .await
        .map_err(|_| anyhow!("{process} did not answer `{command}` within {ANSWER_DEADLINE:?}"))??;
    understood(process, &answer)
}

/// As [`tell`], for a stand-in in another network namespace, named by its file (`/run/netns/NAME`, `/proc/PID/ns/net`).
///
/// # Errors
/// As [`tell`], or the namespace cannot be entered.
pub async fn tell_in(netns: &Path, process: &str, command: &str) -> Result<()> {
    let (netns, name, line) = (netns.to_owned(), process.to_owned(), format!("{command}\n"));
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own that ends here: one of the runtime's would stay in that namespace and serve others from there.
    std::thread::spawn(move || {
        let exchange = || {
            let file = File::open(&netns).with_context(|| format!("network namespace {}", netns.display()))?;
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {}", netns.display()))?;
            let mut stream = StdStream::connect_addr(&address(&name)?)
                .with_context(|| format!("no stand-in listens on @lab/{name} in {}", netns.display()))?;
            stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
            stream.write_all(line.as_bytes())?;
            let mut answer = String::new();
            std::io::BufReader::new(stream)
                .read_line(&mut answer)
                .with_context(|| format!("{name} did not answer within {ANSWER_DEADLINE:?}"))?;
            anyhow::Ok(answer)
        };
        drop(sender.send(exchange()));
    });
    let answer = receiver.await.context("the thread that asked is gone")??;
    understood(process, &answer)
}

fn understood(process: &str, answer: &str) -> Result<()> {
    match answer.trim() {
        "ok" => Ok(()),
        // The kubelet adds how its switches stand.
        more if more.starts_with("ok ") => Ok(()),
        "" => bail!("{process} closed the connection without an answer"),
        other => bail!("{process} answered `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_documented() {
        for (line, command) in [
            ("hang", Command::Hang),
            ("slow 250", Command::Slow(Duration::from_millis(250))),
            ("fail etcd", Command::Fail(FailedCheck { endpoint: None, check: "etcd".into() })),
            (
                "fail readyz shutdown",
                Command::Fail(FailedCheck { endpoint: Some("readyz".into()), check: "shutdown".into() }),
            ),
            ("crash", Command::Crash { code: 2, after: Duration::ZERO }),
            ("crash 137", Command::Crash { code: 137, after: Duration::ZERO }),
            ("crash-after 10", Command::Crash { code: 2, after: Duration::from_millis(10) }),
        ] {
            assert_eq!(Command::parse(line).expect(line), command);
        }
        for line in ["", "slow", "slow fast", "crash now", "explode"] {
            assert!(Command::parse(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn faults_add_up_until_all_is_ok() {
        let process = format!("test-{}", std::process::id());
        let mut faults = listen(&process);
        // The name is bound by a task: ask until it is there.
        for _ in 0..100 {
            if tell(&process, "slow 5").await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        tell(&process, "fail livez etcd").await.expect("understood");
        tell(&process, "freeze-lease").await.expect("understood");
        {
            let now = faults.borrow_and_update();
            assert_eq!(now.slow, Duration::from_millis(5));
            assert!(now.fails("livez", "etcd") && !now.fails("readyz", "etcd"));
            assert_eq!(now.lease, LeaseFault::Frozen);
        }
        assert!(tell(&process, "explode").await.is_err());
        tell_in(Path::new("/proc/self/ns/net"), &process, "ok").await.expect("from a thread of its own");
        assert_eq!(*faults.borrow_and_update(), Faults::default());
    }
}
