//! What controller manager and scheduler have in common: a lease held through the API server, and dying without it.
//!
//! [`elector`] thinks (a plain function of time and of what the lease says), [`client`] talks, [`component`] puts them
//! into a process with flags, a health port and exit codes.

pub mod client;
pub mod component;
mod component_flags;
pub mod elector;
pub mod kubeconfig;
