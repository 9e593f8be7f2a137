//! The status of an etcd member and its cluster, requested in a separate task, so that it delays no probe.
//!
//! ```text
//!   connect ─▶ Status, members, linearizable reads ─────┐ concurrently, each with its own deadline
//!   /metrics ───────────────────────────────────────────┼─▶ EtcdStatus
//!   Status of the members known since the last round ───┤
//!   if this one does not answer, or knows no leader: ───┘
//!     the others' own linearizable reads and member lists, and whether they accept its peer certificate
//! ```
//!
//! One of the linearizable reads is for Namespace kube-system (store.rs). A round with a changed result is followed by
//! another one at once (pace.rs).
//!
//! What the other members agree on while this one does not answer is the proof that they do not need it (Q10).
//!
//! The alarms are taken from the errors of Status, which every version from 3.4 on lists there: an alarm list is a
//! proposal to the whole cluster, and observe only reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::StatusResponse;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::super::tempo::Tempo;
use super::etcd::{Etcd, EtcdEndpoint};
use super::http::{self, Get};
use super::pace::{AWAITED, Answered, Next, SOON};
use super::scrape::Scrapes;
use super::security::{Security, Trust};
use super::url::Url;
use super::{ROUNDS, connect};
use crate::config::settings;
use crate::model::etcd::{Agreed, Alarm, EtcdStatus, Member, MemberStatus};
use crate::model::reading::SymptomKind;
use crate::model::{ComponentId, Reading, Symptom};
use crate::sys::clock;

/// Whom to ask, and where its metrics are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct MemberQuestion {
    /// The member of this node.
    pub(in crate::observe) way: EtcdEndpoint,
    /// Its /metrics.
    pub(in crate::observe) metrics: Get,
    /// As what it comes to its peers, and whom it takes there.
    pub(in crate::observe) peer: Security,
    /// Under which prefix the API server keeps its objects there.
    pub(in crate::observe) prefix: String,
}

/// The tasks, by component.
#[derive(Debug)]
pub(in crate::observe) struct Members {
    settings: settings::Probes,
    /// Wakes the agent, which takes the answers.
    news: Arc<Notify>,
    tempo: Tempo,
    tasks: BTreeMap<ComponentId, Asking>,
}

#[derive(Debug)]
struct Asking {
    ask: MemberQuestion,
    answer: Arc<Mutex<Option<EtcdStatus>>>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Members {
    /// Nobody asked yet. `news` is notified of each answer that says something new, and of the one that confirms it: a
    /// pass that comes in its turn would see one of the two.
    pub(in crate::observe) fn new(settings: settings::Probes, news: Arc<Notify>, tempo: Tempo) -> Self {
        Self { settings, news, tempo, tasks: BTreeMap::new() }
    }

    /// Asks these from now on, and no others. One that is being asked already goes on.
    pub(in crate::observe) fn plan(&mut self, wanted: BTreeMap<ComponentId, MemberQuestion>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (id, ask) in wanted {
            let known = before.remove(&id).filter(|asking| asking.ask == ask);
            let asking = known
                .unwrap_or_else(|| Asking::start(ask, &self.settings, (Arc::clone(&self.news), self.tempo.clone())));
            self.tasks.insert(id, asking);
        }
    }

    /// Whom is asked, and how.
    pub(in crate::observe) fn asks(&self) -> impl Iterator<Item = (&ComponentId, &MemberQuestion)> {
        self.tasks.iter().map(|(id, asking)| (id, &asking.ask))
    }

    /// How each of them is reached.
    pub(in crate::observe) fn ways(&self) -> impl Iterator<Item = (&ComponentId, &EtcdEndpoint)> {
        self.tasks.iter().map(|(id, asking)| (id, &asking.ask.way))
    }

    /// The latest answers that are not too old to say anything.
    pub(in crate::observe) fn answers(&self) -> BTreeMap<ComponentId, EtcdStatus> {
        let oldest = ROUNDS * (self.settings.interval + self.settings.timeout);
        let now = clock::since_boot();
        let latest = |asking: &Asking| {
            let answer = asking.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            answer.filter(|status| now.saturating_sub(status.at) <= oldest)
        };
        self.tasks.iter().filter_map(|(id, asking)| Some((id.clone(), latest(asking)?))).collect()
    }
}

impl Asking {
    fn start(ask: MemberQuestion, settings: &settings::Probes, news: (Arc<Notify>, Tempo)) -> Self {
        let answer = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(keep_asking(ask.clone(), Arc::clone(&answer), news, settings.interval, settings.timeout));
        Self { ask, answer, _task: task }
    }
}

async fn keep_asking(
    ask: MemberQuestion,
    answer: Arc<Mutex<Option<EtcdStatus>>>,
    (news, tempo): (Arc<Notify>, Tempo),
    interval: Duration,
    timeout: Duration,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut rounds, mut answered, mut last) = (Rounds::default(), Answered::default(), Next::InTurn);
    let (mut repeated, mut agreed) = (0_u32, false);
    loop {
        ticks.tick().await;
        let mut status = rounds.next(&ask, timeout).await;
        let next = answered.then(&status);
        // Only behind an agreed read is all applied that was committed before: a Status from before the first one may report
        // an index from before the member's start.
        repeated = match (&status.agreed, next) {
            (Err(_), _) => 0,
            (Ok(_), Next::Soon) => 1,
            (Ok(_), Next::InTurn) => repeated.saturating_add(1),
        };
        status.repeated = repeated;
        let is_down = status.own.is_err() && rounds.known.is_empty();
        let agrees = status.own.is_ok() && status.agreed.is_ok() && status.others.values().all(Result::is_ok);
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        if next == Next::Soon {
            ticks.reset_after(SOON.min(interval));
        } else if is_down {
            ticks.reset_after(AWAITED.min(interval));
        }
        if agreed && !agrees {
            // The probes that judge it ask at once, whatever the node looked like until now.
            tempo.raise();
        }
        agreed = agrees;
        if [last, next].contains(&Next::Soon) {
            news.notify_one();
        }
        last = next;
    }
}

/// Between the two rounds of [`at_once`]: what etcd writes in a second tells how its disk does now.
const APART: Duration = Duration::from_secs(1);

/// Asks two rounds of questions and no more, for whoever does not stay to watch. `known` are the members as they were
/// known before, and the ID of the one that is asked: a member that says nothing names nobody.
pub(in crate::observe) async fn at_once(
    ask: &MemberQuestion,
    known: Option<(u64, Vec<Member>)>,
    timeout: Duration,
) -> EtcdStatus {
    let mut rounds = Rounds::default();
    if let Some((own, members)) = known.filter(|(_, members)| !members.is_empty()) {
        rounds.known = members.iter().filter(|member| member.id != own).cloned().collect();
        (rounds.own, rounds.all) = (Some(own), Some(members));
    }
    let first = rounds.next(ask, timeout).await;
    tokio::time::sleep(APART).await;
    let mut status = rounds.next(ask, timeout).await;
    // What it said once it knows.
    status.members = status.members.or(first.members);
    status
}

/// What one round leaves for the next.
#[derive(Debug, Default)]
struct Rounds {
    scrapes: Scrapes,
    all: Option<Vec<Member>>,
    known: Vec<Member>,
    about: About,
    own: Option<u64>,
}

impl Rounds {
    /// Asks the member, the others and its metrics, concurrently.
    async fn next(&mut self, ask: &MemberQuestion, timeout: Duration) -> EtcdStatus {
        let (deadline, about) = (Instant::now() + timeout, self.about);
        let (status, others, peers_refuse, metrics) = tokio::join!(
            look(&ask.way, &ask.prefix, deadline),
            others(&ask.way, &self.known, about, deadline),
            peers(&ask.peer, &self.known, about, deadline),
            http::get(&ask.metrics, deadline)
        );
        let metrics = match metrics {
            Ok(page) if page.status == 200 => Some(self.scrapes.take(&String::from_utf8_lossy(&page.body))),
            // A process that does not answer is asked again, and then perhaps another one: no difference of the two.
            _ => {
                self.scrapes = Scrapes::default();
                None
            }
        };
        let mut status = EtcdStatus { metrics, peers_refuse, ..with_others(status, about, others) };
        // It lists itself even where it was too slow to say who it is.
        self.own = status.member().or(self.own);
        if let Some(members) = status.members.as_ref().filter(|_| self.own.is_some()) {
            self.known = members.iter().filter(|member| Some(member.id) != self.own).cloned().collect();
            self.all = Some(members.clone());
        } else if status.members_elsewhere.is_none() {
            status.members_elsewhere.clone_from(&self.all);
        }
        self.about = if status.own.is_err() || status.is_leaderless() { About::TheCluster } else { About::Themselves };
        status
    }
}

/// Asks the member itself once. Public to the probes for their tests.
pub(super) async fn look(way: &EtcdEndpoint, prefix: &str, deadline: Instant) -> EtcdStatus {
    let mut status = EtcdStatus { target: way.to_string(), ..EtcdStatus::default() };
    match Etcd::connect(way, deadline).await {
        Ok(etcd) => {
            let (own, members, agreed, store) = tokio::join!(
                etcd.status(deadline),
                etcd.members(deadline),
                etcd.agreed(deadline),
                etcd.store(prefix, deadline)
            );
            status.members = members.ok();
            status.store = store;
            status.agreed = agreed.map_err(Symptom::from);
            status.own = own.map_err(Symptom::from);
        }
        Err(reading) => {
            let why = Symptom::from(reading);
            (status.own, status.agreed) = (Err(why.clone()), Err(why));
        }
    }
    status.at = clock::since_boot();
    status
}

/// What the others are asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum About {
    /// How they do.
    #[default]
    Themselves,
    /// Whether they have a quorum, and who belongs to the cluster, too.
    TheCluster,
}

/// What another member said.
#[derive(Debug)]
struct Other {
    status: MemberStatus,
    agreed: Option<Agreed>,
    members: Option<Vec<Member>>,
}

/// Asks the others, concurrently: the certificate of an API server is good for every member of its cluster.
async fn others(
    way: &EtcdEndpoint,
    known: &[Member],
    about: About,
    deadline: Instant,
) -> BTreeMap<u64, Result<Other, Symptom>> {
    let mut asking = JoinSet::new();
    for member in known {
        let (id, ways) = (member.id, ways_to(way, member));
        asking.spawn(async move { (id, other(&ways, about, deadline).await) });
    }
    let mut answers = BTreeMap::new();
    while let Some(answer) = asking.join_next().await {
        if let Ok((id, status)) = answer {
            answers.insert(id, status);
        }
    }
    answers
}

fn with_others(status: EtcdStatus, about: About, others: BTreeMap<u64, Result<Other, Symptom>>) -> EtcdStatus {
    let mut status = status;
    let mut elsewhere = BTreeMap::new();
    for (id, other) in others {
        let other = other.map(|Other { status: said, agreed, members }| {
            // A list counts from one that has a quorum: the others may be behind.
            if let Some(agreed) = agreed {
                elsewhere.insert(id, agreed);
                status.members_elsewhere = members.or(status.members_elsewhere.take());
            }
            said
        });
        status.others.insert(id, other);
    }
    status.elsewhere = (about == About::TheCluster).then_some(elsewhere);
    status
}

pub(super) fn ways_to(way: &EtcdEndpoint, member: &Member) -> Vec<EtcdEndpoint> {
    let urls = member.client_urls.iter().filter_map(|url| Url::parse(url));
    urls.map(|url| {
        let security = match (&way.security, url.https) {
            (Security::Tls { .. }, true) => way.security.clone(),
            (Security::Plain, true) => Security::Tls { identities: Vec::new(), trust: Trust::Anyone },
            (_, false) => Security::Plain,
        };
        EtcdEndpoint { address: url.address, security }
    })
    .collect()
}

async fn other(ways: &[EtcdEndpoint], about: About, deadline: Instant) -> Result<Other, Symptom> {
    let mut why = Symptom::new(SymptomKind::NoMeans, "it has advertised no client URL");
    for way in ways {
        let answer = match Etcd::connect(way, deadline).await {
            Ok(etcd) => all_of(&etcd, about, deadline).await,
            Err(reading) => Err(reading),
        };
        match answer {
            Ok(other) => return Ok(other),
            Err(reading) => why = reading.into(),
        }
    }
    Err(why)
}

async fn all_of(etcd: &Etcd<'_>, about: About, deadline: Instant) -> Result<Other, Reading> {
    if about == About::Themselves {
        return Ok(Other { status: etcd.status(deadline).await?, agreed: None, members: None });
    }
    let (status, members, agreed) = tokio::join!(etcd.status(deadline), etcd.members(deadline), etcd.agreed(deadline));
    Ok(Other { status: status?, agreed: agreed.ok(), members: members.ok() })
}

/// Who of the others and this member do not take each other's peer certificates. They are asked as it asks them.
async fn peers(security: &Security, known: &[Member], about: About, deadline: Instant) -> BTreeMap<u64, Symptom> {
    let mut refused = BTreeMap::new();
    if about == About::Themselves || *security == Security::Plain {
        return refused;
    }
    let mut asking = JoinSet::new();
    for member in known {
        for url in member.peer_urls.iter().filter_map(|url| Url::parse(url)).filter(|url| url.https) {
            let (id, security) = (member.id, security.clone());
            let (path, headers) = ("/version".to_owned(), Vec::new());
            let get = Get { address: url.address, security, path, headers, max_body: http::MAX_BODY };
            asking.spawn(async move { (id, http::get(&get, deadline).await) });
        }
    }
    while let Some(asked) = asking.join_next().await {
        let Ok((id, Err(Reading::Bad(symptom) | Reading::CannotTell(symptom)))) = asked else { continue };
        // What does not answer at all has told nothing about certificates.
        if matches!(symptom.kind, SymptomKind::Tls | SymptomKind::CertificateDates) {
            refused.insert(id, symptom);
        }
    }
    refused
}

/// A Status, read. Numbers that a version does not send arrive as zero.
pub(super) fn of_response(way: &EtcdEndpoint, response: &StatusResponse) -> Result<MemberStatus, Reading> {
    let told = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let Some(header) = response.header() else {
        let words = format!("{way} answered Status without a header");
        return Err(Reading::Bad(Symptom::new(SymptomKind::WrongBody, words)));
    };
    let (alarms, errors): (Vec<_>, Vec<_>) =
        response.errors().iter().map(|error| Alarm::parse(error).ok_or_else(|| error.clone())).partition(Result::is_ok);
    Ok(MemberStatus {
        version: response.version().to_owned(),
        cluster: header.cluster_id(),
        member: header.member_id(),
        leader: Some(response.leader()).filter(|leader| *leader != 0),
        term: response.raft_term(),
        raft_index: response.raft_index(),
        applied_index: Some(response.raft_applied_index()).filter(|index| *index != 0),
        revision: header.revision(),
        db_size: told(response.db_size()),
        db_in_use: told(response.raft_used_db_size()),
        quota: told(response.db_size_quota()),
        learner: response.is_learner(),
        alarms: alarms.into_iter().flatten().collect(),
        errors: errors.into_iter().filter_map(Result::err).collect(),
    })
}

impl Etcd<'_> {
    pub(super) async fn status(&self, deadline: Instant) -> Result<MemberStatus, Reading> {
        let mut client = self.client().maintenance_client();
        match timeout_at(deadline, client.status()).await {
            Ok(Ok(response)) => of_response(self.way(), &response),
            Ok(Err(error)) => Err(self.meaning(error)),
            Err(_) => Err(connect::timed_out(&self.way().address, "accepted a Status request and did not answer")),
        }
    }

    /// The members, as this one knows them.
    pub(super) async fn members(&self, deadline: Instant) -> Result<Vec<Member>, Reading> {
        let mut client = self.client().cluster_client();
        let response = match timeout_at(deadline, client.member_list()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.meaning(error)),
            Err(_) => return Err(connect::timed_out(&self.way().address, "did not list the members in time")),
        };
        let member = |member: &etcd_client::Member| Member {
            id: member.id(),
            name: member.name().to_owned(),
            peer_urls: member.peer_urls().to_vec(),
            client_urls: member.client_urls().to_vec(),
            learner: member.is_learner(),
        };
        Ok(response.members().iter().map(member).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::AlarmKind;

    #[test]
    fn alarms_stand_among_the_errors_in_whatever_spacing_protobuf_prints_them() {
        let alarm = |member, kind| Some(Alarm { member, kind });
        assert_eq!(Alarm::parse("memberID:17 alarm:NOSPACE "), alarm(17, AlarmKind::NoSpace));
        assert_eq!(Alarm::parse("memberID:17  alarm:CORRUPT"), alarm(17, AlarmKind::Corrupt));
        assert_eq!(Alarm::parse("alarm:NOSPACE"), alarm(0, AlarmKind::NoSpace));
        assert_eq!(Alarm::parse("memberID:1 alarm:LATER"), alarm(1, AlarmKind::Other("LATER".into())));
        assert_eq!(Alarm::parse("etcdserver: no leader"), None);
        assert_eq!(Alarm::parse("memberID:x alarm:NOSPACE"), None);
    }
}
