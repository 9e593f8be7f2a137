//! An agent that starts after a downgrade and after an upgrade, each in the middle of a rollback.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::component_state::{Purpose, Replacement, Stage};
use crate::model::lift;
use crate::model::memory::FORMAT;
use crate::model::{ComponentState, Proof, Trust};
use crate::record::envelope;

const NAME: &str = "kube-scheduler.yaml";
const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-scheduler, namespace: kube-system}\n\
                    spec: {containers: [{name: c, image: c, command: [kube-scheduler]}]}\n";

pub(super) struct Node {
    pub(super) dir: tempfile::TempDir,
    pub(super) settings: Settings,
}

impl Node {
    /// On which the good manifest is deployed, and no agent ever ran.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kubernetes = dir.path().join("kubernetes");
        let mut settings = Settings { node_name: Some("n1".to_owned()), ..Settings::default() };
        settings.paths.manifests = Some(kubernetes.join("manifests"));
        settings.paths.inactive_manifests = kubernetes.join("inactive-manifests");
        settings.paths.staging = kubernetes.join(".lastgood");
        settings.paths.state = dir.path().join("state");
        settings.paths.run = dir.path().join("run");
        settings.paths.kubernetes = kubernetes;
        let node = Self { dir, settings };
        fs::create_dir_all(node.manifest().parent().unwrap()).unwrap();
        fs::write(node.manifest(), GOOD).unwrap();
        node
    }

    fn manifest(&self) -> PathBuf {
        self.settings.paths.kubernetes.join("manifests").join(NAME)
    }

    fn memory_file(&self) -> PathBuf {
        self.settings.paths.state.join("memory.json")
    }

    /// The state directory but the lock and the history, which still receives events.
    fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn below(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                match path.is_dir() {
                    true => below(&path, found),
                    false if name == "lock" || name == "history.jsonl" => {}
                    false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
                }
            }
        }
        let mut found = BTreeMap::new();
        below(&self.settings.paths.state, &mut found);
        found
    }

    /// Has an agent keep the deployed manifest, and ends it in the middle of a rollback to that: the slot is empty, and its successor
    /// is staged. What it remembers is for the caller to save.
    pub(super) async fn interrupted() -> (Self, Memory, ComponentId) {
        let node = Self::new();
        let (mut agent, _) = Agent::start(&node.settings).await.unwrap();
        // A file is settled when it has looked the same for a moment.
        for _ in 0..100 {
            agent.pass().await;
            let kept = agent.memory.components.values().any(|record| !record.generations.is_empty());
            if kept && !agent.guard.numbers(&ComponentId::system("kube-scheduler")).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        agent.settle();
        let mut memory = agent.memory.clone();
        drop(agent);
        let (id, record) = memory.components.iter_mut().next().expect("one component");
        let id = id.clone();
        let generation = record.generations.get_mut(&1).expect("one generation");
        let proof = Proof::Asserted { reason: "it was checked".to_owned() };
        generation.trust = Trust::KnownGood { proof, since: jiff::Timestamp::UNIX_EPOCH };
        record.state = ComponentState::Replacing(Replacement {
            stage: Stage::AwaitingGone,
            in_stage: Duration::from_secs(5),
            ..Replacement::new(Purpose::roll_back(None), 1, "it crashed")
        });
        let staging = &node.settings.paths.staging;
        fs::create_dir_all(staging.join("slots")).unwrap();
        let link = staging.join("manifests");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(node.manifest().parent().unwrap(), link).unwrap();
        fs::rename(node.manifest(), staging.join("slots").join(NAME)).unwrap();
        (node, memory, id)
    }
}

#[tokio::test]
async fn q11_after_a_downgrade_the_manifest_is_back_and_the_newer_memory_stays() {
    let (node, memory, id) = Node::interrupted().await;
    let newer = envelope::of_the_future(&FORMAT, &memory, &format!("/components/{id}/state"));
    fs::write(node.memory_file(), newer).unwrap();
    let before = node.state();

    let (mut agent, found) = Agent::start(&node.settings).await.unwrap();
    assert_eq!(fs::read_to_string(node.manifest()).unwrap(), GOOD);
    let path = node.memory_file().display().to_string();
    assert!(found.iter().any(|event| event.kind == EventKind::Agent && event.to.contains(&path)), "{found:?}");
    for _ in 0..3 {
        agent.pass().await;
    }
    let file =
        NewerFile { path: node.memory_file(), version: u64::from(FORMAT.version()) + 1, known: FORMAT.version() };
    assert_eq!(agent.inhibitors().first(), Some(&Inhibitor::NewerState { files: vec![file] }));
    assert!(
        matches!(agent.memory.components[&id].state, ComponentState::Replacing(_)),
        "{:?}",
        agent.memory.components[&id]
    );

    let pause = Request::Pause { seconds: 60, reason: String::new() };
    let answers = [agent.plan(&pause).await.granted, agent.pass_request(&pause).await.1.granted];
    assert!(answers.iter().all(|answer| matches!(answer, Err(Refusal::NotActing { .. }))), "{answers:?}");
    // Another generation is not kept, and its manifest is not touched.
    let another = GOOD.replace("[kube-scheduler]", "[kube-scheduler, --v=9]");
    fs::write(node.manifest(), &another).unwrap();
    for _ in 0..3 {
        agent.pass().await;
    }
    agent.settle();
    drop(agent);
    assert_eq!(node.state(), before);
    assert_eq!(fs::read_to_string(node.manifest()).unwrap(), another);
    assert!(node.dir.path().join("state/history.jsonl").exists());
}

#[tokio::test]
async fn q11_after_an_upgrade_the_rollback_goes_on_and_the_memory_is_lifted() {
    let (node, memory, id) = Node::interrupted().await;
    let slot = lift::tests::version_2("awaiting-gone", serde_json::json!({"why": "it crashed"}));
    let mut body = lift::tests::earlier_memory(&memory, &slot);
    body.as_object_mut().unwrap().remove("runtime_restarts").unwrap();
    fs::write(node.memory_file(), envelope::encode(1, FORMAT.key, &body).unwrap()).unwrap();

    let (mut agent, _) = Agent::start(&node.settings).await.unwrap();
    assert_eq!(fs::read_to_string(node.manifest()).unwrap(), GOOD);
    assert_eq!(agent.memory.components[&id].state, memory.components[&id].state);
    let stage = |agent: &Agent| match &agent.memory.components[&id].state {
        ComponentState::Replacing(replacement) => Some(replacement.stage.clone()),
        _ => None,
    };
    for _ in 0..100 {
        agent.pass().await;
        if stage(&agent) != Some(Stage::AwaitingGone) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agent.settle();
    assert!(matches!(stage(&agent), Some(Stage::AwaitingServing { .. })), "{:?}", stage(&agent));
    assert!(!agent.inhibitors().iter().any(|inhibitor| matches!(inhibitor, Inhibitor::NewerState { .. })));
    let saved: Memory = envelope::decode(&FORMAT, &fs::read(node.memory_file()).unwrap()).unwrap();
    assert_eq!(saved, agent.memory);
    assert!(fs::read_to_string(node.memory_file()).unwrap().starts_with(r#"{"version":3,"#));
}
