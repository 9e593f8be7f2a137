//! `lastgood gate`: runs before the kubelet starts, and bars etcd's data directory where the data that etcd served are not
//! there. An etcd on an empty directory founds a cluster; kubeadm's manifest of the first master founds one with the IDs of
//! the old one, which answers linearizable reads.
//!
//! ```text
//!   the manifest of etcd, the data on record, what is there now
//!       │ nothing is missing, or somebody is at work     ─▶ open: the kubelet starts
//!       │ the data, or the mount that they were on       ─▶ wait: a disk may come late
//!       └ missing after 8 s                              ─▶ bar (etcd/bar.rs), the kubelet starts
//! ```
//!
//! It never keeps a node from booting: whatever goes wrong in it is said, and the kubelet starts. What it writes below a
//! mount point is hidden when the disk is mounted late.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::offline::Offline;
use crate::config::Settings;
use crate::etcd::{bar, wal};
use crate::model::etcd_data::{DataDir, Mount};
use crate::model::manifest::DataIdentity;
use crate::model::observation::BusyKind;
use crate::model::policy::Mode;
use crate::model::{Manifest, Memory, Role};
use crate::observe;
use crate::sys::proc;

/// For a disk that is mounted late. The unit ends the gate after 10 s.
const WAIT: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Looks, waits and bars as needed. Returns what there is to say; nothing where nothing is missing.
pub(crate) async fn gate(settings: &Settings) -> Vec<String> {
    let memory = match Offline::open(settings).and_then(|offline| offline.memory()) {
        Ok(memory) => memory,
        // Without a record nothing can be missing.
        Err(_) => return Vec::new(),
    };
    let deadline = Instant::now() + WAIT;
    loop {
        match verdict(&Scene::look(settings, &memory), Instant::now() >= deadline) {
            Verdict::Open(why) => return why.into_iter().collect(),
            Verdict::Wait => sleep(LOOK_AGAIN).await,
            Verdict::Bar { data_dir, why } => return vec![barred(&data_dir, &why)],
        }
    }
}

fn barred(data_dir: &Path, why: &str) -> String {
    let dir = data_dir.display();
    match std::fs::create_dir_all(data_dir).and_then(|()| bar::bar(data_dir, why)) {
        Ok(()) => format!(
            "{dir} is barred, no etcd starts over it: {why}; next: mount the disk or restore the data, or \
             `lastgood etcd unbar` if etcd may start without them"
        ),
        Err(error) => format!(
            "{dir} cannot be barred ({error}), although {why}; next: stop the kubelet, or etcd may found a cluster"
        ),
    }
}

/// What the gate goes by.
#[derive(Debug)]
struct Scene {
    /// What the deployed manifest says of etcd's data, and whether etcd founds no cluster by it.
    etcd: Option<Deployed>,
    recorded: Option<(PathBuf, DataDir)>,
    at_work: Option<String>,
    there: There,
}

#[derive(Debug)]
struct Deployed {
    data_dir: PathBuf,
    joins_only: bool,
}

/// What is in the place of the data.
#[derive(Debug)]
struct There {
    has_data: bool,
    mount: Option<Mount>,
}

impl Scene {
    fn look(settings: &Settings, memory: &Memory) -> Self {
        let (_, environment) = observe::find(settings);
        let etcd = observe::role_manifest(&environment.manifests.value, Role::Etcd);
        let etcd = etcd.and_then(|(_, manifest)| deployed(&manifest));
        let record = memory.components.values().find(|record| record.role == Role::Etcd);
        let dir = etcd.as_ref().map(|etcd| etcd.data_dir.clone()).unwrap_or_default();
        let there = There { has_data: has_data(&dir), mount: observe::mount_of(&dir) };
        let recorded = record.and_then(|record| record.data_dir.clone());
        Self { etcd, recorded, at_work: at_work(settings, memory), there }
    }
}

fn deployed(manifest: &Manifest) -> Option<Deployed> {
    let Some(DataIdentity::Etcd { data_dir, .. }) = manifest.data_identity() else { return None };
    let joins_only = manifest.flag("initial-cluster-state").is_some_and(|state| state == "existing");
    Some(Deployed { data_dir, joins_only })
}

/// Who is at work on this node, so that the gate must not be.
fn at_work(settings: &Settings, memory: &Memory) -> Option<String> {
    if let Some(pause) = memory.pause.as_ref().filter(|pause| pause.until > Timestamp::now()) {
        return Some(format!("lastgood is paused until {:.0}", pause.until));
    }
    if settings.policy.mode == Mode::Observe {
        return Some("the configuration says mode = \"observe\"".to_owned());
    }
    if let Some(busy) = observe::busy().into_iter().find(|busy| busy.kind != BusyKind::EtcdTool) {
        return Some(format!("{} is running (pid {})", busy.command, busy.pid));
    }
    let etcd = proc::processes().into_iter().find(|process| process.program() == "etcd");
    etcd.map(|process| format!("an etcd runs already (pid {})", process.pid))
}

/// Whether there is anything that an etcd has written.
fn has_data(data_dir: &Path) -> bool {
    let member = data_dir.join("member");
    let has_wal = match wal::segments(&member.join("wal")) {
        Ok(_) => true,
        Err(wal::Fault::Empty { .. }) => false,
        // What cannot be read is there.
        Err(wal::Fault::Io { error, .. }) => error.kind() != ErrorKind::NotFound,
        Err(wal::Fault::Corrupt { .. }) => true,
    };
    has_wal || member.join("snap/db").exists()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The kubelet may start; with what is worth saying.
    Open(Option<String>),
    Wait,
    Bar {
        data_dir: PathBuf,
        why: String,
    },
}

fn verdict(scene: &Scene, is_late: bool) -> Verdict {
    let (Some(etcd), Some((path, kept))) = (&scene.etcd, &scene.recorded) else { return Verdict::Open(None) };
    // Another directory is the operator's choice; one that never held data lacks none.
    if *path != etcd.data_dir || kept.member.is_none() {
        return Verdict::Open(None);
    }
    let Some(why) = missing(path, kept, &scene.there) else { return Verdict::Open(None) };
    if etcd.joins_only {
        let sentence = format!("{why}; etcd founds no cluster by its manifest (--initial-cluster-state=existing)");
        return Verdict::Open(Some(sentence));
    }
    match &scene.at_work {
        Some(who) => Verdict::Open(Some(format!("{why}; nothing is done about it: {who}"))),
        None if is_late => Verdict::Bar { data_dir: path.clone(), why },
        None => Verdict::Wait,
    }
}

/// What is not there of the data on record.
fn missing(path: &Path, kept: &DataDir, there: &There) -> Option<String> {
    let dir = path.display();
    if let (Some(was), Some(now)) = (&kept.mount, &there.mount)
        && was.point != now.point
    {
        return Some(format!("{dir} was on {was}, which is not mounted"));
    }
    (!there.has_data).then(|| format!("{dir} held etcd's data and is empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: &str = "/var/lib/etcd";

    fn mount(point: &str) -> Option<Mount> {
        Some(Mount { point: point.into(), source: "/dev/vdb".to_owned(), kind: "xfs".to_owned() })
    }

    /// A disk that held the data, on which they are.
    fn scene() -> Scene {
        let kept = DataDir { member: Some((1, 2)), mount: mount(DIR), ..DataDir::default() };
        Scene {
            etcd: Some(Deployed { data_dir: DIR.into(), joins_only: false }),
            recorded: Some((DIR.into(), kept)),
            at_work: None,
            there: There { has_data: true, mount: mount(DIR) },
        }
    }

    #[test]
    fn it_bars_only_what_is_on_record_and_missing_and_nobody_works_on() {
        type Change = fn(&mut Scene);
        let empty: Change = |s| s.there.has_data = false;
        let cases: [(&str, &[Change], &str); 11] = [
            ("all is well", &[], "open"),
            ("empty", &[empty], "bar"),
            ("not mounted, with older data below", &[|s| s.there.mount = mount("/")], "bar"),
            ("not mounted and empty", &[|s| s.there.mount = mount("/"), empty], "bar"),
            ("the mount cannot be told", &[|s| s.there.mount = None], "open"),
            ("no manifest: reset, or moved away", &[|s| s.etcd = None, empty], "open"),
            ("nothing on record: kubeadm init", &[|s| s.recorded = None, empty], "open"),
            ("never held data", &[|s| s.recorded.as_mut().unwrap().1.member = None, empty], "open"),
            ("another directory", &[|s| s.recorded.as_mut().unwrap().0 = "/data".into(), empty], "open"),
            ("joins only", &[|s| s.etcd.as_mut().unwrap().joins_only = true, empty], "said"),
            ("kubeadm or a pause", &[|s| s.at_work = Some("kubeadm is running".to_owned()), empty], "said"),
        ];
        for (what, changes, expected) in cases {
            let mut scene = scene();
            changes.iter().for_each(|change| change(&mut scene));
            let called = |verdict| match verdict {
                Verdict::Open(None) => "open",
                Verdict::Open(Some(_)) => "said",
                Verdict::Wait => "wait",
                Verdict::Bar { .. } => "bar",
            };
            assert_eq!(called(verdict(&scene, true)), expected, "{what}");
            let early = if expected == "bar" { "wait" } else { expected };
            assert_eq!(called(verdict(&scene, false)), early, "{what}: a disk may come late");
        }
    }

    #[test]
    fn what_an_etcd_wrote_is_data_and_the_text_of_a_bar_is_one_too() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_data(dir.path()));
        std::fs::create_dir_all(dir.path().join("member/wal")).unwrap();
        assert!(!has_data(dir.path()));
        std::fs::write(dir.path().join("member/wal/0000000000000000-0000000000000000.wal"), "").unwrap();
        assert!(has_data(dir.path()));
        std::fs::remove_dir_all(dir.path().join("member")).unwrap();
        bar::bar(dir.path(), "it was empty").unwrap();
        assert!(has_data(dir.path()), "it is barred once");
    }
}
