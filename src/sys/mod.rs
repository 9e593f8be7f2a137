//! Thin wrappers of the operating system. No policy here, only calls whose errors name what they failed on.

pub mod clock;
pub mod command;
#[cfg(test)]
pub(crate) mod crash;
pub mod files;
pub mod fsync_bench;
pub mod io_priority;
pub mod label;
pub mod lock_file;
pub mod proc;
pub mod shared_lock;
