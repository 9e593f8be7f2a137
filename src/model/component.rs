//! A component: a static pod of this node, whichever file or generation holds it at the moment, or one of the two services
//! of the host that run them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The namespace kubeadm puts the control plane in; left out when a component of it is shown to people.
pub const SYSTEM_NAMESPACE: &str = "kube-system";

/// Names a component: a static pod, or a service of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ComponentId {
    /// A static pod: `namespace/name` as its manifest says, without the node name that the kubelet appends.
    Pod {
        /// `metadata.namespace`; the kubelet's default for a static pod without one is `default`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// A service of the host: `host:NAME`, which no pod can be called.
    Service(HostService),
}

/// What the name of a service of the host begins with.
const HOST: &str = "host:";

impl ComponentId {
    /// A static pod of any namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Pod { namespace: namespace.into(), name: name.into() }
    }

    /// A static pod of `kube-system`.
    pub fn system(name: impl Into<String>) -> Self {
        Self::new(SYSTEM_NAMESPACE, name)
    }

    /// Its name, without the namespace.
    pub fn name(&self) -> &str {
        match self {
            Self::Pod { name, .. } => name,
            Self::Service(service) => service.name(),
        }
    }

    /// The namespace of a static pod.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Pod { namespace, .. } => Some(namespace),
            Self::Service(_) => None,
        }
    }

    /// The service of the host that somebody means who gives its name alone; no pod of that name may be there.
    pub fn service(&self) -> Option<HostService> {
        match self {
            Self::Pod { namespace, name } if namespace == SYSTEM_NAMESPACE => HostService::called(name),
            Self::Pod { .. } => None,
            Self::Service(service) => Some(*service),
        }
    }

    /// `namespace_name`: a file name no two components share, since neither part may hold an underscore.
    pub fn slug(&self) -> String {
        format!("{}_{}", self.namespace().unwrap_or_default(), self.name())
    }
}

impl From<HostService> for ComponentId {
    fn from(service: HostService) -> Self {
        Self::Service(service)
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } if namespace == SYSTEM_NAMESPACE => f.write_str(name),
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Service(service) => write!(f, "{HOST}{}", service.name()),
        }
    }
}

/// Why a text names no component.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a component: give NAME (of {SYSTEM_NAMESPACE}) or NAMESPACE/NAME")]
pub struct NotAComponent(String);

impl FromStr for ComponentId {
    type Err = NotAComponent;

    fn from_str(text: &str) -> Result<Self, NotAComponent> {
        if let Some(name) = text.strip_prefix(HOST) {
            let service = HostService::ALL.into_iter().find(|service| service.name() == name);
            return service.map(Self::Service).ok_or_else(|| NotAComponent(text.to_owned()));
        }
        let (namespace, name) = text.split_once('/').unwrap_or((SYSTEM_NAMESPACE, text));
        if is_dns_name(namespace) && is_dns_name(name) {
            Ok(Self::new(namespace, name))
        } else {
            Err(NotAComponent(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ComponentId {
    type Error = NotAComponent;

    fn try_from(text: String) -> Result<Self, NotAComponent> {
        text.parse()
    }
}

impl From<ComponentId> for String {
    fn from(id: ComponentId) -> Self {
        id.to_string()
    }
}

/// RFC 1123 subdomain, the rule Kubernetes has for pod names: it also keeps a name from leaving its directory.
pub fn is_dns_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// A service of the host that runs the static pods. Neither is a pod, and a pod may bear the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostService {
    /// The kubelet.
    Kubelet,
    /// containerd or CRI-O.
    ContainerRuntime,
}

impl HostService {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kubelet, Self::ContainerRuntime];

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::ContainerRuntime => "runtime",
        }
    }

    /// The service that goes by this name: by its own, or by that of its program.
    fn called(name: &str) -> Option<Self> {
        match name {
            "kubelet" => Some(Self::Kubelet),
            "runtime" | "containerd" | "crio" => Some(Self::ContainerRuntime),
            _ => None,
        }
    }

    /// The command that shows its state.
    pub fn look(self) -> &'static str {
        match self {
            Self::Kubelet => "`systemctl status kubelet`",
            Self::ContainerRuntime => "`systemctl status containerd` (or crio)",
        }
    }
}

impl fmt::Display for HostService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubelet => "the kubelet",
            Self::ContainerRuntime => "the container runtime",
        })
    }
}

/// What a component is to the others. The order is the order of dependence: the first one is started first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Role {
    /// Any static pod that is none of the four: kube-vip, haproxy, a CNI agent.
    Other,
    /// A member of the etcd cluster.
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
}

impl Role {
    /// The role a program's name tells, as `command[0]` of a container gives it.
    pub fn of_program(program: &str) -> Option<Self> {
        match program.rsplit('/').next()? {
            "etcd" => Some(Self::Etcd),
            "kube-apiserver" => Some(Self::ApiServer),
            "kube-controller-manager" => Some(Self::ControllerManager),
            "kube-scheduler" => Some(Self::Scheduler),
            _ => None,
        }
    }

    /// The role this one cannot work without.
    pub fn depends_on(self) -> Option<Self> {
        match self {
            Self::Etcd | Self::Other => None,
            Self::ApiServer => Some(Self::Etcd),
            Self::ControllerManager | Self::Scheduler => Some(Self::ApiServer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_of_kube_system_and_comes_back_as_given() {
        let id: ComponentId = "etcd".parse().unwrap();
        assert_eq!(id, ComponentId::system("etcd"));
        assert_eq!(id.to_string(), "etcd");
        let other: ComponentId = "edge/haproxy".parse().unwrap();
        assert_eq!(other.to_string(), "edge/haproxy");
    }

    #[test]
    fn a_service_of_the_host_is_no_pod_of_that_name() {
        for service in HostService::ALL {
            let id = ComponentId::from(service);
            assert_eq!(id.to_string().parse::<ComponentId>().unwrap(), id);
            let pod = ComponentId::system(service.name());
            assert_ne!(id, pod);
            assert_ne!((id.slug(), id.to_string()), (pod.slug(), pod.to_string()));
        }
        assert!("host:etcd".parse::<ComponentId>().is_err());
    }

    #[test]
    fn a_service_of_the_host_is_meant_by_its_name_alone() {
        for (name, service) in [
            ("kubelet", Some(HostService::Kubelet)),
            ("host:kubelet", Some(HostService::Kubelet)),
            ("runtime", Some(HostService::ContainerRuntime)),
            ("containerd", Some(HostService::ContainerRuntime)),
            ("crio", Some(HostService::ContainerRuntime)),
            ("edge/kubelet", None),
            ("etcd", None),
        ] {
            assert_eq!(name.parse::<ComponentId>().unwrap().service(), service, "{name}");
        }
        for service in HostService::ALL {
            assert_eq!(ComponentId::system(service.name()).service(), Some(service));
        }
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in ["", "../etc", "a/b/c", "a//b", "/etcd", "etcd/", "Etcd", "a_b", "-a", "a.", "a\0b"] {
            assert!(bad.parse::<ComponentId>().is_err(), "{bad:?} was taken");
        }
    }
}
