//! The lab: one Kubernetes master to try the agent on, with real parts where they can be had.
//!
//! ```text
//! node ──▶ real: etcd, containerd, runc     furnished by: pki, manifests, images
//!      └─▶ stand-ins: kubelet; apiserver, election (controller manager and scheduler), each with control's fault switch
//! ```

pub mod any_server;
pub mod apiserver;
pub mod control;
/// CRI v1, as the agent speaks it (src/cri).
#[allow(missing_docs, clippy::all, reason = "generated; v1.proto has the descriptions")]
#[path = "../../../src/cri/v1.rs"]
#[rustfmt::skip]
pub mod cri;
pub mod election;
pub mod flags;
pub mod images;
pub mod kubelet;
pub mod manifests;
pub mod node;
pub mod pki;
