//! Causes in the environment of a component: a certificate outside its validity, a full disk, an unreachable API
//! server. Each counts only if the known-good generation would suffer from it as well: a fault that a candidate brought
//! with it (an expired certificate, another server in its kubeconfig) is its own, and a rollback cures it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::environment::{
    Certificate, DiskUse, Endpoint, Location, Room, User, certificate_files, kubeconfig_files,
};
use crate::model::manifest::DataIdentity;
use crate::model::member_conflict;
use crate::model::verdict::{Assessment, Cause, Judgement, Verdict};
use crate::model::{ComponentId, ComponentState, FileState, Generation, Manifest, Memory, Observation, Reading, Role};

/// A certificate it goes by, and that the known-good generation goes by too, is out of its dates.
pub(super) fn certificate(id: &ComponentId, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let good = good(id, memory);
    let of_good = |certificate: &&Certificate| good.is_none_or(|good| names(good, seen, &certificate.named));
    let detail = used_by(&User::Component(id.clone()), seen).filter(of_good).find_map(|c| c.trouble(seen.at.wall))?;
    Some(Cause::Certificate { detail })
}

/// Whether a candidate brought a certificate that is out of its dates.
pub(super) fn brought_a_bad_certificate(id: &ComponentId, seen: &Observation, memory: &Memory) -> bool {
    if !matches!(memory.components.get(id).map(|record| &record.state), Some(ComponentState::Probation(_))) {
        return false;
    }
    let Some(good) = good(id, memory) else { return false };
    used_by(&User::Component(id.clone()), seen)
        .any(|certificate| certificate.trouble(seen.at.wall).is_some() && !names(good, seen, &certificate.named))
}

/// What is wrong with the dates of the kubelet's certificates.
pub(super) fn kubelet_certificate(seen: &Observation) -> Option<String> {
    used_by(&User::Kubelet, seen).find_map(|certificate| certificate.trouble(seen.at.wall))
}

fn used_by<'a>(user: &User, seen: &'a Observation) -> impl Iterator<Item = &'a Certificate> + use<'a> {
    let user = user.clone();
    seen.node.certificates.iter().filter(move |certificate| certificate.users.contains(&user))
}

/// A disk it writes to has no room, or is read-only: etcd's data, or where its container and its log would be made.
pub(super) fn disk(id: &ComponentId, assessment: &Assessment, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let not_running = matches!(assessment.verdict(), Verdict::Down | Verdict::Starting);
    let data_dir = data_dir(id, seen, memory);
    let full = seen.node.disks.iter().find_map(|disk| {
        let (what, path) = disk.holds.iter().find(|(what, path)| match what {
            DiskUse::Etcd => data_dir.as_ref() == Some(path),
            DiskUse::Runtime | DiskUse::Kubelet => not_running,
            DiskUse::Manifests | DiskUse::State => false,
        })?;
        match disk.room(0) {
            Room::None => Some(format!("no space is left for {what} ({})", path.display())),
            Room::NoInodes => Some(format!("no inodes are left for {what} ({})", path.display())),
            Room::ReadOnly => Some(format!("{what} ({}) is on a read-only file system", path.display())),
            Room::Enough | Room::Little | Room::FewInodes => None,
        }
    })?;
    Some(Cause::Disk { detail: full })
}

/// Its data, which no etcd can start over. Those that a candidate alone names are its own choice.
pub(super) fn store(id: &ComponentId, assessment: &Assessment, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let stopped = matches!(assessment.verdict(), Verdict::Down | Verdict::Starting | Verdict::Failing);
    let data_dir = data_dir(id, seen, memory).filter(|_| stopped && assessment.role == Role::Etcd)?;
    let fault = seen.node.store_faults.get(&data_dir).filter(|fault| fault.prevents_start())?;
    Some(Cause::Data(Box::new(fault.clone())))
}

/// The first etcd that takes its members from the database alone.
const FROM_THE_DATABASE: (u32, u32) = (3, 6);

/// Members that its database and raft disagree about, where the etcd that is deployed goes by the database.
pub(super) fn members(
    id: &ComponentId,
    assessment: &Assessment,
    seen: &Observation,
    memory: &Memory,
) -> Option<String> {
    let version = standing(id, seen).filter(|_| assessment.role == Role::Etcd)?.minor_version()?;
    let conflicts = seen.node.member_conflicts.get(&data_dir(id, seen, memory)?)?;
    let sentence = member_conflict::sentence(conflicts).filter(|_| version >= FROM_THE_DATABASE)?;
    Some(format!("{sentence}; next: return to etcd 3.5, then {}", member_conflict::NEXT))
}

/// Where its data lie: what is deployed and what is known-good must agree on it, or it is the candidate's choice.
fn data_dir(id: &ComponentId, seen: &Observation, memory: &Memory) -> Option<PathBuf> {
    let of = |identity: Option<DataIdentity>| match identity {
        Some(DataIdentity::Etcd { data_dir, .. }) => Some(data_dir),
        _ => None,
    };
    let good = good(id, memory).map(|good| of(good.data.clone()));
    let stands = standing(id, seen).map(|manifest| of(manifest.data_identity()));
    match (good, stands) {
        (Some(good), Some(stands)) => good.filter(|good| stands.as_ref() == Some(good)),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => None,
    }
}

/// The address its kubeconfig names does not answer, while the API server of this node serves.
pub(super) fn endpoint(id: &ComponentId, all: &Judgement, seen: &Observation, memory: &Memory) -> Option<Cause> {
    let serves = all.components.values().any(|a| a.role == Role::ApiServer && a.serving);
    let broken =
        seen.node.endpoints.iter().filter(|_| serves).find(|endpoint| is_broken_for(id, endpoint, seen, memory))?;
    let words = broken.reading.symptom().map_or_else(String::new, |symptom| format!(" ({symptom})"));
    let how = broken.trouble().map_or_else(|| "does not answer".to_owned(), |trouble| trouble.to_string());
    let addresses = &seen.node.addresses;
    let vip = addresses.unraised(&broken.server).map(|raised| format!("; {}", addresses.why_unraised(raised)));
    let detail =
        format!("{} {how}{words}, while the API server of this node serves{}", broken.server, vip.unwrap_or_default());
    Some(Cause::Endpoint { detail })
}

fn is_broken_for(id: &ComponentId, endpoint: &Endpoint, seen: &Observation, memory: &Memory) -> bool {
    let user = User::Component(id.clone());
    matches!(endpoint.reading, Reading::Bad(_))
        && endpoint.used.iter().any(|(by, kubeconfig)| *by == user && as_it_was(id, kubeconfig, seen, memory))
}

/// Whether a kubeconfig is the known-good generation's own: a candidate's that leads elsewhere is its own fault.
fn as_it_was(id: &ComponentId, kubeconfig: &Path, seen: &Observation, memory: &Memory) -> bool {
    let Some(good) = good(id, memory) else { return true };
    let kept = good.closure.iter().find(|file| file.path == kubeconfig).map(|file| &file.state);
    match (kept, seen.files.get(kubeconfig)) {
        (Some(FileState::Present { digest: was, .. }), Some(FileState::Present { digest: is, .. })) => was == is,
        _ => names(good, seen, &[kubeconfig.to_owned()].into()),
    }
}

/// Whether a dependent's trouble comes from around it, so that it is no sign of harm by what it depends on (Q13).
pub(super) fn not_harmed(id: &ComponentId, all: &Judgement, seen: &Observation, memory: &Memory) -> bool {
    let Some(assessment) = all.components.get(id) else { return false };
    if certificate(id, seen, memory).or_else(|| disk(id, assessment, seen, memory)).is_some() {
        return true;
    }
    // An address of this node may be dead because of the very candidate; so may a balancer that looks for the port the
    // API server had before.
    let elsewhere = |e: &&Endpoint| e.place == Location::Elsewhere && is_broken_for(id, e, seen, memory);
    seen.node.endpoints.iter().any(|endpoint| elsewhere(&endpoint)) && api_ports_are_as_they_were(seen, memory)
}

fn api_ports_are_as_they_were(seen: &Observation, memory: &Memory) -> bool {
    let api = memory.components.iter().find(|(_, record)| record.role == Role::ApiServer).map(|(id, _)| id);
    let Some((stands, good)) = api.and_then(|id| Some((standing(id, seen)?, good(id, memory)?))) else { return false };
    stands.ports() == good.ports
}

fn good<'a>(id: &ComponentId, memory: &'a Memory) -> Option<&'a Generation> {
    let record = memory.components.get(id)?;
    record.generations.get(&record.state.good()?)
}

fn standing<'a>(id: &ComponentId, seen: &'a Observation) -> Option<&'a Manifest> {
    seen.manifests.files().filter_map(|file| file.content.as_ref().ok()).find(|manifest| manifest.id == *id)
}

/// Whether a generation's flags name one of these files, which the flags of what is deployed do; where its manifest is
/// not at hand, whether its closure has one.
fn names(generation: &Generation, seen: &Observation, files: &BTreeSet<PathBuf>) -> bool {
    let its_own = |manifest: &&Manifest| manifest.digest == generation.pod_digest;
    if seen.manifests.files().filter_map(|file| file.content.as_ref().ok()).any(|manifest| its_own(&manifest)) {
        return true;
    }
    match seen.inactive.values().filter_map(|file| file.content.as_ref().ok()).find(its_own) {
        Some(manifest) => {
            let named = |path| certificate_files(manifest).contains(path) || kubeconfig_files(manifest).contains(path);
            files.iter().any(named)
        }
        None => generation.closure.iter().any(|file| files.contains(&file.path)),
    }
}
