//! The lab.

pub mod kubelet;
