//! The input of the snapshot task, made at the end of each pass.

use std::time::Duration;

use crate::decide;
use crate::feature::PassEnd;
use crate::model::observation::BusyKind;
use crate::model::{ComponentState, Role};
use crate::observe::LocalMember;

/// What a pass knows and the keeper wants to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskInput {
    /// The etcd member of this node, if it has one.
    pub member: Option<LocalMember>,
    /// Whether it answers.
    pub answers: bool,
    /// Work that is about to be done on this node, such as an upgrade: one is taken before it, out of turn.
    pub work_ahead: Option<String>,
}

impl TaskInput {
    /// What a pass found, and when the member's last answer from the data on record came, on the boot clock.
    pub(super) fn of(pass: PassEnd<'_>) -> (Self, Option<Duration>) {
        let PassEnd { seen, memory, member, .. } = pass;
        let status = member.and_then(|member| seen.etcd.get(&member.component));
        let kubeadm = seen.node.busy.iter().find(|process| process.kind == BusyKind::Kubeadm);
        let etcd = memory.components.values().find(|record| record.role == Role::Etcd).map(|record| &record.state);
        let work_ahead = match (&memory.pause, kubeadm, etcd) {
            (_, Some(process), _) => Some(format!("kubeadm is at work (pid {})", process.pid)),
            (Some(_), None, _) => Some("an operator is about to work on this node (paused)".to_owned()),
            // The change may convert the data to a form that no older etcd opens.
            (None, None, Some(slot @ (ComponentState::Probation(_) | ComponentState::Replacing(_)))) => {
                Some(format!("etcd is {slot}"))
            }
            (None, None, _) => None,
        };
        let answered = status.filter(|status| status.own.is_ok()).map(|status| status.at);
        // A snapshot of other data than the data on record does not count.
        let answered = answered.filter(|_| member.is_some_and(|m| decide::serves_the_record(memory, &m.component)));
        (Self { member: member.cloned(), answers: answered.is_some(), work_ahead }, answered)
    }
}
