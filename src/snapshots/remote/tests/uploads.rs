//! The upload task: it works without requests, on its own schedule, and delays nothing.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::task::UploadTask;
use super::super::{
    list::Proofs,
    seen::{self, seen},
};
use super::server::{Door, Server, Stands};
use super::*;
use crate::etcd::snapshot::RawCopy;
use crate::feature::inbox;
use crate::model::Event;
use crate::model::event::EventKind;
use crate::model::memory::Machine;
use crate::model::snapshot::{Failing, Remote};
use crate::snapshots::bundle;
use crate::snapshots::task::SnapshotTask;
use crate::snapshots::task_input::TaskInput;
use crate::sys::clock;

/// A machine that is busy with other tests takes its time.
const SOON: Duration = Duration::from_secs(120);

/// A task with its ends.
struct Running {
    uploader: UploadTask,
    told: mpsc::Receiver<Event>,
    _wanted: watch::Sender<TaskInput>,
}

fn run(settings: &Settings) -> Running {
    let (wanted, wants) = watch::channel(TaskInput::default());
    let (tell, told) = mpsc::channel(64);
    Running { uploader: UploadTask::start(settings, wants, tell).unwrap(), told, _wanted: wanted }
}

impl Running {
    async fn next(&mut self) -> Event {
        timeout(SOON, self.told.recv()).await.expect("something is told in time").unwrap()
    }
}

#[tokio::test]
async fn the_newest_is_sent_when_it_is_kept_and_the_rules_are_kept_there_too() {
    let (server, home) = (Server::start(&[]), home());
    let mut settings = server.settings(home.path(), server.port);
    settings.snapshots.interval = Duration::from_secs(3600);
    let remote = &mut settings.snapshots.remote;
    (remote.keep_last, remote.keep_hourly, remote.keep_daily, remote.keep_weekly) = (2, 0, 0, 0);
    let mut running = run(&settings);
    let mut sent = Vec::new();
    for at in 1..4 {
        let proof = keep(&settings, name(1_700_000_000 + at * 10, at), 1000);
        running.uploader.kept().notify_one();
        let event = running.next().await;
        assert_eq!(event.kind, EventKind::Snapshot, "{event}");
        assert!(event.to.contains(&proof.file) && event.to.contains("read back and compared"), "{event}");
        sent.push(proof);
    }
    let event = running.next().await;
    assert_eq!(event.to, format!("snapshot {} pruned in s3://backups/etcd", sent[0].file));
    let list = open(&settings).list(&mut Proofs::default()).await.unwrap();
    assert_eq!(list.stored.iter().map(|s| s.name).collect::<Vec<_>>(), [sent[1].name, sent[2].name]);
    let known = running.uploader.known();
    assert_eq!(known.newest.as_ref().map(|newest| newest.file.clone()), Some(sent[2].file.clone()));
    assert_eq!((known.verified, known.failing), (2, None));
}

#[tokio::test]
async fn what_fails_is_told_once_and_remembered_and_made_up_for() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let older = keep(&settings, name(1_700_000_000, 1), 1000);
    let newest = keep(&settings, name(1_700_000_010, 2), 1000);
    server.opens_by(home.path(), "hunter2hunter2");
    let mut running = run(&settings);
    let event = running.next().await;
    assert_eq!(event.kind, EventKind::Failure);
    assert!(event.to.contains("SignatureDoesNotMatch") && event.because.contains("again after 1s"), "{event}");
    // Once more, and quietly. What is known is written down a moment later.
    let again = async {
        while seen(&settings).and_then(|seen| seen.failing).is_none_or(|failing| failing.times < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, again).await.unwrap();
    assert!(running.told.is_empty());
    let failing = running.uploader.known().failing.unwrap();
    // Another process knows it, and a restart goes on with it.
    drop(running);
    let written = seen(&settings).unwrap().failing.unwrap();
    assert_eq!(written.since, failing.since);
    assert!(written.times >= 2 && !written.why.contains("hunter2"), "{written:?}");

    server.opens_by(home.path(), &server.secret);
    let mut running = run(&settings);
    let event = running.next().await;
    assert!(event.kind == EventKind::Snapshot && event.to.contains(&newest.file), "{event}");
    let recovered = async {
        while running.uploader.known().failing.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, recovered).await.unwrap();
    let list = open(&settings).list(&mut Proofs::default()).await.unwrap();
    assert!(list.get(&newest.name).is_some() && list.get(&older.name).is_none(), "the newest alone is made up for");
}

/// A clock that goes on by itself wherever the task sleeps.
#[tokio::test(start_paused = true)]
async fn a_restart_leaves_a_store_alone_for_what_is_left_of_its_back_off() {
    let home = home();
    let mut settings = Settings::default();
    settings.snapshots.directory = Some(home.path().join("snapshots"));
    settings.snapshots.interval = Duration::from_secs(3600);
    settings.snapshots.remote.url = Some("s3://backups/etcd".into());
    // It fails before it asks anybody anything.
    settings.snapshots.remote.credentials_file = Some(home.path().join("none"));
    drop(Directory::at(&settings.snapshot_dir()).lock().unwrap());
    let since = clock::now().wall;
    let failing = Failing { since, at: since, times: 9, why: "it was away".into() };
    let known = Remote { failing: Some(failing), ..Remote::unseen("s3://backups/etcd".into()) };
    seen::write(&settings.snapshot_dir(), &known).unwrap();
    let began = tokio::time::Instant::now();
    let mut running = run(&settings);
    let event = running.told.recv().await.unwrap();
    assert!(event.kind == EventKind::Failure && event.because.contains("again after 1h"), "{event}");
    // Of the hour that nine failures cost, but for the moments that this test has really taken.
    assert!(began.elapsed() > Duration::from_secs(3000), "tried again after {:?}", began.elapsed());
    let failing = seen::seen(&settings).unwrap().failing.unwrap();
    assert_eq!((failing.since, failing.times), (since, 10));
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_and_comes_back_gets_it_all() {
    let (mut server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_700_000_000, 1), LARGE);
    door.shut_after(LARGE as u64 * 2 / 3);
    let mut running = run(&settings);
    timeout(SOON, door.stands(Stands::Shut)).await.unwrap();
    server.kill();
    let event = running.next().await;
    assert_eq!(event.kind, EventKind::Failure, "{event}");
    // It remembers nothing: not even what was half there.
    let port = server.port.to_string();
    let server = Server::start(&["--port", &port]);
    server.opens_by(home.path(), &server.secret);
    door.set(Stands::Open);
    let sent = async {
        loop {
            let event = running.next().await;
            if event.kind == EventKind::Snapshot {
                return event;
            }
        }
    };
    let event = timeout(SOON, sent).await.unwrap();
    assert!(event.to.contains(&proof.file), "{event}");
    assert_eq!(open(&settings).newest(RawCopy::Refuse).await.unwrap(), proof.file);
}

#[tokio::test]
async fn what_a_person_saved_here_is_sent_within_seconds_and_a_bundle_that_came_to_it_as_well() {
    let (server, home) = (Server::start(&[]), home());
    let mut settings = server.settings(home.path(), server.port);
    // By themselves neither keeper nor task would come to it within this test.
    settings.snapshots.interval = Duration::from_secs(24 * 3600);
    drop(Directory::at(&settings.snapshot_dir()).lock().unwrap());
    let (tell, mut told) = inbox();
    let _keeper = SnapshotTask::start(&settings, &Machine::default(), tell);
    let first_round = async {
        while seen(&settings).is_none_or(|seen| seen.looked.is_none()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, first_round).await.unwrap();
    let proof = keep(&settings, name(1_700_000_000, 1), 1000);
    let event = timeout(SOON, told.recv()).await.expect("it is sent in time").unwrap();
    assert!(event.kind == EventKind::Snapshot && event.to.contains(&proof.file), "{event}");

    let snapshot = settings.snapshot_dir().join(&proof.file);
    let gathered = bundle::tests::gathered();
    bundle::make(&snapshot, &proof, proof.sha256, gathered, &[], Timestamp::UNIX_EPOCH).unwrap();
    let event = timeout(SOON, told.recv()).await.expect("its bundle is sent in time").unwrap();
    assert!(event.kind == EventKind::Snapshot && event.to.contains(&proof.file), "{event}");
    let there = open(&settings).bundle(&proof.file).await.unwrap();
    assert_eq!(there.1.len(), 1, "what the manifest lists is there: {:?}", there.0);
}
