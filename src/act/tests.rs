//! The executor, on a node in a temp directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::config_files::generation_digest;
use crate::model::generation::Stored;
use crate::model::host_path::AbsentPaths;
use crate::model::manifest::MAX_BYTES;
use crate::model::memory::{Machine, Record};
use crate::model::observation::{Directory, HeardApi, ImagePresence, Kubelet, KubeletProcess, Node as Host, Settled};
use crate::model::reading::{Reading, Symptom, SymptomKind};
use crate::model::{ClosureFile, ComponentState, Digest, FileFault, FileKind, Generation, Manifest, Role, Trust};
use crate::record::Store;
use crate::sys::files;

pub(super) const GOOD: &str = "good";
pub(super) const BAD: &str = "bad";

/// A manifest of kube-apiserver that differs by its flag; two pages long, so that a torn write would show.
pub(super) fn manifest(flag: &str) -> String {
    let comment = "# written by hand, with care\n".repeat(300);
    format!(
        "{comment}apiVersion: v1\nkind: Pod\nmetadata: {{name: kube-apiserver, namespace: kube-system}}\nspec:\n  \
         hostNetwork: true\n  containers:\n  - name: kube-apiserver\n    image: registry.k8s.io/kube-apiserver:v1.34.2\n    \
         command: [kube-apiserver, --flag={flag}]\n"
    )
}

/// A node below a directory: manifests/, .lastgood/, state/, inactive-manifests/, all below kubernetes/.
pub(super) struct Node {
    pub(super) settings: Settings,
    pub(super) id: ComponentId,
    pub(super) memory: Memory,
}

impl Node {
    /// On which `manifests/kube-apiserver.yaml` is the good one, and nothing is kept yet.
    pub(super) fn new(root: &Path) -> Self {
        let node = Self::at(root);
        node.write(&manifest(GOOD));
        node
    }

    /// The node that an earlier process left there.
    pub(super) fn at(root: &Path) -> Self {
        let mut settings = Settings::default();
        let kubernetes = root.join("kubernetes");
        settings.paths.manifests = Some(kubernetes.join("manifests"));
        settings.paths.inactive_manifests = kubernetes.join("inactive-manifests");
        settings.paths.staging = kubernetes.join(".lastgood");
        settings.paths.state = root.join("state");
        settings.paths.kubernetes = kubernetes;
        fs::create_dir_all(settings.paths.manifests.as_ref().unwrap()).unwrap();
        let id = ComponentId::system("kube-apiserver");
        let machine = Machine { machine_id: "0123".into(), node_name: "n1".into() };
        let record = Record::new(Role::ApiServer, ComponentState::Steady { good: 1 });
        let components = BTreeMap::from([(id.clone(), record)]);
        let memory = Memory { machine, components, ..Memory::default() };
        let mut node = Self { settings, id, memory };
        let paths = node.made().into();
        let absent = AbsentPaths { generation: 2, pod: Digest::of(b"pod"), paths, used: BTreeSet::new() };
        let record = node.memory.components.get_mut(&node.id).unwrap();
        record.absent_paths = Some(absent);
        node
    }

    /// On which the good manifest is kept as generation 1, and the bad one is deployed.
    pub(super) async fn with_a_bad_manifest(root: &Path) -> (Self, Guard) {
        let mut node = Self::new(root);
        let guard = node.guard();
        node.keep(&guard).await;
        node.write(&manifest(BAD));
        (node, guard)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.manifests().join("kube-apiserver.yaml")
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.settings.paths.kubernetes.join("manifests")
    }

    pub(super) fn replaced(&self) -> Vec<String> {
        files::names(&self.settings.paths.staging.join("replaced")).unwrap()
    }

    pub(super) fn write(&self, text: &str) {
        let path = self.path();
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }

    pub(super) fn deployed(&self) -> Option<String> {
        fs::read_to_string(self.path()).ok()
    }

    pub(super) fn guard(&self) -> Guard {
        Store::open(&self.settings).unwrap().lock().unwrap()
    }

    /// Where a container runtime is, if one is.
    pub(super) fn socket(&self) -> PathBuf {
        self.settings.paths.state.join("cri.sock")
    }

    /// A directory that the runtime made for generation 2, in another.
    pub(super) fn made(&self) -> [PathBuf; 2] {
        let outer = self.settings.paths.kubernetes.join("audit");
        [outer.join("policy.yaml"), outer]
    }

    pub(super) fn hands(&self) -> StepExecutor {
        let socket = Some(self.socket()).filter(|socket| socket.exists());
        let environment = Environment {
            manifests: self.manifests(),
            runtime: socket.map(|socket| socket.display().to_string()),
            look: Arc::new(|kept: &ClosureFile| look(&kept.path)),
        };
        StepExecutor::new(&self.settings, environment)
    }

    /// A look at the manifest directory, as observe would have it.
    pub(super) fn observe(&self) -> Observation {
        let read = |name: &String| {
            let path = self.manifests().join(name);
            let content = match files::read_bounded(&path, MAX_BYTES) {
                Ok(bytes) => Manifest::parse(bytes.into()),
                Err(error) => Err(FileFault::Unreadable { error: error.to_string() }),
            };
            let closure = self.closure();
            let pod = content.as_ref().map_or(Digest::of(b"?"), |manifest| manifest.digest);
            let digest = generation_digest(pod, &closure);
            let changed = jiff::Timestamp::UNIX_EPOCH;
            let file =
                ManifestFile { name: name.clone(), content, closure, digest, changed, uid: 0, settled: Settled::Yes };
            (name.clone(), Arc::new(file))
        };
        let manifests = match self.manifests().exists() {
            true => Directory::Present {
                // A directory that cannot be read (the disk fails in some tests) shows nothing.
                files: files::names(&self.manifests()).unwrap_or_default().iter().map(read).collect(),
                gone: BTreeMap::new(),
            },
            false => Directory::Missing { gone: BTreeMap::new() },
        };
        let nothing = || Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, "not asked"));
        Observation {
            at: Moment { wall: "2026-11-22T18:30:00Z".parse().unwrap(), boot: Duration::from_secs(60) },
            manifests,
            inactive: BTreeMap::new(),
            files: BTreeMap::new(),
            keys_changed: BTreeMap::new(),
            runtime: Ok(Vec::new()),
            probes: BTreeMap::new(),
            leases: BTreeMap::new(),
            etcd: BTreeMap::new(),
            growth: BTreeMap::new(),
            notices: Vec::new(),
            images: BTreeMap::new(),
            runtime_work: None,
            kubelet: Kubelet {
                process: None,
                healthz: nothing(),
                answered: Duration::ZERO,
                waiting: BTreeMap::new(),
                log: None,
                changed: None,
            },
            node: Host::default(),
        }
    }

    /// The closure: every file below kubernetes/config.
    fn closure(&self) -> Vec<ClosureFile> {
        let dir = self.settings.paths.kubernetes.join("config");
        let names = files::names(&dir).unwrap_or_default();
        names.iter().map(|name| dir.join(name)).map(|path| ClosureFile { state: look(&path), path }).collect()
    }

    /// Keeps what is deployed as the next generation.
    pub(super) async fn keep(&mut self, guard: &Guard) -> u32 {
        let observation = self.observe();
        let file = Arc::clone(observation.manifests.file("kube-apiserver.yaml").unwrap());
        let record = self.memory.components.get_mut(&self.id).unwrap();
        let number = record.next_number;
        record.next_number += 1;
        let pod = file.content.as_ref().unwrap();
        let generation = Generation {
            raw_digest: Digest::of(b"raw"),
            startup_budget: Duration::from_secs(250),
            termination_grace: Duration::from_secs(30),
            number,
            digest: file.digest,
            pod_digest: pod.digest,
            file_name: file.name.clone(),
            closure: file.closure.clone(),
            images: pod.images(),
            ports: BTreeSet::new(),
            data: pod.data_identity(),
            minor: pod.minor_version(),
            first_seen: jiff::Timestamp::UNIX_EPOCH,
            served: None,
            rewritten: 0,
            trust: Trust::Candidate,
            stored: Stored::Yes,
        };
        record.generations.insert(number, generation);
        let step = Step::Capture { component: self.id.clone(), number, file };
        let outcome = self.hands().take(guard, &step, &self.memory, &observation).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        number
    }

    pub(super) fn take_out(&self) -> Step {
        let name = || "kube-apiserver.yaml".to_owned();
        Step::TakeOut { component: self.id.clone(), file_name: name(), successor: 1, successor_name: name() }
    }

    pub(super) fn remove_directory(&self, path: PathBuf) -> Step {
        Step::RemoveDirectory { component: self.id.clone(), number: 2, path }
    }

    pub(super) fn put_in(&self) -> Step {
        Step::PutIn { component: self.id.clone(), number: 1, file_name: "kube-apiserver.yaml".to_owned() }
    }

    pub(super) fn withhold(&self) -> Step {
        Step::Withhold { component: self.id.clone(), number: 1, file_name: "kube-apiserver.yaml".to_owned() }
    }

    fn publish(&self, number: u32, file_name: &str) -> Step {
        Step::Publish { component: self.id.clone(), number, file_name: file_name.to_owned() }
    }

    pub(super) async fn take(&self, guard: &Guard, step: &Step) -> Outcome {
        self.hands().take(guard, step, &self.memory, &self.observe()).await
    }

    fn config(&self, name: &str) -> PathBuf {
        let dir = self.settings.paths.kubernetes.join("config");
        fs::create_dir_all(&dir).unwrap();
        dir.join(name)
    }

    fn restore(&self, number: u32, path: &Path) -> Step {
        Step::RestoreFile { component: self.id.clone(), number, path: path.to_owned() }
    }
}

/// A stand-in for observe's eyes: a file that says PRIVATE KEY is one, one that says `kubeconfig CREDENTIALS` another.
fn look(path: &Path) -> FileState {
    use crate::model::config_files::KubeconfigHealth;
    let metadata = match files::standing(path) {
        Ok(None) => return FileState::Missing,
        Ok(Some(metadata)) if metadata.is_file() => metadata,
        _ => return FileState::Unreadable { reason: "is no file".into() },
    };
    let text = fs::read_to_string(path).unwrap();
    let (kind, digest) = match text.strip_prefix("kubeconfig ") {
        Some(credentials) => {
            let works = KubeconfigHealth::Works { not_after: None };
            (FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) }, Digest::of(b"kubeconfig"))
        }
        None if text.contains("PRIVATE KEY") => (FileKind::KeyMaterial, Digest::of(text.as_bytes())),
        None => (FileKind::Config, Digest::of(text.as_bytes())),
    };
    FileState::Present { kind, digest, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
}

fn done(outcome: Outcome) -> String {
    match outcome {
        Outcome::Done(sentence) => sentence,
        other => panic!("not done: {other:?}"),
    }
}

fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(sentence) => sentence,
        other => panic!("not refused: {other:?}"),
    }
}

fn nothing(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::AlreadyDone(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_file_is_taken_out_only_with_its_successor_in_staging_and_filled_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    fs::set_permissions(node.path(), fs::Permissions::from_mode(0o644)).unwrap();
    done(node.take(&guard, &node.take_out()).await);
    assert_eq!(node.deployed(), None);
    let slot = node.settings.paths.staging.join("slots/kube-apiserver.yaml");
    assert_eq!(fs::read_to_string(&slot).unwrap(), manifest(GOOD));
    assert!(node.replaced()[0].ends_with(".taken-out"), "{:?}", node.replaced());
    nothing(node.take(&guard, &node.take_out()).await);
    done(node.take(&guard, &node.put_in()).await);
    assert_eq!(node.deployed().unwrap(), manifest(GOOD));
    assert_eq!(fs::metadata(node.path()).unwrap().mode() & 0o7777, 0o644, "the mode of what stood is kept");
    assert!(!slot.exists());
}

#[tokio::test]
async fn a_successor_that_is_damaged_leaves_what_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let kept = node.settings.paths.state.join("generations/kube-system_kube-apiserver/1/manifest");
    fs::write(&kept, &manifest(GOOD)[..100]).unwrap();
    for step in [node.take_out(), node.put_in()] {
        let outcome = node.take(&guard, &step).await;
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("1/manifest is damaged")), "{outcome:?}");
        assert_eq!(node.deployed().unwrap(), manifest(BAD));
    }
}

#[tokio::test]
async fn in_place_means_one_rename_and_what_stood_there_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let outcome = done(node.take(&guard, &node.put_in()).await);
    assert!(outcome.contains("is kept as"), "{outcome}");
    assert_eq!(node.deployed().unwrap(), manifest(GOOD));
    let kept = node.settings.paths.staging.join("replaced").join(&node.replaced()[0]);
    assert_eq!(fs::read_to_string(kept).unwrap(), manifest(BAD));
}

#[tokio::test]
async fn the_same_bytes_are_put_in_anew_because_the_kubelet_waits_for_the_event() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    node.write(&manifest(GOOD));
    let inode = fs::metadata(node.path()).unwrap().ino();
    done(node.take(&guard, &node.put_in()).await);
    assert_ne!(fs::metadata(node.path()).unwrap().ino(), inode);
    assert_eq!(node.replaced(), Vec::<String>::new(), "the same bytes are not kept twice");
}

#[tokio::test]
async fn whatever_stands_in_the_place_of_a_manifest_gives_way_and_is_kept() {
    type Make = fn(&Path);
    let rows: [(&str, Make); 5] = [
        ("a directory with things in it", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), "x").unwrap();
        }),
        ("a fifo", |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("a dangling link", |path| std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap()),
        ("an empty file", |path| fs::write(path, "").unwrap()),
        ("a file of 20 MB", |path| fs::write(path, vec![b'a'; 20 << 20]).unwrap()),
    ];
    for (what, make) in rows {
        for two_steps in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
            fs::remove_file(node.path()).unwrap();
            make(&node.path());
            if two_steps {
                done(node.take(&guard, &node.take_out()).await);
                assert!(files::standing(&node.path()).unwrap().is_none(), "{what}");
            }
            done(node.take(&guard, &node.put_in()).await);
            assert_eq!(node.deployed().unwrap(), manifest(GOOD), "{what}");
            assert_eq!(node.replaced().len(), 1, "{what}: not kept");
            assert_eq!(fs::metadata(node.path()).unwrap().mode() & 0o777, 0o644, "{what}: as the generation was");
        }
    }
}

#[tokio::test]
async fn q15_what_changed_since_it_was_looked_at_is_left_for_the_next_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let seen = node.observe();
    node.write(&manifest("by-hand"));
    for step in [node.take_out(), node.put_in()] {
        refused(node.hands().take(&guard, &step, &node.memory, &seen).await);
        assert_eq!(node.deployed().unwrap(), manifest("by-hand"));
    }
    fs::remove_file(node.path()).unwrap();
    let why = refused(node.hands().take(&guard, &node.put_in(), &node.memory, &seen).await);
    assert!(why.contains("disappeared"), "{why}");
    // What was broken and is a pod by now.
    node.write("");
    let seen = node.observe();
    node.write(&manifest("by-hand"));
    refused(node.hands().take(&guard, &node.put_in(), &node.memory, &seen).await);
    // What was not there.
    fs::remove_file(node.path()).unwrap();
    let seen = node.observe();
    node.write(&manifest("by-hand"));
    let why = refused(node.hands().take(&guard, &node.put_in(), &node.memory, &seen).await);
    assert!(why.contains("appeared"), "{why}");
}

#[tokio::test]
async fn q15_a_successor_whose_image_is_gone_empties_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let mut seen = node.observe();
    seen.images.insert("registry.k8s.io/kube-apiserver:v1.34.2".into(), ImagePresence::Absent);
    refused(node.hands().take(&guard, &node.take_out(), &node.memory, &seen).await);
    assert_eq!(node.deployed().unwrap(), manifest(BAD));
}

#[tokio::test]
async fn both_steps_can_be_taken_on_one_observation() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let (seen, mut hands) = (node.observe(), node.hands());
    let out = Step::MoveOut { component: node.id.clone(), file_name: "kube-apiserver.yaml".into() };
    done(hands.take(&guard, &out, &node.memory, &seen).await);
    nothing(hands.take(&guard, &out, &node.memory, &seen).await);
    done(hands.take(&guard, &node.put_in(), &node.memory, &seen).await);
    assert_eq!(node.deployed().unwrap(), manifest(GOOD));
}

#[tokio::test]
async fn a_manifest_directory_that_is_gone_is_made_for_what_is_put_in() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    fs::remove_dir_all(node.manifests()).unwrap();
    done(node.take(&guard, &node.put_in()).await);
    assert_eq!(node.deployed().unwrap(), manifest(GOOD));
    assert_eq!(fs::metadata(node.manifests()).unwrap().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_directory_goes_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    for name in ["../kubelet.conf", ".hidden", "", "a/b"] {
        let step = Step::PutIn { component: node.id.clone(), number: 1, file_name: name.into() };
        let outcome = node.take(&guard, &step).await;
        assert!(
            matches!(&outcome, Outcome::Failed(why) if why.contains("is not the name of a manifest")),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_configuration_file_comes_back_as_it_was_and_a_key_never() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let guard = node.guard();
    let (audit, key) = (node.config("audit.yaml"), node.config("sa.key"));
    fs::write(&audit, "kind: Policy").unwrap();
    fs::set_permissions(&audit, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&key, "BEGIN PRIVATE KEY 1").unwrap();
    let number = node.keep(&guard).await;
    nothing(node.take(&guard, &node.restore(number, &audit)).await);

    fs::write(&audit, "kind: Rubbish").unwrap();
    fs::set_permissions(&audit, fs::Permissions::from_mode(0o600)).unwrap();
    done(node.take(&guard, &node.restore(number, &audit)).await);
    assert_eq!(fs::read_to_string(&audit).unwrap(), "kind: Policy");
    assert_eq!(fs::metadata(&audit).unwrap().mode() & 0o777, 0o640);
    assert!(node.replaced()[0].starts_with("audit.yaml."));

    fs::remove_dir_all(audit.parent().unwrap()).unwrap();
    done(node.take(&guard, &node.restore(number, &audit)).await);
    assert_eq!(fs::read_to_string(&audit).unwrap(), "kind: Policy");

    fs::remove_file(&audit).unwrap();
    fs::create_dir(&audit).unwrap();
    done(node.take(&guard, &node.restore(number, &audit)).await);
    assert_eq!(fs::read_to_string(&audit).unwrap(), "kind: Policy");

    fs::write(&audit, "PRIVATE KEY 2").unwrap();
    let why = refused(node.take(&guard, &node.restore(number, &audit)).await);
    assert!(why.contains("key material"), "{why}");
    let outcome = node.take(&guard, &node.restore(number, &key)).await;
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("is not among the stored files")), "{outcome:?}");
    let everything = fs::read_dir(guard.path().join("generations/kube-system_kube-apiserver/1/files")).unwrap();
    for file in everything {
        assert!(!fs::read_to_string(file.unwrap().path()).unwrap().contains("PRIVATE KEY"), "a key was kept");
    }
    refused(node.take(&guard, &node.restore(number, Path::new("/etc/passwd"))).await);
    let out = node.settings.paths.kubernetes.join("config/../../passwd");
    refused(node.take(&guard, &node.restore(number, &out)).await);
}

#[tokio::test]
async fn a_kept_kubeconfig_follows_a_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let guard = node.guard();
    let path = node.config("scheduler.conf");
    fs::write(&path, "kubeconfig old").unwrap();
    let number = node.keep(&guard).await;
    fs::write(&path, "kubeconfig new").unwrap();
    let told = guard.refresh_kubeconfigs(&node.memory, &node.observe());
    assert!(told.len() == 1 && told[0].contains("was renewed"), "{told:?}");
    assert_eq!(guard.refresh_kubeconfigs(&node.memory, &node.observe()), Vec::<String>::new());
    assert_eq!(guard.refresh_kubeconfig(&node.id, number, &path, &look(&path)).unwrap(), Written::AlreadySo);
    assert_eq!(guard.file(&node.id, number, &path).unwrap().bytes, b"kubeconfig new");
    let kept = files::names(&guard.path().join("generations/kube-system_kube-apiserver/1/files")).unwrap();
    assert_eq!(kept.len(), 1, "the old copy is gone: {kept:?}");
    fs::write(&path, "rubbish").unwrap();
    assert!(guard.refresh_kubeconfig(&node.id, number, &path, &look(&path)).is_err(), "not by one that cannot work");
    done(node.take(&guard, &node.restore(number, &path)).await);
    assert_eq!(fs::read_to_string(&path).unwrap(), "kubeconfig new");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_kept_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let guard = node.guard();
    fs::write(node.config("audit.yaml"), "one").unwrap();
    node.keep(&guard).await;
    let seen = node.observe();
    fs::write(node.config("audit.yaml"), "two").unwrap();
    let mut generation = node.memory.components[&node.id].generations[&1].clone();
    generation.number = 2;
    node.memory.components.get_mut(&node.id).unwrap().generations.insert(2, generation);
    let file = Arc::clone(seen.manifests.file("kube-apiserver.yaml").unwrap());
    let step = Step::Capture { component: node.id.clone(), number: 2, file };
    let outcome = node.hands().take(&guard, &step, &node.memory, &seen).await;
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.contains("changed while lastgood stored it")),
        "{outcome:?}"
    );
    assert_eq!(guard.numbers(&node.id), [1]);
    assert!(!guard.path().join("generations/kube-system_kube-apiserver/.new-2").exists());
}

#[tokio::test]
async fn n12_an_inactive_manifest_is_published_byte_for_byte_and_a_hand_edited_one_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let inactive = node.settings.paths.inactive_manifests.clone();
    let (first, second) = (inactive.join("kube-apiserver.yaml"), inactive.join("apiserver.yaml"));
    done(node.take(&guard, &node.publish(1, "kube-apiserver.yaml")).await);
    assert_eq!(fs::read_to_string(&first).unwrap(), manifest(GOOD));
    assert_eq!(fs::metadata(&first).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&inactive).unwrap().mode() & 0o7777, 0o700);
    nothing(node.take(&guard, &node.publish(1, "kube-apiserver.yaml")).await);
    assert_eq!(files::names(&inactive).unwrap(), ["kube-apiserver.yaml"], "no temp file is left");

    node.write(&manifest("newer"));
    let newer = node.keep(&guard).await;
    done(node.take(&guard, &node.publish(newer, "apiserver.yaml")).await);
    assert!(!first.exists(), "the older name is removed");
    assert_eq!(fs::read_to_string(&second).unwrap(), manifest("newer"));
    fs::remove_file(guard.path().join("published.json")).unwrap();
    done(node.take(&guard, &node.publish(1, "apiserver.yaml")).await);

    fs::write(&second, manifest("an offer")).unwrap();
    let why = refused(node.take(&guard, &node.publish(newer, "apiserver.yaml")).await);
    assert!(why.contains("changed by hand"), "{why}");
    assert_eq!(fs::read_to_string(&second).unwrap(), manifest("an offer"));
    done(node.take(&guard, &node.publish(1, "kube-apiserver.yaml")).await);
    assert_eq!(fs::read_to_string(&second).unwrap(), manifest("an offer"), "an edited file is nobody's older name");
}

#[tokio::test]
async fn q15_the_kubelet_is_restarted_only_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let guard = node.guard();
    let mark = dir.path().join("restarted");
    node.settings.policy.kubelet_restart = vec!["touch".into(), mark.display().to_string()];
    let mut seen = node.observe();
    let changed = Some(PathBuf::from("/usr/bin/kubelet"));
    let heard_api = HeardApi::CannotTell;
    let state = crate::model::observation::ProcessState::Runs;
    seen.kubelet.process =
        Some(KubeletProcess { pid: 1, started: Duration::ZERO, changed_since: changed, heard_api, state });
    let why = refused(node.hands().take(&guard, &Step::RestartKubelet, &node.memory, &seen).await);
    assert!(why.contains("/usr/bin/kubelet changed"), "{why}");
    assert!(!mark.exists());
    seen.kubelet.process.as_mut().unwrap().changed_since = None;
    done(node.hands().take(&guard, &Step::RestartKubelet, &node.memory, &seen).await);
    assert!(mark.exists());
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_once_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (node, guard) = Node::with_a_bad_manifest(dir.path()).await;
    let step = Step::Forget { component: node.id.clone(), number: 1 };
    done(node.take(&guard, &step).await);
    assert!(guard.manifest(&node.id, 1).is_err());
    assert_eq!(guard.numbers(&node.id), Vec::<u32>::new());
    nothing(node.take(&guard, &step).await);
}

#[test]
fn a_step_can_be_taken_on_any_thread() {
    fn sendable<T: Send>(_: &T) {}
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path());
    let (guard, mut hands, seen, step) = (node.guard(), node.hands(), node.observe(), Step::RestartKubelet);
    sendable(&hands.take(&guard, &step, &node.memory, &seen));
    sendable(&guard);
}
