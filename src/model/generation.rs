//! A generation: one version of a component, and the evidence about it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::DataIdentity;
use super::{ClosureFile, Digest};

/// Everything remembered of one version of a component. The bytes themselves are in the generation store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// 1, 2, 3 … per component; never reused.
    pub number: u32,
    /// Of the decoded pod and its closure: the same content is the same generation.
    pub digest: Digest,
    /// Of the decoded pod alone: tells a changed manifest from a changed closure.
    pub pod_digest: Digest,
    /// Of the manifest's bytes, as they are in the store and in inactive-manifests.
    pub raw_digest: Digest,
    /// How long it may take to come up, by its startup probe.
    pub startup_budget: Duration,
    /// How long it may take to end.
    pub termination_grace: Duration,
    /// The file name it had in the manifest directory. The path is part of the pod's UID, so it comes back under it.
    pub file_name: String,
    /// The files it brought, as they were.
    pub closure: Vec<ClosureFile>,
    /// The images it needs.
    pub images: BTreeSet<String>,
    /// The host's ports it listens on: a foreign process on one of them is not this generation's fault.
    pub ports: BTreeSet<u16>,
    /// Which data it serves, where it serves any (Q1).
    pub data: Option<DataIdentity>,
    /// The minor version its image names (Q9).
    pub minor: Option<(u32, u32)>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it first answered as it should, if it ever did.
    pub served: Option<Timestamp>,
    /// How often it was put back by somebody after it had been reverted (Q12).
    pub rewritten: u32,
    /// What is held of it.
    pub trust: Trust,
    /// Whether its bytes are in the store, or still on their way there.
    pub stored: Stored,
}

/// Whether a generation's bytes are safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stored {
    /// Still to be written.
    Pending,
    /// On disk, synced.
    Yes,
}

/// What is held of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "trust")]
pub enum Trust {
    /// Seen, not proven. It replaces nothing.
    Candidate,
    /// Proven by evidence or asserted by the operator.
    KnownGood {
        /// What proved it.
        proof: Proof,
        since: Timestamp,
    },
    /// Failed by its own fault: reverted at once if it appears again.
    Quarantined { why: String, since: Timestamp },
}

impl Trust {
    /// Whether this generation may replace another.
    pub fn is_known_good(&self) -> bool {
        matches!(self, Self::KnownGood { .. })
    }

    /// The word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::KnownGood { .. } => "known-good",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

/// What proved a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Proof {
    /// A process that read all of it was healthy for the whole soak.
    Soak {
        /// Seconds of watched health.
        seconds: u64,
        /// What was seen: the pod's UID, its container, the probes that answered.
        evidence: String,
    },
    /// The operator said so.
    Asserted {
        /// Their reason, where they gave one.
        reason: String,
    },
}
