//! lastgood keeps the last known-good state of a Kubernetes control plane on the node itself, and puts it back.
//!
//! The map, in the order of the flow:
//!
//! ```text
//!  wakes: inotify, timer, signal, request      (a wake is a hint, never a fact)
//!     │
//!     ▼
//!  observe ──Observation──▶ judge ──Judgement──▶ decide ──Decision──▶ act ──Outcome──▶ record
//!  reads only               pure                 pure                 the hands        the memory
//! ```
//!
//! [`model`] holds the nouns; [`etcd`] reads an etcd's files as they lie on disk,
//! [`snapshots`] takes and keeps copies of its data. Imports point from the shell to the core: judge and decide import only the model.

pub mod act;
pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod decide;
pub mod etcd;
pub mod journal;
pub mod judge;
pub mod model;
pub mod observe;
pub mod record;
pub mod report;
pub mod snapshots;
pub mod sys;
