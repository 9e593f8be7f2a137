//! Blocking work with a deadline: a stalled disk must not stall a pass.
//!
//! The work runs on tokio's blocking pool and keeps its state behind a lock. If it misses the deadline it continues in
//! the background; until it returns, the next call is refused immediately, so that no threads pile up behind a dead
//! disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// State that is only touched on the blocking pool.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    state: Arc<Mutex<T>>,
    what: &'static str,
}

impl<T: Send + 'static> Bounded<T> {
    /// `what` is how a sentence calls the work: "reading /proc".
    pub(crate) fn new(what: &'static str, state: T) -> Self {
        Self { state: Arc::new(Mutex::new(state)), what }
    }

    /// Does the work within the deadline, or says why not.
    pub(crate) async fn run<R, F>(&self, deadline: Duration, work: F) -> Result<R, String>
    where
        R: Send + 'static,
        F: FnOnce(&mut T) -> R + Send + 'static,
    {
        let state = Arc::clone(&self.state);
        if let Err(std::sync::TryLockError::WouldBlock) = state.try_lock() {
            return Err(format!("{} still blocks an earlier read", self.what));
        }
        // A look that panicked leaves caches behind, and those are checked against the files at every look.
        let task = tokio::task::spawn_blocking(move || work(&mut state.lock().unwrap_or_else(PoisonError::into_inner)));
        match tokio::time::timeout(deadline, task).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(format!("{} failed: {error}", self.what)),
            Err(_) => Err(format!("{} took longer than {} s", self.what, deadline.as_secs_f32())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_that_hangs_costs_its_deadline_once_and_nothing_after() {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let bounded = Bounded::new("the work", 7);
        let hung = bounded.run(Duration::from_millis(20), move |_| hold.recv()).await;
        assert!(hung.unwrap_err().contains("took longer"));
        let refused = bounded.run(Duration::from_secs(60), |n| *n).await;
        assert!(refused.unwrap_err().contains("still blocks an earlier read"));
        release.send(()).unwrap();
        for _ in 0..1000 {
            if bounded.run(Duration::from_secs(60), |n| *n).await == Ok(7) {
                return;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never came back");
    }
}
