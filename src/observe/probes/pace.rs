//! When to probe a member again. Two answers have to agree before lastgood believes that an etcd serves other data, and
//! an agent that has to stop an API server cannot wait a whole interval for the second.

use std::time::Duration;

use crate::model::etcd::{Agreed, EtcdStatus};
use crate::model::etcd_data::StoreIdentity;

/// After an answer that has to be confirmed: two such rounds and a pass fit into the two seconds in which an API server comes
/// up and kubelets begin to delete pods.
pub(super) const SOON: Duration = Duration::from_millis(200);

/// While the only member of a cluster says nothing: its first answer has to be heard soon, and a refused connection costs
/// nothing. Where there are others, each round asks them as well, so the interval holds.
pub(super) const AWAITED: Duration = Duration::from_millis(500);

/// When the next round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// After [`SOON`].
    Soon,
    /// After an interval.
    InTurn,
}

/// What was answered last.
#[derive(Debug, Default)]
pub(super) struct Answered {
    store: Option<StoreIdentity>,
    /// Of the member itself; absent where it said nothing.
    raft_index: Option<u64>,
    /// Of the last round that had one: a quorum comes and goes.
    agreed: Option<Agreed>,
}

impl Answered {
    /// Whether this round says something that the one before did not: the member answers again, its store is another one, or
    /// what only grows went down. A store that was not read says nothing.
    pub(super) fn then(&mut self, status: &EtcdStatus) -> Next {
        let raft_index = status.own.as_ref().ok().map(|own| own.raft_index);
        let agreed = status.agreed.as_ref().ok().copied();
        let fell = |(now, before): (Agreed, Agreed)| now.revision < before.revision || now.term < before.term;
        let news = [
            raft_index.is_some_and(|now| self.raft_index.is_none_or(|before| now < before)),
            status.store.is_some() && status.store != self.store,
            agreed.zip(self.agreed).is_some_and(fell),
        ];
        let store = status.store.clone();
        *self = Self { store, raft_index, agreed: agreed.or(self.agreed) };
        if news.contains(&true) { Next::Soon } else { Next::InTurn }
    }
}

#[cfg(test)]
mod tests {
    use super::Next::{InTurn, Soon};
    use super::*;
    use crate::model::etcd::MemberStatus;
    use crate::model::etcd_data::KubeSystem;

    /// A round of a member that is well: its store's UID, its revision, its term, its raft index.
    fn round(uid: &str, revision: i64, term: u64, raft_index: u64) -> EtcdStatus {
        let own = MemberStatus {
            version: "3.5.16".to_owned(),
            cluster: 1,
            member: 2,
            leader: Some(2),
            term,
            raft_index,
            applied_index: None,
            revision,
            db_size: None,
            db_in_use: None,
            quota: None,
            learner: false,
            alarms: Vec::new(),
            errors: Vec::new(),
        };
        let namespace = KubeSystem::Present { uid: Some(uid.to_owned()), created: 3 };
        EtcdStatus {
            own: Ok(own),
            agreed: Ok(Agreed { cluster: 1, member: 2, term, revision }),
            store: Some(StoreIdentity { prefix: "/registry".to_owned(), namespace }),
            ..EtcdStatus::default()
        }
    }

    #[test]
    fn what_is_news_is_asked_again_soon_and_what_is_not_in_turn() {
        let silent = EtcdStatus::default;
        let unread = |status: EtcdStatus| EtcdStatus { store: None, ..status };
        let no_quorum = |status: EtcdStatus| EtcdStatus { store: None, agreed: silent().agreed, ..status };
        let well = || round("a", 100, 5, 200);
        let rows: [(&str, Vec<EtcdStatus>, &[Next]); 13] = [
            ("the very first answer", vec![well(), well()], &[Soon, InTurn]),
            ("silent from the beginning", vec![silent(), silent(), well(), well()], &[InTurn, InTurn, Soon, InTurn]),
            ("silent for a round", vec![well(), silent(), well(), well()], &[Soon, InTurn, Soon, InTurn]),
            ("it goes on", vec![well(), round("a", 101, 5, 201), round("a", 150, 6, 300)], &[Soon, InTurn, InTurn]),
            ("another store", vec![well(), round("b", 101, 5, 201), round("b", 101, 5, 201)], &[Soon, Soon, InTurn]),
            ("the store is read at last", vec![no_quorum(well()), well(), well()], &[Soon, Soon, InTurn]),
            ("the store is not read any more", vec![well(), unread(well()), unread(well())], &[Soon, InTurn, InTurn]),
            (
                "the revision went down",
                vec![well(), round("a", 99, 5, 200), round("a", 99, 5, 200)],
                &[Soon, Soon, InTurn],
            ),
            ("the term went down", vec![well(), round("a", 100, 4, 200)], &[Soon, Soon]),
            ("the raft index went down", vec![well(), round("a", 100, 5, 199)], &[Soon, Soon]),
            (
                "the revision is below that of a round long ago",
                vec![well(), no_quorum(well()), no_quorum(well()), unread(round("a", 50, 5, 200))],
                &[Soon, InTurn, InTurn, Soon],
            ),
            (
                "without a quorum, silent for a round",
                vec![no_quorum(well()), silent(), no_quorum(round("a", 1, 5, 9)), no_quorum(round("a", 1, 5, 9))],
                &[Soon, InTurn, Soon, InTurn],
            ),
            ("well without a quorum", vec![no_quorum(well()), no_quorum(well())], &[Soon, InTurn]),
        ];
        for (situation, rounds, expected) in rows {
            let mut answered = Answered::default();
            let next: Vec<Next> = rounds.iter().map(|status| answered.then(status)).collect();
            assert_eq!(next, expected, "{situation}");
        }
    }
}
