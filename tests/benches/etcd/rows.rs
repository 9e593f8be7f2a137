//! What is compared, and what both must have made alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::database::Etcd;

/// How each is asked for it.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// Whether it writes as much as it reads: then it is done in memory, too, where no disk is waited for.
    pub(crate) of_disk: bool,
    pub(crate) theirs: fn(&Bench, out: &Path) -> Command,
    pub(crate) ours: fn(&Bench, out: &Path) -> Command,
    /// What must be alike, of what came of it or was printed.
    pub(crate) made: fn(&Bench, out: &Path, said: &[u8]) -> Result<Value>,
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        what: "save: `etcdctl snapshot save`, and ours with its verification",
        of_disk: true,
        theirs: |bench, out| {
            let mut command = bench.etcd.ctl(&bench.tools, &["snapshot", "save"]);
            command.arg(out.join("saved.db"));
            command
        },
        ours: |bench, out| {
            let mut command = Command::new(&bench.lastgood);
            command.arg("--config").arg(&bench.config).args(["etcd", "snapshot", "save"]).arg(out.join("saved.db"));
            command
        },
        made: |bench, out, _| bench.holds(&out.join("saved.db")),
    },
    Row {
        what: "verify: `etcdutl snapshot status`, which checks no SHA-256, and ours, which does",
        of_disk: false,
        theirs: |bench, _| bench.of_file(&bench.tools.join("etcdutl"), &["snapshot", "status", "-w", "json"]),
        ours: |bench, _| bench.of_file(&bench.lastgood, &["etcd", "snapshot", "verify", "-o", "json"]),
        made: |_, _, said| {
            let said: Value = serde_json::from_slice(said)?;
            let keys = said.get("totalKey").or(said.get("total_keys"));
            Ok(json!([said["hash"], said["revision"], keys]))
        },
    },
    Row {
        what: "restore: `etcdutl snapshot restore`, which reads no page, and ours, which reads all before and after",
        of_disk: true,
        theirs: |bench, out| {
            let mut command = bench.of_file(&bench.tools.join("etcdutl"), &["snapshot", "restore"]);
            command.args(["--name=m0", MEMBER, "--initial-advertise-peer-urls=http://127.0.0.1:2380", TOKEN, BUMP]);
            command.args(["--mark-compacted", "--data-dir"]).arg(out.join("data"));
            command
        },
        ours: |bench, out| {
            let mut command = Command::new(&bench.lastgood);
            command.arg("--config").arg(&bench.config).args(["etcd", "restore", "--yes", "--from"]);
            command.arg(&bench.snapshot).args(["--name=m0", MEMBER, TOKEN, BUMP, "--stopped=default", "--data-dir"]);
            command.arg(out.join("data"));
            command
        },
        made: |bench, out, _| bench.holds(&out.join("data/member/snap/db")),
    },
];

const MEMBER: &str = "--initial-cluster=m0=http://127.0.0.1:2380";
const TOKEN: &str = "--initial-cluster-token=bench";
const BUMP: &str = "--bump-revision=1000000000";

/// What it is done with.
pub(crate) struct Bench {
    snapshot: PathBuf,
    tools: PathBuf,
    lastgood: PathBuf,
    /// A member that holds what the snapshot holds, and a node whose manifest names it.
    etcd: Etcd,
    config: PathBuf,
}

impl Bench {
    pub(crate) fn new(dir: &Path, snapshot: PathBuf, tools: PathBuf, lastgood: PathBuf) -> Result<Self> {
        let (data, node) = (dir.join("member"), dir.join("node"));
        for old in [&data, &node] {
            let _ = fs::remove_dir_all(old);
        }
        let mut restore = Command::new(tools.join("etcdutl"));
        let restored = restore.args(["snapshot", "restore"]).arg(&snapshot).arg("--data-dir").arg(&data).output()?;
        ensure!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        let etcd = Etcd::start(&data, &tools)?;
        let paths = ["manifests", "inactive-manifests", "staging", "kubernetes", "state", "run"];
        let mut config = "[paths]\n".to_owned();
        for name in paths {
            fs::create_dir_all(node.join(name))?;
            config.push_str(&format!("{name} = {:?}\n", node.join(name)));
        }
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "etcd", "namespace": "kube-system", "labels": { "component": "etcd" } },
            "spec": { "hostNetwork": true, "containers": [{
                "name": "etcd",
                "image": "registry.k8s.io/etcd:3.5.16-0",
                "command": [
                    "etcd",
                    format!("--data-dir={}", data.display()),
                    format!("--listen-client-urls={}", etcd.url),
                    format!("--advertise-client-urls={}", etcd.url),
                ],
            }] },
        });
        fs::write(node.join("manifests/etcd.yaml"), manifest.to_string())?;
        fs::write(node.join("config.toml"), config)?;
        Ok(Self { snapshot, tools, lastgood, etcd, config: node.join("config.toml") })
    }

    fn of_file(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).arg(&self.snapshot);
        command
    }

    /// The newest revision of a database and how many keys it holds, as etcd's tool says.
    fn holds(&self, database: &Path) -> Result<Value> {
        let out = Command::new(self.tools.join("etcdutl"))
            .args(["snapshot", "status", "-w", "json"])
            .arg(database)
            .output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let said: Value = serde_json::from_slice(&out.stdout)?;
        Ok(json!([said["revision"], said["totalKey"]]))
    }
}
