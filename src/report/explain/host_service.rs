//! The kubelet and the container runtime, explained: they have no generations, and all that is known of them is what the last
//! pass found.

use super::Explanation;
use crate::model::component::HostService;
use crate::model::notice::NodeNotice;
use crate::model::verdict::ServiceState;
use crate::model::{ComponentId, Memory, Policy, Verdict};
use crate::report::input::{Process, ReportInput};
use crate::report::next_action;

/// In the place of a component's state.
const STATE: &str = "a service of this node, without generations";

pub(super) fn explanation(material: ReportInput<'_>, service: HostService) -> Explanation {
    let state = material.judgement.map(|judgement| judgement.service(service));
    Explanation {
        component: ComponentId::from(service),
        verdict: state.map_or(Verdict::Unknown, |state| state.verdict),
        since: state.and_then(|state| material.now.checked_sub(state.watched).ok()),
        evidence: evidence(material, service, state),
        etcd: None,
        cause: None,
        reads: None,
        breaks_dependent: None,
        state: STATE.to_owned(),
        next: next(material, service, state),
        pinned: None,
        notices: notices(material.memory, service),
        generations: Vec::new(),
        events: Vec::new(),
    }
}

fn evidence(material: ReportInput<'_>, service: HostService, state: Option<&ServiceState>) -> Vec<String> {
    let mut evidence = Vec::new();
    if let Some(state) = state.filter(|state| !state.evidence.is_empty()) {
        evidence.push(state.evidence.clone());
    }
    if let Some(crash_loop) = state.and_then(|state| state.crash_loop.as_ref()) {
        let since = crash_loop.since.map_or_else(String::new, |since| format!(", the first at {since:.0}"));
        evidence.push(format!("{} exits in the last minutes{since}", crash_loop.times));
    }
    let (restarts, limit, _) = restarts(material.memory, material.policy, service);
    if restarts > 0 {
        evidence
            .push(format!("lastgood restarted it {restarts} times within the last hour, of {limit} that are allowed"));
    }
    evidence
}

/// The restarts of the last hour, how many are allowed, and their command.
fn restarts<'p>(memory: &Memory, policy: &'p Policy, service: HostService) -> (usize, usize, &'p [String]) {
    match service {
        HostService::Kubelet => {
            (memory.kubelet_restarts.len(), policy.kubelet_restarts_per_hour, &policy.kubelet_restart)
        }
        HostService::ContainerRuntime => {
            (memory.runtime_restarts.len(), policy.runtime_restarts_per_hour, &policy.runtime_restart)
        }
    }
}

fn next(material: ReportInput<'_>, service: HostService, state: Option<&ServiceState>) -> String {
    let look = service.look();
    let Some(state) = state else {
        return match material.agent.process {
            Process::Stopped => format!(
                "nothing: the agent does not run, and nothing else observes {service}; next: {look}, then `systemctl start \
                 lastgood`"
            ),
            Process::Running { .. } => format!("nothing yet: the agent has not judged {service} so far; next: {look}"),
        };
    };
    let step = state.next_step.as_deref().unwrap_or(look);
    match state.verdict {
        Verdict::Healthy => "nothing: it is healthy".to_owned(),
        Verdict::Starting => "nothing: it is starting".to_owned(),
        Verdict::Unknown => format!("no action: its health is unknown; next: {step}"),
        Verdict::Down => format!("the operator must act: lastgood starts no service that does not run; next: {step}"),
        Verdict::Failing | Verdict::Stalled => restart(material, service),
    }
}

/// Of one that is restarted, unless something is in the way.
fn restart(material: ReportInput<'_>, service: HostService) -> String {
    if let Some(left) = material.memory.notices.get(&NodeNotice::ServiceLeft(service)) {
        return format!("the operator must act: {left}");
    }
    let (_, limit, command) = restarts(material.memory, material.policy, service);
    let restart = format!("lastgood runs `{}` unless it recovers, {limit} times per hour at most", command.join(" "));
    match next_action::hindrance(material) {
        Some(hindrance) => format!("nothing: {hindrance}. Otherwise: {restart}"),
        None => restart,
    }
}

fn notices(memory: &Memory, service: HostService) -> Vec<String> {
    let concerns = |about: &NodeNotice| match about {
        NodeNotice::Service(of) | NodeNotice::ServiceLeft(of) => *of == service,
        NodeNotice::CgroupDrivers => true,
        NodeNotice::NodeName | NodeNotice::StaticPodPath | NodeNotice::ResolvConf | NodeNotice::KubeletCertificate => {
            service == HostService::Kubelet
        }
        _ => false,
    };
    memory.notices.iter().filter(|(about, _)| concerns(about)).map(|(_, text)| text.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{Scene, kubeadm, now};
    use jiff::ToSpan as _;

    const KUBELET: HostService = HostService::Kubelet;

    fn explained(scene: &Scene) -> Explanation {
        Explanation::new(scene.material(), &KUBELET.into(), Vec::new()).unwrap()
    }

    #[test]
    fn a_service_is_explained_with_what_the_last_pass_found_of_it() {
        let mut scene = Scene::new();
        let healthy = explained(&scene);
        assert_eq!((healthy.component, healthy.verdict), (KUBELET.into(), Verdict::Healthy));
        assert_eq!(healthy.since, Some(now() - 590.seconds()));
        assert_eq!(healthy.evidence.len(), 1, "what it was judged by");
        scene.memory.kubelet_restarts = [std::time::Duration::ZERO].into();
        assert_eq!(explained(&scene).evidence.len(), 2, "and the restart of this hour");
        scene.agent.process = Process::Stopped;
        let stopped = explained(&scene);
        assert_eq!((stopped.verdict, stopped.since), (Verdict::Unknown, None));
        assert!(stopped.next.contains(KUBELET.look()), "{}", stopped.next);
    }

    #[test]
    fn what_is_next_for_a_service_is_what_deciding_does() {
        let commands = |scene: &Scene| scene.policy.kubelet_restart.join(" ");
        let left = || (NodeNotice::ServiceLeft(KUBELET), "it is left".to_owned());
        type Row = (&'static str, Verdict, fn(&mut Scene), bool, &'static str);
        let rows: [Row; 6] = [
            ("healthy", Verdict::Healthy, |_| {}, false, "nothing"),
            ("unknown", Verdict::Unknown, |_| {}, false, "no action"),
            ("down", Verdict::Down, |_| {}, false, "the operator must act"),
            ("stalled", Verdict::Stalled, |_| {}, true, "lastgood runs"),
            (
                "stalled while kubeadm works",
                Verdict::Stalled,
                |s| s.inhibitors.push(kubeadm()),
                true,
                "nothing: kubeadm",
            ),
            ("unhealthy", Verdict::Failing, |_| {}, true, "lastgood runs"),
        ];
        for (situation, verdict, change, restarts, begins) in rows {
            let mut scene = Scene::new();
            scene.judgement.kubelet.verdict = verdict;
            change(&mut scene);
            let next = explained(&scene).next;
            assert_eq!(next.contains(&commands(&scene)), restarts, "{situation}: {next}");
            assert!(next.starts_with(begins), "{situation}: {next}");
            scene.memory.notices.extend([left()]);
            let kept = explained(&scene);
            assert_eq!(kept.next.contains(&left().1), restarts, "{situation}, and left: {}", kept.next);
            assert_eq!(kept.notices, [left().1]);
        }
    }

    #[test]
    fn a_notice_is_shown_with_the_service_that_it_is_about() {
        let mut scene = Scene::new();
        let about = [
            NodeNotice::Service(HostService::ContainerRuntime),
            NodeNotice::ResolvConf,
            NodeNotice::CgroupDrivers,
            NodeNotice::Clock,
        ];
        scene.memory.notices = about.iter().map(|about| (about.clone(), about.to_string())).collect();
        for (service, expected) in [
            (KUBELET, ["resolv-conf", "cgroup-drivers"]),
            (HostService::ContainerRuntime, ["runtime", "cgroup-drivers"]),
        ] {
            let mut shown = Explanation::new(scene.material(), &service.into(), Vec::new()).unwrap().notices;
            shown.sort_by_key(|text| expected.iter().position(|one| one == text));
            assert_eq!(shown, expected);
        }
    }
}
