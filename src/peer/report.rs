//! What this agent reports to the others, made of what its last pass found.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::etcd::bar;
use crate::feature::PassEnd;
use crate::model::memory::{Machine, Pause};
use crate::model::overall::Overall;
use crate::model::peer::{EtcdId, PeerEtcd, PeerPause, PeerRecord, PeerReport};
use crate::model::policy::Mode;
use crate::model::{Digest, EtcdStatus, Role};
use crate::observe::Bounded;

/// For one look at the data directory.
const LOOK: Duration = Duration::from_secs(1);
/// What was found there is good for so long: several peers ask.
const FRESH: Duration = Duration::from_secs(5);

/// What reports are made of.
#[derive(Debug)]
pub(super) struct Reporter {
    node: String,
    machine: Digest,
    mode: Mode,
    known: Mutex<Known>,
    disk: Bounded<()>,
    bar: Mutex<Option<(Instant, Bar)>>,
}

/// What passes found, the latest.
#[derive(Clone, Debug, Default)]
struct Known {
    overall: Option<(Overall, String)>,
    pass: Option<Pass>,
}

/// What one pass found.
#[derive(Clone, Debug)]
struct Pass {
    at: Timestamp,
    pause: Option<Pause>,
    inhibitors: Vec<String>,
    api_server_serves: Option<bool>,
    etcd: PeerEtcd,
    data_dir: Option<PathBuf>,
}

/// Whether the data directory is barred.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bar {
    barred: Option<bool>,
    because: Option<String>,
}

impl Bar {
    fn unknown(why: &str) -> Self {
        Self { barred: None, because: Some(why.to_owned()) }
    }
}

impl Reporter {
    pub(super) fn new(machine: &Machine, mode: Mode) -> Self {
        Self {
            node: machine.node_name.clone(),
            machine: Digest::of_parts([b"lastgood peer report".as_slice(), machine.machine_id.as_bytes()]),
            mode,
            known: Mutex::default(),
            disk: Bounded::new("reading etcd's data directory", ()),
            bar: Mutex::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn note_pass(&self, pass: PassEnd<'_>) {
        let found = Pass::of(pass);
        self.change(|known| known.pass = Some(found));
    }

    pub(super) fn note_status(&self, overall: Overall, sentence: &str) {
        self.change(|known| known.overall = Some((overall, sentence.to_owned())));
    }

    /// The report as of now; nothing before the first pass. It looks at the data directory where etcd says nothing.
    pub(super) async fn report(&self) -> Option<PeerReport> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pass = known.pass.as_ref()?;
        let bar = self.look(pass).await;
        self.made_of(known, bar)
    }

    /// The same by what is known without a look at a disk.
    pub(super) fn last(&self) -> Option<PeerReport> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let looked = self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let serves = known.pass.as_ref()?.etcd.version.is_some();
        let bar = match looked {
            _ if serves => Bar { barred: Some(false), because: None },
            Some((_, bar)) => bar,
            None => Bar::unknown("it was not looked at"),
        };
        self.made_of(known, bar)
    }

    async fn look(&self, pass: &Pass) -> Bar {
        // No etcd runs over a directory that is barred.
        if pass.etcd.version.is_some() {
            return Bar { barred: Some(false), because: None };
        }
        let Some(data_dir) = &pass.data_dir else {
            return Bar::unknown("the manifest does not name the data directory");
        };
        let before = self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, bar)) = before.filter(|(at, _)| at.elapsed() < FRESH) {
            return bar;
        }
        let member = data_dir.join("member");
        let bar = match self.disk.run(LOOK, move |()| bar::reason(&member)).await {
            Ok(reason) => Bar { barred: Some(reason.is_some()), because: reason },
            // Another question looks at this moment, or the disk does not answer.
            Err(why) => return Bar::unknown(&why),
        };
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), bar.clone()));
        bar
    }

    fn made_of(&self, known: Known, bar: Bar) -> Option<PeerReport> {
        let pass = known.pass?;
        let (overall, sentence) = known.overall.map_or((None, String::new()), |(word, said)| (Some(word), said));
        Some(PeerReport {
            at: Timestamp::now(),
            observed: pass.at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            machine: self.machine,
            overall,
            sentence,
            mode: Some(self.mode),
            pause: pass.pause.map(|pause| PeerPause { until: pause.until, reason: pause.reason }),
            inhibitors: pass.inhibitors,
            api_server_serves: pass.api_server_serves,
            etcd: PeerEtcd { barred: bar.barred, barred_because: bar.because, ..pass.etcd },
        })
    }
}

impl Pass {
    fn of(pass: PassEnd<'_>) -> Self {
        let api_server = pass.judged.components.values().find(|assessment| assessment.role == Role::ApiServer);
        let status = pass.member.and_then(|member| pass.seen.etcd.get(&member.component));
        Self {
            at: pass.seen.at.wall,
            pause: pass.memory.pause.clone(),
            inhibitors: pass.inhibitors.iter().map(ToString::to_string).collect(),
            api_server_serves: api_server.map(|assessment| assessment.serving),
            etcd: etcd(status, pass),
            data_dir: pass.member.and_then(|member| member.data_dir.clone()),
        }
    }
}

fn etcd(status: Option<&EtcdStatus>, pass: PassEnd<'_>) -> PeerEtcd {
    let own = status.and_then(|status| status.own.as_ref().ok());
    let record = pass.known.latest();
    let agreed = status.map(|status| status.agreed.as_ref().map_err(ToString::to_string));
    let agreed = agreed.unwrap_or_else(|| Err("it was not asked".to_owned()));
    PeerEtcd {
        cluster: own.map(|own| own.cluster).or(record.map(|record| record.cluster)).map(EtcdId),
        member: own.map(|own| own.member).or(record.map(|record| record.member)).map(EtcdId),
        version: own.map(|own| own.version.clone()),
        serves: agreed.is_ok(),
        why_not: agreed.err(),
        leader: own.and_then(|own| own.leader).map(EtcdId),
        learner: own.map(|own| own.learner),
        revision: own.map(|own| own.revision),
        term: own.map(|own| own.term),
        raft_index: own.map(|own| own.raft_index),
        applied_index: own.and_then(|own| own.applied_index),
        record: record.map(|record| PeerRecord {
            at: record.at,
            term: record.term,
            raft_index: record.raft_index,
            revision: record.revision,
            highest_revision: record.highest_revision,
        }),
        barred: None,
        barred_because: None,
    }
}

#[cfg(test)]
impl Reporter {
    /// As if a pass had found this.
    pub(super) fn note_found(&self, etcd: PeerEtcd, data_dir: Option<PathBuf>, inhibitors: Vec<String>) {
        let at = Timestamp::now();
        let pass = Pass { at, pause: None, inhibitors, api_server_serves: Some(true), etcd, data_dir };
        self.change(|known| known.pass = Some(pass));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[tokio::test]
    async fn a_report_says_whether_the_data_are_barred_and_names_no_machine_id() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("member/snap")).unwrap();
        std::fs::create_dir_all(dir.path().join("member/wal")).unwrap();
        std::fs::write(dir.path().join("member/snap/db"), vec![7; 9000]).unwrap();
        let machine = Machine { machine_id: "0123456789abcdef".into(), node_name: "m1".into() };
        let reporter = || Reporter::new(&machine, Mode::Act);
        let silent = PeerEtcd { version: None, serves: false, ..report("m1", 1, 1).etcd };
        assert_eq!(reporter().report().await, None, "before the first pass");

        let found = |etcd: &PeerEtcd, data_dir: Option<&std::path::Path>| {
            let reporter = reporter();
            reporter.note_found(etcd.clone(), data_dir.map(Into::into), Vec::new());
            reporter
        };
        let barred = async |etcd: &PeerEtcd, data_dir| {
            let reporter = found(etcd, data_dir);
            let report = reporter.report().await.unwrap();
            assert!(!format!("{report:?}").contains(&machine.machine_id));
            report.etcd.barred
        };
        assert_eq!(barred(&silent, Some(dir.path())).await, Some(false));
        assert_eq!(barred(&silent, None).await, None);
        bar::bar(dir.path(), "its disk is not mounted").unwrap();
        assert_eq!(barred(&silent, Some(dir.path())).await, Some(true));
        assert_eq!(barred(&report("m1", 1, 1).etcd, Some(dir.path())).await, Some(false), "an etcd runs over it");
        let looked = found(&silent, Some(dir.path()));
        assert_eq!(looked.last().unwrap().etcd.barred, None, "not looked at");
        looked.report().await.unwrap();
        assert_eq!(looked.last().unwrap().etcd.barred_because.as_deref(), Some("its disk is not mounted"));
    }
}
