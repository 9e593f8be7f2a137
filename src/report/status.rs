//! The status of the node: one verdict for the whole, then each component in the order of dependence.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::history::stands;
use super::input::{Agent, Process, ReportInput};
use super::next_action;
use super::state::{StageView, State};
use crate::model::clock::between;
use crate::model::component::HostService;
use crate::model::component_state::Stage;
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::lineage::{ApiStop, WrongDataKind};
use crate::model::memory::Record;
use crate::model::notice::NodeNotice;
use crate::model::overall::Overall;
use crate::model::peer::Peers;
use crate::model::policy::Mode;
use crate::model::{Assessment, ComponentId, ComponentState, Event, Judgement, Memory, Role, Verdict};
use crate::snapshots::view::SnapshotsView;

/// Whether an event is one of those a status ends with: what was asked for and done, and what led to it or came of it.
pub fn is_of_note(event: &Event) -> bool {
    let turn = |text: &str| State::of_event(text).is_some_and(State::is_of_note);
    match event.kind {
        EventKind::Action | EventKind::Failure | EventKind::Request => true,
        EventKind::State => turn(&event.to) || event.from.as_deref().is_some_and(turn),
        EventKind::Agent | EventKind::Verdict | EventKind::Generation | EventKind::Notice | EventKind::Snapshot => {
            false
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// When it was made.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// The node as a whole.
    pub overall: Overall,
    /// The same as a sentence.
    pub sentence: String,
    pub agent: Agent,
    /// Whether it acts.
    pub mode: Mode,
    /// A person's pause.
    pub pause: Option<PauseView>,
    /// What else keeps it from acting at present.
    pub holds: Vec<String>,
    /// The restarts of what runs the components.
    #[serde(default)]
    pub restarts: RestartsView,
    /// An etcd that serves other data than those on record; absent while none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong_data: Option<WrongDataView>,
    /// The components, in the order of dependence.
    pub components: Vec<Component>,
    /// The kubelet and the container runtime; empty where no agent runs.
    #[serde(default)]
    pub services: Vec<ServiceView>,
    /// What a person should know.
    pub notices: Vec<Notice>,
    /// The snapshots of this node's etcd; absent where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsView>,
    /// The masters of this node's etcd cluster; absent where it has one member, or no agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
    /// What the agent counted since it started; absent when none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Counters>,
    /// The latest events of note, the newest last: [`is_of_note`].
    pub last: Vec<Event>,
}

/// A service of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceView {
    /// `host:kubelet`, `host:runtime`.
    pub component: ComponentId,
    pub verdict: Verdict,
    /// How long it has had this verdict, as far as it was watched.
    pub seconds: u64,
    /// Why, in a few words.
    pub note: String,
    /// What the operator can do; absent where nothing has to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// How often its process ended in the last minutes, where it ends again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exits: Option<u32>,
}

impl ServiceView {
    /// What a service that is not well for no longer than this is at: a restart, most likely.
    const GRACE: u64 = 15;

    fn all(judgement: &Judgement) -> Vec<Self> {
        let one = |service| {
            let state = judgement.service(service);
            let note = match (&state.crash_loop, state.verdict) {
                (Some(crash_loop), _) => {
                    let why = crash_loop.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                    format!("{} exits in the last minutes{why}", crash_loop.times)
                }
                (None, Verdict::Healthy) => String::new(),
                (None, _) => state.evidence.clone(),
            };
            Self {
                component: ComponentId::from(service),
                verdict: state.verdict,
                seconds: state.watched.as_secs(),
                note,
                next_step: state.next_step.clone(),
                exits: state.crash_loop.as_ref().map(|crash_loop| crash_loop.times),
            }
        };
        HostService::ALL.map(one).into()
    }

    /// Whether it has been unwell for longer than a restart takes.
    pub(super) fn is_unwell(&self) -> bool {
        let bad = matches!(self.verdict, Verdict::Failing | Verdict::Stalled | Verdict::Down);
        bad && (self.exits.is_some() || self.seconds >= Self::GRACE)
    }
}

/// An etcd that serves other data than those on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WrongDataView {
    pub component: ComponentId,
    /// In which way its data are wrong.
    pub kind: WrongDataKind,
    /// When its first answer from these data came.
    pub since: Timestamp,
    /// The revision that it serves.
    pub revision: i64,
    /// The revision on record; absent where none is.
    pub record_revision: Option<i64>,
    /// Whether kube-apiserver is stopped for it.
    pub api_stopped: bool,
}

impl WrongDataView {
    fn of(memory: &Memory) -> Option<Self> {
        let wrong = memory.wrong_data.as_ref()?;
        Some(Self {
            component: wrong.etcd.clone(),
            kind: wrong.kind,
            since: wrong.since,
            revision: wrong.serves.revision,
            record_revision: memory.incarnations.get(&wrong.etcd).map(|known| known.revision),
            api_stopped: matches!(wrong.api, ApiStop::Stopped { .. }),
        })
    }
}

/// A person's pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PauseView {
    /// When it ends.
    pub until: Timestamp,
    /// How long that is from now.
    pub seconds_left: u64,
    pub reason: String,
}

/// The agent's restarts of what runs the components.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RestartsView {
    /// Of the kubelet.
    pub kubelet: Restarts,
    /// Of the container runtime.
    pub runtime: Restarts,
}

/// Of one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Restarts {
    /// How many there were within the last hour, or since `lastgood resume` gave the budget back.
    pub spent: usize,
    /// How many more there may be within the hour.
    pub left: usize,
}

impl Restarts {
    fn new(spent: usize, limit: usize) -> Self {
        Self { spent, left: limit.saturating_sub(spent) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Component {
    pub component: ComponentId,
    /// What it is to the others.
    pub role: Role,
    /// How it does; the last known where no agent runs.
    pub verdict: Verdict,
    pub since: Option<Timestamp>,
    /// Its place in the state machine.
    pub state: State,
    /// How far what stands is proven.
    pub proof: ProofView,
    /// The generation that stands in the manifest directory, where what stands is one.
    pub generation: Option<u32>,
    /// The known-good generation that it would be rolled back to.
    pub known_good: Option<u32>,
    /// How many more actions may be taken on it within the hour.
    #[serde(default)]
    pub actions_left: usize,
    /// A person fixed that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinView>,
    /// What there is to say about it, in a few words; may be empty.
    pub note: String,
    /// What happens next, and when: a sentence.
    pub next: String,
    /// A candidate's trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// A replacement under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Replacement>,
    /// Why it waits for a person, and what they should do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
}

/// How far what stands is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ProofView {
    /// It is known-good.
    KnownGood,
    /// It is on its way to be.
    OnTrial,
    /// The process that runs has not read it, so its health says nothing about it (Q5).
    Unproven,
    Quarantined,
    /// Nothing stands, or nothing that decodes to a pod.
    Nothing,
}

/// A person's word on where to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PinView {
    pub generation: u32,
    /// Why, where they said so.
    pub reason: String,
    pub since: Timestamp,
}

impl PinView {
    pub(super) fn of(record: &Record) -> Option<Self> {
        let pin = record.pinned.as_ref()?;
        Some(Self { generation: pin.generation, reason: pin.reason.clone(), since: pin.since })
    }
}

impl fmt::Display for PinView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, by the operator, since {:.0}", self.generation, self.since)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// A candidate's trial. Seconds of watched time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trial {
    /// Health so far.
    pub healthy_seconds: u64,
    /// Health that is wanted.
    pub soak_seconds: u64,
    /// Until it is given up, if it does not become healthy before; absent at the first adoption, which has none.
    pub deadline_seconds_left: Option<u64>,
    /// Crashes counted against it.
    pub crashes: u32,
}

/// A replacement under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Replacement {
    /// From which generation, where one was deployed.
    pub from: Option<u32>,
    pub to: u32,
    pub why: String,
    /// How far it is.
    pub stage: StageView,
    /// Whether its manifest is out and its pod has ended, for as long as a restore works on its data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

/// Why a component waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeldView {
    pub why: String,
    /// What they should do.
    pub next_step: String,
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Notice {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentId>,
    pub text: String,
}

impl Status {
    /// Makes the status.
    pub fn new(material: ReportInput<'_>) -> Self {
        let ReportInput { now, memory, policy, .. } = material;
        let mut components: Vec<Component> =
            memory.components.iter().map(|(id, record)| Component::new(material, id, record)).collect();
        components.sort_by(|a, b| (a.role, &a.component).cmp(&(b.role, &b.component)));
        let services = material.judgement.map_or_else(Vec::new, ServiceView::all);
        let (overall, sentence) = overall(&components, &services, &material);
        // Why nothing is changed has a line of its own.
        let node = memory
            .notices
            .iter()
            .filter(|(key, _)| **key != NodeNotice::Inhibitor)
            .map(|(_, text)| Notice { component: None, text: text.clone() });
        let each = memory.components.iter().flat_map(|(id, record)| {
            record.notices.values().map(|text| Notice { component: Some(id.clone()), text: text.clone() })
        });
        Self {
            at: now,
            node: memory.machine.node_name.clone(),
            overall,
            sentence,
            agent: material.agent.clone(),
            mode: policy.mode,
            pause: memory.pause.as_ref().filter(|pause| pause.until > now).map(|pause| PauseView {
                until: pause.until,
                seconds_left: between(now, pause.until).as_secs(),
                reason: pause.reason.clone(),
            }),
            // A pause and observe mode have fields of their own.
            holds: material
                .inhibitors
                .iter()
                .filter(|inhibitor| !inhibitor.yields_to_operator())
                .map(ToString::to_string)
                .collect(),
            restarts: RestartsView {
                kubelet: Restarts::new(memory.kubelet_restarts.len(), policy.kubelet_restarts_per_hour),
                runtime: Restarts::new(memory.runtime_restarts.len(), policy.runtime_restarts_per_hour),
            },
            wrong_data: WrongDataView::of(memory),
            notices: node.chain(each).collect(),
            snapshots: material.features.snapshots.as_ref().map(|snapshots| SnapshotsView::new(snapshots, now)),
            peers: material.features.peers.clone(),
            components,
            services,
            figures: material.figures.cloned(),
            last: material.last.to_vec(),
        }
    }

    /// Whether a monitoring script should be content: everything is healthy or coming up, nothing waits for a person.
    pub fn is_well(&self) -> bool {
        matches!(self.overall, Overall::Good | Overall::Changing)
    }
}

impl Component {
    fn new(material: ReportInput<'_>, id: &ComponentId, record: &Record) -> Self {
        let assessment = material.judgement.and_then(|judgement| judgement.components.get(id));
        let last = record.verdict;
        let verdict = assessment.map(|a| a.verdict()).or(last.map(|(v, _)| v)).unwrap_or(Verdict::Unknown);
        let policy = material.policy;
        let (mut trial, mut replacement, mut held) = (None, None, None);
        match &record.state {
            ComponentState::Adopting { healthy, .. } => {
                trial = Some(Trial {
                    healthy_seconds: healthy.as_secs(),
                    soak_seconds: policy.adoption_soak.as_secs(),
                    deadline_seconds_left: None,
                    crashes: 0,
                });
            }
            ComponentState::Probation(probation) => {
                trial = Some(Trial {
                    healthy_seconds: probation.healthy.as_secs(),
                    soak_seconds: policy.candidate_soak.as_secs(),
                    deadline_seconds_left: Some(next_action::until_deadline(material, record, probation).as_secs()),
                    crashes: probation.crashes,
                });
            }
            ComponentState::Replacing(of) => {
                replacement = Some(Replacement {
                    from: of.from(),
                    to: of.to,
                    why: of.why.clone(),
                    stage: StageView::from(&of.stage),
                    suspended: of.stage == Stage::Suspended,
                });
            }
            ComponentState::Held(slot) => {
                held = Some(HeldView { why: slot.why.clone(), next_step: slot.next_step.clone() });
            }
            ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Missing { .. } => {}
        }
        Self {
            component: id.clone(),
            role: record.role,
            verdict,
            since: assessment.map(|a| a.since).or(last.map(|(_, since)| since)),
            state: if next_action::is_withheld(material, id) { State::Stopped } else { State::from(&record.state) },
            proof: proof(record, assessment),
            generation: stands(record),
            known_good: record.goes_back_to().or_else(|| record.known_good().next().map(|g| g.number)),
            actions_left: policy.actions_per_hour.saturating_sub(record.actions.len()),
            pinned: PinView::of(record),
            note: next_action::note(material, id, record, assessment),
            next: next_action::next(material, id, record, assessment),
            trial,
            replacement,
            held,
        }
    }
}

fn proof(record: &Record, assessment: Option<&Assessment>) -> ProofView {
    use crate::model::verdict::Reads;
    let generation = stands(record).and_then(|number| record.generations.get(&number));
    let unread = matches!(record.state, ComponentState::Unread { .. })
        || matches!(assessment.map(|a| &a.reads), Some(Reads::Other { .. }));
    match generation.map(|generation| &generation.trust) {
        None => ProofView::Nothing,
        Some(crate::model::Trust::Quarantined { .. }) => ProofView::Quarantined,
        Some(standing) if standing.is_known_good() => ProofView::KnownGood,
        Some(_) if unread => ProofView::Unproven,
        Some(_) => ProofView::OnTrial,
    }
}

/// The word and the sentence for the node as a whole.
fn overall(components: &[Component], services: &[ServiceView], material: &ReportInput<'_>) -> (Overall, String) {
    if components.is_empty() {
        return (Overall::Unknown, "no component is known yet".to_owned());
    }
    let names = |wanted: &dyn Fn(&Component) -> bool| {
        let names: Vec<String> =
            components.iter().filter(|c| wanted(c)).map(|component| component.component.to_string()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(wrong) = &material.memory.wrong_data {
        let api = if matches!(wrong.api, ApiStop::Stopped { .. }) { "; kube-apiserver is stopped" } else { "" };
        return (Overall::Held, format!("{} serves {} data{api}", wrong.etcd, wrong.kind.word()));
    }
    if let Some(names) = names(&|c| c.state == State::Held) {
        return (Overall::Held, format!("waiting for the operator: {names}"));
    }
    if matches!(material.agent.process, Process::Stopped) {
        return (Overall::Unknown, "the agent does not run; this is its last known state".to_owned());
    }
    if material.inhibitors.iter().any(|inhibitor| matches!(inhibitor, Inhibitor::NewerState { .. })) {
        let next = "`lastgood doctor` shows what to do";
        return (Overall::Held, format!("lastgood only observes, as a newer lastgood wrote its files; {next}"));
    }
    let bad = |c: &Component| matches!(c.verdict, Verdict::Failing | Verdict::Stalled | Verdict::Down);
    let unwell =
        services.iter().filter(|service| service.is_unwell()).map(|service| service.component.name().to_owned());
    let unwell: Vec<String> = unwell.chain(names(&bad)).collect();
    if !unwell.is_empty() {
        return (Overall::Ailing, format!("not healthy: {}", unwell.join(", ")));
    }
    if let Some(values) = material.features.snapshots.as_ref().and_then(|known| known.undecryptable.as_ref()) {
        let (count, keys) = (values.values, values.keys.join(", "));
        return (Overall::Ailing, format!("kube-apiserver cannot decrypt {count} values in etcd: it lacks {keys}"));
    }
    if let Some(names) = names(&|c| c.verdict == Verdict::Unknown) {
        return (Overall::Unknown, format!("unknown: {names}"));
    }
    if let Some(names) = names(&|c| c.proof == ProofView::Unproven) {
        return (Overall::Changing, format!("unproven: {names}"));
    }
    let settled = |c: &Component| c.state == State::Steady && c.verdict == Verdict::Healthy;
    if let Some(names) = names(&|c| !settled(c)) {
        return (Overall::Changing, format!("not known-good yet: {names}"));
    }
    let count = components.len();
    let s = if count == 1 { "component is" } else { "components are" };
    (Overall::Good, format!("{count} {s} healthy and known-good"))
}
