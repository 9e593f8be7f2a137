//! The life of a generation: numbered, stored, published, removed.

use std::sync::Arc;
use std::time::Duration;

use super::disk_state::{self, Restorable};
use super::draft::{DataTrust, Draft};
use super::host_paths;
use crate::model::config_files::KubeconfigHealth;
use crate::model::event::EventKind;
use crate::model::generation::{Generation, Proof, Stored, Trust};
use crate::model::memory::{Deployed, Record};
use crate::model::notice::Notice;
use crate::model::observation::{ImagePresence, ManifestFile, Settled};
use crate::model::policy::Policy;
use crate::model::{ClosureFile, ComponentId, ComponentState, Digest, FileKind, FileState, Manifest, Step};

/// Makes a record for every component that is seen for the first time.
pub(super) fn meet(draft: &mut Draft<'_>) {
    let files: Vec<_> = draft.scene.seen.manifests.files().cloned().collect();
    for file in files {
        let Ok(manifest) = &file.content else { continue };
        if draft.memory.components.contains_key(&manifest.id) || file.settled == Settled::NotYet {
            continue;
        }
        let record =
            Record::new(manifest.role, ComponentState::Adopting { candidate: 1, healthy: std::time::Duration::ZERO });
        draft.memory.components.insert(manifest.id.clone(), record);
        let because = format!("found in {}; it must stay healthy before it becomes known-good", file.name);
        draft.tell(&manifest.id, EventKind::State, Some(1), "Adopting(generation 1)", &because);
    }
}

/// The number of what a file holds, new if it was never seen; has it captured if it is not yet in the store, and notes
/// since when it is deployed.
pub(super) fn register(draft: &mut Draft<'_>, id: &ComponentId, file: &Arc<ManifestFile>) -> Option<u32> {
    let Ok(manifest) = &file.content else { return None };
    let now = draft.scene.tick.now.wall;
    let record = draft.memory.components.get_mut(id)?;
    let deployed = record.deployed.as_ref().and_then(|stands| record.by_digest(stands.digest));
    let another_pod = deployed.is_none_or(|deployed| deployed.pod_digest != manifest.digest);
    host_paths::note(record, manifest, another_pod, &draft.scene.seen.node.host_paths);
    let digest = disk_state::digest(record, manifest, file);
    record.role = manifest.role;
    if record.deployed.as_ref().is_none_or(|stands| stands.digest != digest) {
        let changed = record.standing_since(digest, file.changed, now);
        record.deployed = Some(Deployed { digest, changed });
        record.pod_deployed = record.pod_deployed.filter(|_| !another_pod).or(Some(changed));
    }
    let number = number_of(record, manifest, file, digest, now);
    host_paths::number(record, manifest, number);
    let generation = record.generations.get_mut(&number)?;
    if generation.stored == Stored::Pending {
        draft.want(Step::Capture { component: id.clone(), number, file: Arc::clone(file) });
    } else {
        follow_renewals(generation, &file.closure);
    }
    Some(number)
}

/// A renewed kubeconfig is no other generation, and its kept copy follows it (record's `refresh_kubeconfigs`): so must what
/// is remembered of it, or the copy would be taken for one whose certificate ended long ago.
fn follow_renewals(generation: &mut Generation, stands: &[ClosureFile]) {
    for kept in &mut generation.closure {
        let now = stands.iter().find(|file| file.path == kept.path).map(|file| &file.state);
        let (FileState::Present { kind: FileKind::Kubeconfig { .. }, digest: was, .. }, Some(now)) = (&kept.state, now)
        else {
            continue;
        };
        if let FileState::Present {
            kind: FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. },
            digest: is,
            ..
        } = now
            && was == is
            && kept.state != *now
        {
            kept.state = now.clone();
        }
    }
}

fn number_of(
    record: &mut Record,
    manifest: &Manifest,
    file: &ManifestFile,
    digest: Digest,
    now: jiff::Timestamp,
) -> u32 {
    // The same content under another file name is another pod to the kubelet, but the same generation to us.
    if let Some(number) = record.by_digest(digest).map(|generation| generation.number) {
        return number;
    }
    let number = record.next_number;
    record.next_number += 1;
    record.generations.insert(
        number,
        Generation {
            number,
            digest,
            pod_digest: manifest.digest,
            raw_digest: Digest::of(&manifest.raw),
            startup_budget: manifest.startup_budget(),
            termination_grace: manifest.termination_grace(),
            file_name: file.name.clone(),
            closure: file.closure.clone(),
            images: manifest.images(),
            ports: manifest.ports(),
            data: manifest.data_identity(),
            minor: manifest.minor_version(),
            first_seen: now,
            served: None,
            rewritten: 0,
            trust: Trust::Candidate,
            stored: Stored::Pending,
        },
    );
    number
}

/// Whether a generation could be put back right now; the reason if not.
pub(super) fn ready_to_return(draft: &Draft<'_>, generation: &Generation) -> Result<(), String> {
    if generation.stored == Stored::Pending {
        return Err("its bytes are not in the store yet".to_owned());
    }
    let images = &draft.scene.seen.images;
    if let Some(absent) = generation.images.iter().find(|image| images.get(*image) == Some(&ImagePresence::Absent)) {
        return Err(format!("its image {absent} is not on this node"));
    }
    if let Some(unknown) = generation.images.iter().find(|image| !images.contains_key(*image)) {
        return Err(format!("it is unknown whether its image {unknown} is on this node"));
    }
    Ok(())
}

/// Has inactive-manifests hold the pinned manifest of every component, or its last known-good one. A file there that was edited by hand is
/// an offer: it is kept as a candidate, and not overwritten while it is one (N12).
pub(super) fn publish(draft: &mut Draft<'_>) {
    let ids: Vec<ComponentId> = draft.memory.components.keys().cloned().collect();
    for id in ids {
        let Some(record) = draft.record(&id) else { continue };
        let good = record.pin().or_else(|| record.state.good()).and_then(|good| record.generations.get(&good));
        let good = good.filter(|g| g.trust.is_known_good()).or_else(|| record.known_good().next());
        let Some(good) = good.filter(|good| good.stored == Stored::Yes).cloned() else { continue };
        tell_if_unpromotable(draft, &id, &good);
        let Some(file) = draft.scene.seen.inactive.get(&good.file_name).cloned() else {
            draft.clear_notice(&id, Notice::Unpublished);
            draft.want(Step::Publish { component: id.clone(), number: good.number, file_name: good.file_name.clone() });
            continue;
        };
        if file.settled == Settled::NotYet {
            continue;
        }
        match &file.content {
            Ok(manifest) if Digest::of(&manifest.raw) == good.raw_digest => {
                draft.clear_notice(&id, Notice::Unpublished)
            }
            Ok(manifest) if manifest.id == id => offered(draft, &id, &good, &file, manifest),
            Ok(manifest) => {
                let text = format!("inactive-manifests/{} holds {}, not {id}: left alone", file.name, manifest.id);
                draft.notice(&id, Notice::Unpublished, text);
            }
            Err(fault) => {
                let text = format!(
                    "inactive-manifests/{} {fault}: left as it is; remove it to have generation {} there again",
                    file.name, good.number
                );
                draft.notice(&id, Notice::Unpublished, text);
            }
        }
    }
}

/// Another manifest of this component is in inactive-manifests: an earlier known-good one of ours, or an offer.
fn offered(draft: &mut Draft<'_>, id: &ComponentId, good: &Generation, file: &Arc<ManifestFile>, manifest: &Manifest) {
    let now = draft.scene.tick.now.wall;
    let raw = Digest::of(&manifest.raw);
    let Some(record) = draft.memory.components.get_mut(id) else { return };
    // One that was quarantined since would be a trap for whoever has nothing but `cp`; its bytes are kept.
    if record.generations.values().any(|g| g.raw_digest == raw && !matches!(g.trust, Trust::Candidate)) {
        draft.clear_notice(id, Notice::Unpublished);
        draft.want(Step::Publish { component: id.clone(), number: good.number, file_name: good.file_name.clone() });
        return;
    }
    let digest = disk_state::digest(record, manifest, file);
    let number = number_of(record, manifest, file, digest, now);
    if record.generations.get(&number).is_some_and(|generation| generation.stored == Stored::Pending) {
        draft.want(Step::Capture { component: id.clone(), number, file: Arc::clone(file) });
    }
    let text = format!(
        "inactive-manifests/{} was edited by hand: kept as generation {number}, a candidate; \
         `lastgood rollback {id} --to {number}` tries it",
        file.name
    );
    draft.notice(id, Notice::Unpublished, text);
}

/// Says before the outage that a known-good generation could not be put back (N15).
fn tell_if_unpromotable(draft: &mut Draft<'_>, id: &ComponentId, good: &Generation) {
    let images = &draft.scene.seen.images;
    let absent = good.images.iter().find(|image| images.get(*image) == Some(&ImagePresence::Absent));
    let text = absent.map(|image| {
        format!(
            "known-good generation {} could not be put back: its image {image} is not on this node; \
             `crictl pull {image}` brings it",
            good.number
        )
    });
    draft.notice_if(id, Notice::Image, text);
}

/// Lets go of generations beyond what is kept: never what is deployed, never what the slot names, never what is pinned,
/// known-good ones last, and never the last known-good one.
pub(super) fn forget(draft: &mut Draft<'_>) {
    let keep = keep(draft.scene.policy);
    let mut steps = Vec::new();
    for (id, record) in &mut draft.memory.components {
        while record.generations.len() > keep {
            let stands = record.deployed.as_ref().and_then(|stands| record.by_digest(stands.digest)).map(|g| g.number);
            let newest_good = record.known_good().next().map(|g| g.number);
            let slot = &record.state;
            let bound = [stands, newest_good, slot.good(), in_trial(slot), record.last_served, record.pin()];
            let free = |g: &&Generation| !bound.contains(&Some(g.number));
            let worst = record.generations.values().filter(free).min_by_key(|g| (g.trust.is_known_good(), g.number));
            let Some(number) = worst.map(|g| g.number) else { break };
            record.generations.remove(&number);
            steps.push(Step::Forget { component: id.clone(), number });
        }
    }
    draft.plan.extend(steps);
}

/// At least three: what is deployed, what it would roll back to, and one beyond.
fn keep(policy: &Policy) -> usize {
    policy.keep_generations.max(3)
}

fn in_trial(slot: &ComponentState) -> Option<u32> {
    match slot {
        ComponentState::Adopting { candidate, .. } | ComponentState::Unread { candidate, .. } => Some(*candidate),
        ComponentState::Probation(probation) => Some(probation.candidate),
        ComponentState::Replacing(replacement) => replacement.from(),
        ComponentState::Held(held) => held.over,
        ComponentState::Steady { .. } | ComponentState::Missing { .. } => None,
    }
}

/// The steps that put back the files of a generation that differ and may be put back.
pub(super) fn restore_files(draft: &Draft<'_>, id: &ComponentId, generation: &Generation) -> Vec<Step> {
    disk_state::files_to_restore(draft.scene.seen, generation)
        .filter(|(_, restorable)| matches!(restorable, Restorable::Yes))
        .map(|(path, _)| Step::RestoreFile { component: id.clone(), number: generation.number, path })
        .collect()
}

/// A generation has proven itself.
pub(super) fn prove(draft: &mut Draft<'_>, id: &ComponentId, number: u32, healthy: Duration) {
    let now = draft.scene.tick.now.wall;
    // An etcd proves nothing before it has said that it serves the data on record.
    if draft.trust(id) != DataTrust::OnRecord {
        return;
    }
    let evidence = draft.assessment(id).map(|a| a.evidence.join("; ")).unwrap_or_default();
    let Some(record) = draft.memory.components.get_mut(id) else { return };
    let Some(generation) = record.generations.get_mut(&number) else { return };
    // What is not in the store cannot be put back: until it is, it is not known-good, however well it does.
    if generation.stored != crate::model::generation::Stored::Yes {
        return;
    }
    if !generation.trust.is_known_good() {
        let proof = Proof::Soak { seconds: healthy.as_secs(), evidence: evidence.clone() };
        generation.trust = Trust::KnownGood { proof, since: now };
        generation.rewritten = 0;
        let because = format!("it was healthy for {} s: {evidence}", healthy.as_secs());
        draft.tell(id, EventKind::Generation, Some(number), &format!("generation {number} is known-good"), &because);
    }
    let because = format!("generation {number} has proven itself");
    draft.enter(id, ComponentState::Steady { good: number }, &because);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        Generation {
            number: 1,
            digest: Digest::of(b"generation"),
            pod_digest: Digest::of(b"pod"),
            raw_digest: Digest::of(b"raw"),
            startup_budget: std::time::Duration::ZERO,
            termination_grace: std::time::Duration::ZERO,
            file_name: "kube-scheduler.yaml".to_owned(),
            closure: Vec::new(),
            images: std::collections::BTreeSet::new(),
            ports: std::collections::BTreeSet::new(),
            data: None,
            minor: None,
            first_seen: jiff::Timestamp::UNIX_EPOCH,
            served: None,
            rewritten: 0,
            trust: Trust::Candidate,
            stored: Stored::Yes,
        }
    }

    #[test]
    fn a_kept_kubeconfig_is_as_young_as_its_last_renewal() {
        let state = |works, config: &[u8]| FileState::Present {
            kind: FileKind::Kubeconfig { works, credentials: Digest::of(b"credentials") },
            digest: Digest::of(config),
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        let valid_to = |end| KubeconfigHealth::Works { not_after: Some(end) };
        let file = |state| ClosureFile { path: "/etc/kubernetes/scheduler.conf".into(), state };
        let kept = || file(state(valid_to(100), b"config"));
        let broken = KubeconfigHealth::Cannot { reason: "its key does not fit".to_owned() };
        let rows = [
            ("renewed", state(valid_to(900), b"config"), 900),
            ("as it was", state(valid_to(100), b"config"), 100),
            ("another one", state(valid_to(900), b"other"), 100),
            ("broken", state(broken, b"config"), 100),
            ("gone", FileState::Missing, 100),
        ];
        let generation = generation();
        for (situation, stands, expected) in rows {
            let mut generation = Generation { closure: vec![kept()], ..generation.clone() };
            follow_renewals(&mut generation, &[file(stands)]);
            assert_eq!(generation.closure, [file(state(valid_to(expected), b"config"))], "one that is {situation}");
        }
    }
}
