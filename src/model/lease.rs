//! Leases: the outside evidence that a component makes progress. A holder that does not renew its lease is stalled,
//! whatever its health check reports.

use std::time::Duration;

use super::Symptom;

/// One look at a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseLook {
    /// What the API server said.
    pub said: Result<Lease, Symptom>,
    /// When it was said, on the boot clock: each answer is one sample, however often it is looked at.
    pub at: Duration,
}

/// How long a node's lease lasts where nobody says otherwise: the kubelet's own default (`nodeLeaseDurationSeconds`).
pub const NODE_LEASE: Duration = Duration::from_secs(40);

/// A lease (`coordination.k8s.io/v1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// `spec.holderIdentity`; nobody's when absent. Controller manager and scheduler put `HOST_UUID` there, a kubelet its
    /// node's name.
    pub holder: Option<String>,
    /// `spec.leaseDurationSeconds`: nobody else takes it before it has been stalled for as long, the holder's own
    /// successor no less than another host. Controller manager and scheduler write 15 s.
    pub lasts: Option<Duration>,
    /// `spec.renewTime`, as it was written: only whether it changes counts, since it is by the holder's clock.
    pub renewed: Option<String>,
}

impl Lease {
    /// When whoever waits for it must have taken it, if nobody renews it: a candidate that began to wait looks again every
    /// `--leader-elect-retry-period`, 2 s with up to as much of jitter where a lease lasts 15 s (client-go).
    pub fn is_taken_within(&self) -> Duration {
        let lasts = self.lasts.unwrap_or_default();
        lasts + lasts / 3
    }

    /// Whether an instance on this host holds it.
    pub fn is_held_by(&self, host: &str) -> bool {
        let holder = self.holder.as_deref().unwrap_or_default();
        holder == host || holder.strip_prefix(host).is_some_and(|rest| rest.starts_with('_'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_of_this_host_by_its_whole_name() {
        let of = |holder: &str| Lease { holder: Some(holder.to_owned()), ..Lease::default() };
        assert!(of("master-1_0c3f").is_held_by("master-1"));
        assert!(of("master-1").is_held_by("master-1"), "a kubelet");
        assert!(!of("master-10_0c3f").is_held_by("master-1"));
        assert!(!Lease::default().is_held_by("master-1"));
    }
}
