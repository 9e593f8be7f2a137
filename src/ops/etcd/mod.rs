//! What the etcd commands do over time.

pub(crate) mod maintenance;
pub(crate) mod node;
pub(crate) mod restore;
pub(crate) mod serves;
pub(crate) mod snapshot_ref;
pub(crate) mod suspension;
