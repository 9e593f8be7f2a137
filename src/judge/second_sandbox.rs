//! Two sandboxes of one static pod that run at the same time: the kubelet starts the changed pod before the earlier one has
//! ended (kubelets of 1.22 to 1.25 do that after a start without an API server). The later one cannot have the ports of the
//! earlier one, and the kubelet ends neither.

use crate::model::observation::{ContainerState, PodRun, SandboxState};
use crate::model::verdict::{Assessment, Cause, Verdict};
use crate::model::{ComponentId, Observation};

/// The earlier sandbox, where it keeps the newest one from serving.
pub(super) fn cause(id: &ComponentId, assessment: &Assessment, seen: &Observation) -> Option<Cause> {
    if !matches!(assessment.verdict(), Verdict::Down | Verdict::Failing | Verdict::Starting) {
        return None;
    }
    let runs: Vec<&PodRun> = seen.runtime.iter().flatten().filter(|run| run.component == *id).collect();
    let ready = || runs.iter().copied().filter(|run| run.ready == SandboxState::Ready);
    let newest = ready().max_by_key(|run| run.created)?;
    let started = |run: &PodRun| !run.containers.is_empty();
    let earlier =
        ready().filter(|run| run.uid != newest.uid && running(run).is_some()).max_by_key(|run| run.created)?;
    if !started(newest) || running(newest).is_some() {
        return None;
    }
    let container = running(earlier)?;
    let port = seen.node.listeners.iter().find(|(_, listener)| listener.container.as_deref() == Some(container));
    let holds = match port {
        Some((port, listener)) => {
            let pid = listener.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            format!("port {port} is held by {}{pid} of the earlier one", listener.program)
        }
        None => "the process of the earlier one still runs".to_owned(),
    };
    let detail = format!(
        "two sandboxes of it exist, and the kubelet ends neither: {holds}, created {:.0}, so the later one, created {:.0}, \
         cannot start",
        earlier.created, newest.created
    );
    let next_step = format!("`crictl stopp {}` ends the earlier one", short(&earlier.sandbox));
    Some(Cause::SecondSandbox { sandbox: earlier.sandbox.clone(), detail, next_step })
}

fn running(run: &PodRun) -> Option<&str> {
    let runs = |state: &ContainerState| matches!(state, ContainerState::Running { .. });
    run.containers.iter().find(|container| runs(&container.state)).map(|container| container.id.as_str())
}

/// As crictl shows it.
fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{at, judged, nothing_runs};
    use crate::model::observation::{ContainerRun, Listener};

    fn run(uid: &str, created: i64, ready: SandboxState, state: Option<ContainerState>) -> PodRun {
        let container = state.map(|state| ContainerRun {
            id: format!("container-{uid}"),
            name: "etcd".to_owned(),
            attempt: 2,
            image: "i".to_owned(),
            image_id: String::new(),
            state,
            command_line: None,
            log_tail: Some("listen tcp 127.0.0.1:2379: bind: address already in use".to_owned()),
            work: None,
        });
        PodRun {
            component: ComponentId::system("etcd"),
            uid: uid.to_owned(),
            sandbox: format!("sandbox-{uid}"),
            created: at(created),
            ready,
            containers: container.into_iter().collect(),
        }
    }

    #[test]
    fn an_earlier_sandbox_is_the_cause_while_its_process_runs_and_the_later_one_does_not() {
        use SandboxState::{NotReady, Ready};
        let runs = || Some(ContainerState::Running { started: at(-900) });
        let ended = || {
            Some(ContainerState::Exited { started: at(-12), finished: at(-11), code: 1, reason: "Error".to_owned() })
        };
        let rows = [
            ("both, the later one has ended", run("a", -900, Ready, runs()), run("b", -60, Ready, ended()), true),
            ("the earlier one has ended", run("a", -900, Ready, ended()), run("b", -60, Ready, ended()), false),
            ("the earlier sandbox was stopped", run("a", -900, NotReady, runs()), run("b", -60, Ready, ended()), false),
            ("the later one has no container yet", run("a", -900, Ready, runs()), run("b", -60, Ready, None), false),
            ("the same pod twice", run("b", -900, Ready, runs()), run("b", -60, Ready, ended()), false),
        ];
        for (situation, earlier, later, is_cause) in rows {
            let mut seen = nothing_runs(&["etcd"]);
            let holder =
                Listener { pid: Some(4711), program: "etcd".to_owned(), container: Some("container-a".to_owned()) };
            seen.node.listeners.insert(2379, holder);
            seen.runtime = Ok(vec![earlier, later]);
            let assessment = judged(&seen, "etcd");
            let named =
                matches!(&assessment.cause, Some(Cause::SecondSandbox { sandbox, .. }) if sandbox == "sandbox-a");
            assert_eq!(named, is_cause, "{situation}: {:?}", assessment.cause);
        }
    }
}
