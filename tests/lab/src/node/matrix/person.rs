//! The person that the agent is compared with: at the first crash they put back the manifest that served before, with one
//! rename. Nobody is faster who has to be called, to log in and to find the cause.

use anyhow::{Context as _, Result};

use super::faults::{Breakage, Fault};
use super::ground::Moment;
use crate::manifests::Component;
use crate::node::containers::Life;
use crate::node::{Node, Writing};

#[derive(Debug)]
pub(super) struct Person {
    component: Component,
    /// The manifest from before.
    good: String,
    has_acted: bool,
}

/// Whether the manifest from before is what helps.
pub(super) fn can_help(fault: &Fault) -> bool {
    matches!(fault.breakage, Breakage::Flag(_) | Breakage::Boot(_))
}

impl Person {
    /// With a copy of what serves now.
    pub(super) fn beside(node: &Node, fault: &Fault) -> Result<Self> {
        let component = fault.subject.context("this fault is of no component")?;
        Ok(Self { component, good: node.manifest_text(&component.file())?, has_acted: false })
    }

    /// Acts once a container that was made after the fault has failed.
    pub(super) async fn look(&mut self, node: &Node, fault: Moment) {
        let since = i64::try_from(fault.at.as_nanosecond()).unwrap_or_default();
        if self.has_acted {
            return;
        }
        let containers = node.containers(self.component).await.unwrap_or_default();
        let failed = |life: Life| matches!(life, Life::Exited { code } if code != 0);
        if containers.iter().any(|container| container.created_at > since && failed(container.state)) {
            self.has_acted = node.write_manifest(&self.component.file(), &self.good, Writing::Atomic).is_ok();
        }
    }
}
