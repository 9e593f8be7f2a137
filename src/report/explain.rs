//! Why the agent acts on a component or does not: the evidence, its cause, and the next step.

mod absent;
mod host_service;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::history::{GenerationRow, rows};
use super::input::ReportInput;
use super::next_action;
use super::status::PinView;
use crate::model::component::HostService;
use crate::model::plan::Refusal;
use crate::model::verdict::Reads;
use crate::model::{ComponentId, EtcdStatus, Event, Verdict};

/// An explanation of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Explanation {
    pub component: ComponentId,
    pub verdict: Verdict,
    pub since: Option<Timestamp>,
    /// The sentences the verdict stands on; empty when no agent runs.
    pub evidence: Vec<String>,
    /// What an etcd member says of itself and its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdStatus>,
    /// What lies beneath its trouble.
    pub cause: Option<String>,
    /// Whether the process has read what stands, and why that is not so.
    pub reads: Option<String>,
    /// The dependent that does badly since it changed.
    pub breaks_dependent: Option<ComponentId>,
    /// Its place in the state machine, in words.
    pub state: String,
    /// What happens next, and what keeps it from happening.
    pub next: String,
    /// The generation that a person fixed as the one to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinView>,
    /// What a person should know.
    pub notices: Vec<String>,
    /// Its generations, the newest first.
    pub generations: Vec<GenerationRow>,
    /// What happened lately, the newest last.
    pub events: Vec<Event>,
}

impl Explanation {
    /// Explains the component that was asked for, or all, with what happened to each.
    ///
    /// # Errors
    /// Where no such component is known.
    pub fn of(
        material: ReportInput<'_>,
        asked: Option<&ComponentId>,
        events: impl Fn(&ComponentId) -> Vec<Event>,
    ) -> Result<Vec<Self>, Refusal> {
        let known = &material.memory.components;
        // Without an agent nothing is known of the services.
        let services = HostService::ALL.map(ComponentId::from);
        let judged = services.iter().filter(|_| material.judgement.is_some());
        let Some(asked) = asked else {
            return Ok(known.keys().chain(judged).filter_map(|id| Self::new(material, id, events(id))).collect());
        };
        let meant = match asked.service() {
            Some(service) if !known.contains_key(asked) => ComponentId::from(service),
            _ => asked.clone(),
        };
        let explanation = Self::new(material, &meant, events(&meant));
        explanation
            .map(|explanation| vec![explanation])
            .ok_or_else(|| Refusal::no_such_component(asked, known.keys().chain(&services)))
    }

    /// Explains one component; absent when nothing of that name can be explained.
    pub fn new(material: ReportInput<'_>, component: &ComponentId, events: Vec<Event>) -> Option<Self> {
        if let ComponentId::Service(service) = component {
            return Some(host_service::explanation(material, *service));
        }
        let Some(record) = material.memory.components.get(component) else {
            return absent::explanation(material, component);
        };
        let assessment = material.judgement.and_then(|judgement| judgement.components.get(component));
        Some(Self {
            component: component.clone(),
            verdict: assessment.map(|a| a.verdict()).or(record.verdict.map(|(v, _)| v)).unwrap_or(Verdict::Unknown),
            since: assessment.map(|a| a.since).or(record.verdict.map(|(_, since)| since)),
            evidence: assessment.map(|a| a.evidence.clone()).unwrap_or_default(),
            etcd: material.judgement.and_then(|judgement| judgement.etcd.get(component)).cloned(),
            cause: assessment.and_then(|a| a.cause.as_ref()).map(ToString::to_string),
            reads: assessment.map(|a| match &a.reads {
                Reads::All => "the process has loaded the deployed manifest and its files".to_owned(),
                Reads::Other { why } => format!("unproven: {why}"),
                Reads::CannotTell { why } => {
                    format!("it is unknown whether the process has loaded the deployed manifest and its files: {why}")
                }
                Reads::Nothing => "no process runs".to_owned(),
            }),
            breaks_dependent: assessment.and_then(|a| a.breaks_dependent().cloned()),
            state: record.state.to_string(),
            next: next_action::next(material, component, record, assessment),
            pinned: PinView::of(record),
            notices: record.notices.values().cloned().collect(),
            generations: rows(record),
            events,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::input::Process;
    use crate::report::testing::{Scene, id};

    #[test]
    fn what_is_asked_for_is_explained_and_a_service_by_its_name_alone() {
        let mut scene = Scene::new();
        let asked = |scene: &Scene, asked: &str| {
            let explained = Explanation::of(scene.material(), Some(&asked.parse().unwrap()), |_| Vec::new());
            explained.map(|explained| explained.iter().map(|one| one.component.to_string()).collect::<Vec<_>>())
        };
        for (name, expected) in [
            ("etcd", "etcd"),
            ("kubelet", "host:kubelet"),
            ("host:kubelet", "host:kubelet"),
            ("runtime", "host:runtime"),
            ("containerd", "host:runtime"),
        ] {
            assert_eq!(asked(&scene, name), Ok(vec![expected.to_owned()]), "{name}");
        }
        let refused = asked(&scene, "kube-vip").unwrap_err();
        let Refusal::NoSuchComponent { known, .. } = &refused else { panic!("{refused}") };
        assert!(known.contains("etcd") && known.contains("host:kubelet"), "{known}");
        scene.add("kubelet", crate::model::Role::Other);
        assert_eq!(asked(&scene, "kubelet"), Ok(vec!["kubelet".to_owned()]), "a pod of that name comes first");
    }

    #[test]
    fn everything_is_explained_and_the_services_by_an_agent_alone() {
        let mut scene = Scene::new();
        let all = |scene: &Scene| Explanation::of(scene.material(), None, |_| Vec::new()).unwrap();
        let components = scene.memory.components.len();
        assert_eq!(all(&scene).len(), components + HostService::ALL.len());
        scene.agent.process = Process::Stopped;
        assert_eq!(all(&scene).len(), components);
        assert!(all(&scene).iter().any(|one| one.component == id("etcd")));
    }
}
