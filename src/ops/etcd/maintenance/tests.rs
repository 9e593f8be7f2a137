//! The rules by table; and real etcds 3.4, 3.5 and the newest that is installed, alone and three together, with mutual TLS: filled to their quota,
//! compacted, defragmented, disarmed, and written to again.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use etcd_client::Client;
use nix::sys::signal::{Signal, raise};
use tokio::time::{Instant, sleep};

use super::rules::{Refused, Why};
use super::run::Interrupted;
use super::*;
use crate::model::etcd::{Alarm, AlarmKind, Member, MemberStatus};
use crate::model::kubelet_probe::LivenessLimit;
use crate::observe;
use crate::observe::testing::{Pki, newest_etcd};
use crate::ops::etcd::maintenance::look::Asked;
use crate::snapshots::tests::real;

const MIB: u64 = 1 << 20;
const QUOTA: u64 = 16 * MIB;
const FLAGS: [&str; 1] = ["--quota-backend-bytes=16777216"];
const SOON: Duration = Duration::from_secs(60);

// The rules.

fn status(id: u64) -> MemberStatus {
    MemberStatus {
        version: "3.5.16".to_owned(),
        cluster: 7,
        member: id,
        leader: Some(1),
        term: 2,
        raft_index: 100,
        applied_index: Some(100),
        revision: 5000,
        db_size: Some(10 * MIB),
        db_in_use: Some(5 * MIB),
        quota: None,
        learner: false,
        alarms: Vec::new(),
        errors: Vec::new(),
    }
}

/// Members `m1`, `m2` … of which `m1` leads, and `m2`, or the only one, is the one of this node.
fn cluster(size: u64) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let asked = |id: u64| Asked {
        member: Member { id, name: format!("m{id}"), peer_urls: Vec::new(), client_urls: Vec::new(), learner: false },
        endpoints: Vec::new(),
        answer: Ok(status(id)),
        unread: None,
    };
    Cluster {
        own: size.min(2),
        endpoint: Pki::new(dir.path()).way(1, "client"),
        members: (1..=size).map(asked).collect(),
        revision: Ok(5000),
        mark: Some(4000),
    }
}

fn here() -> Here {
    let limit = LivenessLimit {
        path: Some("/livez".to_owned()),
        ends_after: Duration::from_secs(85),
        threshold: 8,
        period: Duration::from_secs(10),
    };
    Here {
        quota: Some(QUOTA),
        room: Some(100 * MIB),
        data_dir: Some("/var/lib/etcd".into()),
        limit: Some(limit.clone()),
        apiserver: Some(limit),
        manifest: "/etc/kubernetes/manifests/etcd.yaml".to_owned(),
        etcdctl: "crictl exec ID etcdctl".to_owned(),
    }
}

fn raise_alarm(cluster: &mut Cluster, member: u64, kind: AlarmKind) {
    for asked in &mut cluster.members {
        if let Ok(status) = &mut asked.answer {
            status.alarms.push(Alarm { member, kind: kind.clone() });
        }
    }
}

fn silence(cluster: &mut Cluster, id: u64) {
    cluster.members.iter_mut().find(|asked| asked.member.id == id).unwrap().answer = Err("it timed out".to_owned());
}

/// It answers for its status, and no read.
fn hang(cluster: &mut Cluster, id: u64) {
    let why = "it timed out".to_owned();
    cluster.members.iter_mut().find(|asked| asked.member.id == id).unwrap().unread = Some(why);
}

fn own(cluster: &mut Cluster) -> &mut MemberStatus {
    let own = cluster.own;
    cluster.members.iter_mut().find(|asked| asked.member.id == own).unwrap().answer.as_mut().unwrap()
}

fn why<T: std::fmt::Debug>(answer: Result<T, Refused>) -> Option<Why> {
    if let Err(refused) = &answer {
        assert!(refused.sentence.contains("; next: "), "{refused:?}");
    }
    answer.err().map(|refused| refused.why)
}

type Edit = fn(&mut Cluster, &mut Here);

#[test]
fn a_defragmentation_of_the_own_member_is_refused_where_it_would_do_harm() {
    let rows: &[(&str, u64, Edit, Option<Why>)] = &[
        ("three that are well", 3, |_, _| {}, None),
        ("a single member", 1, |_, _| {}, None),
        ("two members", 2, |_, _| {}, None),
        ("one of two is down", 2, |c, _| silence(c, 1), Some(Why::Quorum)),
        ("one of three is down", 3, |c, _| silence(c, 3), Some(Why::Quorum)),
        ("one of five is down", 5, |c, _| silence(c, 5), None),
        (
            "two of five are down",
            5,
            |c, _| {
                silence(c, 4);
                silence(c, 5);
            },
            Some(Why::Quorum),
        ),
        (
            "a member follows another leader",
            3,
            |c, _| c.members[2].answer.as_mut().unwrap().leader = Some(9),
            Some(Why::Quorum),
        ),
        (
            "a learner is down",
            4,
            |c, _| {
                c.members[3].member.learner = true;
                silence(c, 4);
            },
            None,
        ),
        (
            "no leader",
            3,
            |c, _| {
                for asked in &mut c.members {
                    asked.answer.as_mut().unwrap().leader = None;
                }
            },
            Some(Why::Quorum),
        ),
        ("no linearizable read", 3, |c, _| c.revision = Err("timed out".to_owned()), Some(Why::Quorum)),
        ("room for exactly a second one", 3, |_, h| h.room = Some(11 * MIB), None),
        ("less room", 3, |_, h| h.room = Some(11 * MIB - 1), Some(Why::Room)),
        ("room that cannot be read", 3, |_, h| h.room = None, Some(Why::Room)),
        ("a size that is not reported", 3, |c, _| own(c).db_size = None, Some(Why::Size)),
        ("one of three answers no read", 3, |c, _| hang(c, 3), Some(Why::Quorum)),
        ("the leader answers no read", 3, |c, _| hang(c, 1), Some(Why::Quorum)),
        ("one of two answers no read", 2, |c, _| hang(c, 1), Some(Why::Quorum)),
        ("one of five answers no read", 5, |c, _| hang(c, 5), None),
        (
            "a database for which the kubelet waits",
            3,
            |c, h| {
                own(c).db_in_use = Some(82 * 15 * MIB);
                h.room = Some(u64::MAX);
            },
            None,
        ),
        (
            "one for which it does not",
            3,
            |c, h| {
                own(c).db_in_use = Some(83 * 15 * MIB);
                h.room = Some(u64::MAX);
            },
            Some(Why::Probe),
        ),
        (
            "the same without a probe",
            3,
            |c, h| {
                own(c).db_in_use = Some(83 * 15 * MIB);
                h.room = Some(u64::MAX);
                h.limit = None;
            },
            None,
        ),
        ("NOSPACE", 3, |c, _| raise_alarm(c, 2, AlarmKind::NoSpace), None),
        (
            "NOSPACE that the probe counts",
            3,
            |c, h| {
                raise_alarm(c, 1, AlarmKind::NoSpace);
                h.limit.as_mut().unwrap().path = Some("/health".to_owned());
            },
            Some(Why::ProbeCountsAlarm),
        ),
        ("a probe that would count it", 3, |_, h| h.limit.as_mut().unwrap().path = Some("/health".to_owned()), None),
        ("CORRUPT", 3, |c, _| raise_alarm(c, 3, AlarmKind::Corrupt), Some(Why::Corrupt)),
    ];
    for (name, size, edit, expected) in rows {
        let (mut cluster, mut here) = (cluster(*size), here());
        edit(&mut cluster, &mut here);
        let answer = defrag(&cluster, &here, &Targets::Local, Unchecked::Refused);
        if let Ok((ids, plan)) = &answer {
            assert_eq!((ids, plan.steps.len()), (&vec![cluster.own], 1), "{name}");
        }
        assert_eq!(why(answer), *expected, "{name}");
    }
}

#[test]
fn the_plan_says_what_waits_meanwhile() {
    let effects = |size: u64, mib: u64| {
        let (mut cluster, mut here) = (cluster(size), here());
        own(&mut cluster).db_in_use = Some(mib * MIB);
        (here.room, here.limit) = (Some(u64::MAX), None);
        let plan = defrag(&cluster, &here, &Targets::Local, Unchecked::Refused).unwrap().1;
        let says = |words: &str| plan.effects.iter().any(|effect| effect.contains(words));
        (says("only member"), says("cluster of two"), says("restart kube-apiserver"))
    };
    let (waits, too_long) = (82 * 15, 83 * 15);
    assert_eq!(effects(1, waits), (true, false, false));
    assert_eq!(effects(1, too_long), (true, false, true), "its probe allows 85 s");
    assert_eq!(effects(2, too_long), (false, true, true));
    assert_eq!(effects(3, too_long), (false, false, true), "it asks the etcd of this node");
}

#[test]
fn q10_masters_that_begin_at_once_take_their_turns_by_id() {
    let rank = |own: u64, learners: &[u64]| {
        let mut cluster = cluster(5);
        cluster.own = own;
        for asked in &mut cluster.members {
            asked.member.learner = learners.contains(&asked.member.id);
        }
        cluster.rank()
    };
    assert_eq!([1, 2, 3, 4, 5].map(|own| rank(own, &[])), [0, 1, 2, 3, 4]);
    assert_eq!(rank(5, &[1, 3]), 2, "learners are in nobody's way");
}

#[tokio::test]
async fn a_wait_ends_with_the_second_request_and_never_with_a_terminal_that_is_gone() {
    let rows: [(&str, &[Signal], bool); 6] = [
        ("nothing", &[], true),
        ("Ctrl-C", &[Signal::SIGINT], true),
        ("SIGTERM after Ctrl-C", &[Signal::SIGINT, Signal::SIGTERM], false),
        ("the terminal is gone, twice", &[Signal::SIGHUP, Signal::SIGHUP], true),
        ("a session is ended", &[Signal::SIGTERM, Signal::SIGHUP], true),
        ("and somebody asks again", &[Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT], false),
    ];
    for (name, signals, waits) in rows {
        let mut interrupt = Interrupt::listen().unwrap();
        let work = async {
            for signal in signals {
                raise(*signal).unwrap();
                sleep(Duration::from_millis(100)).await;
            }
        };
        let done = interrupt.awaits("waiting", work).await.map(|((), interrupted)| interrupted == Interrupted::Yes);
        assert_eq!(done, waits.then_some(!signals.is_empty()), "{name}");
    }
}

#[test]
fn members_of_other_nodes_are_defragmented_only_where_that_is_accepted_and_the_leader_last() {
    let all = |unchecked, cluster: &Cluster| defrag(cluster, &here(), &Targets::All, unchecked);
    assert_eq!(why(all(Unchecked::Refused, &cluster(3))), Some(Why::Unchecked));
    let (ids, plan) = all(Unchecked::Accepted, &cluster(3)).unwrap();
    assert_eq!((ids, plan.steps.len()), (vec![2, 3, 1], 3), "m1 leads");
    assert_eq!(all(Unchecked::Refused, &cluster(1)).unwrap().0, [1], "there is no other node");
    let mut silent = cluster(5);
    silence(&mut silent, 5);
    assert_eq!(why(all(Unchecked::Accepted, &silent)), Some(Why::Silent));
    let named =
        |name: &str, cluster: &Cluster| defrag(cluster, &here(), &Targets::Named(name.to_owned()), Unchecked::Accepted);
    assert_eq!(named("m3", &cluster(3)).unwrap().0, [3]);
    assert_eq!(named("3", &cluster(3)).unwrap().0, [3], "its ID");
    assert_eq!(why(named("m4", &cluster(3))), Some(Why::NoSuchMember));
    let mut twice = cluster(3);
    twice.members[2].member.name = "m1".to_owned();
    assert_eq!(why(named("m1", &twice)), Some(Why::NoSuchMember));
}

#[test]
fn the_history_is_compacted_to_what_keeps_the_last_minutes_unless_nothing_is_written_anyway() {
    let to = |cluster: &Cluster, revision| compact(cluster, &here(), revision).map(|plan| plan.compact_to);
    assert_eq!(to(&cluster(3), None), Ok(Some(4000)), "kube-apiserver's mark");
    assert_eq!(to(&cluster(3), Some(3)), Ok(Some(3)));
    for none in [5001, 0, -1] {
        assert_eq!(why(to(&cluster(3), Some(none))), Some(Why::Future));
    }
    let mut full = cluster(3);
    raise_alarm(&mut full, 1, AlarmKind::NoSpace);
    assert_eq!(to(&full, None), Ok(Some(5000)));
    let unmarked = Cluster { mark: None, ..cluster(1) };
    assert_eq!(to(&unmarked, None), Ok(Some(5000)));
    let alone = Cluster { revision: Err("timed out".to_owned()), ..cluster(3) };
    assert_eq!(why(to(&alone, None)), Some(Why::Quorum));
    let mut corrupt = cluster(3);
    raise_alarm(&mut corrupt, 0, AlarmKind::Corrupt);
    assert_eq!(why(to(&corrupt, None)), Some(Why::Corrupt));
}

#[test]
fn an_alarm_is_disarmed_only_where_it_is_not_raised_again_at_once() {
    type Row<'r> = (&'r str, Edit, Result<&'r [u64], Why>);
    let rows: &[Row<'_>] = &[
        ("no alarm", |_, _| {}, Ok(&[])),
        ("room again", |c, _| raise_alarm(c, 2, AlarmKind::NoSpace), Ok(&[2])),
        (
            "of two members",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                raise_alarm(c, 3, AlarmKind::NoSpace);
            },
            Ok(&[2, 3]),
        ),
        ("of a member that was removed", |c, _| raise_alarm(c, 99, AlarmKind::NoSpace), Ok(&[99])),
        (
            "still full",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                own(c).db_size = Some(QUOTA);
            },
            Err(Why::OverQuota),
        ),
        (
            "no room for one request",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                own(c).db_size = Some(QUOTA - MIB);
            },
            Err(Why::OverQuota),
        ),
        (
            "another one is full",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                c.members[2].answer.as_mut().unwrap().db_size = Some(QUOTA);
            },
            Err(Why::OverQuota),
        ),
        (
            "the quota it reports counts first",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                own(c).db_size = Some(QUOTA);
                own(c).quota = Some(4 * QUOTA);
            },
            Ok(&[2]),
        ),
        (
            "a quota that is unknown",
            |c, h| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                h.quota = None;
            },
            Err(Why::OverQuota),
        ),
        (
            "who raised it is silent",
            |c, _| {
                raise_alarm(c, 3, AlarmKind::NoSpace);
                silence(c, 3);
            },
            Err(Why::Silent),
        ),
        (
            "somebody else is silent",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                silence(c, 3);
            },
            Ok(&[2]),
        ),
        ("CORRUPT", |c, _| raise_alarm(c, 2, AlarmKind::Corrupt), Err(Why::Corrupt)),
        (
            "both",
            |c, _| {
                raise_alarm(c, 2, AlarmKind::NoSpace);
                raise_alarm(c, 3, AlarmKind::Corrupt);
            },
            Err(Why::Corrupt),
        ),
    ];
    for (name, edit, expected) in rows {
        let (mut cluster, mut here) = (cluster(3), here());
        edit(&mut cluster, &mut here);
        let answer = disarm(&cluster, &here).map(|(ids, _)| ids);
        match expected {
            Ok(ids) => assert_eq!(answer.as_deref(), Ok(*ids), "{name}"),
            Err(expected) => assert_eq!(why(answer), Some(*expected), "{name}"),
        }
    }
}

#[test]
fn the_lock_is_the_one_of_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.paths.staging = dir.path().join(".lastgood");
    let held = lock(&settings).unwrap();
    assert!(held.is_some() && settings.restore_lock().exists());
    let failure = lock(&settings).unwrap_err();
    assert_eq!(failure.exit, crate::ops::failure::Exit::Refused);
    assert!(unlocked(&settings).is_ok(), "this process may look again while it holds the lock");
    drop(held);
    // Another process that has the file open and is named in it.
    let mut other =
        Command::new("sleep").arg("60").stdin(File::open(settings.restore_lock()).unwrap()).spawn().unwrap();
    fs::write(settings.restore_lock(), format!("{}\n", other.id())).unwrap();
    let refused = unlocked(&settings).map_err(|failure| failure.exit);
    other.kill().and_then(|()| other.wait()).unwrap();
    assert_eq!(refused, Err(crate::ops::failure::Exit::Refused));
    assert!(unlocked(&settings).is_ok());
}

#[test]
fn a_defragmentation_waits_for_no_snapshot_and_is_known_after_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.paths.staging = dir.path().join(".lastgood");
    let defragments = apart(&settings).unwrap().unwrap();
    assert_eq!(under_way(&settings), None);
    defragments.mark(SOON).unwrap();
    drop(defragments);
    assert!(under_way(&settings).is_some());
    apart(&settings).unwrap().unwrap().unmark().unwrap();
    let snapshot = crate::snapshots::apart(&settings).unwrap();
    assert_eq!(apart(&settings).unwrap_err().exit, crate::ops::failure::Exit::Refused);
    drop(snapshot);
    assert!(apart(&settings).unwrap().is_some());
}

// Real etcds.

async fn client(cluster: &real::Cluster) -> Client {
    observe::client(&cluster.way(), SOON).await.unwrap()
}

async fn seen(cluster: &real::Cluster) -> Cluster {
    look(&cluster.way()).await.unwrap()
}

/// The cluster as soon as every member answers: one that has just started has advertised no client URL.
async fn all_answer(cluster: &real::Cluster) -> Cluster {
    let until = Instant::now() + SOON;
    loop {
        let now = seen(cluster).await;
        if now.members.iter().all(|asked| asked.answer.as_ref().is_ok_and(|own| own.leader.is_some())) {
            return now;
        }
        assert!(Instant::now() < until, "not all members answer");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What this node would know of itself.
fn real_here() -> Here {
    Here { room: Some(u64::MAX), ..here() }
}

/// Overwrites one key until NOSPACE is raised.
async fn fill(cluster: &real::Cluster) {
    let mut kv = client(cluster).await.kv_client();
    kv.put("kept", "value", None).await.unwrap();
    let value = vec![b'x'; 1_000_000];
    for _ in 0..200 {
        if kv.put("fill", value.clone(), None).await.is_err() {
            break;
        }
    }
    let until = Instant::now() + SOON;
    while seen(cluster).await.alarms().is_empty() {
        assert!(Instant::now() < until, "NOSPACE was not raised");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(kv.put("refused", "value", None).await.is_err());
}

/// Moves the leader to the member that is listed first, which would be first without the rule.
async fn lead_by_the_first(cluster: &real::Cluster) -> u64 {
    let first = seen(cluster).await.members[0].member.id;
    let until = Instant::now() + SOON;
    loop {
        let now = seen(cluster).await;
        match now.leader() {
            Some(leader) if leader == first => return first,
            Some(leader) => {
                let endpoint = now.find(leader).unwrap().endpoints[0].clone();
                let leader = observe::client(&endpoint, SOON).await.unwrap();
                // The election may have been decided otherwise meanwhile.
                let _ = leader.maintenance_client().move_leader(first).await;
            }
            None => {}
        }
        assert!(Instant::now() < until, "no other leader");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn from_full_to_writable(series: &'static str, size: usize) {
    let cluster = real::Cluster::start_with(series, size, &FLAGS);
    all_answer(&cluster).await;
    fill(&cluster).await;
    let leader = lead_by_the_first(&cluster).await;
    let (here, mut interrupt) = (real_here(), Interrupt::listen().unwrap());
    let full = seen(&cluster).await;
    assert_eq!(why(disarm(&full, &here)), Some(Why::OverQuota));

    let plan = compact(&full, &here, None).unwrap();
    let to = plan.compact_to.unwrap();
    assert_eq!(Ok(to), full.revision);
    run_compact(&full, to, &mut interrupt).await.unwrap();
    run_compact(&full, to, &mut interrupt).await.expect("it is safe to repeat");
    let mut kv = client(&cluster).await.kv_client();
    let before = etcd_client::GetOptions::new().with_revision(to - 1);
    assert!(kv.get("fill", Some(before)).await.is_err(), "the history is gone");
    let compacted = seen(&cluster).await;
    assert_eq!(why(disarm(&compacted, &here)), Some(Why::OverQuota), "the file is as large as it was");

    let (ids, plan) = defrag(&compacted, &here, &Targets::All, Unchecked::Accepted).unwrap();
    assert_eq!((ids.len(), plan.steps.len()), (size, size));
    let mut lines = Vec::new();
    let mut tell = |line: &str| lines.push(line.to_owned());
    let done = run_defrag(&compacted, &here, &ids, None, &mut interrupt, &mut tell).await.unwrap();
    assert_eq!((done.len(), done.last(), lines.len()), (size, Some(&leader), size), "the leader last");
    let smaller = seen(&cluster).await;
    for asked in &smaller.members {
        let size = asked.answer.as_ref().unwrap().db_size.unwrap();
        assert!(size < QUOTA / 2, "{} has {size}", asked.name());
    }

    let (raised, _) = disarm(&smaller, &here).unwrap();
    assert!(!raised.is_empty());
    run_disarm(&smaller, &raised, &mut interrupt).await.unwrap();
    let after = seen(&cluster).await;
    assert!(after.alarms().is_empty(), "{:?}", after.alarms());
    assert!(disarm(&after, &here).unwrap().0.is_empty(), "nothing is left to disarm");
    kv.put("again", "written", None).await.unwrap();
    for (key, value) in [("kept", "value"), ("again", "written")] {
        assert_eq!(kv.get(key, None).await.unwrap().kvs()[0].value_str().unwrap(), value);
    }
}

macro_rules! on_every_version {
    ($($name:ident: $series:expr, $size:expr;)+) => {
        $(#[tokio::test]
        async fn $name() {
            if let Some(series) = $series {
                from_full_to_writable(series, $size).await;
            }
        })+
    };
}

on_every_version! {
    a_full_3_4_is_writable_again: Some("3.4"), 1;
    a_full_3_5_is_writable_again: Some("3.5"), 1;
    a_full_newest_is_writable_again: newest_etcd(), 1;
    three_full_3_4_are_writable_again: Some("3.4"), 3;
    three_full_3_5_are_writable_again: Some("3.5"), 3;
    three_full_newest_are_writable_again: newest_etcd(), 3;
}

#[tokio::test]
async fn a_member_that_hangs_is_named_and_no_other_is_touched() {
    let cluster = real::Cluster::start("3.5", 3);
    let all = all_answer(&cluster).await;
    let (ids, _) = defrag(&all, &real_here(), &Targets::All, Unchecked::Accepted).unwrap();
    // A leader that hangs leaves no linearizable read until another one is elected.
    let follower = all.members.iter().find(|asked| ![Some(all.own), all.leader()].contains(&Some(asked.member.id)));
    let name = follower.unwrap().name();
    let number: usize = name.trim_start_matches('m').parse().unwrap();
    cluster.signal_member(number, Signal::SIGSTOP);
    let began = Instant::now();
    let now = seen(&cluster).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let silent = defrag(&now, &real_here(), &Targets::Named(name.clone()), Unchecked::Accepted).unwrap_err();
    assert_eq!(silent.why, Why::Silent);
    assert!(silent.sentence.starts_with(&format!("{name} ")), "{}", silent.sentence);
    assert_eq!(why(defrag(&now, &real_here(), &Targets::Local, Unchecked::Refused)), Some(Why::Quorum));
    // It hangs after the plan was made: whichever comes first, nothing is done while a second one is away.
    let mut told = 0;
    let mut tell = |_: &str| told += 1;
    let failed = run_defrag(&all, &real_here(), &ids, None, &mut Interrupt::listen().unwrap(), &mut tell).await;
    assert_eq!((failed.unwrap_err().exit, told), (crate::ops::failure::Exit::Refused, 0));
    cluster.signal_member(number, Signal::SIGCONT);
}

#[tokio::test]
async fn an_interrupted_defragmentation_ends_after_the_member_that_is_being_defragmented() {
    let cluster = real::Cluster::start("3.5", 3);
    let all = all_answer(&cluster).await;
    let (ids, _) = defrag(&all, &real_here(), &Targets::All, Unchecked::Accepted).unwrap();
    let mut interrupt = Interrupt::listen().unwrap();
    raise(Signal::SIGINT).unwrap();
    let mut told = Vec::new();
    let mut tell = |line: &str| told.push(line.to_owned());
    let failure = run_defrag(&all, &real_here(), &ids, None, &mut interrupt, &mut tell).await.unwrap_err();
    assert_eq!((failure.exit, told.len()), (crate::ops::failure::Exit::Failed, 1), "{failure}");
    let names = |ids: &[u64]| ids.iter().map(|id| all.name(*id)).collect::<Vec<_>>().join(", ");
    let left = format!("defragmented: {}; not defragmented: {}", names(&ids[..1]), names(&ids[1..]));
    assert!(failure.sentence.contains(&left), "{failure}");
}

#[tokio::test]
async fn a_defragmentation_that_etcd_is_still_at_keeps_its_mark_and_one_that_ended_does_not() {
    let (cluster, dir) = (real::Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    cluster.grow(20);
    let all = all_answer(&cluster).await;
    let path = dir.path().join("lock");
    let apart = shared_lock::exclude(&path).unwrap().unwrap();
    let (here, mut interrupt) = (real_here(), Interrupt::listen().unwrap());
    let own = [all.own];
    run_defrag(&all, &here, &own, Some(&apart), &mut interrupt, &mut |_| {}).await.unwrap();
    assert_eq!(Mark::read(&path), None);
    // etcd waits for the reader of a snapshot, which stops.
    let (_, mut snapshot) = observe::Feed::open(&cluster.way(), SOON).await.unwrap();
    snapshot.next().await.unwrap();
    let asks_twice = async {
        while Mark::read(&path).is_none() {
            sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..2 {
            sleep(Duration::from_millis(300)).await;
            raise(Signal::SIGINT).unwrap();
        }
    };
    let mut tell = |_: &str| {};
    let defragments = run_defrag(&all, &here, &own, Some(&apart), &mut interrupt, &mut tell);
    let (failed, ()) = tokio::join!(defragments, asks_twice);
    assert_eq!(failed.unwrap_err().exit, crate::ops::failure::Exit::Failed);
    drop(apart);
    let mark = Mark::read(&path).unwrap();
    assert!(mark.until - mark.began >= SOON, "{mark:?}");
    assert!(observe::ask_member(&cluster.way(), Duration::from_secs(2)).await.is_err(), "etcd is at it");
    drop(snapshot);
    all_answer(&cluster).await;
}
