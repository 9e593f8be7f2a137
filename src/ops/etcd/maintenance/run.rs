//! Carries the plans out. What etcd has taken up, it completes whatever becomes of this process: the lock is held until
//! etcd answers, and where the wait ends before that, the mark of the defragmentation still counts.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::look::{Cluster, Here, QUESTION, look};
use super::rules::{self, Targets, Unchecked, estimate};
use crate::config::size;
use crate::journal::say;
use crate::observe;
use crate::ops::etcd::serves::{within, write_and_read};
use crate::ops::failure::Failure;
use crate::sys::shared_lock::Excluding;

/// A member that was defragmented answers within a second; one that lost its leader meanwhile, within two elections.
const SERVES: Duration = Duration::from_secs(60);
/// The removal of a long history, on a slow disk.
const COMPACTS: Duration = Duration::from_secs(600);
/// A defragmentation that has taken so many times its estimate, and a minute, is not awaited any longer.
const TIMES: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longer than a look at all members, and than two masters differ in time where one command starts on all of them.
const TURN: Duration = Duration::from_secs(2);

/// Ctrl-C, SIGTERM, and a terminal that is gone.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Somebody did, who can do it again.
    Request,
    /// The terminal is gone, and nobody watches.
    HungUp,
}

/// Whether the end was asked for while something was awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    Yes,
    No,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns with the next one.
    async fn came(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::Request,
            _ = self.terminate.recv() => Came::Request,
            _ = self.hangup.recv() => Came::HungUp,
        }
    }

    /// Waits for what etcd completes anyway. The first Ctrl-C asks for the end afterwards, and the second ends the wait; a
    /// terminal that is gone never does, whatever else came. Nothing where the wait was ended.
    pub(super) async fn awaits<T>(&mut self, waiting: &str, work: impl Future<Output = T>) -> Option<(T, Interrupted)> {
        tokio::pin!(work);
        let (mut interrupted, mut asked) = (Interrupted::No, 0);
        loop {
            tokio::select! {
                done = &mut work => return Some((done, interrupted)),
                came = self.came() => {
                    asked += u32::from(came == Came::Request);
                    if asked > 1 {
                        return None;
                    }
                    interrupted = Interrupted::Yes;
                    say(&format!("{waiting}; Ctrl-C again ends the wait"));
                }
            }
        }
    }
}

/// Lets the masters of a lower ID begin first, where the same command was started on several of them at once: the look that
/// follows sees what they are at.
pub(crate) async fn turn(cluster: &Cluster, interrupt: &mut Interrupt) -> Result<(), Failure> {
    tokio::select! {
        () = sleep(TURN * cluster.rank()) => Ok(()),
        _ = interrupt.came() => Err(Failure::failed("interrupted: nothing was changed".to_owned())),
    }
}

/// Compacts to this revision, and waits until the history is removed. Returns what was done, as a sentence.
pub(crate) async fn run_compact(cluster: &Cluster, to: i64, interrupt: &mut Interrupt) -> Result<String, Failure> {
    let name = cluster.name(cluster.own);
    let client = observe::client(&cluster.endpoint, QUESTION).await.map_err(Failure::failed)?;
    let mut kv = client.kv_client();
    let options = CompactionOptions::new().with_physical();
    let waiting = format!("waiting until {name} has removed the history, which nothing can interrupt");
    let compaction = within("the compaction", COMPACTS, kv.compact(to, Some(options)));
    let Some((done, _)) = interrupt.awaits(&waiting, compaction).await else {
        return Err(Failure::failed(format!(
            "interrupted: {name} may have accepted the compaction to revision {to}, and etcd then completes it; nothing has \
             to be undone; next: `lastgood etcd compact` again, which is safe to repeat"
        )));
    };
    let next = "next: `lastgood etcd defrag` on one master after the other";
    match done {
        Ok(_) => Ok(format!("the history is compacted to revision {to}; {next}")),
        Err(said) if said.contains("has been compacted") => {
            Ok(format!("the history is already compacted to revision {to} or a newer one: nothing to do; {next}"))
        }
        Err(said) => Err(Failure::failed(format!("{name}: {said}; next: `lastgood etcd status`"))),
    }
}

/// Defragments these members, one after the other; each is looked at again before, and serves again before the next.
/// `tell` hears of each. Returns the IDs in the order in which they were defragmented. A defragmentation of the member of
/// this node leaves its mark in `apart`.
pub(crate) async fn run_defrag(
    cluster: &Cluster,
    here: &Here,
    ids: &[u64],
    apart: Option<&Excluding>,
    interrupt: &mut Interrupt,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<u64>, Failure> {
    let mut left: Vec<u64> = ids.to_vec();
    let mut done = Vec::new();
    while !left.is_empty() {
        let undone = |done: &[u64], left: &[u64]| {
            let names = |ids: &[u64]| ids.iter().map(|id| cluster.name(*id)).collect::<Vec<_>>().join(", ");
            let done = if done.is_empty() { "none".to_owned() } else { names(done) };
            format!("defragmented: {done}; not defragmented: {}", names(left))
        };
        let now = look(&cluster.endpoint).await;
        let now = now.map_err(|why| Failure::failed(format!("{why}; {}", undone(&done, &left))))?;
        // The leader may be another one by now.
        left.sort_by_key(|id| Some(*id) == now.leader());
        let id = left.remove(0);
        let name = now.name(id);
        let targets = Targets::Named(format!("{id:x}"));
        rules::defrag(&now, here, &targets, Unchecked::Accepted).map_err(|refused| {
            let mut failure = Failure::from(refused);
            if !done.is_empty() {
                failure.sentence.push_str(&format!("; {}", undone(&done, &ids_with(id, &left))));
            }
            failure
        })?;
        let apart = apart.filter(|_| id == now.own);
        let before = one(&now, id, apart, interrupt).await.map_err(|failure| Failure {
            sentence: format!("{}; {}", failure.sentence, undone(&done, &ids_with(id, &left))),
            ..failure
        })?;
        done.push(id);
        tell(&format!("{name} is defragmented and serves again: {before}"));
        if before.interrupted == Interrupted::Yes && !left.is_empty() {
            return Err(Failure::failed(format!(
                "interrupted: every member serves; {}; next: `lastgood etcd defrag` on the nodes of the others",
                undone(&done, &left)
            )));
        }
    }
    Ok(done)
}

fn ids_with(id: u64, left: &[u64]) -> Vec<u64> {
    std::iter::once(id).chain(left.iter().copied()).collect()
}

/// One member that was defragmented.
struct Defragmented {
    took: Duration,
    from: Option<u64>,
    to: Option<u64>,
    /// Whether somebody asked for the end meanwhile.
    interrupted: Interrupted,
}

impl std::fmt::Display for Defragmented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size::roughly);
        write!(f, "{} before, {} now, {} ms", bytes(self.from), bytes(self.to), self.took.as_millis())
    }
}

async fn one(
    cluster: &Cluster,
    id: u64,
    apart: Option<&Excluding>,
    interrupt: &mut Interrupt,
) -> Result<Defragmented, Failure> {
    let failed = |why: String| Failure::failed(why);
    let Some(asked) = cluster.find(id) else { return Err(failed(format!("{id:x} is no member any more"))) };
    let name = asked.name();
    let (endpoint, answer) = asked.reach().await.map_err(|why| failed(format!("{name} does not answer: {why}")))?;
    let client = observe::client(&endpoint, QUESTION).await.map_err(|why| failed(format!("{name}: {why}")))?;
    let longest = estimate(&answer.status) * TIMES + SERVES;
    let began = Instant::now();
    let mut maintenance = client.maintenance_client();
    // Before the request: whatever ends this process, the agent knows that etcd is at it.
    apart.map(|apart| apart.mark(longest)).transpose()?;
    let defragment = within("the defragmentation", longest, maintenance.defragment());
    let waiting = format!("waiting until {name} is defragmented, which nothing can interrupt");
    let Some((ended, interrupted)) = interrupt.awaits(&waiting, defragment).await else {
        return Err(failed(format!(
            "interrupted: {name} completes its defragmentation by itself and then serves; next: `lastgood etcd status` \
             shows when"
        )));
    };
    let took = began.elapsed();
    // One that is still under way is as long again under the mark at the most, or until etcd answers.
    let over = ended.is_ok() || asked.reach().await.is_ok_and(|(_, answer)| answer.agreed.is_ok());
    if let Some(Err(error)) = apart.map(|apart| if over { apart.unmark() } else { apart.mark(longest) }) {
        say(&format!("{error}; lastgood acts again when etcd answers"));
    }
    ended.map_err(|said| {
        failed(format!(
            "{name}: {said}; its data are unchanged, and a defragmentation that is still running completes by itself; \
             next: `lastgood etcd status`, `crictl logs $(crictl ps -q --name etcd)` on its node"
        ))
    })?;
    let deadline = Instant::now() + SERVES;
    loop {
        let why = match asked.reach().await {
            Ok((_, after)) if after.status.leader.is_some() && (after.status.learner || after.agreed.is_ok()) => {
                let (from, to) = (answer.status.db_size, after.status.db_size);
                return Ok(Defragmented { took, from, to, interrupted });
            }
            Ok((_, after)) => after.agreed.err().unwrap_or_else(|| "it knows no leader".to_owned()),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(failed(format!(
                "{name} is defragmented and does not serve after {} s: {why}; next: `lastgood etcd status` and `crictl logs \
                 $(crictl ps -q --name etcd)` on its node",
                SERVES.as_secs()
            )));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Disarms NOSPACE of these members, and proves that etcd accepts writes. Returns what was done, as a sentence.
pub(crate) async fn run_disarm(
    cluster: &Cluster,
    raised: &[u64],
    interrupt: &mut Interrupt,
) -> Result<String, Failure> {
    let waiting = "waiting until NOSPACE is disarmed and the key of the test is deleted again";
    match interrupt.awaits(waiting, disarmed(cluster, raised)).await {
        Some((done, _)) => done,
        None => Err(Failure::failed(
            "interrupted: NOSPACE may be disarmed for some members; next: `lastgood etcd disarm` again, which is safe to \
             repeat"
                .to_owned(),
        )),
    }
}

async fn disarmed(cluster: &Cluster, raised: &[u64]) -> Result<String, Failure> {
    let client = observe::client(&cluster.endpoint, QUESTION).await.map_err(Failure::failed)?;
    for id in raised {
        let mut options = AlarmOptions::new();
        options.with_member(*id);
        let mut maintenance = client.maintenance_client();
        let disarm = maintenance.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options));
        within("the disarming", QUESTION, disarm).await.map_err(|said| {
            Failure::failed(format!("NOSPACE of {} is not disarmed: {said}; next: run it again", cluster.name(*id)))
        })?;
    }
    let revision = write_and_read(client).await.map_err(|said| {
        Failure::failed(format!(
            "NOSPACE is disarmed, but etcd does not accept a write: {said}; next: `lastgood etcd status`"
        ))
    })?;
    Ok(format!("NOSPACE is disarmed, and etcd accepts writes: one was read back at revision {revision}"))
}
