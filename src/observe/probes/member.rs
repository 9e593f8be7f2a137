//! What an etcd member tells of itself and its cluster, asked in a task of its own: no answer of it delays a probe.
//!
//! ```text
//!   connect ─▶ Status, member list, linearizable read ─┐ each with the deadline of one answer, beside each other
//!   /metrics ───────────────────────────────────────────┼─▶ EtcdStatus
//!   Status of the members known since the last round ───┘
//! ```
//!
//! The alarms are taken from the errors of Status, which every version lists there from 3.4 on: an alarm list is a
//! proposal to the whole cluster, and this room only reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::StatusResponse;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::ROUNDS;
use super::connect::{self, Security};
use super::etcd::{Etcd, Way};
use super::http::{self, Get};
use super::plan::Url;
use super::scrape::Scrapes;
use crate::config::settings;
use crate::model::etcd::{Alarm, EtcdStatus, Member, MemberStatus};
use crate::model::reading::SymptomKind;
use crate::model::{ComponentId, Reading, Symptom};
use crate::sys::clock;

/// Whom to ask, and where its metrics are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct Ask {
    /// The member of this node.
    pub(in crate::observe) way: Way,
    /// Its /metrics.
    pub(in crate::observe) metrics: Get,
}

/// The tasks, by component.
#[derive(Debug)]
pub(in crate::observe) struct Members {
    settings: settings::Probes,
    tasks: BTreeMap<ComponentId, Asking>,
}

#[derive(Debug)]
struct Asking {
    ask: Ask,
    answer: Arc<Mutex<Option<EtcdStatus>>>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Members {
    /// Nobody asked yet.
    pub(in crate::observe) fn new(settings: settings::Probes) -> Self {
        Self { settings, tasks: BTreeMap::new() }
    }

    /// Asks these from now on, and no others. One that is being asked already goes on.
    pub(in crate::observe) fn plan(&mut self, wanted: BTreeMap<ComponentId, Ask>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (id, ask) in wanted {
            let known = before.remove(&id).filter(|asking| asking.ask == ask);
            let asking = known.unwrap_or_else(|| Asking::start(ask, &self.settings));
            self.tasks.insert(id, asking);
        }
    }

    /// How each of them is reached.
    pub(in crate::observe) fn ways(&self) -> impl Iterator<Item = (&ComponentId, &Way)> {
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
    fn start(ask: Ask, settings: &settings::Probes) -> Self {
        let answer = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(keep_asking(ask.clone(), Arc::clone(&answer), settings.interval, settings.timeout));
        Self { ask, answer, _task: task }
    }
}

async fn keep_asking(ask: Ask, answer: Arc<Mutex<Option<EtcdStatus>>>, interval: Duration, timeout: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut scrapes = Scrapes::default();
    let mut known: Vec<Member> = Vec::new();
    loop {
        ticks.tick().await;
        let deadline = Instant::now() + timeout;
        let (status, others, metrics) = tokio::join!(
            look(&ask.way, deadline),
            others(&ask.way, &known, deadline),
            http::get(&ask.metrics, deadline)
        );
        let metrics = match metrics {
            Ok(page) if page.status == 200 => Some(scrapes.take(&String::from_utf8_lossy(&page.body))),
            // A process that does not answer is asked again, and then perhaps another one: no difference of the two.
            _ => {
                scrapes = Scrapes::default();
                None
            }
        };
        if let Some(members) = &status.members {
            let own = status.own.as_ref().map(|own| own.member);
            known = members.iter().filter(|member| Some(member.id) != own).cloned().collect();
        }
        let status = EtcdStatus { others, metrics, ..status };
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

/// Asks the member itself once. Public to the probes for their tests.
pub(super) async fn look(way: &Way, deadline: Instant) -> EtcdStatus {
    let mut status = EtcdStatus {
        target: way.to_string(),
        at: clock::since_boot(),
        own: None,
        silent: None,
        agreed: None,
        members: None,
        others: BTreeMap::new(),
        metrics: None,
    };
    match Etcd::connect(way, deadline).await {
        Ok(etcd) => {
            let (own, members, agreed) =
                tokio::join!(etcd.status(deadline), etcd.members(deadline), etcd.agreed(deadline));
            status.members = members.ok();
            status.agreed = agreed.ok();
            match own {
                Ok(own) => status.own = Some(own),
                Err(reading) => status.silent = reading.symptom().cloned(),
            }
        }
        Err(reading) => status.silent = reading.symptom().cloned(),
    }
    status.at = clock::since_boot();
    status
}

/// Asks the others, beside each other: the certificate of an API server is good for every member of its cluster.
async fn others(way: &Way, known: &[Member], deadline: Instant) -> BTreeMap<u64, Result<MemberStatus, Symptom>> {
    let mut asking = JoinSet::new();
    for member in known {
        let (id, ways) = (member.id, ways_to(way, member));
        asking.spawn(async move { (id, other(&ways, deadline).await) });
    }
    let mut answers = BTreeMap::new();
    while let Some(answer) = asking.join_next().await {
        if let Ok((id, status)) = answer {
            answers.insert(id, status);
        }
    }
    answers
}

fn ways_to(way: &Way, member: &Member) -> Vec<Way> {
    let urls = member.client_urls.iter().filter_map(|url| Url::parse(url));
    urls.map(|url| {
        let security = match (&way.security, url.https) {
            (Security::Tls { .. }, true) => way.security.clone(),
            (Security::Plain, true) => Security::Tls { identities: Vec::new(), trust: connect::Trust::Anyone },
            (_, false) => Security::Plain,
        };
        Way { address: url.address, security }
    })
    .collect()
}

async fn other(ways: &[Way], deadline: Instant) -> Result<MemberStatus, Symptom> {
    let mut why = Symptom::new(SymptomKind::NoMeans, "it has told no address for clients");
    for way in ways {
        let answer = match Etcd::connect(way, deadline).await {
            Ok(etcd) => etcd.status(deadline).await,
            Err(reading) => Err(reading),
        };
        match answer {
            Ok(status) => return Ok(status),
            Err(reading) => why = reading.symptom().cloned().unwrap_or(why),
        }
    }
    Err(why)
}

/// A Status, read. Numbers that a version does not send arrive as nought.
pub(super) fn of_response(way: &Way, response: &StatusResponse) -> Result<MemberStatus, Reading> {
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
    /// Maintenance.Status.
    pub(super) async fn status(&self, deadline: Instant) -> Result<MemberStatus, Reading> {
        let mut client = self.client().maintenance_client();
        match timeout_at(deadline, client.status()).await {
            Ok(Ok(response)) => of_response(self.way(), &response),
            Ok(Err(error)) => Err(self.meaning(error)),
            Err(_) => Err(connect::timed_out(&self.way().address, "took a question for its status and did not answer")),
        }
    }

    /// The members, as this one knows them.
    async fn members(&self, deadline: Instant) -> Result<Vec<Member>, Reading> {
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
