//! Plans a request where no agent runs: it looks at the node as a pass does, takes no lock, writes nothing, and takes no
//! step.

use super::etcd_history::EtcdHistoryWriter;
use super::watch::Watch;
use super::{Decided, suppose};
use crate::config::Settings;
use crate::decide::{self, Scene};
use crate::model::{Memory, NewerFile, Observation, Policy, Request};
use crate::observe::Observer;
use crate::record::Store;

/// What a dry run knows of the node.
pub struct Planner {
    settings: Settings,
    observer: Observer,
    memory: Memory,
    newer: Vec<NewerFile>,
    watch: Watch,
}

impl Planner {
    /// Reads what the last agent left, and takes a first look. Besides: what is amiss with the state on disk.
    pub async fn open(settings: &Settings, store: &Store) -> (Self, Vec<String>) {
        let mut observer = Observer::start(settings).await;
        let machine = observer.machine();
        let (mut memory, findings) = store.load_memory(&machine);
        memory.machine = machine;
        EtcdHistoryWriter::of(settings).recall(&mut memory);
        // A first look brings the probes under way.
        let _ = observer.observe(&memory).await;
        let newer = store.newer_state(&memory);
        let settings = settings.clone();
        let planner = Self { settings, observer, memory, newer, watch: Watch::default() };
        (planner, findings.iter().map(ToString::to_string).collect())
    }

    /// One round: verdicts need more than one answer, and the request is planned for the files that are deployed now. Of
    /// the steps, those of lastgood's own bookkeeping are supposed to be done.
    pub async fn look(&mut self) {
        let seen = self.observe().await;
        let (tick, judged) = self.watch.judge(&seen, &self.memory, &self.settings);
        let scene = Scene { tick, seen: &seen, judged: &judged, policy: &self.settings.policy };
        let decision = decide::decide(scene, &self.memory);
        self.memory = decision.memory;
        for step in decision.plan.iter().filter(|step| !step.touches_node()) {
            decide::concluded(&mut self.memory, step);
        }
    }

    /// What would be decided about a request.
    pub async fn plan(&mut self, request: &Request) -> Decided {
        let seen = self.observe().await;
        plan_on(seen, &self.memory, &self.watch, &self.settings.policy, request)
    }

    async fn observe(&mut self) -> Observation {
        let mut seen = self.observer.observe(&self.memory).await;
        seen.node.newer_state.clone_from(&self.newer);
        seen.node.no_agent = true;
        seen
    }
}

/// What would be decided about a request on what was seen.
pub(super) fn plan_on(
    mut seen: Observation,
    memory: &Memory,
    watch: &Watch,
    policy: &Policy,
    request: &Request,
) -> Decided {
    suppose(request, &mut seen);
    let (tick, judged) = watch.judge_once(&seen, memory, policy);
    let scene = Scene { tick, seen: &seen, judged: &judged, policy };
    let (decision, granted) = decide::decide_request(scene, memory, request);
    Decided { before: memory.clone(), decision, granted }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::version_tests::Node;
    use super::*;
    use crate::model::memory::FORMAT;
    use crate::record::envelope;

    /// Every file below a directory, with what it holds.
    fn everything(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true => everything(&path, found),
                false => drop(found.insert(path.clone(), fs::read(&path).unwrap_or_default())),
            }
        }
    }

    #[tokio::test]
    async fn a_plan_where_no_agent_runs_writes_nothing_and_takes_no_lock() {
        let (node, memory, id) = Node::interrupted().await;
        let file = node.settings.paths.state.join("memory.json");
        fs::write(file, envelope::encode(FORMAT.version(), FORMAT.key, &memory).unwrap()).unwrap();
        let look = || {
            let mut found = BTreeMap::new();
            everything(node.dir.path(), &mut found);
            found
        };
        let before = look();

        let store = Store::open(&node.settings).unwrap();
        let held = store.lock().unwrap();
        let (mut planner, findings) = Planner::open(&node.settings, &store).await;
        assert!(findings.is_empty(), "{findings:?}");
        for _ in 0..3 {
            planner.look().await;
        }
        let planned = planner.plan(&Request::Pause { seconds: 60, reason: String::new() }).await;
        assert!(planned.granted.is_ok() && planned.decision.memory.pause.is_some(), "{planned:?}");
        // In the middle of a rollback to it.
        let quarantine = Request::Quarantine { component: id, number: Some(1), reason: String::new() };
        let planned = planner.plan(&quarantine).await;
        assert!(planned.granted.is_err(), "{planned:?}");
        drop(held);
        let changed = |(path, was): (&PathBuf, &Vec<u8>)| !path.ends_with("lock") && look().get(path) != Some(was);
        assert_eq!(before.iter().filter(|found| changed(*found)).count(), 0);
        assert_eq!(before.len(), look().len());
    }
}
