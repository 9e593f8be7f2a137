//! The health of one component, judged without the others: its newest pod, the main container, and the answers to its
//! probes.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::config_freshness::{self, main_container, standing_since};
use super::finding::{Answer, Finding};
use super::process_activity::Watched;
use super::{History, Past, blame, delay, etcd, own_fault};
use crate::model::etcd::LEADER_WITHIN;
use crate::model::observation::{ContainerRun, ContainerState, ManifestFile, PodRun, SandboxState};
use crate::model::reading::{Question, SymptomKind};
use crate::model::verdict::{Assessment, Cause, Crash, Health, ProcessActivity, Reads, Stall, Verdict};
use crate::model::{ClosureFile, ComponentId, Manifest, Memory, Observation, Probe, Reading, Role, Tick};

/// Answers in a row that make or unmake Healthy: one may be luck, or a lost packet.
const ENOUGH_ANSWERS: u32 = 2;

/// A pod without any usable probe is called healthy once it has run this long without a restart: the kubelet's first
/// back-off is 10 s.
const RUNNING_IS_HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// A process is given at least this long from its start to answer, also where its pod has no startup probe.
const LEAST_STARTUP: Duration = Duration::from_secs(30);

/// Whom to judge.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) id: &'a ComponentId,
    /// The file that holds it, where one does.
    pub(super) file: Option<&'a ManifestFile>,
    /// Its file, where that does not decode for us.
    pub(super) undecoded: Option<&'a ManifestFile>,
    /// Why it does not get on, however well it answers.
    pub(super) stuck: Option<&'a str>,
}

/// What it is to the others.
pub(super) fn role(memory: &Memory, id: &ComponentId, file: Option<&ManifestFile>) -> Role {
    let manifest = file.and_then(|file| file.content.as_ref().ok());
    manifest.map(|m| m.role).or_else(|| Some(memory.components.get(id)?.role)).unwrap_or(Role::Other)
}

/// Judges one component without looking at the others.
pub(super) fn assess(
    tick: Tick,
    seen: &Observation,
    memory: &Memory,
    subject: Subject<'_>,
    past: Option<Past>,
) -> (Assessment, Past) {
    let Subject { id, file, undecoded, stuck } = subject;
    let manifest = file.and_then(|file| file.content.as_ref().ok());
    let role = role(memory, id, file);
    let first_sight = past.is_none();
    let mut past = past.unwrap_or_else(|| History::fresh(tick));

    let run = newest_run(seen, id);
    let container = run.and_then(|run| main_container(run, manifest));
    let since = manifest.zip(file).map(|(manifest, file)| standing_since(tick.now.wall, memory, manifest, file));
    let older = manifest
        .zip(since)
        .zip(run)
        .is_some_and(|((manifest, since), run)| !config_freshness::may_be_of(memory, manifest, since, run));
    let reads = match (manifest, since, container) {
        (Some(_), Some(_), Some(_)) if older => {
            Reads::Other { why: "its pod is older than the deployed manifest".to_owned() }
        }
        (Some(manifest), Some(since), Some(container)) => config_freshness::reads(seen, manifest, since, container),
        (None, _, Some(_)) if undecoded.is_some() => {
            Reads::CannotTell { why: "lastgood cannot read its manifest".to_owned() }
        }
        _ => Reads::Nothing,
    };
    let crash = count_exits(&mut past, first_sight, since, run, container).filter(|_| !older);
    let crash = crash.zip(container).map(|(crash, container)| Crash {
        proves: crash.code.and_then(|_| own_fault::of(container, manifest, known_good_closure(memory, id))),
        ..crash
    });

    let finding = match &seen.runtime {
        Err(symptom) => without_runtime(seen, id, &symptom.detail),
        Ok(_) => with_runtime(tick, seen, id, manifest, run, container, &past),
    };
    let finding = match undecoded {
        Some(file) => of_another_manifest(finding, file, container),
        None => finding,
    };
    let container_id = container.map(|c| c.id.clone());
    let verdict = steady(&mut past, finding.verdict, finding.answer, finding.serving, container_id);
    let stuck = stuck.filter(|_| verdict == Verdict::Healthy);
    let verdict = if stuck.is_some() { Verdict::Stalled } else { verdict };
    if verdict == past.verdict {
        past.watched += tick.credit;
    } else {
        past.verdict = verdict;
        past.since = tick.now.wall;
        past.watched = Duration::ZERO;
    }
    let mut finding = finding;
    let stall = match (stuck, container) {
        (Some(why), Some(container)) => {
            finding.evidence.insert(0, why.to_owned());
            Some(Stall { container: container.id.clone(), at: ProcessActivity::Nothing })
        }
        _ => stall(&mut past, verdict, container),
    };
    if let Some(stall) = &stall {
        finding.evidence.push(stall.at.to_string());
        if stall.at == ProcessActivity::WaitsForDisk {
            finding.cause = Some(Cause::Disk { detail: stall.at.to_string() });
        }
    }
    past.blame.look(verdict, run.zip(container), crash.as_ref());
    let replaced = role == Role::ApiServer && older;
    let live = live_probe(tick, seen, id, container);
    let delay = past.delay.port_closed(tick, container.filter(|_| replaced), live);
    past.delay.look(tick, verdict, finding.serving, container, live);
    let assessment = Assessment {
        role,
        health: match stall {
            Some(stall) => Health::Stalled { process: Some(stall) },
            None => verdict.into(),
        },
        since: past.since,
        watched: past.watched,
        serving: finding.serving,
        evidence: finding.evidence,
        cause: finding.cause,
        crash,
        uid: run.map(|run| run.uid.clone()),
        reads,
        address_in_use: container.is_some_and(found_address_in_use),
        delay,
    };
    (assessment, past)
}

/// The files of the known-good generation that it would be rolled back to.
fn known_good_closure<'a>(memory: &'a Memory, id: &ComponentId) -> &'a [ClosureFile] {
    let good = memory.components.get(id).and_then(|record| record.generations.get(&record.state.good()?));
    good.map_or(&[], |good| &good.closure)
}

/// The answer that the running process gave last when it was asked whether it is alive.
fn live_probe<'a>(
    tick: Tick,
    seen: &'a Observation,
    id: &ComponentId,
    container: Option<&ContainerRun>,
) -> Option<&'a Probe> {
    let ContainerState::Running { started } = container?.state else { return None };
    let live = seen.probes.get(id)?.iter().find(|probe| probe.question == Question::Live)?;
    (tick.now.boot.saturating_sub(live.at) <= up_for(tick.now.wall, started)).then_some(live)
}

/// EADDRINUSE in the words of Go's standard library, which all components of the control plane are built on.
const ADDRESS_IN_USE: &str = "address already in use";

/// Whether the last that an ended process wrote names a port that was taken.
fn found_address_in_use(container: &ContainerRun) -> bool {
    let failed = matches!(container.state, ContainerState::Exited { code, .. } if code != 0);
    failed && container.log_tail.as_ref().is_some_and(|words| last_line(words).contains(ADDRESS_IN_USE))
}

/// Smooths a finding: Healthy wants several good answers in a row, and is lost only by several bad ones, unless the
/// container itself is gone.
fn steady(
    past: &mut Past,
    found: Verdict,
    answer: Option<(Duration, Answer)>,
    serving: bool,
    container: Option<String>,
) -> Verdict {
    if let Some((at, answer)) = answer
        && past.answered != Some(at)
    {
        past.answered = Some(at);
        match answer {
            Answer::Good => (past.good, past.bad) = (past.good.saturating_add(1), 0),
            Answer::Bad => (past.good, past.bad) = (0, past.bad.saturating_add(1)),
        }
    }
    if found == Verdict::Down {
        (past.good, past.bad) = (0, 0);
    }
    if serving {
        past.served_by = container;
    }
    match (past.verdict, found) {
        (Verdict::Healthy, Verdict::Failing | Verdict::Stalled | Verdict::Starting) if past.bad < ENOUGH_ANSWERS => {
            Verdict::Healthy
        }
        (before, Verdict::Healthy) if before != Verdict::Healthy && answer.is_some() && past.good < ENOUGH_ANSWERS => {
            Verdict::Starting
        }
        (_, found) => found,
    }
}

/// The process that is stalled, and what it is at.
fn stall(past: &mut Past, verdict: Verdict, container: Option<&ContainerRun>) -> Option<Stall> {
    let Some(container) = container.filter(|_| verdict == Verdict::Stalled) else {
        past.stood_still = Watched::default();
        return None;
    };
    Some(Stall { container: container.id.clone(), at: past.stood_still.at(container.work) })
}

/// The newest sandbox of a component: a ready one before one that is not.
fn newest_run<'a>(seen: &'a Observation, id: &ComponentId) -> Option<&'a PodRun> {
    let runs = seen.runtime.iter().flatten().filter(|run| run.component == *id);
    runs.max_by_key(|run| (run.ready == SandboxState::Ready, run.created))
}

/// Exits since the last pass. An exit counts for what is deployed only if its process had started after that came to
/// stand.
fn count_exits(
    past: &mut Past,
    first_sight: bool,
    since: Option<Timestamp>,
    run: Option<&PodRun>,
    container: Option<&ContainerRun>,
) -> Option<Crash> {
    let (run, container) = run.zip(container)?;
    let exited = match &container.state {
        ContainerState::Exited { .. } => 1,
        _ => 0,
    };
    let total = container.attempt + exited;
    // A pod that appeared under our eyes starts with its sandbox's first container; what was deployed before we looked
    // is not held against it. That first one need not be attempt 0: a manifest that returns is the same pod again, by
    // its UID, and the kubelet goes on counting from its earlier sandboxes.
    let born_watched = !first_sight && since.is_some_and(|since| run.created >= since);
    let first = run.containers.iter().filter(|other| other.name == container.name).map(|other| other.attempt).min();
    let fresh = if born_watched { first.unwrap_or(0) } else { total };
    let before = past.exits.get(&run.uid).copied().unwrap_or(fresh);
    // Attempts begin at 0 again when the exited container was removed: nothing of this count was seen before.
    let before = if total < before { 0 } else { before };
    past.exits.retain(|uid, _| *uid == run.uid);
    past.exits.insert(run.uid.clone(), total);
    let count = total.checked_sub(before).filter(|count| *count > 0)?;
    let ContainerState::Exited { started, code, .. } = container.state else {
        // It was restarted between two looks: how it ended is not known any more, but that it did is.
        let restarted_after = since.is_some_and(|since| run.created >= since);
        return restarted_after.then(|| Crash {
            uid: run.uid.clone(),
            code: None,
            count,
            began: run.created,
            log_tail: None,
            proves: None,
        });
    };
    since.is_some_and(|since| started >= since).then(|| Crash {
        uid: run.uid.clone(),
        code: Some(code),
        count,
        began: started,
        log_tail: container.log_tail.clone(),
        proves: None,
    })
}

fn without_runtime(seen: &Observation, id: &ComponentId, error: &str) -> Finding {
    let answers = seen.probes.get(id).map(Vec::as_slice).unwrap_or_default();
    let live = answers.iter().find(|probe| probe.question == Question::Live);
    let mut finding = Finding::plain(Verdict::Unknown, format!("the container runtime does not answer: {error}"));
    finding.cause = Some(Cause::Runtime { detail: error.to_owned() });
    if let Some(probe) = live
        && probe.reading == Reading::Good
    {
        finding.evidence.push(format!("{} answers nevertheless", probe.target));
        finding.serving = true;
    }
    finding
}

fn with_runtime(
    tick: Tick,
    seen: &Observation,
    id: &ComponentId,
    manifest: Option<&Manifest>,
    run: Option<&PodRun>,
    container: Option<&ContainerRun>,
    past: &Past,
) -> Finding {
    let Some(run) = run else { return Finding::plain(Verdict::Down, "no pod of it exists") };
    let waiting = seen.kubelet.waiting.get(id).filter(|waiting| waiting.uid == run.uid);
    let Some(container) = container else {
        return match (run.ready, waiting) {
            (SandboxState::NotReady, _) => Finding::plain(Verdict::Down, "its sandbox has stopped"),
            (_, Some(w)) => Finding::plain(Verdict::Down, format!("its container waits: {}: {}", w.reason, w.message)),
            _ => Finding::plain(Verdict::Starting, "its sandbox is up, its container not created yet"),
        };
    };
    match &container.state {
        ContainerState::Created => Finding::plain(Verdict::Starting, "its container is created and not started"),
        ContainerState::Unknown => Finding::plain(Verdict::Unknown, "the runtime does not know its container's state"),
        ContainerState::Exited { code, reason, .. } => {
            // One that ended well has only ordinary things to say.
            let words = container.log_tail.as_ref().filter(|_| *code != 0);
            let words = words.map(|words| format!(": {}", last_line(words))).unwrap_or_default();
            Finding::plain(
                Verdict::Down,
                format!("its container exited with code {code} ({reason}), attempt {}{words}", container.attempt),
            )
        }
        ContainerState::Running { started } => {
            let up_for = up_for(tick.now.wall, *started);
            let finding = running(tick, seen, id, manifest, container, up_for, past);
            etcd::look(tick, seen, id, up_for, finding)
        }
    }
}

/// What was found of a process whose manifest we cannot read. It was asked as the manifest before it says: that it answers
/// there is worth something, that it does not is not.
fn of_another_manifest(found: Finding, file: &ManifestFile, container: Option<&ContainerRun>) -> Finding {
    let runs = container.is_some_and(|container| matches!(container.state, ContainerState::Running { .. }));
    if !runs || matches!(found.verdict, Verdict::Healthy | Verdict::Unknown) {
        return found;
    }
    let unread = format!("lastgood cannot read {}, so the health of its pod is unknown", file.name);
    let asked = found.evidence.into_iter().map(|line| format!("probed as the previous manifest says: {line}"));
    let evidence = std::iter::once(unread).chain(asked).collect();
    Finding { evidence, ..Finding::plain(Verdict::Unknown, "") }
}

/// How long a process has run. One that seems to start later than now is older than a clock that was set back since:
/// for how long is unknown any more, but not for a moment only, or nothing it answers would count until the clock has
/// caught up. A moment ahead is the runtime's clock read after ours.
fn up_for(now: Timestamp, started: Timestamp) -> Duration {
    const AHEAD: i64 = 2;
    let ran = now.duration_since(started);
    Duration::try_from(ran).unwrap_or(if ran.as_secs() < -AHEAD { Duration::MAX } else { Duration::ZERO })
}

/// The container runs: the probes decide.
fn running(
    tick: Tick,
    seen: &Observation,
    id: &ComponentId,
    manifest: Option<&Manifest>,
    container: &ContainerRun,
    up_for: Duration,
    past: &Past,
) -> Finding {
    let answers: Vec<&Probe> = seen.probes.get(id).into_iter().flatten().collect();
    // An answer from before this process was given by another one.
    let fresh = |probe: &&Probe| tick.now.boot.saturating_sub(probe.at) <= up_for;
    let of = |question| answers.iter().copied().find(|p| fresh(p) && p.question == question);
    let budget = manifest.map_or(Duration::ZERO, Manifest::startup_budget).max(LEAST_STARTUP);
    let may_be_starting = up_for < budget && past.served_by.as_ref() != Some(&container.id);

    let Some(live) = of(Question::Live) else {
        return Finding::plain(
            Verdict::Starting,
            format!("it has run for {} s and was not probed yet", up_for.as_secs()),
        );
    };
    let bad = |verdict: Verdict, probe: &Probe, detail: &str| {
        let verdict = if may_be_starting { Verdict::Starting } else { verdict };
        let mut finding = Finding::plain(verdict, format!("{}: {detail}", probe.target));
        finding.answer = Some((probe.at, Answer::Bad));
        finding
    };
    match &live.reading {
        Reading::Good => {}
        Reading::CannotTell(symptom) if symptom.kind == SymptomKind::NoMeans => {
            let mut finding = if up_for >= RUNNING_IS_HEALTHY_AFTER {
                Finding::plain(Verdict::Healthy, format!("it has run for {} s ({symptom})", up_for.as_secs()))
            } else {
                Finding::plain(Verdict::Starting, format!("it has run for {} s ({symptom})", up_for.as_secs()))
            };
            finding.serving = finding.verdict == Verdict::Healthy;
            return finding;
        }
        // That it does not let us in says nothing; that it does not let its dependents in says enough (Q13).
        Reading::CannotTell(symptom) => {
            let shut_out = of(Question::AsDependent).is_some_and(|probe| matches!(probe.reading, Reading::Bad(_)));
            if !shut_out {
                return Finding::plain(Verdict::Unknown, format!("{}: {symptom}", live.target));
            }
        }
        Reading::Bad(symptom) => {
            let verdict = if symptom.kind == SymptomKind::TimedOut { Verdict::Stalled } else { Verdict::Failing };
            let mut finding = bad(verdict, live, &symptom.detail);
            finding.cause = certificate(symptom.kind, &symptom.detail);
            return finding;
        }
    }
    for question in [Question::Ready, Question::AsDependent, Question::Quorum] {
        let Some(probe) = of(question) else { continue };
        let Reading::Bad(symptom) = &probe.reading else { continue };
        let mut finding = bad(Verdict::Failing, probe, &symptom.detail);
        finding.cause = match symptom.kind {
            // An election takes its time; a cluster without a leader shows itself as one afterwards.
            SymptomKind::ClusterWide if up_for < LEADER_WITHIN => None,
            SymptomKind::ClusterWide => Some(Cause::Cluster { detail: symptom.detail.clone() }),
            kind => certificate(kind, &symptom.detail),
        };
        if live.reading == Reading::Good {
            finding.evidence.push(format!("{} answers", live.target));
        }
        return finding;
    }
    // A process that has not served yet is taken to serve only when it has answered everything it is asked: livez
    // answers first, and says nothing about readyz.
    let open = answers.iter().find(|probe| probe.question != Question::Live && !(fresh(probe) && answered(probe)));
    if may_be_starting && let Some(open) = open {
        let mut finding = Finding::plain(Verdict::Starting, format!("{}: not answered yet", open.target));
        finding.evidence.push(format!("{} answers", live.target));
        return finding;
    }
    let asked: BTreeSet<&str> = answers.iter().map(|probe| probe.target.as_str()).collect();
    let asked: Vec<&str> = asked.into_iter().collect();
    Finding {
        verdict: Verdict::Healthy,
        serving: true,
        evidence: vec![format!("answers at {}", asked.join(", "))],
        cause: None,
        answer: Some((live.at, Answer::Good)),
    }
}

/// Whether a question was put to the end. One that cannot be put at all is none that could be waited for.
fn answered(probe: &Probe) -> bool {
    !matches!(&probe.reading, Reading::CannotTell(symptom) if symptom.kind == SymptomKind::TimedOut)
}

fn certificate(kind: SymptomKind, detail: &str) -> Option<Cause> {
    (kind == SymptomKind::CertificateDates).then(|| Cause::Certificate { detail: detail.to_owned() })
}

/// Of a long line its beginning and its end: Go's errors name the action first and the reason last.
fn last_line(words: &str) -> String {
    const BEGINNING: usize = 100;
    const END: usize = 180;
    let line = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or(words).trim();
    let chars = line.chars().count();
    if chars <= BEGINNING + END {
        return line.to_owned();
    }
    let beginning: String = line.chars().take(BEGINNING).collect();
    let end: String = line.chars().skip(chars - END).collect();
    format!("{} … {}", beginning.trim_end(), end.trim_start())
}

impl History {
    fn fresh(tick: Tick) -> Past {
        Past {
            verdict: Verdict::Unknown,
            since: tick.now.wall,
            watched: Duration::ZERO,
            good: 0,
            bad: 0,
            answered: None,
            served_by: None,
            exits: std::collections::BTreeMap::new(),
            stood_still: Watched::default(),
            blame: blame::Past::default(),
            delay: delay::Past::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn a_long_last_line_keeps_the_deed_and_the_reason() {
        assert_eq!(last_line("one\nError: unknown flag: --x\n\n"), "Error: unknown flag: --x");
        let long = format!("E1122 \"command failed\" {} bind: address already in use", "x".repeat(900));
        let cut = last_line(&long);
        assert!(cut.starts_with("E1122 \"command failed\"") && cut.ends_with("address already in use"), "{cut}");
        assert!(cut.chars().count() < 300, "{cut}");
    }
}
