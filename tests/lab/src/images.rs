//! Container images without a registry and without docker: an archive as `docker save` writes it, made of one binary
//! and the shared libraries it names, under the names that kubeadm gives them.
//!
//! ```text
//! binary ── strip, ldd ──▶ layer.tar ─┐
//!                                     ├── config.json per tag ──▶ images.tar ── ctr images import
//! binary ── strip, ldd ──▶ layer.tar ─┘
//! ```
//!
//! The versions of a component share a layer and differ in their configuration, so each has its own digest, as real ones
//! do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

/// The Kubernetes version that a node starts with.
pub const KUBERNETES: &str = "v1.34.2";
/// The next patch version, present on every node, for upgrades.
pub const KUBERNETES_NEXT: &str = "v1.34.3";
/// The next minor version, present likewise: an API server of the one before is older than it.
pub const KUBERNETES_MINOR: &str = "v1.35.0";
/// The sandbox image, as kubeadm 1.34 and our containerd name it.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// Where kubeadm's images come from; unreachable here, only a name.
pub const REGISTRY: &str = "registry.k8s.io";

/// One image to make: a binary under one or several names.
#[derive(Debug, Clone)]
pub struct Image {
    /// The command in the image, put into /usr/local/bin as Kubernetes' own images have it.
    pub command: String,
    /// The binary on this machine.
    pub binary: PathBuf,
    /// Version tag and full name of each image made of it.
    pub names: Vec<Name>,
    /// Other files of the image: (name in /usr/local/bin, file here).
    pub extra: Vec<(String, PathBuf)>,
}

/// An image's version and full name.
#[derive(Debug, Clone)]
pub struct Name {
    /// Told to the process as `LAB_VERSION` and to the world as a label.
    pub version: String,
    /// For example `registry.k8s.io/kube-apiserver:v1.34.2`.
    pub full: String,
}

impl Image {
    /// A control plane component of Kubernetes in all three versions.
    pub fn kubernetes(component: &str, binary: PathBuf) -> Self {
        let names = [KUBERNETES, KUBERNETES_NEXT, KUBERNETES_MINOR]
            .map(|version| Name { version: version.to_owned(), full: kubernetes(component, version) });
        Self { command: component.to_owned(), binary, names: names.to_vec(), extra: Vec::new() }
    }

    /// etcd with the tools that its image carries.
    pub fn etcd(version: &str, dir: &Path) -> Self {
        let extra = ["etcdctl", "etcdutl"]
            .map(|tool| (tool.to_owned(), dir.join(tool)))
            .into_iter()
            .filter(|(_, file)| file.exists())
            .collect();
        let name = Name { version: version.to_owned(), full: etcd(version) };
        Self { command: "etcd".to_owned(), binary: dir.join("etcd"), names: vec![name], extra }
    }

    /// The sandbox's only process.
    pub fn pause(binary: PathBuf) -> Self {
        let name = Name { version: "3.10.1".to_owned(), full: PAUSE.to_owned() };
        Self { command: "pause".to_owned(), binary, names: vec![name], extra: Vec::new() }
    }
}

/// The name of a Kubernetes component's image.
pub fn kubernetes(component: &str, version: &str) -> String {
    format!("{REGISTRY}/{component}:{version}")
}

/// The name of etcd's image as kubeadm has it, for example `registry.k8s.io/etcd:3.5.16-0`.
pub fn etcd(version: &str) -> String {
    format!("{REGISTRY}/etcd:{version}-0")
}

/// A text that changes when any of the images would: names, and each binary's path, size and time of change. Not the
/// content, because hashing some hundred megabytes takes longer than a node's start.
///
/// # Errors
/// When a binary is missing.
pub fn fingerprint(images: &[Image]) -> Result<String> {
    let mut text = String::from("format 1\n");
    for image in images {
        for file in std::iter::once(&image.binary).chain(image.extra.iter().map(|(_, file)| file)) {
            let meta = fs::metadata(file).with_context(|| {
                format!("{} is missing: run tests/install and cargo build --workspace", file.display())
            })?;
            text += &format!("{} {} {}.{}\n", file.display(), meta.size(), meta.mtime(), meta.mtime_nsec());
        }
        for name in &image.names {
            text += &format!("{} {}\n", name.full, name.version);
        }
    }
    Ok(text)
}

/// Writes an archive of all images to `archive`, with `work` for its parts.
///
/// # Errors
/// When a binary cannot be read, a tool (`ldd`, `sha256sum`) fails, or the disk does.
pub fn write_archive(images: &[Image], work: &Path, archive: &Path) -> Result<()> {
    let mut parts: Vec<(String, PathBuf)> = Vec::new();
    let mut manifest = Vec::new();
    for image in images {
        let unpacked = work.join(format!("{}-layer", file_name(&image.names)));
        write_layer(image, work, &unpacked)?;
        let digest = sha256(&unpacked)?;
        let layer = format!("{digest}/layer.tar");
        parts.push((layer.clone(), unpacked));
        for name in &image.names {
            let config = json!({
                "architecture": architecture(),
                "os": "linux",
                "created": "1970-01-01T00:00:00Z",
                "config": {
                    "Env": ["PATH=/usr/local/bin", format!("LAB_VERSION={}", name.version)],
                    "Entrypoint": [format!("/usr/local/bin/{}", image.command)],
                    "Labels": { "org.opencontainers.image.version": name.version },
                },
                "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
            });
            let path = work.join(format!("{}.config", name.full.replace(['/', ':'], "_")));
            fs::write(&path, serde_json::to_vec(&config)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            let file = format!("{}.json", sha256(&path)?);
            manifest.push(json!({ "Config": file, "RepoTags": [name.full], "Layers": [layer] }));
            parts.push((file, path));
        }
    }
    let path = work.join("manifest.json");
    fs::write(&path, serde_json::to_vec(&manifest)?).with_context(|| format!("cannot write {}", path.display()))?;
    parts.push(("manifest.json".to_owned(), path));

    let mut tar = Tar::create(archive)?;
    for (name, file) in parts {
        tar.file(&name, &file, 0o644)?;
    }
    tar.finish()
}

fn write_layer(image: &Image, work: &Path, layer: &Path) -> Result<()> {
    // Ordered, and each file once: two binaries mostly need the same libraries.
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    let commands = std::iter::once((&image.command, &image.binary)).chain(image.extra.iter().map(|(n, f)| (n, f)));
    for (name, binary) in commands {
        for library in libraries(binary)? {
            files.insert(library.trim_start_matches('/').to_owned(), PathBuf::from(library));
        }
        files.insert(format!("usr/local/bin/{name}"), stripped(binary, work)?);
    }
    let mut tar = Tar::create(layer)?;
    tar.directories(files.keys().map(String::as_str).chain(["tmp/x", "etc/x", "var/x"]))?;
    for (name, file) in &files {
        tar.file(name, file, 0o755)?;
    }
    tar.finish()
}

/// A copy without debug sections where `strip` can make one: a debug build is a hundred megabytes, its code ten.
fn stripped(binary: &Path, work: &Path) -> Result<PathBuf> {
    let name = binary.file_name().context("a binary without a name")?;
    let parent = binary.parent().and_then(Path::file_name).unwrap_or_default();
    let out = work.join(format!("{}-{}", parent.to_string_lossy(), name.to_string_lossy()));
    let ok = Command::new("strip").arg("-o").arg(&out).arg(binary).output().is_ok_and(|o| o.status.success());
    Ok(if ok { out } else { binary.to_path_buf() })
}

/// The shared libraries of a binary, its loader included, as paths on this machine.
fn libraries(binary: &Path) -> Result<Vec<String>> {
    let out = Command::new("ldd").arg(binary).output().context("cannot run ldd")?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    if said.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !out.status.success() || said.contains("not found") {
        bail!("ldd cannot resolve {}: {}", binary.display(), said.trim());
    }
    Ok(said.split_whitespace().filter(|word| word.starts_with('/')).map(|word| word.replace(':', "")).collect())
}

/// By coreutils: our own SHA-256 without optimization takes seconds for what it does in one.
fn sha256(file: &Path) -> Result<String> {
    let out = Command::new("sha256sum").arg(file).output().context("cannot run sha256sum")?;
    let said = String::from_utf8_lossy(&out.stdout);
    match said.split_whitespace().next() {
        Some(digest) if out.status.success() => Ok(digest.trim_start_matches('\\').to_owned()),
        _ => bail!("sha256sum of {} failed: {}", file.display(), String::from_utf8_lossy(&out.stderr).trim()),
    }
}

fn file_name(names: &[Name]) -> String {
    names.first().map(|name| name.full.replace(['/', ':'], "_")).unwrap_or_default()
}

/// Go's name for this machine, which image configurations use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A tar file in the ustar format: names below 100 bytes, owned by root, made in 1970, so the same content gives the
/// same digest.
struct Tar {
    file: io::BufWriter<File>,
    path: PathBuf,
}

impl Tar {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file: io::BufWriter::new(file), path: path.to_path_buf() })
    }

    /// The directories that lead to `files`, each once, outer ones first.
    fn directories<'a>(&mut self, files: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut all = std::collections::BTreeSet::new();
        for file in files {
            let cuts = file.match_indices('/').map(|(at, _)| &file[..=at]);
            all.extend(cuts);
        }
        for dir in all {
            let mode = if dir == "tmp/" { 0o1777 } else { 0o755 };
            self.put(&header(dir, mode, 0, b'5')?)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, from: &Path, mode: u32) -> Result<()> {
        let mut source = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        let size = source.metadata().with_context(|| format!("cannot read {}", from.display()))?.len();
        self.put(&header(name, mode, size, b'0')?)?;
        let copied = io::copy(&mut source, &mut self.file)
            .with_context(|| format!("cannot copy {} into {}", from.display(), self.path.display()))?;
        if copied != size {
            bail!("{} changed while it was packed", from.display());
        }
        let padding = (512 - size % 512) % 512;
        self.put(&vec![0; usize::try_from(padding)?])
    }

    fn finish(mut self) -> Result<()> {
        self.put(&[0; 1024])?;
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn header(name: &str, mode: u32, size: u64, kind: u8) -> Result<[u8; 512]> {
    let mut block = [0u8; 512];
    if name.len() >= 100 {
        bail!("{name} is too long a name for this tar format");
    }
    block[..name.len()].copy_from_slice(name.as_bytes());
    let mut field = |at: usize, text: String| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(100, format!("{mode:07o}"));
    field(108, format!("{:07o}", 0));
    field(116, format!("{:07o}", 0));
    field(124, format!("{size:011o}"));
    field(136, format!("{:011o}", 0));
    field(148, " ".repeat(8));
    field(156, char::from(kind).to_string());
    field(257, "ustar\u{0}00".to_owned());
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_binary_libraries_and_every_name() {
        let dir = tempfile::tempdir().expect("a temp directory");
        let image = Image::kubernetes("kube-scheduler", PathBuf::from("/bin/sleep"));
        let archive = dir.path().join("images.tar");
        write_archive(&[image], dir.path(), &archive).expect("written");

        let list = |file: &Path| {
            let out = Command::new("tar").arg("-tf").arg(file).output().expect("tar runs");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        let outer = list(&archive);
        assert_eq!(outer.lines().filter(|l| l.ends_with(".json")).count(), 4, "{outer}");
        let layer = list(&dir.path().join("registry.k8s.io_kube-scheduler_v1.34.2-layer"));
        assert!(layer.contains("usr/local/bin/kube-scheduler"), "{layer}");
        assert!(layer.contains("libc.so.6") && layer.contains("ld-linux"), "{layer}");
        let manifest = fs::read_to_string(dir.path().join("manifest.json")).expect("a manifest");
        assert!(manifest.contains("kube-scheduler:v1.34.2") && manifest.contains("kube-scheduler:v1.34.3"));
    }

    #[test]
    fn the_fingerprint_names_what_is_missing() {
        let image = Image::pause(PathBuf::from("/no/such/pause"));
        let said = fingerprint(&[image]).expect_err("refused").to_string();
        assert!(said.contains("/no/such/pause is missing"), "{said}");
    }
}
