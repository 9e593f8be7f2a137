//! Real etcds, 3.4 and 3.5, with TLS on both sides, open the restored data: they elect, serve the data, accept writes,
//! keep leases, compact, defragment, change members, and start again after a kill.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::testing::{ask, read, restore};
use super::{Finished, Node, Recorded, RestoreOptions, finish};
use crate::model::versions::Minor;
use crate::observe::testing::{Pki, etcd_binary, newest_etcd};
use crate::sys::files;

/// Starts and elections on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// A member: where it is and listens, and its process while it runs.
struct Member {
    name: String,
    data: PathBuf,
    /// Where its log is, if apart.
    log: Option<PathBuf>,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Member {
    fn new(dir: &Path, name: String) -> Self {
        Self { data: dir.join(&name), log: None, name, client: free_port(), peer: free_port(), process: None }
    }

    fn start(&mut self, series: &str, pki: &Path, initial: &str, state: &str) {
        let (client, peer) = (url(self.client), url(self.peer));
        let mut command = Command::new(etcd_binary(series, "etcd"));
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data.display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .args([format!("--initial-cluster={initial}"), format!("--initial-cluster-state={state}")])
            .args(["--client-cert-auth", "--peer-client-cert-auth", "--logger=zap"])
            .args(["--heartbeat-interval=200", "--election-timeout=2000"]);
        command.args(self.log.iter().map(|log| format!("--wal-dir={}", log.display())));
        for side in ["", "peer-"] {
            command
                .arg(format!("--{side}cert-file={}", pki.join("node.crt").display()))
                .arg(format!("--{side}key-file={}", pki.join("node.key").display()))
                .arg(format!("--{side}trusted-ca-file={}", pki.join("ca.crt").display()));
        }
        let log = File::create(self.data.with_extension("log")).unwrap();
        // 3.5 checks at its start that database and log agree.
        command.env("ETCD_VERIFY", "all").stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A cluster of one series of etcd.
struct Cluster {
    series: &'static str,
    pki: PathBuf,
    members: Vec<Member>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

impl Cluster {
    fn new(series: &'static str, dir: &Path, pki: &Path, size: usize) -> Self {
        let members = (0..size).map(|number| Member::new(dir, format!("m{number}")));
        Self { series, pki: pki.to_owned(), members: members.collect() }
    }

    fn initial(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name, url(m.peer))).collect();
        members.join(",")
    }

    fn endpoints(&self) -> String {
        self.members.iter().map(|member| url(member.client)).collect::<Vec<_>>().join(",")
    }

    /// Starts all that do not run.
    fn start(&mut self) {
        let (initial, pki, series) = (self.initial(), self.pki.clone(), self.series);
        let idle = self.members.iter_mut().filter(|member| member.process.is_none());
        idle.for_each(|member| member.start(series, &pki, &initial, "new"));
    }

    /// A member joins, catches up, is promoted, reads what was there before it, and is removed.
    fn one_joins_and_leaves(&self) {
        let dir = self.members[0].data.parent().unwrap();
        let mut joins = Member::new(dir, "m9".to_owned());
        // Refused until all members have been connected for five seconds.
        let added = self.soon(&["member", "add", "m9", "--learner", &format!("--peer-urls={}", url(joins.peer))]);
        let number = added["member"]["ID"].as_u64().unwrap();
        let id = format!("{number:x}");
        let initial = format!("{},m9={}", self.initial(), url(joins.peer));
        joins.start(self.series, &self.pki, &initial, "existing");
        // Refused until it has caught up; and once it is done, which not everybody is told who asked.
        let learns = |member: &Value| member["ID"].as_u64() == Some(number) && member["isLearner"] == true;
        let until = Instant::now() + SOON;
        while self.soon(&["member", "list"])["members"].as_array().unwrap().iter().any(learns) {
            assert!(Instant::now() < until, "{}", self.logs());
            let _ = self.try_ctl(&["member", "promote", &id]);
        }
        let own = format!("--endpoints={}", url(joins.client));
        let read = self.soon(&["get", "/large", &own]);
        assert_eq!(read["count"], 1, "{read}");
        let members = self.json(&["member", "list"]);
        assert_eq!(members["members"].as_array().unwrap().len(), self.members.len() + 1);
        while self.soon(&["member", "list"])["members"].as_array().unwrap().len() > self.members.len() {
            assert!(Instant::now() < until, "{}", self.logs());
            let _ = self.try_ctl(&["member", "remove", &id]);
        }
    }

    fn try_ctl(&self, args: &[&str]) -> Output {
        let mut command = Command::new(etcd_binary(self.series, "etcdctl"));
        command
            .env("ETCDCTL_API", "3")
            .args(["--dial-timeout=20s", "--command-timeout=30s"])
            .arg(format!("--cacert={}", self.pki.join("ca.crt").display()))
            .arg(format!("--cert={}", self.pki.join("node.crt").display()))
            .arg(format!("--key={}", self.pki.join("node.key").display()));
        if !args.iter().any(|arg| arg.starts_with("--endpoints")) {
            command.arg(format!("--endpoints={}", self.endpoints()));
        }
        command.args(args).output().unwrap()
    }

    fn ctl(&self, args: &[&str]) -> String {
        let out = self.try_ctl(args);
        assert!(out.status.success(), "etcdctl {args:?}: {}{}", String::from_utf8_lossy(&out.stderr), self.logs());
        String::from_utf8(out.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["-w", "json"]).collect();
        serde_json::from_str(&self.ctl(&args)).unwrap()
    }

    fn get(&self, key: &str) -> String {
        self.ctl(&["get", key, "--print-value-only"]).trim_end().to_owned()
    }

    /// What it answers as soon as it does.
    fn soon(&self, args: &[&str]) -> Value {
        let until = Instant::now() + SOON;
        let args: Vec<&str> = args.iter().copied().chain(["-w", "json"]).collect();
        loop {
            let out = self.try_ctl(&args);
            if out.status.success() {
                return serde_json::from_slice(&out.stdout).unwrap();
            }
            let why = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(Instant::now() < until, "etcdctl {args:?}: {why}{}", self.logs());
        }
    }

    /// Writes as soon as it can, and returns the revision.
    fn first_write(&self) -> i64 {
        self.soon(&["put", "/first", "x"])["header"]["revision"].as_i64().unwrap()
    }

    fn logs(&self) -> String {
        let log = |member: &Member| std::fs::read_to_string(member.data.with_extension("log")).unwrap_or_default();
        let tail = |text: String| text.lines().rev().take(8).collect::<Vec<_>>().join("\n");
        self.members.iter().map(|member| format!("\n{}:\n{}", member.name, tail(log(member)))).collect()
    }
}

fn version(series: &str) -> String {
    let out = Command::new(etcd_binary(series, "etcd")).arg("--version").output().unwrap();
    String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_owned()
}

/// As `--etcd-version` takes it.
fn minor(series: &str) -> Minor {
    let version = version(series);
    let mut numbers = version.trim_start_matches("etcd Version: ").split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A snapshot of one series, restored to so many members, is opened by another.
fn it_serves(from: &'static str, by: &'static str, size: usize) {
    println!("{}, restored to {size}, opened by {}", version(from), version(by));
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    pki.sign("node", "ca", 10);
    let source_dir = dir.path().join("source");
    std::fs::create_dir(&source_dir).unwrap();
    let mut source = Cluster::new(from, &source_dir, dir.path(), 1);
    source.start();
    source.first_write();
    for key in 0..20 {
        source.ctl(&["put", &format!("/key/{key:02}"), &"x".repeat(10 * key + 1)]);
    }
    let large = "y".repeat(100_000);
    source.ctl(&["put", "/large", &large]);
    source.ctl(&["del", "/key/07"]);
    let lease = source.json(&["lease", "grant", "3600"])["ID"].as_i64().unwrap();
    source.ctl(&["put", "/leased", "x", &format!("--lease={lease:x}")]);
    let revision = source.json(&["get", "/large"])["header"]["revision"].as_i64().unwrap();
    source.ctl(&["compact", &(revision - 3).to_string()]);
    let snapshot = dir.path().join("snapshot.db");
    source.ctl(&["snapshot", "save", snapshot.to_str().unwrap()]);
    source.ctl(&["put", "/lost", "x"]);
    let served = source.json(&["get", "/lost"])["header"]["revision"].as_i64().unwrap();
    source.members[0].kill();

    let target_dir = dir.path().join("target");
    std::fs::create_dir(&target_dir).unwrap();
    let mut cluster = Cluster::new(by, &target_dir, dir.path(), size);
    let (mut token, mut moved_to) = (None, 0);
    for member in &cluster.members {
        let mut ask = ask(&snapshot, &member.data, &cluster.initial());
        ask.name = Some(member.name.clone());
        ask.token.clone_from(&token);
        ask.stopped = vec!["m0".to_owned()];
        ask.etcd_version = Some(minor(by));
        // What the first one saw, the others move as far as.
        let recorded = Recorded { revision: served, at: Timestamp::UNIX_EPOCH, members: Vec::new() };
        let restored = restore(&ask, &Node { recorded: Some(recorded), ..Node::default() }).unwrap();
        moved_to = restored.moved_to.unwrap();
        token = Some(restored.token);
    }
    assert!(moved_to > served);
    cluster.start();

    let first = cluster.first_write();
    assert!(first > moved_to && first > served, "{first}: not above {moved_to}, {served}");
    let has_what_was_there = |cluster: &Cluster| {
        assert_eq!(cluster.get("/key/05"), "x".repeat(51));
        assert_eq!(cluster.get("/large"), large);
        assert_eq!((cluster.get("/key/07"), cluster.get("/lost")), (String::new(), String::new()));
        let lives = cluster.json(&["lease", "timetolive", &format!("{lease:x}"), "--keys"]);
        assert_eq!(
            (lives["granted-ttl"].as_i64(), lives["keys"].as_array().map(Vec::len)),
            (Some(3600), Some(1)),
            "{lives}"
        );
    };
    has_what_was_there(&cluster);
    // Members: these, and no others.
    let listed = cluster.json(&["member", "list"]);
    let mut listed: Vec<String> =
        listed["members"].as_array().unwrap().iter().map(|m| m["peerURLs"][0].as_str().unwrap().to_owned()).collect();
    let mut wanted: Vec<String> = cluster.members.iter().map(|member| url(member.peer)).collect();
    listed.sort();
    wanted.sort();
    assert_eq!(listed, wanted);
    // Who watched before is told to read again. `etcdctl watch` ends when it is.
    for from in [revision, served + 1] {
        let watch = cluster.try_ctl(&["watch", &format!("--rev={from}"), "/key/05"]);
        let said = String::from_utf8_lossy(&watch.stdout).into_owned() + &String::from_utf8_lossy(&watch.stderr);
        assert!(said.contains("required revision has been compacted"), "{said}");
    }
    cluster.one_joins_and_leaves();
    let now = cluster.json(&["put", "/second", "x"])["header"]["revision"].as_i64().unwrap();
    cluster.ctl(&["compact", &now.to_string()]);
    cluster.ctl(&["defrag"]);
    let alike = |cluster: &Cluster| {
        // Each answers after what the quorum agreed on.
        for member in &cluster.members {
            cluster.ctl(&["get", "/second", &format!("--endpoints={}", url(member.client))]);
        }
        let hashes = cluster.json(&["endpoint", "hashkv"]);
        let of = |answer: &Value| {
            let hash = &answer["HashKV"];
            assert!(hash["hash"].as_u64().is_some(), "{answer}");
            (hash["hash"].as_u64(), hash["compact_revision"].as_u64())
        };
        let hashes: Vec<_> = hashes.as_array().unwrap().iter().map(of).collect();
        assert_eq!(hashes.len(), size);
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    };
    alike(&cluster);
    cluster.members.iter_mut().for_each(Member::kill);
    cluster.start();
    assert!(cluster.first_write() > now);
    has_what_was_there(&cluster);
    alike(&cluster);
}

/// Its log is separate. Between the exchange of the one and of the other, an etcd that is started nevertheless ends,
/// and leaves both as they are.
fn a_log_apart(series: &'static str) {
    println!("{}", version(series));
    let dir = tempfile::tempdir().unwrap();
    Pki::new(dir.path()).sign("node", "ca", 10);
    let mut cluster = Cluster::new(series, dir.path(), dir.path(), 1);
    let (data, log) = (cluster.members[0].data.clone(), dir.path().join("log"));
    cluster.members[0].log = Some(log.clone());
    cluster.start();
    cluster.first_write();
    cluster.ctl(&["put", "/kept", "x"]);
    let snapshot = dir.path().join("snapshot.db");
    cluster.ctl(&["snapshot", "save", snapshot.to_str().unwrap()]);
    let served = cluster.json(&["put", "/lost", "x"])["header"]["revision"].as_i64().unwrap();
    cluster.members[0].kill();

    let ask = RestoreOptions { wal_dir: Some(log.clone()), replace: true, ..ask(&snapshot, &data, &cluster.initial()) };
    let ask = RestoreOptions { stopped: vec!["m0".to_owned()], ..ask };
    let quiet = &mut |_, _| {};
    let checked = ask.plan(&Node::default(), read).unwrap().build(quiet).unwrap().check(quiet).unwrap();
    // The log's disk is away at this very moment, and comes back.
    let away = dir.path().join("away");
    std::fs::rename(&log, &away).unwrap();
    std::fs::create_dir(&log).unwrap();
    checked.swap().unwrap_err();
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();

    let before = files::names(&log).unwrap();
    cluster.start();
    let ended = cluster.members[0].process.as_mut().unwrap().wait().unwrap();
    assert!(!ended.success(), "it took a database for whole that is not in place{}", cluster.logs());
    cluster.members[0].kill();
    assert_eq!(files::names(&log).unwrap(), before);

    let finished = finish(&data).unwrap();
    assert!(matches!(finished.as_slice(), [Finished::Completed(_)]), "{finished:?}");
    cluster.start();
    assert!(cluster.first_write() > served);
    assert_eq!((cluster.get("/kept").as_str(), cluster.get("/lost").as_str()), ("x", ""));
    cluster.members[0].kill();
    cluster.start();
    cluster.first_write();
    assert_eq!(cluster.get("/kept"), "x");
    assert!(!data.join("member/wal").exists());
}

#[test]
fn an_etcd_3_4_whose_log_lies_apart_is_restored_with_it() {
    a_log_apart("3.4");
}

#[test]
fn an_etcd_3_5_whose_log_lies_apart_is_restored_with_it() {
    a_log_apart("3.5");
}

#[test]
fn an_etcd_3_4_is_restored_to_one_member() {
    it_serves("3.4", "3.4", 1);
}

#[test]
fn an_etcd_3_4_is_restored_to_three_members() {
    it_serves("3.4", "3.4", 3);
}

#[test]
fn an_etcd_3_4_is_restored_to_five_members() {
    it_serves("3.4", "3.4", 5);
}

#[test]
fn an_etcd_3_5_is_restored_to_one_member() {
    it_serves("3.5", "3.5", 1);
}

#[test]
fn an_etcd_3_5_is_restored_to_three_members() {
    it_serves("3.5", "3.5", 3);
}

#[test]
fn an_etcd_3_5_is_restored_to_five_members() {
    it_serves("3.5", "3.5", 5);
}

#[test]
fn the_newest_etcd_is_restored_to_one_member() {
    if let Some(newest) = newest_etcd() {
        it_serves(newest, newest, 1);
    }
}

#[test]
fn the_newest_etcd_is_restored_to_five_members() {
    if let Some(newest) = newest_etcd() {
        it_serves(newest, newest, 5);
    }
}

#[test]
fn the_newest_etcd_is_restored_to_three_members() {
    if let Some(newest) = newest_etcd() {
        it_serves(newest, newest, 3);
    }
}

#[test]
fn a_snapshot_of_an_etcd_3_5_is_opened_by_the_newest() {
    if let Some(newest) = newest_etcd() {
        it_serves("3.5", newest, 1);
    }
}

#[test]
fn a_snapshot_of_an_etcd_3_4_is_opened_by_an_etcd_3_5() {
    it_serves("3.4", "3.5", 3);
}
