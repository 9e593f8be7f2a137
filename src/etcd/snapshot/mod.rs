//! Snapshots: whether one is whole, and what it holds.
//!
//! ```text
//!   FILE = database + SHA-256 of it   (`etcdctl snapshot save`; a copy of member/snap/db lacks the last 32 bytes)
//!     │
//!     ├─ bytes.rs: in order, byte by byte ──▶ SHA-256
//!     └─ page by page, contents.rs ──▶ what it holds
//!          verify.rs: both at once ──▶ Verified { size, sha256, whole, trailer, contents }  or   Rejected: which page, and what is wrong
//!
//!   DATA-DIR that was built of one ── data_dir.rs ──▶ fit to be started, or why not
//! ```

mod bytes;
mod contents;
pub mod data_dir;
mod verify;

pub use super::snapshot::bytes::TRAILER;
pub use super::snapshot::contents::{Contents, Tally};
pub use verify::{RawCopy, Rejected, Trailer, Verified, reread, verify};
