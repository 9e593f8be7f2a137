//! Snapshots: whether one is undamaged, and its content.
//!
//! ```text
//!   FILE = database + SHA-256 of it   (`etcdctl snapshot save`; a copy of member/snap/db lacks the last 32 bytes)
//!     │
//!     ├─ bytes.rs: in byte order ──▶ SHA-256
//!     └─ page by page, contents.rs ──▶ its content; encrypted.rs: the keys that the API server encrypted it with
//!          verify.rs: both at once ──▶ Verified { size, sha256, whole, trailer, contents }  or   Rejected: which page, and the fault
//!          mistaken.rs, signatures.rs: what a rejected file is instead of a snapshot
//!
//!   DATA-DIR built from one ── data_dir.rs ──▶ may be started, or why not
//! ```

mod bytes;
mod contents;
pub mod data_dir;
mod encrypted;
mod mistaken;
mod signatures;
mod verify;

pub use super::snapshot::bytes::TRAILER;
pub use super::snapshot::contents::{Contents, Tally};
pub use encrypted::{EncryptedBy, IDENTITY};
pub use mistaken::{Is, Mistaken};
pub use signatures::{Archive, Cipher, Other, Packed};
pub use verify::{RawCopy, Rejected, Trailer, Verified, reread, verify};
