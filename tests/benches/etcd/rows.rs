//! What is compared, and what both must have made alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
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
        what: "verify of what lastgood saved: `etcdutl snapshot status`, and ours by the checksum of all bytes",
        theirs: |bench, _| bench.status(&bench.own),
        ours: |bench, _| bench.verify(&bench.own),
        ..VERIFY
    },
    Row {
        what: "verify of what etcdctl saved: `etcdutl snapshot status`, which takes no SHA-256, and ours, which does",
        ..VERIFY
    },
    Row {
        what: "restore of what lastgood saved: `etcdutl snapshot restore`, and ours, which verifies before and after",
        theirs: |bench, out| bench.theirs(&bench.own, out),
        ours: |bench, out| bench.ours(&bench.own, out),
        ..RESTORE
    },
    Row { what: "restore of what etcdctl saved: the same, and ours takes the SHA-256 as well", ..RESTORE },
];

const VERIFY: Row = Row {
    what: "",
    of_disk: false,
    theirs: |bench, _| bench.status(&bench.snapshot),
    ours: |bench, _| bench.verify(&bench.snapshot),
    made: |_, _, said| {
        let said: Value = serde_json::from_slice(said)?;
        let keys = said.get("totalKey").or(said.get("total_keys"));
        Ok(json!([said["hash"], said["revision"], keys]))
    },
};

const RESTORE: Row = Row {
    what: "",
    of_disk: true,
    theirs: |bench, out| bench.theirs(&bench.snapshot, out),
    ours: |bench, out| bench.ours(&bench.snapshot, out),
    made: |bench, out, _| bench.holds(&out.join("data/member/snap/db")),
};

const MEMBER: &str = "--initial-cluster=m0=http://127.0.0.1:2380";
const TOKEN: &str = "--initial-cluster-token=bench";
const BUMP: &str = "--bump-revision=1000000000";

/// What it is done with.
pub(crate) struct Bench {
    /// As etcdctl saved it.
    snapshot: PathBuf,
    /// As lastgood saved it, of the same data, its proof beside it.
    own: PathBuf,
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
        let path = node.join("config.toml");
        fs::write(&path, config)?;
        let mut save = Command::new(&lastgood);
        let saved = save.arg("--config").arg(&path).args(["etcd", "snapshot", "save", "-o", "json"]).output()?;
        ensure!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        let said: Value = serde_json::from_slice(&saved.stdout)?;
        let own = said["path"].as_str().map(PathBuf::from).with_context(|| format!("no path in {said}"))?;
        Ok(Self { snapshot, own, tools, lastgood, etcd, config: path })
    }

    fn status(&self, file: &Path) -> Command {
        let mut command = Command::new(self.tools.join("etcdutl"));
        command.args(["snapshot", "status", "-w", "json"]).arg(file);
        command
    }

    fn verify(&self, file: &Path) -> Command {
        let mut command = Command::new(&self.lastgood);
        command.args(["etcd", "snapshot", "verify", "-o", "json"]).arg(file);
        command
    }

    fn theirs(&self, file: &Path, out: &Path) -> Command {
        let mut command = Command::new(self.tools.join("etcdutl"));
        command.args(["snapshot", "restore"]).arg(file);
        command.args(["--name=m0", MEMBER, "--initial-advertise-peer-urls=http://127.0.0.1:2380", TOKEN, BUMP]);
        command.args(["--mark-compacted", "--data-dir"]).arg(out.join("data"));
        command
    }

    fn ours(&self, file: &Path, out: &Path) -> Command {
        let mut command = Command::new(&self.lastgood);
        command.arg("--config").arg(&self.config).args(["etcd", "restore", "--yes", "--from"]).arg(file);
        command.args(["--name=m0", MEMBER, TOKEN, BUMP, "--stopped=default", "--data-dir"]).arg(out.join("data"));
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
