//! What a pass hands to the tasks: which cluster this master belongs to, and how its etcd meets the other members.

use std::collections::BTreeSet;

use crate::feature::PassEnd;
use crate::model::ComponentId;
use crate::model::etcd::Member;
use crate::observe::{PeerUrls, Peering};

/// This master among the others. It changes with the cluster, not with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    /// Its etcd.
    pub etcd: ComponentId,
    /// The cluster's ID.
    pub cluster: u64,
    /// The ID of its own member.
    pub own: u64,
    /// Every member, as they were listed last.
    pub members: Vec<Member>,
    pub peering: Peering,
}

impl Master {
    /// What a pass found; nothing where etcd has no other member, or this node no etcd. A manifest that is out for a while
    /// changes nothing: `before` counts then.
    pub(super) fn of(pass: PassEnd<'_>, before: Option<&Self>) -> Option<Self> {
        let known = pass.known.latest().filter(|known| known.members.len() > 1)?;
        let found = pass.member.and_then(|member| Some((member.component.clone(), member.peering.clone()?)));
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
