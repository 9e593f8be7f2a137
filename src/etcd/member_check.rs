//! Compares the members in an etcd's database with those of raft: the conf state in the database (from 3.5 on) and the newest
//! raft snapshot.
//!
//! A restore by etcdutl leaves the conf state of the cluster before; the IDs in it are no members' then, and the raft
//! snapshot, which the restore wrote, decides.

use std::path::Path;

use serde::Deserialize;

use super::backend::{self, Member};
use super::bbolt::Fault;
use super::raft_snapshot::{self, RaftSnapshot};
use crate::model::member_conflict::{ConflictKind, MemberConflict};

/// Raft's members, as `meta/confState` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConfState {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
}

/// Reads both, of a member that runs or not.
///
/// # Errors
/// As [`backend::read`]'s.
pub fn of(snap: &Path, snapshot: Option<&RaftSnapshot>) -> Result<Vec<MemberConflict>, Fault> {
    let (members, conf) = backend::membership(&snap.join("db"))?;
    let conf: Option<ConfState> = conf.and_then(|conf| serde_json::from_slice(&conf).ok());
    Ok(conflicts(&members, conf.as_ref(), snapshot))
}

/// The newest raft snapshot in a directory.
pub fn newest(snap: &Path) -> Option<RaftSnapshot> {
    raft_snapshot::newest(snap, |_, _| true)
}

/// What a member is to raft.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Raft {
    Voter,
    Learner,
}

/// Those that the two do not agree about.
pub fn conflicts(members: &[Member], conf: Option<&ConfState>, snapshot: Option<&RaftSnapshot>) -> Vec<MemberConflict> {
    let of_conf = |id: u64| role(id, conf.map(|conf| (&conf.voters, &conf.learners))?);
    let of_snapshot = |id: u64| {
        let snapshot = snapshot?;
        let by_member = snapshot.members.iter().find(|(one, _)| *one == id);
        role(id, (&snapshot.voters, &snapshot.learners))
            .or(by_member.map(|(_, learner)| if *learner { Raft::Learner } else { Raft::Voter }))
    };
    // Of this cluster, and not of the one before a restore.
    let is_current = conf.is_some_and(|conf| members.iter().any(|member| conf.voters.contains(&member.id)));
    let one = |member: &Member| {
        let kind = match (member.is_learner, of_conf(member.id).or_else(|| of_snapshot(member.id))) {
            (true, Some(Raft::Voter)) => ConflictKind::LearnerInDatabase,
            (false, Some(Raft::Learner)) => ConflictKind::VoterInDatabase,
            (_, None) if is_current && snapshot.is_some() => ConflictKind::UnknownToRaft,
            _ => return None,
        };
        // The database of an etcd 3.5 has no name for a member that joined as a learner.
        let named = snapshot.and_then(|snapshot| snapshot.names.get(&member.id)).filter(|_| member.name.is_empty());
        let name = named.unwrap_or(&member.name).clone();
        let url = member.peer_urls.first().cloned().unwrap_or_default();
        Some(MemberConflict { id: format!("{:x}", member.id), name, url, kind })
    };
    members.iter().filter_map(one).collect()
}

fn role(id: u64, (voters, learners): (&Vec<u64>, &Vec<u64>)) -> Option<Raft> {
    match () {
        () if voters.contains(&id) => Some(Raft::Voter),
        () if learners.contains(&id) => Some(Raft::Learner),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        Member { id, name: format!("m{id}"), is_learner, ..Member::default() }
    }

    #[test]
    fn a_member_that_the_database_and_raft_disagree_about_is_named() {
        use ConflictKind::{LearnerInDatabase, UnknownToRaft, VoterInDatabase};
        let conf =
            |voters: &[u64], learners: &[u64]| Some(ConfState { voters: voters.to_vec(), learners: learners.to_vec() });
        let snapshot = |voters: &[u64], members: &[(u64, bool)]| {
            Some(RaftSnapshot { voters: voters.to_vec(), members: members.to_vec(), ..RaftSnapshot::default() })
        };
        let three = [member(1, false), member(2, true), member(3, true)];
        let voters = [member(1, false), member(2, false)];
        for (situation, members, conf, snapshot, expected) in [
            ("they agree", &three[..2], conf(&[1], &[2]), None, vec![]),
            ("promoted", &three, conf(&[1, 2, 3], &[]), None, vec![(2, LearnerInDatabase), (3, LearnerInDatabase)]),
            ("one was", &three, conf(&[1, 2], &[3]), None, vec![(2, LearnerInDatabase)]),
            ("etcd 3.4, by its snapshot", &three[..2], None, snapshot(&[1, 2], &[]), vec![(2, LearnerInDatabase)]),
            (
                "by its old store",
                &three[..2],
                None,
                snapshot(&[], &[(1, false), (2, false)]),
                vec![(2, LearnerInDatabase)],
            ),
            (
                "the conf state is newer",
                &three[..2],
                conf(&[1, 2], &[]),
                snapshot(&[1], &[(2, true)]),
                vec![(2, LearnerInDatabase)],
            ),
            ("the other way round", &voters, conf(&[1], &[2]), None, vec![(2, VoterInDatabase)]),
            ("removed long ago", &voters, conf(&[1], &[]), snapshot(&[1], &[(1, false)]), vec![(2, UnknownToRaft)]),
            ("removed, and no snapshot tells", &voters, conf(&[1], &[]), None, vec![]),
            ("restored by etcdutl", &voters, conf(&[7, 8], &[]), snapshot(&[1, 2], &[]), vec![]),
            ("added since the snapshot", &voters, conf(&[1, 2], &[]), snapshot(&[1], &[]), vec![]),
            ("nothing is known", &three, None, None, vec![]),
        ] {
            let found = conflicts(members, conf.as_ref(), snapshot.as_ref());
            let found: Vec<_> = found.iter().map(|one| (u64::from_str_radix(&one.id, 16).unwrap(), one.kind)).collect();
            assert_eq!(found, expected, "{situation}");
        }
    }
}
