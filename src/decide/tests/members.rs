//! The status of etcd members: what is reported, what is never done, and data that regressed.

use super::world::{FOUR, Up, World, id, manifest, member, restored};
use std::time::Duration;

use crate::model::etcd::{Alarm, AlarmKind, Metrics, SLOW_FSYNC};
use crate::model::etcd_history::Growth;
use crate::model::notice::{FeatureNotice, Notice};
use crate::model::observation::Gone;
use crate::model::policy::{Mode, RevisionRegression};
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::{ComponentState, Request, Step, Verdict};

const API: &str = "kube-apiserver";

/// An adopted node whose etcd has been heard.
pub(super) fn heard() -> World {
    let mut world = World::adopted();
    world.etcd_says(|_| {});
    world.run(5);
    world.assert_untouched();
    world
}

/// The operator restores: etcd away for a while, and then another state.
fn restore(world: &mut World, revision: i64) {
    world.pods.remove(&id("etcd"));
    let text = world.files.remove("etcd.yaml").unwrap();
    world
        .gone
        .insert("etcd.yaml".into(), crate::model::observation::Gone::Moved { to: Some("/root/etcd.yaml".into()) });
    world.run(5);
    world.files.insert("etcd.yaml".into(), text);
    world.gone.clear();
    world.origin = restored(2);
    world.etcd_says(|status| {
        status.agreed.as_mut().unwrap().revision = revision;
        status.own.as_mut().unwrap().revision = revision;
    });
}

pub(super) fn stopped(world: &World) -> Vec<String> {
    let stop = |step: &Step| match step {
        Step::StopContainer { component, .. } => Some(component.name().to_owned()),
        _ => None,
    };
    world.steps.iter().filter_map(stop).collect()
}

pub(super) fn alarm(world: &mut World, kind: AlarmKind, member: u64) {
    world.etcd_says(|status| status.own.as_mut().unwrap().alarms = vec![Alarm { member, kind }]);
}

#[test]
fn a_world_that_went_back_is_told_once_and_who_died_with_the_old_one_is_not_stopped_again() {
    let mut world = heard();
    restore(&mut world, 400);
    world.run(120);
    let told =
        world.events.iter().filter(|event| event.to_string().contains("data regressed from revision 1000")).count();
    assert!(world.says("to revision 400"), "{}", world.story());
    assert_eq!(told, 1 + 1, "at its beginning, and as the reason of its end: {}", world.story());
    assert!(world.says("every component of this node has been restarted since"), "{}", world.story());
    assert!(world.memory.went_back.is_none());
    assert_eq!(stopped(&world), Vec::<String>::new(), "whoever needs etcd ended with it: {}", world.story());
    let steps = world.steps.len();
    world.restart_agent();
    world.run(120);
    assert_eq!(world.steps.len(), steps, "never twice: {:?}", world.steps);
}

/// The API server has outlived the restore: nothing of this small world ends it when etcd goes.
fn went_back_under_a_living_api_server(world: &mut World) {
    world.origin = restored(2);
    world.etcd_says(|status| {
        let (own, agreed) = (status.own.as_mut().unwrap(), status.agreed.as_mut().unwrap());
        (own.revision, agreed.revision, agreed.term) = (400, 400, 5);
    });
    world.pods.get_mut(&id("etcd")).unwrap().attempt += 1;
    let now = world.moment().wall;
    world.pods.get_mut(&id("etcd")).unwrap().started = now;
}

#[test]
fn each_is_stopped_once_and_the_next_only_when_it_serves_again() {
    let mut world = heard();
    went_back_under_a_living_api_server(&mut world);
    world.until(20, "the API server stopped", |world| stopped(world).contains(&API.to_owned()));
    assert_eq!(stopped(&world), [API], "one at a time");
    // The agent dies in the middle of it.
    world.restart_agent();
    world.run(200);
    assert_eq!(stopped(&world), &FOUR[1..], "in order, and each once: {}", world.story());
    assert!(world.memory.went_back.is_none(), "{}", world.story());
    assert!(matches!(world.state(API), ComponentState::Steady { good: 1 }), "it is no fault of its generation");
}

#[test]
fn one_answer_of_less_decides_nothing_nor_does_the_same_answer_again() {
    let mut world = heard();
    went_back_under_a_living_api_server(&mut world);
    world.etcd_answered = Some(world.seconds + 1);
    world.run(5);
    assert!(!world.noticed("etcd", Notice::RevisionRegression), "one answer, looked at five times: {}", world.story());
    world.etcd_answered = None;
    world.etcd_says(|status| status.agreed.as_mut().unwrap().revision = 1001);
    world.run(60);
    world.assert_untouched();
    assert!(!world.noticed("etcd", Notice::RevisionRegression), "{}", world.story());
}

#[test]
fn never_5_a_member_that_lags_and_has_no_quorum_is_not_the_past() {
    let mut world = heard();
    world.etcd_says(|status| {
        (status.own.as_mut().unwrap().revision, status.agreed) = (10, crate::model::EtcdStatus::default().agreed);
    });
    world.run(60);
    world.assert_untouched();
    assert!(!world.noticed("etcd", Notice::RevisionRegression), "{}", world.story());
}

#[test]
fn a_restore_whose_revisions_have_overtaken_is_betrayed_by_its_term() {
    let mut world = heard();
    went_back_under_a_living_api_server(&mut world);
    world.etcd_says(|status| {
        let agreed = status.agreed.as_mut().unwrap();
        (agreed.revision, agreed.term) = (5000, 2);
    });
    world.run(10);
    assert!(world.says("in term 5") && world.says("in term 2"), "{}", world.story());
}

#[test]
fn q7_another_cluster_under_the_same_manifest_is_another_world_and_a_member_that_joined_anew_is_not() {
    let mut world = heard();
    world.etcd_says(|status| status.agreed.as_mut().unwrap().member = 9);
    world.run(20);
    assert!(world.says("serves as member 9"), "{}", world.story());
    world.assert_untouched();
    went_back_under_a_living_api_server(&mut world);
    world.etcd_says(|status| {
        let agreed = status.agreed.as_mut().unwrap();
        (agreed.cluster, agreed.revision) = (0xc2, 90_000);
    });
    world.run(20);
    assert!(world.says("of cluster c1") && world.says("of cluster c2"), "{}", world.story());
    assert_eq!(stopped(&world).first().map(String::as_str), Some(API));
}

/// Whoever removed it may be about to take this node away: its etcd ends by itself, and stays as it is.
#[test]
fn q7_a_member_that_somebody_removed_is_not_helped_back() {
    let mut world = heard();
    let pod = world.pods.get_mut(&id("etcd")).unwrap();
    (pod.up, pod.next_start) = (Up::Exited, u64::MAX);
    // A kubelet that makes no further attempt is restarted for that, whatever the member is.
    let helped = |world: &World| {
        let of_member = |step: &&Step| step.touches_node() && !matches!(step, Step::RestartKubelet);
        world.steps.iter().filter(of_member).count()
    };
    world.run(300);
    assert_eq!(helped(&world), 0, "{}", world.story());
    assert_eq!(world.state("etcd").word(), "Steady", "{}", world.story());
    // They take its manifest away, too.
    world.remove("etcd.yaml", Gone::Moved { to: Some("/root/etcd.yaml".into()) });
    world.run(300);
    assert_eq!(helped(&world), 0, "{}", world.story());
}

#[test]
fn a_process_that_started_while_etcd_was_away_needs_no_restart() {
    let mut world = heard();
    for name in FOUR {
        world.pods.remove(&id(name));
        world.files.remove(&format!("{name}.yaml"));
        world
            .gone
            .insert(format!("{name}.yaml"), crate::model::observation::Gone::Moved { to: Some("/root/x".into()) });
    }
    world.run(5);
    // The API server comes first, and etcd some seconds later.
    world.write("kube-apiserver.yaml", &manifest(API, ""));
    world.run(2);
    for name in FOUR {
        world.write(&format!("{name}.yaml"), &manifest(name, ""));
    }
    world.origin = restored(2);
    world.etcd_says(|status| {
        (status.own.as_mut().unwrap().revision, status.agreed.as_mut().unwrap().revision) = (400, 400);
    });
    world.run(120);
    assert!(world.noticed("etcd", Notice::RevisionRegression), "{}", world.story());
    assert_eq!(stopped(&world), Vec::<String>::new(), "{}", world.story());
    assert!(world.memory.went_back.is_none());
}

#[test]
fn it_is_only_told_by_configuration_and_where_other_masters_are() {
    for several in [false, true] {
        let mut world = heard();
        if several {
            world.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
        } else {
            world.policy.on_revision_regression = RevisionRegression::Report;
        }
        went_back_under_a_living_api_server(&mut world);
        world.run(60);
        assert!(world.says("kube-apiserver, then kube-controller-manager"), "{}", world.story());
        world.assert_untouched();
        // The operator does it, as they like.
        for name in &FOUR[1..] {
            let now = world.moment().wall;
            world.pods.get_mut(&id(name)).unwrap().started = now;
        }
        world.run(20);
        assert!(world.memory.went_back.is_none(), "{}", world.story());
    }
}

#[test]
fn a_pause_and_observe_mode_hold_it_and_afterwards_it_goes_on() {
    let mut world = heard();
    world.ask(&Request::Pause { seconds: 300, reason: String::new() }).unwrap();
    went_back_under_a_living_api_server(&mut world);
    world.run(100);
    world.assert_untouched();
    assert!(world.noticed("etcd", Notice::RestartsWait), "{}", world.story());
    world.ask(&Request::Resume { component: None }).unwrap();
    world.run(100);
    assert_eq!(stopped(&world).first().map(String::as_str), Some(API));

    let mut world = heard();
    world.policy.mode = Mode::Observe;
    went_back_under_a_living_api_server(&mut world);
    world.run(100);
    world.assert_untouched();
}

#[test]
fn a_spent_budget_is_waited_for() {
    let mut world = heard();
    world.policy.actions_per_hour = 0;
    went_back_under_a_living_api_server(&mut world);
    world.run(60);
    world.assert_untouched();
    assert!(world.noticed("etcd", Notice::RestartsWait), "{}", world.story());
}

#[test]
fn n17_nospace_is_the_named_cause_for_etcd_and_for_an_api_server_candidate_and_nothing_is_rolled_back() {
    let mut world = heard();
    alarm(&mut world, AlarmKind::NoSpace, 1);
    world.run(5);
    assert!(world.noticed("etcd", Notice::EtcdNoSpace), "{}", world.story());
    world.write("kube-apiserver.yaml", &manifest(API, "--crash"));
    world.run(900);
    assert!(matches!(world.state(API), ComponentState::Probation(_)), "{}\n{}", world.state(API), world.story());
    assert_eq!(world.crashes(API), Some(0), "{}", world.story());
    assert!(matches!(world.state("etcd"), ComponentState::Steady { good: 1 }));
    world.assert_untouched();
    world.etcd_says(|status| status.own.as_mut().unwrap().alarms.clear());
    world.until(120, "its own fault counts again", |world| {
        matches!(world.state(API), ComponentState::Steady { good: 1 })
    });
    assert!(!world.memory.components[&id("etcd")].notices.contains_key(&Notice::EtcdNoSpace));
}

#[test]
fn corrupt_holds_etcd_for_a_person() {
    for whose in [1, 3] {
        let mut world = heard();
        world.etcd_says(|status| status.members = Some(vec![member(1), member(2), member(3)]));
        alarm(&mut world, AlarmKind::Corrupt, whose);
        world.run(30);
        assert!(matches!(world.state("etcd"), ComponentState::Held(_)), "{}", world.state("etcd"));
        let name = if whose == 1 { "the data of this member" } else { "the data of m3" };
        assert!(world.says(name), "{}", world.story());
        world.assert_untouched();
        world.etcd_says(|status| status.own.as_mut().unwrap().alarms.clear());
        world.run(5);
        world.ask(&Request::Resume { component: Some(id("etcd")) }).unwrap();
        world.run(30);
        assert!(!matches!(world.state("etcd"), ComponentState::Held(_)), "{}", world.state("etcd"));
    }
}

#[test]
fn a_slow_disk_a_full_database_and_versions_apart_are_told_once_and_cleared() {
    let mut world = heard();
    world.etcd_says(|status| {
        status.metrics = Some(Metrics { fsync: vec![SLOW_FSYNC; 3], quota: Some(21 << 20), ..Metrics::default() });
        let mut other = status.own.clone().unwrap();
        (other.version, other.member) = ("3.4.23".to_owned(), 2);
        status.others.insert(2, Ok(other));
        status.others.insert(3, Err(Symptom::new(SymptomKind::TimedOut, "did not answer")));
    });
    world.run(30);
    for words in ["above 512 ms", "20 MiB of the 21 MiB", "runs 3.4.23"] {
        let told = world.events.iter().filter(|event| event.to_string().contains(words)).count();
        assert_eq!(told, 1, "{words}: {}", world.story());
    }
    assert_eq!(world.memory.components[&id("etcd")].verdict.unwrap().0, Verdict::Healthy);
    world.assert_untouched();
    world.etcd_says(|status| {
        (status.metrics, status.others) = (None, Default::default());
    });
    world.run(2);
    let left = &world.memory.components[&id("etcd")].notices;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(world.pods[&id("etcd")].up, Up::Running);
}

/// What is reported growth, when the database of a gigabyte's quota grew so many MiB within six hours.
fn grown(mebibytes: u64) -> World {
    let mut world = heard();
    let (size, quota) = (500 << 20, 1 << 30);
    world.etcd_says(|status| {
        status.own.as_mut().unwrap().db_size = Some(size);
        status.metrics = Some(Metrics { quota: Some(quota), ..Metrics::default() });
    });
    let over = Duration::from_secs(6 * 3600);
    world.growth.insert(id("etcd"), Growth { from: size - (mebibytes << 20), to: size, over });
    world.run(30);
    world
}

#[test]
fn growth_that_reaches_the_quota_within_days_is_told_once_with_the_next_step() {
    let mut world = grown(60);
    let told = |world: &World| {
        world.events.iter().filter(|event| event.to_string().contains("at that rate it reaches its quota")).count()
    };
    assert_eq!(told(&world), 1, "{}", world.story());
    assert!(world.says("grew from 440 to 500 MiB in 6 h") && world.says("in 52 h"), "{}", world.story());
    world.growth.clear();
    world.run(5);
    assert!(!world.memory.components[&id("etcd")].notices.contains_key(&Notice::EtcdGrowth));
    world.assert_untouched();
    assert_eq!(told(&grown(1)), 0, "it takes weeks");
    assert_eq!(told(&grown(0)), 0);
}

#[test]
fn a_notice_of_a_feature_is_told_once_while_it_lasts_and_taken_back_when_it_is_over() {
    let mut world = heard();
    let notice = |text: Option<&str>| FeatureNotice {
        component: id("etcd"),
        about: Notice::SnapshotOld,
        text: text.map(ToOwned::to_owned),
    };
    let shown = |world: &World| world.memory.components[&id("etcd")].notices.contains_key(&Notice::SnapshotOld);
    world.notices = vec![notice(Some("the newest is 20 min old"))];
    world.run(10);
    world.notices = vec![notice(Some("the newest is 21 min old"))];
    world.run(10);
    let told = world.events.iter().filter(|event| event.to_string().contains("the newest is")).count();
    assert_eq!((told, shown(&world)), (1, true), "{}", world.story());
    world.notices = vec![notice(None)];
    world.run(5);
    assert!(!shown(&world), "{}", world.story());
    world.assert_untouched();
}
