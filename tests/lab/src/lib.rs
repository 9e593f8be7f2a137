//! The lab.
pub mod images;
pub mod manifests;
pub mod node;
pub mod pki;
