//! The lab.

pub mod apiserver;
pub mod control;
pub mod election;
pub mod flags;
