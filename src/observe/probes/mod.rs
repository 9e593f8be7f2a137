//! Probes: one task per probe, each with its own clock and deadline, so that a stalled peer delays no other.
//!
//! ```text
//!   manifests ──plan──▶ probes ─────a task each──▶ latest answers ──▶ a pass takes the latest
//!                            ▲                          │ too old
//!                            └── every interval         ▼
//!                                                   cannot tell
//! ```

pub(super) mod connect;
pub(super) mod security;

mod clients;
pub(super) mod etcd;
mod files;
pub(super) mod http;
pub(super) mod member;
mod noted_stream;
mod pace;
pub(super) mod peer;
pub(super) mod plan;
pub(super) mod reach;
pub(super) mod scrape;
pub(super) mod snapshot_stream;
mod store;
pub(super) mod tls;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use self::http::Get;
use self::plan::{Fallback, ProbeKind, ProbeSpec};
use super::probes::security::Security;
use super::tempo::{Purpose, Tempo};
use crate::config::settings;
use crate::model::reading::{Question, SymptomKind};
use crate::model::{ComponentId, Probe, Reading, Symptom};
use crate::sys::clock;

/// An answer counts for this many rounds; then its task is stuck, and it says nothing any more.
pub(super) const ROUNDS: u32 = 3;

/// The tasks, by component.
#[derive(Debug)]
pub(super) struct Probes {
    settings: settings::Probes,
    tempo: Tempo,
    tasks: BTreeMap<ComponentId, Vec<Asking>>,
}

/// A question that is being asked.
#[derive(Debug)]
struct Asking {
    ask: ProbeSpec,
    answer: Arc<Mutex<Option<Probe>>>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Probes {
    /// Nothing asked yet.
    pub(super) fn new(settings: settings::Probes, tempo: Tempo) -> Self {
        Self { settings, tempo, tasks: BTreeMap::new() }
    }

    /// Asks these questions from now on, and no others. One that is being asked already goes on.
    pub(super) fn plan(&mut self, wanted: BTreeMap<ComponentId, Vec<ProbeSpec>>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (id, asks) in wanted {
            let mut known = before.remove(&id).unwrap_or_default();
            let asking = asks.into_iter().map(|ask| match known.iter().position(|asking| asking.ask == ask) {
                Some(at) => known.swap_remove(at),
                None => Asking::start(ask, &self.settings, &self.tempo),
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
    fn start(ask: ProbeSpec, settings: &settings::Probes, tempo: &Tempo) -> Self {
        let answer = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(keep_asking(ask.clone(), Arc::clone(&answer), settings.clone(), tempo.clone()));
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
            None => cannot_tell(now, format!("{} has not completed its first probe yet", self.ask.how)),
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

async fn keep_asking(ask: ProbeSpec, answer: Arc<Mutex<Option<Probe>>>, settings: settings::Probes, tempo: Tempo) {
    let asked = if ask.question == Question::Live { Purpose::Liveness } else { Purpose::Other };
    loop {
        let began = Instant::now();
        let probe = put(&ask, settings.timeout).await;
        let good = probe.reading == Reading::Good;
        let before = answer.lock().unwrap_or_else(PoisonError::into_inner).replace(probe);
        // What was never good ends no calm: it was no reason against one.
        if !good && before.is_some_and(|before| before.reading == Reading::Good) {
            tempo.raise();
        }
        tempo.rest(began, asked, &settings).await;
    }
}

pub(super) async fn put(ask: &ProbeSpec, timeout: Duration) -> Probe {
    let began = Instant::now();
    let deadline = began + timeout;
    let reading = match &ask.how {
        ProbeKind::Http { get, expect, more } => by_http(ask.question, get, *expect, *more, deadline).await,
        ProbeKind::EtcdAlone(way) => etcd::live(way, deadline).await,
        ProbeKind::EtcdQuorum(way) => etcd::quorum(way, deadline).await,
        ProbeKind::EtcdAsDependent(ways) => etcd::as_dependent(ways, deadline).await,
        ProbeKind::Tcp(address) => {
            connect::tcp(address, deadline).await.map_or_else(|reading| reading, |_| Reading::Good)
        }
        ProbeKind::NoMeans(why) => Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, why.clone())),
    };
    Probe {
        question: ask.question,
        target: ask.how.to_string(),
        reading,
        at: clock::since_boot(),
        took: began.elapsed(),
    }
}

async fn by_http(question: Question, get: &Get, expect: http::Expect, more: Fallback, deadline: Instant) -> Reading {
    let mut answer = http::get(get, deadline).await;
    let certificate = answer.as_ref().ok().and_then(|answer| answer.certificate.clone());
    if more == Fallback::Kubernetes {
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

impl fmt::Display for ProbeKind {
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

#[cfg(test)]
mod tests {
    use super::connect::Address;
    use super::http::{Expect, MAX_BODY};
    use super::security::Trust;
    use super::*;
    use crate::observe::testing::{Canned, Pki, Server};

    /// Short, and still long enough for a busy machine.
    const TIMEOUT: Duration = Duration::from_millis(1500);

    fn get(port: u16, path: &str, security: Security) -> Get {
        let address = Address { host: "127.0.0.1".into(), port };
        Get { address, security, path: path.into(), headers: Vec::new(), max_body: MAX_BODY }
    }

    fn tls() -> Security {
        Security::Tls { identities: Vec::new(), trust: Trust::Anyone }
    }

    async fn ask(question: Question, get: Get, expect: Expect) -> Reading {
        let how = ProbeKind::Http { get, expect, more: Fallback::Kubernetes };
        put(&ProbeSpec { question, how }, TIMEOUT).await.reading
    }

    fn bad(reading: &Reading) -> SymptomKind {
        match reading {
            Reading::Bad(symptom) => symptom.kind,
            other => panic!("{other:?}"),
        }
    }

    fn unknown(reading: &Reading) -> SymptomKind {
        match reading {
            Reading::CannotTell(symptom) => symptom.kind,
            other => panic!("{other:?}"),
        }
    }

    fn answers(path: &str) -> Canned {
        match path {
            "/livez" => (200, "ok"),
            "/verbose" => (200, "[+]ping ok\n[+]etcd ok\nreadyz check passed\n"),
            "/readyz" => (500, "not ready"),
            "/readyz?verbose" => {
                (500, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]kms-provider-0 failed\nreadyz check failed")
            }
            "/wrong" => (200, "<html>welcome to nginx</html>"),
            "/moved" => (302, ""),
            "/health" => (200, "{\"health\":\"true\",\"reason\":\"\"}"),
            "/health-old" => (200, "{\"health\": true}"),
            "/leaderless" => (503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}"),
            "/etcd-readyz" => (503, "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: x\n"),
            "/corrupt" => (503, "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}"),
            "/secret" => (403, "Forbidden"),
            "/busy" => (429, "Too many requests"),
            _ => (404, "404 page not found"),
        }
    }

    #[tokio::test]
    async fn an_answer_means_what_it_says() {
        let server = Server::start(None, answers).await;
        let at = |path: &str| get(server.port, path, Security::Plain);
        assert_eq!(ask(Question::Live, at("/livez"), Expect::Ok).await, Reading::Good);
        assert_eq!(ask(Question::Live, at("/verbose"), Expect::Ok).await, Reading::Good);
        assert_eq!(ask(Question::Live, at("/moved"), Expect::Success).await, Reading::Good);
        assert_eq!(ask(Question::Live, at("/wrong"), Expect::Success).await, Reading::Good);
        assert_eq!(ask(Question::Ready, at("/health"), Expect::EtcdHealth).await, Reading::Good);
        assert_eq!(ask(Question::Ready, at("/health-old"), Expect::EtcdHealth).await, Reading::Good);

        let ready = ask(Question::Ready, at("/readyz"), Expect::Ok).await;
        assert_eq!(bad(&ready), SymptomKind::Unhealthy);
        let words = ready.symptom().unwrap().to_string();
        assert!(words.contains("etcd, kms-provider-0"), "{words}");
        assert_eq!(bad(&ask(Question::Live, at("/wrong"), Expect::Ok).await), SymptomKind::WrongBody);
        assert_eq!(bad(&ask(Question::Live, at("/nothing"), Expect::Ok).await), SymptomKind::WrongBody);
        assert_eq!(bad(&ask(Question::Live, at("/busy"), Expect::Ok).await), SymptomKind::Unhealthy);
        assert_eq!(bad(&ask(Question::Live, at("/nothing"), Expect::Success).await), SymptomKind::Unhealthy);
        assert_eq!(bad(&ask(Question::Ready, at("/leaderless"), Expect::EtcdHealth).await), SymptomKind::ClusterWide);
        assert_eq!(bad(&ask(Question::Ready, at("/etcd-readyz"), Expect::EtcdHealth).await), SymptomKind::ClusterWide);
        assert_eq!(bad(&ask(Question::Ready, at("/corrupt"), Expect::EtcdHealth).await), SymptomKind::Unhealthy);
        assert_eq!(unknown(&ask(Question::Live, at("/secret"), Expect::Ok).await), SymptomKind::Unauthorized);
    }

    #[tokio::test]
    async fn each_stage_has_its_own_word() {
        let free = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        assert_eq!(bad(&ask(Question::Live, get(free, "/", tls()), Expect::Ok).await), SymptomKind::Refused);

        // The kernel takes the connection, and nobody is there: a stopped process.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        for security in [tls(), Security::Plain] {
            let began = Instant::now();
            assert_eq!(bad(&ask(Question::Live, get(port, "/", security), Expect::Ok).await), SymptomKind::TimedOut);
            assert!(began.elapsed() < TIMEOUT + Duration::from_millis(500), "{:?}", began.elapsed());
        }

        let plain = Server::start(None, answers).await;
        let crossed = ask(Question::Live, get(plain.port, "/livez", tls()), Expect::Ok).await;
        assert_eq!(bad(&crossed), SymptomKind::Tls, "{crossed:?}");

        let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closing.local_addr().unwrap().port();
        let closer = tokio::spawn(async move { closing.accept().await.map(drop) });
        let cut = ask(Question::Live, get(port, "/livez", Security::Plain), Expect::Ok).await;
        assert_eq!(bad(&cut), SymptomKind::Broken, "{cut:?}");
        closer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn certificates_are_taken_as_they_are_and_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("server", "ca", 5);
        pki.sign("expired", "ca", -1);
        pki.sign("client", "ca", 5);
        pki.authority("other");
        pki.sign("stranger", "other", 5);

        let server = Server::start(Some(pki.server("server", None)), answers).await;
        let ready = |port| get(port, "/livez", tls());
        assert_eq!(ask(Question::Ready, ready(server.port), Expect::Ok).await, Reading::Good, "signed by whomever");
        let verified =
            |authority: &str| Security::Tls { identities: Vec::new(), trust: Trust::Authority(pki.path(authority)) };
        assert_eq!(
            ask(Question::Live, get(server.port, "/livez", verified("ca.crt")), Expect::Ok).await,
            Reading::Good
        );
        let foreign = ask(Question::Live, get(server.port, "/livez", verified("other.crt")), Expect::Ok).await;
        assert_eq!(bad(&foreign), SymptomKind::Tls, "{foreign:?}");
        let absent = ask(Question::Live, get(server.port, "/livez", verified("none.crt")), Expect::Ok).await;
        assert_eq!(unknown(&absent), SymptomKind::NoMeans, "{absent:?}");

        let stale = Server::start(Some(pki.server("expired", None)), answers).await;
        assert_eq!(ask(Question::Live, ready(stale.port), Expect::Ok).await, Reading::Good, "it lives");
        let symptom = ask(Question::Ready, ready(stale.port), Expect::Ok).await;
        assert_eq!(bad(&symptom), SymptomKind::CertificateDates);
        assert!(symptom.symptom().unwrap().detail.contains("expired on"), "{symptom:?}");
        let symptom = ask(Question::Live, get(stale.port, "/livez", verified("ca.crt")), Expect::Ok).await;
        assert_eq!(bad(&symptom), SymptomKind::CertificateDates, "{symptom:?}");

        let strict = Server::start(Some(pki.server("server", Some("ca"))), answers).await;
        let as_whom = |names: &[&str]| Security::Tls {
            identities: names.iter().map(|name| pki.identity(name)).collect(),
            trust: Trust::Anyone,
        };
        let ask_as =
            async |names: &[&str]| ask(Question::Live, get(strict.port, "/livez", as_whom(names)), Expect::Ok).await;
        assert_eq!(ask_as(&["client"]).await, Reading::Good);
        assert_eq!(ask_as(&["missing", "expired", "client"]).await, Reading::Good, "the first that can be used");
        assert_eq!(unknown(&ask_as(&["stranger"]).await), SymptomKind::Tls, "not taken, but alive");
        assert_eq!(unknown(&ask_as(&["expired"]).await), SymptomKind::CertificateDates);
        assert_eq!(unknown(&ask_as(&[]).await), SymptomKind::Tls);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_grew_old_says_nothing() {
        let settings = settings::Probes { interval: Duration::from_secs(2), timeout: Duration::from_secs(5) };
        let probe = Probe {
            question: Question::Live,
            target: "x".into(),
            reading: Reading::Good,
            at: Duration::from_secs(100),
            took: Duration::ZERO,
        };
        let ask = ProbeSpec { question: Question::Live, how: ProbeKind::NoMeans("x".into()) };
        let asking = Asking { ask, answer: Arc::new(Mutex::new(Some(probe))), _task: JoinSet::new() };
        let oldest = ROUNDS * (settings.interval + settings.timeout);
        assert_eq!(asking.latest(Duration::from_secs(121), oldest).reading, Reading::Good);
        assert_eq!(unknown(&asking.latest(Duration::from_secs(122), oldest).reading), SymptomKind::TimedOut);
    }

    #[tokio::test]
    async fn a_question_that_stays_goes_on_and_one_that_goes_ends() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::start(None, answers).await;
        let settings = settings::Probes { interval: Duration::from_millis(20), timeout: Duration::from_secs(30) };
        let mut probes = Probes::new(settings, Tempo::new(Arc::default()));
        let ask = |port| ProbeSpec {
            question: Question::Live,
            how: ProbeKind::Http {
                get: get(port, "/livez", Security::Plain),
                expect: Expect::Ok,
                more: Fallback::Nothing,
            },
        };
        let (a, b) = (ComponentId::system("a"), ComponentId::system("b"));
        let hung = silent.local_addr().unwrap().port();
        probes.plan([(a.clone(), vec![ask(server.port)]), (b.clone(), vec![ask(hung)])].into());
        assert_eq!(unknown(&probes.answers()[&a][0].reading), SymptomKind::TimedOut, "not asked yet");
        let until = Instant::now() + Duration::from_secs(10);
        while probes.answers()[&a][0].reading != Reading::Good {
            assert!(Instant::now() < until, "a hung peer delays nobody");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(unknown(&probes.answers()[&b][0].reading), SymptomKind::TimedOut);
        probes.plan([(a.clone(), vec![ask(server.port)])].into());
        assert_eq!(probes.answers()[&a][0].reading, Reading::Good, "it was not begun anew");
        assert!(!probes.answers().contains_key(&b));
    }
}
