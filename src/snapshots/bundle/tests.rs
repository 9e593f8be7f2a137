//! A bundle, written and read back; torn, foreign and hostile bundles.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use jiff::Timestamp;

use super::gather::Files;
use super::manifest::Component;
use super::tar::Entry;
use super::*;
use crate::etcd::snapshot::{TRAILER, Trailer, Verified};
use crate::model::etcd_history::{ClusterHistory, EtcdHistory};
use crate::model::{ComponentId, Digest};
use crate::record::envelope;
use crate::snapshots::{Directory, Name, Origin, Proof};
use crate::sys::{files as sys_files, label};

/// In every key of [`gathered`].
const SECRET: &str = "THE SECRET";

/// Of one file of [`gathered`].
const LABEL: &str = "system_u:object_r:etc_t:s0";

/// What a small node has.
pub(in crate::snapshots) fn gathered() -> Gathered {
    let entry = |path: &str, text: &str| Entry { path: path.into(), mode: 0o644, uid: 0, gid: 0, bytes: text.into() };
    let mut plain = Files::default();
    let mut keys = Files::default();
    plain.entries = vec![
        entry("/etc/kubernetes/manifests/etcd.yaml", "kind: Pod\n"),
        entry("/etc/kubernetes/audit.yaml", "kind: Policy\n"),
        entry("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n"),
    ];
    let key = |path: &str, mode: u32, text: &str| Entry { mode, ..entry(path, text) };
    keys.entries = vec![
        key("/etc/kubernetes/pki/ca.key", 0o640, &format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n")),
        key("/etc/kubernetes/admin.conf", 0o600, SECRET),
        key("/var/lib/kubelet/pki/kubelet-client-current.pem", 0o600, SECRET),
    ];
    let world = ClusterHistory {
        cluster: 7,
        member: 1,
        members: Vec::new(),
        term: 2,
        raft_index: 3,
        revision: 90,
        highest_revision: 100,
        at: Timestamp::UNIX_EPOCH,
        version: "3.5.16".into(),
        sizes: Vec::new(),
    };
    let etcd = Component {
        manifest: "/etc/kubernetes/manifests/etcd.yaml".into(),
        generation: 2,
        minor: Some((3, 5)),
        images: ["etcd:3.5.16-0".to_owned()].into(),
    };
    Gathered {
        node: "m0".into(),
        known: EtcdHistory { worlds: vec![world] },
        components: BTreeMap::from([(ComponentId::system("etcd"), etcd)]),
        plain,
        keys,
        labels: BTreeMap::from([("/etc/kubernetes/audit.yaml".into(), LABEL.to_owned())]),
        left_out: vec!["kube-scheduler: no generation of it is known-good yet".into()],
    }
}

/// A pair: the identity's file, and the recipient.
fn pair(dir: &Path, name: &str) -> (PathBuf, String) {
    let identity = age::x25519::Identity::generate();
    let path = dir.join(name);
    fs::write(&path, identity.to_string().expose_secret()).unwrap();
    (path, identity.to_public().to_string())
}

/// A snapshot with its proof, and a bundle.
fn bundled(dir: &Path, recipients: &[String]) -> PathBuf {
    let directory = Directory::at(&dir.join("snapshots"));
    let locked = directory.lock().unwrap();
    let name = Name { at: Timestamp::from_second(100).unwrap(), cluster: 7, revision: 95, origin: Origin::Stream };
    let body = b"database";
    let sha256 = Digest::of(body);
    let whole = [body.as_slice(), sha256.as_bytes()].concat();
    let staging = locked.stage().unwrap();
    fs::write(staging.path(), &whole).unwrap();
    let proof = Proof {
        file: name.to_string(),
        name,
        bytes: whole.len() as u64,
        sha256,
        member: Some(1),
        etcd: Some("3.5.16".into()),
        term: Some(2),
        raft_index: Some(3),
        keys: 4,
        verified: Timestamp::UNIX_EPOCH,
        by: "test".into(),
        found: None,
    };
    let path = locked.put(staging, &proof).unwrap();
    let now = Timestamp::from_second(200).unwrap();
    make(&path, &proof, Digest::of(&whole), gathered(), recipients, now).unwrap();
    path
}

/// The bundle of a snapshot, if both are as they were when it was made: the snapshot's own digest and pages are not looked at.
pub(crate) fn as_it_was(snapshot: &Path) -> Result<Bundle, Fault> {
    let bytes = fs::read(snapshot).map_err(|error| Fault::Damaged(error.to_string()))?;
    let (size, sha256) = ((bytes.len() as u64).saturating_sub(TRAILER), Digest::of(b""));
    let trailer = Trailer::Matches { sha256 };
    verify(snapshot, &Verified { size, sha256, whole: Digest::of(&bytes), trailer, contents: Default::default() })
}

#[test]
fn what_was_bundled_is_unpacked_as_it_lay_on_the_node_and_no_key_was_ever_plain() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, recipient) = pair(dir.path(), "identity");
    let snapshot = bundled(dir.path(), &[recipient]);
    let bundle = as_it_was(&snapshot).unwrap();
    assert_eq!((bundle.highest_revision, bundle.node.as_str(), bundle.keys.len()), (100, "m0", 3));
    assert_eq!(bundle.configuration.len(), 2);
    assert_eq!(bundle.left_out.len(), 1);
    for name in sys_files::names(&dir.path().join("snapshots")).unwrap() {
        let path = dir.path().join("snapshots").join(&name);
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let to = dir.path().join("node");
    place(&open(&snapshot, Some(&identity)).unwrap(), &to).unwrap();
    let Gathered { plain, keys, .. } = gathered();
    for entry in plain.entries.iter().chain(&keys.entries) {
        let path = target(&to, entry).unwrap();
        assert_eq!(fs::read(&path).unwrap(), entry.bytes, "{entry:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, entry.mode, "{entry:?}");
    }
    let in_use = fs::read_link(to.join("var/lib/kubelet/pki/kubelet-client-current.pem")).unwrap();
    assert!(in_use.is_relative(), "wherever it is copied to, it leads beside it: {}", in_use.display());
    assert_eq!(fs::metadata(to.join("etc/kubernetes")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);

    // What this file system keeps of a label, unpacking sets where it is meant to.
    let file = dir.path().join("labelled");
    fs::write(&file, "x").unwrap();
    let can = label::set(&file, LABEL).is_ok() && label::of(&file).as_deref() == Some(LABEL);
    let plain = label::of(&identity);
    let of = |to: &Path| label::of(&to.join("etc/kubernetes/audit.yaml"));
    for (name, labels) in [("set", unpack::Labels::Set), ("ignored", unpack::Labels::Ignore)] {
        let to = dir.path().join(name);
        unpack::placed(&open(&snapshot, Some(&identity)).unwrap(), &to, labels).unwrap();
        let wanted = if can && labels == unpack::Labels::Set { Some(LABEL) } else { plain.as_deref() };
        assert_eq!(of(&to).as_deref(), wanted, "{name}");
    }

    let again = place(&open(&snapshot, None).unwrap(), &to).unwrap_err();
    assert!(again.to_string().contains("is not empty"), "{again}");
    let file = place(&open(&snapshot, None).unwrap(), &identity).unwrap_err();
    assert!(file.to_string().contains("is a regular file"), "{file}");
}

#[test]
fn no_path_is_written_outside_the_directory_whatever_an_archive_says() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = bundled(dir.path(), &[]);
    let good = open(&snapshot, None).unwrap();
    let hostile = |path: &str| Entry { path: path.into(), mode: 0o644, uid: 0, gid: 0, bytes: b"x".to_vec() };
    for (n, path) in ["/../out", "../out", "/a/../../out", "..", "/a/..", ".."].into_iter().enumerate() {
        let to = dir.path().join(format!("plain{n}"));
        let contents = Contents { plain: vec![hostile(path)], ..good.clone() };
        assert!(target(&to, &hostile(path)).is_err(), "{path}");
        assert!(matches!(place(&contents, &to), Err(Fault::Damaged(_))), "{path}");
        let keys = Contents { plain: Vec::new(), keys: Keys::Opened(vec![hostile(path)]), ..good.clone() };
        let to = dir.path().join(format!("keys{n}"));
        assert!(matches!(place(&keys, &to), Err(Fault::Damaged(_))), "{path}");
        assert!(!dir.path().join("out").exists(), "{path}");
    }
    // An absolute path is one below it, and neither the directory itself nor anything in it may be a link.
    let to = dir.path().join("absolute");
    let contents = Contents { plain: vec![hostile("/etc/x")], ..good.clone() };
    place(&contents, &to).unwrap();
    assert_eq!(fs::read(to.join("etc/x")).unwrap(), b"x");
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    assert!(place(&contents, &link).unwrap_err().to_string().contains("symbolic link"));
    let with_link = dir.path().join("with-link");
    fs::create_dir(&with_link).unwrap();
    std::os::unix::fs::symlink(&elsewhere, with_link.join("etc")).unwrap();
    assert!(place(&contents, &with_link).unwrap_err().to_string().contains("is not empty"));
    assert_eq!(sys_files::names(&elsewhere).unwrap(), Vec::<String>::new());
}

#[test]
fn without_an_identity_or_without_a_recipient_there_are_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, recipient) = pair(dir.path(), "identity");
    let (stranger, _) = pair(dir.path(), "stranger");
    let sealed = bundled(dir.path(), &[recipient]);
    assert_eq!(open(&sealed, None).unwrap().keys, Keys::Closed);
    let wrong = open(&sealed, Some(&stranger)).unwrap_err();
    assert!(matches!(&wrong, Fault::Refused(why) if why.contains("not encrypted to any identity")), "{wrong}");

    let other = tempfile::tempdir().unwrap();
    let keyless = bundled(other.path(), &[]);
    let contents = open(&keyless, Some(&identity)).unwrap();
    assert_eq!((contents.keys, contents.bundle.keys.len()), (Keys::Absent, 3), "known by fingerprint all the same");
    assert!(!beside(&keyless, KEYS).unwrap().exists());
}

#[test]
fn nothing_that_could_be_guessed_has_a_fingerprint_and_what_is_opened_is_what_was_listed() {
    let dir = tempfile::tempdir().unwrap();
    let pki = crate::observe::testing::Pki::new(dir.path());
    let (identity, recipient) = pair(dir.path(), "identity");
    let snapshot = bundled(dir.path(), &[]);
    let entry = |path: &str, bytes: Vec<u8>| Entry { path: path.into(), mode: 0o600, uid: 0, gid: 0, bytes };
    let read = |name: &str| fs::read(pki.path(name)).unwrap();
    let password = b"hunter2,admin,1\n".to_vec();
    let mut gathered = gathered();
    gathered.keys.entries = vec![
        entry("/etc/kubernetes/pki/ca.crt", read("ca.crt")),
        entry("/etc/kubernetes/pki/ca.key", read("ca.key")),
        entry("/etc/kubernetes/tokens.csv", password.clone()),
    ];
    let proof = Directory::at(snapshot.parent().unwrap()).list().unwrap().remove(0).proof.unwrap();
    let whole = Digest::of(&fs::read(&snapshot).unwrap());
    super::remove(&snapshot).unwrap();
    make(&snapshot, &proof, whole, gathered, &[recipient], Timestamp::UNIX_EPOCH).unwrap();
    let manifest = fs::read_to_string(beside(&snapshot, MANIFEST).unwrap()).unwrap();
    for guessed in [Digest::of(&password), Digest::of(b"hunter2"), Digest::of(&read("ca.key"))] {
        assert!(!manifest.contains(&guessed.to_string()), "{manifest}");
    }
    let contents = open(&snapshot, Some(&identity)).unwrap();
    let public: Vec<bool> = contents.bundle.keys.iter().map(|key| key.public.is_some()).collect();
    assert_eq!(public, [true, true, false]);

    // What the sealed part holds is held against the list: a key more, one less, another one.
    let sealed = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = contents.bundle.clone();
        change(&mut bundle);
        fs::write(beside(&snapshot, MANIFEST).unwrap(), bundle.encode().unwrap()).unwrap();
        open(&snapshot, Some(&identity)).map(drop).map_err(|fault| fault.to_string())
    };
    let changes: [&dyn Fn(&mut Bundle); 5] = [
        &|bundle| drop(bundle.keys.pop()),
        &|bundle| bundle.keys.push(bundle.keys[0].clone()),
        &|bundle| bundle.keys[2].path = "/elsewhere".into(),
        &|bundle| bundle.keys[0].public = bundle.keys[1].public,
        &|bundle| bundle.keys[2].public = bundle.keys[1].public,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        assert!(sealed(change).unwrap_err().contains("does not contain the keys"), "{n}");
    }
    // A bundle of format 1, with digests of whole files, is opened as it was.
    let mut before = contents.bundle.clone();
    for (key, name) in before.keys.iter_mut().zip(["ca.crt", "ca.key"]) {
        (key.public, key.sha256) = (None, Some(Digest::of(&read(name))));
    }
    before.keys[2].sha256 = Some(Digest::of(&password));
    let write = |bundle: &Bundle| {
        let text = envelope::encode(1, "bundle", bundle).unwrap();
        fs::write(beside(&snapshot, MANIFEST).unwrap(), text).unwrap();
    };
    write(&before);
    assert_eq!(open(&snapshot, Some(&identity)).unwrap().bundle, before);
    before.keys[2].sha256 = Some(Digest::of(b"another"));
    write(&before);
    assert!(open(&snapshot, Some(&identity)).is_err());
}

#[test]
fn a_part_that_was_touched_is_named_and_the_data_stay_proven() {
    let dir = tempfile::tempdir().unwrap();
    let (_, recipient) = pair(dir.path(), "identity");
    let snapshot = bundled(dir.path(), &[recipient]);
    for ending in [NODE, KEYS] {
        let path = beside(&snapshot, ending).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[600.min(whole.len() - 1)] ^= 1;
        for touched in [&flipped, &whole[..whole.len() - 1].to_vec(), &Vec::new()] {
            fs::write(&path, touched).unwrap();
            let fault = as_it_was(&snapshot).unwrap_err();
            assert!(matches!(&fault, Fault::Damaged(why) if why.contains(ending)), "{fault}");
        }
        fs::remove_file(&path).unwrap();
        assert!(as_it_was(&snapshot).unwrap_err().to_string().contains(ending));
        fs::write(&path, &whole).unwrap();
    }
    let manifest = beside(&snapshot, MANIFEST).unwrap();
    let whole = fs::read(&manifest).unwrap();
    for end in 0..whole.len() {
        fs::write(&manifest, &whole[..end]).unwrap();
        assert!(matches!(as_it_was(&snapshot), Err(Fault::Damaged(_))), "cut at {end}");
    }
    let listed = Directory::at(&dir.path().join("snapshots")).list().unwrap();
    assert!(listed.len() == 1 && listed[0].proof.is_ok(), "a torn bundle unproves nothing");
    fs::write(&manifest, &whole).unwrap();
    as_it_was(&snapshot).unwrap();
    let mut data = fs::read(&snapshot).unwrap();
    data[0] ^= 1;
    fs::write(&snapshot, data).unwrap();
    assert!(as_it_was(&snapshot).unwrap_err().to_string().contains(".db changed since the bundle was made"));
}

#[test]
fn a_hostile_manifest_is_refused_by_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, recipient) = pair(dir.path(), "identity");
    let snapshot = bundled(dir.path(), &[recipient]);
    let file = snapshot.file_name().unwrap().to_str().unwrap().to_owned();
    let good = Bundle::read(&snapshot).unwrap();
    let refused = |what: &str, change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        let why = Bundle::decode(&bundle.encode().unwrap(), &file).unwrap_err();
        assert!(why.contains(what), "{what}: {why}");
    };
    for name in ["../../etc/shadow", "/etc/shadow", "a/b.node.tar", "other.node.tar", ".node.tar", ""] {
        refused("no part of a snapshot of that name", &|bundle| bundle.parts[1].name = name.to_owned());
    }
    refused("twice", &|bundle| bundle.parts.push(bundle.parts[1].clone()));
    refused("twice", &|bundle| bundle.parts.push(bundle.parts[0].clone()));
    refused("at most", &|bundle| bundle.parts[1].bytes = u64::MAX);
    refused("does not list", &|bundle| drop(bundle.parts.remove(1)));
    refused("recipients of its keys", &|bundle| bundle.recipients.clear());
    refused("recipients of its keys", &|bundle| bundle.parts.truncate(2));
    refused("lists no part", &|bundle| bundle.parts.clear());
    refused("give every file", &|bundle| bundle.parts[0].name = "other.db".to_owned());
    refused("control characters", &|bundle| bundle.left_out.push("\x1b[2J".to_owned()));
    refused("control characters", &|bundle| bundle.keys[0].path = "/a\nb".into());

    let mut json = serde_json::to_value(&good).unwrap();
    assert_eq!(Bundle::decode(&envelope::encode(2, "bundle", &json).unwrap(), &file).unwrap(), good);
    json["surprise"] = true.into();
    let unknown = Bundle::decode(&envelope::encode(2, "bundle", &json).unwrap(), &file).unwrap_err();
    assert!(unknown.contains("surprise"), "{unknown}");
    let newer = envelope::encode(9, "bundle", &good).unwrap();
    assert!(Bundle::decode(&newer, &file).unwrap_err().contains("newer lastgood"));
    assert!(Bundle::decode(&vec![b' '; 2 << 20], &file).unwrap_err().contains("larger than"));
}

#[test]
fn what_a_crash_left_of_a_bundle_is_swept_and_what_goes_goes_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (_, recipient) = pair(dir.path(), "identity");
    let snapshot = bundled(dir.path(), &[recipient]);
    let directory = Directory::at(&dir.path().join("snapshots"));
    let names = || {
        let mut names = sys_files::names(directory.path()).unwrap();
        names.retain(|name| name != ".lock");
        names
    };
    let whole = names();
    assert_eq!(whole.len(), 5);
    assert!(bytes_beside(&snapshot) > 2000);
    fs::write(directory.path().join("mine.bundle.json"), "x").unwrap();
    drop(directory.lock().unwrap());
    assert_eq!(names().len(), 6, "nothing of it is swept");
    fs::remove_file(directory.path().join("mine.bundle.json")).unwrap();

    let manifest = beside(&snapshot, MANIFEST).unwrap();
    let bytes = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    drop(directory.lock().unwrap());
    assert_eq!(names().len(), 2, "parts that nothing lists");
    assert!(directory.list().unwrap()[0].proof.is_ok());

    fs::write(&manifest, bytes).unwrap();
    fs::rename(&snapshot, dir.path().join("away")).unwrap();
    drop(directory.lock().unwrap());
    assert_eq!(names().len(), 0, "a bundle of nothing");

    let other = tempfile::tempdir().unwrap();
    bundled(other.path(), &[]);
    let directory = Directory::at(&other.path().join("snapshots"));
    let locked = directory.lock().unwrap();
    locked.remove(&directory.list().unwrap()[0]).unwrap();
    assert_eq!(sys_files::names(directory.path()).unwrap(), [".lock"]);
}
