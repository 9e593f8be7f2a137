//! Notifies people: runs a configured command when something begins to wait for the operator, and when it does no more.
//!
//! ```text
//!   a pass ─▶ waiting.rs: what waits for the operator ─▶ outbox.rs: which messages are due ─▶ task.rs: the command, one at a time
//!                                                        │                                  └ fails: retried, reported once
//!                                                        └ what was sent: a file in the run directory
//! ```
//!
//! What was sent outlives the agent's restart, so that nobody is paged twice. A reboot clears it: what still waits for the
//! operator then is news again.

mod doctor;
mod outbox;
mod program;
mod sent_file;
mod settings;
mod task;
mod waiting;

pub use program::Unusable;
pub use task::{REGISTRATION, check_command, try_command};
