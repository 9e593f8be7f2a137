//! What makes an empty root a master: certificates, manifests, the kubelet's configuration, containerd's, and a store
//! with every image in it. For our own nodes, and for a machine that something else boots (`tests/systemd`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache::{self, Cache};
use super::place::{Links, copy, write};
use super::{kubeadm, store};
use crate::images::{self, Image};
use crate::manifests::{Cluster, Component, EtcdVersion};
use crate::pki;

/// Certificates older than this are made anew; they are valid for a year.
const CERTIFICATES_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Furnishes `root` for the node `name` with the manifests of `components`, and tells what it is then. What does not
/// exist of /etc/kubernetes/manifests, /etc/containerd, /var/lib/containerd and /var/lib/etcd is made.
///
/// # Errors
/// When an image, a certificate or a file cannot be made, or something is not installed.
pub fn furnish(cache: &Cache, root: &Path, name: &str, etcd: EtcdVersion, components: &[Component]) -> Result<Cluster> {
    let cluster = machine(cache, root, name, etcd, components)?;
    make_dirs(root, &["etc/kubernetes/manifests", "var/lib/etcd"])?;
    // kubeadm makes it so, and etcd warns about anything wider.
    super::place::mode(&root.join("var/lib/etcd"), 0o700)?;
    let certificates = cache.entry(&format!("pki-{name}"), CERTIFICATES_FOR, |to| pki::write(to, name))?;
    let files = fs::read_dir(certificates.path()).context("cannot list the certificates")?;
    copy(files.flatten().map(|file| file.path()), &root.join("etc/kubernetes"), Links::Copied)?;
    kubeadm::write_kubelet(root)?;
    for component in components {
        let path = root.join("etc/kubernetes/manifests").join(component.file());
        write(&path, &cluster.manifest(*component))?;
    }
    Ok(cluster)
}

/// Furnishes `root` with a runtime and the images that those components need, and nothing of a master: what a person installs
/// on a machine that is to become one.
///
/// # Errors
/// When an image or a file cannot be made, or something is not installed.
pub fn machine(cache: &Cache, root: &Path, name: &str, etcd: EtcdVersion, components: &[Component]) -> Result<Cluster> {
    make_dirs(root, &["etc/containerd", "var/lib/containerd"])?;
    store::furnish(cache, &catalog(cache, &cache::binaries_dir()?, components)?, root)?;
    Ok(Cluster {
        node: name.to_owned(),
        etcd,
        etcd_release: etcd_release(cache, etcd)?,
        kubernetes: images::KUBERNETES.to_owned(),
    })
}

fn make_dirs(root: &Path, dirs: &[&str]) -> Result<()> {
    dirs.iter()
        .map(|dir| root.join(dir))
        .try_for_each(|dir| fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display())))
}

/// The release of an unpacked etcd series, for example `3.5.16`.
fn etcd_release(cache: &Cache, series: EtcdVersion) -> Result<String> {
    let path = cache.path("etcd").join(series.series()).join("version");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} is missing: run tests/install", path.display()))?;
    Ok(text.trim().to_owned())
}

/// All images: both etcd series, and each Kubernetes component in three versions. Stand-ins that no component of
/// the node needs may be unbuilt.
fn catalog(cache: &Cache, binaries: &Path, needed: &[Component]) -> Result<Vec<Image>> {
    let mut all = vec![Image::pause(binaries.join("pause"))];
    for series in EtcdVersion::ALL {
        let dir = cache.path("etcd").join(series.series());
        all.push(Image::etcd(&etcd_release(cache, series)?, &dir));
    }
    for component in [Component::ApiServer, Component::ControllerManager, Component::Scheduler] {
        let binary = binaries.join(component.name());
        if binary.exists() || needed.contains(&component) {
            all.push(Image::kubernetes(component.name(), binary));
        }
    }
    Ok(all)
}
