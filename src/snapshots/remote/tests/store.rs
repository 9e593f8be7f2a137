//! Single operations: upload, list, download, prune.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use object_store::ObjectStoreExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::super::list::Proofs;
use super::super::send::quietly;
use super::super::unfinished;
use super::super::{SnapshotList, Stored, Trouble, belongs, meant, own_clusters, surplus};
use super::server::{Door, Server, Stands};
use super::*;
use crate::etcd::snapshot::RawCopy;
use crate::observe::testing::Pki;
use crate::snapshots::proof::ENDING;
use crate::snapshots::retention::{Rules, Why};
use crate::snapshots::{Snapshot, bundle};
use crate::sys::crash::{fill, on_a_tmpfs};
use crate::sys::files;

#[test]
fn all_that_begins_as_a_snapshot_does_travels_with_it() {
    let name = name(1_800_000_000, 5);
    let of = |ending: &str| format!("{}{ending}", name.to_string().trim_end_matches(".db"));
    for ours in [".db", ".db.proof.json", ".bundle.json", ".manifests.tar", ".x"] {
        assert!(belongs(&of(ours), &name), "{ours}");
    }
    for theirs in [".raw.db", ".raw.db.proof.json", ".raw.node.tar", "", "0.db", "x"] {
        assert!(!belongs(&of(theirs), &name), "{theirs}");
    }
    let copy = Name { origin: Origin::DataDir, ..name };
    assert!([".raw.db", ".raw.db.proof.json", ".raw.node.tar"].iter().all(|ours| belongs(&of(ours), &copy)));
    assert!(!belongs(&of(".db"), &copy));
}

#[tokio::test]
async fn a_snapshot_gets_there_with_all_its_parts_and_comes_back_the_same() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let part = proof.file.replace(".db", ".bundle.json");
    let dir = settings.snapshot_dir();
    std::fs::write(dir.join(&part), "a part").unwrap();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    let remote = open(&settings);
    let parcel = parcel(&settings, &proof);
    assert!(!parcel.is_in(remote.list(&mut Proofs::default()).await.unwrap().get(&proof.name)));
    remote.send(&parcel, None, &quietly()).await.unwrap();
    assert_eq!(names(&remote).await, [part, proof.file.clone(), format!("{}{ENDING}", proof.file)]);
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    assert_eq!(list.newest(RawCopy::Refuse).unwrap().proof, Ok(proof.clone().brief()));
    assert!(parcel.is_in(list.get(&proof.name)));
    assert_eq!(remote.newest(RawCopy::Refuse).await.unwrap(), proof.file);

    let there = home.path().join("fetched");
    let fetched = remote.fetch(&proof.file, &there, &|_, _| ()).await.unwrap();
    assert_eq!(fetched.proof, Some(proof.clone()));
    assert_eq!(std::fs::read(fetched.path()).unwrap(), std::fs::read(dir.join(&proof.file)).unwrap());
    drop(fetched);
    assert_eq!(files::names(&there).unwrap(), Vec::<String>::new(), "it goes with who held it");

    // A part that came to it later goes there as well.
    std::fs::write(dir.join(proof.file.replace(".db", ".more")), "another").unwrap();
    let parcel = super::parcel(&settings, &proof);
    assert!(!parcel.is_in(list.get(&proof.name)));
    remote.send(&parcel, list.get(&proof.name), &quietly()).await.unwrap();
    assert!(parcel.is_in(remote.list(&mut Proofs::default()).await.unwrap().get(&proof.name)));
}

#[tokio::test]
async fn the_newest_is_no_raw_copy_unless_one_is_taken() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let remote = open(&settings);
    let raw = Name { origin: Origin::DataDir, ..name(1_800_000_100, 6) };
    let body = b"a database".as_slice();
    let proof = Proof { bytes: body.len() as u64, ..proof_of(raw, body) };
    let locked = Directory::at(&settings.snapshot_dir()).lock().unwrap();
    let staging = locked.stage().unwrap();
    std::fs::write(staging.path(), body).unwrap();
    locked.put(staging, &proof).unwrap();
    drop(locked);
    remote.send(&parcel(&settings, &proof), None, &quietly()).await.unwrap();
    let none = remote.newest(RawCopy::Refuse).await.unwrap_err().to_string();
    assert!(none.contains("1 raw copies, which --skip-hash-check accepts"), "{none}");
    let stream = keep(&settings, name(1_800_000_000, 5), 1000);
    remote.send(&parcel(&settings, &stream), None, &quietly()).await.unwrap();
    assert_eq!(remote.newest(RawCopy::Refuse).await.unwrap(), stream.file, "older, and all that is taken");
    assert_eq!(remote.newest(RawCopy::Allow).await.unwrap(), proof.file);
}

#[tokio::test]
async fn what_is_there_and_compares_well_is_not_sent_again() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let (remote, parcel) = (open(&settings), parcel(&settings, &proof));
    remote.send(&parcel, None, &quietly()).await.unwrap();
    let sent = door.passed();
    assert!(sent > LARGE as u64);
    // As where the connection broke before the proof was there.
    remote.delete(&format!("{}{ENDING}", proof.file)).await.unwrap();
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    assert!(list.newest(RawCopy::Refuse).is_none());
    remote.send(&parcel, list.get(&proof.name), &quietly()).await.unwrap();
    assert!(door.passed() - sent < LARGE as u64 / 2, "{}", door.passed() - sent);
    assert!(remote.list(&mut Proofs::default()).await.unwrap().newest(RawCopy::Refuse).is_some());
}

#[tokio::test]
async fn what_comes_back_otherwise_than_it_was_sent_does_not_count() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let remote = open(&settings);
    door.set(Stands::Garbling);
    let trouble = remote.send(&parcel(&settings, &proof), None, &quietly()).await.unwrap_err();
    assert!(matches!(&trouble, Trouble::Differs(why) if why.contains("returns other data")), "{trouble}");
    door.set(Stands::Open);
    assert_eq!(names(&remote).await, [proof.file], "its proof is not there");
}

#[tokio::test]
async fn a_part_or_a_proof_that_comes_back_otherwise_does_not_count_either() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), 1000);
    let [node, manifest] = [".node.tar", ".bundle.json"].map(|ending| proof.file.replace(".db", ending));
    std::fs::write(settings.snapshot_dir().join(&node), vec![7; 100_000]).unwrap();
    std::fs::write(settings.snapshot_dir().join(&manifest), "lists it").unwrap();
    let parcel = parcel(&settings, &proof);
    let proof_file = format!("{}{ENDING}", proof.file);
    // What lists a part goes after it, and the proof after all.
    assert_eq!(parcel.names(), [proof.file.clone(), node.clone(), manifest, proof_file.clone()]);
    for (garbled, stands) in [(&node, Stands::Garbling), (&proof_file, Stands::GarblingWhere(r#","proof":{"#))] {
        let remote = open(&settings);
        door.set(stands);
        let trouble = remote.send(&parcel, None, &quietly()).await.unwrap_err();
        let of_it = |why: &str| why.contains("returns other data") && why.contains(garbled.as_str());
        assert!(matches!(&trouble, Trouble::Differs(why) if of_it(why)), "{garbled}: {trouble}");
        door.set(Stands::Open);
        assert_eq!(names(&remote).await.contains(&proof_file), *garbled == proof_file);
    }
}

#[tokio::test]
async fn what_is_sent_anew_is_not_verified_before_it_is_there() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let (remote, parcel) = (open(&settings), parcel(&settings, &proof));
    remote.send(&parcel, None, &quietly()).await.unwrap();
    // A bit flipped there, which no listing shows.
    let mut flipped = std::fs::read(&parcel.database).unwrap();
    flipped[LARGE / 2] ^= 1;
    remote.put_bytes(&proof.file, flipped).await.unwrap();
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    assert!(list.newest(RawCopy::Refuse).is_some());
    door.shut_after(LARGE as u64 / 2);
    open(&settings).send(&parcel, list.get(&proof.name), &quietly()).await.unwrap_err();
    let direct = open(&server.settings(home.path(), server.port));
    assert_eq!(names(&direct).await, [proof.file], "its proof went first");
}

#[tokio::test]
async fn a_file_that_is_no_longer_what_was_proven_is_not_sent() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    for (revision, size) in [(5, 1000), (6, LARGE)] {
        let proof = keep(&settings, name(1_800_000_000, revision), size);
        let path = settings.snapshot_dir().join(&proof.file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[size / 2] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let remote = open(&settings);
        let trouble = remote.send(&parcel(&settings, &proof), None, &quietly()).await.unwrap_err();
        assert!(
            matches!(&trouble, Trouble::Differs(why) if why.contains("differs from the verified snapshot")),
            "{trouble}"
        );
        assert_eq!(names(&remote).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn wrong_credentials_are_told_as_such_and_not_told() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let proof = keep(&settings, name(1_800_000_000, 5), 1000);
    server.opens_by(home.path(), "hunter2hunter2");
    let remote = open(&settings);
    let parcel = parcel(&settings, &proof);
    for trouble in [
        remote.send(&parcel, None, &quietly()).await.unwrap_err(),
        remote.list(&mut Proofs::default()).await.unwrap_err(),
        remote.fetch(&proof.file, home.path(), &|_, _| ()).await.unwrap_err(),
    ] {
        assert!(matches!(trouble, Trouble::Denied(_)), "{trouble:?}");
        let told = format!("{trouble} {trouble:?} {remote:?} {settings:?}");
        assert!(!told.contains("hunter2") && !told.contains(&server.access_key), "{told}");
    }
    let trouble = remote.list(&mut Proofs::default()).await.unwrap_err().to_string();
    assert!(trouble.contains("SignatureDoesNotMatch"), "{trouble}");
    // None at all where the file is gone.
    std::fs::remove_file(home.path().join("credentials")).unwrap();
    let place = "s3://backups/etcd".parse().unwrap();
    let trouble = Remote::open(&settings.snapshots.remote, &place).unwrap_err();
    assert!(matches!(trouble, Trouble::Setup(_)), "{trouble}");
}

#[tokio::test]
async fn a_server_that_goes_in_the_middle_of_an_upload_leaves_nothing_that_can_be_seen() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let parcel = parcel(&settings, &proof);
    door.shut_after(LARGE as u64 * 2 / 3);
    let trouble = open(&settings).send(&parcel, None, &quietly()).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)), "{trouble:?}");
    door.stands(Stands::Shut).await;
    let direct = open(&server.settings(home.path(), server.port));
    assert_eq!(names(&direct).await, Vec::<String>::new());
    door.set(Stands::Open);
    open(&settings).send(&parcel, None, &quietly()).await.unwrap();
    assert_eq!(direct.newest(RawCopy::Refuse).await.unwrap(), proof.file);
}

#[tokio::test]
async fn an_upload_that_ended_in_the_middle_is_aborted_by_its_record_and_no_other_is() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let mut settings = server.settings(home.path(), door.port);
    let dir = settings.snapshot_dir();
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let parcel = parcel(&settings, &proof);
    door.shut_after(LARGE as u64 * 2 / 3);
    open(&settings).recording(&dir).send(&parcel, None, &quietly()).await.unwrap_err();
    let records = || {
        let names = files::names(&dir).unwrap().into_iter().filter(|name| name.starts_with(".upload-"));
        names.map(|name| dir.join(name)).collect::<Vec<_>>()
    };
    let [record] = &records()[..] else { panic!("no record is left: {:?}", records()) };
    let text: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let mine = text["upload"]["id"].as_str().unwrap().to_owned();
    door.set(Stands::Open);
    let store = open(&settings).store;
    let path = open(&settings).path(&proof.file);
    let theirs = store.create_multipart(&path).await.unwrap();
    let goes_on = async |id: &String| store.put_part(&path, id, 0, vec![0; 5 << 20].into()).await.is_ok();
    assert!(goes_on(&mine).await && goes_on(&theirs).await);

    // Of another store, or of a process that lives, it stays.
    let none: [String; 0] = [];
    let endpoint = settings.snapshots.remote.endpoint.replace("http://127.0.0.1:1".into());
    assert_eq!(unfinished::abort(&settings.snapshots.remote, &dir).await.unwrap(), none);
    settings.snapshots.remote.endpoint = endpoint;
    let lives = Flock::lock(fs::File::open(record).unwrap(), FlockArg::LockShared).unwrap();
    assert_eq!(unfinished::abort(&settings.snapshots.remote, &dir).await.unwrap(), none);
    drop(lives);
    assert!(goes_on(&mine).await);
    let aborted = unfinished::abort(&settings.snapshots.remote, &dir).await.unwrap();
    assert_eq!(aborted, [format!("s3://backups/etcd/{}", proof.file)]);
    assert_eq!((goes_on(&mine).await, goes_on(&theirs).await), (false, true));
    assert_eq!(records(), Vec::<PathBuf>::new());
    // One that comes to its end leaves no record.
    open(&settings).recording(&dir).send(&parcel, None, &quietly()).await.unwrap();
    assert_eq!(records(), Vec::<PathBuf>::new());
    assert_eq!(open(&settings).newest(RawCopy::Refuse).await.unwrap(), proof.file);
}

#[test]
fn an_upload_whose_record_cannot_be_made_or_written_is_sent_nevertheless() {
    on_a_tmpfs("64k", |full| {
        let full = full.to_owned();
        fill(&full.join("filler"), 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (server, home) = (Server::start(&[]), home());
            let settings = server.settings(home.path(), server.port);
            let no_directory = home.path().join("file");
            fs::write(&no_directory, "").unwrap();
            let rows = [("no directory", 1, no_directory), ("a full disk", 2, full.clone())];
            for (situation, revision, records) in rows {
                let proof = keep(&settings, name(1_800_000_000, revision), LARGE);
                let parcel = parcel(&settings, &proof);
                open(&settings).recording(&records).send(&parcel, None, &quietly()).await.expect(situation);
                assert_eq!(open(&settings).newest(RawCopy::Refuse).await.unwrap(), proof.file, "{situation}");
            }
            assert_eq!(files::names(&full).unwrap(), ["filler"], "no record is left");
        });
    });
}

#[tokio::test]
async fn an_object_that_was_changed_behind_our_back_is_not_verified_and_is_sent_anew() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let older = keep(&settings, name(1_800_000_000, 5), 1000);
    let proof = keep(&settings, name(1_800_000_100, 6), 1000);
    let (remote, parcel) = (open(&settings), parcel(&settings, &proof));
    remote.send(&super::parcel(&settings, &older), None, &quietly()).await.unwrap();
    remote.send(&parcel, None, &quietly()).await.unwrap();
    let whole = std::fs::read(&parcel.database).unwrap();
    let mut other_end = whole.clone();
    *other_end.last_mut().unwrap() ^= 1;
    let mut proofs = Proofs::default();
    assert_eq!(remote.list(&mut proofs).await.unwrap().newest(RawCopy::Refuse).unwrap().name, proof.name);
    for (bytes, words) in [(&whole[..500], "it has 500 bytes"), (&other_end, "does not end with the digest")] {
        remote.put_bytes(&proof.file, bytes.to_vec()).await.unwrap();
        let list = remote.list(&mut proofs).await.unwrap();
        let stored = list.get(&proof.name).unwrap();
        assert!(stored.proof.as_ref().is_err_and(|why| why.contains(words)), "{:?}", stored.proof);
        assert_eq!(remote.newest(RawCopy::Refuse).await.unwrap(), older.file, "the one before it is the newest");
        let trouble = remote.fetch(&proof.file, home.path(), &|_, _| ()).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Differs(_)), "{trouble:?}");
        assert!(!parcel.is_in(Some(stored)));
        remote.send(&parcel, Some(stored), &quietly()).await.unwrap();
        assert!(parcel.is_in(remote.list(&mut proofs).await.unwrap().get(&proof.name)));
    }
    // In the middle, with the same length and end: found by whoever reads all of it.
    let mut flipped = whole.clone();
    flipped[500] ^= 1;
    remote.put_bytes(&proof.file, flipped).await.unwrap();
    let trouble = remote.fetch(&proof.file, home.path(), &|_, _| ()).await.unwrap_err();
    assert!(
        matches!(&trouble, Trouble::Differs(why) if why.contains("differ from the verified snapshot")),
        "{trouble:?}"
    );
    let list = remote.list(&mut proofs).await.unwrap();
    remote.send(&parcel, list.get(&proof.name), &quietly()).await.unwrap();
    remote.fetch(&proof.file, home.path(), &|_, _| ()).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_other_objects_hide_nothing_and_are_left_alone() {
    let (server, home) = (Server::start(&["--objects", "10001"]), home());
    let settings = server.settings(home.path(), server.port);
    let remote = open(&settings);
    let mut sent = Vec::new();
    for at in 1..4 {
        let proof = keep(&settings, name(1_700_000_000 + at * 10, at), 1000);
        remote.send(&parcel(&settings, &proof), None, &quietly()).await.unwrap();
        sent.push(proof);
    }
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    assert_eq!(
        list.stored.iter().map(|stored| stored.name).collect::<Vec<_>>(),
        sent.iter().map(|p| p.name).collect::<Vec<_>>()
    );
    assert_eq!(names(&remote).await.len(), 10_001 + 6);
    let rules = Rules { last: 1, hourly: 0, daily: 0, weekly: 0, total: u64::MAX };
    for (gone, _) in surplus(&list, &BTreeSet::from([7]), &rules, Timestamp::now()) {
        remote.remove(&gone).await.unwrap();
    }
    assert_eq!(names(&remote).await.len(), 10_001 + 2);
    assert_eq!(remote.newest(RawCopy::Refuse).await.unwrap(), sent[2].file);
}

#[tokio::test]
async fn pruning_goes_by_time_and_proof_and_keeps_to_our_own_clusters() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let remote = open(&settings);
    // By their names as text the revision of the older one is the larger.
    let ours: Vec<Proof> = [(1, 99), (2, 100), (3, 101)]
        .map(|(hour, revision)| keep(&settings, name(1_700_000_000 + hour * 3600, revision), 1000))
        .to_vec();
    let theirs = keep(&settings, Name { cluster: 8, ..name(1_600_000_000, 1) }, 1000);
    for proof in ours.iter().chain([&theirs]) {
        remote.send(&parcel(&settings, proof), None, &quietly()).await.unwrap();
    }
    // The newest lost its proof: it is not the last verified one, and is left for the operator to look at.
    remote.delete(&format!("{}{ENDING}", ours[2].file)).await.unwrap();
    let rules = Rules { last: 1, hourly: 0, daily: 0, weekly: 0, total: u64::MAX };
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    let gone = surplus(&list, &BTreeSet::from([7]), &rules, Timestamp::now());
    assert_eq!(gone.iter().map(|(gone, why)| (gone.name, *why)).collect::<Vec<_>>(), [(ours[0].name, Why::Unkept)]);
    // Interrupted in the middle, it is no snapshot any more, and what is left of it goes with the next round.
    remote.delete(&ours[0].file).await.unwrap();
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    assert!(list.get(&ours[0].name).is_none());
    remote.sweep(&list).await.unwrap();
    let left = names(&remote).await;
    assert!(!left.iter().any(|name| name.starts_with(&ours[0].file)), "{left:?}");
    assert_eq!(left.len(), 2 + 1 + 2, "{left:?}");
    // A second time it is gone already.
    remote.remove(&gone[0].0).await.unwrap();
}

#[test]
fn the_clusters_that_are_pruned_are_this_nodes_whether_their_snapshots_lie_here_or_not() {
    let home = home();
    let mut settings = Settings::default();
    (settings.paths.state, settings.paths.run) = (home.path().join("state"), home.path().join("run"));
    let of = |cluster: u64| Snapshot {
        path: home.path().join("a.db"),
        name: Name { cluster, ..name(1, 1) },
        bytes: 1,
        proof: Err("no matter".into()),
        checked: None,
    };
    assert_eq!(own_clusters(&settings, &[]), BTreeSet::new());
    assert_eq!(own_clusters(&settings, &[of(7), of(7), of(8)]), BTreeSet::from([7, 8]));
    let known = bundle::tests::gathered().known;
    std::fs::create_dir_all(&settings.paths.run).unwrap();
    let text = crate::record::envelope::encode(1, "known", &known).unwrap();
    std::fs::write(settings.paths.run.join("known.json"), text).unwrap();
    assert_eq!(own_clusters(&settings, &[of(8)]), BTreeSet::from([7, 8]), "7 is what its etcd served");

    let lies = |cluster: u64| Stored {
        name: Name { cluster, ..name(1, 1) },
        bytes: 1,
        proof: Err("no matter".into()),
        files: Default::default(),
    };
    let list = |clusters: &[u64]| SnapshotList {
        stored: clusters.iter().copied().map(lies).collect(),
        ..SnapshotList::default()
    };
    assert_eq!(meant(&list(&[1, 2]), BTreeSet::from([2])), Ok(BTreeSet::from([2])));
    assert_eq!(meant(&list(&[1, 2]), BTreeSet::from([3])), Ok(BTreeSet::from([3])), "never those of others");
    assert_eq!(meant(&list(&[1, 1]), BTreeSet::new()), Ok(BTreeSet::from([1])));
    assert_eq!(meant(&list(&[1, 2]), BTreeSet::new()), Err(BTreeSet::from([1, 2])));
    assert_eq!(meant(&list(&[]), BTreeSet::new()), Ok(BTreeSet::new()));
}

#[tokio::test]
async fn the_last_verified_one_of_every_cluster_stays_whatever_the_rules_say() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let remote = open(&settings);
    let of = |cluster: u64, at: i64| Name { cluster, ..name(1_600_000_000 + at, at) };
    let mut sent = Vec::new();
    for name in [of(8, 1), of(8, 2), of(7, 3), of(7, 4), of(8, 5)] {
        let proof = keep(&settings, name, 1000);
        remote.send(&parcel(&settings, &proof), None, &quietly()).await.unwrap();
        sent.push(proof);
    }
    // The newest of the one is none: its last is the one before.
    remote.delete(&format!("{}{ENDING}", sent[4].file)).await.unwrap();
    let nothing = Rules { last: 0, hourly: 0, daily: 0, weekly: 0, total: 0 };
    let list = remote.list(&mut Proofs::default()).await.unwrap();
    let gone = surplus(&list, &BTreeSet::from([7, 8]), &nothing, Timestamp::now());
    assert_eq!(gone.iter().map(|(gone, _)| gone.name).collect::<Vec<_>>(), [sent[2].name, sent[0].name]);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let (server, home) = (Server::start(&[]), home());
    let door = Door::to(server.port).await;
    let mut settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), LARGE);
    let parcel = parcel(&settings, &proof);
    door.set(Stands::Hung);
    let patience = Duration::from_secs(120);
    // By its silence.
    settings.snapshots.remote.stall_timeout = Duration::from_secs(1);
    let given_up = tokio::time::timeout(patience, open(&settings).send(&parcel, None, &quietly())).await;
    let trouble = given_up.expect("it was given up").unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)), "{trouble:?}");
    // By the time for all of it, while it is silent only for a while each time.
    settings.snapshots.remote.stall_timeout = Duration::from_secs(3600);
    settings.snapshots.remote.timeout = Duration::from_secs(1);
    let given_up = tokio::time::timeout(patience, open(&settings).send(&parcel, None, &quietly())).await;
    let trouble = given_up.expect("it was given up").unwrap_err();
    assert!(matches!(trouble, Trouble::TooLong { .. }), "{trouble:?}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_and_no_other() {
    let (server, home) = (Server::start(&[]), home());
    let pki = Pki::new(home.path());
    pki.sign("server", "ca", 5);
    pki.authority("other");
    let read = |name: &str| std::fs::read(pki.path(name)).unwrap();
    let chain = CertificateDer::pem_slice_iter(&read("server.crt")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let door = Door::with_tls(server.port, TlsAcceptor::from(Arc::new(config))).await;
    let mut settings = server.settings(home.path(), door.port);
    let proof = keep(&settings, name(1_800_000_000, 5), 1000);
    let remote = &mut settings.snapshots.remote;
    remote.allow_http = false;
    remote.endpoint = Some(format!("https://127.0.0.1:{}", door.port));
    remote.ca_file = Some(pki.path("ca.crt"));
    open(&settings).send(&parcel(&settings, &proof), None, &quietly()).await.unwrap();
    for untrusted in [Some(pki.path("other.crt")), None] {
        settings.snapshots.remote.ca_file = untrusted;
        let trouble = open(&settings).list(&mut Proofs::default()).await.unwrap_err();
        assert!(trouble.to_string().contains("certificate"), "{trouble}");
    }
    settings.snapshots.remote.ca_file = Some(home.path().join("none.crt"));
    let place = "s3://backups/etcd".parse().unwrap();
    assert!(Remote::open(&settings.snapshots.remote, &place).unwrap_err().to_string().contains("none.crt"));
}

#[tokio::test]
async fn without_tls_nothing_is_sent_unless_that_is_allowed() {
    let (server, home) = (Server::start(&[]), home());
    let mut settings = server.settings(home.path(), server.port);
    settings.snapshots.remote.allow_http = false;
    let trouble = open(&settings).list(&mut Proofs::default()).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)), "{trouble}");
    settings.snapshots.remote.allow_http = true;
    open(&settings).list(&mut Proofs::default()).await.unwrap();
}

#[tokio::test]
async fn an_etcd_snapshot_of_somebody_else_comes_without_a_proof_and_says_so() {
    let (server, home) = (Server::start(&[]), home());
    let settings = server.settings(home.path(), server.port);
    let remote = open(&settings);
    remote.store.put(&remote.path("theirs.db"), b"database".to_vec().into()).await.unwrap();
    let fetched = remote.fetch("theirs.db", home.path(), &|_, _| ()).await.unwrap();
    assert_eq!(fetched.proof, None);
    assert_eq!(std::fs::read(fetched.path()).unwrap(), b"database");
    let trouble = remote.fetch("none.db", home.path(), &|_, _| ()).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Absent(_)), "{trouble:?}");
}
