//! Whether an etcd serves the data on record: compares an answer with the memory. Pure.
//!
//! ```text
//!   Namespace kube-system   another UID ─▶ Foreign      no such key ─▶ Empty
//!        │ the same, or cannot be compared
//!   cluster ID, revision, term, raft index: none lower, the same cluster ─▶ OnRecord; in another directory, and further
//!        │                                    than this etcd can be by now ─▶ Exchanged
//!        │ one of them regressed
//!   the head of the WAL     a restore wrote it, not the one of the data on record ─▶ Restored
//!                           an etcd began it, or it is a copy of the WAL on record ─▶ Older
//!                           unknown                                                ─▶ Unclear
//! ```
//!
//! A lower value is never an accident: a linearizable read waits until this member has applied everything that was
//! committed before the read began. An answer with a lower revision, term or raft index proves that committed entries
//! are gone.

use crate::model::etcd_data::{KubeSystem, WalOrigin};
use crate::model::lineage::{Incarnation, WrongDataKind};

/// What an answer of an etcd says about its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// They are the data on record, as far as they can be compared.
    OnRecord,
    /// They are the data on record as they were later, elsewhere: a newer copy is in the place of an older one.
    Exchanged,
    /// Somebody restored an earlier state, by whatever tool.
    Restored,
    /// They are others.
    Wrong(WrongDataKind),
}

/// More entries than a busy cluster commits between the last answer of an etcd and its end: two seconds at some thousand a
/// second.
const MOST_BETWEEN_ANSWERS: u64 = 10_000;

/// A data directory, as far as it identifies what it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// The inode of `member`.
    pub(super) inode: Option<u64>,
    /// How its WAL begins.
    pub(super) origin: WalOrigin,
}

/// Compares what an etcd serves with the record. `kept` is the data directory that was served from, `seen` the one that is.
pub(super) fn compare(known: &Incarnation, fresh: &Incarnation, kept: &Directory, seen: &Directory) -> Data {
    let same_store = known.store.as_ref().zip(fresh.store.as_ref()).and_then(|(known, fresh)| known.is_of(fresh));
    if same_store == Some(false) {
        return Data::Wrong(match is_empty(fresh) {
            true => WrongDataKind::Empty,
            false => WrongDataKind::Foreign,
        });
    }
    let other_cluster = fresh.cluster != known.cluster;
    // A raft index of zero was never reported.
    let index_lower = fresh.raft_index > 0 && fresh.raft_index < known.raft_index;
    let lower = fresh.revision < known.revision || fresh.term < known.term || index_lower;
    if !other_cluster && !lower {
        let moved = kept.inode.zip(seen.inode).is_some_and(|(kept, seen)| kept != seen);
        let ahead = fresh.raft_index.saturating_sub(known.raft_index);
        // The only member commits nothing while it is away; one of several catches up.
        let alone = known.members.max(fresh.members) <= 1;
        let exchanged = moved && alone && known.raft_index > 0 && ahead > MOST_BETWEEN_ANSWERS;
        return if exchanged { Data::Exchanged } else { Data::OnRecord };
    }
    if is_empty(fresh) && fresh.revision < known.revision {
        return Data::Wrong(WrongDataKind::Empty);
    }
    let fingerprint = kept.origin.fingerprint();
    let copy = fingerprint.is_some() && fingerprint == seen.origin.fingerprint();
    match &seen.origin {
        WalOrigin::Restored { .. } if copy => Data::Wrong(WrongDataKind::Older),
        WalOrigin::Restored { .. } => Data::Restored,
        // The keys of this cluster under another cluster ID and at no lower revision: somebody copied them there.
        WalOrigin::Began { .. } if other_cluster && fresh.revision >= known.revision => Data::Restored,
        // One of several that joined a cluster which was restored elsewhere has another member ID since.
        WalOrigin::Began { .. } if fresh.members > 1 && fresh.member != known.member && !copy => Data::Restored,
        WalOrigin::Began { .. } => Data::Wrong(WrongDataKind::Older),
        WalOrigin::Unknown { .. } => Data::Wrong(WrongDataKind::Unclear),
    }
}

fn is_empty(fresh: &Incarnation) -> bool {
    fresh.store.as_ref().is_some_and(|store| store.namespace == KubeSystem::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd_data::StoreIdentity;

    fn store(uid: Option<&str>) -> Option<StoreIdentity> {
        let namespace = match uid {
            Some(uid) => KubeSystem::Present { uid: Some(uid.to_owned()), created: 5 },
            None => KubeSystem::Absent,
        };
        Some(StoreIdentity { prefix: "/registry".to_owned(), namespace })
    }

    /// On record: revision 1000 and index 2000 in term 5 of cluster c1, UID "u", by one member.
    fn known() -> Incarnation {
        Incarnation {
            cluster: 0xc1,
            member: 1,
            revision: 1000,
            term: 5,
            at: jiff::Timestamp::UNIX_EPOCH,
            version: String::new(),
            raft_index: 2000,
            store: store(Some("u")),
            members: 1,
            away_since: None,
            doubted: None,
        }
    }

    fn dir(inode: u64, origin: WalOrigin) -> Directory {
        Directory { inode: Some(inode), origin }
    }

    fn began(fingerprint: u32) -> WalOrigin {
        WalOrigin::Began { fingerprint: Some(fingerprint) }
    }

    fn restored(fingerprint: Option<u32>) -> WalOrigin {
        WalOrigin::Restored { fingerprint }
    }

    #[test]
    fn q1_each_evidence_tells_the_data_on_record_from_others() {
        use WrongDataKind::{Empty, Foreign, Older, Unclear};
        type Change = fn(&mut Incarnation);
        let rows: [(&str, Change, WalOrigin, Data); 22] = [
            ("goes on", |f| (f.revision, f.raft_index) = (1001, 2004), began(1), Data::OnRecord),
            ("has not moved", |_| {}, began(1), Data::OnRecord),
            ("goes on, and its WAL cannot be read", |_| {}, WalOrigin::default(), Data::OnRecord),
            ("never told its raft index", |f| f.raft_index = 0, began(1), Data::OnRecord),
            ("cannot be asked for the namespace", |f| f.store = None, began(1), Data::OnRecord),
            ("another member ID, further on", |f| (f.member, f.members) = (9, 3), began(2), Data::OnRecord),
            (
                "an empty store",
                |f| (f.store, f.revision, f.raft_index, f.term) = (store(None), 1, 4, 2),
                began(2),
                Data::Wrong(Empty),
            ),
            (
                "an empty store, far in numbers",
                |f| (f.store, f.revision) = (store(None), 5000),
                began(2),
                Data::Wrong(Empty),
            ),
            (
                "restored from a snapshot without objects",
                |f| (f.store, f.revision) = (store(None), 3),
                restored(None),
                Data::Wrong(Empty),
            ),
            ("another cluster's", |f| f.store = store(Some("x")), began(2), Data::Wrong(Foreign)),
            (
                "another cluster's snapshot",
                |f| (f.store, f.revision) = (store(Some("x")), 9000),
                restored(Some(3)),
                Data::Wrong(Foreign),
            ),
            ("an older disk", |f| (f.revision, f.raft_index) = (400, 900), began(1), Data::Wrong(Older)),
            (
                "an older disk whose namespace cannot be read",
                |f| (f.revision, f.store) = (400, None),
                began(1),
                Data::Wrong(Older),
            ),
            ("an older disk that ran on elsewhere", |f| (f.revision, f.term) = (400, 9), began(1), Data::Wrong(Older)),
            ("an older disk, its WAL unreadable", |f| f.revision = 400, WalOrigin::default(), Data::Wrong(Unclear)),
            ("a restore", |f| (f.revision, f.raft_index, f.term) = (400, 8, 2), restored(Some(7)), Data::Restored),
            (
                "a restore a moment ago",
                |f| (f.revision, f.raft_index, f.term) = (400, 4, 2),
                restored(None),
                Data::Restored,
            ),
            (
                "a restore with bumped revisions",
                |f| (f.revision, f.raft_index, f.term) = (1 << 30, 8, 2),
                restored(Some(7)),
                Data::Restored,
            ),
            (
                "a restore under another cluster ID",
                |f| (f.cluster, f.revision, f.term) = (0xc2, 9000, 7),
                restored(Some(7)),
                Data::Restored,
            ),
            ("a mirror under another cluster ID", |f| (f.cluster, f.revision) = (0xc2, 9000), began(3), Data::Restored),
            (
                "another cluster ID at a lower revision",
                |f| (f.cluster, f.revision) = (0xc2, 900),
                began(3),
                Data::Wrong(Older),
            ),
            (
                "joined what was restored elsewhere",
                |f| (f.revision, f.member, f.members) = (400, 9, 3),
                began(3),
                Data::Restored,
            ),
        ];
        for (situation, change, seen, expected) in rows {
            let mut fresh = known();
            change(&mut fresh);
            assert_eq!(compare(&known(), &fresh, &dir(2, began(1)), &dir(2, seen)), expected, "{situation}");
        }
    }

    #[test]
    fn q1_a_newer_copy_in_another_directory_is_told_from_data_that_were_moved() {
        for (situation, inode, ahead, members, expected) in [
            ("the same directory, written fast", 2, 50_000, 1, Data::OnRecord),
            ("moved to another disk", 3, 40, 1, Data::OnRecord),
            ("a newer copy", 3, 50_000, 1, Data::Exchanged),
            ("a member of several that has caught up", 3, 50_000, 3, Data::OnRecord),
        ] {
            let fresh = Incarnation { raft_index: 2000 + ahead, revision: 1000 + ahead as i64, members, ..known() };
            assert_eq!(compare(&known(), &fresh, &dir(2, began(1)), &dir(inode, began(1))), expected, "{situation}");
        }
    }

    #[test]
    fn q1_a_copy_of_restored_data_is_an_older_disk_and_no_second_restore() {
        let fresh = Incarnation { revision: 400, raft_index: 900, ..known() };
        assert_eq!(
            compare(&known(), &fresh, &dir(2, restored(Some(7))), &dir(3, restored(Some(7)))),
            Data::Wrong(WrongDataKind::Older)
        );
        assert_eq!(compare(&known(), &fresh, &dir(2, restored(Some(7))), &dir(3, restored(Some(8)))), Data::Restored);
        assert_eq!(
            compare(&known(), &fresh, &dir(2, restored(None)), &dir(3, restored(Some(8)))),
            Data::Restored,
            "a young record"
        );
    }

    #[test]
    fn q1_a_record_without_a_namespace_proves_nothing_by_itself() {
        let known = Incarnation { store: None, ..known() };
        let on = Incarnation { store: store(Some("x")), revision: 1001, ..known.clone() };
        assert_eq!(compare(&known, &on, &dir(2, began(1)), &dir(2, began(1))), Data::OnRecord);
        // Its numbers do.
        let empty = Incarnation { store: store(None), revision: 2, raft_index: 4, term: 2, ..known.clone() };
        assert_eq!(compare(&known, &empty, &dir(2, began(1)), &dir(3, began(2))), Data::Wrong(WrongDataKind::Empty));
        let unasked = Incarnation { store: None, ..empty };
        assert_eq!(compare(&known, &unasked, &dir(2, began(1)), &dir(3, began(2))), Data::Wrong(WrongDataKind::Older));
    }
}
