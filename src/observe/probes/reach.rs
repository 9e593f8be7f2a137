//! One look at any member of the cluster, for a command that changes it: through the client URLs that the member
//! advertises, with the certificate that lastgood has for the member of this node.

use std::time::Duration;

use tokio::time::Instant;

use super::etcd::{Etcd, EtcdEndpoint};
use super::member::ways_to;
use crate::model::Reading;
use crate::model::etcd::{Agreed, Member, MemberStatus};

/// What a member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAnswer {
    pub status: MemberStatus,
    /// Where its linearizable read found the cluster, or why there was no such read.
    pub agreed: Result<Agreed, String>,
}

/// The addresses of another member, of which `own` is the one of this node.
pub fn member_endpoints(own: &EtcdEndpoint, member: &Member) -> Vec<EtcdEndpoint> {
    ways_to(own, member)
}

/// Asks a member for its status and for a linearizable read, within this time.
///
/// # Errors
/// A sentence: what it answered instead of a status.
pub async fn ask_member(endpoint: &EtcdEndpoint, within: Duration) -> Result<MemberAnswer, String> {
    let deadline = Instant::now() + within;
    let etcd = Etcd::connect(endpoint, deadline).await.map_err(sentence)?;
    let (status, agreed) = tokio::join!(etcd.status(deadline), etcd.agreed(deadline));
    Ok(MemberAnswer { status: status.map_err(sentence)?, agreed: agreed.map_err(sentence) })
}

/// The members of its cluster, as this member knows them.
///
/// # Errors
/// A sentence: what it answered instead.
pub async fn list_members(endpoint: &EtcdEndpoint, within: Duration) -> Result<Vec<Member>, String> {
    let deadline = Instant::now() + within;
    let etcd = Etcd::connect(endpoint, deadline).await.map_err(sentence)?;
    etcd.members(deadline).await.map_err(sentence)
}

fn sentence(reading: Reading) -> String {
    reading.symptom().map(ToString::to_string).unwrap_or_default()
}
