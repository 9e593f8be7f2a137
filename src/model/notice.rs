//! What a notice is about. A notice is something the operator has to know and lastgood does nothing about; there is one
//! per subject, it is reported once, and it is shown while it lasts. Decisions and reports go by the subject; its sentence
//! is for people only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::component::{ComponentId, HostService};
use super::environment::Room;

/// The subject of a notice about a component. The order is the order in which notices are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notice {
    /// etcd serves other data than the data on record.
    WrongData,
    /// lastgood cannot decode the manifest.
    #[serde(rename = "broken")]
    Undecodable,
    /// The kubelet's validation is expected to refuse the deployed manifest.
    #[serde(rename = "predicted")]
    PredictedRefusal,
    /// A manifest is away because an upgrade by kubeadm was cut short, and comes back.
    Interrupted,
    /// In observe mode: what lastgood would do.
    #[serde(rename = "would")]
    WouldAct,
    /// In observe mode: how lastgood would shorten an outage.
    WouldAssist,
    /// The component is unhealthy, and it has not changed.
    #[serde(rename = "ailing")]
    Unhealthy,
    /// It is stalled and is not restarted, and why.
    #[serde(rename = "stall")]
    StallLeft,
    /// The earlier of its two sandboxes is not stopped, and why.
    SecondSandbox,
    /// Another manifest in the directory claims the same pod.
    #[serde(rename = "claimed")]
    Duplicate,
    /// The deployed files are newer than the process, so its health proves nothing about them (Q5).
    Unproven,
    /// The runtime does not have the image of the candidate.
    CandidateImage,
    /// The runtime does not have the image of the known-good generation.
    Image,
    /// A rollback passed over the pinned generation, and why.
    #[serde(rename = "pin")]
    PinPassedOver,
    /// The kubelet does not start the pod of a manifest that was put in place.
    #[serde(rename = "deaf-kubelet")]
    KubeletUnresponsive,
    /// inactive-manifests cannot hold its known-good manifest, and why.
    #[serde(rename = "offered")]
    Unpublished,
    /// It is of a newer minor version than its API server (Q6).
    NewerThanApi,
    /// The etcd manifest is away, and why it is not put back.
    EtcdStays,
    /// The revisions of etcd's cluster went back: an earlier state was restored.
    #[serde(rename = "went-back")]
    RevisionRegression,
    /// Components have to be restarted after a restore, and why they are not yet.
    #[serde(rename = "went-back-waits")]
    RestartsWait,
    /// The NOSPACE alarm.
    EtcdNoSpace,
    /// The CORRUPT alarm.
    EtcdCorrupt,
    /// The database is close to its quota.
    EtcdQuota,
    /// The disk of etcd is slow.
    EtcdDisk,
    /// The members run several versions.
    EtcdVersions,
    /// The database reaches its quota within days at its present growth.
    EtcdGrowth,
    /// The cluster has no leader.
    EtcdCluster,
    /// This member has no leader because its peers refuse its certificate, or it theirs.
    EtcdPeers,
    /// This member has no leader because it does not reach its peers.
    EtcdCutOff,
    /// etcd and its clients do not accept each other's certificates.
    EtcdCertificates,
    /// Its process has an older certificate in memory than the one on disk.
    OlderCertificate,
    /// The kubelet's liveness probe fails while the process answers lastgood.
    KubeletProbe,
    /// It has not raised the address that it is there for.
    AddressNotRaised,
    /// There is no recent verified snapshot.
    SnapshotOld,
    /// A snapshot is not verified.
    SnapshotUnverified,
    /// The bytes of a verified snapshot differ from those that were verified.
    SnapshotDamaged,
    /// The API server lacks the keys of values that a restore put into etcd.
    ValuesUnreadable,
    /// The object storage has no recent verified snapshot.
    SnapshotRemoteBehind,
    /// The agents of other masters answered before, and do not any more.
    PeersSilent,
    /// This agent does not answer those of the other masters, and why.
    PeersUnanswered,
}

/// A notice of a feature about a component, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureNotice {
    /// The component.
    pub component: ComponentId,
    /// Its subject.
    pub about: Notice,
    /// The sentence; nothing where all is well.
    pub text: Option<String>,
}

/// The subject of a notice about the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum NodeNotice {
    /// Why nothing is changed on this node at present.
    Inhibitor,
    /// The manifest directory cannot be read.
    Directory,
    /// A service of the host is stalled or unwell.
    Service(HostService),
    /// That service is not restarted, and why.
    ServiceLeft(HostService),
    /// The clock jumped.
    Clock,
    /// The node goes by another name than the one it joined the cluster with.
    NodeName,
    /// The kubelet reads another static pod directory from its next start on.
    StaticPodPath,
    /// The kubelet's resolvConf does not exist.
    ResolvConf,
    /// The kubelet and the container runtime name cgroups in different ways.
    CgroupDrivers,
    /// The machine waits for memory.
    MemoryPressure,
    /// The machine waits for its disks.
    IoPressure,
    /// A certificate is about to expire, or is not valid: the path of its file.
    Certificate(String),
    /// The kubelet's rotation cannot replace its client certificate.
    KubeletCertificate,
    /// A disk runs out of room: how far, and a directory on it.
    Disk(Room, String),
    /// An address of the API server does not answer.
    Endpoint(String),
    /// No interface has an address that manifests name for this node.
    Address(IpAddr),
}

const ROOMS: [(Room, &str); 5] = [
    (Room::Little, "little"),
    (Room::FewInodes, "few-inodes"),
    (Room::NoInodes, "no-inodes"),
    (Room::None, "full"),
    (Room::ReadOnly, "read-only"),
];

impl fmt::Display for NodeNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inhibitor => f.write_str("hold"),
            Self::Directory => f.write_str("directory"),
            Self::Service(service) => f.write_str(service.name()),
            Self::ServiceLeft(service) => write!(f, "{}-left", service.name()),
            Self::Clock => f.write_str("clock"),
            Self::NodeName => f.write_str("node-name"),
            Self::StaticPodPath => f.write_str("static-pod-path"),
            Self::ResolvConf => f.write_str("resolv-conf"),
            Self::CgroupDrivers => f.write_str("cgroup-drivers"),
            Self::MemoryPressure => f.write_str("pressure memory"),
            Self::IoPressure => f.write_str("pressure io"),
            Self::KubeletCertificate => f.write_str("kubelet certificate"),
            Self::Certificate(path) => write!(f, "certificate {path}"),
            Self::Disk(room, place) => {
                let word = ROOMS.iter().find(|(one, _)| one == room).map_or("enough", |(_, word)| word);
                write!(f, "disk {word} {place}")
            }
            Self::Endpoint(server) => write!(f, "endpoint {server}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// A text that names no subject.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not what a notice about a node can be about")]
pub struct UnknownNotice(String);

impl FromStr for NodeNotice {
    type Err = UnknownNotice;

    fn from_str(text: &str) -> Result<Self, UnknownNotice> {
        let plain = [
            Self::Inhibitor,
            Self::Directory,
            Self::Clock,
            Self::NodeName,
            Self::StaticPodPath,
            Self::ResolvConf,
            Self::CgroupDrivers,
            Self::MemoryPressure,
            Self::IoPressure,
            Self::KubeletCertificate,
        ];
        let services =
            HostService::ALL.into_iter().flat_map(|service| [Self::Service(service), Self::ServiceLeft(service)]);
        if let Some(found) = plain.into_iter().chain(services).find(|one| one.to_string() == text) {
            return Ok(found);
        }
        let unknown = || UnknownNotice(text.to_owned());
        let (word, rest) = text.split_once(' ').ok_or_else(unknown)?;
        match word {
            "certificate" => Ok(Self::Certificate(rest.to_owned())),
            "endpoint" => Ok(Self::Endpoint(rest.to_owned())),
            "address" => rest.parse().map(Self::Address).map_err(|_| unknown()),
            "disk" => {
                let (room, place) = rest.split_once(' ').ok_or_else(unknown)?;
                let (room, _) = ROOMS.iter().find(|(_, word)| *word == room).ok_or_else(unknown)?;
                Ok(Self::Disk(*room, place.to_owned()))
            }
            _ => Err(unknown()),
        }
    }
}

impl From<NodeNotice> for String {
    fn from(notice: NodeNotice) -> Self {
        notice.to_string()
    }
}

impl TryFrom<String> for NodeNotice {
    type Error = UnknownNotice;

    fn try_from(text: String) -> Result<Self, UnknownNotice> {
        text.parse()
    }
}

/// Reads a table of notices and leaves out those whose subject this program does not know: each pass finds again what
/// is so, and a subject of another version must not make the whole memory unreadable.
///
/// # Errors
/// Where it is no table of texts.
pub fn known_only<'de, D, K>(deserializer: D) -> Result<BTreeMap<K, String>, D::Error>
where
    D: Deserializer<'de>,
    K: DeserializeOwned + Ord,
{
    let all = BTreeMap::<String, String>::deserialize(deserializer)?;
    let known = |key: &str| {
        let key: StrDeserializer<'_, serde::de::value::Error> = key.into_deserializer();
        K::deserialize(key).ok()
    };
    let notices = all.into_iter().filter_map(|(key, text)| Some((known(&key)?, text))).collect();
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Both {
        #[serde(deserialize_with = "known_only")]
        component: BTreeMap<Notice, String>,
        #[serde(deserialize_with = "known_only")]
        node: BTreeMap<NodeNotice, String>,
    }

    #[test]
    fn every_subject_of_the_node_is_read_back_as_it_was_written() {
        let rooms = ROOMS.map(|(room, _)| NodeNotice::Disk(room, "/var/lib/my etcd".to_owned()));
        let services =
            HostService::ALL.into_iter().flat_map(|one| [NodeNotice::Service(one), NodeNotice::ServiceLeft(one)]);
        let others = [
            NodeNotice::Inhibitor,
            NodeNotice::Directory,
            NodeNotice::Clock,
            NodeNotice::MemoryPressure,
            NodeNotice::IoPressure,
            NodeNotice::KubeletCertificate,
            NodeNotice::Certificate("/etc/kubernetes/pki/a b.crt".to_owned()),
            NodeNotice::Endpoint("https://[fd00::1]:6443".to_owned()),
            NodeNotice::Address("192.0.2.10".parse().unwrap()),
            NodeNotice::Address("fd00::1".parse().unwrap()),
        ];
        for notice in rooms.into_iter().chain(services).chain(others) {
            assert_eq!(notice.to_string().parse::<NodeNotice>().unwrap(), notice);
        }
    }

    #[test]
    fn a_subject_that_is_not_known_is_left_out_and_the_rest_is_read() {
        let text =
            r#"{"component": {"stall": "a", "of-tomorrow": "b"}, "node": {"clock": "c", "disk /var": "d", "x": "e"}}"#;
        let read: Both = serde_json::from_str(text).unwrap();
        let component = [(Notice::StallLeft, "a".to_owned())].into();
        let node = [(NodeNotice::Clock, "c".to_owned())].into();
        assert_eq!(read, Both { component, node });
        assert!(serde_json::from_str::<Both>(r#"{"component": ["stall"], "node": {}}"#).is_err());
    }
}
