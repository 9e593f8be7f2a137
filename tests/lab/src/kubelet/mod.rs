//! A kubelet for the lab: static pods through the CRI, written from what a real kubelet (1.36.2) was measured to do, not
//! from what anybody wishes of it.
//!
//! ```text
//!  manifest directory ─▶ source ─▶ store ─▶ run (sync loop) ─▶ workers ─▶ sync ─▶ runtime (CRI)
//!                          │ manifest         ▲   ▲   │          worker    │  │ spec, volumes, backoff
//!                                             │   │   └▶ gc                │  └▶ mirror ─▶ api ─▶ API server
//!                                       pleg ─┘   └─ probes ◀──────────────┘
//!  10248 /healthz, 10250 /pods: server ◀─ status        lease        control: @lab/kubelet        scale: the clock's gear
//! ```
//!
//! Left out, because no static pod of a control plane needs it: pod networks, volumes other than hostPath and emptyDir,
//! init and ephemeral containers, life-cycle hooks, resource limits, eviction, admission, gRPC probes.

pub mod api;
pub mod backoff;
pub mod control;
pub mod gc;
pub mod http;
pub mod klog;
pub mod lease;
pub mod manifest;
pub mod mirror;
pub mod options;
pub mod pleg;
pub mod podset;
pub mod probes;
mod refusals;
pub mod review;
pub mod run;
pub mod runtime;
pub mod scale;
pub mod server;
pub mod source;
pub mod spec;
pub mod status;
pub mod store;
pub mod sync;
pub mod volumes;
pub mod worker;
pub mod workers;
