//! What a command does over time: the service itself, a request that is followed until it is carried out, with the agent
//! running or in this process, and a restore with the manifests of etcd and kube-apiserver out of the way. The command line
//! parses, calls these and prints.
//!
//! ```text
//!   backend ─ running ─▶ control socket ─▶ the agent ─▶ follow: its events, until the component serves
//!      └───── stopped ─▶ offline: the state directory, and the same decide under the agent's lock
//! ```

pub(crate) mod backend;
pub(crate) mod etcd;
pub mod failure;
pub(crate) mod follow;
pub(crate) mod offline;
pub(crate) mod progress;
pub(crate) mod service;
