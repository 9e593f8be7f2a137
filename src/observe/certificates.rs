//! Every certificate that a component on this node uses, and every API server address in its kubeconfigs.
//!
//! ```text
//!   flags of the manifests ──▶ certificates ─────────────────────────┐
//!            │                                                       ├──▶ once each, with all its users
//!            └──▶ kubeconfigs ──▶ embedded, or named by path ────────┤
//!   the kubelet: its kubeconfig, pki next to its configuration ──────┘
//! ```
//!
//! Parsed files are cached by their stat data: on an unchanged node a pass costs one stat per file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use super::credentials::{self, Described};
use super::file::{self, Fault, Stamp};
use super::kubeconfig;
use crate::model::Manifest;
use crate::model::environment::{Certificate, User, certificate_files, kubeconfig_files};

/// A bundle of a few hundred authorities is less.
const MAX_BYTES: u64 = 1 << 20;

/// The kubelet's client certificate, and the one it serves with where it has that signed: both in its pki directory.
const KUBELET_CLIENT: &str = "kubelet-client-current.pem";
const KUBELET_SERVER: &str = "kubelet-server-current.pem";
/// The one it signs itself where it does not. It stays behind, unused, once another is signed.
const KUBELET_SELF_SIGNED: &str = "kubelet.crt";
/// kubeadm's kubeconfigs for people, below the Kubernetes directory.
const ADMIN: [&str; 2] = ["admin.conf", "super-admin.conf"];

/// Where what no manifest names is.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// The Kubernetes directory.
    pub(super) kubernetes: PathBuf,
    /// The kubelet's kubeconfig.
    pub(super) kubelet_kubeconfig: PathBuf,
    /// The kubelet's pki directory.
    pub(super) kubelet_pki: PathBuf,
}

/// What one look found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The certificates, in the order in which they were come by.
    pub(super) certificates: Vec<Certificate>,
    /// What is named and cannot be read, and why.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    /// The servers kubeconfigs name, and who goes there by which of them.
    pub(super) servers: BTreeMap<String, BTreeSet<(User, PathBuf)>>,
    /// The addresses that each certificate is for.
    pub(super) sans: BTreeMap<PathBuf, BTreeSet<IpAddr>>,
}

/// Files already read.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    known: HashMap<(PathBuf, Sort), Known>,
    look: u64,
}

/// What a file is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    Pem,
    Kubeconfig,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    content: Result<Content, String>,
    look: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    certificates: Vec<Described>,
    server: Option<String>,
    /// Certificates it names by path, as they stand there.
    names: Vec<String>,
}

impl Certificates {
    /// Looks at everything these manifests and the kubelet go by.
    pub(super) fn look<'a>(
        &mut self,
        manifests: impl Iterator<Item = &'a Manifest> + Clone,
        places: &Sources,
    ) -> Found {
        let last = self.look;
        self.known.retain(|_, known| known.look == last);
        self.look += 1;
        let mut found = Found::default();
        for manifest in manifests.clone() {
            let user = User::Component(manifest.id.clone());
            for path in certificate_files(manifest) {
                self.pem(&path, &path, &user, &mut found);
            }
        }
        let kubelet = |name: &str| places.kubelet_pki.join(name);
        let serves = if is_missing(&kubelet(KUBELET_SERVER)) { KUBELET_SELF_SIGNED } else { KUBELET_SERVER };
        for path in [kubelet(KUBELET_CLIENT), kubelet(serves)].iter().filter(|path| !is_missing(path)) {
            self.pem(path, path, &User::Kubelet, &mut found);
        }
        for manifest in manifests {
            let user = User::Component(manifest.id.clone());
            for path in kubeconfig_files(manifest) {
                self.kubeconfig(&path, &user, |inside| manifest.host_path(inside), &mut found);
            }
        }
        let people = ADMIN.map(|name| (places.kubernetes.join(name), User::Administrators));
        for (path, user) in [(places.kubelet_kubeconfig.clone(), User::Kubelet)].into_iter().chain(people) {
            if !is_missing(&path) {
                self.kubeconfig(&path, &user, |outside| Some(outside.to_owned()), &mut found);
            }
        }
        found
    }

    /// A file of certificates. `named` is the file of a flag that leads to it.
    fn pem(&mut self, path: &Path, named: &Path, user: &User, found: &mut Found) {
        match self.content(path, Sort::Pem) {
            Ok(content) => add(found, path, named, user, content.certificates),
            Err(why) => drop(found.unreadable.insert(path.to_owned(), why)),
        }
    }

    /// A kubeconfig; `host` tells where an absolute path in it is on the host.
    fn kubeconfig(&mut self, path: &Path, user: &User, host: impl Fn(&Path) -> Option<PathBuf>, found: &mut Found) {
        let content = match self.content(path, Sort::Kubeconfig) {
            Ok(content) => content,
            Err(why) => return drop(found.unreadable.insert(path.to_owned(), why)),
        };
        if let Some(server) = content.server {
            found.servers.entry(server).or_default().insert((user.clone(), path.to_owned()));
        }
        add(found, path, path, user, content.certificates);
        for name in content.names {
            let name = Path::new(&name);
            let named = if name.is_absolute() { host(name) } else { path.parent().map(|dir| dir.join(name)) };
            if let Some(named) = named {
                self.pem(&named, path, user, found);
            }
        }
    }

    fn content(&mut self, path: &Path, sort: Sort) -> Result<Content, String> {
        let look = self.look;
        let key = (path.to_owned(), sort);
        let stamp = file::stat(path).map_err(|fault| fault.to_string())?;
        if let Some(known) = self.known.get_mut(&key).filter(|known| known.stamp == stamp) {
            known.look = look;
            return known.content.clone();
        }
        let (bytes, stamp) = file::read(path, MAX_BYTES).map_err(|fault: Fault| fault.to_string())?;
        let content = match sort {
            Sort::Pem => of_pem(&bytes),
            Sort::Kubeconfig => of_kubeconfig(&bytes),
        };
        if stamp.is_settled(Timestamp::now()) {
            self.known.insert(key, Known { stamp, content: content.clone(), look });
        }
        content
    }
}

/// Whether nothing is there; what may not be looked at may well be.
fn is_missing(path: &Path) -> bool {
    matches!(file::stat(path), Err(Fault::Missing))
}

/// The same certificate in several files is one, known by the first of them.
fn add(found: &mut Found, path: &Path, named: &Path, user: &User, all: Vec<Described>) {
    for one in all {
        let at = match found.certificates.iter().position(|known| known.fingerprint == one.fingerprint) {
            Some(at) => at,
            None => {
                found.sans.insert(path.to_owned(), one.addresses);
                found.certificates.push(Certificate {
                    path: path.to_owned(),
                    named: BTreeSet::new(),
                    users: BTreeSet::new(),
                    subject: one.subject,
                    issuer: one.issuer,
                    not_before: one.dates.not_before,
                    not_after: one.dates.not_after,
                    authority: one.authority,
                    fingerprint: one.fingerprint,
                });
                found.certificates.len() - 1
            }
        };
        if let Some(certificate) = found.certificates.get_mut(at) {
            certificate.users.insert(user.clone());
            certificate.named.insert(named.to_owned());
        }
    }
}

/// Of a chain its first certificate, which is whose it is; of a bundle of authorities the one that lasts longest: while a
/// new authority takes over, the old one stays in it until it ends.
fn the_one_that_counts(pem: &[u8]) -> Result<Described, String> {
    let all: Vec<Described> = credentials::certificates(pem)?.iter().filter_map(Described::of).collect();
    let first = all.first().ok_or("contains no readable certificate")?;
    if !first.authority {
        return Ok(first.clone());
    }
    let longest = all.iter().filter(|one| one.authority).max_by_key(|one| one.dates.not_after);
    Ok(longest.unwrap_or(first).clone())
}

fn of_pem(bytes: &[u8]) -> Result<Content, String> {
    Ok(Content { certificates: vec![the_one_that_counts(bytes)?], ..Content::default() })
}

fn of_kubeconfig(bytes: &[u8]) -> Result<Content, String> {
    let document: Value = serde_yaml::from_slice(bytes).map_err(|error| format!("does not parse: {error}"))?;
    let parts = kubeconfig::parts(&document).ok_or("is no kubeconfig that names a cluster")?;
    let embedded = parts.embedded.iter().map(|pem| the_one_that_counts(pem)).collect::<Result<_, _>>()?;
    Ok(Content { certificates: embedded, server: parts.server, names: parts.names })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::model::ComponentId;
    use crate::model::environment::Validity;
    use crate::observe::testing::Pki;

    struct Lab {
        root: tempfile::TempDir,
        pki: Pki,
        certificates: Certificates,
    }

    impl Lab {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let pki = Pki::new(root.path());
            Self { root, pki, certificates: Certificates::default() }
        }

        fn kubeconfig(&self, name: &str, user: &str) {
            let authority = STANDARD.encode(self.pki.read("ca.crt"));
            let text = format!(
                "kind: Config\nclusters: [{{name: k, cluster: {{server: 'https://vip:6443', certificate-authority-data: {authority}}}}}]\n\
                 contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\ncurrent-context: c\nusers: [{{name: u, user: {{{user}}}}}]\n"
            );
            fs::write(self.root.path().join(name), text).unwrap();
        }

        fn manifest(&self, name: &str, flags: &str) -> Manifest {
            let text = format!(
                "--- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: kube-system}}, spec: {{\
                 volumes: [{{name: v, hostPath: {{path: {}}}}}], containers: [{{name: a, image: i, \
                 volumeMounts: [{{name: v, mountPath: /pki}}], command: [{name}, {flags}]}}]}}}}",
                self.root.path().display()
            );
            Manifest::parse(text.into_bytes().into()).unwrap()
        }

        fn look(&mut self, manifests: &[Manifest]) -> Found {
            let at = |name: &str| self.root.path().join(name);
            let places = Sources {
                kubernetes: self.root.path().to_owned(),
                kubelet_kubeconfig: at("kubelet.conf"),
                kubelet_pki: at("kubelet"),
            };
            self.certificates.look(manifests.iter(), &places)
        }
    }

    fn names(found: &Found) -> Vec<(String, Vec<String>)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        found.certificates.iter().map(|c| (name(&c.path), c.users.iter().map(ToString::to_string).collect())).collect()
    }

    #[test]
    fn every_certificate_is_found_once_with_everybody_who_uses_it() {
        let mut lab = Lab::new();
        for leaf in ["apiserver", "scheduler", "kubelet-client-current", "kubelet-self"] {
            lab.pki.sign(leaf, "ca", 5);
        }
        let embedded = |lab: &Lab, name: &str| {
            let data = |end: &str| STANDARD.encode(lab.pki.read(&format!("{name}.{end}")));
            format!("client-certificate-data: {}, client-key-data: {}", data("crt"), data("key"))
        };
        lab.kubeconfig("scheduler.conf", &embedded(&lab, "scheduler"));
        fs::create_dir(lab.root.path().join("kubelet")).unwrap();
        fs::rename(
            lab.pki.path("kubelet-client-current.crt"),
            lab.root.path().join("kubelet/kubelet-client-current.pem"),
        )
        .unwrap();
        fs::rename(lab.pki.path("kubelet-self.crt"), lab.root.path().join("kubelet/kubelet.crt")).unwrap();
        lab.kubeconfig("kubelet.conf", "client-certificate: kubelet/kubelet-client-current.pem, client-key: x");
        let manifests = [
            lab.manifest(
                "kube-apiserver",
                "--tls-cert-file=/pki/apiserver.crt, --client-ca-file=/pki/ca.crt, --etcd-cafile=/pki/none.crt",
            ),
            lab.manifest(
                "kube-scheduler",
                "--kubeconfig=/pki/scheduler.conf, --authentication-kubeconfig=/pki/scheduler.conf",
            ),
        ];
        let found = lab.look(&manifests);
        let of = |users: &[&str]| users.iter().map(|user| (*user).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            names(&found),
            [
                ("apiserver.crt".to_owned(), of(&["kube-apiserver"])),
                ("ca.crt".to_owned(), of(&["kube-apiserver", "kube-scheduler", "kubelet"])),
                ("kubelet-client-current.pem".to_owned(), of(&["kubelet"])),
                ("kubelet.crt".to_owned(), of(&["kubelet"])),
                ("scheduler.conf".to_owned(), of(&["kube-scheduler"])),
            ]
        );
        assert_eq!(found.unreadable.keys().map(|path| path.file_name().unwrap()).collect::<Vec<_>>(), ["none.crt"]);
        let kubelet = &found.certificates[2];
        assert!(kubelet.named.iter().any(|path| path.ends_with("kubelet.conf")), "{kubelet:?}");
        assert!(found.certificates[1].authority && !kubelet.authority);
        assert_eq!((kubelet.subject.as_str(), kubelet.issuer.as_str()), ("kubelet-client-current", "ca"));
        let users: Vec<User> = found.servers["https://vip:6443"].iter().map(|(user, _)| user.clone()).collect();
        assert_eq!(users, [User::Component(ComponentId::system("kube-scheduler")), User::Kubelet]);
    }

    #[test]
    fn what_did_not_change_is_not_read_again_and_what_was_renewed_is() {
        let mut lab = Lab::new();
        lab.pki.sign("one", "ca", -1);
        let manifests = [lab.manifest("kube-apiserver", "--tls-cert-file=/pki/one.crt")];
        std::thread::sleep(std::time::Duration::from_millis(150));
        let first = lab.look(&manifests);
        assert_eq!(first.certificates[0].validity(Timestamp::now()), Validity::Ended);
        assert_eq!(lab.certificates.known.len(), 1);
        // What is known is taken for what exists, as long as the stamp stays.
        let only = lab.certificates.known.values_mut().next().unwrap();
        only.content = Err("from memory".to_owned());
        assert_eq!(lab.look(&manifests).unreadable.values().next().map(String::as_str), Some("from memory"));
        lab.pki.sign("one", "ca", 5);
        assert_eq!(lab.look(&manifests).certificates[0].validity(Timestamp::now()), Validity::Valid);
    }

    #[test]
    fn of_a_bundle_in_which_a_new_authority_takes_over_the_old_ones_end_is_no_news() {
        let lab = Lab::new();
        lab.pki.sign("leaf", "ca", 1);
        lab.pki.authority("next");
        let both = [lab.pki.read("ca.crt"), lab.pki.read("next.crt")].concat();
        assert_eq!(the_one_that_counts(&both).unwrap().subject, "next");
        let chain = [lab.pki.read("leaf.crt"), lab.pki.read("ca.crt")].concat();
        assert_eq!(the_one_that_counts(&chain).unwrap().subject, "leaf");
        assert!(the_one_that_counts(b"nonsense").is_err());
    }
}
