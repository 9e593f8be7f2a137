//! CRI v1, the container runtime's interface: its messages and client, for those who read it (observe) and who change
//! it (act). `v1.proto` is the part of it that we speak, and says where it comes from; `generate` makes `v1.rs` of it, so that no
//! build needs protoc. The lab takes the same file.

#[allow(missing_docs, clippy::all, reason = "generated; v1.proto has the descriptions")]
#[rustfmt::skip]
pub mod v1;
