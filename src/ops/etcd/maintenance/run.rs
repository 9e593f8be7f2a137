//! Carries the plans out.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::look::{Cluster, Here, QUESTION, look};
use super::rules::{self, Targets, Unchecked, estimate};
use crate::config::size;
use crate::observe;
use crate::ops::etcd::serves::{within, write_and_read};
use crate::ops::failure::Failure;

/// A member that was defragmented answers within a second; one that lost its leader meanwhile, within two elections.
const SERVES: Duration = Duration::from_secs(60);
/// The removal of a long history, on a slow disk.
const COMPACTS: Duration = Duration::from_secs(600);
/// A defragmentation that has taken so many times its estimate, and a minute, is not awaited any longer.
const TIMES: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Ctrl-C and SIGTERM.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns with the next one.
    async fn came(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }
}

/// Compacts to this revision, and waits until the history is removed. Returns what was done, as a sentence.
pub(crate) async fn run_compact(cluster: &Cluster, to: i64, interrupt: &mut Interrupt) -> Result<String, Failure> {
    let name = cluster.name(cluster.own);
    let client = observe::client(&cluster.endpoint, QUESTION).await.map_err(Failure::failed)?;
    let mut kv = client.kv_client();
    let options = CompactionOptions::new().with_physical();
    let done = tokio::select! {
        done = within("the compaction", COMPACTS, kv.compact(to, Some(options))) => done,
        () = interrupt.came() => {
            return Err(Failure::failed(format!(
                "interrupted: {name} may have accepted the compaction to revision {to}, and etcd then completes it; \
                 nothing has to be undone; next: `lastgood etcd compact` again, which is safe to repeat"
            )));
        }
    };
    match done {
        Ok(_) => Ok(format!("the history is compacted to revision {to}; next: `lastgood etcd defrag` on each master")),
        Err(said) if said.contains("has been compacted") => Ok(format!(
            "the history is already compacted to revision {to} or a newer one: nothing to do; next: `lastgood etcd \
             defrag` on each master"
        )),
        Err(said) => Err(Failure::failed(format!("{name}: {said}; next: `lastgood etcd status`"))),
    }
}

/// Defragments these members, one after the other; each is looked at again before, and serves again before the next.
/// `tell` hears of each. Returns the IDs in the order in which they were defragmented.
pub(crate) async fn run_defrag(
    cluster: &Cluster,
    here: &Here,
    ids: &[u64],
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
        let before = one(&now, id, interrupt).await.map_err(|failure| Failure {
            sentence: format!("{}; {}", failure.sentence, undone(&done, &ids_with(id, &left))),
            ..failure
        })?;
        done.push(id);
        tell(&format!("{name} is defragmented and serves again: {before}"));
        if before.interrupted && !left.is_empty() {
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
    interrupted: bool,
}

impl std::fmt::Display for Defragmented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size::roughly);
        write!(f, "{} before, {} now, {} ms", bytes(self.from), bytes(self.to), self.took.as_millis())
    }
}

async fn one(cluster: &Cluster, id: u64, interrupt: &mut Interrupt) -> Result<Defragmented, Failure> {
    let failed = |why: String| Failure::failed(why);
    let Some(asked) = cluster.find(id) else { return Err(failed(format!("{id:x} is no member any more"))) };
    let name = asked.name();
    let (endpoint, answer) = asked.reach().await.map_err(|why| failed(format!("{name} does not answer: {why}")))?;
    let client = observe::client(&endpoint, QUESTION).await.map_err(|why| failed(format!("{name}: {why}")))?;
    let longest = estimate(&answer.status) * TIMES + SERVES;
    let began = Instant::now();
    let mut maintenance = client.maintenance_client();
    let defragment = within("the defragmentation", longest, maintenance.defragment());
    tokio::pin!(defragment);
    let mut interrupted = false;
    let ended = loop {
        tokio::select! {
            ended = &mut defragment => break ended,
            () = interrupt.came() => {
                if interrupted {
                    return Err(failed(format!(
                        "interrupted: {name} completes its defragmentation by itself and then serves; next: `lastgood \
                         etcd status` shows when"
                    )));
                }
                interrupted = true;
                eprintln!("waiting until {name} is defragmented, which nothing can interrupt; Ctrl-C again ends the wait");
            }
        }
    };
    ended.map_err(|said| {
        failed(format!(
            "{name}: {said}; its data are unchanged, and a defragmentation that is still running completes by itself; \
             next: `lastgood etcd status`, `crictl logs $(crictl ps -q --name etcd)` on its node"
        ))
    })?;
    let took = began.elapsed();
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
                "{name} is defragmented and does not serve after {} s: {why}; next: `lastgood etcd status`, `lastgood \
                 explain etcd` on its node",
                SERVES.as_secs()
            )));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Disarms NOSPACE of these members, and proves that etcd accepts writes. Returns what was done, as a sentence.
pub(crate) async fn run_disarm(cluster: &Cluster, raised: &[u64]) -> Result<String, Failure> {
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
