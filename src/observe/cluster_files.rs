//! Which cluster the files of this node belong to, by the keys of its CAs. A renewal of their certificates keeps the
//! keys; `kubeadm reset` followed by `kubeadm init` does not.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file_cache::Kept;
use super::kubeconfig::{self, Source};
use super::{credentials, file};
use crate::model::Digest;
use crate::model::etcd_data::ClusterFiles;

/// A bundle of a few hundred authorities is less.
const MAX_BYTES: u64 = 1 << 20;

/// The files that were read.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    ca: Kept<Option<Digest>>,
    kubeconfig: Kept<Option<Trusted>>,
    named: Kept<Option<Digest>>,
}

/// What a kubeconfig trusts.
#[derive(Clone, Debug)]
enum Trusted {
    Keys(Digest),
    File(PathBuf),
}

impl Authorities {
    /// Of the Kubernetes directory and the kubelet's kubeconfig.
    pub(super) fn look(&mut self, kubernetes: &Path, kubeconfig: &Path) -> ClusterFiles {
        let trusted = kept(&mut self.kubeconfig, kubeconfig, |bytes| trusted(&bytes, kubeconfig));
        let kubelet = match trusted {
            Some(Trusted::Keys(keys)) => Some(keys),
            Some(Trusted::File(path)) => keys(&mut self.named, &path),
            None => None,
        };
        ClusterFiles { ca: keys(&mut self.ca, &kubernetes.join("pki/ca.crt")), kubelet }
    }
}

fn kept<T: Clone>(kept: &mut Kept<Option<T>>, path: &Path, of: impl FnOnce(Vec<u8>) -> Option<T>) -> Option<T> {
    let stamp = file::stat(path).ok()?;
    kept.get(vec![stamp], || of(file::read(path, MAX_BYTES).ok()?.0))
}

fn keys(of: &mut Kept<Option<Digest>>, path: &Path) -> Option<Digest> {
    kept(of, path, |pem| credentials::public_keys(&pem))
}

fn trusted(bytes: &[u8], path: &Path) -> Option<Trusted> {
    let document: Value = serde_yaml::from_slice(bytes).ok()?;
    match kubeconfig::authority(&document)? {
        Source::Embedded(pem) => credentials::public_keys(&pem).map(Trusted::Keys),
        // A relative path counts from where the kubeconfig is.
        Source::File(name) => path.parent().map(|dir| Trusted::File(dir.join(name))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::observe::testing::Pki;

    struct Lab {
        root: tempfile::TempDir,
        pki: Pki,
    }

    impl Lab {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("pki")).unwrap();
            let pki = Pki::new(&root.path().join("pki"));
            Self { root, pki }
        }

        fn look(&self) -> ClusterFiles {
            let kubeconfig = self.root.path().join("kubelet.conf");
            Authorities::default().look(self.root.path(), &kubeconfig)
        }

        fn trusts(&self, server: &str, authority: &str) {
            let text = format!(
                "kind: Config\nclusters: [{{name: k, cluster: {{server: '{server}', {authority}}}}}]\n\
                 contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\ncurrent-context: c\nusers: [{{name: u, user: {{token: t}}}}]\n"
            );
            fs::write(self.root.path().join("kubelet.conf"), text).unwrap();
        }

        fn embeds(&self, server: &str, name: &str) {
            self.trusts(server, &format!("certificate-authority-data: {}", STANDARD.encode(self.pki.read(name))));
        }
    }

    #[test]
    fn a_cluster_is_recognized_by_the_keys_of_its_authorities_and_by_nothing_else() {
        let lab = Lab::new();
        lab.pki.authority("other");
        lab.embeds("https://10.0.0.1:6443", "ca.crt");
        let first = lab.look();
        assert!(first.ca.is_some() && first.ca == first.kubelet, "{first:?}");
        let der = Command::new("sh")
            .args(["-c", "openssl x509 -in ca.crt -noout -pubkey | openssl pkey -pubin -outform DER"])
            .current_dir(lab.root.path().join("pki"))
            .output()
            .unwrap();
        assert_eq!(first.ca, Some(Digest::of(&der.stdout)), "what openssl says is its key");

        // Renewed with its key.
        let ca = lab.pki.path("ca.crt");
        let before = fs::read(&ca).unwrap();
        let renew = ["req", "-x509", "-key", "ca.key", "-out", "ca.crt", "-subj", "/CN=renewed", "-days", "99"];
        let pki = lab.root.path().join("pki");
        assert!(Command::new("openssl").args(renew).current_dir(&pki).status().unwrap().success());
        assert_ne!(fs::read(&ca).unwrap(), before);
        lab.embeds("https://10.0.0.2:6443", "ca.crt");
        assert_eq!(lab.look(), first, "renewed, and reached elsewhere");
        lab.trusts("https://h", "certificate-authority: pki/ca.crt");
        assert_eq!(lab.look(), first, "named by a relative path");
        lab.trusts("https://h", &format!("certificate-authority: {}", ca.display()));
        assert_eq!(lab.look(), first, "named by an absolute one");

        // Two in a bundle, in either order.
        let both = |one: &str, two: &str| [lab.pki.read(one), lab.pki.read(two)].concat();
        let (left, right) = (both("ca.crt", "other.crt"), both("other.crt", "ca.crt"));
        fs::write(&ca, left).unwrap();
        let two = lab.look();
        assert_eq!(two.other_than(&first), Some("the cluster's CA (pki/ca.crt)"));
        fs::write(&ca, right).unwrap();
        assert_eq!(lab.look(), two);

        fs::write(&ca, before).unwrap();
        lab.embeds("https://h", "other.crt");
        let other = lab.look();
        assert_eq!((&other.ca, other.other_than(&first)), (&first.ca, Some("the CA in kubelet.conf")));
    }

    #[test]
    fn what_is_missing_or_cannot_be_read_names_no_cluster() {
        let lab = Lab::new();
        let ca = lab.pki.path("ca.crt");
        assert_eq!(lab.look().kubelet, None);
        for authority in
            ["certificate-authority: none.crt", "certificate-authority-data: '!'", "insecure-skip-tls-verify: true"]
        {
            lab.trusts("https://h", authority);
            assert_eq!(lab.look().kubelet, None, "{authority}");
        }
        for text in [&b"nonsense"[..], b"", b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"] {
            fs::write(&ca, text).unwrap();
            assert_eq!(lab.look().ca, None);
            fs::write(lab.root.path().join("kubelet.conf"), text).unwrap();
            assert_eq!(lab.look().kubelet, None);
        }
        fs::remove_file(&ca).unwrap();
        fs::create_dir(&ca).unwrap();
        assert_eq!(lab.look(), ClusterFiles::default());
    }
}
