//! The etcd of this node: its member, its manifest, the locations of its data and its WAL, and what the agent has
//! recorded.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::etcd::backend::Member;
use crate::etcd::restore::{Node, OfManifest, Recorded};
use crate::etcd::wal;
use crate::model::manifest::MAX_BYTES;
use crate::model::{ComponentId, Manifest, Memory, Role};
use crate::observe;
use crate::observe::{LocalMember, Observer};
use crate::ops::failure::Failure;
use crate::record::last_known;
use crate::sys::{files, proc};

pub(crate) async fn member(settings: &Settings) -> Result<LocalMember, Failure> {
    let mut observer = Observer::start(settings).await;
    // The agent's memory knows the manifest of a member whose file is gone.
    let memory = crate::record::Store::open(settings).map(|store| store.load_memory(&observer.machine()).0);
    let _ = observer.observe(&memory.unwrap_or_else(|_| Memory::default())).await;
    observer.etcd_members().into_iter().next().ok_or_else(|| {
        no_member(
            settings,
            "--from-data-dir DIR copies the database of a stopped member, and an external one is saved on its own hosts",
        )
    })
}

/// There is no member of this node, or this process may not know.
pub(crate) fn no_member(settings: &Settings, next: &str) -> Failure {
    let none = || Failure::refused(format!("no etcd member runs on this node as a static pod; {next}"));
    denied(settings).unwrap_or_else(none)
}

/// Whether this process may not read the manifest directory, or a manifest in it, so that it cannot tell what is deployed.
pub(crate) fn denied(settings: &Settings) -> Option<Failure> {
    let dir = observe::find(settings).1.manifests.value;
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let names = match files::names(&dir) {
        Ok(names) => names,
        Err(error) => return is_denied(&error).then(|| error.into()),
    };
    let unread = names.iter().filter_map(|name| files::read_bounded(&dir.join(name), MAX_BYTES).err());
    unread.into_iter().find(is_denied).map(Failure::from)
}

/// What this node's etcd manifest and the agent's memory say, and whose manifest it is.
pub(crate) fn node(settings: &Settings) -> (Node, Option<ComponentId>) {
    let encryption = observe::encryption(settings);
    match of_manifest(settings) {
        Some((etcd, id)) => (Node { etcd: Some(etcd), recorded: recorded(settings), encryption }, Some(id)),
        None => (Node { encryption, ..Node::default() }, None),
    }
}

/// Where the log of these data is: in them, unless this node's etcd manifest says otherwise.
pub(crate) fn log_of(settings: &Settings, data_dir: &Path) -> PathBuf {
    let etcd = of_manifest(settings).map(|(etcd, _)| etcd).filter(|etcd| etcd.data_dir.as_deref() == Some(data_dir));
    etcd.and_then(|etcd| etcd.wal_dir).unwrap_or_else(|| data_dir.join("member/wal"))
}

/// The cluster that the data of this node's etcd are of, by their WAL.
pub(crate) fn cluster(settings: &Settings) -> Option<u64> {
    let (etcd, _) = of_manifest(settings)?;
    let log = etcd.wal_dir.or_else(|| Some(etcd.data_dir?.join("member/wal")))?;
    wal::read(&log, |_| {}).ok().map(|wal| wal.cluster_id).filter(|cluster| *cluster != 0)
}

pub(crate) fn of_manifest(settings: &Settings) -> Option<(OfManifest, ComponentId)> {
    let (_, environment) = observe::find(settings);
    let dir = &environment.manifests.value;
    let stands = etcd_manifest(dir);
    let startable = stands.as_ref().and_then(|(file, _)| startable(file));
    // Taken out for the restore, it is where every known-good manifest is.
    let (file, manifest) = stands.or_else(|| etcd_manifest(&settings.paths.inactive_manifests))?;
    let on_host = |flag: &str| {
        let inside = PathBuf::from(manifest.flag(flag).filter(|dir| !dir.is_empty())?);
        Some(manifest.host_path(&inside).unwrap_or(inside))
    };
    let etcd = OfManifest {
        file,
        name: manifest.flag("name"),
        advertised: manifest.flag("initial-advertise-peer-urls"),
        data_dir: on_host("data-dir"),
        wal_dir: on_host("wal-dir"),
        version: manifest.minor_version(),
        runs_as: manifest.runs_as(),
        startable,
    };
    Some((etcd, manifest.id))
}

pub(crate) fn etcd_manifest(dir: &Path) -> Option<(PathBuf, Manifest)> {
    observe::role_manifest(dir, Role::Etcd)
}

/// Whether the kubelet is about to start an etcd by itself: its manifest is deployed.
pub(crate) fn comes_back(settings: &Settings) -> bool {
    let (_, environment) = observe::find(settings);
    etcd_manifest(&environment.manifests.value).is_some_and(|(file, _)| startable(&file).is_some())
}

/// Why the etcd of a manifest that is deployed may be started at any moment.
pub(crate) fn startable(file: &Path) -> Option<String> {
    let mut processes = proc::processes().into_iter();
    let kubelet = processes.find(|process| process.program() == "kubelet" && proc::in_our_namespace(process.pid))?;
    Some(format!("{} is deployed, and the kubelet (pid {}) may start it at any moment", file.display(), kubelet.pid))
}

/// What the agent saw of it last. Without that, revisions move as far as for the unknown.
pub(crate) fn recorded(settings: &Settings) -> Option<Recorded> {
    let (known, findings) = last_known(settings);
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    let latest = known.latest()?;
    let members = latest.members.iter().map(|member| Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.learner,
    });
    Some(Recorded { revision: known.highest_revision()?, at: latest.at, members: members.collect() })
}
