//! Snapshots taken by hand: uploaded, saved to a file, deleted, unpacked, pruned; from a real etcd, and with a real S3
//! server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use age::secrecy::ExposeSecret as _;
use clap::Parser as _;

use super::remote::{self, Begun};
use super::save::{With, keep_as, save};
use super::unpack::{UnpackArgs, unpack};
use crate::cli::{Cli, Command, ConfirmArgs, Exit};
use crate::config::Settings;
use crate::config::object_url::ObjectUrl;
use crate::etcd::snapshot::RawCopy;
use crate::report::Format;
use crate::snapshots::Directory;
use crate::snapshots::remote::tests::server::{Door, Server, Stands};
use crate::snapshots::save::{Proven, from_member, quietly};
use crate::snapshots::tests::real::{Cluster, LIMITS};
use crate::sys::files;

/// In the key of the node.
const SECRET: &str = "-----BEGIN PRIVATE KEY-----\nTHE SECRET\n";

/// A node that has a key, its snapshots encrypted to somebody, whose identity is the second.
fn node(home: &Path, mut settings: Settings) -> (Settings, PathBuf) {
    let identity = age::x25519::Identity::generate();
    let path = home.join("identity");
    fs::write(&path, identity.to_string().expose_secret()).unwrap();
    settings.snapshots.recipients = vec![identity.to_public().to_string()];
    settings.snapshots.directory = Some(home.join("snapshots"));
    settings.paths.kubernetes = home.join("kubernetes");
    (settings.paths.state, settings.paths.run) = (home.join("state"), home.join("run"));
    settings.kubelet.config = home.join("kubelet/config.yaml");
    settings.kubelet.kubeconfig = home.join("kubelet.conf");
    fs::create_dir_all(home.join("kubernetes/pki")).unwrap();
    fs::write(home.join("kubernetes/pki/ca.key"), SECRET).unwrap();
    drop(Directory::at(&settings.snapshot_dir()).lock().unwrap());
    (settings, path)
}

async fn taken(cluster: &Cluster, dir: &Path) -> Proven {
    from_member(&cluster.way(), LIMITS, dir, &quietly()).await.unwrap().prove(&quietly()).await.unwrap()
}

fn place(text: &str) -> ObjectUrl {
    text.parse().unwrap()
}

async fn there(settings: &Settings, at: &str) -> Vec<String> {
    let remote = crate::snapshots::remote::Remote::open(&settings.snapshots.remote, &place(at)).unwrap();
    remote.names().await.unwrap()
}

fn of(snapshot: &str, to: &Path, identity: Option<&Path>) -> UnpackArgs {
    UnpackArgs {
        snapshot: snapshot.into(),
        to: to.to_owned(),
        identity: identity.map(Path::to_owned),
        dry_run: false,
        output: Format::Text,
    }
}

/// The key, as it was unpacked below a directory.
fn unpacked_key(settings: &Settings, below: &Path) -> String {
    let key = settings.paths.kubernetes.join("pki/ca.key");
    fs::read_to_string(below.join(key.strip_prefix("/").unwrap())).unwrap()
}

#[tokio::test]
async fn what_is_sent_by_hand_takes_its_bundle_along_and_a_bare_machine_unpacks_it_from_there() {
    let (server, cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (settings, identity) = node(home.path(), server.settings(home.path(), server.port));
    let dir = settings.snapshot_dir();
    for at in ["s3://backups/own", "s3://backups/named/before.db"] {
        let proven = taken(&cluster, &dir).await;
        let row = remote::send(&settings, &place(at), &dir, &proven, &OnceLock::new()).await.unwrap();
        drop(proven);
        let (prefix, name) = row.path.rsplit_once('/').unwrap();
        let stem = name.strip_suffix(".db").unwrap();
        let names = ["bundle.json", "db", "db.proof.json", "keys.tar.age", "node.tar"];
        assert_eq!(there(&settings, prefix).await, names.map(|ending| format!("{stem}.{ending}")));
        assert_eq!(files::names(&dir).unwrap(), [".lock"], "nothing of it is left here");
        let verified = remote::verified(&settings, &place(&row.path), RawCopy::Refuse, Format::Text).await;
        assert_eq!(verified.unwrap(), Exit::Ok);

        // A bare machine knows how to get there, and nothing else.
        let bare = tempfile::tempdir().unwrap();
        let (mut there_alone, _) = node(bare.path(), Settings::default());
        there_alone.snapshots.remote = settings.snapshots.remote.clone();
        let to = bare.path().join("out");
        assert_eq!(unpack(&there_alone, &of(&row.path, &to, Some(&identity))).await.unwrap(), Exit::Ok);
        assert_eq!(unpacked_key(&settings, &to), SECRET);
        // A second time under the same name: nothing is written over.
        let proven = taken(&cluster, &dir).await;
        let again = remote::send(&settings, &place(&row.path), &dir, &proven, &OnceLock::new()).await.unwrap_err();
        assert!(again.exit == Exit::Refused && again.sentence.contains("exists already"), "{}", again.sentence);
    }
    // By its prefix: the newest verified that has one, whatever else is there.
    let prefix = place("s3://backups/own");
    let store = crate::snapshots::remote::Remote::open(&settings.snapshots.remote, &prefix).unwrap();
    for ending in ["db", "bundle.json"] {
        store.replace(&format!("21000101T000000Z-00000000000000aa-r5.{ending}"), b"x".to_vec()).await.unwrap();
    }
    let to = home.path().join("newest");
    assert_eq!(unpack(&settings, &of("s3://backups/own", &to, Some(&identity))).await.unwrap(), Exit::Ok);
    assert_eq!(unpacked_key(&settings, &to), SECRET);
}

#[tokio::test]
async fn a_part_there_that_is_torn_or_gone_is_named_and_the_data_stay_whole() {
    let (server, cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (settings, identity) = node(home.path(), server.settings(home.path(), server.port));
    let at = place("s3://backups/etcd/mine.db");
    let proven = taken(&cluster, &settings.snapshot_dir()).await;
    remote::send(&settings, &at, &settings.snapshot_dir(), &proven, &OnceLock::new()).await.unwrap();
    let store =
        crate::snapshots::remote::Remote::open(&settings.snapshots.remote, &place("s3://backups/etcd")).unwrap();
    let (_, parts) = store.bundle("mine.db").await.unwrap();
    for part in ["mine.node.tar", "mine.keys.tar.age"] {
        let whole = parts[part].clone();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (bytes, why) in
            [(Some(flipped), "its SHA-256 differs"), (Some(b"x".to_vec()), "has 1 bytes"), (None, "does not exist")]
        {
            match bytes {
                Some(bytes) => store.replace(part, bytes).await.unwrap(),
                None => store.remove_all([part.to_owned()]).await.unwrap(),
            }
            let to = home.path().join("out");
            let text = format!("{at}");
            let torn = unpack(&settings, &of(&text, &to, Some(&identity))).await.unwrap_err();
            assert!(
                torn.exit == Exit::Unwell && torn.sentence.contains(part) && torn.sentence.contains(why),
                "{}",
                torn.sentence
            );
            assert!(!to.exists());
            let torn = remote::verified(&settings, &at, RawCopy::Refuse, Format::Text).await.unwrap_err();
            assert!(torn.exit == Exit::Unwell && torn.sentence.contains(part), "{}", torn.sentence);
        }
        store.replace(part, whole).await.unwrap();
    }
    assert_eq!(remote::verified(&settings, &at, RawCopy::Refuse, Format::Text).await.unwrap(), Exit::Ok);
    // Another snapshot in its place, as whole as it was: this bundle is none of it.
    cluster.grow(1);
    let another = taken(&cluster, &settings.snapshot_dir()).await;
    store.remove_all(["mine.db.proof.json".to_owned()]).await.unwrap();
    store.replace("mine.db", fs::read(another.path()).unwrap()).await.unwrap();
    let foreign = remote::verified(&settings, &at, RawCopy::Refuse, Format::Text).await.unwrap_err();
    assert!(foreign.exit == Exit::Unwell && foreign.sentence.contains("its bundle is not"), "{}", foreign.sentence);
}

#[tokio::test]
async fn an_object_that_was_cut_off_is_taken_for_no_snapshot_with_or_without_its_proof() {
    let (server, cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (settings, _) = node(home.path(), server.settings(home.path(), server.port));
    let dir = settings.snapshot_dir();
    let proven = taken(&cluster, &dir).await;
    let whole = fs::read(proven.path()).unwrap();
    let at = place("s3://backups/etcd/mine.db");
    remote::send(&settings, &at, &dir, &proven, &OnceLock::new()).await.unwrap();
    let prefix = place("s3://backups/etcd");
    let store = crate::snapshots::remote::Remote::open(&settings.snapshots.remote, &prefix).unwrap();
    // Off by one, without the digest at its end, and in the middle of its pages.
    let ends = [whole.len() - 1, whole.len() - 32, whole.len() / 2, 4096, 0];
    for with_proof in [true, false] {
        for end in ends {
            store.replace("mine.db", whole[..end].to_vec()).await.unwrap();
            let verified = remote::verified(&settings, &at, RawCopy::Refuse, Format::Text).await.unwrap_err();
            let exits = [Exit::Unwell, Exit::Refused];
            assert!(exits.contains(&verified.exit), "cut at {end}, {with_proof}: {}", verified.sentence);
            assert!(verified.sentence.contains("s3://backups/etcd/mine.db"), "{}", verified.sentence);
            // What a restore takes as its file.
            let fetched = remote::fetch(&settings, &at, RawCopy::Refuse).await;
            match (fetched, with_proof) {
                (Err(failure), true) => assert!(failure.exit == Exit::Unwell, "{}", failure.sentence),
                (Ok(fetched), false) => {
                    assert!(crate::etcd::snapshot::verify(fetched.path(), RawCopy::Refuse, &mut |_, _| ()).is_err());
                }
                (fetched, _) => panic!("cut at {end}, {with_proof}: {fetched:?}"),
            }
        }
        store.remove_all(["mine.db.proof.json".to_owned()]).await.unwrap();
    }
    store.replace("mine.db", whole).await.unwrap();
    assert_eq!(remote::verified(&settings, &at, RawCopy::Refuse, Format::Text).await.unwrap(), Exit::Ok);
}

#[tokio::test]
async fn what_breaks_off_by_hand_is_taken_back_and_where_it_cannot_be_that_is_said() {
    let (server, cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    // More than what is sent before the first part of the bundle would be.
    cluster.grow(2);
    let door = Door::to(server.port).await;
    let (settings, _) = node(home.path(), server.settings(home.path(), door.port));
    let direct = server.settings(home.path(), server.port);
    let (dir, at) = (settings.snapshot_dir(), place("s3://backups/etcd"));
    let proven = taken(&cluster, &dir).await;
    // The database gets there, and comes back otherwise.
    door.set(Stands::Garbling);
    let begun: OnceLock<Begun> = OnceLock::new();
    let failure = remote::send(&settings, &at, &dir, &proven, &begun).await.unwrap_err();
    assert_eq!(there(&direct, "s3://backups/etcd").await.len(), 1, "{}", failure.sentence);
    door.set(Stands::Shut);
    let back = remote::take_back(&settings, begun.get().unwrap()).await;
    let left = begun.get().unwrap().left(&back.unwrap_err());
    assert!(left.contains(&proven.proof().file), "{left}");
    door.set(Stands::Open);
    remote::take_back(&settings, begun.get().unwrap()).await.unwrap();
    assert_eq!(there(&direct, "s3://backups/etcd").await, Vec::<String>::new());
    drop(proven);
    assert_eq!(files::names(&dir).unwrap(), [".lock"]);
}

#[tokio::test]
async fn interrupted_in_the_middle_nothing_of_it_is_left_here_or_there() {
    let (server, mut cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let door = Door::to(server.port).await;
    let (settings, _) = node(home.path(), server.settings(home.path(), door.port));
    let direct = server.settings(home.path(), server.port);
    let data_dir = cluster.stop();
    // The database gets there, and what travels with it does not.
    door.set(Stands::HoldingBack("node.tar"));
    let saving = save(&settings, Some("s3://backups/etcd".into()), With::FileAlone, Some(data_dir), Format::Text);
    let interrupting = async {
        door.holds_back().await;
        let there = there(&direct, "s3://backups/etcd").await;
        assert!(there.len() == 1 && there[0].ends_with(".raw.db"), "{there:?}");
        // What was sent is tried again in a moment; by then this has been heard.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        door.set(Stands::Open);
    };
    let (saved, ()) = tokio::join!(saving, interrupting);
    let failure = saved.unwrap_err();
    assert_eq!(failure.sentence, "ended before the snapshot was complete; its files were removed");
    assert_eq!(there(&direct, "s3://backups/etcd").await, Vec::<String>::new());
    assert_eq!(files::names(&settings.snapshot_dir()).unwrap(), [".lock"]);
}

#[tokio::test]
async fn a_file_that_a_person_names_is_written_alone_or_with_its_bundle() {
    let (cluster, home) = (Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (mut settings, identity) = node(home.path(), Settings::default());
    let dir = home.path().join("mine");
    fs::create_dir(&dir).unwrap();
    keep_as(&settings, taken(&cluster, &dir).await, dir.join("alone.db"), With::FileAlone).unwrap();
    assert_eq!(files::names(&dir).unwrap(), ["alone.db", "alone.db.proof.json"]);

    let file = dir.join("whole.db");
    keep_as(&settings, taken(&cluster, &dir).await, file.clone(), With::Bundle).unwrap();
    let alone = ["alone.db", "alone.db.proof.json"].as_slice();
    let whole = ["whole.bundle.json", "whole.db", "whole.db.proof.json", "whole.keys.tar.age", "whole.node.tar"];
    let whole = [alone, &whole].concat();
    assert_eq!(files::names(&dir).unwrap(), whole);
    crate::snapshots::bundle::tests::as_it_was(&file).unwrap();
    let to = home.path().join("out");
    let text = file.display().to_string();
    assert_eq!(unpack(&settings, &of(&text, &to, Some(&identity))).await.unwrap(), Exit::Ok);
    assert_eq!(unpacked_key(&settings, &to), SECRET);

    // Where a part cannot be made, and where one cannot be put in place, the snapshot and what was there remain.
    settings.snapshots.recipients = vec!["age1nonsense".to_owned()];
    keep_as(&settings, taken(&cluster, &dir).await, dir.join("without.db"), With::Bundle).unwrap();
    settings.snapshots.recipients.clear();
    fs::write(dir.join("other.bundle.json"), "a person's").unwrap();
    keep_as(&settings, taken(&cluster, &dir).await, dir.join("other.db"), With::Bundle).unwrap();
    let others = ["without.db", "without.db.proof.json", "other.bundle.json", "other.db", "other.db.proof.json"];
    let mut wanted = [whole.as_slice(), &others].concat();
    wanted.sort_unstable();
    assert_eq!(files::names(&dir).unwrap(), wanted);
    assert_eq!(fs::read_to_string(dir.join("other.bundle.json")).unwrap(), "a person's");
}

#[tokio::test]
async fn pruning_there_needs_no_snapshot_here() {
    let (server, mut cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (mut settings, _) = node(home.path(), server.settings(home.path(), server.port));
    let remote = &mut settings.snapshots.remote;
    (remote.keep_last, remote.keep_hourly, remote.keep_daily, remote.keep_weekly) = (1, 0, 0, 0);
    let (dir, at) = (settings.snapshot_dir(), place("s3://backups/etcd"));
    let mut sent = Vec::new();
    for _ in 0..2 {
        let mut proven = taken(&cluster, &dir).await;
        // A name tells seconds apart.
        while sent.contains(&proven.proof().file) {
            proven = taken(&cluster, &dir).await;
        }
        remote::send(&settings, &at, &dir, &proven, &OnceLock::new()).await.unwrap();
        sent.push(proven.proof().file.clone());
    }
    assert_eq!(Directory::at(&dir).list().unwrap(), Vec::new(), "none lies here");
    let care = |dry_run| ConfirmArgs { dry_run, yes: true, output: Format::Text };
    for dry_run in [true, false, false] {
        let pruned = remote::prune(&settings, BTreeSet::new(), care(dry_run)).await.unwrap();
        assert_eq!(pruned, Exit::Ok);
        let left = there(&settings, "s3://backups/etcd").await;
        assert_eq!(left.iter().any(|name| name.starts_with(sent[0].trim_end_matches(".db"))), dry_run, "{left:?}");
        assert!(left.contains(&sent[1]), "{left:?}");
    }
    // Of several clusters none is meant unless it is named.
    let store = crate::snapshots::remote::Remote::open(&settings.snapshots.remote, &at).unwrap();
    store.replace("20200101T000000Z-00000000000000aa-r5.db", b"x".to_vec()).await.unwrap();
    let unclear = remote::prune(&settings, BTreeSet::new(), care(false)).await.unwrap_err();
    assert!(
        unclear.exit == Exit::Refused && unclear.sentence.contains("--cluster, out of aa, "),
        "{}",
        unclear.sentence
    );
    assert_eq!(remote::prune(&settings, BTreeSet::from([0xaa]), care(false)).await.unwrap(), Exit::Ok);

    // Where the directory cannot even be read, the WAL of this node's etcd says which cluster is meant.
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "a file").unwrap();
    let unclear = remote::prune(&settings, BTreeSet::new(), care(false)).await.unwrap_err();
    assert_eq!(unclear.exit, Exit::Refused, "{unclear}");
    settings.paths.manifests = Some(home.path().join("manifests"));
    settings.paths.inactive_manifests = home.path().join("manifests");
    fs::create_dir(home.path().join("manifests")).unwrap();
    let data = cluster.stop();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, namespace: kube-system}}\nspec:\n  containers:\n  - name: \
         etcd\n    image: registry.k8s.io/etcd:3.5.16-0\n    command: [etcd, --data-dir={}]\n",
        data.display()
    );
    fs::write(home.path().join("manifests/etcd.yaml"), manifest).unwrap();
    let own = crate::ops::etcd::node::cluster(&settings).unwrap();
    let name: crate::snapshots::Name = sent[1].parse().unwrap();
    assert_eq!(own, name.cluster);
    assert_eq!(remote::prune(&settings, BTreeSet::new(), care(false)).await.unwrap(), Exit::Ok);
}

#[tokio::test]
async fn nothing_of_a_persons_is_lost_where_the_proof_belongs_and_a_snapshot_without_one_stands() {
    let (cluster, home) = (Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (settings, _) = node(home.path(), Settings::default());
    let dir = home.path().join("mine");
    fs::create_dir(&dir).unwrap();
    let save_as = |name: &str| save(&settings, Some(dir.join(name)), With::FileAlone, None, Format::Text);
    fs::write(dir.join("a.db.proof.json"), "precious").unwrap();
    fs::create_dir(dir.join("b.db.proof.json")).unwrap();
    for name in ["a.db", "b.db"] {
        let refused = save_as(name).await.unwrap_err();
        assert!(
            refused.exit == Exit::Refused && refused.sentence.contains("lastgood did not write it"),
            "{}",
            refused.sentence
        );
        assert!(!dir.join(name).exists());
    }
    assert_eq!(fs::read_to_string(dir.join("a.db.proof.json")).unwrap(), "precious");
    // Where it came to stand meanwhile, the snapshot and its bundle stand nevertheless.
    keep_as(&settings, taken(&cluster, &dir).await, dir.join("b.db"), With::Bundle).unwrap();
    crate::snapshots::bundle::tests::as_it_was(&dir.join("b.db")).unwrap();
    // Of a file that is gone, it is ours and goes.
    keep_as(&settings, taken(&cluster, &dir).await, dir.join("c.db"), With::FileAlone).unwrap();
    let old = fs::read(dir.join("c.db.proof.json")).unwrap();
    fs::remove_file(dir.join("c.db")).unwrap();
    assert_eq!(crate::snapshots::in_the_way(&dir.join("c.db")).unwrap(), None);
    cluster.grow(1);
    keep_as(&settings, taken(&cluster, &dir).await, dir.join("c.db"), With::FileAlone).unwrap();
    assert_ne!(fs::read(dir.join("c.db.proof.json")).unwrap(), old);
    assert_eq!(files::names(&dir).unwrap().iter().filter(|name| name.starts_with('.')).count(), 0);
}

#[tokio::test]
async fn what_is_told_of_a_snapshot_that_was_fetched_calls_it_by_its_place() {
    let (server, cluster, home) = (Server::start(&[]), Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
    let (settings, _) = node(home.path(), server.settings(home.path(), server.port));
    let (dir, at) = (settings.snapshot_dir(), "s3://backups/etcd/mine.db");
    let proven = taken(&cluster, &dir).await;
    remote::send(&settings, &place(at), &dir, &proven, &OnceLock::new()).await.unwrap();
    drop(proven);
    let to = home.path().join("etcd");
    let line = format!("lastgood etcd restore --from {at} --yes --name other --data-dir {}", to.display());
    let words = line.split(' ').chain(["--initial-advertise-peer-urls=https://10.0.0.9:2380"]);
    let Command::Etcd(command) = Cli::try_parse_from(words).unwrap().command else { panic!("{line}") };
    let refused = super::etcd(&settings, command).await.unwrap_err();
    assert!(refused.sentence.contains(&format!("restore --from {at} --name")), "{}", refused.sentence);
    assert!(!to.exists() && files::names(&dir).unwrap() == [".lock"]);
}
