//! What a manifest needs of a node before it is deployed there, and what was found of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::environment::Certificate;
use super::observation::{ImagePresence, Listener};
use super::{Manifest, Role};

/// One look at the node for one manifest.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// Why the container runtime could not be asked.
    pub runtime: Result<(), String>,
    /// The images of the manifest that it was asked for and answered.
    pub images: BTreeMap<String, ImagePresence>,
    /// The containers that run of this component now: what is deployed replaces them.
    pub own_containers: BTreeSet<String>,
    /// Who listens on the ports that it needs.
    pub listeners: BTreeMap<u16, Listener>,
    /// What is at the path of each of its hostPath volumes, in their order.
    pub volumes: Vec<PathKind>,
    /// Of the files that its flags name, those that cannot be read, by their path on the host.
    pub unreadable: BTreeMap<PathBuf, String>,
    /// The certificates that it uses.
    pub certificates: Vec<Certificate>,
    /// Its certificates that do not go with their keys, and why.
    pub mismatched: BTreeMap<PathBuf, String>,
}

/// What is at a path of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathKind {
    Missing,
    File,
    Directory,
    Socket,
    CharDevice,
    BlockDevice,
    Fifo,
    /// It is unknown: why.
    Unknown(String),
}

/// A hostPath volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVolume {
    /// Its name in the pod.
    pub name: String,
    /// Where it is on the host.
    pub path: PathBuf,
    /// Its type; empty without one.
    pub wants: String,
}

/// A file that a flag names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlagFile {
    /// The flag, with its dashes.
    pub flag: String,
    /// In the container.
    pub inside: PathBuf,
    /// On the host; nothing where no mount brings it in.
    pub host: Option<PathBuf>,
}

/// The hostPath volumes of a manifest, in its order.
pub fn host_volumes(manifest: &Manifest) -> Vec<HostVolume> {
    let volumes = manifest.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let host = volumes.filter_map(|volume| {
        let host = volume.host_path.as_ref()?;
        let wants = host.type_.clone().unwrap_or_default();
        Some(HostVolume { name: volume.name.clone(), path: host.path.clone().into(), wants })
    });
    host.collect()
}

/// The files that have to exist before the process starts, by the flags that name them: certificates, keys,
/// configurations. What a process makes by itself (logs, data, its own directory of certificates) is none of them.
pub fn flag_files(manifest: &Manifest) -> BTreeSet<FlagFile> {
    const ENDS: [&str; 15] = [
        "cert-file",
        "certfile",
        "key-file",
        "keyfile",
        "ca-file",
        "cafile",
        "client-certificate",
        "client-key",
        "certificate-authority",
        "auth-file",
        "kubeconfig",
        "config",
        "config-file",
        "policy-file",
        "tls-sni-cert-key",
    ];
    let flags = manifest.flags();
    let named = flags.iter().filter(|(name, _)| ENDS.iter().any(|end| name.ends_with(end)));
    let paths = named.flat_map(|(name, values)| {
        values.iter().flat_map(|value| value.split(',')).map(move |path| (name, path.split(':').next().unwrap_or(path)))
    });
    let files = paths.filter(|(_, path)| path.starts_with('/')).map(|(name, path)| FlagFile {
        flag: format!("--{name}"),
        inside: path.into(),
        host: manifest.host_path(path.as_ref()),
    });
    files.collect()
}

/// The certificates with the keys that belong to them, on the host.
pub fn key_pairs(manifest: &Manifest) -> Vec<(PathBuf, PathBuf)> {
    const PAIRS: [(&str, &str); 9] = [
        ("tls-cert-file", "tls-private-key-file"),
        ("etcd-certfile", "etcd-keyfile"),
        ("kubelet-client-certificate", "kubelet-client-key"),
        ("proxy-client-cert-file", "proxy-client-key-file"),
        ("cluster-signing-cert-file", "cluster-signing-key-file"),
        ("cert-file", "key-file"),
        ("peer-cert-file", "peer-key-file"),
        ("client-cert-file", "client-key-file"),
        ("peer-client-cert-file", "peer-client-key-file"),
    ];
    let host = |path: &str| manifest.host_path(path.as_ref());
    let flagged = PAIRS
        .iter()
        .filter_map(|(certificate, key)| Some((host(&manifest.flag(certificate)?)?, host(&manifest.flag(key)?)?)));
    let flags = manifest.flags();
    let by_name = flags.get("tls-sni-cert-key").into_iter().flatten().filter_map(|value| {
        let (certificate, key) = value.split(':').next()?.split_once(',')?;
        Some((host(certificate)?, host(key)?))
    });
    flagged.chain(by_name).collect()
}

impl Manifest {
    /// What a kubelet is expected to refuse of it, without the rules of kubelets that cannot be here: none is newer than
    /// its API server, or than the parts that are of the API server's version.
    pub fn refusals(&self) -> impl Iterator<Item = &super::Prediction> {
        let of_kubernetes = matches!(self.role, Role::ApiServer | Role::ControllerManager | Role::Scheduler);
        let newest = self.minor_version().filter(|_| of_kubernetes).map(|(_, minor)| minor);
        self.predicted.iter().filter(move |prediction| {
            let needs = match prediction.kubelets {
                super::predictions::Kubelets::From(first) => first,
                super::predictions::Kubelets::All | super::predictions::Kubelets::Before(_) => return true,
            };
            newest.is_none_or(|newest| newest >= needs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(flags: &[&str], minor: u32) -> Manifest {
        let flags: String = flags.iter().map(|flag| format!("    - {flag}\n")).collect();
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: kube-apiserver, namespace: kube-system}}\nspec:\n  \
             serviceAccountName: a\n  containers:\n  - name: a\n    image: kube-apiserver:v1.{minor}.0\n    \
             volumeMounts: [{{name: v, mountPath: /pki}}]\n    command:\n    - kube-apiserver\n{flags}  volumes:\n  - \
             {{name: v, hostPath: {{path: /host}}}}\n  - {{name: s, hostPath: {{path: /s, type: Socket}}}}\n  - name: e\n"
        );
        Manifest::parse(text.as_bytes().into()).unwrap()
    }

    #[test]
    fn the_files_that_have_to_exist_are_found_with_their_flags() {
        let manifest = manifest(
            &[
                "--tls-cert-file=/pki/a.crt",
                "--tls-private-key-file=/pki/a.key",
                "--tls-sni-cert-key=/pki/s.crt,/pki/s.key:a.example",
                "--audit-policy-file=/etc/audit.yaml",
                "--audit-log-path=/var/log/audit.log",
                "--encryption-provider-config=/pki/enc.yaml",
                "--cert-dir=/pki",
                "--profiling=false",
            ],
            36,
        );
        let files: Vec<(String, Option<PathBuf>)> =
            flag_files(&manifest).into_iter().map(|file| (file.flag, file.host)).collect();
        let on_host = |flag: &str, name: &str| (flag.to_owned(), Some(format!("/host/{name}").into()));
        assert_eq!(
            files,
            [
                ("--audit-policy-file".to_owned(), None),
                on_host("--encryption-provider-config", "enc.yaml"),
                on_host("--tls-cert-file", "a.crt"),
                on_host("--tls-private-key-file", "a.key"),
                on_host("--tls-sni-cert-key", "s.crt"),
                on_host("--tls-sni-cert-key", "s.key"),
            ]
        );
        let pairs: [(PathBuf, PathBuf); 2] =
            [("/host/a.crt".into(), "/host/a.key".into()), ("/host/s.crt".into(), "/host/s.key".into())];
        assert_eq!(key_pairs(&manifest), pairs);
        let volumes: Vec<_> = host_volumes(&manifest).into_iter().map(|volume| (volume.name, volume.wants)).collect();
        assert_eq!(volumes, [("v".to_owned(), String::new()), ("s".to_owned(), "Socket".to_owned())]);
    }

    #[test]
    fn a_rule_of_kubelets_newer_than_the_api_server_does_not_count() {
        let count = |minor: u32| manifest(&[], minor).refusals().count();
        assert_eq!([count(33), count(34), count(36)], [0, 1, 1]);
    }
}
