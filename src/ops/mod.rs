//! What a command does over time. The command line parses, calls these and prints:
//!
//! - the service, which is `lastgood run`;
//! - a request, followed until it is carried out, by the agent or in this process;
//! - the gate before the kubelet;
//! - a restore of etcd, with the manifests of etcd and kube-apiserver out of the way.
//!
//! ```text
//!   backend ─ running ─▶ control socket ─▶ the agent ─▶ follow: its events, until the component serves
//!      └───── stopped ─▶ offline: the state directory, and the same decide under the agent's lock
//! ```

pub(crate) mod backend;
pub(crate) mod etcd;
pub mod failure;
pub(crate) mod follow;
pub(crate) mod gate;
pub(crate) mod offline;
pub(crate) mod progress;
pub(crate) mod service;
