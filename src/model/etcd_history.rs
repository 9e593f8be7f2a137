//! The facts about an etcd that a restore needs when that etcd is gone; they are saved while it is healthy.
//!
//! A restore has to move revisions above every revision that was ever served, or watchers and caches hold revisions
//! from the future. The raft index cannot serve for this, since each restore resets it; so the highest MVCC revision is
//! kept, for every cluster that this node has served, including those before a restore.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EtcdStatus;
use super::etcd::Member;

/// Clusters remembered: each restore begins another.
const MOST_WORLDS: usize = 8;
/// Between two sizes that are kept.
const SIZE_EVERY: i64 = 30 * 60;
/// Sizes kept: a day of them.
const MOST_SIZES: usize = 49;
/// Growth over less than this is a burst.
const LEAST_OVER: Duration = Duration::from_secs(3 * 3600);

/// Everything written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdHistory {
    /// The clusters that this node's etcd has served, the latest last.
    pub worlds: Vec<ClusterHistory>,
}

/// One cluster, as a member of this node saw it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHistory {
    /// The cluster's ID.
    pub cluster: u64,
    /// The ID of the member of this node.
    pub member: u64,
    /// All members with their URLs, as they were listed last; none where they never were.
    pub members: Vec<Member>,
    /// The raft term.
    pub term: u64,
    /// The last committed raft index.
    pub raft_index: u64,
    /// The MVCC revision.
    pub revision: i64,
    /// The highest MVCC revision ever seen of this cluster, from any of its members.
    pub highest_revision: i64,
    /// When that was, by the wall clock.
    pub at: Timestamp,
    /// The member's version.
    pub version: String,
    /// Sizes of the database, the latest last.
    pub sizes: Vec<Size>,
}

/// The size of a database at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub at: Timestamp,
    /// Bytes of the file.
    pub bytes: u64,
}

/// How a database grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// From so many bytes.
    pub from: u64,
    pub to: u64,
    /// Over this time.
    pub over: Duration,
}

impl Growth {
    /// When it will have reached this many bytes, if it goes on like that; nothing where it does not grow.
    pub fn reaches(&self, bytes: u64) -> Option<Duration> {
        let grown = self.to.checked_sub(self.from).filter(|grown| *grown > 0)?;
        let left = bytes.saturating_sub(self.to);
        let seconds = u128::from(left) * u128::from(self.over.as_secs()) / u128::from(grown);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }
}

impl EtcdHistory {
    /// Takes a member's words in. A member that says nothing changes nothing.
    pub fn note(&mut self, status: &EtcdStatus, now: Timestamp) {
        let Ok(own) = &status.own else { return };
        let at = self.worlds.iter().position(|world| world.cluster == own.cluster);
        let before = at.map(|at| self.worlds.remove(at));
        let revisions = status.others.values().flatten().filter(|other| other.cluster == own.cluster);
        let highest = revisions.map(|other| other.revision).chain(before.as_ref().map(|world| world.highest_revision));
        let mut sizes = before.as_ref().map(|world| world.sizes.clone()).unwrap_or_default();
        let due = sizes.last().is_none_or(|last| (now.as_second() - last.at.as_second()).abs() >= SIZE_EVERY);
        if let Some(bytes) = own.db_size.filter(|_| due) {
            sizes.push(Size { at: now, bytes });
            sizes.drain(..sizes.len().saturating_sub(MOST_SIZES));
        }
        let members = status.members.clone().or(before.as_ref().map(|world| world.members.clone()));
        self.worlds.push(ClusterHistory {
            cluster: own.cluster,
            member: own.member,
            members: members.unwrap_or_default(),
            term: own.term,
            raft_index: own.raft_index,
            revision: own.revision,
            highest_revision: highest.fold(own.revision, i64::max),
            at: now,
            version: own.version.clone(),
            sizes,
        });
        self.worlds.drain(..self.worlds.len().saturating_sub(MOST_WORLDS));
    }

    /// The cluster that was served last.
    pub fn latest(&self) -> Option<&ClusterHistory> {
        self.worlds.last()
    }

    /// A cluster by its ID.
    pub fn of(&self, cluster: u64) -> Option<&ClusterHistory> {
        self.worlds.iter().find(|world| world.cluster == cluster)
    }

    /// The highest MVCC revision that any cluster of this node ever served: what a restore has to move beyond.
    pub fn highest_revision(&self) -> Option<i64> {
        self.worlds.iter().map(|world| world.highest_revision).max()
    }

    /// Two copies in one: of each cluster the later word, the highest revision and the longer list of sizes.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let mut worlds = self.worlds;
        for theirs in other.worlds {
            match worlds.iter_mut().find(|world| world.cluster == theirs.cluster) {
                None => worlds.push(theirs),
                Some(ours) => {
                    let highest = ours.highest_revision.max(theirs.highest_revision);
                    let sizes = if theirs.sizes.len() > ours.sizes.len() { &theirs } else { &*ours }.sizes.clone();
                    if theirs.at > ours.at {
                        *ours = theirs;
                    }
                    (ours.highest_revision, ours.sizes) = (highest, sizes);
                }
            }
        }
        worlds.sort_by_key(|world| world.at);
        Self { worlds }
    }

    /// Whether this is another cluster, or another set of members, than `saved` has: worth a write at once.
    pub fn moved_on_from(&self, saved: &Self) -> bool {
        let set = |known: &Self| known.latest().map(|world| (world.cluster, world.member, world.members.clone()));
        set(self) != set(saved)
    }
}

impl ClusterHistory {
    /// How the database grew since it last shrank, where that has been watched for some hours.
    pub fn growth(&self, now: Size) -> Option<Growth> {
        let mut from = None;
        let mut later = now.bytes;
        for size in self.sizes.iter().rev().filter(|size| size.at <= now.at) {
            if size.bytes > later {
                break;
            }
            later = size.bytes;
            from = Some(*size);
        }
        let from = from?;
        let over: Duration = now.at.duration_since(from.at).try_into().ok()?;
        (over >= LEAST_OVER).then_some(Growth { from: from.bytes, to: now.bytes, over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::MemberStatus;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn says(cluster: u64, revision: i64, db_size: u64) -> EtcdStatus {
        EtcdStatus {
            target: "t".into(),
            at: Duration::ZERO,
            own: Ok(MemberStatus {
                version: "3.5.16".into(),
                cluster,
                member: 1,
                leader: Some(1),
                term: 2,
                raft_index: 10,
                applied_index: Some(10),
                revision,
                db_size: Some(db_size),
                db_in_use: None,
                quota: None,
                learner: false,
                alarms: Vec::new(),
                errors: Vec::new(),
            }),
            ..EtcdStatus::default()
        }
    }

    #[test]
    fn the_highest_revision_outlives_a_restore_under_either_id() {
        let mut known = EtcdHistory::default();
        known.note(&says(1, 100, 10), at(0));
        known.note(&says(1, 40, 10), at(1));
        assert_eq!((known.of(1).unwrap().revision, known.of(1).unwrap().highest_revision), (40, 100));
        known.note(&says(2, 50, 10), at(2));
        assert_eq!((known.latest().unwrap().cluster, known.highest_revision()), (2, Some(100)));
        for cluster in 3..20 {
            known.note(&says(cluster, 1, 1), at(3));
        }
        assert_eq!(known.worlds.len(), MOST_WORLDS);
    }

    #[test]
    fn the_older_copy_adds_what_the_newer_lacks() {
        let (mut disk, mut run) = (EtcdHistory::default(), EtcdHistory::default());
        disk.note(&says(1, 500, 10), at(0));
        disk.note(&says(2, 90, 10), at(1));
        run.note(&says(2, 80, 10), at(2));
        let merged = run.merged(disk);
        assert_eq!((merged.latest().unwrap().revision, merged.latest().unwrap().highest_revision), (80, 90));
        assert_eq!(merged.highest_revision(), Some(500));
    }

    #[test]
    fn growth_is_measured_over_hours_and_since_the_last_defragmentation() {
        let mut known = EtcdHistory::default();
        for (hour, size) in [(0, 900), (1, 950), (2, 100), (3, 110), (4, 120), (5, 130), (6, 140)] {
            known.note(&says(1, 1, size), at(hour));
        }
        let world = known.latest().unwrap();
        let growth = world.growth(Size { at: at(6), bytes: 140 }).unwrap();
        assert_eq!(growth, Growth { from: 100, to: 140, over: Duration::from_secs(4 * 3600) });
        assert_eq!(growth.reaches(240), Some(Duration::from_secs(10 * 3600)));
        assert_eq!(world.growth(Size { at: at(6), bytes: 90 }), None, "it has just shrunk");
        assert_eq!(Growth { from: 5, to: 5, over: LEAST_OVER }.reaches(9), None);
    }
}
