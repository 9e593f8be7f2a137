//! A snapshot of a real etcd 3.5 that was filled as Kubernetes fills one: objects of a few kilobytes that are written
//! again and again, events that come and go, some large ones, and a compaction behind them as the API server asks for.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, CompactionOptions, Txn, TxnOp};
use tokio::task::JoinSet;

/// A kind of object: its path, its size in bytes from and to, how many of a thousand writes are of it, and how many of it
/// there are for each GiB: where there are few, they are written often.
struct Kind {
    path: &'static str,
    size: (u64, u64),
    share: u64,
    names: u64,
}

const KINDS: &[Kind] = &[
    Kind { path: "pods/team-3", size: (3000, 9000), share: 300, names: 60_000 },
    Kind { path: "events/team-1", size: (600, 1400), share: 250, names: 150_000 },
    Kind { path: "leases/kube-node-lease", size: (400, 600), share: 180, names: 2000 },
    Kind { path: "minions", size: (8000, 20_000), share: 60, names: 2000 },
    Kind { path: "services/endpoints/team-2", size: (300, 4000), share: 100, names: 10_000 },
    Kind { path: "replicasets/team-3", size: (2000, 5000), share: 60, names: 20_000 },
    Kind { path: "configmaps/team-4", size: (200, 60_000), share: 30, names: 5000 },
    Kind { path: "secrets/team-4/sh.helm.release", size: (20_000, 600_000), share: 4, names: 1000 },
    Kind { path: "apiextensions.k8s.io/customresourcedefinitions", size: (20_000, 200_000), share: 16, names: 300 },
];
/// Of a thousand turns: how many delete instead.
const DELETED: u64 = 80;
/// Revisions between two compactions.
const COMPACTED: i64 = 40_000;
/// At a time.
const WRITERS: usize = 16;
/// Operations of a transaction; etcd takes 128, and 1.5 MiB.
const BATCH: usize = 24;
const BATCH_BYTES: usize = 800 << 10;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A size and as many bytes: about half of them text that recurs, as in a manifest.
    fn value(&mut self, size: (u64, u64)) -> Vec<u8> {
        let size = size.0 + self.below(size.1 - size.0) * self.below(1000) / 1000;
        let mut value = b"k8s\0\n\x0f\n\x02v1\x12\x09".to_vec();
        while (value.len() as u64) < size {
            value.extend(b"app.kubernetes.io/managed-by\x12");
            value.extend(self.next().to_le_bytes());
            value.extend(self.next().to_le_bytes());
        }
        value
    }
}

/// An etcd that is killed when it is not needed any more.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) url: String,
}

impl Etcd {
    /// Starts one over a data directory, and waits until it serves.
    pub(crate) fn start(data: &Path, tools: &Path) -> Result<Self> {
        let free = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let url = format!("http://127.0.0.1:{}", free()?);
        let child = Command::new(tools.join("etcd"))
            .arg("--data-dir")
            .arg(data)
            .args(["--quota-backend-bytes=17179869184", "--unsafe-no-fsync", "--log-level=error"])
            .args(["--snapshot-count=5000".to_owned(), format!("--listen-client-urls={url}")])
            .args([
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls=http://127.0.0.1:{}", free()?),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{}: run tests/install", tools.display()))?;
        let etcd = Self { child, url };
        let mut tries = 0;
        while !etcd.ctl(tools, &["endpoint", "health"]).output()?.status.success() {
            tries += 1;
            ensure!(tries < 600, "etcd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(etcd)
    }

    /// Its own tool.
    pub(crate) fn ctl(&self, tools: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(tools.join("etcdctl"));
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url]).args(args);
        command
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The snapshot of about so many MiB, made where it is not there yet.
pub(crate) fn snapshot(dir: &Path, tools: &Path, mib: u64) -> Result<PathBuf> {
    let path = dir.join(format!("snapshot-{mib}.db"));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    let data = dir.join("data");
    let _ = fs::remove_dir_all(&data);
    let etcd = Etcd::start(&data, tools)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect([&etcd.url], None).await?;
        fill(&mut client, mib).await
    })?;
    let part = path.with_extension("part");
    let saved = etcd.ctl(tools, &["snapshot", "save"]).arg(&part).output()?;
    ensure!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    fs::rename(part, &path)?;
    drop(etcd);
    fs::remove_dir_all(&data)?;
    Ok(path)
}

async fn fill(client: &mut Client, mib: u64) -> Result<()> {
    let mut random = Random(42);
    let mut writing = JoinSet::new();
    let mut compacted = 0;
    for turn in 0u64.. {
        let mut operations: Vec<TxnOp> = Vec::new();
        let mut taken = std::collections::BTreeSet::new();
        let mut bytes = 0;
        while operations.len() < BATCH && bytes < BATCH_BYTES {
            let mut at = random.below(KINDS.iter().map(|kind| kind.share).sum());
            let kind = KINDS.iter().find(|kind| {
                let here = at < kind.share;
                at = at.saturating_sub(kind.share);
                here
            });
            let Some(kind) = kind else { continue };
            let name = random.below(kind.names * mib.max(100) / 1024);
            let key = format!("/registry/{}/object-{name:06}-{:08x}", kind.path, name.wrapping_mul(0x9e37_79b9) as u32);
            // A transaction takes a key once.
            if !taken.insert(key.clone()) {
                continue;
            }
            if random.below(1000) < DELETED {
                operations.push(TxnOp::delete(key, None));
            } else {
                let value = random.value(kind.size);
                bytes += value.len();
                operations.push(TxnOp::put(key, value, None));
            }
        }
        let mut one = client.clone();
        writing.spawn(async move { one.txn(Txn::new().and_then(operations)).await.map(drop) });
        if writing.len() >= WRITERS
            && let Some(written) = writing.join_next().await
        {
            written??;
        }
        if turn % 64 == 0 {
            let status = client.status().await?;
            if status.db_size().cast_unsigned() >= mib << 20 {
                break;
            }
            let revision = status.header().map_or(0, etcd_client::ResponseHeader::revision);
            if revision - compacted > COMPACTED / BATCH as i64 * 4 {
                compacted = revision - 1000;
                client.compact(compacted, Some(CompactionOptions::new())).await?;
            }
        }
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    // One that is still to be done would go on in every member that is made of this, while it is measured.
    let revision = client.status().await?.header().map_or(0, etcd_client::ResponseHeader::revision);
    client.compact(revision - 1000, Some(CompactionOptions::new().with_physical())).await?;
    Ok(())
}
