//! The configuration of the agents of other masters: the keys of `[peers]`.

use crate::config::keys::{Field, Key, key};

/// The keys, in the order of the file.
pub(super) const KEYS: &[Key] = &[key(
    "peers.port",
    Field::Port(|s| &mut s.peers.port),
    "TCP port on which the agents of the masters ask each other for a report, where etcd has several members; the same on \
     every master; `0`: this agent neither asks nor answers",
)];
