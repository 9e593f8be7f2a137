//! Thin wrappers of the operating system. No policy here, only calls whose errors name what they failed on.

pub mod clock;
#[cfg(test)]
pub(crate) mod crash;
pub mod files;
pub mod idle;
pub mod lock_file;
pub mod proc;
pub mod sync_writes;
