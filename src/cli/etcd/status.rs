//! `lastgood etcd status`: one probe of the member of this node and of its cluster, by this process, whether the agent
//! runs or not. If the agent runs, its verdict is shown, since it has a history; otherwise this process judges by the
//! same rules for the time of the probe.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::cli::{Exit, Failure, out};
use crate::config::Settings;
use crate::judge::{self, History};
use crate::model::etcd_history::{EtcdHistory, Growth, Size};
use crate::model::observation::Directory;
use crate::model::{ComponentId, EtcdStatus, Memory, Observation, Tick, Verdict};
use crate::observe::{LocalMember, Observer};
use crate::ops::backend::Backend;
use crate::ops::etcd::node::no_member;
use crate::record::{self, Store};
use crate::report::Format;
use crate::report::etcd::{EtcdView, Looked, Word};

/// Between two questions to a component while this command judges by itself: an answer makes or unmakes Healthy only with
/// the next one.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn status(settings: &Settings, output: Format) -> Result<Exit, Failure> {
    let mut look = Look::start(settings).await?;
    let member = look.member()?;
    let (known, _) = record::last_known(settings);
    let asked = look.observer.ask_etcd(&member.component, &known);
    let (status, word) = tokio::join!(asked, look.word(settings, &member.component));
    let status = status.unwrap_or_default();
    let world = known.latest();
    let at = Timestamp::now();
    let conflicts: Vec<_> = look.seen.node.member_conflicts.values().flatten().cloned().collect();
    let view = EtcdView::new(Looked {
        at,
        node: &look.observer.environment().node_name.value,
        component: &member.component,
        word: word?,
        status: &status,
        known: world.map(|world| (world.member, world.members.as_slice())),
        growth: growth(&known, &status, at),
        conflicts: &conflicts,
    });
    out::text(&output.print(&view, EtcdView::text)?)?;
    Ok(if view.is_well() { Exit::Ok } else { Exit::Unwell })
}

/// How the database grew until now, by what the agent wrote down.
pub(super) fn growth(known: &EtcdHistory, status: &EtcdStatus, at: Timestamp) -> Option<Growth> {
    let own = status.own.as_ref().ok()?;
    known.of(own.cluster)?.growth(Size { at, bytes: own.db_size? })
}

/// This process' own eyes.
pub(super) struct Look {
    settings: Settings,
    pub(super) observer: Observer,
    /// What the first look saw.
    pub(super) seen: Observation,
    pub(super) memory: Memory,
}

impl Look {
    /// Looks around once.
    pub(super) async fn start(settings: &Settings) -> Result<Self, Failure> {
        let mut settings = settings.clone();
        settings.probes.interval = settings.probes.interval.min(INTERVAL);
        let mut observer = Observer::start(&settings).await;
        // The agent's memory knows the manifest of a member whose file is gone.
        let memory = Store::open(&settings).map(|store| store.load_memory(&observer.machine()).0);
        let memory = memory.unwrap_or_else(|_| Memory::default());
        let seen = observer.observe(&memory).await;
        Ok(Self { settings, observer, seen, memory })
    }

    /// The member of this node.
    pub(super) fn member(&self) -> Result<LocalMember, Failure> {
        if let Directory::Unreadable(why) = &self.seen.manifests {
            return Err(Failure::unreachable(format!("{why}: use sudo")));
        }
        let member = self.observer.etcd_members().into_iter().next();
        member.ok_or_else(|| no_member(&self.settings, "an external one is examined on its own hosts"))
    }

    /// The agent's word on a component, where one runs and knows it; or this process' own.
    async fn word(&mut self, settings: &Settings, id: &ComponentId) -> Result<Word, Failure> {
        if let Ok(mut backend @ Backend::Running(_)) = Backend::open(settings).await {
            match backend.explain(Some(id)).await {
                Ok(said) => {
                    // Of a manifest that it has not read yet, the agent knows nothing.
                    if let Some(said) = said.into_iter().next().filter(|said| said.since.is_some()) {
                        return Ok(said.into());
                    }
                }
                Err(why) => eprintln!("the agent does not answer: {why}"),
            }
        }
        self.judge(settings, id).await
    }

    async fn judge(&mut self, settings: &Settings, id: &ComponentId) -> Result<Word, Failure> {
        // Two answers of a member that hangs.
        let deadline = Instant::now() + settings.probes.timeout * 2 + INTERVAL * 2;
        let (mut history, mut last) = (History::default(), None);
        loop {
            let seen = self.observer.observe(&self.memory).await;
            let tick = Tick::after(last, seen.at, settings.agent_loop.longest_gap);
            last = Some(seen.at);
            let (judged, next) = judge::judge(tick, &seen, &self.memory, history, &settings.policy);
            history = next;
            let assessment = judged.components.get(id);
            let settled = assessment.is_some_and(|a| matches!(a.verdict(), Verdict::Healthy | Verdict::Down));
            match assessment {
                Some(assessment) if settled || Instant::now() >= deadline => return Ok(assessment.into()),
                None if Instant::now() >= deadline => {
                    return Err(Failure::failed(format!("{id} existed a moment ago and is gone")));
                }
                _ => sleep(INTERVAL).await,
            }
        }
    }
}
