//! Looks at what one manifest needs of this node before it is deployed. Reads only, needs no agent, and waits for nothing
//! longer than for the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::certificates::Certificates;
use super::node::Listeners;
use super::runtime::{Runtime, Wanted};
use super::{credentials, environment_now, file, sources};
use crate::config::Settings;
use crate::model::environment::User;
use crate::model::manifest::MAX_BYTES;
use crate::model::preflight::{PathKind, Preflight, flag_files, host_volumes, key_pairs};
use crate::model::{FileFault, Manifest};
use crate::sys::proc;

/// Reads a manifest, wherever it is.
///
/// # Errors
/// What is wrong with the file.
pub fn manifest_at(path: &Path) -> Result<Manifest, FileFault> {
    let (bytes, _) = file::read(path, MAX_BYTES).map_err(|fault| fault.of_manifest(path))?;
    Manifest::parse(bytes.into())
}

/// Looks once.
pub async fn preflight(settings: &Settings, manifest: &Manifest) -> Preflight {
    let environment = environment_now(settings, &mut super::Flags::default(), &proc::processes());
    let wanted = Wanted {
        endpoint: match &environment.runtime {
            Some(found) => Ok(&found.value),
            None => Err("no socket of a container runtime was found; set runtime.endpoint".to_owned()),
        },
        nodes: std::slice::from_ref(&environment.node_name.value),
        images: manifest.images(),
        deadline: settings.runtime.timeout,
    };
    let (pods, images) = Runtime::default().look(wanted).await;
    let own = pods.iter().flat_map(|seen| &seen.pods).filter(|run| run.component == manifest.id);
    let own_containers = own.flat_map(|run| run.containers.iter().map(|container| container.id.clone())).collect();
    let found = Certificates::default().look([manifest].into_iter(), &sources(settings, &environment));
    let user = User::Component(manifest.id.clone());
    let mut unreadable = BTreeMap::new();
    for path in flag_files(manifest).into_iter().filter_map(|file| file.host).collect::<BTreeSet<_>>() {
        if let Err(fault) = file::read(&path, MAX_BYTES) {
            unreadable.insert(path, fault.to_string());
        }
    }
    Preflight {
        runtime: pods.as_ref().map(|_| ()).map_err(ToString::to_string),
        images,
        own_containers,
        listeners: Listeners::default().look(&manifest.ports()),
        volumes: host_volumes(manifest).iter().map(|volume| kind_of(&volume.path)).collect(),
        unreadable,
        certificates: found.certificates.into_iter().filter(|one| one.users.contains(&user)).collect(),
        mismatched: mismatched(manifest),
    }
}

/// What is at a path, links followed as the runtime follows them.
fn kind_of(path: &Path) -> PathKind {
    let kind = match std::fs::metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PathKind::Missing,
                _ => PathKind::Unknown(error.to_string()),
            };
        }
    };
    match kind {
        kind if kind.is_dir() => PathKind::Directory,
        kind if kind.is_socket() => PathKind::Socket,
        kind if kind.is_char_device() => PathKind::CharDevice,
        kind if kind.is_block_device() => PathKind::BlockDevice,
        kind if kind.is_fifo() => PathKind::Fifo,
        _ => PathKind::File,
    }
}

/// The certificates whose keys do not fit, where both can be read.
fn mismatched(manifest: &Manifest) -> BTreeMap<std::path::PathBuf, String> {
    let pairs = key_pairs(manifest).into_iter().filter_map(|(certificate, key)| {
        let (pem, _) = file::read(&certificate, MAX_BYTES).ok()?;
        let (secret, _) = file::read(&key, MAX_BYTES).ok()?;
        let fits = credentials::pair(&pem, &secret);
        fits.err().map(|why| (certificate, format!("with {}: {why}", key.display())))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_manifest_needs_is_looked_at_where_no_runtime_is() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.crt"), "no certificate").unwrap();
        std::fs::write(root.path().join("a.key"), "no key").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: kube-apiserver, namespace: kube-system}}\nspec:\n  hostNetwork: \
             true\n  containers:\n  - name: a\n    image: i\n    command: [kube-apiserver, --secure-port={port}, \
             --tls-cert-file=/pki/a.crt, --tls-private-key-file=/pki/a.key, --client-ca-file=/pki/none.crt]\n    \
             volumeMounts: [{{name: v, mountPath: /pki}}]\n  volumes:\n  - {{name: v, hostPath: {{path: '{0}'}}}}\n  - \
             {{name: f, hostPath: {{path: '{0}/a.crt'}}}}\n  - {{name: none, hostPath: {{path: '{0}/none'}}}}\n",
            root.path().display()
        );
        let manifest = Manifest::parse(text.as_bytes().into()).unwrap();
        let mut settings = Settings::default();
        settings.runtime.endpoint = Some(format!("unix://{}", root.path().join("no.sock").display()));
        let found = preflight(&settings, &manifest).await;
        assert!(found.runtime.is_err() && found.images.is_empty());
        assert_eq!(found.listeners[&port].pid, i32::try_from(std::process::id()).ok());
        assert_eq!(found.volumes, [PathKind::Directory, PathKind::File, PathKind::Missing]);
        let unreadable: Vec<_> = found.unreadable.keys().cloned().collect();
        assert_eq!(unreadable, [root.path().join("none.crt")]);
        let mismatched: Vec<_> = found.mismatched.keys().cloned().collect();
        assert_eq!(mismatched, [root.path().join("a.crt")]);
    }
}
