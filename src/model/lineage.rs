//! The lineage of one etcd's data: what a member has served, that its data regressed, or that they are not the data on
//! record.
//!
//! ```text
//!   Incarnation   what this member served last: cluster, revision, term, owner of the store
//!   WentBack      an earlier state was restored: which components still have to be restarted
//!   WrongData     another store is served: which one, and the state of the API server
//! ```

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ComponentId;
use super::etcd_data::StoreIdentity;
use super::etcd_history::EtcdHistory;

/// Which etcd world a member has served, and how far that had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// The cluster's ID.
    pub cluster: u64,
    /// The member's ID.
    pub member: u64,
    /// The highest MVCC revision this member has applied under our eyes.
    pub revision: i64,
    /// The highest raft term.
    pub term: u64,
    /// When that was, by the wall clock.
    pub at: Timestamp,
    /// Its version then.
    pub version: String,
    /// The highest raft index it had committed; zero where it never reported one.
    #[serde(default)]
    pub raft_index: u64,
    /// Whose Kubernetes cluster the store is; absent where that was never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreIdentity>,
    /// How many members the cluster had by its last member list; zero where none was ever read.
    #[serde(default)]
    pub members: usize,
    /// Since when no process of it has run, where it was seen so since then.
    pub away_since: Option<Timestamp>,
    /// The answer that contradicted this, on the boot clock: one alone decides nothing.
    pub doubted: Option<Duration>,
}

impl Incarnation {
    /// Revision and raft index grow all the time, and the memory is written as a whole. What it lacks of them is in the etcd
    /// history, which is small and is written more often ([`Self::recall`]).
    const UNSAVED_SECONDS: i64 = 3600;

    /// Whether this is worth a write, where `saved` is on disk.
    pub fn is_worth_saving(&self, saved: &Self) -> bool {
        let grown = Self { revision: self.revision, raft_index: self.raft_index, at: self.at, ..saved.clone() };
        *self != grown || self.at.as_second() - saved.at.as_second() >= Self::UNSAVED_SECONDS
    }

    /// Takes over how far the same member of the same cluster has come by the etcd history. A revision is never lowered: the
    /// history also has what data of another day served.
    pub fn recall(&mut self, history: &EtcdHistory) {
        let later =
            history.of(self.cluster).filter(|world| world.member == self.member && world.revision > self.revision);
        if let Some(world) = later {
            self.revision = world.revision;
            self.term = self.term.max(world.term);
            self.raft_index = self.raft_index.max(world.raft_index);
            self.at = self.at.max(world.at);
        }
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} in term {} of cluster {:x}", self.revision, self.term, self.cluster)
    }
}

/// The data regressed, and the components that cached the later data are being restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBack {
    /// Whose data regressed.
    pub etcd: ComponentId,
    /// A process that started before this may remember the old world.
    pub since: Timestamp,
    /// From what to what, as a sentence.
    pub what: String,
    /// Who has still to be seen serving from a process started since, in order.
    pub left: Vec<ComponentId>,
    /// The container that was asked to stop last: an action is spent once on it.
    pub stopping: Option<String>,
}

/// An etcd of this node that serves other data than those on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongData {
    pub etcd: ComponentId,
    /// In which way its data are wrong.
    pub kind: WrongDataKind,
    /// When its first answer from these data came, by the wall clock.
    pub since: Timestamp,
    pub serves: Incarnation,
    /// What became of kube-apiserver.
    pub api: ApiStop,
}

/// In which way an etcd's data are not those on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum WrongDataKind {
    /// No API server has ever used them.
    Empty,
    /// They are of another Kubernetes cluster.
    Foreign,
    /// They are an older copy of the data on record.
    Older,
    /// They go back, and whether somebody restored them is unknown.
    Unclear,
}

impl WrongDataKind {
    /// The word for metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Foreign => "foreign",
            Self::Older => "older",
            Self::Unclear => "unclear",
        }
    }

    /// Whether nothing must be started or left running on them: what is unknown stops nobody.
    pub fn is_certain(self) -> bool {
        self != Self::Unclear
    }
}

/// kube-apiserver, while etcd serves wrong data. A kubelet deletes its pods as soon as an API server lists none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "api")]
pub enum ApiStop {
    /// It was not stopped: other masters serve, it was not there, or we were held.
    NotStopped,
    /// It is stopped, and its manifest is out of the manifest directory, until the right data are back.
    Stopped {
        /// Whose manifest is out.
        component: ComponentId,
        /// Which generation comes back.
        generation: u32,
        /// Whether the manifest was seen to be out: a file that exists there afterwards is the operator's.
        out: bool,
        /// Since when, by the wall clock.
        since: Timestamp,
    },
    /// The operator wants it to run on these data.
    Released,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd_history::ClusterHistory;

    fn saved() -> Incarnation {
        Incarnation {
            cluster: 1,
            member: 1,
            revision: 7,
            term: 1,
            at: Timestamp::from_second(1000).unwrap(),
            version: "3.5.16".to_owned(),
            raft_index: 1,
            store: None,
            members: 1,
            away_since: None,
            doubted: None,
        }
    }

    #[test]
    fn what_only_grows_is_worth_a_write_once_an_hour() {
        let saved = saved();
        let at = |second| Timestamp::from_second(second).unwrap();
        let grown = Incarnation { revision: 20, raft_index: 30, at: at(4599), ..saved.clone() };
        assert!(!grown.is_worth_saving(&saved));
        assert!(Incarnation { at: at(4600), ..grown.clone() }.is_worth_saving(&saved));
        assert!(Incarnation { term: 2, ..grown.clone() }.is_worth_saving(&saved), "a new term");
        assert!(Incarnation { away_since: Some(at(1050)), ..grown }.is_worth_saving(&saved), "no process of it runs");
    }

    #[test]
    fn the_history_tells_how_far_the_same_member_has_come() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let world = |cluster, member, revision| ClusterHistory {
            cluster,
            member,
            members: Vec::new(),
            term: 3,
            raft_index: 80,
            revision,
            highest_revision: 900,
            at: at(2000),
            version: "3.5.16".to_owned(),
            sizes: Vec::new(),
        };
        let recalled = |worlds| {
            let mut incarnation = saved();
            incarnation.recall(&EtcdHistory { worlds });
            (incarnation.revision, incarnation.term, incarnation.raft_index, incarnation.at)
        };
        let as_saved = (7, 1, 1, at(1000));
        assert_eq!(recalled(vec![world(1, 1, 70)]), (70, 3, 80, at(2000)), "not the highest of any member");
        assert_eq!(recalled(vec![world(1, 1, 5)]), as_saved, "data of another day");
        assert_eq!(recalled(vec![world(1, 2, 70)]), as_saved, "another member");
        assert_eq!(recalled(vec![world(2, 1, 70)]), as_saved, "another cluster");
    }
}
