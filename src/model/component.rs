//! A component: one static pod of this node, regardless of the file or generation that currently defines it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The namespace kubeadm puts the control plane in; left out when a component of it is shown to people.
pub const SYSTEM_NAMESPACE: &str = "kube-system";

/// Names a component: `namespace/name` as the manifest says, without the node name the kubelet appends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ComponentId {
    /// `metadata.namespace`; the kubelet's default for a static pod without one is `default`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ComponentId {
    /// A component of any namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// A component of `kube-system`.
    pub fn system(name: impl Into<String>) -> Self {
        Self::new(SYSTEM_NAMESPACE, name)
    }

    /// `namespace_name`: a file name no two components share, since neither part may hold an underscore.
    pub fn slug(&self) -> String {
        format!("{}_{}", self.namespace, self.name)
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace == SYSTEM_NAMESPACE {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
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

/// What a component is to the others. The order is the order of dependence: the first one is started first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in ["", "../etc", "a/b/c", "a//b", "/etcd", "etcd/", "Etcd", "a_b", "-a", "a.", "a\0b"] {
            assert!(bad.parse::<ComponentId>().is_err(), "{bad:?} was taken");
        }
    }
}
