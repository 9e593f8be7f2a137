//! What the values say of each situation; what the printers make of them is in tests/golden.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::golden;
use super::input::Process;
use super::situations::{scene, scenes};
use super::state::{StageView, State};
use super::status::{ProofView, Status, is_of_note};
use super::testing::{Scene, at, event, generation, id, now, planned, rollback, snapshots};
use super::{Explanation, Format, History, Paint, systemd_line};
use crate::model::component_state::{Purpose, Replacement, Stage};
use crate::model::event::EventKind;
use crate::model::format::NewerFile;
use crate::model::inhibitor::Inhibitor;
use crate::model::memory::{Pause, Pin};
use crate::model::overall::Overall;
use crate::model::policy::Mode;
use crate::model::snapshot::Undecryptable;
use crate::model::{ComponentState, Request, Snapshots, Trust, Verdict};

/// Texts under their titles, as one golden file.
fn story(sections: impl Iterator<Item = (String, String)>) -> String {
    sections.fold(String::new(), |mut story, (title, text)| {
        let gap = if story.is_empty() { "" } else { "\n" };
        let _ = writeln!(story, "{gap}#### {title}\n\n{}", text.trim_end());
        story
    })
}

#[test]
fn the_texts_of_status() {
    let sections = scenes().map(|(name, _, scene)| {
        let status = scene.status();
        (name.to_owned(), format!("{}\nSTATUS={}", status.text(Paint::Plain), systemd_line(&status)))
    });
    golden::same("status", &story(sections));
}

#[test]
fn the_texts_of_explain() {
    let known = scenes().filter(|(.., scene)| !scene.memory.components.is_empty());
    let sections = known.map(|(name, component, scene)| (name.to_owned(), scene.explanation(component).text(now())));
    golden::same("explain", &story(sections));
}

#[test]
fn the_texts_of_history() {
    let sections = ["a quarantined generation", "a pinned generation", "a rollback"].map(|name| {
        let (_, component, scene) = scenes().find(|(called, ..)| *called == name).unwrap();
        (name.to_owned(), History::new(&scene.memory, &id(component), scene.last.clone()).text())
    });
    golden::same("history", &story(sections.into_iter()));
}

#[test]
fn how_the_node_does_as_a_whole() {
    for (name, overall) in [
        ("all is well", Overall::Good),
        ("adopted after its soak", Overall::Changing),
        ("adopting, and it fails", Overall::Ailing),
        ("a candidate that waits for etcd", Overall::Ailing),
        ("files that the process has not read", Overall::Changing),
        ("unknown", Overall::Unknown),
        ("held", Overall::Held),
        ("etcd serves an empty store", Overall::Held),
        ("observe mode", Overall::Good),
        ("no agent", Overall::Unknown),
        ("no component is known", Overall::Unknown),
    ] {
        let status = scene(name).status();
        assert_eq!(status.overall, overall, "{name}");
        assert_eq!(status.is_well(), matches!(overall, Overall::Good | Overall::Changing), "{name}");
    }
}

#[test]
fn where_each_component_is() {
    for (name, component, state, proof) in [
        ("all is well", "etcd", State::Steady, ProofView::KnownGood),
        ("adopted after its soak", "etcd", State::Adopting, ProofView::OnTrial),
        (
            "adopting, and the process has not read what is deployed",
            "kube-apiserver",
            State::Adopting,
            ProofView::Unproven,
        ),
        ("a candidate that waits for etcd", "kube-apiserver", State::Probation, ProofView::OnTrial),
        ("files that the process has not read", "kube-apiserver", State::Unread, ProofView::Unproven),
        ("a rollback", "kube-apiserver", State::RollingBack, ProofView::OnTrial),
        ("a restore", "etcd", State::Suspended, ProofView::KnownGood),
        ("deleted", "kube-scheduler", State::Missing, ProofView::KnownGood),
        ("held", "kube-apiserver", State::Held, ProofView::KnownGood),
        ("etcd serves an empty store", "kube-apiserver", State::Stopped, ProofView::KnownGood),
    ] {
        let found = scene(name).component(component);
        assert_eq!((found.state, found.proof), (state, proof), "{name}");
        assert_eq!(found.held.is_some(), state == State::Held, "{name}");
    }
    let states: BTreeSet<String> =
        scenes().flat_map(|(.., scene)| scene.status().components).map(|c| c.state.to_string()).collect();
    assert_eq!(states.len(), State::ALL.len(), "a situation for every state: {states:?}");
}

#[test]
fn the_manual_has_every_word_of_a_status() {
    let Ok(manual) = std::fs::read_to_string(golden::in_tree("packaging/man/lastgood-behavior.7")) else { return };
    let words = |from: &str| -> BTreeSet<String> {
        let section = manual.split_once(&format!(".SS {from}")).map_or("", |(_, section)| section);
        let section = section.split_once(".EE").map_or("", |(section, _)| section);
        section.lines().filter_map(|line| line.split_once("  ")).map(|(word, _)| word.to_owned()).collect()
    };
    let overall = [Overall::Good, Overall::Changing, Overall::Unknown, Overall::Ailing, Overall::Held];
    assert_eq!(words("The node"), overall.iter().map(ToString::to_string).collect());
    assert_eq!(words("States"), State::ALL.iter().map(ToString::to_string).collect());
    let verdicts =
        [Verdict::Healthy, Verdict::Starting, Verdict::Failing, Verdict::Stalled, Verdict::Down, Verdict::Unknown];
    assert_eq!(words("Verdicts"), verdicts.iter().map(ToString::to_string).collect());
}

#[test]
fn the_components_are_in_the_order_of_dependence() {
    let names: Vec<String> = Scene::new().status().components.iter().map(|c| c.component.to_string()).collect();
    assert_eq!(names, ["etcd", "kube-apiserver", "kube-scheduler"]);
}

#[test]
fn a_trial_and_a_replacement_tell_how_far_they_are() {
    let waiting = scene("a candidate that waits for etcd").component("kube-apiserver");
    let trial = waiting.trial.unwrap();
    assert_eq!((trial.healthy_seconds, trial.soak_seconds, trial.crashes), (0, 300, 1));
    assert_eq!(trial.deadline_seconds_left, Some(200));
    assert_eq!((waiting.generation, waiting.known_good), (Some(2), Some(1)));
    let adopting = scene("adopted after its soak").component("etcd");
    assert_eq!(adopting.trial.unwrap().deadline_seconds_left, None);
    assert_eq!(adopting.known_good, None);
    let replacement = scene("a rollback").component("kube-apiserver").replacement.unwrap();
    assert_eq!((replacement.from, replacement.to, replacement.suspended), (Some(2), 1, false));
    assert_eq!(replacement.stage, StageView::AwaitingServing);
    assert!(scene("a restore").component("etcd").replacement.unwrap().suspended);
}

#[test]
fn what_keeps_the_agent_from_acting_is_said_once() {
    let status = scene("held, paused, and kubeadm at work").status();
    assert_eq!(status.pause.unwrap().seconds_left, 25 * 60 + 30);
    assert_eq!(status.holds.len(), 1, "kubeadm, as the pause has a field");
    assert_eq!(status.notices.len(), 2);
    assert_eq!(scene("observe mode").status().mode, Mode::Observe);
    assert!(scene("observe mode").status().holds.is_empty());
}

#[test]
fn the_restarts_of_what_runs_the_components_are_told_with_what_is_left_of_them() {
    let mut scene = Scene::new();
    scene.policy.kubelet_restarts_per_hour = 3;
    scene.policy.runtime_restarts_per_hour = 1;
    scene.memory.kubelet_restarts = [Duration::ZERO].into();
    scene.memory.runtime_restarts = [Duration::ZERO, Duration::ZERO].into();
    let restarts = scene.status().restarts;
    assert_eq!((restarts.kubelet.spent, restarts.kubelet.left), (1, 2));
    assert_eq!((restarts.runtime.spent, restarts.runtime.left), (2, 0), "a limit that was lowered meanwhile");
}

#[test]
fn what_a_status_ends_with() {
    let state = |from: Option<&str>, to: &str| event(EventKind::State, "etcd", from, to, "x");
    for (event, of_note) in [
        (state(None, "Steady(generation 1)"), false),
        (state(Some("Steady(generation 1)"), "RollingBack(to generation 1)"), true),
        (state(Some("Suspended(generation 1 comes back)"), "Steady(generation 1)"), true),
        (state(Some("Steady(generation 1)"), "Held"), true),
        (state(Some("Missing"), "Steady(generation 1)"), true),
        (state(Some("Steady(generation 1)"), "Probation(generation 2)"), false),
        (event(EventKind::Action, "etcd", None, "put generation 1 in", "x"), true),
        (event(EventKind::Notice, "etcd", None, "Held", "x"), false),
    ] {
        assert_eq!(is_of_note(&event), of_note, "{event}");
    }
}

#[test]
fn machines_get_the_same_value_and_it_comes_back() {
    let status = scene("a candidate that has served for a minute").status();
    let json = Format::Json.print(&status, |_| String::new()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["apiVersion"], &value["kind"]), (&super::API_VERSION.into(), &"Status".into()));
    assert_eq!(value["components"][0]["component"], "etcd");
    assert_eq!(value["components"][0]["state"], "Probation");
    assert_eq!(value["components"][0]["trial"]["soak_seconds"], 300);
    assert_eq!(value["components"][0]["trial"]["healthy_seconds"], 60);
    assert_eq!((&value["overall"], &value["mode"]), (&"changing".into(), &"act".into()));
    let yaml = Format::Yaml.print(&status, |_| String::new()).unwrap();
    assert!(yaml.starts_with("apiVersion: lastgood/"), "{yaml}");
    assert_eq!(serde_yaml::from_str::<Status>(&yaml).unwrap(), status);
}

#[test]
fn colours_are_for_terminals_alone() {
    let status = Scene::new().status();
    assert!(!status.text(Paint::Plain).contains('\x1b'));
    assert!(status.text(Paint::Colours).contains("\x1b[1;32mGood\x1b[0m"));
}

#[test]
fn explain_and_history_show_every_generation_the_newest_first() {
    let scene = scene("a quarantined generation");
    let explanation = scene.explanation("kube-apiserver");
    let history = History::new(&scene.memory, &id("kube-apiserver"), scene.last.clone());
    assert_eq!(explanation.generations, history.generations);
    assert_eq!((explanation.events, explanation.verdict), (history.events, Verdict::Healthy));
    let rows = serde_json::to_value(&history.generations).unwrap();
    assert_eq!(
        (&rows[0]["number"], &rows[0]["standing"], &rows[0]["place"]),
        (&2.into(), &"quarantined".into(), &"".into())
    );
    assert_eq!((&rows[1]["standing"], &rows[1]["place"]), (&"known-good".into(), &"deployed".into()));
    assert_eq!(Explanation::new(scene.material(), &id("nobody"), Vec::new()), None);
}

#[test]
fn a_pinned_generation_is_shown_wherever_generations_are() {
    let pinned = scene("a pinned generation");
    let json = serde_json::to_value(pinned.status()).unwrap();
    assert_eq!(json["components"][0]["pinned"]["generation"], 1);
    assert_eq!(json["components"][0]["known_good"], 1);
    assert!(json["components"][1].get("pinned").is_none());
    let explanation = pinned.explanation("etcd");
    assert_eq!(explanation.pinned.unwrap().generation, 1);
    assert_eq!(explanation.generations.iter().map(|row| row.pinned).collect::<Vec<_>>(), [false, true]);
    let itself = scene("the pinned generation itself on trial").component("etcd");
    assert_eq!(itself.known_good, Some(2), "it goes back to the other");
}

#[test]
fn the_texts_of_plans() {
    let mut scene = Scene::new();
    let before = scene.memory.clone();
    let of = |component: &str| (id(component), None, String::new());
    let mut sections = Vec::new();
    let mut add = |title: &str, text: String| sections.push((title.to_owned(), text));

    let (component, number, reason) = of("etcd");
    let checkpoint = Request::Checkpoint { component: component.clone(), reason: reason.clone() };
    add("checkpoint etcd", planned(&checkpoint, &before, &before).text());
    let pause = Request::Pause { seconds: 5400, reason: reason.clone() };
    add("pause --for 1h30m", planned(&pause, &before, &before).text());
    let resume = Request::Resume { component: None };
    add("resume", planned(&resume, &before, &before).text());
    let mut held = super::situations::scene("held").memory;
    add("resume of what is held", planned(&resume, &held, &before).text());
    let released = held.clone();
    held.pause = Some(Pause { until: now(), reason: reason.clone(), warned: false });
    add("resume, which ends a pause", planned(&resume, &held, &released).text());
    scene.record("etcd").pinned = Some(Pin { generation: 1, reason: reason.clone(), since: now() });
    let pinned = scene.memory.clone();
    let pin = Request::Pin { component: component.clone(), number, reason: reason.clone() };
    add("pin etcd", planned(&pin, &before, &pinned).text());
    add("checkpoint etcd, which is pinned", planned(&checkpoint, &pinned, &pinned).text());
    let unpin = Request::Unpin { component: component.clone() };
    add("unpin etcd", planned(&unpin, &pinned, &before).text());

    let mut scene = Scene::new();
    scene.candidate("etcd");
    let before = scene.memory.clone();
    let quarantined = Trust::Quarantined { why: "a person says so".to_owned(), since: now() };
    scene.record("etcd").generations.insert(2, generation("etcd", 2, quarantined));
    let quarantine = Request::Quarantine { component: component.clone(), number, reason };
    let marked = planned(&quarantine, &before, &scene.memory);
    assert!(!marked.replaces());
    add("quarantine etcd, where nothing is rolled back", marked.text());
    scene.record("etcd").state = ComponentState::Replacing(rollback(Stage::PuttingIn));
    let reverted = planned(&quarantine, &before, &scene.memory);
    assert!(reverted.replaces());
    add("quarantine etcd", reverted.text());
    let release = Request::Release { component: component.clone(), number: Some(2) };
    add("release etcd 2", planned(&release, &scene.memory, &before).text());

    let purpose = Purpose::MoveOutDuplicates { files: vec!["etcd.yaml.bak".to_owned()] };
    scene.record("etcd").state =
        ComponentState::Replacing(Replacement { purpose, ..rollback(Stage::StoppingApiServer) });
    let request = Request::Rollback { component, to: None };
    let stopping = planned(&request, &before, &scene.memory);
    assert_eq!(stopping.away_seconds, Some((13, 35)), "without an API server to ask");
    add("rollback etcd", stopping.text());
    golden::same("rollback-dry-run", &story(sections.into_iter()));
}

#[test]
fn the_systemd_line_is_one_line_without_a_clock() {
    let mut scene = Scene::new();
    let mut probation = scene.candidate("etcd");
    scene.record("etcd").state = ComponentState::Probation(probation.clone());
    let first = systemd_line(&scene.status());
    probation.age = Duration::from_secs(5);
    scene.record("etcd").state = ComponentState::Probation(probation);
    assert_eq!(first, systemd_line(&scene.status()), "it would be sent at every pass");
    scene.inhibitors.push(Inhibitor::ReadOnly { why: "read-only\nfile system".to_owned() });
    assert!(!systemd_line(&scene.status()).contains('\n'));
}

#[test]
fn a_newer_lastgoods_file_is_named_wherever_a_person_looks_and_counted_for_a_machine() {
    let mut scene = Scene::new();
    let file = NewerFile { path: "/var/lib/lastgood/memory.json".into(), version: 9, known: 2 };
    scene.inhibitors.push(Inhibitor::NewerState { files: vec![file.clone()] });
    let status = scene.status();
    assert_eq!((status.overall, status.is_well()), (Overall::Held, false));
    assert_eq!(status.holds.len(), 1);
    let shown = file.to_string();
    assert!(["/var/lib/lastgood/memory.json", "9", "2"].iter().all(|part| shown.contains(part)), "{shown}");
    for said in [status.text(Paint::Plain), systemd_line(&status)] {
        assert!(said.contains(&shown), "{said}");
    }
    assert!(status.metrics().contains("\nlastgood_holds 1\n"));
}

#[test]
fn the_status_shows_the_newest_snapshot() {
    let mut scene = Scene::new();
    assert_eq!(scene.status().snapshots, None, "no etcd of its own");
    scene.features.snapshots = Some(snapshots());
    let shown = scene.status().snapshots.unwrap();
    let newest = shown.newest.unwrap();
    assert_eq!((newest.age_seconds, newest.revision, shown.late), (720, 123, false));
    assert_eq!((shown.verified, shown.unverified, shown.remote), (14, vec!["b.db".to_owned()], None));
    let shown = super::situations::scene("snapshots here and in object storage").status().snapshots.unwrap();
    let remote = shown.remote.unwrap();
    assert_eq!((remote.behind, remote.failing_since), (false, Some(at("19:58:00"))));
}

#[test]
fn values_that_the_api_server_cannot_decrypt_are_no_healthy_node() {
    let mut scene = Scene::new();
    let kept = |undecryptable| Some(Snapshots { undecryptable, ..snapshots() });
    scene.features.snapshots = kept(None);
    assert!(scene.status().is_well());
    scene.features.snapshots = kept(Some(Undecryptable {
        since: at("19:58:00"),
        values: 412,
        keys: vec!["aescbc key1".to_owned()],
        what: Vec::new(),
        next: String::new(),
    }));
    let status = scene.status();
    assert_eq!((status.overall, status.is_well()), (Overall::Ailing, false));
    let shown = status.text(Paint::Plain);
    assert!(shown.contains("412 values") && shown.contains("aescbc key1"), "{shown}");
    assert!(status.metrics().contains("\nlastgood_etcd_values_undecryptable 412\n"));
}

#[test]
fn without_an_agent_it_is_what_was_known_last() {
    let status = scene("no agent").status();
    assert_eq!(status.agent.process, Process::Stopped);
    assert!(status.components.iter().all(|c| c.verdict == Verdict::Healthy && c.state == State::Steady));
}
