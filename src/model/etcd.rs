//! The status of an etcd member and its cluster, and the part of it that the agent remembers.
//!
//! ```text
//!   Maintenance.Status ─┐  version, IDs, leader, indexes, sizes, alarms (listed among its errors)
//!   member list ────────┤
//!   linearizable read ──┼──▶ EtcdStatus ──▶ Incarnation: the lineage, and the highest revision seen
//!   /metrics ───────────┤  fsync, commits, leader changes
//!   the other members' ─┘  Status, each with its own deadline
//! ```
//!
//! Absent is not zero: etcd 3.4 reports less than 3.6, a learner answers few requests, and without a quorum nothing is
//! agreed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer;
use super::etcd_data::StoreIdentity;
use super::reading::{Symptom, SymptomKind};

/// The 99th percentile of the WAL's fsync from which a disk is called slow. etcd's own alerts warn at 0.5 s; its
/// histogram has no bound there, and this is the next one.
pub const SLOW_FSYNC: Duration = Duration::from_millis(512);
/// So many scrapes in a row make a disk slow: one may be a backup, or a defragmentation.
pub const SLOW_SCRAPES: usize = 3;
/// The share of its quota, in percent, from which a database is called close to it: NOSPACE comes at 100.
pub const NEAR_QUOTA: u64 = 90;
/// A member that has just started elects or finds a leader within two election timeouts, 1 s each unless configured
/// otherwise; with none after this long there is none to be had.
pub const LEADER_WITHIN: Duration = Duration::from_secs(5);

/// One look at a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdStatus {
    pub target: String,
    /// When it had answered, on the boot clock.
    pub at: Duration,
    /// What it says of itself, or why it said nothing.
    #[serde(with = "answer::one")]
    #[cfg_attr(test, schemars(with = "answer::Written<MemberStatus>"))]
    pub own: Result<MemberStatus, Symptom>,
    /// Where a linearizable read found the cluster, or why there was no such read: without a quorum, and on a learner.
    #[serde(with = "answer::one")]
    #[cfg_attr(test, schemars(with = "answer::Written<Agreed>"))]
    pub agreed: Result<Agreed, Symptom>,
    /// How many rounds with an agreed read in a row, this one included, said the same for the store and nothing lower;
    /// zero without one, and where it was asked once only.
    #[serde(default)]
    pub repeated: u32,
    /// Whose Kubernetes cluster its store is, read with the quorum; absent where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreIdentity>,
    /// The members, as this one knows them; absent on a learner.
    pub members: Option<Vec<Member>>,
    /// What the other members say, by their ID, as far as they were asked: a status, or why there is none. One that
    /// cannot be reached from here may well be at work.
    #[serde(with = "answer::by_id")]
    #[cfg_attr(test, schemars(with = "BTreeMap<u64, answer::Written<MemberStatus>>"))]
    pub others: BTreeMap<u64, Result<MemberStatus, Symptom>>,
    /// Linearizable reads through other members, by the ID of the one that answered: whoever answers one has a quorum.
    /// Asked while this member says nothing of itself or knows no leader; absent where nobody was asked.
    #[serde(default)]
    pub elsewhere: Option<BTreeMap<u64, Agreed>>,
    /// The members, as one of those knows them, or else as this one told them last.
    #[serde(default)]
    pub members_elsewhere: Option<Vec<Member>>,
    /// Why this member and another do not take each other's peer certificates, by the other's ID. Asked while this one
    /// knows no leader.
    #[serde(default)]
    pub peers_refuse: BTreeMap<u64, Symptom>,
    /// From its /metrics; absent where they cannot be read.
    pub metrics: Option<Metrics>,
}

/// How a cluster does without one of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Without {
    /// How many votes a decision takes.
    pub quorum: usize,
    /// The other voters that have just read with a quorum.
    pub well: Vec<u64>,
    /// The other voters that have not.
    pub ill: Vec<u64>,
}

impl Without {
    /// Whether the others decide everything among themselves.
    pub fn suffices(&self) -> bool {
        self.well.len() >= self.quorum
    }
}

/// Maintenance.Status of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemberStatus {
    /// Its version, such as `3.5.16`.
    pub version: String,
    /// The cluster's ID.
    pub cluster: u64,
    pub member: u64,
    /// The leader's ID; absent where it knows none.
    pub leader: Option<u64>,
    /// The raft term.
    pub term: u64,
    /// The last committed raft index.
    pub raft_index: u64,
    /// The last applied raft index; absent before 3.4.
    pub applied_index: Option<u64>,
    /// The MVCC revision of its own store.
    pub revision: i64,
    /// Bytes of the database file.
    pub db_size: Option<u64>,
    /// Bytes of it in use.
    pub db_in_use: Option<u64>,
    /// The quota in bytes; told from 3.6 on.
    pub quota: Option<u64>,
    /// Whether it has no vote.
    pub learner: bool,
    /// The alarms it knows of, in the whole cluster.
    pub alarms: Vec<Alarm>,
    /// What else it complains about.
    pub errors: Vec<String>,
}

/// An alarm, and who raised it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alarm {
    /// The member's ID.
    pub member: u64,
    pub kind: AlarmKind,
}

/// The alarms of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum AlarmKind {
    /// The database reached its quota: nothing is written any more.
    NoSpace,
    /// A member's data differ from the others'.
    Corrupt,
    Other(String),
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Other(word) => word,
        })
    }
}

impl Alarm {
    /// The alarm in an error of Status, which prints the message as protobuf's text: `memberID:17 alarm:NOSPACE`.
    pub fn parse(error: &str) -> Option<Self> {
        let field = |name: &str| error.split_whitespace().find_map(|word| word.strip_prefix(name));
        let kind = match field("alarm:")? {
            "NOSPACE" => AlarmKind::NoSpace,
            "CORRUPT" => AlarmKind::Corrupt,
            other => AlarmKind::Other(other.to_owned()),
        };
        // A member ID of zero is left out of the text.
        let member = field("memberID:").map_or(Some(0), |id| id.parse().ok())?;
        Some(Self { member, kind })
    }
}

/// The header of a linearizable read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Agreed {
    /// The cluster's ID.
    pub cluster: u64,
    /// The ID of the member that answered.
    pub member: u64,
    /// The raft term.
    pub term: u64,
    /// The MVCC revision.
    pub revision: i64,
}

/// A member, as the member list has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Member {
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub learner: bool,
}

impl Member {
    /// Whether it has ever started: it publishes its name and URLs then.
    pub fn started(&self) -> bool {
        !self.name.is_empty()
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.started() { &self.name } else { "a member that never started" };
        let urls = if self.client_urls.is_empty() { &self.peer_urls } else { &self.client_urls };
        write!(f, "{name} ({})", urls.join(", "))
    }
}

/// How long something took, of all that a histogram counted since its process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latency {
    /// How often it was done.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Within,
    /// 99 in 100 of them took no longer.
    pub p99: Within,
}

/// The bucket of a histogram in which a percentile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Within {
    /// It is longer than this.
    pub above: Duration,
    /// And no longer than this; absent in the last bucket, which has no bound.
    pub at_most: Option<Duration>,
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at_most {
            Some(at_most) => write!(f, "at most {} ms", at_most.as_millis()),
            None => write!(f, "above {} ms", self.above.as_millis()),
        }
    }
}

/// What /metrics tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Metrics {
    /// Above what the 99th percentile of the WAL's fsync was between two scrapes (a bound of the histogram), the latest
    /// last, of the last few scrapes between which there was any.
    pub fsync: Vec<Duration>,
    /// The same for the backend's commits.
    pub commit: Vec<Duration>,
    /// Every fsync of the WAL since the member started; absent before the first.
    #[serde(default)]
    pub every_fsync: Option<Latency>,
    /// The same for the backend's commits.
    #[serde(default)]
    pub every_commit: Option<Latency>,
    /// Changes of leader it has seen since it started.
    pub leader_changes: Option<u64>,
    /// Proposals that wait to be committed.
    pub proposals_pending: Option<u64>,
    /// Whether it knows a leader.
    pub has_leader: Option<bool>,
    /// For how long it has known none, look after look.
    #[serde(default)]
    pub leaderless_for: Duration,
    /// The quota in bytes.
    pub quota: Option<u64>,
}

impl Metrics {
    /// What every one of the last few fsync figures exceeded, where that is slow.
    fn slow(figures: &[Duration]) -> Option<Duration> {
        let latest = figures.len().checked_sub(SLOW_SCRAPES).and_then(|from| figures.get(from..))?;
        latest.iter().min().copied().filter(|least| *least >= SLOW_FSYNC)
    }
}

impl Default for EtcdStatus {
    /// Of a member that was not asked.
    fn default() -> Self {
        let not_asked = || Symptom::new(SymptomKind::NoMeans, "it was not asked");
        Self {
            target: String::new(),
            at: Duration::ZERO,
            own: Err(not_asked()),
            agreed: Err(not_asked()),
            repeated: 0,
            store: None,
            members: None,
            others: BTreeMap::new(),
            elsewhere: None,
            members_elsewhere: None,
            peers_refuse: BTreeMap::new(),
            metrics: None,
        }
    }
}

impl EtcdStatus {
    /// Its ID, as it says of itself or as a read from it says.
    pub fn member(&self) -> Option<u64> {
        let own = self.own.as_ref().ok().map(|own| own.member);
        own.or_else(|| self.agreed.as_ref().ok().map(|agreed| agreed.member))
    }

    /// The first alarm of this kind.
    pub fn alarm(&self, kind: &AlarmKind) -> Option<&Alarm> {
        self.own.as_ref().ok()?.alarms.iter().find(|alarm| alarm.kind == *kind)
    }

    /// A member by a name the operator knows.
    pub fn name_of(&self, id: u64) -> String {
        if self.own.as_ref().is_ok_and(|own| own.member == id) {
            return "this member".to_owned();
        }
        let mut all = self.members.iter().chain(&self.members_elsewhere).flatten();
        let member = all.find(|member| member.id == id);
        member.map_or_else(|| format!("member {id:x}"), ToString::to_string)
    }

    /// Whether it knows no leader. One that has started and not yet joined its peers takes no questions from clients
    /// before it has a leader: only its metrics tell.
    pub fn is_leaderless(&self) -> bool {
        match &self.own {
            Ok(own) => own.leader.is_none(),
            Err(_) => self.metrics.as_ref().is_some_and(|metrics| metrics.leaderless_for >= LEADER_WITHIN),
        }
    }

    /// Whether it knows no leader while the others agree among themselves: then it is not the cluster that fails.
    pub fn is_cut_off(&self) -> bool {
        let ours = self.own.as_ref().ok().map(|own| own.cluster);
        let cluster = ours.or_else(|| Some(self.elsewhere.as_ref()?.values().next()?.cluster));
        // Its own ID only tells who of them counts as ill.
        self.is_leaderless()
            && cluster.and_then(|cluster| self.without(0, cluster)).is_some_and(|others| others.suffices())
    }

    /// How its cluster does without this member, by what the others answered when this one did not; absent where nobody
    /// told the members, or the others were not asked.
    pub fn without(&self, own: u64, cluster: u64) -> Option<Without> {
        let members = self.members_elsewhere.as_ref().or(self.members.as_ref())?;
        let voters: Vec<u64> = members.iter().filter(|member| !member.learner).map(|member| member.id).collect();
        let elsewhere = self.elsewhere.as_ref()?;
        let is_well = |id: &u64| elsewhere.get(id).is_some_and(|agreed| agreed.cluster == cluster);
        let (well, ill) = voters.iter().copied().filter(|id| *id != own).partition(is_well);
        Some(Without { quorum: voters.len() / 2 + 1, well, ill })
    }

    /// Whether it is a learner: alive, and without a vote or linearizable reads.
    pub fn is_learner(&self) -> bool {
        self.own.as_ref().is_ok_and(|own| own.learner)
    }

    /// Above what the fsync of the WAL has been for several scrapes, where that is slow.
    pub fn slow_fsync(&self) -> Option<Duration> {
        Metrics::slow(&self.metrics.as_ref()?.fsync)
    }

    /// The quota, from whoever tells it.
    pub fn quota(&self) -> Option<u64> {
        let told = self.own.as_ref().ok().and_then(|own| own.quota);
        told.or_else(|| self.metrics.as_ref()?.quota).filter(|quota| *quota > 0)
    }

    /// Size of the database and its quota, where it is close to it.
    pub fn near_quota(&self) -> Option<(u64, u64)> {
        let (size, quota) = (self.own.as_ref().ok()?.db_size?, self.quota()?);
        (u128::from(size) * 100 >= u128::from(quota) * u128::from(NEAR_QUOTA)).then_some((size, quota))
    }

    /// The members other than this one that were asked and gave no status, and why.
    pub fn not_answering(&self) -> Vec<String> {
        let silent = self.others.iter().filter_map(|(id, status)| Some((id, status.as_ref().err()?)));
        silent.map(|(id, symptom)| format!("{}: {symptom}", self.name_of(*id))).collect()
    }

    /// The other members by name, of those that gave no status.
    pub fn silent_names(&self) -> Vec<String> {
        self.others.iter().filter(|(_, status)| status.is_err()).map(|(id, _)| self.name_of(*id)).collect()
    }

    /// Members whose minor version is another than this one's, with it.
    pub fn other_versions(&self) -> Vec<String> {
        let minor = |version: &str| version.splitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
        let Ok(own) = &self.own else { return Vec::new() };
        let answers = self.others.iter().filter_map(|(id, status)| Some((id, status.as_ref().ok()?)));
        answers
            .filter(|(_, status)| minor(&status.version) != minor(&own.version))
            .map(|(id, status)| format!("{} runs {}", self.name_of(*id), status.version))
            .collect()
    }
}
