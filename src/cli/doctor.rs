//! `lastgood doctor`: would a recovery succeed right now?
//!
//! This process examines the node itself, whether the agent runs or not: with the agent's observer, the memory on disk,
//! which the agent saves at every change, and the stored bytes. It only reads, and takes no lock. So the result is the
//! same in both cases, a check does not wait for a step of the agent, and the check does not rely on the
//! agent's own state. Only the directories are checked through the agent's mount namespace, if one runs: systemd's sandbox may
//! make some of them read-only for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Exit, Failure, out};
use crate::config::{Loaded, Settings};
use crate::etcd::restore;
use crate::feature::View;
use crate::model::reading::SymptomKind;
use crate::model::{ComponentId, Memory, Observation, Reading};
use crate::observe::{self, Observer};
use crate::ops::backend::Backend;
use crate::ops::offline::Offline;
use crate::report::{Doctor, Examined, Format, Process, Status, doctor};
use crate::sys::proc;

/// Between two looks while an answer is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn doctor(loaded: &Loaded, output: Format) -> Result<Exit, Failure> {
    let settings = &loaded.settings;
    let (agent, status) = agent(Backend::open(settings).await?).await;
    let offline = Offline::open(settings)?;
    let mut memory = offline.memory()?;
    let mut observer = Observer::start(settings).await;
    let mut seen = look(settings, &mut observer, &memory).await;
    seen.node.newer_state = offline.newer_state(&memory);
    let mut store = read_again(&offline, &memory);
    if store.values().any(Result::is_err) {
        // A running agent may have been keeping or forgetting one at this very moment.
        sleep(LOOK_AGAIN).await;
        memory = offline.memory()?;
        store = read_again(&offline, &memory);
    }
    let found = observer.environment();
    let places = observe::places(&root(&agent), settings, &found.manifests.value);
    let now = Timestamp::now();
    // What other agents said, only the agent that asked them knows.
    let peers = status.as_ref().and_then(|status| status.peers.clone());
    let features = crate::agent::checks(&View { peers, ..offline.features(&memory) }, now);
    let data_dirs = observer.etcd_members().into_iter().filter_map(|member| member.data_dir);
    let unfinished: Vec<PathBuf> = data_dirs.flat_map(|dir| restore::unfinished(&dir).unwrap_or_default()).collect();
    let examined = Examined {
        now,
        seen: &seen,
        memory: &memory,
        policy: &settings.policy,
        old_names: &loaded.old_names,
        found: &found,
        places: &places,
        store: &store,
        features: &features,
        unfinished: &unfinished,
        agent: &agent,
        status: status.as_ref(),
    };
    let doctor = Doctor::new(examined);
    out::text(&output.print(&doctor, Doctor::text)?)?;
    Ok(if doctor.is_well() { Exit::Ok } else { Exit::Unwell })
}

/// The agent, as it says itself, and what it says of the node.
async fn agent(mut backend: Backend) -> (Result<Process, String>, Option<Status>) {
    match &backend {
        Backend::Stopped(_) => (Ok(Process::Stopped), None),
        Backend::Running(_) => match backend.status().await {
            Ok(status) => (Ok(status.agent.process.clone()), Some(status)),
            Err(why) => (Err(why.sentence), None),
        },
    }
}

/// The root of the agent's mounts; ours where none runs, or its own cannot be entered.
fn root(agent: &Result<Process, String>) -> PathBuf {
    let Ok(Process::Running { pid, .. }) = agent else { return "/".into() };
    let its_own = i32::try_from(*pid).ok().and_then(proc::command_line);
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let is_agent = its_own.is_some_and(|words| words.iter().any(|word| word == "run"));
    if is_agent && std::fs::read_dir(&root).is_ok() { root } else { Path::new("/").to_owned() }
}

/// Looks until the kubelet has been asked for its health, which takes as long as its answer does.
async fn look(settings: &Settings, observer: &mut Observer, memory: &Memory) -> Observation {
    observer.read_kubelet_log();
    let deadline = Instant::now() + settings.probes.timeout + Duration::from_secs(1);
    loop {
        let seen = observer.observe(memory).await;
        let unread = seen.kubelet.log.is_none();
        let unasked = matches!(&seen.kubelet.healthz, Reading::CannotTell(why) if why.kind == SymptomKind::NoMeans)
            && observer.environment().kubelet_healthz.is_some();
        if !(unasked || unread) || Instant::now() >= deadline {
            return seen;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The generations that recoveries would put back, every byte of them.
fn read_again(offline: &Offline, memory: &Memory) -> BTreeMap<(ComponentId, u32), Result<(), String>> {
    let wanted = memory.components.iter().filter_map(|(id, record)| Some((id, doctor::wanted(record)?)));
    wanted.map(|(id, generation)| ((id.clone(), generation.number), offline.whole(id, generation))).collect()
}
