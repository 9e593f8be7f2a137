//! The certificate that each component of the control plane shows: what its process has in memory, whatever is on disk.
//! A handshake in every minute, separate from the probes, whose answers say nothing of the certificate's identity.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::credentials::Described;
use super::probes::connect::{self, Address};
use super::probes::plan::{ProbeKind, ProbeSpec};
use super::probes::security::Security;
use crate::model::ComponentId;

/// A certificate is renewed once a year, and read again within a minute by whatever does so.
const INTERVAL: Duration = Duration::from_secs(60);

/// A certificate that was shown, and when.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) certificate: Described,
    pub(super) at: Timestamp,
}

/// Where a component shows its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsTarget {
    address: Address,
    security: Security,
}

/// The handshakes, one task for each component.
#[derive(Debug)]
pub(super) struct Served {
    timeout: Duration,
    tasks: BTreeMap<ComponentId, Looking>,
}

#[derive(Debug)]
struct Looking {
    place: TlsTarget,
    shown: Arc<Mutex<Option<Shown>>>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

impl Served {
    /// Nothing looked at yet.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, tasks: BTreeMap::new() }
    }

    /// Looks at these components from now on, and at no others: where they are asked by TLS.
    pub(super) fn plan(&mut self, asks: &BTreeMap<ComponentId, Vec<ProbeSpec>>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (id, asks) in asks {
            let Some(place) = asks.iter().find_map(place) else { continue };
            let known = before.remove(id).filter(|known| known.place == place);
            let looking = known.unwrap_or_else(|| Looking::start(place, self.timeout));
            self.tasks.insert(id.clone(), looking);
        }
    }

    /// What each showed last.
    pub(super) fn shown(&self) -> BTreeMap<ComponentId, Shown> {
        let of = |looking: &Looking| looking.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.tasks.iter().filter_map(|(id, looking)| Some((id.clone(), of(looking)?))).collect()
    }
}

/// Where this question is asked by TLS.
fn place(ask: &ProbeSpec) -> Option<TlsTarget> {
    let (address, security) = match &ask.how {
        ProbeKind::Http { get, .. } => (&get.address, &get.security),
        ProbeKind::EtcdAlone(way) => (&way.address, &way.security),
        _ => return None,
    };
    let tls = matches!(security, Security::Tls { .. });
    tls.then(|| TlsTarget { address: address.clone(), security: security.clone() })
}

impl Looking {
    fn start(place: TlsTarget, timeout: Duration) -> Self {
        let shown = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(keep_looking(place.clone(), Arc::clone(&shown), timeout));
        Self { place, shown, _task: task }
    }
}

async fn keep_looking(place: TlsTarget, shown: Arc<Mutex<Option<Shown>>>, timeout: Duration) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let at = Timestamp::now();
        let opened = connect::connect(&place.address, &place.security, b"", Instant::now() + timeout).await;
        // A process that could not be looked at shows what it did before, or nothing: it may have ended.
        let seen = opened.ok().and_then(|connection| connection.shown);
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = seen.map(|certificate| Shown { certificate, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reading::Question;
    use crate::observe::probes::http::{Expect, Get, MAX_BODY};
    use crate::observe::probes::plan::Fallback;
    use crate::observe::probes::security::Trust;
    use crate::observe::testing::{Pki, Server};

    #[tokio::test]
    async fn the_certificate_is_the_one_of_the_handshake() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("server", "ca", 5);
        let server = Server::start(Some(pki.server("server", None)), |_| (200, "ok")).await;
        let id = ComponentId::system("kube-apiserver");
        let ask = |security| ProbeSpec {
            question: Question::Live,
            how: ProbeKind::Http {
                get: Get {
                    address: Address { host: "127.0.0.1".into(), port: server.port },
                    security,
                    path: "/livez".into(),
                    headers: Vec::new(),
                    max_body: MAX_BODY,
                },
                expect: Expect::Ok,
                more: Fallback::Nothing,
            },
        };
        let tls = Security::Tls { identities: Vec::new(), trust: Trust::Anyone };
        let mut served = Served::new(Duration::from_secs(5));
        served.plan(&[(id.clone(), vec![ask(Security::Plain)])].into());
        assert!(served.tasks.is_empty(), "nothing is shown there");
        for _ in 0..200 {
            served.plan(&[(id.clone(), vec![ask(Security::Plain), ask(tls.clone())])].into());
            if let Some(shown) = served.shown().get(&id) {
                assert_eq!(shown.certificate.subject, "server");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing was shown");
    }
}
