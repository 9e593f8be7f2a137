//! What the agents of a cluster's masters report to each other, and what one of them knows of the others.
//!
//! ```text
//!   this agent ── GET /v1/report ──▶ the agent next to another member of etcd ──PeerReport──▶ Peers: a Peer for each member
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::Digest;
use super::overall::Overall;
use super::policy::Mode;

/// From this difference of two clocks on it is shown: leases and certificates go by them.
const CLOCK_DIFFERENCE_MILLIS: i64 = 2000;

/// An ID of etcd, in hex as etcdctl prints it: a number of JSON does not hold 64 bits everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdId(pub u64);

impl fmt::Display for EtcdId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Why a text is no ID of etcd.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an ID of etcd: up to 16 hex digits were expected")]
pub struct NotAnId(String);

impl FromStr for EtcdId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAnId(text.to_owned()))
    }
}

impl TryFrom<String> for EtcdId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<EtcdId> for String {
    fn from(id: EtcdId) -> Self {
        id.to_string()
    }
}

/// How one master is, as its agent reports it to the others. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerReport {
    /// When it was made, by the wall clock of that node.
    pub at: Timestamp,
    /// When that agent observed its node last, by the same clock.
    pub observed: Timestamp,
    /// lastgood's version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// Which machine it is: a digest of its machine ID, which is not to leave the machine.
    pub machine: Digest,
    /// The node as a whole; absent where the reader does not know the word.
    #[serde(default, deserialize_with = "known")]
    #[cfg_attr(test, schemars(with = "Option<Overall>"))]
    pub overall: Option<Overall>,
    /// The same as a sentence.
    pub sentence: String,
    /// Whether that agent acts; absent where the reader does not know the word.
    #[serde(default, deserialize_with = "known")]
    #[cfg_attr(test, schemars(with = "Option<Mode>"))]
    pub mode: Option<Mode>,
    /// The operator's pause.
    pub pause: Option<PeerPause>,
    /// Why that agent changes nothing at present, in words.
    pub inhibitors: Vec<String>,
    /// Whether the API server of that node serves; absent where that is unknown or it has none.
    pub api_server_serves: Option<bool>,
    pub etcd: PeerEtcd,
}

/// The operator's pause of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerPause {
    /// When it ends.
    pub until: Timestamp,
    /// Why; may be empty.
    pub reason: String,
}

/// The etcd member of a master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerEtcd {
    /// The cluster's ID, as the member says it, or else as it is on record.
    pub cluster: Option<EtcdId>,
    /// Its own ID, in the same way.
    pub member: Option<EtcdId>,
    /// Its version; absent while it says nothing.
    pub version: Option<String>,
    /// Whether it answers a linearizable read: it has a quorum then.
    pub serves: bool,
    /// Why it does not.
    pub why_not: Option<String>,
    /// The leader that it knows.
    pub leader: Option<EtcdId>,
    /// Whether it has no vote; absent while it says nothing.
    pub learner: Option<bool>,
    /// Its MVCC revision.
    pub revision: Option<i64>,
    /// Its raft term.
    pub term: Option<u64>,
    /// The last raft index that it knows to be committed.
    pub raft_index: Option<u64>,
    /// The last raft index that it has applied.
    pub applied_index: Option<u64>,
    /// What is on record of it, from the last time that it said something.
    pub record: Option<PeerRecord>,
    /// Whether lastgood keeps every etcd from starting over its data directory; absent where that is unknown.
    pub barred: Option<bool>,
    /// Why it is barred, or why that is unknown.
    pub barred_because: Option<String>,
}

/// What an agent has on record of its etcd member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerRecord {
    /// When that was, by the wall clock of that node.
    pub at: Timestamp,
    /// Its raft term.
    pub term: u64,
    /// The last raft index that it knew to be committed.
    pub raft_index: u64,
    /// Its MVCC revision.
    pub revision: i64,
    /// The highest MVCC revision ever seen of the cluster, from any member.
    pub highest_revision: i64,
}

/// A word that the reader may not know yet: within one version there may be more of them.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let word = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(word.and_then(|word| serde_json::from_value(word).ok()))
}

/// The members of this node's etcd cluster, and what their agents said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peers {
    /// When it was made.
    pub at: Timestamp,
    /// The cluster's ID.
    pub cluster: EtcdId,
    /// The TCP port on which the agents ask each other.
    pub port: u16,
    /// Why this agent does not answer the others; absent where it does.
    pub not_answering: Option<String>,
    /// Every member, in the order of the member list; the one of this node among them.
    pub members: Vec<Peer>,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peer {
    /// Its ID.
    pub id: EtcdId,
    /// Its name; its ID where it never started.
    pub name: String,
    /// The host of its peer URL.
    pub address: String,
    /// Whether it is the member of this node.
    pub local: bool,
    /// Why its agent does not answer; absent where it does.
    pub trouble: Option<PeerTrouble>,
    /// Since when, by the wall clock of this node.
    pub trouble_since: Option<Timestamp>,
    /// When its agent answered last, by the wall clock of this node.
    pub answered: Option<Timestamp>,
    /// How far its clock is ahead of that of this node, in milliseconds, as far as the way there lets it be known.
    pub clock_ahead_millis: Option<i64>,
    /// What is wrong with the dates of the certificate that its agent showed.
    pub certificate: Option<String>,
    /// What its agent reported last.
    pub report: Option<PeerReport>,
}

/// Why an agent does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerTrouble {
    pub kind: PeerTroubleKind,
    /// The same as a sentence.
    pub detail: String,
}

/// The kinds of reason why an agent does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum PeerTroubleKind {
    /// It was not asked yet.
    NotAsked,
    /// This node lacks what it takes to ask: a certificate, or a peer URL with TLS.
    NoMeans,
    /// Nothing listens there.
    Refused,
    /// There is no answer in time.
    TimedOut,
    /// There is no way there, or the connection ended early.
    Unreachable,
    /// One side does not accept the certificate of the other.
    Certificate,
    /// It reports another member or another cluster than those of the address.
    AnotherMember,
    /// It answers in another version of the form.
    Version,
    /// It answers something else than a report.
    Answer,
}

impl PeerTroubleKind {
    /// A few words for a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAsked => "not asked yet",
            Self::NoMeans => "cannot be asked",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::Certificate => "certificate",
            Self::AnotherMember => "another member",
            Self::Version => "another version",
            Self::Answer => "wrong answer",
        }
    }

    /// What the operator can do; nothing where nothing has to be done.
    pub fn next_step(self, port: u16) -> Option<String> {
        Some(match self {
            Self::NotAsked => return None,
            Self::NoMeans => {
                "give every etcd https:// peer URLs and --peer-cert-file, --peer-key-file and --peer-trusted-ca-file".into()
            }
            Self::Refused => {
                format!("no agent is installed there, it is stopped, or it is too old to report: `systemctl status lastgood` on that master; peers.port has to be {port} on every master")
            }
            Self::TimedOut => format!("open TCP {port} between the masters"),
            Self::Unreachable => format!("see whether the master is up, and open TCP {port} between the masters"),
            Self::Certificate => {
                "`lastgood certs check` on both masters; one CA has to sign the --peer-cert-file of every member, and the \
                 certificate has to name the host of its peer URL and allow client usage"
                    .into()
            }
            Self::AnotherMember => "compare `lastgood etcd status` on both masters: each peer URL has to lead to its member".into(),
            Self::Version => "install the same version of lastgood on every master".into(),
            Self::Answer => format!("`ss -ltnp 'sport = :{port}'` on that master names the process that answers"),
        })
    }
}

impl Peer {
    /// Whether its agent answers.
    pub fn answers(&self) -> bool {
        self.trouble.is_none()
    }

    /// How far its clock is from that of this node, where that is worth a look.
    pub fn clock_differs(&self) -> Option<i64> {
        self.clock_ahead_millis.filter(|ahead| ahead.saturating_abs() > CLOCK_DIFFERENCE_MILLIS)
    }

    /// The same for people, in seconds with one digit and a sign.
    pub fn clock_difference(&self) -> Option<String> {
        let ahead = self.clock_differs()?;
        let (sign, millis) = (if ahead < 0 { '-' } else { '+' }, ahead.unsigned_abs());
        Some(format!("{sign}{}.{} s", millis / 1000, millis % 1000 / 100))
    }
}

impl Peers {
    /// The members on other nodes.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.members.iter().filter(|peer| !peer.local)
    }

    /// Adds its ID to each name that several members have: etcd allows it, and no reader could tell them apart.
    pub fn tell_apart(&mut self) {
        let mut names: Vec<String> = self.members.iter().map(|peer| peer.name.clone()).collect();
        names.sort();
        let twice: Vec<&String> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        for peer in self.members.iter_mut().filter(|peer| twice.contains(&&peer.name)) {
            peer.name = format!("{} ({})", peer.name, peer.id);
        }
    }

    /// Whether every agent answers, and every etcd serves.
    pub fn is_well(&self) -> bool {
        let serves = |peer: &Peer| peer.report.as_ref().is_some_and(|report| report.etcd.serves);
        self.not_answering.is_none() && self.members.iter().all(|peer| peer.answers() && serves(peer))
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, answer) = (self.others().count(), self.others().filter(|peer| peer.answers()).count());
        write!(f, "{answer} of {all} agents answer")?;
        for peer in self.others() {
            if let Some(trouble) = &peer.trouble {
                write!(f, "; {}: {}", peer.name, trouble.kind.word())?;
            }
        }
        if self.not_answering.is_some() {
            f.write_str("; this one does not answer them")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_etcdctl_writes_it_and_read_back() {
        for id in [0, 1, 0xcdf8_1819_4e3a_8c32, u64::MAX] {
            assert_eq!(EtcdId(id).to_string().parse::<EtcdId>().unwrap().0, id);
        }
        assert_eq!(EtcdId(0xab).to_string(), "ab");
        for wrong in ["", "xyz", "1cdf818194e3a8c32", "0x1f"] {
            assert!(wrong.parse::<EtcdId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_clock_that_is_far_off_is_shown() {
        let peer = |ahead| Peer {
            id: EtcdId(1),
            name: "m2".into(),
            address: "10.0.0.2".into(),
            local: false,
            trouble: None,
            trouble_since: None,
            answered: None,
            clock_ahead_millis: ahead,
            certificate: None,
            report: None,
        };
        let rows = [
            (None, None),
            (Some(2000), None),
            (Some(-1999), None),
            (Some(2049), Some("+2.0 s")),
            (Some(-61_500), Some("-61.5 s")),
        ];
        for (ahead, shown) in rows {
            assert_eq!(peer(ahead).clock_difference().as_deref(), shown, "{ahead:?}");
        }
        assert!(peer(Some(i64::MIN)).clock_difference().is_some());
    }

    #[test]
    fn every_kind_of_trouble_has_a_next_step_but_that_of_the_first_seconds() {
        use PeerTroubleKind as Kind;
        let kinds = [
            Kind::NoMeans,
            Kind::Refused,
            Kind::TimedOut,
            Kind::Unreachable,
            Kind::Certificate,
            Kind::AnotherMember,
            Kind::Version,
            Kind::Answer,
        ];
        assert!(kinds.iter().all(|kind| kind.next_step(2384).is_some()));
        assert_eq!(Kind::TimedOut.next_step(2384).unwrap(), "open TCP 2384 between the masters");
        assert_eq!(Kind::NotAsked.next_step(2384), None);
    }
}
