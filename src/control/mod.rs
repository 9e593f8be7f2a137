//! The control socket: how a person's wish reaches the one task that changes things.
//!
//! ```text
//!   CLI ── {"version":1,"ask":…}\n ──▶ server ──Asked──▶ agent        (mpsc: one task changes things)
//!   CLI ◀─ {"version":1,"answer":…}\n ─ server ◀─Answer── agent
//!                                         └──── events (broadcast) for `follow`
//! ```
//!
//! Root only: the file is 0600 and the peer's credentials are asked for as well. Lines, waits and connections are bounded,
//! so that nothing a client does holds up the agent.

pub mod client;
pub mod protocol;
pub mod server;

use std::path::PathBuf;

pub use client::{Client, Reach};
pub use protocol::{Answer, Ask, How};
pub use server::{Asked, Listener, serve};

use crate::config::Settings;

/// The socket of an agent with these settings.
pub fn socket_path(settings: &Settings) -> PathBuf {
    settings.paths.run.join("lastgood.sock")
}
