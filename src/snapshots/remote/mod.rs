//! Snapshots in object storage: sent there, read back and compared, pruned, fetched. Nothing of it is needed for those that
//! lie here, and whatever it does, they do not wait for it.
//!
//! ```text
//!   keeper ──kept──▶ task: what lacks there? ─▶ send: NAME.db, its parts ─▶ read back, compare ─▶ NAME.db.proof.json last
//!                      │                                        any failure: back-off, remembered, told once
//!                      ├─▶ prune: by the same rules as here, of this node's clusters alone
//!                      └─▶ seen (.remote.json beside the snapshots) ──▶ status, doctor, the pass
//!   restore, verify ──▶ fetch: a private staging file here, compared with its proof
//! ```
//!
//! What counts as verified there: a proof stands beside it, is whole, and is about an object of that name, length and last
//! 32 bytes. So a half upload counts for nothing, nor does an object that was cut off behind our back.

mod credentials;
mod fetch;
mod get;
mod open;
mod prune;
mod put;
mod seen;
pub mod send;
pub mod shelf;
mod store;
pub mod task;
#[cfg(test)]
pub(crate) mod tests;
mod trouble;

pub use fetch::Fetched;
pub use prune::{Surplus, meant, own_clusters, surplus};
pub use seen::seen;
pub use shelf::{Shelf, Stored};
pub use store::Remote;
pub use task::Uploader;
pub use trouble::Trouble;

use super::Name;

/// How the names of all that travels with a snapshot begin.
fn stem(name: &Name) -> String {
    let text = name.to_string();
    text.strip_suffix(".db").unwrap_or(&text).to_owned()
}

/// Whether a file travels with a snapshot: its name begins as the snapshot's does.
fn belongs(file: &str, to: &Name) -> bool {
    // A copy's name begins as that of a stream of the same moment.
    file.strip_prefix(&stem(to)).is_some_and(|rest| rest.starts_with('.') && !rest.starts_with(".raw."))
}
