//! Real documents of every kind.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::super::doctor::testing::Scene as Examination;
use super::super::situations::scenes;
use super::super::snapshot_list::OriginView;
use super::super::testing::{Scene, id, planned};
use super::super::{
    Counters, Explanation, History, Snapshot, SnapshotList, SnapshotRow, Unpacked, bundle, certificates, check,
    cluster, etcd, etcd_plan, sizing,
};
use super::schemas::printed;
use crate::config::{self, show};
use crate::etcd::restore::Node;
use crate::etcd::snapshot::{RawCopy, verify};
use crate::etcd::testing as etcd_files;
use crate::model::document::List;
use crate::model::etcd::Member;
use crate::model::hook::{Matter, Message, Turn};
use crate::model::{Digest, Request};
use crate::snapshots::bundle::{Bundle, Component, Fingerprint, Part};
use crate::snapshots::{By, Earlier};

/// Documents with their kinds.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    let mut all = of_components();
    all.extend(plans());
    all.extend(of_the_node());
    all.extend(of_etcd());
    all.extend(of_snapshots());
    all.push(printed(&notification()));
    let peers = cluster::tests::sample();
    all.extend(peers.members.iter().filter_map(|peer| Some(printed(peer.report.as_ref()?))));
    all.push(printed(&peers));
    let status = crate::report::Status { peers: Some(peers), ..Scene::new().status() };
    all.push(printed(&status));
    all
}

fn notification() -> Message {
    Message {
        node: "master-1".to_owned(),
        turn: Turn::Begins,
        matter: Matter::Held,
        component: Some(id("etcd")),
        since: Timestamp::UNIX_EPOCH,
        message: "the image is not on this node".to_owned(),
        next_step: "`crictl pull …`".to_owned(),
    }
}

fn of_components() -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for (_, component, scene) in scenes() {
        all.push(printed(&scene.status()));
        let items = Explanation::of(scene.material(), None, |_| Vec::new()).unwrap();
        all.push(printed(&List { items }));
        all.push(printed(&List { items: vec![History::new(&scene.memory, &id(component), scene.last.clone())] }));
    }
    let (mut scene, said) = (Scene::new(), etcd::tests::three());
    let mut status = scene.status();
    let of_etcd = [(id("etcd"), (&said, None).into())].into();
    status.figures = Some(Counters { done: [("put-in".to_owned(), 1)].into(), etcd: of_etcd, ..Counters::default() });
    all.push(printed(&status));
    scene.judgement.etcd.insert(id("etcd"), said);
    all.push(printed(&List { items: vec![scene.explanation("etcd")] }));
    all
}

/// Of every request: one that is missing here is a variant that no schema was held against.
fn plans() -> Vec<(&'static str, Value)> {
    let (component, reason) = (id("etcd"), "tested".to_owned());
    let requests = [
        Request::Rollback { component: component.clone(), to: Some(1) },
        Request::Pause { seconds: 60, reason: reason.clone() },
        Request::Checkpoint { component: component.clone(), reason: reason.clone() },
        Request::Release { component: component.clone(), number: None },
        Request::Pin { component: component.clone(), number: Some(1), reason: reason.clone() },
        Request::Unpin { component: component.clone() },
        Request::Quarantine { component: component.clone(), number: None, reason: reason.clone() },
        Request::Suspend { component: component.clone(), seconds: 60, reason },
        Request::AcceptData { component: None },
        Request::Resume { component: Some(component) },
    ];
    let memory = Scene::new().memory;
    requests.iter().map(|request| printed(&planned(request, &memory, &memory))).collect()
}

fn of_the_node() -> Vec<(&'static str, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[candidate]\nsoak = \"90s\"\n").unwrap();
    let mut unwell = Examination::new();
    unwell.agent = Err("silent".to_owned());
    vec![
        printed(&show::for_machines(&config::load(Some(&file), crate::agent::KEYS).unwrap())),
        printed(&Examination::new().examine()),
        printed(&unwell.examine()),
        printed(&certificates::tests::sample()),
        printed(&check::tests::sample()),
    ]
}

fn of_etcd() -> Vec<(&'static str, Value)> {
    let mut all: Vec<_> = etcd::tests::samples().iter().map(printed).collect();
    all.extend(sizing::tests::samples().iter().map(printed));
    all.extend(etcd_plan::samples().iter().map(printed));
    all
}

fn of_snapshots() -> Vec<(&'static str, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let file = etcd_files::snapshot(dir.path());
    let verified = verify(&file, RawCopy::Refuse, &mut |_, _| {}).unwrap();
    let contents = Snapshot::new(&file, verified.clone(), By::Reading);
    let older = Snapshot::new(
        &file,
        verified,
        By::Checksum(Earlier { at: Timestamp::UNIX_EPOCH, by: "lastgood 0.1.0".to_owned() }),
    );
    let rows = [(OriginView::Stream, Some(Timestamp::UNIX_EPOCH)), (OriginView::DataDir, None)];
    let rows = rows.map(|(origin, verified)| SnapshotRow {
        path: "/var/lib/lastgood/snapshots/a.db".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        age_seconds: 60,
        revision: 754,
        cluster: "cdf818194e3a8c32".to_owned(),
        bytes: 1 << 20,
        origin,
        verified,
        why: verified.is_none().then(|| "not verified: it is torn".to_owned()),
    });
    let unpacked = Unpacked {
        snapshot: file.clone(),
        node: "master-1".to_owned(),
        files: vec![bundle::UnpackedFile { to: "/n/a".into(), path: "/a".into(), bytes: 7, key: false }],
        no_keys: Some("1 keys stay encrypted".to_owned()),
        missing: vec!["/etc/kubernetes/pki/ca.key".into()],
        left_out: vec!["/etc/kubernetes/big: too large".to_owned()],
    };
    let cluster = "vm=https://127.0.0.1:2380";
    let ask = etcd_files::ask(&file, &dir.path().join("data"), cluster);
    let planned = ask.plan(&Node::default(), |file: &Path, trust| verify(file, trust, &mut |_, _| {})).unwrap();
    vec![
        printed(&rows[0]),
        printed(&rows[1]),
        printed(&SnapshotList::new("/var/lib/lastgood/snapshots".to_owned(), rows.to_vec())),
        printed(&contents),
        printed(&older.with(Some(a_bundle()))),
        printed(&unpacked),
        printed(&planned.plan),
        printed(&etcd_files::restore(&ask).unwrap()),
    ]
}

fn a_bundle() -> Bundle {
    let digest = Digest::of(b"part");
    Bundle {
        parts: vec![Part { name: "a.db".to_owned(), bytes: 7, sha256: digest }],
        node: "master-1".to_owned(),
        cluster: 0xc1,
        members: vec![Member { id: 1, name: "m1".into(), peer_urls: vec![], client_urls: vec![], learner: false }],
        highest_revision: 754,
        etcd: Some("3.6.13".to_owned()),
        components: [(
            id("etcd"),
            Component {
                manifest: "/etc/kubernetes/manifests/etcd.yaml".into(),
                generation: 1,
                minor: Some((3, 6)),
                images: ["registry.k8s.io/etcd:3.6.13".to_owned()].into(),
            },
        )]
        .into(),
        configuration: vec!["/etc/kubernetes/audit.yaml".into()],
        keys: vec![Fingerprint { path: "/etc/kubernetes/pki/ca.key".into(), public: Some(digest), sha256: None }],
        labels: [("/etc/kubernetes/audit.yaml".into(), "system_u:object_r:etc_t:s0".to_owned())].into(),
        recipients: vec!["age1…".to_owned()],
        left_out: Vec::new(),
        made: Timestamp::UNIX_EPOCH,
        by: "lastgood 0.1.0".to_owned(),
    }
}
