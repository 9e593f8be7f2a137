//! Thin hands on the operating system: no opinion here, only calls that name what they failed on.

pub mod files;
//! Thin hands on the operating system: no opinion, no state.

pub mod clock;
pub mod proc;
