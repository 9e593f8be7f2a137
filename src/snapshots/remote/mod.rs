//! Snapshots in object storage: uploaded, read back and compared, pruned, downloaded. Local snapshots do not depend on
//! it and never wait for it.
//!
//! ```text
//!   keeper ──kept──▶ task: what is missing there? ─▶ upload: NAME.db, its parts ─▶ read back, compare ─▶ NAME.db.proof.json last
//!                      │                                        any failure: back-off, remembered, reported once
//!                      ├─▶ abort the uploads that an earlier process began and did not finish
//!                      ├─▶ prune: by the same rules as here, only this node's clusters
//!                      └─▶ seen (.remote.json next to the snapshots) ──▶ status, doctor, the pass
//!   restore, verify ──▶ fetch: a private local staging file, compared with its proof
//! ```
//!
//! A remote snapshot counts as verified if its proof exists, is intact, and describes an object of that name, length
//! and last 32 bytes. So a partial upload does not count, nor does an object that was truncated later.

mod credentials;
mod fetch;
mod get;
pub mod list;
mod open;
mod prune;
mod put;
mod seen;
pub mod send;
mod store;
pub mod task;
#[cfg(test)]
pub(crate) mod tests;
mod trouble;
mod unfinished;

pub use fetch::Fetched;
pub use list::{SnapshotList, Stored};
pub use prune::{Surplus, meant, own_clusters, surplus};
pub use seen::seen;
pub use store::Remote;
pub use task::UploadTask;
pub use trouble::Trouble;

use std::io;

use super::Name;

/// Looks at the disk, which may hang, next to everybody else.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| io::Error::other("a thread ended before its work was done"))?
}

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
