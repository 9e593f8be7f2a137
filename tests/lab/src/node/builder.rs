//! Making a node: what is chosen, and what it is furnished with before its first boot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::spawn_blocking;

use super::cache::{self, Cache};
use super::cgroup::Cgroups;
use super::furnish::{furnish, machine};
use super::place::{Place, write};
use super::running::Running;
use super::spec::{self, Restart, Service};
use super::{Node, kubeadm};
use crate::manifests::{Component, EtcdVersion};

/// The agent's configuration that only the lab needs: how to restart what no systemd runs. The keys' names are the agent's;
/// this is the one place that knows them.
const AGENT_CONFIG: &str = "[kubelet]\nrestart = [\"/lab/bin/lab\", \"restart\", \"kubelet\"]\n\
                            log = [\"tail\", \"-n\", \"500\", \"/var/log/lab/kubelet.log\"]\n\
                            [runtime]\nrestart = [\"/lab/bin/lab\", \"restart\", \"containerd\"]\n";

/// How a node is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    scale: f64,
    etcd: EtcdVersion,
    components: Vec<Component>,
    kubelet: AtBoot,
    stands: Deployed,
}

/// What is there before the first boot, besides the runtime and its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deployed {
    /// What kubeadm leaves.
    Master,
    /// Nothing.
    Nothing,
}

/// Whether a service starts with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtBoot {
    /// It does.
    Started,
    /// Only when asked.
    Absent,
}

impl Default for Builder {
    /// `master-1`, etcd 3.5, all components, waits at a tenth.
    fn default() -> Self {
        Self {
            name: "master-1".to_owned(),
            scale: 0.1,
            etcd: EtcdVersion::V35,
            components: Component::ALL.to_vec(),
            kubelet: AtBoot::Started,
            stands: Deployed::Master,
        }
    }
}

impl Builder {
    /// Factor on the kubelet's and the stand-ins' waits: 1 is true to life, 0.1 for tests (the default).
    #[must_use]
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// The series of etcd; 3.5 unless said otherwise.
    #[must_use]
    pub fn etcd(mut self, version: EtcdVersion) -> Self {
        self.etcd = version;
        self
    }

    /// The host name; `master-1` unless said otherwise.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Which components' manifests are there from the start; all unless said otherwise.
    #[must_use]
    pub fn components(mut self, components: &[Component]) -> Self {
        self.components = components.to_vec();
        self
    }

    /// Whether the kubelet starts with the node.
    #[must_use]
    pub fn kubelet(mut self, at_boot: AtBoot) -> Self {
        self.kubelet = at_boot;
        self
    }

    /// A bare machine that may become a master: no manifests, certificates, data or kubelet's configuration, and the kubelet
    /// does not start by itself. [`Node::up`] waits for what it is to become.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.stands = Deployed::Nothing;
        self.kubelet(AtBoot::Absent)
    }

    /// Makes the node and boots it; returns when its services are started, not when they serve ([`Node::up`]).
    ///
    /// # Errors
    /// When a tool or binary is missing, or the machine refuses a namespace, mount or cgroup.
    pub async fn start(self) -> Result<Node> {
        let node = spawn_blocking(move || self.make()).await.context("making the node was cut short")??;
        Ok(node)
    }

    fn make(self) -> Result<Node> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes namespaces, mounts and cgroups: run it as root");
        }
        let cache = Cache::open()?;
        let binaries = cache::binaries_dir()?;
        let tools = cache.path("etcd").join(self.etcd.series());
        let place = Place::new(&self.name)?;

        let made = match self.stands {
            Deployed::Master => furnish,
            Deployed::Nothing => machine,
        };
        let cluster = made(&cache, &place.path("/"), &self.name, self.etcd, &self.components)?;
        write(&place.path("/etc/lastgood/config.d/lab.toml"), AGENT_CONFIG)?;

        let cgroups = Cgroups::named(&place.id());
        let mut node = Node {
            running: None,
            place,
            cgroups,
            cluster,
            components: self.components,
            scale: self.scale,
            binaries,
            etcd_tools: tools,
            services: BTreeMap::new(),
        };
        node.describe_services(self.kubelet);
        node.running = Some(Running::begin(&node.spec()?)?);
        Ok(node)
    }
}

impl Node {
    /// What the supervisor is to know, and what of it starts at boot.
    fn describe_services(&mut self, kubelet: AtBoot) {
        let come_back = |seconds: f64| {
            let wait = Duration::from_secs_f64(seconds * self.scale);
            Restart::Always { after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
        };
        let service = |name: &str, argv: Vec<String>, restart| Service {
            name: name.to_owned(),
            argv,
            env: BTreeMap::new(),
            restart,
            after: None,
        };
        let mut command = kubeadm::kubelet_command();
        command.push(format!("--lab-scale={}", self.scale));
        command.push(format!("--lab-cgroup-parent={}", self.cgroups.parent()));
        // RestartSec as in the packages' unit files: 5 s containerd, 10 s kubelet. The agent stays away until a test
        // starts it again: tests count its starts.
        let containerd = service("containerd", vec!["containerd".to_owned()], come_back(5.0));
        let after = Some(PathBuf::from(spec::RUNTIME));
        let kubelet_service = Service { after, ..service("kubelet", command, come_back(10.0)) };
        let agent = service("lastgood", vec!["/lab/bin/lastgood".to_owned(), "run".to_owned()], Restart::Never);
        // As in the unit.
        let env = BTreeMap::from([("MALLOC_ARENA_MAX".to_owned(), "2".to_owned())]);
        let agent = Service { env, ..agent };
        self.services.insert("containerd", (containerd, AtBoot::Started));
        self.services.insert("kubelet", (kubelet_service, kubelet));
        self.services.insert("lastgood", (agent, AtBoot::Absent));
    }
}
