//! Reports: one value each for status, explain, history, a plan and so on; text, JSON, YAML and systemd's status line
//! are printers of these values.
//!
//! ```text
//!   Memory ─┐
//!   Judgement ─┼─ ReportInput ──▶ Status, Explanation, History ──▶ text | JSON | YAML | STATUS=
//!                                              Status ──▶ metrics
//!   agent, policy ─┘
//!   Memory + Decision ──▶ Planned ──▶ text | JSON
//!   what the agents of other masters reported ──▶ Peers ──▶ text | JSON | YAML
//!   certificates ──▶ Certificates ──▶ text | JSON | YAML
//!   status of an etcd member and its cluster ──▶ EtcdView ──▶ text | JSON | YAML
//!   the same, the disk, measurements ──▶ Sizing ──▶ text | JSON | YAML
//!   a verified snapshot ──▶ Snapshot ──▶ text | JSON | YAML      the stored snapshots ──▶ Shelf ──▶ the same
//!   an opened bundle ──▶ Unpacked ──▶ the same
//!   Observation + Memory + Places + the store re-read ──▶ Doctor ──▶ text | JSON | YAML
//!   a manifest and what it needs of the node ──▶ ManifestCheck ──▶ the same
//! ```
//!
//! What goes to machines names its form and its kind: [`document`](crate::model::document).
//!
//! No I/O and no clock here: the same input gives the same text.

pub mod bundle;
pub mod certificates;
pub mod check;
mod cluster;
pub mod counters;
pub mod doctor;
pub mod etcd;
pub mod etcd_plan;
pub mod explain;
#[cfg(test)]
mod golden;
pub mod history;
pub mod input;
mod kinds;
pub mod metrics;
pub mod next_action;
pub mod planned;
#[cfg(test)]
mod situations;
pub mod sizing;
pub mod snapshot;
pub mod snapshot_list;
pub mod state;
pub mod status;
pub mod systemd_status;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod text;

pub use crate::model::document::{API_VERSION, List};
pub use crate::report::input::{Agent, Process, ReportInput};
pub use bundle::Unpacked;
pub use certificates::Certificates;
pub use check::ManifestCheck;
pub use counters::Counters;
pub use doctor::{Doctor, Examined};
pub use etcd::EtcdView;
pub use etcd_plan::{EtcdPlan, EtcdPlanAlarm, EtcdPlanMember, EtcdWork};
pub use explain::Explanation;
pub use history::{GenerationRow, History};
pub use planned::Planned;
pub use sizing::Sizing;
pub use snapshot::Snapshot;
pub use snapshot_list::{SnapshotList, SnapshotRow};
pub use state::{StageView, State};
pub use status::{Status, is_of_note};
pub use systemd_status::systemd_line;
pub use text::{Format, Paint};
