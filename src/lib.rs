//! lastgood keeps the last known-good state of a Kubernetes control plane on the node itself, and puts it back.
//!
//! One pass, in the order of the flow:
//!
//! ```text
//!  wake-ups: inotify, timer, CRI event, signal, request      (a wake-up is a hint, never a fact)
//!     │
//!     ▼
//!  observe ──Observation──▶ judge ──Judgement──▶ decide ──Decision──▶ act ──Outcome──▶ record
//!  reads only               pure                 pure                 changes the host  the memory
//! ```
//!
//! The rooms, in layers. A room imports from lower layers, and from its own where that makes no cycle; no two modules use
//! each other, except a module and its parent. Tests hold both (`tests/house`), and `tests/graph` prints the graph.
//!
//! ```text
//!  cli                                       arguments and printing
//!  ops                                       what a command does over time: the service, following a request, a restore
//!  agent    control                          the loop; the socket that the command line talks to
//!  report                                    status, explain, doctor, history, metrics: one value each, and its printers
//!  hook                                      notifies people with a configured command
//!  peer                                      the agents next to the other members of etcd: asks them, and answers them
//!  snapshots                                 copies of etcd's data: taken, verified, kept, uploaded, bundled with the node's files
//!  feature                                   the interface of a capability with background tasks
//!  observe  act  record  │  judge  decide    reads the node; changes it; remembers  │  functions of values, without I/O
//!  config   journal  etcd   cri              settings; journald and systemd; etcd's file formats, and restoring from them;
//!                                            the container runtime's interface
//!  sys                                       thin wrappers of the operating system
//!  model    rules                            the values that rooms exchange; the rules that all of them obey
//! ```
//!
//! # Where a change goes
//!
//! A **component**: any static pod is one already. For more than its own probes: a `Role` in `model/component.rs`, in
//! the order of dependence, and what it depends on in `Role::depends_on`; its probes in `observe/probes/plan.rs`; its
//! ports in `model/manifest.rs`; what explains its trouble in `judge/causes.rs`.
//!
//! A **probe**: an entry of `observe/probes/plan.rs`. A new kind of probe is a file next to `observe/probes/http.rs`.
//! An answer is good, bad with a symptom, or "cannot tell", which changes nothing.
//!
//! A **step** that changes the host: a variant of `model::Step`, carried out by one function in `act`. It checks again
//! what the decision relied on (Q15), and it is safe to repeat.
//!
//! A **reason not to act**: a variant of [`model::inhibitor::Inhibitor`], and the line of `Inhibitor::all` that finds it. The
//! order there names the first one; status, explain and the metrics follow. Doctor says in `report/doctor/node.rs` how bad
//! it is.
//!
//! A **notice**: something the operator has to know and lastgood does nothing about. Its subject is a variant in
//! `model/notice.rs`; it is found in `decide/members.rs` for etcd, in `decide/environment.rs` for the node, and by a
//! capability in its own `notices.rs`.
//!
//! A **metric**: a field of `report::Status` or `report::Counters`, and its line in `report/metrics.rs`, or in `metrics.rs`
//! of its capability.
//!
//! A **check of doctor**: one function in the matching file of `report/doctor`, or in `doctor.rs` of its capability.
//!
//! A **field of a file on disk**: another line in the versions of its [`model::Format`], a fixture of that version, and its list
//! of fields (`tests/house/formats.rs` says how). One that gets another name or form is lifted in `model/lift.rs`.
//!
//! A **configuration key**: its field and default in `config/settings.rs` (of what judge and decide go by: in
//! `model/policy.rs`), and one row of [`config::keys::CORE`], or of `settings.rs` in its capability; the loader,
//! `config show`, the man page and the example follow.
//! One that gets a new name keeps the old one in `config/renamed.rs`.
//!
//! A **command**: a variant in `cli/mod.rs` and one file in `cli`, which parses and prints; what takes time is in `ops`.
//!
//! A **capability** with background tasks, as snapshots have: a room that implements [`feature::Feature`], and its line in
//! the table of `agent/features.rs`, which starts its tasks and hands out its configuration keys (`settings.rs`), its
//! notices (`notices.rs`) and its checks (`doctor.rs`). It reports through the one inbox and fills its part of
//! [`feature::View`]. Its section of status (`view.rs`) is a field of `report::Status`, and its metrics (`metrics.rs`) one
//! call in `report/metrics.rs`. Its subjects of notices are variants in `model/notice.rs`.
//!
//! A format of **etcd**'s that changes with its version: `etcd/backend.rs` (buckets and keys), `etcd/raft_entries.rs` (entries of
//! the WAL), `etcd/snapshot/contents.rs` and `etcd/restore/transform.rs`. Kubernetes' objects in it: `etcd/key_value.rs`.

pub mod act;
pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod cri;
pub mod decide;
pub mod etcd;
pub mod feature;
pub mod hook;
pub mod journal;
pub mod judge;
pub mod model;
pub mod observe;
pub mod ops;
pub mod peer;
pub mod record;
pub mod report;
pub mod rules;
pub mod snapshots;
pub mod sys;
