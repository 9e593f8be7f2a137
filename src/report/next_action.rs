//! The sentences for the state of a component and what happens next.

use std::time::Duration;

use super::input::{Process, ReportInput};
use super::state::StageView;
use crate::config::duration::roughly;
use crate::model::component::HostService;
use crate::model::component_state::{Probation, Served};
use crate::model::lineage::ApiStop;
use crate::model::memory::Record;
use crate::model::notice::Notice;
use crate::model::observation::{Gone, whither};
use crate::model::store_fault::StoreFault;
use crate::model::verdict::{Cause, Reads};
use crate::model::{Assessment, ComponentId, ComponentState, Role, Verdict};

/// Whether it is kept out of the manifest directory while etcd serves other data than those on record.
pub(super) fn is_withheld(material: ReportInput<'_>, id: &ComponentId) -> bool {
    let wrong = material.memory.wrong_data.as_ref();
    matches!(wrong.map(|wrong| &wrong.api), Some(ApiStop::Stopped { component, .. }) if component == id)
}

/// A few words for the table; empty when there is nothing to say.
pub(super) fn note(
    material: ReportInput<'_>,
    id: &ComponentId,
    record: &Record,
    assessment: Option<&Assessment>,
) -> String {
    if is_withheld(material, id) {
        return "stopped until etcd serves the right data".to_owned();
    }
    let bad = assessment.filter(|a| !matches!(a.verdict(), Verdict::Healthy | Verdict::Starting));
    let because = bad.and_then(|a| match &a.cause {
        Some(cause @ (Cause::Data(_) | Cause::HostPath { .. })) => Some(cause.to_string()),
        Some(cause) => Some(format!("waiting: {cause}")),
        None => a.evidence.first().cloned(),
    });
    let policy = material.policy;
    match &record.state {
        ComponentState::Held(held) => format!("held: {}", held.why),
        ComponentState::Replacing(r) if r.suspended_for().is_some() => {
            format!("suspended: {}: {}", r.why, StageView::from(&r.stage))
        }
        ComponentState::Replacing(r) => {
            format!("rolling back to generation {}: {}", r.to, StageView::from(&r.stage))
        }
        ComponentState::Probation(probation) => {
            let trial = trial(probation, policy.candidate_soak, until_deadline(material, record, probation));
            because.map_or(trial.clone(), |because| format!("{trial}; {because}"))
        }
        ComponentState::Adopting { healthy, .. } => match (assessment.map(|a| &a.reads), because) {
            (Some(Reads::Other { why }), _) => format!("unproven: {why}"),
            (_, Some(because)) => format!("broken, and no known-good generation yet: {because}"),
            (Some(Reads::CannotTell { why }), _) => format!("cannot be adopted yet: {why}"),
            _ => format!("adopted after another {} of health", roughly(policy.adoption_soak.saturating_sub(*healthy))),
        },
        ComponentState::Unread { good, .. } => {
            format!("unproven: its files changed, the process still runs generation {good}")
        }
        ComponentState::Missing { how, age, .. } => match how {
            Gone::Deleted => {
                format!("deleted; deployed again in {}", roughly(grace(material, record).saturating_sub(*age)))
            }
            Gone::Moved { .. } | Gone::Unwitnessed if interrupted(record) => {
                let left = roughly(grace(material, record).saturating_sub(*age));
                format!("an upgrade was interrupted while it was absent; deployed again in {left}")
            }
            Gone::Moved { to } => format!("{}; left alone", whither(to.as_deref())),
            Gone::Unwitnessed => "absent since before lastgood first ran; left alone".to_owned(),
        },
        ComponentState::Steady { .. } => match (because, assessment.map(|a| &a.reads)) {
            _ if record.notices.contains_key(&Notice::Undecodable) => {
                "lastgood cannot read its manifest; the kubelet decides".to_owned()
            }
            (Some(because), _) => because,
            (None, Some(Reads::Other { why })) => format!("unproven: {why}"),
            _ => record.notices.values().next().cloned().unwrap_or_default(),
        },
    }
}

/// How long a candidate may still take to become healthy.
pub(super) fn until_deadline(material: ReportInput<'_>, record: &Record, trial: &Probation) -> Duration {
    material.policy.deadline_of(record.generations.get(&trial.candidate)).saturating_sub(trial.age)
}

fn trial(probation: &Probation, soak: Duration, until_deadline: Duration) -> String {
    let crashes = match probation.crashes {
        0 => String::new(),
        1 => ", 1 crash".to_owned(),
        n => format!(", {n} crashes"),
    };
    let left = if probation.healthy > Duration::ZERO || probation.served == Served::Yes {
        format!("known-good after another {} of health", roughly(soak.saturating_sub(probation.healthy)))
    } else {
        format!("{} left to become healthy", roughly(until_deadline))
    };
    format!("on probation: {left}{crashes}")
}

/// Whether it fails by itself: not for a cause that passes, and not while it only starts.
fn is_broken(assessment: &Assessment) -> bool {
    let explained = assessment.cause.as_ref().is_some_and(|cause| !cause.is_of_the_manifest());
    matches!(assessment.verdict(), Verdict::Down | Verdict::Failing) && !explained
}

/// Whether what is missing went because an upgrade was cut short.
fn interrupted(record: &Record) -> bool {
    record.notices.contains_key(&Notice::Interrupted)
}

/// How long a deleted manifest stays away: several at once, or etcd's, stay longer.
fn grace(material: ReportInput<'_>, record: &Record) -> Duration {
    let missing = |record: &&Record| matches!(record.state, ComponentState::Missing { .. });
    let several = material.memory.components.values().filter(missing).count() > 1;
    let policy = material.policy;
    if several || record.role == Role::Etcd && !interrupted(record) {
        policy.all_deleted_grace
    } else {
        policy.deleted_grace
    }
}

/// What happens next: a sentence. It begins with what keeps the agent from acting, if something does.
pub(super) fn next(
    material: ReportInput<'_>,
    id: &ComponentId,
    record: &Record,
    assessment: Option<&Assessment>,
) -> String {
    if is_withheld(material, id) {
        return format!(
            "it is put back when etcd serves the right data; `lastgood etcd accept-data` if the present ones are \
             right, `lastgood resume {id}` to run it on them anyway"
        );
    }
    let plain = undisturbed(material, record, assessment);
    // What waits for evidence alone goes on whatever holds the hands.
    let acts = matches!(
        record.state,
        ComponentState::Probation(_) | ComponentState::Replacing(_) | ComponentState::Missing { .. }
    ) || stands_still(record, assessment);
    match (acts, hindrance(material)) {
        (true, Some(hindrance)) => format!("nothing: {hindrance}. Otherwise: {plain}"),
        _ => plain,
    }
}

/// What keeps the agent from acting on anything.
pub(super) fn hindrance(material: ReportInput<'_>) -> Option<String> {
    if material.agent.process == Process::Stopped {
        return Some("the agent does not run".to_owned());
    }
    let first = material.inhibitors.first()?;
    Some(format!("{first}; next: {}", first.next_step()))
}

/// Whether its process hangs, and nothing but time is between it and a restart of its container.
fn stands_still(record: &Record, assessment: Option<&Assessment>) -> bool {
    let stalled = assessment.is_some_and(|a| a.stall().is_some() && a.cause.is_none());
    // Why it is left alone is told under the name by which deciding knows it.
    stalled && matches!(record.state, ComponentState::Steady { .. }) && !record.notices.contains_key(&Notice::StallLeft)
}

/// Why a container that has ended, or that should be, is started by nobody, and the next step.
fn no_restart(material: ReportInput<'_>) -> Option<(String, String)> {
    let Some(judgement) = material.judgement else {
        return Some((
            "whether the kubelet runs is unknown".to_owned(),
            "`systemctl status kubelet lastgood`".to_owned(),
        ));
    };
    let services = [(&judgement.runtime, HostService::ContainerRuntime), (&judgement.kubelet, HostService::Kubelet)];
    services.into_iter().find_map(|(service, name)| {
        if let Some(crash_loop) = &service.crash_loop {
            return Some((format!("{name} does not run: {crash_loop}"), crash_loop.next_step.clone()));
        }
        let state = match service.verdict {
            Verdict::Healthy | Verdict::Starting => return None,
            Verdict::Down => "does not run".to_owned(),
            Verdict::Unknown => "cannot be observed".to_owned(),
            verdict => format!("is {verdict}"),
        };
        let why = match service.evidence.as_str() {
            "" => String::new(),
            evidence => format!(" ({evidence})"),
        };
        let next = service.next_step.clone().unwrap_or_else(|| name.look().to_owned());
        Some((format!("{name} {state}{why}"), next))
    })
}

/// Out of data that no etcd starts over: nothing is restarted or rolled back for them.
fn ways(material: ReportInput<'_>, fault: &StoreFault) -> String {
    let newest = material.features.snapshots.as_ref().and_then(|snapshots| snapshots.newest.as_ref());
    let ways = fault.ways(newest.map(|newest| (newest.revision, newest.at)));
    let numbered: Vec<String> = ways.iter().zip(1..).map(|(way, number)| format!("{number}. {way}")).collect();
    format!(
        "the operator must act: no restart and no rollback cures it; the ways out, the one that loses the least first: {}",
        numbered.join("; ")
    )
}

fn undisturbed(material: ReportInput<'_>, record: &Record, assessment: Option<&Assessment>) -> String {
    let policy = material.policy;
    let cause = assessment.and_then(|a| a.cause.as_ref());
    let verdict = assessment.map_or(Verdict::Unknown, |a| a.verdict());
    let back = record.goes_back_to().unwrap_or_default();
    let undecoded = record.notices.contains_key(&Notice::Undecodable);
    if let Some(Cause::Data(fault)) = cause
        && !matches!(record.state, ComponentState::Missing { .. } | ComponentState::Replacing(_))
    {
        return ways(material, fault);
    }
    match &record.state {
        ComponentState::Adopting { .. } if undecoded => {
            "the operator must act: lastgood cannot read its manifest, and none of its generations is known-good yet"
                .to_owned()
        }
        ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Probation(_) if undecoded => {
            format!(
                "nothing while its pod runs, as lastgood cannot read its manifest; generation {back} is deployed if the \
             kubelet starts none"
            )
        }
        ComponentState::Held(held) => format!("the operator must act: {}", held.next_step),
        ComponentState::Replacing(r) if r.suspended_for().is_some() => {
            format!("generation {} is deployed when the restore ends: {}", r.to, StageView::from(&r.stage))
        }
        ComponentState::Replacing(r) => {
            format!("generation {} is deployed: {}", r.to, StageView::from(&r.stage))
        }
        ComponentState::Probation(p) => {
            let good = back;
            let decides = if p.served == Served::Yes {
                format!("when it stays unhealthy for {}", roughly(policy.unhealthy_grace))
            } else {
                format!("when it is not healthy within {}", roughly(until_deadline(material, record, p)))
            };
            let proven = format!(
                "generation {} becomes known-good after another {} of health",
                p.candidate,
                roughly(policy.candidate_soak.saturating_sub(p.healthy))
            );
            let waits = match cause {
                Some(cause @ (Cause::HostPath { .. } | Cause::NoAttempt { .. })) => format!(" Now: {cause}."),
                Some(cause) => format!(" Its faults do not count while {cause}."),
                None => String::new(),
            };
            format!(
                "{proven}; generation {good} is deployed {decides}, or after {} crashes by its own fault.{waits}",
                policy.max_crashes
            )
        }
        ComponentState::Adopting { candidate, healthy } => match assessment.map(|a| &a.reads) {
            Some(Reads::Other { why }) => format!(
                "nothing: generation {candidate} is unproven ({why}); it becomes known-good once a process that has \
                 loaded it is healthy for {}",
                roughly(policy.adoption_soak)
            ),
            _ if assessment.is_some_and(is_broken) => format!(
                "the operator must act: correct its manifest, or what it needs; no generation is known-good yet, so lastgood \
                 cannot replace generation {candidate}"
            ),
            _ => format!(
                "generation {candidate} becomes known-good after another {} of health; until then there is no rollback \
                 target",
                roughly(policy.adoption_soak.saturating_sub(*healthy))
            ),
        },
        ComponentState::Unread { candidate, good, .. } => format!(
            "nothing: the probation of generation {candidate} begins when a process loads it; generation {good} still \
             runs"
        ),
        ComponentState::Missing { how, age, .. } => match how {
            Gone::Deleted => format!(
                "generation {back} is deployed in {}; `lastgood pause` prevents this",
                roughly(grace(material, record).saturating_sub(*age))
            ),
            Gone::Moved { .. } | Gone::Unwitnessed if interrupted(record) => format!(
                "generation {back}, which kubeadm had moved away to replace it, is deployed in {}; `lastgood pause` \
                 prevents this",
                roughly(grace(material, record).saturating_sub(*age))
            ),
            Gone::Moved { to: Some(to) } => format!(
                "nothing: somebody moved it to {}; move it back, or `lastgood rollback` deploys generation {back}",
                to.display()
            ),
            Gone::Moved { to: None } => format!(
                "nothing: it was {}; move it back, or `lastgood rollback` deploys generation {back}",
                whither(None)
            ),
            Gone::Unwitnessed => {
                format!(
                    "nothing: it was removed while lastgood did not run; `lastgood rollback` deploys generation {back}"
                )
            }
        },
        ComponentState::Steady { good } => match (verdict, cause) {
            (Verdict::Healthy, _) if back != *good => format!(
                "nothing: it is healthy and known-good; a failed change is rolled back to generation {back}, which is pinned"
            ),
            (Verdict::Healthy, _) => "nothing: it is healthy and known-good".to_owned(),
            (Verdict::Starting, _) => "nothing: it is starting".to_owned(),
            (Verdict::Unknown, _) => "no action: its health is unknown".to_owned(),
            (_, Some(cause @ (Cause::HostPath { .. } | Cause::SecondSandbox { .. }))) => {
                format!("the operator must act: {cause}")
            }
            (_, Some(cause @ Cause::NoAttempt { container, .. }))
                if record.assists.no_attempt.as_ref() == Some(container) =>
            {
                format!("the operator must act; one restart of the kubelet by lastgood did not bring it back: {cause}")
            }
            (_, Some(cause @ Cause::NoAttempt { .. })) => {
                format!("the operator must act, unless one restart of the kubelet by lastgood brings it back: {cause}")
            }
            (_, Some(cause)) => format!("nothing here: it waits because {cause}"),
            (_, None) if stands_still(record, assessment) => format!(
                "its container is stopped when it has been stalled for {}, and the kubelet starts another; it has not \
                 changed, so generation {good} stays",
                roughly(policy.stall_after)
            ),
            (verdict, None) => {
                let unchanged = format!(
                    "generation {good} has proven itself, and it has not changed, so there is nothing to roll back"
                );
                match (no_restart(material), verdict) {
                    (Some((why, next)), _) => {
                        format!("the operator must act: nothing restarts it, because {why}; next: {next}; {unchanged}")
                    }
                    (None, Verdict::Down) => format!("the kubelet restarts it: {unchanged}"),
                    (None, _) => {
                        format!(
                            "the kubelet restarts it when the pod's own liveness probe fails as often as the pod allows: {unchanged}"
                        )
                    }
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdict::{CrashLoop, ServiceState};
    use crate::report::testing::{Scene, id};

    const API: &str = "kube-apiserver";
    const PROMISE: &str = "the kubelet restarts it";

    fn next_of(scene: &Scene) -> String {
        scene.component(API).next
    }

    #[test]
    fn a_restart_is_promised_only_where_one_comes() {
        let service = |verdict| ServiceState { verdict, evidence: "it says so".to_owned(), ..ServiceState::default() };
        let crash_loop = CrashLoop {
            times: 5,
            since: None,
            status: None,
            reason: None,
            changed: None,
            next_step: "`journalctl -u kubelet -n 50`".to_owned(),
        };
        let looping = ServiceState { crash_loop: Some(crash_loop), ..service(Verdict::Failing) };
        let sandbox = Cause::Sandbox { detail: "no sandbox".to_owned(), next_step: "look".to_owned() };
        let host_path =
            Cause::HostPath { path: "/a".into(), detail: "/a is no file".to_owned(), next_step: "look".to_owned() };
        let second = Cause::SecondSandbox {
            sandbox: "s".to_owned(),
            detail: "two of them".to_owned(),
            next_step: "look".to_owned(),
        };
        let no_attempt = Cause::NoAttempt {
            container: "c0ffee".to_owned(),
            due: jiff::Timestamp::UNIX_EPOCH,
            detail: "no attempt".to_owned(),
            next_step: "look".to_owned(),
        };
        let healthy = || service(Verdict::Healthy);
        type Row<'r> = (&'r str, Verdict, ServiceState, ServiceState, Option<Cause>, bool);
        let rows: [Row<'_>; 14] = [
            ("all is well beneath it", Verdict::Down, healthy(), healthy(), None, true),
            ("it runs and fails", Verdict::Failing, healthy(), healthy(), None, true),
            ("the kubelet has just started", Verdict::Down, service(Verdict::Starting), healthy(), None, true),
            ("no kubelet", Verdict::Down, service(Verdict::Down), healthy(), None, false),
            ("a kubelet that ends again and again", Verdict::Down, looping, healthy(), None, false),
            ("a stalled kubelet", Verdict::Down, service(Verdict::Stalled), healthy(), None, false),
            ("an unhealthy kubelet", Verdict::Down, service(Verdict::Failing), healthy(), None, false),
            ("a kubelet that cannot be seen", Verdict::Down, service(Verdict::Unknown), healthy(), None, false),
            ("no runtime", Verdict::Down, healthy(), service(Verdict::Down), None, false),
            ("a stalled runtime", Verdict::Down, healthy(), service(Verdict::Stalled), None, false),
            ("no sandbox", Verdict::Down, healthy(), healthy(), Some(sandbox), false),
            ("a directory for a file", Verdict::Down, healthy(), healthy(), Some(host_path), false),
            ("two sandboxes", Verdict::Down, healthy(), healthy(), Some(second), false),
            ("an attempt that does not come", Verdict::Down, healthy(), healthy(), Some(no_attempt), false),
        ];
        for (situation, verdict, kubelet, runtime, cause, promised) in rows {
            let mut scene = Scene::new();
            (scene.judgement.kubelet, scene.judgement.runtime) = (kubelet, runtime);
            let assessment = scene.judgement.components.get_mut(&id(API)).unwrap();
            (assessment.health, assessment.cause) = (verdict.into(), cause);
            let next = next_of(&scene);
            assert_eq!(next.starts_with(PROMISE), promised, "{situation}: {next}");
        }
        let mut stopped = Scene::new();
        stopped.assessment(API).health = Verdict::Down.into();
        stopped.agent.process = Process::Stopped;
        assert!(!next_of(&stopped).contains(PROMISE), "no agent: {}", next_of(&stopped));
    }
}
