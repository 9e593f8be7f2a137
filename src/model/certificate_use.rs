//! How certificates on disk are used: by a process that has an older one in memory, and by a kubelet whose rotation
//! cannot replace its own.

use std::path::PathBuf;

use jiff::Timestamp;

use super::ComponentId;
use super::environment::{Certificate, User, second};

/// What somebody has to do about certificates that are valid: what is so, and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFinding {
    pub detail: String,
    pub next: String,
}

/// A process that started before its certificate was renewed, and does not read it again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderInUse {
    pub component: ComponentId,
    /// The renewed file.
    pub path: PathBuf,
    /// When it was renewed.
    pub renewed: Timestamp,
    /// When the process started.
    pub started: Timestamp,
    /// When the certificate that the process has ends, in seconds since the epoch; known where the renewal was seen.
    pub ends: Option<i64>,
}

impl OlderInUse {
    /// What is so, and the next step.
    pub fn finding(&self) -> CertificateFinding {
        let ends = self.ends.map_or_else(String::new, |end| format!(", which ends at {}", second(end)));
        let name = self.component.name();
        CertificateFinding {
            detail: format!(
                "{} was renewed at {}; {} (started {}) still uses the older certificate{ends}",
                self.path.display(),
                second(self.renewed.as_second()),
                self.component,
                second(self.started.as_second()),
            ),
            next: format!("restart it: `crictl stop $(crictl ps -q --name {name})`, and the kubelet starts it again"),
        }
    }
}

/// Where the kubelet has a client certificate that its rotation does not replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeletCertificate {
    /// kubelet-client-current.pem is a file; the kubelet only replaces a link ("expected … to be a symlink but it is a
    /// file").
    NoLink {
        path: PathBuf,
        /// The newest certificate that the kubelet has rotated to, next to it.
        rotated: Option<PathBuf>,
    },
    /// Its kubeconfig embeds the certificate in place of naming the link.
    Embedded {
        kubeconfig: PathBuf,
        /// When that one ends, in seconds since the epoch.
        not_after: i64,
        /// The link.
        path: PathBuf,
        /// Whether there is one.
        rotates: bool,
    },
}

impl KubeletCertificate {
    /// What is so, and the next step.
    pub fn finding(&self) -> CertificateFinding {
        match self {
            Self::NoLink { path, rotated } => {
                let link = path.display();
                let target = rotated.clone().unwrap_or_else(|| path.with_file_name("kubelet-client-kept.pem"));
                let target = target.display();
                let keep = if rotated.is_some() { String::new() } else { format!("mv {link} {target} && ") };
                CertificateFinding {
                    detail: format!("{link} is a file and no link: the kubelet cannot put a renewed certificate there"),
                    next: format!("`{keep}ln -sfn {target} {link}`, then `systemctl restart kubelet`"),
                }
            }
            Self::Embedded { kubeconfig, not_after, path, rotates } => {
                let (kubeconfig, path) = (kubeconfig.display(), path.display());
                let next = if *rotates {
                    format!(
                        "in {kubeconfig}, replace client-certificate-data and client-key-data by `client-certificate: \
                         {path}` and `client-key: {path}`, then `systemctl restart kubelet`"
                    )
                } else {
                    format!(
                        "see that `rotateCertificates: true` is in the kubelet's configuration, so that {path} appears"
                    )
                };
                CertificateFinding {
                    detail: format!(
                        "{kubeconfig} embeds a certificate that ends at {} in place of naming {path}: the kubelet \
                         rotates, and this one stays",
                        second(*not_after)
                    ),
                    next,
                }
            }
        }
    }
}

/// Whether it is the one with which the kubelet comes to the API server.
pub fn is_kubelet_client(certificate: &Certificate) -> bool {
    let path = &certificate.path;
    let is_its_file = path.ends_with("pki/kubelet-client-current.pem") || path.ends_with("kubelet.conf");
    is_its_file && !certificate.authority && certificate.users.contains(&User::Kubelet)
}

/// How a kubelet gets a client certificate again after its last one has ended: no rotation works without a valid one.
pub fn kubelet_steps(node: &str) -> String {
    let node = if node.is_empty() { "NODE" } else { node };
    format!(
        "1. `kubeadm kubeconfig user --org system:nodes --client-name system:node:{node} > /root/kubelet.conf` where the \
         CA's key is; 2. move /var/lib/kubelet/pki/kubelet-client-* away and put that file in the place of \
         /etc/kubernetes/kubelet.conf; 3. `systemctl restart kubelet`, and once kubelet-client-current.pem is back, name \
         it in kubelet.conf"
    )
}
