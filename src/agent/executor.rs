//! What carries the steps of a pass out: the hands of this node, or in tests a node of values.

use std::pin::Pin;

use crate::act::{Outcome, StepExecutor};
use crate::model::{Memory, Observation, Step};
use crate::record::Guard;

/// One step in, its outcome out.
pub(super) trait Executor {
    /// Takes one step: see [`StepExecutor::take`].
    fn take<'a>(
        &'a mut self,
        guard: &'a Guard,
        step: &'a Step,
        memory: &'a Memory,
        seen: &'a Observation,
    ) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;
}

impl Executor for StepExecutor {
    fn take<'a>(
        &'a mut self,
        guard: &'a Guard,
        step: &'a Step,
        memory: &'a Memory,
        seen: &'a Observation,
    ) -> Pin<Box<dyn Future<Output = Outcome> + 'a>> {
        Box::pin(StepExecutor::take(self, guard, step, memory, seen))
    }
}
