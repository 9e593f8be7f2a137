//! Probes: one task per question, each with its own clock and deadline, so that one hung peer delays nobody.
//!
//! ```text
//!   manifests ──plan──▶ questions ──a task each──▶ latest answers ──▶ a pass takes what is there
//!                            ▲                          │ too old
//!                            └── every interval         ▼
//!                                                   cannot tell
//! ```

pub(super) mod connect;
pub(super) mod etcd;
pub(super) mod http;
pub(super) mod plan;
pub(super) mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::connect::Security;
use self::http::Get;
use self::plan::{Ask, How, More};
use crate::config::settings;
use crate::model::reading::{Question, SymptomKind};
use crate::model::{ComponentId, Probe, Reading, Symptom};
use crate::sys::clock;

/// An answer counts for this many rounds; then its task is stuck, and it says nothing any more.
const ROUNDS: u32 = 3;

/// The tasks, by component.
#[derive(Debug)]
pub(super) struct Probes {
    settings: settings::Probes,
    tasks: BTreeMap<ComponentId, Vec<Asking>>,
}

/// A question that is being asked.
#[derive(Debug)]
struct Asking {
    ask: Ask,
    answer: Arc<Mutex<Option<Probe>>>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Probes {
    /// Nothing asked yet.
    pub(super) fn new(settings: settings::Probes) -> Self {
        Self { settings, tasks: BTreeMap::new() }
    }

    /// Asks these questions from now on, and no others. One that is being asked already goes on.
    pub(super) fn plan(&mut self, wanted: BTreeMap<ComponentId, Vec<Ask>>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (id, asks) in wanted {
            let mut known = before.remove(&id).unwrap_or_default();
            let asking = asks.into_iter().map(|ask| match known.iter().position(|asking| asking.ask == ask) {
                Some(at) => known.swap_remove(at),
                None => Asking::start(ask, &self.settings),
            });
            let asking = asking.collect();
            self.tasks.insert(id, asking);
        }
    }

    /// The latest answers.
    pub(super) fn answers(&self) -> BTreeMap<ComponentId, Vec<Probe>> {
        let oldest = ROUNDS * (self.settings.interval + self.settings.timeout);
        let now = clock::since_boot();
        let of = |asking: &Vec<Asking>| asking.iter().map(|asking| asking.latest(now, oldest)).collect();
        self.tasks.iter().map(|(id, asking)| (id.clone(), of(asking))).collect()
    }
}

impl Asking {
    fn start(ask: Ask, settings: &settings::Probes) -> Self {
        let answer = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(keep_asking(ask.clone(), Arc::clone(&answer), settings.interval, settings.timeout));
        Self { ask, answer, _task: task }
    }

    fn latest(&self, now: Duration, oldest: Duration) -> Probe {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cannot_tell = |at, words: String| Probe {
            question: self.ask.question,
            target: self.ask.how.to_string(),
            reading: Reading::CannotTell(Symptom::new(SymptomKind::TimedOut, words)),
            at,
            took: Duration::ZERO,
        };
        match answer {
            None => cannot_tell(now, format!("{} has not been asked to the end yet", self.ask.how)),
            Some(probe) => {
                let age = now.saturating_sub(probe.at);
                if age > oldest {
                    let words = format!("the last answer of {} is {} s old", self.ask.how, age.as_secs());
                    return cannot_tell(probe.at, words);
                }
                probe
            }
        }
    }
}

async fn keep_asking(ask: Ask, answer: Arc<Mutex<Option<Probe>>>, interval: Duration, timeout: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let probe = put(&ask, timeout).await;
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
    }
}

/// Asks once.
pub(super) async fn put(ask: &Ask, timeout: Duration) -> Probe {
    let began = Instant::now();
    let deadline = began + timeout;
    let reading = match &ask.how {
        How::Http { get, expect, more } => by_http(ask.question, get, *expect, *more, deadline).await,
        How::EtcdAlone(way) => etcd::live(way, deadline).await,
        How::EtcdQuorum(way) => etcd::quorum(way, deadline).await,
        How::EtcdAsDependent(ways) => etcd::as_dependent(ways, deadline).await,
        How::Tcp(address) => connect::tcp(address, deadline).await.map_or_else(|reading| reading, |_| Reading::Good),
        How::NoMeans(why) => Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, why.clone())),
    };
    Probe {
        question: ask.question,
        target: ask.how.to_string(),
        reading,
        at: clock::since_boot(),
        took: began.elapsed(),
    }
}

async fn by_http(question: Question, get: &Get, expect: http::Expect, more: More, deadline: Instant) -> Reading {
    let mut answer = http::get(get, deadline).await;
    let certificate = answer.as_ref().ok().and_then(|answer| answer.certificate.clone());
    if more == More::Kubernetes {
        // Health is for everybody by default; a certificate that is not taken must not hide it.
        if answer.as_ref().is_ok_and(|answer| matches!(answer.status, 401 | 403))
            && let Some(get) = anonymously(get)
        {
            answer = http::get(&get, deadline).await.or(answer);
        }
        if answer.as_ref().is_ok_and(http::says_too_little) {
            let verbose = Get { path: format!("{}?verbose", get.path), ..get.clone() };
            answer = match http::get(&verbose, deadline).await {
                Ok(said) if !http::says_too_little(&said) && said.status >= 500 => Ok(said),
                _ => answer,
            };
        }
    }
    let reading = match answer {
        Ok(answer) => http::meaning(get, &answer, expect),
        Err(reading) => reading,
    };
    match (reading, certificate) {
        // It lives; but no client that verifies gets in.
        (Reading::Good, Some(trouble)) if question == Question::Ready => {
            Reading::Bad(Symptom::new(SymptomKind::CertificateDates, format!("{get} answers, and {trouble}")))
        }
        (reading, _) => reading,
    }
}

/// The same question without a certificate, where it came with one.
fn anonymously(get: &Get) -> Option<Get> {
    match &get.security {
        Security::Tls { identities, trust } if !identities.is_empty() => {
            let security = Security::Tls { identities: Vec::new(), trust: trust.clone() };
            Some(Get { security, ..get.clone() })
        }
        _ => None,
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { get, .. } => get.fmt(f),
            Self::EtcdAlone(way) | Self::EtcdQuorum(way) => way.fmt(f),
            Self::EtcdAsDependent(ways) => match ways.first() {
                Some(way) => way.fmt(f),
                None => f.write_str("no address"),
            },
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::NoMeans(_) => f.write_str("nothing to ask"),
        }
    }
}
