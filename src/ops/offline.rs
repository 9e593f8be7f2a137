//! Commands without a running agent: reads the state on disk, and carries out a request in this process.
//!
//! A request takes the agent's lock and runs passes until it is concluded, by the same decisions as the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failure::{Exit, Failure};
use crate::act;
use crate::agent::{self, Agent, Decided, Planner};
use crate::config::Settings;
use crate::control::Execution;
use crate::feature::View;
use crate::model::component_state::Stage;
use crate::model::manifest::MAX_BYTES;
use crate::model::{ComponentId, ComponentState, Decision, Digest, Event, Generation, Memory, NewerFile, Request};
use crate::observe;
use crate::record::Store;
use crate::report::{Planned, is_of_note};
use crate::sys::{files, proc};

/// The longest a request is carried on without an agent: stopping kube-apiserver, ending, starting and the slowest start-up probe.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Passes before a request, so that verdicts have more than one answer to go by.
const WARM_UP: u32 = 3;
/// Between two of them, where probes are configured to be rare.
const LONGEST_BETWEEN_PASSES: Duration = Duration::from_secs(2);

/// The state directory of an agent that may or may not run. Reading takes no lock: every file in it is replaced whole.
pub(crate) struct Offline {
    settings: Settings,
    store: Store,
}

impl Offline {
    /// Opens the state directory.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Failure> {
        let dir = &settings.paths.state;
        match std::fs::read_dir(dir) {
            Ok(_) => {
                let store = Store::open(settings).map_err(|error| Failure::unreachable(error.to_string()))?;
                Ok(Self { settings: settings.clone(), store })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::unreachable(format!(
                "lastgood does not run on this node and has stored nothing in {} yet; next: `systemctl enable --now lastgood`, \
                 then `journalctl -u lastgood`",
                dir.display()
            ))),
            Err(error) => Err(Failure::unreachable(format!(
                "{} cannot be read: {error}; next: run the command as root, for example with sudo",
                dir.display()
            ))),
        }
    }

    /// The agent that holds the lock. A command that does is none: it never listens.
    pub(crate) fn agent(settings: &Settings) -> Option<i32> {
        let pid = Store::open(settings).ok()?.holder()?;
        let words = proc::command_line(pid)?;
        words.iter().skip(1).any(|word| word == "run").then_some(pid)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the agent knew last.
    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        let (machine, _) = observe::find(&self.settings);
        let (memory, findings) = self.store.load_memory(&machine);
        for finding in findings {
            eprintln!("{finding}");
        }
        Ok(memory)
    }

    /// What a newer lastgood wrote here.
    pub(crate) fn newer_state(&self, memory: &Memory) -> Vec<NewerFile> {
        self.store.newer_state(memory)
    }

    /// The snapshots of this node's etcd, as they are there; nothing if it runs no etcd.
    pub(crate) fn features(&self, memory: &Memory) -> View {
        agent::look(&self.settings, memory)
    }

    /// The newest events of one component, or of all, the newest last.
    pub(crate) fn events(&self, component: Option<&ComponentId>, limit: usize) -> Vec<Event> {
        self.store.history(component, limit).events
    }

    /// The newest significant events, the newest last.
    pub(crate) fn of_note(&self, limit: usize) -> Vec<Event> {
        // Enough to find a few among the changes of state around them.
        let mut events = self.events(None, limit * 20);
        events.retain(is_of_note);
        events.split_off(events.len().saturating_sub(limit))
    }

    /// The manifest of a generation.
    pub(crate) fn manifest(&self, component: &ComponentId, number: u32) -> Result<Vec<u8>, Failure> {
        self.store.manifest(component, number).map_err(|error| Failure::failed(error.to_string()))
    }

    /// Where the operator takes the manifest of a generation from: of inactive-manifests, where that is the same to the
    /// byte, else of the store, where that is whole. Another version in inactive-manifests is better than none.
    pub(crate) fn copy_of(&self, component: &ComponentId, generation: &Generation) -> Option<PathBuf> {
        let inactive = self.settings.paths.inactive_manifests.join(&generation.file_name);
        let same = files::read_bounded(&inactive, MAX_BYTES).map(|bytes| Digest::of(&bytes) == generation.raw_digest);
        if same.as_ref().is_ok_and(|same| *same) {
            return Some(inactive);
        }
        self.store.manifest_path(component, generation.number).or_else(|| same.ok().map(|_| inactive))
    }

    /// A configuration file of a generation.
    pub(crate) fn file(&self, component: &ComponentId, number: u32, path: &Path) -> Result<Vec<u8>, Failure> {
        let kept = self.store.file(component, number, path).map_err(|error| Failure::failed(error.to_string()))?;
        Ok(kept.bytes)
    }

    /// The manifest directory: as configured, or as the kubelet's configuration says.
    pub(crate) fn manifests_dir(&self) -> PathBuf {
        observe::find(&self.settings).1.manifests.value
    }

    /// Whether the bytes of a generation are whole: every one is read again, and nothing is fixed.
    pub(crate) fn whole(&self, component: &ComponentId, generation: &Generation) -> Result<(), String> {
        self.store.whole(component, generation).map_err(|error| error.to_string())
    }

    /// Carries a request out under the agent's lock, by the same decision, until it is concluded.
    pub(crate) async fn perform(
        &self,
        request: Request,
        how: Execution,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Planned, Failure> {
        if how == Execution::DryRun {
            return self.plan(&request).await;
        }
        let (mut agent, found) =
            Agent::start_for_request(&self.settings).await.map_err(|error| Failure::unreachable(error.to_string()))?;
        found.iter().for_each(&mut *tell);
        for _ in 0..WARM_UP {
            agent.pass().await.iter().for_each(&mut *tell);
            sleep(self.between_passes()).await;
        }
        let (events, Decided { before, decision, granted }) = agent.pass_request(&request).await;
        events.iter().for_each(&mut *tell);
        granted?;
        let planned = planned(&request, &before, &decision);
        if let Request::Rollback { component, .. } | Request::Quarantine { component, .. } = &request
            && planned.replaces()
        {
            conclude(&mut agent, component, is_over, tell).await?;
        }
        if let Request::AcceptData { .. } = &request {
            let api = agent.memory().stopped_apiserver.as_ref().map(|stopped| stopped.component.clone());
            if let Some(api) = api {
                conclude(&mut agent, &api, is_over, tell).await?;
            }
        }
        if let Request::Suspend { component, .. } = &request {
            conclude(&mut agent, component, is_suspended, tell).await?;
        }
        agent.settle().iter().for_each(&mut *tell);
        Ok(planned)
    }

    /// What a request would do. No lock is taken and nothing is written: a second command, or an agent that hangs, is no
    /// reason not to look.
    async fn plan(&self, request: &Request) -> Result<Planned, Failure> {
        let (mut planner, findings) = Planner::open(&self.settings, &self.store).await;
        for finding in findings {
            eprintln!("{finding}");
        }
        for _ in 0..WARM_UP {
            planner.look().await;
            sleep(self.between_passes()).await;
        }
        let Decided { before, decision, granted } = planner.plan(request).await;
        granted?;
        Ok(planned(request, &before, &decision))
    }

    fn between_passes(&self) -> Duration {
        self.settings.probes.interval.min(LONGEST_BETWEEN_PASSES)
    }

    /// Brings to its end what is under way about a component.
    pub(crate) async fn carry_on(&self, component: &ComponentId, tell: &mut dyn FnMut(&Event)) -> Result<(), Failure> {
        let (mut agent, found) =
            Agent::start_for_request(&self.settings).await.map_err(|error| Failure::unreachable(error.to_string()))?;
        found.iter().for_each(&mut *tell);
        conclude(&mut agent, component, is_over, tell).await?;
        agent.settle().iter().for_each(&mut *tell);
        Ok(())
    }

    /// Fills the slots of the manifest directory that an interrupted replacement left empty. Needs nothing but staging.
    pub(crate) fn fill_slots(settings: &Settings) -> Vec<String> {
        act::fill_slots(settings)
    }
}

/// What a request comes to here: what only an agent goes by has no effect yet.
fn planned(request: &Request, before: &Memory, decision: &Decision) -> Planned {
    let mut planned = Planned::new(request, before, decision);
    if matches!(request, Request::Pause { .. } | Request::Resume { .. }) {
        let effect = "no agent runs on this node now: this applies when it starts (`systemctl start lastgood`)";
        planned.effects.push(effect.to_owned());
    }
    planned
}

/// Whether a replacement has come to an end, and kube-apiserver is no longer stopped for it.
fn is_over(memory: &Memory, slot: Option<&ComponentState>) -> Result<bool, String> {
    Ok(!matches!(slot, Some(ComponentState::Replacing(_))) && memory.stopped_apiserver.is_none())
}

/// Whether the manifest is out, as a restore needs it.
fn is_suspended(_: &Memory, slot: Option<&ComponentState>) -> Result<bool, String> {
    let deployed_again = Err("its manifest was deployed again: nothing was restored".to_owned());
    match slot {
        Some(ComponentState::Replacing(replacement)) => match replacement.stage {
            Stage::Suspended => Ok(true),
            Stage::StoppingApiServer | Stage::TakingOut | Stage::AwaitingGone | Stage::Settling => Ok(false),
            Stage::PuttingIn => deployed_again,
            Stage::StoppingOld(_) | Stage::RestartingKubelet(_) | Stage::AwaitingServing { .. } => deployed_again,
        },
        _ => deployed_again,
    }
}

/// Passes until a component is where it is to be.
async fn conclude(
    agent: &mut Agent,
    component: &ComponentId,
    is_there: fn(&Memory, Option<&ComponentState>) -> Result<bool, String>,
    tell: &mut dyn FnMut(&Event),
) -> Result<(), Failure> {
    let deadline = Instant::now() + LONGEST;
    loop {
        let memory = agent.memory();
        let slot = memory.components.get(component).map(|record| &record.state);
        if let Some(ComponentState::Held(held)) = slot {
            let sentence = format!("{component} is held: {}; next step: {}", held.why, held.next_step);
            return Err(Failure { exit: Exit::Failed, sentence });
        }
        if is_there(memory, slot).map_err(|why| Failure::failed(format!("{component}: {why}")))? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::failed(format!("{component} is still being replaced; start the agent to continue")));
        }
        let rest = agent.rest();
        tokio::select! {
            () = sleep(rest) => {}
            () = agent.woken() => {}
        }
        agent.pass().await.iter().for_each(&mut *tell);
    }
}
