//! The agents next to the other members of etcd: asks each of them how its master is, and answers them. Only reports are
//! exchanged; nobody moves anybody. Where etcd has one member, no port is opened and nobody is asked.
//!
//! ```text
//!   a pass ──Master: the members, this one's certificates──▶ client ── GET /v1/report, every 30 s ──▶ the other agents
//!     │                                                        └──▶ Peers: status, doctor, metrics, notices
//!     └──Known: how this node is──▶ report ◀── server ◀── GET /v1/report ── the other agents
//!                                               ├ verifier: etcd's peer CA, client usage, the name of a member
//!                                               └ slots: who holds connections open delays only itself
//! ```
//!
//! Connections use etcd's own peer certificates, in both directions. What comes is data to be shown: it is bounded in size
//! and time, and counts only for the member whose peer URL was dialled and whose ID it names.

mod answer;
mod client;
mod doctor;
mod master;
mod metrics;
mod notices;
mod report;
mod server;
mod server_tls;
mod settings;
mod slots;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod verifier;

pub use metrics::metrics;
pub use task::REGISTRATION;
