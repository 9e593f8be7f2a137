//! A bare machine becomes the master that was lost: by the manual page's own commands, from a snapshot, its parts and an identity.
//!
//! ```text
//!   a master serves ─ snapshot with its bundle ─ writes ─▶ lost
//!   a bare machine  ◀─ NAME.*, key.txt       unpack ─ cp ─ restore ─ kubelet ─▶ serves, above every revision ever served
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::pki::{self, Authority};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::snapshots::{identity, listed, path};
use crate::stage::{SOON, Stage};

/// What a person on that day has.
const PAGE: &str = include_str!("../../../../packaging/man/lastgood-restore.7");
/// Where what makes a master lies, besides etcd's data and what the kubelet and lastgood make anew.
const PLACES: [&str; 7] = [
    "/etc/kubernetes",
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/pki",
    "/etc/kubernetes/pki/etcd",
    "/etc/lastgood/config.d",
    "/var/lib/kubelet",
    "/var/lib/kubelet/pki",
];
/// Arguments of a person's own for the kubelet.
const EXTRA_ARGS: &str = "/etc/default/kubelet";
/// The kubelet's certificate in use, and what `kubeadm init` leaves of it in its kubeconfig.
const IN_USE: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const AS_KUBEADM_DOES: &str = "set -e; cd /var/lib/kubelet/pki; conf=/etc/kubernetes/kubelet.conf; \
     file=kubelet-client-2026-01-01-00-00-00.pem; \
     for part in certificate key; do awk \"/client-$part-data/{print \\$2}\" $conf | base64 -d; done >$file; chmod 600 $file; \
     ln -s $PWD/$file kubelet-client-current.pem; \
     for part in certificate key; do sed -i \"s#client-$part-data:.*#client-$part: $PWD/kubelet-client-current.pem#\" $conf; done";

/// A file as it lies: what it holds, mode, owner, group.
type Lies = (Vec<u8>, u32, u32, u32);

/// What is left of a master: what a person kept elsewhere, and what a test remembers.
struct Lost {
    /// The snapshot's parts, `key.txt`, and the pki directory, which another person kept.
    kept: tempfile::TempDir,
    /// The snapshot: NAME.db.
    snapshot: String,
    files: BTreeMap<PathBuf, Lies>,
    lease: String,
    /// The last revision that it served.
    high: i64,
}

/// Every file of [`PLACES`], and that one. The file that a link leads to is looked at through the link.
fn files(node: &Node) -> Result<BTreeMap<PathBuf, Lies>> {
    let mut found = BTreeMap::new();
    for place in PLACES {
        let entries = fs::read_dir(node.path(place)).with_context(|| place.to_owned())?;
        let names = entries.map(|entry| Ok(Path::new(place).join(entry?.file_name()))).collect::<Result<Vec<_>>>()?;
        for inside in names.into_iter().chain((place == PLACES[0]).then(|| EXTRA_ARGS.into())) {
            // A link's own target is a path of the node's.
            let real = match fs::read_link(node.path(&inside)) {
                Ok(to) => node.path(Path::new(place).join(to)),
                Err(_) => node.path(&inside),
            };
            let metadata = fs::metadata(&real).with_context(|| real.display().to_string())?;
            if metadata.is_file() && !inside.to_string_lossy().contains("/kubelet-client-2026") {
                let lies = (fs::read(&real)?, metadata.permissions().mode() & 0o7777, metadata.uid(), metadata.gid());
                found.insert(inside, lies);
            }
        }
    }
    Ok(found)
}

async fn revision(node: &Node) -> Result<i64> {
    let read: Value = serde_json::from_str(&node.etcdctl(&["get", "/lab/kept", "--write-out=json"]).await?)?;
    read["header"]["revision"].as_i64().context("no revision")
}

/// A master that served, and is gone.
async fn lost() -> Result<Lost> {
    let kept = tempfile::tempdir()?;
    let recipient = identity(&kept.path().join("key.txt"))?;
    let mut node = Node::builder().start().await?;
    node.up().await?;
    node.sh(AS_KUBEADM_DOES).await?;
    // As for an API server and an etcd that do not run as root.
    node.sh("cd /etc/kubernetes/pki; chmod 640 sa.key etcd/server.key; chgrp 4242 sa.key; chown 4241 etcd/server.key")
        .await?;
    node.sh(&format!("mkdir -p /etc/default; echo KUBELET_EXTRA_ARGS=--v=1 >{EXTRA_ARGS}")).await?;
    node.kubelet().restart().await?;
    node.put_data("/lab/kept", "written before").await?;
    let granted = node.etcdctl(&["lease", "grant", "36000"]).await?;
    let lease = granted.split(' ').nth(1).context("etcdctl names no lease")?.to_owned();
    node.etcdctl(&["put", &format!("--lease={lease}"), "/lab/leased", "yes"]).await?;
    node.spawn_agent(&format!("{QUICK}\n[snapshots]\ninterval = \"4s\"\nrecipients = [\"{recipient}\"]\n")).await?;
    let stage = Stage { node };
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    let node = &stage.node;
    let saved = node.lastgood(&["etcd", "snapshot", "save"]).await?;
    ensure!(saved.code == 0, "{}{}", saved.stdout, saved.stderr);
    let saved = path(listed(node).await?.last().context("none is listed")?);
    let (dir, file) = saved.rsplit_once('/').context("no path")?;
    let name = file.strip_suffix("db").context("no snapshot")?;
    let copy = |from: &Path| -> Result<()> {
        let to = kept.path().join(from.file_name().context("no name")?);
        fs::copy(from, to).map(drop).with_context(|| from.display().to_string())
    };
    for entry in fs::read_dir(node.path(dir))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(name) {
            copy(&entry.path())?;
        }
    }
    let keys =
        std::process::Command::new("cp").arg("-a").arg(node.path("/etc/kubernetes/pki")).arg(kept.path()).status()?;
    ensure!(keys.success(), "cp");
    for number in 0..20 {
        node.put_data("/lab/later", &number.to_string()).await?;
    }
    let lost = Lost { snapshot: file.to_owned(), files: files(node)?, lease, high: revision(node).await?, kept };
    ensure!(lost.files.len() > 30, "a master has more than {:?}", lost.files.keys());
    Ok(lost)
}

/// An empty machine of the lost one's name and address, with what was kept of it.
async fn bare(lost: &Lost) -> Result<Stage> {
    let node = Node::builder().bare().start().await?;
    for place in ["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/lastgood"] {
        ensure!(!node.path(place).exists(), "this machine is not bare: {place}");
    }
    for entry in fs::read_dir(lost.kept.path())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), node.path("/root").join(entry.file_name()))?;
        }
    }
    Ok(Stage { node })
}

/// The commands in the examples of the manual page between two of its words, in order.
fn commands(from: &str, to: &str) -> Result<Vec<String>> {
    let (_, section) = PAGE.split_once(from).with_context(|| format!("the page has no {from:?}"))?;
    let (section, _) = section.split_once(to).with_context(|| format!("the page has no {to:?}"))?;
    let examples = section.split(".EX\n").skip(1).filter_map(|rest| rest.split_once("\n.EE"));
    Ok(examples.flat_map(|(example, _)| example.lines()).map(|line| line.replace("\\-", "-")).collect())
}

/// The three steps.
fn steps() -> Result<Vec<String>> {
    let steps = commands(".SH A BARE MACHINE\n", "\n.SS ")?;
    let first: Vec<&str> = steps.iter().filter_map(|step| step.split(' ').next()).collect();
    ensure!(first == ["lastgood", "cp", "cp", "lastgood", "systemctl", "systemctl"], "the page's steps: {steps:?}");
    Ok(steps)
}

/// Types one, and returns what it said.
async fn typed(stage: &Stage, lost: &Lost, command: &str) -> Result<String> {
    let node = &stage.node;
    match command {
        "systemctl start kubelet" => node.kubelet().start().await.map(|()| String::new()),
        "systemctl restart lastgood" => node.agent().restart().await.map(|()| String::new()),
        _ => {
            let stem = lost.snapshot.trim_end_matches(".db");
            let mut words = format!("cd /root && {}", command.replace("NAME", stem));
            if command.starts_with("lastgood etcd restore") {
                // No person is there to be asked.
                words.push_str(" --yes");
            }
            let said = node.exec(&["sh", "-c", &words]).await?;
            ensure!(said.code == 0, "{words}: {}: {}{}", said.code, said.stdout, said.stderr);
            Ok(said.stdout)
        }
    }
}

/// It serves what the lost one held, above every revision that was served, and its agent knows it as good.
async fn is_it_again(stage: Stage, lost: &Lost) -> Result<()> {
    let node = &stage.node;
    node.up().await?;
    ensure!(node.get_data("/lab/kept").await?.as_deref() == Some("written before"), "it does not hold what it held");
    ensure!(node.get_data("/lab/later").await?.is_none(), "that came after the snapshot");
    let leased = node.etcdctl(&["lease", "timetolive", &lost.lease, "--keys"]).await?;
    ensure!(leased.contains("/lab/leased") && leased.contains("granted with TTL(36000s)"), "{leased}");
    let now = revision(node).await?;
    ensure!(now > lost.high, "revision {now} after {}", lost.high);
    // So no watch from before gets anything else than the word that it has to read anew.
    let old = node.etcdctl(&["get", "/lab/kept", &format!("--rev={}", lost.high)]).await;
    let old = old.map_err(|error| format!("{error:#}")).err().unwrap_or_default();
    ensure!(old.contains("compacted"), "revision {} of this world can be read: {old}", lost.high);
    let data = fs::metadata(node.path("/var/lib/etcd"))?.permissions().mode() & 0o7777;
    ensure!(data == 0o700, "/var/lib/etcd: {data:o}");

    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.told("taken and verified").await?;
    // The newest may be one that is being taken: its bundle comes after it.
    let began = Instant::now();
    loop {
        let newest = path(listed(node).await?.last().context("it took no snapshot")?);
        let shown = node.lastgood(&["etcd", "snapshot", "show", &newest]).await?;
        let carries = shown.stdout.contains("/etc/kubernetes/pki/ca.key") && shown.stdout.contains("encrypted to age1");
        if carries {
            break;
        }
        let said = format!("{}{}", shown.stdout, shown.stderr);
        ensure!(began.elapsed() < SOON, "its next snapshots carry no keys: {said}");
        sleep(Duration::from_millis(500)).await;
    }
    ensure!(stage.deeds().is_empty(), "{:?}", stage.deeds());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_bare_machine_becomes_the_lost_master_by_the_manual_pages_steps() -> Result<()> {
    let lost = lost().await?;
    let stage = bare(&lost).await?;
    for step in steps()? {
        let said = typed(&stage, &lost, &step).await?;
        if step.starts_with("lastgood etcd restore") {
            ensure!(said.contains("start its etcd now") && said.contains("systemctl start kubelet"), "{said}");
            // Everything lies as it lay there, before anything runs that could mend it.
            let found = files(&stage.node)?;
            for (path, (bytes, mode, uid, gid)) in &lost.files {
                let lies = found.get(path).with_context(|| format!("{} is missing", path.display()))?;
                ensure!(lies.0 == *bytes, "{} holds something else", path.display());
                let now = (lies.1, lies.2, lies.3);
                ensure!(now == (*mode, *uid, *gid), "{}: {now:?}, and was {:?}", path.display(), (mode, uid, gid));
            }
            let link = fs::symlink_metadata(stage.node.path(IN_USE))?;
            ensure!(link.is_symlink(), "the kubelet renews no certificate that is no link");
        }
    }
    is_it_again(stage, &lost).await
}

#[tokio::test]
async fn without_the_identity_each_key_is_named_and_what_was_kept_elsewhere_takes_their_place() -> Result<()> {
    let lost = lost().await?;
    let stage = bare(&lost).await?;
    let node = &stage.node;
    // Its package has started the agent, and it has nothing to do but to look on.
    node.agent().start().await?;
    let is_key = |path: &Path| {
        let text = path.to_string_lossy();
        text.contains("/pki/") || text.ends_with(".conf")
    };
    let mut steps = steps()?.into_iter();
    let unpack = steps.next().context("no step")?.replace(" --identity key.txt", "");
    ensure!(!unpack.contains("key.txt"), "{unpack}");
    let said = typed(&stage, &lost, &unpack).await?;
    for (path, _) in lost.files.iter().filter(|(path, _)| is_key(path)) {
        ensure!(said.contains(&format!("not written: {}\n", path.display())), "{}: {said}", path.display());
        ensure!(!node.path("/root/node").join(path.strip_prefix("/")?).exists(), "{} exists", path.display());
    }
    ensure!(said.contains("--identity FILE opens them"), "{said}");

    // By age itself they are those that lay there.
    node.sh("mkdir /root/by-age").await?;
    for command in commands(".SS Without the age identity\n", "\n.SH ")? {
        typed(&stage, &lost, &command.replace("/root/node", "/root/by-age")).await?;
    }
    for (path, (bytes, mode, uid, gid)) in lost.files.iter().filter(|(path, _)| is_key(path)) {
        let real = node.path("/root/by-age").join(path.strip_prefix("/")?);
        let metadata = fs::metadata(&real).with_context(|| real.display().to_string())?;
        let now = (metadata.permissions().mode() & 0o7777, metadata.uid(), metadata.gid());
        ensure!(now == (*mode, *uid, *gid) && fs::read(&real)? == *bytes, "{}: {now:?}", path.display());
    }

    // From elsewhere: the PKI as it was kept, and kubeconfigs as kubeadm makes them of its authority.
    let kubernetes = node.path("/root/node/etc/kubernetes");
    let put = std::process::Command::new("cp").arg("-a").arg(lost.kept.path().join("pki")).arg(&kubernetes).status()?;
    ensure!(put.success(), "cp");
    pki::kubeconfigs(&kubernetes, &Authority::load(&kubernetes.join("pki/ca"))?, node.name())?;
    for step in steps {
        typed(&stage, &lost, &step).await?;
    }
    is_it_again(stage, &lost).await
}
