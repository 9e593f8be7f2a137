//! An etcd member of this node and its cluster, as `etcd status` prints them: what was asked at this moment, and the
//! verdict on it.
//!
//! ```text
//!   EtcdStatus (the member, the others, /metrics) ─┐
//!   the agent's word, or this command's own ───────┼──▶ EtcdView ──▶ text | JSON | YAML
//!   how the database grew ─────────────────────────┘
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Explanation;
use super::status::between;
use super::text::{lines, section, table};
use crate::config::duration::roughly;
use crate::config::size;
use crate::model::etcd::{Latency, Member, MemberStatus, Within};
use crate::model::known::Growth;
use crate::model::{Assessment, ComponentId, EtcdStatus, Symptom, Verdict};

/// The version of the printed form: raised when a field changes its meaning, not when one is added.
const VERSION: u32 = 1;

/// A member of this node and its cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EtcdView {
    /// Of this form.
    pub version: u32,
    /// When it was asked.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// The member's component.
    pub component: ComponentId,
    /// Where it was asked.
    pub endpoint: String,
    /// How it does.
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
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when; absent where this command judged.
    pub since: Option<Timestamp>,
    /// Who judged.
    pub by: Judge,
    /// The sentences it stands on.
    pub evidence: Vec<String>,
    /// What lies beneath its trouble.
    pub cause: Option<String>,
    /// What a person should know.
    pub notices: Vec<String>,
}

/// Who judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
            verdict: assessment.verdict,
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
pub enum Quorum {
    /// The members agree.
    Agreed {
        /// At this MVCC revision.
        revision: i64,
    },
    /// They do not, or this one has no part in it.
    NotAgreed {
        /// A sentence.
        why: String,
    },
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its ID in hex, as etcdctl prints it; absent where it is not known.
    pub id: Option<String>,
    /// Its name; empty until it has started for the first time, and where nobody told it.
    pub name: String,
    /// Whether it is this node's own.
    pub own: bool,
    /// `leader`, `follower`, `learner`, or `no leader`; absent where it says nothing.
    pub role: Option<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where its peers do.
    pub peer_urls: Vec<String>,
    /// What it says of itself.
    pub says: Option<Says>,
    /// Why it says nothing of itself.
    pub silent: Option<String>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    /// Its version.
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
pub struct GrowthView {
    /// From so many bytes.
    pub from_bytes: u64,
    /// To so many.
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

    /// As a sentence.
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

    /// As a sentence.
    pub fn sentence(&self) -> String {
        let bound = |ms: Option<f64>| ms.map_or("beyond every bound".to_owned(), |ms| format!("at most {ms} ms"));
        let mut out = match self.count {
            Some(count) => format!(
                "half {}, 99 in 100 {}, of {count} since it started",
                bound(self.p50_at_most_ms),
                bound(self.p99_at_most_ms)
            ),
            None => "none since it started".to_owned(),
        };
        if let Some(above) = self.p99_now_above_ms.filter(|above| *above > 0.0) {
            let _ = write!(out, "; just now 99 in 100 only within more than {above} ms");
        }
        out
    }
}

/// What a view is made of.
#[derive(Clone, Debug)]
pub struct Looked<'l> {
    /// When.
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
}

impl EtcdView {
    /// Of one look.
    pub fn new(looked: Looked<'_>) -> Self {
        let Looked { at, node, component, word, status, known, growth } = looked;
        let metrics = status.metrics.as_ref();
        let quota = status.quota();
        let heard = status.own.iter().chain(status.others.values().flatten());
        let cluster = heard.map(|says| says.cluster).next().or(status.agreed.map(|agreed| agreed.cluster));
        Self {
            version: VERSION,
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
        }
    }

    /// Whether a monitoring script should be content with the member of this node. That it starts is for the agent to say:
    /// a command that has just begun to look cannot tell it from one that has failed for hours.
    pub fn is_well(&self) -> bool {
        let starts = self.word.verdict == Verdict::Starting && self.word.by == Judge::Agent;
        self.word.verdict == Verdict::Healthy || starts
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let node = if self.node.is_empty() { "this node" } else { &self.node };
        let since = self.word.since.map_or(String::new(), |since| format!(" for {}", roughly(between(since, self.at))));
        let by = match self.word.by {
            Judge::Agent => "",
            Judge::Command => " (the agent does not run: judged by these looks alone)",
        };
        let _ = writeln!(out, "{} of {node}: {}{since}{by}", self.component, self.word.verdict);
        if let Some(cause) = &self.word.cause {
            let _ = writeln!(out, "  explained by: {cause}");
        }
        let mut facts = table(&["", ""]);
        for (name, value) in self.facts() {
            facts.add_row([name.to_owned(), value]);
        }
        // The first line is the empty header.
        out.extend(lines(&facts).lines().skip(1).map(|line| format!("  {line}\n")));
        if !self.members.is_empty() {
            let _ = write!(out, "\n{}", self.table());
        }
        let whose = |row: &MemberRow| if row.own { "this member".to_owned() } else { row.called() };
        let silent = self.members.iter().filter_map(|row| Some(format!("{}: {}", whose(row), row.silent.as_ref()?)));
        section(&mut out, "Cannot tell", silent);
        section(&mut out, "Evidence", self.word.evidence.iter().cloned());
        section(&mut out, "To be known", self.word.notices.iter().cloned());
        out
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("asked at", self.endpoint.clone())];
        facts.extend(
            self.cluster.iter().map(|cluster| ("cluster", format!("{cluster}, {} members", self.members.len()))),
        );
        facts.push(match &self.quorum {
            Quorum::Agreed { revision } => {
                ("quorum", format!("answers: a linearizable read found revision {revision}"))
            }
            Quorum::NotAgreed { why } => {
                ("quorum", format!("does not answer: {why}; the rest here needs none, and may be behind"))
            }
        });
        let own = self.members.iter().find(|row| row.own).and_then(|row| row.says.as_ref());
        if let Some((bytes, own)) = own.and_then(|own| Some((own.db_bytes?, own))) {
            let of = |part: u64, all: u64| part.saturating_mul(100).checked_div(all).unwrap_or_default();
            let mut size = size::roughly(bytes);
            if let Some(used) = own.db_in_use_bytes {
                let _ = write!(size, ", {} of it in use ({} %)", size::roughly(used), of(used, bytes));
            }
            match self.quota {
                Some(quota) => {
                    let _ = write!(size, "; {} % of its quota of {}", of(bytes, quota), size::roughly(quota));
                }
                None => size.push_str("; its quota is not told"),
            }
            facts.push(("database", size));
        }
        facts.extend(self.growth.iter().map(|growth| ("growth", growth.sentence())));
        facts.extend(self.fsync.iter().map(|latency| ("log on disk", latency.sentence())));
        facts.extend(self.commit.iter().map(|latency| ("database commit", latency.sentence())));
        let pending = self.proposals_pending.map(|pending| format!("{pending} proposals wait"));
        let changes = self.leader_changes.map(|changes| format!("{changes} changes of leader since it started"));
        let raft: Vec<String> = changes.into_iter().chain(pending).collect();
        facts.extend((!raft.is_empty()).then(|| ("raft", raft.join(", "))));
        let alarms: Vec<&str> = own.iter().flat_map(|own| &own.alarms).map(String::as_str).collect();
        let none = own.is_some().then_some("none");
        facts.extend(
            if alarms.is_empty() { none.map(str::to_owned) } else { Some(alarms.join(", ")) }.map(|a| ("alarms", a)),
        );
        facts
    }

    fn table(&self) -> String {
        let mut table = table(&[
            "MEMBER",
            "ID",
            "ROLE",
            "VERSION",
            "TERM",
            "RAFT INDEX",
            "APPLIED",
            "REVISION",
            "SIZE",
            "IN USE",
            "ERRORS",
        ]);
        for row in &self.members {
            let dash = || "-".to_owned();
            let told = |of: &dyn Fn(&Says) -> Option<String>| row.says.as_ref().and_then(of).unwrap_or_else(dash);
            table.add_row([
                if row.own { format!("{} (here)", row.called()) } else { row.called() },
                row.id.clone().unwrap_or_else(dash),
                row.role.clone().unwrap_or_else(|| "does not answer".to_owned()),
                told(&|says| Some(says.version.clone())),
                told(&|says| Some(says.term.to_string())),
                told(&|says| Some(says.raft_index.to_string())),
                told(&|says| Some(says.applied_index?.to_string())),
                told(&|says| Some(says.revision.to_string())),
                told(&|says| Some(size::roughly(says.db_bytes?))),
                told(&|says| Some(size::roughly(says.db_in_use_bytes?))),
                told(&|says| {
                    let all: Vec<&str> = says.alarms.iter().chain(&says.errors).map(String::as_str).collect();
                    (!all.is_empty()).then(|| all.join("; "))
                }),
            ]);
        }
        lines(&table)
    }
}

impl MemberRow {
    fn called(&self) -> String {
        match (self.name.as_str(), self.own) {
            ("", true) => "this member".to_owned(),
            ("", false) => self.peer_urls.first().cloned().unwrap_or("never started".to_owned()),
            (name, _) => name.to_owned(),
        }
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn quorum(status: &EtcdStatus) -> Quorum {
    if let Some(agreed) = status.agreed {
        return Quorum::Agreed { revision: agreed.revision };
    }
    let why = status.not_agreed.as_ref().or(status.silent.as_ref()).map(ToString::to_string);
    Quorum::NotAgreed { why: why.unwrap_or_else(|| "it was not asked".to_owned()) }
}

/// Every member that anybody lists: the cluster's own list, or one that was written down before.
fn rows(status: &EtcdStatus, known: Option<(u64, &[Member])>) -> Vec<MemberRow> {
    let own = status.own.as_ref().map(|own| own.member).or(status.agreed.map(|agreed| agreed.member));
    let own = own.or(known.map(|(own, _)| own));
    let listed = status.members.as_deref().or(status.members_elsewhere.as_deref());
    let listed = listed.or(known.map(|(_, members)| members)).unwrap_or_default();
    let row = |member: &Member| {
        let is_own = Some(member.id) == own;
        let says =
            if is_own { status.own.as_ref() } else { status.others.get(&member.id).and_then(|o| o.as_ref().ok()) };
        let why =
            if is_own { status.silent.as_ref() } else { status.others.get(&member.id).and_then(|o| o.as_ref().err()) };
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
        let says = status.own.as_ref();
        rows.push(MemberRow {
            id: own.map(hex),
            name: String::new(),
            own: true,
            role: says.map(|says| role(says, false)),
            client_urls: Vec::new(),
            peer_urls: Vec::new(),
            says: says.map(|says| says_of(says, status)),
            silent: says.is_none().then(|| silent(status.silent.as_ref())),
        });
    }
    rows.sort_by_key(|row| (!row.own, row.name.clone()));
    rows
}

fn silent(why: Option<&Symptom>) -> String {
    why.map_or_else(|| "it was not asked: nobody told how it is reached".to_owned(), ToString::to_string)
}

fn role(says: &MemberStatus, listed_as_learner: bool) -> String {
    match says.leader {
        _ if says.learner || listed_as_learner => "learner",
        Some(leader) if leader == says.member => "leader",
        Some(_) => "follower",
        None => "no leader",
    }
    .to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::{Agreed, Alarm, AlarmKind, Metrics};
    use crate::model::reading::SymptomKind;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn member(id: u64, name: &str) -> Member {
        let url = |port| vec![format!("https://10.0.0.{id}:{port}")];
        Member { id, name: name.into(), peer_urls: url(2380), client_urls: url(2379), learner: false }
    }

    fn says(id: u64) -> MemberStatus {
        MemberStatus {
            version: "3.5.16".into(),
            cluster: 0xc1,
            member: id,
            leader: Some(1),
            term: 4,
            raft_index: 120,
            applied_index: Some(119),
            revision: 90,
            db_size: Some(40 << 20),
            db_in_use: Some(10 << 20),
            quota: None,
            learner: false,
            alarms: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn word(verdict: Verdict) -> Word {
        let evidence = vec!["it says so".to_owned()];
        Word { verdict, since: Some(at(-7200)), by: Judge::Agent, evidence, cause: None, notices: Vec::new() }
    }

    /// Three members: the first leads, the second answers, the third hangs.
    fn three() -> EtcdStatus {
        let hung = Symptom::new(SymptomKind::TimedOut, "10.0.0.3:2379 took the connection and did not answer");
        let every = Latency {
            count: 5000,
            p50: Within { above: Duration::ZERO, at_most: Some(Duration::from_millis(1)) },
            p99: Within { above: Duration::from_millis(4), at_most: Some(Duration::from_millis(8)) },
        };
        EtcdStatus {
            target: "https://127.0.0.1:2379".into(),
            own: Some(says(1)),
            agreed: Some(Agreed { cluster: 0xc1, member: 1, term: 4, revision: 91 }),
            members: Some(vec![member(3, "m3"), member(2, "m2"), member(1, "m1")]),
            others: [(2, Ok(says(2))), (3, Err(hung))].into(),
            metrics: Some(Metrics {
                every_fsync: Some(every),
                quota: Some(2 << 30),
                leader_changes: Some(2),
                fsync: vec![Duration::from_millis(16)],
                ..Metrics::default()
            }),
            ..EtcdStatus::default()
        }
    }

    fn view(status: &EtcdStatus, known: Option<(u64, &[Member])>) -> EtcdView {
        let component = ComponentId::system("etcd");
        let growth = Some(Growth { from: 20 << 20, to: 40 << 20, over: Duration::from_secs(36000) });
        let word = word(Verdict::Healthy);
        EtcdView::new(Looked { at: at(0), node: "m1", component: &component, word, status, known, growth })
    }

    #[test]
    fn every_member_has_a_row_and_one_that_hangs_has_its_reason() {
        let view = view(&three(), None);
        let rows: Vec<_> = view.members.iter().map(|row| (row.name.as_str(), row.own, row.role.as_deref())).collect();
        assert_eq!(rows, [("m1", true, Some("leader")), ("m2", false, Some("follower")), ("m3", false, None)]);
        assert!(view.members[2].silent.as_ref().unwrap().contains("did not answer"), "{:?}", view.members[2]);
        assert_eq!(view.quorum, Quorum::Agreed { revision: 91 });
        assert_eq!((view.cluster.as_deref(), view.quota), (Some("c1"), Some(2 << 30)));
        assert_eq!(view.growth.as_ref().unwrap().reaches_quota_in_seconds, Some(2008 * 1800));
        let text = view.text();
        for words in [
            "etcd of m1: Healthy for 2h\n",
            "answers: a linearizable read found revision 91",
            "40 MiB, 10 MiB of it in use (25 %); 1 % of its quota of 2.0 GiB",
            "half at most 1 ms, 99 in 100 at most 8 ms, of 5000 since it started; just now 99 in 100 only within more \
             than 16 ms",
            "m1 (here)",
            "does not answer",
            "m3: 10.0.0.3:2379 took the connection",
            "alarms       none",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<EtcdView>(&json).unwrap(), view);
    }

    #[test]
    fn without_a_quorum_the_rest_is_told_all_the_same() {
        let mut status = three();
        let why = Symptom::new(SymptomKind::TimedOut, "127.0.0.1:2379 did not agree on a read in time");
        (status.agreed, status.not_agreed) = (None, Some(why));
        let own = status.own.as_mut().unwrap();
        own.leader = None;
        own.alarms = vec![Alarm { member: 2, kind: AlarmKind::NoSpace }];
        let view = view(&status, None);
        assert!(matches!(&view.quorum, Quorum::NotAgreed { why } if why.contains("did not agree")));
        let own = &view.members[0];
        assert_eq!(own.role.as_deref(), Some("no leader"));
        assert_eq!(own.says.as_ref().unwrap().alarms, ["NOSPACE of m2 (https://10.0.0.2:2379)"]);
        assert!(view.text().contains("does not answer: 127.0.0.1:2379 did not agree"), "{}", view.text());
    }

    #[test]
    fn a_member_that_says_nothing_is_a_row_too_and_the_others_are_those_known_before() {
        let refused = || Symptom::new(SymptomKind::Refused, "127.0.0.1:2379 refused the connection");
        let status = EtcdStatus { target: "t".into(), silent: Some(refused()), ..EtcdStatus::default() };
        let alone = view(&status, None);
        assert_eq!(alone.members.len(), 1);
        assert!(alone.members[0].own && alone.members[0].silent.as_ref().unwrap().contains("refused"));
        assert_eq!((alone.cluster, alone.fsync), (None, None));

        let before = [member(1, "m1"), member(2, "m2")];
        let known = view(&status, Some((2, &before)));
        let rows: Vec<_> = known.members.iter().map(|row| (row.name.as_str(), row.own)).collect();
        assert_eq!(rows, [("m2", true), ("m1", false)]);
        assert!(known.text().contains("m1: it was not asked"), "{}", known.text());
    }

    #[test]
    fn a_learner_is_called_one_and_what_is_unwell_is_not_well() {
        let mut status = three();
        status.own.as_mut().unwrap().learner = true;
        assert_eq!(view(&status, None).members[0].role.as_deref(), Some("learner"));
        let mut view = view(&status, None);
        for (verdict, by, well) in [
            (Verdict::Healthy, Judge::Agent, true),
            (Verdict::Healthy, Judge::Command, true),
            (Verdict::Starting, Judge::Agent, true),
            (Verdict::Starting, Judge::Command, false),
            (Verdict::Failing, Judge::Agent, false),
            (Verdict::Unknown, Judge::Agent, false),
        ] {
            (view.word.verdict, view.word.by) = (verdict, by);
            assert_eq!(view.is_well(), well, "{verdict} by {by:?}");
        }
    }
}
