//! The kubelet's own probes of the control plane, asked as the kubelet asks them. lastgood's questions are gentler: it
//! comes with a certificate, and it asks etcd by a read that no alarm fails. What fails here and not there is ended by the
//! kubelet again and again while lastgood calls it healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::probes::Probes;
use super::probes::plan::{self, KubeletProbe};
use super::tempo::Tempo;
use crate::config::settings;
use crate::model::kubelet_probe::{AnswersUs, FailingProbe};
use crate::model::reading::{Question, SymptomKind};
use crate::model::{ComponentId, Manifest, Moment, Probe, Reading};

/// The kubelet asks every 10 s by default. More often than this is of no use.
const LEAST_INTERVAL: Duration = Duration::from_secs(5);

/// The questions, and since when each is answered badly.
#[derive(Debug)]
pub(super) struct KubeletProbes {
    probes: Probes,
    timeout: Duration,
    bad_since: BTreeMap<ComponentId, Duration>,
}

impl KubeletProbes {
    /// Nothing asked yet.
    pub(super) fn new(settings: settings::Probes, tempo: Tempo) -> Self {
        let timeout = settings.timeout;
        let interval = settings.interval.max(LEAST_INTERVAL);
        let probes = Probes::new(settings::Probes { interval, ..settings }, tempo);
        Self { probes, timeout, bad_since: BTreeMap::new() }
    }

    /// Asks the probes of these manifests; and those that fail. `ours` are the latest answers to lastgood's questions.
    pub(super) fn look<'a>(
        &mut self,
        manifests: impl Iterator<Item = &'a Manifest>,
        ours: &BTreeMap<ComponentId, Vec<Probe>>,
        now: Moment,
    ) -> BTreeMap<ComponentId, FailingProbe> {
        let wanted: BTreeMap<ComponentId, KubeletProbe> =
            manifests.filter_map(|manifest| Some((manifest.id.clone(), plan::as_the_kubelet(manifest)?))).collect();
        let asks = wanted.iter().map(|(id, probe)| (id.clone(), vec![probe.ask.clone()])).collect();
        self.probes.plan(asks);
        let answers = self.probes.answers();
        let mut failing = BTreeMap::new();
        for (id, probe) in wanted {
            let Some(answer) = answers.get(&id).and_then(|answers| answers.first()) else { continue };
            let Some(why) = self.why(&probe, answer) else {
                if answer.reading == Reading::Good {
                    self.bad_since.remove(&id);
                }
                continue;
            };
            let since = *self.bad_since.entry(id.clone()).or_insert(answer.at);
            let live = |probe: &Probe| probe.question == Question::Live && probe.reading == Reading::Good;
            let answers_us = ours.get(&id).is_some_and(|ours| ours.iter().any(live));
            let failed = FailingProbe {
                field: probe.field,
                target: answer.target.clone(),
                path: probe.path,
                why,
                period: probe.period,
                threshold: probe.threshold,
                failing_for: now.boot.saturating_sub(since),
                answers_us: if answers_us { AnswersUs::Yes } else { AnswersUs::No },
            };
            failing.insert(id, failed);
        }
        self.bad_since.retain(|id, _| answers.contains_key(id));
        failing
    }

    /// What the kubelet holds against an answer.
    fn why(&self, probe: &KubeletProbe, answer: &Probe) -> Option<String> {
        match &answer.reading {
            Reading::Good if answer.took > probe.timeout => Some(format!(
                "it answers after {} ms, and the probe waits {} s",
                answer.took.as_millis(),
                probe.timeout.as_secs()
            )),
            Reading::Good => None,
            // The kubelet may wait longer than lastgood does.
            Reading::Bad(symptom) if symptom.kind == SymptomKind::TimedOut && self.timeout < probe.timeout => None,
            Reading::Bad(symptom) => Some(symptom.detail.clone()),
            Reading::CannotTell(symptom) if symptom.kind == SymptomKind::Unauthorized => {
                Some("it answers 401 or 403, and the kubelet comes without credentials".to_owned())
            }
            Reading::CannotTell(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ComponentId;
    use crate::observe::testing::{Server, manifest_file};
    use crate::sys::clock;

    #[tokio::test]
    async fn a_probe_that_fails_as_the_kubelet_asks_it_is_found_with_what_it_said() {
        let server = Server::start(None, |path| match path {
            "/health" => (503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}"),
            "/health?exclude=NOSPACE&serializable=true" => (200, "{\"health\":\"true\"}"),
            "/secret" => (401, "Unauthorized"),
            _ => (200, "ok"),
        })
        .await;
        let rows = [
            ("/health", Some("ALARM NOSPACE")),
            ("/health?exclude=NOSPACE&serializable=true", None),
            ("/secret", Some("without credentials")),
            ("/livez", None),
        ];
        let etcd = ComponentId::system("etcd");
        for (path, why) in rows {
            let container = format!(
                "command: [etcd], livenessProbe: {{failureThreshold: 8, httpGet: {{host: 127.0.0.1, port: {}, path: \
                 '{path}'}}}}",
                server.port
            );
            let file = manifest_file("etcd", &container);
            let manifest = file.content.as_ref().unwrap();
            let timeout = Duration::from_secs(5);
            let mut probes = KubeletProbes::new(
                settings::Probes { interval: Duration::from_millis(50), timeout },
                Tempo::new(std::sync::Arc::default()),
            );
            let ours = BTreeMap::from([(
                etcd.clone(),
                vec![Probe {
                    question: Question::Live,
                    target: String::new(),
                    reading: Reading::Good,
                    at: Duration::ZERO,
                    took: Duration::ZERO,
                }],
            )]);
            let mut found = None;
            for _ in 0..100 {
                let failing = probes.look([manifest].into_iter(), &ours, clock::now());
                found = failing.get(&etcd).cloned();
                let answered = probes.probes.answers()[&etcd][0].took > Duration::ZERO;
                if answered && (found.is_some() || why.is_none()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            match (why, &found) {
                (None, None) => {}
                (Some(words), Some(failing)) => {
                    assert!(failing.why.contains(words), "{path}: {failing:?}");
                    let kubelet = (failing.field, failing.ends_after(), failing.answers_us);
                    assert_eq!(kubelet, ("livenessProbe", Duration::from_secs(80), AnswersUs::Yes));
                }
                _ => panic!("{path}: {found:?}"),
            }
        }
    }
}
