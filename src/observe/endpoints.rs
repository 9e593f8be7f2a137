//! The API server addresses in the kubeconfigs of this node. An address that is not this node's own API server (a load
//! balancer, a floating address) is probed separately, so that the two can be distinguished.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::probes::Probes;
use super::probes::plan::{self, ProbeSpec};
use super::tempo::Tempo;
use crate::config::settings;
use crate::model::environment::{Accepts, Endpoint, Location, User};
use crate::model::{ComponentId, Moment, Reading};

/// Whom each server is used by, and by which kubeconfig.
pub(super) type Servers = BTreeMap<String, BTreeSet<(User, PathBuf)>>;

/// The questions, and since when each server answers badly.
#[derive(Debug)]
pub(super) struct Endpoints {
    probes: Probes,
    bad_since: BTreeMap<String, Duration>,
}

impl Endpoints {
    /// Nothing asked yet.
    pub(super) fn new(settings: settings::Probes, tempo: Tempo) -> Self {
        Self { probes: Probes::new(settings, tempo), bad_since: BTreeMap::new() }
    }

    /// Asks those of these servers that are not the API server of this node, which listens on these ports; and what each
    /// answered last.
    pub(super) fn look(&mut self, servers: &Servers, own: &BTreeSet<u16>, now: Moment) -> Vec<Endpoint> {
        let foreign: Vec<(&String, ProbeSpec, Location)> = servers
            .keys()
            .filter_map(|server| plan::endpoint(server, own).map(|(ask, place)| (server, ask, place)))
            .collect();
        // Its own little household: no component is called so.
        let id = ComponentId::system("endpoints");
        let connects = ComponentId::system("connections");
        let asks = foreign.iter().map(|(_, ask, _)| ask.clone()).collect();
        let opens = foreign.iter().filter_map(|(_, ask, _)| plan::connection(ask)).collect();
        self.probes.plan([(id.clone(), asks), (connects.clone(), opens)].into());
        let mut all = self.probes.answers();
        let answers = all.remove(&id).unwrap_or_default();
        // A balancer that takes connections and does not answer is another matter than one that is not there.
        let opened = all.remove(&connects).unwrap_or_default();
        let endpoints: Vec<Endpoint> = foreign
            .into_iter()
            .zip(answers.into_iter().zip(opened))
            .map(|((server, _, place), (answer, opened))| {
                let accepts = if opened.reading == Reading::Good { Accepts::Yes } else { Accepts::No };
                let bad_for = match &answer.reading {
                    Reading::Bad(_) => {
                        let since = *self.bad_since.entry(server.clone()).or_insert(answer.at);
                        now.boot.saturating_sub(since)
                    }
                    Reading::Good | Reading::CannotTell(_) => {
                        self.bad_since.remove(server);
                        Duration::ZERO
                    }
                };
                let used = servers.get(server).cloned().unwrap_or_default();
                let (server, reading, at) = (server.clone(), answer.reading, answer.at);
                Endpoint { server, used, place, accepts, reading, at, bad_for }
            })
            .collect();
        self.bad_since.retain(|server, _| endpoints.iter().any(|endpoint| endpoint.server == *server));
        endpoints
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::testing::{Pki, Server};
    use crate::sys::clock;

    fn servers(all: &[&str]) -> Servers {
        let used = BTreeSet::from([(User::Kubelet, PathBuf::from("/etc/kubernetes/kubelet.conf"))]);
        all.iter().map(|server| ((*server).to_owned(), used.clone())).collect()
    }

    #[tokio::test]
    async fn an_address_that_is_not_our_own_api_server_is_asked_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("server", "ca", 5);
        let balancer = Server::start(Some(pki.server("server", None)), |_| (200, "ok")).await;
        let dead = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let (alive, dead) = (format!("https://127.0.0.1:{}", balancer.port), format!("https://localhost:{dead}"));
        let all = servers(&["https://127.0.0.1:6443", &alive, &dead, "nonsense"]);
        let settings = settings::Probes { interval: Duration::from_millis(50), timeout: Duration::from_secs(5) };
        let mut endpoints = Endpoints::new(settings, Tempo::new(Arc::default()));
        let own = BTreeSet::from([6443]);
        for _ in 0..200 {
            let seen = endpoints.look(&all, &own, clock::now());
            assert_eq!(seen.len(), 2, "our own API server is asked as a component, and nonsense not at all: {seen:?}");
            let reading = |server: &str| seen.iter().find(|e| e.server == server).map(|e| e.reading.clone());
            let bad_for = seen.iter().find(|e| e.server == dead).map(|e| e.bad_for).unwrap_or_default();
            if reading(&alive) == Some(Reading::Good) && bad_for > Duration::ZERO {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", endpoints.look(&all, &own, clock::now()));
    }
}
