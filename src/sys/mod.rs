//! Thin hands on the operating system: no opinion, no state.

pub mod clock;
pub mod proc;
