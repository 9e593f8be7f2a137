//! The control plane's manifests as kubeadm writes them, rendered for one node.
//!
//! `tests/lab/manifests` holds what a real kubeadm wrote, with three words left open: `@NODE@`, `@ADDRESS@`,
//! `@IMAGE@`. etcd has one file per series, because kubeadm's flags and probes for it changed with the series.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::images;

/// A component of the control plane that runs as a static pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The store under everything.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
}

impl Component {
    /// All of them, dependencies first.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// The name that pod, container, image and command share.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The file kubeadm writes in /etc/kubernetes/manifests.
    pub fn file(self) -> String {
        format!("{}.yaml", self.name())
    }

    /// Where the component answers on 127.0.0.1, and whether by TLS: what its own probes in the manifest ask.
    pub fn health(self) -> Health {
        match self {
            // /health goes through the quorum; /readyz is missing from etcd 3.4.
            Self::Etcd => Health { port: 2381, path: "/health", transport: Transport::Plain },
            Self::ApiServer => Health { port: 6443, path: "/readyz", transport: Transport::Tls },
            Self::ControllerManager => Health { port: 10257, path: "/healthz", transport: Transport::Tls },
            Self::Scheduler => Health { port: 10259, path: "/readyz", transport: Transport::Tls },
        }
    }
}

/// A health endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Path that answers 200 when the component serves.
    pub path: &'static str,
    /// With TLS or without.
    pub transport: Transport,
}

/// How a health endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// HTTPS, with a client certificate of the cluster's authority.
    Tls,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Component {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|c| c.name() == name) {
            Some(component) => Ok(component),
            None => bail!("{name} is no component; there are {}", Self::ALL.map(Self::name).join(", ")),
        }
    }
}

/// A series of etcd that `tests/install` unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EtcdVersion {
    /// Debian 12's.
    V34,
    /// Debian 13's.
    V35,
}

impl EtcdVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V34, Self::V35];

    /// As in the cache's directory names: `3.5`.
    pub fn series(self) -> &'static str {
        match self {
            Self::V34 => "3.4",
            Self::V35 => "3.5",
        }
    }
}

impl FromStr for EtcdVersion {
    type Err = anyhow::Error;

    fn from_str(series: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|v| v.series() == series) {
            Some(version) => Ok(version),
            None => bail!("there is no etcd {series} here; there are 3.4 and 3.5"),
        }
    }
}

/// What the open words of a manifest become.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The node's name, for example `master-1`.
    pub node: String,
    /// The series of etcd.
    pub etcd: EtcdVersion,
    /// Its full version, for example `3.5.16`.
    pub etcd_release: String,
    /// The version of the Kubernetes components, for example `v1.34.2`.
    pub kubernetes: String,
}

impl Cluster {
    /// The image of a component.
    pub fn image(&self, component: Component) -> String {
        match component {
            Component::Etcd => images::etcd(&self.etcd_release),
            other => images::kubernetes(other.name(), &self.kubernetes),
        }
    }

    /// The manifest of a component, ready to be written.
    pub fn manifest(&self, component: Component) -> String {
        let template = match (component, self.etcd) {
            (Component::Etcd, EtcdVersion::V34) => include_str!("../manifests/etcd-3.4.yaml"),
            (Component::Etcd, EtcdVersion::V35) => include_str!("../manifests/etcd-3.5.yaml"),
            (Component::ApiServer, _) => include_str!("../manifests/kube-apiserver.yaml"),
            (Component::ControllerManager, _) => include_str!("../manifests/kube-controller-manager.yaml"),
            (Component::Scheduler, _) => include_str!("../manifests/kube-scheduler.yaml"),
        };
        template
            .replace("@NODE@", &self.node)
            .replace("@ADDRESS@", "127.0.0.1")
            .replace("@IMAGE@", &self.image(component))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_a_pod_with_nothing_left_open() {
        for etcd in EtcdVersion::ALL {
            let cluster = Cluster {
                node: "master-1".to_owned(),
                etcd,
                etcd_release: format!("{}.9", etcd.series()),
                kubernetes: images::KUBERNETES.to_owned(),
            };
            for component in Component::ALL {
                let text = cluster.manifest(component);
                assert!(!text.contains('@'), "{component}: {text}");
                let pod: k8s_openapi::api::core::v1::Pod = serde_yaml::from_str(&text).expect("a pod");
                assert_eq!(pod.metadata.name.as_deref(), Some(component.name()));
                let container = &pod.spec.expect("a spec").containers[0];
                assert_eq!(container.image, Some(cluster.image(component)));
                let asked = container.startup_probe.clone().and_then(|p| p.http_get).and_then(|h| h.path);
                let old = component == Component::Etcd && etcd == EtcdVersion::V34;
                assert_eq!(asked.as_deref() == Some("/health"), old, "{component} {asked:?}");
            }
        }
    }
}
