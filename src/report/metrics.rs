//! The status as metrics, in Prometheus' text format (version 0.0.4).
//!
//! Names begin with `lastgood_` and end with their unit; a counter ends with `_total` and starts at zero with each
//! start of the agent. A state has one series per value, of which one is 1. Times are timestamps, never ages: a page
//! may be in a file for a while. An unknown value has no series.

use super::Status;
use super::input::Process;
use super::state::State;
use super::status::{Component, Restarts};
use crate::model::etcd::AlarmKind;
use crate::model::metrics_page::{Kind, Page, seconds, yes};
use crate::model::policy::Mode;
use crate::model::{Step, Verdict};
use crate::peer;
use crate::snapshots;

const VERDICTS: [Verdict; 6] =
    [Verdict::Healthy, Verdict::Starting, Verdict::Failing, Verdict::Stalled, Verdict::Down, Verdict::Unknown];

impl Status {
    pub fn metrics(&self) -> String {
        let mut page = Page::default();
        self.agent(&mut page);
        self.each_component(&mut page);
        self.etcds(&mut page);
        if let Some(snapshots) = &self.snapshots {
            snapshots::metrics(snapshots, &mut page);
        }
        if let Some(peers) = &self.peers {
            peer::metrics(peers, &mut page);
        }
        page.into_text()
    }

    fn agent(&self, page: &mut Page) {
        let info = vec![("version", self.agent.version.clone()), ("node", self.node.clone())];
        page.metric("build_info", Kind::Gauge, "The version of the agent, and its node.", [(info, yes(true))]);
        let running = matches!(self.agent.process, Process::Running { .. });
        page.one(
            "agent_running",
            Kind::Gauge,
            "Whether the agent runs; if it does not, the other values may be stale.",
            yes(running),
        );
        if let Process::Running { since, .. } = self.agent.process {
            page.one("agent_start_time_seconds", Kind::Gauge, "When the agent started.", seconds(since));
        }
        page.one(
            "observing_only",
            Kind::Gauge,
            "Whether the agent only observes (mode = \"observe\").",
            yes(self.mode == Mode::Observe),
        );
        page.one("paused", Kind::Gauge, "Whether the operator paused it.", yes(self.pause.is_some()));
        page.one("holds", Kind::Gauge, "Other inhibitors that keep the agent from acting.", self.holds.len());
        page.one("notices", Kind::Gauge, "Notices for the operator; `lastgood status` shows them.", self.notices.len());
        let services = [("kubelet", self.restarts.kubelet), ("runtime", self.restarts.runtime)];
        let each = |of: fn(Restarts) -> usize| {
            services.map(|(name, restarts)| (vec![("service", name.to_owned())], of(restarts).to_string()))
        };
        page.metric(
            "service_restarts_spent",
            Kind::Gauge,
            "Restarts of the kubelet or the container runtime within the last hour, or since `lastgood resume`.",
            each(|restarts| restarts.spent),
        );
        page.metric(
            "service_restarts_left",
            Kind::Gauge,
            "Restarts of the kubelet or the container runtime that are left this hour.",
            each(|restarts| restarts.left),
        );
        let verdicts = self.services.iter().flat_map(|of| {
            VERDICTS.map(|verdict| {
                let service = of.component.name().to_owned();
                (
                    vec![("service", service), ("verdict", verdict.to_string().to_lowercase())],
                    yes(of.verdict == verdict),
                )
            })
        });
        page.metric(
            "service_verdict",
            Kind::Gauge,
            "The health of the kubelet and of the container runtime: 1 for the current verdict.",
            verdicts,
        );
        let exits = self
            .services
            .iter()
            .map(|of| (vec![("service", of.component.name().to_owned())], of.exits.unwrap_or_default().to_string()));
        page.metric(
            "service_exits",
            Kind::Gauge,
            "How often its process ended in the last minutes, while it ends again and again; otherwise 0.",
            exits,
        );
        let Some(figures) = &self.figures else { return };
        page.one("passes_total", Kind::Counter, "Rounds of observe, judge, decide, act.", figures.passes);
        if let Some(at) = figures.last_pass {
            page.one("last_pass_timestamp_seconds", Kind::Gauge, "When the last pass began.", seconds(at));
            let took = format!("{:.6}", std::time::Duration::from_micros(figures.last_pass_micros).as_secs_f64());
            page.one("last_pass_duration_seconds", Kind::Gauge, "How long the last pass took.", took);
        }
        for (name, help, counted) in [
            ("actions_total", "Steps that changed the node, by kind.", &figures.done),
            ("action_failures_total", "Steps that failed to change the node.", &figures.failed),
        ] {
            let count = |kind: &str| counted.get(kind).copied().unwrap_or_default().to_string();
            let series = Step::KINDS_ON_NODE.map(|kind| (vec![("action", kind.to_owned())], count(kind)));
            page.metric(name, Kind::Counter, help, series);
        }
    }

    fn each_component(&self, page: &mut Page) {
        let named = |c: &Component| ("component", c.component.to_string());
        let all = || self.components.iter();
        let verdicts = all().flat_map(|c| {
            VERDICTS.map(|verdict| {
                (vec![named(c), ("verdict", verdict.to_string().to_lowercase())], yes(c.verdict == verdict))
            })
        });
        page.metric("component_verdict", Kind::Gauge, "Its health: 1 for the current verdict.", verdicts);
        let states = all().flat_map(|c| {
            State::ALL.map(|state| (vec![named(c), ("state", state.to_string())], yes(c.state == state)))
        });
        page.metric("component_state", Kind::Gauge, "Its state: 1 for the current one.", states);
        let held = all().map(|c| (vec![named(c)], yes(c.held.is_some())));
        page.metric("component_held", Kind::Gauge, "Whether it is held until the operator acts.", held);
        let number = |of: fn(&Component) -> Option<u32>| {
            self.components.iter().filter_map(move |c| Some((vec![named(c)], of(c)?.to_string())))
        };
        page.metric("component_generation", Kind::Gauge, "The generation that is deployed.", number(|c| c.generation));
        page.metric(
            "component_known_good_generation",
            Kind::Gauge,
            "The known-good generation that it would be rolled back to.",
            number(|c| c.known_good),
        );
        let left = all().map(|c| (vec![named(c)], c.actions_left.to_string()));
        page.metric("component_actions_left", Kind::Gauge, "Actions that may be taken on it within the hour.", left);
    }

    fn etcds(&self, page: &mut Page) {
        let wrong = self.wrong_data.iter().map(|wrong| {
            let labels = vec![("component", wrong.component.to_string()), ("kind", wrong.kind.word().to_owned())];
            (labels, "1".to_owned())
        });
        page.metric(
            "etcd_wrong_data",
            Kind::Gauge,
            "1 while it serves other data than those on record (empty, foreign, older, unclear).",
            wrong,
        );
        let Some(figures) = &self.figures else { return };
        let all = || figures.etcd.iter().map(|(id, etcd)| (vec![("component", id.to_string())], etcd));
        let up = all().map(|(labels, etcd)| (labels, yes(etcd.answers)));
        page.metric("etcd_up", Kind::Gauge, "Whether the member of this node reports its status.", up);
        let quorum = all().map(|(labels, etcd)| (labels, yes(etcd.quorum)));
        page.metric("etcd_quorum", Kind::Gauge, "Whether a linearizable read through it succeeds.", quorum);
        let led = all().filter_map(|(labels, etcd)| Some((labels, yes(etcd.has_leader?))));
        page.metric("etcd_has_leader", Kind::Gauge, "Whether it knows a leader.", led);
        let members = all().filter_map(|(labels, etcd)| Some((labels, etcd.members?.to_string())));
        page.metric("etcd_members", Kind::Gauge, "Members of its cluster.", members);
        let size = all().filter_map(|(labels, etcd)| Some((labels, etcd.db_bytes?.to_string())));
        page.metric("etcd_database_bytes", Kind::Gauge, "The size of its database.", size);
        let used = all().filter_map(|(labels, etcd)| Some((labels, etcd.db_in_use_bytes?.to_string())));
        page.metric("etcd_database_in_use_bytes", Kind::Gauge, "The part of its database that is in use.", used);
        let quota = all().filter_map(|(labels, etcd)| Some((labels, etcd.quota_bytes?.to_string())));
        page.metric("etcd_database_quota_bytes", Kind::Gauge, "The database size at which etcd refuses writes.", quota);
        let forecast = all().filter_map(|(labels, etcd)| Some((labels, etcd.quota_reached_in_seconds?.to_string())));
        page.metric(
            "etcd_database_quota_reached_in_seconds",
            Kind::Gauge,
            "Time until its database reaches the quota at the growth rate of the last hours; absent if it does not \
             grow.",
            forecast,
        );
        let known = [AlarmKind::NoSpace, AlarmKind::Corrupt].map(|kind| kind.to_string());
        let alarms = all().filter(|(_, etcd)| etcd.answers).flat_map(|(labels, etcd)| {
            let kinds = known.iter().chain(etcd.alarms.iter().filter(|kind| !known.contains(kind)));
            let one = |kind: &String| {
                let labels = labels.iter().cloned().chain([("alarm", kind.clone())]).collect();
                (labels, yes(etcd.alarms.contains(kind)))
            };
            kinds.map(one).collect::<Vec<_>>()
        });
        page.metric("etcd_alarm", Kind::Gauge, "Whether a member has raised this alarm.", alarms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use jiff::Timestamp;

    use super::super::counters::{Counters, EtcdCounters};
    use super::super::input::Agent;
    use super::super::status::{HeldView, Notice, PauseView, ProofView, RestartsView};
    use crate::model::overall::Overall;
    use crate::model::{ComponentId, Role};
    use crate::snapshots::view::{NewestView, RemoteView, SnapshotsView};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn status() -> Status {
        let component = |name: &str, verdict, state: State| Component {
            component: ComponentId::system(name),
            role: Role::Etcd,
            verdict,
            since: None,
            state,
            proof: ProofView::KnownGood,
            generation: Some(3),
            known_good: Some(2),
            actions_left: 4,
            pinned: None,
            note: String::new(),
            next: String::new(),
            trial: None,
            replacement: None,
            held: None,
        };
        let mut figures = Counters::default();
        figures.passed(at(50), Duration::from_millis(12));
        figures.done(&Step::RestartKubelet);
        for _ in 0..2 {
            figures.failed(&Step::RestartKubelet);
        }
        figures.etcd = BTreeMap::from([(
            ComponentId::system("etcd"),
            EtcdCounters {
                answers: true,
                quorum: false,
                has_leader: Some(true),
                members: Some(3),
                db_bytes: Some(2048),
                db_in_use_bytes: Some(1024),
                quota_bytes: Some(4096),
                quota_reached_in_seconds: Some(3600),
                alarms: BTreeSet::from(["CORRUPT".to_owned(), "LATER".to_owned()]),
            },
        )]);
        // Another that says nothing of itself.
        let silent = EtcdCounters { quorum: true, has_leader: Some(false), ..EtcdCounters::default() };
        figures.etcd.insert(ComponentId::system("events"), silent);
        let newest =
            NewestView { file: "a".into(), at: at(-60), age_seconds: 60, revision: 7, bytes: 99, verified: at(-50) };
        Status {
            services: Vec::new(),
            wrong_data: None,
            at: at(60),
            node: "m\"1\\\n".into(),
            overall: Overall::Good,
            sentence: String::new(),
            agent: Agent { process: Process::Running { pid: 1, since: at(0) }, version: "0.1.0".into() },
            mode: Mode::Observe,
            pause: Some(PauseView { until: at(90), seconds_left: 30, reason: String::new() }),
            holds: vec!["a".into(), "b".into()],
            restarts: RestartsView { kubelet: Restarts { spent: 1, left: 1 }, runtime: Restarts { spent: 0, left: 1 } },
            components: vec![
                component("etcd", Verdict::Healthy, State::Steady),
                Component {
                    held: Some(HeldView { why: String::new(), next_step: String::new() }),
                    ..component("kube-apiserver", Verdict::Down, State::Held)
                },
            ],
            notices: (0..5).map(|_| Notice { component: None, text: String::new() }).collect(),
            peers: None,
            snapshots: Some(SnapshotsView {
                enabled: true,
                directory: "/s".into(),
                newest: Some(newest.clone()),
                late: true,
                verified: 2,
                unverified: vec!["b".into()],
                damaged: vec!["d".into()],
                checked: Some(at(-80)),
                undecryptable: None,
                bytes: 400,
                failed: None,
                remote: Some(RemoteView {
                    url: "s3://b".into(),
                    newest: Some(NewestView { at: at(-70), ..newest }),
                    behind: true,
                    verified: 6,
                    unverified: vec!["c".into()],
                    looked: None,
                    failing_since: Some(at(5)),
                    failed: Some("SlowDown".into()),
                }),
            }),
            figures: Some(figures),
            last: Vec::new(),
        }
    }

    /// The names of all metrics of a page.
    fn families(page: &str) -> BTreeSet<&str> {
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    /// The value of a series.
    fn value<'p>(page: &'p str, series: &str) -> Option<&'p str> {
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }

    #[test]
    fn every_figure_is_there_under_its_name() {
        let page = status().metrics();
        let mut told = BTreeSet::new();
        for (series, wanted) in [
            (r#"lastgood_build_info{version="0.1.0",node="m\"1\\\n"}"#, "1"),
            ("lastgood_agent_running", "1"),
            ("lastgood_agent_start_time_seconds", "1800000000.000"),
            ("lastgood_observing_only", "1"),
            ("lastgood_paused", "1"),
            ("lastgood_holds", "2"),
            ("lastgood_notices", "5"),
            (r#"lastgood_service_restarts_spent{service="kubelet"}"#, "1"),
            (r#"lastgood_service_restarts_left{service="kubelet"}"#, "1"),
            (r#"lastgood_service_restarts_spent{service="runtime"}"#, "0"),
            (r#"lastgood_service_restarts_left{service="runtime"}"#, "1"),
            ("lastgood_passes_total", "1"),
            ("lastgood_last_pass_timestamp_seconds", "1800000050.000"),
            ("lastgood_last_pass_duration_seconds", "0.012000"),
            (r#"lastgood_actions_total{action="restart-kubelet"}"#, "1"),
            (r#"lastgood_actions_total{action="put-in"}"#, "0"),
            (r#"lastgood_action_failures_total{action="restart-kubelet"}"#, "2"),
            (r#"lastgood_action_failures_total{action="put-in"}"#, "0"),
            (r#"lastgood_component_verdict{component="etcd",verdict="healthy"}"#, "1"),
            (r#"lastgood_component_verdict{component="kube-apiserver",verdict="healthy"}"#, "0"),
            (r#"lastgood_component_verdict{component="kube-apiserver",verdict="down"}"#, "1"),
            (r#"lastgood_component_state{component="kube-apiserver",state="Held"}"#, "1"),
            (r#"lastgood_component_held{component="kube-apiserver"}"#, "1"),
            (r#"lastgood_component_held{component="etcd"}"#, "0"),
            (r#"lastgood_component_generation{component="etcd"}"#, "3"),
            (r#"lastgood_component_known_good_generation{component="etcd"}"#, "2"),
            (r#"lastgood_component_actions_left{component="etcd"}"#, "4"),
            (r#"lastgood_etcd_up{component="etcd"}"#, "1"),
            (r#"lastgood_etcd_database_in_use_bytes{component="etcd"}"#, "1024"),
            (r#"lastgood_etcd_members{component="etcd"}"#, "3"),
            (r#"lastgood_etcd_has_leader{component="events"}"#, "0"),
            (r#"lastgood_etcd_quorum{component="events"}"#, "1"),
            (r#"lastgood_etcd_quorum{component="etcd"}"#, "0"),
            (r#"lastgood_etcd_up{component="events"}"#, "0"),
            (r#"lastgood_etcd_has_leader{component="etcd"}"#, "1"),
            (r#"lastgood_etcd_database_bytes{component="etcd"}"#, "2048"),
            (r#"lastgood_etcd_database_quota_bytes{component="etcd"}"#, "4096"),
            (r#"lastgood_etcd_database_quota_reached_in_seconds{component="etcd"}"#, "3600"),
            (r#"lastgood_etcd_alarm{component="etcd",alarm="NOSPACE"}"#, "0"),
            (r#"lastgood_etcd_alarm{component="etcd",alarm="CORRUPT"}"#, "1"),
            (r#"lastgood_etcd_alarm{component="etcd",alarm="LATER"}"#, "1"),
            ("lastgood_snapshot_newest_verified_timestamp_seconds", "1799999940.000"),
            ("lastgood_snapshots_verified", "2"),
            ("lastgood_snapshot_late", "1"),
            ("lastgood_snapshot_newest_verified_revision", "7"),
            ("lastgood_snapshot_newest_verified_bytes", "99"),
            ("lastgood_snapshots_enabled", "1"),
            ("lastgood_snapshots_unverified", "1"),
            ("lastgood_snapshots_damaged", "1"),
            ("lastgood_snapshots_oldest_check_timestamp_seconds", "1799999920.000"),
            ("lastgood_etcd_values_undecryptable", "0"),
            ("lastgood_snapshots_bytes", "400"),
            ("lastgood_snapshot_failing", "0"),
            ("lastgood_snapshot_remote_behind", "1"),
            ("lastgood_snapshots_remote_verified", "6"),
            ("lastgood_snapshot_remote_newest_verified_timestamp_seconds", "1799999930.000"),
            ("lastgood_snapshots_remote_unverified", "1"),
            ("lastgood_snapshot_remote_failing", "1"),
        ] {
            assert_eq!(value(&page, series), Some(wanted), "{series} in\n{page}");
            told.extend(series.split('{').next());
        }
        assert_eq!(told, families(&page), "each of them has its value looked at above");
        for unknown in ["members", "database_bytes", "database_in_use_bytes", "database_quota_bytes", "alarm"] {
            let series = format!("lastgood_etcd_{unknown}{{component=\"events\"");
            assert!(!page.contains(&series), "what is not known has no series: {series}");
        }
    }

    #[test]
    fn one_verdict_and_one_state_of_each_component_holds() {
        let page = status().metrics();
        for metric in ["lastgood_component_verdict{", "lastgood_component_state{"] {
            let holding = page.lines().filter(|line| line.starts_with(metric) && line.ends_with(" 1")).count();
            assert_eq!(holding, 2, "of {metric}\n{page}");
        }
    }

    #[test]
    fn without_an_agent_nothing_is_counted() {
        let mut status = status();
        (status.figures, status.snapshots) = (None, None);
        status.agent.process = Process::Stopped;
        let page = status.metrics();
        assert_eq!(value(&page, "lastgood_agent_running"), Some("0"));
        assert!(!page.contains("_total") && !page.contains("lastgood_etcd") && !page.contains("snapshot"), "{page}");
    }

    /// The format's own rules: each metric once, with its help and type before it, named as Prometheus names them.
    #[test]
    fn the_page_is_well_formed() {
        let page = status().metrics();
        let mut seen = BTreeSet::new();
        let mut current = String::new();
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(seen.insert(name.to_owned()) && !words.is_empty(), "{name} twice");
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                current = name.to_owned();
                continue;
            }
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, current, "{line}");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
        assert!(page.ends_with('\n'));
    }
}
