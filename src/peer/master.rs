//! What a pass hands to the tasks: which cluster this master belongs to, and how its etcd meets the other members.

use std::collections::BTreeSet;

use crate::model::ComponentId;
use crate::model::etcd::Member;
use crate::model::etcd_history::EtcdHistory;
use crate::observe::{LocalMember, PeerUrls, Peering};

/// This master among the others. It changes with the cluster, not with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    /// Its etcd.
    pub etcd: ComponentId,
    /// The cluster's ID.
    pub cluster: u64,
    /// The ID of this node's member.
    pub own: u64,
    /// Every member, as they were listed last.
    pub members: Vec<Member>,
    pub peering: Peering,
}

impl Master {
    /// What a pass found; nothing where etcd has no other member, or this node no etcd. A manifest that is out for a while
    /// changes nothing: `before` counts then.
    pub(super) fn of(known: &EtcdHistory, member: Option<&LocalMember>, before: Option<&Self>) -> Option<Self> {
        let known = known.latest().filter(|known| known.members.len() > 1)?;
        let found = member.and_then(|member| Some((member.component.clone(), member.peering.clone()?)));
        let (etcd, peering) = found.or_else(|| before.map(|before| (before.etcd.clone(), before.peering.clone())))?;
        Some(Self { etcd, cluster: known.cluster, own: known.member, members: known.members.clone(), peering })
    }

    /// The members on other nodes.
    pub(super) fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.id != self.own)
    }

    /// The hosts of the peer URLs of all members: a certificate that names none of them is no peer's.
    pub(super) fn hosts(&self) -> BTreeSet<String> {
        self.members.iter().flat_map(|member| PeerUrls::of(member).hosts).collect()
    }
}

/// A member by a name that the operator knows.
pub(super) fn name_of(member: &Member) -> String {
    if member.started() { member.name.clone() } else { format!("{:x}", member.id) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::etcd_history::ClusterHistory;
    use crate::observe::testing::Pki;

    fn known(members: u8) -> EtcdHistory {
        let member = |number: u8| Member {
            id: number.into(),
            name: if number == 3 { String::new() } else { format!("m{number}") },
            peer_urls: vec![format!("https://10.0.0.{number}:2380")],
            client_urls: Vec::new(),
            learner: false,
        };
        let world = ClusterHistory {
            cluster: 0xc1,
            member: 1,
            members: (1..=members).map(member).collect(),
            term: 1,
            raft_index: 1,
            revision: 1,
            highest_revision: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            version: "3.5.16".into(),
            sizes: Vec::new(),
        };
        EtcdHistory { worlds: vec![world] }
    }

    #[test]
    fn only_a_cluster_of_several_members_has_masters_and_a_manifest_that_is_out_for_a_while_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let peering = Peering { listens: BTreeSet::from([[10, 0, 0, 1].into()]), security: Err("none".into()) };
        let here = |peering: Option<&Peering>| LocalMember {
            component: ComponentId::system("etcd"),
            way: Pki::new(dir.path()).way(2379, "client"),
            data_dir: None,
            peering: peering.cloned(),
        };
        let (read, unread) = (here(Some(&peering)), here(None));
        let master = Master::of(&known(3), Some(&read), None).unwrap();
        assert_eq!(master.others().map(name_of).collect::<Vec<_>>(), ["m2", "3"]);
        assert_eq!(master.hosts(), ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(String::from).into());
        for (situation, known, member, before, several) in [
            ("nothing is on record", EtcdHistory::default(), Some(&read), None, false),
            ("one member", known(1), Some(&read), None, false),
            ("one member is left", known(1), Some(&read), Some(&master), false),
            ("two members", known(2), Some(&read), None, true),
            ("the manifest was never read", known(3), Some(&unread), None, false),
            ("the manifest cannot be read", known(3), Some(&unread), Some(&master), true),
            ("the manifest is out", known(3), None, Some(&master), true),
            ("no etcd", known(3), None, None, false),
        ] {
            assert_eq!(Master::of(&known, member, before).is_some(), several, "{situation}");
        }
    }
}
