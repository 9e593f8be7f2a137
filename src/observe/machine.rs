//! What one pass reads of the machine: processes, listeners, addresses, mounts, disks and certificates. It keeps what it
//! needs from pass to pass, on the blocking pool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::addresses::{Interfaces, Named};
use super::certificate_use::{self, Renewals};
use super::certificates::{self, Certificates};
use super::cluster_files::Authorities;
use super::data_dirs::{DataDirs, DataPaths};
use super::environment::{self, Environment, Flags};
use super::mounts::Mounts;
use super::node::{self, Listeners, Signs};
use super::runtime::setup::cri_disabled;
use super::served::Shown;
use super::{host, host_name, kubelet, now, sources};
use crate::config::Settings;
use crate::model::ComponentId;
use crate::model::environment::DiskUse;
use crate::model::observation::{ManifestFile, Node, Work};
use crate::model::sandbox_setup::SandboxSetup;
use crate::sys::proc::{self, Process};
use crate::sys::shared_lock::Mark;

/// What looking at the machine needs from one pass to the next.
#[derive(Debug)]
pub(super) struct Proc {
    flags: Flags,
    signs: Signs,
    listeners: Listeners,
    certificates: Certificates,
    authorities: Authorities,
    data_dirs: DataDirs,
    interfaces: Interfaces,
    renewals: Renewals,
}

/// What one look at the machine brought.
pub(super) struct Looked {
    pub(super) environment: Environment,
    pub(super) kubelet: Option<Process>,
    pub(super) runtime: Option<Work>,
    pub(super) node: Node,
    pub(super) certificates: certificates::Found,
    /// Of a defragmentation that may still be under way.
    pub(super) mark: Option<Mark>,
}

impl Proc {
    pub(super) fn new(flags: Flags, signs: Signs) -> Self {
        Self {
            flags,
            signs,
            listeners: Listeners::default(),
            certificates: Certificates::default(),
            authorities: Authorities::default(),
            data_dirs: DataDirs::default(),
            interfaces: Interfaces::default(),
            renewals: Renewals::default(),
        }
    }

    pub(super) fn look(
        &mut self,
        settings: &Settings,
        manifests: &[Arc<ManifestFile>],
        ports: &BTreeSet<u16>,
        data_dirs: &DataPaths,
        shown: &BTreeMap<ComponentId, Shown>,
        runtime_is_silent: bool,
    ) -> Looked {
        let processes = proc::processes();
        let environment = environment_now(settings, &mut self.flags, &processes);
        let parsed = manifests.iter().filter_map(|file| file.content.as_ref().ok());
        let places = sources(settings, &environment);
        let certificates = self.certificates.look(parsed.clone(), &places);
        let older_in_use = self.renewals.look(parsed, &processes, &certificates.certificates, shown, now());
        let named = Named {
            manifests,
            node_ip: environment::node_ip(&self.flags),
            servers: &certificates.servers,
            sans: &certificates.sans,
        };
        let addresses = self.interfaces.look(&named, now().boot);
        let mounts = Mounts::read();
        let node = Node {
            boot_id: proc::boot_id(),
            host: host_name(),
            master: self.signs.look(),
            busy: node::busy(&processes).into_iter().chain(node::restores(&settings.restore_lock())).collect(),
            listeners: self.listeners.look(ports),
            data_dirs: self.data_dirs.look(data_dirs, &mounts),
            store_faults: self.data_dirs.faults(),
            member_conflicts: self.data_dirs.conflicts(),
            read_only: node::read_only(&environment.manifests.value),
            disks: host::disks(&disk_uses(settings, &environment, data_dirs), &mounts),
            pressure: host::pressure(),
            cluster: self.authorities.look(&settings.paths.kubernetes, &settings.kubelet.kubeconfig),
            sandboxes: SandboxSetup {
                cri_disabled: if runtime_is_silent { cri_disabled(&processes) } else { None },
                ..SandboxSetup::default()
            },
            addresses,
            older_in_use,
            kubelet_certificate: certificate_use::kubelet(
                &places.kubelet_pki,
                &places.kubelet_kubeconfig,
                &certificates.certificates,
                now().wall,
            ),
            ..Node::default()
        };
        let kubelet = kubelet::find(&processes, &environment.kubelet_config).cloned();
        let runtime = node::runtime(&processes, environment.runtime.as_ref().map(|found| found.value.as_str()));
        let mark = Mark::read(&settings.defrag_lock());
        Looked { environment, kubelet, runtime: runtime.and_then(proc::work), node, certificates, mark }
    }
}

/// The directories whose disks matter.
fn disk_uses(settings: &Settings, environment: &Environment, data_dirs: &DataPaths) -> BTreeSet<(DiskUse, PathBuf)> {
    let mut uses: BTreeSet<_> = data_dirs.keys().map(|dir| (DiskUse::Etcd, dir.clone())).collect();
    uses.insert((DiskUse::State, settings.paths.state.clone()));
    uses.insert((DiskUse::Manifests, environment.manifests.value.clone()));
    let kubelet = environment.kubelet_config.value.parent().filter(|dir| dir.is_dir());
    uses.extend(kubelet.map(|dir| (DiskUse::Kubelet, dir.to_owned())));
    let runtime = environment.runtime.as_ref().and_then(|found| host::runtime_root(&found.value));
    uses.extend(runtime.map(|root| (DiskUse::Runtime, root)));
    uses
}

/// The kubelet tells where things are, and its own configuration tells which kubelet is meant.
pub(super) fn environment_now(settings: &Settings, flags: &mut Flags, processes: &[Process]) -> Environment {
    let known = environment::find(settings, flags);
    let kubelet = kubelet::find(processes, &known.kubelet_config);
    flags.take(kubelet, kubelet.and_then(|kubelet| kubelet::started_at(kubelet, now())));
    environment::find(settings, flags)
}
