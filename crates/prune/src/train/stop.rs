//! Asks a run to end at the next step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A request to end, shared between whoever asks and the run that obeys. Clones are the same request.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicU64>);

impl Stop {
    /// Ends a run only when [`Stop::request`] is called.
    pub fn never() -> Self {
        Stop::after(u64::MAX)
    }

    /// Ends a run after this many more optimiser steps, counted over all phases.
    pub fn after(steps: u64) -> Self {
        Stop(Arc::new(AtomicU64::new(steps)))
    }

    /// Ends the run before its next step. May be called from a signal handler's thread.
    pub fn request(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Whether the run should end now; otherwise counts one step.
    pub(crate) fn tick(&self) -> bool {
        let count = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_counts_down_and_obeys_requests_of_its_clones() {
        let stop = Stop::after(2);
        assert_eq!([stop.tick(), stop.tick(), stop.tick()], [false, false, true]);
        let stop = Stop::never();
        assert!(!stop.tick());
        stop.clone().request();
        assert!(stop.tick());
    }
}
