//! `lastgood etcd compact|defrag|disarm` at work, as decide has to know it: longer than its lock is held.
//!
//! ```text
//!   the lock is held ─────────────────────────────────────▶ at work
//!   its command has ended, and its mark counts ───────────▶ at work, until etcd answers a linearizable read, or its time
//!   neither any more ─────────────────────────────────────▶ at work for two questions more: one that waited counts for nothing
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::settings::Probes;
use crate::model::observation::{BusyKind, BusyProcess};
use crate::model::{ComponentId, EtcdStatus};
use crate::sys::shared_lock::Mark;

/// A mark is written right before the request is sent. Until etcd has taken it up, it answers.
const BEGINS: Duration = Duration::from_secs(1);

/// What was at work last, and when that was seen.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    last: Option<(BusyProcess, Duration)>,
}

impl Maintenance {
    /// Adds what still counts to the processes that hold the lock.
    pub(super) fn look(
        &mut self,
        busy: &mut Vec<BusyProcess>,
        mark: Option<Mark>,
        etcd: &BTreeMap<ComponentId, EtcdStatus>,
        probes: &Probes,
        at: Duration,
    ) {
        if let Some(holder) = busy.iter().find(|process| process.kind == BusyKind::EtcdMaintenance) {
            self.last = Some((holder.clone(), at));
            return;
        }
        if let Some(mark) = mark.filter(|mark| !answers_since(etcd, mark.began + BEGINS)) {
            let command = format!("{}, which has ended; etcd may still defragment its database", mark.command);
            let left = BusyProcess { pid: mark.pid, command, kind: BusyKind::EtcdMaintenance };
            self.last = Some((left, at));
        }
        let counts = |seen: &Duration| at.saturating_sub(*seen) < probes.interval * 2 + probes.timeout;
        self.last = self.last.take().filter(|(_, seen)| counts(seen));
        busy.extend(self.last.iter().map(|(process, _)| process.clone()));
    }
}

/// A member answers no read while it is defragmented. Of several etcds on this node, each has to answer: the mark does not
/// say which one it is about.
fn answers_since(etcd: &BTreeMap<ComponentId, EtcdStatus>, since: Duration) -> bool {
    !etcd.is_empty() && etcd.values().all(|status| status.agreed.is_ok() && status.at >= since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::Agreed;

    const PROBES: Probes = Probes { interval: Duration::from_secs(2), timeout: Duration::from_secs(5) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn holder() -> BusyProcess {
        BusyProcess { pid: 7, command: "lastgood etcd defrag".to_owned(), kind: BusyKind::EtcdMaintenance }
    }

    fn answered(at: u64) -> BTreeMap<ComponentId, EtcdStatus> {
        let agreed = Ok(Agreed { cluster: 1, member: 2, term: 3, revision: 4 });
        [(ComponentId::system("etcd"), EtcdStatus { at: seconds(at), agreed, ..EtcdStatus::default() })].into()
    }

    fn is_at_work(
        maintenance: &mut Maintenance,
        lock: Option<BusyProcess>,
        mark: Option<&Mark>,
        answered_at: u64,
        at: u64,
    ) -> bool {
        let mut busy: Vec<BusyProcess> = lock.into_iter().collect();
        maintenance.look(&mut busy, mark.cloned(), &answered(answered_at), &PROBES, seconds(at));
        assert!(busy.len() <= 1, "{busy:?}");
        busy.iter().any(|process| process.kind == BusyKind::EtcdMaintenance)
    }

    #[test]
    fn two_questions_after_the_lock_ended_the_maintenance_is_over() {
        let mut maintenance = Maintenance::default();
        assert!(!is_at_work(&mut maintenance, None, None, 0, 90));
        assert!(is_at_work(&mut maintenance, Some(holder()), None, 0, 100));
        for (at, expected) in [(101, true), (108, true), (109, false), (110, false)] {
            assert_eq!(is_at_work(&mut maintenance, None, None, at, at), expected, "{at}");
        }
    }

    #[test]
    fn a_mark_counts_until_etcd_answers_a_read_that_began_after_it() {
        let mark = Mark {
            boot_id: String::new(),
            pid: 7,
            began: seconds(100),
            until: seconds(700),
            command: "lastgood etcd defrag".to_owned(),
        };
        let mut maintenance = Maintenance::default();
        assert!(is_at_work(&mut maintenance, None, Some(&mark), 99, 300));
        assert!(is_at_work(&mut maintenance, None, Some(&mark), 100, 301), "before etcd took it up");
        assert!(is_at_work(&mut maintenance, None, Some(&mark), 302, 302), "two questions more");
        assert!(!is_at_work(&mut maintenance, None, Some(&mark), 310, 310));
        assert!(!is_at_work(&mut Maintenance::default(), None, Some(&mark), 302, 302), "it is over at first sight");
        let mut two = answered(302);
        two.insert(ComponentId::system("etcd-events"), EtcdStatus { at: seconds(302), ..EtcdStatus::default() });
        for answers in [two, BTreeMap::new()] {
            let mut busy = Vec::new();
            Maintenance::default().look(&mut busy, Some(mark.clone()), &answers, &PROBES, seconds(302));
            assert_eq!(busy.len(), 1, "{answers:?}");
        }
        let mut restore = vec![BusyProcess { kind: BusyKind::Restore, ..holder() }];
        Maintenance::default().look(&mut restore, None, &answered(0), &PROBES, seconds(1));
        assert_eq!(restore.len(), 1);
    }
}
