//! An etcd that serves other data than those on record: its disk is not mounted, its path is mistyped, or an older copy
//! is in the place of its data (Q1).
//!
//! ```text
//!   two answers prove it ─┬─ the operator made another cluster of this node ─▶ the memory is set aside, what runs is adopted
//!                         ▼
//!                   WrongData(kind) ─▶ etcd: a candidate that names another directory fails, by its own fault;
//!                       │              otherwise it is held. Nothing becomes known-good, recorded or saved from these data
//!                       │
//!                       ├─ the only member, and the kind is certain:
//!                       │     kube-apiserver's manifest is withheld and its container stopped, immediately and once
//!                       │
//!                       ├─ the directory on record is back under its path ─▶ etcd's container is stopped, once
//!                       ▼
//!   the data on record are served ─▶ over: kube-apiserver is deployed; what ran meanwhile is restarted in order
//!   `lastgood etcd accept-data`   ─▶ over, the same, with the served data as the new record
//!   `lastgood resume kube-apiserver`, or its manifest deployed by hand ─▶ it runs on these data, and nothing else changes
//! ```
//!
//! kube-apiserver is stopped because a kubelet deletes its pods as soon as an API server lists none for its node. The
//! stop happens once each time etcd begins to serve wrong data, so it cannot loop. It is done even if the hourly budget
//! is used up, and counts against it.

use std::time::Duration;

use super::disk_state::DiskState;
use super::draft::{DataTrust, Draft};
use super::lineage::Directory;
use super::withheld::withheld;
use super::{etcd_answer, kubelet, pods, probation, restarts};
use crate::model::component_state::{Probation, Replacement, Until};
use crate::model::etcd_data::{DataDir, WalOrigin};
use crate::model::event::EventKind;
use crate::model::generation::Stored;
use crate::model::lineage::{ApiStop, Incarnation, WrongData, WrongDataKind};
use crate::model::manifest::DataIdentity;
use crate::model::memory::{ApiServerStopped, Memory};
use crate::model::notice::Notice;
use crate::model::observation::{BusyKind, Gone, ManifestFile};
use crate::model::plan::Refusal;
use crate::model::{ComponentId, ComponentState, Generation, Role, Step};

/// Words of kubeadm that make another cluster of a node. `kubeadm init phase …` makes files of the present one.
const REBUILDS: [&str; 3] = ["reset", "init", "join"];

/// The data directory on record, and the one that the deployed manifest names.
pub(super) fn directories(draft: &Draft<'_>, id: &ComponentId) -> (Directory, Directory) {
    let of = |dir: &DataDir| Directory { inode: inode(dir), origin: dir.origin.clone() };
    let kept = draft.record(id).and_then(|record| record.data_dir.as_ref()).map(|(_, kept)| of(kept));
    let seen = deployed_dir(draft, id).map(|(_, seen)| of(seen));
    (kept.unwrap_or_default(), seen.unwrap_or_default())
}

/// The data directory that the deployed generation names, as it is on disk.
fn deployed_dir<'d>(draft: &'d Draft<'_>, id: &ComponentId) -> Option<(&'d std::path::Path, &'d DataDir)> {
    let Some(DataIdentity::Etcd { data_dir, .. }) = &deployed(draft, id)?.data else { return None };
    Some((data_dir, draft.scene.seen.node.data_dirs.get(data_dir)?))
}

fn deployed<'d>(draft: &'d Draft<'_>, id: &ComponentId) -> Option<&'d Generation> {
    let record = draft.record(id)?;
    record.by_digest(record.deployed.as_ref()?.digest)
}

/// Watches for what makes another cluster of this node: from here on, other data are no fault.
pub(super) fn watch(draft: &mut Draft<'_>) {
    let kubeadm = draft.scene.seen.node.busy.iter().filter(|process| process.kind == BusyKind::Kubeadm);
    let rebuilds = kubeadm.filter(|process| rebuilds(&process.command)).map(|process| process.command.clone()).next();
    let now = draft.scene.tick.now.wall;
    let sign = match rebuilds {
        Some(command) => Some(format!("`{command}` ran at {now:.0}")),
        None if all_deleted(draft) => Some(format!("all manifests were deleted as one at {now:.0}")),
        None => None,
    };
    if draft.memory.rebuilt.is_none() && !draft.memory.incarnations.is_empty() {
        draft.memory.rebuilt = sign;
    }
}

fn rebuilds(command: &str) -> bool {
    let mut words = command.split_whitespace().skip(1).filter(|word| !word.starts_with('-'));
    words.next().is_some_and(|word| REBUILDS.contains(&word)) && words.next() != Some("phase")
}

/// Whether every manifest was deleted, and none moved: the operator who stops the control plane for a while moves them.
fn all_deleted(draft: &Draft<'_>) -> bool {
    let known = draft.memory.components.iter().filter(|(_, record)| record.role != Role::Other);
    let withheld = withheld(&draft.memory);
    let mut others = known.filter(|(id, _)| Some(*id) != withheld).peekable();
    let deleted = |id: &ComponentId, record| match DiskState::of(draft.scene.seen, id, record) {
        DiskState::Absent(Gone::Deleted) => true,
        DiskState::Absent(_) => matches!(&record.state, ComponentState::Missing { how: Gone::Deleted, .. }),
        _ => false,
    };
    others.clone().count() > 1 && others.peek().is_some() && others.all(|(id, record)| deleted(id, record))
}

/// Why other data are those of another cluster that the operator made of this node.
fn another_cluster(draft: &Draft<'_>) -> Option<String> {
    let before = draft.memory.cluster.as_ref();
    let other = before.and_then(|before| draft.scene.seen.node.cluster.other_than(before));
    other.map(|what| format!("{what} is not the same as before")).or_else(|| draft.memory.rebuilt.clone())
}

/// The data on record are served: the files of this node are those of their cluster.
pub(super) fn note_cluster(draft: &mut Draft<'_>) {
    let busy = draft.scene.seen.node.busy.iter().any(|process| process.kind == BusyKind::Kubeadm);
    if busy {
        return;
    }
    draft.memory.rebuilt = None;
    let seen = draft.scene.seen.node.cluster.clone();
    let mut kept = draft.memory.cluster.take().unwrap_or_default();
    kept.ca = seen.ca.or(kept.ca);
    kept.kubelet = seen.kubelet.or(kept.kubelet);
    draft.memory.cluster = Some(kept);
}

/// An etcd serves other data, by a second answer.
pub(super) fn found(draft: &mut Draft<'_>, id: &ComponentId, kind: WrongDataKind, fresh: Incarnation) -> DataTrust {
    let certain = matches!(kind, WrongDataKind::Empty | WrongDataKind::Foreign);
    if certain && let Some(why) = another_cluster(draft) {
        set_memory_aside(draft, &why);
        return DataTrust::OnRecord;
    }
    if draft.memory.went_back.as_ref().is_some_and(|back| back.etcd == *id) {
        draft.memory.went_back = None;
    }
    let now = draft.scene.tick.now.wall;
    let before = draft.memory.wrong_data.take().filter(|wrong| wrong.etcd == *id);
    let wrong = match before {
        Some(before) if goes_on(&before, kind, &fresh) => before,
        Some(before) => WrongData { kind, serves: fresh, ..before },
        None => WrongData { etcd: id.clone(), kind, since: now, serves: fresh, api: ApiStop::NotStopped },
    };
    draft.memory.wrong_data = Some(wrong);
    DataTrust::Others
}

/// Whether an etcd still serves the wrong data that it was found to serve: an API server that runs on an empty store makes
/// it another cluster's.
fn goes_on(before: &WrongData, kind: WrongDataKind, fresh: &Incarnation) -> bool {
    let grown = before.kind == WrongDataKind::Empty && kind == WrongDataKind::Foreign;
    let same = (before.serves.cluster, before.serves.member) == (fresh.cluster, fresh.member);
    same && fresh.revision >= before.serves.revision && (before.kind == kind || grown)
}

/// The operator made another cluster of this node: nothing that is remembered holds for it.
fn set_memory_aside(draft: &mut Draft<'_>, why: &str) {
    let text = "the memory is set aside, and what runs is adopted as on a new node";
    draft.tell_node(EventKind::Agent, text, &format!("etcd serves the data of another cluster, and {why}"));
    let before = std::mem::take(&mut draft.memory);
    draft.memory = Memory {
        machine: before.machine,
        pause: before.pause,
        kubelet_restarts: before.kubelet_restarts,
        runtime_restarts: before.runtime_restarts,
        api_served: before.api_served,
        ..Memory::default()
    };
    draft.data.clear();
    draft.want(Step::SetMemoryAside);
}

/// Goes on with an etcd that serves other data.
pub(super) fn step(draft: &mut Draft<'_>) {
    let Some(wrong) = draft.memory.wrong_data.clone() else { return };
    if draft.record(&wrong.etcd).is_none() {
        // Its manifest went before anything of it was proven.
        return over(draft, &wrong.etcd);
    }
    stop_api(draft, wrong.clone());
    return_to_the_record(draft, &wrong);
}

/// Says what is done about it, after everything else of this pass was decided.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let Some(wrong) = draft.memory.wrong_data.clone() else { return };
    let story = story(draft, &wrong);
    draft.notice(&wrong.etcd, Notice::WrongData, story);
}

/// What is done about it, and what happened where etcd's own state does not say so already.
fn story(draft: &Draft<'_>, wrong: &WrongData) -> String {
    let api = match &wrong.api {
        ApiStop::Stopped { component, .. } => format!("{component} is stopped until the right data are back"),
        ApiStop::Released => "kube-apiserver runs on these data, as the operator asked".to_owned(),
        ApiStop::NotStopped => match why_not_stopped(draft, wrong) {
            Some(why) => format!("lastgood stops nothing: {why}"),
            None => "kube-apiserver is not running".to_owned(),
        },
    };
    match draft.record(&wrong.etcd).map(|record| &record.state) {
        Some(ComponentState::Held(held)) if held.until == Until::RightData => api,
        _ => format!("{}; {api}; next: {}", what(draft, wrong), next_step(draft, wrong)),
    }
}

/// The evidence: what is served, what was served, and where those data are.
pub(super) fn what(draft: &Draft<'_>, wrong: &WrongData) -> String {
    let mut text = format!("{}, at revision {}", in_words(wrong.kind), wrong.serves.revision);
    if let Some(known) = draft.memory.incarnations.get(&wrong.etcd) {
        text.push_str(&format!("; this node served revision {} at {:.0}", known.revision, known.at));
    }
    if let Some(place) = place(draft, wrong) {
        text.push_str(&format!("; {place}"));
    }
    text
}

fn in_words(kind: WrongDataKind) -> &'static str {
    match kind {
        WrongDataKind::Empty => "etcd serves an empty store (no namespace kube-system)",
        WrongDataKind::Foreign => "etcd serves the data of another cluster (namespace kube-system has another UID)",
        WrongDataKind::Older => "etcd serves an older copy of its data (no restore wrote its WAL)",
        WrongDataKind::Unclear => "etcd serves older data, and it is unknown whether somebody restored them",
    }
}

/// Where the data on record are, by what is seen of their directory.
fn place(draft: &Draft<'_>, wrong: &WrongData) -> Option<String> {
    let (path, kept) = draft.record(&wrong.etcd)?.data_dir.as_ref()?;
    let seen = draft.scene.seen.node.data_dirs.get(path)?;
    let shown = path.display();
    if let (Some(before), Some(now)) = (&kept.mount, &seen.mount)
        && before != now
    {
        return Some(format!("{shown} was on {before}, and is on {now}"));
    }
    if seen.member.is_some() && inode(seen) == inode(kept) {
        return match (deployed_dir(draft, &wrong.etcd), seen.at_rest) {
            (Some((deployed, _)), Some(rest)) if deployed != path => Some(format!(
                "those data are in {shown}, at revision {}; etcd was given {}",
                rest.revision,
                deployed.display()
            )),
            (Some((deployed, _)), None) if deployed != path => {
                Some(format!("those data are in {shown}; etcd was given {}", deployed.display()))
            }
            _ => None,
        };
    }
    Some(match seen.member {
        None => format!("{shown} holds no data of etcd"),
        Some(_) => format!("{shown} does not hold the directory that etcd served from"),
    })
}

fn inode(dir: &DataDir) -> Option<u64> {
    dir.member.map(|(_, inode)| inode)
}

/// The one command that helps.
pub(super) fn next_step(draft: &Draft<'_>, wrong: &WrongData) -> String {
    let accept = "`lastgood etcd accept-data` if these data are right";
    let Some((path, kept)) = draft.record(&wrong.etcd).and_then(|record| record.data_dir.as_ref()) else {
        return format!("put the right data in place, or {accept}");
    };
    let seen = draft.scene.seen.node.data_dirs.get(path);
    let mounts = kept.mount.as_ref().zip(seen.and_then(|seen| seen.mount.as_ref()));
    let mend = match mounts {
        // What was its own mount is not mounted.
        Some((before, now)) if before != now && now.point != before.point && before.point.starts_with(&now.point) => {
            format!("`mount {}`", before.point.display())
        }
        // Something is mounted over it.
        Some((before, now)) if before != now && now.point.starts_with(&before.point) => {
            format!("`umount {}`", now.point.display())
        }
        Some((before, now)) if before != now => {
            format!("mount {} at {} again", before.source, before.point.display())
        }
        _ => match deployed_dir(draft, &wrong.etcd) {
            Some((deployed, _)) if deployed != path => {
                let etcd = &wrong.etcd;
                format!("`lastgood rollback {etcd}` returns to {}", path.display())
            }
            _ => format!("bring the right data to {}", path.display()),
        },
    };
    format!("{mend}, or {accept}")
}

/// Stops kube-apiserver where this node has the only member, once, and sees to it that it stays stopped.
fn stop_api(draft: &mut Draft<'_>, wrong: WrongData) {
    match &wrong.api {
        ApiStop::Released => {}
        ApiStop::Stopped { component, generation, out, since } => {
            let (component, number, out, since) = (component.clone(), *generation, *out, *since);
            keep_stopped(draft, &component, number, out, since);
        }
        ApiStop::NotStopped => {
            if why_not_stopped(draft, &wrong).is_some() {
                return;
            }
            let Some((component, generation)) = whom(draft, &wrong.etcd) else { return };
            let since = draft.scene.tick.now.wall;
            let (number, name) = (generation.number, generation.file_name.clone());
            // What was stopped for a replacement of etcd stays stopped.
            draft.memory.stopped_apiserver = None;
            if let Some(record) = draft.record_mut(&component) {
                record.actions.push_back(Duration::ZERO);
            }
            set_api(draft, ApiStop::Stopped { component: component.clone(), generation: number, out: false, since });
            let served = served_for(draft, &component, &wrong);
            let because = format!("{}; {served}", in_words(wrong.kind));
            draft.tell(
                &component,
                EventKind::State,
                Some(number),
                "stopped until etcd serves the right data",
                &because,
            );
            withhold(draft, &component, number, &name);
        }
    }
}

/// What happened before the stop: for how long the API server may have served these data.
fn served_for(draft: &Draft<'_>, api: &ComponentId, wrong: &WrongData) -> String {
    let now = draft.scene.tick.now.wall;
    let seconds = now.duration_since(wrong.since).as_secs().max(0);
    match pods::running(draft, api).map(|(_, started)| started).max() {
        Some(_) => format!(
            "it had served them for about {seconds} s since etcd's first answer; kubelets may have deleted pods meanwhile"
        ),
        None => "no container of it was running".to_owned(),
    }
}

fn set_api(draft: &mut Draft<'_>, api: ApiStop) {
    if let Some(wrong) = &mut draft.memory.wrong_data {
        wrong.api = api;
    }
}

/// Why kube-apiserver is left running on these data.
fn why_not_stopped(draft: &Draft<'_>, wrong: &WrongData) -> Option<String> {
    if !wrong.kind.is_certain() {
        return Some("it is unknown which data they are".to_owned());
    }
    let known = draft.memory.incarnations.get(&wrong.etcd).map_or(0, |known| known.members);
    let members = known.max(wrong.serves.members);
    if members > 1 {
        return Some(format!("the cluster has {members} members, and other masters serve"));
    }
    draft.hold.as_ref().map(ToString::to_string)
}

/// The API server that reads from this etcd, and the generation that comes back.
fn whom(draft: &Draft<'_>, etcd: &ComponentId) -> Option<(ComponentId, Generation)> {
    let ports = &deployed(draft, etcd)?.ports;
    let stopped = draft.memory.stopped_apiserver.as_ref();
    let (api, record) = draft.memory.components.iter().find(|(_, record)| record.role == Role::ApiServer)?;
    let deployed = match DiskState::of(draft.scene.seen, api, record) {
        DiskState::Here(file) => {
            let digest = super::disk_state::digest(record, file.content.as_ref().ok()?, &file);
            record.by_digest(digest)
        }
        _ => stopped
            .filter(|stopped| stopped.component == *api)
            .and_then(|stopped| record.generations.get(&stopped.generation)),
    };
    let generation = deployed.filter(|generation| generation.stored == Stored::Yes)?;
    pods::reads_from(generation.data.as_ref(), ports).then(|| (api.clone(), generation.clone()))
}

fn withhold(draft: &mut Draft<'_>, api: &ComponentId, number: u32, file_name: &str) {
    draft.want(Step::Withhold { component: api.clone(), number, file_name: file_name.to_owned() });
    kill(draft, api);
}

/// Its containers, without grace: what it would still write goes to the wrong store.
fn kill(draft: &mut Draft<'_>, api: &ComponentId) {
    let running: Vec<String> = pods::running(draft, api).map(|(container, _)| container).collect();
    for container in running {
        draft.want(Step::StopContainer { component: api.clone(), container, grace: Duration::ZERO });
    }
}

fn keep_stopped(draft: &mut Draft<'_>, api: &ComponentId, number: u32, out: bool, since: jiff::Timestamp) {
    let name = draft.record(api).and_then(|record| record.generations.get(&number)).map(|g| g.file_name.clone());
    let Some(name) = name else { return set_api(draft, ApiStop::Released) };
    let present = draft.scene.seen.manifests.file(&name).is_some();
    match (present, out) {
        // The operator put it back.
        (true, true) => {
            draft.tell(api, EventKind::State, Some(number), "released", "somebody else deployed its manifest");
            set_api(draft, ApiStop::Released);
        }
        _ if draft.hold.is_some() => {}
        (true, false) => withhold(draft, api, number, &name),
        (false, false) => {
            set_api(draft, ApiStop::Stopped { component: api.clone(), generation: number, out: true, since });
            kill(draft, api);
        }
        (false, true) => stays_down(draft, api),
    }
}

/// A kubelet that has not heard from an API server since its start ends no pod: it would restart the container that is
/// stopped. Restarted, it knows of the pod no more.
fn stays_down(draft: &mut Draft<'_>, api: &ComponentId) {
    if !pods::runs(draft, api) || draft.scene.seen.runtime.is_err() {
        return;
    }
    kill(draft, api);
    if kubelet::kubelet_hears(draft) {
        return;
    }
    let old: Vec<String> = pods::ready_sandboxes(draft, api).collect();
    for sandbox in old {
        draft.want(Step::StopSandbox { component: api.clone(), sandbox });
    }
    if kubelet::may_restart_kubelet(draft) {
        kubelet::restart_kubelet(draft, api, "it would start the stopped kube-apiserver again");
    }
}

/// The directory on record is back under the path that etcd was given, while etcd still serves what was there before: its
/// container is stopped, and the kubelet starts it on the right data.
fn return_to_the_record(draft: &mut Draft<'_>, wrong: &WrongData) {
    let id = &wrong.etcd;
    if draft.hold.is_some()
        || matches!(draft.record(id).map(|record| &record.state), Some(ComponentState::Replacing(_)))
    {
        return;
    }
    let Some((path, kept)) = draft.record(id).and_then(|record| record.data_dir.clone()) else { return };
    let Some((deployed, seen)) = deployed_dir(draft, id) else { return };
    // While etcd uses what is seen there, `at_rest` is absent.
    if deployed != path || inode(seen) != inode(&kept) || !whole(draft, id, seen) {
        return;
    }
    let revision = seen.at_rest.map_or(0, |rest| rest.revision);
    let running: Vec<String> = pods::running(draft, id).map(|(container, _)| container).collect();
    let Some(container) = running.first().cloned() else { return };
    let asked = draft.record(id).and_then(|record| record.restart.as_ref());
    if asked.is_some_and(|asked| asked.container == container) {
        return;
    }
    if !draft.spend(id) {
        return;
    }
    let grace = self::deployed(draft, id).map_or(Duration::from_secs(30), |generation| generation.termination_grace);
    if let Some(record) = draft.record_mut(id) {
        let restart = crate::model::memory::Restart { container: container.clone(), age: Duration::ZERO };
        record.restart = Some(restart);
    }
    let because = format!("{} holds the data on record again, at revision {revision}", path.display());
    draft.tell(id, EventKind::State, None, "restarting its container", &because);
    draft.want(Step::StopContainer { component: id.clone(), container, grace });
}

/// Whether a directory at rest holds no less than the record: what its database lacks is in its WAL.
fn whole(draft: &Draft<'_>, id: &ComponentId, seen: &DataDir) -> bool {
    let Some(known) = draft.memory.incarnations.get(id) else { return false };
    seen.at_rest.is_some_and(|rest| {
        rest.revision >= known.revision || known.raft_index > 0 && rest.raft_index >= known.raft_index
    })
}

/// Why a generation's directory cannot be rolled back to from wrong data: nothing where it can; `None` inside where
/// that is not known yet.
pub(super) fn may_go_back(draft: &Draft<'_>, id: &ComponentId, target: &Generation) -> Result<(), Option<String>> {
    let Some((path, kept)) = draft.record(id).and_then(|record| record.data_dir.as_ref()) else { return Ok(()) };
    let Some(DataIdentity::Etcd { data_dir, .. }) = &target.data else { return Ok(()) };
    let shown = data_dir.display();
    if data_dir != path {
        return Err(Some(format!("{shown} is not the directory that etcd served from")));
    }
    let Some(seen) = draft.scene.seen.node.data_dirs.get(data_dir) else { return Err(None) };
    if inode(seen) != inode(kept) {
        return Err(Some(format!("{shown} does not hold the data that etcd served here")));
    }
    match seen.at_rest {
        None => Err(None),
        Some(_) if whole(draft, id, seen) => Ok(()),
        Some(rest) => Err(Some(format!("the data in {shown} are only at revision {}", rest.revision))),
    }
}

/// One pass of the etcd itself while its data are wrong. False where it goes the usual way.
pub(super) fn step_etcd(draft: &mut Draft<'_>, id: &ComponentId, file: &ManifestFile) -> bool {
    let Some(wrong) = draft.memory.wrong_data.clone().filter(|wrong| wrong.etcd == *id) else { return false };
    let Some(record) = draft.record(id) else { return false };
    let number = file.content.as_ref().ok().map(|pod| super::disk_state::digest(record, pod, file));
    let number = number.and_then(|digest| record.by_digest(digest)).map(|generation| generation.number);
    let slot = record.state.clone();
    match slot {
        ComponentState::Probation(trial) if number == Some(trial.candidate) => candidate(draft, id, &trial, &wrong),
        ComponentState::Steady { good } if number == Some(good) => hold(draft, id, Some(good), &wrong),
        ComponentState::Adopting { candidate, .. } if number == Some(candidate) => {
            hold(draft, id, Some(candidate), &wrong)
        }
        ComponentState::Unread { candidate, .. } if number == Some(candidate) => {
            hold(draft, id, Some(candidate), &wrong)
        }
        ComponentState::Held(held) => held.over == number,
        _ => false,
    }
}

/// What was put back serves wrong data as well: held, unless the restore that the operator asked for brought them.
pub(super) fn hold_replaced(draft: &mut Draft<'_>, id: &ComponentId, r: &Replacement) -> bool {
    // The process that was put back may not have said yet what it serves.
    let told = draft.trust(id) == DataTrust::Others;
    let Some(wrong) = draft.memory.wrong_data.clone().filter(|wrong| told && wrong.etcd == *id) else { return false };
    let restored = matches!(directories(draft, id).1.origin, WalOrigin::Restored { .. });
    if r.suspended_for().is_some() && restored && accept(draft, Some(id)).is_ok() {
        return true;
    }
    hold(draft, id, Some(r.to), &wrong)
}

fn hold(draft: &mut Draft<'_>, id: &ComponentId, over: Option<u32>, wrong: &WrongData) -> bool {
    let (why, next) = (what(draft, wrong), next_step(draft, wrong));
    draft.hold_back(id, over, why, next, Until::RightData);
    true
}

/// A candidate that names another directory than served last has failed by its own fault; any other is only held.
fn candidate(draft: &mut Draft<'_>, id: &ComponentId, trial: &Probation, wrong: &WrongData) -> bool {
    let Some(record) = draft.record(id) else { return true };
    let data = |number: u32| record.generations.get(&number).map(|generation| generation.data.clone());
    let other = record.last_served.and_then(data) != data(trial.candidate);
    let Some(target) = record.generations.get(&trial.good).filter(|_| other && wrong.kind.is_certain()).cloned() else {
        return hold(draft, id, Some(trial.candidate), wrong);
    };
    match may_go_back(draft, id, &target) {
        Ok(()) => probation::fail_for_its_data(draft, id, trial, what(draft, wrong)),
        // It is looked at again in the next pass.
        Err(None) => {}
        Err(Some(why)) => {
            let why = format!("{}; {why}", what(draft, wrong));
            let next = next_step(draft, wrong);
            draft.hold_back(id, Some(trial.candidate), why, next, Until::RightData);
        }
    }
    true
}

/// The right data are served again, or what is served was accepted.
pub(super) fn over(draft: &mut Draft<'_>, id: &ComponentId) {
    let Some(wrong) = draft.memory.wrong_data.take_if(|wrong| wrong.etcd == *id) else { return };
    draft.clear_notice(id, Notice::WrongData);
    let number = deployed(draft, id).map(|generation| generation.number);
    if let Some(record) = draft.record_mut(id) {
        record.restart = None;
        if let ComponentState::Held(held) = &record.state
            && held.until == Until::RightData
        {
            let slot = match (held.good, number.or(held.over)) {
                (Some(good), Some(number)) if number != good => {
                    ComponentState::Probation(Probation::begin(number, good))
                }
                (Some(good), _) => ComponentState::Steady { good },
                (None, number) => ComponentState::Adopting { candidate: number.unwrap_or(1), healthy: Duration::ZERO },
            };
            draft.enter(id, slot, "it serves the right data");
        }
    }
    let text = format!("it serves the right data, after {} data", wrong.kind.word());
    draft.tell(id, EventKind::Notice, None, &text, "");
    put_api_back(draft, &wrong);
    let what = format!("it had served other data ({}) since {:.0}", wrong.serves, wrong.since);
    restarts::restart_dependents(draft, id, what);
}

/// It is put back as after any replacement of etcd: the same way, at the same time.
fn put_api_back(draft: &mut Draft<'_>, wrong: &WrongData) {
    if let ApiStop::Stopped { component, generation, .. } = &wrong.api {
        draft.memory.stopped_apiserver = Some(ApiServerStopped {
            component: component.clone(),
            generation: *generation,
            for_component: wrong.etcd.clone(),
            age: Duration::ZERO,
        });
    }
}

/// The operator says that what is served is right.
pub(super) fn accept(draft: &mut Draft<'_>, id: Option<&ComponentId>) -> Result<(), Refusal> {
    let Some(wrong) = draft.memory.wrong_data.clone().filter(|wrong| id.is_none_or(|id| *id == wrong.etcd)) else {
        let why = "etcd serves the data on record, so there is nothing to accept".to_owned();
        return Err(Refusal::NotActing { why });
    };
    if let Some(hold) = super::inhibitors::of(draft).filter(|hold| !hold.yields_to_operator()) {
        return Err(Refusal::NotActing { why: hold.to_string() });
    }
    let text = format!("the data that etcd serves are right: {}", wrong.serves);
    draft.tell(&wrong.etcd, EventKind::Request, None, &text, "the operator says so");
    let fresh = etcd_answer::fresh(draft, &wrong.etcd).unwrap_or_else(|| wrong.serves.clone());
    let record = Incarnation { doubted: None, away_since: None, ..fresh };
    draft.memory.incarnations.insert(wrong.etcd.clone(), record);
    // The next pass notes the directory that it serves from.
    if let Some(record) = draft.record_mut(&wrong.etcd) {
        record.data_dir = None;
        record.last_served = None;
    }
    over(draft, &wrong.etcd);
    Ok(())
}

/// The operator wants kube-apiserver to run on these data. False where it is not the one that is stopped.
pub(super) fn release(draft: &mut Draft<'_>, id: &ComponentId) -> bool {
    let Some(wrong) = draft.memory.wrong_data.clone().filter(|_| withheld(&draft.memory) == Some(id)) else {
        return false;
    };
    set_api(draft, ApiStop::Released);
    put_api_back(draft, &wrong);
    draft.tell(id, EventKind::Request, None, "it runs on the data that etcd serves", "the operator asked for it");
    true
}

/// An etcd that serves wrong data is not resumed: it would be held again at once.
pub(super) fn may_resume(draft: &Draft<'_>, id: &ComponentId) -> Result<(), Refusal> {
    let Some(wrong) = draft.memory.wrong_data.as_ref().filter(|wrong| wrong.etcd == *id) else { return Ok(()) };
    let state = draft.record(id).map(|record| record.state.to_string()).unwrap_or_default();
    let why = format!("it serves {} data; next: {}", wrong.kind.word(), next_step(draft, wrong));
    Err(Refusal::NotNow { component: id.clone(), state, why })
}
