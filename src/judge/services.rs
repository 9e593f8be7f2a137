//! The health of the kubelet and the container runtime. One bad answer is noise, two are a verdict.
//!
//! ```text
//!                 a process      healthz / CRI                          verdict
//!   kubelet       none                                                  Down     left to its service manager
//!                 ends at its start, 3 times                            Down     with the reason from its log
//!                 just started   an answer of its predecessor           Unknown
//!                 stopped        any last answer                        Stalled
//!                 runs           times out, twice                       Stalled
//!                 runs           answers, and does not renew its lease  Stalled  not behind an expired certificate, nor
//!                                                                                before the lease could have ended
//!                 runs           reports itself unhealthy, twice        Failing  ping, log, syncloop: its own liveness
//!   runtime       stopped        does not answer, twice                 Stalled
//!                 idle           does not answer, twice                 Stalled
//!                 busy           does not answer                        Unknown
//!                 any            fails otherwise (no socket, refused)   Down
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::kubelet_log;
use super::process_activity::Watched;
use crate::model::observation::ProcessState;
use crate::model::reading::SymptomKind;
use crate::model::verdict::{CrashLoop, ProcessActivity, ServiceState};
use crate::model::{Observation, Reading, Tick, Verdict};

/// Samples in a row that make a verdict of ill.
const ENOUGH: u32 = 2;

/// What is remembered of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    state: ServiceState,
    /// What was found last, and in how many samples in a row.
    found: Option<(Verdict, u32)>,
    /// When the last sample was taken.
    sampled: Duration,
    /// Its process, since it was first seen not to answer.
    process: Watched,
    /// The kubelet's process: by its ID and its start.
    runs: Option<(i32, Duration)>,
    /// The starts of its processes in the last minutes, on the boot clock.
    starts: VecDeque<Duration>,
}

/// So many processes that start within [`STARTS_WITHIN`] are a crash loop, where the kubelet's log cannot be read: a person who
/// restarts it, and lastgood after them, are no more than three.
const STARTS: usize = 4;
const STARTS_WITHIN: Duration = Duration::from_secs(3 * 60);

impl Past {
    /// Counts a sample, and says what holds now.
    fn judge(&mut self, tick: Tick, sampled: Duration, found: Verdict, evidence: String) -> ServiceState {
        let fresh = self.sampled != sampled;
        self.sampled = sampled;
        let count = match self.found {
            Some((before, count)) if before == found => count + u32::from(fresh),
            _ => 1,
        };
        self.found = Some((found, count));
        let ill = matches!(found, Verdict::Stalled | Verdict::Failing);
        if ill && count < ENOUGH {
            // Not known to be ill yet, and not what it was either.
            self.state.watched += tick.credit;
            return self.state.clone();
        }
        let watched = if found == self.state.verdict { self.state.watched + tick.credit } else { Duration::ZERO };
        self.state = ServiceState { verdict: found, watched, evidence, next_step: None, crash_loop: None };
        self.state.clone()
    }
}

pub(super) fn kubelet(tick: Tick, seen: &Observation, stuck: Option<&String>, past: &mut Past) -> ServiceState {
    let kubelet = &seen.kubelet;
    let runs = kubelet.process.as_ref().map(|process| (process.pid, process.started));
    if runs != past.runs {
        // What was found of another process is no sample of this one, nor does its patience run on.
        let mut starts = std::mem::take(&mut past.starts);
        starts.extend(runs.map(|(_, started)| started));
        *past = Past { runs, starts, ..Past::default() };
    }
    past.starts.retain(|started| tick.now.boot.saturating_sub(*started) < STARTS_WITHIN);
    if let Some(crash_loop) = kubelet_log::crash_loop(seen).or_else(|| by_its_starts(tick, seen, &past.starts)) {
        let state = past.judge(tick, tick.now.boot, Verdict::Down, crash_loop.to_string());
        return ServiceState { next_step: Some(crash_loop.next_step.clone()), crash_loop: Some(crash_loop), ..state };
    }
    let (sampled, found, evidence) = match (&kubelet.process, &kubelet.healthz) {
        (None, _) => (tick.now.boot, Verdict::Down, "no kubelet process runs on this node".to_owned()),
        (Some(process), _) if process.state == ProcessState::Stopped => {
            let evidence = format!("its process (pid {}) is stopped by a signal", process.pid);
            (tick.now.boot, Verdict::Stalled, evidence)
        }
        (Some(process), _) if kubelet.answered < process.started => {
            (kubelet.answered, Verdict::Unknown, "it was not probed since it started".to_owned())
        }
        (_, Reading::Good) => match stuck {
            Some(why) => (kubelet.answered, Verdict::Stalled, format!("it answers, and {why}")),
            None => (kubelet.answered, Verdict::Healthy, "it answers".to_owned()),
        },
        (_, Reading::CannotTell(symptom)) => (kubelet.answered, Verdict::Unknown, symptom.detail.clone()),
        (_, Reading::Bad(symptom)) => {
            let verdict = match symptom.kind {
                SymptomKind::TimedOut => Verdict::Stalled,
                SymptomKind::Unhealthy => Verdict::Failing,
                // It has only just been started, or its health is served elsewhere.
                _ => Verdict::Unknown,
            };
            (kubelet.answered, verdict, symptom.detail.clone())
        }
    };
    past.judge(tick, sampled, found, evidence)
}

/// A crash loop that is seen by its processes alone.
fn by_its_starts(tick: Tick, seen: &Observation, starts: &VecDeque<Duration>) -> Option<CrashLoop> {
    let latest = starts.back().filter(|_| starts.len() >= STARTS)?;
    if tick.now.boot.saturating_sub(*latest) > kubelet_log::RUNS && seen.kubelet.process.is_some() {
        return None;
    }
    Some(CrashLoop {
        times: u32::try_from(starts.len()).unwrap_or(u32::MAX),
        since: None,
        status: None,
        reason: None,
        changed: seen.kubelet.changed.clone(),
        next_step: "`journalctl -u kubelet -n 50`".to_owned(),
    })
}

/// The container runtime. One that does not answer because it unpacks an image is at work, and not stalled.
pub(super) fn runtime(tick: Tick, seen: &Observation, past: &mut Past) -> ServiceState {
    let silent = seen.runtime.as_ref().err().filter(|symptom| symptom.kind == SymptomKind::TimedOut);
    let (found, evidence) = match (&seen.runtime, silent) {
        (Ok(_), _) => (Verdict::Healthy, "it answers".to_owned()),
        (Err(symptom), None) => match &seen.node.sandboxes.cri_disabled {
            Some(line) => {
                let evidence =
                    format!("containerd runs without its CRI: {}:{}: {}", line.file.display(), line.line, line.text);
                let next = format!(
                    "remove cri from disabled_plugins in {}, then `systemctl restart containerd`",
                    line.file.display()
                );
                let state = past.judge(tick, tick.now.boot, Verdict::Down, evidence);
                return ServiceState { next_step: Some(next), ..state };
            }
            None => (Verdict::Down, symptom.detail.clone()),
        },
        (Err(_), Some(symptom)) => {
            let at = past.process.at(seen.runtime_work);
            let verdict = match at {
                ProcessActivity::Stopped | ProcessActivity::Idle => Verdict::Stalled,
                ProcessActivity::Busy
                | ProcessActivity::Nothing
                | ProcessActivity::WaitsForDisk
                | ProcessActivity::Unseen => Verdict::Unknown,
            };
            (verdict, format!("{symptom}; {at}"))
        }
    };
    if silent.is_none() {
        past.process = Watched::default();
    }
    past.judge(tick, tick.now.boot, found, evidence)
}
