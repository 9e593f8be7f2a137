//! etcd's file formats, read without etcd: no lock is taken, nothing is mapped, nothing is written.
//!
//! ```text
//!   DATA-DIR/member/snap/db ──bbolt/──▶ pages, buckets, keys ──backend.rs──▶ indexes, members, versions, revision
//!   DATA-DIR/member/wal/*.wal ──wal.rs──▶ records ──raft_entries.rs──▶ what an entry asks for
//!                                                         │
//!                        versions.rs: what both say of the versions that may open the data (R9)
//!           origin.rs: whether a restore wrote the WAL     at_rest.rs: how far the data of a stopped etcd have come
//!   DATA-DIR/member/snap/*.snap ──raft_snapshot.rs──▶ members     member_check.rs: whether those of the database are the same
//!                                                         start_check.rs: whether an etcd can start over all three
//!   bar.rs: keeps every etcd from starting over a data directory
//!   a snapshot ──restore/──▶ a data directory
//!   a snapshot, or a data directory built from one ──snapshot/──▶ its content; or where it is damaged
//!                                                          │ encryption.rs: whether the API server can decrypt it
//! ```
//!
//! Any input gives a value, or an error that names the file and the place in it. Memory is bounded by a few of the
//! largest page runs or records.

pub mod at_rest;
pub mod backend;
pub mod bar;
pub mod bbolt;
pub mod encryption;
pub mod key_value;
pub mod member_check;
pub mod origin;
pub(crate) mod proto;
mod raft_entries;
pub mod raft_snapshot;
pub mod restore;
pub mod snapshot;
pub mod start_check;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod versions;
pub mod wal;
