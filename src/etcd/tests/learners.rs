//! Learners that real etcds promoted, and what their databases say of them afterwards.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::member::program;
use crate::etcd::member_check;
use crate::model::member_conflict::{ConflictKind, MemberConflict};

pub(super) struct Killed(pub(super) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn start(series: &str, dir: &Path, at: usize, ports: &[(u16, u16)], state: &str) -> Killed {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (client, peer) = ports[at];
    let cluster: Vec<String> =
        ports[..=at].iter().enumerate().map(|(at, (_, peer))| format!("m{at}={}", url(*peer))).collect();
    let child = Command::new(program(series, "etcd"))
        .args([format!("--name=m{at}"), format!("--data-dir={}", dir.join(format!("m{at}")).display())])
        .args([format!("--listen-client-urls={}", url(client)), format!("--advertise-client-urls={}", url(client))])
        .args([format!("--listen-peer-urls={}", url(peer)), format!("--initial-advertise-peer-urls={}", url(peer))])
        .args([format!("--initial-cluster={}", cluster.join(",")), format!("--initial-cluster-state={state}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Killed(child)
}

/// Of so many members: client and peer ports.
pub(super) fn free_ports(members: usize) -> Vec<(u16, u16)> {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (0..members).map(|_| (free(), free())).collect()
}

/// Asks again until it succeeds.
pub(super) fn ctl(series: &str, port: u16, args: &[&str]) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut command = Command::new(program(series, "etcdctl"));
        let out = command.arg(format!("--endpoints=http://127.0.0.1:{port}")).args(args).output().unwrap();
        if out.status.success() {
            return String::from_utf8(out.stdout).unwrap();
        }
        assert!(Instant::now() < until, "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Two learners join a member, and are promoted.
fn promoted(series: &str) -> Vec<MemberConflict> {
    let dir = tempfile::tempdir().unwrap();
    let ports = free_ports(3);
    let port = ports[0].0;
    let mut members = vec![start(series, dir.path(), 0, &ports, "new")];
    for at in 1..3 {
        let peer = format!("--peer-urls=http://127.0.0.1:{}", ports[at].1);
        let added = ctl(series, port, &["member", "add", &format!("m{at}"), &peer, "--learner"]);
        let id = added.split_whitespace().nth(1).unwrap().to_owned();
        members.push(start(series, dir.path(), at, &ports, "existing"));
        ctl(series, ports[at].0, &["endpoint", "status"]);
        ctl(series, port, &["member", "promote", &id]);
    }
    ctl(series, port, &["put", "key", "value"]);
    // Its database is a tenth of a second behind.
    std::thread::sleep(Duration::from_millis(500));
    let snap = dir.path().join("m0/member/snap");
    member_check::of(&snap, member_check::newest(&snap).as_ref()).unwrap()
}

#[test]
fn a_promotion_that_an_etcd_3_5_16_did_not_store_is_seen_and_one_of_3_5_30_is_stored() {
    let found = promoted("3.5");
    let seen: Vec<_> = found.iter().map(|one| one.kind).collect();
    assert_eq!(seen, [ConflictKind::LearnerInDatabase, ConflictKind::LearnerInDatabase], "{found:?}");
    if crate::observe::testing::newest_etcd().is_some() {
        assert_eq!(promoted("newest"), []);
    }
}
