//! What the agent hands to the snapshot task, once per pass.

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
