//! Observes the node: gathers everything that one pass needs, by reading only.
//!
//! ```text
//!   manifest directory ─┐ (files, configuration files, how a file disappeared)
//!   container runtime ──┤ (CRI: pods, exits, images)
//!   probes ─────────────┼──▶ Observation
//!   kubelet ────────────┤ (its process, /healthz, /pods)
//!   the machine ────────┘ (/proc, data directories, signs of a master)
//! ```
//!
//! Every source has its own deadline. A source that does not answer in time is an error or "cannot tell" for its part
//! of the observation, and does not affect the others. Unknown is not absent.

mod addresses;
mod bounded;
mod certificate_use;
mod certificates;
mod closure;
mod cluster_files;
mod content;
mod credentials;
mod data_dirs;
mod directory;
mod endpoints;
mod environment;
mod file;
mod file_cache;
mod files;
mod host;
mod host_paths;
mod kubeadm;
mod kubeconfig;
mod kubelet;
mod kubelet_log;
mod kubelet_probes;
mod leases;
mod machine;
mod maintenance;
mod mounts;
mod node;
mod on_node;
mod places;
mod preflight;
mod probes;
mod raised;
mod runtime;
mod served;
mod tempo;
#[cfg(test)]
pub(crate) mod testing;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::bounded::Bounded;
use self::certificate_use::Renewals;
use self::certificates::{Certificates, Sources};
use self::closure::Closures;
use self::content::Hint;
pub use self::credentials::{common_name, even_expired};
use self::data_dirs::DataPaths;
use self::endpoints::Endpoints;
use self::environment::Flags;
pub use self::environment::{Distribution, Environment, Found, Source};
use self::files::{Disk, Files};
use self::host::Clock;
pub use self::host::{disk_of, memory};
use self::kubelet::{Pods, PodsAsk};
use self::kubelet_log::KubeletLogs;
use self::kubelet_probes::KubeletProbes;
use self::leases::Leases;
use self::machine::{Looked, Proc, environment_now};
use self::maintenance::Maintenance;
use self::mounts::Mounts;
use self::node::Signs;
pub use self::on_node::{encryption, role_manifest};
pub use self::places::{DirAccess, Directories, places};
pub use self::preflight::{manifest_at, preflight};
pub use self::probes::etcd::EtcdEndpoint;
use self::probes::member::Members;
pub use self::probes::peer::{KnownAddresses, PeerAnswer, PeerFiles, PeerSecurity, PeerUrls, Peering, ask_peer};
use self::probes::plan::{self, Fallback, Manifests, ProbeKind, ProbeSpec};
pub use self::probes::reach::{MemberAnswer, ask_member, list_members, member_endpoints};
pub use self::probes::snapshot_stream::{Feed, LocalMember, Part, client};
use self::probes::{Probes, http};
use self::runtime::setup::RuntimeSetup;
use self::runtime::{Runtime, Wanted};
use self::served::Served;
use self::tempo::Tempo;
use self::wake::Wake;
use crate::config::Settings;
use crate::model::addresses::Addresses;
use crate::model::certificate_use::{CertificateFinding, KubeletCertificate, OlderInUse};
use crate::model::component::HostService;
use crate::model::environment::{Certificate, User};
use crate::model::etcd_data::Mount;
use crate::model::etcd_history::EtcdHistory;
use crate::model::kubelet_probe::LivenessLimit;
use crate::model::manifest::DataIdentity;

use crate::model::memory::{Machine, Record};
use crate::model::observation::{self, BusyProcess, Directory, KubeletProcess, ManifestFile, Node, Renamed};
use crate::model::reading::{Question, SymptomKind};
use crate::model::sandbox_setup::{CriDisabled, ResolvConf, SandboxSetup};
use crate::model::{
    ClosureFile, ComponentId, ComponentState, EtcdStatus, FileKind, FileState, Manifest, Memory, Moment, Observation,
    Reading, Role, Symptom, Verdict,
};
pub use crate::sys::clock::now;
use crate::sys::proc::{self, Process};

/// For what is read from disks, and from /proc, in one pass: an unchanged node takes some milliseconds; a disk that takes
/// longer than this is the trouble itself. Together with the runtime's time-out it stays below the longest gap between two
/// passes that still counts as watched (Q14).
const DISK_DEADLINE: Duration = Duration::from_secs(3);

/// A kubelet that has run for this long did not end at its start.
const KUBELET_SETTLED: Duration = Duration::from_secs(60);

/// The node, watched. Long-lived: it holds descriptors, the runtime's channel, the probes' tasks and caches.
#[derive(Debug)]
pub struct Observer {
    settings: Arc<Settings>,
    disk: Bounded<Disk>,
    /// Apart from the manifests: a hostPath may be on a disk of another machine, which hangs without them.
    host_paths: Bounded<()>,
    machine: Bounded<Proc>,
    runtime: Runtime,
    probes: Probes,
    members: Members,
    kubelet_health: Probes,
    kubelet_probes: KubeletProbes,
    served: Served,
    leases: Leases,
    pods: Pods,
    kubelet_log: KubeletLogs,
    /// Whether its log is read although nothing is wrong.
    always_read_log: bool,
    endpoints: Endpoints,
    tempo: Tempo,
    clock: Clock,
    maintenance: Maintenance,
    /// The certificates and servers of the last look that came back.
    certificates: certificates::Found,
    before: Before,
    wake: Wake,
    environment: Environment,
    machine_id: String,
    /// The kubelet's process at the last look that came back: one that could not be looked for is not gone.
    kubelet: Option<Process>,
    /// The manifest each component had last, for the time in which none exists that can be read.
    last: BTreeMap<ComponentId, Arc<ManifestFile>>,
}

/// What of the machine is reported, and is not over because one look did not come back.
#[derive(Clone, Debug, Default)]
struct Before {
    addresses: Addresses,
    older_in_use: Vec<OlderInUse>,
    kubelet_certificate: Option<KubeletCertificate>,
}

impl Before {
    fn of(node: &Node) -> Self {
        Self {
            addresses: node.addresses.clone(),
            older_in_use: node.older_in_use.clone(),
            kubelet_certificate: node.kubelet_certificate.clone(),
        }
    }

    fn into_node(self) -> Node {
        let Self { addresses, older_in_use, kubelet_certificate } = self;
        Node { addresses, older_in_use, kubelet_certificate, ..Node::default() }
    }
}

/// What the memory wants to be looked at.
#[derive(Clone, Debug, Default)]
struct Remembered {
    files: BTreeMap<PathBuf, Hint>,
    images: BTreeSet<String>,
    ports: BTreeSet<u16>,
    data_dirs: DataPaths,
    components: BTreeSet<ComponentId>,
    /// The names their manifests have.
    names: BTreeSet<String>,
    /// The hostPath sources that did not exist when their manifest came.
    absent: BTreeSet<PathBuf>,
}

impl Remembered {
    fn of(memory: &Memory) -> Self {
        let names = memory.components.values().filter_map(|record| record.file_name());
        let mut all = Self {
            components: memory.components.keys().cloned().collect(),
            names: names.map(str::to_owned).collect(),
            ..Self::default()
        };
        let absent = memory.components.values().filter_map(|record| record.absent_paths.as_ref());
        all.absent.extend(absent.flat_map(|absent| absent.paths.iter().cloned()));
        for generation in memory.components.values().flat_map(|record| record.generations.values()) {
            for file in &generation.closure {
                let hint = all.files.entry(file.path.clone()).or_insert(Hint::None);
                *hint = closure::hint_of(file).max(*hint);
            }
            // Of every generation: the operator may ask for any of them.
            all.images.extend(generation.images.iter().cloned());
            all.ports.extend(&generation.ports);
            if let Some(DataIdentity::Etcd { data_dir, wal_dir }) = &generation.data {
                all.data_dirs.insert(data_dir.clone(), wal_dir.clone());
            }
        }
        all
    }
}

impl Observer {
    /// Looks around for the first time. What is not found now is looked for again at every pass, so a broken node is no
    /// error.
    pub async fn start(settings: &Settings) -> Self {
        let (wake, watches) = Wake::new();
        let settings = Arc::new(settings.clone());
        let first = {
            let settings = Arc::clone(&settings);
            tokio::task::spawn_blocking(move || {
                let mut flags = Flags::default();
                let environment = environment_now(&settings, &mut flags, &proc::processes());
                let signs = Signs::at_first_sight(&settings);
                let machine_id = machine_id();
                (flags, environment, signs, machine_id)
            })
        };
        // Without a deadline: an agent that knows nothing of its node has nothing to do either.
        let (flags, environment, signs, machine_id) = match first.await {
            Ok(found) => found,
            Err(_) => {
                let mut flags = Flags::default();
                let environment = environment::find(&settings, &mut flags);
                (flags, environment, Signs::at_first_sight(&settings), String::new())
            }
        };
        let tempo = Tempo::new(wake.fires());
        Self {
            disk: Bounded::new("reading the manifests", Disk::new(watches)),
            host_paths: Bounded::new("looking at the hostPath volumes", ()),
            machine: Bounded::new("reading /proc", Proc::new(flags, signs)),
            runtime: Runtime::default(),
            probes: Probes::new(settings.probes.clone(), tempo.clone()),
            members: Members::new(settings.probes.clone(), wake.fires(), tempo.clone()),
            kubelet_health: Probes::new(settings.probes.clone(), tempo.clone()),
            kubelet_probes: KubeletProbes::new(settings.probes.clone(), tempo.clone()),
            served: Served::new(settings.probes.timeout),
            leases: Leases::new(settings.probes.clone(), tempo.clone()),
            pods: Pods::new(tempo.clone()),
            kubelet_log: KubeletLogs::new(settings.kubelet.log.clone(), wake.fires()),
            always_read_log: false,
            endpoints: Endpoints::new(settings.probes.clone(), tempo.clone()),
            tempo,
            clock: Clock::default(),
            maintenance: Maintenance::default(),
            certificates: certificates::Found::default(),
            before: Before::default(),
            wake,
            environment,
            machine_id,
            kubelet: None,
            last: BTreeMap::new(),
            settings,
        }
    }

    /// Looks once. Bounded: each source has some seconds, and they run concurrently.
    pub async fn observe(&mut self, memory: &Memory) -> Observation {
        let mut at = now();
        let remembered = Arc::new(Remembered::of(memory));
        let mut files = self.look_at_files(at, &remembered).await;
        // A process that was stopped in the middle of the look has read files of after the gap, at a time of before it:
        // what went meanwhile would pass for a deletion that was watched (Q14).
        if now().boot.saturating_sub(at.boot) > self.settings.agent_loop.longest_gap {
            at = now();
            files = self.look_at_files(at, &remembered).await;
        }
        self.environment.watching = files.watching;
        let standing = standing(&files.manifests);
        self.remember(&standing, &files.inactive, &remembered);
        self.ask(&files.inactive, memory);

        let mut images = remembered.images.clone();
        let mut ports = remembered.ports.clone();
        let mut data_dirs = remembered.data_dirs.clone();
        for manifest in standing.values().filter_map(|file| file.content.as_ref().ok()) {
            images.extend(manifest.images());
            ports.extend(manifest.ports());
            // What is deployed says where the WAL is, whatever an earlier generation says.
            if let Some(DataIdentity::Etcd { data_dir, wal_dir }) = manifest.data_identity() {
                data_dirs.insert(data_dir, wal_dir);
            }
        }
        let nodes = self.node_names(memory);
        let wanted = Wanted {
            endpoint: match &self.environment.runtime {
                Some(found) => Ok(&found.value),
                None => Err("no socket of a container runtime was found; set runtime.endpoint".to_owned()),
            },
            nodes: &nodes,
            images: images.into_iter().chain(self.runtime.setup().image).collect(),
            deadline: self.settings.runtime.timeout,
        };
        let settings = Arc::clone(&self.settings);
        let manifests: Vec<_> = self.last.values().cloned().collect();
        let silent = self.runtime.is_silent();
        let shown = self.served.shown();
        let on_machine = move |proc: &mut Proc| proc.look(&settings, &manifests, &ports, &data_dirs, &shown, silent);
        let on_machine = self.machine.run(DISK_DEADLINE, on_machine);
        let pods = standing.values().filter_map(|file| file.content.as_ref().ok());
        let paths = host_paths::Paths::of(pods, &remembered.absent);
        let on_host = self.host_paths.run(DISK_DEADLINE, move |()| paths.look());
        let ((seen, images), on_machine, on_host) = tokio::join!(self.runtime.look(wanted), on_machine, on_host);

        let (mut runtime_work, mut mark) = (None, None);
        let mut node = match on_machine {
            Ok(Looked { environment, kubelet, runtime, node, certificates, mark: found }) => {
                mark = found;
                self.before = Before::of(&node);
                self.certificates = certificates;
                self.environment = Environment { watching: self.environment.watching.clone(), ..environment };
                self.kubelet = kubelet;
                runtime_work = runtime;
                node
            }
            // Signs that could not be looked at are not missing, but nobody may act on what was not seen either.
            Err(sentence) => {
                let before = self.before.clone().into_node();
                Node { boot_id: proc::boot_id(), read_only: Some(sentence), ..before }
            }
        };
        node.set_aside = files.set_aside;
        // What was not looked at is neither absent nor empty: nothing is decided by it.
        node.host_paths = on_host.unwrap_or_default();
        node.sandboxes = self.sandboxes(node.sandboxes.cri_disabled.take());
        node.renamed = self.renamed();
        node.next_manifests = self.environment.next_manifests.clone();
        node.certificates.clone_from(&self.certificates.certificates);
        node.clock_jump = self.clock.look(at);
        node.endpoints = self.endpoints.look(&self.certificates.servers, &self.api_ports(), at);
        let bad = |server: &str| node.endpoints.iter().any(|one| one.server == server && one.trouble().is_some());
        for raised in node.addresses.raised.iter_mut().filter(|raised| !raised.here && bad(&raised.server)) {
            let pods = seen.as_ref().map(|seen| seen.pods.as_slice()).unwrap_or_default();
            raised.words = self.runtime.last_words(pods, &raised.by).await;
        }
        let (probes, etcd) = (self.probes.answers(), self.members.answers());
        self.maintenance.look(&mut node.busy, mark, &etcd, &self.settings.probes, at.boot);
        let deployed = standing.values().filter_map(|file| file.content.as_ref().ok());
        node.failing_probes = self.kubelet_probes.look(deployed, &probes, at);
        let from_api = seen.as_ref().ok().and_then(|seen| seen.newest_from_api);
        let describe = |kubelet| kubelet::describe(kubelet, &self.environment, at, from_api);
        let process = self.kubelet.as_ref().and_then(describe);
        let kubelet = self.kubelet_seen(process);
        let wrong = is_wrong(&kubelet, at, memory);
        let wanted = wrong || self.always_read_log;
        self.kubelet_log.want(wanted.then_some(self.environment.node_name.value.as_str()));
        Observation {
            at,
            manifests: files.manifests,
            inactive: files.inactive,
            files: files.files,
            keys_changed: files.keys_changed,
            runtime: seen.map(|seen| seen.pods),
            runtime_work,
            probes,
            leases: self.leases.looks(),
            etcd,
            growth: BTreeMap::new(),
            notices: Vec::new(),
            images,
            kubelet,
            node,
        }
    }

    /// Resolves when something may have changed. A hint, never a fact. Cancel-safe; never resolves where nothing can be
    /// watched.
    pub async fn woken(&mut self) {
        self.wake.woken().await;
    }

    /// Asks calmly from now on, or as often as it can, by whether all has been well for a while.
    pub fn set_calm(&self, calm: bool) {
        if calm { self.tempo.calm() } else { self.tempo.alert() }
    }

    /// The etcd members of this node, as the last look found their manifests.
    pub fn etcd_members(&self) -> Vec<LocalMember> {
        let data_dir = |id: &ComponentId| match self.last.get(id)?.content.as_ref().ok()?.data_identity()? {
            DataIdentity::Etcd { data_dir, .. } => Some(data_dir),
            DataIdentity::ApiServer { .. } => None,
        };
        let member = |(id, way): (&ComponentId, &EtcdEndpoint)| LocalMember {
            component: id.clone(),
            way: way.clone(),
            data_dir: data_dir(id),
            peering: self.last.get(id).and_then(|file| Some(Peering::of(file.content.as_ref().ok()?))),
        };
        self.members.ways().map(member).collect()
    }

    /// How long the kubelet lets a component live that has stopped answering; nothing where it would not end it.
    pub fn liveness_limit(&self, id: &ComponentId) -> Option<LivenessLimit> {
        LivenessLimit::of(self.last.get(id)?.content.as_ref().ok()?)
    }

    /// Where a member of this node keeps its log, on the host: `--wal-dir`, or in its data directory.
    pub fn etcd_log(&self, id: &ComponentId) -> Option<PathBuf> {
        let manifest = self.last.get(id)?.content.as_ref().ok()?;
        let apart = manifest.flag("wal-dir").filter(|dir| !dir.is_empty());
        match apart {
            Some(dir) => manifest.host_path(Path::new(&dir)),
            None => match manifest.data_identity()? {
                DataIdentity::Etcd { data_dir, .. } => Some(data_dir.join("member/wal")),
                DataIdentity::ApiServer { .. } => None,
            },
        }
    }

    /// Asks an etcd member of this node about itself and its cluster, once, each question with its own deadline. `known`
    /// is what was written down of its cluster before. Nothing where the last look found no such member.
    pub fn ask_etcd(&self, id: &ComponentId, known: &EtcdHistory) -> impl Future<Output = Option<EtcdStatus>> + use<> {
        let ask = self.members.asks().find(|(member, _)| *member == id).map(|(_, ask)| ask.clone());
        let known = known.latest().map(|world| (world.member, world.members.clone()));
        let timeout = self.settings.probes.timeout;
        async move { Some(probes::member::at_once(&ask?, known, timeout).await) }
    }

    /// Reads the kubelet's log from now on, whatever the node looks like.
    pub fn read_kubelet_log(&mut self) {
        self.always_read_log = true;
    }

    /// What was found on this node, and from where.
    pub fn environment(&self) -> Environment {
        self.environment.clone()
    }

    /// What binds a memory to this machine.
    pub fn machine(&self) -> Machine {
        Machine { machine_id: self.machine_id.clone(), node_name: self.environment.node_name.value.clone() }
    }

    async fn look_at_files(&self, at: Moment, remembered: &Arc<Remembered>) -> Files {
        let (settings, remembered) = (Arc::clone(&self.settings), Arc::clone(remembered));
        let dir = self.environment.manifests.value.clone();
        let look = self.disk.run(DISK_DEADLINE, move |disk| disk.look(&settings, &dir, at, &remembered));
        look.await.unwrap_or_else(|sentence| Files {
            manifests: Directory::Unreadable(sentence),
            inactive: BTreeMap::new(),
            files: BTreeMap::new(),
            keys_changed: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            watching: self.environment.watching.clone(),
        })
    }

    /// Keeps the manifest each component has, or had last: while its file is gone or torn, its pod may well run on.
    fn remember(
        &mut self,
        standing: &BTreeMap<ComponentId, Arc<ManifestFile>>,
        inactive: &BTreeMap<String, Arc<ManifestFile>>,
        remembered: &Remembered,
    ) {
        self.last.retain(|id, _| remembered.components.contains(id));
        for file in inactive.values() {
            if let Ok(manifest) = &file.content
                && remembered.components.contains(&manifest.id)
            {
                self.last.entry(manifest.id.clone()).or_insert_with(|| Arc::clone(file));
            }
        }
        self.last.extend(standing.iter().map(|(id, file)| (id.clone(), Arc::clone(file))));
    }

    /// Sees to it that everybody is asked what their manifests say.
    fn ask(&mut self, inactive: &BTreeMap<String, Arc<ManifestFile>>, memory: &Memory) {
        let known_good = |manifest: &&Manifest| {
            let record = memory.components.get(&manifest.id);
            record.is_some_and(|record| record.known_good().any(|generation| generation.pod_digest == manifest.digest))
        };
        let manifests = Manifests {
            standing: self
                .last
                .iter()
                .filter_map(|(id, file)| Some((id.clone(), file.content.as_ref().ok()?)))
                .collect(),
            proven: inactive.values().filter_map(|file| file.content.as_ref().ok()).filter(known_good).collect(),
        };
        let kubelet_client = manifests.standing.values().find_map(|manifest| plan::kubelet_client(manifest));
        let asks = plan::plan(&manifests, &self.settings.paths.kubernetes);
        let leases = leases::plan(
            manifests.standing.values().copied(),
            &asks,
            &self.environment.node_name.value,
            &self.settings.kubelet.kubeconfig,
        );
        self.served.plan(&asks);
        self.leases.plan(leases);
        self.probes.plan(asks);
        self.members.plan(plan::members(&manifests, &self.settings.paths.kubernetes));
        self.pods.plan(kubelet_client.map(|identity| PodsAsk {
            address: self.environment.kubelet_address.clone(),
            identity,
            node: self.environment.node_name.value.clone(),
        }));
        self.kubelet_health.plan([(ComponentId::from(HostService::Kubelet), vec![self.kubelet_ask()])].into());
    }

    /// The name that this node joined the cluster with, where the kubelet goes by another one now.
    fn renamed(&self) -> Option<Renamed> {
        let now = &self.environment.node_name;
        let joined = self.certificates.certificates.iter().find_map(joined_as)?;
        (joined != now.value).then(|| Renamed { now: now.value.clone(), by: now.from.to_string(), joined })
    }

    /// The names that this node has, joined with, and had when the memory was written: pods of all of them are its own.
    fn node_names(&self, memory: &Memory) -> Vec<String> {
        let now = self.environment.node_name.value.clone();
        let mut names = vec![now];
        names.extend(self.certificates.certificates.iter().filter_map(joined_as));
        names.push(memory.machine.node_name.clone());
        names.retain(|name| !name.is_empty());
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// What every sandbox needs, by the runtime's and the kubelet's configuration.
    fn sandboxes(&self, cri_disabled: Option<CriDisabled>) -> SandboxSetup {
        let RuntimeSetup { image, cgroups } = self.runtime.setup();
        let kubelet = self.environment.kubelet_cgroups.as_ref();
        let resolv_conf = self.environment.resolv_conf.as_ref().map(|found| ResolvConf {
            path: found.value.clone(),
            named_by: found.from.to_string(),
            exists: found.value.exists(),
        });
        SandboxSetup {
            image,
            runtime_cgroups: cgroups,
            kubelet_cgroups: kubelet.map(|found| (found.value, self.environment.kubelet_config.value.clone())),
            resolv_conf,
            cri_disabled,
        }
    }

    /// The ports of this node's API server.
    fn api_ports(&self) -> BTreeSet<u16> {
        let manifests = self.last.values().filter_map(|file| file.content.as_ref().ok());
        manifests.filter(|manifest| manifest.role == Role::ApiServer).flat_map(Manifest::ports).collect()
    }

    fn kubelet_ask(&self) -> ProbeSpec {
        let url = self.environment.kubelet_healthz.as_ref().map(|found| found.value.as_str());
        let how = match url.map(plan::get_of_url) {
            Some(Some(get)) => ProbeKind::Http { get, expect: http::Expect::Ok, more: Fallback::Nothing },
            Some(None) => ProbeKind::NoMeans(format!("the kubelet's health URL {url:?} is no http or https URL")),
            None => ProbeKind::NoMeans("the kubelet's health port is disabled".to_owned()),
        };
        ProbeSpec { question: Question::Live, how }
    }

    fn kubelet_seen(&self, process: Option<KubeletProcess>) -> observation::Kubelet {
        let probe = self.kubelet_health.answers().into_values().flatten().next();
        let unasked = || Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, "the kubelet has not been probed yet"));
        let (healthz, answered) = probe.map_or_else(|| (unasked(), Duration::ZERO), |probe| (probe.reading, probe.at));
        let changed = kubelet::newest_change(&self.environment);
        let log = self.kubelet_log.said();
        observation::Kubelet { process, healthz, answered, waiting: self.pods.waiting(), log, changed }
    }
}

/// The node that a client certificate of the kubelet's is for.
fn joined_as(certificate: &Certificate) -> Option<String> {
    let name =
        certificate.subject.strip_prefix("system:node:").filter(|_| certificate.users.contains(&User::Kubelet))?;
    Some(name.to_owned())
}

/// Whether something is wrong that the kubelet's log may explain.
fn is_wrong(kubelet: &observation::Kubelet, at: Moment, memory: &Memory) -> bool {
    let settled = |process: &KubeletProcess| at.boot.saturating_sub(process.started) > KUBELET_SETTLED;
    let well = kubelet.process.as_ref().is_some_and(settled) && !matches!(kubelet.healthz, Reading::Bad(_));
    let steady = |record: &Record| {
        matches!(record.state, ComponentState::Steady { .. })
            && record.verdict.is_none_or(|(verdict, _)| verdict == Verdict::Healthy)
    };
    !well || !memory.components.values().all(steady)
}

/// What is found of this node in one look, for whoever does not stay to watch.
pub fn find(settings: &Settings) -> (Machine, Environment) {
    let environment = environment::find(settings, &mut Flags::default());
    let node_name = environment.node_name.value.clone();
    (Machine { machine_id: machine_id(), node_name }, environment)
}

/// The programs that are at work on this node now.
pub fn busy() -> Vec<BusyProcess> {
    node::busy(&crate::sys::proc::processes())
}

/// The mount that holds a directory, or would hold it once it is made.
pub fn mount_of(dir: &Path) -> Option<Mount> {
    Mounts::read().of(dir)
}

/// `/etc/machine-id`; nothing where there is none.
fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// The host's name, as programs ask for it.
fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether these bytes are, or hold, key material (Q4): a kubeconfig counts, whether a key is embedded in it or not.
pub fn is_secret(path: &Path, bytes: &[u8]) -> bool {
    content::classify(path, bytes, content::Hint::None).kind != FileKind::Config
}

/// The fingerprint of what is public in a PEM text, its certificates and public keys; nothing where nothing is. What could be
/// guessed, such as a token or a password, has no part in it.
pub fn public_fingerprint(bytes: &[u8]) -> Option<crate::model::Digest> {
    credentials::public(bytes)
}

/// One file of a closure, looked at by itself: with the same eyes as every pass, for whoever has to look again.
pub fn look_at(kept: &ClosureFile) -> FileState {
    Closures::default().one(&kept.path, closure::hint_of(kept))
}

/// Where certificates lie that no manifest names.
fn sources(settings: &Settings, environment: &Environment) -> Sources {
    Sources {
        kubernetes: settings.paths.kubernetes.clone(),
        kubelet_kubeconfig: settings.kubelet.kubeconfig.clone(),
        kubelet_pki: environment.kubelet_config.value.with_file_name("pki"),
    }
}

/// Every certificate of this node, looked at once; what is named and cannot be read, with the reason; and what has to be
/// done about those that are valid.
pub fn certificates(settings: &Settings) -> (Vec<Certificate>, BTreeMap<PathBuf, String>, Vec<CertificateFinding>) {
    let (_, environment) = find(settings);
    let dir = &environment.manifests.value;
    let mut unreadable = BTreeMap::new();
    let mut manifests = Vec::new();
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            let paths = entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
            let mut paths: Vec<PathBuf> = paths.map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                match manifest_at(&path) {
                    Ok(manifest) => manifests.push(manifest),
                    Err(fault) => drop(unreadable.insert(path, fault.to_string())),
                }
            }
        }
        Err(error) => drop(unreadable.insert(dir.clone(), format!("cannot be read: {error}"))),
    }
    let places = sources(settings, &environment);
    let found = Certificates::default().look(manifests.iter(), &places);
    unreadable.extend(found.unreadable);
    let all = found.certificates;
    let older = Renewals::default().look(manifests.iter(), &proc::processes(), &all, &BTreeMap::new(), now());
    let kubelet = certificate_use::kubelet(&places.kubelet_pki, &places.kubelet_kubeconfig, &all, now().wall);
    let findings = older.iter().map(OlderInUse::finding).chain(kubelet.as_ref().map(KubeletCertificate::finding));
    let findings = findings.collect();
    (all, unreadable, findings)
}

/// The file that counts for each component: where several hold the same pod, the kubelet goes by the last at each scan.
fn standing(directory: &Directory) -> BTreeMap<ComponentId, Arc<ManifestFile>> {
    let pods = directory.files().filter_map(|file| Some((file.content.as_ref().ok()?.id.clone(), Arc::clone(file))));
    pods.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::observation::{Gone, Settled};
    use crate::model::reading::Question;

    /// A node of which nothing works: no kubelet, no runtime, no certificates; only files.
    fn lab() -> (tempfile::TempDir, Settings) {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("manifests")).unwrap();
        let mut settings = Settings::default();
        settings.paths.manifests = Some(at("manifests"));
        settings.paths.inactive_manifests = at("inactive-manifests");
        settings.paths.staging = at(".lastgood");
        settings.paths.kubernetes = root.path().to_owned();
        settings.paths.state = at("state");
        settings.kubelet.config = at("kubelet.yaml");
        settings.kubelet.kubeconfig = at("kubelet.conf");
        settings.kubelet.healthz = Some("http://127.0.0.1:1/healthz".into());
        settings.runtime.endpoint = Some(format!("unix://{}", at("no.sock").display()));
        settings.node_name = Some("vm".into());
        (root, settings)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_of_which_nothing_works_is_looked_at_all_the_same() {
        let (root, settings) = lab();
        let manifest = root.path().join("manifests/etcd.yaml");
        fs::write(&manifest, testing::fixture("manifests/etcd.yaml")).unwrap();
        fs::write(root.path().join("manifests/etcd.yaml~"), "").unwrap();
        let mut observer = Observer::start(&settings).await;
        assert_eq!(observer.machine().node_name, "vm");
        let memory = Memory::default();
        let began = std::time::Instant::now();
        let seen = observer.observe(&memory).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(seen.manifests.files().count(), 2);
        assert!(seen.runtime.is_err(), "unknown, not empty");
        assert!(seen.images.is_empty());
        assert_eq!(seen.kubelet.process, None);
        assert_ne!(seen.kubelet.healthz, Reading::Good);
        assert_eq!(seen.node.master.missing.len(), 2);
        assert!(!seen.node.boot_id.is_empty());
        assert!(seen.node.data_dirs.contains_key(Path::new("/var/lib/etcd")));
        assert_eq!(observer.environment().watching, Ok(()));
        let etcd = &seen.probes[&ComponentId::system("etcd")];
        assert!(etcd.iter().any(|probe| probe.question == Question::Live));

        observer.woken().await;
        tokio::fs::remove_file(&manifest).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), observer.woken()).await.unwrap();
        let seen = observer.observe(&memory).await;
        assert_eq!(seen.manifests.fate("etcd.yaml"), Gone::Deleted);
        assert_ne!(seen.kubelet.healthz, Reading::Good);
        assert!(!seen.probes.contains_key(&ComponentId::system("etcd")), "nobody remembers it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_host_path_that_hangs_leaves_the_manifests_to_be_seen() {
        let (root, settings) = lab();
        let text = String::from_utf8(testing::fixture("manifests/etcd.yaml")).unwrap();
        let text = text.replace("      type: DirectoryOrCreate\n", "");
        fs::write(root.path().join("manifests/etcd.yaml"), text).unwrap();
        let mut observer = Observer::start(&settings).await;
        let memory = Memory::default();
        assert!(!observer.observe(&memory).await.node.host_paths.is_empty());
        let (release, hold) = std::sync::mpsc::channel::<()>();
        observer.host_paths.run(Duration::from_millis(20), move |()| hold.recv()).await.unwrap_err();
        for _ in 0..2 {
            let seen = observer.observe(&memory).await;
            assert!(seen.manifests.file("etcd.yaml").is_some_and(|file| file.content.is_ok()));
            assert!(seen.node.read_only.is_none() && !seen.node.data_dirs.is_empty());
            assert_eq!(seen.node.host_paths, BTreeMap::new(), "unknown, not absent");
        }
        release.send(()).unwrap();
    }

    #[test]
    fn the_certificates_are_found_by_one_look_and_what_cannot_be_read_is_named() {
        let (root, settings) = lab();
        let pki = testing::Pki::new(root.path());
        pki.sign("server", "ca", 5);
        let manifest = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: etcd, namespace: kube-system}}, spec: {{volumes: [{{name: v, \
             hostPath: {{path: {}}}}}], containers: [{{name: etcd, image: i, volumeMounts: [{{name: v, mountPath: /pki}}], \
             command: [etcd, --cert-file=/pki/server.crt, --trusted-ca-file=/pki/none.crt]}}]}}}}",
            root.path().display()
        );
        fs::write(root.path().join("manifests/etcd.yaml"), manifest).unwrap();
        fs::write(root.path().join("manifests/torn.yaml"), "a: [").unwrap();
        fs::write(root.path().join("manifests/.hidden"), "a: [").unwrap();
        let (found, unreadable, _) = certificates(&settings);
        assert_eq!(found.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>(), ["server"]);
        let names: Vec<_> = unreadable.keys().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
        assert_eq!(names, ["torn.yaml", "none.crt"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unchanged_node_costs_little_and_wakes_nobody() {
        let (root, settings) = lab();
        fs::write(root.path().join("manifests/etcd.yaml"), testing::fixture("manifests/etcd.yaml")).unwrap();
        let mut observer = Observer::start(&settings).await;
        let memory = Memory::default();
        observer.observe(&memory).await;
        observer.woken().await;
        let seen = observer.observe(&memory).await;
        let first = Arc::clone(seen.manifests.file("etcd.yaml").unwrap());
        for _ in 0..3 {
            let seen = observer.observe(&memory).await;
            let again = seen.manifests.file("etcd.yaml").unwrap();
            assert!(Arc::ptr_eq(&first, again) || again.settled == Settled::Yes);
        }
        let woken = tokio::time::timeout(Duration::from_millis(300), observer.woken()).await;
        assert!(woken.is_err(), "our own looking");
    }
}
