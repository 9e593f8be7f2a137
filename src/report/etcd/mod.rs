//! An etcd member of this node and its cluster, as `etcd status` prints them: what was asked at this moment, and the
//! verdict on it.
//!
//! ```text
//!   EtcdStatus (the member, the others, /metrics) ─┐
//!   the agent's word, or this command's own ───────┼──▶ EtcdView ──▶ text | JSON | YAML
//!   how the database grew ─────────────────────────┘
//! ```

#[cfg(test)]
pub(super) mod tests;
mod text;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Explanation;
use crate::config::duration::roughly;
use crate::config::size;
use crate::model::etcd::{Latency, Member, MemberStatus, Within};
use crate::model::etcd_history::Growth;
use crate::model::member_conflict::{self, MemberConflict};
use crate::model::{Assessment, ComponentId, EtcdStatus, Symptom, Verdict};

/// A member of this node and its cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdView {
    /// When it was asked.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// The member's component.
    pub component: ComponentId,
    /// Where it was asked.
    pub endpoint: String,
    pub word: Word,
    /// The cluster's ID in hex; absent where nobody told it.
    pub cluster: Option<String>,
    /// Whether the quorum answers, which every write and most reads need.
    pub quorum: Quorum,
    /// Every member, this node's own first.
    pub members: Vec<MemberRow>,
    /// The most bytes its database may have; absent where it does not tell.
    pub quota: Option<u64>,
    /// How the database grew, where that was watched for some hours.
    pub growth: Option<GrowthView>,
    /// How long the member takes to have its log on disk.
    pub fsync: Option<LatencyView>,
    /// And its database.
    pub commit: Option<LatencyView>,
    /// Changes of leader it has seen since it started.
    pub leader_changes: Option<u64>,
    /// Proposals that wait to be committed.
    pub proposals_pending: Option<u64>,
    /// The members that the database and raft disagree about: an etcd 3.6 stumbles over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_conflicts: Vec<MemberConflict>,
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Word {
    pub verdict: Verdict,
    /// Since when; absent where this command judged.
    pub since: Option<Timestamp>,
    pub by: Judge,
    /// The sentences it stands on.
    pub evidence: Vec<String>,
    /// What lies beneath its trouble.
    pub cause: Option<String>,
    /// What a person should know.
    pub notices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Judge {
    /// The agent, which has watched it.
    Agent,
    /// This command, by what it saw within some seconds.
    Command,
}

impl From<Explanation> for Word {
    fn from(said: Explanation) -> Self {
        let Explanation { verdict, since, evidence, cause, notices, .. } = said;
        Self { verdict, since, by: Judge::Agent, evidence, cause, notices }
    }
}

impl From<&Assessment> for Word {
    fn from(assessment: &Assessment) -> Self {
        Self {
            verdict: assessment.verdict(),
            since: None,
            by: Judge::Command,
            evidence: assessment.evidence.clone(),
            cause: assessment.cause.as_ref().map(ToString::to_string),
            notices: Vec::new(),
        }
    }
}

/// What came of a linearizable read through this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Quorum {
    /// The members agree.
    Agreed {
        /// At this MVCC revision.
        revision: i64,
    },
    /// They do not, or this one has no part in it.
    NotAgreed { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemberRow {
    /// Its ID in hex, as etcdctl prints it; absent where it is not known.
    pub id: Option<String>,
    /// Its name; empty until it has started for the first time, and where nobody told it.
    pub name: String,
    /// Whether it is this node's own.
    pub own: bool,
    /// What it is in its cluster; absent where it says nothing.
    pub role: Option<MemberRole>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where its peers do.
    pub peer_urls: Vec<String>,
    /// What it says of itself.
    pub says: Option<Says>,
    /// Why it says nothing of itself.
    pub silent: Option<String>,
}

/// What a member is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum MemberRole {
    /// It leads.
    #[serde(rename = "leader")]
    Leader,
    /// It follows a leader.
    #[serde(rename = "follower")]
    Follower,
    /// It has no vote.
    #[serde(rename = "learner")]
    Learner,
    /// It has a vote, and knows no leader.
    #[serde(rename = "no leader")]
    NoLeader,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Says {
    pub version: String,
    /// The leader's ID in hex; absent where it knows none.
    pub leader: Option<String>,
    /// The raft term.
    pub term: u64,
    /// The last committed raft index.
    pub raft_index: u64,
    /// The last applied one.
    pub applied_index: Option<u64>,
    /// The MVCC revision of its own store.
    pub revision: i64,
    /// Bytes of its database file.
    pub db_bytes: Option<u64>,
    /// Bytes of it in use.
    pub db_in_use_bytes: Option<u64>,
    /// The alarms it knows of, as `NOSPACE of MEMBER`.
    pub alarms: Vec<String>,
    /// What else it complains about.
    pub errors: Vec<String>,
}

/// How a database grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GrowthView {
    /// From so many bytes.
    pub from_bytes: u64,
    pub to_bytes: u64,
    /// Over this time.
    pub over_seconds: u64,
    /// In which it reaches its quota at that rate; absent where it does not grow, or tells no quota.
    pub reaches_quota_in_seconds: Option<u64>,
}

impl GrowthView {
    /// Of a growth, towards a quota.
    pub fn new(growth: Growth, quota: Option<u64>) -> Self {
        Self {
            from_bytes: growth.from,
            to_bytes: growth.to,
            over_seconds: growth.over.as_secs(),
            reaches_quota_in_seconds: quota.and_then(|quota| Some(growth.reaches(quota)?.as_secs())),
        }
    }

    pub fn sentence(&self) -> String {
        let over = roughly(Duration::from_secs(self.over_seconds));
        let grown = format!("{} to {} in {over}", size::roughly(self.from_bytes), size::roughly(self.to_bytes));
        match self.reaches_quota_in_seconds {
            Some(seconds) => {
                format!("{grown}; at that rate it reaches its quota in {}", roughly(Duration::from_secs(seconds)))
            }
            None => grown,
        }
    }
}

/// How long something took. The figures are bounds of a histogram's buckets, which double from one to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatencyView {
    /// How often it was done since the member started; absent before the first time.
    pub count: Option<u64>,
    /// Half of them took no longer than this; absent beyond the last bound.
    pub p50_at_most_ms: Option<f64>,
    /// 99 in 100 of them took no longer.
    pub p99_at_most_ms: Option<f64>,
    /// What the 99th percentile of the last second lies above; absent where nothing was done in it.
    pub p99_now_above_ms: Option<f64>,
}

impl LatencyView {
    fn new(every: Option<Latency>, now: &[Duration]) -> Option<Self> {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let at_most = |of: fn(&Latency) -> Within| every.as_ref().and_then(|every| of(every).at_most).map(ms);
        (every.is_some() || !now.is_empty()).then(|| Self {
            count: every.map(|every| every.count),
            p50_at_most_ms: at_most(|every| every.p50),
            p99_at_most_ms: at_most(|every| every.p99),
            p99_now_above_ms: now.last().copied().map(ms),
        })
    }
}

/// What a view is made of.
#[derive(Clone, Debug)]
pub struct Looked<'l> {
    pub at: Timestamp,
    /// The node's name.
    pub node: &'l str,
    /// The member's component.
    pub component: &'l ComponentId,
    /// The verdict on it.
    pub word: Word,
    /// What was answered.
    pub status: &'l EtcdStatus,
    /// The members as they were known before, where nobody lists them now; with the ID of this node's own.
    pub known: Option<(u64, &'l [Member])>,
    /// How the database grew.
    pub growth: Option<Growth>,
    /// The members that the database and raft disagree about.
    pub conflicts: &'l [MemberConflict],
}

impl EtcdView {
    /// Of one look.
    pub fn new(looked: Looked<'_>) -> Self {
        let Looked { at, node, component, word, status, known, growth, conflicts } = looked;
        let listed = status.members.as_deref().or(known.map(|(_, members)| members)).unwrap_or_default();
        let metrics = status.metrics.as_ref();
        let quota = status.quota();
        let heard = status.own.as_ref().ok().into_iter().chain(status.others.values().flatten());
        let cluster =
            heard.map(|says| says.cluster).next().or(status.agreed.as_ref().ok().map(|agreed| agreed.cluster));
        Self {
            at,
            node: node.to_owned(),
            component: component.clone(),
            endpoint: status.target.clone(),
            word,
            cluster: cluster.map(hex),
            quorum: quorum(status),
            members: rows(status, known),
            quota,
            growth: growth.map(|growth| GrowthView::new(growth, quota)),
            fsync: metrics.and_then(|m| LatencyView::new(m.every_fsync, &m.fsync)),
            commit: metrics.and_then(|m| LatencyView::new(m.every_commit, &m.commit)),
            leader_changes: metrics.and_then(|metrics| metrics.leader_changes),
            proposals_pending: metrics.and_then(|metrics| metrics.proposals_pending),
            member_conflicts: member_conflict::named(conflicts, listed),
        }
    }

    /// Whether a monitoring script should be content with the member of this node. That it starts is for the agent to say:
    /// a command that has just begun to look cannot tell it from one that has failed for hours.
    pub fn is_well(&self) -> bool {
        let starts = self.word.verdict == Verdict::Starting && self.word.by == Judge::Agent;
        self.word.verdict == Verdict::Healthy || starts
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn quorum(status: &EtcdStatus) -> Quorum {
    match &status.agreed {
        Ok(agreed) => Quorum::Agreed { revision: agreed.revision },
        Err(why) => Quorum::NotAgreed { why: why.to_string() },
    }
}

/// Every member that anybody lists: the cluster's own list, or one that was written down before.
fn rows(status: &EtcdStatus, known: Option<(u64, &[Member])>) -> Vec<MemberRow> {
    let own = status.member().or(known.map(|(own, _)| own));
    let listed = status.members.as_deref().or(status.members_elsewhere.as_deref());
    let listed = listed.or(known.map(|(_, members)| members)).unwrap_or_default();
    let row = |member: &Member| {
        let is_own = Some(member.id) == own;
        let answer = if is_own { Some(&status.own) } else { status.others.get(&member.id) };
        let says = answer.and_then(|answer| answer.as_ref().ok());
        let why = answer.and_then(|answer| answer.as_ref().err());
        MemberRow {
            id: Some(hex(member.id)),
            name: member.name.clone(),
            own: is_own,
            role: says.map(|says| role(says, member.learner)),
            client_urls: member.client_urls.clone(),
            peer_urls: member.peer_urls.clone(),
            says: says.map(|says| says_of(says, status)),
            silent: says.is_none().then(|| silent(why)),
        }
    };
    let mut rows: Vec<MemberRow> = listed.iter().map(row).collect();
    if !rows.iter().any(|row| row.own) {
        let says = status.own.as_ref().ok();
        rows.push(MemberRow {
            id: own.map(hex),
            name: String::new(),
            own: true,
            role: says.map(|says| role(says, false)),
            client_urls: Vec::new(),
            peer_urls: Vec::new(),
            says: says.map(|says| says_of(says, status)),
            silent: says.is_none().then(|| silent(status.own.as_ref().err())),
        });
    }
    rows.sort_by_key(|row| (!row.own, row.name.clone()));
    rows
}

fn silent(why: Option<&Symptom>) -> String {
    why.map_or_else(|| "it was not probed: its client URLs are unknown".to_owned(), ToString::to_string)
}

fn role(says: &MemberStatus, listed_as_learner: bool) -> MemberRole {
    match says.leader {
        _ if says.learner || listed_as_learner => MemberRole::Learner,
        Some(leader) if leader == says.member => MemberRole::Leader,
        Some(_) => MemberRole::Follower,
        None => MemberRole::NoLeader,
    }
}

fn says_of(says: &MemberStatus, status: &EtcdStatus) -> Says {
    let alarm = |alarm: &crate::model::etcd::Alarm| format!("{} of {}", alarm.kind, status.name_of(alarm.member));
    Says {
        version: says.version.clone(),
        leader: says.leader.map(hex),
        term: says.term,
        raft_index: says.raft_index,
        applied_index: says.applied_index,
        revision: says.revision,
        db_bytes: says.db_size,
        db_in_use_bytes: says.db_in_use,
        alarms: says.alarms.iter().map(alarm).collect(),
        errors: says.errors.clone(),
    }
}
