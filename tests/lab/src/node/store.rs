//! containerd of the node: its configuration, and its store with every image in it.
//!
//! Importing takes seconds, so it is done once into the cache; a node gets the result as hard links. Blobs and unpacked
//! layers are only ever read (a container writes into its own layer), the two databases are copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::cache::{Cache, Entry};
use super::place::{Links, copy, write};
use crate::images::{self, Image, PAUSE};

/// Images do not age; they change with their binaries.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How containerd stacks layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshotter {
    /// By the kernel's overlay file system.
    Overlay,
    /// By copying: slow, but possible where the node's disk is an overlay itself, as in a container.
    Native,
}

impl Snapshotter {
    /// The one that works for a store in `dir`.
    pub fn for_dir(dir: &Path) -> Self {
        // From linux/magic.h.
        const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
        let kind = nix::sys::statfs::statfs(dir).map(|s| s.filesystem_type().0);
        if kind.is_ok_and(|kind| kind == OVERLAYFS_SUPER_MAGIC) { Self::Native } else { Self::Overlay }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlayfs",
            Self::Native => "native",
        }
    }
}

/// containerd's configuration.
///
/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc cannot lower the score to the sandbox's -998, and no sandbox
/// starts ("can't get final child's PID from pipe: EOF"). Every registry is a closed port: a missing image must fail at
/// once and ask nobody.
pub fn configuration(root: &Path, state: &Path, socket: &Path, snapshotter: Snapshotter) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        root = root.display(),
        state = state.display(),
        socket = socket.display(),
        snapshotter = snapshotter.name(),
    )
}

/// Puts containerd's configuration and a store with all images into a node's root.
///
/// # Errors
/// When an image cannot be made or imported.
pub fn furnish(cache: &Cache, images: &[Image], root: &Path) -> Result<()> {
    let lib = root.join("var/lib/containerd");
    let snapshotter = Snapshotter::for_dir(&lib);
    let config = configuration(
        Path::new("/var/lib/containerd"),
        Path::new("/run/containerd"),
        Path::new("/run/containerd/containerd.sock"),
        snapshotter,
    );
    write(&root.join("etc/containerd/config.toml"), &config)?;
    let hosts = root.join("etc/containerd/certs.d/_default");
    fs::create_dir_all(&hosts).with_context(|| format!("cannot make {}", hosts.display()))?;
    // Port 1: nothing listens there, least of all in a network of its own.
    write(&hosts.join("hosts.toml"), "server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:1\"]\n")?;

    let store = store(cache, images, snapshotter)?;
    let content = fs::read_dir(store.path()).with_context(|| format!("cannot list {}", store.path().display()))?;
    copy(content.flatten().map(|item| item.path()), &lib, Links::Hard)?;
    for database in databases(&lib) {
        // Written in place by containerd: a link would be the cache's own.
        let fresh = database.with_extension("copy");
        fs::copy(&database, &fresh)
            .and_then(|_| fs::rename(&fresh, &database))
            .with_context(|| format!("cannot copy {}", database.display()))?;
    }
    Ok(())
}

fn store(cache: &Cache, images: &[Image], snapshotter: Snapshotter) -> Result<Entry> {
    let print = images::fingerprint(images)? + snapshotter.name();
    let digest = Sha256::digest(print.as_bytes());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("store-{short}");
    let entry = cache.entry(&name, FOREVER, |to| import(images, snapshotter, to))?;
    cache.prune("store-", &name);
    Ok(entry)
}

/// Runs a containerd in namespaces of its own on `root` and has it import the images.
fn import(images: &[Image], snapshotter: Snapshotter, root: &Path) -> Result<()> {
    // Not below `root`: a socket's path has 108 bytes, and the checkout may lie deep.
    let work = tempfile::Builder::new().prefix("lab-").tempdir().context("cannot make a temp directory")?;
    let archive = work.path().join("images.tar");
    images::write_archive(images, work.path(), &archive)?;
    let (config, socket) = (work.path().join("config.toml"), work.path().join("s"));
    write(&config, &configuration(root, &work.path().join("state"), &socket, snapshotter))?;
    let log = fs::File::create(work.path().join("log")).context("cannot make a log file")?;
    let mut containerd = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "containerd", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot run containerd: run tests/install first")?;
    let imported = import_into(&socket, snapshotter, &archive).with_context(|| {
        let log = fs::read_to_string(work.path().join("log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        format!("containerd said, last line first:\n{}", tail.join("\n"))
    });
    // --kill-child takes containerd along; its databases are consistent after each import.
    let _ = containerd.kill();
    let _ = containerd.wait();
    imported
}

fn import_into(socket: &Path, snapshotter: Snapshotter, archive: &Path) -> Result<()> {
    let ctr = |args: &[&str]| {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(socket).args(["-n", "k8s.io"]).args(args);
        command
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ctr(&["version"]).output().is_ok_and(|out| out.status.success()) {
        if Instant::now() > deadline {
            bail!("containerd does not answer within 30 s");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let out = ctr(&["images", "import", "--snapshotter", snapshotter.name()])
        .arg(archive)
        .output()
        .context("cannot run ctr (package containerd)")?;
    if !out.status.success() {
        bail!("ctr images import failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn databases(store: &Path) -> Vec<PathBuf> {
    let plugins = fs::read_dir(store).into_iter().flatten().flatten().map(|item| item.path());
    plugins
        .flat_map(|plugin| fs::read_dir(plugin).into_iter().flatten().flatten())
        .map(|item| item.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "db"))
        .collect()
}
