//! `lastgood removal-notice`: what the package's prerm prints before lastgood is removed. A manifest that lastgood has
//! taken out of the manifest directory stays out from then on, since nothing is left to deploy it again.
//!
//! ```text
//!   memory ─▶ what it lists as taken out ─▶ what is absent from the manifest directory ─▶ which, why, and one command
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Exit, out};
use crate::config::Settings;
use crate::model::component_state::{Purpose, Replacement};
use crate::model::lineage::{ApiStop, WrongData, WrongDataKind};
use crate::model::{ComponentId, ComponentState, Generation, Memory};
use crate::ops::offline::Offline;

/// Prints it. Whatever is wrong, the package is removed nevertheless: there is nothing to fail for.
pub(super) fn notice(settings: &Settings) -> Exit {
    let Ok(offline) = Offline::open(settings) else { return Exit::Ok };
    let Ok(memory) = offline.memory() else { return Exit::Ok };
    let manifests = offline.manifests_dir();
    let disk = Disk {
        is_in_place: &|name| manifests.join(name).symlink_metadata().is_ok(),
        copy: &|component, generation| offline.copy_of(component, generation),
        manifests: &manifests,
    };
    let text: String = lines(&memory, &disk).iter().map(|line| format!("{line}\n")).collect();
    // A terminal that is gone reads nothing.
    let _ = out::text(&text);
    Exit::Ok
}

/// What the lines go by besides the memory.
struct Disk<'a> {
    /// Whether a file of this name is in the manifest directory.
    is_in_place: &'a dyn Fn(&str) -> bool,
    /// Where the manifest of a generation is kept, byte for byte.
    copy: &'a dyn Fn(&ComponentId, &Generation) -> Option<PathBuf>,
    /// The manifest directory.
    manifests: &'a Path,
}

/// A manifest that lastgood has taken out.
struct Out<'a> {
    component: &'a ComponentId,
    generation: u32,
    why: String,
    /// What comes before the manifest is put back.
    first: Option<&'static str>,
}

/// What the memory says to be out: each component once, for the reason that lasts longest.
fn taken_out(memory: &Memory) -> Vec<Out<'_>> {
    let mut all = Vec::new();
    if let Some(wrong) = &memory.wrong_data
        && let ApiStop::Stopped { component, generation, .. } = &wrong.api
    {
        let first = "bring the data on record back (mount etcd's disk, or correct the path in its manifest)";
        all.push(Out { component, generation: *generation, why: wrong_data(wrong), first: Some(first) });
    }
    for (component, record) in &memory.components {
        if let ComponentState::Replacing(replacement) = &record.state
            && replacement.stage.may_be_out()
        {
            all.push(Out { component, generation: replacement.to, why: replaced(replacement), first: None });
        }
    }
    if let Some(stopped) = &memory.stopped_apiserver {
        let why = format!("it was stopped while the manifest of {} was replaced", stopped.for_component);
        all.push(Out { component: &stopped.component, generation: stopped.generation, why, first: None });
    }
    let mut seen = BTreeSet::new();
    all.retain(|out| seen.insert(out.component));
    all
}

fn wrong_data(wrong: &WrongData) -> String {
    let serves = match wrong.kind {
        WrongDataKind::Empty => "an empty store, not the data on record",
        WrongDataKind::Foreign => "the data of another cluster, not those on record",
        WrongDataKind::Older => "an older copy of the data on record",
        WrongDataKind::Unclear => "earlier data than those on record",
    };
    format!(
        "since {} {} serves {serves}; a kubelet deletes its pods as soon as an API server lists none",
        wrong.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        wrong.etcd
    )
}

fn replaced(replacement: &Replacement) -> String {
    let to = replacement.to;
    match replacement.purpose {
        Purpose::Suspend { .. } => format!("a restore of its data was under way; generation {to} comes back after it"),
        Purpose::RollBack { .. } | Purpose::MoveOutDuplicates { .. } | Purpose::RestoreMissing => {
            format!("it was being replaced by generation {to}: {}", replacement.why)
        }
    }
}

/// The notice; empty where nothing is out.
fn lines(memory: &Memory, disk: &Disk<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for Out { component, generation, why, first } in taken_out(memory) {
        let record = memory.components.get(component);
        let generation = record.and_then(|record| record.generations.get(&generation));
        let Some(name) = generation.map(|generation| &generation.file_name) else { continue };
        // The disk has the last word: the agent's end may have put it back, or the operator.
        if (disk.is_in_place)(name) {
            continue;
        }
        let manifests = disk.manifests.display();
        lines.push(format!(
            "lastgood: {component} stays stopped: lastgood took {name} out of {manifests}, and nothing puts it back once \
             lastgood is removed"
        ));
        lines.push(format!("  why: {why}"));
        let put_back = match generation.and_then(|generation| (disk.copy)(component, generation)) {
            Some(copy) if copy.file_name().is_some_and(|file| file == name.as_str()) => {
                format!("cp {} {manifests}/", copy.display())
            }
            Some(copy) => format!("cp {} {manifests}/{name}", copy.display()),
            None => format!("write {manifests}/{name} again: no copy of it is left"),
        };
        let first = first.map_or(String::new(), |first| format!("{first}; then: "));
        lines.push(format!("  next: {first}{put_back}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::model::component_state::{Stage, Startup};
    use crate::model::generation::{Stored, Trust};
    use crate::model::memory::{ApiServerStopped, Record};
    use crate::model::{Digest, Role};

    const INACTIVE: &str = "/etc/kubernetes/inactive-manifests";
    const API: &str = "kube-apiserver";

    fn memory(slots: &[(&str, Role, ComponentState)]) -> Memory {
        let mut memory = Memory::default();
        for (name, role, slot) in slots {
            let mut record = Record::new(*role, slot.clone());
            record.generations.insert(3, generation(&format!("{name}.yaml")));
            memory.components.insert(name.parse().unwrap(), record);
        }
        memory
    }

    fn generation(file_name: &str) -> Generation {
        let digest = Digest::of(file_name.as_bytes());
        Generation {
            number: 3,
            digest,
            pod_digest: digest,
            raw_digest: digest,
            startup_budget: Duration::ZERO,
            termination_grace: Duration::ZERO,
            file_name: file_name.to_owned(),
            closure: Vec::new(),
            images: BTreeSet::new(),
            ports: BTreeSet::new(),
            data: None,
            minor: None,
            first_seen: Timestamp::UNIX_EPOCH,
            served: None,
            rewritten: 0,
            trust: Trust::Candidate,
            stored: Stored::Yes,
        }
    }

    fn of_masters() -> Memory {
        memory(&[
            ("etcd", Role::Etcd, ComponentState::Steady { good: 3 }),
            (API, Role::ApiServer, ComponentState::Steady { good: 3 }),
        ])
    }

    fn stopped(kind: WrongDataKind) -> WrongData {
        WrongData {
            etcd: "etcd".parse().unwrap(),
            kind,
            since: Timestamp::UNIX_EPOCH,
            serves: serde_json::from_str(
                r#"{"cluster":1,"member":2,"revision":3,"term":2,"at":"2026-01-01T00:00:00Z","version":"3.5.9"}"#,
            )
            .unwrap(),
            api: ApiStop::Stopped {
                component: API.parse().unwrap(),
                generation: 3,
                out: true,
                since: Timestamp::UNIX_EPOCH,
            },
        }
    }

    fn replacing(purpose: Purpose, stage: Stage) -> ComponentState {
        ComponentState::Replacing(Replacement { stage, ..Replacement::new(purpose, 3, "it crashed twice") })
    }

    /// With a manifest directory that holds these.
    fn told(memory: &Memory, stand: &[&str], copies: Option<&str>) -> Vec<String> {
        let copy = |_: &ComponentId, generation: &Generation| {
            copies.map(|dir| Path::new(dir).join(if dir == INACTIVE { &generation.file_name } else { "manifest" }))
        };
        let is_in_place = |name: &str| stand.contains(&name);
        lines(
            memory,
            &Disk { is_in_place: &is_in_place, copy: &copy, manifests: Path::new("/etc/kubernetes/manifests") },
        )
    }

    #[test]
    fn an_api_server_that_is_stopped_over_wrong_data_is_named_with_the_one_command() {
        let mut memory = of_masters();
        memory.wrong_data = Some(stopped(WrongDataKind::Empty));
        assert_eq!(
            told(&memory, &["etcd.yaml"], Some(INACTIVE)),
            [
                "lastgood: kube-apiserver stays stopped: lastgood took kube-apiserver.yaml out of /etc/kubernetes/manifests, \
                 and nothing puts it back once lastgood is removed",
                "  why: since 1970-01-01T00:00:00Z etcd serves an empty store, not the data on record; a kubelet deletes its \
                 pods as soon as an API server lists none",
                "  next: bring the data on record back (mount etcd's disk, or correct the path in its manifest); then: \
                 cp /etc/kubernetes/inactive-manifests/kube-apiserver.yaml /etc/kubernetes/manifests/",
            ]
        );
        let stored = told(&memory, &[], Some("/var/lib/lastgood/generations/kube-system_kube-apiserver/3"));
        let command = "cp /var/lib/lastgood/generations/kube-system_kube-apiserver/3/manifest \
                       /etc/kubernetes/manifests/kube-apiserver.yaml";
        assert!(stored[2].ends_with(command), "{stored:?}");
        assert!(told(&memory, &[], None)[2].ends_with("no copy of it is left"));
    }

    #[test]
    fn nothing_is_said_where_nothing_is_out() {
        let nothing: [String; 0] = [];
        assert_eq!(told(&Memory::default(), &[], Some(INACTIVE)), nothing, "a first start");
        // Deleted by the operator, which is theirs to undo.
        assert_eq!(told(&of_masters(), &[], Some(INACTIVE)), nothing);
        let mut memory = of_masters();
        for api in [ApiStop::NotStopped, ApiStop::Released] {
            memory.wrong_data = Some(WrongData { api, ..stopped(WrongDataKind::Older) });
            assert_eq!(told(&memory, &[], Some(INACTIVE)), nothing);
        }
        // Meant to be taken out, and not out yet; or put back by the operator.
        memory.wrong_data = Some(stopped(WrongDataKind::Empty));
        assert_eq!(told(&memory, &["kube-apiserver.yaml"], Some(INACTIVE)), nothing);
    }

    #[test]
    fn what_a_replacement_took_out_is_named_once() {
        for (stage, named) in [
            (Stage::StoppingApiServer, false),
            (Stage::TakingOut, true),
            (Stage::AwaitingGone, true),
            (Stage::Settling, true),
            (Stage::Suspended, true),
            (Stage::PuttingIn, true),
            (Stage::StoppingOld(Startup::default()), false),
            (Stage::RestartingKubelet(Startup::default()), false),
            (Stage::awaiting_serving(), false),
        ] {
            let purpose = match stage {
                Stage::Suspended => Purpose::Suspend { longest: Duration::from_secs(60) },
                _ => Purpose::roll_back(None),
            };
            let memory = memory(&[("etcd", Role::Etcd, replacing(purpose, stage.clone()))]);
            let told = told(&memory, &[], Some(INACTIVE));
            assert_eq!(told.len(), if named { 3 } else { 0 }, "{stage:?}: {told:?}");
        }
        let mut memory = memory(&[
            ("etcd", Role::Etcd, replacing(Purpose::roll_back(None), Stage::AwaitingGone)),
            (API, Role::ApiServer, ComponentState::Steady { good: 3 }),
        ]);
        memory.stopped_apiserver = Some(ApiServerStopped {
            component: API.parse().unwrap(),
            generation: 3,
            for_component: "etcd".parse().unwrap(),
            age: Duration::ZERO,
        });
        let said = told(&memory, &[], Some(INACTIVE));
        assert_eq!(said.len(), 6, "{said:?}");
        assert_eq!(said[1], "  why: it was being replaced by generation 3: it crashed twice");
        assert_eq!(said[4], "  why: it was stopped while the manifest of etcd was replaced");
        // Stopped around etcd, and then stopped for good: said once.
        memory.wrong_data = Some(stopped(WrongDataKind::Foreign));
        let said = told(&memory, &[], Some(INACTIVE));
        assert_eq!(said.iter().filter(|line| line.contains("kube-apiserver stays stopped")).count(), 1, "{said:?}");
        assert!(said[1].contains("another cluster"), "{said:?}");
    }
}
