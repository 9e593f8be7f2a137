//! Members of etcd that its database and raft disagree about. Up to 3.5 etcd takes the members from the store of version 2,
//! 3.6 from the bucket `members` of the database: what is wrong there comes to light with the upgrade.
//!
//! ```text
//!   bucket members   raft (conf state, *.snap)      what an etcd 3.6 does
//!   learner          voter                          two of them: it refuses to start; one: it serves no client
//!   voter            learner                        it counts a vote that does not exist
//!   member           none                           it waits for the votes of members that were removed long ago
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::etcd::Member;

/// A member that the two do not agree about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemberConflict {
    /// In hex, as etcdctl prints it.
    pub id: String,
    /// Empty where only the running cluster knows it.
    pub name: String,
    /// Where its peers reach it.
    pub url: String,
    pub kind: ConflictKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ConflictKind {
    /// A learner in the database, a voter in raft: its promotion was not stored (3.5.1 to 3.5.19).
    LearnerInDatabase,
    /// A voter in the database, a learner in raft.
    VoterInDatabase,
    /// A member in the database, and unknown to raft: it was removed, or a restore left it there.
    UnknownToRaft,
}

/// What the operator does before the upgrade.
pub const NEXT: &str = "run etcd 3.5.26 or newer on every member, and restart each, before any etcd 3.6 starts";

/// The same with the names that a member's own list has.
pub fn named(conflicts: &[MemberConflict], members: &[Member]) -> Vec<MemberConflict> {
    let name_of = |id: &str| members.iter().find(|member| format!("{:x}", member.id) == id).map(|member| &member.name);
    let one = |conflict: &MemberConflict| {
        let name = if conflict.name.is_empty() { name_of(&conflict.id).cloned() } else { None };
        MemberConflict { name: name.unwrap_or_else(|| conflict.name.clone()), ..conflict.clone() }
    };
    conflicts.iter().map(one).collect()
}

/// A sentence about all of them; nothing where there is none.
pub fn sentence(conflicts: &[MemberConflict]) -> Option<String> {
    let of = |kind: ConflictKind| {
        let named: Vec<String> = conflicts.iter().filter(|one| one.kind == kind).map(ToString::to_string).collect();
        (!named.is_empty()).then(|| (named.len(), named.join(", ")))
    };
    let mut parts = Vec::new();
    if let Some((count, names)) = of(ConflictKind::LearnerInDatabase) {
        let does = match count {
            1 => "an etcd 3.6 takes it for a learner, which serves no client",
            _ => {
                "an etcd 3.6 refuses to start (\"too many learner members in cluster\") unless its newest *.snap has the \
                 promotions"
            }
        };
        parts.push(format!("{names} {} in the database and {} in raft: {does}", learner(count), voter(count)));
    }
    if let Some((count, names)) = of(ConflictKind::VoterInDatabase) {
        parts.push(format!(
            "{names} {} in the database and {} in raft: an etcd 3.6 counts votes that do not exist",
            is(count, "a voter", "voters"),
            if count == 1 { "a learner" } else { "learners" }
        ));
    }
    if let Some((count, names)) = of(ConflictKind::UnknownToRaft) {
        parts.push(format!(
            "{names} {} in the database and unknown to raft: an etcd 3.6 waits for votes of members that do not exist",
            is(count, "a member", "members")
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn is(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!("is {one}") } else { format!("are {several}") }
}

fn learner(count: usize) -> String {
    is(count, "a learner", "learners")
}

fn voter(count: usize) -> &'static str {
    if count == 1 { "a voter" } else { "voters" }
}

impl fmt::Display for MemberConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "member {}", self.id)
        } else {
            write!(f, "member {} ({})", self.name, self.id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_etcd_3_6_does_depends_on_how_many_there_are() {
        let learner = |id: &str, name: &str| MemberConflict {
            id: id.to_owned(),
            name: name.to_owned(),
            url: "https://h:2380".to_owned(),
            kind: ConflictKind::LearnerInDatabase,
        };
        assert_eq!(sentence(&[]), None);
        let refuses = |conflicts: &[MemberConflict]| sentence(conflicts).unwrap().contains("refuses to start");
        assert!(!refuses(&[learner("b2", "m2")]));
        assert!(refuses(&[learner("b2", "m2"), learner("c3", "")]));
        let members =
            [Member { id: 0xc3, name: "m3".to_owned(), peer_urls: vec![], client_urls: vec![], learner: true }];
        let named = named(&[learner("b2", "m2"), learner("c3", "")], &members);
        assert_eq!(named.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["m2", "m3"]);
        let unknown = MemberConflict { kind: ConflictKind::UnknownToRaft, ..learner("d4", "m4") };
        let both = sentence(&[learner("b2", "m2"), unknown]).unwrap();
        assert!(both.contains("member m2") && both.contains("member m4"), "{both}");
    }
}
