//! Persists the etcd facts that a restore needs (cluster ID, members, highest revision): often in memory, rarely on
//! disk, and before every action.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Settings;
use crate::model::etcd_history::{EtcdHistory, Growth, Size};
use crate::model::{ComponentId, Memory, Moment, Observation};
use crate::record::{self, Guard};

/// Between two writes to the run directory, which is memory.
const SHOW_EVERY: Duration = Duration::from_secs(10);
/// Between two writes to the disk: with a power cut this much of what was seen is lost, and a restore moves its revisions
/// further than that anyway.
const SAVE_EVERY: Duration = Duration::from_secs(10 * 60);

/// The same where the cluster has several members: what a recovery of a lost quorum compares their logs with.
const SAVE_EVERY_OF_SEVERAL: Duration = Duration::from_secs(60);

/// What is known, and what of it is written where.
#[derive(Debug)]
pub(super) struct EtcdHistoryWriter {
    run: PathBuf,
    known: EtcdHistory,
    shown: Copy,
    saved: Copy,
}

/// One of the copies.
#[derive(Debug, Default)]
struct Copy {
    known: EtcdHistory,
    /// When it was written, on the boot clock.
    at: Option<Duration>,
}

impl Copy {
    fn is_due(&self, now: Duration, every: Duration) -> bool {
        self.at.is_none_or(|at| now.saturating_sub(at) >= every)
    }
}

impl EtcdHistoryWriter {
    /// Begins with what an earlier run wrote down. A copy that cannot be used is written again.
    pub(super) fn of(settings: &Settings) -> Self {
        let (known, findings) = record::last_known(settings);
        for finding in findings {
            tracing::warn!(%finding, "what is known of etcd");
        }
        Self { run: settings.paths.run.clone(), known, shown: Copy::default(), saved: Copy::default() }
    }

    /// Takes in what the members say, and tells how their databases grew.
    pub(super) fn note(&mut self, seen: &Observation) -> BTreeMap<ComponentId, Growth> {
        let mut growth = BTreeMap::new();
        for (id, status) in &seen.etcd {
            self.known.note(status, seen.at.wall);
            let own = status.own.as_ref().ok();
            let size = own.and_then(|own| Some((own.cluster, Size { at: seen.at.wall, bytes: own.db_size? })));
            let grown = size.and_then(|(cluster, size)| self.known.of(cluster)?.growth(size));
            growth.extend(grown.map(|grown| (id.clone(), grown)));
        }
        growth
    }

    /// Brings the memory up to date, which is written more seldom.
    pub(super) fn recall(&self, memory: &mut Memory) {
        memory.incarnations.values_mut().for_each(|incarnation| incarnation.recall(&self.known));
    }

    /// What is known.
    pub(super) fn known(&self) -> &EtcdHistory {
        &self.known
    }

    fn save_every(&self) -> Duration {
        let several = self.known.latest().is_some_and(|world| world.members.len() > 1);
        if several { SAVE_EVERY_OF_SEVERAL } else { SAVE_EVERY }
    }

    /// Writes what is due; all of it where something is about to be changed, or the cluster is another one.
    pub(super) fn write(&mut self, guard: &Guard, now: Moment, pressing: bool) -> io::Result<()> {
        if self.known.worlds.is_empty() {
            return Ok(());
        }
        if self.known != self.shown.known && (pressing || self.shown.is_due(now.boot, SHOW_EVERY)) {
            self.shown = Copy { known: self.known.clone(), at: Some(now.boot) };
            guard.show_known(&self.run, &self.known)?;
        }
        let pressing = pressing || self.known.moved_on_from(&self.saved.known);
        if self.known != self.saved.known && (pressing || self.saved.is_due(now.boot, self.save_every())) {
            // Noted as written before it is: a disk that refuses is not asked at every pass.
            self.saved = Copy { known: self.known.clone(), at: Some(now.boot) };
            guard.save_known(&self.known)?;
        }
        Ok(())
    }
}
