//! The values that rooms exchange. No I/O and no policy here.
//!
//! ```text
//!   Observation ──judge──▶ Judgement ──decide──▶ Decision { memory, plan, events }
//!       (seen)              (judged)               (known)  (wanted) (reported)
//! ```
//!
//! Every other room imports from this one; this one imports from none.

pub mod addresses;
pub mod answer;
pub mod certificate_use;
pub mod check;
pub mod clock;
pub mod component;
pub mod component_state;
pub mod config_files;
pub mod digest;
pub mod document;
pub mod environment;
pub mod etcd;
pub mod etcd_data;
pub mod etcd_guard;
pub mod etcd_history;
pub mod event;
pub mod file_fault;
pub mod format;
pub mod generation;
pub mod hook;
pub mod host_path;
pub mod inhibitor;
pub mod klog;
pub mod kubelet_log;
pub mod kubelet_probe;
pub mod kubelet_yaml;
pub mod lease;
pub mod lift;
pub mod lineage;
pub mod manifest;
pub mod member_conflict;
pub mod memory;
pub mod metrics_page;
pub mod notice;
pub mod observation;
pub mod overall;
pub mod peer;
pub mod plan;
pub mod policy;
pub mod predictions;
pub mod preflight;
pub mod reading;
pub mod sandbox_setup;
pub mod snapshot;
pub mod store_fault;
pub mod unknown_fields;
pub mod verdict;
pub mod versions;

pub use clock::{Moment, Tick};
pub use component::{ComponentId, Role};
pub use component_state::ComponentState;
pub use config_files::{ClosureFile, FileKind, FileState};
pub use digest::Digest;
pub use etcd::EtcdStatus;
pub use event::Event;
pub use file_fault::FileFault;
pub use format::{Format, NewerFile};
pub use generation::{Generation, Proof, Trust};
pub use lease::{Lease, LeaseLook};
pub use manifest::Manifest;
pub use memory::Memory;
pub use observation::Observation;
pub use plan::{Decision, Request, Step};
pub use policy::Policy;
pub use predictions::Prediction;
pub use reading::{Probe, Reading, Symptom};
pub use snapshot::Snapshots;
pub use verdict::{Assessment, Judgement, Verdict};
pub use versions::DataVersion;
