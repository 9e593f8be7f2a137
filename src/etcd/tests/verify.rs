//! Snapshots of real etcds, verified and compared with the counts of etcd's own tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use etcd_client::{AlarmAction, AlarmType, Client, GetOptions, PutOptions, Txn, TxnOp};
use serde_json::Value;

use super::member::{Member, program};
use super::snapshot;
use crate::etcd::backend::Alarm;
use crate::etcd::snapshot::{Contents, RawCopy, Rejected, Trailer, verify};

/// etcd's default for one request is 1.5 MiB.
const LARGEST: usize = 1_572_864 - 512;

/// What its own tool says: hash, revision, total of keys, size.
fn status(series: &str, path: &Path) -> (u64, u64, u64, u64) {
    let tool = if series == "3.4" { "etcdctl" } else { "etcdutl" };
    let mut command = Command::new(program(series, tool));
    let out = command.env("ETCDCTL_API", "3").args(["snapshot", "status", "-w", "json"]).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said: Value = serde_json::from_slice(&out.stdout).unwrap();
    let number = |name: &str| said[name].as_u64().unwrap();
    (number("hash"), number("revision"), number("totalKey"), number("totalSize"))
}

struct Etcd {
    member: Member,
    client: Client,
    dir: tempfile::TempDir,
    saved: usize,
}

impl Etcd {
    async fn start(series: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let member = Member::serving(series, &dir.path().join("data"));
        let client = Client::connect([member.url()], None).await.unwrap();
        Self { member, client, dir, saved: 0 }
    }

    /// Saves a snapshot, verifies it, compares it with what its own tool and its member say, and returns what it holds.
    async fn verified(&mut self, series: &str, situation: &str, user: &[&str]) -> Contents {
        self.saved += 1;
        let path: PathBuf = self.dir.path().join(format!("{}.db", self.saved));
        self.member.ctl(&[&["snapshot", "save", path.to_str().unwrap()], user].concat());
        let mut steps = Vec::new();
        let verified = verify(&path, RawCopy::Refuse, &mut |done, of| steps.push((done, of))).unwrap();
        let contents = verified.contents;
        let said = status(series, &path);
        let revision = contents.revision.map_or(0, |revision| revision.main.cast_unsigned());
        assert_eq!((contents.hash.into(), revision, contents.total_keys, verified.size), said, "{situation}");
        assert_eq!(verified.trailer, Trailer::Matches { sha256: verified.sha256 });
        assert_eq!(steps.last(), Some(&(verified.size, verified.size)), "{situation}");
        assert!(steps.is_sorted(), "{situation}: {steps:?}");
        let in_use = contents.in_use;
        assert!(in_use > 0 && in_use <= verified.size && in_use.is_multiple_of(4096), "{situation}: {in_use}");
        let [member] = contents.members.as_slice() else { panic!("{:?}", contents.members) };
        assert_eq!(member.name, "m0");
        assert_eq!(contents.versions.cluster_version, Some(format!("{series}.0")));
        assert_eq!(contents.term.is_some(), series != "3.4");
        contents
    }

    async fn live(&mut self) -> u64 {
        let all = GetOptions::new().with_from_key().with_count_only();
        self.client.get(vec![0], Some(all)).await.unwrap().count().cast_unsigned()
    }

    async fn fill(&mut self, keys: u32) {
        let mut waiting = tokio::task::JoinSet::new();
        for first in (0..keys).step_by(100) {
            let put = |key: u32| TxnOp::put(format!("/registry/pods/{key:08}"), vec![b'x'; key as usize % 200], None);
            let mut client = self.client.clone();
            let transaction = Txn::new().and_then((first..keys.min(first + 100)).map(put).collect::<Vec<_>>());
            waiting.spawn(async move { client.txn(transaction).await.unwrap() });
            if waiting.len() == 8 {
                waiting.join_next().await.unwrap().unwrap();
            }
        }
        waiting.join_all().await;
    }
}

async fn every_situation(series: &'static str) {
    let mut etcd = Etcd::start(series).await;
    let contents = etcd.verified(series, "nothing was ever written", &[]).await;
    assert_eq!((contents.revision, contents.live_keys, contents.remarks), (None, Some(0), vec![]));

    etcd.client.put("one", "1", None).await.unwrap();
    let contents = etcd.verified(series, "one key", &[]).await;
    assert_eq!((contents.revision.unwrap().main, contents.live_keys), (2, Some(1)));

    etcd.fill(20_000).await;
    let contents = etcd.verified(series, "many keys", &[]).await;
    assert_eq!(contents.live_keys, Some(20_001));

    for at in 0..3 {
        etcd.client.put(format!("large {at}"), vec![at; LARGEST], None).await.unwrap();
    }
    etcd.client.delete("/registry/pods/00000007", None).await.unwrap();
    etcd.fill(300).await;
    for lease in [7, 70] {
        etcd.client.lease_grant(3600, Some(etcd_client::LeaseGrantOptions::new().with_id(lease))).await.unwrap();
        let leased = PutOptions::new().with_lease(lease);
        etcd.client.put(format!("leased {lease}"), "", Some(leased)).await.unwrap();
    }
    etcd.client.lease_revoke(70).await.unwrap();
    let contents = etcd.verified(series, "large values, a second life, leases", &[]).await;
    assert_eq!(contents.live_keys, Some(etcd.live().await));
    assert_eq!((contents.leases, contents.remarks), (1, vec![]), "the key of the revoked lease is gone with it");

    for key in 0..500 {
        etcd.client.delete(format!("/registry/pods/{:08}", 20 * key), None).await.unwrap();
    }
    let compacted = etcd.client.get("one", None).await.unwrap().header().unwrap().revision() - 100;
    etcd.client.compact(compacted, Some(etcd_client::CompactionOptions::new().with_physical())).await.unwrap();
    etcd.fill(1000).await;
    let contents = etcd.verified(series, "compacted", &[]).await;
    assert_eq!(contents.live_keys, Some(etcd.live().await));
    assert_eq!(contents.compacted.finished.map(|done| done.main), Some(compacted));
    assert!(contents.total_keys < 20_000 + 2000 && contents.total_keys > 20_000, "{}", contents.total_keys);

    etcd.client.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await.unwrap();
    let contents = etcd.verified(series, "an alarm", &[]).await;
    let member = contents.members[0].id;
    assert!(contents.alarms.contains(&Alarm { member: 0, kind: 1 }), "{:?} {member:x}", contents.alarms);
    etcd.client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None).await.unwrap();

    for args in [
        &["role", "add", "reader"][..],
        &["role", "grant-permission", "reader", "read", "/registry/", "/registry0"],
        &["user", "add", "root:secret"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "someone:secret"],
        &["user", "grant-role", "someone", "reader"],
        &["auth", "enable"],
    ] {
        etcd.member.ctl(args);
    }
    let contents = etcd.verified(series, "with authentication", &["--user", "root:secret"]).await;
    assert!(contents.auth_enabled);
    let keys = |name: &str| contents.buckets.iter().find(|bucket| bucket.name == name).map(|bucket| bucket.keys);
    // The role of root goes without saying.
    assert_eq!((keys("authUsers"), keys("authRoles")), (Some(2), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_an_etcd_3_4_are_whole_and_hold_what_its_tool_says() {
    every_situation("3.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_an_etcd_3_5_are_whole_and_hold_what_its_tool_says() {
    every_situation("3.5").await;
}

/// The numbers are those that an `etcdutl` 3.6 printed, which counts only the keys that live.
#[test]
fn a_snapshot_of_an_etcd_3_6_is_whole_and_holds_what_its_tool_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(dir.path());
    let verified = verify(&path, RawCopy::Refuse, &mut |_, _| {}).unwrap();
    let contents = verified.contents;
    let counted = (contents.hash, contents.revision.unwrap().main, contents.live_keys, verified.size);
    assert_eq!(counted, (4_103_565_915, 754, Some(311), 864_256));
    assert_eq!(contents.versions.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!((contents.leases, contents.auth_enabled, contents.remarks), (7, false, vec![]));
    let said = status("3.5", &path);
    assert_eq!((u64::from(contents.hash), contents.total_keys, verified.size), (said.0, said.2, said.3));
}

/// What a member writes at this moment is of no one transaction; at rest it is a copy without a proof.
#[test]
fn a_copy_of_a_database_is_taken_only_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let member = Member::serving("3.5", &data);
    for key in 0..20 {
        member.ctl(&["put", &format!("key {key}"), &"x".repeat(3000)]);
    }
    let database = data.join("member/snap/db");
    // Its database is a tenth of a second behind.
    while crate::etcd::backend::read(&database).unwrap().revision.is_none_or(|revision| revision.main < 21) {
        std::thread::yield_now();
    }
    drop(member);
    let refused = verify(&database, RawCopy::Refuse, &mut |_, _| {}).unwrap_err();
    assert!(matches!(refused, Rejected::NoTrailer { .. }) && refused.to_string().contains("--skip-hash-check"));
    let verified = verify(&database, RawCopy::Allow, &mut |_, _| {}).unwrap();
    assert_eq!((verified.trailer, verified.contents.live_keys), (Trailer::Absent, Some(20)));
    let said = status("3.5", &database);
    assert_eq!((u64::from(verified.contents.hash), verified.contents.total_keys), (said.0, said.2));
}
