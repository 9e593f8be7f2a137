//! Tests with real TLS sockets on the loopback.

use jiff::Timestamp;

use crate::model::Digest;
use crate::model::overall::Overall;
use crate::model::peer::{EtcdId, Peer, PeerEtcd, PeerReport, Peers};
use crate::model::policy::Mode;

/// A report of a master whose etcd serves.
pub(crate) fn report(node: &str, cluster: u64, member: u64) -> PeerReport {
    PeerReport {
        at: Timestamp::UNIX_EPOCH,
        observed: Timestamp::UNIX_EPOCH,
        version: "0.1.0".to_owned(),
        node: node.to_owned(),
        machine: Digest::of(node.as_bytes()),
        overall: Some(Overall::Good),
        sentence: "all is well".to_owned(),
        mode: Some(Mode::Act),
        pause: None,
        inhibitors: Vec::new(),
        api_server_serves: Some(true),
        etcd: PeerEtcd {
            cluster: Some(EtcdId(cluster)),
            member: Some(EtcdId(member)),
            version: Some("3.5.16".to_owned()),
            serves: true,
            why_not: None,
            leader: Some(EtcdId(1)),
            learner: Some(false),
            revision: Some(754),
            term: Some(3),
            raft_index: Some(900),
            applied_index: Some(900),
            record: None,
            barred: Some(false),
            barred_because: None,
        },
    }
}

/// Three members, of which the first is the one of this node; every agent answers.
pub(crate) fn peers() -> Peers {
    let peer = |id: u64| Peer {
        id: EtcdId(id),
        name: format!("m{id}"),
        address: format!("10.0.0.{id}"),
        local: id == 1,
        trouble: None,
        trouble_since: None,
        answered: Some(Timestamp::UNIX_EPOCH),
        clock_ahead_millis: (id != 1).then_some(3),
        certificate: None,
        report: Some(report(&format!("master-{id}"), 0xc1, id)),
    };
    let members = [1, 2, 3].map(peer).into();
    Peers { at: Timestamp::UNIX_EPOCH, cluster: EtcdId(0xc1), port: 2384, not_answering: None, members }
}

mod answers;
mod requests;
mod sockets;
