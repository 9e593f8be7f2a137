//! The control socket: carries requests of the command line to the agent, the one task that changes the node.
//!
//! ```text
//!   CLI ── {"version":1,"ask":…}\n ──▶ server ──Asked──▶ agent        (mpsc: one task changes things)
//!   CLI ◀─ {"version":1,"answer":…}\n ─ server ◀─Answer── agent
//!                                         └──── events (broadcast) for `follow`
//! ```
//!
//! Root only: the socket has mode 0600, and the server also checks the peer's credentials. Line lengths, timeouts and
//! the number of connections are bounded, so that no client can block the agent.

pub mod client;
pub mod protocol;
pub mod server;

use std::path::PathBuf;

pub use client::{Client, Reach};
pub use protocol::{Answer, Call, Execution};
pub use server::{Asked, Listener, serve};

use crate::config::Settings;

/// The socket of an agent with these settings.
pub fn socket_path(settings: &Settings) -> PathBuf {
    settings.paths.run.join("lastgood.sock")
}
